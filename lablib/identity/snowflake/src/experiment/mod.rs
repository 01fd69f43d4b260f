//! What the notebook does with ids: the prototypes' duplicates, how many fit into a millisecond, what one costs, clocks
//! that step, leases whose holders sleep or die, order among skewed clocks, and a blog on four databases.

#![allow(missing_docs, reason = "a field is documented where its name leaves something open")]

mod blog;
mod clocks;
mod cost;
mod full;
mod leases;
mod order;
mod restarts;

pub use blog::{Blog, Page};
pub use clocks::{refusals, small_step};
pub use cost::{cost, ours_to_best};
pub use full::{Maker, Milliseconds, duplicates, real_clock, virtual_clock};
pub use leases::{killed, paused};
pub use order::{OrderSpec, inversions, predicted_inversions};
pub use restarts::{corrected, restarted};

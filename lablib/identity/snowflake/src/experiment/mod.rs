//! What the notebook does with ids: the prototypes' duplicates, how many fit into a millisecond, what one costs, clocks
//! that step, leases whose holders sleep or die, order among skewed clocks, and a blog on four databases.

mod blog;
mod clocks;
mod corrected;
mod cost;
mod dense;
mod duplicates;
mod leases;
mod order;
mod restarts;

pub use blog::{Blog, BlogSpec, Page, SharedIds, blog};
pub use clocks::{Refused, Stepped, refusals, refusals_table, small_step};
pub use corrected::{Corrected, corrected};
pub use cost::{cost, cost_chart, ours_to_best};
pub use dense::{Milliseconds, real_clock, virtual_clock};
pub use duplicates::{Counted, Maker, duplicates, duplicates_at};
pub use leases::{Killed, Paused, killed, paused};
pub use order::{Order, inversions, predicted_inversions};
pub use restarts::{Restarted, restarted};

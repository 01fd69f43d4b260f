//! What the notebook runs: crowds, open loads, rivals, bad manners and a server that is restarted.

#![allow(missing_docs, reason = "a field is documented where its name leaves something open")]

pub mod checkout;
mod closing;
mod contest;
mod crowd;
mod manners;
mod observer;
mod open;
mod restart;

pub use crate::rivals::Rival;
pub use closing::closing;
pub use contest::{ContestSpec, contest};
pub use crowd::{Alone, crowds, over_a_wire, without_pool};
pub use manners::manners;
pub use open::{OpenSpec, sweep, working};
pub use restart::{Outage, OutageSpec, outage};

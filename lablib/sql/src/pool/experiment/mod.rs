//! What the notebook runs: crowds, open loads, rivals, bad manners and a server that is restarted.

pub mod checkout;
mod closing;
mod contest;
mod crowd;
mod manners;
mod observer;
mod open;
mod restart;
mod rivals;

pub use closing::{Farewell, farewell};
pub use contest::{ContestSpec, contest};
pub use crowd::{Alone, Crowd, Unpooled, crowds, over_a_wire, without_pool};
pub use manners::{Aftermath, aftermath_table, faults_table, manners};
pub use open::{Offered, OpenSpec, Worked, sweep, working};
pub use restart::{Outage, OutageSpec, outage};
pub use rivals::Rival;

//! Tools of proof: write down what clients saw, then ask a machine whether any correct system could have shown them that.
//!
//! | Question | Record with | Check with |
//! |---|---|---|
//! | Does each operation take effect at one instant? | [`History`] | [`linearizable`] |
//! | Do the transactions equal some serial order? | [`Transactions`] | [`serializable`] |
//! | Did every acknowledged message arrive, once, in order? | [`Deliveries`] | [`delivery`] |
//!
//! What the checkers promise:
//!
//! * They judge what was recorded and nothing else: no checker looks into the system under test.
//! * A reported violation is a proof. Unknown outcomes (timeouts, crashes) count as "may have happened, at any later
//!   time, or never", so they never cause one by themselves.
//! * `Linearizable` comes with a witness order; a search that runs out of its budget says `Undecided` and claims nothing.
//! * Serialisability of list-append histories is decided exactly; register histories are judged only by the version
//!   orders that reads prove, so an anomaly there may stay unseen but is never made up.
//! * Every violation is one readable sentence that names the operations or transactions involved.

mod anomaly;
mod clock;
mod cycle;
pub mod delivery;
mod dependency;
mod evidence;
pub mod linearizable;
mod lists;
pub mod lives;
pub mod locks;
pub mod models;
mod operation;
pub mod queue;
mod recorder;
mod registers;
mod search;
pub mod serializable;
mod transaction;
mod transactions;

pub use delivery::Deliveries;
pub use operation::{Operation, Outcome};
pub use recorder::{Call, History, Row};
pub use transaction::{Access, Transaction, TransactionOutcome};
pub use transactions::{TransactionCall, Transactions};

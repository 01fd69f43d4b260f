//! Key width: how wide is the primary key, does it come in order, and what does each of the two cost?
//!
//! A table without surprises ([`Rows`]) is loaded under keys of every width and order ([`Arm`], [`Keys`]), each on a server
//! of its own, and the server's own counters say what that took. A simulator of InnoDB's pages ([`PageTree`]) says
//! beforehand what they should say.
//!
//! - **One thing at a time**: arms differ in the key alone; rows, their order, batches and commits are the same, and at the
//!   end every arm's rows are counted and their checksums added up, keys included, through both of its indexes.
//! - **No collisions**: a random order is a permutation ([`Permutation`]), so no row is refused and none is drawn twice.
//! - **Nothing lost in a split**: the simulated tree holds every key once and in order, on pages that are never overfull.
//! - **As InnoDB does it**: it splits the pages that InnoDB splits, where InnoDB splits them; what it says of pages and
//!   splits comes out on a real server, page for page but for one now and then.
//! - **Ranks are the order**: text, numbers and raw bytes of a key compare as its [rank](Keys::rank) does.
//! - **What was not measured is an error**: a server that is lost in the middle, a key that does not exist in a width, rows
//!   that fit on no page.

mod decomposition;
pub mod experiment;
mod key;
mod page;
mod permutation;
mod picture;
mod pool;
pub mod prototype;
mod rows;
mod simulated;
mod tree;

use std::time::Duration;

/// When loads that run at once are given up; each has a shorter limit of its own.
pub(crate) const LONGEST_LOAD: Duration = Duration::from_secs(3_600);

pub use decomposition::Decomposition;
pub use key::{Arm, KeyWidth, Keys, MADE_PER_MILLISECOND, Order};
pub use page::{Layout, PAGE, RESERVE, ROOM};
pub use permutation::Permutation;
use permutation::mix;
pub use picture::leaves;
pub use pool::misses;
pub use rows::{Fingerprint, Rows};
pub use simulated::{Index, Simulated};
pub use tree::{PageTree, Split};

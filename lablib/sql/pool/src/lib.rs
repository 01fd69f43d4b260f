//! A pool of connections: how many there may be, who gets the next one, and what a borrower may leave behind.
//!
//! A [`Pool`] is generic over a [`Manager`]; [`MySql`] is the one for MySQL and MariaDB. Its core, [`permits`], is model-checked:
//! the crate `lablib-models` runs the same file through every interleaving.
//!
//! - **Bounded**: at no moment are more connections in use, idle or being dialled than the pool's size.
//! - **First come, first served**: a connection that comes back goes to whoever waits longest. Nobody slips in between.
//! - **Nothing leaks**: a borrower that panics, or whose future is dropped, at whatever point, gives back what it had.
//! - **Clean**: nobody is handed a connection on which somebody else's transaction or half-read answer is open.
//! - **Honest about a server that is gone**: who finds it gone is told so; from then on one borrower at a time tries it again,
//!   after a pause, and everybody else who comes is told at once. Nobody waits longer than the acquire timeout. A connection is
//!   lent unchecked only if the pool itself has heard from its server a moment ago, and found nothing broken since.
//! - **Closes gracefully**: a closed pool refuses new borrowers at once, and waits for the old ones up to a deadline.

mod builder;
mod error;
pub mod experiment;
mod lent;
mod manager;
mod mysql;
pub mod permits;
mod pool;
mod rivals;

pub use builder::Builder;
pub use error::{PoolError, Stage};
use lab::Drawing;
pub use lent::Borrowed;
pub use manager::{Condition, Manager};
pub use mysql::{MySql, MySqlConn};
pub use permits::Skip;
pub use pool::{Closing, Pool, Pooled, Stats};

/// Borrowers in a queue, a pool of four connections of which one is being cleaned, and the server.
pub fn picture() -> Drawing {
    let plain = "A queue of five borrowers, the 5th to the 9th; four permits, three of which are lent to the 1st to the 3rd, \
                 while the connection of the 4th is being cleaned; four connections to the server.\n";
    Drawing::committed("A pool of four connections", include_str!("picture.svg"), plain)
}

//! A key-value store on a SQL table: get, put, delete, expiry, compare-and-set, many keys at once, ranges, over several shards.
//!
//! A store that one reaches for before a second kind of server is worth its while: the database is there, it is backed up,
//! and it has never lost what it acknowledged. What it takes is a table with the right key and statements that do not look
//! first and write afterwards.
//!
//! - **Linearizable, key by key,** expiry included. Each operation takes effect at one instant between its call and its answer. What
//!   changes something is one statement; a read that meets an expired row looks again, after whoever is prolonging its life.
//!   Not across keys: many keys at once are no snapshot.
//! - **Nothing acknowledged is lost**, with the server's own durability. What was under way when a connection broke is told
//!   apart from what was refused: [`Failure::may_have_happened`]. Whoever waits for somebody's lock is refused by the server
//!   before its patience ends, from a patience of two seconds on.
//! - **Expired is absent**, whoever asks and whether or not the [`Sweeper`] has been there. The clock is the server's: those of
//!   the clients decide nothing. A value lives from a moment between its write's call and its answer, after any wait for a row
//!   that was there. A server whose clock is set back makes what had expired live again for that long.
//! - **Compare-and-set sees every change**, a deletion followed by the same value included: a version is 64 random bits, and
//!   that a write draws the very one that somebody expects happens once in 2⁶⁴ writes.
//! - **Keys are bytes**, all of them significant, in bytewise order; a key belongs to the same shard in every process and on
//!   every machine. Each shard knows its place, so whoever names the shards otherwise is refused.
//! - **The sweeper waits for nobody's rows**: it takes expired ones that nobody holds, a few in a transaction. (Where somebody
//!   holds the index on the time, or the server cannot skip what is locked, it gives up after a second.) No error ends it, and
//!   its owner hears of each at once.
//! - **The server's defaults decide nothing**: isolation, autocommit, SQL mode and time zone are the session's own, and a
//!   server whose clock stands still while a statement waits is refused.

mod entry;
pub mod experiment;
mod failure;
mod prototype;
mod rivals;
mod route;
mod shard;
mod statements;
mod store;
mod sweeper;

pub use entry::{Entry, Expected, LONGEST_KEY, LONGEST_VALUE, Version};
pub use failure::{Answer, Failure};
use lab::Drawing;
pub use prototype::{FirstPrototype, SaltedRoute, range_route};
pub use route::shard_of;
pub use store::{Skip, Store};
pub use sweeper::{Sweeper, Swept};

/// Keys on their way to shards, and what lies there.
pub fn picture() -> Drawing {
    let plain = "key → XXH3, jump → shard; in each shard a table: k (primary key), v, version, expires_at\n";
    Drawing::committed(
        "From a key to its row: the hash says which shard, the primary key says where",
        include_str!("picture.svg"),
        plain,
    )
}

//! A key-value store on a SQL table: get, put, delete, expiry, compare-and-set, many keys at once, ranges, over several shards.
//!
//! A store that one reaches for before a second kind of server is worth its while: the database is there, it is backed up,
//! and it has never lost what it acknowledged. What it takes is a table with the right key and statements that do not look
//! first and write afterwards.
//!
//! - **Linearizable, key by key.** Each operation is one statement (two at most), and takes effect at one instant between its
//!   call and its answer. Not across keys: many keys at once are no snapshot.
//! - **Nothing acknowledged is lost**, with the server's own durability. What was under way when a connection broke is told
//!   apart from what was refused: [`Failure::may_have_happened`].
//! - **Expired is absent**, whoever asks and whether or not the [`Sweeper`] has been there. The clock is the server's: those of
//!   the clients decide nothing. A server whose clock is set back makes what had expired live again for that long.
//! - **Compare-and-set sees every change**, a deletion followed by the same value included: versions are drawn at random for
//!   each write and never come back.
//! - **Keys are bytes**, all of them significant, in bytewise order; a key belongs to the same shard in every process and on
//!   every machine.
//! - **The sweeper waits for nobody**: it takes expired rows that nobody holds, a few in a transaction.

mod entry;
pub mod experiment;
mod failure;
mod picture;
mod prototypes;
mod route;
mod shard;
mod statements;
mod store;
mod sweeper;

pub use entry::{Entry, Expected, LONGEST_KEY, LONGEST_VALUE, Version};
pub use failure::{Answer, Failure};
pub use picture::picture;
pub use prototypes::{FirstPrototype, SaltedRoute, range_route};
pub use route::shard_of;
pub use store::{Skip, Store};
pub use sweeper::Sweeper;

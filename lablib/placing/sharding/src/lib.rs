//! Sharding: users over several SQL servers, and moving them while they are read and written.
//!
//! A user hashes to one of a fixed number of logical slots ([`slot_of`]); a durable directory says which instance owns a
//! slot; each instance keeps a *fence*, its own row about every slot, which is looked at inside each transaction. What
//! moves is a slot: [`Mover`].
//!
//! - **One owner**: the directory names exactly one instance for a slot, and at no moment do two instances serve it. Each
//!   hand-over raises the slot's epoch, so that clients can prove it from what they saw ([`at_odds`]).
//! - **Fenced**: an instance that does not serve a slot refuses reads and writes of it, in the transaction that would have
//!   done them. A client with an old map is refused, learns the new owner, and tries again; it never waits for ever.
//! - **Invisible copies**: rows that are on their way are neither read nor listed nor counted before the hand-over.
//! - **Nothing lost, nothing doubled**: whatever was acknowledged before, during or after a move is there once.
//! - **Resumable**: every step of a move is durable, can be repeated, and is fenced by a token: a mover that was killed
//!   is resumed by another, and one that was only believed dead can do no harm, nor hold anybody up for long.
//! - **Never silently partial**: a list over all shards accounts for every slot exactly once, or names those it lacks.

mod client;
mod cluster;
mod directory;
pub mod experiment;
mod fence;
mod gather;
mod mover;
pub mod prototype;
mod route;

use lab::Drawing;

pub use client::{Client, ClientStats, Served, at_odds};
pub use cluster::{Audit, Cluster, Instance, User};
pub use gather::{Cursor, Gathered, Gatherer, Missing, Page, Policy};
pub use mover::{Moved, Mover, MoverSpec, POINTS, mover_process};
pub use route::{Slot, SlotMap, Transfer, Weight, slot_of};

/// The way from a user to an instance, and who owns which slots before and after two instances became four.
pub fn picture() -> Drawing {
    let title = "1024 slots: 512 of them move, the others stay where they are";
    let plain = "User 4711 → hash mod 1024 = slot 783 → map → the instance, whose own fence has the last word.\n\
                 before: slots 0 to 511 belong to A, 512 to 1023 to B\n\
                 after: slots 0 to 255 belong to A, 256 to 511 to C, 512 to 767 to B, 768 to 1023 to D\n";
    Drawing::committed(title, include_str!("picture.svg"), plain)
}

/// A step of the system that can be left out, to see which check notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Skip {
    /// Clients believe their map and do not ask the instance's fence.
    Fence,
    /// The mover does not apply what changed while it copied.
    CatchUp,
    /// The mover catches up, but hands over without holding writers back for the last changes.
    Lock,
    /// The mover does not compare the copy with the original.
    Verify,
    /// Lists read every row that lies on an instance, copies included.
    Filter,
}

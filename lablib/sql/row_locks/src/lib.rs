//! Row locks and isolation levels: who waits for whom, who is the victim, and which anomaly gets through.
//!
//! A [`Schedule`] says which session does what, in one order. A [`Stage`] plays it on real connections, one for each
//! session, at a [`Setting`]; the [`Play`] is what happened, and the history checker of the lab judges it. A [`Client`] is
//! what an application makes of the lesson: a transaction that is tried again when the server asks for it.
//!
//! - A step waits when the server's own report says that its session waits for a lock; no sleep and no guess decides it.
//! - A step of a session that waits is sent when the session is free again, in the order of the schedule, so one schedule
//!   can be played at every level.
//! - Every version of a row is in the row, so the order of all writes is in the recorded history, and the checker decides
//!   it exactly.
//! - A play leaves nothing behind: no open transaction, no waiting session, no connection.
//! - A [`Client`] tries again after a deadlock (1213), a lock wait timeout (1205) or a changed snapshot (1020), from the
//!   transaction's beginning and after a random pause; any other error is the caller's, and the transaction is rolled back.

mod client;
pub mod experiment;
pub mod hermitage;
mod locks;
mod play;
mod prototype;
mod schedule;
mod setting;
mod stage;

pub use client::{Client, Retry, Tries};
use lab::Drawing;
pub use locks::{LockWait, Watcher};
pub use play::{Answer, Play, Played};
pub use schedule::{Schedule, Step};
pub use setting::{Level, Reads, Setting};
pub use stage::Stage;

/// A piece of an index with its gaps, and what four statements lock of it.
pub fn picture() -> Drawing {
    let plain = "SELECT … WHERE k = 20   (plain): nothing\n\
                 … WHERE k = 20 FOR UPDATE: row 20\n\
                 … WHERE k = 25 FOR UPDATE: the gap before 30\n\
                 … WHERE k BETWEEN 20 AND 30 FOR UPDATE: row 20, the gap before 30, row 30, the gap before 40, row 40\n";
    Drawing::committed("What a statement locks", include_str!("picture.svg"), plain)
}

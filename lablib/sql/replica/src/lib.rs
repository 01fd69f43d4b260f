//! Read replicas: what a replica lags behind, what a reader notices of it, and what a failover loses.
//!
//! A [`Cluster`] is a primary and its replicas, each behind a wire of its own. A [`Router`] watches how far every
//! replica is behind and opens [`Session`]s, which write to the primary and read where they may.
//!
//! - **A session keeps its promise**: it sees what it wrote, and never less than it saw ([`Consistency`]). The
//!   position of its last commit, or of what it last read, is what every later read has to show: a replica that does
//!   not reach it in time is passed over, and the primary is read. Where an answer was lost, the primary is asked how far it is
//!   first.
//! - **Reads go where they are fresh**: a replica gets the fewer reads the further it is behind, none beyond a limit,
//!   and none when it is silent; a read that a replica fails is asked again elsewhere.
//! - **A replica is a prefix of the primary**: whatever it shows is a state that the primary was in, in the primary's
//!   own order of commits ([`CommitLog::prefix`]).
//! - **A promotion gives up nothing that a replica which answers has**: the one that received the most takes over,
//!   after it has replayed all of it. With semi-synchronous replication before its timeout, that is everything that was
//!   acknowledged, if a replica that acknowledged it answers.
//! - **A server that parted is not taken back**: an old primary with transactions of its own is refused, by GTID, and nobody
//!   can write to it any more. A server that missed a promotion is no replica, and no candidate, until it was taken back.
//! - **Divergence is found**: rows that differ are found by checksums taken at the same place in the order of
//!   commits, while everybody writes; and can be put right, which changes no other row.
//!
//! A failover that loses transactions is not noticed by a session that holds their positions: numbers go on at the new
//! primary, and a promise counts from there.

mod checksum;
mod cluster;
pub mod experiment;
mod failover;
mod guarantee;
mod position;
mod prefix;
pub mod prototype;
mod router;
mod semi_sync;
mod session;

pub use checksum::{Chunk, Comparison, Difference, RowFault};
pub use cluster::Cluster;
pub use failover::{Candidate, Promotion};
pub use guarantee::{Broken, Did, check_session};
use lab::Drawing;
pub use position::{Gtid, Position};
pub use prefix::{CommitLog, Snapshot};
pub use router::{Router, RouterSpec};
pub use semi_sync::{SemiSync, SemiSyncStatus, WaitPoint};
pub use session::{Answer, Consistency, Session, SessionStats};

/// Sessions, router, primary and two replicas: who writes where, who reads where, and the wires that experiments bend.
pub fn picture() -> Drawing {
    let plain = "sessions -> router -> primary (writes, and reads that cannot wait)\n\
                 primary -> wire -> replica 1 (binary log); router -> replica 1 (reads)\n\
                 primary -> wire -> replica 2 (binary log); router -> replica 2 (reads)\n";
    let title = "A primary, 2 replicas, and a wire in front of each that can be bent";
    Drawing::committed(title, include_str!("picture.svg"), plain)
}

/// A step of the system that can be left out, to see which check notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// A session forgets the position of what it wrote.
    WriteToken,
    /// A session forgets the position of what it read.
    ReadToken,
    /// A read does not wait for its session's position, and takes what the replica shows.
    Wait,
    /// A promotion takes the replica that received the least.
    Choice,
    /// A promotion does not wait until what was received is replayed.
    Drain,
}

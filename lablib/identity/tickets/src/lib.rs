//! Tickets: numbers that somebody hands out, so that they are unique without anybody else taking care.
//!
//! One trait, [`Issuer`], and four systems behind it: a file that counts ([`CounterFile`], and [`IssuerProcess`] in front of
//! it), ranges from a table ([`RangeTable`]), ticket servers that share out the numbers among themselves ([`TicketService`]),
//! and ids that a database makes where the row is ([`ShardIds`]).
//!
//! - **Never twice**: no number is handed out twice, by any number of clients at once, also after `kill -9` of the issuer
//!   or of a server; by the counter file not after a power cut either, in a new folder or an old one.
//! - **A bounded gap**: a crash of the counter file loses at most one batch, and a number for each answer that was on its way;
//!   a caller that dies at most its range, and one that loses an answer one more; a ticket server at most a number for each
//!   answer that was lost and each conflict, and with REPLACE one more each time it is started again.
//! - **Reserved before handed out**: what is on disk is the *end* of what may be handed out. So the size of a batch or
//!   range may change between runs, and between callers, and nothing is issued again.
//! - **One owner**: a counter file that another process has open is refused, and so are a file with a second name, a ticket
//!   server with another share of the numbers, a number of another server's share, and a desk of another counter.
//! - **Nobody is kept**: whoever waits for a lock hears of it before he gives up, and nothing that a client has given up waits
//!   on in its server; a MariaDB ends a transaction that has stood still for five seconds. Deadlocks are tried again after a
//!   pause, and a ticket server that is silent or stays locked is done without.
//! - **Clear refusals**: a torn or foreign file, a batch of 0, a shard out of range, a server that does not come back are
//!   errors of one sentence, after which nothing is half done: whoever asks again gets a number that nobody else has.

mod counter_file;
mod desk;
pub mod experiment;
mod in_database;
mod ledger;
pub mod prototype;
mod range_table;
mod session;
mod ticket_client;
mod ticket_service;

pub use counter_file::CounterFile;
pub use desk::{DeskClient, IssuerProcess, issuer_process};
pub use in_database::{InstagramId, ShardIds, ShardIssuer};
use lab::Drawing;
pub use ledger::{Audit, Ledger, Numbering, take};
pub use range_table::{RangeIssuer, RangeMethod, RangeTable};
pub use ticket_client::TicketClient;
pub use ticket_service::{Statement, TicketService};

use lab::Result;

/// Somebody who hands out numbers, as one client sees it.
pub trait Issuer: Send {
    /// The next number: one that nobody else has got, or will get.
    fn next_id(&mut self) -> Result<u64>;

    /// What that took so far.
    fn stats(&self) -> IssuerStats {
        IssuerStats::default()
    }
}

impl<I: Issuer + ?Sized> Issuer for Box<I> {
    fn next_id(&mut self) -> Result<u64> {
        (**self).next_id()
    }

    fn stats(&self) -> IssuerStats {
        (**self).stats()
    }
}

/// What a client, or several together, went through for its numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IssuerStats {
    /// Deadlocks (1213) that the server resolved at this client's cost; each was tried again.
    pub deadlocks: u64,
    /// Other conflicts that were tried again: a lock that took too long (1205), a row that another had put in first (1062).
    pub conflicts: u64,
    /// Requests that were sent and never answered: each may have used up a number.
    pub lost_answers: u64,
    /// Attempts at a connection that came to nothing.
    pub refused: u64,
}

impl IssuerStats {
    /// How many numbers may be missing for it: an answer that was lost may have carried one, and a request that is tried
    /// again after a conflict may have been given one already.
    pub fn may_be_missing(self) -> u64 {
        self.lost_answers + self.deadlocks + self.conflicts
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            deadlocks: self.deadlocks + other.deadlocks,
            conflicts: self.conflicts + other.conflicts,
            lost_answers: self.lost_answers + other.lost_answers,
            refused: self.refused + other.refused,
        }
    }
}

/// A step of the system that can be left out, to see which check notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Skip {
    /// The counter file's new content is not synced before it takes the old one's name.
    FileSync,
    /// The counter file's folder is not synced after that.
    FolderSync,
    /// The folders above a new counter file are not synced before it is there.
    ParentSync,
    /// The counter file is overwritten where it lies.
    Rename,
    /// The counter file holds what was handed out so far, not the end of what may be.
    Reserve,
    /// A ticket server adds 1 to its number, whatever `auto_increment_increment` says.
    Increment,
    /// As `Increment`, and clients do not look whose share a number is of either.
    IncrementAndShare,
    /// A shard hands an id out although its millisecond has not come yet.
    Wait,
}

/// Where the number comes from in each of the four systems: what is durable, what a request does, and what a crash loses.
pub fn picture() -> Drawing {
    let plain = "1. a counter file: on disk \"next = 3001\"; a thousand numbers a save; issuer holds 2001 – 3000.\n\
                 2. ranges from a table: on disk \"orders | 501\"; one statement a range; callers hold 301 – 400, 401 – 500.\n\
                 3. ticket servers: on disk \"odd: 17 · even: 24\"; one statement a number; nobody holds any.\n\
                 4. ids in the database: on disk \"ms | shard | count\"; inside the INSERT itself; nobody holds any.\n";
    Drawing::committed("Four ways to a number, and what each keeps on disk", include_str!("picture.svg"), plain)
}

//! All issuers side by side: what a number costs, and what it is worth.

use super::{folder, hand_out};
use crate::{
    CounterFile, Issuer, IssuerProcess, Ledger, Numbering, RangeTable, ShardIds, Statement, TicketService, take,
};
use lab::service::{Counters, MariaDb};
use lab::{Crowd, Frame, Result, Trial};
use std::fmt;

/// A way to a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A file that counts, behind a process of its own.
    CounterFile,
    /// Ranges from a table.
    Ranges,
    /// Two ticket servers.
    Tickets(Statement),
    /// A database that makes its own.
    Shard,
}

impl Way {
    pub const ALL: [Self; 6] = [
        Self::CounterFile,
        Self::Ranges,
        Self::Tickets(Statement::OnDuplicateKey),
        Self::Tickets(Statement::Replace),
        Self::Tickets(Statement::DeleteInsert),
        Self::Shard,
    ];

    fn lost_by_a_crash(self) -> &'static str {
        match self {
            Self::CounterFile => "a batch",
            Self::Ranges => "a range of each caller",
            Self::Tickets(_) => "a number of each lost answer",
            Self::Shard => "none: nothing is reserved",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CounterFile => write!(f, "counter file"),
            Self::Ranges => write!(f, "ranges from a table"),
            Self::Tickets(statement) => write!(f, "tickets, {}", statement.name()),
            Self::Shard => write!(f, "ids in the database"),
        }
    }
}

/// Every issuer hands out `ids` numbers a round to one client, in batches and ranges of `batch`. Figures: `speed` in numbers a
/// second; the `statements` that the SQL servers answered for each number, and their `commits`, by their own counters.
///
/// And what the numbers are worth, a row for each `issuer`: how many came `twice` when several clients ask at once, each for so
/// many, and how many deadlocks were tried again; how many numbers are lower than one that was there before (`out of order`),
/// when the clients ask in turn; and what `a crash loses` at most.
pub fn compared(
    servers: &[MariaDb],
    ids: u64,
    batch: u64,
    clients: usize,
    rounds: usize,
) -> Result<(Trial<Way>, Frame)> {
    let path = folder()?.join("counter");
    drop(CounterFile::create(&path, batch)?);
    let process = IssuerProcess::start(&path, batch)?;
    let (ranges, shard) = (RangeTable::create(&servers[0])?, ShardIds::create(&servers[0], 1)?);
    let pair: Vec<&MariaDb> = servers.iter().take(2).collect();
    let tickets = Statement::ALL.iter().map(|statement| TicketService::create(&pair, *statement));
    let tickets = tickets.collect::<Result<Vec<_>>>()?;
    let client = |way: Way| -> Result<Box<dyn Issuer>> {
        Ok(match way {
            Way::CounterFile => Box::new(process.client()),
            Way::Ranges => Box::new(ranges.issuer("orders", batch)?),
            Way::Tickets(statement) => Box::new(tickets[statement as usize].client()),
            Way::Shard => Box::new(shard.issuer()),
        })
    };
    // On connections that stay: one that comes or goes would be counted as well.
    let mut meters = pair.iter().map(|server| server.connect()).collect::<Result<Vec<_>>>()?;
    let mut counted = |name: &str| meters.iter_mut().map(|meter| Counters::one(meter, name)).sum::<Result<f64>>();
    // Whatever is done once, such as connecting, is done in the round that warms up.
    let cost = Trial::over(Way::ALL, rounds).open(|way| client(*way)).run(|_, client, figures| {
        let (questions, commits) = (counted("Questions")?, counted("Binlog_commits")?);
        let (million, _) = hand_out(client, ids)?;
        figures.push("speed", "1/s", 1e9 / million);
        let commits = counted("Binlog_commits")? - commits;
        // Three of them asked a server for its counters.
        let questions = counted("Questions")? - questions - 3.0 * pair.len() as f64;
        figures.push("statements", "per id", questions / ids as f64);
        figures.push("commits", "per id", commits / ids as f64);
        figures.work("numbers", ids);
        Ok(())
    })?;
    let worth = |way: Way| -> Result<Frame> {
        let crowd = || (0..clients).map(|_| client(way)).collect::<Result<Vec<_>>>();
        let at_once = Ledger::draw(crowd()?, ids)?.row(Numbering::Sparse, 0);
        // Several clients, one after the other in turn: so the order in which they ask is beyond doubt.
        let in_turn = Crowd::holding([crowd()?]).times(ids).run(|crowd, call| {
            let turn = call.number() as usize % crowd.len();
            take(&mut crowd[turn], call).map(drop)
        })?;
        let in_turn = Ledger { requests: in_turn.frame, ..Ledger::default() };
        let disorder = in_turn.audit(Numbering::Sparse).disorder;
        Ok(at_once
            .select(["twice", "deadlocks"])
            .text("issuer", [way])
            .numbers("out of order", "%", [100.0 * disorder as f64 / ids as f64])
            .text("a crash loses", [way.lost_by_a_crash()]))
    };
    Ok((cost, Way::ALL.into_iter().map(worth).collect::<Result<Frame>>()?))
}

//! All issuers side by side: what a number costs, and what it is worth.

use super::folder;
use crate::{
    CounterFile, Issuer, IssuerProcess, Ledger, Numbering, RangeTable, Receipt, ShardIds, Statement, TicketService,
};
use lab::chart::{Bars, Chart};
use mysql::Conn;

use lab::service::{Counters, MariaDb};
use lab::{Error, OrFail, Race, Raced, Result, Samples, Table};

/// What numbers of one issuer cost and are worth.
#[derive(Debug, Clone)]
pub struct Priced {
    /// The issuer.
    pub name: String,
    /// Statements that the SQL servers answered, for each number: from their own counters.
    pub round_trips: f64,
    /// Commits for each number, from the servers' own counters.
    pub commits: f64,
    /// Numbers that came twice, to several clients at once.
    pub duplicates: u64,
    /// Numbers that are lower than one that was there before, in per cent, when clients ask in turn.
    pub disorder: f64,
    /// What a crash loses at most.
    pub gap: &'static str,
    /// Deadlocks that were tried again.
    pub deadlocks: u64,
}

/// The whole comparison.
#[derive(Debug)]
pub struct Compared {
    /// Issuer by issuer.
    pub priced: Vec<Priced>,
    raced: Raced,
}

type Client = Box<dyn Issuer>;

impl Issuer for Client {
    fn next_id(&mut self) -> Result<u64> {
        (**self).next_id()
    }

    fn stats(&self) -> crate::IssuerStats {
        (**self).stats()
    }
}

/// A way to make clients of one issuer.
struct Arm<'a> {
    name: String,
    client: Box<dyn Fn() -> Result<Client> + 'a>,
    numbering: Numbering,
    gap: &'static str,
}

/// Prices every issuer: `ids` numbers each, in batches and ranges of `batch`, and to several clients at once.
pub fn compared(servers: &[MariaDb], ids: u64, batch: u64, clients: usize, rounds: usize) -> Compared {
    let run = || -> Result<Compared> {
        let path = folder()?.join("counter");
        drop(CounterFile::create(&path, batch)?);
        let issuer = IssuerProcess::start(&path, batch)?;
        let ranges = RangeTable::create(&servers[0])?;
        let pair: Vec<&MariaDb> = servers.iter().take(2).collect();
        let services = Statement::ALL.iter().map(|s| TicketService::create(&pair, *s)).collect::<Result<Vec<_>>>()?;
        let shard = ShardIds::create(&servers[0], 1)?;
        let mut arms = vec![
            Arm {
                name: format!("counter file, batches of {batch}"),
                client: Box::new(|| Ok(Box::new(issuer.client()))),
                numbering: Numbering::From(1),
                gap: "a batch",
            },
            Arm {
                name: format!("table, ranges of {batch}"),
                client: Box::new(|| Ok(Box::new(ranges.issuer("orders", batch)?))),
                numbering: Numbering::Sparse,
                gap: "a range of each caller",
            },
        ];
        for (statement, service) in Statement::ALL.iter().zip(&services) {
            arms.push(Arm {
                name: format!("tickets, {}", statement.name()),
                client: Box::new(|| Ok(Box::new(service.client()))),
                numbering: Numbering::Shared(2),
                gap: "a number of each lost answer",
            });
        }
        arms.push(Arm {
            name: "ids in the database".into(),
            client: Box::new(|| Ok(Box::new(shard.issuer()))),
            numbering: Numbering::Sparse,
            gap: "none: nothing is reserved",
        });
        let mut meter = Meter(pair.iter().map(|server| server.connect()).collect::<Result<_>>()?);
        let priced = arms.iter().map(|arm| price(arm, &mut meter, ids, clients)).collect::<Result<Vec<_>>>()?;
        let mut callers = arms.iter().map(|arm| (arm.client)()).collect::<Result<Vec<_>>>()?;
        let mut race = Race::of(rounds);
        for (arm, caller) in arms.iter().zip(&mut callers) {
            race = race.arm(&arm.name, move || (0..ids).filter(|_| caller.next_id().is_ok()).count() as u64);
        }
        Ok(Compared { priced, raced: race.try_run()? })
    };
    run().or_fail()
}

/// The servers' own counters, read on connections that stay: one that comes or goes would be counted as well.
struct Meter(Vec<Conn>);

impl Meter {
    /// What all servers have counted; asking adds one question for each.
    fn read(&mut self, name: &str) -> Result<f64> {
        self.0.iter_mut().map(|connection| Counters::one(connection, name)).sum()
    }
}

fn price(arm: &Arm<'_>, meter: &mut Meter, ids: u64, clients: usize) -> Result<Priced> {
    let mut client = (arm.client)()?;
    // Whatever is done once, such as connecting, is done before the counting.
    for _ in 0..ids {
        client.next_id()?;
    }
    let (questions, commits) = (meter.read("Questions")?, meter.read("Binlog_commits")?);
    for _ in 0..ids {
        client.next_id()?;
    }
    let commits = meter.read("Binlog_commits")? - commits;
    // Three of them were the meter's own.
    let questions = meter.read("Questions")? - questions - 3.0 * meter.0.len() as f64;
    let crowd = (0..clients).map(|_| (arm.client)()).collect::<Result<Vec<_>>>()?;
    let ledger = Ledger::draw(crowd, ids)?;
    let audit = ledger.audit(arm.numbering);
    let disorder = in_turn(arm, clients, ids)?.audit(arm.numbering).disorder;
    Ok(Priced {
        name: arm.name.clone(),
        round_trips: questions / ids as f64,
        commits: commits / ids as f64,
        duplicates: audit.duplicates,
        disorder: 100.0 * disorder as f64 / ids as f64,
        gap: arm.gap,
        deadlocks: ledger.stats.deadlocks,
    })
}

/// Several clients, one after the other in turn: so the order in which they ask is beyond doubt.
fn in_turn(arm: &Arm<'_>, clients: usize, ids: u64) -> Result<Ledger> {
    let mut crowd = (0..clients).map(|_| (arm.client)()).collect::<Result<Vec<_>>>()?;
    let mut receipts = Vec::new();
    for (turn, at) in (0..ids).zip(0..) {
        let id = crowd[turn as usize % clients].next_id()?;
        receipts.push(Receipt { id, asked: at, answered: at });
    }
    Ok(Ledger { clients: vec![receipts], ..Ledger::default() })
}

impl Compared {
    /// Numbers per second of an issuer, as a multiple of another's, round by round. Names by their beginnings.
    pub fn speed(&self, of: &str, against: &str) -> Samples {
        let full = |start: &str| {
            let found = self.priced.iter().find(|priced| priced.name.starts_with(start));
            found.map_or_else(|| start.to_string(), |priced| priced.name.clone())
        };
        self.raced.ratio(&full(against), &full(of))
    }

    /// An issuer by the beginning of its name.
    pub fn of(&self, start: &str) -> Priced {
        let found = self.priced.iter().find(|priced| priced.name.starts_with(start)).cloned();
        found.ok_or_else(|| Error::new("find an issuer", format!("there is none called {start:?}"))).or_fail()
    }

    /// Issuer by issuer.
    pub fn table(&self) -> Table {
        Table::new("What a number costs, and what it is worth")
            .text("issuer", self.priced.iter().map(|priced| priced.name.as_str()))
            .numbers("statements", "per id", self.priced.iter().map(|priced| priced.round_trips))
            .numbers("commits", "per id", self.priced.iter().map(|priced| priced.commits))
            .numbers("out of order", "%", self.priced.iter().map(|priced| priced.disorder))
            .counts("deadlocks", "", self.priced.iter().map(|priced| priced.deadlocks))
            .text("a crash loses at most", self.priced.iter().map(|priced| priced.gap))
    }

    /// Numbers per second, as multiples of REPLACE's.
    pub fn chart(&self, title: &str) -> Bars {
        let chart = Chart::bars(title).y("numbers per second, REPLACE = 1", "×").log().horizontal();
        self.priced.iter().fold(chart, |chart, priced| {
            chart.bar_with_spread(&priced.name, self.speed(&priced.name, "tickets, REPLACE"))
        })
    }
}

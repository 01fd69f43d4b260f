//! Ticket servers that are killed: one of two, in the middle of the run; and servers that do not keep what they promise.

use std::time::{Duration, Instant};

use crate::identity::tickets::seed::SequenceIssuer;
use crate::identity::tickets::{Audit, Issuer, IssuerStats, Ledger, Numbering, Statement, TicketService};
use crate::lab::chart::{Chart, Lines};
use crate::lab::service::MariaDb;
use crate::lab::{OrFail, Result, Table};

/// How often a server is killed to see what its sequence forgets: once in a while the log is flushed just in time.
const ATTEMPTS: u32 = 4;
/// How long a ticket server works before it is killed, and after it is back.
const WORK: Duration = Duration::from_millis(120);

/// What clients received while one of two ticket servers was dead for a while.
#[derive(Debug)]
pub struct Failover {
    /// One ledger for each statement.
    pub ledgers: Vec<(Statement, Ledger)>,
    /// When the server was killed, when it was started, and when it was there again: seconds from the start.
    pub times: [f64; 3],
    /// How many tickets came from the dead server after it was back, by statement.
    pub after: Vec<u64>,
    /// How many tickets came from the other one meanwhile, by statement.
    pub meanwhile: Vec<u64>,
}

/// Clients of three services on the same two servers, one service for each statement; the second server is killed, left dead
/// for a while, and started again. At its kill, DELETE + INSERT's table is as empty as it ever is.
pub fn failover(servers: &[MariaDb], clients: usize, stretch: Duration) -> Failover {
    let run = || -> Result<Failover> {
        let pair: Vec<&MariaDb> = servers.iter().take(2).collect();
        let services = Statement::ALL.iter().map(|s| TicketService::create(&pair, *s)).collect::<Result<Vec<_>>>()?;
        let callers = services.iter().flat_map(|service| (0..clients).map(|n| service.client().starting_at(n)));
        let started = Instant::now();
        let now = || started.elapsed().as_secs_f64();
        let (ledger, times) = Ledger::draw_during(callers.collect(), || {
            std::thread::sleep(stretch);
            let killed = now();
            pair[1].try_kill()?;
            std::thread::sleep(stretch);
            let asked = now();
            pair[1].try_restart()?;
            let back = now();
            std::thread::sleep(stretch);
            Ok([killed, asked, back])
        })?;
        let mut lists = ledger.clients.into_iter();
        let ledgers: Vec<(Statement, Ledger)> = Statement::ALL
            .into_iter()
            .map(|statement| {
                let clients = lists.by_ref().take(clients).collect();
                (statement, Ledger { clients, seconds: ledger.seconds, ..Ledger::default() })
            })
            .collect();
        let count = |ledger: &Ledger, share: u64, from: f64, to: f64| {
            let within = |at: u64| (from..to).contains(&(at as f64 / 1e9));
            ledger.receipts().filter(|receipt| receipt.id % 2 == share && within(receipt.asked)).count() as u64
        };
        let after = ledgers.iter().map(|(_, ledger)| count(ledger, 0, times[2], f64::MAX)).collect();
        let meanwhile = ledgers.iter().map(|(_, ledger)| count(ledger, 1, times[0], times[1])).collect();
        let mut failover = Failover { ledgers, times, after, meanwhile };
        if let Some((_, first)) = failover.ledgers.first_mut() {
            // What the clients went through is counted for all of them together.
            (first.stats, first.failed, first.last_error) = (ledger.stats, ledger.failed, ledger.last_error);
        }
        Ok(failover)
    };
    run().or_fail()
}

impl Failover {
    /// Each statement's tickets, judged.
    pub fn audits(&self) -> Vec<(Statement, Audit)> {
        self.ledgers.iter().map(|(statement, ledger)| (*statement, ledger.audit(Numbering::Shared(2)))).collect()
    }

    /// All clients' stats.
    pub fn stats(&self) -> IssuerStats {
        self.ledgers.iter().fold(Default::default(), |sum: IssuerStats, (_, l)| sum.plus(l.stats))
    }

    /// Requests that failed for their client.
    pub fn failed(&self) -> u64 {
        self.ledgers.iter().map(|(_, ledger)| ledger.failed).sum()
    }

    /// Numbers that nobody received, of all statements.
    pub fn missing(&self) -> u64 {
        self.audits().iter().map(|(_, audit)| audit.missing).sum()
    }

    /// The most that may be missing: a number for each answer that was lost, and one for each conflict.
    pub fn may_be_missing(&self) -> u64 {
        let stats = self.stats();
        stats.lost_answers + stats.deadlocks + stats.conflicts
    }

    /// Statement by statement.
    pub fn table(&self) -> Table {
        let audits = self.audits();
        Table::new("What the clients received")
            .text("statement", audits.iter().map(|(statement, _)| statement.name()))
            .counts("tickets", "", audits.iter().map(|(_, audit)| audit.received))
            .counts("while one server was dead", "", self.meanwhile.iter().copied())
            .counts("from it when it was back", "", self.after.iter().copied())
            .counts("twice", "", audits.iter().map(|(_, audit)| audit.duplicates))
            .counts("missing", "", audits.iter().map(|(_, audit)| audit.missing))
    }

    /// Tickets per second of each server.
    pub fn chart(&self, title: &str) -> Lines {
        let mut chart = Chart::lines(title).x("time", "s").y("tickets", "1/s").from_zero();
        for (share, name) in [(1, "server 1"), (0, "server 2")] {
            let mut of_server = Ledger { seconds: self.ledgers[0].1.seconds, ..Ledger::default() };
            let of_share = |ledger: &Ledger| ledger.receipts().filter(|receipt| receipt.id % 2 == share).collect();
            of_server.clients = self.ledgers.iter().map(|(_, ledger)| of_share(ledger)).collect();
            chart = chart.line(name, of_server.rate(0.1));
        }
        let [killed, asked, back] = self.times;
        chart.mark_x("kill -9", killed).mark_x("started", asked).mark_x("back", back)
    }
}

/// What a crowd of clients at one ticket server went through.
#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    /// How tickets were asked for.
    pub statement: Statement,
    /// What the clients went through.
    pub stats: IssuerStats,
    /// What they received.
    pub audit: Audit,
    /// Requests that failed for their client.
    pub failed: u64,
}

impl Crowd {
    /// Both together.
    fn plus(&self, other: Self) -> Self {
        let (one, two) = (self.audit, other.audit);
        let audit = Audit {
            received: one.received + two.received,
            duplicates: one.duplicates + two.duplicates,
            missing: one.missing + two.missing,
            disorder: one.disorder + two.disorder,
            highest: one.highest.max(two.highest),
        };
        let (stats, failed) = (self.stats.plus(other.stats), self.failed + other.failed);
        Self { statement: self.statement, stats, audit, failed }
    }
}

/// Many clients of one server at once, with each statement: they wait for each other, and some are turned away.
pub fn crowded(server: &MariaDb, clients: usize, each: u64) -> Vec<Crowd> {
    let crowd = |statement: Statement| -> Result<Crowd> {
        let service = TicketService::create(&[server], statement)?;
        let ledger = Ledger::draw((0..clients).map(|_| service.client()).collect(), each)?;
        let audit = ledger.audit(Numbering::From(1));
        Ok(Crowd { statement, stats: ledger.stats, audit, failed: ledger.failed })
    };
    let run = || -> Result<Vec<Crowd>> {
        let mut crowds = Vec::<Crowd>::new();
        // Whether two clients meet in the wrong moment is chance; so there are a few attempts at it.
        for _ in 0..5 {
            let more: Vec<Crowd> = Statement::ALL.into_iter().map(crowd).collect::<Result<_>>()?;
            crowds = if crowds.is_empty() { more } else { crowds.iter().zip(more).map(|(a, b)| a.plus(b)).collect() };
            if crowds.iter().any(|crowd| crowd.stats.deadlocks > 0) {
                break;
            }
        }
        Ok(crowds)
    };
    run().or_fail()
}

/// What a server lost of what it had acknowledged.
#[derive(Debug, Clone)]
pub struct Lost {
    /// Which server.
    pub name: String,
    /// Numbers that clients received.
    pub received: u64,
    /// How many of them came again.
    pub duplicates: u64,
}

/// A ticket server is killed in the middle of its work, twice: with every commit on disk before it is acknowledged,
/// and with settings that leave it to chance.
pub fn forgetful(server: &MariaDb) -> Vec<Lost> {
    let run = || -> Result<Vec<Lost>> {
        let lazy = MariaDb::with("innodb_flush_log_at_trx_commit", "0").with("sync_binlog", "0").start()?;
        let mut lost = Vec::new();
        for (name, server) in [("flushed at each commit", server), ("flushed once a second", &lazy)] {
            let service = TicketService::create(&[server], Statement::Replace)?;
            let audit = killed_twice(server, || Ok(service.client()))?;
            lost.push(Lost { name: name.into(), received: audit.received, duplicates: audit.duplicates });
        }
        Ok(lost)
    };
    run().or_fail()
}

fn killed_twice<I: Issuer>(server: &MariaDb, client: impl Fn() -> Result<I>) -> Result<Audit> {
    let mut ledger = Ledger::default();
    for _ in 0..2 {
        // What was set up is on disk, whatever the settings; what is at stake are the tickets of this run.
        server.try_execute("FLUSH ENGINE LOGS")?;
        let (part, ()) = Ledger::draw_during(vec![client()?], || {
            std::thread::sleep(WORK);
            server.try_kill()?;
            server.try_restart()?;
            std::thread::sleep(WORK);
            Ok(())
        })?;
        ledger.append(part);
    }
    Ok(ledger.audit(Numbering::From(1)))
}

/// A database's own sequence, with every commit on disk before it is acknowledged, and a server that is killed.
pub fn sequence_crash(server: &MariaDb) -> Lost {
    let run = || -> Result<Lost> {
        let mut sequence = SequenceIssuer::create(server)?;
        let mut ids = Vec::new();
        // A write of its own, so that the sequence itself is there after the kill.
        server.try_execute("CREATE TABLE IF NOT EXISTS after_sequence (id INT)")?;
        server.try_execute("INSERT INTO after_sequence VALUES (1)")?;
        for _ in 0..ATTEMPTS {
            // A thousand values are reserved at a time. The kill comes just behind a reservation, before the log is flushed
            // for other reasons, which happens once a second.
            loop {
                let id = sequence.next_id()?;
                ids.push(id);
                if id % 1_000 == 5 {
                    break;
                }
            }
            server.try_kill()?;
            server.try_restart()?;
        }
        // What would come next, had the last kill not come either.
        for _ in 0..5 {
            ids.push(sequence.next_id()?);
        }
        let received = ids.len() as u64;
        Ok(Lost { name: "NEXT VALUE FOR a sequence".into(), received, duplicates: super::repeated(ids) })
    };
    run().or_fail()
}

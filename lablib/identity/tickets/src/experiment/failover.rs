//! Ticket servers that are killed: one of two, in the middle of the run; and servers that do not keep what they promise.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use super::{STUCK, Watched, until};
use crate::seed::SequenceIssuer;
use crate::{Audit, Issuer, IssuerStats, Ledger, Numbering, Statement, TicketService};
use lab::chart::{Chart, Lines};
use lab::service::{Counters, MariaDb};
use lab::{Doing, Error, OrFail, Result, Table};

/// How often a server is killed, at most, to see what its sequence forgets: now and then the log is flushed just in time.
const ATTEMPTS: u32 = 12;
/// How many tickets a server hands out before it is killed, and after it is back.
const WORK: u64 = 60;
/// How many tickets of each statement there are before a server is killed, while it is dead, and from it when it is back.
const AT_LEAST: u64 = 8;

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
/// for a while, and started again. At its kill, DELETE + INSERT's table is as empty as it ever is. Each part lasts a
/// `stretch`, and until every statement has had a few tickets, or has got stuck.
pub fn failover(servers: &[MariaDb], clients: usize, stretch: Duration) -> Failover {
    let run = || -> Result<Failover> {
        let pair: Vec<&MariaDb> = servers.iter().take(2).collect();
        let services = Statement::ALL.iter().map(|s| TicketService::create(&pair, *s)).collect::<Result<Vec<_>>>()?;
        // By statement and by server: the second one's numbers are even.
        let seen = Statement::ALL.map(|_| [AtomicU64::new(0), AtomicU64::new(0)]);
        let callers = services.iter().zip(&seen).flat_map(|(service, seen)| {
            (0..clients).map(|n| Watched {
                client: service.client().starting_at(n),
                seen: |id: u64| {
                    seen[usize::from(id.is_multiple_of(2))].fetch_add(1, Ordering::Relaxed);
                },
            })
        });
        let fewest = |server: usize, before: &[u64; 3]| {
            let more = seen.iter().zip(before).map(|(seen, before)| seen[server].load(Ordering::Relaxed) - before);
            more.min().unwrap_or(0)
        };
        let so_far = |server: usize| std::array::from_fn(|n| seen[n][server].load(Ordering::Relaxed));
        // Whoever has asked before a part began may be answered in it.
        let enough = AT_LEAST + clients as u64;
        let part = |server: usize| {
            let before: [u64; 3] = so_far(server);
            std::thread::sleep(stretch);
            until(|| fewest(server, &before) >= enough)
        };
        let started = Instant::now();
        let now = || started.elapsed().as_secs_f64();
        let (ledger, times) = Ledger::draw_during(callers.collect(), || {
            part(1);
            let killed = now();
            pair[1].try_kill()?;
            part(0);
            let asked = now();
            pair[1].try_restart()?;
            let back = now();
            part(1);
            Ok([killed, asked, back])
        })?;
        let (mut lists, mut stats) = (ledger.clients.into_iter(), ledger.stats_each.into_iter());
        let ledgers: Vec<(Statement, Ledger)> = Statement::ALL
            .into_iter()
            .map(|statement| {
                let stats_each: Vec<IssuerStats> = stats.by_ref().take(clients).collect();
                let stats = stats_each.iter().fold(IssuerStats::default(), |sum, stats| sum.plus(*stats));
                let clients = lists.by_ref().take(clients).collect();
                (statement, Ledger { clients, stats, stats_each, seconds: ledger.seconds, ..Ledger::default() })
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
            // What failed is counted for all of them together.
            (first.failed, first.last_error) = (ledger.failed, ledger.last_error);
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

    /// Requests that failed for their client.
    pub fn failed(&self) -> u64 {
        self.ledgers.iter().map(|(_, ledger)| ledger.failed).sum()
    }

    /// The most that may be missing, by statement: a number for each answer that was lost and each conflict, and what the
    /// statement leaves out when its server is started again.
    pub fn may_be_missing(&self) -> Vec<u64> {
        let allowed = |(statement, ledger): &(Statement, Ledger)| {
            ledger.stats.may_be_missing() + statement.skipped_by_a_restart()
        };
        self.ledgers.iter().map(allowed).collect()
    }

    /// How many more are missing than may be.
    pub fn missing_beyond(&self) -> u64 {
        let audits = self.audits();
        audits.iter().zip(self.may_be_missing()).map(|((_, audit), may)| audit.missing.saturating_sub(may)).sum()
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
            .counts("may be missing", "", self.may_be_missing())
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

/// What many clients of one ticket server went through, by statement.
#[derive(Debug, Clone)]
pub struct Crowded {
    /// By statement.
    pub crowds: Vec<Crowd>,
    /// Deadlocks, as the server counted them.
    pub deadlocks_at_server: u64,
}

/// Many clients of one server at once, with each statement. They wait for each other, and whether two of them ever do so in a
/// circle is chance; so each crowd begins with one client that certainly becomes a deadlock's victim.
pub fn crowded(server: &MariaDb, clients: usize, each: u64) -> Crowded {
    let crowd = |statement: Statement| -> Result<Crowd> {
        let service = TicketService::create(&[server], statement)?;
        let mut ledger = victim(server, &service)?;
        ledger.append(Ledger::draw((0..clients).map(|_| service.client()).collect(), each)?);
        let audit = ledger.audit(Numbering::From(1));
        Ok(Crowd { statement, stats: ledger.stats, audit, failed: ledger.failed })
    };
    let run = || -> Result<Crowded> {
        let before = Counters::of_server(server)?;
        let crowds = Statement::ALL.into_iter().map(crowd).collect::<Result<_>>()?;
        let deadlocks = Counters::of_server(server)?.since(&before).get("Innodb_deadlocks")?;
        Ok(Crowded { crowds, deadlocks_at_server: deadlocks as u64 })
    };
    run().or_fail()
}

/// A client that takes tickets from a new service until it was a deadlock's victim, which a rival sees to. All three
/// statements find the row by its stub and lock it there first, then by its number; the rival has the number and asks for the
/// stub. The server ends whoever has changed less, and the rival has changed hundreds of rows.
fn victim(server: &MariaDb, service: &TicketService) -> Result<Ledger> {
    let doing = "provoke a deadlock";
    let (mut rival, mut observer) = (server.connect()?, server.connect()?);
    for statement in [
        format!("USE {}", service.databases()[0]),
        "CREATE TABLE changed (number INT PRIMARY KEY AUTO_INCREMENT, what INT)".into(),
        // So that the row is locked, and not what lies beside it: a new row that waits for its place has no lock that counts.
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED".into(),
    ] {
        rival.query_drop(statement).doing(doing)?;
    }
    let changes = format!("INSERT INTO changed (what) VALUES {}", ["(0)"; 400].join(", "));
    let (ledger, ()) = Ledger::draw_during(vec![service.client()], || {
        let mut count = |what: &str| Counters::one(&mut observer, what);
        let began = Instant::now();
        let deadlocks = count("Innodb_deadlocks")?;
        while count("Innodb_deadlocks")? == deadlocks {
            // A client that is not scheduled for a second hears of the wait's end instead, and meets the rival again.
            if began.elapsed() > STUCK {
                return Err(Error::new(doing, "the client never waits for the row while the rival has it"));
            }
            for statement in ["BEGIN", &changes, "SELECT id FROM tickets FORCE INDEX (PRIMARY) FOR UPDATE"] {
                rival.query_drop(statement).doing(doing)?;
            }
            while count("Innodb_row_lock_current_waits")? == 0.0 && began.elapsed() < STUCK {
                std::thread::sleep(Duration::from_millis(1));
            }
            rival.query_drop("SELECT stub FROM tickets FORCE INDEX (stub) FOR UPDATE").doing(doing)?;
            rival.query_drop("COMMIT").doing(doing)?;
        }
        Ok(())
    })?;
    Ok(ledger)
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
            let setting = server.ask("SELECT @@GLOBAL.innodb_flush_log_at_trx_commit")?;
            let flush = |when: &str| server.try_execute(&format!("SET GLOBAL innodb_flush_log_at_trx_commit = {when}"));
            // What is set up is on disk, whatever the settings; what is at stake are the tickets of this run.
            flush("1")?;
            let service = TicketService::create(&[server], Statement::Replace)?;
            flush(&setting)?;
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
        let received = AtomicU64::new(0);
        let seen = |_: u64| {
            received.fetch_add(1, Ordering::Relaxed);
        };
        let work = |so_far: u64| match until(|| received.load(Ordering::Relaxed) >= so_far + WORK) {
            true => Ok(()),
            false => Err(Error::new("kill a ticket server in the middle of its work", "it hands out no tickets")),
        };
        let (part, ()) = Ledger::draw_during(vec![Watched { client: client()?, seen }], || {
            work(0)?;
            server.try_kill()?;
            let so_far = received.load(Ordering::Relaxed);
            server.try_restart()?;
            work(so_far)
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
        let mut again = 0;
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
            for _ in 0..5 {
                ids.push(sequence.next_id()?);
            }
            again = super::repeated(ids.clone());
            if again > 0 {
                break;
            }
        }
        let received = ids.len() as u64;
        Ok(Lost { name: "NEXT VALUE FOR a sequence".into(), received, duplicates: again })
    };
    run().or_fail()
}

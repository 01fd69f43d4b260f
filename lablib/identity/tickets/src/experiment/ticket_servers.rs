//! Ticket servers at work: two of them, and a statement that adds 1; one that many clients press; one of two that is killed in the middle
//! of the run; and servers that do not keep what they promise.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use super::{STUCK, repeated, until};
use crate::prototype::SequenceIssuer;
use crate::{Issuer, Ledger, Numbering, Skip, Statement, TicketService, take};
use lab::service::{Counters, MariaDb};
use lab::{Crowd, Doing, Error, Frame, Result};

/// A client takes `each` tickets from every server, in turn, with a step left out. Each request also says which `server` was to
/// answer it, the how many of its tickets it is (`ticket`), and the `number` on it.
pub fn walked(servers: &[MariaDb], statement: Statement, each: u64, skip: Option<Skip>) -> Result<Ledger> {
    let mut service = TicketService::create(&servers.iter().collect::<Vec<_>>(), statement)?;
    if let Some(step) = skip {
        service = service.without(step);
        // One at a time from the row before the first ticket would be a walk through the numbers below it.
        for (server, database) in servers.iter().zip(service.databases()) {
            server.try_execute(&format!("DELETE FROM {database}.tickets"))?;
        }
    }
    let count = servers.len() as u64;
    let ran = Crowd::holding([service.client()]).times(each * count).enduring().run(|client, call| {
        call.tag("server", format!("server {}", call.number() % count + 1));
        call.note("ticket", "", (call.number() / count + 1) as f64);
        let id = take(client, call).inspect_err(|_| call.last())?;
        call.note("number", "", id as f64);
        Ok(())
    })?;
    Ok(Ledger::of(ran))
}

/// Many clients of one server at once, with each statement. They wait for each other, and whether two of them ever do so in a
/// circle is chance; so each crowd begins with one client that certainly becomes a deadlock's victim. A row for each `statement`,
/// as [`Ledger::row`] says it, and how many deadlocks the server has counted in all (`deadlocks at server`).
pub fn crowded(server: &MariaDb, clients: usize, each: u64) -> Result<Frame> {
    let crowd = |statement: Statement| -> Result<Frame> {
        let service = TicketService::create(&[server], statement)?;
        let first = victim(server, &service)?;
        let ledger = first.then(Ledger::draw((0..clients).map(|_| service.client()).collect(), each)?);
        Ok(ledger.row(Numbering::From(1), 0).text("statement", [statement.name()]))
    };
    let before = Counters::of_server(server)?;
    let crowds = Statement::ALL.into_iter().map(crowd).collect::<Result<Frame>>()?;
    let deadlocks = Counters::of_server(server)?.since(&before).get("Innodb_deadlocks")?;
    Ok(crowds.everywhere("deadlocks at server", "", deadlocks))
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
    let provoke = || {
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
    };
    let client = Crowd::holding([service.client()]).enduring().lasting(Duration::ZERO);
    let ((), ran) = client.during(provoke, |client, call| take(client, call).map(drop))?;
    Ok(Ledger::of(ran))
}

/// How many tickets of each statement there are before a server is killed, while it is dead, and from it when it is back.
const AT_LEAST: u64 = 8;

/// Three clients, each of a service with a statement of its own, on the same two servers; the second server is killed, left dead
/// for a while, and started again. At its kill, DELETE + INSERT's table is as empty as it ever is. Each part lasts a
/// `stretch`, and until every statement has had a few tickets or has got stuck.
///
/// - A row for each request, as a crowd leaves it: also the `statement`, the `server` that the ticket is from, and the `ticket`.
/// - When the server was killed (`kill -9`), and when it was started (`back`).
/// - A row for each `statement`, as [`Ledger::row`] says it; also how many tickets there were from the other server `while dead`, and
///   how many from the dead one `when back`.
pub fn failover(servers: &[MariaDb], stretch: Duration) -> Result<(Frame, Frame, Frame)> {
    let pair: Vec<&MariaDb> = servers.iter().take(2).collect();
    let mut crowd = Vec::new();
    for statement in Statement::ALL {
        crowd.push((statement, TicketService::create(&pair, statement)?.client()));
    }
    // Tickets of each statement from each server: the second one's numbers are even.
    let seen = Statement::ALL.map(|_| [AtomicU64::new(0), AtomicU64::new(0)]);
    // Whoever has asked before this may be answered in it.
    let served_by = |server: usize| {
        let so_far = || seen.each_ref().map(|of| of[server].load(Ordering::Relaxed));
        let enough = so_far().map(|count| count + AT_LEAST + 1);
        // Who gets none is for the row to say, and for whoever judges it.
        let _ = until(|| so_far().iter().zip(enough).all(|(count, enough)| *count >= enough));
        Ok(())
    };
    let ran = Crowd::holding(crowd)
        .enduring()
        .lasting(Duration::ZERO)
        .meanwhile(stretch, "", || served_by(1))
        .meanwhile(Duration::ZERO, "kill -9", || pair[1].try_kill())
        .meanwhile(stretch, "", || served_by(0))
        .meanwhile(Duration::ZERO, "back", || pair[1].try_restart())
        .meanwhile(stretch, "", || served_by(1))
        .run(|(statement, client), call| {
            call.tag("statement", statement.name());
            let id = take(client, call)?;
            let server = usize::from(id.is_multiple_of(2));
            call.tag("server", format!("server {}", server + 1));
            call.note("ticket", "", id as f64);
            seen[*statement as usize][server].fetch_add(1, Ordering::Relaxed);
            Ok(())
        })?;
    let (killed, started, back) = (ran.event_began("kill -9"), ran.event_began("back"), ran.event_ended("back"));
    let found = Statement::ALL.map(|statement| {
        let requests = ran.frame.filter("statement", statement.name());
        let asked =
            |server: &str, from: f64, to: f64| requests.filter("server", server).within("at", from..to).height() as u64;
        let stats = ran.states[statement as usize].1.stats();
        Ledger { requests: requests.clone(), stats }
            .row(Numbering::Shared(2), statement.skipped_by_a_restart())
            .counts("while dead", "", [asked("server 1", killed, started)])
            .counts("when back", "", [asked("server 2", back, f64::INFINITY)])
            .text("statement", [statement.name()])
    });
    Ok((ran.frame, ran.events.except("event", ""), found.into_iter().collect()))
}

/// How many tickets a server hands out before it is killed, and after it is back.
const WORK: u64 = 60;

/// A ticket server is killed in the middle of its work, twice: with every commit on disk before it is acknowledged,
/// and with settings that leave it to chance. A row for each: what was asked (`of`), and [what clients received](Ledger::row).
pub fn forgetful(server: &MariaDb) -> Result<Frame> {
    let lazy = MariaDb::with("innodb_flush_log_at_trx_commit", "0").with("sync_binlog", "0").start()?;
    let killed_twice = |of: &str, server: &MariaDb| -> Result<Frame> {
        let setting = server.ask("SELECT @@GLOBAL.innodb_flush_log_at_trx_commit")?;
        let flush = |when: &str| server.try_execute(&format!("SET GLOBAL innodb_flush_log_at_trx_commit = {when}"));
        // What is set up is on disk, whatever the settings; what is at stake are the tickets of this run.
        flush("1")?;
        let service = TicketService::create(&[server], Statement::Replace)?;
        flush(&setting)?;
        let kill = || server.try_kill().and_then(|()| server.try_restart());
        let ran = Crowd::holding([service.client()])
            .lasting(Duration::ZERO)
            .once(WORK, "kill -9", kill)
            .once(2 * WORK, "kill -9 again", kill)
            .once(3 * WORK, "enough", || Ok(()))
            .run(|client, call| take(client, call).map(drop))?;
        Ok(Ledger::of(ran).row(Numbering::From(1), 0).text("of", [of]))
    };
    let flushed = killed_twice("REPLACE, log flushed at each commit", server)?;
    Ok(flushed.stack(&killed_twice("REPLACE, log flushed once a second", &lazy)?))
}

/// How often a server is killed, at most, to see what its sequence forgets: now and then the log is flushed just in time.
const ATTEMPTS: u32 = 12;

/// A database's own sequence, with every commit on disk before it is acknowledged, and a server that is killed: what was asked
/// (`of`), how many numbers were `received`, and how many came `twice`.
pub fn sequence_crash(server: &MariaDb) -> Result<Frame> {
    let mut sequence = SequenceIssuer::create(server)?;
    let mut ids = Vec::new();
    // A write of its own, so that the sequence itself is there after the kill.
    server.try_execute("CREATE TABLE IF NOT EXISTS after_sequence (id INT)")?;
    server.try_execute("INSERT INTO after_sequence VALUES (1)")?;
    let mut twice = 0;
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
        twice = repeated(&Frame::new().text("id", &ids), "id") as u64;
        if twice > 0 {
            break;
        }
    }
    let row = Frame::new().counts("received", "", [ids.len() as u64]).counts("twice", "", [twice]);
    Ok(row.text("of", ["a SEQUENCE, log flushed at each commit"]))
}

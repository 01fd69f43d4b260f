//! Ticket servers that are killed: one of two, in the middle of the run; and servers that do not keep what they promise.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{again, draw_during, until};
use crate::prototype::SequenceIssuer;
use crate::{Issuer, IssuerStats, Ledger, Numbering, Statement, TicketService, take};
use lab::service::MariaDb;
use lab::{Crowd, Frame, Result};

/// How often a server is killed, at most, to see what its sequence forgets: now and then the log is flushed just in time.
const ATTEMPTS: u32 = 12;
/// How many tickets a server hands out before it is killed, and after it is back.
const WORK: u64 = 60;
/// How many tickets of each statement there are before a server is killed, while it is dead, and from it when it is back.
const AT_LEAST: u64 = 8;

/// What clients received while one of two ticket servers was dead for a while.
#[derive(Debug, Clone)]
pub struct Failover {
    /// A row for each request, as a crowd leaves it: also the `statement`, the `server` that the ticket is from, and the `ticket`.
    pub tickets: Frame,
    /// When the server was killed (`kill -9`), and when it was started (`back`).
    pub events: Frame,
    /// A row for each `statement`, as [`Ledger::row`] says it; also how many tickets there were from the other server `while dead`, and
    /// how many from the dead one `when back`.
    pub found: Frame,
}

/// Clients of three services on the same two servers, one service for each statement; the second server is killed, left dead
/// for a while, and started again. At its kill, DELETE + INSERT's table is as empty as it ever is. Each part lasts a
/// `stretch`, and until every statement has had a few tickets, or has got stuck.
pub fn failover(servers: &[MariaDb], clients: usize, stretch: Duration) -> Result<Failover> {
    let pair: Vec<&MariaDb> = servers.iter().take(2).collect();
    let mut crowd = Vec::new();
    for statement in Statement::ALL {
        let service = TicketService::create(&pair, statement)?;
        crowd.extend((0..clients).map(|n| (statement, service.client().starting_at(n))));
    }
    // Tickets of each statement from each server: the second one's numbers are even.
    let seen = Statement::ALL.map(|_| [AtomicU64::new(0), AtomicU64::new(0)]);
    // Whoever has asked before this may be answered in it.
    let served_by = |server: usize| {
        let so_far = || seen.each_ref().map(|of| of[server].load(Ordering::Relaxed));
        let enough = so_far().map(|count| count + AT_LEAST + clients as u64);
        until(|| so_far().iter().zip(enough).all(|(count, enough)| *count >= enough));
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
    let events = ran.events.except("event", "");
    let killed = events.filter("event", "kill -9").number("began");
    let [started, back] = ["began", "ended"].map(|moment| events.filter("event", "back").number(moment));
    let found = Statement::ALL.map(|statement| {
        let requests = ran.frame.filter("statement", statement.name());
        let asked =
            |server: &str, from: f64, to: f64| requests.filter("server", server).within("at", from..to).height() as u64;
        let of_statement = ran.states.iter().filter(|(of, _)| *of == statement);
        let stats = of_statement.fold(IssuerStats::default(), |sum, (_, client)| sum.plus(client.stats()));
        Ledger { requests: requests.clone(), stats }
            .row(Numbering::Shared(2), statement.skipped_by_a_restart())
            .counts("while dead", "", [asked("server 1", killed, started)])
            .counts("when back", "", [asked("server 2", back, f64::INFINITY)])
            .text("statement", [statement.name()])
    });
    Ok(Failover { tickets: ran.frame, events, found: found.into_iter().collect() })
}

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
        let ledger = draw_during(vec![service.client()], |received| {
            for _ in 0..2 {
                received.wait_for(WORK)?;
                server.try_kill()?;
                server.try_restart()?;
            }
            received.wait_for(WORK)
        })?;
        Ok(ledger.row(Numbering::From(1), 0).text("of", [of]))
    };
    let flushed = killed_twice("REPLACE, log flushed at each commit", server)?;
    Ok(flushed.stack(&killed_twice("REPLACE, log flushed once a second", &lazy)?))
}

/// A database's own sequence, with every commit on disk before it is acknowledged, and a server that is killed: what was asked
/// (`of`), how many numbers were `received`, and how many came `twice`.
pub fn sequence_crash(server: &MariaDb) -> Result<Frame> {
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
        for _ in 0..5 {
            ids.push(sequence.next_id()?);
        }
        if again(ids.clone()) > 0 {
            break;
        }
    }
    let (received, twice) = (ids.len() as u64, again(ids));
    let row = Frame::new().counts("received", "", [received]).counts("twice", "", [twice]);
    Ok(row.text("of", ["a SEQUENCE, log flushed at each commit"]))
}

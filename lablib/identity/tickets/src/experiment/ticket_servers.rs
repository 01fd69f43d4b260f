//! Ticket servers at work: two of them, and a statement that adds 1; and one that many clients press.

use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use super::{STUCK, draw_during};
use crate::{Ledger, Numbering, Skip, Statement, TicketService, take};
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
    draw_during(vec![service.client()], |_| {
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
    })
}

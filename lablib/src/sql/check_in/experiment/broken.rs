//! A client that breaks off between taking a seat and paying for it: when does the seat come back?

use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, Opts};

use crate::lab::link::Link;
use crate::lab::service::MariaDb;
use crate::lab::{Doing, Error, OrFail, Result, Table};
use crate::sql::check_in::{Flight, Layout, Rules};

/// How long we look whether the seat comes back by itself.
const LOOKING: Duration = Duration::from_secs(3);

/// What became of the seat.
#[derive(Debug, Clone, PartialEq)]
pub struct Broken {
    /// What happened to the client.
    pub how: &'static str,
    /// Whether the seat was locked while the client held it.
    pub was_locked: bool,
    /// Seconds until somebody else could lock the seat; none within three seconds.
    pub free_after: Option<f64>,
    /// Whether the seat was still without a traveller then.
    pub untaken: bool,
}

/// A client whose process dies, one whose machine vanishes, and one that vanishes where the server has been told to end
/// transactions that say nothing for a second.
pub fn broken_connections(server: &MariaDb) -> Vec<Broken> {
    let run = || -> Result<Vec<Broken>> {
        let mut all = vec![
            one(server, "the process dies", false, |link| _ = link.cut_connections())?,
            one(server, "the machine vanishes", false, |link| _ = link.half_open())?,
        ];
        if server.dialect().is_mariadb() {
            all.push(one(server, "vanishes, with idle_transaction_timeout = 1", true, |link| _ = link.half_open())?);
        }
        Ok(all)
    };
    run().or_fail()
}

fn one(server: &MariaDb, how: &'static str, limited: bool, breaks: impl Fn(&Link)) -> Result<Broken> {
    let doing = "take a seat and break off";
    let flight = Flight::create(server, "broken", Layout::new(1, 2)?, Rules::OneSeatEach)?;
    let link = Link::to(server.address())?;
    let url = server.url().replacen(server.address(), link.address(), 1);
    let mut client = Conn::new(Opts::from_url(&url).doing(doing)?).doing(doing)?;
    if limited {
        client.query_drop("SET SESSION idle_transaction_timeout = 1").doing(doing)?;
    }
    let connection: Option<u64> = client.query_first("SELECT CONNECTION_ID()").doing(doing)?;
    client.query_drop("START TRANSACTION").doing(doing)?;
    client
        .query_drop(format!("UPDATE {} SET traveller = 7 WHERE flight = 1 AND seat = 1", flight.table()))
        .doing(doing)?;
    let mut other = server.connect()?;
    let mut locked = || -> Result<bool> {
        let sql = format!("SELECT seat FROM {} WHERE flight = 1 AND seat = 1 FOR UPDATE SKIP LOCKED", flight.table());
        let seat: Option<u32> = other.query_first(sql).doing(doing)?;
        Ok(seat.is_none())
    };
    let was_locked = locked()?;
    let broke = Instant::now();
    breaks(&link);
    let mut free_after = None;
    while free_after.is_none() && broke.elapsed() < LOOKING {
        if !locked()? {
            free_after = Some(broke.elapsed().as_secs_f64());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let untaken = flight.seats(server)?.first().is_some_and(|(_, traveller)| traveller.is_none());
    // A seat that did not come back by itself comes back now.
    let id = connection.ok_or_else(|| Error::new(doing, "the server does not number its connections"))?;
    let _ = other.query_drop(format!("KILL {id}"));
    link.cut();
    drop(client);
    flight.drop(server)?;
    Ok(Broken { how, was_locked, free_after, untaken })
}

impl Broken {
    /// What became of the seats.
    pub fn table(all: &[Self]) -> Table {
        let after = |broken: &Self| match broken.free_after {
            Some(seconds) => format!("after {:.0} ms", seconds * 1e3),
            None => format!("not within {} s", LOOKING.as_secs()),
        };
        Table::new("When does the seat come back?")
            .text("what happens to the client", all.iter().map(|broken| broken.how))
            .text("the seat comes back", all.iter().map(after))
    }
}

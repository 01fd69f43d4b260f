//! A client that breaks off between taking a seat and paying for it: when does the seat come back?

use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, Opts};

use crate::{Flight, Layout, Rules};
use lab::errand::{self, Running};
use lab::link::Link;
use lab::service::MariaDb;
use lab::{Doing, Error, Result, Table};

/// How long we look whether the seat comes back by itself.
const LOOKING: Duration = Duration::from_secs(3);

const DOING: &str = "take a seat and break off";

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

/// A client whose process is killed, one whose machine vanishes, and one that vanishes where the server has been told to end
/// transactions that say nothing for a second.
pub fn broken_connections(server: &MariaDb) -> Result<Vec<Broken>> {
    let mut all = vec![killed(server)?, vanished(server, "the machine vanishes", false)?];
    if server.dialect().is_mariadb() {
        all.push(vanished(server, "vanishes, with idle_transaction_timeout = 1", true)?);
    }
    Ok(all)
}

/// What `lab seat-holder` does: takes a seat of this table at that URL, says by which connection, and waits to be killed.
pub fn seat_holder_process() -> Result<()> {
    let (url, table): (String, String) = errand::told()?;
    let mut client = Conn::new(Opts::from_url(&url).doing(DOING)?).doing(DOING)?;
    let number = hold(&mut client, &table)?;
    errand::say(&number)?;
    // Whoever started it may die first; then nobody would kill it.
    errand::wait_for_the_owner();
    Ok(())
}

/// Takes the first seat in a transaction that stays open; returns the number of the connection.
fn hold(client: &mut Conn, table: &str) -> Result<u64> {
    let connection: Option<u64> = client.query_first("SELECT CONNECTION_ID()").doing(DOING)?;
    client.query_drop("START TRANSACTION").doing(DOING)?;
    client.query_drop(format!("UPDATE {table} SET traveller = 7 WHERE flight = 1 AND seat = 1")).doing(DOING)?;
    connection.ok_or_else(|| Error::new(DOING, "the server does not number its connections"))
}

fn killed(server: &MariaDb) -> Result<Broken> {
    let flight = Flight::create(server, "broken", Layout::new(1, 2)?, Rules::OneSeatEach)?;
    let mut holder = Running::start("seat-holder", &(server.url(), flight.table()))?;
    let number = holder.hear()?;
    look(server, flight, "the process is killed", number, || holder.kill())
}

fn vanished(server: &MariaDb, how: &'static str, limited: bool) -> Result<Broken> {
    let flight = Flight::create(server, "broken", Layout::new(1, 2)?, Rules::OneSeatEach)?;
    let link = Link::to(server.address())?;
    let url = server.url().replacen(server.address(), link.address(), 1);
    let mut client = Conn::new(Opts::from_url(&url).doing(DOING)?).doing(DOING)?;
    if limited {
        client.query_drop("SET SESSION idle_transaction_timeout = 1").doing(DOING)?;
    }
    let number = hold(&mut client, flight.table())?;
    let seen = look(server, flight, how, number, || _ = link.half_open());
    link.cut();
    seen
}

/// Looks when the seat that a connection holds comes back, once that has been broken.
fn look(server: &MariaDb, flight: Flight, how: &'static str, number: u64, mut breaks: impl FnMut()) -> Result<Broken> {
    let mut other = server.connect()?;
    let mut locked = || -> Result<bool> {
        let sql = format!("SELECT seat FROM {} WHERE flight = 1 AND seat = 1 FOR UPDATE SKIP LOCKED", flight.table());
        let seat: Option<u32> = other.query_first(sql).doing(DOING)?;
        Ok(seat.is_none())
    };
    let was_locked = locked()?;
    let broke = Instant::now();
    breaks();
    let mut free_after = None;
    while free_after.is_none() && broke.elapsed() < LOOKING {
        if !locked()? {
            free_after = Some(broke.elapsed().as_secs_f64());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let untaken = flight.seats(server)?.first().is_some_and(|(_, traveller)| traveller.is_none());
    // A seat that did not come back by itself comes back now.
    let _ = other.query_drop(format!("KILL {number}"));
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

/// After how long two sides give a silent connection up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive {
    /// The server: its `wait_timeout`, for a session that asks nothing.
    pub server: Duration,
    /// The kernel of the server's machine: probes that nobody answers, by TCP keep-alive.
    pub kernel: Duration,
    /// Whether the server has asked the kernel to probe: whether a timer for it runs on a connection of ours.
    pub probes: bool,
}

/// Asks the server, and the kernel of this machine, on which the lab's servers run.
pub fn keep_alive(server: &MariaDb) -> Result<KeepAlive> {
    let doing = "ask when a silent connection is given up";
    let mut client = server.connect()?;
    let wait: Option<u64> = client.query_first("SELECT @@wait_timeout").doing(doing)?;
    let kernel = |name: &str| -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/tcp_keepalive_{name}")).doing(doing)?;
        text.trim().parse().doing(doing)
    };
    let (time, interval, probes) = (kernel("time")?, kernel("intvl")?, kernel("probes")?);
    let from: Option<String> = client
        .query_first("SELECT host FROM information_schema.processlist WHERE id = CONNECTION_ID()")
        .doing(doing)?;
    let port = |address: &str| address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let ours = from.as_deref().and_then(port).zip(port(server.address()));
    let probes_it = || -> Result<bool> {
        let sockets = std::fs::read_to_string("/proc/net/tcp").doing(doing)?;
        Ok(ours.is_some_and(|(client, server)| has_keep_alive(&sockets, server, client)))
    };
    // Until its last answer has been acknowledged, another timer runs.
    let began = Instant::now();
    while !probes_it()? && began.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(KeepAlive {
        server: Duration::from_secs(wait.unwrap_or_default()),
        kernel: Duration::from_secs(time + interval * probes),
        probes: probes_it()?,
    })
}

/// Whether the timer that runs on a connection is one of keep-alive, by what the kernel lists: address and port, the peer's,
/// the state, the queues, and the timer's kind, of which 2 is this one.
fn has_keep_alive(sockets: &str, local: u16, remote: u16) -> bool {
    sockets.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port = |field: usize| fields.get(field).and_then(|text| text.split_once(':')).map(|(_, port)| port);
        let is = |field: usize, expected: u16| port(field).is_some_and(|text| text == format!("{expected:04X}"));
        is(1, local) && is(2, remote) && fields.get(5).is_some_and(|timer| timer.starts_with("02:"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_tells_which_connection_is_probed() {
        let list = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 0100007F:0CEA 0100007F:9C40 01 00000000:00000000 02:000AFBAD 00000000     0        0 1 2 f\n\
            \x20  1: 0100007F:9C40 0100007F:0CEA 01 00000000:00000000 00:00000000 00000000     0        0 2 1 f\n\
            \x20  2: 0100007F:0CEA 0100007F:9C41 01 00000010:00000000 01:00000016 00000000     0        0 3 1 f\n";
        assert!(has_keep_alive(list, 3_306, 40_000));
        assert!(!has_keep_alive(list, 40_000, 3_306), "the client does not probe");
        assert!(!has_keep_alive(list, 3_306, 40_001), "it is waiting for an acknowledgement");
        assert!(!has_keep_alive(list, 3_306, 1));
    }
}

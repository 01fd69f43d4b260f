//! Whether what has expired is gone, and what it costs to clear it away.

use std::fmt;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mysql::Conn;
use mysql::prelude::Queryable;

use super::databases;
use crate::{Skip, Store, Sweeper};
use lab::service::{Counters, MariaDb};
use lab::{Crowd, Doing, Error, Frame, Progress, Result, Rng};

/// Puts keys that live for up to `longest`, and reads them all, over and over, until none is left; with or without a step
/// of the store. Nobody sweeps. One row: reads that ended `before` their key can have expired, and those of them that found nothing (`too
/// early`); reads that began `after` their key must have expired, and those of them that found it (`too late`).
pub fn punctual(server: &MariaDb, keys: u64, longest: Duration, seed: u64, skip: Option<Skip>) -> Result<Frame> {
    let mut store = Store::create(&databases(server, 1)?)?.without(skip);
    let mut rng = Rng::seeded(seed, "times to live");
    let mut lives = Vec::new();
    for number in 0..keys {
        let ttl = longest.mul_f64((1.0 + rng.unit()) / 2.0);
        let key = number.to_be_bytes();
        let from = Instant::now();
        store.put(&key, b"alive", Some(ttl))?;
        // The server counted from some moment between these two.
        lives.push((key, from + ttl, Instant::now() + ttl));
    }
    let (mut before, mut too_early, mut after, mut too_late) = (0, 0, 0, 0);
    let end = Instant::now() + longest.mul_f64(1.2);
    while Instant::now() < end {
        for (key, earliest, latest) in &lives {
            let from = Instant::now();
            let found = store.get(key)?.is_some();
            let to = Instant::now();
            if to < *earliest {
                before += 1;
                too_early += u64::from(!found);
            } else if from > *latest {
                after += 1;
                too_late += u64::from(found);
            }
        }
    }
    let counts = [("before", before), ("too early", too_early), ("after", after), ("too late", too_late)];
    Ok(counts.into_iter().fold(Frame::new(), |row, (name, count)| row.counts(name, "", [count])))
}

/// Who clears away what has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clearing {
    /// Nobody: what a put takes in any case.
    Nobody,
    /// One `DELETE` that reads every row, as the prototype's does: it has no index on the time.
    OneDelete,
    /// One `DELETE` that finds the rows by an index on the time.
    OneDeleteByIndex,
    /// The sweeper, a few rows in a transaction.
    Sweeper,
}

impl fmt::Display for Clearing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nobody => "nobody",
            Self::OneDelete => "one DELETE, no index",
            Self::OneDeleteByIndex => "one DELETE, by index",
            Self::Sweeper => "the sweeper",
        })
    }
}

/// Which keys clients put while somebody clears, each client its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Putting {
    /// Keys that are alive, over and over.
    Alive,
    /// Keys that have expired, each once: a session that comes back.
    Expired,
}

impl fmt::Display for Putting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Alive { "live keys" } else { "expired keys" })
    }
}

/// How much there is to clear, and who puts meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct CleaningSpec {
    /// Entries that have expired.
    pub expired: u64,
    /// Entries that have not, among them.
    pub alive: u64,
    pub clients: u64,
    /// Entries that the sweeper takes at once.
    pub batch: usize,
}

/// Who clears while whose keys are put.
pub type Clears = (Putting, Clearing);

/// Expired entries among live ones in the store's own table, cleared away by each of these in turn while clients put. Only who
/// clears, and what is put, differs.
///
/// Two frames. The first has a row for each who cleared (`by`) while clients `put` what: entries that were `left`, how long it `took`, how
/// many `puts` there were, and how often one of them, or whoever cleared, had to wait for a lock (`waits`). The second has a row for each
/// put: `by`, `put`, `client`, how long it `took`, and the `share` of the time that clearing took.
pub fn cleaning(server: &MariaDb, spec: CleaningSpec, all: &[Clears]) -> Result<(Frame, Frame)> {
    if spec.expired < spec.clients || spec.alive < spec.clients || spec.clients == 0 {
        return Err(Error::new("compare who clears", "it takes an expired and a live entry for each client"));
    }
    let mut progress = Progress::new("clear away what has expired", all.len() as u64);
    let one = |&clears| cleared(server, spec, clears).inspect(|_| progress.step());
    all.iter().map(one).collect()
}

/// One clearing's row, and its puts.
fn cleared(server: &MariaDb, spec: CleaningSpec, (putting, by): Clears) -> Result<(Frame, Frame)> {
    /// Puts of each client while nobody clears.
    const PUTS: u64 = 100;
    let CleaningSpec { expired, alive, clients, batch } = spec;
    let urls = databases(server, 1)?;
    Store::create(&urls)?;
    let mut connection = Conn::new(urls[0].as_str()).doing("connect to the shard")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).doing("read the clock")?.as_micros() as u64;
    let hour = Duration::from_secs(3_600);
    // Live and expired ones lie among each other, in no order: as keys do.
    let key = |number: u64| format!("key:{:016x}", xxhash_rust::xxh3::xxh3_64(&number.to_be_bytes()));
    let filler = "x".repeat(100);
    let rows = (0..expired + alive).map(|number| {
        let expires = if number < expired { now - 1 } else { now + hour.as_micros() as u64 };
        format!("('{}', '{filler}', {number}, {expires})", key(number))
    });
    fill(&mut connection, rows)?;
    let left = |connection: &mut Conn| -> Result<u64> {
        let sql = format!("SELECT COUNT(*) FROM kv WHERE expires_at < {now}");
        connection.query_first(sql).doing("count what is left").map(|count| count.unwrap_or(0))
    };
    let delete = |how: &str| format!("DELETE kv FROM kv {how} INDEX (by_expiry) WHERE expires_at < {now}");
    let (from, keys) = if putting == Putting::Alive { (expired, alive) } else { (0, expired) };
    let clear = || match by {
        Clearing::Nobody => Ok(()),
        Clearing::OneDelete => connection.query_drop(delete("IGNORE")).doing("clear away"),
        Clearing::OneDeleteByIndex => connection.query_drop(delete("FORCE")).doing("clear away"),
        Clearing::Sweeper => {
            let (told, heard) = channel();
            let hear = move |error: &Error| drop(told.send(error.clone()));
            let _sweeper = Sweeper::start(&urls[0], batch, Duration::from_millis(1), hear)?;
            while left(&mut connection)? > 0 {
                if let Ok(error) = heard.try_recv() {
                    return Err(error);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok(())
        }
    };
    let before = Counters::of_server(server)?.get("Innodb_row_lock_waits")?;
    let ran = Crowd::of(clients as usize)
        // Each client its own keys: one that waits for another client does not wait for whoever clears.
        .with(|client| Ok((Store::open(&urls)?, (client as u64..keys).step_by(clients as usize).cycle())))
        .lasting(Duration::ZERO)
        .within(Duration::from_secs(600))
        // Nobody clears before all are at it.
        .once(2 * clients, "all put", || Ok(()))
        // Who clears begins at once; nobody is done when so many puts are.
        .once(if by == Clearing::Nobody { PUTS * clients } else { 0 }, "cleared", clear)
        .run(|(store, numbers), _| {
            let number = numbers.next().unwrap_or(0);
            store.put(key(from + number).as_bytes(), filler.as_bytes(), Some(hour))?;
            Ok(())
        })?;
    let waits = Counters::of_server(server)?.get("Innodb_row_lock_waits")? - before;
    let took = ran.event_ended("cleared") - ran.event_ended("all put");
    let row = Frame::new()
        .counts("left", "", [left(&mut connection)?])
        .numbers("took", "s", [took])
        .counts("puts", "", [ran.frame.height() as u64])
        .numbers("waits", "", [waits]);
    let puts = ran.frame.select(["client", "took"]).computed("share", "", |put| put.number("took") / took);
    let [row, puts] = [row, puts].map(|frame| frame.everywhere("by", "", &by).everywhere("put", "", &putting));
    Ok((row, puts))
}

fn fill(connection: &mut Conn, rows: impl Iterator<Item = String>) -> Result<()> {
    let rows: Vec<String> = rows.collect();
    let doing = "fill a table";
    connection.query_drop("START TRANSACTION").doing(doing)?;
    for part in rows.chunks(500) {
        let sql = format!("INSERT INTO kv (k, v, version, expires_at) VALUES {}", part.join(", "));
        connection.query_drop(sql).doing(doing)?;
    }
    connection.query_drop("COMMIT").doing(doing)
}

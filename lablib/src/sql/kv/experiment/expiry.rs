//! Whether what has expired is gone, and what it costs to clear it away.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mysql::prelude::Queryable;

use super::databases;
use crate::lab::chart::{Chart, Latencies};
use crate::lab::service::{Counters, MariaDb};
use crate::lab::{Doing, Error, Latency, OrFail, Progress, Result, Rng, joined};
use crate::sql::kv::{FirstPrototype, Skip, Store, Sweeper};

/// What reads around the moments of expiry saw.
#[derive(Debug, Clone, Copy, Default)]
pub struct Punctual {
    /// Reads that ended before their key can have expired.
    pub before: u64,
    /// Of those, the ones that found nothing.
    pub too_early: u64,
    /// Reads that began after their key must have expired.
    pub after: u64,
    /// Of those, the ones that found it.
    pub too_late: u64,
}

/// Puts keys that live for up to `longest`, and reads them all, over and over, until none is left; with or without a step
/// of the store. Nobody sweeps.
pub fn punctual(server: &MariaDb, keys: u64, longest: Duration, seed: u64, skip: Option<Skip>) -> Punctual {
    let run = || -> Result<Punctual> {
        let mut store = Store::create(&databases(server, 1))?.without(skip);
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
        let mut seen = Punctual::default();
        let end = Instant::now() + longest.mul_f64(1.2);
        while Instant::now() < end {
            for (key, earliest, latest) in &lives {
                let from = Instant::now();
                let found = store.get(key)?.is_some();
                let to = Instant::now();
                if to < *earliest {
                    seen.before += 1;
                    seen.too_early += u64::from(!found);
                } else if from > *latest {
                    seen.after += 1;
                    seen.too_late += u64::from(found);
                }
            }
        }
        Ok(seen)
    };
    run().or_fail()
}

/// What writers felt while somebody cleared expired entries away.
#[derive(Debug, Clone)]
pub struct Cleaning {
    /// Who cleared.
    pub by: String,
    /// Entries removed.
    pub removed: u64,
    /// How long it took.
    pub took: Duration,
    /// How long each put took meanwhile.
    pub puts: Latency,
    /// How often one of those puts, to keys that are alive, had to wait for a lock.
    pub waits: f64,
}

/// Expired entries among live ones, cleared away while a client puts: by the prototype's one statement on its table, and by
/// the sweeper on ours.
pub fn cleaning(server: &MariaDb, expired: u64, alive: u64, batch: usize) -> [Cleaning; 2] {
    let run = || -> Result<[Cleaning; 2]> {
        if expired == 0 || alive == 0 {
            return Err(Error::new("compare who clears", "it takes expired and live entries"));
        }
        let mut progress = Progress::new("clear away what has expired", 2);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).doing("read the clock")?.as_secs();
        let filler = "x".repeat(100);

        let mut prototype = FirstPrototype::on(server)?;
        let key = |number: u64| format!("key:{number}");
        let rows = (0..expired + alive).map(|number| {
            let expiry = if number < expired { now - 10 } else { now + 3_600 };
            format!("('{}', '{filler}', {expiry})", key(number))
        });
        fill(prototype.connection(), "kv_store (k, value, expiry)", rows)?;
        let mut writer = server.connect()?;
        let first = measure(
            server,
            "one DELETE",
            || prototype.cleanup(now),
            |number| {
                let sql = "INSERT INTO kv_store (k, value, expiry) VALUES (?, ?, ?)";
                writer.exec_drop(sql, (key(expired + number % alive), &filler, now + 3_600)).doing("put")
            },
        )?;
        progress.step();

        let urls = databases(server, 1);
        let mut store = Store::create(&urls)?;
        let mut connection = mysql::Conn::new(urls[0].as_str()).doing("connect to the shard")?;
        let rows = (0..expired + alive).map(|number| {
            let expiry = if number < expired { now - 10 } else { now + 3_600 };
            format!("('{}', '{filler}', {number}, {})", key(number), expiry * 1_000_000)
        });
        fill(&mut connection, "kv (k, v, version, expires_at)", rows)?;
        let left = |connection: &mut mysql::Conn| -> Result<u64> {
            let sql = format!("SELECT COUNT(*) FROM kv WHERE expires_at < {}", now * 1_000_000);
            connection.query_first(sql).doing("count what is left").map(|count| count.unwrap_or(0))
        };
        let hour = Some(Duration::from_secs(3_600));
        let second = measure(
            server,
            "the sweeper",
            || {
                let sweeper = Sweeper::start(&urls[0], batch, Duration::from_millis(1))?;
                while left(&mut connection)? > 0 {
                    std::thread::sleep(Duration::from_millis(2));
                }
                sweeper.stop()
            },
            |number| Ok(store.put(key(expired + number % alive).as_bytes(), filler.as_bytes(), hour).map(drop)?),
        )?;
        progress.step();
        Ok([first, second])
    };
    run().or_fail()
}

fn fill(connection: &mut mysql::Conn, into: &str, rows: impl Iterator<Item = String>) -> Result<()> {
    let rows: Vec<String> = rows.collect();
    let doing = "fill a table";
    connection.query_drop("START TRANSACTION").doing(doing)?;
    for part in rows.chunks(500) {
        connection.query_drop(format!("INSERT INTO {into} VALUES {}", part.join(", "))).doing(doing)?;
    }
    connection.query_drop("COMMIT").doing(doing)
}

/// Puts one after the other for as long as somebody clears.
fn measure(
    server: &MariaDb,
    by: &str,
    clear: impl FnOnce() -> Result<u64>,
    mut put: impl FnMut(u64) -> Result<()> + Send,
) -> Result<Cleaning> {
    let over = AtomicBool::new(false);
    let before = Counters::of_server(server)?.get("Innodb_row_lock_waits")?;
    let (removed, took, puts) = std::thread::scope(|scope| -> Result<_> {
        let writing = scope.spawn(|| -> Result<Latency> {
            let mut puts = Latency::new();
            let mut number = 0;
            while !over.load(Ordering::Relaxed) {
                let from = Instant::now();
                put(number)?;
                puts.record(from.elapsed());
                number += 1;
            }
            Ok(puts)
        });
        let from = Instant::now();
        let removed = clear();
        let took = from.elapsed();
        over.store(true, Ordering::Relaxed);
        let puts = joined("put while somebody clears", writing.join())?;
        Ok((removed?, took, puts))
    })?;
    let waits = Counters::of_server(server)?.get("Innodb_row_lock_waits")? - before;
    Ok(Cleaning { by: by.into(), removed, took, puts, waits })
}

/// How long puts took while somebody cleared.
pub fn cleaning_chart(cleaned: &[Cleaning], title: &str) -> Latencies {
    let chart = Chart::latencies(title).subtitle("A put of a live key while expired ones are cleared away");
    cleaned.iter().fold(chart, |chart, one| chart.latency(&one.by, &one.puts))
}

//! How many connections does a load need? Pools of several sizes under users that arrive on their own schedule.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use tokio::sync::mpsc;

use crate::pool::{MySql, Pool};
use lab::runtime::{block_on, runtime};
use lab::service::MariaDb;
use lab::{Doing, Latency, OrFail, Result, Rng, Samples, joined};

/// An open load: users come at random moments, so many a second on average, whatever the pool does with them.
#[derive(Debug, Clone, Copy)]
pub struct OpenSpec {
    /// Arrivals a second.
    pub rate: f64,
    /// For how long they come, each time.
    pub lasting: Duration,
    /// How often.
    pub repeats: usize,
    /// Of the moments.
    pub seed: u64,
}

/// What a pool of one size did with the load.
#[derive(Debug, Clone, Default)]
pub struct Offered {
    /// The pool's size.
    pub size: usize,
    /// From coming to getting a connection, all repeats together.
    pub waiting: Latency,
    /// From getting a connection to giving it back.
    pub service: Latency,
    /// The 99th percentile of each repeat, in milliseconds.
    pub waiting_p99: Samples,
    /// The 99th percentile of each repeat, in milliseconds.
    pub service_p99: Samples,
    /// Queries a second, from the first arrival to the last answer.
    pub throughput: Samples,
    /// Connections in use, as somebody saw who looked at the pool twice a millisecond: the mean of each repeat.
    pub in_use: Samples,
    /// Users in the queue, seen in the same way.
    pub queued: Samples,
    /// What Little's law says of the connections in use: arrivals a second × mean service time.
    pub in_use_by_law: Samples,
    /// What it says of the queue: arrivals a second × mean waiting time.
    pub queued_by_law: Samples,
}

/// The same load on pools of several sizes, in turns.
pub fn sweep(server: &MariaDb, sizes: &[usize], spec: OpenSpec) -> Vec<Offered> {
    try_sweep(server, sizes, spec).or_fail()
}

fn try_sweep(server: &MariaDb, sizes: &[usize], spec: OpenSpec) -> Result<Vec<Offered>> {
    let mut pools = Vec::new();
    for &size in sizes {
        let limit = Duration::from_secs(600);
        let pool = Pool::builder(MySql::new(server.url())?).size(size).acquire_timeout(limit).build()?;
        block_on(pool.warm(size)).doing("dial the pool")?;
        pools.push((pool, Offered { size, ..Offered::default() }));
    }
    for repeat in 0..spec.repeats {
        for (pool, seen) in &mut pools {
            one_load(pool, seen, spec, repeat)?;
        }
    }
    for (pool, _) in &pools {
        block_on(pool.close(Duration::from_secs(1)));
    }
    Ok(pools.into_iter().map(|(_, seen)| seen).collect())
}

fn one_load(pool: &Pool<MySql>, seen: &mut Offered, spec: OpenSpec, repeat: usize) -> Result<()> {
    // The same moments for every size.
    let mut rng = Rng::seeded(spec.seed, &format!("arrivals {repeat}"));
    let (mut at, mut due) = (0.0, Vec::new());
    while at < spec.lasting.as_secs_f64() {
        due.push(Duration::from_secs_f64(at));
        at += -(1.0 - rng.unit()).ln() / spec.rate;
    }
    let (over, gauges) = (AtomicBool::new(false), Mutex::new((0_u64, 0_u64, 0_u64)));
    let (mut waiting, mut service) = (Latency::new(), Latency::new());
    let start = Instant::now();
    let window = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                let stats = pool.stats();
                let mut seen = gauges.lock().unwrap_or_else(PoisonError::into_inner);
                *seen = (seen.0 + 1, seen.1 + stats.in_use as u64, seen.2 + stats.waiting as u64);
                drop(seen);
                std::thread::sleep(Duration::from_micros(500));
            }
            Ok(())
        });
        let load = arrive(pool, start, &due, &mut waiting, &mut service);
        let window = start.elapsed().as_secs_f64();
        over.store(true, Ordering::Release);
        joined("look at the pool", looking.join())?;
        load.map(|()| window)
    })?;
    let (looks, in_use, queued) = *gauges.lock().unwrap_or_else(PoisonError::into_inner);
    let rate = due.len() as f64 / window;
    seen.throughput.push(rate);
    seen.in_use.push(in_use as f64 / looks as f64);
    seen.queued.push(queued as f64 / looks as f64);
    seen.in_use_by_law.push(rate * service.mean().as_secs_f64());
    seen.queued_by_law.push(rate * waiting.mean().as_secs_f64());
    seen.waiting_p99.push(waiting.p99().as_secs_f64() * 1e3);
    seen.service_p99.push(service.p99().as_secs_f64() * 1e3);
    seen.waiting.merge(&waiting);
    seen.service.merge(&service);
    Ok(())
}

/// Sends the users in, each at its moment, and waits for the last to leave.
fn arrive(
    pool: &Pool<MySql>,
    start: Instant,
    due: &[Duration],
    waiting: &mut Latency,
    service: &mut Latency,
) -> Result<()> {
    let (done, mut all_done) = mpsc::unbounded_channel();
    for &moment in due {
        // This thread does nothing else, so it is as punctual as a sleep is.
        if let Some(left) = (start + moment).checked_duration_since(Instant::now()) {
            std::thread::sleep(left);
        }
        let (pool, done) = (pool.clone(), done.clone());
        runtime().spawn(async move {
            let came = Instant::now();
            let served = async {
                let mut connection = pool.get().await.doing("borrow a connection")?;
                let got = Instant::now();
                connection.query_drop(super::crowd::TEN_MS).await.doing("run the query")?;
                drop(connection);
                Ok((got - came, got.elapsed())) as Result<(Duration, Duration)>
            };
            let _ = done.send(served.await);
        });
    }
    drop(done);
    while let Some(served) = all_done.blocking_recv() {
        let (waited, took) = served?;
        waiting.record(waited);
        service.record(took);
    }
    Ok(())
}

/// What one pool size does for queries that need the server's processor.
#[derive(Debug, Clone, Default)]
pub struct Worked {
    /// The pool's size.
    pub size: usize,
    /// Queries a second, in each round.
    pub throughput: Samples,
    /// Median time from getting a connection to the answer, in milliseconds, in each round.
    pub service: Samples,
    /// Median time in the queue, in milliseconds, in each round.
    pub waiting: Samples,
}

/// A crowd of queries that compute, for a millisecond or two each, on pools of several sizes, in turns.
pub fn working(server: &MariaDb, sizes: &[usize], queries: usize, rounds: usize) -> Vec<Worked> {
    block_on(try_working(server, sizes, queries, rounds)).or_fail()
}

async fn try_working(server: &MariaDb, sizes: &[usize], queries: usize, rounds: usize) -> Result<Vec<Worked>> {
    let most = sizes.iter().copied().max().unwrap_or(1);
    let mut pools = Vec::new();
    for &size in sizes {
        let limit = Duration::from_secs(600);
        let pool = Pool::builder(MySql::new(server.url())?).size(size).acquire_timeout(limit).build()?;
        pool.warm(size).await.doing("dial the pool")?;
        pools.push((pool, Worked { size, ..Worked::default() }));
    }
    // As many users as the largest pool has connections: so all that differs is where they wait.
    for round in 0..=rounds {
        for (pool, seen) in &mut pools {
            let (seconds, waiting, service) = crunch(pool, most, queries).await?;
            if round > 0 {
                seen.throughput.push(queries as f64 / seconds);
                seen.waiting.push(waiting.p50().as_secs_f64() * 1e3);
                seen.service.push(service.p50().as_secs_f64() * 1e3);
            }
        }
    }
    for (pool, _) in &pools {
        pool.close(Duration::from_secs(1)).await;
    }
    Ok(pools.into_iter().map(|(_, seen)| seen).collect())
}

async fn crunch(pool: &Pool<MySql>, users: usize, queries: usize) -> Result<(f64, Latency, Latency)> {
    const WORK: &str = "SELECT BENCHMARK(2500, MD5('how many connections?'))";
    let next = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut running = tokio::task::JoinSet::new();
    let start = Instant::now();
    for _ in 0..users {
        let (pool, next) = (pool.clone(), next.clone());
        running.spawn(async move {
            let (mut waiting, mut service) = (Latency::new(), Latency::new());
            while next.fetch_add(1, Ordering::Relaxed) < queries {
                let came = Instant::now();
                let mut connection = pool.get().await.doing("borrow a connection")?;
                let got = Instant::now();
                connection.query_drop(WORK).await.doing("run the query")?;
                drop(connection);
                waiting.record(got - came);
                service.record(got.elapsed());
            }
            Ok((waiting, service)) as Result<(Latency, Latency)>
        });
    }
    let (mut waiting, mut service) = (Latency::new(), Latency::new());
    while let Some(done) = running.join_next().await {
        let (waited, served) = done.doing("run a user")??;
        waiting.merge(&waited);
        service.merge(&served);
    }
    Ok((start.elapsed().as_secs_f64(), waiting, service))
}

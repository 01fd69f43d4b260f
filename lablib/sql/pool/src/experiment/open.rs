//! How many connections does a load need? Pools of several sizes under users that arrive on their own schedule.

use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use tokio::sync::mpsc;

use super::crowd::{TEN_MS, close, dialled};
use crate::{MySql, Pool};
use lab::runtime::{block_on, runtime};
use lab::service::MariaDb;
use lab::{Crowd, Doing, Latency, Result, Rng, Trial};

/// An open load: users come at random moments, so many a second on average, whatever the pool does with them.
#[derive(Debug, Clone, Copy)]
pub struct OpenSpec {
    /// Arrivals a second.
    pub rate: f64,
    /// For how long they come, each time.
    pub lasting: Duration,
    pub repeats: usize,
    pub seed: u64,
}

/// The same load on pools of several sizes, in turns; the size is the column `connections`. Figures: `waiting`, from coming to getting a
/// connection, and `service`, from getting it to giving it back, with their percentiles; queries a second from the first arrival to the
/// last answer (`throughput`); connections `in use` and users `queued`, as somebody saw who looked at the pool twice a millisecond; and
/// what Little's law says of both (`in use by law`, `queued by law`): arrivals a second × mean time.
pub fn sweep(server: &MariaDb, sizes: &[usize], spec: OpenSpec) -> Result<Trial<usize>> {
    Trial::over(sizes.to_vec(), spec.repeats)
        .column("connections", |size| *size)
        .open(|size| dialled(server.url(), *size))
        .close(close)
        .run(|_, pool, figures| {
            // The same moments for every size.
            let mut rng = Rng::seeded(spec.seed, &format!("arrivals {}", figures.round()));
            let (mut at, mut due) = (0.0, Vec::new());
            while at < spec.lasting.as_secs_f64() {
                due.push(Duration::from_secs_f64(at));
                at += -(1.0 - rng.unit()).ln() / spec.rate;
            }
            let ran = Crowd::of(1)
                .with(|_| Ok((Latency::new(), Latency::new())))
                .looking(Duration::from_micros(500), |look| {
                    let stats = pool.stats();
                    look.note("in use", "", stats.in_use as f64);
                    look.note("queued", "", stats.waiting as f64);
                    Ok(())
                })
                .run(|(waiting, service), _| arrive(pool, &due, waiting, service))?;
            let rate = due.len() as f64 / ran.seconds;
            for (waiting, service) in &ran.states {
                figures.latency("waiting", waiting);
                figures.latency("service", service);
                figures.push("in use by law", "", rate * service.mean().as_secs_f64());
                figures.push("queued by law", "", rate * waiting.mean().as_secs_f64());
            }
            figures.push("throughput", "1/s", rate);
            figures.push("in use", "", ran.seen.samples("in use").mean());
            figures.push("queued", "", ran.seen.samples("queued").mean());
            Ok(())
        })
}

/// Sends the users in, each at its moment, and waits for the last to leave.
fn arrive(pool: &Pool<MySql>, due: &[Duration], waiting: &mut Latency, service: &mut Latency) -> Result<()> {
    let (done, mut all_done) = mpsc::unbounded_channel();
    let start = Instant::now();
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
                connection.query_drop(TEN_MS).await.doing("run the query")?;
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

/// A crowd of queries that compute, for a millisecond or two each, on pools of several sizes, in turns; the size is the column
/// `connections`. Figures: queries a second (`throughput`), and the percentiles of `waiting`, in the queue, and of `service`, from getting
/// a connection to the answer.
pub fn working(server: &MariaDb, sizes: &[usize], queries: usize, rounds: usize) -> Result<Trial<usize>> {
    const WORK: &str = "SELECT BENCHMARK(2500, MD5('how many connections?'))";
    // As many users as the largest pool has connections: so all that differs is where they wait.
    let users = sizes.iter().copied().max().unwrap_or(1).max(1);
    Trial::over(sizes.to_vec(), rounds)
        .column("connections", |size| *size)
        .open(|size| dialled(server.url(), *size))
        .close(close)
        .run(|_, pool, figures| {
            let ran = Crowd::of(users).times(queries.div_ceil(users) as u64).run(|_, call| {
                block_on(async {
                    let came = Instant::now();
                    let mut connection = pool.get().await.doing("borrow a connection")?;
                    let got = Instant::now();
                    connection.query_drop(WORK).await.doing("run the query")?;
                    drop(connection);
                    call.note("waiting", "s", (got - came).as_secs_f64());
                    call.note("service", "s", got.elapsed().as_secs_f64());
                    Ok(())
                })
            })?;
            figures.push("throughput", "1/s", ran.frame.height() as f64 / ran.seconds);
            figures.latency("waiting", &ran.frame.latency("waiting"));
            figures.latency("service", &ran.frame.latency("service"));
            Ok(())
        })
}

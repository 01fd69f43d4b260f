//! A crowd that comes at once: N tasks with one short query each, with a pool and without one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as MySqlError, Opts, OptsBuilder};
use tokio::sync::{Barrier, Semaphore};
use tokio::task::JoinSet;

use super::super::mysql::opts;
use super::observer::Observer;
use crate::pool::{MySql, Pool};
use lab::runtime::block_on;
use lab::service::MariaDb;
use lab::{Doing, Latency, Link, OrFail, Race, Raced, Result, Samples};

/// The query of the prototype's benchmark: the server makes its client wait for 10 ms.
pub(super) const TEN_MS: &str = "SELECT SLEEP(0.01)";

/// What a crowd of one size saw, over all repeats.
#[derive(Debug, Clone, Default)]
pub struct Crowd {
    /// How many tasks came.
    pub tasks: usize,
    /// Until the last of them was done, in each repeat.
    pub seconds: Samples,
    /// The same, over what theory says from the mean service time of the same repeat: N / size × service.
    pub over_predicted: Samples,
    /// From coming to getting a connection.
    pub waiting: Latency,
    /// From getting a connection to the answer.
    pub service: Latency,
    /// The most connections that the server had at once, by its own count.
    pub most_at_server: u64,
    /// The most that were in use at once, by the pool's count.
    pub most_in_use: usize,
}

impl Crowd {
    /// Until the last was done, in milliseconds.
    pub fn milliseconds(&self) -> Samples {
        self.seconds.map(|seconds| seconds * 1e3)
    }
}

/// Crowds of several sizes on a dialled pool, each so many times.
pub fn crowds(server: &MariaDb, size: usize, crowds: &[(usize, usize)]) -> Vec<Crowd> {
    block_on(try_crowds(server, size, crowds)).or_fail()
}

async fn try_crowds(server: &MariaDb, size: usize, sizes: &[(usize, usize)]) -> Result<Vec<Crowd>> {
    let pool = Pool::builder(MySql::new(server.url())?).size(size).acquire_timeout(Duration::from_secs(600)).build()?;
    let mut crowds = Vec::new();
    for &(tasks, repeats) in sizes {
        let mut crowd = Crowd { tasks, ..Crowd::default() };
        pool.warm(size).await.doing("dial the pool")?;
        let mut observer = Observer::of(server, size)?;
        for _ in 0..repeats {
            let mut service = Latency::new();
            let seconds = one_crowd(&pool, tasks, &mut crowd.waiting, &mut service).await?;
            crowd.seconds.push(seconds);
            crowd.over_predicted.push(seconds / (tasks as f64 / size as f64 * service.mean().as_secs_f64()));
            crowd.service.merge(&service);
        }
        crowd.most_at_server = observer.most()?;
        crowd.most_in_use = pool.stats().most_in_use;
        crowds.push(crowd);
    }
    pool.close(Duration::from_secs(1)).await;
    Ok(crowds)
}

async fn one_crowd(pool: &Pool<MySql>, tasks: usize, waiting: &mut Latency, service: &mut Latency) -> Result<f64> {
    let mut running = JoinSet::new();
    let start = Instant::now();
    for _ in 0..tasks {
        let pool = pool.clone();
        running.spawn(async move {
            let mut connection = pool.get().await.doing("borrow a connection")?;
            let got = Instant::now();
            connection.query_drop(TEN_MS).await.doing("run the query")?;
            Ok((got - start, got.elapsed())) as Result<(Duration, Duration)>
        });
    }
    while let Some(done) = running.join_next().await {
        let (waited, served) = done.doing("run a task")??;
        waiting.record(waited);
        service.record(served);
    }
    Ok(start.elapsed().as_secs_f64())
}

/// How tasks do without a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alone {
    /// Each dials, and nobody closes before all are done: the prototype, which left its answers unread.
    Leaking,
    /// Each dials, asks and closes.
    Closing,
    /// As `Closing`, but only so many of them at a time: as many as the pool has connections.
    ClosingFew(usize),
}

/// What a crowd without a pool saw.
#[derive(Debug, Clone, Default)]
pub struct Unpooled {
    /// How many tasks came.
    pub tasks: usize,
    /// Until the last of them was done.
    pub seconds: Samples,
    /// "Too many connections", in each repeat.
    pub refused: Samples,
    /// The most connections that the server had at once, by its own count.
    pub most_at_server: u64,
}

/// A crowd without a pool, so many times. `account` is a user without an administrator's privileges.
pub fn without_pool(server: &MariaDb, way: Alone, tasks: usize, repeats: usize) -> Unpooled {
    block_on(try_without_pool(server, way, tasks, repeats)).or_fail()
}

async fn try_without_pool(server: &MariaDb, way: Alone, tasks: usize, repeats: usize) -> Result<Unpooled> {
    let opts = application(server)?;
    let mut seen = Unpooled { tasks, ..Unpooled::default() };
    let mut observer = Observer::of(server, 0)?;
    for _ in 0..repeats {
        observer.settle_for(0, Duration::from_millis(500))?;
        let start = Instant::now();
        let refused = unpooled(&opts, way, tasks).await?;
        seen.seconds.push(start.elapsed().as_secs_f64());
        seen.refused.push(refused as f64);
    }
    seen.most_at_server = observer.most()?;
    Ok(seen)
}

async fn unpooled(opts: &Opts, way: Alone, tasks: usize) -> Result<usize> {
    let at_a_time = if let Alone::ClosingFew(few) = way { few } else { tasks };
    let (gate, all_done) = (Arc::new(Semaphore::new(at_a_time)), Arc::new(Barrier::new(tasks)));
    let mut running = JoinSet::new();
    for _ in 0..tasks {
        let (opts, gate, all_done) = (opts.clone(), gate.clone(), all_done.clone());
        running.spawn(async move {
            let _turn = gate.acquire().await.doing("take a turn")?;
            let dialled = Conn::new(opts).await;
            let served = match dialled {
                Ok(mut connection) => match connection.query_drop(TEN_MS).await {
                    Ok(()) => Ok(Some(connection)),
                    Err(error) => Err(error),
                },
                // Too many connections.
                Err(MySqlError::Server(error)) if error.code == 1040 => Ok(None),
                Err(error) => Err(error),
            };
            if way == Alone::Leaking {
                all_done.wait().await;
            }
            let refused = matches!(served, Ok(None));
            if let Some(connection) = served.doing("run the query")? {
                connection.disconnect().await.doing("close a connection")?;
            }
            Ok(refused) as Result<bool>
        });
    }
    let mut refused = 0;
    while let Some(done) = running.join_next().await {
        refused += usize::from(done.doing("run a task")??);
    }
    Ok(refused)
}

/// The same tasks over a wire on which every byte takes `delay` each way: with a pool, and as many at a time without one.
pub fn over_a_wire(server: &MariaDb, delay: Duration, size: usize, tasks: usize, rounds: usize) -> Raced {
    try_over_a_wire(server, delay, size, tasks, rounds).or_fail()
}

fn try_over_a_wire(server: &MariaDb, delay: Duration, size: usize, tasks: usize, rounds: usize) -> Result<Raced> {
    let link = Link::to(server.address())?;
    let url = server.url().replacen(server.address(), link.address(), 1);
    let limit = Duration::from_secs(600);
    let pool = Pool::builder(MySql::new(&url)?).size(size).acquire_timeout(limit).build()?;
    block_on(pool.warm(size)).doing("dial the pool")?;
    link.delay(delay);
    let opts = opts(&url)?;
    let pooled = || {
        let (mut waiting, mut service) = (Latency::new(), Latency::new());
        block_on(one_crowd(&pool, tasks, &mut waiting, &mut service)).map_or(0, |_| service.count())
    };
    // A task that failed is work that was not done, which the race notices.
    let dialled =
        || block_on(unpooled(&opts, Alone::ClosingFew(size), tasks)).map_or(0, |refused| (tasks - refused) as u64);
    let raced = Race::of(rounds).arm("a pool", pooled).arm("dialling each time", dialled).try_run()?;
    block_on(pool.close(Duration::from_secs(1)));
    Ok(raced)
}

/// An account as applications have it: an administrator's would be let in beyond the server's limit.
fn application(server: &MariaDb) -> Result<Opts> {
    const USER: &str = "application";
    let all = opts(server.url())?;
    let password = all.pass().unwrap_or_default().to_string();
    server.try_execute(&format!("CREATE USER IF NOT EXISTS {USER} IDENTIFIED BY '{password}'"))?;
    Ok(OptsBuilder::from_opts(all).user(Some(USER)).db_name(None::<String>).into())
}

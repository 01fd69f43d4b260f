//! A crowd that comes at once: N tasks with one short query each, with a pool and without one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as MySqlError, Opts, OptsBuilder};
use tokio::sync::{Barrier, Semaphore};
use tokio::task::JoinSet;

use super::super::mysql::opts;
use super::observer::Observer;
use crate::{MySql, Pool};
use lab::runtime::block_on;
use lab::service::MariaDb;
use lab::{Doing, Frame, Link, Result, Trial};

/// The query of the prototype's benchmark: the server makes its client wait for 10 ms.
pub(super) const TEN_MS: &str = "SELECT SLEEP(0.01)";

/// A pool that has dialled all of its connections, and lets whoever borrows wait as long as it takes.
pub(super) fn dialled(url: &str, size: usize) -> Result<Pool<MySql>> {
    let pool = Pool::builder(MySql::new(url)?).size(size).acquire_timeout(Duration::from_secs(600)).build()?;
    block_on(pool.warm(size)).doing("dial the pool")?;
    Ok(pool)
}

/// Closes it, and its connections.
pub(super) fn close(pool: Pool<MySql>) -> Result<()> {
    block_on(pool.close(Duration::from_secs(1)));
    Ok(())
}

/// Crowds of several sizes on a dialled pool, each so many times.
///
/// A row for each crowd of so many `tasks`: until the last of them was done (`took`), and that over what theory says from the mean
/// service time of the same crowd, N / size × service (`over predicted`); the most connections at once, by the server's own count
/// (`at server`) and by the pool's (`in use`). And a row for each task of a crowd of so many `tasks`: from coming to getting a connection
/// (`waiting`), and from there to the answer (`service`).
pub fn crowds(server: &MariaDb, size: usize, sizes: &[(usize, usize)]) -> Result<(Frame, Frame)> {
    let pool = dialled(server.url(), size)?;
    let mut all = <(Frame, Frame)>::default();
    for &(tasks, repeats) in sizes {
        block_on(pool.warm(size)).doing("dial the pool")?;
        let mut observer = Observer::of(server, size)?;
        for _ in 0..repeats {
            let (seconds, each) = block_on(one_crowd(&pool, tasks))?;
            let predicted = tasks as f64 / size as f64 * each.samples("service").mean();
            let crowd = Frame::new()
                .counts("tasks", "", [tasks as u64])
                .numbers("took", "ms", [seconds * 1e3])
                .numbers("over predicted", "×", [seconds / predicted])
                .counts("at server", "", [observer.most()?])
                .counts("in use", "", [pool.stats().most_in_use as u64]);
            all.extend([(crowd, each.everywhere("tasks", "", tasks))]);
        }
    }
    close(pool)?;
    Ok(all)
}

/// How long it took, and what each task waited and needed.
async fn one_crowd(pool: &Pool<MySql>, tasks: usize) -> Result<(f64, Frame)> {
    let mut running = JoinSet::new();
    let start = Instant::now();
    for _ in 0..tasks {
        let pool = pool.clone();
        running.spawn(async move {
            let mut connection = pool.get().await.doing("borrow a connection")?;
            let got = Instant::now();
            connection.query_drop(TEN_MS).await.doing("run the query")?;
            Ok(((got - start).as_secs_f64(), got.elapsed().as_secs_f64())) as Result<(f64, f64)>
        });
    }
    let (mut waiting, mut service) = (Vec::new(), Vec::new());
    while let Some(done) = running.join_next().await {
        let (waited, served) = done.doing("run a task")??;
        waiting.push(waited);
        service.push(served);
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok((seconds, Frame::new().numbers("waiting", "s", waiting).numbers("service", "s", service)))
}

/// How tasks do without a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alone {
    /// Each dials, and nobody closes before all are done: the prototype, which left its answers unread.
    Leaking,
    /// Each dials, asks and closes; so many of them at a time: as many as a pool has connections.
    Closing(usize),
}

/// Crowds of so many `tasks` without a pool, so many times: until the last of them was done (`took`), how many were `refused` because of
/// too many connections, and the most connections at once, by the server's own count (`at server`).
pub fn without_pool(server: &MariaDb, way: Alone, tasks: usize, repeats: usize) -> Result<Frame> {
    let opts = application(server)?;
    let mut observer = Observer::of(server, 0)?;
    let crowd = |_| {
        observer.settle_for(0, Duration::from_millis(500))?;
        let start = Instant::now();
        let refused = block_on(unpooled(&opts, way, tasks))?;
        let took = start.elapsed().as_secs_f64();
        Ok(Frame::new()
            .counts("tasks", "", [tasks as u64])
            .numbers("took", "s", [took])
            .counts("refused", "", [refused as u64])
            .counts("at server", "", [observer.most()?]))
    };
    (0..repeats).map(crowd).collect()
}

async fn unpooled(opts: &Opts, way: Alone, tasks: usize) -> Result<usize> {
    let at_a_time = if let Alone::Closing(few) = way { few } else { tasks };
    let (gate, all_done) = (Arc::new(Semaphore::new(at_a_time)), Arc::new(Barrier::new(tasks)));
    let mut running = JoinSet::new();
    for _ in 0..tasks {
        let (opts, gate, all_done) = (opts.clone(), gate.clone(), all_done.clone());
        running.spawn(async move {
            let _turn = gate.acquire().await.doing("take a turn")?;
            let dialled = Conn::new(opts).await;
            let served = match dialled {
                Ok(mut connection) => connection.query_drop(TEN_MS).await.map(|()| Some(connection)),
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
pub fn over_a_wire(
    server: &MariaDb,
    delay: Duration,
    size: usize,
    tasks: usize,
    rounds: usize,
) -> Result<Trial<&'static str>> {
    let link = Link::to(server.address())?;
    let url = server.url().replacen(server.address(), link.address(), 1);
    let (pool, opts) = (dialled(&url, size)?, opts(&url)?);
    link.delay(delay);
    let trial = Trial::over(["a pool", "dialling each time"], rounds).run(|arm, _, figures| {
        let served = match *arm {
            "a pool" => block_on(one_crowd(&pool, tasks))?.1.height(),
            _ => tasks - block_on(unpooled(&opts, Alone::Closing(size), tasks))?,
        };
        figures.work("served", served as u64);
        Ok(())
    });
    close(pool)?;
    trial
}

/// An account as applications have it: an administrator's would be let in beyond the server's limit.
fn application(server: &MariaDb) -> Result<Opts> {
    const USER: &str = "application";
    let all = opts(server.url())?;
    let password = all.pass().unwrap_or_default().to_string();
    server.try_execute(&format!("CREATE USER IF NOT EXISTS {USER} IDENTIFIED BY '{password}'"))?;
    Ok(OptsBuilder::from_opts(all).user(Some(USER)).db_name(None::<String>).into())
}

//! A pool is closed while people work: who finishes, who is refused, and what is left at the server?

use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::observer::Observer;
use crate::{Closing, MySql, Pool, PoolError};
use lab::runtime::block_on;
use lab::service::MariaDb;
use lab::{Doing, Frame, Result};

/// Closes a full pool with a queue in front of it: first without patience, then with enough of it. Borrowers that were `working`, in the
/// middle of a statement, when it began to close, and those of them whose statement was answered (`finished`); those in the queue at that
/// moment (`waiting`), those who came `late`, and those of both who were told that the pool is closed (`refused`); the longest time that
/// a refusal took, over the time that the working ones still needed (`slowest refusal`); borrowers who had not given back what they had
/// when a close of no patience returned (`impatient left`), and one of enough (`patient left`); and connections at the server when it was
/// over (`at server`).
pub fn closing(server: &MariaDb, size: usize) -> Result<Frame> {
    block_on(close_a_full_pool(server, size))
}

async fn close_a_full_pool(server: &MariaDb, size: usize) -> Result<Frame> {
    let pool = Pool::builder(MySql::new(server.url())?).size(size).build()?;
    pool.warm(size).await.doing("dial the pool")?;
    let mut observer = Observer::of(server, size)?;
    let mut working = JoinSet::new();
    for _ in 0..size {
        let pool = pool.clone();
        working.spawn(async move {
            let Ok(mut connection) = pool.get().await else { return false };
            connection.query_drop("SELECT SLEEP(0.2)").await.is_ok()
        });
    }
    while pool.stats().in_use < size {
        sleep(Duration::from_millis(1)).await;
    }
    let mut queue = JoinSet::new();
    let ask = |pool: Pool<MySql>, began: Instant| async move {
        (matches!(pool.get().await, Err(PoolError::Closed)), began.elapsed())
    };
    let waiting = 2 * size;
    let closing = Instant::now();
    for _ in 0..waiting {
        queue.spawn(ask(pool.clone(), closing));
    }
    while pool.stats().waiting < waiting {
        sleep(Duration::from_millis(1)).await;
    }
    let closing = Instant::now();
    let impatient = pool.close(Duration::from_millis(1)).await;
    let late = size;
    for _ in 0..late {
        queue.spawn(ask(pool.clone(), closing));
    }
    let told = queue.join_all().await;
    let refused_after = closing.elapsed();
    let patient: Closing = pool.close(Duration::from_secs(10)).await;
    let over = closing.elapsed();
    let finished = working.join_all().await.into_iter().filter(|answered| *answered).count();
    observer.settle(0)?;
    let counts = [
        ("working", size),
        ("finished", finished),
        ("waiting", waiting),
        ("late", late),
        ("refused", told.iter().filter(|(refused, _)| *refused).count()),
        ("impatient left", impatient.still_out),
        ("patient left", patient.still_out),
        ("at server", observer.now()? as usize),
    ];
    let refusal = refused_after.as_secs_f64() / over.as_secs_f64();
    let frame = Frame::new().numbers("slowest refusal", "", [refusal]);
    Ok(counts.into_iter().fold(frame, |frame, (name, count)| frame.counts(name, "", [count as u64])))
}

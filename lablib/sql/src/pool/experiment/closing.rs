//! A pool is closed while people work: who finishes, who is refused, and what is left at the server?

use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::observer::Observer;
use crate::pool::{Closing, MySql, Pool, PoolError};
use lab::runtime::block_on;
use lab::service::MariaDb;
use lab::{Doing, OrFail, Result};

/// What a closing pool did to those who were there.
#[derive(Debug, Clone, Copy)]
pub struct Farewell {
    /// Borrowers in the middle of a statement when it began to close.
    pub working: usize,
    /// Those of them whose statement was answered.
    pub finished: usize,
    /// Borrowers in the queue at that moment.
    pub waiting: usize,
    /// Those of them, and of those who came afterwards, who were told that the pool is closed.
    pub refused: usize,
    /// Borrowers who came afterwards.
    pub late: usize,
    /// The longest time that a refusal took, over the time that the working ones still needed.
    pub slowest_refusal: f64,
    /// Borrowers who had not given back what they had when a close of no patience returned.
    pub impatient_left: usize,
    /// The same, when a close of enough patience returned.
    pub patient_left: usize,
    /// Connections at the server when it was over.
    pub at_server: u64,
}

/// Closes a full pool with a queue in front of it: first without patience, then with enough of it.
pub fn farewell(server: &MariaDb, size: usize) -> Farewell {
    block_on(try_farewell(server, size)).or_fail()
}

async fn try_farewell(server: &MariaDb, size: usize) -> Result<Farewell> {
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
    Ok(Farewell {
        working: size,
        finished,
        waiting,
        refused: told.iter().filter(|(refused, _)| *refused).count(),
        late,
        slowest_refusal: refused_after.as_secs_f64() / over.as_secs_f64(),
        impatient_left: impatient.still_out,
        patient_left: patient.still_out,
        at_server: observer.now()?,
    })
}

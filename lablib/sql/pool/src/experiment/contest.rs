//! Ours against the pools of the field: who waits how long, and who is served before whom.

use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use tokio::sync::{mpsc, oneshot};

use super::observer::Observer;
use crate::Skip;
use crate::rivals::{AnyPool, Rival, Setup};
use lab::runtime::block_on;
use lab::service::MariaDb;
use lab::{Crowd, Doing, Error, Result, Trial};

/// The contest: clients that borrow, ask and give back, again and again.
#[derive(Debug, Clone, Copy)]
pub struct ContestSpec {
    pub size: usize,
    pub clients: usize,
    /// Queries of each client in one round: as many for one as for another.
    pub queries: u64,
    /// How long the server lets each query wait.
    pub sleep: Duration,
    /// Rounds; the pools take turns in each.
    pub rounds: usize,
}

/// All pools, in turns. Figures: `wait p50`, `wait p99` and `wait max`, `longest ÷ mean` of a round's waits, and the `statements` that
/// the server was sent, as many by one pool as by another.
pub fn contest(server: &MariaDb, spec: ContestSpec) -> Result<Trial<Rival>> {
    let query = format!("SELECT SLEEP({})", spec.sleep.as_secs_f64());
    let mut observer = Observer::of(server, 0)?;
    Trial::over(Rival::ALL, spec.rounds)
        .open(|rival| block_on(AnyPool::warmed(*rival, server.url(), Setup::of(spec.size))))
        .close(|pool| {
            block_on(pool.end());
            Ok(())
        })
        .counting("statements", || observer.questions())
        .run(|_, pool, figures| {
            let ran = Crowd::of(spec.clients).times(spec.queries).run(|_, call| {
                block_on(async {
                    let came = Instant::now();
                    let mut connection = pool.get().await?;
                    call.note("wait", "s", came.elapsed().as_secs_f64());
                    connection.query_drop(&query).await.doing("run the query")
                })
            })?;
            figures.latency("wait", &ran.frame.latency("wait"));
            figures.push("longest ÷ mean", "×", ran.frame.samples("wait").max_over_mean());
            Ok(())
        })
}

/// Pairs of borrowers, numbered as they came and in the order in which they were served, of whom the later one was served first.
pub(super) fn overtakings(served: &[usize]) -> usize {
    let later_first = |(index, first): (usize, &usize)| served[index..].iter().filter(|next| *next < first).count();
    served.iter().enumerate().map(later_first).sum()
}

/// Borrowers who come a few milliseconds apart to a pool of one connection that somebody holds: in which order they are served.
pub(super) async fn queue(server: &MariaDb, rival: Rival, borrowers: usize, skip: Option<Skip>) -> Result<Vec<usize>> {
    let setup = Setup { skip, acquire_timeout: Duration::from_secs(10), ..Setup::of(1) };
    let pool = AnyPool::new(rival, server.url(), setup).await?;
    let held = pool.get().await?;
    let (done, mut all_done) = mpsc::unbounded_channel();
    for number in 0..borrowers {
        let (mine, done) = (pool.clone(), done.clone());
        let (here, came) = oneshot::channel();
        tokio::spawn(async move {
            let _ = here.send(());
            let got = mine.get().await;
            // Noted while the connection is held: nobody else can have one.
            let _ = done.send(got.as_ref().map(|_| number).map_err(Clone::clone));
            drop(got);
        });
        came.await.doing("send a borrower in")?;
        in_the_queue(&pool, number + 1).await?;
    }
    drop((held, done));
    let mut served = Vec::new();
    while let Some(number) = all_done.recv().await {
        served.push(number?);
    }
    pool.end().await;
    if served.len() != borrowers {
        return Err(Error::new("serve the queue", format!("{} of {borrowers} were served", served.len())));
    }
    Ok(served)
}

/// Until the last borrower stands in the queue. Ours says so; with the others it takes a guess, and a generous one.
pub(super) async fn in_the_queue(pool: &AnyPool, borrowers: usize) -> Result<()> {
    let AnyPool::Ours(pool) = pool else {
        tokio::time::sleep(Duration::from_millis(3)).await;
        return Ok(());
    };
    for _ in 0..5_000 {
        if pool.stats().waiting == borrowers {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Err(Error::new("send a borrower in", "it did not come to the queue"))
}

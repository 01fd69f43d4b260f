//! Ours against the pools of the field: who waits how long, and who is served before whom.

use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::observer::Observer;
use super::rivals::{AnyPool, Rival, Setup};
use crate::pool::Skip;
use lab::runtime::block_on;
use lab::service::MariaDb;
use lab::{Doing, Error, Latency, OrFail, Result, Samples};

/// The contest: clients that borrow, ask and give back, again and again.
#[derive(Debug, Clone, Copy)]
pub struct ContestSpec {
    /// Connections of each pool.
    pub size: usize,
    /// Clients that share them.
    pub clients: usize,
    /// Queries of each client in one round: as many for one as for another.
    pub queries: usize,
    /// How long the server lets each query wait.
    pub sleep: Duration,
    /// Rounds; the pools take turns in each.
    pub rounds: usize,
}

/// How one pool did.
#[derive(Debug, Clone)]
pub struct Contestant {
    /// Which pool.
    pub rival: Rival,
    /// How long each round took.
    pub seconds: Samples,
    /// The longest wait of a round over its mean wait.
    pub longest_over_mean: Samples,
    /// The 99th percentile of the waits of each round, in milliseconds.
    pub waiting_p99: Samples,
    /// All waits.
    pub waiting: Latency,
    /// Statements that the server was sent in a round.
    pub statements: Samples,
}

/// Who does at least as well as everybody else, and how far ours is behind.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// The best of the rivals, by its median.
    pub best: Rival,
    /// Our median over theirs.
    pub ratio: f64,
    /// Our median over theirs plus the spread of the rounds, the larger standard deviation of the two.
    pub beyond_spread: f64,
    /// The worst rival's median over ours.
    pub worst: f64,
}

impl Standing {
    /// How ours stands by one figure, the smaller the better.
    pub fn of(field: &[Contestant], figure: impl Fn(&Contestant) -> &Samples) -> Self {
        let ours = field.iter().find(|one| one.rival == Rival::Ours);
        let best = field
            .iter()
            .filter(|one| one.rival != Rival::Ours)
            .min_by(|a, b| figure(a).median().total_cmp(&figure(b).median()));
        let (Some(ours), Some(best)) = (ours, best) else {
            return Self { best: Rival::Ours, ratio: f64::NAN, beyond_spread: f64::NAN, worst: f64::NAN };
        };
        let (mine, theirs) = (figure(ours), figure(best));
        let spread = mine.standard_deviation().max(theirs.standard_deviation());
        let (mine, theirs) = (mine.median(), theirs.median());
        let worst = field.iter().map(|one| figure(one).median()).fold(mine, f64::max) / mine;
        Self { best: best.rival, ratio: mine / theirs, beyond_spread: mine / (theirs + spread), worst }
    }
}

/// All pools, in turns, over so many rounds and one that warms up.
pub fn contest(server: &MariaDb, spec: ContestSpec) -> Vec<Contestant> {
    block_on(try_contest(server, spec)).or_fail()
}

async fn try_contest(server: &MariaDb, spec: ContestSpec) -> Result<Vec<Contestant>> {
    let mut field = Vec::new();
    for rival in Rival::ALL {
        let pool = AnyPool::new(rival, server.url(), Setup::of(spec.size)).await?;
        pool.warm(spec.size).await?;
        let [seconds, longest_over_mean, waiting_p99, statements] = std::array::from_fn(|_| Samples::default());
        let waiting = Latency::new();
        field.push((pool, Contestant { rival, seconds, longest_over_mean, waiting_p99, waiting, statements }));
    }
    let mut observer = Observer::of(server, spec.size * Rival::ALL.len())?;
    for round in 0..=spec.rounds {
        let mut order: Vec<usize> = (0..field.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let (pool, seen) = &mut field[index];
            let before = observer.questions()?;
            let began = Instant::now();
            let waiting = one_round(pool, spec).await?;
            let seconds = began.elapsed().as_secs_f64();
            // The second look itself is one of them.
            let statements = observer.questions()? - before - 1;
            if round > 0 {
                seen.seconds.push(seconds);
                seen.statements.push(statements as f64);
                seen.longest_over_mean.push(waiting.max().as_secs_f64() / waiting.mean().as_secs_f64());
                seen.waiting_p99.push(waiting.p99().as_secs_f64() * 1e3);
                seen.waiting.merge(&waiting);
            }
        }
    }
    let mut seen = Vec::new();
    for (pool, contestant) in field {
        pool.end().await;
        seen.push(contestant);
    }
    Ok(seen)
}

async fn one_round(pool: &AnyPool, spec: ContestSpec) -> Result<Latency> {
    let query = format!("SELECT SLEEP({})", spec.sleep.as_secs_f64());
    let mut running = JoinSet::new();
    for _ in 0..spec.clients {
        let (pool, query) = (pool.clone(), query.clone());
        running.spawn(async move {
            let mut waiting = Latency::new();
            for _ in 0..spec.queries {
                let came = Instant::now();
                let mut connection = pool.get().await?;
                let waited = came.elapsed();
                connection.query_drop(&query).await.doing("run the query")?;
                drop(connection);
                waiting.record(waited);
            }
            Ok(waiting) as Result<Latency>
        });
    }
    let mut all = Latency::new();
    while let Some(done) = running.join_next().await {
        all.merge(&done.doing("run a client")??);
    }
    Ok(all)
}

/// In which order those were served who came one after the other.
#[derive(Debug, Clone)]
pub struct Queue {
    /// Which pool.
    pub rival: Rival,
    /// The numbers of the borrowers, in the order in which they were served.
    pub served: Vec<usize>,
}

impl Queue {
    /// Pairs of borrowers of whom the later one was served first.
    pub fn overtakings(&self) -> usize {
        let later_first =
            |(index, first): (usize, &usize)| self.served[index..].iter().filter(|next| *next < first).count();
        self.served.iter().enumerate().map(later_first).sum()
    }
}

/// Borrowers who come a few milliseconds apart to a pool of one connection that somebody holds.
pub fn queue(server: &MariaDb, rival: Rival, borrowers: usize, skip: Option<Skip>) -> Queue {
    block_on(try_queue(server, rival, borrowers, skip)).or_fail()
}

async fn try_queue(server: &MariaDb, rival: Rival, borrowers: usize, skip: Option<Skip>) -> Result<Queue> {
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
    Ok(Queue { rival, served })
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

//! Borrowers with bad manners: who gives up, panics, is cut off, or leaves something open. What does the next one get?

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable as _;
use mysql_async::consts::StatusFlags;
use mysql_async::prelude::Queryable as _;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::contest::{in_the_queue, overtakings, queue};
use super::observer::Observer;
use crate::Skip;
use crate::rivals::{AnyConn, AnyPool, Rival, Setup};
use lab::runtime::block_on;
use lab::service::MariaDb;
use lab::{Doing, Frame, Result, Rng};

/// What a borrower does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Looks at the connection, writes a row, gives it back.
    Good,
    /// Goes away in the very moment at which its turn comes.
    GivesUp,
    /// Is cut off in the middle of a statement.
    Interrupted,
    /// Panics in the middle of a transaction.
    Panics,
    /// Gives back a connection with an open transaction.
    Forgets,
    /// Gives back a connection with half an answer unread.
    HalfReads,
    /// Gives back a connection on which nothing is committed by itself any more.
    SwitchesOff,
}

/// One `pool`, perhaps without one of its steps, and a crowd in which every second borrower has bad manners; the rivals are configured as
/// recommended. A row for each fault, `what others notice`, with its `count`:
///
/// - borrowers who were handed somebody's open transaction, or a connection that commits nothing (`open things handed on`);
/// - rows that were acknowledged and are not there (`rows lost`), rows of abandoned transactions that are there (`rows kept wrongly`), and
///   transactions that are still open when everybody has left (`transactions left open`);
/// - borrowers who waited until their time was over (`borrowers stuck`), and connections that cannot be had any more (`connections leaked`);
/// - borrowers who were handed a connection that the server had closed while it lay idle (`dead connections lent`);
/// - connections lent at once `beyond the size`, as the borrowers counted them;
/// - borrowers who were `not woken` although the one before them in the queue had gone away and left them a connection, and pairs of borrowers
///   served in the wrong order (`overtakings`).
///
/// In all rows the borrowers with good manners who got a connection (`served`), and the `most at the server` at once: one more than the size
/// ends abandoned statements.
pub fn manners(server: &MariaDb, rival: Rival, skip: Option<Skip>, borrowers: usize, seed: u64) -> Result<Frame> {
    block_on(try_manners(server, rival, skip, borrowers, seed))
}

/// A pool of one connection, which somebody holds; two wait. The first of them goes away when its turn comes: is the second one
/// woken?
async fn wakes_the_next(server: &MariaDb, rival: Rival, skip: Option<Skip>) -> Result<bool> {
    let patience = patience(skip);
    let setup = Setup { skip, acquire_timeout: patience, careful: true, ..Setup::of(1) };
    let pool = AnyPool::new(rival, server.url(), setup).await?;
    let held = pool.get().await?;
    let (first, second) = (pool.clone(), pool.clone());
    let giving_up = tokio::spawn(async move { give_up(&first).await });
    in_the_queue(&pool, 1).await?;
    let waiting = tokio::spawn(async move { timeout(patience, second.get()).await.is_ok_and(|got| got.is_ok()) });
    in_the_queue(&pool, 2).await?;
    drop(held);
    giving_up.await.doing("go away")?;
    let woken = waiting.await.doing("wait in the queue")?;
    pool.end().await;
    Ok(woken)
}

const SIZE: usize = 6;

/// How long a borrower waits at most. Where a step is left out that lets borrowers wait in vain, there is no point in waiting long.
fn patience(skip: Option<Skip>) -> Duration {
    match skip {
        Some(Skip::Wake | Skip::PassOn) => Duration::from_millis(400),
        _ => Duration::from_millis(1500),
    }
}

async fn try_manners(server: &MariaDb, rival: Rival, skip: Option<Skip>, borrowers: usize, seed: u64) -> Result<Frame> {
    for table in ["pool_ledger", "pool_abandoned"] {
        server.try_execute(&format!("CREATE OR REPLACE TABLE {table} (borrower INT PRIMARY KEY)"))?;
    }
    let setup = Setup { size: SIZE, acquire_timeout: patience(skip), careful: true, skip };
    let pool = AnyPool::warmed(rival, server.url(), setup).await?;
    let mut observer = Observer::of(server, SIZE)?;
    let one_more = one_more(&pool, skip).await?;
    let crowd = crowd(&pool, borrowers, patience(skip), seed).await?;
    let left_open = left_open(&mut observer)?;
    let leaked = leaked(&pool).await;
    let dead = lose_idle_ones(server, &pool, SIZE - leaked).await?;
    let most = observer.most()?;
    pool.end().await;
    let rows = |table: &str| -> Result<BTreeSet<usize>> {
        let rows: Vec<usize> =
            server.connect()?.query(format!("SELECT borrower FROM {table}")).doing("read the rows")?;
        Ok(rows.into_iter().collect())
    };
    let lost = crowd.acknowledged.difference(&rows("pool_ledger")?).count();
    // A pool without its bound, or one that wakes nobody, has no queue to speak of.
    let (mut overtaken, mut woken) = (0, true);
    if !matches!(skip, Some(Skip::Bound | Skip::Wake)) {
        overtaken = overtakings(&queue(server, rival, 20, skip).await?);
        woken = wakes_the_next(server, rival, skip).await?;
    }
    let faults: [(&str, u64); 10] = [
        ("open things handed on", crowd.handed_on),
        ("rows lost", lost as u64),
        ("rows kept wrongly", rows("pool_abandoned")?.len() as u64),
        ("transactions left open", left_open),
        ("borrowers stuck", crowd.stuck),
        ("connections leaked", leaked as u64),
        ("dead connections lent", dead),
        ("beyond the size", crowd.beyond.max(one_more) as u64),
        ("not woken", (!woken).into()),
        ("overtakings", overtaken as u64),
    ];
    let name = skip.map_or_else(|| rival.to_string(), |skip| format!("without {}", step(skip)));
    Ok(Frame::new()
        .text("what others notice", faults.map(|(fault, _)| fault))
        .counts("count", "", faults.map(|(_, count)| count))
        .everywhere("pool", "", name)
        .everywhere("served", "", crowd.served)
        .everywhere("most at the server", "", most))
}

/// Whether one more is lent while all are held: that a crowd holds them all at the same moment is luck.
async fn one_more(pool: &AnyPool, skip: Option<Skip>) -> Result<usize> {
    let _held = pool.hold(SIZE).await?;
    // Where it is lent, waiting for it ends at once.
    let limit = Duration::from_millis(if skip == Some(Skip::Bound) { 2_000 } else { 150 });
    Ok(usize::from(timeout(limit, pool.get()).await.is_ok_and(|lent| lent.is_ok())))
}

fn step(skip: Skip) -> &'static str {
    match skip {
        Skip::Bound => "the bound",
        Skip::Order => "the order",
        Skip::Wake => "waking the next",
        Skip::PassOn => "passing on",
        Skip::Clean => "cleaning",
        Skip::Check => "checking",
    }
}

/// What one borrower has to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Served { dirty: bool, written: Option<usize> },
    Nothing,
    Stuck,
}

/// What a crowd saw: whose rows were acknowledged, and how many of its borrowers fared how.
#[derive(Default)]
struct Crowded {
    acknowledged: BTreeSet<usize>,
    served: u64,
    handed_on: u64,
    stuck: u64,
    /// Connections that were held at once beyond the size.
    beyond: usize,
}

/// Everybody comes within a twentieth of a second.
async fn crowd(pool: &AnyPool, borrowers: usize, patience: Duration, seed: u64) -> Result<Crowded> {
    use Manner::{Forgets, GivesUp, Good, HalfReads, Interrupted, Panics, SwitchesOff};
    let twelve = [Good, GivesUp, Good, Panics, Good, Interrupted, Good, Forgets, Good, GivesUp, HalfReads, SwitchesOff];
    let mut manners: Vec<Manner> = twelve.into_iter().cycle().take(borrowers).collect();
    let mut rng = Rng::seeded(seed, "bad manners");
    rng.shuffle(&mut manners);
    let mut running = JoinSet::new();
    let holders = Arc::new(Holders::default());
    for (number, manner) in manners.into_iter().enumerate() {
        let (pool, holders, late) = (pool.clone(), holders.clone(), Duration::from_micros(rng.below(50_000)));
        running.spawn(async move {
            sleep(late).await;
            behave(&pool, manner, patience, number, &holders).await
        });
    }
    let mut seen = Crowded::default();
    while let Some(done) = running.join_next().await {
        match done {
            Ok(Told::Served { dirty, written }) => {
                seen.served += 1;
                seen.handed_on += u64::from(dirty);
                seen.acknowledged.extend(written);
            }
            Ok(Told::Stuck) => seen.stuck += 1,
            // Those who panic, do.
            Ok(Told::Nothing) | Err(_) => {}
        }
    }
    seen.beyond = holders.most.load(Ordering::Relaxed).saturating_sub(SIZE);
    Ok(seen)
}

/// How many hold a connection, as they count themselves: any pool, whatever it says of itself.
#[derive(Default)]
struct Holders {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// One who holds a connection, from when it was lent until just before it goes back, whatever becomes of its borrower.
struct Holding<'a>(&'a Holders);

impl<'a> Holding<'a> {
    fn one(holders: &'a Holders) -> Self {
        let now = holders.now.fetch_add(1, Ordering::SeqCst) + 1;
        holders.most.fetch_max(now, Ordering::SeqCst);
        Self(holders)
    }
}

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn behave(pool: &AnyPool, manner: Manner, patience: Duration, number: usize, holders: &Holders) -> Told {
    if manner == Manner::GivesUp {
        give_up(pool).await;
        return Told::Nothing;
    }
    let began = Instant::now();
    let Ok(mut connection) = pool.get().await else {
        return if began.elapsed() >= patience { Told::Stuck } else { Told::Nothing };
    };
    // Dropped before the connection is: declared after it.
    let _holding = Holding::one(holders);
    let abandoned = format!("INSERT INTO pool_abandoned VALUES ({number})");
    match manner {
        Manner::Good => return good(&mut connection, number).await,
        Manner::GivesUp => {}
        Manner::Interrupted => {
            let _ = timeout(Duration::from_millis(3), connection.query_drop("SELECT SLEEP(0.05)")).await;
        }
        Manner::Panics | Manner::Forgets => {
            let _ = connection.query_drop("START TRANSACTION").await;
            let _ = connection.query_drop(abandoned).await;
            if manner == Manner::Panics {
                // Unwinds like a panic, without the message that would end the notebook.
                std::panic::resume_unwind(Box::new("bad manners"));
            }
        }
        Manner::HalfReads => {
            let _ = connection.query_iter("SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3").await;
        }
        Manner::SwitchesOff => {
            let _ = connection.query_drop("SET autocommit = 0").await;
        }
    }
    Told::Nothing
}

/// Looks at what it was handed, and writes a row.
async fn good(connection: &mut AnyConn, number: usize) -> Told {
    if connection.query_drop("SELECT 1").await.is_err() {
        return Told::Nothing;
    }
    let dirty = connection.last_ok_packet().is_none_or(|ok| {
        let status = ok.status_flags();
        status.contains(StatusFlags::SERVER_STATUS_IN_TRANS) || !status.contains(StatusFlags::SERVER_STATUS_AUTOCOMMIT)
    });
    let written = connection.query_drop(format!("INSERT INTO pool_ledger VALUES ({number})")).await.is_ok();
    let written = written.then_some(number);
    let _ = connection.query_drop("SELECT SLEEP(0.001)").await;
    Told::Served { dirty, written }
}

/// Asks for a connection, and goes away when it is woken: its turn had come, and it never fetched what it was given.
async fn give_up(pool: &AnyPool) {
    let mut asked = false;
    let mut getting = pin!(pool.get());
    poll_fn(|context| {
        if std::mem::replace(&mut asked, true) {
            return Poll::Ready(());
        }
        getting.as_mut().poll(context).map(drop)
    })
    .await;
}

/// Transactions that are open when everybody has left, and stay so.
fn left_open(observer: &mut Observer) -> Result<u64> {
    let mut open = observer.transactions()?;
    for _ in 0..4 {
        if open > 0 {
            open = observer.transactions()?;
        }
    }
    Ok(open)
}

/// Connections that cannot be had any more.
async fn leaked(pool: &AnyPool) -> usize {
    let mut asking = JoinSet::new();
    for _ in 0..SIZE {
        let pool = pool.clone();
        asking.spawn(async move { pool.get().await });
    }
    // Nobody who has one lets go before all have been answered.
    let got: Vec<_> = asking.join_all().await.into_iter().flatten().collect();
    SIZE - got.len()
}

/// The server closes every connection that lies idle; whoever comes a little later must not notice. Returns how many did.
async fn lose_idle_ones(server: &MariaDb, pool: &AnyPool, connections: usize) -> Result<u64> {
    let numbers: Vec<u32> = pool.hold(connections).await?.iter().map(|connection| connection.id()).collect();
    sleep(Duration::from_millis(20)).await;
    for number in numbers {
        // One that its pool has closed by now is no longer there to be killed.
        let _ = server.try_execute(&format!("KILL {number}"));
    }
    sleep(IDLE).await;
    let mut dead = 0;
    for _ in 0..connections {
        if let Ok(mut connection) = pool.get().await {
            dead += u64::from(connection.query_drop("SELECT 1").await.is_err());
        }
    }
    Ok(dead)
}

/// Longer than ours is told to trust an idle connection here.
const IDLE: Duration = Duration::from_millis(150);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use lab::service;

    /// That a pool of the field lends none beyond its size is measured: one that has room for more than it should is seen.
    #[test]
    #[ignore = "needs mariadbd"]
    fn whoever_lends_one_more_is_seen_whichever_pool_it_is() {
        let server = service::mysql();
        for rival in Rival::ALL {
            let beyond = [0, 1].map(|more| {
                block_on(async {
                    let pool = AnyPool::new(rival, server.url(), Setup::of(SIZE + more)).await.unwrap();
                    let beyond = one_more(&pool, None).await.unwrap();
                    pool.end().await;
                    beyond
                })
            });
            assert_eq!(beyond, [0, 1], "{rival}");
        }
        let holders = Holders::default();
        let held = [(); 3].map(|()| Holding::one(&holders));
        drop(held);
        drop(Holding::one(&holders));
        assert_eq!((holders.most.into_inner(), holders.now.into_inner()), (3, 0));
    }
}

//! The pool's guarantees: on a server that a test can break at will, and on a real one.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lab::Rng;
use lab::runtime::{block_on, runtime};
use pool::{Condition, Manager, Pool, PoolError, Skip, Stage};
use proptest::prelude::*;
use tokio::time::{sleep, timeout};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A server in memory that counts, refuses, falls silent and loses connections when it is told to.
#[derive(Default)]
struct World {
    open: AtomicUsize,
    most_open: AtomicUsize,
    dialled: AtomicUsize,
    /// Attempts under way, and the most of them at once.
    dialling: AtomicUsize,
    most_dialling: AtomicUsize,
    checked: AtomicUsize,
    cleaned: AtomicUsize,
    /// Connections before this number are dead.
    dead_below: AtomicUsize,
    refuses: AtomicBool,
    silent: AtomicBool,
    slow_to_clean: AtomicBool,
}

#[derive(Clone, Default)]
struct Server(Arc<World>);

struct Wire {
    number: usize,
    world: Arc<World>,
    dirty: bool,
    broken: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("connection refused")
    }
}

impl std::error::Error for Refused {}

impl Drop for Wire {
    fn drop(&mut self) {
        self.world.open.fetch_sub(1, SeqCst);
    }
}

/// One who dials, until it has a connection or gives up.
struct Dialling<'a>(&'a World);

impl<'a> Dialling<'a> {
    fn one(world: &'a World) -> Self {
        let dialling = world.dialling.fetch_add(1, SeqCst) + 1;
        world.most_dialling.fetch_max(dialling, SeqCst);
        Self(world)
    }
}

impl Drop for Dialling<'_> {
    fn drop(&mut self) {
        self.0.dialling.fetch_sub(1, SeqCst);
    }
}

impl Server {
    fn lose_all(&self) {
        self.0.dead_below.store(self.0.dialled.load(SeqCst), SeqCst);
    }
}

impl Wire {
    /// A statement, as a borrower sends one.
    fn ask(&mut self) -> Result<(), Refused> {
        self.broken |= self.number < self.world.dead_below.load(SeqCst);
        if self.broken { Err(Refused) } else { Ok(()) }
    }
}

impl Manager for Server {
    type Connection = Wire;
    type Error = Refused;

    async fn connect(&self) -> Result<Wire, Refused> {
        let dialling = Dialling::one(&self.0);
        tokio::task::yield_now().await;
        while self.0.silent.load(SeqCst) {
            sleep(ms(1)).await;
        }
        if self.0.refuses.load(SeqCst) {
            return Err(Refused);
        }
        drop(dialling);
        let number = self.0.dialled.fetch_add(1, SeqCst);
        let open = self.0.open.fetch_add(1, SeqCst) + 1;
        self.0.most_open.fetch_max(open, SeqCst);
        Ok(Wire { number, world: self.0.clone(), dirty: false, broken: false })
    }

    async fn check(&self, wire: &mut Wire) -> Result<(), Refused> {
        self.0.checked.fetch_add(1, SeqCst);
        while self.0.silent.load(SeqCst) {
            sleep(ms(1)).await;
        }
        wire.ask()
    }

    async fn clean(&self, wire: &mut Wire) -> Result<(), Refused> {
        while self.0.slow_to_clean.load(SeqCst) {
            sleep(ms(1)).await;
        }
        self.0.cleaned.fetch_add(1, SeqCst);
        wire.dirty = false;
        wire.ask()
    }

    fn condition(&self, wire: &Wire) -> Condition {
        match (wire.broken, wire.dirty) {
            (true, _) => Condition::Broken,
            (false, true) => Condition::Dirty,
            (false, false) => Condition::Clean,
        }
    }
}

fn pool(server: &Server, size: usize) -> Pool<Server> {
    Pool::builder(server.clone()).size(size).acquire_timeout(ms(2_000)).build().unwrap()
}

/// Until something is so, and no longer than it takes a slow machine.
async fn until(what: &str, so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < ms(10_000), "never happened: {what}");
        sleep(ms(1)).await;
    }
}

// --- bounded, fair, in time -----------------------------------------------------------------------------------------

#[test]
fn never_more_connections_than_the_size() {
    block_on(async {
        let server = Server::default();
        let pool = pool(&server, 3);
        let mut running = tokio::task::JoinSet::new();
        for number in 0..200_u64 {
            let pool = pool.clone();
            running.spawn(async move {
                let mut wire = pool.get().await.unwrap();
                wire.ask().unwrap();
                if number % 5 == 0 {
                    wire.broken = true;
                }
                sleep(Duration::from_micros(200)).await;
            });
        }
        running.join_all().await;
        until("all are back", || pool.stats().in_use == 0).await;
        assert_eq!(server.0.most_open.load(SeqCst), 3);
        let stats = pool.stats();
        assert_eq!((stats.most_in_use, stats.lent, stats.waiting), (3, 200, 0), "{stats:?}");
        assert!(stats.dialled >= 40, "forty connections were broken and had to be dialled again: {stats:?}");
    });
}

/// Lets `borrowers` come one after the other to a pool of one that is taken, and says in which order they were served.
async fn order(skip: Option<Skip>, borrowers: usize) -> Vec<usize> {
    let pool = Pool::builder(Server::default()).size(1).skip(skip).build().unwrap();
    let held = pool.get().await.unwrap();
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut running = tokio::task::JoinSet::new();
    for number in 0..borrowers {
        let (mine, served) = (pool.clone(), served.clone());
        running.spawn(async move {
            let _wire = mine.get().await.unwrap();
            served.lock().unwrap().push(number);
        });
        until("it stands in the queue", || pool.stats().waiting == number + 1).await;
    }
    drop(held);
    running.join_all().await;
    std::mem::take(&mut *served.lock().unwrap())
}

#[test]
fn who_came_first_is_served_first() {
    block_on(async {
        assert_eq!(order(None, 40).await, (0..40).collect::<Vec<_>>());
        assert_ne!(order(Some(Skip::Order), 40).await, (0..40).collect::<Vec<_>>(), "the test would see it");
    });
}

#[test]
fn nobody_waits_longer_than_the_timeout_and_the_error_says_for_what() {
    block_on(async {
        let server = Server::default();
        let pool = Pool::builder(server.clone()).size(1).acquire_timeout(ms(40)).build().unwrap();
        let held = pool.get().await.unwrap();
        let began = Instant::now();
        let error = pool.get().await.unwrap_err();
        assert!(began.elapsed() >= ms(40));
        assert!(matches!(error, PoolError::Timeout { stage: Stage::Queue, size: 1, .. }), "{error:?}");
        assert!(error.to_string().starts_with("no connection of 1 came free within "), "{error}");
        assert_eq!((pool.stats().timed_out, pool.stats().waiting), (1, 0));
        // Two wait: what comes back reaches the second, though the first has gone.
        drop(held);
        assert!(pool.get().await.is_ok());
        // A server that does not answer is something else than a queue.
        server.lose_all();
        server.0.silent.store(true, SeqCst);
        sleep(ms(5)).await;
        let mut wire = pool.get().await.unwrap();
        assert!(wire.ask().is_err());
        drop(wire);
        let error = pool.get().await.unwrap_err();
        assert!(matches!(error, PoolError::Timeout { stage: Stage::Server, .. }), "{error:?}");
        server.0.silent.store(false, SeqCst);
        // A slow machine may need more than one attempt of 40 ms.
        let began = Instant::now();
        while pool.get().await.is_err() {
            assert!(began.elapsed() < ms(10_000), "it never recovered");
        }
    });
}

#[test]
fn the_latest_used_connection_is_lent_first_so_that_the_others_can_go() {
    block_on(async {
        let pool = pool(&Server::default(), 3);
        assert_eq!(pool.warm(99).await.unwrap(), 3);
        let number = pool.get().await.unwrap().number;
        for _ in 0..5 {
            assert_eq!(pool.get().await.unwrap().number, number);
        }
    });
}

// --- nothing leaks --------------------------------------------------------------------------------------------------

/// Polls a future `polls` times without letting it finish by itself, then drops it.
async fn cancelled_after(polls: usize, pool: &Pool<Server>) {
    let mut asking = Box::pin(pool.get());
    for _ in 0..polls {
        let polled =
            std::future::poll_fn(|context| std::task::Poll::Ready(asking.as_mut().poll(context).is_ready())).await;
        if polled {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_borrower_that_is_cancelled_anywhere_leaks_nothing() {
    for polls in 0..6 {
        for state in ["empty", "idle", "taken", "suspect", "silent"] {
            let server = Server::default();
            block_on(async {
                let pool = pool(&server, 1);
                let mut held = None;
                match state {
                    "empty" => {}
                    "taken" => held = Some(pool.get().await.unwrap()),
                    "silent" => server.0.silent.store(true, SeqCst),
                    _ => drop(pool.get().await.unwrap()),
                }
                if state == "suspect" {
                    server.lose_all();
                    assert!(pool.get().await.unwrap().ask().is_err());
                }
                let waiting = {
                    let pool = pool.clone();
                    tokio::spawn(async move { cancelled_after(polls, &pool).await })
                };
                tokio::task::yield_now().await;
                drop(held);
                waiting.await.unwrap();
                server.0.silent.store(false, SeqCst);
                until("its permit is back", || pool.stats().in_use == 0).await;
                assert!(pool.get().await.unwrap().ask().is_ok(), "{state} after {polls} polls");
                assert_eq!(server.0.most_open.load(SeqCst), 1, "{state} after {polls} polls");
            });
        }
    }
}

#[test]
fn a_borrower_that_panics_gives_back_what_it_had_and_it_is_cleaned() {
    block_on(async {
        let server = Server::default();
        let pool = pool(&server, 1);
        let task = {
            let pool = pool.clone();
            tokio::spawn(async move {
                let _wire = pool.get().await.unwrap();
                std::panic::resume_unwind(Box::new("on purpose"));
            })
        };
        assert!(task.await.unwrap_err().is_panic());
        assert!(pool.get().await.unwrap().ask().is_ok());
        assert_eq!((server.0.dialled.load(SeqCst), server.0.cleaned.load(SeqCst)), (1, 1));
        // A thread that knows nothing of tokio, as well.
        let wire = pool.get().await.unwrap();
        let thread = std::thread::spawn(move || {
            let _wire = wire;
            std::panic::resume_unwind(Box::new("on purpose"))
        });
        assert!(thread.join().is_err());
        assert!(pool.get().await.unwrap().ask().is_ok());
    });
}

#[test]
fn a_leak_can_be_seen() {
    block_on(async {
        let pool = pool(&Server::default(), 2);
        let leaked = pool.get().await.unwrap();
        let line = line!() - 1;
        sleep(ms(20)).await;
        let _other = pool.get().await.unwrap();
        let borrowed = pool.borrowed();
        assert_eq!((borrowed.len(), borrowed[0].at.line()), (2, line));
        assert!(borrowed[0].at.file().ends_with("pool.rs") && borrowed[0].held_for >= ms(20));
        drop(leaked);
        assert_eq!(pool.borrowed().len(), 1);
    });
}

#[test]
fn a_dirty_connection_is_cleaned_before_the_next_borrower_has_it_and_keeps_its_place() {
    block_on(async {
        let server = Server::default();
        server.0.slow_to_clean.store(true, SeqCst);
        let pool = Pool::builder(server.clone()).size(1).acquire_timeout(ms(30)).build().unwrap();
        pool.get().await.unwrap().dirty = true;
        // While it is being cleaned there is no other.
        assert!(matches!(pool.get().await.unwrap_err(), PoolError::Timeout { stage: Stage::Queue, .. }));
        server.0.slow_to_clean.store(false, SeqCst);
        until("it is clean", || pool.stats().idle == 1).await;
        assert!(!pool.get().await.unwrap().dirty);
        assert_eq!((pool.stats().cleaned, server.0.dialled.load(SeqCst)), (1, 1));
        // One that cannot be cleaned is closed.
        server.0.slow_to_clean.store(true, SeqCst);
        pool.get().await.unwrap().dirty = true;
        server.lose_all();
        server.0.slow_to_clean.store(false, SeqCst);
        until("it is gone", || pool.stats().closed == 1).await;
        let mut wire = pool.get().await.unwrap();
        assert!(wire.ask().is_ok() && !wire.dirty);
    });
}

#[test]
fn a_borrower_can_throw_a_connection_away() {
    block_on(async {
        let server = Server::default();
        let pool = pool(&server, 1);
        let wire = pool.get().await.unwrap();
        assert_eq!(wire.number, 0);
        pool::Pooled::discard(wire);
        assert_eq!(pool.get().await.unwrap().number, 1);
        assert_eq!(server.0.most_open.load(SeqCst), 1);
    });
}

/// Dropped with its permit, it looks whether the permit is still held.
struct Witness(pool::permits::Permits<Witness>, Arc<AtomicUsize>);

impl Drop for Witness {
    fn drop(&mut self) {
        self.1.store(self.0.gauge().in_use, SeqCst);
    }
}

#[test]
fn a_connection_is_gone_before_its_place_is_free() {
    let permits = pool::permits::Permits::new(1, None);
    let held = Arc::new(AtomicUsize::new(9));
    let mut permit = permits.try_acquire().unwrap();
    permit.hold(Some(Witness(permits.clone(), held.clone())));
    drop(permit);
    assert_eq!((held.load(SeqCst), permits.gauge().in_use), (1, 0));
}

// --- a server that goes and comes back ------------------------------------------------------------------------------

#[test]
fn after_one_connection_broke_the_older_ones_are_checked() {
    block_on(async {
        let server = Server::default();
        let pool = pool(&server, 4);
        pool.warm(4).await.unwrap();
        server.lose_all();
        sleep(ms(2)).await;
        let mut first = pool.get().await.unwrap();
        assert!(first.ask().is_err(), "nobody could know yet");
        drop(first);
        let mut held = Vec::new();
        for _ in 0..4 {
            let mut wire = pool.get().await.unwrap();
            assert!(wire.ask().is_ok());
            held.push(wire);
        }
        assert_eq!(pool.stats().checked, 3);
        drop(held);
        // Those are trusted again.
        let _ = pool.get().await.unwrap();
        assert_eq!(pool.stats().checked, 3);
    });
}

#[test]
fn one_that_lay_idle_for_long_is_checked_and_replaced_unnoticed() {
    block_on(async {
        let server = Server::default();
        let pool = Pool::builder(server.clone()).size(2).check_after(ms(20)).build().unwrap();
        pool.warm(2).await.unwrap();
        let _ = pool.get().await.unwrap();
        assert_eq!(pool.stats().checked, 0);
        sleep(ms(30)).await;
        server.lose_all();
        assert!(pool.get().await.unwrap().ask().is_ok());
        assert_eq!(pool.stats().checked, 1);
        let blind = Pool::builder(server.clone()).size(2).check_after(ms(20)).skip(Skip::Check).build().unwrap();
        blind.warm(2).await.unwrap();
        sleep(ms(30)).await;
        server.lose_all();
        assert!(blind.get().await.unwrap().ask().is_err(), "the test would see it");
    });
}

#[test]
fn a_connection_that_comes_back_unused_is_no_proof_of_its_server() {
    block_on(async {
        let server = Server::default();
        let pool = Pool::builder(server.clone()).size(1).check_after(ms(30)).build().unwrap();
        let unused = pool.get().await.unwrap();
        sleep(ms(50)).await;
        server.lose_all();
        drop(unused);
        assert!(pool.get().await.unwrap().ask().is_ok());
        assert_eq!((pool.stats().checked, pool.stats().dialled), (1, 2));
    });
}

#[test]
fn who_cannot_dial_casts_doubt_on_what_is_lent() {
    block_on(async {
        let server = Server::default();
        let pool = Pool::builder(server.clone()).size(2).check_after(ms(60_000)).retry_after(ms(1)).build().unwrap();
        let lent = pool.get().await.unwrap();
        server.lose_all();
        server.0.refuses.store(true, SeqCst);
        assert!(matches!(pool.get().await, Err(PoolError::Connect(Refused))));
        server.0.refuses.store(false, SeqCst);
        sleep(ms(5)).await;
        drop(lent);
        assert!(pool.get().await.unwrap().ask().is_ok(), "it was lent a connection of before");
        assert_eq!(pool.stats().refused, 1);
    });
}

/// The server says nothing any more. One borrower finds out; of those who come afterwards one at a time tries again, and all
/// others are told at once, though every attempt takes long and even where it takes the only place.
#[test]
fn while_a_server_is_silent_one_tries_and_everybody_else_is_told_at_once() {
    for size in [1, 4] {
        let server = Server::default();
        block_on(async {
            let pool = Pool::builder(server.clone())
                .size(size)
                .acquire_timeout(ms(5_000))
                .connect_timeout(ms(400))
                .retry_after(ms(10))
                .build()
                .unwrap();
            server.0.silent.store(true, SeqCst);
            assert!(matches!(pool.get().await, Err(PoolError::Unanswered(_))));
            let mut running = tokio::task::JoinSet::new();
            for _ in 0..100 {
                let pool = pool.clone();
                running.spawn(async move {
                    let began = Instant::now();
                    let told = pool.get().await.map(drop);
                    (began.elapsed() >= ms(300), matches!(told, Err(PoolError::Down { .. })))
                });
                sleep(ms(10)).await;
            }
            let told = running.join_all().await;
            let slow = told.iter().filter(|(slow, _)| *slow).count();
            let at_once = told.iter().filter(|(_, down)| *down).count();
            assert_eq!(server.0.most_dialling.load(SeqCst), 1, "of {size}: several tried at once");
            assert!(slow <= 12 && at_once >= 88, "of {size}: {slow} had to wait, {at_once} were told at once");
            // One who gives up while he tries leaves it to the next.
            let given_up = timeout(ms(50), pool.get()).await.is_err();
            server.0.silent.store(false, SeqCst);
            sleep(ms(20)).await;
            let mut back = false;
            for _ in 0..500 {
                back |= pool.get().await.is_ok();
                sleep(ms(1)).await;
            }
            assert!(back, "of {size}: it was never tried again, after one gave up ({given_up})");
        });
    }
}

#[test]
fn a_server_that_is_gone_is_reported_at_once_to_everybody_and_rarely_tried() {
    block_on(async {
        let server = Server::default();
        let pool =
            Pool::builder(server.clone()).size(2).acquire_timeout(ms(5_000)).retry_after(ms(300)).build().unwrap();
        server.0.refuses.store(true, SeqCst);
        let began = Instant::now();
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let pool = pool.clone();
            running.spawn(async move { pool.get().await.map(drop) });
        }
        let told = running.join_all().await;
        assert!(began.elapsed() < ms(2_500), "nobody waited for the timeout");
        let refused = told.iter().filter(|told| matches!(told, Err(PoolError::Connect(Refused)))).count();
        let down = told.iter().filter(|told| matches!(told, Err(PoolError::Down { .. }))).count();
        assert_eq!(refused + down, 100, "{told:?}");
        assert!(refused <= 20 && pool.stats().failed_fast == down as u64, "{refused} tried");
        let error = pool.get().await.unwrap_err().to_string();
        assert!(error.contains("could not be reached") && error.contains("connection refused"), "{error}");
        // And when it is back, so is the pool.
        server.0.refuses.store(false, SeqCst);
        sleep(ms(310)).await;
        assert!(pool.get().await.is_ok());
        assert_eq!(pool.stats().in_use, 0);
    });
}

#[test]
fn a_server_that_does_not_answer_counts_as_down_for_everybody_behind() {
    block_on(async {
        let server = Server::default();
        server.0.silent.store(true, SeqCst);
        let pool =
            Pool::builder(server.clone()).size(1).connect_timeout(ms(50)).retry_after(ms(5_000)).build().unwrap();
        let began = Instant::now();
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let pool = pool.clone();
            running.spawn(async move { pool.get().await.map(drop) });
        }
        let told = running.join_all().await;
        assert_eq!(told.iter().filter(|told| matches!(told, Err(PoolError::Unanswered(_)))).count(), 1, "{told:?}");
        assert!(began.elapsed() < ms(900), "the other nineteen did not try one after the other");
    });
}

// --- age, idleness, the end ------------------------------------------------------------------------------------------

#[test]
fn connections_go_when_they_are_too_old_whether_used_or_not() {
    block_on(async {
        let server = Server::default();
        let pool = Pool::builder(server.clone()).size(2).max_lifetime(ms(60)).idle_timeout(None).build().unwrap();
        pool.warm(2).await.unwrap();
        until("the sweeper has closed both", || server.0.open.load(SeqCst) == 0).await;
        assert_eq!(pool.stats().idle, 0);
        // One that is in use goes when it comes back, not before.
        let mut wire = pool.get().await.unwrap();
        sleep(ms(80)).await;
        assert!(wire.ask().is_ok());
        let number = wire.number;
        drop(wire);
        assert_ne!(pool.get().await.unwrap().number, number);
        assert!(server.0.most_open.load(SeqCst) <= 2);
    });
}

#[test]
fn connections_that_nobody_needs_go_and_the_pool_is_not_a_leak_itself() {
    block_on(async {
        let server = Server::default();
        let pool = Pool::builder(server.clone()).size(3).idle_timeout(ms(40)).build().unwrap();
        pool.warm(3).await.unwrap();
        // One is used all the time, so the other two have nothing to do.
        let began = Instant::now();
        while began.elapsed() < ms(400) && server.0.open.load(SeqCst) > 1 {
            drop(pool.get().await.unwrap());
            sleep(ms(2)).await;
        }
        assert_eq!(server.0.open.load(SeqCst), 1);
        let wire = pool.get().await.unwrap();
        drop(pool);
        drop(wire);
        until("the last connection is closed", || server.0.open.load(SeqCst) == 0).await;
    });
}

#[test]
fn closing_refuses_new_borrowers_and_waits_for_the_old_ones() {
    block_on(async {
        let server = Server::default();
        let pool = pool(&server, 3);
        pool.warm(3).await.unwrap();
        let mut held = vec![pool.get().await.unwrap(), pool.get().await.unwrap()];
        let full = pool.get().await.unwrap();
        let waiting = {
            let pool = pool.clone();
            tokio::spawn(async move { pool.get().await.map(drop) })
        };
        until("it waits", || pool.stats().waiting == 1).await;
        drop(full.world.clone());
        drop(full);
        waiting.await.unwrap().unwrap();
        let late = held.pop().unwrap();
        let working = tokio::spawn(async move {
            let mut wire = held.pop().unwrap();
            sleep(ms(60)).await;
            wire.ask().unwrap()
        });
        let too_soon = pool.close(ms(5)).await;
        assert_eq!((too_soon.still_out, pool.is_closed()), (2, true), "{too_soon:?}");
        assert!(matches!(pool.get().await, Err(PoolError::Closed)));
        let releasing = tokio::spawn(async move {
            sleep(ms(30)).await;
            drop(late)
        });
        let closing = pool.close(ms(5_000)).await;
        assert_eq!(closing.still_out, 0);
        working.await.unwrap();
        releasing.await.unwrap();
        assert_eq!((server.0.open.load(SeqCst), pool.stats().idle, pool.stats().in_use), (0, 0, 0));
        assert_eq!(pool.get().await.unwrap_err().to_string(), "the pool is closed");
    });
}

#[test]
fn closing_refuses_those_who_wait() {
    block_on(async {
        let pool = pool(&Server::default(), 1);
        let held = pool.get().await.unwrap();
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let pool = pool.clone();
            running.spawn(async move { pool.get().await.map(drop) });
        }
        until("all wait", || pool.stats().waiting == 10).await;
        assert_eq!(pool.close(ms(5)).await.still_out, 1);
        assert!(running.join_all().await.into_iter().all(|told| matches!(told, Err(PoolError::Closed))));
        drop(held);
        assert_eq!(pool.close(ms(5_000)).await.still_out, 0);
    });
}

// --- bad input -------------------------------------------------------------------------------------------------------

#[test]
fn settings_that_make_no_sense_are_refused_in_a_sentence() {
    let build = |change: fn(pool::Builder<Server>) -> pool::Builder<Server>| {
        change(Pool::builder(Server::default())).build().map(drop).unwrap_err().to_string()
    };
    assert!(build(|pool| pool.size(0)).contains("a pool of no connections lends none"));
    assert!(build(|pool| pool.max_lifetime(Duration::ZERO)).contains("no connection lives for no time"));
    assert!(build(|pool| pool.idle_timeout(Duration::ZERO)).contains("no connection lives for no time"));
    assert!(build(|pool| pool.connect_timeout(Duration::ZERO)).contains("no server answers in no time"));
    assert!(build(|pool| pool.check_timeout(Duration::ZERO)).contains("no server answers in no time"));
    assert!(pool::MySql::new("the moon").is_err());
    // No patience at all is fine: it takes what is free.
    block_on(async {
        let server = Server::default();
        let pool = Pool::builder(server.clone())
            .size(1)
            .acquire_timeout(Duration::ZERO)
            .max_lifetime(Duration::MAX)
            .build()
            .unwrap();
        server.0.silent.store(true, SeqCst);
        assert!(matches!(pool.get().await, Err(PoolError::Timeout { .. })), "dialling takes time");
        server.0.silent.store(false, SeqCst);
        let patient = Pool::builder(server).size(1).build().unwrap();
        assert!(patient.get().await.is_ok());
        assert!(format!("{patient:?}").contains("most_in_use: 1"));
    });
}

// --- whatever borrowers do, in whatever order -------------------------------------------------------------------------

#[derive(Debug, Clone, Copy)]
enum Act {
    Ask,
    Dirty,
    Break,
    Panic,
    GiveUp(u8),
    Lose,
    Discard,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::Ask),
        1 => Just(Act::Dirty),
        1 => Just(Act::Break),
        1 => Just(Act::Panic),
        2 => (0_u8..4).prop_map(Act::GiveUp),
        1 => Just(Act::Lose),
        1 => Just(Act::Discard),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Bounded, nothing dirty handed on, nobody stuck, and every permit back in the end.
    #[test]
    fn whatever_borrowers_do(acts in prop::collection::vec(act(), 1..60), size in 1_usize..4, seed in any::<u64>()) {
        let server = Server::default();
        let outcome = runtime().block_on(async {
            let pool = pool(&server, size);
            let mut running = tokio::task::JoinSet::new();
            let mut rng = Rng::seeded(seed, "acts");
            for act in acts {
                let (pool, server) = (pool.clone(), server.clone());
                let pauses = rng.below(4);
                running.spawn(async move {
                    if let Act::GiveUp(polls) = act {
                        cancelled_after(polls.into(), &pool).await;
                        return Ok(());
                    }
                    let mut wire = pool.get().await.map_err(|error| error.to_string())?;
                    if wire.dirty {
                        return Err("was handed something dirty".to_string());
                    }
                    for _ in 0..pauses {
                        tokio::task::yield_now().await;
                    }
                    let _ = wire.ask();
                    match act {
                        Act::Dirty => wire.dirty = true,
                        Act::Break => wire.broken = true,
                        Act::Lose => server.lose_all(),
                        Act::Discard => pool::Pooled::discard(wire),
                        Act::Panic => {
                            wire.dirty = true;
                            std::panic::resume_unwind(Box::new("on purpose"));
                        }
                        Act::Ask | Act::GiveUp(_) => {}
                    }
                    Ok(())
                });
            }
            while let Some(done) = running.join_next().await {
                match done {
                    Ok(told) => told?,
                    Err(error) if error.is_panic() => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
            until("all permits are back", || pool.stats().in_use == 0).await;
            let mut held = Vec::new();
            for _ in 0..size {
                held.push(timeout(ms(1_000), pool.get()).await.map_err(|_| "a permit leaked")?.map_err(|e| e.to_string())?);
            }
            let numbers: BTreeSet<usize> = held.iter().map(|wire| wire.number).collect();
            if numbers.len() == size { Ok(()) } else { Err("one connection was lent twice".to_string()) }
        });
        prop_assert_eq!(outcome, Ok(()));
        prop_assert!(server.0.most_open.load(SeqCst) <= size);
    }
}

// --- a real server ----------------------------------------------------------------------------------------------------

mod on_a_real_server {
    use super::*;
    use lab::service::MariaDb;
    use lab::{Experiment, Link};
    use mysql_async::prelude::Queryable;
    use pool::MySql;
    use pool::experiment::{Alone, Rival, crowds, manners, without_pool};

    fn server() -> MariaDb {
        MariaDb::with("max_connections", "60").start().unwrap()
    }

    fn connected(server: &MariaDb) -> u64 {
        // The one that asks is one of them.
        server.ask("SELECT VARIABLE_VALUE - 1 FROM information_schema.global_status WHERE VARIABLE_NAME = 'Threads_connected'").unwrap().parse().unwrap()
    }

    #[test]
    #[ignore = "needs mariadbd"]
    fn no_borrower_leaves_anything_open_to_the_next() {
        let server = server();
        server.execute("CREATE TABLE t (id INT PRIMARY KEY)");
        block_on(async {
            let pool = Pool::builder(MySql::new(server.url()).unwrap()).size(1).build().unwrap();
            for (number, leave) in
                ["START TRANSACTION", "SET autocommit = 0", "BEGIN", "XA START 'x'"].into_iter().enumerate()
            {
                let mut connection = pool.get().await.unwrap();
                connection.query_drop(leave).await.unwrap();
                connection.query_drop(format!("INSERT INTO t VALUES ({number})")).await.unwrap();
                drop(connection);
                let mut connection = pool.get().await.unwrap();
                // Would commit what the other one began.
                connection.query_drop("START TRANSACTION").await.unwrap();
                connection.query_drop("COMMIT").await.unwrap();
                let rows: Option<u64> = connection.query_first("SELECT COUNT(*) FROM t").await.unwrap();
                assert_eq!(rows, Some(0), "after {leave}");
                let auto: Option<u64> = connection.query_first("SELECT @@autocommit").await.unwrap();
                assert_eq!(auto, Some(1), "after {leave}");
            }
            // An error in a transaction; half an answer, before which a transaction was opened by a setting.
            for statement in ["SELECT nothing", "SELECT 1 FROM information_schema.columns"] {
                let mut connection = pool.get().await.unwrap();
                connection.query_drop("SET autocommit = 0").await.unwrap();
                connection.query_drop("INSERT INTO t VALUES (9)").await.unwrap();
                let _ = connection.query_iter(statement).await;
                drop(connection);
                let mut connection = pool.get().await.unwrap();
                let auto: Option<u64> = connection.query_first("SELECT @@autocommit").await.unwrap();
                assert_eq!(auto, Some(1), "after {statement}");
            }
            assert_eq!(pool.stats().dialled, 1, "all of it on one connection");
            assert_eq!(pool.stats().cleaned, 6);
            // A transaction that was prepared outlives its session, and is not the next borrower's.
            let mut connection = pool.get().await.unwrap();
            for statement in ["XA START 'y'", "INSERT INTO t VALUES (10)", "XA END 'y'", "XA PREPARE 'y'"] {
                connection.query_drop(statement).await.unwrap();
            }
            drop(connection);
            let mut connection = pool.get().await.unwrap();
            connection.query_drop("START TRANSACTION").await.unwrap();
            connection.query_drop("INSERT INTO t VALUES (11)").await.unwrap();
            connection.query_drop("ROLLBACK").await.unwrap();
        });
        assert_eq!(server.ask("SELECT COUNT(*) FROM t").unwrap(), "0");
    }

    /// What no flag of an answer tells.
    #[test]
    #[ignore = "needs mariadbd"]
    fn nothing_of_a_session_is_left_where_connections_are_always_reset() {
        let server = server();
        server.execute("CREATE TABLE t (id INT PRIMARY KEY)");
        server.execute("CREATE TABLE u (id INT PRIMARY KEY)");
        block_on(async {
            let manager = MySql::new(server.url()).unwrap().reset_always();
            let pool = Pool::builder(manager).size(1).build().unwrap();
            let mut connection = pool.get().await.unwrap();
            for statement in [
                "SET @mine = 1",
                "CREATE TEMPORARY TABLE passing (id INT)",
                "SELECT GET_LOCK('mine', 0)",
                "LOCK TABLES t READ",
                "SET SESSION TRANSACTION READ ONLY",
                "USE information_schema",
            ] {
                connection.query_drop(statement).await.unwrap();
            }
            drop(connection);
            let mut connection = pool.get().await.unwrap();
            connection.query_drop("INSERT INTO u VALUES (1)").await.unwrap();
            let left: Option<(Option<u8>, u8, Option<u8>)> =
                connection.query_first("SELECT @mine, @@tx_read_only, IS_USED_LOCK('mine') IS NOT NULL").await.unwrap();
            assert_eq!(left, Some((None, 0, Some(0))));
            assert!(connection.query_drop("SELECT * FROM lab.passing").await.is_err());
            assert_eq!(pool.stats().dialled, 1);
        });
    }

    #[test]
    #[ignore = "needs mariadbd"]
    fn half_an_answer_makes_a_connection_dirty_and_a_whole_one_does_not() {
        let server = server();
        block_on(async {
            let manager = MySql::new(server.url()).unwrap();
            let mut connection = manager.connect().await.unwrap();
            assert_eq!(manager.condition(&connection), Condition::Clean, "as dialled");
            connection.query_drop("SELECT 1 UNION ALL SELECT 2").await.unwrap();
            assert_eq!(manager.condition(&connection), Condition::Clean, "read to its end");
            connection.exec_drop("SELECT ?", (1,)).await.unwrap();
            assert_eq!(manager.condition(&connection), Condition::Clean, "a prepared statement");
            drop(connection.query_iter("SELECT 1 UNION ALL SELECT 2").await.unwrap());
            assert_eq!(manager.condition(&connection), Condition::Dirty, "half read");
            manager.clean(&mut connection).await.unwrap();
            assert_eq!(manager.condition(&connection), Condition::Clean, "cleaned");
            assert!(connection.query_drop("SELECT nothing").await.is_err());
            assert_eq!(manager.condition(&connection), Condition::Dirty, "after an error");
            manager.clean(&mut connection).await.unwrap();
            let _ = timeout(ms(20), connection.query_drop("SELECT SLEEP(0.3)")).await;
            assert_eq!(manager.condition(&connection), Condition::Broken, "left in the middle");
            let always = MySql::new(server.url()).unwrap().reset_always();
            assert_eq!(always.condition(&always.connect().await.unwrap()), Condition::Dirty);
        });
    }

    #[test]
    #[ignore = "needs mariadbd"]
    fn a_statement_that_was_left_is_ended_at_the_server_and_its_locks_are_free() {
        let server = server();
        server.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT)");
        server.execute("INSERT INTO t VALUES (1, 0)");
        block_on(async {
            // At once after the server's start, as everybody dials who has seen it go and come back.
            let pool = Pool::builder(MySql::new(server.url()).unwrap()).size(2).build().unwrap();
            let mut connection = pool.get().await.unwrap();
            connection.query_drop("START TRANSACTION").await.unwrap();
            connection.query_drop("UPDATE t SET v = 1").await.unwrap();
            let _ = timeout(ms(50), connection.query_drop("SELECT SLEEP(30)")).await;
            drop(connection);
            let mut other = pool.get().await.unwrap();
            other.query_drop("SET innodb_lock_wait_timeout = 10").await.unwrap();
            other.query_drop("UPDATE t SET v = 2").await.unwrap();
            drop(other);
            until("its permit is back", || pool.stats().in_use == 0).await;
        });
        assert_eq!(server.ask("SELECT v FROM t").unwrap(), "2");
        assert_eq!(
            server.ask("SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%SLEEP(30)' ").unwrap(),
            "0"
        );
    }

    /// A server that was restarted counts from one again.
    #[test]
    #[ignore = "needs mariadbd"]
    fn nobody_is_killed_who_has_the_number_of_a_connection_of_before() {
        let server = server();
        block_on(async {
            let pool = Pool::builder(MySql::new(server.url()).unwrap()).size(20).build().unwrap();
            let mut held = Vec::new();
            for _ in 0..20 {
                held.push(pool.get().await.unwrap());
            }
            let mut left = held.pop().unwrap();
            let number = left.id();
            drop(held);
            server.kill();
            server.restart();
            assert!(left.query_drop("SELECT 1").await.is_err());
            let mut others: Vec<mysql::Conn> = Vec::new();
            while others.last().is_none_or(|other| other.connection_id() < number) {
                others.push(mysql::Conn::new(server.url()).unwrap());
            }
            assert!(others.iter().any(|other| other.connection_id() == number), "nobody got the number {number}");
            drop(left);
            until("its place is free", || pool.stats().in_use == 0).await;
            for other in &mut others {
                let number = other.connection_id();
                assert!(mysql::prelude::Queryable::query_drop(other, "SELECT 1").is_ok(), "{number} was killed");
            }
        });
    }

    #[test]
    #[ignore = "needs mariadbd"]
    fn the_server_counts_no_more_than_the_size_and_none_when_it_is_closed() {
        let server = server();
        let (crowds, tasks) = crowds(&server, 5, &[(5, 1), (200, 2)]).unwrap();
        for crowd in crowds.rows() {
            assert_eq!((crowd.number("at server"), crowd.number("in use")), (5.0, 5.0));
        }
        assert_eq!(tasks.filter("tasks", 200).height(), 400);
        let began = Instant::now();
        while connected(&server) > 0 {
            assert!(began.elapsed() < ms(5_000));
        }
    }

    #[test]
    #[ignore = "needs mariadbd"]
    fn without_a_pool_the_server_refuses_whoever_is_too_many() {
        let server = server();
        let seen = without_pool(&server, Alone::Leaking, 100, 2).unwrap();
        // One of the sixty is the test's own, which counts. The server lets one more in, who may be an administrator, and looks
        // at who it is later: somebody who comes meanwhile finds it one too many as well.
        for refused in seen.samples("refused").values() {
            assert!((41.0..=44.0).contains(refused), "{refused}");
        }
        let most = seen.samples("at server").max();
        assert!((59.0..=60.0).contains(&most), "{most}");
        assert_eq!(without_pool(&server, Alone::Closing(10), 100, 1).unwrap().number("refused"), 0.0);
    }

    #[test]
    #[ignore = "needs mariadbd"]
    fn a_server_that_refuses_is_not_a_server_that_is_down() {
        let server = server();
        block_on(async {
            let wrong = server.url().replacen("lab:", "lab:wrong", 1);
            assert_ne!(wrong, server.url());
            let pool = Pool::builder(MySql::new(&wrong).unwrap()).size(1).build().unwrap();
            for _ in 0..3 {
                let error = pool.get().await.unwrap_err().to_string();
                assert!(error.contains("Access denied"), "{error}");
            }
            assert_eq!((pool.stats().failed_fast, pool.stats().in_use), (0, 0));
        });
    }

    #[test]
    #[ignore = "needs mariadbd"]
    fn a_cut_wire_breaks_one_borrower_and_no_other() {
        let server = server();
        let link = Link::to(server.address()).unwrap();
        let url = server.url().replacen(server.address(), link.address(), 1);
        block_on(async {
            let pool = Pool::builder(MySql::new(&url).unwrap()).size(5).build().unwrap();
            pool.warm(5).await.unwrap();
            link.cut_connections();
            let mut failed = 0;
            for _ in 0..20 {
                let mut connection = pool.get().await.unwrap();
                failed += usize::from(connection.query_drop("SELECT 1").await.is_err());
            }
            assert_eq!(failed, 1);
            // No answer at all: the borrower is told in time.
            link.half_open();
            sleep(ms(1_100)).await;
            let began = Instant::now();
            assert!(pool.get().await.is_err());
            assert!(began.elapsed() < ms(4_900), "{:?}", began.elapsed());
            link.heal();
            sleep(ms(150)).await;
            let mut connection = pool.get().await.unwrap();
            connection.query_drop("SELECT 1").await.unwrap();
        });
    }

    #[test]
    #[ignore = "needs mariadbd"]
    fn bad_manners_do_no_harm_and_each_step_left_out_is_noticed() {
        let server = server();
        let good = manners(&server, Rival::Ours, None, 120, 11).unwrap();
        assert_eq!(good.samples("count").values(), [0.0; 10], "{good:?}");
        assert!(good.samples("served").min() > 30.0, "{good:?}");
        let mut lab = Experiment::rehearsal("pool");
        for skip in [Skip::Bound, Skip::Order, Skip::Wake, Skip::PassOn, Skip::Clean, Skip::Check] {
            let bad = manners(&server, Rival::Ours, Some(skip), 120, 11).unwrap();
            let fault = |fault: &str| bad.filter("what others notice", fault).number("count");
            let faults: f64 = bad.samples("count").values().iter().sum();
            lab.claim(&bad.texts("pool")[0]).measured(faults).unit("faults").exactly(0);
            assert!(!lab.claims().last().unwrap().holds, "{bad:?}");
            match skip {
                Skip::Bound => assert!(fault("beyond the size") > 0.0, "{bad:?}"),
                Skip::PassOn => assert_eq!(fault("not woken"), 1.0, "{bad:?}"),
                _ => assert_eq!(fault("beyond the size"), 0.0, "{bad:?}"),
            }
        }
    }
}

//! The virtual clock: what it promises, and the mistakes with time that it brings to light.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use lab::Rng;
use lab::clock::{Clock, Sleep, SystemClock, VirtualClock};
use lab::runtime::block_on;
use proptest::prelude::*;

const NANO: Duration = Duration::from_nanos(1);
const PATIENCE: Duration = Duration::from_secs(30);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// What a thread returns. One that sleeps for ever fails its test instead of hanging it.
fn joined<T>(thread: thread::JoinHandle<T>) -> T {
    let began = Instant::now();
    while !thread.is_finished() {
        assert!(began.elapsed() < PATIENCE, "a thread was never woken");
        thread::sleep(ms(1));
    }
    thread.join().unwrap()
}

/// Writes its name into a log when it is woken.
struct Bell(u64, Arc<Mutex<Vec<u64>>>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.1.lock().unwrap().push(self.0);
    }
}

fn poll(sleep: &mut Sleep, waker: &Waker) -> Poll<()> {
    Pin::new(sleep).poll(&mut Context::from_waker(waker))
}

// Setting the wall never moves monotonic time; time moves when it is told to.

#[derive(Debug, Clone)]
enum Move {
    Advance(u64),
    Set(u64),
    Back(u64),
    Forward(u64),
    Freeze,
    Thaw,
}

fn moves() -> impl Strategy<Value = Vec<(usize, Move)>> {
    let nanos = 0..10_000_000_000_000_u64;
    let one = prop_oneof![
        4 => nanos.clone().prop_map(Move::Advance),
        1 => nanos.clone().prop_map(Move::Set),
        1 => nanos.clone().prop_map(Move::Back),
        1 => nanos.prop_map(Move::Forward),
        1 => Just(Move::Freeze),
        1 => Just(Move::Thaw),
    ];
    prop::collection::vec((0..3_usize, one), 1..40)
}

proptest! {
    #![proptest_config(cases(300))]

    /// Three nodes, compared with a plain count: one is the clock itself, one is skewed, one drifts as well.
    #[test]
    fn every_reading_is_what_the_calls_add_up_to(
        moves in moves(),
        start in 0..100_000_u64,
        skew in -50_000..50_000_i64,
        ppm in -1_000_000..=1_000_000_i32,
    ) {
        let clock = VirtualClock::starting_at(secs(start));
        let skewed = clock.skewed(skew);
        let nodes = [clock, skewed.clone(), skewed.drifting(f64::from(ppm))];
        let rates = [1_000_000_i128, 1_000_000, 1_000_000 + i128::from(ppm)];
        let second = 1_000_000_000_i128;
        let skewed_start = (i128::from(start) * second + i128::from(skew) * 1_000_000).max(0);
        let mut passed = 0_i128;
        let mut leads = [i128::from(start) * second, skewed_start, skewed_start];
        let mut frozen = [None::<i128>; 3];
        for (node, step) in moves {
            let counted = |node: usize, passed: i128| passed * rates[node] / 1_000_000;
            let wall = frozen[node].unwrap_or(counted(node, passed) + leads[node]);
            let mut set = |to: i128| {
                let to = to.max(0);
                leads[node] = to - counted(node, passed);
                frozen[node] = frozen[node].map(|_| to);
            };
            match step {
                Move::Advance(by) => {
                    nodes[node].advance(Duration::from_nanos(by));
                    passed += i128::from(by);
                }
                Move::Set(to) => {
                    nodes[node].set(Duration::from_nanos(to));
                    set(i128::from(to));
                }
                Move::Back(by) => {
                    nodes[node].step_back(Duration::from_nanos(by));
                    set(wall - i128::from(by));
                }
                Move::Forward(by) => {
                    nodes[node].step_forward(Duration::from_nanos(by));
                    set(wall + i128::from(by));
                }
                Move::Freeze => {
                    nodes[node].freeze_wall();
                    frozen[node] = Some(wall);
                }
                Move::Thaw => {
                    nodes[node].thaw_wall();
                    frozen[node] = None;
                    leads[node] = wall - counted(node, passed);
                }
            }
            for (number, node) in nodes.iter().enumerate() {
                let monotonic = counted(number, passed);
                let wall = frozen[number].unwrap_or(monotonic + leads[number]);
                prop_assert_eq!(node.monotonic().as_nanos() as i128, monotonic, "monotonic of node {}", number);
                prop_assert_eq!(node.now().as_nanos() as i128, wall, "wall of node {}", number);
                prop_assert_eq!(i128::from(node.now_ms()), wall / 1_000_000);
            }
        }
    }
}

#[test]
fn real_time_does_not_leak_in() {
    let clock = VirtualClock::new();
    let (wall, monotonic) = (clock.now(), clock.monotonic());
    thread::sleep(ms(30));
    assert_eq!((clock.now(), clock.monotonic()), (wall, monotonic));
    assert_eq!(clock.now_ms(), 1_704_067_200_000);
}

#[test]
fn the_seed_decides_the_start() {
    let starts: HashSet<_> = (0..100).map(|seed| VirtualClock::seeded(seed).now()).collect();
    assert_eq!(starts.len(), 100);
    assert!((0..100).all(|seed| starts.contains(&VirtualClock::seeded(seed).now())));
    assert!(starts.iter().all(|start| (1_704_067_200..2_019_686_400).contains(&start.as_secs())));
}

#[test]
fn extremes_neither_panic_nor_wrap() {
    let clock = VirtualClock::starting_at(Duration::MAX);
    let fast = clock.drifting(1e300);
    let still = clock.drifting(f64::NEG_INFINITY);
    let odd = clock.drifting(f64::NAN);
    for _ in 0..3 {
        clock.advance(Duration::MAX).step_forward(Duration::MAX);
        fast.step_forward(Duration::MAX);
    }
    assert_eq!(clock.monotonic(), Duration::MAX);
    assert_eq!((clock.now(), fast.now()), (Duration::MAX, Duration::MAX));
    assert_eq!((fast.monotonic(), still.monotonic(), odd.monotonic()), (Duration::MAX, Duration::ZERO, Duration::MAX));
    assert_eq!(clock.step_back(Duration::MAX).step_back(Duration::MAX).now(), Duration::ZERO);
    assert_eq!(clock.skewed(i64::MIN).now(), Duration::ZERO);
    let sleep = clock.sleep_async(Duration::MAX);
    drop(sleep);
    assert_eq!(clock.now_ms(), 0);
}

// Nobody wakes early, and nobody late.

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn a_sleep_ends_at_the_first_nanosecond_that_has_counted_its_length(
        before in 0..1_000_000_000_u64,
        length in 1..10_000_000_000_u64,
        ppm in -999_999..=1_000_000_i32,
        set in prop::option::of(0..4_000_000_000_u64),
    ) {
        let clock = VirtualClock::new();
        let node = clock.drifting(f64::from(ppm));
        clock.advance(Duration::from_nanos(before));
        let began = node.monotonic();
        let mut sleep = node.sleep_async(Duration::from_nanos(length));
        let waker = Waker::noop();
        prop_assert!(poll(&mut sleep, waker).is_pending());
        if let Some(set) = set {
            node.set(secs(set));
            clock.set(secs(set));
        }
        // The drifting node counts floor(t * rate); the first true time at which it has counted enough:
        let rate = i128::from(1_000_000 + ppm);
        let goal = began.as_nanos() as i128 + i128::from(length);
        let due = (goal * 1_000_000 + rate - 1) / rate - i128::from(before);
        clock.advance(Duration::from_nanos(u64::try_from(due - 1).unwrap()));
        prop_assert!(poll(&mut sleep, waker).is_pending());
        prop_assert!(node.monotonic() - began < Duration::from_nanos(length));
        clock.advance(NANO);
        prop_assert!(poll(&mut sleep, waker).is_ready());
        prop_assert!(node.monotonic() - began >= Duration::from_nanos(length));
    }
}

#[test]
fn a_blocking_sleep_ends_when_its_time_has_come() {
    let clock = VirtualClock::new();
    let (woke, woken) = mpsc::channel();
    let sleeper = clock.clone();
    let thread = thread::spawn(move || {
        sleeper.sleep(ms(500));
        woke.send(sleeper.monotonic()).unwrap();
    });
    assert!(clock.wait_for_sleepers(1));
    clock.advance(ms(500) - NANO).step_forward(secs(1000)).step_back(secs(5000));
    assert_eq!(clock.sleepers(), 1);
    assert!(woken.recv_timeout(ms(50)).is_err());
    clock.advance(NANO);
    assert_eq!(woken.recv_timeout(PATIENCE).unwrap(), ms(500));
    joined(thread);
}

#[test]
fn a_sleep_until_follows_the_wall() {
    let clock = VirtualClock::starting_at(secs(1000));
    let other = clock.skewed(0);
    let waker = Waker::noop();
    let mut sleep = clock.sleep_until_async(secs(1060));
    assert!(poll(&mut sleep, waker).is_pending());
    // Set back an hour, it takes an hour longer.
    clock.advance(secs(30)).set(secs(500));
    clock.advance(secs(560) - NANO);
    other.set(secs(100_000));
    assert!(poll(&mut sleep, waker).is_pending());
    clock.advance(NANO);
    assert!(poll(&mut sleep, waker).is_ready());

    // Set forward, it ends at once, without time passing.
    let mut sleep = clock.sleep_until_async(secs(9000));
    assert!(poll(&mut sleep, waker).is_pending());
    clock.set(secs(9000) - NANO);
    assert!(poll(&mut sleep, waker).is_pending());
    clock.step_forward(NANO);
    assert!(poll(&mut sleep, waker).is_ready());

    // A stuck wall never comes to it, until it is set or runs again.
    let mut sleep = clock.sleep_until_async(secs(9010));
    clock.freeze_wall().advance(secs(1_000_000));
    assert!(poll(&mut sleep, waker).is_pending());
    clock.thaw_wall().advance(secs(10) - NANO);
    assert!(poll(&mut sleep, waker).is_pending());
    clock.advance(NANO);
    assert!(poll(&mut sleep, waker).is_ready());

    // What is past does not wait.
    clock.sleep_until(secs(1));
    clock.sleep(Duration::ZERO);
}

#[test]
fn a_blocked_thread_wakes_when_the_wall_is_set() {
    let clock = VirtualClock::starting_at(secs(1000));
    let sleeper = clock.clone();
    let thread = thread::spawn(move || sleeper.sleep_until(secs(2000)));
    assert!(clock.wait_for_sleepers(1));
    clock.set(secs(2000));
    joined(thread);
    assert_eq!(clock.monotonic(), Duration::ZERO);
}

#[test]
fn a_sleep_counts_from_its_call() {
    let clock = VirtualClock::new();
    let mut sleep = clock.sleep_async(secs(10));
    clock.advance(secs(10));
    assert!(poll(&mut sleep, Waker::noop()).is_ready());
}

#[test]
fn the_machines_clock_is_a_clock_too() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    assert!(clock.now() > secs(1_700_000_000));
    assert!(clock.now_ms().abs_diff(clock.now().as_millis() as u64) < 60_000);
    for length in [0, 1, 20].map(ms) {
        let began = Instant::now();
        clock.sleep(length);
        block_on(clock.sleep_async(length));
        assert!(began.elapsed() >= length * 2);
        let until = clock.now() + length;
        clock.sleep_until(until);
        assert!(clock.now() >= until);
        let until = clock.now() + length;
        block_on(clock.sleep_until_async(until));
        assert!(clock.now() >= until);
    }
    clock.sleep_until(Duration::ZERO);
    let began = clock.monotonic();
    // Longer than it sleeps between two looks at the wall.
    let until = clock.now() + ms(250);
    clock.sleep_until(until);
    assert!(clock.now() >= until);
    block_on(clock.sleep_until_async(until + ms(250)));
    assert!(clock.now() >= until + ms(250) && clock.monotonic() - began >= ms(400));
    let mut endless = clock.sleep_until_async(Duration::MAX);
    assert!(poll(&mut endless, Waker::noop()).is_pending());
}

// Sleepers wake in the order of their deadlines.

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Woke {
    at: Duration,
    who: usize,
}

/// What threads that sleep so many milliseconds, one after another, must log.
fn expected(plans: &[Vec<u64>]) -> Vec<Woke> {
    let mut log: Vec<_> = plans
        .iter()
        .enumerate()
        .flat_map(|(who, plan)| {
            plan.iter().scan(0, move |at, length| {
                *at += length;
                Some(Woke { at: ms(*at), who })
            })
        })
        .collect();
    log.sort();
    log
}

/// Starts a thread per plan; each logs what it reads when it wakes, after some work of unequal length.
fn start(clock: &VirtualClock, plans: &[Vec<u64>]) -> (Arc<Mutex<Vec<Woke>>>, Vec<thread::JoinHandle<()>>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let threads = plans
        .iter()
        .cloned()
        .enumerate()
        .map(|(who, plan)| {
            let (me, log) = (clock.join(), log.clone());
            thread::spawn(move || {
                for (number, length) in plan.into_iter().enumerate() {
                    if (who + number) % 2 == 0 {
                        me.sleep(ms(length));
                    } else {
                        block_on(me.sleep_async(ms(length)));
                    }
                    for _ in 0..Rng::seeded(number as u64, "work").below(2_000) * (5 - who as u64) {
                        std::hint::spin_loop();
                    }
                    log.lock().unwrap().push(Woke { at: me.monotonic(), who });
                }
            })
        })
        .collect();
    (log, threads)
}

fn plans() -> impl Strategy<Value = Vec<Vec<u64>>> {
    prop::collection::vec(prop::collection::vec(1..6_u64, 0..8), 1..5)
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn threads_that_joined_run_one_at_a_time_at_their_own_deadlines(
        plans in plans(),
        steps in prop::collection::vec(0..15_u64, 0..8),
    ) {
        let clock = VirtualClock::new();
        let (log, threads) = start(&clock, &plans);
        let all = expected(&plans);
        let mut passed = 0;
        for step in steps.into_iter().chain([100]) {
            clock.advance_ms(step);
            passed += step;
            // No grain of patience: when `advance` returns, all that was due has been done.
            let due: Vec<_> = all.iter().copied().filter(|woke| woke.at <= ms(passed)).collect();
            prop_assert_eq!(&*log.lock().unwrap(), &due);
            prop_assert_eq!(clock.monotonic(), ms(passed));
        }
        threads.into_iter().for_each(joined);
    }

    #[test]
    fn where_sleeping_moves_the_time_threads_run_the_same_way(plans in plans()) {
        let clock = VirtualClock::new();
        clock.auto_advance();
        // Nobody may run ahead while the others are not there yet.
        let starter = clock.join();
        let (log, threads) = start(&clock, &plans);
        drop(starter);
        threads.into_iter().for_each(joined);
        let all = expected(&plans);
        prop_assert_eq!(&*log.lock().unwrap(), &all);
        prop_assert_eq!(clock.monotonic(), all.last().map_or(Duration::ZERO, |last| last.at));
    }

    #[test]
    fn futures_are_woken_in_order(lengths in prop::collection::vec(1..20_u64, 1..12)) {
        let clock = VirtualClock::new();
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut sleeps: Vec<_> = lengths.iter().map(|length| clock.sleep_async(ms(*length))).collect();
        for (number, sleep) in sleeps.iter_mut().enumerate() {
            prop_assert!(poll(sleep, &Arc::new(Bell(number as u64, log.clone())).into()).is_pending());
        }
        clock.advance_ms(20);
        let mut order: Vec<_> = (0..lengths.len() as u64).collect();
        order.sort_by_key(|number| lengths[*number as usize]);
        prop_assert_eq!(&*log.lock().unwrap(), &order);
        prop_assert!(sleeps.iter_mut().all(|sleep| poll(sleep, Waker::noop()).is_ready()));
    }
}

#[test]
fn threads_that_did_not_join_have_left_their_sleep_before_time_goes_on() {
    let clock = VirtualClock::new();
    let threads: Vec<_> = (1..=8)
        .map(|number| {
            let clock = clock.clone();
            thread::spawn(move || {
                clock.sleep(secs(number));
                assert!(clock.monotonic() >= secs(number));
            })
        })
        .collect();
    assert!(clock.wait_for_sleepers(8));
    for left in (0..8).rev() {
        clock.advance(secs(1));
        assert_eq!(clock.sleepers(), left);
    }
    threads.into_iter().for_each(joined);
}

#[test]
fn a_woken_thread_that_sleeps_again_within_the_same_advance_wakes_again() {
    let clock = VirtualClock::new();
    let me = clock.join();
    let thread = thread::spawn(move || {
        for _ in 0..1000 {
            me.sleep(ms(1));
        }
        me.monotonic()
    });
    clock.advance_ms(1000);
    assert_eq!(joined(thread), secs(1));
}

#[test]
fn time_that_moves_by_itself_can_still_be_advanced() {
    let clock = VirtualClock::new();
    clock.auto_advance();
    let (me, stop) = (clock.join(), Arc::new(AtomicBool::new(false)));
    let stopped = stop.clone();
    let thread = thread::spawn(move || {
        while !stopped.load(SeqCst) {
            me.sleep(ms(1));
        }
    });
    let began = Instant::now();
    for _ in 0..20 {
        let before = clock.monotonic();
        assert!(clock.advance_ms(5).monotonic() >= before + ms(5));
    }
    // It would be at the end of its patience, were it not for a thread that sleeps while time is moved by hand.
    assert!(began.elapsed() < secs(9), "{:?}", began.elapsed());
    stop.store(true, SeqCst);
    joined(thread);
}

#[test]
fn a_participant_can_set_its_wall_while_time_is_moved() {
    let clock = VirtualClock::starting_at(secs(1000));
    let (cron, setter) = (clock.join(), clock.join());
    let wall = clock.clone();
    let waiting = thread::spawn(move || {
        cron.sleep_until(secs(5000));
        cron.monotonic()
    });
    let setting = thread::spawn(move || {
        setter.sleep(secs(7));
        wall.set(secs(5000));
        setter.sleep(secs(1));
        setter.monotonic()
    });
    clock.advance(secs(60));
    assert_eq!((joined(waiting), joined(setting)), (secs(7), secs(8)));
}

#[test]
fn a_waker_may_look_at_the_clock() {
    struct Looking(VirtualClock, AtomicBool);
    impl Wake for Looking {
        fn wake(self: Arc<Self>) {
            self.1.store(self.0.monotonic() == secs(1) && self.0.sleepers() == 0, SeqCst);
        }
    }
    let clock = VirtualClock::new();
    let looking = Arc::new(Looking(clock.clone(), AtomicBool::new(false)));
    let mut sleep = clock.sleep_async(secs(1));
    assert!(poll(&mut sleep, &looking.clone().into()).is_pending());
    clock.advance(secs(1));
    assert!(looking.1.load(SeqCst));
}

// All views show one time.

#[test]
fn every_view_moves_with_every_other() {
    let clock = VirtualClock::starting_at(secs(1000));
    let (ahead, behind, fast) = (clock.skewed(500), clock.skewed(-500), clock.drifting(10_000.0));
    behind.advance(secs(100));
    assert_eq!(
        [&clock, &ahead, &behind, &fast].map(|node| node.now_ms()),
        [1_100_000, 1_100_500, 1_099_500, 1_101_000]
    );
    assert_eq!([&clock, &ahead, &behind, &fast].map(|node| node.monotonic_ms()), [100_000, 100_000, 100_000, 101_000]);
    // A second on the fast node is over before a second on the others.
    let waker = Waker::noop();
    let (mut quick, mut plain) = (fast.sleep_async(secs(1)), clock.sleep_async(secs(1)));
    assert!(poll(&mut quick, waker).is_pending() && poll(&mut plain, waker).is_pending());
    clock.advance_ms(991);
    assert!(poll(&mut quick, waker).is_ready() && poll(&mut plain, waker).is_pending());
    // A view begins where its clock stands, and goes its own way.
    let later = fast.drifting(-1_000_000.0);
    let (wall, monotonic) = (fast.now(), fast.monotonic());
    assert_eq!((later.now(), later.monotonic()), (wall, monotonic));
    fast.step_back(secs(5));
    clock.advance(secs(5));
    assert_eq!((later.now(), later.monotonic()), (wall, monotonic));
    assert_eq!(clock.clone().step_back(secs(1)).now(), clock.now());
}

// A sleep that is dropped is forgotten.

#[test]
fn a_dropped_sleep_holds_nobody_up_and_moves_no_time() {
    let clock = VirtualClock::new();
    let log = Arc::new(Mutex::new(Vec::new()));
    let mut sleep = clock.sleep_async(secs(5));
    assert!(poll(&mut sleep, &Arc::new(Bell(0, log.clone())).into()).is_pending());
    assert_eq!(clock.sleepers(), 1);
    drop(sleep);
    assert_eq!(clock.sleepers(), 0);
    clock.advance(secs(10));
    assert!(log.lock().unwrap().is_empty());

    // A participant that gave up sleeping runs: time waits for it, and then goes to the next deadline, not the dropped.
    clock.auto_advance();
    let (me, other) = (clock.join(), clock.join());
    let mut given_up = me.sleep_async(secs(1));
    assert!(poll(&mut given_up, Waker::noop()).is_pending());
    drop(given_up);
    let thread = thread::spawn(move || {
        other.sleep(secs(2));
        other.monotonic()
    });
    assert!(clock.wait_for_sleepers(1));
    assert_eq!(clock.monotonic(), secs(10));
    drop(me);
    assert_eq!(joined(thread), secs(12));
}

#[test]
fn a_participant_that_never_sleeps_tries_the_patience_of_advance_but_does_not_hang_it() {
    let clock = VirtualClock::new();
    let stuck = clock.join();
    let mut sleeps: Vec<_> = (1..=50).map(|count| clock.sleep_async(ms(count))).collect();
    assert!(sleeps.iter_mut().all(|sleep| poll(sleep, Waker::noop()).is_pending()));
    let began = Instant::now();
    clock.advance(secs(1));
    // Once for all, not once for each.
    assert!(began.elapsed() >= secs(9) && began.elapsed() < secs(60), "{:?}", began.elapsed());
    assert!(sleeps.iter_mut().all(|sleep| poll(sleep, Waker::noop()).is_ready()));
    assert_eq!(stuck.monotonic(), secs(1));
    drop(stuck);
    let began = Instant::now();
    clock.advance(secs(1));
    assert!(began.elapsed() < secs(9), "a participant that left still holds time up");
}

// What the clock is for: each of these programs is wrong in a way that a well-behaved clock hides.

/// Tells whether something granted at `granted` is over after `length`.
type Over = fn(&VirtualClock, (Duration, Duration), Duration) -> bool;
const BY_WALL: Over = |clock, (wall, _), length| clock.now().saturating_sub(wall) >= length;
const BY_MONOTONIC: Over = |clock, (_, monotonic), length| clock.monotonic() - monotonic >= length;

fn hands(clock: &VirtualClock) -> (Duration, Duration) {
    (clock.now(), clock.monotonic())
}

#[test]
fn wrong_1_a_lease_measured_by_the_wall_ends_early() {
    let ends_early = |over: Over| {
        let clock = VirtualClock::new();
        let granted = hands(&clock);
        clock.advance(secs(1)).step_forward(secs(60));
        over(&clock, granted, secs(30))
    };
    assert!(ends_early(BY_WALL) && !ends_early(BY_MONOTONIC));
}

#[test]
fn wrong_2_a_ttl_measured_by_the_wall_outlives_itself() {
    let outlives = |over: Over| {
        let clock = VirtualClock::new();
        let stored = hands(&clock);
        clock.step_back(secs(3600)).advance(secs(31));
        !over(&clock, stored, secs(30))
    };
    assert!(outlives(BY_WALL) && !outlives(BY_MONOTONIC));
}

/// Ids of a millisecond and four numbers within it.
struct Ids<C> {
    clock: C,
    last: u64,
    sequence: u64,
}

impl<C: Clock> Ids<C> {
    fn new(clock: C) -> Self {
        Self { clock, last: 0, sequence: 0 }
    }

    /// `waits`: for the next millisecond when its numbers are used up; `looks_back`: refuses a clock that went back.
    fn next(&mut self, waits: bool, looks_back: bool) -> Result<u64, &'static str> {
        let now = self.clock.now_ms();
        if now < self.last && looks_back {
            return Err("the clock went back");
        }
        self.sequence = if now == self.last { self.sequence + 1 } else { 0 };
        self.last = now;
        if self.sequence == 4 && waits {
            for _ in 0..10 {
                self.clock.sleep(ms(1));
                if self.clock.now_ms() > now {
                    return self.next(waits, looks_back);
                }
            }
            return Err("the clock is stuck");
        }
        Ok((now << 2) | (self.sequence % 4))
    }
}

fn repeats(ids: &[Result<u64, &str>]) -> bool {
    let good: Vec<_> = ids.iter().flatten().collect();
    good.iter().collect::<HashSet<_>>().len() < good.len()
}

#[test]
fn wrong_3_ids_repeat_when_the_wall_steps_back() {
    let run = |looks_back| {
        let clock = VirtualClock::new();
        clock.auto_advance();
        let mut ids = Ids::new(clock.clone());
        let mut given: Vec<_> = (0..10).map(|_| ids.next(true, looks_back)).collect();
        clock.step_back(ms(2));
        given.extend((0..10).map(|_| ids.next(true, looks_back)));
        given
    };
    assert!(repeats(&run(false)), "caught");
    let given = run(true);
    assert!(!repeats(&given) && given.contains(&Err("the clock went back")), "right");
}

#[test]
fn wrong_4_ids_repeat_when_a_millisecond_is_used_up() {
    let run = |waits| {
        let clock = VirtualClock::new();
        clock.auto_advance();
        let mut ids = Ids::new(clock.clone());
        ((0..10).map(|_| ids.next(waits, true)).collect::<Vec<_>>(), clock.monotonic())
    };
    assert!(repeats(&run(false).0), "caught");
    let (given, took) = run(true);
    assert!(!repeats(&given) && given.iter().all(Result::is_ok), "right");
    assert_eq!(took, ms(2), "ten ids, four a millisecond");
}

#[test]
fn wrong_5_waiting_for_a_stuck_clock_without_end() {
    let clock = VirtualClock::new();
    clock.auto_advance().freeze_wall();
    let mut ids = Ids::new(clock.clone());
    let given: Vec<_> = (0..5).map(|_| ids.next(true, true)).collect();
    assert_eq!(given[4], Err("the clock is stuck"), "right: ten milliseconds of patience");
    // The wrong one turns until the next millisecond; no number of turns brings it.
    let last = clock.now_ms();
    let mut turns = 0;
    while clock.now_ms() <= last && turns < 10_000 {
        clock.sleep(ms(1));
        turns += 1;
    }
    assert_eq!(turns, 10_000, "caught");
}

#[test]
fn wrong_6_a_daily_job_sleeps_the_difference() {
    let fires_at = |job: fn(&dyn Clock, Duration)| {
        let clock = VirtualClock::starting_at(secs(10_000));
        let me = clock.join();
        let thread = thread::spawn(move || {
            job(&me, secs(13_600));
            me.now()
        });
        // The machine gets its time an hour too late.
        clock.advance(secs(600)).step_back(secs(3600)).advance(secs(10_000));
        joined(thread)
    };
    assert_eq!(fires_at(|clock, at| clock.sleep(at - clock.now())), secs(10_000), "caught: an hour early");
    assert_eq!(fires_at(|clock, at| clock.sleep_until(at)), secs(13_600), "right");
}

#[test]
fn wrong_7_a_duration_is_the_difference_of_two_wall_times() {
    let clock = VirtualClock::new();
    let (wall, monotonic) = hands(&clock);
    clock.advance(secs(2)).step_back(secs(5));
    assert_eq!(clock.now().checked_sub(wall), None, "caught: less than nothing");
    assert_eq!(clock.monotonic() - monotonic, secs(2), "right");
}

#[test]
fn wrong_8_the_last_write_wins_by_wall_time() {
    let clock = VirtualClock::new();
    let (ahead, behind) = (clock.skewed(500), clock.skewed(-500));
    let first = (ahead.now(), 1, "old");
    clock.advance_ms(100);
    let second = (behind.now(), 2, "new");
    assert_eq!(first.max(second).2, "old", "caught: the later write is lost");
    assert_eq!([first, second].into_iter().max_by_key(|write| write.1).unwrap().2, "new", "right: versions");
}

#[test]
fn wrong_9_a_lease_without_a_margin_for_drift() {
    let two_holders = |margin: Duration| {
        let clock = VirtualClock::new();
        let (server, holder) = (clock.drifting(100.0), clock.drifting(-100.0));
        let (granted, taken) = (server.monotonic(), holder.monotonic());
        clock.advance(secs(3600));
        let ended = server.monotonic() - granted >= secs(3600);
        ended && holder.monotonic() - taken < secs(3600) - margin
    };
    assert!(two_holders(Duration::ZERO), "caught");
    assert!(!two_holders(secs(1)), "right: 2 x 100 ppm of an hour are 0.72 s");
}

#[test]
fn wrong_10_a_rate_limit_by_wall_clock_seconds() {
    let allowed = |window: fn(&VirtualClock) -> u64| {
        let clock = VirtualClock::new();
        let (mut current, mut count, mut allowed) = (0, 0, 0);
        for request in 0..100 {
            if request == 50 {
                clock.step_back(secs(1));
            }
            if window(&clock) != current {
                (current, count) = (window(&clock), 0);
            }
            count += 1;
            allowed += u64::from(count <= 10);
        }
        allowed
    };
    assert_eq!(allowed(|clock| clock.now().as_secs()), 20, "caught: twice the limit in no time at all");
    assert_eq!(allowed(|clock| clock.monotonic().as_secs()), 10, "right");
}

#[test]
fn wrong_11_a_period_that_forgets_the_work() {
    let runs = |fixed: bool| {
        let clock = VirtualClock::starting_at(secs(1000));
        clock.auto_advance();
        let (mut next, mut runs) = (clock.now(), 0);
        while clock.monotonic() < secs(100) {
            clock.sleep(ms(100)); // the work
            runs += 1;
            next += secs(1);
            if fixed {
                clock.sleep_until(next);
            } else {
                clock.sleep(secs(1));
            }
        }
        runs
    };
    assert_eq!(runs(false), 91, "caught: nine of a hundred are missing");
    assert_eq!(runs(true), 100, "right");
}

#[test]
fn wrong_12_a_lease_is_looked_at_before_a_pause_and_used_after() {
    let writers = |looks_again: bool| {
        let clock = VirtualClock::new();
        let writers = Arc::new(Mutex::new(0));
        let threads = [(0, 40), (30, 1)].map(|(start, pause)| {
            let (me, writers) = (clock.join(), writers.clone());
            thread::spawn(move || {
                me.sleep(secs(start));
                let granted = me.monotonic();
                let mine = |me: &dyn Clock| me.monotonic() - granted < secs(30);
                assert!(mine(&me));
                me.sleep(secs(pause)); // the garbage collector
                if !looks_again || mine(&me) {
                    *writers.lock().unwrap() += 1;
                }
            })
        });
        clock.advance(secs(100));
        threads.into_iter().for_each(joined);
        *writers.lock().unwrap()
    };
    assert_eq!(writers(false), 2, "caught: a writer whose lease is long over");
    assert_eq!(writers(true), 1, "right");
}

#[test]
fn a_sleep_toward_a_time_of_the_wall_ends_there_or_after_its_length_whichever_comes_first() {
    let clock = VirtualClock::new();
    clock.auto_advance();
    let start = clock.now();
    clock.sleep_toward(start + Duration::from_millis(5), Duration::from_millis(9));
    assert_eq!(clock.monotonic(), Duration::from_millis(5));
    clock.sleep_toward(start, Duration::from_secs(9));
    assert_eq!(clock.monotonic(), Duration::from_millis(5), "the wall reads more already");
    clock.sleep_toward(start + Duration::from_secs(3_600), Duration::from_millis(9));
    assert_eq!(clock.monotonic(), Duration::from_millis(14));
    clock.freeze_wall();
    clock.sleep_toward(clock.now() + Duration::from_millis(1), Duration::from_millis(6));
    assert_eq!(clock.monotonic(), Duration::from_millis(20));
    let driven = VirtualClock::new();
    std::thread::scope(|scope| {
        let sleeping =
            scope.spawn(|| driven.sleep_toward(driven.now() + Duration::from_secs(1), Duration::from_secs(1)));
        assert!(driven.wait_for_sleepers(1));
        driven.step_back(Duration::from_secs(3_600)).advance(Duration::from_millis(999));
        assert!(!sleeping.is_finished());
        driven.step_forward(Duration::from_secs(7_200));
        sleeping.join().unwrap();
        assert_eq!(driven.monotonic(), Duration::from_millis(999));
    });
    let before = std::time::Instant::now();
    SystemClock.sleep_toward(SystemClock.now() + Duration::from_secs(3_600), Duration::from_millis(3));
    assert!((3..2_000).contains(&before.elapsed().as_millis()));
}

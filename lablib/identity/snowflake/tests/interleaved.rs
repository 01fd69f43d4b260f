//! Every order in which threads can take slots, one atomic operation at a time: the code of `src/slots.rs`, not a model of it.
//!
//! All operations are on single words, and a word's changes have one order that every thread sees; so running the
//! operations of all threads one after the other, in each possible order, shows everything that they can do, but for one
//! thing: a relaxed load may see an older value. It is only a guess for the exchange, which sees the newest; and `until`
//! only grows, so an older value of it refuses too much and never too little.
#![allow(clippy::unwrap_used, missing_docs)]

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

#[path = "../src/slots.rs"]
#[allow(dead_code)]
mod slots;

use slots::{Cell64, Held, Slots};

/// Lets one thread at a time go on, to its next operation, in the order that a schedule says.
#[derive(Default)]
struct Baton {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    /// Who may go on.
    turn: Option<usize>,
    /// Who waits for his turn.
    waiting: BTreeSet<usize>,
    running: usize,
}

thread_local! {
    static ME: Cell<usize> = const { Cell::new(usize::MAX) };
}

impl Baton {
    /// Called before each operation: waits for the turn.
    fn pass(&self) {
        let me = ME.get();
        let mut state = self.state.lock().unwrap();
        state.waiting.insert(me);
        self.moved.notify_all();
        state = self.moved.wait_while(state, |state| state.turn != Some(me)).unwrap();
        state.turn = None;
        state.waiting.remove(&me);
        self.moved.notify_all();
    }

    fn end(&self) {
        self.state.lock().unwrap().running -= 1;
        self.moved.notify_all();
    }

    /// Runs all threads to their ends. At each step, `choose` says which of those that can go on does.
    fn conduct(&self, mut choose: impl FnMut(&[usize]) -> usize) {
        let mut state = self.state.lock().unwrap();
        loop {
            state = self
                .moved
                .wait_while(state, |state| state.turn.is_some() || state.waiting.len() < state.running)
                .unwrap();
            if state.running == 0 {
                return;
            }
            let ready: Vec<usize> = state.waiting.iter().copied().collect();
            state.turn = Some(ready[choose(&ready)]);
            self.moved.notify_all();
        }
    }
}

struct Watched {
    word: AtomicU64,
    /// None for a word that nobody changes: then it does not matter when it is read.
    baton: Option<Arc<Baton>>,
}

impl Watched {
    fn new(value: u64, baton: &Arc<Baton>) -> Self {
        Self { word: AtomicU64::new(value), baton: Some(Arc::clone(baton)) }
    }

    fn pass(&self) {
        if let Some(baton) = &self.baton {
            baton.pass();
        }
    }
}

impl Cell64 for Watched {
    fn load(&self) -> u64 {
        self.pass();
        self.word.load(Ordering::SeqCst)
    }

    fn exchange(&self, current: u64, new: u64) -> Result<u64, u64> {
        self.pass();
        self.word.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst)
    }

    fn swap(&self, new: u64) -> u64 {
        self.pass();
        self.word.swap(new, Ordering::SeqCst)
    }

    fn raise(&self, to: u64) {
        self.pass();
        self.word.fetch_max(to, Ordering::SeqCst);
    }
}

/// What one thread does.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Asks for a slot.
    Take,
    /// Renews the lease up to this timestamp.
    Extend(u64),
    /// Gives the lease back.
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Slot { slot: u64, now: u64 },
    Held(Held),
    Closed(u64),
    Extended,
}

/// When a step began and ended, in operations, and what came of it.
type Done = (usize, usize, usize, Outcome);

const SEQUENCE_BITS: u32 = 1;
const FROM: u64 = 10;
const UNTIL: u64 = 13;

/// Runs the threads' steps in every possible order. The nth look at the clock, by whoever, reads `clock[n]`.
fn every_order(threads: &[&[Step]], clock: &[u64], check: impl Fn(&[Done])) -> u64 {
    // Which of the ready ones to take at each step, and how many were ready: counted up like a number.
    let mut schedule: Vec<(usize, usize)> = Vec::new();
    let mut orders = 0;
    loop {
        let mut at = 0;
        let done = run(threads, clock, |ready| {
            if at == schedule.len() {
                schedule.push((0, ready.len()));
            }
            assert_eq!(schedule[at].1, ready.len(), "the same choices lead to the same place");
            at += 1;
            schedule[at - 1].0
        });
        check(&done);
        orders += 1;
        while schedule.last().is_some_and(|(choice, ready)| choice + 1 == *ready) {
            schedule.pop();
        }
        match schedule.last_mut() {
            Some(last) => last.0 += 1,
            None => return orders,
        }
    }
}

fn run(threads: &[&[Step]], clock: &[u64], choose: impl FnMut(&[usize]) -> usize) -> Vec<Done> {
    let baton = Arc::new(Baton::default());
    baton.state.lock().unwrap().running = threads.len();
    let renews = threads.iter().any(|steps| steps.iter().any(|step| matches!(step, Step::Extend(_))));
    let until = Watched { word: AtomicU64::new(UNTIL), baton: renews.then(|| Arc::clone(&baton)) };
    let slots = Slots::with(SEQUENCE_BITS, FROM, until, Watched::new(FROM << SEQUENCE_BITS, &baton));
    let (looks, operations) = (AtomicU64::new(0), AtomicU64::new(0));
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (thread, steps) in threads.iter().enumerate() {
            let (slots, baton, looks, operations, done) = (&slots, &baton, &looks, &operations, &done);
            scope.spawn(move || {
                ME.set(thread);
                for step in *steps {
                    let now = Cell::new(0);
                    // Looking at the clock is an operation, too.
                    let began = Cell::new(usize::MAX);
                    let outcome = match step {
                        Step::Take => {
                            let taken = slots.take(|| {
                                baton.pass();
                                began.set(began.get().min(operations.fetch_add(1, Ordering::SeqCst) as usize));
                                let reading = clock[looks.fetch_add(1, Ordering::SeqCst) as usize % clock.len()];
                                now.set(reading);
                                Some(reading)
                            });
                            taken.map_or_else(Outcome::Held, |slot| Outcome::Slot { slot, now: now.get() })
                        }
                        Step::Extend(until) => {
                            slots.extend(*until);
                            began.set(began.get().min(operations.fetch_add(1, Ordering::SeqCst) as usize));
                            Outcome::Extended
                        }
                        Step::Close => {
                            let unused = slots.close();
                            began.set(began.get().min(operations.fetch_add(1, Ordering::SeqCst) as usize));
                            Outcome::Closed(unused)
                        }
                    };
                    let ended = operations.fetch_add(1, Ordering::SeqCst);
                    done.lock().unwrap().push((thread, began.get(), ended as usize, outcome));
                }
                baton.end();
            });
        }
        baton.conduct(choose);
    });
    done.into_inner().unwrap()
}

fn slots_of(done: &[Done]) -> Vec<(usize, usize, usize, u64, u64)> {
    let slot = |done: &Done| match done.3 {
        Outcome::Slot { slot, now } => Some((done.0, done.1, done.2, slot, now)),
        _ => None,
    };
    done.iter().filter_map(slot).collect()
}

/// No slot twice, none ahead of the clock, none outside of the lease, later ones larger.
fn check_slots(done: &[Done], until: u64) {
    let slots = slots_of(done);
    let all: BTreeSet<u64> = slots.iter().map(|slot| slot.3).collect();
    assert_eq!(all.len(), slots.len(), "twice: {done:?}");
    for &(thread, began, _, slot, now) in &slots {
        let timestamp = slot >> SEQUENCE_BITS;
        assert!(timestamp <= now, "ahead of the clock: {done:?}");
        assert!((FROM..until).contains(&timestamp), "outside of the lease: {done:?}");
        for &(other, _, ended, earlier, _) in &slots {
            assert!(thread == other || ended >= began || earlier < slot, "fell behind an earlier one: {done:?}");
        }
    }
}

use Step::{Close, Extend, Take};

#[test]
fn two_threads_that_fill_milliseconds_while_the_clock_goes_on_and_back() {
    let mut orders = 0;
    for clock in
        [&[10][..], &[10, 10, 11, 11], &[11, 10, 11, 10], &[12, 10, 11, 12], &[10, 12, 13, 14], &[11, 12, 10, 10]]
    {
        orders += every_order(&[&[Take, Take], &[Take, Take]], clock, |done| check_slots(done, UNTIL));
    }
    assert!(orders > 3_000, "{orders} orders are not all of them");
}

#[test]
fn three_threads_at_the_edge_of_a_millisecond() {
    for clock in [&[10][..], &[10, 11, 10]] {
        let orders = every_order(&[&[Take], &[Take], &[Take]], clock, |done| {
            check_slots(done, UNTIL);
            let made = slots_of(done).len();
            assert!(made > 0, "{done:?}");
            if clock == [10] {
                assert_eq!(made, 2, "a millisecond has two slots: {done:?}");
            }
        });
        assert!(orders > 1_000, "{orders} orders are not all of them");
    }
}

#[test]
fn who_is_slow_is_not_told_that_the_clock_went_back() {
    let clock: Vec<u64> = (0..60).map(|look| 10 + look / 3).collect();
    let orders = every_order(&[&[Take, Take], &[Take, Take]], &clock, |done| {
        for (.., outcome) in done {
            if let Outcome::Held(Held::Full { last, now, .. }) = outcome {
                assert!(last <= now, "the clock never went back: {done:?}");
            }
        }
    });
    assert!(orders > 1_000, "{orders} orders are not all of them");
}

#[test]
fn a_lease_that_is_renewed_while_it_ends() {
    every_order(&[&[Take, Take], &[Extend(15)], &[Take]], &[12, 13, 14, 15], |done| check_slots(done, 15));
}

#[test]
fn what_is_given_back_was_not_used_and_is_not_used_afterwards() {
    for clock in [&[11][..], &[10, 11, 12], &[12, 11, 10]] {
        every_order(&[&[Take, Take], &[Take], &[Close]], clock, |done| {
            check_slots(done, UNTIL);
            let unused = done.iter().find_map(|done| match done.3 {
                Outcome::Closed(unused) => Some(unused),
                _ => None,
            });
            let unused = unused.unwrap();
            assert!(slots_of(done).iter().all(|slot| slot.3 >> SEQUENCE_BITS < unused), "{unused}: {done:?}");
            let highest = slots_of(done).iter().map(|slot| slot.3 >> SEQUENCE_BITS).max();
            assert_eq!(unused, highest.map_or(FROM, |highest| highest + 1), "more was kept than used: {done:?}");
        });
    }
}

#[test]
fn an_exchange_that_is_split_in_two_is_caught() {
    // What the check is worth: the same slots, taken by a look and a store with a gap in between.
    struct Split(Watched);
    impl Cell64 for Split {
        fn load(&self) -> u64 {
            self.0.load()
        }
        fn exchange(&self, current: u64, new: u64) -> Result<u64, u64> {
            match self.0.load() {
                seen if seen == current => {
                    self.0.swap(new);
                    Ok(current)
                }
                other => Err(other),
            }
        }
        fn swap(&self, new: u64) -> u64 {
            self.0.swap(new)
        }
        fn raise(&self, to: u64) {
            self.0.raise(to);
        }
    }
    let twice = AtomicU64::new(0);
    // Alternating turns are enough for this one.
    let baton = Arc::new(Baton::default());
    baton.state.lock().unwrap().running = 2;
    let slots = Slots::with(1, FROM, Split(Watched::new(UNTIL, &baton)), Split(Watched::new(FROM << 1, &baton)));
    let taken = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (slots, baton, taken, twice) = (&slots, &baton, &taken, &twice);
            scope.spawn(move || {
                ME.set(thread);
                if let Ok(slot) = slots.take(|| Some(10)) {
                    twice.fetch_add(u64::from(!taken.lock().unwrap().insert(slot)), Ordering::SeqCst);
                }
                baton.end();
            });
        }
        let mut turn = 0;
        baton.conduct(|ready| {
            turn += 1;
            turn % ready.len()
        });
    });
    assert_eq!(twice.load(Ordering::SeqCst), 1, "two threads got one slot, and were to be caught at it");
}

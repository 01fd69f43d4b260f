//! What all views of a virtual clock share: the true time, and who sleeps until when.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Nanoseconds. Signed and wide, so that neither a wall before the epoch nor a product of two times overflows.
pub(super) type Nanos = i128;

const SECOND: Nanos = 1_000_000_000;
/// The end of time: what a `Duration` can hold.
const END: Nanos = u64::MAX as Nanos * SECOND + (SECOND - 1);
/// How long, in real time, `advance` waits for a thread that it woke, before it takes it to be blocked for good.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn nanos(time: Duration) -> Nanos {
    Nanos::from(time.as_secs()) * SECOND + Nanos::from(time.subsec_nanos())
}

pub(super) fn duration(time: Nanos) -> Duration {
    let time = time.clamp(0, END);
    // In range by the line above.
    Duration::new((time / SECOND) as u64, (time % SECOND) as u32)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How one node's clock reads the true time.
#[derive(Debug, Clone)]
pub(super) struct Face {
    /// The true time at which this face began, and its monotonic time then.
    pub(super) origin: Nanos,
    pub(super) began: Nanos,
    /// Nanoseconds counted in a true second.
    pub(super) rate: Nanos,
    /// The wall's lead over monotonic time.
    pub(super) lead: Nanos,
    pub(super) frozen: Option<Nanos>,
}

impl Face {
    pub(super) fn monotonic(&self, now: Nanos) -> Nanos {
        self.began + (now - self.origin) * self.rate / SECOND
    }

    pub(super) fn wall(&self, now: Nanos) -> Nanos {
        self.frozen.unwrap_or(self.monotonic(now) + self.lead).max(0)
    }

    pub(super) fn set_wall(&mut self, now: Nanos, wall: Nanos) {
        let wall = wall.clamp(0, END);
        self.lead = wall - self.monotonic(now);
        self.frozen = self.frozen.map(|_| wall);
    }

    fn reached(&self, goal: Goal, now: Nanos) -> bool {
        match goal {
            Goal::Monotonic(time) => self.monotonic(now) >= time,
            Goal::Wall(time) => self.wall(now) >= time,
            Goal::Either { wall, monotonic } => self.wall(now) >= wall || self.monotonic(now) >= monotonic,
        }
    }

    /// The first true time at which the goal is reached, if things stay as they are.
    fn due(&self, goal: Goal, now: Nanos) -> Option<Nanos> {
        let monotonic = match goal {
            _ if self.reached(goal, now) => return Some(now),
            Goal::Wall(_) if self.frozen.is_some() => return None,
            Goal::Wall(time) => time - self.lead,
            Goal::Monotonic(time) => time,
            Goal::Either { wall, monotonic } => {
                let dues = [Goal::Wall(wall), Goal::Monotonic(monotonic)].map(|goal| self.due(goal, now));
                return dues.into_iter().flatten().min();
            }
        };
        if self.rate == 0 {
            return None;
        }
        let ahead = (monotonic - self.began) * SECOND;
        // Rounded up: a nanosecond early would be early.
        Some(self.origin + (ahead + self.rate - 1) / self.rate).filter(|due| *due <= END)
    }
}

/// What a sleeper waits for, on its own node's face.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal {
    Monotonic(Nanos),
    Wall(Nanos),
    /// Whichever comes first.
    Either {
        wall: Nanos,
        monotonic: Nanos,
    },
}

struct Sleeper {
    face: Arc<Mutex<Face>>,
    goal: Goal,
    /// The participant's number. Those who never joined come last among equals.
    rank: Option<u64>,
    /// None for a thread.
    waker: Option<Waker>,
    woken: bool,
}

#[derive(Default)]
struct State {
    now: Nanos,
    next: u64,
    sleepers: BTreeMap<u64, Sleeper>,
    /// How many sleeps each participant is in; one in none is running.
    participants: BTreeMap<u64, usize>,
    /// Wakers to call once the lock is released.
    calls: Vec<Waker>,
    auto: bool,
    driven: bool,
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn asleep(&self) -> usize {
        self.sleepers.values().filter(|sleeper| !sleeper.woken).count()
    }

    fn all_asleep(&self) -> bool {
        self.participants.values().all(|sleeps| *sleeps > 0)
    }

    fn earliest(&self) -> Option<(Nanos, u64)> {
        let waiting = self.sleepers.iter().filter(|(_, sleeper)| !sleeper.woken);
        let due = waiting.filter_map(|(&number, sleeper)| {
            let due = lock(&sleeper.face).due(sleeper.goal, self.now)?;
            Some((due, sleeper.rank.unwrap_or(u64::MAX), number))
        });
        due.min().map(|(due, _, number)| (due, number))
    }

    fn wake(&mut self, number: u64) {
        let Some(sleeper) = self.sleepers.get_mut(&number) else { return };
        sleeper.woken = true;
        self.calls.extend(sleeper.waker.take());
        let rank = sleeper.rank;
        self.count(rank, false);
    }

    fn count(&mut self, rank: Option<u64>, falls_asleep: bool) {
        if let Some(sleeps) = rank.and_then(|rank| self.participants.get_mut(&rank)) {
            *sleeps = if falls_asleep { *sleeps + 1 } else { sleeps.saturating_sub(1) };
        }
    }

    /// Where time moves by sleeping, and everyone who joined sleeps: on to the next deadline.
    fn settle(&mut self) {
        while self.auto && !self.driven && self.all_asleep() {
            let Some((due, number)) = self.earliest() else { return };
            self.now = self.now.max(due);
            self.wake(number);
        }
    }

    /// Wakes who is due, after a wall was set. Whoever moves the time will see to it, if somebody does.
    fn wake_due(&mut self) {
        if self.driven || self.auto {
            return self.settle();
        }
        while let Some((due, number)) = self.earliest().filter(|(due, _)| *due <= self.now) {
            self.now = self.now.max(due);
            self.wake(number);
        }
    }

    fn enter(&mut self, face: &Arc<Mutex<Face>>, goal: Goal, rank: Option<u64>, waker: Option<Waker>) -> u64 {
        let number = self.number();
        self.sleepers.insert(number, Sleeper { face: face.clone(), goal, rank, waker, woken: false });
        self.count(rank, true);
        self.settle();
        number
    }

    fn leave(&mut self, number: u64) {
        if let Some(sleeper) = self.sleepers.remove(&number)
            && !sleeper.woken
        {
            self.count(sleeper.rank, false);
        }
    }

    fn woken(&self, number: u64) -> bool {
        self.sleepers.get(&number).is_none_or(|sleeper| sleeper.woken)
    }
}

/// The true time of a virtual clock, and its sleepers.
#[derive(Default)]
pub(super) struct TrueTime {
    state: Mutex<State>,
    changed: Condvar,
    driver: Mutex<()>,
}

impl TrueTime {
    /// Reads or sets a face, at one moment of the true time.
    pub(super) fn with<T>(&self, face: &Mutex<Face>, act: impl FnOnce(&mut Face, Nanos) -> T) -> T {
        let state = lock(&self.state);
        act(&mut lock(face), state.now)
    }

    /// Like `with`, for what may let somebody's goal be reached.
    pub(super) fn change(&self, face: &Mutex<Face>, act: impl FnOnce(&mut Face, Nanos)) {
        let mut state = lock(&self.state);
        act(&mut lock(face), state.now);
        state.wake_due();
        self.release(state);
    }

    /// Unlocks and tells everybody. A waker may do anything, also look at this clock, so the lock must be gone by then.
    fn release(&self, mut state: MutexGuard<'_, State>) {
        let calls = std::mem::take(&mut state.calls);
        drop(state);
        self.changed.notify_all();
        calls.into_iter().for_each(Waker::wake);
    }

    pub(super) fn auto(&self) {
        let mut state = lock(&self.state);
        state.auto = true;
        state.settle();
        self.release(state);
    }

    pub(super) fn join(&self) -> u64 {
        let mut state = lock(&self.state);
        let number = state.number();
        state.participants.insert(number, 0);
        number
    }

    pub(super) fn part(&self, participant: u64) {
        let mut state = lock(&self.state);
        state.participants.remove(&participant);
        state.settle();
        self.release(state);
    }

    /// Those who sleep and are not due.
    pub(super) fn sleepers(&self) -> usize {
        lock(&self.state).asleep()
    }

    pub(super) fn wait_for_sleepers(&self, count: usize) -> bool {
        self.wait(lock(&self.state), |state| state.asleep() >= count).1
    }

    /// Waits, patiently but not for ever, and says whether it came to pass.
    fn wait<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        until: impl Fn(&State) -> bool,
    ) -> (MutexGuard<'a, State>, bool) {
        let waited = self.changed.wait_timeout_while(state, PATIENCE, |state| !until(state));
        let state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let came = until(&state);
        (state, came)
    }

    pub(super) fn advance(&self, by: Nanos) {
        let _one_at_a_time = lock(&self.driver);
        let mut state = lock(&self.state);
        state.driven = true;
        let (mut state, mut in_step) = self.wait(state, State::all_asleep);
        let target = (state.now + by).min(END);
        while let Some((due, number)) = state.earliest().filter(|(due, _)| *due <= target) {
            state.now = state.now.max(due);
            let is_thread = state.sleepers.get(&number).is_some_and(|sleeper| sleeper.waker.is_none());
            state.wake(number);
            self.release(state);
            state = lock(&self.state);
            if in_step {
                (state, in_step) = self
                    .wait(state, |state| state.all_asleep() && !(is_thread && state.sleepers.contains_key(&number)));
            }
        }
        state.now = target;
        state.driven = false;
        state.settle();
        self.release(state);
    }

    /// Sleeps in this thread.
    pub(super) fn sleep(&self, face: &Arc<Mutex<Face>>, goal: Goal, rank: Option<u64>) {
        let mut state = lock(&self.state);
        if lock(face).reached(goal, state.now) {
            return;
        }
        let number = state.enter(face, goal, rank, None);
        self.release(state);
        let waited = self.changed.wait_while(lock(&self.state), |state| !state.woken(number));
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.leave(number);
        self.release(state);
    }

    /// Polls a sleep whose number, once it has one, is `number`.
    pub(super) fn poll(
        &self,
        face: &Arc<Mutex<Face>>,
        goal: Goal,
        rank: Option<u64>,
        number: &mut Option<u64>,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        let mut state = lock(&self.state);
        if number.is_none() && lock(face).reached(goal, state.now) {
            return Poll::Ready(());
        }
        let asleep = *number.get_or_insert_with(|| state.enter(face, goal, rank, Some(context.waker().clone())));
        if state.woken(asleep) {
            state.leave(asleep);
            *number = None;
            self.release(state);
            return Poll::Ready(());
        }
        if let Some(sleeper) = state.sleepers.get_mut(&asleep) {
            sleeper.waker = Some(context.waker().clone());
        }
        self.release(state);
        Poll::Pending
    }

    pub(super) fn forget(&self, number: u64) {
        let mut state = lock(&self.state);
        state.leave(number);
        self.release(state);
    }
}

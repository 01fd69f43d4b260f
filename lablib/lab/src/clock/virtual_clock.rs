//! The clock that moves when it is told to.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use super::true_time::{Face, Goal, Nanos, TrueTime, duration, nanos};
use super::{Clock, Kind, Sleep};
use crate::random::Rng;

/// 2024-01-01T00:00:00Z.
const A_NEW_YEAR: Duration = Duration::from_secs(1_704_067_200);

/// A clock that stands still until it is advanced.
///
/// Cloning gives the same clock once more. [`skewed`](Self::skewed) and [`drifting`](Self::drifting) give the clocks of
/// other nodes, on which the same time passes.
///
/// ```
/// use lab::clock::{Clock, VirtualClock};
/// use std::time::Duration;
///
/// let clock = VirtualClock::new();
/// let other = clock.skewed(-250);
/// clock.advance(Duration::from_secs(60)).step_back(Duration::from_millis(50));
/// assert_eq!(clock.now_ms() - other.now_ms(), 200);
/// assert_eq!(clock.monotonic(), Duration::from_secs(60));
/// assert_eq!(other.monotonic(), Duration::from_secs(60));
/// ```
#[derive(Clone)]
pub struct VirtualClock {
    true_time: Arc<TrueTime>,
    face: Arc<Mutex<Face>>,
}

impl VirtualClock {
    /// A clock whose wall reads 2024-01-01T00:00:00Z.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self::starting_at(A_NEW_YEAR)
    }

    /// A clock whose wall reads `wall` since the Unix epoch.
    pub fn starting_at(wall: Duration) -> Self {
        let face = Face { origin: 0, began: 0, rate: nanos(Duration::from_secs(1)), lead: nanos(wall), frozen: None };
        Self { true_time: Arc::default(), face: Arc::new(Mutex::new(face)) }
    }

    /// A clock that starts somewhere in the ten years from 2024, at a time that depends on nothing but the seed.
    pub fn seeded(seed: u64) -> Self {
        let ten_years = Duration::from_secs(3653 * 24 * 3600);
        let after = Rng::seeded(seed, "virtual clock").below(ten_years.as_nanos() as u64);
        Self::starting_at(A_NEW_YEAR + Duration::from_nanos(after))
    }

    /// Lets time pass, on every view of the clock. Whoever is due wakes on the way, in the order of deadlines, and
    /// time stops at each deadline: for a thread until its sleep has returned, for a [`Participant`] until it sleeps
    /// again or is dropped.
    ///
    /// A participant that waits for something else than this clock holds it up, for ten seconds of real time at most.
    /// For the same reason a participant does not advance the clock itself.
    pub fn advance(&self, by: Duration) -> &Self {
        self.true_time.advance(nanos(by));
        self
    }

    /// [`advance`](Self::advance) in milliseconds.
    pub fn advance_ms(&self, by: u64) -> &Self {
        self.advance(Duration::from_millis(by))
    }

    /// From now on sleeping moves the time: as soon as everyone who [joined](Self::join) sleeps, it goes on to the next
    /// deadline. Where nobody joined, a sleep takes no real time at all.
    ///
    /// ```
    /// use lab::clock::{Clock, VirtualClock};
    /// use std::time::Duration;
    ///
    /// let clock = VirtualClock::new();
    /// clock.auto_advance();
    /// clock.sleep(Duration::from_secs(86_400));
    /// assert_eq!(clock.monotonic(), Duration::from_secs(86_400));
    /// ```
    pub fn auto_advance(&self) -> &Self {
        self.true_time.auto();
        self
    }

    /// Sets this node's wall, forward or back.
    pub fn set(&self, wall: Duration) -> &Self {
        self.change(|face, now| face.set_wall(now, nanos(wall)))
    }

    /// Sets this node's wall back (not before the Unix epoch).
    pub fn step_back(&self, by: Duration) -> &Self {
        self.change(|face, now| face.set_wall(now, face.wall(now) - nanos(by)))
    }

    /// Sets this node's wall forward.
    pub fn step_forward(&self, by: Duration) -> &Self {
        self.change(|face, now| face.set_wall(now, face.wall(now) + nanos(by)))
    }

    /// Stops this node's wall, while monotonic time goes on: a stuck clock. It can still be set.
    pub fn freeze_wall(&self) -> &Self {
        self.change(|face, now| face.frozen = Some(face.wall(now)))
    }

    /// Lets a stopped wall run again, from where it stands.
    pub fn thaw_wall(&self) -> &Self {
        self.change(|face, now| {
            let wall = face.wall(now);
            face.frozen = None;
            face.set_wall(now, wall);
        })
    }

    /// Another node's clock: its wall is `offset_ms` milliseconds ahead of this one's (behind, if negative).
    pub fn skewed(&self, offset_ms: i64) -> Self {
        self.view(|face, now| face.set_wall(now, face.wall(now) + Nanos::from(offset_ms) * 1_000_000))
    }

    /// Another node's clock: from now on it counts `ppm` millionths faster than the true time (slower, if negative).
    ///
    /// Quartz is within 100. Between a standstill (-1,000,000) and double speed (1,000,000).
    pub fn drifting(&self, ppm: f64) -> Self {
        self.view(|face, now| {
            face.began = face.monotonic(now);
            face.origin = now;
            let second = nanos(Duration::from_secs(1));
            // Not a number counts as no drift.
            face.rate = second + ((ppm * 1000.0) as Nanos).clamp(-second, second);
        })
    }

    /// Enrols a thread or a task. Do it before the thread is started, so that time waits for it from the beginning.
    ///
    /// ```
    /// use lab::clock::{Clock, VirtualClock};
    /// use std::{sync::mpsc, thread, time::Duration};
    ///
    /// let clock = VirtualClock::new();
    /// let (log, order) = mpsc::channel();
    /// for (name, every) in [("slow", 5), ("fast", 2)] {
    ///     let (me, log) = (clock.join(), log.clone());
    ///     thread::spawn(move || {
    ///         for _ in 0..2 {
    ///             me.sleep(Duration::from_secs(every));
    ///             log.send((name, me.monotonic().as_secs())).ok();
    ///         }
    ///     });
    /// }
    /// clock.advance(Duration::from_secs(10));
    /// assert_eq!(order.try_iter().collect::<Vec<_>>(), [("fast", 2), ("fast", 4), ("slow", 5), ("slow", 10)]);
    /// ```
    pub fn join(&self) -> Participant {
        let membership = Membership { true_time: self.true_time.clone(), number: self.true_time.join() };
        Participant { clock: self.clone(), membership: Arc::new(membership) }
    }

    /// How many sleep now, on any view.
    pub fn sleepers(&self) -> usize {
        self.true_time.sleepers()
    }

    /// Waits (in real time, ten seconds at most) until so many sleep, and says whether they do: how to know that
    /// threads which did not join have come to their sleep.
    pub fn wait_for_sleepers(&self, count: usize) -> bool {
        self.true_time.wait_for_sleepers(count)
    }

    fn change(&self, act: impl FnOnce(&mut Face, Nanos)) -> &Self {
        self.true_time.change(&self.face, act);
        self
    }

    fn view(&self, act: impl FnOnce(&mut Face, Nanos)) -> Self {
        let face = self.true_time.with(&self.face, |face, now| {
            let mut face = face.clone();
            act(&mut face, now);
            face
        });
        Self { true_time: self.true_time.clone(), face: Arc::new(Mutex::new(face)) }
    }

    fn after(&self, length: Duration) -> Goal {
        Goal::Monotonic(self.after_nanos(length))
    }

    fn after_nanos(&self, length: Duration) -> Nanos {
        self.true_time.with(&self.face, |face, now| face.monotonic(now)) + nanos(length)
    }

    fn toward(&self, wall: Duration, at_most: Duration) -> Goal {
        Goal::Either { wall: nanos(wall), monotonic: self.after_nanos(at_most) }
    }

    fn sleep_toward(&self, goal: Goal, membership: Option<Arc<Membership>>) -> Sleep {
        Sleep(Kind::Virtual(VirtualSleep { clock: self.clone(), goal, membership, number: None }))
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Duration {
        duration(self.true_time.with(&self.face, |face, now| face.wall(now)))
    }

    fn monotonic(&self) -> Duration {
        duration(self.true_time.with(&self.face, |face, now| face.monotonic(now)))
    }

    fn sleep(&self, length: Duration) {
        self.true_time.sleep(&self.face, self.after(length), None);
    }

    fn sleep_until(&self, wall: Duration) {
        self.true_time.sleep(&self.face, Goal::Wall(nanos(wall)), None);
    }

    fn sleep_toward(&self, wall: Duration, at_most: Duration) {
        self.true_time.sleep(&self.face, self.toward(wall, at_most), None);
    }

    fn sleep_async(&self, length: Duration) -> Sleep {
        self.sleep_toward(self.after(length), None)
    }

    fn sleep_until_async(&self, wall: Duration) -> Sleep {
        self.sleep_toward(Goal::Wall(nanos(wall)), None)
    }
}

impl fmt::Debug for VirtualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VirtualClock({:?} since the epoch, {} asleep)", self.now(), self.sleepers())
    }
}

/// One thread or task that time waits for, as long as it exists: while it runs, time stands still.
///
/// It does one thing at a time: hand each thread a participant of its own.
#[derive(Debug)]
pub struct Participant {
    clock: VirtualClock,
    membership: Arc<Membership>,
}

struct Membership {
    true_time: Arc<TrueTime>,
    number: u64,
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.true_time.part(self.number);
    }
}

impl Clock for Participant {
    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    fn sleep(&self, length: Duration) {
        self.clock.true_time.sleep(&self.clock.face, self.clock.after(length), Some(self.membership.number));
    }

    fn sleep_until(&self, wall: Duration) {
        self.clock.true_time.sleep(&self.clock.face, Goal::Wall(nanos(wall)), Some(self.membership.number));
    }

    fn sleep_toward(&self, wall: Duration, at_most: Duration) {
        let goal = self.clock.toward(wall, at_most);
        self.clock.true_time.sleep(&self.clock.face, goal, Some(self.membership.number));
    }

    fn sleep_async(&self, length: Duration) -> Sleep {
        self.clock.sleep_toward(self.clock.after(length), Some(self.membership.clone()))
    }

    fn sleep_until_async(&self, wall: Duration) -> Sleep {
        self.clock.sleep_toward(Goal::Wall(nanos(wall)), Some(self.membership.clone()))
    }
}

/// A sleep on a virtual clock; numbered while it waits.
pub(super) struct VirtualSleep {
    clock: VirtualClock,
    goal: Goal,
    membership: Option<Arc<Membership>>,
    number: Option<u64>,
}

impl VirtualSleep {
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let rank = self.membership.as_ref().map(|membership| membership.number);
        self.clock.true_time.poll(&self.clock.face, self.goal, rank, &mut self.number, context)
    }
}

impl Drop for VirtualSleep {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.clock.true_time.forget(number);
        }
    }
}

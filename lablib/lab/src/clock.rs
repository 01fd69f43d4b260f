//! Time that a system is handed instead of taking it: the machine's own, or a virtual one that moves when told to.
//!
//! A clock has two hands. [`Clock::now`] is the *wall* clock, what the calendar and other machines agree on; somebody
//! may set it, so it can jump and go back. [`Clock::monotonic`] only ever counts up, and is what durations, TTLs and
//! leases are measured with. [`Clock::sleep`] follows the second, [`Clock::sleep_until`] the first.
//!
//! What holds of a [`VirtualClock`], from whichever thread it is used:
//!
//! * **Setting the wall never moves monotonic time.** [`set`](VirtualClock::set),
//!   [`step_back`](VirtualClock::step_back) and [`freeze_wall`](VirtualClock::freeze_wall) change what one node reads
//!   as wall time, and nothing else.
//! * **Time moves when it is told to, and by exactly that much:** by [`advance`](VirtualClock::advance), or by sleeping
//!   where [`auto_advance`](VirtualClock::auto_advance) is on. The same calls give the same readings.
//! * **Nobody wakes early.** A `sleep` ends at the first nanosecond at which the sleeper's monotonic time has counted
//!   its length, a `sleep_until` when its wall reads the time or more, whatever was set in between.
//! * **Sleepers wake in the order of their deadlines.** Those that [joined](VirtualClock::join) run one at a time, each
//!   reading exactly its own deadline, equal deadlines in the order of joining, and `advance` returns when all sleep
//!   again: threads run the same way every time. Others (threads and futures) are woken in order and run as they like.
//! * **All views show one time.** [`skewed`](VirtualClock::skewed) nodes differ in their wall only,
//!   [`drifting`](VirtualClock::drifting) ones count both hands faster or slower; advancing one advances all.
//! * **A sleep that is dropped is forgotten:** it holds nobody up and moves no time.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::runtime::runtime;

mod true_time;
mod virtual_clock;

use virtual_clock::VirtualSleep;
pub use virtual_clock::{Participant, VirtualClock};

/// How late [`SystemClock::sleep_until`] may notice that somebody has set the machine's clock.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What a system that needs time asks for it.
///
/// ```
/// use lab::clock::{Clock, VirtualClock};
/// use std::time::Duration;
///
/// fn expired(clock: &dyn Clock, granted: Duration) -> bool {
///     clock.monotonic() - granted >= Duration::from_secs(30)
/// }
///
/// let clock = VirtualClock::new();
/// let granted = clock.monotonic();
/// clock.advance(Duration::from_secs(29));
/// assert!(!expired(&clock, granted));
/// clock.step_back(Duration::from_secs(3600)).advance(Duration::from_secs(1));
/// assert!(expired(&clock, granted));
/// ```
pub trait Clock: Send + Sync {
    /// The wall clock: time since the Unix epoch. It may jump, stand still and go back.
    fn now(&self) -> Duration;

    /// Time since some beginning, the same for all clones of the clock. It never goes back.
    fn monotonic(&self) -> Duration;

    /// Blocks until monotonic time has counted `length`.
    fn sleep(&self, length: Duration);

    /// Blocks until the wall clock reads `wall` or later.
    fn sleep_until(&self, wall: Duration);

    /// Blocks until the wall clock reads `wall` or later, but for no longer than `at_most` of monotonic time: for who must
    /// not wait an hour because somebody has set the clock back by one.
    fn sleep_toward(&self, wall: Duration, at_most: Duration) {
        self.sleep(wall.saturating_sub(self.now()).min(at_most));
    }

    /// [`sleep`](Self::sleep) for asynchronous code. It counts from this call, not from the first poll.
    fn sleep_async(&self, length: Duration) -> Sleep;

    /// [`sleep_until`](Self::sleep_until) for asynchronous code.
    fn sleep_until_async(&self, wall: Duration) -> Sleep;

    /// [`now`](Self::now) in whole milliseconds, rounded down.
    fn now_ms(&self) -> u64 {
        milliseconds(self.now())
    }

    /// [`monotonic`](Self::monotonic) in whole milliseconds, rounded down.
    fn monotonic_ms(&self) -> u64 {
        milliseconds(self.monotonic())
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Duration {
        (**self).now()
    }

    fn monotonic(&self) -> Duration {
        (**self).monotonic()
    }

    fn sleep(&self, length: Duration) {
        (**self).sleep(length);
    }

    fn sleep_until(&self, wall: Duration) {
        (**self).sleep_until(wall);
    }

    fn sleep_toward(&self, wall: Duration, at_most: Duration) {
        (**self).sleep_toward(wall, at_most);
    }

    fn sleep_async(&self, length: Duration) -> Sleep {
        (**self).sleep_async(length)
    }

    fn sleep_until_async(&self, wall: Duration) -> Sleep {
        (**self).sleep_until_async(wall)
    }
}

/// The machine's own clock.
///
/// ```
/// use lab::clock::{Clock, SystemClock};
/// use std::time::Duration;
///
/// let before = SystemClock.monotonic();
/// SystemClock.sleep(Duration::from_millis(2));
/// assert!(SystemClock.monotonic() - before >= Duration::from_millis(2));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }

    fn monotonic(&self) -> Duration {
        static BEGINNING: OnceLock<Instant> = OnceLock::new();
        BEGINNING.get_or_init(Instant::now).elapsed()
    }

    fn sleep(&self, length: Duration) {
        thread::sleep(length);
    }

    fn sleep_until(&self, wall: Duration) {
        while let Some(left) = self.left_until(wall) {
            thread::sleep(left);
        }
    }

    fn sleep_async(&self, length: Duration) -> Sleep {
        SystemSleep::lasting(length, None)
    }

    fn sleep_until_async(&self, wall: Duration) -> Sleep {
        SystemSleep::lasting(self.left_until(wall).unwrap_or_default(), Some(wall))
    }
}

impl SystemClock {
    /// How long to sleep before it is worth looking at the wall again; None once it reads `wall`.
    fn left_until(self, wall: Duration) -> Option<Duration> {
        wall.checked_sub(self.now()).filter(|left| !left.is_zero()).map(|left| left.min(LOOK_AGAIN))
    }
}

/// A sleep that asynchronous code awaits. Dropping it ends it.
///
/// ```
/// use lab::clock::{Clock, VirtualClock};
/// use lab::runtime::block_on;
/// use std::time::Duration;
///
/// let clock = VirtualClock::new();
/// let sleep = clock.sleep_async(Duration::from_secs(3600));
/// clock.advance(Duration::from_secs(3600));
/// block_on(sleep);
/// ```
#[must_use = "a sleep does nothing unless it is awaited"]
pub struct Sleep(Kind);

enum Kind {
    System(SystemSleep),
    Virtual(VirtualSleep),
}

struct SystemSleep {
    timer: Pin<Box<tokio::time::Sleep>>,
    until: Option<Duration>,
}

impl SystemSleep {
    fn lasting(length: Duration, until: Option<Duration>) -> Sleep {
        // The lab's own timers, so that any executor can await it.
        let _inside = runtime().enter();
        Sleep(Kind::System(Self { timer: Box::pin(tokio::time::sleep(length)), until }))
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            let Some(left) = self.until.and_then(|wall| SystemClock.left_until(wall)) else { return Poll::Ready(()) };
            self.timer.as_mut().reset(tokio::time::Instant::now() + left);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Kind::System(sleep) => sleep.poll(context),
            Kind::Virtual(sleep) => sleep.poll(context),
        }
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::System(_) => "Sleep(system)",
            Kind::Virtual(_) => "Sleep(virtual)",
        })
    }
}

/// The moment so much later than now, for a deadline; one that is beyond reckoning is a day away.
pub fn deadline_in(time: Duration) -> std::time::Instant {
    let now = std::time::Instant::now();
    now.checked_add(time).unwrap_or_else(|| now + Duration::from_secs(86_400))
}

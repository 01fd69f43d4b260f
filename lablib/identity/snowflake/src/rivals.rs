//! The crates of the field, and clocks that read something else than the machine's.

use std::fmt;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ferroid::generator::AtomicSnowflakeGenerator;
use ferroid::id::SnowflakeTwitterId;
use ferroid::time::{TWITTER_EPOCH, TimeSource};

use crate::{Layout, Snowflake};
use lab::clock::{Clock, Sleep, SystemClock};
use lab::{Crowd, Error, Result};

/// Ids in one go. Two bursts of one maker, next to each other where the order turns round, still fit into one millisecond of
/// 4,096: nobody ever waits for the clock, so that the race is about what an id costs and not about what a layout allows.
pub const BURST: u64 = 2_000;

/// Who makes ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rival {
    /// Ours.
    Ours,
    /// The crate snowflaked.
    Snowflaked,
    /// The crate ferroid, on the same clock as ours.
    Ferroid,
    /// Ours, on a clock that ticks.
    OursTicking,
    /// ferroid, on a clock that ticks.
    FerroidTicking,
    /// The crate uuid, with the time in it.
    UuidV7,
    /// The crate uuid, random.
    UuidV4,
    /// The crate ulid.
    Ulid,
}

impl Rival {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Ours,
        Self::Snowflaked,
        Self::Ferroid,
        Self::OursTicking,
        Self::FerroidTicking,
        Self::UuidV7,
        Self::UuidV4,
        Self::Ulid,
    ];

    /// Makes bursts of ids, with the [ticking](while_ticking) clock at hand.
    pub fn open(self, ticks: &Arc<AtomicU64>) -> Result<Burst> {
        let ticks = Arc::clone(ticks);
        let ticking = Reading(move || ticks.load(Ordering::Relaxed));
        match self {
            Self::Ours => ours(SystemClock),
            Self::OursTicking => ours(ticking),
            Self::Snowflaked => {
                let ids = snowflaked::sync::Generator::new(1);
                others(move || ids.generate::<u64>())
            }
            Self::Ferroid => ferroid(SystemClock),
            Self::FerroidTicking => ferroid(ticking),
            Self::UuidV7 => others(uuid::Uuid::now_v7),
            Self::UuidV4 => others(uuid::Uuid::new_v4),
            Self::Ulid => others(ulid::Ulid::generate),
        }
    }
}

impl fmt::Display for Rival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ours => "ours",
            Self::Snowflaked => "snowflaked",
            Self::Ferroid => "ferroid",
            Self::OursTicking => "ours, ticking clock",
            Self::FerroidTicking => "ferroid, ticking clock",
            Self::UuidV7 => "uuid v7",
            Self::UuidV4 => "uuid v4",
            Self::Ulid => "ulid",
        })
    }
}

/// Makes so many ids, and says how many it made: an id that was refused is no work.
pub type Burst = Box<dyn FnMut(u64) -> Result<u64>>;

fn ours<C: Clock + 'static>(clock: C) -> Result<Burst> {
    let ids = Snowflake::on(clock, Layout::WORKERS_1024, 1)?;
    Ok(Box::new(move |count| {
        let (mut made, mut last) = (0, 0);
        for _ in 0..count {
            if let Ok(id) = black_box(ids.next_id()) {
                (made, last) = (made + 1, id);
            }
        }
        // Nobody is fast by running ahead of the clock.
        let ahead = ids.layout().decode(last)?.time().0 > ids.clock().now_ms();
        if ahead { Err(Error::new("race for ids", "ours ran ahead of the clock")) } else { Ok(made) }
    }))
}

fn ferroid(clock: impl Clock + 'static) -> Result<Burst> {
    let ids = AtomicSnowflakeGenerator::<SnowflakeTwitterId, _>::new(1, SinceTwitter(clock));
    others(move || ids.next_id(|_| std::thread::yield_now()))
}

fn others<T>(mut make: impl FnMut() -> T + 'static) -> Result<Burst> {
    Ok(Box::new(move |count| {
        for _ in 0..count {
            black_box(make());
        }
        Ok(count)
    }))
}

/// One of our clocks, as ferroid reads clocks.
struct SinceTwitter<C>(C);

impl<C: Clock> TimeSource<u64> for SinceTwitter<C> {
    fn current_millis(&self) -> u64 {
        const EPOCH: u64 = TWITTER_EPOCH.as_secs() * 1_000 + TWITTER_EPOCH.subsec_millis() as u64;
        self.0.now_ms().saturating_sub(EPOCH)
    }
}

/// A thread sets a number to the time once in a millisecond, as long as something is done: cheap to read, and late when the
/// thread is late.
pub fn while_ticking<T>(act: impl FnOnce(&Arc<AtomicU64>) -> Result<T>) -> Result<T> {
    let ticks = Arc::new(AtomicU64::new(SystemClock.now_ms()));
    let ticking = Crowd::of(1).lasting(Duration::ZERO).within(Duration::from_secs(3_600));
    let (done, _) = ticking.during(
        || act(&ticks),
        |_, call| {
            ticks.store(SystemClock.now_ms(), Ordering::Relaxed);
            call.rest(Duration::from_millis(1));
            Ok(())
        },
    )?;
    Ok(done)
}

/// A clock that reads whatever it is told, in milliseconds since 1970, and sleeps as long as the machine's does.
#[derive(Clone)]
pub(crate) struct Reading<F>(pub(crate) F);

impl<F: Fn() -> u64 + Send + Sync> Clock for Reading<F> {
    fn now(&self) -> Duration {
        Duration::from_millis(self.now_ms())
    }

    fn now_ms(&self) -> u64 {
        (self.0)()
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }

    fn sleep(&self, length: Duration) {
        SystemClock.sleep(length);
    }

    fn sleep_until(&self, wall: Duration) {
        SystemClock.sleep(wall.saturating_sub(self.now()));
    }

    fn sleep_async(&self, length: Duration) -> Sleep {
        SystemClock.sleep_async(length)
    }

    fn sleep_until_async(&self, wall: Duration) -> Sleep {
        SystemClock.sleep_async(wall.saturating_sub(self.now()))
    }
}

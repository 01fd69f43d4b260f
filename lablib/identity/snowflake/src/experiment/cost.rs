//! What an id costs beside the crates of the field.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ferroid::generator::AtomicSnowflakeGenerator;
use ferroid::id::SnowflakeTwitterId;
use ferroid::time::{TWITTER_EPOCH, TimeSource};

use crate::{Layout, Snowflake};
use lab::chart::{Bars, Chart};
use lab::clock::{Clock, Sleep, SystemClock};
use lab::{Error, OrFail, Race, Raced, Result, Samples};

/// Ids in one go. Two bursts of one arm, next to each other where the order turns round, still fit into one millisecond of
/// 4,096: no arm ever waits for the clock, so that the race is about what an id costs and not about what a layout allows.
const BURST: u64 = 2_000;
/// The arm that lets a millisecond pass in every round.
const BREATH: &str = "a pause";

/// A number that a thread sets to the time once in a millisecond: cheap to read, and late when the thread is late.
#[derive(Clone)]
struct Ticking(Arc<AtomicU64>);

impl Clock for Ticking {
    fn now(&self) -> Duration {
        Duration::from_millis(self.now_ms())
    }

    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }

    fn sleep(&self, length: Duration) {
        SystemClock.sleep(length);
    }

    fn sleep_until(&self, wall: Duration) {
        SystemClock.sleep_until(wall);
    }

    fn sleep_async(&self, length: Duration) -> Sleep {
        SystemClock.sleep_async(length)
    }

    fn sleep_until_async(&self, wall: Duration) -> Sleep {
        SystemClock.sleep_until_async(wall)
    }
}

/// One of our clocks, as ferroid reads clocks.
struct Ours<C>(C);

impl<C: Clock> TimeSource<u64> for Ours<C> {
    fn current_millis(&self) -> u64 {
        const EPOCH: u64 = TWITTER_EPOCH.as_secs() * 1_000 + TWITTER_EPOCH.subsec_millis() as u64;
        self.0.now_ms().saturating_sub(EPOCH)
    }
}

/// All arms, interleaved, over so many rounds.
pub fn cost(rounds: usize) -> Raced {
    let (ticks, over) = (Ticking(Arc::new(AtomicU64::new(SystemClock.now_ms()))), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                ticks.0.store(SystemClock.now_ms(), Ordering::Relaxed);
                SystemClock.sleep(Duration::from_millis(1));
            }
        });
        let raced = race(rounds, &ticks);
        over.store(true, Ordering::Relaxed);
        raced
    })
    .or_fail()
}

fn race(rounds: usize, ticks: &Ticking) -> Result<Raced> {
    let ours = Snowflake::new(Layout::WORKERS_1024, 1)?;
    let ours_ticking = Snowflake::on(ticks.clone(), Layout::WORKERS_1024, 1)?;
    let snowflaked = snowflaked::sync::Generator::new(1);
    let ferroid = AtomicSnowflakeGenerator::<SnowflakeTwitterId, _>::new(1, Ours(SystemClock));
    let ferroid_ticking = AtomicSnowflakeGenerator::<SnowflakeTwitterId, _>::new(1, Ours(ticks.clone()));
    // An id that was refused is no work: the race compares what the arms say that they did.
    let good = |made: &Result<u64>| u64::from(made.is_ok());
    let raced = Race::of(rounds)
        .arm("ours", || (0..BURST).map(|_| good(&black_box(ours.next_id()))).sum())
        .arm("snowflaked", || burst(|| snowflaked.generate::<u64>()))
        .arm("ferroid", || burst(|| ferroid.next_id(|_| std::thread::yield_now())))
        .arm("ours, ticking clock", || (0..BURST).map(|_| good(&black_box(ours_ticking.next_id()))).sum())
        .arm("ferroid, ticking clock", || burst(|| ferroid_ticking.next_id(|_| std::thread::yield_now())))
        .arm("uuid v7", || burst(uuid::Uuid::now_v7))
        .arm("uuid v4", || burst(uuid::Uuid::new_v4))
        .arm("ulid", || burst(ulid::Ulid::generate))
        .arm(BREATH, || {
            SystemClock.sleep(Duration::from_micros(1_100));
            BURST
        })
        .try_run()?;
    // The last id of each has the millisecond that it was made in, so nobody ran ahead of the clock to be fast.
    let layout = Layout::WORKERS_1024;
    let last = layout.decode(ours.next_id()?)?.time().0;
    let now = SystemClock.now_ms();
    if last > now { Err(Error::new("race for ids", "ours ran ahead of the clock")) } else { Ok(raced) }
}

fn burst<T>(mut make: impl FnMut() -> T) -> u64 {
    for _ in 0..BURST {
        black_box(make());
    }
    BURST
}

/// How many times as much ours costs as the cheapest other snowflake on the same clock.
pub fn ours_to_best(raced: &Raced) -> Samples {
    let median = |rival: &&str| raced.nanoseconds_each(rival).median();
    let best = ["snowflaked", "ferroid"].into_iter().min_by(|a, b| median(a).total_cmp(&median(b)));
    raced.ratio("ours", best.unwrap_or("ferroid"))
}

/// Nanoseconds of each arm.
pub fn cost_chart(raced: &Raced, title: &str) -> Bars {
    let arms = raced.names().into_iter().filter(|name| *name != BREATH);
    let chart = Chart::bars(title).y("one id", "ns").horizontal().highlight("ours");
    arms.fold(chart, |chart, arm| {
        let (middle, low, high) = raced.nanoseconds_each(arm).median_and_quartiles();
        chart.bar_with_spread(arm, (middle, low, high))
    })
}

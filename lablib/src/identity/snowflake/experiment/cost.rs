//! What an id costs beside the crates of the field.

use std::hint::black_box;
use std::time::Duration;

use ferroid::generator::AtomicSnowflakeGenerator;
use ferroid::id::SnowflakeTwitterId;
use ferroid::time::{MonotonicClock, TWITTER_EPOCH, TimeSource};

use crate::identity::snowflake::{Layout, Snowflake};
use crate::lab::chart::{Bars, Chart};
use crate::lab::clock::{Clock, SystemClock};
use crate::lab::{OrFail, Race, Raced, Result};

/// Ids in one go. Two bursts of one arm, next to each other where the order turns round, still fit into one millisecond of
/// 4,096: no arm ever waits for the clock, so that the race is about what an id costs and not about what a layout allows.
const BURST: u64 = 2_000;
/// The arm that lets a millisecond pass in every round.
const BREATH: &str = "a pause";

/// The machine's clock, as ours reads it.
struct System;

impl TimeSource<u64> for System {
    fn current_millis(&self) -> u64 {
        SystemClock.now_ms().saturating_sub(TWITTER_EPOCH.as_secs() * 1_000 + u64::from(TWITTER_EPOCH.subsec_millis()))
    }
}

/// All arms, interleaved, over so many rounds: ours first.
pub fn cost(rounds: usize) -> Raced {
    race(rounds).or_fail()
}

fn race(rounds: usize) -> Result<Raced> {
    let ours = Snowflake::new(Layout::WORKERS_1024, 1)?;
    let snowflaked = snowflaked::sync::Generator::new(1);
    let on_system = AtomicSnowflakeGenerator::<SnowflakeTwitterId, _>::new(1, System);
    let on_ticks =
        AtomicSnowflakeGenerator::<SnowflakeTwitterId, _>::new(1, MonotonicClock::<1>::with_epoch(TWITTER_EPOCH));
    Race::of(rounds)
        .arm("ours", || {
            let mut last = 0;
            for _ in 0..BURST {
                // A loop that hit an error would be done too soon, and its work would differ.
                let Ok(id) = ours.next_id() else { return 0 };
                last = black_box(id);
            }
            if last == 0 { 0 } else { BURST }
        })
        .arm("snowflaked", || burst(|| snowflaked.generate::<u64>()))
        .arm("ferroid, same clock", || burst(|| on_system.next_id(|_| std::thread::yield_now())))
        .arm("ferroid, ticking clock", || burst(|| on_ticks.next_id(|_| std::thread::yield_now())))
        .arm("uuid v7", || burst(uuid::Uuid::now_v7))
        .arm("uuid v4", || burst(uuid::Uuid::new_v4))
        .arm("ulid", || burst(ulid::Ulid::generate))
        .arm(BREATH, || {
            SystemClock.sleep(Duration::from_micros(1_100));
            BURST
        })
        .try_run()
}

fn burst<T>(mut make: impl FnMut() -> T) -> u64 {
    for _ in 0..BURST {
        black_box(make());
    }
    BURST
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

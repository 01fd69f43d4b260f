//! Latencies: a histogram that keeps every operation, and loads that do not hide the slow ones.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::number::readable;
use crate::{Error, Frame, Result};

/// The distribution of some operation's duration, to three digits, from a nanosecond to an hour.
///
/// ```
/// use lab::Latency;
///
/// let adding = Latency::measure(1_000, || std::hint::black_box(1) + 1);
/// assert_eq!(adding.count(), 1_000);
/// assert!(adding.p50() <= adding.p99());
/// ```
#[derive(Debug, Clone)]
pub struct Latency {
    histogram: Histogram<u64>,
    /// When the first operation was measured; not known of what another process hands over.
    taken: Option<Instant>,
}

const HOUR: u64 = 3_600_000_000_000;

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

impl Latency {
    /// Nothing measured yet.
    pub fn new() -> Self {
        // The bounds are constants that the histogram accepts; the fallback is never taken.
        let histogram = Histogram::new_with_bounds(1, HOUR, 3).or_else(|_| Histogram::new(3));
        Self { histogram: histogram.unwrap_or_else(|error| panic!("no histogram: {error}")), taken: None }
    }

    /// Runs `operation` one after the other, `count` times, after a tenth as many to warm up.
    ///
    /// A closed loop: it answers "how long does one take", not "how long does a user wait"; for that see [`OpenLoop`].
    pub fn measure<T>(count: u64, mut operation: impl FnMut() -> T) -> Self {
        for _ in 0..count.div_ceil(10) {
            std::hint::black_box(operation());
        }
        let mut latency = Self::new();
        for _ in 0..count {
            let start = Instant::now();
            std::hint::black_box(operation());
            latency.record(start.elapsed());
        }
        latency
    }

    /// As [`measure`](Self::measure), for operations that are over before the clock is read: `count` batches of `batch`
    /// operations each, whose mean counts as one.
    pub fn measure_in_batches<T>(count: u64, batch: u32, mut operation: impl FnMut() -> T) -> Self {
        let mut run = || {
            for _ in 0..batch {
                std::hint::black_box(operation());
            }
        };
        (0..count.div_ceil(10)).for_each(|_| run());
        let mut latency = Self::new();
        for _ in 0..count {
            let start = Instant::now();
            run();
            latency.record(start.elapsed() / batch.max(1));
        }
        latency
    }

    /// Adds one duration; longer than an hour counts as an hour.
    pub fn record(&mut self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(HOUR);
        self.histogram.saturating_record(nanoseconds.clamp(1, HOUR));
        self.taken.get_or_insert_with(Instant::now);
    }

    /// Adds all of another's durations.
    pub fn merge(&mut self, other: &Self) {
        // Both have the same bounds, which is all that adding can fail for.
        let _ = self.histogram.add(&other.histogram);
        self.taken = self.taken.into_iter().chain(other.taken).min();
    }

    /// How many operations were measured.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The duration that `percent` of the operations did not exceed; zero where nothing was measured.
    pub fn percentile(&self, percent: f64) -> Duration {
        Duration::from_nanos(self.histogram.value_at_quantile((percent / 100.0).clamp(0.0, 1.0)))
    }

    /// The median.
    pub fn p50(&self) -> Duration {
        self.percentile(50.0)
    }

    /// 99 of 100 took no longer.
    pub fn p99(&self) -> Duration {
        self.percentile(99.0)
    }

    /// 999 of 1,000 took no longer.
    pub fn p999(&self) -> Duration {
        self.percentile(99.9)
    }

    /// The slowest.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(if self.histogram.is_empty() { 0 } else { self.histogram.max() })
    }

    /// The mean.
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.histogram.mean() as u64)
    }

    /// How many times as long as the other it takes, at the median.
    pub fn ratio_to(&self, other: &Self) -> f64 {
        self.p50().as_secs_f64() / other.p50().as_secs_f64()
    }

    /// A row for each duration that was measured (to three digits), the shortest first: took (s), how many operations took that
    /// long, and what share of all took no longer (%).
    ///
    /// ```
    /// use lab::Latency;
    /// use std::time::Duration;
    ///
    /// let mut waits = Latency::new();
    /// [1, 1, 1, 40].map(|milliseconds| waits.record(Duration::from_millis(milliseconds)));
    /// let slow = waits.frame().filter_by(|row| row.number("took") > 0.01);
    /// assert_eq!((slow.number("operations"), slow.number("no longer")), (1.0, 100.0));
    /// ```
    pub fn frame(&self) -> Frame {
        let recorded: Vec<_> = self.histogram.iter_recorded().collect();
        Frame::new()
            .numbers("took", "s", recorded.iter().map(|step| step.value_iterated_to() as f64 / 1e9))
            .counts("operations", "", recorded.iter().map(|step| step.count_at_value()))
            .numbers("no longer", "%", recorded.iter().map(|step| 100.0 * step.quantile()))
            .taken_at(self.taken)
    }

    /// The distribution in seconds, as (from, to, count), in steps that look even on a log axis. Empty steps are left out.
    pub fn buckets(&self) -> Vec<(f64, f64, u64)> {
        const STEPS_PER_DECADE: f64 = 12.0;
        let mut buckets: Vec<(i32, u64)> = Vec::new();
        for value in self.histogram.iter_recorded() {
            let step = ((value.value_iterated_to() as f64).log10() * STEPS_PER_DECADE).floor() as i32;
            match buckets.last_mut() {
                Some((last, count)) if *last == step => *count += value.count_at_value(),
                _ => buckets.push((step, value.count_at_value())),
            }
        }
        let edge = |step: i32| 10_f64.powf(f64::from(step) / STEPS_PER_DECADE) / 1e9;
        buckets.into_iter().map(|(step, count)| (edge(step), edge(step + 1), count)).collect()
    }
}

impl std::fmt::Display for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [p50, p99, p999] = [self.p50(), self.p99(), self.p999()].map(readable);
        write!(f, "p50 {p50}, p99 {p99}, p99.9 {p999} ({} operations)", self.count())
    }
}

/// As pairs of nanoseconds and how many: for what a process of its own measured.
impl Serialize for Latency {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let recorded = self.histogram.iter_recorded();
        serializer.collect_seq(recorded.map(|value| (value.value_iterated_to(), value.count_at_value())))
    }
}

impl<'de> Deserialize<'de> for Latency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mut latency = Self::new();
        for (nanoseconds, count) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            latency.histogram.saturating_record_n(nanoseconds.clamp(1, HOUR), count);
        }
        Ok(latency)
    }
}

/// A load that arrives on schedule, whatever the system does with it, as users do.
///
/// Each operation's latency counts from the moment at which it was due, not from the moment at which a worker got
/// around to it: a system that stalls for a second makes everybody wait who arrived in that second, and leaving them out is
/// coordinated omission.
#[derive(Debug, Clone, Copy)]
pub struct OpenLoop {
    rate: f64,
    duration: Duration,
    workers: usize,
}

/// What an open loop saw.
#[derive(Debug, Clone, Default)]
pub struct Load {
    /// From due to done: what a user waits.
    pub response: Latency,
    /// From started to done: what the system needs.
    pub service: Latency,
}

impl OpenLoop {
    /// So many operations a second.
    pub fn per_second(rate: f64) -> Self {
        Self { rate, duration: Duration::from_secs(1), workers: 1 }
    }

    /// For how long they arrive.
    pub fn lasting(mut self, duration: Duration) -> Self {
        self.duration = duration;
        self
    }

    /// How many may be in progress at once.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// Runs the load. `operation` gets the number of the arrival; a panic in it is the caller's.
    pub fn run(&self, operation: impl Fn(u64) + Sync) -> Result<Load> {
        self.run_until(&AtomicBool::new(false), operation)
    }

    /// As [`run`](Self::run), until `stop` is set: nobody arrives any more then, and who is in progress ends.
    pub fn run_until(&self, stop: &AtomicBool, operation: impl Fn(u64) + Sync) -> Result<Load> {
        if !(self.rate.is_finite() && self.rate > 0.0) {
            return Err(Error::new("run the load", format!("{} operations a second is no rate", self.rate)));
        }
        let arrivals = (self.rate * self.duration.as_secs_f64()).round() as u64;
        let next = AtomicU64::new(0);
        let load = Mutex::new(Load::default());
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..self.workers {
                scope.spawn(|| {
                    let mut mine = Load::default();
                    loop {
                        let arrival = next.fetch_add(1, Ordering::Relaxed);
                        if arrival >= arrivals {
                            break;
                        }
                        let due = start + Duration::from_secs_f64(arrival as f64 / self.rate);
                        wait_until(due);
                        if stop.load(Ordering::SeqCst) {
                            break;
                        }
                        let started = Instant::now();
                        operation(arrival);
                        let done = Instant::now();
                        mine.response.record(done - due);
                        mine.service.record(done - started);
                    }
                    let mut all = load.lock().unwrap_or_else(PoisonError::into_inner);
                    all.response.merge(&mine.response);
                    all.service.merge(&mine.service);
                });
            }
        });
        Ok(load.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Sleeps for most of the time, then spins: a sleep alone is late by up to 0.1 ms, which would count as latency.
pub(crate) fn wait_until(due: Instant) {
    const SPIN: Duration = Duration::from_micros(100);
    let now = Instant::now();
    if let Some(left) = due.checked_duration_since(now)
        && left > SPIN
    {
        std::thread::sleep(left - SPIN);
    }
    while Instant::now() < due {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_known_distribution() {
        let mut latency = Latency::new();
        for microseconds in 1..=1_000 {
            latency.record(Duration::from_micros(microseconds));
        }
        let near =
            |duration: Duration, microseconds: f64| (duration.as_secs_f64() * 1e6 / microseconds - 1.0).abs() < 0.002;
        assert!(near(latency.p50(), 500.0), "{latency}");
        assert!(near(latency.p99(), 990.0), "{latency}");
        assert!(near(latency.p999(), 999.0), "{latency}");
        assert_eq!(latency.buckets().iter().map(|bucket| bucket.2).sum::<u64>(), 1_000);
    }

    #[test]
    fn its_frame_is_as_old_as_its_first_operation() {
        let (mut first, mut second) = (Latency::new(), Latency::new());
        first.record(Duration::from_millis(1));
        let after_first = Instant::now();
        second.record(Duration::from_millis(2));
        let after_second = Instant::now();
        assert!(second.frame().taken().unwrap() >= after_first && second.frame().taken().unwrap() <= after_second);
        second.merge(&first);
        assert!(second.frame().taken().unwrap() <= after_first);
    }

    #[test]
    fn extremes_are_kept() {
        let mut latency = Latency::new();
        latency.record(Duration::ZERO);
        latency.record(Duration::from_secs(1_000_000));
        assert_eq!(latency.count(), 2);
        assert!(latency.max() >= Duration::from_secs(3_590));
        assert_eq!(Latency::new().p99(), Duration::ZERO);
        assert!(Latency::new().buckets().is_empty());
    }

    #[test]
    fn a_latency_crosses_from_one_process_to_another() {
        let mut latency = Latency::new();
        (1..=5_000_u64).for_each(|n| latency.record(Duration::from_nanos(n * n)));
        let there: Latency = serde_json::from_str(&serde_json::to_string(&latency).unwrap()).unwrap();
        assert_eq!((there.count(), there.buckets()), (latency.count(), latency.buckets()));
        for percent in [1.0, 50.0, 99.0, 99.9, 100.0] {
            assert_eq!(there.percentile(percent), latency.percentile(percent));
        }
    }

    /// One stall of 200 ms at 1,000 arrivals a second: a fifth of all users waited, though only one operation was slow.
    #[test]
    fn a_stall_is_felt_by_all_who_arrived_in_it() {
        let stall = Duration::from_millis(200);
        let load = OpenLoop::per_second(1_000.0)
            .lasting(Duration::from_millis(500))
            .run(|arrival| {
                if arrival == 100 {
                    std::thread::sleep(stall);
                }
            })
            .unwrap();
        assert_eq!(load.response.count(), 500);
        // Those who arrived in the stall waited 100 ms on average: the 80th percentile shows them, whatever else is slow.
        assert!(load.response.percentile(80.0) >= Duration::from_millis(50), "{}", load.response);
        assert!(load.response.max() >= stall);
    }

    #[test]
    fn a_load_that_is_stopped_ends() {
        let (stop, begun) = (AtomicBool::new(false), Instant::now());
        let load = OpenLoop::per_second(1_000.0).lasting(Duration::from_secs(60)).workers(3);
        let load = load.run_until(&stop, |arrival| stop.store(arrival >= 20, Ordering::SeqCst)).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert!((20..30).contains(&load.service.count()), "{}", load.service.count());
    }

    #[test]
    fn a_rate_of_nothing_is_refused() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(OpenLoop::per_second(rate).run(|_| ()).is_err());
        }
    }
}

//! Timestamps that are real time and a total order at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Hands out nanoseconds since its creation, each later than every one handed out before.
///
/// One atomic decides both the time and the order: an event that ends before another begins always has the smaller
/// number, also when the machine's clock is too coarse to tell them apart.
#[derive(Debug)]
pub(super) struct Clock {
    origin: Instant,
    last: AtomicU64,
}

impl Clock {
    /// A clock whose first tick is later than `after` nanoseconds.
    pub(super) fn starting_after(after: u64) -> Self {
        Self { origin: Instant::now(), last: AtomicU64::new(after) }
    }

    /// Nothing that has a time of this clock is older.
    pub(super) fn origin(&self) -> Instant {
        self.origin
    }

    pub(super) fn tick(&self) -> u64 {
        let now = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut last = self.last.load(Ordering::SeqCst);
        loop {
            let next = now.max(last.saturating_add(1));
            match self.last.compare_exchange_weak(last, next, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return next,
                Err(newer) => last = newer,
            }
        }
    }
}

/// Nanoseconds for a reader, in the unit that keeps the number short.
pub(super) fn readable(nanos: u64) -> String {
    if nanos == u64::MAX {
        "the end".to_string()
    } else if nanos >= 1_000_000_000 {
        format!("{:.3} s", nanos as f64 / 1e9)
    } else if nanos >= 1_000_000 {
        format!("{:.3} ms", nanos as f64 / 1e6)
    } else if nanos >= 1_000 {
        format!("{:.3} µs", nanos as f64 / 1e3)
    } else {
        format!("{nanos} ns")
    }
}

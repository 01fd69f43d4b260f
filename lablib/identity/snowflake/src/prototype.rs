//! The prototypes, as they were: what they make of a millisecond that is full.
//!
//! They read the same clocks as ours, and where they spin, the ports wait on the clock, so that a virtual one can move on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::layout::Layout;
use lab::clock::Clock;
use lab::{Error, Result};

/// The one with a lock: when the sequence is full it waits for the next millisecond, and forgets to note that it did.
pub struct Forgetful<C> {
    clock: C,
    worker: u64,
    /// The last timestamp and the last sequence.
    last: Mutex<(u64, u64)>,
}

impl<C: Clock> Forgetful<C> {
    /// 41|10|12 since 2020, as it was.
    pub fn new(clock: C, worker: u64) -> Self {
        Self { clock, worker, last: Mutex::new((0, 0)) }
    }

    /// The next id.
    pub fn next_id(&self) -> Result<u64> {
        let layout = Layout::WORKERS_1024;
        let now = || self.clock.now_ms().saturating_sub(layout.epoch_ms());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut timestamp = now();
        if timestamp < last.0 {
            return Err(Error::new("make an id", "the clock moved backwards"));
        }
        if timestamp == last.0 {
            last.1 = (last.1 + 1) % layout.ids_per_ms();
            if last.1 == 0 {
                let next = Duration::from_millis(layout.epoch_ms() + last.0 + 1);
                self.clock.sleep_until(next);
                timestamp = now();
                // Here it should have said: last.0 = timestamp.
            }
        } else {
            *last = (timestamp, 0);
        }
        layout.encode(timestamp, self.worker, last.1)
    }
}

/// The one with a counter for the whole process, which no millisecond starts anew and no full one stops.
pub struct Unbound<C> {
    clock: C,
    counter: AtomicU64,
}

impl<C: Clock> Unbound<C> {
    /// 41|10|12 since 2020, and always machine 1.
    pub fn new(clock: C) -> Self {
        Self { clock, counter: AtomicU64::new(0) }
    }

    /// The next id.
    pub fn next_id(&self) -> Result<u64> {
        let layout = Layout::WORKERS_1024;
        let timestamp = self.clock.now_ms().saturating_sub(layout.epoch_ms());
        let sequence = self.counter.fetch_add(1, Ordering::Relaxed) % layout.ids_per_ms();
        layout.encode(timestamp, 1, sequence)
    }
}

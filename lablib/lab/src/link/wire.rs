//! A throttled direction of a link, shared by all its connections.

use std::time::{Duration, Instant};

/// How far a throttled wire that fell behind may catch up. Timers are exact to a millisecond or two, so without it a
/// fast wire would lose one of them after every piece.
const BURST: Duration = Duration::from_millis(20);

/// A throttled direction: the time at which all that was let on it will have passed.
pub(super) struct Wire {
    free: Instant,
    rate: u64,
}

/// The right to send `bytes` at `from`, given out at `rate`.
pub(super) struct Pass {
    pub(super) bytes: usize,
    pub(super) from: Instant,
    pub(super) rate: u64,
}

impl Wire {
    pub(super) fn new() -> Self {
        Self { free: Instant::now(), rate: u64::MAX }
    }

    /// The next free stretch of wire, for at most `bytes`; whoever asks first is served first. None where nothing
    /// passes.
    pub(super) fn pass(&mut self, rate: u64, bytes: usize, now: Instant) -> Option<Pass> {
        if rate == 0 {
            return None;
        }
        if self.rate != rate {
            // What was given out at the old rate is void.
            *self = Self { free: now, rate };
        }
        // Stretches of 5 ms: many connections take turns, and a changed rate is felt soon.
        let bytes = bytes.min(usize::try_from(rate / 200).unwrap_or(usize::MAX).max(1));
        let start = self.free.max(now.checked_sub(BURST).unwrap_or(now));
        let from = start.checked_add(Duration::from_secs_f64(bytes as f64 / rate as f64))?;
        self.free = from;
        Some(Pass { bytes, from, rate })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use proptest::prelude::*;

    /// In microseconds: mostly too short for the wire to keep up, now and then long enough to save up.
    fn pauses() -> impl Strategy<Value = u64> {
        prop_oneof![20 => 0..500_u64, 1 => 0..2_000_000_u64]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whoever asks when, and for how much: between two moments no more passes than the rate and the burst allow.
        #[test]
        fn no_stretch_of_time_carries_more_than_its_share(
            rate in 1..100_000_000_u64,
            asks in prop::collection::vec((pauses(), 1..20_000_usize), 1..300),
        ) {
            let begin = Instant::now() + Duration::from_secs(1);
            let mut wire = Wire::new();
            let mut now = begin;
            let mut passed = Vec::new();
            for (pause, bytes) in asks {
                now += Duration::from_micros(pause);
                let pass = wire.pass(rate, bytes, now).unwrap();
                prop_assert!(pass.bytes >= 1 && pass.bytes <= bytes);
                // It leaves when it may, or when somebody gets round to it.
                passed.push((pass.from.max(now), pass.bytes));
            }
            for (first, (from, _)) in passed.iter().enumerate() {
                let mut bytes = 0;
                for (until, more) in &passed[first..] {
                    bytes += more;
                    let allowed = (rate as f64) * (*until - *from + BURST).as_secs_f64() + passed[first].1 as f64;
                    prop_assert!(bytes as f64 <= allowed + 1.0, "{} passed, {} allowed", bytes, allowed);
                }
            }
        }
    }

    #[test]
    fn a_new_rate_voids_what_was_given_out_and_none_gives_nothing_out() {
        let (mut wire, now) = (Wire::new(), Instant::now());
        let slow = wire.pass(1, 1000, now).unwrap();
        assert!(slow.bytes == 1 && slow.from >= now + Duration::from_millis(900));
        let fast = wire.pass(1_000_000, 1000, now).unwrap();
        assert_eq!((fast.bytes, fast.from), (1000, now + Duration::from_millis(1)));
        assert!(wire.pass(0, 1000, now).is_none());
    }
}

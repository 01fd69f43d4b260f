//! The prototypes and ours, called so many times in a millisecond of a virtual clock.

use std::collections::HashSet;
use std::time::Duration;

use crate::prototypes::{Forgetful, Unbound};
use crate::{Layout, Snowflake};
use lab::clock::VirtualClock;
use lab::{OrFail, Result};

/// Whose ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// The prototype that forgets that it waited.
    Forgetful,
    /// The prototype whose counter knows no milliseconds.
    Unbound,
    /// Ours.
    Ours,
}

/// What came of some calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Ids made.
    pub made: u64,
    /// How many of them had been made before.
    pub duplicates: u64,
    /// How many were smaller than the one before.
    pub falls: u64,
}

impl Counted {
    /// Duplicates among the ids.
    pub fn per_cent(&self) -> f64 {
        100.0 * self.duplicates as f64 / self.made as f64
    }
}

/// `calls` calls, of which `per_ms` come in a millisecond.
pub fn duplicates(maker: Maker, calls: u64, per_ms: u64) -> Counted {
    count(maker, calls, per_ms).or_fail()
}

/// The share of duplicates at several rates: `(calls in a millisecond, per cent)`.
pub fn duplicates_at(maker: Maker, calls: u64, rates: &[u64]) -> Vec<(u64, f64)> {
    rates.iter().map(|&per_ms| (per_ms, duplicates(maker, calls, per_ms).per_cent())).collect()
}

fn count(maker: Maker, calls: u64, per_ms: u64) -> Result<Counted> {
    let clock = VirtualClock::new();
    // Whoever waits on the clock gets there at once; and each call takes its share of a millisecond.
    clock.auto_advance();
    let call = Duration::from_nanos(1_000_000 / per_ms.max(1));
    let (forgetful, unbound) = (Forgetful::new(clock.clone(), 1), Unbound::new(clock.clone()));
    let ours = Snowflake::on(clock.clone(), Layout::WORKERS_1024, 1)?;
    let mut seen = HashSet::with_capacity(usize::try_from(calls).unwrap_or_default());
    let mut counted = Counted { made: 0, duplicates: 0, falls: 0 };
    let mut last = 0;
    for _ in 0..calls {
        let id = match maker {
            Maker::Forgetful => forgetful.next_id()?,
            Maker::Unbound => unbound.next_id()?,
            Maker::Ours => ours.next_id()?,
        };
        counted.made += 1;
        counted.duplicates += u64::from(!seen.insert(id));
        counted.falls += u64::from(id < last);
        last = id;
        clock.advance(call);
    }
    Ok(counted)
}

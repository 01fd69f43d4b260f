//! Clocks that ran ahead together, a holder that died, clocks that were corrected, and a Redis that remembers or not:
//! what the lease of a Redis that forgets leans on, and what happens beyond it.

use std::collections::HashSet;
use std::time::Duration;

use super::leases::{fleet, one_worker, terms, when_free};
use super::restarts::while_it_lasts;
use crate::Fleet;
use lab::clock::{Clock, Sleep, SystemClock};
use lab::service::Redis;
use lab::{Error, OrFail, Result, joined};

/// The machine's clock, set forward.
#[derive(Debug, Clone, Copy)]
struct Ahead(Duration);

impl Clock for Ahead {
    fn now(&self) -> Duration {
        SystemClock.now() + self.0
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }

    fn sleep(&self, length: Duration) {
        SystemClock.sleep(length);
    }

    fn sleep_until(&self, wall: Duration) {
        SystemClock.sleep_until(wall.saturating_sub(self.0));
    }

    fn sleep_async(&self, length: Duration) -> Sleep {
        SystemClock.sleep_async(length)
    }

    fn sleep_until_async(&self, wall: Duration) -> Sleep {
        SystemClock.sleep_until_async(wall.saturating_sub(self.0))
    }
}

/// Two holders of one worker, one from before the clocks were corrected and one from after.
#[derive(Debug, Clone, PartialEq)]
pub struct Corrected {
    /// How far ahead the first one's clock and its Redis's were, in milliseconds.
    pub ahead_ms: f64,
    /// Whether Redis came back with what it knew.
    pub remembers: bool,
    /// Milliseconds from the end of the first one's lease to the beginning of the second one's; negative where the
    /// second one's begins before.
    pub gap_ms: f64,
    /// Ids of the first one.
    pub first: u64,
    /// Ids of the second one, which works until its clock has passed the first one's lease.
    pub second: u64,
    /// Ids that both made.
    pub duplicates: u64,
}

/// For each of these, at the same time and with a Redis of its own: a holder's clock and its Redis's are so far ahead;
/// the holder dies; both clocks are corrected while Redis is restarted, and it comes back with everything (true) or
/// with nothing; and somebody whose clock is right takes the worker as soon as he can.
pub fn corrected(length: Duration, arms: &[(Duration, bool)]) -> Vec<Corrected> {
    std::thread::scope(|scope| {
        let arms: Vec<_> =
            arms.iter().map(|&(ahead, remembers)| scope.spawn(move || correct(length, ahead, remembers))).collect();
        arms.into_iter().map(|arm| joined("correct the clocks", arm.join())).collect::<Result<Vec<_>>>()
    })
    .or_fail()
}

fn correct(length: Duration, ahead: Duration, remembers: bool) -> Result<Corrected> {
    let redis = if remembers { Redis::durable().start()? } else { Redis::with("appendonly", "no").start()? };
    let mut terms = terms(length);
    terms.trust_disk = remembers;
    let right = fleet(&redis, terms, None)?;
    let wrong = Fleet::new(redis.url(), right.name(), one_worker()?, terms)?.with_redis_ahead(ahead);
    let old = wrong.take_on(Ahead(ahead))?;
    let first = while_it_lasts(&old, length / 2);
    let before = old.interval();
    drop(old);
    redis.try_kill()?;
    redis.try_restart()?;
    let new = when_free(&right, ahead)?;
    let mut second = while_it_lasts(&new, length / 4);
    while SystemClock.now_ms() < before.until {
        // A machine so busy that the lease's own thread comes late is helped by hand.
        match new.next_id() {
            Ok(id) => second.push(id),
            Err(_) => new.renew()?,
        }
        SystemClock.sleep(Duration::from_micros(150));
    }
    if first.len() < 20 || second.len() < 20 {
        return Err(Error::new("correct the clocks", "hardly an id was made"));
    }
    let after = new.interval();
    let seen: HashSet<u64> = first.iter().copied().collect();
    Ok(Corrected {
        ahead_ms: ahead.as_secs_f64() * 1e3,
        remembers,
        gap_ms: after.from as f64 - before.until as f64,
        first: first.len() as u64,
        second: second.len() as u64,
        duplicates: second.iter().filter(|id| seen.contains(id)).count() as u64,
    })
}

//! A Redis that is killed while leases are out, and comes back with everything, or with nothing.

use std::time::{Duration, Instant};

use super::leases::{fleet, overlaps, terms};
use crate::{Lease, Skip, Terms};
use lab::clock::{Clock, SystemClock};
use lab::service::Redis;
use lab::{Error, OrFail, Result, joined};

/// What became of two leases of one worker, one from before Redis was killed and one from after.
#[derive(Debug, Clone)]
pub struct Restarted {
    /// Whether the old holder could renew its lease afterwards.
    pub renewed: bool,
    /// How long the next holder waited for its lease, in milliseconds from the restart.
    pub waited_ms: f64,
    /// Timestamps between the old interval's end and the new one's beginning; negative where they overlap.
    pub gap_ms: f64,
    /// Pairs of intervals that share a timestamp.
    pub overlaps: u64,
    /// Ids made by both holders together.
    pub made: u64,
    /// Ids that both made.
    pub duplicates: u64,
}

/// A holder makes ids; Redis is killed and restarted; the holder goes on, as long as it may; and somebody else wants the
/// worker as soon as possible. `durable` says what kind of Redis it is, and what the fleet believes of it.
pub fn restarted(length: Duration, durable: bool, skip: Option<Skip>) -> Restarted {
    let run = || -> Result<Restarted> {
        let mut length = length;
        loop {
            // On a busy machine, a restart can take longer than the lease that it should interrupt: then a longer one.
            if let Some(restarted) = restart(length, durable, skip)? {
                return restarted.checked();
            }
            length *= 2;
        }
    };
    run().or_fail()
}

/// None where the old lease was over before its Redis was back.
fn restart(length: Duration, durable: bool, skip: Option<Skip>) -> Result<Option<Restarted>> {
    let redis = if durable { Redis::durable().start()? } else { Redis::with("appendonly", "no").start()? };
    let fleet = fleet(&redis, Terms { trust_disk: durable, ..terms(length) }, skip)?;
    // Founding a fleet makes the first lease wait: it is not known whether there was one before.
    let old = fleet.take_on(SystemClock)?;
    old.renew()?;
    redis.try_kill()?;
    redis.try_restart()?;
    let back = Instant::now();
    let left = old.interval().until.saturating_sub(SystemClock.now_ms());
    if left < 50 && length < Duration::from_secs(10) {
        return Ok(None);
    }
    let renewed = old.renew().is_ok();
    let (old_ids, new) = std::thread::scope(|scope| {
        let working = scope.spawn(|| while_it_lasts(&old, length + Duration::from_millis(60)));
        let new = next(&fleet, length);
        let old_ids = joined("make ids", working.join().map(Ok))?;
        new.map(|new| (old_ids, new))
    })?;
    let (new, new_ids, waited) = new;
    let intervals = [old.interval(), new.interval()];
    let mut all: Vec<u64> = old_ids.iter().chain(&new_ids).copied().collect();
    let made = all.len() as u64;
    all.sort_unstable();
    all.dedup();
    Ok(Some(Restarted {
        renewed,
        waited_ms: waited.duration_since(back).as_secs_f64() * 1e3,
        gap_ms: intervals[1].from as f64 - intervals[0].until as f64,
        overlaps: overlaps(&intervals),
        made,
        duplicates: made - all.len() as u64,
    }))
}

/// The next holder of the only worker, with the ids that it makes in a few milliseconds, and when it got the lease.
fn next(fleet: &crate::Fleet, length: Duration) -> Result<(Lease, Vec<u64>, Instant)> {
    let patience = length * 4 + Duration::from_secs(5);
    let asked = Instant::now();
    loop {
        match fleet.take_on(SystemClock) {
            Ok(lease) => {
                let granted = Instant::now();
                let ids = while_it_lasts(&lease, Duration::from_millis(40));
                return Ok((lease, ids, granted));
            }
            Err(error) if asked.elapsed() > patience => return Err(error),
            Err(_) => SystemClock.sleep(Duration::from_millis(2)),
        }
    }
}

/// Ids at a steady pace, until there are none or the time is over.
pub(super) fn while_it_lasts<C: Clock + 'static>(lease: &Lease<C>, lasting: Duration) -> Vec<u64> {
    let (began, mut ids) = (Instant::now(), Vec::new());
    while began.elapsed() < lasting {
        let Ok(id) = lease.next_id() else { break };
        ids.push(id);
        SystemClock.sleep(Duration::from_micros(150));
    }
    ids
}

impl Restarted {
    /// An error where the run shows nothing: without ids of both holders, none can be made twice.
    fn checked(self) -> Result<Self> {
        if self.made < 20 { Err(Error::new("show a restart", "hardly an id was made")) } else { Ok(self) }
    }
}

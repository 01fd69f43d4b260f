//! A Redis that is killed while leases are out, and comes back with everything, or with nothing; while the clocks are right, and when
//! clocks that were wrong together are corrected.

use std::time::{Duration, Instant};

use super::leases::{made_again, one_worker, registry, terms, when_free, work};
use crate::process::PAUSE;
use crate::rivals::Reading;
use crate::{Registry, Skip, Terms};
use lab::clock::{Clock, SystemClock};
use lab::service::Redis;
use lab::{Crowd, Error, Frame, Result};

fn start(durable: bool) -> Result<Redis> {
    if durable { Redis::durable().start() } else { Redis::with("appendonly", "no").start() }
}

/// A holder makes ids; Redis is killed and restarted; the holder goes on, as long as it may; and somebody else wants the worker as soon as
/// possible. Each arm says whether the Redis is durable, which the registry then believes, and which step is left out. A row for each arm:
/// which `Redis`; whether the holder could renew its lease afterwards (`renewed`, yes or no); how long the next one `waited` for its
/// lease from the restart on (ms); timestamps from the old lease's end to the new one's beginning (`gap`, ms), negative where the two
/// `overlap` (1); ids `made` by both together, and those that were `made by both`.
pub fn restarted(length: Duration, arms: &[(bool, Option<Skip>)]) -> Result<Frame> {
    let run = |&(durable, skip): &(bool, Option<Skip>)| {
        let mut length = length;
        loop {
            // On a busy machine, a restart can take longer than the lease that it should interrupt: then a longer one.
            if let Some(row) = restart(length, durable, skip)? {
                return Ok(row);
            }
            length *= 2;
        }
    };
    arms.iter().map(run).collect()
}

/// None where the old lease was over before its Redis was back.
fn restart(length: Duration, durable: bool, skip: Option<Skip>) -> Result<Option<Frame>> {
    let redis = start(durable)?;
    let registry = registry(&redis, Terms { trust_disk: durable, ..terms(length) }, skip)?;
    // Founding a registry makes the first lease wait: it is not known whether there was one before.
    let old = registry.take_on(SystemClock)?;
    old.renew()?;
    redis.try_kill()?;
    redis.try_restart()?;
    let back = Instant::now();
    let left = old.interval().until.saturating_sub(SystemClock.now_ms());
    if left < 50 && length < Duration::from_secs(10) {
        return Ok(None);
    }
    let renewed = old.renew().is_ok();
    let take_over = || {
        let (new, granted, mut ids) = (when_free(&registry, Duration::ZERO)?, Instant::now(), Vec::new());
        let _ = work(&new, Duration::from_millis(40), &mut ids); // until there are none
        Ok((new.interval(), granted, ids))
    };
    let holder = Crowd::holding([Vec::new()]).lasting(Duration::from_millis(60)).within(Duration::from_secs(600));
    let ((new, granted, new_ids), worked) = holder.during(take_over, |ids, call| {
        match old.next_id() {
            Ok(id) => ids.push(id),
            Err(_) => call.last(),
        }
        call.rest(PAUSE);
        Ok(())
    })?;
    let (old, old_ids) = (old.interval(), worked.states.concat());
    let made = old_ids.len() + new_ids.len();
    if made < 20 {
        // Without ids of both holders, none can be made twice.
        return Err(Error::new("show a restart", "hardly an id was made"));
    }
    let which = [if durable { "durable" } else { "empty" }, if skip.is_some() { ", rule left out" } else { "" }];
    Ok(Some(
        Frame::new()
            .text("Redis", [which.concat()])
            .text("renewed", [if renewed { "yes" } else { "no" }])
            .numbers("waited", "ms", [granted.duration_since(back).as_secs_f64() * 1e3])
            .numbers("gap", "ms", [new.from as f64 - old.until as f64])
            .counts("overlap", "", [u64::from(old.overlaps(&new))])
            .counts("made", "ids", [made as u64])
            .counts("made by both", "ids", [made_again(&[&old_ids, &new_ids])]),
    ))
}

/// What the lease of a Redis that forgets leans on, and what happens beyond it. For each arm, at the same time and with a Redis of its own:
/// a holder's clock and its Redis's are so far ahead; the holder dies; both clocks are corrected while Redis is restarted, and it comes
/// back with everything (true) or with nothing; and somebody whose clock is right takes the worker as soon as he can, and works until his
/// clock has passed the first one's lease. A row for each: how Redis `came back`, how far the clocks had been `ahead` (ms), the `gap` from
/// the end of the first lease to the beginning of the second (ms), which is negative where the second begins before; ids of the `first`
/// and of the `second` holder, and those that were `made by both`.
pub fn corrected(length: Duration, arms: &[(Duration, bool)]) -> Result<Frame> {
    let ran = Crowd::holding(arms.iter().copied()).run(|&mut (ahead, remembers), arm| {
        let redis = start(remembers)?;
        let terms = Terms { trust_disk: remembers, ..terms(length) };
        let right = registry(&redis, terms, None)?;
        let wrong = Registry::new(redis.url(), right.name(), one_worker()?, terms)?.with_redis_ahead(ahead);
        let ahead_ms = u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX);
        let old = wrong.take_on(Reading(move || SystemClock.now_ms().saturating_add(ahead_ms)))?;
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let _ = work(&old, length / 2, &mut first); // until there are none
        let before = old.interval();
        drop(old);
        redis.try_kill()?;
        redis.try_restart()?;
        let new = when_free(&right, ahead)?;
        let _ = work(&new, length / 4, &mut second);
        while SystemClock.now_ms() < before.until {
            // A machine so busy that the lease's own thread comes late is helped by hand.
            match new.next_id() {
                Ok(id) => second.push(id),
                Err(_) => new.renew()?,
            }
            SystemClock.sleep(PAUSE);
        }
        if first.len() < 20 || second.len() < 20 {
            return Err(Error::new("correct the clocks", "hardly an id was made"));
        }
        arm.tag("came back", if remembers { "durable" } else { "empty" });
        arm.note("ahead", "ms", ahead_ms as f64);
        arm.note("gap", "ms", new.interval().from as f64 - before.until as f64);
        arm.note("first", "ids", first.len() as f64);
        arm.note("second", "ids", second.len() as f64);
        arm.note("made by both", "ids", made_again(&[&first, &second]) as f64);
        Ok(())
    })?;
    Ok(ran.frame.sort("client"))
}

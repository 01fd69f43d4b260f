//! A holder that sleeps through its lease, and one that dies.

use std::collections::HashSet;
use std::ops::Range;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::process::{Errand, ID_MADE, PAUSE, Said};
use crate::{Layout, Lease, Registry, Skip, Terms};
use lab::clock::{Clock, SystemClock};
use lab::crash::Crash;
use lab::errand::{self, Running};
use lab::service::Redis;
use lab::{Doing, Error, Frame, Result};

/// A worker has something to say all the time: silence for so long is none of its pauses.
const SPEAKS: Duration = Duration::from_secs(10);

/// As the prototype's, with a single worker number: whoever comes next must have the same.
pub(super) fn one_worker() -> Result<Layout> {
    Layout::new(Layout::WORKERS_32.epoch_ms(), 41, 0, 12)
}

pub(super) fn terms(length: Duration) -> Terms {
    Terms { length, max_skew: Duration::from_millis(50), trust_disk: false }
}

/// A registry of one on this Redis, that nobody has used before.
pub(super) fn registry(redis: &Redis, terms: Terms, skip: Option<Skip>) -> Result<Registry> {
    let name = format!("lab-{:016x}", rand::random::<u64>());
    Ok(Registry::new(redis.url(), &name, one_worker()?, terms)?.skipping(skip))
}

fn errand_of(redis: &Redis, registry: &Registry) -> Errand {
    Errand {
        url: redis.url().to_owned(),
        registry: registry.name().to_owned(),
        layout: registry.layout(),
        terms: registry.terms(),
        skip: registry.skips(),
    }
}

/// Makes ids at a worker's pace for so long, or until there are none.
pub(super) fn work<C: Clock + 'static>(lease: &Lease<C>, lasting: Duration, ids: &mut Vec<u64>) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < lasting {
        ids.push(lease.next_id()?);
        SystemClock.sleep(PAUSE);
    }
    Ok(())
}

/// Asks until the one worker is free, which may take so much longer than its lease.
pub(super) fn when_free(registry: &Registry, longer: Duration) -> Result<Lease> {
    let (began, patience) = (Instant::now(), registry.terms().length * 4 + longer + Duration::from_secs(5));
    loop {
        match registry.take() {
            Ok(lease) => return Ok(lease),
            Err(error) if began.elapsed() > patience => return Err(error),
            Err(_) => SystemClock.sleep(Duration::from_millis(2)),
        }
    }
}

/// The first timestamp of the one worker that is not leased, as its Redis knows it.
fn redis_until(redis: &Redis, registry: &Registry) -> Result<u64> {
    let until = redis.ask(&format!("ZSCORE snowflake:{{{}}}:until 0", registry.name()))?;
    until.parse::<f64>().map(|until| until as u64).doing("read a lease's end")
}

/// How many ids had been made before, by any of these.
pub(super) fn made_again(holders: &[&[u64]]) -> u64 {
    let mut seen = HashSet::new();
    holders.concat().into_iter().filter(|id| !seen.insert(*id)).count() as u64
}

/// One id worker is stopped (SIGSTOP) for longer than a lease of this length; another takes over; the first goes on. In one row:
///
/// - ids of the `first` and of the `second` holder, those that were `made by both`, and those of the first one that lie `outside` of its
///   own lease, as Redis had granted it; from the end of that lease to the beginning of the next one, the `gap` (ms);
/// - what somebody was told who wanted the worker while it was `taken`, and the first holder when it woke up, where it was `refused`;
/// - since the first lease (ms), when its holder was `stopped`, when it was `over`, when the `next` one began, when the first holder was
///   `woken` and made its `last id`, and the `end` of it all.
pub fn paused(redis: &Redis, length: Duration, skip: Option<Skip>) -> Result<Frame> {
    let registry = registry(redis, terms(length), skip)?;
    let mut sleeper = Running::start("id-worker", &errand_of(redis, &registry))?;
    let Said::Leased(from) = sleeper.hear_within(SPEAKS)? else {
        return Err(Error::new("start an id worker", "it has no lease"));
    };
    let made = |said: Said| match said {
        Said::Made(id) => Ok(id),
        other => Err(Error::new("make ids", format!("an id worker said {other:?}"))),
    };
    let (mut first, mut second) = (Vec::new(), Vec::new());
    while first.len() < 200 {
        first.push(made(sleeper.hear_within(SPEAKS)?)?);
    }
    stop(&sleeper)?;
    let stopped = SystemClock.now_ms();
    let Err(taken) = registry.take() else { return Err(Error::new("be refused a worker", "it was leased twice")) };
    // It is stopped, and what it had asked for was answered before we were: so its lease ends here, and nowhere else.
    let lease_over = redis_until(redis, &registry)?;
    let lease = when_free(&registry, Duration::ZERO)?;
    let second_from = lease.interval().from;
    // The next holder works for a while, and then the first one wakes up and works beside it.
    work(&lease, Duration::from_millis(40), &mut second)?;
    signal(&sleeper, Signal::SIGCONT)?;
    let woken = SystemClock.now_ms();
    work(&lease, Duration::from_millis(120), &mut second)?;
    let end = SystemClock.now_ms();
    let mut refused = String::new();
    for said in sleeper.left()? {
        match said {
            Said::Refused(sentence) => refused = sentence,
            said => first.push(made(said)?),
        }
    }
    let layout = registry.layout();
    let times = first.iter().map(|&id| layout.decode(id).map(|parts| parts.time().0)).collect::<Result<Vec<_>>>()?;
    let last_of_first = times.last().copied().unwrap_or(from);
    let (outside, gap) = against_its_lease(&times, from..lease_over, second_from);
    let row = Frame::new()
        .counts("first", "ids", [first.len() as u64])
        .counts("second", "ids", [second.len() as u64])
        .counts("made by both", "ids", [made_again(&[&first, &second])])
        .counts("outside", "ids", [outside])
        .numbers("gap", "ms", [gap])
        .text("taken", [taken])
        .text("refused", [refused]);
    let moments = [stopped, lease_over, second_from, woken, last_of_first, end].map(|at| at as f64 - from as f64);
    let names = ["stopped", "over", "next", "woken", "last id", "end"];
    Ok(names.into_iter().zip(moments).fold(row, |row, (name, at)| row.numbers(name, "ms", [at])))
}

/// Sends a signal to a process.
fn signal(sleeper: &Running, signal: Signal) -> Result<Pid> {
    let doing = "signal an id worker";
    let pid = i32::try_from(sleeper.pid()).map(Pid::from_raw).doing(doing)?;
    kill(pid, signal).doing(doing).map(|()| pid)
}

/// Stops it, all of its threads.
fn stop(sleeper: &Running) -> Result<()> {
    let pid = signal(sleeper, Signal::SIGSTOP)?;
    match waitpid(pid, Some(WaitPidFlag::WUNTRACED)).doing("stop an id worker")? {
        WaitStatus::Stopped(..) => Ok(()),
        other => Err(Error::new("stop an id worker", format!("it is {other:?}"))),
    }
}

/// How many of a holder's timestamps lie outside of its own lease, whoever had the worker then, if anybody; and by how many
/// milliseconds the next lease begins after its end.
fn against_its_lease(times: &[u64], lease: Range<u64>, next: u64) -> (u64, f64) {
    (times.iter().filter(|time| !lease.contains(time)).count() as u64, next as f64 - lease.end as f64)
}

/// So many holders in a row, each killed (-9) in the middle of its work; then one more that works in peace. A row for each: `holder`,
/// from 1; how it `ended`; its acknowledged `ids`; those of them that had been `made before`, and those that are `not above` all ids of
/// the holders before it; and from their last id to the beginning of its lease, the `gap` (ms).
pub fn killed(redis: &Redis, length: Duration, kills: u64) -> Result<Frame> {
    let registry = registry(redis, terms(length), None)?;
    let mut holders: Vec<(u64, Vec<u64>)> = Vec::new();
    for nth in 0..kills {
        // The one before died holding the lease: wait for its end. Before the first lease there is none.
        if let Ok(until) = redis_until(redis, &registry) {
            SystemClock.sleep_until(Duration::from_millis(until));
        }
        let worker = errand::command("id-worker", &errand_of(redis, &registry))?;
        let ended = Crash::at(ID_MADE).nth(100 + nth).run(worker)?;
        let (mut from, mut ids) = (0, Vec::new());
        for line in ended.acknowledged() {
            match serde_json::from_str(line) {
                Ok(Said::Leased(timestamp)) => from = timestamp,
                Ok(Said::Made(id)) => ids.push(id),
                Ok(Said::Refused(sentence)) => return Err(Error::new("make ids", sentence)),
                Err(_) => {}
            }
        }
        holders.push((from, ids));
    }
    let (lease, mut ids) = (when_free(&registry, Duration::ZERO)?, Vec::new());
    work(&lease, Duration::from_millis(30), &mut ids)?;
    holders.push((lease.interval().from, ids));
    let (mut seen, mut highest) = (HashSet::new(), None);
    let mut judge = |(index, (from, ids)): (usize, &(u64, Vec<u64>))| -> Result<Frame> {
        let last = highest.map(|id| registry.layout().decode(id)).transpose()?;
        let not_above = ids.iter().filter(|id| Some(**id) <= highest).count();
        highest = highest.max(ids.iter().copied().max());
        Ok(Frame::new()
            .counts("holder", "", [index as u64 + 1])
            .text("ended", [if (index as u64) < kills { "killed" } else { "in peace" }])
            .counts("ids", "", [ids.len() as u64])
            .counts("made before", "", [ids.iter().filter(|id| !seen.insert(**id)).count() as u64])
            .counts("not above", "", [not_above as u64])
            .numbers_or_missing("gap", "ms", [last.map(|last| *from as f64 - last.time().0 as f64)]))
    };
    holders.iter().enumerate().map(&mut judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_behind_its_lease_is_outside_of_it_although_the_next_one_has_not_begun() {
        assert_eq!(against_its_lease(&[100, 150, 199], 100..200, 250), (0, 50.0));
        assert_eq!(against_its_lease(&[100, 200, 249], 100..200, 250), (2, 50.0));
        assert_eq!(against_its_lease(&[99, 150], 100..200, 190), (1, -10.0));
    }
}

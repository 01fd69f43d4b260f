//! A holder that sleeps through its lease, and one that dies.

use std::collections::HashSet;
use std::ops::Range;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::process::{Errand, ID_MADE, Said};
use crate::{Fleet, Interval, Layout, Lease, Skip, Terms};
use lab::chart::{Chart, Timeline};
use lab::clock::{Clock, SystemClock};
use lab::crash::Crash;
use lab::errand::{self, Running};
use lab::service::Redis;
use lab::{Doing, Error, OrFail, Result};

/// A worker has something to say all the time: silence for so long is none of its pauses.
const SPEAKS: Duration = Duration::from_secs(10);

/// As the prototype's, with a single worker number: whoever comes next must have the same.
pub(super) fn one_worker() -> Result<Layout> {
    Layout::new(Layout::WORKERS_32.epoch_ms(), 41, 0, 12)
}

pub(super) fn terms(length: Duration) -> Terms {
    Terms { length, max_skew: Duration::from_millis(50), trust_disk: false }
}

/// A fleet of one on this Redis, that nobody has used before.
pub(super) fn fleet(redis: &Redis, terms: Terms, skip: Option<Skip>) -> Result<Fleet> {
    let name = format!("lab-{:016x}", rand::random::<u64>());
    Ok(Fleet::new(redis.url(), &name, one_worker()?, terms)?.skipping(skip))
}

fn errand_of(redis: &Redis, fleet: &Fleet, lasting: Duration) -> Errand {
    Errand {
        url: redis.url().to_owned(),
        fleet: fleet.name().to_owned(),
        layout: fleet.layout(),
        terms: fleet.terms(),
        skip: fleet.skips(),
        pause: Duration::from_micros(200),
        lasting,
    }
}

/// The first holder was stopped for longer than its lease, the second one took over, and the first one woke up.
#[derive(Debug, Clone)]
pub struct Paused {
    /// Ids of the holder that slept.
    pub first: u64,
    /// … of those, with a timestamp outside of its own lease, as Redis had granted it.
    pub outside: u64,
    /// Milliseconds from the end of its lease to the beginning of the next one.
    pub gap_ms: f64,
    /// Ids of the next holder.
    pub second: u64,
    /// Ids that both made.
    pub duplicates: u64,
    /// What somebody was told who wanted the worker while it was still leased.
    pub taken: String,
    /// What the sleeper was told when it woke up, if it got no id.
    pub refused: Option<String>,
    /// What happened when.
    pub moments: Moments,
}

/// What happened when, in milliseconds since the first lease.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moments {
    stopped: f64,
    lease_over: f64,
    second_from: f64,
    woken: f64,
    last_of_first: f64,
    end: f64,
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

/// One id worker is stopped (SIGSTOP) for longer than a lease of this length; another takes over; the first goes on.
pub fn paused(redis: &Redis, length: Duration, skip: Option<Skip>) -> Paused {
    pause(redis, length, skip).or_fail()
}

fn pause(redis: &Redis, length: Duration, skip: Option<Skip>) -> Result<Paused> {
    let fleet = fleet(redis, terms(length), skip)?;
    let mut sleeper = Running::start("id-worker", &errand_of(redis, &fleet, Duration::from_secs(20)))?;
    let Said::Leased(from) = sleeper.hear_within(SPEAKS)? else {
        return Err(Error::new("start an id worker", "it has no lease"));
    };
    let mut first = Vec::new();
    let since = |moment: u64| moment as f64 - from as f64;
    let now = || SystemClock.now_ms();
    let made = |said: Said| match said {
        Said::Made(id) => Ok(id),
        other => Err(Error::new("make ids", format!("an id worker said {other:?}"))),
    };
    while first.len() < 200 {
        first.push(made(sleeper.hear_within(SPEAKS)?)?);
    }
    stop(&sleeper)?;
    let stopped = now();
    let Err(taken) = fleet.take() else { return Err(Error::new("be refused a worker", "it was leased twice")) };
    // It is stopped, and what it had asked for was answered before we were: so its lease ends here, and nowhere else.
    let lease_over = redis_until(redis, &fleet)?;
    let lease = when_free(&fleet, Duration::ZERO)?;
    let second_from = lease.interval().from;
    // The next holder works for a while, and then the first one wakes up and works beside it.
    let mut second = work(&lease, Duration::from_millis(40))?;
    signal(&sleeper, Signal::SIGCONT)?;
    let woken = now();
    second.extend(work(&lease, Duration::from_millis(120))?);
    let end = now();
    let mut refused = None;
    for said in sleeper.left()? {
        match said {
            Said::Refused(sentence) => refused = Some(sentence),
            said => first.push(made(said)?),
        }
    }
    let layout = fleet.layout();
    let times = first.iter().map(|&id| layout.decode(id).map(|parts| parts.time().0)).collect::<Result<Vec<_>>>()?;
    let all: HashSet<u64> = second.iter().copied().collect();
    let moments = Moments {
        stopped: since(stopped),
        lease_over: since(lease_over),
        second_from: since(second_from),
        woken: since(woken),
        last_of_first: since(times.last().copied().unwrap_or(from)),
        end: since(end),
    };
    let (outside, gap_ms) = against_its_lease(&times, from..lease_over, second_from);
    Ok(Paused {
        first: first.len() as u64,
        outside,
        gap_ms,
        second: second.len() as u64,
        duplicates: first.iter().filter(|id| all.contains(id)).count() as u64,
        taken: taken.to_string(),
        refused,
        moments,
    })
}

/// How many of a holder's timestamps lie outside of its own lease, whoever had the worker then, if anybody; and by how many
/// milliseconds the next lease begins after its end.
fn against_its_lease(times: &[u64], lease: Range<u64>, next: u64) -> (u64, f64) {
    (times.iter().filter(|time| !lease.contains(time)).count() as u64, next as f64 - lease.end as f64)
}

/// The first timestamp of the one worker that is not leased, as its Redis knows it.
fn redis_until(redis: &Redis, fleet: &Fleet) -> Result<u64> {
    let until = redis.ask(&format!("ZSCORE snowflake:{{{}}}:until 0", fleet.name()))?;
    until.parse::<f64>().map(|until| until as u64).doing("read a lease's end")
}

/// Asks until the one worker is free, which may take so much longer than its lease.
pub(super) fn when_free(fleet: &Fleet, longer: Duration) -> Result<Lease> {
    let (began, patience) = (Instant::now(), fleet.terms().length * 4 + longer + Duration::from_secs(5));
    loop {
        match fleet.take() {
            Ok(lease) => return Ok(lease),
            Err(error) if began.elapsed() > patience => return Err(error),
            Err(_) => SystemClock.sleep(Duration::from_millis(2)),
        }
    }
}

/// As an id worker does it, for a while.
fn work(lease: &Lease, lasting: Duration) -> Result<Vec<u64>> {
    let (began, mut ids) = (Instant::now(), Vec::new());
    while began.elapsed() < lasting {
        ids.push(lease.next_id()?);
        SystemClock.sleep(Duration::from_micros(200));
    }
    Ok(ids)
}

impl Paused {
    /// Whether the run shows anything: both made ids, and the sleeper woke up beside the other and was refused.
    pub fn is_telling(&self) -> bool {
        self.first >= 200 && self.second >= 50 && self.refused.is_some()
    }

    /// Both holders over time.
    pub fn chart(&self, title: &str) -> Timeline {
        let at = self.moments;
        let mut chart = Chart::timeline(title)
            .x("time since the first lease", "ms")
            .span("first holder", 0.0, at.stopped, "makes ids")
            .wait("first holder", at.stopped, at.woken, "stopped")
            .lane("next holder")
            .wait("next holder", at.stopped, at.second_from, "worker is taken")
            .span("next holder", at.second_from, at.end, "makes ids");
        if self.outside > 0 {
            chart = chart.span("first holder", at.woken, at.last_of_first, "makes ids");
        } else {
            chart = chart.event("first holder", at.woken, "no id any more");
        }
        chart.mark_x("lease over", at.lease_over)
    }
}

/// A holder that was killed, and the next one.
#[derive(Debug, Clone)]
pub struct Killed {
    /// Ids of those that were killed, all acknowledged.
    pub first: u64,
    /// Ids of those that came after them.
    pub second: u64,
    /// Ids that were made twice.
    pub duplicates: u64,
    /// Ids of a holder that are not larger than all those of the ones before it.
    pub not_above: u64,
    /// Milliseconds from each one's last id to the beginning of the next interval.
    pub gaps_ms: Vec<f64>,
}

impl Killed {
    /// The shortest time from a dead one's last id to the next interval, in milliseconds.
    pub fn shortest_gap_ms(&self) -> f64 {
        self.gaps_ms.iter().copied().fold(f64::INFINITY, f64::min)
    }
}

/// So many holders in a row, each killed (-9) in the middle of its work; then one more that works in peace.
pub fn killed(redis: &Redis, length: Duration, kills: u64) -> Killed {
    kill_holders(redis, length, kills).or_fail()
}

fn kill_holders(redis: &Redis, length: Duration, kills: u64) -> Result<Killed> {
    let fleet = fleet(redis, terms(length), None)?;
    let layout = fleet.layout();
    let mut holders: Vec<Vec<u64>> = Vec::new();
    let mut begins = Vec::new();
    for nth in 0..kills {
        // Dies holding the lease. Its successor has to wait for its end, and asks until then.
        wait_for_the_end(&fleet, redis)?;
        let ended = Crash::at(ID_MADE)
            .nth(100 + nth)
            .run(errand::command("id-worker", &errand_of(redis, &fleet, Duration::from_secs(20)))?)?;
        let mut ids = Vec::new();
        for said in ended.acknowledged().iter().filter_map(|line| Said::read(line)) {
            match said {
                Said::Leased(from) => begins.push(from),
                Said::Made(id) => ids.push(id),
                Said::Refused(sentence) => return Err(Error::new("make ids", sentence)),
            }
        }
        holders.push(ids);
    }
    let lease = when_free(&fleet, Duration::ZERO)?;
    begins.push(lease.interval().from);
    holders.push(work(&lease, Duration::from_millis(30))?);
    let mut seen = HashSet::new();
    let (mut duplicates, mut not_above, mut highest) = (0, 0, 0);
    let mut gaps_ms = Vec::new();
    for (ids, from) in holders.iter().zip(&begins) {
        if highest > 0 {
            gaps_ms.push(*from as f64 - layout.decode(highest)?.time().0 as f64);
        }
        not_above += ids.iter().filter(|id| **id <= highest).count() as u64;
        duplicates += ids.iter().filter(|id| !seen.insert(**id)).count() as u64;
        highest = ids.iter().copied().max().unwrap_or(highest).max(highest);
    }
    let last = holders.pop().map_or(0, |ids| ids.len() as u64);
    let first = holders.iter().map(|ids| ids.len() as u64).sum();
    Ok(Killed { first, second: last, duplicates, not_above, gaps_ms })
}

/// Waits until the worker is free, without taking it.
fn wait_for_the_end(fleet: &Fleet, redis: &Redis) -> Result<()> {
    // Before the first lease there is none.
    if let Ok(until) = redis_until(redis, fleet) {
        SystemClock.sleep_until(Duration::from_millis(until));
    }
    Ok(())
}

/// Whether two intervals in a list of one fleet share a timestamp.
pub(super) fn overlaps(intervals: &[Interval]) -> u64 {
    let later = |index: usize| intervals.get(index + 1..).unwrap_or_default();
    let all = intervals.iter().enumerate();
    all.map(|(index, one)| later(index).iter().filter(|other| one.overlaps(other)).count() as u64).sum()
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

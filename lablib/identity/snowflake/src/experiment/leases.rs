//! A holder that sleeps through its lease, and one that dies.

use std::collections::HashSet;
use std::ops::Range;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::process::{Errand, ID_MADE, Said};
use crate::{Fleet, Layout, Lease, Skip, Terms};
use lab::chart::{Chart, Timeline};
use lab::clock::{Clock, SystemClock};
use lab::crash::Crash;
use lab::errand::{self, Running};
use lab::service::Redis;
use lab::{Doing, Error, Frame, Result};

/// A worker has something to say all the time: silence for so long is none of its pauses.
const SPEAKS: Duration = Duration::from_secs(10);

/// Between two ids of a worker.
pub(super) const PAUSE: Duration = Duration::from_micros(150);

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

fn errand_of(redis: &Redis, fleet: &Fleet) -> Errand {
    Errand {
        url: redis.url().to_owned(),
        fleet: fleet.name().to_owned(),
        layout: fleet.layout(),
        terms: fleet.terms(),
        skip: fleet.skips(),
        pause: PAUSE,
        lasting: Duration::from_secs(20),
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

/// The first timestamp of the one worker that is not leased, as its Redis knows it.
fn redis_until(redis: &Redis, fleet: &Fleet) -> Result<u64> {
    let until = redis.ask(&format!("ZSCORE snowflake:{{{}}}:until 0", fleet.name()))?;
    until.parse::<f64>().map(|until| until as u64).doing("read a lease's end")
}

/// How many ids had been made before, by any of these.
pub(super) fn made_again(holders: &[&[u64]]) -> u64 {
    let mut seen = HashSet::new();
    holders.concat().into_iter().filter(|id| !seen.insert(*id)).count() as u64
}

/// The first holder was stopped for longer than its lease, the second one took over, and the first one woke up.
#[derive(Debug, Clone)]
pub struct Paused {
    /// Ids of the holder that slept.
    pub first: u64,
    /// Ids of the holder that slept with a timestamp outside of its own lease, as Redis had granted it.
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
    /// When the first holder was stopped, its lease was over, the next one began, the first was woken, made its last id, and when it
    /// all ended: in milliseconds since the first lease.
    moments: [f64; 6],
}

/// One id worker is stopped (SIGSTOP) for longer than a lease of this length; another takes over; the first goes on.
pub fn paused(redis: &Redis, length: Duration, skip: Option<Skip>) -> Result<Paused> {
    let fleet = fleet(redis, terms(length), skip)?;
    let mut sleeper = Running::start("id-worker", &errand_of(redis, &fleet))?;
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
    let Err(taken) = fleet.take() else { return Err(Error::new("be refused a worker", "it was leased twice")) };
    // It is stopped, and what it had asked for was answered before we were: so its lease ends here, and nowhere else.
    let lease_over = redis_until(redis, &fleet)?;
    let lease = when_free(&fleet, Duration::ZERO)?;
    let second_from = lease.interval().from;
    // The next holder works for a while, and then the first one wakes up and works beside it.
    work(&lease, Duration::from_millis(40), &mut second)?;
    signal(&sleeper, Signal::SIGCONT)?;
    let woken = SystemClock.now_ms();
    work(&lease, Duration::from_millis(120), &mut second)?;
    let end = SystemClock.now_ms();
    let mut refused = None;
    for said in sleeper.left()? {
        match said {
            Said::Refused(sentence) => refused = Some(sentence),
            said => first.push(made(said)?),
        }
    }
    let layout = fleet.layout();
    let times = first.iter().map(|&id| layout.decode(id).map(|parts| parts.time().0)).collect::<Result<Vec<_>>>()?;
    let last_of_first = times.last().copied().unwrap_or(from);
    let moments = [stopped, lease_over, second_from, woken, last_of_first, end];
    let (outside, gap_ms) = against_its_lease(&times, from..lease_over, second_from);
    Ok(Paused {
        first: first.len() as u64,
        outside,
        gap_ms,
        second: second.len() as u64,
        duplicates: made_again(&[&first, &second]),
        taken: taken.to_string(),
        refused,
        moments: moments.map(|moment| moment as f64 - from as f64),
    })
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

impl Paused {
    /// Whether the run shows anything: both made ids, and the sleeper woke up beside the other and was refused.
    pub fn is_telling(&self) -> bool {
        self.first >= 200 && self.second >= 50 && self.refused.is_some()
    }

    /// Both holders over time.
    pub fn chart(&self, title: &str) -> Timeline {
        let [stopped, lease_over, second_from, woken, last_of_first, end] = self.moments;
        let chart = Chart::timeline(title)
            .x("time since the first lease", "ms")
            .span("first holder", 0.0, stopped, "makes ids")
            .wait("first holder", stopped, woken, "stopped")
            .wait("next holder", stopped, second_from, "worker is taken")
            .span("next holder", second_from, end, "makes ids")
            .mark_x("lease over", lease_over);
        match self.outside {
            0 => chart.event("first holder", woken, "no id any more"),
            _ => chart.span("first holder", woken, last_of_first, "makes ids"),
        }
    }
}

/// So many holders in a row, each killed (-9) in the middle of its work; then one more that works in peace. A row for each: `holder`,
/// from 1; how it `ended`; its acknowledged `ids`; those of them that had been `made before`, and those that are `not above` all ids of
/// the holders before it; and from their last id to the beginning of its lease, the `gap` (ms).
pub fn killed(redis: &Redis, length: Duration, kills: u64) -> Result<Frame> {
    let fleet = fleet(redis, terms(length), None)?;
    let mut holders: Vec<(u64, Vec<u64>)> = Vec::new();
    for nth in 0..kills {
        // The one before died holding the lease: wait for its end. Before the first lease there is none.
        if let Ok(until) = redis_until(redis, &fleet) {
            SystemClock.sleep_until(Duration::from_millis(until));
        }
        let worker = errand::command("id-worker", &errand_of(redis, &fleet))?;
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
    let (lease, mut ids) = (when_free(&fleet, Duration::ZERO)?, Vec::new());
    work(&lease, Duration::from_millis(30), &mut ids)?;
    holders.push((lease.interval().from, ids));
    let (mut seen, mut highest) = (HashSet::new(), None);
    let mut judge = |(index, (from, ids)): (usize, &(u64, Vec<u64>))| -> Result<Frame> {
        let last = highest.map(|id| fleet.layout().decode(id)).transpose()?;
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

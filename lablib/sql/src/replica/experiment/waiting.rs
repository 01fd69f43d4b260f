//! Commits that wait for a replica: what a timeout does to them, and who sees them before a replica does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use super::bank::Bank;
use super::lag::Desk;
use crate::replica::{SemiSync, WaitPoint};
use lab::chart::{Chart, Lines};
use lab::{Doing, Error, OrFail, Result, Samples, joined};

/// Commits over time while the replicas' wires go silent and come back.
#[derive(Debug, Clone)]
pub struct Stall {
    /// When each commit began, and how long it took, in seconds.
    pub commits: Vec<(f64, f64)>,
    /// From when to when the wires were silent.
    pub silent: (f64, f64),
    /// When the writer began to leave pauses between its commits, so that a replica could acknowledge the last one.
    pub pauses: f64,
    /// Whether commits waited for a replica again by then.
    pub back_before: bool,
    /// When the primary said that it waits for a replica again.
    pub back: f64,
    /// What the primary counted meanwhile.
    pub unwaited: u64,
    timeout: f64,
}

/// Writes one transfer after the other, under semi-synchronous replication with this timeout, and silences all wires.
pub fn stall(bank: &Bank, timeout: Duration, delay: Duration, seed: u64) -> Stall {
    let cluster = bank.cluster();
    let run = || -> Result<Stall> {
        cluster.catch_up(Duration::from_secs(30))?;
        for replica in cluster.replicas() {
            cluster.link(replica)?.delay(delay);
        }
        cluster.semi_sync(Some(SemiSync::lossless(timeout)))?;
        let before = cluster.semi_sync_status()?.unwaited;
        let (stop, slow) = (AtomicBool::new(false), AtomicBool::new(false));
        let desk = Desk::open(bank, 1, seed)?;
        let start = Instant::now();
        let now = || start.elapsed().as_secs_f64();
        std::thread::scope(|scope| -> Result<Stall> {
            let (desk, stop, slow) = (&desk, &stop, &slow);
            let writing = scope.spawn(move || -> Result<Vec<(f64, f64)>> {
                let mut commits = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let began = Instant::now();
                    desk.transfer(16).transpose()?;
                    commits.push((began.duration_since(start).as_secs_f64(), began.elapsed().as_secs_f64()));
                    std::thread::sleep(if slow.load(Ordering::SeqCst) { 6 * delay } else { delay / 5 });
                }
                Ok(commits)
            });
            let disturb = || -> Result<_> {
                std::thread::sleep(Duration::from_millis(300));
                let from = now();
                for replica in cluster.replicas() {
                    cluster.link(replica)?.half_open();
                }
                std::thread::sleep(timeout + Duration::from_millis(300));
                let status = cluster.semi_sync_status()?;
                let to = now();
                for replica in cluster.replicas() {
                    cluster.link(replica)?.heal().delay(delay);
                }
                std::thread::sleep(Duration::from_millis(300));
                let (pauses, back_before) = (now(), cluster.semi_sync_status()?.on);
                slow.store(true, Ordering::SeqCst);
                cluster.until_semi_sync(Duration::from_secs(20))?;
                let back = now();
                slow.store(false, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(300));
                Ok(((from, to), (pauses, back_before, back), status.unwaited - before))
            };
            let disturbed = disturb();
            stop.store(true, Ordering::SeqCst);
            cluster.heal();
            let commits = joined("write", writing.join())?;
            let (silent, (pauses, back_before, back), unwaited) = disturbed?;
            Ok(Stall { commits, silent, pauses, back_before, back, unwaited, timeout: timeout.as_secs_f64() })
        })
    };
    let stall = run();
    cluster.heal();
    let off = cluster.semi_sync(None);
    stall.and_then(|stall| off.map(|()| stall)).or_fail()
}

impl Stall {
    /// Every commit: when it began and how long it took.
    pub fn chart(&self, title: &str) -> Lines {
        let timeout = self.timeout * 1e3;
        Chart::lines(title)
            .x("time", "s")
            .y("a commit takes", "ms")
            .log_y()
            .points("a commit", self.commits.iter().map(|(at, took)| (*at, took * 1e3)))
            .predicted("timeout", move |_| timeout)
            .mark_x("wires silent", self.silent.0)
            .mark_x("they heal", self.silent.1)
            .mark_x("writer pauses", self.pauses)
            .mark_x("waits again", self.back)
    }

    /// The longest commit, in timeouts.
    pub fn longest(&self) -> f64 {
        self.commits.iter().map(|(_, took)| *took).fold(0.0, f64::max) / self.timeout
    }

    /// Median seconds of a commit before the wires went silent, between the timeout and their healing, and once commits
    /// wait again.
    pub fn medians(&self) -> [f64; 3] {
        let of = |from: f64, to: f64| {
            let within = self.commits.iter().filter(|(at, _)| (from..to).contains(at));
            within.map(|(_, took)| *took).collect::<Samples>().median()
        };
        let fallen_back = self.silent.0 + self.timeout + 0.05;
        [of(0.0, self.silent.0 - 0.05), of(fallen_back, self.silent.1), of(self.back, f64::INFINITY)]
    }
}

/// Whether another client sees a transfer on the primary before any replica has it: how often out of how many.
pub fn seen_early(bank: &Bank, wait_point: WaitPoint, times: u64, seed: u64) -> (u64, u64) {
    let cluster = bank.cluster();
    let run = || -> Result<(u64, u64)> {
        cluster.semi_sync(Some(SemiSync { timeout: Duration::from_secs(30), wait_point }))?;
        let desk = Desk::open(bank, 1, seed)?;
        let mut reader = cluster.connect(cluster.primary(), Duration::from_secs(10))?;
        let count = "SELECT COUNT(*) FROM ledger";
        let mut early = 0;
        for _ in 0..times {
            cluster.catch_up(Duration::from_secs(30))?;
            let before: Option<u64> = reader.query_first(count).doing("read")?;
            let waiting = cluster.semi_sync_status()?;
            for replica in cluster.replicas() {
                cluster.link(replica)?.half_open();
            }
            let looked = std::thread::scope(|scope| -> Result<bool> {
                let writing = scope.spawn(|| desk.transfer(16).transpose());
                let mut look = || -> Result<bool> {
                    // It waits for a replica once its transaction is in the binary log.
                    let position = cluster.position()?;
                    let began = Instant::now();
                    while cluster.position()? == position && began.elapsed() < Duration::from_secs(10) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    std::thread::sleep(Duration::from_millis(20));
                    let after: Option<u64> = reader.query_first(count).doing("read")?;
                    Ok(after > before)
                };
                let seen = look();
                cluster.heal();
                joined("write", writing.join())?;
                seen
            })?;
            let acknowledged = cluster.semi_sync_status()?;
            if acknowledged.unwaited != waiting.unwaited {
                return Err(Error::new("watch a commit that waits", "it did not wait"));
            }
            early += u64::from(looked);
        }
        Ok((early, times))
    };
    let seen = run();
    cluster.heal();
    let off = cluster.semi_sync(None);
    seen.and_then(|seen| off.map(|()| seen)).or_fail()
}

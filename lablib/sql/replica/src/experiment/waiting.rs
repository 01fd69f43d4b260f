//! Commits that wait for a replica: what a timeout does to them, and who sees them before a replica does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use super::bank::Bank;
use super::healed;
use crate::{SemiSync, WaitPoint};
use lab::{Crowd, Doing, Error, Frame, Result};

/// Commits over time while the replicas' wires go silent and come back.
#[derive(Debug, Clone)]
pub struct Stall {
    /// A row for each commit: when it began (`at`), and how long it `took`.
    pub commits: Frame,
    /// What happened: `wires silent`, `they heal`, `writer pauses` between its commits, so that a replica can acknowledge the last one,
    /// and `waits again`, as the primary says of itself.
    pub events: Frame,
    /// Whether commits waited for a replica again before the writer paused.
    pub back_before: bool,
    /// Commits that were acknowledged without a replica while the wires were silent, as the primary counts.
    pub unwaited: u64,
    timeout: f64,
}

/// Writes one transfer after the other, under semi-synchronous replication with this timeout, and silences all wires.
pub fn stall(bank: &Bank, timeout: Duration, delay: Duration, seed: u64) -> Result<Stall> {
    const A_WHILE: Duration = Duration::from_millis(300);
    let cluster = bank.cluster();
    healed(cluster, || {
        cluster.catch_up(Duration::from_secs(30))?;
        for link in cluster.links() {
            link.delay(delay);
        }
        cluster.semi_sync(Some(SemiSync::lossless(timeout)))?;
        let before = cluster.semi_sync_status()?.unwaited;
        let (mut unwaited, mut back_before, pauses) = (0, false, AtomicBool::new(false));
        let ran = Crowd::of(1)
            .with(|_| bank.writer(seed))
            .lasting(A_WHILE)
            .meanwhile(A_WHILE, "wires silent", || {
                for link in cluster.links() {
                    link.half_open();
                }
                Ok(())
            })
            .meanwhile(timeout + A_WHILE, "they heal", || {
                unwaited = cluster.semi_sync_status()?.unwaited - before;
                for link in cluster.links() {
                    link.heal().delay(delay);
                }
                Ok(())
            })
            .meanwhile(A_WHILE, "writer pauses", || {
                back_before = cluster.semi_sync_status()?.on;
                pauses.store(true, Ordering::SeqCst);
                Ok(())
            })
            .meanwhile(Duration::ZERO, "waits again", || {
                cluster.until_semi_sync(1, Duration::from_secs(20))?;
                pauses.store(false, Ordering::SeqCst);
                Ok(())
            })
            .run(|writer, call| {
                call.rest(if pauses.load(Ordering::SeqCst) { 6 * delay } else { delay / 5 });
                writer.transfer(16).map(drop)
            })?;
        let (commits, events) = (ran.frame, ran.events);
        Ok(Stall { commits, events, back_before, unwaited, timeout: timeout.as_secs_f64() })
    })
}

impl Stall {
    /// The longest commit, in timeouts.
    pub fn longest(&self) -> f64 {
        self.commits.samples("took").max() / self.timeout
    }

    /// Median seconds of a commit before the wires went silent, between the timeout and their healing, and once commits
    /// wait again.
    pub fn medians(&self) -> [f64; 3] {
        let moment = |event: &str| self.events.filter("event", event).number("ended");
        let (silent, healed, again) = (moment("wires silent"), moment("they heal"), moment("waits again"));
        [0.0..silent - 0.05, silent + self.timeout + 0.05..healed, again..f64::INFINITY]
            .map(|when| self.commits.within("at", when).samples("took").median())
    }
}

/// How often, of so many times, another client sees a transfer on the primary before any replica has it.
pub fn seen_early(bank: &Bank, wait_point: WaitPoint, times: u64, seed: u64) -> Result<u64> {
    let cluster = bank.cluster();
    healed(cluster, || {
        cluster.semi_sync(Some(SemiSync { timeout: Duration::from_secs(30), wait_point }))?;
        let mut writer = bank.writer(seed)?;
        let mut reader = cluster.connect(cluster.primary(), Duration::from_secs(10))?;
        let mut count = || -> Result<Option<u64>> { reader.query_first("SELECT COUNT(*) FROM ledger").doing("read") };
        let mut early = 0;
        for _ in 0..times {
            cluster.catch_up(Duration::from_secs(30))?;
            let (before, position, unwaited) = (count()?, cluster.position()?, cluster.semi_sync_status()?.unwaited);
            for link in cluster.links() {
                link.half_open();
            }
            let one = Crowd::holding([&mut writer]).meanwhile(Duration::ZERO, "another client looks", || {
                let mut look = || {
                    // The commit waits for a replica once its transaction is in the binary log.
                    let began = Instant::now();
                    while cluster.position()? == position && began.elapsed() < Duration::from_secs(10) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    std::thread::sleep(Duration::from_millis(20));
                    early += u64::from(count()? > before);
                    Ok(())
                };
                let looked = look();
                // Whatever was seen: the commit goes on.
                cluster.heal();
                looked
            });
            one.run(|writer, _| writer.transfer(16).map(drop))?;
            if cluster.semi_sync_status()?.unwaited != unwaited {
                return Err(Error::new("watch a commit that waits", "it did not wait"));
            }
        }
        Ok(early)
    })
}

//! A token that goes around a ring: each hop wakes one member and puts another to sleep, which is one switch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Instant;

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::Kind;
use crate::procfs::Usage;
use lab::{Doing, Error, Result};

/// A relay that is to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelaySpec {
    /// Threads or tasks.
    pub kind: Kind,
    /// Number of threads or tasks in the ring.
    pub members: usize,
    /// Number of times that the token is passed.
    pub hops: u64,
}

/// What a relay took.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Relayed {
    /// Number of times that the token was passed.
    pub hops: u64,
    /// Seconds from the first hop to the last.
    pub seconds: f64,
    /// How often a thread went to sleep, by the kernel's account.
    pub waits: u64,
}

impl RelaySpec {
    /// Runs it in this process, on one processor, so that nothing but switching happens.
    pub(crate) fn run(&self) -> Result<Relayed> {
        if self.members < 2 || self.hops == 0 {
            return Err(Error::new("pass a token around", "it takes two members and one hop"));
        }
        let doing = "stay on one processor";
        let everywhere = sched_getaffinity(Pid::from_raw(0)).doing(doing)?;
        let mut here = CpuSet::new();
        here.set(sched_getcpu().doing(doing)?).doing(doing)?;
        // What this thread starts inherits it.
        sched_setaffinity(Pid::from_raw(0), &here).doing(doing)?;
        let before = Usage::now()?;
        let ran = match self.kind {
            Kind::Thread => self.threads(),
            Kind::Task => self.tasks(),
        };
        sched_setaffinity(Pid::from_raw(0), &everywhere).doing(doing)?;
        let (hops, seconds) = ran?;
        Ok(Relayed { hops, seconds, waits: Usage::now()?.since(&before).waits })
    }

    fn threads(&self) -> Result<(u64, f64)> {
        let (hops, members) = (self.hops, self.members);
        let passed = Arc::new(AtomicU64::new(0));
        // Who is in the ring, and when it began to turn.
        let ring: Arc<OnceLock<(Vec<Thread>, Instant)>> = Arc::new(OnceLock::new());
        let member = |index: usize| {
            let (passed, ring) = (Arc::clone(&passed), Arc::clone(&ring));
            std::thread::Builder::new().stack_size(64 * 1024).spawn(move || {
                let mut seconds = None;
                loop {
                    let token = passed.load(Ordering::Acquire);
                    let Some((others, began)) = ring.get() else {
                        std::thread::park();
                        continue;
                    };
                    let next = &others[(index + 1) % members];
                    if token >= hops {
                        // The end goes around as well.
                        next.unpark();
                        return seconds;
                    }
                    if token % members as u64 == index as u64 {
                        if token + 1 == hops {
                            seconds = Some(began.elapsed().as_secs_f64());
                        }
                        passed.store(token + 1, Ordering::Release);
                        next.unpark();
                    } else {
                        std::thread::park();
                    }
                }
            })
        };
        let members = (0..members).map(member).collect::<std::io::Result<Vec<_>>>().doing("start a ring of threads")?;
        let threads: Vec<Thread> = members.iter().map(|member| member.thread().clone()).collect();
        let _ = ring.set((threads.clone(), Instant::now()));
        threads.iter().for_each(Thread::unpark);
        let mut seconds = None;
        for member in members {
            let mine = member.join().map_err(|_| Error::new("pass a token around", "a thread panicked"))?;
            seconds = seconds.or(mine);
        }
        Ok((passed.load(Ordering::Relaxed), seconds.unwrap_or(f64::NAN)))
    }

    fn tasks(&self) -> Result<(u64, f64)> {
        let (hops, members) = (self.hops, self.members);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().doing("start tokio")?;
        let passed = Arc::new(AtomicU64::new(0));
        let ring: Arc<Vec<Notify>> = Arc::new((0..members).map(|_| Notify::new()).collect());
        let seconds = runtime.block_on(async {
            let began = Instant::now();
            let mut handles = Vec::new();
            for index in 0..members {
                let (passed, ring) = (Arc::clone(&passed), Arc::clone(&ring));
                handles.push(tokio::spawn(async move {
                    let mut seconds = None;
                    loop {
                        ring[index].notified().await;
                        let next = &ring[(index + 1) % members];
                        let token = passed.load(Ordering::Relaxed);
                        if token >= hops {
                            next.notify_one();
                            return seconds;
                        }
                        if token + 1 == hops {
                            seconds = Some(began.elapsed().as_secs_f64());
                        }
                        passed.store(token + 1, Ordering::Relaxed);
                        next.notify_one();
                    }
                }));
            }
            ring[0].notify_one();
            let mut seconds = None;
            for handle in handles {
                let mine: Option<f64> = handle.await.doing("pass a token around")?;
                seconds = seconds.or(mine);
            }
            Ok::<_, Error>(seconds)
        })?;
        Ok((passed.load(Ordering::Relaxed), seconds.unwrap_or(f64::NAN)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_around_as_often_as_it_was_told_to() {
        for kind in [Kind::Thread, Kind::Task] {
            for (members, hops) in [(2, 1), (2, 1_000), (3, 7), (5, 1_001)] {
                let ran = RelaySpec { kind, members, hops }.run().unwrap();
                assert_eq!(ran.hops, hops, "{kind:?} {members}");
                assert!(ran.seconds > 0.0 && ran.seconds.is_finite(), "{ran:?}");
            }
            assert!(RelaySpec { kind, members: 1, hops: 1 }.run().is_err());
            assert!(RelaySpec { kind, members: 2, hops: 0 }.run().is_err());
        }
    }
}

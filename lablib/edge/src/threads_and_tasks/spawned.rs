//! Many threads, or many tasks, that are all alive at the same time and wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, setrlimit};
use serde::{Deserialize, Serialize};

use super::Kind;
use crate::procfs::{MachineMemory, ProcessMemory};
use lab::{Doing, Error, Result};

/// Threads or tasks that are to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnSpec {
    /// Threads or tasks.
    pub kind: Kind,
    /// Number of threads or tasks.
    pub count: u64,
    /// Bytes of stack for each thread; Rust's 2 MiB where nothing is said.
    pub stack: Option<u64>,
    /// The limit on this user's threads, for the process that makes them: RLIMIT_NPROC.
    pub most: Option<u64>,
}

/// What became of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Spawned {
    /// How many were alive at once.
    pub alive: u64,
    /// Seconds from the first to the moment in which all had run.
    pub seconds: f64,
    /// Why there were no more, in the words of the kernel.
    pub refused: Option<String>,
    /// Bytes of address space, for all of them.
    pub virtual_bytes: f64,
    /// Bytes of resident memory, for all of them.
    pub resident: f64,
    /// Bytes of the kernel's stacks, for all of them, by the machine's account.
    pub kernel_stacks: f64,
    /// Memory mappings, for all of them.
    pub maps: f64,
    /// Memory mappings that the process had before.
    pub maps_before: f64,
}

impl Spawned {
    /// One figure, for each of them.
    pub fn each(&self, all: f64) -> f64 {
        all / self.alive.max(1) as f64
    }
}

/// The longest that one which was made may take to run.
const PATIENCE: Duration = Duration::from_secs(30);

impl SpawnSpec {
    /// `count` of a kind, with the stack and the limit that they have by default.
    pub fn new(kind: Kind, count: u64) -> Self {
        Self { kind, count, stack: None, most: None }
    }

    /// Makes them in this process, measures, and lets them go.
    pub(crate) fn run(&self) -> Result<Spawned> {
        if self.count == 0 {
            return Err(Error::new("make threads or tasks", "none is asked for"));
        }
        if let Some(most) = self.most {
            setrlimit(Resource::RLIMIT_NPROC, most, most).doing("lower the limit on threads")?;
        }
        let before = Counted::now()?;
        let mut spawned = match self.kind {
            Kind::Thread => self.threads(&before)?,
            Kind::Task => self.tasks(&before)?,
        };
        if spawned.refused.is_none() && spawned.alive < self.count {
            spawned.refused = Some(format!("{} of {} did not run", self.count - spawned.alive, self.count));
        }
        Ok(spawned)
    }

    fn threads(&self, before: &Counted) -> Result<Spawned> {
        let alive = Arc::new(AtomicU64::new(0));
        let over = Arc::new((Mutex::new(false), Condvar::new()));
        let mut made = Vec::with_capacity(usize::try_from(self.count).unwrap_or(0));
        let mut refused = None;
        let began = Instant::now();
        for _ in 0..self.count {
            let (alive, over) = (Arc::clone(&alive), Arc::clone(&over));
            let body = move || {
                alive.fetch_add(1, Ordering::Relaxed);
                let (over, changed) = &*over;
                let mut is_over = over.lock().unwrap_or_else(PoisonError::into_inner);
                while !*is_over {
                    is_over = changed.wait(is_over).unwrap_or_else(PoisonError::into_inner);
                }
            };
            let mut builder = std::thread::Builder::new();
            if let Some(stack) = self.stack {
                builder = builder.stack_size(usize::try_from(stack).unwrap_or(usize::MAX));
            }
            match builder.spawn(body) {
                Ok(one) => made.push(one),
                Err(error) => {
                    refused = Some(error.to_string());
                    break;
                }
            }
        }
        while (alive.load(Ordering::Relaxed) as usize) < made.len() && began.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
        let seconds = began.elapsed().as_secs_f64();
        let spawned = Counted::now()?.since(before, alive.load(Ordering::Relaxed), seconds, refused);
        *over.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        over.1.notify_all();
        for one in made {
            one.join().map_err(|_| Error::new("end a thread", "it panicked"))?;
        }
        Ok(spawned)
    }

    fn tasks(&self, before: &Counted) -> Result<Spawned> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().doing("start tokio")?;
        let alive = Arc::new(AtomicU64::new(0));
        let over = Arc::new(tokio::sync::Notify::new());
        runtime.block_on(async {
            let mut made = Vec::with_capacity(usize::try_from(self.count).unwrap_or(0));
            let began = Instant::now();
            for _ in 0..self.count {
                let (alive, over) = (Arc::clone(&alive), Arc::clone(&over));
                made.push(tokio::spawn(async move {
                    let notified = over.notified();
                    alive.fetch_add(1, Ordering::Relaxed);
                    notified.await;
                }));
            }
            while alive.load(Ordering::Relaxed) < self.count && began.elapsed() < PATIENCE {
                tokio::task::yield_now().await;
            }
            let seconds = began.elapsed().as_secs_f64();
            let spawned = Counted::now()?.since(before, alive.load(Ordering::Relaxed), seconds, None);
            over.notify_waiters();
            for one in made {
                one.await.doing("end a task")?;
            }
            Ok(spawned)
        })
    }
}

/// What the kernel counts of this process.
struct Counted {
    process: ProcessMemory,
    machine: MachineMemory,
    maps: usize,
}

impl Counted {
    fn now() -> Result<Self> {
        let maps = std::fs::read_to_string("/proc/self/maps").doing("count this process's mappings")?;
        Ok(Self {
            process: ProcessMemory::of(std::process::id())?,
            machine: MachineMemory::read()?,
            maps: maps.lines().count(),
        })
    }

    fn since(&self, before: &Self, alive: u64, seconds: f64, refused: Option<String>) -> Spawned {
        let grown = |now: u64, before: u64| now as f64 - before as f64;
        Spawned {
            alive,
            seconds,
            refused,
            virtual_bytes: grown(self.process.virtual_bytes, before.process.virtual_bytes),
            resident: grown(self.process.resident, before.process.resident),
            kernel_stacks: grown(self.machine.kernel_stack, before.machine.kernel_stack),
            maps: grown(self.maps as u64, before.maps as u64),
            maps_before: before.maps as f64,
        }
    }
}

//! Threads beside tasks: memory, what it takes to make them, switches, and the number at which threads stop.

#![allow(missing_docs, reason = "a field is documented where its name leaves something open")]

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use super::limits::{is_exempt, thread_limits};
use super::{Kind, RelaySpec, Relayed, SpawnSpec, Spawned};
use crate::procfs::{MachineMemory, ProcessMemory, number_in, tasks_now};
use crate::worker::{Ask, TO_WORK, Worker};
use lab::{Crowd, Doing, Error, Frame, Result, Trial, significant};

/// Makes threads or tasks in a process of its own.
pub fn spawn(spec: &SpawnSpec) -> Result<Spawned> {
    Worker::start()?.ask(&Ask::Spawn(spec.clone()))
}

/// Runs a relay in a process of its own.
pub fn relay(spec: &RelaySpec) -> Result<Relayed> {
    Worker::start()?.ask(&Ask::Relay(spec.clone()))
}

/// A number of threads, or of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    pub kind: Kind,
    /// Number of threads or tasks.
    pub count: u64,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", significant(self.count as f64), self.kind)
    }
}

/// Threads and tasks in each of these numbers, in turns, each group in a fresh process. The frame has the columns `kind` and `alive`.
///
/// Figures of the group, in MB: `address space`, and `memory`, which is resident or a stack in the kernel. Figures of one of them:
/// `address space of one` (kB), `resident` and `kernel stack` (B), `mappings`, and `made in` (µs).
pub fn spawn_in_turns(counts: &[u64], rounds: usize) -> Result<Trial<Group>> {
    let group = |count| [Kind::Thread, Kind::Task].map(|kind| Group { kind, count });
    Trial::over(counts.iter().flat_map(|count| group(*count)), rounds)
        .titled("making threads and tasks")
        .column("kind", |group| group.kind.to_string())
        .column("alive", |group| group.count)
        .run(|group, _, figures| {
            let made = spawn(&SpawnSpec::new(group.kind, group.count))?;
            if made.alive < group.count {
                return Err(Error::new(format!("make {group}"), format!("{} alive: {:?}", made.alive, made.refused)));
            }
            // A handful of tasks may fit into memory that was there already.
            let megabytes = |bytes: f64| bytes.max(1e3) / 1e6;
            figures.push("address space", "MB", megabytes(made.virtual_bytes));
            figures.push("memory", "MB", megabytes(made.resident + made.kernel_stacks.max(0.0)));
            figures.push("address space of one", "kB", made.each(made.virtual_bytes).max(0.0) / 1e3);
            figures.push("resident", "B", made.each(made.resident).max(0.0));
            figures.push("kernel stack", "B", made.each(made.kernel_stacks).max(0.0));
            figures.push("mappings", "", made.each(made.maps).max(0.0));
            figures.push("made in", "µs", made.each(made.seconds) * 1e6);
            Ok(())
        })
}

/// A token that goes around a ring of threads or of tasks, in turns. Figures: `hop` (ns), and how often a thread went to sleep for
/// each, as `sleeps`.
pub fn switches(members: usize, hops: u64, rounds: usize) -> Result<Trial<Kind>> {
    Trial::over([Kind::Thread, Kind::Task], rounds).run(|&kind, _, figures| {
        let ran = relay(&RelaySpec { kind, members, hops })?;
        figures.work("hops", ran.hops);
        figures.push("hop", "ns", ran.seconds * 1e9 / hops as f64);
        figures.push("sleeps", "", ran.waits as f64 / hops as f64);
        Ok(())
    })
}

/// What limits threads on this machine, with what one of them costs.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The tightest first: limit, says (what the kernel has it at), counts (what is counted), and allows (how many threads it leaves
    /// to one process now). Missing where it is not set, or does not bind.
    pub frame: Frame,
    /// A few threads, from which their price is known.
    pub sample: Spawned,
}

/// Reads the limits, after making a few hundred threads to see what one costs.
pub fn limits_on_threads() -> Result<Limits> {
    let sample = spawn(&SpawnSpec::new(Kind::Thread, 400))?;
    Ok(Limits { frame: thread_limits(&sample)?, sample })
}

impl Limits {
    /// The limit that comes first, and how many threads it allows.
    pub fn first(&self) -> (String, f64) {
        let first = self.frame.having("allows").rows().next().map(|row| (row.text("limit"), row.number("allows")));
        first.unwrap_or_else(|| ("nothing".into(), f64::INFINITY))
    }
}

fn reached(limit: &str, predicted: f64, alive: u64, then: impl ToString) -> Frame {
    Frame::new()
        .text("limit", [limit])
        .numbers("predicted", "threads", [predicted])
        .counts("alive", "threads", [alive])
        .text("then", [then])
}

/// A user of whom there are no processes: the limit on a user's threads does not bind root.
const NOBODY: u32 = 54_321;

/// Lowers the limit on a user's threads for one process, and reaches it. The frame has one row: limit, predicted and alive (threads), and
/// then (the error, or why it was `not tried`).
pub fn reach_user_limit(most: u64) -> Result<Frame> {
    let limit = "RLIMIT_NPROC";
    let root = std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    if !root && is_exempt()? {
        return Ok(reached(
            limit,
            most as f64,
            0,
            "not tried: this process is exempt, and may not become another user",
        ));
    }
    let mut worker = if root { Worker::start_as(NOBODY)? } else { Worker::start()? };
    // Root's own processes do not count for that user; another user's do.
    let others = if root { 1 } else { threads_of_this_user()? };
    let made: Spawned =
        worker.ask(&Ask::Spawn(SpawnSpec { most: Some(most), ..SpawnSpec::new(Kind::Thread, most + 50) }))?;
    let then = made.refused.unwrap_or_else(|| "nothing".into());
    Ok(reached(limit, most.saturating_sub(others) as f64, made.alive, then))
}

fn threads_of_this_user() -> Result<u64> {
    let doing = "count this user's threads";
    let mine = std::fs::metadata("/proc/self").doing(doing)?.uid();
    let processes = std::fs::read_dir("/proc").doing(doing)?.flatten();
    let of_mine = processes.filter(|entry| entry.metadata().is_ok_and(|process| process.uid() == mine));
    let pids = of_mine.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    Ok(pids.filter_map(|pid| ProcessMemory::of(pid).ok()).map(|process| process.threads).sum())
}

/// Makes threads until the machine itself refuses, if the limit that comes first leaves others enough: `margin` process
/// ids, and half of the memory. The frame is that of [`reach_user_limit`].
pub fn reach_machine_limit(limits: &Limits, margin: u64) -> Result<Frame> {
    let (limit, predicted) = limits.first();
    let wanted = (predicted * 1.05) as u64 + 200;
    let free = number_in("/proc/sys/kernel/pid_max")?.saturating_sub(tasks_now()?);
    let bytes = limits.sample.each(limits.sample.resident) + limits.sample.each(limits.sample.kernel_stacks);
    let not = |why: String| Ok(reached(&limit, predicted, 0, format!("not tried: {why}")));
    if wanted.saturating_add(margin) > free {
        return not(format!("{wanted} of {free} free process ids would leave too few for others"));
    }
    if wanted as f64 * bytes * 2.0 > MachineMemory::read()?.available as f64 {
        return not("it would take half of the memory".into());
    }
    let mut worker = Worker::start()?;
    let pid = worker.pid();
    // A process that has no mapping left may be unable to say so: its threads are counted from outside.
    let (made, watched) = Crowd::of(1).lasting(Duration::ZERO).within(2 * TO_WORK).during(
        || Ok(worker.ask::<Spawned>(&Ask::Spawn(SpawnSpec::new(Kind::Thread, wanted)))),
        |_, call| {
            let threads = ProcessMemory::of(pid).map_or(1, |process| process.threads);
            call.note("threads", "", threads as f64);
            call.rest(Duration::from_millis(2));
            Ok(())
        },
    )?;
    let (alive, then) = match made {
        Ok(made) => (made.alive, made.refused.unwrap_or_else(|| "nothing".into())),
        Err(error) => ((watched.frame.samples("threads").max() as u64).saturating_sub(1), error.cause().to_string()),
    };
    Ok(reached(&limit, predicted, alive, then))
}

/// Makes threads with stacks that add up to a quarter more than the machine's memory.
pub fn overcommit(threads: u64) -> Result<Spawned> {
    let memory = MachineMemory::read()?.total;
    let stack = (memory + memory / 4) / threads.max(1);
    spawn(&SpawnSpec { stack: Some(stack), ..SpawnSpec::new(Kind::Thread, threads) })
}

//! Threads beside tasks: memory, birth, switches, and the number at which threads stop.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::limits::{is_exempt, tasks_now};
use super::{Crew, CrewSpec, Kind, RelaySpec, Relayed, ThreadLimit, thread_limits};
use crate::limits::fleet::{Ask, Worker};
use crate::limits::memory::{MachineMemory, ProcessMemory, number_in};
use lab::chart::{Bars, Chart, Lines};
use lab::{Error, OrFail, Progress, Result, Samples, Table, significant};

/// Makes a crew in a process of its own.
pub fn crew(spec: &CrewSpec) -> Result<Crew> {
    Worker::start()?.ask(&Ask::Crew(spec.clone()))
}

/// Runs a relay in a process of its own.
pub fn relay(spec: &RelaySpec) -> Result<Relayed> {
    Worker::start()?.ask(&Ask::Relay(spec.clone()))
}

/// Both kinds at several sizes, in turns.
#[derive(Debug, Clone, Default)]
pub struct Compared {
    /// How many, and what became of so many threads, a round each.
    pub threads: Vec<(u64, Vec<Crew>)>,
    /// The same for tasks.
    pub tasks: Vec<(u64, Vec<Crew>)>,
}

/// Makes so many threads and so many tasks, `rounds` times in turns; each in a fresh process.
pub fn crews(sizes: &[u64], rounds: usize) -> Compared {
    let mut progress = Progress::new("making threads and tasks", (2 * sizes.len() * rounds) as u64);
    let mut run = || -> Result<Compared> {
        let mut all = Compared::default();
        for &members in sizes {
            let (mut threads, mut tasks) = (Vec::new(), Vec::new());
            for _ in 0..rounds {
                for (kind, crews) in [(Kind::Thread, &mut threads), (Kind::Task, &mut tasks)] {
                    let made = crew(&CrewSpec::new(kind, members))?;
                    if made.alive < members {
                        let cause = format!("{} of {members}: {:?}", made.alive, made.refused);
                        return Err(Error::new(format!("make {}", kind.name()), cause));
                    }
                    crews.push(made);
                    progress.step();
                }
            }
            all.threads.push((members, threads));
            all.tasks.push((members, tasks));
        }
        Ok(all)
    };
    run().or_fail()
}

impl Compared {
    /// How many times as long a thread takes to make and to run as a task, round by round, at the largest size.
    pub fn creation_ratio(&self) -> Samples {
        self.ratio(|crew| crew.seconds)
    }

    /// How many times as much resident memory a thread takes as a task, its stack in the kernel included.
    pub fn memory_ratio(&self) -> Samples {
        self.ratio(|crew| crew.resident + crew.kernel_stacks.max(0.0))
    }

    fn ratio(&self, figure: fn(&Crew) -> f64) -> Samples {
        let largest = |sizes: &[(u64, Vec<Crew>)]| sizes.last().map(|(_, crews)| crews.clone()).unwrap_or_default();
        let (threads, tasks) = (largest(&self.threads), largest(&self.tasks));
        // A handful of tasks may fit into memory that was there already.
        threads.iter().zip(&tasks).map(|(thread, task)| figure(thread) / figure(task).max(f64::MIN_POSITIVE)).collect()
    }

    /// Address space and resident memory by number.
    pub fn chart(&self, title: &str) -> Lines {
        type Figure = fn(&Crew) -> f64;
        let megabytes = |sizes: &[(u64, Vec<Crew>)], figure: Figure| -> Vec<(f64, Samples)> {
            let samples = |crews: &[Crew]| crews.iter().map(|crew| figure(crew).max(1e3) / 1e6).collect::<Samples>();
            sizes.iter().map(|(members, crews)| (*members as f64, samples(crews))).collect()
        };
        let (space, resident): (Figure, Figure) =
            (|crew| crew.virtual_bytes, |crew| crew.resident + crew.kernel_stacks.max(0.0));
        let mut chart = Chart::lines(title).x("alive at once", "").log_x().y("memory", "MB").log_y();
        for (name, points) in [
            ("threads, address space", megabytes(&self.threads, space)),
            ("threads, resident", megabytes(&self.threads, resident)),
            ("tasks, resident", megabytes(&self.tasks, resident)),
        ] {
            chart = chart.line_with_spread(name, points.iter().map(|(members, samples)| (*members, samples)));
        }
        chart
    }

    /// What one of each costs.
    pub fn table(&self) -> Table {
        let rows: Vec<(&str, u64, &Vec<Crew>)> = [("threads", &self.threads), ("tasks", &self.tasks)]
            .into_iter()
            .flat_map(|(kind, sizes)| sizes.iter().map(move |(members, crews)| (kind, *members, crews)))
            .collect();
        let median = |crews: &[Crew], figure: fn(&Crew) -> f64| {
            crews.iter().map(|crew| crew.each(figure(crew)).max(0.0)).collect::<Samples>().median()
        };
        Table::new("What one costs")
            .text("", rows.iter().map(|row| row.0))
            .counts("alive", "", rows.iter().map(|row| row.1))
            .numbers("address space", "kB", rows.iter().map(|row| median(row.2, |crew| crew.virtual_bytes / 1e3)))
            .numbers("resident", "B", rows.iter().map(|row| median(row.2, |crew| crew.resident)))
            .numbers("kernel stack", "B", rows.iter().map(|row| median(row.2, |crew| crew.kernel_stacks)))
            .numbers("mappings", "", rows.iter().map(|row| median(row.2, |crew| crew.maps)))
            .numbers("made in", "µs", rows.iter().map(|row| median(row.2, |crew| crew.seconds * 1e6)))
    }
}

/// Switches between threads and between tasks, in turns.
#[derive(Debug, Clone, Default)]
pub struct Switches {
    /// Nanoseconds of a switch between threads.
    pub threads: Samples,
    /// Nanoseconds of a switch between tasks.
    pub tasks: Samples,
    /// How often a thread went to sleep for each hop of a token between threads.
    pub thread_waits: Samples,
    /// The same for tasks.
    pub task_waits: Samples,
}

/// Passes a token around a ring of so many, `rounds` times with each kind in turns.
pub fn switches(members: usize, hops: u64, rounds: usize) -> Switches {
    let run = || -> Result<Switches> {
        let mut all = Switches::default();
        for _ in 0..rounds {
            for kind in [Kind::Thread, Kind::Task] {
                let ran = relay(&RelaySpec { kind, members, hops })?;
                if ran.hops != hops {
                    return Err(Error::new("compare switches", format!("{} of {hops} hops were made", ran.hops)));
                }
                let (times, waits) = match kind {
                    Kind::Thread => (&mut all.threads, &mut all.thread_waits),
                    Kind::Task => (&mut all.tasks, &mut all.task_waits),
                };
                times.push(ran.seconds * 1e9 / hops as f64);
                waits.push(ran.waits as f64 / hops as f64);
            }
        }
        Ok(all)
    };
    run().or_fail()
}

impl Switches {
    /// How many times as long a switch between threads takes, round by round.
    pub fn ratio(&self) -> Samples {
        self.threads.values().iter().zip(self.tasks.values()).map(|(thread, task)| thread / task).collect()
    }

    /// Both beside each other.
    pub fn chart(&self, title: &str) -> Bars {
        Chart::bars(title)
            .y("one hop of the token", "ns")
            .bar_with_spread("between threads", self.threads.median_and_quartiles())
            .bar_with_spread("between tasks", self.tasks.median_and_quartiles())
    }
}

/// What limits threads on this machine, with what one of them costs.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The limits, the tightest first.
    pub limits: Vec<ThreadLimit>,
    /// A few threads, from which their price is known.
    pub sample: Crew,
}

/// Reads the limits, after making a few hundred threads to see what one costs.
pub fn limits_on_threads() -> Limits {
    let run = || -> Result<Limits> {
        let sample = crew(&CrewSpec::new(Kind::Thread, 400))?;
        Ok(Limits { limits: thread_limits(&sample)?, sample })
    };
    run().or_fail()
}

impl Limits {
    /// The limit that comes first, and how many threads it allows.
    pub fn first(&self) -> (String, f64) {
        let first = self.limits.iter().find_map(|limit| Some((limit.name.clone(), limit.allows?)));
        first.unwrap_or_else(|| ("nothing".into(), f64::INFINITY))
    }

    /// What the seed's formula allows: memory over stack.
    pub fn seeds_formula(&self) -> f64 {
        MachineMemory::read().map_or(f64::NAN, |memory| (memory.total as f64 / 8_388_608.0).floor())
    }

    /// The limits beside each other, with the seed's formula.
    pub fn chart(&self, title: &str) -> Bars {
        let mut chart = Chart::bars(title).y("threads that it allows one process now", "").log().horizontal();
        chart = chart.bar("seed: memory ÷ 8 MB of stack", self.seeds_formula());
        for limit in &self.limits {
            if let Some(allows) = limit.allows {
                chart = chart.bar(&limit.name, allows);
            }
        }
        chart
    }

    /// Where each comes from.
    pub fn table(&self) -> Table {
        let number = |value: Option<f64>, none: &str| value.map_or_else(|| none.to_string(), significant);
        Table::new("What limits threads here")
            .text("limit", self.limits.iter().map(|limit| limit.name.as_str()))
            .text("the kernel says", self.limits.iter().map(|limit| number(limit.says, "not set")))
            .text("counts", self.limits.iter().map(|limit| limit.counts))
            .text("allows", self.limits.iter().map(|limit| number(limit.allows, "does not bind")))
    }
}

/// A limit that was reached on purpose.
#[derive(Debug, Clone)]
pub struct Reached {
    /// Which one was expected.
    pub limit: String,
    /// How many threads it was to allow.
    pub predicted: f64,
    /// How many there were.
    pub alive: u64,
    /// What happened then; or why it was not tried.
    pub error: String,
    /// Whether it was tried at all.
    pub tried: bool,
}

/// A user of whom there are no processes: the limit on a user's threads does not bind root.
const NOBODY: u32 = 54_321;

/// Lowers the limit on a user's threads for one process, and reaches it.
pub fn reach_user_limit(most: u64) -> Reached {
    let run = || -> Result<Reached> {
        let root = std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
        let mut worker = if root { Worker::start_as(NOBODY)? } else { Worker::start()? };
        // Root's own processes do not count for that user; another user's do.
        let others = if root { 1 } else { threads_of_this_user()? };
        let spec = CrewSpec { most: Some(most), ..CrewSpec::new(Kind::Thread, most + 50) };
        let limit = "RLIMIT_NPROC".to_string();
        if !root && is_exempt()? {
            let error = "not tried: this process is exempt, and may not become another user".into();
            return Ok(Reached { limit, predicted: f64::NAN, alive: 0, error, tried: false });
        }
        let crew: Crew = worker.ask(&Ask::Crew(spec))?;
        let error = crew.refused.unwrap_or_else(|| "nothing".into());
        Ok(Reached { limit, predicted: most.saturating_sub(others) as f64, alive: crew.alive, error, tried: true })
    };
    run().or_fail()
}

fn threads_of_this_user() -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mine = std::fs::metadata("/proc/self").map(|me| me.uid()).unwrap_or(0);
    let processes = std::fs::read_dir("/proc").map_err(|error| Error::new("count this user's threads", error))?;
    let of_mine = processes.flatten().filter(|entry| entry.metadata().is_ok_and(|process| process.uid() == mine));
    let pids = of_mine.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    Ok(pids.filter_map(|pid| ProcessMemory::of(pid).ok()).map(|process| process.threads).sum())
}

/// Makes threads until the machine itself refuses, if the limit that comes first leaves others enough: `margin` process
/// ids, and half of the memory.
pub fn reach_machine_limit(limits: &Limits, margin: u64) -> Reached {
    let run = || -> Result<Reached> {
        let (limit, predicted) = limits.first();
        let wanted = (predicted * 1.05) as u64 + 200;
        let free = number_in("/proc/sys/kernel/pid_max")?.saturating_sub(tasks_now()?);
        let bytes = limits.sample.each(limits.sample.resident) + limits.sample.each(limits.sample.kernel_stacks);
        let memory = MachineMemory::read()?;
        let not = |error: String| Reached { limit: limit.clone(), predicted, alive: 0, error, tried: false };
        if wanted.saturating_add(margin) > free {
            return Ok(not(format!("not tried: {wanted} of {free} free process ids would leave too few for others")));
        }
        if wanted as f64 * bytes * 2.0 > memory.available as f64 {
            return Ok(not("not tried: it would take half of the memory".into()));
        }
        let mut worker = Worker::start()?;
        let (over, seen, pid) = (AtomicBool::new(false), AtomicU64::new(0), worker.pid());
        // A process that has no mapping left may be unable to say so: its threads are counted from outside.
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    if let Ok(process) = ProcessMemory::of(pid) {
                        seen.fetch_max(process.threads, Ordering::Relaxed);
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
            let outcome: Result<Crew> = worker.ask(&Ask::Crew(CrewSpec::new(Kind::Thread, wanted)));
            over.store(true, Ordering::Relaxed);
            outcome
        });
        let alive = seen.load(Ordering::Relaxed).saturating_sub(1);
        Ok(match outcome {
            Ok(crew) => {
                let error = crew.refused.unwrap_or_else(|| "nothing".into());
                Reached { limit, predicted, alive: crew.alive, error, tried: true }
            }
            Err(error) => Reached { limit, predicted, alive, error: error.cause().to_string(), tried: true },
        })
    };
    run().or_fail()
}

/// What was predicted and what happened, limit by limit.
pub fn reached_table(reached: &[&Reached]) -> Table {
    Table::new("Limits reached on purpose, in a process of their own")
        .text("limit", reached.iter().map(|one| one.limit.as_str()))
        .numbers("predicted", "threads", reached.iter().map(|one| one.predicted))
        .counts("alive", "threads", reached.iter().map(|one| one.alive))
        .text("then", reached.iter().map(|one| one.error.as_str()))
}

/// Threads whose stacks add up to more than the machine's memory, and which run all the same.
#[derive(Debug, Clone)]
pub struct Overbooked {
    /// How many.
    pub threads: u64,
    /// What became of them.
    pub crew: Crew,
    /// Bytes of the machine.
    pub memory: f64,
}

impl Overbooked {
    /// How many ran, and what they were promised and took.
    pub fn table(&self) -> Table {
        let gigabytes = [self.memory, self.crew.virtual_bytes, self.crew.resident].map(|bytes| bytes / 1e9);
        Table::new(&format!("{} threads at once", significant(self.crew.alive as f64)))
            .text("", ["the machine's memory", "their address space", "what they touched of it"])
            .numbers("size", "GB", gigabytes)
    }

    /// How many ran whose address space, all together, is larger than the machine's memory; 0 where it is not.
    pub fn beyond_memory(&self) -> u64 {
        if self.crew.virtual_bytes > self.memory { self.crew.alive } else { 0 }
    }
}

/// Makes so many threads with stacks that add up to a quarter more than the machine's memory.
pub fn overbook(threads: u64) -> Overbooked {
    let run = || -> Result<Overbooked> {
        let memory = MachineMemory::read()?.total;
        let stack = (memory + memory / 4) / threads.max(1);
        let crew = crew(&CrewSpec { stack: Some(stack), ..CrewSpec::new(Kind::Thread, threads) })?;
        Ok(Overbooked { threads, crew, memory: memory as f64 })
    };
    run().or_fail()
}

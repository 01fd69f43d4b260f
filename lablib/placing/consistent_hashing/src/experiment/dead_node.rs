//! A node that dies in the middle of the traffic, on real Redis servers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::Ring;
use crate::replicas::{Client, Repair, Store};
use lab::service::Redis;
use lab::{Error, OrFail, Progress, Result, Rng};

/// The experiment's parameters.
#[derive(Debug, Clone, Copy)]
pub struct DeathSpec {
    /// Redis servers.
    pub nodes: usize,
    /// Nodes that hold each key.
    pub copies: usize,
    /// Keys written before the traffic begins.
    pub keys: usize,
    /// Operations of the traffic: half of them read a key that was acknowledged, half write a new one. A node is killed after a
    /// third of them and taken off the ring after two thirds.
    pub operations: u64,
}

/// What became of the keys.
#[derive(Debug, Clone, Default)]
pub struct Death {
    /// Keys whose write was acknowledged.
    pub acknowledged: u64,
    /// Those of them that were acknowledged before the node was killed.
    pub before: u64,
    /// Those of these that nobody can find at the end.
    pub lost_of_before: u64,
    /// Acknowledged keys that nobody can find at the end.
    pub lost: u64,
    /// Keys whose fate the ring does not explain, key by key: lost although another node than the dead one had acknowledged
    /// them, or found although none had.
    pub unexplained: u64,
    /// Acknowledged keys that have fewer copies than they should at the end.
    pub short: u64,
    /// Reads that failed, or did not find what was acknowledged, during the traffic.
    pub failed_reads: u64,
    /// Writes that were refused during the traffic: never acknowledged, so nothing is lost with them.
    pub refused_writes: u64,
    /// Acknowledged keys that lack a copy by the time of the repair: it died with the node, or could not be written any more.
    pub lacking: u64,
    /// Copies that the repair made.
    pub copied: u64,
    /// Per cent of the reads that were answered rightly, in each fiftieth of the traffic: (operations so far, per cent).
    pub answered: Vec<(f64, f64)>,
}

const WORKERS: u64 = 2;
const POINTS: u32 = 64;
const WINDOWS: u64 = 50;

impl DeathSpec {
    fn name(index: usize) -> String {
        format!("node-{index}")
    }

    fn victim(&self, seed: u64) -> usize {
        Rng::seeded(seed, "victim").below(self.nodes as u64) as usize
    }

    /// Per cent of the circle that belongs to the node that will be killed: its arcs, measured without a key or a server.
    pub fn at_stake(&self, seed: u64) -> f64 {
        let victim = Self::name(self.victim(seed));
        let ring = Ring::new((0..self.nodes).map(Self::name), POINTS).or_fail();
        let points: Vec<(u128, &str)> = ring.points().collect();
        let before = points.iter().cycle().skip(points.len() - 1);
        let arcs = points.iter().zip(before).filter(|((_, node), _)| *node == victim);
        100.0 * arcs.map(|((end, _), (start, _))| end.wrapping_sub(*start) as f64).sum::<f64>() / 2_f64.powi(128)
    }

    /// Starts the servers, runs the traffic, kills a node with SIGKILL in its middle.
    pub fn run(&self, seed: u64) -> Death {
        self.try_run(seed).or_fail()
    }

    fn try_run(&self, seed: u64) -> Result<Death> {
        let start = |index| Redis::with("appendonly", "no").named(&Self::name(index)).start();
        let servers = (0..self.nodes).map(start).collect::<Result<Vec<Redis>>>()?;
        let store = Store::new(&servers, self.copies, POINTS)?;
        let mut loader = store.client();
        let put = |index| {
            let key = format!("before-{index}");
            loader.put(&key, &value_of(&key)).map(|holders| Written { key, holders, before: true })
        };
        let mut written = (0..self.keys).map(put).collect::<Result<Vec<Written>>>()?;

        let victim = &servers[self.victim(seed)];
        let done = Operations::default();
        let mut progress = Progress::new(format!("traffic on {} nodes, {} copies", self.nodes, self.copies), 3);
        let (traffic, repair) = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS)
                .map(|worker| {
                    let (client, done, old) = (store.client(), &done, &written);
                    scope.spawn(move || self.work(client, done, old, Rng::seeded(seed, &format!("worker {worker}"))))
                })
                .collect();
            let mut control = || -> Result<Repair> {
                done.wait_for(self.operations / 3)?;
                done.killed.store(true, Ordering::Relaxed);
                victim.try_kill()?;
                progress.step();
                done.wait_for(self.operations * 2 / 3)?;
                let repair = store.remove(victim.name())?;
                progress.step();
                Ok(repair)
            };
            let repair = control();
            if repair.is_err() {
                done.stop.store(true, Ordering::Relaxed);
            }
            let traffic: Vec<Traffic> = workers.into_iter().filter_map(|worker| worker.join().ok()).collect();
            (traffic, repair)
        });
        let repair = repair?;
        if traffic.len() < WORKERS as usize {
            return Err(Error::new("run the traffic", "a client panicked"));
        }
        let mut death = Death { copied: repair.copied, ..Death::default() };
        let mut windows = vec![(0_u64, 0_u64); WINDOWS as usize];
        for worker in traffic {
            death.failed_reads += worker.failed_reads;
            death.refused_writes += worker.refused_writes;
            written.extend(worker.acknowledged);
            for (sum, (reads, right)) in windows.iter_mut().zip(&worker.windows) {
                *sum = (sum.0 + reads, sum.1 + right);
            }
        }
        let mut reader = store.client();
        for Written { key, holders, before } in &written {
            let lost = reader.get(key)?.is_none_or(|value| value != value_of(key));
            let explained = holders.iter().all(|node| node == victim.name());
            death.before += u64::from(*before);
            // A key may still be acknowledged by the node between the word that it will be killed and its death.
            death.lost_of_before += u64::from(*before && lost);
            death.lost += u64::from(lost);
            death.unexplained += u64::from(lost != explained);
            death.short += u64::from(reader.copies_of(key)? < self.copies);
            death.lacking += u64::from(holders.len() < self.copies || holders.iter().any(|node| node == victim.name()));
        }
        death.acknowledged = written.len() as u64;
        let share = |(window, (reads, right)): (usize, &(u64, u64))| {
            let at = (window as f64 + 0.5) * self.operations as f64 / WINDOWS as f64;
            (at, *right as f64 * 100.0 / (*reads).max(1) as f64)
        };
        death.answered = windows.iter().enumerate().map(share).collect();
        progress.step();
        Ok(death)
    }

    fn work(&self, mut client: Client, done: &Operations, old: &[Written], mut rng: Rng) -> Traffic {
        let mut traffic = Traffic { windows: vec![(0, 0); WINDOWS as usize], ..Traffic::default() };
        let name = rng.word(8);
        while let Some(operation) = done.tick(self.operations) {
            if rng.below(2) == 0 {
                let key = format!("{name}-{operation}");
                match client.put(&key, &value_of(&key)) {
                    Ok(holders) => {
                        let before = !done.killed.load(Ordering::Relaxed);
                        traffic.acknowledged.push(Written { key, holders, before });
                    }
                    Err(_) => traffic.refused_writes += 1,
                }
                continue;
            }
            let new = traffic.acknowledged.len() as u64;
            let index = rng.below(old.len() as u64 + new) as usize;
            let Written { key, .. } = old.get(index).unwrap_or_else(|| &traffic.acknowledged[index - old.len()]);
            let right = matches!(client.get(key), Ok(Some(value)) if value == value_of(key));
            traffic.failed_reads += u64::from(!right);
            let window = &mut traffic.windows[(operation * WINDOWS / self.operations) as usize];
            *window = (window.0 + 1, window.1 + u64::from(right));
        }
        traffic
    }
}

fn value_of(key: &str) -> String {
    format!("value of {key}")
}

/// An acknowledged key, the nodes that had it then, and whether that was before the kill.
#[derive(Debug, Clone)]
struct Written {
    key: String,
    holders: Vec<String>,
    before: bool,
}

#[derive(Debug, Default)]
struct Traffic {
    acknowledged: Vec<Written>,
    failed_reads: u64,
    refused_writes: u64,
    /// Reads, and right ones among them, in each window.
    windows: Vec<(u64, u64)>,
}

/// Counts operations: what happens, happens after so many of them, on a fast machine and on a slow one.
#[derive(Debug, Default)]
struct Operations {
    operations: AtomicU64,
    killed: AtomicBool,
    stop: AtomicBool,
}

impl Operations {
    /// The number of the next operation, as long as there are fewer than `limit`.
    fn tick(&self, limit: u64) -> Option<u64> {
        let operation = self.operations.fetch_add(1, Ordering::Relaxed);
        (operation < limit && !self.stop.load(Ordering::Relaxed)).then_some(operation)
    }

    fn wait_for(&self, operations: u64) -> Result<()> {
        let start = Instant::now();
        while self.operations.load(Ordering::Relaxed) < operations {
            if start.elapsed() > Duration::from_secs(300) {
                return Err(Error::new("wait for the traffic", "it stands still"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

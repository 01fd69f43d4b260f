//! Zipf traffic with one key that everybody wants, and what four remedies do about it.

use redis::Value;

use crate::{Client, ClientOptions, Detours, Meter, Metered, Request, SlotMap, SplitCounter, SplitKey, slot_of};
use lab::chart::{Bars, Chart};
use lab::service::RedisCluster;
use lab::{Error, OrFail, Progress, Result, Rng, Samples, Table, Weighted, joined};

use super::with_replicas;

/// What is done about the hottest key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing.
    OneKey,
    /// It is split into `key:0`, `key:1`, …, wherever these land.
    Suffixes(usize),
    /// It is split into parts that are chosen to land on all masters alike.
    Parts(usize),
    /// Every client keeps what it has read until the server says that it has changed.
    Cache,
    /// Every other read goes to a replica.
    Replicas,
}

impl Remedy {
    /// As a chart calls it.
    pub fn name(self) -> String {
        match self {
            Self::OneKey => "one key".into(),
            Self::Suffixes(parts) => format!("key:0…{}", parts.saturating_sub(1)),
            Self::Parts(parts) => format!("{parts} parts"),
            Self::Cache => "client cache".into(),
            Self::Replicas => "replicas".into(),
        }
    }
}

/// The traffic.
#[derive(Debug, Clone, Copy)]
pub struct HotSpec {
    /// Keys that anybody wants: `product:0` is the hottest.
    pub keys: usize,
    /// The exponent of the zipf distribution: the key of rank r is wanted 1/r^skew as often as the first.
    pub skew: f64,
    /// Requests of all clients in each round of each arm.
    pub requests: usize,
    /// Rounds, in which all arms take turns.
    pub rounds: usize,
    /// Clients, each a thread with connections of its own.
    pub clients: usize,
    /// Requests that a client sends at once, as a server does that handles many users at a time.
    pub batch: usize,
}

const COUNTED: [&str; 2] = ["get", "incrby"];
const HOT: &str = "product:0";

/// What each node did under each remedy and each mix of reads and writes.
#[derive(Debug, Clone)]
pub struct HotKey {
    spec: HotSpec,
    map: SlotMap,
    arms: Vec<Arm>,
}

#[derive(Debug, Clone)]
struct Arm {
    remedy: Remedy,
    /// Per cent of the requests that read.
    reads: u64,
    rounds: Vec<Metered>,
    /// Calls that each master should have counted, if the keys' slots decide it.
    planned: Vec<u64>,
    acknowledged: u64,
    summed: u64,
    detours: Detours,
}

impl HotSpec {
    /// Runs every remedy under every mix (per cent of reads), in turns, with the same requests.
    pub fn run(&self, cluster: &RedisCluster, remedies: &[Remedy], mixes: &[u64], seed: u64) -> HotKey {
        self.try_run(cluster, remedies, mixes, seed).or_fail()
    }

    /// As [`run`](Self::run).
    pub fn try_run(&self, cluster: &RedisCluster, remedies: &[Remedy], mixes: &[u64], seed: u64) -> Result<HotKey> {
        if self.keys == 0 || self.clients == 0 || self.rounds == 0 || self.batch == 0 || !self.skew.is_finite() {
            return Err(Error::new(
                "run the hot key's traffic",
                "it needs keys, clients, rounds, batches and a finite skew",
            ));
        }
        let options = ClientOptions::of(cluster);
        let mut first = with_replicas(&options)?;
        let mut meter = Meter::on(&options)?;
        let map = first.map().clone();
        let zipf = Weighted::zipf(self.keys, self.skew)?;
        let mut arms: Vec<(Arm, Crew)> = Vec::new();
        for &reads in mixes {
            for &remedy in remedies {
                arms.push((
                    Arm::new(remedy, reads, &map),
                    Crew::new(remedy, reads, &options, self.clients, &mut first)?,
                ));
            }
        }
        let mut progress = Progress::new("hot key's traffic", (self.rounds * arms.len()) as u64);
        // The first round opens connections and fills caches, and does not count.
        for round in 0..=self.rounds {
            for (arm, crew) in &mut arms {
                let seed = seed.wrapping_add((round * 1_000) as u64 + arm.reads);
                let (done, metered) = meter.measure(|| crew.work(self, &zipf, arm.reads, seed))?;
                let done = done?;
                arm.acknowledged += done.acknowledged;
                if round > 0 {
                    arm.rounds.push(metered);
                    for (planned, done) in arm.planned.iter_mut().zip(done.planned(&map)) {
                        *planned += done;
                    }
                    progress.step();
                }
            }
        }
        let mut judged = Vec::new();
        for (mut arm, crew) in arms {
            arm.summed = crew.counter.read(&mut first)?;
            arm.detours = crew.detours();
            judged.push(arm);
        }
        Ok(HotKey { spec: *self, map, arms: judged })
    }

    fn weights(&self) -> Vec<f64> {
        Weighted::zipf(self.keys, self.skew).map(|zipf| zipf.shares()).unwrap_or_default()
    }

    /// The share of all requests that want the hottest key, in per cent.
    pub fn hottest(&self) -> f64 {
        100.0 * self.weights().first().copied().unwrap_or(f64::NAN)
    }

    /// What theory says that each master gets of 100 requests under a remedy; nothing for a cache, whose hits depend on who
    /// writes when.
    pub fn predict(&self, remedy: Remedy, reads: u64, map: &SlotMap) -> Option<Vec<f64>> {
        let weights = self.weights();
        let masters = map.masters();
        let hot = weights.first().copied().unwrap_or(0.0);
        let at = |name: &str| masters.iter().position(|master| map.owner(slot_of(name)) == Some(*master));
        let mut load = vec![0.0; masters.len()];
        for (rank, weight) in weights.iter().enumerate().skip(1) {
            if let Some(place) = at(&product(rank)) {
                load[place] += weight;
            }
        }
        let (read, write) = (reads as f64 / 100.0, 1.0 - reads as f64 / 100.0);
        let split = match remedy {
            Remedy::OneKey | Remedy::Replicas => vec![at(HOT)?],
            Remedy::Suffixes(parts) => {
                let split = SplitKey::naive(HOT, parts).ok()?;
                split.parts().iter().map(|part| at(part)).collect::<Option<Vec<_>>>()?
            }
            Remedy::Parts(parts) => {
                let split = SplitKey::over(HOT, parts, map).ok()?;
                split.parts().iter().map(|part| at(part)).collect::<Option<Vec<_>>>()?
            }
            Remedy::Cache => return None,
        };
        for &place in &split {
            // A write goes to one part, a read to all of them.
            load[place] += hot * (write / split.len() as f64 + read);
        }
        if remedy == Remedy::Replicas {
            load.iter_mut().for_each(|load| *load *= write + read / 2.0);
        }
        Some(load.into_iter().map(|load| 100.0 * load).collect())
    }
}

fn product(rank: usize) -> String {
    format!("product:{rank}")
}

/// The clients of one arm, and its hot counter.
struct Crew {
    remedy: Remedy,
    clients: Vec<Client>,
    counter: SplitCounter,
}

/// What the clients of one arm did in one round.
#[derive(Default)]
struct Done {
    /// Increments of the hot key that were acknowledged.
    acknowledged: u64,
    /// How often each slot was asked, where the key's name alone decides it.
    asked: Vec<(u16, u64)>,
}

impl Done {
    fn planned(&self, map: &SlotMap) -> Vec<u64> {
        let of =
            |master: &str| self.asked.iter().filter(|(slot, _)| map.owner(*slot) == Some(master)).map(|(_, n)| n).sum();
        map.masters().into_iter().map(of).collect()
    }
}

impl Crew {
    fn new(remedy: Remedy, reads: u64, options: &ClientOptions, clients: usize, first: &mut Client) -> Result<Self> {
        // Every arm counts on keys of its own, in the slots of those that it is about.
        let own = |part: &String| format!("{{{part}}}, {reads} % reads, {}", remedy.name());
        let key = match remedy {
            Remedy::Suffixes(parts) => SplitKey::of(SplitKey::naive(HOT, parts)?.parts().iter().map(own))?,
            Remedy::Parts(parts) => SplitKey::agreed(&format!("{HOT}/{reads}/{parts}"), parts, first)?,
            _ => SplitKey::of([own(&HOT.to_owned())])?,
        };
        let options = match remedy {
            Remedy::Cache => options.clone().caching(std::time::Duration::from_secs(1)),
            _ => options.clone(),
        };
        let clients = (0..clients).map(|_| options.connect()).collect::<Result<Vec<_>>>()?;
        Ok(Self { remedy, clients, counter: SplitCounter::on(key) })
    }

    fn detours(&self) -> Detours {
        let mut all = Detours::default();
        self.clients.iter().for_each(|client| all += client.detours());
        all
    }

    fn work(&mut self, spec: &HotSpec, zipf: &Weighted, reads: u64, seed: u64) -> Result<Done> {
        let (remedy, counter) = (self.remedy, &self.counter);
        let (share, batch) = (spec.requests / self.clients.len(), spec.batch);
        let done = std::thread::scope(|scope| {
            let workers: Vec<_> = self
                .clients
                .iter_mut()
                .enumerate()
                .map(|(number, client)| {
                    let rng = Rng::seeded(seed, &format!("client {number}"));
                    scope.spawn(move || work(client, remedy, counter, zipf, reads, (share, batch), rng))
                })
                .collect();
            workers.into_iter().map(|worker| joined("drive the hot key", worker.join())).collect::<Result<Vec<_>>>()
        })?;
        Ok(done.into_iter().fold(Done::default(), |mut all, done| {
            all.acknowledged += done.acknowledged;
            all.asked.extend(done.asked);
            all
        }))
    }
}

/// One client's requests of one round.
fn work(
    client: &mut Client,
    remedy: Remedy,
    counter: &SplitCounter,
    zipf: &Weighted,
    reads: u64,
    (requests, batch): (usize, usize),
    mut rng: Rng,
) -> Result<Done> {
    let mut done = Done::default();
    // What a remedy draws must not change which requests come next.
    let mut choices = rng.clone();
    let mut left = requests;
    while left > 0 {
        let mut asked: Vec<Request> = Vec::new();
        let mut hot_writes: Vec<usize> = Vec::new();
        for _ in 0..left.min(batch) {
            let (rank, reading) = (zipf.draw(&mut rng), rng.below(100) < reads);
            let read = |key: &str, choices: &mut Rng| match remedy {
                Remedy::Cache => Request::cached(key),
                Remedy::Replicas if choices.below(2) == 0 => Request::read(["GET", key]).from_replica(),
                _ => Request::read(["GET", key]),
            };
            match (rank, reading) {
                (0, true) => asked.extend(counter.parts().iter().map(|part| read(part, &mut choices))),
                (0, false) => {
                    hot_writes.push(asked.len());
                    asked.push(counter.add(1, &mut choices));
                }
                (rank, true) => asked.push(read(&product(rank), &mut choices)),
                (rank, false) => asked.push(Request::write(["INCRBY", &product(rank), "1"])),
            }
        }
        done.asked.extend(asked.iter().map(|request| (slot_of(request.key()), 1)));
        let answers = client.call_many(&asked);
        for index in hot_writes {
            done.acknowledged += u64::from(matches!(answers[index], Ok(Value::Int(_))));
        }
        for answer in answers {
            answer?;
        }
        left -= left.min(batch);
    }
    Ok(done)
}

impl Arm {
    fn new(remedy: Remedy, reads: u64, map: &SlotMap) -> Self {
        let planned = vec![0; map.masters().len()];
        let (rounds, detours) = (Vec::new(), Detours::default());
        Self { remedy, reads, rounds, planned, acknowledged: 0, summed: 0, detours }
    }

    /// Of every round, one number.
    fn each(&self, number: impl Fn(&Metered) -> f64) -> Samples {
        self.rounds.iter().map(number).collect()
    }
}

impl HotKey {
    fn arm(&self, remedy: Remedy, reads: u64) -> &Arm {
        let found = self.arms.iter().find(|arm| arm.remedy == remedy && arm.reads == reads);
        let missing =
            || Error::new("find an arm of the experiment", format!("{remedy:?} with {reads} % reads was not run"));
        found.ok_or_else(missing).or_fail()
    }

    /// Each master's share of all operations, in per cent: a sample a round.
    pub fn operations(&self, remedy: Remedy, reads: u64) -> Vec<Samples> {
        self.shares(remedy, reads, |metered| metered.calls(&COUNTED).iter().map(|&calls| calls as f64).collect())
    }

    /// Each master's share of the CPU time, in per cent: a sample a round.
    pub fn cpu(&self, remedy: Remedy, reads: u64) -> Vec<Samples> {
        self.shares(remedy, reads, Metered::cpu)
    }

    fn shares(&self, remedy: Remedy, reads: u64, of: impl Fn(&Metered) -> Vec<f64>) -> Vec<Samples> {
        let arm = self.arm(remedy, reads);
        let share = |node: usize| {
            arm.each(|metered| {
                let all = of(metered);
                100.0 * all.get(node).copied().unwrap_or(f64::NAN) / all.iter().sum::<f64>()
            })
        };
        (0..self.map.masters().len()).map(share).collect()
    }

    /// The share of the CPU time of the master that needs most of it, in per cent: a sample a round.
    pub fn busiest_cpu(&self, remedy: Remedy, reads: u64) -> Samples {
        let all = self.cpu(remedy, reads);
        let busiest = all.iter().max_by(|a, b| a.mean().total_cmp(&b.mean()));
        busiest.cloned().unwrap_or_default()
    }

    /// What the busiest node, master or replica, has to execute for 100 requests of the clients: a sample a round.
    pub fn busiest(&self, remedy: Remedy, reads: u64) -> Samples {
        self.arm(remedy, reads).each(|metered| {
            let most = metered.nodes.iter().map(|node| node.called(&COUNTED)).max().unwrap_or(0);
            100.0 * most as f64 / self.spec.requests as f64
        })
    }

    /// That, against what it is with one key and no remedy: a sample a round.
    pub fn against_one_key(&self, remedy: Remedy, reads: u64) -> Samples {
        let (with, without) = (self.busiest(remedy, reads), self.busiest(Remedy::OneKey, reads));
        with.values().iter().zip(without.values()).map(|(with, without)| with / without).collect()
    }

    /// The busiest master's share of the CPU time, against what it is with one key and no remedy: a sample a round.
    pub fn cpu_against_one_key(&self, remedy: Remedy, reads: u64) -> Samples {
        let (with, without) = (self.busiest_cpu(remedy, reads), self.busiest_cpu(Remedy::OneKey, reads));
        with.values().iter().zip(without.values()).map(|(with, without)| with / without).collect()
    }

    /// What all masters and replicas have to execute for 100 requests, what replicas replay left out: a sample a round.
    pub fn executed(&self, remedy: Remedy, reads: u64) -> Samples {
        self.arm(remedy, reads).each(|metered| {
            let calls = |node: &crate::NodeWork| match node.master {
                true => node.called(&COUNTED),
                false => node.called(&["get"]),
            };
            100.0 * metered.nodes.iter().map(calls).sum::<u64>() as f64 / self.spec.requests as f64
        })
    }

    /// Operations that a master counted and that its keys' slots did not foretell, or the other way round.
    pub fn unforeseen(&self, remedy: Remedy, reads: u64) -> u64 {
        let arm = self.arm(remedy, reads);
        let counted = |node: usize| arm.rounds.iter().map(|metered| metered.calls(&COUNTED)[node]).sum::<u64>();
        arm.planned.iter().enumerate().map(|(node, planned)| planned.abs_diff(counted(node))).sum()
    }

    /// Acknowledged increments of the hot key that its parts do not sum up to, over all arms.
    pub fn miscounted(&self) -> u64 {
        self.arms.iter().map(|arm| arm.acknowledged.abs_diff(arm.summed)).sum()
    }

    /// Acknowledged increments of the hot key, over all arms.
    pub fn acknowledged(&self) -> u64 {
        self.arms.iter().map(|arm| arm.acknowledged).sum()
    }

    /// Of 100 cacheable reads, how many no server saw.
    pub fn hit_rate(&self, reads: u64) -> f64 {
        let detours = self.arm(Remedy::Cache, reads).detours;
        100.0 * detours.hits as f64 / (detours.hits + detours.misses) as f64
    }

    /// Each master's share of the commands, with what was predicted, and of the CPU time, without a remedy.
    pub fn shares_chart(&self, title: &str, reads: u64) -> Bars {
        let predicted = self.spec.predict(Remedy::OneKey, reads, &self.map).unwrap_or_default();
        let mut chart = Chart::bars(title).y("share", "%").group("commands");
        for (node, share) in self.operations(Remedy::OneKey, reads).iter().enumerate() {
            let name = format!("node {}", node + 1);
            chart =
                chart.bar_with_spread(&name, share).predicted(&name, predicted.get(node).copied().unwrap_or(f64::NAN));
        }
        chart = chart.group("CPU time");
        for (node, share) in self.cpu(Remedy::OneKey, reads).iter().enumerate() {
            chart = chart.bar_with_spread(format!("node {}", node + 1), share);
        }
        chart
    }

    /// What each remedy costs under one mix: commands of all nodes, and the busiest master's CPU time.
    pub fn table(&self, title: &str, reads: u64) -> Table {
        let remedies: Vec<Remedy> = self.arms.iter().filter(|arm| arm.reads == reads).map(|arm| arm.remedy).collect();
        let all =
            |of: &dyn Fn(Remedy) -> Samples| remedies.iter().map(|&remedy| of(remedy).median()).collect::<Vec<_>>();
        Table::new(title)
            .text("remedy", remedies.iter().map(|remedy| remedy.name()))
            .numbers("commands on all nodes", "", all(&|remedy| self.executed(remedy, reads)))
            .numbers("on the busiest", "", all(&|remedy| self.busiest(remedy, reads)))
            .numbers("busiest master's share of CPU", "%", all(&|remedy| self.busiest_cpu(remedy, reads)))
    }

    /// The busiest node under each remedy, a group for each mix, with what was predicted.
    pub fn chart(&self, title: &str) -> Bars {
        let mut chart = Chart::bars(title).y("busiest node, commands for 100 requests", "");
        let mut mixes: Vec<u64> = self.arms.iter().map(|arm| arm.reads).collect();
        mixes.dedup();
        for reads in mixes {
            chart = chart.group(format!("{reads} % reads"));
            for arm in self.arms.iter().filter(|arm| arm.reads == reads) {
                chart = chart.bar_with_spread(arm.remedy.name(), self.busiest(arm.remedy, reads));
                if let Some(load) = self.spec.predict(arm.remedy, reads, &self.map) {
                    chart = chart.predicted(arm.remedy.name(), load.into_iter().fold(0.0, f64::max));
                }
            }
        }
        chart
    }
}

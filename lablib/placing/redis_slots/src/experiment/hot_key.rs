//! Zipf traffic with one key that everybody wants, and what four remedies do about it.

use std::fmt;
use std::time::Duration;

use redis::Value;

use super::{sum, with_replicas};
use crate::{Client, ClientOptions, Meter, Request, SlotMap, SplitKey, slot_of};
use lab::service::RedisCluster;
use lab::{Crowd, Error, Figures, Frame, Result, Rng, Trial, Weighted};

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

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneKey => f.write_str("one key"),
            Self::Suffixes(parts) => write!(f, "key:0…{}", parts.saturating_sub(1)),
            Self::Parts(parts) => write!(f, "{parts} parts"),
            Self::Cache => f.write_str("client cache"),
            Self::Replicas => f.write_str("replicas"),
        }
    }
}

/// A remedy, and per cent of the requests that read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arm(pub Remedy, pub u64);

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} % reads", self.0, self.1)
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

const HOT: &str = "product:0";

impl HotSpec {
    /// Runs all arms in turns, with the same requests in every turn of a round. Their figures, for 100 requests: `commands` of all
    /// nodes, what replicas replay left out, and those `on the busiest` node, master or replica; each master's share of the
    /// masters' commands (`node 1: commands`) and CPU time (`node 1: CPU`), and the largest `share of CPU`. Increments of the hot
    /// key that were `acknowledged`, and those so far that its parts do not sum up to (`miscounted`). Operations that a master
    /// counted and that its keys' slots did not foretell, or the other way round (`unforeseen`), where slots decide it. Of 100
    /// cacheable reads, how many no server saw (`hits`), where there is a cache.
    pub fn run(&self, cluster: &RedisCluster, arms: impl IntoIterator<Item = Arm>, seed: u64) -> Result<Trial<Arm>> {
        if self.clients == 0 || self.batch == 0 {
            return Err(Error::new("run the hot key's traffic", "it needs clients and batches"));
        }
        let zipf = Weighted::zipf(self.keys, self.skew)?;
        let options = ClientOptions::of(cluster);
        let mut first = with_replicas(&options)?;
        let (map, mut meter) = (first.map().clone(), Meter::on(&options, &["get", "incrby"])?);
        Trial::over(arms, self.rounds)
            .titled("hot key's traffic")
            .column("remedy", |arm| arm.0.to_string())
            .column("reads", |arm| arm.1)
            .open(|arm| Crew::new(*arm, &options, self.clients, &mut first))
            .run(|arm, crew, figures| {
                let seed = seed.wrapping_add(figures.round() as u64 * 1_000 + arm.1);
                let (done, nodes) = meter.measure(|| crew.work(self, &zipf, seed))?;
                let ((calls, slots), masters) = (done?, nodes.filter("role", "master"));
                self.load(&nodes, &masters, figures);
                let acknowledged = sum(&calls, "acknowledged");
                crew.acknowledged += acknowledged as u64;
                figures.push("acknowledged", "", acknowledged);
                figures.push("miscounted", "", crew.key.read(&mut crew.clients[0])?.abs_diff(crew.acknowledged) as f64);
                if arm.0 == Remedy::Cache {
                    figures.push("hits", "%", 100.0 * sum(&calls, "hits") / sum(&calls, "cacheable"));
                } else if arm.0 != Remedy::Replicas {
                    let planned = |owner: &&str| slots.iter().filter(|slot| map.owner(**slot) == Some(*owner)).count();
                    let planned: Vec<usize> = map.masters().iter().map(planned).collect();
                    let counted = masters.samples("commands");
                    let off = planned.iter().zip(counted.values()).map(|(planned, n)| (*planned as f64 - n).abs());
                    figures.push("unforeseen", "", off.sum());
                }
                Ok(())
            })
    }

    fn load(&self, nodes: &Frame, masters: &Frame, figures: &mut Figures) {
        let (of_100, unit) = (|calls: f64| 100.0 * calls / self.requests as f64, "per 100 requests");
        let read_at_replicas = sum(&nodes.filter("role", "replica"), "get");
        figures.push("commands", unit, of_100(sum(masters, "commands") + read_at_replicas));
        figures.push("on the busiest", unit, of_100(nodes.samples("commands").max()));
        for column in ["commands", "CPU"] {
            for master in masters.rows() {
                let share = 100.0 * master.number(column) / sum(masters, column);
                figures.push(&format!("{}: {column}", master.text("node")), "%", share);
            }
        }
        figures.push("share of CPU", "%", 100.0 * masters.samples("CPU").max() / sum(masters, "CPU"));
    }

    /// What theory says that each master gets of 100 requests; nothing for a cache, whose hits depend on who writes when.
    pub fn predict(&self, Arm(remedy, reads): Arm, map: &SlotMap) -> Result<Vec<f64>> {
        let weights = Weighted::zipf(self.keys, self.skew)?.shares();
        let (read, write) = (reads as f64 / 100.0, 1.0 - reads as f64 / 100.0);
        let split = match remedy {
            Remedy::OneKey | Remedy::Replicas => SplitKey::of([HOT.to_owned()])?,
            Remedy::Suffixes(parts) => SplitKey::naive(HOT, parts)?,
            Remedy::Parts(parts) => SplitKey::over(HOT, parts, map)?,
            Remedy::Cache => return Ok(Vec::new()),
        };
        // A write goes to one part, a read to all of them.
        let of_a_part = weights[0] * (write / split.parts().len() as f64 + read);
        let parts = split.parts().iter().map(|part| (slot_of(part), of_a_part));
        let others = weights.iter().enumerate().skip(1).map(|(rank, weight)| (slot_of(product(rank)), *weight));
        let loads: Vec<(u16, f64)> = parts.chain(others).collect();
        let on_masters = if remedy == Remedy::Replicas { write + read / 2.0 } else { 1.0 };
        let load = |master: &str| {
            let held = loads.iter().filter(|(slot, _)| map.owner(*slot) == Some(master));
            100.0 * on_masters * held.map(|(_, load)| load).sum::<f64>()
        };
        Ok(map.masters().into_iter().map(load).collect())
    }
}

fn product(rank: usize) -> String {
    format!("product:{rank}")
}

/// The clients of one arm, and its hot counter.
struct Crew {
    arm: Arm,
    clients: Vec<Client>,
    key: SplitKey,
    /// Increments of it so far that were acknowledged.
    acknowledged: u64,
}

impl Crew {
    fn new(arm: Arm, options: &ClientOptions, clients: usize, first: &mut Client) -> Result<Self> {
        // Every arm counts on keys of its own, in the slots of those that it is about.
        let own = |part: &String| format!("{{{part}}}, {arm}");
        let key = match arm.0 {
            Remedy::Suffixes(parts) => SplitKey::of(SplitKey::naive(HOT, parts)?.parts().iter().map(own))?,
            Remedy::Parts(parts) => SplitKey::agreed(&format!("{HOT}/{}/{parts}", arm.1), parts, first)?,
            _ => SplitKey::of([own(&HOT.to_owned())])?,
        };
        let options = match arm.0 {
            Remedy::Cache => options.clone().caching(Duration::from_secs(1)),
            _ => options.clone(),
        };
        let clients = (0..clients).map(|_| options.connect()).collect::<Result<Vec<_>>>()?;
        Ok(Self { arm, clients, key, acknowledged: 0 })
    }

    /// What each call did, and the slot of each request.
    fn work(&mut self, spec: &HotSpec, zipf: &Weighted, seed: u64) -> Result<(Frame, Vec<u16>)> {
        let (Arm(remedy, reads), key, share) = (self.arm, &self.key, spec.requests / self.clients.len());
        let workers = self.clients.iter_mut().enumerate().map(|(number, client)| {
            let rng = Rng::seeded(seed, &format!("client {number}"));
            // What a remedy draws must not change which requests come next.
            (client, rng.clone(), rng, Vec::new())
        });
        let ran = Crowd::holding(workers).times(share.div_ceil(spec.batch) as u64).run(
            |(client, rng, choices, slots): &mut (&mut Client, Rng, Rng, Vec<u16>), call| {
                let (mut asked, mut hot_writes): (Vec<Request>, Vec<usize>) = Default::default();
                for _ in 0..spec.batch.min(share - call.number() as usize * spec.batch) {
                    let (rank, reading) = (zipf.draw(rng), rng.below(100) < reads);
                    let mut read = |key: &str| match remedy {
                        Remedy::Cache => Request::cached(key),
                        Remedy::Replicas if choices.below(2) == 0 => Request::read(["GET", key]).from_replica(),
                        _ => Request::read(["GET", key]),
                    };
                    match (rank, reading) {
                        (0, true) => asked.extend(key.parts().iter().map(|part| read(part))),
                        (0, false) => {
                            hot_writes.push(asked.len());
                            asked.push(key.add(1, choices));
                        }
                        (rank, true) => asked.push(read(&product(rank))),
                        (rank, false) => asked.push(Request::write(["INCRBY", &product(rank), "1"])),
                    }
                }
                slots.extend(asked.iter().map(|request| slot_of(request.key())));
                let before = client.detours();
                let answers = client.call_many(&asked);
                let after = client.detours();
                let done = hot_writes.into_iter().filter(|index| matches!(answers[*index], Ok(Value::Int(_)))).count();
                call.note("acknowledged", "", done as f64);
                call.note("hits", "", (after.hits - before.hits) as f64);
                call.note("cacheable", "", (after.hits + after.misses - before.hits - before.misses) as f64);
                answers.into_iter().try_for_each(|answer| Ok(answer.map(drop)?))
            },
        )?;
        Ok((ran.frame, ran.states.into_iter().flat_map(|(.., slots)| slots).collect()))
    }
}

//! What the design costs: the fence on every operation, and the commits of a move by its size.

use std::time::Instant;

use super::{instances, users};
use crate::lab::chart::{Chart, Latencies, Panels};
use crate::lab::service::{Counters, MariaDb};
use crate::lab::{Error, Latency, OrFail, Progress, Result, Samples};
use crate::placing::sharding::{Client, Cluster, Mover, MoverSpec, Skip, Slot};

/// How long reads and writes take with a fence, and without one as in the prototype: the same rows on the same instances.
#[derive(Debug, Clone, Default)]
pub struct FenceCost {
    reads: [Latency; 2],
    writes: [Latency; 2],
    read_ratios: Samples,
}

const ROUNDS: u64 = 10;

/// Measures both in turns: `count` reads and half as many writes each.
pub fn fence_cost(cluster: &Cluster, users: u64, count: u64) -> FenceCost {
    let run = || -> Result<FenceCost> {
        if users == 0 {
            return Err(Error::new("measure the fence", "there are no users"));
        }
        let mut clients = [Client::new(cluster)?, Client::new(cluster)?.without(Some(Skip::Fence))];
        let mut cost = FenceCost::default();
        let each = count.div_ceil(ROUNDS);
        // The first round makes connections and prepares statements; it does not count.
        for round in 0..=ROUNDS {
            let mut medians = Vec::new();
            for (arm, client) in clients.iter_mut().enumerate() {
                let (mut reads, mut writes) = (Latency::new(), Latency::new());
                for n in 0..each {
                    let id = (round * each + n) * 7_919 % users;
                    let began = Instant::now();
                    client.get(id)?;
                    reads.record(began.elapsed());
                    if n % 2 == 0 {
                        let began = Instant::now();
                        client.put(id, "priced", n as i64)?;
                        writes.record(began.elapsed());
                    }
                }
                if round > 0 {
                    medians.push(reads.p50().as_secs_f64());
                    cost.reads[arm].merge(&reads);
                    cost.writes[arm].merge(&writes);
                }
            }
            if let [fenced, bare] = medians[..] {
                cost.read_ratios.push(fenced / bare);
            }
        }
        Ok(cost)
    };
    run().or_fail()
}

impl FenceCost {
    /// How many times as long a read takes with the fence, one sample a round.
    pub fn read_ratios(&self) -> Samples {
        self.read_ratios.clone()
    }

    /// All four distributions.
    pub fn chart(&self, title: &str) -> Latencies {
        Chart::latencies(title)
            .latency("read, no fence", &self.reads[1])
            .latency("read, fenced", &self.reads[0])
            .latency("write, no fence", &self.writes[1])
            .latency("write, fenced", &self.writes[0])
    }
}

/// Two charts beside each other: commits for each slot, and how long writers were held, by the size of a move.
pub fn batch_chart(costs: &[BatchCost], title: &str) -> Panels {
    let commits = Chart::lines("More slots at a time: fewer commits …")
        .x("slots in a move", "")
        .log_x()
        .y("commits for each slot moved", "")
        .log_y()
        .line("measured", costs.iter().map(|cost| (cost.batch as f64, cost.commits_per_slot)))
        .size(440, 360);
    let times: Vec<(f64, Samples)> =
        costs.iter().map(|cost| (cost.batch as f64, cost.writers_held.map(|seconds| seconds * 1e3))).collect();
    let held = Chart::lines("… and writers held longer")
        .x("slots in a move", "")
        .log_x()
        .y("writers held", "ms")
        .from_zero()
        .line_with_spread("each move", times.iter().map(|(batch, times)| (*batch, times)))
        .size(440, 360);
    Chart::side_by_side(&[&commits, &held]).titled(title)
}

/// What moving slots costs when so many move at a time.
#[derive(Debug, Clone)]
pub struct BatchCost {
    /// Slots of one move.
    pub batch: usize,
    /// Commits of all instances for each slot moved.
    pub commits_per_slot: f64,
    /// Seconds in which the writers of a slot were held, one sample a move.
    pub writers_held: Samples,
    /// Seconds for each slot moved, all in all.
    pub seconds_per_slot: f64,
}

/// Grows from two instances to four and shrinks again, for each size of a move, without clients.
pub fn batch_costs(servers: &[MariaDb], slots: Slot, rows: u64, batches: &[usize], seed: u64) -> Vec<BatchCost> {
    let mut progress = Progress::new("moving slots to and fro", batches.len() as u64);
    let mut run = || -> Result<Vec<BatchCost>> {
        let cluster = Cluster::create(servers, 2, slots)?;
        cluster.load(&users(rows, seed))?;
        let (few, many) = (instances(2), instances(servers.len()));
        let mut costs = Vec::new();
        for &batch in batches {
            let mut mover = Mover::new(&cluster, MoverSpec { batch, ..MoverSpec::default() })?;
            let (before, began) = (commits(servers)?, Instant::now());
            let mut moves = mover.reshard(&many)?;
            moves.extend(mover.reshard(&few)?);
            let moved = moves.iter().map(|moved| moved.slots).sum::<u64>() as f64;
            costs.push(BatchCost {
                batch,
                commits_per_slot: (commits(servers)? - before) as f64 / moved,
                seconds_per_slot: began.elapsed().as_secs_f64() / moved,
                writers_held: moves.iter().map(|moved| moved.writers_held).collect(),
            });
            progress.step();
        }
        Ok(costs)
    };
    run().or_fail()
}

/// Commits that these servers wrote to their binary logs so far: each of them waited for the disk.
fn commits(servers: &[MariaDb]) -> Result<u64> {
    servers.iter().map(|server| Ok(Counters::of_server(server)?.get("Binlog_commits")? as u64)).sum()
}

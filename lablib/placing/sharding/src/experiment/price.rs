//! What the design costs: the fence on every operation, and the commits of a move by its size.

use std::time::Instant;

use mysql::Conn;

use super::{instances, users};
use crate::{Client, Cluster, Mover, MoverSpec, Skip, Slot};
use lab::chart::{Chart, Latencies, Panels};
use lab::service::{Counters, MariaDb};
use lab::{Error, Latency, OrFail, Progress, Result, Samples, Table};

/// What reads and writes cost with a fence, and without one as in the prototype: the same rows on the same instances.
#[derive(Debug, Clone, Default)]
pub struct FenceCost {
    bare: Priced,
    fenced: Priced,
    read_ratios: Samples,
}

/// One arm: how long its operations took, and how many statements the servers counted for each, one sample a round.
#[derive(Debug, Clone, Default)]
struct Priced {
    reads: Latency,
    writes: Latency,
    statements_a_read: Samples,
    statements_a_write: Samples,
}

/// An even number, so that each arm is the first as often as the other: the second one finds the pages in memory.
const ROUNDS: u64 = 10;

/// Measures both in turns, `count` reads and half as many writes each, and whoever was first in one round is second in the next.
pub fn fence_cost(cluster: &Cluster, users: u64, count: u64) -> FenceCost {
    let run = || -> Result<FenceCost> {
        if users == 0 {
            return Err(Error::new("measure the fence", "there are no users"));
        }
        let mut servers =
            cluster.names().into_iter().map(|name| cluster.connect(name)).collect::<Result<Vec<Conn>>>()?;
        let mut clients = [Client::new(cluster)?.without(Some(Skip::Fence)), Client::new(cluster)?];
        let mut cost = FenceCost::default();
        let each = count.div_ceil(ROUNDS);
        // The first round makes connections and prepares statements; it does not count.
        for round in 0..=ROUNDS {
            let ids: Vec<u64> = (round * each..(round + 1) * each).map(|n| n * 7_919 % users).collect();
            let mut medians = [0.0; 2];
            for arm in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                let priced = price(&mut clients[arm], &ids, &mut servers)?;
                medians[arm] = priced.reads.p50().as_secs_f64();
                if round > 0 {
                    [&mut cost.bare, &mut cost.fenced][arm].add(priced);
                }
            }
            if round > 0 {
                cost.read_ratios.push(medians[1] / medians[0]);
            }
        }
        Ok(cost)
    };
    run().or_fail()
}

/// Reads all of these users, and writes every other one.
fn price(client: &mut Client, ids: &[u64], servers: &mut [Conn]) -> Result<Priced> {
    let mut priced = Priced::default();
    let before = statements(servers)?;
    for &id in ids {
        let began = Instant::now();
        client.get(id)?;
        priced.reads.record(began.elapsed());
    }
    let between = statements(servers)?;
    for (n, &id) in ids.iter().enumerate().step_by(2) {
        let began = Instant::now();
        client.put(id, "priced", n as i64)?;
        priced.writes.record(began.elapsed());
    }
    let after = statements(servers)?;
    // Each time, every server was asked, and counted that, too.
    let asked = servers.len() as f64;
    priced.statements_a_read.push((between - before - asked) / priced.reads.count() as f64);
    priced.statements_a_write.push((after - between - asked) / priced.writes.count() as f64);
    Ok(priced)
}

/// What all servers were asked so far, by their own counters; this question included.
fn statements(servers: &mut [Conn]) -> Result<f64> {
    servers.iter_mut().map(|server| Counters::one(server, "Questions")).sum()
}

impl Priced {
    fn add(&mut self, other: Self) {
        self.reads.merge(&other.reads);
        self.writes.merge(&other.writes);
        other.statements_a_read.values().iter().for_each(|&count| self.statements_a_read.push(count));
        other.statements_a_write.values().iter().for_each(|&count| self.statements_a_write.push(count));
    }
}

impl FenceCost {
    /// How many times as long a read takes with the fence, one sample a round.
    pub fn read_ratios(&self) -> Samples {
        self.read_ratios.clone()
    }

    /// Statements of a fenced read, as the servers counted them, one sample a round.
    pub fn statements_of_a_read(&self) -> Samples {
        self.fenced.statements_a_read.clone()
    }

    /// Statements that a fenced write takes beyond a bare one, one sample a round.
    pub fn more_statements_of_a_write(&self) -> Samples {
        let (fenced, bare) = (&self.fenced.statements_a_write, &self.bare.statements_a_write);
        fenced.values().iter().zip(bare.values()).map(|(fenced, bare)| fenced - bare).collect()
    }

    /// What the servers counted for each operation.
    pub fn table(&self, title: &str) -> Table {
        let arms = [&self.bare, &self.fenced];
        Table::new(title)
            .text("", ["without the fence", "fenced"])
            .numbers("of a read", "", arms.map(|arm| arm.statements_a_read.mean()))
            .numbers("of a write", "", arms.map(|arm| arm.statements_a_write.mean()))
    }

    /// All four distributions.
    pub fn chart(&self, title: &str) -> Latencies {
        Chart::latencies(title)
            .latency("read, no fence", &self.bare.reads)
            .latency("read, fenced", &self.fenced.reads)
            .latency("write, no fence", &self.bare.writes)
            .latency("write, fenced", &self.fenced.writes)
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

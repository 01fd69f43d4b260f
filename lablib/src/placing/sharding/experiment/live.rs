//! A live re-shard under reads and writes, and what the size of a move costs.

use std::time::Duration;

use super::traffic::{Ran, TrafficSpec};
use super::{instances, users};
use crate::lab::chart::{Chart, Latencies, Lines, Panels, Timeline};
use crate::lab::service::MariaDb;
use crate::lab::{OrFail, Progress, Result, Samples};
use crate::placing::sharding::{Cluster, Moved, Mover, MoverSpec, Slot};

/// A re-shard from two instances to all of a cluster's.
#[derive(Debug, Clone, Copy)]
pub struct LiveSpec {
    /// Users at the start.
    pub users: u64,
    /// Clients.
    pub clients: usize,
    /// Slots of one move.
    pub batch: usize,
    /// The seed.
    pub seed: u64,
}

/// What it came to.
#[derive(Debug)]
pub struct Live {
    /// What the clients did and saw.
    pub ran: Ran,
    /// What each move cost.
    pub moves: Vec<Moved>,
}

/// Moves half of the slots from two instances to two more while clients read, write, delete and list.
pub fn live(cluster: &Cluster, spec: LiveSpec) -> Live {
    let LiveSpec { users, clients, batch, seed } = spec;
    let margin = Duration::from_millis(600);
    let traffic = TrafficSpec { clients, users, shared: 24, skip: None, margin, seed };
    let run = || -> Result<Live> {
        let mut mover = Mover::new(cluster, MoverSpec { batch, ..MoverSpec::default() })?;
        let onto = instances(cluster.names().len());
        let (ran, moves) = traffic.around(cluster, || mover.reshard(&onto))?;
        Ok(Live { ran, moves })
    };
    run().or_fail()
}

impl Live {
    /// Slots moved.
    pub fn slots(&self) -> u64 {
        self.moves.iter().map(|moved| moved.slots).sum()
    }

    /// Rows copied.
    pub fn rows(&self) -> u64 {
        self.moves.iter().map(|moved| moved.rows).sum()
    }

    /// Changes that came in while rows were copied, and were applied before the hand-over or in it.
    pub fn changes(&self) -> (u64, u64) {
        let sum = |of: fn(&Moved) -> u64| self.moves.iter().map(of).sum();
        (sum(|moved| moved.caught_up), sum(|moved| moved.last_changes))
    }

    /// Seconds in which the writers of a slot were held, one sample a move.
    pub fn writers_held(&self) -> Samples {
        self.moves.iter().map(|moved| moved.writers_held).collect()
    }

    /// Seconds in which nobody served a slot, one sample a move.
    pub fn nobody(&self) -> Samples {
        self.moves.iter().map(|moved| moved.nobody).collect()
    }

    /// Operations a second of each instance over time.
    pub fn chart(&self, title: &str) -> Lines {
        let mut chart = Chart::lines(title).x("time", "s").y("operations a second", "").from_zero();
        for (name, rates) in self.ran.rates(0.2) {
            chart = chart.line(name, rates);
        }
        chart.mark_x("re-shard begins", self.ran.action.0).mark_x("ends", self.ran.action.1)
    }

    /// The steps of one move, the one whose writers were held for the median time, as they were measured.
    pub fn one_move(&self, title: &str) -> Timeline {
        let mut moves: Vec<&Moved> = self.moves.iter().collect();
        moves.sort_by(|a, b| a.writers_held.total_cmp(&b.writers_held));
        let Some(Moved { copy, catch_up, writers_held, nobody, clean, .. }) = moves.get(moves.len() / 2) else {
            return Chart::timeline(title);
        };
        let hold = copy + catch_up;
        let grant = hold + writers_held;
        let (release, end) = (grant - nobody, grant + clean);
        Chart::timeline(title)
            .x("time since the move began", "s")
            .span("mover", 0.0, *copy, "copies")
            .span("mover", *copy, hold, "catches up")
            .span("mover", hold, grant, "hands over")
            .span("mover", grant, end, "cleans")
            .span("writes at the old owner", 0.0, hold, "served")
            .wait("writes at the old owner", hold, grant, "held back")
            .span("reads at the old owner", 0.0, release, "served")
            .wait("reads at the old owner", release, grant, "nobody serves")
            .wait("rows at the new owner", 0.0, grant, "hidden")
            .span("rows at the new owner", grant, end, "served")
    }

    /// How long operations took, with and without a re-shard.
    pub fn latencies(&self, title: &str) -> Latencies {
        let mut chart = Chart::latencies(title);
        for (name, write, during) in [
            ("reads, before and after", false, false),
            ("reads, during", false, true),
            ("writes, before and after", true, false),
            ("writes, during", true, true),
        ] {
            chart = chart.latency(name, &self.ran.latency(write, during));
        }
        let refused = self.ran.latency_of_refused();
        if refused.count() > 0 { chart.latency("refused, then served", &refused) } else { chart }
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
            let (before, began) = (commits(servers)?, std::time::Instant::now());
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
    let ask = |server: &MariaDb| -> Result<u64> {
        let sql = "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'Binlog_commits'";
        Ok(server.try_ask(sql)?.parse().unwrap_or(0))
    };
    servers.iter().map(ask).sum()
}

//! A live re-shard under reads and writes.

use std::time::Duration;

use super::instances;
use super::traffic::{Ran, TrafficSpec};
use crate::{Cluster, Moved, Mover, MoverSpec};
use lab::chart::{Chart, Latencies, Lines, Timeline};
use lab::{Frame, OrFail, Result, Samples, Table};

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

impl LiveSpec {
    fn traffic(&self) -> TrafficSpec {
        let margin = Duration::from_millis(800);
        TrafficSpec { clients: self.clients, users: self.users, shared: 24, skip: None, margin, seed: self.seed }
    }

    /// The share of all operations that the busiest instance has to serve once the slots are shared out over all of them, in
    /// per cent: not the same for all, because the shared users are few.
    pub fn busiest_afterwards(&self, cluster: &Cluster) -> f64 {
        let planned = || -> Result<f64> {
            let map = cluster.map()?;
            let map = map.after(&map.plan(&instances(cluster.names().len()))?);
            Ok(self.traffic().shares_by(&map).into_values().fold(0.0, f64::max))
        };
        planned().or_fail()
    }
}

/// Moves half of the slots from two instances to two more while clients read, write, delete and list.
pub fn live(cluster: &Cluster, spec: LiveSpec) -> Live {
    let run = || -> Result<Live> {
        let mut mover = Mover::new(cluster, MoverSpec { batch: spec.batch, ..MoverSpec::default() })?;
        let onto = instances(cluster.names().len());
        let (ran, moves) = spec.traffic().around(cluster, || mover.reshard(&onto))?;
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

    /// Of the operations after the re-shard, the share of the busiest instance, in per cent.
    pub fn busiest_afterwards(&self) -> f64 {
        self.afterwards().group(["instance"]).shares().samples("share").max()
    }

    fn afterwards(&self) -> Frame {
        self.ran.operations.within("at", self.ran.action.1..f64::INFINITY)
    }

    /// By how much chance alone makes such a share differ from what it has to be, in points: one time in 100,000 by more. So
    /// many operations are so many draws.
    pub fn chance(&self, share: f64) -> f64 {
        4.4 * (share * (100.0 - share) / self.afterwards().height() as f64).sqrt()
    }

    /// Seconds in which the writers of a slot were held, one sample a move.
    pub fn writers_held(&self) -> Samples {
        self.moves.iter().map(|moved| moved.writers_held).collect()
    }

    /// Seconds in which nobody served a slot, one sample a move.
    pub fn nobody(&self) -> Samples {
        self.moves.iter().map(|moved| moved.nobody).collect()
    }

    /// What the clients did, and what the move did meanwhile.
    pub fn did(&self) -> Table {
        let (seen, (caught_up, last)) = (&self.ran.checked, self.changes());
        let rows = [
            ("reads answered", seen.reads),
            ("writes acknowledged", seen.writes),
            ("lists over all shards", seen.lists),
            ("… that had to ask again", seen.lists_again),
            ("refusals, each tried again", seen.refused),
            ("rows copied", self.rows()),
            ("changes applied behind the copy", caught_up),
            ("… while writers were held", last),
        ];
        Table::new("What the clients did, and the move meanwhile").text("", rows.iter().map(|(what, _)| *what)).counts(
            "count",
            "",
            rows.iter().map(|(_, count)| *count),
        )
    }

    /// What the checks found, and at how much they looked.
    pub fn found(&self) -> Table {
        let seen = &self.ran.checked;
        let operations = seen.reads + seen.writes;
        let rows = [
            ("operations failed", seen.failed, operations),
            ("reads of something else than the last write", seen.stale_reads, seen.reads),
            ("lists that were wrong", seen.wrong_lists, seen.lists),
            ("users whose last acknowledged write is not there", seen.lost, seen.rows),
            ("users written twice, or on two servers", seen.doubled, seen.rows),
            ("deleted users come back", seen.risen, seen.rows),
            ("slots with two owners, or none", seen.contested + seen.unserved, seen.slots),
            ("contradictions in who served what", seen.at_odds, operations),
            ("history without an explanation", seen.not_linearizable, seen.history),
        ];
        Table::new("What the checks found")
            .text("fault", rows.iter().map(|(fault, ..)| *fault))
            .counts("found", "", rows.iter().map(|(_, found, _)| *found))
            .counts("looked at", "", rows.iter().map(|(.., looked)| *looked))
    }

    /// Operations a second of each instance over time.
    pub fn chart(&self, title: &str) -> Lines {
        let chart = Chart::lines(title).x("time", "s").y("operations a second", "").from_zero();
        let chart =
            chart.of(&self.ran.operations.sort("instance").rates("at", 0.2, "instance"), "at", "rate", "instance");
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
        for kind in ["read", "write"] {
            for (when, during) in [("before and after", false), ("during", true)] {
                let these = self.ran.operations(during).filter("kind", kind);
                chart = chart.latency(format!("{kind}s, {when}"), &these.latency("took"));
            }
        }
        let refused = self.ran.operations.having("refused");
        if refused.is_empty() { chart } else { chart.latency("refused, then served", &refused.latency("took")) }
    }
}

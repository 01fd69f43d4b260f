//! What happens to ten thousand keys when shards come and go.

use std::collections::{BTreeMap, BTreeSet};

use crate::lab::{Progress, Rng, Samples};
use crate::placing::consistent_hashing::{Modulo, Placement, Ring};

/// The prototype's published figures, for the reference marks.
pub mod seed {
    /// Per cent of the keys that moved when 50 of 1,000 shards left.
    pub const LEFT: f64 = 4.95;
    /// Per cent of the keys that moved when 50 shards joined.
    pub const JOINED: f64 = 4.55;
    /// Per cent of the keys that moved under modulo, from 1,000 to 950 shards.
    pub const MODULO: f64 = 94.96;
}

/// `key-0`, `key-1`, …: the prototype's keys.
pub fn keys(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("key-{index}")).collect()
}

/// `shard-0`, `shard-1`, …: the prototype's shards.
pub fn shards(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("shard-{index}")).collect()
}

/// The placements under comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `hash(key) mod n`.
    Modulo,
    /// The ring, with so many virtual nodes for each shard.
    Ring(u32),
    /// The ring with one step broken: a shard's points are named after its place in the list, not after the shard.
    RingByPosition(u32),
}

impl Scheme {
    /// This placement over these nodes.
    pub fn place(self, nodes: &[String]) -> Box<dyn Placement> {
        match self {
            Self::Modulo => Box::new(Modulo::new(nodes)),
            Self::Ring(virtual_nodes) => Box::new(Ring::new(nodes, virtual_nodes)),
            Self::RingByPosition(virtual_nodes) => Box::new(RingByPosition::new(nodes, virtual_nodes)),
        }
    }
}

/// The faulty ring of [`Scheme::RingByPosition`].
struct RingByPosition {
    nodes: Vec<String>,
    ring: Ring,
}

impl RingByPosition {
    fn new(nodes: &[String], virtual_nodes: u32) -> Self {
        let mut broken = Self { nodes: nodes.to_vec(), ring: Ring::new([""; 0], virtual_nodes) };
        broken.rebuild();
        broken
    }

    fn rebuild(&mut self) {
        self.ring = Ring::new((0..self.nodes.len()).map(|place| place.to_string()), self.ring.virtual_nodes());
    }
}

impl Placement for RingByPosition {
    fn node_of(&self, key: &str) -> Option<&str> {
        let place: usize = self.ring.node_of(key)?.parse().ok()?;
        self.nodes.get(place).map(String::as_str)
    }

    fn nodes(&self) -> Vec<&str> {
        let mut nodes: Vec<&str> = self.nodes.iter().map(String::as_str).collect();
        nodes.sort_unstable();
        nodes
    }

    fn add(&mut self, node: &str) {
        self.nodes.push(node.to_string());
        self.rebuild();
    }

    fn remove(&mut self, node: &str) {
        self.nodes.retain(|known| known != node);
        self.rebuild();
    }
}

/// How many keys each node holds.
#[derive(Debug, Clone)]
pub struct Balance {
    counts: BTreeMap<String, u64>,
}

impl Balance {
    /// Counts `keys` under `placement`.
    pub fn of(placement: &dyn Placement, keys: &[String]) -> Self {
        let mut counts: BTreeMap<String, u64> =
            placement.nodes().into_iter().map(|node| (node.to_string(), 0)).collect();
        for key in keys {
            if let Some(count) = placement.node_of(key).and_then(|node| counts.get_mut(node)) {
                *count += 1;
            }
        }
        Self { counts }
    }

    /// Keys of each node, in the order of their names.
    pub fn counts(&self) -> Samples {
        self.counts.values().map(|&count| count as f64).collect()
    }

    /// All keys that have a node.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Keys of the fullest node.
    pub fn max(&self) -> u64 {
        self.counts.values().copied().max().unwrap_or(0)
    }

    /// Keys of the emptiest node.
    pub fn min(&self) -> u64 {
        self.counts.values().copied().min().unwrap_or(0)
    }

    /// Nodes without a key.
    pub fn empty(&self) -> usize {
        self.counts.values().filter(|&&count| count == 0).count()
    }

    /// The standard deviation over all nodes (they are the population, not a sample of it).
    pub fn standard_deviation(&self) -> f64 {
        let counts = self.counts();
        let mean = counts.mean();
        counts.map(|count| (count - mean).powi(2)).mean().sqrt()
    }

    /// The fullest node's keys over the mean.
    pub fn imbalance(&self) -> f64 {
        self.max() as f64 / self.counts().mean()
    }
}

/// The difference that a change of nodes made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Movement {
    /// Keys looked at.
    pub keys: u64,
    /// Keys that have another node than before.
    pub moved: u64,
    /// Keys that moved although their old node is still there and their new one was there before: moved for nothing.
    pub strays: u64,
}

impl Movement {
    /// Compares two placements, key by key.
    pub fn between(before: &dyn Placement, after: &dyn Placement, keys: &[String]) -> Self {
        let old: BTreeSet<&str> = before.nodes().into_iter().collect();
        let new: BTreeSet<&str> = after.nodes().into_iter().collect();
        let mut movement = Self { keys: keys.len() as u64, moved: 0, strays: 0 };
        for key in keys {
            let (from, to) = (before.node_of(key), after.node_of(key));
            if from != to {
                movement.moved += 1;
                let had_to = from.is_none_or(|node| !new.contains(node)) || to.is_none_or(|node| !old.contains(node));
                movement.strays += u64::from(!had_to);
            }
        }
        movement
    }

    /// Per cent of the keys that moved.
    pub fn percent(&self) -> f64 {
        self.moved as f64 * 100.0 / self.keys as f64
    }
}

/// Shards that leave, then shards that join, over many seeds.
#[derive(Debug, Clone, Default)]
pub struct Churn {
    /// Per cent of the keys moved when shards left, a sample per seed.
    pub left: Samples,
    /// Per cent of the keys moved when as many joined, a sample per seed.
    pub joined: Samples,
    /// Keys moved for nothing, over all seeds.
    pub strays: u64,
}

/// The experiment's parameters.
#[derive(Debug, Clone, Copy)]
pub struct ChurnSpec {
    /// Shards at the start.
    pub shards: usize,
    /// Shards that leave, and that join afterwards.
    pub changed: usize,
    /// Keys.
    pub keys: usize,
    /// Repetitions, each with shards and keys of other names.
    pub seeds: u64,
}

impl ChurnSpec {
    /// Takes random shards away and adds as many new ones, with random names for shards and keys in every repetition:
    /// fixed names would repeat one draw of the ring, not sample it.
    pub fn run(&self, scheme: Scheme, seed: u64) -> Churn {
        let mut churn = Churn::default();
        let mut progress = Progress::new(format!("moving keys, {scheme:?}"), self.seeds);
        for repetition in 0..self.seeds {
            let mut rng = Rng::seeded(seed.wrapping_add(repetition), "churn");
            let name = rng.word(8);
            let all: Vec<String> = (0..self.shards + self.changed).map(|index| format!("{name}-{index}")).collect();
            let keys: Vec<String> = (0..self.keys).map(|index| format!("{name}-key-{index}")).collect();
            let (old, new) = all.split_at(self.shards);
            let leaving: BTreeSet<String> = rng.pick(old, self.changed).into_iter().collect();
            let staying: Vec<String> = old.iter().filter(|shard| !leaving.contains(*shard)).cloned().collect();
            let grown = [&staying[..], new].concat();
            let [before, fewer, after] = [old, &staying, &grown].map(|nodes| scheme.place(nodes));
            let left = Movement::between(before.as_ref(), fewer.as_ref(), &keys);
            let joined = Movement::between(fewer.as_ref(), after.as_ref(), &keys);
            churn.left.push(left.percent());
            churn.joined.push(joined.percent());
            churn.strays += left.strays + joined.strays;
            progress.step();
        }
        churn
    }
}

/// Per cent of the keys that moved when the prototype's own fifty shards joined: `shard-1000` to `shard-1049`, after a random
/// fifty of `shard-0` to `shard-999` had left. One sample per seed, and always the same fifty names.
pub fn joined_with_fixed_names(virtual_nodes: u32, seeds: u64, seed: u64) -> Samples {
    let (old, all, keys) = (shards(1_000), shards(1_050), keys(10_000));
    let run = |repetition| {
        let leaving: BTreeSet<String> =
            Rng::seeded(seed.wrapping_add(repetition), "fixed names").pick(&old, 50).into_iter().collect();
        let stay = |nodes: &[String]| nodes.iter().filter(|node| !leaving.contains(*node)).cloned().collect::<Vec<_>>();
        let [fewer, after] = [stay(&old), stay(&all)].map(|nodes| Ring::new(nodes, virtual_nodes));
        Movement::between(&fewer, &after, &keys).percent()
    };
    (0..seeds).map(run).collect()
}

/// The spread of keys over shards (standard deviation over mean) for each number of virtual nodes, a sample per seed.
pub fn spread_by_virtual_nodes(
    virtual_nodes: &[u32],
    shards: usize,
    keys: usize,
    seeds: u64,
    seed: u64,
) -> Vec<(u32, Samples)> {
    let mut progress = Progress::new("filling rings", virtual_nodes.len() as u64 * seeds);
    let mut measure = |points: u32| {
        let run = |repetition: u64| {
            let name = Rng::seeded(seed.wrapping_add(repetition), "balance").word(8);
            let nodes: Vec<String> = (0..shards).map(|index| format!("{name}-{index}")).collect();
            let keys: Vec<String> = (0..keys).map(|index| format!("{name}-key-{index}")).collect();
            let balance = Balance::of(&Ring::new(nodes, points), &keys);
            progress.step();
            balance.standard_deviation() / balance.counts().mean()
        };
        (points, (0..seeds).map(run).collect())
    };
    virtual_nodes.iter().map(|&points| measure(points)).collect()
}

/// What theory says of that spread: the arcs of a shard with `v` points vary by 1/√v, and the keys that fall on an average
/// shard by 1/√mean; the variances add.
pub fn predicted_spread(virtual_nodes: f64, keys_per_shard: f64) -> f64 {
    (1.0 / virtual_nodes + 1.0 / keys_per_shard).sqrt()
}

/// The share of draws of the ring, in theory, in which no more than `percent` of the keys move when `changed` of `shards`
/// join: their arcs vary as [`predicted_spread`] says, and a sum of many is nearly normal.
pub fn predicted_share_below(percent: f64, spec: &ChurnSpec, virtual_nodes: f64) -> f64 {
    let mean = 100.0 * spec.changed as f64 / spec.shards as f64;
    let keys_per_shard = spec.keys as f64 / spec.shards as f64;
    let deviation = mean * predicted_spread(virtual_nodes, keys_per_shard) / (spec.changed as f64).sqrt();
    normal_below((percent - mean) / deviation)
}

/// The standard normal distribution function (Zelen and Severo's approximation, good to seven digits).
fn normal_below(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let polynomial = [1.330_274_429, -1.821_255_978, 1.781_477_937, -0.356_563_782, 0.319_381_530]
        .iter()
        .fold(0.0, |sum, coefficient| (sum + coefficient) * t);
    let above = (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt() * polynomial;
    if z < 0.0 { above } else { 1.0 - above }
}

/// The prototype's modulo: the last fifty of a list of a thousand shards leave.
pub fn modulo_as_published() -> Movement {
    // Names that sort in the order of the prototype's list.
    let shards: Vec<String> = (0..1_000).map(|index| format!("shard-{index:04}")).collect();
    Movement::between(&Modulo::new(&shards), &Modulo::new(&shards[..950]), &keys(10_000))
}

/// The share of keys, in per cent, that modulo moves when the *last* nodes leave: all but those whose remainders agree,
/// which are `min` in every `lcm`.
pub fn modulo_moves_at_best(from: u64, to: u64) -> f64 {
    100.0 * (1.0 - from.min(to) as f64 / least_common_multiple(from, to) as f64)
}

/// The share of keys, in per cent, that modulo moves when *any* `leaving` of `nodes` leave.
///
/// A hash h was on the node in place a = h mod n and is on the one in place b = h mod (n - k): the same node only if it
/// stayed, and exactly a - b of those that left stood before it.
pub fn modulo_moves(nodes: u64, leaving: u64) -> f64 {
    let left = nodes.saturating_sub(leaving).max(1);
    let mut logarithms = vec![0.0; nodes as usize + 1];
    for number in 1..logarithms.len() {
        logarithms[number] = logarithms[number - 1] + (number as f64).ln();
    }
    let choose = |n: u64, k: u64| logarithms[n as usize] - logarithms[k as usize] - logarithms[(n - k) as usize];
    let period = least_common_multiple(nodes, left);
    let stays = |hash: u64| {
        let (before, after) = (hash % nodes, hash % left);
        let gone_before = before.checked_sub(after)?;
        let gone_behind = leaving.checked_sub(gone_before)?;
        let behind = nodes - 1 - before;
        (gone_before <= before && gone_behind <= behind)
            .then(|| (choose(before, gone_before) + choose(behind, gone_behind) - choose(nodes, leaving)).exp())
    };
    100.0 * (1.0 - (0..period).filter_map(stays).sum::<f64>() / period as f64)
}

fn least_common_multiple(a: u64, b: u64) -> u64 {
    let (a, b) = (a.max(1), b.max(1));
    let (mut divisor, mut rest) = (a, b);
    while rest != 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    a / divisor * b
}

#[cfg(test)]
mod tests {
    use super::normal_below;

    #[test]
    fn the_normal_distribution_at_known_places() {
        for (z, share) in [(0.0, 0.5), (1.0, 0.841_344_7), (-1.0, 0.158_655_3), (1.959_964, 0.975), (-4.0, 0.000_031_7)]
        {
            assert!((normal_below(z) - share).abs() < 1e-6, "{z}");
        }
    }
}

//! What moves when nodes leave and join.

use std::collections::{BTreeSet, HashSet};

use super::{Scheme, keys, predicted_spread, shards};
use crate::{Modulo, Placement, Ring};
use lab::{OrFail, Progress, Rng, Samples};

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
        Self::of(&Homes::of(before, keys), &Homes::of(after, keys))
    }

    fn of(before: &Homes<'_>, after: &Homes<'_>) -> Self {
        let (old, new) = (&before.nodes, &after.nodes);
        let mut movement = Self { keys: before.homes.len() as u64, moved: 0, strays: 0 };
        for (&from, &to) in before.homes.iter().zip(&after.homes) {
            if from != to {
                movement.moved += 1;
                movement.strays += u64::from(new.contains(from) && old.contains(to));
            }
        }
        movement
    }

    /// Per cent of the keys that moved.
    pub fn percent(&self) -> f64 {
        self.moved as f64 * 100.0 / self.keys as f64
    }
}

/// Where each key is, looked up once.
struct Homes<'a> {
    nodes: HashSet<&'a str>,
    homes: Vec<&'a str>,
}

impl<'a> Homes<'a> {
    fn of(placement: &'a dyn Placement, keys: &[String]) -> Self {
        let homes = keys.iter().map(|key| placement.node_of(key)).collect();
        Self { nodes: placement.nodes().into_iter().collect(), homes }
    }
}

/// Shards that leave, then shards that join, over many seeds.
#[derive(Debug, Clone, Default)]
pub struct Churn {
    /// Per cent of the keys moved when shards left, a sample per seed.
    pub left: Samples,
    /// Per cent of the keys moved when as many joined, a sample per seed.
    pub joined: Samples,
    /// Keys moved for nothing when shards left, over all seeds.
    pub strays_leaving: u64,
    /// Keys moved for nothing when shards joined, over all seeds.
    pub strays_joining: u64,
    /// Keys looked at, over all seeds.
    pub keys: u64,
}

impl Churn {
    /// Per cent of the keys moved for nothing when shards left, and when they joined.
    pub fn strays_in_per_cent(&self) -> [f64; 2] {
        [self.strays_leaving, self.strays_joining].map(|strays| strays as f64 * 100.0 / self.keys as f64)
    }

    /// Keys moved for nothing, over all seeds.
    pub fn strays(&self) -> u64 {
        self.strays_leaving + self.strays_joining
    }
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
            let steps = scheme.through([old, &staying, &grown]).or_fail();
            let homes: Vec<Homes<'_>> = steps.iter().map(|placement| Homes::of(placement.as_ref(), &keys)).collect();
            let [left, joined] = [0, 1].map(|step| Movement::of(&homes[step], &homes[step + 1]));
            churn.left.push(left.percent());
            churn.joined.push(joined.percent());
            churn.strays_leaving += left.strays;
            churn.strays_joining += joined.strays;
            churn.keys += left.keys;
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
        let [fewer, after] = [stay(&old), stay(&all)].map(|nodes| Ring::new(nodes, virtual_nodes).or_fail());
        Movement::between(&fewer, &after, &keys).percent()
    };
    (0..seeds).map(run).collect()
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
    let [before, after] = [&shards[..], &shards[..950]].map(|shards| Modulo::new(shards).or_fail());
    Movement::between(&before, &after, &keys(10_000))
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

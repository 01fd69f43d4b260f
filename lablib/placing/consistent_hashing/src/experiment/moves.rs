//! What moves when nodes leave and join.

use std::collections::{BTreeSet, HashSet};

use super::{Scheme, keys, predicted_spread, shards};
use crate::{Placement, Ring};
use lab::{Result, Rng, Samples, Trial};

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
        let nodes = |placement: &'_ dyn Placement| -> HashSet<String> {
            placement.nodes().into_iter().map(str::to_string).collect()
        };
        let (old, new) = (nodes(before), nodes(after));
        let mut movement = Self { keys: keys.len() as u64, moved: 0, strays: 0 };
        for key in keys {
            let (from, to) = (before.node_of(key), after.node_of(key));
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

/// Shards that leave, then as many that join, again and again.
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

/// Takes random shards away and adds as many new ones, with random names for shards and keys in every round, the same for all schemes:
/// fixed names would repeat one draw of the ring, not sample it. Figures: the keys that moved when shards `left` and when others
/// `joined` (%), and those of them that moved for nothing (`left for nothing`, `joined for nothing`).
pub fn churn(schemes: &[Scheme], spec: &ChurnSpec, seed: u64) -> Result<Trial<Scheme>> {
    Trial::over(schemes.iter().copied(), spec.seeds as usize).titled("moving keys").run(|scheme, _, figures| {
        // The first round that counts has the seed itself.
        let mut rng = Rng::seeded(seed.wrapping_add(figures.round() as u64).wrapping_sub(1), "churn");
        let name = rng.word(8);
        let all: Vec<String> = (0..spec.shards + spec.changed).map(|index| format!("{name}-{index}")).collect();
        let keys: Vec<String> = (0..spec.keys).map(|index| format!("{name}-key-{index}")).collect();
        let (old, new) = all.split_at(spec.shards);
        let leaving: BTreeSet<String> = rng.pick(old, spec.changed).into_iter().collect();
        let staying: Vec<String> = old.iter().filter(|shard| !leaving.contains(*shard)).cloned().collect();
        let grown = [&staying[..], new].concat();
        let steps = scheme.through([old, &staying, &grown])?;
        for (change, pair) in ["left", "joined"].into_iter().zip(steps.windows(2)) {
            let movement = Movement::between(pair[0].as_ref(), pair[1].as_ref(), &keys);
            figures.push(change, "%", movement.percent());
            figures.push(&format!("{change} for nothing"), "keys", movement.strays as f64);
        }
        Ok(())
    })
}

/// Per cent of the keys that moved when the prototype's own fifty shards joined: `shard-1000` to `shard-1049`, after a random
/// fifty of `shard-0` to `shard-999` had left. One sample per seed, and always the same fifty names.
pub fn joined_with_fixed_names(virtual_nodes: u32, seeds: u64, seed: u64) -> Result<Samples> {
    let (old, all, keys) = (shards(1_000), shards(1_050), keys(10_000));
    let run = |repetition| {
        let mut rng = Rng::seeded(seed.wrapping_add(repetition), "fixed names");
        let leaving: BTreeSet<String> = rng.pick(&old, 50).into_iter().collect();
        let stay = |nodes: &[String]| Ring::new(nodes.iter().filter(|node| !leaving.contains(*node)), virtual_nodes);
        Ok(Movement::between(&stay(&old)?, &stay(&all)?, &keys).percent())
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

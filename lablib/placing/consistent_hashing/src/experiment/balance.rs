//! How level a placement is.

use std::collections::{BTreeMap, HashMap};

use super::Scheme;
use crate::{BoundedLoads, KeyHash, Placement, Ring};
use lab::{OrFail, Progress, Rng, Samples};

/// How many keys each node holds.
#[derive(Debug, Clone)]
pub struct Balance {
    counts: BTreeMap<String, u64>,
}

impl Balance {
    /// Counts `keys` under `placement`.
    pub fn of(placement: &dyn Placement, keys: &[String]) -> Self {
        let mut counts: HashMap<&str, u64> = placement.nodes().into_iter().map(|node| (node, 0)).collect();
        for key in keys {
            if let Some(count) = counts.get_mut(placement.node_of(key)) {
                *count += 1;
            }
        }
        Self { counts: counts.into_iter().map(|(node, count)| (node.to_string(), count)).collect() }
    }

    /// Places `keys` one by one on a ring with bounded loads.
    pub fn bounded(nodes: &[String], slack: f64, keys: &[String]) -> Self {
        let ring = Ring::hashed(KeyHash::Xxh3, nodes, 100).or_fail();
        let mut placement = BoundedLoads::new(ring, slack).or_fail();
        for key in keys {
            placement.take(key);
        }
        Self { counts: placement.loads().map(|(node, load)| (node.to_string(), load)).collect() }
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
        self.counts().max_over_mean()
    }
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
            let balance = Balance::of(&Ring::new(nodes, points).or_fail(), &keys);
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

/// The largest difference, in per cent, between [`spread_by_virtual_nodes`] and what is predicted.
pub fn largest_error(measured: &[(u32, Samples)], keys_per_shard: f64) -> f64 {
    let error = |(points, spread): &(u32, Samples)| {
        100.0 * (spread.mean() / predicted_spread(f64::from(*points), keys_per_shard) - 1.0).abs()
    };
    measured.iter().map(error).fold(0.0, f64::max)
}

/// How level a placement is over several numbers of nodes.
#[derive(Debug, Clone)]
pub struct Evenness {
    /// The placement.
    pub scheme: Scheme,
    at: Vec<Level>,
}

/// How level it is over one number of nodes, a sample per seed.
#[derive(Debug, Clone, Default)]
pub struct Level {
    /// Nodes.
    pub nodes: usize,
    /// The fullest node's keys over the mean.
    pub fullest: Samples,
    /// Standard deviation over mean.
    pub spread: Samples,
    /// Nodes without a key.
    pub empty: Samples,
}

impl Evenness {
    /// Measures `scheme` over these numbers of nodes, with so many keys for each node.
    pub fn sweep(scheme: Scheme, node_counts: &[usize], keys_per_node: usize, seeds: u64, seed: u64) -> Self {
        let mut progress = Progress::new(format!("levelling, {}", scheme.name()), node_counts.len() as u64 * seeds);
        let mut measure = |&nodes: &usize| {
            let mut level = Level { nodes, ..Level::default() };
            for repetition in 0..seeds {
                let name = Rng::seeded(seed.wrapping_add(repetition), "evenness").word(8);
                let names: Vec<String> = (0..nodes).map(|index| format!("{name}-{index}")).collect();
                let keys: Vec<String> = (0..nodes * keys_per_node).map(|index| format!("{name}-key-{index}")).collect();
                let balance = match scheme {
                    Scheme::Bounded(slack) => Balance::bounded(&names, slack, &keys),
                    _ => Balance::of(scheme.place(&names).or_fail().as_ref(), &keys),
                };
                level.fullest.push(balance.imbalance());
                level.spread.push(balance.standard_deviation() / balance.counts().mean());
                level.empty.push(balance.empty() as f64);
                progress.step();
            }
            level
        };
        Self { scheme, at: node_counts.iter().map(&mut measure).collect() }
    }

    /// The fullest node over the mean, for each number of nodes.
    pub fn fullest(&self) -> Vec<(usize, Samples)> {
        self.at.iter().map(|level| (level.nodes, level.fullest.clone())).collect()
    }

    /// Over the most nodes.
    pub fn at_most_nodes(&self) -> Level {
        self.at.last().cloned().unwrap_or_default()
    }
}

/// The fullest of `nodes` nodes over the mean, in theory, with so many keys for each node.
///
/// Where every node has the same share, its keys are a Poisson number. On a ring of `points` points a node, its share itself
/// varies, as a gamma number of that order, and its keys are a negative binomial one. Either way the fullest of n is the number
/// that all n stay below.
pub fn predicted_fullest(nodes: usize, keys_per_node: f64, points: Option<u32>) -> f64 {
    let (mut logarithm, next): (f64, Box<dyn Fn(f64) -> f64>) = match points {
        None => (-keys_per_node, Box::new(move |keys| keys_per_node / (keys + 1.0))),
        Some(points) => {
            let order = f64::from(points);
            let more = keys_per_node / (order + keys_per_node);
            (order * (order / (order + keys_per_node)).ln(), Box::new(move |keys| (keys + order) / (keys + 1.0) * more))
        }
    };
    let (mut below, mut expected, mut keys) = (0.0, 0.0, 0.0);
    while keys < keys_per_node * 50.0 + 100.0 {
        below += logarithm.exp();
        let all_below = f64::min(below, 1.0).powi(nodes as i32);
        expected += 1.0 - all_below;
        if keys > keys_per_node && 1.0 - all_below < 1e-9 {
            break;
        }
        logarithm += next(keys).ln();
        keys += 1.0;
    }
    expected / keys_per_node
}

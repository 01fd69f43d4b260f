//! How level a placement is.

use std::collections::{BTreeMap, HashMap};

use super::Scheme;
use crate::{BoundedLoads, KeyHash, Placement, Ring};
use lab::{Frame, Progress, Result, Rng, Samples};

/// How many of the keys each node holds, in the order of their names.
pub fn keys_on_each(placement: &dyn Placement, keys: &[String]) -> Samples {
    let mut counts: HashMap<&str, u64> = placement.nodes().into_iter().map(|node| (node, 0)).collect();
    keys.iter().for_each(|key| *counts.entry(placement.node_of(key)).or_default() += 1);
    let in_order: BTreeMap<&str, u64> = counts.into_iter().collect();
    in_order.into_values().map(|count| count as f64).collect()
}

/// The same where keys are placed one by one, and nodes hold no more than (1 + `slack`) times their share.
pub fn keys_on_bounded(nodes: &[String], slack: f64, keys: &[String]) -> Result<Samples> {
    let mut placement = BoundedLoads::new(Ring::hashed(KeyHash::Xxh3, nodes, 100)?, slack)?;
    for key in keys {
        placement.take(key);
    }
    Ok(placement.loads().map(|(_, load)| load as f64).collect())
}

/// Nodes that hold nothing.
pub fn empty(counts: &Samples) -> usize {
    counts.values().iter().filter(|count| **count == 0.0).count()
}

/// The standard deviation over the mean; all nodes are the population, not a sample of it.
pub fn spread(counts: &Samples) -> f64 {
    let mean = counts.mean();
    counts.map(|count| (count - mean).powi(2)).mean().sqrt() / mean
}

/// How level these placements are over several numbers of nodes, with so many keys for each node. A row for each seed, which has names of
/// its own for nodes and keys: placement, `points` of a node where it has some, nodes, `fullest ÷ mean`, `deviation ÷ mean`, and `empty`
/// nodes.
pub fn level(schemes: &[Scheme], node_counts: &[usize], keys_per_node: usize, seeds: u64, seed: u64) -> Result<Frame> {
    let mut progress = Progress::new("filling nodes", (schemes.len() * node_counts.len()) as u64 * seeds);
    let mut rows: Vec<(Scheme, usize, Samples)> = Vec::new();
    for (scheme, nodes) in schemes.iter().flat_map(|scheme| node_counts.iter().map(move |nodes| (*scheme, *nodes))) {
        for repetition in 0..seeds {
            let name = Rng::seeded(seed.wrapping_add(repetition), "evenness").word(8);
            let names: Vec<String> = (0..nodes).map(|index| format!("{name}-{index}")).collect();
            let keys: Vec<String> = (0..nodes * keys_per_node).map(|index| format!("{name}-key-{index}")).collect();
            let counts = match scheme {
                Scheme::Bounded(slack) => keys_on_bounded(&names, slack, &keys)?,
                _ => keys_on_each(scheme.place(&names)?.as_ref(), &keys),
            };
            rows.push((scheme, nodes, counts));
            progress.step();
        }
    }
    Ok(Frame::new()
        .text("placement", rows.iter().map(|row| row.0))
        .numbers_or_missing("points", "", rows.iter().map(|row| row.0.points().map(f64::from)))
        .counts("nodes", "", rows.iter().map(|row| row.1 as u64))
        .numbers("fullest ÷ mean", "×", rows.iter().map(|row| row.2.max_over_mean()))
        .numbers("deviation ÷ mean", "", rows.iter().map(|row| spread(&row.2)))
        .counts("empty", "", rows.iter().map(|row| empty(&row.2) as u64)))
}

/// What theory says of the deviation over the mean: the arcs of a shard with `v` points vary by 1/√v, and the keys that fall on an average
/// shard by 1/√mean; the variances add.
pub fn predicted_spread(virtual_nodes: f64, keys_per_shard: f64) -> f64 {
    (1.0 / virtual_nodes + 1.0 / keys_per_shard).sqrt()
}

/// The largest difference, in per cent, between the deviations of rings by their points, on average, and what is predicted.
pub fn largest_error(rings: &Frame, keys_per_shard: f64) -> f64 {
    let means = rings.group(["points"]).mean("deviation ÷ mean");
    let predicted = means.computed("predicted", "", |row| predicted_spread(row.number("points"), keys_per_shard));
    predicted.samples("deviation ÷ mean").over(&predicted.samples("predicted")).map(|of| 100.0 * (of - 1.0).abs()).max()
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

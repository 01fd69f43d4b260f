//! Placement by arithmetic, over many draws: where every document *would* lie.

use super::{STRATEGIES, imbalance};
use crate::key_rule::KeyRule;
use crate::prototype::{SHARDS, Workload, id_of};
use crate::{BUCKETS, Planner, Routing, SplitMap, Watch};
use lab::{Frame, Progress, Result, Rng, Samples};

/// Tries every strategy at the README's scale. A row for each draw of the tenants' names: strategy, names (`random`, and once `the
/// prototype's`), and the `fullest shard ÷ mean`.
pub fn sweep(documents: u64, draws: u64, seed: u64) -> Result<Frame> {
    let mut progress = Progress::new("placing documents", STRATEGIES.len() as u64 * (draws + 1));
    let mut rows = Vec::new();
    for (strategy, rule) in STRATEGIES {
        let mut place = |names, workload: &Workload, rng: &mut Rng| -> Result<()> {
            let loads = match rule(workload, rng) {
                Some(rule) => by_rule(workload, &rule)?,
                None => by_rate(workload, rng)?,
            };
            rows.push((strategy, names, imbalance(&loads)));
            progress.step();
            Ok(())
        };
        for draw in 0..draws {
            let mut rng = Rng::seeded(seed.wrapping_add(draw), "tenants' names");
            place("random", &Workload::with_random_names(documents, &mut rng), &mut rng)?;
        }
        let mut rng = Rng::seeded(seed, "published names");
        place("the prototype's", &Workload::of_the_readme(documents), &mut rng)?;
    }
    Ok(Frame::new().text("strategy", rows.iter().map(|row| row.0)).text("names", rows.iter().map(|row| row.1)).numbers(
        "fullest shard ÷ mean",
        "×",
        rows.iter().map(|row| row.2),
    ))
}

/// Documents on each shard, by a rule that remembers nothing.
fn by_rule(workload: &Workload, rule: &KeyRule) -> Result<Vec<f64>> {
    let routing = rule.routing(SHARDS)?;
    let mut loads = vec![0.0; SHARDS as usize];
    for (place, (tenant, documents)) in workload.tenants.iter().enumerate() {
        // All documents of a key lie on one shard, except in a partitioned index: so keys are placed, with how many they are of.
        let keys = match rule {
            KeyRule::ByTenant => 1,
            KeyRule::RandomSplit(split) => split.get(tenant).copied().unwrap_or(1),
            _ => *documents,
        };
        for number in 1..=keys.min(*documents) {
            let count = documents / keys + u64::from(number <= documents % keys);
            loads[routing.shard_of(&rule.key_of(tenant, number)?, id_of(place, number))?] += count as f64;
        }
    }
    Ok(loads)
}

/// Documents on each shard, when the planner has watched a sample of the writes.
fn by_rate(workload: &Workload, rng: &mut Rng) -> Result<Vec<f64>> {
    const SAMPLE: u64 = 20_000;
    let routing = Routing::new(SHARDS)?;
    let mut watch = Watch::new(SHARDS as usize, 64, SAMPLE as f64 / 4.0)?;
    let mut map = SplitMap::default();
    let total: u64 = workload.tenants.iter().map(|(_, documents)| documents).sum();
    let mut writes: Vec<&str> = Vec::new();
    for (tenant, documents) in &workload.tenants {
        writes.extend((0..(documents * SAMPLE).div_ceil(total)).map(|_| tenant.as_str()));
    }
    rng.shuffle(&mut writes);
    for looked in writes.chunks(writes.len() / 4) {
        looked.iter().try_for_each(|tenant| watch.observe(tenant, &map, &routing))?;
        for (tenant, split) in Planner::default().plan(&map, &watch, &routing)? {
            let (was, is) = (map.split_of(&tenant).is_some(), split.is_some());
            map = map.with(&tenant, split);
            watch.moved(&tenant, was, is, &routing)?;
        }
    }
    let mut loads = vec![0.0; SHARDS as usize];
    for (tenant, documents) in &workload.tenants {
        for bucket in 0..BUCKETS {
            loads[routing.shard_of(&map.key_of_bucket(tenant, bucket), 0)?] += *documents as f64 / f64::from(BUCKETS);
        }
    }
    Ok(loads)
}

/// The share of tenants, in per cent, two of whose k random sub-keys lead to the same shard: a sample per draw of their names.
pub fn collisions(parts: u64, tenants: u64, draws: u64, seed: u64) -> Result<Samples> {
    let routing = Routing::new(SHARDS)?;
    mean_of_tenants(tenants, draws, seed, "collisions", |tenant| {
        let split = KeyRule::RandomSplit([(tenant.to_string(), parts)].into());
        Ok(if (split.asks(tenant, &routing)?.len() as u64) < parts { 100.0 } else { 0.0 })
    })
}

/// What chance says of that: k keys thrown at so many shards do not all find one of their own.
pub fn predicted_collisions(parts: u64, shards: u32) -> f64 {
    100.0 * (1.0 - (0..parts).map(|part| 1.0 - part as f64 / f64::from(shards)).product::<f64>())
}

/// Over how many shards a tenant's documents lie on average in a partitioned index: a sample per draw of the tenants' names.
pub fn partition_reach(partition: &KeyRule, tenants: u64, draws: u64, seed: u64) -> Result<Samples> {
    let routing = partition.routing(SHARDS)?;
    mean_of_tenants(tenants, draws, seed, "partitions", |tenant| Ok(routing.shards_of(tenant)?.len() as f64))
}

/// The mean of something over so many tenants with random names, a sample per draw.
fn mean_of_tenants(
    tenants: u64,
    draws: u64,
    seed: u64,
    label: &str,
    of: impl Fn(&str) -> Result<f64>,
) -> Result<Samples> {
    let mean = |draw| -> Result<f64> {
        let mut rng = Rng::seeded(seed.wrapping_add(draw), label);
        Ok((0..tenants).map(|_| of(&rng.word(10))).sum::<Result<f64>>()? / tenants as f64)
    };
    (0..draws).map(mean).collect()
}

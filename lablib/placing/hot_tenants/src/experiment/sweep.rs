//! Placement by arithmetic, over many draws: where every document *would* lie.

use super::super::key_rule::KeyRule;
use super::super::{BUCKETS, Planner, Routing, SplitMap, Watch};
use super::{Workload, even_split, imbalance, random_split, seed};
use lab::chart::Bars;
use lab::{Chart, OrFail, Progress, Result, Rng, Samples};

/// The fullest shard over the mean, for each strategy: a sample per draw of the tenants' names.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// Name, with random names, and with the prototype's `tenant1` to `tenant50`.
    pub strategies: Vec<(String, Samples, f64)>,
}

impl Sweep {
    /// The samples of one strategy.
    pub fn random_names(&self, strategy: &str) -> Samples {
        let found = self.strategies.iter().find(|(name, ..)| name == strategy);
        found.map(|(_, samples, _)| samples.clone()).unwrap_or_default()
    }

    /// A bar for each strategy, with what the prototype's routing gives for its own names as marks.
    pub fn chart(&self, title: &str) -> Bars {
        let mut chart = Chart::bars(title).y("fullest shard ÷ mean", "×");
        for (name, samples, _) in &self.strategies {
            chart = chart.bar_with_spread(name, samples);
        }
        for (parts, figure) in seed::ran::README {
            chart = chart.ran("prototype's names", even(parts), figure);
        }
        chart
    }

    /// The largest difference between the prototype's figures and those of the same names here.
    pub fn off_the_readme(&self) -> f64 {
        let off = |(parts, figure): (u64, f64)| (self.published_names(&even(parts)) - figure).abs();
        seed::ran::README.map(off).into_iter().fold(0.0, f64::max)
    }

    /// The figure with the prototype's names.
    pub fn published_names(&self, strategy: &str) -> f64 {
        self.strategies.iter().find(|(name, ..)| name == strategy).map_or(f64::NAN, |(.., figure)| *figure)
    }
}

/// What it is called when every hot tenant is split in so many.
fn even(parts: u64) -> String {
    if parts == 1 { "by tenant".to_string() } else { format!("k = {parts}") }
}

/// Tries every strategy that remembers nothing, at the README's scale.
pub fn sweep(documents: u64, seeds: u64, seed: u64) -> Sweep {
    run(documents, seeds, seed).or_fail()
}

/// A name, and the strategy for a workload.
type Candidate = (&'static str, fn(&Workload, &mut Rng) -> KeyRule);

fn run(documents: u64, seeds: u64, seed: u64) -> Result<Sweep> {
    let candidates: [Candidate; 9] = [
        ("by document", |_, _| KeyRule::ByDocument),
        ("by tenant", |_, _| KeyRule::ByTenant),
        ("k = 2", |workload, _| KeyRule::RandomSplit(even_split(workload, 2))),
        ("k = 3", |workload, _| KeyRule::RandomSplit(even_split(workload, 3))),
        ("k = 5", |workload, _| KeyRule::RandomSplit(even_split(workload, 5))),
        ("random k", |workload, rng| KeyRule::RandomSplit(random_split(workload, rng))),
        ("partition 4", |_, _| KeyRule::Partitioned(4)),
        ("partition 8", |_, _| KeyRule::Partitioned(8)),
        ("partition 4, unsplittable", |_, _| KeyRule::PartitionedUnsplittable(4)),
    ];
    let mut progress = Progress::new("placing documents", (candidates.len() as u64 + 1) * (seeds + 1));
    let mut strategies = Vec::new();
    for (name, strategy) in candidates {
        let mut of = |workload: &Workload, rng: &mut Rng| -> Result<f64> {
            progress.step();
            Ok(imbalance(&placement(workload, &strategy(workload, rng))?))
        };
        let mut samples = Samples::default();
        for draw in 0..seeds {
            let mut rng = Rng::seeded(seed.wrapping_add(draw), "tenants' names");
            samples.push(of(&Workload::with_random_names(documents, &mut rng), &mut rng)?);
        }
        let published = of(&Workload::of_the_readme(documents), &mut Rng::seeded(seed, "published names"))?;
        strategies.push((name.to_string(), samples, published));
    }
    let mut ours = Samples::default();
    for draw in 0..seeds {
        let mut rng = Rng::seeded(seed.wrapping_add(draw), "tenants' names");
        ours.push(split_by_rate(&Workload::with_random_names(documents, &mut rng), &mut rng)?);
        progress.step();
    }
    progress.step();
    let published = split_by_rate(&Workload::of_the_readme(documents), &mut Rng::seeded(seed, "published names"))?;
    strategies.push(("split by rate".to_string(), ours, published));
    Ok(Sweep { strategies })
}

/// Where everything lies when the planner has watched a sample of the writes.
fn split_by_rate(workload: &Workload, rng: &mut Rng) -> Result<f64> {
    const SAMPLE: u64 = 20_000;
    let routing = Routing::new(seed::SHARDS)?;
    let planner = Planner::default();
    let mut watch = Watch::new(seed::SHARDS as usize, 64, SAMPLE as f64 / 4.0)?;
    let mut map = SplitMap::default();
    let total: u64 = workload.tenants.iter().map(|(_, documents)| documents).sum();
    let mut writes: Vec<&str> = Vec::new();
    for (tenant, documents) in &workload.tenants {
        writes.extend((0..(documents * SAMPLE).div_ceil(total)).map(|_| tenant.as_str()));
    }
    rng.shuffle(&mut writes);
    for looked in writes.chunks(writes.len() / 4) {
        looked.iter().try_for_each(|tenant| watch.observe(tenant, &map, &routing))?;
        for (tenant, split) in planner.plan(&map, &watch, &routing)? {
            let (was, is) = (map.split_of(&tenant).is_some(), split.is_some());
            map = map.with(&tenant, split);
            watch.moved(&tenant, was, is, &routing)?;
        }
    }
    let mut loads = vec![0.0; seed::SHARDS as usize];
    for (tenant, documents) in &workload.tenants {
        for bucket in 0..BUCKETS {
            loads[routing.shard_of(&map.key_of_bucket(tenant, bucket), 0)?] += *documents as f64 / f64::from(BUCKETS);
        }
    }
    Ok(imbalance(&loads))
}

/// How many keys a tenant's documents have; none where each has its own.
fn rule_parts(rule: &KeyRule, tenant: &str) -> Option<u64> {
    match rule {
        KeyRule::ByDocument => None,
        KeyRule::RandomSplit(split) => Some(split.get(tenant).copied().unwrap_or(1)),
        _ => Some(1),
    }
}

/// Documents on each shard.
pub(super) fn placement(workload: &Workload, strategy: &KeyRule) -> Result<Vec<f64>> {
    let routing = strategy.routing(seed::SHARDS)?;
    let mut loads = vec![0.0; seed::SHARDS as usize];
    for (place, (tenant, documents)) in workload.tenants.iter().enumerate() {
        if routing.partition_size() == 1 {
            // Every document of a key lies on one shard: count keys, not documents.
            let cycle = match rule_parts(strategy, tenant) {
                Some(parts) => parts.min(*documents),
                None => *documents,
            };
            for part in 0..cycle {
                // The documents numbered 1 to n with this remainder.
                let number = part + 1;
                let count = documents / cycle + u64::from(number <= documents % cycle);
                loads[routing.shard_of(&strategy.key_of(tenant, number)?, 0)?] += count as f64;
            }
        } else {
            for number in 1..=*documents {
                loads[routing.shard_of(tenant, place as u64 * super::IDS_PER_TENANT + number)?] += 1.0;
            }
        }
    }
    Ok(loads)
}

/// The share of tenants, in per cent, two of whose k random sub-keys lead to the same shard: a sample per seed.
pub fn collisions(parts: u64, tenants: u64, seeds: u64, seed: u64) -> Samples {
    let run = || -> Result<Samples> {
        let routing = Routing::new(seed::SHARDS)?;
        let mut samples = Samples::default();
        for draw in 0..seeds {
            let mut rng = Rng::seeded(seed.wrapping_add(draw), "collisions");
            let mut collided = 0;
            for _ in 0..tenants {
                let tenant = rng.word(10);
                let split = KeyRule::RandomSplit([(tenant.clone(), parts)].into());
                collided += u64::from((split.asks(&tenant, &routing)?.len() as u64) < parts);
            }
            samples.push(100.0 * collided as f64 / tenants as f64);
        }
        Ok(samples)
    };
    run().or_fail()
}

/// What chance says of that: k keys thrown at so many shards do not all find one of their own.
pub fn predicted_collisions(parts: u64, shards: u32) -> f64 {
    100.0 * (1.0 - (0..parts).map(|part| 1.0 - part as f64 / f64::from(shards)).product::<f64>())
}

/// Over how many shards a tenant's documents lie on average, with this `routing_partition_size`: a sample per seed.
pub fn partition_reach(size: u32, unsplittable: bool, tenants: u64, seeds: u64, seed: u64) -> Samples {
    let run = || -> Result<Samples> {
        let strategy = match unsplittable {
            true => KeyRule::PartitionedUnsplittable(size),
            false => KeyRule::Partitioned(size),
        };
        let routing = strategy.routing(seed::SHARDS)?;
        let mean = |draw| -> Result<f64> {
            let mut rng = Rng::seeded(seed.wrapping_add(draw), "partitions");
            let reach = (0..tenants).map(|_| Ok(routing.shards_of(&rng.word(10))?.len() as f64));
            Ok(reach.sum::<Result<f64>>()? / tenants as f64)
        };
        (0..seeds).map(mean).collect::<Result<Vec<f64>>>().map(Samples::from)
    };
    run().or_fail()
}

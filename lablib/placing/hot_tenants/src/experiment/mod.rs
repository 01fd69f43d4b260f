//! What the notebook measures: strategies by arithmetic and on real shards, re-splits under fire, and a tenant that turns hot.

#![allow(missing_docs, reason = "a field is documented where its name leaves something open")]

mod compare;
mod online;
mod sweep;
mod turns_hot;

pub use compare::compare;
pub(crate) use compare::{place, write_all};
pub use online::{check_online, check_skipping};
pub use sweep::{collisions, partition_reach, predicted_collisions, sweep};
pub use turns_hot::{TurnsHot, late_resplits, level_after, settled, turns_hot};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::key_rule::KeyRule;
use crate::prototype::{SHARDS, Workload};
use crate::shards::Document;
use lab::disk::RealDisk;
use lab::{Doing, Frame, Result, Rng, Samples, service};

/// Who chooses the routing keys: a name, and the rule for a workload; none where the split map decides, ours.
type Strategy = (&'static str, fn(&Workload, &mut Rng) -> Option<KeyRule>);

const STRATEGIES: [Strategy; 10] = [
    ("by document", |_, _| Some(KeyRule::ByDocument)),
    ("by tenant", |_, _| Some(KeyRule::ByTenant)),
    ("k = 2", |workload, _| Some(workload.split(|| 2))),
    ("k = 3", |workload, _| Some(workload.split(|| 3))),
    ("k = 5", |workload, _| Some(workload.split(|| 5))),
    ("random k", |workload, rng| Some(workload.split(|| 2 + rng.below(4)))),
    ("partition 4", |_, _| Some(KeyRule::Partitioned(4))),
    ("partition 8", |_, _| Some(KeyRule::Partitioned(8))),
    ("partition 4, unsplittable", |_, _| Some(KeyRule::PartitionedUnsplittable(4))),
    ("split by rate", |_, _| None),
];

/// Where a run keeps its split map. Each run has a folder of its own: a cell that is run again begins with an empty map.
fn disk_of_a_map() -> Result<Arc<RealDisk>> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let folder = format!("split-map-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    RealDisk::open(service::run_directory()?.join(folder)).map(Arc::new).doing("open the map's folder")
}

/// Words that documents are made of.
const WORDS: u64 = 500;

fn word(number: u64) -> String {
    format!("word{number}")
}

pub(crate) fn document(id: u64, tenant: &str, version: u64, rng: &mut Rng) -> Document {
    let text = (0..8).map(|_| word(rng.below(WORDS))).collect::<Vec<_>>().join(" ");
    Document { id, tenant: tenant.to_string(), version, text }
}

/// The fullest of these over their mean.
fn imbalance(loads: &[f64]) -> f64 {
    Samples::from(loads).max_over_mean()
}

/// Documents on each shard, by who lies where (`shard`, `documents`).
fn held(homes: &Frame) -> Vec<f64> {
    let mut held = vec![0.0; SHARDS as usize];
    homes.rows().for_each(|row| held[row.number("shard") as usize] += row.number("documents"));
    held
}

/// Documents on each `shard`, also on an empty one, in multiples of the mean (`documents ÷ mean`).
pub fn shares_of_shards(homes: &Frame) -> Frame {
    let held = Samples::from(held(homes));
    let shares = held.map(|documents| documents / held.mean());
    Frame::new().text("shard", 0..SHARDS).numbers("documents ÷ mean", "×", shares.values().to_vec())
}

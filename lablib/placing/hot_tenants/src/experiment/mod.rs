//! What the notebook measures: the prototype's table, and the strategies on real shards.

mod compare;
mod online;
mod published;
mod sweep;
mod turns_hot;

pub use compare::{Arm, Comparison, compare, tiles};
pub use online::{Checked, OnlineSpec, check_broken, check_online, table_of_broken};
pub use published::{Published, published};
pub use sweep::{Sweep, collisions, partition_reach, predicted_collisions, sweep};
pub use turns_hot::{Story, TurnsHot, turns_hot};

use std::collections::BTreeMap;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::shards::{Ask, Document};
use lab::crash::RealDisk;
use lab::{Doing, Error, Result, Rng, Samples, service};

/// The prototype's figures, for the reference marks and for golden tests.
pub mod seed {
    /// Primary shards of its index.
    pub const SHARDS: u32 = 10;
    /// Fullest shard over the mean, code scale, as its table has it.
    pub const TABLE: f64 = 1.71;
    /// The same without splitting.
    pub const TABLE_UNSPLIT: f64 = 2.14;
    /// Documents of its table on shards 0 to 9.
    pub const TOTALS: [u64; 10] = [167, 240, 100, 67, 40, 100, 207, 156, 90, 233];
    /// What its random k had been for its three hot tenants.
    pub const SPLIT: [(&str, u64); 3] = [("tenant1", 5), ("tenant2", 3), ("tenant3", 3)];

    /// What it never published, and gives when one runs its routing.
    pub mod ran {
        /// Fullest shard over the mean at the README's scale: unsplit, and with k = 2, 3 and 5 for every hot tenant.
        pub const README: [(u64, f64); 4] = [(1, 1.95), (2, 2.35), (3, 2.22), (5, 1.63)];
    }
}

/// Where a run keeps its split map. Each run has a folder of its own: a cell that is run again begins with an empty map.
fn disk_of_a_map() -> Result<Arc<RealDisk>> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let folder = format!("split-map-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    RealDisk::open(service::run_directory()?.join(folder)).map(Arc::new).doing("open the map's folder")
}

/// A tenant's documents are numbered from 1; an id is unique among all tenants.
const IDS_PER_TENANT: u64 = 1_000_000;

/// The number of a document within its tenant.
pub(crate) fn number_of(id: u64) -> u64 {
    id % IDS_PER_TENANT
}

/// So many tenants with so many documents each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Tenants and their documents, hot ones first.
    pub tenants: Vec<(String, u64)>,
    /// How many of them are hot.
    pub hot: usize,
}

impl Workload {
    /// The prototype's code: `tenant1` to `tenant3` with 200 documents each, `tenant4` to `tenant19` with 50.
    pub fn of_the_table() -> Self {
        let documents = |number| if number <= 3 { 200 } else { 50 };
        Self { tenants: (1..=19).map(|number| (format!("tenant{number}"), documents(number))).collect(), hot: 3 }
    }

    /// The prototype's README, at this many documents: 50 tenants, ten of them with 80 %.
    pub fn of_the_readme(documents: u64) -> Self {
        Self::readme(documents, |number| format!("tenant{number}"))
    }

    /// The same with random names: `tenant1` to `tenant50` are one draw of the hash, whatever is repeated.
    pub fn with_random_names(documents: u64, rng: &mut Rng) -> Self {
        Self::readme(documents, |_| rng.word(10))
    }

    fn readme(documents: u64, mut name: impl FnMut(u64) -> String) -> Self {
        let of = |number| if number <= 10 { documents * 8 / 100 } else { documents * 2 / 400 };
        Self { tenants: (1..=50).map(|number| (name(number), of(number))).collect(), hot: 10 }
    }

    /// The hot tenants.
    pub fn hot_tenants(&self) -> impl Iterator<Item = &str> {
        self.tenants.iter().take(self.hot).map(|(tenant, _)| tenant.as_str())
    }

    /// Every tenant's documents, in random order, with text to search in.
    pub fn documents(&self, rng: &mut Rng) -> Vec<Document> {
        let mut documents: Vec<Document> = Vec::new();
        for (place, (tenant, count)) in self.tenants.iter().enumerate() {
            let id = |number: u64| place as u64 * IDS_PER_TENANT + number;
            documents.extend((1..=*count).map(|number| document(id(number), tenant, 1, rng)));
        }
        rng.shuffle(&mut documents);
        documents
    }
}

/// Words that documents are made of.
const WORDS: u64 = 500;

pub(crate) fn word(number: u64) -> String {
    format!("word{number}")
}

pub(crate) fn document(id: u64, tenant: &str, version: u64, rng: &mut Rng) -> Document {
    let text = (0..8).map(|_| word(rng.below(WORDS))).collect::<Vec<_>>().join(" ");
    Document { id, tenant: tenant.to_string(), version, text }
}

/// The fullest of these over their mean.
pub fn imbalance(loads: &[f64]) -> f64 {
    Samples::from(loads).max_over_mean()
}

/// A k from 2 to 5 for every hot tenant, as the prototype draws it.
pub fn random_split(workload: &Workload, rng: &mut Rng) -> BTreeMap<String, u64> {
    workload.hot_tenants().map(|tenant| (tenant.to_string(), 2 + rng.below(4))).collect()
}

/// The same k for every hot tenant.
pub fn even_split(workload: &Workload, parts: u64) -> BTreeMap<String, u64> {
    workload.hot_tenants().map(|tenant| (tenant.to_string(), parts)).collect()
}

fn nothing(what: &str) -> Error {
    Error::new(what, "there is nothing to do it with")
}

/// Documents of each tenant on each shard.
pub type Placed = BTreeMap<(usize, String), u64>;

pub(crate) fn per_shard(placed: &Placed, shards: usize) -> Result<Vec<f64>> {
    let mut loads = vec![0.0; shards];
    for ((shard, _), documents) in placed {
        *loads.get_mut(*shard).ok_or_else(|| nothing("count documents"))? += *documents as f64;
    }
    Ok(loads)
}

//! Ways to choose a routing key that remember nothing: the ones that a split map is compared with.

use std::collections::BTreeMap;

use super::routing::Routing;
use super::shards::Ask;
use lab::{Error, Result};

/// A rule from a document to its routing key, and from a tenant to what a search has to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRule {
    /// The document's own name, as Elasticsearch does it where nobody names a routing key.
    ByDocument,
    /// The tenant's name.
    ByTenant,
    /// The prototype's: `TENANT_n` for the tenants that are in the list with a k, n being the document's number modulo k.
    /// Where the sub-keys lead is left to chance, and k is nowhere but here.
    RandomSplit(BTreeMap<String, u64>),
    /// The tenant's name, in an index with this `routing_partition_size` and everything else as it is by default.
    Partitioned(u32),
    /// The same, with as many routing shards as primaries.
    PartitionedUnsplittable(u32),
}

impl KeyRule {
    /// The layout of its index.
    pub fn routing(&self, primaries: u32) -> Result<Routing> {
        let plain = Routing::new(primaries)?;
        match self {
            Self::ByDocument | Self::ByTenant | Self::RandomSplit(_) => Ok(plain),
            Self::Partitioned(size) => plain.with_partition_size(*size),
            Self::PartitionedUnsplittable(size) => plain.with_routing_shards(primaries)?.with_partition_size(*size),
        }
    }

    /// The routing key of the document with this number within its tenant.
    pub fn key_of(&self, tenant: &str, number: u64) -> Result<String> {
        match self {
            Self::ByDocument => Ok(format!("{tenant}/{number}")),
            Self::RandomSplit(split) => match split.get(tenant) {
                Some(0) => Err(Error::new(format!("split {tenant:?}"), "into no parts")),
                Some(parts) => Ok(format!("{tenant}_{}", number % parts)),
                None => Ok(tenant.to_string()),
            },
            _ => Ok(tenant.to_string()),
        }
    }

    /// What a search of a tenant has to ask. Each shard at most once, although sub-keys may collide.
    pub fn asks(&self, tenant: &str, routing: &Routing) -> Result<Vec<Ask>> {
        if *self == Self::ByDocument {
            let everywhere = 0..routing.primaries() as usize;
            return everywhere.map(|shard| Ok(Ask::all(routing.key_to(tenant, shard)?, tenant))).collect();
        }
        let parts = match self {
            Self::RandomSplit(split) => split.get(tenant).copied(),
            _ => None,
        };
        let Some(parts) = parts else { return Ok(vec![Ask::all(tenant, tenant)]) };
        let mut by_shard: BTreeMap<Vec<usize>, Ask> = BTreeMap::new();
        for part in 0..parts {
            let key = format!("{tenant}_{part}");
            by_shard.entry(routing.shards_of(&key)?).or_insert_with(|| Ask::all(key, tenant));
        }
        Ok(by_shard.into_values().collect())
    }
}

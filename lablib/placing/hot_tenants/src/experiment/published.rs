//! The prototype's own run: 1,400 documents, three tenants split at random.

use std::collections::BTreeMap;

use super::super::key_rule::KeyRule;
use super::super::shards::{Ask, Change, open};
use super::{Placed, Workload, number_of, seed};
use lab::{OrFail, Result, Rng};

/// What the prototype's run leaves behind.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// Documents that each shard holds, asked of the shards.
    pub documents: Vec<u64>,
    /// The same without splitting, by arithmetic.
    pub unsplit: Vec<f64>,
    /// Shards that hold documents of `tenant2`, split in three.
    pub shards_of_tenant2: u64,
    /// Documents of the three hot tenants that its statistics query finds: with the tenant's name for a routing key.
    pub found_by_statistics: u64,
    /// Documents of the three hot tenants that a search of all their sub-keys finds.
    pub found_by_fan_out: u64,
    /// Documents in the index after a second run that has drawn another k: each should be there once.
    pub after_a_second_run: u64,
    /// Documents of the hot tenants that the second run's own sub-keys find.
    pub found_after_a_second_run: u64,
    /// Documents of each tenant on each shard.
    pub placed: Placed,
    /// The same without splitting.
    pub placed_unsplit: Placed,
}

/// Runs it on real shards, twice, the second time with k = 4 for everybody.
pub fn published() -> Published {
    run().or_fail()
}

fn run() -> Result<Published> {
    let workload = Workload::of_the_table();
    let documents = workload.documents(&mut Rng::seeded(1, "published"));
    let split: BTreeMap<String, u64> = seed::SPLIT.iter().map(|(tenant, k)| (tenant.to_string(), *k)).collect();
    let (first, second) = (
        KeyRule::RandomSplit(split.clone()),
        KeyRule::RandomSplit(split.keys().map(|tenant| (tenant.clone(), 4)).collect()),
    );
    let routing = first.routing(seed::SHARDS)?;
    let shards = open(routing)?;
    let mut published = Published { unsplit: vec![0.0; seed::SHARDS as usize], ..Published::default() };
    let index = |strategy: &KeyRule| -> Result<()> {
        let put = |document: &super::Document| -> Result<Change> {
            let routing = strategy.key_of(&document.tenant, number_of(document.id))?;
            Ok(Change::Put { routing, document: document.clone() })
        };
        shards.write(&documents.iter().map(put).collect::<Result<Vec<_>>>()?)?;
        shards.refresh()
    };
    let find = |ask: &dyn Fn(&str) -> Result<Vec<Ask>>| -> Result<u64> {
        let counts = workload.hot_tenants().map(|tenant| Ok(shards.search(&ask(tenant)?)?.hits.len() as u64));
        counts.sum()
    };

    index(&first)?;
    for document in &documents {
        let key = first.key_of(&document.tenant, number_of(document.id))?;
        for (placed, key) in [(&mut published.placed, &key), (&mut published.placed_unsplit, &document.tenant)] {
            *placed.entry((routing.shard_of(key, document.id)?, document.tenant.clone())).or_default() += 1;
        }
        published.unsplit[routing.shard_of(&document.tenant, document.id)?] += 1.0;
    }
    published.documents = shards.loads()?.iter().map(|load| load.documents).collect();
    published.shards_of_tenant2 = first.asks("tenant2", &routing)?.len() as u64;
    published.found_by_statistics = find(&|tenant| Ok(vec![Ask::all(tenant, tenant)]))?;
    published.found_by_fan_out = find(&|tenant| first.asks(tenant, &routing))?;
    index(&second)?;
    published.after_a_second_run = shards.loads()?.iter().map(|load| load.documents).sum();
    published.found_after_a_second_run = find(&|tenant| second.asks(tenant, &routing))?;
    Ok(published)
}

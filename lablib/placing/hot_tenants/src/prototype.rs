//! The prototype: its workloads, its figures, and its own run, which splits at random and remembers nothing.

use std::collections::BTreeMap;

use crate::experiment::{document, place, write_all};
use crate::key_rule::KeyRule;
use crate::shards::{Ask, Document, open};
use lab::{Frame, Result, Rng};

/// Primary shards of its index.
pub const SHARDS: u32 = 10;
/// Documents of its published table on shards 0 to 9.
pub const TOTALS: [u64; 10] = [167, 240, 100, 67, 40, 100, 207, 156, 90, 233];
/// The fullest shard of that table over the mean.
pub const TABLE: f64 = 1.71;
/// The same without splitting. It never published that: it is what comes out when one runs its routing.
pub const TABLE_UNSPLIT: f64 = 2.14;
/// What its random k had been for its three hot tenants.
pub const SPLIT: [(&str, u64); 3] = [("tenant1", 5), ("tenant2", 3), ("tenant3", 3)];
/// What it never published, and gives when one runs its routing: the fullest shard over the mean at its README's scale, unsplit and
/// with the same k for every hot tenant.
pub const RAN: [(&str, f64); 4] = [("by tenant", 1.95), ("k = 2", 2.35), ("k = 3", 2.22), ("k = 5", 1.63)];

/// A tenant's documents are numbered from 1; an id is unique among all tenants.
const IDS_PER_TENANT: u64 = 1_000_000;

/// The id of a document, by the place of its tenant in a workload and its number within it.
pub(crate) fn id_of(tenant: usize, number: u64) -> u64 {
    tenant as u64 * IDS_PER_TENANT + number
}

/// The routing key that a rule gives a document, by its number within its tenant.
pub(crate) fn key_of(rule: &KeyRule, document: &Document) -> Result<String> {
    rule.key_of(&document.tenant, document.id % IDS_PER_TENANT)
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

    /// The hot tenants, each in so many parts.
    pub fn split(&self, mut parts: impl FnMut() -> u64) -> KeyRule {
        KeyRule::RandomSplit(self.tenants.iter().take(self.hot).map(|(tenant, _)| (tenant.clone(), parts())).collect())
    }

    /// Every tenant's documents, in random order, with text to search in.
    pub fn documents(&self, rng: &mut Rng) -> Vec<Document> {
        let mut documents: Vec<Document> = Vec::new();
        for (place, (tenant, count)) in self.tenants.iter().enumerate() {
            documents.extend((1..=*count).map(|number| document(id_of(place, number), tenant, 1, rng)));
        }
        rng.shuffle(&mut documents);
        documents
    }
}

/// What the prototype's run leaves behind.
#[derive(Debug, Clone)]
pub struct Published {
    /// Documents that each shard holds, asked of the shards.
    pub documents: Vec<u64>,
    /// Where its documents lie: shard, tenant, documents.
    pub homes: Frame,
    /// The same without splitting.
    pub homes_unsplit: Frame,
    /// Documents of the three hot tenants that are found `by` its statistics query, with the tenant's name for a routing key; by a
    /// search of all their sub-keys; and by the same after a second run, which has drawn another k.
    pub found: Frame,
    /// Documents in the index after that second run: each should be there once.
    pub after_a_second_run: u64,
}

/// Runs it on real shards, twice, the second time with k = 4 for everybody.
pub fn published() -> Result<Published> {
    let workload = Workload::of_the_table();
    let documents = workload.documents(&mut Rng::seeded(1, "published"));
    let split: BTreeMap<String, u64> = SPLIT.map(|(tenant, k)| (tenant.to_string(), k)).into();
    let (first, second) = (KeyRule::RandomSplit(split.clone()), workload.split(|| 4));
    let routing = first.routing(SHARDS)?;
    let shards = open(routing)?;
    let find = |ask: &dyn Fn(&str) -> Result<Vec<Ask>>| -> Result<u64> {
        split.keys().map(|tenant| Ok(shards.search(&ask(tenant)?)?.hits.len() as u64)).sum()
    };
    let held = || -> Result<Vec<u64>> { Ok(shards.loads()?.iter().map(|load| load.documents).collect()) };
    let homes = |rule: &KeyRule| place(&documents, &routing, |document| key_of(rule, document));

    write_all(shards.as_ref(), &first, &documents)?;
    let documents_held = held()?;
    let by_statistics = find(&|tenant| Ok(vec![Ask::all(tenant, tenant)]))?;
    let by_fan_out = find(&|tenant| first.asks(tenant, &routing))?;
    write_all(shards.as_ref(), &second, &documents)?;
    let after_a_second_run = find(&|tenant| second.asks(tenant, &routing))?;
    Ok(Published {
        documents: documents_held,
        homes: homes(&first)?,
        homes_unsplit: homes(&KeyRule::ByTenant)?,
        found: Frame::new()
            .text("by", ["the statistics query", "a search of all sub-keys", "the same after a second run with k = 4"])
            .counts("documents", "", [by_statistics, by_fan_out, after_a_second_run]),
        after_a_second_run: held()?.iter().sum(),
    })
}

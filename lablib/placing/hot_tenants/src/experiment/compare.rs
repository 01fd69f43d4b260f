//! The strategies on real shards: the same documents written, the same searches asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{STRATEGIES, Strategy, WORDS, disk_of_a_map, held, imbalance, word};
use crate::prototype::{SHARDS, Workload, key_of};
use crate::shards::{Ask, Change, Document, Found, SearchShards, ShardLoad, open};
use crate::{KeyRule, Leveller, Planner, Routing, TenantIndex};
use lab::{Error, Frame, Progress, Result, Rng};

/// Where documents lie whose routing key is `key`: shard, tenant, documents.
pub(crate) fn place(
    documents: &[Document],
    routing: &Routing,
    key: impl Fn(&Document) -> Result<String>,
) -> Result<Frame> {
    let mut placed: BTreeMap<(usize, &str), u64> = BTreeMap::new();
    for document in documents {
        let shard = routing.shard_of(&key(document)?, document.id)?;
        *placed.entry((shard, &document.tenant)).or_default() += 1;
    }
    Ok(Frame::new()
        .counts("shard", "", placed.keys().map(|(shard, _)| *shard as u64))
        .text("tenant", placed.keys().map(|(_, tenant)| tenant))
        .counts("documents", "", placed.values().copied()))
}

/// Writes documents under the keys that a rule gives them, and refreshes.
pub(crate) fn write_all(shards: &dyn SearchShards, rule: &KeyRule, documents: &[Document]) -> Result<()> {
    for batch in documents.chunks(BATCH) {
        let put = |document: &Document| -> Result<Change> {
            Ok(Change::Put { routing: key_of(rule, document)?, document: document.clone() })
        };
        shards.write(&batch.iter().map(put).collect::<Result<Vec<_>>>()?)?;
    }
    shards.refresh()
}

/// Documents in one request.
const BATCH: usize = 500;
/// One search for so many documents of a tenant.
const DOCUMENTS_PER_SEARCH: u64 = 100;

/// Writes the README's workload with each strategy, and searches every tenant in proportion to its size.
///
/// A row for each strategy: `fullest ÷ mean` of the shards' documents and `busiest ÷ mean` of the time that they were busy writing,
/// refreshing, searching and being split; `shards asked` by a search on average; `usable capacity`, what all together can carry
/// before the busiest has no time left; `documents copied` to another shard; `busy, all shards`; and the `hits` of all searches. Also
/// where documents lie: `strategy`, `shard`, `tenant`, `documents`.
pub fn compare(documents: u64, seed: u64) -> Result<(Frame, Frame)> {
    const COMPARED: [&str; 6] =
        ["by document", "by tenant", "random k", "partition 4", "partition 4, unsplittable", "split by rate"];
    // What only the first to run would pay: files that are not cached, memory that is not there yet.
    let few = Workload::of_the_readme(documents / 4);
    index_and_search(STRATEGIES[1], &few, &few.documents(&mut Rng::seeded(seed, "warm-up")), seed)?;
    let workload = Workload::of_the_readme(documents);
    let documents = workload.documents(&mut Rng::seeded(seed, "documents"));
    let mut progress = Progress::new("writing and searching", COMPARED.len() as u64);
    let mut compared = <(Frame, Frame)>::default();
    for strategy in STRATEGIES.into_iter().filter(|(name, _)| COMPARED.contains(name)) {
        compared.extend([index_and_search(strategy, &workload, &documents, seed)?]);
        progress.step();
    }
    let hits = compared.0.samples("hits");
    if hits.min() < hits.max() {
        let cause = format!("the same searches found {:?} documents", hits.values());
        return Err(Error::new("compare the strategies", cause).remedy("give every arm equal work"));
    }
    Ok(compared)
}

/// One strategy's row, and where its documents lie.
fn index_and_search(
    (name, rule): Strategy,
    workload: &Workload,
    documents: &[Document],
    seed: u64,
) -> Result<(Frame, Frame)> {
    let rule = rule(workload, &mut Rng::seeded(seed, "random k"));
    let routing = rule.as_ref().unwrap_or(&KeyRule::ByTenant).routing(SHARDS)?;
    let shards: Arc<dyn SearchShards> = open(routing)?.into();
    let before = shards.loads()?;
    let mut copied = 0;
    let ((fan_out, hits), homes) = match rule {
        Some(rule) => {
            write_all(shards.as_ref(), &rule, documents)?;
            let search = |tenant: &str, word: &str| {
                let asks = rule.asks(tenant, &routing)?;
                let with_word: Vec<_> = asks.into_iter().map(|ask| Ask { word: Some(word.into()), ..ask }).collect();
                shards.search(&with_word)
            };
            (search_all(workload, seed, &search)?, place(documents, &routing, |document| key_of(&rule, document))?)
        }
        None => {
            let half_life = documents.len() as f64 / 40.0;
            let index = TenantIndex::open(shards.clone(), disk_of_a_map()?)?;
            let leveller = Leveller::new(index, Planner::default(), half_life)?;
            for (number, batch) in documents.chunks(BATCH).enumerate() {
                leveller.write(batch)?;
                if (number * BATCH) as f64 % half_life < BATCH as f64 && number > 0 {
                    copied += leveller.level()?.iter().map(|done| done.copied).sum::<u64>();
                }
            }
            leveller.index().refresh()?;
            let found = search_all(workload, seed, &|tenant, word| leveller.index().search(tenant, word))?;
            let map = leveller.index().map();
            (found, place(documents, &routing, |document| Ok(map.key_of(&document.tenant, document.id)))?)
        }
    };
    let loads = shards.loads()?;
    let (holds, says): (Vec<f64>, _) = (loads.iter().map(|load| load.documents as f64).collect(), held(&homes));
    // What arithmetic says and what the shards hold is the same, or the routing is not theirs.
    let check = format!("check what {name} has done");
    if holds != says {
        return Err(Error::new(check, format!("the shards hold {holds:?} documents, and the routing says {says:?}")));
    }
    let busy = |(now, then): (&ShardLoad, &ShardLoad)| now.busy.saturating_sub(then.busy).as_secs_f64();
    let busy: Vec<f64> = loads.iter().zip(&before).map(busy).collect();
    let all: f64 = busy.iter().sum();
    if all < 0.001 {
        return Err(Error::new(check, "no shard has been busy"));
    }
    let row = Frame::new()
        .text("strategy", [name])
        .numbers("shards asked", "", [fan_out])
        .numbers("fullest ÷ mean", "×", [imbalance(&holds)])
        .numbers("busiest ÷ mean", "×", [imbalance(&busy)])
        .numbers("usable capacity", "%", [100.0 / imbalance(&busy)])
        .counts("documents copied", "", [copied])
        .numbers("busy, all shards", "s", [all])
        .counts("hits", "", [hits]);
    Ok((row, homes.everywhere("strategy", "", name)))
}

/// The mean fan-out, and all hits.
fn search_all(workload: &Workload, seed: u64, search: &dyn Fn(&str, &str) -> Result<Found>) -> Result<(f64, u64)> {
    let mut searches: Vec<&str> = Vec::new();
    for (tenant, documents) in &workload.tenants {
        searches.extend((0..(documents / DOCUMENTS_PER_SEARCH).max(1)).map(|_| tenant.as_str()));
    }
    let mut rng = Rng::seeded(seed, "searches");
    rng.shuffle(&mut searches);
    let (mut asked, mut hits) = (0, 0);
    for tenant in &searches {
        let found = search(tenant, &word(rng.below(WORDS)))?;
        asked += found.shards;
        hits += found.hits.len() as u64;
    }
    Ok((asked as f64 / searches.len() as f64, hits))
}

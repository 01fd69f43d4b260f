//! The strategies on real shards: the same documents written, the same searches asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::key_rule::KeyRule;
use super::super::planner::Planner;
use super::super::shards::{Change, Document, Found, SearchShards, ShardLoad, open};
use super::super::{Leveller, TenantIndex};
use super::{Placed, Workload, disk_of_a_map, imbalance, number_of, random_split, seed, word};
use lab::chart::{Bars, Treemap};
use lab::{Chart, Error, OrFail, Progress, Result, Rng, Table};

/// What a strategy did to the shards.
#[derive(Debug, Clone)]
pub struct Arm {
    /// The strategy.
    pub name: String,
    /// Documents on each shard at the end.
    pub documents: Vec<f64>,
    /// Seconds that each shard was busy, writing, refreshing, searching and being split.
    pub busy: Vec<f64>,
    /// Shards that a search asked, on average.
    pub fan_out: f64,
    /// Hits of all searches.
    pub hits: u64,
    /// Documents that were copied to another shard.
    pub copied: u64,
    /// Documents of each tenant on each shard.
    pub placed: Placed,
}

impl Arm {
    /// The fullest shard's documents over the mean.
    pub fn documents_imbalance(&self) -> f64 {
        imbalance(&self.documents)
    }

    /// The busiest shard's time over the mean.
    pub fn busy_imbalance(&self) -> f64 {
        imbalance(&self.busy)
    }

    /// What all shards together can carry before the first of them has no time left, in per cent.
    pub fn usable_capacity(&self) -> f64 {
        100.0 / self.busy_imbalance()
    }
}

/// All arms.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// In the order in which a reader should meet them.
    pub arms: Vec<Arm>,
}

impl Comparison {
    /// Documents and busy time of each strategy, the fullest shard over the mean.
    pub fn chart(&self, title: &str) -> Bars {
        let mut chart = Chart::bars(title).y("fullest shard ÷ mean", "×");
        for arm in &self.arms {
            let (documents, busy) = (arm.documents_imbalance(), arm.busy_imbalance());
            chart = chart.group(&arm.name).bar("documents", documents).bar("busy time", busy);
        }
        chart
    }

    /// What each strategy costs, and what it is worth.
    pub fn table(&self, title: &str) -> Table {
        let figure = |of: fn(&Arm) -> f64| -> Vec<f64> { self.arms.iter().map(of).collect() };
        Table::new(title)
            .text("strategy", self.arms.iter().map(|arm| arm.name.as_str()))
            .numbers("shards asked a search", "", figure(|arm| arm.fan_out))
            .numbers("usable capacity", "%", figure(Arm::usable_capacity))
            .counts("documents copied", "", self.arms.iter().map(|arm| arm.copied))
            .numbers("busy, all shards", "s", figure(|arm| arm.busy.iter().sum()))
    }

    /// The arm of this name.
    pub fn arm(&self, name: &str) -> &Arm {
        let find = || {
            let names: Vec<&str> = self.arms.iter().map(|arm| arm.name.as_str()).collect();
            let arm = self.arms.iter().find(|arm| arm.name == name);
            arm.ok_or_else(|| Error::new(format!("find the arm {name:?}"), format!("there are {}", names.join(", "))))
        };
        find().or_fail()
    }
}

/// Writes the README's workload with each strategy, and searches every tenant in proportion to its size.
pub fn compare(documents: u64, seed: u64) -> Comparison {
    run(documents, seed).or_fail()
}

/// Documents in one request.
const BATCH: usize = 500;
/// One search for so many documents of a tenant.
const DOCUMENTS_PER_SEARCH: u64 = 100;

fn run(count: u64, seed: u64) -> Result<Comparison> {
    let workload = Workload::of_the_readme(count);
    let documents = workload.documents(&mut Rng::seeded(seed, "documents"));
    let random = random_split(&workload, &mut Rng::seeded(seed, "random k"));
    let strategies = [
        ("by document", KeyRule::ByDocument),
        ("by tenant", KeyRule::ByTenant),
        ("random k", KeyRule::RandomSplit(random)),
        ("partition 4", KeyRule::Partitioned(4)),
        ("partition 4, unsplittable", KeyRule::PartitionedUnsplittable(4)),
    ];
    // What only the first to run would pay: files that are not cached, memory that is not there yet.
    let few = Workload::of_the_readme(count / 4);
    let warm_up = few.documents(&mut Rng::seeded(seed, "warm-up"));
    remember_nothing("warm-up", &KeyRule::ByTenant, &few, &warm_up, seed)?;
    let mut progress = Progress::new("writing and searching", strategies.len() as u64 + 1);
    let mut arms = Vec::new();
    for (name, strategy) in strategies {
        arms.push(remember_nothing(name, &strategy, &workload, &documents, seed)?);
        progress.step();
    }
    arms.push(keep_level(&workload, &documents, seed)?);
    progress.step();
    let hits: Vec<u64> = arms.iter().map(|arm| arm.hits).collect();
    if hits.iter().any(|arm| *arm != hits[0]) {
        let cause = format!("the same searches found {hits:?} documents");
        return Err(Error::new("compare the strategies", cause).remedy("give every arm equal work"));
    }
    Ok(Comparison { arms })
}

fn remember_nothing(
    name: &str,
    strategy: &KeyRule,
    workload: &Workload,
    documents: &[Document],
    seed: u64,
) -> Result<Arm> {
    let routing = strategy.routing(seed::SHARDS)?;
    let shards = open(routing)?;
    let mut placed = Placed::new();
    let before = shards.loads()?;
    for batch in documents.chunks(BATCH) {
        let mut changes = Vec::with_capacity(batch.len());
        for document in batch {
            let routing_key = strategy.key_of(&document.tenant, number_of(document.id))?;
            let shard = routing.shard_of(&routing_key, document.id)?;
            *placed.entry((shard, document.tenant.clone())).or_default() += 1;
            changes.push(Change::Put { routing: routing_key, document: document.clone() });
        }
        shards.write(&changes)?;
    }
    shards.refresh()?;
    let search = |tenant: &str, word: &str| {
        let asks = strategy.asks(tenant, &routing)?;
        let with_word: Vec<_> = asks.into_iter().map(|ask| super::Ask { word: Some(word.into()), ..ask }).collect();
        shards.search(&with_word)
    };
    let (fan_out, hits) = search_all(workload, seed, &search)?;
    finish(name, shards.as_ref(), &before, fan_out, hits, 0, placed)
}

fn keep_level(workload: &Workload, documents: &[Document], seed: u64) -> Result<Arm> {
    let routing = KeyRule::ByTenant.routing(seed::SHARDS)?;
    let shards: Arc<dyn SearchShards> = open(routing)?.into();
    let before = shards.loads()?;
    let half_life = documents.len() as f64 / 40.0;
    let index = TenantIndex::open(shards.clone(), disk_of_a_map()?)?;
    let leveller = Leveller::new(index, Planner::default(), half_life)?;
    let mut copied = 0;
    for (number, batch) in documents.chunks(BATCH).enumerate() {
        leveller.write(batch)?;
        if (number * BATCH) as f64 % half_life < BATCH as f64 && number > 0 {
            copied += leveller.level()?.iter().map(|done| done.copied).sum::<u64>();
        }
    }
    leveller.index().refresh()?;
    let (fan_out, hits) = search_all(workload, seed, &|tenant, word| leveller.search(tenant, word))?;
    let mut placed = Placed::new();
    let map = leveller.index().map();
    for document in documents {
        let shard = routing.shard_of(&map.key_of(&document.tenant, document.id), document.id)?;
        *placed.entry((shard, document.tenant.clone())).or_default() += 1;
    }
    finish("split by rate", shards.as_ref(), &before, fan_out, hits, copied, placed)
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
        let found = search(tenant, &word(rng.below(super::WORDS)))?;
        asked += found.shards;
        hits += found.hits.len() as u64;
    }
    Ok((asked as f64 / searches.len() as f64, hits))
}

fn finish(
    name: &str,
    shards: &dyn SearchShards,
    before: &[ShardLoad],
    fan_out: f64,
    hits: u64,
    copied: u64,
    placed: Placed,
) -> Result<Arm> {
    let loads = shards.loads()?;
    let busy = |(now, then): (&ShardLoad, &ShardLoad)| now.busy.saturating_sub(then.busy).as_secs_f64();
    let documents: Vec<f64> = loads.iter().map(|load| load.documents as f64).collect();
    // What arithmetic says and what the shards hold is the same, or the routing is not theirs.
    if super::per_shard(&placed, documents.len())? != documents {
        let cause = format!("the shards hold {documents:?} documents, and the routing says otherwise");
        return Err(Error::new(format!("check the placement of {name:?}"), cause));
    }
    let busy: Vec<f64> = loads.iter().zip(before).map(busy).collect();
    if busy.iter().sum::<f64>() < Duration::from_millis(1).as_secs_f64() {
        return Err(Error::new(format!("measure {name:?}"), "no shard has been busy"));
    }
    Ok(Arm { name: name.to_string(), documents, busy, fan_out, hits, copied, placed })
}

/// A treemap of who lies where: a group for each shard, a tile for each hot tenant on it, one for all others.
pub fn tiles(title: &str, placed: &Placed, hot: usize) -> Treemap {
    let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
    for ((_, tenant), documents) in placed {
        *totals.entry(tenant).or_default() += documents;
    }
    let mut by_size: Vec<(&str, u64)> = totals.into_iter().collect();
    by_size.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.len().cmp(&b.0.len())).then_with(|| a.0.cmp(b.0)));
    let is_hot = |tenant: &str| by_size.iter().take(hot).any(|(name, _)| *name == tenant);
    // In the order of the shards, so that a shard has the same colour in every chart.
    let shards = placed.keys().map(|(shard, _)| shard + 1).max().unwrap_or(0);
    let mut chart = Chart::treemap(title).value("documents", "");
    for shard in 0..shards {
        let here = placed.range((shard, String::new())..(shard + 1, String::new()));
        let mut others = 0;
        for ((_, tenant), documents) in here {
            match is_hot(tenant) {
                true => chart = chart.tile(tenant, *documents, format!("shard {shard}")),
                false => others += documents,
            }
        }
        if others > 0 {
            chart = chart.tile("others", others, format!("shard {shard}"));
        }
    }
    chart
}

//! A tenant turns hot: how unlevel the shards get, and for how long.

use std::sync::Arc;

use super::super::planner::Planner;
use super::super::shards::{Document, SearchShards, open};
use super::super::{Leveller, Routing, TenantIndex};
use super::{disk_of_a_map, document, imbalance, seed};
use lab::chart::Lines;
use lab::{Chart, Error, OrFail, Progress, Result, Rng};

/// A load that changes, and how it is watched.
#[derive(Debug, Clone, Copy)]
pub struct TurnsHot {
    /// Tenants that are not hot, all alike.
    pub tenants: u64,
    /// Documents written before one turns hot.
    pub before: u64,
    /// Documents written after that.
    pub after: u64,
    /// The share of the writes that the hot one then has, from 0 to 1.
    pub share: f64,
    /// Documents after which an observation counts half.
    pub half_life: f64,
    /// Shares are taken over so many documents.
    pub window: u64,
}

/// What happened, along the documents written.
#[derive(Debug, Clone, Default)]
pub struct Story {
    /// Documents written (client's writes, plus copies where there are any), and the fullest shard's part of the last window
    /// over the mean.
    pub imbalance: Vec<(f64, f64)>,
    /// The same, per shard: its part of the window in per cent.
    pub shards: Vec<Vec<(f64, f64)>>,
    /// When something was re-split.
    pub resplits: Vec<f64>,
    /// Documents that were copied.
    pub copied: u64,
    /// When it turned hot.
    pub turned_hot: f64,
    /// The shard on which it begins.
    pub home: usize,
}

const HOT: &str = "the-hot-one";

impl Story {
    /// Documents from the turn until the shards were level, and stayed so to the end; infinite if never.
    pub fn level_after(&self, bound: f64) -> f64 {
        let last_unlevel = self.imbalance.iter().rposition(|(at, worst)| *at > self.turned_hot && *worst > bound);
        match last_unlevel {
            None => 0.0,
            Some(place) => self.imbalance.get(place + 1).map_or(f64::INFINITY, |(at, _)| at - self.turned_hot),
        }
    }

    /// Re-splits in the last third.
    pub fn late_resplits(&self) -> u64 {
        let (first, last) = match (self.imbalance.first(), self.imbalance.last()) {
            (Some(first), Some(last)) => (first.0, last.0),
            _ => return 0,
        };
        self.resplits.iter().filter(|at| **at > first + (last - first) * 2.0 / 3.0).count() as u64
    }

    /// How the parts of the writes went: of the shard where the hot tenant begins, and of the fullest and emptiest other.
    pub fn by_shard(&self, title: &str) -> Lines {
        let chart = Chart::lines(title).x("documents written or copied", "").y("share of the writes", "%").from_zero();
        let others: Vec<&Vec<(f64, f64)>> =
            self.shards.iter().enumerate().filter(|(shard, _)| *shard != self.home).map(|(_, line)| line).collect();
        let over = |pick: fn(f64, f64) -> f64| -> Vec<(f64, f64)> {
            let at = |window: usize| others.iter().filter_map(move |line| line.get(window).copied());
            let both = |a: (f64, f64), b: (f64, f64)| (a.0, pick(a.1, b.1));
            (0..self.imbalance.len()).filter_map(|window| at(window).reduce(both)).collect()
        };
        chart
            .line("its first shard", self.shards.get(self.home).cloned().unwrap_or_default())
            .line("fullest of the others", over(f64::max))
            .line("emptiest of the others", over(f64::min))
            .mark_x("turns hot", self.turned_hot)
    }

    /// The worst window.
    pub fn worst(&self) -> f64 {
        self.imbalance.iter().map(|(_, worst)| *worst).fold(0.0, f64::max)
    }

    /// The last quarter's mean.
    pub fn settled(&self) -> f64 {
        let last = &self.imbalance[self.imbalance.len() - self.imbalance.len() / 4..];
        last.iter().map(|(_, worst)| worst).sum::<f64>() / last.len() as f64
    }
}

/// Writes the load to real shards, levelling or not.
pub fn turns_hot(spec: &TurnsHot, levelling: bool, seed: u64) -> Story {
    run(spec, levelling, seed).or_fail()
}

const BATCH: u64 = 100;

fn run(spec: &TurnsHot, levelling: bool, seed: u64) -> Result<Story> {
    if spec.window < BATCH || spec.after < 4 * spec.window || spec.tenants == 0 || !(0.0..1.0).contains(&spec.share) {
        return Err(Error::new("turn a tenant hot", format!("{spec:?} is no load")));
    }
    let routing = Routing::new(seed::SHARDS)?;
    let shards: Arc<dyn SearchShards> = open(routing)?.into();
    let index = TenantIndex::open(shards, disk_of_a_map()?)?;
    let leveller = Leveller::new(index, Planner::default(), spec.half_life)?;
    let mut rng = Rng::seeded(seed, "a tenant turns hot");
    let home = routing.shard_of(HOT, 0)?;
    let mut story = Story { home, shards: vec![Vec::new(); seed::SHARDS as usize], ..Story::default() };
    let mut recent: std::collections::VecDeque<usize> = std::collections::VecDeque::new();
    let mut progress = Progress::new("writing while a tenant turns hot", spec.before + spec.after);
    let mut written = 0;
    while written < spec.before + spec.after {
        let hot = written >= spec.before;
        if hot && story.turned_hot == 0.0 {
            story.turned_hot = (written + story.copied) as f64;
        }
        let map = leveller.index().map();
        let mut batch: Vec<Document> = Vec::new();
        for number in written..written + BATCH {
            let tenant = match hot && rng.unit() < spec.share {
                true => HOT.to_string(),
                false => format!("tenant{}", rng.below(spec.tenants)),
            };
            recent.push_back(routing.shard_of(&map.key_of(&tenant, number), number)?);
            batch.push(document(number, &tenant, 1, &mut rng));
        }
        leveller.write(&batch)?;
        written += BATCH;
        progress.advance(BATCH);
        while recent.len() > spec.window as usize {
            recent.pop_front();
        }
        let at = (written + story.copied) as f64;
        if recent.len() == spec.window as usize {
            let mut loads = vec![0.0; seed::SHARDS as usize];
            recent.iter().for_each(|shard| loads[*shard] += 1.0);
            story.imbalance.push((at, imbalance(&loads)));
            for (line, load) in story.shards.iter_mut().zip(&loads) {
                line.push((at, 100.0 * load / spec.window as f64));
            }
        }
        // One look in a quarter of a half-life: sooner there is little new to see.
        let look = (spec.half_life / 4.0) as u64 / BATCH * BATCH;
        if levelling && written % look.max(BATCH) == 0 {
            let done = leveller.level()?;
            if !done.is_empty() {
                story.resplits.push(at);
            }
            story.copied += done.iter().map(|done| done.copied).sum::<u64>();
        }
    }
    leveller.index().refresh()?;
    Ok(story)
}

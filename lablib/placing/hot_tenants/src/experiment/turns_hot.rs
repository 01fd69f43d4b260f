//! A tenant turns hot: how unlevel the shards get, and for how long.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{disk_of_a_map, document, imbalance};
use crate::prototype::SHARDS;
use crate::shards::{Document, SearchShards, open};
use crate::{Leveller, Planner, Routing, TenantIndex};
use lab::{Error, Frame, Progress, Result, Rng, Samples};

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

const HOT: &str = "the-hot-one";
/// Documents in one request.
const BATCH: u64 = 100;
const FULLEST: &str = "fullest shard ÷ mean";

/// Writes the load to real shards, levelling or not. A row for each window of writes that has just ended: `written` since the tenant
/// turned hot (documents, and copies of them; below zero before that); of the window, the `fullest shard ÷ mean`, and the parts of `its
/// first shard` where the tenant began, and of the `fullest` and `emptiest of the others`; and how many tenants were then re-split.
pub fn turns_hot(spec: &TurnsHot, levelling: bool, seed: u64) -> Result<Frame> {
    if spec.window < BATCH || spec.after < 4 * spec.window || spec.tenants == 0 || !(0.0..1.0).contains(&spec.share) {
        return Err(Error::new("turn a tenant hot", format!("{spec:?} is no load")));
    }
    let routing = Routing::new(SHARDS)?;
    let shards: Arc<dyn SearchShards> = open(routing)?.into();
    let index = TenantIndex::open(shards, disk_of_a_map()?)?;
    let leveller = Leveller::new(index, Planner::default(), spec.half_life)?;
    let mut rng = Rng::seeded(seed, "a tenant turns hot");
    let home = routing.shard_of(HOT, 0)?;
    // One look in a quarter of a half-life: sooner there is little new to see.
    let look = ((spec.half_life / 4.0) as u64 / BATCH * BATCH).max(BATCH);
    let (mut recent, mut turned_hot, mut copied) = (VecDeque::new(), None, 0);
    let mut windows: Vec<[f64; 6]> = Vec::new();
    let mut progress = Progress::new("writing while a tenant turns hot", spec.before + spec.after);
    for written in (0..spec.before + spec.after).step_by(BATCH as usize) {
        let hot = written >= spec.before;
        if hot {
            turned_hot.get_or_insert(written + copied);
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
        progress.advance(BATCH);
        recent.drain(..recent.len().saturating_sub(spec.window as usize));
        let (at, mut resplits) = (written + BATCH + copied, 0);
        if levelling && (written + BATCH).is_multiple_of(look) {
            let done = leveller.level()?;
            resplits = done.len() as u64;
            copied += done.iter().map(|done| done.copied).sum::<u64>();
        }
        if recent.len() == spec.window as usize {
            let mut loads = vec![0.0; SHARDS as usize];
            recent.iter().for_each(|shard| loads[*shard] += 1.0);
            let (worst, first) = (imbalance(&loads), loads.remove(home));
            let others = Samples::from(loads);
            let [first, fullest, emptiest] =
                [first, others.max(), others.min()].map(|load| 100.0 * load / spec.window as f64);
            windows.push([at as f64, worst, first, fullest, emptiest, resplits as f64]);
        }
    }
    leveller.index().refresh()?;
    let turned_hot = turned_hot.unwrap_or(0) as f64;
    windows.iter_mut().for_each(|window| window[0] -= turned_hot);
    let columns = [
        ("written", ""),
        (FULLEST, "×"),
        ("its first shard", "%"),
        ("fullest of the others", "%"),
        ("emptiest of the others", "%"),
        ("re-splits", ""),
    ];
    Ok(columns.into_iter().enumerate().fold(Frame::new(), |frame, (at, (name, unit))| {
        frame.numbers(name, unit, windows.iter().map(|window| window[at]))
    }))
}

/// Documents from the turn until the shards were level, and stayed so to the end; infinite if never.
pub fn level_after(story: &Frame, bound: f64) -> f64 {
    let windows = story.points("written", FULLEST);
    match windows.iter().rposition(|(at, worst)| *at > 0.0 && *worst > bound) {
        None => 0.0,
        Some(place) => windows.get(place + 1).map_or(f64::INFINITY, |(at, _)| *at),
    }
}

/// The fullest shard over the mean, on average over the last quarter of the windows.
pub fn settled(story: &Frame) -> f64 {
    let all = story.samples(FULLEST);
    Samples::from(&all.values()[all.len() - all.len() / 4..]).mean()
}

/// Re-splits in the last third of the writes.
pub fn late_resplits(story: &Frame) -> f64 {
    let written = story.samples("written");
    let late = story.within("written", written.min() + (written.max() - written.min()) * 2.0 / 3.0..f64::INFINITY);
    late.samples("re-splits").values().iter().sum()
}

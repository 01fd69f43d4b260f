//! Which buckets should move where: as few as level the shards.

use std::collections::{BTreeMap, HashMap};

use super::rates::Rates;
use super::routing::Routing;
use super::shards::BUCKETS;
use super::split_map::{Split, SplitMap};
use lab::{Error, Result};

/// When shards are out of level, and what to do about it.
///
/// Loads are in shares of all load; a shard's fair share is one over their number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Planner {
    /// The fullest shard may have this many fair shares before anything moves …
    pub start_above: f64,
    /// … and is then brought down to this many. The gap keeps a load near the limit from moving data to and fro.
    pub level_to: f64,
    /// A tenant with this part of a fair share is hot: its buckets may move. Everybody else stays where the hash says.
    pub hot_above: f64,
    /// A split tenant below this part goes home.
    pub cold_below: f64,
}

impl Default for Planner {
    fn default() -> Self {
        Self { start_above: 1.3, level_to: 1.05, hot_above: 0.25, cold_below: 0.1 }
    }
}

/// A tenant's new split; none means whole, at home.
pub type Change = (String, Option<Split>);

/// The load of each shard, and of each hot tenant on it.
#[derive(Debug, Clone)]
struct Loads {
    shards: Vec<f64>,
    /// Hot tenants: share of the load, and the shard of each bucket.
    hot: BTreeMap<String, (f64, Vec<usize>)>,
}

/// What the load looks like: who is how hot, and how much each shard has of the tenants that are not split.
#[derive(Debug, Clone)]
pub struct Watch {
    rates: Rates,
    /// Decayed like the rates: operations on each shard of tenants that the map does not name.
    unsplit: Vec<f64>,
    unsplit_total: f64,
    fade: f64,
}

impl Watch {
    /// Watches the load on so many shards; see [`Rates::new`] for the rest.
    pub fn new(shards: usize, counters: usize, half_life: f64) -> Result<Self> {
        let rates = Rates::new(counters, half_life)?;
        Ok(Self { rates, unsplit: vec![0.0; shards], unsplit_total: 0.0, fade: 0.5_f64.powf(1.0 / half_life) })
    }

    /// One operation of a tenant.
    pub fn observe(&mut self, tenant: &str, map: &SplitMap, routing: &Routing) -> Result<()> {
        self.rates.observe(tenant);
        self.unsplit.iter_mut().for_each(|load| *load *= self.fade);
        self.unsplit_total = self.unsplit_total * self.fade + 1.0;
        if map.split_of(tenant).is_none() {
            for shard in routing.shards_of(tenant)? {
                self.unsplit[shard] += 1.0;
            }
        }
        Ok(())
    }

    /// A tenant is split from now on, or no longer: its part of the load is counted with the hot ones, or with the rest.
    pub fn moved(&mut self, tenant: &str, was_split: bool, is_split: bool, routing: &Routing) -> Result<()> {
        let load = self.rates.share(tenant) * self.unsplit_total;
        for shard in routing.shards_of(tenant)? {
            match (was_split, is_split) {
                (false, true) => self.unsplit[shard] = (self.unsplit[shard] - load).max(0.0),
                (true, false) => self.unsplit[shard] += load,
                _ => {}
            }
        }
        Ok(())
    }
}

impl Planner {
    /// The fullest shard's load, in fair shares, as far as it has been seen.
    pub fn imbalance(&self, map: &SplitMap, watch: &Watch, routing: &Routing) -> Result<f64> {
        let loads = self.loads(map, watch, routing)?;
        let sum: f64 = loads.shards.iter().sum();
        Ok(if sum > 0.0 { loads.fullest().1 * loads.shards.len() as f64 / sum } else { 1.0 })
    }

    /// The tenants whose split should change; none where the shards are level enough.
    pub fn plan(&self, map: &SplitMap, watch: &Watch, routing: &Routing) -> Result<Vec<Change>> {
        if !(self.level_to >= 1.0 && self.start_above > self.level_to && self.hot_above > self.cold_below) {
            let cause = "it must start above where it levels to, 1 or more, and be hot above where it is cold";
            return Err(Error::new("plan a split", cause));
        }
        let mut loads = self.loads(map, watch, routing)?;
        let before = loads.hot.clone();
        let fair = loads.shards.iter().sum::<f64>() / loads.shards.len() as f64;
        if fair > 0.0 && loads.fullest().1 > self.start_above * fair {
            loads.level(self.level_to * fair);
        }
        let mut changes = Vec::new();
        for (tenant, (share, shards)) in &loads.hot {
            if *share < self.cold_below * fair && map.split_of(tenant).is_some() {
                changes.push((tenant.clone(), None));
            } else if before.get(tenant).is_none_or(|(_, old)| old != shards) {
                changes.push((tenant.clone(), Some(Split::over(routing, tenant, shards)?)));
            }
        }
        Ok(changes)
    }

    fn loads(&self, map: &SplitMap, watch: &Watch, routing: &Routing) -> Result<Loads> {
        let count = routing.primaries() as usize;
        let mut loads = Loads { shards: vec![0.0; count], hot: BTreeMap::new() };
        if watch.unsplit_total > 0.0 {
            loads.shards = watch.unsplit.iter().map(|load| load / watch.unsplit_total).collect();
        }
        let shares: HashMap<&str, f64> = watch.rates.heaviest().into_iter().collect();
        let split = map.tenants().map(|(tenant, _)| tenant);
        let hot = shares.iter().filter(|(_, share)| **share > self.hot_above / count as f64).map(|(tenant, _)| *tenant);
        for tenant in split.chain(hot) {
            if loads.hot.contains_key(tenant) {
                continue;
            }
            let share = shares.get(tenant).copied().unwrap_or(0.0);
            let shard = |bucket| -> Result<usize> {
                Ok(routing.shards_of(&map.key_of_bucket(tenant, bucket))?.first().copied().unwrap_or(0))
            };
            let homes = (0..BUCKETS).map(shard).collect::<Result<Vec<_>>>()?;
            if map.split_of(tenant).is_none() {
                // It is in the load of its home already, as one of many.
                loads.shards[homes[0]] = (loads.shards[homes[0]] - share).max(0.0);
            }
            for home in &homes {
                loads.shards[*home] += share / f64::from(BUCKETS);
            }
            loads.hot.insert(tenant.to_string(), (share, homes));
        }
        Ok(loads)
    }
}

impl Loads {
    fn fullest(&self) -> (usize, f64) {
        let by_load = |a: &(usize, &f64), b: &(usize, &f64)| a.1.total_cmp(b.1).then_with(|| b.0.cmp(&a.0));
        self.shards.iter().enumerate().max_by(by_load).map_or((0, 0.0), |(shard, load)| (shard, *load))
    }

    /// Moves buckets from shards above `target` to shards below it, until none is above or nothing helps.
    fn level(&mut self, target: f64) {
        let mut given_up = vec![false; self.shards.len()];
        loop {
            let over = (0..self.shards.len()).filter(|shard| !given_up[*shard] && self.shards[*shard] > target);
            let Some(from) = over.max_by(|a, b| self.shards[*a].total_cmp(&self.shards[*b])) else { return };
            given_up[from] = !self.relieve(from, target);
        }
    }

    /// One move off a shard: a tenant's whole part where it fits elsewhere, else as many buckets as fit.
    fn relieve(&mut self, from: usize, target: f64) -> bool {
        let excess = self.shards[from] - target;
        // Every hot tenant's part of this shard: what it weighs, a bucket of it, and how many they are.
        let mut parts: Vec<(String, f64, usize)> = self
            .hot
            .iter()
            .map(|(tenant, (share, homes))| {
                let here = homes.iter().filter(|home| **home == from).count();
                (tenant.clone(), share / f64::from(BUCKETS), here)
            })
            .filter(|(_, weight, here)| *here > 0 && *weight > 0.0)
            .collect();
        let size = |part: &(String, f64, usize)| part.1 * part.2 as f64;
        // The lightest first: the lightest part that ends the excess moves least.
        parts.sort_by(|a, b| size(a).total_cmp(&size(b)));
        let room = |loads: &Self, to: usize| target - loads.shards[to];
        // Whole, so that its reads fan out no further.
        for part in parts.iter().filter(|part| size(part) >= excess) {
            let fits = (0..self.shards.len()).filter(|to| *to != from && room(self, *to) >= size(part));
            // The fullest that still has room leaves the largest gaps for others.
            if let Some(to) = fits.min_by(|a, b| room(self, *a).total_cmp(&room(self, *b))) {
                return self.shift(&part.0, from, to, part.2);
            }
        }
        // In parts: the heaviest, to where it lives already, else to where there is most room.
        let Some((tenant, weight, here)) = parts.pop() else { return false };
        let lives = |loads: &Self, to: usize| loads.hot.get(&tenant).is_some_and(|(_, homes)| homes.contains(&to));
        let open = (0..self.shards.len()).filter(|to| *to != from && room(self, *to) >= weight);
        let best = |a: &usize, b: &usize| {
            lives(self, *a).cmp(&lives(self, *b)).then(room(self, *a).total_cmp(&room(self, *b)))
        };
        let Some(to) = open.max_by(best) else { return false };
        let wanted = (excess / weight).ceil() as usize;
        let fitting = (room(self, to) / weight) as usize;
        self.shift(&tenant, from, to, wanted.min(fitting).min(here).max(1))
    }

    fn shift(&mut self, tenant: &str, from: usize, to: usize, buckets: usize) -> bool {
        let Some((share, homes)) = self.hot.get_mut(tenant) else { return false };
        for home in homes.iter_mut().filter(|home| **home == from).take(buckets) {
            *home = to;
        }
        let weight = *share / f64::from(BUCKETS) * buckets as f64;
        self.shards[from] -= weight;
        self.shards[to] += weight;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab::Rng;

    /// Ten shards with something on them, and a few tenants whose buckets lie anywhere.
    fn some_loads(rng: &mut Rng) -> Loads {
        let mut loads = Loads { shards: (0..10).map(|_| rng.unit()).collect(), hot: BTreeMap::new() };
        for tenant in 0..1 + rng.below(6) {
            let (share, shards) = (rng.unit() * 8.0, 1 + rng.below(4));
            let first = rng.below(10);
            let homes: Vec<usize> = (0..u64::from(BUCKETS)).map(|b| ((first + b % shards) % 10) as usize).collect();
            homes.iter().for_each(|home| loads.shards[*home] += share / f64::from(BUCKETS));
            loads.hot.insert(format!("tenant{tenant}"), (share, homes));
        }
        loads
    }

    #[test]
    fn only_buckets_of_shards_above_the_target_move_and_no_shard_is_pushed_above_it() {
        let mut rng = Rng::seeded(5, "loads");
        let mut moved = 0;
        for _ in 0..500 {
            let before = some_loads(&mut rng);
            let mut after = before.clone();
            let target = before.shards.iter().sum::<f64>() / 10.0 * (1.0 + rng.unit() / 5.0);
            after.level(target);
            for (tenant, (_, homes)) in &after.hot {
                for (from, _) in before.hot[tenant].1.iter().zip(homes).filter(|(from, to)| from != to) {
                    assert!(before.shards[*from] > target, "{from} did not have too much");
                    moved += 1;
                }
            }
            for (shard, (now, then)) in after.shards.iter().zip(&before.shards).enumerate() {
                assert!(*now <= then.max(target) + 1e-9, "shard {shard} got worse: {then} to {now}, of {target}");
            }
            // The books are right: what a shard has is what lies on it.
            let hot_on = |loads: &Loads, shard: usize| -> f64 {
                let part = |(share, homes): &(f64, Vec<usize>)| {
                    share * homes.iter().filter(|home| **home == shard).count() as f64 / f64::from(BUCKETS)
                };
                loads.hot.values().map(part).sum()
            };
            for shard in 0..10 {
                let cold = |loads: &Loads| loads.shards[shard] - hot_on(loads, shard);
                assert!((cold(&before) - cold(&after)).abs() < 1e-9);
            }
        }
        assert!(moved > 10_000, "{moved}");
    }
}

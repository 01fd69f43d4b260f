//! Which shard holds a user: the prototype's parity, modulo N, and logical slots with a map.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use lab::{Error, Result};

/// A logical slot: the unit that is owned, moved and fenced.
pub type Slot = u16;

/// The slot of a user, out of so many; 0 where there are none.
///
/// Hashed, because ids carry patterns: a ticket server steps by two, a snowflake's low bits stay zero when it is idle.
pub fn slot_of(user: u64, slots: Slot) -> Slot {
    (xxh3_64(&user.to_le_bytes()) % u64::from(slots.max(1))) as Slot
}

/// Says which of its shards holds a user.
pub trait Route {
    /// The shard, counted from 0.
    fn shard_of(&self, user: u64) -> usize;

    /// How many shards there are.
    fn shards(&self) -> usize;

    /// How many of these users each shard holds.
    fn count(&self, users: impl IntoIterator<Item = u64>) -> Vec<u64>
    where
        Self: Sized,
    {
        let mut counts = vec![0; self.shards()];
        for user in users {
            if let Some(count) = counts.get_mut(self.shard_of(user)) {
                *count += 1;
            }
        }
        counts
    }
}

/// The prototype's: even ids to the first shard, odd ids to the second. A third shard is impossible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parity;

impl Route for Parity {
    fn shard_of(&self, user: u64) -> usize {
        (user % 2) as usize
    }

    fn shards(&self) -> usize {
        2
    }
}

/// `id mod n`: as many shards as one likes, and another number of them moves most users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modulo {
    shards: u64,
}

impl Modulo {
    /// Over so many shards, at least one.
    pub fn new(shards: usize) -> Result<Self> {
        match shards {
            0 => Err(Error::new("place users", "there are no shards").remedy("name at least one")),
            shards => Ok(Self { shards: shards as u64 }),
        }
    }
}

impl Route for Modulo {
    fn shard_of(&self, user: u64) -> usize {
        (user % self.shards) as usize
    }

    fn shards(&self) -> usize {
        self.shards as usize
    }
}

/// The share of these users, in per cent, whose shard is another one in `after`.
pub fn moved_share(before: &impl Route, after: &impl Route, users: impl IntoIterator<Item = u64>) -> f64 {
    let (mut moved, mut all) = (0_u64, 0_u64);
    for user in users {
        moved += u64::from(before.shard_of(user) != after.shard_of(user));
        all += 1;
    }
    100.0 * moved as f64 / all as f64
}

/// An instance and its weight: one of weight 2 owns twice the slots of one of weight 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weight {
    /// The instance.
    pub name: String,
    /// At least 1.
    pub weight: u32,
}

impl Weight {
    /// Instances of equal weight.
    pub fn equal<T: Into<String>>(names: impl IntoIterator<Item = T>) -> Vec<Self> {
        names.into_iter().map(|name| Self { name: name.into(), weight: 1 }).collect()
    }
}

/// Who owns a slot, and since which hand-over of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) name: String,
    pub(crate) epoch: u64,
}

/// The map that clients keep: the owner of every slot, as of a version of the directory.
///
/// ```
/// use sharding::{SlotMap, Weight};
///
/// let map = SlotMap::level(1_024, &Weight::equal(["A", "B"])).unwrap();
/// let transfers = map.plan(&Weight::equal(["A", "B", "C", "D"])).unwrap();
/// assert_eq!(transfers.len(), 512); // half of the slots have to move, and no more do
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotMap {
    pub(crate) owners: Vec<Owner>,
    pub(crate) version: u64,
}

/// A slot that is to move.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Transfer {
    /// Its owner.
    pub from: String,
    /// Its next owner.
    pub to: String,
    /// The slot.
    pub slot: Slot,
}

impl SlotMap {
    /// Slots shared out by weight, in runs.
    pub fn level(slots: Slot, instances: &[Weight]) -> Result<Self> {
        if slots == 0 {
            return Err(Error::new("share out the slots", "there are none").remedy("1,024 suit most"));
        }
        let quotas = quotas(slots, instances, &BTreeMap::new())?;
        let runs = instances.iter().flat_map(|Weight { name, .. }| {
            let run = quotas.get(name).copied().unwrap_or(0);
            std::iter::repeat_n(Owner { name: name.clone(), epoch: 1 }, run)
        });
        Ok(Self { owners: runs.collect(), version: 1 })
    }

    /// How many slots there are.
    pub fn slots(&self) -> Slot {
        self.owners.len() as Slot
    }

    /// The owner of a slot; empty where there is no such slot.
    pub fn owner(&self, slot: Slot) -> &str {
        self.owners.get(usize::from(slot)).map_or("", |owner| &owner.name)
    }

    /// The owner of a user.
    pub fn owner_of(&self, user: u64) -> &str {
        self.owner(slot_of(user, self.slots()))
    }

    /// How many slots each owner has.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for owner in &self.owners {
            *counts.entry(owner.name.clone()).or_default() += 1;
        }
        counts
    }

    /// What has to move so that these instances own all slots by their weights: no slot more than that takes.
    pub fn plan(&self, instances: &[Weight]) -> Result<Vec<Transfer>> {
        let mut held: BTreeMap<String, Vec<Slot>> = BTreeMap::new();
        for (slot, owner) in (0..).zip(&self.owners) {
            held.entry(owner.name.clone()).or_default().push(slot);
        }
        let counts = held.iter().map(|(name, slots)| (name.clone(), slots.len())).collect();
        let quotas = quotas(self.slots(), instances, &counts)?;
        let mut spare: Vec<(String, Slot)> = Vec::new();
        for (name, slots) in &held {
            let keep = quotas.get(name).copied().unwrap_or(0).min(slots.len());
            spare.extend(slots[keep..].iter().map(|&slot| (name.clone(), slot)));
        }
        let mut spare = spare.into_iter();
        let mut transfers = Vec::new();
        for Weight { name, .. } in instances {
            let wanted = quotas.get(name).copied().unwrap_or(0).saturating_sub(held.get(name).map_or(0, Vec::len));
            let taken = spare.by_ref().take(wanted);
            transfers.extend(taken.map(|(from, slot)| Transfer { from, to: name.clone(), slot }));
        }
        transfers.sort();
        Ok(transfers)
    }

    /// What to move so that the instances' loads are as level as whole slots allow: again and again, from the busiest
    /// instance to the idlest, the slot that brings the two closest together.
    pub fn plan_by_load(&self, loads: &[f64], instances: &[Weight]) -> Result<Vec<Transfer>> {
        check(instances)?;
        let mut owners: Vec<usize> = Vec::new();
        for owner in &self.owners {
            let place = instances.iter().position(|instance| instance.name == owner.name);
            let missing = || {
                Error::new("level the load", format!("{} owns slots and is not among the instances", owner.name))
                    .remedy("plan its leaving first")
            };
            owners.push(place.ok_or_else(missing)?);
        }
        let load_of = |slot: usize| loads.get(slot).copied().unwrap_or(0.0);
        let mut totals = vec![0.0; instances.len()];
        for (slot, &owner) in owners.iter().enumerate() {
            totals[owner] += load_of(slot) / f64::from(instances[owner].weight);
        }
        let before = owners.clone();
        // A hand-over for less than this is not worth its commits.
        let worth = totals.iter().sum::<f64>() / totals.len() as f64 / 1_000.0;
        for _ in 0..owners.len() {
            let by_load = |a: &&usize, b: &&usize| totals[**a].total_cmp(&totals[**b]);
            let all: Vec<usize> = (0..totals.len()).collect();
            let (Some(&from), Some(&to)) = (all.iter().max_by(by_load), all.iter().min_by(by_load)) else { break };
            let [from_weight, to_weight] = [from, to].map(|instance| f64::from(instances[instance].weight));
            let gap = totals[from] - totals[to];
            // What the busier of the two would have afterwards, for each slot that could go.
            let after = |slot: usize| {
                let load = load_of(slot);
                (totals[from] - load / from_weight).max(totals[to] + load / to_weight)
            };
            let best = (0..owners.len())
                .filter(|&slot| owners[slot] == from && load_of(slot) > 0.0)
                .min_by(|&a, &b| after(a).total_cmp(&after(b)));
            let Some(slot) = best.filter(|&slot| totals[from] - after(slot) > worth.min(gap / 2.0).max(1e-9)) else {
                break;
            };
            totals[from] -= load_of(slot) / from_weight;
            totals[to] += load_of(slot) / to_weight;
            owners[slot] = to;
        }
        let name = |index: usize| instances[index].name.clone();
        let moved = (0..owners.len()).filter(|&slot| owners[slot] != before[slot]);
        let mut transfers: Vec<Transfer> = moved
            .map(|slot| Transfer { from: name(before[slot]), to: name(owners[slot]), slot: slot as Slot })
            .collect();
        transfers.sort();
        Ok(transfers)
    }

    /// The map after these transfers.
    pub fn after(&self, transfers: &[Transfer]) -> Self {
        let mut map = self.clone();
        for transfer in transfers {
            if let Some(owner) = map.owners.get_mut(usize::from(transfer.slot)) {
                *owner = Owner { name: transfer.to.clone(), epoch: owner.epoch + 1 };
            }
        }
        map
    }

    /// The map as a route over these instances.
    pub fn route(&self, instances: &[Weight]) -> impl Route + use<> {
        let place = |owner: &Owner| instances.iter().position(|instance| instance.name == owner.name);
        SlotRoute {
            // Whoever is not among them is none of them: one past the last.
            shards: self.owners.iter().map(|owner| place(owner).unwrap_or(instances.len())).collect(),
            count: instances.len(),
        }
    }
}

struct SlotRoute {
    shards: Vec<usize>,
    count: usize,
}

impl Route for SlotRoute {
    fn shard_of(&self, user: u64) -> usize {
        self.shards[usize::from(slot_of(user, self.shards.len() as Slot))]
    }

    fn shards(&self) -> usize {
        self.count
    }
}

/// Refuses lists of instances that nothing can be shared out over.
pub(crate) fn check(instances: &[Weight]) -> Result<()> {
    let wrong = |cause: String, remedy: &str| Err(Error::new("share out the slots", cause).remedy(remedy));
    let mut seen = BTreeSet::new();
    for Weight { name, weight } in instances {
        if name.trim().is_empty() {
            return wrong("an instance has no name".into(), "name each of them");
        }
        if *weight == 0 {
            return wrong(format!("{name} has weight 0"), "leave it out of the list to take its slots away");
        }
        if !seen.insert(name) {
            return wrong(format!("{name} is named twice"), "name each instance once");
        }
    }
    match instances.is_empty() {
        true => wrong("there are no instances".into(), "name at least one"),
        false => Ok(()),
    }
}

/// Whole slots by weight: the largest remainders get the rest, of equal ones whoever has more already (so that less moves).
fn quotas(slots: Slot, instances: &[Weight], held: &BTreeMap<String, usize>) -> Result<BTreeMap<String, usize>> {
    check(instances)?;
    if instances.len() > usize::from(slots) {
        let cause = format!("there are {} instances and only {slots} slots", instances.len());
        return Err(
            Error::new("share out the slots", cause).remedy("make more slots than there will ever be instances")
        );
    }
    let total: u64 = instances.iter().map(|instance| u64::from(instance.weight)).sum();
    let exact = |weight: u32| u64::from(slots) * u64::from(weight);
    let mut quotas: BTreeMap<String, usize> =
        instances.iter().map(|i| (i.name.clone(), (exact(i.weight) / total) as usize)).collect();
    let rest = usize::from(slots) - quotas.values().sum::<usize>();
    let mut order: Vec<&Weight> = instances.iter().collect();
    order.sort_by_key(|i| {
        let holds = held.get(&i.name).copied().unwrap_or(0);
        (std::cmp::Reverse(exact(i.weight) % total), std::cmp::Reverse(holds))
    });
    for instance in order.into_iter().take(rest) {
        *quotas.entry(instance.name.clone()).or_default() += 1;
    }
    Ok(quotas)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_users_slot_never_changes() {
        // Golden: another hash, or another seed of it, would lose every user.
        let slots: Vec<Slot> = [0, 1, 2, 1_000_000, u64::MAX].map(|user| slot_of(user, 1_024)).to_vec();
        assert_eq!(slots, GOLDEN);
        assert_eq!(slot_of(7, 0), 0);
    }

    const GOLDEN: [Slot; 5] = [217, 302, 579, 352, 19];

    #[test]
    fn lists_that_cannot_be_shared_out_over_are_refused_in_one_sentence() {
        let error = |instances: &[Weight]| SlotMap::level(16, instances).unwrap_err().to_string();
        assert!(error(&[]).contains("there are no instances"));
        assert!(error(&Weight::equal(["A", " "])).contains("no name"));
        assert!(error(&Weight::equal(["A", "B", "A"])).contains("A is named twice"));
        assert!(error(&[Weight { name: "A".into(), weight: 0 }]).contains("weight 0"));
        assert!(error(&Weight::equal((0..17).map(|n| n.to_string()))).contains("only 16 slots"));
        assert!(SlotMap::level(0, &Weight::equal(["A"])).is_err());
        assert!(Modulo::new(0).is_err());
    }

    #[test]
    fn weights_decide_the_shares() {
        let weights = [Weight { name: "small".into(), weight: 1 }, Weight { name: "large".into(), weight: 3 }];
        let counts = SlotMap::level(1_024, &weights).unwrap().counts();
        assert_eq!((counts["small"], counts["large"]), (256, 768));
    }

    #[test]
    fn one_hot_slot_is_left_alone_and_the_others_move_away() {
        let two = Weight::equal(["A", "B"]);
        let map = SlotMap::level(4, &two).unwrap();
        let transfers = map.plan_by_load(&[60.0, 20.0, 10.0, 10.0], &two).unwrap();
        assert_eq!(transfers, [Transfer { from: "A".into(), to: "B".into(), slot: 1 }]);
        assert_eq!(map.plan_by_load(&[100.0, 0.0, 0.0, 0.0], &two).unwrap(), []);
    }
}

//! Which instance holds a user: logical slots with a map, and what has to move when there are others.

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
            std::iter::repeat_n(Owner { name: name.clone(), epoch: 1 }, run as usize)
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
        let held = self.counts();
        let quotas = quotas(self.slots(), instances, &held)?;
        let quota = |name: &str| quotas.get(name).copied().unwrap_or(0);
        let (mut kept, mut spare) = (BTreeMap::<&str, u64>::new(), Vec::new());
        for (slot, Owner { name, .. }) in (0..).zip(&self.owners) {
            let kept = kept.entry(name).or_default();
            *kept += 1;
            if *kept > quota(name) {
                spare.push((name, slot));
            }
        }
        spare.sort_unstable();
        let (mut spare, mut transfers) = (spare.into_iter(), Vec::new());
        for Weight { name, .. } in instances {
            let wanted = quota(name).saturating_sub(held.get(name).copied().unwrap_or(0));
            let taken = spare.by_ref().take(wanted as usize);
            transfers.extend(taken.map(|(from, slot)| Transfer { from: from.clone(), to: name.clone(), slot }));
        }
        transfers.sort();
        Ok(transfers)
    }

    /// What to move so that the instances' loads are as level as whole slots allow: again and again, from the busiest
    /// instance to the idlest, the slot that brings the two closest together.
    pub fn plan_by_load(&self, loads: &[f64], instances: &[Weight]) -> Result<Vec<Transfer>> {
        check(instances)?;
        let place = |owner: &Owner| {
            let missing =
                || Error::new("level the load", format!("{} owns slots and is not among the instances", owner.name));
            let place = instances.iter().position(|instance| instance.name == owner.name);
            place.ok_or_else(|| missing().remedy("plan its leaving first"))
        };
        let mut owners = self.owners.iter().map(place).collect::<Result<Vec<usize>>>()?;
        let load = |slot: usize, instance: usize| {
            loads.get(slot).copied().unwrap_or(0.0) / f64::from(instances[instance].weight)
        };
        let mut totals = vec![0.0; instances.len()];
        owners.iter().enumerate().for_each(|(slot, &owner)| totals[owner] += load(slot, owner));
        // A hand-over for less than this is not worth its commits.
        let worth = totals.iter().sum::<f64>() / totals.len() as f64 / 1_000.0;
        for _ in 0..owners.len() {
            let by_load = |a: &usize, b: &usize| totals[*a].total_cmp(&totals[*b]);
            let all = 0..totals.len();
            let (Some(from), Some(to)) = (all.clone().max_by(by_load), all.min_by(by_load)) else { break };
            let worth = worth.min((totals[from] - totals[to]) / 2.0).max(1e-9);
            // What the busier of the two would have afterwards, for each slot that could go.
            let after = |slot: usize| (totals[from] - load(slot, from)).max(totals[to] + load(slot, to));
            let could_go = (0..owners.len()).filter(|&slot| owners[slot] == from && load(slot, from) > 0.0);
            let best = could_go.min_by(|&a, &b| after(a).total_cmp(&after(b)));
            let Some(slot) = best.filter(|&slot| totals[from] - after(slot) > worth) else { break };
            totals[from] -= load(slot, from);
            totals[to] += load(slot, to);
            owners[slot] = to;
        }
        let moved = (0..).zip(self.owners.iter().zip(owners)).map(|(slot, (owner, next))| Transfer {
            from: owner.name.clone(),
            to: instances[next].name.clone(),
            slot,
        });
        let mut transfers: Vec<Transfer> = moved.filter(|transfer| transfer.from != transfer.to).collect();
        transfers.sort();
        Ok(transfers)
    }

    /// Learns who owns a slot, where that is news; otherwise false.
    pub(crate) fn learn(&mut self, slot: Slot, owner: Owner) -> bool {
        let known = self.owners.get_mut(usize::from(slot)).filter(|known| known.epoch < owner.epoch);
        known.map(|known| *known = owner).is_some()
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
fn quotas(slots: Slot, instances: &[Weight], held: &BTreeMap<String, u64>) -> Result<BTreeMap<String, u64>> {
    check(instances)?;
    if instances.len() > usize::from(slots) {
        let cause = format!("there are {} instances and only {slots} slots", instances.len());
        let error = Error::new("share out the slots", cause);
        return Err(error.remedy("make more slots than there will ever be instances"));
    }
    let total: u64 = instances.iter().map(|instance| u64::from(instance.weight)).sum();
    let exact = |instance: &Weight| u64::from(slots) * u64::from(instance.weight);
    let mut quotas: BTreeMap<_, _> = instances.iter().map(|i| (i.name.clone(), exact(i) / total)).collect();
    let rest = u64::from(slots) - quotas.values().sum::<u64>();
    let mut order: Vec<&Weight> = instances.iter().collect();
    order.sort_by_key(|i| std::cmp::Reverse((exact(i) % total, held.get(&i.name).copied().unwrap_or(0))));
    for instance in order.into_iter().take(rest as usize) {
        *quotas.entry(instance.name.clone()).or_default() += 1;
    }
    Ok(quotas)
}

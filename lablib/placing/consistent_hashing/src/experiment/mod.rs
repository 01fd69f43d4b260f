//! What happens to keys when shards come and go, grow hot, or die.

mod dead_node;
mod hot_key;
mod level;
mod lookups;
mod moves;

pub use dead_node::{Death, DeathSpec};
pub use hot_key::{HotKey, hot_key};
pub use level::{
    empty, keys_on_bounded, keys_on_each, largest_error, level, predicted_fullest, predicted_spread, spread,
};
pub use lookups::{changes, field, lookups};
pub use moves::{
    ChurnSpec, Movement, churn, joined_with_fixed_names, modulo_moves, modulo_moves_at_best, predicted_share_below,
};

use std::collections::HashSet;
use std::fmt;

use super::{BoundedLoads, Jump, Ketama, KeyHash, Maglev, Modulo, Placement, Rendezvous, Ring};
use crate::prototype::RingByPosition;
use lab::Result;

/// `key-0`, `key-1`, …: the prototype's keys.
pub fn keys(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("key-{index}")).collect()
}

/// `shard-0`, `shard-1`, …: the prototype's shards.
pub fn shards(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("shard-{index}")).collect()
}

/// The placements under comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scheme {
    /// `hash(key) mod n`.
    Modulo,
    /// The ring, with so many virtual nodes for each shard.
    Ring(u32),
    /// The ring by XXH3 instead of MD5.
    FastRing(u32),
    /// The ring with one step broken: a shard's points are named after its place in the list, not after the shard.
    RingByPosition(u32),
    /// memcached's ring.
    Ketama,
    /// Highest random weight.
    Rendezvous,
    /// Jump hashing.
    Jump,
    /// Maglev's table.
    Maglev,
    /// A ring of 100 virtual nodes whose nodes hold no more than (1 + this) times their share.
    Bounded(f64),
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Modulo => f.write_str("modulo"),
            Self::Ring(points) => write!(f, "ring, {points} points"),
            Self::FastRing(points) => write!(f, "ring by XXH3, {points} points"),
            Self::RingByPosition(_) => f.write_str("ring by position"),
            Self::Ketama => f.write_str("ketama"),
            Self::Rendezvous => f.write_str("rendezvous"),
            Self::Jump => f.write_str("jump"),
            Self::Maglev => f.write_str("maglev"),
            Self::Bounded(slack) => write!(f, "bounded loads, {slack}"),
        }
    }
}

impl Scheme {
    /// How many points a node has, where it has some.
    pub fn points(self) -> Option<u32> {
        match self {
            Self::Ring(points) | Self::FastRing(points) | Self::RingByPosition(points) => Some(points),
            _ => None,
        }
    }

    /// This placement over these nodes.
    pub fn place(self, nodes: &[String]) -> Result<Box<dyn Placement>> {
        Ok(match self {
            Self::Modulo => Box::new(Modulo::new(nodes)?),
            Self::Ring(virtual_nodes) => Box::new(Ring::new(nodes, virtual_nodes)?),
            Self::FastRing(virtual_nodes) => Box::new(Ring::hashed(KeyHash::Xxh3, nodes, virtual_nodes)?),
            Self::RingByPosition(virtual_nodes) => Box::new(RingByPosition::new(nodes, virtual_nodes)?),
            Self::Ketama => Box::new(Ketama::new(nodes)?),
            Self::Rendezvous => Box::new(Rendezvous::new(nodes)?),
            Self::Jump => Box::new(Jump::new(nodes)?),
            Self::Maglev => Box::new(Maglev::new(nodes)?),
            Self::Bounded(slack) => Box::new(BoundedLoads::new(Ring::hashed(KeyHash::Xxh3, nodes, 100)?, slack)?),
        })
    }

    /// This placement over each of these sets of nodes, one after the other.
    ///
    /// Built anew each time, because a placement depends on the set of its nodes alone; except jump, whose list remembers how it
    /// came about, and maglev, whose table keeps its size.
    fn through<const N: usize>(self, sets: [&[String]; N]) -> Result<Vec<Box<dyn Placement>>> {
        let first = sets.first().copied().unwrap_or_default();
        match self {
            Self::Jump => jump_through(&sets),
            Self::Maglev => {
                let entries = Maglev::entries_for(first.len());
                let table = |set: &&[String]| -> Result<Box<dyn Placement>> {
                    Ok(Box::new(Maglev::with_entries(set.iter(), entries)?))
                };
                sets.iter().map(table).collect()
            }
            _ => sets.iter().map(|set| self.place(set)).collect(),
        }
    }
}

fn jump_through(sets: &[&[String]]) -> Result<Vec<Box<dyn Placement>>> {
    let mut jump = Jump::new(sets.first().copied().unwrap_or_default())?;
    let mut steps: Vec<Box<dyn Placement>> = vec![Box::new(jump.clone())];
    for pair in sets.windows(2) {
        let (before, after): (HashSet<_>, HashSet<_>) = (pair[0].iter().collect(), pair[1].iter().collect());
        pair[0].iter().filter(|node| !after.contains(node)).try_for_each(|node| jump.remove(node))?;
        pair[1].iter().filter(|node| !before.contains(node)).try_for_each(|node| jump.add(node.into()))?;
        steps.push(Box::new(jump.clone()));
    }
    Ok(steps)
}

//! What happens to keys when shards come and go, grow hot, or die.

mod balance;
mod by_position;
mod churn;
mod dead_node;
mod hot_key;
mod lookups;

pub use balance::{
    Balance, Evenness, Level, largest_error, predicted_fullest, predicted_spread, spread_by_virtual_nodes,
};
pub use churn::{
    Churn, ChurnSpec, Movement, joined_with_fixed_names, modulo_as_published, modulo_moves, modulo_moves_at_best,
    predicted_share_below,
};
pub use dead_node::{Death, DeathSpec};
pub use hot_key::{HotKey, Overflow};
pub use lookups::{Arm, Change, Lookups, Rivals};

use std::collections::HashSet;

use by_position::RingByPosition;

use super::{BoundedLoads, Jump, Ketama, KeyHash, Maglev, Modulo, Placement, Rendezvous, Ring};
use lab::Result;

/// The prototype's figures, for the reference marks.
pub mod seed {
    /// Per cent of the keys that moved when 50 of 1,000 shards left.
    pub const LEFT: f64 = 4.95;
    /// Per cent of the keys that moved when 50 shards joined.
    pub const JOINED: f64 = 4.55;
    /// Keys on the fullest of 1,000 shards with 3 points, as its histogram shows.
    pub const FULLEST: u64 = 47;
    /// Shards without a key in that histogram.
    pub const EMPTY: usize = 14;

    /// What it never published, and says when one runs it.
    pub mod ran {
        /// Per cent of the keys that move under modulo, from 1,000 to 950 shards.
        pub const MODULO: f64 = 94.96;
        /// Standard deviation over mean of the keys on 1,000 shards with so many points.
        pub const SPREAD: [(u32, f64); 2] = [(3, 0.669), (100, 0.326)];
        /// Keys on the fullest shard with 100 points.
        pub const FULLEST_OF_100: u64 = 22;
    }
}

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

impl Scheme {
    /// What charts call it.
    pub fn name(self) -> String {
        match self {
            Self::Modulo => "modulo".into(),
            Self::Ring(points) => format!("ring, {points} points"),
            Self::FastRing(points) => format!("ring by XXH3, {points} points"),
            Self::RingByPosition(_) => "ring by position".into(),
            Self::Ketama => "ketama".into(),
            Self::Rendezvous => "rendezvous".into(),
            Self::Jump => "jump".into(),
            Self::Maglev => "maglev".into(),
            Self::Bounded(slack) => format!("bounded loads, {slack}"),
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

//! Ours and the field's crates behind one door: the same nodes, the same keys.

use std::fmt;
use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};

use rendezvous_hash::{DefaultNodeHasher, IdNode, RendezvousNodes};

use crate::experiment::shards;
use crate::{Jump, KeyHash, Placement, Rendezvous, Ring};
use lab::Result;

/// Who looks keys up: ours, and those that do the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rival {
    /// Our ring, by XXH3.
    OurRing,
    /// `hashring`'s ring.
    Hashring,
    /// Cloudflare's ring of memcached's kind.
    PingoraKetama,
    /// Our rendezvous hashing.
    OurRendezvous,
    /// `rendezvous_hash`'s, which sorts all nodes.
    RendezvousHash,
    /// Our jump hashing.
    OurJump,
    /// `jumphash`'s.
    Jumphash,
}

impl Rival {
    /// The rings.
    pub const RINGS: [Self; 3] = [Self::OurRing, Self::Hashring, Self::PingoraKetama];
    /// Highest random weight.
    pub const RENDEZVOUS: [Self; 2] = [Self::OurRendezvous, Self::RendezvousHash];
    /// Jump hashing.
    pub const JUMPS: [Self; 2] = [Self::OurJump, Self::Jumphash];
}

impl fmt::Display for Rival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OurRing => "our ring",
            Self::Hashring => "hashring",
            Self::PingoraKetama => "pingora-ketama",
            Self::OurRendezvous => "our rendezvous",
            Self::RendezvousHash => "rendezvous_hash",
            Self::OurJump => "our jump",
            Self::Jumphash => "jumphash",
        })
    }
}

/// A rival with its nodes.
pub enum AnyPlacement {
    /// Ours.
    Ring(Ring),
    /// Node and number of each point.
    Hashring(hashring::HashRing<(u32, u32)>),
    /// Nodes by address.
    PingoraKetama(pingora_ketama::Continuum),
    /// Ours.
    Rendezvous(Rendezvous),
    /// Nodes by name.
    RendezvousHash(RendezvousNodes<IdNode<String>, DefaultNodeHasher>),
    /// Ours.
    Jump(Jump),
    /// The nodes' names, which it does not know.
    Jumphash(jumphash::JumpHasher, Vec<String>),
}

/// Points of each node of a ring.
const POINTS: u32 = 160;

impl AnyPlacement {
    /// A rival over so many nodes, rings with 160 points for each.
    pub fn new(rival: Rival, nodes: usize) -> Result<Self> {
        let names = shards(nodes);
        Ok(match rival {
            Rival::OurRing => Self::Ring(Ring::hashed(KeyHash::Xxh3, &names, POINTS)?),
            Rival::Hashring => {
                let mut ring = hashring::HashRing::new();
                ring.batch_add(
                    (0..nodes as u32).flat_map(|node| (0..POINTS).map(move |point| (node, point))).collect(),
                );
                Self::Hashring(ring)
            }
            Rival::PingoraKetama => {
                let address = |node: usize| SocketAddr::from(([10, 0, (node >> 8) as u8, node as u8], 11_211));
                let buckets: Vec<_> = (0..nodes).map(|node| pingora_ketama::Bucket::new(address(node), 1)).collect();
                Self::PingoraKetama(pingora_ketama::Continuum::new(&buckets))
            }
            Rival::OurRendezvous => Self::Rendezvous(Rendezvous::new(&names)?),
            Rival::RendezvousHash => {
                let mut nodes = RendezvousNodes::default();
                names.into_iter().for_each(|name| drop(nodes.insert(IdNode::new(name))));
                Self::RendezvousHash(nodes)
            }
            Rival::OurJump => Self::Jump(Jump::new(&names)?),
            Rival::Jumphash => Self::Jumphash(jumphash::JumpHasher::new(), names),
        })
    }

    /// Looks all keys up, each with what the crate offers for one key.
    pub fn find_all(&self, keys: &[String]) {
        match self {
            Self::Ring(ring) => each(keys, |key| ring.node_of(key)),
            Self::Hashring(ring) => each(keys, |key| ring.get(&key).map(|(node, _)| *node)),
            Self::PingoraKetama(ring) => each(keys, |key| ring.node(key.as_bytes())),
            Self::Rendezvous(nodes) => each(keys, |key| nodes.node_of(key)),
            Self::RendezvousHash(nodes) => each(keys, |key| nodes.calc_candidates(&key).next()),
            Self::Jump(jump) => each(keys, |key| jump.node_of(key)),
            Self::Jumphash(jump, names) => each(keys, |key| names.get(jump.slot(&key, names.len() as u32) as usize)),
        }
    }

    /// The number of a key's node.
    pub fn number_of(&self, key: &str) -> usize {
        let number = |name: &str| name["shard-".len()..].parse().unwrap_or(0);
        match self {
            Self::Ring(ring) => number(ring.node_of(key)),
            Self::Hashring(ring) => ring.get(&key).map_or(0, |(node, _)| *node as usize),
            Self::PingoraKetama(ring) => match ring.node(key.as_bytes()).map(|address| address.ip()) {
                Some(IpAddr::V4(ip)) => usize::from(ip.octets()[2]) << 8 | usize::from(ip.octets()[3]),
                _ => 0,
            },
            Self::Rendezvous(nodes) => number(nodes.node_of(key)),
            Self::RendezvousHash(nodes) => nodes.calc_candidates(&key).next().map_or(0, |name| number(name)),
            Self::Jump(jump) => number(jump.node_of(key)),
            Self::Jumphash(jump, names) => jump.slot(&key, names.len() as u32) as usize,
        }
    }
}

/// Looks them up one by one, so that the compiler can leave none out.
pub(crate) fn each<'a, T>(keys: &'a [String], find: impl Fn(&'a str) -> T) {
    for key in keys {
        black_box(find(black_box(key)));
    }
}

//! Consistent hashing: a key's node, and how few keys move when nodes come and go.
//!
//! | placement | a lookup | what it keeps | keys moved when one of n nodes leaves |
//! |---|---|---|---|
//! | [`Modulo`] | one division | the nodes | nearly all |
//! | [`Ring`] | the next point clockwise | v points a node | the node's own |
//! | [`Ketama`] | the same | 160 points a node, where memcached's clients have them | the node's own, with equal weights |
//! | [`Rendezvous`] | a score for every node | the nodes | the node's own |
//! | [`Jump`] | about ln n steps | a list | the node's own, and those of the last in the list |
//! | [`Maglev`] | one look into a table | some 100 entries a node | the node's own, and a few more |
//! | [`BoundedLoads`] | the next point of a node that has room | a ring and each node's load | depends on the loads |
//!
//! Guarantees, of all of them unless a placement's own page says otherwise:
//!
//! - **Total**: every key has a node. There is no placement without a node: the last one cannot leave.
//! - **Stable**: a key's node depends on the key and the set of nodes alone; not on the order in which nodes were
//!   added, the process or the machine. (Not [`Jump`]: its list has an order. Not [`BoundedLoads`]: it depends on the loads. Of
//!   [`Maglev`], the size of its table has a say too, which is chosen for the nodes that it is built with, and kept.)
//! - **Minimal** ([`Ring`], [`Rendezvous`]): when a node leaves, only its own keys move; when one joins, keys move to it alone.
//! - **Fair**: a node of weight w gets w shares of the keys, within the spread that the placement's page states.
//! - **Compatible**: the ring's points are the full 128-bit MD5 of `NODE#V` and keys the MD5 of the key, so that the
//!   prototype's published distribution comes out to the key; ketama places keys where memcached's clients look for them.

mod bounded_loads;
mod continuum;
pub mod experiment;
mod hash;
mod jump;
mod ketama;
mod maglev;
mod modulo;
mod node;
pub mod prototype;
mod rendezvous;
pub mod replicas;
mod ring;
pub mod rivals;

pub use bounded_loads::BoundedLoads;
pub use hash::KeyHash;
pub use jump::{Jump, jump};
pub use ketama::Ketama;
pub use maglev::Maglev;
pub use modulo::Modulo;
pub use node::Node;
pub use rendezvous::Rendezvous;
pub use ring::Ring;

use lab::{Drawing, Result};

/// Places keys on named nodes; there is always at least one.
pub trait Placement: Send + Sync {
    /// The node that holds `key`.
    fn node_of(&self, key: &str) -> &str;

    /// The nodes' names, sorted.
    fn nodes(&self) -> Vec<&str>;

    /// Adds a node. One that is there already, or without a name, or of weight 0 is refused.
    fn add(&mut self, node: Node) -> Result<()>;

    /// Takes a node away. One that is not there, and the last one, cannot leave.
    fn remove(&mut self, name: &str) -> Result<()>;

    /// What a lookup reads, in bytes: tables, points and names.
    fn bytes(&self) -> usize;
}

/// A ring of four nodes with three points each, and eight keys.
pub fn picture() -> Drawing {
    let plain = "ada holds key-4 and key-6; bob key-1, key-3 and key-5; cyd key-7; dee key-0 and key-2.\n";
    Drawing::committed("A hash ring: each key belongs to the next point, clockwise", include_str!("picture.svg"), plain)
}

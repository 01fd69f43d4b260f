//! Consistent hashing: a key's node, and how few keys move when nodes come and go.
//!
//! Guarantees:
//!
//! - **Stable**: a key's node depends on the key and the set of nodes alone; not on the order in which nodes were
//!   added, the process or the machine.
//! - **Total**: as long as there is a node, every key has one.
//! - **Minimal** (the [`Ring`]): when a node leaves, only its own keys move; when one joins, keys move to it alone.
//! - **Compatible**: points are the full 128-bit MD5 of `NODE#V`, keys the MD5 of the key, so that the prototype's
//!   published distribution comes out to the key.

pub mod experiment;
mod modulo;
mod picture;
mod ring;

pub use modulo::Modulo;
pub use picture::RingPicture;
pub use ring::Ring;

use md5::{Digest, Md5};

/// Places keys on named nodes.
pub trait Placement {
    /// The node that holds `key`; none where there are no nodes.
    fn node_of(&self, key: &str) -> Option<&str>;

    /// The nodes, sorted by name.
    fn nodes(&self) -> Vec<&str>;

    /// Adds a node; one that is there already stays as it is.
    fn add(&mut self, node: &str);

    /// Takes a node away; one that is not there is no change.
    fn remove(&mut self, node: &str);
}

/// Where a key, or a node's point, lies: the whole MD5 as one number.
pub(crate) fn position(text: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(text.as_bytes()).into())
}

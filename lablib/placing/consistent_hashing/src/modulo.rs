//! What everybody writes first.

use super::node::{Members, no_weight};
use super::{KeyHash, Node, Placement};
use lab::Result;

/// `hash(key) mod n` over the nodes in the order of their names.
///
/// Even, tiny, fast, and wrong for anything that changes: another `n` moves nearly every key.
///
/// ```
/// use consistent_hashing::{Modulo, Placement};
///
/// let placement = Modulo::new(["a", "b", "c"])?;
/// assert!(["a", "b", "c"].contains(&placement.node_of("some key")));
/// # Ok::<(), lab::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Modulo {
    members: Members,
    hash: KeyHash,
}

impl Modulo {
    /// A placement over these nodes, by MD5.
    pub fn new<T: Into<Node>>(nodes: impl IntoIterator<Item = T>) -> Result<Self> {
        Self::hashed(KeyHash::Md5, nodes)
    }

    /// A placement over these nodes.
    pub fn hashed<T: Into<Node>>(hash: KeyHash, nodes: impl IntoIterator<Item = T>) -> Result<Self> {
        Ok(Self { members: Members::unweighted("modulo", nodes)?, hash })
    }
}

impl Placement for Modulo {
    fn node_of(&self, key: &str) -> &str {
        let index = self.hash.position(key) % self.members.len() as u128;
        &self.members[index as usize].name
    }

    fn nodes(&self) -> Vec<&str> {
        self.members.names()
    }

    fn add(&mut self, node: Node) -> Result<()> {
        no_weight("modulo", &node)?;
        self.members.insert(node).map(|_| ())
    }

    fn remove(&mut self, name: &str) -> Result<()> {
        self.members.remove(name).map(|_| ())
    }

    fn bytes(&self) -> usize {
        self.members.bytes()
    }
}

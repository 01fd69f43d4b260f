//! The prototype: its figures, its run with modulo, and the ring that is often written instead of one.

use crate::experiment::{Movement, keys};
use crate::{Modulo, Node, Placement, Ring};
use lab::Result;

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

/// Its modulo: the last fifty of a list of a thousand shards leave.
pub fn modulo_as_published() -> Result<Movement> {
    // Names that sort in the order of the prototype's list.
    let shards: Vec<String> = (0..1_000).map(|index| format!("shard-{index:04}")).collect();
    let (before, after) = (Modulo::new(&shards)?, Modulo::new(&shards[..950])?);
    Ok(Movement::between(&before, &after, &keys(10_000)))
}

/// A ring whose points are named after a shard's place in the list, and not after the shard.
pub struct RingByPosition {
    nodes: Vec<String>,
    ring: Ring,
}

impl RingByPosition {
    /// A ring of these nodes, in this order.
    pub fn new(nodes: impl IntoIterator<Item = Node>, virtual_nodes: u32) -> Result<Self> {
        let nodes: Vec<String> = nodes.into_iter().map(|node| node.name).collect();
        Ok(Self { ring: by_position(nodes.len(), virtual_nodes)?, nodes })
    }

    fn rebuild(&mut self) -> Result<()> {
        self.ring = by_position(self.nodes.len(), self.ring.virtual_nodes())?;
        Ok(())
    }
}

fn by_position(nodes: usize, virtual_nodes: u32) -> Result<Ring> {
    Ring::new((0..nodes).map(|place| place.to_string()), virtual_nodes)
}

impl Placement for RingByPosition {
    fn node_of(&self, key: &str) -> &str {
        let place: usize = self.ring.node_of(key).parse().unwrap_or(0);
        &self.nodes[place]
    }

    fn nodes(&self) -> Vec<&str> {
        let mut nodes: Vec<&str> = self.nodes.iter().map(String::as_str).collect();
        nodes.sort_unstable();
        nodes
    }

    fn add(&mut self, node: Node) -> Result<()> {
        self.nodes.push(node.name);
        self.rebuild()
    }

    fn remove(&mut self, name: &str) -> Result<()> {
        self.nodes.retain(|known| known != name);
        self.rebuild()
    }

    fn bytes(&self) -> usize {
        self.ring.bytes()
    }
}

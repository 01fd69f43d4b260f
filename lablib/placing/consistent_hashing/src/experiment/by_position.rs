//! A ring as it is often written: points named after a place in a list.

use crate::{Node, Placement, Ring};
use lab::Result;

/// The faulty ring of [`Scheme::RingByPosition`](super::Scheme::RingByPosition).
pub(super) struct RingByPosition {
    nodes: Vec<String>,
    ring: Ring,
}

impl RingByPosition {
    pub(super) fn new(nodes: &[String], virtual_nodes: u32) -> Result<Self> {
        Ok(Self { nodes: nodes.to_vec(), ring: by_position(nodes.len(), virtual_nodes)? })
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

//! The ring of Karger and others: every node owns the arcs that end at its points.

use std::collections::BTreeMap;

use crate::placing::consistent_hashing::{Placement, position};

/// A ring of nodes, each at several points (its virtual nodes). A key belongs to the first point at or after its own
/// position, going round.
///
/// ```
/// use lablib::placing::consistent_hashing::{Placement, Ring};
///
/// let mut ring = Ring::new(["a", "b", "c"], 100);
/// let home = ring.node_of("some key").map(str::to_string);
/// ring.add("d");
/// let now = ring.node_of("some key").map(str::to_string);
/// assert!(now == home || now.as_deref() == Some("d"));
/// ```
#[derive(Debug, Clone)]
pub struct Ring {
    /// Each node with the number by which its points name it. Numbers are not used again.
    nodes: BTreeMap<String, u32>,
    names: Vec<String>,
    /// (position, node's number), sorted. Two nodes at one position are possible in theory: the smaller name wins, so
    /// that the order of joining decides nothing.
    points: Vec<(u128, u32)>,
    virtual_nodes: u32,
}

impl Ring {
    /// A ring of these nodes, each at so many points; at least one.
    pub fn new<T: AsRef<str>>(nodes: impl IntoIterator<Item = T>, virtual_nodes: u32) -> Self {
        let mut ring =
            Self { nodes: BTreeMap::new(), names: Vec::new(), points: Vec::new(), virtual_nodes: virtual_nodes.max(1) };
        for node in nodes {
            ring.insert(node.as_ref());
        }
        ring.sort();
        ring
    }

    /// How many points each node has.
    pub fn virtual_nodes(&self) -> u32 {
        self.virtual_nodes
    }

    /// Every point with its node, in the order of their positions.
    pub fn points(&self) -> impl Iterator<Item = (u128, &str)> {
        self.points.iter().map(|&(position, number)| (position, self.names[number as usize].as_str()))
    }

    fn insert(&mut self, node: &str) {
        if self.nodes.contains_key(node) {
            return;
        }
        let number = self.names.len() as u32;
        self.names.push(node.to_string());
        self.nodes.insert(node.to_string(), number);
        let points = (0..self.virtual_nodes).map(|point| (position(&format!("{node}#{point}")), number));
        self.points.extend(points);
    }

    fn sort(&mut self) {
        let names = &self.names;
        self.points.sort_unstable_by(|a, b| (a.0, &names[a.1 as usize]).cmp(&(b.0, &names[b.1 as usize])));
    }
}

impl Placement for Ring {
    fn node_of(&self, key: &str) -> Option<&str> {
        let position = position(key);
        let next = self.points.partition_point(|point| point.0 < position);
        let (_, number) = self.points.get(next).or(self.points.first())?;
        self.names.get(*number as usize).map(String::as_str)
    }

    fn nodes(&self) -> Vec<&str> {
        self.nodes.keys().map(String::as_str).collect()
    }

    fn add(&mut self, node: &str) {
        self.insert(node);
        self.sort();
    }

    fn remove(&mut self, node: &str) {
        if let Some(number) = self.nodes.remove(node) {
            self.points.retain(|point| point.1 != number);
        }
    }
}

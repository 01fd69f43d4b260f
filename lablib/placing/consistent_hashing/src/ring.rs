//! The ring of Karger and others: every node owns the arcs that end at its points.

use std::fmt::Write as _;

use super::continuum::Continuum;
use super::node::Members;
use super::{KeyHash, Node, Placement};
use lab::{Error, Result};

/// A ring of nodes, each at several points (its virtual nodes). A key belongs to the first point at or after its own
/// position, going round.
///
/// The keys of a node with v points vary by 1/√v of their mean.
///
/// ```
/// use consistent_hashing::{Placement, Ring};
///
/// let mut ring = Ring::new(["a", "b", "c"], 100)?;
/// let home = ring.node_of("some key").to_string();
/// ring.add("d".into())?;
/// let now = ring.node_of("some key");
/// assert!(now == home || now == "d");
/// assert_eq!(ring.replicas("some key", 3).len(), 3);
/// # Ok::<(), lab::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Ring {
    members: Members,
    circle: Continuum,
    virtual_nodes: u32,
    hash: KeyHash,
}

impl Ring {
    /// A ring of these nodes by MD5, a node of weight w at w × `virtual_nodes` points.
    pub fn new<T: Into<Node>>(nodes: impl IntoIterator<Item = T>, virtual_nodes: u32) -> Result<Self> {
        Self::hashed(KeyHash::Md5, nodes, virtual_nodes)
    }

    /// As [`new`](Self::new), by another hash.
    pub fn hashed<T: Into<Node>>(
        hash: KeyHash,
        nodes: impl IntoIterator<Item = T>,
        virtual_nodes: u32,
    ) -> Result<Self> {
        if virtual_nodes == 0 {
            return Err(Error::new("build a ring", "a node without a point would hold nothing").remedy("give it one"));
        }
        let members = Members::new(nodes)?;
        check_points(members.weight(), virtual_nodes)?;
        let mut points = Vec::with_capacity(members.weight() as usize * virtual_nodes as usize);
        for (index, node) in members.all().iter().enumerate() {
            points.extend(places(hash, node, virtual_nodes).map(|place| (place, index as u32)));
        }
        Ok(Self { members, circle: Continuum::new(points), virtual_nodes, hash })
    }

    /// How many points a node of weight 1 has.
    pub fn virtual_nodes(&self) -> u32 {
        self.virtual_nodes
    }

    /// Every point with its node, in the order of their positions.
    pub fn points(&self) -> impl Iterator<Item = (u128, &str)> {
        self.circle.points().map(|(position, owner)| (position, self.members[owner].name.as_str()))
    }

    /// The arcs of the circle, in shares of a whole turn: where each begins and ends, and whose it is. The first begins before 0.
    pub fn arcs(&self) -> Vec<(f64, f64, &str)> {
        let share = |position: u128| position as f64 / u128::MAX as f64;
        let ends: Vec<(f64, &str)> = self.points().map(|(position, node)| (share(position), node)).collect();
        let last = ends.last().map_or(0.0, |(end, _)| end - 1.0);
        let begins = std::iter::once(last).chain(ends.iter().map(|(end, _)| *end));
        begins.zip(&ends).map(|(begin, (end, node))| (begin, *end, *node)).collect()
    }

    /// The nodes that hold the copies of `key`: its own, then the next ones clockwise, no node twice; all nodes where
    /// there are no more than `count`.
    ///
    /// When one of them leaves, the others stay and the next one clockwise takes its place at the end.
    pub fn replicas(&self, key: &str, count: usize) -> Vec<&str> {
        let count = count.min(self.members.len());
        let mut chosen: Vec<usize> = Vec::with_capacity(count);
        for owner in self.circle.owners_from(self.position(key)) {
            if chosen.len() == count {
                break;
            }
            if !chosen.contains(&owner) {
                chosen.push(owner);
            }
        }
        chosen.into_iter().map(|owner| self.members[owner].name.as_str()).collect()
    }

    pub(super) fn position(&self, key: &str) -> u128 {
        self.hash.position(key)
    }

    pub(super) fn members(&self) -> &Members {
        &self.members
    }

    /// The nodes from the key on, clockwise, the same one several times.
    pub(super) fn walk(&self, key: &str) -> impl Iterator<Item = usize> {
        self.circle.owners_from(self.position(key))
    }
}

impl Placement for Ring {
    fn node_of(&self, key: &str) -> &str {
        &self.members[self.circle.owner(self.position(key))].name
    }

    fn nodes(&self) -> Vec<&str> {
        self.members.names()
    }

    fn add(&mut self, node: Node) -> Result<()> {
        check_points(self.members.weight() + u64::from(node.weight), self.virtual_nodes)?;
        let places = places(self.hash, &node, self.virtual_nodes).collect();
        let index = self.members.insert(node)?;
        self.circle.insert(index, places);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<()> {
        let index = self.members.remove(name)?;
        self.circle.remove(index);
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.members.bytes() + self.circle.bytes()
    }
}

/// Ten thousand nodes with a thousand points each fit several times.
const MOST_POINTS: u64 = 1 << 26;

fn check_points(weight: u64, virtual_nodes: u32) -> Result<()> {
    let points = weight.saturating_mul(u64::from(virtual_nodes));
    if points <= MOST_POINTS {
        return Ok(());
    }
    let cause = format!("{points} points do not fit");
    Err(Error::new("build a ring", cause).remedy("use smaller weights or fewer virtual nodes"))
}

/// Where a node's points lie.
fn places(hash: KeyHash, node: &Node, virtual_nodes: u32) -> impl Iterator<Item = u128> {
    let mut point = String::with_capacity(node.name.len() + 11);
    (0..virtual_nodes.saturating_mul(node.weight)).map(move |number| {
        point.clear();
        let _ = write!(point, "{}#{number}", node.name);
        hash.position(&point)
    })
}

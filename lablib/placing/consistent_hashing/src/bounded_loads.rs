//! Consistent hashing with bounded loads: a full node passes the key on.

use super::{Node, Placement, Ring};
use lab::{Error, Result};

/// A ring in which no node takes more than (1+ε) times its share of what is being held (Mirrokni, Thorup and Zadimoghaddam).
///
/// Whatever is placed (a request in flight, a session, a stored key) goes to the first node clockwise that has room. A node of
/// weight w among a total W has room for ⌈(1+ε) · m · w / W⌉ of m placed things, the new one included; the capacities add up to
/// more than m, so there is always one with room. One very hot key overflows to the next node, and to the next.
///
/// ```
/// use consistent_hashing::{BoundedLoads, Ring};
///
/// let mut balancer = BoundedLoads::new(Ring::new(["a", "b", "c", "d"], 100)?, 0.25)?;
/// for _ in 0..100 {
///     balancer.take("the one hot key");
/// }
/// assert!(balancer.loads().all(|(_, load)| load <= 32), "1.25 × 100 / 4, rounded up");
/// # Ok::<(), lab::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct BoundedLoads {
    ring: Ring,
    slack: f64,
    /// One for each node of the ring, in their order.
    loads: Vec<u64>,
    held: u64,
}

impl BoundedLoads {
    /// Bounds the loads of this ring's nodes to (1+`slack`) times their shares.
    pub fn new(ring: Ring, slack: f64) -> Result<Self> {
        if !slack.is_finite() || slack <= 0.0 {
            let cause = format!("a slack of {slack} leaves no room for a key beside its own node");
            return Err(Error::new("bound the loads", cause).remedy("give a number above 0, such as 0.25"));
        }
        let loads = vec![0; ring.members().len()];
        Ok(Self { ring, slack, loads, held: 0 })
    }

    /// Places `key` once more, and counts it as load of the node that it returns until it is [given back](Self::give_back).
    pub fn take(&mut self, key: &str) -> &str {
        let node = self.with_room(key);
        self.loads[node] += 1;
        self.held += 1;
        &self.ring.members()[node].name
    }

    /// One of the things that `node` holds is done.
    pub fn give_back(&mut self, node: &str) -> Result<()> {
        let index = self.ring.members().index(node)?;
        if self.loads[index] == 0 {
            return Err(Error::new("give back a load", "this node holds nothing").at(node));
        }
        self.loads[index] -= 1;
        self.held -= 1;
        Ok(())
    }

    /// Where `key` would be if nobody were full.
    pub fn home_of(&self, key: &str) -> &str {
        self.ring.node_of(key)
    }

    /// Each node with what it holds.
    pub fn loads(&self) -> impl Iterator<Item = (&str, u64)> {
        self.ring.members().all().iter().map(|node| node.name.as_str()).zip(self.loads.iter().copied())
    }

    /// How much a node may hold when one thing more is placed.
    pub fn capacity(&self, node: &str) -> Result<u64> {
        self.ring.members().index(node).map(|index| self.room(index))
    }

    fn room(&self, node: usize) -> u64 {
        let members = self.ring.members();
        let share = f64::from(members[node].weight) / members.weight() as f64;
        let exact = (1.0 + self.slack) * (self.held + 1) as f64 * share;
        // 1.1 × 100 is a hair above 110 in binary, and must not be rounded up to 111.
        (exact * (1.0 - 1e-12)).ceil() as u64
    }

    fn with_room(&self, key: &str) -> usize {
        let mut walk = self.ring.walk(key);
        let home = walk.next().unwrap_or(0);
        if self.loads[home] < self.room(home) {
            return home;
        }
        // Somebody always has room, so the walk does not come back empty-handed.
        walk.find(|&node| self.loads[node] < self.room(node)).unwrap_or(home)
    }
}

impl Placement for BoundedLoads {
    /// Where `key` would be placed now.
    fn node_of(&self, key: &str) -> &str {
        &self.ring.members()[self.with_room(key)].name
    }

    fn nodes(&self) -> Vec<&str> {
        self.ring.nodes()
    }

    fn add(&mut self, node: Node) -> Result<()> {
        let name = node.name.clone();
        self.ring.add(node)?;
        self.loads.insert(self.ring.members().index(&name)?, 0);
        Ok(())
    }

    /// What the node held is lost with it.
    fn remove(&mut self, name: &str) -> Result<()> {
        let index = self.ring.members().index(name)?;
        self.ring.remove(name)?;
        self.held -= self.loads.remove(index);
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.ring.bytes() + size_of_val(&self.loads[..])
    }
}

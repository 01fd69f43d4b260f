//! Maglev: one look into a table that the nodes have filled in turns.

use super::hash::bits;
use super::node::Members;
use super::{Node, Placement};
use lab::{Error, Result};

/// Google's Maglev hashing (Eisenbud and others, 2016).
///
/// Each node has its own order of the table's entries, and the nodes take turns at the first entry that is still free. So no
/// node has more than one entry more than another of its weight: with 100 entries a node, it is 1 % too full at most. A change
/// refills the whole table, and some keys move between nodes that stayed: few, but not none.
///
/// ```
/// use consistent_hashing::{Maglev, Placement};
///
/// let balancer = Maglev::new(["a", "b", "c"])?;
/// assert_eq!(balancer.entries(), 65_537);
/// println!("{}", balancer.node_of("10.0.0.7:4711"));
/// # Ok::<(), lab::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Maglev {
    members: Members,
    table: Vec<u32>,
}

/// The paper's small table.
const SMALLEST: usize = 65_537;
/// So that an entry more or less is a hundredth of a node's share.
const ENTRIES_A_NODE: usize = 100;

impl Maglev {
    /// A table over these nodes: the paper's 65,537 entries, or 100 a node where there are more than 655. It keeps its size when
    /// nodes join later: another size would move nearly every key.
    pub fn new<T: Into<Node>>(nodes: impl IntoIterator<Item = T>) -> Result<Self> {
        let nodes: Vec<Node> = nodes.into_iter().map(Into::into).collect();
        let entries = Self::entries_for(nodes.len());
        Self::with_entries(nodes, entries)
    }

    /// A table of so many entries: a prime, so that every node's order reaches all of them, and at least one a node.
    pub fn with_entries<T: Into<Node>>(nodes: impl IntoIterator<Item = T>, entries: usize) -> Result<Self> {
        let members = Members::new(nodes)?;
        if entries > u32::MAX as usize || next_prime(entries) != entries {
            let cause = format!("{entries} entries is not a prime below 2³²");
            return Err(Error::new("build a table", cause).remedy(format!("take {}", next_prime(entries.min(65_537)))));
        }
        let mut maglev = Self { members, table: vec![0; entries] };
        maglev.check_room(maglev.members.len())?;
        maglev.refill();
        Ok(maglev)
    }

    /// How many entries the table has.
    pub fn entries(&self) -> usize {
        self.table.len()
    }

    pub(super) fn entries_for(nodes: usize) -> usize {
        next_prime((nodes * ENTRIES_A_NODE).max(SMALLEST))
    }

    fn check_room(&self, nodes: usize) -> Result<()> {
        if nodes <= self.table.len() {
            return Ok(());
        }
        let cause = format!("its table has {} entries, and {nodes} nodes want one each", self.table.len());
        Err(Error::new("add a node", cause).remedy("build a larger table, which moves nearly every key"))
    }

    fn refill(&mut self) {
        let entries = self.table.len();
        let orders: Vec<Order> = self.members.all().iter().map(|node| Order::of(&node.name, entries)).collect();
        let weights: Vec<u32> = self.members.all().iter().map(|node| node.weight).collect();
        fill(&mut self.table, orders, &weights);
    }
}

impl Placement for Maglev {
    fn node_of(&self, key: &str) -> &str {
        let entry = bits(key, 0) % self.table.len() as u64;
        &self.members[self.table[entry as usize] as usize].name
    }

    fn nodes(&self) -> Vec<&str> {
        self.members.names()
    }

    fn add(&mut self, node: Node) -> Result<()> {
        self.check_room(self.members.len() + 1)?;
        self.members.insert(node)?;
        self.refill();
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<()> {
        self.members.remove(name)?;
        self.refill();
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.members.bytes() + size_of_val(&self.table[..])
    }
}

/// A node's order of the table's entries: every `skip`-th from `next` on.
struct Order {
    next: usize,
    skip: usize,
}

impl Order {
    fn of(name: &str, entries: usize) -> Self {
        let skips = (entries as u64).saturating_sub(1).max(1);
        Self { next: (bits(name, 1) % entries as u64) as usize, skip: (bits(name, 2) % skips) as usize + 1 }
    }
}

/// Lets the nodes take turns until no entry is free. In a round a node of the highest weight has one turn, one of half that
/// weight has one every other round.
fn fill(table: &mut [u32], mut orders: Vec<Order>, weights: &[u32]) {
    const FREE: u32 = u32::MAX;
    table.fill(FREE);
    let highest = u64::from(weights.iter().copied().max().unwrap_or(1));
    let mut credits = vec![0_u64; orders.len()];
    let mut free = table.len();
    loop {
        for (index, order) in orders.iter_mut().enumerate() {
            credits[index] += u64::from(weights[index]);
            if credits[index] < highest {
                continue;
            }
            credits[index] -= highest;
            while table[order.next] != FREE {
                order.next = (order.next + order.skip) % table.len();
            }
            table[order.next] = index as u32;
            free -= 1;
            if free == 0 {
                return;
            }
        }
    }
}

/// The smallest prime that is no smaller.
fn next_prime(from: usize) -> usize {
    let prime = |number: usize| {
        (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| !number.is_multiple_of(divisor))
    };
    (from.max(2)..).find(|&number| prime(number)).unwrap_or(SMALLEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(nodes: &[(usize, usize)]) -> Vec<u32> {
        let mut table = vec![0; 7];
        let orders = nodes.iter().map(|&(next, skip)| Order { next, skip }).collect();
        fill(&mut table, orders, &vec![1; nodes.len()]);
        table
    }

    #[test]
    fn the_papers_example_comes_out() {
        // Offsets and skips of its three backends, before and after the second one left.
        assert_eq!(filled(&[(3, 4), (0, 2), (3, 1)]), [1, 0, 1, 0, 2, 2, 0]);
        assert_eq!(filled(&[(3, 4), (3, 1)]), [0, 0, 0, 0, 1, 1, 1]);
    }

    #[test]
    fn primes() {
        assert_eq!([0, 2, 8, 65_537, 65_538, 1_000_000].map(next_prime), [2, 2, 11, 65_537, 65_539, 1_000_003]);
    }
}

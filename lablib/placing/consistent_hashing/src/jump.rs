//! Jump consistent hashing: no memory at all, for buckets that only come and go at the end.

use super::hash::bits;
use super::node::{Members, check, last, no_weight, nobody, twice};
use super::{Node, Placement};
use lab::Result;

/// The bucket of `key` among `buckets` (at least 1), as Lamping and Veach define it.
///
/// A key stands in bucket 0 and jumps ahead to the next number of buckets at which it would move, for as long as there are so
/// many.
///
/// ```
/// use consistent_hashing::jump;
///
/// assert_eq!(jump(10_863_919_174_838_991, 11), 6);
/// ```
pub fn jump(key: u64, buckets: u32) -> u32 {
    let (mut state, mut bucket, mut next) = (key, 0_i64, 0_i64);
    while next < i64::from(buckets) {
        bucket = next;
        state = state.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = ((bucket + 1) as f64 * (f64::from(1_u32 << 31) / ((state >> 33) + 1) as f64)) as i64;
    }
    bucket as u32
}

/// Jump hashing over a list of nodes.
///
/// Perfectly even and without a table, but it knows numbers, not names: the list's order decides, a node joins at its end, and
/// when one leaves from the middle the last one takes its number. So its own keys move, and those of the last one too.
#[derive(Debug, Clone)]
pub struct Jump {
    names: Vec<String>,
}

impl Jump {
    /// A placement over these nodes, in this order.
    pub fn new<T: Into<Node>>(nodes: impl IntoIterator<Item = T>) -> Result<Self> {
        let nodes: Vec<Node> = nodes.into_iter().map(Into::into).collect();
        Members::unweighted("jump hashing", nodes.iter().cloned())?;
        Ok(Self { names: nodes.into_iter().map(|node| node.name).collect() })
    }
}

impl Placement for Jump {
    fn node_of(&self, key: &str) -> &str {
        &self.names[jump(bits(key, 0), self.names.len() as u32) as usize]
    }

    fn nodes(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    fn add(&mut self, node: Node) -> Result<()> {
        no_weight("jump hashing", &node)?;
        check(&node)?;
        if self.names.contains(&node.name) {
            return Err(twice(&node.name));
        }
        self.names.push(node.name);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<()> {
        let index = self.names.iter().position(|known| known == name).ok_or_else(|| nobody(name))?;
        if self.names.len() == 1 {
            return Err(last(name));
        }
        self.names.swap_remove(index);
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.names.iter().map(|name| size_of::<String>() + name.len()).sum()
    }
}

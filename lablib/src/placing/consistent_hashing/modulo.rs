//! The obvious placement: the key's hash modulo the number of nodes.

use crate::placing::consistent_hashing::{Placement, position};

/// `hash(key) mod n` over the nodes in the order of their names.
///
/// Even, tiny, fast, and wrong for anything that changes: another `n` moves nearly every key.
///
/// ```
/// use lablib::placing::consistent_hashing::{Modulo, Placement};
///
/// let placement = Modulo::new(["a", "b", "c"]);
/// assert!(placement.node_of("some key").is_some());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Modulo {
    nodes: Vec<String>,
}

impl Modulo {
    /// A placement over these nodes.
    pub fn new<T: AsRef<str>>(nodes: impl IntoIterator<Item = T>) -> Self {
        let mut nodes: Vec<String> = nodes.into_iter().map(|node| node.as_ref().to_string()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        Self { nodes }
    }
}

impl Placement for Modulo {
    fn node_of(&self, key: &str) -> Option<&str> {
        let index = position(key).checked_rem(self.nodes.len() as u128)?;
        self.nodes.get(index as usize).map(String::as_str)
    }

    fn nodes(&self) -> Vec<&str> {
        self.nodes.iter().map(String::as_str).collect()
    }

    fn add(&mut self, node: &str) {
        if let Err(place) = self.nodes.binary_search_by(|known| known.as_str().cmp(node)) {
            self.nodes.insert(place, node.to_string());
        }
    }

    fn remove(&mut self, node: &str) {
        self.nodes.retain(|known| known != node);
    }
}

//! The nodes of a placement, and what is refused as one.

use lab::{Error, Result};

/// A node and its weight: a node of weight 3 is to hold three times the keys of one of weight 1.
///
/// ```
/// use consistent_hashing::Node;
///
/// assert_eq!(Node::from("a").weight, 1);
/// assert_eq!(Node::from(("b", 3)).weight, 3);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is called. Points are derived from it, so another name is another node.
    pub name: String,
    /// Its share, relative to the other nodes'. At least 1.
    pub weight: u32,
}

impl From<&str> for Node {
    fn from(name: &str) -> Self {
        Self { name: name.to_string(), weight: 1 }
    }
}

impl From<String> for Node {
    fn from(name: String) -> Self {
        Self { name, weight: 1 }
    }
}

impl From<&String> for Node {
    fn from(name: &String) -> Self {
        Self::from(name.as_str())
    }
}

impl<T: Into<String>> From<(T, u32)> for Node {
    fn from((name, weight): (T, u32)) -> Self {
        Self { name: name.into(), weight }
    }
}

/// At least one node, sorted by name, no name twice.
#[derive(Debug, Clone)]
pub(super) struct Members(Vec<Node>);

impl Members {
    pub(super) fn new<T: Into<Node>>(nodes: impl IntoIterator<Item = T>) -> Result<Self> {
        let mut all: Vec<Node> = nodes.into_iter().map(Into::into).collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all.iter().try_for_each(check)?;
        if let Some(twin) = all.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(twice(&twin[0].name));
        }
        if all.is_empty() {
            return Err(Error::new("place keys", "there are no nodes").remedy("name at least one"));
        }
        Ok(Self(all))
    }

    /// As [`new`](Self::new), for a placement that cannot give one node more than another.
    pub(super) fn unweighted<T: Into<Node>>(placement: &str, nodes: impl IntoIterator<Item = T>) -> Result<Self> {
        let members = Self::new(nodes)?;
        members.0.iter().try_for_each(|node| no_weight(placement, node))?;
        Ok(members)
    }

    /// Takes a node in; its index, after which all others stand one further.
    pub(super) fn insert(&mut self, node: Node) -> Result<usize> {
        check(&node)?;
        match self.0.binary_search_by(|known| known.name.cmp(&node.name)) {
            Ok(_) => Err(twice(&node.name)),
            Err(index) => {
                self.0.insert(index, node);
                Ok(index)
            }
        }
    }

    /// Takes a node away; the index that it had.
    pub(super) fn remove(&mut self, name: &str) -> Result<usize> {
        let index = self.index(name)?;
        if self.0.len() == 1 {
            return Err(last(name));
        }
        self.0.remove(index);
        Ok(index)
    }

    pub(super) fn index(&self, name: &str) -> Result<usize> {
        self.0.binary_search_by(|known| known.name.as_str().cmp(name)).map_err(|_| nobody(name))
    }

    pub(super) fn all(&self) -> &[Node] {
        &self.0
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.0.iter().map(|node| node.name.as_str()).collect()
    }

    /// The sum of all weights.
    pub(super) fn weight(&self) -> u64 {
        self.0.iter().map(|node| u64::from(node.weight)).sum()
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|node| size_of::<Node>() + node.name.len()).sum()
    }
}

impl std::ops::Index<usize> for Members {
    type Output = Node;

    fn index(&self, index: usize) -> &Node {
        &self.0[index]
    }
}

pub(super) fn no_weight(placement: &str, node: &Node) -> Result<()> {
    // That 0 is nobody's weight is said elsewhere.
    if node.weight <= 1 {
        return Ok(());
    }
    let cause = format!("{placement} gives every node the same share, and this one has weight {}", node.weight);
    Err(Error::new("add a node", cause).at(&node.name).remedy("use the ring, rendezvous or maglev for weights"))
}

pub(super) fn check(node: &Node) -> Result<()> {
    if node.name.is_empty() {
        return Err(Error::new("add a node", "it has no name"));
    }
    if node.weight == 0 {
        let cause = "its weight is 0, so it would hold nothing";
        return Err(Error::new("add a node", cause).at(&node.name).remedy("remove it instead, or give it a weight"));
    }
    Ok(())
}

pub(super) fn twice(name: &str) -> Error {
    Error::new("add a node", "there is one of this name already").at(name)
}

pub(super) fn nobody(name: &str) -> Error {
    Error::new("find the node", "there is none of this name").at(format!("{name:?}"))
}

pub(super) fn last(name: &str) -> Error {
    Error::new("remove a node", "it is the last one, and every key needs a node").at(name)
}

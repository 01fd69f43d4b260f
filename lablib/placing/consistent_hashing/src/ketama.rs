//! The ring that memcached's clients agree on.

use md5::{Digest, Md5};

use super::continuum::Continuum;
use super::node::Members;
use super::{Node, Placement};
use lab::Result;

/// libketama's ring: a key lies where libmemcached's weighted ketama, and every client that follows it, looks for it.
///
/// Each node has four points for each of the MD5 digests of `NAME-0`, `NAME-1`, …: 32 bits each, lowest byte first. There are
/// 40 digests a node on average, divided in proportion to the weights and rounded down; so with *unequal* weights, a node
/// that joins or leaves changes the others' number of points too, and some keys move between nodes that stayed.
///
/// ```
/// use consistent_hashing::{Ketama, Placement};
///
/// let cache = Ketama::new([("10.0.1.1:11211", 1), ("10.0.1.2:11211", 2)])?;
/// println!("{}", cache.node_of("some key"));
/// # Ok::<(), lab::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Ketama {
    members: Members,
    circle: Continuum,
}

const DIGESTS_A_NODE: u64 = 40;

impl Ketama {
    /// A ring of these nodes; a name is what clients call the server, mostly HOST:PORT.
    pub fn new<T: Into<Node>>(nodes: impl IntoIterator<Item = T>) -> Result<Self> {
        let mut ketama = Self { members: Members::new(nodes)?, circle: Continuum::default() };
        ketama.rebuild();
        Ok(ketama)
    }

    /// How many points there are.
    pub fn points(&self) -> usize {
        self.circle.points().count()
    }

    fn rebuild(&mut self) {
        let (count, weight) = (self.members.len() as u64, self.members.weight());
        let mut points = Vec::new();
        for (index, node) in self.members.all().iter().enumerate() {
            let digests = DIGESTS_A_NODE * count * u64::from(node.weight) / weight;
            for number in 0..digests {
                let digest: [u8; 16] = Md5::digest(format!("{}-{number}", node.name)).into();
                let four =
                    digest.chunks_exact(4).map(|part| (place([part[0], part[1], part[2], part[3]]), index as u32));
                points.extend(four);
            }
        }
        self.circle = Continuum::new(points);
    }
}

impl Placement for Ketama {
    fn node_of(&self, key: &str) -> &str {
        let digest: [u8; 16] = Md5::digest(key).into();
        let position = place([digest[0], digest[1], digest[2], digest[3]]);
        &self.members[self.circle.owner(position)].name
    }

    fn nodes(&self) -> Vec<&str> {
        self.members.names()
    }

    fn add(&mut self, node: Node) -> Result<()> {
        self.members.insert(node)?;
        self.rebuild();
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<()> {
        self.members.remove(name)?;
        self.rebuild();
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.members.bytes() + self.circle.bytes()
    }
}

/// 32 bits as a place on a circle of 128.
fn place(bytes: [u8; 4]) -> u128 {
    u128::from(u32::from_le_bytes(bytes)) << 96
}

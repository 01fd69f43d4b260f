//! Highest random weight: every node bids for every key.

use super::hash::bits;
use super::node::Members;
use super::{Node, Placement};
use lab::Result;

/// Rendezvous hashing (Thaler and Ravishankar): every node draws a number for the key, and the highest wins.
///
/// As even as luck with keys allows, no points to keep, weights exact; and a lookup asks every node.
///
/// ```
/// use consistent_hashing::{Placement, Rendezvous};
///
/// let nodes = Rendezvous::new([("small", 1), ("large", 3)])?;
/// println!("{}", nodes.node_of("some key"));
/// # Ok::<(), lab::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Rendezvous {
    members: Members,
    /// One for each member: what its draws are derived from.
    seeds: Vec<u64>,
    weighted: bool,
}

impl Rendezvous {
    /// A placement over these nodes.
    pub fn new<T: Into<Node>>(nodes: impl IntoIterator<Item = T>) -> Result<Self> {
        let members = Members::new(nodes)?;
        let seeds = members.all().iter().map(|node| bits(&node.name, 0)).collect();
        let mut placement = Self { members, seeds, weighted: false };
        placement.weigh();
        Ok(placement)
    }

    fn weigh(&mut self) {
        let first = self.members[0].weight;
        self.weighted = self.members.all().iter().any(|node| node.weight != first);
    }

    fn winner(&self, key: &str) -> usize {
        let key = bits(key, 0);
        let mut best = 0;
        if self.weighted {
            let mut highest = f64::NEG_INFINITY;
            for (index, (&seed, node)) in self.seeds.iter().zip(self.members.all()).enumerate() {
                let score = score(mix(key ^ seed), node.weight);
                if score > highest {
                    (highest, best) = (score, index);
                }
            }
        } else {
            let mut highest = 0;
            for (index, &seed) in self.seeds.iter().enumerate() {
                let draw = mix(key ^ seed);
                if draw > highest {
                    (highest, best) = (draw, index);
                }
            }
        }
        best
    }
}

impl Placement for Rendezvous {
    fn node_of(&self, key: &str) -> &str {
        &self.members[self.winner(key)].name
    }

    fn nodes(&self) -> Vec<&str> {
        self.members.names()
    }

    fn add(&mut self, node: Node) -> Result<()> {
        let seed = bits(&node.name, 0);
        let index = self.members.insert(node)?;
        self.seeds.insert(index, seed);
        self.weigh();
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<()> {
        let index = self.members.remove(name)?;
        self.seeds.remove(index);
        self.weigh();
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.members.bytes() + size_of_val(&self.seeds[..])
    }
}

/// A draw from (0, 1); -1/ln of it, times the weight, is the highest in proportion to the weights. With 52 bits of it the
/// half that keeps it off both ends is exact: with 53, the highest draw would be rounded to 1, and lose against everybody.
fn score(bits: u64, weight: u32) -> f64 {
    let draw = ((bits >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
    f64::from(weight) / -draw.ln()
}

/// Spreads 64 bits over 64 bits, so that keys and nodes that differ in one bit draw independently (the finaliser of
/// Murmur3, with Stafford's constants).
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::score;

    #[test]
    fn a_higher_draw_scores_higher_up_to_the_highest() {
        let draws = [0, 1 << 12, 1 << 40, 1 << 63, u64::MAX - (1 << 12), u64::MAX];
        let scores = draws.map(|bits| score(bits, 3));
        assert!(scores.windows(2).all(|pair| pair[0] < pair[1]), "{scores:?}");
        assert!(scores.iter().all(|score| score.is_finite() && *score > 0.0), "{scores:?}");
    }
}

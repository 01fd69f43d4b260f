//! Elasticsearch's own placement, to the bit: which shard a routing string leads to.

use std::collections::BTreeSet;

use lab::{Error, Result};

/// The most primary shards, and the most routing shards by default, of an index.
const MOST: u32 = 1_024;

/// The layout of an index: how many shards, and how a routing string finds one.
///
/// ```
/// use hot_tenants::Routing;
///
/// let routing = Routing::new(10).unwrap();
/// assert_eq!(routing.routing_shards(), 640);
/// assert_eq!(routing.shard_of("tenant4", 1), Ok(9));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routing {
    primaries: u32,
    routing_shards: u32,
    partition_size: u32,
}

impl Routing {
    /// An index of so many primary shards, everything else as Elasticsearch has it by default.
    pub fn new(primaries: u32) -> Result<Self> {
        if !(1..=MOST).contains(&primaries) {
            return Err(layout(format!("an index has 1 to {MOST} primary shards, not {primaries}")));
        }
        Ok(Self { primaries, routing_shards: default_routing_shards(primaries), partition_size: 1 })
    }

    /// With `number_of_routing_shards` set: the shards that the hash is taken modulo, a multiple of the primaries. As many
    /// as the primaries means that the index can never be split.
    pub fn with_routing_shards(self, routing_shards: u32) -> Result<Self> {
        if routing_shards == 0 || !routing_shards.is_multiple_of(self.primaries) {
            let cause = format!("{routing_shards} routing shards are no multiple of {} primaries", self.primaries);
            return Err(layout(cause));
        }
        Self { routing_shards, ..self }.checked()
    }

    /// With `routing_partition_size` set: a routing string leads to so many neighbouring *routing* shards, and the
    /// document's id chooses among them.
    pub fn with_partition_size(self, partition_size: u32) -> Result<Self> {
        Self { partition_size, ..self }.checked()
    }

    fn checked(self) -> Result<Self> {
        let Self { partition_size, routing_shards, .. } = self;
        if partition_size == 1 || (1..routing_shards).contains(&partition_size) {
            return Ok(self);
        }
        Err(layout(format!("a partition of {partition_size} does not fit below {routing_shards} routing shards")))
    }

    /// How many primary shards there are.
    pub fn primaries(&self) -> u32 {
        self.primaries
    }

    /// How many shards the hash is taken modulo.
    pub fn routing_shards(&self) -> u32 {
        self.routing_shards
    }

    /// Over how many routing shards one routing string reaches.
    pub fn partition_size(&self) -> u32 {
        self.partition_size
    }

    /// The shard of the document `id` that was written with this routing string.
    pub fn shard_of(&self, routing: &str, id: u64) -> Result<usize> {
        let hash = checked_hash(routing)?;
        let offset = match self.partition_size {
            1 => 0,
            size => floor_mod(hash_of(&id.to_string()), size),
        };
        Ok(self.place(hash, offset))
    }

    /// The shards that a search with this routing string asks: in ascending order, each once.
    pub fn shards_of(&self, routing: &str) -> Result<Vec<usize>> {
        let hash = checked_hash(routing)?;
        let shards: BTreeSet<usize> = (0..self.partition_size).map(|offset| self.place(hash, offset)).collect();
        Ok(shards.into_iter().collect())
    }

    /// A routing string for `tenant` that leads to `shard`: the tenant's own name where that does, else the first of
    /// `tenant#0`, `tenant#1`, … that does.
    pub fn key_to(&self, tenant: &str, shard: usize) -> Result<String> {
        let failure = |cause: String| Error::new(format!("find a routing key of {tenant:?}"), cause);
        if shard >= self.primaries as usize {
            return Err(failure(format!("there is no shard {shard}")));
        }
        if self.partition_size != 1 {
            return Err(failure("a partitioned index spreads every key by itself".into()));
        }
        let own = checked_hash(tenant)?;
        if self.place(own, 0) == shard {
            return Ok(tenant.to_string());
        }
        // Each one leads there with a chance of one in so many shards.
        let tries = self.primaries * 200;
        (0..tries)
            .map(|number| format!("{tenant}#{number}"))
            .find(|key| self.place(hash_of(key), 0) == shard)
            .ok_or_else(|| failure(format!("none of {tries} leads to shard {shard}")))
    }

    /// Java's arithmetic: the sum wraps, the remainder does not go below zero.
    fn place(&self, hash: i32, offset: u32) -> usize {
        let routing_shard = floor_mod(hash.wrapping_add(offset as i32), self.routing_shards);
        (routing_shard / (self.routing_shards / self.primaries)) as usize
    }
}

fn layout(cause: String) -> Error {
    Error::new("lay out the index", cause)
}

fn floor_mod(hash: i32, divisor: u32) -> u32 {
    i64::from(hash).rem_euclid(i64::from(divisor)) as u32
}

fn checked_hash(routing: &str) -> Result<i32> {
    if routing.is_empty() {
        return Err(Error::new("route a document", "its routing key is empty").remedy("name its tenant"));
    }
    // A search takes a comma for the end of one key and the start of the next.
    if routing.contains(',') {
        let cause = format!("the routing key {routing:?} has a comma in it, which a search would take for two keys");
        return Err(Error::new("route a document", cause));
    }
    Ok(hash_of(routing))
}

/// The routing shards that an index gets by itself: the primaries doubled as often as they stay within 1,024, at least once.
///
/// ```
/// use hot_tenants::default_routing_shards;
///
/// assert_eq!([1, 5, 10, 600].map(default_routing_shards), [1_024, 640, 640, 1_200]);
/// ```
pub fn default_routing_shards(primaries: u32) -> u32 {
    let ceiling_of_log2 = u32::BITS - primaries.saturating_sub(1).leading_zeros();
    primaries << 10_u32.saturating_sub(ceiling_of_log2).max(1)
}

/// The hash of a routing string or an id: murmur3 (32 bits, x86, seed 0) over its UTF-16 units, low byte first.
///
/// ```
/// assert_eq!(hot_tenants::hash_of("hell") as u32, 0x5a0c_b7c3);
/// ```
pub fn hash_of(text: &str) -> i32 {
    let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    murmur3(&bytes) as i32
}

/// Austin Appleby's MurmurHash3, x86, 32 bits, seed 0.
fn murmur3(bytes: &[u8]) -> u32 {
    let scramble = |word: u32| word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let (words, rest) = bytes.as_chunks::<4>();
    let mut hash = words.iter().fold(0_u32, |hash, word| {
        (hash ^ scramble(u32::from_le_bytes(*word))).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
    });
    if !rest.is_empty() {
        hash ^= scramble(rest.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte)));
    }
    hash ^= bytes.len() as u32;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur3_is_everybodys() {
        // Published with the algorithm: over plain bytes, seed 0.
        for (text, hash) in [("", 0), ("a", 0x3c25_69b2), ("abc", 0xb3dd_93fa), ("Hello, world!", 0xc036_3e43)] {
            assert_eq!(murmur3(text.as_bytes()), hash, "{text}");
        }
    }

    #[test]
    fn strings_hash_as_elasticsearch_has_them() {
        for (text, hash) in [
            ("hell", 0x5a0c_b7c3),
            ("hello", 0xd7c3_1989),
            ("hello w", 0x22ab_2984),
            ("hello wo", 0xdf0c_a123),
            ("hello wor", 0xe774_4d61),
            ("The quick brown fox jumps over the lazy dog", 0xe07d_b09c),
            ("The quick brown fox jumps over the lazy cog", 0x4e63_d2ad),
        ] {
            assert_eq!(hash_of(text) as u32, hash, "{text}");
        }
    }
}

//! Which shard a key is on.

use xxhash_rust::xxh3::xxh3_64;

use placing::consistent_hashing::jump;

/// The shard of a key among `shards` (at least 1): the same in every process, on every machine, in every release. One more
/// shard takes its share from each of the others, and nothing else moves.
///
/// ```
/// use kv::shard_of;
///
/// assert_eq!(shard_of(b"user:1", 1), 0);
/// assert_eq!(shard_of(b"user:1", 10), shard_of(b"user:1", 10));
/// ```
pub fn shard_of(key: &[u8], shards: usize) -> usize {
    jump(xxh3_64(key), shards.clamp(1, u32::MAX as usize) as u32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys that are stored somewhere stay there: a change of these places loses all data of everybody.
    #[test]
    fn places_that_may_never_change() {
        let keys: [&[u8]; 6] = [b"", b"a", b"user:1", b"user:2", b"\0\xff", "Größe".as_bytes()];
        let places: Vec<usize> = keys.iter().map(|key| shard_of(key, 10)).collect();
        assert_eq!(places, PLACES);
    }

    const PLACES: [usize; 6] = [0, 8, 1, 9, 8, 7];

    #[test]
    fn a_shard_more_takes_from_all_and_moves_nothing_else() {
        for shards in 1..20 {
            for key in 0..2_000_u32 {
                let (before, after) = (shard_of(&key.to_be_bytes(), shards), shard_of(&key.to_be_bytes(), shards + 1));
                assert!(after == before || after == shards, "{key} went from {before} to {after}");
            }
        }
    }
}

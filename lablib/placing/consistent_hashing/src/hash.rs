//! Where a text lies: the hash functions of the placements.

use md5::{Digest, Md5};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128};

/// The hash that places keys and points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyHash {
    /// The whole MD5 digest, first byte highest: the prototype's, and what ketama is made of.
    #[default]
    Md5,
    /// XXH3, 128 bits: as even, and some twenty times as fast for a short key.
    Xxh3,
}

impl KeyHash {
    /// The place of `text` on the circle.
    pub fn position(self, text: &str) -> u128 {
        match self {
            Self::Md5 => u128::from_be_bytes(Md5::digest(text.as_bytes()).into()),
            Self::Xxh3 => xxh3_128(text.as_bytes()),
        }
    }
}

/// 64 bits of `text`, another draw for each seed.
pub(super) fn bits(text: &str, seed: u64) -> u64 {
    xxh3_64_with_seed(text.as_bytes(), seed)
}

//! A random order without a repetition, and without a list of what was drawn.

use lab::{Error, Result, Rng};

/// Rearranges the numbers of so many bits: every number comes out once, in an order that looks random.
///
/// A Feistel network: whatever its round function does, the whole can be undone, so two numbers never meet. Random
/// *draws* would: of 10 million draws from 32 bits some 11,600 repeat an earlier one, and those rows would be refused.
///
/// ```
/// use key_width::Permutation;
///
/// let shuffled = Permutation::of_bits(8, 1).unwrap();
/// let mut numbers: Vec<u64> = (0..256).map(|number| shuffled.of(number)).collect();
/// assert_ne!(numbers[..4], [0, 1, 2, 3]);
/// numbers.sort_unstable();
/// assert_eq!(numbers, (0..256).collect::<Vec<_>>());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permutation {
    half: u32,
    keys: [u64; ROUNDS],
}

const ROUNDS: usize = 6;

impl Permutation {
    /// A permutation of the numbers below 2^`bits`: an even number of bits, from 2 to 64.
    pub fn of_bits(bits: u32, seed: u64) -> Result<Self> {
        if !(2..=64).contains(&bits) || bits % 2 == 1 {
            let error = Error::new("make a permutation", format!("{bits} bits cannot be halved"));
            return Err(error.remedy("use an even number of bits, from 2 to 64"));
        }
        let mut rng = Rng::seeded(seed, "permutation");
        Ok(Self { half: bits / 2, keys: std::array::from_fn(|_| rng.bits()) })
    }

    /// How many numbers it rearranges; `None` for all 2^64.
    pub fn size(&self) -> Option<u64> {
        1_u64.checked_shl(2 * self.half)
    }

    /// Where a number goes. Bits above the permutation's own are left as they are.
    pub fn of(&self, number: u64) -> u64 {
        let (left, right) = self.split(number);
        let (left, right) = self.keys.iter().fold((left, right), |(l, r), key| (r, l ^ self.mixed(r, *key)));
        self.join(number, left, right)
    }

    /// Where a number came from.
    pub fn back(&self, number: u64) -> u64 {
        let (left, right) = self.split(number);
        let (left, right) = self.keys.iter().rev().fold((left, right), |(l, r), key| (r ^ self.mixed(l, *key), l));
        self.join(number, left, right)
    }

    fn mask(&self) -> u64 {
        (1 << self.half) - 1
    }

    fn split(&self, number: u64) -> (u64, u64) {
        ((number >> self.half) & self.mask(), number & self.mask())
    }

    fn join(&self, number: u64, left: u64, right: u64) -> u64 {
        let above = self.size().map_or(0, |size| number & !(size - 1));
        above | left << self.half | right
    }

    fn mixed(&self, half: u64, key: u64) -> u64 {
        mix(half ^ key) & self.mask()
    }
}

/// Stirs 64 bits so that each bit of the result depends on all of them (the finaliser of SplitMix64).
pub(super) fn mix(bits: u64) -> u64 {
    let bits = (bits.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ (bits.wrapping_add(0x9e37_79b9_7f4a_7c15) >> 30))
        .wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

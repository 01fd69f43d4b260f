//! Seeded randomness: the same seed gives the same keys, the same traffic, the same claims.

use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_pcg::Pcg64;

use crate::{Error, Result};

/// FNV-1a: stable across Rust versions, which `DefaultHasher` is not.
pub(crate) fn fnv_1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// A stream of random numbers that depends on nothing but a seed and the stream's label.
///
/// ```
/// use lab::Rng;
///
/// let (mut a, mut b) = (Rng::seeded(7, "keys"), Rng::seeded(7, "keys"));
/// assert_eq!(a.below(1_000), b.below(1_000));
/// ```
#[derive(Debug, Clone)]
pub struct Rng(Pcg64);

impl Rng {
    /// The stream called `label` under `seed`. Different labels give independent streams.
    pub fn seeded(seed: u64, label: &str) -> Self {
        let hash = fnv_1a(label.bytes());
        let mut state = [0; 32];
        state[..8].copy_from_slice(&seed.to_le_bytes());
        state[8..16].copy_from_slice(&hash.to_le_bytes());
        Self(Pcg64::from_seed(state))
    }

    /// A whole number from 0 to `limit - 1`; 0 where `limit` is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.0.random_range(0..limit) }
    }

    /// A number from 0 (included) to 1 (excluded).
    pub fn unit(&mut self) -> f64 {
        self.0.random()
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.random()
    }

    /// `count` distinct elements in random order; all of them where there are fewer.
    pub fn pick<T: Clone>(&mut self, from: &[T], count: usize) -> Vec<T> {
        let mut indices: Vec<usize> = (0..from.len()).collect();
        let (picked, _) = indices.partial_shuffle(&mut self.0, count.min(from.len()));
        picked.iter().map(|&index| from[index].clone()).collect()
    }

    /// Puts the elements into random order.
    pub fn shuffle<T>(&mut self, elements: &mut [T]) {
        elements.shuffle(&mut self.0);
    }

    /// `length` lower-case letters and digits.
    pub fn word(&mut self, length: usize) -> String {
        const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        (0..length).map(|_| char::from(LETTERS[self.0.random_range(0..LETTERS.len())])).collect()
    }
}

/// Draws numbers from 0 up, each as often as its weight says.
#[derive(Debug, Clone)]
pub struct Weighted {
    /// The sum of the weights up to and including each.
    up_to: Vec<f64>,
}

impl Weighted {
    /// A number for each weight: at least one, none below zero, and not all zero.
    pub fn of(weights: impl IntoIterator<Item = f64>) -> Result<Self> {
        let mut sum = 0.0;
        let mut usable = true;
        let up_to: Vec<f64> = weights
            .into_iter()
            .map(|weight| {
                usable &= weight >= 0.0;
                sum += weight;
                sum
            })
            .collect();
        match usable && sum > 0.0 && sum.is_finite() {
            true => Ok(Self { up_to }),
            false => Err(Error::new("draw by weight", "the weights are no numbers from 0 up, or are all 0")),
        }
    }

    /// The number of rank r, from 0 on, comes in proportion to 1 / (r + 1)^`exponent`.
    pub fn zipf(count: usize, exponent: f64) -> Result<Self> {
        Self::of((1..=count).map(|rank| (rank as f64).powf(-exponent)))
    }

    /// The share of each number, which sum up to 1.
    pub fn shares(&self) -> Vec<f64> {
        let all = self.total();
        let mut before = 0.0;
        let share = |&up_to: &f64| (up_to - std::mem::replace(&mut before, up_to)) / all;
        self.up_to.iter().map(share).collect()
    }

    /// The next number.
    pub fn draw(&self, rng: &mut Rng) -> usize {
        let place = rng.unit() * self.total();
        self.up_to.partition_point(|&up_to| up_to <= place).min(self.up_to.len() - 1)
    }

    fn total(&self) -> f64 {
        self.up_to.last().copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_depends_on_seed_and_label_alone() {
        let draw = |seed, label| {
            (0..8).map(|_| 0).scan(Rng::seeded(seed, label), |rng, _: u8| Some(rng.bits())).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, "keys"), draw(1, "keys"));
        assert_ne!(draw(1, "keys"), draw(2, "keys"));
        assert_ne!(draw(1, "keys"), draw(1, "nodes"));
    }

    #[test]
    fn picks_are_distinct_and_bounded() {
        let mut rng = Rng::seeded(3, "pick");
        let all: Vec<u32> = (0..100).collect();
        let mut picked = rng.pick(&all, 40);
        picked.sort_unstable();
        picked.dedup();
        assert_eq!(picked.len(), 40);
        assert_eq!(rng.pick(&all, 1_000).len(), 100);
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn numbers_come_as_their_weights_say() {
        let (zipf, mut rng) = (Weighted::zipf(100, 1.5).unwrap(), Rng::seeded(1, "zipf"));
        let (shares, draws) = (zipf.shares(), (0..20_000).map(|_| zipf.draw(&mut rng)).collect::<Vec<_>>());
        for rank in [0, 1, 9] {
            let share = draws.iter().filter(|draw| **draw == rank).count() as f64 / 20_000.0;
            let error = (shares[rank] * (1.0 - shares[rank]) / 20_000.0).sqrt();
            assert!((share - shares[rank]).abs() < 5.0 * error, "{rank}: {share} {}", shares[rank]);
        }
        assert!(
            (shares.iter().sum::<f64>() - 1.0).abs() < 1e-9 && (shares[1] / shares[0] - 0.5_f64.powf(1.5)).abs() < 1e-9
        );
        let mut rng = Rng::seeded(2, "none of nothing");
        let some = Weighted::of([0.0, 1.0, 0.0]).unwrap();
        assert!((0..100).all(|_| some.draw(&mut rng) == 1));
    }

    #[test]
    fn what_is_no_weight_is_refused() {
        for weights in [vec![], vec![0.0, 0.0], vec![1.0, -0.5], vec![f64::NAN], vec![f64::INFINITY]] {
            assert!(Weighted::of(weights.clone()).is_err(), "{weights:?}");
        }
    }
}

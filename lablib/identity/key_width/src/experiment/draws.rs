//! Why a random order has to be a permutation.

use super::super::{Permutation, mix};
use lab::OrFail;

/// Random keys of 32 bits, drawn one by one and permuted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draws {
    /// How many keys.
    pub rows: u64,
    /// Keys that had been drawn before: rows that the server would refuse.
    pub repeated: u64,
    /// The same among the permuted ones.
    pub repeated_in_permutation: u64,
}

impl Draws {
    /// Makes so many keys in both ways.
    pub fn of(rows: u64, seed: u64) -> Self {
        let permutation = Permutation::of_bits(32, seed).or_fail();
        Self {
            rows,
            repeated: repeats((0..rows).map(|row| mix(seed.rotate_left(9) ^ mix(row)) as u32)),
            repeated_in_permutation: repeats((0..rows).map(|row| permutation.of(row) as u32)),
        }
    }
}

/// How many of so many draws from 32 bits repeat an earlier one, on average.
pub fn expected_repeats(rows: f64) -> f64 {
    let all = 2.0_f64.powi(32);
    rows - all * -(rows * (-1.0 / all).ln_1p()).exp_m1()
}

fn repeats(keys: impl Iterator<Item = u32>) -> u64 {
    let mut keys: Vec<u32> = keys.collect();
    let all = keys.len();
    keys.sort_unstable();
    keys.dedup();
    (all - keys.len()) as u64
}

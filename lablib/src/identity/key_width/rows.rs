//! The rows that every arm holds, whatever their keys are.

use super::key::Keys;
use super::permutation::mix;
use crate::lab::{Error, Result};

/// A table's rows but for their keys: an age, which has a secondary index, and some padding. Row n is the same in every arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    /// How many there are.
    pub count: u64,
    /// How many different ages there are. Rows of one age lie in the secondary index by their primary keys.
    pub ages: u32,
    /// How many bytes of padding each has: 255 at most.
    pub pad: usize,
    /// What they are made from.
    pub seed: u64,
}

/// What a table holds, in four sums: equal rows have equal ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fingerprint {
    /// The rows.
    pub rows: u128,
    /// The sum of their ages.
    pub ages: u128,
    /// The sum of what their padding begins with, as a number.
    pub pads: u128,
    /// The sum of age times padding: which age belongs to which padding.
    pub pairs: u128,
}

/// The digits of the padding that a fingerprint reads.
const READ: usize = 8;

impl Rows {
    /// An error where there is nothing to insert, or more padding than its column takes.
    pub fn check(&self) -> Result<()> {
        let refuse = |cause: &str| Err(Error::new("make the rows", cause));
        match self {
            Self { count: 0, .. } => refuse("there are none"),
            Self { ages: 0, .. } => refuse("there is no age that they could have"),
            Self { pad: 256.., .. } => refuse("the padding has 255 bytes at most"),
            _ => Ok(()),
        }
    }

    /// The age of a row.
    pub fn age(&self, row: u64) -> u32 {
        (self.word(row) % u64::from(self.ages.max(1))) as u32
    }

    /// The padding of a row: hexadecimal digits.
    pub fn pad(&self, row: u64) -> String {
        let mut digits = String::with_capacity(self.pad + 16);
        let mut word = mix(self.word(row));
        while digits.len() < self.pad {
            digits.push_str(&format!("{word:016x}"));
            word = mix(word);
        }
        digits.truncate(self.pad);
        digits
    }

    /// What comes after the keys in an INSERT of the rows `from` up to `to`, which is the same for every arm.
    pub(super) fn values(&self, from: u64, to: u64) -> Vec<String> {
        (from..to).map(|row| format!(",{},'{}')", self.age(row), self.pad(row))).collect()
    }

    /// An INSERT of the rows from `from` on, whose `values` they are.
    pub(super) fn insert(&self, table: &str, keys: &Keys, from: u64, values: &[String]) -> String {
        let mut statement = String::with_capacity(64 + values.len() * (self.pad + 56));
        statement.push_str("INSERT INTO ");
        statement.push_str(table);
        statement.push_str(" (id, age, pad) VALUES ");
        for (row, rest) in (from..).zip(values) {
            statement.push_str(if row == from { "(" } else { ",(" });
            statement.push_str(&keys.literal(row));
            statement.push_str(rest);
        }
        statement
    }

    /// What a table must hold that holds all of these rows.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut sums = Fingerprint { rows: u128::from(self.count), ..Fingerprint::default() };
        for row in 0..self.count {
            let age = u128::from(self.age(row));
            let digits = READ.min(self.pad) as u32;
            // The first digits of the padding, as a number.
            let word = if digits == 0 { 0 } else { u128::from(mix(self.word(row)) >> (64 - 4 * digits)) };
            sums.ages += age;
            sums.pads += word;
            sums.pairs += age * word;
        }
        sums
    }

    fn word(&self, row: u64) -> u64 {
        mix(self.seed.rotate_left(32) ^ mix(row))
    }
}

impl Fingerprint {
    /// The question whose answer is a table's fingerprint.
    pub(super) fn question(table: &str) -> String {
        let word = format!("CAST(COALESCE(CONV(LEFT(pad, {READ}), 16, 10), 0) AS UNSIGNED)");
        format!(
            "SELECT CAST(COUNT(*) AS CHAR), CAST(COALESCE(SUM(age), 0) AS CHAR), CAST(COALESCE(SUM({word}), 0) AS CHAR), \
             CAST(COALESCE(SUM(age * {word}), 0) AS CHAR) FROM {table} FORCE INDEX (PRIMARY)"
        )
    }
}

//! The rows that every arm holds, whatever their keys are.

use super::key::{KeyWidth, Keys};
use super::permutation::mix;
use crc32fast::hash as crc32;
use lab::{Error, Result};

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

/// What an index holds, in three sums: equal rows have equal ones, and two that differ have the same with a chance of one in
/// four billion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fingerprint {
    /// The rows.
    pub rows: u128,
    /// The sum of their ages.
    pub ages: u128,
    /// The sum of their checksums, each over all that the index has of a row.
    pub sums: u128,
}

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

    /// What a table must hold that holds all of these rows under these keys: by the rows themselves, and by its
    /// secondary index, which has ages and keys.
    pub fn fingerprints(&self, keys: &Keys) -> (Fingerprint, Fingerprint) {
        let none = Fingerprint { rows: u128::from(self.count), ..Fingerprint::default() };
        let (mut rows, mut entries) = (none, none);
        let mut text = String::new();
        for row in 0..self.count {
            let age = self.age(row);
            text.clear();
            text.push_str(&keys.text(row));
            text.push_str(&format!(",{age}"));
            entries.sums += u128::from(crc32(text.as_bytes()));
            text.push(',');
            text.push_str(&self.pad(row));
            rows.sums += u128::from(crc32(text.as_bytes()));
            rows.ages += u128::from(age);
        }
        entries.ages = rows.ages;
        (rows, entries)
    }

    fn word(&self, row: u64) -> u64 {
        mix(self.seed.rotate_left(32) ^ mix(row))
    }
}

impl Fingerprint {
    /// The questions whose answers are a table's fingerprints: of its rows, and of its secondary index.
    pub(super) fn questions(table: &str, key: KeyWidth) -> [String; 2] {
        let key = key.sql_text();
        let of = |index: &str, all: &str| {
            format!(
                "SELECT CAST(COUNT(*) AS CHAR), CAST(COALESCE(SUM(age), 0) AS CHAR), \
                 CAST(COALESCE(SUM(CRC32(CONCAT({key}, ',', {all}))), 0) AS CHAR) FROM {table} FORCE INDEX ({index})"
            )
        };
        [of("PRIMARY", "age, ',', pad"), of("by_age", "age")]
    }
}

//! The prototypes, as they are: to be shown, not used.

use std::hash::BuildHasher;
use std::hash::RandomState;

use mysql::Conn;
use mysql::prelude::Queryable;

use lab::service::MariaDb;
use lab::{Doing, Result};

const DOING: &str = "run the prototype";

/// The first prototype: a table whose key has no key.
///
/// Every set inserts a row, and a get takes the first one that it finds; a deletion marks the rows, with an expiry of −1. The
/// clock is an INT and the client's.
pub struct FirstPrototype(Conn);

impl FirstPrototype {
    /// In a table of its own on this server.
    pub fn on(server: &MariaDb) -> Result<Self> {
        let mut connection = server.connect()?;
        let table = "CREATE OR REPLACE TABLE kv_store (id BIGINT AUTO_INCREMENT PRIMARY KEY, k VARCHAR(255), value TEXT, \
                     expiry INT)";
        connection.query_drop(table).doing(DOING)?;
        Ok(Self(connection))
    }

    /// Inserts a row that expires at a second since 1970.
    pub fn set(&mut self, key: &str, value: &str, expiry: u64) -> Result<()> {
        let sql = "INSERT INTO kv_store (k, value, expiry) VALUES (?, ?, ?)";
        self.0.exec_drop(sql, (key, value, expiry)).doing(DOING)
    }

    /// What the first row of a key says at this second: its value, or that it is deleted or has expired.
    pub fn get(&mut self, key: &str, now: u64) -> Result<String> {
        let sql = "SELECT value, expiry FROM kv_store WHERE k = ? LIMIT 1";
        let row: Option<(String, i64)> = self.0.exec_first(sql, (key,)).doing(DOING)?;
        Ok(match row {
            None => "nothing".into(),
            Some((_, -1)) => "deleted".into(),
            Some((_, expiry)) if expiry < now as i64 => "expired".into(),
            Some((value, _)) => value,
        })
    }

    /// Marks the rows of a key.
    pub fn delete(&mut self, key: &str) -> Result<()> {
        self.0.exec_drop("UPDATE kv_store SET expiry = -1 WHERE k = ?", (key,)).doing(DOING)
    }
}

/// The second prototype's router: Python's `hash` of a text, which is salted anew in each process, modulo the shards.
#[derive(Debug, Clone, Default)]
pub struct SaltedRoute(RandomState);

impl SaltedRoute {
    /// The router as a process has it that has just been started.
    pub fn of_a_new_process() -> Self {
        Self::default()
    }

    /// The shard of a key, in this process.
    pub fn shard_of(&self, key: &[u8], shards: usize) -> usize {
        (self.0.hash_one(key) % shards.max(1) as u64) as usize
    }
}

/// The third prototype's router, by the first letter: seven ranges over five tables, and everything else to the third of them.
pub fn range_route(key: &[u8]) -> usize {
    const RANGES: [(u8, u8); 7] =
        [(b'a', b'e'), (b'e', b'f'), (b'f', b'l'), (b'l', b'm'), (b'm', b'n'), (b'n', b'p'), (b'p', b'z')];
    let Some(&first) = key.first() else { return 2 };
    RANGES.iter().position(|&(from, to)| (from..to).contains(&first)).map_or(2, |range| range % 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_thirds_of_the_letters_go_to_one_table() {
        let letters = (b'0'..=b'9').chain(b'a'..=b'z').chain(b'A'..=b'Z').chain([b'_']);
        assert_eq!(letters.clone().count(), 63);
        assert_eq!(letters.filter(|&letter| range_route(&[letter]) == 2).count(), 44);
    }
}

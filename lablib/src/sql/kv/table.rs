//! The table.

use super::entry::LONGEST_KEY;
use crate::lab::service::Dialect;
use crate::lab::{Error, Result};

/// Microseconds since 1970, when the statement began: what a plain read goes by, because its snapshot is not older.
pub(super) const BEGAN: &str = "CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS UNSIGNED)";
/// The same at the moment of looking. A statement that changes something may have waited for its row, and what was alive
/// when it began has expired since.
pub(super) const AT_THIS_MOMENT: &str = "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS UNSIGNED)";

/// Where a store keeps its entries: a table of this name in each shard's database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table(String);

impl Default for Table {
    fn default() -> Self {
        Self("kv".into())
    }
}

impl Table {
    /// A table of this name: small letters, digits and `_`.
    pub fn named(name: &str) -> Result<Self> {
        let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
        if name.is_empty() || name.len() > 60 || !name.chars().all(plain) {
            return Err(Error::new("name a table", format!("{name:?} is no name for it"))
                .remedy("take small letters, digits and _, at most 60"));
        }
        Ok(Self(name.into()))
    }

    /// The key is the primary key: InnoDB keeps the row there, so a read is one descent of one tree. The clock's column is
    /// wide enough for any time (the prototype's INT ended in 2038), and its index is for the sweeper alone.
    pub fn definition(&self) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {self} (k VARBINARY({LONGEST_KEY}) NOT NULL PRIMARY KEY, v MEDIUMBLOB NOT NULL, \
             version BIGINT UNSIGNED NOT NULL, expires_at BIGINT UNSIGNED NULL, KEY by_expiry (expires_at)) ENGINE = InnoDB"
        )
    }

    pub(super) fn put(&self, dialect: Dialect) -> String {
        let columns = ["k", "v", "version", "expires_at"];
        let values = ["?", "?", "?", &format!("{AT_THIS_MOMENT} + ?")];
        dialect.upsert_values(&self.0, &columns, &values, &columns[1..])
    }

    pub(super) fn insert(&self) -> String {
        format!("INSERT INTO {self} (k, v, version, expires_at) VALUES (?, ?, ?, {AT_THIS_MOMENT} + ?)")
    }

    pub(super) fn replace_version(&self) -> String {
        let alive = alive(AT_THIS_MOMENT);
        format!(
            "UPDATE {self} SET v = ?, version = ?, expires_at = {AT_THIS_MOMENT} + ? WHERE k = ? AND version = ? AND {alive}"
        )
    }

    pub(super) fn delete(&self) -> String {
        format!("DELETE FROM {self} WHERE k = ? AND {}", alive(AT_THIS_MOMENT))
    }

    pub(super) fn delete_expired(&self) -> String {
        format!("DELETE FROM {self} WHERE k = ? AND expires_at <= {AT_THIS_MOMENT}")
    }

    /// Key, value, version, and microseconds to live; `which` is what comes after `WHERE`.
    pub(super) fn select(&self, which: &str, expired_too: bool) -> String {
        // Cast, because a difference of unsigned numbers may not be negative.
        let left = format!("CAST(expires_at AS SIGNED) - CAST({BEGAN} AS SIGNED)");
        let alive = if expired_too { "TRUE".into() } else { alive(BEGAN) };
        format!("SELECT k, v, version, {left} FROM {self} WHERE {which} AND {alive}")
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn alive(now: &str) -> String {
    format!("(expires_at IS NULL OR expires_at > {now})")
}

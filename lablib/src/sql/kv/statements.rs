//! The table, and what is said to it.

use super::entry::LONGEST_KEY;
use crate::lab::service::Dialect;

/// Microseconds since 1970, when the statement began: what a plain read goes by, because its snapshot is not older.
pub(super) const BEGAN: &str = "CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS UNSIGNED)";
/// The same at the moment of looking. A statement that changes something may have waited for its row, and what was alive
/// when it began has expired since.
const AT_THIS_MOMENT: &str = "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS UNSIGNED)";

/// The key is the primary key: InnoDB keeps the row there, so a read is one descent of one tree. The clock's column is
/// wide enough for any time (the prototype's INT ends in 2038), and its index is for the sweeper alone.
pub(super) fn create() -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS kv (k VARBINARY({LONGEST_KEY}) NOT NULL PRIMARY KEY, v MEDIUMBLOB NOT NULL, \
         version BIGINT UNSIGNED NOT NULL, expires_at BIGINT UNSIGNED NULL, KEY by_expiry (expires_at)) ENGINE = InnoDB"
    )
}

/// Takes key, value, version, and the microseconds to live or NULL.
pub(super) fn put(dialect: Dialect) -> String {
    let columns = ["k", "v", "version", "expires_at"];
    dialect.upsert_values("kv", &columns, &["?", "?", "?", &format!("{AT_THIS_MOMENT} + ?")], &columns[1..])
}

/// As [`put`], where there is no such key.
pub(super) fn insert() -> String {
    format!("INSERT INTO kv (k, v, version, expires_at) VALUES (?, ?, ?, {AT_THIS_MOMENT} + ?)")
}

/// Takes value, new version, microseconds to live or NULL, key, and the version that must be there.
pub(super) fn swap() -> String {
    let alive = alive(AT_THIS_MOMENT);
    format!(
        "UPDATE kv SET v = ?, version = ?, expires_at = {AT_THIS_MOMENT} + ? WHERE k = ? AND version = ? AND {alive}"
    )
}

pub(super) fn delete() -> String {
    format!("DELETE FROM kv WHERE k = ? AND {}", alive(AT_THIS_MOMENT))
}

pub(super) fn delete_expired() -> String {
    format!("DELETE FROM kv WHERE k = ? AND expires_at <= {AT_THIS_MOMENT}")
}

/// Key, value, version, and microseconds to live; `which` is what comes after `WHERE`.
pub(super) fn select(which: &str, expired_too: bool) -> String {
    // Cast, because a difference of unsigned numbers may not be negative.
    let left = format!("CAST(expires_at AS SIGNED) - CAST({BEGAN} AS SIGNED)");
    let alive = if expired_too { "TRUE".into() } else { alive(BEGAN) };
    format!("SELECT k, v, version, {left} FROM kv WHERE {which} AND {alive}")
}

fn alive(now: &str) -> String {
    format!("(expires_at IS NULL OR expires_at > {now})")
}

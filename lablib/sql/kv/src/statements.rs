//! The table, and what is said to it.

use super::entry::LONGEST_KEY;
use lab::service::Dialect;

/// Microseconds since 1970, when the statement began: what a plain read goes by. Its snapshot is a little younger, so what it
/// sees was alive at some moment between the two.
pub(super) const BEGAN: &str = "CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS UNSIGNED)";
/// The same at the moment of looking. A statement that changes something may have waited for its row, and what was alive
/// when it began has expired since.
const AT_THIS_MOMENT: &str = "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS UNSIGNED)";

/// The key is the primary key: InnoDB keeps the row there, so a read is one descent of one tree. The clock's column is
/// wide enough for any time (the prototype's INT ends in 2038), and its index is for the sweeper alone. Beside it, one row
/// that says which shard this is.
pub(super) fn create() -> [String; 2] {
    let kv = format!(
        "CREATE TABLE IF NOT EXISTS kv (k VARBINARY({LONGEST_KEY}) NOT NULL PRIMARY KEY, v MEDIUMBLOB NOT NULL, \
         version BIGINT UNSIGNED NOT NULL, expires_at BIGINT UNSIGNED NULL, KEY by_expiry (expires_at)) ENGINE = InnoDB"
    );
    let place = "CREATE TABLE IF NOT EXISTS kv_shard (one BOOLEAN NOT NULL PRIMARY KEY, number INT UNSIGNED NOT NULL, \
                 shards INT UNSIGNED NOT NULL) ENGINE = InnoDB";
    [kv, place.into()]
}

/// Takes the number of this shard and of all of them; what is there already stays.
pub(super) fn keep_place() -> String {
    "INSERT IGNORE INTO kv_shard (one, number, shards) VALUES (TRUE, ?, ?)".into()
}

pub(super) fn place() -> &'static str {
    "SELECT number, shards FROM kv_shard"
}

/// Takes key, value, version, and twice the microseconds to live or NULL.
pub(super) fn put(dialect: Dialect) -> String {
    put_into(dialect, "kv", "k", "?")
}

/// As [`put`], into a table whose key is called and worked out so.
pub(super) fn put_into(dialect: Dialect, table: &str, key: &str, given: &str) -> String {
    let lives = format!("{AT_THIS_MOMENT} + ?");
    let kept = ["v", "version"].map(|column| format!("{column} = {}", dialect.inserted(column)));
    // What would have been inserted was worked out before the wait for a row that is there, so its time is no longer right.
    let changes = [&kept[..], &[format!("expires_at = {lives}")]].concat();
    dialect.upsert_setting(table, &[key, "v", "version", "expires_at"], &[given, "?", "?", &lives], &changes)
}

/// As [`put`], where there is no such key, or one that has expired; changes no row otherwise.
pub(super) fn put_if_absent(dialect: Dialect) -> String {
    let new = |column| dialect.inserted(column);
    let lives = format!("{AT_THIS_MOMENT} + ?");
    // The clock goes on from one assignment to the next, so it is asked once. What is assigned first tells the others.
    let expired = format!("version = IF(kv.expires_at <= {AT_THIS_MOMENT}, {}, kv.version)", new("version"));
    let then =
        |column: &str, new: &str, version: &str| format!("{column} = IF(kv.version = {version}, {new}, kv.{column})");
    let changes = [expired, then("v", &new("v"), &new("version")), then("expires_at", &lives, &new("version"))];
    dialect.upsert_setting("kv", &["k", "v", "version", "expires_at"], &["?", "?", "?", &lives], &changes)
}

/// As [`put`], where there is no such key.
pub(super) fn insert() -> String {
    format!("INSERT INTO kv (k, v, version, expires_at) VALUES (?, ?, ?, {AT_THIS_MOMENT} + ?)")
}

/// Takes value, new version, microseconds to live or NULL, key, and the version that must be there.
pub(super) fn swap() -> String {
    let alive = alive();
    format!(
        "UPDATE kv SET v = ?, version = ?, expires_at = {AT_THIS_MOMENT} + ? WHERE k = ? AND version = ? AND {alive}"
    )
}

pub(super) fn delete() -> String {
    format!("DELETE FROM kv WHERE k = ? AND {}", alive())
}

pub(super) fn delete_expired() -> String {
    format!("DELETE FROM kv WHERE k = ? AND expires_at <= {AT_THIS_MOMENT}")
}

/// Key, value, version, and microseconds to live, those of expired rows too; `which` is what comes after `WHERE`.
pub(super) fn select(which: &str) -> String {
    select_from("kv", "k", which, BEGAN)
}

/// The same of so many keys, at a moment at which nobody is changing their rows: it waits for whoever is.
pub(super) fn select_settled(dialect: Dialect, keys: usize) -> String {
    select_from("kv", "k", &one_of(keys), AT_THIS_MOMENT) + " " + dialect.for_share()
}

/// As [`select`], from a table whose key is called so.
pub(super) fn select_from(table: &str, key: &str, which: &str, now: &str) -> String {
    // Cast, because a difference of unsigned numbers may not be negative.
    let left = format!("CAST(expires_at AS SIGNED) - CAST({now} AS SIGNED)");
    format!("SELECT {key}, v, version, {left} FROM {table} WHERE {which}")
}

/// One of so many keys.
pub(super) fn one_of(keys: usize) -> String {
    format!("k IN ({})", vec!["?"; keys].join(", "))
}

fn alive() -> String {
    format!("(expires_at IS NULL OR expires_at > {AT_THIS_MOMENT})")
}

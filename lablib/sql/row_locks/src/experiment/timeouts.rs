//! Waiting too long, not waiting at all, and looking for what is free.

use std::time::Instant;

use mysql::prelude::Queryable;
use mysql::{Conn, Error as Said};

use super::make_table;
use crate::{Client, Retry};
use lab::service::MariaDb;
use lab::{Doing, Error, Frame, Result, Rng};

const TABLE: &str = "patience";
/// Rows that nobody holds.
const FREE: [u32; 4] = [2, 3, 4, 5];
const DOING: &str = "meet a lock";

/// A session that holds row 1 of five.
fn holder(server: &MariaDb) -> Result<Conn> {
    let rows = (1..=5).map(|id| format!("({id}, 0)"));
    make_table(server, TABLE, "id INT NOT NULL PRIMARY KEY, n INT NOT NULL", rows)?;
    let mut holder = server.connect()?;
    holder.query_drop("START TRANSACTION").doing(DOING)?;
    holder.query_drop(format!("SELECT * FROM {TABLE} WHERE id = 1 FOR UPDATE")).doing(DOING)?;
    Ok(holder)
}

/// Three sessions that have changed a row of their own want one that is held. A row for each: `who`, the server's `error` and the seconds
/// until it came (`after`), what was `said`, and rows of its transaction that were changed in the end (`left`): 1 is half of a
/// transaction, 0 none of it. A patient one waits for a second and takes the error for the end of its statement only; a [`Client`] gives
/// up at once, and rolls back; the third says `NOWAIT`.
pub fn timeouts(server: &MariaDb) -> Result<Frame> {
    let holder = holder(server)?;
    let mut patient = server.connect()?;
    patient.query_drop("SET SESSION innodb_lock_wait_timeout = 1").doing(DOING)?;
    let update = format!("UPDATE {TABLE} SET n = 1 WHERE id = 1");
    let nowait = format!("SELECT * FROM {TABLE} WHERE id = 1 FOR UPDATE NOWAIT");
    let met = [
        commits_all_the_same(server, "waits for a second, then commits", &mut patient, 2, &update)?,
        gives_up(server, "does not wait, and rolls back", 3, &update)?,
        commits_all_the_same(server, "NOWAIT, then commits", &mut server.connect()?, 4, &nowait)?,
    ];
    drop(holder);
    server.try_execute(&format!("DROP TABLE {TABLE}"))?;
    Ok(met.into_iter().collect())
}

/// Changes a row of its own in a transaction, is refused the locked one, and commits.
fn commits_all_the_same(server: &MariaDb, who: &str, connection: &mut Conn, own: u32, sql: &str) -> Result<Frame> {
    connection.query_drop("START TRANSACTION").doing(DOING)?;
    connection.query_drop(format!("UPDATE {TABLE} SET n = 1 WHERE id = {own}")).doing(DOING)?;
    let began = Instant::now();
    let refused = match connection.query_drop(sql) {
        Err(Said::MySqlError(error)) => error,
        Err(error) => return Err(Error::new(format!("run {sql:?}"), error)),
        Ok(()) => return Err(Error::new(format!("run {sql:?}"), "it was to be refused, and it was not")),
    };
    let after = began.elapsed().as_secs_f64();
    connection.query_drop("COMMIT").doing(DOING)?;
    met(server, who, own, (refused.code, after), &refused.message)
}

/// The same by a [`Client`], whose every failed try is rolled back; it has one.
fn gives_up(server: &MariaDb, who: &str, own: u32, sql: &str) -> Result<Frame> {
    let retry = Retry { most: 1, ..Retry::default() };
    let mut client = Client::connect(server, retry, Rng::seeded(1, "patience"))?;
    // MariaDB takes 0 for "do not wait"; MySQL's least is a second.
    client.set(&format!("SET SESSION innodb_lock_wait_timeout = {}", u8::from(!server.dialect().is_mariadb())))?;
    let mut told = None;
    let gave_up = client.transaction(|connection| {
        connection.query_drop(format!("UPDATE {TABLE} SET n = 1 WHERE id = {own}"))?;
        let began = Instant::now();
        connection.query_drop(sql).inspect_err(|error| {
            if let Said::MySqlError(error) = error {
                told = Some((error.code, began.elapsed().as_secs_f64()));
            }
        })
    });
    let (Err(said), Some(told)) = (gave_up, told) else {
        return Err(Error::new("give up at a lock", "the client was to be refused by the server, and it was not"));
    };
    met(server, who, own, told, &said.to_string())
}

fn met(server: &MariaDb, who: &str, own: u32, (error, after): (u16, f64), said: &str) -> Result<Frame> {
    let left = server.ask(&format!("SELECT n FROM {TABLE} WHERE id = {own}"))?.parse().doing("read a row")?;
    Ok(Frame::new()
        .text("who", [who])
        .text("error", [error])
        .numbers("after", "s", [after])
        .text("said", [said])
        .counts("left", "rows", [left]))
}

/// Somebody says `SKIP LOCKED` where one row of five is held. A row for each moment (`when`): how many rows were `found`, which `rows`, and
/// how many of those that nobody else holds were then `held`, as others tried them.
pub fn skip_locked(server: &MariaDb) -> Result<Frame> {
    let holder = holder(server)?;
    let (mut skipping, mut prober) = (server.connect()?, server.connect()?);
    let skip = format!("SELECT id FROM {TABLE} ORDER BY id FOR UPDATE SKIP LOCKED");
    let mut seen = Frame::new();
    for (when, begin, then) in [
        ("in its transaction", "START TRANSACTION", skip.as_str()),
        ("after the transaction", "COMMIT", "DO 0"),
        ("without a transaction", "DO 0", &skip),
    ] {
        skipping.query_drop(begin).doing(DOING)?;
        let rows: Vec<String> = skipping.query(then).doing(DOING)?;
        let held = FREE.into_iter().map(|row| is_held(server, &mut prober, row)).sum::<Result<u64>>()?;
        let moment = Frame::new().text("when", [when]).counts("found", "", [rows.len() as u64]);
        seen = seen.stack(&moment.text("rows", [rows.join(", ")]).counts("held", "", [held]));
    }
    drop(holder);
    server.try_execute(&format!("DROP TABLE {TABLE}"))?;
    Ok(seen)
}

/// 1 if somebody holds this row.
fn is_held(server: &MariaDb, prober: &mut Conn, row: u32) -> Result<u64> {
    let sql = format!("SELECT id FROM {TABLE} WHERE id = {row} FOR UPDATE NOWAIT");
    match prober.query_drop(&sql) {
        Ok(()) => Ok(0),
        Err(Said::MySqlError(error)) if error.code == server.dialect().nowait_error() => Ok(1),
        Err(error) => Err(Error::new(format!("run {sql:?}"), error)),
    }
}

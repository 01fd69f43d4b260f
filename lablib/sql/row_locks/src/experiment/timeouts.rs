//! Waiting too long, not waiting at all, and looking for what is free.

use std::time::Instant;

use mysql::prelude::Queryable;
use mysql::{Conn, Error as Said};

use crate::{Client, Retry};
use lab::service::MariaDb;
use lab::{Doing, Error, Result, Rng, Table};

const TABLE: &str = "patience";
/// Rows that nobody holds.
const FREE: [u32; 4] = [2, 3, 4, 5];

/// What a session was told that wanted the locked row, and what is left of its transaction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Refused {
    /// The server's error.
    pub error: u16,
    /// Seconds until it came.
    pub after: f64,
    /// Rows of its transaction that were changed in the end: 1 is half of a transaction, 0 none of it.
    pub left: u64,
}

/// What became of those who met a lock.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// Waits for a second, takes the error for the end of its statement only, and commits.
    pub patient: Refused,
    /// A [`Client`] that gives up at once, and rolls back.
    pub client: Refused,
    pub client_said: String,
    /// Says `NOWAIT`, and commits.
    pub nowait: Refused,
    /// Rows that `SKIP LOCKED` returned, in a transaction.
    pub skipping_found: Vec<u32>,
    /// Of the rows that nobody else holds: how many its transaction held, how many when that had ended, and how many after the
    /// same statement outside of a transaction; others tried them.
    pub skipping_held: [u64; 3],
}

/// One session holds row 1 of five; others have changed a row of their own and meet it, each with another idea of waiting.
pub fn timeouts(server: &MariaDb) -> Result<Timeouts> {
    let doing = "meet a lock";
    server.try_execute(&format!("DROP TABLE IF EXISTS {TABLE}"))?;
    server
        .try_execute(&format!("CREATE TABLE {TABLE} (id INT NOT NULL PRIMARY KEY, n INT NOT NULL) ENGINE = InnoDB"))?;
    server.try_execute(&format!("INSERT INTO {TABLE} VALUES (1, 0), (2, 0), (3, 0), (4, 0), (5, 0)"))?;
    let mut holder = server.connect()?;
    holder.query_drop("START TRANSACTION").doing(doing)?;
    holder.query_drop(format!("SELECT * FROM {TABLE} WHERE id = 1 FOR UPDATE")).doing(doing)?;

    let patient = {
        let mut patient = server.connect()?;
        patient.query_drop("SET SESSION innodb_lock_wait_timeout = 1").doing(doing)?;
        commits_all_the_same(server, &mut patient, 2, &format!("UPDATE {TABLE} SET n = 1 WHERE id = 1"))?
    };
    let (client, client_said) = gives_up(server)?;
    let nowait = {
        let sql = format!("SELECT * FROM {TABLE} WHERE id = 1 FOR UPDATE NOWAIT");
        commits_all_the_same(server, &mut server.connect()?, 4, &sql)?
    };

    let (mut skipping, mut prober) = (server.connect()?, server.connect()?);
    let skip = format!("SELECT id FROM {TABLE} ORDER BY id FOR UPDATE SKIP LOCKED");
    skipping.query_drop("START TRANSACTION").doing(doing)?;
    let skipping_found = skipping.query(&skip).doing(doing)?;
    let within = held(server, &mut prober)?;
    skipping.query_drop("COMMIT").doing(doing)?;
    let after = held(server, &mut prober)?;
    skipping.query_drop(&skip).doing(doing)?;
    let skipping_held = [within, after, held(server, &mut prober)?];
    drop(holder);
    server.try_execute(&format!("DROP TABLE {TABLE}"))?;
    Ok(Timeouts { patient, client, client_said, nowait, skipping_found, skipping_held })
}

/// Changes a row of its own in a transaction, is refused the locked one, and commits.
fn commits_all_the_same(server: &MariaDb, connection: &mut Conn, own: u32, sql: &str) -> Result<Refused> {
    let doing = "meet a lock";
    connection.query_drop("START TRANSACTION").doing(doing)?;
    connection.query_drop(format!("UPDATE {TABLE} SET n = 1 WHERE id = {own}")).doing(doing)?;
    let began = Instant::now();
    let error = match connection.query_drop(sql) {
        Err(Said::MySqlError(error)) => error.code,
        Err(error) => return Err(Error::new(format!("run {sql:?}"), error)),
        Ok(()) => return Err(Error::new(format!("run {sql:?}"), "it was to be refused, and it was not")),
    };
    let after = began.elapsed().as_secs_f64();
    connection.query_drop("COMMIT").doing(doing)?;
    Ok(Refused { error, after, left: changed(server, own)? })
}

/// The same by a [`Client`], whose every failed try is rolled back; it has one.
fn gives_up(server: &MariaDb) -> Result<(Refused, String)> {
    let retry = Retry { most: 1, ..Retry::default() };
    let mut client = Client::connect(server, retry, Rng::seeded(1, "patience"))?;
    // MariaDB takes 0 for "do not wait"; MySQL's least is a second.
    client.set(&format!("SET SESSION innodb_lock_wait_timeout = {}", u8::from(!server.dialect().is_mariadb())))?;
    let mut told = None;
    let gave_up = client.transaction(|connection| {
        connection.query_drop(format!("UPDATE {TABLE} SET n = 1 WHERE id = 3"))?;
        let began = Instant::now();
        connection.query_drop(format!("UPDATE {TABLE} SET n = 1 WHERE id = 1")).inspect_err(|error| {
            if let Said::MySqlError(error) = error {
                told = Some((error.code, began.elapsed().as_secs_f64()));
            }
        })
    });
    let (Err(said), Some((error, after))) = (gave_up, told) else {
        return Err(Error::new("give up at a lock", "the client was to be refused by the server, and it was not"));
    };
    Ok((Refused { error, after, left: changed(server, 3)? }, said.to_string()))
}

fn changed(server: &MariaDb, row: u32) -> Result<u64> {
    server.ask(&format!("SELECT n FROM {TABLE} WHERE id = {row}"))?.parse().doing("read a row")
}

/// How many of the rows that nobody needs to hold are held by somebody.
fn held(server: &MariaDb, prober: &mut Conn) -> Result<u64> {
    let try_row = |row: u32| {
        let sql = format!("SELECT id FROM {TABLE} WHERE id = {row} FOR UPDATE NOWAIT");
        match prober.query_drop(&sql) {
            Ok(()) => Ok(0),
            Err(Said::MySqlError(error)) if error.code == server.dialect().nowait_error() => Ok(1),
            Err(error) => Err(Error::new(format!("run {sql:?}"), error)),
        }
    };
    FREE.into_iter().map(try_row).sum()
}

impl Timeouts {
    /// Who met the lock, and what came of it.
    pub fn table(&self) -> Table {
        let refused = [self.patient, self.client, self.nowait];
        let found: Vec<String> = self.skipping_found.iter().map(u32::to_string).collect();
        let said = |one: Refused| match one.after {
            long if long >= 0.1 => format!("error {} after {long:.2} s", one.error),
            short => format!("error {} after {:.1} ms", one.error, short * 1e3),
        };
        let left = |one: Refused| if one.left > 0 { "half of it" } else { "nothing" }.to_string();
        let [held, after, without] = self.skipping_held;
        let skipped = format!("{held} locked rows, {after} after its end; without a transaction {without}");
        Table::new("Four who meet a lock")
            .text(
                "who",
                [
                    "waits for a second, then commits",
                    "does not wait, and rolls back",
                    "NOWAIT, then commits",
                    "SKIP LOCKED",
                ],
            )
            .text("what the server says", refused.map(said).into_iter().chain([format!("rows {}", found.join(", "))]))
            .text("what is left of its transaction", refused.map(left).into_iter().chain([skipped]))
    }
}

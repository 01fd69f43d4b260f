//! Waiting too long, not waiting at all, and looking for what is free.

use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, Error as Said};

use crate::lab::service::MariaDb;
use crate::lab::{Doing, Error, OrFail, Result, Rng, Table};
use crate::sql::row_locks::{Client, Retry};

const TABLE: &str = "patience";

/// What became of those who met a lock.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// Seconds that the client waited which was told to wait for one.
    pub waited: f64,
    /// The error that it got then.
    pub timed_out: u16,
    /// Rows of its transaction that were there in the end, when it took the error for the end of its statement only and
    /// committed: 1 is half of a transaction.
    pub half_done: u64,
    /// The same for a [`Client`] that gave up: 0 is none.
    pub client_left: u64,
    /// What the [`Client`] said.
    pub client_said: String,
    /// Seconds until `NOWAIT` answered.
    pub nowait_took: f64,
    /// The error that it got.
    pub nowait: u16,
    /// Rows that `SKIP LOCKED` returned.
    pub skipping_found: Vec<u32>,
}

/// One session holds row 1 of five; others meet it, each with another idea of waiting.
pub fn timeouts(server: &MariaDb) -> Timeouts {
    let run = || -> Result<Timeouts> {
        let doing = "meet a lock";
        server.try_execute(&format!("DROP TABLE IF EXISTS {TABLE}"))?;
        server.try_execute(&format!(
            "CREATE TABLE {TABLE} (id INT NOT NULL PRIMARY KEY, n INT NOT NULL) ENGINE = InnoDB"
        ))?;
        server.try_execute(&format!("INSERT INTO {TABLE} VALUES (1, 0), (2, 0), (3, 0), (4, 0), (5, 0)"))?;
        let changed = |row: u32| -> Result<u64> {
            server.try_ask(&format!("SELECT n FROM {TABLE} WHERE id = {row}"))?.parse().doing("read a row")
        };
        let mut holder = server.connect()?;
        holder.query_drop("START TRANSACTION").doing(doing)?;
        holder.query_drop(format!("SELECT * FROM {TABLE} WHERE id = 1 FOR UPDATE")).doing(doing)?;

        // A patient one, who takes the error for the end of one statement.
        let mut patient = server.connect()?;
        for sql in ["SET SESSION innodb_lock_wait_timeout = 1", "START TRANSACTION"] {
            patient.query_drop(sql).doing(doing)?;
        }
        patient.query_drop(format!("UPDATE {TABLE} SET n = 1 WHERE id = 2")).doing(doing)?;
        let (timed_out, waited) = refused(&mut patient, &format!("UPDATE {TABLE} SET n = 1 WHERE id = 1"))?;
        patient.query_drop("COMMIT").doing(doing)?;
        let half_done = changed(2)?;

        // The same by a client that rolls back.
        let retry = Retry { most: 1, ..Retry::default() };
        let mut client = Client::connect(server, retry, Rng::seeded(1, "patience"))?;
        // MariaDB takes 0 for "do not wait"; MySQL's least is a second.
        client.set(&format!("SET SESSION innodb_lock_wait_timeout = {}", u8::from(!server.dialect().is_mariadb())))?;
        let gave_up = client.transaction(|connection| {
            connection.query_drop(format!("UPDATE {TABLE} SET n = 1 WHERE id = 3"))?;
            connection.query_drop(format!("UPDATE {TABLE} SET n = 1 WHERE id = 1"))
        });
        let client_said = gave_up.err().map(|error| error.to_string()).unwrap_or_default();
        let client_left = changed(3)?;

        let (nowait, nowait_took) =
            refused(&mut patient, &format!("SELECT * FROM {TABLE} WHERE id = 1 FOR UPDATE NOWAIT"))?;
        let skipping_found =
            patient.query(format!("SELECT id FROM {TABLE} ORDER BY id FOR UPDATE SKIP LOCKED")).doing(doing)?;
        drop(holder);
        server.try_execute(&format!("DROP TABLE {TABLE}"))?;
        let (waited, nowait_took) = (waited.as_secs_f64(), nowait_took.as_secs_f64());
        Ok(Timeouts { waited, timed_out, half_done, client_left, client_said, nowait_took, nowait, skipping_found })
    };
    run().or_fail()
}

fn refused(connection: &mut Conn, sql: &str) -> Result<(u16, Duration)> {
    let began = Instant::now();
    match connection.query_drop(sql) {
        Err(Said::MySqlError(error)) => Ok((error.code, began.elapsed())),
        Err(error) => Err(Error::new(format!("run {sql:?}"), error)),
        Ok(()) => Err(Error::new(format!("run {sql:?}"), "it was to be refused, and it was not")),
    }
}

impl Timeouts {
    /// Who met the lock, and what came of it.
    pub fn table(&self) -> Table {
        let found: Vec<String> = self.skipping_found.iter().map(u32::to_string).collect();
        Table::new("Four who meet a lock")
            .text("who", ["waits for a second, then commits", "does not wait, and rolls back", "NOWAIT", "SKIP LOCKED"])
            .text(
                "what the server says",
                [
                    format!("error {} after {:.2} s", self.timed_out, self.waited),
                    format!("error {}", self.timed_out),
                    format!("error {} after {:.1} ms", self.nowait, self.nowait_took * 1e3),
                    format!("rows {}", found.join(", ")),
                ],
            )
            .text(
                "what is left of its transaction",
                [
                    if self.half_done > 0 { "half of it" } else { "nothing" }.to_string(),
                    if self.client_left > 0 { "half of it" } else { "nothing" }.to_string(),
                    "nothing".to_string(),
                    "four locked rows".to_string(),
                ],
            )
    }
}

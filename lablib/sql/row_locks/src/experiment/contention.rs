//! Four ways to add one to a row, when many clients want the same rows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use mysql::Conn;
use mysql::prelude::Queryable;

use crate::{Client, Retry};
use lab::service::{Counters, MariaDb};
use lab::{Crowd, Doing, Error, Result, Rng, Trial};

const TABLE: &str = "counters";

/// How a client adds one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// Reads, adds in the program, writes: in a transaction, and without any lock.
    ReadThenWrite,
    /// The same with `FOR UPDATE`.
    ForUpdate,
    /// Reads with a version, writes only if the version is still the same, else again.
    Optimistic,
    /// `UPDATE … SET n = n + 1`.
    Atomic,
}

impl Way {
    /// All of them, the careless one first.
    pub const ALL: [Self; 4] = [Self::ReadThenWrite, Self::ForUpdate, Self::Optimistic, Self::Atomic];

    /// It on so many rows.
    pub fn on(self, rows: u64) -> Point {
        Point { way: self, rows }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadThenWrite => "read, then write",
            Self::ForUpdate => "FOR UPDATE",
            Self::Optimistic => "optimistic",
            Self::Atomic => "atomic UPDATE",
        })
    }
}

/// How much is added, by whom, to how many rows.
#[derive(Debug, Clone)]
pub struct ContentionSpec {
    /// Numbers of rows that all clients want, one point each.
    pub rows: Vec<u64>,
    pub clients: usize,
    /// What each client adds in a round.
    pub each: u64,
    /// Rounds; all ways take turns in each.
    pub rounds: usize,
    /// Where the random numbers begin.
    pub seed: u64,
}

/// One way at one number of rows: an arm of the trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    pub way: Way,
    /// How many rows all want.
    pub rows: u64,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {} rows", self.way, self.rows)
    }
}

/// Measures all ways at all numbers of rows, in turns; `way` and `rows` are columns of the frame. Figures of each turn: increments `per
/// second`, times that somebody had to begin anew for each (`again`), and, increment by increment, those that were `acknowledged`, are
/// `lost`, or are there and `untold`; from MariaDB, which counts them, also the commits that went `together` to the disk.
pub fn contention(server: &MariaDb, spec: &ContentionSpec) -> Result<Trial<Point>> {
    if spec.rows.contains(&0) || spec.clients == 0 || spec.each == 0 {
        return Err(Error::new("compare the ways to add one", "it takes rows, a client and an increment"));
    }
    let points = spec.rows.iter().flat_map(|&rows| Way::ALL.map(|way| way.on(rows)));
    let trial = Trial::over(points, spec.rounds)
        .column("way", |point| point.way.to_string())
        .column("rows", |point| point.rows)
        .titled("adding one")
        .run(|&Point { way, rows }, _, figures| {
            fill(server, rows)?;
            let (before, round) = (Counters::of_server(server)?, figures.round());
            let ran = Crowd::of(spec.clients)
                .with(|number| {
                    let rng = |label: &str| Rng::seeded(spec.seed, &format!("round {round}, {label} of {number}"));
                    let client = Client::connect(server, Retry::default(), rng(&format!("{way}, pauses")))?;
                    // The same rows for every way.
                    Ok((client, rng("optimistic pauses"), rng("rows")))
                })
                .times(spec.each)
                .run(|(client, pauses, rng), call| {
                    let row = rng.below(rows);
                    let (made, again) = add_one(client, pauses, way, row)?;
                    for (name, count) in [("row", row), ("made", made), ("again", again)] {
                        call.note(name, "", count as f64);
                    }
                    Ok(())
                })?;
            let done = Counters::of_server(server)?.since(&before);
            let added: Vec<(u64, u64)> =
                ran.frame.points("row", "made").iter().map(|&(row, made)| (row as u64, made as u64)).collect();
            let (lost, untold) = audit(&added, &counted(server)?);
            figures.work("acknowledged", added.len() as u64);
            figures.push("per second", "1/s", added.len() as f64 / ran.seconds);
            figures.push("again", "each", ran.frame.samples("again").mean());
            figures.push("lost", "", lost as f64);
            figures.push("untold", "", untold as f64);
            if server.dialect().is_mariadb() {
                figures.push("together", "", done.get("Binlog_commits")? / done.get("Binlog_group_commits")?);
            }
            Ok(())
        });
    server.try_execute(&format!("DROP TABLE IF EXISTS {TABLE}"))?;
    trial
}

/// Increments that are lost, and counts that nobody was told of, of increments that were acknowledged as (row, what it made of the row):
/// a loss and an increment that was made twice are two faults and not none. Each of a row's counts, from 1 to where it stands, must
/// have been made by exactly one.
fn audit(added: &[(u64, u64)], counted: &BTreeMap<u64, u64>) -> (u64, u64) {
    let stands = |row: u64| counted.get(&row).copied().unwrap_or(0);
    let made: BTreeSet<(u64, u64)> =
        added.iter().copied().filter(|&(row, made)| (1..=stands(row)).contains(&made)).collect();
    let kept = made.len() as u64;
    (added.len() as u64 - kept, counted.values().sum::<u64>() - kept)
}

/// Where each row stands.
fn counted(server: &MariaDb) -> Result<BTreeMap<u64, u64>> {
    let rows: Vec<(u64, u64)> = server.connect()?.query(format!("SELECT id, n FROM {TABLE}")).doing("count")?;
    Ok(rows.into_iter().collect())
}

fn fill(server: &MariaDb, rows: u64) -> Result<()> {
    server.try_execute(&format!(
        "CREATE TABLE IF NOT EXISTS {TABLE} (id INT NOT NULL PRIMARY KEY, n BIGINT NOT NULL, version BIGINT NOT NULL) ENGINE = InnoDB"
    ))?;
    server.try_execute(&format!("DELETE FROM {TABLE}"))?;
    let values: Vec<String> = (0..rows).map(|row| format!("({row}, 0, 0)")).collect();
    server.try_execute(&format!("INSERT INTO {TABLE} VALUES {}", values.join(", ")))
}

/// Adds one to a row: what it made of the row, of which two clients that made the same have added one, and how often it had to begin anew.
fn add_one(client: &mut Client, rng: &mut Rng, way: Way, row: u64) -> Result<(u64, u64)> {
    let read = |connection: &mut Conn, lock: &str| -> mysql::Result<(u64, u64)> {
        let read = connection.query_first(format!("SELECT n, version FROM {TABLE} WHERE id = {row} {lock}"))?;
        // Not tried again: no other answer would come.
        read.ok_or_else(|| std::io::Error::other(format!("there is no row {row}")).into())
    };
    let before = client.tries().again();
    let mut in_vain = 0;
    let made = match way {
        Way::ReadThenWrite | Way::ForUpdate => client.transaction(|connection| {
            let n = read(connection, if way == Way::ForUpdate { "FOR UPDATE" } else { "" })?.0 + 1;
            connection.query_drop(format!("UPDATE {TABLE} SET n = {n} WHERE id = {row}")).map(|()| n)
        })?,
        // In one statement, whose answer says what it made of the row.
        Way::Atomic => client.again(|connection| {
            connection.query_drop(format!(
                "UPDATE {TABLE} SET n = LAST_INSERT_ID(n + 1), version = version + 1 WHERE id = {row}"
            ))?;
            Ok(connection.last_insert_id())
        })?,
        Way::Optimistic => loop {
            let made = client.again(|connection| {
                let (n, version) = read(connection, "")?;
                connection.query_drop(format!(
                    "UPDATE {TABLE} SET n = {n} + 1, version = {version} + 1 WHERE id = {row} AND version = {version}"
                ))?;
                Ok((connection.affected_rows() == 1).then_some(n + 1))
            })?;
            if let Some(made) = made {
                break made;
            }
            let retry = Retry { first: Duration::from_micros(200), ..Retry::default() };
            std::thread::sleep(retry.bound(in_vain).mul_f64(rng.unit()));
            in_vain = in_vain.saturating_add(1);
        },
    };
    Ok((made, client.tries().again() - before + u64::from(in_vain)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_and_an_increment_that_was_made_twice_are_two_faults() {
        let stands = |rows: &[(u64, u64)]| rows.iter().copied().collect::<BTreeMap<u64, u64>>();
        assert_eq!(audit(&[(0, 1), (0, 2), (1, 1)], &stands(&[(0, 2), (1, 1)])), (0, 0));
        // Two were told the same: one is lost.
        assert_eq!(audit(&[(0, 1), (0, 1)], &stands(&[(0, 1)])), (1, 0));
        // One was made twice, in a row of its own, in the row of a loss, and where the totals agree.
        assert_eq!(audit(&[(0, 2)], &stands(&[(0, 2)])), (0, 1));
        assert_eq!(audit(&[(0, 1), (0, 1), (1, 2)], &stands(&[(0, 1), (1, 2)])), (1, 1));
        assert_eq!(audit(&[(0, 1), (0, 1), (0, 3)], &stands(&[(0, 3)])), (1, 1));
        // An older count was written over newer ones, and nobody knows of a row.
        assert_eq!(audit(&[(0, 1), (0, 2), (0, 3)], &stands(&[(0, 1)])), (2, 0));
        assert_eq!(audit(&[(7, 1)], &stands(&[])), (1, 0));
    }
}

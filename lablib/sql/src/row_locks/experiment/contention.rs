//! Four ways to add one to a row, when many clients want the same rows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Barrier;
use std::time::Instant;

use mysql::Conn;
use mysql::prelude::Queryable;

use crate::row_locks::{Client, Retry, Tries};
use lab::chart::{Chart, Lines};
use lab::service::{Counters, MariaDb};
use lab::{Doing, Error, OrFail, Progress, Result, Rng, Samples, Table, joined};

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
    /// Clients.
    pub clients: usize,
    /// What each client adds in a round.
    pub each: u64,
    /// Rounds; all ways take turns in each.
    pub rounds: usize,
    /// Where the random numbers begin.
    pub seed: u64,
}

/// One way at one number of rows.
#[derive(Debug, Clone)]
pub struct Contended {
    /// Which way.
    pub way: Way,
    /// How many rows all want.
    pub rows: u64,
    /// Increments a second, one sample a round.
    pub per_second: Samples,
    /// Times that somebody had to begin anew, for each increment.
    pub again: f64,
    /// Commits that shared a way to the disk, one sample a round; none from a MySQL, which does not count them.
    pub together: Samples,
    /// Increments that were acknowledged and that their row has not counted as one of its own.
    pub lost: u64,
    /// What rows have counted and nobody was told of: an increment that was made twice, for one.
    pub untold: u64,
    /// Increments that were acknowledged.
    pub acknowledged: u64,
}

/// All of them.
#[derive(Debug, Clone)]
pub struct Contention {
    /// By number of rows, then by way.
    pub points: Vec<Contended>,
    spec: ContentionSpec,
}

/// Measures all ways at all numbers of rows, in turns.
pub fn contention(server: &MariaDb, spec: ContentionSpec) -> Contention {
    let run = || -> Result<Contention> {
        if spec.rows.contains(&0) || spec.clients == 0 || spec.each == 0 || spec.rounds == 0 {
            return Err(Error::new("compare the ways to add one", "it takes rows, a client, an increment and a round"));
        }
        let mut progress = Progress::new("adding one", (spec.rows.len() * (spec.rounds + 1)) as u64);
        let mut points = Vec::new();
        for &rows in &spec.rows {
            let empty = |way| Contended {
                way,
                rows,
                per_second: Samples::default(),
                again: 0.0,
                together: Samples::default(),
                lost: 0,
                untold: 0,
                acknowledged: 0,
            };
            let mut here: Vec<Contended> = Way::ALL.into_iter().map(empty).collect();
            let clients = |way: Way| clients(server, way, spec.clients, spec.seed);
            let mut teams = Way::ALL.into_iter().map(clients).collect::<Result<Vec<_>>>()?;
            for round in 0..=spec.rounds {
                let mut order: Vec<usize> = (0..here.len()).collect();
                if round % 2 == 1 {
                    order.reverse();
                }
                for at in order {
                    let (way, point) = (here[at].way, &mut here[at]);
                    fill(server, rows)?;
                    let before = Counters::of_server(server)?;
                    let (seconds, added) = add(&mut teams[at], way, rows, &spec, round)?;
                    let done = Counters::of_server(server)?.since(&before);
                    let (lost, untold) = audit(&added, &counted(server)?);
                    let acknowledged = added.len() as u64;
                    point.lost += lost;
                    point.untold += untold;
                    point.acknowledged += acknowledged;
                    if round > 0 {
                        let again: u64 = added.iter().map(|one| one.again).sum();
                        point.per_second.push(acknowledged as f64 / seconds);
                        if server.dialect().is_mariadb() {
                            point.together.push(done.get("Binlog_commits")? / done.get("Binlog_group_commits")?);
                        }
                        point.again += again as f64 / (acknowledged * spec.rounds as u64) as f64;
                    }
                }
                progress.step();
            }
            points.extend(here);
        }
        server.try_execute(&format!("DROP TABLE {TABLE}"))?;
        Ok(Contention { points, spec })
    };
    run().or_fail()
}

/// An increment that was acknowledged.
#[derive(Debug, Clone, Copy)]
struct Added {
    row: u64,
    /// What it made of the row. Of two clients that made the same of it, one has added nothing.
    made: u64,
    /// How often it had to begin anew.
    again: u64,
}

/// Increments that are lost, and counts that nobody was told of, increment by increment: a loss and an increment that was made
/// twice are two faults and not none. Each of a row's counts, from 1 to where it stands, must have been made by exactly one.
fn audit(added: &[Added], counted: &BTreeMap<u64, u64>) -> (u64, u64) {
    let stands = |row: u64| counted.get(&row).copied().unwrap_or(0);
    let made: BTreeSet<(u64, u64)> =
        added.iter().map(|one| (one.row, one.made)).filter(|&(row, made)| (1..=stands(row)).contains(&made)).collect();
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

/// A connection that adds one to rows in one way.
enum Adder {
    Transactions(Client),
    Statements(Conn, Rng),
}

fn clients(server: &MariaDb, way: Way, count: usize, seed: u64) -> Result<Vec<Adder>> {
    let rng = |number: usize| Rng::seeded(seed, &format!("{way}, pauses of {number}"));
    (0..count)
        .map(|number| match way {
            Way::ReadThenWrite | Way::ForUpdate => {
                Ok(Adder::Transactions(Client::connect(server, Retry::default(), rng(number))?))
            }
            Way::Optimistic | Way::Atomic => Ok(Adder::Statements(server.connect()?, rng(number))),
        })
        .collect()
}

/// Seconds, and all that was acknowledged.
fn add(team: &mut [Adder], way: Way, rows: u64, spec: &ContentionSpec, round: usize) -> Result<(f64, Vec<Added>)> {
    let start = Barrier::new(team.len() + 1);
    std::thread::scope(|scope| {
        let start = &start;
        let threads: Vec<_> = team
            .iter_mut()
            .enumerate()
            .map(|(number, adder)| {
                scope.spawn(move || -> Result<Vec<Added>> {
                    // The same rows for every way.
                    let mut rng = Rng::seeded(spec.seed, &format!("round {round}, rows of {number}"));
                    start.wait();
                    (0..spec.each).map(|_| adder.add_one(way, rng.below(rows))).collect()
                })
            })
            .collect();
        start.wait();
        let began = Instant::now();
        let added: Vec<Vec<Added>> =
            threads.into_iter().map(|thread| joined("add one", thread.join())).collect::<Result<_>>()?;
        Ok((began.elapsed().as_secs_f64(), added.concat()))
    })
}

impl Adder {
    /// Adds one to a row.
    fn add_one(&mut self, way: Way, row: u64) -> Result<Added> {
        let (made, again) = match self {
            Self::Transactions(client) => {
                let before = client.tries();
                let lock = if way == Way::ForUpdate { "FOR UPDATE" } else { "" };
                let made = client.transaction(|connection| {
                    let n: Option<u64> =
                        connection.query_first(format!("SELECT n FROM {TABLE} WHERE id = {row} {lock}"))?;
                    let n = n.unwrap_or(0) + 1;
                    connection.query_drop(format!("UPDATE {TABLE} SET n = {n} WHERE id = {row}"))?;
                    Ok(n)
                })?;
                let after = client.tries();
                let again = |tries: Tries| tries.deadlocks + tries.timeouts + tries.stale;
                (made, again(after) - again(before))
            }
            Self::Statements(connection, _) if way == Way::Atomic => (atomic(connection, row).doing("add one")?, 0),
            Self::Statements(connection, rng) => optimistic(connection, rng, row)?,
        };
        Ok(Added { row, made, again })
    }
}

/// In one statement, whose answer says what it made of the row.
fn atomic(connection: &mut Conn, row: u64) -> Result<u64, mysql::Error> {
    connection
        .query_drop(format!("UPDATE {TABLE} SET n = LAST_INSERT_ID(n + 1), version = version + 1 WHERE id = {row}"))?;
    Ok(connection.last_insert_id())
}

/// What it made of the row, and how often it had to begin anew.
fn optimistic(connection: &mut Conn, rng: &mut Rng, row: u64) -> Result<(u64, u64)> {
    let doing = "add one";
    let retry = Retry { first: std::time::Duration::from_micros(200), ..Retry::default() };
    let mut failures = 0;
    loop {
        let read: Option<(u64, u64)> =
            connection.query_first(format!("SELECT n, version FROM {TABLE} WHERE id = {row}")).doing(doing)?;
        let Some((n, version)) = read else { return Err(Error::new(doing, format!("there is no row {row}"))) };
        let (n, next) = (n + 1, version + 1);
        connection
            .query_drop(format!(
                "UPDATE {TABLE} SET n = {n}, version = {next} WHERE id = {row} AND version = {version}"
            ))
            .doing(doing)?;
        if connection.affected_rows() == 1 {
            return Ok((n, u64::from(failures)));
        }
        std::thread::sleep(retry.bound(failures).mul_f64(rng.unit()));
        failures = failures.saturating_add(1);
    }
}

impl Contention {
    /// One way at one number of rows.
    pub fn of(&self, way: Way, rows: u64) -> Contended {
        let found = self.points.iter().find(|point| point.way == way && point.rows == rows).cloned();
        found.ok_or_else(|| Error::new("find a point", format!("{way} was not measured on {rows} rows"))).or_fail()
    }

    /// How many times as much one way gets done on many rows as on few, round by round.
    pub fn gain(&self, way: Way, many: u64, few: u64) -> Samples {
        let (many, few) = (self.of(way, many).per_second, self.of(way, few).per_second);
        many.values().iter().zip(few.values()).map(|(many, few)| many / few).collect()
    }

    /// Increments lost by one way, at all numbers of rows.
    pub fn lost(&self, way: Way) -> u64 {
        self.points.iter().filter(|point| point.way == way).map(|point| point.lost).sum()
    }

    /// What rows have counted and nobody was told of, by one way at all numbers of rows.
    pub fn untold(&self, way: Way) -> u64 {
        self.points.iter().filter(|point| point.way == way).map(|point| point.untold).sum()
    }

    fn careful(&self, rows: u64, of: fn(&Contended) -> u64) -> u64 {
        self.points.iter().filter(|point| point.rows == rows && point.way != Way::ReadThenWrite).map(of).sum()
    }

    /// Increments acknowledged to one way.
    pub fn acknowledged(&self, way: Way) -> u64 {
        self.points.iter().filter(|point| point.way == way).map(|point| point.acknowledged).sum()
    }

    /// Throughput by the number of rows.
    pub fn chart(&self, title: &str) -> Lines {
        let subtitle = format!("{} clients; {} rounds, all ways in turns", self.spec.clients, self.spec.rounds);
        let chart = Chart::lines(title).subtitle(subtitle).x("rows that all clients want", "").log_x();
        let chart = chart.y("increments a second", "").from_zero();
        Way::ALL.into_iter().filter(|way| *way != Way::ReadThenWrite).fold(chart, |chart, way| {
            let points = self.points.iter().filter(|point| point.way == way);
            chart.line_with_spread(way, points.map(|point| (point.rows as f64, point.per_second.clone())))
        })
    }

    /// What was lost, and what was done twice.
    pub fn table(&self) -> Table {
        let of = |way: Way| self.points.iter().filter(move |point| point.way == way);
        let rows = || of(Way::Atomic).map(|point| point.rows);
        let mut table = Table::new("Increments lost, and tries that were in vain").counts("rows", "", rows());
        let lost = |way: Way| of(way).map(|point| 100.0 * point.lost as f64 / point.acknowledged as f64);
        table = table.numbers(&format!("lost: {}", Way::ReadThenWrite), "%", lost(Way::ReadThenWrite));
        table = table.counts("lost: others", "", rows().map(|rows| self.careful(rows, |point| point.lost)));
        table = table.counts("made twice: others", "", rows().map(|rows| self.careful(rows, |point| point.untold)));
        for way in [Way::ForUpdate, Way::Optimistic] {
            table = table.numbers(&format!("in vain: {way}"), "each", of(way).map(|point| point.again));
        }
        let together = of(Way::Atomic).map(|point| point.together.median());
        table.numbers(&format!("commits to a sync: {}", Way::Atomic), "", together)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_and_an_increment_that_was_made_twice_are_two_faults() {
        let added = |made: &[(u64, u64)]| -> Vec<Added> {
            made.iter().map(|&(row, made)| Added { row, made, again: 0 }).collect()
        };
        let stands = |rows: &[(u64, u64)]| rows.iter().copied().collect::<BTreeMap<u64, u64>>();
        assert_eq!(audit(&added(&[(0, 1), (0, 2), (1, 1)]), &stands(&[(0, 2), (1, 1)])), (0, 0));
        // Two were told the same: one is lost.
        assert_eq!(audit(&added(&[(0, 1), (0, 1)]), &stands(&[(0, 1)])), (1, 0));
        // One was made twice, in a row of its own, in the row of a loss, and where the totals agree.
        assert_eq!(audit(&added(&[(0, 2)]), &stands(&[(0, 2)])), (0, 1));
        assert_eq!(audit(&added(&[(0, 1), (0, 1), (1, 2)]), &stands(&[(0, 1), (1, 2)])), (1, 1));
        assert_eq!(audit(&added(&[(0, 1), (0, 1), (0, 3)]), &stands(&[(0, 3)])), (1, 1));
        // An older count was written over newer ones, and nobody knows of a row.
        assert_eq!(audit(&added(&[(0, 1), (0, 2), (0, 3)]), &stands(&[(0, 1)])), (2, 0));
        assert_eq!(audit(&added(&[(7, 1)]), &stands(&[])), (1, 0));
    }
}

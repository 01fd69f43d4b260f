//! Replicas whose rows were changed behind replication's back, found while everybody writes.

use std::time::Duration;

use mysql::prelude::Queryable;

use super::PATIENCE;
use super::bank::Bank;
use crate::{Comparison, RowFault};
use lab::{Crowd, Doing, Error, Result, Table};

/// What was planted, found and put right.
#[derive(Debug, Clone)]
pub struct Diverged {
    /// Comparisons before anything was planted.
    pub clean: Comparison,
    /// Rows that were changed, removed and added on a replica, each once: key and fault.
    pub planted: Vec<(i128, RowFault)>,
    pub found: Comparison,
    /// The rows that differ, by looking into the chunks.
    pub rows: Vec<(i128, RowFault)>,
    /// Rows that were put right.
    pub repaired: usize,
    pub after: Comparison,
    /// Whether the replica said all along that all is well.
    pub healthy: bool,
    /// What the prefix check says of the replica that was changed, and of another one.
    pub prefix: [Result<u64, String>; 2],
    /// Transfers that were made meanwhile.
    pub transfers: usize,
}

const TABLES: [&str; 2] = ["accounts", "ledger"];

/// Changes three rows of the last replica as its administrator, compares under load, puts right, and compares again.
pub fn divergence(bank: &Bank, chunk: u64, rate: f64, seed: u64) -> Result<Diverged> {
    const WRITERS: usize = 3;
    let cluster = bank.cluster();
    cluster.catch_up(Duration::from_secs(30))?;
    let replicas = cluster.replicas();
    let (replica, other) = (replicas[replicas.len() - 1], replicas[0]);
    let look = || -> Result<_> {
        let clean = cluster.compare(&TABLES, chunk)?;
        let planted = plant(bank, replica)?;
        let found = cluster.compare(&TABLES, chunk)?;
        let healthy = cluster.server(replica)?.replication_error()?.is_none();
        let snapshots = [bank.snapshot(replica)?, bank.snapshot(other)?];
        let located = found.differences.iter().map(|difference| cluster.locate(difference));
        let mut rows = located.collect::<Result<Vec<_>>>()?.concat();
        rows.sort_unstable();
        let repaired = found.differences.iter().map(|difference| Ok(cluster.repair(difference)?.len()));
        let repaired = repaired.sum::<Result<usize>>()?;
        let after = cluster.compare(&TABLES, chunk)?;
        let (transfers, prefix) = (0, [Ok(0), Ok(0)]);
        Ok((Diverged { clean, planted, found, rows, repaired, after, healthy, prefix, transfers }, snapshots))
    };
    let writing = Crowd::of(WRITERS).with(|_| bank.writer(seed)).lasting(Duration::ZERO);
    let ((looked, snapshots), ran) = writing.within(PATIENCE).during(look, |writer, call| {
        call.rest(Duration::from_secs_f64(WRITERS as f64 / rate));
        writer.transfer(32).map(drop)
    })?;
    // Only when nobody writes any more is the log whole, by which a snapshot is judged.
    drop(ran.states);
    let (log, transfers) = (bank.log(), ran.frame.height());
    Ok(Diverged { prefix: snapshots.map(|snapshot| log.prefix(&snapshot)), transfers, ..looked })
}

/// A balance that is changed, a line that is removed and one that nobody ever wrote: on one replica, by somebody whom
/// `read_only` does not stop.
fn plant(bank: &Bank, replica: usize) -> Result<Vec<(i128, RowFault)>> {
    let doing = "change a replica";
    let server = bank.cluster().server(replica)?;
    let mut connection = server.connect_as_administrator()?;
    // The oldest line: no writer of now will need it.
    let oldest: Option<Option<u64>> = connection.query_first("SELECT MIN(id) FROM ledger").doing(doing)?;
    let oldest = oldest.flatten().ok_or_else(|| Error::new(doing, "the ledger is empty"))?;
    let (added, changed) = (oldest - 1, bank.accounts());
    for statement in [
        "SET sql_log_bin = 0".to_owned(),
        format!("DELETE FROM ledger WHERE id = {oldest}"),
        format!("INSERT INTO ledger VALUES ({added}, 0, 1, 1, 'nobody')"),
    ] {
        connection.query_drop(statement).doing(doing)?;
    }
    // A row of its own, so that no writer's next transfer meets a row that differs, which would stop the replica.
    bank.cluster()
        .server(bank.cluster().primary())?
        .try_execute(&format!("REPLACE INTO accounts VALUES ({changed}, 0, 0)"))?;
    bank.cluster().catch_up(Duration::from_secs(30))?;
    connection.query_drop(format!("UPDATE accounts SET balance = 1000000 WHERE id = {changed}")).doing(doing)?;
    let mut planted = vec![
        (i128::from(oldest), RowFault::Missing),
        (i128::from(added), RowFault::Extra),
        (i128::from(changed), RowFault::Changed),
    ];
    planted.sort_unstable();
    Ok(planted)
}

impl Diverged {
    /// What was found, and what not.
    pub fn table(&self) -> Table {
        let row = |(key, fault): &(i128, RowFault)| format!("{fault:?}, key {key}").to_lowercase();
        Table::new("Rows that differ, found while everybody writes")
            .text("planted", self.planted.iter().map(row))
            .text("found", (0..self.planted.len()).map(|index| self.rows.get(index).map_or_else(|| "–".into(), row)))
    }
}

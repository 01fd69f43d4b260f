//! What the server says about locks: who waits, for which lock, and who holds it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use mysql::Conn;
use mysql::prelude::Queryable;

use lab::service::{Dialect, MariaDb};
use lab::{Doing, Result};

/// MariaDB repeats its last answer to whoever asks its lock tables again within a tenth of a second.
const TABLES_ARE_STALE_FOR: Duration = Duration::from_millis(110);

/// One session waits for another one's lock, on a row or on the gap before it. Sessions go by their number in the schedule; 0 is
/// somebody else. A mode is as the server writes it: `X`, `S`, `X,GAP`, …
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockWait {
    /// The session that waits.
    pub session: usize,
    /// The mode that it asks for.
    pub mode: String,
    /// The index that the lock lies on.
    pub index: String,
    /// The key of the row, or of the row behind the gap; "supremum pseudo-record" is the end of the index.
    pub key: String,
    /// The session in its way.
    pub holder: usize,
    /// The mode of that one's lock.
    pub held: String,
}

/// A connection that asks the server who waits.
pub struct Watcher {
    connection: Conn,
    dialect: Dialect,
    asked: Option<Instant>,
}

impl Watcher {
    /// Connects.
    pub fn new(server: &MariaDb) -> Result<Self> {
        Ok(Self { connection: server.connect()?, dialect: server.dialect(), asked: None })
    }

    pub(super) fn connection(&mut self) -> &mut Conn {
        &mut self.connection
    }

    /// The connections that wait for a lock at this moment.
    pub fn waiting(&mut self) -> Result<BTreeSet<u64>> {
        // This report is made anew for each question, the tables are not.
        let report: Option<(String, String, String)> =
            self.connection.query_first("SHOW ENGINE INNODB STATUS").doing("ask the server who waits")?;
        Ok(report.map(|(_, _, text)| waiting_in(&text)).unwrap_or_default())
    }

    /// Who waits for whom, from the server's lock tables. `sessions` are the connections of the sessions, from 1 on.
    pub(super) fn lock_waits(&mut self, sessions: &[u64]) -> Result<Vec<LockWait>> {
        if let Some(asked) = self.asked {
            std::thread::sleep(TABLES_ARE_STALE_FOR.saturating_sub(asked.elapsed()));
        }
        type Columns = (Option<u64>, String, String, String, Option<u64>, String);
        let waits: Vec<Columns> =
            self.connection.query(lock_waits(self.dialect)).doing("ask the server's lock tables")?;
        self.asked = Some(Instant::now());
        let session = |connection: Option<u64>| {
            let index = sessions.iter().position(|known| Some(*known) == connection);
            index.map_or(0, |index| index + 1)
        };
        let wait = |(waiter, mode, index, key, holder, held)| {
            let (session, holder) = (session(waiter), session(holder));
            LockWait { session, mode, index, key, holder, held }
        };
        Ok(waits.into_iter().map(wait).collect())
    }
}

/// Each wait with both of its locks; the two families of servers name the same tables and columns differently.
fn lock_waits(dialect: Dialect) -> String {
    let (waits, requested, blocking, locks, id, transaction, index) = match dialect.is_mariadb() {
        true => (
            "information_schema.innodb_lock_waits",
            "requested_lock_id",
            "blocking_lock_id",
            "information_schema.innodb_locks",
            "lock_id",
            "lock_trx_id",
            "lock_index",
        ),
        false => (
            "performance_schema.data_lock_waits",
            "requesting_engine_lock_id",
            "blocking_engine_lock_id",
            "performance_schema.data_locks",
            "engine_lock_id",
            "engine_transaction_id",
            "index_name",
        ),
    };
    format!(
        "SELECT waiter.trx_mysql_thread_id, wanted.lock_mode, COALESCE(wanted.{index}, ''), COALESCE(wanted.lock_data, ''), \
         holder.trx_mysql_thread_id, held.lock_mode FROM {waits} AS waits \
         JOIN {locks} AS wanted ON wanted.{id} = waits.{requested} JOIN {locks} AS held ON held.{id} = waits.{blocking} \
         LEFT JOIN information_schema.innodb_trx AS waiter ON waiter.trx_id = wanted.{transaction} \
         LEFT JOIN information_schema.innodb_trx AS holder ON holder.trx_id = held.{transaction}"
    )
}

/// The connections in the storage engine's report whose transactions wait for a lock.
///
/// Only the list of transactions counts: the report also repeats the latest deadlock, whose waits are long over.
fn waiting_in(report: &str) -> BTreeSet<u64> {
    let list = report.split_once("LIST OF TRANSACTIONS FOR EACH SESSION").map_or("", |(_, list)| list);
    let mut waiting = BTreeSet::new();
    for transaction in list.split("---TRANSACTION").skip(1) {
        let waits = transaction.lines().any(|line| line.starts_with("LOCK WAIT "));
        let id = transaction
            .lines()
            .find_map(|line| {
                line.split_once(" thread id ").filter(|(family, _)| matches!(*family, "MariaDB" | "MySQL"))
            })
            .and_then(|(_, rest)| rest.split(',').next()?.trim().parse().ok());
        if let (true, Some(id)) = (waits, id) {
            waiting.insert(id);
        }
    }
    waiting
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "\
LATEST DETECTED DEADLOCK
------------------------
*** (1) TRANSACTION:
TRANSACTION 31, ACTIVE 0 sec starting index read
LOCK WAIT 3 lock struct(s), heap size 1128, 2 row lock(s)
MariaDB thread id 9, OS thread handle 1, query id 70 localhost lab Updating
------------
TRANSACTIONS
------------
LIST OF TRANSACTIONS FOR EACH SESSION:
---TRANSACTION 24, ACTIVE 0 sec starting index read
mysql tables in use 1, locked 1
LOCK WAIT 2 lock struct(s), heap size 1128, 1 row lock(s)
MariaDB thread id 6, OS thread handle 139991525582528, query id 13 localhost root Updating
update a set note='LOCK WAIT thread id 7, or so' where id=1
------- TRX HAS BEEN WAITING 306907 us FOR THIS LOCK TO BE GRANTED:
---TRANSACTION 23, ACTIVE 1 sec
2 lock struct(s), heap size 1128, 1 row lock(s), undo log entries 1
MariaDB thread id 5, OS thread handle 139991525889728, query id 11 localhost root User sleep
---TRANSACTION 421, not started
0 lock struct(s), heap size 1128, 0 row lock(s)
--------
FILE I/O
";

    #[test]
    fn who_waits_is_read_from_the_list_and_not_from_the_latest_deadlock() {
        assert_eq!(waiting_in(REPORT), BTreeSet::from([6]));
        assert_eq!(waiting_in(&REPORT.replace("MariaDB", "MySQL")), BTreeSet::from([6]));
        assert_eq!(waiting_in(""), BTreeSet::new());
        assert_eq!(
            waiting_in("LIST OF TRANSACTIONS FOR EACH SESSION:\n---TRANSACTION 1\nLOCK WAIT 2 lock"),
            BTreeSet::new()
        );
    }
}

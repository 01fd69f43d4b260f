//! What the server says about locks: who waits, for which lock, and who holds it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use mysql::Conn;
use mysql::prelude::Queryable;

use lab::service::{Dialect, MariaDb};
use lab::{Doing, Result};

/// MariaDB repeats its last answer to whoever asks its lock tables again within a tenth of a second.
const TABLES_ARE_STALE_FOR: Duration = Duration::from_millis(110);

/// A lock on a row, or on the gap before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// Whose, by the number of the session in its schedule; 0 is somebody else.
    pub session: usize,
    /// As the server writes it: `X`, `S`, `X,GAP`, …
    pub mode: String,
    /// The index that it lies on.
    pub index: String,
    /// The key of the row, or of the row behind the gap; "supremum pseudo-record" is the end of the index.
    pub key: String,
}

/// One session waits for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockWait {
    /// The lock that it asks for.
    pub wants: Lock,
    /// The other session's lock that stands in its way.
    pub holds: Lock,
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
        let doing = "ask the server's lock tables";
        let transactions: Vec<(String, u64)> = self
            .connection
            .query("SELECT CAST(trx_id AS CHAR), trx_mysql_thread_id FROM information_schema.innodb_trx")
            .doing(doing)?;
        let of_transaction: BTreeMap<String, u64> = transactions.into_iter().collect();
        let edges: Vec<(String, String)> = self.connection.query(edges(self.dialect)).doing(doing)?;
        let locks: Vec<(String, String, String, String, Option<String>)> =
            self.connection.query(locks(self.dialect)).doing(doing)?;
        self.asked = Some(Instant::now());
        let session = |transaction: &str| {
            let connection = of_transaction.get(transaction);
            connection.and_then(|id| sessions.iter().position(|known| known == id)).map_or(0, |index| index + 1)
        };
        let find = |id: &str| {
            let (_, transaction, mode, index, key) = locks.iter().find(|lock| lock.0 == id)?;
            let (mode, index) = (mode.clone(), index.clone());
            Some(Lock { session: session(transaction), mode, index, key: key.clone().unwrap_or_default() })
        };
        Ok(edges
            .iter()
            .filter_map(|(wants, holds)| Some(LockWait { wants: find(wants)?, holds: find(holds)? }))
            .collect())
    }
}

fn edges(dialect: Dialect) -> &'static str {
    if dialect.is_mariadb() {
        "SELECT requested_lock_id, blocking_lock_id FROM information_schema.innodb_lock_waits"
    } else {
        "SELECT requesting_engine_lock_id, blocking_engine_lock_id FROM performance_schema.data_lock_waits"
    }
}

fn locks(dialect: Dialect) -> &'static str {
    if dialect.is_mariadb() {
        "SELECT lock_id, CAST(lock_trx_id AS CHAR), lock_mode, COALESCE(lock_index, ''), lock_data FROM information_schema.innodb_locks"
    } else {
        "SELECT engine_lock_id, CAST(engine_transaction_id AS CHAR), lock_mode, COALESCE(index_name, ''), lock_data \
         FROM performance_schema.data_locks"
    }
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

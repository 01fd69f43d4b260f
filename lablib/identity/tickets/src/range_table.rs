//! Ranges from a table: one round trip and one commit for many numbers, which the caller then hands out by itself.

use mysql::prelude::Queryable;
use mysql::{Conn, TxOpts};

use super::session::{Door, ONLY_ANSWER, Session, new_database};
use super::{Issuer, IssuerStats};
use lab::service::MariaDb;
use lab::{Error, Result};

const NAME_LENGTH: usize = 64;

/// A table with a counter for each name, on one SQL server.
#[derive(Clone)]
pub struct RangeTable {
    door: Door,
}

/// How a range is taken. Both are right; they differ in round trips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeMethod {
    /// `INSERT … ON DUPLICATE KEY UPDATE`: the server reads and writes in one statement.
    OneStatement,
    /// A transaction: `SELECT … FOR UPDATE`, then `UPDATE`.
    ForUpdate,
}

impl RangeTable {
    /// A new table, in a database of its own.
    pub fn create(server: &MariaDb) -> Result<Self> {
        let table = "CREATE TABLE ranges (name VARCHAR(64) NOT NULL PRIMARY KEY, next BIGINT UNSIGNED NOT NULL) \
                     CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
        let database = new_database(server, "ranges", &[table.into()])?;
        Ok(Self { door: Door::to(server, &database, ONLY_ANSWER)? })
    }

    /// A caller that takes `size` numbers of the counter called `name` at a time. The counter begins with 1 at its first
    /// use; nobody needs to create it.
    pub fn issuer(&self, name: &str, size: u64) -> Result<RangeIssuer> {
        self.issuer_by(name, size, RangeMethod::OneStatement)
    }

    /// As [`issuer`](Self::issuer), and says how.
    pub fn issuer_by(&self, name: &str, size: u64, method: RangeMethod) -> Result<RangeIssuer> {
        let refused = |cause: &str| Error::new(format!("take ranges of {name:?}"), cause);
        if size == 0 {
            return Err(refused("a range has at least one number"));
        }
        if name.is_empty() || name.chars().count() > NAME_LENGTH {
            return Err(refused("a counter's name has 1 to 64 characters"));
        }
        let session = self.door.session();
        Ok(RangeIssuer { session, name: name.to_string(), size, method, next: 0, end: 0 })
    }
}

/// A caller with a range.
pub struct RangeIssuer {
    session: Session,
    name: String,
    size: u64,
    method: RangeMethod,
    next: u64,
    end: u64,
}

impl RangeIssuer {
    /// Takes a whole range and hands none of it out: its first number, and the end.
    pub fn take(&mut self) -> Result<std::ops::Range<u64>> {
        let (name, size, method) = (&self.name, self.size, self.method);
        let start = self.session.insist("take a range", |connection| match method {
            RangeMethod::OneStatement => in_one_statement(connection, name, size),
            RangeMethod::ForUpdate => for_update(connection, name, size),
        })?;
        let end = start.checked_add(size).filter(|_| start > 0);
        let end =
            end.ok_or_else(|| Error::new("take a range", format!("the table says that {name:?} is at {start}")))?;
        Ok(start..end)
    }

    /// How many numbers would be lost if this caller died now.
    pub fn at_risk(&self) -> u64 {
        self.end - self.next
    }
}

impl Issuer for RangeIssuer {
    fn next_id(&mut self) -> Result<u64> {
        if self.next == self.end {
            let range = self.take()?;
            (self.next, self.end) = (range.start, range.end);
        }
        self.next += 1;
        Ok(self.next - 1)
    }

    fn stats(&self) -> IssuerStats {
        self.session.stats
    }
}

/// The first use inserts the row; every other one finds it locked by nobody for longer than the statement takes. Either
/// way `LAST_INSERT_ID(…)` carries the range's first number back in the answer.
fn in_one_statement(connection: &mut Conn, name: &str, size: u64) -> mysql::Result<u64> {
    let take = format!(
        "INSERT INTO ranges (name, next) VALUES ({}, LAST_INSERT_ID(1) + {size}) \
         ON DUPLICATE KEY UPDATE next = LAST_INSERT_ID(next) + {size}",
        quoted(name)
    );
    connection.query_drop(take)?;
    Ok(connection.last_insert_id())
}

fn for_update(connection: &mut Conn, name: &str, size: u64) -> mysql::Result<u64> {
    let name = quoted(name);
    let mut transaction = connection.start_transaction(TxOpts::default())?;
    let read = format!("SELECT next FROM ranges WHERE name = {name} FOR UPDATE");
    let start: u64 = match transaction.query_first(&read)? {
        Some(start) => start,
        None => {
            // Nothing to lock yet: the row first, and whoever comes second waits for it. In a transaction of its own: two
            // callers that hold the lock on the same gap would wait for each other.
            transaction.rollback()?;
            connection.query_drop(format!("INSERT IGNORE INTO ranges (name, next) VALUES ({name}, 1)"))?;
            transaction = connection.start_transaction(TxOpts::default())?;
            transaction.query_first(&read)?.unwrap_or(0)
        }
    };
    transaction.query_drop(format!("UPDATE ranges SET next = next + {size} WHERE name = {name}"))?;
    transaction.commit()?;
    Ok(start)
}

fn quoted(name: &str) -> String {
    mysql::Value::from(name).as_sql(false)
}

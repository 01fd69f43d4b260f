//! A client that tries its transaction again when the server asks for it.

use std::time::Duration;

use mysql::Conn;
use mysql::prelude::Queryable;

use lab::service::MariaDb;
use lab::{Error, Result, Rng};

/// Errors that mean "begin again": a deadlock, a lock wait that took too long, a row that is not as in the snapshot.
const AGAIN: [u16; 3] = [1213, 1205, 1020];

/// How often a transaction is tried again, and after which pauses: the n-th pause is a random share of `first` × 2ⁿ, and
/// never more than `longest`. Random, because those who met once would otherwise meet again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Tries in all; at least one.
    pub most: u32,
    /// The bound of the first pause.
    pub first: Duration,
    /// The bound of all pauses.
    pub longest: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { most: 100, first: Duration::from_millis(1), longest: Duration::from_millis(100) }
    }
}

impl Retry {
    /// The longest that the pause after this failure may be; failures count from 0.
    pub fn bound(&self, failure: u32) -> Duration {
        self.first.saturating_mul(2_u32.saturating_pow(failure)).min(self.longest)
    }
}

/// How many transactions a client has ended, and why others had to begin anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tries {
    /// Transactions that ended well.
    pub done: u64,
    /// Times that the server chose this client as the victim of a deadlock (1213).
    pub deadlocks: u64,
    /// Lock waits that took too long, or a `NOWAIT` (1205).
    pub timeouts: u64,
    /// Rows that were not as in the snapshot (1020).
    pub stale: u64,
}

impl Tries {
    /// How often it had to begin anew, for whatever reason.
    pub fn again(&self) -> u64 {
        self.deadlocks + self.timeouts + self.stale
    }
}

/// A connection that runs whole transactions.
pub struct Client {
    connection: Conn,
    retry: Retry,
    rng: Rng,
    tries: Tries,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("retry", &self.retry).field("tries", &self.tries).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects; `rng` decides the pauses.
    pub fn connect(server: &MariaDb, retry: Retry, rng: Rng) -> Result<Self> {
        Self::on(server.connect()?, retry, rng)
    }

    /// On a connection that is there.
    pub fn on(connection: Conn, retry: Retry, rng: Rng) -> Result<Self> {
        if retry.most == 0 {
            return Err(Error::new("make a client", "it needs at least one try"));
        }
        Ok(Self { connection, retry, rng, tries: Tries::default() })
    }

    /// Runs one statement outside of any transaction, for settings of the session.
    pub fn set(&mut self, sql: &str) -> Result<()> {
        self.connection.query_drop(sql).map_err(|error| Error::new(format!("run {sql:?}"), error))
    }

    /// Transactions so far, and why others had to begin anew.
    pub fn tries(&self) -> Tries {
        self.tries
    }

    /// Runs `work` in a transaction and commits, again from its beginning where the server wants that. What `work` decides
    /// must come from what it reads in this try.
    pub fn transaction<T>(&mut self, mut work: impl FnMut(&mut Conn) -> Result<T, mysql::Error>) -> Result<T> {
        self.again(|connection| {
            connection.query_drop("START TRANSACTION")?;
            let answer = work(connection)?;
            connection.query_drop("COMMIT")?;
            Ok(answer)
        })
    }

    /// The same without a transaction around it, for work that is a single statement or begins its own.
    pub fn again<T>(&mut self, mut work: impl FnMut(&mut Conn) -> Result<T, mysql::Error>) -> Result<T> {
        let doing = "run a transaction";
        for failure in 0..self.retry.most {
            let error = match work(&mut self.connection) {
                Ok(answer) => {
                    self.tries.done += 1;
                    return Ok(answer);
                }
                Err(error) => error,
            };
            // After 1205 the transaction is still open, with all its locks; after any other error it may be.
            let rolled_back = self.connection.query_drop("ROLLBACK");
            match &error {
                mysql::Error::MySqlError(server) if AGAIN.contains(&server.code) => match server.code {
                    1213 => self.tries.deadlocks += 1,
                    1205 => self.tries.timeouts += 1,
                    _ => self.tries.stale += 1,
                },
                _ => return Err(Error::new(doing, error)),
            }
            rolled_back.map_err(|error| Error::new("roll a transaction back", error))?;
            let bound = self.retry.bound(failure).as_secs_f64();
            std::thread::sleep(Duration::from_secs_f64(bound * self.rng.unit()));
        }
        Err(Error::new(doing, format!("the server has asked for another try {} times", self.retry.most)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound_and_never_overflow() {
        let retry = Retry { most: 5, first: Duration::from_millis(2), longest: Duration::from_millis(30) };
        let bounds: Vec<u128> = [0, 1, 2, 3, 4, 400].iter().map(|&n| retry.bound(n).as_millis()).collect();
        assert_eq!(bounds, [2, 4, 8, 16, 30, 30]);
    }
}

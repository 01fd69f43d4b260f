//! Somebody who looks at the server's own counters, over a connection that does not come from a pool.

use std::time::{Duration, Instant};

use mysql::Conn;
use mysql::prelude::Queryable;

use lab::service::{Counters, MariaDb};
use lab::{Doing, Error, Result};

/// Counts the connections of others at the server.
pub(super) struct Observer {
    connection: Conn,
    looks: u64,
}

impl Observer {
    /// Starts to count, once the connections of others are so many.
    pub fn of(server: &MariaDb, others: usize) -> Result<Self> {
        let mut observer = Self { connection: server.connect()?, looks: 0 };
        observer.settle(others)?;
        observer.connection.query_drop("FLUSH STATUS").doing("reset the server's counters")?;
        Ok(observer)
    }

    /// Waits until there are so many connections of others, and have been for a while.
    pub fn settle(&mut self, others: usize) -> Result<()> {
        self.settle_for(others, Duration::from_millis(60))
    }

    /// The same, for at least `quiet`: the count that the server's limit is compared with goes down a little after the one that
    /// it shows, and on a busy machine not so little.
    pub fn settle_for(&mut self, others: usize, quiet: Duration) -> Result<()> {
        let (began, mut since) = (Instant::now(), None);
        loop {
            let now = self.now()?;
            if now != others as u64 {
                since = None;
            } else if since.get_or_insert_with(Instant::now).elapsed() > quiet {
                return Ok(());
            }
            if began.elapsed() > Duration::from_secs(5) {
                let cause = format!("there are {now} connections where {others} were expected");
                return Err(Error::new("wait for the server's connections", cause));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The connections of others, now.
    pub fn now(&mut self) -> Result<u64> {
        self.status("Threads_connected").map(|threads| threads.saturating_sub(1))
    }

    /// The most connections of others at once, since this observer began.
    pub fn most(&mut self) -> Result<u64> {
        self.status("Max_used_connections").map(|threads| threads.saturating_sub(1))
    }

    /// Statements that others have sent to the server: each look is itself one.
    pub fn questions(&mut self) -> Result<u64> {
        self.looks += 1;
        Ok(self.status("Questions")? - self.looks)
    }

    /// Transactions that are open.
    pub fn transactions(&mut self) -> Result<u64> {
        // MariaDB repeats its last answer to whoever asks again within a tenth of a second.
        std::thread::sleep(Duration::from_millis(120));
        let open = self.connection.query_first("SELECT COUNT(*) FROM information_schema.innodb_trx");
        open.doing("count the open transactions").map(Option::unwrap_or_default)
    }

    fn status(&mut self, name: &str) -> Result<u64> {
        Counters::one(&mut self.connection, name).map(|count| count as u64)
    }
}

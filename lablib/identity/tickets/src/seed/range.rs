//! The prototype's ranges: read the counter, add in the program, write the sum.

use mysql::Conn;
use mysql::prelude::Queryable;

use crate::session::new_database;
use lab::service::MariaDb;
use lab::{Doing, Error, Result};

const DOING: &str = "take a range as the prototype does";

/// A caller of the prototype's. What it does in one go is two steps here, so that another caller can come between them.
pub struct SeedRange {
    connection: Conn,
    service: String,
    size: u64,
}

impl SeedRange {
    /// Callers of one new table.
    pub fn callers(server: &MariaDb, count: usize, service: &str, size: u64) -> Result<Vec<Self>> {
        let table = "CREATE TABLE counter (id INT AUTO_INCREMENT PRIMARY KEY, service_name VARCHAR(64) NOT NULL UNIQUE, \
                     counter BIGINT NOT NULL)";
        let database = new_database(server, "seed_ranges", &[table.into()])?;
        let caller = |_| -> Result<Self> {
            let mut connection = server.connect()?;
            connection.query_drop(format!("USE {database}")).doing(DOING)?;
            Ok(Self { connection, service: service.to_string(), size })
        };
        (0..count).map(caller).collect()
    }

    /// The first step: where is the counter? None before its first use.
    pub fn read(&mut self) -> Result<Option<u64>> {
        let sql = "SELECT counter FROM counter WHERE service_name = ?";
        self.connection.exec_first(sql, (&self.service,)).doing(DOING)
    }

    /// The second: it is further now. Returns the range that the caller takes for its own.
    pub fn write(&mut self, read: Option<u64>) -> Result<std::ops::Range<u64>> {
        let start = read.unwrap_or(0);
        let end = start.checked_add(self.size).ok_or_else(|| Error::new(DOING, "the counter is at its end"))?;
        let sql = match read {
            Some(_) => "UPDATE counter SET counter = ? WHERE service_name = ?",
            None => "INSERT INTO counter (counter, service_name) VALUES (?, ?)",
        };
        self.connection.exec_drop(sql, (end, &self.service)).doing(DOING)?;
        Ok(start + 1..end + 1)
    }

    /// Both.
    pub fn take(&mut self) -> Result<std::ops::Range<u64>> {
        let read = self.read()?;
        self.write(read)
    }
}

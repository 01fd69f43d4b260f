//! A SQL server's own counters, which decide the claims about rows, pages and commits.

use std::collections::BTreeMap;

use mysql::Conn;
use mysql::prelude::Queryable;

use super::mariadb::MariaDb;
use crate::{Doing, Error, Result};

/// What a SQL server, or one of its sessions, has counted up to a moment or [between two](Self::since).
///
/// ```
/// use lab::service::{self, Counters};
///
/// let db = service::mysql();
/// let before = Counters::of_server(&db).unwrap();
/// db.execute("CREATE TABLE page (id INT PRIMARY KEY)");
/// db.execute("INSERT INTO page VALUES (1), (2), (3)");
/// let done = Counters::of_server(&db).unwrap().since(&before);
/// assert_eq!(done.get("Handler_write").unwrap(), 3.0);
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counters(BTreeMap<String, f64>);

impl Counters {
    /// The whole server's: its `GLOBAL STATUS`, and the InnoDB metrics that are switched on
    /// (`SET GLOBAL innodb_monitor_enable = 'index_page_splits'` switches one on).
    pub fn of_server(server: &MariaDb) -> Result<Self> {
        let metrics = "SELECT name, count FROM information_schema.innodb_metrics WHERE ";
        let on = if server.dialect().is_mariadb() { "enabled" } else { "status = 'enabled'" };
        let mut connection = server.connect()?;
        let mut counters = Self::ask(&mut connection, "SHOW GLOBAL STATUS")?;
        counters.0.extend(Self::ask(&mut connection, &format!("{metrics}{on}"))?.0);
        Ok(counters)
    }

    /// One of the whole server's, over a connection that is open already: a new one would be counted too. It is one question.
    pub fn one(connection: &mut Conn, name: &str) -> Result<f64> {
        Self::ask(connection, &format!("SHOW GLOBAL STATUS LIKE '{name}'"))?.get(name)
    }

    /// One session's alone.
    pub fn of_session(connection: &mut Conn) -> Result<Self> {
        Self::ask(connection, "SHOW SESSION STATUS")
    }

    /// Does something on a connection, and says what that cost its session. Asking is counted by the server too, and taken off.
    pub fn during<T>(connection: &mut Conn, work: impl FnOnce(&mut Conn) -> Result<T>) -> Result<(T, Self)> {
        let first = Self::of_session(connection)?;
        let second = Self::of_session(connection)?;
        let answer = work(connection)?;
        let asking = second.since(&first);
        let cost = Self::of_session(connection)?.since(&second).since(&asking);
        Ok((answer, cost))
    }

    /// What was counted from an earlier moment to this one.
    pub fn since(&self, earlier: &Self) -> Self {
        let difference = |(name, now): (&String, &f64)| (name.clone(), now - earlier.0.get(name).unwrap_or(&0.0));
        Self(self.0.iter().map(difference).collect())
    }

    /// A counter by its name; an error where this server has no such counter.
    pub fn get(&self, name: &str) -> Result<f64> {
        self.0.get(name).copied().ok_or_else(|| {
            Error::new("read a server's counter", format!("it has none by the name of {name:?}"))
                .remedy("SHOW GLOBAL STATUS and information_schema.innodb_metrics list what there is")
        })
    }

    /// The rows that were read through the storage engine, by whatever way.
    pub fn rows_read(&self) -> f64 {
        self.0.iter().filter(|(name, _)| name.starts_with("Handler_read")).map(|(_, count)| count).sum()
    }

    fn ask(connection: &mut Conn, question: &str) -> Result<Self> {
        let rows: Vec<(String, Option<String>)> = connection.query(question).doing("ask a server for its counters")?;
        let number = |(name, value): (String, Option<String>)| Some((name, value?.parse().ok()?));
        Ok(Self(rows.into_iter().filter_map(number).collect()))
    }
}

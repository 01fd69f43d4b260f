//! A connection to one shard, and what becomes of a statement when it breaks.

use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, Opts, Params, Value};

use super::entry::{Entry, Version};
use super::failure::{Answer, Failure};
use crate::lab::service::{Dialect, dial, is_lost};
use crate::lab::{Doing, Error, Result};

const DEADLOCK: u16 = 1213;
const DUPLICATE: u16 = 1062;
const NO_SUCH_TABLE: u16 = 1146;
/// A statement on one row that gave way so often stands in front of something else than chance.
const MOST_TRIES: usize = 100;

pub(super) struct Shard {
    pub(super) url: String,
    /// For error messages: without the password.
    pub(super) name: String,
    patience: Duration,
    open: Option<(Conn, Dialect)>,
}

impl Shard {
    pub(super) fn new(url: &str, patience: Duration) -> Result<Self> {
        let opts = Opts::from_url(url).doing("read a shard's URL")?;
        let database = opts.get_db_name().unwrap_or_default();
        let name = format!("{}:{}/{database}", opts.get_ip_or_hostname(), opts.get_tcp_port());
        Ok(Self { url: url.into(), name, patience, open: None })
    }

    pub(super) fn dialect(&mut self) -> Answer<Dialect> {
        Ok(self.connected()?.1)
    }

    /// Reads entries. What broke on the way is asked again: a read may happen twice.
    pub(super) fn read(
        &mut self,
        doing: impl Fn() -> String,
        sql: &str,
        values: Vec<Value>,
    ) -> Answer<Vec<(Vec<u8>, Entry)>> {
        type Row = (Vec<u8>, Vec<u8>, u64, Option<i64>);
        let fresh = self.open.is_none();
        let mut ask = || {
            self.connected()?;
            self.tried(&doing, false, |connection| connection.exec::<Row, _, _>(sql, values.clone()))
        };
        let rows = match ask() {
            Err(_) if !fresh && self.open.is_none() => {
                self.connected()?;
                self.tried(&doing, false, |connection| connection.exec::<Row, _, _>(sql, values.clone()))
            }
            rows => rows,
        }?;
        let entry = |(key, value, version, left): Row| {
            let expires_in = left.map(|left| Duration::from_micros(left.max(0) as u64));
            (key, Entry { value, version: Version(version), expires_in })
        };
        Ok(rows.into_iter().map(entry).collect())
    }

    /// Changes something, and says how many rows it was.
    pub(super) fn write(&mut self, doing: impl Fn() -> String, sql: &str, values: impl Into<Params>) -> Answer<u64> {
        self.connected()?;
        let values = values.into();
        self.tried(&doing, true, |connection| {
            connection.exec_drop(sql, values.clone())?;
            Ok(connection.affected_rows())
        })
    }

    /// Inserts a row, and says whether there was room for it.
    pub(super) fn insert(&mut self, doing: impl Fn() -> String, sql: &str, values: impl Into<Params>) -> Answer<bool> {
        self.connected()?;
        let values = values.into();
        self.tried(&doing, true, |connection| match connection.exec_drop(sql, values.clone()) {
            Err(mysql::Error::MySqlError(error)) if error.code == DUPLICATE => Ok(false),
            answer => answer.map(|()| true),
        })
    }

    /// Runs a statement on the open connection, again where it had to give way to another one. A connection that broke is
    /// closed.
    fn tried<T>(
        &mut self,
        doing: &impl Fn() -> String,
        writes: bool,
        mut run: impl FnMut(&mut Conn) -> mysql::Result<T>,
    ) -> Answer<T> {
        for _ in 0..MOST_TRIES {
            let (connection, _) = self.connected()?;
            match run(connection) {
                Ok(answer) => return Ok(answer),
                Err(mysql::Error::MySqlError(error)) if error.code == DEADLOCK => {}
                Err(error) if is_lost(&error) => {
                    self.open = None;
                    let error = Error::new(doing(), said(&error)).at(&self.name);
                    return Err(if writes { Failure::in_doubt(error) } else { Failure::refused(error) });
                }
                Err(error) => {
                    let failure = Error::new(doing(), said(&error)).at(&self.name);
                    let no_table = matches!(&error, mysql::Error::MySqlError(error) if error.code == NO_SUCH_TABLE);
                    let failure = if no_table { failure.remedy("Store::create makes it") } else { failure };
                    return Err(Failure::refused(failure));
                }
            }
        }
        let cause = format!("it had to give way {MOST_TRIES} times");
        Err(Failure::refused(Error::new(doing(), cause).at(&self.name)))
    }

    fn connected(&mut self) -> Answer<&mut (Conn, Dialect)> {
        if self.open.is_none() {
            self.open = Some(self.connect().map_err(Failure::refused)?);
        }
        self.open.as_mut().ok_or_else(|| Failure::refused(Error::new("connect to a shard", "there is no connection")))
    }

    pub(super) fn connect(&self) -> Result<(Conn, Dialect)> {
        let doing = || "connect to a shard";
        let opts = Opts::from_url(&self.url).doing(doing())?;
        let lost = |cause: mysql::Error| Error::new(doing(), said(&cause)).at(&self.name);
        let mut connection = dial(opts, self.patience).map_err(lost)?;
        // Local time repeats an hour every autumn.
        connection.query_drop("SET SESSION time_zone = '+00:00'").map_err(lost)?;
        let banner: Option<String> = connection.query_first("SELECT VERSION()").map_err(lost)?;
        Ok((connection, Dialect::of(&banner.unwrap_or_default())?))
    }
}

/// What went wrong, without the names of the driver's types around it.
fn said(error: &mysql::Error) -> String {
    match error {
        mysql::Error::MySqlError(error) => error.message.clone(),
        mysql::Error::IoError(error) => error.to_string(),
        mysql::Error::CodecError(error) => error.to_string(),
        mysql::Error::DriverError(error) => error.to_string(),
        error => error.to_string(),
    }
}

//! A connection to one shard, and what becomes of a statement when it breaks.

use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, Opts, Params, Value};

use super::entry::{Entry, Version};
use super::failure::{Answer, Failure};
use super::statements;
use lab::service::{Dialect, dial, is_lost};
use lab::{Doing, Error, Result};

const DEADLOCK: u16 = 1213;
const DUPLICATE: u16 = 1062;
const DURING_COMMIT: u16 = 1180;
const NO_SUCH_TABLE: u16 = 1146;
/// Keys that are asked for in one statement.
pub(super) const MOST_AT_ONCE: usize = 1_000;
const REMEDY: &str = "Store::create makes it";
/// A statement on one row that gave way so often stands in front of something else than chance.
const MOST_TRIES: usize = 100;

/// Key, value, version, and microseconds to live.
pub(super) type Row = (Vec<u8>, Vec<u8>, u64, Option<i64>);

pub(super) fn is_alive((.., left): &Row) -> bool {
    left.is_none_or(|left| left > 0)
}

pub(super) fn entries(rows: Vec<Row>) -> Vec<(Vec<u8>, Entry)> {
    let entry = |(key, value, version, left): Row| {
        let expires_in = left.map(|left| Duration::from_micros(left.max(0) as u64));
        (key, Entry { value, version: Version(version), expires_in })
    };
    rows.into_iter().map(entry).collect()
}

pub(super) struct Shard {
    pub(super) url: String,
    /// For error messages: without the password.
    pub(super) name: String,
    patience: Duration,
    waits_for_locks: bool,
    /// Which shard it is to be, of how many.
    place: Option<(usize, usize)>,
    open: Option<(Conn, Dialect)>,
}

impl Shard {
    pub(super) fn new(url: &str, patience: Duration) -> Result<Self> {
        let opts = Opts::from_url(url).doing("read a shard's URL")?;
        let database = opts.get_db_name().unwrap_or_default();
        let name = format!("{}:{}/{database}", opts.get_ip_or_hostname(), opts.get_tcp_port());
        Ok(Self { url: url.into(), name, patience, waits_for_locks: true, place: None, open: None })
    }

    /// Refuses a database that is not this shard of so many, as those who made it counted them.
    pub(super) fn that_is(self, number: usize, shards: usize) -> Self {
        Self { place: Some((number, shards)), ..self }
    }

    /// Makes the tables where they are missing; the first to do so says which shard it is.
    pub(super) fn make(url: &str, patience: Duration, number: usize, shards: usize) -> Result<()> {
        let mut shard = Self::new(url, patience)?;
        let doing = || "make the store's tables".to_string();
        for table in statements::create() {
            shard.write(doing, &table, ())?;
        }
        shard.write(doing, &statements::keep_place(), (number, shards))?;
        shard.open.take().map_or(Ok(()), |(mut connection, _)| shard.that_is(number, shards).check(&mut connection))
    }

    fn check(&self, connection: &mut Conn) -> Result<()> {
        let Some(expected) = self.place else { return Ok(()) };
        let doing = "find the store's shard";
        let place: Option<(usize, usize)> = connection.query_first(statements::place()).map_err(|error| {
            let failure = Error::new(doing, said(&error)).at(&self.name);
            if has_code(&error, NO_SUCH_TABLE) { failure.remedy(REMEDY) } else { failure }
        })?;
        match place {
            Some(place) if place == expected => Ok(()),
            Some((number, shards)) => {
                let cause = format!("it is shard {number} of {shards}, and not {} of {}", expected.0, expected.1);
                let remedy = "name the shards that the store was made with, in the same order";
                Err(Error::new(doing, cause).at(&self.name).remedy(remedy))
            }
            None => Err(Error::new(doing, "it does not say which one it is").at(&self.name).remedy(REMEDY)),
        }
    }

    /// A connection whose statements fail soon where somebody holds what they want.
    pub(super) fn that_hardly_waits(self) -> Self {
        Self { waits_for_locks: false, ..self }
    }

    pub(super) fn dialect(&mut self) -> Answer<Dialect> {
        Ok(self.connected()?.1)
    }

    /// Reads rows, expired ones too. What broke on the way is asked again: a read may happen twice.
    pub(super) fn read(&mut self, doing: impl Fn() -> String, sql: &str, values: Vec<Value>) -> Answer<Vec<Row>> {
        let fresh = self.open.is_none();
        let mut ask = || {
            self.connected()?;
            self.tried(&doing, false, |connection| connection.exec::<Row, _, _>(sql, values.clone()))
        };
        match ask() {
            Err(_) if !fresh && self.open.is_none() => {
                self.connected()?;
                self.tried(&doing, false, |connection| connection.exec::<Row, _, _>(sql, values.clone()))
            }
            rows => rows,
        }
    }

    /// The entries in rows that were read, by what they hold once nobody is changing them.
    ///
    /// That a row has expired is not yet that its key is absent: a compare-and-set that began while it was alive may be about to
    /// commit, and will have found it. So a key whose row has expired is read again, after whoever is changing it.
    pub(super) fn settled(&mut self, doing: impl Fn() -> String, rows: Vec<Row>) -> Answer<Vec<(Vec<u8>, Entry)>> {
        let (mut found, expired): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(is_alive);
        for expired in expired.chunks(MOST_AT_ONCE) {
            let sql = statements::select_settled(self.dialect()?, expired.len());
            let keys = expired.iter().map(|(key, ..)| key.as_slice().into()).collect();
            found.extend(self.read(&doing, &sql, keys)?.into_iter().filter(is_alive));
        }
        Ok(entries(found))
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
            Err(error) if has_code(&error, DUPLICATE) => Ok(false),
            answer => answer.map(|()| true),
        })
    }

    /// Runs statements that begin a transaction and commit it. Where one fails, the transaction is rolled back; a connection of
    /// which that is not certain is closed, and the server rolls back what it had begun.
    pub(super) fn transact<T>(
        &mut self,
        doing: &str,
        run: impl FnOnce(&mut Conn, Dialect) -> mysql::Result<T>,
    ) -> Result<T> {
        let (connection, dialect) = self.connected()?;
        let answer = run(connection, *dialect);
        let failed = |error: &mysql::Error| is_lost(error) || connection.query_drop("ROLLBACK").is_err();
        if answer.as_ref().err().is_some_and(failed) {
            self.open = None;
        }
        answer.map_err(|error| Error::new(doing, said(&error)).at(&self.name))
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
                Err(error) if has_code(&error, DEADLOCK) => {}
                // The server does not know either how a commit has ended that it calls an error.
                Err(error) if is_lost(&error) || has_code(&error, DURING_COMMIT) => {
                    self.open = None;
                    let error = Error::new(doing(), said(&error)).at(&self.name);
                    return Err(if writes { Failure::in_doubt(error) } else { Failure::refused(error) });
                }
                Err(error) => {
                    let failure = Error::new(doing(), said(&error)).at(&self.name);
                    let failure = if has_code(&error, NO_SUCH_TABLE) { failure.remedy(REMEDY) } else { failure };
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

    fn connect(&self) -> Result<(Conn, Dialect)> {
        let doing = || "connect to a shard";
        let opts = Opts::from_url(&self.url).doing(doing())?;
        let lost = |cause: mysql::Error| Error::new(doing(), said(&cause)).at(&self.name);
        let mut connection = dial(opts, self.patience).map_err(lost)?;
        let about = "SELECT VERSION(), SLEEP(0.001), SYSDATE(6) > NOW(6)";
        let about: Option<(String, u64, bool)> = connection.query_first(about).map_err(lost)?;
        let (banner, _, clock_goes_on) = about.unwrap_or_default();
        if !clock_goes_on {
            let cause = "its clock stands still while a statement waits";
            return Err(Error::new(doing(), cause).at(&self.name).remedy("start the server without --sysdate-is-now"));
        }
        let dialect = Dialect::of(&banner)?;
        connection.query_drop(self.session()).map_err(lost)?;
        connection.query_drop("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").map_err(lost)?;
        self.check(&mut connection)?;
        Ok((connection, dialect))
    }

    /// What the store relies on, whatever the server's defaults are.
    fn session(&self) -> String {
        // A client that is out of patience is in doubt; a server that is out of patience has said no. So it has less. Not less
        // than a second: MariaDB takes 0 for an order to fail, also where a statement would skip what is locked.
        let locks = if self.waits_for_locks { (self.patience.as_secs() / 2).max(1) } else { 1 };
        // Local time repeats an hour every autumn.
        format!(
            "SET SESSION time_zone = '+00:00', autocommit = 1, sql_mode = 'STRICT_ALL_TABLES', \
             innodb_lock_wait_timeout = {locks}, lock_wait_timeout = {locks}"
        )
    }
}

fn has_code(error: &mysql::Error, code: u16) -> bool {
    matches!(error, mysql::Error::MySqlError(error) if error.code == code)
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

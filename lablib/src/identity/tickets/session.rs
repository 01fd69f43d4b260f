//! A client's connection to a SQL server, which comes back when it broke, and tries again what may be tried again.

use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, Opts, OptsBuilder};

use super::IssuerStats;
use crate::lab::service::{MariaDb, dial};
use crate::lab::{Doing, Error, Result};

/// How long a client waits for an answer before it takes the server for gone.
const ANSWER: Duration = Duration::from_secs(2);
/// How long it goes on trying.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

const LOCK_WAIT_TIMEOUT: u16 = 1205;
const DEADLOCK: u16 = 1213;
const DUPLICATE_KEY: u16 = 1062;
const RECORD_HAS_CHANGED: u16 = 1020;
/// What a server says when it cannot go on with a connection, or has no room for it.
const GOING: [u16; 5] = [1040, 1053, 1077, 1079, 1927];

/// Where a server is, and what a session on it begins with.
#[derive(Clone)]
pub(super) struct Door {
    opts: Opts,
    /// Without the password, so that it may stand in an error.
    pub(super) name: String,
    first: Vec<String>,
}

/// One connection, made when it is needed.
pub(super) struct Session {
    door: Door,
    connection: Option<Conn>,
    pub(super) stats: IssuerStats,
}

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server did not answer, or is going: another one may, or this one later.
    Gone(Error),
    /// Nobody can help.
    Refused(Error),
}

impl Failure {
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Gone(error) | Self::Refused(error) => error,
        }
    }
}

impl Door {
    /// A session in `database`, which begins with these statements.
    pub(super) fn to(server: &MariaDb, database: &str, first: Vec<String>) -> Result<Self> {
        let opts = Opts::from_url(server.url()).doing("read the server's URL")?;
        let opts = OptsBuilder::from_opts(opts).db_name(Some(database));
        Ok(Self { opts: opts.into(), name: server.name().to_string(), first })
    }

    pub(super) fn session(&self) -> Session {
        Session { door: self.clone(), connection: None, stats: IssuerStats::default() }
    }
}

/// A database of its own on a server, by a name that nobody has.
pub(super) fn new_database(server: &MariaDb, base: &str) -> Result<String> {
    let name = format!("{base}_{:012x}", rand::random::<u64>() >> 16);
    server.try_execute(&format!("CREATE DATABASE {name}"))?;
    Ok(name)
}

impl Session {
    /// Does some work on the connection, again after a deadlock or its like, and gives up when the server does not answer.
    /// The work takes numbers, so that doing it twice costs a gap and nothing else.
    pub(super) fn attempt<T>(
        &mut self,
        doing: &str,
        mut work: impl FnMut(&mut Conn, &mut u64) -> mysql::Result<T>,
    ) -> std::result::Result<T, Failure> {
        let began = Instant::now();
        loop {
            let Some(connection) = &mut self.connection else {
                self.connect(doing)?;
                continue;
            };
            match work(connection, &mut self.stats.round_trips) {
                Ok(done) => return Ok(done),
                Err(mysql::Error::MySqlError(error)) if !GOING.contains(&error.code) => {
                    // A statement that failed inside a transaction leaves it open; a deadlock has rolled it back.
                    if connection.query_drop("ROLLBACK").is_err() {
                        self.connection = None;
                    }
                    match error.code {
                        DEADLOCK => self.stats.deadlocks += 1,
                        LOCK_WAIT_TIMEOUT | DUPLICATE_KEY | RECORD_HAS_CHANGED => self.stats.conflicts += 1,
                        _ => return Err(Failure::Refused(self.error(doing, &error))),
                    }
                    if began.elapsed() > PATIENCE {
                        return Err(Failure::Refused(self.error(doing, &error)));
                    }
                }
                Err(error) => {
                    self.connection = None;
                    self.stats.lost_answers += 1;
                    return Err(Failure::Gone(self.error(doing, &error)));
                }
            }
        }
    }

    /// As [`attempt`](Self::attempt), and waits for a server that is gone until its patience ends.
    pub(super) fn insist<T>(
        &mut self,
        doing: &str,
        mut work: impl FnMut(&mut Conn, &mut u64) -> mysql::Result<T>,
    ) -> Result<T> {
        let began = Instant::now();
        loop {
            match self.attempt(doing, &mut work) {
                Ok(done) => return Ok(done),
                Err(Failure::Gone(_)) if began.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
                Err(failure) => return Err(failure.into_error()),
            }
        }
    }

    fn connect(&mut self, doing: &str) -> std::result::Result<(), Failure> {
        let connect = || {
            let mut connection = dial(self.door.opts.clone(), ANSWER)?;
            self.door.first.iter().try_for_each(|statement| connection.query_drop(statement))?;
            Ok(connection)
        };
        match connect() {
            Ok(connection) => {
                self.connection = Some(connection);
                Ok(())
            }
            Err(mysql::Error::MySqlError(error)) if !GOING.contains(&error.code) => {
                Err(Failure::Refused(self.error(doing, &error)))
            }
            Err(error) => {
                self.stats.refused += 1;
                Err(Failure::Gone(self.error(doing, &error)))
            }
        }
    }

    fn error(&self, doing: &str, cause: &dyn std::fmt::Display) -> Error {
        Error::new(doing, cause).at(&self.door.name)
    }
}

//! A client's connection to a SQL server, which comes back when it broke, and tries again what may be tried again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, Opts, OptsBuilder};

use super::IssuerStats;
use lab::service::{MariaDb, dial, is_lost};
use lab::{Doing, Error, Result};

/// How long a client that has another server to go to waits for an answer before it takes this one for gone.
pub(super) const ANSWER: Duration = Duration::from_secs(2);
/// How long a client waits that has no other.
pub(super) const ONLY_ANSWER: Duration = Duration::from_secs(5);
/// How long either goes on trying.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);
/// The longest pause after a deadlock: as long as a few of those that won need.
const AFTER_A_DEADLOCK: Duration = Duration::from_millis(16);
/// How long a client goes on after deadlocks before it says that the server is busy.
const DEADLOCKED: Duration = Duration::from_secs(1);

/// What every session begins with, whatever the server's own settings are.
///
/// A statement waits for a lock for a second: less than its client waits for the answer, so that the client hears of it, and
/// nothing that it has given up goes on waiting in the server. A transaction that stands still for five seconds is that of a
/// client who is gone without a word; MariaDB then lets go of its locks, while MySQL, where `/*M!` begins a comment, has no
/// such setting and waits for the connection's end.
const FIRST: &str = "SET SESSION autocommit = 1, time_zone = '+00:00', \
                     sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION', \
                     innodb_lock_wait_timeout = 1, lock_wait_timeout = 1 /*M!100303 , idle_transaction_timeout = 5 */";

const LOCK_WAIT_TIMEOUT: u16 = 1205;
const DEADLOCK: u16 = 1213;
const DUPLICATE_KEY: u16 = 1062;
const RECORD_HAS_CHANGED: u16 = 1020;
/// What a server says when it has no room for a connection, or is about to end, beside what ends a connection.
const GOING: [u16; 3] = [1040, 1077, 1079];

/// Where a server is, and what a session on it begins with.
#[derive(Clone)]
pub(super) struct Door {
    opts: Opts,
    /// Without the password, so that it may stand in an error.
    pub(super) name: String,
    /// Such sessions begin with these statements,
    pub(super) first: Vec<String>,
    /// and look at the server before they ask it for anything: behind every connection there may be another one.
    pub(super) look: Option<Look>,
    answer: Duration,
}

/// A look at the server behind a new connection: an error of the inner kind says why it is not the right one.
pub(super) type Look = Arc<dyn Fn(&mut Conn) -> mysql::Result<std::result::Result<(), String>> + Send + Sync>;

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
    /// Somebody keeps what is needed locked: as above.
    Busy(Error),
    /// Nobody can help.
    Refused(Error),
}

impl Door {
    /// A session in `database`, which takes the server for gone when an answer takes longer than `answer`.
    pub(super) fn to(server: &MariaDb, database: &str, answer: Duration) -> Result<Self> {
        let opts = Opts::from_url(server.url()).doing("read the server's URL")?;
        let opts = OptsBuilder::from_opts(opts).db_name(Some(database));
        Ok(Self { opts: opts.into(), name: server.name().to_string(), first: vec![FIRST.into()], look: None, answer })
    }

    pub(super) fn session(&self) -> Session {
        Session { door: self.clone(), connection: None, stats: IssuerStats::default() }
    }
}

/// A database of its own on a server, by a name that nobody has, with what these statements make in it; nothing where one
/// of them fails. None of them is tried again: whoever does not hear whether a table was made finds it there.
pub(super) fn new_database(server: &MariaDb, base: &str, statements: &[String]) -> Result<String> {
    let name = format!("{base}_{:012x}", rand::random::<u64>() >> 16);
    let doing = || format!("make the database {name}");
    let mut connection = server.connect()?;
    let first = [format!("CREATE DATABASE {name}"), format!("USE {name}")];
    let mut made = first.iter().chain(statements);
    made.try_for_each(|statement| connection.query_drop(statement)).doing(doing()).map_err(|error| {
        drop_database(server, &name);
        error.at(server.name())
    })?;
    Ok(name)
}

/// Takes back what was made for something that came to nothing; where the server is gone, its name is all that is left.
pub(super) fn drop_database(server: &MariaDb, name: &str) {
    let _ = server.try_execute(&format!("DROP DATABASE IF EXISTS {name}"));
}

impl Session {
    /// Does some work on the connection, again after a deadlock or its like, and gives up when the server does not answer.
    /// The work takes numbers, so that doing it twice costs a gap and nothing else.
    pub(super) fn attempt<T>(
        &mut self,
        doing: &str,
        mut work: impl FnMut(&mut Conn) -> mysql::Result<T>,
    ) -> std::result::Result<T, Failure> {
        let began = Instant::now();
        loop {
            let Some(connection) = &mut self.connection else {
                self.connect(doing)?;
                continue;
            };
            match work(connection) {
                Ok(done) => return Ok(done),
                Err(error) if is_going(&error) => {
                    self.connection = None;
                    self.stats.lost_answers += 1;
                    return Err(Failure::Gone(self.error(doing, &error)));
                }
                Err(error) => {
                    // A statement that failed inside a transaction leaves it open; a deadlock has rolled it back.
                    if connection.query_drop("ROLLBACK").is_err() {
                        self.connection = None;
                    }
                    let code = code(&error);
                    match code {
                        DEADLOCK => self.stats.deadlocks += 1,
                        LOCK_WAIT_TIMEOUT | DUPLICATE_KEY | RECORD_HAS_CHANGED => self.stats.conflicts += 1,
                        _ => return Err(Failure::Refused(self.error(doing, &error))),
                    }
                    if code == LOCK_WAIT_TIMEOUT || began.elapsed() > DEADLOCKED {
                        return Err(Failure::Busy(self.error(doing, &error)));
                    }
                    // Whoever comes back at once stands in the way of those that it met, and is the victim again.
                    std::thread::sleep(AFTER_A_DEADLOCK.mul_f64(rand::random()));
                }
            }
        }
    }

    /// As [`attempt`](Self::attempt), and waits for a server that is gone or busy until its patience ends.
    pub(super) fn insist<T>(&mut self, doing: &str, mut work: impl FnMut(&mut Conn) -> mysql::Result<T>) -> Result<T> {
        let began = Instant::now();
        loop {
            match self.attempt(doing, &mut work) {
                Ok(done) => return Ok(done),
                Err(Failure::Gone(_) | Failure::Busy(_)) if began.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
                Err(Failure::Gone(error) | Failure::Busy(error) | Failure::Refused(error)) => return Err(error),
            }
        }
    }

    /// As [`insist`](Self::insist), for the one number that answers a question.
    pub(super) fn ask(&mut self, doing: &str, question: &str) -> Result<u64> {
        let id: Option<u64> = self.insist(doing, |connection| connection.query_first(question))?;
        id.ok_or_else(|| Error::new(doing, "it answered nothing"))
    }

    fn connect(&mut self, doing: &str) -> std::result::Result<(), Failure> {
        let connect = || {
            let mut connection = dial(self.door.opts.clone(), self.door.answer)?;
            self.door.first.iter().try_for_each(|statement| connection.query_drop(statement))?;
            let fits = self.door.look.as_ref().map_or(Ok(Ok(())), |look| look(&mut connection))?;
            Ok(fits.map(|()| connection))
        };
        match connect() {
            Ok(Ok(connection)) => {
                self.connection = Some(connection);
                Ok(())
            }
            Ok(Err(cause)) => Err(Failure::Refused(self.error(doing, &cause))),
            Err(error) if is_going(&error) => {
                self.stats.refused += 1;
                Err(Failure::Gone(self.error(doing, &error)))
            }
            Err(error) => Err(Failure::Refused(self.error(doing, &error))),
        }
    }

    fn error(&self, doing: &str, cause: &dyn std::fmt::Display) -> Error {
        Error::new(doing, cause).at(&self.door.name)
    }
}

/// Whether the server cannot go on with this connection.
fn is_going(error: &mysql::Error) -> bool {
    is_lost(error) || GOING.contains(&code(error))
}

/// What the server said; 0 where it said nothing.
fn code(error: &mysql::Error) -> u16 {
    match error {
        mysql::Error::MySqlError(said) => said.code,
        _ => 0,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use lab::service;

    #[test]
    fn a_client_that_falls_silent_in_a_transaction_keeps_its_locks_for_seconds_and_finds_nothing_half_done() {
        let server = service::private_mysql();
        let tables = ["CREATE TABLE one (id INT PRIMARY KEY)".to_string(), "INSERT INTO one VALUES (1)".into()];
        let database = new_database(&server, "silent", &tables).unwrap();
        let door = Door::to(&server, &database, ONLY_ANSWER).unwrap();
        let (mut silent, mut next) = (door.session(), door.session());
        let half = |connection: &mut Conn| {
            connection.query_drop("BEGIN")?;
            connection.query_drop("DELETE FROM one")
        };
        silent.attempt("delete", half).unwrap();
        next.insist("go on", |connection| connection.query_drop("UPDATE one SET id = 2")).unwrap();
        assert!(next.stats.conflicts > 0 && next.stats.lost_answers == 0, "{:?}", next.stats);
        let late = silent.attempt("go on", |connection| connection.query_drop("INSERT INTO one VALUES (3)"));
        assert!(matches!(late, Err(Failure::Gone(_))), "{late:?}");
        assert_eq!(server.ask(&format!("SELECT GROUP_CONCAT(id) FROM {database}.one")).unwrap(), "2");
    }

    /// Whoever comes back at once, as often as he can, is in everybody's way.
    #[test]
    fn a_victim_of_deadlocks_pauses_before_it_comes_back() {
        let server = service::mysql();
        let database = new_database(&server, "victim", &[]).unwrap();
        let mut session = Door::to(&server, &database, ONLY_ANSWER).unwrap().session();
        let victim = |_: &mut Conn| -> mysql::Result<()> {
            let (state, message) = ("40001".into(), "deadlock".into());
            Err(mysql::Error::MySqlError(mysql::error::MySqlError { state, message, code: DEADLOCK }))
        };
        assert!(matches!(session.attempt("meet others", victim), Err(Failure::Busy(_))));
        // Eight milliseconds on average, for a second.
        assert!((2..400).contains(&session.stats.deadlocks), "{:?}", session.stats);
    }

    #[test]
    fn a_database_that_cannot_be_made_whole_is_not_there() {
        let server = service::private_mysql();
        let tables = ["CREATE TABLE one (id INT PRIMARY KEY)".to_string(), "CREATE TABLE one (id INT)".into()];
        let error = new_database(&server, "halved", &tables).unwrap_err().to_string();
        assert!(error.contains("already exists"), "{error}");
        assert_eq!(
            server.ask("SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name LIKE 'halved%'").unwrap(),
            "0"
        );
    }
}

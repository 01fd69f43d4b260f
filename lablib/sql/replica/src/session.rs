//! A client's session: it writes to the primary, reads from replicas, and keeps what it was promised.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql::Conn;
use mysql::prelude::Queryable;

use super::Skip;
use super::cluster::{ask_position, position_by};
use super::position::Position;
use super::router::Shared;
use lab::{Doing, Error, Result, Rng};

/// What a session is promised about its reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// Nothing: any replica, whatever it shows.
    Eventual,
    /// Nothing, but always the same replica, as a load balancer with sticky sessions gives.
    Pinned,
    /// It sees what it has written.
    ReadYourWrites,
    /// No read shows an older state than a read before it.
    MonotonicReads,
    /// Both.
    Session,
    /// The primary answers every read.
    Primary,
}

/// An answer, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// The value that was read.
    pub value: T,
    /// Who answered.
    pub server: usize,
    /// How long it waited for the session's position, if it had to.
    pub waited: Option<Duration>,
}

/// What a session went through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionStats {
    /// Reads that each server answered.
    pub reads: Vec<u64>,
    /// Reads that waited on a replica for the session's position.
    pub waited: u64,
    /// … in vain, so that they went to the primary.
    pub timed_out: u64,
    /// Reads for which no replica could be asked at all.
    pub unplaced: u64,
}

/// How long the primary may take: it has nobody to take over from it.
const PRIMARY: Duration = Duration::from_secs(20);

/// A session; see [`Router::session`](super::Router::session).
///
/// What it has written or seen it keeps as a [`Position`]. A replica that is known to have that position is read at
/// once; another one is asked to wait for it, and after a while the primary is read instead, which has everything.
#[derive(Debug)]
pub struct Session {
    shared: Arc<Shared>,
    consistency: Consistency,
    skip: Option<Skip>,
    connections: Vec<Option<Conn>>,
    /// What every read has to show.
    needs: Position,
    /// A write whose position nobody learned: the primary has to say where it is before a replica may be read.
    owes: Owes,
    /// The last transaction that each kept connection committed, as far as the session knows.
    last: Vec<Option<Position>>,
    pinned: Option<usize>,
    rng: Rng,
    stats: SessionStats,
}

/// Whether a write is somewhere behind a position that nobody learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Owes {
    Nothing,
    /// It may have happened. Nobody was promised to see it, but who can should.
    Perhaps,
    /// It did happen, and was promised.
    Surely,
}

/// How far a write had come when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reached {
    /// Not to its commit: it has changed nothing. The server refused it, or did not answer.
    Work { refused: bool },
    /// Its commit was not answered.
    Commit,
    /// It was committed, and its position was not told.
    Committed,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, consistency: Consistency, rng: Rng) -> Self {
        let servers = shared.cluster.size();
        Self {
            connections: (0..servers).map(|_| None).collect(),
            owes: Owes::Nothing,
            last: vec![None; servers],
            stats: SessionStats { reads: vec![0; servers], ..SessionStats::default() },
            shared,
            consistency,
            skip: None,
            needs: Position::start(),
            pinned: None,
            rng,
        }
    }

    /// Leaves a step out, to see which check notices.
    pub fn without(mut self, skip: Option<Skip>) -> Self {
        self.skip = skip;
        self
    }

    /// The position that its next read has to show.
    pub fn needs(&self) -> &Position {
        &self.needs
    }

    /// Goes on where another session stopped: a user's next request, which comes to another web server.
    pub fn resume(&mut self, needs: &Position) {
        self.needs.join(needs);
    }

    /// What it went through so far.
    pub fn stats(&self) -> &SessionStats {
        &self.stats
    }

    /// Does some work in a transaction on the primary; returns what the work returned, and the position that the commit
    /// made: where nothing was changed, one that covers what the work can have seen.
    ///
    /// An error before the commit has changed nothing. One during the commit leaves open whether it happened, and says
    /// so.
    pub fn write<T>(&mut self, work: impl FnOnce(&mut Conn) -> mysql::Result<T>) -> Result<(T, Position)> {
        let primary = self.shared.cluster.primary();
        let server = self.shared.cluster.server(primary)?;
        let (dialect, name) = (server.dialect(), server.name().to_owned());
        let mut connection = self.connection(primary)?;
        let remembers = matches!(self.consistency, Consistency::ReadYourWrites | Consistency::Session)
            && self.skip != Some(Skip::WriteToken);
        // A connection that failed is not used again; the server rolls back what it left.
        let (value, mut position) = match commit_or(&mut connection, dialect.last_position(), work) {
            Ok(done) => done,
            Err((reached, error)) => {
                match reached {
                    // The work has seen something, all the same.
                    Reached::Work { refused: true } => {
                        let _ = self.note(primary, &mut connection);
                    }
                    Reached::Work { refused: false } => {}
                    Reached::Commit if remembers => self.owes = self.owes.max(Owes::Perhaps),
                    Reached::Committed if remembers => self.owes = Owes::Surely,
                    Reached::Commit | Reached::Committed => {}
                }
                return Err(error.at(name));
            }
        };
        // Where nothing was changed, nothing was committed either, and the last transaction is an older one.
        let changed = !position.is_start() && self.last[primary].as_ref() != Some(&position);
        self.last[primary] = Some(position.clone());
        if !changed {
            position = position_by(&mut connection, dialect.position()).map_err(|error| error.at(name))?;
        }
        self.connections[primary] = Some(connection);
        if remembers {
            self.needs.join(&position);
        }
        Ok((value, position))
    }

    /// Asks the primary for the position that covers a write whose own nobody learned.
    fn pay(&mut self) -> Result<()> {
        let primary = self.shared.cluster.primary();
        let question = self.shared.cluster.server(primary)?.dialect().position();
        let patience = if self.owes == Owes::Surely { PRIMARY } else { self.shared.spec.silence };
        let connected = self.shared.cluster.connect(primary, patience);
        match connected.and_then(|mut connection| Ok((position_by(&mut connection, question)?, connection))) {
            Ok((position, connection)) => {
                self.needs.join(&position);
                self.owes = Owes::Nothing;
                // It is a fresh one, which has committed nothing yet.
                self.last[primary] = None;
                self.connections[primary] = Some(connection);
                Ok(())
            }
            // It stays owed; until the primary can be asked, what may have happened is not to be seen.
            Err(_) if self.owes == Owes::Perhaps => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Does some reading where the router says, and keeps the session's promise. The work may be asked more than once,
    /// of different servers; the primary's error is final.
    pub fn read<T>(&mut self, mut work: impl FnMut(&mut Conn) -> mysql::Result<T>) -> Result<Answer<T>> {
        if self.owes != Owes::Nothing {
            self.pay()?;
        }
        let mut without: Vec<usize> = Vec::new();
        let primary = self.shared.cluster.primary();
        while self.consistency != Consistency::Primary {
            let Some(server) = self.place(&without) else {
                self.stats.unplaced += 1;
                break;
            };
            match self.ask(server, &mut work) {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {
                    self.stats.timed_out += 1;
                    break;
                }
                Err(_) => without.push(server),
            }
        }
        // A connection that was kept may have died with the server that is back by now: a second one is worth a try.
        let kept = self.connections.get(primary).is_some_and(Option::is_some);
        let mut connection = self.connection(primary)?;
        let mut value = work(&mut connection);
        if kept && value.as_ref().is_err_and(|error| !matches!(error, mysql::Error::MySqlError(_))) {
            connection = self.connection(primary)?;
            value = work(&mut connection);
        }
        let value = value.doing("read").map_err(|error| error.at(self.shared.cluster.name(primary)))?;
        self.note(primary, &mut connection)?;
        self.connections[primary] = Some(connection);
        self.stats.reads[primary] += 1;
        Ok(Answer { value, server: primary, waited: None })
    }

    fn place(&mut self, without: &[usize]) -> Option<usize> {
        if self.consistency != Consistency::Pinned {
            return self.shared.choose(&self.needs, without, &mut self.rng);
        }
        // Where nobody else is sent any more, a pinned session does not stay either.
        let weights = self.shared.weights(without);
        let pinned = self.pinned.filter(|&server| weights.get(server).is_some_and(|&weight| weight > 0.0));
        self.pinned = pinned.or_else(|| self.shared.choose(&Position::start(), without, &mut self.rng));
        self.pinned
    }

    /// Reads on a replica; nothing if it did not reach the session's position in time.
    fn ask<T>(
        &mut self,
        server: usize,
        work: &mut impl FnMut(&mut Conn) -> mysql::Result<T>,
    ) -> Result<Option<Answer<T>>> {
        let mut connection = self.connection(server).inspect_err(|_| self.shared.lost(server))?;
        let known = self.shared.seen(server).is_some_and(|seen| seen.position.covers(&self.needs));
        let mut waited = None;
        if !known && self.skip != Some(Skip::Wait) {
            let began = Instant::now();
            let dialect = self.shared.cluster.server(server)?.dialect();
            // No time at all would be for ever in the words of a MySQL.
            let wait = self.shared.spec.wait.min(self.shared.spec.silence / 2).max(Duration::from_millis(1));
            let question = dialect.wait_for_position(&self.needs.to_string(), wait.as_secs_f64());
            self.stats.waited += 1;
            let answer = connection.query_first::<Option<i64>, _>(question);
            if answer.map_err(|error| self.gone(server, &error))?.flatten() != Some(0) {
                self.connections[server] = Some(connection);
                return Ok(None);
            }
            waited = Some(began.elapsed());
        }
        let value = work(&mut connection).map_err(|error| self.gone(server, &error))?;
        self.note(server, &mut connection)?;
        self.connections[server] = Some(connection);
        self.stats.reads[server] += 1;
        Ok(Some(Answer { value, server, waited }))
    }

    /// Remembers how far the server was *after* it was read: by then its binary log names whatever the read could have
    /// seen, for a transaction is logged before it is visible.
    fn note(&mut self, server: usize, connection: &mut Conn) -> Result<()> {
        let remembers = matches!(self.consistency, Consistency::MonotonicReads | Consistency::Session);
        if !remembers || self.skip == Some(Skip::ReadToken) {
            return Ok(());
        }
        let question = self.shared.cluster.server(server)?.dialect().position();
        let position = ask_position(connection, question).map_err(|error| self.gone(server, &error))?;
        self.needs.join(&position.parse()?);
        Ok(())
    }

    /// An answer that a server gave is no sign of its death; no answer is.
    fn gone(&self, server: usize, error: &mysql::Error) -> Error {
        if !matches!(error, mysql::Error::MySqlError(_)) {
            self.shared.lost(server);
        }
        Error::new("read", error).at(self.shared.cluster.name(server))
    }

    fn connection(&mut self, server: usize) -> Result<Conn> {
        if let Some(connection) = self.connections.get_mut(server).and_then(Option::take) {
            return Ok(connection);
        }
        let patience = if server == self.shared.cluster.primary() { PRIMARY } else { self.shared.spec.silence };
        self.last[server] = None;
        self.shared.cluster.connect(server, patience)
    }
}

/// Does some work in a transaction of its own; returns what it returned, and the position that the commit made.
pub(super) fn commit<T>(
    connection: &mut Conn,
    question: &str,
    work: impl FnOnce(&mut Conn) -> mysql::Result<T>,
) -> Result<(T, Position)> {
    commit_or(connection, question, work).map_err(|(_, error)| error)
}

/// As [`commit`]; with an error, how far it came.
fn commit_or<T>(
    connection: &mut Conn,
    question: &str,
    work: impl FnOnce(&mut Conn) -> mysql::Result<T>,
) -> Result<(T, Position), (Reached, Error)> {
    let unanswered = Reached::Work { refused: false };
    connection.query_drop("START TRANSACTION").doing("write").map_err(|error| (unanswered, error))?;
    let value = match work(connection) {
        Ok(value) => value,
        Err(error) => {
            // Where the connection is gone, so is the transaction.
            let _ = connection.query_drop("ROLLBACK");
            let refused = matches!(error, mysql::Error::MySqlError(_));
            return Err((Reached::Work { refused }, Error::new("write", error)));
        }
    };
    let open = "it may have happened: read before you write again";
    connection.query_drop("COMMIT").doing("commit").map_err(|error| (Reached::Commit, error.remedy(open)))?;
    let position = position_by(connection, question).map_err(|error| {
        (Reached::Committed, Error::new("learn a commit's position", error.cause()).remedy("it did happen"))
    })?;
    Ok((value, position))
}

//! A client's session: it writes to the primary, reads from replicas, and keeps what it was promised.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql::Conn;
use mysql::prelude::Queryable;

use super::Skip;
use super::cluster::{ask_position, position_by};
use super::position::Position;
use super::router::Shared;
use crate::lab::{Doing, Error, Result, Rng};

/// What a session is promised about its reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// Nothing: any replica, whatever it shows.
    Eventual,
    /// Nothing, but always the same replica, as a load balancer with sticky sessions gives.
    Pinned,
    /// It sees what it has written.
    ReadYourWrites,
    /// It never sees an older state than it has seen.
    MonotonicReads,
    /// Both.
    Session,
    /// The primary answers every read.
    Primary,
}

/// An answer, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// What was read.
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
    /// Replicas that failed a read, which then went on to another server.
    pub failed_over: u64,
}

impl SessionStats {
    /// Adds another session's.
    pub fn add(&mut self, other: &Self) {
        self.reads.resize(self.reads.len().max(other.reads.len()), 0);
        self.reads.iter_mut().zip(&other.reads).for_each(|(mine, theirs)| *mine += theirs);
        self.waited += other.waited;
        self.timed_out += other.timed_out;
        self.unplaced += other.unplaced;
        self.failed_over += other.failed_over;
    }
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
    pinned: Option<usize>,
    rng: Rng,
    stats: SessionStats,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, consistency: Consistency, rng: Rng) -> Self {
        let servers = shared.cluster.len();
        Self {
            connections: (0..servers).map(|_| None).collect(),
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
    /// made.
    ///
    /// An error before the commit has changed nothing. One during the commit leaves open whether it happened, and says
    /// so.
    pub fn write<T>(&mut self, work: impl FnOnce(&mut Conn) -> mysql::Result<T>) -> Result<(T, Position)> {
        let primary = self.shared.cluster.primary();
        let server = self.shared.cluster.server(primary)?;
        let (question, name) = (server.dialect().last_position(), server.name().to_owned());
        let mut connection = self.connection(primary)?;
        // A connection that failed is not used again; the server rolls back what it left.
        let (value, position) = commit(&mut connection, question, work).map_err(|error| error.at(name))?;
        self.connections[primary] = Some(connection);
        let remembers = matches!(self.consistency, Consistency::ReadYourWrites | Consistency::Session);
        if remembers && self.skip != Some(Skip::WriteToken) {
            self.needs.join(&position);
        }
        Ok((value, position))
    }

    /// Does some reading where the router says, and keeps the session's promise. The work may be asked more than once,
    /// of different servers; the primary's error is final.
    pub fn read<T>(&mut self, mut work: impl FnMut(&mut Conn) -> mysql::Result<T>) -> Result<Answer<T>> {
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
                Err(_) => {
                    self.stats.failed_over += 1;
                    without.push(server);
                }
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
        let stays = |server: &usize| !without.contains(server) && *server != self.shared.cluster.primary();
        let pinned = self.pinned.filter(stays);
        self.pinned = pinned.or_else(|| self.shared.choose(&Position::start(), without, &mut self.rng));
        self.pinned
    }

    /// Reads on a replica; nothing if it did not reach the session's position in time.
    fn ask<T>(
        &mut self,
        server: usize,
        work: &mut impl FnMut(&mut Conn) -> mysql::Result<T>,
    ) -> Result<Option<Answer<T>>> {
        let mut connection = match self.connection(server) {
            Ok(connection) => connection,
            Err(error) => {
                self.shared.lost(server);
                return Err(error);
            }
        };
        let known = self.shared.seen(server).is_some_and(|seen| seen.position.covers(&self.needs));
        let mut waited = None;
        if !known && self.skip != Some(Skip::Wait) {
            let began = Instant::now();
            let dialect = self.shared.cluster.server(server)?.dialect();
            let wait = self.shared.spec.wait.min(self.shared.spec.silence / 2);
            let question = dialect.wait_for_position(&self.needs.to_string(), wait.as_secs_f64());
            self.stats.waited += 1;
            let reached = match connection.query_first::<Option<i64>, _>(question) {
                Ok(answer) => answer.flatten() == Some(0),
                Err(error) => return Err(self.gone(server, &error)),
            };
            if !reached {
                self.connections[server] = Some(connection);
                return Ok(None);
            }
            waited = Some(began.elapsed());
        }
        let value = match work(&mut connection) {
            Ok(value) => value,
            Err(error) => return Err(self.gone(server, &error)),
        };
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
        match ask_position(connection, question) {
            Ok(text) => {
                self.needs.join(&text.parse()?);
                Ok(())
            }
            Err(error) => Err(self.gone(server, &error)),
        }
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
        self.shared.cluster.connect(server, patience)
    }
}

/// Does some work in a transaction of its own; returns what it returned, and the position that the commit made.
pub(super) fn commit<T>(
    connection: &mut Conn,
    question: &str,
    work: impl FnOnce(&mut Conn) -> mysql::Result<T>,
) -> Result<(T, Position)> {
    connection.query_drop("START TRANSACTION").doing("write")?;
    let value = match work(connection) {
        Ok(value) => value,
        Err(error) => {
            // Where the connection is gone, so is the transaction.
            let _ = connection.query_drop("ROLLBACK");
            return Err(Error::new("write", error));
        }
    };
    let open = "it may have happened: read before you write again";
    connection.query_drop("COMMIT").doing("commit").map_err(|error| error.remedy(open))?;
    let position = position_by(connection, question)
        .map_err(|error| Error::new("learn a commit's position", error.cause()).remedy("it did happen"))?;
    Ok((value, position))
}

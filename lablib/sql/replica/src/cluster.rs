//! The servers, who of them is the primary, and the wire by which each replica follows it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mysql::Conn;
use mysql::prelude::Queryable;

use super::position::Position;
use lab::link::Link;
use lab::service::{MariaDb, Replicated};
use lab::{Doing, Error, Result};

/// A primary and its replicas. Server 0 is the primary at the start; a promotion makes it another. Copies of this
/// handle are the same cluster.
#[derive(Debug, Clone)]
pub struct Cluster(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    servers: Vec<MariaDb>,
    /// How each server follows a primary; that of server 0 is used once it comes back as a replica.
    links: Vec<Link>,
    primary: AtomicUsize,
    /// Who follows the primary. A server that missed a promotion, or parted, does not.
    followers: Mutex<BTreeSet<usize>>,
}

impl Cluster {
    /// A private primary with so many replicas, which have caught up.
    pub fn start(replicas: usize) -> Result<Self> {
        Self::of(Replicated::of(replicas).start()?)
    }

    /// A cluster of these servers, which the lab started.
    pub fn of(replicated: Replicated) -> Result<Self> {
        let Replicated { primary, replicas, mut links } = replicated;
        let Some(first) = replicas.first().filter(|_| links.len() == replicas.len()) else {
            let cause = "it needs a replica, and a link in front of each";
            return Err(Error::new("make a cluster", cause).remedy("let the lab start the servers: Replicated::of(2)"));
        };
        links.insert(0, Link::to(first.address())?);
        let servers: Vec<MariaDb> = std::iter::once(primary).chain(replicas).collect();
        let followers = Mutex::new((1..servers.len()).collect());
        Ok(Self(Arc::new(Inner { servers, links, primary: AtomicUsize::new(0), followers })))
    }

    /// How many servers there are, the primary included.
    pub fn size(&self) -> usize {
        self.0.servers.len()
    }

    /// The number of the server that is the primary now.
    pub fn primary(&self) -> usize {
        self.0.primary.load(Ordering::SeqCst)
    }

    pub(super) fn set_primary(&self, server: usize) {
        self.0.primary.store(server, Ordering::SeqCst);
    }

    /// Those who follow the primary now, as far as the cluster knows: not a server that missed a promotion or parted, until it
    /// [rejoins](Self::rejoin).
    pub fn followers(&self) -> Vec<usize> {
        self.following().iter().copied().collect()
    }

    pub(super) fn follows(&self, server: usize) -> bool {
        self.following().contains(&server)
    }

    pub(super) fn following(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.0.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everybody who is not the primary now, whether they follow it or not: one at least.
    pub fn replicas(&self) -> Vec<usize> {
        (0..self.size()).filter(|&server| server != self.primary()).collect()
    }

    /// A server.
    pub fn server(&self, server: usize) -> Result<&MariaDb> {
        self.0.servers.get(server).ok_or_else(|| self.unknown(server))
    }

    /// The wire by which a server follows the primary.
    pub fn link(&self, server: usize) -> Result<&Link> {
        self.0.links.get(server).ok_or_else(|| self.unknown(server))
    }

    /// The wires by which all replicas follow the primary.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.0.links.iter().enumerate().filter(|(server, _)| *server != self.primary()).map(|(_, link)| link)
    }

    fn unknown(&self, server: usize) -> Error {
        Error::new(format!("use server {server}"), format!("the cluster has servers 0 to {}", self.size() - 1))
    }

    /// What a reader calls a server: its role at the start.
    pub fn name(&self, server: usize) -> String {
        if server == 0 { "primary".into() } else { format!("replica {server}") }
    }

    /// Takes every fault off every wire.
    pub fn heal(&self) {
        for link in &self.0.links {
            link.heal();
        }
    }

    pub(super) fn connect(&self, server: usize, patience: Duration) -> Result<Conn> {
        self.server(server)?.connect_within(patience)
    }

    /// The position of the primary's last transaction.
    pub fn position(&self) -> Result<Position> {
        self.server(self.primary())?.position()?.parse()
    }

    /// Waits until those who follow the primary have replayed everything that it has committed by now.
    pub fn catch_up(&self, patience: Duration) -> Result<Duration> {
        let asked = Instant::now();
        let position = self.position()?;
        for replica in self.followers() {
            self.wait_for(replica, &position, patience)?;
        }
        Ok(asked.elapsed())
    }

    pub(super) fn wait_for(&self, server: usize, position: &Position, patience: Duration) -> Result<()> {
        let server = self.server(server)?;
        if position.is_start() || server.wait_for(&position.to_string(), patience)? {
            return Ok(());
        }
        let why = server.replication_error()?.unwrap_or_else(|| "it only is slow".into());
        let cause = format!("it has not replayed {position} after {:.1} s ({why})", patience.as_secs_f64());
        Err(Error::new("wait for a replica", cause).at(server.name()))
    }
}

/// Asks for one position.
pub(super) fn ask_position(connection: &mut Conn, question: &str) -> mysql::Result<String> {
    Ok(connection.query_first::<Option<String>, _>(question)?.flatten().unwrap_or_default())
}

/// The position that a server answers to this question.
pub(super) fn position_by(connection: &mut Conn, question: &str) -> Result<Position> {
    ask_position(connection, question).doing("ask a server for its position")?.parse()
}

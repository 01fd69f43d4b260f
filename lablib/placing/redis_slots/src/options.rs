//! How a client connects, how patient it is, and what it leaves out when a step is to be shown missing.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::{Client as Parsed, ConnectionAddr};

use super::client::Client;
use super::wire::Login;
use lab::service::RedisCluster;
use lab::{Error, Result};

/// A step that a client leaves out, for seeing what the step is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// The hash tag: whole keys are hashed.
    HashTag,
    /// ASKING: where ASK sends it, it goes without a word.
    Asking,
    /// Invalidations: it keeps what it has been told to throw away.
    Invalidations,
    /// The order of arrival: it keeps a value some time after it came, as one does whose invalidations come on a connection of
    /// their own.
    Order,
}

/// Where a client finds its cluster, and what it does there. Every thread connects a client of its own.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    urls: Vec<String>,
    routes: BTreeMap<String, String>,
    pub(super) patience: Duration,
    pub(super) deadline: Duration,
    pub(super) lease: Option<Duration>,
    pub(super) skip: Option<Skip>,
}

impl ClientOptions {
    /// For a cluster of the lab's, whose nodes are dialled directly whatever they announce.
    pub fn of(cluster: &RedisCluster) -> Self {
        let mut options = Self::to(cluster.urls());
        options.routes = cluster.announced();
        options
    }

    /// For the cluster that these nodes belong to, `redis://user:password@host:port/` each. One that runs is enough.
    pub fn to(urls: impl IntoIterator<Item = String>) -> Self {
        let (patience, deadline) = (Duration::from_secs(1), Duration::from_secs(10));
        let urls = urls.into_iter().collect();
        Self { urls, routes: BTreeMap::new(), patience, deadline, lease: None, skip: None }
    }

    /// How long a node may take to be connected, to go on reading, or to answer, before its connection is given up.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long a request may be redirected and tried again before it has failed. What was begun by then is finished: a look at
    /// who holds what, a connection, an answer, each within its patience.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Keeps the answers to cacheable reads until the server says that they have changed (CLIENT TRACKING). None is served
    /// more than `lease` after it was overwritten, even if the wire has died silently: a connection that has not answered
    /// for so long is asked before its values are used.
    pub fn caching(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Leaves a step out.
    pub fn without(mut self, skip: impl Into<Option<Skip>>) -> Self {
        self.skip = skip.into();
        self
    }

    /// Reaches the node that announces `announced` (`host:port`) at `dialled`.
    pub fn route(mut self, announced: &str, dialled: &str) -> Self {
        self.routes.insert(announced.to_owned(), dialled.to_owned());
        self
    }

    /// Connects to the first node that answers, and reads the map of the slots.
    pub fn connect(&self) -> Result<Client> {
        Client::connect(self.clone())
    }

    pub(super) fn dial<'a>(&'a self, announced: &'a str) -> &'a str {
        self.routes.get(announced).map_or(announced, String::as_str)
    }

    /// Who logs in, by the first URL, and the addresses of all.
    pub(super) fn login_and_seeds(&self) -> Result<(Login, Vec<String>)> {
        let fail = |cause: String| {
            Error::new("connect to the Redis cluster", cause).remedy("name its nodes as redis://:password@host:port/")
        };
        let (mut login, mut seeds) = (None, Vec::new());
        for url in &self.urls {
            let parsed = Parsed::open(url.as_str()).map_err(|error| fail(error.to_string()))?;
            let info = parsed.get_connection_info();
            let ConnectionAddr::Tcp(host, port) = info.addr() else {
                return Err(fail("it is reached over plain TCP only".into()));
            };
            seeds.push(format!("{host}:{port}"));
            let (user, password) = (info.redis_settings().username(), info.redis_settings().password());
            login.get_or_insert_with(|| [user, password].map(|word| word.map(str::to_owned)));
        }
        let login = login.map(|[user, password]| Login { user, password });
        login.map(|login| (login, seeds)).ok_or_else(|| fail("no node was named".into()))
    }
}

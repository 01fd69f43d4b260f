//! Redis: a private server, or the user's own.
//!
//! - Ready means that a client has authenticated and had an answer.
//! - The configuration is this file's: a random password, loopback only, nothing saved unless asked for.
//! - A [`durable`](Redis::durable) one has every acknowledged write on disk, so a kill loses none.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redis::{Client, Connection};

use super::node::{Launch, Node, Recipe};
use super::secret::{secret, write_private};
use super::surroundings;
use crate::{Doing, Error, Result};

/// Names the user's own server.
pub(super) const VARIABLE: &str = "LAB_REDIS_URL";
const KIND: &str = "Redis";
/// How long a client waits for an answer before it takes the server for gone.
const ANSWER: Duration = Duration::from_secs(10);

/// The pinned configuration.
const SETTINGS: &[(&str, &str)] = &[
    ("bind", "127.0.0.1"),
    ("protected-mode", "yes"),
    ("daemonize", "no"),
    ("supervised", "no"),
    ("save", "\"\""),
    ("appendonly", "no"),
    ("tcp-backlog", "511"),
    ("tcp-keepalive", "300"),
    ("timeout", "0"),
    ("databases", "16"),
    ("maxclients", "10000"),
    ("maxmemory", "0"),
    ("maxmemory-policy", "noeviction"),
    ("hz", "10"),
    ("loglevel", "notice"),
    ("logfile", "\"\""),
    ("always-show-logo", "no"),
    ("enable-debug-command", "local"),
    ("repl-diskless-sync", "yes"),
    ("repl-diskless-sync-delay", "0"),
];

/// A Redis server. Everything that [`Node`] can do can be done to it.
///
/// ```
/// use lab::service;
///
/// let redis = service::redis();
/// println!("{} at {}", redis.version(), redis.address());
/// assert_eq!(redis.ask("SET greeting hello").unwrap(), "OK");
/// assert_eq!(redis.ask("GET greeting").unwrap(), "hello");
/// ```
pub struct Redis {
    node: Node,
}

/// A Redis server to be started, with settings that differ from the lab's.
#[derive(Debug, Clone, Default)]
pub struct RedisBuilder {
    settings: Vec<(String, String)>,
    name: Option<String>,
    cluster: bool,
    password: Option<String>,
}

impl Redis {
    /// The server that `LAB_REDIS_URL` names, or else a private one.
    pub fn start() -> Result<Self> {
        match super::own_urls(VARIABLE) {
            Some(urls) => Self::own(VARIABLE, urls.first().map(String::as_str).unwrap_or_default()),
            None => RedisBuilder::default().start(),
        }
    }

    /// A private server that differs from the lab's in one setting; more can follow.
    ///
    /// ```
    /// use lab::service::Redis;
    ///
    /// let small = Redis::with("maxmemory", "10mb").with("maxmemory-policy", "allkeys-lru").start().unwrap();
    /// assert_eq!(small.ask("CONFIG GET maxmemory").unwrap(), "maxmemory 10485760");
    /// ```
    pub fn with(setting: &str, value: &str) -> RedisBuilder {
        RedisBuilder::default().with(setting, value)
    }

    /// A private server that writes every change to disk before it acknowledges it.
    pub fn durable() -> RedisBuilder {
        Self::with("appendonly", "yes").with("appendfsync", "always")
    }

    pub(super) fn own(variable: &'static str, url: &str) -> Result<Self> {
        let bad = |cause: String| {
            Error::new(format!("read {variable}"), cause).remedy("write it as redis://:password@127.0.0.1:6379/")
        };
        let client = Client::open(url).map_err(|error| bad(error.to_string()))?;
        let redis::ConnectionAddr::Tcp(host, port) = client.get_connection_info().addr().clone() else {
            return Err(bad("the lab reaches servers over plain TCP only".into()));
        };
        let serves = |patience| version_of(&client, patience);
        Node::own(KIND, variable, url, format!("{host}:{port}"), serves).map(|node| Self { node })
    }

    /// Its name and version: "Redis 7.0.15".
    pub fn version(&self) -> String {
        self.node.banner().to_owned()
    }

    /// Sends one command, its words split at spaces, and shows the answer as redis-cli would in a pipe, in one line.
    pub fn ask(&self, command: &str) -> Result<String> {
        self.command(&command.split_whitespace().collect::<Vec<_>>(), ANSWER)
    }

    pub(super) fn command(&self, words: &[&str], patience: Duration) -> Result<String> {
        let fail = |cause: String| Error::new(format!("ask {:?}", words.join(" ")), cause).at(self.name());
        let (name, arguments) = words.split_first().ok_or_else(|| fail("there is no command".into()))?;
        let client = Client::open(self.url()).map_err(|error| fail(error.to_string()))?;
        let mut connection = connect(&client, patience).map_err(&fail)?;
        let answer: redis::Value =
            redis::cmd(name).arg(arguments).query(&mut connection).map_err(|error| fail(error.to_string()))?;
        Ok(as_text(&answer))
    }
}

impl std::ops::Deref for Redis {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.version(), self.node)
    }
}

impl RedisBuilder {
    /// Sets what may stand in a redis.conf.
    pub fn with(mut self, setting: &str, value: &str) -> Self {
        self.settings.retain(|(name, _)| name != setting);
        self.settings.push((setting.to_owned(), value.to_owned()));
        self
    }

    /// What its name begins with.
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// A node of a cluster, all of whose nodes share a password.
    pub(super) fn cluster(mut self, password: &str) -> Self {
        self.cluster = true;
        self.password = Some(password.to_owned());
        self
    }

    /// Starts it: always a private server.
    pub fn start(self) -> Result<Redis> {
        let mut settings: Vec<(String, String)> =
            SETTINGS.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        for (name, value) in self.settings {
            let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
            if !name.starts_with(|first: char| first.is_ascii_alphabetic())
                || !name.chars().all(plain)
                || value.is_empty()
                || value.contains(['\n', '\r', '\0'])
            {
                return Err(Error::new(format!("start {KIND}"), format!("{name:?} {value:?} is no setting")));
            }
            settings.retain(|(other, _)| *other != name);
            settings.push((name, value));
        }
        let password = self.password.unwrap_or_else(|| secret(32));
        let recipe = RedisRecipe { server: server()?, settings, password, cluster: self.cluster };
        Node::start(recipe, &self.name.unwrap_or_else(|| "redis".into())).map(|node| Redis { node })
    }
}

fn server() -> Result<PathBuf> {
    surroundings::find_program("redis-server").ok_or_else(|| {
        Error::new(format!("start {KIND}"), "there is no redis-server on this machine").remedy(format!(
            "run `ci/lab setup` (it uses Debian's redis-tools), or set {VARIABLE} to a server of your own"
        ))
    })
}

#[derive(Debug)]
struct RedisRecipe {
    server: PathBuf,
    settings: Vec<(String, String)>,
    password: String,
    cluster: bool,
}

impl Recipe for RedisRecipe {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn ports(&self) -> usize {
        // A cluster's nodes talk among themselves on the second one.
        if self.cluster { 2 } else { 1 }
    }

    fn lay_out(&self, directory: &Path, ports: &[u16]) -> Result<Launch> {
        // Relative names throughout: the server runs in its directory.
        let mut lines = vec![format!("port {}", ports[0]), "dir ./".into()];
        lines.push(format!("requirepass {0}\nmasterauth {0}", self.password));
        if let Some(bus) = ports.get(1) {
            lines.push("cluster-enabled yes\ncluster-config-file nodes.conf\ncluster-announce-ip 127.0.0.1".into());
            lines.push(format!("cluster-port {bus}"));
        }
        lines.extend(self.settings.iter().map(|(name, value)| format!("{name} {value}")));
        write_private(&directory.join("redis.conf"), &(lines.join("\n") + "\n")).doing(format!("configure {KIND}"))?;
        Ok(Launch { program: self.server.clone(), args: vec!["redis.conf".into()] })
    }

    fn url(&self, ports: &[u16]) -> String {
        format!("redis://:{}@127.0.0.1:{}/", self.password, ports[0])
    }

    fn serves(&self, ports: &[u16], patience: Duration) -> Result<String, String> {
        let client = Client::open(self.url(ports)).map_err(|error| error.to_string())?;
        version_of(&client, patience)
    }
}

fn connect(client: &Client, patience: Duration) -> Result<Connection, String> {
    let connection = client.get_connection_with_timeout(patience).map_err(|error| error.to_string())?;
    for set in [Connection::set_read_timeout, Connection::set_write_timeout] {
        set(&connection, Some(patience)).map_err(|error| error.to_string())?;
    }
    Ok(connection)
}

/// Refused while the server still loads its data, so a version means that it serves.
fn version_of(client: &Client, patience: Duration) -> Result<String, String> {
    let mut connection = connect(client, patience)?;
    redis::cmd("PING").query::<String>(&mut connection).map_err(|error| error.to_string())?;
    let info: String = redis::cmd("INFO").arg("server").query(&mut connection).map_err(|error| error.to_string())?;
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
    version.map(|version| format!("{KIND} {}", version.trim())).ok_or_else(|| "it does not tell its version".into())
}

fn as_text(value: &redis::Value) -> String {
    use redis::Value;
    match value {
        Value::Nil => "(nil)".into(),
        Value::Int(number) => number.to_string(),
        Value::Okay => "OK".into(),
        Value::SimpleString(text) => text.clone(),
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Array(values) => values.iter().map(as_text).collect::<Vec<_>>().join(" "),
        other => format!("{other:?}"),
    }
}

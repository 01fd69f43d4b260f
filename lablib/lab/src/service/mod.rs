//! Real servers for experiments: private ones started from the programs on this machine, or yours by environment variable.
//!
//! - A server is ready when its handle exists: a client has logged in and had an answer.
//! - A server is gone when its handle is dropped, and in any case when this process is gone, however it died: a
//!   guardian process starts the servers and ends them, and the kernel ends them if the guardian is killed.
//! - Servers listen on loopback only, on free ports, with random passwords; their files are below `target/lab/`, and gone
//!   with them. Labs that run at the same time do not touch each other's.
//! - Each kind has one pinned configuration; nothing of the distribution's is read.
//! - A server that you name (`LAB_MYSQL_URL`, `LAB_REDIS_URL`, `LAB_REDIS_CLUSTER_URL`, `LAB_KAFKA_URL`) is used and left alone:
//!   killing, pausing and restarting it is refused.
//!
//! The functions here are for a notebook's cell, which fails when they do; the types' own methods return the error.

mod counters;
mod dial;
mod dialect;
mod guardian;
mod kafka;
mod kafka_wire;
mod mariadb;
mod node;
mod port;
#[doc(hidden)]
pub mod protocol;
mod redis;
mod redis_cluster;
mod redis_view;
mod replication;
mod secret;
mod surroundings;
mod template;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

pub use self::counters::Counters;
pub use self::dial::{dial, is_lost};
pub use self::dialect::{Dialect, Family};
pub use self::kafka::{Kafka, KafkaBuilder};
pub use self::mariadb::{MariaDb, MariaDbBuilder};
pub use self::node::Node;
pub use self::redis::{Redis, RedisBuilder};
pub use self::redis_cluster::{RedisCluster, RedisClusterBuilder};
pub use self::replication::{Replicated, ReplicatedBuilder};
use crate::{Error, OrFail, Result};

/// A MariaDB server, or the SQL server that `LAB_MYSQL_URL` names.
///
/// ```
/// let db = lab::service::mysql();
/// assert_eq!(db.ask("SELECT 6 * 7").unwrap(), "42");
/// ```
#[track_caller]
pub fn mysql() -> MariaDb {
    MariaDb::start().or_fail()
}

/// A private MariaDB server, whatever `LAB_MYSQL_URL` says: for an experiment that kills its server.
///
/// ```
/// let victim = lab::service::private_mysql();
/// victim.kill();
/// assert!(!victim.is_running());
/// ```
#[track_caller]
pub fn private_mysql() -> MariaDb {
    MariaDbBuilder::default().start().or_fail()
}

/// So many MariaDB servers that know nothing of each other.
///
/// ```
/// let shards = lab::service::mysql_instances(2);
/// shards[0].execute("CREATE TABLE here (id INT)");
/// assert_eq!(shards[1].ask("SELECT COUNT(*) FROM information_schema.tables WHERE table_name = 'here'").unwrap(), "0");
/// ```
#[track_caller]
pub fn mysql_instances(count: usize) -> Vec<MariaDb> {
    mariadb::instances(count).or_fail()
}

/// A MariaDB primary with replicas that have caught up with it.
///
/// ```
/// let db = lab::service::mysql_replicated(1);
/// assert_eq!(db.replicas[0].ask("SELECT @@read_only").unwrap(), "1");
/// ```
#[track_caller]
pub fn mysql_replicated(replicas: usize) -> Replicated {
    Replicated::start(replicas).or_fail()
}

/// A Redis server, or the one that `LAB_REDIS_URL` names.
///
/// ```
/// let redis = lab::service::redis();
/// assert_eq!(redis.ask("INCR visits").unwrap(), "1");
/// ```
#[track_caller]
pub fn redis() -> Redis {
    Redis::start().or_fail()
}

/// A Redis cluster of so many masters and replicas, or the one that `LAB_REDIS_CLUSTER_URL` lists.
///
/// ```
/// let cluster = lab::service::redis_cluster(3, 3);
/// assert_eq!(cluster.masters().unwrap().len(), 3);
/// ```
#[track_caller]
pub fn redis_cluster(masters: usize, replicas: usize) -> RedisCluster {
    RedisCluster::start(masters, replicas).or_fail()
}

/// A private Redis cluster, whatever `LAB_REDIS_CLUSTER_URL` says: for an experiment that kills nodes, moves slots or counts
/// every command.
///
/// ```
/// let cluster = lab::service::private_redis_cluster(3, 3);
/// cluster.replicas().unwrap()[0].kill();
/// assert_eq!(cluster.replicas().unwrap().len(), 2);
/// ```
#[track_caller]
pub fn private_redis_cluster(masters: usize, replicas: usize) -> RedisCluster {
    RedisCluster::of(masters, replicas).start().or_fail()
}

/// A Kafka broker, or the one that `LAB_KAFKA_URL` names.
///
/// ```no_run
/// let kafka = lab::service::kafka();
/// println!("{} at {}", kafka.version(), kafka.url());
/// ```
#[track_caller]
pub fn kafka() -> Kafka {
    Kafka::start().or_fail()
}

/// The kinds of servers that there are, as a notebook names those that it starts in its metadata.
pub const KINDS: [&str; 3] = ["kafka", "mariadb", "redis"];

/// Makes what the first start of a kind on this machine would otherwise have to wait for; set-up calls it.
pub fn prepare(kind: &str) -> Result<()> {
    match kind {
        "mariadb" => mariadb::prepare(),
        "kafka" => kafka::prepare(),
        "redis" => Ok(()),
        _ => Err(Error::new("prepare a server", format!("there is no {kind:?}")).remedy(KINDS.join(", "))),
    }
}

static USED: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());

fn use_of(kind: &str) {
    let known = KINDS.into_iter().find(|known| kind.eq_ignore_ascii_case(known));
    // Your own SQL server stands where MariaDB would.
    USED.lock().unwrap_or_else(PoisonError::into_inner).insert(known.unwrap_or("mariadb"));
}

/// The [kinds](KINDS) of servers that this process has used, its own and yours.
pub fn used() -> Vec<String> {
    USED.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|kind| (*kind).to_owned()).collect()
}

/// This process's directory for everything that runs: below `target/lab/`, removed when the process is gone, however it died.
pub fn run_directory() -> Result<PathBuf> {
    guardian::Guardian::current().map(|guardian| guardian.run().to_path_buf())
}

/// The `lab` program, for experiments that start a process of their own with one of its subcommands.
pub fn lab_program() -> Result<PathBuf> {
    surroundings::lab_binary()
}

/// The process that watches over this one's servers.
pub fn guardian_pid() -> Result<u32> {
    guardian::Guardian::current().map(|guardian| guardian.pid())
}

/// The servers that the user named in a variable, if it is set to anything.
pub fn own_urls(variable: &str) -> Option<Vec<String>> {
    let value = std::env::var(variable).ok().filter(|value| !value.trim().is_empty())?;
    Some(value.split(',').map(|url| url.trim().to_owned()).filter(|url| !url.is_empty()).collect())
}

/// Asks each server that the user named for an answer: what a run could not use is better said before it starts.
pub fn own_servers_answer() -> Result<()> {
    let named = |variable| own_urls(variable).is_some();
    if named(mariadb::VARIABLE) {
        MariaDb::start()?;
    }
    if named(redis::VARIABLE) {
        Redis::start()?;
    }
    if named(redis_cluster::VARIABLE) {
        RedisCluster::start(1, 0)?;
    }
    if named(kafka::VARIABLE) {
        Kafka::start()?;
    }
    Ok(())
}

//! Copies: a key on several nodes of the ring, so that one of them can die.
//!
//! - A write is acknowledged when a majority of its key's copies is written, and is found by every read from then on, as long
//!   as a minority of them is dead.
//! - A read answers "there is none" only when so many copies say so that no acknowledged write can be among the others.
//! - [`Store::remove`] takes a dead node off the ring and makes the copies that went with it, while reads and writes go on.
//!
//! A key is written once: telling an old value from a new one takes versions, which this store does not keep.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use redis::Connection;

use super::{Placement, Ring};
use lab::service::Redis;
use lab::{Doing, Error, Result};

/// How long a node may take to answer before it counts as dead.
const PATIENCE: Duration = Duration::from_secs(5);

/// A store over Redis servers that know nothing of each other: the ring and its clients do the replication.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    urls: BTreeMap<String, String>,
    copies: usize,
    /// Held for reading during an operation, so that a change of the ring waits for those under the old one.
    ring: RwLock<Ring>,
}

/// One client of a [`Store`], with connections of its own.
pub struct Client {
    shared: Arc<Shared>,
    connections: HashMap<String, Connection>,
}

/// What taking a dead node off the ring cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repair {
    /// Keys that the other nodes hold.
    pub keys: u64,
    /// Copies that were made.
    pub copied: u64,
}

impl Store {
    /// A store on these servers, each key on `copies` of them.
    pub fn new(servers: &[Redis], copies: usize, virtual_nodes: u32) -> Result<Self> {
        let ring = Ring::new(servers.iter().map(|server| server.name()), virtual_nodes)?;
        if copies == 0 || copies > servers.len() {
            let cause = format!("{copies} copies cannot lie on {} different nodes", servers.len());
            return Err(Error::new("open the store", cause).remedy("take from 1 copy to as many as there are nodes"));
        }
        let urls = servers.iter().map(|server| (server.name().to_string(), server.url().to_string())).collect();
        Ok(Self { shared: Arc::new(Shared { urls, copies, ring: RwLock::new(ring) }) })
    }

    /// Another client.
    pub fn client(&self) -> Client {
        Client { shared: Arc::clone(&self.shared), connections: HashMap::new() }
    }

    /// The ring as it is now.
    pub fn ring(&self) -> Result<Ring> {
        self.shared.with_ring(|ring| Ok(ring.clone()))
    }

    /// Takes a dead node off the ring, then brings every key to its full number of copies. Where that second step fails, because
    /// another node cannot be reached, the node is off the ring all the same: [`repair`](Self::repair) goes on from there.
    pub fn remove(&self, node: &str) -> Result<Repair> {
        self.shared.ring.write().doing("change the ring")?.remove(node)?;
        self.repair()
    }

    /// Brings every key to its full number of copies; what is there already is left alone, so it can be repeated.
    pub fn repair(&self) -> Result<Repair> {
        self.client().repair()
    }
}

impl Shared {
    fn with_ring<T>(&self, work: impl FnOnce(&Ring) -> Result<T>) -> Result<T> {
        work(&*self.ring.read().doing("read the ring")?)
    }
}

impl Client {
    /// Writes to every copy; the nodes that have it, a majority of the key's set at least.
    pub fn put(&mut self, key: &str, value: &str) -> Result<Vec<String>> {
        if key.is_empty() {
            return Err(Error::new("write", "the key is empty"));
        }
        let shared = Arc::clone(&self.shared);
        shared.with_ring(|ring| {
            let mut written = Vec::with_capacity(shared.copies);
            let mut failure = None;
            for node in ring.replicas(key, shared.copies) {
                match self.ask::<()>(node, redis::cmd("SET").arg(key).arg(value)) {
                    Ok(()) => written.push(node.to_string()),
                    Err(error) => failure = Some(error),
                }
            }
            if written.len() >= majority(shared.copies) {
                return Ok(written);
            }
            let few =
                || Error::new("write", format!("there are nodes for {} of {} copies", written.len(), shared.copies));
            Err(failure.unwrap_or_else(few))
        })
    }

    /// The key's value, from the first copy that has it.
    pub fn get(&mut self, key: &str) -> Result<Option<String>> {
        let shared = Arc::clone(&self.shared);
        shared.with_ring(|ring| {
            let mut without = 0;
            let mut failure = None;
            for node in ring.replicas(key, shared.copies) {
                match self.ask::<Option<String>>(node, redis::cmd("GET").arg(key)) {
                    Ok(Some(value)) => return Ok(Some(value)),
                    Ok(None) => without += 1,
                    Err(error) => failure = Some(error),
                }
            }
            match failure {
                Some(error) if without + majority(shared.copies) <= shared.copies => Err(error),
                _ => Ok(None),
            }
        })
    }

    /// How many nodes of the key's set have it.
    pub fn copies_of(&mut self, key: &str) -> Result<usize> {
        let shared = Arc::clone(&self.shared);
        shared.with_ring(|ring| {
            let mut copies = 0;
            for node in ring.replicas(key, shared.copies) {
                copies += self.ask::<usize>(node, redis::cmd("EXISTS").arg(key))?;
            }
            Ok(copies)
        })
    }

    fn repair(&mut self) -> Result<Repair> {
        let shared = Arc::clone(&self.shared);
        // One look at the ring, not a hold on it: it has changed already, and writes under the new one are complete.
        let ring = shared.with_ring(|ring| Ok(ring.clone()))?;
        let mut keys = BTreeSet::new();
        let mut repair = Repair { keys: 0, copied: 0 };
        for node in ring.nodes() {
            for key in self.keys_on(node)? {
                if !keys.insert(key.clone()) {
                    continue;
                }
                let value: String = self.ask(node, redis::cmd("GET").arg(&key))?;
                for holder in ring.replicas(&key, shared.copies).into_iter().filter(|holder| *holder != node) {
                    let new: bool = self.ask(holder, redis::cmd("SETNX").arg(&key).arg(&value))?;
                    repair.copied += u64::from(new);
                }
            }
        }
        repair.keys = keys.len() as u64;
        Ok(repair)
    }

    fn keys_on(&mut self, node: &str) -> Result<Vec<String>> {
        let (mut all, mut cursor) = (Vec::new(), 0_u64);
        loop {
            let scan = redis::cmd("SCAN").arg(cursor).arg("COUNT").arg(1_000).clone();
            let (next, keys): (u64, Vec<String>) = self.ask(node, &scan)?;
            all.extend(keys);
            cursor = next;
            if cursor == 0 {
                return Ok(all);
            }
        }
    }

    fn ask<T: redis::FromRedisValue>(&mut self, node: &str, command: &redis::Cmd) -> Result<T> {
        let doing = || format!("reach a copy on {node}");
        if !self.connections.contains_key(node) {
            let url = self.shared.urls.get(node).ok_or_else(|| Error::new(doing(), "there is no such node"))?;
            let client = redis::Client::open(url.as_str()).doing(doing())?;
            let connection = client.get_connection_with_timeout(PATIENCE).doing(doing())?;
            connection.set_read_timeout(Some(PATIENCE)).doing(doing())?;
            connection.set_write_timeout(Some(PATIENCE)).doing(doing())?;
            self.connections.insert(node.to_string(), connection);
        }
        let connection = self.connections.get_mut(node).ok_or_else(|| Error::new(doing(), "there is no connection"))?;
        let answer = command.query(connection);
        if answer.is_err() {
            // What is left in it belongs to a question that nobody waits for any more.
            self.connections.remove(node);
        }
        answer.doing(doing())
    }
}

fn majority(copies: usize) -> usize {
    copies / 2 + 1
}

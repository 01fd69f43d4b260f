//! A Redis cluster: masters that share 16,384 slots, and replicas that take over when a master dies.
//!
//! - Ready means that every node sees the cluster whole, knows every other node in its role, and that every replica's
//!   link to its master is up.
//! - Roles are looked up when asked for, because a failover changes them.
//! - A dead master is noticed after a second and a half, where Redis by default takes fifteen.
//! - The wire between a master and its replicas can be a [`Link`], which its clients do not pass.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::node::TO_START;
use super::redis::{Redis, RedisBuilder};
use super::redis_view::{ANSWER, Member, SLOTS, View};
use super::secret::secret;
use crate::{Crowd, Error, Link, OrFail, Result};

/// Lists the nodes of the user's own cluster, with commas between them.
pub(super) const VARIABLE: &str = "LAB_REDIS_CLUSTER_URL";
/// How long a cluster may take to agree on something on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const SETTINGS: &[(&str, &str)] = &[
    ("cluster-node-timeout", "1500"),
    ("cluster-require-full-coverage", "yes"),
    ("cluster-allow-replica-migration", "no"),
    ("cluster-replica-validity-factor", "10"),
];

/// A Redis cluster, each of whose nodes can be killed, paused and restarted by itself.
///
/// ```
/// use lab::service;
///
/// let cluster = service::redis_cluster(3, 3);
/// let master = cluster.master_for("user:7").unwrap();
/// master.kill();
/// cluster.settle();
/// assert_ne!(cluster.master_for("user:7").unwrap().name(), master.name());
/// ```
pub struct RedisCluster {
    nodes: Vec<Redis>,
    ready_in: Duration,
    /// Addresses that nodes announce, where these are not their own.
    routes: Mutex<BTreeMap<String, String>>,
}

/// A cluster to be started, with settings that differ from the lab's.
#[derive(Debug, Clone)]
pub struct RedisClusterBuilder {
    masters: usize,
    replicas: usize,
    settings: Vec<(String, String)>,
}

impl RedisCluster {
    /// The cluster that `LAB_REDIS_CLUSTER_URL` lists, or else a private one; replicas are dealt out to the masters in turn.
    pub fn start(masters: usize, replicas: usize) -> Result<Self> {
        match super::own_urls(VARIABLE) {
            Some(urls) => Self::own(&urls, masters, replicas),
            None => Self::of(masters, replicas).start(),
        }
    }

    /// A private cluster that is still to be configured.
    pub fn of(masters: usize, replicas: usize) -> RedisClusterBuilder {
        RedisClusterBuilder { masters, replicas, settings: Vec::new() }
    }

    fn own(urls: &[String], masters: usize, replicas: usize) -> Result<Self> {
        let asked = Instant::now();
        let nodes = urls.iter().map(|url| Redis::own(VARIABLE, url)).collect::<Result<Vec<_>>>()?;
        let cluster = Self { nodes, ready_in: Duration::ZERO, routes: Mutex::default() };
        let (has_masters, has_replicas) = (cluster.masters()?.len(), cluster.replicas()?.len());
        if has_masters < masters || has_replicas < replicas {
            let cause =
                format!("it lists {has_masters} masters and {has_replicas} replicas, not {masters} and {replicas}");
            let remedy = "list every node by the address that CLUSTER NODES shows, with commas between them";
            return Err(Error::new(format!("use {VARIABLE}"), cause).remedy(remedy));
        }
        Ok(Self { ready_in: asked.elapsed(), ..cluster })
    }

    /// Its version: "Redis 7.0.15".
    pub fn version(&self) -> String {
        self.nodes.first().map(Redis::version).unwrap_or_default()
    }

    /// Every node, whatever its role and state.
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// What a cluster client starts from: all nodes' URLs.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.url().to_owned()).collect()
    }

    /// Where a client finds a node that announces another address than its own: announced to real.
    pub fn announced(&self) -> BTreeMap<String, String> {
        self.routes().clone()
    }

    fn routes(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a link between a master and its replicas: from now on they reach it through the link alone.
    ///
    /// The master announces the link's port instead of its own. The nodes' gossip goes on directly, and so do clients that
    /// heed [`announced`](Self::announced). A restart of the master undoes it.
    ///
    /// ```
    /// use lab::service;
    ///
    /// let cluster = service::private_redis_cluster(3, 3);
    /// let wire = cluster.replicate_through_link(cluster.masters().unwrap()[0]).unwrap();
    /// wire.delay(std::time::Duration::from_millis(5));
    /// assert_eq!(cluster.masters().unwrap().len(), 3);
    /// ```
    pub fn replicate_through_link(&self, master: &Redis) -> Result<Link> {
        let operation = "put a link between a master and its replicas";
        if !master.is_private() {
            let cause = "this is your own server, which the lab leaves alone";
            return Err(Error::new(operation, cause).at(master.address()));
        }
        if !self.masters()?.iter().any(|one| one.address() == master.address()) {
            return Err(Error::new(operation, "it is no master of this cluster").at(master.name()));
        }
        let link = Link::to(master.address())?;
        self.routes().insert(link.address().to_owned(), master.address().to_owned());
        self.announce(master, link.address(), link.port())?;
        Ok(link)
    }

    /// Takes a link away again: the replicas follow their master directly before it is closed.
    pub fn replicate_directly(&self, link: Link) -> Result<()> {
        let master = self.routes().get(link.address()).cloned();
        let Some(master) = self.nodes.iter().find(|node| Some(node.address()) == master.as_deref()) else {
            return Err(Error::new("take a link away", "it is none of this cluster's").at(link.address()));
        };
        self.announce(master, master.address(), master.port())?;
        self.routes().remove(link.address());
        Ok(())
    }

    /// Lets a node announce an address, and waits until everybody has heard of it and its replicas follow it there.
    fn announce(&self, node: &Redis, address: &str, port: u16) -> Result<()> {
        node.command(&["CONFIG", "SET", "cluster-announce-port", &port.to_string()], ANSWER)?;
        let id = node.command(&["CLUSTER", "MYID"], ANSWER)?;
        // A node sends everybody a ping, with its address in it, twice in its timeout: the news need not take a second.
        let timeout = |value: &str| node.command(&["CONFIG", "SET", "cluster-node-timeout", value], ANSWER);
        let usual = node.command(&["CONFIG", "GET", "cluster-node-timeout"], ANSWER)?;
        timeout("200")?;
        let heard = self.until(&format!("everybody knows {} as {address}", node.name()), || {
            self.every(|other| {
                if !other.is_running() || other.is_paused() {
                    return Ok(None);
                }
                let view = other.command(&["CLUSTER", "NODES"], ANSWER)?;
                if !view.contains(&format!("{id} {address}@")) {
                    return Ok(Some(format!("{} knows another address", other.name())));
                }
                if view.lines().any(|line| line.contains("myself,slave") && line.contains(&id)) {
                    let replication = other.command(&["INFO", "replication"], ANSWER)?;
                    if !replication.contains(&format!("master_port:{port}\r\n")) {
                        return Ok(Some(format!("{} follows another address", other.name())));
                    }
                }
                not_serving(other)
            })
        });
        timeout(usual.split_whitespace().last().unwrap_or(&usual))?;
        heard.map(drop)
    }

    /// How long it took from the request until it was whole.
    pub fn ready_in(&self) -> Duration {
        self.ready_in
    }

    /// The nodes that are masters at this moment and alive, in the order of their slots.
    pub fn masters(&self) -> Result<Vec<&Redis>> {
        let view = self.view()?;
        let mut masters: Vec<&Member> = view.0.iter().filter(|member| member.is_serving_master()).collect();
        masters.sort_by_key(|member| member.slots.first().copied());
        Ok(self.these(masters))
    }

    /// The nodes that are replicas at this moment and alive.
    pub fn replicas(&self) -> Result<Vec<&Redis>> {
        let view = self.view()?;
        Ok(self.these(view.0.iter().filter(|member| !member.failed && !member.master)))
    }

    /// The master that holds the key's slot at this moment.
    pub fn master_for(&self, key: &str) -> Result<&Redis> {
        let fail = |cause: &str| Error::new("find the key's master", cause).at(key);
        let slot = self.ask_any(&["CLUSTER", "KEYSLOT", key])?;
        let slot: u16 = slot.parse().map_err(|_| fail(&format!("its slot is {slot:?}")))?;
        let view = self.view()?;
        let owner = view.0.iter().filter(|member| member.master && member.holds(slot));
        self.these(owner).into_iter().next().ok_or_else(|| fail("nobody holds its slot"))
    }

    /// Waits until living masters serve every slot, living replicas follow their masters, and all living nodes agree about
    /// who is what; says how long that took.
    #[track_caller]
    pub fn settle(&self) -> Duration {
        self.try_settle().or_fail()
    }

    /// As [`settle`](Self::settle).
    pub fn try_settle(&self) -> Result<Duration> {
        self.until("living masters serve every slot", || {
            let living: Vec<&Redis> = self.nodes.iter().filter(|node| node.is_running() && !node.is_paused()).collect();
            let mut agreed = None;
            for node in &living {
                if let Some(missing) = not_serving(node)? {
                    return Ok(Some(missing));
                }
                let view = self.seen_by(node)?;
                let sees =
                    |other: &&&Redis| view.0.iter().any(|member| member.address == other.address() && member.is_well());
                if living.iter().filter(sees).count() < living.len() {
                    return Ok(Some(format!("{} does not see every living node", node.name())));
                }
                let mut members = view.0;
                members.retain(|member| living.iter().any(|node| node.address() == member.address));
                let served: usize = members.iter().filter(|member| member.master).map(Member::slot_count).sum();
                if served < SLOTS {
                    return Ok(Some(format!("{} sees {served} of {SLOTS} slots served", node.name())));
                }
                let mut roles: Vec<_> =
                    members.into_iter().map(|member| (member.address, member.master, member.slots)).collect();
                roles.sort();
                if *agreed.get_or_insert_with(|| roles.clone()) != roles {
                    return Ok(Some(format!("{} sees other roles than the rest", node.name())));
                }
            }
            Ok(None)
        })
    }

    /// Asks until `what` holds: `missing` says what is missing, or nothing when it does.
    fn until(&self, what: &str, missing: impl Fn() -> Result<Option<String>>) -> Result<Duration> {
        let asked = Instant::now();
        loop {
            // A node that does not answer now may be one that is just being killed, or that loads its data.
            match missing().unwrap_or_else(|error| Some(error.to_string())) {
                None => return Ok(asked.elapsed()),
                Some(missing) if asked.elapsed() > PATIENCE => {
                    return Err(Error::new(format!("wait until {what} in the Redis cluster"), missing));
                }
                Some(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn view(&self) -> Result<View> {
        self.any(|node| self.seen_by(node))
    }

    /// A node's view, with every node's own address in it, whatever it announces.
    fn seen_by(&self, node: &Redis) -> Result<View> {
        let announced = self.announced();
        let mut view = View::of(node)?;
        for member in &mut view.0 {
            if let Some(real) = announced.get(&member.address) {
                member.address.clone_from(real);
            }
        }
        Ok(view)
    }

    fn ask_any(&self, words: &[&str]) -> Result<String> {
        self.any(|node| node.command(words, ANSWER))
    }

    /// The answer of the first node that gives one.
    fn any<T>(&self, ask: impl Fn(&Redis) -> Result<T>) -> Result<T> {
        let mut last = Error::new("ask the Redis cluster", "none of its nodes runs");
        for node in self.nodes.iter().filter(|node| node.is_running() && !node.is_paused()) {
            match ask(node) {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Our nodes for those of a view; what is dead without the cluster's having noticed is left out.
    fn these<'a>(&self, members: impl IntoIterator<Item = &'a Member>) -> Vec<&Redis> {
        let ours = |member: &Member| self.nodes.iter().find(|node| node.address() == member.address);
        members.into_iter().filter_map(ours).filter(|node| node.is_running()).collect()
    }
}

impl fmt::Debug for RedisCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cluster, ready in {:.2} s", self.version(), self.ready_in.as_secs_f64())?;
        self.nodes.iter().try_for_each(|node| write!(f, "\n  {} on {}", node.name(), node.address()))
    }
}

impl RedisClusterBuilder {
    /// Sets what may stand in a redis.conf, on every node.
    pub fn with(mut self, setting: &str, value: &str) -> Self {
        self.settings.push((setting.to_owned(), value.to_owned()));
        self
    }

    /// Starts it: always private servers.
    pub fn start(self) -> Result<RedisCluster> {
        let asked = Instant::now();
        if self.masters < 3 {
            let cause = format!("{} masters cannot agree that one of them is dead", self.masters);
            return Err(Error::new("start a Redis cluster", cause).remedy("ask for at least 3"));
        }
        let password = secret(32);
        let mut builder = RedisBuilder::default().named("redis-node").cluster(&password);
        let defaults = SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        for (name, value) in defaults.chain(self.settings) {
            builder = builder.with(&name, &value);
        }
        let count = self.masters + self.replicas;
        let nodes = Crowd::of(count).within(TO_START).map(0..count, |_| builder.clone().start())?;
        let mut cluster = RedisCluster { nodes, ready_in: Duration::ZERO, routes: Mutex::default() };
        cluster.join(self.masters)?;
        cluster.ready_in = asked.elapsed();
        Ok(cluster)
    }
}

impl RedisCluster {
    /// Makes one cluster of nodes that know nothing of each other: the first `masters` of them share the slots.
    fn join(&self, masters: usize) -> Result<()> {
        let count = self.nodes.len();
        self.each(|number, node| {
            // Different from the start, so that they need not be negotiated.
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()], ANSWER)?;
            if number < masters {
                let (from, to) = (number * SLOTS / masters, (number + 1) * SLOTS / masters - 1);
                node.command(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()], ANSWER)?;
            }
            Ok(())
        })?;
        // Everybody meets everybody: gossip alone would take seconds to introduce them.
        self.each(|number, node| {
            for other in &self.nodes[number + 1..] {
                let (port, bus) = (other.port().to_string(), bus_port(other)?);
                node.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus], ANSWER)?;
            }
            Ok(())
        })?;
        self.until("every node knows every other", || {
            self.every(|node| {
                let known = View::of(node)?.0.iter().filter(|member| member.is_well()).count();
                Ok((known < count).then(|| format!("{} knows {known} of {count}", node.name())))
            })
        })?;
        self.each(|number, node| match number.checked_sub(masters) {
            None => Ok(()),
            Some(replica) => {
                let id = self.nodes[replica % masters].command(&["CLUSTER", "MYID"], ANSWER)?;
                node.command(&["CLUSTER", "REPLICATE", &id], ANSWER).map(drop)
            }
        })?;
        self.until("every node serves", || {
            self.every(|node| {
                let view = View::of(node)?;
                let replicas = view.0.iter().filter(|member| !member.master).count();
                if replicas != count - masters {
                    return Ok(Some(format!("{} knows {replicas} replicas", node.name())));
                }
                not_serving(node)
            })
        })?;
        Ok(())
    }

    fn each(&self, act: impl Fn(usize, &Redis) -> Result<()> + Sync) -> Result<()> {
        Crowd::of(self.nodes.len()).map(self.nodes.iter().enumerate(), |(number, node)| act(number, node)).map(drop)
    }

    fn every(&self, missing: impl Fn(&Redis) -> Result<Option<String>>) -> Result<Option<String>> {
        for node in &self.nodes {
            if let Some(missing) = missing(node)? {
                return Ok(Some(missing));
            }
        }
        Ok(None)
    }
}

/// Why a node by itself does not do its part yet.
fn not_serving(node: &Redis) -> Result<Option<String>> {
    if !node.command(&["CLUSTER", "INFO"], ANSWER)?.contains("cluster_state:ok") {
        return Ok(Some(format!("{} sees the cluster down", node.name())));
    }
    let replication = node.command(&["INFO", "replication"], ANSWER)?;
    let linked = replication.contains("role:master") || replication.contains("master_link_status:up");
    Ok((!linked).then(|| format!("{} has no link to its master yet", node.name())))
}

fn bus_port(node: &Redis) -> Result<String> {
    let view = node.command(&["CLUSTER", "NODES"], ANSWER)?;
    let bus = view.lines().find(|line| line.contains("myself")).and_then(|line| line.split_whitespace().nth(1));
    let bus = bus.and_then(|address| address.split(['@', ',']).nth(1));
    bus.map(str::to_owned).ok_or_else(|| Error::new("read a node's bus port", view.clone()).at(node.name()))
}

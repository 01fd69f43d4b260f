//! The instances, their tables, and a look at all of them from outside.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, Opts, OptsBuilder};
use serde::{Deserialize, Serialize};

use super::directory;
use super::fence::State;
use super::route::{Slot, SlotMap, Weight, check, slot_of};
use lab::service::{MariaDb, dial};
use lab::{Crowd, Doing, Error, Result};

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct User {
    /// Any number, 0 included: no database makes it up.
    pub id: u64,
    /// A name.
    pub name: String,
    /// What lists are ordered by.
    pub score: i64,
    /// How often it has been written since it was created: a write that is done twice shows here.
    pub visits: u64,
}

/// A user's row: slot, id, name, score, visits.
pub(crate) type Row = (Slot, u64, String, i64, u64);

impl User {
    /// A user as it is before it has been written.
    pub fn new(id: u64, name: impl Into<String>, score: i64) -> Self {
        Self { id, name: name.into(), score, visits: 1 }
    }
}

/// A SQL server that holds shards.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// What the directory calls it.
    pub name: String,
    url: String,
}

// The URL holds a password.
impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// How to reach every instance and the directory, which is a table on the first of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    instances: Vec<Instance>,
    database: String,
    slots: Slot,
}

/// How long a client waits for a statement's answer before it takes the instance for gone.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a statement waits for somebody else's lock before it gives up and is tried again, in seconds.
const LOCK_WAIT: u64 = 2;
/// How long a transaction may be silent before the server ends it, in seconds: who is cut off in the middle of one shall not
/// hold a fence, or the directory, until TCP finds out.
const SILENCE: u64 = 15;
/// Rows of one INSERT when many are loaded.
const ROWS_AT_ONCE: usize = 1_000;

const TABLES: [&str; 3] = [
    // The slot comes first: its rows lie together, to be copied, compared and removed as one run.
    "CREATE TABLE users (slot SMALLINT UNSIGNED NOT NULL, id BIGINT UNSIGNED NOT NULL, name VARCHAR(100) NOT NULL, \
     score BIGINT NOT NULL, visits BIGINT UNSIGNED NOT NULL, PRIMARY KEY (slot, id), KEY by_score (score, id))",
    // A row for every slot, also for those that are elsewhere: what is there can be locked without locking a gap.
    "CREATE TABLE fences (slot SMALLINT UNSIGNED PRIMARY KEY, state TINYINT UNSIGNED NOT NULL, \
     epoch BIGINT UNSIGNED NOT NULL, token BIGINT UNSIGNED NOT NULL, next_owner VARCHAR(64) NULL)",
    "CREATE TABLE changes (seq BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, slot SMALLINT UNSIGNED NOT NULL, \
     id BIGINT UNSIGNED NOT NULL, KEY by_slot (slot))",
];

impl Cluster {
    /// Lays out tables on all `servers`, called A, B, C and so on, and gives all slots to the first `owners` of them.
    pub fn create(servers: &[MariaDb], owners: usize, slots: Slot) -> Result<Self> {
        if servers.len() > 26 {
            let cause = format!("{} servers are more than there are letters", servers.len());
            return Err(Error::new("make a cluster", cause).remedy("name them yourself"));
        }
        let instances = (b'A'..=b'Z').zip(servers);
        let instances = instances.map(|(letter, server)| (char::from(letter).to_string(), server.url().to_string()));
        Self::over(instances.collect(), owners, slots)
    }

    /// As [`create`](Self::create), over servers by name and URL.
    pub fn over(servers: Vec<(String, String)>, owners: usize, slots: Slot) -> Result<Self> {
        let plain = |name: &str| {
            name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        if let Some((name, _)) = servers.iter().find(|(name, _)| !plain(name)) {
            let error = Error::new("make a cluster", format!("{name:?} is no name for an instance"));
            return Err(error.remedy("use letters, digits, - and _, 64 at most"));
        }
        let all = Weight::equal(servers.iter().map(|(name, _)| name));
        check(&all)?;
        let map = SlotMap::level(slots, &all[..owners.min(all.len())])?;
        let instances = servers.into_iter().map(|(name, url)| Instance { name, url }).collect();
        // Servers are shared between experiments, databases are not.
        let cluster = Self { instances, database: format!("sharding_{:x}", rand::random::<u64>()), slots };
        for instance in &cluster.instances {
            cluster.lay_out(instance, &map).map_err(|error| error.at(&instance.name))?;
        }
        directory::lay_out(&mut cluster.directory()?, &map)?;
        Ok(cluster)
    }

    fn lay_out(&self, instance: &Instance, map: &SlotMap) -> Result<()> {
        let doing = "lay out a shard's tables";
        let mut connection = open(&instance.url, None)?;
        connection.query_drop(format!("CREATE DATABASE {0}", self.database)).doing(doing)?;
        connection.query_drop(format!("USE {}", self.database)).doing(doing)?;
        TABLES.iter().try_for_each(|table| connection.query_drop(table)).doing(doing)?;
        let fence = |(slot, owner): (usize, &super::route::Owner)| {
            let (state, epoch) =
                if owner.name == instance.name { (State::Serving, owner.epoch) } else { (State::Absent, 0) };
            format!("({slot},{},{epoch},0)", state as u8)
        };
        let rows: Vec<String> = map.owners.iter().enumerate().map(fence).collect();
        let insert = format!("INSERT INTO fences (slot, state, epoch, token) VALUES {}", rows.join(","));
        connection.query_drop(insert).doing(doing)
    }

    /// The instances' names.
    pub fn names(&self) -> Vec<&str> {
        self.instances.iter().map(|instance| instance.name.as_str()).collect()
    }

    /// How many slots there are.
    pub fn slots(&self) -> Slot {
        self.slots
    }

    /// The slot of a user.
    pub fn slot_of(&self, user: u64) -> Slot {
        slot_of(user, self.slots)
    }

    /// The same cluster, with one instance reached at another address: through a link in front of it.
    pub fn through(&self, name: &str, real: &str, address: &str) -> Result<Self> {
        let mut cluster = self.clone();
        let instance = cluster.instances.iter_mut().find(|instance| instance.name == name);
        let instance = instance.ok_or_else(|| self.unknown(name))?;
        instance.url = instance.url.replacen(real, address, 1);
        Ok(cluster)
    }

    fn unknown(&self, name: &str) -> Error {
        Error::new(format!("reach {name:?}"), format!("the instances are {}", self.names().join(", ")))
    }

    /// A new connection to an instance.
    pub(crate) fn connect(&self, name: &str) -> Result<Conn> {
        let instance = self.instances.iter().find(|instance| instance.name == name);
        let instance = instance.ok_or_else(|| self.unknown(name))?;
        open(&instance.url, Some(&self.database)).map_err(|error| error.at(name))
    }

    /// A new connection to the directory.
    pub(crate) fn directory(&self) -> Result<Conn> {
        let first = self.instances.first().ok_or_else(|| self.unknown("the directory"))?;
        open(&first.url, Some(&self.database)).map_err(|error| error.at("the directory"))
    }

    /// The directory's map as it is now.
    pub fn map(&self) -> Result<SlotMap> {
        directory::map(&mut self.directory()?)
    }

    /// Puts users where the map says, many at a time; for the start of an experiment, before there are clients.
    pub fn load(&self, users: &[User]) -> Result<()> {
        let map = self.map()?;
        let mut by_owner: BTreeMap<&str, Vec<&User>> = BTreeMap::new();
        for user in users {
            by_owner.entry(map.owner_of(user.id)).or_default().push(user);
        }
        let owners = by_owner.len().max(1);
        let loading = Crowd::of(owners).within(Duration::from_secs(3_600));
        loading.map(by_owner, |(name, users)| self.load_one(name, &users)).map(drop)
    }

    fn load_one(&self, name: &str, users: &[&User]) -> Result<()> {
        let mut connection = self.connect(name)?;
        for chunk in users.chunks(ROWS_AT_ONCE) {
            let row = |user: &&User| (self.slot_of(user.id), user.id, user.name.clone(), user.score, user.visits);
            let rows: Vec<Row> = chunk.iter().map(row).collect();
            put_rows(&mut connection, &rows).doing("load users").map_err(|error| error.at(name))?;
        }
        Ok(())
    }

    /// Looks at every row of every instance, from outside: for checks while nobody works.
    pub fn audit(&self) -> Result<Audit> {
        let doing = "look at all rows";
        let mut audit = Audit { slots: self.slots, ..Audit::default() };
        for instance in &self.instances {
            let mut connection = self.connect(&instance.name)?;
            let state = |(slot, state): (Slot, u8)| (slot, State::from(state));
            let states: BTreeMap<Slot, State> =
                connection.query_map("SELECT slot, state FROM fences", state).doing(doing)?.into_iter().collect();
            for (&slot, _) in states.iter().filter(|(_, state)| state.serves()) {
                audit.owners.entry(slot).or_default().push(instance.name.clone());
            }
            let rows: Vec<Row> = connection.query("SELECT slot, id, name, score, visits FROM users").doing(doing)?;
            for (slot, id, name, score, visits) in rows {
                match states.get(&slot).copied().unwrap_or(State::Absent) {
                    State::Serving | State::Captured => {
                        let user = User { id, name, score, visits };
                        audit.rows.entry(id).or_default().push((instance.name.clone(), user));
                    }
                    State::Absent => audit.strays += 1,
                    State::Incoming | State::Released => audit.hidden += 1,
                }
            }
            let left: Option<u64> = connection.query_first("SELECT COUNT(*) FROM changes").doing(doing)?;
            audit.changes_left += left.unwrap_or(0);
        }
        Ok(audit)
    }
}

/// What lies on the instances while nobody works.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    slots: Slot,
    /// The instances that serve each slot.
    pub owners: BTreeMap<Slot, Vec<String>>,
    /// The rows that a client could read, by user, with where they lie.
    pub rows: BTreeMap<u64, Vec<(String, User)>>,
    /// Rows of a copy that nobody can see: on their way, or about to be removed.
    pub hidden: u64,
    /// Rows on an instance that knows nothing of their slot; there must be none.
    pub strays: u64,
    /// Entries of the change logs that nobody has cleaned away.
    pub changes_left: u64,
}

impl Audit {
    /// Slots that two instances serve, or more.
    pub fn contested(&self) -> u64 {
        self.owners.values().filter(|owners| owners.len() > 1).count() as u64
    }

    /// Slots that nobody serves.
    pub fn unserved(&self) -> u64 {
        u64::from(self.slots) - self.owners.len() as u64
    }

    /// Users that lie on two serving instances, or more.
    pub fn doubled(&self) -> u64 {
        self.rows.values().filter(|rows| rows.len() > 1).count() as u64
    }
}

/// Opens a connection as all of this system's connections are: with patience, over TCP, and with the isolation that it counts
/// on (the statements of one list see one snapshot), whatever the server's default is.
fn open(url: &str, database: Option<&str>) -> Result<Conn> {
    let options = Opts::from_url(url).doing("read an instance's URL")?;
    let mut options = OptsBuilder::from_opts(options).stmt_cache_size(64).init(vec![
        format!("SET SESSION innodb_lock_wait_timeout = {LOCK_WAIT}, idle_transaction_timeout = {SILENCE}"),
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ".into(),
    ]);
    if let Some(database) = database {
        options = options.db_name(Some(database));
    }
    dial(options, ANSWER).doing("connect to an instance")
}

/// Writes rows as they are, over whatever is there.
pub(crate) fn put_rows(connection: &mut Conn, rows: &[Row]) -> mysql::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let places = vec!["(?,?,?,?,?)"; rows.len()].join(",");
    let row = |(slot, id, name, score, visits): &Row| -> [mysql::Value; 5] {
        [slot.into(), id.into(), name.as_str().into(), score.into(), visits.into()]
    };
    let values: Vec<mysql::Value> = rows.iter().flat_map(row).collect();
    // Prepared on the server and dropped: a statement for every number of rows is not worth keeping.
    let statement = connection.prep(format!("REPLACE INTO users (slot, id, name, score, visits) VALUES {places}"))?;
    connection.exec_drop(&statement, values)?;
    connection.close(statement)
}

//! A client: it keeps a copy of the map, and believes the instances' fences more than the map.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use mysql::Conn;
use mysql::prelude::Queryable;

use super::Skip;
use super::cluster::{Cluster, User};
use super::directory;
use super::fence::{self, Fence, State};
use super::route::{Owner, Slot, SlotMap};
use lab::{Error, Result};

/// Reads and writes users by id, one at a time.
///
/// A refusal is not an error: the client learns the new owner and tries again, until its patience ends.
#[derive(Debug)]
pub struct Client {
    cluster: Cluster,
    map: SlotMap,
    directory: Option<Conn>,
    connections: HashMap<String, Conn>,
    patience: Duration,
    pub(crate) skip: Option<Skip>,
    stats: ClientStats,
    evidence: Option<Vec<Served>>,
}

/// What a client went through.
#[derive(Debug, Clone, Default)]
pub struct ClientStats {
    /// Refusals, each followed by another try.
    pub refused: u64,
    /// How often the directory was asked for changes.
    pub refreshed: u64,
    /// Seconds from an operation's first refusal to its answer, one for each operation that was refused.
    pub waits: Vec<f64>,
}

/// That an instance served a slot, at some moment within these times: what clients can testify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The slot.
    pub slot: Slot,
    /// The slot's epoch, by the instance's fence.
    pub epoch: u64,
    /// The instance.
    pub instance: String,
    /// Before the instance was asked.
    pub from: Instant,
    /// After it had answered.
    pub to: Instant,
}

/// What a try came to.
enum Tried<T> {
    Done(T, u64),
    Refused(Option<Fence>),
}

/// Why a try failed.
enum Failed {
    /// Nothing happened: another try can do no harm.
    Again(mysql::Error),
    /// Nobody knows whether it happened.
    Unknown(mysql::Error),
    /// It did not happen, and will not.
    Never(mysql::Error),
}

impl From<mysql::Error> for Failed {
    /// For everything before a commit: what breaks then is rolled back.
    fn from(error: mysql::Error) -> Self {
        const LOCK_WAIT_TIMEOUT: u16 = 1205;
        const DEADLOCK: u16 = 1213;
        match &error {
            mysql::Error::IoError(_) | mysql::Error::DriverError(_) | mysql::Error::CodecError(_) => Self::Again(error),
            mysql::Error::MySqlError(said) if [LOCK_WAIT_TIMEOUT, DEADLOCK].contains(&said.code) => Self::Again(error),
            _ => Self::Never(error),
        }
    }
}

impl Client {
    /// A client with a fresh map.
    pub fn new(cluster: &Cluster) -> Result<Self> {
        Ok(Self::with_map(cluster, cluster.map()?))
    }

    /// A client with a map of before.
    pub fn with_map(cluster: &Cluster, map: SlotMap) -> Self {
        Self {
            cluster: cluster.clone(),
            map,
            directory: None,
            connections: HashMap::new(),
            patience: Duration::from_secs(10),
            skip: None,
            stats: ClientStats::default(),
            evidence: None,
        }
    }

    /// How long it tries before it gives an operation up.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Leaves a step out: [`Skip::Fence`] concerns clients.
    pub fn without(mut self, skip: Option<Skip>) -> Self {
        self.skip = skip;
        self
    }

    /// Keeps evidence of who served what when.
    pub fn keeping_evidence(mut self) -> Self {
        self.evidence = Some(Vec::new());
        self
    }

    /// The map as this client has it.
    pub fn map(&self) -> &SlotMap {
        &self.map
    }

    /// What it went through so far.
    pub fn stats(&self) -> &ClientStats {
        &self.stats
    }

    /// The evidence kept so far.
    pub fn evidence(&self) -> &[Served] {
        self.evidence.as_deref().unwrap_or_default()
    }

    /// The user, if there is one.
    pub fn get(&mut self, id: u64) -> Result<Option<User>> {
        self.until_served(id, "read", |connection, slot, skip| {
            if skip == Some(Skip::Fence) {
                let sql = "SELECT name, score, visits FROM users WHERE slot = ? AND id = ?";
                let row: Option<(String, i64, u64)> = connection.exec_first(sql, (slot, id))?;
                return Ok(Tried::Done(row.map(|(name, score, visits)| User { id, name, score, visits }), 0));
            }
            // One statement is one snapshot: the fence and the row are of the same moment.
            let sql = "SELECT f.state, f.epoch, f.next_owner, u.name, u.score, u.visits FROM fences f \
                       LEFT JOIN users u ON u.slot = f.slot AND u.id = ? WHERE f.slot = ?";
            type Row = (u8, u64, Option<String>, Option<String>, Option<i64>, Option<u64>);
            let row: Option<Row> = connection.exec_first(sql, (id, slot))?;
            Ok(match row {
                Some((state, epoch, _, name, score, visits)) if State::from(state).serves() => {
                    let user = name.zip(score).zip(visits);
                    Tried::Done(user.map(|((name, score), visits)| User { id, name, score, visits }), epoch)
                }
                Some((state, epoch, next_owner, ..)) => {
                    Tried::Refused(Some(Fence { slot, state: state.into(), epoch, token: 0, next_owner }))
                }
                None => Tried::Refused(None),
            })
        })
    }

    /// Writes a user: creates it with one visit, or replaces name and score and counts the visit.
    pub fn put(&mut self, id: u64, name: &str, score: i64) -> Result<()> {
        let sql = "INSERT INTO users (slot, id, name, score, visits) VALUES (?, ?, ?, ?, 1) \
                   ON DUPLICATE KEY UPDATE name = VALUES(name), score = VALUES(score), visits = visits + 1";
        self.change(id, sql, |slot| (slot, id, name, score).into()).map(drop)
    }

    /// Removes a user; returns whether there was one.
    pub fn delete(&mut self, id: u64) -> Result<bool> {
        self.change(id, "DELETE FROM users WHERE slot = ? AND id = ?", |slot| (slot, id).into())
    }

    fn change(&mut self, id: u64, sql: &str, values: impl Fn(Slot) -> mysql::Params) -> Result<bool> {
        self.until_served(id, "write", |connection, slot, skip| {
            let mut epoch = 0;
            connection.query_drop("START TRANSACTION")?;
            if skip != Some(Skip::Fence) {
                // Held until the commit: a hand-over waits for this write, or this write sees the hand-over.
                let fence = fence::hold(connection, slot)?;
                let Some(held) = fence.as_ref().filter(|fence| fence.state.serves()) else {
                    connection.query_drop("ROLLBACK")?;
                    return Ok(Tried::Refused(fence));
                };
                epoch = held.epoch;
                if held.state == State::Captured {
                    connection.exec_drop("INSERT INTO changes (slot, id) VALUES (?, ?)", (slot, id))?;
                }
            }
            connection.exec_drop(sql, values(slot))?;
            let changed = connection.affected_rows() > 0;
            connection.query_drop("COMMIT").map_err(Failed::Unknown)?;
            Ok(Tried::Done(changed, epoch))
        })
    }

    /// Tries until an instance serves, an error is final, or patience ends.
    fn until_served<T>(
        &mut self,
        id: u64,
        what: &str,
        mut attempt: impl FnMut(&mut Conn, Slot, Option<Skip>) -> Result<Tried<T>, Failed>,
    ) -> Result<T> {
        let slot = self.cluster.slot_of(id);
        let doing = || format!("{what} user {id} (slot {slot})");
        let (began, mut refused, mut pause) = (Instant::now(), None, Duration::from_micros(250));
        loop {
            let Owner { name, epoch: believed } = self.map.owners.get(usize::from(slot)).cloned().ok_or_else(|| {
                Error::new(doing(), "the directory does not know the slot").remedy("lay the cluster out again")
            })?;
            let from = Instant::now();
            let skip = self.skip;
            let tried = match self.connection(&name) {
                Ok(connection) => attempt(connection, slot, skip),
                Err(error) => {
                    if began.elapsed() > self.patience {
                        return Err(Error::new(doing(), error.cause()).at(&name).remedy("start the instance again"));
                    }
                    // It may be gone for good, and its slots elsewhere.
                    if !self.learn(slot, believed, None) {
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    continue;
                }
            };
            match tried {
                Ok(Tried::Done(value, epoch)) => {
                    self.stats.waits.extend(refused.map(|at: Instant| at.elapsed().as_secs_f64()));
                    if let Some(evidence) = &mut self.evidence {
                        let epoch = if epoch == 0 { believed } else { epoch };
                        evidence.push(Served { slot, epoch, instance: name, from, to: Instant::now() });
                    }
                    return Ok(value);
                }
                Ok(Tried::Refused(fence)) => {
                    refused.get_or_insert(from);
                    self.stats.refused += 1;
                    if began.elapsed() > self.patience {
                        let cause = format!("nobody served the slot for {:.1} s", self.patience.as_secs_f64());
                        return Err(Error::new(doing(), cause).remedy("resume the move that hands it over"));
                    }
                    if !self.learn(slot, believed, fence) {
                        // Between two owners: it takes one commit.
                        std::thread::sleep(pause);
                        pause = (pause * 2).min(Duration::from_millis(4));
                    }
                }
                Err(failed) => {
                    self.connections.remove(&name);
                    let (error, remedy) = match failed {
                        Failed::Again(_) if began.elapsed() <= self.patience => continue,
                        Failed::Again(error) => (error, Some("start the instance again")),
                        Failed::Unknown(error) => (error, Some("it may have happened: read before you write again")),
                        Failed::Never(error) => (error, None),
                    };
                    let error = Error::new(doing(), error).at(name);
                    return Err(match remedy {
                        Some(remedy) => error.remedy(remedy),
                        None => error,
                    });
                }
            }
        }
    }

    /// Learns who owns the slot now, from the instance that refused or from the directory. False where that is no news.
    fn learn(&mut self, slot: Slot, believed: u64, fence: Option<Fence>) -> bool {
        if let Some(Fence { next_owner: Some(name), epoch, .. }) = fence
            && self.map.learn(slot, Owner { name, epoch })
        {
            return true;
        }
        self.stats.refreshed += 1;
        let directory = self.directory.take().map_or_else(|| self.cluster.directory(), Ok);
        // A directory that cannot be read is no news; its connection is not used again.
        if let Ok(mut directory) = directory
            && directory::refresh(&mut directory, &mut self.map).is_ok()
        {
            self.directory = Some(directory);
        }
        self.map.owners.get(usize::from(slot)).is_some_and(|owner| owner.epoch > believed)
    }

    fn connection(&mut self, name: &str) -> Result<&mut Conn> {
        Ok(match self.connections.entry(name.to_string()) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(place) => place.insert(self.cluster.connect(name)?),
        })
    }
}

/// Contradictions in what clients saw of who serves what: of a slot, one epoch served by two instances, or an epoch that
/// was served after a later one had been. None means: at every moment that anybody looked, there was one owner.
pub fn at_odds(evidence: &[Served]) -> Vec<String> {
    let mut by_slot: BTreeMap<Slot, Vec<&Served>> = BTreeMap::new();
    for served in evidence {
        by_slot.entry(served.slot).or_default().push(served);
    }
    let mut faults = Vec::new();
    for (slot, mut all) in by_slot {
        let mut owners: BTreeMap<u64, &str> = BTreeMap::new();
        for served in &all {
            let owner = owners.entry(served.epoch).or_insert(&served.instance);
            if *owner != served.instance {
                faults
                    .push(format!("slot {slot}, epoch {}: served by {owner} and by {}", served.epoch, served.instance));
            }
        }
        // In the order in which they began; of those over by then, the latest epoch must not be a later one.
        all.sort_by_key(|served| served.from);
        let mut over = all.clone();
        over.sort_by_key(|served| served.to);
        let (mut over, mut latest) = (over.into_iter().peekable(), 0);
        for served in all {
            while let Some(earlier) = over.next_if(|earlier| earlier.to < served.from) {
                latest = latest.max(earlier.epoch);
            }
            if served.epoch < latest {
                let (name, epoch) = (&served.instance, served.epoch);
                faults.push(format!("slot {slot}: {name} served epoch {epoch} after epoch {latest} had been served"));
            }
        }
    }
    faults
}

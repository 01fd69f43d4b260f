//! Lists over all shards: every shard is asked at once, the answers are merged, and what is missing is named.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use mysql::Conn;
use mysql::prelude::Queryable;

use super::Skip;
use super::cluster::{Cluster, User};
use super::fence::State;
use super::route::{Owner, Slot, SlotMap};
use lab::clock::deadline_in;
use lab::service::Counters;
use lab::{Doing, Error, Result};

/// What to do when a shard does not answer before the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Everything or an error.
    Whole,
    /// What there is, and the list of what is missing.
    Partial,
}

/// A place in the order of all users, by score from the highest and then by id from the highest. It names no shard, so it
/// stays true while slots move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The last user's score.
    pub score: i64,
    /// The last user's id.
    pub id: u64,
}

/// Which page to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// The users behind a cursor; from the first one where there is none.
    After(Option<Cursor>),
    /// The users behind so many others: every shard has to read all of those, because any of them could hold them all.
    Offset(u64),
}

/// Slots that an answer knows nothing of, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Who owns them, as far as the client knows.
    pub instance: String,
    /// The slots.
    pub slots: Vec<Slot>,
    /// Why there is no answer for them.
    pub reason: String,
}

/// A list over all shards.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the answer may be partial: look at what is missing"]
pub struct Gathered {
    /// The users, in order.
    pub rows: Vec<User>,
    /// What the list knows nothing of; nothing where it is whole.
    pub missing: Vec<Missing>,
    /// How often the shards were asked until each slot was accounted for exactly once.
    pub rounds: u64,
    /// Rows that the shards read, by their own counters; 0 unless they were asked to count.
    pub rows_read: u64,
}

impl Gathered {
    /// Whether every slot is accounted for.
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty()
    }

    /// How many slots it knows nothing of.
    pub fn slots_missing(&self) -> u64 {
        self.missing.iter().map(|missing| missing.slots.len() as u64).sum()
    }

    /// Where the next page begins.
    pub fn cursor(&self) -> Option<Cursor> {
        self.rows.last().map(|user| Cursor { score: user.score, id: user.id })
    }
}

/// Reads lists over all shards, with a connection for each, all at once.
#[derive(Debug)]
pub struct Gatherer {
    cluster: Cluster,
    map: SlotMap,
    /// One that owes an answer to a question that has been given up is not among them.
    connections: BTreeMap<String, Conn>,
    skip: Option<Skip>,
    counting: bool,
}

/// What a shard is asked.
#[derive(Debug, Clone, Copy)]
struct Question {
    page: Page,
    limit: u64,
    filter: bool,
    counting: bool,
}

/// What a shard tells, all of one moment.
#[derive(Debug)]
struct Told {
    served: Vec<Slot>,
    /// Slots that it has handed over, and to whom.
    moved: Vec<(Slot, Owner)>,
    rows: Vec<User>,
    rows_read: u64,
}

impl Gatherer {
    /// For this cluster, with a fresh map.
    pub fn new(cluster: &Cluster) -> Result<Self> {
        let map = cluster.map()?;
        Ok(Self { cluster: cluster.clone(), map, connections: BTreeMap::new(), skip: None, counting: false })
    }

    /// Leaves a step out: [`Skip::Filter`] concerns lists.
    pub fn without(mut self, skip: Option<Skip>) -> Self {
        self.skip = skip;
        self
    }

    /// Lets the shards count the rows that they read.
    pub fn counting(mut self) -> Self {
        self.counting = true;
        self
    }

    /// The `count` users with the highest scores.
    pub fn top(&mut self, count: u64, deadline: Duration, policy: Policy) -> Result<Gathered> {
        self.page(Page::After(None), count, deadline, policy)
    }

    /// A page of `limit` users, in the order of their scores from the highest.
    pub fn page(&mut self, page: Page, limit: u64, deadline: Duration, policy: Policy) -> Result<Gathered> {
        let until = deadline_in(deadline);
        let (mut rounds, mut best): (u64, Option<Gathered>) = (0, None);
        loop {
            rounds += 1;
            let (told, failed) = self.ask(page, limit, until);
            let (missing, twice) = self.accounts(&told, &failed);
            let moved: Vec<(Slot, Owner)> = told.values().flat_map(|told| told.moved.clone()).collect();
            if twice == 0 || self.skip == Some(Skip::Filter) {
                let gathered = merge(page, limit, told, missing, rounds);
                if gathered.is_whole() {
                    return Ok(gathered);
                }
                // Each of them is right about the slots that it does not name; so the one that names the fewest is best.
                if best.as_ref().is_none_or(|best| gathered.slots_missing() < best.slots_missing()) {
                    best = Some(gathered);
                }
            }
            // A slot that nobody told of, or two, was handed over while we asked: the next answers account for it.
            if until.saturating_duration_since(Instant::now()) < Duration::from_millis(2) {
                let cause = match (best, policy) {
                    (Some(best), Policy::Partial) => return Ok(Gathered { rounds, ..best }),
                    (Some(best), Policy::Whole) => {
                        // One sentence: which of them, and why.
                        let said = |missing: &Missing| format!("{} ({})", missing.instance, missing.reason);
                        let names: Vec<String> = best.missing.iter().map(said).collect();
                        format!("{} slots are missing: {}", best.slots_missing(), names.join(", "))
                    }
                    (None, _) => format!("{twice} slots were told of twice until the deadline"),
                };
                let error = Error::new("list users of all shards", cause);
                return Err(error.remedy("allow it more time, or accept a partial answer"));
            }
            std::thread::sleep(Duration::from_millis(1));
            self.refresh(until);
            for (slot, owner) in moved {
                self.map.learn(slot, owner);
            }
        }
    }

    /// Reads the directory, for no longer than until the deadline. One that cannot be read leaves the map as it is.
    fn refresh(&mut self, until: Instant) {
        let (answers, inbox) = mpsc::channel();
        let cluster = self.cluster.clone();
        std::thread::spawn(move || answers.send(cluster.map()));
        if let Ok(Ok(map)) = inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
            self.map = map;
        }
    }

    /// Asks every owner at once, and waits for the answers until the deadline. Who failed says why; who said nothing is late.
    fn ask(
        &mut self,
        page: Page,
        limit: u64,
        until: Instant,
    ) -> (BTreeMap<String, Told>, BTreeMap<String, Option<String>>) {
        let filter = self.skip != Some(Skip::Filter);
        let question = Question { page, limit, filter, counting: self.counting };
        let asked: Vec<String> = match filter {
            true => self.map.counts().into_keys().collect(),
            false => self.cluster.names().into_iter().map(String::from).collect(),
        };
        let (answers, inbox) = mpsc::channel();
        for name in asked.clone() {
            let (cluster, kept, answers) = (self.cluster.clone(), self.connections.remove(&name), answers.clone());
            std::thread::spawn(move || {
                let connected = kept.map_or_else(|| cluster.connect(&name), Ok);
                let told = connected.and_then(|mut open| Ok((tell(&mut open, question)?, open)));
                let _ = answers.send((name, told)); // nobody waits for a late one: its connection goes with it
            });
        }
        let mut told = BTreeMap::new();
        let mut failed: BTreeMap<String, Option<String>> = asked.into_iter().map(|name| (name, None)).collect();
        while failed.values().any(Option::is_none)
            && let Ok((name, answer)) = inbox.recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            match answer {
                Ok((answer, connection)) => {
                    failed.remove(&name);
                    self.connections.insert(name.clone(), connection);
                    told.insert(name, answer);
                }
                Err(error) => {
                    failed.insert(name, Some(error.to_string()));
                }
            }
        }
        (told, failed)
    }

    /// Who is missing, slot by slot, and how many slots were told of twice.
    fn accounts(
        &self,
        told: &BTreeMap<String, Told>,
        failed: &BTreeMap<String, Option<String>>,
    ) -> (Vec<Missing>, usize) {
        let mut times: BTreeMap<Slot, u64> = (0..self.map.slots()).map(|slot| (slot, 0)).collect();
        told.values().flat_map(|told| &told.served).for_each(|slot| *times.entry(*slot).or_default() += 1);
        let twice = times.values().filter(|times| **times > 1).count();
        let mut missing: BTreeMap<&str, Vec<Slot>> = BTreeMap::new();
        for (slot, _) in times.into_iter().filter(|(_, times)| *times == 0) {
            missing.entry(self.map.owner(slot)).or_default().push(slot);
        }
        let of = |(name, slots): (&str, Vec<Slot>)| {
            let reason = match failed.get(name) {
                Some(Some(reason)) => reason.clone(),
                Some(None) => "no answer before the deadline".into(),
                None => "it does not serve them: they are being handed over".into(),
            };
            Missing { instance: name.to_string(), slots, reason }
        };
        (missing.into_iter().map(of).collect(), twice)
    }
}

fn merge(page: Page, limit: u64, told: BTreeMap<String, Told>, missing: Vec<Missing>, rounds: u64) -> Gathered {
    let rows_read = told.values().map(|told| told.rows_read).sum();
    let mut rows: Vec<User> = told.into_values().flat_map(|told| told.rows).collect();
    rows.sort_by_key(|user| std::cmp::Reverse((user.score, user.id)));
    let skip = if let Page::Offset(offset) = page { offset as usize } else { 0 };
    let rows = rows.into_iter().skip(skip).take(limit as usize).collect();
    Gathered { rows, missing, rounds, rows_read }
}

fn tell(connection: &mut Conn, question: Question) -> Result<Told> {
    let doing = "list a shard's users";
    // Both questions see one snapshot, which the first of them takes.
    connection.query_drop("START TRANSACTION READ ONLY").doing(doing)?;
    let serving = format!("IN ({}, {})", State::Serving as u8, State::Captured as u8);
    let known = format!("SELECT slot, state, epoch, next_owner FROM fences WHERE state > {}", State::Absent as u8);
    let known: Vec<(Slot, u8, u64, Option<String>)> = connection.query(known).doing(doing)?;
    let (mut served, mut moved) = (Vec::new(), Vec::new());
    for (slot, state, epoch, next_owner) in known {
        match (State::from(state), next_owner) {
            (state, _) if state.serves() => served.push(slot),
            (State::Released, Some(name)) => moved.push((slot, Owner { name, epoch })),
            _ => {}
        }
    }
    let (bound, limit) = match question.page {
        Page::After(None) => (String::new(), question.limit),
        Page::After(Some(Cursor { score, id })) => {
            (format!("AND u.score <= {score} AND (u.score < {score} OR u.id < {id})"), question.limit)
        }
        Page::Offset(offset) => (String::new(), offset.saturating_add(question.limit)),
    };
    let from = match question.filter {
        // In the order of the index, with a look at the fence for each row: it ends as soon as it has enough.
        true => {
            format!("users u FORCE INDEX (by_score) STRAIGHT_JOIN fences f ON f.slot = u.slot AND f.state {serving}")
        }
        false => "users u FORCE INDEX (by_score)".into(),
    };
    let sql = format!(
        "SELECT u.id, u.name, u.score, u.visits FROM {from} WHERE TRUE {bound} ORDER BY u.score DESC, u.id DESC LIMIT {limit}"
    );
    let ask = |connection: &mut Conn| connection.query::<(u64, String, i64, u64), _>(sql).doing(doing);
    let (rows, rows_read) = match question.counting {
        true => Counters::during(connection, ask).map(|(rows, cost)| (rows, cost.rows_read() as u64))?,
        false => (ask(connection)?, 0),
    };
    connection.query_drop("COMMIT").doing(doing)?;
    let rows = rows.into_iter().map(|(id, name, score, visits)| User { id, name, score, visits }).collect();
    Ok(Told { served, moved, rows, rows_read })
}

//! Lists over all shards: every shard is asked at once, the answers are merged, and what is missing is named.

use std::collections::{BTreeMap, BTreeSet};
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

/// What each of those who were asked told, or why it did not.
type Answers = BTreeMap<String, Result<Told, String>>;

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
            let mut answers = self.ask(page, limit, until);
            let moved: Vec<(Slot, Owner)> = answers.values().flatten().flat_map(|told| told.moved.clone()).collect();
            for (slot, owner) in moved {
                self.map.learn(slot, owner);
            }
            leave_out_doubles(&mut answers);
            let missing = self.missing(&answers);
            let gathered = merge(page, limit, answers.into_values().flatten(), missing, rounds);
            if gathered.is_whole() {
                return Ok(gathered);
            }
            // Each of them is right about the slots that it does not name; so the one that names the fewest is best.
            let fewest =
                best.take().filter(|best| best.slots_missing() <= gathered.slots_missing()).unwrap_or(gathered);
            // A slot that nobody told of, or two, was handed over while we asked: the next answers account for it.
            if until.saturating_duration_since(Instant::now()) < Duration::from_millis(2) {
                if policy == Policy::Partial {
                    return Ok(Gathered { rounds, ..fewest });
                }
                // One sentence: which of them, and why.
                let said = |missing: &Missing| format!("{} ({})", missing.instance, missing.reason);
                let names: Vec<String> = fewest.missing.iter().map(said).collect();
                let cause = format!("{} slots are missing: {}", fewest.slots_missing(), names.join(", "));
                let error = Error::new("list users of all shards", cause);
                return Err(error.remedy("allow it more time, or accept a partial answer"));
            }
            best = Some(fewest);
            std::thread::sleep(Duration::from_millis(1));
            self.refresh(until);
        }
    }

    /// Reads the directory, for no longer than until the deadline. It may be behind what an instance itself has told.
    fn refresh(&mut self, until: Instant) {
        let (answers, inbox) = mpsc::channel();
        let cluster = self.cluster.clone();
        std::thread::spawn(move || answers.send(cluster.map()));
        if let Ok(Ok(map)) = inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
            for (slot, owner) in (0..).zip(map.owners) {
                self.map.learn(slot, owner);
            }
        }
    }

    /// Asks every owner at once, and waits for the answers until the deadline. Who has none to give says why.
    fn ask(&mut self, page: Page, limit: u64, until: Instant) -> Answers {
        let filter = self.skip != Some(Skip::Filter);
        let question = Question { page, limit, filter, counting: self.counting };
        let asked: Vec<String> = match filter {
            true => self.map.counts().into_keys().collect(),
            false => self.cluster.names().into_iter().map(String::from).collect(),
        };
        let late = |name: &String| (name.clone(), Err("no answer before the deadline".to_string()));
        let mut answers: Answers = asked.iter().map(late).collect();
        let (teller, inbox) = mpsc::channel();
        for name in asked {
            let (cluster, kept, teller) = (self.cluster.clone(), self.connections.remove(&name), teller.clone());
            std::thread::spawn(move || {
                let connected = kept.map_or_else(|| cluster.connect(&name), Ok);
                let told = connected.and_then(|mut open| Ok((tell(&mut open, question)?, open)));
                let _ = teller.send((name, told)); // nobody waits for a late one: its connection goes with it
            });
        }
        drop(teller);
        // Until all have told, or the deadline.
        while let Ok((name, told)) = inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
            let told = told.map(|(told, connection)| {
                self.connections.insert(name.clone(), connection);
                told
            });
            answers.insert(name, told.map_err(|error| error.to_string()));
        }
        answers
    }

    /// The slots that nobody told of, by their owners.
    fn missing(&self, answers: &Answers) -> Vec<Missing> {
        let told: BTreeSet<Slot> = answers.values().flatten().flat_map(|told| told.served.iter().copied()).collect();
        let mut missing: BTreeMap<&str, Vec<Slot>> = BTreeMap::new();
        for slot in (0..self.map.slots()).filter(|slot| !told.contains(slot)) {
            missing.entry(self.map.owner(slot)).or_default().push(slot);
        }
        let of = |(name, slots): (&str, Vec<Slot>)| {
            let reason = match answers.get(name) {
                Some(Err(reason)) => reason,
                Some(Ok(_)) => "it does not serve them: they are being handed over",
                None => "it was not asked: it has just got them",
            };
            Missing { instance: name.to_string(), slots, reason: reason.to_string() }
        };
        missing.into_iter().map(of).collect()
    }
}

/// Leaves out answers that tell of a slot that another one tells of, too, until no slot is told of twice: a list is to be right
/// about all slots that it does not name.
fn leave_out_doubles(answers: &mut Answers) {
    loop {
        let mut times: BTreeMap<Slot, u64> = BTreeMap::new();
        answers.values().flatten().flat_map(|told| &told.served).for_each(|slot| *times.entry(*slot).or_default() += 1);
        let doubled = |told: &Told| told.served.iter().any(|slot| times[slot] > 1);
        let doubled = answers.values_mut().filter(|answer| answer.as_ref().is_ok_and(doubled));
        let Some(fewest) = doubled.min_by_key(|answer| answer.as_ref().map_or(0, |told| told.served.len())) else {
            return;
        };
        *fewest = Err("it tells of slots that another one serves, too: they were handed over meanwhile".to_string());
    }
}

fn merge(page: Page, limit: u64, told: impl Iterator<Item = Told>, missing: Vec<Missing>, rounds: u64) -> Gathered {
    let (mut rows, mut rows_read): (Vec<User>, u64) = (Vec::new(), 0);
    for told in told {
        rows.extend(told.rows);
        rows_read += told.rows_read;
    }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A mover that died before it could tell the directory leaves it behind for as long as nobody resumes the move.
    #[test]
    #[ignore = "starts MariaDB"]
    fn a_directory_that_is_behind_takes_nothing_back() {
        let servers = lab::service::mysql_instances(2);
        let cluster = Cluster::create(&servers, 1, 16).unwrap();
        let mut gatherer = Gatherer::new(&cluster).unwrap();
        gatherer.map.learn(3, Owner { name: "B".into(), epoch: 2 });
        gatherer.refresh(deadline_in(Duration::from_secs(10)));
        assert_eq!(gatherer.map.owner(3), "B");
    }
}

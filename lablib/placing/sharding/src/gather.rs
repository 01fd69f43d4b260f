//! Lists over all shards: every shard is asked at once, the answers are merged, and what is missing is named.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, Sender};
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
    /// Rows that the shards sent.
    pub rows_sent: u64,
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

/// Reads lists over all shards, with a thread and a connection for each.
#[derive(Debug)]
pub struct Gatherer {
    cluster: Cluster,
    map: SlotMap,
    workers: BTreeMap<String, Worker>,
    skip: Option<Skip>,
    counting: bool,
}

/// What a shard is asked.
#[derive(Debug, Clone)]
struct Question {
    number: u64,
    page: Page,
    limit: u64,
    filter: bool,
    counting: bool,
    answers: Sender<Answer>,
}

#[derive(Debug)]
struct Answer {
    number: u64,
    instance: String,
    told: Result<Told>,
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

#[derive(Debug)]
struct Worker {
    questions: Sender<Question>,
    /// It owes an answer to a question that has been given up.
    late: bool,
}

impl Gatherer {
    /// For this cluster, with a fresh map.
    pub fn new(cluster: &Cluster) -> Result<Self> {
        let map = cluster.map()?;
        Ok(Self { cluster: cluster.clone(), map, workers: BTreeMap::new(), skip: None, counting: false })
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
            if twice.is_empty() || self.skip == Some(Skip::Filter) {
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
                return match (best, policy) {
                    (Some(best), Policy::Partial) => Ok(Gathered { rounds, ..best }),
                    (Some(best), Policy::Whole) => Err(incomplete(&best.missing)),
                    (None, _) => Err(Error::new(
                        "list users of all shards",
                        format!("{} slots were told of twice until the deadline", twice.len()),
                    )
                    .remedy("allow it more time")),
                };
            }
            std::thread::sleep(Duration::from_millis(1));
            self.refresh(until);
            for (slot, owner) in moved {
                if let Some(known) =
                    self.map.owners.get_mut(usize::from(slot)).filter(|known| known.epoch < owner.epoch)
                {
                    *known = owner;
                }
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
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let filter = self.skip != Some(Skip::Filter);
        let (answers, inbox) = mpsc::channel();
        let question = Question { number, page, limit, filter, counting: self.counting, answers };
        let mut asked: Vec<String> = self.map.counts().into_keys().collect();
        if !filter {
            asked = self.cluster.names().into_iter().map(String::from).collect();
        }
        for name in &asked {
            // A thread that is still busy with a question of before is left to it: it ends when its answer comes.
            let worker = self.workers.get(name).filter(|worker| !worker.late);
            if worker.is_none_or(|worker| worker.questions.send(question.clone()).is_err()) {
                let worker = Worker::start(&self.cluster, name);
                let _ = worker.questions.send(question.clone()); // it has only just begun to listen
                self.workers.insert(name.clone(), worker);
            }
        }
        drop(question);
        let mut told = BTreeMap::new();
        let mut failed: BTreeMap<String, Option<String>> = asked.into_iter().map(|name| (name, None)).collect();
        while let Some(answer) = next(&inbox, until).filter(|_| !failed.is_empty()) {
            if answer.number != number {
                continue;
            }
            match answer.told {
                Ok(rows) => {
                    failed.remove(&answer.instance);
                    told.insert(answer.instance, rows);
                }
                Err(error) => {
                    failed.insert(answer.instance, Some(error.to_string()));
                }
            }
            if failed.values().all(Option::is_some) {
                break;
            }
        }
        for name in failed.iter().filter(|(_, reason)| reason.is_none()).map(|(name, _)| name) {
            if let Some(worker) = self.workers.get_mut(name) {
                worker.late = true;
            }
        }
        (told, failed)
    }

    /// Who is missing, slot by slot, and which slots were told of twice.
    fn accounts(
        &self,
        told: &BTreeMap<String, Told>,
        failed: &BTreeMap<String, Option<String>>,
    ) -> (Vec<Missing>, Vec<Slot>) {
        let mut times = vec![0_u8; usize::from(self.map.slots())];
        for slot in told.values().flat_map(|told| &told.served) {
            if let Some(times) = times.get_mut(usize::from(*slot)) {
                *times = times.saturating_add(1);
            }
        }
        let twice = (0..).zip(&times).filter(|(_, times)| **times > 1).map(|(slot, _)| slot).collect();
        let mut missing: BTreeMap<&str, Vec<Slot>> = BTreeMap::new();
        for (slot, _) in (0..).zip(&times).filter(|(_, times)| **times == 0) {
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
    let rows_sent = told.values().map(|told| told.rows.len() as u64).sum();
    let rows_read = told.values().map(|told| told.rows_read).sum();
    let mut rows: Vec<User> = told.into_values().flat_map(|told| told.rows).collect();
    rows.sort_by_key(|user| std::cmp::Reverse((user.score, user.id)));
    let skip = match page {
        Page::After(_) => 0,
        Page::Offset(offset) => offset as usize,
    };
    let rows = rows.into_iter().skip(skip).take(limit as usize).collect();
    Gathered { rows, missing, rounds, rows_sent, rows_read }
}

fn incomplete(missing: &[Missing]) -> Error {
    let slots: usize = missing.iter().map(|missing| missing.slots.len()).sum();
    // One sentence: which of them, and why.
    let names: Vec<String> =
        missing.iter().map(|missing| format!("{} ({})", missing.instance, missing.reason)).collect();
    let cause = format!("{slots} slots are missing: {}", names.join(", "));
    Error::new("list users of all shards", cause).remedy("allow it more time, or accept a partial answer")
}

fn next(inbox: &Receiver<Answer>, until: Instant) -> Option<Answer> {
    inbox.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
}

impl Worker {
    fn start(cluster: &Cluster, name: &str) -> Self {
        let (questions, inbox) = mpsc::channel::<Question>();
        let (cluster, instance) = (cluster.clone(), name.to_string());
        std::thread::spawn(move || {
            let mut connection = None;
            // Ends when the gatherer is gone, or has another thread for this shard.
            for question in inbox {
                let told = tell(&cluster, &instance, &mut connection, &question);
                if told.is_err() {
                    connection = None;
                }
                let answer = Answer { number: question.number, instance: instance.clone(), told };
                let _ = question.answers.send(answer); // nobody waits for a late one
            }
        });
        Self { questions, late: false }
    }
}

fn tell(cluster: &Cluster, name: &str, connection: &mut Option<Conn>, question: &Question) -> Result<Told> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(cluster.connect(name)?),
    };
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

//! Clients that know what they have written, and the checks of what they saw and what is there afterwards.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::{Client, Cluster, Gatherer, Policy, Served, Skip, SlotMap, User, at_odds, slot_of};
use lab::history::History;
use lab::history::linearizable::Verdict;
use lab::history::models::{KeyValue, KeyValueOp, KeyValueRet};
use lab::{Call, Crowd, Error, Frame, Result, Rng};

/// Users beyond all others, which nobody changes: lists must have each of them exactly once.
const CHAMPIONS: u64 = 50;
const FIRST_CHAMPION: u64 = 1_000_000_000_000;
/// Users that all clients write and read, for the history.
const FIRST_SHARED: u64 = 2_000_000_000_000;
/// One operation in so many is on a shared user.
const SHARED: u64 = 4;

/// What clients do while something happens to the cluster.
#[derive(Debug, Clone, Copy)]
pub struct TrafficSpec {
    /// Clients, each with a thread and users of its own.
    pub clients: usize,
    /// Users that are there at the start.
    pub users: u64,
    /// Users that all clients share.
    pub shared: u64,
    /// The clients leave this out.
    pub skip: Option<Skip>,
    /// For how long clients are at it before and after the action.
    pub margin: Duration,
    /// The seed.
    pub seed: u64,
}

/// What the clients did and saw.
#[derive(Debug)]
pub struct Ran {
    /// A row for each operation: client, at, took, `kind` (read or write), the `instance` that served it, and how long it took from its
    /// first refusal on (`refused`), if there was one.
    pub operations: Frame,
    /// When the action began and ended, in seconds from the start.
    pub action: (f64, f64),
    /// What the checks say.
    pub checked: Checked,
}

/// What the checks say: how much there was to check, and what was wrong.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    /// Reads that were answered.
    pub reads: u64,
    /// Writes that were acknowledged.
    pub writes: u64,
    /// Refusals that clients went through.
    pub refused: u64,
    /// Lists over all shards.
    pub lists: u64,
    /// Lists that had to ask more than once.
    pub lists_again: u64,
    /// Operations that failed.
    pub failed: u64,
    /// Reads that showed something else than the reader's own last write.
    pub stale_reads: u64,
    /// Lists that lacked a user, had one twice, or failed.
    pub wrong_lists: u64,
    /// Acknowledged writes that are not there: users with an older row than the last one acknowledged, or none.
    pub lost: u64,
    /// Users with more visits than were acknowledged, or on two instances.
    pub doubled: u64,
    /// Users that were deleted, and are there.
    pub risen: u64,
    /// Rows compared.
    pub rows: u64,
    /// Slots looked at.
    pub slots: u64,
    /// Slots that two instances serve.
    pub contested: u64,
    /// Slots that nobody serves.
    pub unserved: u64,
    /// Rows on an instance that knows nothing of their slot.
    pub strays: u64,
    /// Contradictions in who served what.
    pub at_odds: u64,
    /// Operations of the shared users in the history.
    pub history: u64,
    /// Whether the history is linearizable: 0 if a checker found an order that explains it, 1 if not.
    pub not_linearizable: u64,
    /// The first fault, in words.
    pub first_fault: Option<String>,
}

impl Checked {
    /// All faults together.
    pub fn faults(&self) -> u64 {
        let answers = self.failed + self.stale_reads + self.wrong_lists + self.not_linearizable;
        let slots = self.contested + self.unserved + self.strays + self.at_odds;
        answers + slots + self.lost + self.doubled + self.risen
    }

    fn fault(&mut self, words: impl FnOnce() -> String) {
        self.first_fault.get_or_insert_with(words);
    }
}

type SharedHistory = History<KeyValueOp<u64, i64>, KeyValueRet<i64>>;

/// Who is at work: a client with users of its own, or one who lists the champions again and again.
enum Worker {
    Client(Box<Own>),
    Lister(Box<Gatherer>),
}

/// A client, and what it knows: the users that nobody else writes, so that it knows what must come back.
struct Own {
    client: Client,
    mirror: HashMap<u64, Option<User>>,
    ids: Vec<u64>,
    rng: Rng,
    written: i64,
    /// Reads of something else, in words.
    stale: Vec<String>,
}

impl TrafficSpec {
    /// The users that must be there at the start.
    pub fn start(&self) -> Vec<User> {
        let champions =
            (0..CHAMPIONS).map(|n| User::new(FIRST_CHAMPION + n, format!("champion-{n}"), 1_000_000_000 + n as i64));
        super::users(self.users, self.seed).into_iter().chain(champions).collect()
    }

    /// What share of all operations each instance has to serve with such a map, in per cent: clients choose among their own
    /// users, and every [`SHARED`]th time among the shared ones, whoever serves them and however fast.
    pub(super) fn shares_by(&self, map: &SlotMap) -> BTreeMap<String, f64> {
        let shared = if self.shared > 0 { 100.0 / SHARED as f64 } else { 0.0 };
        let mut shares: BTreeMap<String, f64> = BTreeMap::new();
        for (first, users, share) in [(0, self.users, 100.0 - shared), (FIRST_SHARED, self.shared, shared)] {
            for user in first..first + users {
                *shares.entry(map.owner_of(user).to_string()).or_default() += share / users as f64;
            }
        }
        shares
    }

    /// Loads the users, lets the clients loose, acts, and checks everything.
    pub fn around<T>(&self, cluster: &Cluster, action: impl FnOnce() -> Result<T>) -> Result<(Ran, T)> {
        let users = self.start();
        cluster.load(&users)?;
        let (history, mut acted) = (SharedHistory::new(), None);
        let mut workers =
            (0..self.clients).map(|number| self.client(cluster, number, &users)).collect::<Result<Vec<_>>>()?;
        workers.push(Worker::Lister(Box::new(Gatherer::new(cluster)?.without(self.skip))));
        let ran = Crowd::holding(workers)
            .meanwhile(self.margin, "acted", || action().map(|answer| acted = Some(answer)))
            .lasting(self.margin)
            .within(Duration::from_secs(1_800))
            .enduring()
            .run(|worker, call| match worker {
                Worker::Client(own) => own.operate(self, &history, call),
                Worker::Lister(gatherer) => list(gatherer, call),
            })?;
        let action = (ran.event_began("acted"), ran.event_ended("acted"));
        let (lists, operations) = (ran.frame.filter("kind", "list"), ran.frame.except("kind", "list"));
        let count = |column: &str, word: &str| operations.filter(column, word).height() as u64;
        let mut checked = Checked {
            reads: count("kind", "read"),
            writes: count("kind", "write"),
            failed: count("outcome", "failed"),
            lists: lists.height() as u64,
            lists_again: lists.filter_by(|list| list.number("rounds") > 1.0).height() as u64,
            wrong_lists: lists.filter("outcome", "failed").height() as u64,
            first_fault: ran.frame.filter("outcome", "failed").rows().next().map(|call| call.text("why")),
            ..Checked::default()
        };
        let mut evidence: Vec<Served> = Vec::new();
        let champions = users.into_iter().filter(|user| user.id >= FIRST_CHAMPION);
        let mut mirror: HashMap<u64, Option<User>> = champions.map(|user| (user.id, Some(user))).collect();
        for worker in ran.states {
            let Worker::Client(own) = worker else { continue };
            mirror.extend(own.mirror);
            evidence.extend_from_slice(own.client.evidence());
            checked.refused += own.client.stats().refused;
            checked.stale_reads += own.stale.len() as u64;
            own.stale.into_iter().take(1).for_each(|words| checked.fault(|| words));
        }
        checked.compare(cluster, &mirror)?;
        let odds = at_odds(&evidence);
        checked.at_odds = odds.len() as u64;
        odds.into_iter().take(1).for_each(|odd| checked.fault(|| odd));
        checked.history = history.len() as u64;
        let verdict = history.check(&KeyValue::new());
        checked.not_linearizable = u64::from(!verdict.is_linearizable());
        if !matches!(verdict, Verdict::Linearizable { .. }) {
            checked.fault(|| verdict.to_string());
        }
        let acted = acted.ok_or_else(|| Error::new("act among clients", "nothing was done"))?;
        Ok((Ran { operations, action, checked }, acted))
    }

    fn client(&self, cluster: &Cluster, number: usize, users: &[User]) -> Result<Worker> {
        let own = |user: &&User| user.id < FIRST_CHAMPION && user.id % self.clients as u64 == number as u64;
        let mirror: HashMap<_, _> = users.iter().filter(own).map(|user| (user.id, Some(user.clone()))).collect();
        let mut ids: Vec<u64> = mirror.keys().copied().collect();
        ids.sort_unstable();
        let client = Client::new(cluster)?.without(self.skip).keeping_evidence();
        let rng = Rng::seeded(self.seed, &format!("client {number}"));
        Ok(Worker::Client(Box::new(Own { client, mirror, ids, rng, written: 0, stale: Vec::new() })))
    }
}

impl Own {
    fn operate(&mut self, spec: &TrafficSpec, history: &SharedHistory, call: &mut Call) -> Result<()> {
        // A score that nobody else writes, ever: it tells which write a reader saw.
        self.written += 1;
        let score = self.written * spec.clients as i64 + call.client() as i64;
        let (dice, waits) = (self.rng.below(100), self.client.stats().waits.len());
        let done = if self.rng.below(SHARED) == 0 && spec.shared > 0 {
            let id = FIRST_SHARED + self.rng.below(spec.shared);
            self.on_shared(history, call.client(), id, dice, score)
        } else {
            let id = self.ids[self.rng.below(self.ids.len() as u64) as usize];
            // After a failure nobody knows any more what must be there.
            self.on_own(id, dice, score).inspect_err(|_| drop(self.mirror.remove(&id)))
        };
        call.tag("kind", if dice >= 50 { "write" } else { "read" });
        call.tag("instance", self.client.evidence().last().map_or("", |served| served.instance.as_str()));
        call.note_or_missing("refused", "s", self.client.stats().waits.get(waits).copied());
        done
    }

    fn on_shared(&mut self, history: &SharedHistory, process: usize, id: u64, dice: u64, score: i64) -> Result<()> {
        let operation = match dice {
            0..50 => KeyValueOp::Get(id),
            50..90 => KeyValueOp::Put(id, score),
            _ => KeyValueOp::Delete(id),
        };
        let call = history.invoke(process, operation);
        let answer = match dice {
            0..50 => self.client.get(id).map(|user| KeyValueRet::Value(user.map(|user| user.score))),
            50..90 => self.client.put(id, "shared", score).map(|()| KeyValueRet::Done),
            _ => self.client.delete(id).map(KeyValueRet::Deleted),
        };
        match answer {
            Ok(answer) => call.ok(answer),
            Err(error) => {
                call.unknown();
                return Err(error);
            }
        }
        Ok(())
    }

    fn on_own(&mut self, id: u64, dice: u64, score: i64) -> Result<()> {
        let known = self.mirror.get(&id).cloned().flatten();
        match dice {
            0..50 => {
                let seen = self.client.get(id)?;
                if seen != known {
                    self.stale.push(format!("user {id} was {known:?}, and a read showed {seen:?}"));
                }
            }
            50..92 => {
                let name = format!("user-{id}-{score}");
                self.client.put(id, &name, score)?;
                let visits = known.map_or(0, |user| user.visits) + 1;
                self.mirror.insert(id, Some(User { id, name, score, visits }));
            }
            _ => {
                self.client.delete(id)?;
                self.mirror.insert(id, None);
            }
        }
        Ok(())
    }
}

/// Each list must be exactly the champions, in order.
fn list(gatherer: &mut Gatherer, call: &mut Call) -> Result<()> {
    call.tag("kind", "list");
    // A list asks all shards at once; without a pause it would be most of the load.
    call.rest(Duration::from_millis(5));
    let list = gatherer.top(CHAMPIONS, Duration::from_secs(10), Policy::Whole);
    call.note_or_missing("rounds", "", list.as_ref().ok().map(|list| list.rounds as f64));
    match list?.rows.iter().map(|user| user.id).eq((0..CHAMPIONS).rev().map(|n| FIRST_CHAMPION + n)) {
        true => Ok(()),
        false => Err(Error::new("list users", "it had others than the champions, or in another order")),
    }
}

impl Checked {
    /// Compares what is there with what was acknowledged, row by row.
    pub(crate) fn compare(&mut self, cluster: &Cluster, expected: &HashMap<u64, Option<User>>) -> Result<()> {
        let audit = cluster.audit()?;
        self.slots = cluster.slots().into();
        self.contested = audit.contested();
        self.unserved = audit.unserved();
        self.strays = audit.strays;
        // Nobody knows what a shared user must be; but no user may be twice, and none of nobody's may be there.
        for (id, rows) in audit.rows.iter().filter(|(id, _)| !expected.contains_key(id)) {
            self.doubled += u64::from(rows.len() > 1);
            self.risen += u64::from(*id < FIRST_SHARED);
        }
        let mut ids: Vec<&u64> = expected.keys().collect();
        ids.sort_unstable();
        for id in ids {
            let rows = audit.rows.get(id).map(Vec::as_slice).unwrap_or_default();
            self.rows += 1;
            let expected = expected.get(id).and_then(Option::as_ref);
            let slot = slot_of(*id, cluster.slots());
            let fault = match (expected, rows) {
                (_, [_, _, ..]) => Some((&mut self.doubled, "is on two instances")),
                (None, [_]) => Some((&mut self.risen, "was deleted and is there")),
                (Some(_), []) => Some((&mut self.lost, "was acknowledged and is gone")),
                (Some(user), [(_, row)]) if row.visits > user.visits => Some((&mut self.doubled, "was written twice")),
                (Some(user), [(_, row)]) if row != user => Some((&mut self.lost, "is not as last acknowledged")),
                _ => None,
            };
            if let Some((count, words)) = fault {
                *count += 1;
                self.fault(|| format!("user {id} (slot {slot}) {words}: {rows:?}, acknowledged {expected:?}"));
            }
        }
        Ok(())
    }
}

impl Ran {
    /// The operations during the action, or those before and after it.
    pub fn operations(&self, during: bool) -> Frame {
        let inside = |at: f64| at >= self.action.0 && at <= self.action.1;
        self.operations.filter_by(|operation| inside(operation.number("at")) == during)
    }
}

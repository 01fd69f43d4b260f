//! Clients that know what they have written, and the checks of what they saw and what is there afterwards.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::time::Duration;

use super::{instances, users};
use crate::{Client, Cluster, Gatherer, Policy, Served, Skip, User, at_odds};
use lab::history::History;
use lab::history::models::{KeyValue, KeyValueOp, KeyValueRet};
use lab::{Call, Crowd, Error, Frame, Result, Rng, Row};

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
    pub users: u64,
    /// Users that all clients share.
    pub shared: u64,
    /// The clients leave this out.
    pub skip: Option<Skip>,
    /// For how long clients are at it before and after the action.
    pub margin: Duration,
    pub seed: u64,
}

/// What the clients did and saw.
#[derive(Debug)]
pub struct Ran {
    /// A row for each operation: client, at and took (s), `kind` (read or write), `what` it was (`reads, during`: while something
    /// happened), the `instance` that served it, its `refusals`, and the time from the first of them on (`refused`, s), if there was one.
    pub operations: Frame,
    /// A row for each list over all shards, with the `rounds` that it took.
    pub lists: Frame,
    /// What happened meanwhile: event, began and ended (s).
    pub events: Frame,
    /// What somebody saw who looked on.
    pub looks: Frame,
    /// What the checks say.
    pub checked: Checked,
}

/// What the checks say: by the fault that was looked for, how many were found, and among how many.
///
/// `lost writes`: users whose last acknowledged write is not there. `doubled users`: with more visits than were acknowledged, or on two
/// instances. `deletes undone`: users that were deleted, and are there. `stray rows`: on an instance that knows nothing of their slot.
/// `stale reads`: that showed something else than the reader's own last write. `wrong lists`: that lacked one of the fifty users whom
/// nobody changes, had one twice, or failed. `slots of two owners`, `slots of none`: by the instances' fences, afterwards.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    counts: BTreeMap<&'static str, (u64, u64)>,
    /// The first fault, in words.
    pub first_fault: Option<String>,
}

type SharedHistory = History<KeyValueOp<u64, i64>, KeyValueRet<i64>>;

/// Who is at work: a client with users of its own, or one who lists the champions again and again.
pub(super) enum Worker {
    Client(Box<Own>),
    Lister(Box<Gatherer>),
}

/// A client, and what it knows: the users that nobody else writes, so that it knows what must come back.
pub(super) struct Own {
    client: Client,
    mirror: HashMap<u64, Option<User>>,
    ids: Vec<u64>,
    rng: Rng,
    /// Reads of something else, in words.
    stale: Vec<String>,
}

impl TrafficSpec {
    /// The share of all operations that the busiest instance has to serve once the slots are shared out over all of them, in
    /// per cent: not the same for all, because the shared users are few. Clients choose among their own users, and every
    /// [`SHARED`]th time among the shared ones, whoever serves them and however fast.
    pub fn busiest_afterwards(&self, cluster: &Cluster) -> Result<f64> {
        let map = cluster.map()?;
        let map = map.after(&map.plan(&instances(cluster.names().len()))?);
        let shared = if self.shared > 0 { 100.0 / SHARED as f64 } else { 0.0 };
        let mut shares: BTreeMap<&str, f64> = BTreeMap::new();
        for (first, users, share) in [(0, self.users, 100.0 - shared), (FIRST_SHARED, self.shared, shared)] {
            for user in first..first + users {
                *shares.entry(map.owner_of(user)).or_default() += share / users as f64;
            }
        }
        Ok(shares.into_values().fold(0.0, f64::max))
    }

    /// Loads the users, lets the clients loose while happens what is planned, and checks everything.
    pub(super) fn around<'a>(
        &self,
        cluster: &Cluster,
        plan: impl FnOnce(Crowd<'a, Worker>) -> Crowd<'a, Worker>,
    ) -> Result<Ran> {
        let champion = |n: u64| User::new(FIRST_CHAMPION + n, format!("champion-{n}"), 1_000_000_000 + n as i64);
        let champions: Vec<User> = (0..CHAMPIONS).map(champion).collect();
        let (users, history) = ([users(self.users, self.seed), champions.clone()].concat(), SharedHistory::new());
        cluster.load(&users)?;
        let mut workers =
            (0..self.clients).map(|number| self.client(cluster, number, &users)).collect::<Result<Vec<_>>>()?;
        workers.push(Worker::Lister(Box::new(Gatherer::new(cluster)?.without(self.skip))));
        let crowd = Crowd::holding(workers).lasting(self.margin).within(Duration::from_secs(1_800)).enduring();
        let ran = plan(crowd).run(|worker, call| match worker {
            Worker::Client(own) => own.operate(self, &history, call),
            Worker::Lister(gatherer) => list(gatherer, call),
        })?;
        let (lists, operations) = (ran.frame.filter("kind", "list"), ran.frame.except("kind", "list"));
        let mut checked = Checked::default();
        for (fault, calls) in [("operations failed", &operations), ("wrong lists", &lists)] {
            let failed = calls.filter("outcome", "failed");
            checked.count(fault, failed.height(), calls.height());
            checked.tell(failed.rows().next().map(|call| call.text("why")));
        }
        checked.count("stale reads", 0, operations.filter("kind", "read").height());
        let mut evidence: Vec<Served> = Vec::new();
        let mut mirror: HashMap<u64, Option<User>> = champions.into_iter().map(|user| (user.id, Some(user))).collect();
        for worker in ran.states {
            let Worker::Client(own) = worker else { continue };
            mirror.extend(own.mirror);
            evidence.extend_from_slice(own.client.evidence());
            checked.count("stale reads", own.stale.len(), 0);
            checked.tell(own.stale.into_iter().next());
        }
        checked.compare(cluster, &mirror)?;
        checked.compare_evidence(&evidence);
        let verdict = history.check(&KeyValue::new());
        checked.count("history without an explanation", usize::from(!verdict.is_linearizable()), history.len());
        checked.tell((!verdict.is_linearizable()).then(|| verdict.to_string()));
        let mut ran = Ran { operations, lists, events: ran.events, looks: ran.seen, checked };
        let time = ran.time();
        let when = |call: Row<'_>| if time.contains(&call.number("at")) { "during" } else { "before and after" };
        let what: Vec<String> =
            ran.operations.rows().map(|call| format!("{}s, {}", call.text("kind"), when(call))).collect();
        ran.operations = ran.operations.text("what", what);
        Ok(ran)
    }

    fn client(&self, cluster: &Cluster, number: usize, users: &[User]) -> Result<Worker> {
        let own = |user: &&User| user.id < FIRST_CHAMPION && user.id % self.clients as u64 == number as u64;
        let mirror: HashMap<_, _> = users.iter().filter(own).map(|user| (user.id, Some(user.clone()))).collect();
        let mut ids: Vec<u64> = mirror.keys().copied().collect();
        ids.sort_unstable();
        let client = Client::new(cluster)?.without(self.skip).keeping_evidence();
        let rng = Rng::seeded(self.seed, &format!("client {number}"));
        Ok(Worker::Client(Box::new(Own { client, mirror, ids, rng, stale: Vec::new() })))
    }
}

impl Own {
    fn operate(&mut self, spec: &TrafficSpec, history: &SharedHistory, call: &mut Call) -> Result<()> {
        // A score that nobody else writes, ever: it tells which write a reader saw.
        let score = (call.number() as i64 + 1) * spec.clients as i64 + call.client() as i64;
        let (dice, waits, refusals) =
            (self.rng.below(100), self.client.stats().waits.len(), self.client.stats().refused);
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
        call.note("refusals", "", (self.client.stats().refused - refusals) as f64);
        call.note_or_missing("refused", "s", self.client.stats().waits.get(waits).copied());
        done
    }

    fn on_shared(&mut self, history: &SharedHistory, process: usize, id: u64, dice: u64, score: i64) -> Result<()> {
        let operation = match dice {
            0..50 => KeyValueOp::Get(id),
            50..90 => KeyValueOp::Put(id, score),
            _ => KeyValueOp::Delete(id),
        };
        // Of a call that fails, nobody knows whether it happened: so it stays in the history.
        let call = history.invoke(process, operation);
        call.ok(match dice {
            0..50 => KeyValueRet::Value(self.client.get(id)?.map(|user| user.score)),
            50..90 => self.client.put(id, "shared", score).map(|()| KeyValueRet::Done)?,
            _ => KeyValueRet::Deleted(self.client.delete(id)?),
        });
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
    /// How many of these faults were found; ends the cell where one of them was not looked for.
    pub fn found<const N: usize>(&self, faults: [&str; N]) -> u64 {
        faults.into_iter().map(|fault| self.frame().filter("fault", fault).number("found") as u64).sum()
    }

    /// All faults together.
    pub fn faults(&self) -> u64 {
        self.counts.values().map(|(found, _)| found).sum()
    }

    /// A row for each `fault`: how many were `found`, and at how many it was `looked at`.
    pub fn frame(&self) -> Frame {
        let (found, among): (Vec<u64>, Vec<u64>) = self.counts.values().copied().unzip();
        Frame::new().text("fault", self.counts.keys()).counts("found", "", found).counts("looked at", "", among)
    }

    /// More of a fault, found among so many more.
    pub(super) fn count(&mut self, fault: &'static str, found: usize, among: usize) {
        let counts = self.counts.entry(fault).or_default();
        *counts = (counts.0 + found as u64, counts.1 + among as u64);
    }

    /// A fault in words, if it is the first.
    pub(super) fn tell(&mut self, words: Option<String>) {
        self.first_fault = self.first_fault.take().or(words);
    }

    /// Looks for contradictions in who served what.
    pub(super) fn compare_evidence(&mut self, evidence: &[Served]) {
        let odds = at_odds(evidence);
        self.count("two owners by what clients saw", odds.len(), evidence.len());
        self.tell(odds.into_iter().next());
    }

    /// Compares what is there with what was acknowledged, row by row.
    pub(super) fn compare(&mut self, cluster: &Cluster, expected: &HashMap<u64, Option<User>>) -> Result<()> {
        let audit = cluster.audit()?;
        // Nobody knows what a shared user must be; but no user may be twice, and none of nobody's may be there.
        let others = || audit.rows.iter().filter(|(id, _)| !expected.contains_key(id));
        let mut doubled = others().filter(|(_, rows)| rows.len() > 1).count();
        let mut undeleted = others().filter(|(id, _)| **id < FIRST_SHARED).count();
        let mut lost = 0;
        let mut all: Vec<_> = expected.iter().collect();
        all.sort_by_key(|(id, _)| **id);
        for (id, expected) in all {
            let rows = audit.rows.get(id).map(Vec::as_slice).unwrap_or_default();
            let (count, words) = match (expected, rows) {
                (_, [_, _, ..]) => (&mut doubled, "is on two instances"),
                (None, [_]) => (&mut undeleted, "was deleted and is there"),
                (Some(_), []) => (&mut lost, "was acknowledged and is gone"),
                (Some(user), [(_, row)]) if row.visits > user.visits => (&mut doubled, "was written twice"),
                (Some(user), [(_, row)]) if row != user => (&mut lost, "is not as last acknowledged"),
                _ => continue,
            };
            *count += 1;
            let slot = cluster.slot_of(*id);
            self.tell(Some(format!("user {id} (slot {slot}) {words}: {rows:?}, acknowledged {expected:?}")));
        }
        let (rows, slots) = (expected.len(), cluster.slots().into());
        self.count("lost writes", lost, rows);
        self.count("doubled users", doubled, rows);
        self.count("deletes undone", undeleted, rows);
        self.count("slots of two owners", audit.contested() as usize, slots);
        self.count("slots of none", audit.unserved() as usize, slots);
        self.count("stray rows", audit.strays as usize, rows);
        Ok(())
    }
}

impl Ran {
    /// From the moment when the first thing that happened began until the last one was over, in seconds.
    pub fn time(&self) -> Range<f64> {
        self.events.samples("began").min()..self.events.samples("ended").max()
    }
}

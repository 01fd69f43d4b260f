//! Clients that know what they have written, and the checks of what they saw and what is there afterwards.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::sharding::{Client, Cluster, Gatherer, Policy, Served, Skip, SlotMap, User, at_odds, slot_of};
use lab::history::History;
use lab::history::linearizable::Verdict;
use lab::history::models::{KeyValue, KeyValueOp, KeyValueRet};
use lab::{Latency, Result, Rng, joined};

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

/// One operation of a client.
#[derive(Debug, Clone)]
pub struct Done {
    /// When it began, in seconds from the start.
    pub at: f64,
    /// How long it took, in seconds.
    pub took: f64,
    /// Whether it changed something.
    pub write: bool,
    /// Who served it.
    pub instance: String,
    /// How long it took from its first refusal on; none where it was not refused.
    pub waited: Option<f64>,
}

/// What the clients did and saw.
#[derive(Debug)]
pub struct Ran {
    /// Every operation.
    pub operations: Vec<Done>,
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
        let Self { failed, stale_reads, wrong_lists, lost, doubled, risen, .. } = self;
        failed
            + stale_reads
            + wrong_lists
            + lost
            + doubled
            + risen
            + self.contested
            + self.unserved
            + self.strays
            + self.at_odds
            + self.not_linearizable
    }

    fn fault(&mut self, words: impl FnOnce() -> String) {
        self.first_fault.get_or_insert_with(words);
    }
}

type SharedHistory = History<KeyValueOp<u64, i64>, KeyValueRet<i64>>;

/// What one client leaves.
struct Left {
    mirror: HashMap<u64, Option<User>>,
    operations: Vec<Done>,
    evidence: Vec<Served>,
    checked: Checked,
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
        let (stop, started, history) = (AtomicBool::new(false), Instant::now(), SharedHistory::new());
        let (left, lists, acted, action) = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..self.clients)
                .map(|number| {
                    let own: HashMap<u64, Option<User>> = users
                        .iter()
                        .filter(|user| user.id < FIRST_CHAMPION && user.id % self.clients as u64 == number as u64)
                        .map(|user| (user.id, Some(user.clone())))
                        .collect();
                    let (stop, history) = (&stop, &history);
                    scope.spawn(move || self.client(cluster, number, own, history, stop, started))
                })
                .collect();
            let lister = scope.spawn(|| lister(cluster, self.skip, &stop));
            std::thread::sleep(self.margin);
            let begun = started.elapsed().as_secs_f64();
            let acted = action();
            let ended = started.elapsed().as_secs_f64();
            if acted.is_ok() {
                std::thread::sleep(self.margin);
            }
            stop.store(true, Ordering::Relaxed);
            let left: Vec<Result<Left>> =
                clients.into_iter().map(|client| joined("run a client", client.join())).collect();
            let lists = joined("list users", lister.join());
            (left, lists, acted, (begun, ended))
        });
        let acted = acted?;
        let left = left.into_iter().collect::<Result<Vec<Left>>>()?;
        let mut checked = lists?;
        let mut mirror: HashMap<u64, Option<User>> = HashMap::new();
        let (mut operations, mut evidence) = (Vec::new(), Vec::new());
        for mut client in left {
            mirror.extend(client.mirror);
            operations.append(&mut client.operations);
            evidence.append(&mut client.evidence);
            checked.add(client.checked);
        }
        for user in users.into_iter().filter(|user| user.id >= FIRST_CHAMPION) {
            mirror.insert(user.id, Some(user));
        }
        operations.sort_by(|a, b| a.at.total_cmp(&b.at));
        checked.compare(cluster, &mirror)?;
        let odds = at_odds(&evidence);
        checked.at_odds = odds.len() as u64;
        if let Some(odd) = odds.into_iter().next() {
            checked.fault(|| odd);
        }
        checked.history = history.len() as u64;
        let verdict = history.check(&KeyValue::new());
        checked.not_linearizable = u64::from(!verdict.is_linearizable());
        if !matches!(verdict, Verdict::Linearizable { .. }) {
            checked.fault(|| verdict.to_string());
        }
        Ok((Ran { operations, action, checked }, acted))
    }

    fn client(
        &self,
        cluster: &Cluster,
        number: usize,
        mut mirror: HashMap<u64, Option<User>>,
        history: &SharedHistory,
        stop: &AtomicBool,
        started: Instant,
    ) -> Result<Left> {
        let mut client = Client::new(cluster)?.without(self.skip).keeping_evidence();
        let mut rng = Rng::seeded(self.seed, &format!("client {number}"));
        let mut ids: Vec<u64> = mirror.keys().copied().collect();
        ids.sort_unstable();
        let (mut operations, mut checked, mut written) = (Vec::new(), Checked::default(), 0_i64);
        while !stop.load(Ordering::Relaxed) {
            // A score that nobody else writes, ever: it tells which write a reader saw.
            written += 1;
            let score = written * self.clients as i64 + number as i64;
            let (dice, at, waits) = (rng.below(100), started.elapsed(), client.stats().waits.len());
            let write = if rng.below(SHARED) == 0 && self.shared > 0 {
                let id = FIRST_SHARED + rng.below(self.shared);
                self.shared_operation(&mut client, history, number, id, dice, score, &mut checked)
            } else {
                let id = ids[rng.below(ids.len() as u64) as usize];
                own_operation(&mut client, &mut mirror, id, dice, score, &mut checked)
            };
            let took = (started.elapsed() - at).as_secs_f64();
            let waited = client.stats().waits.get(waits).copied();
            let instance = client.evidence().last().map_or_else(String::new, |served| served.instance.clone());
            operations.push(Done { at: at.as_secs_f64(), took, write, instance, waited });
        }
        checked.refused = client.stats().refused;
        Ok(Left { mirror, operations, evidence: client.evidence().to_vec(), checked })
    }

    #[allow(clippy::too_many_arguments)]
    fn shared_operation(
        &self,
        client: &mut Client,
        history: &SharedHistory,
        process: usize,
        id: u64,
        dice: u64,
        score: i64,
        checked: &mut Checked,
    ) -> bool {
        let (call, answer) = match dice {
            0..50 => {
                let call = history.invoke(process, KeyValueOp::Get(id));
                (call, client.get(id).map(|user| KeyValueRet::Value(user.map(|user| user.score))))
            }
            50..90 => {
                let call = history.invoke(process, KeyValueOp::Put(id, score));
                (call, client.put(id, "shared", score).map(|()| KeyValueRet::Done))
            }
            _ => {
                let call = history.invoke(process, KeyValueOp::Delete(id));
                (call, client.delete(id).map(KeyValueRet::Deleted))
            }
        };
        match answer {
            Ok(answer) => call.ok(answer),
            Err(error) => {
                call.unknown();
                checked.failed += 1;
                checked.fault(|| error.to_string());
            }
        }
        checked.count(dice >= 50);
        dice >= 50
    }
}

/// An operation on a user that only this client writes, so that it knows what must come back.
fn own_operation(
    client: &mut Client,
    mirror: &mut HashMap<u64, Option<User>>,
    id: u64,
    dice: u64,
    score: i64,
    checked: &mut Checked,
) -> bool {
    let known = mirror.get(&id).cloned().flatten();
    let done = match dice {
        0..50 => client.get(id).map(|seen| {
            if seen != known {
                checked.stale_reads += 1;
                checked.fault(|| format!("user {id} was {known:?}, and a read showed {seen:?}"));
            }
        }),
        50..92 => {
            let name = format!("user-{id}-{score}");
            client.put(id, &name, score).map(|()| {
                let visits = known.map_or(0, |user| user.visits) + 1;
                mirror.insert(id, Some(User { id, name, score, visits }));
            })
        }
        _ => client.delete(id).map(|_| {
            mirror.insert(id, None);
        }),
    };
    if let Err(error) = done {
        checked.failed += 1;
        checked.fault(|| error.to_string());
        // Nobody knows any more what must be there.
        mirror.remove(&id);
    }
    checked.count(dice >= 50);
    dice >= 50
}

/// Lists the champions again and again: each list must be exactly them, in order.
fn lister(cluster: &Cluster, skip: Option<Skip>, stop: &AtomicBool) -> Result<Checked> {
    let mut gatherer = Gatherer::new(cluster)?.without(skip);
    let mut checked = Checked::default();
    let expected: Vec<u64> = (0..CHAMPIONS).rev().map(|n| FIRST_CHAMPION + n).collect();
    while !stop.load(Ordering::Relaxed) {
        checked.lists += 1;
        match gatherer.top(CHAMPIONS, Duration::from_secs(10), Policy::Whole) {
            Ok(list) => {
                checked.lists_again += u64::from(list.rounds > 1);
                if list.rows.iter().map(|user| user.id).ne(expected.iter().copied()) {
                    checked.wrong_lists += 1;
                    checked.fault(|| format!("a list of {CHAMPIONS} users had others, or in another order"));
                }
            }
            Err(error) => {
                checked.wrong_lists += 1;
                checked.fault(|| error.to_string());
            }
        }
        // A list asks all shards at once; without a pause it would be most of the load.
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(checked)
}

impl Checked {
    fn count(&mut self, write: bool) {
        self.reads += u64::from(!write);
        self.writes += u64::from(write);
    }

    fn add(&mut self, other: Self) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.refused += other.refused;
        self.failed += other.failed;
        self.stale_reads += other.stale_reads;
        if let Some(fault) = other.first_fault {
            self.fault(|| fault);
        }
    }

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
    /// Operations a second of each instance, in steps of `step` seconds: (middle of the step, rate).
    pub fn rates(&self, step: f64) -> BTreeMap<String, Vec<(f64, f64)>> {
        let last = self.operations.last().map_or(0.0, |done| done.at);
        let steps = (last / step).floor() as usize;
        let mut counts: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for done in &self.operations {
            let counts = counts.entry(done.instance.clone()).or_insert_with(|| vec![0; steps]);
            if let Some(count) = counts.get_mut((done.at / step) as usize) {
                *count += 1;
            }
        }
        let rate = |(index, count): (usize, u64)| ((index as f64 + 0.5) * step, count as f64 / step);
        counts.into_iter().map(|(name, counts)| (name, counts.into_iter().enumerate().map(rate).collect())).collect()
    }

    /// How long operations took: reads or writes, during the action or outside it.
    pub fn latency(&self, write: bool, during: bool) -> Latency {
        let inside = |done: &Done| done.at >= self.action.0 && done.at <= self.action.1;
        self.collect(|done| done.write == write && inside(done) == during)
    }

    /// How long the operations took that were refused at least once.
    pub fn latency_of_refused(&self) -> Latency {
        self.collect(|done| done.waited.is_some())
    }

    fn collect(&self, which: impl Fn(&Done) -> bool) -> Latency {
        let mut latency = Latency::new();
        for done in self.operations.iter().filter(|done| which(done)) {
            latency.record(Duration::from_secs_f64(done.took));
        }
        latency
    }

    /// The share of all operations that each instance served between two times, in per cent.
    pub fn shares(&self, from: f64, to: f64) -> BTreeMap<String, f64> {
        let within: Vec<&Done> = self.operations.iter().filter(|done| done.at >= from && done.at < to).collect();
        let mut shares = BTreeMap::new();
        for done in &within {
            *shares.entry(done.instance.clone()).or_insert(0.0) += 100.0 / within.len() as f64;
        }
        shares
    }
}

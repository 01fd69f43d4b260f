//! Moves slots from instance to instance while they are read and written.
//!
//! A move is a few slots with one source and one target. It goes through these steps, each recorded before it begins:
//!
//! 1. *Copying*. The source begins to note every write of the slots; the target gets rows that nobody can see.
//! 2. *Catching up*. What was noted is read again at the source and applied at the target, until little is left.
//! 3. *Handing over*. The mover seizes the slots' fences at the source: writers wait, readers do not. It applies the last
//!    changes, compares both sides, marks the slots as released and commits. From then on the source refuses. The target
//!    begins to serve with its next commit, and the directory follows.
//! 4. *Cleaning*. The rows at the source go.
//!
//! Whatever the mover holds, it holds in a transaction: when it dies, the instance lets go at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use mysql::Conn;
use mysql::prelude::Queryable;
use serde::{Deserialize, Serialize};

use super::Skip;
use super::cluster::{Cluster, User, put_rows};
use super::directory::{self, Move, Step, superseded};
use super::fence::{self, Fence, State, list};
use super::route::{Slot, SlotMap, Transfer, Weight};
use crate::lab::{Doing, Error, Result, crash};

/// The named points of a move, in their order: where it can be killed.
pub const POINTS: [&str; 12] = [
    "move-planned",
    "capture-open",
    "target-ready",
    "chunk-copied",
    "copied",
    "caught-up",
    "writers-held",
    "last-changes-applied",
    "compared",
    "released",
    "granted",
    "map-changed",
];

/// How to move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoverSpec {
    /// Slots of one move: fewer commits in all, and longer hand-overs, with more of them.
    pub batch: usize,
    /// Rows of one transaction at the target.
    pub chunk: usize,
    /// Seconds of silence from a mover that holds writers, after which the instance ends its session and lets them go on:
    /// for one that is cut off, or stuck, without being dead.
    pub grip: u32,
    /// Steps left out, to see what notices.
    pub skips: Vec<Skip>,
}

impl Default for MoverSpec {
    fn default() -> Self {
        Self { batch: 16, chunk: 500, grip: 15, skips: Vec::new() }
    }
}

/// What a move cost. Times are in seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// Slots moved.
    pub slots: u64,
    /// Rows copied.
    pub rows: u64,
    /// Changes applied that came in during the copy.
    pub caught_up: u64,
    /// Changes applied while writers were held.
    pub last_changes: u64,
    /// Copying.
    pub copy: f64,
    /// Catching up.
    pub catch_up: f64,
    /// Writers held back: from the request for the fences to the target's first moment of service.
    pub writers_held: f64,
    /// Nobody serves: from the source's release to the target's first moment of service.
    pub nobody: f64,
    /// Comparing both sides, which is a part of the time in which writers are held.
    pub compare: f64,
    /// The directory's change and the cleaning.
    pub clean: f64,
}

/// Moves slots. One at a time is meant to work on a move; a second one takes it over.
pub struct Mover {
    cluster: Cluster,
    spec: MoverSpec,
    directory: Conn,
    connections: HashMap<String, Conn>,
    watcher: Option<Box<dyn FnMut(&str) + Send>>,
}

/// Changes left for the time in which writers are held.
const FEW: usize = 8;
/// Rounds of catching up before it is time to hold the writers, however much is left.
const ROUNDS: usize = 20;

impl Mover {
    /// A mover for this cluster.
    pub fn new(cluster: &Cluster, spec: MoverSpec) -> Result<Self> {
        if spec.batch == 0 || spec.chunk == 0 {
            return Err(
                Error::new("move slots", "a batch or a chunk of nothing never ends").remedy("make both at least 1")
            );
        }
        let directory = cluster.directory()?;
        Ok(Self { cluster: cluster.clone(), spec, directory, connections: HashMap::new(), watcher: None })
    }

    /// Calls `watcher` at every named point.
    pub fn watched_by(mut self, watcher: impl FnMut(&str) + Send + 'static) -> Self {
        self.watcher = Some(Box::new(watcher));
        self
    }

    /// Finishes what another mover left, then moves slots until these instances own all of them by their weights.
    pub fn reshard(&mut self, instances: &[Weight]) -> Result<Vec<Moved>> {
        let mut moved = self.resume()?;
        let transfers = self.map()?.plan(instances)?;
        moved.extend(self.carry_out(&transfers)?);
        Ok(moved)
    }

    /// Carries out transfers, in moves of `batch` slots.
    pub fn carry_out(&mut self, transfers: &[Transfer]) -> Result<Vec<Moved>> {
        let mut ways: BTreeMap<(&str, &str), Vec<Slot>> = BTreeMap::new();
        for transfer in transfers {
            ways.entry((&transfer.from, &transfer.to)).or_default().push(transfer.slot);
        }
        let mut moved = Vec::new();
        for ((source, target), slots) in ways {
            for slots in slots.chunks(self.spec.batch) {
                // Before anything is promised: a target that cannot be reached shall not have slots on their way to it.
                self.connection(target)?;
                let job = directory::begin(&mut self.directory, source, target, slots)?;
                self.point("move-planned");
                moved.push(self.drive(job)?);
            }
        }
        Ok(moved)
    }

    /// Finishes the moves that another mover left.
    pub fn resume(&mut self) -> Result<Vec<Moved>> {
        let mut moved = Vec::new();
        for id in directory::unfinished(&mut self.directory)? {
            if let Some(job) = directory::take_up(&mut self.directory, id)? {
                moved.push(self.drive(job)?);
            }
        }
        Ok(moved)
    }

    fn map(&mut self) -> Result<SlotMap> {
        directory::map(&mut self.directory)
    }

    /// Takes a move from wherever it is to its end.
    fn drive(&mut self, job: Move) -> Result<Moved> {
        let driven = self.try_drive(job);
        if driven.is_err() {
            // Whatever the sessions hold, writers may be waiting for it: they end, and the instances let go.
            self.connections.clear();
        }
        driven
    }

    fn try_drive(&mut self, mut job: Move) -> Result<Moved> {
        let mut moved = Moved { slots: job.slots.len() as u64, ..Moved::default() };
        while job.step != Step::Done {
            let began = Instant::now();
            let took = |began: Instant| began.elapsed().as_secs_f64();
            match job.step {
                Step::Copying => {
                    self.open_capture(&job)?;
                    self.prepare_target(&job)?;
                    moved.rows += self.copy(&job)?;
                    self.point("copied");
                    directory::advance(&mut self.directory, &mut job, Step::CatchingUp)?;
                    moved.copy += took(began);
                }
                Step::CatchingUp => {
                    self.stamp(&job)?;
                    moved.caught_up += self.catch_up(&job)?;
                    self.point("caught-up");
                    directory::advance(&mut self.directory, &mut job, Step::HandingOver)?;
                    moved.catch_up += took(began);
                }
                Step::HandingOver => {
                    self.stamp(&job)?;
                    if let Err(difference) = self.hand_over(&job, &mut moved)? {
                        directory::advance(&mut self.directory, &mut job, Step::Abandoning)?;
                        self.abandon(&mut job)?;
                        return Err(difference);
                    }
                    directory::flip(&mut self.directory, &mut job)?;
                    self.point("map-changed");
                }
                Step::Cleaning => {
                    self.stamp(&job)?;
                    self.clean(&job)?;
                    directory::advance(&mut self.directory, &mut job, Step::Done)?;
                    moved.clean += took(began);
                }
                Step::Abandoning => {
                    self.abandon(&mut job)?;
                    moved.slots = 0;
                }
                Step::Done => {}
            }
        }
        Ok(moved)
    }

    /// The source notes every write from here on. Waits for writers that looked before.
    fn open_capture(&mut self, job: &Move) -> Result<()> {
        let from = [State::Serving, State::Captured];
        self.change_fences(&job.source, job, &from, |fence| Fence { state: State::Captured, ..fence.clone() })?;
        self.point("capture-open");
        Ok(())
    }

    /// The target waits for rows that nobody can see. What an earlier attempt left there goes first.
    fn prepare_target(&mut self, job: &Move) -> Result<()> {
        let epochs = self.glance(&job.source, job)?;
        let epoch_at_source: HashMap<Slot, u64> = epochs.iter().map(|fence| (fence.slot, fence.epoch)).collect();
        let from = [State::Absent, State::Incoming];
        self.change_fences(&job.target, job, &from, |fence| Fence {
            state: State::Incoming,
            epoch: epoch_at_source.get(&fence.slot).map_or(0, |epoch| epoch + 1),
            next_owner: None,
            ..fence.clone()
        })?;
        self.remove_rows(&job.target, job, &[State::Incoming])?;
        self.point("target-ready");
        Ok(())
    }

    fn copy(&mut self, job: &Move) -> Result<u64> {
        let (mut copied, mut waiting) = (0, Vec::new());
        for &slot in &job.slots {
            let mut after: Option<u64> = None;
            loop {
                let rows = self.rows_after(&job.source, slot, after)?;
                let Some((_, last)) = rows.last() else { break };
                after = Some(last.id);
                waiting.extend(rows);
                if waiting.len() >= self.spec.chunk {
                    copied += self.store(job, &std::mem::take(&mut waiting))?;
                    self.point("chunk-copied");
                }
            }
        }
        copied += self.store(job, &waiting)?;
        self.point("chunk-copied");
        Ok(copied)
    }

    fn rows_after(&mut self, source: &str, slot: Slot, after: Option<u64>) -> Result<Vec<(Slot, User)>> {
        let limit = self.spec.chunk;
        let (from, bound) = after.map_or((0, ">="), |id| (id, ">"));
        let sql = format!(
            "SELECT id, name, score, visits FROM users WHERE slot = ? AND id {bound} ? ORDER BY id LIMIT {limit}"
        );
        let rows: Vec<(u64, String, i64, u64)> =
            self.connection(source)?.exec(sql, (slot, from)).doing("read rows to be copied")?;
        Ok(rows.into_iter().map(|(id, name, score, visits)| (slot, User { id, name, score, visits })).collect())
    }

    /// Puts rows into the copy, as long as it is this mover's.
    fn store(&mut self, job: &Move, rows: &[(Slot, User)]) -> Result<u64> {
        self.at_target(job, |connection| put_rows(connection, rows))?;
        Ok(rows.len() as u64)
    }

    /// One transaction at the target that only the mover with the newest token may make, and only on a copy.
    fn at_target(&mut self, job: &Move, act: impl FnOnce(&mut Conn) -> mysql::Result<()>) -> Result<()> {
        let doing = "write to the copy";
        let connection = self.connection(&job.target)?;
        connection.query_drop("START TRANSACTION").doing(doing)?;
        let fences = fence::seize(connection, &job.slots).doing(doing)?;
        if !fences.iter().all(|fence| fence.state == State::Incoming && fence.token == job.token) {
            connection.query_drop("ROLLBACK").doing(doing)?;
            return Err(superseded(job));
        }
        let done = act(connection).and_then(|()| connection.query_drop("COMMIT"));
        self.or_disconnect(&job.target, done).doing(doing).map_err(|error| error.at(&job.target))
    }

    /// Applies what was noted, round by round, until little is left.
    fn catch_up(&mut self, job: &Move) -> Result<u64> {
        let mut applied = 0;
        if self.skips(Skip::CatchUp) {
            return Ok(0);
        }
        for _ in 0..ROUNDS {
            let changes = self.changes(job)?;
            applied += self.apply(job, &changes)?;
            // What has been applied need not be read again; a change that is noted now has another number.
            let numbers: Vec<String> = changes.iter().map(|(number, ..)| number.to_string()).collect();
            for numbers in numbers.chunks(1_000) {
                let sql = format!("DELETE FROM changes WHERE seq IN ({})", numbers.join(","));
                self.connection(&job.source)?.query_drop(sql).doing("tidy the change log")?;
            }
            if changes.len() <= FEW {
                break;
            }
        }
        Ok(applied)
    }

    fn changes(&mut self, job: &Move) -> Result<Vec<(u64, Slot, u64)>> {
        let sql = format!("SELECT seq, slot, id FROM changes WHERE slot IN ({}) ORDER BY seq", list(&job.slots));
        self.connection(&job.source)?.query(sql).doing("read the change log")
    }

    /// Makes the copy's rows of these users what the source's are now: it does not matter how often, or in which order.
    fn apply(&mut self, job: &Move, changes: &[(u64, Slot, u64)]) -> Result<u64> {
        let changed: BTreeSet<(Slot, u64)> = changes.iter().map(|&(_, slot, id)| (slot, id)).collect();
        let changed: Vec<(Slot, u64)> = changed.into_iter().collect();
        for some in changed.chunks(self.spec.chunk) {
            // Slot by slot: the optimiser makes ranges of the primary key of this, and a whole scan of pairs.
            let mut ids: BTreeMap<Slot, Vec<String>> = BTreeMap::new();
            for (slot, id) in some {
                ids.entry(*slot).or_default().push(id.to_string());
            }
            let places: Vec<String> =
                ids.iter().map(|(slot, ids)| format!("(slot = {slot} AND id IN ({}))", ids.join(","))).collect();
            let places = places.join(" OR ");
            let sql = format!("SELECT slot, id, name, score, visits FROM users WHERE {places}");
            let rows: Vec<(Slot, u64, String, i64, u64)> =
                self.connection(&job.source)?.query(sql).doing("read what changed")?;
            let rows: Vec<(Slot, User)> = rows
                .into_iter()
                .map(|(slot, id, name, score, visits)| (slot, User { id, name, score, visits }))
                .collect();
            self.at_target(job, |connection| {
                connection.query_drop(format!("DELETE FROM users WHERE {places}"))?;
                put_rows(connection, &rows)
            })?;
        }
        Ok(changes.len() as u64)
    }

    /// The hand-over. Inside: why both sides differ, where they do.
    fn hand_over(&mut self, job: &Move, moved: &mut Moved) -> Result<Result<()>> {
        let requested = Instant::now();
        let source = self.glance(&job.source, job)?;
        // A mover that died after the release has left the rows as they were, and nobody has written since.
        let released = source.iter().all(|fence| fence.state == State::Released);
        let target = self.glance(&job.target, job)?;
        let granted = target.iter().all(|fence| fence.state.serves());
        let mut nobody = Instant::now();
        if !granted {
            if !self.skips(Skip::Lock) {
                self.seize_source(job)?;
                self.point("writers-held");
            }
            if !self.skips(Skip::CatchUp) {
                let changes = self.changes(job)?;
                moved.last_changes += self.apply(job, &changes)?;
            }
            self.point("last-changes-applied");
            let began = Instant::now();
            let compared = if self.skips(Skip::Verify) { Ok(()) } else { self.compare(job)? };
            moved.compare += began.elapsed().as_secs_f64();
            if compared.is_err() {
                self.connection(&job.source)?.query_drop("ROLLBACK").doing("let the writers go on")?;
                // After a release there is no way back: it was compared before, so something else has written the copy.
                return if released { compared.map(Ok) } else { Ok(compared) };
            }
            self.point("compared");
            if self.skips(Skip::Lock) {
                self.seize_source(job)?;
            }
            self.release(job, released)?;
            nobody = Instant::now();
            self.point("released");
            self.grant(job)?;
        }
        moved.nobody += nobody.elapsed().as_secs_f64();
        moved.writers_held += requested.elapsed().as_secs_f64();
        self.point("granted");
        Ok(Ok(()))
    }

    /// Begins the transaction in which writers wait. It ends with the release, or with the mover.
    fn seize_source(&mut self, job: &Move) -> Result<()> {
        let doing = "hold the writers";
        let grip = self.spec.grip.max(1);
        let connection = self.connection(&job.source)?;
        connection.query_drop(format!("SET SESSION wait_timeout = {grip}")).doing(doing)?;
        connection.query_drop("START TRANSACTION").doing(doing)?;
        let fences = fence::seize(connection, &job.slots).doing(doing)?;
        let mine =
            |fence: &Fence| [State::Captured, State::Released].contains(&fence.state) && fence.token == job.token;
        if fences.iter().all(mine) {
            return Ok(());
        }
        connection.query_drop("ROLLBACK").doing(doing)?;
        Err(superseded(job))
    }

    /// From this commit on, the source refuses, and says who is next.
    fn release(&mut self, job: &Move, already: bool) -> Result<()> {
        let sql = format!(
            "UPDATE fences SET state = {}, epoch = epoch + 1, next_owner = ? WHERE slot IN ({})",
            State::Released as u8,
            list(&job.slots)
        );
        let target = job.target.clone();
        let connection = self.connection(&job.source)?;
        let done = match already {
            true => connection.query_drop("COMMIT"),
            false => connection.exec_drop(sql, (target,)).and_then(|()| connection.query_drop("COMMIT")),
        };
        let done = done.and_then(|()| connection.query_drop("SET SESSION wait_timeout = DEFAULT"));
        self.or_disconnect(&job.source, done).doing("release the slots").map_err(|error| error.at(&job.source))
    }

    /// From this commit on, the target serves.
    fn grant(&mut self, job: &Move) -> Result<()> {
        let sql = format!("UPDATE fences SET state = {} WHERE slot IN ({})", State::Serving as u8, list(&job.slots));
        self.at_target(job, |connection| connection.query_drop(sql))
    }

    /// Number of rows and checksum of every slot, on both sides.
    fn compare(&mut self, job: &Move) -> Result<Result<()>> {
        let sums = [self.checksums(&job.source, job)?, self.checksums(&job.target, job)?];
        let differ = job.slots.iter().find(|slot| sums[0].get(slot) != sums[1].get(slot));
        Ok(match differ {
            None => Ok(()),
            Some(slot) => {
                let rows = |side: &BTreeMap<Slot, (u64, u64)>| side.get(slot).map_or(0, |(rows, _)| *rows);
                let cause = format!(
                    "slot {slot} differs: {} rows at {}, {} at {}",
                    rows(&sums[0]),
                    job.source,
                    rows(&sums[1]),
                    job.target
                );
                let error = Error::new(format!("hand over {} slots", job.slots.len()), cause);
                Err(error.remedy("they stay where they were; the copy was given up"))
            }
        })
    }

    fn checksums(&mut self, name: &str, job: &Move) -> Result<BTreeMap<Slot, (u64, u64)>> {
        let sql = format!(
            "SELECT slot, COUNT(*), BIT_XOR(CAST(CONV(LEFT(MD5(CONCAT_WS('#', id, name, score, visits)), 16), 16, 10) \
             AS UNSIGNED)) FROM users FORCE INDEX (PRIMARY) WHERE slot IN ({}) GROUP BY slot",
            list(&job.slots)
        );
        let rows: Vec<(Slot, u64, u64)> = self.connection(name)?.query(sql).doing("compare both sides")?;
        Ok(rows.into_iter().map(|(slot, rows, sum)| (slot, (rows, sum))).collect())
    }

    /// Takes the rows of the slots away from the source, then says that nothing is there.
    fn clean(&mut self, job: &Move) -> Result<()> {
        let fences = self.glance(&job.source, job)?;
        if fences.iter().all(|fence| fence.state == State::Absent) {
            return Ok(());
        }
        self.remove_rows(&job.source, job, &[State::Released])?;
        self.forget_changes(job)?;
        let from = [State::Released, State::Absent];
        self.change_fences(&job.source, job, &from, |fence| Fence { state: State::Absent, ..fence.clone() })
    }

    /// Before the hand-over: the source goes on as if nothing had been planned, and the copy goes.
    fn abandon(&mut self, job: &mut Move) -> Result<()> {
        self.stamp(job)?;
        let from = [State::Captured, State::Serving];
        self.change_fences(&job.source, job, &from, |fence| Fence { state: State::Serving, ..fence.clone() })?;
        self.forget_changes(job)?;
        if self.glance(&job.target, job)?.iter().any(|fence| fence.state == State::Incoming) {
            self.remove_rows(&job.target, job, &[State::Incoming])?;
            let from = [State::Incoming, State::Absent];
            self.change_fences(&job.target, job, &from, |fence| Fence { state: State::Absent, ..fence.clone() })?;
        }
        directory::advance(&mut self.directory, job, Step::Done)
    }

    fn forget_changes(&mut self, job: &Move) -> Result<()> {
        let sql = format!("DELETE FROM changes WHERE slot IN ({})", list(&job.slots));
        self.connection(&job.source)?.query_drop(sql).doing("tidy the change log")
    }

    /// Removes the slots' rows, some at a time, while the fences are in one of these states and this mover's.
    fn remove_rows(&mut self, name: &str, job: &Move, states: &[State]) -> Result<()> {
        let doing = "remove rows";
        let most = self.spec.chunk.max(1_000) as u64;
        loop {
            let connection = self.connection(name)?;
            connection.query_drop("START TRANSACTION").doing(doing)?;
            let fences = fence::seize(connection, &job.slots).doing(doing)?;
            if !fences.iter().all(|fence| states.contains(&fence.state) && fence.token == job.token) {
                connection.query_drop("ROLLBACK").doing(doing)?;
                return Err(superseded(job));
            }
            let removed = Self::remove_some(connection, &job.slots, most);
            let removed = self.or_disconnect(name, removed).doing(doing).map_err(|error| error.at(name))?;
            if removed < most {
                return Ok(());
            }
        }
    }

    fn remove_some(connection: &mut Conn, slots: &[Slot], most: u64) -> mysql::Result<u64> {
        let mut removed = 0;
        for slot in slots {
            let sql = format!("DELETE FROM users WHERE slot = {slot} LIMIT {}", most - removed);
            connection.query_drop(sql)?;
            removed += connection.affected_rows();
            if removed >= most {
                break;
            }
        }
        connection.query_drop("COMMIT")?;
        Ok(removed)
    }

    /// Both sides' fences get this mover's token, so that whoever drove the move before is refused.
    fn stamp(&mut self, job: &Move) -> Result<()> {
        for name in [&job.source, &job.target] {
            let any = [State::Absent, State::Serving, State::Captured, State::Incoming, State::Released];
            self.change_fences(name, job, &any, Fence::clone)?;
        }
        Ok(())
    }

    /// Changes the slots' fences on one instance, all of them or none; refused to a mover with an old token.
    fn change_fences(&mut self, name: &str, job: &Move, from: &[State], to: impl Fn(&Fence) -> Fence) -> Result<()> {
        let doing = "change the fences";
        let connection = self.connection(name)?;
        connection.query_drop("START TRANSACTION").doing(doing)?;
        let fences = fence::seize(connection, &job.slots).doing(doing)?;
        if !fences.iter().all(|fence| fence.token <= job.token && from.contains(&fence.state)) {
            connection.query_drop("ROLLBACK").doing(doing)?;
            return Err(superseded(job));
        }
        let changed = fences.iter().map(|fence| Fence { token: job.token, ..to(fence) });
        let changed: Vec<Fence> = changed.zip(&fences).filter(|(new, old)| new != *old).map(|(new, _)| new).collect();
        let rows = changed.iter().map(|fence| {
            let next = fence.next_owner.as_ref().map_or("NULL".into(), |name| format!("'{name}'"));
            format!("({},{},{},{},{next})", fence.slot, fence.state as u8, fence.epoch, fence.token)
        });
        let rows: Vec<String> = rows.collect();
        let sql = format!(
            "INSERT INTO fences (slot, state, epoch, token, next_owner) VALUES {} ON DUPLICATE KEY UPDATE \
             state = VALUES(state), epoch = VALUES(epoch), token = VALUES(token), next_owner = VALUES(next_owner)",
            rows.join(",")
        );
        let done = if rows.is_empty() { Ok(()) } else { connection.query_drop(sql) };
        let done = done.and_then(|()| connection.query_drop("COMMIT"));
        self.or_disconnect(name, done).doing(doing).map_err(|error| error.at(name))
    }

    fn glance(&mut self, name: &str, job: &Move) -> Result<Vec<Fence>> {
        fence::glance(self.connection(name)?, &job.slots).doing("look at the fences").map_err(|error| error.at(name))
    }

    fn skips(&self, skip: Skip) -> bool {
        self.spec.skips.contains(&skip)
    }

    fn point(&mut self, name: &str) {
        if let Some(watcher) = &mut self.watcher {
            watcher(name);
        }
        crash::point(name);
    }

    /// After an error nobody knows what the session still holds: it ends, and the instance lets go.
    fn or_disconnect<T>(&mut self, name: &str, done: mysql::Result<T>) -> mysql::Result<T> {
        if done.is_err() {
            self.connections.remove(name);
        }
        done
    }

    fn connection(&mut self, name: &str) -> Result<&mut Conn> {
        if !self.connections.contains_key(name) {
            let mut connection = self.cluster.connect(name)?;
            // Each statement sees what is committed: a move works on what is there now, not on what was there when its
            // transaction began.
            let isolation = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";
            connection.query_drop(isolation).doing("set up a mover's session")?;
            self.connections.insert(name.to_string(), connection);
        }
        self.connections.get_mut(name).ok_or_else(|| Error::new("connect to an instance", "it is gone").at(name))
    }
}

/// What a mover in a process of its own is told, in [`MOVER`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Errand {
    pub(crate) cluster: Cluster,
    pub(crate) spec: MoverSpec,
    /// The instances that shall own all slots.
    pub(crate) onto: Vec<String>,
}

/// The variable that holds an errand, as JSON: it has the instances' URLs in it, so it is no argument.
pub(crate) const MOVER: &str = "LAB_SHARDING_ERRAND";

/// What `lab mover` does: the errand in its environment. Says on standard output what each move cost.
pub fn mover_process() -> Result<()> {
    let doing = "read the mover's errand";
    let text = std::env::var(MOVER).doing(doing)?;
    let errand: Errand = serde_json::from_str(&text).doing(doing)?;
    let moved = Mover::new(&errand.cluster, errand.spec)?.reshard(&Weight::equal(errand.onto))?;
    for moved in moved {
        crash::acknowledge(serde_json::to_string(&moved).doing("say what a move cost")?);
    }
    Ok(())
}

/// How long a supervisor waits before it takes a dead mover's work up: nothing depends on it but the pause.
pub(crate) const SUPERVISOR: Duration = Duration::from_millis(100);

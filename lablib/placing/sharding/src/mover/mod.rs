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
//! Whatever the mover holds, it holds in a transaction that begins with a look at its token: when it dies, the instance lets
//! go at once; when it is cut off or stuck, after some seconds of silence ([`MoverSpec::grip`]); and whatever it does after
//! another one has taken the move up is refused.

mod cleaning;
mod copying;
mod handing_over;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use mysql::Conn;
use mysql::prelude::Queryable;
use serde::{Deserialize, Serialize};

use super::Skip;
use super::cluster::Cluster;
use super::directory::{self, Move, Step, superseded};
use super::fence::{self, Fence, State};
use super::route::{Slot, SlotMap, Transfer, Weight};
use lab::{Doing, Error, Result, crash, errand};

/// The named points of a move, in their order: where it can be killed.
///
/// A move that is given up passes `given-up` when its source serves as before and its copy is still there.
pub const POINTS: [&str; 14] = [
    "move-planned",
    "capture-open",
    "target-ready",
    "chunk-read",
    "chunk-copied",
    "copied",
    "caught-up",
    "writers-held",
    "last-changes-applied",
    "compared",
    "released",
    "granted",
    "map-changed",
    "rows-removed",
];

/// How to move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoverSpec {
    /// Slots of one move: fewer commits in all, and longer hand-overs, with more of them.
    pub batch: usize,
    /// Rows of one transaction at the target.
    pub chunk: usize,
    /// Seconds of silence in the middle of a transaction, after which the instance ends the mover's session and lets go of
    /// what it held, writers above all: for a mover that is cut off, or stuck, without being dead.
    pub grip: u32,
    /// Steps left out, to see what notices.
    pub skips: Vec<Skip>,
}

impl Default for MoverSpec {
    fn default() -> Self {
        Self { batch: 16, chunk: 500, grip: 15, skips: Vec::new() }
    }
}

/// What a mover in a process of its own is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Errand {
    pub(crate) cluster: Cluster,
    pub(crate) spec: MoverSpec,
    /// The instances that shall own all slots.
    pub(crate) onto: Vec<String>,
}

/// What `lab mover` does. Says what each move cost.
pub fn mover_process() -> Result<()> {
    let told: Errand = errand::told()?;
    let moved = Mover::new(&told.cluster, told.spec)?.reshard(&Weight::equal(told.onto))?;
    moved.iter().try_for_each(errand::say)
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
    /// The directory's change and the cleaning.
    pub clean: f64,
}

/// Moves slots. One at a time is meant to work on a move; a second one takes it over.
pub struct Mover<'a> {
    cluster: Cluster,
    spec: MoverSpec,
    directory: Conn,
    connections: HashMap<String, Conn>,
    watcher: Option<Watcher<'a>>,
}

/// Told of every named point.
type Watcher<'a> = Box<dyn FnMut(&str) + Send + 'a>;

impl<'a> Mover<'a> {
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
    pub fn watched_by(mut self, watcher: impl FnMut(&str) + Send + 'a) -> Self {
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
            // The directory's may be broken, too; where it cannot be reached, the next try says so.
            if let Ok(directory) = self.cluster.directory() {
                self.directory = directory;
            }
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
        self.change_fences_and(name, job, from, to, |_| Ok(()))
    }

    /// As [`change_fences`](Self::change_fences), and does something else in the same transaction.
    fn change_fences_and(
        &mut self,
        name: &str,
        job: &Move,
        from: &[State],
        to: impl Fn(&Fence) -> Fence,
        also: impl FnOnce(&mut Conn) -> mysql::Result<()>,
    ) -> Result<()> {
        let mine = |fence: &Fence| fence.token <= job.token && from.contains(&fence.state);
        self.seizing(name, job, "change the fences", mine, |connection, fences| {
            set_fences(connection, &fences, |fence| Fence { token: job.token, ..to(fence) })?;
            also(connection)
        })
    }

    /// One transaction that only the mover with the newest token may make, and only while the slots' fences on this instance
    /// are in one of these states.
    fn holding<T>(
        &mut self,
        name: &str,
        job: &Move,
        states: &[State],
        doing: &str,
        act: impl FnOnce(&mut Conn) -> mysql::Result<T>,
    ) -> Result<T> {
        let mine = |fence: &Fence| fence.token == job.token && states.contains(&fence.state);
        self.seizing(name, job, doing, mine, |connection, _| act(connection))
    }

    fn seizing<T>(
        &mut self,
        name: &str,
        job: &Move,
        doing: &str,
        mine: impl Fn(&Fence) -> bool,
        act: impl FnOnce(&mut Conn, Vec<Fence>) -> mysql::Result<T>,
    ) -> Result<T> {
        let connection = self.connection(name)?;
        let seize = |connection: &mut Conn| {
            connection.query_drop("START TRANSACTION")?;
            let fences = fence::seize(connection, &job.slots)?;
            if fences.len() < job.slots.len() || !fences.iter().all(mine) {
                return connection.query_drop("ROLLBACK").map(|()| None);
            }
            let acted = act(connection, fences)?;
            connection.query_drop("COMMIT").map(|()| Some(acted))
        };
        let acted = seize(connection);
        let acted = self.or_disconnect(name, acted).doing(doing).map_err(|error| error.at(name))?;
        acted.ok_or_else(|| superseded(job))
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
        Ok(match self.connections.entry(name.to_string()) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(place) => {
                let mut connection = self.cluster.connect(name)?;
                // Each statement sees what is committed: a move works on what is there now, not on what was there when its
                // transaction began.
                let isolation = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED".to_string();
                let grip = format!("SET SESSION idle_transaction_timeout = {}", self.spec.grip.max(1));
                for setting in [isolation, grip] {
                    connection.query_drop(setting).doing("set up a mover's session")?;
                }
                place.insert(connection)
            }
        })
    }
}

/// Sets those of these fences that are to be others.
fn set_fences(connection: &mut Conn, fences: &[Fence], to: impl Fn(&Fence) -> Fence) -> mysql::Result<()> {
    let changed = fences.iter().map(|fence| (fence, to(fence))).filter(|(old, new)| *old != new);
    let rows = changed.map(|(_, fence)| {
        let next = fence.next_owner.as_ref().map_or("NULL".into(), |name| format!("'{name}'"));
        format!("({},{},{},{},{next})", fence.slot, fence.state as u8, fence.epoch, fence.token)
    });
    let rows: Vec<String> = rows.collect();
    if rows.is_empty() {
        return Ok(());
    }
    connection.query_drop(format!(
        "INSERT INTO fences (slot, state, epoch, token, next_owner) VALUES {} ON DUPLICATE KEY UPDATE state = VALUES(state), \
         epoch = VALUES(epoch), token = VALUES(token), next_owner = VALUES(next_owner)",
        rows.join(",")
    ))
}

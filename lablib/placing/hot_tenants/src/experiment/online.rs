//! Re-splits under fire: writers and readers that never stop, and a register of what every read must find.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, thread};

use super::super::resplit::{Resplit, Step};
use super::super::shards::{BUCKETS, Document, Found, SearchShards, open};
use super::super::tenants::{Broken, TenantIndex, View};
use super::super::{Routing, Split};
use super::{disk_of_a_map, document, seed};
use lab::chart::Timeline;
use lab::{Chart, Error, OrFail, Result, Rng, Table};

/// Who is split anew, how often, and with which step left out.
#[derive(Debug, Clone, Copy)]
pub struct OnlineSpec {
    /// Documents of the tenant before the first re-split.
    pub documents: u64,
    /// Re-splits, each into another number of parts.
    pub resplits: u64,
    /// A step of the system that is left out.
    pub broken: Option<Broken>,
}

/// What the readers saw.
#[derive(Clone, Default)]
pub struct Checked {
    /// Reads that were checked, by the concurrent reader, the slow one, and one after every step of every re-split.
    pub reads: u64,
    /// Of these, by the two that run beside the re-splits, while one was going on.
    pub concurrent: u64,
    /// Documents written, updated and deleted meanwhile.
    pub changes: u64,
    /// Documents that moved to another shard.
    pub copied: u64,
    /// Documents that had been refreshed and were not found, over all reads.
    pub missing: u64,
    /// Documents that were found more than once.
    pub doubled: u64,
    /// Documents that were found in a version older than the one that had been refreshed.
    pub stale: u64,
    /// Documents that were found although their deletion had been refreshed.
    pub undead: u64,
    /// Copies left on the shards at the end that no reader can see.
    pub left_over: u64,
    /// The longest time that a switch held up the writers.
    pub held_up: Duration,
    /// When the steps of the first re-split were reached, in seconds from its start.
    pub steps: Vec<(Step, f64)>,
    /// When the concurrent readers read during it: start and end.
    pub read_at: Vec<(f64, f64)>,
    /// When the writer wrote during it.
    pub written_at: Vec<(f64, f64)>,
}

impl fmt::Debug for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reads, concurrent, changes, copied, missing, doubled, stale, undead, left_over, .. } = self;
        write!(
            f,
            "{reads} reads ({concurrent} beside a re-split), {changes} changes, {copied} copied: {missing} missing, \
             {doubled} doubled, {stale} stale, {undead} undead, {left_over} left over; held up for {:?}",
            self.held_up
        )
    }
}

impl Checked {
    /// Everything that was wrong.
    pub fn wrong(&self) -> u64 {
        self.missing + self.doubled + self.stale + self.undead + self.left_over
    }

    /// What was seen, in figures.
    pub fn table(&self, title: &str) -> Table {
        let rows = [
            ("reads checked", self.reads),
            ("… of these beside a re-split", self.concurrent),
            ("documents written, updated or deleted meanwhile", self.changes),
            ("documents moved", self.copied),
            ("missing", self.missing),
            ("found twice", self.doubled),
            ("found in an old version", self.stale),
            ("back from the dead", self.undead),
            ("copies left over", self.left_over),
        ];
        Table::new(title).text("over all reads", rows.map(|(what, _)| what)).counts(
            "number",
            "",
            rows.map(|(_, count)| count),
        )
    }

    /// The first re-split, step by step, with the reads and writes that went on beside it.
    pub fn timeline(&self, title: &str) -> Timeline {
        let mut chart = Chart::timeline(title).lane("re-split").lane("reads").lane("writes");
        let reached = |wanted: Step| self.steps.iter().rfind(|(step, _)| *step == wanted).map(|(_, at)| *at);
        let spans = [
            (Step::Announced, Step::Copied, "copy and catch up"),
            (Step::Copied, Step::Switched, "switch"),
            (Step::Switched, Step::Drained, "wait for readers"),
            (Step::Drained, Step::Done, "delete old copies"),
        ];
        for (from, to, label) in spans {
            if let (Some(from), Some(to)) = (reached(from), reached(to)) {
                chart = chart.span("re-split", from, to, label);
            }
        }
        let end = reached(Step::Done).unwrap_or(0.0);
        for (lane, times) in [("reads", &self.read_at), ("writes", &self.written_at)] {
            for (from, to) in times.iter().filter(|(from, to)| *to > 0.0 && *from < end) {
                chart = chart.span(lane, from.max(0.0), to.min(end), "");
            }
        }
        chart
    }
}

/// Splits a tenant anew, again and again, while it is read and written, and checks every read.
pub fn check_online(spec: &OnlineSpec, seed: u64) -> Checked {
    run(spec, seed).or_fail()
}

/// The same for each step of the system left out in turn, with a name for it.
pub fn check_broken(documents: u64, resplits: u64, seed: u64) -> Vec<(&'static str, Checked)> {
    let steps = [
        ("no bucket filter", Broken::NoBucketFilter),
        ("no catching up", Broken::NoCatchUp),
        ("deleted before the switch", Broken::DeleteBeforeSwitch),
        ("no waiting for readers", Broken::NoWaitForReaders),
        ("map not saved", Broken::MapNotSaved),
    ];
    let run = |step| check_online(&OnlineSpec { documents, resplits, broken: Some(step) }, seed);
    steps.into_iter().map(|(name, step)| (name, run(step))).collect()
}

/// What its readers saw, a row for each step left out: documents a read.
pub fn table_of_broken(title: &str, broken: &[(&'static str, Checked)]) -> Table {
    let per_read = |of: fn(&Checked) -> u64| broken.iter().map(move |(_, seen)| of(seen) as f64 / seen.reads as f64);
    Table::new(title)
        .text("left out", broken.iter().map(|(name, _)| *name))
        .numbers("missing", "", per_read(|seen| seen.missing))
        .numbers("found twice", "", per_read(|seen| seen.doubled))
        .numbers("in an old version", "", per_read(|seen| seen.stale))
        .numbers("back from the dead", "", per_read(|seen| seen.undead))
}

const TENANT: &str = "the-hot-one";
/// Room in the register: more documents are not written.
const MOST: usize = 100_000;
/// Reads and writes whose times are kept, from the first.
const SHOWN: usize = 2_000;
/// How long a client thinks between two requests.
const THINKS: Duration = Duration::from_millis(2);
/// How long the slow reader dawdles after a switch where the deletion waits for it.
const DAWDLE: Duration = Duration::from_millis(60);

/// What is known of every document of the tenant, its id being its place.
struct Register {
    next: AtomicU64,
    /// The version that is sure to be found, 0 for none.
    refreshed: Vec<AtomicU64>,
    /// Somebody has begun to delete it.
    deleting: Vec<AtomicBool>,
    /// It is sure to be gone.
    gone: Vec<AtomicBool>,
    wrong: Mutex<Checked>,
}

impl Register {
    fn new() -> Self {
        Self {
            next: AtomicU64::new(0),
            refreshed: (0..MOST).map(|_| AtomicU64::new(0)).collect(),
            deleting: (0..MOST).map(|_| AtomicBool::new(false)).collect(),
            gone: (0..MOST).map(|_| AtomicBool::new(false)).collect(),
            wrong: Mutex::default(),
        }
    }

    fn known(&self) -> usize {
        (self.next.load(Ordering::SeqCst) as usize).min(MOST)
    }

    /// Reads, and compares with what was certain before the reader took hold of the map.
    fn check<'a>(&self, index: &'a TenantIndex, dawdle: impl FnOnce(&View<'a>)) -> Result<()> {
        let known = self.known();
        let must: Vec<u64> = self.refreshed[..known].iter().map(|version| version.load(Ordering::SeqCst)).collect();
        let gone: Vec<bool> = self.gone[..known].iter().map(|gone| gone.load(Ordering::SeqCst)).collect();
        let view = index.view();
        dawdle(&view);
        let found = view.read(TENANT, None)?;
        drop(view);
        self.compare(&found, &must, &gone);
        Ok(())
    }

    fn compare(&self, found: &Found, must: &[u64], gone: &[bool]) {
        let mut seen: Vec<(u32, u64)> = vec![(0, 0); self.known()];
        for hit in &found.hits {
            if let Some((times, version)) = seen.get_mut(hit.id as usize) {
                (*times, *version) = (*times + 1, hit.version);
            }
        }
        let mut wrong = self.seen();
        wrong.reads += 1;
        for (id, (must, gone)) in must.iter().zip(gone).enumerate() {
            let (times, version) = seen[id];
            let certain = *must > 0 && !self.deleting[id].load(Ordering::SeqCst);
            wrong.missing += u64::from(certain && times == 0);
            wrong.stale += u64::from(times > 0 && version < *must);
            wrong.undead += u64::from(*gone && times > 0);
        }
        wrong.doubled += seen.iter().filter(|(times, _)| *times > 1).count() as u64;
    }

    fn seen(&self) -> MutexGuard<'_, Checked> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Documents that the tenant has, when nobody writes any more.
    fn alive(&self) -> u64 {
        let gone = |id: &usize| self.gone[*id].load(Ordering::SeqCst);
        (0..self.known()).filter(|id| !gone(id)).count() as u64
    }
}

/// Writes, updates and deletes; refreshes now and then, and only then tells the register.
struct Writer<'a> {
    index: &'a TenantIndex,
    register: &'a Register,
    rng: Rng,
    versions: Vec<u64>,
    alive: Vec<u64>,
    written: Vec<(u64, u64)>,
    deleted: Vec<u64>,
}

impl Writer<'_> {
    fn write(&mut self, new: u64, updates: u64, deletions: u64) -> Result<u64> {
        let mut batch: Vec<Document> = Vec::new();
        for _ in 0..new {
            let id = self.versions.len() as u64;
            if (id as usize) < MOST {
                self.versions.push(0);
                self.alive.push(id);
                batch.push(self.next_version(id));
            }
        }
        for _ in 0..updates {
            let id = self.alive[self.rng.below(self.alive.len() as u64) as usize];
            batch.push(self.next_version(id));
        }
        self.register.next.store(self.versions.len() as u64, Ordering::SeqCst);
        self.index.write(&batch)?;
        let mut doomed = Vec::new();
        for _ in 0..deletions.min(self.alive.len() as u64 / 2) {
            let id = self.alive.swap_remove(self.rng.below(self.alive.len() as u64) as usize);
            self.register.deleting[id as usize].store(true, Ordering::SeqCst);
            doomed.push(id);
        }
        self.index.delete_documents(TENANT, &doomed)?;
        let changes = (batch.len() + doomed.len()) as u64;
        self.deleted.extend(doomed);
        Ok(changes)
    }

    fn next_version(&mut self, id: u64) -> Document {
        let version = &mut self.versions[id as usize];
        *version += 1;
        self.written.push((id, *version));
        document(id, TENANT, *version, &mut self.rng)
    }

    fn refresh(&mut self) -> Result<()> {
        self.index.refresh()?;
        for (id, version) in self.written.drain(..) {
            self.register.refreshed[id as usize].store(version, Ordering::SeqCst);
        }
        for id in self.deleted.drain(..) {
            self.register.gone[id as usize].store(true, Ordering::SeqCst);
        }
        Ok(())
    }
}

/// Where the current re-split is, for those who wait for it.
#[derive(Default)]
struct Stage {
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Default)]
struct Now {
    step: Option<Step>,
    /// The slow reader has taken hold of the map.
    held: bool,
}

impl Stage {
    fn set(&self, change: impl FnOnce(&mut Now)) {
        change(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn is_going_on(&self) -> bool {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        !matches!(now.step, None | Some(Step::Done))
    }

    /// Waits for that, but no longer than so long; says whether it came.
    fn wait(&self, patience: Duration, come: impl Fn(&Now) -> bool) -> bool {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = self.changed.wait_timeout_while(now, patience, |now| !come(now));
        come(&wait.unwrap_or_else(PoisonError::into_inner).0)
    }
}

fn run(spec: &OnlineSpec, seed: u64) -> Result<Checked> {
    if spec.documents == 0 || spec.resplits == 0 || spec.documents as usize > MOST / 2 {
        return Err(Error::new("check re-splits", format!("{spec:?} is no experiment")));
    }
    let disk = disk_of_a_map()?;
    let shards: Arc<dyn SearchShards> = open(Routing::new(seed::SHARDS)?)?.into();
    let index = TenantIndex::open(shards.clone(), disk.clone())?;
    let index = spec.broken.into_iter().fold(index, TenantIndex::broken);

    let (register, stage, stop) = (Register::new(), Stage::default(), AtomicBool::new(false));
    let mut rng = Rng::seeded(seed, "re-splits");
    let mut writer = Writer {
        index: &index,
        register: &register,
        rng: Rng::seeded(seed, "changes"),
        versions: Vec::new(),
        alive: Vec::new(),
        written: Vec::new(),
        deleted: Vec::new(),
    };
    writer.write(spec.documents, 0, 0)?;
    writer.refresh()?;

    let started = Instant::now();
    let (mut copied, mut held_up) = (0, Duration::ZERO);
    // Where nobody waits for the slow reader, it waits for the deletion.
    let dawdles = match spec.broken {
        Some(Broken::NoWaitForReaders) => Duration::from_secs(10),
        _ => DAWDLE,
    };
    let (changes, concurrent, read_at, written_at) = thread::scope(|scope| {
        let writing = scope.spawn(|| -> Result<(u64, Vec<(f64, f64)>)> {
            let (mut changes, mut times) = (0, Vec::new());
            for round in 1_u64.. {
                let from = started.elapsed().as_secs_f64();
                changes += writer.write(20, 10, 5)?;
                if times.len() < SHOWN {
                    times.push((from, started.elapsed().as_secs_f64()));
                }
                if round.is_multiple_of(16) {
                    writer.refresh()?;
                }
                thread::sleep(THINKS);
                if stop.load(Ordering::SeqCst) {
                    break;
                }
            }
            writer.refresh()?;
            Ok((changes, times))
        });
        let reading = scope.spawn(|| -> Result<(u64, Vec<(f64, f64)>)> {
            let (mut during, mut times) = (0, Vec::new());
            while !stop.load(Ordering::SeqCst) {
                let (before, from) = (stage.is_going_on(), started.elapsed().as_secs_f64());
                register.check(&index, |_| ())?;
                if times.len() < SHOWN {
                    times.push((from, started.elapsed().as_secs_f64()));
                }
                during += u64::from(before && stage.is_going_on());
                thread::sleep(THINKS);
            }
            Ok((during, times))
        });
        // Takes hold of the map before the switch, and asks the shards after it.
        let dawdling = scope.spawn(|| -> Result<u64> {
            let mut during = 0;
            while !stop.load(Ordering::SeqCst) {
                if stage.wait(Duration::from_millis(20), |now| now.step == Some(Step::Copied) && !now.held) {
                    register.check(&index, |_| {
                        stage.set(|now| now.held = true);
                        stage.wait(Duration::from_secs(10), |now| now.step != Some(Step::Copied));
                        stage.wait(dawdles, |now| matches!(now.step, None | Some(Step::Done)));
                    })?;
                    during += 1;
                }
            }
            Ok(during)
        });
        let mut resplit_all = || -> Result<()> {
            for round in 0..spec.resplits {
                let first = round == 0;
                let watch = |step: Step| {
                    stage.set(|now| *now = Now { step: Some(step), held: false });
                    if step == Step::Copied {
                        stage.wait(Duration::from_secs(5), |now| now.held);
                    }
                    if first {
                        register.seen().steps.push((step, started.elapsed().as_secs_f64()));
                    }
                    // A failure here would show as missing documents, and does in the readers' own threads.
                    let _ = register.check(&index, |_| ());
                };
                let split = match round % 5 {
                    4 => None,
                    part => Some(random(&index, [3, 5, 10, 2][part as usize], &mut rng)?),
                };
                let Resplit { copied: documents, held_up: time, .. } = index.resplit_watched(TENANT, split, &watch)?;
                copied += documents;
                held_up = held_up.max(time);
            }
            Ok(())
        };
        let done = resplit_all();
        stop.store(true, Ordering::SeqCst);
        stage.set(|now| now.step = None);
        let panicked = || Error::new("check re-splits", "a thread panicked");
        let writing = writing.join().map_err(|_| panicked())?;
        let reading = reading.join().map_err(|_| panicked())?;
        let dawdling = dawdling.join().map_err(|_| panicked())?;
        done?;
        let ((changes, written_at), (during, read_at), slow) = (writing?, reading?, dawdling?);
        Ok::<_, Error>((changes, during + slow, read_at, written_at))
    })?;
    // After a restart: nothing but what is on the disk.
    drop(index);
    let index = TenantIndex::open(shards.clone(), disk)?;
    register.check(&index, |_| ())?;
    let held: u64 = shards.loads()?.iter().map(|load| load.documents).sum();
    let left_over = held.saturating_sub(register.alive());
    let wrong = register.wrong.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Checked { changes, concurrent, copied, held_up, left_over, read_at, written_at, ..wrong })
}

/// Each bucket on any of so many shards.
fn random(index: &TenantIndex, parts: usize, rng: &mut Rng) -> Result<Split> {
    let all: Vec<usize> = (0..index.routing().primaries() as usize).collect();
    let shards = rng.pick(&all, parts);
    let homes: Vec<usize> = (0..BUCKETS).map(|_| shards[rng.below(shards.len() as u64) as usize]).collect();
    Split::over(index.routing(), TENANT, &homes)
}

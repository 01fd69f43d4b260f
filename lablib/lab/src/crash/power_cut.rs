//! A store, a power cut after every operation, and what must be there afterwards.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::outcome::Tearing;
use super::simulated::{Fault, SimulatedDisk};
use crate::{Error, Result, Rng};

/// A store that promises to keep what it acknowledged, as a [`PowerCutTest`] sees it.
///
/// `self` is how the store is configured. [`apply`](Durable::apply) acknowledges by returning `Ok`. A step that is not
/// acknowledged may have happened or not, and nothing between.
pub trait Durable {
    /// The store when it is open.
    type Store;
    /// Something that a client asks for.
    type Step: Debug;
    /// All that a client can read.
    type State: Clone + PartialEq + Debug + Default;

    /// Opens the store, new or as it was left; whatever recovery there is happens here.
    fn open(&self, disk: &SimulatedDisk) -> Result<Self::Store>;
    /// Does a step. `Ok` says that it lasts.
    fn apply(&self, store: &mut Self::Store, step: &Self::Step) -> Result<()>;
    /// What the store says that it holds.
    fn state(&self, store: &mut Self::Store) -> Result<Self::State>;
    /// What it should hold after a step.
    fn expected(&self, before: &Self::State, step: &Self::Step) -> Self::State;
}

/// Cuts the power, again and again.
///
/// Each case runs the steps, cuts the power (case 0 before the first operation, case 1 after it, and so on, round and
/// round), opens the store on what is left, compares, and goes on from there. From the second round on, the power is cut
/// three times in a case.
///
/// ```
/// use lab::crash::PowerCutTest;
/// use lab::disk::Disk;
///
/// let hello = |syncs: bool| {
///     let live = move |disk: &lab::crash::SimulatedDisk| -> std::io::Result<()> {
///         let file = disk.create("hello")?;
///         disk.sync_dir("")?;
///         file.append(b"world")?;
///         if syncs { file.sync_data() } else { Ok(()) }
///     };
///     PowerCutTest::new("hello").each_cut(live, |after, acknowledged| {
///         let there = after.read("hello").is_ok_and(|bytes| bytes == b"world");
///         let lost = || lab::Error::new("find hello", "it is gone");
///         if there || acknowledged.is_err() { Ok(()) } else { Err(lost()) }
///     })
/// };
/// assert!(hello(true).is_ok());
/// assert!(hello(false).is_err());
/// ```
#[derive(Debug, Clone)]
pub struct PowerCutTest {
    name: String,
    seed: u64,
    cuts: u64,
    exhaustive: usize,
    failing_syncs: bool,
    short_writes: bool,
    kills: bool,
    tearing: Tearing,
    replay: Option<u64>,
}

/// What a store has come through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Survived {
    /// Operations on the disk in one undisturbed run.
    pub operations: u64,
    /// Cuts with a random outcome.
    pub cuts: u64,
    /// Outcomes of the cuts for which all were tried.
    pub outcomes: u64,
}

const LIVES: u32 = 3;

impl PowerCutTest {
    /// A test of the store called `name`: 1,000 cases, and nothing else goes wrong.
    pub fn new(name: &str) -> Self {
        let (failing_syncs, short_writes, kills, tearing) = (false, false, false, Tearing::default());
        let (name, seed, cuts, exhaustive, replay) = (name.to_string(), 1, 1_000, 0, None);
        Self { name, seed, cuts, exhaustive, failing_syncs, short_writes, kills, tearing, replay }
    }

    /// Another seed gives other outcomes.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How many cases; one cut each in the first round, then three.
    pub fn cuts(mut self, cuts: u64) -> Self {
        self.cuts = cuts;
        self
    }

    /// Also, after every operation where a cut has at most this many outcomes: all of them.
    pub fn every_outcome(mut self, limit: usize) -> Self {
        self.exhaustive = limit;
        self
    }

    /// What may become of a sector that was being written.
    pub fn tearing(mut self, tearing: Tearing) -> Self {
        self.tearing = tearing;
        self
    }

    /// In half of the lives, one sync fails.
    pub fn failing_syncs(mut self) -> Self {
        self.failing_syncs = true;
        self
    }

    /// In half of the lives, one write stops half-way.
    pub fn short_writes(mut self) -> Self {
        self.short_writes = true;
        self
    }

    /// Some lives end by `kill -9` instead: the next one finds what was not synced as well, and must not serve it as durable
    /// before it is. Not after a fault, as what a failed sync lost can still be read then.
    pub fn kills(mut self) -> Self {
        self.kills = true;
        self
    }

    /// Nothing but the case that a failure named.
    pub fn replay(mut self, case: u64) -> Self {
        self.replay = Some(case);
        self
    }

    /// Runs the steps with all these cuts. The error says which case failed, where it was cut, and what was missing.
    pub fn run<D: Durable>(&self, store: &D, steps: &[D::Step]) -> Result<Survived> {
        let operations = self.undisturbed(store, steps).map_err(|why| self.failed("without any cut", &why))?;
        let mut survived = Survived { operations, cuts: 0, outcomes: 0 };
        let everywhere = if self.exhaustive > 0 && self.replay.is_none() { operations + 1 } else { 0 };
        for cut in 0..everywhere {
            let disk = self.disk(self.seed);
            disk.cut_after(cut);
            let mut possible = vec![D::State::default()];
            let ended = live(store, &disk, steps, &mut possible);
            for (number, outcome) in disk.every_outcome(self.exhaustive).into_iter().flatten().enumerate() {
                let lived = ended.clone().and_then(|()| live(store, &outcome, &[], &mut possible.clone()));
                let place = || format!("outcome {number} of the cut after operation {cut}; last: {}", last(&disk));
                lived.map_err(|why| self.failed(&place(), &why))?;
                survived.outcomes += 1;
            }
        }
        for case in self.replay.map_or(0..self.cuts, |case| case..case + 1) {
            self.case(store, steps, case, operations).map_err(|(place, why)| {
                let place = format!("case {case} of seed {}, {place}", self.seed);
                self.failed(&place, &why).remedy(format!("see it again with .seed({}).replay({case})", self.seed))
            })?;
            survived.cuts += 1;
        }
        Ok(survived)
    }

    /// For what is not one store: `live` works on a disk until its power is out, `check` judges the disk afterwards by what
    /// `live` returned. What is acknowledged once [`SimulatedDisk::is_off`] does not count. Returns the number of cuts.
    pub fn each_cut<T>(
        &self,
        live: impl Fn(&SimulatedDisk) -> T,
        check: impl Fn(&SimulatedDisk, T) -> Result<()>,
    ) -> Result<u64> {
        let whole = self.disk(self.seed);
        live(&whole);
        let cases = self.replay.map_or(0..self.cuts, |case| case..case + 1);
        for case in cases.clone() {
            let mut rng = Rng::seeded(self.seed, &format!("cut {case}"));
            let disk = self.disk(rng.bits());
            let cut = case % (whole.operations() + 1);
            disk.cut_after(cut);
            let judged =
                calmly(|| Ok(live(&disk))).and_then(|found| calmly(|| check(&disk.power_cut(rng.bits()), found)));
            judged.map_err(|why| {
                let place =
                    format!("case {case} of seed {}, cut after operation {cut}; last: {}", self.seed, last(&disk));
                self.failed(&place, &why).remedy(format!("see it again with .seed({}).replay({case})", self.seed))
            })?;
        }
        Ok(cases.end - cases.start)
    }

    fn disk(&self, seed: u64) -> SimulatedDisk {
        SimulatedDisk::seeded(seed).tearing(self.tearing)
    }

    fn failed(&self, place: &str, why: &str) -> Error {
        Error::new("keep every promise through a power cut", format!("{why} [{place}]")).at(&self.name)
    }

    fn undisturbed<D: Durable>(&self, store: &D, steps: &[D::Step]) -> Result<u64, String> {
        let disk = self.disk(self.seed);
        let mut possible = vec![D::State::default()];
        live(store, &disk, steps, &mut possible)?;
        let operations = disk.operations();
        live(store, &disk.kill(), &[], &mut possible)?;
        Ok(operations)
    }

    fn case<D: Durable>(
        &self,
        store: &D,
        steps: &[D::Step],
        case: u64,
        operations: u64,
    ) -> Result<(), (String, String)> {
        let mut rng = Rng::seeded(self.seed, &format!("cut {case}"));
        let mut disk = self.disk(rng.bits());
        let mut possible = vec![D::State::default()];
        let mut history = String::new();
        let lives = if case <= operations { 1 } else { LIVES }; // the shortest failure first
        for life in 1..=lives {
            let cut = if life == 1 { case % (operations + 1) } else { rng.below(operations + 1) };
            disk.cut_after(cut);
            for (wanted, fault) in [(self.failing_syncs, Fault::FailedSync), (self.short_writes, Fault::ShortWrite)] {
                if wanted && rng.below(2) == 0 {
                    disk.inject(fault, 1 + rng.below(operations.div_ceil(2)));
                }
            }
            live(store, &disk, steps, &mut possible).map_err(|why| (format!("life {life}{history}"), why))?;
            let killed = self.kills && !disk.has_failed() && rng.below(3) == 0;
            let end = if killed { "killed" } else { "cut" };
            history = format!("{history}; life {life} {end} after operation {cut}; last: {}", last(&disk));
            disk = if killed { disk.kill() } else { disk.power_cut(rng.bits()) };
        }
        live(store, &disk, steps, &mut possible).map_err(|why| (format!("life {}{history}", lives + 1), why))
    }
}

/// The last operations before a cut.
fn last(disk: &SimulatedDisk) -> String {
    let trace = disk.trace();
    if trace.is_empty() { "nothing".into() } else { trace[trace.len().saturating_sub(4)..].join(", ") }
}

/// A store that panics over what it finds is a store that does not open.
fn calmly<T>(act: impl FnOnce() -> Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Err(format!("it panicked: {}", text.unwrap_or("without words")))
        }
    }
}

/// The beginning and the end of what may be long.
fn brief(value: &impl Debug) -> String {
    let text: Vec<char> = format!("{value:?}").chars().collect();
    match text.len() {
        0..=240 => text.iter().collect(),
        all => text[..80].iter().chain(&[' ', '…', ' ']).chain(&text[all - 160..]).collect(),
    }
}

/// Opens a store that may be in one of several states, looks which, and does the steps until the power is out.
fn live<D: Durable>(
    store: &D,
    disk: &SimulatedDisk,
    steps: &[D::Step],
    possible: &mut Vec<D::State>,
) -> Result<(), String> {
    let disturbed = || disk.is_off() || disk.has_failed();
    let mut open = match calmly(|| store.open(disk)) {
        Err(_) if disturbed() => return Ok(()),
        opened => opened.map_err(|why| format!("it does not open: {why}"))?,
    };
    // Between a look at the store and the power there is no operation: what is seen now was served.
    let look = |open: &mut D::Store, possible: &mut Vec<D::State>| match calmly(|| store.state(open)) {
        _ if disturbed() => Ok(()),
        Ok(state) if possible.contains(&state) => {
            *possible = vec![state];
            Ok(())
        }
        Ok(state) => {
            let expected: Vec<_> = possible.iter().map(brief).collect();
            Err(format!("it holds {}, and should hold {}", brief(&state), expected.join(" or ")))
        }
        Err(why) => Err(format!("it cannot be read: {why}")),
    };
    look(&mut open, possible)?;
    for step in steps {
        let done = calmly(|| store.apply(&mut open, step));
        // Where nobody hears an answer, it is done or not.
        let before = match done {
            Ok(()) if !disk.is_off() => std::mem::take(possible),
            Err(why) if !disturbed() => return Err(format!("it refused {}: {why}", brief(step))),
            _ => possible.clone(),
        };
        for state in before.iter().map(|before| store.expected(before, step)) {
            if !possible.contains(&state) {
                possible.push(state);
            }
        }
        if disk.is_off() || possible.len() > 64 {
            return Ok(());
        }
    }
    look(&mut open, possible)
}

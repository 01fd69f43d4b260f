//! The counter file and the prototype's: started again, without power, killed, and timed.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::{draw_during, folder, in_whole_batches};
use crate::prototype::Counter;
use crate::{CounterFile, Issuer, IssuerProcess, Numbering, Skip};
use lab::clock::{SystemClock, VirtualClock};
use lab::crash::SimulatedDisk;
use lab::disk::{Disk, RealDisk};
use lab::{Frame, Result, Rng, Trial};

/// Runs both counters: each `(save size, ids)` is a run, killed at its end. The clock stands still, as it does for many ids
/// of a busy millisecond, and for all of them when it is set back. A row for each id: who handed it out (`by`), how many that one has
/// `handed out` with it, the `counter` in it, and the whole `id`.
pub fn restarts(runs: &[(u64, u64)], seed: u64) -> Result<Frame> {
    let (theirs, own) = (Arc::new(SimulatedDisk::seeded(seed)), Arc::new(SimulatedDisk::seeded(seed)));
    let clock = Arc::new(VirtualClock::new());
    let (mut ids, mut ours) = (Vec::new(), Vec::new());
    for (number, (every, count)) in runs.iter().enumerate() {
        let noise = seed.wrapping_add(number as u64);
        let mut prototype = Counter::open(theirs.clone(), "id.txt", *every, clock.clone(), noise)?;
        let counter = CounterFile::on(own.clone(), "counter", *every)?;
        for _ in 0..*count {
            ids.push(prototype.next_whole()?);
            ours.push(counter.next_id()?);
        }
    }
    let of = |by: &str, counters: Vec<u64>, ids: Vec<String>| {
        let frame = Frame::new().counts("handed out", "", 1..=counters.len() as u64).counts("counter", "", counters);
        frame.text("id", ids).everywhere("by", "", by)
    };
    let theirs =
        of("the prototype", ids.iter().map(|id| id.counter).collect(), ids.iter().map(ToString::to_string).collect());
    let words = ours.iter().map(u64::to_string).collect();
    Ok(theirs.stack(&of("ours", ours, words)))
}

/// In folders that are not there before: a power cut may take them along. The prototype makes no folders.
const NAME: &str = "new/folder/counter";
/// Two runs before a power cut, and one after it: save size, and how many numbers are taken.
const BEFORE: [(u64, u64); 2] = [(10, 25), (4, 10)];
const AFTER: (u64, u64) = (7, 30);

#[derive(Clone, Copy)]
enum Kind {
    Prototype,
    Ours(Option<Skip>),
}

/// Cuts the power of the prototype's counter, of ours with each step left out, and of ours. A row for each `counter`: `cuts`;
/// those after which numbers `came again`, or the counter was `unreadable`; `harmed`, which is both; and the `largest gap`.
pub fn power_cuts(cuts: u64, seed: u64) -> Frame {
    let arms = [
        ("the prototype", Kind::Prototype),
        ("ours, without reserving", Kind::Ours(Some(Skip::Reserve))),
        ("ours, new folders not synced", Kind::Ours(Some(Skip::ParentSync))),
        ("ours, folder not synced", Kind::Ours(Some(Skip::FolderSync))),
        ("ours, file not synced", Kind::Ours(Some(Skip::FileSync))),
        ("ours, written in place", Kind::Ours(Some(Skip::Rename))),
        ("ours", Kind::Ours(None)),
    ];
    let row = |(name, kind): (&str, Kind)| {
        let counts = cut(kind, cuts, seed);
        let named = ["cuts", "came again", "unreadable", "harmed", "largest gap"].into_iter().zip(counts);
        let counter = Frame::new().text("counter", [name]);
        named.fold(counter, |row, (name, count)| row.counts(name, "", [count]))
    };
    arms.map(row).into_iter().collect()
}

fn cut(kind: Kind, cuts: u64, seed: u64) -> [u64; 5] {
    let (mut repeated, mut refused, mut largest) = (0, 0, 0);
    let whole = SimulatedDisk::seeded(seed);
    live(kind, &whole);
    let operations = whole.operations();
    let mut rng = Rng::seeded(seed, "power cuts of a counter");
    for case in 0..cuts {
        let disk = SimulatedDisk::seeded(rng.bits());
        disk.cut_after(case % (operations + 1));
        let before = live(kind, &disk);
        // What is left may be cut again, in the middle of the first save.
        let after = disk.power_cut(rng.bits());
        match open(kind, &after, AFTER.0).and_then(|mut counter| (0..AFTER.1).map(|_| counter.next_id()).collect()) {
            Ok::<Vec<u64>, _>(ids) => {
                repeated += u64::from(ids.iter().any(|id| before.contains(id)));
                let gap = ids.first().zip(before.last()).map_or(0, |(first, last)| first.saturating_sub(last + 1));
                largest = gap.max(largest);
            }
            Err(_) => refused += 1,
        }
    }
    [cuts, repeated, refused, repeated + refused, largest]
}

/// Hands out numbers until the power is out: what went out.
fn live(kind: Kind, disk: &SimulatedDisk) -> BTreeSet<u64> {
    let mut handed_out = BTreeSet::new();
    for (batch, count) in BEFORE {
        let Ok(mut counter) = open(kind, disk, batch) else { break };
        for _ in 0..count {
            match counter.next_id() {
                Ok(id) if !disk.is_off() => handed_out.insert(id),
                _ => return handed_out,
            };
        }
    }
    handed_out
}

fn open(kind: Kind, disk: &SimulatedDisk, batch: u64) -> Result<Box<dyn Issuer>> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Ok(match kind {
        Kind::Prototype => Box::new(Counter::open(disk, "id.txt", batch, Arc::new(VirtualClock::new()), 1)?),
        Kind::Ours(skip) => Box::new(Arc::new(CounterFile::on_without(disk, NAME, batch, skip)?)),
    })
}

/// Kills come within so many numbers, however large the batch.
const SOON: u64 = 1_000;

/// Clients take numbers from an issuer in a process of its own, which is killed (-9) so many times and started again. A row for
/// each batch of which numbers were `lost`; and what the clients received, [in one row](crate::Ledger::row), where a batch may be
/// missing for each kill.
pub fn killed(batch: u64, kills: u64, clients: usize, seed: u64, skip: Option<Skip>) -> Result<(Frame, Frame)> {
    let path = folder()?.join("counter");
    drop(CounterFile::create(&path, batch)?);
    let mut issuer = IssuerProcess::start_without(&path, batch, skip)?;
    let mut rng = Rng::seeded(seed, &format!("kills at a batch of {batch}"));
    let ledger = draw_during((0..clients).map(|_| issuer.client()).collect(), |received| {
        for _ in 0..kills {
            received.wait_for(1 + rng.below((2 * batch).min(SOON)))?;
            issuer.kill()?;
            issuer.restart(batch)?;
        }
        received.wait_for(batch.min(SOON))
    })?;
    let there: BTreeSet<u64> = ledger.ids().into_iter().collect();
    let ends = there.last().copied().unwrap_or(0) + 1;
    let lost = (1..ends).step_by(batch as usize).filter_map(|first| {
        let end = (first + batch).min(ends);
        Some(end - first - there.range(first..end).count() as u64).filter(|lost| *lost > 0)
    });
    let found = ledger.row(Numbering::From(1), kills * batch);
    Ok((Frame::new().counts("lost", "", lost).everywhere("batch", "", batch), found.everywhere("batch", "", batch)))
}

/// A counter that is timed, by how many ids go between two saves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// The prototype's, which does not sync.
    Prototype(u64),
    /// Ours.
    Ours(u64),
}

impl Saved {
    /// Ids between two saves.
    pub fn every(self) -> u64 {
        match self {
            Self::Prototype(every) | Self::Ours(every) => every,
        }
    }

    /// Which counter it is.
    pub fn by(self) -> &'static str {
        match self {
            Self::Prototype(_) => "the prototype's way, not synced",
            Self::Ours(_) => "ours, synced",
        }
    }
}

impl fmt::Display for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, every {}", self.by(), self.every())
    }
}

/// A counter, and ours once more for its own figures.
type Timed = (Box<dyn Issuer>, Option<Arc<CounterFile>>);

/// Hands out `ids` ids at each size, on the real disk; `ids` is a multiple of every size. Figures: `a million ids`, in
/// milliseconds, and of ours the `saves` of a round; columns: `by` and `every`.
pub fn save_sizes(sizes: &[u64], ids: u64, rounds: usize) -> Result<Trial<Saved>> {
    in_whole_batches(sizes, ids)?;
    let folder = folder()?;
    let disk = Arc::new(RealDisk::open(&folder)?);
    Trial::over(sizes.iter().flat_map(|size| [Saved::Prototype(*size), Saved::Ours(*size)]), rounds)
        .column("by", |arm| arm.by())
        .column("every", |arm| arm.every())
        .open(|arm| -> Result<Timed> {
            match *arm {
                Saved::Prototype(every) => {
                    let name = format!("prototype-{every}");
                    Ok((Box::new(Counter::open(disk.clone(), &name, every, Arc::new(SystemClock), 1)?), None))
                }
                Saved::Ours(every) => {
                    let counter = Arc::new(CounterFile::create(folder.join(format!("ours-{every}")), every)?);
                    Ok((Box::new(counter.clone()), Some(counter)))
                }
            }
        })
        .run(|_, (issuer, ours), figures| {
            let saves = |ours: &Option<Arc<CounterFile>>| ours.as_ref().map(|counter| counter.saves());
            let (before, began) = (saves(ours), Instant::now());
            // Equal work is as many ids, each of them a new one.
            let (mut last, mut rising) = (0, 0);
            for _ in 0..ids {
                let id = issuer.next_id()?;
                rising += u64::from(id > std::mem::replace(&mut last, id));
            }
            figures.push("a million ids", "ms", began.elapsed().as_secs_f64() * 1e9 / ids as f64);
            figures.work("ids", rising);
            if let (Some(before), Some(now)) = (before, saves(ours)) {
                figures.push("saves", "", (now - before) as f64);
            }
            Ok(())
        })
}

/// So many ids, once at each save size: `every`, and `a million ids` in milliseconds.
pub fn once_at_each(sizes: &[u64], ids: u64) -> Result<Frame> {
    let folder = folder()?;
    let time = |size: &u64| -> Result<Frame> {
        let counter = CounterFile::create(folder.join(format!("once-{size}")), *size)?;
        let began = Instant::now();
        for _ in 0..ids {
            counter.next_id()?;
        }
        let million = began.elapsed().as_secs_f64() * 1e9 / ids as f64;
        Ok(Frame::new().counts("every", "", [*size]).numbers("a million ids", "ms", [million]))
    };
    sizes.iter().map(time).collect()
}

//! The counter file and the prototype's: started again, without power, killed, and timed.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{folder, hand_out, in_whole_batches, until};
use crate::prototype::Counter;
use crate::{CounterFile, Issuer, IssuerProcess, Ledger, Numbering, Skip, take};
use lab::clock::{SystemClock, VirtualClock};
use lab::crash::{PowerCutTest, SimulatedDisk};
use lab::disk::{Disk, RealDisk};
use lab::{Crowd, Frame, Result, Rng, Trial};

/// Runs both counters: each `(save size, ids)` is a run, killed at its end. The clock stands still, as it does for many ids
/// of a busy millisecond, and for all of them when it is set back. A row for each id: who handed it out (`by`), how many that one has
/// `handed out` with it, the `counter` in it, and the whole `id`.
pub fn restarts(runs: &[(u64, u64)], seed: u64) -> Result<Frame> {
    let (disk, clock) = (Arc::new(SimulatedDisk::seeded(seed)), Arc::new(VirtualClock::new()));
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for (number, (every, count)) in runs.iter().enumerate() {
        let noise = seed.wrapping_add(number as u64);
        let mut prototype = Counter::open(disk.clone(), "id.txt", *every, clock.clone(), noise)?;
        let counter = CounterFile::on(disk.clone(), "counter", *every)?;
        for _ in 0..*count {
            let (id, number) = (prototype.next_whole()?, counter.next_id()?);
            theirs.push((id.counter, id.to_string()));
            ours.push((number, number.to_string()));
        }
    }
    let of = |by: &str, ids: Vec<(u64, String)>| {
        let (counters, ids): (Vec<u64>, Vec<String>) = ids.into_iter().unzip();
        let frame = Frame::new().counts("handed out", "", 1..=counters.len() as u64).counts("counter", "", counters);
        frame.text("id", ids).everywhere("by", "", by)
    };
    Ok(of("the prototype", theirs).stack(&of("ours", ours)))
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
pub fn power_cuts(cuts: u64, seed: u64) -> Result<Frame> {
    let arms = [
        ("the prototype", Kind::Prototype),
        ("ours, without reserving", Kind::Ours(Some(Skip::Reserve))),
        ("ours, new folders not synced", Kind::Ours(Some(Skip::ParentSync))),
        ("ours, folder not synced", Kind::Ours(Some(Skip::FolderSync))),
        ("ours, file not synced", Kind::Ours(Some(Skip::FileSync))),
        ("ours, written in place", Kind::Ours(Some(Skip::Rename))),
        ("ours", Kind::Ours(None)),
    ];
    let row = |(name, kind): (&str, Kind)| Ok(cut(kind, cuts, seed)?.text("counter", [name]));
    arms.into_iter().map(row).collect()
}

fn cut(kind: Kind, cuts: u64, seed: u64) -> Result<Frame> {
    // Numbers that came again, counters that were refused, and the largest gap.
    let found = RefCell::new((0, 0, 0));
    let test = PowerCutTest::new("a counter").seed(seed).cuts(cuts);
    let cuts = test.each_cut(
        |disk| live(kind, disk),
        |after, before| {
            let (again, refused, largest) = &mut *found.borrow_mut();
            match open(kind, after, AFTER.0).and_then(|mut counter| (0..AFTER.1).map(|_| counter.next_id()).collect()) {
                Ok::<Vec<u64>, _>(ids) => {
                    *again += u64::from(ids.iter().any(|id| before.contains(id)));
                    let gap = ids.first().zip(before.last()).map_or(0, |(first, last)| first.saturating_sub(last + 1));
                    *largest = gap.max(*largest);
                }
                Err(_) => *refused += 1,
            }
            Ok(())
        },
    )?;
    let (again, refused, largest) = found.into_inner();
    Ok(Frame::new()
        .counts("cuts", "", [cuts])
        .counts("came again", "", [again])
        .counts("unreadable", "", [refused])
        .counts("harmed", "", [again + refused])
        .counts("largest gap", "", [largest]))
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
    let received = AtomicU64::new(0);
    let so_far = || received.load(Ordering::Relaxed);
    let wait_for = |more: u64| {
        let enough = so_far() + more;
        until(|| so_far() >= enough)
    };
    let crowd = Crowd::holding((0..clients).map(|_| issuer.client())).enduring().lasting(Duration::ZERO);
    let ((), ran) = crowd.during(
        || {
            for _ in 0..kills {
                wait_for(1 + rng.below((2 * batch).min(SOON)))?;
                issuer.kill();
                issuer.restart()?;
            }
            wait_for(batch.min(SOON))
        },
        |client, call| {
            take(client, call)?;
            received.fetch_add(1, Ordering::Relaxed);
            Ok(())
        },
    )?;
    let ledger = Ledger::of(ran);
    let there: BTreeSet<u64> = ledger.ids().into_iter().collect();
    let ends = there.last().copied().unwrap_or(0) + 1;
    let lost = (1..ends).step_by(batch as usize).filter_map(|first| {
        let end = (first + batch).min(ends);
        Some(end - first - there.range(first..end).count() as u64).filter(|lost| *lost > 0)
    });
    let found = ledger.row(Numbering::From(1), kills * batch);
    Ok((Frame::new().counts("lost", "", lost).everywhere("batch", "", batch), found.everywhere("batch", "", batch)))
}

/// A counter that is timed, with so many ids between two saves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// The prototype's, which does not sync.
    Prototype(u64),
    Ours(u64),
}

impl Saved {
    fn by(self) -> (&'static str, u64) {
        match self {
            Self::Prototype(every) => ("the prototype's way, not synced", every),
            Self::Ours(every) => ("ours, synced", every),
        }
    }
}

impl fmt::Display for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (by, every) = self.by();
        write!(f, "{by}, every {every}")
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
        .column("by", |arm| arm.by().0)
        .column("every", |arm| arm.by().1)
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
            let before = saves(ours);
            // Equal work is as many ids, each of them a new one.
            let (million, rising) = hand_out(issuer, ids)?;
            figures.push("a million ids", "ms", million);
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
        let (million, _) = hand_out(&mut Arc::new(counter), ids)?;
        Ok(Frame::new().counts("every", "", [*size]).numbers("a million ids", "ms", [million]))
    };
    sizes.iter().map(time).collect()
}

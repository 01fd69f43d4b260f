//! Power cuts after every operation on the disk: which counters repeat themselves, and which cannot be opened any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::seed::SeedCounter;
use crate::{CounterFile, Issuer, Skip};
use lab::chart::{Bars, Chart};
use lab::clock::VirtualClock;
use lab::crash::{Disk, SimulatedDisk};
use lab::{OrFail, Result, Rng, Table};

/// In folders that are not there before: a power cut may take them along. The prototype makes no folders.
const NAME: &str = "new/folder/counter";
const SEED_NAME: &str = "id.txt";
/// Two runs before the cut, and one after it: save size, and how many numbers are taken.
const BEFORE: [(u64, u64); 2] = [(10, 25), (4, 10)];
const AFTER: (u64, u64) = (7, 30);

/// What power cuts did to one counter.
#[derive(Debug, Clone)]
pub struct CutArm {
    /// Which counter.
    pub name: String,
    /// How often the power was cut.
    pub cuts: u64,
    /// After how many cuts numbers came again.
    pub repeated: u64,
    /// After how many cuts the counter was refused, with an error that says why.
    pub refused: u64,
    /// The most numbers that a cut has lost.
    pub gap: u64,
}

impl CutArm {
    /// Cuts that did harm.
    pub fn harmed(&self) -> u64 {
        self.repeated + self.refused
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Seed,
    Ours(Option<Skip>),
}

/// Cuts the power of the prototype's counter, of ours with each step left out, and of ours.
pub fn power_cuts(cuts: u64, seed: u64) -> Vec<CutArm> {
    let arms = [
        ("the prototype", Kind::Seed),
        ("ours, without reserving", Kind::Ours(Some(Skip::Reserve))),
        ("ours, new folders not synced", Kind::Ours(Some(Skip::ParentSync))),
        ("ours, folder not synced", Kind::Ours(Some(Skip::FolderSync))),
        ("ours, file not synced", Kind::Ours(Some(Skip::FileSync))),
        ("ours, written in place", Kind::Ours(Some(Skip::Rename))),
        ("ours", Kind::Ours(None)),
    ];
    arms.into_iter().map(|(name, kind)| cut_again_and_again(name, kind, cuts, seed)).collect::<Result<_>>().or_fail()
}

fn cut_again_and_again(name: &str, kind: Kind, cuts: u64, seed: u64) -> Result<CutArm> {
    let mut arm = CutArm { name: name.to_string(), cuts, repeated: 0, refused: 0, gap: 0 };
    let whole = SimulatedDisk::seeded(seed);
    live(kind, &whole)?;
    let operations = whole.operations();
    let mut rng = Rng::seeded(seed, "power cuts of a counter");
    for case in 0..cuts {
        let disk = SimulatedDisk::seeded(rng.bits());
        disk.cut_after(case % (operations + 1));
        let (handed_out, batch) = live(kind, &disk).unwrap_or_default();
        // What is left may be cut again, in the middle of the first save.
        let after = disk.power_cut(rng.bits());
        let before: BTreeSet<u64> = handed_out.iter().copied().collect();
        match open(kind, &after, AFTER.0).and_then(|mut counter| (0..AFTER.1).map(|_| counter.next_id()).collect()) {
            Ok::<Vec<u64>, _>(ids) => {
                arm.repeated += u64::from(ids.iter().any(|id| before.contains(id)));
                let gap = ids.first().zip(before.last()).map_or(0, |(first, last)| first.saturating_sub(last + 1));
                debug_assert!(batch > 0 || before.is_empty());
                arm.gap = arm.gap.max(gap);
            }
            Err(_) => arm.refused += 1,
        }
    }
    Ok(arm)
}

/// Hands out numbers until the power is out: what went out, and the size of a batch then.
fn live(kind: Kind, disk: &SimulatedDisk) -> Result<(Vec<u64>, u64)> {
    let (mut handed_out, mut now) = (Vec::new(), 0);
    'runs: for (batch, count) in BEFORE {
        let Ok(mut counter) = open(kind, disk, batch) else { break };
        for _ in 0..count {
            match counter.next_id() {
                Ok(id) if !disk.is_off() => handed_out.push(id),
                _ => break 'runs,
            }
        }
        now = batch;
    }
    Ok((handed_out, now))
}

fn open(kind: Kind, disk: &SimulatedDisk, batch: u64) -> Result<Box<dyn Issuer>> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Ok(match kind {
        Kind::Seed => Box::new(SeedCounter::open(disk, SEED_NAME, batch, Arc::new(VirtualClock::new()), 1)?),
        Kind::Ours(step) => Box::new(Arc::new(CounterFile::on_without(disk, NAME, batch, step)?)),
    })
}

/// Per cent of the cuts after which a counter repeated itself, or could not be opened.
pub fn cut_chart(arms: &[CutArm], title: &str) -> Bars {
    let share = |part: u64, arm: &CutArm| 100.0 * part as f64 / arm.cuts as f64;
    arms.iter().fold(Chart::bars(title).y("power cuts", "%").horizontal(), |chart, arm| {
        chart
            .group(&arm.name)
            .bar("numbers came again", share(arm.repeated, arm))
            .bar("the counter was unreadable", share(arm.refused, arm))
    })
}

/// The same in numbers.
pub fn cut_table(arms: &[CutArm]) -> Table {
    Table::new("What a power cut did")
        .text("counter", arms.iter().map(|arm| arm.name.as_str()))
        .counts("cuts", "", arms.iter().map(|arm| arm.cuts))
        .counts("numbers came again", "", arms.iter().map(|arm| arm.repeated))
        .counts("unreadable", "", arms.iter().map(|arm| arm.refused))
        .counts("largest gap", "", arms.iter().map(|arm| arm.gap))
}

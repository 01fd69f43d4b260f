//! Full milliseconds: what the prototypes and ours make of them, on a virtual clock and on the machine's.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::prototype::{Forgetful, Unbound};
use crate::{Layout, Snowflake};
use lab::clock::{Clock, SystemClock, VirtualClock};
use lab::{Crowd, Error, Frame, Result};

const LAYOUT: Layout = Layout::WORKERS_1024;
/// The prototypes' number, and ours here.
const WORKER: u64 = 1;

/// Whose ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// The prototype that forgets that it waited.
    Forgetful,
    /// The prototype whose counter knows no milliseconds.
    Unbound,
    Ours,
}

impl Maker {
    pub const ALL: [Self; 3] = [Self::Forgetful, Self::Unbound, Self::Ours];

    /// Makes the next id, on this clock.
    fn on<C: Clock + 'static>(self, clock: C) -> Result<Box<dyn Fn() -> Result<u64> + Send + Sync>> {
        match self {
            Self::Forgetful => {
                let ids = Forgetful::new(clock, WORKER);
                Ok(Box::new(move || ids.next_id()))
            }
            Self::Unbound => {
                let ids = Unbound::new(clock);
                Ok(Box::new(move || ids.next_id()))
            }
            Self::Ours => {
                let ids = Snowflake::on(clock, LAYOUT, WORKER)?;
                Ok(Box::new(move || ids.next_id()))
            }
        }
    }
}

impl fmt::Display for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forgetful => "prototype that forgets",
            Self::Unbound => "prototype that never looks",
            Self::Ours => "ours",
        })
    }
}

/// So many calls of each maker at each rate, in calls in a millisecond of a virtual clock. A row for each: `maker`, `rate`, ids `made`,
/// those that had been made before (`duplicates`, and their `share` in %), and those that were smaller than the one before (`falls`).
pub fn duplicates(makers: &[Maker], calls: u64, rates: &[u64]) -> Result<Frame> {
    makers.iter().flat_map(|&maker| rates.iter().map(move |&rate| count(maker, calls, rate))).collect()
}

fn count(maker: Maker, calls: u64, rate: u64) -> Result<Frame> {
    let clock = VirtualClock::new();
    // Whoever waits on the clock gets there at once; and each call takes its share of a millisecond.
    clock.auto_advance();
    let call = Duration::from_nanos(1_000_000 / rate.max(1));
    let next_id = maker.on(clock.clone())?;
    let (mut seen, mut falls, mut last) = (HashSet::new(), 0, 0);
    for _ in 0..calls {
        let id = next_id()?;
        seen.insert(id);
        falls += u64::from(id < last);
        last = id;
        clock.advance(call);
    }
    let duplicates = calls - seen.len() as u64;
    Ok(Frame::new()
        .text("maker", [maker])
        .counts("rate", "", [rate])
        .counts("made", "", [calls])
        .counts("duplicates", "", [duplicates])
        .numbers("share", "%", [100.0 * duplicates as f64 / calls as f64])
        .counts("falls", "", [falls]))
}

/// Ids that were made as fast as there were any.
#[derive(Debug, Clone)]
pub struct Milliseconds {
    pub made: u64,
    /// Ids that had been made before.
    pub duplicates: u64,
    /// Ids that were not larger than the last one of their own thread.
    pub falls: u64,
    /// A row for each `millisecond`, from the first one with an id to the last: its `ids`, each as often as it was made; and its `kind`,
    /// which is `whole`, `cut off` (the first and the last one, in whose middle the run begins and ends), or `skipped`, without ids.
    pub each: Frame,
}

/// `count` ids by so many threads of one generator, on a virtual clock that moves on when everybody waits for it.
pub fn virtual_clock(count: u64, threads: u64) -> Result<Milliseconds> {
    let clock = VirtualClock::new();
    clock.auto_advance();
    make(Maker::Ours, clock, count, threads, None)
}

/// As many ids as so many threads get in a while of the machine's clock.
pub fn real_clock(maker: Maker, threads: u64, lasting: Duration) -> Result<Milliseconds> {
    // Room for twice the time: a machine that is busy wakes its threads late.
    let count = LAYOUT.ids_per_ms() * u64::try_from(lasting.as_millis() * 2 + 1_000).unwrap_or(u64::MAX);
    make(maker, SystemClock, count, threads, Some(lasting))
}

/// What was made: one bit for each slot from the first one on, so that an id that is made twice finds its bit set; and a
/// count for each millisecond, which knows nothing of the bits, so that too many in one are seen as too many.
struct Noted {
    slots: Vec<AtomicU64>,
    each: Vec<AtomicU32>,
    first_timestamp: u64,
}

impl Noted {
    fn new(milliseconds: u64, first_timestamp: u64) -> Self {
        let words = (milliseconds * LAYOUT.ids_per_ms()).div_ceil(64);
        Self {
            slots: (0..words).map(|_| AtomicU64::new(0)).collect(),
            each: (0..milliseconds).map(|_| AtomicU32::new(0)).collect(),
            first_timestamp,
        }
    }

    /// Whether it was there.
    fn note(&self, id: u64) -> Result<bool> {
        let parts = LAYOUT.decode(id)?;
        let other = || Error::new("note an id", format!("{parts:?} is none of this run"));
        let millisecond = parts.timestamp.checked_sub(self.first_timestamp).filter(|_| parts.worker == WORKER);
        let millisecond = millisecond.ok_or_else(other)?;
        self.each.get(millisecond as usize).ok_or_else(other)?.fetch_add(1, Ordering::Relaxed);
        let slot = millisecond * LAYOUT.ids_per_ms() + parts.sequence;
        let (word, bit) = (&self.slots[(slot / 64) as usize], 1 << (slot % 64));
        Ok(word.fetch_or(bit, Ordering::Relaxed) & bit != 0)
    }

    fn each_millisecond(&self) -> Frame {
        let ids: Vec<u64> = self.each.iter().map(|ids| u64::from(ids.load(Ordering::Relaxed))).collect();
        let first = ids.iter().position(|&ids| ids > 0).unwrap_or(0);
        let last = ids.iter().rposition(|&ids| ids > 0).unwrap_or(0);
        let kind = |at: usize| match ids[at] {
            0 => "skipped",
            _ if at == first || at == last => "cut off",
            _ => "whole",
        };
        Frame::new()
            .counts("millisecond", "", (first..=last).map(|at| at as u64))
            .counts("ids", "", (first..=last).map(|at| ids[at]))
            .text("kind", (first..=last).map(kind))
    }
}

fn make(
    maker: Maker,
    clock: impl Clock + 'static,
    count: u64,
    threads: u64,
    lasting: Option<Duration>,
) -> Result<Milliseconds> {
    let first = clock.now_ms().saturating_sub(LAYOUT.epoch_ms());
    // Two milliseconds more than the ids need: the first and the last one are not full.
    let noted = Noted::new(count.div_ceil(LAYOUT.ids_per_ms()) + 2, first);
    let next_id = maker.on(clock)?;
    let ran = Crowd::holding((0..threads).map(|_| [0; 3])).run(|[made, duplicates, falls], call| {
        let (share, mut last) = (count / threads + u64::from((call.client() as u64) < count % threads), 0);
        while *made < share && lasting.is_none_or(|lasting| *made % 256 != 0 || call.now() < lasting.as_secs_f64()) {
            let id = next_id()?;
            *duplicates += u64::from(noted.note(id)?);
            *falls += u64::from(id <= last);
            last = id;
            *made += 1;
        }
        Ok(())
    })?;
    let [made, duplicates, falls] = [0, 1, 2].map(|part| ran.states.iter().map(|counted| counted[part]).sum());
    Ok(Milliseconds { made, duplicates, falls, each: noted.each_millisecond() })
}

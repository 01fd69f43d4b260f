//! How many ids fit into a millisecond, and whether any is made twice: on a virtual clock, and on the machine's.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::duplicates::Maker;
use crate::prototypes::{Forgetful, Unbound};
use crate::{Layout, Snowflake};
use lab::chart::{Chart, Lines};
use lab::clock::{Clock, SystemClock, VirtualClock};
use lab::{Doing, Error, OrFail, Result, joined};

const LAYOUT: Layout = Layout::WORKERS_1024;

/// The ids of every millisecond in which some were made.
#[derive(Debug, Clone)]
pub struct Milliseconds {
    /// Ids made.
    pub made: u64,
    /// Ids that had been made before.
    pub duplicates: u64,
    /// Ids that were not larger than the last one of their own thread.
    pub falls: u64,
    /// `(millisecond from the first one, ids)`, in order, without those in which there was none. Duplicates count.
    pub each: Vec<(u64, u64)>,
    /// How long it took, in seconds of the machine's clock.
    pub seconds: f64,
}

/// `count` ids by so many threads of one generator, on a virtual clock that moves on when everybody waits for it.
pub fn virtual_clock(count: u64, threads: u64) -> Milliseconds {
    let clock = VirtualClock::new();
    clock.auto_advance();
    make(Maker::Ours, clock, count, threads, None).or_fail()
}

/// As many ids as so many threads get in a while of the machine's clock.
pub fn real_clock(maker: Maker, threads: u64, lasting: Duration) -> Milliseconds {
    // Room for twice the time: a machine that is busy wakes its threads late.
    let count = LAYOUT.ids_per_ms() * u64::try_from(lasting.as_millis() * 2 + 1_000).unwrap_or(u64::MAX);
    make(maker, SystemClock, count, threads, Some(lasting)).or_fail()
}

/// What was made: one bit for each slot from the first one on, so that an id that is made twice finds its bit set; and a
/// count for each millisecond, which knows nothing of the bits, so that too many in one are seen as too many.
struct Noted {
    slots: Vec<AtomicU64>,
    each: Vec<AtomicU32>,
    first_timestamp: u64,
}

impl Noted {
    fn new(milliseconds: u64, first_timestamp: u64) -> Result<Self> {
        let doing = "note every id";
        let words = usize::try_from((milliseconds * LAYOUT.ids_per_ms()).div_ceil(64)).doing(doing)?;
        let milliseconds = usize::try_from(milliseconds).doing(doing)?;
        Ok(Self {
            slots: (0..words).map(|_| AtomicU64::new(0)).collect(),
            each: (0..milliseconds).map(|_| AtomicU32::new(0)).collect(),
            first_timestamp,
        })
    }

    /// Whether it was there.
    fn note(&self, id: u64) -> Result<bool> {
        let parts = LAYOUT.decode(id)?;
        let other = || Error::new("note an id", format!("{parts:?} is none of this run"));
        let millisecond = parts.timestamp.checked_sub(self.first_timestamp).filter(|_| parts.worker == WORKER);
        let millisecond = usize::try_from(millisecond.ok_or_else(other)?).doing("note an id")?;
        self.each.get(millisecond).ok_or_else(other)?.fetch_add(1, Ordering::Relaxed);
        let slot = millisecond as u64 * LAYOUT.ids_per_ms() + parts.sequence;
        let word = self.slots.get((slot / 64) as usize).ok_or_else(other)?;
        Ok(word.fetch_or(1 << (slot % 64), Ordering::Relaxed) & (1 << (slot % 64)) != 0)
    }

    fn each_millisecond(&self) -> Vec<(u64, u64)> {
        let all = self.each.iter().map(|ids| u64::from(ids.load(Ordering::Relaxed))).enumerate();
        all.filter(|(_, ids)| *ids > 0).map(|(ms, ids)| (ms as u64, ids)).collect()
    }
}

/// The prototypes' number, and ours here.
const WORKER: u64 = 1;

fn make<C: Clock + Clone>(
    maker: Maker,
    clock: C,
    count: u64,
    threads: u64,
    lasting: Option<Duration>,
) -> Result<Milliseconds> {
    let first = clock.now_ms().saturating_sub(LAYOUT.epoch_ms());
    match maker {
        Maker::Ours => {
            let ids = Snowflake::on(clock, LAYOUT, WORKER)?;
            run(|| ids.next_id(), first, count, threads, lasting)
        }
        Maker::Forgetful => {
            let ids = Forgetful::new(clock, WORKER);
            run(|| ids.next_id(), first, count, threads, lasting)
        }
        Maker::Unbound => {
            let ids = Unbound::new(clock);
            run(|| ids.next_id(), first, count, threads, lasting)
        }
    }
}

fn run(
    next_id: impl Fn() -> Result<u64> + Sync,
    first: u64,
    count: u64,
    threads: u64,
    lasting: Option<Duration>,
) -> Result<Milliseconds> {
    // Two milliseconds more than the ids need: the first and the last one are not full.
    let noted = Noted::new(count.div_ceil(LAYOUT.ids_per_ms()) + 2, first)?;
    let began = Instant::now();
    let work = |thread: u64| -> Result<(u64, u64, u64)> {
        let share = count / threads + u64::from(thread < count % threads);
        let (mut made, mut duplicates, mut falls, mut last) = (0, 0, 0, 0);
        while made < share && lasting.is_none_or(|lasting| made % 256 != 0 || began.elapsed() < lasting) {
            let id = next_id()?;
            duplicates += u64::from(noted.note(id)?);
            falls += u64::from(id <= last);
            last = id;
            made += 1;
        }
        Ok((made, duplicates, falls))
    };
    let parts = std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        threads.into_iter().map(|thread| joined("make ids", thread.join())).collect::<Result<Vec<_>>>()
    })?;
    let seconds = began.elapsed().as_secs_f64();
    let sum = |part: fn(&(u64, u64, u64)) -> u64| parts.iter().map(part).sum();
    let (made, duplicates, falls) = (sum(|part| part.0), sum(|part| part.1), sum(|part| part.2));
    Ok(Milliseconds { made, duplicates, falls, each: noted.each_millisecond(), seconds })
}

impl Milliseconds {
    /// The ids of every millisecond but the first and the last, which the run cut off.
    pub fn whole(&self) -> Vec<f64> {
        let inner = self.each.len().saturating_sub(1);
        self.each.get(1..inner).unwrap_or_default().iter().map(|(_, ids)| *ids as f64).collect()
    }

    /// How many milliseconds of the run had no id in them.
    pub fn skipped(&self) -> u64 {
        let span = self.each.last().map_or(0, |last| last.0 + 1) - self.each.first().map_or(0, |first| first.0);
        span - self.each.len() as u64
    }

    /// Ids by millisecond, of the first so many.
    pub fn chart(&self, title: &str, first: usize) -> Lines {
        Chart::lines(title)
            .x("millisecond of the run", "")
            .y("ids", "")
            .from_zero()
            .points("ids", self.each.iter().take(first).copied())
            .predicted("4,096", |_| 4_096.0)
    }
}

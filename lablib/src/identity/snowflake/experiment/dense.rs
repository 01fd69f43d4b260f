//! How many ids fit into a millisecond, and whether any is made twice: on a virtual clock, and on the machine's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::identity::snowflake::{Layout, Snowflake};
use crate::lab::chart::{Chart, Lines};
use crate::lab::clock::{Clock, SystemClock, VirtualClock};
use crate::lab::{Doing, Error, OrFail, Result, joined};

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
    /// `(millisecond from the first one, ids)`, in order, without those in which there was none.
    pub each: Vec<(u64, u64)>,
    /// How long it took, in seconds of the machine's clock.
    pub seconds: f64,
}

/// `count` ids by so many threads of one generator, on a virtual clock that moves on when everybody waits for it.
pub fn virtual_clock(count: u64, threads: u64) -> Milliseconds {
    let clock = VirtualClock::new();
    clock.auto_advance();
    run(clock, count, threads, None).or_fail()
}

/// As many ids as so many threads get in a while of the machine's clock.
pub fn real_clock(threads: u64, lasting: Duration) -> Milliseconds {
    // Room for twice the time: a machine that is busy wakes its threads late.
    let count = LAYOUT.ids_per_ms() * u64::try_from(lasting.as_millis() * 2 + 1_000).unwrap_or(u64::MAX);
    run(SystemClock, count, threads, Some(lasting)).or_fail()
}

/// One bit for each slot from the first one on: an id that is made twice finds its bit set.
struct Bits {
    words: Vec<AtomicU64>,
    first_timestamp: u64,
}

impl Bits {
    fn new(slots: u64, first_timestamp: u64) -> Result<Self> {
        let words = usize::try_from(slots.div_ceil(64)).doing("note every id")?;
        Ok(Self { words: (0..words).map(|_| AtomicU64::new(0)).collect(), first_timestamp })
    }

    /// Whether it was there.
    fn note(&self, id: u64) -> Result<bool> {
        let parts = LAYOUT.decode(id)?;
        let slot = parts
            .timestamp
            .checked_sub(self.first_timestamp)
            .map(|ms| ms * LAYOUT.ids_per_ms() + parts.sequence)
            .filter(|_| parts.worker == WORKER);
        let word = slot.and_then(|slot| self.words.get(usize::try_from(slot / 64).ok()?).map(|word| (word, slot % 64)));
        let (word, bit) = word.ok_or_else(|| Error::new("note an id", format!("{parts:?} is none of this run")))?;
        Ok(word.fetch_or(1 << bit, Ordering::Relaxed) & (1 << bit) != 0)
    }

    fn each_millisecond(&self) -> Vec<(u64, u64)> {
        let words = usize::try_from(LAYOUT.ids_per_ms() / 64).unwrap_or(1);
        let ids =
            |words: &[AtomicU64]| words.iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum();
        let all = self.words.chunks(words).map(ids).enumerate();
        all.filter(|(_, ids)| *ids > 0).map(|(ms, ids)| (ms as u64, ids)).collect()
    }
}

const WORKER: u64 = 513;

fn run<C: Clock>(clock: C, count: u64, threads: u64, lasting: Option<Duration>) -> Result<Milliseconds> {
    let first = clock.now_ms().saturating_sub(LAYOUT.epoch_ms());
    // Two milliseconds more than the ids need: the first and the last one are not full.
    let bits = Bits::new(count + 2 * LAYOUT.ids_per_ms(), first)?;
    let ids = Snowflake::on(clock, LAYOUT, WORKER)?;
    let began = Instant::now();
    let work = |thread: u64| -> Result<(u64, u64, u64)> {
        let share = count / threads + u64::from(thread < count % threads);
        let (mut made, mut duplicates, mut falls, mut last) = (0, 0, 0, 0);
        while made < share && lasting.is_none_or(|lasting| made % 256 != 0 || began.elapsed() < lasting) {
            let id = ids.next_id()?;
            duplicates += u64::from(bits.note(id)?);
            falls += u64::from(id <= last);
            last = id;
            made += 1;
        }
        Ok((made, duplicates, falls))
    };
    let parts = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        threads.into_iter().map(|thread| joined("make ids", thread.join())).collect::<Result<Vec<_>>>()
    })?;
    let seconds = began.elapsed().as_secs_f64();
    let sum = |part: fn(&(u64, u64, u64)) -> u64| parts.iter().map(part).sum();
    let (made, duplicates, falls) = (sum(|part| part.0), sum(|part| part.1), sum(|part| part.2));
    Ok(Milliseconds { made, duplicates, falls, each: bits.each_millisecond(), seconds })
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

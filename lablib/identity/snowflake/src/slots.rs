//! The atomic core. A *slot* is a timestamp with a sequence below it; the word holds the next free one.
//!
//! Counting slots, a full millisecond needs no case of its own: the sequence carries over into the timestamp, the next free
//! slot then lies ahead of the clock, and that *is* the state "wait". A clock that stepped back looks the same, for longer.
//!
//! Nobody takes a slot that is ahead of the clock that he has just read, so the word is never more than one slot ahead of
//! the largest reading; there is nothing to give back, and a lease's end is compared with the very timestamp that the id
//! will carry. A failed exchange means that somebody else took a slot: there are no locks, and no thread waits for one that
//! was interrupted.
//!
//! All changes of one word have one order that all threads agree on, whatever the memory ordering; and who hears of an id,
//! by whatever way orders the two, finds the word behind it. So relaxed operations are enough.

use lab::sync::atomic::{AtomicU64, Ordering};

/// Nothing is published through the words, so nothing need be ordered.
const RELAXED: Ordering = Ordering::Relaxed;

/// What the core needs of an atomic word, so that a test can stand in between any two operations.
pub(super) trait Cell64 {
    fn load(&self) -> u64;
    fn exchange(&self, current: u64, new: u64) -> Result<u64, u64>;
    fn swap(&self, new: u64) -> u64;
    fn raise(&self, to: u64);
}

/// The machine's, alone on its cache line: what lies beside it would slow its users down.
#[repr(align(64))]
pub(super) struct Word(AtomicU64);

impl Cell64 for Word {
    #[inline]
    fn load(&self) -> u64 {
        self.0.load(RELAXED)
    }

    #[inline]
    fn exchange(&self, current: u64, new: u64) -> Result<u64, u64> {
        self.0.compare_exchange_weak(current, new, RELAXED, RELAXED)
    }

    fn swap(&self, new: u64) -> u64 {
        self.0.swap(new, RELAXED)
    }

    fn raise(&self, to: u64) {
        self.0.fetch_max(to, RELAXED);
    }
}

/// Why no slot was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// The clock reads a time before the first timestamp.
    NoTimestamp,
    /// The clock reads `now`, and timestamps end before `until`.
    Beyond { now: u64, until: u64 },
    /// The next free slot is of timestamp `goal`, and the clock reads less; the last one taken is of `last`.
    Full { last: u64, goal: u64, now: u64 },
    /// No slot will be taken any more.
    Closed,
}

/// No slot: they end at 2^63.
const CLOSED: u64 = u64::MAX;

/// The slots of one worker.
pub(super) struct Slots<W> {
    sequence_bits: u32,
    from: u64,
    /// The first timestamp that may not be used. It only grows.
    until: W,
    next: W,
}

impl Slots<Word> {
    pub(super) fn new(sequence_bits: u32, from: u64, until: u64) -> Self {
        let word = |value| Word(AtomicU64::new(value));
        Self::with(sequence_bits, from, word(until), word(from << sequence_bits))
    }
}

impl<W: Cell64> Slots<W> {
    pub(super) fn with(sequence_bits: u32, from: u64, until: W, next: W) -> Self {
        Self { sequence_bits, from, until, next }
    }

    /// Takes a slot of what the clock reads now.
    #[inline]
    pub(super) fn take(&self, clock: impl Fn() -> Option<u64>) -> Result<u64, Held> {
        let until = self.until.load();
        let mut next = self.next.load();
        // Read after the word: who then finds it behind knows that it went back, and not that he was slow himself.
        let mut now = clock().ok_or(Held::NoTimestamp)?;
        let mut read_since = true;
        loop {
            if next == CLOSED {
                return Err(Held::Closed);
            }
            // Before the shift, which might lose bits of a time beyond all timestamps.
            if now >= until {
                return Err(Held::Beyond { now, until });
            }
            let slot = next.max(now << self.sequence_bits);
            let timestamp = slot >> self.sequence_bits;
            if timestamp > now {
                if read_since {
                    let last = next.saturating_sub(1) >> self.sequence_bits;
                    return Err(Held::Full { last, goal: timestamp, now });
                }
                now = clock().ok_or(Held::NoTimestamp)?;
                read_since = true;
                continue;
            }
            match self.next.exchange(next, slot + 1) {
                Ok(_) => return Ok(slot),
                Err(other) => (next, read_since) = (other, false),
            }
        }
    }

    pub(super) fn from(&self) -> u64 {
        self.from
    }

    pub(super) fn until(&self) -> u64 {
        self.until.load()
    }

    pub(super) fn extend(&self, until: u64) {
        self.until.raise(until);
    }

    /// Lets nobody take a slot any more, and says which is the first timestamp of which none was taken.
    pub(super) fn close(&self) -> u64 {
        match self.next.swap(CLOSED) {
            CLOSED => self.until(),
            next => next.div_ceil(1 << self.sequence_bits).max(self.from),
        }
    }
}

//! How the bits of an id are shared out between time, worker and sequence.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use lab::{Error, Result};

/// An id has this many bits at most: it stays positive in a database's signed BIGINT.
pub const ID_BITS: u32 = 63;

/// From the highest bit down: milliseconds since an epoch, the worker, and a sequence within the millisecond.
///
/// ```
/// use snowflake::Layout;
///
/// let layout = Layout::WORKERS_1024;
/// let parts = layout.decode(4_194_304 * 1_000 + 4_096 * 7 + 5).unwrap();
/// assert_eq!((parts.timestamp, parts.worker, parts.sequence), (1_000, 7, 5));
/// assert_eq!(parts.time().to_string(), "2020-01-01T00:00:01.000Z");
/// assert!(Layout::new(0, 41, 12, 12).is_err(), "65 bits");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Layout {
    epoch_ms: u64,
    time_bits: u32,
    worker_bits: u32,
    sequence_bits: u32,
}

/// A layout as it is written down; reading one checks it.
#[derive(Serialize, Deserialize)]
struct Raw {
    epoch_ms: u64,
    bits: [u32; 3],
}

impl TryFrom<Raw> for Layout {
    type Error = Error;

    fn try_from(raw: Raw) -> Result<Self> {
        let [time, worker, sequence] = raw.bits;
        Self::new(raw.epoch_ms, time, worker, sequence)
    }
}

impl From<Layout> for Raw {
    fn from(layout: Layout) -> Self {
        Self { epoch_ms: layout.epoch_ms, bits: [layout.time_bits, layout.worker_bits, layout.sequence_bits] }
    }
}

/// An id, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Parts {
    /// Milliseconds since the layout's epoch.
    pub timestamp: u64,
    /// Who made it.
    pub worker: u64,
    /// The how manieth of its millisecond, from 0.
    pub sequence: u64,
    /// Milliseconds from 1970 to the layout's epoch.
    pub epoch_ms: u64,
}

impl Parts {
    /// When it was made, by the clock of who made it.
    pub fn time(&self) -> Moment {
        Moment(self.epoch_ms + self.timestamp)
    }
}

impl Layout {
    /// 41 | 5 | 12 bits since 2023: 32 workers.
    pub const WORKERS_32: Self = Self { epoch_ms: 1_672_531_200_000, time_bits: 41, worker_bits: 5, sequence_bits: 12 };

    /// 41 | 10 | 12 bits since 2020: 1,024 workers.
    pub const WORKERS_1024: Self =
        Self { epoch_ms: 1_577_836_800_000, time_bits: 41, worker_bits: 10, sequence_bits: 12 };

    /// Any other. `epoch_ms` is in milliseconds since 1970; without worker bits there is one worker, number 0, and without
    /// sequence bits one id in a millisecond.
    pub fn new(epoch_ms: u64, time_bits: u32, worker_bits: u32, sequence_bits: u32) -> Result<Self> {
        let bad = |cause: String| Error::new("lay out an id", cause);
        let bits = [time_bits, worker_bits, sequence_bits].iter().map(|&bits| u64::from(bits)).sum::<u64>();
        if bits > u64::from(ID_BITS) {
            let cause = format!("{time_bits} + {worker_bits} + {sequence_bits} bits are {bits}");
            return Err(
                bad(cause).remedy(format!("{ID_BITS} fit into a signed number of 64 bits and keep it positive"))
            );
        }
        if time_bits == 0 {
            return Err(bad("it has no bit for the time".into()));
        }
        let end = epoch_ms.checked_add(1 << time_bits).filter(|end| *end <= i64::MAX as u64);
        end.ok_or_else(|| {
            bad(format!("its time ends beyond what a clock can show (epoch {epoch_ms} ms, {time_bits} bits)"))
        })?;
        Ok(Self { epoch_ms, time_bits, worker_bits, sequence_bits })
    }

    /// Milliseconds from 1970 to its epoch.
    pub fn epoch_ms(&self) -> u64 {
        self.epoch_ms
    }

    /// Bits of the timestamp.
    pub fn time_bits(&self) -> u32 {
        self.time_bits
    }

    /// Bits of the worker's number.
    pub fn worker_bits(&self) -> u32 {
        self.worker_bits
    }

    /// Bits of the sequence.
    pub fn sequence_bits(&self) -> u32 {
        self.sequence_bits
    }

    /// How many workers there can be.
    pub fn workers(&self) -> u64 {
        1 << self.worker_bits
    }

    /// How many ids a worker can make in a millisecond.
    pub fn ids_per_ms(&self) -> u64 {
        1 << self.sequence_bits
    }

    /// How many milliseconds it counts, from its epoch.
    pub fn timestamps(&self) -> u64 {
        1 << self.time_bits
    }

    /// The first moment that it has no number for.
    pub fn end(&self) -> Moment {
        Moment(self.epoch_ms + self.timestamps())
    }

    /// The id of these parts; an error where one of them has no room.
    pub fn encode(&self, timestamp: u64, worker: u64, sequence: u64) -> Result<u64> {
        let parts = [("timestamp", timestamp, self.timestamps()), ("sequence", sequence, self.ids_per_ms())];
        for (name, value, limit) in parts {
            if value >= limit {
                let cause = format!("{name} {value} is beyond {}, the last one of {self}", limit - 1);
                return Err(Error::new("make an id of its parts", cause));
            }
        }
        self.check_worker(worker)?;
        Ok(self.join((timestamp << self.sequence_bits) | sequence, worker))
    }

    /// The parts of an id; an error where it has bits that the layout does not.
    pub fn decode(&self, id: u64) -> Result<Parts> {
        let bits = self.time_bits + self.worker_bits + self.sequence_bits;
        if id >> bits != 0 {
            return Err(Error::new("take an id apart", format!("{id} has more than the {bits} bits of {self}")));
        }
        Ok(Parts {
            timestamp: id >> (self.worker_bits + self.sequence_bits),
            worker: (id >> self.sequence_bits) & (self.workers() - 1),
            sequence: id & (self.ids_per_ms() - 1),
            epoch_ms: self.epoch_ms,
        })
    }

    /// The smallest id of a millisecond (since 1970), whoever makes it: all ids from then on are this or larger.
    pub fn first_id_of(&self, unix_ms: u64) -> Result<u64> {
        let timestamp = unix_ms.checked_sub(self.epoch_ms).ok_or_else(|| {
            let cause = format!("{} is before {self}", Moment(unix_ms));
            Error::new("find the first id of a millisecond", cause)
        })?;
        self.encode(timestamp, 0, 0)
    }

    /// The largest id of a millisecond (since 1970).
    pub fn last_id_of(&self, unix_ms: u64) -> Result<u64> {
        Ok(self.first_id_of(unix_ms)? | ((1 << (self.worker_bits + self.sequence_bits)) - 1))
    }

    pub(super) fn check_worker(&self, worker: u64) -> Result<()> {
        if worker < self.workers() {
            return Ok(());
        }
        let cause = format!("there is no worker {worker} in {self}, whose last one is {}", self.workers() - 1);
        Err(Error::new("make ids", cause))
    }

    /// The id of a slot, a timestamp with its sequence below it. Both are in range.
    pub(super) fn join(&self, slot: u64, worker: u64) -> u64 {
        let sequence = slot & (self.ids_per_ms() - 1);
        ((slot ^ sequence) << self.worker_bits) | (worker << self.sequence_bits) | sequence
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [time, worker, sequence] = [self.time_bits, self.worker_bits, self.sequence_bits];
        write!(f, "the layout {time}|{worker}|{sequence} since {}", Moment(self.epoch_ms))
    }
}

/// A moment in milliseconds since 1970, shown as the calendar has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Moment(pub u64);

impl Moment {
    /// As a clock reads it.
    pub fn since_1970(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, rest) = (self.0 / 86_400_000, self.0 % 86_400_000);
        // The calendar repeats every 400 years; counted from March, a leap day comes last. 719,468 days lie between
        // 0000-03-01 and 1970-01-01.
        let (era, day) = ((days + 719_468) / 146_097, (days + 719_468) % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let (day, month) = (day - (153 * month + 2) / 5 + 1, (month + 2) % 12 + 1);
        let year = era * 400 + year + u64::from(month <= 2);
        let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", rest % 1_000)
    }
}

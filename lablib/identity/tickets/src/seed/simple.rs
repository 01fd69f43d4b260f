//! The prototype's counter: a time stamp, a random machine number and a counter, saved every so often without a sync.

use std::fmt;
use std::io::ErrorKind;
use std::sync::Arc;

use crate::Issuer;
use lab::clock::Clock;
use lab::crash::Disk;
use lab::{Doing, Result, Rng};

/// The prototype's counter on its file.
pub struct SeedCounter {
    disk: Arc<dyn Disk>,
    name: String,
    every: u64,
    counter: u64,
    clock: Arc<dyn Clock>,
    machines: Rng,
}

/// One of its ids, before it becomes a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeedId {
    /// Milliseconds since 1970.
    pub milliseconds: u64,
    /// 0 to 10, thrown anew for every id: whatever it is, it is not a machine's number.
    pub machine: u64,
    /// The counter.
    pub counter: u64,
}

impl fmt::Display for SeedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:02}{:04}", self.milliseconds, self.machine, self.counter)
    }
}

impl SeedCounter {
    /// Opens it, saving every so many ids: it goes on at what was saved, plus that many.
    pub fn open(disk: Arc<dyn Disk>, name: &str, every: u64, clock: Arc<dyn Clock>, seed: u64) -> Result<Self> {
        let doing = "open the prototype's counter";
        let saved = match disk.read(name) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).trim().parse().unwrap_or(0),
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(error).doing(doing),
        };
        let counter = if saved == 0 { 0 } else { saved + every };
        let name = name.to_string();
        Ok(Self { disk, name, every, counter, clock, machines: Rng::seeded(seed, "machine numbers") })
    }

    /// The next id, with all of its parts.
    pub fn next_whole(&mut self) -> Result<SeedId> {
        self.counter += 1;
        if self.counter.is_multiple_of(self.every) {
            let save = || {
                let file = self.disk.open_or_create(&self.name)?;
                file.truncate(0)?;
                file.write_at(0, self.counter.to_string().as_bytes())
            };
            save().doing("save the prototype's counter")?;
        }
        Ok(SeedId { milliseconds: self.clock.now_ms(), machine: self.machines.below(11), counter: self.counter })
    }
}

impl Issuer for SeedCounter {
    /// Its counter: all that makes an id unique within a millisecond.
    fn next_id(&mut self) -> Result<u64> {
        self.next_whole().map(|id| id.counter)
    }
}

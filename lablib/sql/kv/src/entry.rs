//! What is stored under a key.

use std::fmt;
use std::time::Duration;

use super::failure::{Answer, Failure};
use lab::Error;

/// The longest key, in bytes: with it an index entry still fits wherever MySQL and MariaDB put it.
pub const LONGEST_KEY: usize = 255;
/// The longest value, in bytes. What is longer belongs into a file, with its name here.
pub const LONGEST_VALUE: usize = 1 << 20;

/// Which write a value came with: 64 random bits, so a value that is deleted and put again is another, but for one chance in
/// 2⁶⁴.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(pub(super) u64);

impl Version {
    /// Drawn at random: a counter in the row would begin anew with each deletion, and a compare-and-set from before the
    /// deletion would not notice.
    pub(super) fn draw() -> Self {
        Self(rand::random())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Vec<u8>,
    /// Which write it came with, for [`Expected::At`].
    pub version: Version,
    /// For how long it will live on, by the server's clock at the moment of the read; for ever without one.
    pub expires_in: Option<Duration>,
}

/// What must be under a key for a compare-and-set to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Nothing, or something that has expired.
    Absent,
    /// What was read with this version.
    At(Version),
}

/// A key that the table can hold.
pub(super) fn check_key(doing: &str, key: &[u8]) -> Answer<()> {
    if key.len() <= LONGEST_KEY {
        return Ok(());
    }
    let cause = format!("the key has {} bytes, and {LONGEST_KEY} are the limit", key.len());
    Err(Failure::refused(Error::new(format!("{doing} {}", readable(key)), cause)))
}

pub(super) fn check_value(doing: &str, key: &[u8], value: &[u8]) -> Answer<()> {
    if value.len() <= LONGEST_VALUE {
        return Ok(());
    }
    let cause = format!("the value has {} bytes, and {LONGEST_VALUE} are the limit", value.len());
    Err(Failure::refused(Error::new(format!("{doing} {}", readable(key)), cause)))
}

/// In microseconds; nothing at all would be a deletion, and is more often a mistake.
pub(super) fn check_ttl(doing: &str, key: &[u8], ttl: Option<Duration>) -> Answer<Option<u64>> {
    /// Three thousand years, which leaves the sum with the time of now far below what the column holds.
    const LONGEST: u128 = 100_000_000_000_000_000;
    match ttl.map(|ttl| ttl.as_micros()) {
        None => Ok(None),
        Some(micros @ 1..=LONGEST) => Ok(Some(micros as u64)),
        Some(micros) => {
            let cause = if micros == 0 { "it would expire at once" } else { "it would outlive the calendar" };
            Err(Failure::refused(Error::new(format!("{doing} {}", readable(key)), cause)))
        }
    }
}

/// A key for people: as it is where it can be read, else byte by byte; not all of a long one.
pub(super) fn readable(key: &[u8]) -> String {
    const ENOUGH: usize = 40;
    let shown = key[..key.len().min(ENOUGH)].escape_ascii();
    format!("\"{shown}{}\"", if key.len() > ENOUGH { "…" } else { "" })
}

//! What a session was promised, checked against what it saw.

use std::collections::HashMap;

/// Something that a session did, with the version of a row that it wrote or saw. Versions of a row only ever grow; 0 is
/// a row that was not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    /// Its write was acknowledged, and made this version.
    Wrote {
        /// The row.
        key: u64,
        /// Its version from then on.
        version: u64,
    },
    /// It read, and saw this version.
    Read {
        /// The row.
        key: u64,
        /// The version that it saw.
        version: u64,
    },
}

/// What was not kept, and at how much was looked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Broken {
    /// Reads of a row that the session had written itself before: what read-your-writes is about.
    pub own_reads: u64,
    /// … that showed an older version than its own.
    pub own_lost: u64,
    /// Reads of a row that the session had read before: what monotonic reads are about.
    pub repeated_reads: u64,
    /// … that showed an older version than it had seen already.
    pub backwards: u64,
    /// The first of either, in words.
    pub first: Option<String>,
}

impl Broken {
    /// Both kinds together.
    pub fn all(&self) -> u64 {
        self.own_lost + self.backwards
    }

    /// Adds another session's.
    pub fn add(&mut self, other: &Self) {
        self.own_reads += other.own_reads;
        self.own_lost += other.own_lost;
        self.repeated_reads += other.repeated_reads;
        self.backwards += other.backwards;
        if self.first.is_none() {
            self.first.clone_from(&other.first);
        }
    }
}

/// Checks one session's history, in the order in which it did things.
///
/// ```
/// use replica::{Did, check_session};
///
/// let stale = [Did::Wrote { key: 7, version: 2 }, Did::Read { key: 7, version: 1 }];
/// assert_eq!(check_session(&stale).own_lost, 1);
/// ```
pub fn check_session(history: &[Did]) -> Broken {
    let mut broken = Broken::default();
    let mut wrote: HashMap<u64, u64> = HashMap::new();
    let mut seen: HashMap<u64, u64> = HashMap::new();
    for did in history {
        match *did {
            Did::Wrote { key, version } => {
                let own = wrote.entry(key).or_default();
                *own = version.max(*own);
            }
            Did::Read { key, version } => {
                if let Some(&own) = wrote.get(&key) {
                    broken.own_reads += 1;
                    if version < own {
                        broken.own_lost += 1;
                        let words = || format!("row {key}: wrote version {own}, then read version {version}");
                        broken.first.get_or_insert_with(words);
                    }
                }
                let before = seen.entry(key).or_insert(version);
                broken.repeated_reads += 1;
                if version < *before {
                    broken.backwards += 1;
                    let words = format!("row {key}: read version {before}, then version {version}");
                    broken.first.get_or_insert(words);
                }
                *before = version.max(*before);
            }
        }
    }
    // The first read of a row repeats nothing.
    broken.repeated_reads -= seen.len() as u64;
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrote(key: u64, version: u64) -> Did {
        Did::Wrote { key, version }
    }

    fn read(key: u64, version: u64) -> Did {
        Did::Read { key, version }
    }

    #[test]
    fn good_histories_are_good() {
        for history in [
            vec![],
            vec![read(1, 0)],
            vec![wrote(1, 1), read(1, 1), read(1, 1)],
            // Somebody else wrote in between.
            vec![wrote(1, 1), read(1, 5), wrote(1, 6), read(1, 6)],
            vec![read(1, 5), read(2, 1), wrote(2, 3), read(2, 3), read(1, 5)],
            // Two writes, of which the older one is noted later.
            vec![wrote(1, 3), wrote(1, 2), read(1, 3)],
        ] {
            let broken = check_session(&history);
            assert_eq!((broken.all(), broken.first), (0, None), "{history:?}");
        }
    }

    #[test]
    fn bad_histories_are_caught() {
        for (history, own_lost, backwards) in [
            (vec![wrote(1, 1), read(1, 0)], 1, 0),
            (vec![wrote(1, 4), read(1, 3)], 1, 0),
            (vec![wrote(1, 1), wrote(1, 2), read(1, 1)], 1, 0),
            (vec![wrote(1, 3), wrote(1, 2), read(1, 2)], 1, 0),
            (vec![wrote(1, 1), read(1, 1), wrote(1, 2), read(1, 1)], 1, 0),
            (vec![wrote(1, 1), read(2, 9), read(1, 0)], 1, 0),
            (vec![read(1, 2), read(1, 1)], 0, 1),
            (vec![read(1, 1), read(1, 0)], 0, 1),
            (vec![read(1, 3), read(1, 1), read(1, 2)], 0, 2),
            (vec![read(1, 2), read(2, 7), read(1, 1), read(2, 6)], 0, 2),
            (vec![wrote(1, 2), read(1, 2), read(1, 1)], 1, 1),
            // A write of one's own does not excuse going back behind what was seen.
            (vec![read(1, 5), wrote(1, 3), read(1, 4)], 0, 1),
        ] {
            let broken = check_session(&history);
            assert_eq!((broken.own_lost, broken.backwards), (own_lost, backwards), "{history:?}");
            assert!(broken.first.is_some());
        }
    }

    #[test]
    fn what_was_looked_at_is_counted() {
        let broken = check_session(&[read(1, 0), wrote(1, 1), read(1, 1), read(2, 0), read(2, 0)]);
        assert_eq!((broken.own_reads, broken.repeated_reads), (1, 2));
        let mut sum = broken.clone();
        sum.add(&check_session(&[read(1, 1), read(1, 0)]));
        assert_eq!((sum.repeated_reads, sum.backwards), (3, 1));
        assert_eq!(sum.first.as_deref(), Some("row 1: read version 1, then version 0"));
    }
}

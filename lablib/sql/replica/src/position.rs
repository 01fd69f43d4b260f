//! How far a server has come: the transactions that it has, as both families write them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use lab::{Error, Result};

/// One transaction of a MariaDB: `domain-server-number`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gtid {
    /// The stream that it belongs to; the lab's servers have one, 0.
    pub domain: u32,
    /// Who committed it first.
    pub server: u32,
    /// Its number in the stream.
    pub number: u64,
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server, self.number)
    }
}

impl FromStr for Gtid {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.trim().split('-');
        let gtid = (|| {
            let (domain, server, number) = (digits(parts.next()?)?, digits(parts.next()?)?, digits(parts.next()?)?);
            Some(Self { domain: domain.try_into().ok()?, server: server.try_into().ok()?, number })
        })();
        gtid.filter(|_| parts.next().is_none())
            .ok_or_else(|| Error::new("read a GTID", format!("{text:?} is no domain-server-number")))
    }
}

/// Digits and nothing else: `parse` alone would let a sign pass.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The transactions that a server has. Empty is a position, too: that of a server without any.
///
/// ```
/// use replica::Position;
///
/// let (old, new): (Position, Position) = ("0-1-41".parse()?, "0-1-42".parse()?);
/// assert!(new.covers(&old) && !old.covers(&new));
/// # Ok::<(), lab::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    /// MariaDB: the last transaction of each stream, which stands for all before it.
    last: BTreeMap<u32, Gtid>,
    /// MySQL: what is there of each server's transactions, as ranges, both ends included, in order and apart.
    sets: BTreeMap<String, Vec<(u64, u64)>>,
}

impl Position {
    /// The position of a server without transactions.
    pub fn start() -> Self {
        Self::default()
    }

    /// Whether it is that of a server without transactions.
    pub fn is_start(&self) -> bool {
        self.last.is_empty() && self.sets.is_empty()
    }

    /// Whether a server at this position has everything that one at the other has.
    ///
    /// In a MariaDB's stream the higher number has the lower ones, which `gtid_strict_mode` sees to; the same number
    /// from two servers is two transactions, and covers neither way.
    pub fn covers(&self, other: &Self) -> bool {
        let last = other.last.iter().all(|(domain, theirs)| {
            self.last.get(domain).is_some_and(|mine| mine.number > theirs.number || mine == theirs)
        });
        let sets = other.sets.iter().all(|(server, theirs)| {
            let mine = self.sets.get(server).map(Vec::as_slice).unwrap_or_default();
            theirs.iter().all(|(from, to)| mine.iter().any(|(first, last)| first <= from && to <= last))
        });
        last && sets
    }

    /// Takes everything in that a server at the other position has.
    pub fn join(&mut self, other: &Self) {
        for (domain, theirs) in &other.last {
            let mine = self.last.entry(*domain).or_insert(*theirs);
            if theirs.number > mine.number {
                *mine = *theirs;
            }
        }
        for (server, ranges) in &other.sets {
            let mine = self.sets.entry(server.clone()).or_default();
            mine.extend(ranges);
            *mine = apart(std::mem::take(mine));
        }
    }

    /// The last transaction of each of a MariaDB's streams.
    pub fn gtids(&self) -> impl Iterator<Item = Gtid> + '_ {
        self.last.values().copied()
    }

    /// The transaction that it names, where it is a single one of a MariaDB.
    pub fn gtid(&self) -> Option<Gtid> {
        let mut all = self.last.values();
        all.next().copied().filter(|_| all.next().is_none() && self.sets.is_empty())
    }
}

/// The same numbers as ranges that neither touch nor overlap.
fn apart(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for (from, to) in ranges {
        match merged.last_mut() {
            Some((_, last)) if from <= last.saturating_add(1) => *last = to.max(*last),
            _ => merged.push((from, to)),
        }
    }
    merged
}

impl FromStr for Position {
    type Err = Error;

    /// Reads what a MariaDB (`0-1-42,1-1-7`) or a MySQL (`3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7`) answers.
    fn from_str(text: &str) -> Result<Self> {
        let mut position = Self::start();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let Some((server, ranges)) = part.split_once(':') else {
                let gtid: Gtid = part.parse()?;
                let one = Self { last: BTreeMap::from([(gtid.domain, gtid)]), ..Self::default() };
                position.join(&one);
                continue;
            };
            let wrong = || Error::new("read a position", format!("{part:?} is no server:from-to"));
            let server = server.to_ascii_lowercase();
            let is_uuid = server.len() == 36 && server.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
            if !is_uuid {
                return Err(wrong());
            }
            let mut key = server.clone();
            for range in ranges.split(':').map(str::trim) {
                // Since 8.3 a tag may come before the ranges that belong to it.
                if range.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
                    key = format!("{server}:{}", range.to_ascii_lowercase());
                    continue;
                }
                let (from, to) = range.split_once('-').unwrap_or((range, range));
                let (from, to) =
                    digits(from).zip(digits(to)).filter(|(from, to)| 1 <= *from && from <= to).ok_or_else(wrong)?;
                position.join(&Self { sets: BTreeMap::from([(key.clone(), vec![(from, to)])]), ..Self::default() });
            }
        }
        Ok(position)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gtids = self.last.values().map(Gtid::to_string);
        let sets = self.sets.iter().map(|(server, ranges)| {
            let range = |(from, to): &(u64, u64)| if from == to { from.to_string() } else { format!("{from}-{to}") };
            format!("{server}:{}", ranges.iter().map(range).collect::<Vec<_>>().join(":"))
        });
        f.write_str(&gtids.chain(sets).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn position(text: &str) -> Position {
        text.parse().unwrap()
    }

    #[test]
    fn what_servers_answer_is_read_and_written_back() {
        for text in ["", "0-1-5", "0-1-5,1-2-7", &format!("{UUID}:1-5:7"), &format!("{UUID}:tag:1-3")] {
            assert_eq!(position(text).to_string(), text);
        }
        // As MySQL breaks its lines, and as it joins ranges.
        assert_eq!(position(&format!("{UUID}:1-5,\n{}:6-9", UUID.to_uppercase())), position(&format!("{UUID}:1-9")));
        assert_eq!(position("0-1-5").gtid(), Some(Gtid { domain: 0, server: 1, number: 5 }));
        assert_eq!(position("0-1-5,1-1-5").gtid(), None);
    }

    #[test]
    fn nonsense_is_an_error() {
        for text in
            ["1", "0-1", "0-1-x", "0-1-5-6", "0--5", "0-1--5", "0-+1-5", "4294967296-1-1", "NULL", "a:1", "0-1-5;1-1-1"]
        {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
        for ranges in ["", "0", "5-4", "1-", "-1", "1-x"] {
            assert!(format!("{UUID}:{ranges}").parse::<Position>().is_err(), "{ranges}");
        }
    }

    #[test]
    fn the_same_number_from_two_servers_is_two_transactions() {
        let (one, other) = (position("0-1-5"), position("0-2-5"));
        assert!(!one.covers(&other) && !other.covers(&one) && one.covers(&one));
    }

    #[test]
    fn everything_covers_the_start_and_domains_count_apart() {
        let both = position("0-1-5,1-1-5");
        assert!(both.covers(&Position::start()) && Position::start().covers(&Position::start()));
        assert!(!Position::start().covers(&both));
        assert!(both.covers(&position("1-1-4")) && !both.covers(&position("2-1-1")));
        assert!(!position("0-1-9").covers(&both));
    }

    #[test]
    fn a_gap_is_not_covered() {
        let gap = position(&format!("{UUID}:1-5:7-9"));
        assert!(gap.covers(&position(&format!("{UUID}:8"))) && !gap.covers(&position(&format!("{UUID}:5-7"))));
    }

    fn any_position() -> impl Strategy<Value = Position> {
        let gtids = proptest::collection::vec((0_u32..3, 1_u32..3, 1_u64..20), 0..3);
        let ranges = proptest::collection::vec((1_u64..20, 0_u64..5), 0..4);
        (gtids, ranges).prop_map(|(gtids, ranges)| {
            let mut position = Position::start();
            for (domain, server, number) in gtids {
                position.join(&Gtid { domain, server, number }.to_string().parse().unwrap());
            }
            for (from, more) in ranges {
                position.join(&format!("{UUID}:{from}-{}", from + more).parse().unwrap());
            }
            position
        })
    }

    proptest! {
        #[test]
        fn text_and_back_is_the_same(position in any_position()) {
            prop_assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
        }

        #[test]
        fn covering_is_an_order_and_a_join_covers_both(a in any_position(), b in any_position(), c in any_position()) {
            prop_assert!(a.covers(&a));
            if a.covers(&b) && b.covers(&a) {
                prop_assert_eq!(&a, &b);
            }
            if a.covers(&b) && b.covers(&c) {
                prop_assert!(a.covers(&c));
            }
            let mut joined = a.clone();
            joined.join(&b);
            prop_assert!(joined.covers(&a));
            // Two servers with one number have parted; nothing covers both.
            let parted = a.last.iter().any(|(domain, mine)| {
                b.last.get(domain).is_some_and(|theirs| theirs.number == mine.number && theirs != mine)
            });
            prop_assert!(parted || joined.covers(&b));
        }
    }
}

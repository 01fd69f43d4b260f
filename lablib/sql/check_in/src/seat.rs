//! Seats and their names.

use std::fmt;

use lab::{Error, Result};

/// Letters of a row; there is no I, which looks like a 1.
const LETTERS: &[u8] = b"ABCDEFGHJK";

/// How many rows a cabin has, and how many seats are in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    rows: u32,
    abreast: u32,
}

/// A seat of a cabin, counted from 1: along the first row, then along the second one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seat {
    number: u32,
    abreast: u32,
}

impl Layout {
    /// A cabin with 1 to 999 rows of 1 to 10 seats.
    ///
    /// ```
    /// use check_in::Layout;
    ///
    /// let cabin = Layout::new(20, 6).unwrap();
    /// assert_eq!(cabin.seats(), 120);
    /// assert_eq!(cabin.named("12C").unwrap().number(), 69);
    /// assert_eq!(cabin.seat(69).unwrap().to_string(), "12C");
    /// ```
    pub fn new(rows: u32, abreast: u32) -> Result<Self> {
        if (1..=999).contains(&rows) && (1..=LETTERS.len() as u32).contains(&abreast) {
            return Ok(Self { rows, abreast });
        }
        let cause = format!("{rows} rows of {abreast} seats; it takes 1 to 999 rows of 1 to {} seats", LETTERS.len());
        Err(Error::new("lay out a cabin", cause))
    }

    /// How many rows.
    pub fn rows(self) -> u32 {
        self.rows
    }

    /// How many seats in each row.
    pub fn abreast(self) -> u32 {
        self.abreast
    }

    /// How many seats in all.
    pub fn seats(self) -> u32 {
        self.rows * self.abreast
    }

    /// The seat with this number.
    pub fn seat(self, number: u32) -> Result<Seat> {
        if (1..=self.seats()).contains(&number) {
            return Ok(Seat { number, abreast: self.abreast });
        }
        Err(Error::new("find a seat", format!("there are seats 1 to {}, and no {number}", self.seats())))
    }

    /// The seat with this name.
    pub fn named(self, name: &str) -> Result<Seat> {
        let place = || {
            let letter = LETTERS.iter().position(|letter| Some(letter) == name.as_bytes().last())? as u32;
            let digits = name.get(..name.len() - 1)?;
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
            let row: u32 = digits.parse().ok().filter(|row| plain && (1..=self.rows).contains(row))?;
            (letter < self.abreast).then(|| (row - 1) * self.abreast + letter + 1)
        };
        let number = place().ok_or_else(|| Error::new("find a seat", format!("{name:?} is none of this cabin")))?;
        self.seat(number)
    }

    /// The numbers of the seats of a row, counted from 1.
    pub(super) fn of_row(self, row: u32) -> std::ops::RangeInclusive<u32> {
        let first = (row - 1) * self.abreast + 1;
        first..=first + self.abreast - 1
    }
}

impl Seat {
    /// Its number, from 1 on.
    pub fn number(self) -> u32 {
        self.number
    }

    /// Its row, from 1 on.
    pub fn row(self) -> u32 {
        (self.number - 1) / self.abreast + 1
    }
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = LETTERS.get(((self.number - 1) % self.abreast) as usize).copied().unwrap_or(b'?');
        write!(f, "{}{}", self.row(), char::from(letter))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_the_same_seats() {
        for (rows, abreast) in [(1, 1), (20, 6), (100, 10), (999, 9)] {
            let layout = Layout::new(rows, abreast).unwrap();
            for number in 1..=layout.seats() {
                let seat = layout.seat(number).unwrap();
                assert_eq!(layout.named(&seat.to_string()).unwrap(), seat);
                assert!(layout.of_row(seat.row()).contains(&number));
            }
        }
        assert_eq!(Layout::new(20, 10).unwrap().seat(20).unwrap().to_string(), "2K");
    }

    #[test]
    fn what_is_no_seat_is_refused() {
        for (rows, abreast) in [(0, 6), (1_000, 6), (20, 0), (20, 11), (u32::MAX, 10)] {
            assert!(Layout::new(rows, abreast).is_err());
        }
        let layout = Layout::new(20, 6).unwrap();
        for name in ["", "A", "12", "0A", "21A", "12G", "12a", "012A", "+1A", "12C ", "1\u{e4}A", "12ä"] {
            assert!(layout.named(name).is_err(), "{name:?}");
        }
        assert!(layout.seat(0).is_err() && layout.seat(121).is_err());
    }
}

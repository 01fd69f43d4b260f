//! Keys of every width in every order: which key the n-th row gets.

use std::fmt;

use uuid::{Builder, Uuid};

use super::permutation::{Permutation, mix};
use lab::{Error, Result};

/// The type of a primary key. Text is in ascii, one byte a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyWidth {
    /// `INT UNSIGNED`: 4 bytes.
    Int,
    /// `BIGINT UNSIGNED`: 8 bytes.
    BigInt,
    /// `BINARY(16)`: a UUID as it is.
    Binary16,
    /// `CHAR(16)`: 16 hexadecimal digits.
    Char16,
    /// `VARCHAR(16)`, the prototype's: 16 hexadecimal digits, and a byte that says how many.
    VarChar16,
    /// `VARCHAR(36)`: a UUID as it is printed.
    VarChar36,
}

/// In which order keys come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Order {
    /// Each key is one more than the last.
    Sequential,
    /// By the millisecond in which a row was made; rows of one millisecond come from several makers and in any order.
    /// A snowflake in 8 bytes, a UUIDv7 in 16.
    TimeOrdered,
    /// A random permutation: as random as a UUIDv4, and no two rows share a key.
    Random,
}

/// A width and an order: one cell of the experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Arm {
    /// How wide.
    pub width: KeyWidth,
    /// In which order.
    pub order: Order,
}

/// How many rows are made in one millisecond, each by another maker, if nothing else is said.
pub const MADE_PER_MILLISECOND: u64 = 16;
/// What the ten bits of a snowflake's worker tell apart.
const MAKERS_AT_MOST: u64 = 1 << 10;
/// The first row's millisecond: 2023-01-01, the prototype's epoch.
const FIRST_MILLISECOND: u64 = 1_672_531_200_000;

impl KeyWidth {
    /// The widths of the issue, and the prototype's own.
    pub const ALL: [Self; 6] =
        [Self::Int, Self::BigInt, Self::Binary16, Self::Char16, Self::VarChar16, Self::VarChar36];

    /// The column's type in SQL.
    pub fn sql(self) -> &'static str {
        match self {
            Self::Int => "INT UNSIGNED",
            Self::BigInt => "BIGINT UNSIGNED",
            Self::Binary16 => "BINARY(16)",
            Self::Char16 => "CHAR(16) CHARACTER SET ascii COLLATE ascii_bin",
            Self::VarChar16 => "VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin",
            Self::VarChar36 => "VARCHAR(36) CHARACTER SET ascii COLLATE ascii_bin",
        }
    }

    /// What shows a key of the column `id` as text.
    pub(super) fn sql_text(self) -> &'static str {
        if self == Self::Binary16 { "LOWER(HEX(id))" } else { "id" }
    }

    /// The bytes of a key, without what says how long it is.
    pub fn bytes(self) -> usize {
        match self {
            Self::Int => 4,
            Self::BigInt => 8,
            Self::Binary16 | Self::Char16 | Self::VarChar16 => 16,
            Self::VarChar36 => 36,
        }
    }

    /// The bytes that say how long a key is.
    pub fn length_bytes(self) -> usize {
        usize::from(matches!(self, Self::VarChar16 | Self::VarChar36))
    }

    /// The orders that exist in this width: four bytes hold no time of day.
    pub fn orders(self) -> &'static [Order] {
        match self {
            Self::Int => &[Order::Sequential, Order::Random],
            _ => &[Order::Sequential, Order::TimeOrdered, Order::Random],
        }
    }
}

impl fmt::Display for KeyWidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Int => "INT",
            Self::BigInt => "BIGINT",
            Self::Binary16 => "BINARY(16)",
            Self::Char16 => "CHAR(16)",
            Self::VarChar16 => "VARCHAR(16)",
            Self::VarChar36 => "VARCHAR(36)",
        })
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sequential => "sequential",
            Self::TimeOrdered => "time-ordered",
            Self::Random => "random",
        })
    }
}

impl Arm {
    /// The cell of a width and an order; an error where there is no such cell.
    pub fn new(width: KeyWidth, order: Order) -> Result<Self> {
        if width.orders().contains(&order) {
            return Ok(Self { width, order });
        }
        let error = Error::new("choose a key", format!("there is no {order} {width}: a moment does not fit"));
        Err(error.remedy("use BIGINT or wider"))
    }

    /// Every cell that exists, by width and then by order; of the two ways to keep 16 letters only `CHAR(16)`.
    pub fn all() -> Vec<Self> {
        let widths = KeyWidth::ALL.into_iter().filter(|width| *width != KeyWidth::VarChar16);
        widths.flat_map(|width| width.orders().iter().map(move |order| Self { width, order: *order })).collect()
    }

    /// The prototype's two arms and the two that it left out: narrow and wide, each in order and out of order.
    pub fn two_by_two() -> [Self; 4] {
        let arm = |width, order| Self { width, order };
        [
            arm(KeyWidth::Int, Order::Sequential),
            arm(KeyWidth::VarChar16, Order::Sequential),
            arm(KeyWidth::Int, Order::Random),
            arm(KeyWidth::VarChar16, Order::Random),
        ]
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.width, self.order) {
            (KeyWidth::BigInt, Order::TimeOrdered) => f.write_str("BIGINT snowflake"),
            (width, order) => write!(f, "{width} {order}"),
        }
    }
}

/// The keys of an arm: the same seed and row always give the same key.
///
/// ```
/// use key_width::{Arm, KeyWidth, Keys, Order};
///
/// let keys = Keys::new(Arm::new(KeyWidth::Char16, Order::Sequential).unwrap(), 1).unwrap();
/// assert_eq!(keys.literal(255), "'0000000000000100'");
/// let random = Keys::new(Arm::new(KeyWidth::Int, Order::Random).unwrap(), 1).unwrap();
/// assert_ne!(random.rank(1), random.rank(0) + 1);
/// ```
#[derive(Debug, Clone)]
pub struct Keys {
    arm: Arm,
    seed: u64,
    permutation: Permutation,
    /// How many makers there are: each makes one row in a millisecond.
    makers: u64,
}

impl Keys {
    /// The keys of this arm under a seed.
    pub fn new(arm: Arm, seed: u64) -> Result<Self> {
        Arm::new(arm.width, arm.order)?;
        let bits = match arm.width {
            KeyWidth::Int => 32,
            KeyWidth::BigInt => 64,
            // What a UUIDv4 keeps free in its first eight bytes.
            _ => 60,
        };
        let permutation = Permutation::of_bits(bits, seed)?;
        Ok(Self { arm, seed, permutation, makers: MADE_PER_MILLISECOND })
    }

    /// The same by so many makers, each of which makes a row in a millisecond: it matters to keys by time alone.
    pub fn made_by(mut self, makers: u64) -> Result<Self> {
        if !(1..=MAKERS_AT_MOST).contains(&makers) {
            let error = Error::new("choose a key", format!("{makers} makers of a millisecond's rows"));
            return Err(error.remedy(format!("there is one at least, and there are {MAKERS_AT_MOST} at most")));
        }
        self.makers = makers;
        Ok(self)
    }

    /// Which arm's keys they are.
    pub fn arm(&self) -> Arm {
        self.arm
    }

    /// How many rows have a key.
    pub fn capacity(&self) -> u64 {
        match (self.arm.width, self.arm.order) {
            (KeyWidth::Int, _) => u64::from(u32::MAX),
            // 41 bits of milliseconds since the epoch in a snowflake; a UUIDv7 has more.
            (_, Order::TimeOrdered) => (1 << 41) * self.makers,
            _ => 1 << 60,
        }
    }

    /// Where the key of this row, counted from 0, stands among the others: keys compare as their ranks do.
    pub fn rank(&self, row: u64) -> u64 {
        match (self.arm.width, self.arm.order) {
            (_, Order::Sequential) => row + 1,
            (KeyWidth::Int | KeyWidth::BigInt, Order::Random) => self.permutation.of(row),
            (KeyWidth::BigInt, Order::TimeOrdered) => self.snowflake(row),
            _ => self.uuid(row).as_u64_pair().0,
        }
    }

    /// The key as it is written in SQL.
    pub fn literal(&self, row: u64) -> String {
        let text = self.text(row);
        match self.arm.width {
            KeyWidth::Int | KeyWidth::BigInt => text,
            KeyWidth::Binary16 => format!("x'{text}'"),
            KeyWidth::Char16 | KeyWidth::VarChar16 | KeyWidth::VarChar36 => format!("'{text}'"),
        }
    }

    /// Its digits, as [`KeyWidth::sql_text`] shows them.
    pub(super) fn text(&self, row: u64) -> String {
        match self.arm.width {
            KeyWidth::Int | KeyWidth::BigInt => self.rank(row).to_string(),
            KeyWidth::Binary16 => self.uuid(row).simple().to_string(),
            KeyWidth::Char16 | KeyWidth::VarChar16 => format!("{:016x}", self.rank(row)),
            KeyWidth::VarChar36 => self.uuid(row).hyphenated().to_string(),
        }
    }

    /// 41 bits of milliseconds, 10 bits of worker, 12 of sequence, which is 0: a worker makes one row a millisecond.
    fn snowflake(&self, row: u64) -> u64 {
        (row / self.makers) << 22 | self.maker(row) << 12
    }

    /// Sixteen bytes: a number, a UUIDv7 or a UUIDv4.
    fn uuid(&self, row: u64) -> Uuid {
        let noise = mix(self.seed ^ mix(row));
        match self.arm.order {
            Order::Sequential => Uuid::from_u128(u128::from(row) + 1),
            Order::TimeOrdered => {
                let millisecond = FIRST_MILLISECOND + row / self.makers;
                let mut random = [0; 10];
                // The maker stands where RFC 9562 leaves room for it, so that the first 16 digits differ as well.
                random[..2].copy_from_slice(&(self.maker(row) as u16).to_be_bytes());
                random[2..].copy_from_slice(&noise.to_be_bytes());
                Builder::from_unix_timestamp_millis(millisecond, &random).into_uuid()
            }
            Order::Random => {
                let unique = self.permutation.of(row);
                // 48 bits, then 4 that the version takes, then 12.
                let first = (unique >> 12) << 16 | (unique & 0xfff);
                let bytes = (u128::from(first) << 64 | u128::from(noise)).to_be_bytes();
                Builder::from_random_bytes(bytes).into_uuid()
            }
        }
    }

    /// Which of the makers made this row: in every millisecond each makes one, in another order.
    fn maker(&self, row: u64) -> u64 {
        let mut order: Vec<u64> = (0..self.makers).collect();
        let mut dice = mix(self.seed.rotate_left(17) ^ mix(row / self.makers));
        for place in (1..order.len()).rev() {
            order.swap(place, (dice % (place as u64 + 1)) as usize);
            dice = mix(dice);
        }
        order[(row % self.makers) as usize]
    }
}

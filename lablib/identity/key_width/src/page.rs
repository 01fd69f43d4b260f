//! How large an InnoDB record is, and how many of them fit on a page.

use super::key::KeyWidth;
use lab::{Error, Result};

/// The bytes of a page.
pub const PAGE: usize = 16_384;
/// What is left of a page after its headers, its two boundary records, its trailer and an empty directory.
pub const ROOM: usize = 16_252;
/// What a run of inserts in order leaves free on a leaf of the clustered index, for rows that grow later.
pub const RESERVE: usize = PAGE / 16;
/// A page with gaps and less room than this is cut rather than tidied up.
pub(super) const NOT_WORTH_TIDYING: usize = PAGE / 32;

/// Before each record: its flags, its number on the page, and where the next one is.
const HEADER: usize = 5;
/// In each row: which transaction wrote it, and where its earlier version is.
const TRANSACTION: usize = 6 + 7;
/// In each entry of an upper level: the page below it.
const CHILD: usize = 4;
/// The indexed column of the secondary index, an INT.
const AGE: usize = 4;

/// The records of one index: their sizes, and how full their leaves may get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The bytes of a record on a leaf.
    pub leaf: usize,
    /// The bytes of an entry in the levels above.
    pub node: usize,
    /// Whether rows lie in it, rather than pointers to rows.
    pub clustered: bool,
}

impl Layout {
    /// The index that holds the rows, by primary key: a key, an INT and `pad` bytes.
    pub fn clustered(key: KeyWidth, pad: usize) -> Self {
        let key_bytes = key.length_bytes() + key.bytes();
        // A VARBINARY of more than 255 bytes would need two bytes for its length; this one is declared shorter.
        let leaf = HEADER + key_bytes + TRANSACTION + AGE + 1 + pad;
        Self { leaf, node: HEADER + key_bytes + CHILD, clustered: true }
    }

    /// The index on an INT that is not null: an entry is that INT and the primary key.
    pub fn secondary(key: KeyWidth) -> Self {
        let leaf = HEADER + AGE + key.length_bytes() + key.bytes();
        Self { leaf, node: leaf + CHILD, clustered: false }
    }

    /// The prototype's secondary index: its INT may be null, which costs a byte in every entry.
    pub fn nullable_secondary(key: KeyWidth) -> Self {
        let plain = Self::secondary(key);
        Self { leaf: plain.leaf + 1, node: plain.node + 1, ..plain }
    }

    /// How many records of this size fit on a page: each also needs half a byte of the page's directory.
    pub fn records(size: usize) -> usize {
        let fits = |count: usize| count * size + (2 * count).div_ceil(4) <= ROOM;
        let mut count = ROOM / size.max(1);
        while count > 0 && !fits(count) {
            count -= 1;
        }
        count
    }

    /// The records that fit on a leaf.
    pub fn per_leaf(&self) -> usize {
        Self::records(self.leaf)
    }

    /// An error where not even two records fit on a page: that is no tree.
    pub(super) fn check(&self) -> Result<()> {
        match self.leaf > 0 && Self::records(self.leaf) >= 2 && Self::records(self.node) >= 2 {
            true => Ok(()),
            false => Err(Error::new(
                "lay out an index",
                format!("two records of {} bytes do not fit on a page of {PAGE}", self.leaf),
            )
            .remedy("use records of 1 to about 8,000 bytes")),
        }
    }
}

//! What the pages of an arm should look like, before there is any.

use super::key::{Arm, Keys};
use super::page::{Layout, PAGE};
use super::pool::misses;
use super::rows::Rows;
use super::tree::{PageTree, Split, fill};
use crate::LONGEST_LOAD;
use lab::{Crowd, Result};

/// The leaves of an index, predicted or measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Index {
    /// The records that it holds.
    pub layout: Layout,
    /// How many.
    pub rows: u64,
    /// On how many leaves.
    pub leaf_pages: u64,
    /// All pages that belong to it. InnoDB gives an index its pages by the megabyte, so some of them are still empty.
    pub pages: u64,
}

/// What the simulator says of an arm.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulated {
    /// Which arm.
    pub arm: Arm,
    /// The index that holds the rows.
    pub clustered: Index,
    /// The index on the age.
    pub secondary: Index,
    /// How often InnoDB sets out to cut a page in two, in both: what its counter `index_page_splits` says.
    pub splits: u64,
    /// After so many rows: the leaves of both.
    pub growth: Vec<(u64, u64, u64)>,
}

/// Into how many parts a load is cut to see it grow.
const PARTS: u64 = 100;

impl Index {
    /// The bytes of its leaves for each row.
    pub fn bytes_per_row(&self) -> f64 {
        (self.leaf_pages * PAGE as u64) as f64 / self.rows as f64
    }

    /// The share of the leaves' room that records take, in per cent.
    pub fn fill(&self) -> f64 {
        100.0 * fill(self.layout, self.rows, self.leaf_pages)
    }

    fn of<K: Ord + Copy>(tree: &PageTree<K>, layout: Layout) -> Self {
        Self { layout, rows: tree.len(), leaf_pages: tree.leaf_pages(), pages: tree.pages() }
    }
}

impl Simulated {
    /// After so many rows: the pages that the next row of a random order should read, with a pool of so many pages.
    pub(super) fn misses(&self, pool: f64) -> Vec<(f64, f64)> {
        let at = |(rows, clustered, secondary): &(u64, u64, u64)| {
            (*rows as f64, misses(pool, &[*clustered as f64, *secondary as f64]))
        };
        self.growth.iter().map(at).collect()
    }

    /// Inserts the rows into simulated indexes.
    pub fn of(arm: Arm, rows: &Rows, split: Split) -> Result<Self> {
        Self::of_keys(&Keys::new(arm, rows.seed)?, rows, split)
    }

    /// The same under keys that are not an arm's usual ones.
    pub fn of_keys(keys: &Keys, rows: &Rows, split: Split) -> Result<Self> {
        rows.check()?;
        let arm = keys.arm();
        let layouts = (Layout::clustered(arm.width, rows.pad), Layout::secondary(arm.width));
        let mut clustered = PageTree::new(layouts.0, split)?;
        let mut secondary = PageTree::new(layouts.1, split)?;
        let every = rows.count.div_ceil(PARTS);
        let mut growth = Vec::new();
        for row in 0..rows.count {
            let rank = keys.rank(row);
            clustered.insert(rank)?;
            secondary.insert(entry(rows.age(row), rank))?;
            if (row + 1) % every == 0 || row + 1 == rows.count {
                growth.push((row + 1, clustered.leaf_pages(), secondary.leaf_pages()));
            }
        }
        Ok(Self {
            arm,
            clustered: Index::of(&clustered, layouts.0),
            secondary: Index::of(&secondary, layouts.1),
            splits: clustered.splits() + clustered.spills() + secondary.splits() + secondary.spills(),
            growth,
        })
    }

    /// As [`of`](Self::of), for several arms, two at a time.
    pub fn of_all(arms: &[Arm], rows: &Rows, split: Split) -> Result<Vec<Self>> {
        Crowd::of(2).within(LONGEST_LOAD).map(arms, |arm| Self::of(*arm, rows, split))
    }

    /// Only the secondary index, with a layout of its own: many rows in little time.
    pub fn secondary(arm: Arm, rows: &Rows, layout: Layout) -> Result<Index> {
        rows.check()?;
        let keys = Keys::new(arm, rows.seed)?;
        let mut tree = PageTree::new(layout, Split::InnoDb)?;
        (0..rows.count).try_for_each(|row| tree.insert(entry(rows.age(row), keys.rank(row))))?;
        Ok(Index::of(&tree, layout))
    }
}

/// Where an entry of the secondary index stands: by age, then by key.
fn entry(age: u32, rank: u64) -> u128 {
    u128::from(age) << 64 | u128::from(rank)
}

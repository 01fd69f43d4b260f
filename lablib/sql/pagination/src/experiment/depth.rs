//! What a page costs by how deep it lies: time, rows that the server looked at, pages of its buffer pool.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use super::people::{Order, People};
use crate::{Cursor, Page, Pager, Row, Signer};
use lab::service::{Counters, MariaDb};
use lab::{Error, Result, Trial};

/// A way to a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Everything before it is read and thrown away.
    Offset,
    /// Of everything before it, index entries are read and thrown away.
    Deferred,
    /// From the key of the row before it.
    Keyset,
}

impl Way {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Offset, Self::Deferred, Self::Keyset];

    /// The page behind so many rows; by key, the page that the cursor leads to, or the first.
    pub(super) fn page(self, pager: &mut Pager, rows: u64, cursor: Option<&Cursor>) -> Result<Page> {
        match self {
            Self::Offset => pager.offset(rows),
            Self::Deferred => pager.deferred(rows),
            Self::Keyset => pager.page(cursor),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Offset => "OFFSET",
            Self::Deferred => "deferred join",
            Self::Keyset => "keyset",
        })
    }
}

/// Pages to be read, each in all of these ways in turn.
#[derive(Debug, Clone)]
pub struct DepthSpec {
    pub order: Order,
    pub page_size: u64,
    pub ways: Vec<Way>,
    /// Rows before each page.
    pub depths: Vec<u64>,
    /// How often each page is read in each way.
    pub rounds: usize,
}

/// A page in one way, behind so many rows: an arm of the trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageAt {
    pub way: Way,
    /// Rows before the page.
    pub depth: u64,
}

impl fmt::Display for PageAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} behind {} rows", self.way, self.depth)
    }
}

/// Rows and index entries that the storage engine looked at; those that it left out itself, by a condition on the index, too.
pub(super) fn looked_at(counters: &Counters) -> f64 {
    // MariaDB counts entries that an index condition left out apart; MySQL does not tell.
    let icp = |name: &str| counters.get(name).unwrap_or(0.0);
    counters.rows_read() + icp("Handler_icp_attempts") - icp("Handler_icp_match")
}

/// Reads the pages, in turns; `way` and `depth` are columns of the frame. Figures of each turn: how long it `took`, the rows and index
/// entries that the server `looked at`, its `requests` for a page of the buffer pool; the rows that were `compared`, and those of them
/// that are `alike`, one by one, those of the page that was read first.
pub fn depths(server: &MariaDb, people: &People, spec: &DepthSpec) -> Result<Trial<PageAt>> {
    let query = people.query(spec.order).page_size(spec.page_size);
    let mut pager = Pager::open(server, &query, &Signer::random())?;
    let mut cursors: BTreeMap<u64, Option<Cursor>> = BTreeMap::new();
    for &depth in &spec.depths {
        if depth + spec.page_size > people.rows {
            let cause = format!("behind {depth} rows there is no page of {}", spec.page_size);
            return Err(Error::new("read pages by depth", cause));
        }
        // Where a reader by key comes from: the page before this one.
        let before = depth.checked_sub(spec.page_size);
        cursors.insert(depth, before.map(|before| pager.deferred(before)).transpose()?.and_then(|page| page.next));
    }
    let mut first: BTreeMap<u64, Vec<Row>> = BTreeMap::new();
    let pages = spec.depths.iter().flat_map(|&depth| spec.ways.iter().map(move |&way| PageAt { way, depth }));
    Trial::over(pages, spec.rounds)
        .column("way", |page| page.way.to_string())
        .column("depth", |page| page.depth)
        .titled(&format!("reading pages {}", spec.order.name()))
        .run(|&PageAt { way, depth }, _, figures| {
            let ((page, took), counters) = pager.counted(|pager| {
                let began = Instant::now();
                let page = way.page(pager, depth, cursors[&depth].as_ref())?;
                Ok((page, began.elapsed().as_secs_f64() * 1e3))
            })?;
            let first = first.entry(depth).or_insert_with(|| page.rows.clone());
            let alike = page.rows.iter().zip(first.iter()).filter(|(row, first)| row == first).count();
            figures.push("took", "ms", took);
            figures.work("rows", page.rows.len() as u64);
            figures.push("looked at", "", looked_at(&counters));
            figures.push("requests", "", counters.get("Innodb_buffer_pool_read_requests")?);
            figures.push("compared", "", spec.page_size as f64);
            figures.push("alike", "", alike as f64);
            Ok(())
        })
}

/// R² and slope of the best straight line.
pub fn straight(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let sum = |of: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>();
    let (xx, yy) = (sum(&|point| (point.0 - x).powi(2)), sum(&|point| (point.1 - y).powi(2)));
    let xy = sum(&|point| (point.0 - x) * (point.1 - y));
    (xy * xy / (xx * yy), xy / xx)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straight_line_is_straight_and_a_cloud_is_not() {
        let (r2, slope) = straight(&[(0.0, 5.0), (1.0, 7.0), (2.0, 9.0)]);
        assert!((r2 - 1.0).abs() < 1e-12 && (slope - 2.0).abs() < 1e-12);
        assert!(straight(&[(0.0, 5.0), (1.0, -7.0), (2.0, 9.0), (3.0, -4.0)]).0 < 0.3);
        assert!(straight(&[(0.0, 5.0), (1.0, 5.0)]).0.is_nan(), "what does not change has no line to speak of");
    }
}

//! What a page costs by how deep it lies: time, rows that the server looked at, pages of its buffer pool.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use super::people::{Order, People};
use crate::prototype;
use crate::{Cursor, Pager, Row, Signer};
use lab::chart::{Chart, Lines};
use lab::service::{Counters, MariaDb};
use lab::{Error, Result, Samples, Trial};

/// The three ways to a page.
pub const WAYS: [&str; 3] = ["OFFSET", "deferred join", "keyset"];

/// Pages to be read, each in all three ways in turn.
#[derive(Debug, Clone)]
pub struct DepthSpec {
    pub order: Order,
    pub page_size: u64,
    /// Rows before each page.
    pub depths: Vec<u64>,
    /// How often each page is read in each way.
    pub rounds: usize,
}

/// A page in one of the [`WAYS`], behind so many rows: an arm of the trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageAt {
    pub way: &'static str,
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
    Trial::over(spec.depths.iter().flat_map(|&depth| WAYS.map(|way| PageAt { way, depth })), spec.rounds)
        .column("way", |page| page.way.to_string())
        .column("depth", |page| page.depth)
        .titled(&format!("reading pages {}", spec.order.name()))
        .run(|&PageAt { way, depth }, _, figures| {
            let ((page, took), counters) = pager.counted(|pager| {
                let began = Instant::now();
                let page = match way {
                    "OFFSET" => pager.offset(depth),
                    "deferred join" => pager.deferred(depth),
                    _ => pager.page(cursors[&depth].as_ref()),
                }?;
                Ok((page, began.elapsed().as_secs_f64() * 1e3))
            })?;
            let first = first.entry(depth).or_insert_with(|| page.rows.clone());
            let alike = page.rows.iter().zip(first.iter()).filter(|(row, first)| row == first).count();
            figures.push("took", "ms", took);
            figures.push("looked at", "", looked_at(&counters));
            figures.push("requests", "", counters.get("Innodb_buffer_pool_read_requests")?);
            figures.push("compared", "", spec.page_size as f64);
            figures.push("alike", "", alike as f64);
            Ok(())
        })
}

/// How many times as long the last page takes by key as the first, in turns: one sample a round.
pub fn last_over_first(
    server: &MariaDb,
    people: &People,
    order: Order,
    page_size: u64,
    rounds: usize,
) -> Result<Samples> {
    let mut pager = Pager::open(server, &people.query(order).page_size(page_size), &Signer::random())?;
    let none = || Error::new("compare the first page with the last", "there is one page only");
    let last = pager.deferred(people.rows.checked_sub(2 * page_size).ok_or_else(none)?)?.next.ok_or_else(none)?;
    let trial = Trial::over(["first", "last"], rounds).run(|arm, _, figures| {
        let page = if *arm == "first" { pager.first() } else { pager.after(&last) }?;
        figures.work("rows", page.rows.len() as u64);
        Ok(())
    })?;
    Ok(trial.ratio("seconds", &"last", &"first"))
}

/// Time by OFFSET and by key over depth, on logarithmic axes, with both prototypes' published times. Depth 0 is drawn at
/// a tenth of a page.
pub fn times(pages: &Trial<PageAt>, page_size: u64, title: &str) -> Lines {
    let first = page_size as f64 / 10.0;
    let took = pages.figure("took").except("round", 0).except("way", WAYS[1]);
    let mut chart = Chart::lines(title).x("rows before the page", "").log_x().y("time for a page", "ms").log_y().of(
        &took.computed("place", "", |page| page.number("depth").max(first)),
        "place",
        "value",
        "way",
    );
    for (page, seconds) in prototype::FIRST_OFFSET {
        let name = if page == 1 { "first prototype, OFFSET" } else { "" };
        chart = chart.mark_point(name, ((page - 1) as f64 * 1e3).max(first), seconds * 1e3);
    }
    for (skipped, milliseconds) in prototype::SECOND_OFFSET {
        let name = if skipped == 0 { "second prototype, OFFSET" } else { "" };
        chart = chart.mark_point(name, (skipped as f64).max(first), milliseconds);
    }
    chart.mark_point("first prototype: one row by key", 1e7, prototype::FIRST_KEYSET * 1e3)
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

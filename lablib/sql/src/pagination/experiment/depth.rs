//! What a page costs by how deep it lies: time, rows that the server looked at, pages of its buffer pool.

use std::time::Instant;

use super::people::{Order, People};
use crate::pagination::seed;
use crate::pagination::{Cursor, Page, Pager, Row, Signer};
use lab::chart::{Chart, Lines, Panels};
use lab::service::{Counters, MariaDb};
use lab::{Error, OrFail, Progress, Result, Samples};

/// The three ways to a page.
pub const WAYS: [&str; 3] = ["OFFSET", "deferred join", "keyset"];

/// Pages to be read, each in all three ways in turn.
#[derive(Debug, Clone)]
pub struct DepthSpec {
    /// In which order.
    pub order: Order,
    /// Rows in a page.
    pub page_size: u64,
    /// Rows before each page.
    pub depths: Vec<u64>,
    /// How often each page is read in each way.
    pub rounds: usize,
}

/// What that cost.
#[derive(Debug, Clone)]
pub struct Depths {
    /// Rows before each page.
    pub depths: Vec<u64>,
    /// Rows in a page.
    pub page_size: u64,
    /// Seconds by way and depth.
    pub seconds: [Vec<Samples>; 3],
    /// Rows and index entries looked at, by way and depth.
    pub looked_at: [Vec<f64>; 3],
    /// Requests for a page of the buffer pool, by way and depth.
    pub requests: [Vec<f64>; 3],
    /// Rows that were read, and should have been: a page's for each page.
    pub compared: u64,
    /// Those of them that are, one by one, those of the page that was read first.
    pub compared_alike: u64,
}

/// Rows and index entries that the storage engine looked at; those that it left out itself, by a condition on the index, too.
pub(super) fn looked_at(counters: &Counters) -> f64 {
    // MariaDB counts entries that an index condition left out apart; MySQL does not tell.
    let icp = |name: &str| counters.get(name).unwrap_or(0.0);
    counters.rows_read() + icp("Handler_icp_attempts") - icp("Handler_icp_match")
}

/// Reads the pages.
pub fn depths(server: &MariaDb, people: &People, spec: &DepthSpec) -> Depths {
    try_depths(server, people, spec).or_fail()
}

fn try_depths(server: &MariaDb, people: &People, spec: &DepthSpec) -> Result<Depths> {
    let query = people.query(spec.order).page_size(spec.page_size);
    let mut pager = Pager::open(server, &query, &Signer::random())?;
    let mut found = Depths {
        depths: spec.depths.clone(),
        page_size: spec.page_size,
        seconds: Default::default(),
        looked_at: Default::default(),
        requests: Default::default(),
        compared: 0,
        compared_alike: 0,
    };
    let mut progress = Progress::new(format!("reading pages {}", spec.order.name()), spec.depths.len() as u64);
    for &depth in &spec.depths {
        if depth + spec.page_size > people.rows {
            let cause = format!("behind {depth} rows there is no page of {}", spec.page_size);
            return Err(Error::new("read pages by depth", cause));
        }
        // Where a reader by key comes from: the page before this one.
        let cursor = match depth.checked_sub(spec.page_size) {
            Some(before) => pager.deferred(before)?.next,
            None => None,
        };
        let mut seconds: [Samples; 3] = Default::default();
        // The first round counts and warms up; it is not timed.
        for round in 0..=spec.rounds {
            let mut expected: Option<Vec<Row>> = None;
            for way in turns(round) {
                let (page, took, counters) = read(&mut pager, way, depth, cursor.as_ref(), round == 0)?;
                if let Some(counters) = counters {
                    found.looked_at[way].push(looked_at(&counters));
                    found.requests[way].push(counters.get("Innodb_buffer_pool_read_requests")?);
                } else {
                    seconds[way].push(took);
                }
                let expected = expected.get_or_insert_with(|| page.rows.clone());
                found.compared += spec.page_size;
                let alike = page.rows.iter().zip(expected.iter()).filter(|(row, expected)| row == expected);
                found.compared_alike += alike.count() as u64;
            }
        }
        for (way, seconds) in seconds.into_iter().enumerate() {
            found.seconds[way].push(seconds);
        }
        progress.step();
    }
    Ok(found)
}

/// How many times as long the last page takes by key as the first, in turns: one sample a round.
pub fn last_over_first(server: &MariaDb, people: &People, order: Order, page_size: u64, rounds: usize) -> Samples {
    let run = || -> Result<Samples> {
        let query = people.query(order).page_size(page_size);
        let mut pager = Pager::open(server, &query, &Signer::random())?;
        let none = || Error::new("compare the first page with the last", "there is one page only");
        let last = pager.deferred(people.rows.checked_sub(2 * page_size).ok_or_else(none)?)?.next.ok_or_else(none)?;
        let mut took = [Samples::default(), Samples::default()];
        for round in 0..=rounds {
            for way in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                let began = Instant::now();
                let page = if way == 0 { pager.first() } else { pager.after(&last) }?;
                let seconds = began.elapsed().as_secs_f64();
                if page.rows.len() as u64 != page_size {
                    return Err(Error::new("compare the first page with the last", "one of them is short"));
                }
                if round > 0 {
                    took[way].push(seconds);
                }
            }
        }
        let [first, last] = took;
        Ok(last.values().iter().zip(first.values()).map(|(last, first)| last / first).collect())
    };
    run().or_fail()
}

/// The ways, turned round every other time.
fn turns(round: usize) -> [usize; 3] {
    if round.is_multiple_of(2) { [0, 1, 2] } else { [2, 1, 0] }
}

fn read(
    pager: &mut Pager,
    way: usize,
    depth: u64,
    cursor: Option<&Cursor>,
    count: bool,
) -> Result<(Page, f64, Option<Counters>)> {
    let go = |pager: &mut Pager| match way {
        0 => pager.offset(depth),
        1 => pager.deferred(depth),
        _ => pager.page(cursor),
    };
    if count {
        let (page, counters) = pager.counted(go)?;
        return Ok((page, 0.0, Some(counters)));
    }
    let began = Instant::now();
    let page = go(pager)?;
    Ok((page, began.elapsed().as_secs_f64(), None))
}

impl Depths {
    /// Milliseconds by depth, for a chart.
    pub fn milliseconds(&self, way: usize) -> Vec<(f64, Samples)> {
        let times = self.seconds[way].iter().map(|seconds| seconds.map(|seconds| seconds * 1e3));
        self.depths.iter().map(|depth| *depth as f64).zip(times).collect()
    }

    /// Rows looked at by depth, for a chart.
    pub fn rows(&self, way: usize) -> Vec<(f64, f64)> {
        self.depths.iter().map(|depth| *depth as f64).zip(self.looked_at[way].iter().copied()).collect()
    }

    /// Buffer pool requests by depth, for a chart.
    pub fn pages(&self, way: usize) -> Vec<(f64, f64)> {
        self.depths.iter().map(|depth| *depth as f64).zip(self.requests[way].iter().copied()).collect()
    }

    /// Time by OFFSET and by key over depth, on logarithmic axes, with both prototypes' published times. Depth 0 is drawn at
    /// a tenth of a page.
    pub fn times(&self, title: &str) -> Lines {
        let first = self.page_size as f64 / 10.0;
        let ours = |way: usize| {
            self.milliseconds(way).into_iter().map(move |(depth, times)| (depth.max(first), times)).collect::<Vec<_>>()
        };
        let mut chart = Chart::lines(title)
            .x("rows before the page", "")
            .log_x()
            .y("time for a page", "ms")
            .log_y()
            .line_with_spread(WAYS[0], ours(0))
            .line_with_spread("by key", ours(2));
        for (page, seconds) in seed::FIRST_OFFSET {
            let name = if page == 1 { "first prototype, OFFSET" } else { "" };
            chart = chart.mark_point(name, ((page - 1) as f64 * 1e3).max(first), seconds * 1e3);
        }
        for (skipped, milliseconds) in seed::SECOND_OFFSET {
            let name = if skipped == 0 { "second prototype, OFFSET" } else { "" };
            chart = chart.mark_point(name, (skipped as f64).max(first), milliseconds);
        }
        chart.mark_point("first prototype: one row by key", 1e7, seed::FIRST_KEYSET * 1e3)
    }

    /// Pages of the buffer pool and time over depth, in all three ways.
    pub fn panels(&self, title: &str) -> Panels {
        let lines = |title: &str| Chart::lines(title).x("rows before the page", "").size(440, 360);
        let mut requests = lines("Pages that the server looked into …").y("buffer pool requests", "").log_y();
        let mut times = lines("… and how long it took").y("time for a page", "ms").log_y();
        for (way, name) in WAYS.iter().enumerate() {
            requests = requests.line(name, self.pages(way));
            times = times.line_with_spread(name, self.milliseconds(way));
        }
        Chart::side_by_side(&[&requests, &times]).titled(title)
    }

    /// How straight the line of rows looked at over depth is (R²), and its slope.
    pub fn fit(&self, way: usize) -> (f64, f64) {
        straight(&self.rows(way))
    }

    /// How many times as long the deepest page took as the first, round by round.
    pub fn last_over_first(&self, way: usize) -> Samples {
        let [first, .., last] = self.seconds[way].as_slice() else { return Samples::default() };
        last.values().iter().zip(first.values()).map(|(last, first)| last / first).collect()
    }
}

/// R² and slope of the best straight line.
pub(super) fn straight(points: &[(f64, f64)]) -> (f64, f64) {
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

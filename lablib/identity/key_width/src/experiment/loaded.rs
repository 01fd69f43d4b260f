//! What a load has come to: figures beside those that were simulated, what its parts read, and whether all rows are there.

use std::fmt;

use super::load::{READ, WRITTEN};
use super::table::{Table, Told};
use crate::{Arm, Fingerprint, Index, Rows, Simulated, Split};
use lab::chart::{Bars, Chart};
use lab::service::{Counters, MariaDb};
use lab::{Error, Frame, Result, Rng, Samples, Trial};

/// A load of several arms.
#[derive(Debug)]
pub struct Load {
    /// The arms, in the order in which they were named.
    pub arms: Vec<Loaded>,
    /// The rows that every arm got.
    pub rows: Rows,
}

/// What became of one arm.
pub struct Loaded {
    /// Which one.
    pub arm: Arm,
    /// The index that holds the rows, as counted by ANALYZE.
    pub clustered: Index,
    /// The secondary index, as counted by ANALYZE.
    pub secondary: Index,
    /// The bytes of a record on a leaf of each, from the pages themselves.
    pub record_bytes: (f64, f64),
    pub(super) parts: Frame,
    /// Seconds of each batch.
    pub(super) seconds: Samples,
    /// What the server counted from before the first batch until its last page was on disk.
    pub(super) counted: Counters,
    /// What SHOW TABLE STATUS said before anybody had counted, and after ANALYZE TABLE.
    pub(super) told: [Told; 2],
    /// The bytes of the table's file.
    pub(super) file: u64,
    /// What the table holds, by its rows and by its secondary index.
    pub(super) holds: (Fingerprint, Fingerprint),
    pub(super) should_hold: (Fingerprint, Fingerprint),
    pub(super) table: Table,
    pub(super) server: MariaDb,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}, {:?}", self.arm, self.clustered, self.secondary)
    }
}

impl Load {
    /// A row for each `key`, with its `width` and `order`.
    ///
    /// - `time` of a row, and of a batch in the second half of the load, when memory is full (`late`); pages `read` and `written`
    ///   for a row, until the last one was on disk; of the pages that were asked for, those `in memory`; the table's `file`.
    /// - Each with what was simulated (`…, said`) and how far that is off (`…, off`): the bytes a row of the leaves of the index that
    ///   holds the rows (`clustered index`) and of the `secondary index`; how far the former are full (`leaves full`); and how often a
    ///   page was cut in two (`page splits`). Beside them the largest difference between a record's size on the pages and the
    ///   simulated one (`record, off`).
    /// - `Index_length` of the secondary index, as told `before` and `after` ANALYZE, what the latter comes to for a row
    ///   (`by Index_length`), and its `n_leaf_pages`.
    pub fn figures(&self, simulated: &[Simulated]) -> Result<Frame> {
        self.arms.iter().map(|arm| arm.figures(said_of(simulated, arm.arm))).collect()
    }

    /// A row for each `key` and each part of the load: the `rows` at its end, and how many were `inserted` in it; the `rate`; pages
    /// `read` and `written` for each row; how many were `held` in memory at its end; and how many should have been read for each
    /// row with so much memory, while the table grew as was simulated (`read, said`).
    pub fn parts(&self, simulated: &[Simulated]) -> Frame {
        let of = |arm: &Loaded| arm.parts(said_of(simulated, arm.arm)).everywhere("key", "", &arm.arm);
        self.arms.iter().map(of).collect()
    }

    /// What the simulator said, or says anew where there was no time for all the rows that they are about.
    pub fn refit(&self, simulated: Vec<Simulated>) -> Result<Vec<Simulated>> {
        if simulated.iter().all(|said| said.clustered.rows == self.rows.count) {
            return Ok(simulated);
        }
        let arms: Vec<Arm> = simulated.iter().map(|said| said.arm).collect();
        Simulated::of_all(&arms, &self.rows, Split::InnoDb)
    }

    /// Lets somebody run a statement on an arm's table, behind the experiment's back, and looks at what it holds now.
    pub fn meddle(&mut self, arm: Arm, statement: &str) -> Result<()> {
        let loaded = self.of(arm)?;
        loaded.table.run(statement)?;
        loaded.holds = loaded.table.fingerprints()?;
        Ok(())
    }

    /// The arms whose rows are not exactly the rows that they were given, by either of their indexes.
    pub fn wrong(&self) -> Vec<Arm> {
        self.arms.iter().filter(|loaded| loaded.holds != loaded.should_hold).map(|loaded| loaded.arm).collect()
    }

    pub(super) fn of(&mut self, arm: Arm) -> Result<&mut Loaded> {
        let found = self.arms.iter_mut().find(|loaded| loaded.arm == arm);
        found.ok_or_else(|| Error::new("look at an arm", format!("{arm} was not loaded")))
    }
}

/// A figure of a load: a group of bars for each width, a bar for each order, a tick where something was simulated.
pub fn by_width(figures: &Frame, figure: &str, title: &str) -> Bars {
    let said = format!("{figure}, said");
    let chart = Chart::bars(title).y(figure, figures.unit(figure));
    figures.distinct("width").iter().fold(chart, |chart, width| {
        let arms = figures.filter("width", width);
        let chart = chart.group(width).of(&arms, "order", figure);
        let known = arms.columns().contains(&said);
        let ticks = if known { arms.having(&said) } else { Frame::new() };
        ticks.rows().fold(chart, |chart, arm| chart.predicted(arm.text("order"), arm.number(&said)))
    })
}

fn said_of(simulated: &[Simulated], arm: Arm) -> Option<&Simulated> {
    simulated.iter().find(|said| said.arm == arm)
}

impl Loaded {
    fn figures(&self, said: Option<&Simulated>) -> Result<Frame> {
        let (rows, seconds) = (self.clustered.rows as f64, self.seconds.values());
        let count = |name: &str| self.counted.get(name);
        let hits = 1.0 - count("Innodb_buffer_pool_reads")? / count("Innodb_buffer_pool_read_requests")?;
        let [before, after] = self.told.map(|told| told.index as f64);
        let measured = [
            ("time", "µs a row", 1e6 * seconds.iter().sum::<f64>() / rows),
            ("late", "ms a batch", 1e3 * Samples::from(&seconds[seconds.len() / 2..]).median()),
            ("read", "pages a row", count(READ)? / rows),
            ("written", "pages a row", count(WRITTEN)? / rows),
            ("in memory", "%", 100.0 * hits),
            ("file", "MB", self.file as f64 / 1e6),
            ("Index_length, before", "B", before),
            ("Index_length, after", "B", after),
            ("by Index_length", "B a row", after / rows),
            ("n_leaf_pages", "", self.secondary.leaf_pages as f64),
        ];
        let frame =
            Frame::new().text("key", [self.arm]).text("width", [self.arm.width]).text("order", [self.arm.order]);
        let frame = measured.into_iter().fold(frame, |frame, (name, unit, value)| frame.numbers(name, unit, [value]));
        let of = |clustered: &Index, secondary: &Index, splits: f64| {
            let splits = 1e3 * splits / clustered.rows as f64;
            [clustered.bytes_per_row(), secondary.bytes_per_row(), clustered.fill(), splits]
        };
        let is = of(&self.clustered, &self.secondary, count("index_page_splits")?);
        let said_of = said.map(|said| of(&said.clustered, &said.secondary, said.splits as f64));
        let names = [
            ("clustered index", "B a row"),
            ("secondary index", "B a row"),
            ("leaves full", "%"),
            ("page splits", "per 1,000 rows"),
        ];
        let frame = names.into_iter().enumerate().fold(frame, |frame, (at, (name, unit))| {
            let said = said_of.map(|said| said[at]);
            frame
                .numbers(name, unit, [is[at]])
                .numbers_or_missing(&format!("{name}, said"), unit, [said])
                .numbers_or_missing(
                    &format!("{name}, off"),
                    "%",
                    [said.map(|said| 100.0 * (is[at] / said - 1.0).abs())],
                )
        });
        Ok(frame.numbers_or_missing("record, off", "B", [said.map(|said| self.records_off(said))]))
    }

    fn records_off(&self, said: &Simulated) -> f64 {
        let (clustered, secondary) = self.record_bytes;
        let (row, entry) = (said.clustered.layout.leaf as f64, said.secondary.layout.leaf as f64);
        // What was not seen is infinitely wrong, not right.
        if clustered.is_nan() || secondary.is_nan() {
            return f64::INFINITY;
        }
        (clustered - row).abs().max((secondary - entry).abs())
    }

    fn parts(&self, said: Option<&Simulated>) -> Frame {
        // How many pages are in memory, once that is full. Some of it is always kept free, for what comes next, and some is for
        // the server's own pages.
        let held = self.parts.samples("held");
        let held = Samples::from(&held.values()[held.len() / 2..]).median();
        let misses = said.map_or_else(Vec::new, |said| said.misses(held));
        let of_part = |part: lab::Row<'_>| {
            let (to, inserted) = (part.number("rows"), part.number("inserted"));
            let within = misses.iter().filter(|(rows, _)| *rows > to - inserted && *rows <= to);
            let of_part: Samples = within.map(|(_, misses)| *misses).collect();
            (!of_part.is_empty()).then(|| of_part.mean())
        };
        let said: Vec<Option<f64>> = self.parts.rows().map(of_part).collect();
        self.parts.clone().numbers_or_missing("read, said", "pages a row", said)
    }
}

/// What is read from every arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadsSpec {
    /// Rows looked up by key in a round.
    pub points: usize,
    /// Ranges read in a round, of either kind.
    pub ranges: usize,
    /// The rows of a range.
    pub length: u64,
    /// Rounds: arms take turns.
    pub rounds: usize,
    /// Which rows.
    pub seed: u64,
}

/// Reads the same rows from every arm, in turns. Figures, in pages read from disk: of one row by its key (`point`), of a range
/// of `neighbours` by key, and of as many rows that were inserted one after the other (`contemporaries`); and how many rows
/// were not found or were other ones (`wrong`).
pub fn reads(load: &mut Load, spec: ReadsSpec) -> Result<Trial<Arm>> {
    let (arms, rows) = (load.arms.iter().map(|loaded| loaded.arm).collect::<Vec<_>>(), load.rows.count);
    let length = spec.length.clamp(1, rows);
    // The first round warms up: it fills every pool with what reading needs.
    Trial::over(arms, spec.rounds).run(|arm, _, figures| {
        // The same for every arm of a round.
        let mut rng = Rng::seeded(spec.seed, &format!("reads of round {}", figures.round()));
        let points: Vec<u64> = (0..spec.points).map(|_| rng.below(rows)).collect();
        // Not the same ranges twice: what one way of reading has brought into memory, the next would find there.
        let mut ranges = || (0..spec.ranges).map(|_| rng.below(rows - length + 1)).collect::<Vec<u64>>();
        let (by_key, by_time) = (ranges(), ranges());
        let loaded = load.of(*arm)?;
        let (point, found) = loaded.pages_of(|table| table.find(&points))?;
        // Whatever key such a range begins at, it must not run over the end: it would be shorter there.
        let walk = |table: &mut Table| by_key.iter().try_for_each(|from| table.walk(*from, length).map(drop));
        let (neighbours, ()) = loaded.pages_of(walk)?;
        let mut missing = points.len() as u64 - found;
        let (contemporaries, ()) = loaded.pages_of(|table| {
            by_time.iter().try_for_each(|from| {
                missing += length - table.fetch(*from, length)?.min(length);
                Ok(())
            })
        })?;
        figures.push("point", "pages", point / points.len().max(1) as f64);
        figures.push("neighbours", "pages", neighbours / by_key.len().max(1) as f64);
        figures.push("contemporaries", "pages", contemporaries / by_time.len().max(1) as f64);
        figures.push("wrong", "rows", missing as f64);
        Ok(())
    })
}

impl Loaded {
    /// Pages that are read from disk meanwhile.
    fn pages_of<T>(&mut self, work: impl FnOnce(&mut Table) -> Result<T>) -> Result<(f64, T)> {
        let before = Counters::of_server(&self.server)?;
        let done = work(&mut self.table)?;
        Ok((Counters::of_server(&self.server)?.since(&before).get(READ)?, done))
    }
}

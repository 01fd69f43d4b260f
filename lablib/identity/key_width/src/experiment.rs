//! What the notebook does with the keys: what random draws collide in, loads under every key with their counters, reads
//! afterwards, and statistics that nobody refreshed.

#![allow(missing_docs, reason = "a field is documented where its name leaves something open")]

use std::fmt;
use std::time::{Duration, Instant};

use mysql::prelude::{FromRow, Queryable};
use mysql::{Conn, Row};

use crate::LONGEST_LOAD;
use crate::{Arm, Fingerprint, Index, KeyWidth, Keys, Layout, Order, Permutation, Rows, Simulated, Split, mix};
use lab::chart::{Bars, Chart};
use lab::clock::deadline_in;
use lab::service::{Counters, MariaDb};
use lab::{Crowd, Doing, Error, Frame, Progress, Result, Rng, Samples, Trial};

/// Random keys of 32 bits, drawn one by one and by a permutation (`how`): the server would refuse the ones that had been there
/// before (`refused`).
pub fn draws(rows: u64, seed: u64) -> Result<Frame> {
    let permutation = Permutation::of_bits(32, seed)?;
    let repeats = |key: &dyn Fn(u64) -> u64| {
        let mut keys: Vec<u32> = (0..rows).map(|row| key(row) as u32).collect();
        keys.sort_unstable();
        keys.dedup();
        rows - keys.len() as u64
    };
    let drawn = repeats(&|row| mix(seed.rotate_left(9) ^ mix(row)));
    let refused = [drawn, repeats(&|row| permutation.of(row))];
    Ok(Frame::new().text("how", ["drawn", "a permutation"]).counts("refused", "rows", refused))
}

/// How many of so many draws from 32 bits repeat an earlier one, on average.
pub fn expected_repeats(rows: f64) -> f64 {
    let all = 2.0_f64.powi(32);
    rows - all * -(rows * (-1.0 / all).ln_1p()).exp_m1()
}

/// How much of the leaves of the secondary index is used (`fill`) when rows have so many `different ages`, by the order of their
/// INT keys (`keys`).
pub fn ties(count: u64, ages: &[u32], seed: u64) -> Result<Frame> {
    let [narrow, _, random, _] = Arm::two_by_two();
    let layout = Layout::secondary(narrow.width);
    let arms = ages.iter().flat_map(|ages| [(*ages, narrow), (*ages, random)]);
    let filled = |(ages, arm): (u32, Arm)| -> Result<Frame> {
        let fill = Simulated::secondary(arm, &Rows { count, ages, pad: 0, seed }, layout)?.fill();
        let ages = Frame::new().counts("different ages", "", [u64::from(ages)]);
        Ok(ages.text("keys", [arm.order]).numbers("fill", "%", [fill]))
    };
    Crowd::of(2).within(LONGEST_LOAD).map(arms, filled).map(|filled| filled.into_iter().collect())
}

/// How full leaves of rows are (`fill`) with keys by time from so many `makers` at once, and how many `leaves` there are, as
/// simulated.
pub fn simulate_makers(width: KeyWidth, rows: &Rows, makers: &[u64]) -> Result<Frame> {
    let arm = Arm::new(width, Order::TimeOrdered)?;
    let one = |makers: &u64| -> Result<Frame> {
        let keys = Keys::new(arm, rows.seed)?.made_by(*makers)?;
        Ok(leaves_of(*makers, &Simulated::of_keys(&keys, rows, Split::InnoDb)?.clustered))
    };
    makers.iter().map(one).collect()
}

/// The same on real servers, two at a time, a load for each; and whether the rows are others than they should be (`wrong`).
pub fn load_makers(width: KeyWidth, spec: &LoadSpec, makers: &[u64]) -> Result<Frame> {
    let arm = Arm::new(width, Order::TimeOrdered)?;
    let loads = Crowd::of(2).within(LONGEST_LOAD).map(makers.iter().copied(), |makers| {
        let load = load(&[arm], &LoadSpec { makers, lanes: 1, ..spec.clone() })?;
        Ok(leaves_of(makers, &load.arms[0].clustered).counts("wrong", "arms", [load.wrong().len() as u64]))
    })?;
    Ok(loads.into_iter().collect())
}

fn leaves_of(makers: u64, rows: &Index) -> Frame {
    let makers = Frame::new().counts("makers", "", [makers]);
    makers.numbers("fill", "%", [rows.fill()]).counts("leaves", "", [rows.leaf_pages])
}

// The same rows under several keys, each on a server of its own, batch by batch in turns.

/// How a table is loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadSpec {
    pub rows: Rows,
    /// How many of them are one statement and one commit.
    pub batch: u64,
    /// The memory of each server for pages, as in `innodb_buffer_pool_size`.
    pub pool: String,
    /// Into how many parts the load is cut, each of which has its own counters.
    pub parts: u64,
    /// How many makers the rows of one millisecond come from, where keys are by time.
    pub makers: u64,
    /// How many arms work at the same time.
    pub lanes: usize,
    /// The load ends here even if rows are left; all arms have the same rows then.
    pub patience: Duration,
}

/// A load of several arms.
#[derive(Debug)]
pub struct Load {
    /// In the order in which they were named.
    pub arms: Vec<Loaded>,
    /// The rows that every arm got.
    pub rows: Rows,
}

/// What became of one arm.
pub struct Loaded {
    pub arm: Arm,
    /// The index that holds the rows, as counted by ANALYZE.
    pub clustered: Index,
    /// The secondary index, as counted by ANALYZE.
    pub secondary: Index,
    /// The bytes of a record on a leaf of each, from the pages themselves.
    pub record_bytes: (f64, f64),
    /// One row of what was measured of the whole load.
    measured: Frame,
    parts: Frame,
    /// What the table holds and what it should hold, by its rows and by its secondary index.
    holds: (Fingerprint, Fingerprint),
    should_hold: (Fingerprint, Fingerprint),
    table: Table,
    server: MariaDb,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}, {:?}", self.arm, self.clustered, self.secondary)
    }
}

/// An arm at work.
struct Running {
    arm: Arm,
    server: MariaDb,
    table: Table,
    begun: Counters,
    seen: Counters,
    seconds: Samples,
    parts: Vec<Frame>,
    /// Rows at the end of the last part, and the seconds that they took.
    before: (u64, f64),
}

/// The server's counters of pages that it read from disk and wrote to it.
const READ: &str = "Innodb_pages_read";
const WRITTEN: &str = "Innodb_pages_written";

/// How long a server may take to write its last pages.
const FLUSHED: Duration = Duration::from_secs(300);

/// Loads the rows into every arm's own server.
pub fn load(arms: &[Arm], spec: &LoadSpec) -> Result<Load> {
    load_and_kill(arms, spec, None)
}

/// As [`load`], with servers that are killed before this batch.
pub fn load_and_kill(arms: &[Arm], spec: &LoadSpec, killed: Option<u64>) -> Result<Load> {
    spec.rows.check()?;
    if arms.is_empty() || spec.batch == 0 || spec.lanes == 0 || spec.parts == 0 {
        return Err(Error::new("load the rows", "it takes an arm, a lane, a part, and a row in each batch"));
    }
    // Some at a time: each start copies a data directory.
    let mut running = Crowd::of(6).within(LONGEST_LOAD).map(arms, |arm| Running::start(*arm, spec))?;
    let deadline = deadline_in(spec.patience);
    let batches = spec.rows.count.div_ceil(spec.batch);
    let every = batches.div_ceil(spec.parts);
    let mut progress = Progress::new(format!("{} rows into {} arms", spec.rows.count, arms.len()), batches);
    let mut rows = spec.rows;
    for batch in 0..batches {
        if Instant::now() > deadline {
            rows.count = batch * spec.batch;
            break;
        }
        let (from, to) = (batch * spec.batch, ((batch + 1) * spec.batch).min(spec.rows.count));
        let values = spec.rows.values(from, to);
        // Every batch begins with another arm: nobody always works beside the same neighbour.
        running.rotate_left(1);
        if killed == Some(batch) {
            running.iter().for_each(|arm| arm.server.kill());
        }
        Crowd::of(spec.lanes).within(LONGEST_LOAD).map(&mut running, |arm| arm.insert(from, &values))?;
        if (batch + 1) % every == 0 || batch + 1 == batches {
            running.iter_mut().try_for_each(|arm| arm.end_part(to))?;
        }
        progress.step();
    }
    if rows.count == 0 {
        return Err(Error::new("load the rows", "there was no time for a single batch"));
    }
    // Asks the servers to write every page that is not on disk yet.
    for arm in &mut running {
        arm.table.run("SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0")?;
        arm.table.run("SET GLOBAL innodb_max_dirty_pages_pct = 0")?;
    }
    let clean = deadline_in(FLUSHED);
    let mut loaded = Crowd::of(spec.lanes).within(LONGEST_LOAD).map(running, |arm| arm.finish(rows, clean))?;
    // As they were named: they changed places with every batch.
    loaded.sort_by_key(|loaded| arms.iter().position(|arm| *arm == loaded.arm));
    Ok(Load { arms: loaded, rows })
}

impl Running {
    /// A server of its own, with the same settings as all others', and an empty table on it.
    fn start(arm: Arm, spec: &LoadSpec) -> Result<Self> {
        let server = MariaDb::with("innodb_buffer_pool_size", &spec.pool)
            // Nothing waits for the disk at a commit: what is measured is what a key costs, not what a commit does.
            .with("innodb_flush_log_at_trx_commit", "2")
            .with("innodb_flush_method", "O_DIRECT")
            // Nothing that would hide or add page reads.
            .with("innodb_change_buffering", "none")
            .with("innodb_adaptive_hash_index", "OFF")
            .with("innodb_stats_auto_recalc", "OFF")
            // The default frees more pages ahead than a small memory has, and so keeps it half empty.
            .with("innodb_lru_scan_depth", "100")
            .with("innodb_monitor_enable", "index_page_splits")
            .named("keys")
            .start()?;
        let keys = Keys::new(arm, spec.rows.seed)?.made_by(spec.makers)?;
        let table = Table::create(&server, keys, spec.rows, "people", false)?;
        let begun = Counters::of_server(&server)?;
        let (seen, seconds, parts) = (begun.clone(), Samples::default(), Vec::new());
        Ok(Self { arm, server, table, begun, seen, seconds, parts, before: (0, 0.0) })
    }

    fn insert(&mut self, from: u64, values: &[String]) -> Result<()> {
        let statement = self.table.statement(from, values);
        let start = Instant::now();
        self.table.run(&statement).map_err(|error| error.at(self.arm))?;
        self.seconds.push(start.elapsed().as_secs_f64());
        Ok(())
    }

    fn end_part(&mut self, rows: u64) -> Result<()> {
        let now = Counters::of_server(&self.server)?;
        let done = now.since(&self.seen);
        let all: f64 = self.seconds.values().iter().sum();
        let inserted = (rows - self.before.0) as f64;
        let part = Frame::new()
            .counts("rows", "", [rows])
            .numbers("inserted", "", [inserted])
            .numbers("rate", "rows/s", [inserted / (all - self.before.1)])
            .numbers("read", "pages a row", [done.get(READ)? / inserted])
            .numbers("written", "pages a row", [done.get(WRITTEN)? / inserted])
            .numbers("held", "pages", [self.table.pages_in_memory()?]);
        self.parts.push(part);
        (self.seen, self.before) = (now, (rows, all));
        Ok(())
    }

    fn finish(mut self, rows: Rows, clean: Instant) -> Result<Loaded> {
        // Everything from before the first batch until the last page was on disk.
        let counted = loop {
            let now = Counters::of_server(&self.server)?;
            if now.get("Innodb_buffer_pool_pages_dirty")? == 0.0 {
                break now.since(&self.begun);
            }
            if Instant::now() > clean {
                let cause = format!("pages were still not on disk after {} s", FLUSHED.as_secs());
                return Err(Error::new("finish a load", cause).at(self.arm));
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let (_, before) = self.table.told()?;
        self.table.rows = rows;
        let (clustered, secondary) = self.table.analyze()?;
        let (_, after) = self.table.told()?;
        let record_bytes = self.table.record_bytes()?;
        let holds = self.table.fingerprints()?;
        let should_hold = rows.fingerprints(&self.table.keys);
        let (count, seconds) = (rows.count as f64, self.seconds.values());
        let hits = 1.0 - counted.get("Innodb_buffer_pool_reads")? / counted.get("Innodb_buffer_pool_read_requests")?;
        let measured = [
            ("time", "µs a row", 1e6 * seconds.iter().sum::<f64>() / count),
            ("late", "ms a batch", 1e3 * Samples::from(&seconds[seconds.len() / 2..]).median()),
            ("read", "pages a row", counted.get(READ)? / count),
            ("written", "pages a row", counted.get(WRITTEN)? / count),
            ("in memory", "%", 100.0 * hits),
            ("page splits", "per 1,000 rows", 1e3 * counted.get("index_page_splits")? / count),
            ("file", "MB", self.table.file_bytes()? as f64 / 1e6),
            ("Index_length, before", "B", before as f64),
            ("Index_length, after", "B", after as f64),
            ("by Index_length", "B a row", after as f64 / count),
            ("n_leaf_pages", "", secondary.leaf_pages as f64),
            ("clustered index", "B a row", clustered.bytes_per_row()),
            ("secondary index", "B a row", secondary.bytes_per_row()),
            ("leaves full", "%", clustered.fill()),
        ];
        let Self { arm, server, table, parts, .. } = self;
        let key = Frame::new().text("key", [arm]).text("width", [arm.width]).text("order", [arm.order]);
        let measured = measured.into_iter().fold(key, |row, (name, unit, value)| row.numbers(name, unit, [value]));
        let parts = parts.into_iter().collect();
        Ok(Loaded { arm, clustered, secondary, record_bytes, measured, parts, holds, should_hold, table, server })
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
    pub fn figures(&self, simulated: &[Simulated]) -> Frame {
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

    fn of(&mut self, arm: Arm) -> Result<&mut Loaded> {
        let found = self.arms.iter_mut().find(|loaded| loaded.arm == arm);
        found.ok_or_else(|| Error::new("look at an arm", format!("{arm} was not loaded")))
    }
}

fn said_of(simulated: &[Simulated], arm: Arm) -> Option<&Simulated> {
    simulated.iter().find(|said| said.arm == arm)
}

impl Loaded {
    fn figures(&self, said: Option<&Simulated>) -> Frame {
        let of = |said: &Simulated| {
            let splits = 1e3 * said.splits as f64 / said.clustered.rows as f64;
            [said.clustered.bytes_per_row(), said.secondary.bytes_per_row(), said.clustered.fill(), splits]
        };
        let names = ["clustered index", "secondary index", "leaves full", "page splits"];
        let frame = names.into_iter().enumerate().fold(self.measured.clone(), |frame, (at, name)| {
            let (said, unit) = (said.map(|said| of(said)[at]), frame.unit(name).to_string());
            let off = said.map(|said| 100.0 * (frame.number(name) / said - 1.0).abs());
            let frame = frame.numbers_or_missing(&format!("{name}, said"), &unit, [said]);
            frame.numbers_or_missing(&format!("{name}, off"), "%", [off])
        });
        frame.numbers_or_missing("record, off", "B", [said.map(|said| self.records_off(said))])
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
        // How many pages are in memory, once that is full: the most that were seen. On a busy machine a look may come when the server
        // has just made room for what comes next. Some memory is always kept free, and some is for the server's own pages.
        let held = self.parts.samples("held");
        let held = Samples::from(&held.values()[held.len() / 2..]).max();
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

    /// Pages that are read from disk meanwhile.
    fn pages_of(&mut self, work: impl FnOnce(&mut Table) -> Result<()>) -> Result<f64> {
        let before = Counters::of_server(&self.server)?;
        work(&mut self.table)?;
        Counters::of_server(&self.server)?.since(&before).get(READ)
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

/// What is read from every arm in a round; arms take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadsSpec {
    /// Rows looked up by key.
    pub points: usize,
    /// Ranges, of either kind.
    pub ranges: usize,
    /// The rows of a range.
    pub length: u64,
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
        let (loaded, mut missing) = (load.of(*arm)?, 0);
        let point = loaded.pages_of(|table| {
            missing += points.len() as u64 - table.find(&points)?;
            Ok(())
        })?;
        // Whatever key such a range begins at, it must not run over the end: it would be shorter there.
        let walk = |table: &mut Table| by_key.iter().try_for_each(|from| table.walk(*from, length).map(drop));
        let neighbours = loaded.pages_of(walk)?;
        let contemporaries = loaded.pages_of(|table| {
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

/// Loads a table with the server's default statistics beside an arm's own, and asks for its size too early. A row for each moment
/// (`asked`): `Data_length` and `Index_length` as SHOW TABLE STATUS tells them, and the `leaves` of the secondary index, by a
/// sample of as many pages as is usual, and by one of a single page.
pub fn stale(load: &mut Load, arm: Arm, rows: Rows) -> Result<Frame> {
    let mut table = Table::create(&load.of(arm)?.server, Keys::new(arm, rows.seed)?, rows, "hasty", true)?;
    table.run("SET GLOBAL innodb_stats_auto_recalc = ON")?;
    for from in (0..rows.count).step_by(1_000) {
        let statement = table.statement(from, &rows.values(from, rows.count.min(from + 1_000)));
        table.run(&statement)?;
    }
    let at_once = (table.told()?, None);
    let sampled = table.analyze_as_it_is()?.1.leaf_pages;
    let counted = (table.told()?, Some(sampled as f64));
    let leaves = table.analyze()?.1.leaf_pages;
    let moments = [at_once, counted, (table.told()?, Some(leaves as f64))];
    table.run("DROP TABLE hasty")?;
    Ok(Frame::new()
        .text("asked", ["right after its load", "after ANALYZE", "after ANALYZE by a sample of one page"])
        .counts("Data_length", "B", moments.map(|((data, _), _)| data))
        .counts("Index_length", "B", moments.map(|((_, index), _)| index))
        .numbers_or_missing("leaves", "", moments.map(|(_, leaves)| leaves)))
}

/// A connection that loads and reads an arm's table.
struct Table {
    connection: Conn,
    name: String,
    keys: Keys,
    /// Fewer than planned, where time ran out.
    rows: Rows,
}

impl Table {
    /// An empty table. Whether the server may `recount` its pages when it likes; if not, it never does by itself.
    fn create(server: &MariaDb, keys: Keys, rows: Rows, name: &str, recount: bool) -> Result<Self> {
        rows.check()?;
        let arm = keys.arm();
        if rows.count > keys.capacity() {
            let cause = format!("{} rows have no {} keys of their own", rows.count, arm.width);
            return Err(Error::new("lay out a table", cause).remedy("use a wider key"));
        }
        let mut table = Self { connection: server.connect()?, name: name.into(), keys, rows };
        // The binary log is another file's story, and the same for all.
        table.run("SET SESSION sql_log_bin = 0")?;
        table.run(&format!(
            "CREATE TABLE {name} (id {} NOT NULL PRIMARY KEY, age INT NOT NULL, pad VARBINARY(255) NOT NULL, \
             KEY by_age (age)) ENGINE=InnoDB ROW_FORMAT=DYNAMIC STATS_PERSISTENT=1 STATS_AUTO_RECALC={}",
            arm.width.sql(),
            u8::from(recount)
        ))?;
        Ok(table)
    }

    /// The statement that inserts the rows from `from` on, with what stands after their keys.
    fn statement(&self, from: u64, values: &[String]) -> String {
        self.rows.insert(&self.name, &self.keys, from, values)
    }

    /// Runs a statement that nobody waits for an answer of.
    fn run(&mut self, statement: &str) -> Result<()> {
        let doing = || format!("run {:?} …", statement.chars().take(60).collect::<String>());
        self.connection.query_drop(statement).doing(doing())
    }

    /// The one row that answers a question.
    fn ask<T: FromRow>(&mut self, doing: &str, question: &str) -> Result<T> {
        let answer: Option<T> = self.connection.query_first(question).doing(doing)?;
        answer.ok_or_else(|| Error::new(doing, "it has no answer"))
    }

    /// What SHOW TABLE STATUS says now: the bytes of the index that holds the rows, and of the secondary one.
    fn told(&mut self) -> Result<(u64, u64)> {
        let doing = "ask for a table's status";
        let row: Row = self.ask(doing, &format!("SHOW TABLE STATUS LIKE '{}'", self.name))?;
        let bytes = |column: &str| row.get::<Option<u64>, _>(column).flatten();
        let both = bytes("Data_length").zip(bytes("Index_length"));
        both.ok_or_else(|| Error::new(doing, "it does not tell its lengths"))
    }

    /// Counts the pages: of the index that holds the rows, and of the secondary one.
    fn analyze(&mut self) -> Result<(Index, Index)> {
        // An index that is smaller than its sample is said to have one leaf, however many it has. One page is sample enough:
        // pages are counted exactly, whatever is sampled from them.
        self.run(&format!("ALTER TABLE {} STATS_SAMPLE_PAGES=1", self.name))?;
        let counted = self.analyze_as_it_is()?;
        // One page may happen to be one with a single row: the optimizer would take the table for tiny, and scan it.
        self.run(&format!("ALTER TABLE {} STATS_SAMPLE_PAGES=20", self.name))?;
        self.analyze_as_it_is()?;
        Ok(counted)
    }

    /// What ANALYZE says of the pages, by the sample that the table has been given.
    fn analyze_as_it_is(&mut self) -> Result<(Index, Index)> {
        let doing = "count an index's pages";
        self.run(&format!("ANALYZE TABLE {}", self.name))?;
        let question = format!(
            "SELECT index_name, stat_name, stat_value FROM mysql.innodb_index_stats \
             WHERE database_name = DATABASE() AND table_name = '{}'",
            self.name
        );
        let told: Vec<(String, String, u64)> = self.connection.query(question).doing(doing)?;
        let of = |index: &str, what: &str| {
            let found = told.iter().find(|(name, stat, _)| name == index && stat == what);
            found.map(|(_, _, value)| *value).ok_or_else(|| Error::new(doing, format!("{index} has no {what}")))
        };
        let width = self.keys.arm().width;
        let index = |name: &str, layout: Layout| -> Result<Index> {
            let (leaf_pages, pages) = (of(name, "n_leaf_pages")?, of(name, "size")?);
            Ok(Index { layout, rows: self.rows.count, leaf_pages, pages })
        };
        Ok((index("PRIMARY", Layout::clustered(width, self.rows.pad))?, index("by_age", Layout::secondary(width))?))
    }

    /// The bytes of a record on a leaf of each index, from the pages that are in memory: the median of their averages.
    fn record_bytes(&mut self) -> Result<(f64, f64)> {
        let doing = "look at the pages in memory";
        let mut of = |index: &str| -> Result<f64> {
            // Whatever was written to disk has left memory since.
            let some = format!("SELECT age FROM {} FORCE INDEX ({index}) LIMIT 20000", self.name);
            self.ask::<u64>(doing, &format!("SELECT COUNT(age) FROM ({some}) AS some"))?;
            let question = format!(
                "SELECT data_size / number_records FROM information_schema.innodb_buffer_page \
                 WHERE page_type = 'INDEX' AND index_name = '{index}' AND number_records > 1 \
                 AND table_name LIKE CONCAT('%', DATABASE(), '%{}%')",
                self.name
            );
            let sizes: Vec<f64> = self.connection.query(question).doing(doing)?;
            Ok(Samples::from(sizes).median())
        };
        Ok((of("PRIMARY")?, of("by_age")?))
    }

    /// How many of the table's pages are in memory; all pages in memory, where there are too many to look at.
    fn pages_in_memory(&mut self) -> Result<f64> {
        const TOO_MANY: f64 = 10_000.0;
        let all = Counters::one(&mut self.connection, "Innodb_buffer_pool_pages_data")?;
        if all > TOO_MANY {
            return Ok(all);
        }
        let question = format!(
            "SELECT COUNT(*) FROM information_schema.innodb_buffer_page WHERE page_type = 'INDEX' \
             AND table_name LIKE CONCAT('%', DATABASE(), '%{}%')",
            self.name
        );
        self.ask("look at the pages in memory", &question)
    }

    /// What the table holds, by its rows and by its secondary index.
    fn fingerprints(&mut self) -> Result<(Fingerprint, Fingerprint)> {
        let doing = "sum up a table";
        let number = |text: &String| text.parse::<u128>().doing(doing);
        let [rows, entries] = Fingerprint::questions(&self.name, self.keys.arm().width);
        let mut of = |question: &str| -> Result<Fingerprint> {
            let (rows, ages, sums): (String, String, String) = self.ask(doing, question)?;
            Ok(Fingerprint { rows: number(&rows)?, ages: number(&ages)?, sums: number(&sums)? })
        };
        Ok((of(&rows)?, of(&entries)?))
    }

    /// The bytes of the table's file.
    fn file_bytes(&mut self) -> Result<u64> {
        let file = format!("name = CONCAT(DATABASE(), '/{}')", self.name);
        let question = format!("SELECT file_size FROM information_schema.innodb_sys_tablespaces WHERE {file}");
        self.ask("ask for a table's file", &question)
    }

    /// How many of these rows are found by their keys, one question each, and are the right ones.
    fn find(&mut self, rows: &[u64]) -> Result<u64> {
        let mut right = 0;
        for &row in rows {
            let question = format!("SELECT age, pad FROM {} WHERE id = {}", self.name, self.keys.literal(row));
            let found: Option<(u32, Vec<u8>)> = self.connection.query_first(question).doing("read a row by its key")?;
            right += u64::from(found == Some((self.rows.age(row), self.rows.pad(row).into_bytes())));
        }
        Ok(right)
    }

    /// Reads `count` rows in the order of their keys, from the key of this row on. Returns how many there were.
    fn walk(&mut self, from: u64, count: u64) -> Result<u64> {
        let from = self.keys.literal(from);
        self.read(&format!("WHERE id >= {from} ORDER BY id LIMIT {count}"))
    }

    /// Reads `count` rows that were inserted one after the other, from this row on. Returns how many there were.
    fn fetch(&mut self, from: u64, count: u64) -> Result<u64> {
        let keys: Vec<String> = (from..from + count).map(|row| self.keys.literal(row)).collect();
        self.read(&format!("WHERE id IN ({})", keys.join(",")))
    }

    fn read(&mut self, which: &str) -> Result<u64> {
        let rows = format!("SELECT pad FROM {} FORCE INDEX (PRIMARY) {which}", self.name);
        let question = format!("SELECT COUNT(*), SUM(LENGTH(pad)) FROM ({rows}) AS page");
        let (count, _): (u64, Option<u64>) = self.ask("read a table's rows", &question)?;
        Ok(count)
    }
}

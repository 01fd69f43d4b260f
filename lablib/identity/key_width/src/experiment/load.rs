//! The same rows under several keys, each on a server of its own, batch by batch in turns.

use std::time::{Duration, Instant};

use super::super::{Arm, Decomposition, Fingerprint, Index, Keys, PAGE, Rows, Simulated, Split};
use super::table::{TABLE, Table, Told};
use lab::clock::deadline_in;
use lab::service::{Counters, MariaDb};
use lab::{Error, OrFail, Progress, Result, Samples, joined};

/// How a table is loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadSpec {
    /// The rows.
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
    /// The arms, in the order in which they were named.
    pub arms: Vec<Loaded>,
    /// The rows that every arm got.
    pub rows: Rows,
}

/// What became of one arm.
pub struct Loaded {
    /// Which one.
    pub arm: Arm,
    /// The load in parts.
    pub parts: Vec<Part>,
    /// Seconds of each batch.
    pub seconds: Samples,
    /// What the server counted from before the first batch until its last page was on disk.
    pub counted: Counters,
    /// What SHOW TABLE STATUS said before anybody had counted.
    pub told: Told,
    /// What it said after ANALYZE TABLE.
    pub told_later: Told,
    /// The index that holds the rows, as counted by ANALYZE.
    pub clustered: Index,
    /// The secondary index, as counted by ANALYZE.
    pub secondary: Index,
    /// The bytes of a record on a leaf of each, from the pages themselves.
    pub record_bytes: (f64, f64),
    /// The bytes of the table's file.
    pub file: u64,
    /// What the table holds, by its rows and by its secondary index.
    pub holds: (Fingerprint, Fingerprint),
    /// What it should hold.
    pub should_hold: (Fingerprint, Fingerprint),
    pub(super) table: Table,
    pub(super) server: MariaDb,
}

/// What a prediction is compared in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Respect {
    /// The bytes of the leaves that hold the rows.
    Rows,
    /// The bytes of the secondary index's leaves.
    Secondary,
    /// How often pages were cut.
    Splits,
}

/// A part of a load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// The rows that were there at its end.
    pub rows: u64,
    /// The rows that came in it.
    pub inserted: u64,
    /// How long its statements took.
    pub seconds: f64,
    /// The pages that were read from disk in it.
    pub read: f64,
    /// The pages that were written to disk in it.
    pub written: f64,
    /// The table's pages that were in memory at its end.
    pub held: f64,
}

/// An arm at work.
struct Running {
    arm: Arm,
    server: MariaDb,
    table: Table,
    begun: Counters,
    seen: Counters,
    seconds: Samples,
    since: f64,
    parts: Vec<Part>,
}

/// How long a server may take to write its last pages.
const FLUSHED: Duration = Duration::from_secs(300);

/// Loads the rows into every arm's own server; ends the cell where a server is lost.
pub fn load(arms: &[Arm], spec: &LoadSpec) -> Load {
    try_load(arms, spec, false).or_fail()
}

/// As [`load`], with servers that are killed halfway.
pub fn load_lost(arms: &[Arm], spec: &LoadSpec) -> Result<Load> {
    try_load(arms, spec, true)
}

fn try_load(arms: &[Arm], spec: &LoadSpec, killed: bool) -> Result<Load> {
    spec.rows.check()?;
    if arms.is_empty() || spec.batch == 0 || spec.lanes == 0 || spec.parts == 0 {
        return Err(Error::new("load the rows", "it takes an arm, a lane, a part, and a row in each batch"));
    }
    let mut running = start(arms, spec)?;
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
        if killed && batch == batches / 2 {
            running.iter().for_each(|arm| arm.server.kill());
        }
        in_lanes(&mut running, spec.lanes, |arm| arm.insert(from, &values))?;
        if (batch + 1) % every == 0 || batch + 1 == batches {
            running.iter_mut().try_for_each(|arm| arm.end_part(to))?;
        }
        progress.step();
    }
    if rows.count == 0 {
        return Err(Error::new("load the rows", "there was no time for a single batch"));
    }
    for arm in &mut running {
        arm.flush()?;
    }
    let clean = deadline_in(FLUSHED);
    let mut running = running.into_iter().map(Some).collect::<Vec<_>>();
    let mut loaded = Vec::new();
    for some in running.chunks_mut(spec.lanes) {
        let finished: Vec<Result<Loaded>> = std::thread::scope(|scope| {
            let threads: Vec<_> = some
                .iter_mut()
                .filter_map(Option::take)
                .map(|arm| scope.spawn(move || arm.finish(rows, clean)))
                .collect();
            threads.into_iter().map(|thread| joined("finish a load", thread.join())).collect()
        });
        loaded.extend(finished.into_iter().collect::<Result<Vec<_>>>()?);
    }
    // As they were named: they changed places with every batch.
    loaded.sort_by_key(|loaded| arms.iter().position(|arm| *arm == loaded.arm));
    Ok(Load { arms: loaded, rows })
}

/// A server for each arm, all with the same settings, and an empty table on each.
fn start(arms: &[Arm], spec: &LoadSpec) -> Result<Vec<Running>> {
    let one = |arm: Arm| -> Result<Running> {
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
        let table = Table::create(&server, keys, spec.rows, TABLE, false)?;
        let begun = Counters::of_server(&server)?;
        let seen = begun.clone();
        Ok(Running { arm, server, table, begun, seen, seconds: Samples::default(), since: 0.0, parts: Vec::new() })
    };
    let mut running = Vec::new();
    // Some at a time: each start copies a data directory.
    for some in arms.chunks(6) {
        let started: Vec<Result<Running>> = std::thread::scope(|scope| {
            let threads: Vec<_> = some.iter().map(|arm| scope.spawn(move || one(*arm))).collect();
            threads.into_iter().map(|thread| joined("start a server", thread.join())).collect()
        });
        running.extend(started.into_iter().collect::<Result<Vec<_>>>()?);
    }
    Ok(running)
}

/// Does something with every arm, so many at a time.
fn in_lanes(running: &mut [Running], lanes: usize, work: impl Fn(&mut Running) -> Result<()> + Sync) -> Result<()> {
    if lanes == 1 {
        return running.iter_mut().try_for_each(work);
    }
    let queue = std::sync::Mutex::new(running.iter_mut());
    let work = &work;
    let queue = &queue;
    std::thread::scope(|scope| {
        let lane = move || -> Result<()> {
            loop {
                let next = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
                match next {
                    Some(arm) => work(arm)?,
                    None => return Ok(()),
                }
            }
        };
        let threads: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        threads.into_iter().try_for_each(|thread| joined("load the rows", thread.join()))
    })
}

impl Running {
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
        self.parts.push(Part {
            rows,
            inserted: rows - self.parts.last().map_or(0, |part| part.rows),
            seconds: all - self.since,
            read: done.get(READ)?,
            written: done.get(WRITTEN)?,
            held: self.table.pages_in_memory()?,
        });
        (self.seen, self.since) = (now, all);
        Ok(())
    }

    /// Asks the server to write every page that is not on disk yet.
    fn flush(&mut self) -> Result<()> {
        self.table.run("SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0")?;
        self.table.run("SET GLOBAL innodb_max_dirty_pages_pct = 0")
    }

    fn finish(mut self, rows: Rows, clean: Instant) -> Result<Loaded> {
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
        let told = self.table.told()?;
        self.table.holds(rows);
        let (clustered, secondary) = self.table.analyze()?;
        let told_later = self.table.told()?;
        let record_bytes = self.table.record_bytes()?;
        let holds = self.table.fingerprints()?;
        let should_hold = self.table.must_hold();
        let file = self.table.file_bytes()?;
        Ok(Loaded {
            arm: self.arm,
            parts: self.parts,
            seconds: self.seconds,
            counted,
            told,
            told_later,
            clustered,
            secondary,
            record_bytes,
            file,
            holds,
            should_hold,
            table: self.table,
            server: self.server,
        })
    }
}

const READ: &str = "Innodb_pages_read";
const WRITTEN: &str = "Innodb_pages_written";

impl Loaded {
    /// Pages read from disk for each row.
    pub fn read_per_row(&self) -> f64 {
        self.counter(READ) / self.rows()
    }

    /// Pages written to disk for each row, until the last one was there.
    pub fn written_per_row(&self) -> f64 {
        self.counter(WRITTEN) / self.rows()
    }

    /// The bytes of the secondary index's leaves for each row.
    pub fn secondary_bytes(&self) -> f64 {
        self.secondary.bytes_per_row()
    }

    /// What SHOW TABLE STATUS says after ANALYZE of the secondary index, for each row.
    pub fn told_bytes(&self) -> f64 {
        self.told_later.index as f64 / self.rows()
    }

    /// How often a page was cut in two.
    pub fn splits(&self) -> f64 {
        self.counter("index_page_splits")
    }

    /// Of the pages that were asked for, those that were in memory, in per cent.
    pub fn hit_rate(&self) -> f64 {
        100.0 * (1.0 - self.counter("Innodb_buffer_pool_reads") / self.counter("Innodb_buffer_pool_read_requests"))
    }

    /// How many of its pages were in memory, once that was full: the median of the parts of the second half. Some of the
    /// memory is always kept free, for what comes next, and some is for the server's own pages.
    pub fn held(&self) -> f64 {
        self.parts[self.parts.len() / 2..].iter().map(|part| part.held).collect::<Samples>().median()
    }

    /// The seconds of a batch in the second half of the load, when memory is full: their median.
    pub fn late_seconds(&self) -> f64 {
        let seconds = self.seconds.values();
        Samples::from(&seconds[seconds.len() / 2..]).median()
    }

    /// How long all statements took.
    pub fn total_seconds(&self) -> f64 {
        self.seconds.values().iter().sum()
    }

    fn rows(&self) -> f64 {
        self.clustered.rows as f64
    }

    fn counter(&self, name: &str) -> f64 {
        self.counted.get(name).or_fail()
    }
}

impl Load {
    /// An arm by its name; ends the cell where there is none.
    pub fn arm(&self, arm: Arm) -> &Loaded {
        let found = self.arms.iter().find(|loaded| loaded.arm == arm);
        found.ok_or_else(|| Error::new("look at an arm", format!("{arm} was not loaded"))).or_fail()
    }

    /// How many arms were said to have a secondary index of one page, because nobody had counted.
    pub fn unaware(&self) -> usize {
        self.arms.iter().filter(|arm| arm.told.index == PAGE as u64 && arm.secondary.pages > 1).count()
    }

    /// Takes a cost apart into width and order; ends the cell where the [two by two](Arm::two_by_two) were not all loaded.
    pub fn apart(&self, cost: fn(&Loaded) -> f64) -> Decomposition {
        let [narrow, wide, narrow_random, wide_random] = Arm::two_by_two().map(|arm| cost(self.arm(arm)));
        Decomposition::of(narrow, wide, narrow_random, wide_random).or_fail()
    }

    /// The largest difference between the records' sizes on the pages themselves and those that were predicted.
    pub fn record_difference(&self, simulated: &[Simulated]) -> f64 {
        let difference = |said: &Simulated| {
            let (clustered, secondary) = self.arm(said.arm).record_bytes;
            let (row, entry) = (said.clustered.layout.leaf as f64, said.secondary.layout.leaf as f64);
            // What was not seen is infinitely wrong, not right.
            let off = (clustered - row).abs().max((secondary - entry).abs());
            if clustered.is_nan() || secondary.is_nan() { f64::INFINITY } else { off }
        };
        simulated.iter().map(difference).fold(0.0, f64::max)
    }

    /// The largest error of the simulator in one respect, in per cent.
    pub fn largest_error(&self, simulated: &[Simulated], respect: Respect) -> f64 {
        let error = |said: &Simulated| {
            let is = self.arm(said.arm);
            let (said, is) = match respect {
                Respect::Rows => (said.clustered.bytes_per_row(), is.clustered.bytes_per_row()),
                Respect::Secondary => (said.secondary.bytes_per_row(), is.secondary.bytes_per_row()),
                Respect::Splits => (said.splits as f64, is.splits()),
            };
            100.0 * (is / said - 1.0).abs()
        };
        simulated.iter().map(error).fold(0.0, f64::max)
    }

    /// Pages that an arm read, over the pages that a pool of that size must miss, while its table grew as was predicted.
    pub fn misses_over_predicted(&self, simulated: &[Simulated], arm: Arm) -> f64 {
        let said = simulated.iter().find(|said| said.arm == arm);
        let said = said.ok_or_else(|| Error::new("compare reads", format!("{arm} was not predicted"))).or_fail();
        let said = said.misses(self.arm(arm).held());
        let (mut read, mut predicted) = (0.0, 0.0);
        for part in &self.arm(arm).parts {
            let from = (part.rows - part.inserted) as f64;
            let within = said.iter().filter(|(rows, _)| *rows > from && *rows <= part.rows as f64);
            let misses: Samples = within.map(|(_, misses)| *misses).collect();
            // While everything fits into memory, the server reads only what is its own.
            if misses.mean() > 0.1 {
                read += part.read;
                predicted += misses.mean() * part.inserted as f64;
            }
        }
        read / predicted
    }

    /// What the simulator said, or says anew where there was no time for all the rows that they are about.
    pub fn refit(&self, simulated: Vec<Simulated>) -> Vec<Simulated> {
        if simulated.iter().all(|said| said.clustered.rows == self.rows.count) {
            return simulated;
        }
        let arms: Vec<Arm> = simulated.iter().map(|said| said.arm).collect();
        Simulated::of_all(&arms, &self.rows, Split::InnoDb).or_fail()
    }

    /// Lets somebody run a statement on an arm's table, behind the experiment's back, and looks at what it holds now.
    pub fn meddle(&mut self, arm: Arm, statement: &str) {
        let mut run = || -> Result<()> {
            let found = self.arms.iter_mut().find(|loaded| loaded.arm == arm);
            let loaded = found.ok_or_else(|| Error::new("meddle with an arm", format!("{arm} was not loaded")))?;
            loaded.table.run(statement)?;
            loaded.holds = loaded.table.fingerprints()?;
            Ok(())
        };
        run().or_fail();
    }

    /// The arms whose rows are not exactly the rows that they were given, by either of their indexes.
    pub fn wrong(&self) -> Vec<Arm> {
        self.arms.iter().filter(|loaded| loaded.holds != loaded.should_hold).map(|loaded| loaded.arm).collect()
    }
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {:?}, {:?}", self.arm, self.clustered, self.secondary)
    }
}

//! The same rows under several keys, each on a server of its own, batch by batch in turns.

use std::time::{Duration, Instant};

use super::loaded::{Load, Loaded};
use super::table::{TABLE, Table};
use crate::lanes::in_lanes;
use crate::{Arm, Keys, Rows};
use lab::clock::deadline_in;
use lab::service::{Counters, MariaDb};
use lab::{Error, Frame, Progress, Result, Samples};

/// The server's counters of pages that it read from disk and wrote to it.
pub(super) const READ: &str = "Innodb_pages_read";
pub(super) const WRITTEN: &str = "Innodb_pages_written";

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
        if killed == Some(batch) {
            running.iter().for_each(|arm| arm.server.kill());
        }
        in_lanes(spec.lanes, &mut running, |arm| arm.insert(from, &values))?;
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
    let mut loaded = in_lanes(spec.lanes, running, |arm| arm.finish(rows, clean))?;
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
        let (seen, seconds, parts) = (begun.clone(), Samples::default(), Vec::new());
        Ok(Running { arm, server, table, begun, seen, seconds, parts, before: (0, 0.0) })
    };
    // Some at a time: each start copies a data directory.
    in_lanes(6, arms, |arm| one(*arm))
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
            clustered,
            secondary,
            record_bytes,
            parts: self.parts.into_iter().collect(),
            seconds: self.seconds,
            counted,
            told: [told, told_later],
            file,
            holds,
            should_hold,
            table: self.table,
            server: self.server,
        })
    }
}

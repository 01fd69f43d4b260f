//! How many contacts in one statement, and in which order.

use super::{Cost, contact, contacts, numbers, share_out, side_by_side, writers};
use crate::lab::chart::{Chart, Lines};
use crate::lab::service::MariaDb;
use crate::lab::{Error, OrFail, Progress, Result, Rng, Samples};
use crate::sql::upsert::{Extras, Table, Way, Writer};

/// What a batch of one size cost.
#[derive(Debug, Clone)]
pub struct BatchSize {
    /// Many rows a statement, or load and merge.
    pub way: Way,
    /// Contacts in a batch.
    pub size: usize,
    /// Seconds for all contacts, one sample a round.
    pub seconds: Samples,
    /// Commits for a thousand contacts.
    pub commits: f64,
    /// Bytes of the binary log for each contact.
    pub binlog: f64,
}

/// Each way's batches, size by size.
#[derive(Debug, Clone)]
pub struct BatchSizes {
    /// Many rows in a statement.
    pub batched: Vec<BatchSize>,
    /// Loaded and merged.
    pub staged: Vec<BatchSize>,
}

impl BatchSizes {
    /// How many times as fast as one at a time in a statement, by the size of the batch.
    pub fn speeds(&self, way: Way) -> Vec<(f64, Samples)> {
        let slowest = self.batched.first().map_or(f64::NAN, |arm| arm.seconds.median());
        let speed = |arm: &BatchSize| (arm.size as f64, arm.seconds.map(|seconds| slowest / seconds));
        self.arms(way).iter().map(speed).collect()
    }

    /// Contacts a second by the size of a batch, as multiples of one at a time.
    pub fn speed_chart(&self, title: &str) -> Lines {
        let chart = Chart::lines(title)
            .subtitle("Contacts a second, as multiples of one contact in a statement")
            .x("contacts in a batch", "")
            .log_x()
            .y("speed", "×")
            .log_y();
        [Way::Batched, Way::Staged].into_iter().fold(chart, |chart, way| {
            let speeds = self.speeds(way);
            chart.line_with_spread(way, speeds.iter().map(|(size, speed)| (*size, speed)))
        })
    }

    /// What a contact takes of the binary log, by the size of a batch.
    pub fn binlog_chart(&self, title: &str) -> Lines {
        let chart = Chart::lines(title)
            .subtitle("Bytes of the binary log for each contact")
            .x("contacts in a batch", "")
            .log_x()
            .y("binary log for each contact", "bytes")
            .from_zero();
        [Way::Batched, Way::Staged]
            .into_iter()
            .fold(chart, |chart, way| chart.line(way, self.arms(way).iter().map(|arm| (arm.size as f64, arm.binlog))))
    }

    fn arms(&self, way: Way) -> &[BatchSize] {
        if way == Way::Staged { &self.staged } else { &self.batched }
    }
}

/// Puts the same contacts, half of them known, in batches of each size and by both ways that take many: one client, in turns.
pub fn batch_sizes(server: &MariaDb, rows: u64, puts: u64, sizes: &[usize], rounds: usize, seed: u64) -> BatchSizes {
    let run = || -> Result<BatchSizes> {
        if rows == 0 || puts == 0 || rounds == 0 || sizes.is_empty() || sizes.contains(&0) {
            return Err(Error::new("compare sizes of a batch", "they need rows, puts, a round, and sizes above 0"));
        }
        let loaded = contacts(rows)?;
        let mut arms: Vec<(BatchSize, Table, Vec<Writer>, Cost)> = Vec::new();
        let mut progress = Progress::new("batches of each size", 2 * sizes.len() as u64 * (rounds as u64 + 1));
        for way in [Way::Batched, Way::Staged] {
            for &size in sizes {
                let table = Table::create(server, &format!("{}_{size}", way.slug()), Extras::default())?;
                table.load(server, &loaded)?;
                let writers = writers(server, &table, way, 1)?;
                let seconds = Samples::default();
                let arm = BatchSize { way, size, seconds, commits: 0.0, binlog: 0.0 };
                arms.push((arm, table, writers, Cost::default()));
            }
        }
        let mut rng = Rng::seeded(seed, "batches");
        for round in 0..=rounds as u64 {
            let numbers = numbers(puts, rows, rows + round * puts, &mut rng);
            let work = numbers.into_iter().map(|number| contact(number, 1 + round)).collect::<Result<Vec<_>>>()?;
            let mut order: Vec<_> = arms.iter_mut().collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for (arm, _, writers, sum) in order {
                let ((_, seconds), cost) = Cost::of(server, || share_out(writers, &work, arm.size))?;
                if round > 0 {
                    arm.seconds.push(seconds);
                    sum.add(&cost);
                }
                progress.step();
            }
        }
        let counted = (rounds as u64 * puts) as f64;
        let finish = |(mut arm, table, _, cost): (BatchSize, Table, Vec<Writer>, Cost)| -> Result<BatchSize> {
            arm.commits = cost.commits / counted * 1e3;
            arm.binlog = cost.binlog / counted;
            table.drop(server)?;
            Ok(arm)
        };
        let all = arms.into_iter().map(finish).collect::<Result<Vec<_>>>()?;
        let (staged, batched) = all.into_iter().partition(|arm| arm.way == Way::Staged);
        Ok(BatchSizes { batched, staged })
    };
    run().or_fail()
}

/// Deadlocks between clients whose batches overlap.
#[derive(Debug, Clone)]
pub struct Deadlocks {
    /// Batches put in the order in which their contacts came.
    pub as_they_come: u64,
    /// The same batches, each in the order of the addresses.
    pub sorted: u64,
    /// Batches of each arm.
    pub batches: u64,
    /// Rows that have not counted each of their changes, in both tables.
    pub miscounted: u64,
}

/// Lets clients put batches of known contacts that overlap, unsorted and sorted.
pub fn deadlocks(server: &MariaDb, clients: usize, rows: u64, batch: usize, each: u64, seed: u64) -> Deadlocks {
    let run = |sorted: bool| -> Result<(u64, u64)> {
        let table = Table::create(server, if sorted { "in_order" } else { "as_they_come" }, Extras::default())?;
        table.load(server, &contacts(rows)?)?;
        let mut writers = writers(server, &table, Way::Batched, clients)?;
        if !sorted {
            writers = writers.into_iter().map(Writer::unsorted).collect();
        }
        let all: Vec<u64> = (0..rows).collect();
        let done = side_by_side(&mut writers, |client, writer| {
            let mut rng = Rng::seeded(seed, &format!("batches of client {client}"));
            let (mut put, mut deadlocks) = (Vec::new(), 0);
            for version in 0..each {
                let picked = rng.pick(&all, batch);
                let part = picked.iter().map(|&number| contact(number, version)).collect::<Result<Vec<_>>>()?;
                deadlocks += writer.put(&part)?.deadlocks;
                put.extend(picked);
            }
            Ok((put, deadlocks))
        })?;
        // Each row has counted its first insert already.
        let mut counts = vec![1_u64; rows as usize];
        done.iter().flat_map(|(put, _)| put).for_each(|&number| counts[number as usize] += 1);
        let deadlocks = done.iter().map(|(_, deadlocks)| deadlocks).sum();
        let there = table.rows(server)?;
        let mut miscounted = rows.abs_diff(there.len() as u64);
        for (number, count) in counts.iter().enumerate() {
            let email = contact(number as u64, 0)?;
            let row = there.binary_search_by(|row| row.contact.email().cmp(email.email()));
            miscounted += u64::from(row.map_or(0, |row| there[row].changes) != *count);
        }
        table.drop(server)?;
        Ok((deadlocks, miscounted))
    };
    let both = || -> Result<Deadlocks> {
        let (as_they_come, sorted) = (run(false)?, run(true)?);
        let batches = clients as u64 * each;
        Ok(Deadlocks { as_they_come: as_they_come.0, sorted: sorted.0, batches, miscounted: as_they_come.1 + sorted.1 })
    };
    both().or_fail()
}

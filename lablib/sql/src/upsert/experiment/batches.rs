//! How many contacts in one statement, and in which order.

use super::price::{faults, model};
use super::{Arm, contact, contacts, side_by_side, take_turns, writers};
use crate::upsert::{Extras, Table, Way, Writer};
use lab::chart::{Chart, Lines};
use lab::service::MariaDb;
use lab::{Error, OrFail, Progress, Result, Rng, Samples};

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
    /// Rows that are not what they must be.
    pub wrong: u64,
}

/// The batches of both ways.
#[derive(Debug, Clone)]
pub struct BatchSizes(Vec<BatchSize>);

impl BatchSizes {
    /// One way's batches, size by size.
    pub fn of(&self, way: Way) -> Vec<BatchSize> {
        self.0.iter().filter(|arm| arm.way == way).cloned().collect()
    }

    /// How many times as fast as one at a time in a statement, by the size of the batch and round by round.
    pub fn speeds(&self, way: Way) -> Vec<(f64, Samples)> {
        let one_by_one = self.of(Way::Batched).first().map(|arm| arm.seconds.clone()).unwrap_or_default();
        let speed = |arm: BatchSize| {
            let ratios = one_by_one.values().iter().zip(arm.seconds.values()).map(|(base, seconds)| base / seconds);
            (arm.size as f64, ratios.collect())
        };
        self.of(way).into_iter().map(speed).collect()
    }

    /// Rows that are not what they must be, of all sizes and both ways.
    pub fn wrong(&self) -> u64 {
        self.0.iter().map(|arm| arm.wrong).sum()
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
            .fold(chart, |chart, way| chart.line(way, self.of(way).iter().map(|arm| (arm.size as f64, arm.binlog))))
    }
}

/// Puts the same contacts, half of them known, in batches of each size and by both ways that take many: one client, in turns.
pub fn batch_sizes(server: &MariaDb, rows: u64, puts: u64, sizes: &[usize], rounds: usize, seed: u64) -> BatchSizes {
    let run = || -> Result<BatchSizes> {
        if rows == 0 || puts == 0 || rounds == 0 || sizes.is_empty() || sizes.contains(&0) {
            return Err(Error::new("compare sizes of a batch", "they need rows, puts, a round, and sizes above 0"));
        }
        let loaded = contacts(rows)?;
        let mut arms = Vec::new();
        for way in [Way::Batched, Way::Staged] {
            for &size in sizes {
                let table = Table::create(server, &format!("{}_{size}", way.slug()), Extras::default())?;
                table.load(server, &loaded)?;
                arms.push(Arm::new(server, table, way, 1, size)?);
            }
        }
        let mut progress = Progress::new("batches of each size", rounds as u64 + 1);
        let mut rng = Rng::seeded(seed, "batches");
        let put = take_turns(server, &mut arms, rows, puts, rounds, &mut rng, &mut progress)?;
        let model = model(&loaded, &put);
        let counted = (rounds as u64 * puts) as f64;
        let finish = |arm: Arm| -> Result<BatchSize> {
            let wrong = faults(&model, &arm.table.rows(server)?, arm.way);
            arm.table.drop(server)?;
            let (commits, binlog) = (arm.cost.commits / counted * 1e3, arm.cost.binlog / counted);
            Ok(BatchSize { way: arm.way, size: arm.batch, seconds: arm.seconds, commits, binlog, wrong })
        };
        Ok(BatchSizes(arms.into_iter().map(finish).collect::<Result<_>>()?))
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

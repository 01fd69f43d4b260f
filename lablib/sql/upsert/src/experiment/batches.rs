//! How many contacts in one statement, and in which order.

use super::{Batch, PATIENCE, PriceSpec, contact, contacts, in_turns, writers};
use crate::{Extras, Table, Way, Writer};
use lab::chart::{Chart, Lines};
use lab::service::MariaDb;
use lab::{Crowd, OrFail, Result, Rng, Trial};

/// The two ways that take many.
const MANY: [Way; 2] = [Way::Batched, Way::Staged];

/// Puts the same contacts, half of them known, in batches of each size and by both ways that take many: one client, in turns. The
/// figures are those of [`prices`](super::prices()).
pub fn batch_sizes(
    server: &MariaDb,
    (rows, puts): (u64, u64),
    sizes: &[usize],
    rounds: usize,
    seed: u64,
) -> Result<Trial<Batch>> {
    let batches: Vec<Batch> = MANY.iter().flat_map(|&way| sizes.iter().map(move |&size| Batch { way, size })).collect();
    let spec = PriceSpec { rows, puts, rounds, clients: 1, batch: 1, indexes: false, seed };
    in_turns(server, &batches, spec, "batches of each size")
}

/// Contacts a second by the size of a batch, as multiples of one at a time in a statement.
pub fn speed_chart(batches: &Trial<Batch>, title: &str) -> Lines {
    let chart = Chart::lines(title)
        .subtitle("Contacts a second, as multiples of one contact in a statement")
        .x("contacts in a batch", "")
        .log_x()
        .y("speed", "×")
        .log_y();
    let Some(one) = batches.arms().first() else { return chart };
    MANY.into_iter().fold(chart, |chart, way| {
        let speeds = batches.arms().iter().filter(|batch| batch.way == way);
        chart.line_with_spread(way, speeds.map(|batch| (batch.size as f64, batches.ratio("took", one, batch))))
    })
}

/// Deadlocks between clients whose batches overlap.
#[derive(Debug, Clone)]
pub struct Deadlocks {
    /// Batches put in the order in which their contacts came.
    pub as_they_come: u64,
    /// The same batches, each in the order of the addresses.
    pub sorted: u64,
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
        let rng = |client: usize| Rng::seeded(seed, &format!("batches of client {client}"));
        let clients = writers.into_iter().enumerate().map(|(client, writer)| (writer, rng(client), Vec::new(), 0));
        let ran = Crowd::holding(clients).times(each).within(PATIENCE).run(|(writer, rng, put, deadlocks), call| {
            let picked = rng.pick(&all, batch);
            let part = picked.iter().map(|&number| contact(number, call.number())).collect::<Result<Vec<_>>>()?;
            *deadlocks += writer.put(&part)?.deadlocks;
            put.extend(picked);
            Ok(())
        })?;
        // Each row has counted its first insert already.
        let mut counts = vec![1_u64; rows as usize];
        ran.states.iter().flat_map(|(_, _, put, _)| put).for_each(|&number| counts[number as usize] += 1);
        let deadlocks = ran.states.iter().map(|(.., deadlocks)| deadlocks).sum();
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

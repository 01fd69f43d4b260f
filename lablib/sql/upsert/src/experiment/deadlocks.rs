//! Batches that overlap: who waits for whom in a circle.

use super::{PATIENCE, contact, contacts, writers};
use crate::{Extras, Table, Way, Writer};
use lab::service::MariaDb;
use lab::{Crowd, Frame, Result, Rng};

/// Lets clients put batches of known contacts that overlap. A row for each `order`, as their contacts come and `sorted` by the addresses:
/// `deadlocks`, `batches` that were put, and rows that have not counted each of their changes (`miscounted`).
pub fn deadlocks(server: &MariaDb, clients: usize, rows: u64, batch: usize, each: u64, seed: u64) -> Result<Frame> {
    let run = |(order, sorted)| -> Result<Frame> {
        let table = Table::create(server, if sorted { "in_order" } else { "as_they_come" }, Extras::default())?;
        table.load(server, &contacts(rows)?)?;
        let mut writers = writers(server, &table, Way::Batched, clients)?;
        if !sorted {
            writers = writers.into_iter().map(Writer::unsorted).collect();
        }
        let all: Vec<u64> = (0..rows).collect();
        let rng = |client: usize| Rng::seeded(seed, &format!("batches of client {client}"));
        let holding = writers.into_iter().enumerate().map(|(client, writer)| (writer, rng(client), Vec::new(), 0));
        let ran = Crowd::holding(holding).times(each).within(PATIENCE).run(|(writer, rng, put, deadlocks), call| {
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
        Ok(Frame::new()
            .text("order", [order])
            .counts("deadlocks", "", [deadlocks])
            .counts("batches", "", [clients as u64 * each])
            .counts("miscounted", "", [miscounted]))
    };
    [("as they come", false), ("sorted", true)].into_iter().map(run).collect()
}

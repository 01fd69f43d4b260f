//! The server is killed while clients put batches.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{contact, writers};
use crate::{Extras, Table, Way, Writer};
use lab::service::MariaDb;
use lab::{Error, Result, joined};

/// What was found after the server's restart.
#[derive(Debug, Clone)]
pub struct Survived {
    pub way: Way,
    /// Batches that were acknowledged.
    pub acknowledged: u64,
    /// Contacts of acknowledged batches that are not there.
    pub lost: u64,
    /// Batches that are there in part.
    pub half: u64,
    /// Batches that nobody acknowledged and that are there: the answer was lost, not the work.
    pub unheard: u64,
    /// What one of the clients was told.
    pub told: String,
}

/// Kills a server with `kill -9` after so many acknowledged batches, and starts it again, once for each way. A way that takes
/// one contact at a time puts batches of one.
pub fn survives(server: &MariaDb, clients: usize, batch: u64, after: u64) -> Result<Vec<Survived>> {
    let run = |way: Way| -> Result<Survived> {
        let batch = if way.takes_many() { batch } else { 1 };
        let table = Table::create(server, way.slug(), Extras { indexes: true, ..Extras::default() })?;
        let (tried, heard) = (AtomicU64::new(0), AtomicU64::new(0));
        let mut writers = writers(server, &table, way, clients)?;
        // What was acknowledged to each client, and what it was told in the end.
        let clients: Vec<(Vec<u64>, Error)> = std::thread::scope(|scope| {
            let work = |writer: &mut Writer| -> Result<(Vec<u64>, Error)> {
                let mut acknowledged = Vec::new();
                loop {
                    let number = tried.fetch_add(1, Ordering::Relaxed);
                    let part = (0..batch).map(|n| contact(number * batch + n, number)).collect::<Result<Vec<_>>>()?;
                    match writer.put(&part) {
                        Ok(_) => acknowledged.push(number),
                        Err(error) => return Ok((acknowledged, error)),
                    }
                    heard.fetch_add(1, Ordering::Relaxed);
                }
            };
            let threads: Vec<_> = writers.iter_mut().map(|writer| scope.spawn(move || work(writer))).collect();
            while heard.load(Ordering::Relaxed) < after && threads.iter().any(|thread| !thread.is_finished()) {
                std::thread::sleep(Duration::from_millis(1));
            }
            server.try_kill()?;
            threads.into_iter().map(|thread| joined("put batches", thread.join())).collect::<Result<_>>()
        })?;
        server.try_restart()?;
        let rows = table.rows(server)?;
        let acknowledged: BTreeSet<u64> = clients.iter().flat_map(|(acknowledged, _)| acknowledged).copied().collect();
        let tried = tried.into_inner();
        let mut found = vec![0_u64; tried as usize];
        for row in &rows {
            // The phone holds the number of the batch.
            let number: usize = row.contact.phone().parse().unwrap_or(usize::MAX);
            found.get_mut(number).into_iter().for_each(|found| *found += 1);
        }
        let survived = Survived {
            way,
            acknowledged: acknowledged.len() as u64,
            lost: acknowledged.iter().map(|&number| batch - found[number as usize].min(batch)).sum(),
            half: found.iter().filter(|&&found| found != 0 && found != batch).count() as u64,
            unheard: (0..tried).filter(|n| !acknowledged.contains(n) && found[*n as usize] == batch).count() as u64,
            told: clients.last().map_or_else(String::new, |(_, error)| error.to_string()),
        };
        table.drop(server)?;
        Ok(survived)
    };
    Way::ALL.into_iter().map(run).collect()
}

//! The server is killed while clients put batches.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use super::{contact, writers};
use crate::lab::service::MariaDb;
use crate::lab::{Error, OrFail, Result, joined};
use crate::sql::upsert::{Extras, Table, Way, Writer};

/// What was found after the server's restart.
#[derive(Debug, Clone)]
pub struct Survived {
    /// Which way.
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

/// Kills a server with `kill -9` after so many acknowledged batches, and starts it again.
pub fn survives(server: &MariaDb, clients: usize, batch: u64, after: u64) -> Vec<Survived> {
    let run = |way: Way| -> Result<Survived> {
        let table = Table::create(server, way.slug(), Extras { indexes: true, ..Extras::default() })?;
        let acknowledged: Mutex<Vec<u64>> = Mutex::new(Vec::new());
        let told: Mutex<Option<Error>> = Mutex::new(None);
        let tried: Mutex<u64> = Mutex::new(0);
        let mut writers = writers(server, &table, way, clients)?;
        std::thread::scope(|scope| {
            let work = |writer: &mut Writer| -> Result<()> {
                loop {
                    let number = {
                        let mut tried = tried.lock().unwrap_or_else(PoisonError::into_inner);
                        *tried += 1;
                        *tried - 1
                    };
                    let part = (0..batch).map(|n| contact(number * batch + n, number)).collect::<Result<Vec<_>>>()?;
                    match writer.put(&part) {
                        Ok(_) => acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push(number),
                        Err(error) => {
                            *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                            return Ok(());
                        }
                    }
                }
            };
            let threads: Vec<_> = writers.iter_mut().map(|writer| scope.spawn(move || work(writer))).collect();
            let enough = || acknowledged.lock().unwrap_or_else(PoisonError::into_inner).len() as u64 >= after;
            while !enough() && threads.iter().any(|thread| !thread.is_finished()) {
                std::thread::sleep(Duration::from_millis(1));
            }
            server.try_kill()?;
            threads.into_iter().try_for_each(|thread| joined("put batches", thread.join()))
        })?;
        server.try_restart()?;
        let rows = table.rows(server)?;
        let acknowledged = acknowledged.into_inner().unwrap_or_else(PoisonError::into_inner);
        let tried = tried.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut found = vec![0_u64; tried as usize];
        for row in &rows {
            // The phone holds the number of the batch.
            let number: usize = row.contact.phone().parse().unwrap_or(usize::MAX);
            found.get_mut(number).into_iter().for_each(|found| *found += 1);
        }
        let heard = |number: &u64| acknowledged.contains(number);
        let survived = Survived {
            way,
            acknowledged: acknowledged.len() as u64,
            lost: acknowledged.iter().map(|&number| batch - found[number as usize].min(batch)).sum(),
            half: found.iter().filter(|&&found| found != 0 && found != batch).count() as u64,
            unheard: (0..tried).filter(|number| !heard(number) && found[*number as usize] == batch).count() as u64,
            told: told.into_inner().unwrap_or_else(PoisonError::into_inner).map_or_else(String::new, |e| e.to_string()),
        };
        table.drop(server)?;
        Ok(survived)
    };
    [Way::Batched, Way::Staged].into_iter().map(run).collect::<Result<Vec<_>>>().or_fail()
}

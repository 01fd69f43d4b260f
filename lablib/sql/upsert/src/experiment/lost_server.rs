//! The server is killed while clients put batches.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{contact, writers};
use crate::{Extras, Table, Way};
use lab::service::MariaDb;
use lab::{Crowd, Frame, Result};

/// Kills a server with `kill -9` after so many acknowledged batches, and starts it again, once for each way. A way that takes one contact at
/// a time puts batches of one. A row for each `way`: batches that were `acknowledged`; contacts of those that are not there (`lost`);
/// batches that are there in part (`half`), and those that are there and that nobody acknowledged (`unheard`): the answer was lost, not the
/// work; and what one of the clients was `told`.
pub fn survives(server: &MariaDb, clients: usize, batch: u64, after: u64) -> Result<Frame> {
    let run = |way: Way| -> Result<Frame> {
        let batch = if way.takes_many() { batch } else { 1 };
        let table = Table::create(server, way.slug(), Extras { indexes: true, ..Extras::default() })?;
        let (tried, killed) = (AtomicU64::new(0), AtomicBool::new(false));
        let writers = writers(server, &table, way, clients)?;
        let ran = Crowd::holding(writers.into_iter().map(|writer| (writer, Vec::new(), String::new())))
            .times(u64::MAX)
            .once(after, "killed", || {
                killed.store(true, Ordering::SeqCst);
                server.try_kill()
            })
            .run(|(writer, acknowledged, told), call| {
                let number = tried.fetch_add(1, Ordering::Relaxed);
                let part = (0..batch).map(|n| contact(number * batch + n, number)).collect::<Result<Vec<_>>>()?;
                match writer.put(&part) {
                    Ok(_) => acknowledged.push(number),
                    Err(error) if !killed.load(Ordering::SeqCst) => return Err(error),
                    Err(error) => {
                        *told = error.to_string();
                        call.last();
                    }
                }
                Ok(())
            })?;
        server.try_restart()?;
        let acknowledged: BTreeSet<u64> = ran.states.iter().flat_map(|(_, numbers, _)| numbers).copied().collect();
        let tried = tried.into_inner();
        let mut found = vec![0_u64; tried as usize];
        for row in table.rows(server)? {
            // The phone holds the number of the batch.
            let number: usize = row.contact.phone().parse().unwrap_or(usize::MAX);
            found.get_mut(number).into_iter().for_each(|found| *found += 1);
        }
        table.drop(server)?;
        let lost = acknowledged.iter().map(|&number| batch - found[number as usize].min(batch)).sum();
        let half = found.iter().filter(|&&found| found != 0 && found != batch).count();
        let unheard = (0..tried).filter(|n| !acknowledged.contains(n) && found[*n as usize] == batch).count();
        Ok(Frame::new()
            .text("way", [way])
            .counts("acknowledged", "batches", [acknowledged.len() as u64])
            .counts("lost", "contacts", [lost])
            .counts("half", "batches", [half as u64])
            .counts("unheard", "batches", [unheard as u64])
            .text("told", ran.states.last().map(|(.., told)| told)))
    };
    Way::ALL.into_iter().map(run).collect()
}

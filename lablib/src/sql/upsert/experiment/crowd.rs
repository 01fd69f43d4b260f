//! Many clients, few contacts: what is lost when they meet.

use std::sync::{Arc, Barrier};

use super::{contact, contacts, side_by_side, writers};
use crate::lab::service::MariaDb;
use crate::lab::{OrFail, Progress, Result, Rng};
use crate::sql::upsert::{Done, Extras, Table, Way, Writer};

/// What became of the puts of many clients.
#[derive(Debug, Clone)]
pub struct Crowd {
    /// Which way.
    pub way: Way,
    /// Puts, and what became of them.
    pub done: Done,
    /// Changes that were acknowledged and that no row has counted.
    pub lost: u64,
    /// Contacts with more or fewer rows than one.
    pub doubled: u64,
}

/// Lets `clients` put `puts` contacts each, all from the same few, into a table for each way; none of them is known at first.
pub fn crowd(server: &MariaDb, clients: usize, few: u64, puts: u64, seed: u64) -> Vec<Crowd> {
    let mut progress = Progress::new("clients meet", Way::ALL.len() as u64);
    let mut run = |way: Way| -> Result<Crowd> {
        let table = Table::create(server, way.slug(), Extras::default())?;
        let start = Barrier::new(clients);
        let mut writers = writers(server, &table, way, clients)?;
        let done: Done = side_by_side(&mut writers, |client, writer| {
            let mut rng = Rng::seeded(seed, &format!("client {client}"));
            let mut done = Done::default();
            start.wait();
            for version in 0..puts {
                done += writer.put(&[contact(rng.below(few), version)?])?;
            }
            Ok(done)
        })?
        .into_iter()
        .sum();
        let rows = table.rows(server)?;
        let counted: u64 = rows.iter().map(|row| row.changes).sum();
        table.drop(server)?;
        progress.step();
        Ok(Crowd { way, done, lost: done.put.saturating_sub(counted), doubled: few.abs_diff(rows.len() as u64) })
    };
    Way::ALL.into_iter().map(&mut run).collect::<Result<Vec<_>>>().or_fail()
}

/// What two clients did who both looked before either wrote.
#[derive(Debug, Clone, Copy)]
pub struct Meeting {
    /// Puts of a new contact that were refused, of two.
    pub refused: u64,
    /// What the row of a known contact has counted after two more changes: 3 where none is lost.
    pub counted: u64,
}

/// Two clients look a contact up at the same time and then write, as [`Way::SelectThenWrite`] allows: first one that is new,
/// then one that is known.
pub fn meeting(server: &MariaDb) -> Meeting {
    let run = || -> Result<Meeting> {
        let table = Table::create(server, "meeting", Extras::default())?;
        table.load(server, &contacts(1)?)?;
        let barrier = Arc::new(Barrier::new(2));
        let put = |number: u64| -> Result<Done> {
            let writer = || Writer::new(server, &table, Way::SelectThenWrite);
            let mut writers = [writer()?.meeting(barrier.clone()), writer()?.meeting(barrier.clone())];
            let done = side_by_side(&mut writers, |client, writer| writer.put(&[contact(number, 1 + client as u64)?]))?;
            Ok(done.into_iter().sum())
        };
        let refused = put(1)?.refused;
        put(0)?;
        let known = contact(0, 0)?;
        let counted =
            table.rows(server)?.iter().find(|row| row.contact.email() == known.email()).map(|row| row.changes);
        table.drop(server)?;
        Ok(Meeting { refused, counted: counted.unwrap_or(0) })
    };
    run().or_fail()
}

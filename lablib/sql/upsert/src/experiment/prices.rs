//! What ways and batches cost when all do the same work with the same number of clients.

use std::collections::BTreeMap;
use std::fmt;

use super::{COUNTS, PATIENCE, contact, contacts, counted, writers};
use crate::{Contact, Done, Extras, Row, Table, Way, Writer};
use lab::service::MariaDb;
use lab::{Crowd, Error, Result, Rng, Trial};

/// A way that takes so many contacts in a call: an arm of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    pub way: Way,
    pub size: usize,
}

impl Batch {
    /// So many where the way takes many, else one at a time.
    pub fn of(way: Way, many: usize) -> Self {
        Self { way, size: if way.takes_many() { many } else { 1 } }
    }

    /// All ways.
    pub fn all(many: usize) -> [Self; 7] {
        Way::ALL.map(|way| Self::of(way, many))
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.size {
            1 => write!(f, "{}", self.way),
            size => write!(f, "{}, {size} a batch", self.way),
        }
    }
}

/// Puts of contacts in turns.
#[derive(Debug, Clone, Copy)]
pub struct PriceSpec {
    /// Rows of each table at first.
    pub rows: u64,
    /// Contacts that are put in each round, about half of them known.
    pub puts: u64,
    /// Rounds that count; one more warms up.
    pub rounds: usize,
    /// Clients, each with a connection.
    pub clients: usize,
    /// Whether the tables have secondary indexes.
    pub indexes: bool,
    /// Where the random numbers begin.
    pub seed: u64,
}

/// In each round each arm puts the same contacts, about half of them among those that its table was loaded with; `way` and `contacts`,
/// the size of a batch, are columns of the frame. Figures: how long a turn `took`; for each contact, what the server
/// [counts](COUNTS); `deadlocks`; and what is `wrong`: puts that were refused,
/// and rows that are in the end not what they must be.
pub fn prices(server: &MariaDb, batches: &[Batch], spec: PriceSpec) -> Result<Trial<Batch>> {
    if [spec.rows, spec.puts].contains(&0) || spec.clients == 0 || batches.iter().any(|batch| batch.size == 0) {
        return Err(Error::new("compare ways and batches", "they need rows, puts, a client, and sizes above 0"));
    }
    let loaded = contacts(spec.rows)?;
    let mut rng = Rng::seeded(spec.seed, "puts");
    let mut put_in = |round: u64| {
        let before = round * spec.puts;
        let numbers = numbers(spec.puts, spec.rows, spec.rows + before, &mut rng).into_iter().zip(1 + before..);
        numbers.map(|(number, version)| contact(number, version)).collect::<Result<Vec<_>>>()
    };
    let work = (0..=spec.rounds as u64).map(&mut put_in).collect::<Result<Vec<_>>>()?;
    let model = model(&loaded, &work.concat());
    Trial::over(batches.to_vec(), spec.rounds)
        .titled("contacts are put in turns")
        .column("way", |batch| batch.way.to_string())
        .column("contacts", |batch| batch.size)
        .open(|batch| {
            let extras = Extras { indexes: spec.indexes, ..Extras::default() };
            let table = Table::create(server, &format!("{}_{}", batch.way.slug(), batch.size), extras)?;
            table.load(server, &loaded)?;
            let writers = writers(server, &table, batch.way, spec.clients)?;
            Ok((table, writers))
        })
        .close(|(table, writers)| {
            drop(writers);
            table.drop(server)
        })
        .run(|batch, (table, writers), figures| {
            let put = &work[figures.round()];
            let ((done, seconds), counters) = counted(server, || share_out(writers, put, batch.size))?;
            figures.push("took", "s", seconds);
            for (figure, unit, counter) in COUNTS {
                figures.push(figure, unit, counters.get(counter)? / spec.puts as f64);
            }
            figures.push("deadlocks", "", done.deadlocks as f64);
            let over = figures.round() == spec.rounds;
            let faults = if over { faults(&model, &table.rows(server)?, batch.way) } else { 0 };
            figures.push("wrong", "", (faults + done.refused) as f64);
            Ok(())
        })
}

/// Which contacts must be there, with the last phone that was put and the changes that they must have counted, by address.
fn model(loaded: &[Contact], put: &[Contact]) -> BTreeMap<String, (Contact, u64)> {
    let mut model = BTreeMap::new();
    for contact in loaded.iter().chain(put) {
        let entry = model.entry(contact.email().to_string()).or_insert_with(|| (contact.clone(), 0));
        *entry = (contact.clone(), entry.1 + 1);
    }
    model
}

/// Rows that are missing, too many, or not as in the model. REPLACE knows no history, so its rows have counted one change.
fn faults(model: &BTreeMap<String, (Contact, u64)>, rows: &[Row], way: Way) -> u64 {
    let right = |row: &&Row| {
        model.get(row.contact.email()).is_some_and(|(contact, changes)| {
            *contact == row.contact && (way == Way::Replace || *changes == row.changes)
        })
    };
    let right = rows.iter().filter(right).count();
    (model.len().max(rows.len()) - right) as u64
}

/// Numbers to be put: `count` of them, about half of them below `known`, the others new and each new one once.
fn numbers(count: u64, known: u64, new_from: u64, rng: &mut Rng) -> Vec<u64> {
    let mut new = new_from..;
    let pick = |_| match rng.below(2) {
        0 if known > 0 => rng.below(known),
        _ => new.next().unwrap_or_default(),
    };
    (0..count).map(pick).collect()
}

/// Shares the work out to one client for each writer: whatever concerns one contact is one writer's, in its order.
/// Returns what was done and the seconds that it took.
fn share_out(writers: &mut [Writer], work: &[Contact], batch: usize) -> Result<(Done, f64)> {
    let mut shares: Vec<Vec<Contact>> = vec![Vec::new(); writers.len()];
    for contact in work {
        let place = contact.email().bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        shares[place % writers.len()].push(contact.clone());
    }
    let ran = Crowd::holding(writers.iter_mut().map(|writer| (writer, Done::default())))
        .times_each(|client| shares[client].chunks(batch).count() as u64)
        .within(PATIENCE)
        .run(|(writer, done), call| {
            let part = shares[call.client()].chunks(batch).nth(call.number() as usize);
            *done += writer.put(part.unwrap_or_default())?;
            Ok(())
        })?;
    Ok((ran.states.into_iter().map(|(_, done)| done).sum(), ran.seconds))
}

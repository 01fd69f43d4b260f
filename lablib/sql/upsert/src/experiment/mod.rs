//! What is measured of the seven ways: what they do to a row, what they cost, and what happens when clients meet.

#![allow(missing_docs, reason = "a field is documented where its name leaves something open")]

mod batches;
mod crowd;
mod lost_server;
mod meaning;
mod price;
mod prototype;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

pub use batches::{Deadlocks, batch_sizes, deadlocks, speed_chart};
pub use crowd::{Meeting, crowd, meeting};
pub use lost_server::{Survived, survives};
pub use meaning::{Cut, Held, Meaning, meaning, meaning_table, restricted, too_long};
pub use price::{PriceSpec, prices};
pub use prototype::{Pairs, PoolSpec, Published, address_book, prototype, work_table};

use super::contact::Contact;
use super::table::{Extras, Row, Table};
use super::way::Way;
use super::writer::{Done, Writer};
use lab::service::{Counters, MariaDb};
use lab::{Crowd, Error, Result, Rng, Trial};

/// The contact with this number: its address says which entry it is, the version what is put there.
fn contact(number: u64, version: u64) -> Result<Contact> {
    // A spread of the numbers, so that neighbours in time are no neighbours in the index.
    let place = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    Contact::new(format!("{place:011x}.{number}@example.org"), format!("Name {number}"), format!("{version:010}"))
}

/// Contacts number 0 up to `count` in their first version.
fn contacts(count: u64) -> Result<Vec<Contact>> {
    (0..count).map(|number| contact(number, 0)).collect()
}

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
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.size {
            1 => write!(f, "{}", self.way),
            size => write!(f, "{}, {size} a batch", self.way),
        }
    }
}

/// In each round each arm puts the same contacts, about half of them among those that its table was loaded with; `way` and `contacts`,
/// the size of a batch, are columns of the frame. Figures: how long a turn `took`; for each contact, what the server
/// [counts](COUNTS); `deadlocks`; and what is `wrong`: puts that were refused,
/// and rows that are in the end not what they must be.
fn in_turns(server: &MariaDb, batches: &[Batch], spec: PriceSpec, title: &str) -> Result<Trial<Batch>> {
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
        .titled(title)
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

/// How long clients may be at work.
const PATIENCE: Duration = Duration::from_secs(1_800);

fn writers(server: &MariaDb, table: &Table, way: Way, count: usize) -> Result<Vec<Writer>> {
    (0..count).map(|_| Writer::new(server, table, way)).collect()
}

/// What the server counts: the figure's name, its unit, and the server's own name. Syncs are times that the binary log was written and
/// synced, for one commit or for several together; rows are those that the storage engine was asked for.
const COUNTS: [(&str, &str, &str); 9] = [
    ("commits", "", "Binlog_commits"),
    ("syncs", "", "Binlog_group_commits"),
    ("binary log", "bytes", "Binlog_bytes_written"),
    ("engine's log", "bytes", "Innodb_lsn_current"),
    ("changes of pages", "", "Innodb_buffer_pool_write_requests"),
    ("pages read", "", "Innodb_pages_read"),
    ("written", "rows", "Handler_write"),
    ("updated", "rows", "Handler_update"),
    ("deleted", "rows", "Handler_delete"),
];

/// What the server counted while something was done.
fn counted<T>(server: &MariaDb, work: impl FnOnce() -> Result<T>) -> Result<(T, Counters)> {
    let before = Counters::of_server(server)?;
    let answer = work()?;
    Ok((answer, Counters::of_server(server)?.since(&before)))
}

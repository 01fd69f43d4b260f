//! What is measured of the seven ways: what they do to a row, what they cost, and what happens when clients meet.

#![allow(missing_docs, reason = "a field is documented where its name leaves something open")]

mod crowd;
mod deadlocks;
mod lost_server;
mod meaning;
mod prices;
mod prototype;

use std::time::Duration;

pub use crowd::{crowd, meeting};
pub use deadlocks::deadlocks;
pub use lost_server::survives;
pub use meaning::{meaning, restricted, too_long};
pub use prices::{Batch, PriceSpec, prices};
pub use prototype::{Pairs, PoolSpec, address_book, prototype};

use super::contact::Contact;
use super::table::Table;
use super::way::Way;
use super::writer::Writer;
use lab::Result;
use lab::service::{Counters, MariaDb};

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

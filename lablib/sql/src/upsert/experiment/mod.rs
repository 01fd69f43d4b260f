//! What is measured of the seven ways: what they do to a row, what they cost, and what happens when clients meet.

mod batches;
mod crowd;
mod lost_server;
mod meaning;
mod price;
mod published;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

pub use batches::{BatchSize, BatchSizes, Deadlocks, batch_sizes, deadlocks};
pub use crowd::{Crowd, Meeting, crowd, meeting};
pub use lost_server::{Survived, survives};
pub use meaning::{Cut, Held, Meaning, meaning, meaning_table, restricted, too_long};
pub use price::{Price, PriceSpec, Prices, prices};
pub use published::{Pair, Pairs, Phase, PoolSpec, Published, address_book, prototype, work_table};

use super::contact::Contact;
use super::table::Table;
use super::way::Way;
use super::writer::{Done, Writer};
use lab::service::{Counters, MariaDb};
use lab::{Progress, Result, Rng, Samples, joined};

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

/// A way with a table and writers of its own, which takes its turns with others.
struct Arm {
    way: Way,
    /// Contacts in a call.
    batch: usize,
    table: Table,
    writers: Vec<Writer>,
    /// Seconds, one sample a round; the rounds' costs; and what became of all puts.
    seconds: Samples,
    cost: Cost,
    done: Done,
}

impl Arm {
    fn new(server: &MariaDb, table: Table, way: Way, clients: usize, batch: usize) -> Result<Self> {
        let writers = writers(server, &table, way, clients)?;
        Ok(Self {
            way,
            batch,
            table,
            writers,
            seconds: Samples::default(),
            cost: Cost::default(),
            done: Done::default(),
        })
    }
}

/// In each round each arm puts the same contacts, about half of them among the `known` that its table was loaded with. One
/// round more, the first, warms up and counts for nothing. Returns what was put, in its order.
fn take_turns(
    server: &MariaDb,
    arms: &mut [Arm],
    known: u64,
    puts: u64,
    rounds: usize,
    rng: &mut Rng,
    progress: &mut Progress,
) -> Result<Vec<Contact>> {
    let mut put = Vec::new();
    for round in 0..=rounds as u64 {
        let work = numbers(puts, known, known + round * puts, rng)
            .into_iter()
            .zip(1 + round * puts..)
            .map(|(number, version)| contact(number, version))
            .collect::<Result<Vec<_>>>()?;
        // Forwards and backwards: no arm always follows the same one.
        let mut order: Vec<&mut Arm> = arms.iter_mut().collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for arm in order {
            let ((done, seconds), cost) = Cost::of(server, || share_out(&mut arm.writers, &work, arm.batch))?;
            if round > 0 {
                arm.seconds.push(seconds);
                arm.cost.add(&cost);
            }
            arm.done += done;
        }
        put.extend(work);
        progress.step();
    }
    Ok(put)
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

/// Shares the work out to one thread for each writer: whatever concerns one contact is one writer's, in its order.
/// Returns what was done and the seconds that it took.
fn share_out(writers: &mut [Writer], work: &[Contact], batch: usize) -> Result<(Done, f64)> {
    let mut shares: Vec<Vec<Contact>> = vec![Vec::new(); writers.len()];
    for contact in work {
        let place = contact.email().bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        shares[place % writers.len()].push(contact.clone());
    }
    let failed = AtomicBool::new(false);
    let began = Instant::now();
    let all = side_by_side(writers, |client, writer| {
        let mut done = Done::default();
        for part in shares[client].chunks(batch) {
            if failed.load(Ordering::Relaxed) {
                break;
            }
            done += writer.put(part).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
        }
        Ok(done)
    })?;
    Ok((all.into_iter().sum(), began.elapsed().as_secs_f64()))
}

/// Runs the same for each writer, each on a thread of its own.
fn side_by_side<T: Send>(
    writers: &mut [Writer],
    work: impl Fn(usize, &mut Writer) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            writers.iter_mut().enumerate().map(|(n, writer)| scope.spawn(move || work(n, writer))).collect();
        threads.into_iter().map(|thread| joined("put contacts", thread.join())).collect()
    })
}

fn writers(server: &MariaDb, table: &Table, way: Way, count: usize) -> Result<Vec<Writer>> {
    (0..count).map(|_| Writer::new(server, table, way)).collect()
}

/// What the server counted while something was done.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    commits: f64,
    /// Times that the binary log was written and synced, for one commit or for several together.
    groups: f64,
    /// Bytes of the binary log, and of the storage engine's own.
    binlog: f64,
    log: f64,
    /// Changes of pages in memory.
    page_changes: f64,
    /// Pages that had to be read from the disk.
    pages_read: f64,
    /// Rows written, updated and deleted, as the storage engine was asked for them.
    rows: [f64; 3],
}

impl Cost {
    fn add(&mut self, other: &Self) {
        self.commits += other.commits;
        self.groups += other.groups;
        self.binlog += other.binlog;
        self.log += other.log;
        self.page_changes += other.page_changes;
        self.pages_read += other.pages_read;
        (0..3).for_each(|what| self.rows[what] += other.rows[what]);
    }

    fn of<T>(server: &MariaDb, work: impl FnOnce() -> Result<T>) -> Result<(T, Self)> {
        let before = Counters::of_server(server)?;
        let answer = work()?;
        let done = Counters::of_server(server)?.since(&before);
        let cost = Self {
            commits: done.get("Binlog_commits")?,
            groups: done.get("Binlog_group_commits")?,
            binlog: done.get("Binlog_bytes_written")?,
            log: done.get("Innodb_lsn_current")?,
            page_changes: done.get("Innodb_buffer_pool_write_requests")?,
            pages_read: done.get("Innodb_pages_read")?,
            rows: [done.get("Handler_write")?, done.get("Handler_update")?, done.get("Handler_delete")?],
        };
        Ok((answer, cost))
    }
}

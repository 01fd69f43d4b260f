//! What the notebook does with the issuers: restarts, power cuts and kills of a counter, races for ranges, ticket servers that
//! walk into each other's numbers or die, ids that wrap, and what each of them costs.

mod compare;
mod counter;
mod failover;
mod ranges;
mod ticket_servers;
mod wrapping;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use compare::{Way, compared};
pub use counter::{Saved, killed, once_at_each, power_cuts, restarts, save_sizes};
pub use failover::{Failover, failover, forgetful, sequence_crash};
pub use ranges::{ByHand, Ranges, dead_caller, race_by_hand, race_under_load, range_sizes};
pub use ticket_servers::{crowded, walked};
pub use wrapping::{shards, wrapped};

use crate::{Issuer, Ledger, take};
use lab::service::run_directory;
use lab::{Crowd, Doing, Error, Frame, Result};

/// The prototype's times for a million ids, in milliseconds, by how many ids go between two saves.
pub const PUBLISHED_MILLION: [(u64, f64); 4] = [(100, 681.0), (500, 357.0), (1_000, 315.0), (10_000, 275.0)];
/// The same for ten million.
pub const PUBLISHED_TEN_MILLION: [(u64, f64); 3] = [(100, 6_899.0), (1_000, 3_222.0), (10_000, 2_880.0)];

/// How many rows of a frame repeat what a row before them has in this column.
pub fn repeated(frame: &Frame, column: &str) -> usize {
    frame.height() - frame.distinct(column).len()
}

/// How many of these are repetitions.
fn again(ids: Vec<u64>) -> u64 {
    let ids = Frame::new().text("id", ids);
    repeated(&ids, "id") as u64
}

/// A folder of its own for a counter, gone with this process.
fn folder() -> Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let folder = run_directory()?.join(format!("tickets-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir_all(&folder).doing("make a folder for a counter")?;
    Ok(folder)
}

/// That so many numbers can be handed out in whole batches of each of these sizes, and so as many in each round.
fn in_whole_batches(sizes: &[u64], ids: u64) -> Result<()> {
    match sizes.iter().all(|size| *size > 0 && ids.is_multiple_of(*size)) {
        true => Ok(()),
        false => Err(Error::new("compare sizes", format!("{ids} is no multiple of each of {sizes:?}"))),
    }
}

/// How long clients may take for the few numbers that somebody waits for, on whatever machine.
const STUCK: Duration = Duration::from_secs(20);

/// Waits until it is enough, and says whether it is: what is done to clients is done at a number, not at a time, whatever
/// else the machine does.
fn until(enough: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while !enough() {
        if began.elapsed() > STUCK {
            return false;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    true
}

/// How many numbers clients have received so far.
struct Received(AtomicU64);

impl Received {
    /// Waits for so many more.
    fn wait_for(&self, more: u64) -> Result<()> {
        let enough = self.0.load(Ordering::Relaxed) + more;
        match until(|| self.0.load(Ordering::Relaxed) >= enough) {
            true => Ok(()),
            false => Err(Error::new("kill a server in the middle of its work", "its clients get no numbers")),
        }
    }
}

/// Clients take numbers as fast as they can while something happens, and stop when it is over.
fn draw_during<I: Issuer>(clients: Vec<I>, act: impl FnOnce(&Received) -> Result<()>) -> Result<Ledger> {
    let received = Received(AtomicU64::new(0));
    let crowd = Crowd::holding(clients).lasting(Duration::ZERO).enduring();
    let ((), ran) = crowd.during(
        || act(&received),
        |client, call| {
            take(client, call)?;
            received.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        },
    )?;
    Ok(Ledger::of(ran))
}

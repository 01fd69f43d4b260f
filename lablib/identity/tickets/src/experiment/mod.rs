//! What the notebook does with the issuers: restarts, power cuts and kills of a counter, races for ranges, ticket servers that
//! walk into each other's numbers or die, ids that wrap, and what each of them costs.

mod compare;
mod failover;
mod killed;
mod power;
mod ranges;
mod restarts;
mod sizes;
mod walking;
mod wrapping;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use compare::{Compared, Priced, compared};
pub use failover::{Crowd, Crowded, Failover, Lost, crowded, failover, forgetful, sequence_crash};
pub use killed::{Killed, gap_chart, killed, killed_without};
pub use power::{CutArm, cut_chart, cut_table, power_cuts};
pub use ranges::{ByHand, Loaded, dead_caller, race_by_hand, race_under_load};
pub use restarts::{Restarts, restarts};
pub use sizes::{RangeSizes, SaveSizes, once_at_each, range_sizes, save_sizes};
pub use walking::{Walked, walk_chart, walked};
pub use wrapping::{Shards, Wrapped, shards, shards_without, wrapped};

use crate::{Issuer, IssuerStats};
use lab::service::run_directory;
use lab::{Doing, Result};

/// The prototype's times for a million ids, in milliseconds, by how many ids go between two saves.
pub const SEED_MILLION: [(u64, f64); 4] = [(100, 681.0), (500, 357.0), (1_000, 315.0), (10_000, 275.0)];
/// The same for ten million.
pub const SEED_TEN_MILLION: [(u64, f64); 3] = [(100, 6_899.0), (1_000, 3_222.0), (10_000, 2_880.0)];

/// A folder of its own for a counter, gone with this process.
fn folder() -> Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let folder = run_directory()?.join(format!("tickets-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir_all(&folder).doing("make a folder for a counter")?;
    Ok(folder)
}

/// A client of whose numbers somebody else hears, too.
struct Watched<I, F> {
    client: I,
    seen: F,
}

impl<I: Issuer, F: FnMut(u64) + Send> Issuer for Watched<I, F> {
    fn next_id(&mut self) -> Result<u64> {
        let id = self.client.next_id()?;
        (self.seen)(id);
        Ok(id)
    }

    fn stats(&self) -> IssuerStats {
        self.client.stats()
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

/// How many of these are repetitions.
fn repeated<T: Ord>(mut all: Vec<T>) -> u64 {
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    (count - all.len()) as u64
}

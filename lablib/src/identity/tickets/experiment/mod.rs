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

pub use compare::{Compared, Priced, compared};
pub use failover::{Crowd, Failover, Lost, crowded, failover, forgetful, sequence_crash};
pub use killed::{Killed, gap_chart, killed, killed_without};
pub use power::{CutArm, cut_chart, cut_table, power_cuts};
pub use ranges::{ByHand, Loaded, dead_caller, race_by_hand, race_under_load};
pub use restarts::{Restarts, restarts};
pub use sizes::{RangeSizes, SaveSizes, once_at_each, range_sizes, save_sizes};
pub use walking::{Walked, walk_chart, walked};
pub use wrapping::{Shards, Wrapped, shards, wrapped};

use crate::lab::service::run_directory;
use crate::lab::{Doing, Result};

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

/// How many of these are repetitions.
fn repeated<T: Ord>(mut all: Vec<T>) -> u64 {
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    (count - all.len()) as u64
}

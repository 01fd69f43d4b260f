//! What the notebook does with the issuers: restarts, power cuts and kills of a counter, races for ranges, ticket servers that
//! walk into each other's numbers or die, ids that wrap, and what each of them costs.

#![allow(missing_docs, reason = "a field is documented where its name leaves something open")]

mod compare;
mod counter;
mod ranges;
mod ticket_servers;
mod wrapping;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use compare::{Way, compared};
pub use counter::{Saved, killed, once_at_each, power_cuts, restarts, save_sizes};
pub use ranges::{dead_caller, race_by_hand, race_under_load, range_sizes};
pub use ticket_servers::{crowded, failover, forgetful, sequence_crash, walked};
pub use wrapping::{shards, wrapped};

use crate::Issuer;
use lab::service::run_directory;
use lab::{Doing, Error, Frame, Result};

/// How many rows of a frame repeat what a row before them has in this column.
pub fn repeated(frame: &Frame, column: &str) -> usize {
    frame.height() - frame.distinct(column).len()
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

/// Hands out so many ids: what a million would take, in milliseconds, and how many of them were higher than the one before.
fn hand_out(issuer: &mut impl Issuer, ids: u64) -> Result<(f64, u64)> {
    let (began, mut last, mut rising) = (Instant::now(), 0, 0);
    for _ in 0..ids {
        let id = issuer.next_id()?;
        rising += u64::from(id > last);
        last = id;
    }
    Ok((began.elapsed().as_secs_f64() * 1e9 / ids as f64, rising))
}

/// How long clients may take for the few numbers that somebody waits for, on whatever machine.
const STUCK: Duration = Duration::from_secs(20);

/// Waits until clients have received enough: what is done to them is done at a number, not at a time, whatever else the machine does.
fn until(enough: impl Fn() -> bool) -> Result<()> {
    let began = Instant::now();
    while !enough() {
        if began.elapsed() > STUCK {
            return Err(Error::new("kill a server in the middle of its work", "its clients get no numbers"));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

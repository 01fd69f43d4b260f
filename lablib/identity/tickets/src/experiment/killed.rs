//! An issuer in a process of its own, killed at random moments while clients take numbers.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Watched, folder, until};
use crate::{Audit, CounterFile, IssuerProcess, Ledger, Numbering, Skip};
use lab::chart::{Chart, Lines};
use lab::{Error, OrFail, Result, Rng, Samples};

/// Kills come within so many numbers, however large the batch.
const SOON: u64 = 1_000;

/// What clients received from an issuer that was killed again and again.
#[derive(Debug)]
pub struct Killed {
    /// How many numbers were reserved with each save.
    pub batch: u64,
    /// How often it was killed.
    pub kills: u64,
    /// What the clients received.
    pub ledger: Ledger,
    /// The ledger, judged.
    pub audit: Audit,
    /// Numbers lost in each batch that lost any.
    pub gaps: Samples,
}

/// Clients take numbers while their issuer is killed (-9) so many times and started again.
pub fn killed(batch: u64, kills: u64, clients: usize, seed: u64) -> Killed {
    killed_without(batch, kills, clients, seed, None)
}

/// The same, with a step left out.
pub fn killed_without(batch: u64, kills: u64, clients: usize, seed: u64, skip: Option<Skip>) -> Killed {
    let run = || -> Result<Killed> {
        let path = folder()?.join("counter");
        drop(CounterFile::create(&path, batch)?);
        let mut issuer = IssuerProcess::start_without(&path, batch, skip)?;
        let mut rng = Rng::seeded(seed, &format!("kills at a batch of {batch}"));
        let received = AtomicU64::new(0);
        let seen = |_: u64| {
            received.fetch_add(1, Ordering::Relaxed);
        };
        let callers = (0..clients).map(|_| Watched { client: issuer.client(), seen });
        let (ledger, ()) = Ledger::draw_during(callers.collect(), || {
            for _ in 0..kills {
                wait_for(&received, 1 + rng.below((2 * batch).min(SOON)))?;
                issuer.kill()?;
                issuer.restart(batch)?;
            }
            wait_for(&received, batch.min(SOON))
        })?;
        let audit = ledger.audit(Numbering::From(1));
        let gaps = gaps(&ledger, batch);
        Ok(Killed { batch, kills, audit, gaps, ledger })
    };
    run().or_fail()
}

/// Waits until the clients have received so many more.
fn wait_for(received: &AtomicU64, more: u64) -> Result<()> {
    let enough = received.load(Ordering::Relaxed) + more;
    match until(|| received.load(Ordering::Relaxed) >= enough) {
        true => Ok(()),
        false => Err(Error::new("kill an issuer in the middle of its work", "its clients get no numbers")),
    }
}

/// Batch by batch, the numbers that nobody received.
fn gaps(ledger: &Ledger, batch: u64) -> Samples {
    let there: BTreeSet<u64> = ledger.receipts().map(|receipt| receipt.id).collect();
    let last = there.last().copied().unwrap_or(0);
    let mut gaps = Samples::default();
    let mut first = 1;
    while first <= last {
        let end = (first + batch).min(last + 1);
        let lost = end - first - there.range(first..end).count() as u64;
        if lost > 0 {
            gaps.push(lost as f64);
        }
        first += batch;
    }
    gaps
}

/// Numbers lost by a kill, by the size of a batch.
pub fn gap_chart(runs: &[Killed], title: &str) -> Lines {
    Chart::lines(title)
        .x("numbers reserved with one save", "")
        .log_x()
        .y("numbers lost by a kill", "")
        .log_y()
        .line_with_spread("measured", runs.iter().map(|run| (run.batch as f64, &run.gaps)))
        .predicted_points("one batch", runs.iter().map(|run| (run.batch as f64, run.batch as f64)))
}

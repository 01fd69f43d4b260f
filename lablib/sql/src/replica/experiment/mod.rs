//! What the notebook does with a primary and its replicas.

mod bank;
mod divergence;
mod failover;
mod lag;
mod outage;
mod stale;
mod waiting;

use std::time::Duration;

pub use bank::{Bank, PrefixChecks, Teller, Transfer};
pub use divergence::{Diverged, divergence, prototype};
pub use failover::{FailoverSpec, Failovers, failovers};
pub use lag::{LagSpec, LagSweep, Silence, lag_sweep, silence};
pub use outage::{Outage, OutageSpec, outage, spread};
pub use stale::{Kind, Readers, ReadersSpec, StaleSweep, policies, promise, stale_sweep};
pub use waiting::{Stall, seen_early, stall};

use super::Cluster;
use lab::{Call, Crowd, Error, OrFail, Ran, Result};

/// A primary with so many replicas, each behind a wire of its own.
pub fn cluster(replicas: usize) -> Cluster {
    Cluster::start(replicas).or_fail()
}

/// So many empty accounts on a cluster.
pub fn bank(cluster: &Cluster, accounts: u64) -> Bank {
    Bank::open(cluster, accounts).or_fail()
}

/// Clients are at work while something is done: what came of it, and what they did.
fn meanwhile<S: Send, T>(
    clients: Crowd<'_, S>,
    act: impl FnOnce() -> Result<T>,
    work: impl Fn(&mut S, &mut Call) -> Result<()> + Sync,
) -> Result<(T, Ran<S>)> {
    let mut done = None;
    let acts = || {
        done = Some(act()?);
        Ok(())
    };
    let ran = clients.within(Duration::from_secs(900)).meanwhile(Duration::ZERO, "done", acts).run(work)?;
    let done = done.ok_or_else(|| Error::new("do something while clients are at work", "it was not begun"))?;
    Ok((done, ran))
}

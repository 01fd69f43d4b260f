//! What the notebook does with a primary and its replicas.

#![allow(missing_docs, reason = "a field is documented where its name leaves something open")]

mod bank;
mod divergence;
mod failover;
mod lag;
mod outage;
mod stale;
mod waiting;

pub use bank::{Bank, PrefixChecks, Teller, Transfer};
pub use divergence::{Diverged, divergence, prototype};
pub use failover::{FailoverSpec, Failovers, failovers};
pub use lag::{LagSpec, LagSweep, Silence, lag_sweep, silence};
pub use outage::{Outage, OutageSpec, outage, spread};
pub use stale::{Kind, Readers, ReadersSpec, StaleSweep, policies, promise, stale_sweep};
pub use waiting::{Stall, seen_early, stall};

use std::time::Duration;

use super::Cluster;
use lab::OrFail;

/// What clients do while something else is done may take this long.
const AT_MOST: Duration = Duration::from_secs(900);

/// A primary with so many replicas, each behind a wire of its own.
pub fn cluster(replicas: usize) -> Cluster {
    Cluster::start(replicas).or_fail()
}

/// So many empty accounts on a cluster.
pub fn bank(cluster: &Cluster, accounts: u64) -> Bank {
    Bank::open(cluster, accounts).or_fail()
}

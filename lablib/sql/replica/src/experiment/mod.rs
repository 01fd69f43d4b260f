//! What the notebook does with a primary and its replicas.

#![allow(missing_docs, reason = "a field is documented where its name leaves something open")]

mod bank;
mod divergence;
mod failover;
mod lag;
mod outage;
mod stale;
mod waiting;

pub use crate::prototype::prototype;
pub use bank::{Bank, PrefixChecks, Teller, Transfer};
pub use divergence::{Diverged, divergence};
pub use failover::{FailoverSpec, failovers};
pub use lag::{LagSpec, lag_sweep, silence};
pub use outage::{Outage, outage, spread};
pub use stale::{Kind, Readers, ReadersSpec, policies, promise, stale_sweep};
pub use waiting::{Stall, seen_early, stall};

use std::time::Duration;

use crate::Cluster;
use lab::Result;

/// How long clients may be at work beside what is measured, at the longest: whole experiments at full scale.
const PATIENCE: Duration = Duration::from_secs(900);

/// Whatever happens to the cluster meanwhile, its wires heal afterwards, and commits wait for nobody.
fn healed<T>(cluster: &Cluster, run: impl FnOnce() -> Result<T>) -> Result<T> {
    let done = run();
    cluster.heal();
    let off = cluster.semi_sync(None);
    done.and_then(|done| off.map(|()| done))
}

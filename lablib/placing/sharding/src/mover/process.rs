//! A mover in a process of its own, to be killed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Mover, MoverSpec};
use crate::cluster::Cluster;
use crate::route::Weight;
use lab::{Result, errand};

/// What a mover in a process of its own is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Errand {
    pub(crate) cluster: Cluster,
    pub(crate) spec: MoverSpec,
    /// The instances that shall own all slots.
    pub(crate) onto: Vec<String>,
}

/// What `lab mover` does. Says what each move cost.
pub fn mover_process() -> Result<()> {
    let told: Errand = errand::told()?;
    let moved = Mover::new(&told.cluster, told.spec)?.reshard(&Weight::equal(told.onto))?;
    moved.iter().try_for_each(errand::say)
}

/// How long a supervisor waits before it takes a dead mover's work up: nothing depends on it but the pause.
pub(crate) const SUPERVISOR: Duration = Duration::from_millis(100);

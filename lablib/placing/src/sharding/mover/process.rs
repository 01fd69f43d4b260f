//! A mover in a process of its own, to be killed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Mover, MoverSpec};
use crate::sharding::cluster::Cluster;
use crate::sharding::route::Weight;
use lab::{Doing, Result, crash};

/// What a mover in a process of its own is told, in [`MOVER`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Errand {
    pub(crate) cluster: Cluster,
    pub(crate) spec: MoverSpec,
    /// The instances that shall own all slots.
    pub(crate) onto: Vec<String>,
}

/// The variable that holds an errand, as JSON: it has the instances' URLs in it, so it is no argument.
pub(crate) const MOVER: &str = "LAB_SHARDING_ERRAND";

/// What `lab mover` does: the errand in its environment. Says on standard output what each move cost.
pub fn mover_process() -> Result<()> {
    let doing = "read the mover's errand";
    let text = std::env::var(MOVER).doing(doing)?;
    let errand: Errand = serde_json::from_str(&text).doing(doing)?;
    let moved = Mover::new(&errand.cluster, errand.spec)?.reshard(&Weight::equal(errand.onto))?;
    for moved in moved {
        crash::acknowledge(serde_json::to_string(&moved).doing("say what a move cost")?);
    }
    Ok(())
}

/// How long a supervisor waits before it takes a dead mover's work up: nothing depends on it but the pause.
pub(crate) const SUPERVISOR: Duration = Duration::from_millis(100);

//! A process of its own for an experiment: its limits are its own, its network is its own, and it ends with its owner.
//!
//! Experiments send their pieces here by name; [`pieces`](super::pieces) knows which is which.

use serde::Serialize;
use serde::de::DeserializeOwned;

use lab::Result;
use lab::errand::Running;

/// Starts a piece of an experiment in a network of its own.
pub(super) fn begin(piece: &str, spec: &impl Serialize) -> Result<Running> {
    Running::start("limits", &(piece, spec))
}

/// Runs it to its end.
pub(super) fn run<T: DeserializeOwned>(piece: &str, spec: &impl Serialize) -> Result<T> {
    begin(piece, spec)?.finish()
}

//! The pieces of experiments that run in a process and a network of their own, by their names. An experiment starts its piece as
//! `lab limits`, and knows nothing of this file but how.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::keep_alive::experiment as keep_alive;
use crate::limits::{backlog, descriptors, ports, time_wait};
use lab::errand::{self, Running};
use lab::{Doing, Error, Network, Progress, Result};

/// Starts a piece with what it is told.
pub(crate) fn start(piece: &str, spec: &impl Serialize) -> Result<Running> {
    Running::start("limits", &(piece, spec))
}

/// Pieces that go on while the notebook does.
#[derive(Debug)]
pub struct Begun<T> {
    running: Vec<Running>,
    started: usize,
    found: Vec<T>,
}

impl<T: Clone + DeserializeOwned> Begun<T> {
    /// Starts a process for each of these.
    pub(crate) fn start<S: Serialize>(piece: &str, specs: &[S]) -> Result<Self> {
        let running: Vec<Running> = specs.iter().map(|spec| start(piece, spec)).collect::<Result<_>>()?;
        Ok(Self { started: running.len(), running, found: Vec::new() })
    }

    /// Waits for what they have found. A cell may call it again.
    pub fn finish(&mut self) -> Result<Vec<T>> {
        let mut progress = Progress::new("waiting for what goes on beside", self.running.len() as u64);
        for running in self.running.drain(..) {
            self.found.push(running.finish()?);
            progress.step();
        }
        match self.found.len() == self.started {
            true => Ok(self.found.clone()),
            false => {
                Err(Error::new("see what goes on beside", "a part of it has failed before").remedy("start it anew"))
            }
        }
    }

    /// The processes that are still waited for.
    pub fn pids(&self) -> Vec<u32> {
        self.running.iter().map(Running::pid).collect()
    }
}

/// What `lab limits` does: the piece that it is told, with what that is told.
pub fn limits_process() -> Result<()> {
    let (piece, spec): (String, Value) = errand::told()?;
    let network = Network::enter()?;
    // After the namespace: a process of many threads is not let into one.
    errand::end_with_the_owner();
    match piece.as_str() {
        descriptors::PIECE => find(spec, descriptors::measure),
        ports::PIECE => find(spec, |spec| ports::measure(&network, spec)),
        time_wait::PIECE => find(spec, |spec| time_wait::measure(&network, spec)),
        keep_alive::PIECE => find(spec, |spec| keep_alive::measure(&network, spec)),
        backlog::PIECE => find(spec, |spec| backlog::measure(&network, spec)),
        other => Err(Error::new("run a piece of an experiment", format!("there is no {other:?}"))),
    }
}

fn find<S: DeserializeOwned, F: Serialize>(spec: Value, measure: impl FnOnce(&S) -> Result<F>) -> Result<()> {
    errand::say(&measure(&serde_json::from_value(spec).doing("read the errand of this process")?)?)
}

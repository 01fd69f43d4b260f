//! One operation of a history, and how it ended.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use super::clock::readable;

/// How a call ended, as far as its caller knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome<Ret> {
    /// It happened, and returned this.
    Ok(Ret),
    /// It definitely did not happen.
    Failed,
    /// It may have happened, may still happen, or may never happen.
    Unknown,
}

/// One operation of a history. Times are nanoseconds since the history began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation<Op, Ret> {
    /// Who called.
    pub process: usize,
    /// What was called.
    pub op: Op,
    /// When the call began.
    pub invoked: u64,
    /// When the caller had its answer or gave up; `None` while it still waits.
    pub returned: Option<u64>,
    /// What the caller learnt.
    pub outcome: Outcome<Ret>,
}

impl<Op, Ret> Operation<Op, Ret> {
    /// An operation that returned `ret`, for histories written by hand.
    pub fn ok(process: usize, op: Op, ret: Ret, invoked: u64, returned: u64) -> Self {
        Self { process, op, invoked, returned: Some(returned), outcome: Outcome::Ok(ret) }
    }

    /// An operation that definitely did not happen.
    pub fn failed(process: usize, op: Op, invoked: u64, returned: u64) -> Self {
        Self { process, op, invoked, returned: Some(returned), outcome: Outcome::Failed }
    }

    /// An operation that nobody knows the end of.
    pub fn unknown(process: usize, op: Op, invoked: u64) -> Self {
        Self { process, op, invoked, returned: None, outcome: Outcome::Unknown }
    }
}

impl<Op: Debug, Ret: Debug> Operation<Op, Ret> {
    /// `Write(2) → Written`: what a chart writes on the bar.
    pub fn label(&self) -> String {
        match &self.outcome {
            Outcome::Ok(ret) => format!("{:?} → {ret:?}", self.op),
            Outcome::Failed => format!("{:?} → failed", self.op),
            Outcome::Unknown => format!("{:?} → ?", self.op),
        }
    }

    /// `process 1's Write(2) → Written (3.1 ms to 3.2 ms)`: what a sentence calls it.
    pub(super) fn name(&self) -> String {
        let end = match (&self.outcome, self.returned) {
            (Outcome::Unknown, _) | (_, None) => "no known end".to_string(),
            (_, Some(returned)) => readable(returned),
        };
        format!("process {}'s {} ({} to {end})", self.process, self.label(), readable(self.invoked))
    }
}

//! A map whose entries live for so long, and what time does to it: locks, sessions, anything that expires.

use std::collections::BTreeSet;
use std::time::Duration;

use super::models::Model;
use super::operation::{Operation, Outcome};

/// What is asked of a key, and what time does to it. No two writes have the same value, so it says whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LivesOp {
    /// What is under the key?
    Get(String),
    /// Whatever was there, this from now on.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: u64,
        /// How long it is to live; for ever without one.
        ttl: Option<Duration>,
    },
    /// Nothing from now on.
    Delete(String),
    /// This from now on, if that is there.
    Swap {
        /// The key.
        key: String,
        /// What must be there; `None` stands for nothing.
        expected: Option<u64>,
        /// The value.
        value: u64,
        /// How long it is to live; for ever without one.
        ttl: Option<Duration>,
    },
    /// The end of a value's life. Nobody asks for it.
    End {
        /// The key.
        key: String,
        /// The value that is gone from now on, unless another one had its place already.
        value: u64,
        /// Whether it may come before the write of the value has taken effect.
        early: bool,
    },
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LivesRet {
    /// To a get.
    Value(Option<u64>),
    /// To a put, and at a value's end.
    Done,
    /// To a delete: whether the key was there.
    Deleted(bool),
    /// To a swap: whether it wrote.
    Swapped(bool),
}

/// What one key holds, and the values that ended before they were written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Held {
    value: Option<u64>,
    ended: BTreeSet<u64>,
}

impl Held {
    fn with(&self, value: Option<u64>) -> Self {
        Self { value: value.filter(|value| !self.ended.contains(value)), ended: self.ended.clone() }
    }
}

/// A map, key by key, in which a value is there from its write to its end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lives;

impl Model for Lives {
    type Op = LivesOp;
    type Ret = LivesRet;
    type State = Held;

    fn initial(&self) -> Held {
        Held::default()
    }

    fn step(&self, held: &Held, op: &LivesOp, ret: Option<&LivesRet>) -> Option<Held> {
        match (op, ret) {
            (LivesOp::Get(_), None) => Some(held.clone()),
            (LivesOp::Get(_), Some(LivesRet::Value(seen))) => (*seen == held.value).then(|| held.clone()),
            (LivesOp::Put { value, .. }, None | Some(LivesRet::Done)) => Some(held.with(Some(*value))),
            (LivesOp::Delete(_), None) => Some(held.with(None)),
            (LivesOp::Delete(_), Some(LivesRet::Deleted(told))) => {
                (*told == held.value.is_some()).then(|| held.with(None))
            }
            (LivesOp::Swap { expected, value, .. }, None | Some(LivesRet::Swapped(_))) => {
                let swaps = held.value == *expected;
                let after = || if swaps { held.with(Some(*value)) } else { held.clone() };
                ret.is_none_or(|ret| *ret == LivesRet::Swapped(swaps)).then(after)
            }
            (LivesOp::End { value, early, .. }, None | Some(LivesRet::Done)) => {
                let mut after = held.clone();
                if held.value == Some(*value) {
                    after.value = None;
                } else if *early {
                    after.ended.insert(*value);
                }
                Some(after)
            }
            _ => None,
        }
    }

    fn is_read(&self, op: &LivesOp, ret: &LivesRet) -> bool {
        matches!((op, ret), (LivesOp::Get(_), _) | (_, LivesRet::Deleted(false) | LivesRet::Swapped(false)))
    }

    fn partition(&self, op: &LivesOp) -> Option<String> {
        let (LivesOp::Get(key)
        | LivesOp::Put { key, .. }
        | LivesOp::Delete(key)
        | LivesOp::Swap { key, .. }
        | LivesOp::End { key, .. }) = op;
        Some(key.clone())
    }
}

/// The operations, and the end of each value that was written to live for so long: as long after some moment between the
/// write's call and its answer, give or take what the two clocks may differ by.
pub fn with_ends(
    mut operations: Vec<Operation<LivesOp, LivesRet>>,
    clocks: Duration,
) -> Vec<Operation<LivesOp, LivesRet>> {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let end = |operation: &Operation<LivesOp, LivesRet>| {
        let (LivesOp::Put { key, value, ttl: Some(ttl) } | LivesOp::Swap { key, value, ttl: Some(ttl), .. }) =
            &operation.op
        else {
            return None;
        };
        let from = (operation.invoked + nanos(*ttl)).saturating_sub(nanos(clocks));
        let end = |early| LivesOp::End { key: key.clone(), value: *value, early };
        match (&operation.outcome, operation.returned) {
            (Outcome::Ok(LivesRet::Done | LivesRet::Swapped(true)), Some(returned)) => {
                let to = returned + nanos(*ttl) + nanos(clocks);
                Some(Operation::ok(operation.process, end(from <= returned), LivesRet::Done, from, to))
            }
            // It may take effect at any time, and its end comes as much later.
            (Outcome::Unknown, _) => Some(Operation::unknown(operation.process, end(false), from)),
            _ => None,
        }
    };
    let ends: Vec<_> = operations.iter().filter_map(end).collect();
    operations.extend(ends);
    operations
}

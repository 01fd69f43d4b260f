//! Linearizability: does every operation take effect at one instant between its call and its return?
//!
//! * `Linearizable` carries an order of the operations that respects their times and that the model executes with
//!   exactly the recorded returns.
//! * `NotLinearizable` means that every such order was ruled out. Its explanation names the operation that no order
//!   could place in time, after the longest prefix that worked.
//! * `Undecided` claims nothing: the budget ended, or the history contradicts itself.
//! * Failed operations have no effect; operations without a known end may take effect at any time after their call, or never.
//!
//! The search follows Wing and Gong's idea with Lowe's memoisation, one independent part of the object at a time.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::models::Model;
use super::operation::{Operation, Outcome};
pub use super::search::Budget;
use super::search::{Found, Remaining, Stuck, search};

/// Why a history is not linearizable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Positions of the operations in the longest linearizable prefix that was found, in its order; only those of the
    /// culprit's part of the object.
    pub prefix: Vec<usize>,
    /// Position of the operation that cannot be placed.
    pub culprit: usize,
    /// All of it in one sentence.
    pub sentence: String,
}

/// The answer. Positions refer to the operations as they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// There is an order; this one, for example.
    Linearizable {
        /// Positions of the operations. Failed ones, and unknown ones that need not have happened, are left out.
        order: Vec<usize>,
    },
    /// There is none.
    NotLinearizable {
        /// Why not.
        explanation: Explanation,
    },
    /// Nobody knows.
    Undecided {
        /// What stopped the search.
        reason: String,
    },
}

impl Verdict {
    /// Proven to be linearizable.
    pub fn is_linearizable(&self) -> bool {
        matches!(self, Self::Linearizable { .. })
    }

    /// Proven not to be linearizable; not the opposite of the above, because a search may stay undecided.
    pub fn is_violation(&self) -> bool {
        matches!(self, Self::NotLinearizable { .. })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linearizable { order } => {
                write!(f, "linearizable: one order explains all {} operations", order.len())
            }
            Self::NotLinearizable { explanation } => write!(f, "not linearizable: {}", explanation.sentence),
            Self::Undecided { reason } => write!(f, "undecided: {reason}"),
        }
    }
}

/// Checks a history within the default budget.
///
/// ```
/// use lab::history::models::{Register, RegisterOp::*, RegisterRet::*};
/// use lab::history::{Operation, linearizable};
///
/// let stale = [
///     Operation::ok(0, Write(1), Written, 0, 10),
///     Operation::ok(1, Read, Value(0), 20, 30), // began after the write had returned
/// ];
/// let verdict = linearizable::check(&Register::starting(0), &stale);
/// assert!(verdict.is_violation());
/// assert!(verdict.to_string().contains("process 1's Read → Value(0)"));
/// ```
pub fn check<M: Model>(model: &M, operations: &[Operation<M::Op, M::Ret>]) -> Verdict {
    check_within(model, operations, &Budget::default())
}

/// Checks a history within a budget of one's own.
pub fn check_within<M: Model>(model: &M, operations: &[Operation<M::Op, M::Ret>], budget: &Budget) -> Verdict {
    if let Some(contradiction) = contradiction(operations) {
        return Verdict::Undecided { reason: contradiction };
    }
    let mut remaining = Remaining::of(budget);
    let mut placed: Vec<(u64, usize)> = Vec::with_capacity(operations.len());
    let partitions = partitions(model, operations);
    for (number, (part, members)) in partitions.iter().enumerate() {
        let history: Vec<&Operation<M::Op, M::Ret>> = members.iter().map(|&index| &operations[index]).collect();
        let place = |part_of: &str| match part_of {
            "" => String::new(),
            name => format!(" (of {name}, {} operations)", members.len()),
        };
        if let Some((culprit, why)) = model.refute(&history) {
            let explanation = refuted(model, &history, members, culprit, &why, &place(part));
            return Verdict::NotLinearizable { explanation };
        }
        match search(model, &history, &mut remaining) {
            Found::Order(order) => {
                // An operation takes effect at the latest invocation so far: within its own times, and comparable
                // across partitions.
                let mut instant = 0;
                for index in order {
                    instant = instant.max(history[index].invoked);
                    placed.push((instant, members[index]));
                }
            }
            Found::Nothing(stuck) => {
                let explanation = explain(&history, members, stuck, &place(part));
                return Verdict::NotLinearizable { explanation };
            }
            Found::OutOfBudget(_) => {
                let reason = format!(
                    "the budget of {} steps and {:?} ended in partition {} of {}{}",
                    budget.steps,
                    budget.time,
                    number + 1,
                    partitions.len(),
                    place(part)
                );
                return Verdict::Undecided { reason };
            }
        }
    }
    // Stable: operations of one partition that take effect at the same instant keep their order.
    placed.sort_by_key(|(instant, _)| *instant);
    Verdict::Linearizable { order: placed.into_iter().map(|(_, index)| index).collect() }
}

fn contradiction<Op: fmt::Debug, Ret: fmt::Debug>(operations: &[Operation<Op, Ret>]) -> Option<String> {
    operations.iter().enumerate().find_map(|(index, operation)| match (&operation.outcome, operation.returned) {
        (_, Some(returned)) if returned < operation.invoked => {
            Some(format!("operation {index}, {}, returned before it was called", operation.name()))
        }
        (Outcome::Ok(_), None) => {
            Some(format!("operation {index}, {}, has a return value but no time of return", operation.name()))
        }
        _ => None,
    })
}

/// Positions of the operations, by independent part; one nameless part if any operation spans several.
fn partitions<M: Model>(model: &M, operations: &[Operation<M::Op, M::Ret>]) -> BTreeMap<String, Vec<usize>> {
    let live = |index: &usize| operations[*index].outcome != Outcome::Failed;
    let mut parts: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for index in (0..operations.len()).filter(live) {
        match model.partition(&operations[index].op) {
            Some(part) => parts.entry(part).or_default().push(index),
            None => return BTreeMap::from([(String::new(), (0..operations.len()).filter(live).collect())]),
        }
    }
    parts
}

fn explain<Op: fmt::Debug, Ret: fmt::Debug, State: fmt::Debug>(
    history: &[&Operation<Op, Ret>],
    members: &[usize],
    stuck: Stuck<State>,
    part: &str,
) -> Explanation {
    let culprit = history[stuck.stuck].name();
    let before = match stuck.prefix.last() {
        None => format!("nothing can come before it, and the initial state {:?} does not allow it", stuck.state),
        Some(&last) => format!(
            "the longest linearizable prefix has {} operations, ends with {} and leaves {:?}, which does not allow it",
            stuck.prefix.len(),
            history[last].name(),
            stuck.state
        ),
    };
    Explanation {
        prefix: stuck.prefix.iter().map(|&index| members[index]).collect(),
        culprit: members[stuck.stuck],
        sentence: format!("{culprit}{part} cannot be placed: {before}"),
    }
}

fn refuted<M: Model>(
    model: &M,
    history: &[&Operation<M::Op, M::Ret>],
    members: &[usize],
    culprit: usize,
    why: &str,
    part: &str,
) -> Explanation {
    // The proof is there already; a short search adds how far one can get.
    let short = Budget { steps: 20_000, time: Duration::from_millis(500) };
    let prefix = match search(model, history, &mut Remaining::of(&short)) {
        Found::Nothing(stuck) | Found::OutOfBudget(stuck) => stuck.prefix,
        Found::Order(order) => order,
    };
    Explanation {
        sentence: format!(
            "{}{part} cannot be placed: {why} (the longest linearizable prefix found has {} operations)",
            history[culprit].name(),
            prefix.len()
        ),
        prefix: prefix.into_iter().map(|index| members[index]).collect(),
        culprit: members[culprit],
    }
}

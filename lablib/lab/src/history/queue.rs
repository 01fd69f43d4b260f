//! The model of a first-in-first-out queue, with what it takes to check long histories of one.

use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use super::models::Model;
use super::operation::{Operation, Outcome};

/// What a queue can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum QueueOp<T> {
    /// Puts an element at the back.
    Enqueue(T),
    /// Takes the element at the front.
    Dequeue,
}

/// What a queue answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum QueueRet<T> {
    /// To an enqueue.
    Enqueued,
    /// To an enqueue into a queue with a capacity.
    Full,
    /// To a dequeue: the element, or `None` from an empty queue.
    Dequeued(Option<T>),
}

/// First in, first out; empty at first.
#[derive(Debug, Clone)]
pub struct Queue<T> {
    capacity: Option<usize>,
    element: PhantomData<T>,
}

impl<T> Queue<T> {
    /// A queue that takes any number of elements.
    pub fn unbounded() -> Self {
        Self { capacity: None, element: PhantomData }
    }

    /// A queue that is full with `capacity` elements. (An enqueue that blocks simply returns later.)
    pub fn bounded(capacity: usize) -> Self {
        Self { capacity: Some(capacity), element: PhantomData }
    }
}

impl<T: Clone + Debug + Eq + Hash> Model for Queue<T> {
    type Op = QueueOp<T>;
    type Ret = QueueRet<T>;
    type State = VecDeque<T>;

    fn initial(&self) -> VecDeque<T> {
        VecDeque::new()
    }

    fn step(&self, state: &VecDeque<T>, op: &QueueOp<T>, ret: Option<&QueueRet<T>>) -> Option<VecDeque<T>> {
        let full = self.capacity.is_some_and(|capacity| state.len() >= capacity);
        match (op, ret) {
            (QueueOp::Enqueue(_), Some(QueueRet::Full)) => full.then(|| state.clone()),
            (QueueOp::Enqueue(_), None) if full => Some(state.clone()),
            (QueueOp::Enqueue(element), None | Some(QueueRet::Enqueued)) if !full => {
                let mut next = state.clone();
                next.push_back(element.clone());
                Some(next)
            }
            (QueueOp::Dequeue, ret) => {
                let fits = match ret {
                    None => true,
                    Some(QueueRet::Dequeued(seen)) => state.front() == seen.as_ref(),
                    Some(_) => false,
                };
                fits.then(|| {
                    let mut next = state.clone();
                    next.pop_front();
                    next
                })
            }
            _ => None,
        }
    }

    fn is_read(&self, _op: &QueueOp<T>, ret: &QueueRet<T>) -> bool {
        matches!(ret, QueueRet::Full | QueueRet::Dequeued(None))
    }

    /// Which of two concurrent enqueues came first shows only when their elements come out, long after a search would
    /// have had to choose. So look ahead: what comes out first went in first.
    fn urgency(&self, operations: &[&Operation<QueueOp<T>, QueueRet<T>>]) -> Vec<u64> {
        let mut leaves: HashMap<&T, u64> = HashMap::new();
        for operation in operations {
            if let (QueueOp::Dequeue, Outcome::Ok(QueueRet::Dequeued(Some(element)))) =
                (&operation.op, &operation.outcome)
            {
                leaves.entry(element).or_insert(operation.returned.unwrap_or(u64::MAX));
            }
        }
        let own = |operation: &&Operation<QueueOp<T>, QueueRet<T>>| match &operation.op {
            QueueOp::Enqueue(element) => leaves.get(element).copied().unwrap_or(u64::MAX),
            QueueOp::Dequeue => operation.returned.unwrap_or(u64::MAX),
        };
        operations.iter().map(own).collect()
    }

    /// With elements that are all different, three faults show without any search: an element from nowhere, an element
    /// that came out twice, and an element overtaken by one that went in after it.
    fn refute(&self, operations: &[&Operation<QueueOp<T>, QueueRet<T>>]) -> Option<(usize, String)> {
        let mut passages: HashMap<&T, Passage> = HashMap::new();
        for operation in operations {
            if let (QueueOp::Enqueue(element), Outcome::Ok(QueueRet::Enqueued) | Outcome::Unknown) =
                (&operation.op, &operation.outcome)
            {
                let entered = match operation.outcome {
                    Outcome::Unknown => u64::MAX,
                    _ => operation.returned.unwrap_or(u64::MAX),
                };
                let passage = Passage { entering: operation.invoked, entered, leaving: None };
                if passages.insert(element, passage).is_some() {
                    return None;
                }
            }
        }
        let mut hidden_dequeues = false;
        for (index, operation) in operations.iter().enumerate() {
            match (&operation.op, &operation.outcome) {
                (QueueOp::Dequeue, Outcome::Unknown) => hidden_dequeues = true,
                (QueueOp::Dequeue, Outcome::Ok(QueueRet::Dequeued(Some(element)))) => {
                    let Some(passage) = passages.get_mut(element) else {
                        return Some((index, "nobody enqueued that element".to_string()));
                    };
                    let returned = operation.returned.unwrap_or(u64::MAX);
                    if returned < passage.entering {
                        return Some((index, "that element was enqueued only later".to_string()));
                    }
                    if passage.leaving.replace((operation.invoked, returned, index)).is_some() {
                        return Some((index, "that element had been dequeued already".to_string()));
                    }
                }
                _ => {}
            }
        }
        overtaken(&passages, hidden_dequeues)
    }
}

/// One element's way through the queue.
struct Passage {
    entering: u64,
    entered: u64,
    /// Invocation, return and position of its dequeue.
    leaving: Option<(u64, u64, usize)>,
}

/// Finds an element that entered wholly before another and left wholly after it, or never.
fn overtaken<T: Debug>(passages: &HashMap<&T, Passage>, hidden_dequeues: bool) -> Option<(usize, String)> {
    let mut by_entered: Vec<(&&T, &Passage)> = passages.iter().collect();
    by_entered.sort_by_key(|(_, passage)| passage.entered);
    let mut by_entering: Vec<(&&T, &Passage)> = passages.iter().collect();
    by_entering.sort_by_key(|(_, passage)| passage.entering);

    let mut earlier = by_entered.into_iter().peekable();
    let mut slowest: Option<(&&T, u64)> = None;
    for (element, passage) in by_entering {
        while let Some((before, overtaken)) = earlier.next_if(|(_, earlier)| earlier.entered < passage.entering) {
            let leaves = match overtaken.leaving {
                Some((invoked, _, _)) => invoked,
                // A dequeue that nobody saw the end of may have taken it.
                None if hidden_dequeues => continue,
                None => u64::MAX,
            };
            if slowest.is_none_or(|(_, latest)| latest < leaves) {
                slowest = Some((before, leaves));
            }
        }
        if let (Some((before, leaves)), Some((_, returned, index))) = (slowest, passage.leaving)
            && returned < leaves
        {
            let fate = if leaves == u64::MAX { "never came out" } else { "came out later" };
            return Some((index, format!("{before:?} went in before {element:?} and {fate}")));
        }
    }
    None
}

//! What correct objects do: the sequential models that a history is compared with. [`locks`](super::locks),
//! [`queue`](super::queue) and [`lives`](super::lives) hold the larger ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use super::operation::Operation;

/// A sequential object: where it starts, and which steps it can take.
///
/// ```
/// use lab::history::History;
/// use lab::history::models::Model;
///
/// /// A light that one press switches on and the next one off; a press returns whether it is on now.
/// struct Light;
///
/// impl Model for Light {
///     type Op = ();
///     type Ret = bool;
///     type State = bool;
///
///     fn initial(&self) -> bool {
///         false
///     }
///
///     fn step(&self, on: &bool, _press: &(), ret: Option<&bool>) -> Option<bool> {
///         ret.is_none_or(|&shown| shown == !on).then_some(!on)
///     }
/// }
///
/// let history = History::new();
/// history.invoke(0, ()).ok(true);
/// history.invoke(1, ()).ok(true);
/// assert!(history.check(&Light).is_violation());
/// ```
pub trait Model {
    /// What is called.
    type Op: Clone + Debug + Eq + Hash;
    /// What comes back.
    type Ret: Clone + Debug + Eq + Hash;
    /// What the object remembers.
    type State: Clone + Debug + Eq + Hash;

    /// The state before the first operation.
    fn initial(&self) -> Self::State;

    /// The state after `op` returned `ret`, or `None` if it cannot return that here. Without a `ret` nobody saw the
    /// return value, and any that is possible here will do.
    ///
    /// An object that may choose its next state (not only its return value) has the set of possible states as its state.
    fn step(&self, state: &Self::State, op: &Self::Op, ret: Option<&Self::Ret>) -> Option<Self::State>;

    /// The independent part of the object that `op` touches. When every operation of a history names one, the parts
    /// are checked one by one, which is equally strict and far cheaper.
    fn partition(&self, _op: &Self::Op) -> Option<String> {
        None
    }

    /// Whether `op`, when it returns `ret`, leaves every state as it is: a read, a refusal. Saying so only makes the
    /// search shorter, but must be true.
    fn is_read(&self, _op: &Self::Op, _ret: &Self::Ret) -> bool {
        false
    }

    /// In which order to try concurrent operations, smallest first, one number an operation. It changes only how soon
    /// the search ends, never what it finds.
    fn urgency(&self, operations: &[&Operation<Self::Op, Self::Ret>]) -> Vec<u64> {
        operations.iter().map(|operation| operation.returned.unwrap_or(u64::MAX)).collect()
    }

    /// A cheap proof that no order exists: the operation that cannot be placed, and why. `None` means nothing.
    fn refute(&self, _operations: &[&Operation<Self::Op, Self::Ret>]) -> Option<(usize, String)> {
        None
    }
}

/// What a register can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RegisterOp<V> {
    /// Returns the value.
    Read,
    /// Replaces the value.
    Write(V),
    /// Replaces the value if it is `expected`.
    Cas {
        /// The value that must be there.
        expected: V,
        /// The value that replaces it.
        new: V,
    },
}

/// What a register answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RegisterRet<V> {
    /// To a read.
    Value(V),
    /// To a write.
    Written,
    /// To a compare-and-set: whether it replaced the value.
    Swapped(bool),
}

/// One value with read, write and compare-and-set.
#[derive(Debug, Clone)]
pub struct Register<V> {
    initial: V,
}

/// The same object, for code that wants to say that it uses compare-and-set.
pub type CasRegister<V> = Register<V>;

impl<V> Register<V> {
    /// A register that holds `initial`.
    pub fn starting(initial: V) -> Self {
        Self { initial }
    }
}

impl<V: Clone + Debug + Eq + Hash> Model for Register<V> {
    type Op = RegisterOp<V>;
    type Ret = RegisterRet<V>;
    type State = V;

    fn initial(&self) -> V {
        self.initial.clone()
    }

    fn step(&self, state: &V, op: &RegisterOp<V>, ret: Option<&RegisterRet<V>>) -> Option<V> {
        match (op, ret) {
            (RegisterOp::Read, None) => Some(state.clone()),
            (RegisterOp::Read, Some(RegisterRet::Value(seen))) => (seen == state).then(|| state.clone()),
            (RegisterOp::Write(value), None | Some(RegisterRet::Written)) => Some(value.clone()),
            (RegisterOp::Cas { expected, new }, ret) => {
                let swaps = state == expected;
                let told = match ret {
                    None => swaps,
                    Some(RegisterRet::Swapped(told)) => *told,
                    Some(_) => return None,
                };
                (told == swaps).then(|| if swaps { new.clone() } else { state.clone() })
            }
            _ => None,
        }
    }

    fn is_read(&self, op: &RegisterOp<V>, ret: &RegisterRet<V>) -> bool {
        matches!((op, ret), (RegisterOp::Read, _) | (_, RegisterRet::Swapped(false)))
    }
}

/// What a key-value store can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyValueOp<K, V> {
    /// Returns the value of a key.
    Get(K),
    /// Sets the value of a key.
    Put(K, V),
    /// Removes a key.
    Delete(K),
    /// Sets the value of a key if the present one is `expected`; `None` stands for an absent key.
    Cas {
        /// The key.
        key: K,
        /// What must be there.
        expected: Option<V>,
        /// What replaces it.
        new: V,
    },
}

/// What a key-value store answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyValueRet<V> {
    /// To a get: the value, or `None` for an absent key.
    Value(Option<V>),
    /// To a put or a delete that says nothing more.
    Done,
    /// To a delete that says whether the key was there.
    Deleted(bool),
    /// To a compare-and-set: whether it set the value.
    Swapped(bool),
}

/// A map with get, put, delete and compare-and-set, empty at first, checked key by key.
#[derive(Debug, Clone)]
pub struct KeyValue<K, V>(PhantomData<(K, V)>);

impl<K, V> KeyValue<K, V> {
    /// An empty store.
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<K, V> Default for KeyValue<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> Model for KeyValue<K, V>
where
    K: Clone + Debug + Eq + Hash + Ord,
    V: Clone + Debug + Eq + Hash,
{
    type Op = KeyValueOp<K, V>;
    type Ret = KeyValueRet<V>;
    type State = BTreeMap<K, V>;

    fn initial(&self) -> Self::State {
        BTreeMap::new()
    }

    fn step(&self, state: &Self::State, op: &Self::Op, ret: Option<&Self::Ret>) -> Option<Self::State> {
        let with = |key: &K, value: &V| {
            let mut next = state.clone();
            next.insert(key.clone(), value.clone());
            next
        };
        match (op, ret) {
            (KeyValueOp::Get(_), None) => Some(state.clone()),
            (KeyValueOp::Get(key), Some(KeyValueRet::Value(seen))) => {
                (state.get(key) == seen.as_ref()).then(|| state.clone())
            }
            (KeyValueOp::Put(key, value), None | Some(KeyValueRet::Done)) => Some(with(key, value)),
            (KeyValueOp::Delete(key), ret) => {
                let mut next = state.clone();
                let removed = next.remove(key).is_some();
                match ret {
                    None | Some(KeyValueRet::Done) => Some(next),
                    Some(KeyValueRet::Deleted(told)) => (*told == removed).then_some(next),
                    Some(_) => None,
                }
            }
            (KeyValueOp::Cas { key, expected, new }, ret) => {
                let swaps = state.get(key) == expected.as_ref();
                let told = match ret {
                    None => swaps,
                    Some(KeyValueRet::Swapped(told)) => *told,
                    Some(_) => return None,
                };
                (told == swaps).then(|| if swaps { with(key, new) } else { state.clone() })
            }
            _ => None,
        }
    }

    fn is_read(&self, op: &Self::Op, ret: &Self::Ret) -> bool {
        matches!((op, ret), (KeyValueOp::Get(_), _) | (_, KeyValueRet::Deleted(false) | KeyValueRet::Swapped(false)))
    }

    fn partition(&self, op: &Self::Op) -> Option<String> {
        let (KeyValueOp::Get(key) | KeyValueOp::Put(key, _) | KeyValueOp::Delete(key) | KeyValueOp::Cas { key, .. }) =
            op;
        Some(format!("{key:?}"))
    }
}

/// What a counter can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CounterOp {
    /// Adds, and says nothing about the sum.
    Add(i64),
    /// Adds and returns the new sum.
    AddAndGet(i64),
    /// Returns the sum.
    Read,
}

/// What a counter answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CounterRet {
    /// To an add.
    Added,
    /// To a read or an add-and-get.
    Value(i64),
}

/// A sum that starts at zero.
#[derive(Debug, Clone, Default)]
pub struct Counter;

impl Model for Counter {
    type Op = CounterOp;
    type Ret = CounterRet;
    type State = i64;

    fn initial(&self) -> i64 {
        0
    }

    fn step(&self, state: &i64, op: &CounterOp, ret: Option<&CounterRet>) -> Option<i64> {
        match (op, ret) {
            (CounterOp::Add(delta), None | Some(CounterRet::Added)) => state.checked_add(*delta),
            (CounterOp::AddAndGet(delta), ret) => {
                let next = state.checked_add(*delta)?;
                ret.is_none_or(|ret| *ret == CounterRet::Value(next)).then_some(next)
            }
            (CounterOp::Read, ret) => ret.is_none_or(|ret| *ret == CounterRet::Value(*state)).then_some(*state),
            _ => None,
        }
    }

    fn is_read(&self, op: &CounterOp, _ret: &CounterRet) -> bool {
        *op == CounterOp::Read
    }
}

/// What a set can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SetOp<T: Ord> {
    /// Puts an element in.
    Add(T),
    /// Takes an element out.
    Remove(T),
    /// Asks for one element.
    Contains(T),
    /// Asks for all elements.
    Members,
}

/// What a set answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SetRet<T: Ord> {
    /// To an add or a remove that says nothing more.
    Done,
    /// To an add or a remove: whether the set changed.
    Changed(bool),
    /// To a contains.
    Found(bool),
    /// To a request for all elements.
    Elements(BTreeSet<T>),
}

/// A set, empty at first. Without requests for all members it is checked element by element.
#[derive(Debug, Clone)]
pub struct Set<T>(PhantomData<T>);

impl<T> Set<T> {
    /// An empty set.
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Default for Set<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone + Debug + Eq + Hash + Ord> Model for Set<T> {
    type Op = SetOp<T>;
    type Ret = SetRet<T>;
    type State = BTreeSet<T>;

    fn initial(&self) -> Self::State {
        BTreeSet::new()
    }

    fn step(&self, state: &Self::State, op: &Self::Op, ret: Option<&Self::Ret>) -> Option<Self::State> {
        let changing = |next: Self::State, changed: bool| match ret {
            None | Some(SetRet::Done) => Some(next),
            Some(SetRet::Changed(told)) => (*told == changed).then_some(next),
            Some(_) => None,
        };
        let mut next = state.clone();
        match (op, ret) {
            (SetOp::Add(element), _) => {
                let changed = next.insert(element.clone());
                changing(next, changed)
            }
            (SetOp::Remove(element), _) => {
                let changed = next.remove(element);
                changing(next, changed)
            }
            (SetOp::Contains(_) | SetOp::Members, None) => Some(next),
            (SetOp::Contains(element), Some(SetRet::Found(told))) => (*told == state.contains(element)).then_some(next),
            (SetOp::Members, Some(SetRet::Elements(seen))) => (seen == state).then_some(next),
            _ => None,
        }
    }

    fn is_read(&self, op: &Self::Op, ret: &Self::Ret) -> bool {
        matches!((op, ret), (SetOp::Contains(_) | SetOp::Members, _) | (_, SetRet::Changed(false)))
    }

    fn partition(&self, op: &Self::Op) -> Option<String> {
        match op {
            SetOp::Add(element) | SetOp::Remove(element) | SetOp::Contains(element) => Some(format!("{element:?}")),
            SetOp::Members => None,
        }
    }
}

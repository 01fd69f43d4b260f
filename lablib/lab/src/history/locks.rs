//! Models of locks, and of what a lock protects.
//!
//! A refusal here means "someone else has it". A lock that may refuse for no reason records such refusals as failed.

use serde::{Deserialize, Serialize};

use super::models::Model;

/// What a lock can be asked; the number is the owner, who need not be the process that calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LockOp {
    /// Takes the lock for this owner.
    Acquire(u64),
    /// Gives it back.
    Release(u64),
}

/// What a lock answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LockRet {
    /// It was taken or given back.
    Done,
    /// An acquire found it held; a release came from someone who does not hold it.
    Refused,
}

/// Mutual exclusion, not re-entrant: the claim that a lease which expires cannot keep.
#[derive(Debug, Clone, Default)]
pub struct Mutex;

impl Model for Mutex {
    type Op = LockOp;
    type Ret = LockRet;
    type State = Option<u64>;

    fn initial(&self) -> Option<u64> {
        None
    }

    fn step(&self, holder: &Option<u64>, op: &LockOp, ret: Option<&LockRet>) -> Option<Option<u64>> {
        let (possible, next) = match op {
            LockOp::Acquire(owner) => (holder.is_none(), Some(*owner)),
            LockOp::Release(owner) => (*holder == Some(*owner), None),
        };
        let done = ret.map_or(possible, |ret| *ret == LockRet::Done);
        (done == possible).then_some(if done { next } else { *holder })
    }

    fn is_read(&self, _op: &LockOp, ret: &LockRet) -> bool {
        *ret == LockRet::Refused
    }
}

/// What a lock with fencing tokens can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FencedLockOp {
    /// Takes the lock for this owner.
    Acquire(u64),
    /// Gives back the lock that came with this token.
    Release(u64),
}

/// What a lock with fencing tokens answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FencedLockRet {
    /// The lock, with its token.
    Granted(u64),
    /// The lock was given back.
    Released,
    /// An acquire found it held; a release came with a token that holds nothing.
    Refused,
}

/// What a fenced lock remembers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FencedState {
    held: bool,
    newest_token: Option<u64>,
}

/// A lock whose every grant carries a larger token than all grants before.
#[derive(Debug, Clone)]
pub struct FencedLock {
    leases: bool,
}

impl FencedLock {
    /// One holder at a time, and growing tokens.
    pub fn exclusive() -> Self {
        Self { leases: false }
    }

    /// A grant may expire at any moment, so holders may overlap; the tokens must grow all the same.
    pub fn with_leases() -> Self {
        Self { leases: true }
    }
}

impl Model for FencedLock {
    type Op = FencedLockOp;
    type Ret = FencedLockRet;
    type State = FencedState;

    fn initial(&self) -> FencedState {
        FencedState { held: false, newest_token: None }
    }

    fn step(&self, state: &FencedState, op: &FencedLockOp, ret: Option<&FencedLockRet>) -> Option<FencedState> {
        let holds = |token: &u64| state.held && state.newest_token == Some(*token);
        let released = FencedState { held: false, ..state.clone() };
        match (op, ret) {
            (FencedLockOp::Acquire(_), Some(FencedLockRet::Granted(token))) => {
                let grows = state.newest_token.is_none_or(|newest| newest < *token);
                let free = self.leases || !state.held;
                (grows && free).then_some(FencedState { held: true, newest_token: Some(*token) })
            }
            (FencedLockOp::Acquire(_), Some(FencedLockRet::Refused)) => state.held.then(|| state.clone()),
            // Nobody saw the token; the smallest possible one leaves the most room for those that were seen.
            (FencedLockOp::Acquire(_), None) => {
                let token = state.newest_token.map_or(Some(0), |newest| newest.checked_add(1))?;
                (self.leases || !state.held).then_some(FencedState { held: true, newest_token: Some(token) })
            }
            (FencedLockOp::Release(token), Some(FencedLockRet::Released)) => holds(token).then_some(released),
            // With leases the grant may have expired before, so a refusal is always possible.
            (FencedLockOp::Release(token), Some(FencedLockRet::Refused)) => {
                (self.leases || !holds(token)).then(|| state.clone())
            }
            (FencedLockOp::Release(token), None) => Some(if holds(token) { released } else { state.clone() }),
            _ => None,
        }
    }

    fn is_read(&self, _op: &FencedLockOp, ret: &FencedLockRet) -> bool {
        *ret == FencedLockRet::Refused
    }
}

/// A use of the protected resource, with the token that came with the lock.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FencedWrite {
    /// The token.
    pub token: u64,
}

/// What the protected resource answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FencedWriteRet {
    /// No newer token had been here.
    Accepted,
    /// A newer token had been here.
    Stale,
}

/// The resource behind a fenced lock: accepts a token unless it has accepted a newer one.
#[derive(Debug, Clone, Default)]
pub struct FencedResource;

impl Model for FencedResource {
    type Op = FencedWrite;
    type Ret = FencedWriteRet;
    type State = Option<u64>;

    fn initial(&self) -> Option<u64> {
        None
    }

    fn step(&self, newest: &Option<u64>, write: &FencedWrite, ret: Option<&FencedWriteRet>) -> Option<Option<u64>> {
        let fresh = newest.is_none_or(|newest| newest <= write.token);
        let accepted = ret.map_or(fresh, |ret| *ret == FencedWriteRet::Accepted);
        (accepted == fresh).then_some(if fresh { Some(write.token) } else { *newest })
    }

    fn is_read(&self, _write: &FencedWrite, ret: &FencedWriteRet) -> bool {
        *ret == FencedWriteRet::Stale
    }
}

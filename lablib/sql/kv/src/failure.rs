//! How an operation fails: refused, or in doubt.

use std::fmt;

use lab::{Error, Result};

/// What an operation of the store answers.
pub type Answer<T> = Result<T, Failure>;

/// An operation that was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    error: Error,
    in_doubt: bool,
}

impl Failure {
    /// It certainly did not happen.
    pub(super) fn refused(error: Error) -> Self {
        Self { error, in_doubt: false }
    }

    /// The connection broke while a write was under way. It may be under way still: a server that has the statement does not
    /// hear that nobody waits for it. What comes late overwrites what was put meanwhile; a compare-and-set does not, because what
    /// it expects is gone.
    pub(super) fn in_doubt(error: Error) -> Self {
        Self {
            error: error.remedy("it may have happened, or still happen: read before you write again"),
            in_doubt: true,
        }
    }

    /// Whether it may have taken effect, or may still do so. If not, it certainly has not.
    pub fn may_have_happened(&self) -> bool {
        self.in_doubt
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Failure {}

//! Why there was no connection.

use std::fmt;
use std::time::Duration;

use lab::readable;

/// Why there was no connection; each in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolError<E> {
    /// None came free, or none could be dialled, within the time that the borrower had.
    Timeout {
        /// How long it waited.
        waited: Duration,
        /// The stage at which the borrower's time was over.
        stage: Stage,
        /// The pool's size.
        size: usize,
    },
    /// The pool takes no more borrowers.
    Closed,
    /// The server refused, or could not be reached.
    Connect(E),
    /// Dialling took longer than it may.
    Unanswered(Duration),
    /// Somebody else could not reach the server just now, so nobody tries for a moment.
    Down {
        /// How long ago that was.
        ago: Duration,
        /// What happened to them.
        cause: String,
    },
}

/// What a borrower was waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// For others to give a connection back.
    Queue,
    /// For the server.
    Server,
}

impl<E: fmt::Display> fmt::Display for PoolError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { waited, stage: Stage::Queue, size } => {
                write!(f, "no connection of {size} came free within {}", readable(*waited))
            }
            Self::Timeout { waited, stage: Stage::Server, .. } => {
                write!(f, "the server did not answer in what was left of {}", readable(*waited))
            }
            Self::Closed => write!(f, "the pool is closed"),
            Self::Connect(error) => write!(f, "dialling failed: {error}"),
            Self::Unanswered(after) => write!(f, "dialling was not answered within {}", readable(*after)),
            Self::Down { ago, cause } => {
                write!(f, "the server could not be reached {} ago ({cause})", readable(*ago))
            }
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for PoolError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect(error) => Some(error),
            _ => None,
        }
    }
}

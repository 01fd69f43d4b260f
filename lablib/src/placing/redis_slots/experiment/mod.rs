//! What the notebook does with a cluster: each step of it in a file of its own.

mod failover;
mod hot_key;
mod moving;
mod staleness;
mod traffic;

pub use failover::*;
pub use hot_key::*;
pub use moving::*;
pub use staleness::*;
pub use traffic::*;

use crate::lab::{Error, Result};

/// The thread's result, or that it panicked.
fn joined<T>(what: &str, result: std::thread::Result<Result<T>>) -> Result<T> {
    result.unwrap_or_else(|_| Err(Error::new(what, "its thread panicked")))
}

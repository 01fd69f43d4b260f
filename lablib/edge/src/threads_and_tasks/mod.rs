//! A thread of the operating system against a task of tokio: what one costs, how many there can be, and what stops them.
//!
//! - **Said before**: each limit on threads is read from the kernel, with what is in use of it; the smallest is the prediction.
//! - **Hit on purpose, safely**: in a process of its own, which ends with its owner; a limit is lowered for that process alone,
//!   and the machine's own limits are approached only where others keep a margin.
//! - **Counted by the kernel**: address space, resident memory, mappings and kernel stacks are the kernel's figures.
//! - **Equal work**: both kinds are as many, pass the same number of tokens, on one processor.

pub mod experiment;
mod limits;
mod relay;
mod spawned;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use experiment::{
    Group, Limits, limits_on_threads, overcommit, reach_machine_limit, reach_user_limit, relay, spawn, spawn_in_turns,
    switches,
};
pub use relay::{RelaySpec, Relayed};
pub use spawned::{SpawnSpec, Spawned};

/// What runs at the same time as others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A thread of the operating system, with a stack.
    Thread,
    /// A task of tokio, on a runtime with one thread.
    Task,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Thread => "threads",
            Self::Task => "tasks",
        })
    }
}

//! The atomics and locks of code that is model-checked: the standard library's here, loom's in the crate `lablib-models`, which
//! compiles the same files.

pub use std::sync::atomic;
pub use std::sync::{Arc, Mutex, MutexGuard};

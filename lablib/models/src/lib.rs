//! Model checks: loom runs lablib's cores through every interleaving that their memory orderings allow.
//!
//! The files are lablib's own. They take their atomics and locks from `crate::lab::sync`, which is the standard library's there
//! and loom's here. A crate of its own, because loom as a feature of lablib would switch features of crates below polars, and
//! compile all of it a second time; this compiles in seconds.
//!
//! `cargo test --release -p lablib-models`

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a model that panics has failed, as it should")]

#[cfg(test)]
mod permits;
#[cfg(test)]
mod slots;

/// What stands in lablib's place of the same name.
pub mod lab {
    /// loom's primitives, under the names that `lablib::lab::sync` gives to the standard library's.
    pub mod sync {
        pub use loom::sync::atomic;
        pub use loom::sync::{Arc, Mutex, MutexGuard};
    }
}

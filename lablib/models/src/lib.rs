//! Model checks: loom runs lablib's cores through every interleaving that their memory orderings allow.
//!
//! The files are the rooms' own. They take their atomics and locks from `lab::sync`, which is the standard library's there and
//! loom's here: this crate calls itself `lab`. It is a crate of its own, because loom as a feature of theirs would switch features
//! of crates below polars, and compile all of it a second time; this compiles in seconds.
//!
//! `cargo test --release -p lablib-models`

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a model that panics has failed, as it should")]

#[cfg(test)]
mod permits;
#[cfg(test)]
mod slots;

extern crate self as lab;

/// loom's primitives, under the names that the workbench gives to the standard library's.
pub mod sync {
    pub use loom::sync::atomic;
    pub use loom::sync::{Arc, Mutex, MutexGuard};
}

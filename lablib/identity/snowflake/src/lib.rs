//! Snowflake ids: unique, sortable, made by many machines that do not ask each other.
//!
//! An id is a number of at most 63 bits: milliseconds since an epoch, the worker that made it, and a sequence
//! ([`Layout`]). [`Snowflake`] makes them, lock-free, on any clock; a [`Registry`] leases workers' numbers from a Redis.
//!
//! - **Rising**: a generator's ids are unique, and each is larger than every one that was made before, from any thread.
//! - **Exactly as many as fit**: a full millisecond makes its callers wait for the next one, and none is skipped.
//! - **No time travel**: an id's timestamp is never ahead of the clock. A clock that steps back makes callers wait, or get
//!   an error where that would take long; so do a clock before the epoch and one after the last timestamp.
//! - **Within the lease**: a lease is an interval of timestamps, and no id lies outside of it, however long its holder was
//!   asleep. The next holder's interval begins where the last one's ended or later.
//! - **No lease from ignorance**: a Redis that may have forgotten leases grants none before all of them are over. This alone
//!   leans on a clock: on Redis's own, which may be off by [`max_skew`](Terms::max_skew). A disk that is trusted forgets
//!   nothing, and then it leans on none.

pub mod experiment;
mod generator;
mod layout;
mod lease;
mod picture;
mod process;
pub mod prototype;
mod registry;
pub mod rivals;
mod slots;

pub use generator::{SMALL_STEP, Snowflake};
pub use layout::{ID_BITS, Layout, Moment, Parts};
pub use lease::Lease;
pub use process::id_worker_process;
pub use registry::{Interval, Registry, Skip, Terms};

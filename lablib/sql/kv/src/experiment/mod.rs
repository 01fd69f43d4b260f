//! What is measured of the store: the prototypes' faults, where keys live, what clients at once see, expiry, layouts, and a
//! server that is lost.

#![allow(missing_docs, reason = "a field is documented where its name leaves something open")]

mod expiry;
mod faults;
mod killed;
mod layouts;
mod linear;
mod routing;

pub use crate::rivals::Layout;
pub use expiry::{CleaningSpec, Clearing, Clears, Putting, cleaning, punctual};
pub use faults::faults;
pub use killed::survives;
pub use layouts::{Measures, Operation, layouts, redis_benchmark};
pub use linear::{ConcurrentSpec, concurrent, found_out};
pub use routing::{moved, restarted, shares};

use lab::Result;
use lab::service::MariaDb;

/// As many databases on a server, each to be a shard of a store: their URLs.
pub fn databases(server: &MariaDb, count: usize) -> Result<Vec<String>> {
    let make = |_| -> Result<String> {
        let name = format!("kv_{:012x}", rand::random::<u64>() >> 16);
        server.try_execute(&format!("CREATE DATABASE {name}"))?;
        let (before, _) = server.url().rsplit_once('/').unwrap_or((server.url(), ""));
        Ok(format!("{before}/{name}"))
    };
    (0..count).map(make).collect()
}

//! What is played and measured: the seed's three cases, the matrix of anomalies, who waits for whom, and what it costs.

#![allow(missing_docs, reason = "a field is documented where its name leaves something open")]

mod compatibility;
mod contention;
mod gaps;
mod matrix;
mod random;
mod timeouts;
mod transfers;

pub use crate::prototype::{autocommitted_select, deadlock, no_wait, plain_select, play, sharing_select, victims};
pub use compatibility::{compatibility, surprises};
pub use contention::{ContentionSpec, Point, Way, contention};
pub use gaps::{gap_deadlock, gap_waits, gaps};
pub use matrix::{draw_matrix, matrix};
pub use random::random_histories;
pub use timeouts::{skip_locked, timeouts};
pub use transfers::transfers;

use lab::Result;
use lab::service::MariaDb;

/// A table with these columns and rows, made anew.
fn make_table(server: &MariaDb, name: &str, columns: &str, rows: impl IntoIterator<Item = String>) -> Result<()> {
    server.try_execute(&format!("DROP TABLE IF EXISTS {name}"))?;
    server.try_execute(&format!("CREATE TABLE {name} ({columns}) ENGINE = InnoDB"))?;
    let rows: Vec<String> = rows.into_iter().collect();
    if rows.is_empty() { Ok(()) } else { server.try_execute(&format!("INSERT INTO {name} VALUES {}", rows.join(", "))) }
}

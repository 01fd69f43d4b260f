//! What each way costs when all do the same work with the same number of clients.

use super::{Batch, in_turns};
use crate::Way;
use lab::service::MariaDb;
use lab::{Result, Trial};

/// A race of all ways.
#[derive(Debug, Clone, Copy)]
pub struct PriceSpec {
    /// Rows of each table at first.
    pub rows: u64,
    /// Contacts that are put in each round, about half of them known.
    pub puts: u64,
    /// Rounds that count; one more warms up.
    pub rounds: usize,
    /// Clients, each with a connection.
    pub clients: usize,
    /// Contacts in a call of the ways that take many.
    pub batch: usize,
    /// Whether the tables have secondary indexes.
    pub indexes: bool,
    /// Where the random numbers begin.
    pub seed: u64,
}

/// Measures all ways in turns: in each round each way puts the same contacts into a table of its own. Figures: `took`; for each
/// contact, `commits`, `binary log`, rows `written`, `updated` and `deleted`, and what else the server counts; `deadlocks`; and what is
/// `wrong`.
pub fn prices(server: &MariaDb, spec: PriceSpec) -> Result<Trial<Batch>> {
    in_turns(server, &Way::ALL.map(|way| Batch::of(way, spec.batch)), spec, "seven ways to put a contact")
}

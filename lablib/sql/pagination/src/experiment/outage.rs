//! A server that is killed while somebody pages.

use std::collections::BTreeSet;

use super::people::{Order, people};
use crate::{Pager, Signer};
use lab::Result;
use lab::service::MariaDb;

/// What a reader saw of it.
#[derive(Debug, Clone, Default)]
pub struct Outage {
    pub rows: u64,
    /// Rows seen before the kill, and after the restart.
    pub seen: (u64, u64),
    /// Rows seen more than once.
    pub twice: u64,
    pub missed: u64,
    /// Pages asked for while the server was down, and how many of them were answered with an error.
    pub asked: (u64, u64),
    /// What the error said.
    pub error: String,
}

/// Reads half of a table, kills the server, asks on, restarts it, and goes on with the very same cursor.
pub fn outage(server: &MariaDb, rows: u64, page_size: u64, seed: u64) -> Result<Outage> {
    let people = people(server, rows, seed)?;
    let query = people.query(Order::AgeNewest).page_size(page_size);
    let mut pager = Pager::open(server, &query, &Signer::random())?;
    let mut found = Outage { rows, ..Outage::default() };
    let (mut seen, mut cursor, mut killed) = (BTreeSet::new(), None, false);
    loop {
        let page = pager.page(cursor.as_ref())?;
        for row in &page.rows {
            found.twice += u64::from(!seen.insert(row.first().and_then(|id| id.as_int())));
        }
        let part = if killed { &mut found.seen.1 } else { &mut found.seen.0 };
        *part += page.rows.len() as u64;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
        if !killed && seen.len() as u64 >= rows / 2 {
            killed = true;
            server.try_kill()?;
            for _ in 0..3 {
                found.asked.0 += 1;
                if let Err(error) = pager.page(cursor.as_ref()) {
                    found.asked.1 += 1;
                    found.error = error.to_string();
                }
            }
            server.try_restart()?;
        }
    }
    found.missed = rows - (seen.len() as u64).min(rows);
    Ok(found)
}

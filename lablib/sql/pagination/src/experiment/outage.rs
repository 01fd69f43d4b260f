//! A server that is killed while somebody pages.

use std::collections::BTreeSet;

use super::people::{Order, id, people};
use crate::{Pager, Signer};
use lab::service::MariaDb;
use lab::{Frame, Result};

/// Reads half of a table, kills the server, asks on, restarts it, and goes on with the very same cursor. What a reader saw of it, in one
/// row: rows seen `before` the kill and `after` the restart, seen `twice` or more, and `missed`; pages `asked` for while the server was
/// down, how many of them were `refused`, and what the last refusal said (`because`).
pub fn outage(server: &MariaDb, rows: u64, page_size: u64, seed: u64) -> Result<Frame> {
    let people = people(server, rows, seed)?;
    let query = people.query(Order::AgeNewest).page_size(page_size);
    let mut pager = Pager::open(server, &query, &Signer::random())?;
    let (mut seen, mut cursor, mut before) = (BTreeSet::new(), None, None);
    let (mut read, mut asked, mut refused, mut because) = (0, 0, 0, String::new());
    loop {
        let page = pager.page(cursor.as_ref())?;
        read += page.rows.len() as u64;
        seen.extend(page.rows.iter().map(id));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
        if before.is_none() && seen.len() as u64 >= rows / 2 {
            before = Some(read);
            server.try_kill()?;
            for _ in 0..3 {
                asked += 1;
                if let Err(error) = pager.page(cursor.as_ref()) {
                    (refused, because) = (refused + 1, error.to_string());
                }
            }
            server.try_restart()?;
        }
    }
    let (before, seen) = (before.unwrap_or(read), seen.len() as u64);
    let counts = [
        ("before", before),
        ("after", read - before),
        ("twice", read - seen),
        ("missed", rows.saturating_sub(seen)),
        ("asked", asked),
        ("refused", refused),
    ];
    let counted = counts.into_iter().fold(Frame::new(), |row, (name, count)| row.counts(name, "", [count]));
    Ok(counted.text("because", [because]))
}

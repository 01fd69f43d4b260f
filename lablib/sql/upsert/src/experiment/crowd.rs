//! Many clients, few contacts: what is lost when they meet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Barrier};

use super::{PATIENCE, contact, contacts, writers};
use crate::{Contact, Done, Event, Extras, Row, Table, Way, Writer};
use lab::service::MariaDb;
use lab::{Crowd, Frame, Progress, Result, Rng};

/// Lets `clients` put `puts` contacts each, all from the same few, into a table for each way; none of them is known at first. A row for
/// each `way`: puts that were `acknowledged` and `refused`, and `deadlocks`, after which one was tried again; changes that were
/// acknowledged and that their row has not counted (`lost`), and those that it has counted twice, or that nobody was told of, one by one
/// (`extra`); contacts with more or fewer rows than one (`doubled`); and whether it `keeps the row` (1).
pub fn crowd(server: &MariaDb, clients: usize, few: u64, puts: u64, seed: u64) -> Result<Frame> {
    let mut progress = Progress::new("clients meet", Way::ALL.len() as u64);
    let put_by = |way: Way| {
        let table = Table::create(server, way.slug(), Extras { triggers: true, ..Extras::default() })?;
        let rng = |client: usize| Rng::seeded(seed, &format!("client {client}"));
        let clients = writers(server, &table, way, clients)?.into_iter().enumerate();
        let clients = clients.map(|(client, writer)| (writer, rng(client), Done::default(), Vec::new()));
        let ran =
            Crowd::holding(clients).times(puts).within(PATIENCE).run(|(writer, rng, done, acknowledged), call| {
                // No two changes have the same phone: it says which change a row shows.
                let put = contact(rng.below(few), call.client() as u64 * puts + call.number())?;
                let one = writer.put(std::slice::from_ref(&put))?;
                acknowledged.extend((one.put > 0).then_some(put));
                *done += one;
                Ok(())
            })?;
        let (rows, events) = (table.rows(server)?, table.events(server)?);
        let done: Done = ran.states.iter().map(|(_, _, done, _)| *done).sum();
        let acknowledged: Vec<Contact> = ran.states.into_iter().flat_map(|(.., acknowledged)| acknowledged).collect();
        table.drop(server)?;
        progress.step();
        let (lost, extra) = audit(&acknowledged, &events, &rows);
        // Who is drawn by nobody is nobody's contact.
        let known: BTreeSet<&str> = acknowledged.iter().map(Contact::email).collect();
        let counted = [
            ("acknowledged", done.put),
            ("refused", done.refused),
            ("deadlocks", done.deadlocks),
            ("lost", lost),
            ("extra", extra),
            ("doubled", known.len().abs_diff(rows.len()) as u64),
            ("keeps the row", u64::from(way.keeps_the_row())),
        ];
        let row = Frame::new().text("way", [way]);
        Ok(counted.into_iter().fold(row, |row, (name, count)| row.counts(name, "", [count])))
    };
    Way::ALL.into_iter().map(put_by).collect()
}

/// Changes that are lost, and changes that were counted for nobody, change by change: the two never make up for each other.
///
/// Each change that was acknowledged must have been written once, and must have raised its row's count by one; and the row
/// must stand where its last change has left it.
fn audit(acknowledged: &[Contact], events: &[Event], rows: &[Row]) -> (u64, u64) {
    let (mut lost, mut extra) = (0, 0);
    let mut count = |more: u64, than: u64| {
        lost += than.saturating_sub(more);
        extra += more.saturating_sub(than);
    };
    let mut written: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut stands: BTreeMap<&str, u64> = BTreeMap::new();
    for event in events.iter().filter(|event| event.what != "DELETE") {
        *written.entry((&event.email, &event.phone)).or_default() += 1;
        let before = stands.insert(&event.email, event.changes).unwrap_or(0);
        count(event.changes, before + 1);
    }
    for put in acknowledged {
        count(written.remove(&(put.email(), put.phone())).unwrap_or(0), 1);
    }
    written.values().for_each(|&times| count(times, 0));
    for row in rows {
        count(row.changes, stands.remove(row.contact.email()).unwrap_or(0));
    }
    stands.values().for_each(|&changes| count(0, changes));
    (lost, extra)
}

/// Two clients look a contact up at the same time and then write, as [`Way::SelectThenWrite`] allows: first one that is new,
/// then one that is known. How many of the two puts of a new contact were refused, and what the row of the known one has counted after two
/// more changes: 3 where none is lost.
pub fn meeting(server: &MariaDb) -> Result<(u64, u64)> {
    let table = Table::create(server, "meeting", Extras::default())?;
    table.load(server, &contacts(1)?)?;
    let barrier = Arc::new(Barrier::new(2));
    let put = |number: u64| -> Result<Done> {
        let writer = || Writer::new(server, &table, Way::SelectThenWrite);
        let writers = [writer()?.meeting(barrier.clone()), writer()?.meeting(barrier.clone())];
        let ran = Crowd::holding(writers.map(|writer| (writer, Done::default()))).run(|(writer, done), call| {
            *done = writer.put(&[contact(number, 1 + call.client() as u64)?])?;
            Ok(())
        })?;
        Ok(ran.states.into_iter().map(|(_, done)| done).sum())
    };
    let refused = put(1)?.refused;
    put(0)?;
    let known = contact(0, 0)?;
    let counted = table.rows(server)?.iter().find(|row| row.contact.email() == known.email()).map(|row| row.changes);
    table.drop(server)?;
    Ok((refused, counted.unwrap_or(0)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn put(number: u64, version: u64) -> Contact {
        contact(number, version).unwrap()
    }

    /// What the triggers and the table say when these were written, with these counts.
    fn audited(acknowledged: &[Contact], written: &[(Contact, u64)]) -> (u64, u64) {
        let event = |(contact, changes): &(Contact, u64)| Event {
            what: if *changes == 1 { "INSERT".into() } else { "UPDATE".into() },
            email: contact.email().into(),
            phone: contact.phone().into(),
            changes: *changes,
        };
        let events: Vec<Event> = written.iter().map(event).collect();
        let row = |(contact, changes): &(Contact, u64)| Row {
            id: 1,
            contact: contact.clone(),
            note: String::new(),
            changes: *changes,
            orders: 0,
        };
        let last: BTreeMap<&str, Row> = written.iter().map(|one| (one.0.email(), row(one))).collect();
        audit(acknowledged, &events, &last.into_values().collect::<Vec<_>>())
    }

    #[test]
    fn a_change_that_is_lost_and_one_that_counts_twice_are_two_faults() {
        let (a, b, c) = (put(0, 1), put(0, 2), put(1, 3));
        let all = [a.clone(), b.clone(), c.clone()];
        assert_eq!(audited(&all, &[(a.clone(), 1), (b.clone(), 2), (c.clone(), 1)]), (0, 0));
        // B has written over A's count.
        assert_eq!(audited(&all, &[(a.clone(), 1), (b.clone(), 1), (c.clone(), 1)]), (1, 0));
        // … and C has counted twice: three were acknowledged, and the rows have counted three.
        assert_eq!(audited(&all, &[(a.clone(), 1), (b.clone(), 1), (c.clone(), 2)]), (1, 1));
        // A was written twice, which raised the count of its row by two; B not at all.
        assert_eq!(audited(&all, &[(a.clone(), 1), (a.clone(), 2), (c.clone(), 1)]), (1, 1));
        // Nobody was told of C.
        assert_eq!(audited(&all[..2], &[(a.clone(), 1), (b.clone(), 2), (c.clone(), 1)]), (0, 1));
        // A row that is gone has lost all that it had counted.
        let events = [Event { what: "INSERT".into(), email: c.email().into(), phone: c.phone().into(), changes: 1 }];
        assert_eq!(audit(&[c], &events, &[]), (1, 0));
    }
}

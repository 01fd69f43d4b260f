//! What each way does to a row that is already there.

use mysql::prelude::Queryable;

use super::{contact, contacts, counted};
use crate::{Extras, OnDelete, Table, Way, Writer};
use lab::service::MariaDb;
use lab::{self, Doing, Error, Result};

/// What one way did to the same rows with the same contacts as the others.
#[derive(Debug, Clone)]
pub struct Meaning {
    pub way: Way,
    /// Known contacts whose row has another number now.
    pub renumbered: u64,
    /// Known contacts whose note, which nobody mentioned, is gone.
    pub notes_lost: u64,
    /// Known contacts whose count of changes is not one more than before.
    pub miscounted: u64,
    pub orders_lost: u64,
    /// Contacts that have not the phone that was put, or are there twice, or not at all.
    pub wrong: u64,
    /// How often a trigger fired for an insert, an update and a delete.
    pub fired: [u64; 3],
    /// Numbers that were used up for each row that was new.
    pub numbers: f64,
    /// Rows of the table that the storage engine deleted; what cascades is not counted.
    pub deleted: u64,
}

impl Meaning {
    /// Whatever a put should have left alone.
    pub fn harm(&self) -> u64 {
        self.renumbered + self.notes_lost + self.miscounted + self.orders_lost + self.wrong
    }
}

/// All of them, with what happened to the rows and which triggers fired.
pub fn meaning_table(all: &[Meaning]) -> lab::Table {
    let counts = |of: fn(&Meaning) -> u64| all.iter().map(of);
    lab::Table::new("What else happened to the known contacts, and what fired for all")
        .text("", all.iter().map(|meaning| meaning.way.to_string()))
        .counts("new id", "", counts(|meaning| meaning.renumbered))
        .counts("note lost", "", counts(|meaning| meaning.notes_lost))
        .counts("miscounted", "", counts(|meaning| meaning.miscounted))
        .counts("orders gone", "", counts(|meaning| meaning.orders_lost))
        .counts("on INSERT", "", counts(|meaning| meaning.fired[0]))
        .counts("UPDATE", "", counts(|meaning| meaning.fired[1]))
        .counts("DELETE", "", counts(|meaning| meaning.fired[2]))
}

/// Puts as many known as new contacts, one client, into a table that has orders and triggers; each way into one of its own.
pub fn meaning(server: &MariaDb, known: u64) -> Result<Vec<Meaning>> {
    let run = |way: Way| -> Result<Meaning> {
        if known == 0 {
            return Err(Error::new("look at what the ways do", "there are no contacts"));
        }
        let extras = Extras { indexes: true, orders: Some(OnDelete::Cascade), triggers: true };
        let table = Table::create(server, way.slug(), extras)?;
        table.load(server, &contacts(known)?)?;
        let (before, first_number) = (table.rows(server)?, table.next_id(server)?);
        let work = (0..2 * known).map(|number| contact(number, 1)).collect::<Result<Vec<_>>>()?;
        let mut writer = Writer::new(server, &table, way)?;
        let (_, counters) = counted(server, || writer.put(&work))?;
        let after = table.rows(server)?;
        let events = table.events(server)?;
        let fired = |what: &str| events.iter().filter(|event| event.what == what).count() as u64;
        let mut meaning = Meaning {
            way,
            renumbered: 0,
            notes_lost: 0,
            miscounted: 0,
            orders_lost: 0,
            wrong: after.len().abs_diff(work.len()) as u64,
            fired: ["INSERT", "UPDATE", "DELETE"].map(fired),
            numbers: (table.next_id(server)? - first_number) as f64 / known as f64,
            deleted: counters.get("Handler_delete")? as u64,
        };
        for put in &work {
            let old = before.iter().find(|row| row.contact.email() == put.email());
            let Some(new) = after.iter().find(|row| row.contact == *put) else {
                meaning.wrong += 1;
                continue;
            };
            meaning.miscounted += u64::from(new.changes != old.map_or(0, |old| old.changes) + 1);
            if let Some(old) = old {
                meaning.renumbered += u64::from(new.id != old.id);
                meaning.notes_lost += u64::from(new.note != old.note);
                meaning.orders_lost += old.orders.abs_diff(new.orders);
            }
        }
        table.drop(server)?;
        Ok(meaning)
    };
    Way::ALL.into_iter().map(run).collect()
}

/// What one way was answered for a known contact with an order that does not let it go.
#[derive(Debug, Clone)]
pub struct Held {
    pub way: Way,
    /// What the server refused it with, if it did.
    pub refused: Option<String>,
    /// Whether the contact's row is, in the end, what it was before, apart from what the way was to change.
    pub kept: bool,
}

/// Puts a known contact by each way, where orders refer to it with `ON DELETE RESTRICT`.
pub fn restricted(server: &MariaDb) -> Result<Vec<Held>> {
    let run = |way: Way| -> Result<Held> {
        let extras = Extras { orders: Some(OnDelete::Restrict), ..Extras::default() };
        let table = Table::create(server, way.slug(), extras)?;
        table.load(server, &contacts(1)?)?;
        let before = table.rows(server)?;
        let put = Writer::new(server, &table, way)?.put(&[contact(0, 1)?]);
        let after = table.rows(server)?;
        table.drop(server)?;
        let mut should = before;
        if put.is_ok() {
            should.iter_mut().try_for_each(|row| {
                (row.contact, row.changes) = (contact(0, 1)?, row.changes + 1);
                Ok::<(), Error>(())
            })?;
        }
        Ok(Held { way, refused: put.err().map(|error| error.to_string()), kept: after == should })
    };
    Way::ALL.into_iter().map(run).collect()
}

/// What a server does with a name that does not fit, told in two ways.
#[derive(Debug, Clone)]
pub struct Cut {
    pub statement: String,
    /// What the server answered: an error, or how many rows.
    pub answer: String,
    /// Characters of the name that are in the table now.
    pub stored: u64,
}

/// Sends a name of 80 characters to a column of 64, by an `INSERT` and by an `INSERT IGNORE`.
pub fn too_long(server: &MariaDb) -> Result<Vec<Cut>> {
    let run = |statement: &str| -> Result<Cut> {
        let table = Table::create(server, "cut", Extras::default())?;
        let mut connection = server.connect()?;
        let name = "x".repeat(80);
        let sql = format!("{statement} INTO cut (email, name, phone) VALUES ('somebody', '{name}', '')");
        let answer = match connection.query_drop(sql) {
            Ok(()) => format!("{} row inserted", connection.affected_rows()),
            Err(mysql::Error::MySqlError(error)) => format!("error {}: {}", error.code, error.message),
            Err(error) => return Err(error).doing("send a name that is too long"),
        };
        let stored: Option<u64> =
            connection.query_first("SELECT CHAR_LENGTH(name) FROM cut").doing("read what was stored")?;
        table.drop(server)?;
        Ok(Cut { statement: statement.into(), answer, stored: stored.unwrap_or(0) })
    };
    ["INSERT", "INSERT IGNORE"].into_iter().map(run).collect()
}

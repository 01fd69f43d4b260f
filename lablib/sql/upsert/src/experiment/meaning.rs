//! What each way does to a row that is already there.

use mysql::prelude::Queryable;

use super::{contact, contacts, counted};
use crate::{Extras, OnDelete, Table, Way, Writer};
use lab::service::MariaDb;
use lab::{Doing, Error, Frame, Result};

/// Puts as many known as new contacts, one client, into a table that has orders and triggers; each way into one of its own. A row for each
/// `way`. Of the known contacts: those whose row has another number now (`renumbered`), whose note, which nobody mentioned, is gone (`note
/// lost`), and whose count of changes is not one more than before (`miscounted`); `orders lost`. Of all: contacts that have not the phone
/// that was put, or are there twice, or not at all (`wrong`); and the sum of these, whatever a put should have left alone (`harm`). How
/// often a trigger fired `on INSERT`, `on UPDATE` and `on DELETE`; the `numbers` used up for each row that was new; and rows that the
/// storage engine `deleted`, where what cascades is not counted.
pub fn meaning(server: &MariaDb, known: u64) -> Result<Frame> {
    if known == 0 {
        return Err(Error::new("look at what the ways do", "there are no contacts"));
    }
    let run = |way: Way| -> Result<Frame> {
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
        let (mut renumbered, mut notes, mut miscounted, mut orders) = (0, 0, 0, 0);
        let mut wrong = after.len().abs_diff(work.len()) as u64;
        for put in &work {
            let old = before.iter().find(|row| row.contact.email() == put.email());
            let Some(new) = after.iter().find(|row| row.contact == *put) else {
                wrong += 1;
                continue;
            };
            miscounted += u64::from(new.changes != old.map_or(0, |old| old.changes) + 1);
            if let Some(old) = old {
                renumbered += u64::from(new.id != old.id);
                notes += u64::from(new.note != old.note);
                orders += old.orders.abs_diff(new.orders);
            }
        }
        let numbers = (table.next_id(server)? - first_number) as f64 / known as f64;
        table.drop(server)?;
        let counts = [
            ("renumbered", renumbered),
            ("note lost", notes),
            ("miscounted", miscounted),
            ("orders lost", orders),
            ("wrong", wrong),
            ("harm", renumbered + notes + miscounted + orders + wrong),
            ("on INSERT", fired("INSERT")),
            ("on UPDATE", fired("UPDATE")),
            ("on DELETE", fired("DELETE")),
            ("deleted", counters.get("Handler_delete")? as u64),
        ];
        let row = Frame::new().text("way", [way]).numbers("numbers", "", [numbers]);
        Ok(counts.into_iter().fold(row, |row, (name, count)| row.counts(name, "", [count])))
    };
    Way::ALL.into_iter().map(run).collect()
}

/// Puts a known contact by each way, where orders refer to it with `ON DELETE RESTRICT`. A row for each `way`: whether the server
/// `refused` it (1), and what it `said`; and whether the contact's row is, in the end, what it was before, apart from what the way was to
/// change (`kept`, 1).
pub fn restricted(server: &MariaDb) -> Result<Frame> {
    let run = |way: Way| -> Result<Frame> {
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
        Ok(Frame::new()
            .text("way", [way])
            .counts("refused", "", [put.is_err().into()])
            .text("said", [put.err().map_or_else(String::new, |error| error.to_string())])
            .counts("kept", "", [(after == should).into()]))
    };
    Way::ALL.into_iter().map(run).collect()
}

/// Sends a name of 80 characters to a column of 64. A row for each `statement`, `INSERT` and `INSERT IGNORE`: what `the server answers`,
/// and the `characters stored`.
pub fn too_long(server: &MariaDb) -> Result<Frame> {
    let run = |statement: &str| -> Result<Frame> {
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
        Ok(Frame::new().text("statement", [statement]).text("the server answers", [answer]).counts(
            "characters stored",
            "",
            [stored.unwrap_or(0)],
        ))
    };
    ["INSERT", "INSERT IGNORE"].into_iter().map(run).collect()
}

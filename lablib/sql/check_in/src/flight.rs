//! A flight: its seats in a table.

use mysql::prelude::Queryable;

use super::seat::{Layout, Seat};
use lab::service::MariaDb;
use lab::{Doing, Error, Result};

/// Whether the database itself keeps a traveller from having two seats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// A unique key on the traveller of a flight.
    OneSeatEach,
    /// A plain one, as in the prototypes.
    Any,
}

/// A table of seats. Its one flight has the number 1; the key begins with it, as it would with many.
#[derive(Debug, Clone)]
pub struct Flight {
    table: String,
    layout: Layout,
}

impl Flight {
    /// Makes the table anew, every seat free. The name is of up to 40 small letters, digits and underscores.
    pub fn create(server: &MariaDb, name: &str, layout: Layout, rules: Rules) -> Result<Self> {
        let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
        if name.is_empty() || name.len() > 40 || !name.chars().all(plain) {
            let cause = format!("{name:?} is no name of up to 40 small letters, digits and underscores");
            return Err(Error::new("open a flight", cause));
        }
        let flight = Self { table: format!("seats_{name}"), layout };
        let table = &flight.table;
        let unique = if rules == Rules::OneSeatEach { "UNIQUE " } else { "" };
        server.try_execute(&format!("DROP TABLE IF EXISTS {table}"))?;
        server.try_execute(&format!(
            "CREATE TABLE {table} (flight INT UNSIGNED NOT NULL, seat INT UNSIGNED NOT NULL, traveller BIGINT UNSIGNED NULL, \
             PRIMARY KEY (flight, seat), {unique}KEY by_traveller (flight, traveller)) ENGINE = InnoDB"
        ))?;
        let seats: Vec<String> = (1..=layout.seats()).map(|seat| format!("(1, {seat}, NULL)")).collect();
        server.try_execute(&format!("INSERT INTO {table} VALUES {}", seats.join(", ")))?;
        Ok(flight)
    }

    /// Its table.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Its cabin.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Who has which seat.
    pub fn seats(&self, server: &MariaDb) -> Result<Vec<(Seat, Option<u64>)>> {
        let sql = format!("SELECT seat, traveller FROM {} WHERE flight = 1 ORDER BY seat", self.table);
        let rows: Vec<(u32, Option<u64>)> = server.connect()?.query(sql).doing("read the seats")?;
        rows.into_iter().map(|(seat, traveller)| Ok((self.layout.seat(seat)?, traveller))).collect()
    }

    /// Removes the table.
    pub fn drop(&self, server: &MariaDb) -> Result<()> {
        server.try_execute(&format!("DROP TABLE {}", self.table))
    }
}

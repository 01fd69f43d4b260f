//! The table of contacts, with what may hang on it.

use std::time::Duration;

use mysql::prelude::Queryable;

use super::contact::{Contact, LONGEST_TEXT};
use lab::service::MariaDb;
use lab::{Doing, Error, Result};

/// What a statement over a whole table of millions may take on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(1_800);
/// The secondary indexes: their names and columns.
const INDEXES: [(&str, &str); 3] = [("by_name", "name"), ("by_phone", "phone"), ("by_both", "name, phone")];

/// What a table has beside its rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extras {
    /// Three secondary indexes: on the name, on the phone, and on both.
    pub indexes: bool,
    /// Orders that refer to contacts.
    pub orders: Option<OnDelete>,
    /// Triggers that write down each insert, update and delete.
    pub triggers: bool,
}

/// What the server does about an order when somebody deletes the contact that it refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDelete {
    /// The order goes along.
    Cascade,
    /// The contact stays: whoever would delete it is refused.
    Restrict,
}

/// What a trigger wrote down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `INSERT`, `UPDATE` or `DELETE`.
    pub what: String,
    /// Whose row it was.
    pub email: String,
    /// The phone and the count of changes that the row had after it, or before a delete.
    pub phone: String,
    /// See there.
    pub changes: u64,
}

/// A table of contacts on a server.
#[derive(Debug, Clone)]
pub struct Table {
    name: String,
    extras: Extras,
}

/// A contact's row, as it is in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The number that the table gave it.
    pub id: u64,
    /// Who it is, with the name and the phone of now.
    pub contact: Contact,
    /// A column that no put ever mentions.
    pub note: String,
    /// How often it was put, by its own count.
    pub changes: u64,
    /// Orders that refer to it; 0 where the table has none.
    pub orders: u64,
}

impl Table {
    /// Makes an empty table; one of that name, with what hangs on it, is dropped first.
    pub fn create(server: &MariaDb, name: &str, extras: Extras) -> Result<Self> {
        let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
        if name.is_empty() || name.len() > 40 || !name.chars().all(plain) {
            let cause = format!("{name:?} is no name for it");
            return Err(Error::new("make a table of contacts", cause).remedy("take small letters, digits and _"));
        }
        let table = Self { name: name.into(), extras };
        table.drop(server)?;
        let indexes = match extras.indexes {
            true => format!(", {}", INDEXES.map(|(name, columns)| format!("KEY {name} ({columns})")).join(", ")),
            false => String::new(),
        };
        // The address is compared byte for byte: a collation would take "a" for "A", or for "a ".
        let mut statements = vec![format!(
            "CREATE TABLE {name} (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, email VARBINARY(190) NOT NULL, \
             name VARCHAR({LONGEST_TEXT}) NOT NULL, phone VARCHAR({LONGEST_TEXT}) NOT NULL, \
             note VARCHAR({LONGEST_TEXT}) NOT NULL DEFAULT '', changes BIGINT UNSIGNED NOT NULL DEFAULT 1, \
             UNIQUE KEY by_email (email){indexes}) ENGINE = InnoDB CHARACTER SET utf8mb4"
        )];
        if let Some(on_delete) = extras.orders {
            let rule = match on_delete {
                OnDelete::Cascade => "CASCADE",
                OnDelete::Restrict => "RESTRICT",
            };
            statements.push(format!(
                "CREATE TABLE {name}_orders (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, \
                 contact BIGINT UNSIGNED NOT NULL, FOREIGN KEY (contact) REFERENCES {name} (id) ON DELETE {rule}) ENGINE = InnoDB"
            ));
        }
        if extras.triggers {
            statements.push(format!(
                "CREATE TABLE {name}_fired (n BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, event VARCHAR(8) NOT NULL, \
                 email VARBINARY(190) NOT NULL, phone VARCHAR({LONGEST_TEXT}) NOT NULL, changes BIGINT UNSIGNED NOT NULL) \
                 ENGINE = InnoDB CHARACTER SET utf8mb4"
            ));
            for (event, row) in [("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")] {
                statements.push(format!(
                    "CREATE TRIGGER {name}_{event} AFTER {event} ON {name} FOR EACH ROW \
                     INSERT INTO {name}_fired (event, email, phone, changes) \
                     VALUES ('{event}', {row}.email, {row}.phone, {row}.changes)"
                ));
            }
        }
        statements.iter().try_for_each(|statement| server.try_execute(statement))?;
        Ok(table)
    }

    /// Its name on the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Fills an empty table with contacts, each with a note and, where the table has orders, with two of them.
    pub fn load(&self, server: &MariaDb, contacts: &[Contact]) -> Result<()> {
        let doing = || format!("load the table {}", self.name);
        let mut connection = server.connect_within(PATIENCE)?;
        let alter = |changes: [String; 3]| format!("ALTER TABLE {} {}", self.name, changes.join(", "));
        // Row by row, each index would be read and written all over; built afterwards, it is sorted and written once.
        if self.extras.indexes {
            connection.query_drop(alter(INDEXES.map(|(name, _)| format!("DROP KEY {name}")))).doing(doing())?;
        }
        for part in contacts.chunks(1_000) {
            let rows = vec!["(?, ?, ?, 'kept')"; part.len()].join(", ");
            let sql = format!("INSERT INTO {} (email, name, phone, note) VALUES {rows}", self.name);
            let values: Vec<mysql::Value> =
                part.iter().flat_map(|one| [one.email(), one.name(), one.phone()]).map(mysql::Value::from).collect();
            connection.exec_drop(sql, values).doing(doing())?;
        }
        if self.extras.indexes {
            let add = INDEXES.map(|(name, columns)| format!("ADD KEY {name} ({columns})"));
            connection.query_drop(alter(add)).doing(doing())?;
        }
        if self.extras.orders.is_some() {
            let sql = format!("INSERT INTO {0}_orders (contact) SELECT id FROM {0} ORDER BY id", self.name);
            connection.query_drop(&sql).doing(doing())?;
            connection.query_drop(&sql).doing(doing())?;
        }
        if self.extras.triggers {
            connection.query_drop(format!("DELETE FROM {}_fired", self.name)).doing(doing())?;
        }
        Ok(())
    }

    /// Everything in it, in the order of the addresses.
    pub fn rows(&self, server: &MariaDb) -> Result<Vec<Row>> {
        let orders = match self.extras.orders.is_some() {
            true => format!("(SELECT COUNT(*) FROM {}_orders WHERE contact = c.id)", self.name),
            false => "0".into(),
        };
        let sql = format!("SELECT id, email, name, phone, note, changes, {orders} FROM {} c ORDER BY email", self.name);
        type Columns = (u64, Vec<u8>, String, String, String, u64, u64);
        let doing = format!("read the table {}", self.name);
        let rows: Vec<Columns> = server.connect()?.query(sql).doing(doing.as_str())?;
        rows.into_iter()
            .map(|(id, email, name, phone, note, changes, orders)| {
                let email = String::from_utf8(email).doing(doing.as_str())?;
                Ok(Row { id, contact: Contact::new(email, name, phone)?, note, changes, orders })
            })
            .collect()
    }

    /// What the triggers wrote down, in the order of each row's changes; nothing where there are none.
    pub fn events(&self, server: &MariaDb) -> Result<Vec<Event>> {
        if !self.extras.triggers {
            return Ok(Vec::new());
        }
        // A trigger writes while its row is locked, so the numbers of one row's events are in their order.
        let sql = format!("SELECT event, email, phone, changes FROM {}_fired ORDER BY n", self.name);
        let doing = "read what the triggers wrote down";
        let events: Vec<(String, Vec<u8>, String, u64)> = server.connect()?.query(sql).doing(doing)?;
        events
            .into_iter()
            .map(|(what, email, phone, changes)| {
                Ok(Event { what, email: String::from_utf8(email).doing(doing)?, phone, changes })
            })
            .collect()
    }

    /// The number that the next new row would get.
    pub fn next_id(&self, server: &MariaDb) -> Result<u64> {
        // The statement itself knows it; information_schema may answer from a cache.
        let sql = format!("SHOW CREATE TABLE {}", self.name);
        let answer: Option<(String, String)> = server.connect()?.query_first(sql).doing("ask for the next number")?;
        let text = answer.map(|(_, text)| text).unwrap_or_default();
        let number = text.split_once(" AUTO_INCREMENT=").map(|(_, rest)| rest.split(' ').next().unwrap_or_default());
        number.map_or(Ok(1), |number| number.parse().doing("read the next number"))
    }

    /// Drops it, with what hangs on it.
    pub fn drop(&self, server: &MariaDb) -> Result<()> {
        server.try_execute(&format!("DROP TABLE IF EXISTS {0}_orders, {0}_fired, {0}", self.name))
    }
}

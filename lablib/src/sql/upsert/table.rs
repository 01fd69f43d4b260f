//! The table of contacts, with what may hang on it.

use mysql::prelude::Queryable;

use super::contact::{Contact, LONGEST_TEXT};
use crate::lab::service::MariaDb;
use crate::lab::{Doing, Error, Result};

/// The secondary indexes: their names and columns.
const INDEXES: [(&str, &str); 3] = [("by_name", "name"), ("by_phone", "phone"), ("by_both", "name, phone")];

/// What a table has beside its rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extras {
    /// Three secondary indexes: on the name, on the phone, and on both.
    pub indexes: bool,
    /// Orders that refer to contacts and go with them (`ON DELETE CASCADE`).
    pub orders: bool,
    /// Triggers that write down each insert, update and delete.
    pub triggers: bool,
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
        if extras.orders {
            statements.push(format!(
                "CREATE TABLE {name}_orders (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, \
                 contact BIGINT UNSIGNED NOT NULL, FOREIGN KEY (contact) REFERENCES {name} (id) ON DELETE CASCADE) ENGINE = InnoDB"
            ));
        }
        if extras.triggers {
            statements.push(format!("CREATE TABLE {name}_fired (event VARCHAR(8) NOT NULL) ENGINE = InnoDB"));
            for event in ["INSERT", "UPDATE", "DELETE"] {
                statements.push(format!(
                    "CREATE TRIGGER {name}_{event} AFTER {event} ON {name} FOR EACH ROW \
                     INSERT INTO {name}_fired (event) VALUES ('{event}')"
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
        let mut connection = server.connect()?;
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
        if self.extras.orders {
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
        let orders = match self.extras.orders {
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

    /// How often the triggers fired: for inserts, updates and deletes.
    pub fn fired(&self, server: &MariaDb) -> Result<[u64; 3]> {
        if !self.extras.triggers {
            return Ok([0; 3]);
        }
        let sql = format!(
            "SELECT COALESCE(SUM(event = 'INSERT'), 0), COALESCE(SUM(event = 'UPDATE'), 0), \
             COALESCE(SUM(event = 'DELETE'), 0) FROM {}_fired",
            self.name
        );
        let sums: Option<(u64, u64, u64)> = server.connect()?.query_first(sql).doing("count what the triggers did")?;
        Ok(sums.map_or([0; 3], |(inserts, updates, deletes)| [inserts, updates, deletes]))
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

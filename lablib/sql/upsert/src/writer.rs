//! A client that puts contacts into a table.

use std::io::Write as _;
use std::sync::{Arc, Barrier};

use mysql::prelude::Queryable;
use mysql::{Conn, LocalInfileHandler, Value};

use super::contact::Contact;
use super::table::Table;
use super::way::Way;
use lab::service::{Dialect, MariaDb};
use lab::{Doing, Error, Result};

/// What SQL servers answer to the one who has to give way.
const DEADLOCK: u16 = 1213;
const DUPLICATE: u16 = 1062;
/// A transaction that gave way so often stands in front of something else than chance.
const MOST_TRIES: u32 = 1_000;
/// A statement can have 65,535 marks, and a contact takes three.
const MOST_IN_A_STATEMENT: usize = 20_000;

/// A connection that puts contacts into a table in one way.
pub struct Writer {
    connection: Conn,
    dialect: Dialect,
    table: Table,
    way: Way,
    sorted: bool,
    meeting: Option<Arc<Barrier>>,
}

/// What became of the contacts of a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// Contacts that are in the table now, on disk.
    pub put: u64,
    /// Contacts that the server would not take because somebody else had inserted them meanwhile; only
    /// [`Way::SelectThenWrite`] lets that happen.
    pub refused: u64,
    /// How often a transaction had to give way to another one and began anew.
    pub deadlocks: u64,
}

impl std::ops::AddAssign for Done {
    fn add_assign(&mut self, other: Self) {
        self.put += other.put;
        self.refused += other.refused;
        self.deadlocks += other.deadlocks;
    }
}

impl std::iter::Sum for Done {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |mut sum, one| {
            sum += one;
            sum
        })
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("table", &self.table.name()).field("way", &self.way).finish_non_exhaustive()
    }
}

impl Writer {
    /// Connects to the table's server.
    pub fn new(server: &MariaDb, table: &Table, way: Way) -> Result<Self> {
        let mut connection = server.connect()?;
        if way == Way::Staged {
            // Without a key of its own: a file may hold a contact twice, and the last one counts.
            let sql = format!(
                "CREATE TEMPORARY TABLE {}_staging (n BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, \
                 email VARBINARY(190) NOT NULL, name VARCHAR(64) NOT NULL, phone VARCHAR(64) NOT NULL) \
                 ENGINE = InnoDB CHARACTER SET utf8mb4",
                table.name()
            );
            connection.query_drop(sql).doing("make a table to load into")?;
        }
        let (dialect, table) = (server.dialect(), table.clone());
        Ok(Self { connection, dialect, table, way, sorted: true, meeting: None })
    }

    /// Puts many contacts in the order in which they come, instead of their addresses' order: two writers can then wait for
    /// each other in a circle.
    #[must_use]
    pub fn unsorted(mut self) -> Self {
        self.sorted = false;
        self
    }

    /// Meets the others there between looking and writing, so that what may happen does happen.
    #[must_use]
    pub(super) fn meeting(mut self, barrier: Arc<Barrier>) -> Self {
        self.meeting = Some(barrier);
        self
    }

    /// Puts the contacts, later ones over earlier ones with the same address. The ways that take many put all of them or,
    /// where that fails, none; the others have put those before the one that failed.
    pub fn put(&mut self, contacts: &[Contact]) -> Result<Done> {
        if contacts.is_empty() {
            return Ok(Done::default());
        }
        if self.way.takes_many() {
            let mut contacts: Vec<&Contact> = contacts.iter().collect();
            if self.sorted {
                // A stable sort: a contact that comes twice stays in its order.
                contacts.sort_by(|one, other| one.email().cmp(other.email()));
            }
            return self.try_again(&contacts);
        }
        let mut done = Done::default();
        for contact in contacts {
            done += self.try_again(&[contact])?;
        }
        Ok(done)
    }

    /// Looks a contact up and then puts it, as the prototype's benchmark did.
    pub(super) fn look_up_and_put(&mut self, contact: &Contact) -> Result<Done> {
        let sql = format!("SELECT id, name, phone FROM {} WHERE email = ?", self.table.name());
        let row: Option<(u64, String, String)> =
            self.connection.exec_first(sql, (contact.email().as_bytes(),)).doing("look a contact up")?;
        match row {
            Some(_) => self.put(std::slice::from_ref(contact)),
            None => Err(Error::new("look a contact up", "it is not there").at(self.table.name())),
        }
    }

    /// Puts them in a transaction, and in another one where it had to give way.
    fn try_again(&mut self, contacts: &[&Contact]) -> Result<Done> {
        for deadlocks in 0..u64::from(MOST_TRIES) {
            let Err(failure) = self.once(contacts) else {
                return Ok(Done { put: contacts.len() as u64, refused: 0, deadlocks });
            };
            match failure {
                Failure::Server(DEADLOCK, _) => self.roll_back(),
                // Where the server locks no gaps, both have found nothing there; the second one finds the first one's row now.
                Failure::Server(DUPLICATE, _) if self.way == Way::SelectForUpdate => self.roll_back(),
                Failure::Server(DUPLICATE, _) if self.way == Way::SelectThenWrite => {
                    return Ok(Done { put: 0, refused: contacts.len() as u64, deadlocks });
                }
                Failure::Server(_, cause) | Failure::Other(cause) => {
                    self.roll_back();
                    return Err(self.failed(contacts, cause));
                }
            }
        }
        Err(self.failed(contacts, format!("it had to give way {MOST_TRIES} times")))
    }

    fn failed(&self, contacts: &[&Contact], cause: String) -> Error {
        Error::new(format!("put {} by {}", plural(contacts.len()), self.way), cause).at(self.table.name())
    }

    fn once(&mut self, contacts: &[&Contact]) -> Result<(), Failure> {
        match (self.way, contacts) {
            (Way::Batched, _) => self.batch(contacts),
            (Way::Staged, _) => self.stage(contacts),
            (Way::OnDuplicateKey, [contact]) => {
                let sql = self.on_duplicate_key(1);
                self.run(&sql, values(&[contact]))
            }
            (Way::Replace, [contact]) => {
                let sql = format!("REPLACE INTO {} (email, name, phone) VALUES (?, ?, ?)", self.table.name());
                self.run(&sql, values(&[contact]))
            }
            (Way::SelectThenWrite, [contact]) => self.select_then_write(contact, ""),
            (Way::SelectForUpdate, [contact]) => {
                self.connection.query_drop("START TRANSACTION")?;
                self.select_then_write(contact, " FOR UPDATE")?;
                Ok(self.connection.query_drop("COMMIT")?)
            }
            (Way::InsertIgnoreThenUpdate, [contact]) => self.insert_ignore_then_update(contact),
            (_, _) => Err(Failure::Other("it takes one contact at a time".into())),
        }
    }

    /// The statement for so many contacts.
    fn on_duplicate_key(&self, rows: usize) -> String {
        let name = self.table.name();
        let upsert = self.dialect.upsert_rows(name, &["email", "name", "phone"], rows, &["phone"]);
        format!("{upsert}, changes = {name}.changes + 1")
    }

    fn run(&mut self, sql: &str, values: Vec<Value>) -> Result<(), Failure> {
        Ok(self.connection.exec_drop(sql, values)?)
    }

    fn select_then_write(&mut self, contact: &Contact, lock: &str) -> Result<(), Failure> {
        let name = self.table.name().to_string();
        let sql = format!("SELECT id, changes FROM {name} WHERE email = ?{lock}");
        let there: Option<(u64, u64)> = self.connection.exec_first(sql, (contact.email().as_bytes(),))?;
        if let Some(meeting) = &self.meeting {
            meeting.wait();
        }
        match there {
            None => self.run(&format!("INSERT INTO {name} (email, name, phone) VALUES (?, ?, ?)"), values(&[contact])),
            Some((id, changes)) => {
                let sql = format!("UPDATE {name} SET phone = ?, changes = ? WHERE id = ?");
                self.run(&sql, vec![contact.phone().into(), (changes + 1).into(), id.into()])
            }
        }
    }

    fn insert_ignore_then_update(&mut self, contact: &Contact) -> Result<(), Failure> {
        let name = self.table.name().to_string();
        let insert = format!("INSERT IGNORE INTO {name} (email, name, phone) VALUES (?, ?, ?)");
        let update = format!("UPDATE {name} SET phone = ?, changes = changes + 1 WHERE email = ?");
        // Between the two statements somebody may delete the row; then there is something to insert again.
        for _ in 0..MOST_TRIES {
            self.run(&insert, values(&[contact]))?;
            if self.connection.affected_rows() > 0 {
                return Ok(());
            }
            self.run(&update, vec![contact.phone().into(), contact.email().as_bytes().into()])?;
            if self.connection.affected_rows() > 0 {
                return Ok(());
            }
        }
        Err(Failure::Other("its row comes and goes".into()))
    }

    fn batch(&mut self, contacts: &[&Contact]) -> Result<(), Failure> {
        if contacts.len() > MOST_IN_A_STATEMENT {
            let cause = format!("a statement takes at most {MOST_IN_A_STATEMENT}; put fewer at a time, or stage them");
            return Err(Failure::Other(cause));
        }
        let sql = self.on_duplicate_key(contacts.len());
        self.run(&sql, values(contacts))
    }

    /// In one transaction: what was loaded and not merged is gone when it fails.
    fn stage(&mut self, contacts: &[&Contact]) -> Result<(), Failure> {
        let name = self.table.name().to_string();
        let mut file = Vec::new();
        for contact in contacts {
            for (text, end) in [(contact.email(), b'\t'), (contact.name(), b'\t'), (contact.phone(), b'\n')] {
                escape_into(&mut file, text);
                file.push(end);
            }
        }
        let send = move |_: &[u8], stream: &mut mysql::LocalInfile<'_>| stream.write_all(&file);
        self.connection.set_local_infile_handler(Some(LocalInfileHandler::new(send)));
        self.connection.query_drop("START TRANSACTION")?;
        self.connection.query_drop(format!(
            "LOAD DATA LOCAL INFILE 'contacts' INTO TABLE {name}_staging CHARACTER SET utf8mb4 \
             FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' (email, name, phone)"
        ))?;
        let (loaded, warnings) = (self.connection.affected_rows(), self.connection.warnings());
        // A local file is loaded as if it said IGNORE: what does not fit is bent, with a warning.
        if loaded != contacts.len() as u64 || warnings > 0 {
            let cause =
                format!("the server took {loaded} of {} from the file, with {warnings} warnings", contacts.len());
            return Err(Failure::Other(cause));
        }
        let order = if self.sorted { "new.email, new.n" } else { "new.n" };
        self.connection.query_drop(format!(
            "INSERT INTO {name} (email, name, phone) SELECT new.email, new.name, new.phone FROM {name}_staging AS new \
             ORDER BY {order} ON DUPLICATE KEY UPDATE phone = new.phone, changes = {name}.changes + 1"
        ))?;
        self.connection.query_drop(format!("DELETE FROM {name}_staging"))?;
        Ok(self.connection.query_drop("COMMIT")?)
    }

    /// Leaves no transaction open. A server that is gone has none.
    fn roll_back(&mut self) {
        let _ = self.connection.query_drop("ROLLBACK");
    }
}

enum Failure {
    Server(u16, String),
    Other(String),
}

impl From<mysql::Error> for Failure {
    fn from(error: mysql::Error) -> Self {
        match error {
            mysql::Error::MySqlError(error) => Self::Server(error.code, error.to_string()),
            error => Self::Other(error.to_string()),
        }
    }
}

fn values(contacts: &[&Contact]) -> Vec<Value> {
    let of = |contact: &&Contact| {
        [Value::from(contact.email().as_bytes()), Value::from(contact.name()), Value::from(contact.phone())]
    };
    contacts.iter().flat_map(of).collect()
}

fn escape_into(file: &mut Vec<u8>, text: &str) {
    for &byte in text.as_bytes() {
        match byte {
            b'\\' => file.extend_from_slice(b"\\\\"),
            b'\t' => file.extend_from_slice(b"\\t"),
            b'\n' => file.extend_from_slice(b"\\n"),
            0 => file.extend_from_slice(b"\\0"),
            byte => file.push(byte),
        }
    }
}

fn plural(contacts: usize) -> String {
    if contacts == 1 { "a contact".into() } else { format!("{contacts} contacts") }
}

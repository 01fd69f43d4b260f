//! MariaDB and MySQL speak the same language with different words; this is the dictionary.

use std::fmt;

use crate::{Error, Result};

/// Which of the two families a server belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// MariaDB, which the lab starts.
    MariaDb,
    /// MySQL, which it uses by `LAB_MYSQL_URL`.
    MySql,
}

/// A server's family and version, and how it wants to be asked for what the two families say differently.
///
/// ```
/// use lab::service::Dialect;
///
/// let mariadb = Dialect::of("10.11.6-MariaDB-0+deb12u1-log").unwrap();
/// let mysql = Dialect::of("8.4.3").unwrap();
/// assert_eq!(mariadb.for_share(), "LOCK IN SHARE MODE");
/// assert_eq!(mysql.for_share(), "FOR SHARE");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dialect {
    family: Family,
    version: (u16, u16, u16),
}

impl Dialect {
    /// From what `SELECT VERSION()` answers.
    pub fn of(banner: &str) -> Result<Self> {
        let family = if banner.to_ascii_lowercase().contains("mariadb") { Family::MariaDb } else { Family::MySql };
        // A MariaDB that wants to pass for a MySQL to old replicas puts a false version in front of its own.
        let numbers = banner.strip_prefix("5.5.5-").filter(|_| family == Family::MariaDb).unwrap_or(banner);
        let numbers =
            numbers.split(|letter: char| letter != '.' && !letter.is_ascii_digit()).next().unwrap_or_default();
        let mut parts = numbers.split('.').map(str::parse::<u16>);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch))) => Ok(Self { family, version: (major, minor, patch) }),
            _ => Err(Error::new("tell which SQL server this is", format!("its version is {banner:?}"))
                .remedy("use a MariaDB or a MySQL server")),
        }
    }

    /// MariaDB or MySQL.
    pub fn family(self) -> Family {
        self.family
    }

    /// Whether this is MariaDB.
    pub fn is_mariadb(self) -> bool {
        self.family == Family::MariaDb
    }

    /// Major, minor and patch.
    pub fn version(self) -> (u16, u16, u16) {
        self.version
    }

    fn is_mysql_since(self, version: (u16, u16, u16)) -> bool {
        self.family == Family::MySql && self.version >= version
    }

    /// Ends a `SELECT` that locks its rows against writers but not readers.
    pub fn for_share(self) -> &'static str {
        if self.is_mysql_since((8, 0, 1)) { "FOR SHARE" } else { "LOCK IN SHARE MODE" }
    }

    /// Whether `FOR UPDATE SKIP LOCKED` exists.
    pub fn has_skip_locked(self) -> bool {
        match self.family {
            Family::MariaDb => self.version >= (10, 6, 0),
            Family::MySql => self.version >= (8, 0, 1),
        }
    }

    /// What `NOWAIT` answers instead of waiting: MariaDB the same as for a wait that took too long.
    pub fn nowait_error(self) -> u16 {
        match self.family {
            Family::MariaDb => 1205,
            Family::MySql => 3572,
        }
    }

    /// Lists the row locks that somebody holds or waits for, as `trx, mode, type, table_name, index_name, row_key`.
    /// MariaDB shows them only once somebody waits, and repeats its last answer to whoever asks again within a tenth of a
    /// second: ask no more than five times a second, or the list never changes.
    pub fn row_locks(self) -> &'static str {
        if self.is_mysql_since((8, 0, 1)) {
            "SELECT engine_transaction_id AS trx, lock_mode AS mode, lock_type AS type, \
             CONCAT('`', object_schema, '`.`', object_name, '`') AS table_name, index_name AS index_name, \
             lock_data AS row_key FROM performance_schema.data_locks"
        } else {
            "SELECT lock_trx_id AS trx, lock_mode AS mode, lock_type AS type, lock_table AS table_name, \
             lock_index AS index_name, lock_data AS row_key FROM information_schema.innodb_locks"
        }
    }

    /// Refuses writes from now on, those of ordinary administrators included where the server can.
    pub fn set_read_only(self, on: bool) -> &'static str {
        match (self.family, on) {
            (Family::MariaDb, true) => "SET GLOBAL read_only = 1",
            (Family::MariaDb, false) => "SET GLOBAL read_only = 0",
            (Family::MySql, true) => "SET GLOBAL super_read_only = 1",
            // The stricter one falls with it.
            (Family::MySql, false) => "SET GLOBAL read_only = 0",
        }
    }

    /// Inserts a row, or gives the columns in `changed` their new values where its key exists; one `?` a column.
    ///
    /// ```
    /// # use lab::service::Dialect;
    /// let mysql = Dialect::of("8.4.3").unwrap();
    /// assert_eq!(
    ///     mysql.upsert("hits", &["page", "count"], &["count"]),
    ///     "INSERT INTO hits (page, count) VALUES (?, ?) AS new ON DUPLICATE KEY UPDATE count = new.count"
    /// );
    /// ```
    pub fn upsert(self, table: &str, columns: &[&str], changed: &[&str]) -> String {
        self.upsert_rows(table, columns, 1, changed)
    }

    /// As [`upsert`](Self::upsert), for so many rows in one statement.
    pub fn upsert_rows(self, table: &str, columns: &[&str], rows: usize, changed: &[&str]) -> String {
        let marks = format!("({})", vec!["?"; columns.len()].join(", "));
        let new = |column: &&str| format!("{column} = {}", self.inserted(column));
        self.upserting(table, columns, &vec![marks; rows].join(", "), &changed.iter().map(new).collect::<Vec<_>>())
    }

    /// As [`upsert`](Self::upsert), with an expression for each column, `?` or what the server is to work out, and with
    /// assignments of one's own, made from left to right: [`inserted`](Self::inserted) is a column of the row that would have
    /// been inserted, `table.column` what is there.
    pub fn upsert_setting(self, table: &str, columns: &[&str], values: &[&str], changes: &[String]) -> String {
        self.upserting(table, columns, &format!("({})", values.join(", ")), changes)
    }

    /// A column of the row that would have been inserted, in the changes of an upsert.
    pub fn inserted(self, column: &str) -> String {
        match self.names_the_new_row() {
            true => format!("new.{column}"),
            false => format!("VALUES({column})"),
        }
    }

    fn names_the_new_row(self) -> bool {
        self.is_mysql_since((8, 0, 19))
    }

    fn upserting(self, table: &str, columns: &[&str], rows: &str, changes: &[String]) -> String {
        let alias = if self.names_the_new_row() { " AS new" } else { "" };
        let (columns, changes) = (columns.join(", "), changes.join(", "));
        format!("INSERT INTO {table} ({columns}) VALUES {rows}{alias} ON DUPLICATE KEY UPDATE {changes}")
    }

    /// Asks a primary for the position of its last transaction, to be given to [`wait_for_position`](Self::wait_for_position).
    pub fn position(self) -> &'static str {
        match self.family {
            Family::MariaDb => "SELECT @@GLOBAL.gtid_binlog_pos",
            Family::MySql => "SELECT @@GLOBAL.gtid_executed",
        }
    }

    /// Asks a session for a position that covers its last transaction: MariaDB for that transaction's own, MySQL for all that
    /// the server has done by now.
    pub fn last_position(self) -> &'static str {
        match self.family {
            Family::MariaDb => "SELECT @@last_gtid",
            Family::MySql => "SELECT @@GLOBAL.gtid_executed",
        }
    }

    /// Asks a replica which position is visible to readers by now: nothing in it is still being committed.
    pub fn replayed(self) -> &'static str {
        match self.family {
            Family::MariaDb => "@@GLOBAL.gtid_slave_pos",
            Family::MySql => "@@GLOBAL.gtid_executed",
        }
    }

    /// Waits on a replica until it has replayed a position: answers 0 when it has, anything else after `seconds`.
    pub fn wait_for_position(self, position: &str, seconds: f64) -> String {
        let position = quoted(position);
        match self.family {
            Family::MariaDb => format!("SELECT MASTER_GTID_WAIT({position}, {seconds})"),
            Family::MySql => format!("SELECT WAIT_FOR_EXECUTED_GTID_SET({position}, {seconds})"),
        }
    }

    /// Makes a server a replica of the one at `host` and `port`, from where it stopped, and starts it.
    pub fn follow(self, host: &str, port: u16, user: &str, password: &str) -> Vec<String> {
        let (host, user, password) = (quoted(host), quoted(user), quoted(password));
        let [stop, start, _] = self.replication_commands();
        let change = if self.is_mysql_since((8, 0, 23)) {
            format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST = {host}, SOURCE_PORT = {port}, SOURCE_USER = {user}, \
                 SOURCE_PASSWORD = {password}, SOURCE_AUTO_POSITION = 1, SOURCE_CONNECT_RETRY = 1, GET_SOURCE_PUBLIC_KEY = 1"
            )
        } else {
            let gtid = if self.is_mariadb() { "MASTER_USE_GTID = slave_pos" } else { "MASTER_AUTO_POSITION = 1" };
            format!(
                "CHANGE MASTER TO MASTER_HOST = {host}, MASTER_PORT = {port}, MASTER_USER = {user}, \
                 MASTER_PASSWORD = {password}, {gtid}, MASTER_CONNECT_RETRY = 1"
            )
        };
        vec![stop.into(), change, start.into()]
    }

    /// Makes a replica lag on purpose: it replays everything this many seconds late.
    pub fn delay(self, seconds: u32) -> Vec<String> {
        let [stop, start, _] = self.replication_commands();
        let change = match self.is_mysql_since((8, 0, 23)) {
            true => format!("CHANGE REPLICATION SOURCE TO SOURCE_DELAY = {seconds}"),
            false => format!("CHANGE MASTER TO MASTER_DELAY = {seconds}"),
        };
        vec![stop.into(), change, start.into()]
    }

    /// Makes a replica a server of its own.
    pub fn stop_following(self) -> Vec<String> {
        let [stop, _, forget] = self.replication_commands();
        vec![stop.into(), forget.into()]
    }

    fn replication_commands(self) -> [&'static str; 3] {
        if self.is_mysql_since((8, 0, 22)) {
            ["STOP REPLICA", "START REPLICA", "RESET REPLICA ALL"]
        } else {
            ["STOP SLAVE", "START SLAVE", "RESET SLAVE ALL"]
        }
    }

    /// Asks a replica how it does; the answer's column names are those of
    /// [`replica_status_columns`](Self::replica_status_columns).
    pub fn replica_status(self) -> &'static str {
        if self.is_mysql_since((8, 0, 22)) { "SHOW REPLICA STATUS" } else { "SHOW SLAVE STATUS" }
    }

    /// The column in which a replica says how many seconds it is behind, in its own opinion.
    pub fn seconds_behind(self) -> &'static str {
        if self.is_mysql_since((8, 0, 22)) { "Seconds_Behind_Source" } else { "Seconds_Behind_Master" }
    }

    /// The columns that say whether a replica receives, whether it replays, and why it doesn't do one or the other.
    pub fn replica_status_columns(self) -> [&'static str; 4] {
        match self.is_mysql_since((8, 0, 22)) {
            true => ["Replica_IO_Running", "Replica_SQL_Running", "Last_IO_Error", "Last_SQL_Error"],
            false => ["Slave_IO_Running", "Slave_SQL_Running", "Last_IO_Error", "Last_SQL_Error"],
        }
    }
}

/// "MariaDB 10.11.6".
impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.is_mariadb() { "MariaDB" } else { "MySQL" };
        let (major, minor, patch) = self.version;
        write!(f, "{family} {major}.{minor}.{patch}")
    }
}

/// A text as an SQL literal.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn dialect(banner: &str) -> Dialect {
        Dialect::of(banner).unwrap()
    }

    #[test]
    fn the_family_and_version_come_from_the_servers_own_words() {
        for (banner, shown) in [
            ("10.11.6-MariaDB-0+deb12u1-log", "MariaDB 10.11.6"),
            ("5.5.5-10.6.12-MariaDB", "MariaDB 10.6.12"),
            ("11.4.2-MariaDB-ubu2404", "MariaDB 11.4.2"),
            ("8.4.3", "MySQL 8.4.3"),
            ("8.0.36-0ubuntu0.22.04.1", "MySQL 8.0.36"),
            ("9.7.0-log", "MySQL 9.7.0"),
            ("5.7.44-log", "MySQL 5.7.44"),
        ] {
            assert_eq!(dialect(banner).to_string(), shown);
        }
        for banner in ["", "MariaDB", "8", "8.4", "PostgreSQL 16.2", "8.x.1"] {
            assert!(Dialect::of(banner).is_err(), "{banner}");
        }
    }

    #[test]
    fn each_is_asked_in_its_own_words() {
        let (maria, my, old) = (dialect("10.11.6-MariaDB"), dialect("8.4.3"), dialect("5.7.44"));
        assert_eq!([maria.for_share(), old.for_share()], ["LOCK IN SHARE MODE"; 2]);
        assert_eq!(my.for_share(), "FOR SHARE");
        assert_eq!((maria.nowait_error(), my.nowait_error()), (1205, 3572));
        assert!(maria.has_skip_locked() && my.has_skip_locked() && !old.has_skip_locked());
        assert!(!dialect("10.5.23-MariaDB").has_skip_locked());
        assert!(maria.row_locks().contains("innodb_locks") && old.row_locks().contains("innodb_locks"));
        assert!(my.row_locks().contains("performance_schema.data_locks"));
        assert_eq!(my.set_read_only(true), "SET GLOBAL super_read_only = 1");
        assert_eq!(maria.set_read_only(true), "SET GLOBAL read_only = 1");
        let upsert = |dialect: Dialect| dialect.upsert("t", &["a", "b"], &["b"]);
        assert!(upsert(my).ends_with("AS new ON DUPLICATE KEY UPDATE b = new.b"));
        assert!(upsert(maria).ends_with("VALUES (?, ?) ON DUPLICATE KEY UPDATE b = VALUES(b)"));
        assert_eq!(upsert(maria), upsert(old));
        let setting = |dialect: Dialect| {
            let change = format!("b = IF(t.b < {0}, {0}, t.b)", dialect.inserted("b"));
            dialect.upsert_setting("t", &["a", "b"], &["?", "NOW()"], &[change])
        };
        assert_eq!(
            setting(my),
            "INSERT INTO t (a, b) VALUES (?, NOW()) AS new ON DUPLICATE KEY UPDATE b = IF(t.b < new.b, new.b, t.b)"
        );
        assert!(
            setting(maria)
                .ends_with("VALUES (?, NOW()) ON DUPLICATE KEY UPDATE b = IF(t.b < VALUES(b), VALUES(b), t.b)")
        );
        assert_eq!(maria.wait_for_position("0-1-2", 1.5), "SELECT MASTER_GTID_WAIT('0-1-2', 1.5)");
        assert_eq!(my.wait_for_position("u:1-5", 2.0), "SELECT WAIT_FOR_EXECUTED_GTID_SET('u:1-5', 2)");
    }

    #[test]
    fn replication_has_three_vocabularies() {
        let follow = |banner: &str| dialect(banner).follow("127.0.0.1", 3307, "lab", "it's").join("; ");
        assert_eq!(
            follow("10.11.6-MariaDB"),
            "STOP SLAVE; CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = 3307, MASTER_USER = 'lab', \
             MASTER_PASSWORD = 'it''s', MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1; START SLAVE"
        );
        assert!(follow("5.7.44").contains("MASTER_AUTO_POSITION = 1"));
        assert!(follow("8.4.3").starts_with("STOP REPLICA; CHANGE REPLICATION SOURCE TO SOURCE_HOST"));
        assert_eq!(dialect("8.4.3").delay(2)[1], "CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 2");
        assert_eq!(dialect("10.11.6-MariaDB").delay(2)[1], "CHANGE MASTER TO MASTER_DELAY = 2");
        assert_eq!(dialect("10.11.6-MariaDB").stop_following(), ["STOP SLAVE", "RESET SLAVE ALL"]);
        assert_eq!(dialect("8.4.3").replica_status(), "SHOW REPLICA STATUS");
        assert_eq!(dialect("8.4.3").replica_status_columns()[0], "Replica_IO_Running");
    }

    #[test]
    fn a_text_cannot_leave_its_quotes() {
        assert_eq!(quoted(r"a'b\"), r"'a''b\\'");
    }
}

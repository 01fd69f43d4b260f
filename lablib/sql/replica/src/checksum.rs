//! Do a replica's rows equal the primary's? Asked while both are in use.
//!
//! The primary sums up a few rows at a time, in a transaction that is replicated *as a statement*: each replica sums up
//! its own rows at the very same place in the order of commits, whenever it gets there. Then only the sums are
//! compared.

use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, TxOpts, Value};

use super::cluster::Cluster;
use lab::{Doing, Error, Result};

/// How long a replica may take to get to where the primary is.
const PATIENCE: Duration = Duration::from_secs(30);

/// A table to be compared, whose primary key is one number.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Compared {
    table: String,
    key: String,
    /// Their names and types.
    columns: Vec<(String, String)>,
}

/// Rows of a table that lie next to each other: above `after`, up to `to`; `None` is the end of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// The last key before it.
    pub after: Option<i128>,
    /// Its last key.
    pub to: Option<i128>,
}

/// A chunk that differs on a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The table.
    pub table: String,
    /// The replica.
    pub server: usize,
    /// The chunk of the table that differs.
    pub chunk: Chunk,
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Chunks that were summed up.
    pub chunks: u64,
    /// Rows in them, on the primary.
    pub rows: u64,
    /// Chunks that differ, once for each replica.
    pub differences: Vec<Difference>,
}

/// How a row of a replica differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RowFault {
    /// The primary has it, the replica does not.
    Missing,
    /// The replica has it, the primary does not.
    Extra,
    /// Both have it, and it is not the same.
    Changed,
}

fn name(text: &str) -> String {
    format!("`{}`", text.replace('`', "``"))
}

impl Compared {
    fn new(connection: &mut Conn, table: &str) -> Result<Self> {
        let doing = || format!("compare the table {table:?}");
        let question = "SELECT column_name, column_key, data_type FROM information_schema.columns \
                        WHERE table_schema = DATABASE() AND table_name = ? ORDER BY ordinal_position";
        let columns: Vec<(String, String, String)> = connection.exec(question, (table,)).doing(doing())?;
        if columns.is_empty() {
            return Err(Error::new(doing(), "there is no such table"));
        }
        let keys: Vec<_> = columns.iter().filter(|(_, key, _)| key == "PRI").collect();
        let whole = |why: &str| Error::new(doing(), why).remedy("give it a primary key of one whole number");
        let key = match keys[..] {
            [] => return Err(whole("it has no primary key")),
            [(key, _, kind)] if kind.ends_with("int") => key,
            [_] => return Err(whole("its primary key is not one whole number")),
            _ => return Err(whole("its primary key has several columns")),
        };
        Ok(Self {
            table: table.to_owned(),
            key: key.clone(),
            columns: columns.into_iter().map(|(name, _, kind)| (name, kind)).collect(),
        })
    }

    /// A row as a number of 64 bits: any other row has another one, but for one chance in 10^19. A null is told from an
    /// empty text, and where a column ends from what is in it.
    fn digest(&self) -> String {
        let column = |(column, kind): &(String, String)| {
            // A float is written with six digits, which many floats share; as a double it is written with all of them.
            let value = if kind == "float" { format!("{} + 0e0", name(column)) } else { name(column) };
            format!("IFNULL(MD5(CAST({value} AS BINARY)), 'N')")
        };
        let columns: Vec<String> = self.columns.iter().map(column).collect();
        format!("CAST(CONV(LEFT(MD5(CONCAT_WS(',', {})), 16), 16, 10) AS UNSIGNED)", columns.join(", "))
    }

    fn within(&self, chunk: Chunk) -> String {
        let key = name(&self.key);
        let after = chunk.after.map(|after| format!("{key} > {after}"));
        let to = chunk.to.map(|to| format!("{key} <= {to}"));
        let both: Vec<String> = after.into_iter().chain(to).collect();
        if both.is_empty() { "TRUE".into() } else { both.join(" AND ") }
    }

    /// The chunk that begins after a key.
    fn chunk(&self, connection: &mut Conn, after: Option<i128>, rows: u64) -> Result<Chunk> {
        let (key, table) = (name(&self.key), name(&self.table));
        let beyond = self.within(Chunk { after, to: None });
        let question = format!("SELECT {key} FROM {table} WHERE {beyond} ORDER BY {key} LIMIT {}, 2", rows - 1);
        let found: Vec<Value> = connection.query(question).doing(format!("divide {table}"))?;
        // The last chunk has no end: what a replica has beyond it is in it.
        let to = if found.len() == 2 { found.first().and_then(number) } else { None };
        Ok(Chunk { after, to })
    }
}

fn number(value: &Value) -> Option<i128> {
    match value {
        Value::Int(number) => Some((*number).into()),
        Value::UInt(number) => Some((*number).into()),
        Value::Bytes(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

impl Cluster {
    /// Compares tables on the primary with all its replicas, so many rows at a time, whoever writes meanwhile. A writer
    /// waits while its chunk is summed up, and for nothing else.
    pub fn compare(&self, tables: &[&str], rows: u64) -> Result<Comparison> {
        let doing = "compare the replicas";
        if rows == 0 {
            return Err(Error::new(doing, "a chunk of no rows compares nothing"));
        }
        let mut connection = self.connect(self.primary(), Duration::from_secs(60))?;
        for statement in [
            "CREATE TABLE IF NOT EXISTS checksums (run BIGINT UNSIGNED, chunk BIGINT UNSIGNED, \
             held BIGINT UNSIGNED NOT NULL, \
             digest BIGINT UNSIGNED NOT NULL, PRIMARY KEY (run, chunk))",
            "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "SET SESSION binlog_format = 'STATEMENT'",
        ] {
            connection.query_drop(statement).doing(doing)?;
        }
        let run: u64 = rand::random();
        let mut chunks = Vec::new();
        let compared: Vec<Compared> =
            tables.iter().map(|table| Compared::new(&mut connection, table)).collect::<Result<_>>()?;
        self.have(&compared)?;
        for (table, compared) in tables.iter().zip(compared) {
            let mut after = None;
            loop {
                let chunk = compared.chunk(&mut connection, after, rows)?;
                let sum = format!(
                    "INSERT INTO checksums SELECT {run}, {}, COUNT(*), COALESCE(BIT_XOR({}), 0) FROM {} \
                     FORCE INDEX (PRIMARY) WHERE {}",
                    chunks.len(),
                    compared.digest(),
                    name(table),
                    compared.within(chunk),
                );
                connection.query_drop(sum).doing(format!("sum up {table:?}"))?;
                chunks.push((compared.clone(), chunk));
                after = chunk.to;
                if after.is_none() {
                    break;
                }
            }
        }
        let sums = format!("SELECT chunk, held, digest FROM checksums WHERE run = {run} ORDER BY chunk");
        let ours: Vec<(u64, u64, u64)> = connection.query(&sums).doing(doing)?;
        let position = self.position()?;
        let mut comparison = Comparison {
            chunks: chunks.len() as u64,
            rows: ours.iter().map(|(_, held, _)| held).sum(),
            ..Comparison::default()
        };
        for server in self.followers() {
            self.wait_for(server, &position, PATIENCE)?;
            let theirs: Vec<(u64, u64, u64)> = self
                .connect(server, PATIENCE)?
                .query(&sums)
                .doing(doing)
                .map_err(|error| error.at(self.name(server)))?;
            for (sum, (compared, chunk)) in ours.iter().zip(&chunks) {
                if !theirs.contains(sum) {
                    comparison.differences.push(Difference { table: compared.table.clone(), server, chunk: *chunk });
                }
            }
        }
        let forget = format!("DELETE FROM checksums WHERE run = {run}");
        connection.query_drop(forget).doing(doing)?;
        Ok(comparison)
    }

    /// That every replica has these tables with these columns: the statement that sums up would fail on another one, and stop
    /// it.
    fn have(&self, tables: &[Compared]) -> Result<()> {
        let position = self.position()?;
        for server in self.followers() {
            self.wait_for(server, &position, PATIENCE)?;
            let mut connection = self.connect(server, PATIENCE)?;
            for table in tables {
                let at = |error: Error| error.at(self.name(server));
                if Compared::new(&mut connection, &table.table).map_err(at)? != *table {
                    let doing = format!("compare the table {:?}", table.table);
                    return Err(at(Error::new(doing, "its columns are not those of the primary")));
                }
            }
        }
        Ok(())
    }

    /// Which rows of a chunk differ on the replica. The chunk is locked on the primary until the replica has got there.
    pub fn locate(&self, difference: &Difference) -> Result<Vec<(i128, RowFault)>> {
        self.look_into(difference, false)
    }

    /// As [`locate`](Self::locate), and writes the primary's rows over the replica's, in the replica alone. Refused for a table
    /// with triggers, which would run again.
    pub fn repair(&self, difference: &Difference) -> Result<Vec<(i128, RowFault)>> {
        self.look_into(difference, true)
    }

    fn look_into(&self, difference: &Difference, repair: bool) -> Result<Vec<(i128, RowFault)>> {
        let Difference { table, server, chunk, .. } = difference;
        let doing = || format!("look for the rows that differ in {table:?}");
        if *server == self.primary() {
            return Err(Error::new(doing(), "it is the primary, whose rows are right").at(self.name(*server)));
        }
        let mut primary = self.connect(self.primary(), Duration::from_secs(60))?;
        let compared = Compared::new(&mut primary, table)?;
        let (key, columns) =
            (name(&compared.key), compared.columns.iter().map(|(column, _)| name(column)).collect::<Vec<_>>());
        let rows_of =
            format!("SELECT {key}, {} FROM {} WHERE {}", compared.digest(), name(table), compared.within(*chunk));
        // Locked before the position is asked for: whatever changed these rows is in the binary log by then, and
        // nothing changes them until this transaction ends.
        let mut locked = primary.start_transaction(TxOpts::default()).doing(doing())?;
        let ours: Vec<(Value, u64)> = locked.query(format!("{rows_of} FOR UPDATE")).doing(doing())?;
        self.wait_for(*server, &self.position()?, PATIENCE)?;
        let mut replica = match repair {
            true => self.server(*server)?.connect_as_administrator()?,
            false => self.connect(*server, PATIENCE)?,
        };
        let theirs: Vec<(Value, u64)> = replica.query(&rows_of).doing(doing())?;
        let keyed =
            |rows: Vec<(Value, u64)>| rows.into_iter().filter_map(|(key, digest)| Some((number(&key)?, digest)));
        let ours: std::collections::BTreeMap<i128, u64> = keyed(ours).collect();
        let theirs: std::collections::BTreeMap<i128, u64> = keyed(theirs).collect();
        let mut faults: Vec<(i128, RowFault)> = Vec::new();
        for (key, digest) in &ours {
            match theirs.get(key) {
                None => faults.push((*key, RowFault::Missing)),
                Some(theirs) if theirs != digest => faults.push((*key, RowFault::Changed)),
                Some(_) => {}
            }
        }
        faults.extend(theirs.keys().filter(|key| !ours.contains_key(key)).map(|key| (*key, RowFault::Extra)));
        faults.sort_unstable();
        if repair && !faults.is_empty() {
            let triggers = "SELECT COUNT(*) FROM information_schema.triggers WHERE event_object_schema = DATABASE() AND \
                            event_object_table = ?";
            if replica.exec_first::<u64, _, _>(triggers, (table,)).doing(doing())? != Some(0) {
                return Err(Error::new(doing(), "it has triggers, which would run again").at(self.name(*server)));
            }
            // What is put right here has happened on the primary long ago, and must not be news to anybody: not to the log,
            // and not to rows that refer to these.
            for statement in ["SET sql_log_bin = 0", "SET foreign_key_checks = 0", "START TRANSACTION"] {
                replica.query_drop(statement).doing(doing())?;
            }
            // First all of them go: one may stand where another belongs, by a unique key.
            for (row, _) in &faults {
                replica.query_drop(format!("DELETE FROM {} WHERE {key} = {row}", name(table))).doing(doing())?;
            }
            for (row, fault) in &faults {
                if *fault != RowFault::Extra {
                    let whole = format!("SELECT {} FROM {} WHERE {key} = {row}", columns.join(", "), name(table));
                    let found: Option<mysql::Row> = locked.query_first(whole).doing(doing())?;
                    let found = found.ok_or_else(|| Error::new(doing(), format!("the primary lost its row {row}")))?;
                    let marks = vec!["?"; columns.len()].join(", ");
                    let insert = format!("INSERT INTO {} ({}) VALUES ({marks})", name(table), columns.join(", "));
                    replica.exec_drop(insert, found.unwrap()).doing(doing())?;
                }
            }
            replica.query_drop("COMMIT").doing(doing())?;
        }
        locked.rollback().doing(doing())?;
        Ok(faults)
    }
}

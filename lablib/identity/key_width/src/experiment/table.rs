//! The table of one arm on its server: laying it out, inserting, and asking what became of it.

use mysql::Conn;
use mysql::prelude::Queryable;

use crate::{Fingerprint, Index, Keys, Layout, Rows};
use lab::service::{Counters, MariaDb};
use lab::{Doing, Error, Result};

/// What every arm's table is called.
pub(super) const TABLE: &str = "people";

/// A connection that loads and reads an arm's table.
pub(super) struct Table {
    connection: Conn,
    name: String,
    keys: Keys,
    rows: Rows,
}

/// Index sizes as the server tells them, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Of the index that holds the rows.
    pub data: u64,
    /// Of the secondary index.
    pub index: u64,
}

impl Table {
    /// An empty table. Whether the server may `recount` its pages when it likes; if not, it never does by itself.
    pub(super) fn create(server: &MariaDb, keys: Keys, rows: Rows, name: &str, recount: bool) -> Result<Self> {
        rows.check()?;
        let arm = keys.arm();
        if rows.count > keys.capacity() {
            let cause = format!("{} rows have no {} keys of their own", rows.count, arm.width);
            return Err(Error::new("lay out a table", cause).remedy("use a wider key"));
        }
        let mut connection = server.connect()?;
        let doing = || format!("lay out a table with {arm} keys");
        // The binary log is another file's story, and the same for all.
        connection.query_drop("SET SESSION sql_log_bin = 0").doing(doing())?;
        connection
            .query_drop(format!(
                "CREATE TABLE {name} (id {} NOT NULL PRIMARY KEY, age INT NOT NULL, pad VARBINARY(255) NOT NULL, \
                 KEY by_age (age)) ENGINE=InnoDB ROW_FORMAT=DYNAMIC STATS_PERSISTENT=1 STATS_AUTO_RECALC={}",
                arm.width.sql(),
                u8::from(recount)
            ))
            .doing(doing())?;
        Ok(Self { connection, name: name.into(), keys, rows })
    }

    /// The statement that inserts the rows from `from` on, with what stands after their keys.
    pub(super) fn statement(&self, from: u64, values: &[String]) -> String {
        self.rows.insert(&self.name, &self.keys, from, values)
    }

    /// Runs a statement that nobody waits for an answer of.
    pub(super) fn run(&mut self, statement: &str) -> Result<()> {
        let doing = || format!("run {:?} …", statement.chars().take(60).collect::<String>());
        self.connection.query_drop(statement).doing(doing())
    }

    /// The table holds these rows: fewer than planned, where time ran out.
    pub(super) fn holds(&mut self, rows: Rows) {
        self.rows = rows;
    }

    /// What SHOW TABLE STATUS says now.
    pub(super) fn told(&mut self) -> Result<Told> {
        let doing = "ask for a table's status";
        let row: Option<mysql::Row> =
            self.connection.query_first(format!("SHOW TABLE STATUS LIKE '{}'", self.name)).doing(doing)?;
        let row = row.ok_or_else(|| Error::new(doing, "there is no such table"))?;
        let bytes = |column: &str| row.get::<Option<u64>, _>(column).flatten();
        match (bytes("Data_length"), bytes("Index_length")) {
            (Some(data), Some(index)) => Ok(Told { data, index }),
            _ => Err(Error::new(doing, "it does not tell its lengths")),
        }
    }

    /// Counts the pages: of the index that holds the rows, and of the secondary one.
    pub(super) fn analyze(&mut self) -> Result<(Index, Index)> {
        // An index that is smaller than its sample is said to have one leaf, however many it has. One page is sample enough:
        // pages are counted exactly, whatever is sampled from them.
        self.run(&format!("ALTER TABLE {} STATS_SAMPLE_PAGES=1", self.name))?;
        let counted = self.analyze_as_it_is()?;
        // One page may happen to be one with a single row: the optimizer would take the table for tiny, and scan it.
        self.run(&format!("ALTER TABLE {} STATS_SAMPLE_PAGES=20", self.name))?;
        self.analyze_as_it_is()?;
        Ok(counted)
    }

    /// What ANALYZE says of the pages, by the sample that the table has been given.
    pub(super) fn analyze_as_it_is(&mut self) -> Result<(Index, Index)> {
        let doing = "count an index's pages";
        let _: Vec<mysql::Row> = self.connection.query(format!("ANALYZE TABLE {}", self.name)).doing(doing)?;
        let question = format!(
            "SELECT index_name, stat_name, stat_value FROM mysql.innodb_index_stats \
             WHERE database_name = DATABASE() AND table_name = '{}'",
            self.name
        );
        let told: Vec<(String, String, u64)> = self.connection.query(question).doing(doing)?;
        let of = |index: &str, what: &str| {
            let found = told.iter().find(|(name, stat, _)| name == index && stat == what);
            found.map(|(_, _, value)| *value).ok_or_else(|| Error::new(doing, format!("{index} has no {what}")))
        };
        let width = self.keys.arm().width;
        let index = |name: &str, layout: Layout| -> Result<Index> {
            let (leaf_pages, pages) = (of(name, "n_leaf_pages")?, of(name, "size")?);
            Ok(Index { layout, rows: self.rows.count, leaf_pages, pages })
        };
        Ok((index("PRIMARY", Layout::clustered(width, self.rows.pad))?, index("by_age", Layout::secondary(width))?))
    }

    /// The bytes of a record on a leaf of each index, from the pages that are in memory: the median of their averages.
    pub(super) fn record_bytes(&mut self) -> Result<(f64, f64)> {
        let mut of = |index: &str| -> Result<f64> {
            // Whatever was written to disk has left memory since.
            let _: Option<u64> = self
                .connection
                .query_first(format!(
                    "SELECT COUNT(age) FROM (SELECT age FROM {} FORCE INDEX ({index}) LIMIT 20000) AS some",
                    self.name
                ))
                .doing("look at the pages in memory")?;
            let question = format!(
                "SELECT data_size / number_records FROM information_schema.innodb_buffer_page \
                 WHERE page_type = 'INDEX' AND index_name = '{index}' AND number_records > 1 \
                 AND table_name LIKE CONCAT('%', DATABASE(), '%{}%')",
                self.name
            );
            let sizes: Vec<f64> = self.connection.query(question).doing("look at the pages in memory")?;
            Ok(lab::Samples::from(sizes).median())
        };
        Ok((of("PRIMARY")?, of("by_age")?))
    }

    /// How many of the table's pages are in memory; all pages in memory, where there are too many to look at.
    pub(super) fn pages_in_memory(&mut self) -> Result<f64> {
        const TOO_MANY: f64 = 10_000.0;
        let doing = "look at the pages in memory";
        let all = Counters::one(&mut self.connection, "Innodb_buffer_pool_pages_data")?;
        if all > TOO_MANY {
            return Ok(all);
        }
        let question = format!(
            "SELECT COUNT(*) FROM information_schema.innodb_buffer_page WHERE page_type = 'INDEX' \
             AND table_name LIKE CONCAT('%', DATABASE(), '%{}%')",
            self.name
        );
        let pages: Option<f64> = self.connection.query_first(question).doing(doing)?;
        pages.ok_or_else(|| Error::new(doing, "it has no answer"))
    }

    /// What the table holds, by its rows and by its secondary index.
    pub(super) fn fingerprints(&mut self) -> Result<(Fingerprint, Fingerprint)> {
        let [rows, entries] = Fingerprint::questions(&self.name, self.keys.arm().width);
        Ok((self.fingerprint(&rows)?, self.fingerprint(&entries)?))
    }

    fn fingerprint(&mut self, question: &str) -> Result<Fingerprint> {
        let doing = "sum up a table";
        let number = |text: &String| text.parse::<u128>().doing(doing);
        let sums: Option<(String, String, String)> = self.connection.query_first(question).doing(doing)?;
        let (rows, ages, sums) = sums.ok_or_else(|| Error::new(doing, "it has no answer"))?;
        Ok(Fingerprint { rows: number(&rows)?, ages: number(&ages)?, sums: number(&sums)? })
    }

    /// What it must hold.
    pub(super) fn must_hold(&self) -> (Fingerprint, Fingerprint) {
        self.rows.fingerprints(&self.keys)
    }

    /// The bytes of the table's file.
    pub(super) fn file_bytes(&mut self) -> Result<u64> {
        let doing = "ask for a table's file";
        let question = format!(
            "SELECT file_size FROM information_schema.innodb_sys_tablespaces WHERE name = CONCAT(DATABASE(), '/{}')",
            self.name
        );
        let bytes: Option<u64> = self.connection.query_first(question).doing(doing)?;
        bytes.ok_or_else(|| Error::new(doing, "it has none"))
    }

    /// How many of these rows are found by their keys, one question each, and are the right ones.
    pub(super) fn find(&mut self, rows: &[u64]) -> Result<u64> {
        let mut right = 0;
        for &row in rows {
            let question = format!("SELECT age, pad FROM {} WHERE id = {}", self.name, self.keys.literal(row));
            let found: Option<(u32, Vec<u8>)> = self.connection.query_first(question).doing("read a row by its key")?;
            right += u64::from(found == Some((self.rows.age(row), self.rows.pad(row).into_bytes())));
        }
        Ok(right)
    }

    /// Reads `count` rows in the order of their keys, from the key of this row on. Returns how many there were.
    pub(super) fn walk(&mut self, from: u64, count: u64) -> Result<u64> {
        let from = self.keys.literal(from);
        let range =
            format!("SELECT pad FROM {} FORCE INDEX (PRIMARY) WHERE id >= {from} ORDER BY id LIMIT {count}", self.name);
        self.read(&range)
    }

    /// Reads `count` rows that were inserted one after the other, from this row on. Returns how many there were.
    pub(super) fn fetch(&mut self, from: u64, count: u64) -> Result<u64> {
        let keys: Vec<String> = (from..from + count).map(|row| self.keys.literal(row)).collect();
        self.read(&format!("SELECT pad FROM {} FORCE INDEX (PRIMARY) WHERE id IN ({})", self.name, keys.join(",")))
    }

    fn read(&mut self, rows: &str) -> Result<u64> {
        let question = format!("SELECT COUNT(*), SUM(LENGTH(pad)) FROM ({rows}) AS page");
        let found: Option<(u64, Option<u64>)> = self.connection.query_first(question).doing("read a table's rows")?;
        Ok(found.map_or(0, |(count, _)| count))
    }
}

//! The table that everything is measured on: the first prototype's columns, with two indexes to sort by.

use mysql::prelude::Queryable;

use crate::{Direction, Query, Row};
use lab::service::MariaDb;
use lab::{Doing, Error, Progress, Result};

/// A table of people, numbered from 1.
#[derive(Debug, Clone)]
pub struct People {
    /// What it is called.
    pub table: String,
    pub rows: u64,
}

/// An order of people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Id,
    /// The newest first: nearly a key, and in no relation to the primary key.
    Newest,
    /// By age: 73 ages for everybody.
    Age,
    /// By age, in each age the newest first: mixed directions.
    AgeNewest,
    /// Who was seen last comes first; who never was, comes last.
    LastSeen,
}

impl Order {
    /// What a reader calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Id => "by id",
            Self::Newest => "newest first",
            Self::Age => "by age",
            Self::AgeNewest => "by age, newest first",
            Self::LastSeen => "last seen first",
        }
    }
}

/// The first column of a row that somebody read.
pub(super) fn id(row: &Row) -> Option<u64> {
    mysql::from_value_opt(row.first()?.clone()).ok()
}

/// A private server whose buffer pool has this size; nobody else's work is in its counters.
pub fn server(pool: &str) -> Result<MariaDb> {
    MariaDb::with("innodb_buffer_pool_size", pool).start()
}

/// Rows of one INSERT.
const ROWS_AT_ONCE: u64 = 500_000;
/// Up to here, three statements less are worth more than indexes that are built from sorted rows.
const FEW_ROWS: u64 = 20_000;
/// What a list of people can be sorted by.
const INDEXES: [&str; 3] = ["by_newest (created_at)", "by_age (age)", "by_age_newest (age, created_at DESC)"];

/// So many people, who differ by seed and number alone.
pub fn people(server: &MariaDb, rows: u64, seed: u64) -> Result<People> {
    if rows == 0 {
        return Err(Error::new("make a table of people", "it would be empty"));
    }
    let doing = || format!("make a table of {rows} people");
    let table = format!("people_{:x}", rand::random::<u64>());
    let mut connection = server.connect()?;
    // The table is made anew whenever it is needed; a server of one's own may not allow this, and takes longer then.
    let _ = connection.query_drop("SET SESSION sql_log_bin = 0");
    let few = rows <= FEW_ROWS;
    let keys: String = INDEXES.iter().filter(|_| few).map(|index| format!(", KEY {index}")).collect();
    connection
        .query_drop(format!(
            "CREATE TABLE {table} (id BIGINT UNSIGNED NOT NULL PRIMARY KEY, name VARCHAR(60) NOT NULL, \
             age TINYINT UNSIGNED NOT NULL, email VARCHAR(80) NOT NULL, created_at DATETIME NOT NULL, \
             seen_at DATETIME NULL{keys})"
        ))
        .doing(doing())?;
    let digits: Vec<String> = (0..1_000).map(|n| format!("({n})")).collect();
    connection.query_drop("CREATE TEMPORARY TABLE hi (n INT PRIMARY KEY)").doing(doing())?;
    connection.query_drop("CREATE TEMPORARY TABLE lo (n INT PRIMARY KEY)").doing(doing())?;
    for name in ["hi", "lo"] {
        connection.query_drop(format!("INSERT INTO {name} VALUES {}", digits.join(","))).doing(doing())?;
    }
    let mut progress = Progress::new(format!("inserting {rows} people"), rows);
    let mut from = 0;
    while from < rows {
        let to = rows.min(from + ROWS_AT_ONCE);
        let random = |what: &str| format!("CRC32(CONCAT('{what}:{seed}:', id))");
        connection
            .query_drop(format!(
                "INSERT INTO {table} SELECT id, CONCAT('person ', HEX({})), 18 + {} % 73, \
                 CONCAT('p', id, '@', HEX({}), '.example'), '2024-01-01' + INTERVAL {created} % 31536000 SECOND, \
                 IF({seen} % 3 = 0, NULL, '2025-01-01' + INTERVAL {seen} % 8640 HOUR) \
                 FROM (SELECT {from} + hi.n * 1000 + lo.n + 1 AS id FROM hi STRAIGHT_JOIN lo \
                 WHERE hi.n * 1000 + lo.n < {}) AS numbers",
                random("name"),
                random("age"),
                random("email"),
                to - from,
                created = random("created"),
                seen = random("seen"),
            ))
            .doing(doing())?;
        progress.advance(to - from);
        from = to;
    }
    drop(progress);
    if !few {
        let mut progress = Progress::new("building its indexes", INDEXES.len() as u64);
        for index in INDEXES {
            connection.query_drop(format!("ALTER TABLE {table} ADD INDEX {index}")).doing(doing())?;
            progress.step();
        }
    }
    // The optimiser decides by statistics; these are of the table as it is.
    connection.query_drop(format!("ANALYZE TABLE {table}")).doing(doing())?;
    Ok(People { table, rows })
}

impl People {
    /// Everybody, in an order.
    pub fn query(&self, order: Order) -> Query {
        let query = Query::on(&self.table);
        match order {
            Order::Id => query,
            Order::Newest => query.order_by("created_at", Direction::Desc),
            Order::Age => query.order_by("age", Direction::Asc),
            Order::AgeNewest => query.order_by("age", Direction::Asc).order_by("created_at", Direction::Desc),
            Order::LastSeen => query.order_by("seen_at", Direction::Desc),
        }
    }

    /// The same order as SQL, written by hand, to check the pager against.
    pub(super) fn order_by(order: Order) -> &'static str {
        match order {
            Order::Id => "id",
            Order::Newest => "created_at DESC, id DESC",
            Order::Age => "age, id",
            Order::AgeNewest => "age, created_at DESC, id",
            Order::LastSeen => "seen_at DESC, id DESC",
        }
    }
}

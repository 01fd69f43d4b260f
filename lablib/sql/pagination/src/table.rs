//! A query looked up in the database: which columns there are, what a page is sorted by, and whether that can be paged.

use mysql::prelude::Queryable;
use mysql::{Conn, Value};
use sha2::{Digest, Sha256};

use super::Skip;
use super::cursor::Fingerprint;
use super::query::{Direction, Query};
use super::value::write;
use lab::{Doing, Error, Result};

/// Longer values cannot be indexed whole, so that no page of them is found by its key.
const LONGEST_KEY: u64 = 3_072;
/// More rows than this in one page are a mistake.
const MOST_ROWS: u64 = 10_000_000;
/// What an index of InnoDB holds, and what a cursor can carry.
const MOST_COLUMNS: usize = 16;
const OPENING: &str = "open a pager";

/// A column that has a part in the order.
#[derive(Debug, Clone)]
pub(super) struct KeyColumn {
    /// Quoted.
    pub name: String,
    pub direction: Direction,
    pub nullable: bool,
    /// What stands in a statement for a value of it.
    pub parameter: String,
    /// The column's place in a row of the answer.
    pub index: usize,
}

/// A query whose every name is one of the table's.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Quoted.
    pub table: String,
    /// The columns of a page's rows, as the table calls them.
    pub columns: Vec<String>,
    /// All columns of an answer, quoted: those of a page's rows, then those of the order that are not among them.
    pub read: Vec<String>,
    /// The order: total, unless the tie breaker was left out.
    pub key: Vec<KeyColumn>,
    /// The primary key, quoted.
    pub primary: Vec<String>,
    /// Column (quoted), value, and what stands for it.
    pub filters: Vec<(String, Value, String)>,
    pub fingerprint: Fingerprint,
    pub page_size: u64,
}

/// A column as the database describes it.
#[derive(Debug)]
struct Column {
    name: String,
    kind: String,
    full_type: String,
    nullable: bool,
    octets: Option<u64>,
    collation: Option<String>,
    digits: Option<(u64, u64)>,
}

impl Plan {
    pub(super) fn of(query: &Query, connection: &mut Conn, skip: Option<Skip>) -> Result<Self> {
        if query.page_size == 0 {
            return Err(refuse("a page of 0 rows never gets anywhere").remedy("ask for 1 row or more"));
        }
        if query.page_size > MOST_ROWS {
            let cause = format!("a page of {} rows is too large", query.page_size);
            return Err(refuse(&cause).remedy(format!("ask for {MOST_ROWS} or fewer")));
        }
        let table = Table::look_up(connection, &query.table)?;
        let columns: Vec<&Column> = match query.columns.as_slice() {
            [] => table.columns.iter().collect(),
            names => names.iter().map(|name| table.column(name)).collect::<Result<_>>()?,
        };
        let order = table.total_order(query, skip)?;
        if order.len() > MOST_COLUMNS {
            return Err(refuse(&format!(
                "an order by {} columns is more than the {MOST_COLUMNS} of an index",
                order.len()
            )));
        }
        let mut read: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
        let mut key = Vec::new();
        for (column, direction) in &order {
            column.check_sortable()?;
            let name = quoted(&column.name);
            let index = read.iter().position(|known| *known == name).unwrap_or_else(|| {
                read.push(name.clone());
                read.len() - 1
            });
            let (direction, nullable) = (*direction, column.nullable);
            key.push(KeyColumn { name, direction, nullable, parameter: column.parameter(), index });
        }
        let filter = |(name, value): &(String, Value)| {
            let column = table.column(name)?;
            Ok((quoted(&column.name), value.clone(), column.parameter()))
        };
        let filters = query.filters.iter().map(filter).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            table: quoted(&table.name),
            columns: columns.iter().map(|column| column.name.clone()).collect(),
            read,
            primary: table.primary.iter().map(|name| quoted(name)).collect(),
            fingerprint: table.fingerprint(&order, &filters),
            key,
            filters,
            page_size: query.page_size,
        })
    }
}

struct Table {
    database: String,
    name: String,
    columns: Vec<Column>,
    primary: Vec<String>,
}

type Described = (String, String, String, String, Option<u64>, Option<String>, Option<u64>, Option<u64>);

impl Table {
    fn look_up(connection: &mut Conn, name: &str) -> Result<Self> {
        let database: Option<String> = connection.query_first("SELECT DATABASE()").doing(OPENING)?.flatten();
        let database =
            database.ok_or_else(|| refuse("no database is chosen").remedy("name one in the server's URL"))?;
        let columns: Vec<Described> = connection
            .exec(
                "SELECT column_name, LOWER(data_type), LOWER(column_type), is_nullable, \
                 CAST(character_octet_length AS UNSIGNED), collation_name, CAST(numeric_precision AS UNSIGNED), \
                 CAST(numeric_scale AS UNSIGNED) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ? \
                 ORDER BY ordinal_position",
                (name,),
            )
            .doing(OPENING)?;
        if columns.is_empty() {
            return Err(refuse(&format!("there is no table {name:?} in the database {database:?}")));
        }
        let primary: Vec<String> = connection
            .exec(
                "SELECT column_name FROM information_schema.statistics WHERE table_schema = DATABASE() \
                 AND table_name = ? AND index_name = 'PRIMARY' ORDER BY seq_in_index",
                (name,),
            )
            .doing(OPENING)?;
        if primary.is_empty() {
            let cause = format!("{name:?} has no primary key, and without one rows can share a place in the order");
            return Err(refuse(&cause).remedy("give the table a primary key"));
        }
        let column = |(name, kind, full_type, nullable, octets, collation, precision, scale): Described| Column {
            name,
            kind,
            full_type,
            nullable: nullable == "YES",
            octets,
            collation,
            digits: precision.zip(scale),
        };
        Ok(Self { database, name: name.into(), columns: columns.into_iter().map(column).collect(), primary })
    }

    fn column(&self, name: &str) -> Result<&Column> {
        self.columns
            .iter()
            .find(|column| column.name == name)
            .or_else(|| self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name)))
            .ok_or_else(|| refuse(&format!("{:?} has no column {name:?}", self.name)))
    }

    /// The order that was asked for, made total by the rest of the primary key. That rest goes the way of the first column,
    /// as it does in an index on the columns that were named.
    fn total_order(&self, query: &Query, skip: Option<Skip>) -> Result<Vec<(&Column, Direction)>> {
        let mut order: Vec<(&Column, Direction)> = Vec::new();
        for (name, direction) in &query.order {
            let column = self.column(name)?;
            if order.iter().any(|(known, _)| known.name == column.name) {
                return Err(refuse(&format!("{name:?} stands twice in the order")));
            }
            order.push((column, *direction));
        }
        if skip == Some(Skip::TieBreaker) && !order.is_empty() {
            return Ok(order);
        }
        let direction = order.first().map_or(Direction::Asc, |(_, direction)| *direction);
        for name in &self.primary {
            let column = self.column(name)?;
            if !order.iter().any(|(known, _)| known.name == column.name) {
                order.push((column, direction));
            }
        }
        Ok(order)
    }

    /// What a cursor belongs to: another order, another filter or another kind of column gives another fingerprint.
    fn fingerprint(&self, order: &[(&Column, Direction)], filters: &[(String, Value, String)]) -> Fingerprint {
        let mut bytes = Vec::new();
        let mut text = |text: &str| write(&Value::from(text), &mut bytes);
        text(&self.database);
        text(&self.name);
        for (column, direction) in order {
            text(&column.name);
            text(direction.sql());
            text(&column.full_type);
            text(column.collation.as_deref().unwrap_or_default());
        }
        text("where");
        // They hold all at once, so that it does not matter which was named first.
        let mut filters: Vec<_> = filters.iter().map(|(column, value, _)| (column, value)).collect();
        filters.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        for (column, value) in filters {
            write(&Value::from(column), &mut bytes);
            write(value, &mut bytes);
        }
        let digest = Sha256::digest(&bytes);
        std::array::from_fn(|index| digest[index])
    }
}

impl Column {
    /// Whether the server sorts by the value that it shows, and compares with it exactly.
    fn check_sortable(&self) -> Result<()> {
        let cause = match self.kind.as_str() {
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "year" | "decimal" | "float" | "double"
            | "date" | "datetime" | "timestamp" | "time" | "uuid" => return Ok(()),
            "char" | "varchar" | "binary" | "varbinary" => match self.octets {
                Some(octets) if octets > LONGEST_KEY => {
                    format!("it may hold {octets} bytes, and no index holds more than {LONGEST_KEY} of them")
                }
                _ => return Ok(()),
            },
            "enum" | "set" => "it is sorted by its number and shown by its name".into(),
            other => format!("values of type {} are not compared by their whole value", other.to_uppercase()),
        };
        Err(refuse(&format!("no order by {:?}: {cause}", self.name)).remedy("sort by another column"))
    }

    /// A parameter of the column's own kind: a decimal number compared with text would be compared as a rounded one.
    fn parameter(&self) -> String {
        match (self.kind.as_str(), self.digits) {
            ("decimal", Some((precision, scale))) => format!("CAST(? AS DECIMAL({precision},{scale}))"),
            ("binary" | "varbinary", _) => "CAST(? AS BINARY)".into(),
            _ => "?".into(),
        }
    }
}

fn refuse(cause: &str) -> Error {
    Error::new(OPENING, cause)
}

/// A name as SQL text.
fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

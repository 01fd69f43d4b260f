//! Which rows, and in which order.

use mysql::Value;

use super::value::shown;

/// Which way a column is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the smallest; NULL comes first.
    Asc,
    /// From the largest; NULL comes last.
    Desc,
}

impl Direction {
    /// The other one.
    pub fn reversed(self) -> Self {
        match self {
            Self::Asc => Self::Desc,
            Self::Desc => Self::Asc,
        }
    }

    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Asc => "ASC",
            Self::Desc => "DESC",
        }
    }
}

/// Rows of one table, in an order. Names are looked up in the table when a [`Pager`](super::Pager) is opened.
///
/// ```
/// use pagination::{Direction, Query};
///
/// let newest = Query::on("posts")
///     .select(["id", "title"])
///     .filter("author", 7)
///     .order_by("created_at", Direction::Desc)
///     .page_size(20);
/// assert_eq!(newest.to_string(), "posts where author = 7, by created_at DESC, 20 a page");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    pub(super) table: String,
    pub(super) columns: Vec<String>,
    pub(super) filters: Vec<(String, Value)>,
    pub(super) order: Vec<(String, Direction)>,
    pub(super) page_size: u64,
}

impl Query {
    /// All columns and rows of a table, by its primary key, a hundred a page.
    pub fn on(table: &str) -> Self {
        Self { table: table.into(), columns: Vec::new(), filters: Vec::new(), order: Vec::new(), page_size: 100 }
    }

    /// These columns only. Which columns are shown does not concern a cursor.
    pub fn select<T: Into<String>>(mut self, columns: impl IntoIterator<Item = T>) -> Self {
        self.columns = columns.into_iter().map(Into::into).collect();
        self
    }

    /// Only rows that have this value there; [`Value::NULL`] for those that have none.
    pub fn filter(mut self, column: &str, value: impl Into<Value>) -> Self {
        self.filters.push((column.into(), value.into()));
        self
    }

    /// Sorts by this column, after those that were named before. The columns of the primary key that are not named follow
    /// last, in the direction of the first.
    pub fn order_by(mut self, column: &str, direction: Direction) -> Self {
        self.order.push((column.into(), direction));
        self
    }

    /// Rows in a page, 1 or more. It does not concern a cursor: a reader may change it from page to page.
    pub fn page_size(mut self, rows: u64) -> Self {
        self.page_size = rows;
        self
    }
}

impl std::fmt::Display for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.table)?;
        for (index, (column, value)) in self.filters.iter().enumerate() {
            write!(f, " {} {column} = {}", if index == 0 { "where" } else { "and" }, shown(value))?;
        }
        for (index, (column, direction)) in self.order.iter().enumerate() {
            write!(f, "{} {column} {}", if index == 0 { ", by" } else { "," }, direction.sql())?;
        }
        write!(f, ", {} a page", self.page_size)
    }
}

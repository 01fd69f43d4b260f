//! Reads a query page by page.

use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, Opts, Params, Value};

use super::cursor::{Cursor, Position, Signer};
use super::query::Query;
use super::statement::Statement;
use super::table::Plan;
use super::value::shown;
use super::{Form, Skip};
use lab::service::{Counters, MariaDb, dial, is_lost};
use lab::{Doing, Error, Result};

/// The values of one row, in the order of [`Pager::columns`].
pub type Row = Vec<Value>;

/// How long a pager waits for an answer before it takes the server for gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// Rows, and the way on from them.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The rows, always in the query's own order.
    pub rows: Vec<Row>,
    /// Leads to the rows behind these; none where there were none when this page was read.
    pub next: Option<Cursor>,
    /// Leads to the rows before these; none where there were none when this page was read.
    pub previous: Option<Cursor>,
}

/// Reads one query page by page, over a connection of its own. Times are in UTC. Each page is read as the table is at that
/// moment.
///
/// ```
/// use lab::service;
/// use pagination::{Direction, Pager, Query, Signer};
///
/// let db = service::mysql();
/// db.execute("CREATE TABLE posts (id INT PRIMARY KEY, score INT NOT NULL, KEY (score))");
/// db.execute("INSERT INTO posts VALUES (1, 10), (2, 30), (3, 10), (4, 20), (5, 10)");
///
/// let best = Query::on("posts").order_by("score", Direction::Desc).page_size(2);
/// let mut pager = Pager::open(&db, &best, &Signer::random()).unwrap();
/// let ids = |page: &pagination::Page| -> Vec<i64> {
///     page.rows.iter().map(|row| pagination::from_value(row[0].clone())).collect()
/// };
///
/// let first = pager.first().unwrap();
/// assert_eq!(ids(&first), [2, 4]);
/// let second = pager.after(first.next.unwrap()).unwrap();
/// assert_eq!(ids(&second), [5, 3]);
/// assert_eq!(ids(&pager.before(second.previous.unwrap()).unwrap()), [2, 4]);
/// ```
#[derive(Debug)]
pub struct Pager {
    address: Address,
    connection: Option<Conn>,
    plan: Plan,
    signer: Signer,
    form: Form,
    skip: Option<Skip>,
}

/// How to reach the server again. The URL holds a password.
#[derive(Clone)]
struct Address {
    name: String,
    url: String,
    patience: Duration,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Pager {
    /// Connects, looks the query's names up, and refuses what cannot be paged.
    pub fn open(server: &MariaDb, query: &Query, signer: &Signer) -> Result<Self> {
        Self::open_without(server, query, signer, None)
    }

    /// As [`open`](Self::open), with a step left out.
    pub fn open_without(server: &MariaDb, query: &Query, signer: &Signer, skip: Option<Skip>) -> Result<Self> {
        let address = Address { name: server.name().into(), url: server.url().into(), patience: PATIENCE };
        let mut connection = address.connect()?;
        let plan = Plan::of(query, &mut connection, skip).map_err(|error| error.at(server.name()))?;
        let form = Form::default();
        Ok(Self { address, connection: Some(connection), plan, signer: signer.clone(), form, skip })
    }

    /// Says "behind this row" in another form; the rows are the same.
    pub fn comparing(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    /// Waits no longer than this for an answer; a minute unless this is called.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.address.patience = patience;
        self.connection = None;
        self
    }

    /// What the columns of a page's rows are called.
    pub fn columns(&self) -> &[String] {
        &self.plan.columns
    }

    /// The first page.
    pub fn first(&mut self) -> Result<Page> {
        self.by_key(None, false)
    }

    /// The last page: as many rows as a page has, up to the end.
    pub fn last(&mut self) -> Result<Page> {
        self.by_key(None, true)
    }

    /// The page that a cursor leads to, whichever way; the first where there is none.
    pub fn page<C: AsRef<str>>(&mut self, cursor: Option<C>) -> Result<Page> {
        let Some(cursor) = cursor else { return self.first() };
        let position = self.open_cursor(cursor.as_ref())?;
        let backwards = position.backwards;
        self.by_key(Some(position), backwards)
    }

    /// The page that a [`next`](Page::next) leads to.
    pub fn after(&mut self, next: impl AsRef<str>) -> Result<Page> {
        self.towards(next.as_ref(), false)
    }

    /// The page that a [`previous`](Page::previous) leads to.
    pub fn before(&mut self, previous: impl AsRef<str>) -> Result<Page> {
        self.towards(previous.as_ref(), true)
    }

    /// All pages from the first on, each by the cursor of the one before it.
    pub fn pages(&mut self) -> Pages<'_> {
        Pages { pager: self, to_come: Some(None) }
    }

    /// The page behind so many rows, by OFFSET: the server reads all of those and throws them away. Its cursors go on by key.
    pub fn offset(&mut self, rows: u64) -> Result<Page> {
        let statement = self.plan.by_offset(rows);
        self.counted_off(&statement, rows)
    }

    /// The page behind so many rows, by deferred join: what is thrown away are entries of an index, if one has all columns of
    /// order and filters, and not rows. Its cursors go on by key.
    pub fn deferred(&mut self, rows: u64) -> Result<Page> {
        let statement = self.plan.by_deferred_join(rows);
        self.counted_off(&statement, rows)
    }

    /// Does something, and says what that cost this pager's session by the server's own counters.
    pub fn counted<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<(T, Counters)> {
        let first = Counters::of_session(self.connection()?)?;
        let second = Counters::of_session(self.connection()?)?;
        let answer = work(self)?;
        let third = Counters::of_session(self.connection()?)?;
        Ok((answer, third.since(&second).since(&second.since(&first))))
    }

    /// How the server would read the page that a cursor leads to: its EXPLAIN, column by column.
    pub fn explain(&mut self, cursor: Option<&Cursor>) -> Result<Vec<(String, String)>> {
        let position = cursor.map(|cursor| self.open_cursor(cursor.as_str())).transpose()?;
        let backwards = position.as_ref().is_some_and(|position| position.backwards);
        let mut statement = self.plan.by_key(position.as_ref(), backwards, self.form)?;
        statement.sql.insert_str(0, "EXPLAIN ");
        let rows = self.ask(&statement)?;
        let Some(row) = rows.into_iter().next() else { return Ok(Vec::new()) };
        let names: Vec<String> = row.columns_ref().iter().map(|column| column.name_str().to_string()).collect();
        let values = row.unwrap().into_iter().map(|value| shown(&value));
        Ok(names.into_iter().zip(values).collect())
    }

    /// The statement of the page that a cursor leads to, as it is sent: with a `?` for every value.
    pub fn statement(&self, cursor: Option<&Cursor>) -> Result<String> {
        let position = cursor.map(|cursor| self.open_cursor(cursor.as_str())).transpose()?;
        let backwards = position.as_ref().is_some_and(|position| position.backwards);
        Ok(self.plan.by_key(position.as_ref(), backwards, self.form)?.sql)
    }

    fn open_cursor(&self, cursor: &str) -> Result<Position> {
        self.signer.open(cursor, &self.plan.fingerprint, self.skip)
    }

    fn towards(&mut self, cursor: &str, backwards: bool) -> Result<Page> {
        let position = self.open_cursor(cursor)?;
        if position.backwards != backwards {
            let (leads, asked) = if backwards { ("forwards", "before") } else { ("backwards", "behind") };
            let cause = format!("it leads {leads}, and the rows {asked} it were asked for");
            return Err(
                Error::new("read the cursor", cause).remedy("pass `next` to `after` and `previous` to `before`")
            );
        }
        self.by_key(Some(position), backwards)
    }

    fn by_key(&mut self, from: Option<Position>, backwards: bool) -> Result<Page> {
        let statement = self.plan.by_key(from.as_ref(), backwards, self.form)?;
        let mut rows = self.rows(&statement)?;
        let more = self.cut(&mut rows);
        if backwards {
            rows.reverse();
        }
        let onwards = match (more, if backwards { rows.first() } else { rows.last() }) {
            (true, Some(edge)) => Some(self.cursor_at(edge, backwards)?),
            _ => None,
        };
        // Where a reader came from there are rows, and they can be gone by now: then that page is empty, not this one wrong.
        let back = match (from, if backwards { rows.last() } else { rows.first() }) {
            (None, _) => None,
            (Some(_), Some(edge)) => Some(self.cursor_at(edge, !backwards)?),
            (Some(came), None) => {
                let turned = Position { backwards: !backwards, inclusive: !came.inclusive, values: came.values };
                Some(self.signer.seal(&turned, &self.plan.fingerprint)?)
            }
        };
        let rows = self.shown(rows);
        Ok(if backwards {
            Page { rows, next: back, previous: onwards }
        } else {
            Page { rows, next: onwards, previous: back }
        })
    }

    fn counted_off(&mut self, statement: &Statement, offset: u64) -> Result<Page> {
        let mut rows = self.rows(statement)?;
        let more = self.cut(&mut rows);
        let next = rows.last().filter(|_| more).map(|edge| self.cursor_at(edge, false)).transpose()?;
        let previous = rows.first().filter(|_| offset > 0).map(|edge| self.cursor_at(edge, true)).transpose()?;
        Ok(Page { rows: self.shown(rows), next, previous })
    }

    /// Takes the row off that only tells whether there is more.
    fn cut(&self, rows: &mut Vec<Row>) -> bool {
        let size = usize::try_from(self.plan.page_size).unwrap_or(usize::MAX);
        let more = rows.len() > size;
        rows.truncate(size);
        more
    }

    /// The rows without what was read for their place alone.
    fn shown(&self, mut rows: Vec<Row>) -> Vec<Row> {
        rows.iter_mut().for_each(|row| row.truncate(self.plan.columns.len()));
        rows
    }

    fn cursor_at(&self, row: &Row, backwards: bool) -> Result<Cursor> {
        let value = |index: usize| row.get(index).cloned().unwrap_or(Value::NULL);
        let values = self.plan.key.iter().map(|column| value(column.index)).collect();
        self.signer.seal(&Position { backwards, inclusive: false, values }, &self.plan.fingerprint)
    }

    fn rows(&mut self, statement: &Statement) -> Result<Vec<Row>> {
        Ok(self.ask(statement)?.into_iter().map(mysql::Row::unwrap).collect())
    }

    fn ask(&mut self, statement: &Statement) -> Result<Vec<mysql::Row>> {
        let doing = "read a page";
        let name = self.address.name.clone();
        let used_before = self.connection.is_some();
        let answer = self.try_ask(statement)?;
        match answer {
            // The server may have been away and back since the last page; reading again does no harm.
            Err(error) if used_before && is_lost(&error) && !took_too_long(&error) => self.try_ask(statement)?,
            answer => answer,
        }
        .map_err(|error| {
            let refused = Error::new(doing, &error).at(name);
            if is_lost(&error) {
                refused.remedy("a cursor stays good: go on with it once the server is back")
            } else {
                refused
            }
        })
    }

    fn try_ask(&mut self, statement: &Statement) -> Result<mysql::Result<Vec<mysql::Row>>> {
        let parameters = Params::Positional(statement.parameters.clone());
        let connection = self.connection()?;
        let answer = match statement.once {
            false => connection.exec(&statement.sql, parameters),
            true => connection.prep(&statement.sql).and_then(|prepared| {
                let rows = connection.exec(&prepared, parameters);
                connection.close(prepared).and(rows)
            }),
        };
        if answer.as_ref().is_err_and(is_lost) {
            self.connection = None;
        }
        Ok(answer)
    }

    fn connection(&mut self) -> Result<&mut Conn> {
        if self.connection.is_none() {
            self.connection = Some(self.address.connect()?);
        }
        self.connection.as_mut().ok_or_else(|| Error::new("read a page", "there is no connection"))
    }
}

impl Address {
    fn connect(&self) -> Result<Conn> {
        let doing = || "connect to the server".to_string();
        let opts = Opts::from_url(&self.url).doing(doing())?;
        let lost = |cause: mysql::Error| {
            Error::new(doing(), cause)
                .at(&self.name)
                .remedy("a cursor stays good: go on with it once the server is back")
        };
        let mut connection = dial(opts, self.patience).map_err(lost)?;
        // Local time repeats an hour every autumn. And a sort without an index looks at the first so many bytes only.
        connection.query_drop("SET SESSION time_zone = '+00:00', max_sort_length = 65536").map_err(lost)?;
        Ok(connection)
    }
}

fn took_too_long(error: &mysql::Error) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    matches!(error, mysql::Error::IoError(error) if matches!(error.kind(), TimedOut | WouldBlock))
}

/// The pages of a query, one after the other; it ends with the last page, or with an error.
#[derive(Debug)]
pub struct Pages<'a> {
    pager: &'a mut Pager,
    /// Where to go on: from the beginning or by a cursor; nothing where the end is reached.
    to_come: Option<Option<Cursor>>,
}

impl Iterator for Pages<'_> {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        let page = self.pager.page(self.to_come.take()?);
        if let Ok(page) = &page {
            self.to_come = page.next.clone().map(Some);
        }
        Some(page)
    }
}

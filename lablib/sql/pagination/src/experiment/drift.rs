//! Rows that come, go and move while a reader pages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use mysql::Conn;
use mysql::prelude::Queryable;

use super::depth::Way;
use super::people::{Order, People, id, people};
use crate::{Cursor, Pager, Signer};
use lab::service::MariaDb;
use lab::{Crowd, Doing, Error, Frame, Result, Rng};

/// A reader of the newest first, and a writer who disturbs.
#[derive(Debug, Clone, Copy)]
pub struct DriftSpec {
    pub rows: u64,
    pub page_size: u64,
    /// Rows that change between two pages.
    pub changes: u64,
    /// Of everything random.
    pub seed: u64,
}

/// The same changes between the pages of both readers, for each kind of change; and a writer who does not wait. A row for each: in which
/// `way` it was read, and what happened `meanwhile`; `pages` read; `changes`, rows inserted, deleted or moved; rows that `stayed` as and
/// where they were from the first page to the last, and of those, rows seen `twice` or more and `missed`; rows that moved and were seen
/// more than once (`moved twice`), or never (`moved missed`).
pub fn drift(server: &MariaDb, spec: DriftSpec) -> Result<Frame> {
    let mut found = Frame::new();
    let (all, half) = (spec.changes, spec.changes.div_ceil(2));
    for (what, inserts, deletes) in
        [("rows inserted", all, 0), ("rows deleted", 0, all), ("as many of both", half, half)]
    {
        for way in [Way::Offset, Way::Keyset] {
            let (mut reader, mut writer) = readers_and_writers(server, spec, way)?;
            while reader.read()? {
                writer.together(|writer| {
                    (0..all).try_for_each(|nth| {
                        if nth < inserts {
                            writer.insert()?;
                        }
                        if nth < deletes { writer.delete() } else { Ok(()) }
                    })
                })?;
            }
            found = found.stack(&reader.judge(what, &writer));
        }
    }
    [Way::Offset, Way::Keyset].into_iter().try_fold(found, |all, way| Ok(all.stack(&race(server, spec, way)?)))
}

fn readers_and_writers(server: &MariaDb, spec: DriftSpec, way: Way) -> Result<(Reader, Writer)> {
    let people = people(server, spec.rows, spec.seed)?;
    Ok((Reader::open(server, &people, way, spec.page_size)?, Writer::new(server, &people, spec.seed)?))
}

/// How long a reader waits for somebody else's change: no measurement, but the end of an experiment that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A writer who does not wait for anybody. The reader waits after each page until at least one more change is committed, so that a fast
/// reader on a slow disk is disturbed, too.
fn race(server: &MariaDb, spec: DriftSpec, way: Way) -> Result<Frame> {
    let (mut reader, writer) = readers_and_writers(server, spec, way)?;
    let (committed, changes) = channel();
    let read = || {
        while reader.read()? {
            changes.try_iter().for_each(drop);
            match changes.recv_timeout(PATIENCE) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => break, // the writer has failed, and the crowd says why
                Err(error) => return Err(Error::new("wait for a change", error)),
            }
        }
        Ok(())
    };
    let writing = Crowd::holding([(writer, committed)]).lasting(Duration::ZERO);
    let ((), wrote) = writing.during(read, |(writer, committed), _| {
        writer.insert()?;
        writer.delete()?;
        let _ = committed.send(()); // who has read everything waits for no more
        Ok(())
    })?;
    let judge = |(writer, _): &(Writer, _)| reader.judge("a writer who does not wait", writer);
    Ok(wrote.states.iter().map(judge).collect())
}

/// Rows whose sort key changes while a reader pages by key: some jump from what it has read to what it has not, as many the
/// other way. Returns what it saw, and how many jumped each way.
pub fn moved(server: &MariaDb, spec: DriftSpec) -> Result<(Frame, u64)> {
    let (mut reader, mut writer) = readers_and_writers(server, spec, Way::Keyset)?;
    let mut each_way = 0;
    for _ in 0..spec.rows / spec.page_size / 2 {
        reader.read()?;
    }
    // Once, in the middle: the newest come to the end, the oldest to the front.
    let unread: Vec<u64> = writer.there.iter().copied().filter(|id| !reader.seen.contains_key(id)).collect();
    let read: Vec<u64> = reader.seen.keys().copied().collect();
    writer.together(|writer| {
        for (from, year) in [(read, 1999), (unread, 2030)] {
            for id in from.into_iter().take(spec.changes as usize) {
                writer.touch(id, year)?;
                each_way += u64::from(year == 1999);
            }
        }
        Ok(())
    })?;
    while reader.read()? {}
    Ok((reader.judge("rows that move", &writer), each_way))
}

/// Reads page after page and notes every id.
struct Reader {
    pager: Pager,
    way: Way,
    page_size: u64,
    pages: u64,
    cursor: Option<Cursor>,
    seen: BTreeMap<u64, u64>,
}

impl Reader {
    fn open(server: &MariaDb, people: &People, way: Way, page_size: u64) -> Result<Self> {
        let query = people.query(Order::Newest).select(["id"]).page_size(page_size);
        let pager = Pager::open(server, &query, &Signer::random())?;
        Ok(Self { pager, way, page_size, pages: 0, cursor: None, seen: BTreeMap::new() })
    }

    /// Reads one page; whether there is more.
    fn read(&mut self) -> Result<bool> {
        let page = self.way.page(&mut self.pager, self.pages * self.page_size, self.cursor.as_ref())?;
        self.pages += 1;
        for row in &page.rows {
            let id = id(row).ok_or_else(|| Error::new("read a page", "no id"))?;
            *self.seen.entry(id).or_default() += 1;
        }
        self.cursor = page.next;
        Ok(self.cursor.is_some())
    }

    fn judge(&self, what: &str, writer: &Writer) -> Frame {
        let times = |id: &u64| self.seen.get(id).copied().unwrap_or(0);
        let stayed: BTreeSet<u64> = writer.stayed.difference(&writer.moved).copied().collect();
        let count = |ids: &BTreeSet<u64>, which: fn(u64) -> bool| ids.iter().filter(|id| which(times(id))).count();
        let [twice, missed]: [fn(u64) -> bool; 2] = [|times| times > 1, |times| times == 0];
        [
            ("pages", self.pages),
            ("changes", writer.changes),
            ("stayed", stayed.len() as u64),
            ("twice", count(&stayed, twice) as u64),
            ("missed", count(&stayed, missed) as u64),
            ("moved twice", count(&writer.moved, twice) as u64),
            ("moved missed", count(&writer.moved, missed) as u64),
        ]
        .into_iter()
        .fold(Frame::new().text("meanwhile", [what]).text("way", [self.way]), |row, (name, count)| {
            row.counts(name, "", [count])
        })
    }
}

/// Inserts and deletes rows all over the order, and knows which ones have stayed.
struct Writer {
    connection: Conn,
    table: String,
    rng: Rng,
    next: u64,
    there: Vec<u64>,
    /// Rows of the start that are still there.
    stayed: BTreeSet<u64>,
    moved: BTreeSet<u64>,
    changes: u64,
}

impl Writer {
    fn new(server: &MariaDb, people: &People, seed: u64) -> Result<Self> {
        let there: Vec<u64> = (1..=people.rows).collect();
        Ok(Self {
            connection: server.connect()?,
            table: people.table.clone(),
            rng: Rng::seeded(seed, "drift"),
            next: people.rows + 1,
            stayed: there.iter().copied().collect(),
            there,
            moved: BTreeSet::new(),
            changes: 0,
        })
    }

    /// Several changes in one transaction.
    fn together(&mut self, changes: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.connection.query_drop("START TRANSACTION").doing("change rows")?;
        changes(self)?;
        self.connection.query_drop("COMMIT").doing("change rows")
    }

    fn insert(&mut self) -> Result<()> {
        let (table, id) = (&self.table, self.next);
        let sql = format!(
            "INSERT INTO {table} (id, name, age, email, created_at) \
             VALUES (?, 'new', 18, 'new@example', '2024-01-01' + INTERVAL ? SECOND)"
        );
        self.connection.exec_drop(sql, (id, self.rng.below(31_536_000))).doing("insert a row")?;
        self.there.push(id);
        self.next += 1;
        self.changes += 1;
        Ok(())
    }

    fn delete(&mut self) -> Result<()> {
        if self.there.is_empty() {
            return Ok(());
        }
        let id = self.there.swap_remove(self.rng.below(self.there.len() as u64) as usize);
        self.connection.exec_drop(format!("DELETE FROM {} WHERE id = ?", self.table), (id,)).doing("delete a row")?;
        self.stayed.remove(&id);
        self.changes += 1;
        Ok(())
    }

    fn touch(&mut self, id: u64, year: u64) -> Result<()> {
        let sql = format!("UPDATE {} SET created_at = CONCAT(?, '-01-01') WHERE id = ?", self.table);
        self.connection.exec_drop(sql, (year, id)).doing("move a row")?;
        self.moved.insert(id);
        self.changes += 1;
        Ok(())
    }
}

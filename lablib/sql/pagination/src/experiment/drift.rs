//! Rows that come, go and move while a reader pages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mysql::Conn;
use mysql::prelude::Queryable;

use super::people::{Order, People, people};
use crate::{Cursor, Page, Pager, Signer};
use lab::chart::{Bars, Chart};
use lab::service::MariaDb;
use lab::{Doing, Error, Frame, Result, Rng, joined};

/// What happens to the table between two pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drift {
    Inserts,
    Deletes,
    Both,
}

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

const BY_KEY: &str = "keyset";
const BY_OFFSET: &str = "OFFSET";

/// The same changes between the pages of both readers, for each kind of change; and a writer who does not wait. A row for each: in which
/// `way` it was read, and what happened `meanwhile`; `pages` read; `changes`, rows inserted, deleted or moved; rows that `stayed` as and
/// where they were from the first page to the last, and of those, rows seen `twice` or more and `missed`; rows that moved and were seen
/// more than once (`moved twice`), or never (`moved missed`).
pub fn drift(server: &MariaDb, spec: DriftSpec) -> Result<Frame> {
    let mut found = Frame::new();
    for (drift, what) in
        [(Drift::Inserts, "rows inserted"), (Drift::Deletes, "rows deleted"), (Drift::Both, "as many of both")]
    {
        for way in [BY_OFFSET, BY_KEY] {
            let people = people(server, spec.rows, spec.seed)?;
            let mut writer = Writer::new(server, &people, spec.seed)?;
            let mut reader = Reader::open(server, &people, way, spec.page_size)?;
            while reader.read()? {
                // Half as many of each where there are both.
                let each = if drift == Drift::Both { spec.changes.div_ceil(2) } else { spec.changes };
                writer.together(|writer| {
                    (0..each).try_for_each(|_| {
                        if drift != Drift::Deletes {
                            writer.insert()?;
                        }
                        if drift != Drift::Inserts { writer.delete() } else { Ok(()) }
                    })
                })?;
            }
            found = found.stack(&reader.judge(what, &writer));
        }
    }
    [BY_OFFSET, BY_KEY].into_iter().try_fold(found, |all, way| Ok(all.stack(&race(server, spec, way)?)))
}

/// A writer in a thread of its own, who does not wait for anybody. The reader waits after each page until at
/// least one more change is committed, so that a fast reader on a slow disk is disturbed, too.
fn race(server: &MariaDb, spec: DriftSpec, way: &str) -> Result<Frame> {
    let people = people(server, spec.rows, spec.seed)?;
    let mut writer = Writer::new(server, &people, spec.seed)?;
    let mut reader = Reader::open(server, &people, way, spec.page_size)?;
    let (over, changes) = (AtomicBool::new(false), AtomicU64::new(0));
    let (read, written) = std::thread::scope(|scope| {
        let writing = scope.spawn(|| -> Result<()> {
            let written = (|| {
                while !over.load(Ordering::Acquire) {
                    writer.insert()?;
                    writer.delete()?;
                    changes.fetch_add(1, Ordering::Release);
                }
                Ok(())
            })();
            // A reader who waits for a writer that has failed would wait for ever.
            over.store(true, Ordering::Release);
            written
        });
        let mut go = || -> Result<()> {
            let mut seen = 0;
            while reader.read()? {
                while changes.load(Ordering::Acquire) == seen && !over.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
                seen = changes.load(Ordering::Acquire);
            }
            Ok(())
        };
        let read = go();
        over.store(true, Ordering::Release);
        (read, joined("write while somebody reads", writing.join()))
    });
    read?;
    written?;
    Ok(reader.judge("a writer who does not wait", &writer))
}

/// Rows whose sort key changes while a reader pages by key: some jump from what it has read to what it has not, as many the
/// other way. Returns what it saw, and how many jumped each way.
pub fn moved(server: &MariaDb, spec: DriftSpec) -> Result<(Frame, u64)> {
    let people = people(server, spec.rows, spec.seed)?;
    let mut writer = Writer::new(server, &people, spec.seed)?;
    let mut reader = Reader::open(server, &people, BY_KEY, spec.page_size)?;
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
    way: &'static str,
    page_size: u64,
    pages: u64,
    cursor: Option<Cursor>,
    seen: BTreeMap<u64, u64>,
}

impl Reader {
    fn open(server: &MariaDb, people: &People, way: &str, page_size: u64) -> Result<Self> {
        let query = people.query(Order::Newest).select(["id"]).page_size(page_size);
        let pager = Pager::open(server, &query, &Signer::random())?;
        let way = if way == BY_KEY { BY_KEY } else { BY_OFFSET };
        Ok(Self { pager, way, page_size, pages: 0, cursor: None, seen: BTreeMap::new() })
    }

    /// Reads one page; whether there is more.
    fn read(&mut self) -> Result<bool> {
        let page: Page = match self.way {
            BY_KEY => self.pager.page(self.cursor.as_ref())?,
            _ => self.pager.offset(self.pages * self.page_size)?,
        };
        self.pages += 1;
        for row in &page.rows {
            let id = row.first().and_then(|id| id.as_int()).ok_or_else(|| Error::new("read a page", "no id"))?;
            *self.seen.entry(id as u64).or_default() += 1;
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

/// Rows seen twice and rows missed, by what happened and by way.
pub fn drift_chart(title: &str, found: &Frame) -> Bars {
    let mut chart = Chart::bars(title).y("rows that did not move", "").horizontal();
    for what in found.distinct("meanwhile") {
        chart = chart.group(&what);
        for drifted in found.filter("meanwhile", &what).rows() {
            let (way, twice, missed) = (drifted.text("way"), drifted.number("twice"), drifted.number("missed"));
            chart = match way.as_str() {
                BY_KEY => chart.bar("by key: either", twice + missed),
                way => chart.bar(format!("{way}: seen twice"), twice).bar(format!("{way}: missed"), missed),
            };
        }
    }
    chart
}

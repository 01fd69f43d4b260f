//! Both prototypes' benchmarks as they were, and the same with equal work.

use mysql::Conn;
use mysql::prelude::Queryable;

use super::people::{Order, People};
use crate::prototype;
use crate::{Pager, Signer};
use lab::service::MariaDb;
use lab::{Doing, Error, Frame, Result, Trial};

const OFFSET: &str = "OFFSET";
const BY_KEY: &str = "by key";

/// One benchmark. Arms: `OFFSET` and `by key`; figures: `rows` that came back, and `seconds`.
#[derive(Debug, Clone)]
pub struct Unequal {
    /// As the prototype had it.
    pub published: Trial<&'static str>,
    /// With equal work.
    pub fair: Trial<&'static str>,
}

/// The first prototype at its deepest page: a page by OFFSET against one row by key, each over a new connection.
pub fn first_prototype(server: &MariaDb, people: &People, page_size: u64, rounds: usize) -> Result<Unequal> {
    let last = people.rows / page_size;
    let depth = (last - 1) * page_size;
    let offset = prototype::first_offset(&people.table, last, page_size);
    let by_key = prototype::first_keyset(&people.table, depth, page_size);
    let published = as_published(server, &offset, &by_key, rounds)?;
    Ok(Unequal { published, fair: fair(server, people, page_size, depth, rounds)? })
}

/// The second prototype at its deepest offset: five sixths of the table skipped, and then a sixth of it by OFFSET against a
/// hundred rows by key. With equal work, both arms fetch a hundred.
pub fn second_prototype(server: &MariaDb, people: &People, rounds: usize) -> Result<Unequal> {
    let (many, few) = (people.rows / 6, 100);
    let offset = prototype::second_offset(&people.table, 5 * many, many);
    let by_key = prototype::second_cursor(&people.table, 5 * many, few);
    let published = as_published(server, &offset, &by_key, rounds)?;
    Ok(Unequal { published, fair: fair(server, people, few, 5 * many, rounds)? })
}

fn as_published(server: &MariaDb, offset: &str, by_key: &str, rounds: usize) -> Result<Trial<&'static str>> {
    Trial::over([OFFSET, BY_KEY], rounds).run(|arm, _, figures| {
        // A connection inside the timing, as there.
        let mut connection: Conn = server.connect()?;
        let sql = if *arm == OFFSET { offset } else { by_key };
        let rows: Vec<mysql::Row> = connection.query(sql).doing("repeat a prototype's statement")?;
        figures.push("rows", "", rows.len() as f64);
        Ok(())
    })
}

/// The same depth with equal work: the same rows, in an order, over connections that are open.
fn fair(server: &MariaDb, people: &People, rows: u64, depth: u64, rounds: usize) -> Result<Trial<&'static str>> {
    let (query, signer) = (people.query(Order::Id).page_size(rows), Signer::random());
    let mut pager = Pager::open(server, &query, &signer)?;
    let missing = || Error::new("compare pages", "there is no page before this one");
    let cursor = pager.deferred(depth.checked_sub(rows).ok_or_else(missing)?)?.next.ok_or_else(missing)?;
    Trial::over([OFFSET, BY_KEY], rounds).open(|_| Pager::open(server, &query, &signer)).run(|arm, pager, figures| {
        let page = if *arm == OFFSET { pager.offset(depth) } else { pager.after(&cursor) }?;
        let ids = page.rows.iter().filter_map(|row| row.first().and_then(|id| id.as_int()));
        figures.push("rows", "", page.rows.len() as f64);
        figures.work("checksum", ids.fold(0_u64, |sum, id| sum.wrapping_mul(31).wrapping_add(id as u64)));
        Ok(())
    })
}

impl Unequal {
    /// Rows that came back by OFFSET, and by key, as published.
    pub fn rows(&self) -> [f64; 2] {
        [OFFSET, BY_KEY].map(|arm| self.published.samples(&arm, "rows").median())
    }

    /// Rows of each arm with equal work.
    pub fn fair_rows(&self) -> f64 {
        self.fair.samples(&OFFSET, "rows").median()
    }

    /// As published, and with equal work: rows, median times, and the median of the rounds' ratios.
    pub fn frame(&self, prototype: &str) -> Frame {
        let both = [("as published", &self.published), ("equal work", &self.fair)];
        let median = |arm: &'static str, figure: &str, scale: f64| {
            both.map(|(_, trial)| trial.samples(&arm, figure).median() * scale)
        };
        Frame::new()
            .text("prototype", [prototype; 2])
            .text("work", both.map(|(words, _)| words))
            .numbers("page by OFFSET", "rows", median(OFFSET, "rows", 1.0))
            .numbers("page by key", "rows", median(BY_KEY, "rows", 1.0))
            .numbers("time by OFFSET", "ms", median(OFFSET, "seconds", 1e3))
            .numbers("time by key", "ms", median(BY_KEY, "seconds", 1e3))
            .numbers("ratio", "×", both.map(|(_, trial)| trial.ratio("seconds", &OFFSET, &BY_KEY).median()))
    }
}

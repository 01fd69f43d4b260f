//! Both prototypes' benchmarks as they were, and the same with equal work.

use std::cell::{Cell, RefCell};

use mysql::Conn;
use mysql::prelude::Queryable;

use super::people::{Order, People};
use crate::pagination::seed;
use crate::pagination::{Page, Pager, Signer};
use lab::service::MariaDb;
use lab::{Doing, Error, OrFail, Race, Result, Samples, Table};

/// One benchmark, as published and with equal work.
#[derive(Debug, Clone)]
pub struct Unequal {
    /// Rows that came back by OFFSET, and by key.
    pub rows: (u64, u64),
    /// Seconds by OFFSET, and by key, as the prototype had it.
    pub published: (Samples, Samples),
    /// Rows of each arm with equal work.
    pub fair_rows: u64,
    /// Seconds with equal work.
    pub fair: (Samples, Samples),
}

/// The first prototype at its deepest page: a page by OFFSET against one row by key, each over a new connection.
pub fn first_prototype(server: &MariaDb, people: &People, page_size: u64, rounds: usize) -> Unequal {
    let run = || -> Result<Unequal> {
        let last = people.rows / page_size;
        let key = (last - 1) * page_size;
        let offset = seed::first_offset(&people.table, last, page_size);
        let keyset = seed::first_keyset(&people.table, key, page_size);
        as_published(server, &offset, &keyset, rounds)?.fair(server, people, page_size, (last - 1) * page_size, rounds)
    };
    run().or_fail()
}

/// The second prototype at its deepest offset: five sixths of the table skipped, and then a sixth of it by OFFSET against a
/// hundred rows by key. With equal work, both arms fetch a hundred.
pub fn second_prototype(server: &MariaDb, people: &People, rounds: usize) -> Unequal {
    let run = || -> Result<Unequal> {
        let (many, few) = (people.rows / 6, 100);
        let offset = seed::second_offset(&people.table, 5 * many, many);
        let cursor = seed::second_cursor(&people.table, 5 * many, few);
        as_published(server, &offset, &cursor, rounds)?.fair(server, people, few, 5 * many, rounds)
    };
    run().or_fail()
}

fn as_published(server: &MariaDb, offset: &str, keyset: &str, rounds: usize) -> Result<Unequal> {
    let fetch = |sql: &str| -> Result<u64> {
        // A connection inside the timing, as there.
        let mut connection: Conn = server.connect()?;
        let rows: Vec<mysql::Row> = connection.query(sql).doing("repeat a prototype's statement")?;
        Ok(rows.len() as u64)
    };
    let rows = (fetch(offset)?, fetch(keyset)?);
    // A race refuses arms of unequal work, which is its point; told that both "did one benchmark", it lets them run.
    let failed: RefCell<Option<Error>> = RefCell::default();
    let arm = |sql: &str, expected: u64| match fetch(sql) {
        Ok(rows) if rows == expected => 1,
        Ok(_) => 0,
        Err(error) => {
            failed.borrow_mut().get_or_insert(error);
            0
        }
    };
    let raced = Race::of(rounds).arm("offset", || arm(offset, rows.0)).arm("keyset", || arm(keyset, rows.1)).try_run();
    if let Some(error) = failed.take() {
        return Err(error);
    }
    let raced = raced?;
    let published = (raced.seconds("offset"), raced.seconds("keyset"));
    Ok(Unequal { rows, published, fair_rows: 0, fair: Default::default() })
}

impl Unequal {
    /// The same depth with equal work: the same rows, in an order, over connections that are open.
    fn fair(mut self, server: &MariaDb, people: &People, rows: u64, depth: u64, rounds: usize) -> Result<Self> {
        let query = people.query(Order::Id).page_size(rows);
        let signer = Signer::random();
        let mut by_offset = Pager::open(server, &query, &signer)?;
        let mut by_key = Pager::open(server, &query, &signer)?;
        let missing = || Error::new("compare pages", "there is no page before this one");
        let cursor = by_offset.deferred(depth.checked_sub(rows).ok_or_else(missing)?)?.next.ok_or_else(missing)?;
        let failed: RefCell<Option<Error>> = RefCell::default();
        let returned = Cell::new(0);
        // The work is a checksum of the rows: the race ends if the arms do not see the same ones.
        let note = |page: Result<Page>| match page {
            Ok(page) => {
                returned.set(page.rows.len() as u64);
                let ids = page.rows.iter().filter_map(|row| row.first().and_then(|id| id.as_int()));
                ids.fold(0_u64, |sum, id| sum.wrapping_mul(31).wrapping_add(id as u64))
            }
            Err(error) => {
                failed.borrow_mut().get_or_insert(error);
                0
            }
        };
        let raced = Race::of(rounds)
            .arm("offset", || note(by_offset.offset(depth)))
            .arm("keyset", || note(by_key.after(&cursor)))
            .try_run();
        if let Some(error) = failed.take() {
            return Err(error);
        }
        let raced = raced?;
        self.fair_rows = returned.get();
        self.fair = (raced.seconds("offset"), raced.seconds("keyset"));
        Ok(self)
    }

    /// How many times as long OFFSET took in the prototype's way, one sample a round.
    pub fn published_ratio(&self) -> Samples {
        ratio(&self.published)
    }

    /// How many times as long OFFSET takes when both fetch the same rows, one sample a round.
    pub fn fair_ratio(&self) -> Samples {
        ratio(&self.fair)
    }
}

/// As published, and with equal work.
pub fn unequal_table(both: &[(&str, &Unequal)]) -> Table {
    let mut columns: [Vec<f64>; 5] = Default::default();
    let (mut names, mut what) = (Vec::new(), Vec::new());
    for (name, unequal) in both {
        let fair = (unequal.fair_rows, unequal.fair_rows);
        for (words, rows, seconds, ratio) in [
            ("as published", unequal.rows, &unequal.published, unequal.published_ratio()),
            ("equal work", fair, &unequal.fair, unequal.fair_ratio()),
        ] {
            names.push(*name);
            what.push(words);
            let milliseconds = [seconds.0.median() * 1e3, seconds.1.median() * 1e3];
            let row = [rows.0 as f64, rows.1 as f64, milliseconds[0], milliseconds[1], ratio.median()];
            columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
        }
    }
    let [many, few, slow, fast, ratio] = columns;
    Table::new("Both prototypes at their deepest page")
        .text("prototype", names)
        .text("", what)
        .numbers("page by OFFSET", "rows", many)
        .numbers("page by key", "rows", few)
        .numbers("time by OFFSET", "ms", slow)
        .numbers("time by key", "ms", fast)
        .numbers("ratio", "×", ratio)
}

fn ratio((slower, faster): &(Samples, Samples)) -> Samples {
    slower.values().iter().zip(faster.values()).map(|(slower, faster)| slower / faster).collect()
}

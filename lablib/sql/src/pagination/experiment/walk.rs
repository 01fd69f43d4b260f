//! Walks over all pages, checked row by row against one plain SELECT.

use mysql::prelude::Queryable;
use xxhash_rust::xxh3::xxh3_64;

use super::depth::WAYS;
use super::people::{Order, People};
use crate::pagination::{Pager, Row, Signer, Skip, Value};
use lab::chart::{Bars, Chart};
use lab::service::MariaDb;
use lab::{Doing, Progress, Result, Table};

/// A walk over all pages of an order.
#[derive(Debug, Clone)]
pub struct Walked {
    /// In which order.
    pub order: Order,
    /// In which way.
    pub way: &'static str,
    /// From the last page to the first.
    pub backwards: bool,
    /// Pages read.
    pub pages: u64,
    /// Rows read.
    pub rows: u64,
    /// Rows that there are.
    pub expected: u64,
    /// Places at which the walk has another row than the plain SELECT, or none, or one too many.
    pub wrong: u64,
    /// Rows seen more than once.
    pub twice: u64,
    /// Rows never seen.
    pub missing: u64,
}

/// What a row is told by: all of its values.
fn print_of(row: &Row) -> u64 {
    let mut bytes = Vec::with_capacity(128);
    row.iter().for_each(|value| value.write(&mut bytes));
    xxh3_64(&bytes)
}

/// The whole table in order, by one statement that knows nothing of pages.
fn truth(server: &MariaDb, people: &People, order: Order, columns: &str) -> Result<Vec<u64>> {
    let mut connection = server.connect()?;
    let sql = format!("SELECT {columns} FROM {} ORDER BY {}", people.table, People::order_by(order));
    let rows = connection.exec_iter(sql, ()).doing("read the whole table")?;
    rows.map(|row| {
        let row: mysql::Row = row.doing("read the whole table")?;
        Ok(print_of(&row.unwrap().into_iter().map(Value::from).collect()))
    })
    .collect()
}

/// All pages of each order, in all ways, forwards and backwards.
pub fn walk_all(server: &MariaDb, people: &People, orders: &[Order], page_size: u64) -> Result<Vec<Walked>> {
    let mut progress = Progress::new("walking over all pages", orders.len() as u64 * 6);
    let mut walks = Vec::new();
    for &order in orders {
        let truth = truth(server, people, order, "*")?;
        for (way, name) in WAYS.into_iter().enumerate() {
            for backwards in [false, true] {
                let mut pager = Pager::open(server, &people.query(order).page_size(page_size), &Signer::random())?;
                let pages = if way == 2 {
                    by_key(&mut pager, backwards)?
                } else {
                    counted_off(&mut pager, way, truth.len() as u64, page_size, backwards)?
                };
                walks.push(compare(order, name, backwards, &pages, &truth));
                progress.step();
            }
        }
    }
    Ok(walks)
}

/// All pages of each order by key alone, forwards and backwards; rows are told by their ids.
pub fn walk_by_key(server: &MariaDb, people: &People, orders: &[Order], page_size: u64) -> Result<Vec<Walked>> {
    let mut progress = Progress::new("walking over all pages by key", orders.len() as u64 * 2);
    let mut walks = Vec::new();
    for &order in orders {
        let truth = truth(server, people, order, "id")?;
        for backwards in [false, true] {
            let mut pager =
                Pager::open(server, &people.query(order).select(["id"]).page_size(page_size), &Signer::random())?;
            let pages = by_key(&mut pager, backwards)?;
            walks.push(compare(order, WAYS[2], backwards, &pages, &truth));
            progress.step();
        }
    }
    Ok(walks)
}

/// The same walk by key, forwards, without the primary key at the end of the order.
pub fn without_tie_breaker(server: &MariaDb, people: &People, order: Order, page_size: u64) -> Result<Walked> {
    let query = people.query(order).page_size(page_size);
    let mut pager = Pager::open_without(server, &query, &Signer::random(), Some(Skip::TieBreaker))?;
    let pages = by_key(&mut pager, false)?;
    Ok(compare(order, WAYS[2], false, &pages, &truth(server, people, order, "*")?))
}

/// Prints of the rows, page by page, in the order's own direction.
type Prints = Vec<Vec<u64>>;

fn by_key(pager: &mut Pager, backwards: bool) -> Result<Prints> {
    let mut prints: Prints = Vec::new();
    let mut page = if backwards { pager.last()? } else { pager.first()? };
    loop {
        prints.push(page.rows.iter().map(print_of).collect());
        let onwards = if backwards { page.previous } else { page.next };
        let Some(cursor) = onwards else { break };
        page = if backwards { pager.before(&cursor)? } else { pager.after(&cursor)? };
    }
    if backwards {
        prints.reverse();
    }
    Ok(prints)
}

fn counted_off(pager: &mut Pager, way: usize, rows: u64, page_size: u64, backwards: bool) -> Result<Prints> {
    let mut offsets: Vec<u64> = (0..rows.div_ceil(page_size)).map(|page| page * page_size).collect();
    if backwards {
        offsets.reverse();
    }
    let mut prints: Prints = Vec::new();
    for offset in offsets {
        let page = if way == 0 { pager.offset(offset)? } else { pager.deferred(offset)? };
        prints.push(page.rows.iter().map(print_of).collect());
    }
    if backwards {
        prints.reverse();
    }
    Ok(prints)
}

fn compare(order: Order, way: &'static str, backwards: bool, pages: &Prints, truth: &[u64]) -> Walked {
    let seen: Vec<u64> = pages.iter().flatten().copied().collect();
    let wrong = seen.iter().zip(truth).filter(|(seen, truth)| seen != truth).count() + seen.len().abs_diff(truth.len());
    let (mut sorted, mut all) = (seen.clone(), truth.to_vec());
    sorted.sort_unstable();
    all.sort_unstable();
    let twice = sorted.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64;
    let missing = all.iter().filter(|print| sorted.binary_search(print).is_err()).count() as u64;
    Walked {
        order,
        way,
        backwards,
        pages: pages.len() as u64,
        rows: seen.len() as u64,
        expected: truth.len() as u64,
        wrong: wrong as u64,
        twice,
        missing,
    }
}

/// A row an order: what its walks had wrong, by way.
pub fn walk_table(walks: &[Walked]) -> Table {
    let mut orders: Vec<Order> = walks.iter().map(|walk| walk.order).collect();
    orders.dedup();
    let of = |order: Order| walks.iter().filter(move |walk| walk.order == order);
    let mut table = Table::new("Every page, forwards and backwards, against one plain SELECT of the whole table")
        .text("order", orders.iter().map(|order| order.name()))
        .counts("walks", "", orders.iter().map(|&order| of(order).count() as u64))
        .counts("pages", "", orders.iter().map(|&order| of(order).map(|walk| walk.pages).sum()))
        .counts("rows compared", "", orders.iter().map(|&order| of(order).map(|walk| walk.rows).sum()));
    for way in WAYS {
        let faults = |&order: &Order| of(order).filter(|walk| walk.way == way).map(Walked::faults).sum();
        table = table.counts(way, "faults", orders.iter().map(faults));
    }
    table
}

impl Walked {
    /// Rows missing, doubled, or in another place.
    pub fn faults(&self) -> u64 {
        self.wrong + self.twice + self.missing
    }
}

/// Rows seen by some walks, each with what was predicted.
pub fn walk_chart(title: &str, walks: &[(&str, &Walked, u64)]) -> Bars {
    let mut chart = Chart::bars(title).y("rows that a reader saw", "");
    for (name, walk, predicted) in walks {
        chart = chart.bar(name, walk.rows).predicted(name, *predicted);
    }
    chart
}

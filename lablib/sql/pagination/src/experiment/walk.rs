//! Walks over all pages, checked row by row against one plain SELECT.

use mysql::prelude::Queryable;
use xxhash_rust::xxh3::xxh3_64;

use super::depth::Way;
use super::people::{Order, People};
use crate::value::write;
use crate::{Pager, Row, Signer, Skip};
use lab::service::MariaDb;
use lab::{Doing, Frame, Progress, Result};

/// What a row is told by: all of its values.
fn print_of(row: &Row) -> u64 {
    let mut bytes = Vec::with_capacity(128);
    row.iter().for_each(|value| write(value, &mut bytes));
    xxh3_64(&bytes)
}

/// The whole table in order, by one statement that knows nothing of pages.
fn truth(server: &MariaDb, people: &People, order: Order, columns: &str) -> Result<Vec<u64>> {
    let mut connection = server.connect()?;
    let sql = format!("SELECT {columns} FROM {} ORDER BY {}", people.table, People::order_by(order));
    let rows = connection.exec_iter(sql, ()).doing("read the whole table")?;
    rows.map(|row| {
        let row: mysql::Row = row.doing("read the whole table")?;
        Ok(print_of(&row.unwrap()))
    })
    .collect()
}

/// All pages of each order, in all ways, forwards and backwards. A row for each walk: its `order` and `way`, and whether from the last page
/// to the first (`backwards`, 1); `pages` and `rows` read, and rows that there are (`expected`); places at which it has another row than
/// the plain SELECT, or none, or one too many (`wrong`), rows seen more than once (`twice`) and never (`missing`), and all three (`faults`).
pub fn walk_all(server: &MariaDb, people: &People, orders: &[Order], page_size: u64) -> Result<Frame> {
    walks(server, people, orders, &Way::ALL, None, page_size)
}

/// All pages of each order by key alone, forwards and backwards; rows are told by their ids.
pub fn walk_by_key(server: &MariaDb, people: &People, orders: &[Order], page_size: u64) -> Result<Frame> {
    walks(server, people, orders, &[Way::Keyset], Some("id"), page_size)
}

fn walks(
    server: &MariaDb,
    people: &People,
    orders: &[Order],
    ways: &[Way],
    column: Option<&str>,
    page_size: u64,
) -> Result<Frame> {
    let mut progress = Progress::new("walking over all pages", (orders.len() * ways.len() * 2) as u64);
    let mut walks = Frame::new();
    for &order in orders {
        let truth = truth(server, people, order, column.unwrap_or("*"))?;
        let query = people.query(order).select(column).page_size(page_size);
        for &way in ways {
            for backwards in [false, true] {
                let mut pager = Pager::open(server, &query, &Signer::random())?;
                let pages = match way {
                    Way::Keyset => by_key(&mut pager, backwards)?,
                    _ => counted_off(&mut pager, way, truth.len() as u64, page_size, backwards)?,
                };
                walks = walks.stack(&compare(order, way, backwards, &pages, &truth));
                progress.step();
            }
        }
    }
    Ok(walks)
}

/// The same walk by key, forwards, without the primary key at the end of the order.
pub fn without_tie_breaker(server: &MariaDb, people: &People, order: Order, page_size: u64) -> Result<Frame> {
    let query = people.query(order).page_size(page_size);
    let mut pager = Pager::open_without(server, &query, &Signer::random(), Some(Skip::TieBreaker))?;
    let pages = by_key(&mut pager, false)?;
    Ok(compare(order, Way::Keyset, false, &pages, &truth(server, people, order, "*")?))
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

fn counted_off(pager: &mut Pager, way: Way, rows: u64, page_size: u64, backwards: bool) -> Result<Prints> {
    let mut prints = vec![Vec::new(); rows.div_ceil(page_size) as usize];
    let mut places: Vec<(usize, &mut Vec<u64>)> = prints.iter_mut().enumerate().collect();
    if backwards {
        places.reverse();
    }
    for (number, prints) in places {
        let page = way.page(pager, number as u64 * page_size, None)?;
        *prints = page.rows.iter().map(print_of).collect();
    }
    Ok(prints)
}

fn compare(order: Order, way: Way, backwards: bool, pages: &Prints, truth: &[u64]) -> Frame {
    let seen: Vec<u64> = pages.iter().flatten().copied().collect();
    let wrong = seen.iter().zip(truth).filter(|(seen, truth)| seen != truth).count() + seen.len().abs_diff(truth.len());
    let (mut sorted, mut all) = (seen.clone(), truth.to_vec());
    sorted.sort_unstable();
    all.sort_unstable();
    let twice = sorted.windows(2).filter(|pair| pair[0] == pair[1]).count();
    let missing = all.iter().filter(|print| sorted.binary_search(print).is_err()).count();
    [
        ("backwards", usize::from(backwards)),
        ("pages", pages.len()),
        ("rows", seen.len()),
        ("expected", truth.len()),
        ("wrong", wrong),
        ("twice", twice),
        ("missing", missing),
        ("faults", wrong + twice + missing),
    ]
    .into_iter()
    .fold(Frame::new().text("order", [order.name()]).text("way", [way]), |walk, (name, count)| {
        walk.counts(name, "", [count as u64])
    })
}

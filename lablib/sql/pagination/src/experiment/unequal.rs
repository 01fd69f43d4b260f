//! Both prototypes' benchmarks as they were, and the same with equal work.

use mysql::Conn;
use mysql::prelude::Queryable;

use super::depth::Way;
use super::people::{Order, People, id};
use crate::prototype;
use crate::{Pager, Signer};
use lab::service::MariaDb;
use lab::{Doing, Error, Result, Trial};

/// One benchmark, by OFFSET and by key. Figures: the `rows` that came back, and `seconds`.
#[derive(Debug, Clone)]
pub struct Unequal {
    /// As the prototype had it.
    pub published: Trial<Way>,
    /// With equal work.
    pub fair: Trial<Way>,
}

/// The first prototype at its deepest page: a page by OFFSET against one row by key, each over a new connection.
pub fn first_prototype(server: &MariaDb, people: &People, page_size: u64, rounds: usize) -> Result<Unequal> {
    let last = people.rows / page_size;
    let depth = (last - 1) * page_size;
    let offset = prototype::offset(&people.table, depth, page_size);
    let by_key = prototype::first_keyset(&people.table, depth, page_size);
    let published = as_published(server, &offset, &by_key, rounds)?;
    Ok(Unequal { published, fair: fair(server, people, page_size, depth, rounds)? })
}

/// The second prototype at its deepest offset: five sixths of the table skipped, and then a sixth of it by OFFSET against a
/// hundred rows by key. With equal work, both arms fetch a hundred.
pub fn second_prototype(server: &MariaDb, people: &People, rounds: usize) -> Result<Unequal> {
    let (many, few) = (people.rows / 6, 100);
    let offset = prototype::offset(&people.table, 5 * many, many);
    let by_key = prototype::second_cursor(&people.table, 5 * many, few);
    let published = as_published(server, &offset, &by_key, rounds)?;
    Ok(Unequal { published, fair: fair(server, people, few, 5 * many, rounds)? })
}

fn as_published(server: &MariaDb, offset: &str, by_key: &str, rounds: usize) -> Result<Trial<Way>> {
    Trial::over([Way::Offset, Way::Keyset], rounds).run(|way, _, figures| {
        // A connection inside the timing, as there.
        let mut connection: Conn = server.connect()?;
        let sql = if *way == Way::Offset { offset } else { by_key };
        let rows: Vec<mysql::Row> = connection.query(sql).doing("repeat a prototype's statement")?;
        figures.push("rows", "", rows.len() as f64);
        Ok(())
    })
}

/// The same depth with equal work: the same rows, in an order, over connections that are open.
fn fair(server: &MariaDb, people: &People, rows: u64, depth: u64, rounds: usize) -> Result<Trial<Way>> {
    let (query, signer) = (people.query(Order::Id).page_size(rows), Signer::random());
    let missing = || Error::new("compare pages", "there is no page before this one");
    let before = depth.checked_sub(rows).ok_or_else(missing)?;
    let cursor = Pager::open(server, &query, &signer)?.deferred(before)?.next.ok_or_else(missing)?;
    let pagers = Trial::over([Way::Offset, Way::Keyset], rounds).open(|_| Pager::open(server, &query, &signer));
    pagers.run(|way, pager, figures| {
        let page = way.page(pager, depth, Some(&cursor))?;
        let ids = page.rows.iter().filter_map(id);
        figures.push("rows", "", page.rows.len() as f64);
        figures.work("checksum", ids.fold(0_u64, |sum, id| sum.wrapping_mul(31).wrapping_add(id)));
        Ok(())
    })
}

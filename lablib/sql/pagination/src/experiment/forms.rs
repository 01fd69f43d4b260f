//! The forms of "behind this row": what each makes the server look at.

use super::depth::looked_at;
use super::people::{Order, People};
use crate::{Form, Pager, Row, Signer};
use lab::service::MariaDb;
use lab::{Frame, Result};

/// The page in the middle of each order, in all forms. A row for each: the `order` and the `form`, and the `condition` as a reader writes
/// it; EXPLAIN's `type` of access (`range` begins in the middle of an index, `index` at its end), its `key` and its `extra` words; rows and
/// index entries that the server `looked at`; and `rows` of the page, and those that are `alike` those by the first form.
pub fn form_costs(server: &MariaDb, people: &People, orders: &[Order], page_size: u64) -> Result<Frame> {
    let mut costs = Frame::new();
    let forms = [
        (Form::RowComparison, "(a, b) > (?, ?)"),
        (Form::Guarded, "a >= ? AND (a > ? OR b > ?)"),
        (Form::Ranges, "a > ? OR (a = ? AND b > ?)"),
    ];
    for &order in orders {
        let signer = Signer::random();
        let query = people.query(order).page_size(page_size);
        let middle = Pager::open(server, &query, &signer)?.deferred(people.rows / 2)?.next;
        let mut first: Option<Vec<Row>> = None;
        for (form, written) in forms {
            let mut pager = Pager::open(server, &query, &signer)?.comparing(form);
            let explained = pager.explain(middle.as_ref())?;
            let word = |name: &str| {
                let found = explained.iter().find(|(column, _)| column.eq_ignore_ascii_case(name));
                found.map_or_else(String::new, |(_, word)| word.clone())
            };
            let (page, counters) = pager.counted(|pager| pager.page(middle.as_ref()))?;
            let first = first.get_or_insert_with(|| page.rows.clone());
            let alike = page.rows.iter().zip(first.iter()).filter(|(row, first)| row == first).count();
            let cost = Frame::new()
                .text("order", [order.name()])
                .text("form", [format!("{form:?}")])
                .text("condition", [written])
                .text("type", [word("type")])
                .text("key", [word("key")])
                .text("extra", [word("Extra")])
                .numbers("looked at", "rows", [looked_at(&counters)])
                .counts("rows", "", [page.rows.len() as u64])
                .counts("alike", "", [alike as u64]);
            costs = costs.stack(&cost);
        }
    }
    Ok(costs)
}

//! The forms of "behind this row": what each makes the server look at.

use super::depth::looked_at;
use super::people::{Order, People};
use crate::pagination::{Form, Pager, Row, Signer};
use lab::chart::{Bars, Chart};
use lab::service::MariaDb;
use lab::{Result, Samples, Table};

/// A page in one form.
#[derive(Debug, Clone)]
pub struct FormCost {
    /// In which order.
    pub order: Order,
    /// In which form.
    pub form: Form,
    /// How a reader writes it.
    pub written: &'static str,
    /// Rows and index entries that the server looked at.
    pub looked_at: f64,
    /// EXPLAIN's type of access: `range` begins in the middle of an index, `index` at its end.
    pub access: String,
    /// EXPLAIN's index.
    pub index: String,
    /// EXPLAIN's further words.
    pub extra: String,
    /// The rows.
    pub rows: Vec<Row>,
}

/// The page in the middle of each order, in all forms.
pub fn form_costs(server: &MariaDb, people: &People, orders: &[Order], page_size: u64) -> Result<Vec<FormCost>> {
    let mut costs = Vec::new();
    let forms = [
        (Form::RowComparison, "(a, b) > (?, ?)"),
        (Form::Guarded, "a >= ? AND (a > ? OR b > ?)"),
        (Form::Ranges, "a > ? OR (a = ? AND b > ?)"),
    ];
    for &order in orders {
        let signer = Signer::random();
        let query = people.query(order).page_size(page_size);
        let middle = Pager::open(server, &query, &signer)?.deferred(people.rows / 2)?.next;
        for (form, written) in forms {
            let mut pager = Pager::open(server, &query, &signer)?.comparing(form);
            let explained = pager.explain(middle.as_ref())?;
            let word = |name: &str| {
                let found = explained.iter().find(|(column, _)| column.eq_ignore_ascii_case(name));
                found.map_or_else(String::new, |(_, word)| word.clone())
            };
            let (access, index, extra) = (word("type"), word("key"), word("Extra"));
            let (page, counters) = pager.counted(|pager| pager.page(middle.as_ref()))?;
            let looked_at = looked_at(&counters);
            costs.push(FormCost { order, form, written, looked_at, access, index, extra, rows: page.rows });
        }
    }
    Ok(costs)
}

/// All of them, with EXPLAIN's words.
pub fn form_table(costs: &[FormCost]) -> Table {
    Table::new("A page from the middle, by the form of its condition")
        .text("order", costs.iter().map(|cost| cost.order.name()))
        .text("condition", costs.iter().map(|cost| cost.written))
        .text("EXPLAIN: type", costs.iter().map(|cost| cost.access.as_str()))
        .text("key", costs.iter().map(|cost| cost.index.as_str()))
        .text("extra", costs.iter().map(|cost| cost.extra.as_str()))
        .numbers("looked at", "rows", costs.iter().map(|cost| cost.looked_at))
}

/// What one form makes the server look at, one sample an order.
pub fn looked_at_by(costs: &[FormCost], form: Form) -> Samples {
    costs.iter().filter(|cost| cost.form == form).map(|cost| cost.looked_at).collect()
}

/// All of them beside each other.
pub fn form_chart(costs: &[FormCost], title: &str) -> Bars {
    let mut chart = Chart::bars(title).y("rows and index entries looked at", "").log();
    let mut last = None;
    for cost in costs {
        if last != Some(cost.order) {
            chart = chart.group(cost.order.name());
            last = Some(cost.order);
        }
        chart = chart.bar(cost.written, cost.looked_at);
    }
    chart
}

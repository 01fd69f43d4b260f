//! Tables: how a frame is shown.

use std::fmt::Write as _;

use crate::display::{Show, emit, escape};
use crate::frame::{Value, headed};
use crate::number::significant;
use crate::{Frame, Result, gallery, style};

/// A table for a reader: numbers to the right, units in the header, at most fifty rows.
///
/// ```
/// use lab::{Show, Table};
///
/// let table = Table::new("Keys moved")
///     .text("placement", ["ring", "modulo"])
///     .numbers("moved", "%", [4.95, 94.96]);
/// assert!(table.to_plain().contains("94.96"));
/// ```
#[derive(Debug, Clone)]
pub struct Table {
    title: String,
    frame: Frame,
}

const MOST_ROWS: usize = 50;

/// A column's head, whether its cells are numbers, and the cells.
type Shown = (String, bool, Vec<String>);

impl Table {
    /// An empty table; columns come from left to right.
    pub fn new(title: &str) -> Self {
        Self { title: title.to_string(), frame: Frame::new() }
    }

    /// A frame with a title, or a data frame of polars.
    pub fn of(title: &str, frame: impl Into<Frame>) -> Self {
        Self { title: title.to_string(), frame: frame.into() }
    }

    /// A column of words.
    pub fn text<T: ToString>(mut self, name: &str, values: impl IntoIterator<Item = T>) -> Self {
        self.frame = self.frame.text(name, values);
        self
    }

    /// A column of numbers in one unit; `""` where they have none.
    pub fn numbers(mut self, name: &str, unit: &str, values: impl IntoIterator<Item = f64>) -> Self {
        self.frame = self.frame.numbers(name, unit, values);
        self
    }

    /// A column of counts in one unit; `""` where they have none.
    pub fn counts(mut self, name: &str, unit: &str, values: impl IntoIterator<Item = u64>) -> Self {
        self.frame = self.frame.counts(name, unit, values);
        self
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.frame.height()
    }

    /// What it shows, for a question.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The rows as comma-separated values.
    pub fn to_csv(&self) -> Result<String> {
        self.frame.to_csv()
    }

    /// Each column's heading, whether numbers are in it, and the first rows as they are written.
    fn columns(&self) -> Vec<Shown> {
        let column = |name: String| {
            let cells = self.frame.first_values(&name, MOST_ROWS).into_iter().map(cell).collect();
            (headed(&name, self.frame.unit(&name)), self.frame.is_numeric(&name), cells)
        };
        self.frame.columns().into_iter().map(column).collect()
    }

    fn left_out(&self) -> Option<String> {
        let more = self.rows().saturating_sub(MOST_ROWS);
        (more > 0).then(|| format!("… and {more} more rows"))
    }
}

fn cell(value: Value) -> String {
    match value {
        Value::Number(number) => significant(number),
        other => other.to_string(),
    }
}

impl Show for Table {
    fn to_html(&self) -> String {
        let columns = self.columns();
        let mut html = format!("{}<div class=\"lab-scroll\"><table class=\"lab-table\">", style::STYLE);
        if !self.title.is_empty() {
            let _ = write!(html, "<caption>{}</caption>", escape(&self.title));
        }
        let class = |numeric: bool| if numeric { " class=\"number\"" } else { "" };
        html.push_str("<thead><tr>");
        for (name, numeric, _) in &columns {
            let _ = write!(html, "<th scope=\"col\"{}>{}</th>", class(*numeric), escape(name));
        }
        html.push_str("</tr></thead><tbody>");
        for row in 0..self.rows().min(MOST_ROWS) {
            html.push_str("<tr>");
            for (_, numeric, cells) in &columns {
                let _ = write!(html, "<td{}>{}</td>", class(*numeric), escape(&cells[row]));
            }
            html.push_str("</tr>");
        }
        html.push_str("</tbody></table></div>");
        if let Some(left_out) = self.left_out() {
            let _ = write!(html, "<p class=\"lab-note\">{left_out}</p>");
        }
        html
    }

    fn to_plain(&self) -> String {
        let columns = self.columns();
        let line = |row: &dyn Fn(&Shown) -> String| {
            let field = |column: &Shown| {
                let (name, numeric, cells) = column;
                let width = cells.iter().chain([name]).map(|cell| cell.chars().count()).max().unwrap_or(0);
                let text = row(column);
                if *numeric { format!("{text:>width$}") } else { format!("{text:<width$}") }
            };
            columns.iter().map(field).collect::<Vec<_>>().join("  ").trim_end().to_string()
        };
        let mut lines = vec![self.title.clone(), line(&|(name, ..)| name.clone())];
        lines.extend((0..self.rows().min(MOST_ROWS)).map(|row| line(&|(_, _, cells)| cells[row].clone())));
        lines.extend(self.left_out());
        lines.retain(|line| !line.is_empty());
        lines.join("\n")
    }

    /// Also leaves all rows beside the report.
    fn show(&self) {
        // What polars cannot write stays a table.
        let csv = self.to_csv().unwrap_or_default();
        emit(&gallery::keep_table(&self.title, csv, &self.to_html()), &self.to_plain());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_to_the_right_and_text_is_escaped() {
        let table = Table::new("A & B").text("name", ["<b>", "c"]).numbers("moved", "%", [4.951, 94.96]);
        let html = table.to_html();
        assert!(html.contains("<caption>A &amp; B</caption>"));
        assert!(html.contains("<td>&lt;b&gt;</td><td class=\"number\">4.95</td>"), "{html}");
        assert!(html.contains("<th scope=\"col\" class=\"number\">moved (%)</th>"));
        assert_eq!(table.to_plain(), "A & B\nname  moved (%)\n<b>        4.95\nc         94.96");
    }

    #[test]
    fn a_long_table_says_what_it_leaves_out() {
        let table = Table::new("").counts("n", "", 0..1_000);
        assert_eq!(table.to_html().matches("<tr>").count(), MOST_ROWS + 1);
        assert!(table.to_html().contains("… and 950 more rows"));
        assert_eq!(table.to_csv().unwrap().lines().count(), 1_001);
    }

    #[test]
    fn values_that_are_missing_or_not_finite_do_not_break_it() {
        let table = Table::new("").numbers("x", "s", [f64::NAN, f64::INFINITY]);
        assert!(table.to_plain().contains("no value") && table.to_plain().contains('∞'));
        assert_eq!(Table::new("nothing").to_plain(), "nothing");
    }
}

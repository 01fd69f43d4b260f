//! Tables: a polars data frame in, an HTML table out.

use std::fmt::Write as _;

use polars::prelude::{AnyValue, Column, DataFrame};

use crate::display::{Show, escape};
use crate::samples::significant;
use crate::{Doing, Error, OrFail, Result, style};

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
    frame: DataFrame,
}

const MOST_ROWS: usize = 50;

impl Table {
    /// An empty table; columns come from left to right.
    pub fn new(title: &str) -> Self {
        Self { title: title.to_string(), frame: DataFrame::empty() }
    }

    /// A table of a data frame; a unit is written into a column's name, in brackets.
    pub fn of(title: &str, frame: DataFrame) -> Self {
        Self { title: title.to_string(), frame }
    }

    /// A column of words.
    pub fn text<T: Into<String>>(self, name: &str, values: impl IntoIterator<Item = T>) -> Self {
        let values: Vec<String> = values.into_iter().map(Into::into).collect();
        self.with(Column::new(name.into(), values))
    }

    /// A column of numbers in one unit; `""` where they have none.
    pub fn numbers(self, name: &str, unit: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.into_iter().collect();
        self.with(Column::new(header(name, unit).into(), values))
    }

    /// A column of counts in one unit; `""` where they have none.
    pub fn counts(self, name: &str, unit: &str, values: impl IntoIterator<Item = u64>) -> Self {
        let values: Vec<u64> = values.into_iter().collect();
        self.with(Column::new(header(name, unit).into(), values))
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.frame.height()
    }

    /// The data frame, for whatever polars can do with it.
    pub fn frame(&self) -> &DataFrame {
        &self.frame
    }

    /// The rows as comma-separated values.
    pub fn to_csv(&self) -> Result<String> {
        use polars::prelude::{CsvWriter, SerWriter};
        let mut bytes = Vec::new();
        CsvWriter::new(&mut bytes).finish(&mut self.frame.clone()).doing("write the table as CSV")?;
        String::from_utf8(bytes).doing("write the table as CSV")
    }

    fn with(self, column: Column) -> Self {
        self.try_with(column).or_fail()
    }

    fn try_with(mut self, column: Column) -> Result<Self> {
        let (name, length) = (column.name().to_string(), column.len());
        if self.frame.width() > 0 && length != self.frame.height() {
            let cause = format!("it has {length} values where the table has {} rows", self.frame.height());
            return Err(Error::new(format!("add the column {name:?}"), cause));
        }
        let mut columns = self.frame.columns().to_vec();
        columns.push(column);
        self.frame = DataFrame::new(length, columns).doing(format!("add the column {name:?}"))?;
        Ok(self)
    }

    fn cells(&self, column: &Column) -> Vec<String> {
        (0..self.rows().min(MOST_ROWS)).map(|row| column.get(row).map_or_else(|_| "?".into(), cell)).collect()
    }

    fn left_out(&self) -> Option<String> {
        let more = self.rows().saturating_sub(MOST_ROWS);
        (more > 0).then(|| format!("… and {more} more rows"))
    }
}

fn header(name: &str, unit: &str) -> String {
    if unit.is_empty() { name.to_string() } else { format!("{name} ({unit})") }
}

fn cell(value: AnyValue<'_>) -> String {
    match value {
        AnyValue::Null => "–".into(),
        AnyValue::String(text) => text.to_string(),
        AnyValue::StringOwned(text) => text.to_string(),
        AnyValue::Float64(number) => significant(number),
        AnyValue::Float32(number) => significant(f64::from(number)),
        other if other.is_primitive_numeric() => other.extract::<f64>().map_or_else(|| other.to_string(), significant),
        other => other.to_string(),
    }
}

impl Show for Table {
    fn to_html(&self) -> String {
        let columns = self.frame.columns();
        let mut html = format!("{}<table class=\"lab-table\">", style::STYLE);
        if !self.title.is_empty() {
            let _ = write!(html, "<caption>{}</caption>", escape(&self.title));
        }
        let class = |column: &Column| if column.dtype().is_primitive_numeric() { " class=\"number\"" } else { "" };
        html.push_str("<thead><tr>");
        for column in columns {
            let _ = write!(html, "<th scope=\"col\"{}>{}</th>", class(column), escape(column.name()));
        }
        html.push_str("</tr></thead><tbody>");
        let cells: Vec<Vec<String>> = columns.iter().map(|column| self.cells(column)).collect();
        for row in 0..self.rows().min(MOST_ROWS) {
            html.push_str("<tr>");
            for (column, cells) in columns.iter().zip(&cells) {
                let _ = write!(html, "<td{}>{}</td>", class(column), escape(&cells[row]));
            }
            html.push_str("</tr>");
        }
        html.push_str("</tbody></table>");
        if let Some(left_out) = self.left_out() {
            let _ = write!(html, "<p class=\"lab-note\">{left_out}</p>");
        }
        html
    }

    fn to_plain(&self) -> String {
        let columns = self.frame.columns();
        let cells: Vec<Vec<String>> = columns.iter().map(|column| self.cells(column)).collect();
        let names: Vec<String> = columns.iter().map(|column| column.name().to_string()).collect();
        let width = |index: usize| {
            cells[index].iter().chain([&names[index]]).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let line = |row: &dyn Fn(usize) -> String| {
            let fields: Vec<String> = (0..columns.len())
                .map(|index| {
                    let (text, width) = (row(index), width(index));
                    if columns[index].dtype().is_primitive_numeric() {
                        format!("{text:>width$}")
                    } else {
                        format!("{text:<width$}")
                    }
                })
                .collect();
            fields.join("  ").trim_end().to_string()
        };
        let mut lines = vec![self.title.clone(), line(&|index| names[index].clone())];
        lines.extend((0..self.rows().min(MOST_ROWS)).map(|row| line(&|index| cells[index][row].clone())));
        lines.extend(self.left_out());
        lines.retain(|line| !line.is_empty());
        lines.join("\n")
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
    fn columns_of_different_lengths_are_refused() {
        let table = Table::new("").counts("n", "", 0..3);
        let error = table.try_with(Column::new("m".into(), vec![1_u64])).unwrap_err().to_string();
        assert_eq!(error, "could not add the column \"m\": it has 1 values where the table has 3 rows");
    }

    #[test]
    fn values_that_are_missing_or_not_finite_do_not_break_it() {
        let table = Table::new("").numbers("x", "s", [f64::NAN, f64::INFINITY]);
        assert!(table.to_plain().contains("no value") && table.to_plain().contains('∞'));
        assert_eq!(Table::new("nothing").to_plain(), "nothing");
    }
}

//! The numbers behind a chart: one row per mark, as CSV for a machine and as aligned text for a person.

use super::format;
use crate::Value;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Text(String),
    Number(f64),
    Empty,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Cell::Text(text.to_string())
    }
}

impl From<&String> for Cell {
    fn from(text: &String) -> Self {
        Cell::Text(text.clone())
    }
}

impl From<f64> for Cell {
    fn from(number: f64) -> Self {
        Cell::Number(number)
    }
}

/// The numbers of a chart, one row per point, bar, cell or span.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Numbers {
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<Cell>>,
}

impl Numbers {
    pub(super) fn new(columns: &[&str]) -> Self {
        Self { columns: columns.iter().map(|column| column.to_string()).collect(), rows: Vec::new() }
    }

    pub(super) fn row<const COUNT: usize>(&mut self, cells: [Cell; COUNT]) {
        self.rows.push(cells.into());
    }

    /// Rows of several charts below each other, each with its chart's title in front.
    pub(super) fn stacked(parts: &[(String, Numbers)]) -> Self {
        let mut all = Self::new(&["chart"]);
        for column in parts.iter().flat_map(|(_, part)| &part.columns) {
            if !all.columns.contains(column) {
                all.columns.push(column.clone());
            }
        }
        for (title, part) in parts {
            for row in &part.rows {
                let mut wide = vec![Cell::Empty; all.columns.len()];
                wide[0] = Cell::from(title);
                for (column, cell) in part.columns.iter().zip(row) {
                    if let Some(index) = all.columns.iter().position(|other| other == column) {
                        wide[index] = cell.clone();
                    }
                }
                all.rows.push(wide);
            }
        }
        all
    }

    /// What stands in a frame.
    pub(super) fn of(frame: &crate::Frame) -> Self {
        let columns = frame.columns();
        let cell = |row: crate::Row<'_>, column: &String| match row.value(column) {
            Value::Text(text) => Cell::Text(text),
            Value::Number(number) => Cell::Number(number),
            Value::Missing => Cell::Empty,
        };
        let rows = frame.rows().map(|row| columns.iter().map(|column| cell(row, column)).collect()).collect();
        Self { columns, rows }
    }

    /// What a listener hears of the numbers: how many, whose, and from where to where.
    pub(super) fn sentence(&self) -> String {
        let mut parts = Vec::new();
        for (index, column) in self.columns.iter().enumerate() {
            let cells = || self.rows.iter().filter_map(|row| row.get(index));
            let mut names: Vec<&str> = Vec::new();
            let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
            for cell in cells() {
                match cell {
                    Cell::Text(text) if !names.contains(&text.as_str()) => names.push(text),
                    Cell::Number(number) if number.is_finite() => (low, high) = (low.min(*number), high.max(*number)),
                    _ => {}
                }
            }
            match names.as_slice() {
                [] if low < high => parts.push(format!("{column} from {} to {}", readable(low), readable(high))),
                [] if low == high => parts.push(format!("{column} {}", readable(low))),
                [] => {}
                few if few.len() <= 6 => parts.push(format!("{column}: {}", few.join(", "))),
                many => parts.push(format!("{} of {column}", many.len())),
            }
        }
        match (self.rows.len(), parts.is_empty()) {
            (0, _) => "No numbers.".into(),
            (rows, true) => format!("{rows} marks."),
            (rows, false) => format!("{rows} marks; {}.", parts.join("; ")),
        }
    }

    /// The same as data: a column in which there is text is one of words.
    pub(super) fn frame(&self) -> crate::Frame {
        self.columns.iter().enumerate().fold(crate::Frame::new(), |frame, (index, name)| {
            let cells = self.rows.iter().map(|row| row.get(index).unwrap_or(&Cell::Empty));
            match cells.clone().any(|cell| matches!(cell, Cell::Text(_))) {
                true => frame.text(
                    name,
                    cells.map(|cell| match cell {
                        Cell::Text(text) => text.clone(),
                        Cell::Number(number) => number.to_string(),
                        Cell::Empty => String::new(),
                    }),
                ),
                false => {
                    let number = |cell: &Cell| if let Cell::Number(number) = cell { Some(*number) } else { None };
                    frame.numbers_or_missing(name, "", cells.map(number))
                }
            }
        })
    }

    /// Comma-separated values (RFC 4180); numbers with all their digits.
    pub(super) fn csv(&self) -> String {
        let mut csv = String::new();
        let mut line = |cells: Vec<String>| {
            csv.push_str(&cells.join(","));
            csv.push('\n');
        };
        line(self.columns.iter().map(|column| quoted(column)).collect());
        for row in &self.rows {
            line(
                row.iter()
                    .map(|cell| match cell {
                        Cell::Text(text) => quoted(text),
                        Cell::Number(number) => format!("{number}"),
                        Cell::Empty => String::new(),
                    })
                    .collect(),
            );
        }
        csv
    }

    /// Aligned columns without those that are empty; at most `limit` rows, evenly chosen.
    pub(super) fn text(&self, limit: usize) -> String {
        let shown: Vec<usize> = (0..self.columns.len())
            .filter(|column| self.rows.iter().any(|row| row.get(*column).is_some_and(|cell| *cell != Cell::Empty)))
            .collect();
        let chosen: Vec<&Vec<Cell>> = if self.rows.len() <= limit {
            self.rows.iter().collect()
        } else {
            (0..limit).map(|i| &self.rows[i * self.rows.len() / limit]).collect()
        };
        let mut lines: Vec<Vec<String>> = vec![shown.iter().map(|column| self.columns[*column].clone()).collect()];
        for row in &chosen {
            let cell = |column: &usize| match row.get(*column) {
                Some(Cell::Text(text)) => text.clone(),
                Some(Cell::Number(number)) => readable(*number),
                Some(Cell::Empty) | None => String::new(),
            };
            lines.push(shown.iter().map(cell).collect());
        }
        let widths: Vec<usize> = (0..shown.len())
            .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0).min(60))
            .collect();
        let is_number = |column: usize| chosen.iter().any(|row| matches!(row.get(column), Some(Cell::Number(_))));
        let mut text = String::new();
        for line in &lines {
            let cells: Vec<String> = line
                .iter()
                .zip(widths.iter().zip(&shown))
                .map(
                    |(cell, (width, column))| {
                        if is_number(*column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
                    },
                )
                .collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        if self.rows.len() > chosen.len() {
            text.push_str(&format!("({} of {} rows)\n", chosen.len(), format::fixed(self.rows.len() as f64, 0)));
        }
        text
    }
}

/// Six digits are enough to read.
fn readable(number: f64) -> String {
    let size = number.abs();
    if !number.is_finite() {
        return format::plain(number);
    }
    if number == 0.0 || !(1e-4..1e12).contains(&size) {
        return if number == 0.0 { "0".to_string() } else { format::power_of_ten(number) };
    }
    let decimals = (5 - size.log10().floor() as i32).clamp(0, 9) as usize;
    let text = format::fixed(number, decimals).replace('−', "-");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_quotes_what_needs_quotes_and_keeps_every_digit() {
        let mut numbers = Numbers::new(&["series", "x"]);
        numbers.row(["a,\"b\"\nc".into(), 0.1.into()]);
        numbers.row(["plain".into(), f64::NAN.into()]);
        numbers.row(["none".into(), Cell::Empty]);
        assert_eq!(numbers.csv(), "series,x\n\"a,\"\"b\"\"\nc\",0.1\nplain,NaN\nnone,\n");
        let frame = numbers.frame();
        assert_eq!((frame.texts("series")[1].as_str(), frame.samples("x").len()), ("plain", 2));
    }

    #[test]
    fn text_is_aligned_and_bounded() {
        let mut numbers = Numbers::new(&["name", "value", "nothing"]);
        for i in 0..1000 {
            numbers.row([format!("n{i}").as_str().into(), (f64::from(i) * 1000.0).into(), Cell::Empty]);
        }
        let text = numbers.text(10);
        assert_eq!(text.lines().count(), 12);
        assert!(text.contains("n900  900,000"), "{text}");
        assert!(text.ends_with("(10 of 1,000 rows)\n") && !text.contains("nothing"));
    }
}

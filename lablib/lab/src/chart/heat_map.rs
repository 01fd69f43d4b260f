//! A value for every pair of row and column.

use std::fmt::Display;

use super::Figure;
use super::figure;
use super::font::{self, Weight};
use super::format::{Unit, count};
use super::frame::{Frame, Page, framed, names_width, with_x, with_y};
use super::number::Number;
use super::picture::{Anchor, Area, Picture, Stroke, Text};
use super::scale::{Kind, Scale};
use super::theme::{self, HEIGHT, LABEL, TICK};
use super::tidy::{Cell, Numbers};

/// More rows or columns than this are narrower than a pen.
const MOST: usize = 200;

/// A heat map; see [`Chart::heat_map`](super::Chart::heat_map).
///
/// ```
/// use lab::chart::{Chart, Figure};
///
/// let chart = Chart::heat_map("Small batches and many partitions cost the most")
///     .x("batch size", "")
///     .y("partitions", "")
///     .value("latency", "ms")
///     .cells(["1", "8"], ["10", "100", "1000"], [[4.0, 2.0, 1.5], [9.0, 5.0, 3.0]]);
/// assert!(chart.to_csv().contains("8,1000,3"));
/// ```
#[derive(Debug, Clone)]
pub struct HeatMap {
    frame: Frame,
    rows: Vec<String>,
    columns: Vec<String>,
    values: Vec<Vec<f64>>,
    label: String,
    unit: Unit,
    kind: Kind,
    surplus: usize,
}

framed!(HeatMap);
with_x!(HeatMap);
with_y!(HeatMap);

impl HeatMap {
    pub(super) fn new(title: String) -> Self {
        Self {
            frame: Frame::new(title),
            rows: Vec::new(),
            columns: Vec::new(),
            values: Vec::new(),
            label: String::new(),
            unit: Unit::None,
            kind: Kind::Linear,
            surplus: 0,
        }
    }

    /// What the colours measure, and its unit.
    pub fn value(mut self, label: impl Display, unit: &str) -> Self {
        self.label = label.to_string();
        self.unit = Unit::parse(unit);
        self
    }

    /// Names of the rows from top to bottom, of the columns from left to right, and for every row its values.
    pub fn cells<Row: IntoIterator<Item = impl Number>>(
        mut self,
        rows: impl IntoIterator<Item = impl Display>,
        columns: impl IntoIterator<Item = impl Display>,
        values: impl IntoIterator<Item = Row>,
    ) -> Self {
        self.rows = rows.into_iter().map(|row| row.to_string()).collect();
        self.columns = columns.into_iter().map(|column| column.to_string()).collect();
        let mut given: Vec<Vec<f64>> =
            values.into_iter().map(|row| row.into_iter().map(Number::value).collect()).collect();
        let total: usize = given.iter().map(Vec::len).sum();
        given.resize(self.rows.len(), Vec::new());
        given.iter_mut().for_each(|row| row.truncate(self.columns.len()));
        self.surplus = total - given.iter().map(Vec::len).sum::<usize>();
        given.iter_mut().for_each(|row| row.resize(self.columns.len(), f64::NAN));
        self.values = given;
        self
    }

    /// A row for each of what the column `row` holds, a column for each of what `column` holds, and in between the median of
    /// `value`; grey where nothing was measured. Axes that have no name yet get the columns' names. Ends the cell where there is no
    /// such column.
    pub fn of(mut self, frame: &crate::Frame, row: &str, column: &str, value: &str) -> Self {
        if self.frame.y.label.is_empty() {
            self = self.y(row, frame.unit(row));
        }
        if self.frame.x.label.is_empty() {
            self = self.x(column, frame.unit(column));
        }
        if self.label.is_empty() {
            self = self.value(value, frame.unit(value));
        }
        let (rows, columns) = (frame.distinct(row), frame.distinct(column));
        let of_both = |down: &String, across: &String| {
            frame.filter_by(|cell| cell.text(row) == *down && cell.text(column) == *across).samples(value).median()
        };
        let line = |down: &String| columns.iter().map(|across| of_both(down, across)).collect::<Vec<f64>>();
        let values: Vec<Vec<f64>> = rows.iter().map(line).collect();
        self.cells(&rows, &columns, values)
    }

    /// Colours on a logarithmic scale.
    pub fn log(mut self) -> Self {
        self.kind = Kind::Log;
        self
    }

    fn shown(&self) -> impl Iterator<Item = f64> + '_ {
        self.values.iter().take(MOST).flat_map(|row| row.iter().take(MOST).copied())
    }

    fn scale(&self) -> Scale {
        Scale::around(self.kind, self.shown()).towards_zero()
    }

    fn small_print(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let blank = self.shown().filter(|value| !self.kind.holds(*value)).count();
        if blank > 0 {
            notes.push(format!("{} without a value left grey.", count(blank, "cell", "cells")));
        }
        let hidden = self.rows.len() * self.columns.len() - self.shown().count();
        if hidden > 0 {
            notes
                .push(format!("{} beyond the first {MOST} rows or columns not drawn.", count(hidden, "cell", "cells")));
        }
        if self.surplus > 0 {
            notes.push(format!("{} without a row or column left out.", count(self.surplus, "value", "values")));
        }
        notes
    }
}

impl Figure for HeatMap {
    figure!(HeatMap);

    fn numbers(&self) -> Numbers {
        let mut numbers = Numbers::new(&["row", "column", "value"]);
        for (row, values) in self.rows.iter().zip(&self.values) {
            for (column, value) in self.columns.iter().zip(values) {
                numbers.row([row.into(), column.into(), Cell::from(*value)]);
            }
        }
        numbers
    }

    fn draw(&self, width: f64) -> Picture {
        let (rows, columns) = (self.rows.len().clamp(1, MOST), self.columns.len().clamp(1, MOST));
        let left_out = self.small_print();
        let (x_heading, y_heading) = (self.frame.x.full_heading(), self.frame.y.full_heading());
        let names = names_width(self.rows.iter().map(String::as_str), width * 0.3);
        let room = width - 2.0 * theme::PADDING - names - 8.0;
        let above = 34.0 + if y_heading.is_empty() { 0.0 } else { 20.0 };
        let below = if x_heading.is_empty() { 22.0 } else { 42.0 };
        let chrome = self.frame.header_height(width, &[]) + self.frame.footer_height(width, &left_out) + above + below;
        // Cells about as high as wide, within reason.
        let wish = (room / columns as f64).clamp(18.0, 44.0) * rows as f64;
        let natural = (chrome + wish).clamp(chrome + 60.0, HEIGHT.max(chrome + 420.0));
        let mut page = self.frame.page(width, self.frame.height(natural), &[], &left_out);
        let body = page.body;
        let scale = self.scale();
        self.draw_colour_key(&mut page, scale);
        let left = body.left + names + 8.0;
        let area = Area::new(left, body.top + above, body.right, (body.bottom - below).max(body.top + above + 10.0));
        if !y_heading.is_empty() {
            let heading = font::fit(&y_heading, body.width(), TICK, Weight::Regular);
            page.picture.text(Text::new((body.left, body.top + 46.0), heading, TICK, theme::SOFT));
        }
        let (wide, high) = (area.width() / columns as f64, area.height() / rows as f64);
        let gap = if wide.min(high) >= 14.0 { 1.0 } else { 0.0 };
        let texts: Vec<String> = self.shown().map(|value| self.unit.show(value)).collect();
        let widest = texts.iter().map(|text| font::width(text, TICK, Weight::Regular)).fold(0.0, f64::max);
        let labelled = texts.len() <= 400 && widest + 6.0 <= wide && high >= 17.0;
        for (row, values) in self.values.iter().take(MOST).enumerate() {
            for (column, value) in values.iter().take(MOST).enumerate() {
                let (x, y) = (area.left + wide * column as f64, area.top + high * row as f64);
                let cell = Area::new(x, y, x + wide - gap, y + high - gap);
                let filled = self.kind.holds(*value);
                let colour = if filled { theme::ramp(scale.place(*value)) } else { theme::BLANK };
                let shape = page.picture.rectangle(cell, 0.0, colour);
                if texts.len() <= 2000 {
                    let what = format!("{} {}", self.label, self.unit.show_with_unit(*value));
                    shape.hint(format!("{}, {}: {}", self.rows[row], self.columns[column], what.trim_start()));
                }
                if labelled {
                    let text = if filled { self.unit.show(*value) } else { "–".to_string() };
                    let text = Text::new(cell.center(), text, TICK, theme::text_on(colour));
                    page.picture.text(text.anchor(Anchor::Middle).centred());
                }
            }
        }
        let every = round_step(13.0 / high);
        for (row, name) in self.rows.iter().take(MOST).enumerate().step_by(every) {
            page.row_name(name, left - 8.0, area.top + high * (row as f64 + 0.5), names, high.min(29.0));
        }
        let longest = names_width(self.columns.iter().map(String::as_str), 90.0);
        let every = round_step((longest + 8.0) / wide);
        for (column, name) in self.columns.iter().take(MOST).enumerate().step_by(every) {
            let at = (area.left + wide * (column as f64 + 0.5), area.bottom + 16.0);
            let room = (wide * every as f64 - 4.0).min(2.0 * (width - 4.0 - at.0));
            let name = font::fit(name, room, LABEL, Weight::Regular);
            page.picture.text(Text::new(at, name, LABEL, theme::INK).anchor(Anchor::Middle));
        }
        let heading = font::fit(&x_heading, area.width(), TICK, Weight::Regular);
        let at = ((area.left + area.right) / 2.0, area.bottom + 36.0);
        page.picture.text(Text::new(at, heading, TICK, theme::SOFT).anchor(Anchor::Middle));
        if !self.shown().any(|value| self.kind.holds(value)) {
            page.empty(area);
        }
        page.picture
    }
}

/// Every name, every second, fifth, tenth …
fn round_step(least: f64) -> usize {
    [1, 2, 5, 10, 20, 50].into_iter().find(|step| *step as f64 >= least).unwrap_or(100)
}

impl HeatMap {
    /// The colours from low to high, with the ticks of an axis.
    fn draw_colour_key(&self, page: &mut Page, scale: Scale) {
        const STEPS: u32 = 60;
        let body = page.body;
        let heading = match self.unit.in_label() {
            "" => self.label.clone(),
            unit => format!("{} ({unit})", self.label),
        };
        let heading = font::fit(&heading, body.width() * 0.4, TICK, Weight::Regular);
        let text = Text::new((body.left, body.top + 6.0), heading, TICK, theme::SOFT).centred();
        let left = body.left + if text.text.is_empty() { 14.0 } else { text.width() + 26.0 };
        page.picture.text(text);
        let bar = Area::new(left, body.top, (left + 220.0).min(body.right - 20.0).max(left + 20.0), body.top + 10.0);
        for step in 0..STEPS {
            let edge = |step: u32| bar.left + bar.width() * f64::from(step) / f64::from(STEPS);
            let colour = theme::ramp((f64::from(step) + 0.5) / f64::from(STEPS));
            // Each to the end of the key, so that no seam shows between two.
            page.picture.rectangle(Area::new(edge(step), bar.top, bar.right, bar.bottom), 0.0, colour);
        }
        let axis = super::frame::Axis { unit: self.unit.clone(), kind: self.kind, ..Default::default() };
        let mut ticks = super::frame::x_ticks(&axis, scale, bar.width());
        if ticks.len() < 2 && self.shown().any(|value| self.kind.holds(value)) {
            ticks = [scale.low, scale.high].map(|value| (value, self.unit.show(value))).to_vec();
        }
        for (tick, label) in ticks {
            let at = bar.left + scale.place(tick) * bar.width();
            page.picture.line((at, bar.bottom), (at, bar.bottom + 3.0), Stroke::solid(theme::AXIS, 1.0));
            let at = (at, bar.bottom + 14.0);
            page.picture.text(Text::new(at, label, theme::SMALL, theme::FAINT).anchor(Anchor::Middle));
        }
    }
}

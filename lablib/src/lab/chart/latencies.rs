//! How long operations take, from nanoseconds to seconds: one ridge per operation on a logarithmic axis, and the
//! percentiles as a table in the same rows.

use std::fmt::Display;

use super::Figure;
use super::figure;
use super::font::{self, Weight};
use super::format::{count, time};
use super::frame::{Axis, Frame, framed, names_width, x_axis_height, x_ticks};
use super::number::Number;
use super::picture::{Anchor, Area, Fill, Picture, Stroke, Text, crisp};
use super::scale::{Kind, Scale};
use super::theme::{self, LABEL, SMALL};
use super::tidy::{Cell, Numbers};

const PER_DECADE: f64 = 24.0;
const ROW: f64 = 46.0;
/// Above the first row: names of the marks and of the columns.
const HEAD: f64 = 24.0;
const COLUMN: f64 = 62.0;

/// Latency distributions below each other; see [`Chart::latencies`](super::Chart::latencies). All times in nanoseconds.
///
/// ```
/// use lablib::lab::chart::{Chart, Figure};
///
/// let chart = Chart::latencies("A commit costs ten thousand locks")
///     .distribution("mutex", [(15, 20, 900), (20, 40, 100)], 18, 35, 40)
///     .distribution("SQL commit", [(150_000, 200_000, 50), (200_000, 900_000, 3)], 180_000, 800_000, 900_000)
///     .predicted("SQL commit", 200_000);
/// assert!(chart.to_text().contains("SQL commit"));
/// ```
#[derive(Debug, Clone)]
pub struct Latencies {
    frame: Frame,
    rows: Vec<Row>,
    marks: Vec<(String, f64)>,
}

#[derive(Debug, Clone)]
struct Row {
    name: String,
    buckets: Vec<(f64, f64, f64)>,
    percentiles: [f64; 3],
    predicted: Vec<f64>,
}

framed!(Latencies);

impl Latencies {
    pub(super) fn new(title: String) -> Self {
        let mut frame = Frame::new(title);
        frame.x = Axis { label: "time, logarithmic".to_string(), kind: Kind::Log, ..Axis::default() };
        frame.x.unit = super::format::Unit::Time(1e-9);
        Self { frame, rows: Vec::new(), marks: Vec::new() }
    }

    /// An operation: its histogram as `(from, to, how many)` and its percentiles 50, 99 and 99.9, in nanoseconds.
    pub fn distribution<A: Number, B: Number, C: Number>(
        mut self,
        name: impl Display,
        histogram: impl IntoIterator<Item = (A, B, C)>,
        p50: impl Number,
        p99: impl Number,
        p999: impl Number,
    ) -> Self {
        let bucket = |(from, to, many): (A, B, C)| (from.value(), to.value(), many.value());
        let predicted = match self.rows.iter().position(|row| row.name == name.to_string() && row.buckets.is_empty()) {
            Some(waiting) => self.rows.remove(waiting).predicted,
            None => Vec::new(),
        };
        self.rows.push(Row {
            name: name.to_string(),
            buckets: histogram.into_iter().map(bucket).collect(),
            percentiles: [p50.value(), p99.value(), p999.value()],
            predicted,
        });
        self
    }

    /// What was predicted for that operation, in nanoseconds: a dashed tick in its row.
    pub fn predicted(mut self, name: impl Display, nanoseconds: impl Number) -> Self {
        let name = name.to_string();
        let index = self.rows.iter().rposition(|row| row.name == name).unwrap_or_else(|| {
            self.rows.push(Row { name, buckets: Vec::new(), percentiles: [f64::NAN; 3], predicted: Vec::new() });
            self.rows.len() - 1
        });
        self.rows[index].predicted.push(nanoseconds.value());
        self
    }

    /// A published figure in nanoseconds, dotted through all rows.
    pub fn mark_x(mut self, name: impl Display, nanoseconds: impl Number) -> Self {
        self.marks.push((name.to_string(), nanoseconds.value()));
        self
    }

    fn is_usable((from, to, many): &(f64, f64, f64)) -> bool {
        Kind::Log.holds(*to)
            && super::number::drawable(*from)
            && from <= to
            && super::number::drawable(*many)
            && *many > 0.0
    }

    fn scale(&self) -> Scale {
        let values = self.rows.iter().flat_map(|row| {
            let edges = row.buckets.iter().filter(|b| Self::is_usable(b)).flat_map(|(from, to, _)| [*from, *to]);
            edges.chain(row.percentiles).chain(row.predicted.iter().copied())
        });
        let scale = Scale::around(Kind::Log, values.chain(self.marks.iter().map(|mark| mark.1)));
        scale.padded(0.015)
    }

    /// Shares per equal step of the logarithm, from the first step that has any; `hdrhistogram` counts in others.
    fn ridge(&self, row: &Row, scale: Scale) -> (usize, Vec<f64>) {
        let decades = scale.high.log10() - scale.low.log10();
        let bins = ((decades * PER_DECADE) as usize).clamp(8, 400);
        let mut counts = vec![0.0; bins];
        for (from, to, many) in row.buckets.iter().filter(|bucket| Self::is_usable(bucket)) {
            let from = if *from > 0.0 { *from } else { *to };
            let place = |value: f64| (scale.place(value) * bins as f64).clamp(0.0, bins as f64 - 1e-9);
            let (a, b) = (place(from), place(*to));
            if b - a < 1e-9 {
                counts[a as usize] += many;
                continue;
            }
            for (bin, slot) in counts.iter_mut().enumerate().take(b as usize + 1).skip(a as usize) {
                let covered = (bin as f64 + 1.0).min(b) - (bin as f64).max(a);
                *slot += many * covered / (b - a);
            }
        }
        let first = counts.iter().position(|many| *many > 0.0).unwrap_or(0);
        let last = counts.iter().rposition(|many| *many > 0.0).map_or(first, |last| last + 1);
        (first, counts[first..last].to_vec())
    }

    fn small_print(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let bad: usize =
            self.rows.iter().map(|row| row.buckets.iter().filter(|b| b.2 != 0.0 && !Self::is_usable(b)).count()).sum();
        if bad > 0 {
            notes.push(format!("{} without a drawable time left out.", count(bad, "bucket", "buckets")));
        }
        let marks = self.marks.iter().filter(|mark| !Kind::Log.holds(mark.1)).count();
        let predictions = self.rows.iter().flat_map(|row| &row.predicted).filter(|p| !Kind::Log.holds(**p)).count();
        if marks + predictions > 0 {
            notes.push(format!("{} left out.", count(marks + predictions, "reference", "references")));
        }
        if self.rows.len() > 1 {
            notes.push("Each row is scaled to its own peak.".to_string());
        }
        notes
    }
}

impl Figure for Latencies {
    figure!(Latencies);

    fn numbers(&self) -> Numbers {
        let mut numbers = Numbers::new(&["operation", "kind", "low_ns", "high_ns", "count"]);
        for row in &self.rows {
            for (from, to, many) in &row.buckets {
                let cells = [(&row.name).into(), "bucket".into(), (*from).into(), (*to).into(), (*many).into()];
                numbers.row(cells);
            }
            let percentiles = ["p50", "p99", "p99.9"].into_iter().zip(row.percentiles).filter(|p| p.1.is_finite());
            for (name, value) in percentiles.chain(row.predicted.iter().map(|value| ("predicted", *value))) {
                numbers.row([(&row.name).into(), name.into(), value.into(), value.into(), Cell::Empty]);
            }
        }
        for (name, value) in &self.marks {
            numbers.row([name.into(), "reference".into(), (*value).into(), (*value).into(), Cell::Empty]);
        }
        numbers
    }

    fn summary(&self) -> Numbers {
        let mut numbers = Numbers::new(&["operation", "samples", "p50", "p99", "p99.9", "predicted"]);
        for row in &self.rows {
            let samples = row.buckets.iter().map(|bucket| bucket.2).filter(|many| many.is_finite()).sum::<f64>();
            let [p50, p99, p999] = row.percentiles.map(said);
            let predicted = match row.predicted.as_slice() {
                [] => Cell::Empty,
                all => Cell::Text(all.iter().map(|value| time(value * 1e-9)).collect::<Vec<_>>().join(", ")),
            };
            numbers.row([(&row.name).into(), samples.into(), p50, p99, p999, predicted]);
        }
        for (name, value) in &self.marks {
            numbers.row([name.into(), Cell::Empty, said(*value), Cell::Empty, Cell::Empty, Cell::Empty]);
        }
        numbers
    }

    fn draw(&self, width: f64) -> Picture {
        let left_out = self.small_print();
        let scale = self.scale();
        let axis = x_axis_height(&self.frame.x);
        let rows = self.rows.len().max(1) as f64;
        let marks: Vec<&(String, f64)> = self.marks.iter().filter(|mark| scale.covers(mark.1)).collect();
        let band = HEAD + 15.0 * marks.len().min(3) as f64;
        let around = self.frame.header_height(width, &[]) + self.frame.footer_height(width, &left_out) + axis + band;
        let mut page = self.frame.page(width, self.frame.height(around + rows * ROW + 2.0), &[], &left_out);
        let body = page.body;
        let row_height = ((body.height() - axis - band) / rows).max(10.0);
        let names = names_width(self.rows.iter().map(|row| row.name.as_str()), width * 0.24);
        let table = if width > 560.0 { 3 } else { 2 };
        let left = body.left + names + 12.0;
        let bottom = body.top + band + row_height * rows;
        let right = (body.right - COLUMN * f64::from(table) - 4.0).max(left + 40.0);
        let area = Area::new(left, body.top + band, right, bottom);
        let place = |value: f64| area.left + scale.place(value) * area.width();
        for (tick, _) in x_ticks(&self.frame.x, scale, area.width()) {
            let at = crisp(place(tick));
            page.picture.line((at, area.top - 4.0), (at, area.bottom), Stroke::solid(theme::GRID, 1.0));
        }
        for (index, (name, value)) in marks.iter().enumerate() {
            let (at, y) = (crisp(place(*value)), body.top + 8.0 + 15.0 * (index % 3) as f64);
            page.picture.line((at, y - 4.0), (at, area.bottom), Stroke::reference());
            let room = (area.right - at).max(at - area.left) + COLUMN;
            let text =
                Text::new((at + 5.0, y + 4.0), font::fit(name, room, SMALL, Weight::Regular), SMALL, theme::REFERENCE);
            let turned = text.area().right > body.right;
            let text = if turned { Text { at: (at - 5.0, y + 4.0), ..text }.anchor(Anchor::End) } else { text };
            page.picture.text(text.halo());
        }
        let column = |index: usize| body.right - COLUMN * (table as usize - 1 - index) as f64;
        for (index, name) in ["p50", "p99", "p99.9"].iter().take(table as usize).enumerate() {
            let at = (column(index), area.top - 8.0);
            page.picture.text(Text::new(at, *name, SMALL, theme::FAINT).bold().anchor(Anchor::End));
        }
        for (index, row) in self.rows.iter().enumerate() {
            let base = crisp(area.top + row_height * (index as f64 + 1.0)) - 3.0;
            let top = base - row_height + 9.0;
            let colour = theme::series(0);
            let (first, shares) = self.ridge(row, scale);
            let bins = ((scale.high.log10() - scale.low.log10()) * PER_DECADE).floor().clamp(8.0, 400.0);
            let at = |bin: usize| area.left + area.width() * bin as f64 / bins;
            let peak = shares.iter().fold(0.0_f64, |peak, share| peak.max(*share));
            if peak > 0.0 {
                let mut outline = vec![(at(first), base)];
                for (bin, share) in shares.iter().enumerate() {
                    // A single slow request in a million must still be seen.
                    let height = (share / peak * (base - top)).max(if *share > 0.0 { 1.0 } else { 0.0 });
                    outline.push((at(first + bin), base - height));
                    outline.push((at(first + bin + 1), base - height));
                }
                outline.push((at(first + shares.len()), base));
                let samples: f64 = row.buckets.iter().map(|bucket| bucket.2).filter(|many| many.is_finite()).sum();
                let hint = format!("{}: {} samples", row.name, super::format::fixed(samples, 0));
                page.picture.area(outline.clone(), Fill { colour, opacity: 0.42 }).hint(hint);
                page.picture.path(outline, Stroke::solid(colour, 1.25));
            }
            page.picture.line((area.left, base), (area.right, base), Stroke::solid(theme::AXIS, 1.0));
            self.draw_percentiles(&mut page.picture, row, (base, top), &place, index == 0);
            for predicted in row.predicted.iter().filter(|value| scale.covers(**value)) {
                let at = place(*predicted);
                let hint = format!("{}: predicted {}", row.name, time(predicted * 1e-9));
                page.picture.line((at, top - 3.0), (at, base + 3.0), Stroke::prediction()).hint(hint);
            }
            page.row_name(&row.name, left - 12.0, base - row_height * 0.28, names, row_height);
            for (index, value) in row.percentiles.iter().take(table as usize).enumerate() {
                let text = if value.is_finite() { time(value * 1e-9) } else { "–".to_string() };
                let colour = if index == 0 { theme::INK } else { theme::SOFT };
                let text = Text::new((column(index), base - row_height * 0.28), text, LABEL, colour);
                let text = if index == 0 { text.bold() } else { text };
                page.picture.text(text.anchor(Anchor::End).centred());
            }
        }
        page.x_axis(&self.frame.x, area, scale);
        if self.rows.is_empty() {
            page.empty(area);
        }
        page.picture
    }
}

impl Latencies {
    /// A long tick at the median, a middle one at p99, a short one at p99.9; named in the first row.
    fn draw_percentiles(
        &self,
        picture: &mut Picture,
        row: &Row,
        (base, top): (f64, f64),
        place: &dyn Fn(f64) -> f64,
        named: bool,
    ) {
        let mut last = f64::NEG_INFINITY;
        let marks =
            ["p50", "p99", "p99.9"].into_iter().zip(row.percentiles).zip([(1.0, 2.25), (0.6, 1.75), (0.4, 1.25)]);
        for ((name, value), (share, width)) in marks {
            if !Kind::Log.holds(value) {
                continue;
            }
            let at = place(value);
            let end = base - (base - top) * share;
            let hint = format!("{}: {name} {}", row.name, time(value * 1e-9));
            picture.line((at, base), (at, end), Stroke::solid(theme::PAPER, width + 2.0));
            picture.line((at, base), (at, end), Stroke::solid(theme::INK, width)).hint(hint);
            let width = font::width(name, SMALL, Weight::Regular);
            if !named {
                continue;
            }
            let above = Text::new((at, end - 4.0), name, SMALL, theme::SOFT).anchor(Anchor::Middle).halo();
            let beside = Text::new((at + 5.0, end + 5.0), name, SMALL, theme::SOFT).halo();
            if at - width / 2.0 > last + 4.0 && name != "p99.9" {
                picture.text(above);
                last = at + width / 2.0;
            } else if at + 5.0 > last - width {
                picture.text(beside);
                last = at + 5.0 + width;
            }
        }
    }
}

fn said(nanoseconds: f64) -> Cell {
    if nanoseconds.is_finite() { Cell::Text(time(nanoseconds * 1e-9)) } else { Cell::Empty }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_sample_is_lost_on_the_way_to_the_ridge() {
        let chart = Latencies::new("t".to_string()).distribution(
            "a",
            [(0, 1, 5), (1, 2, 10), (100, 20_000, 1000), (1_000_000_000, 1_000_000_000, 1)],
            1,
            2,
            3,
        );
        let (_, shares) = chart.ridge(&chart.rows[0], chart.scale());
        assert!((shares.iter().sum::<f64>() - 1016.0).abs() < 1e-6);
    }

    #[test]
    fn a_prediction_may_come_before_its_operation() {
        let chart = Latencies::new("t".to_string()).predicted("a", 100).distribution("a", [(1, 2, 3)], 1, 2, 2);
        assert_eq!((chart.rows.len(), chart.rows[0].predicted.len()), (1, 1));
    }
}

//! How long operations take, from seconds to seconds: one ridge per operation on a logarithmic axis, and the
//! percentiles as a table in the same rows.

use std::fmt::Display;

use super::Figure;
use super::figure;
use super::font::{self, Weight};
use super::format::{count, time};
use super::frame::{Axis, Frame, Upright, framed, names_width, uprights_height, x_axis_height, x_ticks};
use super::number::{Number, Time};
use super::picture::{Anchor, Area, Fill, Picture, Stroke, Text, crisp};
use super::scale::{Kind, Scale};
use super::theme::{self, LABEL, SMALL};
use super::tidy::{Cell, Numbers};

const PER_DECADE: f64 = 24.0;
const ROW: f64 = 46.0;
/// Above the first row: names of the marks and of the columns.
const HEAD: f64 = 24.0;
const COLUMN: f64 = 62.0;

/// Latency distributions below each other; see [`Chart::latencies`](super::Chart::latencies). Times are seconds, or
/// [`Duration`](std::time::Duration)s.
///
/// ```
/// use std::time::Duration;
///
/// use lab::chart::{Chart, Figure};
///
/// let chart = Chart::latencies("A commit costs thousands of locks")
///     .distribution("mutex", [(15e-9, 20e-9, 900), (20e-9, 40e-9, 100)], 18e-9, 35e-9, 40e-9)
///     .distribution("SQL commit", [(150e-6, 200e-6, 50), (200e-6, 900e-6, 3)], 180e-6, 800e-6, 900e-6)
///     .predicted("SQL commit", Duration::from_micros(200));
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
    /// Whether it is more than a prediction.
    measured: bool,
}

framed!(Latencies);

impl Latencies {
    pub(super) fn new(title: String) -> Self {
        let mut frame = Frame::new(title);
        frame.x = Axis { label: "time (log scale)".to_string(), kind: Kind::Log, ..Axis::default() };
        frame.x.unit = super::format::Unit::Time(1.0);
        Self { frame, rows: Vec::new(), marks: Vec::new() }
    }

    /// An operation: its histogram as `(from, to, how many)`, and its percentiles 50, 99 and 99.9.
    pub fn distribution<T: Time>(
        mut self,
        name: impl Display,
        histogram: impl IntoIterator<Item = (T, T, impl Number)>,
        p50: impl Time,
        p99: impl Time,
        p999: impl Time,
    ) -> Self {
        let name = name.to_string();
        let buckets =
            histogram.into_iter().map(|(from, to, many)| (from.seconds(), to.seconds(), many.value())).collect();
        let predicted = match self.rows.iter().position(|row| row.name == name && !row.measured) {
            Some(waiting) => self.rows.remove(waiting).predicted,
            None => Vec::new(),
        };
        let percentiles = [p50.seconds(), p99.seconds(), p999.seconds()];
        self.rows.push(Row { name, buckets, percentiles, predicted, measured: true });
        self
    }

    /// An operation, as it was measured.
    pub fn latency(self, name: impl Display, latency: &crate::Latency) -> Self {
        self.distribution(name, latency.buckets(), latency.p50(), latency.p99(), latency.p999())
    }

    /// The durations in one column of a frame, a row for each of what `by` holds. Ends the cell where there is no such column, or
    /// where its unit is none of time.
    pub fn of(self, frame: &crate::Frame, took: &str, by: &str) -> Self {
        frame.distinct(by).into_iter().fold(self, |chart, name| {
            let rows = frame.filter_by(|row| row.text(by) == name);
            chart.latency(name, &rows.latency(took))
        })
    }

    /// What was predicted for that operation: a dashed tick in its row.
    pub fn predicted(mut self, name: impl Display, time: impl Time) -> Self {
        let name = name.to_string();
        let index = self.rows.iter().rposition(|row| row.name == name).unwrap_or_else(|| {
            let (buckets, predicted) = (Vec::new(), Vec::new());
            self.rows.push(Row { name, buckets, percentiles: [f64::NAN; 3], predicted, measured: false });
            self.rows.len() - 1
        });
        self.rows[index].predicted.push(time.seconds());
        self
    }

    /// A published figure, dotted through all rows.
    pub fn mark_x(mut self, name: impl Display, time: impl Time) -> Self {
        self.marks.push((name.to_string(), time.seconds()));
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

    /// Counts per step of the logarithm, and which step is the first. The steps are the same for every chart and divide
    /// a decade evenly, so that a histogram whose buckets do so as well shows no pattern that is not in it.
    fn ridge(row: &Row) -> (f64, Vec<f64>) {
        let step = |value: f64| (value.log10() * PER_DECADE * 1e6).round() / 1e6;
        let usable: Vec<(f64, f64, f64)> = row
            .buckets
            .iter()
            .filter(|bucket| Self::is_usable(bucket))
            // A bucket from zero has no place on this axis, but its upper end has.
            .map(|(from, to, many)| (step(if *from > 0.0 { *from } else { *to }), step(*to), *many))
            .collect();
        let first = usable.iter().map(|bucket| bucket.0).fold(f64::INFINITY, f64::min).floor();
        let last = usable.iter().map(|bucket| bucket.1).fold(f64::NEG_INFINITY, f64::max).ceil();
        if first > last {
            return (0.0, Vec::new());
        }
        let mut counts = vec![0.0; ((last - first) as usize).max(1)];
        let end = counts.len() - 1;
        for (from, to, many) in usable {
            let (a, b) = (from - first, to - first);
            if b - a < 1e-9 {
                counts[(a as usize).min(end)] += many;
                continue;
            }
            for (bin, slot) in counts.iter_mut().enumerate().take(b.ceil() as usize).skip(a as usize) {
                let covered = (bin as f64 + 1.0).min(b) - (bin as f64).max(a);
                *slot += many * (covered / (b - a)).max(0.0);
            }
        }
        (first, counts)
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
        let mut numbers = Numbers::new(&["operation", "kind", "low_s", "high_s", "count"]);
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
                all => Cell::Text(all.iter().map(|value| time(*value)).collect::<Vec<_>>().join(", ")),
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
        let band = HEAD + uprights_height(marks.len());
        let around = self.frame.header_height(width, &[]) + self.frame.footer_height(width, &left_out) + axis + band;
        let mut page = self.frame.page(width, self.frame.height(around + rows * ROW + 2.0), &[], &left_out);
        let body = page.body;
        let row_height = ((body.height() - axis - band) / rows).max(10.0);
        let names = names_width(self.rows.iter().map(|row| row.name.as_str()), width * 0.24);
        // A narrow card keeps its room for the ridges.
        let table: usize = match width {
            560.0.. => 3,
            420.0.. => 2,
            _ => 1,
        };
        let left = body.left + names + 12.0;
        let bottom = body.top + band + row_height * rows;
        let right = (body.right - COLUMN * table as f64 - 4.0).max(left + 40.0);
        let area = Area::new(left, body.top + band, right, bottom);
        let place = |value: f64| area.left + scale.place(value) * area.width();
        for (tick, _) in x_ticks(&self.frame.x, scale, area.width()) {
            let at = crisp(place(tick));
            page.picture.line((at, area.top - 4.0), (at, area.bottom), Stroke::solid(theme::GRID, 1.0));
        }
        let named = area.top - HEAD + 9.0;
        let uprights: Vec<Upright> = marks.iter().map(|mark| Upright::reference(place(mark.1), &mark.0)).collect();
        page.uprights(&uprights, Area { top: named, ..area }, 3);
        let column = |index: usize| body.right - COLUMN * (table - 1 - index) as f64;
        for (index, name) in ["p50", "p99", "p99.9"].iter().take(table).enumerate() {
            let at = (column(index), area.top - 8.0);
            page.picture.text(Text::new(at, *name, SMALL, theme::FAINT).bold().anchor(Anchor::End));
        }
        for (index, row) in self.rows.iter().enumerate() {
            let base = crisp(area.top + row_height * (index as f64 + 1.0)) - 3.0;
            let top = base - row_height + 9.0;
            let colour = theme::series(0);
            let (first, shares) = Self::ridge(row);
            let at = |bin: usize| place(10_f64.powf((first + bin as f64) / PER_DECADE)).clamp(area.left, area.right);
            let peak = shares.iter().fold(0.0_f64, |peak, share| peak.max(*share));
            if peak > 0.0 {
                let mut outline = vec![(at(0), base)];
                for (bin, share) in shares.iter().enumerate() {
                    // A single slow request in a million must still be seen.
                    let height = (share / peak * (base - top)).max(if *share > 0.0 { 1.0 } else { 0.0 });
                    outline.push((at(bin), base - height));
                    outline.push((at(bin + 1), base - height));
                }
                outline.push((at(shares.len()), base));
                let samples: f64 = row.buckets.iter().map(|bucket| bucket.2).filter(|many| many.is_finite()).sum();
                let hint = format!("{}: {} samples", row.name, super::format::fixed(samples, 0));
                page.picture.area(outline.clone(), Fill { colour, opacity: 0.42 }).hint(hint);
                page.picture.path(outline, Stroke::solid(colour, 1.25));
            }
            page.picture.line((area.left, base), (area.right, base), Stroke::solid(theme::AXIS, 1.0));
            self.draw_percentiles(&mut page.picture, row, (base, top), &place, index == 0);
            for predicted in row.predicted.iter().filter(|value| scale.covers(**value)) {
                let at = place(*predicted);
                let hint = format!("{}: predicted {}", row.name, time(*predicted));
                page.picture.line((at, top - 3.0), (at, base + 3.0), Stroke::prediction()).hint(hint);
            }
            page.row_name(&row.name, left - 12.0, base - row_height * 0.28, names, row_height);
            for (index, value) in row.percentiles.iter().take(table).enumerate() {
                let text = if value.is_finite() { time(*value) } else { "–".to_string() };
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
            let hint = format!("{}: {name} {}", row.name, time(value));
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
            } else if at > last + 1.0 {
                picture.text(beside);
                last = at + 5.0 + width;
            }
        }
    }
}

fn said(seconds: f64) -> Cell {
    if seconds.is_finite() { Cell::Text(time(seconds)) } else { Cell::Empty }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_sample_is_lost_on_the_way_to_the_ridge() {
        let buckets = [(0.0, 1e-9, 5), (1e-9, 2e-9, 10), (1e-7, 2e-5, 1000), (1.0, 1.0, 1)];
        let chart = Latencies::new("t".to_string()).distribution("a", buckets, 1e-9, 2e-9, 3e-9);
        let (first, counts) = Latencies::ridge(&chart.rows[0]);
        assert!((counts.iter().sum::<f64>() - 1016.0).abs() < 1e-6);
        assert_eq!(first, -9.0 * PER_DECADE);
    }

    #[test]
    fn even_buckets_make_an_even_ridge() {
        let edge = |i: i32| 10_f64.powf(f64::from(i) / 12.0) / 1e9;
        let buckets = (0..60).map(|i| (edge(i), edge(i + 1), 7));
        let chart = Latencies::new("t".to_string()).distribution("a", buckets, 1e-9, 2e-9, 3e-9);
        let (_, counts) = Latencies::ridge(&chart.rows[0]);
        assert!(counts.len() == 120 && counts.iter().all(|many| (many - 3.5).abs() < 1e-3), "{counts:?}");
    }

    #[test]
    fn a_prediction_may_come_before_its_operation() {
        let chart = Latencies::new("t".to_string()).predicted("a", Duration::from_micros(2));
        let chart = chart.distribution("a", [(1.0, 2.0, 3)], 1.0, 2.0, 2.0);
        assert_eq!((chart.rows.len(), chart.rows[0].predicted.as_slice()), (1, [2e-6].as_slice()));
    }
}

//! How values are distributed: shared bins, shares of each series, percentiles as marks.

use std::fmt::{self, Display};
use std::sync::Arc;

use super::Figure;
use super::figure;
use super::font::{self, Weight};
use super::format::{Unit, count};
use super::frame::{Frame, Swatch, Upright, Y_TICKS, framed, uprights_height, with_x, x_axis_height};
use super::number::Number;
use super::picture::{Area, Fill, Picture, Stroke, Text, crisp};
use super::reference::{Origin, beyond, in_reach, lines_note, yours};
use super::scale::{Kind, Scale};
use super::theme::{self, Colour, HEIGHT, LABEL};
use super::tidy::{Cell, Numbers};

/// A histogram; see [`Chart::histogram`](super::Chart::histogram).
///
/// ```
/// use lab::chart::{Chart, Figure};
///
/// let waits: Vec<f64> = (1..=1000).map(|i| 2.0 + (i % 37) as f64 * 0.1).collect();
/// let chart = Chart::histogram("Half of the requests wait less than four milliseconds")
///     .x("wait", "ms")
///     .samples("no pool", &waits)
///     .percentiles([50.0, 99.0]);
/// assert!(chart.to_svg().contains("p99"));
/// ```
#[derive(Debug, Clone)]
pub struct Histogram {
    frame: Frame,
    series: Vec<Series>,
    percentiles: Vec<f64>,
    marks: Vec<(String, f64, Origin)>,
    predicted: Vec<(String, Distribution)>,
    bins: Option<usize>,
}

#[derive(Debug, Clone)]
struct Series {
    name: String,
    /// From, to, how many; a sample is a bucket of no width.
    buckets: Vec<(f64, f64, f64)>,
    left_out: usize,
}

#[derive(Clone)]
struct Distribution(Arc<dyn Fn(f64) -> f64 + Send + Sync>);

impl fmt::Debug for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("distribution")
    }
}

framed!(Histogram);
with_x!(Histogram);

impl Histogram {
    pub(super) fn new(title: String) -> Self {
        let (series, percentiles, marks, predicted) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { frame: Frame::new(title), series, percentiles, marks, predicted, bins: None }
    }

    /// Measured values.
    pub fn samples(self, name: impl Display, samples: impl IntoIterator<Item = impl Number>) -> Self {
        self.counts(name, samples.into_iter().map(Number::value).map(|value| (value, value, 1.0)))
    }

    /// The values of one column of a frame, for each of what `by` holds. An axis that has no name yet gets the column's name and
    /// unit. Ends the cell where there is no such column.
    pub fn of(mut self, frame: &crate::Frame, value: &str, by: &str) -> Self {
        if self.frame.x.label.is_empty() {
            self = self.x(value, frame.unit(value));
        }
        for name in frame.distinct(by) {
            let rows = frame.filter_by(|row| row.text(by) == name);
            self = self.samples(name, rows.samples(value).values());
        }
        self
    }

    /// Values that were counted already: `(from, to, how many)`.
    pub fn counts<A: Number, B: Number, C: Number>(
        mut self,
        name: impl Display,
        counts: impl IntoIterator<Item = (A, B, C)>,
    ) -> Self {
        let all: Vec<(f64, f64, f64)> =
            counts.into_iter().map(|(from, to, many)| (from.value(), to.value(), many.value())).collect();
        self.series.push(Series { name: name.to_string(), buckets: all, left_out: 0 });
        self
    }

    /// What a distribution function (the share of values up to `x`, 0 to 1) predicts: a dashed outline.
    pub fn predicted(mut self, name: impl Display, up_to: impl Fn(f64) -> f64 + Send + Sync + 'static) -> Self {
        self.predicted.push((name.to_string(), Distribution(Arc::new(up_to))));
        self
    }

    /// Marks percentiles, `50.0` being the median.
    pub fn percentiles(mut self, percentiles: impl IntoIterator<Item = f64>) -> Self {
        self.percentiles = percentiles.into_iter().filter(|p| (0.0..=100.0).contains(p)).collect();
        self
    }

    /// A published figure, dotted.
    pub fn mark_x(mut self, name: impl Display, x: impl Number) -> Self {
        self.marks.push((name.to_string(), x.value(), Origin::Published));
        self
    }

    /// A figure that nobody published and that came out when we ran the prototype: dashes and dots, and said so.
    pub fn ran_x(mut self, name: impl Display, x: impl Number) -> Self {
        self.marks.push((Origin::Ran.label(&name.to_string()), x.value(), Origin::Ran));
        self
    }

    /// What the reader guessed: long dashes, "you: 30 %". Nothing where there is no guess.
    pub fn guess(mut self, guess: &crate::Guess) -> Self {
        self.marks.extend(yours(guess).map(|(said, value)| (said, value, Origin::Guessed)));
        self
    }

    /// Makes the axis of the values logarithmic.
    pub fn log_x(mut self) -> Self {
        self.frame.x.kind = Kind::Log;
        self
    }

    /// How many bins; by default as many as the data carries.
    pub fn bins(mut self, bins: usize) -> Self {
        self.bins = Some(bins.clamp(1, 400));
        self
    }

    /// Without what the axis cannot hold, which is counted.
    fn usable(&self) -> Vec<Series> {
        let kind = self.frame.x.kind;
        let holds = |(from, to, many): &&(f64, f64, f64)| {
            kind.holds(*to)
                && from <= to
                && super::number::drawable(*from)
                && super::number::drawable(*many)
                && *many >= 0.0
        };
        self.series
            .iter()
            .map(|series| {
                let buckets: Vec<(f64, f64, f64)> = series.buckets.iter().filter(holds).copied().collect();
                // A bucket from zero has no place on a logarithmic axis, but its upper end has.
                let lifted = |(from, to, many)| (if kind.holds(from) { from } else { to }, to, many);
                Series {
                    name: series.name.clone(),
                    left_out: series.buckets.len() - buckets.len(),
                    buckets: buckets.into_iter().map(lifted).collect(),
                }
            })
            .collect()
    }

    fn edges(&self, usable: &[Series]) -> Vec<f64> {
        let buckets = || usable.iter().flat_map(|series| &series.buckets).filter(|bucket| bucket.2 > 0.0);
        let mut values: Vec<f64> = buckets().flat_map(|(from, to, _)| [*from, *to]).collect();
        values.sort_by(f64::total_cmp);
        let scale = Scale::around(self.frame.x.kind, values.iter().copied());
        // Whole numbers get a bin each if there are few, around them.
        let linear = scale.kind == Kind::Linear && self.bins.is_none();
        let whole = linear && values.iter().all(|value| value.fract() == 0.0);
        let (low, high) = (values.first().copied().unwrap_or(0.0), values.last().copied().unwrap_or(0.0));
        let even = |width: f64, bins: f64| (0..=bins as usize).map(|i| low - 0.5 + i as f64 * width).collect();
        if whole && !values.is_empty() && high - low <= 60.0 {
            return even(1.0, high - low + 1.0);
        }
        let bins = self.bins.unwrap_or_else(|| {
            // Freedman and Diaconis, for the series that needs the narrowest bins.
            let widths = usable.iter().filter_map(|series| {
                let quartile = |percent: f64| Self::percentile(series, percent).map(|value| scale.place(value));
                let many: f64 = series.buckets.iter().map(|bucket| bucket.2).sum();
                Some(2.0 * (quartile(75.0)? - quartile(25.0)?) / many.max(1.0).cbrt())
            });
            let width = widths.filter(|width| *width > 0.0).fold(f64::INFINITY, f64::min);
            if width.is_finite() { ((1.0 / width) as usize).clamp(8, 60) } else { 20 }
        });
        if whole && high - low > 60.0 && high < 1e15 {
            // As many whole numbers in every bin: else some bins stick out because they hold one more.
            let width = ((high - low + 1.0) / bins as f64).round().max(1.0);
            return even(width, ((high - low + 1.0) / width).ceil());
        }
        if linear {
            // Edges at round numbers: a whole fraction of the distance between two ticks.
            let tick = scale.ticks(bins.min(20)).windows(2).map(|pair| pair[1] - pair[0]).fold(f64::INFINITY, f64::min);
            let step = tick / (bins as f64 * tick / (scale.high - scale.low)).round().max(1.0);
            if step.is_finite() && step > 0.0 && (scale.high - scale.low) / step <= 200.0 {
                let first = (scale.low / step + 1e-9).floor();
                let bins = ((scale.high / step - 1e-9).ceil() - first).clamp(1.0, 200.0) as usize;
                return (0..=bins).map(|i| (first + i as f64) * step).collect();
            }
        }
        (0..=bins).map(|i| scale.value(i as f64 / bins as f64)).collect()
    }

    /// How many values of a series fall into each bin; a bucket wider than a bin is shared out.
    fn binned(series: &Series, edges: &[f64], kind: Kind) -> Vec<f64> {
        let bins = edges.len() - 1;
        let scale = Scale { kind: Kind::Linear, low: 0.0, high: 1.0 };
        let at = |value: f64| if kind == Kind::Log { value.log10() } else { scale.value(value) };
        let places: Vec<f64> = edges.iter().map(|edge| at(*edge)).collect();
        let bin_of = |place: f64| places.partition_point(|edge| *edge <= place).clamp(1, bins) - 1;
        let mut counts = vec![0.0; bins];
        for (from, to, many) in &series.buckets {
            let (from, to) = (at(*from), at(*to));
            let (first, last) = (bin_of(from), bin_of(to));
            if first == last || to <= from {
                counts[first] += many;
                continue;
            }
            for bin in first..=last {
                let covered = places[bin + 1].min(to) - places[bin].max(from);
                counts[bin] += many * (covered / (to - from)).clamp(0.0, 1.0);
            }
        }
        counts
    }

    fn percentile(series: &Series, percent: f64) -> Option<f64> {
        let mut buckets: Vec<&(f64, f64, f64)> = series.buckets.iter().collect();
        buckets.sort_by(|a, b| a.1.total_cmp(&b.1));
        let wanted = buckets.iter().map(|bucket| bucket.2).sum::<f64>() * percent / 100.0;
        let mut seen = 0.0;
        let found = buckets.iter().find(|bucket| {
            seen += bucket.2;
            bucket.2 > 0.0 && seen >= wanted * (1.0 - 1e-12)
        });
        found.map(|bucket| bucket.1)
    }
}

/// One series on the page.
struct Shape<'a> {
    series: &'a Series,
    counts: Vec<f64>,
    total: f64,
    colour: Colour,
}

impl Figure for Histogram {
    figure!(Histogram);

    fn numbers(&self) -> Numbers {
        let mut numbers = Numbers::new(&["series", "kind", "low", "high", "count"]);
        let usable = self.usable();
        let edges = self.edges(&usable);
        for series in &usable {
            for (bin, many) in Self::binned(series, &edges, self.frame.x.kind).into_iter().enumerate() {
                let (low, high) = (edges[bin].into(), edges[bin + 1].into());
                numbers.row([(&series.name).into(), "bin".into(), low, high, many.into()]);
            }
            for percent in &self.percentiles {
                if let Some(value) = Self::percentile(series, *percent) {
                    let name = format!("p{percent}");
                    let row = [(&series.name).into(), (&name).into(), value.into(), value.into(), Cell::Empty];
                    numbers.row(row);
                }
            }
        }
        for (name, up_to) in &self.predicted {
            for edge in edges.windows(2) {
                let share = (up_to.0)(edge[1]) - (up_to.0)(edge[0]);
                let row = [name.into(), "predicted share".into(), edge[0].into(), edge[1].into(), share.into()];
                numbers.row(row);
            }
        }
        for (name, x, origin) in &self.marks {
            numbers.row([name.into(), origin.kind().into(), (*x).into(), (*x).into(), Cell::Empty]);
        }
        numbers
    }

    fn draw(&self, width: f64) -> Picture {
        let usable = self.usable();
        let edges = self.edges(&usable);
        let kind = self.frame.x.kind;
        let shapes: Vec<Shape<'_>> = usable
            .iter()
            .enumerate()
            .map(|(index, series)| {
                let counts = Self::binned(series, &edges, kind);
                Shape { series, total: counts.iter().sum(), counts, colour: theme::series(index) }
            })
            .collect();
        let has_room = |value: f64, origin: Origin| {
            kind.holds(value) && (origin != Origin::Guessed || in_reach(kind, edges.iter().copied(), value))
        };
        let marks = self.marks.iter().filter(|mark| has_room(mark.1, mark.2)).map(|mark| mark.1);
        let x = Scale::around(kind, edges.iter().copied().chain(marks)).padded(0.01);
        let mut left_out = Vec::new();
        let values: usize = usable.iter().map(|series| series.left_out).sum();
        if values > 0 {
            let why = if kind == Kind::Log { "without a value, or at or below zero," } else { "without a value" };
            left_out.push(format!("{} {why} left out.", count(values, "value", "values")));
        }
        let (guesses, references): (Vec<_>, Vec<_>) =
            self.marks.iter().filter(|mark| !x.covers(mark.1)).partition(|mark| mark.2 == Origin::Guessed);
        let references = references.len();
        if references > 0 {
            left_out.push(format!("{} left out.", count(references, "reference", "references")));
        }
        left_out.extend(beyond(guesses.into_iter().map(|mark| mark.1), &self.frame.x.unit));
        left_out.extend(lines_note(self.marks.iter().filter(|mark| x.covers(mark.1)).map(|mark| mark.2)));
        let apart = shapes.len() > 2 || (shapes.len() > 1 && !self.percentiles.is_empty());
        if apart {
            self.draw_rows(width, &shapes, &edges, x, left_out)
        } else {
            self.draw_one(width, &shapes, &edges, x, left_out)
        }
    }
}

impl Histogram {
    fn key(&self, shapes: &[Shape<'_>], names: bool) -> Vec<(String, Swatch)> {
        let named = |shape: &Shape<'_>| (shape.series.name.clone(), Swatch::Box(theme::tint(shape.colour, 0.7)));
        let mut key: Vec<(String, Swatch)> = if names { shapes.iter().map(named).collect() } else { Vec::new() };
        let predicted = |(name, _): &(String, Distribution)| {
            let said = name.contains("predict") || name.contains("expect");
            let name = if said { name.clone() } else { format!("predicted: {name}") };
            (name, Swatch::Dashed(theme::PREDICTION))
        };
        key.extend(self.predicted.iter().map(predicted));
        key
    }

    /// One plot, at most two series over each other.
    fn draw_one(&self, width: f64, shapes: &[Shape<'_>], edges: &[f64], x: Scale, left_out: Vec<String>) -> Picture {
        let key = self.key(shapes, shapes.len() > 1);
        let mut page = self.frame.page(width, self.frame.height(HEIGHT), &key, &left_out);
        // Series of different sizes are compared by their shares.
        let shares = shapes.len() > 1;
        let part = |shape: &Shape<'_>| if shares { 100.0 / shape.total.max(1e-300) } else { 1.0 };
        let total = if shares { 100.0 } else { shapes.first().map_or(0.0, |shape| shape.total) };
        let peaks = shapes.iter().flat_map(|shape| shape.counts.iter().map(|many| many * part(shape)));
        let predicted = self
            .predicted
            .iter()
            .flat_map(|(_, up_to)| edges.windows(2).map(|edge| ((up_to.0)(edge[1]) - (up_to.0)(edge[0])) * total));
        let y = Scale::around(Kind::Linear, peaks.chain(predicted).chain([0.0])).rounded(Y_TICKS);
        let mut frame = self.frame.clone();
        frame.y.label = match shapes {
            [shape] if !shape.series.name.is_empty() => format!("{}: values in each bin", shape.series.name),
            [_] => "values in each bin".to_string(),
            _ => "share of the values in each bin".to_string(),
        };
        frame.y.unit = if shares { Unit::Percent } else { Unit::None };
        let ticks = match shapes {
            [shape] => self.ticks(shape.series, x),
            _ => self.ticks(&Series { name: String::new(), buckets: Vec::new(), left_out: 0 }, x),
        };
        let band = uprights_height(ticks.len());
        let plot = page.plot(&frame, x, y, 0.0, band);
        for shape in shapes {
            let counts: Vec<f64> = shape.counts.iter().map(|many| many * part(shape)).collect();
            let place = |bin: usize, many: f64| (plot.place_x(edges[bin]), plot.place_y(many));
            draw_steps(&mut page.picture, &counts, &place, shape.colour, shares);
        }
        for (name, up_to) in &self.predicted {
            let expected = edges.windows(2).map(|edge| ((up_to.0)(edge[1]) - (up_to.0)(edge[0])) * total);
            let outline: Vec<(f64, f64)> = edges
                .windows(2)
                .zip(expected)
                .filter(|(_, many)| super::number::drawable(*many))
                .map(|(edge, many)| {
                    let middle = (plot.place_x(edge[0]) + plot.place_x(edge[1])) / 2.0;
                    (middle, plot.place_y(many))
                })
                .collect();
            page.picture.clipped(&outline, plot.area, Stroke::prediction(), name);
        }
        page.uprights(&uprights(ticks, plot.area, x), plot.area, 3);
        if shapes.iter().all(|shape| shape.total <= 0.0) {
            page.empty(plot.area);
        }
        page.picture
    }

    /// A row for every series.
    fn draw_rows(
        &self,
        width: f64,
        shapes: &[Shape<'_>],
        edges: &[f64],
        x: Scale,
        mut left_out: Vec<String>,
    ) -> Picture {
        let peak = |shape: &Shape<'_>| shape.counts.iter().fold(0.0, |a, b| f64::max(a, *b)) / shape.total.max(1e-300);
        let peaks: Vec<f64> = shapes.iter().map(peak).collect();
        let highest = peaks.iter().fold(0.0, |a, b| f64::max(a, *b));
        let own = peaks.iter().any(|peak| *peak > 0.0 && highest > 6.0 * peak);
        let scaled = if own { "each row is scaled to its own peak" } else { "all rows have one scale" };
        left_out.push(format!("Height: share of the values in each bin; {scaled}."));
        let key = self.key(shapes, false);
        let axis = x_axis_height(&self.frame.x);
        let band = if self.percentiles.is_empty() && self.marks.is_empty() { 18.0 } else { 36.0 };
        let row = (560.0 / shapes.len() as f64).clamp(40.0 + band, 66.0 + band);
        let around = self.frame.header_height(width, &key) + self.frame.footer_height(width, &left_out) + axis;
        let mut page = self.frame.page(width, self.frame.height(around + row * shapes.len() as f64), &key, &left_out);
        let body = page.body;
        let row = ((body.height() - axis) / shapes.len() as f64).max(12.0);
        for (index, shape) in shapes.iter().enumerate() {
            let top = body.top + row * index as f64;
            let area = Area::new(body.left, top + band.min(row * 0.5), body.right, top + row - 2.0);
            let place_x = |value: f64| area.left + x.place(value) * area.width();
            let tallest = if own { peaks[index] } else { highest };
            let place = |bin: usize, share: f64| {
                (place_x(edges[bin]), area.bottom - share / tallest.max(1e-300) * area.height())
            };
            let shares: Vec<f64> = shape.counts.iter().map(|many| many / shape.total.max(1e-300)).collect();
            draw_steps(&mut page.picture, &shares, &place, shape.colour, false);
            page.picture.line(
                (area.left, crisp(area.bottom)),
                (area.right, crisp(area.bottom)),
                Stroke::solid(theme::GRID, 1.0),
            );
            for (name, up_to) in &self.predicted {
                let outline = edges.windows(2).map(|edge| {
                    let share = (up_to.0)(edge[1]) - (up_to.0)(edge[0]);
                    ((place_x(edge[0]) + place_x(edge[1])) / 2.0, place(0, share).1)
                });
                let outline: Vec<(f64, f64)> = outline.filter(|point| point.1.is_finite()).collect();
                page.picture.clipped(&outline, area, Stroke::prediction(), name);
            }
            page.uprights(&uprights(self.ticks(shape.series, x), area, x), area, 1);
            let name = font::fit(&shape.series.name, area.width() * 0.5, LABEL, Weight::SemiBold);
            let name = Text::new((area.left, top + 13.0), name, LABEL, theme::legible(shape.colour)).bold().halo();
            page.picture.text(name);
        }
        let area = Area::new(body.left, body.top, body.right, body.top + row * shapes.len() as f64 - 2.0);
        page.x_axis(&self.frame.x, area, x);
        page.picture
    }

    /// Percentiles and references within the axis: where, what to write, whose a reference is.
    fn ticks(&self, series: &Series, x: Scale) -> Vec<Tick> {
        let percentiles = self.percentiles.iter().filter_map(|percent| {
            let value = Self::percentile(series, *percent)?;
            Some((value, format!("p{percent} {}", self.frame.x.unit.show(value)), None))
        });
        let marks = self.marks.iter().map(|(name, value, origin)| (*value, name.clone(), Some(*origin)));
        percentiles.chain(marks).filter(|tick| x.covers(tick.0)).collect()
    }
}

type Tick = (f64, String, Option<Origin>);

fn uprights(ticks: Vec<Tick>, area: Area, x: Scale) -> Vec<Upright> {
    let upright = |(value, name, origin)| Upright { at: area.left + x.place(value) * area.width(), name, origin };
    ticks.into_iter().map(upright).collect()
}

/// The outline of a histogram, filled.
fn draw_steps(
    picture: &mut Picture,
    counts: &[f64],
    place: &dyn Fn(usize, f64) -> (f64, f64),
    colour: Colour,
    over: bool,
) {
    if counts.iter().all(|many| *many <= 0.0) {
        return;
    }
    let mut outline = vec![place(0, 0.0)];
    for (bin, many) in counts.iter().enumerate() {
        outline.push(place(bin, *many));
        outline.push(place(bin + 1, *many));
    }
    outline.push(place(counts.len(), 0.0));
    picture.area(outline.clone(), Fill { colour, opacity: if over { 0.28 } else { 0.55 } });
    picture.path(outline, Stroke::solid(colour, 1.5));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn chart() -> Histogram {
        Histogram::new("t".to_string())
    }

    #[test]
    fn every_value_is_in_exactly_one_bin() {
        for kind in [Kind::Linear, Kind::Log] {
            let mut chart = chart().samples("a", (1..=997).map(|i| f64::from(i * i) * 0.37)).samples("b", [5.0, 5.0]);
            chart.frame.x.kind = kind;
            let usable = chart.usable();
            let edges = chart.edges(&usable);
            let sums: Vec<f64> = usable.iter().map(|s| Histogram::binned(s, &edges, kind).iter().sum()).collect();
            assert_eq!(sums, [997.0, 2.0]);
        }
    }

    #[test]
    fn wide_buckets_are_shared_out() {
        let chart = chart().counts("a", [(0.0, 10.0, 100.0)]).bins(10);
        let usable = chart.usable();
        let counts = Histogram::binned(&usable[0], &chart.edges(&usable), Kind::Linear);
        assert!(counts.iter().all(|many| (many - 10.0).abs() < 1e-9), "{counts:?}");
    }

    #[test]
    fn whole_numbers_get_a_bin_each() {
        let chart = chart().samples("dice", [1, 2, 3, 4, 5, 6]);
        assert_eq!(chart.edges(&chart.usable()), [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5]);
    }

    #[test]
    fn bins_of_whole_numbers_hold_as_many_each() {
        let chart = chart().samples("keys", (0..2000).map(|i| i * i % 401));
        let edges = chart.edges(&chart.usable());
        assert!(
            edges.windows(2).all(|pair| (pair[1] - pair[0]).fract() == 0.0) && edges[0].fract() == -0.5,
            "{edges:?}"
        );
        assert!(edges[edges.len() - 1] > 400.0 && edges.len() <= 62);
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let series = chart().samples("a", 1..=1000).usable().remove(0);
        assert_eq!(Histogram::percentile(&series, 50.0).unwrap(), 500.0);
        assert_eq!(Histogram::percentile(&series, 99.9).unwrap(), 999.0);
        assert_eq!(Histogram::percentile(&series, 100.0).unwrap(), 1000.0);
    }
}

//! Values over a continuous axis: lines with their spread, points, predictions, and published figures to compare with.

use std::fmt::{self, Display};
use std::sync::Arc;

use super::Figure;
use super::figure;
use super::font::{self, Weight, wrap};
use super::format::count;
use super::frame::{Frame, Page, Plot, Swatch, Y_TICKS, framed, with_x, with_y};
use super::labels::{Crowd, spread_out};
use super::number::{Number, Point, Spread, SpreadPoint};
use super::picture::{Anchor, Area, Fill, Picture, Stroke, Text, crisp};
use super::scale::{Kind, Scale};
use super::theme::{self, Colour, HEIGHT, LABEL, PAPER};
use super::tidy::{Cell, Numbers};

/// A chart of lines and points; see [`Chart::lines`](super::Chart::lines).
///
/// ```
/// use lablib::lab::chart::{Chart, Figure};
///
/// let measured = [(1, [4.1, 4.9, 5.3]), (10, [1.9, 2.0, 2.2]), (100, [1.2, 1.3, 1.3]), (1000, [1.1, 1.1, 1.1])];
/// let chart = Chart::lines("Imbalance falls with the root of the virtual nodes")
///     .x("virtual nodes per shard", "")
///     .y("busiest shard ÷ mean", "×")
///     .log_x()
///     .line_with_spread("ring", measured)
///     .predicted("1 + 3/√v", |v| 1.0 + 3.0 / v.sqrt())
///     .mark_y("perfect balance", 1.0);
/// assert!(chart.to_csv().contains("ring,measured,10,2,1.9,2.2"));
/// ```
#[derive(Debug, Clone)]
pub struct Lines {
    frame: Frame,
    series: Vec<Series>,
    marks: Vec<Mark>,
    zero: Option<bool>,
}

#[derive(Debug, Clone)]
struct Series {
    name: String,
    look: Look,
    points: Vec<(f64, Spread)>,
    formula: Option<Formula>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Look {
    Line,
    Points,
    Predicted,
}

#[derive(Clone)]
struct Formula(Arc<dyn Fn(f64) -> f64 + Send + Sync>);

impl fmt::Debug for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("formula")
    }
}

#[derive(Debug, Clone)]
enum Mark {
    X(String, f64),
    Y(String, f64),
    Point(String, f64, f64),
}

framed!(Lines);
with_x!(Lines);
with_y!(Lines);

impl Lines {
    pub(super) fn new(title: String) -> Self {
        Self { frame: Frame::new(title), series: Vec::new(), marks: Vec::new(), zero: None }
    }

    /// Makes the horizontal axis logarithmic.
    pub fn log_x(mut self) -> Self {
        self.frame.x.kind = Kind::Log;
        self
    }

    /// Makes the vertical axis logarithmic.
    pub fn log_y(mut self) -> Self {
        self.frame.y.kind = Kind::Log;
        self
    }

    /// Fixes the horizontal axis, so that two charts can be compared. What lies outside is counted in the small print.
    pub fn x_range(mut self, low: impl Number, high: impl Number) -> Self {
        self.frame.x.range = Some((low.value(), high.value()));
        self
    }

    /// Fixes the vertical axis, so that two charts can be compared. What lies outside is counted in the small print.
    pub fn y_range(mut self, low: impl Number, high: impl Number) -> Self {
        self.frame.y.range = Some((low.value(), high.value()));
        self
    }

    /// Starts the vertical axis at zero even if the values are far above it.
    pub fn from_zero(mut self) -> Self {
        self.zero = Some(true);
        self
    }

    /// A line through `(x, y)`, named at its end.
    pub fn line(self, name: impl Display, points: impl IntoIterator<Item = impl Point>) -> Self {
        self.with(name, Look::Line, exact(points))
    }

    /// A line through repeated measurements: `(x, samples)`, or `(x, median, low, high)`. The spread is drawn as bars, or
    /// as a band when there are many points.
    pub fn line_with_spread(self, name: impl Display, points: impl IntoIterator<Item = impl SpreadPoint>) -> Self {
        self.with(name, Look::Line, points.into_iter().map(SpreadPoint::at).collect())
    }

    /// Points without a line.
    pub fn points(self, name: impl Display, points: impl IntoIterator<Item = impl Point>) -> Self {
        self.with(name, Look::Points, exact(points))
    }

    /// Points with the spread of repeated measurements: `(x, samples)`, or `(x, median, low, high)`.
    pub fn points_with_spread(self, name: impl Display, points: impl IntoIterator<Item = impl SpreadPoint>) -> Self {
        self.with(name, Look::Points, points.into_iter().map(SpreadPoint::at).collect())
    }

    /// What a formula says, dashed, over the whole axis. A closure that uses a variable of the cell needs `move`.
    pub fn predicted(mut self, name: impl Display, formula: impl Fn(f64) -> f64 + Send + Sync + 'static) -> Self {
        self = self.with(name, Look::Predicted, Vec::new());
        if let Some(last) = self.series.last_mut() {
            last.formula = Some(Formula(Arc::new(formula)));
        }
        self
    }

    /// What was predicted, as points that a dashed line connects.
    pub fn predicted_points(self, name: impl Display, points: impl IntoIterator<Item = impl Point>) -> Self {
        self.with(name, Look::Predicted, exact(points))
    }

    /// A published figure, dotted across the chart.
    pub fn mark_y(mut self, name: impl Display, y: impl Number) -> Self {
        self.marks.push(Mark::Y(name.to_string(), y.value()));
        self
    }

    /// A place on the horizontal axis where something happens.
    pub fn mark_x(mut self, name: impl Display, x: impl Number) -> Self {
        self.marks.push(Mark::X(name.to_string(), x.value()));
        self
    }

    /// A published point, as a diamond.
    pub fn mark_point(mut self, name: impl Display, x: impl Number, y: impl Number) -> Self {
        self.marks.push(Mark::Point(name.to_string(), x.value(), y.value()));
        self
    }

    fn with(mut self, name: impl Display, look: Look, points: Vec<(f64, Spread)>) -> Self {
        let mut points = points;
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.series.push(Series { name: name.to_string(), look, points, formula: None });
        self
    }

    /// Series of one name share a colour, predictions have their own.
    fn colour(&self, index: usize) -> Colour {
        let series = &self.series[index];
        if series.look == Look::Predicted {
            return theme::PREDICTION;
        }
        let mut names: Vec<&str> = Vec::new();
        for other in self.series.iter().filter(|other| other.look != Look::Predicted) {
            if other.name == series.name {
                break;
            }
            if !names.contains(&other.name.as_str()) {
                names.push(&other.name);
            }
        }
        theme::series(names.len())
    }

    fn is_drawable(&self, x: f64, y: f64) -> bool {
        self.frame.x.kind.holds(x) && self.frame.y.kind.holds(y)
    }

    fn drawable<'a>(&'a self, series: &'a Series) -> impl Iterator<Item = (f64, Spread)> + 'a {
        series.points.iter().copied().filter(|(x, spread)| self.is_drawable(*x, spread.mid))
    }

    fn scales(&self) -> (Scale, Scale) {
        let measured: Vec<(f64, Spread)> = self.series.iter().flat_map(|series| self.drawable(series)).collect();
        let points = self.marks.iter().filter_map(|mark| match mark {
            Mark::Point(_, x, y) if self.is_drawable(*x, *y) => Some((*x, *y)),
            _ => None,
        });
        let points: Vec<(f64, f64)> = points.collect();
        let x = self.frame.x.scale(|| {
            let marks = self.marks.iter().filter_map(|mark| match mark {
                Mark::X(_, x) => Some(*x),
                _ => None,
            });
            let values = measured.iter().map(|(x, _)| *x).chain(points.iter().map(|point| point.0)).chain(marks);
            let only_lines = self.series.iter().all(|series| series.look != Look::Points);
            let scale = Scale::around(self.frame.x.kind, values);
            // From one to a hundred clients: people look for the zero.
            let scale = if scale.kind == Kind::Linear && scale.low > 0.0 && scale.low <= 0.12 * scale.high {
                Scale { low: 0.0, ..scale }
            } else {
                scale.padded(if only_lines { 0.012 } else { 0.03 })
            };
            if scale.low == 0.0 { Scale { high: scale.high * 1.012, ..scale } } else { scale }
        });
        let y = self.frame.y.scale(|| {
            let values = measured.iter().flat_map(|(_, spread)| [spread.low, spread.mid, spread.high]);
            let marks = self.marks.iter().filter_map(|mark| match mark {
                Mark::Y(_, y) => Some(*y),
                _ => None,
            });
            let seen: Vec<f64> = values.chain(points.iter().map(|point| point.1)).chain(marks).collect();
            let seen_at_all = seen.iter().any(|value| self.frame.y.kind.holds(*value));
            let around = Scale::around(self.frame.y.kind, seen.iter().copied());
            // A formula may run off (1/x at 0): it widens the axis by its own length at most, and is cut off there.
            let (least, most) = (around.value(-0.6), around.value(1.6));
            let predicted = self
                .series
                .iter()
                .filter_map(|series| series.formula.as_ref())
                .flat_map(|formula| sampled(formula, x))
                .map(|(_, y)| if seen_at_all { y.clamp(least, most) } else { y });
            let scale = Scale::around(self.frame.y.kind, seen.iter().copied().chain(predicted));
            match self.zero {
                Some(true) if scale.kind == Kind::Linear => {
                    Scale { low: scale.low.min(0.0), high: scale.high.max(0.0), ..scale }
                }
                _ => scale.towards_zero(),
            }
            .rounded(Y_TICKS)
        });
        (x, y)
    }

    /// Whether all places were chosen by doubling.
    fn is_doubling(&self) -> bool {
        let places = || self.series.iter().flat_map(|series| self.drawable(series)).map(|(x, _)| x);
        let power_of_two = |x: f64| x >= 1.0 && x.log2().fract() == 0.0;
        self.frame.x.kind == Kind::Log && places().count() >= 3 && places().all(power_of_two)
    }

    /// What is not in the picture, in words.
    fn small_print(&self, x: Scale, y: Scale) -> Vec<String> {
        let mut notes = Vec::new();
        let all = || self.series.iter().flat_map(|series| &series.points);
        let no_value = all().filter(|(x, spread)| !Kind::Linear.holds(*x) || !Kind::Linear.holds(spread.mid)).count();
        let off_log = all().count() - no_value - self.series.iter().flat_map(|s| self.drawable(s)).count();
        let outside = self
            .series
            .iter()
            .flat_map(|series| self.drawable(series))
            .filter(|(at, spread)| !x.covers(*at) || !y.covers(spread.mid))
            .count();
        let samples: usize = all().map(|(_, spread)| spread.left_out).sum();
        let marks = self
            .marks
            .iter()
            .filter(|mark| match mark {
                Mark::X(_, at) => !x.covers(*at),
                Mark::Y(_, at) => !y.covers(*at),
                Mark::Point(_, at, value) => !x.covers(*at) || !y.covers(*value),
            })
            .count();
        for (number, why) in [
            (no_value, "without a value left out"),
            (off_log, "at or below zero left out (logarithmic axis)"),
            (outside, "outside the axes left out"),
        ] {
            if number > 0 {
                notes.push(format!("{} {why}.", count(number, "point", "points")));
            }
        }
        if samples > 0 {
            notes.push(format!("{} without a value left out.", count(samples, "sample", "samples")));
        }
        if marks > 0 {
            notes.push(format!("{} outside the axes left out.", count(marks, "reference", "references")));
        }
        let spreads: Vec<Spread> = all().map(|(_, spread)| *spread).filter(Spread::is_wide).collect();
        if !spreads.is_empty() {
            notes.push(spread_note(&spreads));
        }
        notes
    }
}

/// What error bars mean.
pub(super) fn spread_note(spreads: &[Spread]) -> String {
    let runs: Vec<usize> = spreads.iter().map(|spread| spread.runs).collect();
    match (runs.iter().min(), runs.iter().max()) {
        (Some(&least), Some(&most)) if least > 1 && least == most => {
            format!("Median of {most} runs, with the lowest and the highest.")
        }
        (Some(&least), Some(&most)) if least > 1 => {
            format!("Median of {least} to {most} runs, with the lowest and the highest.")
        }
        _ => "The spread is drawn from low to high.".to_string(),
    }
}

fn exact(points: impl IntoIterator<Item = impl Point>) -> Vec<(f64, Spread)> {
    points.into_iter().map(Point::xy).map(|(x, y)| (x, Spread::exact(y))).collect()
}

fn sampled(formula: &Formula, x: Scale) -> Vec<(f64, f64)> {
    const STEPS: u32 = 240;
    (0..=STEPS)
        .map(|step| x.value(f64::from(step) / f64::from(STEPS)))
        .map(|x| (x, (formula.0)(x)))
        .filter(|(_, y)| super::number::drawable(*y))
        .collect()
}

/// A series on the page.
struct Drawn {
    points: Vec<(f64, f64)>,
    colour: Colour,
}

impl Figure for Lines {
    figure!(Lines);

    fn numbers(&self) -> Numbers {
        let mut numbers = Numbers::new(&["series", "kind", "x", "y", "low", "high"]);
        let mut places: Vec<f64> = self.series.iter().flat_map(|s| s.points.iter().map(|(x, _)| *x)).collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
        for series in &self.series {
            let kind = if series.look == Look::Predicted { "predicted" } else { "measured" };
            for (x, spread) in &series.points {
                let edge = |value: f64| if spread.low == spread.high { Cell::Empty } else { value.into() };
                numbers.row([
                    (&series.name).into(),
                    kind.into(),
                    (*x).into(),
                    spread.mid.into(),
                    edge(spread.low),
                    edge(spread.high),
                ]);
            }
            if let Some(formula) = &series.formula {
                // Where something was measured, to compare with; or at some places of an otherwise empty chart.
                let (x, _) = self.scales();
                let places = if places.is_empty() || places.len() > 200 {
                    (0..=20).map(|i| x.value(f64::from(i) / 20.0)).collect()
                } else {
                    places.clone()
                };
                for x in places {
                    let y = (formula.0)(x);
                    numbers.row([(&series.name).into(), kind.into(), x.into(), y.into(), Cell::Empty, Cell::Empty]);
                }
            }
        }
        for mark in &self.marks {
            let (name, x, y) = match mark {
                Mark::X(name, x) => (name, (*x).into(), Cell::Empty),
                Mark::Y(name, y) => (name, Cell::Empty, (*y).into()),
                Mark::Point(name, x, y) => (name, (*x).into(), (*y).into()),
            };
            numbers.row([name.into(), "reference".into(), x, y, Cell::Empty, Cell::Empty]);
        }
        numbers
    }

    fn draw(&self, width: f64) -> Picture {
        let (x, y) = self.scales();
        let left_out = self.small_print(x, y);
        let height = self.frame.height(HEIGHT);
        let room = (width * 0.25).min(190.0);
        let labels = self.end_labels(room);
        let tallest: f64 = labels.iter().map(|lines| lines.len() as f64 * LABEL * 1.2 + 3.0).sum();
        // Direct labels as long as they take less than the plot's height; a key otherwise.
        let direct = tallest < (height - 150.0).max(0.0);
        let key = if direct { Vec::new() } else { self.key() };
        let gutter = if direct {
            let widest = labels.iter().flatten().map(|line| font::width(line, LABEL, Weight::SemiBold));
            let widest = widest.fold(0.0, f64::max);
            if widest > 0.0 { widest + 14.0 } else { 0.0 }
        } else {
            0.0
        };
        let mut page = self.frame.page(width, height, &key, &left_out);
        let tops: Vec<&Mark> =
            self.marks.iter().filter(|mark| matches!(mark, Mark::X(_, at) if x.covers(*at))).collect();
        let band = 16.0 * tops.len().min(3) as f64;
        let mut frame = self.frame.clone();
        frame.x.doubling = self.is_doubling();
        let plot = page.plot(&frame, x, y, gutter, band);
        let drawn: Vec<Drawn> = (0..self.series.len()).map(|index| self.place(index, &plot)).collect();
        self.draw_x_marks(&mut page, &plot, &tops);
        self.draw_spreads(&mut page, &plot);
        for mark in &self.marks {
            if let Mark::Y(_, at) = mark
                && y.covers(*at)
            {
                let at = crisp(plot.place_y(*at));
                page.picture.line((plot.area.left, at), (plot.area.right, at), Stroke::reference());
            }
        }
        let mut crowd = Crowd::default();
        for mark in &self.marks {
            match mark {
                Mark::Y(_, at) if y.covers(*at) => {
                    crowd.add_line(&[plot.place(x.low, *at), plot.place(x.high, *at)]);
                }
                Mark::X(_, at) if x.covers(*at) => {
                    crowd.add_line(&[plot.place(*at, y.low), plot.place(*at, y.high)]);
                }
                _ => {}
            }
        }
        for (index, series) in drawn.iter().enumerate() {
            if self.series[index].look == Look::Points {
                series.points.iter().for_each(|p| crowd.add(Area::new(p.0 - 3.0, p.1 - 3.0, p.0 + 3.0, p.1 + 3.0)));
            } else {
                crowd.add_line(&series.points);
            }
            self.draw_series(&mut page, &plot, index, series);
        }
        self.draw_points_of_reference(&mut page, &plot, &mut crowd);
        if direct {
            self.draw_end_labels(&mut page, &plot, &drawn, labels, &mut crowd);
        }
        if drawn.iter().all(|series| series.points.is_empty()) {
            page.empty(plot.area);
        }
        page.picture
    }
}

impl Lines {
    fn label(&self, series: &Series) -> String {
        let said = ["predict", "expect", "model", "theory", "ideal"].iter().any(|word| series.name.contains(word));
        if series.look == Look::Predicted && !said {
            format!("predicted: {}", series.name)
        } else {
            series.name.clone()
        }
    }

    /// The lines of every label in the gutter: one entry per series, then one per horizontal mark.
    fn end_labels(&self, room: f64) -> Vec<Vec<String>> {
        let marks = self.marks.iter().filter_map(|mark| match mark {
            Mark::Y(name, _) => Some(name.clone()),
            _ => None,
        });
        self.series
            .iter()
            .enumerate()
            .map(|(index, series)| {
                // A line and points of one name need one label.
                let again = self.series[..index].iter().any(|other| self.label(other) == self.label(series));
                if again { String::new() } else { self.label(series) }
            })
            .chain(marks)
            .map(|name| if name.is_empty() { Vec::new() } else { wrap(&name, room, LABEL, Weight::SemiBold, 3) })
            .collect()
    }

    fn key(&self) -> Vec<(String, Swatch)> {
        let mut key: Vec<(String, Swatch)> = Vec::new();
        for (index, series) in self.series.iter().enumerate() {
            let colour = self.colour(index);
            let swatch = match series.look {
                Look::Line => Swatch::Line(colour),
                Look::Points => Swatch::Dot(colour),
                Look::Predicted => Swatch::Dashed(colour),
            };
            let label = self.label(series);
            if !key.iter().any(|(other, _)| *other == label) {
                key.push((label, swatch));
            }
        }
        for mark in &self.marks {
            if let Mark::Y(name, _) = mark {
                key.push((name.clone(), Swatch::Dashed(theme::REFERENCE)));
            }
        }
        key
    }

    /// The series in page coordinates, without what cannot be seen.
    fn place(&self, index: usize, plot: &Plot) -> Drawn {
        let series = &self.series[index];
        let values: Vec<(f64, f64)> = match &series.formula {
            Some(formula) => sampled(formula, plot.x).into_iter().filter(|(_, y)| plot.y.kind.holds(*y)).collect(),
            None => self.drawable(series).map(|(x, spread)| (x, spread.mid)).collect(),
        };
        let points: Vec<(f64, f64)> = values.into_iter().map(|(x, y)| plot.place(x, y)).collect();
        let points = if series.look == Look::Points {
            let area = plot.area.grown(0.5);
            thinned(points.into_iter().filter(|p| area.contains(&Area::new(p.0, p.1, p.0, p.1))).collect())
        } else {
            envelope(points)
        };
        Drawn { points, colour: self.colour(index) }
    }

    fn draw_spreads(&self, page: &mut Page, plot: &Plot) {
        let inside = plot.area;
        for (index, series) in self.series.iter().enumerate() {
            let colour = self.colour(index);
            let edges = |spread: &Spread| {
                let (low, high) = (plot.place_y(spread.low), plot.place_y(spread.high));
                (low.clamp(inside.top, inside.bottom), high.clamp(inside.top, inside.bottom))
            };
            let points: Vec<(f64, Spread)> =
                self.drawable(series).filter(|(x, spread)| plot.x.covers(*x) && spread.low <= spread.high).collect();
            if !points.iter().any(|(_, spread)| spread.is_wide()) {
                continue;
            }
            if points.len() > 12 && series.look == Look::Line {
                let upper = points.iter().map(|(x, spread)| (plot.place_x(*x), edges(spread).1));
                let lower = points.iter().rev().map(|(x, spread)| (plot.place_x(*x), edges(spread).0));
                page.picture.area(upper.chain(lower).collect(), Fill { colour, opacity: 0.16 });
                continue;
            }
            for (x, spread) in points.iter().filter(|(_, spread)| spread.is_wide()) {
                let (x, (low, high)) = (plot.place_x(*x), edges(spread));
                let stroke = Stroke::solid(theme::tint(colour, 0.6), 1.5);
                page.picture.line((x, low), (x, high), stroke);
                page.picture.line((x - 3.5, low), (x + 3.5, low), stroke);
                page.picture.line((x - 3.5, high), (x + 3.5, high), stroke);
            }
        }
    }

    fn draw_series(&self, page: &mut Page, plot: &Plot, index: usize, drawn: &Drawn) {
        let series = &self.series[index];
        let area = plot.area.grown(1.0);
        match series.look {
            Look::Predicted => page.picture.clipped(&drawn.points, area, Stroke::prediction()),
            Look::Line => {
                // A line through very many points is a texture; a thinner pen keeps it readable.
                let width = if series.points.len() > 400 { 1.5 } else { 2.25 };
                page.picture.clipped(&drawn.points, area, Stroke::solid(drawn.colour, width));
            }
            Look::Points => {}
        }
        let dotted = match series.look {
            Look::Line => series.points.len() <= 30,
            Look::Points => true,
            Look::Predicted => false,
        };
        if !dotted {
            return;
        }
        let radius = match drawn.points.len() {
            0..=200 => 3.25,
            201..=2000 => 2.25,
            _ => 1.5,
        };
        if radius < 3.0 {
            for point in &drawn.points {
                page.picture.disc(*point, radius, drawn.colour);
            }
            return;
        }
        for (x, spread) in self.drawable(series).filter(|(x, s)| plot.x.covers(*x) && plot.y.covers(s.mid)) {
            let at = plot.place(x, spread.mid);
            page.picture.disc(at, radius + 1.25, PAPER);
            let mut hint = format!("{}: {}, {}", series.name, self.frame.x.say(x), self.frame.y.say(spread.mid))
                .replace("  ", " ");
            if spread.is_wide() {
                let unit = &self.frame.y.unit;
                hint.push_str(&format!(" ({} to {})", unit.show(spread.low), unit.show(spread.high)));
            }
            page.picture.disc(at, radius, drawn.colour).hint(hint);
        }
    }

    /// Vertical references: each label on a line of its own above the plot, if there are few.
    fn draw_x_marks(&self, page: &mut Page, plot: &Plot, marks: &[&Mark]) {
        for (index, mark) in marks.iter().enumerate() {
            let Mark::X(name, at) = mark else { continue };
            let at = crisp(plot.place_x(*at));
            let row = plot.area.top - 16.0 * (1 + index % 3) as f64;
            page.picture.line((at, row + 2.0), (at, plot.area.bottom), Stroke::reference());
            let (left, right) = (at - plot.area.left, page.picture.width - at);
            let name = font::fit(name, left.max(right) - 10.0, theme::TICK, Weight::Regular);
            let text = Text::new((at + 5.0, row + 9.0), name, theme::TICK, theme::REFERENCE).halo();
            let fits = text.area().right < plot.area.right + 2.0 || at - text.width() < plot.area.left;
            let text = if fits { text } else { Text { at: (at - 5.0, row + 9.0), ..text }.anchor(Anchor::End) };
            page.picture.text(text);
        }
    }

    fn draw_points_of_reference(&self, page: &mut Page, plot: &Plot, crowd: &mut Crowd) {
        for mark in &self.marks {
            let Mark::Point(name, x, y) = mark else { continue };
            if !plot.x.covers(*x) || !plot.y.covers(*y) {
                continue;
            }
            let at = plot.place(*x, *y);
            let hint = format!("{name}: {}, {}", self.frame.x.say(*x), self.frame.y.say(*y));
            page.picture.diamond(at, 5.0, theme::REFERENCE).hint(hint);
            crowd.add(Area::new(at.0 - 6.0, at.1 - 6.0, at.0 + 6.0, at.1 + 6.0));
            let name = font::fit(name, plot.area.width() * 0.6, theme::TICK, Weight::Regular);
            let label = |dx: f64, dy: f64, anchor: Anchor| {
                let text = Text::new((at.0 + dx, at.1 + dy), name.as_str(), theme::TICK, theme::REFERENCE);
                text.anchor(anchor).centred().halo()
            };
            let candidates = [
                label(10.0, 0.0, Anchor::Start),
                label(8.0, -12.0, Anchor::Start),
                label(8.0, 12.0, Anchor::Start),
                label(-10.0, 0.0, Anchor::End),
                label(-8.0, -12.0, Anchor::End),
                label(-8.0, 12.0, Anchor::End),
                label(0.0, -16.0, Anchor::Middle),
                label(0.0, 16.0, Anchor::Middle),
                label(24.0, -28.0, Anchor::Start),
                label(-24.0, -28.0, Anchor::End),
            ];
            let within = |text: &&Text| plot.area.grown(2.0).contains(&text.area());
            let free = candidates.iter().filter(within).find(|text| crowd.is_free(text.area().grown(1.0)));
            let fallback = || candidates.iter().find(within);
            if let Some(text) = free.or_else(fallback) {
                crowd.add(text.area());
                if (text.at.1 - at.1).abs() > 22.0 {
                    let foot = (at.0 + (text.at.0 - at.0) * 0.8, text.area().bottom);
                    let start = (at.0 + (foot.0 - at.0) * 0.35, at.1 + (foot.1 - at.1) * 0.35);
                    page.picture.line(start, foot, Stroke::solid(theme::AXIS, 1.0));
                }
                page.picture.text(text.clone());
            }
        }
    }

    /// A line that ends in the middle of the plot is named there, if the place is free.
    fn draw_label_at_end(
        page: &mut Page,
        plot: &Plot,
        end: ((f64, f64), Colour),
        name: &str,
        crowd: &mut Crowd,
    ) -> bool {
        let ((x, y), colour) = end;
        let text = |dx: f64, dy: f64, anchor: Anchor| {
            Text::new((x + dx, y + dy), name, LABEL, theme::legible(colour)).bold().centred().anchor(anchor).halo()
        };
        let candidates = [
            text(9.0, 0.0, Anchor::Start),
            text(4.0, -14.0, Anchor::Start),
            text(4.0, 14.0, Anchor::Start),
            text(0.0, -15.0, Anchor::Middle),
            text(0.0, 15.0, Anchor::Middle),
        ];
        let free = |text: &Text| plot.area.contains(&text.area()) && crowd.is_free(text.area().grown(2.0));
        let Some(text) = candidates.into_iter().find(free) else { return false };
        crowd.add(text.area());
        page.picture.text(text);
        true
    }

    fn draw_end_labels(
        &self,
        page: &mut Page,
        plot: &Plot,
        drawn: &[Drawn],
        mut labels: Vec<Vec<String>>,
        crowd: &mut Crowd,
    ) {
        let area = plot.area.grown(1.0);
        let last_inside = |points: &[(f64, f64)]| {
            points.iter().rev().copied().find(|p| area.contains(&Area::new(p.0, p.1, p.0, p.1)))
        };
        let ends = drawn.iter().map(|series| last_inside(&series.points).map(|end| (end, series.colour)));
        let marks = self.marks.iter().filter_map(|mark| match mark {
            Mark::Y(_, y) if plot.y.covers(*y) => Some(Some(((plot.area.right, plot.place_y(*y)), theme::REFERENCE))),
            Mark::Y(..) => Some(None),
            _ => None,
        });
        // A series of which nothing can be seen keeps its name, at the foot of the plot and in grey.
        let nowhere = ((plot.area.right, plot.area.bottom), theme::FAINT);
        let ends: Vec<((f64, f64), Colour)> = ends.chain(marks).map(|end| end.unwrap_or(nowhere)).collect();
        for ((index, end), lines) in ends.iter().enumerate().zip(&mut labels) {
            let early = plot.area.right - end.0.0 > 60.0;
            let series = self.series.get(index).filter(|_| early && !lines.is_empty());
            if series.is_some_and(|series| Self::draw_label_at_end(page, plot, *end, &self.label(series), crowd)) {
                lines.clear();
            }
        }
        let wanted: Vec<(f64, f64)> = ends
            .iter()
            .zip(&labels)
            .map(|(((_, y), _), lines)| {
                (*y, if lines.is_empty() { 0.0 } else { lines.len() as f64 * LABEL * 1.2 + 3.0 })
            })
            .collect();
        let Some(centers) = spread_out(&wanted, plot.area.top - 12.0, plot.area.bottom + 14.0) else { return };
        for (index, ((((x, y), colour), lines), center)) in ends.iter().zip(&labels).zip(&centers).enumerate() {
            if lines.is_empty() {
                continue;
            }
            let gap = plot.area.right - x;
            let stroke = Stroke::solid(theme::tint(*colour, 0.45), 1.0);
            let from = plot.area.right.max(*x) + 1.0;
            if gap > 12.0 {
                page.picture.line((x + 6.0, *y), (from + 7.0, *center), Stroke { dash: Some((1.0, 3.0)), ..stroke });
            } else if (center - y).abs() > 5.0 {
                page.picture.line((from + 2.0, *y), (from + 8.0, *center), stroke);
            }
            let first = center - (lines.len() as f64 - 1.0) * LABEL * 0.6;
            for (row, line) in lines.iter().enumerate() {
                let at = (plot.area.right + 11.0, first + row as f64 * LABEL * 1.2);
                let text = Text::new(at, line, LABEL, theme::legible(*colour)).centred();
                // Names of what was measured or predicted are strong, those of references are not.
                page.picture.text(if index < drawn.len() { text.bold() } else { text });
            }
        }
    }
}

/// Of very many points on a line, those that make its outline: first, lowest, highest and last per pixel.
fn envelope(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if points.len() < 1500 {
        return points;
    }
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for column in points.chunk_by(|a, b| a.0.floor() == b.0.floor()) {
        let mut chosen = vec![0, column.len() - 1];
        let by_height = |a: &usize, b: &usize| column[*a].1.total_cmp(&column[*b].1);
        chosen.extend((0..column.len()).min_by(by_height));
        chosen.extend((0..column.len()).max_by(by_height));
        chosen.sort_unstable();
        chosen.dedup();
        kept.extend(chosen.into_iter().map(|index| column[index]));
    }
    kept
}

/// Of very many points, one per pixel.
fn thinned(mut points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if points.len() > 1500 {
        let mut taken = std::collections::HashSet::new();
        points.retain(|(x, y)| taken.insert((x.round() as i64, y.round() as i64)));
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_points_keep_their_extremes() {
        let points: Vec<(f64, f64)> =
            (0..10_000).map(|i| (f64::from(i) / 20.0, if i == 5_001 { 999.0 } else { f64::from(i % 7) })).collect();
        let kept = envelope(points.clone());
        assert!(kept.len() < 2_100 && kept.contains(&(5_001.0 / 20.0, 999.0)));
        assert_eq!((kept.first(), kept.last()), (points.first(), points.last()));
        assert!(thinned(points).len() < 4_500);
    }

    #[test]
    fn what_cannot_be_drawn_is_said() {
        let chart = Lines::new("t".to_string())
            .log_y()
            .points("p", [(1.0, 1.0), (2.0, f64::NAN), (3.0, 0.0), (f64::INFINITY, 2.0), (4.0, -3.0), (5.0, 1e200)]);
        let svg = chart.to_svg();
        assert!(svg.contains("3 points without a value left out."), "{svg}");
        assert!(svg.contains("2 points at or below zero left out (logarithmic axis)."), "{svg}");
    }

    #[test]
    fn a_formula_that_runs_off_does_not_flatten_the_data() {
        let chart =
            Lines::new("t".to_string()).line("measured", [(1e-9, 1.0), (1.0, 2.0)]).predicted("1/x", |x| 1.0 / x);
        assert!(chart.scales().1.high < 10.0);
    }

    #[test]
    fn series_of_one_name_share_a_colour() {
        let chart = Lines::new("t".to_string())
            .line("a", [(0, 0)])
            .predicted("p", |x| x)
            .line("b", [(0, 0)])
            .points("a", [(0, 0)]);
        let colours: Vec<Colour> = (0..4).map(|index| chart.colour(index)).collect();
        assert_eq!(colours, [theme::series(0), theme::PREDICTION, theme::series(1), theme::series(0)]);
    }
}

//! Values over a continuous axis: lines with their spread, points, predictions, and published figures to compare with.

mod drawing;

use std::fmt::{self, Display};
use std::sync::Arc;

use super::Figure;
use super::figure;
use super::format::count;
use super::frame::{Frame, Y_TICKS, framed, with_x, with_y};
use super::number::{Number, Point, Spread, SpreadPoint};
use super::picture::Picture;
use super::reference::{Origin, beyond, in_reach, points_note, yours};
use super::scale::{Kind, Scale};
use super::theme::{self, Colour};
use super::tidy::{Cell, Numbers};

/// A chart of lines and points; see [`Chart::lines`](super::Chart::lines).
///
/// ```
/// use lab::chart::{Chart, Figure};
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
    Point(String, f64, f64, Origin),
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

    /// A line for each of what `by` holds, through the columns `x` and `y` of a frame; several rows of the same x are its spread.
    /// Axes that have no name yet get the columns' names and units. Ends the cell where there is no such column.
    ///
    /// ```
    /// use lab::chart::{Chart, Figure};
    /// use lab::Frame;
    ///
    /// let measured = Frame::new()
    ///     .text("arm", ["ring", "ring", "ring", "jump"])
    ///     .numbers("nodes", "", [10.0, 10.0, 20.0, 10.0])
    ///     .numbers("moved", "%", [9.0, 11.0, 5.0, 9.1]);
    /// let chart = Chart::lines("More nodes, fewer keys that move").of(&measured, "nodes", "moved", "arm");
    /// assert!(chart.to_csv().contains("ring,measured,10,10,9,11"));
    /// ```
    pub fn of(mut self, frame: &crate::Frame, x: &str, y: &str, by: &str) -> Self {
        if self.frame.x.label.is_empty() {
            self = self.x(x, frame.unit(x));
        }
        if self.frame.y.label.is_empty() {
            self = self.y(y, frame.unit(y));
        }
        for name in frame.distinct(by) {
            let rows = frame.filter_by(|row| row.text(by) == name);
            let mut places = rows.samples(x).values().to_vec();
            places.sort_by(f64::total_cmp);
            places.dedup();
            let at = |place: &f64| (*place, rows.filter(x, *place).samples(y));
            self = self.line_with_spread(name, places.iter().map(at).collect::<Vec<_>>());
        }
        self
    }

    /// What happened meanwhile, each where it was over: the [events](crate::Ran::events) of a crowd.
    pub fn events(self, events: &crate::Frame) -> Self {
        events.rows().fold(self, |chart, event| chart.mark_x(event.text("event"), event.number("ended")))
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
        self.marks.push(Mark::Point(name.to_string(), x.value(), y.value(), Origin::Published));
        self
    }

    /// A point that nobody published and that came out when we ran the prototype: an open square, and said so.
    pub fn ran_point(mut self, name: impl Display, x: impl Number, y: impl Number) -> Self {
        self.marks.push(Mark::Point(Origin::Ran.label(&name.to_string()), x.value(), y.value(), Origin::Ran));
        self
    }

    /// What the reader guessed for this place: a triangle, "you: 30 %". Nothing where there is no guess.
    pub fn guess(mut self, x: impl Number, guess: &crate::Guess) -> Self {
        if let Some((said, y)) = yours(guess) {
            self.marks.push(Mark::Point(said, x.value(), y, Origin::Guessed));
        }
        self
    }

    fn guesses(&self) -> impl Iterator<Item = f64> {
        self.marks.iter().filter_map(|mark| match mark {
            Mark::Point(_, _, y, Origin::Guessed) => Some(*y),
            _ => None,
        })
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
        let heights = || measured.iter().flat_map(|(_, spread)| [spread.low, spread.high]);
        let has_room = |y: f64, origin: Origin| origin != Origin::Guessed || in_reach(self.frame.y.kind, heights(), y);
        let points = self.marks.iter().filter_map(|mark| match mark {
            Mark::Point(_, x, y, origin) if self.is_drawable(*x, *y) && has_room(*y, *origin) => Some((*x, *y)),
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
                Mark::Point(_, at, _, Origin::Guessed) => !x.covers(*at),
                Mark::Point(_, at, value, _) => !x.covers(*at) || !y.covers(*value),
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
        notes.extend(points_note(self.marks.iter().filter_map(|mark| match mark {
            Mark::Point(_, at, value, origin) if x.covers(*at) && y.covers(*value) => Some(*origin),
            _ => None,
        })));
        notes.extend(beyond(self.guesses().filter(|guess| !y.covers(*guess)), &self.frame.y.unit));
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
            let (name, origin, x, y) = match mark {
                Mark::X(name, x) => (name, Origin::Published, (*x).into(), Cell::Empty),
                Mark::Y(name, y) => (name, Origin::Published, Cell::Empty, (*y).into()),
                Mark::Point(name, x, y, origin) => (name, *origin, (*x).into(), (*y).into()),
            };
            numbers.row([name.into(), origin.kind().into(), x, y, Cell::Empty, Cell::Empty]);
        }
        numbers
    }

    fn draw(&self, width: f64) -> Picture {
        self.drawn(width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

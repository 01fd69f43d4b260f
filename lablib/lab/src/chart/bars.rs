//! Values of a few named things, from zero, with their spread and what was predicted for them.

mod drawing;

use std::fmt::Display;

use super::Figure;
use super::figure;
use super::font::{self, Weight, wrap};
use super::format::count;
use super::frame::{Frame, Swatch, Y_TICKS, framed, with_y};
use super::lines::spread_note;
use super::number::{Number, Spread};
use super::picture::Picture;
use super::reference::{Origin, beyond, in_reach, points_note, yours};
use super::scale::{Kind, Scale};
use super::theme::{self, Colour, LABEL};
use super::tidy::{Cell, Numbers};

/// More bars than this make a wall, not a chart.
const MOST: usize = 60;

/// A bar chart; see [`Chart::bars`](super::Chart::bars).
///
/// ```
/// use lab::chart::{Chart, Figure};
///
/// let chart = Chart::bars("The ring moves what it must, modulo nearly everything")
///     .y("keys moved when 5 % of the shards die", "%")
///     .bar_with_spread("ring", [4.9, 5.1, 4.8, 5.3, 5.0])
///     .predicted("ring", 5.0)
///     .mark("seed", "ring", 4.95)
///     .bar("modulo", 95.2);
/// assert!(chart.to_text().contains("modulo"));
/// ```
#[derive(Debug, Clone)]
pub struct Bars {
    frame: Frame,
    bars: Vec<Bar>,
    groups: Vec<String>,
    lines: Vec<(String, f64)>,
    highlight: Option<String>,
    horizontal: Option<bool>,
}

#[derive(Debug, Clone)]
struct Bar {
    group: usize,
    name: String,
    value: Option<Spread>,
    predicted: Vec<f64>,
    marks: Vec<(String, f64, Origin)>,
}

framed!(Bars);
with_y!(Bars);

impl Bars {
    pub(super) fn new(title: String) -> Self {
        let (bars, groups, lines) = (Vec::new(), Vec::new(), Vec::new());
        Self { frame: Frame::new(title), bars, groups, lines, highlight: None, horizontal: None }
    }

    /// A bar.
    pub fn bar(self, name: impl Display, value: impl Number) -> Self {
        self.with(name, Spread::exact(value.value()))
    }

    /// A bar for repeated measurements: samples, or `(median, low, high)`.
    pub fn bar_with_spread(self, name: impl Display, value: impl Into<Spread>) -> Self {
        self.with(name, value.into())
    }

    /// A bar for each of what `name` holds, with the spread of its rows in the column `value`. An axis that has no name yet gets the
    /// column's name and unit. Ends the cell where there is no such column.
    pub fn of(mut self, frame: &crate::Frame, name: &str, value: &str) -> Self {
        if self.frame.y.label.is_empty() {
            self = self.y(value, frame.unit(value));
        }
        for bar in frame.distinct(name) {
            let rows = frame.filter_by(|row| row.text(name) == bar);
            self = self.bar_with_spread(bar, rows.samples(value));
        }
        self
    }

    /// Starts a group: the bars that follow belong together; a name keeps its colour in every group.
    pub fn group(mut self, name: impl Display) -> Self {
        self.groups.push(name.to_string());
        self
    }

    /// What was predicted for that bar of the current group: a dashed tick across it.
    pub fn predicted(mut self, name: impl Display, value: impl Number) -> Self {
        let value = value.value();
        self.slot(name.to_string()).predicted.push(value);
        self
    }

    /// A published figure for that bar of the current group: a diamond. `source` says whose.
    pub fn mark(mut self, source: impl Display, name: impl Display, value: impl Number) -> Self {
        let mark = (source.to_string(), value.value(), Origin::Published);
        self.slot(name.to_string()).marks.push(mark);
        self
    }

    /// A figure for that bar that nobody published and that came out when we ran `source`'s program: an open square, and said
    /// so.
    pub fn ran(mut self, source: impl Display, name: impl Display, value: impl Number) -> Self {
        let mark = (Origin::Ran.label(&source.to_string()), value.value(), Origin::Ran);
        self.slot(name.to_string()).marks.push(mark);
        self
    }

    /// What the reader guessed for that bar of the current group: a triangle, "you: 30 %". Nothing where there is no guess.
    pub fn guess(mut self, name: impl Display, guess: &crate::Guess) -> Self {
        if let Some((said, value)) = yours(guess) {
            self.slot(name.to_string()).marks.push((said, value, Origin::Guessed));
        }
        self
    }

    /// A figure to compare all bars with: a dotted line across the chart.
    pub fn mark_y(mut self, name: impl Display, value: impl Number) -> Self {
        self.lines.push((name.to_string(), value.value()));
        self
    }

    /// Keeps the colour of one name and pales the others.
    pub fn highlight(mut self, name: impl Display) -> Self {
        self.highlight = Some(name.to_string());
        self
    }

    /// Values on a logarithmic axis; drawn as dots, because the length of a bar would mean nothing there.
    pub fn log(mut self) -> Self {
        self.frame.y.kind = Kind::Log;
        self
    }

    /// Bars from left to right, whatever the names.
    pub fn horizontal(mut self) -> Self {
        self.horizontal = Some(true);
        self
    }

    /// Bars from bottom to top, whatever the names.
    pub fn vertical(mut self) -> Self {
        self.horizontal = Some(false);
        self
    }

    /// Fixes the axis of the values, so that two charts can be compared.
    pub fn y_range(mut self, low: impl Number, high: impl Number) -> Self {
        self.frame.y.range = Some((low.value(), high.value()));
        self
    }

    fn with(mut self, name: impl Display, value: Spread) -> Self {
        let name = name.to_string();
        let group = self.groups.len();
        let waiting = self.bars.iter_mut().find(|bar| bar.group == group && bar.name == name && bar.value.is_none());
        match waiting {
            Some(bar) => bar.value = Some(value),
            None => {
                self.bars.push(Bar { group, name, value: Some(value), predicted: Vec::new(), marks: Vec::new() });
            }
        }
        self
    }

    /// The latest bar of that name in the current group; predictions may come first.
    fn slot(&mut self, name: String) -> &mut Bar {
        let group = self.groups.len();
        let index = self.bars.iter().rposition(|bar| bar.group == group && bar.name == name).unwrap_or_else(|| {
            self.bars.push(Bar { group, name, value: None, predicted: Vec::new(), marks: Vec::new() });
            self.bars.len() - 1
        });
        &mut self.bars[index]
    }

    fn group_name(&self, group: usize) -> &str {
        group.checked_sub(1).and_then(|index| self.groups.get(index)).map_or("", String::as_str)
    }

    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for bar in &self.bars {
            if !names.contains(&bar.name.as_str()) {
                names.push(&bar.name);
            }
        }
        names
    }

    fn colour(&self, bar: &Bar) -> Colour {
        let index = self.names().iter().position(|name| *name == bar.name).unwrap_or(0);
        // A colour says "the same thing in another group"; where no name returns it would say nothing.
        let returning = self.bars.len() > self.names().len();
        let colour = theme::series(if returning && !self.groups.is_empty() { index } else { 0 });
        match &self.highlight {
            Some(name) if *name != bar.name => theme::tint(colour, 0.4),
            _ => colour,
        }
    }

    fn scale(&self) -> Scale {
        let kind = self.frame.y.kind;
        self.frame.y.scale(|| {
            let values = self
                .bars
                .iter()
                .flat_map(|bar| {
                    let spread = bar.value.map(|value| [value.low, value.mid, value.high]).into_iter().flatten();
                    let marks = bar.marks.iter().filter(|mark| mark.2 != Origin::Guessed).map(|mark| mark.1);
                    spread.chain(bar.predicted.iter().copied()).chain(marks)
                })
                .chain(self.lines.iter().map(|line| line.1));
            let values: Vec<f64> = values.collect();
            let guesses = self.guesses().filter(|guess| in_reach(kind, values.iter().copied(), *guess));
            let zero = (kind == Kind::Linear).then_some(0.0);
            Scale::around(kind, values.iter().copied().chain(guesses).chain(zero)).rounded(Y_TICKS)
        })
    }

    fn guesses(&self) -> impl Iterator<Item = f64> {
        let marks = self.bars.iter().flat_map(|bar| &bar.marks);
        marks.filter(|mark| mark.2 == Origin::Guessed).map(|mark| mark.1)
    }

    fn small_print(&self, scale: Scale) -> Vec<String> {
        let mut notes = Vec::new();
        let values = || self.bars.iter().filter_map(|bar| bar.value);
        let mut note = |number: usize, one: &str, many: &str, why: &str| {
            if number > 0 {
                notes.push(format!("{} {why}.", count(number, one, many)));
            }
        };
        let missing = values().filter(|value| !Kind::Linear.holds(value.mid)).count();
        note(missing, "bar", "bars", "without a value");
        let off = values().filter(|value| Kind::Linear.holds(value.mid) && !scale.kind.holds(value.mid)).count();
        note(off, "value", "values", "at or below zero left out (logarithmic axis)");
        let outside = values().filter(|value| scale.kind.holds(value.mid) && !scale.covers(value.mid)).count();
        note(outside, "bar", "bars", "cut off at the end of the axis");
        let references = self.bars.iter().flat_map(|bar| {
            let marks = bar.marks.iter().filter(|mark| mark.2 != Origin::Guessed);
            bar.predicted.iter().chain(marks.map(|mark| &mark.1))
        });
        let references = references.chain(self.lines.iter().map(|line| &line.1));
        note(references.filter(|value| !scale.covers(**value)).count(), "reference", "references", "left out");
        note(values().map(|value| value.left_out).sum(), "sample", "samples", "without a value left out");
        note(self.bars.len().saturating_sub(MOST), "more bar", "more bars", "not drawn");
        let spreads: Vec<Spread> = values().filter(Spread::is_wide).collect();
        if !spreads.is_empty() {
            notes.push(spread_note(&spreads));
        }
        let marks = self.bars.iter().flat_map(|bar| &bar.marks).filter(|mark| scale.covers(mark.1));
        notes.extend(points_note(marks.map(|mark| mark.2)));
        notes.extend(beyond(self.guesses().filter(|guess| !scale.covers(*guess)), &self.frame.y.unit));
        notes
    }

    /// What is written of a mark: whose it is, and its value.
    fn said(&self, (source, value, origin): &(String, f64, Origin)) -> String {
        match origin {
            Origin::Guessed => source.clone(),
            _ => format!("{source} {}", self.frame.y.unit.show(*value)),
        }
    }

    fn hint(&self, bar: &Bar) -> String {
        let group = self.group_name(bar.group);
        let mut hint = if group.is_empty() { bar.name.clone() } else { format!("{group}, {}", bar.name) };
        let unit = &self.frame.y.unit;
        if let Some(value) = bar.value {
            hint.push_str(&format!(": {}", self.frame.y.say(value.mid)));
            if value.is_wide() {
                hint.push_str(&format!(" ({} to {})", unit.show(value.low), unit.show(value.high)));
            }
        }
        for predicted in &bar.predicted {
            hint.push_str(&format!("; predicted {}", unit.show(*predicted)));
        }
        for mark in &bar.marks {
            hint.push_str(&format!("; {}", self.said(mark)));
        }
        hint
    }

    /// The value, then what it is compared with, each in its colour.
    fn annotations(&self, bar: &Bar, scale: Scale, all: bool) -> Vec<(String, Colour)> {
        let unit = &self.frame.y.unit;
        let mut texts = Vec::new();
        if let Some(value) = bar.value {
            texts.push((unit.show(value.mid), theme::INK));
        }
        if all {
            let predicted = bar.predicted.iter().filter(|value| scale.covers(**value));
            texts.extend(predicted.map(|value| (format!("predicted {}", unit.show(*value)), theme::PREDICTION)));
            let marks = bar.marks.iter().filter(|(_, value, _)| scale.covers(*value));
            texts.extend(marks.map(|mark| (self.said(mark), mark.2.colour())));
        }
        texts
    }

    /// Names of what is not named beside the bars themselves.
    fn key(&self, grouped: bool, references: bool) -> Vec<(String, Swatch)> {
        let mut key = Vec::new();
        if grouped {
            for name in self.names() {
                if let Some(bar) = self.bars.iter().find(|bar| bar.name == name) {
                    key.push((name.to_string(), Swatch::Box(self.colour(bar))));
                }
            }
        }
        if references && self.bars.iter().any(|bar| !bar.predicted.is_empty()) {
            key.push(("predicted".to_string(), Swatch::Dashed(theme::PREDICTION)));
        }
        if references {
            let covers = |mark: &&(String, f64, Origin)| mark.2 != Origin::Guessed || self.scale().covers(mark.1);
            for (source, _, origin) in self.bars.iter().flat_map(|bar| &bar.marks).filter(covers) {
                if !key.iter().any(|(name, _)| name == source) {
                    key.push((source.clone(), origin.swatch()));
                }
            }
        }
        key
    }

    fn is_horizontal(&self, width: f64) -> bool {
        self.horizontal.unwrap_or_else(|| {
            let slots = if self.groups.is_empty() { self.bars.len() } else { self.groups.len() + 1 };
            let room = (width - 110.0) / slots.max(1) as f64 - 10.0;
            let fits = |name: &str| {
                let lines = wrap(name, room, LABEL, Weight::Regular, 2);
                lines.iter().all(|line| !line.ends_with(font::CUT))
            };
            let mut names: Vec<&str> = self.bars.iter().map(|bar| bar.name.as_str()).collect();
            if !self.groups.is_empty() {
                names = self.groups.iter().map(String::as_str).collect();
            }
            // A reader's guess turns no chart.
            let marked = |bar: &Bar| bar.marks.iter().any(|mark| mark.2 != Origin::Guessed);
            let compared = self.bars.iter().any(|bar| !bar.predicted.is_empty() || marked(bar));
            // Numbers as names are an axis of their own; people expect those from left to right.
            let ordered = names.iter().all(|name| name.starts_with(|c: char| c.is_ascii_digit()));
            !names.iter().all(|name| fits(name)) || (compared && !ordered) || self.bars.len() > 24
        })
    }
}

impl Figure for Bars {
    figure!(Bars);

    fn numbers(&self) -> Numbers {
        let mut numbers = Numbers::new(&["group", "name", "kind", "value", "low", "high"]);
        for bar in &self.bars {
            let group = || match self.group_name(bar.group) {
                "" => Cell::Empty,
                group => group.into(),
            };
            let mut row = |kind: &str, value: f64, edges: Option<(f64, f64)>| {
                let (low, high) = edges.map_or((Cell::Empty, Cell::Empty), |(low, high)| (low.into(), high.into()));
                numbers.row([group(), (&bar.name).into(), kind.into(), value.into(), low, high]);
            };
            if let Some(value) = bar.value {
                row("measured", value.mid, value.is_wide().then_some((value.low, value.high)));
            }
            bar.predicted.iter().for_each(|value| row("predicted", *value, None));
            bar.marks.iter().for_each(|(source, value, origin)| {
                row(if *origin == Origin::Guessed { origin.kind() } else { source }, *value, None);
            });
        }
        for (name, value) in &self.lines {
            numbers.row([Cell::Empty, name.into(), "reference".into(), (*value).into(), Cell::Empty, Cell::Empty]);
        }
        numbers
    }

    fn draw(&self, width: f64) -> Picture {
        if self.is_horizontal(width) { self.draw_rows(width) } else { self.draw_columns(width) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predictions_may_come_before_or_after_their_bar() {
        let first = Bars::new("t".to_string()).predicted("a", 1.0).bar("a", 2.0);
        let after = Bars::new("t".to_string()).bar("a", 2.0).predicted("a", 1.0);
        assert_eq!(first.to_svg(), after.to_svg());
        assert_eq!(first.bars.len(), 1);
    }

    #[test]
    fn long_names_lie_down() {
        let long =
            Bars::new("t".to_string()).bar("a name that is much too long to stand below a bar, really", 1).bar("b", 2);
        let narrow = long.clone().bar("c", 1).bar("d", 1).bar("e", 1).bar("f", 1).bar("g", 1);
        assert!(narrow.is_horizontal(760.0));
        assert!(!Bars::new("t".to_string()).bar("a", 1).bar("b", 2).is_horizontal(760.0));
    }

    #[test]
    fn bars_start_at_zero() {
        let scale = Bars::new("t".to_string()).bar("a", 1000.0).bar("b", 1001.0).scale();
        assert_eq!(scale.low, 0.0);
        let scale = Bars::new("t".to_string()).bar("a", -1000.0).bar("b", -1001.0).scale();
        assert_eq!(scale.high, 0.0);
    }
}

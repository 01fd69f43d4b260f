//! Values of a few named things, from zero, with their spread and what was predicted for them.

use std::fmt::Display;

use super::Figure;
use super::figure;
use super::font::{self, Weight, wrap};
use super::format::count;
use super::frame::{Frame, Page, Swatch, Y_TICKS, framed, names_width, with_y, x_axis_height};
use super::lines::spread_note;
use super::number::{Number, Spread};
use super::picture::{Anchor, Area, Picture, Stroke, Text, crisp};
use super::scale::{Kind, Scale};
use super::theme::{self, Colour, HEIGHT, LABEL, PAPER, TICK};
use super::tidy::{Cell, Numbers};

/// More bars than this make a wall, not a chart.
const MOST: usize = 60;

/// A bar chart; see [`Chart::bars`](super::Chart::bars).
///
/// ```
/// use lablib::lab::chart::{Chart, Figure};
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
    marks: Vec<(String, f64)>,
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
        let mark = (source.to_string(), value.value());
        self.slot(name.to_string()).marks.push(mark);
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
                    spread.chain(bar.predicted.iter().copied()).chain(bar.marks.iter().map(|mark| mark.1))
                })
                .chain(self.lines.iter().map(|line| line.1));
            let zero = (kind == Kind::Linear).then_some(0.0);
            Scale::around(kind, values.chain(zero)).rounded(Y_TICKS)
        })
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
        let references = self.bars.iter().flat_map(|bar| bar.predicted.iter().chain(bar.marks.iter().map(|m| &m.1)));
        let references = references.chain(self.lines.iter().map(|line| &line.1));
        note(references.filter(|value| !scale.covers(**value)).count(), "reference", "references", "left out");
        note(values().map(|value| value.left_out).sum(), "sample", "samples", "without a value left out");
        note(self.bars.len().saturating_sub(MOST), "more bar", "more bars", "not drawn");
        let spreads: Vec<Spread> = values().filter(Spread::is_wide).collect();
        if !spreads.is_empty() {
            notes.push(spread_note(&spreads));
        }
        notes
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
        for (source, value) in &bar.marks {
            hint.push_str(&format!("; {source} {}", unit.show(*value)));
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
            let marks = bar.marks.iter().filter(|(_, value)| scale.covers(*value));
            texts.extend(marks.map(|(source, value)| (format!("{source} {}", unit.show(*value)), theme::REFERENCE)));
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
            for (source, _) in self.bars.iter().flat_map(|bar| &bar.marks) {
                if !key.iter().any(|(name, _)| name == source) {
                    key.push((source.clone(), Swatch::Diamond(theme::REFERENCE)));
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
                lines.iter().all(|line| !line.ends_with('…'))
            };
            let mut names: Vec<&str> = self.bars.iter().map(|bar| bar.name.as_str()).collect();
            if !self.groups.is_empty() {
                names = self.groups.iter().map(String::as_str).collect();
            }
            let compared = self.bars.iter().any(|bar| !bar.predicted.is_empty() || !bar.marks.is_empty());
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
            bar.marks.iter().for_each(|(source, value)| row(source, *value, None));
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

impl Bars {
    fn draw_rows(&self, width: f64) -> Picture {
        let scale = self.scale();
        let left_out = self.small_print(scale);
        let bars = &self.bars[..self.bars.len().min(MOST)];
        let row = match bars.len() {
            0..=8 => 34.0,
            9..=16 => 27.0,
            _ => 20.0,
        };
        let ends: Vec<f64> = bars.iter().map(|bar| self.reach(bar, scale)).collect();
        let all_names = names_width(bars.iter().map(|bar| bar.name.as_str()), width * 0.34);
        let room = width - 2.0 * theme::PADDING - all_names - 10.0;
        // The axis is as long as the longest bar's texts allow; if they would leave too little, a key replaces them.
        let length = |all: bool| {
            bars.iter().zip(&ends).fold(room, |length, (bar, end)| {
                let texts = self.annotations(bar, scale, all);
                let text: f64 = texts.iter().map(|(text, _)| font::width(text, LABEL, Weight::SemiBold) + 10.0).sum();
                if *end > 0.0 { length.min((room - text) / end) } else { length }
            })
        };
        let named = length(true) >= room * 0.42;
        let length = length(named).max(room * 0.3);
        let key = self.key(false, !named);
        let heads =
            bars.chunk_by(|a, b| a.group == b.group).filter(|g| !self.group_name(g[0].group).is_empty()).count();
        let band = if self.lines.is_empty() { 0.0 } else { 16.0 * self.lines.len().min(3) as f64 };
        let inner = row * bars.len().max(1) as f64 + 26.0 * heads as f64 + 4.0;
        let axis = x_axis_height(&self.frame.y);
        let natural =
            self.frame.header_height(width, &key) + band + inner + axis + self.frame.footer_height(width, &left_out);
        let height = self.frame.height(natural);
        let mut page = self.frame.page(width, height, &key, &left_out);
        let row = row * ((page.body.height() - axis - band) / inner).min(1.6).max(0.2);
        let head = 26.0 * (row / 20.0).min(1.0);
        let left = page.body.left + all_names + 10.0;
        let bottom = page.body.top + band + row * bars.len().max(1) as f64 + head * heads as f64 + 4.0;
        let area = Area::new(left, page.body.top + band, left + length, bottom);
        let place = |value: f64| area.left + scale.place(value).clamp(0.0, 1.0) * area.width();
        for (tick, _) in super::frame::x_ticks(&self.frame.y, scale, area.width()) {
            let at = crisp(place(tick));
            page.picture.line((at, area.top), (at, area.bottom), Stroke::solid(theme::GRID, 1.0));
        }
        page.x_axis(&self.frame.y, area, scale);
        let zero = place(if scale.kind == Kind::Log { scale.low } else { 0.0 });
        let mut top = area.top + 2.0;
        let mut group = 0;
        for (bar, end) in bars.iter().zip(&ends) {
            if bar.group != group {
                group = bar.group;
                let name = font::fit(self.group_name(group), page.body.width(), LABEL, Weight::SemiBold);
                let at = (page.body.left, top + head * 0.68);
                page.picture.text(Text::new(at, name, LABEL, theme::INK).bold());
                top += head;
            }
            let middle = top + row / 2.0;
            let half = (row * 0.34).min(15.0);
            page.row_name(&bar.name, left - 8.0, middle, all_names, row);
            let lane = |from: f64, to: f64| Area::new(from, middle - half, to, middle + half);
            if let Some(value) = bar.value.filter(|value| scale.kind.holds(value.mid)) {
                let at = place(value.mid);
                let colour = self.colour(bar);
                if scale.kind == Kind::Log {
                    page.picture.line((zero, middle), (at, middle), Stroke::solid(theme::tint(colour, 0.35), 2.0));
                    page.picture.disc((at, middle), 5.5, colour).hint(self.hint(bar));
                } else {
                    page.picture.rectangle(lane(zero.min(at), zero.max(at)), 0.0, colour).hint(self.hint(bar));
                }
                if value.is_wide() {
                    whisker(&mut page.picture, (place(value.low), middle), (place(value.high), middle));
                }
            }
            for predicted in bar.predicted.iter().filter(|value| scale.covers(**value)) {
                let at = place(*predicted);
                tick(&mut page.picture, (at, middle - half - 3.0), (at, middle + half + 3.0));
            }
            for (source, value) in bar.marks.iter().filter(|(_, value)| scale.covers(*value)) {
                let hint = format!("{source}: {}", self.frame.y.say(*value));
                page.picture.diamond((place(*value), middle), 5.0, theme::REFERENCE).hint(hint);
            }
            let mut x = (area.left + end * area.width()).max(zero) + 9.0;
            for (text, colour) in self.annotations(bar, scale, named) {
                let text = Text::new((x, middle), text, LABEL, colour).centred().halo();
                let text = if colour == theme::INK { text.bold() } else { text };
                x += text.width() + 10.0;
                page.picture.text(text);
            }
            top += row;
        }
        if scale.low < 0.0 && scale.kind == Kind::Linear {
            page.picture.line((crisp(zero), area.top), (crisp(zero), area.bottom), Stroke::solid(theme::AXIS, 1.0));
        }
        for (index, (name, value)) in self.lines.iter().filter(|line| scale.covers(line.1)).enumerate() {
            let (at, y) = (crisp(place(*value)), area.top - 16.0 * (1 + index % 3) as f64);
            page.picture.line((at, y + 4.0), (at, area.bottom), Stroke::reference());
            beside(&mut page.picture, name, (at, y + 10.0));
        }
        if bars.is_empty() {
            page.empty(area);
        }
        page.picture
    }

    /// How far along the axis something is drawn for this bar, 0 to 1.
    fn reach(&self, bar: &Bar, scale: Scale) -> f64 {
        let value = bar.value.map(|value| [value.mid, value.high]).into_iter().flatten();
        let others = bar.predicted.iter().copied().chain(bar.marks.iter().map(|mark| mark.1));
        let others = others.filter(|value| scale.covers(*value)).map(|value| scale.place(value) + 0.008);
        let zero = if scale.kind == Kind::Linear { scale.place(0.0) } else { 0.0 };
        let values = value.filter(|value| scale.kind.holds(*value)).map(|value| scale.place(value));
        values.chain(others).fold(zero, f64::max).clamp(0.0, 1.0)
    }

    fn draw_columns(&self, width: f64) -> Picture {
        let scale = self.scale();
        let left_out = self.small_print(scale);
        let bars = &self.bars[..self.bars.len().min(MOST)];
        let grouped = !self.groups.is_empty();
        let key = self.key(grouped, true);
        let mut page = self.frame.page(width, self.frame.height(HEIGHT), &key, &left_out);
        // Room for two lines of names takes the place of the heading of an axis.
        let mut frame = self.frame.clone();
        let names: Vec<&str> = if grouped {
            self.groups.iter().map(String::as_str).collect()
        } else {
            bars.iter().map(|bar| bar.name.as_str()).collect()
        };
        let slot = (width - 130.0) / names.len().max(1) as f64;
        let two_lines = names.iter().any(|name| font::width(name, LABEL, Weight::Regular) > slot - 4.0);
        frame.x.label = if two_lines { " ".to_string() } else { String::new() };
        let room = (width * 0.22).min(170.0);
        let gutter = self.lines.iter().map(|line| font::width(&line.0, TICK, Weight::Regular) + 12.0);
        let gutter = gutter.fold(0.0, f64::max).min(room);
        let plain = Scale { kind: Kind::Linear, low: 0.0, high: f64::NAN };
        let plot = page.plot(&frame, plain, scale, gutter, 8.0);
        let area = plot.area;
        let place = |value: f64| area.bottom - scale.place(value).clamp(0.0, 1.0) * area.height();
        let zero = place(if scale.kind == Kind::Log { scale.low } else { 0.0 });
        let clusters: Vec<&[Bar]> =
            if grouped { bars.chunk_by(|a, b| a.group == b.group).collect() } else { bars.chunks(1).collect() };
        let slot = area.width() / clusters.len().max(1) as f64;
        for (index, cluster) in clusters.iter().enumerate() {
            let center = area.left + slot * (index as f64 + 0.5);
            let thick = (slot * 0.8 / cluster.len() as f64).min(if grouped { 62.0 } else { 64.0 });
            let start = center - thick * cluster.len() as f64 / 2.0;
            for (position, bar) in cluster.iter().enumerate() {
                let middle = start + thick * (position as f64 + 0.5);
                let half = thick / 2.0 - if cluster.len() > 1 { 1.0 } else { 0.0 };
                let room = if cluster.len() > 1 { thick - 3.0 } else { slot - 6.0 };
                self.draw_column(&mut page, bar, scale, &place, (middle, half, zero, room));
            }
            let name = if grouped { self.group_name(cluster[0].group) } else { &cluster[0].name };
            for (line, text) in wrap(name, slot - 4.0, LABEL, Weight::Regular, 2).into_iter().enumerate() {
                let at = (center, area.bottom + 18.0 + 15.0 * line as f64);
                page.picture.text(Text::new(at, text, LABEL, theme::INK).anchor(Anchor::Middle));
            }
        }
        if scale.low < 0.0 && scale.kind == Kind::Linear {
            page.picture.line((area.left, crisp(zero)), (area.right, crisp(zero)), Stroke::solid(theme::AXIS, 1.0));
        }
        for (name, value) in self.lines.iter().filter(|line| scale.covers(line.1)) {
            let at = crisp(place(*value));
            page.picture.line((area.left, at), (area.right, at), Stroke::reference());
            let name = font::fit(name, gutter - 8.0, TICK, Weight::Regular);
            page.picture.text(Text::new((area.right + 8.0, at), name, TICK, theme::REFERENCE).centred());
        }
        if bars.is_empty() {
            page.empty(area);
        }
        page.picture
    }

    fn draw_column(
        &self,
        page: &mut Page,
        bar: &Bar,
        scale: Scale,
        place: &dyn Fn(f64) -> f64,
        (middle, half, zero, room): (f64, f64, f64, f64),
    ) {
        let mut top = zero;
        let mut obstacles: Vec<f64> = Vec::new();
        if let Some(value) = bar.value.filter(|value| scale.kind.holds(value.mid)) {
            let (at, colour) = (place(value.mid), self.colour(bar));
            if scale.kind == Kind::Log {
                page.picture.line((middle, zero), (middle, at), Stroke::solid(theme::tint(colour, 0.35), 2.0));
                page.picture.disc((middle, at), 5.5, colour).hint(self.hint(bar));
            } else {
                let body = Area::new(middle - half, zero.min(at), middle + half, zero.max(at));
                page.picture.rectangle(body, 0.0, colour).hint(self.hint(bar));
            }
            top = top.min(at);
            if value.is_wide() {
                whisker(&mut page.picture, (middle, place(value.low)), (middle, place(value.high)));
                top = top.min(place(value.high));
            }
        }
        for predicted in bar.predicted.iter().filter(|value| scale.covers(**value)) {
            let at = place(*predicted);
            tick(&mut page.picture, (middle - half - 3.0, at), (middle + half + 3.0, at));
            obstacles.push(at);
        }
        for (source, value) in bar.marks.iter().filter(|(_, value)| scale.covers(*value)) {
            let hint = format!("{source}: {}", self.frame.y.say(*value));
            page.picture.diamond((middle, place(*value)), 5.0, theme::REFERENCE).hint(hint);
            obstacles.push(place(*value));
        }
        if let Some(value) = bar.value {
            let text = self.frame.y.unit.show(value.mid);
            // Right above the bar, or above whatever is in the way there.
            obstacles.sort_by(|a, b| b.total_cmp(a));
            for obstacle in obstacles {
                if obstacle < top + 7.0 && obstacle > top - TICK - 12.0 {
                    top = obstacle - 3.0;
                }
            }
            let text = Text::new((middle, top - 5.0), text, TICK, theme::INK).bold().anchor(Anchor::Middle).halo();
            if text.width() <= room {
                page.picture.text(text);
            }
        }
    }
}

/// From the lowest to the highest run, dark enough to be seen on its bar.
fn whisker(picture: &mut Picture, from: (f64, f64), to: (f64, f64)) {
    let stroke = Stroke::solid(theme::INK, 1.25);
    let along = if from.1 == to.1 { (0.0, 4.0) } else { (4.0, 0.0) };
    picture.line(from, to, stroke);
    for end in [from, to] {
        picture.line((end.0 - along.0, end.1 - along.1), (end.0 + along.0, end.1 + along.1), stroke);
    }
}

/// A prediction across its bar.
fn tick(picture: &mut Picture, from: (f64, f64), to: (f64, f64)) {
    picture.line(from, to, Stroke::solid(PAPER, 4.5));
    picture.line(from, to, Stroke { width: 2.25, dash: Some((4.5, 2.5)), ..Stroke::prediction() });
}

/// A name to the right of a place, or to the left of it where the card ends.
fn beside(picture: &mut Picture, name: &str, (x, y): (f64, f64)) {
    let name = font::fit(name, (picture.width - x).max(x) - 12.0, TICK, Weight::Regular);
    let text = Text::new((x + 5.0, y), name, TICK, theme::REFERENCE).halo();
    let fits = text.area().right < picture.width - 4.0;
    picture.text(if fits { text } else { Text { at: (x - 5.0, y), ..text }.anchor(Anchor::End) });
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

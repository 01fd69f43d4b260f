//! What all charts have around them: the card, the title that says the takeaway, key, axes and the small print.

use super::font::{self, Weight, fit, wrap};
use super::format::Unit;
use super::labels::place_above;
use super::picture::{Anchor, Area, Picture, Stroke, Text, crisp};
use super::reference::Origin;
use super::scale::{Kind, Scale};
use super::theme::{self, AXIS, Colour, FAINT, GRID, INK, LABEL, PADDING, PAPER, SMALL, SOFT, SUBTITLE, TICK, TITLE};

/// How many intervals a vertical axis aims at, both when it is rounded and when it is labelled.
pub(super) const Y_TICKS: usize = 5;

/// Everything about a chart that is not its data.
#[derive(Debug, Clone, Default)]
pub(super) struct Frame {
    pub(super) title: String,
    pub(super) subtitle: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) size: Option<(f64, f64)>,
    pub(super) notes: Vec<String>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Axis {
    pub(super) label: String,
    pub(super) unit: Unit,
    pub(super) kind: Kind,
    pub(super) range: Option<(f64, f64)>,
    /// Every value is a power of two, as people choose them; then the ticks are as well.
    pub(super) doubling: bool,
}

impl Axis {
    /// The label with the unit, where the ticks do not carry it.
    pub(super) fn heading(&self) -> String {
        match (self.label.as_str(), self.unit.in_label()) {
            (label, "") => label.to_string(),
            ("", unit) => unit.to_string(),
            (label, unit) => format!("{label} ({unit})"),
        }
    }

    /// The label with the unit, for values that are written without one.
    pub(super) fn full_heading(&self) -> String {
        match (self.label.as_str(), self.unit.symbol()) {
            (label, "") => label.to_string(),
            ("", unit) => unit.to_string(),
            (label, unit) => format!("{label} ({unit})"),
        }
    }

    /// "keys moved 4.95 %", for hover texts.
    pub(super) fn say(&self, value: f64) -> String {
        format!("{} {}", self.label, self.unit.show_with_unit(value)).trim_start().to_string()
    }

    /// The scale that was asked for, or the one that the data wants.
    pub(super) fn scale(&self, data: impl FnOnce() -> Scale) -> Scale {
        match self.range {
            Some((low, high)) if self.kind.holds(low) && self.kind.holds(high) && low < high => {
                Scale { kind: self.kind, low, high }
            }
            _ => data(),
        }
    }
}

/// How a series looks in the key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Swatch {
    Line(Colour),
    /// A prediction.
    Dashed(Colour),
    Dot(Colour),
    Box(Colour),
    /// A published figure.
    Diamond(Colour),
    /// A figure that we got by running somebody else's program.
    Square(Colour),
    /// The reader's guess.
    Triangle(Colour),
}

/// The card with everything drawn but the chart itself, which goes into `body`.
pub(super) struct Page {
    pub(super) picture: Picture,
    pub(super) body: Area,
}

impl Frame {
    pub(super) fn new(title: String) -> Self {
        Self { title, ..Self::default() }
    }

    pub(super) fn width(&self) -> f64 {
        self.size.map_or(theme::WIDTH, |(width, _)| width)
    }

    /// The height that was asked for, or the one that suits the chart.
    pub(super) fn height(&self, natural: f64) -> f64 {
        self.size.map_or(natural, |(_, height)| height)
    }

    /// Height of the title, subtitle and key, from the top of the card; for charts that choose their own height.
    pub(super) fn header_height(&self, width: f64, key: &[(String, Swatch)]) -> f64 {
        self.page(width, theme::HEIGHT, key, &[]).body.top
    }

    /// Height of the small print, from the bottom of the card.
    pub(super) fn footer_height(&self, width: f64, left_out: &[String]) -> f64 {
        theme::HEIGHT - self.page(width, theme::HEIGHT, &[], left_out).body.bottom
    }

    /// Draws the card; `left_out` is small print that the data made necessary.
    pub(super) fn page(&self, width: f64, height: f64, key: &[(String, Swatch)], left_out: &[String]) -> Page {
        let mut picture = Picture::new(width, height);
        picture.rectangle(Area::new(0.0, 0.0, width, height), 0.0, PAPER);
        let (left, room) = (PADDING, width - 2.0 * PADDING);
        let mut top = 14.0;
        for line in balanced(&self.title, room).iter().filter(|line| !line.is_empty()) {
            picture.text(Text::new((left, top + TITLE), line, TITLE, INK).bold());
            top += TITLE * 1.3;
        }
        if !self.subtitle.is_empty() {
            top += 3.0;
            for line in wrap(&self.subtitle, room, SUBTITLE, Weight::Regular, 3) {
                picture.text(Text::new((left, top + SUBTITLE), line, SUBTITLE, SOFT));
                top += SUBTITLE * 1.38;
            }
        }
        if !key.is_empty() {
            top = draw_key(&mut picture, key, Area::new(left, top + 8.0, left + room, height));
        }
        let notes: Vec<String> = left_out
            .iter()
            .chain(&self.notes)
            .flat_map(|note| wrap(note, room, SMALL, Weight::Regular, 2))
            .take(6)
            .collect();
        let mut bottom = height - 14.0;
        for note in notes.iter().rev() {
            picture.text(Text::new((left, bottom), note, SMALL, FAINT));
            bottom -= SMALL * 1.4;
        }
        if notes.is_empty() {
            bottom = height - 14.0;
        }
        // A card too small for its own title still gets a place to draw.
        let top = (top + 12.0).min(height * 0.7);
        Page { picture, body: Area::new(left, top, left + room, (bottom - 2.0).max(top + 20.0)) }
    }
}

/// A title on as few lines as it takes, of about equal length.
fn balanced(title: &str, room: f64) -> Vec<String> {
    let lines = wrap(title, room, TITLE, Weight::SemiBold, 3);
    let narrower = (10..20).map(|share| wrap(title, room * f64::from(share) / 20.0, TITLE, Weight::SemiBold, 3));
    let whole = |other: &Vec<String>| other.len() == lines.len() && !other.iter().any(|line| line.ends_with(font::CUT));
    narrower.into_iter().find(whole).unwrap_or_else(|| lines.clone())
}

/// A compact key in as many rows as it takes, at most three; returns where it ends.
fn draw_key(picture: &mut Picture, key: &[(String, Swatch)], area: Area) -> f64 {
    const ROW: f64 = 18.0;
    let (mut x, mut y) = (area.left, area.top);
    for (index, (name, swatch)) in key.iter().enumerate() {
        let name = fit(name, area.width().min(260.0) - 24.0, TICK, Weight::Regular);
        let width = 24.0 + font::width(&name, TICK, Weight::Regular) + 16.0;
        if x + width > area.right + 16.0 && x > area.left {
            (x, y) = (area.left, y + ROW);
            if y >= area.top + 3.0 * ROW {
                let more = format!("and {} more", key.len() - index);
                picture.text(Text::new((area.left, y + ROW / 2.0), more, TICK, FAINT).centred());
                break;
            }
        }
        let middle = y + ROW / 2.0;
        match *swatch {
            Swatch::Line(colour) => {
                picture.line((x, middle), (x + 18.0, middle), Stroke::solid(colour, 2.25));
            }
            Swatch::Dashed(colour) => {
                let stroke = Stroke { dash: &[5.0, 3.0], ..Stroke::solid(colour, 2.25) };
                picture.line((x, middle), (x + 18.0, middle), stroke);
            }
            Swatch::Dot(colour) => {
                picture.disc((x + 9.0, middle), 4.0, colour);
            }
            Swatch::Box(colour) => {
                picture.rectangle(Area::new(x + 3.0, middle - 6.0, x + 15.0, middle + 6.0), 2.0, colour);
            }
            Swatch::Diamond(colour) => {
                picture.diamond((x + 9.0, middle), 5.0, colour);
            }
            Swatch::Square(colour) => {
                picture.square((x + 9.0, middle), 4.25, colour);
            }
            Swatch::Triangle(colour) => {
                picture.triangle((x + 9.0, middle), 5.0, colour);
            }
        }
        picture.text(Text::new((x + 24.0, middle), name, TICK, SOFT).centred());
        x += width;
    }
    y + ROW
}

/// A vertical mark: a percentile, a published figure, a moment.
pub(super) struct Upright {
    pub(super) at: f64,
    pub(super) name: String,
    /// Whose figure it is, if it is not the chart's own.
    pub(super) origin: Option<Origin>,
}

impl Upright {
    pub(super) fn reference(at: f64, name: &str) -> Self {
        Self { at, name: name.to_string(), origin: Some(Origin::Published) }
    }
}

/// Room above a plot for the names of so many vertical marks.
pub(super) fn uprights_height(marks: usize) -> f64 {
    15.0 * marks.min(3) as f64
}

/// A plot with both axes drawn.
pub(super) struct Plot {
    pub(super) area: Area,
    pub(super) x: Scale,
    pub(super) y: Scale,
}

impl Plot {
    pub(super) fn place_x(&self, x: f64) -> f64 {
        self.area.left + self.x.place(x) * self.area.width()
    }

    pub(super) fn place_y(&self, y: f64) -> f64 {
        self.area.bottom - self.y.place(y) * self.area.height()
    }

    pub(super) fn place(&self, x: f64, y: f64) -> (f64, f64) {
        (self.place_x(x), self.place_y(y))
    }
}

impl Page {
    /// Draws grid and both axes; leaves `gutter` free to the right and `band` above the plot.
    pub(super) fn plot(&mut self, frame: &Frame, x: Scale, y: Scale, gutter: f64, band: f64) -> Plot {
        let body = self.body;
        let heading = frame.y.heading();
        let top = body.top + if heading.is_empty() { 2.0 } else { 20.0 };
        let bottom = (body.bottom - x_axis_height(&frame.x)).max(top + band + 10.0);
        let ticks = y.ticks(if bottom - top - band < 130.0 { 3 } else { Y_TICKS });
        let labels = frame.y.unit.ticks(&ticks, y.kind == Kind::Log);
        let widest = labels.iter().map(|label| font::width(label, TICK, Weight::Regular)).fold(0.0, f64::max);
        let left = body.left + widest.min(body.width() * 0.3) + 8.0;
        let area = Area::new(left, top + band, (body.right - gutter).max(left + 20.0), bottom);
        let plot = Plot { area, x, y };
        if !heading.is_empty() {
            let heading = fit(&heading, body.width(), TICK, Weight::Regular);
            self.picture.text(Text::new((body.left, body.top + 8.0), heading, TICK, SOFT));
        }
        for (tick, label) in ticks.iter().zip(labels) {
            let height = crisp(plot.place_y(*tick));
            let base = *tick == 0.0 && y.low < 0.0;
            self.picture.line(
                (area.left, height),
                (area.right, height),
                Stroke::solid(if base { AXIS } else { GRID }, 1.0),
            );
            let label = fit(&label, body.width() * 0.3, TICK, Weight::Regular);
            self.picture.text(Text::new((left - 8.0, height), label, TICK, FAINT).anchor(Anchor::End).centred());
        }
        self.x_axis(&frame.x, area, x);
        plot
    }

    /// The axis below `area`: baseline, ticks, labels that do not touch, and what it measures.
    pub(super) fn x_axis(&mut self, axis: &Axis, area: Area, x: Scale) {
        let base = crisp(area.bottom);
        self.picture.line((area.left, base), (area.right, base), Stroke::solid(AXIS, 1.0));
        for (tick, label) in x_ticks(axis, x, area.width()) {
            let at = crisp(area.left + x.place(tick) * area.width());
            self.picture.line((at, base), (at, base + 4.0), Stroke::solid(AXIS, 1.0));
            let mut text = Text::new((at, base + 18.0), label, TICK, FAINT).anchor(Anchor::Middle);
            let covered = text.area();
            text.at.0 += (4.0 - covered.left).max(0.0) - (covered.right - self.picture.width + 4.0).max(0.0);
            self.picture.text(text);
        }
        let heading = fit(&axis.heading(), area.width(), TICK, Weight::Regular);
        let middle = (area.left + area.right) / 2.0;
        self.picture.text(Text::new((middle, base + 36.0), heading, TICK, SOFT).anchor(Anchor::Middle));
    }

    /// Vertical marks through the plot, named above it on at most `rows` lines of 15 units each.
    pub(super) fn uprights(&mut self, marks: &[Upright], area: Area, rows: usize) {
        let most = self.picture.width - 2.0 * PADDING;
        let names: Vec<String> = marks.iter().map(|mark| fit(&mark.name, most * 0.6, TICK, Weight::Regular)).collect();
        let wanted: Vec<(f64, f64)> = marks
            .iter()
            .zip(&names)
            .map(|(mark, name)| (crisp(mark.at), font::width(name, TICK, Weight::Regular)))
            .collect();
        let places = place_above(&wanted, area.left, self.picture.width - 6.0, rows.min(marks.len()));
        let baseline = |row: usize| area.top - 5.0 - 15.0 * row as f64;
        for (mark, place) in marks.iter().zip(&places) {
            let at = crisp(mark.at);
            let stroke = mark.origin.map_or(Stroke::solid(INK, 1.25), Origin::stroke);
            let top = place.map_or(area.top, |(row, _)| baseline(row) - 9.0);
            self.picture.line((at, top), (at, area.bottom), stroke).hint(mark.name.as_str());
        }
        for ((mark, place), name) in marks.iter().zip(&places).zip(names) {
            let Some((row, left)) = *place else { continue };
            let colour = mark.origin.map_or(INK, Origin::colour);
            self.picture.text(Text::new((left, baseline(row)), name, TICK, colour).halo());
        }
    }

    /// Says in the middle of the chart why there is nothing in it.
    pub(super) fn empty(&mut self, area: Area) {
        let text = Text::new(area.center(), "no data", SUBTITLE, FAINT).anchor(Anchor::Middle).centred();
        self.picture.text(text.halo());
    }

    /// A name to the left of a row, right-aligned, in one or two lines.
    pub(super) fn row_name(&mut self, name: &str, right: f64, middle: f64, room: f64, height: f64) {
        let lines = wrap(name, room, LABEL, Weight::Regular, if height >= 30.0 { 2 } else { 1 });
        let first = middle - (lines.len() as f64 - 1.0) * 7.5;
        for (index, line) in lines.iter().enumerate() {
            let at = (right, first + 15.0 * index as f64);
            self.picture.text(Text::new(at, line, LABEL, INK).anchor(Anchor::End).centred());
        }
    }
}

/// What the axis takes below the plot.
pub(super) fn x_axis_height(axis: &Axis) -> f64 {
    if axis.heading().is_empty() { 24.0 } else { 42.0 }
}

/// Ticks whose labels leave each other room.
pub(super) fn x_ticks(axis: &Axis, x: Scale, width: f64) -> Vec<(f64, String)> {
    let room_for_each = if x.kind == Kind::Log { 44.0 } else { 56.0 };
    let mut wanted = ((width / room_for_each) as usize).clamp(3, 12);
    loop {
        let ticks = if axis.doubling { x.doublings(wanted) } else { x.ticks(wanted) };
        let labels = axis.unit.ticks(&ticks, x.kind == Kind::Log);
        let mut end = f64::NEG_INFINITY;
        let fits = ticks.iter().zip(&labels).all(|(tick, label)| {
            let (half, at) = (font::width(label, TICK, Weight::Regular) / 2.0, x.place(*tick) * width);
            let free = at - half > end + 8.0;
            end = at + half;
            free
        });
        if fits {
            return ticks.into_iter().zip(labels).collect();
        }
        if wanted <= 2 {
            return ticks.into_iter().zip(labels).take(1).collect();
        }
        wanted -= 1;
    }
}

/// Widest of some names, but not more than `most`.
pub(super) fn names_width<'a>(names: impl IntoIterator<Item = &'a str>, most: f64) -> f64 {
    names.into_iter().map(|name| font::width(name, LABEL, Weight::Regular) + 1.0).fold(0.0, f64::max).min(most)
}

/// The methods that every chart has.
macro_rules! framed {
    ($chart:ident) => {
        impl $chart {
            /// One line below the title: what was measured, on what, how often.
            pub fn subtitle(mut self, subtitle: impl std::fmt::Display) -> Self {
                self.frame.subtitle = subtitle.to_string();
                self
            }

            /// Small print below the chart.
            pub fn note(mut self, note: impl std::fmt::Display) -> Self {
                self.frame.notes.push(note.to_string());
                self
            }

            /// Says in the small print, wherever the chart is seen, that what it shows was computed and not measured, and how.
            pub fn computed(self, how: impl std::fmt::Display) -> Self {
                self.note(format!("Computed, not measured: {how}."))
            }

            /// Says in the small print, wherever the chart is seen, that what it shows was simulated and not measured, and how.
            pub fn simulated(self, how: impl std::fmt::Display) -> Self {
                self.note(format!("Simulated, not measured: {how}."))
            }

            /// Width and height in pixels of a page at 100 %; 760 by 420 suits most charts.
            pub fn size(mut self, width: u32, height: u32) -> Self {
                self.frame.size = Some((f64::from(width.clamp(200, 4000)), f64::from(height.clamp(120, 4000))));
                self
            }
        }
    };
}

/// The methods of a chart that names its horizontal axis.
macro_rules! with_x {
    ($chart:ident) => {
        impl $chart {
            /// What the horizontal axis measures, and its unit (`"%"`, `"×"`, `"ns"` … `"s"`, `"B"`, any other, or `""`).
            pub fn x(mut self, label: impl std::fmt::Display, unit: &str) -> Self {
                self.frame.x.label = label.to_string();
                self.frame.x.unit = crate::chart::format::Unit::parse(unit);
                self
            }
        }
    };
}

/// The methods of a chart that names its vertical axis, or the one on which values are read.
macro_rules! with_y {
    ($chart:ident) => {
        impl $chart {
            /// What the values measure, and their unit (`"%"`, `"×"`, `"ns"` … `"s"`, `"B"`, any other, or `""`).
            pub fn y(mut self, label: impl std::fmt::Display, unit: &str) -> Self {
                self.frame.y.label = label.to_string();
                self.frame.y.unit = crate::chart::format::Unit::parse(unit);
                self
            }
        }
    };
}

pub(super) use {framed, with_x, with_y};

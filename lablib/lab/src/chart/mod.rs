//! Charts that a careful newspaper would print, from one chain of calls.
//!
//! * The title is the takeaway, a whole sentence. Axes say what they measure, ticks carry the unit.
//! * Names stand at their lines, bars and rows; a key appears only where there is no room for that.
//! * What a formula predicted is dashed and purple, what somebody else published is dotted or a grey diamond, what nobody
//!   published and we got by running the prototype is dashes and dots or an open square, what the reader guessed is a green triangle or
//!   long dashes, in every chart; so a reader learns it once.
//! * Nothing is dropped silently: a value that cannot be drawn is counted in the small print.
//! * A chart takes a [`Frame`](crate::Frame)'s columns by their names, with `of`, and gives its numbers back as one.
//! * Every chart is an SVG that can stand inline in any page (with a title and a sentence for screen readers), a PNG,
//!   a CSV with one row per mark, and plain text.
//!
//! | chart | question |
//! |---|---|
//! | [`Chart::lines`] | how does it change with …? |
//! | [`Chart::bars`] | which is larger? |
//! | [`Chart::histogram`] | how is it distributed? |
//! | [`Chart::latencies`] | how long does each take, from nanoseconds to seconds? |
//! | [`Chart::heat_map`] | which combinations stand out? |
//! | [`Chart::treemap`] | what is the whole made of? |
//! | [`Chart::timeline`] | who did what when, and who waited for whom? |
//! | [`Chart::side_by_side`], [`Chart::above`] | before and after |
//! | [`Chart::plotters`] | whatever else plotters draws |
//!
//! What a cell wants beyond these it draws with plotters, on a card like theirs: [`Chart::plotters`]. The pixels of a PNG are
//! plotters' as well; see `picture.rs` for why the SVG is written here.

mod bars;
pub(crate) mod font;
mod format;
mod frame;
mod heat_map;
mod histogram;
mod labels;
mod latencies;
mod lines;
mod number;
mod panels;
mod picture;
mod plotters;
mod raster;
mod reference;
mod scale;
mod svg;
mod theme;
mod tidy;
mod timeline;
mod treemap;

use std::fmt::Display;
use std::rc::Rc;

pub use bars::Bars;
pub use heat_map::HeatMap;
pub use histogram::Histogram;
pub use latencies::Latencies;
pub use lines::Lines;
pub use number::{Number, Point, Spread, SpreadPoint, Time};
pub use panels::Panels;
pub use picture::Picture;
pub use plotters::{Plotters, PlottersArea, PlottersError, PlottersPage, arc, colour, letters, px};
pub use tidy::Numbers;
pub use timeline::Timeline;
pub use treemap::Treemap;

/// Where every chart begins.
///
/// ```
/// use lab::chart::{Chart, Figure};
///
/// let chart = Chart::bars("A ring moves a twentieth of the keys, modulo nearly all")
///     .y("keys moved", "%")
///     .bar("ring", 4.95)
///     .predicted("ring", 5.0)
///     .bar("modulo", 95.2);
/// assert!(chart.to_svg().contains("modulo"));
/// ```
pub struct Chart;

impl Chart {
    /// Values over a continuous axis: lines, bands, points, predictions.
    pub fn lines(title: impl Display) -> Lines {
        Lines::new(title.to_string())
    }

    /// Values of a few named things.
    pub fn bars(title: impl Display) -> Bars {
        Bars::new(title.to_string())
    }

    /// How values are distributed.
    pub fn histogram(title: impl Display) -> Histogram {
        Histogram::new(title.to_string())
    }

    /// How long operations take: one row each, on a logarithmic time axis.
    pub fn latencies(title: impl Display) -> Latencies {
        Latencies::new(title.to_string())
    }

    /// A value for every pair of row and column.
    pub fn heat_map(title: impl Display) -> HeatMap {
        HeatMap::new(title.to_string())
    }

    /// Parts of a whole, as areas.
    pub fn treemap(title: impl Display) -> Treemap {
        Treemap::new(title.to_string())
    }

    /// Who did what when.
    pub fn timeline(title: impl Display) -> Timeline {
        Timeline::new(title.to_string())
    }

    /// Whatever plotters draws, on a card of ours: `draw` gets an area of so many pixels, which plotters counts in tenths
    /// ([`px`]), so that curves are smooth; [`letters`] are of the card's own face. What
    /// plotters has a default for (ticks, the samples of a legend) it counts so, too: say those in [`px`] as well.
    ///
    /// ```
    /// use lab::chart::{Chart, Figure, colour, letters, px};
    /// use lab::plotters::prelude::*;
    ///
    /// let pie = Chart::plotters("Two thirds of the keys are on one shard", (400, 260), |root| {
    ///     let (sizes, names) = ([66.0, 34.0], ["shard 9", "shard 1"]);
    ///     let colours = [colour(0), colour(1)];
    ///     let (middle, radius) = ((px(200) as i32, px(130) as i32), f64::from(px(90)));
    ///     let mut pie = Pie::new(&middle, &radius, &sizes, &colours, &names);
    ///     pie.label_style(letters(13));
    ///     root.draw(&pie)
    /// });
    /// assert!(pie.unwrap().to_svg().contains("shard 9</text>"));
    /// ```
    pub fn plotters(
        title: impl Display,
        size: (u32, u32),
        draw: impl FnOnce(&PlottersArea) -> std::result::Result<(), PlottersError>,
    ) -> crate::Result<Plotters> {
        Plotters::new(title.to_string(), size, draw)
    }

    /// Several charts in one row: before and after, with and without.
    ///
    /// ```
    /// use lab::chart::{Chart, Figure};
    ///
    /// let before = Chart::bars("Modulo").y("keys moved", "%").bar("measured", 95.2);
    /// let after = Chart::bars("Ring").y("keys moved", "%").bar("measured", 4.95);
    /// let both = Chart::side_by_side(&[&before, &after]);
    /// assert_eq!(both.title(), "Modulo · Ring");
    /// ```
    pub fn side_by_side(charts: &[&dyn Figure]) -> Panels {
        Panels::side_by_side(charts)
    }

    /// Several charts below each other.
    pub fn above(charts: &[&dyn Figure]) -> Panels {
        Panels::above(charts)
    }
}

/// A chart that answers its notebook's question; made by [`Figure::answers`].
#[derive(Debug, Clone)]
pub struct Deciding<F>(F);

/// A finished chart: what can be shown, saved and read.
pub trait Figure {
    /// The takeaway.
    fn title(&self) -> &str;

    /// One line that says more; may be empty.
    fn subtitle_text(&self) -> &str;

    /// The numbers behind every mark.
    fn numbers(&self) -> Numbers;

    /// The numbers that a reader wants to see as text; all of them, unless a chart knows better.
    fn summary(&self) -> Numbers {
        self.numbers()
    }

    /// The width that suits the chart, in pixels of a page at 100 %.
    fn width(&self) -> f64;

    /// Draws the chart on a card of that width.
    fn draw(&self, width: f64) -> Picture;

    /// The same chart, known as the one that answers its notebook's question; one in a notebook. Said last, before it is shown:
    /// the verdict names it as `deciding`.
    ///
    /// ```
    /// use lab::chart::{Chart, Figure};
    ///
    /// assert!(Chart::bars("The ring moves least").bar("ring", 4.95).answers().decides());
    /// ```
    fn answers(self) -> Deciding<Self>
    where
        Self: Sized,
    {
        Deciding(self)
    }

    /// Whether it is the chart that answers its notebook's question.
    fn decides(&self) -> bool {
        false
    }

    /// The same chart, for whoever keeps it longer than it is borrowed.
    fn shared(&self) -> Rc<dyn Figure>;

    /// An inline `<svg>` element, for a page that carries the [face](crate::display::FACE).
    fn to_svg(&self) -> String {
        self.svg_of(&self.draw(self.width()))
    }

    /// What was [drawn](Self::draw) already, as such an element.
    fn svg_of(&self, drawn: &Picture) -> String {
        let label = match self.subtitle_text() {
            "" => self.title().to_string(),
            subtitle => format!("{}. {subtitle}", self.title().trim_end_matches('.')),
        };
        svg::write(drawn, self.title(), &label, &self.numbers().sentence())
    }

    /// A PNG image at twice the chart's size.
    fn to_png(&self) -> Vec<u8> {
        self.draw(self.width()).to_png()
    }

    /// Every number as CSV, one row per mark.
    fn to_csv(&self) -> String {
        self.numbers().csv()
    }

    /// Every number as data, one row per mark: for a question, or another chart.
    fn frame(&self) -> crate::Frame {
        self.numbers().frame()
    }

    /// Title and numbers as plain text, at most sixty rows.
    fn to_text(&self) -> String {
        let mut text = format!("{}\n", self.title());
        if !self.subtitle_text().is_empty() {
            text.push_str(&format!("{}\n", self.subtitle_text()));
        }
        text.push('\n');
        text.push_str(&self.summary().text(60));
        text
    }
}

impl<F: Figure + ?Sized> Figure for &F {
    fn title(&self) -> &str {
        (**self).title()
    }
    fn subtitle_text(&self) -> &str {
        (**self).subtitle_text()
    }
    fn numbers(&self) -> Numbers {
        (**self).numbers()
    }
    fn summary(&self) -> Numbers {
        (**self).summary()
    }
    fn width(&self) -> f64 {
        (**self).width()
    }
    fn draw(&self, width: f64) -> Picture {
        (**self).draw(width)
    }
    fn decides(&self) -> bool {
        (**self).decides()
    }
    fn shared(&self) -> Rc<dyn Figure> {
        (**self).shared()
    }
}

impl<F: Figure> Figure for Deciding<F> {
    fn title(&self) -> &str {
        self.0.title()
    }
    fn subtitle_text(&self) -> &str {
        self.0.subtitle_text()
    }
    fn numbers(&self) -> Numbers {
        self.0.numbers()
    }
    fn summary(&self) -> Numbers {
        self.0.summary()
    }
    fn width(&self) -> f64 {
        self.0.width()
    }
    fn draw(&self, width: f64) -> Picture {
        self.0.draw(width)
    }
    fn decides(&self) -> bool {
        true
    }
    fn shared(&self) -> Rc<dyn Figure> {
        self.0.shared()
    }
}

/// Implements what every chart with a frame answers the same way.
macro_rules! figure {
    ($chart:ident) => {
        fn title(&self) -> &str {
            &self.frame.title
        }
        fn subtitle_text(&self) -> &str {
            &self.frame.subtitle
        }
        fn width(&self) -> f64 {
            self.frame.width()
        }
        fn shared(&self) -> std::rc::Rc<dyn Figure> {
            std::rc::Rc::new(self.clone())
        }
    };
}
use figure;

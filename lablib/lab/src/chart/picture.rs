//! What a chart looks like, before it becomes SVG or pixels: shapes on a page, in drawing order.
//!
//! plotters' SVG backend snaps text to whole units, writes fixed pixel sizes, and knows neither hover texts nor halos; so the
//! shapes are kept here and written twice: as SVG in `svg.rs`, as pixels in `raster.rs`. What plotters draws comes here as well:
//! `plotters.rs`.

use super::font::{self, Weight};
use super::raster;
use super::theme::{self, Colour};

/// A drawn chart: shapes on a page of a known size, ready to be written as SVG or PNG.
#[derive(Debug, Clone)]
pub struct Picture {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) marks: Vec<Mark>,
    cut: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Mark {
    pub(super) shape: Shape,
    /// Shown when the pointer rests on the shape.
    pub(super) hint: String,
}

#[derive(Debug, Clone)]
pub(super) enum Shape {
    Path { points: Vec<(f64, f64)>, stroke: Stroke },
    Area { points: Vec<(f64, f64)>, fill: Fill },
    Box { area: Area, radius: f64, fill: Fill },
    Disc { center: (f64, f64), radius: f64, fill: Colour },
    Text(Text),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Stroke {
    pub(super) colour: Colour,
    pub(super) width: f64,
    /// Lengths drawn and left out, in turn; empty for a line without gaps.
    pub(super) dash: &'static [f64],
}

impl Stroke {
    pub(super) fn solid(colour: Colour, width: f64) -> Self {
        Self { colour, width, dash: &[] }
    }

    /// The stroke of everything that was predicted.
    pub(super) fn prediction() -> Self {
        Self { colour: theme::PREDICTION, width: 1.75, dash: &[6.0, 4.0] }
    }

    /// The stroke of everything that somebody else published.
    pub(super) fn reference() -> Self {
        Self { colour: theme::REFERENCE, width: 1.25, dash: &[1.5, 3.0] }
    }

    /// The stroke of what the reader guessed.
    pub(super) fn guess() -> Self {
        Self { colour: theme::GUESS, width: 1.75, dash: &[14.0, 4.0] }
    }

    /// The stroke of what nobody published and we got by running somebody else's program.
    pub(super) fn ran() -> Self {
        Self { colour: theme::REFERENCE, width: 1.25, dash: &[9.0, 3.0, 1.5, 3.0] }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Fill {
    pub(super) colour: Colour,
    pub(super) opacity: f64,
}

impl From<Colour> for Fill {
    fn from(colour: Colour) -> Self {
        Self { colour, opacity: 1.0 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

#[derive(Debug, Clone)]
pub(super) struct Text {
    /// Where the baseline starts, is centred or ends.
    pub(super) at: (f64, f64),
    pub(super) text: String,
    pub(super) size: f64,
    pub(super) weight: Weight,
    pub(super) colour: Colour,
    pub(super) anchor: Anchor,
    /// A white rim, for text that lies on lines.
    pub(super) halo: bool,
    /// Degrees, clockwise around `at`: 0, 90, 180 or 270.
    pub(super) turn: u16,
}

impl Text {
    pub(super) fn new(at: (f64, f64), text: impl Into<String>, size: f64, colour: Colour) -> Self {
        let text = text.into();
        Self { at, text, size, weight: Weight::Regular, colour, anchor: Anchor::Start, halo: false, turn: 0 }
    }

    pub(super) fn bold(mut self) -> Self {
        self.weight = Weight::SemiBold;
        self
    }

    pub(super) fn anchor(mut self, anchor: Anchor) -> Self {
        self.anchor = anchor;
        self
    }

    pub(super) fn halo(mut self) -> Self {
        self.halo = true;
        self
    }

    /// Takes `at` as the middle of the line's height instead of the baseline.
    pub(super) fn centred(mut self) -> Self {
        self.at.1 += self.size * font::CAPITAL / 2.0;
        self
    }

    pub(super) fn width(&self) -> f64 {
        font::width(&self.text, self.size, self.weight)
    }

    /// The box that the text covers.
    pub(super) fn area(&self) -> Area {
        let width = self.width();
        let left = match self.anchor {
            Anchor::Start => self.at.0,
            Anchor::Middle => self.at.0 - width / 2.0,
            Anchor::End => self.at.0 - width,
        };
        let (x, y) = self.at;
        let (left, right) = (left - x, left - x + width);
        let (top, bottom) = (-self.size * 0.8, self.size * 0.22);
        let (left, top, right, bottom) = match self.turn {
            90 => (-bottom, left, -top, right),
            180 => (-right, -bottom, -left, -top),
            270 => (top, -right, bottom, -left),
            _ => (left, top, right, bottom),
        };
        Area { left: x + left, top: y + top, right: x + right, bottom: y + bottom }
    }
}

/// A rectangle on the page; y grows downwards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

impl Area {
    pub(super) fn new(left: f64, top: f64, right: f64, bottom: f64) -> Self {
        Self { left, top, right, bottom }
    }

    pub(super) fn width(&self) -> f64 {
        self.right - self.left
    }

    pub(super) fn height(&self) -> f64 {
        self.bottom - self.top
    }

    pub(super) fn center(&self) -> (f64, f64) {
        ((self.left + self.right) / 2.0, (self.top + self.bottom) / 2.0)
    }

    pub(super) fn overlaps(&self, other: &Area) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }

    pub(super) fn contains(&self, other: &Area) -> bool {
        self.left <= other.left && self.right >= other.right && self.top <= other.top && self.bottom >= other.bottom
    }

    pub(super) fn grown(&self, by: f64) -> Area {
        Area::new(self.left - by, self.top - by, self.right + by, self.bottom + by)
    }

    /// Whether a line from `a` to `b` passes through the rectangle.
    pub(super) fn is_crossed(&self, a: (f64, f64), b: (f64, f64)) -> bool {
        clip(a, b, *self).is_some()
    }
}

/// The part of the line from `a` to `b` that lies within `area` (Liang and Barsky).
pub(super) fn clip(a: (f64, f64), b: (f64, f64), area: Area) -> Option<((f64, f64), (f64, f64))> {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let (mut from, mut to) = (0.0_f64, 1.0_f64);
    for (slope, room) in
        [(-dx, a.0 - area.left), (dx, area.right - a.0), (-dy, a.1 - area.top), (dy, area.bottom - a.1)]
    {
        if slope == 0.0 {
            if room < 0.0 {
                return None;
            }
        } else if slope < 0.0 {
            from = from.max(room / slope);
        } else {
            to = to.min(room / slope);
        }
    }
    (from <= to).then_some(((a.0 + dx * from, a.1 + dy * from), (a.0 + dx * to, a.1 + dy * to)))
}

impl Picture {
    pub(super) fn new(width: f64, height: f64) -> Self {
        Self { width, height, marks: Vec::new(), cut: Vec::new() }
    }

    fn push(&mut self, shape: Shape) -> &mut Mark {
        self.marks.push(Mark { shape, hint: String::new() });
        let last = self.marks.len() - 1;
        &mut self.marks[last]
    }

    pub(super) fn path(&mut self, points: Vec<(f64, f64)>, stroke: Stroke) -> &mut Mark {
        self.push(Shape::Path { points, stroke })
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: Stroke) -> &mut Mark {
        self.path(vec![from, to], stroke)
    }

    /// A polyline without its parts outside the area.
    pub(super) fn clipped(&mut self, points: &[(f64, f64)], area: Area, stroke: Stroke, hint: &str) {
        let mut run: Vec<(f64, f64)> = Vec::new();
        for pair in points.windows(2) {
            let Some((a, b)) = clip(pair[0], pair[1], area) else { continue };
            if run.last() != Some(&a) {
                let done = std::mem::replace(&mut run, vec![a]);
                if done.len() > 1 {
                    self.path(done, stroke).hint(hint);
                }
            }
            run.push(b);
        }
        if run.len() > 1 {
            self.path(run, stroke).hint(hint);
        }
    }

    pub(super) fn area(&mut self, points: Vec<(f64, f64)>, fill: impl Into<Fill>) -> &mut Mark {
        self.push(Shape::Area { points, fill: fill.into() })
    }

    pub(super) fn rectangle(&mut self, area: Area, radius: f64, fill: impl Into<Fill>) -> &mut Mark {
        self.push(Shape::Box { area, radius, fill: fill.into() })
    }

    pub(super) fn disc(&mut self, center: (f64, f64), radius: f64, fill: Colour) -> &mut Mark {
        self.push(Shape::Disc { center, radius, fill })
    }

    pub(super) fn diamond(&mut self, (x, y): (f64, f64), radius: f64, fill: Colour) -> &mut Mark {
        let rim = radius + 1.4;
        self.area(vec![(x - rim, y), (x, y - rim), (x + rim, y), (x, y + rim)], theme::PAPER);
        self.area(vec![(x - radius, y), (x, y - radius), (x + radius, y), (x, y + radius)], fill)
    }

    /// A triangle that stands on its tip.
    pub(super) fn triangle(&mut self, (x, y): (f64, f64), radius: f64, fill: Colour) -> &mut Mark {
        let of = |half: f64| vec![(x - half, y - 0.8 * half), (x + half, y - 0.8 * half), (x, y + half)];
        self.area(of(radius + 2.0), theme::PAPER);
        self.area(of(radius), fill)
    }

    /// An open square; its hint rests on its outline and on its middle.
    pub(super) fn square(&mut self, (x, y): (f64, f64), radius: f64, colour: Colour) -> &mut Mark {
        let of = |half: f64| Area::new(x - half, y - half, x + half, y + half);
        self.rectangle(of(radius + 1.4), 0.0, theme::PAPER);
        self.rectangle(of(radius), 0.0, colour);
        self.rectangle(of(radius - 1.75), 0.0, theme::PAPER)
    }

    pub(super) fn text(&mut self, mut text: Text) {
        if text.text.contains(font::CUT) {
            text.text = text.text.replace(font::CUT, "");
            self.cut.push(text.text.clone());
        }
        if !text.text.trim().is_empty() {
            self.push(Shape::Text(text));
        }
    }

    /// In pixels of a page at 100 %.
    pub fn width(&self) -> f64 {
        self.width
    }

    /// A PNG image at twice the picture's size.
    pub fn to_png(&self) -> Vec<u8> {
        raster::png(self)
    }

    /// Texts that had no room and end in an ellipsis.
    pub fn cut(&self) -> &[String] {
        &self.cut
    }

    /// What nobody could read: texts that leave the card, lie on each other, or are too small. Empty for a good chart.
    ///
    /// ```
    /// use lab::chart::{Chart, Figure};
    ///
    /// let chart = Chart::bars("Readable").bar("one", 1).bar("two", 2);
    /// assert!(chart.draw(760.0).illegible().is_empty());
    /// ```
    pub fn illegible(&self) -> Vec<String> {
        let card = Area::new(0.0, 0.0, self.width, self.height);
        let texts = self.marks.iter().filter_map(|mark| match &mark.shape {
            Shape::Text(text) => Some((text.text.as_str(), text.size, text.area())),
            _ => None,
        });
        let texts: Vec<(&str, f64, Area)> = texts.collect();
        let mut faults = Vec::new();
        for (index, (text, size, area)) in texts.iter().enumerate() {
            if !card.contains(area) {
                faults.push(format!("{text:?} leaves the card"));
            }
            if *size < theme::SMALL {
                faults.push(format!("{text:?} is too small"));
            }
            // Line spacing may be tight, letters may not touch.
            for (other, _, place) in &texts[..index] {
                if place.grown(-1.0).overlaps(&area.grown(-1.0)) {
                    faults.push(format!("{text:?} lies on {other:?}"));
                }
            }
        }
        faults
    }

    /// Puts another picture on this page.
    pub(super) fn place(&mut self, other: Picture, (dx, dy): (f64, f64)) {
        self.cut.extend(other.cut);
        let moved = |points: Vec<(f64, f64)>| points.into_iter().map(|(x, y)| (x + dx, y + dy)).collect();
        self.marks.extend(other.marks.into_iter().map(|Mark { shape, hint }| {
            let shape = match shape {
                Shape::Path { points, stroke } => Shape::Path { points: moved(points), stroke },
                Shape::Area { points, fill } => Shape::Area { points: moved(points), fill },
                Shape::Box { area: a, radius, fill } => {
                    Shape::Box { area: Area::new(a.left + dx, a.top + dy, a.right + dx, a.bottom + dy), radius, fill }
                }
                Shape::Disc { center, radius, fill } => {
                    Shape::Disc { center: (center.0 + dx, center.1 + dy), radius, fill }
                }
                Shape::Text(text) => Shape::Text(Text { at: (text.at.0 + dx, text.at.1 + dy), ..text }),
            };
            Mark { shape, hint }
        }));
    }
}

impl Mark {
    pub(super) fn hint(&mut self, hint: impl Into<String>) {
        self.hint = hint.into();
    }
}

/// The middle of a device pixel, so that a thin straight line is not smeared over two.
pub(super) fn crisp(position: f64) -> f64 {
    position.floor() + 0.5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_keeps_what_is_inside() {
        let area = Area::new(0.0, 0.0, 10.0, 10.0);
        assert_eq!(clip((-5.0, 5.0), (15.0, 5.0), area), Some(((0.0, 5.0), (10.0, 5.0))));
        assert_eq!(clip((2.0, 2.0), (3.0, 3.0), area), Some(((2.0, 2.0), (3.0, 3.0))));
        assert_eq!(clip((-5.0, -1.0), (15.0, -1.0), area), None);
        assert_eq!(clip((5.0, 5.0), (5.0, 50.0), area), Some(((5.0, 5.0), (5.0, 10.0))));
        assert_eq!(clip((12.0, 0.0), (20.0, 9.0), area), None);
    }

    #[test]
    fn illegible_texts_are_named() {
        let text = |x: f64, y: f64, text: &str| Text::new((x, y), text, 12.0, theme::INK);
        let cases = [
            ("beyond the left edge", vec![text(-5.0, 50.0, "abc")]),
            ("beyond the right edge", vec![text(190.0, 50.0, "abcdef")]),
            ("above the card", vec![text(10.0, 5.0, "abc")]),
            ("below the card", vec![text(10.0, 99.0, "abc")]),
            ("ends before the left edge", vec![text(5.0, 50.0, "abcdef").anchor(Anchor::End)]),
            ("centred over the right edge", vec![text(195.0, 50.0, "abcdef").anchor(Anchor::Middle)]),
            ("wider than the card", vec![text(1.0, 50.0, &"wide ".repeat(20))]),
            ("twice in one place", vec![text(50.0, 50.0, "one"), text(50.0, 50.0, "two")]),
            ("begins within another", vec![text(50.0, 50.0, "a long one"), text(80.0, 50.0, "two")]),
            ("half a line below another", vec![text(50.0, 50.0, "one"), text(50.0, 56.0, "two")]),
            ("ends within another", vec![text(50.0, 50.0, "one"), text(60.0, 50.0, "two").anchor(Anchor::End)]),
            ("too small", vec![Text::new((50.0, 50.0), "abc", 9.0, theme::INK)]),
        ];
        for (name, texts) in cases {
            let mut picture = Picture::new(200.0, 100.0);
            texts.into_iter().for_each(|text| picture.text(text));
            assert_eq!(picture.illegible().len(), 1, "{name}: {:?}", picture.illegible());
        }
        let mut good = Picture::new(200.0, 100.0);
        good.text(text(10.0, 20.0, "one"));
        good.text(text(10.0, 34.0, "two"));
        good.text(text(60.0, 20.0, "three"));
        assert!(good.illegible().is_empty());
    }

    #[test]
    fn a_line_that_leaves_and_returns_becomes_two() {
        let mut picture = Picture::new(10.0, 10.0);
        let line = [(0.0, 5.0), (2.0, 5.0), (5.0, 50.0), (8.0, 5.0), (9.0, 5.0)];
        picture.clipped(&line, Area::new(0.0, 0.0, 10.0, 10.0), Stroke::prediction(), "");
        assert_eq!(picture.marks.len(), 2);
    }
}

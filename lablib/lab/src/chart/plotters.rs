//! All of plotters on a card of the lab: what our own charts do not have.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea};
use plotters::style::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind, FontStyle,
    FontTransform,
};

use super::font::{self, LINE_PER_EM, Weight};
use super::frame::{Frame, framed};
use super::picture::{Anchor, Area, Fill, Picture, Stroke, Text};
use super::theme::{self, Colour, PADDING};
use super::tidy::Numbers;
use super::{Figure, figure};
use crate::{Error, Result};

/// plotters counts in whole units; so many of them to a pixel keep curves smooth.
const UNITS: f64 = 10.0;

/// Pixels of a page, as plotters counts them here: in tenths.
///
/// ```
/// assert_eq!(lab::chart::px(13), 130);
/// assert_eq!(lab::chart::px(1.5), 15);
/// ```
pub fn px(pixels: impl Into<f64>) -> u32 {
    (pixels.into() * UNITS).round() as u32
}

/// Letters of the card's face, of so many pixels; plotters sizes a font by the height of its line, which is a fifth more.
///
/// ```
/// assert_eq!(lab::chart::letters(13), ("Inter", 157));
/// ```
pub fn letters(pixels: impl Into<f64>) -> (&'static str, u32) {
    (font::NAME, px(pixels.into() * LINE_PER_EM))
}

/// The colour of the series with this number, as our charts have it: they repeat after seven.
pub fn colour(number: usize) -> Colour {
    theme::series(number)
}

/// The outline of a piece of a ring: around `middle`, between two radii, all in pixels, from one share of a turn to another,
/// clockwise from the top. plotters' own pie draws a point for every third of a degree, which few pages have room for.
pub fn arc(middle: (f64, f64), radii: (f64, f64), from: f64, to: f64) -> Vec<(i32, i32)> {
    let steps = 1.0 + (90.0 * (to - from)).abs().floor();
    let at = |radius: f64, step: f64| {
        let turned = std::f64::consts::TAU * (from + (to - from) * step / steps);
        let (x, y) = (middle.0 + radius * turned.sin(), middle.1 - radius * turned.cos());
        ((x * UNITS).round() as i32, (y * UNITS).round() as i32)
    };
    let there = (0..=steps as u32).map(f64::from);
    there.clone().map(|step| at(radii.0, step)).chain(there.rev().map(|step| at(radii.1, step))).collect()
}

/// What [`Chart::plotters`](super::Chart::plotters) gives to draw on.
pub type PlottersArea = DrawingArea<PlottersPage, Shift>;
/// What goes wrong there, in plotters' words.
pub type PlottersError = DrawingAreaErrorKind<Infallible>;

/// A picture that plotters draws: lines, areas, discs and texts stay what they are.
#[derive(Debug)]
pub struct PlottersPage(Rc<RefCell<Picture>>);

/// A chart that plotters drew; see [`Chart::plotters`](super::Chart::plotters).
#[derive(Debug, Clone)]
pub struct Plotters {
    frame: Frame,
    drawn: Picture,
    numbers: Numbers,
}

framed!(Plotters);

impl Plotters {
    pub(super) fn new(
        title: String,
        (width, height): (u32, u32),
        draw: impl FnOnce(&PlottersArea) -> std::result::Result<(), PlottersError>,
    ) -> Result<Self> {
        let operation = || format!("draw {title:?}");
        if !(100..=4_000).contains(&width) || !(100..=4_000).contains(&height) {
            let cause = format!("{width} × {height} pixels are no size for a chart: 100 to 4,000 each way");
            return Err(Error::new(operation(), cause));
        }
        font::face();
        let page = Rc::new(RefCell::new(Picture::new(f64::from(width), f64::from(height))));
        draw(&PlottersPage(page.clone()).into_drawing_area()).map_err(|cause| Error::new(operation(), cause))?;
        let drawn = page.borrow().clone();
        let mut frame = Frame::new(title);
        frame.size = Some((drawn.width + 2.0 * PADDING, drawn.height));
        Ok(Self { frame, drawn, numbers: Numbers::default() })
    }

    /// The numbers behind the drawing, which nothing can read off it: they are its CSV and its text.
    pub fn of(mut self, frame: &crate::Frame) -> Self {
        self.numbers = Numbers::of(frame);
        self
    }
}

impl Figure for Plotters {
    figure!(Plotters);

    fn numbers(&self) -> Numbers {
        self.numbers.clone()
    }

    fn draw(&self, _width: f64) -> Picture {
        let width = self.width();
        let header = self.frame.header_height(width, &[]);
        let footer = self.frame.footer_height(width, &[]);
        let mut page = self.frame.page(width, header + self.drawn.height + footer, &[], &[]);
        let at = (page.body.left, page.body.top);
        page.picture.place(self.drawn.clone(), at);
        page.picture
    }
}

fn to_page((x, y): BackendCoord) -> (f64, f64) {
    (f64::from(x) / UNITS, f64::from(y) / UNITS)
}

fn fill(colour: BackendColor) -> Fill {
    let (red, green, blue) = colour.rgb;
    Fill { colour: plotters::style::RGBColor(red, green, blue), opacity: colour.alpha }
}

/// A line has no opacity here: its colour is mixed into the paper.
fn opaque(colour: BackendColor) -> Colour {
    let Fill { colour, opacity } = fill(colour);
    theme::tint(colour, opacity)
}

fn stroke(style: &impl BackendStyle) -> Stroke {
    // Where nothing was said, plotters asks for one unit; a hairline of a tenth of a pixel nobody means.
    let width = if style.stroke_width() <= 1 { 1.0 } else { f64::from(style.stroke_width()) / UNITS };
    Stroke::solid(opaque(style.color()), width)
}

fn size_and_weight(style: &impl BackendTextStyle) -> (f64, Weight) {
    let weight = if matches!(style.style(), FontStyle::Bold) { Weight::SemiBold } else { Weight::Regular };
    // plotters sizes a font by the height of its line.
    (style.size() / UNITS / LINE_PER_EM, weight)
}

type Drawn = std::result::Result<(), DrawingErrorKind<Infallible>>;

impl DrawingBackend for PlottersPage {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        let page = self.0.borrow();
        (px(page.width), px(page.height))
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, at: BackendCoord, colour: BackendColor) -> Drawn {
        self.draw_rect(at, (at.0 + 1, at.1 + 1), &colour, true)
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn {
        self.draw_path([from, to], style)
    }

    fn draw_rect<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S, filled: bool) -> Drawn {
        let ((left, top), (right, bottom)) = (from, to);
        let (left, right) = (left.min(right), left.max(right));
        let (top, bottom) = (top.min(bottom), top.max(bottom));
        if !filled {
            return self.draw_path([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], style);
        }
        if style.color().alpha > 0.0 {
            let ((left, top), (right, bottom)) = (to_page((left, top)), to_page((right, bottom)));
            self.0.borrow_mut().rectangle(Area::new(left, top, right, bottom), 0.0, fill(style.color()));
        }
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Drawn {
        let points: Vec<(f64, f64)> = path.into_iter().map(to_page).collect();
        if style.color().alpha > 0.0 && points.len() > 1 {
            self.0.borrow_mut().path(points, stroke(style));
        }
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(&mut self, at: BackendCoord, radius: u32, style: &S, filled: bool) -> Drawn {
        let ((x, y), radius) = (to_page(at), f64::from(radius) / UNITS);
        if filled && style.color().alpha >= 1.0 {
            self.0.borrow_mut().disc((x, y), radius, opaque(style.color()));
            return Ok(());
        }
        let around = |step: i32| {
            let angle = f64::from(step) / 48.0 * std::f64::consts::TAU;
            (x + radius * angle.cos(), y + radius * angle.sin())
        };
        let rim: Vec<(f64, f64)> = (0..=48).map(around).collect();
        if style.color().alpha > 0.0 {
            match filled {
                true => self.0.borrow_mut().area(rim, fill(style.color())),
                false => self.0.borrow_mut().path(rim, stroke(style)),
            };
        }
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, corners: I, style: &S) -> Drawn {
        if style.color().alpha > 0.0 {
            let corners = corners.into_iter().map(to_page).collect();
            self.0.borrow_mut().area(corners, fill(style.color()));
        }
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, at: BackendCoord) -> Drawn {
        let (size, weight) = size_and_weight(style);
        let mut drawn = Text::new((0.0, 0.0), text, size, opaque(style.color()));
        drawn.weight = weight;
        drawn.anchor = match style.anchor().h_pos {
            HPos::Left => Anchor::Start,
            HPos::Center => Anchor::Middle,
            HPos::Right => Anchor::End,
        };
        drawn.turn = match style.transform() {
            FontTransform::None => 0,
            FontTransform::Rotate90 => 90,
            FontTransform::Rotate180 => 180,
            FontTransform::Rotate270 => 270,
        };
        // From the point that plotters means down to the baseline, in the direction of the text.
        let down = size
            * match style.anchor().v_pos {
                VPos::Top => font::ASCENT,
                VPos::Center => font::CAPITAL / 2.0,
                VPos::Bottom => font::ASCENT - LINE_PER_EM,
            };
        let (x, y) = to_page(at);
        drawn.at = match drawn.turn {
            90 => (x - down, y),
            180 => (x, y - down),
            270 => (x + down, y),
            _ => (x, y + down),
        };
        self.0.borrow_mut().text(drawn);
        Ok(())
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        style: &S,
    ) -> std::result::Result<(u32, u32), DrawingErrorKind<Infallible>> {
        let (size, weight) = size_and_weight(style);
        Ok((px(font::width(text, size, weight)), px(size * LINE_PER_EM)))
    }

    fn blit_bitmap(&mut self, at: BackendCoord, (width, height): (u32, u32), pixels: &[u8]) -> Drawn {
        for (index, pixel) in pixels.chunks_exact(3).take((width * height) as usize).enumerate() {
            let (x, y) = (index as i32 % width as i32, index as i32 / width as i32);
            let colour = BackendColor { alpha: 1.0, rgb: (pixel[0], pixel[1], pixel[2]) };
            self.draw_pixel((at.0 + x, at.1 + y), colour)?;
        }
        Ok(())
    }
}

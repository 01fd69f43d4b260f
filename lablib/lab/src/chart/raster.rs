//! Shapes as pixels, by plotters' bitmap backend: drawn four times too large, then averaged down to twice the size of
//! the page, which smooths every edge the same way.

use plotters::prelude::{BitMapBackend, DrawingBackend};
use plotters::style::{Color, FontDesc, FontFamily, FontTransform};

use super::font::{self, LINE_PER_EM};
use super::picture::{Anchor, Area, Picture, Shape, Stroke, Text};
use super::theme::{self, Colour};

/// Pixels of the PNG per user unit.
const SCALE: usize = 2;
/// Samples per pixel and axis.
const SAMPLES: usize = 2;
const FACTOR: f64 = (SCALE * SAMPLES) as f64;

/// A PNG of the picture at twice its size.
pub(super) fn png(picture: &Picture) -> Vec<u8> {
    let (width, height) = (picture.width.ceil().max(1.0) as usize, picture.height.ceil().max(1.0) as usize);
    let (wide, high) = (width * SCALE * SAMPLES, height * SCALE * SAMPLES);
    let mut samples = vec![255_u8; 3 * wide * high];
    {
        let mut canvas = Canvas { backend: BitMapBackend::with_buffer(&mut samples, (wide as u32, high as u32)) };
        for mark in &picture.marks {
            canvas.shape(&mark.shape);
        }
    }
    let mut pixels = Vec::with_capacity(3 * width * height * SCALE * SCALE);
    for y in 0..height * SCALE {
        for x in 0..width * SCALE {
            for channel in 0..3 {
                let sum: usize = (0..SAMPLES * SAMPLES)
                    .map(|i| (y * SAMPLES + i / SAMPLES) * wide + x * SAMPLES + i % SAMPLES)
                    .map(|sample| usize::from(samples[3 * sample + channel]))
                    .sum();
                pixels.push((sum / (SAMPLES * SAMPLES)) as u8);
            }
        }
    }
    let mut file = Vec::new();
    match encode(&mut file, (width * SCALE) as u32, (height * SCALE) as u32, &pixels) {
        Ok(()) => file,
        // Into memory, and with as many pixels as were said: there is nothing that could fail.
        Err(_) => Vec::new(),
    }
}

fn encode(file: &mut Vec<u8>, width: u32, height: u32, pixels: &[u8]) -> Result<(), png::EncodingError> {
    let mut encoder = png::Encoder::new(file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()
}

struct Canvas<'a> {
    backend: BitMapBackend<'a>,
}

/// The backend draws into memory and ignores what lies outside: it has no way to fail.
impl Canvas<'_> {
    fn shape(&mut self, shape: &Shape) {
        match shape {
            Shape::Path { points, stroke } => self.path(points, stroke),
            Shape::Area { points, fill } => self.polygon(points, fill.colour, fill.opacity),
            Shape::Box { area, radius, fill } if *radius <= 0.0 => self.rectangle(*area, fill.colour, fill.opacity),
            Shape::Box { area, radius, fill } => self.polygon(&rounded(*area, *radius), fill.colour, fill.opacity),
            Shape::Disc { center, radius, fill } => {
                let rim: Vec<(f64, f64)> = (0..24)
                    .map(|i| f64::from(i) * std::f64::consts::TAU / 24.0)
                    .map(|angle| (center.0 + radius * angle.cos(), center.1 + radius * angle.sin()))
                    .collect();
                self.polygon(&rim, *fill, 1.0);
            }
            Shape::Text(text) => self.text(text),
        }
    }

    fn rectangle(&mut self, area: Area, colour: Colour, opacity: f64) {
        let (left, top) = sample((area.left, area.top));
        let (right, bottom) = sample((area.right, area.bottom));
        if right > left && bottom > top {
            // The backend paints both edges.
            let _ = self.backend.draw_rect((left, top), (right - 1, bottom - 1), &colour.mix(opacity), true);
        }
    }

    fn polygon(&mut self, points: &[(f64, f64)], colour: Colour, opacity: f64) {
        let points: Vec<(i32, i32)> = points.iter().map(|point| sample(*point)).collect();
        let _ = self.backend.fill_polygon(points, &colour.mix(opacity));
    }

    fn path(&mut self, points: &[(f64, f64)], stroke: &Stroke) {
        let joined = stroke.dash.is_empty() && points.len() > 2 && stroke.width > 1.2;
        for (a, b) in dashes(points, stroke.dash) {
            self.segment(a, b, stroke);
            if joined {
                self.shape(&Shape::Disc { center: b, radius: stroke.width / 2.0 - 0.05, fill: stroke.colour });
            }
        }
    }

    fn segment(&mut self, a: (f64, f64), b: (f64, f64), stroke: &Stroke) {
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let length = dx.hypot(dy);
        if length <= 0.0 {
            return;
        }
        let half = stroke.width / 2.0;
        if dx == 0.0 || dy == 0.0 {
            let (left, right) = (a.0.min(b.0), a.0.max(b.0));
            let (top, bottom) = (a.1.min(b.1), a.1.max(b.1));
            let area = if dx == 0.0 {
                Area::new(left - half, top, right + half, bottom)
            } else {
                Area::new(left, top - half, right, bottom + half)
            };
            return self.rectangle(area, stroke.colour, 1.0);
        }
        // A sample less on each side: the backend paints a polygon's edges as well.
        let half = (half - 0.5 / FACTOR).max(0.1);
        let (nx, ny) = (-dy / length * half, dx / length * half);
        let corners = [(a.0 + nx, a.1 + ny), (b.0 + nx, b.1 + ny), (b.0 - nx, b.1 - ny), (a.0 - nx, a.1 - ny)];
        self.polygon(&corners, stroke.colour, 1.0);
    }

    fn text(&mut self, text: &Text) {
        let left = match text.anchor {
            Anchor::Start => text.at.0,
            Anchor::Middle => text.at.0 - text.width() / 2.0,
            Anchor::End => text.at.0 - text.width(),
        };
        if text.halo {
            for (dx, dy) in
                [(-1.2, 0.0), (1.2, 0.0), (0.0, -1.2), (0.0, 1.2), (-0.9, -0.9), (0.9, 0.9), (0.9, -0.9), (-0.9, 0.9)]
            {
                self.glyphs(text, (left + dx, text.at.1 + dy), theme::PAPER);
            }
        }
        self.glyphs(text, (left, text.at.1), text.colour);
    }

    fn glyphs(&mut self, text: &Text, (mut x, y): (f64, f64), colour: Colour) {
        let size = text.size * FACTOR * LINE_PER_EM;
        let face = FontDesc::new(FontFamily::Name(font::NAME), size, text.weight.style());
        // plotters puts the baseline half a line below the given position and leaves the bearing out.
        let top = (y * FACTOR - size / 2.0).round() as i32;
        let ((middle_x, middle_y), turned) = (sample(text.at), turned(text.turn));
        for c in text.text.chars() {
            let (advance, bearing) = font::glyph(c, text.weight);
            let left = ((x + bearing * text.size) * FACTOR).floor() as i32;
            let mut buffer = [0; 4];
            let _ = face.draw(c.encode_utf8(&mut buffer), (left, top), |x, y, coverage| {
                let (x, y) = turned.transform(x - middle_x, y - middle_y);
                let at = (middle_x + x, middle_y + y);
                self.backend.draw_pixel(at, colour.mix(f64::from(coverage.clamp(0.0, 1.0))).to_backend_color())
            });
            x += advance * text.size;
        }
    }
}

fn turned(degrees: u16) -> FontTransform {
    match degrees {
        90 => FontTransform::Rotate90,
        180 => FontTransform::Rotate180,
        270 => FontTransform::Rotate270,
        _ => FontTransform::None,
    }
}

fn sample((x, y): (f64, f64)) -> (i32, i32) {
    let sample = |v: f64| (v.clamp(-20_000.0, 20_000.0) * FACTOR).round() as i32;
    (sample(x), sample(y))
}

fn rounded(area: Area, radius: f64) -> Vec<(f64, f64)> {
    let radius = radius.min(area.width() / 2.0).min(area.height() / 2.0).max(0.0);
    let corners = [
        (area.right - radius, area.bottom - radius),
        (area.left + radius, area.bottom - radius),
        (area.left + radius, area.top + radius),
        (area.right - radius, area.top + radius),
    ];
    let quarter = std::f64::consts::FRAC_PI_2;
    corners
        .iter()
        .enumerate()
        .flat_map(|(corner, center)| {
            (0..=6).map(move |step| {
                let angle = quarter * (corner as f64 + f64::from(step) / 6.0);
                (center.0 + radius * angle.cos(), center.1 + radius * angle.sin())
            })
        })
        .collect()
}

/// The segments of a polyline, cut into dashes.
fn dashes(points: &[(f64, f64)], dash: &[f64]) -> Vec<((f64, f64), (f64, f64))> {
    let mut pieces = Vec::new();
    let mut walked = 0.0;
    for pair in points.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        if dash.is_empty() {
            pieces.push((a, b));
            continue;
        }
        let (period, length) = (dash.iter().sum::<f64>(), (b.0 - a.0).hypot(b.1 - a.1));
        let at = |distance: f64| {
            let share = (distance / length).clamp(0.0, 1.0);
            (a.0 + (b.0 - a.0) * share, a.1 + (b.1 - a.1) * share)
        };
        if !(length > 0.0 && length < 1e5) {
            continue;
        }
        let mut start = -(walked % period);
        while start < length {
            for stretch in dash.chunks(2) {
                let (from, to) = (start.max(0.0), (start + stretch[0]).min(length));
                if to > from {
                    pieces.push((at(from), at(to)));
                }
                start += stretch.iter().sum::<f64>();
            }
        }
        walked += length;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_cover_their_share_of_a_line_with_corners() {
        let line = [(0.0, 0.0), (37.0, 0.0), (37.0, 63.0)];
        for (dash, share) in [(&[6.0, 4.0][..], 0.6), (&[9.0, 3.0, 5.0, 3.0], 0.7)] {
            let drawn: f64 = dashes(&line, dash).iter().map(|(a, b)| (b.0 - a.0).hypot(b.1 - a.1)).sum();
            assert!((drawn - 100.0 * share).abs() < 1e-9, "{drawn} of {dash:?}");
        }
    }
}

//! One look for every chart: colours that survive colour blindness and a photocopier, sizes, and nothing else.

use plotters::style::RGBColor;

pub(super) type Colour = RGBColor;

pub(super) const PAPER: Colour = RGBColor(255, 255, 255);
/// Titles and values.
pub(super) const INK: Colour = RGBColor(27, 29, 33);
/// Subtitles, axis labels, names of rows.
pub(super) const SOFT: Colour = RGBColor(74, 79, 87);
/// Tick labels and small print: the lightest grey that still has 4.5:1 on white.
pub(super) const FAINT: Colour = RGBColor(107, 112, 120);
pub(super) const AXIS: Colour = RGBColor(150, 155, 163);
pub(super) const GRID: Colour = RGBColor(229, 231, 235);
/// What a formula said before the run; always dashed.
pub(super) const PREDICTION: Colour = RGBColor(166, 46, 128);
/// What somebody else published (the seed's figure), always dotted, or a diamond; and what came out when we ran their program,
/// always dashes and dots, or an open square.
pub(super) const REFERENCE: Colour = RGBColor(60, 60, 60);
/// What the reader guessed; always a triangle, or long dashes.
pub(super) const GUESS: Colour = RGBColor(0, 105, 92);
/// A cell, span or tile that carries no value.
pub(super) const BLANK: Colour = RGBColor(238, 239, 242);
/// Something that went wrong: a kill, a cut.
pub(super) const EVENT: Colour = RGBColor(194, 59, 0);

/// Okabe and Ito's palette without black, yellow and purple, which mean ink, nothing on white, and prediction here.
const SERIES: [Colour; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(127, 85, 57),
    RGBColor(122, 127, 135),
];

pub(super) const WIDTH: f64 = 760.0;
pub(super) const HEIGHT: f64 = 420.0;
pub(super) const PADDING: f64 = 20.0;

pub(super) const TITLE: f64 = 17.0;
pub(super) const SUBTITLE: f64 = 13.0;
/// Labels of lines, bars, rows.
pub(super) const LABEL: f64 = 12.5;
pub(super) const TICK: f64 = 12.0;
pub(super) const SMALL: f64 = 11.0;

/// The colour of the n-th series; after seven they repeat, and the direct labels have to tell them apart.
pub(super) fn series(index: usize) -> Colour {
    SERIES[index % SERIES.len()]
}

/// Mixes `share` of the colour into white, so that overlapping strokes need no transparency.
pub(super) fn tint(colour: Colour, share: f64) -> Colour {
    let mix = |c: u8| (255.0 - (255.0 - f64::from(c)) * share.clamp(0.0, 1.0)).round() as u8;
    RGBColor(mix(colour.0), mix(colour.1), mix(colour.2))
}

/// The same hue, dark enough to be read as text on white (contrast at least 4.5:1).
pub(super) fn legible(colour: Colour) -> Colour {
    let mut text = colour;
    while contrast(text, PAPER) < 4.5 {
        let darker = |c: u8| (f64::from(c) * 0.94) as u8;
        text = RGBColor(darker(text.0), darker(text.1), darker(text.2));
    }
    text
}

/// White or ink, whichever is easier to read on that background.
pub(super) fn text_on(background: Colour) -> Colour {
    if contrast(PAPER, background) >= contrast(INK, background) { PAPER } else { INK }
}

/// White to dark blue with evenly falling lightness: more is darker, also in print.
pub(super) fn ramp(share: f64) -> Colour {
    const STOPS: [Colour; 6] = [
        RGBColor(240, 245, 250),
        RGBColor(200, 220, 239),
        RGBColor(142, 188, 221),
        RGBColor(72, 141, 195),
        RGBColor(20, 90, 155),
        RGBColor(8, 45, 98),
    ];
    let position = share.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let index = (position as usize).min(STOPS.len() - 2);
    let rest = position - index as f64;
    let (a, b) = (STOPS[index], STOPS[index + 1]);
    let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * rest).round() as u8;
    RGBColor(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
}

/// WCAG's contrast ratio, 1 to 21.
pub(super) fn contrast(a: Colour, b: Colour) -> f64 {
    let luminance = |c: Colour| {
        let linear = |v: u8| {
            let v = f64::from(v) / 255.0;
            if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(c.0) + 0.7152 * linear(c.1) + 0.0722 * linear(c.2)
    };
    let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
    if a > b { a / b } else { b / a }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_colour_can_be_read_on_white() {
        for colour in [INK, SOFT, FAINT, PREDICTION, REFERENCE, GUESS, EVENT] {
            assert!(contrast(colour, PAPER) >= 4.5, "{colour:?} has {:.2}", contrast(colour, PAPER));
        }
        for index in 0..SERIES.len() {
            assert!(contrast(legible(series(index)), PAPER) >= 4.5);
            assert!(contrast(text_on(series(index)), series(index)) >= 4.0, "series {index}");
        }
    }

    #[test]
    fn the_ramp_darkens_at_every_step() {
        let steps: Vec<f64> = (0..=50).map(|i| contrast(ramp(f64::from(i) / 50.0), PAPER)).collect();
        assert!(steps.windows(2).all(|pair| pair[1] > pair[0]), "{steps:?}");
        assert_eq!(ramp(f64::NAN.max(0.0)), ramp(0.0));
    }
}

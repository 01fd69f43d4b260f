//! The bundled face (Inter, SIL Open Font License, cut down to Latin, Greek and the signs that charts need).
//!
//! Its widths decide the layout of the SVG as well, so every page carries it, once: [`FACE`].

use std::collections::HashMap;
use std::sync::OnceLock;

use plotters::style::{FontStyle, register_font};
use ttf_parser::Face;

/// What the SVG asks for, best first.
pub(super) const FAMILIES: &str =
    "Inter, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif";
/// The name under which plotters knows the bundled face.
pub(super) const NAME: &str = "Inter";

/// The same two files as WOFF2 in a style sheet: `TTFont(file)` of fonttools, `flavor = "woff2"`, as base64.
pub(crate) const FACE: &str = concat!("<style>", include_str!("font/inter.css"), "</style>");

static REGULAR: &[u8] = include_bytes!("font/Inter-Regular.ttf");
static SEMI_BOLD: &[u8] = include_bytes!("font/Inter-SemiBold.ttf");

/// plotters sizes a font by its line height; this is Inter's line height per em.
pub(super) const LINE_PER_EM: f64 = (2728.0 + 680.0) / 2816.0;
/// What of a line is above its baseline, per em.
pub(super) const ASCENT: f64 = 2728.0 / 2816.0;
/// Height of a capital letter per em, to centre text on a line.
pub(super) const CAPITAL: f64 = 2048.0 / 2816.0;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Weight {
    Regular,
    SemiBold,
}

impl Weight {
    pub(super) fn style(self) -> FontStyle {
        match self {
            Weight::Regular => FontStyle::Normal,
            Weight::SemiBold => FontStyle::Bold,
        }
    }

    fn metrics(self) -> &'static Metrics {
        let [regular, semi_bold] = face();
        match self {
            Weight::Regular => regular,
            Weight::SemiBold => semi_bold,
        }
    }
}

/// The measures of both weights; from the first call on, plotters knows them too.
pub(super) fn face() -> &'static [Metrics; 2] {
    static FACE: OnceLock<[Metrics; 2]> = OnceLock::new();
    FACE.get_or_init(|| {
        // plotters measures a legend by whatever font it is asked for: all that it may be asked for is this face.
        for name in [NAME, "sans-serif", "serif", "monospace"] {
            // A broken font would show in every test; a chart without text in its PNG is better than no chart.
            let _ = register_font(name, FontStyle::Normal, REGULAR);
            let _ = register_font(name, FontStyle::Bold, SEMI_BOLD);
        }
        [Metrics::read(REGULAR).unwrap_or_default(), Metrics::read(SEMI_BOLD).unwrap_or_default()]
    })
}

/// Advance and left side bearing of a character, per em. plotters draws a glyph without its bearing.
pub(super) fn glyph(c: char, weight: Weight) -> (f64, f64) {
    // A sign that the face lacks is drawn by the browser from another one; an em is the most it usually takes.
    let none = if (c as u32) < 0x20 || c == CUT { 0.0 } else { 1.0 };
    weight.metrics().glyphs.get(&c).copied().unwrap_or((none, 0.0))
}

/// Whether the bundled face has the character.
#[cfg(test)]
pub(super) fn has(c: char, weight: Weight) -> bool {
    weight.metrics().glyphs.contains_key(&c)
}

/// Width of a text in user units.
pub(super) fn width(text: &str, size: f64, weight: Weight) -> f64 {
    text.chars().map(|c| glyph(c, weight).0).sum::<f64>() * size
}

/// Behind the ellipsis of a text that was cut, until it stands on a picture, which remembers it.
pub(super) const CUT: char = '\u{2060}';

/// The text, or as much of it as fits, with an ellipsis; empty when not even one letter fits.
pub(super) fn fit(text: &str, room: f64, size: f64, weight: Weight) -> String {
    if width(text, size, weight) <= room {
        return text.to_string();
    }
    let mut left = room / size - glyph('…', weight).0;
    let mut kept = String::new();
    for c in text.chars() {
        left -= glyph(c, weight).0;
        if left < 0.0 {
            break;
        }
        kept.push(c);
    }
    let kept = kept.trim_end();
    if kept.is_empty() { String::new() } else { format!("{kept}…{CUT}") }
}

/// Breaks a text into at most `lines` lines of at most `room`; what is left ends in an ellipsis.
pub(super) fn wrap(text: &str, room: f64, size: f64, weight: Weight, lines: usize) -> Vec<String> {
    let mut broken: Vec<String> = Vec::new();
    let mut line = String::new();
    let mut words = text.split([' ', '\n', '\t']).filter(|word| !word.is_empty()).peekable();
    while let Some(word) = words.next() {
        let longer = if line.is_empty() { word.to_string() } else { format!("{line} {word}") };
        if width(&longer, size, weight) <= room {
            line = longer;
        } else if broken.len() + 1 >= lines.max(1) {
            // Last line: everything that is left competes for it.
            let rest: Vec<&str> = words.by_ref().collect();
            line = fit(&format!("{longer} {}", rest.join(" ")), room, size, weight);
        } else if line.is_empty() {
            broken.push(fit(word, room, size, weight));
        } else {
            broken.push(std::mem::take(&mut line));
            line = word.to_string();
            if width(word, size, weight) > room {
                line = fit(word, room, size, weight);
            }
        }
    }
    if !line.is_empty() || broken.is_empty() {
        broken.push(line);
    }
    broken
}

#[derive(Default)]
pub(super) struct Metrics {
    glyphs: HashMap<char, (f64, f64)>,
}

impl Metrics {
    fn read(file: &[u8]) -> Option<Self> {
        let face = Face::parse(file, 0).ok()?;
        let em = f64::from(face.units_per_em());
        let mut glyphs = HashMap::new();
        for table in face.tables().cmap?.subtables.into_iter().filter(|table| table.is_unicode()) {
            table.codepoints(|code| {
                let (Some(c), Some(glyph)) = (char::from_u32(code), table.glyph_index(code)) else { return };
                let advance = f64::from(face.glyph_hor_advance(glyph).unwrap_or_default()) / em;
                glyphs.insert(c, (advance, f64::from(face.glyph_hor_side_bearing(glyph).unwrap_or_default()) / em));
            });
        }
        Some(Self { glyphs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_weights_have_every_sign_that_charts_use() {
        for weight in [Weight::Regular, Weight::SemiBold] {
            for c in "azAZ09äöüßéñαβµμσε–—…×÷±≤≥≈∞·%°√²³⁻⁰⁹→←✓✗✔−\u{2009}\u{202f}".chars()
            {
                assert!(has(c, weight), "{c} (U+{:04X}) is missing in {weight:?}", c as u32);
            }
        }
    }

    #[test]
    fn bold_is_wider_and_digits_are_about_half_an_em() {
        let text = "Five per cent of the keys";
        assert!(width(text, 13.0, Weight::SemiBold) > width(text, 13.0, Weight::Regular));
        assert!((0.5..0.7).contains(&glyph('8', Weight::Regular).0));
        assert!(glyph('l', Weight::Regular).1 > 0.03);
    }

    #[test]
    fn fitting_and_wrapping_stay_within_the_room() {
        let text =
            "a rather long label Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft end";
        for room in [0.0, 5.0, 30.0, 80.0, 200.0, 5000.0] {
            assert!(width(&fit(text, room, 12.0, Weight::Regular), 12.0, Weight::Regular) <= room);
            for lines in 0..4 {
                let broken = wrap(text, room, 12.0, Weight::Regular, lines);
                assert!(broken.len() <= lines.max(1), "{broken:?}");
                assert!(broken.iter().all(|line| width(line, 12.0, Weight::Regular) <= room), "{room} {broken:?}");
            }
        }
        assert_eq!(wrap("one two", 5000.0, 12.0, Weight::Regular, 3), ["one two"]);
        assert_eq!(wrap("", 100.0, 12.0, Weight::Regular, 3), [""]);
    }
}

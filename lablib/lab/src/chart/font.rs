//! The bundled face (Inter, SIL Open Font License, cut down to Latin, Greek and the signs that charts need).
//!
//! Its widths decide the layout of the SVG as well: Inter is wider than the sans-serifs that a browser falls back on,
//! so what fits here fits there.

use std::collections::HashMap;
use std::sync::OnceLock;

use plotters::style::{FontStyle, register_font};

/// What the SVG asks for, best first.
pub(super) const FAMILIES: &str =
    "Inter, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif";
/// The name under which plotters knows the bundled face.
pub(super) const NAME: &str = "lab-inter";

static REGULAR: &[u8] = include_bytes!("font/Inter-Regular.ttf");
static SEMI_BOLD: &[u8] = include_bytes!("font/Inter-SemiBold.ttf");

/// plotters sizes a font by its line height; this is Inter's line height per em.
pub(super) const LINE_PER_EM: f64 = (2728.0 + 680.0) / 2816.0;
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
        static METRICS: OnceLock<[Metrics; 2]> = OnceLock::new();
        let [regular, semi_bold] = METRICS.get_or_init(|| {
            // A broken font would show in every test; a chart without text in its PNG is better than no chart.
            let _ = register_font(NAME, FontStyle::Normal, REGULAR);
            let _ = register_font(NAME, FontStyle::Bold, SEMI_BOLD);
            [Metrics::read(REGULAR).unwrap_or_default(), Metrics::read(SEMI_BOLD).unwrap_or_default()]
        });
        match self {
            Weight::Regular => regular,
            Weight::SemiBold => semi_bold,
        }
    }
}

/// Advance and left side bearing of a character, per em. plotters draws a glyph without its bearing.
pub(super) fn glyph(c: char, weight: Weight) -> (f64, f64) {
    // A sign that the face lacks is drawn by the browser from another one; an em is the most it usually takes.
    weight.metrics().glyphs.get(&c).copied().unwrap_or((if (c as u32) < 0x20 { 0.0 } else { 1.0 }, 0.0))
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
    if kept.is_empty() { String::new() } else { format!("{kept}…") }
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
struct Metrics {
    glyphs: HashMap<char, (f64, f64)>,
}

impl Metrics {
    /// Reads the tables `head`, `hhea`, `hmtx` and `cmap` (format 4) of a TrueType file.
    fn read(file: &[u8]) -> Option<Self> {
        let u16_at = |at: usize| Some(u16::from_be_bytes(file.get(at..at + 2)?.try_into().ok()?));
        let u32_at = |at: usize| Some(u32::from_be_bytes(file.get(at..at + 4)?.try_into().ok()?) as usize);
        let table = |tag: &[u8; 4]| {
            let entry = (0..u16_at(4)? as usize).map(|i| 12 + 16 * i).find(|&at| file.get(at..at + 4) == Some(tag))?;
            u32_at(entry + 8)
        };
        let em = f64::from(u16_at(table(b"head")? + 18)?);
        let full_metrics = u16_at(table(b"hhea")? + 34)?;
        let hmtx = table(b"hmtx")?;
        let metrics_of = |glyph: u16| {
            let full = glyph.min(full_metrics.checked_sub(1)?) as usize;
            let bearing = if glyph < full_metrics {
                hmtx + 4 * full + 2
            } else {
                hmtx + 4 * full_metrics as usize + 2 * (glyph - full_metrics) as usize
            };
            Some((f64::from(u16_at(hmtx + 4 * full)?) / em, f64::from(u16_at(bearing)? as i16) / em))
        };
        let cmap = table(b"cmap")?;
        let unicode = (0..u16_at(cmap + 2)? as usize)
            .filter_map(|i| Some(cmap + u32_at(cmap + 4 + 8 * i + 4)?))
            .find(|&at| u16_at(at) == Some(4))?;
        let segments = u16_at(unicode + 6)? as usize / 2;
        let mut glyphs = HashMap::new();
        for segment in 0..segments {
            let end = u16_at(unicode + 14 + 2 * segment)?;
            let start = u16_at(unicode + 16 + 2 * segments + 2 * segment)?;
            let delta = u16_at(unicode + 16 + 4 * segments + 2 * segment)?;
            let offset_at = unicode + 16 + 6 * segments + 2 * segment;
            let offset = u16_at(offset_at)?;
            for code in start..=end {
                let glyph = if offset == 0 {
                    code.wrapping_add(delta)
                } else {
                    match u16_at(offset_at + offset as usize + 2 * (code - start) as usize)? {
                        0 => 0,
                        glyph => glyph.wrapping_add(delta),
                    }
                };
                if let (Some(c), true) = (char::from_u32(u32::from(code)), glyph != 0) {
                    glyphs.insert(c, metrics_of(glyph)?);
                }
            }
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

//! How a value reaches the reader: as HTML with a plain-text twin in a notebook, as text anywhere else.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use crate::chart::{Figure, font};
use crate::{gallery, session};

/// The style sheet with the face of all charts, which a page needs once.
pub const FACE: &str = font::FACE;

/// The width of a chart on a telephone, in pixels: there it is drawn once more rather than made smaller.
pub(crate) const NARROW: f64 = 380.0;

/// Anything that a cell can show.
pub trait Show {
    /// For a notebook and its report.
    fn to_html(&self) -> String;

    /// For a terminal, a screen reader and a search.
    fn to_plain(&self) -> String;

    /// Shows it below the cell; several in one cell appear below each other.
    fn show(&self) {
        emit(&self.to_html(), &self.to_plain());
    }

    /// What the kernel calls for a value at the end of a cell.
    fn evcxr_display(&self) {
        self.show();
    }
}

impl<F: Figure> Show for F {
    fn to_html(&self) -> String {
        for_any_screen(self, &self.to_svg())
    }

    fn to_plain(&self) -> String {
        self.to_text()
    }

    /// Also leaves the picture and its data beside the report.
    fn show(&self) {
        let drawn = self.draw(self.width());
        let svg = self.svg_of(&drawn);
        let html = for_any_screen(self, &svg);
        emit(&gallery::keep(self, &drawn, &svg, &html), &self.to_plain());
    }
}

/// A chart as it was drawn, and beside it as it is drawn for a telephone, where that makes a difference.
fn for_any_screen(chart: &impl Figure, wide: &str) -> String {
    if chart.width() <= NARROW {
        return wide.to_string();
    }
    let narrow = chart.draw(NARROW);
    if narrow.width() > NARROW {
        return wide.to_string();
    }
    format!(
        "<div class=\"lab-chart\"><div class=\"lab-wide\">{wide}</div><div class=\"lab-narrow\" \
         style=\"display:none\">{}</div></div>",
        chart.svg_of(&narrow)
    )
}

/// Everything that the current cell has shown so far.
struct Shown {
    cell: u64,
    html: String,
    plain: String,
}

/// Shows `html` in a notebook, `plain` elsewhere.
///
/// The kernel keeps one output per kind and cell, the last: so each call repeats what the cell has shown before it.
pub fn emit(html: &str, plain: &str) {
    static SHOWN: Mutex<Shown> = Mutex::new(Shown { cell: 0, html: String::new(), plain: String::new() });
    if !session::in_notebook() {
        println!("{plain}");
        return;
    }
    session::begin();
    let mut shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let cell = current_cell();
    if shown.cell != cell {
        *shown = Shown { cell, html: String::new(), plain: String::new() };
    }
    let _ = writeln!(shown.html, "{}", html.trim_end());
    let _ = writeln!(shown.plain, "{}", plain.trim_end());
    let mut block = String::new();
    for (kind, content) in [("text/html", &shown.html), ("text/plain", &shown.plain)] {
        let _ = write!(block, "EVCXR_BEGIN_CONTENT {kind}\n{content}EVCXR_END_CONTENT\n");
    }
    // One write under one lock, so that no other thread's line falls into the block.
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(block.as_bytes());
    let _ = out.flush();
}

/// The number of the cell that is running: the kernel loads each as `libcode_N.so`, the newest has the highest number.
fn current_cell() -> u64 {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().filter_map(cell_number).max().unwrap_or(0)
}

fn cell_number(mapping: &str) -> Option<u64> {
    mapping.rsplit('/').next()?.strip_prefix("libcode_")?.strip_suffix(".so")?.parse().ok()
}

/// Text that is safe as text and in an attribute, in HTML and in XML; what XML cannot hold is replaced.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' => escaped.push('\n'),
            '\t' | '\r' => escaped.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::Chart;
    use crate::chart::{Bars, Numbers, Picture};

    /// A chart that remembers at which widths it was drawn.
    struct Watched(Bars, RefCell<Vec<f64>>);

    impl Figure for Watched {
        fn title(&self) -> &str {
            self.0.title()
        }
        fn subtitle_text(&self) -> &str {
            self.0.subtitle_text()
        }
        fn numbers(&self) -> Numbers {
            self.0.numbers()
        }
        fn width(&self) -> f64 {
            self.0.width()
        }
        fn draw(&self, width: f64) -> Picture {
            self.1.borrow_mut().push(width);
            self.0.draw(width)
        }
        fn shared(&self) -> Rc<dyn Figure> {
            self.0.shared()
        }
    }

    #[test]
    fn a_chart_that_is_shown_is_drawn_once_for_each_screen() {
        for (width, drawn) in [(760, vec![760.0, NARROW]), (300, vec![300.0])] {
            let chart = Watched(Chart::bars("A title").bar("a", 1).size(width, 300), RefCell::default());
            chart.show();
            assert_eq!(chart.1.take(), drawn);
        }
    }

    #[test]
    fn the_cell_number_is_that_of_the_loaded_code() {
        let line = "7f0000-7f1000 r-xp 00000000 fe:00 1234 /tmp/.tmpAbC/target/debug/deps/libcode_17.so";
        assert_eq!(cell_number(line), Some(17));
        assert_eq!(cell_number("7f0000-7f1000 r-xp 00000000 fe:00 1234 /usr/lib/libc.so.6"), None);
        assert_eq!(cell_number("7f0000-7f1000 rw-p 00000000 00:00 0"), None);
    }

    #[test]
    fn markup_in_text_stays_text() {
        assert_eq!(escape("<b>\"R&D\"'s</b>"), "&lt;b&gt;&quot;R&amp;D&quot;&#39;s&lt;/b&gt;");
    }
}

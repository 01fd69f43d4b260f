//! A drawing of an idea: what a chart cannot show, because it measures nothing.

use crate::Show;
use crate::display::escape;

/// A picture that a system draws of itself, with the same in words for a terminal and a screen reader.
#[derive(Debug, Clone)]
pub struct Drawing {
    svg: String,
    plain: String,
}

impl Drawing {
    /// A drawing of this size. `shapes` is what stands inside an `<svg>`; what comes from outside is escaped in it.
    pub fn new(title: &str, (width, height): (f64, f64), shapes: &str, plain: &str) -> Self {
        let svg = format!(
            "<svg role=\"img\" aria-label=\"{0}\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             style=\"max-width:100%;height:auto;background:#fff;font:13px Inter,system-ui,sans-serif\"><title>{0}</title>\
             {shapes}</svg>",
            escape(title),
        );
        Self { svg, plain: format!("{title}.\n{plain}") }
    }

    /// A drawing that is a whole SVG file beside the sources: `include_str!("picture.svg")`. The file says its title for those who cannot
    /// see it.
    pub fn committed(title: &str, svg: &str, plain: &str) -> Self {
        Self { svg: svg.trim_end().to_string(), plain: format!("{title}.\n{plain}") }
    }

    /// The colour of the thing with this number: they repeat after six, and can be told apart by everybody.
    pub fn colour(number: usize) -> &'static str {
        const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
        COLOURS[number % COLOURS.len()]
    }
}

impl Show for Drawing {
    fn to_html(&self) -> String {
        self.svg.clone()
    }

    fn to_plain(&self) -> String {
        self.plain.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_says_the_same_to_those_who_cannot_see_it() {
        let drawing = Drawing::new("a < b", (10.0, 20.0), "<rect/>", "a is smaller\n");
        assert!(drawing.to_html().contains("aria-label=\"a &lt; b\"") && drawing.to_html().ends_with("<rect/></svg>"));
        assert_eq!(drawing.to_plain(), "a < b.\na is smaller\n");
        assert_eq!(Drawing::colour(1), Drawing::colour(7));
        let committed = Drawing::committed("a < b", "<svg><title>a &lt; b</title></svg>\n", "a is smaller\n");
        assert!(committed.to_html().ends_with("</title></svg>"));
        assert_eq!(committed.to_plain(), drawing.to_plain());
    }
}

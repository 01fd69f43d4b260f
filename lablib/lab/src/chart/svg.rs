//! Shapes as SVG that can stand inline in any page: no ids (two charts cannot clash), nothing loaded from anywhere.

use std::fmt::Write;

use super::font::{FAMILIES, Weight};
use super::picture::{Anchor, Fill, Mark, Picture, Shape, Stroke, Text};
use super::theme::Colour;
use crate::display;

/// `label` is what a screen reader says first, `description` a sentence about the numbers behind the picture.
pub(super) fn write(picture: &Picture, title: &str, label: &str, description: &str) -> String {
    let (width, height) = (number(picture.width), number(picture.height));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-label=\"{}\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" font-family=\"{FAMILIES}\" \
         style=\"max-width:100%;height:auto;background:#fff;border-radius:6px\">\n\
         <title>{}</title>\n<desc>{}</desc>\n",
        escape(label),
        escape(title),
        display::escape(description),
    );
    for mark in &picture.marks {
        shape(&mut svg, mark);
        svg.push('\n');
    }
    svg.push_str("</svg>\n");
    svg
}

fn shape(svg: &mut String, mark: &Mark) {
    let start = svg.len();
    // Writing to a String cannot fail.
    let _ = match &mark.shape {
        Shape::Path { points, stroke } => match points.as_slice() {
            [a, b] => {
                let ((x1, y1), (x2, y2)) = (pair(*a), pair(*b));
                write!(svg, "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"{}", stroke_of(stroke))
            }
            _ => {
                write!(
                    svg,
                    "<path d=\"{}\" fill=\"none\" stroke-linejoin=\"round\"{}",
                    track(points),
                    stroke_of(stroke)
                )
            }
        },
        Shape::Area { points, fill } => write!(svg, "<path d=\"{}z\"{}", track(points), fill_of(fill)),
        Shape::Box { area, radius, fill } => {
            let (x, y) = pair((area.left, area.top));
            let (width, height) = pair((area.width().max(0.0), area.height().max(0.0)));
            let radius = if *radius > 0.0 { format!(" rx=\"{}\"", number(*radius)) } else { String::new() };
            write!(svg, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"{radius}{}", fill_of(fill))
        }
        Shape::Disc { center, radius, fill } => {
            let (x, y) = pair(*center);
            write!(svg, "<circle cx=\"{x}\" cy=\"{y}\" r=\"{}\" fill=\"{}\"", number(*radius), hex(*fill))
        }
        Shape::Text(text) => {
            return write_text(svg, text);
        }
    };
    if mark.hint.is_empty() {
        svg.push_str("/>");
        return;
    }
    let tag: String = svg[start + 1..].chars().take_while(char::is_ascii_alphabetic).collect();
    let _ = write!(svg, "><title>{}</title></{tag}>", escape(&mark.hint));
}

fn write_text(svg: &mut String, text: &Text) {
    let (x, y) = pair(text.at);
    let anchor = match text.anchor {
        Anchor::Start => "",
        Anchor::Middle => " text-anchor=\"middle\"",
        Anchor::End => " text-anchor=\"end\"",
    };
    let weight = if text.weight == Weight::SemiBold { " font-weight=\"600\"" } else { "" };
    let turn = if text.turn == 0 { String::new() } else { format!(" transform=\"rotate({} {x} {y})\"", text.turn) };
    let halo = if text.halo {
        " stroke=\"#fff\" stroke-width=\"3\" stroke-linejoin=\"round\" paint-order=\"stroke\""
    } else {
        ""
    };
    let _ = write!(
        svg,
        "<text x=\"{x}\" y=\"{y}\" font-size=\"{}\" fill=\"{}\"{weight}{anchor}{halo}{turn}>{}</text>",
        number(text.size),
        hex(text.colour),
        escape(&text.text)
    );
}

fn stroke_of(stroke: &Stroke) -> String {
    let dash: Vec<String> = stroke.dash.iter().map(|length| number(*length)).collect();
    let dash = if dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{}\"", dash.join(" ")) };
    format!(" stroke=\"{}\" stroke-width=\"{}\"{dash}", hex(stroke.colour), number(stroke.width))
}

fn fill_of(fill: &Fill) -> String {
    let opacity =
        if fill.opacity < 1.0 { format!(" fill-opacity=\"{}\"", number(fill.opacity)) } else { String::new() };
    format!(" fill=\"{}\"{opacity}", hex(fill.colour))
}

fn track(points: &[(f64, f64)]) -> String {
    let mut track = String::with_capacity(points.len() * 12);
    for (index, point) in points.iter().enumerate() {
        let (x, y) = pair(*point);
        let _ = write!(track, "{}{x} {y}", if index == 0 { 'M' } else { 'L' });
    }
    track
}

fn hex(colour: Colour) -> String {
    format!("#{:02x}{:02x}{:02x}", colour.0, colour.1, colour.2)
}

fn pair((x, y): (f64, f64)) -> (String, String) {
    (number(x), number(y))
}

/// A hundredth of a unit is finer than any screen; shorter numbers keep notebooks small.
fn number(value: f64) -> String {
    let value = if value.is_finite() { value } else { 0.0 };
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_string() } else { text.to_string() }
}

/// Text on one line.
pub(super) fn escape(text: &str) -> String {
    display::escape(text).replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let cases = [(1.0, "1"), (-0.001, "0"), (10.5, "10.5"), (100.0, "100"), (1.239, "1.24"), (f64::NAN, "0")];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn nothing_escapes_the_escaping() {
        assert_eq!(escape("<b a='1'>&\"\u{0}\n\u{1b}"), "&lt;b a=&#39;1&#39;&gt;&amp;&quot;\u{fffd} \u{fffd}");
    }
}

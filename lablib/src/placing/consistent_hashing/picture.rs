//! A ring as a drawing: where a few real nodes and keys lie.

use std::fmt::Write as _;

use super::{Placement, Ring};
use crate::lab::Show;
use crate::lab::display::escape;

/// A drawing of a ring and the way from each key to its node.
#[derive(Debug, Clone)]
pub struct RingPicture {
    svg: String,
    plain: String,
}

const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
const CENTRE: f64 = 170.0;
const RADIUS: f64 = 120.0;

impl RingPicture {
    /// Draws `ring`, its points and these keys at their true places.
    pub fn of(ring: &Ring, keys: &[impl AsRef<str>]) -> Self {
        let keys: Vec<&str> = keys.iter().map(AsRef::as_ref).collect();
        let nodes = ring.nodes();
        let colour = |node: &str| {
            let index = nodes.iter().position(|known| *known == node).unwrap_or(0);
            COLOURS[index % COLOURS.len()]
        };
        let mut svg = String::from(
            "<svg role=\"img\" aria-label=\"A hash ring\" viewBox=\"0 0 560 340\" width=\"560\" style=\"max-width:100%;\
             height:auto;background:#fff;font:12px Inter,system-ui,sans-serif\"><title>A hash ring: each key belongs to the \
             next point, clockwise</title>",
        );
        let mut points: Vec<(f64, &str)> = ring.points().map(|(at, node)| (turn(at), node)).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (index, &(end, node)) in points.iter().enumerate() {
            let start = if index == 0 { points[points.len() - 1].0 - 1.0 } else { points[index - 1].0 };
            let ((x1, y1), (x2, y2)) = (place(start, RADIUS), place(end, RADIUS));
            let large = u8::from(end - start > 0.5);
            let _ = write!(
                svg,
                "<path d=\"M{x1:.1} {y1:.1} A{RADIUS} {RADIUS} 0 {large} 1 {x2:.1} {y2:.1}\" fill=\"none\" stroke=\"{0}\" \
                 stroke-width=\"10\" stroke-opacity=\"0.45\"/><circle cx=\"{x2:.1}\" cy=\"{y2:.1}\" r=\"7\" fill=\"{0}\"/>",
                colour(node)
            );
        }
        let mut plain = String::from("A hash ring: each key belongs to the next point, clockwise.\n");
        for key in &keys {
            let (at, node) = (turn(ring.position(key)), ring.node_of(key));
            let ((x, y), (text_x, text_y)) = (place(at, RADIUS), place(at, RADIUS + 16.0));
            let anchor = if text_x < CENTRE { "end" } else { "start" };
            let _ = write!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"#fff\" stroke=\"{0}\" stroke-width=\"2.5\"/>\
                 <text x=\"{text_x:.1}\" y=\"{1:.1}\" text-anchor=\"{anchor}\" fill=\"#1f2933\">{2}</text>",
                colour(node),
                text_y + 4.0,
                escape(key)
            );
            let _ = writeln!(plain, "{key} belongs to {node}");
        }
        for (index, node) in nodes.iter().enumerate() {
            let y = 130.0 + 24.0 * index as f64;
            let held = keys.iter().filter(|key| ring.node_of(key) == *node).count();
            let _ = write!(
                svg,
                "<circle cx=\"400\" cy=\"{y}\" r=\"7\" fill=\"{}\"/><text x=\"414\" y=\"{}\" fill=\"#1f2933\">{}: {held} of \
                 the keys</text>",
                colour(node),
                y + 4.0,
                escape(node)
            );
        }
        svg.push_str(
            "<text x=\"170\" y=\"166\" text-anchor=\"middle\" fill=\"#6b7280\">each key belongs</text>\
             <text x=\"170\" y=\"183\" text-anchor=\"middle\" fill=\"#6b7280\">to the next point,</text>\
             <text x=\"170\" y=\"200\" text-anchor=\"middle\" fill=\"#6b7280\">clockwise</text></svg>",
        );
        Self { svg, plain }
    }
}

impl Show for RingPicture {
    fn to_html(&self) -> String {
        self.svg.clone()
    }

    fn to_plain(&self) -> String {
        self.plain.clone()
    }
}

/// A position as a share of the whole turn.
fn turn(position: u128) -> f64 {
    position as f64 / u128::MAX as f64
}

/// The place at this share of the turn, from the top, clockwise.
fn place(turn: f64, radius: f64) -> (f64, f64) {
    let angle = std::f64::consts::TAU * turn;
    (CENTRE + radius * angle.sin(), CENTRE - radius * angle.cos())
}

//! A ring as a drawing: where a few real nodes and keys lie.

use std::fmt::Write as _;

use super::{Placement, Ring};
use lab::Drawing;
use lab::display::escape;

const CENTRE: f64 = 170.0;
const RADIUS: f64 = 120.0;

impl Ring {
    /// The ring, its points and these keys at their true places, and the way from each key to its node.
    pub fn picture(&self, keys: &[impl AsRef<str>]) -> Drawing {
        let keys: Vec<&str> = keys.iter().map(AsRef::as_ref).collect();
        let nodes = self.nodes();
        let colour = |node: &str| {
            let index = nodes.iter().position(|known| *known == node).unwrap_or(0);
            Drawing::colour(index)
        };
        let (mut svg, mut plain) = (String::new(), String::new());
        let mut points: Vec<(f64, &str)> = self.points().map(|(at, node)| (turn(at), node)).collect();
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
        for key in &keys {
            let (at, node) = (turn(self.position(key)), self.node_of(key));
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
            let held = keys.iter().filter(|key| self.node_of(key) == *node).count();
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
             <text x=\"170\" y=\"200\" text-anchor=\"middle\" fill=\"#6b7280\">clockwise</text>",
        );
        Drawing::new("A hash ring: each key belongs to the next point, clockwise", (560.0, 340.0), &svg, &plain)
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

//! An id as a drawing: which bits mean what.

use std::fmt::Write as _;

use super::layout::Layout;
use lab::{Drawing, Result};

const LEFT: f64 = 8.0;
const WIDTH: f64 = 744.0;
const TOP: f64 = 64.0;
const HEIGHT: f64 = 46.0;

impl Layout {
    /// The bits of an id, and what this one says.
    pub fn picture(&self, id: u64) -> Result<Drawing> {
        let parts = self.decode(id)?;
        let bits = f64::from(1 + self.time_bits() + self.worker_bits() + self.sequence_bits());
        let fields = [
            (1, String::new(), "0".to_string(), "#9aa5b1"),
            (self.time_bits(), "milliseconds since the epoch".into(), parts.time().to_string(), Drawing::colour(0)),
            (self.worker_bits(), "worker".into(), parts.worker.to_string(), Drawing::colour(1)),
            (self.sequence_bits(), "sequence".into(), parts.sequence.to_string(), Drawing::colour(2)),
        ];
        let mut svg = format!(
            "<text x=\"{LEFT}\" y=\"20\" fill=\"#1f2933\" font-weight=\"600\">{id}</text>\
             <text x=\"{}\" y=\"20\" fill=\"#6b7280\" text-anchor=\"end\">one number of 64 bits: a BIGINT</text>",
            LEFT + WIDTH
        );
        let (mut plain, mut at) = (format!("{id}\n"), 0.0);
        for (width, name, value, colour) in fields.into_iter().filter(|(width, ..)| *width > 0) {
            let (x, wide) = (LEFT + WIDTH * at / bits, WIDTH * f64::from(width) / bits);
            let middle = x + wide / 2.0;
            let sign = if name.is_empty() { "" } else { " bits" };
            let _ = write!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{TOP}\" width=\"{wide:.1}\" height=\"{HEIGHT}\" fill=\"{colour}\" \
                 fill-opacity=\"0.85\" stroke=\"#fff\" stroke-width=\"2\"/>\
                 <text x=\"{middle:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#fff\" font-weight=\"600\">{value}</text>\
                 <text x=\"{middle:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#1f2933\">{name}</text>",
                TOP + 28.0,
                TOP + HEIGHT + 18.0,
            );
            if !name.is_empty() {
                let _ = write!(
                    svg,
                    "<text x=\"{middle:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#6b7280\" font-size=\"11\">{width}{sign}</text>",
                    TOP - 8.0,
                );
                let _ = writeln!(plain, "{width} bits, {name}: {value}");
            }
            at += f64::from(width);
        }
        let title = format!("An id of {self}");
        Ok(Drawing::new(&title, (760.0, TOP + HEIGHT + 28.0), &svg, &plain))
    }
}

//! The slots as a drawing: who owns each of them, before and after.

use std::fmt::Write as _;

use super::route::{SlotMap, Weight};
use lab::Drawing;
use lab::display::escape;

const LEFT: f64 = 96.0;
const WIDTH: f64 = 620.0;

impl SlotMap {
    /// The way from a user to an instance, the slots by their owners, and which of them move when `more` instances own them.
    pub fn picture(&self, more: &[Weight]) -> Drawing {
        let transfers = self.plan(more).unwrap_or_default();
        let after = self.after(&transfers);
        let names: Vec<&str> = more.iter().map(|instance| instance.name.as_str()).collect();
        let colour = |name: &str| {
            let index = names.iter().position(|known| *known == name).unwrap_or(0);
            Drawing::colour(index)
        };
        let title = format!("{} slots: {} of them move, the others stay where they are", self.slots(), transfers.len());
        let mut svg = format!(
            "<g fill=\"#1f2933\"><text x=\"0\" y=\"22\">user 4711</text>\
             <text x=\"96\" y=\"22\">→ hash mod {} = slot {}</text><text x=\"330\" y=\"22\">→ map → the instance, whose own fence has the last word</text></g>",
            self.slots(),
            super::slot_of(4711, self.slots()),
        );
        let mut plain = String::new();
        for (row, (words, map)) in [("before", self), ("after", &after)].into_iter().enumerate() {
            let y = 48.0 + 84.0 * row as f64;
            let _ = write!(svg, "<text x=\"0\" y=\"{}\" fill=\"#1f2933\">{words}</text>", y + 28.0);
            let scale = WIDTH / f64::from(map.slots());
            for (start, end, name) in runs(map) {
                let (x, width) = (LEFT + scale * start as f64, scale * (end - start) as f64);
                let _ = write!(
                    svg,
                    "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"44\" fill=\"{}\" fill-opacity=\"0.75\" \
                     stroke=\"#fff\"/><text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#fff\" font-weight=\"600\">{}\
                     </text><text x=\"{x:.1}\" y=\"{}\" fill=\"#6b7280\" font-size=\"11\">{start}</text>",
                    colour(name),
                    x + width / 2.0,
                    y + 28.0,
                    escape(name),
                    y + 60.0,
                );
                let _ = writeln!(plain, "{words}: slots {start} to {} belong to {name}", end - 1);
            }
        }
        Drawing::new(&title, (760.0, 214.0), &svg, &plain)
    }
}

/// Neighbouring slots of one owner: from, to (excluded), owner.
fn runs(map: &SlotMap) -> Vec<(usize, usize, &str)> {
    let mut runs: Vec<(usize, usize, &str)> = Vec::new();
    for (slot, owner) in map.owners.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if run.2 == owner.name => run.1 = slot + 1,
            _ => runs.push((slot, slot + 1, &owner.name)),
        }
    }
    runs
}

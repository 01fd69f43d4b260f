//! The cabin from above.

use std::fmt::Write as _;

use super::audit::Told;
use super::seat::Layout;
use lab::Drawing;
use lab::display::escape;

/// A cabin, and who was told of which seat.
#[derive(Debug, Clone)]
pub struct SeatMap {
    /// The words over the drawing.
    pub caption: String,
    /// Its cabin.
    pub layout: Layout,
    /// Travellers, and the seat that each was told of.
    pub told: Vec<Told>,
}

impl SeatMap {
    /// The cabin as it fills: after each of these shares of its travellers was told.
    pub fn filling(&self, shares: &[f64]) -> Vec<Self> {
        let mut told = self.told.clone();
        told.sort_by(|one, other| one.at.total_cmp(&other.at));
        let after = |share: &f64| {
            let count = (told.len() as f64 * share).round() as usize;
            let told: Vec<Told> = told.iter().copied().take(count.max(1)).collect();
            let at = told.last().map_or(0.0, |last| last.at);
            Self { caption: format!("after {:.0} ms: {} told", at * 1e3, told.len()), layout: self.layout, told }
        };
        shares.iter().map(after).collect()
    }

    /// How many travellers were told of each seat, by its number.
    fn counts(&self) -> Vec<u32> {
        let mut counts = vec![0; self.layout.seats() as usize + 1];
        for told in &self.told {
            if let Some(count) = counts.get_mut(told.seat.number() as usize) {
                *count += 1;
            }
        }
        counts
    }
}

/// Cabins side by side: empty seats are pale, taken ones blue, and where more than one traveller was told of a seat it is
/// orange, with their number.
pub fn seat_maps(title: &str, maps: &[SeatMap]) -> Drawing {
    let (seat, gap, between, top) = (15.0, 3.0, 26.0, 40.0);
    let (mut svg, mut plain) = (String::new(), String::new());
    let (mut x, mut lowest) = (4.0, top);
    for map in maps {
        let layout = map.layout;
        let counts = map.counts();
        let half = layout.abreast() / 2;
        let aisle = |column: u32| if column >= half && layout.abreast() > 2 { 9.0 } else { 0.0 };
        let width = (f64::from(layout.abreast()) * (seat + gap) + 9.0).max(96.0);
        let _ = write!(
            svg,
            "<text x=\"{x}\" y=\"16\" font-size=\"12\" font-weight=\"600\" fill=\"#1f2933\">{}</text>",
            escape(map.caption.split(": ").next().unwrap_or_default())
        );
        let _ = write!(
            svg,
            "<text x=\"{x}\" y=\"31\" font-size=\"11\" fill=\"#52606d\">{}</text>",
            escape(map.caption.split_once(": ").map_or("", |(_, rest)| rest))
        );
        for number in 1..=layout.seats() {
            let (row, column) = ((number - 1) / layout.abreast(), (number - 1) % layout.abreast());
            let left = x + f64::from(column) * (seat + gap) + aisle(column);
            let y = top + f64::from(row) * (seat + gap);
            lowest = f64::max(lowest, y + seat);
            let told = counts[number as usize];
            let fill = match told {
                0 => "#e4e7eb",
                1 => Drawing::colour(0),
                _ => Drawing::colour(1),
            };
            let _ = write!(
                svg,
                "<rect x=\"{left}\" y=\"{y}\" width=\"{seat}\" height=\"{seat}\" rx=\"4\" fill=\"{fill}\"/>"
            );
            if told > 1 {
                let _ = write!(
                    svg,
                    "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" font-size=\"{}\" fill=\"#fff\">{told}</text>",
                    left + seat / 2.0,
                    y + 10.5,
                    if told < 100 { 9 } else { 7 }
                );
            }
        }
        let taken = counts.iter().filter(|count| **count > 0).count();
        let double = counts.iter().filter(|count| **count > 1).count();
        let _ = writeln!(
            plain,
            "{}: {taken} of {} seats taken, {double} of them by more than one",
            map.caption,
            layout.seats()
        );
        x += width + between;
    }
    Drawing::new(title, (x.max(300.0), lowest + 6.0), &svg, &plain)
}

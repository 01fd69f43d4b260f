//! The way from a key to its node, drawn at true places.

use std::fmt::Write as _;

use super::map::SlotMap;
use super::slot::{SLOTS, hash_tag, slot_of};
use lab::Drawing;
use lab::display::escape;

const LEFT: f64 = 20.0;
const WIDTH: f64 = 720.0;
const STRIP: f64 = 56.0;
const ROW: f64 = 26.0;

impl SlotMap {
    /// The slots as a strip, a colour for each master, and a line from each key to its slot. In bold stands the part of
    /// the key that is hashed.
    pub fn picture(&self, keys: &[impl AsRef<str>]) -> Drawing {
        let masters = self.masters();
        let colour = |slot: u16| {
            let master = self.owner(slot).and_then(|owner| masters.iter().position(|known| *known == owner));
            master.map_or("#9ca3af", |place| Drawing::colour(place))
        };
        let mut keys: Vec<(&str, u16)> = keys.iter().map(|key| (key.as_ref(), slot_of(key.as_ref()))).collect();
        keys.sort_by_key(|(_, slot)| *slot);
        let height = STRIP + 44.0 + ROW * keys.len() as f64;
        let (mut svg, mut plain) = (String::new(), String::new());
        let mut from = 0;
        for slot in 1..=SLOTS {
            if slot < SLOTS && self.owner(slot) == self.owner(from) {
                continue;
            }
            let (start, end) = (x(from), x(slot));
            let place = self.owner(from).and_then(|owner| masters.iter().position(|known| *known == owner));
            let name = place.map_or_else(|| "nobody".to_owned(), |place| format!("node {}", place + 1));
            let _ = write!(
                svg,
                "<rect x=\"{start:.1}\" y=\"24\" width=\"{:.1}\" height=\"32\" fill=\"{}\"/>",
                end - start,
                colour(from)
            );
            if end - start > 130.0 {
                let _ = write!(
                    svg,
                    "<text x=\"{:.1}\" y=\"45\" fill=\"#fff\" font-weight=\"600\" text-anchor=\"middle\">{name}: {from}–{}\
                     </text>",
                    (start + end) / 2.0,
                    slot - 1
                );
            }
            let _ = writeln!(plain, "{name} holds {from} to {}", slot - 1);
            from = slot;
        }
        let _ =
            write!(svg, "<text x=\"{LEFT}\" y=\"15\" fill=\"#6b7280\">slot = CRC16(what is hashed) mod 16384</text>");
        let base = |row: usize| STRIP + 30.0 + ROW * row as f64;
        // All lines first, so that none is drawn over a name.
        for (row, (_, slot)) in keys.iter().enumerate() {
            let _ = write!(
                svg,
                "<path d=\"M{0:.1} {1:.1} V{STRIP}\" stroke=\"{2}\" stroke-width=\"1.5\"/>",
                x(*slot),
                base(row),
                colour(*slot)
            );
        }
        for (row, (key, slot)) in keys.iter().enumerate() {
            let (at, base) = (x(*slot), base(row));
            // Names on the right half stand to the left of their line, so that none leaves the picture.
            let (text, anchor) = if at > LEFT + WIDTH / 2.0 { (at - 9.0, "end") } else { (at + 9.0, "start") };
            let _ = write!(
                svg,
                "<circle cx=\"{at:.1}\" \
                 cy=\"{base:.1}\" r=\"4\" fill=\"{0}\"/><text x=\"{text:.1}\" y=\"{1:.1}\" text-anchor=\"{anchor}\" \
                 fill=\"#1f2933\" stroke=\"#fff\" stroke-width=\"4\" paint-order=\"stroke\">{2} <tspan fill=\"#6b7280\">→ \
                 {slot}</tspan></text>",
                colour(*slot),
                base + 4.5,
                hashed_in_bold(key)
            );
            let _ = writeln!(plain, "{key} → {slot}");
        }
        let title =
            "16,384 slots, dealt out to masters; a key belongs to the slot that the CRC16 of its hashed part says";
        Drawing::new(title, (760.0, height), &svg, &plain)
    }
}

fn x(slot: u16) -> f64 {
    LEFT + WIDTH * f64::from(slot) / f64::from(SLOTS)
}

fn hashed_in_bold(key: &str) -> String {
    let tag = String::from_utf8_lossy(hash_tag(key.as_bytes())).into_owned();
    let whole = tag == key;
    match key.split_once(&tag) {
        Some((before, after)) if !whole => {
            format!("{}<tspan font-weight=\"700\">{}</tspan>{}", escape(before), escape(&tag), escape(after))
        }
        _ => format!("<tspan font-weight=\"700\">{}</tspan>", escape(key)),
    }
}

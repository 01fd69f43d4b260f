//! What each way does to a row, as a drawing.

use std::fmt::Write as _;

use lab::Drawing;

/// A known contact with an order, before a put and after it, by a way that keeps the row and by the one that does not.
pub fn picture() -> Drawing {
    const PANELS: [(&str, &str, &str, &str, usize); 3] = [
        ("before", "7", "kept", "→ contact 7", 0),
        ("ON DUPLICATE KEY UPDATE", "7", "kept", "→ contact 7", 2),
        ("REPLACE", "8", "", "gone with contact 7", 1),
    ];
    let (mut svg, mut plain) = (String::new(), String::new());
    for (panel, (title, id, note, order, colour)) in PANELS.into_iter().enumerate() {
        let x = 4.0 + 256.0 * panel as f64;
        let colour = Drawing::colour(colour);
        let phone = if panel == 0 { "555-1" } else { "555-2" };
        let _ = write!(
            svg,
            "<text x=\"{x}\" y=\"18\" font-weight=\"600\" fill=\"{colour}\">{title}</text>\
             <rect x=\"{x}\" y=\"30\" width=\"236\" height=\"58\" rx=\"6\" fill=\"{colour}\" fill-opacity=\"0.12\" stroke=\"{colour}\"/>\
             <g fill=\"#6b7280\" font-size=\"11\"><text x=\"{0}\" y=\"48\">id</text><text x=\"{1}\" y=\"48\">email</text>\
             <text x=\"{2}\" y=\"48\">phone</text><text x=\"{3}\" y=\"48\">note</text></g>\
             <g fill=\"#1f2933\"><text x=\"{0}\" y=\"72\">{id}</text><text x=\"{1}\" y=\"72\">ada@…</text>\
             <text x=\"{2}\" y=\"72\">{phone}</text><text x=\"{3}\" y=\"72\">{4}</text></g>\
             <text x=\"{x}\" y=\"116\" fill=\"#1f2933\">order 31 {order}</text>",
            x + 12.0,
            x + 44.0,
            x + 110.0,
            x + 176.0,
            if note.is_empty() { "∅" } else { note },
        );
        let _ = writeln!(plain, "{title}: id {id}, ada@…, phone {phone}, note {note:?}; order 31 {order}");
    }
    Drawing::new("The same put of a known contact, by two statements", (764.0, 128.0), &svg, &plain)
}

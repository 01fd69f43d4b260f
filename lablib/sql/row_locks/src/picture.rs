//! Which locks a transaction takes, as a drawing: on rows, on the gaps between them, or on both.

use std::fmt::Write as _;

use lab::Drawing;

/// A piece of an index with its gaps, and what four statements lock of it.
pub fn picture() -> Drawing {
    const KEYS: [u32; 4] = [10, 20, 30, 40];
    // For each statement: rows and gaps that it locks, by position; the gap n is the one before key n.
    const STATEMENTS: [(&str, &[usize], &[usize]); 4] = [
        ("SELECT … WHERE k = 20   (plain)", &[], &[]),
        ("… WHERE k = 20 FOR UPDATE", &[1], &[]),
        ("… WHERE k = 25 FOR UPDATE", &[], &[2]),
        ("… WHERE k BETWEEN 20 AND 30 FOR UPDATE", &[1, 2, 3], &[2, 3]),
    ];
    let (left, step) = (372.0, 96.0);
    let mut svg = String::from(
        "<g fill=\"#6b7280\" font-size=\"11\"><text x=\"0\" y=\"16\">MariaDB, at REPEATABLE READ</text>\
         <text x=\"320\" y=\"16\">the index: a row is a box, what lies between is a gap</text></g>",
    );
    let mut plain = String::new();
    for (line, (statement, rows, gaps)) in STATEMENTS.iter().enumerate() {
        let y = 34.0 + 42.0 * line as f64;
        let _ = write!(svg, "<text x=\"0\" y=\"{}\" fill=\"#1f2933\">{statement}</text>", y + 19.0);
        let _ = write!(plain, "{statement}:");
        for (n, key) in KEYS.iter().enumerate() {
            let x = left + step * n as f64;
            let gap = if gaps.contains(&n) { (Drawing::colour(1), 0.85) } else { ("#d5dae1", 0.6) };
            let _ = write!(
                svg,
                "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"8\" fill=\"{}\" fill-opacity=\"{}\"/>",
                x - step + 44.0,
                y + 10.0,
                step - 44.0,
                gap.0,
                gap.1
            );
            let (fill, ink) = if rows.contains(&n) { (Drawing::colour(0), "#fff") } else { ("#fff", "#1f2933") };
            let _ = write!(
                svg,
                "<rect x=\"{x}\" y=\"{y}\" width=\"44\" height=\"28\" rx=\"5\" fill=\"{fill}\" stroke=\"#9aa5b1\"/>\
                 <text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"{ink}\">{key}</text>",
                x + 22.0,
                y + 19.0
            );
            if gaps.contains(&n) {
                let _ = write!(plain, " the gap before {key},");
            }
            if rows.contains(&n) {
                let _ = write!(plain, " row {key},");
            }
        }
        plain = plain.trim_end_matches(',').to_string();
        plain.push_str(if rows.is_empty() && gaps.is_empty() { " nothing\n" } else { "\n" });
    }
    Drawing::new("What a statement locks", (720.0, 206.0), &svg, &plain)
}

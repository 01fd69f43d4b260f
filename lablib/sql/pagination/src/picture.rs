//! The idea as a drawing: two ways to the same page of an index.

use std::fmt::Write as _;

use lab::Drawing;

/// OFFSET walks to the page over everything before it; a key goes down the tree and is there.
pub fn picture() -> Drawing {
    let (left, step, count) = (20.0, 18.0, 40);
    let (page, size) = (28, 6);
    let mut svg = String::new();
    for (row, words) in
        [(0, "LIMIT 6 OFFSET 28: count off 28 rows, then read 6"), (1, "WHERE key > last: find it, then read 6")]
    {
        let y = 58.0 + 130.0 * f64::from(row);
        let _ =
            write!(svg, "<text x=\"{left}\" y=\"{}\" fill=\"#1f2933\" font-weight=\"600\">{words}</text>", y - 36.0);
        for index in 0..count {
            let x = left + step * f64::from(index);
            let inside = index >= page && index < page + size;
            let fill = match (inside, row == 0 && index < page) {
                (true, _) => Drawing::colour(2),
                (false, true) => Drawing::colour(1),
                (false, false) => "#e5e7eb",
            };
            let _ = write!(svg, "<rect x=\"{x:.1}\" y=\"{y}\" width=\"14\" height=\"30\" rx=\"2\" fill=\"{fill}\"/>");
        }
        let to = left + step * f64::from(page) + 7.0;
        let path = if row == 0 {
            format!("M{} {} H{}", left, y + 42.0, to - 8.0)
        } else {
            format!("M{} {} Q{} {} {to} {}", left + 360.0, y - 26.0, to, y - 26.0, y - 6.0)
        };
        let _ = write!(
            svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"#1f2933\" stroke-width=\"1.5\" marker-end=\"url(#tip)\"/>"
        );
    }
    let defs = "<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"6\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
                orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#1f2933\"/></marker></defs>";
    let plain = "OFFSET 28 walks over 28 rows and throws them away, then reads the 6 of the page.\n\
                 A key leads down the tree to the 29th row at once, and the 6 of the page are read.\n";
    Drawing::new("Two ways to one page of an index", (760.0, 250.0), &format!("{defs}{svg}"), plain)
}

//! What a pool is, as a drawing.

use std::fmt::Write as _;

use lab::Drawing;

/// Borrowers in a queue, a pool of four connections of which one is being cleaned, and the server.
pub fn picture() -> Drawing {
    let [blue, orange, green] = [0, 1, 2].map(Drawing::colour);
    let mut svg = String::from(
        "<defs><marker id=\"pool-tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
         orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#6b7280\"/></marker></defs>",
    );
    for (index, name) in ["9th", "8th", "7th", "6th", "5th"].into_iter().enumerate() {
        let x = 14.0 + 44.0 * index as f64;
        let _ = write!(
            svg,
            "<circle cx=\"{0}\" cy=\"102\" r=\"18\" fill=\"{blue}\" fill-opacity=\"0.14\" stroke=\"{blue}\"/>\
             <text x=\"{0}\" y=\"106\" text-anchor=\"middle\" font-size=\"11\" fill=\"#1f2933\">{name}</text>",
            x + 18.0
        );
    }
    let rows = [
        ("lent to the 1st", blue),
        ("lent to the 2nd", blue),
        ("lent to the 3rd", blue),
        ("4th left a transaction: being cleaned", orange),
    ];
    for (index, (text, colour)) in rows.into_iter().enumerate() {
        let y = 40.0 + 34.0 * index as f64;
        let _ = write!(
            svg,
            "<rect x=\"296\" y=\"{y}\" width=\"246\" height=\"26\" rx=\"5\" fill=\"{colour}\" fill-opacity=\"0.14\" \
             stroke=\"{colour}\"/><text x=\"306\" y=\"{0}\" font-size=\"12\" fill=\"#1f2933\">{text}</text>\
             <path d=\"M542 {1}H640\" stroke=\"{green}\" stroke-width=\"2\"/>",
            y + 17.0,
            y + 13.0
        );
    }
    let _ = write!(
        svg,
        "<path d=\"M236 102H290\" stroke=\"#6b7280\" stroke-width=\"1.5\" fill=\"none\" marker-end=\"url(#pool-tip)\"/>\
         <rect x=\"640\" y=\"40\" width=\"104\" height=\"128\" rx=\"8\" fill=\"{green}\" fill-opacity=\"0.12\" stroke=\"{green}\"/>\
         <text x=\"692\" y=\"108\" text-anchor=\"middle\" fill=\"#1f2933\">server</text>\
         <g font-weight=\"600\" fill=\"#1f2933\"><text x=\"14\" y=\"24\">queue: first come, first served</text>\
         <text x=\"296\" y=\"24\">four permits, never five</text><text x=\"600\" y=\"24\">four connections</text></g>\
         <text x=\"14\" y=\"192\" fill=\"#6b7280\" font-size=\"12\">What comes back clean goes to the 5th in the same step. \
         Whoever leaves hands on what he has.</text>",
    );
    let plain = "A queue of five borrowers, the 5th to the 9th; four permits, three of which are lent to the 1st to the 3rd, while \
                 the connection of the 4th is being cleaned; four connections to the server.\n";
    Drawing::new("A pool of four connections", (764.0, 204.0), &svg, plain)
}

//! The four ways to a number, as a drawing.

use std::fmt::Write as _;

use lab::Drawing;

/// One panel: its name, what is kept, what a request does, and who holds how many numbers in advance.
const PANELS: [(&str, &str, &str, &str); 4] = [
    ("1. a counter file", "next = 3001", "a thousand numbers a save", "issuer holds 2001 – 3000"),
    ("2. ranges from a table", "orders | 501", "one statement a range", "callers hold 301 – 400, 401 – 500"),
    ("3. ticket servers", "odd: 17 · even: 24", "one statement a number", "nobody holds any"),
    ("4. ids in the database", "ms | shard | count", "inside the INSERT itself", "nobody holds any"),
];

/// Where the number comes from in each of the four systems: what is durable, what a request does, and what a crash loses.
pub fn picture() -> Drawing {
    let (width, gap) = (186.0, 8.0);
    let (mut svg, mut plain) = (String::new(), String::new());
    for (index, (name, kept, request, held)) in PANELS.iter().enumerate() {
        let x = index as f64 * (width + gap);
        let colour = Drawing::colour(index);
        let middle = x + width / 2.0;
        let _ = write!(
            svg,
            "<g text-anchor=\"middle\" fill=\"#1f2933\"><text x=\"{middle}\" y=\"20\" font-weight=\"600\">{name}</text>\
             <circle cx=\"{}\" cy=\"50\" r=\"7\" fill=\"#9aa5b1\"/><circle cx=\"{middle}\" cy=\"50\" r=\"7\" fill=\"#9aa5b1\"/>\
             <circle cx=\"{}\" cy=\"50\" r=\"7\" fill=\"#9aa5b1\"/>",
            middle - 40.0,
            middle + 40.0,
        );
        // Ranges and the counter's batch are held in memory; the other two ask every time.
        let ahead = index < 2;
        let dash = if ahead { " stroke-dasharray=\"4 3\"" } else { "" };
        for caller in [-40.0, 0.0, 40.0] {
            let _ = write!(
                svg,
                "<line x1=\"{}\" y1=\"60\" x2=\"{middle}\" y2=\"118\" stroke=\"#9aa5b1\"{dash}/>",
                middle + caller
            );
        }
        let _ = write!(
            svg,
            "<rect x=\"{}\" y=\"78\" width=\"{}\" height=\"22\" rx=\"4\" fill=\"#fff\" stroke=\"{colour}\"{dash}/>\
             <text x=\"{middle}\" y=\"93\" font-size=\"11\">{held}</text>\
             <rect x=\"{}\" y=\"118\" width=\"{}\" height=\"34\" rx=\"4\" fill=\"{colour}\" fill-opacity=\"0.85\"/>\
             <text x=\"{middle}\" y=\"140\" fill=\"#fff\" font-weight=\"600\">{kept}</text>\
             <text x=\"{middle}\" y=\"172\" font-size=\"12\" fill=\"#52606d\">{request}</text></g>",
            x + 2.0,
            width - 4.0,
            x + 12.0,
            width - 24.0,
        );
        let _ = writeln!(plain, "{name}: on disk {kept:?}; {request}; {held}.");
    }
    let _ = write!(
        svg,
        "<text x=\"0\" y=\"200\" font-size=\"12\" fill=\"#52606d\">Grey: clients. Filled: what is on disk before a number goes \
         out. Dashed: what is reserved, and lost when its holder dies.</text>"
    );
    Drawing::new("Four ways to a number, and what each keeps on disk", (770.0, 208.0), &svg, &plain)
}

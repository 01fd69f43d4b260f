//! The way of a connection, and the limits along it.

use std::fmt::Write as _;

use lab::Drawing;
use lab::display::escape;

/// Where on its way from client to server a connection meets each limit.
pub fn picture() -> Drawing {
    let boxes: [(f64, f64, f64, &str, &[&str]); 6] = [
        (0.0, 40.0, 130.0, "client process", &["descriptors: EMFILE", "threads: EAGAIN"]),
        (152.0, 40.0, 130.0, "client's ports", &["EADDRNOTAVAIL", "kept in TIME_WAIT"]),
        (304.0, 40.0, 130.0, "SYN queue", &["half-open handshakes", "full: cookie, or drop"]),
        (456.0, 40.0, 130.0, "accept queue", &["nobody accepted yet", "full: SYN dropped"]),
        (608.0, 40.0, 152.0, "server process", &["descriptors: EMFILE", "a thread, or a task"]),
        (0.0, 152.0, 760.0, "the kernel's memory", &["buffers and bookkeeping for both ends of every connection"]),
    ];
    let mut svg = String::from(
        "<defs><marker id=\"limits-arrow\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
         orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#6b7280\"/></marker></defs>\
         <text x=\"0\" y=\"20\" fill=\"#1f2933\">A connection on its way, and what it may run out of</text>",
    );
    let mut plain = String::new();
    for (index, (x, y, width, name, lines)) in boxes.iter().enumerate() {
        let height = 34.0 + 18.0 * lines.len() as f64;
        let colour = Drawing::colour(index);
        let _ = write!(
            svg,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"6\" fill=\"{colour}\" fill-opacity=\"0.12\" \
             stroke=\"{colour}\"/><text x=\"{}\" y=\"{}\" text-anchor=\"middle\" font-weight=\"600\" fill=\"#1f2933\">{}</text>",
            x + width / 2.0,
            y + 22.0,
            escape(name),
        );
        for (row, line) in lines.iter().enumerate() {
            let _ = write!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" font-size=\"11\" fill=\"#4b5563\">{}</text>",
                x + width / 2.0,
                y + 42.0 + 17.0 * row as f64,
                escape(line),
            );
        }
        if (1..5).contains(&index) {
            let _ = write!(
                svg,
                "<line x1=\"{}\" y1=\"75\" x2=\"{}\" y2=\"75\" stroke=\"#6b7280\" stroke-width=\"1.5\" \
                 marker-end=\"url(#limits-arrow)\"/>",
                x - 22.0,
                x - 2.0,
            );
        }
        let _ = writeln!(plain, "{name}: {}", lines.join("; "));
    }
    Drawing::new("The limits along a connection's way", (760.0, 214.0), &svg, &plain)
}

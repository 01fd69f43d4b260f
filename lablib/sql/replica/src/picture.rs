//! The cluster as a drawing: who writes where, who reads where, and where the wires are that this notebook bends.

use std::fmt::Write as _;

use super::cluster::Cluster;
use lab::Drawing;

impl Cluster {
    /// Sessions, router, primary, wires and replicas.
    pub fn picture(&self) -> Drawing {
        let replicas = self.replicas();
        let height = 76.0 * replicas.len().max(2) as f64 + 58.0;
        let middle = height / 2.0 + 6.0;
        let (ink, grey) = ("#1f2933", "#6b7280");
        let mut svg = format!(
            "<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
             orient=\"auto\"><path d=\"M0,0 L8,4 L0,8 z\" fill=\"{grey}\"/></marker></defs>"
        );
        let mut draw = |text: String| svg.push_str(&text);
        let boxed = |x: f64, y: f64, width: f64, name: &str, colour: &str| {
            format!(
                "<rect x=\"{x}\" y=\"{}\" width=\"{width}\" height=\"44\" rx=\"6\" fill=\"{colour}\"/>\
                 <text x=\"{}\" y=\"{}\" \
                 text-anchor=\"middle\" fill=\"#fff\" font-weight=\"600\">{name}</text>",
                y - 22.0,
                x + width / 2.0,
                y + 5.0
            )
        };
        let arrow = |from: (f64, f64), to: (f64, f64), dash: &str| {
            format!(
                "<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" stroke=\"{grey}\" stroke-width=\"1.6\" \
                 stroke-dasharray=\"{dash}\" marker-end=\"url(#tip)\"/>",
                from.0, from.1, to.0, to.1
            )
        };
        let words = |x: f64, y: f64, text: &str, colour: &str| {
            format!("<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\" text-anchor=\"middle\" font-size=\"12\">{text}</text>")
        };
        draw(boxed(4.0, middle, 100.0, "sessions", "#6b7280"));
        draw(words(54.0, middle + 40.0, "each keeps a", ink));
        draw(words(54.0, middle + 56.0, "position: 0-1-42", ink));
        draw(boxed(190.0, middle, 100.0, "router", Drawing::colour(3)));
        draw(words(240.0, middle + 40.0, "knows each", ink));
        draw(words(240.0, middle + 56.0, "replica's lag", ink));
        draw(arrow((106.0, middle), (186.0, middle), ""));
        draw(boxed(370.0, 28.0, 120.0, "primary", Drawing::colour(0)));
        draw(arrow((292.0, middle - 14.0), (368.0, 46.0), ""));
        draw(words(312.0, middle - 44.0, "writes", ink));
        let mut plain = String::from("sessions -> router -> primary (writes, and reads that cannot wait)\n");
        for (index, &replica) in replicas.iter().enumerate() {
            let y = 96.0 + 76.0 * index as f64;
            draw(boxed(610.0, y, 120.0, &self.name(replica), Drawing::colour(2)));
            let wire = (560.0 - 40.0 * index as f64, 62.0 + 56.0 * index as f64);
            let leaves = if index == 0 { (492.0, 34.0) } else { (470.0 - 20.0 * index as f64, 52.0) };
            draw(arrow(leaves, (wire.0 - 20.0, wire.1 - 12.0), ""));
            draw(arrow((wire.0 + 24.0, wire.1 + 4.0), (606.0, y - 6.0), ""));
            draw(format!(
                "<rect x=\"{}\" y=\"{}\" width=\"48\" height=\"22\" rx=\"11\" fill=\"#fff\" stroke=\"{}\"/>",
                wire.0 - 24.0,
                wire.1 - 11.0,
                Drawing::colour(1)
            ));
            draw(words(wire.0, wire.1 + 4.0, "wire", Drawing::colour(1)));
            draw(arrow((292.0, middle + 2.0 + 8.0 * index as f64), (606.0, y + 12.0), "4 3"));
            let _ = writeln!(plain, "primary -> wire -> {} (binary log); router -> {0} (reads)", self.name(replica));
        }
        draw(words(420.0, middle + 50.0, "reads", ink));
        let title = format!("A primary, {} replicas, and a wire in front of each that can be bent", replicas.len());
        Drawing::new(&title, (740.0, height), &svg, &plain)
    }
}

//! The leaves of an index as a drawing: one bar a page, as high as it is full.

use std::fmt::Write as _;

use super::key::{Arm, KeyWidth, Keys, Order};
use super::page::Layout;
use super::tree::{PageTree, Split};
use lab::{Drawing, OrFail, Result};

const LEFT: f64 = 128.0;
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 56.0;

/// The leaves of a table of `rows` rows by 16-byte keys in each order: simulated, from the smallest key to the largest.
pub fn leaves(rows: u64, pad: usize, seed: u64) -> Drawing {
    draw(rows, pad, seed).or_fail()
}

fn draw(rows: u64, pad: usize, seed: u64) -> Result<Drawing> {
    let mut svg = String::new();
    let mut plain = String::new();
    for (row, order) in [Order::Sequential, Order::TimeOrdered, Order::Random].into_iter().enumerate() {
        let keys = Keys::new(Arm { width: KeyWidth::Binary16, order }, seed)?;
        let mut tree = PageTree::new(Layout::clustered(KeyWidth::Binary16, pad), Split::InnoDb)?;
        (0..rows).try_for_each(|row| tree.insert(keys.rank(row)))?;
        let (top, colour) = (30.0 + 92.0 * row as f64, Drawing::colour(row));
        let fills = tree.fills();
        let step = WIDTH / fills.len() as f64;
        let _ = write!(
            svg,
            "<text x=\"0\" y=\"{:.0}\" fill=\"#1f2933\" font-weight=\"600\">{order}</text>\
             <text x=\"0\" y=\"{:.0}\" fill=\"#6b7280\">{} pages</text><text x=\"0\" y=\"{:.0}\" fill=\"#6b7280\">{:.0} % full</text>",
            top + 18.0,
            top + 36.0,
            fills.len(),
            top + 53.0,
            100.0 * tree.fill(),
        );
        for (page, fill) in fills.iter().enumerate() {
            let (x, height) = (LEFT + step * page as f64, HEIGHT * fill);
            let _ = write!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{HEIGHT}\" fill=\"#eef1f4\"/>\
                 <rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>",
                step - 1.5,
                top + HEIGHT - height,
                step - 1.5,
            );
        }
        // Where the last few rows went: at the end, or anywhere.
        let smallest_to_largest: Vec<u64> = tree.keys().collect();
        let touched: Vec<u64> = (rows.saturating_sub(12)..rows).map(|row| keys.rank(row)).collect();
        for rank in &touched {
            let place = smallest_to_largest.partition_point(|key| key < rank);
            let x = LEFT + WIDTH * place as f64 / rows.max(1) as f64;
            let _ = write!(
                svg,
                "<path d=\"M{x:.1} {:.1} l-4 8 h8 z\" fill=\"#1f2933\" fill-opacity=\"0.7\"/>",
                top + HEIGHT + 3.0
            );
        }
        let _ = writeln!(plain, "{order}: {} pages, {:.0} % full", fills.len(), 100.0 * tree.fill());
    }
    let _ = write!(
        svg,
        "<text x=\"{LEFT}\" y=\"16\" fill=\"#6b7280\" font-size=\"12\">smallest key</text>\
         <text x=\"{}\" y=\"16\" fill=\"#6b7280\" font-size=\"12\" text-anchor=\"end\">largest key; ▲ the last twelve rows</text>",
        LEFT + WIDTH
    );
    Ok(Drawing::new(
        &format!("{rows} rows on pages of 16 KiB, by 16-byte keys in three orders"),
        (740.0, 306.0),
        &svg,
        &plain,
    ))
}

//! The notebook's charts and tables.

use super::super::{Arm, Decomposition, KeyWidth, Order, Simulated};
use super::load::{Load, Loaded};
use super::published::{NARROW_INDEX, Published, WIDE_INDEX};
use super::reads::{Reads, Touch};
use lab::chart::{Bars, Chart, Lines};
use lab::{Samples, Table};

/// A group of bars for each width, a bar for each order: measured, with what was predicted where anything was.
fn by_cell(
    title: &str,
    (label, unit): (&str, &str),
    load: &Load,
    value: impl Fn(&Loaded) -> f64,
    predicted: impl Fn(&Loaded) -> Option<f64>,
) -> Bars {
    let mut chart = Chart::bars(title).y(label, unit);
    for width in KeyWidth::ALL {
        let mut cells = load.arms.iter().filter(|arm| arm.arm.width == width).peekable();
        if cells.peek().is_some() {
            chart = chart.group(width);
        }
        for cell in cells {
            chart = chart.bar(cell.arm.order, value(cell));
            if let Some(predicted) = predicted(cell) {
                chart = chart.predicted(cell.arm.order, predicted);
            }
        }
    }
    chart
}

fn of<'a>(simulated: &'a [Simulated], arm: &Loaded) -> Option<&'a Simulated> {
    simulated.iter().find(|prediction| prediction.arm == arm.arm)
}

/// Bytes of the leaves for each row: of the index that holds the rows, and of the secondary one.
pub fn bytes_chart(load: &Load, simulated: &[Simulated], title: (&str, &str)) -> (Bars, Bars) {
    let clustered = |arm: &Loaded| of(simulated, arm).map(|said| said.clustered.bytes_per_row());
    let secondary = |arm: &Loaded| of(simulated, arm).map(|said| said.secondary.bytes_per_row());
    (
        by_cell(title.0, ("clustered index", "B a row"), load, |arm| arm.clustered.bytes_per_row(), clustered),
        by_cell(title.1, ("secondary index", "B a row"), load, |arm| arm.secondary.bytes_per_row(), secondary),
    )
}

/// How full the leaves of the index are that holds the rows, and how often pages were cut.
pub fn fill_chart(load: &Load, simulated: &[Simulated], title: (&str, &str)) -> (Bars, Bars) {
    let fill = |arm: &Loaded| of(simulated, arm).map(|said| said.clustered.fill());
    let per_1000 = |arm: &Loaded, splits: f64| 1_000.0 * splits / arm.clustered.rows as f64;
    let splits = |arm: &Loaded| of(simulated, arm).map(|said| per_1000(arm, said.splits as f64));
    (
        by_cell(title.0, ("leaves are full", "%"), load, |arm| arm.clustered.fill(), fill),
        by_cell(title.1, ("page splits per 1,000 rows", ""), load, |arm| per_1000(arm, arm.splits()), splits),
    )
}

/// Pages read and written for each row.
pub fn pages_chart(load: &Load, title: (&str, &str)) -> (Bars, Bars) {
    let nothing = |_: &Loaded| None;
    (
        by_cell(title.0, ("pages read for each row", ""), load, Loaded::read_per_row, nothing),
        by_cell(title.1, ("pages written for each row", ""), load, Loaded::written_per_row, nothing),
    )
}

/// Rows a second while the tables grow, for some of the arms.
pub fn insert_chart(load: &Load, arms: &[Arm], title: &str) -> Lines {
    let mut chart = Chart::lines(title).x("rows so far", "").y("rows inserted each second", "").log_y();
    for arm in arms {
        let points = load.arm(*arm).parts.iter().map(|part| (part.rows as f64, part.inserted as f64 / part.seconds));
        chart = chart.line(arm, points.collect::<Vec<_>>());
    }
    chart
}

/// Pages read for each row while the tables grow, for some of the arms, with what a pool of that size should miss.
pub fn rates_chart(load: &Load, simulated: &[Simulated], arms: &[Arm], title: &str) -> Lines {
    let mut chart = Chart::lines(title).x("rows so far", "").y("pages read for each row", "").from_zero();
    for arm in arms {
        let loaded = load.arm(*arm);
        let points = loaded.parts.iter().map(|part| (part.rows as f64, part.read / part.inserted as f64));
        chart = chart.line(arm, points.collect::<Vec<_>>());
        if let Some(said) = of(simulated, loaded).filter(|_| arm.order == Order::Random) {
            chart = chart.predicted_points(format!("{} predicted", arm.width), said.misses(loaded.held()));
        }
    }
    chart
}

/// The load in figures.
pub fn insert_table(load: &Load) -> Table {
    let column = |value: fn(&Loaded) -> f64| load.arms.iter().map(value).collect::<Vec<_>>();
    Table::new("The same rows under every key")
        .text("key", load.arms.iter().map(|arm| arm.arm.to_string()))
        .numbers("time", "µs a row", column(|arm| 1e6 * arm.total_seconds() / arm.clustered.rows as f64))
        .numbers("read", "pages a row", column(Loaded::read_per_row))
        .numbers("written", "pages a row", column(Loaded::written_per_row))
        .numbers("in memory", "%", column(Loaded::hit_rate))
        .counts("splits", "", load.arms.iter().map(|arm| arm.splits() as u64))
        .numbers("file", "MB", column(|arm| arm.file as f64 / 1e6))
}

/// What the server said of the secondary index before and after it had counted, and what its leaves come to.
pub fn size_table(load: &Load) -> Table {
    Table::new("The secondary index, by SHOW TABLE STATUS before and after ANALYZE TABLE, and by its leaves")
        .text("key", load.arms.iter().map(|arm| arm.arm.to_string()))
        .counts("Index_length, before", "B", load.arms.iter().map(|arm| arm.told.index))
        .counts("Index_length, after", "B", load.arms.iter().map(|arm| arm.told_later.index))
        .counts("n_leaf_pages", "", load.arms.iter().map(|arm| arm.secondary.leaf_pages))
        .numbers("by Index_length", "B a row", load.arms.iter().map(Loaded::told_bytes))
        .numbers("by its leaves", "B a row", load.arms.iter().map(Loaded::secondary_bytes))
}

/// What width and order multiply costs by, with the prototype's figures for both together.
pub fn parts_chart(parts: &[(&str, Decomposition, Option<f64>)], title: &str) -> Bars {
    let mut chart = Chart::bars(title).y("times as much", "×").log();
    for (what, apart, published) in parts {
        chart = chart.group(what).bar("width", apart.width()).bar("order", apart.order()).bar("both", apart.total());
        if let Some(published) = published {
            chart = chart.mark("prototype", "both", *published);
        }
    }
    chart
}

/// The prototype's index as it was published and as the simulator rebuilds it, with the two arms that it left out.
pub fn rebuilt_chart(published: &Published, title: &str) -> Bars {
    let mut chart = Chart::bars(title).y("secondary index", "B a row");
    let marks = [Some(NARROW_INDEX), None, None, Some(WIDE_INDEX)];
    for ((arm, bytes), mark) in Arm::two_by_two().into_iter().zip(published.bytes()).zip(marks) {
        chart = chart.bar(arm, bytes);
        if let Some(mark) = mark {
            chart = chart.mark("prototype", arm, mark);
        }
    }
    chart.simulated("index pages filled row by row, by InnoDB's rules")
}

/// How full the secondary index is against the number of different values in it: in order, and out of order.
pub fn ties_chart(ties: &[(u32, f64, f64)], title: &str) -> Lines {
    Chart::lines(title)
        .x("different ages", "")
        .y("leaves are full", "%")
        .log_x()
        .line("keys in order", ties.iter().map(|(ages, in_order, _)| (f64::from(*ages), *in_order)))
        .line("random keys", ties.iter().map(|(ages, _, random)| (f64::from(*ages), *random)))
        .mark_y("random, in theory: ln 2", 100.0 * std::f64::consts::LN_2)
}

/// How full leaves are: measured, as InnoDB's rule says, and as cutting in the middle would leave them.
pub fn split_rule_chart(load: &Load, rule: &[Simulated], middle: &[Simulated], title: &str) -> Bars {
    let mut chart = Chart::bars(title).y("leaves are full", "%");
    for said in rule {
        let loaded = load.arm(said.arm);
        chart =
            chart.group(said.arm).bar("measured", loaded.clustered.fill()).predicted("measured", said.clustered.fill());
        if let Some(middle) = of(middle, loaded) {
            chart = chart.bar("if cut in the middle", middle.clustered.fill());
        }
    }
    chart
}

/// Pages read from disk by each way to read.
pub fn reads_chart(reads: &[Reads], touch: Touch, title: &str, unit: &str) -> Bars {
    let mut chart = Chart::bars(title).y("pages read", unit);
    for reads in reads {
        let samples: &Samples = reads.of(touch);
        chart = chart.bar_with_spread(reads.arm, samples);
    }
    chart
}

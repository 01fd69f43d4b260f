//! What the notebook does with the keys: what random draws collide in, loads under every key with their counters, reads
//! afterwards, statistics that nobody refreshed, and the prototype's figures taken apart.

mod charts;
mod draws;
mod load;
mod published;
mod reads;
mod stale;
mod table;

pub use charts::{
    bytes_chart, fill_chart, insert_chart, insert_table, pages_chart, parts_chart, rates_chart, reads_chart,
    rebuilt_chart, size_table, split_rule_chart, ties_chart,
};
pub use draws::{Draws, expected_repeats};
pub use load::{Load, LoadSpec, Loaded, Part, Respect, load, load_lost};
pub use published::{INDEX_RATIO, Published, TIME_RATIO, UUID_SLOWER, published_index};
pub use reads::{Reads, ReadsSpec, Touch, of_arm, reads};
pub use stale::{Stale, stale};

use super::{Arm, Decomposition, Index, Prediction, Rows, Split};
use std::time::Duration;

use crate::lab::{OrFail, Scale};

/// What the simulator says of each of these arms.
pub fn predict(arms: &[Arm], rows: &Rows) -> Vec<Prediction> {
    Prediction::of_all(arms, rows, Split::InnoDb).or_fail()
}

/// What it would say if full pages were always cut in the middle.
pub fn predict_in_the_middle(arms: &[Arm], rows: &Rows) -> Vec<Prediction> {
    Prediction::of_all(arms, rows, Split::Middle).or_fail()
}

/// The prototype's own table at its own size, under its two keys and the two that it left out: at full scale alone, and as
/// many rows of it as there is time for.
pub fn prototype_size(scale: Scale, patience: Duration, seed: u64) -> Option<Load> {
    let rows = Rows { count: 10_000_000, ages: 100, pad: 0, seed };
    let spec = LoadSpec { rows, batch: 1_000, pool: "512M".into(), parts: 20, lanes: 2, patience };
    (scale == Scale::Full).then(|| load(&Arm::two_by_two(), &spec))
}

/// Takes a cost of the [two by two](Arm::two_by_two) arms apart. The costs come in their order.
pub fn apart(costs: [f64; 4]) -> Decomposition {
    let [narrow, wide, narrow_random, wide_random] = costs;
    Decomposition::of(narrow, wide, narrow_random, wide_random).or_fail()
}

/// How much of the leaves of the secondary index is used when rows have so many different ages: sequential INT keys, then
/// random ones, in per cent.
pub fn ties(count: u64, ages: &[u32], seed: u64) -> Vec<(u32, f64, f64)> {
    let [narrow, _, random, _] = Arm::two_by_two();
    let layout = super::Layout::secondary(narrow.width);
    let fill = |arm: Arm, ages: u32| {
        let rows = Rows { count, ages, pad: 0, seed };
        Prediction::secondary(arm, &rows, layout).map(|index: Index| index.fill()).or_fail()
    };
    ages.iter().map(|ages| (*ages, fill(narrow, *ages), fill(random, *ages))).collect()
}

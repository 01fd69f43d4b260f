//! What the notebook does with the keys: what random draws collide in, loads under every key with their counters, reads
//! afterwards, statistics that nobody refreshed, and the prototype's figures taken apart.

mod charts;
mod draws;
mod load;
mod makers;
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
pub use makers::{load_makers, makers_chart, simulate_makers};
pub use published::{INDEX_RATIO, NARROW_INDEX, Published, TIME_RATIO, UUID_SLOWER, WIDE_INDEX, published_index};
pub use reads::{Reads, ReadsSpec, Touch, of_arm, reads};
pub use stale::{Stale, stale};

use super::{Arm, Decomposition, Index, MADE_PER_MILLISECOND, Rows, Simulated, Split};
use std::time::Duration;

use lab::{Error, OrFail, Scale};

/// What the simulator says of each of these arms.
pub fn simulate(arms: &[Arm], rows: &Rows) -> Vec<Simulated> {
    Simulated::of_all(arms, rows, Split::InnoDb).or_fail()
}

/// What the simulator said of one arm; ends the cell where it said nothing.
pub fn of_simulated(simulated: &[Simulated], arm: Arm) -> &Simulated {
    let found = simulated.iter().find(|said| said.arm == arm);
    found.ok_or_else(|| Error::new("look at an arm", format!("{arm} was not simulated"))).or_fail()
}

/// What it would say if full pages were always cut in the middle.
pub fn simulate_in_the_middle(arms: &[Arm], rows: &Rows) -> Vec<Simulated> {
    Simulated::of_all(arms, rows, Split::Middle).or_fail()
}

/// A twenty-fifth of the prototype's own table, under its two keys and the two that it left out, in a twenty-fifth of
/// the memory that MySQL takes by default: at full scale alone. How many times its memory a table is decides what is
/// read and written. At the prototype's own size there is no time to get there: the rows that fit into some minutes fit
/// into memory, too.
pub fn prototype_in_small(scale: Scale, patience: Duration, seed: u64) -> Option<Load> {
    // As many rows of each age as the prototype had.
    let rows = Rows { count: 10_000_000 / 25, ages: 100 / 25, pad: 0, seed };
    let makers = MADE_PER_MILLISECOND;
    let spec = LoadSpec { rows, batch: 1_000, pool: "6M".into(), parts: 20, makers, lanes: 2, patience };
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
        Simulated::secondary(arm, &rows, layout).map(|index: Index| index.fill()).or_fail()
    };
    ages.iter().map(|ages| (*ages, fill(narrow, *ages), fill(random, *ages))).collect()
}

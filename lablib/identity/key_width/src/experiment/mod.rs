//! What the notebook does with the keys: what random draws collide in, loads under every key with their counters, reads
//! afterwards, and statistics that nobody refreshed.

mod load;
mod loaded;
mod table;

pub use load::{LoadSpec, load, load_and_kill};
pub use loaded::{Load, Loaded, ReadsSpec, by_width, reads};

use crate::lanes::in_lanes;
use crate::{Arm, KeyWidth, Keys, Layout, Order, Permutation, Rows, Simulated, Split, mix};
use lab::{Error, Frame, Result};
use table::Table;

/// Random keys of 32 bits, drawn one by one and by a permutation (`how`): the server would refuse the ones that had been there
/// before (`refused`).
pub fn draws(rows: u64, seed: u64) -> Result<Frame> {
    let permutation = Permutation::of_bits(32, seed)?;
    let repeats = |key: &dyn Fn(u64) -> u64| {
        let mut keys: Vec<u32> = (0..rows).map(|row| key(row) as u32).collect();
        keys.sort_unstable();
        keys.dedup();
        rows - keys.len() as u64
    };
    let drawn = repeats(&|row| mix(seed.rotate_left(9) ^ mix(row)));
    let refused = [drawn, repeats(&|row| permutation.of(row))];
    Ok(Frame::new().text("how", ["drawn", "a permutation"]).counts("refused", "rows", refused))
}

/// How many of so many draws from 32 bits repeat an earlier one, on average.
pub fn expected_repeats(rows: f64) -> f64 {
    let all = 2.0_f64.powi(32);
    rows - all * -(rows * (-1.0 / all).ln_1p()).exp_m1()
}

/// How much of the leaves of the secondary index is used (`fill`) when rows have so many `different ages`, by the order of their
/// INT keys (`keys`).
pub fn ties(count: u64, ages: &[u32], seed: u64) -> Result<Frame> {
    let [narrow, _, random, _] = Arm::two_by_two();
    let layout = Layout::secondary(narrow.width);
    let arms = ages.iter().flat_map(|ages| [(*ages, narrow), (*ages, random)]);
    let filled = |(ages, arm): (u32, Arm)| -> Result<Frame> {
        let fill = Simulated::secondary(arm, &Rows { count, ages, pad: 0, seed }, layout)?.fill();
        let ages = Frame::new().counts("different ages", "", [u64::from(ages)]);
        Ok(ages.text("keys", [arm.order]).numbers("fill", "%", [fill]))
    };
    in_lanes(2, arms, filled).map(|filled| filled.into_iter().collect())
}

/// How full leaves of rows are (`fill`) with keys by time from so many `makers` at once, and how many `leaves` there are, as
/// simulated.
pub fn simulate_makers(width: KeyWidth, rows: &Rows, makers: &[u64]) -> Result<Frame> {
    let arm = Arm::new(width, Order::TimeOrdered)?;
    let one = |makers: &u64| -> Result<Frame> {
        let keys = Keys::new(arm, rows.seed)?.made_by(*makers)?;
        let rows = Simulated::of_keys(&keys, rows, Split::InnoDb)?.clustered;
        let makers = Frame::new().counts("makers", "", [*makers]);
        Ok(makers.numbers("fill", "%", [rows.fill()]).counts("leaves", "", [rows.leaf_pages]))
    };
    makers.iter().map(one).collect()
}

/// The same on real servers, two at a time, a load for each; and whether the rows are others than they should be (`wrong`).
pub fn load_makers(width: KeyWidth, spec: &LoadSpec, makers: &[u64]) -> Result<Frame> {
    let arm = Arm::new(width, Order::TimeOrdered)?;
    let loads = in_lanes(2, makers.iter().copied(), |makers| {
        let load = load(&[arm], &LoadSpec { makers, lanes: 1, ..spec.clone() })?;
        let rows = load.arms[0].clustered;
        let makers = Frame::new().counts("makers", "", [makers]).numbers("fill", "%", [rows.fill()]);
        Ok(makers.counts("leaves", "", [rows.leaf_pages]).counts("wrong", "arms", [load.wrong().len() as u64]))
    })?;
    Ok(loads.into_iter().collect())
}

/// Loads a table with the server's default statistics beside an arm's own, and asks for its size too early. A row for each moment
/// (`asked`): `Data_length` and `Index_length` as SHOW TABLE STATUS tells them, and the `leaves` of the secondary index, by a
/// sample of as many pages as is usual, and by one of a single page.
pub fn stale(load: &Load, arm: Arm, rows: Rows, batch: u64) -> Result<Frame> {
    let loaded = load.arms.iter().find(|loaded| loaded.arm == arm);
    let loaded = loaded.ok_or_else(|| Error::new("look at an arm", format!("{arm} was not loaded")))?;
    let mut table = Table::create(&loaded.server, Keys::new(arm, rows.seed)?, rows, "hasty", true)?;
    table.run("SET GLOBAL innodb_stats_auto_recalc = ON")?;
    for from in (0..rows.count).step_by(batch.max(1) as usize) {
        let to = (from + batch.max(1)).min(rows.count);
        let statement = table.statement(from, &rows.values(from, to));
        table.run(&statement)?;
    }
    let at_once = (table.told()?, None);
    let sampled = table.analyze_as_it_is()?.1.leaf_pages;
    let counted = (table.told()?, Some(sampled as f64));
    let leaves = table.analyze()?.1.leaf_pages;
    let moments = [at_once, counted, (table.told()?, Some(leaves as f64))];
    table.run("DROP TABLE hasty")?;
    Ok(Frame::new()
        .text("asked", ["right after its load", "after ANALYZE", "after ANALYZE by a sample of one page"])
        .counts("Data_length", "B", moments.map(|(told, _)| told.data))
        .counts("Index_length", "B", moments.map(|(told, _)| told.index))
        .numbers_or_missing("leaves", "", moments.map(|(_, leaves)| leaves)))
}

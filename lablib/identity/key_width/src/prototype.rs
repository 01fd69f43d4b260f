//! The prototype's figures, and its index rebuilt in the simulator.

use std::time::Duration;

use super::experiment::{Load, LoadSpec, load};
use super::{Arm, Layout, MADE_PER_MILLISECOND, Rows, Simulated};
use crate::LONGEST_LOAD;
use lab::chart::{Bars, Chart};
use lab::{Crowd, Frame, Result};

/// 10 M rows with VARCHAR(16) keys took 1,324.83 s where INT took 120.62 s.
pub const TIME_RATIO: f64 = 1324.83 / 120.62;
/// Their secondary indexes had 387,973,120 and 148,652,032 bytes.
pub const INDEX_RATIO: f64 = 387_973_120.0 / 148_652_032.0;
/// The one by INT, in bytes for each of its 10 M rows, as published.
pub const NARROW_INDEX: f64 = 148_652_032.0 / 1e7;
/// The one by VARCHAR(16).
pub const WIDE_INDEX: f64 = 387_973_120.0 / 1e7;

/// Another prototype's table: how many million rows it held, and the seconds that the next million took under UUIDs (as text) and under
/// numbers that count, as published.
pub const GROWING: [(f64, f64, f64); 5] = [
    (1.0, 281.123, 240.078),
    (2.0, 289.204, 239.069),
    (3.0, 319.873, 240.463),
    (4.0, 342.635, 248.697),
    (5.0, 337.834, 241.689),
];

/// Rebuilds its secondary index with so many rows: the bytes a row that the simulator makes of each of the
/// [two by two](Arm::two_by_two). Ages may be null, and there are as many rows of each as there were in the prototype, whose
/// 10 M rows had a hundred.
pub fn rebuilt(count: u64, seed: u64) -> Result<[f64; 4]> {
    let rows = Rows { count, ages: (count / 100_000).max(1) as u32, pad: 0, seed };
    let bytes = Crowd::of(2).within(LONGEST_LOAD).map(Arm::two_by_two(), |arm| {
        Ok(Simulated::secondary(arm, &rows, Layout::nullable_secondary(arm.width))?.bytes_per_row())
    })?;
    Ok(std::array::from_fn(|arm| bytes[arm]))
}

/// That index as it was published and as the simulator rebuilds it, with the two arms that the prototype left out.
pub fn rebuilt_chart(bytes: [f64; 4], title: &str) -> Bars {
    let [narrow, .., wide] = Arm::two_by_two();
    let rebuilt = Frame::new().text("key", Arm::two_by_two()).numbers("secondary index", "B a row", bytes);
    Chart::bars(title)
        .of(&rebuilt, "key", "secondary index")
        .mark("prototype", narrow, NARROW_INDEX)
        .mark("prototype", wide, WIDE_INDEX)
        .simulated("index pages filled row by row, by InnoDB's rules")
}

/// A twenty-fifth of the prototype's own table, under its two keys and the two that it left out, in a twenty-fifth of
/// the memory that MySQL takes by default. How many times its memory a table is decides what is read and written. At the
/// prototype's own size there is no time to get there: the rows that fit into some minutes fit into memory, too.
pub fn in_small(patience: Duration, seed: u64) -> Result<Load> {
    // As many rows of each age as the prototype had.
    let rows = Rows { count: 10_000_000 / 25, ages: 100 / 25, pad: 0, seed };
    let makers = MADE_PER_MILLISECOND;
    let spec = LoadSpec { rows, batch: 1_000, pool: "6M".into(), parts: 20, makers, lanes: 2, patience };
    load(&Arm::two_by_two(), &spec)
}

//! The prototypes' figures, and their index rebuilt in the simulator.

use super::super::{Arm, Index, Layout, Rows, Simulated};
use lab::OrFail;

/// 10 M rows with VARCHAR(16) keys took 1,324.83 s where INT took 120.62 s.
pub const TIME_RATIO: f64 = 1324.83 / 120.62;
/// Their secondary indexes had 387,973,120 and 148,652,032 bytes.
pub const INDEX_RATIO: f64 = 387_973_120.0 / 148_652_032.0;
/// The one by INT, in bytes for each of its 10 M rows, as published.
pub const NARROW_INDEX: f64 = 148_652_032.0 / 1e7;
/// The one by VARCHAR(16).
pub const WIDE_INDEX: f64 = 387_973_120.0 / 1e7;
/// Another prototype's next million rows, by UUID against AUTO_INCREMENT, on a table of one and of five million.
pub const UUID_SLOWER: (f64, f64) = (281.123 / 240.078, 337.834 / 241.689);

/// The prototype's secondary index, as the simulator rebuilds it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Published {
    /// The four indexes that the simulator makes of so many rows, in the order of [`Arm::two_by_two`].
    pub rebuilt: [Index; 4],
}

/// Rebuilds the prototype's secondary index with so many rows. Ages may be null, and there are as many rows of each as
/// there were in the prototype, whose 10 M rows had a hundred.
pub fn published_index(count: u64, seed: u64) -> Published {
    let rows = Rows { count, ages: (count / 100_000).max(1) as u32, pad: 0, seed };
    let rebuild = |arm: Arm| Simulated::secondary(arm, &rows, Layout::nullable_secondary(arm.width)).or_fail();
    let [a, b, c, d] = Arm::two_by_two();
    let rebuilt = std::thread::scope(|scope| {
        let other = scope.spawn(move || [rebuild(b), rebuild(d)]);
        let [first, third] = [rebuild(a), rebuild(c)];
        let [second, fourth] = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        [first, second, third, fourth]
    });
    Published { rebuilt }
}

impl Published {
    /// Bytes a row of the four rebuilt indexes.
    pub fn bytes(&self) -> [f64; 4] {
        self.rebuilt.map(|index| index.bytes_per_row())
    }
}

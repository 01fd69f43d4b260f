//! Keys by time from one maker, or from many at once: how well they fill their pages.

use super::super::{Arm, KeyWidth, Keys, Order, Rows, Simulated, Split};
use super::load::{Load, LoadSpec, load};
use lab::chart::{Chart, Lines};
use lab::{OrFail, Result, joined};

/// What the simulator says of keys by time from so many makers each.
pub fn simulate_makers(width: KeyWidth, rows: &Rows, makers: &[u64]) -> Vec<(u64, Simulated)> {
    let one = |makers: u64| -> Result<(u64, Simulated)> {
        let keys = Keys::new(Arm::new(width, Order::TimeOrdered)?, rows.seed)?.made_by(makers)?;
        Ok((makers, Simulated::of_keys(&keys, rows, Split::InnoDb)?))
    };
    makers.iter().map(|makers| one(*makers)).collect::<Result<_>>().or_fail()
}

/// The same on real servers, two at a time: a load for each.
pub fn load_makers(width: KeyWidth, spec: &LoadSpec, makers: &[u64]) -> Vec<(u64, Load)> {
    let arm = Arm::new(width, Order::TimeOrdered).or_fail();
    let one = |makers: u64| Ok((makers, load(&[arm], &LoadSpec { makers, lanes: 1, ..spec.clone() })));
    let mut loads = Vec::new();
    for pair in makers.chunks(2) {
        let pair: Vec<Result<(u64, Load)>> = std::thread::scope(|scope| {
            let threads: Vec<_> = pair.iter().map(|makers| scope.spawn(|| one(*makers))).collect();
            threads.into_iter().map(|thread| joined("load the rows", thread.join())).collect()
        });
        loads.extend(pair.into_iter().collect::<Result<Vec<_>>>().or_fail());
    }
    loads
}

/// How full the leaves of the rows are, against the number of makers.
pub fn makers_chart(simulated: &[(u64, Simulated)], measured: &[(u64, f64)], title: &str) -> Lines {
    Chart::lines(title)
        .x("makers of one millisecond's rows", "")
        .y("leaves are full", "%")
        .log_x()
        .predicted_points("simulated", simulated.iter().map(|(makers, said)| (*makers, said.clustered.fill())))
        .points("measured", measured.iter().copied())
}

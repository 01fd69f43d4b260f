//! Ids of many workers, put in order: how well that is the order in which they were made, when the clocks disagree.

use std::time::Duration;

use crate::{Layout, Snowflake};
use lab::clock::VirtualClock;
use lab::{Experiment, OrFail, Result, Rng, Samples};

const LAYOUT: Layout = Layout::WORKERS_32;

/// How ids were in order.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// Per cent of the neighbours in true time whose ids are the other way round, one value for each draw.
    pub inverted: Samples,
    /// The same among ids of one worker.
    pub inverted_of_one_worker: u64,
    /// How far apart in time two ids are at most that are the wrong way round, in milliseconds.
    pub farthest_ms: f64,
}

/// `ids` ids, `per_ms` of them in a mean millisecond at random times, each by a random one of so many workers. Each worker's
/// clock is off by up to `skew_ms` either way. So many draws of all of it.
pub fn inversions(lab: &Experiment, ids: u64, per_ms: f64, workers: u64, skew_ms: u64, draws: u64) -> Order {
    let mut order = Order::default();
    for draw in 0..draws {
        let mut rng = lab.rng(&format!("order {skew_ms} {draw}"));
        one_draw(&mut rng, &mut order, ids, per_ms, workers, skew_ms).or_fail();
    }
    order
}

fn one_draw(rng: &mut Rng, order: &mut Order, ids: u64, per_ms: f64, workers: u64, skew_ms: u64) -> Result<()> {
    let clock = VirtualClock::new();
    // Beyond every skew, so that no clock reads a time from before the epoch of this run.
    let fleet: Vec<Snowflake<VirtualClock>> = (0..workers)
        .map(|worker| {
            let offset = rng.below(2 * skew_ms + 1) as i64 - skew_ms as i64;
            Snowflake::on(clock.skewed(offset), LAYOUT, worker)
        })
        .collect::<Result<_>>()?;
    let (mut made, mut at) = (Vec::new(), 0.0);
    for _ in 0..ids {
        let gap = -(1.0 - rng.unit()).ln() / per_ms;
        clock.advance(Duration::from_secs_f64(gap * 1e-3));
        at += gap;
        let worker = rng.below(workers);
        made.push((at, worker, fleet[worker as usize].next_id()?));
    }
    let inverted = made.windows(2).filter(|pair| pair[0].2 > pair[1].2);
    let per_cent = 100.0 * inverted.clone().count() as f64 / (made.len() - 1) as f64;
    order.inverted.push(per_cent);
    let mut last = vec![0; workers as usize];
    // The largest id up to each one. It only rises, so the first one above an id can be looked up.
    let (mut largest, mut risen): (u64, Vec<(f64, u64)>) = (0, Vec::new());
    for &(at, worker, id) in &made {
        let last = &mut last[worker as usize];
        order.inverted_of_one_worker += u64::from(id <= *last);
        *last = id;
        if let Some((earlier, _)) = risen.get(risen.partition_point(|(_, largest)| *largest <= id)) {
            order.farthest_ms = order.farthest_ms.max(at - earlier);
        }
        if id > largest {
            largest = id;
            risen.push((at, id));
        }
    }
    Ok(())
}

/// What arithmetic says of [`inversions`], in per cent. Two neighbours are an exponential gap apart, and two workers' clocks
/// differ by the difference of two uniform numbers; ids of one millisecond are in the order of their workers, which is the
/// wrong one half of the time.
pub fn predicted_inversions(per_ms: f64, workers: u64, skew_ms: u64) -> f64 {
    let skew = skew_ms as i64;
    let width = (2 * skew + 1) as f64;
    let of_difference = |difference: i64| {
        let share = (width - difference.abs() as f64) / (width * width);
        share * chance_behind(difference as f64, per_ms)
    };
    100.0 * (1.0 - 1.0 / workers as f64) * (-2 * skew..=2 * skew).map(of_difference).sum::<f64>()
}

/// The chance that the first of two ids is the larger one, if its worker's clock is `ahead` ms ahead: 1 where the clocks read
/// a millisecond or more the wrong way round, 0 where they read one the right way round, and straight in between.
fn chance_behind(ahead: f64, per_ms: f64) -> f64 {
    let (wholly, partly) = ((ahead - 1.0).max(0.0), (ahead + 1.0).max(0.0));
    let left = |gap: f64| (-per_ms * gap).exp();
    1.0 - left(wholly) + ((partly - wholly) * left(wholly) - (left(wholly) - left(partly)) / per_ms) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prediction_has_the_limits_that_it_must_have() {
        // Clocks that agree, few ids: only those of one millisecond, half of them.
        let seldom = predicted_inversions(0.001, 1_000_000, 0);
        assert!((seldom - 100.0 * 0.001 / 4.0).abs() < 1e-4, "{seldom}");
        // Clocks that are hours apart: a coin.
        assert!((predicted_inversions(1.0, 1_000_000, 100_000) - 50.0).abs() < 0.1);
        assert_eq!(predicted_inversions(1.0, 1, 50), 0.0);
        let rising: Vec<f64> = [0, 1, 5, 20, 100].map(|skew| predicted_inversions(0.5, 8, skew)).to_vec();
        assert!(rising.is_sorted(), "{rising:?}");
    }
}

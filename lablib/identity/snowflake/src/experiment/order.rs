//! Ids of many workers, put in order: how well that is the order in which they were made, when the clocks disagree.

use std::time::Duration;

use crate::{Layout, Snowflake};
use lab::clock::VirtualClock;
use lab::{Experiment, Frame, Result, Rng};

/// Ids that many workers make at random times.
#[derive(Debug, Clone, Copy)]
pub struct OrderSpec {
    pub ids: u64,
    pub per_ms: f64,
    /// A random one of them makes each id.
    pub workers: u64,
    /// How often all of it is drawn anew, for each skew.
    pub draws: u64,
}

/// Each worker's clock is off by up to one of these skews (ms) either way. A row for each `skew` and draw: per cent of the neighbours in
/// true time whose ids are the other way round (`inverted`); ids of one worker that are (`of one worker`); and how far apart in time two
/// ids are at most that are the wrong way round (`farthest`, ms).
pub fn inversions(lab: &Experiment, spec: OrderSpec, skews: &[u64]) -> Result<Frame> {
    let draws = skews.iter().flat_map(|&skew| (0..spec.draws).map(move |draw| (skew, draw)));
    draws.map(|(skew, draw)| one_draw(&mut lab.rng(&format!("order {skew} {draw}")), spec, skew)).collect()
}

fn one_draw(rng: &mut Rng, spec: OrderSpec, skew: u64) -> Result<Frame> {
    let clock = VirtualClock::new();
    let workers: Vec<Snowflake<VirtualClock>> = (0..spec.workers)
        .map(|worker| {
            let offset = rng.below(2 * skew + 1) as i64 - skew as i64;
            Snowflake::on(clock.skewed(offset), Layout::WORKERS_32, worker)
        })
        .collect::<Result<_>>()?;
    let (mut made, mut at) = (Vec::new(), 0.0);
    for _ in 0..spec.ids {
        let gap = -(1.0 - rng.unit()).ln() / spec.per_ms;
        clock.advance(Duration::from_secs_f64(gap * 1e-3));
        at += gap;
        let worker = rng.below(spec.workers) as usize;
        made.push((at, worker, workers[worker].next_id()?));
    }
    let inverted = made.windows(2).filter(|pair| pair[0].2 > pair[1].2).count();
    let (mut last, mut of_one_worker, mut farthest) = (vec![0; workers.len()], 0, 0.0_f64);
    // The largest id up to each one. It only rises, so the first one above an id can be looked up.
    let (mut largest, mut risen): (u64, Vec<(f64, u64)>) = (0, Vec::new());
    for &(at, worker, id) in &made {
        of_one_worker += u64::from(id <= last[worker]);
        last[worker] = id;
        if let Some((earlier, _)) = risen.get(risen.partition_point(|(_, largest)| *largest <= id)) {
            farthest = farthest.max(at - earlier);
        }
        if id > largest {
            largest = id;
            risen.push((at, id));
        }
    }
    Ok(Frame::new()
        .counts("skew", "ms", [skew])
        .numbers("inverted", "%", [100.0 * inverted as f64 / (made.len() - 1) as f64])
        .counts("of one worker", "", [of_one_worker])
        .numbers("farthest", "ms", [farthest]))
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

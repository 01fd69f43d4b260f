//! What an id costs beside the crates of the field.

use std::time::{Duration, Instant};

use crate::rivals::{BURST, Rival, while_ticking};
use lab::clock::{Clock, SystemClock};
use lab::{Result, Samples, Trial};

/// All of them in turns. Figures: what `one id` takes (ns); and the `ids` that were made, as many by one as by another.
pub fn cost(rounds: usize) -> Result<Trial<Rival>> {
    while_ticking(|ticks| {
        Trial::over(Rival::ALL, rounds).open(|rival| rival.open(ticks)).run(|rival, burst, figures| {
            let began = Instant::now();
            let made = burst(BURST)?;
            figures.push("one id", "ns", began.elapsed().as_secs_f64() * 1e9 / BURST as f64);
            figures.work("ids", made);
            // In every round a millisecond passes, so that the others' next ids are of another one.
            if *rival == Rival::Ulid {
                SystemClock.sleep(Duration::from_micros(1_100));
            }
            Ok(())
        })
    })
}

/// How many times as much ours costs as the cheaper of two other snowflakes on the same clock, round by round.
pub fn ours_to_best(costs: &Trial<Rival>) -> Samples {
    let median = |rival: &Rival| costs.samples(rival, "one id").median();
    let best = [Rival::Snowflaked, Rival::Ferroid].into_iter().min_by(|a, b| median(a).total_cmp(&median(b)));
    costs.ratio("one id", &Rival::Ours, &best.unwrap_or(Rival::Ferroid))
}

//! A counter that is stopped and started again with another save size: the prototype's, and ours.

use std::sync::Arc;

use super::repeated;
use crate::CounterFile;
use crate::seed::{SeedCounter, SeedId};
use lab::chart::{Chart, Lines};
use lab::clock::VirtualClock;
use lab::crash::SimulatedDisk;
use lab::{OrFail, Result};

/// What both counters handed out, one run after the other.
#[derive(Debug)]
pub struct Restarts {
    runs: Vec<(u64, u64)>,
    seed: Vec<u64>,
    strings: Vec<String>,
    ours: Vec<u64>,
}

/// Runs both counters: each `(save size, ids)` is a run, killed at its end. The clock stands still, as it does for many ids
/// of a busy millisecond, and for all of them when it is set back.
pub fn restarts(runs: &[(u64, u64)], seed: u64) -> Restarts {
    let run = || -> Result<Restarts> {
        let (theirs, own) = (Arc::new(SimulatedDisk::seeded(seed)), Arc::new(SimulatedDisk::seeded(seed)));
        let clock = Arc::new(VirtualClock::new());
        let (mut ids, mut ours) = (Vec::<SeedId>::new(), Vec::new());
        for (number, (every, count)) in runs.iter().enumerate() {
            let noise = seed.wrapping_add(number as u64);
            let mut prototype = SeedCounter::open(theirs.clone(), "id.txt", *every, clock.clone(), noise)?;
            let counter = CounterFile::on(own.clone(), "counter", *every)?;
            for _ in 0..*count {
                ids.push(prototype.next_whole()?);
                ours.push(counter.next_id()?);
            }
        }
        let strings = ids.iter().map(ToString::to_string).collect();
        Ok(Restarts { runs: runs.to_vec(), seed: ids.iter().map(|id| id.counter).collect(), strings, ours })
    };
    run().or_fail()
}

impl Restarts {
    /// Counters that the prototype handed out again.
    pub fn seed_again(&self) -> u64 {
        repeated(self.seed.clone())
    }

    /// Whole ids of the prototype's, as strings, that came again.
    pub fn seed_strings_again(&self) -> u64 {
        repeated(self.strings.clone())
    }

    /// Numbers that ours handed out again.
    pub fn ours_again(&self) -> u64 {
        repeated(self.ours.clone())
    }

    /// Numbers that ours left out.
    pub fn ours_missing(&self) -> u64 {
        self.ours.iter().max().map_or(0, |highest| highest - (self.ours.len() as u64 - self.ours_again()))
    }

    /// What each handed out, in order.
    pub fn chart(&self, title: &str) -> Lines {
        let points = |ids: &[u64]| -> Vec<(f64, f64)> {
            let step = (ids.len() / 400).max(1);
            ids.iter().enumerate().step_by(step).map(|(index, id)| (index as f64 + 1.0, *id as f64)).collect()
        };
        let mut chart = Chart::lines(title)
            .x("ids handed out, one after the other", "")
            .y("the counter in it", "")
            .from_zero()
            .line("the prototype", points(&self.seed))
            .line("ours", points(&self.ours));
        let mut so_far = 0;
        for pair in self.runs.windows(2) {
            so_far += pair[0].1;
            chart = chart.mark_x(format!("killed; now every {}", pair[1].0), so_far as f64);
        }
        chart
    }
}

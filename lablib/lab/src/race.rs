//! Timed arms of one experiment, interleaved, doing equal work.

use std::collections::BTreeMap;
use std::fmt;

use crate::{OrFail, Result, Samples, Trial};

/// Arms that take turns, so that a noisy machine disturbs all of them alike.
///
/// Each arm returns how much work it did; arms whose work differs are not comparable, and the race says so.
///
/// ```
/// use lab::Race;
///
/// let numbers: Vec<u64> = (0..10_000).collect();
/// let race = Race::of(5)
///     .arm("sum", || numbers.iter().sum::<u64>())
///     .arm("fold", || numbers.iter().fold(0, |total, number| total + number))
///     .run();
/// assert_eq!(race.ratio("fold", "sum").len(), 5);
/// ```
pub struct Race<'a> {
    rounds: usize,
    arms: Vec<Arm<'a>>,
}

struct Arm<'a> {
    name: String,
    run: Box<dyn FnMut() -> u64 + 'a>,
}

/// Seconds of each arm in each round.
#[derive(Debug, Clone)]
pub struct Raced {
    trial: Trial<String>,
    work: u64,
}

impl<'a> Race<'a> {
    /// A race over so many rounds, after one that warms up and does not count.
    pub fn of(rounds: usize) -> Self {
        Self { rounds, arms: Vec::new() }
    }

    /// Adds an arm. What it returns is the work that it did: rows read, keys found, a checksum of them.
    pub fn arm(mut self, name: &str, run: impl FnMut() -> u64 + 'a) -> Self {
        self.arms.push(Arm { name: name.to_string(), run: Box::new(run) });
        self
    }

    /// Runs all rounds; ends the cell where the arms did not do equal work.
    pub fn run(self) -> Raced {
        self.try_run().or_fail()
    }

    /// Runs all rounds: a [`Trial`] whose arms are closures.
    pub fn try_run(self) -> Result<Raced> {
        let names: Vec<String> = self.arms.iter().map(|arm| arm.name.clone()).collect();
        let mut arms: BTreeMap<String, Arm<'a>> = self.arms.into_iter().map(|arm| (arm.name.clone(), arm)).collect();
        let mut work = 0;
        let trial = Trial::over(names, self.rounds).run(|name, _, figures| {
            if let Some(arm) = arms.get_mut(name) {
                work = std::hint::black_box((arm.run)());
                figures.work("work", work);
            }
            Ok(())
        })?;
        Ok(Raced { trial, work })
    }
}

impl Raced {
    /// Seconds per round of one arm; ends the cell where there is no such arm.
    pub fn seconds(&self, arm: &str) -> Samples {
        self.trial.samples(&arm.to_string(), "seconds")
    }

    /// Nanoseconds per unit of work of one arm.
    pub fn nanoseconds_each(&self, arm: &str) -> Samples {
        let work = self.work as f64;
        self.seconds(arm).map(|seconds| seconds * 1e9 / work)
    }

    /// How many times as long `slower` took as `faster`, round by round.
    pub fn ratio(&self, slower: &str, faster: &str) -> Samples {
        self.seconds(slower).over(&self.seconds(faster))
    }

    /// The arms' names, in the order in which they were added.
    pub fn names(&self) -> Vec<&str> {
        self.trial.arms().iter().map(String::as_str).collect()
    }

    /// All that was measured, for a question.
    pub fn trial(&self) -> &Trial<String> {
        &self.trial
    }
}

impl fmt::Debug for Race<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arms: Vec<&str> = self.arms.iter().map(|arm| arm.name.as_str()).collect();
        f.debug_struct("Race").field("rounds", &self.rounds).field("arms", &arms).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn arms_take_turns_in_both_directions_after_a_warm_up() {
        let order = RefCell::new(String::new());
        let note = |letter| {
            order.borrow_mut().push(letter);
            7
        };
        let raced = Race::of(3).arm("a", || note('a')).arm("b", || note('b')).try_run().unwrap();
        assert_eq!(raced.seconds("a").len(), 3);
        assert_eq!(order.into_inner(), "abbaabba");
    }

    #[test]
    fn unequal_work_is_no_race() {
        let error = Race::of(1).arm("one row", || 1).arm("a thousand rows", || 1_000).try_run().unwrap_err();
        assert!(error.to_string().contains("work: a thousand rows did 1000 where 1 was expected"), "{error}");
    }

    #[test]
    fn work_that_changes_from_round_to_round_is_no_race() {
        let mut work = 0;
        let arm = || {
            work += 1;
            work
        };
        assert!(Race::of(2).arm("drifting", arm).try_run().is_err());
    }

    #[test]
    fn arms_are_told_apart_by_their_names() {
        assert!(Race::of(1).arm("ring", || 1).arm("ring", || 1).try_run().is_err());
        assert!(Race::of(1).try_run().is_err());
    }
}

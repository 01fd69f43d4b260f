//! Timed arms of one experiment, interleaved, doing equal work.

use std::fmt;
use std::time::Instant;

use crate::{Error, OrFail, Result, Samples};

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
    arms: Vec<(String, Samples)>,
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

    /// Runs all rounds.
    pub fn try_run(mut self) -> Result<Raced> {
        if self.arms.is_empty() || self.rounds == 0 {
            return Err(Error::new("run the race", "it needs an arm and a round"));
        }
        let mut raced: Vec<(String, Samples)> =
            self.arms.iter().map(|arm| (arm.name.clone(), Samples::default())).collect();
        let mut expected = None;
        for round in 0..=self.rounds {
            // Every other round runs backwards: no arm always profits from what its neighbour left in the caches.
            let mut order: Vec<usize> = (0..self.arms.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for index in order {
                let arm = &mut self.arms[index];
                let start = Instant::now();
                let work = std::hint::black_box((arm.run)());
                let seconds = start.elapsed().as_secs_f64();
                let expected = *expected.get_or_insert(work);
                if work != expected {
                    let cause = format!("{:?} did work of {work} where {expected} was expected", arm.name);
                    return Err(Error::new("compare the arms", cause).remedy("give every arm equal work"));
                }
                if round > 0 {
                    raced[index].1.push(seconds);
                }
            }
        }
        Ok(Raced { arms: raced, work: expected.unwrap_or(0) })
    }
}

impl Raced {
    /// Seconds per round of one arm; ends the cell where there is no such arm.
    pub fn seconds(&self, arm: &str) -> Samples {
        self.find(arm).or_fail().clone()
    }

    /// Nanoseconds per unit of work of one arm.
    pub fn nanoseconds_each(&self, arm: &str) -> Samples {
        let work = self.work as f64;
        self.seconds(arm).map(|seconds| seconds * 1e9 / work)
    }

    /// How many times as long `slower` took as `faster`, round by round.
    pub fn ratio(&self, slower: &str, faster: &str) -> Samples {
        let (slower, faster) = (self.seconds(slower), self.seconds(faster));
        let ratios: Samples = slower.values().iter().zip(faster.values()).map(|(slow, fast)| slow / fast).collect();
        ratios.taken_with(&slower)
    }

    /// The arms' names, in the order in which they were added.
    pub fn names(&self) -> Vec<&str> {
        self.arms.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn find(&self, arm: &str) -> Result<&Samples> {
        self.arms.iter().find(|(name, _)| name == arm).map(|(_, samples)| samples).ok_or_else(|| {
            Error::new(format!("read the arm {arm:?}"), format!("this race has {}", self.names().join(", ")))
        })
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
        assert!(error.to_string().contains("\"a thousand rows\" did work of 1000 where 1 was expected"), "{error}");
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
    fn an_unknown_arm_is_named() {
        let raced = Race::of(1).arm("ring", || 1).try_run().unwrap();
        assert!(raced.find("modulo").unwrap_err().to_string().contains("this race has ring"));
    }
}

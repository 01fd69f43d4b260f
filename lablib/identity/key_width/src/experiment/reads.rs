//! What reading costs afterwards: one row, rows that are neighbours by key, rows that came one after the other.

use super::super::Arm;
use super::load::{Load, Loaded};
use lab::service::Counters;
use lab::{Error, OrFail, Result, Rng, Samples};

/// What is read from every arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadsSpec {
    /// Rows looked up by key in a round.
    pub points: usize,
    /// Ranges read in a round, of either kind.
    pub ranges: usize,
    /// The rows of a range.
    pub length: u64,
    /// Rounds: arms take turns.
    pub rounds: usize,
    /// Which rows.
    pub seed: u64,
}

/// What one arm's reads cost: pages read from disk, a sample a round.
#[derive(Debug, Clone, PartialEq)]
pub struct Reads {
    /// Which arm.
    pub arm: Arm,
    /// For one row by its key.
    pub point: Samples,
    /// For a range of neighbours by key.
    pub neighbours: Samples,
    /// For as many rows that were inserted one after the other.
    pub contemporaries: Samples,
    /// Rows that were not found, or were other ones.
    pub wrong: u64,
}

/// A way to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// One row by its key.
    Point,
    /// Neighbours by key.
    Neighbours,
    /// Rows of one time.
    Contemporaries,
}

/// Reads the same rows from every arm, in turns.
pub fn reads(load: &mut Load, spec: ReadsSpec) -> Vec<Reads> {
    try_reads(load, spec).or_fail()
}

fn try_reads(load: &mut Load, spec: ReadsSpec) -> Result<Vec<Reads>> {
    let rows = load.rows.count;
    let length = spec.length.clamp(1, rows);
    let new = |arm: Arm| Reads {
        arm,
        point: Samples::default(),
        neighbours: Samples::default(),
        contemporaries: Samples::default(),
        wrong: 0,
    };
    let mut reads: Vec<Reads> = load.arms.iter().map(|arm| new(arm.arm)).collect();
    let mut rng = Rng::seeded(spec.seed, "reads");
    // The first round warms up: it fills every pool with what reading needs.
    for round in 0..=spec.rounds {
        let points: Vec<u64> = (0..spec.points).map(|_| rng.below(rows)).collect();
        // Not the same ranges twice: what one way of reading has brought into memory, the next would find there.
        let mut ranges = || (0..spec.ranges).map(|_| rng.below(rows - length + 1)).collect::<Vec<u64>>();
        let (by_key, by_time) = (ranges(), ranges());
        for (arm, reads) in load.arms.iter_mut().zip(&mut reads) {
            let mut found = 0;
            let point = arm.pages_of(points.len(), |arm| {
                found = arm.table.find(&points)?;
                Ok(())
            })?;
            let mut missing = points.len() as u64 - found;
            let neighbours = arm.pages_of(by_key.len(), |arm| {
                // Whatever key such a range begins at, it must not run over the end: it would be shorter there.
                by_key.iter().try_for_each(|from| arm.table.walk(*from, length).map(|_| ()))
            })?;
            let contemporaries = arm.pages_of(by_time.len(), |arm| {
                by_time.iter().try_for_each(|from| {
                    missing += length - arm.table.fetch(*from, length)?.min(length);
                    Ok(())
                })
            })?;
            reads.wrong += missing;
            if round > 0 {
                reads.point.push(point);
                reads.neighbours.push(neighbours);
                reads.contemporaries.push(contemporaries);
            }
        }
    }
    Ok(reads)
}

/// What one of the arms' reads cost; ends the cell where it was not read from.
pub fn of_arm(reads: &[Reads], arm: Arm) -> &Reads {
    let found = reads.iter().find(|reads| reads.arm == arm);
    found.ok_or_else(|| Error::new("look at an arm", format!("{arm} was not read from"))).or_fail()
}

impl Reads {
    /// The pages of one way to read.
    pub fn of(&self, touch: Touch) -> &Samples {
        match touch {
            Touch::Point => &self.point,
            Touch::Neighbours => &self.neighbours,
            Touch::Contemporaries => &self.contemporaries,
        }
    }
}

impl Loaded {
    /// Pages read from disk for each of so many questions.
    fn pages_of(&mut self, questions: usize, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<f64> {
        let before = Counters::of_server(&self.server)?;
        work(self)?;
        let done = Counters::of_server(&self.server)?.since(&before);
        Ok(done.get("Innodb_pages_read")? / questions.max(1) as f64)
    }
}

//! Two callers want a range at the same time: by hand, one step after the other, and by load.

use std::ops::Range;
use std::sync::Barrier;

use super::repeated;
use crate::seed::SeedRange;
use crate::{Issuer, Ledger, Numbering, RangeMethod, RangeTable};
use lab::service::MariaDb;
use lab::{OrFail, Result, joined};

/// What two callers of the prototype's got, when the second one reads before the first one writes.
#[derive(Debug, Clone)]
pub struct ByHand {
    /// At the counter's first use: what the second caller was told.
    pub first_use: String,
    /// Whether the second caller's first use failed.
    pub first_use_failed: bool,
    /// Afterwards: both callers' ranges.
    pub ranges: [(u64, u64); 2],
}

impl ByHand {
    /// Numbers that both callers hand out.
    pub fn shared(&self) -> u64 {
        let [(a, b), (c, d)] = self.ranges;
        (b.min(d) + 1).saturating_sub(a.max(c))
    }
}

/// The race by hand: read, read, write, write.
pub fn race_by_hand(server: &MariaDb, size: u64) -> ByHand {
    let run = || -> Result<ByHand> {
        let mut callers = SeedRange::callers(server, 2, "orders", size)?;
        let [first, second] = callers.as_mut_slice() else {
            return Err(lab::Error::new("race by hand", "there are not two callers"));
        };
        let (one, two) = (first.read()?, second.read()?);
        first.write(one)?;
        let refused = second.write(two);
        let (first_use, first_use_failed) = match refused {
            Ok(range) => (format!("it got {range:?}"), false),
            Err(error) => {
                // What the server said, without the client's wrapping.
                let said = error.cause().split("ERROR ").last().unwrap_or_default();
                (format!("error {}", said.trim_end_matches(" }")), true)
            }
        };
        let (one, two) = (first.read()?, second.read()?);
        let ends = |range: Range<u64>| (range.start, range.end - 1);
        Ok(ByHand { first_use, first_use_failed, ranges: [ends(first.write(one)?), ends(second.write(two)?)] })
    };
    run().or_fail()
}

/// What became of ranges that several callers took at once.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// How they were taken.
    pub name: String,
    /// How many were taken.
    pub taken: u64,
    /// How many of them somebody else had taken, too.
    pub twice: u64,
    /// Callers that failed.
    pub failed: u64,
    /// Deadlocks and other conflicts that were tried again.
    pub retried: u64,
}

/// Several callers take ranges at once: the prototype's way, and both of ours. The counter's first use is part of it.
pub fn race_under_load(server: &MariaDb, callers: usize, each: u64, size: u64) -> Vec<Loaded> {
    let run = || -> Result<Vec<Loaded>> {
        let seeds = SeedRange::callers(server, callers, "orders", size)?;
        let (ranges, failed, _) = at_once(seeds, each, |caller| caller.take().map(|range| (range.start, 0)))?;
        let taken = ranges.len() as u64;
        let mut loaded =
            vec![Loaded { name: "SELECT, then UPDATE".into(), taken, twice: repeated(ranges), failed, retried: 0 }];
        let methods = [("SELECT … FOR UPDATE", RangeMethod::ForUpdate), ("one statement", RangeMethod::OneStatement)];
        for (name, method) in methods {
            let table = RangeTable::create(server)?;
            let issuers = (0..callers).map(|_| table.issuer_by("orders", size, method)).collect::<Result<Vec<_>>>()?;
            let (ranges, failed, retried) = at_once(issuers, each, |caller| {
                let range = caller.take()?;
                let stats = caller.stats();
                Ok((range.start, stats.deadlocks + stats.conflicts))
            })?;
            let taken = ranges.len() as u64;
            loaded.push(Loaded { name: name.into(), taken, twice: repeated(ranges), failed, retried });
        }
        Ok(loaded)
    };
    run().or_fail()
}

/// All callers begin at once. Returns the starts of all ranges, how many attempts failed, and the last counts added up.
fn at_once<C: Send>(
    callers: Vec<C>,
    each: u64,
    take: impl Fn(&mut C) -> Result<(u64, u64)> + Sync,
) -> Result<(Vec<u64>, u64, u64)> {
    let start = Barrier::new(callers.len());
    std::thread::scope(|scope| {
        let (start, take) = (&start, &take);
        let threads: Vec<_> = callers
            .into_iter()
            .map(|mut caller| {
                scope.spawn(move || {
                    start.wait();
                    let (mut starts, mut failed, mut count) = (Vec::new(), 0, 0);
                    for _ in 0..each {
                        match take(&mut caller) {
                            Ok((start, counted)) => {
                                starts.push(start);
                                count = counted;
                            }
                            Err(_) => failed += 1,
                        }
                    }
                    Ok((starts, failed, count))
                })
            })
            .collect();
        let mut all = (Vec::new(), 0, 0);
        for thread in threads {
            let (starts, failed, count) = joined("take ranges", thread.join())?;
            all.0.extend(starts);
            all.1 += failed;
            all.2 += count;
        }
        Ok(all)
    })
}

/// Callers with ranges of different sizes take numbers, and the last one dies after `taken`: (numbers lost, numbers that it
/// held, numbers that came twice).
pub fn dead_caller(server: &MariaDb, sizes: &[u64], each: u64, taken: u64) -> (u64, u64, u64) {
    let run = || -> Result<(u64, u64, u64)> {
        let table = RangeTable::create(server)?;
        let mut victim = table.issuer("orders", sizes[sizes.len() - 1])?;
        let mut ledger = Ledger::draw(vec![Borrowed(&mut victim)], taken)?;
        let held = victim.at_risk();
        drop(victim);
        let mut callers = sizes.iter().map(|size| table.issuer("orders", *size)).collect::<Result<Vec<_>>>()?;
        let lent = callers.iter_mut().map(Borrowed).collect();
        ledger.append(Ledger::draw(lent, each)?);
        // Those who live use up what they have.
        for caller in &mut callers {
            let left = caller.at_risk();
            ledger.append(Ledger::draw(vec![Borrowed(caller)], left)?);
        }
        let audit = ledger.audit(Numbering::From(1));
        Ok((audit.missing, held, audit.duplicates))
    };
    run().or_fail()
}

/// A caller that is lent to a run, and asked about its range afterwards.
struct Borrowed<'a, I>(&'a mut I);

impl<I: Issuer> Issuer for Borrowed<'_, I> {
    fn next_id(&mut self) -> Result<u64> {
        self.0.next_id()
    }
}

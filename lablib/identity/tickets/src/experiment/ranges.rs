//! Two callers want a range at the same time, by hand and under load; one dies; and what a range costs by its size.

use std::ops::Range;

use super::{hand_out, in_whole_batches};
use crate::prototype::RangeCaller;
use crate::{Ledger, RangeIssuer, RangeMethod, RangeTable, take};
use lab::service::{Counters, MariaDb};
use lab::{Call, Crowd, Error, Frame, Result, Trial};

/// The race of two of the prototype's callers by hand: read, read, write, write. What the server told the second one at the counter's first
/// use, where it got no range; and then, once more, both callers' ranges.
pub fn race_by_hand(server: &MariaDb, size: u64) -> Result<(Option<String>, [Range<u64>; 2])> {
    let mut callers = RangeCaller::callers(server, 2, "orders", size)?;
    let [first, second] = callers.as_mut_slice() else {
        return Err(Error::new("race by hand", "there are not two callers"));
    };
    let (one, two) = (first.read()?, second.read()?);
    first.write(one)?;
    // What the server said, without the client's wrapping.
    let said = |error: Error| {
        format!("error {}", error.cause().split("ERROR ").last().unwrap_or_default().trim_end_matches(" }"))
    };
    let refused = second.write(two).err().map(said);
    let (one, two) = (first.read()?, second.read()?);
    Ok((refused, [first.write(one)?, second.write(two)?]))
}

/// Several callers take ranges at once: the prototype's way, and both of ours. The counter's first use is part of it. A row for
/// each attempt, as a crowd leaves it: the `way`, the `outcome`, and where the range begins (`start`).
pub fn race_under_load(server: &MariaDb, callers: usize, each: u64, size: u64) -> Result<Frame> {
    let prototype = RangeCaller::callers(server, callers, "orders", size)?;
    let mut all = at_once(prototype, each, |caller| caller.take())?.everywhere("way", "", "SELECT, then UPDATE");
    let methods = [("SELECT … FOR UPDATE", RangeMethod::ForUpdate), ("one statement", RangeMethod::OneStatement)];
    for (way, method) in methods {
        let table = RangeTable::create(server)?;
        let issuers = (0..callers).map(|_| table.issuer_by("orders", size, method)).collect::<Result<Vec<_>>>()?;
        all = all.stack(&at_once(issuers, each, |caller| caller.take())?.everywhere("way", "", way));
    }
    Ok(all)
}

fn at_once<C: Send>(callers: Vec<C>, each: u64, take: impl Fn(&mut C) -> Result<Range<u64>> + Sync) -> Result<Frame> {
    let ran = Crowd::holding(callers).times(each).enduring().run(|caller, call| {
        call.note("start", "", take(caller)?.start as f64);
        Ok(())
    })?;
    Ok(ran.frame)
}

/// A caller takes so many numbers of a range of the last of these sizes (`taken`), and dies. Then callers with ranges of all sizes
/// take `each` numbers or more, so many that they have none left: what all of them received, and how many numbers the dead one held.
pub fn dead_caller(server: &MariaDb, sizes: &[u64], each: u64, taken: u64) -> Result<(Ledger, u64)> {
    let table = RangeTable::create(server)?;
    let caller = |size: &u64| table.issuer("orders", *size);
    let work = |caller: &mut RangeIssuer, call: &mut Call| take(caller, call).map(drop);
    let victim = sizes.last().map(caller).transpose()?;
    let ran = Crowd::holding(victim).times(taken).enduring().run(work)?;
    let held = ran.states.iter().map(RangeIssuer::at_risk).sum();
    let dead = Ledger::of(ran);
    let callers = sizes.iter().map(caller).collect::<Result<Vec<_>>>()?;
    let crowd = Crowd::holding(callers).times_each(|caller| each.next_multiple_of(sizes[caller]));
    Ok((dead.then(Ledger::of(crowd.enduring().run(work)?)), held))
}

/// Hands out `ids` ids in ranges of each size, the arms; `ids` is a multiple of every size. Figures: `a million ids`, in milliseconds, and
/// the `commits` for each range, by the server's own counter; column: `size`.
pub fn range_sizes(server: &MariaDb, sizes: &[u64], ids: u64, rounds: usize) -> Result<Trial<u64>> {
    in_whole_batches(sizes, ids)?;
    let table = RangeTable::create(server)?;
    let mut observer = server.connect()?;
    Trial::over(sizes.iter().copied(), rounds)
        .column("size", |size| *size)
        .open(|size| table.issuer(&format!("ranges of {size}"), *size))
        .run(|size, caller, figures| {
            let before = Counters::one(&mut observer, "Binlog_commits")?;
            let (million, rising) = hand_out(caller, ids)?;
            let commits = Counters::one(&mut observer, "Binlog_commits")? - before;
            figures.push("a million ids", "ms", million);
            figures.push("commits", "", commits / (ids / size) as f64);
            figures.work("ids", rising);
            Ok(())
        })
}

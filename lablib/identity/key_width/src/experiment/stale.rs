//! Statistics that nobody refreshed.

use super::super::{Arm, Keys, Rows};
use super::load::Load;
use super::table::{Table, Told};
use lab::{OrFail, Result};

/// What a table says of its size after a load, and what its size is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stale {
    /// Right after the load, with the server's defaults: it counts again when it gets round to it.
    pub told: Told,
    /// After ANALYZE TABLE: the pages that are set aside for it.
    pub told_later: Told,
    /// … and the leaves of the secondary index, by a sample of as many pages as is usual.
    pub sampled_leaves: u64,
    /// Its leaves, by a sample of one page.
    pub leaves: u64,
}

/// Loads a table with the server's default statistics beside an arm's own, and asks for its size too early.
pub fn stale(load: &Load, arm: Arm, rows: Rows, batch: u64) -> Stale {
    let run = || -> Result<Stale> {
        let mut table = Table::create(&load.arm(arm).server, Keys::new(arm, rows.seed)?, rows, "hasty", true)?;
        table.run("SET GLOBAL innodb_stats_auto_recalc = ON")?;
        for from in (0..rows.count).step_by(batch.max(1) as usize) {
            let to = (from + batch.max(1)).min(rows.count);
            let statement = table.statement(from, &rows.values(from, to));
            table.run(&statement)?;
        }
        let told = table.told()?;
        let sampled_leaves = table.analyze_as_it_is()?.1.leaf_pages;
        let told_later = table.told()?;
        let leaves = table.analyze()?.1.leaf_pages;
        table.run("DROP TABLE hasty")?;
        Ok(Stale { told, told_later, sampled_leaves, leaves })
    };
    run().or_fail()
}

//! Statistics that nobody refreshed.

use super::super::{Arm, Rows};
use super::load::Load;
use super::table::{Table, Told};
use crate::lab::{OrFail, Result};

/// What a table says of its size after a load, and what its size is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stale {
    /// Right after the load, with the server's defaults: it counts again when it gets round to it.
    pub told: Told,
    /// After ANALYZE TABLE.
    pub is: Told,
}

/// Loads a table with the server's default statistics beside an arm's own, and asks for its size too early.
pub fn stale(load: &Load, arm: Arm, rows: Rows, batch: u64) -> Stale {
    let run = || -> Result<Stale> {
        let mut table = Table::create(&load.arm(arm).server, arm, rows, "hasty", true)?;
        table.run("SET GLOBAL innodb_stats_auto_recalc = ON")?;
        for from in (0..rows.count).step_by(batch.max(1) as usize) {
            let to = (from + batch.max(1)).min(rows.count);
            let statement = table.statement(from, &rows.values(from, to));
            table.run(&statement)?;
        }
        let told = table.told()?;
        let is = Told::of(table.analyze()?);
        table.run("DROP TABLE hasty")?;
        Ok(Stale { told, is })
    };
    run().or_fail()
}

impl Stale {
    /// How many times as large the secondary index is as was told.
    pub fn off_by(&self) -> f64 {
        self.is.index as f64 / self.told.index.max(1) as f64
    }
}

//! The hand-over: writers held, last changes, comparison, release, grant.

use std::collections::BTreeMap;
use std::time::Instant;

use mysql::prelude::Queryable;

use super::{Moved, Mover};
use crate::Skip;
use crate::directory::{Move, superseded};
use crate::fence::{self, Fence, State, list};
use crate::route::Slot;
use lab::{Doing, Error, Result};

impl Mover<'_> {
    /// The hand-over. Inside: why both sides differ, where they do.
    pub(super) fn hand_over(&mut self, job: &Move, moved: &mut Moved) -> Result<Result<()>> {
        let requested = Instant::now();
        let source = self.glance(&job.source, job)?;
        // A mover that died after the release has left the rows as they were, and nobody has written since.
        let released = source.iter().all(|fence| fence.state == State::Released);
        let target = self.glance(&job.target, job)?;
        let granted = target.iter().all(|fence| fence.state.serves());
        let mut nobody = Instant::now();
        if !granted {
            if !self.skips(Skip::Lock) {
                self.seize_source(job)?;
                self.point("writers-held");
            }
            if !self.skips(Skip::CatchUp) {
                let changes = self.changes(job)?;
                moved.last_changes += self.apply(job, &changes)?;
            }
            self.point("last-changes-applied");
            let compared = if self.skips(Skip::Verify) { Ok(()) } else { self.compare(job)? };
            if compared.is_err() {
                self.connection(&job.source)?.query_drop("ROLLBACK").doing("let the writers go on")?;
                // After a release there is no way back: it was compared before, so something else has written the copy.
                return if released { compared.map(Ok) } else { Ok(compared) };
            }
            self.point("compared");
            if self.skips(Skip::Lock) {
                self.seize_source(job)?;
            }
            self.release(job, released)?;
            nobody = Instant::now();
            self.point("released");
            self.grant(job)?;
        }
        moved.nobody += nobody.elapsed().as_secs_f64();
        moved.writers_held += requested.elapsed().as_secs_f64();
        self.point("granted");
        Ok(Ok(()))
    }

    /// Begins the transaction in which writers wait. It ends with the release, or with the mover.
    pub(super) fn seize_source(&mut self, job: &Move) -> Result<()> {
        let doing = "hold the writers";
        let connection = self.connection(&job.source)?;
        connection.query_drop("START TRANSACTION").doing(doing)?;
        let fences = fence::seize(connection, &job.slots).doing(doing)?;
        let mine =
            |fence: &Fence| [State::Captured, State::Released].contains(&fence.state) && fence.token == job.token;
        if fences.len() == job.slots.len() && fences.iter().all(mine) {
            return Ok(());
        }
        connection.query_drop("ROLLBACK").doing(doing)?;
        Err(superseded(job))
    }

    /// From this commit on, the source refuses, and says who is next.
    pub(super) fn release(&mut self, job: &Move, already: bool) -> Result<()> {
        let sql = format!(
            "UPDATE fences SET state = {}, epoch = epoch + 1, next_owner = ? WHERE slot IN ({})",
            State::Released as u8,
            list(&job.slots)
        );
        let target = job.target.clone();
        let connection = self.connection(&job.source)?;
        let done = match already {
            true => connection.query_drop("COMMIT"),
            false => connection.exec_drop(sql, (target,)).and_then(|()| connection.query_drop("COMMIT")),
        };
        self.or_disconnect(&job.source, done).doing("release the slots").map_err(|error| error.at(&job.source))
    }

    /// From this commit on, the target serves.
    pub(super) fn grant(&mut self, job: &Move) -> Result<()> {
        let sql = format!("UPDATE fences SET state = {} WHERE slot IN ({})", State::Serving as u8, list(&job.slots));
        self.at_target(job, |connection| connection.query_drop(sql))
    }

    /// Number of rows and checksum of every slot, on both sides.
    pub(super) fn compare(&mut self, job: &Move) -> Result<Result<()>> {
        let [source, target] = [self.checksums(&job.source, job)?, self.checksums(&job.target, job)?];
        let Some(slot) = job.slots.iter().find(|slot| source.get(slot) != target.get(slot)) else { return Ok(Ok(())) };
        let rows = |side: &BTreeMap<Slot, (u64, u64)>| side.get(slot).map_or(0, |(rows, _)| *rows);
        let counts = format!("{} rows at {}, {} at {}", rows(&source), job.source, rows(&target), job.target);
        let error =
            Error::new(format!("hand over {} slots", job.slots.len()), format!("slot {slot} differs: {counts}"));
        Ok(Err(error.remedy("they stay where they were; the copy was given up")))
    }

    pub(super) fn checksums(&mut self, name: &str, job: &Move) -> Result<BTreeMap<Slot, (u64, u64)>> {
        let sql = format!(
            "SELECT slot, COUNT(*), BIT_XOR(CAST(CONV(LEFT(MD5(CONCAT_WS('#', id, name, score, visits)), 16), 16, 10) \
             AS UNSIGNED)) FROM users FORCE INDEX (PRIMARY) WHERE slot IN ({}) GROUP BY slot",
            list(&job.slots)
        );
        let rows: Vec<(Slot, u64, u64)> = self.connection(name)?.query(sql).doing("compare both sides")?;
        Ok(rows.into_iter().map(|(slot, rows, sum)| (slot, (rows, sum))).collect())
    }
}

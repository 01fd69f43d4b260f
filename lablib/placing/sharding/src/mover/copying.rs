//! Copying, and catching up with what is written meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mysql::Conn;
use mysql::prelude::Queryable;

use super::Mover;
use crate::Skip;
use crate::cluster::{Row, put_rows};
use crate::directory::Move;
use crate::fence::{Fence, State, list};
use crate::route::Slot;
use lab::{Doing, Result};

const COLUMNS: &str = "SELECT slot, id, name, score, visits FROM users";
/// Changes left for the time in which writers are held.
const FEW: usize = 8;
/// Rounds of catching up before it is time to hold the writers, however much is left.
const ROUNDS: usize = 20;

impl Mover<'_> {
    /// The source notes every write from here on. Waits for writers that looked before.
    pub(super) fn open_capture(&mut self, job: &Move) -> Result<()> {
        let from = [State::Serving, State::Captured];
        self.change_fences(&job.source, job, &from, |fence| Fence { state: State::Captured, ..fence.clone() })?;
        self.point("capture-open");
        Ok(())
    }

    /// The target waits for rows that nobody can see. What an earlier attempt left there goes first.
    pub(super) fn prepare_target(&mut self, job: &Move) -> Result<()> {
        let epochs = self.glance(&job.source, job)?;
        let epoch_at_source: HashMap<Slot, u64> = epochs.iter().map(|fence| (fence.slot, fence.epoch)).collect();
        let from = [State::Absent, State::Incoming];
        self.change_fences(&job.target, job, &from, |fence| Fence {
            state: State::Incoming,
            epoch: epoch_at_source.get(&fence.slot).map_or(0, |epoch| epoch + 1),
            next_owner: None,
            ..fence.clone()
        })?;
        self.remove_rows(&job.target, job, &[State::Incoming])?;
        self.point("target-ready");
        Ok(())
    }

    pub(super) fn copy(&mut self, job: &Move) -> Result<u64> {
        let (chunk, mut copied, mut waiting) = (self.spec.chunk, 0, Vec::new());
        let sql = format!("{COLUMNS} WHERE slot = ? AND id >= ? ORDER BY id LIMIT {chunk}");
        for &slot in &job.slots {
            let mut from: Option<u64> = Some(0);
            while let Some(first) = from {
                let rows: Vec<Row> =
                    self.connection(&job.source)?.exec(&sql, (slot, first)).doing("read rows to be copied")?;
                from = rows.last().and_then(|(_, id, ..)| id.checked_add(1));
                waiting.extend(rows);
                if waiting.len() >= chunk {
                    copied += self.store(job, &std::mem::take(&mut waiting))?;
                }
            }
        }
        Ok(copied + self.store(job, &waiting)?)
    }

    /// Puts rows into the copy, as long as it is this mover's.
    pub(super) fn store(&mut self, job: &Move, rows: &[Row]) -> Result<u64> {
        self.point("chunk-read");
        self.at_target(job, |connection| put_rows(connection, rows))?;
        self.point("chunk-copied");
        Ok(rows.len() as u64)
    }

    /// One transaction at the target, and only on a copy.
    pub(super) fn at_target(&mut self, job: &Move, act: impl FnOnce(&mut Conn) -> mysql::Result<()>) -> Result<()> {
        self.holding(&job.target, job, &[State::Incoming], "write to the copy", act)
    }

    /// Applies what was noted, round by round, until little is left.
    pub(super) fn catch_up(&mut self, job: &Move) -> Result<u64> {
        let mut applied = 0;
        if self.skips(Skip::CatchUp) {
            return Ok(0);
        }
        for _ in 0..ROUNDS {
            let changes = self.changes(job)?;
            applied += self.apply(job, &changes)?;
            // What has been applied need not be read again; a change that is noted now has another number, and no number is
            // given twice: it does not matter how late this is, or who is the mover by then.
            let numbers: Vec<String> = changes.iter().map(|(number, ..)| number.to_string()).collect();
            for numbers in numbers.chunks(1_000) {
                let sql = format!("DELETE FROM changes WHERE seq IN ({})", numbers.join(","));
                self.connection(&job.source)?.query_drop(sql).doing("tidy the change log")?;
            }
            if changes.len() <= FEW {
                break;
            }
        }
        Ok(applied)
    }

    pub(super) fn changes(&mut self, job: &Move) -> Result<Vec<(u64, Slot, u64)>> {
        let sql = format!("SELECT seq, slot, id FROM changes WHERE slot IN ({}) ORDER BY seq", list(&job.slots));
        self.connection(&job.source)?.query(sql).doing("read the change log")
    }

    /// Makes the copy's rows of these users what the source's are now: it does not matter how often, or in which order.
    pub(super) fn apply(&mut self, job: &Move, changes: &[(u64, Slot, u64)]) -> Result<u64> {
        let changed: BTreeSet<(Slot, u64)> = changes.iter().map(|&(_, slot, id)| (slot, id)).collect();
        let changed: Vec<(Slot, u64)> = changed.into_iter().collect();
        for some in changed.chunks(self.spec.chunk) {
            // Slot by slot: the optimiser makes ranges of the primary key of this, and a whole scan of pairs.
            let mut ids: BTreeMap<Slot, Vec<String>> = BTreeMap::new();
            for (slot, id) in some {
                ids.entry(*slot).or_default().push(id.to_string());
            }
            let places: Vec<String> =
                ids.iter().map(|(slot, ids)| format!("(slot = {slot} AND id IN ({}))", ids.join(","))).collect();
            let places = places.join(" OR ");
            let sql = format!("{COLUMNS} WHERE {places}");
            let rows: Vec<Row> = self.connection(&job.source)?.query(sql).doing("read what changed")?;
            self.at_target(job, |connection| {
                connection.query_drop(format!("DELETE FROM users WHERE {places}"))?;
                put_rows(connection, &rows)
            })?;
        }
        Ok(changes.len() as u64)
    }
}

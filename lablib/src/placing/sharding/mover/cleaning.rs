//! What goes after a hand-over, and what goes where there was none.

use mysql::Conn;
use mysql::prelude::Queryable;

use super::Mover;
use crate::lab::{Doing, Result};
use crate::placing::sharding::directory::{self, Move, Step, superseded};
use crate::placing::sharding::fence::{self, Fence, State, list};
use crate::placing::sharding::route::Slot;

impl Mover {
    /// Takes the rows of the slots away from the source, then says that nothing is there.
    pub(super) fn clean(&mut self, job: &Move) -> Result<()> {
        let fences = self.glance(&job.source, job)?;
        if fences.iter().all(|fence| fence.state == State::Absent) {
            return Ok(());
        }
        self.remove_rows(&job.source, job, &[State::Released])?;
        self.forget_changes(job)?;
        let from = [State::Released, State::Absent];
        self.change_fences(&job.source, job, &from, |fence| Fence { state: State::Absent, ..fence.clone() })
    }

    /// Before the hand-over: the source goes on as if nothing had been planned, and the copy goes.
    pub(super) fn abandon(&mut self, job: &mut Move) -> Result<()> {
        self.stamp(job)?;
        let from = [State::Captured, State::Serving];
        self.change_fences(&job.source, job, &from, |fence| Fence { state: State::Serving, ..fence.clone() })?;
        self.forget_changes(job)?;
        if self.glance(&job.target, job)?.iter().any(|fence| fence.state == State::Incoming) {
            self.remove_rows(&job.target, job, &[State::Incoming])?;
            let from = [State::Incoming, State::Absent];
            self.change_fences(&job.target, job, &from, |fence| Fence { state: State::Absent, ..fence.clone() })?;
        }
        directory::advance(&mut self.directory, job, Step::Done)
    }

    pub(super) fn forget_changes(&mut self, job: &Move) -> Result<()> {
        let sql = format!("DELETE FROM changes WHERE slot IN ({})", list(&job.slots));
        self.connection(&job.source)?.query_drop(sql).doing("tidy the change log")
    }

    /// Removes the slots' rows, some at a time, while the fences are in one of these states and this mover's.
    pub(super) fn remove_rows(&mut self, name: &str, job: &Move, states: &[State]) -> Result<()> {
        let doing = "remove rows";
        let most = self.spec.chunk.max(1_000) as u64;
        loop {
            let connection = self.connection(name)?;
            connection.query_drop("START TRANSACTION").doing(doing)?;
            let fences = fence::seize(connection, &job.slots).doing(doing)?;
            if !fences.iter().all(|fence| states.contains(&fence.state) && fence.token == job.token) {
                connection.query_drop("ROLLBACK").doing(doing)?;
                return Err(superseded(job));
            }
            let removed = Self::remove_some(connection, &job.slots, most);
            let removed = self.or_disconnect(name, removed).doing(doing).map_err(|error| error.at(name))?;
            if removed < most {
                return Ok(());
            }
        }
    }

    pub(super) fn remove_some(connection: &mut Conn, slots: &[Slot], most: u64) -> mysql::Result<u64> {
        let mut removed = 0;
        for slot in slots {
            let sql = format!("DELETE FROM users WHERE slot = {slot} LIMIT {}", most - removed);
            connection.query_drop(sql)?;
            removed += connection.affected_rows();
            if removed >= most {
                break;
            }
        }
        connection.query_drop("COMMIT")?;
        Ok(removed)
    }
}

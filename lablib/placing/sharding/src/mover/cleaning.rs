//! What goes after a hand-over, and what goes where there was none.

use mysql::Conn;
use mysql::prelude::Queryable;

use super::Mover;
use crate::directory::{self, Move, Step};
use crate::fence::{Fence, State, list};
use crate::route::Slot;
use lab::Result;

impl Mover<'_> {
    /// Takes the rows of the slots away from the source, then says that nothing is there.
    pub(super) fn clean(&mut self, job: &Move) -> Result<()> {
        let fences = self.glance(&job.source, job)?;
        if fences.iter().all(|fence| fence.state == State::Absent) {
            return Ok(());
        }
        self.remove_rows(&job.source, job, &[State::Released])?;
        self.point("rows-removed");
        let from = [State::Released, State::Absent];
        let absent = |fence: &Fence| Fence { state: State::Absent, ..fence.clone() };
        self.change_fences_and(&job.source, job, &from, absent, |connection| forget_changes(connection, &job.slots))
    }

    /// Before the hand-over: the source goes on as if nothing had been planned, and the copy goes.
    pub(super) fn abandon(&mut self, job: &mut Move) -> Result<()> {
        self.stamp(job)?;
        let from = [State::Captured, State::Serving];
        let serving = |fence: &Fence| Fence { state: State::Serving, ..fence.clone() };
        self.change_fences_and(&job.source, job, &from, serving, |connection| forget_changes(connection, &job.slots))?;
        self.point("given-up");
        if self.glance(&job.target, job)?.iter().any(|fence| fence.state == State::Incoming) {
            self.remove_rows(&job.target, job, &[State::Incoming])?;
            let from = [State::Incoming, State::Absent];
            self.change_fences(&job.target, job, &from, |fence| Fence { state: State::Absent, ..fence.clone() })?;
        }
        directory::advance(&mut self.directory, job, Step::Done)
    }

    /// Removes the slots' rows, some at a time, while the fences are in one of these states and this mover's.
    pub(super) fn remove_rows(&mut self, name: &str, job: &Move, states: &[State]) -> Result<()> {
        let most = self.spec.chunk.max(1_000) as u64;
        loop {
            let remove = |connection: &mut Conn| remove_some(connection, &job.slots, most);
            if self.holding(name, job, states, "remove rows", remove)? < most {
                return Ok(());
            }
        }
    }
}

/// Only together with the fences that say that nothing is noted any more: by itself, it could come when the slots are on their
/// way again, and these are the notes of another move.
fn forget_changes(connection: &mut Conn, slots: &[Slot]) -> mysql::Result<()> {
    connection.query_drop(format!("DELETE FROM changes WHERE slot IN ({})", list(slots)))
}

fn remove_some(connection: &mut Conn, slots: &[Slot], most: u64) -> mysql::Result<u64> {
    let mut removed = 0;
    for slot in slots {
        let sql = format!("DELETE FROM users WHERE slot = {slot} LIMIT {}", most - removed);
        connection.query_drop(sql)?;
        removed += connection.affected_rows();
        if removed >= most {
            break;
        }
    }
    Ok(removed)
}

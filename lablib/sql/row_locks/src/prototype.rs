//! The prototype's three cases: two clients that do not meet, one that was said to wait, and a deadlock.

use std::time::Duration;

use super::{Play, Reads, Schedule, Setting, Stage};
use lab::Result;
use lab::service::MariaDb;

/// What a person at two terminals takes between two statements, sped up.
const TYPING: Duration = Duration::from_millis(25);

/// Plays a schedule at the pace of a chart that people read.
pub fn play(server: &MariaDb, schedule: &Schedule, setting: Setting) -> Result<Play> {
    Stage::open(server, schedule.sessions())?.paced(TYPING).play(schedule, setting)
}

/// Case 1: two inserts of different rows.
pub fn no_wait() -> Schedule {
    Schedule::new("case 1", "two inserts").insert(1, 3, 30).insert(2, 4, 40).commit(1).commit(2)
}

/// Case 2: T1 locks a row and changes it, T2 reads it with a plain `SELECT`. The prototype says that T2 waits.
pub fn plain_select() -> Schedule {
    Schedule::new("case 2", "a SELECT meets a lock")
        .lock(1, 1, Reads::Update)
        .write(1, 1, 11)
        .read(2, 1)
        .commit(1)
        .commit(2)
}

/// Case 2 again, where T2 has no transaction around its `SELECT`.
pub fn autocommitted_select() -> Schedule {
    Schedule::new("case 2, autocommit", "a SELECT of no transaction meets a lock")
        .run(2, "COMMIT")
        .lock(1, 1, Reads::Update)
        .write(1, 1, 11)
        .read(2, 1)
        .commit(1)
        .commit(2)
}

/// Case 2 again, where T2 reads in order to be sure: with a shared lock.
pub fn sharing_select() -> Schedule {
    Schedule::new("case 2, shared", "a SELECT that locks meets a lock")
        .lock(1, 1, Reads::Update)
        .write(1, 1, 11)
        .lock(2, 1, Reads::Share)
        .commit(1)
        .commit(2)
}

/// Case 3: T1 changes row 1 and then 2, T2 changes row 2 and then 1.
pub fn deadlock() -> Schedule {
    Schedule::new("case 3", "a deadlock")
        .write(1, 1, 11)
        .write(2, 2, 22)
        .write(1, 2, 21)
        .write(2, 1, 12)
        .commit(1)
        .commit(2)
}

/// The same deadlock, in which T1 has inserted five rows before; once T2 closes the circle, once T1 does.
pub fn victims() -> [Schedule; 2] {
    let begin = |name: &str| {
        let heavy = (3..8).fold(Schedule::new("victim", name), |schedule, row| schedule.insert(1, row, 100));
        heavy.write(1, 1, 11).write(2, 2, 22)
    };
    [
        begin("the light one closes the circle").write(1, 2, 21).write(2, 1, 12).commit(1).commit(2),
        begin("the heavy one closes the circle").write(2, 1, 12).write(1, 2, 21).commit(2).commit(1),
    ]
}

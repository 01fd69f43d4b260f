//! Which locks on one row get along.

use crate::{Level, Reads, Schedule, Setting, Stage};
use lab::service::MariaDb;
use lab::{Frame, Result};

const NAMES: [&str; 4] = ["plain SELECT", "shared (S)", "FOR UPDATE (X)", "UPDATE (X)"];

fn after(schedule: Schedule, session: usize, what: usize) -> Schedule {
    match what {
        0 => schedule.read(session, 1),
        1 => schedule.lock(session, 1, Reads::Share),
        2 => schedule.lock(session, 1, Reads::Update),
        _ => schedule.write(session, 1, 10 + session as i64),
    }
}

/// Plays all sixteen pairs at a level. A row for each: what `T1 did` to a row, what `T2 wants` with it, whether it `waits` (1), and whether
/// the textbook says so (`predicted`); and whether the history was not that of a serial order (`unserializable`).
pub fn compatibility(server: &MariaDb, level: Level) -> Result<Frame> {
    let mut stage = Stage::open(server, 2)?;
    // A shared lock keeps writers out, an exclusive one everybody who locks. At `SERIALIZABLE` a plain `SELECT` in a transaction
    // locks, too.
    let plain = u64::from(level == Level::Serializable);
    let predicted = [[0, 0, plain, plain], [0, 0, 1, 1], [plain, 1, 1, 1], [plain, 1, 1, 1]];
    let mut pairs = Frame::new();
    for (held, did) in NAMES.into_iter().enumerate() {
        for (wanted, wants) in NAMES.into_iter().enumerate() {
            let schedule = after(after(Schedule::new("pair", "a pair of locks"), 1, held), 2, wanted);
            let play = stage.play(&schedule.commit(1).commit(2), Setting::of(level))?;
            let pair = Frame::new()
                .text("T1 did", [did])
                .text("T2 wants", [wants])
                .counts("waits", "", [u64::from(play.steps[1].has_waited())])
                .counts("predicted", "", [predicted[held][wanted]])
                .counts("unserializable", "", [u64::from(!play.serializable())]);
            pairs = pairs.stack(&pair);
        }
    }
    Ok(pairs)
}

/// Rows in which somebody `waits` who was `predicted` not to, or the other way round.
pub fn surprises(waits: &Frame) -> usize {
    waits.filter_by(|one| one.number("waits") != one.number("predicted")).height()
}

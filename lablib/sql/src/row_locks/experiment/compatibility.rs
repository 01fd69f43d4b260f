//! Which locks on one row get along.

use crate::row_locks::{Level, Reads, Schedule, Setting, Stage};
use lab::chart::{Chart, HeatMap};
use lab::service::MariaDb;
use lab::{Result};

const NAMES: [&str; 4] = ["plain SELECT", "shared (S)", "FOR UPDATE (X)", "UPDATE (X)"];

/// Who waits, for what T1 did to a row (rows) and what T2 then wants with it (columns).
#[derive(Debug, Clone)]
pub struct Compatibility {
    /// The level.
    pub level: Level,
    /// 1 where T2 waited.
    pub waits: [[u64; 4]; 4],
    /// Plays whose history was not that of a serial order.
    pub unserializable: u64,
}

fn after(schedule: Schedule, session: usize, what: usize) -> Schedule {
    match what {
        0 => schedule.read(session, 1),
        1 => schedule.lock(session, 1, Reads::Share),
        2 => schedule.lock(session, 1, Reads::Update),
        _ => schedule.write(session, 1, 10 + session as i64),
    }
}

/// Plays all sixteen pairs at a level.
pub fn compatibility(server: &MariaDb, level: Level) -> Result<Compatibility> {
    let mut stage = Stage::open(server, 2)?;
    let (mut waits, mut unserializable) = ([[0; 4]; 4], 0);
    for (held, row) in waits.iter_mut().enumerate() {
        for (wanted, waits) in row.iter_mut().enumerate() {
            let schedule = after(after(Schedule::new("pair", "a pair of locks"), 1, held), 2, wanted);
            let play = stage.play(&schedule.commit(1).commit(2), Setting::of(level))?;
            *waits = u64::from(play.steps[1].has_waited());
            unserializable += u64::from(!play.serializable());
        }
    }
    Ok(Compatibility { level, waits, unserializable })
}

impl Compatibility {
    /// What the textbook says: a shared lock keeps writers out, an exclusive one everybody who locks. At `SERIALIZABLE` a
    /// plain `SELECT` in a transaction locks, too.
    pub fn predicted(level: Level) -> [[u64; 4]; 4] {
        let plain = u64::from(level == Level::Serializable);
        [[0, 0, plain, plain], [0, 0, 1, 1], [plain, 1, 1, 1], [plain, 1, 1, 1]]
    }

    /// Pairs that did not do what the textbook says.
    pub fn surprises(&self) -> u64 {
        let predicted = Self::predicted(self.level);
        self.waits.iter().flatten().zip(predicted.iter().flatten()).map(|(is, should)| is.abs_diff(*should)).sum()
    }

    /// Pairs in which T2 waited.
    pub fn waited(&self) -> u64 {
        self.waits.iter().flatten().sum()
    }

    /// Who waits.
    pub fn chart(&self, title: &str) -> HeatMap {
        Chart::heat_map(title)
            .subtitle(format!("{}; what T1 did with the row is to the left, what T2 then wants is below", self.level))
            .x("T2 wants", "")
            .y("T1 did", "")
            .value("T2 waits (1)", "")
            .cells(NAMES, NAMES, self.waits.map(|row| row.map(|waits| waits as f64)))
    }
}

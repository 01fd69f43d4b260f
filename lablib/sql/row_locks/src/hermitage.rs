//! The schedules that tell isolation levels apart, by the names of Kleppmann's test suite Hermitage, and what InnoDB is
//! expected to do with each.

use super::schedule::Schedule;
use super::setting::{Level, Reads, Setting};
use lab::history::serializable::AnomalyKind;

/// A schedule, the anomaly that it provokes, and the levels that let it through.
#[derive(Debug, Clone)]
pub struct Trap {
    /// The schedule that springs the trap.
    pub schedule: Schedule,
    /// What the checker finds when it gets through.
    pub anomaly: AnomalyKind,
    gets_through: Gets,
    /// Where some anomaly gets through, if not this one.
    spoils: Gets,
}

/// At which settings an anomaly gets through on InnoDB, from the weakest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gets {
    Nowhere,
    UpToReadUncommitted,
    UpToReadCommitted,
    /// Where reads come from the snapshot and writes do not. Below it a write that waits looks at the row again.
    OnlyRepeatableRead,
    UpToRepeatableRead,
    UpToSnapshotIsolation,
}

impl Trap {
    fn new(schedule: Schedule, anomaly: AnomalyKind, gets_through: Gets) -> Self {
        Self { schedule, anomaly, gets_through, spoils: gets_through }
    }

    /// Where this anomaly does not get through, another one does.
    fn or_else(self, spoils: Gets) -> Self {
        Self { spoils, ..self }
    }

    /// Whether the anomaly is expected at this setting.
    pub fn expected_at(&self, setting: Setting) -> bool {
        self.gets_through.at(setting)
    }

    /// Whether the history is expected to be that of no serial order: by this anomaly, or by another one in its place.
    pub fn spoilt_at(&self, setting: Setting) -> bool {
        self.spoils.at(setting)
    }
}

impl Gets {
    fn at(self, setting: Setting) -> bool {
        // A read that locks what it reads is a read at SERIALIZABLE.
        let level = if setting.reads == Reads::Plain { setting.level } else { Level::Serializable };
        let checked = setting.snapshot_isolation && level == Level::RepeatableRead;
        match self {
            Gets::Nowhere => false,
            Gets::UpToReadUncommitted => level <= Level::ReadUncommitted,
            Gets::UpToReadCommitted => level <= Level::ReadCommitted,
            Gets::OnlyRepeatableRead => level == Level::RepeatableRead && !checked,
            Gets::UpToRepeatableRead => level <= Level::RepeatableRead && !checked,
            Gets::UpToSnapshotIsolation => level <= Level::RepeatableRead,
        }
    }
}

/// T1 and T2 overwrite each other's rows in opposite order.
pub fn dirty_write() -> Schedule {
    Schedule::new("G0", "dirty write")
        .write(1, 1, 11)
        .write(2, 1, 12)
        .write(1, 2, 21)
        .commit(1)
        .write(2, 2, 22)
        .commit(2)
}

/// T2 reads what T1 takes back.
pub fn aborted_read() -> Schedule {
    Schedule::new("G1a", "dirty read, then rolled back").write(1, 1, 101).read(2, 1).rollback(1).read(2, 1).commit(2)
}

/// T2 reads what T1 has not finished writing.
pub fn intermediate_read() -> Schedule {
    Schedule::new("G1b", "dirty read, not the last word")
        .write(1, 1, 101)
        .read(2, 1)
        .write(1, 1, 11)
        .commit(1)
        .commit(2)
}

/// Each reads what the other one has just written.
pub fn circular_flow() -> Schedule {
    Schedule::new("G1c", "circular information flow")
        .write(1, 1, 11)
        .write(2, 2, 22)
        .read(1, 2)
        .read(2, 1)
        .commit(1)
        .commit(2)
}

/// T3 sees T2's first write and not its second one, so T2 vanishes before its eyes.
pub fn observed_transaction_vanishes() -> Schedule {
    Schedule::new("OTV", "observed transaction vanishes")
        .write(1, 1, 11)
        .write(1, 2, 19)
        .write(2, 1, 12)
        .commit(1)
        .read(3, 1)
        .read(3, 2)
        .write(2, 2, 18)
        .read(3, 2)
        .commit(2)
        .commit(3)
}

/// T1 reads a row twice, and T2 changes it in between.
pub fn non_repeatable_read() -> Schedule {
    Schedule::new("P2", "non-repeatable read").read(1, 1).write(2, 1, 12).commit(2).read(1, 1).commit(1)
}

/// T1 asks the same question twice, and T2 inserts an answer in between.
pub fn phantom() -> Schedule {
    Schedule::new("PMP", "phantom")
        .find(1, "value = 30", [3])
        .insert(2, 3, 30)
        .commit(2)
        .find(1, "value % 3 = 0", [3])
        .commit(1)
}

/// T2 reads which row has the value 20, and changes another one.
pub fn phantom_write() -> Schedule {
    Schedule::new("PMP-w", "phantom, seen by a write")
        .change(1, "value + 10", "TRUE", [(1, 20), (2, 30)])
        .find(2, "value = 20", [])
        .change(2, "99", "value = 20", [(1, 99), (2, 99)])
        .commit(1)
        .commit(2)
}

/// Both read a row, both replace it, and one of them has never been.
pub fn lost_update() -> Schedule {
    Schedule::new("P4", "lost update").read(1, 1).read(2, 1).write(1, 1, 11).write(2, 1, 12).commit(1).commit(2)
}

/// T1 reads one row before T2 and the other one after it.
pub fn read_skew() -> Schedule {
    Schedule::new("G-single", "read skew")
        .read(1, 1)
        .read(2, 1)
        .read(2, 2)
        .write(2, 1, 12)
        .write(2, 2, 18)
        .commit(2)
        .read(1, 2)
        .commit(1)
}

/// Both read both rows, and each writes another one.
pub fn write_skew() -> Schedule {
    Schedule::new("G2-item", "write skew")
        .find(1, "id IN (1, 2)", [1, 2])
        .find(2, "id IN (1, 2)", [1, 2])
        .write(1, 1, 11)
        .write(2, 2, 21)
        .commit(1)
        .commit(2)
}

/// Both look for what the other one then inserts.
pub fn anti_dependency() -> Schedule {
    Schedule::new("G2", "write skew by phantoms")
        .find(1, "value % 3 = 0", [3, 4])
        .find(2, "value % 3 = 0", [3, 4])
        .insert(1, 3, 30)
        .insert(2, 4, 42)
        .commit(1)
        .commit(2)
}

/// Fekete's: without the reader T3 all would be well.
pub fn read_only_skew() -> Schedule {
    Schedule::new("G2-3", "a reader makes it a circle")
        .find(1, "TRUE", [1, 2])
        .change(2, "value + 5", "id = 2", [(2, 25)])
        .commit(2)
        .find(3, "TRUE", [1, 2])
        .commit(3)
        .write(1, 1, 0)
        .commit(1)
}

/// All of them, in the order of Hermitage.
pub fn all() -> Vec<Trap> {
    use AnomalyKind::*;
    vec![
        Trap::new(dirty_write(), DirtyWrite, Gets::Nowhere),
        Trap::new(aborted_read(), AbortedRead, Gets::UpToReadUncommitted),
        Trap::new(intermediate_read(), IntermediateRead, Gets::UpToReadUncommitted),
        // Where neither sees the other one's write, each has missed it: a write skew.
        Trap::new(circular_flow(), CircularInformation, Gets::UpToReadUncommitted).or_else(Gets::UpToSnapshotIsolation),
        Trap::new(observed_transaction_vanishes(), ReadSkew, Gets::UpToReadUncommitted),
        Trap::new(non_repeatable_read(), NonRepeatableRead, Gets::UpToReadCommitted),
        Trap::new(phantom(), ReadSkew, Gets::UpToReadCommitted),
        Trap::new(phantom_write(), ReadSkew, Gets::OnlyRepeatableRead),
        Trap::new(lost_update(), LostUpdate, Gets::UpToRepeatableRead),
        Trap::new(read_skew(), ReadSkew, Gets::UpToReadCommitted),
        Trap::new(write_skew(), WriteSkew, Gets::UpToSnapshotIsolation),
        Trap::new(anti_dependency(), WriteSkew, Gets::UpToSnapshotIsolation),
        Trap::new(read_only_skew(), WriteSkew, Gets::UpToSnapshotIsolation),
    ]
}

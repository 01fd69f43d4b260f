//! How the sessions of a play see each other: the isolation level, and what a read locks.

use std::fmt;

use lab::service::Dialect;
use lab::{Error, Result};

/// An isolation level by its SQL name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Sees what others have not committed.
    ReadUncommitted,
    /// Each statement sees what was committed when it began.
    ReadCommitted,
    /// All reads of a transaction see what was committed at its first one; writes see the newest rows all the same.
    RepeatableRead,
    /// Every plain read in a transaction locks what it reads; a `SELECT` that is a transaction by itself does not.
    Serializable,
}

impl Level {
    /// From the weakest to the strongest.
    pub const ALL: [Self; 4] = [Self::ReadUncommitted, Self::ReadCommitted, Self::RepeatableRead, Self::Serializable];
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadUncommitted => "READ UNCOMMITTED",
            Self::ReadCommitted => "READ COMMITTED",
            Self::RepeatableRead => "REPEATABLE READ",
            Self::Serializable => "SERIALIZABLE",
        })
    }
}

/// What a read locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reads {
    /// A plain `SELECT`.
    Plain,
    /// `LOCK IN SHARE MODE`, or `FOR SHARE`: others may read, nobody may write.
    Share,
    /// `FOR UPDATE`: nobody else may lock it.
    Update,
}

impl Reads {
    /// What stands at the end of the `SELECT`.
    pub fn suffix(self, dialect: Dialect) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Share => dialect.for_share(),
            Self::Update => "FOR UPDATE",
        }
    }
}

/// An isolation level, and how reads lock: what a schedule is played at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Setting {
    /// The isolation level of all sessions.
    pub level: Level,
    /// MariaDB's `innodb_snapshot_isolation`: whoever would write over what is not in its snapshot gets error 1020.
    pub snapshot_isolation: bool,
    /// What the reads of the schedule lock.
    pub reads: Reads,
}

impl Setting {
    /// A level with plain reads, and MariaDB's snapshot isolation off.
    pub fn of(level: Level) -> Self {
        Self { level, snapshot_isolation: false, reads: Reads::Plain }
    }

    /// The same, with the writes checked against the snapshot.
    #[must_use]
    pub fn with_snapshot_isolation(self) -> Self {
        Self { snapshot_isolation: true, ..self }
    }

    /// The same with every read of the schedule locking.
    #[must_use]
    pub fn reading(self, reads: Reads) -> Self {
        Self { reads, ..self }
    }

    /// The four levels, and between the upper two what a server or a careful client can make of `REPEATABLE READ`.
    pub fn all(dialect: Dialect) -> Vec<Self> {
        let repeatable = Self::of(Level::RepeatableRead);
        let mut all = vec![Self::of(Level::ReadUncommitted), Self::of(Level::ReadCommitted), repeatable];
        if has_snapshot_isolation(dialect) {
            all.push(repeatable.with_snapshot_isolation());
        }
        all.extend([repeatable.reading(Reads::Update), Self::of(Level::Serializable)]);
        all
    }

    /// What a session says before its transaction begins.
    pub(super) fn statements(&self, dialect: Dialect) -> Result<Vec<String>> {
        let mut statements = vec![format!("SET SESSION TRANSACTION ISOLATION LEVEL {}", self.level)];
        if has_snapshot_isolation(dialect) {
            let on = u8::from(self.snapshot_isolation);
            statements.push(format!("SET SESSION innodb_snapshot_isolation = {on}"));
        } else if self.snapshot_isolation {
            let cause = format!("{dialect} does not have innodb_snapshot_isolation");
            return Err(
                Error::new("play at snapshot isolation", cause).remedy("MariaDB has it since 10.6.18 and 10.11.8")
            );
        }
        Ok(statements)
    }
}

/// Whether the server has the setting at all; it came in the patch releases of spring 2024.
fn has_snapshot_isolation(dialect: Dialect) -> bool {
    let (major, minor, patch) = dialect.version();
    dialect.is_mariadb()
        && match (major, minor) {
            (10, 6) => patch >= 18,
            (10, 11) => patch >= 8,
            (11, 0) => patch >= 6,
            (11, 1) => patch >= 5,
            (11, 2) => patch >= 4,
            (11, 4) => patch >= 2,
            _ => major > 11 || (major == 11 && minor > 4),
        }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.level)?;
        if self.snapshot_isolation {
            f.write_str(" + snapshot isolation")?;
        }
        match self.reads {
            Reads::Plain => Ok(()),
            Reads::Share => f.write_str(", reads lock (S)"),
            Reads::Update => f.write_str(", FOR UPDATE"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_isolation_is_only_asked_of_servers_that_have_it() {
        let asks = |banner: &str| {
            let dialect = Dialect::of(banner).unwrap();
            (
                Setting::all(dialect).len(),
                Setting::of(Level::RepeatableRead).with_snapshot_isolation().statements(dialect).is_ok(),
            )
        };
        assert_eq!(asks("10.11.19-MariaDB"), (6, true));
        assert_eq!(asks("11.8.2-MariaDB"), (6, true));
        assert_eq!(asks("10.11.6-MariaDB"), (5, false));
        assert_eq!(asks("8.4.3"), (5, false));
    }

    #[test]
    fn each_family_shares_in_its_own_words() {
        let words = |banner: &str| Reads::Share.suffix(Dialect::of(banner).unwrap());
        assert_eq!((words("10.11.6-MariaDB"), words("8.4.3")), ("LOCK IN SHARE MODE", "FOR SHARE"));
    }
}

//! What a schedule says: which session does what, in which order.

use std::collections::BTreeSet;

use super::setting::Reads;
use lab::{Error, Result};

/// One step of a session. Rows have numbers; 1 and 2 are there at first, with the values 10 and 20.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Reads the rows that a condition holds for.
    Read {
        /// The condition behind `WHERE`.
        condition: String,
        /// Rows that the condition holds for in every version that they may have: where one of them is not in the
        /// answer, the reader has seen that it is not there.
        expected: Vec<u32>,
        /// What this read locks, whatever the setting says.
        reads: Option<Reads>,
    },
    /// Changes the rows that a condition holds for.
    Change {
        /// The new value, as SQL.
        value: String,
        /// The condition behind `WHERE`.
        condition: String,
        /// The value that each row has after it, if it is changed.
        becomes: Vec<(u32, i64)>,
    },
    /// Inserts a row.
    Insert {
        /// Its number.
        row: u32,
        /// Its value.
        value: i64,
    },
    /// Commits.
    Commit,
    /// Rolls back.
    Rollback,
    /// Any other statement, on any other table; it is played and not recorded.
    Sql(String),
}

impl Step {
    /// What it does in a few letters, for a chart.
    pub fn words(&self) -> String {
        match self {
            Self::Read { condition, .. } => format!("read {}", short(condition)),
            Self::Change { value, condition, .. } => format!("{} := {value}", short(condition)),
            Self::Insert { row, value } => format!("insert {row} := {value}"),
            Self::Commit => "COMMIT".into(),
            Self::Rollback => "ROLLBACK".into(),
            Self::Sql(sql) => sql.clone(),
        }
    }

    /// The statement, on this table.
    pub fn sql(&self, table: &str, reads: &str) -> String {
        match self {
            Self::Read { condition, .. } => {
                format!("SELECT id, value, versions FROM {table} WHERE {condition} ORDER BY id {reads}")
                    .trim_end()
                    .into()
            }
            // From left to right, so the list gets the new value.
            Self::Change { value, condition, .. } => {
                format!("UPDATE {table} SET value = {value}, versions = CONCAT(versions, ' ', value) WHERE {condition}")
            }
            Self::Insert { row, value } => format!("INSERT INTO {table} VALUES ({row}, {value}, '{value}')"),
            Self::Commit => "COMMIT".into(),
            Self::Rollback => "ROLLBACK".into(),
            Self::Sql(sql) => sql.clone(),
        }
    }
}

fn short(condition: &str) -> String {
    match condition {
        "TRUE" => "all".into(),
        other => other.strip_prefix("id = ").unwrap_or(other).replace("value ", "v "),
    }
}

/// Steps of several sessions in one order.
///
/// ```
/// use row_locks::Schedule;
///
/// let lost_update = Schedule::new("P4", "lost update").read(1, 1).read(2, 1).write(1, 1, 11).write(2, 1, 12).commit(1).commit(2);
/// assert_eq!((lost_update.sessions(), lost_update.steps().len()), (2, 6));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    code: String,
    name: String,
    steps: Vec<(usize, Step)>,
}

impl Schedule {
    /// An empty schedule with a short and a long name.
    pub fn new(code: &str, name: &str) -> Self {
        Self { code: code.into(), name: name.into(), steps: Vec::new() }
    }

    /// The short name.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The long name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who does what; sessions count from 1.
    pub fn steps(&self) -> &[(usize, Step)] {
        &self.steps
    }

    /// How many sessions it needs.
    pub fn sessions(&self) -> usize {
        self.steps.iter().map(|(session, _)| *session).max().unwrap_or(0)
    }

    /// A session does this next.
    #[must_use]
    pub fn then(mut self, session: usize, step: Step) -> Self {
        self.steps.push((session, step));
        self
    }

    /// A session reads a row.
    #[must_use]
    pub fn read(self, session: usize, row: u32) -> Self {
        self.find(session, &format!("id = {row}"), [row])
    }

    /// A session reads a row and locks it.
    #[must_use]
    pub fn lock(self, session: usize, row: u32, reads: Reads) -> Self {
        let step = Step::Read { condition: format!("id = {row}"), expected: vec![row], reads: Some(reads) };
        self.then(session, step)
    }

    /// A session reads what a condition holds for; `expected` are rows that it holds for whenever they are there.
    #[must_use]
    pub fn find(self, session: usize, condition: &str, expected: impl Into<Vec<u32>>) -> Self {
        let step = Step::Read { condition: condition.into(), expected: expected.into(), reads: None };
        self.then(session, step)
    }

    /// A session gives a row a value that the row never has otherwise.
    #[must_use]
    pub fn write(self, session: usize, row: u32, value: i64) -> Self {
        self.change(session, &value.to_string(), &format!("id = {row}"), [(row, value)])
    }

    /// A session changes what a condition holds for.
    #[must_use]
    pub fn change(self, session: usize, value: &str, condition: &str, becomes: impl Into<Vec<(u32, i64)>>) -> Self {
        let step = Step::Change { value: value.into(), condition: condition.into(), becomes: becomes.into() };
        self.then(session, step)
    }

    /// A session inserts a row.
    #[must_use]
    pub fn insert(self, session: usize, row: u32, value: i64) -> Self {
        self.then(session, Step::Insert { row, value })
    }

    /// A session commits.
    #[must_use]
    pub fn commit(self, session: usize) -> Self {
        self.then(session, Step::Commit)
    }

    /// A session rolls back.
    #[must_use]
    pub fn rollback(self, session: usize) -> Self {
        self.then(session, Step::Rollback)
    }

    /// A session runs any other statement.
    #[must_use]
    pub fn run(self, session: usize, sql: &str) -> Self {
        self.then(session, Step::Sql(sql.into()))
    }

    /// The rows that it speaks of.
    pub(super) fn rows(&self) -> BTreeSet<u32> {
        let mut rows = BTreeSet::from([1, 2]);
        for (_, step) in &self.steps {
            match step {
                Step::Read { expected, .. } => rows.extend(expected),
                Step::Change { becomes, .. } => rows.extend(becomes.iter().map(|(row, _)| row)),
                Step::Insert { row, .. } => {
                    rows.insert(*row);
                }
                _ => {}
            }
        }
        rows
    }

    /// Whether it can be played and judged by so many sessions.
    pub(super) fn check(&self, sessions: usize) -> Result<()> {
        let bad = |cause: String| Err(Error::new(format!("play the schedule {:?}", self.code), cause));
        let mut written = BTreeSet::from([(1, 10), (2, 20)]);
        let mut ended = BTreeSet::new();
        for (session, step) in &self.steps {
            if *session == 0 || *session > sessions {
                return bad(format!("it names session {session}, and there are sessions 1 to {sessions}"));
            }
            if ended.contains(session) {
                return bad(format!("session {session} does something after its end"));
            }
            let becomes = match step {
                Step::Change { becomes, .. } => becomes.clone(),
                Step::Insert { row, value } => vec![(*row, *value)],
                _ => vec![],
            };
            if let Some((row, value)) = becomes.into_iter().find(|version| !written.insert(*version)) {
                return bad(format!(
                    "row {row} gets the value {value} twice, so that a read would not tell whose it is"
                ));
            }
            if matches!(step, Step::Commit | Step::Rollback) {
                ended.insert(*session);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_judged_is_refused_before_it_is_played() {
        let schedule = || Schedule::new("x", "x");
        let refused = |schedule: Schedule| schedule.check(2).unwrap_err().to_string();
        assert!(refused(schedule().read(3, 1)).contains("session 3"));
        assert!(refused(schedule().read(0, 1)).contains("session 0"));
        assert!(refused(schedule().write(1, 1, 11).write(2, 1, 11)).contains("row 1 gets the value 11 twice"));
        assert!(refused(schedule().write(1, 1, 10)).contains("twice"));
        assert!(refused(schedule().commit(1).read(1, 1)).contains("after its end"));
        assert!(schedule().write(1, 1, 11).write(1, 2, 11).commit(1).check(2).is_ok());
    }

    #[test]
    fn a_step_is_the_statement_that_it_says() {
        let steps = Schedule::new("x", "x").read(1, 1).write(1, 2, 21).insert(1, 3, 30);
        let sql: Vec<String> = steps.steps().iter().map(|(_, step)| step.sql("t", "FOR UPDATE")).collect();
        assert_eq!(sql[0], "SELECT id, value, versions FROM t WHERE id = 1 ORDER BY id FOR UPDATE");
        assert_eq!(sql[1], "UPDATE t SET value = 21, versions = CONCAT(versions, ' ', value) WHERE id = 2");
        assert_eq!(sql[2], "INSERT INTO t VALUES (3, 30, '30')");
    }
}

//! What happened in a play: every step with its times and its answer, and what the history checker makes of it.

use std::collections::{BTreeMap, BTreeSet};

use super::locks::LockWait;
use super::schedule::{Schedule, Step};
use super::setting::Setting;
use lab::chart::{Chart, Timeline};
use lab::history::serializable::{AnomalyKind, Report, check};
use lab::history::{Access, Transaction, TransactionOutcome};
use lab::{Error, Result, Table};

/// A row of an answer, as text.
pub(super) type Row = Vec<String>;

/// What a step was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Rows, as text.
    Rows(Vec<Vec<String>>),
    /// Rows that the statement changed.
    Changed(u64),
    /// An error of the server's, with its number.
    Refused {
        /// 1213 is a deadlock, 1205 a wait that took too long, 1020 a row that is not as in the snapshot.
        code: u16,
        /// The server's words.
        message: String,
    },
    /// It was not sent: the server had rolled the transaction back before.
    Skipped,
}

/// A step as it was played. Times are seconds since the play began.
#[derive(Debug, Clone, PartialEq)]
pub struct Played {
    /// The session's number, from 1 on.
    pub session: usize,
    /// The step that it was to take.
    pub step: Step,
    /// The statement that was sent.
    pub sql: String,
    /// When it was sent; none where it was skipped.
    pub sent: Option<f64>,
    /// When its answer was there.
    pub done: Option<f64>,
    /// When the server was seen to say that the session waits for a lock; none where it did not wait.
    pub waited: Option<f64>,
    /// The server's answer.
    pub answer: Answer,
}

impl Played {
    pub(super) fn new(session: usize, step: Step, sql: String) -> Self {
        Self { session, step, sql, sent: None, done: None, waited: None, answer: Answer::Skipped }
    }

    /// Whether it waited for a lock.
    pub fn has_waited(&self) -> bool {
        self.waited.is_some()
    }

    /// The number of the error that it got.
    pub fn refused(&self) -> Option<u16> {
        match self.answer {
            Answer::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    /// The answer in a few letters.
    pub fn outcome(&self) -> String {
        match &self.answer {
            Answer::Rows(rows) if rows.is_empty() => "no row".into(),
            Answer::Rows(rows) => {
                let row = |row: &Row| match row.as_slice() {
                    [id, value, _] if matches!(self.step, Step::Read { .. }) => format!("{id} = {value}"),
                    other => other.join(", "),
                };
                rows.iter().map(row).collect::<Vec<_>>().join("; ")
            }
            Answer::Changed(_) if matches!(self.step, Step::Commit | Step::Rollback) => "done".into(),
            Answer::Changed(1) => "1 row".into(),
            Answer::Changed(rows) => format!("{rows} rows"),
            Answer::Refused { code, .. } => format!("error {code}"),
            Answer::Skipped => "not sent".into(),
        }
    }
}

/// A schedule that was played.
#[derive(Debug, Clone)]
pub struct Play {
    /// The schedule that was to be played.
    pub schedule: Schedule,
    /// At which setting.
    pub setting: Setting,
    /// Its steps, in the order of the schedule.
    pub steps: Vec<Played>,
    /// Who waited for whom and which lock, as the server's tables showed it, if they were asked.
    pub waits: Vec<LockWait>,
    /// The recorded history: who set the table, every session's transaction, and who read the table in the end.
    pub history: Vec<Transaction>,
    report: Report,
}

impl Play {
    pub(super) fn judge(
        schedule: Schedule,
        setting: Setting,
        steps: Vec<Played>,
        waits: Vec<LockWait>,
        last: Vec<Row>,
    ) -> Result<Self> {
        let history = history(&schedule, &steps, &last)?;
        let report = check(&history)?;
        Ok(Self { schedule, setting, steps, waits, history, report })
    }

    /// What the checker says of the recorded history.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Whether the history is that of some serial order.
    pub fn serializable(&self) -> bool {
        self.report.serializable
    }

    /// Whether the checker found this anomaly.
    pub fn shows(&self, anomaly: AnomalyKind) -> bool {
        self.report.has(anomaly)
    }

    /// The first thing that the checker has to say against it.
    pub fn evidence(&self) -> String {
        let against = self.report.anomalies.iter().find(|anomaly| anomaly.kind != AnomalyKind::RealTime);
        against.map_or_else(|| "nothing".into(), ToString::to_string)
    }

    /// How many steps waited for a lock.
    pub fn waited(&self) -> u64 {
        self.steps.iter().filter(|played| played.has_waited()).count() as u64
    }

    /// How many steps were refused with this error.
    pub fn refused(&self, code: u16) -> u64 {
        self.steps.iter().filter(|played| played.refused() == Some(code)).count() as u64
    }

    /// The value that the n-th step, from 1 on, found in its first row; not a number where it found none.
    pub fn value_read(&self, step: usize) -> f64 {
        let played = step.checked_sub(1).and_then(|index| self.steps.get(index));
        match played.map(|played| &played.answer) {
            Some(Answer::Rows(rows)) => rows.first().and_then(|row| row.get(1)?.parse().ok()).unwrap_or(f64::NAN),
            _ => f64::NAN,
        }
    }

    /// Seconds from when the n-th step, from 1 on, was sent until its answer was there; not a number where it was not sent.
    pub fn took(&self, step: usize) -> f64 {
        let played = step.checked_sub(1).and_then(|index| self.steps.get(index));
        played.and_then(|played| Some(played.done? - played.sent?)).unwrap_or(f64::NAN)
    }

    /// The session that got this error first; not a number where none did.
    pub fn victim(&self, code: u16) -> f64 {
        let victim = self.steps.iter().find(|played| played.refused() == Some(code));
        victim.map_or(f64::NAN, |played| played.session as f64)
    }

    /// The play as a table: who did what, whether it waited, and what was answered.
    pub fn table(&self) -> Table {
        Table::new(&format!("{} at {}", self.schedule.name(), self.setting))
            .text("session", self.steps.iter().map(|played| format!("T{}", played.session)))
            .text("statement", self.steps.iter().map(|played| shown(&played.sql)))
            .text("waits", self.steps.iter().map(|played| if played.has_waited() { "waits" } else { "" }))
            .text("answer", self.steps.iter().map(Played::outcome))
    }

    /// The play by its real times: what waited is a pale bar from the sending to the answer.
    pub fn timeline(&self, title: &str) -> Timeline {
        let start = self.steps.iter().filter_map(|played| played.sent).fold(f64::INFINITY, f64::min);
        let milliseconds = |at: f64| (at - start) * 1e3;
        let lane = |session: usize| format!("T{session}");
        let subtitle = format!("{}; measured times, pauses are the person who types", self.setting);
        let mut chart = Chart::timeline(title).subtitle(subtitle).x("time", "ms");
        for session in 1..=self.schedule.sessions() {
            chart = chart.lane(lane(session));
        }
        for (index, played) in self.steps.iter().enumerate() {
            let (Some(sent), Some(done)) = (played.sent, played.done) else { continue };
            let words = match played.refused() {
                Some(code) => format!("error {code}"),
                None if matches!(played.step, Step::Read { .. }) => {
                    format!("{} → {}", played.step.words(), found(played))
                }
                None => played.step.words(),
            };
            if !played.has_waited() {
                // A commit is one when it is over, and lets its locks go then.
                let ends = matches!(played.step, Step::Commit | Step::Rollback);
                chart = chart.event(lane(played.session), milliseconds(if ends { done } else { sent }), words);
                continue;
            }
            let waits = format!("{} waits", played.step.words());
            chart = chart.wait(lane(played.session), milliseconds(sent), milliseconds(done), waits);
            if let Some(code) = played.refused() {
                chart = chart.event(lane(played.session), milliseconds(done), format!("error {code}"));
            }
            // Whoever ended last before that let the lock go.
            let before = self.steps.iter().enumerate().filter(|(other, step)| {
                *other != index && step.session != played.session && step.done.is_some_and(|end| end <= done)
            });
            let last =
                before.max_by(|(_, one), (_, other)| one.done.unwrap_or(0.0).total_cmp(&other.done.unwrap_or(0.0)));
            if let Some((_, Played { session, done: Some(end), step: Step::Commit | Step::Rollback, .. })) = last {
                chart = chart.arrow(lane(*session), milliseconds(*end), lane(played.session), milliseconds(done), "");
            }
        }
        chart
    }
}

fn found(played: &Played) -> String {
    match &played.answer {
        Answer::Rows(rows) if rows.is_empty() => "nothing".into(),
        Answer::Rows(rows) => rows.iter().filter_map(|row| row.get(1)).cloned().collect::<Vec<_>>().join(", "),
        _ => played.outcome(),
    }
}

/// A statement without what only the recording needs.
fn shown(sql: &str) -> String {
    let table = sql.split_whitespace().find(|word| word.starts_with("hermitage_")).unwrap_or("hermitage");
    let mut shown = sql.replace(table, "t").replace(", versions = CONCAT(versions, ' ', value)", "");
    shown = shown.replace("SELECT id, value, versions", "SELECT id, value").replace(" ORDER BY id", "");
    match shown.strip_prefix("INSERT INTO t VALUES ").and_then(|rest| rest.rsplit_once(", '")) {
        Some((values, _)) => format!("INSERT INTO t VALUES {values})"),
        None => shown,
    }
}

/// The versions of each row in an answer.
fn versions(rows: &[Row]) -> Result<BTreeMap<u32, Vec<i64>>> {
    let bad = |row: &Row| Error::new("read a row's versions", format!("the server sent {row:?}"));
    let one = |row: &Row| {
        let [id, value, versions] = row.as_slice() else { return Err(bad(row)) };
        let versions: Vec<i64> =
            versions.split(' ').map(|version| version.parse().map_err(|_| bad(row))).collect::<Result<_>>()?;
        let last = versions.last().map(ToString::to_string);
        if last.as_ref() != Some(value) {
            return Err(bad(row));
        }
        Ok((id.parse().map_err(|_| bad(row))?, versions))
    };
    rows.iter().map(one).collect()
}

/// The play as transactions: a row is a list, a version of it an append.
fn history(schedule: &Schedule, steps: &[Played], last: &[Row]) -> Result<Vec<Transaction>> {
    let key = |row: u32| format!("row {row}");
    let nanos = |seconds: f64| 10 + (seconds * 1e9) as u64;
    let last = versions(last)?;
    let mut seen: BTreeSet<(u32, i64)> = BTreeSet::new();
    let mut note = |rows: &BTreeMap<u32, Vec<i64>>| {
        for (row, versions) in rows {
            seen.extend(versions.iter().map(|version| (*row, *version)));
        }
    };
    note(&last);
    let mut read: Vec<Option<BTreeMap<u32, Vec<i64>>>> = Vec::new();
    for played in steps {
        read.push(match (&played.step, &played.answer) {
            (Step::Read { .. }, Answer::Rows(rows)) => Some(versions(rows)?),
            _ => None,
        });
        read.last().into_iter().flatten().for_each(&mut note);
    }
    let mut history = vec![Transaction::by(0).append(key(1), 10).append(key(2), 20).during(0, 1)];
    for session in 1..=schedule.sessions() {
        let own = || steps.iter().zip(&read).filter(|(played, _)| played.session == session);
        let mut accesses = Vec::new();
        let mut outcome = TransactionOutcome::Aborted;
        for (played, read) in own() {
            match (&played.step, &played.answer) {
                (Step::Read { expected, .. }, Answer::Rows(_)) => {
                    let found = read.clone().unwrap_or_default();
                    let all: BTreeSet<u32> = expected.iter().chain(found.keys()).copied().collect();
                    accesses.extend(all.into_iter().map(|row| Access::ReadList {
                        key: key(row),
                        values: found.get(&row).cloned().unwrap_or_default(),
                    }));
                }
                (Step::Change { becomes, .. }, Answer::Changed(changed)) => {
                    accesses.extend(appended(becomes, *changed, &seen, key));
                }
                (Step::Insert { row, value }, Answer::Changed(1)) => {
                    accesses.push(Access::Append { key: key(*row), value: *value });
                }
                (Step::Commit, Answer::Changed(_)) => outcome = TransactionOutcome::Committed,
                _ => {}
            }
        }
        let sent = own().filter_map(|(played, _)| played.sent).fold(f64::INFINITY, f64::min);
        let done = own().filter_map(|(played, _)| played.done).fold(0.0, f64::max);
        if sent.is_finite() {
            let transaction = Transaction { accesses, outcome, ..Transaction::by(session) };
            history.push(transaction.during(nanos(sent), nanos(done.max(sent))));
        }
    }
    let end = history.iter().filter_map(|transaction| transaction.returned).max().unwrap_or(0);
    let mut observer = Transaction::by(schedule.sessions() + 1).during(end + 1, end + 2);
    for row in schedule.rows() {
        observer = observer.read_list(key(row), last.get(&row).cloned().unwrap_or_default());
    }
    history.push(observer);
    Ok(history)
}

/// Which rows a change has changed: all that it may, or those in which somebody saw its version.
fn appended(
    becomes: &[(u32, i64)],
    changed: u64,
    seen: &BTreeSet<(u32, i64)>,
    key: impl Fn(u32) -> String,
) -> Vec<Access> {
    let all = becomes.len() as u64 == changed;
    let shown = becomes.iter().filter(|version| all || (changed > 0 && seen.contains(version)));
    shown.map(|(row, value)| Access::Append { key: key(*row), value: *value }).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{Level, hermitage};

    fn row(id: u32, versions: &str) -> Row {
        vec![id.to_string(), versions.rsplit(' ').next().unwrap().into(), versions.into()]
    }

    /// A play as a server without any locks might have answered it.
    fn play(schedule: Schedule, answers: Vec<Answer>, last: Vec<Row>) -> Play {
        let mut steps: Vec<Played> = schedule
            .steps()
            .iter()
            .map(|(session, step)| Played::new(*session, step.clone(), step.sql("hermitage_1_1", "")))
            .collect();
        for (number, (played, answer)) in steps.iter_mut().zip(answers).enumerate() {
            (played.sent, played.done) = (Some(number as f64), Some(number as f64 + 0.5));
            played.answer = answer;
        }
        Play::judge(schedule, Setting::of(Level::ReadUncommitted), steps, vec![], last).unwrap()
    }

    #[test]
    fn a_dirty_write_would_be_seen() {
        let one = || Answer::Changed(1);
        let answers = vec![one(), one(), one(), Answer::Changed(0), one(), Answer::Changed(0)];
        let bad = play(hermitage::dirty_write(), answers.clone(), vec![row(1, "10 11 12"), row(2, "20 22 21")]);
        assert!(bad.shows(AnomalyKind::DirtyWrite), "{}", bad.report());
        let good = play(hermitage::dirty_write(), answers, vec![row(1, "10 11 12"), row(2, "20 21 22")]);
        assert!(good.serializable(), "{}", good.report());
    }

    #[test]
    fn a_write_that_vanishes_is_not_forgiven() {
        let answers = vec![
            Answer::Rows(vec![row(1, "10")]),
            Answer::Rows(vec![row(1, "10 11")]),
            Answer::Changed(1),
            Answer::Changed(1),
            Answer::Changed(0),
            Answer::Changed(0),
        ];
        // T2 read 11 and wrote 12, and the table in the end shows 12 without 11.
        let bad = play(hermitage::lost_update(), answers, vec![row(1, "10 12"), row(2, "20")]);
        assert!(!bad.serializable(), "{}", bad.report());
    }

    #[test]
    fn what_the_server_sends_must_be_a_version() {
        assert!(versions(&[row(1, "10 11")]).is_ok());
        for bad in [vec!["1".into(), "11".into()], row(1, "ten"), vec!["1".into(), "11".into(), "10".into()]] {
            assert!(versions(&[bad]).is_err());
        }
    }

    #[test]
    fn a_statement_is_shown_without_what_only_the_recording_needs() {
        let shown_of = |step: Step| shown(&step.sql("hermitage_12_3", ""));
        assert_eq!(shown_of(Step::Insert { row: 3, value: 30 }), "INSERT INTO t VALUES (3, 30)");
        let schedule = Schedule::new("x", "x").write(1, 1, 11).read(1, 1);
        let texts: Vec<String> = schedule.steps().iter().map(|(_, step)| shown_of(step.clone())).collect();
        assert_eq!(texts, ["UPDATE t SET value = 11 WHERE id = 1", "SELECT id, value FROM t WHERE id = 1"]);
    }
}

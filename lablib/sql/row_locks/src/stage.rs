//! Where schedules are played: a table, a connection for each session, and one more that watches who waits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, Value};

use super::locks::{LockWait, Watcher};
use super::play::{Answer, Play, Played, Row};
use super::schedule::{Schedule, Step};
use super::setting::Setting;
use lab::service::{Dialect, MariaDb};
use lab::{Doing, Error, Result};

/// After this a step that neither answers nor waits for a lock is a fault of the machine's.
const PATIENCE: Duration = Duration::from_secs(30);
/// Two sessions that wait may be a deadlock that is about to be found; then we look twice.
const SECOND_LOOK: Duration = Duration::from_millis(2);
/// Errors after which the server has rolled the whole transaction back: a deadlock, and a row that is not as in the snapshot.
pub(super) const ROLLED_BACK: [u16; 2] = [1213, 1020];

/// Connections that play schedules, on a table of their own.
pub struct Stage {
    dialect: Dialect,
    table: String,
    sessions: Vec<Session>,
    answers: Receiver<Answered>,
    watcher: Watcher,
    pace: Duration,
    looks_into_the_tables: bool,
}

struct Session {
    connection: u64,
    orders: Option<Sender<String>>,
    thread: Option<JoinHandle<()>>,
}

/// What a session's thread hands back.
struct Answered {
    session: usize,
    sent: Instant,
    done: Instant,
    answer: std::result::Result<(Vec<Row>, u64), Failed>,
}

struct Failed {
    /// The server's error number, if the server has answered at all.
    code: Option<u16>,
    message: String,
}

impl Stage {
    /// A stage for so many sessions, with a connection for each.
    pub fn open(server: &MariaDb, sessions: usize) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        if !(1..=64).contains(&sessions) {
            return Err(Error::new("open a stage", format!("{sessions} sessions; it takes from 1 to 64")));
        }
        let mut watcher = Watcher::new(server)?;
        let table = format!("hermitage_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let create = format!(
            "CREATE TABLE {table} (id INT UNSIGNED NOT NULL PRIMARY KEY, value BIGINT NOT NULL, versions TEXT NOT NULL) \
             ENGINE = InnoDB"
        );
        watcher.connection().query_drop(create).doing("make a table to play on")?;
        let (reports, answers) = channel();
        let mut stage = Self {
            dialect: server.dialect(),
            table,
            sessions: Vec::new(),
            answers,
            watcher,
            pace: Duration::ZERO,
            looks_into_the_tables: false,
        };
        for number in 0..sessions {
            let mut connection = server.connect()?;
            let id: Option<u64> =
                connection.query_first("SELECT CONNECTION_ID()").doing("ask for a connection's number")?;
            let (orders, inbox) = channel();
            let reports = reports.clone();
            let thread = std::thread::spawn(move || serve(number, connection, &inbox, &reports));
            stage.sessions.push(Session {
                connection: id.unwrap_or_default(),
                orders: Some(orders),
                thread: Some(thread),
            });
        }
        Ok(stage)
    }

    /// So long between two steps, as people type them; for charts that people read.
    #[must_use]
    pub fn paced(mut self, pace: Duration) -> Self {
        self.pace = pace;
        self
    }

    /// Also asks the server's lock tables for what each new waiter waits for, which takes a tenth of a second each time.
    #[must_use]
    pub fn looking_into_the_tables(mut self) -> Self {
        self.looks_into_the_tables = true;
        self
    }

    /// The server's numbers of the sessions' connections.
    pub fn connections(&self) -> Vec<u64> {
        self.sessions.iter().map(|session| session.connection).collect()
    }

    /// Plays a schedule on a fresh table, at a setting, and hands back what happened. All transactions have ended then.
    pub fn play(&mut self, schedule: &Schedule, setting: Setting) -> Result<Play> {
        schedule.check(self.sessions.len())?;
        let at = |error: Error| error.at(format!("{} at {setting}", schedule.code()));
        self.set_the_table().map_err(at)?;
        let mut run = Run::new(self, schedule, setting);
        let played = run.prepare().and_then(|()| run.play_on());
        if played.is_err() {
            // Whoever waits still waits; without this the next play would meet it.
            self.send_home();
        }
        let (steps, waits) = played.map_err(at)?;
        let last = self.versions().map_err(at)?;
        Play::judge(schedule.clone(), setting, steps, waits, last).map_err(at)
    }

    fn set_the_table(&mut self) -> Result<()> {
        let table = &self.table;
        let statements =
            [format!("DELETE FROM {table}"), format!("INSERT INTO {table} VALUES (1, 10, '10'), (2, 20, '20')")];
        let connection = self.watcher.connection();
        statements.iter().try_for_each(|sql| connection.query_drop(sql).doing("set the table"))
    }

    /// Every row as it is when all is over.
    fn versions(&mut self) -> Result<Vec<Row>> {
        let sql = format!("SELECT id, value, versions FROM {} ORDER BY id", self.table);
        rows_of(self.watcher.connection(), &sql)
            .map(|(rows, _)| rows)
            .map_err(|failed| failed.message)
            .doing("read the table at the end")
    }

    /// Ends all connections, whatever they wait for.
    fn send_home(&mut self) {
        for session in &mut self.sessions {
            session.orders = None;
            // It may have gone by itself.
            let _ = self.watcher.connection().query_drop(format!("KILL {}", session.connection));
        }
        for session in &mut self.sessions {
            if let Some(thread) = session.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.send_home();
        let _ = self.watcher.connection().query_drop(format!("DROP TABLE IF EXISTS {}", self.table));
    }
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage")
            .field("table", &self.table)
            .field("sessions", &self.sessions.len())
            .finish_non_exhaustive()
    }
}

/// A session's thread: runs what it is told until nobody tells it anything.
fn serve(session: usize, mut connection: Conn, inbox: &Receiver<String>, reports: &Sender<Answered>) {
    for sql in inbox {
        let sent = Instant::now();
        let answer = rows_of(&mut connection, &sql);
        let done = Instant::now();
        let gone = matches!(&answer, Err(Failed { code: None, .. }));
        if reports.send(Answered { session, sent, done, answer }).is_err() || gone {
            return;
        }
    }
}

/// The rows of an answer, as text, and how many rows were changed.
fn rows_of(connection: &mut Conn, sql: &str) -> std::result::Result<(Vec<Row>, u64), Failed> {
    let mut rows = Vec::new();
    let mut ask = || -> std::result::Result<u64, mysql::Error> {
        let mut answer = connection.query_iter(sql)?;
        let changed = answer.affected_rows();
        for row in answer.by_ref() {
            rows.push(row?.unwrap().into_iter().map(text).collect());
        }
        Ok(changed)
    };
    match ask() {
        Ok(changed) => Ok((rows, changed)),
        Err(mysql::Error::MySqlError(error)) => Err(Failed { code: Some(error.code), message: error.message }),
        Err(error) => Err(Failed { code: None, message: error.to_string() }),
    }
}

fn text(value: Value) -> String {
    match value {
        Value::NULL => "NULL".into(),
        Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        other => other.as_sql(true),
    }
}

/// A play under way.
struct Run<'a> {
    stage: &'a mut Stage,
    setting: Setting,
    began: Instant,
    steps: Vec<Played>,
    /// Steps that each session has still to do.
    to_do: Vec<VecDeque<usize>>,
    /// The step that each session is at.
    doing: Vec<Option<usize>>,
    /// Sessions whose transaction the server has rolled back.
    lost: Vec<bool>,
    /// Sessions with a transaction that has not ended.
    open: Vec<bool>,
    waits: Vec<LockWait>,
}

type Ended = (Vec<Played>, Vec<LockWait>);

impl<'a> Run<'a> {
    fn new(stage: &'a mut Stage, schedule: &Schedule, setting: Setting) -> Self {
        let sessions = stage.sessions.len();
        let played = |(session, step): &(usize, Step)| {
            let reads = match step {
                Step::Read { reads, .. } => reads.unwrap_or(setting.reads).suffix(stage.dialect),
                _ => "",
            };
            Played::new(*session, step.clone(), step.sql(&stage.table, reads))
        };
        let steps = schedule.steps().iter().map(played).collect();
        Self {
            stage,
            setting,
            began: Instant::now(),
            steps,
            to_do: vec![VecDeque::new(); sessions],
            doing: vec![None; sessions],
            lost: vec![false; sessions],
            open: vec![false; sessions],
            waits: Vec::new(),
        }
    }

    /// Begins a transaction in every session that has something to do.
    fn prepare(&mut self) -> Result<()> {
        let mut statements = self.setting.statements(self.stage.dialect)?;
        statements.push("START TRANSACTION".into());
        let used: Vec<bool> =
            (1..=self.open.len()).map(|session| self.steps.iter().any(|played| played.session == session)).collect();
        for session in (0..used.len()).filter(|&session| used[session]) {
            for sql in &statements {
                self.send(session, sql.clone())?;
                self.answer_of(session)?;
            }
            self.open[session] = true;
        }
        self.began = Instant::now();
        Ok(())
    }

    fn play_on(&mut self) -> Result<Ended> {
        for step in 0..self.steps.len() {
            if step > 0 && !self.stage.pace.is_zero() {
                std::thread::sleep(self.stage.pace);
            }
            self.to_do[self.steps[step].session - 1].push_back(step);
            self.advance()?;
        }
        // Whatever the schedule has left open is rolled back, which may set others free.
        while let Some(session) = (0..self.open.len()).find(|&s| self.open[s] && self.doing[s].is_none()) {
            self.send(session, "ROLLBACK".into())?;
            self.answer_of(session)?;
            self.open[session] = false;
            self.advance()?;
        }
        if self.doing.iter().any(Option::is_some) || self.to_do.iter().any(|steps| !steps.is_empty()) {
            return Err(Error::new("play to the end", "everybody waits for somebody, and nobody can move"));
        }
        Ok((std::mem::take(&mut self.steps), std::mem::take(&mut self.waits)))
    }

    /// Sends whatever can be sent, until every session is through with its steps or waits.
    fn advance(&mut self) -> Result<()> {
        loop {
            self.settle()?;
            let free = (0..self.doing.len()).find(|&s| self.doing[s].is_none() && !self.to_do[s].is_empty());
            let Some(session) = free else { return Ok(()) };
            let Some(step) = self.to_do[session].pop_front() else { return Ok(()) };
            if self.lost[session] {
                self.steps[step].answer = Answer::Skipped;
                continue;
            }
            self.send(session, self.steps[step].sql.clone())?;
            self.doing[session] = Some(step);
        }
    }

    /// Waits until every session that is at a step has been answered or, says the server, waits for a lock.
    fn settle(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen_before = None;
        loop {
            while let Some(answered) = self.try_answer()? {
                self.take(answered)?;
                seen_before = None;
            }
            let at_work: Vec<usize> = (0..self.doing.len()).filter(|&s| self.doing[s].is_some()).collect();
            if at_work.is_empty() {
                return Ok(());
            }
            let waiting = self.stage.watcher.waiting()?;
            let now = Instant::now();
            let all_wait = at_work.iter().all(|&s| waiting.contains(&self.stage.sessions[s].connection));
            if all_wait && (at_work.len() == 1 || seen_before.is_some_and(|then| now >= then + SECOND_LOOK)) {
                return self.note_waits(&at_work, now);
            }
            seen_before = if all_wait { seen_before.or(Some(now)) } else { None };
            if now > deadline {
                let at: Vec<&str> =
                    at_work.iter().filter_map(|&s| Some(self.steps[self.doing[s]?].sql.as_str())).collect();
                return Err(Error::new(
                    "settle",
                    format!("no answer and no lock wait after {PATIENCE:?}: {}", at.join("; ")),
                ));
            }
            std::thread::sleep(Duration::from_micros(300));
        }
    }

    fn note_waits(&mut self, at_work: &[usize], now: Instant) -> Result<()> {
        let since = self.since(now);
        let mut new = false;
        for step in at_work.iter().filter_map(|&session| self.doing[session]) {
            new |= self.steps[step].waited.is_none();
            self.steps[step].waited.get_or_insert(since);
        }
        if new && self.stage.looks_into_the_tables {
            let connections = self.stage.connections();
            for wait in self.stage.watcher.lock_waits(&connections)? {
                if !self.waits.contains(&wait) {
                    self.waits.push(wait);
                }
            }
        }
        Ok(())
    }

    fn since(&self, moment: Instant) -> f64 {
        moment.saturating_duration_since(self.began).as_secs_f64()
    }

    fn send(&self, session: usize, sql: String) -> Result<()> {
        let orders = self.stage.sessions[session].orders.as_ref();
        orders.and_then(|orders| orders.send(sql).ok()).ok_or_else(|| gone(session))
    }

    fn try_answer(&self) -> Result<Option<Answered>> {
        match self.stage.answers.try_recv() {
            Ok(answered) => Ok(Some(answered)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(gone(0)),
        }
    }

    /// The answer to a statement that is no step, and that nobody can make wait.
    fn answer_of(&mut self, session: usize) -> Result<()> {
        loop {
            let answered = self.stage.answers.recv_timeout(PATIENCE).map_err(|_| gone(session))?;
            if answered.session != session {
                self.take(answered)?;
                continue;
            }
            return answered.answer.map(drop).map_err(|failed| Error::new("prepare a session", failed.message));
        }
    }

    fn take(&mut self, answered: Answered) -> Result<()> {
        let session = answered.session;
        let Some(step) = self.doing[session].take() else { return Err(gone(session)) };
        let (sent, done) = (self.since(answered.sent), self.since(answered.done));
        let played = &mut self.steps[step];
        (played.sent, played.done) = (Some(sent), Some(done));
        played.answer = match answered.answer {
            Ok((rows, changed)) => match &played.step {
                Step::Read { .. } | Step::Sql(_) if !rows.is_empty() || changed == 0 => Answer::Rows(rows),
                _ => Answer::Changed(changed),
            },
            Err(Failed { code: Some(code), message }) => Answer::Refused { code, message },
            Err(Failed { code: None, message }) => {
                return Err(Error::new(format!("run {:?}", played.sql), message));
            }
        };
        if played.refused().is_some_and(|code| ROLLED_BACK.contains(&code)) {
            self.lost[session] = true;
            self.open[session] = false;
        }
        if matches!(played.step, Step::Commit | Step::Rollback) {
            self.open[session] = false;
        }
        Ok(())
    }
}

fn gone(session: usize) -> Error {
    Error::new("play a step", "the session's connection is gone").at(format!("session {}", session + 1))
}

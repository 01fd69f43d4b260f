//! The recorder: who called what, when, and what came back.

use std::fmt::Debug;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::clock::Clock;
use super::linearizable::{self, Verdict};
use super::models::Model;
use super::operation::{Operation, Outcome};
use crate::{Doing, Error, Frame, Result};

/// Processes share a lock only with every 64th other process, so recording disturbs the race that it records little.
const SHARDS: usize = 64;

/// A bar of a timeline chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The lane.
    pub process: usize,
    /// The left edge.
    pub start: Duration,
    /// The right edge; `None` for an operation without a known end, which reaches to the edge of the chart.
    pub end: Option<Duration>,
    /// The text on the bar.
    pub label: String,
}

/// Where an operation was put, so that its end finds it again.
type Shard<Op, Ret> = Mutex<Vec<Operation<Op, Ret>>>;

#[derive(Debug)]
struct Shared<Op, Ret> {
    clock: Clock,
    shards: Vec<Shard<Op, Ret>>,
}

impl<Op, Ret> Shared<Op, Ret> {
    /// A panic of one recording thread leaves its shard whole: every change below is a single push or assignment.
    fn shard(&self, index: usize) -> MutexGuard<'_, Vec<Operation<Op, Ret>>> {
        self.shards[index % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A history that any number of threads and tasks write to; clones share it.
///
/// ```
/// use lab::history::History;
/// use lab::history::models::{Register, RegisterOp, RegisterRet};
///
/// let history = History::new();
/// history.invoke(0, RegisterOp::Write(7)).ok(RegisterRet::Written);
/// history.invoke(1, RegisterOp::Write(8)).unknown(); // timed out: may have happened or not
/// history.invoke(0, RegisterOp::Read).ok(RegisterRet::Value(7));
/// assert!(history.check(&Register::starting(0)).is_linearizable());
/// ```
#[derive(Debug)]
pub struct History<Op, Ret> {
    shared: Arc<Shared<Op, Ret>>,
}

impl<Op, Ret> Clone for History<Op, Ret> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<Op, Ret> Default for History<Op, Ret> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Op, Ret> History<Op, Ret> {
    /// An empty history whose time begins now.
    pub fn new() -> Self {
        Self::holding(Vec::new())
    }

    fn holding(operations: Vec<Operation<Op, Ret>>) -> Self {
        let last = operations.iter().map(|o| o.returned.unwrap_or(o.invoked).max(o.invoked)).max().unwrap_or(0);
        let shared =
            Shared { clock: Clock::starting_after(last), shards: (0..SHARDS).map(|_| Mutex::default()).collect() };
        for operation in operations {
            shared.shard(operation.process).push(operation);
        }
        Self { shared: Arc::new(shared) }
    }

    /// Records that `process` begins `op`; call it right before the operation, and end the returned call right after.
    ///
    /// The operation is in the history from this moment, with an unknown end, so that a history which is read while
    /// calls hang does not miss effects that others have already seen.
    pub fn invoke(&self, process: usize, op: Op) -> Call<Op, Ret> {
        let mut shard = self.shared.shard(process);
        let index = shard.len();
        let invoked = self.shared.clock.tick();
        shard.push(Operation { process, op, invoked, returned: None, outcome: Outcome::Unknown });
        Call { shared: Arc::clone(&self.shared), process, index, open: true }
    }

    /// How many operations were begun.
    pub fn len(&self) -> usize {
        (0..SHARDS).map(|index| self.shared.shard(index).len()).sum()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<Op: Clone, Ret: Clone> History<Op, Ret> {
    /// Everything recorded so far, in the order of the invocations. Calls that have not ended are unknown.
    ///
    /// All shards are held while they are copied: an operation that is missing from the copy began after every one in
    /// it had ended or is concurrent with those still open.
    pub fn operations(&self) -> Vec<Operation<Op, Ret>> {
        let guards: Vec<_> = (0..SHARDS).map(|index| self.shared.shard(index)).collect();
        let mut operations: Vec<_> = guards.iter().flat_map(|shard| shard.iter().cloned()).collect();
        operations.sort_by_key(|operation| operation.invoked);
        operations
    }
}

impl<Op: Clone + Debug, Ret: Clone + Debug> History<Op, Ret> {
    /// A row for each operation, in the order of the calls: client, at and took (s; missing where nobody knows its end), what was
    /// called (`op`), outcome (`ok`, `failed` or `unknown`), and what came back (`returned`, empty where nothing did).
    ///
    /// ```
    /// use lab::history::History;
    /// use lab::history::models::{RegisterOp, RegisterRet};
    ///
    /// let history = History::<RegisterOp<u64>, RegisterRet<u64>>::new();
    /// history.invoke(0, RegisterOp::Write(7)).ok(RegisterRet::Written);
    /// history.invoke(1, RegisterOp::Read).unknown();
    /// let unknown = history.frame().filter("outcome", "unknown");
    /// assert_eq!((unknown.number("client"), unknown.texts("op")), (1.0, vec!["Read".to_string()]));
    /// ```
    pub fn frame(&self) -> Frame {
        let operations = self.operations();
        let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
        let took = |operation: &Operation<Op, Ret>| match operation.outcome {
            Outcome::Unknown => None,
            _ => operation.returned.map(|returned| seconds(returned - operation.invoked)),
        };
        let outcome = |operation: &Operation<Op, Ret>| match operation.outcome {
            Outcome::Ok(_) => "ok",
            Outcome::Failed => "failed",
            Outcome::Unknown => "unknown",
        };
        let returned = |operation: &Operation<Op, Ret>| match &operation.outcome {
            Outcome::Ok(ret) => format!("{ret:?}"),
            _ => String::new(),
        };
        Frame::new()
            .counts("client", "", operations.iter().map(|operation| operation.process as u64))
            .numbers("at", "s", operations.iter().map(|operation| seconds(operation.invoked)))
            .numbers_or_missing("took", "s", operations.iter().map(took))
            .text("op", operations.iter().map(|operation| format!("{:?}", operation.op)))
            .text("outcome", operations.iter().map(outcome))
            .text("returned", operations.iter().map(returned))
            .taken_at(Some(self.shared.clock.origin()))
    }

    /// The history as the bars of a timeline chart.
    pub fn rows(&self) -> Vec<Row> {
        rows(&self.operations())
    }

    /// Is there one order of the operations, within their times, that `model` could have executed?
    pub fn check<M: Model<Op = Op, Ret = Ret>>(&self, model: &M) -> Verdict {
        linearizable::check(model, &self.operations())
    }
}

/// Operations as the bars of a timeline chart.
pub fn rows<Op: Debug, Ret: Debug>(operations: &[Operation<Op, Ret>]) -> Vec<Row> {
    let bar = |operation: &Operation<Op, Ret>| Row {
        process: operation.process,
        start: Duration::from_nanos(operation.invoked),
        end: match operation.outcome {
            Outcome::Unknown => None,
            _ => operation.returned.map(Duration::from_nanos),
        },
        label: operation.label(),
    };
    operations.iter().map(bar).collect()
}

impl<Op: Clone + Serialize, Ret: Clone + Serialize> History<Op, Ret> {
    /// The history as text, one JSON object a line, for keeping a history that failed.
    pub fn to_json_lines(&self) -> Result<String> {
        lines_of(&self.operations())
    }

    /// Writes the history to a file as JSON lines.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        save_lines(path.as_ref(), &self.to_json_lines()?)
    }
}

impl<Op: DeserializeOwned, Ret: DeserializeOwned> History<Op, Ret> {
    /// Reads a history back from its JSON lines. Recording may go on from there.
    pub fn from_json_lines(text: &str) -> Result<Self> {
        let operations: Vec<Operation<Op, Ret>> = from_lines(text)?;
        let bad = |o: &Operation<Op, Ret>| {
            o.returned.is_some_and(|returned| returned < o.invoked)
                || (o.returned.is_none() && !matches!(o.outcome, Outcome::Unknown))
        };
        if let Some(line) = operations.iter().position(bad) {
            return Err(Error::new("read the history", "an operation ends before it begins, or ended without a time")
                .at(format!("operation {}", line + 1)));
        }
        Ok(Self::holding(operations))
    }

    /// Reads a history back from a file of JSON lines.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_json_lines(&load_lines(path.as_ref())?)
    }
}

/// An operation under way. Dropped without an end it stays unknown, which is what a panic, a cancelled task or a
/// forgotten timeout leaves behind.
#[must_use = "end the call with ok, fail or unknown"]
#[derive(Debug)]
pub struct Call<Op, Ret> {
    shared: Arc<Shared<Op, Ret>>,
    process: usize,
    index: usize,
    open: bool,
}

impl<Op, Ret> Call<Op, Ret> {
    /// It returned `ret`.
    pub fn ok(self, ret: Ret) {
        self.end(Outcome::Ok(ret));
    }

    /// It definitely did not happen: refused before it could have any effect.
    pub fn fail(self) {
        self.end(Outcome::Failed);
    }

    /// It may or may not have happened: timed out, cut off, crashed.
    pub fn unknown(self) {
        self.end(Outcome::Unknown);
    }

    fn end(mut self, outcome: Outcome<Ret>) {
        self.close(outcome);
    }

    fn close(&mut self, outcome: Outcome<Ret>) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        // The time is taken before the lock: waiting for another process's record must not make this call look longer.
        let returned = self.shared.clock.tick();
        let mut shard = self.shared.shard(self.process);
        if let Some(operation) = shard.get_mut(self.index) {
            operation.returned = Some(returned);
            operation.outcome = outcome;
        }
    }
}

impl<Op, Ret> Drop for Call<Op, Ret> {
    fn drop(&mut self) {
        self.close(Outcome::Unknown);
    }
}

pub(super) fn lines_of<T: Serialize>(items: &[T]) -> Result<String> {
    let mut text = String::new();
    for item in items {
        text.push_str(&serde_json::to_string(item).doing("write the history as JSON")?);
        text.push('\n');
    }
    Ok(text)
}

pub(super) fn from_lines<T: DeserializeOwned>(text: &str) -> Result<Vec<T>> {
    let numbered = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    numbered
        .map(|(number, line)| {
            serde_json::from_str(line)
                .map_err(|error| Error::new("read the history", error).at(format!("line {}", number + 1)))
        })
        .collect()
}

pub(super) fn save_lines(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|error| Error::new("save the history", error).at(path.display()))
}

pub(super) fn load_lines(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| Error::new("load the history", error).at(path.display()))
}

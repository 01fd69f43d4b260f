//! The recorder of transactions.

use std::fmt::Display;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::clock::Clock;
use super::recorder::{Row, from_lines, lines_of, load_lines, save_lines};
use super::serializable::{self, Report};
use super::transaction::{Access, Transaction, TransactionOutcome};
use crate::{Error, Result};

/// Processes share a lock only with every 64th other process.
const SHARDS: usize = 64;

#[derive(Debug)]
struct Shared {
    clock: Clock,
    shards: Vec<Mutex<Vec<Transaction>>>,
}

impl Shared {
    fn shard(&self, index: usize) -> MutexGuard<'_, Vec<Transaction>> {
        self.shards[index % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A history of transactions that any number of threads and tasks write to; clones share it.
///
/// ```
/// use lab::history::Transactions;
///
/// let history = Transactions::new();
/// let mut transfer = history.begin(0);
/// transfer.append("x", 1); // record a write before it is sent: it may happen although its answer never comes
/// transfer.read_list("x", [1]); // record a read when its answer is there
/// transfer.commit();
/// assert!(history.check().unwrap().serializable);
/// ```
#[derive(Debug, Clone)]
pub struct Transactions {
    shared: Arc<Shared>,
}

impl Default for Transactions {
    fn default() -> Self {
        Self::new()
    }
}

impl Transactions {
    /// An empty history whose time begins now.
    pub fn new() -> Self {
        Self::holding(Vec::new())
    }

    fn holding(transactions: Vec<Transaction>) -> Self {
        let last = transactions.iter().map(|t| t.returned.unwrap_or(t.invoked)).max().unwrap_or(0);
        let shared =
            Shared { clock: Clock::starting_after(last), shards: (0..SHARDS).map(|_| Mutex::default()).collect() };
        for transaction in transactions {
            shared.shard(transaction.process).push(transaction);
        }
        Self { shared: Arc::new(shared) }
    }

    /// Records that `process` begins a transaction; call it right before the real one begins.
    pub fn begin(&self, process: usize) -> TransactionCall {
        let mut shard = self.shared.shard(process);
        let index = shard.len();
        let invoked = self.shared.clock.tick();
        shard.push(Transaction { invoked, ..Transaction::by(process).unknown() });
        TransactionCall { shared: Arc::clone(&self.shared), process, index, open: true }
    }

    /// Everything recorded so far, in the order of the beginnings. Those that have not ended are unknown.
    pub fn transactions(&self) -> Vec<Transaction> {
        let guards: Vec<_> = (0..SHARDS).map(|index| self.shared.shard(index)).collect();
        let mut transactions: Vec<_> = guards.iter().flat_map(|shard| shard.iter().cloned()).collect();
        transactions.sort_by_key(|transaction| transaction.invoked);
        transactions
    }

    /// Which anomalies does the history show, and which isolation levels does that rule out?
    pub fn check(&self) -> Result<Report> {
        serializable::check(&self.transactions())
    }

    /// The history as the bars of a timeline chart.
    pub fn rows(&self) -> Vec<Row> {
        let bar = |transaction: &Transaction| Row {
            process: transaction.process,
            start: Duration::from_nanos(transaction.invoked),
            end: match transaction.outcome {
                TransactionOutcome::Unknown => None,
                _ => transaction.returned.map(Duration::from_nanos),
            },
            label: transaction.label(),
        };
        self.transactions().iter().map(bar).collect()
    }

    /// The history as text, one JSON object a line, for keeping a history that failed.
    pub fn to_json_lines(&self) -> Result<String> {
        lines_of(&self.transactions())
    }

    /// Reads a history back from its JSON lines. Recording may go on from there.
    pub fn from_json_lines(text: &str) -> Result<Self> {
        let transactions: Vec<Transaction> = from_lines(text)?;
        match transactions.iter().position(|t| t.returned.is_some_and(|returned| returned < t.invoked)) {
            None => Ok(Self::holding(transactions)),
            Some(line) => Err(Error::new("read the history", "a transaction ends before it begins")
                .at(format!("transaction {}", line + 1))),
        }
    }

    /// Writes the history to a file as JSON lines.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        save_lines(path.as_ref(), &self.to_json_lines()?)
    }

    /// Reads a history back from a file of JSON lines.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_json_lines(&load_lines(path.as_ref())?)
    }
}

/// A transaction under way. Dropped without an end it stays unknown.
#[must_use = "end the transaction with commit, abort or unknown"]
#[derive(Debug)]
pub struct TransactionCall {
    shared: Arc<Shared>,
    process: usize,
    index: usize,
    open: bool,
}

impl TransactionCall {
    /// Appends to a list. Record it before it is sent.
    pub fn append(&mut self, key: impl Display, value: i64) -> &mut Self {
        self.record(Access::Append { key: key.to_string(), value })
    }

    /// Has read a whole list.
    pub fn read_list(&mut self, key: impl Display, values: impl Into<Vec<i64>>) -> &mut Self {
        self.record(Access::ReadList { key: key.to_string(), values: values.into() })
    }

    /// Sets a register. Record it before it is sent.
    pub fn write(&mut self, key: impl Display, value: i64) -> &mut Self {
        self.record(Access::Write { key: key.to_string(), value })
    }

    /// Has read a register; `None` before the first write.
    pub fn read(&mut self, key: impl Display, value: impl Into<Option<i64>>) -> &mut Self {
        self.record(Access::Read { key: key.to_string(), value: value.into() })
    }

    /// The commit was acknowledged.
    pub fn commit(mut self) {
        self.close(TransactionOutcome::Committed);
    }

    /// It was rolled back: a deadlock victim, a failed certification, a change of mind.
    pub fn abort(mut self) {
        self.close(TransactionOutcome::Aborted);
    }

    /// Nobody knows: the commit was sent and the answer never came.
    pub fn unknown(mut self) {
        self.close(TransactionOutcome::Unknown);
    }

    /// Stored at once, not at the end: others may see the effects of a transaction whose client never returns.
    fn record(&mut self, access: Access) -> &mut Self {
        if let Some(transaction) = self.shared.shard(self.process).get_mut(self.index) {
            transaction.accesses.push(access);
        }
        self
    }

    fn close(&mut self, outcome: TransactionOutcome) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        let returned = self.shared.clock.tick();
        if let Some(transaction) = self.shared.shard(self.process).get_mut(self.index) {
            transaction.returned = Some(returned);
            transaction.outcome = outcome;
        }
    }
}

impl Drop for TransactionCall {
    fn drop(&mut self) {
        self.close(TransactionOutcome::Unknown);
    }
}

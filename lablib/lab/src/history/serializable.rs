//! Serialisability: do the transactions equal some order of them, one after the other?
//!
//! * Lists that are only appended to show the order of their appends, so their histories are decided exactly: no anomaly
//!   means that there is a serial order, and each anomaly is a proof that there is none (or none of that level).
//!   Snapshot isolation is decided exactly once reads have shown every append; until then only its violations are certain.
//!   Snapshot isolation is decided exactly once reads have shown every append; until then only its violations are certain.
//! * Registers with unique values show less; what is concluded from them is certain, but not all there is.
//! * Aborted transactions must not be seen; those of unknown end count exactly when somebody saw them.
//! * Real time decides only `strict_serializable`.
//! * Values must be unique for each key, and a register's first value is its absence, or a recorded write.
//!
//! The classes of anomalies are Adya's; the way to infer them from lists is that of Kingsbury and Alvaro's Elle.

use std::collections::BTreeMap;
use std::fmt;

pub use super::anomaly::{Anomaly, AnomalyKind, Isolation};
use super::cycle;
use super::dependency::Graph;
use super::evidence::{Evidence, Findings};
use super::transaction::Transaction;
use super::{lists, registers};
use crate::Result;

/// What the history shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The anomalies, at most twenty of a kind; circles once for each knot of transactions, and a short one.
    pub anomalies: Vec<Anomaly>,
    /// No anomaly but those of real time.
    pub serializable: bool,
    /// No anomaly at all.
    pub strict_serializable: bool,
    /// How many transactions were checked, and how many of them took effect.
    pub transactions: (usize, usize),
    counts: BTreeMap<AnomalyKind, usize>,
}

impl Report {
    /// Whether the history shows nothing that the level forbids.
    pub fn satisfies(&self, level: Isolation) -> bool {
        self.counts.keys().all(|kind| level.allows(*kind))
    }

    /// Whether an anomaly of this kind was found.
    pub fn has(&self, kind: AnomalyKind) -> bool {
        self.count(kind) > 0
    }

    /// How many of this kind were found, also beyond those spelled out.
    pub fn count(&self, kind: AnomalyKind) -> usize {
        self.counts.get(&kind).copied().unwrap_or(0)
    }

    /// The strongest level that the history does not contradict; `None` if not even the weakest.
    pub fn strongest(&self) -> Option<Isolation> {
        use Isolation::*;
        let levels =
            [StrictSerializable, Serializable, RepeatableRead, SnapshotIsolation, ReadCommitted, ReadUncommitted];
        levels.into_iter().find(|level| self.satisfies(*level))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, effective) = self.transactions;
        match self.strongest() {
            Some(level) => write!(f, "{all} transactions, {effective} took effect: {level}")?,
            None => write!(f, "{all} transactions, {effective} took effect: not even read uncommitted")?,
        }
        for anomaly in &self.anomalies {
            write!(f, "\n  {anomaly}")?;
        }
        Ok(())
    }
}

/// Checks a history of transactions.
///
/// ```
/// use lab::history::Transaction;
/// use lab::history::serializable::{AnomalyKind, Isolation, check};
///
/// let history = [
///     Transaction::by(0).read_list("stock", []).append("stock", 1),
///     Transaction::by(1).read_list("stock", []).append("stock", 2),
///     Transaction::by(2).read_list("stock", [1, 2]),
/// ];
/// let report = check(&history).unwrap();
/// assert!(report.has(AnomalyKind::LostUpdate));
/// assert!(report.satisfies(Isolation::ReadCommitted));
/// assert!(!report.satisfies(Isolation::SnapshotIsolation));
/// ```
pub fn check(transactions: &[Transaction]) -> Result<Report> {
    let mut findings = Findings::default();
    let evidence = Evidence::gather(transactions, &mut findings)?;
    let mut graph = Graph::of(transactions.len());
    lists::conclude(&evidence, &mut graph, &mut findings);
    registers::conclude(&evidence, &mut graph, &mut findings);
    graph.seal();
    cycle::find(&graph, &evidence, &mut findings);
    let serializable = findings.anomalies.is_empty();

    registers::add_hidden(transactions, &evidence, &mut graph);
    graph.add_real_time(transactions, &evidence);
    graph.seal();
    cycle::find_with_time(&graph, &evidence, &mut findings);

    Ok(Report {
        serializable,
        strict_serializable: findings.anomalies.is_empty(),
        transactions: (transactions.len(), evidence.effective().count()),
        anomalies: findings.anomalies,
        counts: findings.counts,
    })
}

//! What a history of transactions proves before any order is considered: who wrote what, who certainly took effect, and
//! in which order each list grew.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::anomaly::{Anomaly, AnomalyKind};
use super::transaction::{Access, Transaction, TransactionOutcome};
use crate::{Error, Result};

/// How many anomalies of one kind are spelled out; all are counted.
const SPELLED_OUT: usize = 20;

/// The anomalies found so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) anomalies: Vec<Anomaly>,
    pub(super) counts: BTreeMap<AnomalyKind, usize>,
}

impl Findings {
    pub(super) fn add(&mut self, kind: AnomalyKind, involved: &[usize], sentence: impl FnOnce() -> String) {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        if *count <= SPELLED_OUT {
            let mut transactions = involved.to_vec();
            transactions.dedup();
            self.anomalies.push(Anomaly { kind, transactions, sentence: sentence() });
        }
    }
}

/// A step with its key as a number.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step<'a> {
    Append { key: usize, value: i64 },
    ReadList { key: usize, values: &'a [i64] },
    Write { key: usize, value: i64 },
    Read { key: usize, value: Option<i64> },
}

/// A value that was appended or written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    pub(super) transaction: usize,
    pub(super) key: usize,
    pub(super) value: i64,
    /// Its position among the same transaction's writes of the same key.
    pub(super) nth: usize,
    /// Whether the transaction did not write that key again.
    pub(super) last: bool,
}

#[derive(Debug)]
pub(super) struct Evidence<'a> {
    pub(super) keys: Vec<&'a str>,
    pub(super) is_list: Vec<bool>,
    pub(super) steps: Vec<Vec<Step<'a>>>,
    pub(super) writes: Vec<Written>,
    by_value: HashMap<(usize, i64), usize>,
    /// Committed, or of unknown end but seen by one that took effect.
    pub(super) took_effect: Vec<bool>,
    /// The longest state of each list that anyone saw.
    pub(super) longest: Vec<&'a [i64]>,
    /// Lists whose reads contradict each other: nothing is concluded from their order.
    pub(super) broken: Vec<bool>,
}

impl<'a> Evidence<'a> {
    pub(super) fn gather(transactions: &'a [Transaction], findings: &mut Findings) -> Result<Self> {
        let mut evidence = Self {
            keys: Vec::new(),
            is_list: Vec::new(),
            steps: Vec::with_capacity(transactions.len()),
            writes: Vec::new(),
            by_value: HashMap::new(),
            took_effect: transactions.iter().map(|t| t.outcome == TransactionOutcome::Committed).collect(),
            longest: Vec::new(),
            broken: Vec::new(),
        };
        evidence.number_keys(transactions)?;
        evidence.index_writes(transactions)?;
        evidence.follow_reads(transactions, findings);
        Ok(evidence)
    }

    /// The write that put `value` into `key`.
    pub(super) fn writer(&self, key: usize, value: i64) -> Option<Written> {
        self.by_value.get(&(key, value)).map(|&index| self.writes[index])
    }

    /// The same, if its transaction took effect.
    pub(super) fn effective_writer(&self, key: usize, value: i64) -> Option<Written> {
        self.writer(key, value).filter(|written| self.took_effect[written.transaction])
    }

    /// Positions of the transactions that took effect.
    pub(super) fn effective(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.steps.len()).filter(|&transaction| self.took_effect[transaction])
    }

    fn number_keys(&mut self, transactions: &'a [Transaction]) -> Result<()> {
        let mut numbers: HashMap<&'a str, usize> = HashMap::new();
        for (position, transaction) in transactions.iter().enumerate() {
            if transaction.returned.is_some_and(|returned| returned < transaction.invoked) {
                return Err(Error::new("check the transactions", "it ends before it begins").at(format!("T{position}")));
            }
            let mut steps = Vec::with_capacity(transaction.accesses.len());
            for access in &transaction.accesses {
                let (key, list) = match access {
                    Access::Append { key, .. } | Access::ReadList { key, .. } => (key.as_str(), true),
                    Access::Write { key, .. } | Access::Read { key, .. } => (key.as_str(), false),
                };
                let number = *numbers.entry(key).or_insert_with(|| {
                    self.keys.push(key);
                    self.is_list.push(list);
                    self.keys.len() - 1
                });
                if self.is_list[number] != list {
                    return Err(Error::new("check the transactions", "it is used as a list and as a register")
                        .at(format!("key {key}"))
                        .remedy("use one kind of access for each key"));
                }
                steps.push(match access {
                    Access::Append { value, .. } => Step::Append { key: number, value: *value },
                    Access::ReadList { values, .. } => Step::ReadList { key: number, values },
                    Access::Write { value, .. } => Step::Write { key: number, value: *value },
                    Access::Read { value, .. } => Step::Read { key: number, value: *value },
                });
            }
            self.steps.push(steps);
        }
        self.longest = vec![&[]; self.keys.len()];
        self.broken = vec![false; self.keys.len()];
        Ok(())
    }

    fn index_writes(&mut self, transactions: &[Transaction]) -> Result<()> {
        for (transaction, steps) in self.steps.iter().enumerate() {
            let mut own: HashMap<usize, (usize, usize)> = HashMap::new();
            for step in steps {
                let (Step::Append { key, value } | Step::Write { key, value }) = *step else { continue };
                let index = self.writes.len();
                let nth = match own.get(&key) {
                    Some(&(earlier, count)) => {
                        self.writes[earlier].last = false;
                        count
                    }
                    None => 0,
                };
                own.insert(key, (index, nth + 1));
                self.writes.push(Written { transaction, key, value, nth, last: true });
                let Some(&other) = self.by_value.get(&(key, value)) else {
                    self.by_value.insert((key, value), index);
                    continue;
                };
                let other = self.writes[other].transaction;
                let aborted = |t: usize| transactions[t].outcome == TransactionOutcome::Aborted;
                // A retry of what was rolled back may write the same value: if it shows, it is the retry's.
                if other == transaction || !(aborted(other) || aborted(transaction)) {
                    return Err(Error::new(
                        "check the transactions",
                        format!("{value} is written to {} twice, by T{other} and T{transaction}", self.keys[key]),
                    )
                    .remedy("write a value to a key only once, so that a read tells whose it is"));
                }
                if aborted(other) {
                    self.by_value.insert((key, value), index);
                }
            }
        }
        Ok(())
    }

    /// Starts from the committed transactions and follows what they read, so that a transaction of unknown end counts
    /// exactly when somebody who counts saw its effect.
    fn follow_reads(&mut self, transactions: &[Transaction], findings: &mut Findings) {
        let mut to_read: Vec<usize> = self.effective().collect();
        to_read.reverse();
        let mut longest_seen_by = vec![0; self.keys.len()];
        let mut reported: HashSet<(usize, i64)> = HashSet::new();
        while let Some(reader) = to_read.pop() {
            for step in 0..self.steps[reader].len() {
                let single;
                let (key, news): (usize, &[i64]) = match self.steps[reader][step] {
                    Step::Read { key, value: Some(value) } => {
                        single = [value];
                        (key, &single)
                    }
                    Step::ReadList { key, values } => {
                        let longest = self.longest[key];
                        if longest.starts_with(values) {
                            continue;
                        }
                        if values.starts_with(longest) {
                            self.longest[key] = values;
                            longest_seen_by[key] = reader;
                            (key, &values[longest.len()..])
                        } else {
                            self.broken[key] = true;
                            let other = longest_seen_by[key];
                            let name = self.keys[key];
                            findings.add(AnomalyKind::IncompatibleOrder, &[other, reader], || {
                                format!(
                                    "T{other} read {name} as {longest:?} and T{reader} as {values:?}, \
                                     and neither list continues the other"
                                )
                            });
                            (key, values)
                        }
                    }
                    _ => continue,
                };
                for &value in news {
                    let name = self.keys[key];
                    let Some(writer) = self.writer(key, value).map(|written| written.transaction) else {
                        if reported.insert((key, value)) {
                            findings.add(AnomalyKind::PhantomValue, &[reader], || {
                                format!("T{reader} read {value} in {name}, which no transaction wrote")
                            });
                        }
                        continue;
                    };
                    match transactions[writer].outcome {
                        TransactionOutcome::Aborted if reported.insert((key, value)) => {
                            findings.add(AnomalyKind::AbortedRead, &[writer, reader], || {
                                format!("T{reader} read {value} in {name}, which T{writer} wrote before it was aborted")
                            });
                        }
                        TransactionOutcome::Unknown if !self.took_effect[writer] => {
                            self.took_effect[writer] = true;
                            to_read.push(writer);
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}

//! What registers with unique values prove. Nobody sees the order of blind writes, so only this is concluded:
//!
//! * The absent value came before every write.
//! * A transaction that read a version and then wrote the key put its own version after that one.
//! * Under real time: a write that began after another had ended, and was itself over, hides the other from later reads.

use std::collections::HashMap;

use super::anomaly::AnomalyKind;
use super::dependency::{Graph, Link};
use super::evidence::{Evidence, Findings, Step, Written};
use super::transaction::{Transaction, TransactionOutcome};

/// Who read a version, and who replaced it.
#[derive(Default)]
struct Version {
    readers: Vec<usize>,
    /// Transactions that read it and then wrote the key, with what they wrote last.
    successors: Vec<(usize, i64)>,
}

/// Finds what is wrong with single reads, and adds the order that the registers prove to the graph.
pub(super) fn conclude(evidence: &Evidence<'_>, graph: &mut Graph, findings: &mut Findings) {
    let mut versions: HashMap<(usize, Option<i64>), Version> = HashMap::new();
    for transaction in evidence.effective() {
        for (key, value) in foreign_reads(evidence, transaction, findings) {
            let version = versions.entry((key, value)).or_default();
            if version.readers.last() == Some(&transaction) {
                continue;
            }
            version.readers.push(transaction);
            let last_write = evidence.steps[transaction].iter().rev().find_map(|step| match *step {
                Step::Write { key: other, value } if other == key => Some(value),
                _ => None,
            });
            if let Some(written) = last_write {
                version.successors.push((transaction, written));
            }
        }
    }
    let mut versions: Vec<_> = versions.into_iter().collect();
    versions.sort_unstable_by_key(|(version, _)| *version);
    let mut writers: Vec<Vec<(usize, i64)>> = vec![Vec::new(); evidence.keys.len()];
    for written in evidence.writes.iter().filter(|w| w.last && evidence.took_effect[w.transaction]) {
        writers[written.key].push((written.transaction, written.value));
    }
    for ((key, value), version) in &versions {
        add_version(evidence, (*key, *value), version, graph, findings);
        if value.is_none() {
            graph.all_missed(&version.readers, &writers[*key], *key);
        }
    }
}

fn add_version(
    evidence: &Evidence<'_>,
    (key, value): (usize, Option<i64>),
    version: &Version,
    graph: &mut Graph,
    findings: &mut Findings,
) {
    let writer = value.and_then(|value| evidence.effective_writer(key, value));
    if let Some(Written { transaction: writer, value, .. }) = writer {
        for &reader in &version.readers {
            graph.add(writer, reader, Link::Read, key, value);
        }
        for &(successor, new) in &version.successors {
            graph.add(writer, successor, Link::Overwrote, key, new);
        }
    }
    // Two successors are a lost update already; further ones would only add edges to an unserializable history.
    for &(successor, new) in version.successors.iter().take(2) {
        for &reader in &version.readers {
            graph.add(reader, successor, Link::Missed, key, new);
        }
    }
    if let [(first, _), rest @ ..] = version.successors.as_slice() {
        let name = evidence.keys[key];
        for (other, _) in rest {
            findings.add(AnomalyKind::LostUpdate, &[*first, *other], || match value {
                Some(value) => format!("T{first} and T{other} both read {name} as {value} and both replaced it"),
                None => format!("T{first} and T{other} both read that {name} was absent and both wrote it"),
            });
        }
    }
}

/// The reads that came before the transaction's own first write of the key, having checked all of them.
fn foreign_reads(evidence: &Evidence<'_>, transaction: usize, findings: &mut Findings) -> Vec<(usize, Option<i64>)> {
    let mut own: HashMap<usize, i64> = HashMap::new();
    let mut read: HashMap<usize, Option<i64>> = HashMap::new();
    let mut foreign = Vec::new();
    for step in &evidence.steps[transaction] {
        let (key, value) = match *step {
            Step::Write { key, value } => {
                own.insert(key, value);
                continue;
            }
            Step::Read { key, value } => (key, value),
            _ => continue,
        };
        let name = evidence.keys[key];
        let shown = || value.map_or_else(|| "absent".to_string(), |value| value.to_string());
        if let Some(&mine) = own.get(&key) {
            if value != Some(mine) {
                findings.add(AnomalyKind::Internal, &[transaction], || {
                    format!("T{transaction} had written {mine} to {name} and then read {}", shown())
                });
            }
            continue;
        }
        let written = value.and_then(|value| evidence.writer(key, value));
        if let Some(written) = written {
            if written.transaction == transaction {
                findings.add(AnomalyKind::Internal, &[transaction], || {
                    format!("T{transaction} read {} in {name} before it wrote it", shown())
                });
                continue;
            }
            if !written.last && evidence.took_effect[written.transaction] {
                findings.add(AnomalyKind::IntermediateRead, &[written.transaction, transaction], || {
                    format!("T{transaction} read {name} as {}, and T{} wrote it again", shown(), written.transaction)
                });
            }
        }
        match read.insert(key, value) {
            Some(before) if before != value => findings.add(AnomalyKind::NonRepeatableRead, &[transaction], || {
                format!("T{transaction} read {name} as {before:?} and then as {value:?}")
            }),
            _ => {}
        }
        foreign.push((key, value));
    }
    foreign
}

/// Reads of a version that another write had hidden in real time: that write must come after the reader, too.
pub(super) fn add_hidden(transactions: &[Transaction], evidence: &Evidence<'_>, graph: &mut Graph) {
    let mut by_start: Vec<Vec<Candidate>> = (0..evidence.keys.len()).map(|_| Vec::new()).collect();
    for written in evidence.writes.iter().filter(|w| w.last && !evidence.is_list[w.key]) {
        let writer = &transactions[written.transaction];
        if let (true, Some(ended)) = (writer.outcome == TransactionOutcome::Committed, writer.returned) {
            let first = (ended, written.transaction, written.value);
            by_start[written.key].push(Candidate { began: writer.invoked, soonest: [Some(first), None] });
        }
    }
    for candidates in &mut by_start {
        candidates.sort_by_key(|candidate| candidate.began);
        // From the back: the two that ended first among all that began at or after this one.
        for index in (1..candidates.len()).rev() {
            let later = candidates[index].soonest;
            let here = &mut candidates[index - 1].soonest;
            let mut all: Vec<_> = here.iter().chain(&later).flatten().copied().collect();
            all.sort_unstable();
            *here = [all.first().copied(), all.get(1).copied()];
        }
    }
    for reader in evidence.effective() {
        for step in &evidence.steps[reader] {
            let Step::Read { key, value: Some(value) } = *step else { continue };
            let Some(written) = evidence.effective_writer(key, value) else { continue };
            let source = &transactions[written.transaction];
            let (true, Some(ended)) = (source.outcome == TransactionOutcome::Committed, source.returned) else {
                continue;
            };
            let after = by_start[key].partition_point(|candidate| candidate.began <= ended);
            let Some(candidate) = by_start[key].get(after) else { continue };
            if let Some((_, writer, new)) = candidate.soonest.iter().flatten().find(|(_, writer, _)| *writer != reader)
            {
                graph.add(reader, *writer, Link::Hidden, key, *new);
            }
        }
    }
}

/// A write that began at `began`, and the soonest ends (end, transaction, value) among it and all that began later.
struct Candidate {
    began: u64,
    soonest: [Option<(u64, usize, i64)>; 2],
}

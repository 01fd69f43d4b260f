//! What append-only lists prove: a list shows the order of its own appends, so every version order is known.

use std::collections::HashMap;

use super::anomaly::AnomalyKind;
use super::dependency::{Graph, Link};
use super::evidence::{Evidence, Findings, Step};

/// Finds what is wrong with single reads, and adds the order that the lists prove to the graph.
pub(super) fn conclude(evidence: &Evidence<'_>, graph: &mut Graph, findings: &mut Findings) {
    let mut lists: Vec<List> = (0..evidence.keys.len()).map(|key| order_of(evidence, key, findings)).collect();
    for written in &evidence.writes {
        let key = written.key;
        if evidence.is_list[key] && evidence.took_effect[written.transaction] && !lists[key].shows(written.value) {
            lists[key].unseen.push((written.transaction, written.value));
        }
    }
    for transaction in evidence.effective() {
        check_own_view(evidence, transaction, findings);
        add_reads(evidence, transaction, &mut lists, graph, findings);
    }
    for (key, list) in lists.iter().enumerate().filter(|(key, _)| evidence.is_list[*key]) {
        if evidence.broken[key] {
            continue;
        }
        for pair in list.versions.windows(2) {
            graph.add(pair[0].writer, pair[1].writer, Link::Overwrote, key, pair[1].value);
        }
        // What nobody saw came after everything that somebody saw.
        if let Some(last) = list.versions.last() {
            for &(writer, value) in &list.unseen {
                graph.add(last.writer, writer, Link::Overwrote, key, value);
            }
        }
        graph.all_missed(&list.read_to_the_end, &list.unseen, key);
    }
}

struct Version {
    /// Position in the list as it was read.
    position: usize,
    writer: usize,
    value: i64,
}

#[derive(Default)]
struct List {
    /// The appends that took effect, in their order.
    versions: Vec<Version>,
    positions: HashMap<i64, usize>,
    /// Appends that took effect and that no read shows.
    unseen: Vec<(usize, i64)>,
    read_to_the_end: Vec<usize>,
    /// For each length: the first transaction that read so far and appended.
    appended_after: HashMap<usize, usize>,
}

impl List {
    fn shows(&self, value: i64) -> bool {
        self.positions.contains_key(&value)
    }

    fn next_after(&self, length: usize) -> Option<&Version> {
        self.versions.get(self.versions.partition_point(|version| version.position < length))
    }
}

fn order_of(evidence: &Evidence<'_>, key: usize, findings: &mut Findings) -> List {
    let mut list = List::default();
    let name = evidence.keys[key];
    let mut next_own: HashMap<usize, usize> = HashMap::new();
    for (position, &value) in evidence.longest[key].iter().enumerate() {
        if list.positions.insert(value, position).is_some() {
            findings.add(AnomalyKind::DuplicateAppend, &[], || format!("{value} shows twice in {name}"));
            continue;
        }
        let Some(written) = evidence.effective_writer(key, value) else { continue };
        let expected = next_own.entry(written.transaction).or_insert(0);
        if written.nth != *expected && !evidence.broken[key] {
            let writer = written.transaction;
            findings.add(AnomalyKind::IncompatibleOrder, &[writer], || {
                format!(
                    "{name} does not show T{writer}'s appends in the order in which T{writer} made them, up to {value}"
                )
            });
        }
        *expected = written.nth + 1;
        list.versions.push(Version { position, writer: written.transaction, value });
    }
    list
}

/// A transaction sees its own appends so far, none of its later ones, and otherwise the same list every time.
fn check_own_view(evidence: &Evidence<'_>, transaction: usize, findings: &mut Findings) {
    let steps = &evidence.steps[transaction];
    for (at, step) in steps.iter().enumerate() {
        let Step::ReadList { key, values } = *step else { continue };
        let name = evidence.keys[key];
        let appends = |range: &[Step<'_>]| -> Vec<i64> {
            let own = |step: &Step<'_>| match *step {
                Step::Append { key: other, value } if other == key => Some(value),
                _ => None,
            };
            range.iter().filter_map(own).collect()
        };
        let own = appends(&steps[..at]);
        let mut shown = values.iter();
        if !own.iter().all(|value| shown.any(|other| other == value)) {
            findings.add(AnomalyKind::Internal, &[transaction], || {
                format!("T{transaction} had appended {own:?} to {name} and then read {values:?}")
            });
            continue;
        }
        if let Some(early) = appends(&steps[at + 1..]).into_iter().find(|value| values.contains(value)) {
            findings.add(AnomalyKind::Internal, &[transaction], || {
                format!("T{transaction} read {early} in {name} before it appended it")
            });
            continue;
        }
        let earlier = steps[..at].iter().enumerate().rev().find_map(|(position, step)| match *step {
            Step::ReadList { key: other, values } if other == key => Some((position, values)),
            _ => None,
        });
        if let Some((position, before)) = earlier {
            let since = appends(&steps[position..at]);
            if values.strip_prefix(before) != Some(&since) {
                findings.add(AnomalyKind::NonRepeatableRead, &[transaction], || {
                    format!("T{transaction} read {name} as {before:?}, then appended {since:?}, then read {values:?}")
                });
            }
        }
    }
}

fn add_reads(
    evidence: &Evidence<'_>,
    transaction: usize,
    lists: &mut [List],
    graph: &mut Graph,
    findings: &mut Findings,
) {
    let steps = &evidence.steps[transaction];
    for step in steps {
        let Step::ReadList { key, values } = *step else { continue };
        if evidence.broken[key] {
            continue;
        }
        let name = evidence.keys[key];
        let is_own = |value: i64| evidence.writer(key, value).is_some_and(|w| w.transaction == transaction);
        let foreign = values.iter().rposition(|&value| !is_own(value)).map_or(0, |position| position + 1);
        if let Some(written) = foreign.checked_sub(1).and_then(|last| evidence.effective_writer(key, values[last])) {
            let (writer, value) = (written.transaction, written.value);
            graph.add(writer, transaction, Link::Read, key, value);
            if !written.last {
                findings.add(AnomalyKind::IntermediateRead, &[writer, transaction], || {
                    format!("T{transaction} read {name} up to {value}, and T{writer} appended more to it after that")
                });
            }
        }
        let list = &mut lists[key];
        if let Some(version) = list.next_after(foreign) {
            graph.add(transaction, version.writer, Link::Missed, key, version.value);
        } else if list.read_to_the_end.last() != Some(&transaction) {
            list.read_to_the_end.push(transaction);
        }
        let appends = steps.iter().any(|step| matches!(step, Step::Append { key: other, .. } if *other == key));
        if appends {
            let first = *list.appended_after.entry(foreign).or_insert(transaction);
            if first != transaction {
                let seen = &values[..foreign];
                findings.add(AnomalyKind::LostUpdate, &[first, transaction], || {
                    format!("T{first} and T{transaction} both read {name} as {seen:?} and both appended to it")
                });
            }
        }
    }
}

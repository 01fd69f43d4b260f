//! The graph of which transaction must come before which, and why.

use std::collections::HashSet;

use super::evidence::Evidence;
use super::transaction::{Transaction, TransactionOutcome};

/// Why one transaction comes before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// ww: the second wrote over the first.
    Overwrote,
    /// wr: the second read what the first wrote.
    Read,
    /// rw: the first read a version that the second replaced.
    Missed,
    /// From a hub to one of the transactions it stands for; the edge into the hub says why.
    Hub,
    /// The first ended before the second began.
    Time,
    /// The first read a version that the second replaced, as only the order in time shows.
    Hidden,
}

impl Link {
    /// This link as one bit of a set.
    pub(super) const fn bit(self) -> u8 {
        1 << self as u8
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) link: Link,
    pub(super) key: usize,
    /// What the later of the two writes wrote, or what was read.
    pub(super) value: i64,
}

/// Transactions are the first nodes; behind them come hubs (many readers before many writers, without an edge for each
/// pair) and moments (everything that ended before, ahead of everything that began after).
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) transactions: usize,
    pub(super) nodes: usize,
    pub(super) edges: Vec<Edge>,
    starts: Vec<usize>,
}

impl Graph {
    pub(super) fn of(transactions: usize) -> Self {
        Self { transactions, nodes: transactions, edges: Vec::new(), starts: Vec::new() }
    }

    pub(super) fn add(&mut self, from: usize, to: usize, link: Link, key: usize, value: i64) {
        if from != to {
            self.edges.push(Edge { from, to, link, key, value });
        }
    }

    fn node(&mut self) -> usize {
        self.nodes += 1;
        self.nodes - 1
    }

    /// Every reader missed every writer's write, each given with its value; no reader misses its own.
    pub(super) fn all_missed(&mut self, readers: &[usize], writers: &[(usize, i64)], key: usize) {
        if readers.is_empty() || writers.is_empty() {
            return;
        }
        let writing: HashSet<usize> = writers.iter().map(|(writer, _)| *writer).collect();
        let (own, others): (Vec<usize>, Vec<usize>) = readers.iter().partition(|reader| writing.contains(reader));
        if own.is_empty() {
            let hub = self.node();
            for &reader in readers {
                self.add(reader, hub, Link::Missed, key, 0);
            }
            for &(writer, value) in writers {
                self.add(hub, writer, Link::Hub, key, value);
            }
            return;
        }
        // Through a hub these would miss themselves. Two of them are a lost update, which is reported anyway, so the
        // pairs with the first two lose nothing.
        self.all_missed(&others, writers, key);
        for &reader in own.iter().take(2) {
            for &(writer, value) in writers {
                self.add(reader, writer, Link::Missed, key, value);
            }
        }
    }

    /// Adds a chain of moments, one for each end of a transaction.
    pub(super) fn add_real_time(&mut self, transactions: &[Transaction], evidence: &Evidence<'_>) {
        let mut ends: Vec<(u64, usize)> = evidence
            .effective()
            .filter(|&t| transactions[t].outcome == TransactionOutcome::Committed)
            .filter_map(|t| transactions[t].returned.map(|returned| (returned, t)))
            .collect();
        ends.sort_unstable();
        let first_moment = self.nodes;
        for (position, &(_, transaction)) in ends.iter().enumerate() {
            let moment = self.node();
            self.add(transaction, moment, Link::Time, 0, 0);
            if position > 0 {
                self.add(moment - 1, moment, Link::Time, 0, 0);
            }
        }
        for transaction in evidence.effective() {
            let ended_before = ends.partition_point(|(end, _)| *end < transactions[transaction].invoked);
            if ended_before > 0 {
                self.add(first_moment + ended_before - 1, transaction, Link::Time, 0, 0);
            }
        }
    }

    /// Sorts the edges by where they start; call it before looking at them.
    pub(super) fn seal(&mut self) {
        self.edges.sort_by_key(|edge| edge.from);
        let mut starts = vec![0; self.nodes + 1];
        for edge in &self.edges {
            starts[edge.from + 1] += 1;
        }
        for node in 0..self.nodes {
            starts[node + 1] += starts[node];
        }
        self.starts = starts;
    }

    /// The positions of the edges out of `node`.
    pub(super) fn out(&self, node: usize) -> std::ops::Range<usize> {
        self.starts[node]..self.starts[node + 1]
    }
}

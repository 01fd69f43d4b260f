//! Is what a replica shows a state that the primary was in? The order is the primary's own, by GTID.

use std::collections::BTreeMap;

use super::position::Gtid;

/// The order in which a primary committed its writers' transactions, as the writers learned it. Each writer numbers its
/// transactions 1, 2, 3 and so on.
#[derive(Debug, Clone, Default)]
pub struct CommitLog {
    /// The numbers in the primary's stream of each writer's transactions, in the writer's order.
    acknowledged: BTreeMap<u64, Vec<u64>>,
    /// The writers whose last transaction may have happened: nobody learned its number.
    open: BTreeMap<u64, u64>,
}

/// What one look at a server shows, all of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// How many transactions of each writer, and the highest number among them.
    pub writers: BTreeMap<u64, (u64, u64)>,
    /// The sum of all balances: transfers leave it at 0.
    pub balance: i64,
    /// The sum of all versions: each transfer raises it by 2.
    pub versions: u64,
}

impl CommitLog {
    /// A log without transactions.
    pub fn new() -> Self {
        Self::default()
    }

    /// A writer's next transaction was acknowledged under this GTID.
    pub fn acknowledge(&mut self, writer: u64, gtid: Gtid) {
        self.acknowledged.entry(writer).or_default().push(gtid.number);
    }

    /// A writer's next transaction may have happened, and the writer gave up.
    pub fn unknown(&mut self, writer: u64) {
        let next = self.acknowledged.get(&writer).map_or(0, Vec::len) as u64 + 1;
        self.open.insert(writer, next);
    }

    /// Takes another log's writers in.
    pub fn merge(&mut self, other: Self) {
        self.acknowledged.extend(other.acknowledged);
        self.open.extend(other.open);
    }

    /// The acknowledged transactions that a server does not have.
    pub fn lost(&self, snapshot: &Snapshot) -> u64 {
        let missing = |(writer, numbers): (&u64, &Vec<u64>)| {
            let (count, _) = snapshot.writers.get(writer).copied().unwrap_or_default();
            (numbers.len() as u64).saturating_sub(count)
        };
        self.acknowledged.iter().map(missing).sum()
    }

    /// How many of the primary's transactions a server has, if they are the first ones and nothing else; or why they
    /// are not.
    pub fn prefix(&self, snapshot: &Snapshot) -> Result<u64, String> {
        let mut end = 0;
        let mut all = 0;
        for (writer, &(count, highest)) in &snapshot.writers {
            if count != highest {
                return Err(format!(
                    "writer {writer}: {count} transactions are there, and number {highest} among them"
                ));
            }
            let numbers = self.acknowledged.get(writer).map(Vec::as_slice).unwrap_or_default();
            let known = numbers.len() as u64;
            if highest > known && self.open.get(writer) != Some(&highest) {
                return Err(format!("writer {writer}: number {highest} is there, and {known} were committed"));
            }
            end = end.max(highest.min(known).checked_sub(1).map_or(0, |last| numbers[last as usize]));
            all += count;
        }
        for (writer, numbers) in &self.acknowledged {
            let expected = numbers.partition_point(|&number| number <= end) as u64;
            let (count, _) = snapshot.writers.get(writer).copied().unwrap_or_default();
            if count < expected {
                return Err(format!(
                    "writer {writer}: number {} is missing, and transactions that came after it are there",
                    count + 1
                ));
            }
        }
        if snapshot.balance != 0 || snapshot.versions != 2 * all {
            let (balance, versions) = (snapshot.balance, snapshot.versions);
            return Err(format!(
                "half a transaction: balances sum to {balance}, versions to {versions} after {all} transfers"
            ));
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writer 1 committed 1, 2 and 5; writer 2 committed 3 and 4.
    fn log() -> CommitLog {
        let mut log = CommitLog::new();
        for (writer, number) in [(1, 1), (1, 2), (2, 3), (2, 4), (1, 5)] {
            log.acknowledge(writer, Gtid { domain: 0, server: 1, number });
        }
        log
    }

    fn snapshot(writers: &[(u64, u64)]) -> Snapshot {
        let writers: BTreeMap<u64, (u64, u64)> =
            writers.iter().map(|&(writer, count)| (writer, (count, count))).collect();
        let all: u64 = writers.values().map(|(count, _)| count).sum();
        Snapshot { writers, balance: 0, versions: 2 * all }
    }

    #[test]
    fn every_state_of_the_primary_is_a_prefix() {
        for (length, writers) in
            [vec![], vec![(1, 1)], vec![(1, 2)], vec![(1, 2), (2, 1)], vec![(1, 2), (2, 2)], vec![(1, 3), (2, 2)]]
                .iter()
                .enumerate()
        {
            assert_eq!(log().prefix(&snapshot(writers)), Ok(length as u64));
            assert_eq!(log().lost(&snapshot(writers)), 5 - length as u64);
        }
    }

    #[test]
    fn what_never_was_is_caught() {
        let odd = |change: fn(&mut Snapshot)| {
            let mut odd = snapshot(&[(1, 2), (2, 1)]);
            change(&mut odd);
            odd
        };
        for bad in [
            snapshot(&[(2, 1)]),
            snapshot(&[(1, 1), (2, 1)]),
            snapshot(&[(1, 1), (2, 2)]),
            snapshot(&[(1, 3)]),
            snapshot(&[(1, 3), (2, 1)]),
            snapshot(&[(1, 4), (2, 2)]),
            snapshot(&[(1, 2), (2, 2), (3, 1)]),
            odd(|snapshot| snapshot.balance = 1),
            odd(|snapshot| snapshot.versions += 1),
            odd(|snapshot| snapshot.versions -= 2),
            // A hole in the middle of a writer's own.
            odd(|snapshot| snapshot.writers.extend([(1, (1, 2))])),
            odd(|snapshot| snapshot.writers.extend([(1, (3, 2))])),
            // … when everything else adds up.
            Snapshot { writers: [(1, (1, 2)), (2, (1, 1))].into(), balance: 0, versions: 4 },
        ] {
            assert!(log().prefix(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_may_have_happened_may_be_there_or_not() {
        let mut log = log();
        log.unknown(2);
        assert_eq!(log.prefix(&snapshot(&[(1, 3), (2, 3)])), Ok(6));
        assert_eq!(log.prefix(&snapshot(&[(1, 3), (2, 2)])), Ok(5));
        assert!(log.prefix(&snapshot(&[(1, 3), (2, 4)])).is_err());
        let mut first = CommitLog::new();
        first.unknown(7);
        assert_eq!(first.lost(&Snapshot::default()), 0, "nothing was acknowledged");
        assert_eq!(first.prefix(&snapshot(&[(7, 1)])), Ok(1));
    }
}

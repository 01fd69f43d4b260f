//! What clients really received, and what that says: how many numbers came twice, how many never, and in which order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::{Issuer, IssuerStats};
use lab::{Error, Result, Table, joined};

/// A number, and when its client asked for it and had it: nanoseconds from the start of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The number.
    pub id: u64,
    /// Before the client asked.
    pub asked: u64,
    /// After it had the answer.
    pub answered: u64,
}

/// Who received which number when.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// One list for each client, in its order.
    pub clients: Vec<Vec<Receipt>>,
    /// What all clients together went through.
    pub stats: IssuerStats,
    /// What each of them went through.
    pub stats_each: Vec<IssuerStats>,
    /// Requests that ended in an error for their client.
    pub failed: u64,
    /// The last of these errors.
    pub last_error: Option<String>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// Which numbers there are to be handed out, so that it can be told which are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbering {
    /// All from this one on.
    From(u64),
    /// So many servers hand out all numbers from 1 on: the first 1, 1 + n, 1 + 2n and so on, the others likewise.
    Shared(u64),
    /// Most numbers are never meant to be used.
    Sparse,
}

/// What a [`Ledger`] says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Audit {
    /// Answers.
    pub received: u64,
    /// Answers with a number that somebody had already: each repetition counts.
    pub duplicates: u64,
    /// Numbers below the highest of their share that nobody received.
    pub missing: u64,
    /// Numbers that are lower than one that was there before they were asked for.
    pub disorder: u64,
    /// The highest number.
    pub highest: u64,
}

/// So many errors, and a client gives up: its issuer refuses for good.
const ENOUGH: u64 = 100;

/// How a client knows when to stop.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until<'a> {
    Each(u64),
    Told(&'a AtomicBool),
}

impl Ledger {
    /// Each of these clients, in a thread of its own, takes so many numbers.
    pub fn draw<I: Issuer>(clients: Vec<I>, each: u64) -> Result<Self> {
        Self::run(clients, Until::Each(each), || Ok(())).map(|(ledger, ())| ledger)
    }

    /// The clients take numbers as fast as they can while something happens, and stop when it is over.
    pub fn draw_during<I: Issuer, T>(clients: Vec<I>, action: impl FnOnce() -> Result<T>) -> Result<(Self, T)> {
        let over = AtomicBool::new(false);
        Self::run(clients, Until::Told(&over), || {
            let outcome = action();
            over.store(true, Ordering::Relaxed);
            outcome
        })
    }

    fn run<I: Issuer, T>(clients: Vec<I>, until: Until<'_>, action: impl FnOnce() -> Result<T>) -> Result<(Self, T)> {
        let started = Instant::now();
        let mut ledger = Self::default();
        let outcome = std::thread::scope(|scope| {
            let threads: Vec<_> =
                clients.into_iter().map(|client| scope.spawn(move || Ok(drawn(client, until, started)))).collect();
            let outcome = action();
            for thread in threads {
                let drawn: Drawn = joined("take numbers", thread.join())?;
                ledger.clients.push(drawn.receipts);
                ledger.stats = ledger.stats.plus(drawn.stats);
                ledger.stats_each.push(drawn.stats);
                ledger.failed += drawn.failed;
                ledger.last_error = drawn.error.map(|error| error.to_string()).or(ledger.last_error.take());
            }
            outcome
        })?;
        ledger.seconds = started.elapsed().as_secs_f64();
        Ok((ledger, outcome))
    }

    /// Takes another run's receipts in, as if they had come later.
    pub fn append(&mut self, later: Self) {
        let end = self.receipts().map(|receipt| receipt.answered).max().unwrap_or(0);
        let shift = |receipt: Receipt| Receipt {
            asked: end + 1 + receipt.asked,
            answered: end + 1 + receipt.answered,
            ..receipt
        };
        self.clients.extend(later.clients.into_iter().map(|list| list.into_iter().map(shift).collect()));
        self.stats = self.stats.plus(later.stats);
        self.stats_each.extend(later.stats_each);
        self.failed += later.failed;
        self.last_error = later.last_error.or(self.last_error.take());
        self.seconds += later.seconds;
    }

    /// All receipts, client by client.
    pub fn receipts(&self) -> impl Iterator<Item = Receipt> + '_ {
        self.clients.iter().flatten().copied()
    }

    /// Judges it.
    pub fn audit(&self, numbering: Numbering) -> Audit {
        let mut ids: Vec<u64> = self.receipts().map(|receipt| receipt.id).collect();
        ids.sort_unstable();
        let received = ids.len() as u64;
        let highest = ids.last().copied().unwrap_or(0);
        ids.dedup();
        let duplicates = received - ids.len() as u64;
        Audit { received, duplicates, missing: missing(&ids, numbering), disorder: self.disorder(), highest }
    }

    /// Numbers that are lower than one that had been answered before they were asked for.
    fn disorder(&self) -> u64 {
        let mut by_answer: Vec<Receipt> = self.receipts().collect();
        let mut by_question = by_answer.clone();
        by_answer.sort_by_key(|receipt| receipt.answered);
        by_question.sort_by_key(|receipt| receipt.asked);
        let (mut answered, mut highest, mut disorder) = (by_answer.iter().peekable(), None, 0);
        for question in &by_question {
            while let Some(before) = answered.next_if(|receipt| receipt.answered < question.asked) {
                highest = highest.max(Some(before.id));
            }
            disorder += u64::from(highest.is_some_and(|highest| question.id < highest));
        }
        disorder
    }

    /// How many numbers were received in each stretch of this many seconds.
    pub fn rate(&self, stretch: f64) -> Vec<(f64, f64)> {
        let mut counts = BTreeMap::<u64, u64>::new();
        let last = (self.seconds / stretch) as u64;
        counts.extend((0..last).map(|slot| (slot, 0)));
        for receipt in self.receipts() {
            let slot = (receipt.answered as f64 / 1e9 / stretch) as u64;
            if slot < last {
                *counts.entry(slot).or_default() += 1;
            }
        }
        counts.into_iter().map(|(slot, count)| ((slot as f64 + 0.5) * stretch, count as f64 / stretch)).collect()
    }

    /// The longest that any client waited for an answer, in seconds.
    pub fn longest_wait(&self) -> f64 {
        self.receipts().map(|receipt| receipt.answered - receipt.asked).max().unwrap_or(0) as f64 / 1e9
    }
}

struct Drawn {
    receipts: Vec<Receipt>,
    stats: IssuerStats,
    failed: u64,
    error: Option<Error>,
}

fn drawn(mut client: impl Issuer, until: Until<'_>, started: Instant) -> Drawn {
    let now = || u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let (mut receipts, mut failed, mut error) = (Vec::new(), 0, None);
    let goes_on = |answers: u64| match until {
        Until::Each(each) => answers < each,
        Until::Told(over) => !over.load(Ordering::Relaxed),
    };
    while goes_on(receipts.len() as u64 + failed) {
        let asked = now();
        match client.next_id() {
            Ok(id) => receipts.push(Receipt { id, asked, answered: now() }),
            Err(failure) => {
                failed += 1;
                error = Some(failure);
                if failed == ENOUGH {
                    break;
                }
            }
        }
    }
    Drawn { receipts, stats: client.stats(), failed, error }
}

/// `ids` are sorted, each once.
fn missing(ids: &[u64], numbering: Numbering) -> u64 {
    let below = |first: u64, step: u64| {
        let share = ids.iter().filter(|id| **id >= first && (**id - first).is_multiple_of(step));
        let (count, highest) = share.fold((0, None), |(count, _), id| (count + 1, Some(*id)));
        highest.map_or(0, |highest| (highest - first) / step + 1 - count)
    };
    match numbering {
        Numbering::From(first) => below(first, 1),
        Numbering::Shared(servers) => (1..=servers).map(|first| below(first, servers)).sum(),
        Numbering::Sparse => 0,
    }
}

impl Audit {
    /// As a row of a table.
    pub fn table(&self, title: &str) -> Table {
        Table::new(title)
            .counts("received", "", [self.received])
            .counts("twice", "", [self.duplicates])
            .counts("missing below the highest", "", [self.missing])
            .counts("lower than one that was there before", "", [self.disorder])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(lists: &[&[(u64, u64, u64)]]) -> Ledger {
        let receipt = |&(id, asked, answered): &(u64, u64, u64)| Receipt { id, asked, answered };
        let clients = lists.iter().map(|list| list.iter().map(receipt).collect()).collect();
        Ledger { clients, ..Ledger::default() }
    }

    #[test]
    fn known_bad_ledgers_are_caught() {
        let count = |lists: &[&[(u64, u64, u64)]], numbering| {
            let audit = ledger(lists).audit(numbering);
            (audit.duplicates, audit.missing, audit.disorder)
        };
        let from = Numbering::From(1);
        assert_eq!(count(&[&[(1, 0, 1), (2, 2, 3)], &[(3, 4, 5)]], from), (0, 0, 0));
        assert_eq!(count(&[&[(1, 0, 1), (1, 2, 3)]], from), (1, 0, 0), "twice to one client");
        assert_eq!(count(&[&[(1, 0, 1)], &[(1, 0, 1)]], from), (1, 0, 0), "to two clients at once");
        assert_eq!(count(&[&[(1, 0, 1)], &[(1, 0, 1)], &[(1, 0, 1)]], from), (2, 0, 0), "three times");
        assert_eq!(count(&[&[(2, 0, 1)]], from), (0, 1, 0), "the first is missing");
        assert_eq!(count(&[&[(1, 0, 1), (5, 2, 3)]], from), (0, 3, 0), "some in the middle");
        assert_eq!(count(&[&[(2, 0, 1), (1, 2, 3)]], from), (0, 0, 1), "one client saw it");
        assert_eq!(count(&[&[(2, 0, 1)], &[(1, 2, 3)]], from), (0, 0, 1), "two clients saw it");
        assert_eq!(count(&[&[(2, 0, 5)], &[(1, 1, 6)]], from), (0, 0, 0), "at once: no order between them");
        assert_eq!(count(&[&[(3, 0, 1), (1, 2, 3), (2, 4, 5)]], from), (0, 0, 2));
        assert_eq!(count(&[&[(1, 0, 1), (2, 2, 3), (3, 4, 5), (4, 6, 7)]], Numbering::Shared(2)), (0, 0, 0));
        assert_eq!(count(&[&[(1, 0, 1), (2, 2, 3), (5, 4, 5), (8, 6, 7)]], Numbering::Shared(2)), (0, 3, 0), "3, 4, 6");
        assert_eq!(count(&[&[(1, 0, 1), (3, 2, 3), (5, 4, 5)]], Numbering::Shared(2)), (0, 0, 0), "one server only");
        assert_eq!(count(&[&[(10, 0, 1), (90, 2, 3)]], Numbering::Sparse), (0, 0, 0));
        assert_eq!(count(&[], from), (0, 0, 0));
    }

    #[test]
    fn an_issuer_that_repeats_skips_and_fails_is_seen_by_its_clients() {
        struct Bad(u64);
        impl Issuer for Bad {
            fn next_id(&mut self) -> Result<u64> {
                self.0 += 1;
                match self.0 {
                    4 => Err(Error::new("take a number", "it is the fourth")),
                    n => Ok(n / 2 * 2),
                }
            }
        }
        let ledger = Ledger::draw(vec![Bad(0), Bad(0)], 6).unwrap_or_default();
        let audit = ledger.audit(Numbering::From(0));
        assert_eq!((audit.received, ledger.failed), (10, 2));
        assert_eq!((audit.duplicates, audit.missing), (6, 3), "0, 2, 4 and 6 were received");
        assert!(ledger.last_error.is_some_and(|error| error.contains("it is the fourth")));
    }
}

//! What clients really received, and what that says: how many numbers came twice, how many never, and in which order.

use std::time::Duration;

use super::{Issuer, IssuerStats};
use lab::{Call, Crowd, Frame, Ran, Result};

/// Who received which number when.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// A row for each request, as a [`Crowd`] leaves it, with the number as the word `id`: not every one fits into a column of
    /// numbers.
    pub requests: Frame,
    /// What all clients together went through.
    pub stats: IssuerStats,
}

/// A number, and when its client asked for it and had it: seconds from the start of the run.
#[derive(Debug, Clone, Copy)]
struct Receipt {
    id: u64,
    asked: f64,
    answered: f64,
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
}

/// One call of a [`Crowd`]: the client takes a number, which the call keeps as the word `id`. Whose request has failed comes
/// back after a pause.
pub fn take(client: &mut impl Issuer, call: &mut Call) -> Result<u64> {
    let id = client.next_id().inspect_err(|_| call.rest(Duration::from_millis(10)))?;
    call.tag("id", id);
    Ok(id)
}

impl Ledger {
    /// Each of these clients, in a thread of its own, takes so many numbers.
    pub fn draw<I: Issuer>(clients: Vec<I>, each: u64) -> Result<Self> {
        let crowd = Crowd::holding(clients).times(each).enduring();
        crowd.run(|client, call| take(client, call).map(drop)).map(Self::of)
    }

    /// What these clients did.
    pub fn of<I: Issuer>(ran: Ran<I>) -> Self {
        let stats = ran.states.iter().fold(IssuerStats::default(), |sum, client| sum.plus(client.stats()));
        Self { requests: ran.frame, stats }
    }

    /// With another run's requests, as if they had come later.
    pub fn then(self, later: Self) -> Self {
        let end = self.receipts().iter().map(|receipt| receipt.answered).fold(0.0, f64::max) + 1.0;
        let moved = later.requests.rename("at", "at by itself");
        let moved = moved.clone().computed("at", "s", |row| end + row.number("at by itself"));
        Self { requests: self.requests.stack(&moved), stats: self.stats.plus(later.stats) }
    }

    /// The numbers that were received, in the order in which they were asked for.
    pub fn ids(&self) -> Vec<u64> {
        self.receipts().iter().map(|receipt| receipt.id).collect()
    }

    /// Why requests failed for their client.
    pub fn failures(&self) -> Vec<String> {
        let failed = self.requests.filter("outcome", "failed");
        if failed.is_empty() { Vec::new() } else { failed.texts("why") }
    }

    /// Judges it.
    pub fn audit(&self, numbering: Numbering) -> Audit {
        let receipts = self.receipts();
        let mut ids: Vec<u64> = receipts.iter().map(|receipt| receipt.id).collect();
        ids.sort_unstable();
        let received = ids.len() as u64;
        ids.dedup();
        let duplicates = received - ids.len() as u64;
        Audit { received, duplicates, missing: missing(&ids, numbering), disorder: disorder(&receipts) }
    }

    /// The audit in one row, with what the clients went through: `received`, `twice`, `missing` and `failed`; `deadlocks` and other
    /// `conflicts` that were tried again, and `lost answers`; how many numbers `may be missing` for these and for another reason,
    /// and how many are missing `beyond` that.
    pub fn row(&self, numbering: Numbering, for_another_reason: u64) -> Frame {
        let (audit, stats) = (self.audit(numbering), self.stats);
        let may_be_missing = stats.may_be_missing() + for_another_reason;
        [
            ("received", audit.received),
            ("twice", audit.duplicates),
            ("missing", audit.missing),
            ("failed", self.failures().len() as u64),
            ("deadlocks", stats.deadlocks),
            ("conflicts", stats.conflicts),
            ("lost answers", stats.lost_answers),
            ("may be missing", may_be_missing),
            ("beyond", audit.missing.saturating_sub(may_be_missing)),
        ]
        .into_iter()
        .fold(Frame::new(), |row, (name, count)| row.counts(name, "", [count]))
    }

    fn receipts(&self) -> Vec<Receipt> {
        if !self.requests.columns().iter().any(|column| column == "id") {
            return Vec::new(); // nobody has received any
        }
        let done = self.requests.filter("outcome", "done");
        let (at, took) = (done.samples("at"), done.samples("took"));
        let times = at.values().iter().zip(took.values());
        let receipt = |(id, (at, took)): (&String, (&f64, &f64))| {
            Some(Receipt { id: id.parse().ok()?, asked: *at, answered: at + took })
        };
        done.texts("id").iter().zip(times).filter_map(receipt).collect()
    }
}

/// Numbers that are lower than one that had been answered before they were asked for.
fn disorder(receipts: &[Receipt]) -> u64 {
    let (mut by_answer, mut by_question) = (receipts.to_vec(), receipts.to_vec());
    by_answer.sort_by(|a, b| a.answered.total_cmp(&b.answered));
    by_question.sort_by(|a, b| a.asked.total_cmp(&b.asked));
    let (mut answered, mut highest, mut disorder) = (by_answer.iter().peekable(), None, 0);
    for question in &by_question {
        while let Some(before) = answered.next_if(|receipt| receipt.answered < question.asked) {
            highest = highest.max(Some(before.id));
        }
        disorder += u64::from(highest.is_some_and(|highest| question.id < highest));
    }
    disorder
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

#[cfg(test)]
mod tests {
    use super::*;
    use lab::Error;

    fn ledger(lists: &[&[(u64, u64, u64)]]) -> Ledger {
        let all: Vec<(u64, u64, u64)> = lists.concat();
        let requests = Frame::new()
            .numbers("at", "s", all.iter().map(|(_, asked, _)| *asked as f64))
            .numbers("took", "s", all.iter().map(|(_, asked, answered)| (answered - asked) as f64))
            .text("outcome", all.iter().map(|_| "done"))
            .text("id", all.iter().map(|(id, ..)| id));
        Ledger { requests, ..Ledger::default() }
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
        assert_eq!((audit.received, ledger.failures().len()), (10, 2));
        assert_eq!((audit.duplicates, audit.missing), (6, 3), "0, 2, 4 and 6 were received");
        assert!(ledger.failures()[0].contains("it is the fourth"));
        let twice = ledger.clone().then(ledger);
        let audit = twice.audit(Numbering::From(0));
        assert_eq!((audit.received, audit.duplicates, audit.missing, twice.failures().len()), (20, 16, 3, 4));
        assert_eq!(twice.row(Numbering::From(0), 1).samples("beyond").values(), [2.0]);
    }
}

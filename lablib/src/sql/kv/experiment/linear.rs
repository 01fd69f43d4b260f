//! Many clients, few keys, and connections that are cut under them; a checker judges what they saw.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::databases;
use crate::lab::history::History;
use crate::lab::history::linearizable::Verdict;
use crate::lab::history::models::{KeyValue, KeyValueOp, KeyValueRet};
use crate::lab::service::MariaDb;
use crate::lab::{Error, Link, OrFail, Progress, Result, Rng, joined};
use crate::sql::kv::{Answer, Expected, Failure, Skip, Store};

type Op = KeyValueOp<String, u64>;
type Ret = KeyValueRet<u64>;

/// A run of many clients.
#[derive(Debug, Clone, Copy)]
pub struct ConcurrentSpec {
    /// Clients, each with a connection through a link of its own to each of two shards.
    pub clients: usize,
    /// Operations of each.
    pub operations: u64,
    /// Keys that all of them use.
    pub keys: u64,
    /// How often all connections are cut.
    pub cuts: u64,
    /// Where the random numbers begin.
    pub seed: u64,
}

/// What the clients saw, judged.
#[derive(Debug, Clone)]
pub struct Concurrent {
    /// Operations that were answered.
    pub answered: u64,
    /// Compare-and-sets that wrote.
    pub swapped: u64,
    /// Writes whose answer was lost with a connection.
    pub in_doubt: u64,
    /// Reads that failed.
    pub failed: u64,
    /// Whether there is an order, within the operations' times, in which one map would have answered the same.
    pub verdict: Verdict,
    /// For a picture: the operations.
    pub history: History<Op, Ret>,
}

impl Concurrent {
    /// 0 where the checker found an order, 1 where it proved that there is none.
    pub fn violations(&self) -> u64 {
        match &self.verdict {
            Verdict::Linearizable { .. } => 0,
            Verdict::NotLinearizable { .. } => 1,
            // No answer is no proof, and no excuse either.
            Verdict::Undecided { reason } => Err(Error::new("judge the history", reason)).or_fail(),
        }
    }

    /// What the checker says, in one sentence.
    pub fn sentence(&self) -> String {
        match &self.verdict {
            Verdict::NotLinearizable { explanation } => explanation.sentence.clone(),
            Verdict::Linearizable { .. } => "there is an order in which one map would have answered all of it".into(),
            Verdict::Undecided { reason } => format!("undecided: {reason}"),
        }
    }
}

/// Lets clients work on a store of two shards, with or without a step of it, and cuts their connections now and then.
pub fn concurrent(server: &MariaDb, spec: ConcurrentSpec, skip: Option<Skip>) -> Concurrent {
    let run = || -> Result<Concurrent> {
        let link = Link::to(server.address())?;
        let direct = databases(server, 2);
        Store::create(&direct)?;
        let urls: Vec<String> = direct.iter().map(|url| url.replace(server.address(), link.address())).collect();
        let history: History<Op, Ret> = History::new();
        let mut progress = Progress::new("clients at work", spec.clients as u64);
        let answered = AtomicU64::new(0);
        let all = spec.clients as u64 * spec.operations;
        let (mut swapped, mut in_doubt, mut failed) = (0, 0, 0);
        std::thread::scope(|scope| {
            let (urls, history, answered) = (&urls, &history, &answered);
            let work = move |client: usize| -> Result<(u64, u64, u64)> {
                let store = Store::open(urls)?.without(skip);
                let rng = Rng::seeded(spec.seed, &format!("client {client}"));
                let mut client = Client {
                    store,
                    rng,
                    history,
                    process: client,
                    spec,
                    made: client as u64,
                    swapped: 0,
                    in_doubt: 0,
                    failed: 0,
                };
                for _ in 0..spec.operations {
                    client.step();
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                Ok((client.swapped, client.in_doubt, client.failed))
            };
            let threads: Vec<_> = (0..spec.clients).map(|client| scope.spawn(move || work(client))).collect();
            for cut in 1..=spec.cuts {
                // Spread over the run by what is done, not by time.
                while answered.load(Ordering::Relaxed) < all * cut / (spec.cuts + 1)
                    && threads.iter().any(|thread| !thread.is_finished())
                {
                    std::thread::sleep(Duration::from_micros(200));
                }
                link.cut_connections();
            }
            threads.into_iter().try_for_each(|thread| -> Result<()> {
                let told = joined("work on the store", thread.join())?;
                (swapped, in_doubt, failed) = (swapped + told.0, in_doubt + told.1, failed + told.2);
                progress.step();
                Ok(())
            })
        })?;
        let verdict = history.check(&KeyValue::new());
        Ok(Concurrent { answered: all - in_doubt - failed, swapped, in_doubt, failed, verdict, history })
    };
    run().or_fail()
}

struct Client<'a> {
    store: Store,
    rng: Rng,
    history: &'a History<Op, Ret>,
    process: usize,
    spec: ConcurrentSpec,
    made: u64,
    swapped: u64,
    in_doubt: u64,
    failed: u64,
}

impl Client<'_> {
    fn step(&mut self) {
        let key = format!("key {}", self.rng.below(self.spec.keys));
        match self.rng.below(10) {
            0..3 => {
                self.get(&key);
            }
            3..5 => {
                let value = self.value();
                let put = Op::Put(key.clone(), value);
                self.write(put, |store| store.put(key.as_bytes(), &value.to_be_bytes(), None).map(|_| Ret::Done));
            }
            5 => {
                self.write(Op::Delete(key.clone()), |store| store.delete(key.as_bytes()).map(Ret::Deleted));
            }
            _ => {
                let Some(seen) = self.get(&key) else { return };
                let (value, expected) = (self.value(), seen.map(|(value, _)| value));
                let version = seen.map_or(Expected::Absent, |(_, version)| version);
                let cas = Op::Cas { key: key.clone(), expected, new: value };
                let done = self.write(cas, |store| {
                    let swapped = store.compare_and_set(key.as_bytes(), version, &value.to_be_bytes(), None)?;
                    Ok(Ret::Swapped(swapped.is_some()))
                });
                self.swapped += u64::from(done == Some(Ret::Swapped(true)));
            }
        }
    }

    /// What the key holds, recorded; nothing where the read failed.
    fn get(&mut self, key: &str) -> Option<Option<(u64, Expected)>> {
        let call = self.history.invoke(self.process, Op::Get(key.to_string()));
        match self.store.get(key.as_bytes()) {
            Ok(entry) => {
                let seen = entry.map(|entry| {
                    let bytes = entry.value.try_into().unwrap_or_default();
                    (u64::from_be_bytes(bytes), Expected::At(entry.version))
                });
                call.ok(Ret::Value(seen.map(|(value, _)| value)));
                Some(seen)
            }
            Err(_) => {
                call.fail();
                self.failed += 1;
                None
            }
        }
    }

    fn write(&mut self, op: Op, run: impl FnOnce(&mut Store) -> Answer<Ret>) -> Option<Ret> {
        let call = self.history.invoke(self.process, op);
        match run(&mut self.store) {
            Ok(ret) => {
                call.ok(ret.clone());
                Some(ret)
            }
            Err(failure) => {
                self.lost(&failure);
                if failure.may_have_happened() {
                    call.unknown();
                    // Whoever does not know what became of a call cannot be the one who makes the next.
                    self.process += self.spec.clients;
                } else {
                    call.fail();
                }
                None
            }
        }
    }

    fn lost(&mut self, failure: &Failure) {
        *(if failure.may_have_happened() { &mut self.in_doubt } else { &mut self.failed }) += 1;
    }

    /// A value that nobody else puts: so the checker knows whose it is.
    fn value(&mut self) -> u64 {
        self.made += self.spec.clients as u64;
        self.made
    }
}

//! Many clients, few keys, entries that expire and are swept away, and connections that are cut; a checker judges what the
//! clients saw.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::databases;
use crate::{Answer, Expected, Skip, Store, Sweeper};
use lab::history::History;
use lab::history::linearizable::{self, Budget, Verdict};
use lab::history::lives::{Lives, LivesOp, LivesRet, with_ends};
use lab::service::MariaDb;
use lab::{Crowd, Frame, Link, Result, Rng};

/// A run of many clients.
#[derive(Debug, Clone, Copy)]
pub struct ConcurrentSpec {
    /// Clients, each with a connection through a link of its own to each of two shards.
    pub clients: usize,
    pub operations: u64,
    /// Keys that all of them use.
    pub keys: u64,
    /// How long two writes of three let their values live, at most; the third lets its own live for ever.
    pub longest: Duration,
    /// How often all connections are cut, those of the sweepers included.
    pub cuts: u64,
    /// Where the random numbers begin.
    pub seed: u64,
}

/// How often the sweepers look.
const SWEEPS: Duration = Duration::from_millis(2);

/// Lets clients work on a store of two shards, with or without a step of it, while sweepers take what has expired, and cuts
/// their connections now and then.
///
/// One row: operations that were `answered`; swaps that wrote (`swapped`); writes whose answer was lost with a connection (`in doubt`);
/// operations that were refused, and reads that failed (`failed`); expired entries that the sweepers removed meanwhile (`swept`), and their
/// errors, after which they went on (`stumbled`); `violations`, 0 where the checker found an order, within the operations' times, in which
/// one map would have answered the same, and 1 where it proved that there is none, missing where it could not decide; and that in a `sentence`.
pub fn concurrent(server: &MariaDb, spec: ConcurrentSpec, skip: Option<Skip>) -> Result<Frame> {
    let link = Link::to(server.address())?;
    let direct = databases(server, 2)?;
    Store::create(&direct)?;
    let urls: Vec<String> = direct.iter().map(|url| url.replace(server.address(), link.address())).collect();
    let sweeper = |url: &String| Sweeper::start(url, 5, SWEEPS, |_| ());
    let sweepers = urls.iter().map(sweeper).collect::<Result<Vec<_>>>()?;
    let history: History<LivesOp, LivesRet> = History::new();
    let (answered, mut cuts) = (AtomicU64::new(0), 0);
    let all = spec.clients as u64 * spec.operations;
    let clocks = Clocks::now();
    let ran = Crowd::of(spec.clients)
        .with(|client| {
            let rng = Rng::seeded(spec.seed, &format!("client {client}"));
            let (store, made) = (Store::open(&urls)?.without(skip), client as u64);
            Ok(Client { store, rng, history: &history, process: client, spec, made, end: "" })
        })
        .times(spec.operations)
        // Spread over the run by what is done, not by time.
        .looking(Duration::from_micros(500), |_| {
            if cuts < spec.cuts && answered.load(Ordering::Relaxed) >= all * (cuts + 1) / (spec.cuts + 1) {
                link.cut_connections();
                cuts += 1;
            }
            Ok(())
        })
        .run(|client, call| {
            client.end = "answered";
            client.step();
            call.tag("end", client.end);
            answered.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })?;
    let [swapped, in_doubt, failed] =
        ["swapped", "in doubt", "failed"].map(|end| ran.frame.filter("end", end).height() as u64);
    drop(ran);
    let operations = with_ends(history.operations(), clocks.may_differ_by());
    let swept = sweepers.into_iter().map(Sweeper::stop).collect::<Result<Vec<_>>>()?;
    let (swept, stumbled) = swept.iter().fold((0, 0), |sum, one| (sum.0 + one.removed, sum.1 + one.errors));
    // To rule out every order may take for ever; what is found out is found soon or in the next run.
    let short = Budget { steps: 300_000, time: Duration::from_secs(3) };
    let verdict = linearizable::check_within(&Lives, &operations, &skip.map_or_else(Budget::default, |_| short));
    let (violations, sentence) = match verdict {
        Verdict::Linearizable { .. } => {
            (Some(0.0), "there is an order in which one map would have answered all of it".to_string())
        }
        Verdict::NotLinearizable { explanation } => (Some(1.0), explanation.sentence),
        // No answer is no proof, and no excuse either.
        Verdict::Undecided { reason } => (None, format!("undecided: {reason}")),
    };
    let counts = [
        ("answered", all - in_doubt - failed),
        ("swapped", swapped),
        ("in doubt", in_doubt),
        ("failed", failed),
        ("swept", swept),
        ("stumbled", stumbled),
    ];
    let seen = counts.into_iter().fold(Frame::new(), |row, (name, count)| row.counts(name, "", [count]));
    Ok(seen.numbers_or_missing("violations", "", [violations]).text("sentence", [sentence]))
}

/// Lets clients work on a store without a step of it, up to `most` times over, until the checker proves that it is missing. Nobody cuts
/// connections. One row: which step was left out (`skip`), in which `run` that was found out, one more than there were where in none, and
/// the proof's `sentence`.
pub fn found_out(server: &MariaDb, spec: ConcurrentSpec, skip: Skip, most: u64) -> Result<Frame> {
    let (mut run, mut sentence) = (most + 1, "nothing was found".to_string());
    for number in 0..most {
        let spec = ConcurrentSpec { seed: spec.seed.wrapping_add(number), cuts: 0, ..spec };
        let seen = concurrent(server, spec, Some(skip))?.filter("violations", 1);
        if !seen.is_empty() {
            (run, sentence) = (number + 1, seen.texts("sentence").join(" "));
            break;
        }
    }
    Ok(Frame::new().text("skip", [format!("{skip:?}")]).counts("run", "", [run]).text("sentence", [sentence]))
}

/// The history's clock, and the one by which a server on this machine counts what a value has left to live.
struct Clocks([(Instant, SystemTime); 3]);

impl Clocks {
    fn now() -> Self {
        Self([(); 3].map(|()| (Instant::now(), SystemTime::now())))
    }

    /// How far the one was set against the other since then, and a little for what goes on between two looks at them.
    fn may_differ_by(&self) -> Duration {
        const AT_LEAST: Duration = Duration::from_micros(200);
        let differ = |(from, began): &(Instant, SystemTime)| {
            let counted = began.elapsed().unwrap_or_default();
            from.elapsed().abs_diff(counted)
        };
        AT_LEAST + self.0.iter().map(differ).min().unwrap_or_default()
    }
}

struct Client<'a> {
    store: Store,
    rng: Rng,
    history: &'a History<LivesOp, LivesRet>,
    process: usize,
    spec: ConcurrentSpec,
    made: u64,
    /// How its last step ended.
    end: &'static str,
}

impl Client<'_> {
    fn step(&mut self) {
        let key = format!("key {}", self.rng.below(self.spec.keys));
        match self.rng.below(10) {
            0..2 => {
                self.get(&key);
            }
            2..4 => {
                let (value, ttl) = (self.value(), self.life());
                let put = LivesOp::Put { key: key.clone(), value, ttl };
                self.write(put, |store| store.put(key.as_bytes(), &value.to_be_bytes(), ttl).map(|_| LivesRet::Done));
            }
            4 => {
                let delete = LivesOp::Delete(key.clone());
                self.write(delete, |store| store.delete(key.as_bytes()).map(LivesRet::Deleted));
            }
            // Whoever wants a lock does not look first.
            5..7 => self.swap(&key, None),
            _ => {
                let Some(seen) = self.get(&key) else { return };
                self.swap(&key, seen);
            }
        }
    }

    /// What the key holds, recorded; nothing where the read failed.
    fn get(&mut self, key: &str) -> Option<Option<(u64, Expected)>> {
        let call = self.history.invoke(self.process, LivesOp::Get(key.to_string()));
        match self.store.get(key.as_bytes()) {
            Ok(entry) => {
                let seen = entry.map(|entry| {
                    let bytes = entry.value.try_into().unwrap_or_default();
                    (u64::from_be_bytes(bytes), Expected::At(entry.version))
                });
                call.ok(LivesRet::Value(seen.map(|(value, _)| value)));
                Some(seen)
            }
            Err(_) => {
                call.fail();
                self.end = "failed";
                None
            }
        }
    }

    fn swap(&mut self, key: &str, seen: Option<(u64, Expected)>) {
        let (value, ttl, expected) = (self.value(), self.life(), seen.map(|(value, _)| value));
        let version = seen.map_or(Expected::Absent, |(_, version)| version);
        let swap = LivesOp::Swap { key: key.into(), expected, value, ttl };
        let done = self.write(swap, |store| {
            let swapped = store.compare_and_set(key.as_bytes(), version, &value.to_be_bytes(), ttl)?;
            Ok(LivesRet::Swapped(swapped.is_some()))
        });
        if done == Some(LivesRet::Swapped(true)) {
            self.end = "swapped";
        }
    }

    fn write(&mut self, op: LivesOp, run: impl FnOnce(&mut Store) -> Answer<LivesRet>) -> Option<LivesRet> {
        let call = self.history.invoke(self.process, op);
        match run(&mut self.store) {
            Ok(ret) => {
                call.ok(ret.clone());
                Some(ret)
            }
            Err(failure) => {
                if failure.may_have_happened() {
                    self.end = "in doubt";
                    call.unknown();
                    // Whoever does not know what became of a call cannot be the one who makes the next.
                    self.process += self.spec.clients;
                } else {
                    self.end = "failed";
                    call.fail();
                }
                None
            }
        }
    }

    /// A value that nobody else puts: so the checker knows whose it is.
    fn value(&mut self) -> u64 {
        self.made += self.spec.clients as u64;
        self.made
    }

    fn life(&mut self) -> Option<Duration> {
        let longest = self.spec.longest.as_micros() as u64;
        (self.rng.below(3) > 0).then(|| Duration::from_micros(1 + self.rng.below(longest)))
    }
}

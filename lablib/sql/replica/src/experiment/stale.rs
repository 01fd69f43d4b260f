//! Clients that read what they have just written: how often they see an older state, by the delay of the wire and by
//! what their sessions were promised.

use std::time::Duration;

use super::bank::{Bank, Teller, Transfer};
use super::lag::watched;
use super::{PATIENCE, healed};
use crate::{Consistency, Router, RouterSpec, Skip};
use lab::link::Direction;
use lab::{Call, Crowd, Error, Frame, Result};

/// What a session is promised, and the step that it leaves out.
pub type Kind = (Consistency, Option<Skip>);

/// Clients, and what they do.
#[derive(Debug, Clone, Copy)]
pub struct ReadersSpec {
    /// Sessions of each kind, at work at the same time.
    pub sessions: usize,
    /// How often each writes and then reads.
    pub rounds: u64,
    /// They read up to this long after their write, evenly spread.
    pub think: Duration,
    /// How long a read waits on a replica before it goes to the primary.
    pub wait: Duration,
    pub seed: u64,
}

/// What sessions did and saw.
#[derive(Debug, Clone)]
pub struct Readers {
    /// A row for each session: what it was promised, how many `reads` it made, and what was counted of them; per cent of its reads that
    /// replicas answered (`on replicas`), and of those of its own writes that were `stale`; reads that were `broken` promises, the first
    /// in words (`first broken`).
    pub sessions: Frame,
    /// A row for each call: its session's `promise`, what it `did` (`write` or `read`), and how long it `took`.
    pub calls: Frame,
}

/// A session at work, what it was promised, and its last transfer.
struct Reader {
    promise: String,
    teller: Teller,
    wrote: Option<Transfer>,
}

impl Reader {
    /// Reads one of the two accounts of its last transfer.
    fn read(&mut self, which: usize, call: &mut Call) -> Result<()> {
        call.tag("did", "read");
        let account = self.wrote.as_ref().map_or(0, |transfer| transfer.accounts[which].0);
        self.teller.read(account).map(drop)
    }

    /// Thinks up to so long after this call.
    fn think(&mut self, most: Duration, call: &mut Call) {
        call.rest(most.mul_f64(self.teller.chance()));
    }
}

/// What sessions of one kind are promised, in words.
pub fn promise((consistency, skip): Kind) -> String {
    let promised = match consistency {
        Consistency::Eventual => "any replica",
        Consistency::Pinned => "one replica each",
        Consistency::ReadYourWrites => "read your writes",
        Consistency::MonotonicReads => "monotonic reads",
        Consistency::Session => "both, by position",
        Consistency::Primary => "the primary",
    };
    match skip {
        None => promised.into(),
        Some(Skip::Wait) => "… without waiting".into(),
        Some(Skip::WriteToken) => "… forgetting writes".into(),
        Some(Skip::ReadToken) => "… forgetting reads".into(),
        Some(other) => format!("… without {other:?}"),
    }
}

/// A router that sends reads to replicas however late and slow they are: here the sessions' promise decides, and nothing else.
fn patient(bank: &Bank, wait: Duration) -> Result<Router> {
    let ever = Duration::from_secs(5);
    Router::new(bank.cluster(), RouterSpec { wait, max_lag: ever, silence: ever, ..RouterSpec::default() })
}

/// Sessions of several kinds, side by side: all see the same wires and the same noise. Each does so many `calls`.
fn side_by_side(
    bank: &Bank,
    kinds: &[(String, Kind, &Router)],
    (spec, calls): (ReadersSpec, u64),
    work: impl Fn(&mut Reader, &mut Call) -> Result<()> + Sync,
) -> Result<Readers> {
    let readers = kinds.iter().flat_map(|kind| std::iter::repeat_n(kind, spec.sessions));
    let readers = readers.map(|(promise, (consistency, skip), router)| {
        let teller = bank.teller(router.session(*consistency).without(*skip), spec.seed);
        Reader { promise: promise.clone(), teller, wrote: None }
    });
    let ran = Crowd::holding(readers).times(calls).within(PATIENCE).run(|reader, call| {
        call.tag("promise", &reader.promise);
        call.tag("did", "write");
        work(reader, call)
    })?;
    let row = |Reader { promise, teller, .. }: Reader| {
        let (broken, stats) = teller.settle();
        let (reads, on_primary) = (stats.reads.iter().sum::<u64>(), stats.reads[0]);
        Frame::new()
            .text("promise", [promise])
            .counts("reads", "", [reads])
            .counts("on the primary", "", [on_primary])
            .counts("own reads", "", [broken.own_reads])
            .counts("own writes missed", "", [broken.own_lost])
            .counts("repeated reads", "", [broken.repeated_reads])
            .counts("went backwards", "", [broken.backwards])
            .counts("waited", "", [stats.waited])
            .counts("in vain", "", [stats.timed_out])
            .counts("broken", "", [broken.all()])
            .numbers("stale", "%", [100.0 * broken.own_lost as f64 / broken.own_reads as f64])
            .numbers("on replicas", "%", [100.0 * (reads - on_primary) as f64 / reads as f64])
            .text("first broken", [broken.first.unwrap_or_default()])
    };
    let sessions = ran.states.into_iter().map(row).collect();
    Ok(Readers { sessions, calls: ran.frame })
}

impl Readers {
    /// What all sessions with one promise saw together: a row for each promise.
    pub fn by_promise(&self) -> Frame {
        let by = self.sessions.group(["promise"]);
        let counts = ["reads", "on the primary", "own reads", "own writes missed", "repeated reads", "went backwards"];
        let counts = counts.into_iter().chain(["waited", "in vain", "broken"]);
        let sums = counts.map(|name| by.sum(name)).chain([by.mean("on replicas")]);
        sums.reduce(|all, one| all.join(&one, ["promise"])).unwrap_or_default()
    }
}

const ANY: &str = "any replica";
const PATIENT: &str = "by position";
const HASTY: &str = "without waiting";

/// Writes, thinks and reads at every delay of the wires, from any replica and by position.
///
/// A row for each `delay` of the wires (ms): how far replicas were `behind` beyond it (s, the median over writes), per cent of the
/// reads from any replica that were `stale`, and those that are if they come before the write has (`predicted`), and how far these are
/// apart (`off`); per cent of the reads that replicas could answer if they are waited for (`in time`), and of those `by position`, and by position `without
/// waiting`, that they did answer. And a row for each session, as [`Readers::sessions`] has it, by `delay`.
pub fn stale_sweep(bank: &Bank, delays: &[Duration], spec: ReadersSpec) -> Result<(Frame, Frame)> {
    let cluster = bank.cluster();
    cluster.heal();
    cluster.catch_up(Duration::from_secs(30))?;
    let run = || {
        let (router, hasty) = (patient(bank, spec.wait)?, patient(bank, Duration::ZERO)?);
        let promised = |name: &str, consistency, router| (name.to_string(), (consistency, None), router);
        let kinds = [
            promised(ANY, Consistency::Eventual, &router),
            promised(PATIENT, Consistency::Session, &router),
            promised(HASTY, Consistency::Session, &hasty),
        ];
        delays.iter().map(|delay| at_delay(bank, &kinds, *delay, spec)).collect()
    };
    healed(cluster, || bank.watched(run))
}

/// One delay's row, and its sessions.
fn at_delay(
    bank: &Bank,
    kinds: &[(String, Kind, &Router)],
    delay: Duration,
    spec: ReadersSpec,
) -> Result<(Frame, Frame)> {
    let cluster = bank.cluster();
    for link in cluster.links() {
        link.delay_toward(Direction::ToClient, delay);
    }
    let (readers, arrivals) = watched(cluster, &cluster.replicas(), |watchers| {
        side_by_side(bank, kinds, (spec, 2 * spec.rounds), |reader, call| {
            let asks_anybody = reader.promise == ANY;
            if call.number() % 2 == 0 {
                let transfer = reader.teller.transfer()?;
                if asks_anybody {
                    watchers.tell(&transfer, call.now());
                }
                reader.wrote = Some(transfer);
                reader.think(spec.think, call);
                return Ok(());
            }
            if let Some(transfer) = reader.wrote.as_ref().filter(|_| asks_anybody) {
                call.note("thought", "s", transfer.acknowledged.elapsed().as_secs_f64());
            }
            reader.read(0, call)
        })
    })?;
    // How long after their writes' acknowledgements sessions that ask any replica began to read, and how late the replicas were.
    let (thought, lag) = (readers.calls.samples("thought"), arrivals.samples("lag"));
    // Of all times to think and all lags, the pairs in which the lag is the longer one by more than a wait.
    let late = |wait: f64| {
        let longer = |thought: &f64| lag.values().iter().filter(|lag| **lag > thought + wait).count();
        100.0 * thought.values().iter().map(longer).sum::<usize>() as f64 / (thought.len() * lag.len()) as f64
    };
    let mean = |promise: &str, column: &str| readers.sessions.filter("promise", promise).samples(column).mean();
    let row = Frame::new()
        .numbers("delay", "ms", [delay.as_secs_f64() * 1e3])
        .numbers("behind", "s", [lag.median() - delay.as_secs_f64()])
        .numbers("stale", "%", [mean(ANY, "stale")])
        .numbers("predicted", "%", [late(0.0)])
        .computed("off", "points", |at| (at.number("stale") - at.number("predicted")).abs())
        .numbers("in time", "%", [100.0 - late(spec.wait.as_secs_f64())])
        .numbers(PATIENT, "%", [mean(PATIENT, "on replicas")])
        .numbers(HASTY, "%", [mean(HASTY, "on replicas")]);
    Ok((row, readers.sessions.everywhere("delay", "ms", delay.as_secs_f64() * 1e3)))
}

/// So many kinds of sessions are at work at once.
const SIDE_BY_SIDE: usize = 3;

/// Every kind of session, on replicas that are differently far behind.
pub fn policies(bank: &Bank, delays: &[Duration], kinds: &[Kind], spec: ReadersSpec) -> Result<Readers> {
    const READS: u64 = 10;
    if kinds.is_empty() {
        return Err(Error::new("compare promises", "there is none"));
    }
    let cluster = bank.cluster();
    let run = || -> Result<Vec<Readers>> {
        for (link, delay) in cluster.links().zip(delays) {
            link.delay_toward(Direction::ToClient, *delay);
        }
        let router = patient(bank, spec.wait)?;
        let at_once = |kinds: &[Kind]| {
            let kinds: Vec<_> = kinds.iter().map(|kind| (promise(*kind), *kind, &router)).collect();
            side_by_side(bank, &kinds, (spec, spec.rounds * (1 + READS)), |reader, call| {
                let turn = call.number() % (1 + READS);
                if turn == 0 {
                    // A few accounts, so that everybody reads what others have just written.
                    reader.wrote = Some(reader.teller.transfer_among(4)?);
                    return Ok(());
                }
                reader.think(spec.think, call);
                reader.read((turn - 1) as usize % 2, call)
            })
        };
        kinds.chunks(SIDE_BY_SIDE).map(at_once).collect()
    };
    let all = healed(cluster, || bank.watched(run))?;
    let (sessions, calls) = all.into_iter().map(|one| (one.sessions, one.calls)).collect();
    Ok(Readers { sessions, calls })
}

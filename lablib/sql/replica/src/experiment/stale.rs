//! Clients that read what they have just written: how often they see an older state, by the delay of the wire and by
//! what their sessions were promised.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::bank::{Bank, Teller, Transfer};
use super::lag::watched;
use crate::{Broken, Consistency, Router, RouterSpec, SessionStats, Skip, check_session};
use lab::chart::{Chart, Lines};
use lab::link::Direction;
use lab::{Call, Crowd, Error, Frame, Result, Samples};

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
    /// A row for each read: `promise`, and how long it `took`.
    pub reads: Frame,
}

/// Stale reads by delay.
#[derive(Debug, Clone)]
pub struct StaleSweep {
    /// A row for each `delay` of the wires (ms): how far replicas were `behind` beyond it (s, the median over writes), per cent of the
    /// reads from any replica that were `stale`, and those that are if they come before the write has (`predicted`); per cent of the
    /// reads that replicas could answer if they are waited for (`in time`), and of those `by position`, and by position `without
    /// waiting`, that they did answer.
    pub delays: Frame,
    /// A row for each session, as [`Readers::sessions`] has it, by `delay`.
    pub sessions: Frame,
    spec: ReadersSpec,
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

    /// So long it thinks.
    fn thinks(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.teller.chance())
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
    let patience = Duration::from_secs(600);
    let ran = Crowd::holding(readers).times(calls).within(patience).run(|reader, call| {
        call.tag("promise", &reader.promise);
        call.tag("did", "write");
        work(reader, call)
    })?;
    let settled = |Reader { promise, teller, .. }: Reader| {
        let (history, stats) = teller.settle();
        (promise, check_session(&history), stats)
    };
    let sessions: Vec<(String, Broken, SessionStats)> = ran.states.into_iter().map(settled).collect();
    let first = |broken: &Broken| broken.first.clone().unwrap_or_default();
    let frame = Frame::new().text("promise", sessions.iter().map(|one| &one.0));
    let sessions = COUNTS
        .into_iter()
        .fold(frame, |frame, (name, of)| frame.counts(name, "", sessions.iter().map(|one| of(&one.1, &one.2))))
        .text("first broken", sessions.iter().map(|one| first(&one.1)))
        .computed("broken", "", |one| one.number("own writes missed") + one.number("went backwards"))
        .computed("stale", "%", |one| 100.0 * one.number("own writes missed") / one.number("own reads"))
        .computed("on replicas", "%", |one| 100.0 * (1.0 - one.number("on the primary") / one.number("reads")));
    Ok(Readers { sessions, reads: ran.frame.filter("did", "read").select(["promise", "took"]) })
}

type Count = fn(&Broken, &SessionStats) -> u64;

/// What is counted of each session's reads.
const COUNTS: [(&str, Count); 8] = [
    ("reads", |_, stats| stats.reads.iter().sum()),
    ("on the primary", |_, stats| stats.reads.first().copied().unwrap_or(0)),
    ("own reads", |broken, _| broken.own_reads),
    ("own writes missed", |broken, _| broken.own_lost),
    ("repeated reads", |broken, _| broken.repeated_reads),
    ("went backwards", |broken, _| broken.backwards),
    ("waited", |_, stats| stats.waited),
    ("in vain", |_, stats| stats.timed_out),
];

impl Readers {
    /// What all sessions with one promise saw together: a row for each promise.
    pub fn by_promise(&self) -> Frame {
        let by = self.sessions.group(["promise"]);
        let sums = COUNTS.into_iter().map(|(name, _)| by.sum(name)).chain([by.sum("broken"), by.mean("on replicas")]);
        sums.reduce(|all, one| all.join(&one, ["promise"])).unwrap_or_default()
    }
}

const ANY: &str = "any replica";
const PATIENT: &str = "by position";
const HASTY: &str = "without waiting";

/// Writes, thinks and reads at every delay of the wires, from any replica and by position.
pub fn stale_sweep(bank: &Bank, delays: &[Duration], spec: ReadersSpec) -> Result<StaleSweep> {
    let cluster = bank.cluster();
    cluster.heal();
    cluster.catch_up(Duration::from_secs(30))?;
    let run = || -> Result<(Frame, Frame)> {
        let (router, hasty) = (patient(bank, spec.wait)?, patient(bank, Duration::ZERO)?);
        let promised = |name: &str, consistency, router| (name.to_string(), (consistency, None), router);
        let kinds = [
            promised(ANY, Consistency::Eventual, &router),
            promised(PATIENT, Consistency::Session, &router),
            promised(HASTY, Consistency::Session, &hasty),
        ];
        delays.iter().map(|delay| at_delay(bank, &kinds, *delay, spec)).collect()
    };
    let all = bank.watched(Duration::from_millis(60), run);
    cluster.heal();
    let (delays, sessions) = all?;
    Ok(StaleSweep { delays, sessions, spec })
}

/// One delay's row, and its sessions.
fn at_delay(
    bank: &Bank,
    kinds: &[(String, Kind, &Router)],
    delay: Duration,
    spec: ReadersSpec,
) -> Result<(Frame, Frame)> {
    let cluster = bank.cluster();
    for replica in cluster.replicas() {
        cluster.link(replica)?.delay_toward(Direction::ToClient, delay);
    }
    // How long after their writes' acknowledgements sessions that ask any replica began to read.
    let thought: Mutex<Samples> = Mutex::default();
    let (readers, arrivals) = watched(cluster, &cluster.replicas(), |watchers| {
        side_by_side(bank, kinds, (spec, 2 * spec.rounds), |reader, call| {
            let asks_anybody = reader.promise == ANY;
            if call.number() % 2 == 0 {
                let transfer = reader.teller.transfer()?;
                if asks_anybody {
                    watchers.tell(&transfer, call.now());
                }
                reader.wrote = Some(transfer);
                call.rest(reader.thinks(spec.think));
                return Ok(());
            }
            if let Some(transfer) = reader.wrote.as_ref().filter(|_| asks_anybody) {
                let elapsed = transfer.acknowledged.elapsed().as_secs_f64();
                thought.lock().unwrap_or_else(PoisonError::into_inner).push(elapsed);
            }
            reader.read(0, call)
        })
    })?;
    let (thought, lag) = (thought.into_inner().unwrap_or_else(PoisonError::into_inner), arrivals.samples("lag"));
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
        .numbers("in time", "%", [100.0 - late(spec.wait.as_secs_f64())])
        .numbers(PATIENT, "%", [mean(PATIENT, "on replicas")])
        .numbers(HASTY, "%", [mean(HASTY, "on replicas")]);
    Ok((row, readers.sessions.everywhere("delay", "ms", delay.as_secs_f64() * 1e3)))
}

impl StaleSweep {
    /// Stale reads by delay.
    pub fn chart(&self, title: &str) -> Lines {
        let (lag, think) = (self.delays.samples("behind").median(), self.spec.think.as_secs_f64());
        Chart::lines(title)
            .x("delay of the wire", "ms")
            .y("stale reads of one's own writes", "%")
            .y_range(0.0, 105.0)
            .of(&self.sessions.except("promise", HASTY), "delay", "stale", "promise")
            .predicted_points("lags that outlast thoughts", self.delays.points("delay", "predicted"))
            // A session reads evenly spread over its time to think.
            .predicted("(delay + lag) ÷ think time", move |delay| 100.0 * ((delay / 1e3 + lag) / think).min(1.0))
    }

    /// Who answered the sessions that read by position.
    pub fn placement(&self, title: &str) -> Lines {
        let [think, wait] = [self.spec.think, self.spec.wait].map(|time| time.as_secs_f64());
        let lag = self.delays.samples("behind").median();
        // Each replica is given that time to get there.
        let on_replicas = move |delay: f64| 100.0 * (1.0 - ((delay / 1e3 + lag - wait) / think).clamp(0.0, 1.0));
        Chart::lines(title)
            .x("delay of the wire", "ms")
            .y("reads that replicas answer", "%")
            .y_range(0.0, 105.0)
            .of(&self.sessions.except("promise", ANY), "delay", "on replicas", "promise")
            .predicted("1 − (delay + lag − wait) ÷ think time", on_replicas)
    }
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
        for (replica, delay) in cluster.replicas().into_iter().zip(delays) {
            cluster.link(replica)?.delay_toward(Direction::ToClient, *delay);
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
                call.rest(reader.thinks(spec.think));
                reader.read((turn - 1) as usize % 2, call)
            })
        };
        kinds.chunks(SIDE_BY_SIDE).map(at_once).collect()
    };
    let all = bank.watched(Duration::from_millis(60), run);
    cluster.heal();
    let (sessions, reads) = all?.into_iter().map(|one| (one.sessions, one.reads)).collect();
    Ok(Readers { sessions, reads })
}

//! Clients that read what they have just written: how often they see an older state, by the delay of the wire and by
//! what their sessions were promised.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::bank::{Bank, Teller};
use super::lag::Watchers;
use crate::replica::{Broken, Consistency, Router, RouterSpec, SessionStats, Skip, check_session};
use lab::chart::{Chart, Latencies, Lines};
use lab::link::Direction;
use lab::{Error, Latency, OrFail, Result, Samples, Table, joined};

/// Clients, and what they do.
#[derive(Debug, Clone, Copy)]
pub struct ReadersSpec {
    /// Sessions at work at the same time.
    pub sessions: usize,
    /// How often each writes and then reads.
    pub rounds: usize,
    /// They read up to this long after their write, evenly spread.
    pub think: Duration,
    /// How long a read waits on a replica before it goes to the primary.
    pub wait: Duration,
    /// The seed.
    pub seed: u64,
}

/// What sessions of one kind saw, all together.
#[derive(Debug, Clone)]
pub struct Readers {
    /// What they were promised.
    pub consistency: Consistency,
    /// The step that they leave out.
    pub skip: Option<Skip>,
    /// What was not kept.
    pub broken: Broken,
    /// … by each session.
    pub by_session: Vec<Broken>,
    /// Reads by server, and what they took.
    pub stats: SessionStats,
    /// How long reads took.
    pub latency: Latency,
}

/// One delay of a sweep.
#[derive(Debug, Clone)]
pub struct AtDelay {
    /// The delay that was set, in seconds.
    pub delay: f64,
    /// How far replicas were behind meanwhile, write by write: when they said that they had reached its position.
    pub lag: Samples,
    /// How long after their writes' acknowledgements sessions that ask any replica began to read.
    pub thought: Samples,
    /// Any replica.
    pub eventual: Readers,
    /// By position.
    pub session: Readers,
    /// By position, without waiting for a replica.
    pub hasty: Readers,
}

/// Stale reads by delay.
#[derive(Debug, Clone)]
pub struct StaleSweep {
    /// The median lag beyond the delay of the wire, in seconds: the median of all delays'.
    pub lag: f64,
    /// Each delay.
    pub delays: Vec<AtDelay>,
    spec: ReadersSpec,
}

impl Readers {
    /// Per cent of the reads of something that the session wrote itself which showed an older state.
    pub fn stale(&self) -> f64 {
        100.0 * self.broken.own_lost as f64 / self.broken.own_reads as f64
    }

    /// Per cent of the reads that replicas answered.
    pub fn on_replicas(&self, primary: usize) -> f64 {
        let all: u64 = self.stats.reads.iter().sum();
        let own = self.stats.reads.get(primary).copied().unwrap_or(0);
        100.0 * (all - own) as f64 / all as f64
    }

    /// Its name, for a table or a chart.
    pub fn name(&self) -> String {
        let promised = match self.consistency {
            Consistency::Eventual => "any replica",
            Consistency::Pinned => "one replica each",
            Consistency::ReadYourWrites => "read your writes",
            Consistency::MonotonicReads => "monotonic reads",
            Consistency::Session => "both, by position",
            Consistency::Primary => "the primary",
        };
        match self.skip {
            None => promised.into(),
            Some(Skip::Wait) => "… without waiting".into(),
            Some(Skip::WriteToken) => "… forgetting writes".into(),
            Some(Skip::ReadToken) => "… forgetting reads".into(),
            Some(other) => format!("… without {other:?}"),
        }
    }
}

/// A router that sends reads to replicas however late and slow they are: here the sessions' promise decides, and nothing else.
fn patient(wait: Duration) -> RouterSpec {
    let ever = Duration::from_secs(5);
    RouterSpec { wait, max_lag: ever, silence: ever, ..RouterSpec::default() }
}

/// Many sessions at once; each teller does `work` and returns how long its reads took.
fn readers(
    bank: &Bank,
    router: &Router,
    (consistency, skip): (Consistency, Option<Skip>),
    spec: ReadersSpec,
    work: impl Fn(&mut Teller, &mut Latency) -> Result<()> + Sync,
) -> Result<Readers> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..spec.sessions)
            .map(|_| {
                let work = &work;
                scope.spawn(move || -> Result<_> {
                    let mut latency = Latency::new();
                    let mut teller = bank.teller(router.session(consistency).without(skip), spec.seed);
                    (0..spec.rounds).try_for_each(|_| work(&mut teller, &mut latency))?;
                    let (history, stats) = teller.settle();
                    Ok((check_session(&history), stats, latency))
                })
            })
            .collect();
        let (broken, stats, latency) = (Broken::default(), SessionStats::default(), Latency::new());
        let mut all = Readers { consistency, skip, broken, by_session: Vec::new(), stats, latency };
        for thread in threads {
            let (broken, stats, latency) = joined("read", thread.join())?;
            all.broken.add(&broken);
            all.by_session.push(broken);
            all.stats.add(&stats);
            all.latency.merge(&latency);
        }
        Ok(all)
    })
}

fn timed<T>(latency: &mut Latency, read: impl FnOnce() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    let value = read()?;
    latency.record(began.elapsed());
    Ok(value)
}

/// Writes, thinks and reads at every delay of the wires, from any replica and by position.
pub fn stale_sweep(bank: &Bank, delays: &[Duration], spec: ReadersSpec) -> StaleSweep {
    sweep(bank, delays, spec).or_fail()
}

fn sweep(bank: &Bank, delays: &[Duration], spec: ReadersSpec) -> Result<StaleSweep> {
    let cluster = bank.cluster();
    cluster.heal();
    cluster.catch_up(Duration::from_secs(30))?;
    let run = || -> Result<Vec<AtDelay>> {
        let [router, hasty] = [spec.wait, Duration::ZERO].map(|wait| Router::new(cluster, patient(wait)));
        let (router, hasty) = (router?, hasty?);
        let at_delay = |delay: Duration| -> Result<AtDelay> {
            for replica in cluster.replicas() {
                cluster.link(replica)?.delay_toward(Direction::ToClient, delay);
            }
            let thought = Mutex::new(Samples::default());
            let ((eventual, session, hasty), arrivals) =
                Watchers::during(cluster, &cluster.replicas(), Instant::now(), |watchers| {
                    let arm = |router, consistency| {
                        readers(bank, router, (consistency, None), spec, |teller, latency| {
                            let transfer = teller.transfer()?;
                            let asks_anybody = consistency == Consistency::Eventual;
                            if asks_anybody {
                                watchers.tell(&transfer.position, transfer.acknowledged);
                            }
                            std::thread::sleep(spec.think.mul_f64(teller.chance()));
                            if asks_anybody {
                                let elapsed = transfer.acknowledged.elapsed().as_secs_f64();
                                thought.lock().unwrap_or_else(PoisonError::into_inner).push(elapsed);
                            }
                            let (account, _) = transfer.accounts[0];
                            timed(latency, || teller.read(account)).map(drop)
                        })
                    };
                    // Side by side: all see the same wires and the same noise.
                    std::thread::scope(|scope| {
                        let eventual = scope.spawn(|| arm(&router, Consistency::Eventual));
                        let hasty = scope.spawn(|| arm(&hasty, Consistency::Session));
                        let session = arm(&router, Consistency::Session);
                        let (eventual, hasty) = (joined("read", eventual.join()), joined("read", hasty.join()));
                        Ok((eventual?, session?, hasty?))
                    })
                })?;
            let lag = arrivals.iter().flatten().map(|arrival| arrival.lag).collect();
            let thought = thought.into_inner().unwrap_or_else(PoisonError::into_inner);
            Ok(AtDelay { delay: delay.as_secs_f64(), lag, thought, eventual, session, hasty })
        };
        delays.iter().map(|delay| at_delay(*delay)).collect()
    };
    let delays = bank.watched(Duration::from_millis(60), run);
    cluster.heal();
    let delays = delays?;
    let lag = delays.iter().map(|at| at.lag.median() - at.delay).collect::<Samples>().median();
    Ok(StaleSweep { lag, delays, spec })
}

impl AtDelay {
    /// Per cent of the reads from any replica that are stale if those come before the write has: of all times to think and
    /// all lags, the pairs in which the lag is the longer one.
    pub fn predicted_stale(&self) -> f64 {
        let longer = |thought: &f64| self.lag.values().iter().filter(|lag| *lag > thought).count();
        let pairs = self.thought.len() * self.lag.len();
        100.0 * self.thought.values().iter().map(longer).sum::<usize>() as f64 / pairs as f64
    }
}

impl StaleSweep {
    /// Per cent of the reads that are stale if a session reads evenly spread over its time to think, and a replica is
    /// behind by `delay` seconds and the lag beyond it.
    pub fn predicted_stale(delay: f64, lag: f64, think: f64) -> f64 {
        100.0 * ((delay + lag) / think).min(1.0)
    }

    /// Per cent of the reads that replicas can answer, if each is given `wait` seconds to get there.
    pub fn predicted_on_replicas(delay: f64, lag: f64, think: f64, wait: f64) -> f64 {
        100.0 * (1.0 - ((delay + lag - wait) / think).clamp(0.0, 1.0))
    }

    /// Stale reads by delay.
    pub fn chart(&self, title: &str) -> Lines {
        let (lag, think) = (self.lag, self.spec.think.as_secs_f64());
        let points = |of: fn(&AtDelay) -> &Readers| {
            let stale = |broken: &Broken| 100.0 * broken.own_lost as f64 / broken.own_reads as f64;
            let spread = |readers: &Readers| readers.by_session.iter().map(stale).collect::<Samples>();
            let point = |at: &AtDelay| {
                let (_, low, high) = spread(of(at)).median_and_quartiles();
                (at.delay * 1e3, of(at).stale(), low, high)
            };
            self.delays.iter().map(point).collect::<Vec<_>>()
        };
        Chart::lines(title)
            .x("delay of the wire", "ms")
            .y("stale reads of one's own writes", "%")
            .y_range(0.0, 105.0)
            .line_with_spread("any replica", points(|at| &at.eventual))
            .line_with_spread("by position", points(|at| &at.session))
            .predicted_points(
                "lags that outlast thoughts",
                self.delays.iter().map(|at| (at.delay * 1e3, at.predicted_stale())),
            )
            .predicted("(delay + lag) ÷ think time", move |delay| Self::predicted_stale(delay / 1e3, lag, think))
    }

    /// Who answered the sessions that read by position.
    pub fn placement(&self, title: &str) -> Lines {
        let (lag, think, wait) = (self.lag, self.spec.think.as_secs_f64(), self.spec.wait.as_secs_f64());
        Chart::lines(title)
            .x("delay of the wire", "ms")
            .y("reads that replicas answer", "%")
            .y_range(0.0, 105.0)
            .line("by position", self.delays.iter().map(|at| (at.delay * 1e3, at.session.on_replicas(0))))
            .line("without waiting", self.delays.iter().map(|at| (at.delay * 1e3, at.hasty.on_replicas(0))))
            .predicted("1 − (delay + lag − wait) ÷ think time", move |delay| {
                Self::predicted_on_replicas(delay / 1e3, lag, think, wait)
            })
    }

    /// How far the share of stale reads was from its prediction at each delay, in points.
    pub fn stale_error(&self) -> Samples {
        self.delays.iter().map(|at| (at.eventual.stale() - at.predicted_stale()).abs()).collect()
    }

    /// Stale reads from any replica at the longest delay, in per cent.
    pub fn worst(&self) -> f64 {
        self.delays.last().map_or(f64::NAN, |at| at.eventual.stale())
    }

    /// How many more of the reads by position replicas answer because a session waits for them: in points, at each delay up to
    /// half of the time to think. Beyond that, a wait may be too short for anything.
    pub fn won_by_waiting(&self) -> Samples {
        let near = self.delays.iter().filter(|at| 0.0 < at.delay && at.delay <= self.spec.think.as_secs_f64() / 2.0);
        near.map(|at| at.session.on_replicas(0) - at.hasty.on_replicas(0)).collect()
    }

    /// Reads by position that broke their promise at any delay, and at how many was looked.
    pub fn broken(&self) -> (u64, u64) {
        let of =
            |of: fn(&Broken) -> u64| self.delays.iter().map(|at| of(&at.session.broken) + of(&at.hasty.broken)).sum();
        (of(Broken::all), of(|broken| broken.own_reads))
    }

    /// Per cent of the reads by position that replicas answered, at the shortest and at the longest delay.
    pub fn on_replicas(&self) -> (f64, f64) {
        let of = |at: Option<&AtDelay>| at.map_or(f64::NAN, |at| at.session.on_replicas(0));
        (of(self.delays.first()), of(self.delays.last()))
    }
}

/// So many kinds of sessions are at work at once.
const SIDE_BY_SIDE: usize = 3;

/// Every kind of session, on replicas that are differently far behind.
pub fn policies(
    bank: &Bank,
    delays: &[Duration],
    kinds: &[(Consistency, Option<Skip>)],
    spec: ReadersSpec,
) -> Vec<Readers> {
    let cluster = bank.cluster();
    let run = || -> Result<Vec<Readers>> {
        for (replica, delay) in cluster.replicas().into_iter().zip(delays) {
            cluster.link(replica)?.delay_toward(Direction::ToClient, *delay);
        }
        let router_spec = patient(spec.wait);
        let router = Router::new(cluster, router_spec)?;
        let arm = |kind| {
            readers(bank, &router, kind, spec, |teller, latency| {
                // A few accounts, so that everybody reads what others have just written.
                let [(debit, _), (credit, _)] = teller.transfer_among(4)?.accounts;
                for account in [debit, credit].repeat(5) {
                    timed(latency, || teller.read(account))?;
                    std::thread::sleep(spec.think.mul_f64(teller.chance()));
                }
                Ok(())
            })
        };
        let mut all = Vec::new();
        for kinds in kinds.chunks(SIDE_BY_SIDE) {
            std::thread::scope(|scope| -> Result<()> {
                let arms: Vec<_> = kinds.iter().map(|&kind| scope.spawn(move || arm(kind))).collect();
                arms.into_iter().try_for_each(|thread| joined("read", thread.join()).map(|readers| all.push(readers)))
            })?;
        }
        Ok(all)
    };
    let all = bank.watched(Duration::from_millis(60), run);
    cluster.heal();
    all.or_fail()
}

/// What each kind of session saw.
pub fn policy_table(readers: &[Readers]) -> Table {
    let counts = |of: fn(&Readers) -> u64| readers.iter().map(of).collect::<Vec<_>>();
    Table::new("What sessions were promised, and what they saw")
        .text("promise", readers.iter().map(Readers::name))
        .counts("reads", "", counts(|readers| readers.stats.reads.iter().sum()))
        .counts("own writes missed", "", counts(|readers| readers.broken.own_lost))
        .counts("went backwards", "", counts(|readers| readers.broken.backwards))
        .numbers("on replicas", "%", readers.iter().map(|readers| readers.on_replicas(0)))
        .counts("waited", "", counts(|readers| readers.stats.waited))
        .counts("in vain", "", counts(|readers| readers.stats.timed_out))
}

/// How long their reads took.
pub fn policy_latencies(readers: &[Readers], title: &str) -> Latencies {
    readers
        .iter()
        .filter(|readers| readers.skip.is_none())
        .fold(Chart::latencies(title), |chart, readers| chart.latency(readers.name(), &readers.latency))
}

/// Those of one kind.
pub fn of_kind(readers: &[Readers], consistency: Consistency, skip: Option<Skip>) -> &Readers {
    let found = readers.iter().find(|readers| readers.consistency == consistency && readers.skip == skip);
    found.ok_or_else(|| Error::new("find what sessions saw", format!("there were none of {consistency:?}"))).or_fail()
}

//! Replication lag, transaction by transaction, while the load of writes rises past what the wire can carry; and what
//! the replica's own lag display says when the wire goes silent.

use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use mysql::Conn;
use mysql::prelude::Queryable;

use super::bank::{Bank, Hand};
use crate::replica::cluster::Cluster;
use crate::replica::{Position, Router, RouterSpec};
use lab::chart::{Chart, Latencies, Lines};
use lab::link::Direction;
use lab::{Doing, Error, Latency, OpenLoop, OrFail, Result, Samples, joined};

/// A transaction, and when a replica showed it.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// When it was acknowledged, in seconds from the start.
    pub acknowledged: f64,
    /// How much later the replica showed it, in seconds.
    pub lag: f64,
}

/// One load of a sweep.
#[derive(Debug, Clone)]
pub struct LoadLag {
    /// Transactions a second that were asked for, as a share of what the wire carries.
    pub asked: f64,
    /// Those that were acknowledged, as a share of what the wire carries.
    pub load: f64,
    /// For how long, in seconds.
    pub seconds: f64,
    /// Every transaction on every replica.
    pub arrivals: Vec<Arrival>,
}

/// What a sweep is made of.
#[derive(Debug, Clone, Copy)]
pub struct LagSpec<'a> {
    /// What each replication link carries in a second.
    pub bytes_per_second: u64,
    /// Bytes of each transaction's note, which is most of it.
    pub note: usize,
    /// Loads, as shares of what the link carries.
    pub loads: &'a [f64],
    /// How long each lasts.
    pub lasting: Duration,
    /// The seed.
    pub seed: u64,
}

/// Lag by load.
#[derive(Debug, Clone)]
pub struct LagSweep {
    /// Bytes of one transaction on the wire, measured.
    pub bytes: f64,
    /// Transactions a second that the wire carries: its bytes a second over the bytes of one.
    pub capacity: f64,
    /// Each load.
    pub loads: Vec<LoadLag>,
}

/// Sends each acknowledged transaction to watchers that wait for it on every replica.
pub(super) struct Watchers {
    senders: Vec<Sender<(Position, Instant)>>,
}

impl Watchers {
    /// Watches while some work is done; returns each replica's arrivals beside what the work returned.
    pub(super) fn during<T>(
        cluster: &Cluster,
        replicas: &[usize],
        start: Instant,
        work: impl FnOnce(&Watchers) -> Result<T>,
    ) -> Result<(T, Vec<Vec<Arrival>>)> {
        let connections: Vec<Conn> =
            replicas.iter().map(|&replica| cluster.connect(replica, Duration::from_secs(60))).collect::<Result<_>>()?;
        std::thread::scope(|scope| {
            let (mut senders, mut watching) = (Vec::new(), Vec::new());
            for (connection, &replica) in connections.into_iter().zip(replicas) {
                let (sender, receiver) = mpsc::channel();
                senders.push(sender);
                watching.push(scope.spawn(move || watch(cluster, replica, connection, &receiver, start)));
            }
            let watchers = Watchers { senders };
            let value = work(&watchers);
            drop(watchers);
            let arrivals: Result<Vec<_>> =
                watching.into_iter().map(|thread| joined("watch a replica", thread.join())).collect();
            Ok((value?, arrivals?))
        })
    }

    pub(super) fn tell(&self, position: &Position, acknowledged: Instant) {
        for sender in &self.senders {
            // A watcher that failed reports that itself.
            let _ = sender.send((position.clone(), acknowledged));
        }
    }
}

fn watch(
    cluster: &Cluster,
    replica: usize,
    mut connection: Conn,
    told: &Receiver<(Position, Instant)>,
    start: Instant,
) -> Result<Vec<Arrival>> {
    let dialect = cluster.server(replica)?.dialect();
    let mut arrivals = Vec::new();
    for (position, acknowledged) in told {
        let question = dialect.wait_for_position(&position.to_string(), 30.0);
        let answer: Option<Option<i64>> = connection.query_first(question).doing("wait for a transaction")?;
        let lag = acknowledged.elapsed().as_secs_f64();
        if answer.flatten() != Some(0) {
            return Err(Error::new("wait for a transaction", format!("{position} did not come within 30 s"))
                .at(cluster.name(replica)));
        }
        arrivals.push(Arrival { acknowledged: acknowledged.saturating_duration_since(start).as_secs_f64(), lag });
    }
    Ok(arrivals)
}

/// Connections to the primary with a writer each, to be taken and given back.
pub(super) struct Desk {
    free: Mutex<Vec<(Conn, Hand)>>,
}

impl Desk {
    pub(super) fn open(bank: &Bank, writers: usize, seed: u64) -> Result<Self> {
        let cluster = bank.cluster();
        let free = (0..writers)
            .map(|_| Ok((cluster.connect(cluster.primary(), Duration::from_secs(60))?, bank.hand(seed))))
            .collect::<Result<_>>()?;
        Ok(Self { free: Mutex::new(free) })
    }

    /// One transfer by whoever is free; nothing where all have failed.
    pub(super) fn transfer(&self, note: usize) -> Option<Result<super::bank::Transfer>> {
        let (mut connection, mut hand) = self.lock().pop()?;
        let done = hand.transfer_on(&mut connection, note);
        if done.is_ok() {
            self.lock().push((connection, hand));
        }
        Some(done)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Conn, Hand)>> {
        self.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Writes at each load in turn over throttled links, and times every transaction's way to every replica.
pub fn lag_sweep(bank: &Bank, spec: LagSpec<'_>) -> LagSweep {
    sweep(bank, spec).or_fail()
}

fn sweep(bank: &Bank, spec: LagSpec<'_>) -> Result<LagSweep> {
    let cluster = bank.cluster();
    let replicas = cluster.replicas();
    let bytes = bytes_of_one(bank, spec)?;
    let capacity = spec.bytes_per_second as f64 / bytes;
    for &replica in &replicas {
        cluster.link(replica)?.throttle(spec.bytes_per_second);
    }
    let run = || -> Result<Vec<LoadLag>> {
        spec.loads.iter().map(|&asked| one_load(bank, &replicas, spec, asked, capacity)).collect()
    };
    let loads = run();
    cluster.heal();
    Ok(LagSweep { bytes, capacity, loads: loads? })
}

/// What one transaction weighs on the wire, heartbeats of nobody among them.
fn bytes_of_one(bank: &Bank, spec: LagSpec<'_>) -> Result<f64> {
    const MANY: u64 = 40;
    let cluster = bank.cluster();
    cluster.catch_up(Duration::from_secs(30))?;
    let replica =
        *cluster.replicas().first().ok_or_else(|| Error::new("weigh a transaction", "there is no replica"))?;
    let link = cluster.link(replica)?;
    let before = link.stats().to_client;
    let desk = Desk::open(bank, 1, spec.seed)?;
    for _ in 0..MANY {
        desk.transfer(spec.note).transpose()?;
    }
    cluster.catch_up(Duration::from_secs(30))?;
    Ok((link.stats().to_client - before) as f64 / MANY as f64)
}

fn one_load(bank: &Bank, replicas: &[usize], spec: LagSpec<'_>, asked: f64, capacity: f64) -> Result<LoadLag> {
    const WRITERS: usize = 6;
    let cluster = bank.cluster();
    cluster.catch_up(Duration::from_secs(60))?;
    let desk = Desk::open(bank, WRITERS, spec.seed)?;
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let start = Instant::now();
    let work = |watchers: &Watchers| {
        let load = OpenLoop::per_second(asked * capacity).lasting(spec.lasting).workers(WRITERS);
        load.run(|_| match desk.transfer(spec.note) {
            Some(Ok(transfer)) => watchers.tell(&transfer.position, transfer.acknowledged),
            Some(Err(error)) => *failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error),
            None => {}
        })?;
        Ok(start.elapsed().as_secs_f64())
    };
    let (seconds, arrivals) = Watchers::during(cluster, replicas, start, work)?;
    if let Some(error) = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        return Err(error);
    }
    let written = arrivals.first().map_or(0, Vec::len) as f64;
    let arrivals = arrivals.into_iter().flatten().collect();
    Ok(LoadLag { asked, load: written / seconds / capacity, seconds, arrivals })
}

impl LoadLag {
    /// The lags, in seconds.
    pub fn lags(&self) -> Samples {
        self.arrivals.iter().map(|arrival| arrival.lag).collect()
    }

    fn latency(&self) -> Latency {
        let mut latency = Latency::new();
        for arrival in &self.arrivals {
            latency.record(Duration::from_secs_f64(arrival.lag));
        }
        latency
    }

    /// The median lag that a queue has whose server is slower than its arrivals: it grows by (load − 1) seconds a
    /// second.
    pub fn predicted(&self) -> f64 {
        (self.load - 1.0).max(0.0) * self.seconds / 2.0
    }
}

impl LagSweep {
    /// The distribution of lag, one row a load.
    pub fn distributions(&self, title: &str) -> Latencies {
        let mut chart = Chart::latencies(title);
        for load in &self.loads {
            let name = format!("{:.0} % of the wire", load.load * 100.0);
            chart = chart.latency(&name, &load.latency());
            if load.predicted() > 0.0 {
                chart = chart.predicted(&name, load.predicted());
            }
        }
        chart
    }

    /// Lag over time within each load.
    pub fn over_time(&self, title: &str) -> Lines {
        let mut chart = Chart::lines(title).x("time since the load began", "s").y("lag", "s").from_zero();
        for load in &self.loads {
            let mut arrivals = load.arrivals.clone();
            arrivals.sort_by(|a, b| a.acknowledged.total_cmp(&b.acknowledged));
            let step = load.seconds / 12.0;
            let bins = (0..12).filter_map(|bin| {
                let (from, to) = (step * f64::from(bin), step * f64::from(bin + 1));
                let within = arrivals.iter().filter(|arrival| (from..to).contains(&arrival.acknowledged));
                let lags: Samples = within.map(|arrival| arrival.lag).collect();
                let (median, low, high) = lags.median_and_quartiles();
                (!lags.is_empty()).then_some(((from + to) / 2.0, median, low, high))
            });
            chart = chart.line_with_spread(format!("{:.0} %", load.load * 100.0), bins.collect::<Vec<_>>());
        }
        let fastest = self.loads.iter().map(|load| load.load).fold(1.0, f64::max) - 1.0;
        chart.predicted("(load − 1) × time", move |time| fastest * time)
    }

    /// Measured over predicted median lag of every load beyond what the wire carries; what the lightest load has comes on
    /// top of the backlog.
    pub fn over_predicted(&self) -> Samples {
        let beyond = self.loads.iter().filter(|load| load.asked > 1.1);
        beyond.map(|load| load.lags().median() / (load.predicted() + self.lightest())).collect()
    }

    /// The median lag of the lightest load.
    pub fn lightest(&self) -> f64 {
        self.loads.iter().min_by(|a, b| a.load.total_cmp(&b.load)).map_or(f64::NAN, |load| load.lags().median())
    }

    /// The median lag of the heaviest load.
    pub fn heaviest(&self) -> f64 {
        self.loads.iter().max_by(|a, b| a.load.total_cmp(&b.load)).map_or(f64::NAN, |load| load.lags().median())
    }
}

/// What three clocks said about one replica while its wire was silent.
#[derive(Debug, Clone)]
pub struct Silence {
    /// From when to when, in seconds.
    pub silent: (f64, f64),
    /// What each said, again and again.
    pub samples: Vec<Opinions>,
}

/// What three clocks said about one replica's lag at one time, all in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Opinions {
    /// When.
    pub at: f64,
    /// The replica itself, if it said anything.
    pub own: Option<f64>,
    /// The router, if the replica answered it.
    pub router: Option<f64>,
    /// The truth: how long ago the first transaction was acknowledged that the replica did not show.
    pub truth: f64,
}

/// Silences a replica's wire for a while under a steady load, and asks everybody how far it is behind.
pub fn silence(bank: &Bank, lasting: Duration, seed: u64) -> Silence {
    silenced(bank, lasting, seed).or_fail()
}

fn silenced(bank: &Bank, lasting: Duration, seed: u64) -> Result<Silence> {
    let cluster = bank.cluster();
    let replica = *cluster.replicas().first().ok_or_else(|| Error::new("silence a replica", "there is none"))?;
    cluster.catch_up(Duration::from_secs(30))?;
    let router = Router::new(cluster, RouterSpec::default())?;
    let margin = Duration::from_millis(200);
    let desk = Desk::open(bank, 2, seed)?;
    let start = Instant::now();
    let now = || start.elapsed().as_secs_f64();
    let work = |watchers: &Watchers| -> Result<_> {
        std::thread::scope(|scope| {
            let load = OpenLoop::per_second(60.0).lasting(lasting + 2 * margin).workers(2);
            let desk = &desk;
            let writing = scope.spawn(move || {
                load.run(|_| {
                    if let Some(Ok(transfer)) = desk.transfer(16) {
                        watchers.tell(&transfer.position, transfer.acknowledged);
                    }
                })
            });
            let asking = || -> Result<_> {
                let server = cluster.server(replica)?;
                let (mut samples, mut silent) = (Vec::new(), (None, None));
                while now() < (lasting + 2 * margin).as_secs_f64() {
                    if silent.0.is_none() && now() > margin.as_secs_f64() {
                        cluster.link(replica)?.half_open_toward(Direction::ToClient);
                        silent.0 = Some(now());
                    }
                    if silent.1.is_none() && now() > (margin + lasting).as_secs_f64() {
                        cluster.link(replica)?.heal();
                        silent.1 = Some(now());
                    }
                    let at = now();
                    let own = server.try_seconds_behind()?.parse::<f64>().ok();
                    samples.push((at, own, router.lag(replica).map(|lag| lag.as_secs_f64())));
                    std::thread::sleep(Duration::from_millis(40));
                }
                Ok((samples, silent))
            };
            let asked = asking();
            cluster.heal();
            writing.join().map_err(|_| Error::new("write", "a thread of it panicked"))??;
            asked
        })
    };
    let ((samples, silent), arrivals) = Watchers::during(cluster, &[replica], start, work)?;
    let arrivals = &arrivals[0];
    // Behind since the first transaction that was acknowledged by then and arrived later.
    let truth = |at: f64| {
        let unseen = arrivals.iter().filter(|one| one.acknowledged <= at && one.acknowledged + one.lag > at);
        unseen.map(|one| at - one.acknowledged).fold(0.0, f64::max)
    };
    let samples = samples.into_iter().map(|(at, own, router)| Opinions { at, own, router, truth: truth(at) }).collect();
    Ok(Silence { silent: (silent.0.unwrap_or(0.0), silent.1.unwrap_or(0.0)), samples })
}

impl Silence {
    /// What each said, over time.
    pub fn chart(&self, title: &str) -> Lines {
        let of = |which: fn(&Opinions) -> Option<f64>| {
            self.samples.iter().filter_map(|sample| Some((sample.at, which(sample)?))).collect::<Vec<_>>()
        };
        let (from, to) = self.silent;
        Chart::lines(title)
            .x("time", "s")
            .y("lag", "s")
            .from_zero()
            .line("the truth", of(|sample| Some(sample.truth)))
            .line("the router's heartbeat", of(|sample| sample.router))
            .line("Seconds_Behind_Master", of(|sample| sample.own))
            .predicted_points("time since the silence began", [(from, 0.0), (to, to - from)])
            .mark_x("wire silent", from)
            .mark_x("heals", to)
    }

    /// The largest lag that the replica itself admitted while its wire was silent, once it had replayed what it had.
    pub fn admitted(&self) -> f64 {
        let late = self.during().filter(|sample| sample.at > self.silent.0 + 0.2);
        late.filter_map(|sample| sample.own).fold(0.0, f64::max)
    }

    /// The largest true lag then.
    pub fn true_lag(&self) -> f64 {
        self.during().map(|sample| sample.truth).fold(0.0, f64::max)
    }

    /// How far the router was off, at each look then, in per cent of the largest true lag.
    pub fn router_error(&self) -> Samples {
        let all = self.true_lag();
        self.during().filter_map(|sample| Some(100.0 * (sample.router? - sample.truth).abs() / all)).collect()
    }

    fn during(&self) -> impl Iterator<Item = &Opinions> {
        self.samples.iter().filter(|sample| self.silent.0 <= sample.at && sample.at < self.silent.1)
    }
}

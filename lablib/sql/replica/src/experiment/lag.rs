//! Replication lag, transaction by transaction, while the load of writes rises past what the wire can carry; and what
//! the replica's own lag display says when the wire goes silent.

use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use super::AT_MOST;
use super::bank::{Bank, Transfer};
use crate::cluster::Cluster;
use crate::{Position, Router, RouterSpec};
use lab::chart::{Chart, Latencies, Lines};
use lab::link::Direction;
use lab::{Crowd, Doing, Error, Frame, Result, Row, Samples};

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
    pub seed: u64,
}

/// Lag by load.
#[derive(Debug, Clone)]
pub struct LagSweep {
    /// Bytes of one transaction on the wire, measured.
    pub bytes: f64,
    /// A row for each load, as a share of what the wire carries: `asked` for, and `written`; the median `lag`, and the one that a queue
    /// has whose server is slower than its arrivals (`predicted`): it grows by (load − 1) seconds a second.
    pub loads: Frame,
    /// A row for each transaction on each replica, by `load`: when it was acknowledged (`at`, in twelve steps), and its `lag`.
    pub arrivals: Frame,
}

/// Sends each acknowledged transaction to those who wait for it on every replica.
pub(super) struct Watchers(Vec<Sender<(Position, Instant, f64)>>);

impl Watchers {
    /// A transfer that was acknowledged so many seconds after the start.
    pub(super) fn tell(&self, transfer: &Transfer, at: f64) {
        for watcher in &self.0 {
            // A watcher that failed reports that itself.
            let _ = watcher.send((transfer.position.clone(), transfer.acknowledged, at));
        }
    }
}

/// Watches replicas while some work is done: what that returned, and for each transaction that it told of and each replica when it was
/// `acknowledged`, and how much later the replica showed it (`lag`).
pub(super) fn watched<T>(
    cluster: &Cluster,
    replicas: &[usize],
    work: impl FnOnce(&Watchers) -> Result<T>,
) -> Result<(T, Frame)> {
    let (watchers, told): (Vec<_>, Vec<_>) = replicas.iter().map(|_| channel()).unzip();
    let watching = replicas
        .iter()
        .zip(told)
        .map(|(&replica, told)| Ok((replica, cluster.connect(replica, Duration::from_secs(60))?, told)));
    let watching = Crowd::holding(watching.collect::<Result<Vec<_>>>()?).times(u64::MAX);
    let watchers = Watchers(watchers);
    let (done, ran) = watching.within(AT_MOST).during(
        // The watchers end when nobody can tell them anything.
        move || work(&watchers),
        |(replica, connection, told), call| {
            call.note_or_missing("lag", "s", None);
            let Ok((position, acknowledged, at)) = told.recv() else {
                call.last();
                return Ok(());
            };
            let question = cluster.server(*replica)?.dialect().wait_for_position(&position.to_string(), 30.0);
            let answer: Option<Option<i64>> = connection.query_first(question).doing("wait for a transaction")?;
            call.note("lag", "s", acknowledged.elapsed().as_secs_f64());
            call.note("acknowledged", "s", at);
            if answer.flatten() != Some(0) {
                let cause = format!("{position} did not come within 30 s");
                return Err(Error::new("wait for a transaction", cause).at(cluster.name(*replica)));
            }
            Ok(())
        },
    )?;
    Ok((done, ran.frame.having("lag").select(["acknowledged", "lag"])))
}

/// Writes at each load in turn over throttled links, and times every transaction's way to every replica.
pub fn lag_sweep(bank: &Bank, spec: LagSpec<'_>) -> Result<LagSweep> {
    let cluster = bank.cluster();
    let bytes = bytes_of_one(bank, spec)?;
    for replica in cluster.replicas() {
        cluster.link(replica)?.throttle(spec.bytes_per_second);
    }
    let loads = spec.loads.iter().map(|&asked| one_load(bank, spec, asked, spec.bytes_per_second as f64 / bytes));
    let loads: Result<(Frame, Frame)> = loads.collect();
    cluster.heal();
    let (loads, arrivals) = loads?;
    Ok(LagSweep { bytes, loads, arrivals })
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
    let mut writer = bank.writer(spec.seed)?;
    (0..MANY).try_for_each(|_| writer.transfer(spec.note).map(drop))?;
    cluster.catch_up(Duration::from_secs(30))?;
    Ok((link.stats().to_client - before) as f64 / MANY as f64)
}

/// One load's row, and its arrivals.
fn one_load(bank: &Bank, spec: LagSpec<'_>, asked: f64, capacity: f64) -> Result<(Frame, Frame)> {
    const WRITERS: usize = 6;
    let cluster = bank.cluster();
    cluster.catch_up(Duration::from_secs(60))?;
    let (ran, arrivals) = watched(cluster, &cluster.replicas(), |watchers| {
        Crowd::of(WRITERS)
            .with(|_| bank.writer(spec.seed))
            .arriving(asked * capacity, spec.lasting)
            .run(|writer, call| writer.transfer(spec.note).map(|transfer| watchers.tell(&transfer, call.now())))
    })?;
    let (written, step) = (ran.frame.height() as f64 / ran.seconds / capacity, ran.seconds / 12.0);
    let load = Frame::new()
        .numbers("asked", "", [asked])
        .numbers("written", "", [written])
        .numbers("lag", "s", [arrivals.samples("lag").median()])
        .numbers("predicted", "s", [(written - 1.0).max(0.0) * ran.seconds / 2.0]);
    let [load, arrivals] =
        [load, arrivals].map(|frame| frame.everywhere("load", "", format!("{:.0} % of the wire", written * 100.0)));
    let at = |one: Row<'_>| ((one.number("acknowledged") / step).floor() + 0.5) * step;
    Ok((load, arrivals.computed("at", "s", at)))
}

impl LagSweep {
    /// The distribution of lag, one row a load.
    pub fn distributions(&self, title: &str) -> Latencies {
        let beyond = self.loads.filter_by(|load| load.number("predicted") > 0.0);
        beyond.rows().fold(Chart::latencies(title).of(&self.arrivals, "lag", "load"), |chart, load| {
            chart.predicted(load.text("load"), load.number("predicted"))
        })
    }

    /// Lag over time within each load: median and quartiles in twelve steps.
    pub fn over_time(&self, title: &str) -> Lines {
        let fastest = self.loads.samples("written").max().max(1.0) - 1.0;
        Chart::lines(title)
            .x("time since the load began", "s")
            .from_zero()
            .of(&self.arrivals, "at", "lag", "load")
            .predicted("(load − 1) × time", move |time| fastest * time)
    }

    /// Measured over predicted median lag of every load beyond what the wire carries; what the lightest load has comes on
    /// top of the backlog.
    pub fn over_predicted(&self) -> Samples {
        let beyond = self.loads.filter_by(|load| load.number("asked") > 1.1);
        let lightest = self.lags().values().first().copied().unwrap_or(f64::NAN);
        beyond.samples("lag").over(&beyond.samples("predicted").map(|backlog| backlog + lightest))
    }

    /// The median lag of each load, the lightest load first.
    pub fn lags(&self) -> Samples {
        self.loads.sort("written").samples("lag")
    }
}

const TRUTH: &str = "the truth";
const ROUTER: &str = "the router's heartbeat";
const OWN: &str = "Seconds_Behind_Master";

/// What three clocks said about one replica while its wire was silent.
#[derive(Debug, Clone)]
pub struct Silence {
    /// What each said, again and again, about the replica's lag: itself (`Seconds_Behind_Master`), `the router's heartbeat`, if either
    /// said anything, and `the truth`: how long ago the first transaction was acknowledged that the replica did not show.
    pub opinions: Frame,
    /// When the wire was silent: `wire silent`, and `heals`.
    pub events: Frame,
}

/// Silences a replica's wire for a while under a steady load, and asks everybody how far it is behind.
pub fn silence(bank: &Bank, lasting: Duration, seed: u64) -> Result<Silence> {
    let cluster = bank.cluster();
    let replica = *cluster.replicas().first().ok_or_else(|| Error::new("silence a replica", "there is none"))?;
    cluster.catch_up(Duration::from_secs(30))?;
    let (server, link) = (cluster.server(replica)?, cluster.link(replica)?);
    let router = Router::new(cluster, RouterSpec::default())?;
    let margin = Duration::from_millis(200);
    let ran = watched(cluster, &[replica], |watchers| {
        let ran = Crowd::of(2)
            .with(|_| bank.writer(seed))
            .arriving(60.0, lasting + 2 * margin)
            .looking(Duration::from_millis(40), |look| {
                look.note_or_missing(OWN, "s", server.seconds_behind()?.parse().ok());
                look.note_or_missing(ROUTER, "s", router.lag(replica).map(|lag| lag.as_secs_f64()));
                Ok(())
            })
            .meanwhile(margin, "wire silent", || {
                link.half_open_toward(Direction::ToClient);
                Ok(())
            })
            .meanwhile(lasting, "heals", || {
                link.heal();
                Ok(())
            })
            .run(|writer, call| writer.transfer(16).map(|transfer| watchers.tell(&transfer, call.now())));
        cluster.heal();
        ran
    });
    let (ran, arrivals) = ran?;
    // Behind since the first transaction that was acknowledged by then and arrived later.
    let arrivals = arrivals.points("acknowledged", "lag");
    let truth = |look: Row<'_>| {
        let at = look.number("at");
        let unseen = arrivals.iter().filter(|(acknowledged, lag)| *acknowledged <= at && acknowledged + lag > at);
        unseen.map(|(acknowledged, _)| at - acknowledged).fold(0.0, f64::max)
    };
    Ok(Silence { opinions: ran.seen.computed(TRUTH, "s", truth), events: ran.events })
}

impl Silence {
    /// What each said, over time.
    pub fn chart(&self, title: &str) -> Lines {
        let (from, to) = self.silent();
        let chart = Chart::lines(title).x("time", "s").y("lag", "s").from_zero();
        let said = [TRUTH, ROUTER, OWN].into_iter();
        said.fold(chart, |chart, who| chart.line(who, self.opinions.points("at", who)))
            .predicted_points("time since the silence began", [(from, 0.0), (to, to - from)])
            .events(&self.events)
    }

    fn silent(&self) -> (f64, f64) {
        let [from, to] = ["wire silent", "heals"].map(|event| self.events.filter("event", event).number("ended"));
        (from, to)
    }

    /// What each said while the wire was silent.
    pub fn during(&self) -> Frame {
        let (from, to) = self.silent();
        self.opinions.within("at", from..to)
    }

    /// The largest lag that the replica itself admitted then, in seconds, once it had replayed what it had.
    pub fn admitted(&self) -> f64 {
        self.during().within("at", self.silent().0 + 0.2..f64::INFINITY).samples(OWN).max()
    }

    /// The largest true lag then, in seconds.
    pub fn true_lag(&self) -> f64 {
        self.during().samples(TRUTH).max()
    }

    /// How far the router was off, at each look then, in per cent of the largest true lag.
    pub fn router_error(&self) -> Samples {
        let (answered, all) = (self.during().having(ROUTER), self.true_lag());
        let off = |look: Row<'_>| 100.0 * (look.number(ROUTER) - look.number(TRUTH)).abs() / all;
        answered.computed("off", "%", off).samples("off")
    }
}

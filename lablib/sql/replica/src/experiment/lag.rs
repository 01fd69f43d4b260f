//! Replication lag, transaction by transaction, while the load of writes rises past what the wire can carry; and what
//! the replica's own lag display says when the wire goes silent.

use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use super::bank::{Bank, Transfer};
use super::{PATIENCE, healed};
use crate::cluster::Cluster;
use crate::{Position, Router, RouterSpec};
use lab::link::Direction;
use lab::{Crowd, Doing, Error, Frame, Result, Row};

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
    let (done, ran) = watching.within(PATIENCE).during(
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
///
/// A row for each load, as a share of what the wire carries: `asked` for, and `written`; the median `lag`, and the one that a queue has whose
/// server is slower than its arrivals (`predicted`): it grows by (load − 1) seconds a second. The `bytes` of one transaction on the wire,
/// measured. What the lightest load has comes on top of the backlog, and beside both together the lag is `over predicted`.
///
/// And a row for each transaction on each replica, by `load`: when it was acknowledged (`at`, in twelve steps), and its `lag`.
pub fn lag_sweep(bank: &Bank, spec: LagSpec<'_>) -> Result<(Frame, Frame)> {
    let cluster = bank.cluster();
    let bytes = bytes_of_one(bank, spec)?;
    let (loads, arrivals): (Frame, Frame) = healed(cluster, || {
        for link in cluster.links() {
            link.throttle(spec.bytes_per_second);
        }
        spec.loads.iter().map(|&asked| one_load(bank, spec, asked, spec.bytes_per_second as f64 / bytes)).collect()
    })?;
    let lightest = loads.sort("written").head(1).number("lag");
    let over_predicted = |load: Row<'_>| load.number("lag") / (load.number("predicted") + lightest);
    Ok((loads.everywhere("bytes", "B", bytes).computed("over predicted", "×", over_predicted), arrivals))
}

/// What one transaction weighs on the wire, heartbeats of nobody among them.
fn bytes_of_one(bank: &Bank, spec: LagSpec<'_>) -> Result<f64> {
    const MANY: u64 = 40;
    let cluster = bank.cluster();
    cluster.catch_up(Duration::from_secs(30))?;
    let link = cluster.link(cluster.replicas()[0])?;
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

const TRUTH: &str = "the truth";
const ROUTER: &str = "the router's heartbeat";
const OWN: &str = "Seconds_Behind_Master";

/// Silences a replica's wire for a while under a steady load, and asks everybody how far it is behind.
///
/// What each said, again and again, about the replica's lag: itself (`Seconds_Behind_Master`), `the router's heartbeat`, if either said
/// anything, and `the truth`: how long ago the first transaction was acknowledged that the replica did not show; by when that was, and by how
/// long the wire had been silent (`silent for`, below 0 before that); and how far the heartbeat was from the truth, in per cent of the largest
/// true lag while the wire was silent (`router off`). And what happened: `wire silent`, and `heals`.
pub fn silence(bank: &Bank, lasting: Duration, seed: u64) -> Result<(Frame, Frame)> {
    let cluster = bank.cluster();
    let replica = cluster.replicas()[0];
    cluster.catch_up(Duration::from_secs(30))?;
    let (server, link) = (cluster.server(replica)?, cluster.link(replica)?);
    let router = Router::new(cluster, RouterSpec::default())?;
    let margin = Duration::from_millis(200);
    let silenced = |watchers: &Watchers| {
        Crowd::of(2)
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
            .run(|writer, call| writer.transfer(16).map(|transfer| watchers.tell(&transfer, call.now())))
    };
    let (ran, arrivals) = watched(cluster, &[replica], |watchers| healed(cluster, || silenced(watchers)))?;
    // Behind since the first transaction that was acknowledged by then and arrived later.
    let arrivals = arrivals.points("acknowledged", "lag");
    let truth = |look: Row<'_>| {
        let at = look.number("at");
        let unseen = arrivals.iter().filter(|(acknowledged, lag)| *acknowledged <= at && acknowledged + lag > at);
        unseen.map(|(acknowledged, _)| at - acknowledged).fold(0.0, f64::max)
    };
    let began = ran.event_ended("wire silent");
    let opinions = ran.seen.computed(TRUTH, "s", truth).computed("silent for", "s", |look| look.number("at") - began);
    let most = opinions.within("silent for", 0.0..lasting.as_secs_f64()).samples(TRUTH).max();
    let off = |look: Row<'_>| 100.0 * (look.number(ROUTER) - look.number(TRUTH)).abs() / most;
    Ok((opinions.computed("router off", "%", off), ran.events))
}

//! The server is killed under load and comes back: how long does each pool's user notice?

use std::cell::RefCell;
use std::time::Duration;

use mysql_async::prelude::Queryable;

use crate::rivals::{AnyPool, Rival, Setup};
use lab::chart::Timeline;
use lab::runtime::block_on;
use lab::service::MariaDb;
use lab::{Chart, Crowd, Doing, Frame, Link, Result};

/// The outage.
#[derive(Debug, Clone, Copy)]
pub struct OutageSpec {
    pub size: usize,
    pub clients: usize,
    /// How long they work before the server is killed.
    pub before: Duration,
    /// How long it stays away, before it is started again.
    pub away: Duration,
    /// How long they go on after it is ready.
    pub after: Duration,
    /// How long a borrower waits at most.
    pub acquire_timeout: Duration,
}

/// The whole outage: all pools went through the same one.
#[derive(Debug, Clone)]
pub struct Outage {
    /// A row for each call: client, at, took, outcome, pool, and when it had `got` a connection (s).
    pub calls: Frame,
    /// What happened to the server: `killed`, and `back`.
    pub events: Frame,
    /// What the users of each pool noticed, a row for each pool.
    pub noticed: Frame,
}

/// Clients of all pools work on one server, which is killed and started again.
pub fn outage(server: &MariaDb, spec: OutageSpec) -> Result<Outage> {
    let setup = Setup { acquire_timeout: spec.acquire_timeout, careful: true, ..Setup::of(spec.size) };
    let open = |rival| -> Result<(Rival, AnyPool, Link)> {
        // A wire of its own, which counts how often a pool dials: whatever the pool says of itself, and whether it says it.
        let link = Link::to(server.address())?;
        let url = server.url().replacen(server.address(), link.address(), 1);
        Ok((rival, block_on(AnyPool::warmed(rival, &url, setup))?, link))
    };
    let pools = Rival::ALL.into_iter().map(open).collect::<Result<Vec<_>>>()?;
    let dialled = || pools.iter().map(|(_, _, link)| link.stats().total as f64).collect::<Vec<f64>>();
    let (before, tried) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let ran = Crowd::of(pools.len() * spec.clients)
        .with(|number| Ok(&pools[number % pools.len()]))
        .enduring()
        .lasting(spec.after)
        .meanwhile(spec.before, "killed", || {
            server.try_kill()?;
            *before.borrow_mut() = dialled();
            Ok(())
        })
        .meanwhile(spec.away, "back", || {
            // Starting takes a moment, too, and whoever tries in it tries in vain as well.
            *tried.borrow_mut() = dialled();
            server.try_restart()
        })
        .run(|(rival, pool, _), call| {
            call.tag("pool", rival);
            block_on(async {
                // Whoever fails tries again after a moment.
                call.rest(Duration::from_millis(5));
                let mut connection = pool.get().await?;
                call.note("got", "s", call.now());
                connection.query_drop("SELECT SLEEP(0.004)").await.doing("run the query")?;
                call.rest(Duration::ZERO);
                Ok(())
            })
        })?;
    let in_vain: Vec<f64> = tried.take().iter().zip(before.take()).map(|(now, before)| now - before).collect();
    let noticed = noticed(&ran.frame, spec.clients, (ran.event_began("killed"), ran.event_ended("back")), in_vain);
    let (calls, events) = (ran.frame, ran.events);
    for (_, pool, _link) in pools {
        block_on(pool.end());
    }
    Ok(Outage { calls, events, noticed })
}

/// A row for each pool. Calls that failed while the server was away: their median and their longest time. How often it was dialled in
/// vain. Calls that failed although it was back, and those that were lent a dead connection; when the last of them began. How long after
/// its return the first client, and the last one, had an answer.
fn noticed(calls: &Frame, clients: usize, (killed, back): (f64, f64), in_vain: Vec<f64>) -> Frame {
    let calls = calls.clone().computed("ended", "s", |call| call.number("at") + call.number("took"));
    let (failed, answered) = (calls.filter("outcome", "failed"), calls.filter("outcome", "done"));
    let (away, later) = (failed.within("at", killed..back), failed.within("at", back..f64::INFINITY));
    let dead = failed.within("got", back..f64::INFINITY);
    let firsts = answered.within("ended", back..f64::INFINITY).group(["pool", "client"]).min("ended");
    let each = |figure: &dyn Fn(&Rival) -> f64| Rival::ALL.iter().map(figure).collect::<Vec<f64>>();
    let since = |moment: &f64| (moment - back) * 1e3;
    let late = |pool: &Rival| later.filter("pool", pool).samples("at").values().to_vec();
    let first = |pool: &Rival| firsts.filter("pool", pool).samples("ended");
    Frame::new()
        .text("pool", Rival::ALL)
        .numbers("failing call", "ms", each(&|pool| away.filter("pool", pool).samples("took").median() * 1e3))
        .numbers("longest failing", "ms", each(&|pool| away.filter("pool", pool).samples("took").max() * 1e3))
        .numbers("dialled in vain", "", in_vain)
        .numbers("failed afterwards", "", each(&|pool| late(pool).len() as f64))
        .numbers("on dead ones", "", each(&|pool| dead.filter("pool", pool).height() as f64))
        .numbers("last failure", "ms", each(&|pool| late(pool).iter().map(since).fold(0.0, f64::max)))
        .numbers("first answer", "ms", each(&|pool| since(&first(pool).min())))
        .numbers(
            "all clients",
            "ms",
            each(&|pool| {
                if first(pool).len() < clients { f64::INFINITY } else { since(&first(pool).max()) }
            }),
        )
}

impl Outage {
    /// When each pool's users had answers, and when not: where none came for more than 60 ms.
    pub fn chart(&self, title: &str) -> Timeline {
        const GAP: f64 = 0.06;
        let mut chart = Chart::timeline(title).x("time", "s");
        for pool in Rival::ALL {
            let answered = self.calls.filter("pool", &pool).filter("outcome", "done");
            let ended = answered.computed("ended", "s", |call| call.number("at") + call.number("took")).sort("ended");
            let (mut from, mut to) = (None, 0.0);
            for &moment in ended.samples("ended").values() {
                if moment - to > GAP {
                    if let Some(from) = from.take() {
                        chart = chart.span(pool, from, to, "answers");
                    }
                    chart = chart.wait(pool, to, moment, "no answer");
                }
                from.get_or_insert(moment);
                to = moment;
            }
            if let Some(from) = from {
                chart = chart.span(pool, from, to, "answers");
            }
        }
        self.events.rows().fold(chart, |chart, event| chart.mark_x(event.text("event"), event.number("ended")))
    }
}

//! The server is killed under load and comes back: how long does each pool's user notice?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use tokio::task::JoinSet;

use super::rivals::{AnyPool, Rival, Setup};
use lab::chart::Timeline;
use lab::runtime::{block_on, runtime};
use lab::service::MariaDb;
use lab::{Chart, Doing, Link, OrFail, Result, Samples, Table};

/// The outage.
#[derive(Debug, Clone, Copy)]
pub struct OutageSpec {
    /// Connections of each pool.
    pub size: usize,
    /// Clients of each pool.
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

/// One attempt of one client, in seconds since the beginning.
#[derive(Debug, Clone, Copy)]
struct Call {
    client: usize,
    began: f64,
    /// When it had a connection.
    got: Option<f64>,
    ended: f64,
    answered: bool,
}

/// What the clients of one pool saw.
#[derive(Debug, Clone)]
pub struct Endured {
    /// Which pool.
    pub rival: Rival,
    calls: Vec<Call>,
    clients: usize,
    back: f64,
    killed: f64,
    tried: u64,
}

/// The whole outage: all pools went through the same one.
#[derive(Debug, Clone)]
pub struct Outage {
    /// When the server was killed, in seconds since the beginning.
    pub killed: f64,
    /// When it was ready again.
    pub back: f64,
    /// When it was over.
    pub over: f64,
    /// The pools, ours first.
    pub pools: Vec<Endured>,
}

/// Clients of all pools work on one server, which is killed and started again.
pub fn outage(server: &MariaDb, spec: OutageSpec) -> Outage {
    try_outage(server, spec).or_fail()
}

fn try_outage(server: &MariaDb, spec: OutageSpec) -> Result<Outage> {
    let mut pools = Vec::new();
    for rival in Rival::ALL {
        let setup = Setup { acquire_timeout: spec.acquire_timeout, careful: true, ..Setup::of(spec.size) };
        // A wire of its own, which counts how often a pool dials: whatever the pool says of itself, and whether it says it.
        let link = Link::to(server.address())?;
        let url = server.url().replacen(server.address(), link.address(), 1);
        let pool = block_on(AnyPool::new(rival, &url, setup))?;
        block_on(pool.warm(spec.size))?;
        pools.push((rival, pool, link));
    }
    let (start, over) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let mut running = JoinSet::new();
    for (index, (_, pool, _)) in pools.iter().enumerate() {
        for client in 0..spec.clients {
            let (pool, over) = (pool.clone(), over.clone());
            let work = async move { (index, work(&pool, client, start, &over).await) };
            running.spawn_on(work, runtime().handle());
        }
    }
    let wait = std::thread::sleep;
    wait(spec.before);
    let killed = start.elapsed().as_secs_f64();
    server.try_kill()?;
    let dialled = || pools.iter().map(|(_, _, link)| link.stats().total).collect::<Vec<_>>();
    let before = dialled();
    wait(spec.away);
    // Starting takes a moment, too, and whoever tries in it tries in vain as well.
    let tried: Vec<u64> = dialled().iter().zip(before).map(|(now, before)| now - before).collect();
    server.try_restart()?;
    let back = start.elapsed().as_secs_f64();
    wait(spec.after);
    over.store(true, Ordering::Release);
    let mut calls = vec![Vec::new(); pools.len()];
    block_on(async {
        while let Some(done) = running.join_next().await {
            let (index, mut made): (usize, Vec<Call>) = done.doing("run a client")?;
            calls[index].append(&mut made);
        }
        Ok(()) as Result<()>
    })?;
    let ended = start.elapsed().as_secs_f64();
    let mut endured = Vec::new();
    for (((rival, pool, _link), calls), tried) in pools.into_iter().zip(calls).zip(tried) {
        block_on(pool.end());
        endured.push(Endured { rival, calls, clients: spec.clients, back, killed, tried });
    }
    Ok(Outage { killed, back, over: ended, pools: endured })
}

async fn work(pool: &AnyPool, client: usize, start: Instant, over: &AtomicBool) -> Vec<Call> {
    let mut calls = Vec::new();
    let now = || start.elapsed().as_secs_f64();
    while !over.load(Ordering::Acquire) {
        let mut call = Call { client, began: now(), got: None, ended: 0.0, answered: false };
        if let Ok(mut connection) = pool.get().await {
            call.got = Some(now());
            call.answered = connection.query_drop("SELECT SLEEP(0.004)").await.is_ok();
        }
        call.ended = now();
        calls.push(call);
        if !call.answered {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    calls
}

impl Endured {
    /// Calls that were answered before the kill.
    pub fn answered_before(&self) -> usize {
        self.calls.iter().filter(|call| call.answered && call.ended <= self.killed).count()
    }

    /// How long a call took that failed while the server was away, in milliseconds.
    pub fn failing_took(&self) -> Samples {
        let away =
            self.calls.iter().filter(|call| !call.answered && call.began >= self.killed && call.began < self.back);
        away.map(|call| (call.ended - call.began) * 1e3).collect()
    }

    /// Attempts to dial from the kill until the server was started again.
    pub fn tried(&self) -> u64 {
        self.tried
    }

    /// When the last call began that failed, in milliseconds after the server's return; nothing where none began after it.
    pub fn failing_until(&self) -> f64 {
        let late = self.calls.iter().filter(|call| !call.answered && call.began >= self.back);
        late.map(|call| (call.began - self.back) * 1e3).fold(0.0, f64::max)
    }

    /// Borrowers who were handed a connection after the server was back, and it was a dead one.
    pub fn dead_after(&self) -> usize {
        self.calls.iter().filter(|call| !call.answered && call.got.is_some_and(|got| got >= self.back)).count()
    }

    /// Calls that began after the server was back, and failed.
    pub fn failed_after(&self) -> usize {
        self.calls.iter().filter(|call| !call.answered && call.began >= self.back).count()
    }

    /// From the server's return until each client had its first answer, in milliseconds.
    pub fn recovery(&self) -> Samples {
        (0..self.clients)
            .map(|client| {
                let first =
                    self.calls.iter().find(|call| call.client == client && call.answered && call.ended >= self.back);
                first.map_or(f64::INFINITY, |call| (call.ended - self.back) * 1e3)
            })
            .collect()
    }

    /// Stretches of time in which answers came, no more than so many seconds apart.
    fn stretches(&self, gap: f64) -> Vec<(f64, f64)> {
        let mut moments: Vec<f64> = self.calls.iter().filter(|call| call.answered).map(|call| call.ended).collect();
        moments.sort_by(f64::total_cmp);
        let mut stretches: Vec<(f64, f64)> = Vec::new();
        for moment in moments {
            match stretches.last_mut() {
                Some((_, end)) if moment - *end <= gap => *end = moment,
                _ => stretches.push((moment, moment)),
            }
        }
        stretches
    }
}

impl Outage {
    /// One pool's users.
    pub fn of(&self, rival: Rival) -> &Endured {
        self.pools.iter().find(|pool| pool.rival == rival).unwrap_or(&self.pools[0])
    }

    /// When each pool's users had answers, and when not.
    pub fn chart(&self, title: &str) -> Timeline {
        let mut chart = Chart::timeline(title).x("time", "s");
        for pool in &self.pools {
            let stretches = pool.stretches(0.06);
            let mut silent_since = 0.0;
            for &(from, to) in &stretches {
                if from - silent_since > 0.06 {
                    chart = chart.wait(pool.rival, silent_since, from, "no answer");
                }
                chart = chart.span(pool.rival, from, to, "answers");
                silent_since = to;
            }
        }
        chart.mark_x("killed", self.killed).mark_x("back", self.back)
    }

    /// What the users of each pool noticed.
    pub fn table(&self, title: &str) -> Table {
        let figures = |pick: &dyn Fn(&Endured) -> f64| self.pools.iter().map(pick).collect::<Vec<f64>>();
        Table::new(title)
            .text("", self.pools.iter().map(|pool| pool.rival.name()))
            .numbers("failing call", "ms", figures(&|pool| pool.failing_took().median()))
            .counts("dialled in vain", "", self.pools.iter().map(Endured::tried))
            .counts("failed afterwards", "", self.pools.iter().map(|pool| pool.failed_after() as u64))
            .counts("on dead ones", "", self.pools.iter().map(|pool| pool.dead_after() as u64))
            .numbers("first answer", "ms", figures(&|pool| pool.recovery().min()))
            .numbers("all clients", "ms", figures(&|pool| pool.recovery().max()))
    }
}

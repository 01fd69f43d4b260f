//! Clients at work while a replica is paused, killed, and comes back; and how reads spread over replicas that are
//! differently far behind.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::bank::Bank;
use crate::replica::{Broken, Consistency, Router, RouterSpec, SessionStats, check_session};
use lab::chart::{Chart, Lines, Panels};
use lab::link::Direction;
use lab::{Error, OrFail, Result, joined};

/// What happens to a replica while clients are at work, and how long each part lasts.
#[derive(Debug, Clone, Copy)]
pub struct OutageSpec {
    /// Sessions.
    pub sessions: usize,
    /// Each part.
    pub part: Duration,
    /// The seed.
    pub seed: u64,
}

/// What clients saw meanwhile.
#[derive(Debug)]
pub struct Outage {
    /// When each read was answered, in seconds, and by whom.
    reads: Vec<(f64, usize)>,
    /// The lag of each replica over time, as the router believed it: nothing where it did not answer.
    lags: Vec<(f64, usize, Option<f64>)>,
    /// What happened to replica 1, and when.
    pub events: Vec<(&'static str, f64)>,
    /// Reads and writes that failed.
    pub failed: u64,
    /// The first failure, in words.
    pub first_failure: Option<String>,
    /// What was not kept.
    pub broken: Broken,
    /// What the sessions went through.
    pub stats: SessionStats,
    /// How long replica 1 took to catch up after its restart, in seconds.
    pub caught_up: f64,
}

/// Pauses the first replica, lets it go on, kills it, starts it again, while sessions read by position.
pub fn outage(bank: &Bank, spec: OutageSpec) -> Outage {
    let cluster = bank.cluster();
    let run = || -> Result<Outage> {
        // Who has just asked a server that is paused waits for as long as the router believes in it.
        let (max_lag, silence) = (Duration::from_millis(200), Duration::from_millis(120));
        let router = Router::new(cluster, RouterSpec { max_lag, silence, ..RouterSpec::default() })?;
        let victim = *cluster.replicas().first().ok_or_else(|| Error::new("disturb a replica", "there is none"))?;
        let server = cluster.server(victim)?;
        let start = Instant::now();
        let done = AtomicBool::new(false);
        let reads: Mutex<Vec<(f64, usize)>> = Mutex::default();
        let lags: Mutex<Vec<(f64, usize, Option<f64>)>> = Mutex::default();
        let now = || start.elapsed().as_secs_f64();
        let (mut events, mut caught_up) = (Vec::new(), 0.0);
        let (mut broken, mut stats) = (Broken::default(), SessionStats::default());
        let (mut failed, mut first_failure): (u64, Option<String>) = (0, None);
        std::thread::scope(|scope| -> Result<()> {
            let clients: Vec<_> = (0..spec.sessions)
                .map(|_| {
                    let (reads, done, router) = (&reads, &done, &router);
                    scope.spawn(move || -> Result<_> {
                        let mut teller = bank.teller(router.session(Consistency::Session), spec.seed);
                        let (mut mine, mut failures) = (Vec::new(), Vec::new());
                        while !done.load(Ordering::SeqCst) {
                            if teller.chance() < 0.1
                                && let Err(error) = teller.transfer()
                            {
                                failures.push(error.to_string());
                            }
                            let account = teller.account();
                            match teller.read(account) {
                                Ok(answer) => mine.push((start.elapsed().as_secs_f64(), answer.server)),
                                Err(error) => failures.push(error.to_string()),
                            }
                            // A user thinks.
                            std::thread::sleep(Duration::from_micros(500 + (3_000.0 * teller.chance()) as u64));
                        }
                        reads.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(mine);
                        let (history, stats) = teller.settle();
                        Ok((check_session(&history), stats, failures))
                    })
                })
                .collect();
            let looking = {
                let (lags, done, router) = (&lags, &done, &router);
                scope.spawn(move || {
                    while !done.load(Ordering::SeqCst) {
                        let at = start.elapsed().as_secs_f64();
                        let seen = cluster
                            .replicas()
                            .into_iter()
                            .map(|replica| (at, replica, router.lag(replica).map(|lag| lag.as_secs_f64())));
                        lags.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(seen);
                        std::thread::sleep(Duration::from_millis(25));
                    }
                })
            };
            let mut disturb = || -> Result<()> {
                std::thread::sleep(spec.part);
                server.try_pause()?;
                events.push(("paused", now()));
                std::thread::sleep(spec.part);
                server.try_resume()?;
                events.push(("goes on", now()));
                std::thread::sleep(spec.part);
                server.try_kill()?;
                events.push(("killed", now()));
                std::thread::sleep(spec.part);
                server.try_restart()?;
                events.push(("back", now()));
                let asked = Instant::now();
                cluster.catch_up(Duration::from_secs(30))?;
                caught_up = asked.elapsed().as_secs_f64();
                events.push(("caught up", now()));
                std::thread::sleep(spec.part);
                Ok(())
            };
            let disturbed = disturb();
            done.store(true, Ordering::SeqCst);
            for client in clients {
                let (session, went, failures) = joined("be a client", client.join())?;
                broken.add(&session);
                stats.add(&went);
                failed += failures.len() as u64;
                first_failure = first_failure.take().or_else(|| failures.into_iter().next());
            }
            looking.join().map_err(|_| Error::new("look at the lags", "a thread of it panicked"))?;
            disturbed
        })?;
        let inner = |error: std::sync::PoisonError<Vec<(f64, usize)>>| error.into_inner();
        let reads = reads.into_inner().unwrap_or_else(inner);
        let lags = lags.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(Outage { reads, lags, events, failed, first_failure, broken, stats, caught_up })
    };
    bank.watched(Duration::from_millis(50), run).or_fail()
}

impl Outage {
    fn event(&self, name: &str) -> f64 {
        self.events.iter().find(|(event, _)| *event == name).map_or(f64::NAN, |(_, at)| *at)
    }

    /// Per cent of the reads that a server answered between two moments.
    fn share(&self, server: usize, from: f64, to: f64) -> f64 {
        let within = self.reads.iter().filter(|(at, _)| (from..to).contains(at));
        let (mut all, mut own) = (0_u64, 0_u64);
        for (_, answered) in within {
            all += 1;
            own += u64::from(*answered == server);
        }
        100.0 * own as f64 / all as f64
    }

    /// Per cent of the reads that replica 1 answered before anything happened to it.
    pub fn share_before(&self) -> f64 {
        self.share(1, 0.0, self.event("paused"))
    }

    /// Per cent of the reads that it answered while it was dead.
    pub fn share_dead(&self) -> f64 {
        self.share(1, self.event("killed"), self.event("back"))
    }

    /// Per cent of the reads that it answered once it had caught up.
    pub fn share_after(&self) -> f64 {
        self.share(1, self.event("caught up"), f64::INFINITY)
    }

    /// Reads a second by who answered, and the lag of each replica, over the same time.
    pub fn chart(&self, title: &str) -> Panels {
        let bin = 0.1;
        let end = self.reads.iter().map(|(at, _)| *at).fold(0.0, f64::max);
        let mut answered = Chart::lines(title).x("time", "s").y("reads a second", "").from_zero();
        for (server, name) in [(1, "replica 1"), (2, "replica 2"), (0, "primary")] {
            let rates = (0..(end / bin) as usize).map(|step| {
                let (from, to) = (step as f64 * bin, (step + 1) as f64 * bin);
                let count = self.reads.iter().filter(|(at, by)| *by == server && (from..to).contains(at)).count();
                ((from + to) / 2.0, count as f64 / bin)
            });
            answered = answered.line(name, rates.collect::<Vec<_>>());
        }
        let mut behind = Chart::lines("How far the router takes each replica to be behind")
            .x("time", "s")
            .y("lag", "ms")
            .from_zero();
        for (server, name) in [(1, "replica 1"), (2, "replica 2")] {
            let lags = self.lags.iter().filter(|(_, replica, _)| *replica == server);
            behind = behind.line(name, lags.filter_map(|(at, _, lag)| Some((*at, (*lag)? * 1e3))).collect::<Vec<_>>());
        }
        for (event, at) in self.events.iter().filter(|(event, _)| *event != "caught up") {
            answered = answered.mark_x(event, *at);
            behind = behind.mark_x(event, *at);
        }
        Chart::above(&[&answered.x_range(0.0, end), &behind.x_range(0.0, end)])
    }
}

/// How reads that were promised nothing spread over the replicas when the second one's wire is delayed.
#[derive(Debug, Clone)]
pub struct Spread {
    /// The delay, in seconds.
    pub delay: f64,
    /// Per cent of the reads that the second replica got.
    pub measured: f64,
    /// What the router's rule says for that delay, in per cent.
    pub predicted: f64,
}

/// Delays the second replica, and counts who answers: the first one is read as it is.
pub fn spread(bank: &Bank, delays: &[Duration], reads: u64, spec: RouterSpec) -> Vec<Spread> {
    let cluster = bank.cluster();
    let run = || -> Result<Vec<Spread>> {
        let late = *cluster.replicas().last().ok_or_else(|| Error::new("delay a replica", "there is none"))?;
        let router = Router::new(cluster, spec)?;
        let mut all = Vec::new();
        for delay in delays {
            cluster.link(late)?.delay_toward(Direction::ToClient, *delay);
            // The router has to notice: a delay begins to show once it has passed.
            let settled = Instant::now() + *delay + 4 * spec.beat;
            while Instant::now() < settled {
                std::thread::sleep(Duration::from_millis(5));
            }
            let mut teller = bank.teller(router.session(Consistency::Eventual), 0);
            let mut predicted = 0.0;
            for _ in 0..reads {
                let account = teller.account();
                predicted += router.shares().get(late).copied().unwrap_or(0.0);
                teller.read(account)?;
                std::thread::sleep(Duration::from_millis(1));
            }
            let answered = &teller.session().stats().reads;
            let measured = 100.0 * answered[late] as f64 / answered.iter().sum::<u64>() as f64;
            all.push(Spread { delay: delay.as_secs_f64(), measured, predicted: 100.0 * predicted / reads as f64 });
        }
        Ok(all)
    };
    let all = run();
    cluster.heal();
    all.or_fail()
}

/// Shares by delay.
pub fn spread_chart(spread: &[Spread], spec: RouterSpec, title: &str) -> Lines {
    let (beat, limit) = (spec.beat.as_secs_f64() * 1e3, spec.max_lag.as_secs_f64() * 1e3);
    Chart::lines(title)
        .x("delay of replica 2", "ms")
        .y("reads that replica 2 gets", "%")
        .from_zero()
        .line("measured", spread.iter().map(|one| (one.delay * 1e3, one.measured)))
        .predicted("as 1 ÷ (lag + beat)", move |delay| {
            let weight = if delay > limit { 0.0 } else { 1.0 / (delay.max(0.0) + beat) };
            100.0 * weight / (weight + 1.0 / beat)
        })
        .mark_x("limit", limit)
}

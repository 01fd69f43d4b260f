//! Clients at work while a replica is paused, killed, and comes back; and how reads spread over replicas that are
//! differently far behind.

use std::time::{Duration, Instant};

use super::bank::Bank;
use crate::{Broken, Consistency, Router, RouterSpec, SessionStats, check_session};
use lab::chart::{Chart, Panels};
use lab::link::Direction;
use lab::{Crowd, Error, Frame, Result};

/// What happens to a replica while clients are at work, and how long each part lasts.
#[derive(Debug, Clone, Copy)]
pub struct OutageSpec {
    pub sessions: usize,
    /// Each part.
    pub part: Duration,
    pub seed: u64,
}

/// What clients saw meanwhile.
#[derive(Debug)]
pub struct Outage {
    /// A row for each round of a session: client, at, took, outcome, why, and who answered its read (`by`).
    pub calls: Frame,
    /// How far the router took each replica to be behind, in ms: nothing where it did not answer.
    pub lags: Frame,
    /// What happened to replica 1: `paused`, `goes on`, `killed`, `back`, `caught up`.
    pub events: Frame,
    pub broken: Broken,
    /// What the sessions went through.
    pub stats: SessionStats,
}

/// Pauses the first replica, lets it go on, kills it, starts it again, while sessions read by position.
pub fn outage(bank: &Bank, spec: OutageSpec) -> Result<Outage> {
    let cluster = bank.cluster();
    bank.watched(Duration::from_millis(50), || {
        // Who has just asked a server that is paused waits for as long as the router believes in it.
        let (max_lag, silence) = (Duration::from_millis(200), Duration::from_millis(120));
        let router = Router::new(cluster, RouterSpec { max_lag, silence, ..RouterSpec::default() })?;
        let victim = *cluster.replicas().first().ok_or_else(|| Error::new("disturb a replica", "there is none"))?;
        let server = cluster.server(victim)?;
        let ran = Crowd::of(spec.sessions)
            .with(|_| Ok(bank.teller(router.session(Consistency::Session), spec.seed)))
            .enduring()
            .looking(Duration::from_millis(25), |look| {
                for replica in cluster.replicas() {
                    let lag = router.lag(replica).map(|lag| lag.as_secs_f64() * 1e3);
                    look.note_or_missing(&named(replica), "ms", lag);
                }
                Ok(())
            })
            .meanwhile(spec.part, "paused", || server.try_pause())
            .meanwhile(spec.part, "goes on", || server.try_resume())
            .meanwhile(spec.part, "killed", || server.try_kill())
            .meanwhile(spec.part, "back", || server.try_restart())
            .meanwhile(Duration::ZERO, "caught up", || cluster.catch_up(Duration::from_secs(30)).map(drop))
            .lasting(spec.part)
            .run(|teller, call| {
                let written = if teller.chance() < 0.1 { teller.transfer().map(drop) } else { Ok(()) };
                let account = teller.account();
                let read = teller.read(account).map(|answer| call.tag("by", named(answer.server)));
                // A user thinks.
                call.rest(Duration::from_micros(500 + (3_000.0 * teller.chance()) as u64));
                written.and(read)
            })?;
        let (mut broken, mut stats) = (Broken::default(), SessionStats::default());
        for (history, went) in ran.states.into_iter().map(|teller| teller.settle()) {
            broken.add(&check_session(&history));
            stats.add(&went);
        }
        Ok(Outage { calls: ran.frame, lags: ran.seen, events: ran.events, broken, stats })
    })
}

fn named(server: usize) -> String {
    if server == 0 { "primary".into() } else { format!("replica {server}") }
}

impl Outage {
    /// Per cent of the reads that replica 1 answered between two events; from the start, or to the end, where one is `""`.
    pub fn share(&self, from: &str, to: &str) -> f64 {
        let moment = |event: &str| self.events.filter("event", event).number("ended");
        let from = if from.is_empty() { 0.0 } else { moment(from) };
        let to = if to.is_empty() { f64::INFINITY } else { moment(to) };
        let answered = self.calls.within("at", from..to).filter("outcome", "done");
        100.0 * answered.filter("by", "replica 1").height() as f64 / answered.height() as f64
    }

    /// Reads a second by who answered, and the lag of each replica, over the same time.
    pub fn chart(&self, title: &str) -> Panels {
        let rates = self.calls.filter("outcome", "done").rates("at", 0.1, "by");
        let answered = Chart::lines(title).x("time", "s").y("reads a second", "");
        let answered = ["replica 1", "replica 2", "primary"]
            .into_iter()
            .fold(answered, |chart, by| chart.line(by, rates.filter("by", by).points("at", "rate")));
        let behind = Chart::lines("How far the router takes each replica to be behind").x("time", "s").y("lag", "ms");
        let behind = ["replica 1", "replica 2"]
            .into_iter()
            .fold(behind, |chart, replica| chart.line(replica, self.lags.points("at", replica)));
        let (end, events) = (self.calls.samples("at").max(), self.events.except("event", "caught up"));
        let [answered, behind] = [answered, behind].map(|chart| chart.from_zero().events(&events).x_range(0.0, end));
        Chart::above(&[&answered, &behind])
    }
}

/// Delays the second replica, and counts who answers reads that were promised nothing; the first one is read as it is. By `delay` (ms), per cent
/// of the reads that the second one got (`measured`), and what the router's rule says (`predicted`).
pub fn spread(bank: &Bank, delays: &[Duration], reads: u64, spec: RouterSpec) -> Result<Frame> {
    let cluster = bank.cluster();
    let run = || -> Result<Frame> {
        let late = *cluster.replicas().last().ok_or_else(|| Error::new("delay a replica", "there is none"))?;
        let router = Router::new(cluster, spec)?;
        let [mut measured, mut rule] = [Vec::new(), Vec::new()];
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
            measured.push(100.0 * answered[late] as f64 / answered.iter().sum::<u64>() as f64);
            rule.push(100.0 * predicted / reads as f64);
        }
        let delays = Frame::new().numbers("delay", "ms", delays.iter().map(|delay| delay.as_secs_f64() * 1e3));
        Ok(delays.numbers("measured", "%", measured).numbers("predicted", "%", rule))
    };
    let all = run();
    cluster.heal();
    all
}

//! Clients at work while a replica is paused, killed, and comes back; and how reads spread over replicas that are
//! differently far behind.

use std::time::Duration;

use super::bank::Bank;
use super::healed;
use crate::{Broken, Consistency, Router, RouterSpec};
use lab::link::Direction;
use lab::{Crowd, Frame, Result};

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
}

/// Pauses the first replica, lets it go on, kills it, starts it again, while so many sessions read by position; each `part` lasts so long.
pub fn outage(bank: &Bank, sessions: usize, part: Duration, seed: u64) -> Result<Outage> {
    let cluster = bank.cluster();
    bank.watched(|| {
        // Who has just asked a server that is paused waits for as long as the router believes in it.
        let (max_lag, silence) = (Duration::from_millis(200), Duration::from_millis(120));
        let router = Router::new(cluster, RouterSpec { max_lag, silence, ..RouterSpec::default() })?;
        let server = cluster.server(cluster.replicas()[0])?;
        let ran = Crowd::of(sessions)
            .with(|_| Ok(bank.teller(router.session(Consistency::Session), seed)))
            .enduring()
            .looking(Duration::from_millis(25), |look| {
                for replica in cluster.replicas() {
                    let lag = router.lag(replica).map(|lag| lag.as_secs_f64() * 1e3);
                    look.note_or_missing(&cluster.name(replica), "ms", lag);
                }
                Ok(())
            })
            .meanwhile(part, "paused", || server.try_pause())
            .meanwhile(part, "goes on", || server.try_resume())
            .meanwhile(part, "killed", || server.try_kill())
            .meanwhile(part, "back", || server.try_restart())
            .meanwhile(Duration::ZERO, "caught up", || cluster.catch_up(Duration::from_secs(30)).map(drop))
            .lasting(part)
            .run(|teller, call| {
                let written = if teller.chance() < 0.1 { teller.transfer().map(drop) } else { Ok(()) };
                let account = teller.account();
                let read = teller.read(account).map(|server| call.tag("by", cluster.name(server)));
                // A user thinks.
                call.rest(Duration::from_micros(500 + (3_000.0 * teller.chance()) as u64));
                written.and(read)
            })?;
        let mut broken = Broken::default();
        for teller in ran.states {
            broken.add(&teller.settle().0);
        }
        Ok(Outage { calls: ran.frame, lags: ran.seen, events: ran.events, broken })
    })
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
}

/// Delays the second replica, and counts who answers reads that were promised nothing; the first one is read as it is. By `delay` (ms), per cent
/// of the reads that the second one got (`measured`), and what the router's rule says (`predicted`).
pub fn spread(bank: &Bank, delays: &[Duration], reads: u64, spec: RouterSpec) -> Result<Frame> {
    let cluster = bank.cluster();
    healed(cluster, || {
        let late = cluster.size() - 1;
        let router = Router::new(cluster, spec)?;
        let share = |delay: &Duration| -> Result<Frame> {
            cluster.link(late)?.delay_toward(Direction::ToClient, *delay);
            // The router has to notice: a delay begins to show once it has passed.
            std::thread::sleep(*delay + 4 * spec.beat);
            let mut teller = bank.teller(router.session(Consistency::Eventual), 0);
            let mut predicted = 0.0;
            for _ in 0..reads {
                let account = teller.account();
                predicted += router.shares()[late];
                teller.read(account)?;
                std::thread::sleep(Duration::from_millis(1));
            }
            let answered = &teller.session().stats().reads;
            Ok(Frame::new()
                .numbers("delay", "ms", [delay.as_secs_f64() * 1e3])
                .numbers("measured", "%", [100.0 * answered[late] as f64 / answered.iter().sum::<u64>() as f64])
                .numbers("predicted", "%", [100.0 * predicted / reads as f64]))
        };
        delays.iter().map(share).collect()
    })
}

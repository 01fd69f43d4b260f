//! Six ways to check everybody in, at the same moment.

use super::{Rush, dealt, rush};
use crate::check_in::{Audit, Desk, Flight, Layout, Rules, SeatMap, Told, Way};
use lab::chart::{Bars, Chart, Latencies};
use lab::service::{Counters, MariaDb};
use lab::{Error, Latency, OrFail, Progress, Result, Rng, Samples, Table};

/// One of the six.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arm {
    /// What it is called.
    pub name: &'static str,
    /// How a seat is taken.
    pub way: Way,
    /// Whether one desk serves all travellers, one after the other; else each has a connection of their own.
    pub one_desk: bool,
    /// What the prototype measured: milliseconds, and seats filled of 120.
    pub published: Option<(f64, u64)>,
}

impl Arm {
    /// The prototype's four ways, and two more.
    pub const ALL: [Self; 6] = [
        Self { name: "sequential", way: Way::NoLock, one_desk: true, published: Some((64.78, 120)) },
        Self { name: "no lock", way: Way::NoLock, one_desk: false, published: Some((30.49, 9)) },
        Self { name: "FOR UPDATE", way: Way::ForUpdate, one_desk: false, published: Some((54.88, 120)) },
        Self { name: "SKIP LOCKED", way: Way::SkipLocked, one_desk: false, published: Some((24.38, 120)) },
        Self { name: "optimistic", way: Way::Optimistic, one_desk: false, published: None },
        Self { name: "atomic UPDATE", way: Way::Atomic, one_desk: false, published: None },
    ];
}

/// What one way came to, over all rounds.
#[derive(Debug, Clone)]
pub struct Counter {
    /// Which.
    pub arm: Arm,
    /// Seconds until the last traveller had an answer, one sample a round.
    pub seconds: Samples,
    /// How long each check-in took.
    pub latency: Latency,
    /// Seats with somebody in them, one sample a round.
    pub filled: Samples,
    /// Seats that more than one traveller was told of, in all rounds.
    pub double_booked: u64,
    /// Faults of any kind, in all rounds.
    pub faults: u64,
    /// Travellers who were told that the flight is full, in all rounds.
    pub full: u64,
    /// Seats that were gone when they were to be taken, for each traveller.
    pub in_vain: f64,
    /// Deadlocks, in all rounds.
    pub deadlocks: u64,
    /// Waits for a row lock, as the server counted them, for each traveller.
    pub lock_waits: f64,
    /// The last round, as a seat map.
    pub map: SeatMap,
}

/// All of them.
#[derive(Debug, Clone)]
pub struct Checked {
    /// In the order of [`Arm::ALL`].
    pub counters: Vec<Counter>,
    travellers: u64,
}

struct Lane {
    desks: Vec<Desk>,
    counter: Counter,
}

/// As many travellers as seats; all ways in turns, all connections dialled before any clock starts.
pub fn check_in_race(server: &MariaDb, layout: Layout, rounds: usize, seed: u64) -> Checked {
    let run = || -> Result<Checked> {
        if rounds == 0 {
            return Err(Error::new("race the desks", "it takes at least one round"));
        }
        let travellers = u64::from(layout.seats());
        let flight = Flight::create(server, "race", layout, Rules::OneSeatEach)?;
        let lane = |arm: Arm| -> Result<Lane> {
            let count = if arm.one_desk { 1 } else { travellers };
            let desk = |number: u64| {
                Desk::open(server, &flight, arm.way, Rng::seeded(seed, &format!("{} {number}", arm.name)))
            };
            let map = SeatMap { caption: arm.name.into(), layout, told: Vec::new() };
            let (seconds, latency, filled) = (Samples::default(), Latency::new(), Samples::default());
            let (double_booked, faults, full, deadlocks) = (0, 0, 0, 0);
            let (in_vain, lock_waits) = (0.0, 0.0);
            let counter = Counter {
                arm,
                seconds,
                latency,
                filled,
                double_booked,
                faults,
                full,
                in_vain,
                deadlocks,
                lock_waits,
                map,
            };
            Ok(Lane { desks: (0..count).map(desk).collect::<Result<_>>()?, counter })
        };
        let mut progress = Progress::new("six ways to check in", rounds as u64 + 1);
        let mut results: Vec<Counter> = Vec::new();
        // One arm's connections at a time: six times 120 are more than the server takes.
        let mut lanes: Vec<Option<Counter>> = vec![None; Arm::ALL.len()];
        for round in 0..=rounds {
            let mut order: Vec<usize> = (0..Arm::ALL.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for at in order {
                let mut lane = lane(Arm::ALL[at])?;
                if let Some(known) = lanes[at].take() {
                    lane.counter = known;
                }
                // A table that was filled and emptied still has the old travellers in its index until they are purged, and
                // whoever checks in again would wait for their neighbours there.
                Flight::create(server, "race", layout, Rules::OneSeatEach)?;
                lane.run(server, &flight, travellers, round)?;
                lanes[at] = Some(lane.counter);
            }
            progress.step();
        }
        for mut counter in lanes.into_iter().flatten() {
            let served = (travellers * rounds as u64) as f64;
            counter.in_vain /= served;
            counter.lock_waits /= served;
            results.push(counter);
        }
        flight.drop(server)?;
        Ok(Checked { counters: results, travellers })
    };
    run().or_fail()
}

impl Lane {
    fn run(&mut self, server: &MariaDb, flight: &Flight, travellers: u64, round: usize) -> Result<()> {
        let hands = dealt(travellers, self.desks.len());
        let before = Counters::of_server(server)?;
        let rush: Rush = rush(&mut self.desks, &hands, Desk::check_in)?;
        let waits = Counters::of_server(server)?.since(&before).get("Innodb_row_lock_waits")?;
        let audit = Audit::of(&rush.told, &flight.seats(server)?);
        let counter = &mut self.counter;
        counter.double_booked += audit.double_booked;
        counter.faults += audit.faults();
        counter.full += rush.full;
        counter.filled.push(audit.filled as f64);
        counter.deadlocks += self.desks.iter().map(|desk| desk.tries().deadlocks).sum::<u64>();
        if round > 0 {
            counter.seconds.push(rush.seconds);
            counter.latency.merge(&rush.latency);
            counter.in_vain += self.desks.iter().map(Desk::in_vain).sum::<u64>() as f64;
            counter.lock_waits += waits;
        }
        counter.map.caption = format!("{}: {} of {} seats", counter.arm.name, audit.filled, flight.layout().seats());
        counter.map.told = rush.told;
        counter.map.told.sort_by(|one: &Told, other: &Told| one.at.total_cmp(&other.at));
        Ok(())
    }
}

impl Checked {
    /// One way's.
    pub fn of(&self, name: &str) -> Counter {
        let found = self.counters.iter().find(|counter| counter.arm.name == name).cloned();
        found.ok_or_else(|| Error::new("find a way", format!("{name:?} was not in the race"))).or_fail()
    }

    /// How many times as long one way took as another, round by round.
    pub fn ratio(&self, slow: &str, fast: &str) -> Samples {
        let (slow, fast) = (self.of(slow).seconds, self.of(fast).seconds);
        slow.values().iter().zip(fast.values()).map(|(slow, fast)| slow / fast).collect()
    }

    /// The ways that must not make a mistake: all but the one without a lock.
    pub fn careful(&self) -> Vec<Counter> {
        self.counters.iter().filter(|counter| counter.arm.name != "no lock").cloned().collect()
    }

    /// Seats filled, with the prototype's figures.
    pub fn filled_chart(&self, title: &str) -> Bars {
        let chart = Chart::bars(title)
            .subtitle(format!(
                "{} travellers, each told of a seat; {} rounds",
                self.travellers,
                self.counters[0].filled.len()
            ))
            .y("seats filled", "")
            .horizontal();
        self.counters.iter().fold(chart, |chart, counter| {
            let chart = chart.bar_with_spread(counter.arm.name, &counter.filled);
            match counter.arm.published {
                Some((_, filled)) if self.travellers == 120 => chart.mark("prototype", counter.arm.name, filled),
                _ => chart,
            }
        })
    }

    /// Time of all of them, as a multiple of SKIP LOCKED's, with the prototype's figures.
    pub fn time_chart(&self, title: &str) -> Bars {
        let chart = Chart::bars(title)
            .subtitle("time until everybody has an answer, over that of SKIP LOCKED in the same round; connections dialled before")
            .y("time", "×")
            .horizontal();
        let base = 24.38;
        self.counters.iter().fold(chart, |chart, counter| {
            let chart = chart.bar_with_spread(counter.arm.name, self.ratio(counter.arm.name, "SKIP LOCKED"));
            match counter.arm.published {
                Some((time, _)) => chart.mark("prototype", counter.arm.name, time / base),
                None => chart,
            }
        })
    }

    /// How long a check-in takes.
    pub fn latency_chart(&self, title: &str) -> Latencies {
        let chart = Chart::latencies(title).subtitle("from the moment that the doors open");
        let parallel = self.counters.iter().filter(|counter| !counter.arm.one_desk);
        parallel.fold(chart, |chart, counter| chart.latency(counter.arm.name, &counter.latency))
    }

    /// What it took.
    pub fn table(&self) -> Table {
        let milliseconds = |counter: &Counter| counter.seconds.median() * 1e3;
        Table::new("What it took")
            .text("", self.counters.iter().map(|counter| counter.arm.name))
            .numbers("time", "ms", self.counters.iter().map(milliseconds))
            .numbers("p99", "ms", self.counters.iter().map(|counter| counter.latency.p99().as_secs_f64() * 1e3))
            .numbers("lock waits", "each", self.counters.iter().map(|counter| counter.lock_waits))
            .numbers("in vain", "each", self.counters.iter().map(|counter| counter.in_vain))
            .counts("deadlocks", "", self.counters.iter().map(|counter| counter.deadlocks))
    }

    /// The last round's seat maps.
    pub fn maps(&self) -> Vec<SeatMap> {
        self.counters.iter().map(|counter| counter.map.clone()).collect()
    }
}

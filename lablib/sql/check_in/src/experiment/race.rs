//! Six ways to check everybody in, at the same moment.

use std::collections::BTreeMap;
use std::fmt;

use super::{dealt, rush};
use crate::{Audit, Desk, Flight, Layout, Rules, SeatMap, Way};
use lab::chart::{Bars, Latencies};
use lab::service::{Counters, MariaDb};
use lab::{Result, Rng, Trial};

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
    /// One desk for all.
    pub const SEQUENTIAL: Self = Self { one_desk: true, ..Self::new("sequential", Way::NoLock, Some((64.78, 120))) };
    /// Who looks first and writes later.
    pub const NO_LOCK: Self = Self::new("no lock", Way::NoLock, Some((30.49, 9)));
    /// Everybody waits for the first seat that is free.
    pub const FOR_UPDATE: Self = Self::new("FOR UPDATE", Way::ForUpdate, Some((54.88, 120)));
    /// Everybody takes the first seat that nobody holds.
    pub const SKIP_LOCKED: Self = Self::new("SKIP LOCKED", Way::SkipLocked, Some((24.38, 120)));
    /// Whoever comes too late tries again.
    pub const OPTIMISTIC: Self = Self::new("optimistic", Way::Optimistic, None);
    /// Looks and writes in one statement.
    pub const ATOMIC: Self = Self::new("atomic UPDATE", Way::Atomic, None);

    /// The prototype's four ways, and two more.
    pub const ALL: [Self; 6] =
        [Self::SEQUENTIAL, Self::NO_LOCK, Self::FOR_UPDATE, Self::SKIP_LOCKED, Self::OPTIMISTIC, Self::ATOMIC];

    const fn new(name: &'static str, way: Way, published: Option<(f64, u64)>) -> Self {
        Self { name, way, one_desk: false, published }
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// All of them.
#[derive(Debug, Clone)]
pub struct Checked {
    /// In ms, until the last traveller had an answer (`time`), and of each check-in; seats `filled`, those `double booked`, all `faults`,
    /// travellers `told full`, and `deadlocks`; for each traveller, seats that were gone (`in vain`) and `lock waits` by the server's count.
    pub trial: Trial<Arm>,
    /// The last round of each way, as a seat map.
    pub maps: Vec<SeatMap>,
    travellers: u64,
}

/// As many travellers as seats; all ways in turns, all connections dialled before any clock starts.
pub fn check_in_race(server: &MariaDb, layout: Layout, rounds: usize, seed: u64) -> Result<Checked> {
    let travellers = u64::from(layout.seats());
    let flight = Flight::create(server, "race", layout, Rules::OneSeatEach)?;
    let mut maps = BTreeMap::new();
    let trial = Trial::over(Arm::ALL, rounds)
        // One arm's connections at a time: six times 120 are more than the server takes.
        .each_turn_anew()
        .open(|arm| {
            let desk = |number| Desk::open(server, &flight, arm.way, Rng::seeded(seed, &format!("{arm} {number}")));
            (0..if arm.one_desk { 1 } else { travellers }).map(desk).collect::<Result<Vec<_>>>()
        })
        .titled("six ways to check in")
        .run(|arm, desks, figures| {
            // A table that was filled and emptied still has the old travellers in its index until they are purged, and whoever
            // checks in again would wait for their neighbours there.
            Flight::create(server, "race", layout, Rules::OneSeatEach)?;
            let before = Counters::of_server(server)?;
            let hands = dealt(travellers, desks.len());
            let mut rush = rush(desks, &hands, Desk::check_in)?;
            let waits = Counters::of_server(server)?.since(&before).get("Innodb_row_lock_waits")?;
            let audit = Audit::of(&rush.told, &flight.seats(server)?);
            figures.push("time", "ms", rush.seconds * 1e3);
            figures.latency("check-in", &rush.latency);
            figures.push("in vain", "each", desks.iter().map(Desk::in_vain).sum::<u64>() as f64 / travellers as f64);
            figures.push("lock waits", "each", waits / travellers as f64);
            for (figure, count) in [
                ("filled", audit.filled),
                ("double booked", audit.double_booked),
                ("faults", audit.faults()),
                ("told full", rush.full),
                ("deadlocks", desks.iter().map(|desk| desk.tries().deadlocks).sum()),
            ] {
                figures.push(figure, "", count as f64);
            }
            rush.told.sort_by(|one, other| one.at.total_cmp(&other.at));
            let caption = format!("{arm}: {} of {travellers} seats", audit.filled);
            maps.insert(arm.name, SeatMap { caption, layout, told: rush.told });
            Ok(())
        })?;
    flight.drop(server)?;
    let maps = Arm::ALL.iter().filter_map(|arm| maps.remove(arm.name)).collect();
    Ok(Checked { trial, maps, travellers })
}

/// What the prototype measured of each way: milliseconds, and seats.
fn published() -> impl Iterator<Item = (Arm, (f64, u64))> {
    Arm::ALL.into_iter().filter_map(|arm| Some((arm, arm.published?)))
}

impl Checked {
    /// The last round's seat map of one way.
    pub fn map(&self, arm: Arm) -> SeatMap {
        let place = Arm::ALL.iter().position(|one| *one == arm).unwrap_or(0);
        self.maps[place].clone()
    }

    /// Seats filled, with the prototype's figures.
    pub fn filled_chart(&self, title: &str) -> Bars {
        let chart = self.trial.bars("filled", title).y("seats filled", "").horizontal();
        let published = published().filter(|_| self.travellers == 120);
        published.fold(chart, |chart, (arm, (_, filled))| chart.mark("prototype", arm, filled))
    }

    /// Time of all of them, as a multiple of SKIP LOCKED's, with the prototype's figures.
    pub fn time_chart(&self, title: &str) -> Bars {
        let chart = self.trial.bars_over("time", &Arm::SKIP_LOCKED, title).horizontal();
        published().fold(chart, |chart, (arm, (time, _))| chart.mark("prototype", arm, time / 24.38))
    }

    /// How long a check-in takes, of the ways in which everybody comes at once.
    pub fn latency_chart(&self, title: &str) -> Latencies {
        self.trial.latencies_of(Arm::ALL.iter().filter(|arm| !arm.one_desk), "check-in", title)
    }
}

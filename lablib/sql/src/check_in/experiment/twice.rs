//! The same traveller at two desks at the same moment.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use super::rush;
use crate::check_in::{Audit, Boarding, Desk, Flight, Layout, Rules, Way};
use lab::service::MariaDb;
use lab::{OrFail, Result, Rng, Table};

/// What keeps a traveller from having two seats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Nothing.
    Nothing,
    /// Each desk looks whether the traveller has a seat before it gives one.
    LookFirst,
    /// The database: a unique key.
    Key,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Twice {
    /// What keeps a traveller from having two seats.
    pub guard: Guard,
    /// Travellers who checked in at two desks at once.
    pub travellers: u64,
    /// Travellers with two seats in the end.
    pub with_two: u64,
    /// Seats taken.
    pub filled: u64,
    /// Travellers who were told of two different seats, or of none.
    pub confused: u64,
}

/// How long the first of two requests waits for the second.
const PATIENCE: Duration = Duration::from_secs(5);

/// Every traveller checks in at two desks at the same moment, under each of the guards.
pub fn twice(server: &MariaDb, travellers: u64, seed: u64) -> [Twice; 3] {
    let run = |guard: Guard| -> Result<Twice> {
        let rules = if guard == Guard::Key { Rules::OneSeatEach } else { Rules::Any };
        let layout = Layout::new(travellers.div_ceil(3) as u32 + 1, 6)?;
        let flight = Flight::create(server, "twice", layout, rules)?;
        let desk = |number: u64| {
            Desk::open(server, &flight, Way::SkipThenWait, Rng::seeded(seed, &format!("device {number}")))
        };
        let mut desks = (0..8).map(desk).collect::<Result<Vec<_>>>()?;
        // Desks in pairs, each pair with the same queue.
        let hands: Vec<Vec<u64>> =
            (0..8_u64).map(|desk| (1..=travellers).filter(|traveller| traveller % 4 == desk / 2).collect()).collect();
        let asking: Vec<AtomicU8> = (0..=travellers).map(|_| AtomicU8::new(0)).collect();
        let rush = rush(&mut desks, &hands, |desk, traveller| {
            meet(&asking[traveller as usize]);
            match guard {
                Guard::LookFirst => match desk.seat_of(traveller)? {
                    Some(seat) => Ok(Boarding::Already(seat)),
                    None => desk.check_in(traveller),
                },
                Guard::Nothing | Guard::Key => desk.check_in(traveller),
            }
        })?;
        let audit = Audit::of(&rush.told, &flight.seats(server)?);
        flight.drop(server)?;
        let confused = (1..=travellers).filter(|&traveller| {
            let mut seats: Vec<_> =
                rush.told.iter().filter(|told| told.traveller == traveller).map(|told| told.seat).collect();
            seats.sort_unstable();
            seats.dedup();
            seats.len() != 1
        });
        let confused = confused.count() as u64;
        Ok(Twice { guard, travellers, with_two: audit.with_two, filled: audit.filled, confused })
    };
    [Guard::Nothing, Guard::LookFirst, Guard::Key].map(|guard| run(guard).or_fail())
}

/// Waits until both requests of a traveller are there. If one of the desks has failed, the other goes on by itself.
fn meet(asking: &AtomicU8) {
    let came = Instant::now();
    asking.fetch_add(1, Ordering::SeqCst);
    while asking.load(Ordering::SeqCst) < 2 && came.elapsed() < PATIENCE {
        std::thread::yield_now();
    }
}

impl Twice {
    /// All guards side by side.
    pub fn table(all: &[Self]) -> Table {
        let name = |one: &Self| match one.guard {
            Guard::Nothing => "nothing",
            Guard::LookFirst => "each desk looks first",
            Guard::Key => "a unique key",
        };
        let counts = |of: fn(&Self) -> u64| all.iter().map(of).collect::<Vec<_>>();
        Table::new("Everybody at two desks at the same moment")
            .text("what prevents two seats", all.iter().map(name))
            .counts("travellers", "", counts(|one| one.travellers))
            .counts("with two seats", "", counts(|one| one.with_two))
            .counts("told two things", "", counts(|one| one.confused))
    }
}

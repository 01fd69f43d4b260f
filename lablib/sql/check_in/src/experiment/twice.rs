//! The same traveller at two desks at the same moment.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use super::rush;
use crate::{Audit, Boarding, Desk, Flight, Layout, Rules, Way};
use lab::service::MariaDb;
use lab::{Frame, Result, Rng};

/// What keeps a traveller from having two seats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    Nothing,
    /// Each desk looks whether the traveller has a seat before it gives one.
    LookFirst,
    /// The database: a unique key.
    Key,
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing",
            Self::LookFirst => "each desk looks first",
            Self::Key => "a unique key",
        })
    }
}

/// How long the first of two requests waits for the second.
const PATIENCE: Duration = Duration::from_secs(5);

/// Every traveller checks in at two desks at the same moment, under each of the guards. A row for each `guard`: `travellers`, those `with
/// two seats` in the end, and those who were `told two things`: of two different seats, or of none; and the seats taken (`filled`).
pub fn twice(server: &MariaDb, travellers: u64, seed: u64) -> Result<Frame> {
    let guarded = |guard: Guard| {
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
        Ok(Frame::new()
            .text("guard", [guard])
            .counts("travellers", "", [travellers])
            .counts("with two seats", "", [audit.with_two])
            .counts("told two things", "", [confused.count() as u64])
            .counts("filled", "", [audit.filled]))
    };
    [Guard::Nothing, Guard::LookFirst, Guard::Key].into_iter().map(guarded).collect()
}

/// Waits until both requests of a traveller are there. If one of the desks has failed, the other goes on by itself.
fn meet(asking: &AtomicU8) {
    let came = Instant::now();
    asking.fetch_add(1, Ordering::SeqCst);
    while asking.load(Ordering::SeqCst) < 2 && came.elapsed() < PATIENCE {
        std::thread::yield_now();
    }
}

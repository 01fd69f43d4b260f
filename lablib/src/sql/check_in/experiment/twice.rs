//! The same traveller at two desks at the same moment.

use super::rush;
use crate::lab::service::MariaDb;
use crate::lab::{OrFail, Result, Rng};
use crate::sql::check_in::{Audit, Desk, Flight, Layout, Rules, Way};

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Twice {
    /// Whether the database itself keeps a traveller from having two seats.
    pub rules: Rules,
    /// Travellers who checked in at two desks at once.
    pub travellers: u64,
    /// Travellers with two seats in the end.
    pub with_two: u64,
    /// Seats taken.
    pub filled: u64,
    /// Travellers who were told of two different seats.
    pub confused: u64,
}

/// Every traveller checks in at two desks, with and without the unique key.
pub fn twice(server: &MariaDb, travellers: u64, seed: u64) -> [Twice; 2] {
    let run = |rules: Rules| -> Result<Twice> {
        let layout = Layout::new(travellers.div_ceil(3) as u32 + 1, 6)?;
        let flight = Flight::create(server, "twice", layout, rules)?;
        let desk = |number: u64| {
            Desk::open(server, &flight, Way::SkipThenWait, Rng::seeded(seed, &format!("device {number}")))
        };
        let mut desks = (0..8).map(desk).collect::<Result<Vec<_>>>()?;
        // Desks in pairs, each pair with the same queue.
        let hands: Vec<Vec<u64>> =
            (0..8_u64).map(|desk| (1..=travellers).filter(|traveller| traveller % 4 == desk / 2).collect()).collect();
        let rush = rush(&mut desks, &hands, Desk::check_in)?;
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
        Ok(Twice { rules, travellers, with_two: audit.with_two, filled: audit.filled, confused })
    };
    [Rules::Any, Rules::OneSeatEach].map(|rules| run(rules).or_fail())
}

//! What is measured of checking in: six ways in a race, a sale with failing payments, and everything that goes wrong.

#![allow(missing_docs, reason = "a field is documented where its name leaves something open")]

mod broken;
mod groups;
mod race;
mod sale;
mod twice;
mod undersell;

pub use broken::{Broken, KeepAlive, broken_connections, keep_alive, seat_holder_process};
pub use groups::{Seated, groups};
pub use race::{Arm, Checked, check_in_race};
pub use sale::{Sale, SaleSpec, sale, sales_table};
pub use twice::{Guard, twice};
pub use undersell::{LastSeat, last_seat};

use super::audit::Told;
use super::desk::{Boarding, Desk};
use lab::{Crowd, Latency, Result};

/// What happened after the doors had opened.
pub(super) struct Rush {
    pub(super) seconds: f64,
    pub(super) latency: Latency,
    pub(super) told: Vec<Told>,
    pub(super) full: u64,
    pub(super) unpaid: u64,
}

/// Opens the doors for all desks at once, each with its travellers. `serve` checks one traveller in.
pub(super) fn rush(
    desks: &mut [Desk],
    travellers: &[Vec<u64>],
    serve: impl Fn(&mut Desk, u64) -> Result<Boarding> + Sync,
) -> Result<Rush> {
    let ran = Crowd::holding(desks.iter_mut().map(|desk| (desk, Vec::new())))
        .times_each(|desk| travellers[desk].len() as u64)
        .run(|(desk, answers), call| {
            let traveller = travellers[call.client()][call.number() as usize];
            let boarding = serve(desk, traveller)?;
            answers.push((traveller, boarding, call.now()));
            Ok(())
        })?;
    let latency = ran.frame.latency("took");
    let mut rush = Rush { seconds: 0.0, latency, told: Vec::new(), full: 0, unpaid: 0 };
    for (traveller, boarding, at) in ran.states.into_iter().flat_map(|(_, answers)| answers) {
        rush.seconds = rush.seconds.max(at);
        match boarding {
            Boarding::Seat(seat) | Boarding::Already(seat) => rush.told.push(Told { traveller, seat, at }),
            Boarding::Full => rush.full += 1,
            Boarding::Unpaid => rush.unpaid += 1,
        }
    }
    Ok(rush)
}

/// Travellers 1 to `count`, dealt out to so many desks.
pub(super) fn dealt(count: u64, desks: usize) -> Vec<Vec<u64>> {
    let mut hands = vec![Vec::new(); desks];
    for traveller in 1..=count {
        hands[(traveller as usize - 1) % desks].push(traveller);
    }
    hands
}

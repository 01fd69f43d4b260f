//! What is measured of checking in: six ways in a race, a sale with failing payments, and everything that goes wrong.

mod broken;
mod groups;
mod race;
mod sale;
mod twice;
mod undersell;

use std::sync::Barrier;
use std::time::{Duration, Instant};

pub use broken::{Broken, KeepAlive, broken_connections, keep_alive, seat_holder_process};
pub use groups::{Seated, groups};
pub use race::{Arm, Checked, Counter, check_in_race};
pub use sale::{Sale, SaleSpec, sale, sales_table};
pub use twice::{Guard, Twice, twice};
pub use undersell::{LastSeat, last_seat};

use super::audit::Told;
use super::desk::{Boarding, Desk};
use lab::{Latency, Result, joined};

/// What happened after the doors had opened.
pub(super) struct Rush {
    pub(super) seconds: f64,
    pub(super) latency: Latency,
    pub(super) told: Vec<Told>,
    pub(super) full: u64,
    pub(super) unpaid: u64,
}

/// Opens the doors for all desks at once. Each has its travellers, and a thread of its own that is there before the clock
/// starts. `serve` checks one traveller in.
pub(super) fn rush(
    desks: &mut [Desk],
    travellers: &[Vec<u64>],
    serve: impl Fn(&mut Desk, u64) -> Result<Boarding> + Sync,
) -> Result<Rush> {
    let (doors, serve) = (Barrier::new(desks.len() + 1), &serve);
    std::thread::scope(|scope| {
        let doors = &doors;
        let threads: Vec<_> = desks
            .iter_mut()
            .zip(travellers)
            .map(|(desk, own)| {
                scope.spawn(move || -> Result<Vec<(u64, Boarding, Instant, Duration)>> {
                    doors.wait();
                    own.iter()
                        .map(|&traveller| {
                            let began = Instant::now();
                            let boarding = serve(desk, traveller)?;
                            let done = Instant::now();
                            Ok((traveller, boarding, done, done - began))
                        })
                        .collect()
                })
            })
            .collect();
        doors.wait();
        let opened = Instant::now();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(joined("check travellers in", thread.join())?);
        }
        let mut rush = Rush { seconds: 0.0, latency: Latency::new(), told: Vec::new(), full: 0, unpaid: 0 };
        for (traveller, boarding, done, took) in all {
            let at = done.saturating_duration_since(opened).as_secs_f64();
            rush.seconds = rush.seconds.max(at);
            rush.latency.record(took);
            match boarding {
                Boarding::Seat(seat) | Boarding::Already(seat) => rush.told.push(Told { traveller, seat, at }),
                Boarding::Full => rush.full += 1,
                Boarding::Unpaid => rush.unpaid += 1,
            }
        }
        Ok(rush)
    })
}

/// Travellers 1 to `count`, dealt out to so many desks.
pub(super) fn dealt(count: u64, desks: usize) -> Vec<Vec<u64>> {
    let mut hands = vec![Vec::new(); desks];
    for traveller in 1..=count {
        hands[(traveller as usize - 1) % desks].push(traveller);
    }
    hands
}

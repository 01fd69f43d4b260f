//! The last seat is locked by somebody who will not pay: what is the next traveller told?

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::{Boarding, Desk, Flight, Layout, Rules, Way};
use lab::service::MariaDb;
use lab::{Error, Result, Rng, joined};
use row_locks::Watcher;

/// How long we look for the second traveller to wait or to be told something.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the second one was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastSeat {
    /// By which way.
    pub way: Way,
    /// Whether the second traveller was seen to wait, by the server's own report.
    pub waited: bool,
    /// Whether the second traveller was told that the flight is full.
    pub told_full: bool,
    /// Seats that were empty when both had gone: 1 is a seat unsold.
    pub empty: u64,
}

/// One seat, two travellers. The first one holds it and does not pay; the second one comes meanwhile.
pub fn last_seat(server: &MariaDb, way: Way) -> Result<LastSeat> {
    let flight = Flight::create(server, "last", Layout::new(1, 1)?, Rules::OneSeatEach)?;
    let mut first = Desk::open(server, &flight, way, Rng::seeded(1, "first"))?;
    let mut second = Desk::open(server, &flight, way, Rng::seeded(1, "second"))?;
    let mut watcher = Watcher::new(server)?;
    let (holds, held) = channel();
    let (give_back, given_back) = channel::<()>();
    let (told, waited) = std::thread::scope(|scope| -> Result<(Boarding, bool)> {
        let paying = scope.spawn(move || {
            first.check_in_paying(1, || {
                let _ = holds.send(());
                let _ = given_back.recv_timeout(PATIENCE);
                false
            })
        });
        held.recv_timeout(PATIENCE).map_err(|_| Error::new("hold the last seat", "nobody did"))?;
        let asking = scope.spawn(move || second.check_in_paying(2, || true));
        let deadline = Instant::now() + PATIENCE;
        let mut waited = false;
        while !asking.is_finished() && !waited && Instant::now() < deadline {
            waited = !watcher.waiting()?.is_empty();
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = give_back.send(());
        if joined("pay", paying.join())? != Boarding::Unpaid {
            return Err(Error::new("hold the last seat", "the one who does not pay got it"));
        }
        Ok((joined("ask for the last seat", asking.join())?, waited))
    })?;
    let empty = flight.seats(server)?.iter().filter(|(_, traveller)| traveller.is_none()).count() as u64;
    flight.drop(server)?;
    Ok(LastSeat { way, waited, told_full: told == Boarding::Full, empty })
}

//! A desk that checks travellers in, one after the other.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use mysql::prelude::Queryable;
use mysql::{Conn, Error as Said, Opts};

use super::flight::Flight;
use super::seat::Seat;
use lab::service::MariaDb;
use lab::{Doing, Error, Result, Rng};
use row_locks::{Client, Retry, Tries};

/// A key that is there already.
pub(super) const DUPLICATE: u16 = 1062;
/// A traveller who gives the seat back so often at just the wrong moment is none.
const MOST_TRIES: u32 = 20;

/// How a desk finds a free seat and takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// Looks for the first free seat, then writes the traveller into it. The prototype's, and wrong.
    NoLock,
    /// Locks the first free seat while looking; whoever comes next waits for the same one.
    ForUpdate,
    /// Locks the first free seat that nobody else has locked.
    SkipLocked,
    /// The same; when there is none left, waits for those that are locked, in case one is given back. Ours.
    SkipThenWait,
    /// Looks without a lock, writes only where the seat is still free, and otherwise looks again.
    Optimistic,
    /// One `UPDATE` that takes the first free seat from a random one on.
    Atomic,
}

impl Way {
    /// All six ways.
    pub const ALL: [Self; 6] =
        [Self::NoLock, Self::ForUpdate, Self::SkipLocked, Self::SkipThenWait, Self::Optimistic, Self::Atomic];

    /// Whether a seat is taken by one statement, which needs no transaction around it.
    fn is_one_statement(self) -> bool {
        matches!(self, Self::NoLock | Self::Optimistic | Self::Atomic)
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoLock => "no lock",
            Self::ForUpdate => "FOR UPDATE",
            Self::SkipLocked => "SKIP LOCKED",
            Self::SkipThenWait => "SKIP LOCKED, then wait",
            Self::Optimistic => "optimistic",
            Self::Atomic => "atomic UPDATE",
        })
    }
}

/// What a traveller is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boarding {
    /// This seat is yours.
    Seat(Seat),
    /// You have this seat already.
    Already(Seat),
    /// All seats are taken.
    Full,
    /// The payment failed, and the seat was given back.
    Unpaid,
}

impl Boarding {
    /// The seat, if the traveller has one now.
    pub fn seat(self) -> Option<Seat> {
        match self {
            Self::Seat(seat) | Self::Already(seat) => Some(seat),
            Self::Full | Self::Unpaid => None,
        }
    }
}

/// A connection that checks travellers in.
pub struct Desk {
    pub(super) client: Client,
    pub(super) flight: Flight,
    way: Way,
    pub(super) rng: Rng,
    in_vain: u64,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("flight", &self.flight.table()).field("way", &self.way).finish_non_exhaustive()
    }
}

impl Desk {
    /// Opens a desk, connected before anybody comes. `rng` decides pauses and where a search begins.
    pub fn open(server: &MariaDb, flight: &Flight, way: Way, rng: Rng) -> Result<Self> {
        Self::on(server.connect()?, flight, way, rng)
    }

    /// As [`open`](Self::open), by a wire in front of the server.
    pub fn open_at(server: &MariaDb, address: &str, flight: &Flight, way: Way, rng: Rng) -> Result<Self> {
        let url = server.url().replacen(server.address(), address, 1);
        let connection = Opts::from_url(&url).map_err(Said::from).and_then(Conn::new);
        Self::on(connection.doing("open a desk").map_err(|error| error.at(address))?, flight, way, rng)
    }

    fn on(connection: Conn, flight: &Flight, way: Way, rng: Rng) -> Result<Self> {
        let mut client = Client::on(connection, Retry::default(), rng.clone())?;
        // Gaps need no locks here: no seat is ever inserted, and a traveller is kept unique by the key.
        client.set("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")?;
        Ok(Self { client, flight: flight.clone(), way, rng, in_vain: 0 })
    }

    /// Transactions of this desk so far, and why others had to begin anew.
    pub fn tries(&self) -> Tries {
        self.client.tries()
    }

    /// How often a seat was gone when it was to be taken.
    pub fn in_vain(&self) -> u64 {
        self.in_vain
    }

    /// Gives a traveller a seat.
    pub fn check_in(&mut self, traveller: u64) -> Result<Boarding> {
        self.seat(traveller, None)
    }

    /// Gives a traveller a seat that is held while `pay` runs, and given back if that says no.
    pub fn check_in_paying(&mut self, traveller: u64, mut pay: impl FnMut() -> bool) -> Result<Boarding> {
        self.seat(traveller, Some(&mut pay))
    }

    /// The seat that a traveller has.
    pub fn seat_of(&mut self, traveller: u64) -> Result<Option<Seat>> {
        let flight = &self.flight;
        let found = self.client.again(|connection| seat_of(connection, flight, traveller));
        found.map_err(|error| error.at(format!("traveller {traveller}, {}", flight.table())))
    }

    fn seat(&mut self, traveller: u64, mut pay: Option<&mut dyn FnMut() -> bool>) -> Result<Boarding> {
        let (way, flight, rng, in_vain) = (self.way, &self.flight, &mut self.rng, &mut self.in_vain);
        // Whoever pays holds the seat meanwhile, and that takes a transaction.
        let alone = way.is_one_statement() && pay.is_none();
        let mut once = |connection: &mut Conn| -> Result<Option<Boarding>, Said> {
            let taken = match way {
                Way::NoLock => look_first(connection, flight, traveller, &[""]),
                Way::ForUpdate => look_first(connection, flight, traveller, &["FOR UPDATE"]),
                Way::SkipLocked => look_first(connection, flight, traveller, &["FOR UPDATE SKIP LOCKED"]),
                Way::SkipThenWait => {
                    look_first(connection, flight, traveller, &["FOR UPDATE SKIP LOCKED", "FOR UPDATE"])
                }
                Way::Optimistic => optimistic(connection, flight, traveller, in_vain),
                Way::Atomic => {
                    let from = 1 + rng.below(flight.layout().seats().into());
                    atomic(connection, flight, traveller, from)
                }
            };
            match taken {
                // One of those who have them may be this traveller.
                Ok(None) => {
                    let own = seat_of(connection, flight, traveller)?;
                    Ok(Some(own.map_or(Boarding::Full, Boarding::Already)))
                }
                Ok(Some(seat)) => match catch_unwind(AssertUnwindSafe(|| pay.as_mut().is_none_or(|pay| pay()))) {
                    Ok(true) => Ok(flight.layout().seat(seat).ok().map(Boarding::Seat)),
                    Ok(false) => {
                        connection.query_drop("ROLLBACK")?;
                        Ok(Some(Boarding::Unpaid))
                    }
                    // Left open, the transaction would be committed by the next one on this desk.
                    Err(panic) => {
                        let _ = connection.query_drop("ROLLBACK");
                        resume_unwind(panic)
                    }
                },
                // The key says that this traveller has a seat.
                Err(Said::MySqlError(error)) if error.code == DUPLICATE => {
                    connection.query_drop("ROLLBACK")?;
                    Ok(seat_of(connection, flight, traveller)?.map(Boarding::Already))
                }
                Err(error) => Err(error),
            }
        };
        let at = |error: Error| error.at(format!("traveller {traveller}, {}", self.flight.table()));
        // Between the key's refusal and our question the traveller may have given the seat back.
        for _ in 0..MOST_TRIES {
            let answer = if alone { self.client.again(&mut once) } else { self.client.transaction(&mut once) };
            if let Some(boarding) = answer.map_err(at)? {
                return Ok(boarding);
            }
        }
        Err(at(Error::new("check a traveller in", "the traveller's seat comes and goes")))
    }
}

/// Looks with each lock in turn until one finds a seat, then writes the traveller into it.
fn look_first(connection: &mut Conn, flight: &Flight, traveller: u64, locks: &[&str]) -> Result<Option<u32>, Said> {
    for lock in locks {
        if let Some(seat) = first_free(connection, flight, lock)? {
            connection.query_drop(format!(
                "UPDATE {} SET traveller = {traveller} WHERE flight = 1 AND seat = {seat}",
                flight.table()
            ))?;
            return Ok(Some(seat));
        }
    }
    Ok(None)
}

fn optimistic(connection: &mut Conn, flight: &Flight, traveller: u64, in_vain: &mut u64) -> Result<Option<u32>, Said> {
    while let Some(seat) = first_free(connection, flight, "")? {
        connection.query_drop(format!(
            "UPDATE {} SET traveller = {traveller} WHERE flight = 1 AND seat = {seat} AND traveller IS NULL",
            flight.table()
        ))?;
        if connection.affected_rows() == 1 {
            return Ok(Some(seat));
        }
        *in_vain += 1;
    }
    Ok(None)
}

/// The first free seat from a random one on, and if there is none the first free one of all.
fn atomic(connection: &mut Conn, flight: &Flight, traveller: u64, from: u64) -> Result<Option<u32>, Said> {
    for from in [from, 1] {
        // The server remembers which seat it was, and tells with its answer.
        connection.query_drop(format!(
            "UPDATE {} SET traveller = {traveller}, seat = LAST_INSERT_ID(seat) \
             WHERE flight = 1 AND traveller IS NULL AND seat >= {from} ORDER BY seat LIMIT 1",
            flight.table()
        ))?;
        if connection.affected_rows() == 1 {
            return Ok(u32::try_from(connection.last_insert_id()).ok());
        }
    }
    Ok(None)
}

fn seat_of(connection: &mut Conn, flight: &Flight, traveller: u64) -> Result<Option<Seat>, Said> {
    let sql = format!("SELECT seat FROM {} WHERE flight = 1 AND traveller = {traveller} LIMIT 1", flight.table());
    Ok(connection.query_first(sql)?.and_then(|seat| flight.layout().seat(seat).ok()))
}

fn first_free(connection: &mut Conn, flight: &Flight, lock: &str) -> Result<Option<u32>, Said> {
    connection.query_first(format!(
        "SELECT seat FROM {} WHERE flight = 1 AND traveller IS NULL ORDER BY seat LIMIT 1 {lock}",
        flight.table()
    ))
}

//! One direction of one connection: what arrives, waits, and leaves.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::wire::Pass;
use super::{Direction, Settings, Shared, lock};
use crate::random::Rng;

/// What one read takes at most, and with it the largest piece that travels as one.
const CHUNK: usize = 16 << 10;
/// A slow wire frees room by a few bytes at a time; reading as little would fill it with crumbs.
const WORTH_READING: usize = CHUNK / 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// All was delivered, the end of the stream included.
    Finished,
    /// A reset was delivered.
    Reset,
    /// There is nobody to deliver to any more.
    Lost,
}

/// Something on its way.
pub(super) struct Piece {
    pub(super) cargo: Cargo,
    pub(super) arrived: Instant,
    /// The share of the jitter that it drew.
    pub(super) jitter: f64,
}

pub(super) enum Cargo {
    Bytes(Vec<u8>),
    End,
    Reset,
}

/// One direction of one connection.
pub(super) struct Pump<'a> {
    way: Direction,
    shared: &'a Shared,
    /// By direction: nobody is left to be delivered to.
    lost: &'a [AtomicBool; 2],
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that were delivered already.
    delivered: usize,
    bytes: usize,
    draws: Rng,
    pass: Option<Pass>,
}

impl<'a> Pump<'a> {
    pub(super) fn new(number: u64, way: Direction, shared: &'a Shared, lost: &'a [AtomicBool; 2]) -> Self {
        let draws = Rng::seeded(number, if way == Direction::ToServer { "link to server" } else { "link to client" });
        Self { way, shared, lost, pieces: VecDeque::new(), delivered: 0, bytes: 0, draws, pass: None }
    }

    /// A piece costs what it occupies, so that many small ones stay bounded, too.
    fn occupied(&self) -> usize {
        self.bytes + self.pieces.len() * size_of::<Piece>()
    }

    fn push(&mut self, cargo: Cargo) {
        if let Cargo::Bytes(bytes) = &cargo {
            self.bytes += bytes.len();
            self.shared.in_flight.fetch_add(bytes.len() as u64, Relaxed);
        }
        self.pieces.push_back(Piece { cargo, arrived: Instant::now(), jitter: self.draws.unit() });
    }

    fn passed(&mut self, count: usize) {
        self.bytes -= count;
        self.delivered += count;
        self.shared.in_flight.fetch_sub(count as u64, Relaxed);
        self.shared.passed[self.way as usize].fetch_add(count as u64, Relaxed);
        if let Some(pass) = &mut self.pass {
            pass.bytes -= count;
            if pass.bytes == 0 {
                self.pass = None;
            }
        }
        let whole = match self.pieces.front() {
            Some(Piece { cargo: Cargo::Bytes(bytes), .. }) => bytes.len() == self.delivered,
            _ => false,
        };
        if whole {
            self.pieces.pop_front();
            self.delivered = 0;
        }
    }

    /// What to do with the first piece, now.
    fn step(&mut self, settings: &Settings) -> Step {
        let Some(first) = self.pieces.front() else { return Step::Wait };
        if settings.held[self.way as usize] {
            return Step::Wait;
        }
        let now = Instant::now();
        match settings.due(self.way, first) {
            None => return Step::Wait,
            Some(due) if due > now => return Step::WaitUntil(due),
            Some(_) => {}
        }
        let left = match &first.cargo {
            Cargo::Reset => return Step::Reset,
            // Its sender is dead, which is no way to end a stream, however the socket words it.
            Cargo::End if self.lost[self.way.back() as usize].load(Relaxed) => return Step::Reset,
            Cargo::End => return Step::End,
            Cargo::Bytes(bytes) => bytes.len() - self.delivered,
        };
        let Some(rate) = settings.rate else {
            self.pass = None;
            return Step::Write(left);
        };
        if self.pass.as_ref().is_none_or(|pass| pass.rate != rate) {
            self.pass = lock(&self.shared.wires[self.way as usize]).pass(rate, left, now);
        }
        match &self.pass {
            None => Step::Wait,
            Some(pass) if pass.from > now => Step::WaitUntil(pass.from),
            Some(pass) => Step::Write(pass.bytes.min(left)),
        }
    }

    pub(super) async fn run(mut self, from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> End {
        let mut settings = self.shared.settings.subscribe();
        let mut reading = true;
        let mut buffer = vec![0; CHUNK];
        loop {
            let now = settings.borrow_and_update().clone();
            let step = self.step(&now);
            match step {
                Step::Reset => return End::Reset,
                Step::End if to.shutdown().await.is_ok() => return End::Finished,
                Step::End => return self.lose(),
                _ => {}
            }
            let room = now.room(self.way).saturating_sub(self.occupied()).min(CHUNK);
            tokio::select! {
                biased;
                _ = settings.changed() => {}
                // Delivery goes first: otherwise a fast sender would fill the room before anything leaves it.
                delivered = deliver(&to, &self.pieces, self.delivered, step) => match delivered {
                    Ok(count) => self.passed(count),
                    Err(_) => return self.lose(),
                },
                _ = from.readable(), if reading && room >= WORTH_READING => match from.try_read(&mut buffer[..room]) {
                    Ok(0) => {
                        reading = false;
                        self.push(Cargo::End);
                    }
                    Ok(count) => self.push(Cargo::Bytes(buffer[..count].to_vec())),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => {
                        reading = false;
                        self.push(Cargo::Reset);
                    }
                },
            }
        }
    }

    fn lose(&self) -> End {
        self.lost[self.way as usize].store(true, Relaxed);
        End::Lost
    }

    /// Lets nothing but a reset travel this way, held and delayed like everything else.
    pub(super) async fn reset(mut self) -> End {
        let mut settings = self.shared.settings.subscribe();
        self.push(Cargo::Reset);
        loop {
            let now = settings.borrow_and_update().clone();
            let until = match self.step(&now) {
                Step::WaitUntil(until) => Some(until),
                Step::Wait => None,
                _ => return End::Reset,
            };
            tokio::select! {
                _ = settings.changed() => {}
                () = sleep_until(until) => {}
            }
        }
    }
}

impl Drop for Pump<'_> {
    fn drop(&mut self) {
        self.shared.in_flight.fetch_sub(self.bytes as u64, Relaxed);
    }
}

#[derive(Clone, Copy)]
enum Step {
    /// For something to arrive or change.
    Wait,
    WaitUntil(Instant),
    /// So many bytes of the first piece.
    Write(usize),
    End,
    Reset,
}

/// Delivers a part of the first piece as `step` says, and says how much.
async fn deliver(to: &WriteHalf<'_>, pieces: &VecDeque<Piece>, delivered: usize, step: Step) -> io::Result<usize> {
    let (Step::Write(count), Some(Piece { cargo: Cargo::Bytes(bytes), .. })) = (step, pieces.front()) else {
        sleep_until(if let Step::WaitUntil(until) = step { Some(until) } else { None }).await;
        return Ok(0);
    };
    to.writable().await?;
    match to.try_write(&bytes[delivered..delivered + count]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}

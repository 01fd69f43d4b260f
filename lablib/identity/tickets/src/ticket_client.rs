//! A client of several ticket servers, which does without those that do not answer, or that somebody keeps locked.

use std::time::{Duration, Instant};

use super::session::{Failure, PATIENCE, Session};
use super::ticket_service::{TicketService, take};
use super::{Issuer, IssuerStats, Skip, Statement};
use lab::{Error, Result};

/// How long a server that did not answer, or was busy, is left alone.
const LEAVE_ALONE: Duration = Duration::from_millis(100);
/// After the next failure in a row, so many times as long as it took: a server that stands still costs a fifth of the time.
const LEAVE_ALONE_TIMES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(5);

/// A client of a [`TicketService`].
pub struct TicketClient {
    peers: Vec<Peer>,
    statement: Statement,
    skip: Option<Skip>,
    turn: usize,
}

struct Peer {
    session: Session,
    /// Not asked again before then.
    left_alone_until: Option<Instant>,
    /// How often it has failed since it last served.
    failures: u64,
}

impl TicketClient {
    pub(super) fn new(service: &TicketService) -> Self {
        let peer = |door: &super::session::Door| Peer { session: door.session(), left_alone_until: None, failures: 0 };
        let peers = service.doors.iter().map(peer).collect();
        Self { peers, statement: service.statement, skip: service.skip, turn: 0 }
    }

    /// Begins with this server, counted from 0, so that not all clients ask the same one at the same time.
    pub fn starting_at(mut self, server: usize) -> Self {
        self.turn = server % self.peers.len();
        self
    }

    fn ask(&mut self, index: usize) -> std::result::Result<u64, Failure> {
        let (number, servers) = (index as u64 + 1, self.peers.len() as u64);
        let (statement, skip, doing) = (self.statement, self.skip, "take a ticket");
        let peer = &mut self.peers[index];
        let id = peer.session.attempt(doing, |connection| take(connection, statement, skip))?;
        // A number of somebody else's share would be handed out twice, by us and by its owner.
        let ours = id > 0 && id % servers == number % servers;
        if !ours && skip != Some(Skip::IncrementAndShare) {
            let cause = format!("server {number} of {servers} answered {id}, which is not in its share");
            return Err(Failure::Refused(Error::new(doing, cause).remedy("repair its table before it serves again")));
        }
        Ok(id)
    }
}

impl Issuer for TicketClient {
    fn next_id(&mut self) -> Result<u64> {
        let (began, mut last) = (Instant::now(), None);
        loop {
            for _ in 0..self.peers.len() {
                let index = self.turn;
                self.turn = (self.turn + 1) % self.peers.len();
                if self.peers[index].left_alone_until.is_some_and(|until| Instant::now() < until) {
                    continue;
                }
                let asked = Instant::now();
                match self.ask(index) {
                    Ok(id) => {
                        self.peers[index].failures = 0;
                        return Ok(id);
                    }
                    Err(Failure::Refused(error)) => return Err(error),
                    Err(Failure::Gone(error) | Failure::Busy(error)) => {
                        let peer = &mut self.peers[index];
                        peer.failures += 1;
                        let dear = if peer.failures > 1 { asked.elapsed() * LEAVE_ALONE_TIMES } else { LEAVE_ALONE };
                        peer.left_alone_until = Some(Instant::now() + dear.max(LEAVE_ALONE));
                        last = Some(error);
                    }
                }
            }
            if began.elapsed() > PATIENCE {
                let error = last.unwrap_or_else(|| Error::new("take a ticket", "no ticket server answers"));
                return Err(error.remedy("start one of the ticket servers again, or see who keeps its row locked"));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn stats(&self) -> IssuerStats {
        self.peers.iter().fold(IssuerStats::default(), |sum, peer| sum.plus(peer.session.stats))
    }
}

//! The connecting end: one thread and one epoll set that opens thousands of connections and has every one of them echo.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::socket::setsockopt;
use nix::{setsockopt_impl, sockopt_impl};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::echo::Framing;
use lab::{Doing, Error, Result, Rng};

/// What a connecting process is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectSpec {
    /// Addresses to connect to; connections are dealt out to them in turn.
    pub addresses: Vec<SocketAddr>,
    /// Number of connections.
    pub connections: u64,
    /// The number of the first connection; each sends its own.
    pub first: u64,
    /// Connections that may be under way at once.
    pub window: u64,
    /// What the bytes mean.
    pub framing: Framing,
    /// Whether a connection counts only when its number has come back. Without it, it counts when the kernel says so.
    pub echo: bool,
    /// SO_SNDBUF, where it is not the kernel's own choice.
    pub send_buffer: Option<usize>,
}

impl ConnectSpec {
    /// This many connections, each of which echoes once; the addresses are still to be said.
    pub fn new(connections: u64, framing: Framing) -> Self {
        Self { addresses: Vec::new(), connections, first: 0, window: 256, framing, echo: true, send_buffer: None }
    }
}

sockopt_impl!(
    /// Takes a socket out of the conversation: closed like this, it says nothing to the other end. The option has no name in the
    /// library, and wants the right to administer the network that the socket is in.
    Repair, SetOnly, libc::IPPROTO_TCP, libc::TCP_REPAIR, i32
);

/// How long nothing may happen before the rest is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// The key of RFC 6455's own example.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// Events of an epoll set that are read at once.
const EVENTS: usize = 512;

/// How far a connecting process is; read while it works.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Connections that the kernel calls established.
    pub(crate) open: AtomicU64,
    /// Connections whose own number came back.
    pub(crate) echoed: AtomicU64,
    /// Connections on which something else came back.
    pub(crate) wrong: AtomicU64,
    /// Connections that the other end closed, or refused.
    pub(crate) lost: AtomicU64,
    /// Microseconds from the first connection to the last echo.
    pub(crate) microseconds: AtomicU64,
    pub(crate) done: AtomicBool,
    pub(crate) stop: AtomicBool,
    ended: Mutex<Option<String>>,
}

impl Progress {
    /// Why it ended before the last connection.
    pub(crate) fn ended(&self) -> Option<String> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn stop_because(&self, why: String) {
        self.stop.store(true, Ordering::Relaxed);
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    Connecting,
    Upgrading,
    Echoing,
    Open,
    Lost,
}

/// Connections, and what each of them waits for.
#[derive(Debug)]
pub(crate) struct Connector {
    epoll: Epoll,
    spec: ConnectSpec,
    streams: Vec<Option<TcpStream>>,
    stages: Vec<Stage>,
    /// Answers that have come in part.
    partial: HashMap<usize, Vec<u8>>,
    settled: u64,
    progress: Arc<Progress>,
}

/// The answers to one message each, on some connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pinged {
    /// Nanoseconds of each, in the order in which they were sent.
    pub(crate) nanoseconds: Vec<u64>,
    /// Answers that did not come, or were not the connection's own.
    pub(crate) wrong: u64,
}

impl Connector {
    pub(crate) fn new(spec: ConnectSpec, progress: Arc<Progress>) -> Result<Self> {
        if spec.addresses.is_empty() || spec.window == 0 {
            return Err(Error::new("connect", "it needs an address, and room for one connection under way"));
        }
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).doing("make an epoll set")?,
            spec,
            streams: Vec::new(),
            stages: Vec::new(),
            partial: HashMap::new(),
            settled: 0,
            progress,
        })
    }

    /// Opens all connections, or as many as it can; why it stopped is in the progress.
    pub(crate) fn open(&mut self) -> Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let began = Instant::now();
        let mut last = began;
        loop {
            let begun = self.streams.len() as u64;
            let stop = self.progress.stop.load(Ordering::Relaxed);
            let room = self.spec.window.saturating_sub(begun - self.settled).min(self.spec.connections - begun);
            for _ in 0..if stop { 0 } else { room } {
                if let Err(error) = self.begin() {
                    self.progress.stop_because(error);
                    break;
                }
            }
            let under_way = self.streams.len() as u64 - self.settled;
            if under_way == 0 && (stop || self.streams.len() as u64 >= self.spec.connections) {
                break;
            }
            let count = self.wait(&mut events, 100_u16)?;
            for event in &events[..count] {
                self.advance(event.data() as usize, event.events());
            }
            if count > 0 {
                last = Instant::now();
            } else if under_way > 0 && last.elapsed() > PATIENCE {
                self.progress.stop_because(format!("no answer for {PATIENCE:?} on {under_way} connections"));
                break;
            }
        }
        self.progress.microseconds.store(last.duration_since(began).as_micros() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn wait(&self, events: &mut [EpollEvent], milliseconds: u16) -> Result<usize> {
        match self.epoll.wait(events, milliseconds) {
            Err(Errno::EINTR) => Ok(0),
            other => other.doing("wait for connections"),
        }
    }

    /// Starts one connection; an error is the kernel's word for what ran out.
    fn begin(&mut self) -> Result<(), String> {
        let place = self.streams.len();
        let address = self.spec.addresses[place % self.spec.addresses.len()];
        let failed = |error: std::io::Error| match error.raw_os_error() {
            Some(number) => Errno::from_raw(number).to_string(),
            None => error.to_string(),
        };
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).map_err(failed)?;
        // Closing resets: nothing is left in TIME_WAIT, also when the process is killed.
        socket.set_linger(Some(Duration::ZERO)).map_err(failed)?;
        if let Some(bytes) = self.spec.send_buffer {
            socket.set_send_buffer_size(bytes).map_err(failed)?;
        }
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => return Err(failed(error)),
            _ => {}
        }
        let stream = TcpStream::from(socket);
        // On loopback the handshake is often over by now, which spares a turn through the epoll set.
        let said = self.spec.echo.then(|| (&stream).write(&self.first_words(place)));
        let (stage, flags) = match said {
            Some(Ok(_)) => (self.stage_after_speaking(), EpollFlags::EPOLLIN),
            Some(Err(error)) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                return Err(failed(error));
            }
            _ => (Stage::Connecting, EpollFlags::EPOLLOUT),
        };
        self.epoll.add(&stream, EpollEvent::new(flags, place as u64)).map_err(|error| error.to_string())?;
        if stage != Stage::Connecting {
            self.progress.open.fetch_add(1, Ordering::Relaxed);
        }
        self.streams.push(Some(stream));
        self.stages.push(stage);
        Ok(())
    }

    fn stage_after_speaking(&self) -> Stage {
        match self.spec.framing {
            Framing::Plain => Stage::Echoing,
            Framing::WebSocket(_) => Stage::Upgrading,
        }
    }

    fn first_words(&self, place: usize) -> Vec<u8> {
        match self.spec.framing {
            Framing::Plain => self.message(place),
            Framing::WebSocket(_) => format!(
                "GET / HTTP/1.1\r\nHost: lab\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
            )
            .into_bytes(),
        }
    }

    /// The connection's number, as a client's message.
    fn message(&self, place: usize) -> Vec<u8> {
        let number = (self.spec.first + place as u64).to_le_bytes();
        match self.spec.framing {
            Framing::Plain => number.to_vec(),
            // A binary frame of eight bytes; the mask is made of the number too, as long as it is one.
            Framing::WebSocket(_) => {
                let mask = [number[0], 0x5a, number[1], 0xa5];
                let masked = number.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
                [0x82, 0x88].into_iter().chain(mask).chain(masked).collect()
            }
        }
    }

    /// What has to come back.
    fn answer(&self, place: usize) -> Vec<u8> {
        let number = (self.spec.first + place as u64).to_le_bytes();
        match self.spec.framing {
            Framing::Plain => number.to_vec(),
            Framing::WebSocket(_) => [0x82, 0x08].into_iter().chain(number).collect(),
        }
    }

    fn advance(&mut self, place: usize, flags: EpollFlags) {
        match self.stages[place] {
            Stage::Connecting => self.connected(place),
            Stage::Upgrading | Stage::Echoing => match self.read_answer(place) {
                Heard::More => {}
                Heard::Gone => self.lose(place),
                Heard::Upgraded => {
                    self.stages[place] = Stage::Echoing;
                    if !self.say(place) {
                        self.lose(place);
                    }
                }
                Heard::Whole(right) => self.settle(place, right),
            },
            Stage::Open if flags.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) => self.lose(place),
            Stage::Open | Stage::Lost => {}
        }
    }

    fn connected(&mut self, place: usize) {
        let Some(stream) = &self.streams[place] else { return };
        if !matches!(stream.take_error(), Ok(None)) {
            return self.lose(place);
        }
        if self.epoll.modify(stream, &mut EpollEvent::new(EpollFlags::EPOLLIN, place as u64)).is_err() {
            return self.lose(place);
        }
        self.progress.open.fetch_add(1, Ordering::Relaxed);
        if !self.spec.echo {
            self.stages[place] = Stage::Open;
            self.settled += 1;
            return;
        }
        let words = self.first_words(place);
        match self.streams[place].as_mut().map(|stream| stream.write(&words)) {
            Some(Ok(_)) => self.stages[place] = self.stage_after_speaking(),
            _ => self.lose(place),
        }
    }

    /// Sends the connection's number.
    fn say(&mut self, place: usize) -> bool {
        let message = self.message(place);
        let Some(stream) = self.streams.get_mut(place).and_then(Option::as_mut) else { return false };
        matches!(stream.write(&message), Ok(sent) if sent == message.len())
    }

    fn settle(&mut self, place: usize, right: bool) {
        self.stages[place] = Stage::Open;
        self.settled += 1;
        let counter = if right { &self.progress.echoed } else { &self.progress.wrong };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn lose(&mut self, place: usize) {
        if !matches!(self.stages[place], Stage::Open) {
            self.settled += 1;
        }
        self.stages[place] = Stage::Lost;
        self.streams[place] = None;
        self.partial.remove(&place);
        self.progress.lost.fetch_add(1, Ordering::Relaxed);
    }

    fn read_answer(&mut self, place: usize) -> Heard {
        let expected = self.answer(place);
        let Some(stream) = self.streams[place].as_mut() else { return Heard::Gone };
        let mut buffer = [0; 512];
        let length = match stream.read(&mut buffer) {
            Ok(0) => return Heard::Gone,
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Heard::More,
            Err(_) => return Heard::Gone,
        };
        let mut bytes = self.partial.remove(&place).unwrap_or_default();
        bytes.extend_from_slice(&buffer[..length]);
        if self.stages[place] == Stage::Upgrading {
            let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
                self.partial.insert(place, bytes);
                return Heard::More;
            };
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let key = derive_accept_key(KEY.as_bytes()).to_ascii_lowercase();
            let upgraded = head.starts_with("http/1.1 101") && head.contains(&key);
            return if upgraded { Heard::Upgraded } else { Heard::Gone };
        }
        if bytes.len() < expected.len() {
            self.partial.insert(place, bytes);
            return Heard::More;
        }
        Heard::Whole(bytes == expected)
    }

    /// The places of connections that are open.
    fn places(&self) -> Vec<usize> {
        (0..self.stages.len()).filter(|place| self.stages[*place] == Stage::Open).collect()
    }

    /// One message after the other, each on its own connection drawn at random, or all on the first one.
    pub(crate) fn ping(&mut self, count: u64, always_the_first: bool, seed: u64) -> Result<Pinged> {
        let places = self.places();
        let mut pinged = Pinged::default();
        let mut rng = Rng::seeded(seed, "whom to ping");
        for _ in 0..count {
            let Some(last) = places.len().checked_sub(1) else {
                return Err(Error::new("ping a connection", "none is open"));
            };
            let drawn = if always_the_first { 0 } else { rng.below(last as u64 + 1) as usize };
            let began = Instant::now();
            match self.ask(places[drawn]) {
                true => pinged.nanoseconds.push(began.elapsed().as_nanos() as u64),
                // A server that is silent once will be silent again: nobody waits that long for each of thousands.
                false if began.elapsed() >= PATIENCE => {
                    pinged.wrong = count - pinged.nanoseconds.len() as u64;
                    break;
                }
                false => pinged.wrong += 1,
            }
        }
        Ok(pinged)
    }

    /// Sends a connection's number and waits for it to come back.
    fn ask(&mut self, place: usize) -> bool {
        if !self.say(place) {
            return false;
        }
        self.stages[place] = Stage::Echoing;
        let began = Instant::now();
        let mut events = [EpollEvent::empty(); 16];
        while began.elapsed() < PATIENCE {
            let Ok(count) = self.wait(&mut events, 100) else { return false };
            for event in &events[..count] {
                let answered = event.data() as usize;
                if answered != place {
                    self.advance(answered, event.events());
                    continue;
                }
                match self.read_answer(place) {
                    Heard::Whole(right) => {
                        self.stages[place] = Stage::Open;
                        return right;
                    }
                    Heard::Gone | Heard::Upgraded => {
                        self.lose(place);
                        return false;
                    }
                    Heard::More => {}
                }
            }
        }
        false
    }

    /// `requests` messages, one under way on each of the first `width` connections at any time; returns the seconds that it
    /// took, and how many answers were wrong or missing.
    pub(crate) fn storm(&mut self, requests: u64, width: usize) -> Result<(f64, u64)> {
        let places: Vec<usize> = self.places().into_iter().take(width).collect();
        if places.is_empty() {
            return Err(Error::new("send requests", "no connection is open"));
        }
        let (mut sent, mut answered, mut wrong) = (0, 0, 0);
        let mut events = [EpollEvent::empty(); EVENTS];
        let (began, mut last) = (Instant::now(), Instant::now());
        for &place in places.iter().take(usize::try_from(requests).unwrap_or(usize::MAX)) {
            self.stages[place] = Stage::Echoing;
            sent += 1;
            if !self.say(place) {
                (answered, wrong) = (answered + 1, wrong + 1);
            }
        }
        while answered < requests {
            let count = self.wait(&mut events, 100)?;
            for event in &events[..count] {
                let place = event.data() as usize;
                match self.read_answer(place) {
                    Heard::More => continue,
                    Heard::Whole(true) => {}
                    Heard::Whole(false) => wrong += 1,
                    Heard::Gone | Heard::Upgraded => {
                        self.lose(place);
                        return Err(Error::new("send requests", "the server closed a connection"));
                    }
                }
                answered += 1;
                if sent < requests {
                    sent += 1;
                    if !self.say(place) {
                        (answered, wrong) = (answered + 1, wrong + 1);
                    }
                }
            }
            if count > 0 {
                last = Instant::now();
            } else if last.elapsed() > PATIENCE {
                return Err(Error::new(
                    "send requests",
                    format!("{} of {requests} got no answer", requests - answered),
                ));
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        for place in places {
            self.stages[place] = Stage::Open;
        }
        Ok((seconds, wrong))
    }

    /// Closes its end of every connection without a word, so that the other end still believes in it, as when a client's power
    /// fails. Refused before anything is closed where this process may not administer its network.
    pub(crate) fn vanish(&mut self) -> Result<()> {
        let open: Vec<&TcpStream> = self.streams.iter().flatten().collect();
        open.iter().try_for_each(|stream| setsockopt(*stream, Repair, &1)).doing("close connections without a word")?;
        self.streams.clear();
        self.stages.clear();
        self.partial.clear();
        Ok(())
    }

    /// Writes to every connection until the kernel takes no more, or has `most` bytes of each; returns the bytes that it took in all.
    pub(crate) fn fill(&mut self, most: usize) -> Result<u64> {
        let bytes = [0x6c; 4096];
        let mut taken = 0;
        for place in self.places() {
            let Some(stream) = self.streams[place].as_mut() else { continue };
            let mut here = 0;
            while here < most {
                match stream.write(&bytes[..bytes.len().min(most - here)]) {
                    Ok(sent) => here += sent,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(Error::new("fill a connection", error)),
                }
            }
            taken += here as u64;
        }
        Ok(taken)
    }
}

/// What reading from a connection gave.
enum Heard {
    More,
    Gone,
    Upgraded,
    Whole(bool),
}

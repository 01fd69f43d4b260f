//! The connecting end: one thread and one epoll set that opens thousands of connections and has every one of them echo.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::socket::setsockopt;
use nix::{setsockopt_impl, sockopt_impl};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::State;
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
    /// How long nothing may happen before the rest is given up.
    pub patience: Duration,
}

impl ConnectSpec {
    /// This many connections, each of which echoes once; the addresses are still to be said.
    pub fn new(connections: u64, framing: Framing) -> Self {
        Self {
            addresses: Vec::new(),
            connections,
            first: 0,
            window: 256,
            framing,
            echo: true,
            send_buffer: None,
            patience: Duration::from_secs(10),
        }
    }
}

sockopt_impl!(
    /// Takes a socket out of the conversation: closed like this, it says nothing to the other end. The option has no name in the
    /// library, and wants the right to administer the network that the socket is in.
    Repair, SetOnly, libc::IPPROTO_TCP, libc::TCP_REPAIR, i32
);

/// The key of RFC 6455's own example.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// Events of an epoll set that are read at once.
const EVENTS: usize = 512;

/// How far a connecting process is; read while it works.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    state: Mutex<State>,
    pub(crate) stop: AtomicBool,
}

impl Progress {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops it before the last connection, and keeps why.
    pub(crate) fn stop_because(&self, why: String) {
        self.stop.store(true, Ordering::Relaxed);
        self.state().ended.get_or_insert(why);
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
            } else if under_way > 0 && last.elapsed() > self.spec.patience {
                let patience = self.spec.patience;
                self.progress.stop_because(format!("no answer for {patience:?} on {under_way} connections"));
                break;
            }
        }
        self.progress.state().seconds = last.duration_since(began).as_secs_f64();
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
            self.progress.state().open += 1;
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
                    if self.say(place).is_none() {
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
        self.progress.state().open += 1;
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

    /// Sends the connection's number; none where it cannot be sent.
    fn say(&mut self, place: usize) -> Option<()> {
        let message = self.message(place);
        let sent = self.streams.get_mut(place)?.as_mut()?.write(&message).ok()?;
        (sent == message.len()).then_some(())
    }

    fn settle(&mut self, place: usize, right: bool) {
        self.stages[place] = Stage::Open;
        self.settled += 1;
        let mut state = self.progress.state();
        if right { state.echoed += 1 } else { state.wrong += 1 }
    }

    fn lose(&mut self, place: usize) {
        if !matches!(self.stages[place], Stage::Open) {
            self.settled += 1;
        }
        self.stages[place] = Stage::Lost;
        self.streams[place] = None;
        self.partial.remove(&place);
        self.progress.state().lost += 1;
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

    /// The places of connections that are open; an error where there are none.
    fn open_places(&self) -> Result<Vec<usize>> {
        let places: Vec<usize> = (0..self.stages.len()).filter(|place| self.stages[*place] == Stage::Open).collect();
        if places.is_empty() { Err(Error::new("use the connections", "none is open")) } else { Ok(places) }
    }

    /// One message after the other, each on its own connection drawn at random, or all on the first one: the seconds of each answer that
    /// was the connection's own, and how many were not.
    pub(crate) fn ping(&mut self, count: u64, always_the_first: bool, seed: u64) -> Result<(Vec<f64>, u64)> {
        let places = self.open_places()?;
        let mut rng = Rng::seeded(seed, "whom to ping");
        let (mut took, mut wrong) = (Vec::new(), 0);
        for _ in 0..count {
            let drawn = if always_the_first { 0 } else { rng.below(places.len() as u64) as usize };
            match self.exchange(1, &places[drawn..=drawn])? {
                (seconds, 0) => took.push(seconds),
                _ => wrong += 1,
            }
        }
        Ok((took, wrong))
    }

    /// `requests` messages, one under way on each connection at any time: the seconds that it took, and how many answers were wrong.
    pub(crate) fn storm(&mut self, requests: u64) -> Result<(f64, u64)> {
        let places = self.open_places()?;
        self.exchange(requests, &places)
    }

    fn exchange(&mut self, requests: u64, places: &[usize]) -> Result<(f64, u64)> {
        let doing = "send requests";
        let gone = || Error::new(doing, "the server closed a connection");
        let (mut answered, mut wrong) = (0, 0);
        let mut events = [EpollEvent::empty(); EVENTS];
        let (began, mut last) = (Instant::now(), Instant::now());
        let mut sent = requests.min(places.len() as u64);
        for &place in &places[..sent as usize] {
            self.say(place).ok_or_else(gone)?;
        }
        while answered < requests {
            let count = self.wait(&mut events, 100)?;
            for event in &events[..count] {
                let place = event.data() as usize;
                match self.read_answer(place) {
                    Heard::More => continue,
                    Heard::Whole(right) => wrong += u64::from(!right),
                    Heard::Gone | Heard::Upgraded => return Err(gone()),
                }
                answered += 1;
                if sent < requests {
                    sent += 1;
                    self.say(place).ok_or_else(gone)?;
                }
            }
            if count > 0 {
                last = Instant::now();
            } else if last.elapsed() > self.spec.patience {
                let (silent, patience) = (requests - answered, self.spec.patience);
                return Err(Error::new(doing, format!("no answer for {patience:?} to {silent} of {requests}")));
            }
        }
        Ok((began.elapsed().as_secs_f64(), wrong))
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

    /// Writes to every connection until the kernel takes no more, or has 4 MiB of each.
    pub(crate) fn fill(&mut self) -> Result<()> {
        let bytes = [0x6c; 4096];
        for place in self.open_places()? {
            let Some(stream) = self.streams[place].as_mut() else { continue };
            for _ in 0..1_024 {
                match stream.write(&bytes) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(Error::new("fill a connection", error)),
                }
            }
        }
        Ok(())
    }
}

/// What reading from a connection gave.
enum Heard {
    More,
    Gone,
    Upgraded,
    Whole(bool),
}

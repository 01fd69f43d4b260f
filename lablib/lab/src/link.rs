//! The wire to a server, with a hand on it: a TCP proxy that delays, throttles, cuts and half-opens connections.
//!
//! A client is given [`Link::address`] instead of the server's own. Without a fault every byte passes as it came.
//!
//! What holds, whatever is called and from whichever thread:
//!
//! * **Bytes arrive whole and in order.** No delay, jitter, throttle, hold or heal loses, repeats or reorders one. The
//!   end of a stream (FIN) follows its last byte and leaves the other direction open; a reset (RST) passes as a reset,
//!   and a server that is down looks like one.
//! * **A delay is never shorter than asked and costs no throughput.** Bytes travel side by side, as on a long wire;
//!   jitter adds up to its maximum on top. A changed delay counts for what is on its way, too.
//! * **A throttle is never exceeded,** but for 20 ms worth of burst. The rate is the link's, in each direction, and all
//!   connections share it, in turns.
//! * **A cut is a reset at once.** When [`Link::cut`] or [`Link::cut_connections`] returns, every connection that a
//!   client had is reset (the client sees an error, not a clean end) and what was on its way is lost.
//! * **A half-open link is silent.** Nothing that is sent after [`Link::half_open`] returned passes until
//!   [`Link::heal`]: no byte, no end, no reset. TCP would send it again, so it is held, not dropped, and passes then.
//! * **Nothing grows without bound, nothing outlives the link.** A direction of a connection holds at most 64 KiB and
//!   what a delay keeps on its way (at most 4 MiB), then its sender has to wait. Dropping the link frees its port and
//!   resets every connection.

use std::collections::BTreeSet;
use std::fmt;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::watch;

use crate::runtime::runtime;
use crate::{Doing, Error, OrFail, Result};

mod carry;
mod pump;
mod wire;

use carry::{Registered, carry};
use pump::Piece;
use wire::Wire;

/// What an undelayed direction of a connection holds.
const HELD_AT_LEAST: usize = 64 << 10;
/// What a delay may add to it.
const ON_ITS_WAY_AT_MOST: usize = 4 << 20;

/// The way that bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

impl Direction {
    fn back(self) -> Self {
        match self {
            Self::ToServer => Self::ToClient,
            Self::ToClient => Self::ToServer,
        }
    }
}

/// What has passed through a [`Link`] so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkStats {
    /// Connections that are open now.
    pub open: u64,
    /// Connections ever accepted, without the refused ones.
    pub total: u64,
    /// Connections turned away because the link was cut.
    pub refused: u64,
    /// Bytes handed to the server.
    pub to_server: u64,
    /// Bytes handed to clients.
    pub to_client: u64,
    /// Bytes inside the link: delayed, throttled or held.
    pub in_flight: u64,
}

/// The faults and the target: what a connection looks at before it passes anything on.
#[derive(Clone)]
struct Settings {
    target: Arc<[SocketAddr]>,
    delay: [Duration; 2],
    jitter: Duration,
    held: [bool; 2],
    /// Bytes per second.
    rate: Option<u64>,
    /// Connections below this number are to be reset.
    doomed_below: u64,
    closed: bool,
}

impl Settings {
    /// How many bytes one direction of a connection may hold: a long wire holds what is on its way, a short one little.
    fn room(&self, way: Direction) -> usize {
        let longest = self.delay[way as usize].saturating_add(self.jitter);
        let on_its_way = match self.rate {
            _ if longest.is_zero() => 0,
            None => ON_ITS_WAY_AT_MOST,
            Some(rate) => (rate as f64 * longest.as_secs_f64()).min(ON_ITS_WAY_AT_MOST as f64) as usize,
        };
        HELD_AT_LEAST + on_its_way
    }

    /// When a piece may leave; never, if the delay reaches beyond the end of time.
    fn due(&self, way: Direction, piece: &Piece) -> Option<Instant> {
        let jitter = Duration::try_from_secs_f64(self.jitter.as_secs_f64() * piece.jitter).unwrap_or(Duration::MAX);
        piece.arrived.checked_add(self.delay[way as usize].saturating_add(jitter))
    }
}

/// Who is connected. New connections are accepted under its lock, so that a cut misses none.
struct Register {
    next: u64,
    open: BTreeSet<u64>,
    refused: u64,
    cut: bool,
    listening: bool,
}

struct Shared {
    settings: watch::Sender<Settings>,
    register: Mutex<Register>,
    left: Condvar,
    wires: [Mutex<Wire>; 2],
    passed: [AtomicU64; 2],
    in_flight: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A TCP proxy in front of one server.
///
/// Faults are set while clients are connected, by calls that can be chained:
///
/// ```
/// use lab::link::{Direction, Link};
/// use std::io::{Read, Write};
/// use std::time::{Duration, Instant};
///
/// let server = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let link = Link::to(&server.local_addr()?.to_string())?;
/// link.delay(Duration::from_millis(20)).throttle(1_000_000);
///
/// let mut client = std::net::TcpStream::connect(link.address())?;
/// let (mut served, _) = server.accept()?;
/// let sent = Instant::now();
/// client.write_all(b"ping")?;
/// let mut heard = [0; 4];
/// served.read_exact(&mut heard)?;
/// assert_eq!(&heard, b"ping");
/// assert!(sent.elapsed() >= Duration::from_millis(20));
///
/// link.heal().cut_connections();
/// assert!(client.read(&mut heard).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Link {
    address: String,
    local: SocketAddr,
    listener: TcpListener,
    shared: Arc<Shared>,
}

/// A link to the server at `target` (`host:port`); for a notebook's cell, which fails where there can be none.
///
/// ```
/// let redis = lab::redis();
/// let link = lab::link(redis.address());
/// assert_ne!(link.address(), redis.address());
/// ```
#[track_caller]
pub fn link(target: &str) -> Link {
    Link::to(target).or_fail()
}

impl Link {
    /// A link to the server at `target` (`host:port`), on a free port of its own.
    ///
    /// ```
    /// use lab::link::Link;
    ///
    /// let link = Link::to("127.0.0.1:6379")?;
    /// assert!(link.address().starts_with("127.0.0.1:"));
    /// assert!(Link::to("the moon").is_err());
    /// # Ok::<(), lab::Error>(())
    /// ```
    pub fn to(target: &str) -> Result<Self> {
        Self::listen_on(0, target)
    }

    /// A link to `target` on a port that must be known beforehand (a cluster's node, a replica's primary); 0 takes a
    /// free one.
    pub fn listen_on(port: u16, target: &str) -> Result<Self> {
        const OPENING: &str = "open a link";
        let target = resolve(target, OPENING)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|cause| {
            Error::new(OPENING, cause).at(format!("127.0.0.1:{port}")).remedy("0 takes a free port")
        })?;
        listener.set_nonblocking(true).doing(OPENING)?;
        let local = listener.local_addr().doing(OPENING)?;
        not_itself(&target, local, OPENING)?;

        let settings = watch::Sender::new(Settings {
            target,
            delay: [Duration::ZERO; 2],
            jitter: Duration::ZERO,
            held: [false; 2],
            rate: None,
            doomed_below: 0,
            closed: false,
        });
        let register = Register { next: 0, open: BTreeSet::new(), refused: 0, cut: false, listening: true };
        let shared = Arc::new(Shared {
            settings,
            register: Mutex::new(register),
            left: Condvar::new(),
            wires: [Mutex::new(Wire::new()), Mutex::new(Wire::new())],
            passed: [AtomicU64::new(0), AtomicU64::new(0)],
            in_flight: AtomicU64::new(0),
        });
        let _inside = runtime().enter();
        let door = listener.try_clone().and_then(tokio::net::TcpListener::from_std).doing(OPENING)?;
        runtime().spawn(listen(door, shared.clone()));
        Ok(Self { address: local.to_string(), local, listener, shared })
    }

    /// Where clients connect: `127.0.0.1:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The port that clients connect to.
    pub fn port(&self) -> u16 {
        self.local.port()
    }

    /// Holds every byte back for `latency`, in each direction: a round trip takes twice as long. Opening a connection
    /// is not delayed. Zero takes the delay away; what is on its way follows the new delay.
    pub fn delay(&self, latency: Duration) -> &Self {
        self.set(|settings| settings.delay = [latency; 2])
    }

    /// [`delay`](Self::delay) for one direction only.
    pub fn delay_toward(&self, direction: Direction, latency: Duration) -> &Self {
        self.set(|settings| settings.delay[direction as usize] = latency)
    }

    /// Adds between nothing and `most` to the delay of each piece, drawn from a stream seeded by the connection's
    /// number. Order is kept: a piece that drew little waits for the one before it.
    pub fn jitter(&self, most: Duration) -> &Self {
        self.set(|settings| settings.jitter = most)
    }

    /// Lets `bytes_per_second` through in each direction, shared by all connections. 0 lets nothing pass, `u64::MAX`
    /// everything.
    pub fn throttle(&self, bytes_per_second: u64) -> &Self {
        self.set(|settings| settings.rate = (bytes_per_second < u64::MAX).then_some(bytes_per_second))
    }

    /// Resets every connection and, until [`heal`](Self::heal), every new one as soon as it is made.
    pub fn cut(&self) -> &Self {
        self.reset(true)
    }

    /// Resets every connection, once: new ones are fine.
    pub fn cut_connections(&self) -> &Self {
        self.reset(false)
    }

    /// Both ends stay connected and hear nothing more from each other, until [`heal`](Self::heal) lets pass what was
    /// held.
    ///
    /// New connections are accepted and reach the server on healing, like a handshake that is tried again. One that its
    /// client has closed by then (or half-closed) was given up, and never reaches the server.
    pub fn half_open(&self) -> &Self {
        self.set(|settings| settings.held = [true; 2])
    }

    /// [`half_open`](Self::half_open) for one direction. A handshake needs both, so new connections have to wait, too.
    pub fn half_open_toward(&self, direction: Direction) -> &Self {
        self.set(|settings| settings.held[direction as usize] = true)
    }

    /// Takes every fault away: delay, jitter, throttle, cut and half-open. What was held passes.
    pub fn heal(&self) -> &Self {
        let mut register = lock(&self.shared.register);
        register.cut = false;
        // Under the same lock as a cut, so that of the two one comes wholly first.
        self.set(|settings| {
            settings.delay = [Duration::ZERO; 2];
            settings.jitter = Duration::ZERO;
            settings.rate = None;
            settings.held = [false; 2];
        })
    }

    /// Sends new connections to another server (the old one came back on a new port). Those that exist stay where they
    /// are.
    pub fn retarget(&self, target: &str) -> Result<&Self> {
        let operation = "retarget a link";
        let target = resolve(target, operation)?;
        not_itself(&target, self.local, operation)?;
        Ok(self.set(|settings| settings.target = target))
    }

    /// Connections and bytes so far; a connection that a client has made by now is counted.
    pub fn stats(&self) -> LinkStats {
        admit_waiting(&self.listener, &self.shared, &mut lock(&self.shared.register));
        let register = lock(&self.shared.register);
        LinkStats {
            open: register.open.len() as u64,
            total: register.next,
            refused: register.refused,
            to_server: self.shared.passed[Direction::ToServer as usize].load(Relaxed),
            to_client: self.shared.passed[Direction::ToClient as usize].load(Relaxed),
            in_flight: self.shared.in_flight.load(Relaxed),
        }
    }

    fn set(&self, change: impl FnOnce(&mut Settings)) -> &Self {
        self.shared.settings.send_modify(change);
        self
    }

    fn reset(&self, until_healed: bool) -> &Self {
        let mut register = lock(&self.shared.register);
        // A client whose connect has returned counts as connected, even when nobody has accepted it yet.
        admit_waiting(&self.listener, &self.shared, &mut register);
        register.cut |= until_healed;
        let doomed_below = register.next;
        self.set(|settings| settings.doomed_below = doomed_below);
        drop(register);
        self.wait_until(|register| register.open.first().is_none_or(|&oldest| oldest >= doomed_below));
        self
    }

    /// Waits for the tasks of the link; they only have to close sockets.
    fn wait_until(&self, done: impl Fn(&Register) -> bool) {
        let wait = || {
            let register = lock(&self.shared.register);
            drop(self.shared.left.wait_while(register, |register| !done(register)));
        };
        // On one of the runtime's own threads those tasks might be queued behind this very call.
        match Handle::try_current() {
            Ok(inside) if inside.runtime_flavor() == RuntimeFlavor::MultiThread => tokio::task::block_in_place(wait),
            _ => wait(),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.set(|settings| {
            settings.doomed_below = u64::MAX;
            settings.closed = true;
        });
        self.wait_until(|register| register.open.is_empty() && !register.listening);
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.shared.settings.borrow().target.clone();
        write!(f, "Link({} -> {target:?}, {:?})", self.address, self.stats())
    }
}

fn resolve(target: &str, operation: &str) -> Result<Arc<[SocketAddr]>> {
    let wrong = |cause: &dyn fmt::Display| {
        Error::new(operation, cause).at(target).remedy("give it as host:port, 127.0.0.1:6379")
    };
    if target.contains("://") {
        return Err(wrong(&"this is a URL"));
    }
    let addresses: Arc<[SocketAddr]> = target.to_socket_addrs().map_err(|cause| wrong(&cause))?.collect();
    match addresses.first() {
        None => Err(wrong(&"the name has no address")),
        Some(address) if address.port() == 0 => Err(wrong(&"no server listens on port 0")),
        Some(_) => Ok(addresses),
    }
}

fn not_itself(target: &[SocketAddr], local: SocketAddr, operation: &str) -> Result<()> {
    match target.contains(&local) {
        true => Err(Error::new(operation, "it would lead to itself").at(local).remedy("give it the server's address")),
        false => Ok(()),
    }
}

async fn listen(door: tokio::net::TcpListener, shared: Arc<Shared>) {
    let mut settings = shared.settings.subscribe();
    let accepting = async {
        loop {
            let accepted = poll_fn(|context| {
                // A cut must see whoever was accepted as connected, so nobody is taken in while one is under way.
                let mut register = lock(&shared.register);
                door.poll_accept(context).map_ok(|(client, _)| admit(client, &shared, &mut register))
            });
            if accepted.await.is_err() {
                // Out of file descriptors, most likely; whoever waits at the door is let in when one is free.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    tokio::select! {
        _ = settings.wait_for(|settings| settings.closed) => {}
        () = accepting => {}
    }
    drop(door);
    lock(&shared.register).listening = false;
    shared.left.notify_all();
}

/// Lets everyone in who waits at the door.
fn admit_waiting(listener: &TcpListener, shared: &Arc<Shared>, register: &mut Register) {
    let _inside = runtime().enter();
    loop {
        match listener.accept() {
            Ok((client, _)) => {
                if let Ok(client) = client.set_nonblocking(true).and_then(|()| TcpStream::from_std(client)) {
                    admit(client, shared, register);
                }
            }
            // The client went away while it waited.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(_) => return,
        }
    }
}

fn admit(client: TcpStream, shared: &Arc<Shared>, register: &mut Register) {
    // Closing means a reset, unless the conversation comes to its end. It fails only for a dead socket.
    let _ = client.set_zero_linger();
    if register.cut {
        register.refused += 1;
        return;
    }
    let number = register.next;
    register.next += 1;
    register.open.insert(number);
    runtime().spawn(carry(number, client, Registered { number, shared: shared.clone() }));
}

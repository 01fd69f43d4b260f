//! The two queues of a listener: handshakes that are not complete, and connections that nobody has accepted.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit};
use serde::{Deserialize, Serialize};
use socket2::Socket;

use crate::descriptor_tables::raise_descriptors;
use crate::procfs::{Seen, counters, grown};
use crate::sockets::{Listener, errno, give_up_after, tcp};
use lab::chart::{Chart, Lines};
use lab::errand::Running;
use lab::{Doing, Error, Frame, Network, Result, Samples, joined};

/// Its piece that runs in a network of its own.
pub(crate) const PIECE: &str = "backlog";

/// What to find out about a listener's queues.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BacklogSpec {
    /// Backlogs to listen with.
    pub backlogs: Vec<u32>,
    /// Clients beyond what the queue holds, each time.
    pub beyond: u32,
    /// The backlog with which the SYN queue is filled.
    pub handshakes: u32,
    /// Clients that come while a server pauses.
    pub burst: u32,
    /// Backlogs of the servers that pause.
    pub paused: [u32; 2],
    /// For how long they pause.
    pub pause: Duration,
}

/// A backlog, and who fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuePoint {
    /// What the server asked `listen` for.
    pub asked: u32,
    /// `net.core.somaxconn` at that moment, which caps it.
    pub somaxconn: u32,
    /// Clients that came.
    pub came: u32,
    /// Clients that believe to be connected.
    pub connected: u32,
    /// Connections in the accept queue, by the kernel's count.
    pub queued: u64,
    /// Clients still in SYN_SENT.
    pub still_asking: u64,
    /// SYNs dropped because the accept queue was full (`ListenOverflows`), less those that were sent again.
    pub overflows: Option<u64>,
}

impl QueuePoint {
    /// Connections that fit: one more than the backlog, because the kernel asks "more than?", not "as many as?".
    pub fn predicted(&self) -> u32 {
        self.asked.min(self.somaxconn) + 1
    }
}

/// Handshakes that are never completed, with and without SYN cookies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handshakes {
    /// Whether the kernel may answer with a cookie when the queue is full.
    pub cookies: bool,
    /// The backlog.
    pub backlog: u32,
    /// Clients that came.
    pub came: u32,
    /// Clients that believe to be connected.
    pub connected: u32,
    /// Handshakes in the SYN queue (SYN_RECV).
    pub half_open: u64,
    /// Connections in the accept queue.
    pub queued: u64,
    /// SYNs dropped for want of room in the SYN queue.
    pub dropped: u64,
    /// SYNs dropped because the accept queue was full: a cookie would be of no use to them.
    pub overflows: u64,
    /// Cookies sent instead.
    pub cookies_sent: u64,
}

impl Handshakes {
    /// Clients that are in neither queue and were dropped at neither: nobody, or the kernel did something else than the table
    /// says.
    pub fn unaccounted(&self) -> f64 {
        f64::from(self.came) - (self.half_open + self.queued + self.dropped + self.overflows) as f64
    }
}

/// Clients that came while the server paused: how long each `connect` took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Burst {
    /// The server's backlog.
    pub backlog: u32,
    /// For how long it did not accept, in seconds.
    pub pause: f64,
    /// Seconds until connected, in the order of coming; none where it never was.
    pub connected: Vec<Option<f64>>,
    /// Seconds until answered, in the order of coming; none where it never was.
    pub answered: Vec<Option<f64>>,
}

/// What was found out about a listener's queues.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backlog {
    /// Where it was found out.
    pub network: Network,
    /// Each backlog.
    pub points: Vec<QueuePoint>,
    /// The SYN queue, without cookies and with them.
    pub handshakes: Vec<Handshakes>,
    /// Servers that pause.
    pub bursts: Vec<Burst>,
    /// A client who comes to a full queue that never empties: its error, after how many seconds, and what was predicted.
    pub gave_up: Option<(String, f64, f64)>,
}

/// The queues being filled, in a process and a network of its own, while the notebook goes on.
#[derive(Debug)]
pub struct Queues {
    running: Option<Running>,
    found: Option<Backlog>,
}

/// Fills the queues. What it waits for is the kernel's clock, so a notebook begins early.
pub fn begin_backlog(spec: &BacklogSpec) -> Result<Queues> {
    let largest = spec.backlogs.iter().chain(&spec.paused).chain([&spec.handshakes]).max().copied().unwrap_or(0);
    if spec.backlogs.is_empty() || spec.beyond == 0 || spec.burst == 0 || largest > 4_000 {
        let cause = "it needs a backlog of at most 4,000, and clients beyond it";
        return Err(Error::new("fill a listener's queues", cause));
    }
    Ok(Queues { running: Some(Running::start("limits", &(PIECE, spec))?), found: None })
}

impl Queues {
    /// Waits for what was found. A cell may call it again.
    pub fn finish(&mut self) -> Result<Backlog> {
        if let Some(running) = self.running.take() {
            self.found = Some(running.finish()?);
        }
        self.found.clone().ok_or_else(|| Error::new("fill a listener's queues", "it failed before"))
    }
}

/// Who fits is connected long before that.
const PATIENCE: Duration = Duration::from_millis(800);
/// A handshake on loopback is over when `connect` returns; this is for a machine that has other things to do.
const SETTLE: Duration = Duration::from_millis(60);

pub(crate) fn measure(network: &Network, spec: &BacklogSpec) -> Result<Backlog> {
    raise_descriptors()?;
    let (_, limit) = getrlimit(Resource::RLIMIT_NOFILE).doing("read the limit of descriptors")?;
    let fits = |clients: u32| 2 * u64::from(clients) + 32 < limit;
    let mut found = Backlog {
        network: network.clone(),
        points: Vec::new(),
        handshakes: Vec::new(),
        bursts: Vec::new(),
        gave_up: None,
    };
    // One after the other: the kernel's counters are the whole network's.
    for &backlog in spec.backlogs.iter().filter(|backlog| fits(**backlog + spec.beyond)) {
        found.points.push(fill_accept_queue(network, backlog, spec.beyond)?);
    }
    if network.is_own() {
        network.set("core/somaxconn", 8)?;
        found.points.push(fill_accept_queue(network, 1_000, spec.beyond)?);
        network.set("core/somaxconn", 4_096)?;
        for cookies in [false, true] {
            network.set("ipv4/tcp_syncookies", u8::from(cookies))?;
            found.handshakes.push(fill_syn_queue(network, spec.handshakes, cookies)?);
        }
        // Newer kernels ask a few times at even intervals before they begin to double them; older ones do not know this.
        let _ = network.set("ipv4/tcp_syn_linear_timeouts", 0);
    }
    // These wait for the kernel's timers, so they wait beside each other.
    std::thread::scope(|scope| -> Result<()> {
        let giving_up = network.is_own().then(|| scope.spawn(|| give_up(network)));
        let bursts = spec.paused.map(|backlog| scope.spawn(move || burst(network, spec, backlog)));
        for burst in bursts {
            found.bursts.push(joined("come to a paused server", burst.join())?);
        }
        found.gave_up = giving_up.map(|thread| joined("come to a full queue", thread.join())).transpose()?;
        Ok(())
    })?;
    Ok(found)
}

/// A client that does not wait for its handshake.
fn come(to: SocketAddrV4) -> Result<Socket> {
    let doing = "come to a listener";
    let client = tcp().doing(doing)?;
    client.set_nonblocking(true).doing(doing)?;
    match client.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(Error::new(doing, errno(&error))),
        _ => Ok(client),
    }
}

/// Whether its handshake is over; a failure is an error.
fn is_connected(client: &Socket, wait: Duration) -> Result<bool> {
    let doing = "see whether a client is connected";
    let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
    let mut fds = [PollFd::new(client.as_fd(), PollFlags::POLLOUT)];
    match poll(&mut fds, timeout) {
        Ok(0) | Err(Errno::EINTR) => Ok(false),
        Ok(_) => match client.take_error().doing(doing)? {
            Some(error) => Err(Error::new(doing, errno(&error))),
            None => Ok(true),
        },
        Err(error) => Err(Error::new(doing, error)),
    }
}

/// So many clients, each of whom fits: the next one comes when the last one is connected, so that none of them meets a
/// handshake that is still under way.
fn come_in_turn(to: SocketAddrV4, clients: u32) -> Result<Vec<Socket>> {
    (0..clients)
        .map(|_| {
            let client = come(to)?;
            is_connected(&client, PATIENCE)?;
            Ok(client)
        })
        .collect()
}

/// Waits until the kernel has so many connections in the accept queue: a client is connected a moment before that.
fn until_queued(port: u16, connections: u64) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if Seen::all()?.iter().any(|seen| seen.is_listening(port) && seen.waiting >= connections) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(()) // what is there instead will be seen
}

fn connected(clients: &[Socket]) -> Result<u32> {
    let mut count = 0;
    for client in clients {
        count += u32::from(is_connected(client, Duration::ZERO)?);
    }
    Ok(count)
}

fn fill_accept_queue(network: &Network, asked: u32, beyond: u32) -> Result<QueuePoint> {
    let server = Listener::inside(network, Ipv4Addr::LOCALHOST, i32::try_from(asked).doing("listen")?)?;
    let somaxconn = Network::setting("core/somaxconn").and_then(|text| text.parse().ok()).unwrap_or(4_096);
    let came = asked.min(somaxconn) + 1 + beyond;
    let port = server.address.port();
    let before = counters()?;
    let mut clients = come_in_turn(server.address, came - beyond)?;
    until_queued(port, u64::from(came - beyond))?;
    for _ in 0..beyond {
        clients.push(come(server.address)?);
    }
    std::thread::sleep(SETTLE);
    let after = counters()?;
    let seen = Seen::all()?;
    let queued = seen.iter().find(|seen| seen.is_listening(port));
    // A client that was dropped asks again after a second, and on a busy machine a second is soon over.
    let again = grown(&before, &after, "TcpExt:TCPSynRetrans");
    Ok(QueuePoint {
        asked,
        somaxconn,
        came,
        connected: connected(&clients)?,
        queued: queued.map_or(0, |seen| seen.waiting),
        still_asking: seen.iter().filter(|seen| seen.remote == port && seen.state == Seen::SYN_SENT).count() as u64,
        overflows: network.is_own().then(|| grown(&before, &after, "TcpExt:ListenOverflows").saturating_sub(again)),
    })
}

/// A listener that lets bare connections wait for data keeps each of its handshakes in the SYN queue.
fn fill_syn_queue(network: &Network, backlog: u32, cookies: bool) -> Result<Handshakes> {
    let server = Listener::inside(network, Ipv4Addr::LOCALHOST, 1)?;
    server.defer(30)?;
    server.listen(i32::try_from(backlog).doing("listen")?)?;
    let came = 4 * (backlog + 1);
    let port = server.address.port();
    let before = counters()?;
    // Handshakes fill the SYN queue; with cookies, as many again pass it by and fill the accept queue.
    let mut clients = come_in_turn(server.address, backlog + 1)?;
    if cookies {
        clients.extend(come_in_turn(server.address, backlog + 1)?);
        until_queued(port, u64::from(backlog) + 1)?;
    }
    while clients.len() < came as usize {
        clients.push(come(server.address)?);
    }
    std::thread::sleep(SETTLE);
    let after = counters()?;
    let seen = Seen::all()?;
    let here = |state| seen.iter().filter(move |seen| seen.local == port && seen.state == state);
    // Where there are cookies, only a full accept queue turns anybody away, and so whoever asks again.
    let again = grown(&before, &after, "TcpExt:TCPSynRetrans");
    let [dropped, overflows] = [("TcpExt:TCPReqQFullDrop", !cookies), ("TcpExt:ListenOverflows", cookies)]
        .map(|(name, asks_again)| grown(&before, &after, name).saturating_sub(if asks_again { again } else { 0 }));
    Ok(Handshakes {
        cookies,
        backlog,
        came,
        connected: connected(&clients)?,
        half_open: here(Seen::SYN_RECEIVED).count() as u64,
        queued: here(Seen::LISTEN).map(|seen| seen.waiting).sum(),
        dropped,
        overflows,
        cookies_sent: grown(&before, &after, "TcpExt:SyncookiesSent"),
    })
}

/// All come at once; the server begins to accept after its pause.
///
/// A client speaks as soon as it believes to be connected: where the kernel answered with a cookie and the last step of the
/// handshake was dropped, the server knows nothing of it, and would never learn without the client's first words.
fn burst(network: &Network, spec: &BacklogSpec, backlog: u32) -> Result<Burst> {
    let doing = "come to a paused server";
    let server = Listener::inside(network, Ipv4Addr::LOCALHOST, i32::try_from(backlog).doing(doing)?)?;
    let (patience, pause) = (Duration::from_secs(20), spec.pause);
    let fit = (backlog + 1).min(spec.burst);
    server.socket.set_nonblocking(true).doing(doing)?;
    std::thread::scope(|scope| -> Result<Burst> {
        let mut clients: Vec<Client> = Vec::new();
        for number in 0..spec.burst {
            if number == fit {
                until_queued(server.address.port(), u64::from(fit))?;
            }
            let (came, socket) = (Instant::now(), come(server.address)?);
            let mut client = Client { socket, came, connected: None, answered: None };
            if number < fit && is_connected(&client.socket, PATIENCE)? {
                client.is_now_connected();
            }
            clients.push(client);
        }
        let accepting = scope.spawn(|| -> Result<()> {
            std::thread::sleep(pause);
            let (mut peers, deadline) = (Vec::new(), Instant::now() + patience);
            while peers.len() < spec.burst as usize && Instant::now() < deadline {
                match server.socket.accept() {
                    Ok((peer, _)) => {
                        let _ = peer.send(b"!"); // to somebody who has given up
                        peers.push(peer);
                    }
                    Err(_) => _ = poll(&mut [PollFd::new(server.socket.as_fd(), PollFlags::POLLIN)], 20_u8),
                }
            }
            Ok(())
        });
        let all_came = Instant::now();
        while clients.iter().any(|client| client.answered.is_none()) && all_came.elapsed() < patience {
            for client in clients.iter_mut().filter(|client| client.answered.is_none()) {
                // A client that the kernel gave up is never answered.
                if client.connected.is_none() && is_connected(&client.socket, Duration::ZERO).unwrap_or(false) {
                    client.is_now_connected();
                }
                let mut byte = [std::mem::MaybeUninit::uninit()];
                if client.connected.is_some() && client.socket.recv(&mut byte).is_ok_and(|length| length == 1) {
                    client.answered = Some(client.came.elapsed().as_secs_f64());
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        joined(doing, accepting.join())?;
        Ok(Burst {
            backlog,
            pause: spec.pause.as_secs_f64(),
            connected: clients.iter().map(|client| client.connected).collect(),
            answered: clients.iter().map(|client| client.answered).collect(),
        })
    })
}

/// A client of a burst; times in seconds since it came.
struct Client {
    socket: Socket,
    came: Instant,
    connected: Option<f64>,
    answered: Option<f64>,
}

impl Client {
    fn is_now_connected(&mut self) {
        self.connected = Some(self.came.elapsed().as_secs_f64());
        let _ = self.socket.send(b"?"); // a failure shows when no answer comes
    }
}

/// A full queue, and a client who asks for as long as the kernel does.
fn give_up(network: &Network) -> Result<(String, f64, f64)> {
    let doing = "come to a full queue";
    let server = Listener::inside(network, Ipv4Addr::LOCALHOST, 0)?;
    let first = come(server.address)?;
    if !is_connected(&first, Duration::from_secs(5))? {
        return Err(Error::new(doing, "the first client was not connected"));
    }
    let began = Instant::now();
    let second = tcp().doing(doing)?;
    give_up_after(&second, 1)?;
    let error = match second.connect(&server.address.into()) {
        Ok(()) => "connected".to_string(),
        Err(error) => errno(&error),
    };
    // One second for the SYN, two for the one that is sent again.
    Ok((error, began.elapsed().as_secs_f64(), 3.0))
}

impl Burst {
    /// Clients that fit into the queue while the server paused.
    pub fn predicted(&self) -> u64 {
        (u64::from(self.backlog) + 1).min(self.connected.len() as u64)
    }

    /// Clients that were connected before the kernel asked a second time.
    pub fn at_once(&self) -> u64 {
        self.connected.iter().flatten().filter(|seconds| **seconds < AGAIN).count() as u64
    }

    /// Seconds until the others were connected.
    pub fn waited(&self) -> Samples {
        self.connected.iter().flatten().copied().filter(|seconds| *seconds >= AGAIN).collect()
    }

    /// Clients that had an answer in the end.
    pub fn served(&self) -> u64 {
        self.answered.iter().flatten().count() as u64
    }
}

/// The kernel sends a SYN again after a second, or a tick of its clock before.
const AGAIN: f64 = 0.95;

impl Backlog {
    /// How far the kernel is from what was predicted: for each backlog, clients connected, its own count of its queue, and
    /// the SYNs that it counted as dropped; and for each burst, clients connected at once.
    pub fn off(&self) -> Samples {
        let points = self.points.iter().flat_map(|point| {
            let predicted = f64::from(point.predicted());
            let dropped = point.overflows.map(|dropped| dropped as f64 - (f64::from(point.came) - predicted));
            [Some(f64::from(point.connected) - predicted), Some(point.queued as f64 - predicted), dropped]
        });
        let bursts = self.bursts.iter().map(|burst| Some(burst.at_once() as f64 - burst.predicted() as f64));
        points.chain(bursts).flatten().collect()
    }

    /// Clients at a full SYN queue of whom the table does not say what became of them, without cookies and with them.
    pub fn unaccounted(&self) -> Samples {
        self.handshakes.iter().map(Handshakes::unaccounted).collect()
    }

    /// Connections that fitted, over the backlog.
    pub fn chart(&self, title: &str) -> Lines {
        let capped = |point: &&QueuePoint| point.asked > point.somaxconn;
        let at = |points: Vec<&QueuePoint>| {
            points.iter().map(|point| (f64::from(point.asked), f64::from(point.connected))).collect::<Vec<_>>()
        };
        let (cut, whole): (Vec<&QueuePoint>, Vec<&QueuePoint>) = self.points.iter().partition(capped);
        let most = whole.iter().map(|point| point.asked).max().unwrap_or(1);
        Chart::lines(title)
            .x("backlog that the server asked for", "")
            .y("clients connected, nobody accepting", "")
            .x_range(0, f64::from(most) * 1.05)
            .points("connected", at(whole))
            .predicted("backlog + 1", |backlog| backlog + 1.0)
            .note(match cut.first() {
                Some(point) => format!(
                    "With somaxconn at {}, a server that asks for {} gets room for {}.",
                    point.somaxconn, point.asked, point.connected
                ),
                None => String::new(),
            })
    }

    /// How long each client of a burst waited for its connection.
    pub fn burst_chart(&self, title: &str) -> Lines {
        let mut chart =
            Chart::lines(title).x("clients, in the order of their coming", "").y("until answered", "s").from_zero();
        for burst in &self.bursts {
            let answered = burst.answered.iter().enumerate();
            let points = answered.filter_map(|(n, seconds)| Some(((n + 1) as f64, (*seconds)?)));
            chart = chart.points(format!("backlog {}", burst.backlog), points.collect::<Vec<_>>());
        }
        chart.mark_y("the SYN is sent again", 1.0)
    }

    /// What became of the clients of a full SYN queue, without cookies and with them.
    pub fn syn_queue(&self) -> Frame {
        let counts = |value: fn(&Handshakes) -> u64| self.handshakes.iter().map(value);
        Frame::new()
            .text("answered", self.handshakes.iter().map(|arm| if arm.cookies { "with cookies" } else { "without" }))
            .counts("clients", "", counts(|arm| u64::from(arm.came)))
            .counts("connected, they believe", "", counts(|arm| u64::from(arm.connected)))
            .counts("in the SYN queue", "", counts(|arm| arm.half_open))
            .counts("in the accept queue, by a cookie", "", counts(|arm| arm.queued))
            .counts("dropped: SYN queue full", "", counts(|arm| arm.dropped))
            .counts("dropped: accept queue full", "", counts(|arm| arm.overflows))
            .counts("cookies sent", "", counts(|arm| arm.cookies_sent))
    }
}

//! The two queues of a listener: handshakes that are not complete, and connections that nobody has accepted.

use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit};
use serde::{Deserialize, Serialize};
use socket2::Socket;

use crate::descriptor_tables::raise_descriptors;
use crate::process::Begun;
use crate::procfs::{Seen, counters, grown};
use crate::sockets::{Listener, errno, give_up_after, tcp};
use lab::{Crowd, Doing, Error, Frame, Network, Result, Samples, joined};

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

/// What was found out about a listener's queues.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Backlog {
    /// Each backlog, when nobody accepts: asked (what the server asked `listen` for), somaxconn (which caps it), fits (the connections
    /// that theory allows), came, connected (clients who believe to be), queued (in the accept queue, by the kernel's count), still
    /// asking (clients in SYN_SENT), and dropped (SYNs for which there was no room, less those that were sent again; missing where the
    /// kernel's counters are not ours alone).
    pub accept_queue: Frame,
    /// Handshakes that are never completed, `without cookies` and `with cookies`: answered, clients, connected, and where the kernel has
    /// or had them: in the SYN queue, in the accept queue, dropped at either; cookies sent; and unaccounted (clients of whom none of
    /// these says what became).
    pub syn_queue: Frame,
    /// Clients that came while the server paused: backlog, client (in the order of coming), connected and answered (s since it came;
    /// missing where it never was).
    pub bursts: Frame,
    /// A client who comes to a full queue that never empties, and asks twice: its error, and after how many seconds.
    pub gave_up: Option<(String, f64)>,
}

/// Fills the queues. What it waits for is the kernel's clock, so a notebook begins early.
pub fn begin_backlog(spec: &BacklogSpec) -> Result<Begun<Backlog>> {
    let largest = spec.backlogs.iter().chain(&spec.paused).chain([&spec.handshakes]).max().copied().unwrap_or(0);
    if spec.backlogs.is_empty() || spec.beyond == 0 || spec.burst == 0 || largest > 4_000 {
        let cause = "it needs a backlog of at most 4,000, and clients beyond it";
        return Err(Error::new("fill a listener's queues", cause));
    }
    Begun::start(PIECE, std::slice::from_ref(spec))
}

/// Who fits is connected long before that.
const PATIENCE: Duration = Duration::from_millis(800);
/// A handshake on loopback is over when `connect` returns; this is for a machine that has other things to do.
const SETTLE: Duration = Duration::from_millis(60);

pub(crate) fn measure(network: &Network, spec: &BacklogSpec) -> Result<Backlog> {
    raise_descriptors()?;
    let (_, limit) = getrlimit(Resource::RLIMIT_NOFILE).doing("read the limit of descriptors")?;
    let fits = |clients: u32| 2 * u64::from(clients) + 32 < limit;
    // One after the other: the kernel's counters are the whole network's.
    let (fitting, mut syn_queue) = (spec.backlogs.iter().filter(|backlog| fits(**backlog + spec.beyond)), Frame::new());
    let filled = fitting.map(|backlog| fill_accept_queue(network, *backlog, spec.beyond));
    let mut accept_queue: Frame = filled.collect::<Result<_>>()?;
    if network.is_own() {
        network.set("core/somaxconn", 8)?;
        accept_queue.extend([fill_accept_queue(network, 1_000, spec.beyond)?]);
        network.set("core/somaxconn", 4_096)?;
        for cookies in [false, true] {
            network.set("ipv4/tcp_syncookies", u8::from(cookies))?;
            syn_queue.extend([fill_syn_queue(network, spec.handshakes, cookies)?]);
        }
        // Newer kernels ask a few times at even intervals before they begin to double them; older ones do not know this.
        let _ = network.set("ipv4/tcp_syn_linear_timeouts", 0);
    }
    // These wait for the kernel's timers, so they wait beside each other.
    let (bursts, gave_up) = std::thread::scope(|scope| -> Result<_> {
        let giving_up = network.is_own().then(|| scope.spawn(|| give_up(network)));
        let bursts = spec.paused.map(|backlog| scope.spawn(move || burst(network, spec, backlog)));
        let bursts = bursts.map(|burst| joined("come to a paused server", burst.join()));
        let gave_up = giving_up.map(|thread| joined("come to a full queue", thread.join())).transpose()?;
        Ok((bursts.into_iter().collect::<Result<Frame>>()?, gave_up))
    })?;
    Ok(Backlog { accept_queue, syn_queue, bursts, gave_up })
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

/// `clients` clients, each of whom fits: the next one comes when the last one is connected, so that none of them meets a
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

/// Waits until the kernel has `connections` connections in the accept queue: a client is connected a moment before that.
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

fn connected(clients: &[Socket]) -> Result<u64> {
    let mut count = 0;
    for client in clients {
        count += u64::from(is_connected(client, Duration::ZERO)?);
    }
    Ok(count)
}

fn fill_accept_queue(network: &Network, asked: u32, beyond: u32) -> Result<Frame> {
    let server = Listener::inside(network, Ipv4Addr::LOCALHOST, i32::try_from(asked).doing("listen")?)?;
    let somaxconn = Network::setting("core/somaxconn").and_then(|text| text.parse().ok()).unwrap_or(4_096);
    // One more than the backlog fits: the kernel asks "more than?", not "as many as?".
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
    let still_asking = seen.iter().filter(|seen| seen.remote == port && seen.state == Seen::SYN_SENT).count();
    let dropped = grown(&before, &after, "TcpExt:ListenOverflows").saturating_sub(again) as f64;
    Ok(Frame::new()
        .counts("asked", "", [u64::from(asked)])
        .counts("somaxconn", "", [u64::from(somaxconn)])
        .counts("fits", "", [u64::from(came - beyond)])
        .counts("came", "", [u64::from(came)])
        .counts("connected", "", [connected(&clients)?])
        .counts("queued", "", [queued.map_or(0, |seen| seen.waiting)])
        .counts("still asking", "", [still_asking as u64])
        .numbers_or_missing("dropped", "", [network.is_own().then_some(dropped)]))
}

/// A listener that lets bare connections wait for data keeps each of its handshakes in the SYN queue.
fn fill_syn_queue(network: &Network, backlog: u32, cookies: bool) -> Result<Frame> {
    let server = Listener::inside(network, Ipv4Addr::LOCALHOST, 1)?;
    server.defer(30)?;
    server.socket.listen(i32::try_from(backlog).doing("listen")?).doing("listen again")?;
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
    let half_open = here(Seen::SYN_RECEIVED).count() as u64;
    let queued = here(Seen::LISTEN).map(|seen| seen.waiting).sum();
    // Nobody, or the kernel did something else than the table says.
    let unaccounted = f64::from(came) - (half_open + queued + dropped + overflows) as f64;
    Ok(Frame::new()
        .text("answered", [if cookies { "with cookies" } else { "without cookies" }])
        .counts("clients", "", [u64::from(came)])
        .counts("connected", "", [connected(&clients)?])
        .counts("in the SYN queue", "", [half_open])
        .counts("in the accept queue", "", [queued])
        .counts("dropped: SYN queue full", "", [dropped])
        .counts("dropped: accept queue full", "", [overflows])
        .counts("cookies sent", "", [grown(&before, &after, "TcpExt:SyncookiesSent")])
        .numbers("unaccounted", "", [unaccounted]))
}

/// All come at once; the server begins to accept after its pause.
///
/// A client speaks as soon as it believes to be connected: where the kernel answered with a cookie and the last step of the
/// handshake was dropped, the server knows nothing of it, and would never learn without the client's first words.
fn burst(network: &Network, spec: &BacklogSpec, backlog: u32) -> Result<Frame> {
    const A_LONG_TIME: Duration = Duration::from_secs(20);
    let doing = "come to a paused server";
    let server = Listener::inside(network, Ipv4Addr::LOCALHOST, i32::try_from(backlog).doing(doing)?)?;
    server.socket.set_read_timeout(Some(A_LONG_TIME)).doing(doing)?;
    let (clients, fit) = (spec.burst as usize, (backlog + 1).min(spec.burst) as usize);
    let comes = |number: usize| -> Result<_> {
        if number == fit {
            until_queued(server.address.port(), fit as u64)?;
        }
        let came = Instant::now();
        let socket = come(server.address)?;
        let connected = number < fit && is_connected(&socket, PATIENCE)?;
        Ok((socket, came, connected.then(|| came.elapsed().as_secs_f64())))
    };
    let accepts = || -> Result<_> {
        std::thread::sleep(spec.pause);
        let mut peers = Vec::new();
        while peers.len() < clients
            && let Ok((peer, _)) = server.socket.accept()
        {
            let _ = peer.send(b"!"); // to somebody who has given up
            peers.push(peer);
        }
        Ok(peers)
    };
    let (_peers, ran) = Crowd::of(clients).with(comes).during(accepts, |(socket, came, connected), call| {
        let since = || came.elapsed().as_secs_f64();
        // A client that the kernel gave up is never answered.
        *connected = connected.or_else(|| is_connected(socket, A_LONG_TIME).is_ok_and(|is| is).then(since));
        let mut answered = None;
        if connected.is_some() && socket.send(b"?").is_ok() {
            socket.set_nonblocking(false).and_then(|()| socket.set_read_timeout(Some(A_LONG_TIME))).doing(doing)?;
            answered = socket.recv(&mut [MaybeUninit::uninit()]).is_ok_and(|length| length == 1).then(since);
        }
        call.note_or_missing("connected", "s", *connected);
        call.note_or_missing("answered", "s", answered);
        Ok(())
    })?;
    let seen = ran.frame.sort("client").select(["connected", "answered"]);
    Ok(seen.counts("client", "", 1..=u64::from(spec.burst)).everywhere("backlog", "", u64::from(backlog)))
}

/// A full queue, and a client who asks for as long as the kernel does.
fn give_up(network: &Network) -> Result<(String, f64)> {
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
    Ok((error, began.elapsed().as_secs_f64()))
}

/// The kernel sends a SYN again after a second, or a tick of its clock before.
const AGAIN: f64 = 0.95;

impl Backlog {
    /// Clients of a burst that were connected before the kernel asked a second time.
    pub fn at_once(&self, backlog: u64) -> Samples {
        self.bursts.filter("backlog", backlog).within("connected", 0.0..AGAIN).samples("connected")
    }

    /// Seconds until the others were connected.
    pub fn waited(&self, backlog: u64) -> Samples {
        self.bursts.filter("backlog", backlog).within("connected", AGAIN..f64::INFINITY).samples("connected")
    }

    /// How far the kernel is from what was predicted: for each backlog, clients connected, its own count of its queue, and
    /// the SYNs that it counted as dropped; and for each burst, clients connected at once.
    pub fn off(&self) -> Samples {
        let of = |column: &str, frame: &Frame| {
            frame.rows().map(|row| row.number(column) - row.number("fits")).collect::<Vec<_>>()
        };
        let dropped = self.accept_queue.having("dropped");
        let dropped = dropped.rows().map(|row| row.number("dropped") + row.number("fits") - row.number("came"));
        let bursts = self.bursts.group(["backlog"]).count();
        let bursts = bursts.rows().map(|burst| {
            let (backlog, came) = (burst.number("backlog"), burst.number("count"));
            self.at_once(backlog as u64).len() as f64 - (backlog + 1.0).min(came)
        });
        let queues = [of("connected", &self.accept_queue), of("queued", &self.accept_queue)].concat();
        queues.into_iter().chain(dropped).chain(bursts).collect()
    }
}

//! TIME_WAIT: who closes first keeps the port, for a minute or for a second.

use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use socket2::Socket;

use crate::descriptor_tables::raise_descriptors;
use crate::process::Begun;
use crate::procfs::Seen;
use crate::sockets::{From, Listener, Narrowed, errno, tcp};
use lab::chart::{Chart, Lines};
use lab::{Doing, Error, Frame, Network, Result, Samples};

/// Its piece that runs in a network of its own.
pub(crate) const PIECE: &str = "time wait";

/// Who closes a connection first, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Closes {
    /// The client, as most do.
    ClientFirst,
    /// The server.
    ServerFirst,
    /// The client, with a reset: SO_LINGER of zero.
    ClientResets,
}

/// One client that makes short connections as fast as it can.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TimeWaitSpec {
    /// What charts and tables call it.
    pub name: String,
    /// Ephemeral ports that it may use.
    pub ports: u16,
    /// What `tcp_tw_reuse` is set to.
    pub reuse: u8,
    /// Who closes first.
    pub closes: Closes,
    /// For how long it makes connections.
    pub watch: Duration,
    /// After how many it stops; in the machine's own network no more are made, either.
    pub most: u64,
    /// How many it tries to make each second; as many as it can where nothing is said.
    pub pace: Option<f64>,
}

impl TimeWaitSpec {
    /// A client with `ports` ports that closes first, and goes on until the time is up.
    pub fn new(name: &str, reuse: u8, ports: u16, watch: Duration) -> Self {
        Self { name: name.to_string(), ports, reuse, closes: Closes::ClientFirst, watch, most: u64::MAX, pace: None }
    }

    /// Tries `each_second` connections a second, and no more.
    pub fn paced(mut self, each_second: f64) -> Self {
        self.pace = Some(each_second);
        self
    }

    /// Closed in another way; a client that never runs out stops after three times its ports.
    pub fn closing(mut self, closes: Closes) -> Self {
        self.closes = closes;
        self.most = 3 * u64::from(self.ports);
        self
    }
}

/// What became of one of these clients.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Waited {
    /// What charts and tables call it.
    pub name: String,
    /// Why it was not measured; then there is nothing in it.
    pub left_out: Option<String>,
    /// What `tcp_tw_reuse` was set to.
    pub reuse: u8,
    /// Ephemeral ports that there were.
    pub ports: u64,
    /// Seconds from the beginning to each connection.
    pub opened_at: Vec<f64>,
    /// The first refusal: the error, and how many connections had succeeded by then.
    pub refused: Option<(String, u64)>,
    /// Ports in TIME_WAIT at the client's side and at the server's, just after the first refusal, or at the end.
    pub kept: (u64, u64),
    /// How long a port is kept, in seconds, by the kernel's timer of the port that was closed last.
    pub kept_for: Option<f64>,
    /// Seconds until the client stopped.
    pub lasted: f64,
}

/// Starts the clients, each in a process of its own.
pub fn begin_time_wait(specs: &[TimeWaitSpec]) -> Result<Begun<Waited>> {
    let doing = "wait for TIME_WAIT";
    if let Some(odd) = specs.iter().find(|spec| spec.ports == 0 || spec.ports % 2 == 1) {
        let cause = format!("the kernel walks a range in steps of two, and may miss a port of {}", odd.ports);
        return Err(Error::new(doing, cause).remedy("ask for an even range"));
    }
    if let Some(wrong) = specs.iter().find(|spec| spec.reuse > 2) {
        return Err(Error::new(doing, format!("tcp_tw_reuse is 0, 1 or 2, and not {}", wrong.reuse)));
    }
    if let Some(pace) = specs.iter().filter_map(|spec| spec.pace).find(|pace| !(0.1..1e6).contains(pace)) {
        return Err(Error::new(doing, format!("nobody makes {pace} connections a second")));
    }
    Begun::start(PIECE, specs)
}

/// The pause of a client that was refused a port: some of them wait for a minute, beside whatever else is measured.
const PAUSE: Duration = Duration::from_millis(5);

pub(crate) fn measure(network: &Network, spec: &TimeWaitSpec) -> Result<Waited> {
    raise_descriptors()?;
    let mut waited =
        Waited { name: spec.name.clone(), reuse: spec.reuse, ports: u64::from(spec.ports), ..Waited::default() };
    if network.is_own() {
        network.set("ipv4/tcp_tw_reuse", spec.reuse)?;
    } else if Network::setting("ipv4/tcp_tw_reuse") != Some(spec.reuse.to_string()) {
        let why = network.why_shared().unwrap_or_default();
        waited.left_out = Some(format!("tcp_tw_reuse cannot be set to {}: {why}", spec.reuse));
        return Ok(waited);
    }
    let range = Narrowed::inside(network, spec.ports)?;
    let server = Listener::inside(network, Ipv4Addr::LOCALHOST, 4_096)?;
    let began = Instant::now();
    let since = || began.elapsed().as_secs_f64();
    let step = spec.pace.map(|pace| Duration::from_secs_f64(1.0 / pace));
    let mut due = began;
    while began.elapsed() < spec.watch && (waited.opened_at.len() as u64) < spec.most {
        if let Some(step) = step {
            // Whoever is late does not make up for it.
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            due = Instant::now().max(due + step);
        }
        let tried = Instant::now();
        match short_connection(&range, &server, spec.closes) {
            Ok(()) => waited.opened_at.push(since()),
            Err(error) => {
                if waited.refused.is_none() {
                    waited.refused = Some((errno(&error), waited.opened_at.len() as u64));
                    look(&mut waited, &server, began)?;
                    continue;
                }
                // The kernel has looked at every port of the range: with many of them, that is work.
                std::thread::sleep(PAUSE.max(3 * tried.elapsed()));
            }
        }
    }
    waited.lasted = since();
    if waited.refused.is_none() {
        look(&mut waited, &server, began)?;
    }
    Ok(waited)
}

/// Counts the ports that are kept, and reads the youngest one's timer.
fn look(waited: &mut Waited, server: &Listener, began: Instant) -> Result<()> {
    let now = began.elapsed().as_secs_f64();
    let seen = Seen::all()?;
    let port = server.address.port();
    let kept = seen.iter().filter(|seen| seen.state == Seen::TIME_WAIT);
    let of_server = kept.clone().filter(|seen| seen.local == port).count() as u64;
    let of_client = kept.clone().filter(|seen| seen.remote == port).count() as u64;
    waited.kept = (of_client, of_server);
    let youngest = kept.map(|seen| seen.timer).fold(f64::NEG_INFINITY, f64::max);
    let last = waited.opened_at.last().copied().filter(|_| youngest.is_finite());
    waited.kept_for = last.map(|closed| youngest + (now - closed));
    Ok(())
}

/// Connects, asks one byte, gets one byte, closes.
fn short_connection(range: &Narrowed, server: &Listener, closes: Closes) -> std::io::Result<()> {
    let client = range.connect(From::Anywhere, server.address)?;
    let (peer, _) = server.socket.accept()?;
    client.send(b"?")?;
    read_one(&peer)?;
    peer.send(b"!")?;
    read_one(&client)?;
    let (first, last) = match closes {
        Closes::ServerFirst => (peer, client),
        Closes::ClientFirst => (client, peer),
        Closes::ClientResets => {
            client.set_linger(Some(Duration::ZERO))?;
            drop(client);
            return Ok(());
        }
    };
    drop(first);
    // The end of the stream: whoever reads it has seen the other side close, and closes second.
    last.recv(&mut [MaybeUninit::uninit()])?;
    Ok(())
}

fn read_one(socket: &Socket) -> std::io::Result<()> {
    match socket.recv(&mut [MaybeUninit::uninit()])? {
        1 => Ok(()),
        _ => Err(std::io::ErrorKind::UnexpectedEof.into()),
    }
}

impl Waited {
    /// Whether it was measured.
    pub fn ran(&self) -> bool {
        self.left_out.is_none()
    }

    /// Connections made.
    pub fn opened(&self) -> u64 {
        self.opened_at.len() as u64
    }

    /// Connections made in the first `seconds`.
    pub fn opened_by(&self, seconds: f64) -> u64 {
        self.opened_at.partition_point(|at| *at <= seconds) as u64
    }

    /// Connections for each port, over the time up to `end`; it ends where a client had enough.
    fn progress(&self, end: f64) -> Vec<(f64, f64)> {
        const STEPS: u32 = 300;
        let end = if self.refused.is_some() { end } else { self.lasted.min(end) };
        let at = |step: u32| end * f64::from(step) / f64::from(STEPS);
        (0..=STEPS).map(|step| (at(step), self.opened_by(at(step)) as f64 / self.ports as f64)).collect()
    }

    /// Seconds from a connection to the one that used its port again: the range is used up each time before it begins anew.
    pub fn round_trips(&self) -> Samples {
        let ports = self.ports as usize;
        let pairs = self.opened_at.iter().zip(self.opened_at.iter().skip(ports));
        pairs.map(|(first, again)| again - first).collect()
    }

    /// Connections a second that it really made on its ports, from each time that it had used all of them to the next: a sample
    /// for each. Nothing where it was never let in a second time.
    pub fn rounds(&self) -> Samples {
        let starts: Vec<f64> = self.opened_at.iter().copied().step_by(self.ports as usize).collect();
        starts.windows(2).map(|pair| self.ports as f64 / (pair[1] - pair[0])).collect()
    }

    /// Each connection: client, and at (s, from the beginning).
    pub fn frame(&self) -> Frame {
        Frame::new().numbers("at", "s", self.opened_at.iter().copied()).everywhere("client", "", self.name.as_str())
    }

    /// Connections a second that it made between two moments, in seconds from its first.
    pub fn between(&self, from: f64, to: f64) -> f64 {
        (self.opened_by(to) - self.opened_by(from)) as f64 / (to - from)
    }
}

/// The client whose name contains this, if it was measured.
pub fn arm<'a>(waited: &'a [Waited], name: &str) -> Option<&'a Waited> {
    waited.iter().find(|arm| arm.ran() && arm.name.contains(name))
}

/// How many connections each port has carried by when, for as long as all of them were at it; beside a port that is used again each
/// time that `kept_for` has passed.
pub fn progress_chart(waited: &[Waited], kept_for: Duration, title: &str) -> Lines {
    let ran = || waited.iter().filter(|arm| arm.ran());
    // Who was never refused may have had enough early on; the others went on until their time was up.
    let end = ran().filter(|arm| arm.refused.is_some()).map(|arm| arm.lasted).fold(f64::INFINITY, f64::min);
    let end = if end.is_finite() { end } else { ran().map(|arm| arm.lasted).fold(0.0, f64::max) };
    let chart = Chart::lines(title).x("since the first connection", "s").y("connections made for each port", "");
    let chart = ran().fold(chart.from_zero(), |chart, arm| chart.line(&arm.name, arm.progress(end)));
    let again = format!("again after {} s", kept_for.as_secs());
    chart.predicted_points(again, stairs(kept_for.as_secs_f64(), end))
}

/// One at the beginning, and one more each time that `step` has passed.
fn stairs(step: f64, end: f64) -> Vec<(f64, f64)> {
    let mut points = vec![(0.0, 1.0)];
    for number in 1..=(end / step) as u64 {
        let at = number as f64 * step;
        points.extend([(at, number as f64), (at + end / 1e4, number as f64 + 1.0)]);
    }
    let last = points.last().map_or(1.0, |point| point.1);
    points.push((end, last));
    points
}

/// Who kept the ports, and for how long: a row for each client.
pub fn kept(waited: &[Waited]) -> Frame {
    let ran: Vec<&Waited> = waited.iter().filter(|arm| arm.ran()).collect();
    let refused = |arm: &&Waited| match &arm.refused {
        Some((error, after)) => format!("{error} after {after}"),
        None => "never refused".to_string(),
    };
    Frame::new()
        .text("client", ran.iter().map(|arm| &arm.name))
        .counts("ports", "", ran.iter().map(|arm| arm.ports))
        .counts("connections", "", ran.iter().map(|arm| arm.opened()))
        .text("refused", ran.iter().map(refused))
        .counts("TIME_WAIT at the client", "", ran.iter().map(|arm| arm.kept.0))
        .counts("at the server", "", ran.iter().map(|arm| arm.kept.1))
        .numbers_or_missing("kept for, says the kernel", "s", ran.iter().map(|arm| arm.kept_for))
}

/// What closing costs: bytes that the client had sent, and what the server saw of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    /// What the client's `send` took.
    pub sent: u64,
    /// What the server read until the end, or until an error.
    pub received: u64,
}

/// Per cent of what was sent that the server could read, after a graceful `close` and after a `reset`, in turns.
pub fn graceful_and_reset(rounds: usize) -> Result<Frame> {
    let closed = (0..2 * rounds).map(|turn| close_after_sending(turn % 2 == 1)).collect::<Result<Vec<_>>>()?;
    Ok(Frame::new()
        .text("closed by", (0..2 * rounds).map(|turn| if turn % 2 == 1 { "reset" } else { "close" }))
        .numbers("received", "%", closed.iter().map(|close| 100.0 * close.received as f64 / close.sent.max(1) as f64)))
}

/// A client sends all that the kernel takes and closes at once, gracefully or with a reset; then the server reads.
pub fn close_after_sending(resets: bool) -> Result<Closed> {
    let doing = "send and close";
    let server = Listener::on(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), 1)?;
    let client = tcp().doing(doing)?;
    client.connect(&server.address.into()).doing(doing)?;
    let (peer, _) = server.socket.accept().doing(doing)?;
    client.set_nonblocking(true).doing(doing)?;
    let mut sent = 0;
    // More than the server's buffer holds, so that some of it still waits on the client's side.
    loop {
        match client.send(&[7; 65_536]) {
            Ok(length) => sent += length as u64,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(Error::new(doing, error)),
        }
    }
    if resets {
        client.set_linger(Some(Duration::ZERO)).doing(doing)?;
    }
    drop(client);
    peer.set_read_timeout(Some(Duration::from_secs(10))).doing(doing)?;
    let (mut received, mut buffer) = (0, vec![MaybeUninit::uninit(); 65_536]);
    while let Ok(length @ 1..) = peer.recv(&mut buffer) {
        received += length as u64;
    }
    Ok(Closed { sent, received })
}

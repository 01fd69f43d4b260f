//! A connection for each request against connections that stay open: what it costs, and when it ends.

#![allow(missing_docs, reason = "a field is documented where its name leaves something open")]

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::frames::{Answerer, read_frame, write_frame};
use super::{KeepAlive, Skip};
use crate::descriptor_tables::raise_descriptors;
use crate::process::start;
use crate::procfs::{counters, grown};
use crate::sockets::{From, Listener, Narrowed, errno};
use lab::{Crowd, Doing, Error, Figures, Frame, Network, Result, Trial};

/// Its piece that runs in a network of its own.
pub(crate) const PIECE: &str = "keep alive";

/// What to find out about keeping connections.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeepAliveSpec {
    /// Requests of each way in a round.
    pub requests: u64,
    /// Rounds, and one that warms up.
    pub rounds: usize,
    /// Clients at once; the pool may have as many connections.
    pub clients: usize,
    /// Requests a second that arrive on schedule, each way.
    pub rate: f64,
    /// How long they arrive, each way, over all rounds.
    pub lasting: Duration,
    /// Ports that are left to the clients who run out of them.
    pub ports: u16,
    /// Answers after which a server closes the connection.
    pub closes_after: u64,
}

/// How a client comes to its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Connecting {
    /// It opens one for each request, and closes it.
    Anew,
    /// It keeps them in a pool.
    Kept,
}

impl fmt::Display for Connecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anew => "a connection for each request",
            Self::Kept => "connections kept",
        })
    }
}

/// What was found out about keeping connections.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Compared {
    /// Both ways in turns. Figures: `time` (ms) and `rate` (requests a second) of clients that ask as soon as they have an answer; and
    /// the latency `wait`, of requests that arrive on schedule, from when they were due. In a network of its own, where the kernel's
    /// counters are ours alone, also `connections` opened and `segments` sent, for each request.
    pub trial: Trial<Connecting>,
    /// Clients that had few ports: way, asked, answered, connections opened, and the first error; none where the ports are not ours.
    pub few_ports: Option<Frame>,
    /// A pool whose server closes its connections: pool (the step that was left out), asked, failed, and wrong (got another's answer).
    pub closing: Frame,
}

/// Compares the two, in a process and a network of its own.
pub fn compare(spec: &KeepAliveSpec) -> Result<Compared> {
    let each = spec.requests / (spec.clients.max(1) as u64);
    if each == 0 || spec.rounds == 0 || spec.ports == 0 || spec.ports % 2 == 1 || spec.closes_after == 0 {
        let cause = "it needs a client, a request of each, a round, an answer, and an even number of ports";
        return Err(Error::new("compare keeping connections with opening them", cause));
    }
    start(PIECE, spec)?.finish()
}

const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn measure(network: &Network, spec: &KeepAliveSpec) -> Result<Compared> {
    raise_descriptors()?;
    let (_server, address) = server(network, None)?;
    let address = SocketAddr::from(address);
    let trial = Trial::over([Connecting::Anew, Connecting::Kept], spec.rounds)
        .open(|_| KeepAlive::to(address, spec.clients))
        .run(|connecting, pool, figures| {
            let pool = &*pool;
            let ask = |n| match connecting {
                Connecting::Anew => ask_once(address, n),
                Connecting::Kept => ask_kept(pool, n),
            };
            at_once(network, spec, &ask, figures)?;
            let arriving = Crowd::of(spec.clients).arriving(spec.rate, spec.lasting / spec.rounds as u32);
            let ran = arriving.run(|client, call| ask((*client as u64) << 32 | call.number()))?;
            figures.latency("wait", &ran.frame.latency("took"));
            Ok(())
        })?;
    let skips = [Some(Skip::CheckAndRetry), Some(Skip::Retry), None];
    let closing = skips.map(|skip| behind_one_that_closes(network, skip, spec.closes_after));
    Ok(Compared {
        trial,
        few_ports: if network.is_own() { Some(with_few_ports(network, spec.ports)?) } else { None },
        closing: closing.into_iter().collect::<Result<_>>()?,
    })
}

fn server(network: &Network, closes_after: Option<u64>) -> Result<(Answerer, SocketAddrV4)> {
    let Listener { socket, address } = Listener::inside(network, Ipv4Addr::LOCALHOST, 4_096)?;
    Ok((Answerer::on(socket.into(), closes_after)?, address))
}

/// Clients that ask again as soon as they have their answer.
fn at_once(
    network: &Network,
    spec: &KeepAliveSpec,
    ask: &(impl Fn(u64) -> Result<()> + Sync),
    figures: &mut Figures,
) -> Result<()> {
    // The machine's own ports are not ours to use up.
    let requests = if network.is_own() { spec.requests } else { spec.requests.min(200) };
    let share = requests / spec.clients as u64;
    let before = counters()?;
    let ran = Crowd::of(spec.clients).times(share).run(|client, call| ask(*client as u64 * share + call.number()))?;
    let answered = ran.frame.height() as u64;
    figures.work("requests", answered);
    figures.push("time", "ms", ran.seconds * 1e3);
    figures.push("rate", "requests/s", answered as f64 / ran.seconds);
    if network.is_own() {
        std::thread::sleep(Duration::from_millis(50)); // the last connections still say goodbye
        let after = counters()?;
        let each = |name| grown(&before, &after, name) as f64 / answered.max(1) as f64;
        figures.push("connections", "for each request", each("Tcp:ActiveOpens"));
        figures.push("segments", "for each request", each("Tcp:OutSegs"));
    }
    Ok(())
}

/// A connection for this request alone.
fn ask_once(address: SocketAddr, n: u64) -> Result<()> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(|e| Error::new("connect", errno(&e)))?;
    ask_over(stream, n)
}

fn ask_over(mut stream: TcpStream, n: u64) -> Result<()> {
    let doing = "ask over a connection of its own";
    stream.set_nodelay(true).doing(doing)?;
    stream.set_read_timeout(Some(PATIENCE)).doing(doing)?;
    let question = n.to_be_bytes();
    write_frame(&mut stream, &question).doing(doing)?;
    let answer = read_frame(&mut stream).map_err(|(error, _)| Error::new(doing, errno(&error)))?;
    right(&answer, &question)
}

fn ask_kept(pool: &KeepAlive, n: u64) -> Result<()> {
    let question = n.to_be_bytes();
    right(&pool.call(&question)?, &question)
}

const WRONG: &str = "understand the answer";

fn right(answer: &[u8], question: &[u8]) -> Result<()> {
    if answer == question { Ok(()) } else { Err(Error::new(WRONG, "it belongs to another question")) }
}

/// Three times as many requests as there are ports, in a minute in which no port comes back.
fn with_few_ports(network: &Network, ports: u16) -> Result<Frame> {
    network.set("ipv4/tcp_tw_reuse", 0)?;
    let asked = 3 * u64::from(ports);
    // A server for each: the ports that the first way used up are used up towards its server only.
    let [(_first, first), (_second, second)] = [server(network, None)?, server(network, None)?];
    let range = Narrowed::inside(network, ports)?;
    let (mut answered, mut opened, mut errors) = ([0, 0], 0, [None, None]);
    for n in 0..asked {
        match range.connect(From::Anywhere, first) {
            Ok(socket) => {
                opened += 1;
                ask_over(socket.into(), n)?;
                answered[0] += 1;
            }
            Err(error) => _ = errors[0].get_or_insert(errno(&error)),
        }
    }
    let pool = KeepAlive::new(10, move |_| range.connect(From::Anywhere, second).map(TcpStream::from))?;
    for n in 0..asked {
        match ask_kept(&pool, n) {
            Ok(()) => answered[1] += 1,
            Err(error) => _ = errors[1].get_or_insert(error.to_string()),
        }
    }
    Ok(Frame::new()
        .text("way", [Connecting::Anew, Connecting::Kept])
        .counts("asked", "", [asked, asked])
        .counts("answered", "", answered)
        .counts("failed", "", answered.map(|answered| asked - answered))
        .counts("connections opened", "", [opened, pool.stats().opened])
        .text("first error", errors.map(|error| error.unwrap_or_else(|| "none".into()))))
}

fn behind_one_that_closes(network: &Network, skip: Option<Skip>, closes_after: u64) -> Result<Frame> {
    let (_server, address) = server(network, Some(closes_after))?;
    let pool = KeepAlive::to(address.into(), 1)?.without(skip);
    let asked = 20 * (closes_after + 1);
    let (mut failed, mut wrong) = (0, 0);
    for n in 0..asked {
        match ask_kept(&pool, n) {
            Ok(()) => {}
            Err(error) if error.operation() == WRONG => wrong += 1,
            Err(_) => failed += 1,
        }
    }
    let pool = match skip {
        Some(Skip::CheckAndRetry) => "neither looks nor asks again",
        Some(Skip::Retry) => "looks before it uses a connection",
        None => "looks, and asks again",
    };
    Ok(Frame::new().text("pool", [pool]).counts("asked", "", [asked]).counts("failed", "", [failed]).counts(
        "wrong",
        "",
        [wrong],
    ))
}

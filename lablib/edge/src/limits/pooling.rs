//! A connection for each request against connections that stay open: what it costs, and when it ends.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::chamber;
use super::frames::{Answerer, read_frame, write_frame};
use super::keep_alive::{KeepAlive, Without};
use super::lanes::raise_descriptors;
use super::namespace::{From, Listener, Narrowed, counters, errno, grown};
use lab::chart::{Bars, Chart, Latencies};
use lab::{Doing, Error, Latency, OpenLoop, Network, OrFail, Race, Result, Samples, Table};

/// Its piece that runs in a network of its own.
pub(super) const PIECE: &str = "pooling";

/// What to find out about keeping connections.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PoolingSpec {
    /// Requests of each arm in a round.
    pub requests: u64,
    /// Rounds of the race.
    pub rounds: usize,
    /// Clients at once; the pool may have as many connections.
    pub clients: usize,
    /// Requests a second of the open loop, both ways.
    pub rate: f64,
    /// How long the open loop lasts, each way.
    pub lasting: Duration,
    /// Ports that are left to the clients who run out of them.
    pub ports: u16,
    /// Answers after which a server closes the connection.
    pub closes_after: u64,
}

/// What one way of asking did, by the kernel's own counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Requests answered.
    pub answered: u64,
    /// Connections opened.
    pub connections: u64,
    /// Segments sent, both ways.
    pub segments: u64,
}

/// Clients that had so many ports, and how they fared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Starved {
    /// Requests made.
    pub asked: u64,
    /// Requests answered.
    pub answered: u64,
    /// Connections opened.
    pub connections: u64,
    /// The first error.
    pub error: Option<String>,
}

/// A pool in front of a server that closes its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// Which step was left out.
    pub without: Option<Without>,
    /// Requests made.
    pub asked: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Requests that got the answer to another one.
    pub wrong: u64,
}

/// What was found out about keeping connections.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pooling {
    /// Where it was found out.
    pub network: Network,
    /// Requests a second in each round: a connection each, and kept.
    pub per_second: [Vec<f64>; 2],
    /// How many times as long a connection each took, round by round.
    pub ratios: Vec<f64>,
    /// What each way cost; the kernel's counters are ours alone in a network of our own only.
    pub costs: Option<[Cost; 2]>,
    /// What a user waits in an open loop.
    pub waits: [Latency; 2],
    /// Ports run out.
    pub starved: Option<[Starved; 2]>,
    /// Ports that these had.
    pub starved_of: u64,
    /// The server closes.
    pub closed: Vec<Closed>,
    /// After so many answers.
    pub closes_after: u64,
}

/// Compares the two, in a process and a network of its own.
pub fn pooling(spec: &PoolingSpec) -> Pooling {
    let run = || -> Result<Pooling> {
        let each = spec.requests / (spec.clients.max(1) as u64);
        if each == 0 || spec.rounds == 0 || spec.ports == 0 || spec.ports % 2 == 1 || spec.closes_after == 0 {
            let cause = "it needs a client, a request of each, a round, an answer, and an even number of ports";
            return Err(Error::new("compare keeping connections with opening them", cause));
        }
        chamber::run(PIECE, spec)
    };
    run().or_fail()
}

const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn measure(network: &Network, spec: &PoolingSpec) -> Result<Pooling> {
    raise_descriptors()?;
    let server = server(network, None)?;
    let address = server.address();
    // The machine's own ports are not ours to use up.
    let requests = if network.is_own() { spec.requests } else { spec.requests.min(200) };
    let share = requests / spec.clients as u64;
    let short = || drive(spec.clients, share, |n| ask_once(address, n));
    let kept = || -> Result<u64> {
        let pool = KeepAlive::to(address, spec.clients)?;
        drive(spec.clients, share, |n| ask_kept(&pool, n))
    };
    let raced = Race::of(spec.rounds).arm("short", || short().or_fail()).arm("kept", || kept().or_fail()).try_run()?;
    let per_second = ["short", "kept"].map(|arm| {
        let seconds = raced.seconds(arm);
        seconds.values().iter().map(|seconds| (share * spec.clients as u64) as f64 / seconds).collect()
    });
    let costs = if network.is_own() { Some([cost(short)?, cost(kept)?]) } else { None };

    // In turns, a slice of each at a time: what disturbs the machine disturbs both.
    const SLICES: u32 = 6;
    let open_loop = OpenLoop::per_second(spec.rate).lasting(spec.lasting / SLICES).workers(spec.clients);
    let failures = AtomicU64::new(0);
    let count = |outcome: Result<()>| failures.fetch_add(u64::from(outcome.is_err()), Ordering::Relaxed);
    let pool = KeepAlive::to(address, spec.clients)?;
    let mut waits = [Latency::new(), Latency::new()];
    for _ in 0..SLICES {
        waits[0].merge(&open_loop.run(|n| _ = count(ask_once(address, n)))?.response);
        waits[1].merge(&open_loop.run(|n| _ = count(ask_kept(&pool, n)))?.response);
    }
    if failures.into_inner() > 0 {
        return Err(Error::new("ask in an open loop", "some requests failed"));
    }
    Ok(Pooling {
        network: network.clone(),
        per_second,
        ratios: raced.ratio("short", "kept").values().to_vec(),
        costs,
        waits,
        starved: if network.is_own() { Some(starve(network, spec.ports)?) } else { None },
        starved_of: u64::from(spec.ports),
        closed: [Some(Without::Care), Some(Without::Retry), None]
            .into_iter()
            .map(|without| close_on(network, without, spec.closes_after))
            .collect::<Result<_>>()?,
        closes_after: spec.closes_after,
    })
}

fn server(network: &Network, closes_after: Option<u64>) -> Result<Answerer> {
    let Listener { socket, .. } = Listener::inside(network, Ipv4Addr::LOCALHOST, 4_096)?;
    Answerer::on(socket.into(), closes_after)
}

/// So many clients ask so often, each as soon as it has its answer; returns the answers.
fn drive(clients: usize, share: u64, ask: impl Fn(u64) -> Result<()> + Sync) -> Result<u64> {
    std::thread::scope(|scope| -> Result<()> {
        let client = |client: u64| {
            let ask = &ask;
            scope.spawn(move || -> Result<()> { (0..share).try_for_each(|n| ask(client * share + n)) })
        };
        let clients: Vec<_> = (0..clients as u64).map(client).collect();
        for client in clients {
            lab::joined("ask", client.join())?;
        }
        Ok(())
    })?;
    Ok(share * clients as u64)
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

fn cost(run: impl Fn() -> Result<u64>) -> Result<Cost> {
    let before = counters()?;
    let answered = run()?;
    // The last connections still say goodbye.
    std::thread::sleep(Duration::from_millis(50));
    let after = counters()?;
    Ok(Cost {
        answered,
        connections: grown(&before, &after, "Tcp:ActiveOpens"),
        segments: grown(&before, &after, "Tcp:OutSegs"),
    })
}

/// Three times as many requests as there are ports, in a minute in which no port comes back.
fn starve(network: &Network, ports: u16) -> Result<[Starved; 2]> {
    network.set("ipv4/tcp_tw_reuse", 0)?;
    let asked = 3 * u64::from(ports);
    // A server for each: the ports that the first arm used up are used up towards its server only.
    let (first, second) = (server(network, None)?, server(network, None)?);
    let range = Narrowed::inside(network, ports)?;
    let mut short = Starved { asked, answered: 0, connections: 0, error: None };
    for n in 0..asked {
        match range.connect(From::Anywhere, v4(first.address())?) {
            Ok(socket) => {
                short.connections += 1;
                ask_over(socket.into(), n)?;
                short.answered += 1;
            }
            Err(error) => _ = short.error.get_or_insert(errno(&error)),
        }
    }
    let to = v4(second.address())?;
    let pool = KeepAlive::new(10, move |_| range.connect(From::Anywhere, to).map(TcpStream::from))?;
    let mut kept = Starved { asked, answered: 0, connections: 0, error: None };
    for n in 0..asked {
        match ask_kept(&pool, n) {
            Ok(()) => kept.answered += 1,
            Err(error) => _ = kept.error.get_or_insert(error.to_string()),
        }
    }
    kept.connections = pool.stats().opened;
    Ok([short, kept])
}

fn v4(address: SocketAddr) -> Result<std::net::SocketAddrV4> {
    match address {
        SocketAddr::V4(address) => Ok(address),
        SocketAddr::V6(address) => Err(Error::new("connect", format!("{address} is of another family"))),
    }
}

fn close_on(network: &Network, without: Option<Without>, closes_after: u64) -> Result<Closed> {
    let server = server(network, Some(closes_after))?;
    let pool = KeepAlive::to(server.address(), 1)?.without(without);
    let asked = 20 * (closes_after + 1);
    let mut found = Closed { without, asked, failed: 0, wrong: 0 };
    for n in 0..asked {
        match ask_kept(&pool, n) {
            Ok(()) => {}
            Err(error) if error.operation() == WRONG => found.wrong += 1,
            Err(_) => found.failed += 1,
        }
    }
    Ok(found)
}

impl Pooling {
    /// How many times as long a connection for each request takes, one sample a round.
    pub fn ratios(&self) -> Samples {
        Samples::from(self.ratios.clone())
    }

    /// Requests a second, both ways.
    pub fn rate_chart(&self, title: &str) -> Bars {
        Chart::bars(title)
            .y("requests a second", "")
            .bar_with_spread(
                "a connection for each request",
                Samples::from(self.per_second[0].clone()).median_and_quartiles(),
            )
            .bar_with_spread("connections kept", Samples::from(self.per_second[1].clone()).median_and_quartiles())
    }

    /// What users wait when requests arrive on schedule.
    pub fn wait_chart(&self, title: &str) -> Latencies {
        Chart::latencies(title)
            .latency("a connection for each request", &self.waits[0])
            .latency("connections kept", &self.waits[1])
    }

    /// Connections and segments of each way.
    pub fn cost_table(&self, title: &str) -> Table {
        let costs = self.costs.unwrap_or_default();
        let each = |cost: &Cost| cost.segments as f64 / cost.answered.max(1) as f64;
        Table::new(title)
            .text("", ["a connection for each request", "connections kept"])
            .counts("requests", "", costs.iter().map(|cost| cost.answered))
            .counts("connections opened", "", costs.iter().map(|cost| cost.connections))
            .numbers("segments a request", "", costs.iter().map(each))
    }

    /// How those fared who had few ports.
    pub fn starved_chart(&self, title: &str) -> Bars {
        let mut chart = Chart::bars(title).y("requests", "");
        for (name, arm) in
            ["a connection for each request", "connections kept"].iter().zip(self.starved.iter().flatten())
        {
            chart = chart
                .group(name)
                .bar("answered", arm.answered as f64)
                .bar("refused a port", (arm.asked - arm.answered) as f64);
        }
        chart
    }

    /// Requests over kept connections that failed while others were refused their ports.
    pub fn kept_failures(&self) -> u64 {
        self.starved.iter().map(|[_, kept]| kept.asked - kept.answered).sum()
    }

    /// Requests that failed, by what was left out.
    pub fn closed_table(&self, title: &str) -> Table {
        let name = |closed: &Closed| match closed.without {
            Some(Without::Care) => "neither looks nor asks again",
            Some(Without::Retry) => "looks before it uses a connection",
            None => "looks, and asks again",
        };
        Table::new(title)
            .text("the pool", self.closed.iter().map(name))
            .counts("requests", "", self.closed.iter().map(|closed| closed.asked))
            .counts("failed", "", self.closed.iter().map(|closed| closed.failed))
            .counts("got another's answer", "", self.closed.iter().map(|closed| closed.wrong))
    }

    /// Failures of a pool without this step, and how many requests it made; `None` is the whole pool.
    pub fn failed(&self, without: Option<Without>) -> u64 {
        let arm = self.closed.iter().find(|closed| closed.without == without);
        arm.map(|closed| closed.failed + closed.wrong)
            .ok_or_else(|| Error::new("look up a pool", "there is no such arm"))
            .or_fail()
    }
}

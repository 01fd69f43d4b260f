//! The servers under the same load, in turns: what a request costs, how many there can be, and what users wait.

#![allow(missing_docs, reason = "a field is documented where its name leaves something open")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{Framing, Model, ServerSpec, uring};
use crate::worker::{Ask, ConnectSpec, Worker};
use lab::{Crowd, Doing, Error, Figures, Result, Trial};

/// The load, the same for every server.
#[derive(Debug, Clone, Copy)]
pub struct LoadSpec {
    pub connections: u64,
    /// Requests in each round, as fast as they are answered, one under way on each connection.
    pub requests: u64,
    /// Rounds, and one that warms up.
    pub rounds: usize,
    /// Requests a second that arrive on schedule, whatever the server does.
    pub rate: f64,
    /// For how long they arrive, over all rounds.
    pub lasting: Duration,
}

/// All servers that this machine allows, in turns, each in a process of its own.
///
/// Figures with every connection busy: `processor` (µs) and `sleeps` of the server for a request, `requests` and `connections opened` a
/// second. On schedule: `processor on schedule` (µs), and the latencies `response`, from when a request was due, and `service`, from
/// when it was sent.
pub fn contest(spec: &LoadSpec) -> Result<Trial<Model>> {
    let models = Model::ALL.into_iter().filter(|model| *model != Model::IoUring || uring::allowed().is_ok());
    Trial::over(models, spec.rounds)
        .titled("servers in turns")
        .open(|model| {
            let mut server = Worker::start()?;
            let addresses = server.serve(&ServerSpec::new(*model))?;
            Ok((server, addresses))
        })
        .run(|model, (server, addresses), figures| {
            let ran = busy(server, addresses, spec, figures);
            ran.and_then(|()| on_schedule(server, addresses[0], spec, figures)).map_err(|error| error.at(model))
        })
}

/// New connections, then as many requests as the server answers.
fn busy(server: &mut Worker, addresses: &[SocketAddr], spec: &LoadSpec, figures: &mut Figures) -> Result<()> {
    let mut client = Worker::start()?;
    let connect = ConnectSpec::new(spec.connections, Framing::Plain);
    let opened = client.connect_all(&ConnectSpec { addresses: addresses.to_vec(), window: 64, ..connect })?;
    if opened.echoed != spec.connections {
        let cause = format!("{} of {} connections echoed: {:?}", opened.echoed, spec.connections, opened.ended);
        return Err(Error::new("load a server", cause));
    }
    let before = server.usage()?;
    let (seconds, wrong): (f64, u64) = client.ask(&Ask::Storm { requests: spec.requests })?;
    let used = server.usage()?.since(&before);
    if wrong > 0 {
        return Err(Error::new("load a server", format!("{wrong} answers were wrong")));
    }
    let requests = spec.requests as f64;
    figures.push("processor", "µs", used.seconds * 1e6 / requests);
    figures.push("sleeps", "", used.waits as f64 / requests);
    figures.push("requests", "1/s", requests / seconds);
    figures.push("connections opened", "1/s", spec.connections as f64 / opened.seconds);
    Ok(())
}

/// Requests that come when they come: a slow answer makes those behind it wait, and that counts.
fn on_schedule(server: &mut Worker, address: SocketAddr, spec: &LoadSpec, figures: &mut Figures) -> Result<()> {
    const CLIENTS: u64 = 4;
    let doing = "connect to an echo server";
    let open = |_| -> Result<TcpStream> {
        let stream = TcpStream::connect(address).doing(doing)?;
        stream.set_nodelay(true).doing(doing)?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).doing(doing)?;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).doing(doing)?;
        Ok(stream)
    };
    let connections = || (0..spec.connections.min(64).div_ceil(CLIENTS)).map(open).collect::<Result<Vec<_>>>();
    let clients = (0..CLIENTS).map(|_| connections()).collect::<Result<Vec<_>>>()?;
    let before = server.usage()?;
    let arriving = Crowd::holding(clients).arriving(spec.rate, spec.lasting / spec.rounds.max(1) as u32);
    let ran = arriving.run(|connections, call| {
        let doing = "ask an echo server on schedule";
        let question = ((call.client() as u64) << 32 | call.number()).to_le_bytes();
        let which = call.number() as usize % connections.len();
        let mut answer = [0; 8];
        connections[which].write_all(&question).doing(doing)?;
        connections[which].read_exact(&mut answer).doing(doing)?;
        if answer == question { Ok(()) } else { Err(Error::new(doing, "the answer was another's")) }
    })?;
    let used = server.usage()?.since(&before);
    figures.push("processor on schedule", "µs", used.seconds * 1e6 / ran.frame.height().max(1) as f64);
    figures.latency("response", &ran.frame.latency("took"));
    figures.latency("service", &ran.frame.latency("service"));
    Ok(())
}

//! The five servers under the same load, in turns: what a request costs, how many there can be, and what users wait.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{Framing, Model, ServerSpec, uring};
use crate::limits::fleet::{Ask, ConnectSpec, Worker};
use lab::chart::{Chart, Latencies, Panels};
use lab::{Doing, Error, Load, OpenLoop, OrFail, Progress, Result, Samples, Table};

/// The load, the same for every server.
#[derive(Debug, Clone, Copy)]
pub struct LoadSpec {
    /// Connections.
    pub connections: u64,
    /// Requests in each round, as fast as they are answered, one under way on each connection.
    pub requests: u64,
    /// Rounds; a first one warms up.
    pub rounds: usize,
    /// Requests a second that arrive on schedule, whatever the server does.
    pub rate: f64,
    /// For how long they arrive.
    pub lasting: Duration,
}

/// What one server did.
#[derive(Debug, Clone)]
pub struct Arm {
    /// Which.
    pub model: Model,
    /// Microseconds of the processor for a request, with every connection busy; one sample a round.
    pub cpu: Samples,
    /// How often one of its threads went to sleep for a request.
    pub waits: Samples,
    /// Requests a second.
    pub rate: Samples,
    /// Connections opened and echoed once, a second.
    pub accepts: Samples,
    /// What users waited when requests came on schedule.
    pub load: Load,
    /// Microseconds of the processor for a request then.
    pub open_cpu: f64,
}

/// All of them.
#[derive(Debug, Clone)]
pub struct Contest {
    /// Those that took part.
    pub arms: Vec<Arm>,
    /// Those that could not, and why.
    pub absent: Vec<(Model, String)>,
}

/// Runs the load against each model, in turns, each server in a process of its own.
pub fn contest(spec: &LoadSpec) -> Contest {
    let mut progress = Progress::new("five servers in turns", (spec.rounds + 2) as u64);
    let mut run = || -> Result<Contest> {
        let mut contest = Contest { arms: Vec::new(), absent: Vec::new() };
        let mut servers = Vec::new();
        for model in Model::ALL {
            if model == Model::IoUring
                && let Err(error) = uring::allowed()
            {
                contest.absent.push((model, error.to_string()));
                continue;
            }
            let mut server = Worker::start()?;
            let addresses = server.serve(&ServerSpec::new(model))?;
            servers.push((server, addresses));
            contest.arms.push(Arm::new(model));
        }
        for round in 0..=spec.rounds {
            let mut order: Vec<usize> = (0..servers.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for index in order {
                let (server, addresses) = &mut servers[index];
                let connect = ConnectSpec { addresses: addresses.clone(), window: 64, ..connect(spec) };
                contest.arms[index].round(server, &connect, spec, round > 0)?;
            }
            progress.step();
        }
        for (arm, (server, addresses)) in contest.arms.iter_mut().zip(&mut servers) {
            arm.on_schedule(server, addresses[0], spec)?;
        }
        progress.step();
        Ok(contest)
    };
    run().or_fail()
}

fn connect(spec: &LoadSpec) -> ConnectSpec {
    ConnectSpec::new(spec.connections, Framing::Plain)
}

impl Arm {
    fn new(model: Model) -> Self {
        let none = Samples::default;
        let (cpu, waits, rate, accepts) = (none(), none(), none(), none());
        Self { model, cpu, waits, rate, accepts, load: Load::default(), open_cpu: f64::NAN }
    }

    /// New connections, then as many requests as the server answers.
    fn round(&mut self, server: &mut Worker, connect: &ConnectSpec, spec: &LoadSpec, counts: bool) -> Result<()> {
        let mut client = Worker::start()?;
        let opened = client.connect_all(connect)?;
        if opened.echoed != spec.connections {
            let cause = format!("{} of {} connections echoed: {:?}", opened.echoed, spec.connections, opened.ended);
            return Err(Error::new("load a server", cause).at(self.model));
        }
        let before = server.usage()?;
        let width = usize::try_from(spec.connections).unwrap_or(usize::MAX);
        let (seconds, wrong): (f64, u64) = client.ask(&Ask::Storm { requests: spec.requests, width })?;
        let used = server.usage()?.since(&before);
        self.right(wrong)?;
        if counts {
            let requests = spec.requests as f64;
            self.cpu.push(used.seconds * 1e6 / requests);
            self.waits.push(used.waits as f64 / requests);
            self.rate.push(requests / seconds);
            self.accepts.push(spec.connections as f64 / opened.seconds);
        }
        Ok(())
    }

    /// Requests that come when they come: a slow answer makes those behind it wait, and that counts.
    fn on_schedule(&mut self, server: &mut Worker, address: std::net::SocketAddr, spec: &LoadSpec) -> Result<()> {
        const WORKERS: usize = 4;
        let open = || -> Result<Mutex<TcpStream>> {
            let stream = TcpStream::connect(address).doing("connect to an echo server")?;
            stream.set_nodelay(true).doing("connect to an echo server")?;
            stream.set_read_timeout(Some(Duration::from_secs(10))).doing("connect to an echo server")?;
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).doing("connect to an echo server")?;
            Ok(Mutex::new(stream))
        };
        let connections = (0..spec.connections.min(64)).map(|_| open()).collect::<Result<Vec<_>>>()?;
        let wrong = AtomicU64::new(0);
        let before = server.usage()?;
        let load = OpenLoop::per_second(spec.rate).lasting(spec.lasting).workers(WORKERS).run(|arrival| {
            let which = arrival as usize % connections.len();
            let mut stream = connections[which].lock().unwrap_or_else(PoisonError::into_inner);
            let mut answer = [0; 8];
            let right = stream.write_all(&arrival.to_le_bytes()).is_ok()
                && stream.read_exact(&mut answer).is_ok()
                && answer == arrival.to_le_bytes();
            wrong.fetch_add(u64::from(!right), Ordering::Relaxed);
        })?;
        let used = server.usage()?.since(&before);
        self.open_cpu = used.seconds * 1e6 / load.response.count().max(1) as f64;
        self.load = load;
        self.right(wrong.into_inner())
    }

    /// Arms are only comparable when they did the same work, and did it right.
    fn right(&self, wrong: u64) -> Result<()> {
        match wrong {
            0 => Ok(()),
            _ => Err(Error::new("compare servers", format!("{wrong} answers were wrong or missing")).at(self.model)),
        }
    }
}

impl Contest {
    /// One of them; ends the cell where it did not take part.
    pub fn arm(&self, model: Model) -> Arm {
        let found = self.arms.iter().find(|arm| arm.model == model).cloned();
        found.ok_or_else(|| Error::new("read an arm", "it did not take part").at(model)).or_fail()
    }

    /// How many times as much of the processor a request costs with one as with the other, round by round.
    pub fn cpu_ratio(&self, dear: Model, cheap: Model) -> Samples {
        let (dear, cheap) = (self.arm(dear).cpu, self.arm(cheap).cpu);
        dear.values().iter().zip(cheap.values()).map(|(dear, cheap)| dear / cheap).collect()
    }

    /// The processor's time for a request, and the sleeps.
    pub fn chart(&self, title: &str) -> Panels {
        let mut cpu =
            Chart::bars(title).y("processor time of the server for a request", "µs").horizontal().size(450, 300);
        let mut waits = Chart::bars("A loop sleeps when there is nothing left to do");
        waits = waits.y("times that the server slept for a request", "").horizontal().size(450, 300);
        for arm in &self.arms {
            cpu = cpu.bar_with_spread(arm.model.name(), arm.cpu.median_and_quartiles());
            waits = waits.bar_with_spread(arm.model.name(), arm.waits.median_and_quartiles());
        }
        waits = waits.predicted(Model::Threads.name(), 1.0);
        Chart::side_by_side(&[&cpu, &waits]).titled(title)
    }

    /// What a client that waits for its answers would have measured, beside what users wait.
    pub fn omission_table(&self) -> Table {
        let micros = |duration: Duration| duration.as_secs_f64() * 1e6;
        let arms = &self.arms;
        Table::new("The slowest in a hundred: what users wait, and what a client that waits for itself would report")
            .text("server", arms.iter().map(|arm| arm.model.name()))
            .counts("requests", "", arms.iter().map(|arm| arm.load.response.count()))
            .numbers("from due to done", "µs", arms.iter().map(|arm| micros(arm.load.response.p99())))
            .numbers("from sent to done", "µs", arms.iter().map(|arm| micros(arm.load.service.p99())))
    }

    /// What users wait, from the moment at which a request was due.
    pub fn latencies(&self, title: &str) -> Latencies {
        let mut chart = Chart::latencies(title);
        for arm in &self.arms {
            chart = chart.latency(arm.model.name(), &arm.load.response);
        }
        chart
    }

    /// Everything in figures.
    pub fn table(&self) -> Table {
        let arms = &self.arms;
        Table::new("Client and server share two cores: rates are shown, the processor's time is claimed")
            .text("server", arms.iter().map(|arm| arm.model.name()))
            .numbers("connections opened", "1/s", arms.iter().map(|arm| arm.accepts.median().round()))
            .numbers("requests, all connections busy", "1/s", arms.iter().map(|arm| arm.rate.median().round()))
            .numbers("processor for each", "µs", arms.iter().map(|arm| arm.cpu.median()))
            .numbers("sleeps for each", "", arms.iter().map(|arm| arm.waits.median()))
            .numbers("processor for each, on schedule", "µs", arms.iter().map(|arm| arm.open_cpu))
    }
}

//! A fleet of processes that holds a great many TCP connections on one machine, both ends of each.
//!
//! - **Held, not counted**: a connection counts when its own number has come back over it, so both ends are open, in the
//!   hands of a process, and connected to each other. The kernel's own count of sockets agrees.
//! - **No more than there is**: what each limit allows is said beforehand ([`Plan`]); the fleet stops before memory runs
//!   short, or where the kernel refuses, and says which.
//! - **Nobody else's**: where the kernel allows it, the fleet lives in a network namespace of its own. No sockets, ports or
//!   settings of the machine are touched.
//! - **Nothing outlives its owner**: each process ends when its owner's end of a pipe is closed, `kill -9` included; closing
//!   resets connections, so nothing waits in TIME_WAIT.

mod connector;
pub mod experiment;
mod network;
mod plan;
mod process;

use std::time::{Duration, Instant};

pub use connector::ConnectSpec;
use connector::Pinged;
pub use network::FleetNetwork;
pub use plan::{Plan, Room};
pub(crate) use process::Ask;
pub use process::{State, Usage, Worker, connections_process};

use super::echo::{Fault, Framing, Model, ServerSpec};
use super::memory::{MachineMemory, PARTS, ProcessMemory, Slabs, SockStat, open_files};
use lab::{Error, Latency, Progress, Result, Rng};

impl ConnectSpec {
    /// So many, each of which echoes once; the addresses are still to be said.
    pub fn new(connections: u64, framing: Framing) -> Self {
        Self { addresses: Vec::new(), connections, first: 0, window: 256, framing, echo: true, send_buffer: None }
    }
}

/// A fleet that is to be put to sea.
#[derive(Debug, Clone)]
pub struct FleetSpec {
    /// How many connections are wanted.
    pub connections: u64,
    /// How many pings to connections drawn at random while all are open, and as many to one that is always the same.
    pub pings: u64,
    /// Bytes of memory that must stay available, for everybody else.
    pub floor: u64,
    /// Decides who is pinged.
    pub seed: u64,
    /// What the servers get wrong.
    pub fault: Option<Fault>,
    /// Whether an echo is waited for, or the kernel's word that a connection is established is enough.
    pub echo: bool,
}

impl FleetSpec {
    /// So many connections; an eighth of the machine's memory stays free.
    pub fn new(connections: u64) -> Self {
        let floor = MachineMemory::read().map_or(1 << 30, |memory| memory.total / 8);
        Self { connections, pings: 2_000, floor, seed: 1, fault: None, echo: true }
    }
}

/// One moment of a fleet that opens its connections.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Seconds since the first connection.
    pub seconds: f64,
    /// Connections that have echoed.
    pub open: u64,
    /// Bytes in the kernel's caches for sockets, more than before; the growth of all caches where those cannot be read.
    pub kernel: f64,
    /// Bytes that the machine has less available than before, whoever took them.
    pub taken: f64,
}

/// What a fleet did.
#[derive(Debug, Clone)]
pub struct Voyage {
    /// What was planned.
    pub plan: Plan,
    /// Connections that echoed their own number, and were open at once.
    pub open: u64,
    /// Connections that the connecting ends call established.
    pub established: u64,
    /// Connections that the serving ends hold.
    pub accepted: u64,
    /// Connections on which something else came back.
    pub wrong: u64,
    /// Connections that were lost or refused on the way.
    pub lost: u64,
    /// Sockets that are connected, both ends together, by the kernel's own count of that network.
    pub sockets: u64,
    /// What stopped it before the last connection.
    pub stopped: Option<String>,
    /// Seconds until all had echoed.
    pub seconds: f64,
    /// How it went.
    pub moments: Vec<Moment>,
    /// Bytes of the kernel's caches for each connection, both ends.
    pub kernel_each: f64,
    /// Bytes of resident memory of all processes for each connection.
    pub user_each: f64,
    /// Pings to one and the same connection, in turns with those at random.
    pub same: Latency,
    /// Pings to connections drawn at random.
    pub random: Latency,
    /// The first over the second, at the median, for each pair of processes.
    pub ping_ratios: Vec<f64>,
    /// Pings that were not answered, or not with the connection's own number.
    pub pings_wrong: u64,
    /// Connections of one pair of processes that waited in TIME_WAIT after its client was killed.
    pub left_waiting: u64,
    /// Processes that still lived after everything was closed.
    pub left_processes: u64,
    /// Open files of the machine: before, at the height, and after everything was closed.
    pub files: [u64; 3],
    /// Bytes in the kernel's caches for sockets that were not given back.
    pub left_bytes: f64,
}

/// One process that serves and one that connects to it.
struct Pair {
    serving: Worker,
    connecting: Worker,
    state: State,
}

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long the kernel may take to give everything back.
const UNTIL_BACK: Duration = Duration::from_secs(20);

/// Opens the connections, has each of them echo, pings some while all are open, and closes them again.
pub fn sail(spec: &FleetSpec) -> Result<Voyage> {
    if spec.connections == 0 {
        return Err(Error::new("hold connections", "none are asked for"));
    }
    let files_before = open_files()?.0;
    let kernel = KernelBytes::now();
    // All workers start on a thread that is inside the network; this process stays outside.
    let (plan, mut pairs) = FleetNetwork::inside(|network| {
        let plan = Plan::new(spec.connections, network)?;
        let pair = |_| Ok(Pair { serving: Worker::start()?, connecting: Worker::start()?, state: State::default() });
        let pairs = (0..plan.pairs).map(pair).collect::<Result<Vec<_>>>()?;
        Ok((plan, pairs))
    })?;
    let mut voyage = Voyage::planned(plan);
    voyage.files[0] = files_before;
    let resident = resident_bytes(&pairs)?;
    cast_off(spec, &voyage.plan, &mut pairs)?;
    voyage.watch(spec, &mut pairs, &kernel)?;
    voyage.user_each = (resident_bytes(&pairs)? - resident) / voyage.held().max(1) as f64;
    voyage.kernel_each = kernel.grown_for_each(voyage.held());
    if let Some(pair) = pairs.first() {
        let listeners = voyage.plan.pairs * voyage.plan.ports_each;
        voyage.sockets = SockStat::of(pair.serving.pid())?.inuse.saturating_sub(listeners);
    }
    voyage.files[1] = open_files()?.0;
    if spec.pings > 0 && voyage.open > 0 {
        voyage.ping(spec, &mut pairs)?;
    }
    voyage.come_home(pairs, &kernel)?;
    Ok(voyage)
}

/// Resident memory of all processes of the fleet.
fn resident_bytes(pairs: &[Pair]) -> Result<f64> {
    let processes = pairs.iter().flat_map(|pair| [pair.serving.pid(), pair.connecting.pid()]);
    processes.map(|pid| Ok(ProcessMemory::of(pid)?.resident as f64)).sum()
}

/// Has every server listen, and every client begin.
fn cast_off(spec: &FleetSpec, plan: &Plan, pairs: &mut [Pair]) -> Result<()> {
    let mut first = 0;
    for (index, pair) in pairs.iter_mut().enumerate() {
        let connections = plan.share(index as u64);
        let fault = match spec.fault {
            // So many of all of them.
            Some(Fault::StopsAccepting(after)) => Some(Fault::StopsAccepting(after / plan.pairs)),
            other => other,
        };
        let ports = usize::try_from(plan.ports_each).unwrap_or(1);
        let server = ServerSpec { ports, backlog: plan.network.backlog, fault, ..ServerSpec::new(Model::Epoll) };
        let addresses = pair.serving.serve(&server)?;
        let connect = ConnectSpec::new(connections, Framing::Plain);
        pair.connecting.connect(&ConnectSpec { addresses, first, echo: spec.echo, ..connect })?;
        first += connections;
    }
    Ok(())
}

impl Voyage {
    fn planned(plan: Plan) -> Self {
        Self {
            plan,
            open: 0,
            established: 0,
            accepted: 0,
            wrong: 0,
            lost: 0,
            sockets: 0,
            stopped: None,
            seconds: 0.0,
            moments: Vec::new(),
            kernel_each: f64::NAN,
            user_each: f64::NAN,
            same: Latency::new(),
            random: Latency::new(),
            ping_ratios: Vec::new(),
            pings_wrong: 0,
            left_waiting: 0,
            left_processes: 0,
            files: [0; 3],
            left_bytes: 0.0,
        }
    }

    /// Connections that are open, by whichever count is larger.
    fn held(&self) -> u64 {
        self.open.max(self.established)
    }

    /// Follows the clients until all are done, and stops them before memory runs short.
    fn watch(&mut self, spec: &FleetSpec, pairs: &mut [Pair], kernel: &KernelBytes) -> Result<()> {
        let mut progress = Progress::new("opening connections", spec.connections);
        let began = Instant::now();
        let mut known = 0;
        loop {
            for pair in pairs.iter_mut().filter(|pair| !pair.state.done) {
                pair.state = pair.connecting.state()?;
            }
            let sum = |field: fn(&State) -> u64| pairs.iter().map(|pair| field(&pair.state)).sum::<u64>();
            (self.open, self.established) = (sum(|state| state.echoed), sum(|state| state.open));
            let memory = MachineMemory::read()?;
            self.moments.push(Moment {
                seconds: began.elapsed().as_secs_f64(),
                open: self.held(),
                kernel: kernel.grown(),
                taken: kernel.available - memory.available as f64,
            });
            progress.advance(self.held().saturating_sub(known));
            known = self.held();
            if memory.available < spec.floor && self.stopped.is_none() {
                let megabytes = |bytes: u64| bytes / 1_000_000;
                self.stopped = Some(format!(
                    "memory: {} MB are available, and {} MB are to stay free",
                    megabytes(memory.available),
                    megabytes(spec.floor)
                ));
                for pair in pairs.iter_mut() {
                    pair.connecting.ask::<()>(&Ask::Stop)?;
                }
            }
            if pairs.iter().all(|pair| pair.state.done) {
                break;
            }
            std::thread::sleep(LOOK);
        }
        for pair in pairs.iter_mut() {
            let (client, server) = (&pair.state, pair.serving.state()?);
            self.wrong += client.wrong;
            self.lost += client.lost;
            self.accepted += server.accepted;
            self.seconds = self.seconds.max(client.seconds);
            let why = client.ended.clone().or(server.ended);
            self.stopped = self.stopped.take().or(why);
        }
        Ok(())
    }

    /// One ping at a time, over the whole fleet: in turns to one connection and to connections at random.
    fn ping(&mut self, spec: &FleetSpec, pairs: &mut [Pair]) -> Result<()> {
        let mut order: Vec<usize> = (0..pairs.len()).collect();
        let mut rng = Rng::seeded(spec.seed, "the order of the pings");
        rng.shuffle(&mut order);
        let each = spec.pings.div_ceil(pairs.len() as u64 * 10);
        for index in order {
            let (mut same, mut random) = (Latency::new(), Latency::new());
            // Ten turns, the first of which warms up and does not count.
            for turn in 0..=10 {
                for always_the_first in [true, false] {
                    let ask = Ask::Ping { count: each, always_the_first, seed: rng.bits() };
                    let pinged: Pinged = pairs[index].connecting.ask(&ask)?;
                    self.pings_wrong += pinged.wrong;
                    let latency = if always_the_first { &mut same } else { &mut random };
                    for nanoseconds in pinged.nanoseconds.iter().filter(|_| turn > 0) {
                        latency.record(Duration::from_nanos(*nanoseconds));
                    }
                }
            }
            if same.count() > 0 && random.count() > 0 {
                self.ping_ratios.push(random.ratio_to(&same));
            }
            self.same.merge(&same);
            self.random.merge(&random);
        }
        Ok(())
    }

    /// Closes everything, and looks whether the kernel has it all back.
    fn come_home(&mut self, mut pairs: Vec<Pair>, kernel: &KernelBytes) -> Result<()> {
        if let Some(pair) = pairs.first_mut().filter(|_| self.plan.network.private) {
            // One client is killed before the others, while its server lives and its network can be looked at.
            pair.connecting.begin_to_kill();
            let began = Instant::now();
            while (pair.connecting.is_running() || pair.serving.state()?.held > 0)
                && began.elapsed() < Duration::from_secs(2)
            {
                std::thread::sleep(Duration::from_millis(2));
            }
            self.left_waiting = SockStat::of(pair.serving.pid())?.time_wait;
        }
        for worker in pairs.iter_mut().flat_map(|pair| [&mut pair.connecting, &mut pair.serving]) {
            worker.begin_to_kill();
        }
        let began = Instant::now();
        loop {
            let workers = pairs.iter_mut().flat_map(|pair| [&mut pair.connecting, &mut pair.serving]);
            self.left_processes = workers.map(|worker| u64::from(worker.is_running())).sum();
            self.files[2] = open_files()?.0;
            self.left_bytes = kernel.grown();
            let back = self.left_bytes < 0.02 * self.kernel_each * self.held() as f64;
            let files = self.files[2] < self.files[0] + self.held() / 50;
            if self.left_processes == 0 && ((back && files) || began.elapsed() > UNTIL_BACK) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The kernel's memory for sockets, against what it was.
struct KernelBytes {
    before: Option<Slabs>,
    slab: f64,
    available: f64,
}

impl KernelBytes {
    fn now() -> Self {
        let memory = MachineMemory::read().unwrap_or_default();
        Self { before: Slabs::read().ok(), slab: memory.slab as f64, available: memory.available as f64 }
    }

    /// How many bytes more it is now for each pair of sockets that there are more; of so many, where the kernel does not
    /// show how many. Others may open sockets meanwhile: theirs cost as much as ours.
    fn grown_for_each(&self, pairs: u64) -> f64 {
        let sockets = self.before.as_ref().and_then(|before| Some(Slabs::read().ok()?.grown(before, "TCP")));
        self.grown() / sockets.map_or(pairs as f64, |sockets| sockets / 2.0).max(1.0)
    }

    /// How many bytes more it is now.
    fn grown(&self) -> f64 {
        match (&self.before, Slabs::read()) {
            (Some(before), Ok(now)) => {
                let bytes = |name| now.grown(before, name) * now.get(name).map_or(0.0, |slab| slab.bytes_each());
                PARTS.iter().map(|(name, _)| bytes(name)).sum()
            }
            _ => MachineMemory::read().map_or(f64::NAN, |memory| memory.slab as f64 - self.slab),
        }
    }
}

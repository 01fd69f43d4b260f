//! A fleet of processes that holds a great many TCP connections on one machine, both ends of each.
//!
//! - **Held, not counted**: a connection counts when its own number has come back over it, so both ends are open, in the
//!   hands of a process, and connected to each other. The kernel's own count of sockets agrees.
//! - **No more than there is**: what each limit allows is said beforehand ([`Plan`]); the fleet stops before memory runs
//!   short, or where the kernel refuses, and says which.
//! - **Harmless**: where the kernel allows it, the fleet lives in a network namespace of its own. No sockets, ports or
//!   settings of the machine are touched.
//! - **Nobody is waited for without limit**: a process that is stopped is killed, and the run ends with an error that says so.
//! - **Nothing outlives its owner**: each process ends when its owner's end of a pipe is closed, `kill -9` included; closing
//!   resets connections, so nothing waits in TIME_WAIT.

mod network;
mod plan;

use std::time::{Duration, Instant};

pub use network::FleetNetwork;
pub use plan::Plan;

use crate::echo::{Framing, Model, ServerSpec, Skip};
use crate::memory::grown_bytes;
use crate::procfs::{MachineMemory, ProcessMemory, Slabs, SockStat, open_files};
use crate::worker::{self, Ask, ConnectSpec, State, Worker};
use lab::{Doing, Error, Frame, Latency, Progress, Result, Rng, Show, Table, readable, significant};

/// A fleet of processes, and what it is to hold.
#[derive(Debug, Clone)]
pub struct FleetSpec {
    /// Number of connections that are wanted.
    pub connections: u64,
    /// Number of pings to connections drawn at random while all are open, and as many to one that is always the same.
    pub pings: u64,
    /// Bytes of memory that must stay available, for everybody else.
    pub floor: u64,
    /// Decides who is pinged.
    pub seed: u64,
    /// Which step the servers leave out.
    pub skip: Option<Skip>,
    /// Whether an echo is waited for, or the kernel's word that a connection is established is enough.
    pub echo: bool,
    /// How long a process may be silent before it is killed.
    pub patience: Duration,
}

impl FleetSpec {
    /// This many connections; an eighth of the machine's memory stays free.
    pub fn new(connections: u64) -> Self {
        let floor = MachineMemory::read().map_or(1 << 30, |memory| memory.total / 8);
        Self { connections, pings: 2_000, floor, seed: 1, skip: None, echo: true, patience: worker::TO_LOOK }
    }
}

/// What a fleet did.
#[derive(Debug, Clone, Default)]
pub struct FleetRun {
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
    /// How it went while they were opened: at (s), open (connections that have echoed), kernel (MB in its caches for sockets, more than
    /// before; the growth of all caches where those cannot be read), and taken (MB that the machine has less available than before,
    /// whoever took them).
    pub progress: Frame,
    /// Bytes of the kernel's caches for each connection, both ends.
    pub kernel_each: f64,
    /// Bytes of resident memory of all processes for each connection.
    pub user_each: f64,
    /// Pings to one and the same connection, in turns with those at random.
    pub same: Latency,
    /// Pings to connections drawn at random.
    pub random: Latency,
    /// Pings that were not answered with the connection's own number; one that is not answered at all is an error.
    pub pings_wrong: u64,
    /// Connections of one pair of processes that waited in TIME_WAIT after its client was killed.
    pub left_waiting: u64,
    /// Processes that still lived after everything was closed.
    pub left_processes: u64,
    /// Open files of the machine: before, at the height, and after everything was closed.
    pub files: [u64; 3],
    /// Sockets of TCP that the machine then had more than before.
    pub left_sockets: u64,
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

/// What `lab connections` does: what it is asked, until its owner is gone. With a number it is the owner of a fleet of such processes
/// instead, and says how many connections it held.
pub fn connections_process(arguments: &[String]) -> Result<()> {
    let Some(connections) = arguments.first() else { return worker::answer_the_owner() };
    let connections: u64 = connections.parse().doing("read how many connections to hold")?;
    let run = hold_connections(&FleetSpec::new(connections))?;
    println!("{}\n{}", run.plan.room.table("What there is room for").to_plain(), run.table().to_plain());
    println!("open files of the machine before, at the height, afterwards: {:?}", run.files);
    println!("processes left: {}, sockets left: {}", run.left_processes, run.left_sockets);
    Ok(())
}

/// What each limit of this machine allows, before anything is opened.
pub fn plan(connections: u64) -> Result<Plan> {
    FleetNetwork::inside(|network| Plan::new(connections, network))
}

/// Opens the connections, has each of them echo, pings some while all are open, and closes them again.
pub fn hold_connections(spec: &FleetSpec) -> Result<FleetRun> {
    if spec.connections == 0 {
        return Err(Error::new("hold connections", "none are asked for"));
    }
    let files_before = open_files()?.0;
    let kernel = KernelBytes::now()?;
    // All workers start on a thread that is inside the network; this process stays outside.
    let (plan, mut pairs) = FleetNetwork::inside(|network| {
        let plan = Plan::new(spec.connections, network)?;
        let worker = || Worker::start().map(|worker| worker.patience(spec.patience));
        let pair = |_| Ok(Pair { serving: worker()?, connecting: worker()?, state: State::default() });
        let pairs = (0..plan.pairs).map(pair).collect::<Result<Vec<_>>>()?;
        Ok((plan, pairs))
    })?;
    let mut run = FleetRun { plan, files: [files_before, 0, 0], ..FleetRun::default() };
    let resident = resident_bytes(&pairs)?;
    start_connecting(spec, &run.plan, &mut pairs)?;
    run.follow(spec, &mut pairs, &kernel)?;
    run.user_each = (resident_bytes(&pairs)? - resident) / run.held().max(1) as f64;
    run.kernel_each = 2.0 * kernel.grown()? / kernel.sockets()?.max(2) as f64;
    if let Some(pair) = pairs.first() {
        let listeners = run.plan.pairs * run.plan.ports_each;
        run.sockets = SockStat::of(pair.serving.pid())?.inuse.saturating_sub(listeners);
    }
    run.files[1] = open_files()?.0;
    if spec.pings > 0 && run.open > 0 {
        run.ping(spec, &mut pairs)?;
    }
    run.close_all(pairs, &kernel)?;
    Ok(run)
}

/// Resident memory of all processes of the fleet.
fn resident_bytes(pairs: &[Pair]) -> Result<f64> {
    let processes = pairs.iter().flat_map(|pair| [pair.serving.pid(), pair.connecting.pid()]);
    processes.map(|pid| Ok(ProcessMemory::of(pid)?.resident as f64)).sum()
}

/// Has every server listen, and every client begin.
fn start_connecting(spec: &FleetSpec, plan: &Plan, pairs: &mut [Pair]) -> Result<()> {
    let mut first = 0;
    for (index, pair) in pairs.iter_mut().enumerate() {
        let connections = plan.share(index as u64);
        let skip = match spec.skip {
            // So many of all of them.
            Some(Skip::AcceptAfter(connections)) => Some(Skip::AcceptAfter(connections / plan.pairs)),
            other => other,
        };
        let ports = usize::try_from(plan.ports_each).unwrap_or(1);
        let server = ServerSpec { ports, backlog: plan.network.backlog, skip, ..ServerSpec::new(Model::Epoll) };
        let addresses = pair.serving.serve(&server)?;
        let connect = ConnectSpec::new(connections, Framing::Plain);
        pair.connecting.connect(&ConnectSpec { addresses, first, echo: spec.echo, ..connect })?;
        first += connections;
    }
    Ok(())
}

impl FleetRun {
    /// Connections that are open, by whichever count is larger.
    fn held(&self) -> u64 {
        self.open.max(self.established)
    }

    /// Follows the clients until all are done, and stops them before memory runs short.
    fn follow(&mut self, spec: &FleetSpec, pairs: &mut [Pair], kernel: &KernelBytes) -> Result<()> {
        let mut progress = Progress::new("opening connections", spec.connections);
        let began = Instant::now();
        let (mut known, mut moments) = (0, Vec::new());
        loop {
            for pair in pairs.iter_mut().filter(|pair| !pair.state.done) {
                pair.state = pair.connecting.state()?;
            }
            let sum = |field: fn(&State) -> u64| pairs.iter().map(|pair| field(&pair.state)).sum::<u64>();
            (self.open, self.established) = (sum(|state| state.echoed), sum(|state| state.open));
            let memory = MachineMemory::read()?;
            let taken = kernel.memory.available as f64 - memory.available as f64;
            moments.push((began.elapsed().as_secs_f64(), self.held(), kernel.grown()? / 1e6, taken / 1e6));
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
        self.progress = Frame::new()
            .numbers("at", "s", moments.iter().map(|moment| moment.0))
            .counts("open", "connections", moments.iter().map(|moment| moment.1))
            .numbers("kernel", "MB", moments.iter().map(|moment| moment.2))
            .numbers("taken", "MB", moments.iter().map(|moment| moment.3));
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
            // Ten turns, the first of which warms up and does not count.
            for turn in 0..=10 {
                for always_the_first in [true, false] {
                    let ask = Ask::Ping { count: each, always_the_first, seed: rng.bits() };
                    let (took, wrong): (Vec<f64>, u64) = pairs[index].connecting.ask(&ask)?;
                    self.pings_wrong += wrong;
                    let latency = if always_the_first { &mut self.same } else { &mut self.random };
                    took.iter().filter(|_| turn > 0).for_each(|took| latency.record(Duration::from_secs_f64(*took)));
                }
            }
        }
        Ok(())
    }

    /// Closes everything, and looks whether the kernel has it all back.
    fn close_all(&mut self, mut pairs: Vec<Pair>, kernel: &KernelBytes) -> Result<()> {
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
            self.left_sockets = kernel.sockets()?;
            let back = self.left_sockets.max(self.files[2].saturating_sub(self.files[0])) <= self.held() / 50;
            if (self.left_processes == 0 && back) || began.elapsed() > UNTIL_BACK {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How many bytes a connection took all in all, kernel and processes.
    pub fn each(&self) -> f64 {
        self.kernel_each + self.user_each
    }

    /// Connections opened each second, on average.
    pub fn per_second(&self) -> f64 {
        self.open as f64 / self.seconds
    }

    /// What happened, in figures.
    pub fn table(&self) -> Table {
        let count = |number: u64| significant(number as f64);
        let rows = [
            ("connections that echoed their own number", count(self.open)),
            ("connected sockets, by the kernel's count", count(self.sockets)),
            ("processes", count(2 * self.plan.pairs)),
            ("time to establish them", format!("{} s", significant(self.seconds))),
            ("connections a second", significant(self.per_second().round())),
            ("kernel memory for each, both ends", format!("{} B", significant(self.kernel_each.round()))),
            ("memory of the processes for each", format!("{} B", significant(self.user_each.round()))),
            ("a ping to any of them, p50 and p99", {
                format!("{} and {}", readable(self.random.p50()), readable(self.random.p99()))
            }),
            ("stopped early by", self.stopped.clone().unwrap_or_else(|| "nothing".into())),
        ];
        Table::new("The fleet at its height")
            .text("", rows.iter().map(|row| row.0))
            .text("measured", rows.iter().map(|row| row.1.as_str()))
    }
}

/// The kernel's memory for sockets, against what it was.
struct KernelBytes {
    before: Option<Slabs>,
    memory: MachineMemory,
    sockets: u64,
}

impl KernelBytes {
    fn now() -> Result<Self> {
        Ok(Self { before: Slabs::read().ok(), memory: MachineMemory::read()?, sockets: SockStat::read()?.alloc })
    }

    /// How many sockets of TCP more the machine has now. Others may open some meanwhile: theirs cost as much as ours.
    fn sockets(&self) -> Result<u64> {
        Ok(SockStat::read()?.alloc.saturating_sub(self.sockets))
    }

    /// How many bytes more it is now; of all caches, where those for sockets are not shown.
    fn grown(&self) -> Result<f64> {
        match &self.before {
            Some(before) => Ok(grown_bytes(before, &Slabs::read()?)),
            None => Ok(MachineMemory::read()?.slab as f64 - self.memory.slab as f64),
        }
    }
}

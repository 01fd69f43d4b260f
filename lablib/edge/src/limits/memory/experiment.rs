//! Connections opened, left idle, weighed and closed again; several times, so that what others do on the machine averages out.

use std::time::{Duration, Instant};

use super::{PAGE, PARTS, ProcessMemory, Slabs, SockStat, predicted_pair_bytes};
use crate::limits::echo::{Fault, Framing, Model, ServerSpec};
use crate::limits::fleet::{Ask, ConnectSpec, FleetNetwork, Plan, Worker};
use lab::chart::{Bars, Chart, Lines};
use lab::{Error, OrFail, Progress, Result, Samples, Table};

/// A way to hold connections: how a reader calls it, and the server that does it.
#[derive(Debug, Clone)]
pub struct Holding {
    /// How a reader calls it.
    pub name: &'static str,
    /// The server.
    pub server: ServerSpec,
}

/// The program's side: six servers that all do the same, and keep very different amounts of memory for it.
pub fn ways() -> Vec<Holding> {
    let tasks = |buffer| ServerSpec { buffer, ..ServerSpec::new(Model::CurrentThread) };
    let frames = |size| ServerSpec { framing: Framing::WebSocket(size), ..tasks(512) };
    vec![
        Holding { name: "epoll by hand, one buffer", server: ServerSpec::new(Model::Epoll) },
        Holding { name: "a task, no buffer while idle", server: tasks(0) },
        Holding { name: "a task with 4 KiB", server: tasks(4 << 10) },
        Holding { name: "a thread", server: ServerSpec { buffer: 4 << 10, ..ServerSpec::new(Model::Threads) } },
        Holding { name: "WebSocket, buffers of 4 KiB", server: frames(Some(4 << 10)) },
        Holding { name: "WebSocket, as it comes", server: frames(None) },
    ]
}

/// What connections of one kind cost, each.
#[derive(Debug, Clone)]
pub struct Idle {
    /// How they were held.
    pub name: &'static str,
    /// How many were open at once.
    pub connections: u64,
    /// Bytes of the kernel's caches for both ends, one sample a round.
    pub kernel: Samples,
    /// The same for the server's end alone, when the client's has gone without a word: what a machine pays that only serves.
    /// Nothing where this process may not let an end go like that.
    pub server_end: Samples,
    /// The same, from the sizes that the kernel states.
    pub predicted: f64,
    /// Bytes of resident memory of the server.
    pub user: Samples,
    /// Objects of each cache, in the order of [`PARTS`].
    pub objects: Vec<Samples>,
}

/// Opens so many connections, weighs them while all are idle, closes them; `rounds` times for each number.
pub fn idle_memory(way: &Holding, sizes: &[u64], rounds: usize) -> Vec<Idle> {
    let run = || -> Result<Vec<Idle>> {
        let mut all: Vec<Idle> = sizes.iter().map(|&connections| Idle::new(way.name, connections)).collect();
        for _ in 0..rounds {
            for idle in &mut all {
                idle.weigh_undisturbed(&way.server)?;
            }
        }
        Ok(all)
    };
    run().or_fail()
}

/// Every way, with one number of connections each; those that keep a lot get a tenth of them.
pub fn user_memory(connections: u64, rounds: usize) -> Vec<Idle> {
    let ways = ways();
    let mut progress = Progress::new("holding connections in six ways", (ways.len() * rounds) as u64);
    let mut run = || -> Result<Vec<Idle>> {
        let few = |way: &Holding| way.server.framing == Framing::WebSocket(None) || way.server.model == Model::Threads;
        let size = |way: &Holding| if few(way) { connections.div_ceil(10) } else { connections };
        let mut all: Vec<Idle> = ways.iter().map(|way| Idle::new(way.name, size(way))).collect();
        for _ in 0..rounds {
            for (idle, way) in all.iter_mut().zip(&ways) {
                idle.weigh(&way.server, false)?.add_user(idle);
                progress.step();
            }
        }
        Ok(all)
    };
    run().or_fail()
}

impl Idle {
    fn new(name: &'static str, connections: u64) -> Self {
        let objects = vec![Samples::default(); PARTS.len()];
        let (kernel, server_end, user) = (Samples::default(), Samples::default(), Samples::default());
        // A process with few descriptors gets a smaller experiment, not a failing one.
        let connections = connections.min(Plan::most_each().unwrap_or(connections));
        Self { name, connections, kernel, server_end, predicted: f64::NAN, user, objects }
    }

    /// The kernel's caches are the whole machine's. Sockets of TCP are counted exactly: where their number grew by others
    /// than ours, somebody else was at work, and the round is repeated, a few times at most.
    fn weigh_undisturbed(&mut self, server: &ServerSpec) -> Result<()> {
        const AGAIN: usize = 4;
        let mut weighed = Weighed::default();
        for _ in 0..AGAIN {
            weighed = self.weigh(server, true)?;
            settle(2 * self.connections);
            if weighed.objects.first().is_none_or(|sockets| (sockets - 2.0).abs() < 0.04) {
                break;
            }
        }
        weighed.add_user(self);
        if let Some(predicted) = weighed.predicted {
            self.predicted = predicted;
            self.kernel.push(weighed.kernel);
            weighed.server_end.into_iter().for_each(|bytes| self.server_end.push(bytes));
            for (samples, objects) in self.objects.iter_mut().zip(&weighed.objects) {
                samples.push(*objects);
            }
        }
        Ok(())
    }

    /// Opens the connections and weighs them; then, if asked to, the server's end alone.
    fn weigh(&self, server: &ServerSpec, alone: bool) -> Result<Weighed> {
        let spec = ConnectSpec::new(self.connections, server.framing);
        let (mut serving, mut connecting) = pair()?;
        let addresses = serving.serve(server)?;
        let caches = Slabs::read();
        let process = ProcessMemory::of(serving.pid())?;
        let state = connecting.connect_all(&ConnectSpec { addresses, ..spec })?;
        if state.echoed != self.connections {
            let why = state.ended.or(serving.state()?.ended).unwrap_or_else(|| "nobody says why".into());
            let cause = format!("{} of {} echoed: {why}", state.echoed, self.connections);
            return Err(Error::new("hold connections", cause).at(self.name));
        }
        let count = self.connections as f64;
        let resident = ProcessMemory::of(serving.pid())?.resident as f64 - process.resident as f64;
        let mut weighed = Weighed { user: resident / count, ..Weighed::default() };
        // Without root there is no looking into the kernel's caches; the rest can still be shown.
        if let (Ok(before), Ok(after)) = (caches, Slabs::read()) {
            weighed.predicted = Some(predicted_pair_bytes(&after));
            for (name, _) in PARTS {
                weighed.objects.push(after.grown(&before, name) / count);
            }
            weighed.kernel = grown_bytes(&before, &after) / count;
            if alone && connecting.vanish().is_ok() {
                let left = settled_at(self.connections, &before)?;
                weighed.server_end = Some(grown_bytes(&before, &left) / count);
            }
        }
        Ok(weighed)
    }
}

/// One round.
#[derive(Default)]
struct Weighed {
    user: f64,
    kernel: f64,
    server_end: Option<f64>,
    predicted: Option<f64>,
    objects: Vec<f64>,
}

impl Weighed {
    fn add_user(&self, idle: &mut Idle) {
        idle.user.push(self.user);
    }
}

/// Bytes by which the caches of sockets grew.
fn grown_bytes(before: &Slabs, after: &Slabs) -> f64 {
    let bytes = |name| after.grown(before, name) * after.get(name).map_or(0.0, |slab| slab.bytes_each());
    PARTS.iter().map(|(name, _)| bytes(name)).sum()
}

/// The caches when only so many sockets and their files are left of what was opened, and nothing more is given back: the
/// kernel frees what was closed a moment later, and what hangs on it later still.
fn settled_at(sockets: u64, before: &Slabs) -> Result<Slabs> {
    const QUIET: Duration = Duration::from_millis(150);
    const PATIENCE: Duration = Duration::from_secs(10);
    let began = Instant::now();
    let (mut least, mut since) = (f64::INFINITY, began);
    loop {
        let now = Slabs::read()?;
        let left = |name: &str| now.grown(before, name) / sockets as f64;
        let bytes = grown_bytes(before, &now);
        // Less by more than a hundredth is still on its way.
        if bytes < 0.99 * least || left("TCP") > 1.02 || left("filp") > 1.05 {
            (least, since) = (bytes, Instant::now());
        }
        if since.elapsed() > QUIET || began.elapsed() > PATIENCE {
            return Ok(now);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A server's process and a client's, in a network of their own.
fn pair() -> Result<(Worker, Worker)> {
    FleetNetwork::inside(|_| Ok((Worker::start()?, Worker::start()?)))
}

/// The kernel gives sockets back a moment after their processes are gone: what is weighed next must not profit from it.
fn settle(sockets: u64) {
    let began = Instant::now();
    let active = || Slabs::read().ok().and_then(|slabs| slabs.get("TCP")).map_or(0, |slab| slab.active);
    let mut last = active();
    while began.elapsed() < Duration::from_millis(500) {
        std::thread::sleep(Duration::from_millis(20));
        let now = active();
        if now == last && (now < sockets || began.elapsed() > Duration::from_millis(100)) {
            break;
        }
        last = now;
    }
}

/// What connections cost by the size of their buffers: idle, and with everything unread that they can hold.
#[derive(Debug, Clone)]
pub struct Buffered {
    /// What both buffers were set to, in bytes.
    pub setting: usize,
    /// Bytes in the kernel's caches for an idle pair.
    pub idle: Samples,
    /// Bytes in the buffers of an idle pair.
    pub idle_buffers: Samples,
    /// Bytes in the buffers when nobody reads.
    pub unread: Samples,
    /// Bytes that the writer could write before the kernel took no more.
    pub taken: Samples,
}

/// Weighs so many connections with each setting of SO_RCVBUF and SO_SNDBUF: idle, then full.
pub fn buffers(settings: &[usize], connections: u64, rounds: usize) -> Vec<Buffered> {
    let mut progress = Progress::new("filling buffers", (settings.len() * rounds) as u64);
    let mut run = || -> Result<Vec<Buffered>> {
        let empty = |&setting: &usize| Buffered {
            setting,
            idle: Samples::default(),
            idle_buffers: Samples::default(),
            unread: Samples::default(),
            taken: Samples::default(),
        };
        let mut all: Vec<Buffered> = settings.iter().map(empty).collect();
        for _ in 0..rounds {
            for one in &mut all {
                one.weigh(connections)?;
                progress.step();
            }
        }
        Ok(all)
    };
    run().or_fail()
}

impl Buffered {
    fn weigh(&mut self, connections: u64) -> Result<()> {
        let (mut serving, mut connecting) = pair()?;
        let server = ServerSpec {
            receive_buffer: Some(self.setting),
            fault: Some(Fault::NeverReads),
            ..ServerSpec::new(Model::Epoll)
        };
        let addresses = serving.serve(&server)?;
        let (caches, pages) = (Slabs::read(), SockStat::read()?.pages);
        let spec = ConnectSpec::new(connections, Framing::Plain);
        let spec = ConnectSpec { addresses, echo: false, send_buffer: Some(self.setting), ..spec };
        let state = connecting.connect_all(&spec)?;
        if state.open != connections {
            let cause = format!("{} of {connections} are open: {:?}", state.open, state.ended);
            return Err(Error::new("hold connections", cause));
        }
        let count = connections as f64;
        let in_buffers = || -> Result<f64> { Ok((SockStat::read()?.pages as f64 - pages as f64) * PAGE / count) };
        if let (Ok(before), Ok(after)) = (caches, Slabs::read()) {
            self.idle.push(grown_bytes(&before, &after) / count);
        }
        self.idle_buffers.push(in_buffers()?);
        let taken: u64 = connecting.ask(&Ask::Fill { most: 4 << 20 })?;
        self.taken.push(taken as f64 / count);
        self.unread.push(in_buffers()?);
        drop((connecting, serving));
        settle(2 * connections);
        Ok(())
    }
}

/// What the kernel keeps for a pair, object by object.
pub fn parts_table(idle: &Idle) -> Table {
    let sizes = Slabs::read().unwrap_or_default();
    let each = |name: &str| sizes.get(name).map_or(0.0, |slab| slab.bytes_each());
    let there: Vec<usize> = (0..PARTS.len()).filter(|index| each(PARTS[*index].0) > 0.0).collect();
    let says = |name: &str| match name {
        "TCP" => "the connection's state, once for each end",
        "sock_inode_cache" => "what makes a socket a file: the inode",
        "filp" => "the open file",
        "dentry" => "the file's entry in a directory that nobody sees",
        "eventpoll_epi" => "places in the epoll sets; the client's port, in two tables",
        "ep_head" => "who watches the file",
        _ => "what a security module keeps",
    };
    Table::new("What one pair of connected sockets takes from the kernel, by its own accounts")
        .text("cache", there.iter().map(|&index| PARTS[index].0))
        .text("what it is", there.iter().map(|&index| says(PARTS[index].0)))
        .numbers("each", "B", there.iter().map(|&index| each(PARTS[index].0)))
        .numbers("predicted", "objects", there.iter().map(|&index| PARTS[index].1))
        .numbers("measured", "objects", there.iter().map(|&index| idle.objects[index].median()))
}

/// Bytes for a pair by the number of connections, with the prediction and the seed's figure.
pub fn kernel_chart(sizes: &[Idle], title: &str) -> Lines {
    let predicted = sizes.iter().map(|idle| idle.predicted).next_back().unwrap_or(f64::NAN);
    Chart::lines(title)
        .x("connections open", "")
        .log_x()
        .y("kernel memory of a connection", "B")
        .from_zero()
        .line_with_spread("both ends", sizes.iter().map(|idle| (idle.connections as f64, &idle.kernel)))
        .predicted("the objects' sizes, added up", move |_| predicted)
        .line_with_spread("the server's end", sizes.iter().map(|idle| (idle.connections as f64, &idle.server_end)))
        .mark_y("seed, one end: 1 M connections per GB", 1_000.0)
}

/// Resident memory of the server for each connection.
pub fn user_chart(ways: &[Idle], title: &str) -> Bars {
    let mut chart = Chart::bars(title).y("memory of the server's process, per connection", "B").log().horizontal();
    for idle in ways {
        // A loop that keeps four bytes may not have touched a new page.
        chart = chart.bar_with_spread(idle.name, idle.user.map(|bytes| bytes.max(1.0)).median_and_quartiles());
    }
    chart
}

/// Idle and full, by the setting.
pub fn buffer_chart(settings: &[Buffered], title: &str) -> Lines {
    Chart::lines(title)
        .x("SO_RCVBUF and SO_SNDBUF", "B")
        .log_x()
        .y("memory of the kernel for a pair", "B")
        .log_y()
        .line_with_spread("idle", settings.iter().map(|one| (one.setting as f64, &one.idle)))
        .line_with_spread("nobody reads", settings.iter().map(|one| (one.setting as f64, &one.unread)))
        .predicted("twice both settings", |setting| 4.0 * setting)
}

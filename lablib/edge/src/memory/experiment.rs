//! Connections opened, left idle, weighed and closed again; several times, so that what others do on the machine averages out.

#![allow(missing_docs, reason = "a field is documented where its name leaves something open")]

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use super::{PARTS, grown_bytes, predicted_pair_bytes};
use crate::echo::{Framing, Model, ServerSpec, Skip};
use crate::procfs::{PAGE, ProcessMemory, Slabs, SockStat};
use crate::worker::{Ask, ConnectSpec, Worker, connections_with, most_descriptors};
use lab::{Error, Frame, Network, Result, Trial};

/// A way to hold connections: how a reader calls it, and the server that does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    pub name: &'static str,
    pub server: ServerSpec,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The program's side: six servers that all do the same, and keep very different amounts of memory for it.
pub fn ways() -> Vec<Way> {
    let tasks = |buffer| ServerSpec { buffer, ..ServerSpec::new(Model::CurrentThread) };
    let frames = |size| ServerSpec { framing: Framing::WebSocket(size), ..tasks(512) };
    vec![
        Way { name: "epoll by hand, one buffer", server: ServerSpec::new(Model::Epoll) },
        Way { name: "a task, no buffer while idle", server: tasks(0) },
        Way { name: "a task with 4 KiB", server: tasks(4 << 10) },
        Way { name: "a thread", server: ServerSpec { buffer: 4 << 10, ..ServerSpec::new(Model::Threads) } },
        Way { name: "WebSocket, buffers of 4 KiB", server: frames(Some(4 << 10)) },
        Way { name: "WebSocket, as it comes", server: frames(None) },
    ]
}

/// Connections in each of these numbers, opened and weighed while all are idle; no more than a process has descriptors.
///
/// Figures, for a connection, in bytes of the kernel's caches: `kernel`, both ends; `predicted`, from the sizes that the kernel states;
/// and `server's end`, when the client's has gone without a word, which is what a machine pays that only serves. And the objects in each
/// of the caches of [`PARTS`], by the cache's name. Who may not look into the caches has none of them; who may not let an end go like
/// that has no `server's end`.
pub fn idle_memory(way: &Way, sizes: &[u64], rounds: usize) -> Result<Trial<u64>> {
    /// The caches are the whole machine's: where others opened sockets meanwhile, it is done again, so often at most.
    const TRIES: usize = 4;
    let most = connections_with(most_descriptors()?);
    let sizes: BTreeSet<u64> = sizes.iter().map(|size| *size.min(&most)).collect();
    Trial::over(sizes, rounds).column("connections", |size| *size).run(|&connections, _, figures| {
        for tries in 1..=TRIES {
            let weighed = weigh(way, connections, true)?;
            if weighed.others < slack(connections) || tries == TRIES {
                weighed.kernel.iter().for_each(|(figure, unit, value)| figures.push(figure, unit, *value));
                break;
            }
        }
        Ok(())
    })
}

/// Every way, with one number of connections each; those that keep a lot get a tenth of them. Figure: `resident`, bytes of the server's
/// process for a connection.
pub fn user_memory(connections: u64, rounds: usize) -> Result<Trial<Way>> {
    let most = connections_with(most_descriptors()?);
    let few = |way: &Way| way.server.framing == Framing::WebSocket(None) || way.server.model == Model::Threads;
    let size = |way: &Way| if few(way) { connections.div_ceil(10) } else { connections };
    Trial::over(ways(), rounds).titled("holding connections in six ways").run(|way, _, figures| {
        // A loop that keeps four bytes may not have touched a new page.
        figures.push("resident", "B", weigh(way, size(way).min(most), false)?.user.max(1.0));
        Ok(())
    })
}

/// What was weighed.
struct Weighed {
    /// Bytes of resident memory of the server, for each connection.
    user: f64,
    /// The kernel's part of each connection: figure, unit, value. Nothing where only root may look into its caches.
    kernel: Vec<(&'static str, &'static str, f64)>,
    /// Sockets of TCP that the machine has more or fewer than ours, when ours are open.
    others: u64,
}

/// Sockets of others that do not matter beside so many connections: a hundredth of their sockets.
fn slack(connections: u64) -> u64 {
    (connections / 50).max(4)
}

/// Opens the connections and weighs them; then, if asked to, the server's end alone.
fn weigh(way: &Way, connections: u64, alone: bool) -> Result<Weighed> {
    let (mut serving, mut connecting) = pair()?;
    let addresses = serving.serve(&way.server)?;
    let (caches, sockets) = (Slabs::read(), SockStat::read()?.alloc);
    let process = ProcessMemory::of(serving.pid())?;
    let spec = ConnectSpec::new(connections, way.server.framing);
    let state = connecting.connect_all(&ConnectSpec { addresses, ..spec })?;
    if state.echoed != connections {
        let why = state.ended.or(serving.state()?.ended).unwrap_or_else(|| "nobody says why".into());
        let cause = format!("{} of {connections} echoed: {why}", state.echoed);
        return Err(Error::new("hold connections", cause).at(way));
    }
    let count = connections as f64;
    let user = (ProcessMemory::of(serving.pid())?.resident as f64 - process.resident as f64) / count;
    let mut weighed = Weighed { user, kernel: Vec::new(), others: 0 };
    // Without root there is no looking into the kernel's caches; the rest can still be shown.
    let (true, Ok(before), Ok(after)) = (alone, caches, Slabs::read()) else { return Ok(weighed) };
    weighed.others = SockStat::read()?.alloc.abs_diff(sockets + 2 * connections);
    weighed.kernel =
        vec![("kernel", "B", grown_bytes(&before, &after) / count), ("predicted", "B", predicted_pair_bytes(&after))];
    weighed.kernel.extend(PARTS.map(|(name, _)| (name, "objects", after.grown(&before, name) / count)));
    if connecting.vanish().is_ok() {
        let end = settled(&before, connections, sockets + connections)?;
        weighed.kernel.push(("server's end", "B", grown_bytes(&before, &end) / count));
    }
    drop((connecting, serving));
    settled(&before, connections, sockets)?;
    Ok(weighed)
}

/// The caches when the machine has no more than so many sockets of TCP, and nothing more is given back of what these connections took:
/// the kernel frees what was closed a moment later, and what hangs on it later still.
fn settled(before: &Slabs, connections: u64, sockets: u64) -> Result<Slabs> {
    const QUIET: Duration = Duration::from_millis(100);
    const PATIENCE: Duration = Duration::from_secs(10);
    let began = Instant::now();
    let (mut least, mut since) = (f64::INFINITY, began);
    loop {
        let (now, open) = (Slabs::read()?, SockStat::read()?.alloc);
        let each = grown_bytes(before, &now) / connections as f64;
        // Fifty bytes less for each connection are still on their way.
        if open > sockets + slack(connections) || each < least - 50.0 {
            (least, since) = (each.min(least), Instant::now());
        }
        if since.elapsed() > QUIET || began.elapsed() > PATIENCE {
            return Ok(now);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A server's process and a client's, in a network of their own.
fn pair() -> Result<(Worker, Worker)> {
    Network::inside(|_| Ok((Worker::start()?, Worker::start()?)))
}

/// Connections with each setting of SO_RCVBUF and SO_SNDBUF: idle, then full. The frame has the column `setting`.
///
/// Figures, for a connection, in bytes: `idle`, in the kernel's caches, where one may look into them; `nobody reads`, in the buffers
/// when the writer has written all that the kernel takes; and `idle, in buffers` before.
pub fn buffers(settings: &[usize], connections: u64, rounds: usize) -> Result<Trial<usize>> {
    let plan = Trial::over(settings.iter().copied(), rounds).titled("filling buffers");
    plan.column("setting", |setting| *setting).run(|&setting, _, figures| {
        let (mut serving, mut connecting) = pair()?;
        let skip = Some(Skip::Read);
        let server = ServerSpec { receive_buffer: Some(setting), skip, ..ServerSpec::new(Model::Epoll) };
        let addresses = serving.serve(&server)?;
        let (caches, sockets) = (Slabs::read(), SockStat::read()?);
        let spec = ConnectSpec::new(connections, Framing::Plain);
        let spec = ConnectSpec { addresses, echo: false, send_buffer: Some(setting), ..spec };
        let state = connecting.connect_all(&spec)?;
        if state.open != connections {
            let cause = format!("{} of {connections} are open: {:?}", state.open, state.ended);
            return Err(Error::new("hold connections", cause));
        }
        let count = connections as f64;
        let in_buffers =
            || -> Result<f64> { Ok((SockStat::read()?.pages as f64 - sockets.pages as f64) * PAGE / count) };
        if let (Ok(before), Ok(after)) = (&caches, Slabs::read()) {
            figures.push("idle", "B", grown_bytes(before, &after) / count);
        }
        figures.push("idle, in buffers", "B", in_buffers()?);
        connecting.ask::<()>(&Ask::Fill)?;
        figures.push("nobody reads", "B", in_buffers()?);
        drop((connecting, serving));
        if let Ok(before) = &caches {
            settled(before, connections, sockets.alloc)?;
        }
        Ok(())
    })
}

/// What the kernel keeps for a pair, object by object: cache, what it is, each (B), and the objects predicted and measured.
pub fn parts(idle: &Trial<u64>, connections: u64) -> Result<Frame> {
    let sizes = Slabs::read()?;
    let each = |name: &str| sizes.get(name).map_or(0.0, |slab| slab.bytes_each());
    let there: Vec<(&str, f64)> = PARTS.into_iter().filter(|(name, _)| each(name) > 0.0).collect();
    let says = |name: &str| match name {
        "TCP" => "the connection's state, once for each end",
        "sock_inode_cache" => "what makes a socket a file: the inode",
        "filp" => "the open file",
        "dentry" => "the file's entry in a directory that nobody sees",
        "eventpoll_epi" => "places in the epoll sets; the client's port, in two tables",
        "ep_head" => "who watches the file",
        _ => "what a security module keeps",
    };
    Ok(Frame::new()
        .text("cache", there.iter().map(|(name, _)| name))
        .text("what it is", there.iter().map(|(name, _)| says(name)))
        .numbers("each", "B", there.iter().map(|(name, _)| each(name)))
        .numbers("predicted", "objects", there.iter().map(|(_, objects)| *objects))
        .numbers("measured", "objects", there.iter().map(|(name, _)| idle.samples(&connections, name).median())))
}

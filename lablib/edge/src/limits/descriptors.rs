//! File descriptors: a process runs out of them at exactly the number that its soft limit leaves.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use serde::{Deserialize, Serialize};
use socket2::Socket;

use crate::descriptor_tables::{open_descriptors, raise_descriptors, threads_may_have_tables};
use crate::procfs::Seen;
use crate::sockets::{Listener, errno, tcp};
use lab::errand::Running;
use lab::{Doing, Error, Frame, Result, Table, joined};

/// Its piece that runs in a network of its own.
pub(crate) const PIECE: &str = "descriptors";

/// What to find out about descriptors.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DescriptorSpec {
    /// Soft limits to set and to run into; one above the hard limit is left out.
    pub soft_limits: Vec<u64>,
    /// Descriptors to hold with numbers above the soft limit, at each of them.
    pub above: u64,
    /// Clients of a server that has no descriptor left.
    pub clients: u64,
}

/// A server without a descriptor to spare, and clients that come all the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FullServer {
    /// How many came.
    pub clients: u64,
    /// Whose `connect` succeeded.
    pub connected: u64,
    /// Connections in the accept queue, by the kernel's count, while no descriptor was free.
    pub waiting: u64,
    /// How often `accept` failed with EMFILE in the time that the server kept trying.
    pub failed_accepts: u64,
    /// How long it kept trying, in seconds.
    pub tried_for: f64,
    /// Other outcomes of these `accept`s.
    pub other_outcomes: u64,
    /// Who had an answer once one descriptor was free.
    pub answered: u64,
}

/// What was found out about descriptors.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Descriptors {
    /// The hard limit, up to which a process may raise its own soft one.
    pub hard: u64,
    /// What came of raising the hard limit by one: `allowed`, or the error.
    pub beyond_hard: String,
    /// Each soft limit, run into with the table of the process; and with two threads that have a table each, where that is allowed:
    /// table, soft limit, taken (numbers below it, beforehand), above (descriptors that were open with higher numbers), predicted,
    /// opened, off (opened less predicted; another refusal than EMFILE is no number), and then (the error of the next one).
    pub tables: Frame,
    /// A server without descriptors; none where a client cannot have a table of its own.
    pub full_server: Option<FullServer>,
}

/// Runs into each of the soft limits, in a process of its own.
pub fn descriptors(spec: &DescriptorSpec) -> Result<Descriptors> {
    if spec.soft_limits.is_empty() {
        return Err(Error::new("run out of descriptors", "there is no limit to run into"));
    }
    Running::start("limits", &(PIECE, spec))?.finish()
}

pub(crate) fn measure(spec: &DescriptorSpec) -> Result<Descriptors> {
    let hard = raise_descriptors()?;
    let beyond_hard = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard.saturating_add(1)) {
        Ok(()) => "allowed".to_string(),
        Err(error) => format!("{error:?}"),
    };
    raise_descriptors()?; // back, where it was allowed
    let mut filled = Vec::new();
    for &soft in spec.soft_limits.iter().filter(|soft| **soft <= hard) {
        filled.push(run_into(soft, hard, spec.above)?);
    }
    if filled.is_empty() {
        let cause = format!("the hard limit, {hard}, is below every limit that was asked for");
        return Err(Error::new("run out of descriptors", cause));
    }
    let mut full_server = None;
    if threads_may_have_tables() {
        filled.extend(fill_two_tables(256.min(hard), hard)?);
        full_server = Some(serve_without_descriptors(128.min(hard), hard, spec.clients)?);
    }
    let predicted = |table: &Filled| table.soft.saturating_sub(table.taken);
    let off = |table: &Filled| match table.error.as_str() {
        "EMFILE" => table.opened as f64 - predicted(table) as f64,
        _ => f64::NAN,
    };
    let tables = Frame::new()
        .text("table", filled.iter().map(|table| table.name))
        .counts("soft limit", "", filled.iter().map(|table| table.soft))
        .counts("taken", "", filled.iter().map(|table| table.taken))
        .counts("above", "", filled.iter().map(|table| table.above))
        .counts("predicted", "", filled.iter().map(predicted))
        .counts("opened", "", filled.iter().map(|table| table.opened))
        .numbers("off", "", filled.iter().map(off))
        .text("then", filled.iter().map(|table| &table.error));
    Ok(Descriptors { hard, beyond_hard, tables, full_server })
}

/// A table of descriptors, filled.
struct Filled {
    name: &'static str,
    soft: u64,
    taken: u64,
    above: u64,
    opened: u64,
    error: String,
}

/// Opens sockets until the kernel refuses one.
fn open_all() -> (Vec<Socket>, String) {
    let mut held = Vec::new();
    loop {
        match tcp() {
            Ok(socket) => held.push(socket),
            Err(error) => return (held, errno(&error)),
        }
    }
}

/// Opens what is left below the limit, when these were open before.
fn open_counted(name: &'static str, soft: u64, open: &[u64]) -> (Vec<Socket>, Filled) {
    let taken = open.iter().filter(|fd| **fd < soft).count() as u64;
    let (held, error) = open_all();
    let (above, opened) = (open.len() as u64 - taken, held.len() as u64);
    (held, Filled { name, soft, taken, above, opened, error })
}

fn run_into(soft: u64, hard: u64, above: u64) -> Result<Filled> {
    let doing = format!("run into a limit of {soft} descriptors");
    // What is open already stays open, whatever its number, when the limit is lowered below it.
    let mut high = Vec::new();
    let null = std::fs::File::open("/dev/null").doing(&*doing)?;
    for _ in 0..above.min(hard - soft) {
        let lowest = i32::try_from(soft).doing(&*doing)?;
        high.push(fcntl(&null, FcntlArg::F_DUPFD_CLOEXEC(lowest)).doing(&*doing)?);
    }
    let open = open_descriptors()?; // while there is one to look with
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).doing(&*doing)?;
    let (held, filled) = open_counted("of the process", soft, &open);
    drop(held);
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).doing(&*doing)?;
    for fd in high {
        nix::unistd::close(fd).doing(&*doing)?;
    }
    Ok(filled)
}

fn fill_two_tables(soft: u64, hard: u64) -> Result<[Filled; 2]> {
    let doing = "fill two descriptor tables";
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).doing(doing)?;
    let both = std::sync::Barrier::new(2);
    let filled = std::thread::scope(|scope| {
        let fill = |name| -> Result<Filled> {
            let open = unshare(CloneFlags::CLONE_FILES).doing(doing).and_then(|()| open_descriptors());
            let filled = open.map(|open| open_counted(name, soft, &open));
            both.wait(); // both tables are full at the same time
            filled.map(|(_, filled)| filled)
        };
        let threads = ["one of two", "the other"].map(|name| scope.spawn(move || fill(name)));
        threads.map(|thread| joined(doing, thread.join()))
    });
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).doing(doing)?;
    let [one, other] = filled;
    Ok([one?, other?])
}

fn serve_without_descriptors(soft: u64, hard: u64, clients: u64) -> Result<FullServer> {
    let doing = "serve without a descriptor";
    const PATIENCE: Duration = Duration::from_secs(10);
    let listener = Listener::on(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), 128)?;
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).doing(doing)?;
    let found = std::thread::scope(|scope| -> Result<FullServer> {
        let ((ready, is_ready), (go, may_go), (say, heard)) = (channel(), channel::<()>(), channel());
        let address = listener.address;
        let came = scope.spawn(move || -> Result<u64> {
            unshare(CloneFlags::CLONE_FILES).doing(doing)?;
            let _ = ready.send(());
            let _ = may_go.recv();
            let mut connected = Vec::new();
            for _ in 0..clients {
                let client = tcp().doing(doing)?;
                client.set_read_timeout(Some(PATIENCE)).doing(doing)?;
                if client.connect(&address.into()).is_ok() {
                    connected.push(client);
                }
            }
            let _ = say.send(connected.len() as u64);
            let mut answered = 0;
            for client in &connected {
                let mut byte = [std::mem::MaybeUninit::uninit()];
                let sent = client.send(b"?").is_ok();
                answered += u64::from(sent && client.recv(&mut byte).is_ok_and(|length| length == 1));
            }
            Ok(answered)
        });
        let _ = is_ready.recv();
        let (mut spare, _) = open_all();
        let _ = go.send(());
        let connected = heard.recv_timeout(PATIENCE).unwrap_or(0);
        let (mut failed_accepts, mut other_outcomes, began) = (0, 0, Instant::now());
        while began.elapsed() < Duration::from_millis(50) {
            match listener.socket.accept() {
                Err(error) if error.raw_os_error() == Some(libc::EMFILE) => failed_accepts += 1,
                _ => other_outcomes += 1,
            }
        }
        let tried_for = began.elapsed().as_secs_f64();
        spare.truncate(spare.len().saturating_sub(2)); // one to look with, and that one and another to serve with
        let waiting = Seen::all()?;
        let waiting = waiting.iter().find(|seen| seen.is_listening(address.port()));
        let waiting = waiting.map_or(0, |seen| seen.waiting);
        for _ in 0..connected {
            let (peer, _) = listener.socket.accept().doing(doing)?;
            peer.set_read_timeout(Some(PATIENCE)).doing(doing)?;
            let mut byte = [std::mem::MaybeUninit::uninit()];
            peer.recv(&mut byte).doing(doing)?;
            peer.send(b"!").doing(doing)?;
        }
        let answered = joined(doing, came.join())?;
        Ok(FullServer { clients, connected, waiting, failed_accepts, tried_for, other_outcomes, answered })
    });
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).doing(doing)?;
    found
}

impl FullServer {
    /// What clients and server saw, in words.
    pub fn table(&self, title: &str) -> Table {
        Table::new(title)
            .text(
                "",
                [
                    "clients that came",
                    "whose connect succeeded",
                    "that waited in the accept queue, by the kernel's count",
                    "times that accept failed with EMFILE in a twentieth of a second",
                    "clients that had their answer once a descriptor was free",
                ],
            )
            .counts("how many", "", [self.clients, self.connected, self.waiting, self.failed_accepts, self.answered])
    }
}

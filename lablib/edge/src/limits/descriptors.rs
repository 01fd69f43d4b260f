//! File descriptors: a process runs out of them at exactly the number that its soft limit leaves.

use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use serde::{Deserialize, Serialize};
use socket2::Socket;

use crate::descriptor_tables::{open_descriptors, raise_descriptors, threads_may_have_tables};
use crate::process::start;
use crate::procfs::Seen;
use crate::sockets::{Listener, errno, tcp};
use lab::{Doing, Error, Frame, Result, joined};

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
    /// A server without a descriptor to spare, and clients that come all the same: came, connected (whose `connect` succeeded), waiting
    /// (in the accept queue, by the kernel's count, while no descriptor was free), failed accepts (with EMFILE, in a twentieth of a
    /// second), other outcomes (of these accepts), and answered (once a descriptor was free).
    pub full_server: Frame,
}

/// Runs into each of the soft limits, in a process of its own.
pub fn descriptors(spec: &DescriptorSpec) -> Result<Descriptors> {
    if spec.soft_limits.is_empty() {
        return Err(Error::new("run out of descriptors", "there is no limit to run into"));
    }
    start(PIECE, spec)?.finish()
}

pub(crate) fn measure(spec: &DescriptorSpec) -> Result<Descriptors> {
    let hard = raise_descriptors()?;
    let beyond_hard = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard.saturating_add(1)) {
        Ok(()) => "allowed".to_string(),
        Err(error) => format!("{error:?}"),
    };
    raise_descriptors()?; // back, where it was allowed
    let mut tables = Frame::new();
    for &soft in spec.soft_limits.iter().filter(|soft| **soft <= hard) {
        tables.extend([run_into(soft, hard, spec.above)?]);
    }
    if tables.is_empty() {
        let cause = format!("the hard limit, {hard}, is below every limit that was asked for");
        return Err(Error::new("run out of descriptors", cause));
    }
    if threads_may_have_tables() {
        tables.extend(fill_two_tables(256.min(hard), hard)?);
    }
    let full_server = serve_without_descriptors(128.min(hard), hard, spec.clients)?;
    Ok(Descriptors { hard, beyond_hard, tables, full_server })
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

/// What came of opening what is left below the limit, when these were open before.
fn filled(name: &str, soft: u64, open: &[u64], opened: u64, error: &str) -> Frame {
    let taken = open.iter().filter(|fd| **fd < soft).count() as u64;
    let predicted = soft.saturating_sub(taken);
    let off = if error == "EMFILE" { opened as f64 - predicted as f64 } else { f64::NAN };
    Frame::new()
        .text("table", [name])
        .counts("soft limit", "", [soft])
        .counts("taken", "", [taken])
        .counts("above", "", [open.len() as u64 - taken])
        .counts("predicted", "", [predicted])
        .counts("opened", "", [opened])
        .numbers("off", "", [off])
        .text("then", [error])
}

fn run_into(soft: u64, hard: u64, above: u64) -> Result<Frame> {
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
    let (held, error) = open_all();
    let opened = held.len() as u64;
    drop(held);
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).doing(&*doing)?;
    for fd in high {
        nix::unistd::close(fd).doing(&*doing)?;
    }
    Ok(filled("of the process", soft, &open, opened, &error))
}

fn fill_two_tables(soft: u64, hard: u64) -> Result<[Frame; 2]> {
    let doing = "fill two descriptor tables";
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).doing(doing)?;
    let both = std::sync::Barrier::new(2);
    let tables = std::thread::scope(|scope| {
        let fill = |name| -> Result<Frame> {
            let open = unshare(CloneFlags::CLONE_FILES).doing(doing).and_then(|()| open_descriptors());
            let (held, error) = open_all();
            both.wait(); // both tables are full at the same time
            let opened = held.len() as u64;
            drop(held);
            Ok(filled(name, soft, &open?, opened, &error))
        };
        let threads = ["one of two", "the other"].map(|name| scope.spawn(move || fill(name)));
        threads.map(|thread| joined(doing, thread.join()))
    });
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).doing(doing)?;
    let [one, other] = tables;
    Ok([one?, other?])
}

fn serve_without_descriptors(soft: u64, hard: u64, clients: u64) -> Result<Frame> {
    let doing = "serve without a descriptor";
    let listener = Listener::on(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), 128)?;
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).doing(doing)?;
    // Clients have their descriptors; the server finds none.
    let clients = (0..clients).map(|_| tcp()).collect::<std::io::Result<Vec<_>>>().doing(doing)?;
    let (mut spare, _) = open_all();
    let connected: Vec<&Socket> =
        clients.iter().filter(|client| client.connect(&listener.address.into()).is_ok()).collect();
    let (mut failed_accepts, mut other_outcomes, began) = (0, 0, Instant::now());
    while began.elapsed() < Duration::from_millis(50) {
        match listener.socket.accept() {
            Err(error) if error.raw_os_error() == Some(libc::EMFILE) => failed_accepts += 1,
            _ => other_outcomes += 1,
        }
    }
    spare.truncate(spare.len().saturating_sub(1)); // one to look with, and then to serve with
    let waiting =
        Seen::all()?.iter().find(|seen| seen.is_listening(listener.address.port())).map_or(0, |seen| seen.waiting);
    let mut answered = 0;
    // So that an accept that finds nobody is an error, too.
    listener.socket.set_read_timeout(Some(Duration::from_secs(10))).doing(doing)?;
    for client in &connected {
        client.send(b"?").doing(doing)?;
        let (peer, _) = listener.socket.accept().doing(doing)?;
        peer.set_read_timeout(Some(Duration::from_secs(10))).doing(doing)?;
        peer.recv(&mut [MaybeUninit::uninit()]).doing(doing)?;
        peer.send(b"!").doing(doing)?;
        client.set_read_timeout(Some(Duration::from_secs(10))).doing(doing)?;
        answered += u64::from(client.recv(&mut [MaybeUninit::uninit()]).is_ok_and(|length| length == 1));
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).doing(doing)?;
    Ok(Frame::new()
        .counts("came", "", [clients.len() as u64])
        .counts("connected", "", [connected.len() as u64])
        .counts("waiting", "", [waiting])
        .counts("failed accepts", "", [failed_accepts])
        .counts("other outcomes", "", [other_outcomes])
        .counts("answered", "", [answered]))
}

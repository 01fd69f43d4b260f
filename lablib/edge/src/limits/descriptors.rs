//! File descriptors: a process runs out of them at exactly the number that its soft limit leaves.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use serde::{Deserialize, Serialize};
use socket2::Socket;

use super::chamber;
use super::lanes::{has_lanes, open_descriptors, raise_descriptors};
use super::namespace::{Listener, Seen, errno, tcp};
use lab::chart::{Chart, Lines};
use lab::{Doing, Error, OrFail, Result, Samples, Table, joined};

/// Its piece that runs in a network of its own.
pub(super) const PIECE: &str = "descriptors";

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

/// One soft limit, run into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescriptorPoint {
    /// The soft limit.
    pub soft: u64,
    /// Numbers below the limit that were taken beforehand.
    pub taken: u64,
    /// Descriptors that were open with numbers above the limit.
    pub above: u64,
    /// Sockets that could be opened.
    pub opened: u64,
    /// The error that the next one got.
    pub error: String,
}

impl DescriptorPoint {
    /// Numbers below the soft limit that nobody has.
    pub fn predicted(&self) -> u64 {
        self.soft.saturating_sub(self.taken)
    }
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Descriptors {
    /// The hard limit, up to which a process may raise its own soft one.
    pub hard: u64,
    /// What came of raising the hard limit by one: `allowed`, or the error.
    pub beyond_hard: String,
    /// Each soft limit.
    pub points: Vec<DescriptorPoint>,
    /// Two threads with a table each: how many descriptors each of them opened; none where that is not allowed.
    pub two_tables: Option<[DescriptorPoint; 2]>,
    /// A server without descriptors; none where a client cannot have a table of its own.
    pub full_server: Option<FullServer>,
}

/// Runs into each of the soft limits, in a process of its own.
pub fn descriptors(spec: &DescriptorSpec) -> Descriptors {
    let run = || -> Result<Descriptors> {
        if spec.soft_limits.is_empty() {
            return Err(Error::new("run out of descriptors", "there is no limit to run into"));
        }
        chamber::run(PIECE, spec)
    };
    run().or_fail()
}

pub(super) fn measure(spec: &DescriptorSpec) -> Result<Descriptors> {
    let hard = raise_descriptors()?;
    let beyond_hard = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard.saturating_add(1)) {
        Ok(()) => "allowed".to_string(),
        Err(error) => format!("{error:?}"),
    };
    raise_descriptors()?; // back, where it was allowed
    let mut points = Vec::new();
    for &soft in spec.soft_limits.iter().filter(|soft| **soft <= hard) {
        points.push(run_into(soft, hard, spec.above)?);
    }
    if points.is_empty() {
        let cause = format!("the hard limit, {hard}, is below every limit that was asked for");
        return Err(Error::new("run out of descriptors", cause));
    }
    let (mut two_tables, mut full_server) = (None, None);
    if has_lanes() {
        two_tables = Some(fill_two_tables(256.min(hard), hard)?);
        full_server = Some(serve_without_descriptors(128.min(hard), hard, spec.clients)?);
    }
    Ok(Descriptors { hard, beyond_hard, points, two_tables, full_server })
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
fn open_counted(soft: u64, open: &[u64]) -> (Vec<Socket>, DescriptorPoint) {
    let taken = open.iter().filter(|fd| **fd < soft).count() as u64;
    let (held, error) = open_all();
    let point = DescriptorPoint { soft, taken, above: open.len() as u64 - taken, opened: held.len() as u64, error };
    (held, point)
}

fn run_into(soft: u64, hard: u64, above: u64) -> Result<DescriptorPoint> {
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
    let (held, point) = open_counted(soft, &open);
    drop(held);
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).doing(&*doing)?;
    for fd in high {
        nix::unistd::close(fd).doing(&*doing)?;
    }
    Ok(point)
}

fn fill_two_tables(soft: u64, hard: u64) -> Result<[DescriptorPoint; 2]> {
    let doing = "fill two descriptor tables";
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).doing(doing)?;
    let both = std::sync::Barrier::new(2);
    let filled = std::thread::scope(|scope| {
        let fill = || -> Result<DescriptorPoint> {
            let open = unshare(CloneFlags::CLONE_FILES).doing(doing).and_then(|()| open_descriptors());
            let filled = open.map(|open| open_counted(soft, &open));
            both.wait(); // both tables are full at the same time
            filled.map(|(_, point)| point)
        };
        let threads = [scope.spawn(fill), scope.spawn(fill)];
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

impl Descriptors {
    /// Opened less predicted: at each soft limit, and in each of the two tables. Another refusal than EMFILE is no number.
    pub fn off(&self) -> Samples {
        let all = self.points.iter().chain(self.two_tables.iter().flatten());
        all.map(|point| match point.error.as_str() {
            "EMFILE" => point.opened as f64 - point.predicted() as f64,
            _ => f64::NAN,
        })
        .collect()
    }

    /// Predicted and opened, over the soft limit.
    pub fn chart(&self, title: &str) -> Lines {
        let at = |value: fn(&DescriptorPoint) -> u64| {
            self.points.iter().map(move |point| (point.soft as f64, value(point) as f64)).collect::<Vec<_>>()
        };
        Chart::lines(title)
            .x("soft limit", "descriptors")
            .log_x()
            .y("sockets opened until EMFILE", "")
            .log_y()
            .points("opened", at(|point| point.opened))
            .predicted_points("predicted", at(DescriptorPoint::predicted))
    }

    /// Every soft limit, and every table.
    pub fn table(&self, title: &str) -> Table {
        let mut rows: Vec<(String, &DescriptorPoint)> =
            self.points.iter().map(|point| (format!("soft limit {}", point.soft), point)).collect();
        for (number, point) in self.two_tables.iter().flatten().enumerate() {
            rows.push((format!("soft limit {}, table {} of two", point.soft, number + 1), point));
        }
        let counts = |value: fn(&DescriptorPoint) -> u64| rows.iter().map(move |(_, point)| value(point));
        Table::new(title)
            .text("", rows.iter().map(|(name, _)| name.as_str()))
            .counts("taken before, below the limit", "", counts(|point| point.taken))
            .counts("held above the limit", "", counts(|point| point.above))
            .counts("predicted", "", counts(DescriptorPoint::predicted))
            .counts("opened", "", counts(|point| point.opened))
            .text("then", rows.iter().map(|(_, point)| point.error.as_str()))
    }
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

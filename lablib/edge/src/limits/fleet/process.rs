//! A process of its own for one end of some connections: `lab connections`, and the handle on it.
//!
//! A worker reads requests from its standard input, one JSON line each, and answers on its standard output. The other
//! end of that input is held by its owner alone; when the owner is gone, `kill -9` included, the kernel closes it, the worker
//! reads the end, and exits. Requests are short, so that it always gets around to reading.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use serde::{Deserialize, Serialize};

use super::connector::{ConnectSpec, Connector, Pinged, Progress};
use crate::limits::echo::{self, Served, ServerSpec};
use crate::limits::threads_and_tasks::{Crew, CrewSpec, RelaySpec, Relayed};
use lab::service::lab_program;
use lab::{Doing, Error, Result, Show};

/// What a worker can be asked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Serve.
    Serve(ServerSpec),
    /// Start connecting.
    Connect(ConnectSpec),
    /// Start no more connections.
    Stop,
    /// How far it is.
    State,
    /// Send one message after the other.
    Ping { count: u64, always_the_first: bool, seed: u64 },
    /// Send many at once.
    Storm { requests: u64, width: usize },
    /// Send until nothing more is taken.
    Fill { most: usize },
    /// Close its end of all connections without a word to the other.
    Vanish,
    /// What it has used of the processor.
    Usage,
    /// Make threads or tasks, and let them go again.
    Crew(CrewSpec),
    /// Pass a token around a ring of threads or tasks.
    Relay(RelaySpec),
}

/// What a worker answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    Serving(Vec<SocketAddr>),
    State(State),
    Pinged(Pinged),
    Stormed { seconds: f64, wrong: u64 },
    Filled { bytes: u64 },
    Usage(Usage),
    Crew(Crew),
    Relayed(Relayed),
    Failed { operation: String, why: String },
}

/// How far a worker is with its connections.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Connections that the kernel calls established, at the connecting end.
    pub open: u64,
    /// Connections whose own number came back.
    pub echoed: u64,
    /// Connections on which something else came back.
    pub wrong: u64,
    /// Connections that the other end closed, or refused.
    pub lost: u64,
    /// Whether it is done with connecting.
    pub done: bool,
    /// Seconds from the first connection to the last echo.
    pub seconds: f64,
    /// Why it ended early.
    pub ended: Option<String>,
    /// Connections accepted, at the serving end.
    pub accepted: u64,
    /// Connections open now, at the serving end.
    pub held: u64,
    /// Connections that could not be taken on, at the serving end.
    pub refused: u64,
}

/// What a process has used of the processor, by the kernel's account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Seconds of the processor, its own and the kernel's on its behalf.
    pub seconds: f64,
    /// How often one of its threads went to sleep.
    pub waits: u64,
    /// How often one of its threads was made to give way.
    pub preempted: u64,
}

impl Usage {
    /// Of this process.
    pub(crate) fn now() -> Result<Self> {
        let usage = getrusage(UsageWho::RUSAGE_SELF).doing("ask what this process has used")?;
        let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        Ok(Self {
            seconds: seconds(usage.user_time()) + seconds(usage.system_time()),
            waits: usage.voluntary_context_switches() as u64,
            preempted: usage.involuntary_context_switches() as u64,
        })
    }

    /// What was used between two moments.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            seconds: self.seconds - earlier.seconds,
            waits: self.waits - earlier.waits,
            preempted: self.preempted - earlier.preempted,
        }
    }
}

/// What `lab connections` does: what it is asked on standard input, until that ends. With a number it is the owner of a
/// fleet of such processes instead, and says how many connections it held.
pub fn connections_process(arguments: &[String]) -> Result<()> {
    if let Some(connections) = arguments.first() {
        let connections: u64 = connections.parse().doing("read how many connections to hold")?;
        let voyage = super::sail(&super::FleetSpec::new(connections))?;
        println!("{}\n{}", voyage.plan.table().to_plain(), voyage.table().to_plain());
        println!("open files of the machine before, at the height, afterwards: {:?}", voyage.files);
        println!("processes left: {}, bytes left: {:.0}", voyage.left_processes, voyage.left_bytes);
        return Ok(());
    }
    raise_descriptors()?;
    // Should memory run short all the same, this process goes first, and nobody else's. Not everybody may say so.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let mut worker = Inside::default();
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line.doing("read what to do")?;
        let answer = serde_json::from_str(&line).doing("read what to do").and_then(|ask| worker.answer(ask));
        let answer = answer.unwrap_or_else(|error| Answer::Failed {
            operation: error.operation().to_string(),
            why: error.cause().to_string(),
        });
        let mut text = serde_json::to_string(&answer).doing("answer")?;
        text.push('\n');
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            break;
        }
    }
    // The owner is gone, or has let go. Every thread ends here, whatever it waits for.
    std::process::exit(0)
}

/// As many descriptors as this process may have.
fn raise_descriptors() -> Result<u64> {
    let doing = "raise the limit of open files";
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).doing(doing)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).doing(doing)?;
    Ok(hard)
}

/// The worker's own side.
#[derive(Default)]
struct Inside {
    served: Arc<Served>,
    progress: Arc<Progress>,
    connector: Arc<Mutex<Option<Connector>>>,
}

impl Inside {
    fn answer(&mut self, ask: Ask) -> Result<Answer> {
        match ask {
            Ask::Serve(spec) => echo::serve(&spec, &self.served).map(Answer::Serving),
            Ask::Connect(spec) => self.connect(spec),
            Ask::Stop => {
                self.progress.stop.store(true, Ordering::Relaxed);
                Ok(Answer::Done)
            }
            Ask::State => Ok(Answer::State(self.state())),
            Ask::Ping { count, always_the_first, seed } => {
                self.with_connector(|connector| connector.ping(count, always_the_first, seed)).map(Answer::Pinged)
            }
            Ask::Storm { requests, width } => {
                let (seconds, wrong) = self.with_connector(|connector| connector.storm(requests, width))?;
                Ok(Answer::Stormed { seconds, wrong })
            }
            Ask::Fill { most } => {
                self.with_connector(|connector| connector.fill(most)).map(|bytes| Answer::Filled { bytes })
            }
            Ask::Vanish => self.with_connector(Connector::vanish).map(|()| Answer::Done),
            Ask::Usage => Usage::now().map(Answer::Usage),
            Ask::Crew(spec) => spec.run().map(Answer::Crew),
            Ask::Relay(spec) => spec.run().map(Answer::Relayed),
        }
    }

    fn connect(&mut self, spec: ConnectSpec) -> Result<Answer> {
        self.progress = Arc::default();
        let progress = Arc::clone(&self.progress);
        let mut connector = Connector::new(spec, Arc::clone(&progress))?;
        let kept = Arc::clone(&self.connector);
        let body = move || {
            if let Err(error) = connector.open() {
                progress.stop_because(error.to_string());
            }
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(connector);
            progress.done.store(true, Ordering::Release);
        };
        std::thread::Builder::new().name("connect".into()).spawn(body).doing("start connecting")?;
        Ok(Answer::Done)
    }

    fn with_connector<T>(&self, work: impl FnOnce(&mut Connector) -> Result<T>) -> Result<T> {
        let mut connector = self.connector.lock().unwrap_or_else(PoisonError::into_inner);
        match connector.as_mut() {
            Some(connector) => work(connector),
            None => Err(Error::new("use the connections", "they are not open yet")),
        }
    }

    fn state(&self) -> State {
        let (progress, served) = (&self.progress, &self.served);
        State {
            done: progress.done.load(Ordering::Acquire),
            open: progress.open.load(Ordering::Relaxed),
            echoed: progress.echoed.load(Ordering::Relaxed),
            wrong: progress.wrong.load(Ordering::Relaxed),
            lost: progress.lost.load(Ordering::Relaxed),
            seconds: progress.microseconds.load(Ordering::Relaxed) as f64 / 1e6,
            ended: progress.ended().or_else(|| served.why()),
            accepted: served.accepted.load(Ordering::Relaxed),
            held: served.open.load(Ordering::Relaxed),
            refused: served.refused.load(Ordering::Relaxed),
        }
    }
}

/// A worker, seen from its owner; killed when dropped.
#[derive(Debug)]
pub struct Worker {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    complaints: ChildStderr,
}

impl Worker {
    /// Starts one, in the network of the thread that calls.
    pub fn start() -> Result<Self> {
        Self::start_program(&lab_program()?, None)
    }

    /// Starts one as another user, of whom nothing is known here but the number; only root can.
    pub fn start_as(user: u32) -> Result<Self> {
        // That user may not be able to walk the path to the program, but can execute what is open already.
        let program = lab_program().and_then(|path| File::open(path).doing("open the lab's own program"))?;
        Self::start_program(Path::new(&format!("/proc/self/fd/{}", program.as_raw_fd())), Some(user))
    }

    fn start_program(program: &Path, user: Option<u32>) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("connections").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(user) = user {
            command.uid(user);
        }
        let mut process = command.spawn().doing("start a process for connections")?;
        match (process.stdin.take(), process.stdout.take(), process.stderr.take()) {
            (Some(requests), Some(answers), Some(complaints)) => {
                Ok(Self { process, requests, answers: BufReader::new(answers), complaints })
            }
            _ => Err(Error::new("start a process for connections", "it has no standard input and output")),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn ask(&mut self, ask: &Ask) -> Result<Answer> {
        let mut line = serde_json::to_string(ask).doing("ask a process for connections")?;
        line.push('\n');
        let mut answer = String::new();
        let heard = self.requests.write_all(line.as_bytes()).and_then(|()| self.answers.read_line(&mut answer));
        if !matches!(heard, Ok(1..)) {
            return Err(Error::new("reach a process for connections", self.last_words()));
        }
        match serde_json::from_str(&answer).doing("understand a process for connections")? {
            Answer::Failed { operation, why } => Err(Error::new(operation, why)),
            answer => Ok(answer),
        }
    }

    /// How it ended, and what it said at last.
    fn last_words(&mut self) -> String {
        let _ = self.process.kill();
        let status = self.process.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        let mut said = String::new();
        let _ = self.complaints.read_to_string(&mut said);
        let last = said.lines().map(str::trim).rfind(|line| !line.is_empty() && !line.starts_with("note:"));
        match last {
            Some(last) => format!("it is gone ({status}): {last}"),
            None => format!("it is gone ({status})"),
        }
    }

    /// Starts a server in it; returns where it listens.
    pub fn serve(&mut self, spec: &ServerSpec) -> Result<Vec<SocketAddr>> {
        match self.ask(&Ask::Serve(spec.clone()))? {
            Answer::Serving(addresses) => Ok(addresses),
            other => Err(unexpected(other)),
        }
    }

    /// Has it start connecting.
    pub fn connect(&mut self, spec: &ConnectSpec) -> Result<()> {
        self.ask(&Ask::Connect(spec.clone())).map(drop)
    }

    /// Has it connect, and waits until it is done.
    pub fn connect_all(&mut self, spec: &ConnectSpec) -> Result<State> {
        self.connect(spec)?;
        loop {
            let state = self.state()?;
            if state.done {
                return Ok(state);
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    /// Has it start no more connections.
    pub fn stop(&mut self) -> Result<()> {
        self.ask(&Ask::Stop).map(drop)
    }

    /// How far it is.
    pub fn state(&mut self) -> Result<State> {
        match self.ask(&Ask::State)? {
            Answer::State(state) => Ok(state),
            other => Err(unexpected(other)),
        }
    }

    /// Has it close its end of all connections without a word, so that the other end stays as it is; an error where it may not.
    pub fn vanish(&mut self) -> Result<()> {
        self.ask(&Ask::Vanish).map(drop)
    }

    /// What it has used of the processor.
    pub fn usage(&mut self) -> Result<Usage> {
        match self.ask(&Ask::Usage)? {
            Answer::Usage(usage) => Ok(usage),
            other => Err(unexpected(other)),
        }
    }

    /// Sends SIGKILL, and does not wait: so that many end at once.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
    }

    /// Whether it has not ended yet.
    pub fn lives(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn unexpected(answer: Answer) -> Error {
    Error::new("understand a process for connections", format!("it answered {answer:?}"))
}

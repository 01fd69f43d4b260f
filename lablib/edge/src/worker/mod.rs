//! A process of its own for one end of some connections: `lab connections`, and the handle on it.
//!
//! - It [answers](lab::errand::answer) what its owner asks, and ends with it: with its owner's handle, or when the owner is killed.
//! - It holds as many connections as it may have descriptors, serves them or opens them, and counts what it did.
//! - One that is stopped is not waited for without limit: it is killed, and an error.
//! - Closing resets, so nothing that it opened waits in TIME_WAIT.

mod connector;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::descriptor_tables::raise_descriptors;
use crate::echo::{self, Served, ServerSpec};
use crate::procfs::Usage;
use crate::threads_and_tasks::{RelaySpec, SpawnSpec};
use lab::errand::{self, Running};
use lab::{Doing, Error, Result};

pub use connector::ConnectSpec;
use connector::{Connector, Progress};

/// What a worker can be asked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Start a server.
    Serve(ServerSpec),
    /// Start connecting.
    Connect(ConnectSpec),
    /// Start no more connections.
    Stop,
    /// How far its connections are.
    State,
    /// Send one message after the other.
    Ping { count: u64, always_the_first: bool, seed: u64 },
    /// Send many, one under way on each connection.
    Storm { requests: u64 },
    /// Send until nothing more is taken.
    Fill,
    /// Close its end of all connections without a word to the other.
    Vanish,
    /// What it has used of the processor.
    Usage,
    /// Make threads or tasks, and let them go again.
    Spawn(SpawnSpec),
    /// Pass a token around a ring of threads or tasks.
    Relay(RelaySpec),
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

/// Descriptors of a worker that are not connections: pipes, epoll sets, listeners.
pub(crate) const SPARE: u64 = 100;
/// Descriptors of a worker, whatever it is allowed: all workers shall have about the same share.
const MOST_DESCRIPTORS: u64 = 20_000;

/// How long a worker may take to look at something, or to begin it, unless something else is said.
pub(crate) const TO_LOOK: Duration = Duration::from_secs(20);
/// How long it may take over what is to be done when it answers.
pub(crate) const TO_WORK: Duration = Duration::from_secs(120);

/// Connections of which a worker with this many descriptors can hold one end.
pub(crate) fn connections_with(descriptors: u64) -> u64 {
    descriptors.min(MOST_DESCRIPTORS).saturating_sub(SPARE)
}

/// Descriptors that a process may have which this one starts.
pub(crate) fn most_descriptors() -> Result<u64> {
    Ok(getrlimit(Resource::RLIMIT_NOFILE).doing("read the limit of open files")?.1)
}

/// What `lab connections` does: what it is asked, until its owner is gone.
pub(crate) fn answer_the_owner() -> Result<()> {
    raise_descriptors()?;
    // Should memory run short all the same, this process goes first, and nobody else's. Not everybody may say so.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let mut worker = Inside::default();
    errand::answer(|ask| worker.answer(ask))
}

/// The worker's own side.
#[derive(Default)]
struct Inside {
    served: Arc<Served>,
    progress: Arc<Progress>,
    connector: Arc<Mutex<Option<Connector>>>,
}

impl Inside {
    fn answer(&mut self, ask: Ask) -> Result<Value> {
        match ask {
            Ask::Serve(spec) => answer(echo::serve(&spec, &self.served)?),
            Ask::Connect(spec) => self.connect(spec).map(|()| Value::Null),
            Ask::Stop => {
                self.progress.stop.store(true, Ordering::Relaxed);
                Ok(Value::Null)
            }
            Ask::State => answer(self.state()),
            Ask::Ping { count, always_the_first, seed } => {
                answer(self.with_connector(|connector| connector.ping(count, always_the_first, seed))?)
            }
            Ask::Storm { requests } => answer(self.with_connector(|connector| connector.storm(requests))?),
            Ask::Fill => self.with_connector(Connector::fill).map(|()| Value::Null),
            Ask::Vanish => self.with_connector(Connector::vanish).map(|()| Value::Null),
            Ask::Usage => answer(Usage::now()?),
            Ask::Spawn(spec) => answer(spec.run()?),
            Ask::Relay(spec) => answer(spec.run()?),
        }
    }

    fn connect(&mut self, spec: ConnectSpec) -> Result<()> {
        self.progress = Arc::default();
        let progress = Arc::clone(&self.progress);
        let mut connector = Connector::new(spec, Arc::clone(&progress))?;
        let kept = Arc::clone(&self.connector);
        let body = move || {
            if let Err(error) = connector.open() {
                progress.stop_because(error.to_string());
            }
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(connector);
            progress.state().done = true;
        };
        std::thread::Builder::new().name("connect".into()).spawn(body).doing("start connecting").map(drop)
    }

    fn with_connector<T>(&self, work: impl FnOnce(&mut Connector) -> Result<T>) -> Result<T> {
        let mut connector = self.connector.lock().unwrap_or_else(PoisonError::into_inner);
        match connector.as_mut() {
            Some(connector) => work(connector),
            None => Err(Error::new("use the connections", "they are not open yet")),
        }
    }

    fn state(&self) -> State {
        let (served, state) = (&self.served, self.progress.state().clone());
        State {
            ended: state.ended.or_else(|| served.why()),
            accepted: served.accepted.load(Ordering::Relaxed),
            held: served.open.load(Ordering::Relaxed),
            refused: served.refused.load(Ordering::Relaxed),
            ..state
        }
    }
}

fn answer(answer: impl Serialize) -> Result<Value> {
    serde_json::to_value(answer).doing("answer")
}

/// A worker, seen from its owner; killed when dropped.
#[derive(Debug)]
pub struct Worker {
    running: Running,
    /// How long it may take to look at something, or to begin it.
    to_look: Duration,
}

impl Worker {
    /// Starts one, in the network of the thread that calls.
    pub fn start() -> Result<Self> {
        Ok(Self { running: Running::start("connections", &())?, to_look: TO_LOOK })
    }

    /// Starts one as another user, of whom nothing is known here but the number; only root can.
    pub fn start_as(user: u32) -> Result<Self> {
        Ok(Self { running: Running::start_as(user, "connections", &())?, to_look: TO_LOOK })
    }

    /// It is killed where it takes longer than this to look at something, or to begin it.
    pub fn patience(mut self, to_look: Duration) -> Self {
        self.to_look = to_look;
        self
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Asks; one that is stopped, or waits for what never comes, is killed in the end, and an error.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, ask: &Ask) -> Result<T> {
        let patience = match ask {
            Ask::Ping { .. } | Ask::Storm { .. } | Ask::Fill | Ask::Spawn(_) | Ask::Relay(_) => TO_WORK,
            Ask::Serve(_) | Ask::Connect(_) | Ask::Stop | Ask::State | Ask::Vanish | Ask::Usage => self.to_look,
        };
        self.running.ask_within(patience, ask)
    }

    /// Starts a server in it; returns where it listens.
    pub fn serve(&mut self, spec: &ServerSpec) -> Result<Vec<SocketAddr>> {
        self.ask(&Ask::Serve(spec.clone()))
    }

    /// Has it start connecting.
    pub fn connect(&mut self, spec: &ConnectSpec) -> Result<()> {
        self.ask(&Ask::Connect(spec.clone()))
    }

    /// Has it connect, and waits until it is done.
    pub fn connect_all(&mut self, spec: &ConnectSpec) -> Result<State> {
        self.connect(spec)?;
        loop {
            let state = self.state()?;
            if state.done {
                return Ok(state);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// How far it is.
    pub fn state(&mut self) -> Result<State> {
        self.ask(&Ask::State)
    }

    /// Has it close its end of all connections without a word, so that the other end stays as it is; an error where it may not.
    pub fn vanish(&mut self) -> Result<()> {
        self.ask(&Ask::Vanish)
    }

    /// What it has used of the processor.
    pub fn usage(&mut self) -> Result<Usage> {
        self.ask(&Ask::Usage)
    }

    /// Kills it, and does not wait for its end: so that many end at once.
    pub(crate) fn begin_to_kill(&mut self) {
        self.running.begin_to_kill();
    }

    /// Whether it has not ended yet.
    pub(crate) fn is_running(&mut self) -> bool {
        self.running.is_running()
    }
}

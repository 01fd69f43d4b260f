//! Five ways to write the same server, one that sends back what it gets, and what each of them costs.
//!
//! - **The same service**: whichever [`Model`] serves, each connection gets back exactly its own bytes, in order, however
//!   slowly it reads; a server that mixes two connections up is found out, because every message carries its sender.
//! - **Nobody holds up the others**: a connection that sends and never reads stops being read, and costs a bounded buffer.
//! - **Nothing hidden**: what a server could not take on (no descriptor, no thread) is counted, with the kernel's words.
//! - **Measured apart**: a server is a process of its own, so its processor time is the kernel's account of it alone; the
//!   arms take turns and do equal work.

mod epoll;
pub mod experiment;
mod tasks;
mod threads;
mod uring;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

pub use experiment::{LoadSpec, contest};
use lab::{Doing, Error, Result};

/// How a server waits for many connections at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Model {
    /// One thread of the operating system for each connection, which blocks in `read`.
    Threads,
    /// tokio with one thread.
    CurrentThread,
    /// tokio with two threads, which take work from each other.
    MultiThread,
    /// One thread and one epoll set, by hand.
    Epoll,
    /// One thread and io_uring's two queues.
    IoUring,
}

impl Model {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Threads, Self::CurrentThread, Self::MultiThread, Self::Epoll, Self::IoUring];
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Threads => "a thread each",
            Self::CurrentThread => "tokio, one thread",
            Self::MultiThread => "tokio, two threads",
            Self::Epoll => "epoll by hand",
            Self::IoUring => "io_uring",
        })
    }
}

/// What the bytes on a connection mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Framing {
    /// Bytes, which come back as they are.
    Plain,
    /// WebSocket, by tokio-tungstenite: an upgrade, then frames. With the library's own sizes, or buffers of this many bytes.
    WebSocket(Option<usize>),
}

/// A step that a server leaves out, to see which check notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Skip {
    /// Accepting, after this many connections; the kernel goes on completing handshakes for it.
    AcceptAfter(u64),
    /// Keeping connections apart, in one of this many answers: it sends the answer of the one before, as a buffer shared without care
    /// would.
    OwnAnswerEvery(u64),
    /// Reading: it accepts, and that is all.
    Read,
}

/// A server that is to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSpec {
    /// How it waits for its connections.
    pub model: Model,
    /// What the bytes mean.
    pub framing: Framing,
    /// Number of ports on which it listens.
    pub ports: usize,
    /// Connections that may wait to be accepted, on each port; the kernel caps it.
    pub backlog: u32,
    /// Bytes that it reads at once. 0, for tokio: nothing is kept while a connection is idle.
    pub buffer: usize,
    /// SO_RCVBUF of its connections, where it is not the kernel's own choice.
    pub receive_buffer: Option<usize>,
    /// Bytes of stack for each thread, for a thread each; Rust's 2 MiB where nothing is said.
    pub stack: Option<usize>,
    /// Which step it leaves out.
    pub skip: Option<Skip>,
}

impl ServerSpec {
    /// A server as most would write it: one port, a buffer of 512 bytes.
    pub fn new(model: Model) -> Self {
        Self {
            model,
            framing: Framing::Plain,
            ports: 1,
            backlog: 4096,
            buffer: 512,
            receive_buffer: None,
            stack: None,
            skip: None,
        }
    }

    /// Refuses what no server can do.
    pub fn check(&self) -> Result<()> {
        let tasks = matches!(self.model, Model::CurrentThread | Model::MultiThread);
        let wrong = if self.ports == 0 {
            "it would listen on no port"
        } else if self.buffer == 0 && !tasks {
            "only tokio's tasks can do without a buffer"
        } else if self.framing != Framing::Plain && !tasks {
            "WebSocket is served by tokio"
        } else if self.skip.is_some() && self.model != Model::Epoll {
            "only the epoll loop can leave out a step"
        } else if self.skip == Some(Skip::OwnAnswerEvery(0)) {
            "every 0 answers is no number of answers"
        } else if matches!(self.framing, Framing::WebSocket(Some(0))) {
            "a WebSocket cannot do without a buffer"
        } else {
            return Ok(());
        };
        Err(Error::new("start an echo server", wrong))
    }
}

/// What a server has done so far.
#[derive(Debug, Default)]
pub(crate) struct Served {
    /// Connections accepted.
    pub(crate) accepted: AtomicU64,
    /// Connections that are open now.
    pub(crate) open: AtomicU64,
    /// Connections that it could not take on.
    pub(crate) refused: AtomicU64,
    /// Why, the first time.
    why: Mutex<Option<String>>,
}

impl Served {
    fn took_on(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    fn let_go(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    fn refused(&self, why: impl fmt::Display) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.complain(why);
    }

    fn complain(&self, why: impl fmt::Display) {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| why.to_string());
    }

    /// Why something was refused, the first time.
    pub(crate) fn why(&self) -> Option<String> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Starts a server within this process, on threads of its own; returns where it listens.
pub(crate) fn serve(spec: &ServerSpec, served: &Arc<Served>) -> Result<Vec<SocketAddr>> {
    spec.check()?;
    let listeners = (0..spec.ports).map(|_| listen(spec)).collect::<Result<Vec<_>>>()?;
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>();
    let addresses = addresses.doing("ask where a server listens")?;
    match spec.model {
        Model::Threads => threads::start(listeners, spec, served)?,
        Model::CurrentThread | Model::MultiThread => tasks::start(listeners, spec, served)?,
        Model::Epoll => epoll::start(listeners, spec, served)?,
        Model::IoUring => uring::start(listeners, spec, served)?,
    }
    Ok(addresses)
}

fn listen(spec: &ServerSpec) -> Result<TcpListener> {
    let doing = "listen for connections";
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).doing(doing)?;
    // Connections inherit both. With a linger time of 0, whoever closes first resets the connection: nothing of a
    // hundred thousand connections is left in TIME_WAIT.
    socket.set_linger(Some(std::time::Duration::ZERO)).doing(doing)?;
    if let Some(bytes) = spec.receive_buffer {
        socket.set_recv_buffer_size(bytes).doing(doing)?;
    }
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).doing(doing)?;
    socket.listen(i32::try_from(spec.backlog).unwrap_or(i32::MAX)).doing(doing)?;
    Ok(socket.into())
}

/// Starts a thread of a server; its errors are kept where they can be asked for.
fn on_a_thread(name: &str, served: &Arc<Served>, run: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    let served = Arc::clone(served);
    let body = move || {
        if let Err(error) = run() {
            served.complain(error);
        }
    };
    std::thread::Builder::new().name(name.into()).spawn(body).doing("start a server's thread").map(drop)
}

/// Whether an accept failed because something ran out, rather than because a client went away.
fn ran_out(error: &std::io::Error) -> bool {
    use libc::{EMFILE, ENFILE, ENOBUFS, ENOMEM};
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOBUFS | ENOMEM))
}

/// How long to let a listener rest that has run out of something: the connection stays in its queue.
const REST: std::time::Duration = std::time::Duration::from_millis(10);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_no_server_can_do_is_refused() {
        let plain = ServerSpec::new(Model::Epoll);
        plain.check().unwrap();
        let wrong = [
            ServerSpec { ports: 0, ..plain.clone() },
            ServerSpec { buffer: 0, ..plain.clone() },
            ServerSpec { framing: Framing::WebSocket(None), ..plain.clone() },
            ServerSpec { skip: Some(Skip::Read), model: Model::Threads, ..plain.clone() },
            ServerSpec { skip: Some(Skip::OwnAnswerEvery(0)), ..plain.clone() },
            ServerSpec { framing: Framing::WebSocket(Some(0)), model: Model::CurrentThread, ..plain },
        ];
        for spec in wrong {
            assert!(spec.check().is_err(), "{spec:?}");
            assert!(serve(&spec, &Arc::default()).is_err(), "{spec:?}");
        }
    }
}

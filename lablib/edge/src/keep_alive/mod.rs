//! A pool of connections that stay open: the way not to need ports, handshakes and TIME_WAIT for each request.
//!
//! - **Nothing lost**: a request is answered once or fails with one sentence, never gets another's answer, and survives a server that
//!   closes idle connections.
//! - **Bounded**: there are never more connections open than there may be, and callers wait no longer than they said.
//! - **Equal work**: a connection for each request and connections that are kept ask the same, in turns, and the kernel counts what each
//!   of the two took ([`experiment`]).

pub mod experiment;
mod frames;

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use serde::{Deserialize, Serialize};

pub use experiment::{Compared, Connecting, KeepAliveSpec, compare};
pub use frames::{Answerer, LONGEST};
use frames::{read_frame, write_frame};
use lab::{Error, Result};

/// Opens connections for a pool, within so much time.
type Connect = Box<dyn Fn(Duration) -> io::Result<TcpStream> + Send + Sync>;

/// A step of the pool that can be left out, to see what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Skip {
    /// Looking at a connection before it is used again, and asking again where one turned out to be closed.
    CheckAndRetry,
    /// Asking again.
    Retry,
}

/// A pool of connections that stay open, and requests over them.
///
/// Requests are taken to be idempotent: one is asked a second time, on a new connection, where the server had closed the
/// old one and not a byte of an answer had come.
///
/// ```
/// use edge::keep_alive::{Answerer, KeepAlive};
///
/// let server = Answerer::start(None)?;
/// let pool = KeepAlive::to(server.address(), 4)?;
/// for n in 0..100_u32 {
///     assert_eq!(pool.call(&n.to_be_bytes())?, n.to_be_bytes());
/// }
/// assert_eq!(pool.stats().opened, 1);
/// # Ok::<(), lab::Error>(())
/// ```
pub struct KeepAlive {
    connect: Connect,
    most: usize,
    patience: Duration,
    skip: Option<Skip>,
    state: Mutex<State>,
    freed: Condvar,
    counts: Counts,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<TcpStream>,
    /// Idle, in use, or about to be opened.
    open: usize,
}

#[derive(Debug, Default)]
struct Counts {
    opened: AtomicU64,
    found_closed: AtomicU64,
    asked_again: AtomicU64,
    most_open: AtomicU64,
}

/// What a pool did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepAliveStats {
    /// Connections opened.
    pub opened: u64,
    /// Idle connections that turned out to be closed before they were used again.
    pub found_closed: u64,
    /// Requests asked a second time, because the connection closed under them.
    pub asked_again: u64,
    /// The most connections that were open at once.
    pub most_open: u64,
}

/// How long a caller waits for a connection, and for an answer, where nothing else is said.
const PATIENCE: Duration = Duration::from_secs(10);

impl KeepAlive {
    /// A pool of at most `most` connections to one address; none is opened yet.
    pub fn to(address: SocketAddr, most: usize) -> Result<Self> {
        Self::new(most, move |patience| TcpStream::connect_timeout(&address, patience))
    }

    /// A pool that opens its connections with `connect`, which is told how long it may take.
    pub fn new(
        most: usize,
        connect: impl Fn(Duration) -> io::Result<TcpStream> + Send + Sync + 'static,
    ) -> Result<Self> {
        if most == 0 {
            return Err(Error::new("open a pool", "it may have no connection").remedy("allow it one"));
        }
        Ok(Self {
            connect: Box::new(connect),
            most,
            patience: PATIENCE,
            skip: None,
            state: Mutex::default(),
            freed: Condvar::new(),
            counts: Counts::default(),
        })
    }

    /// How long a caller waits for a connection, and then for its whole answer, however slowly it comes: twice this for both,
    /// and not longer where a request is asked again.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience.max(Duration::from_millis(1));
        self
    }

    /// Leaves out a step.
    pub fn without(mut self, step: Option<Skip>) -> Self {
        self.skip = step;
        self
    }

    /// Asks, and returns the answer.
    pub fn call(&self, request: &[u8]) -> Result<Vec<u8>> {
        let failed = |error: io::Error| Error::new("call over a kept connection", describe(&error));
        if request.len() > LONGEST {
            return Err(Error::new("call over a kept connection", format!("a request of {} bytes", request.len()))
                .remedy(format!("a frame holds {LONGEST}")));
        }
        let (lease, used_before) = self.take(true, Instant::now() + self.patience)?;
        let deadline = Instant::now() + self.patience;
        let (error, some_came) = match lease.exchange(request, deadline) {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        let closed_meanwhile = used_before && !some_came && is_closed(&error) && self.skip.is_none();
        if !closed_meanwhile {
            return Err(failed(error));
        }
        self.counts.asked_again.fetch_add(1, Ordering::Relaxed);
        // On a new connection: the other idle ones may have been closed by the same hand.
        let (lease, _) = self.take(false, deadline)?;
        lease.exchange(request, deadline).map_err(|(error, _)| failed(error))
    }

    /// What it did so far.
    pub fn stats(&self) -> KeepAliveStats {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { opened, found_closed, asked_again, most_open } = &self.counts;
        KeepAliveStats {
            opened: read(opened),
            found_closed: read(found_closed),
            asked_again: read(asked_again),
            most_open: read(most_open),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection, and whether it was used before. `idle` says whether an idle one will do.
    fn take(&self, idle: bool, deadline: Instant) -> Result<(Lease<'_>, bool)> {
        let mut state = self.state();
        loop {
            if idle && let Some(stream) = state.idle.pop() {
                drop(state);
                let lease = Lease { pool: self, stream: Some(stream), good: false };
                if self.skip == Some(Skip::CheckAndRetry) || lease.is_alive() {
                    return Ok((lease, true));
                }
                self.counts.found_closed.fetch_add(1, Ordering::Relaxed);
                drop(lease);
                state = self.state();
                continue;
            }
            if !idle && state.open >= self.most && state.idle.pop().is_some() {
                state.open -= 1; // an idle one makes room for the new one
            }
            if state.open < self.most {
                state.open += 1;
                self.counts.most_open.fetch_max(state.open as u64, Ordering::Relaxed);
                drop(state);
                // It counts as open from here on, and its place is given back if connecting fails.
                let mut lease = Lease { pool: self, stream: None, good: false };
                let opened = left_until(deadline).and_then(|left| (self.connect)(left));
                let opened = opened.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
                let stream = opened.map_err(|error| Error::new("open a connection", describe(&error)))?;
                self.counts.opened.fetch_add(1, Ordering::Relaxed);
                lease.stream = Some(stream);
                return Ok((lease, false));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let cause = format!("all {} were in use for {} s", self.most, self.patience.as_secs_f64());
                return Err(Error::new("get a connection of the pool", cause).remedy("allow it more"));
            }
            state = self.freed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl fmt::Debug for KeepAlive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeepAlive").field("most", &self.most).field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// A connection in use; its place is given back when it is dropped, and the connection, too, if its answer came whole.
struct Lease<'a> {
    pool: &'a KeepAlive,
    stream: Option<TcpStream>,
    good: bool,
}

impl Lease<'_> {
    /// Whether it is open, and no byte has come that was not asked for.
    fn is_alive(&self) -> bool {
        let Some(stream) = &self.stream else { return false };
        let peeked = recv(stream.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT);
        matches!(peeked, Err(Errno::EAGAIN))
    }

    fn exchange(mut self, request: &[u8], deadline: Instant) -> std::result::Result<Vec<u8>, (io::Error, bool)> {
        let stream = self.stream.as_mut().ok_or_else(|| (io::ErrorKind::NotConnected.into(), false))?;
        let mut stream = Until { stream, deadline };
        write_frame(&mut stream, request).map_err(|error| (error, false))?;
        let answer = read_frame(&mut stream)?;
        self.good = true;
        Ok(answer)
    }
}

/// A connection whose reads and writes all end by one moment: a server that sends a byte now and then would else be waited for
/// without end.
struct Until<'a> {
    stream: &'a mut TcpStream,
    deadline: Instant,
}

/// What is left until then; an error where nothing is.
fn left_until(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

impl Read for Until<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left_until(self.deadline)?))?;
        self.stream.read(buffer)
    }
}

impl Write for Until<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left_until(self.deadline)?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        match self.stream.take().filter(|_| self.good) {
            Some(stream) => state.idle.push(stream),
            None => state.open -= 1,
        }
        drop(state);
        self.pool.freed.notify_one();
    }
}

/// Errors of a connection that the other side had closed already.
fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// A failure as a reader understands it, with the name that manuals have for it.
fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer in time".to_string(),
        io::ErrorKind::UnexpectedEof => "the server closed the connection".to_string(),
        _ => crate::sockets::errno(error),
    }
}

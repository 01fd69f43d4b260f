//! Questions and answers on a connection: a length of four bytes, then the bytes. And a server that answers with the question.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use lab::{Doing, Error, Result};

/// No frame is longer than this; a length beyond it comes from another protocol.
pub const LONGEST: usize = 1 << 20;

/// A frame on its way.
pub(super) fn write_frame(to: &mut impl Write, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= LONGEST);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the frame is too long"))?;
    let mut frame = Vec::with_capacity(4 + payload.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(payload);
    to.write_all(&frame)
}

/// A frame that came, and whether any of it had come when it failed.
pub(super) fn read_frame(from: &mut impl Read) -> std::result::Result<Vec<u8>, (io::Error, bool)> {
    let mut head = [0_u8; 4];
    let mut got = 0;
    while got < head.len() {
        match from.read(&mut head[got..]) {
            Ok(0) => return Err((io::ErrorKind::UnexpectedEof.into(), got > 0)),
            Ok(length) => got += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((error, got > 0)),
        }
    }
    let length = u32::from_be_bytes(head) as usize;
    if length > LONGEST {
        return Err((io::Error::new(io::ErrorKind::InvalidData, "the answer's length is absurd"), true));
    }
    let mut payload = vec![0; length];
    from.read_exact(&mut payload).map_err(|error| (error, true))?;
    Ok(payload)
}

/// A server that answers each frame with itself; gone when it is dropped.
#[derive(Debug)]
pub struct Answerer {
    address: SocketAddr,
    stop: Arc<Notify>,
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    answered: AtomicU64,
}

impl Answerer {
    /// Listens on a free port of loopback. `closes_after` is how many answers a connection gets before the server closes it, as
    /// many servers do.
    pub fn start(closes_after: Option<u64>) -> Result<Self> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).doing("start an answering server")?;
        Self::on(listener, closes_after)
    }

    pub(super) fn on(listener: std::net::TcpListener, closes_after: Option<u64>) -> Result<Self> {
        let doing = "start an answering server";
        if closes_after == Some(0) {
            return Err(Error::new(doing, "it would close before its first answer"));
        }
        listener.set_nonblocking(true).doing(doing)?;
        let address = listener.local_addr().doing(doing)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().doing(doing)?;
        let (stop, counts) = (Arc::new(Notify::new()), Arc::new(Counts::default()));
        let (stopped, counting) = (stop.clone(), counts.clone());
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener).doing(doing)?
        };
        let thread = std::thread::spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    () = stopped.notified() => {}
                    () = accept(listener, closes_after, counting) => {}
                }
            });
        });
        Ok(Self { address, stop, counts, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.counts.accepted.load(Ordering::Relaxed)
    }

    /// Frames answered so far.
    pub fn answered(&self) -> u64 {
        self.counts.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // its panic is the runtime's, and has been printed
        }
    }
}

async fn accept(listener: TcpListener, closes_after: Option<u64>, counts: Arc<Counts>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                counts.accepted.fetch_add(1, Ordering::Relaxed);
                let counts = counts.clone();
                tokio::spawn(async move {
                    let _ = answer(stream, closes_after, &counts).await; // a client that went away
                });
            }
            // Out of descriptors, or a client that was gone before it was accepted: those who are here are served on.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(1)).await,
        }
    }
}

async fn answer(mut stream: TcpStream, closes_after: Option<u64>, counts: &Counts) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut answered = 0;
    let mut frame = Vec::new();
    while closes_after.is_none_or(|most| answered < most) {
        frame.resize(4, 0);
        stream.read_exact(&mut frame).await?;
        let length = frame.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
        if length > LONGEST {
            return Ok(());
        }
        frame.resize(4 + length, 0);
        stream.read_exact(&mut frame[4..]).await?;
        answered += 1;
        // Before the answer is sent: whoever has it may ask for the count at once.
        counts.answered.fetch_add(1, Ordering::Relaxed);
        stream.write_all(&frame).await?;
    }
    Ok(())
}

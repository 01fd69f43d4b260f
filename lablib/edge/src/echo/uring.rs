//! One thread and io_uring: operations go in at one queue, and what became of them comes out at another.
//!
//! The kernel reads and writes memory here while this thread does something else. That is what the field uses, and what
//! no borrow checker can see, so this file, and no other, has `unsafe` in it, for two calls.
#![expect(
    unsafe_code,
    reason = "io_uring's queue takes addresses that must stay valid until an operation has completed"
)]

use std::mem::ManuallyDrop;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc;

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use nix::errno::Errno;

use super::{REST, Served, ServerSpec, on_a_thread};
use lab::{Doing, Error, Result};

const ENTRIES: u32 = 1024;
/// What an operation was, in the upper half of the number that it carries; the lower half is a place.
const ACCEPT: u64 = 1 << 32;
const RECEIVE: u64 = 2 << 32;
const SEND: u64 = 3 << 32;

pub(super) fn start(listeners: Vec<TcpListener>, spec: &ServerSpec, served: &Arc<Served>) -> Result<()> {
    let (size, mine) = (spec.buffer, Arc::clone(served));
    // The ring is made on the thread that uses it; whether the kernel gave one is told before anybody connects.
    let (tell, told) = mpsc::channel();
    on_a_thread("io_uring", served, move || {
        let ring = match ring() {
            Ok(ring) => {
                let _ = tell.send(Ok(()));
                ring
            }
            Err(error) => {
                let _ = tell.send(Err(error.clone()));
                return Err(error);
            }
        };
        let mut server =
            Loop { ring, listeners, size, places: ManuallyDrop::new(Vec::new()), free: Vec::new(), served: mine };
        server.run()
    })?;
    told.recv().doing("start io_uring")?
}

/// A ring with what newer kernels can do, else a plain one, else why there is none.
fn ring() -> Result<IoUring> {
    let newer = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(ENTRIES);
    newer.or_else(|_| IoUring::new(ENTRIES)).map_err(|error| {
        let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
        let cause = format!("the kernel refuses it ({error}; kernel.io_uring_disabled = {})", disabled.trim());
        Error::new("start io_uring", cause).remedy("the other servers do without it")
    })
}

/// Whether this kernel lets this process use io_uring, or the sentence that says why not.
pub(super) fn allowed() -> Result<()> {
    ring().map(drop)
}

/// A connection: at any moment exactly one operation of it is with the kernel.
struct Place {
    socket: OwnedFd,
    /// On the heap, so that its address stays when the list of places grows.
    buffer: Box<[u8]>,
    sent: usize,
    filled: usize,
}

struct Loop {
    ring: IoUring,
    listeners: Vec<TcpListener>,
    size: usize,
    /// Never dropped: should the loop end with an error, the kernel may still write into the buffers.
    places: ManuallyDrop<Vec<Option<Place>>>,
    free: Vec<usize>,
    served: Arc<Served>,
}

impl Loop {
    fn run(&mut self) -> Result<()> {
        for listener in 0..self.listeners.len() {
            self.accept(listener)?;
        }
        let mut completed: Vec<(u64, i32, bool)> = Vec::new();
        loop {
            match self.ring.submit_and_wait(1) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => other.map(drop).doing("wait for io_uring")?,
            }
            completed.extend(
                self.ring.completion().map(|entry| (entry.user_data(), entry.result(), cqueue::more(entry.flags()))),
            );
            for (number, result, more) in completed.drain(..) {
                self.handle(number, result, more)?;
            }
        }
    }

    fn handle(&mut self, number: u64, result: i32, more: bool) -> Result<()> {
        let place = (number & 0xffff_ffff) as usize;
        match number & !0xffff_ffff {
            ACCEPT => {
                if result >= 0 {
                    // SAFETY: the kernel has just given this descriptor to us, in this completion, and to nobody else.
                    let socket = unsafe { OwnedFd::from_raw_fd(result) };
                    self.take_on(socket)?;
                } else if let error @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) =
                    Errno::from_raw(-result)
                {
                    self.served.refused(error);
                    std::thread::sleep(REST);
                }
                // One accept goes on giving connections, until the kernel says that it does not.
                if more { Ok(()) } else { self.accept(place) }
            }
            RECEIVE if result > 0 => {
                if let Some(Some(connection)) = self.places.get_mut(place) {
                    (connection.sent, connection.filled) = (0, result as usize);
                }
                self.send(place)
            }
            SEND if result > 0 => {
                let all = match self.places.get_mut(place) {
                    Some(Some(connection)) => {
                        connection.sent += result as usize;
                        connection.sent >= connection.filled
                    }
                    _ => true,
                };
                if all { self.receive(place) } else { self.send(place) }
            }
            _ => {
                // Closed, or reset. It has no operation with the kernel any more: this was it.
                if self.places.get_mut(place).and_then(Option::take).is_some() {
                    self.free.push(place);
                    self.served.let_go();
                }
                Ok(())
            }
        }
    }

    fn take_on(&mut self, socket: OwnedFd) -> Result<()> {
        let connection = Place { socket, buffer: vec![0; self.size].into(), sent: 0, filled: 0 };
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.places.push(None);
                self.places.len() - 1
            }
        };
        self.places[place] = Some(connection);
        self.served.took_on();
        self.receive(place)
    }

    fn accept(&mut self, listener: usize) -> Result<()> {
        let descriptor = types::Fd(self.listeners[listener].as_raw_fd());
        let entry = opcode::AcceptMulti::new(descriptor).flags(libc::SOCK_CLOEXEC).build();
        self.push(&entry.user_data(ACCEPT | listener as u64))
    }

    fn receive(&mut self, place: usize) -> Result<()> {
        let Some(Some(connection)) = self.places.get_mut(place) else { return Ok(()) };
        let descriptor = types::Fd(connection.socket.as_raw_fd());
        let length = u32::try_from(connection.buffer.len()).unwrap_or(u32::MAX);
        let entry = opcode::Recv::new(descriptor, connection.buffer.as_mut_ptr(), length).build();
        self.push(&entry.user_data(RECEIVE | place as u64))
    }

    fn send(&mut self, place: usize) -> Result<()> {
        let Some(Some(connection)) = self.places.get_mut(place) else { return Ok(()) };
        let descriptor = types::Fd(connection.socket.as_raw_fd());
        let rest = &connection.buffer[connection.sent..connection.filled];
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(descriptor, rest.as_ptr(), length).build();
        self.push(&entry.user_data(SEND | place as u64))
    }

    fn push(&mut self, entry: &squeue::Entry) -> Result<()> {
        for _ in 0..2 {
            // SAFETY: the entry's address, if it has one, is that of a place's buffer. That is on the heap and is neither
            // moved nor freed before the completion of this operation: a place is emptied in `handle` alone, when its only
            // operation has completed, and `places` itself is never dropped. The descriptors are open as long.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.ring.submit().doing("hand operations to io_uring")?;
        }
        Err(Error::new("hand an operation to io_uring", "its queue stays full"))
    }
}

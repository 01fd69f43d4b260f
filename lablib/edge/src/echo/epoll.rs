//! One thread, one epoll set, one buffer for all connections.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::{REST, Served, ServerSpec, Skip, on_a_thread, ran_out};
use lab::{Doing, Result};

/// Marks an event of a listener; the other numbers are places of connections.
const LISTENER: u64 = 1 << 63;
/// Connections accepted in one go, before those that are open get their turn again.
const AT_ONCE: usize = 64;

pub(super) fn start(listeners: Vec<TcpListener>, spec: &ServerSpec, served: &Arc<Served>) -> Result<()> {
    let mut server = Loop {
        epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).doing("make an epoll set")?,
        listeners,
        connections: Vec::new(),
        free: Vec::new(),
        unsent: HashMap::new(),
        buffer: vec![0; spec.buffer],
        skip: spec.skip,
        answers: 0,
        previous: Vec::new(),
        served: Arc::clone(served),
    };
    for (index, listener) in server.listeners.iter().enumerate() {
        listener.set_nonblocking(true).doing("watch a listener")?;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, LISTENER | index as u64);
        server.epoll.add(listener, event).doing("watch a listener")?;
    }
    on_a_thread("epoll", served, move || server.run())
}

struct Loop {
    epoll: Epoll,
    listeners: Vec<TcpListener>,
    /// Four bytes for each connection.
    connections: Vec<Option<TcpStream>>,
    free: Vec<usize>,
    /// What the clients who do not read have coming; they are not read from meanwhile.
    unsent: HashMap<usize, Vec<u8>>,
    buffer: Vec<u8>,
    skip: Option<Skip>,
    answers: u64,
    previous: Vec<u8>,
    served: Arc<Served>,
}

impl Loop {
    fn run(&mut self) -> Result<()> {
        let mut events = [EpollEvent::empty(); 256];
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Err(Errno::EINTR) => 0,
                other => other.doing("wait for connections")?,
            };
            for event in &events[..count] {
                if event.data() & LISTENER != 0 {
                    self.accept((event.data() & !LISTENER) as usize)?;
                } else if event.events().contains(EpollFlags::EPOLLOUT) {
                    self.flush(event.data() as usize);
                } else {
                    self.echo(event.data() as usize);
                }
            }
        }
    }

    fn accept(&mut self, listener: usize) -> Result<()> {
        for _ in 0..AT_ONCE {
            if let Some(Skip::AcceptAfter(after)) = self.skip
                && self.served.accepted.load(Ordering::Relaxed) >= after
            {
                return self.epoll.delete(&self.listeners[listener]).doing("stop watching a listener");
            }
            match self.listeners[listener].accept() {
                Ok((stream, _)) => self.take_on(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if ran_out(&error) => {
                    self.served.refused(error);
                    std::thread::sleep(REST);
                    break;
                }
                Err(_) => {} // the client has gone again
            }
        }
        Ok(())
    }

    fn take_on(&mut self, stream: TcpStream) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let watched = stream.set_nonblocking(true).is_ok()
            && (self.skip == Some(Skip::Read)
                || self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, place as u64)).is_ok());
        if watched {
            self.connections[place] = Some(stream);
            self.served.took_on();
        } else {
            self.free.push(place);
            self.served.refused("a connection cannot be watched");
        }
    }

    fn echo(&mut self, place: usize) {
        let Some(stream) = self.connections.get_mut(place).and_then(Option::as_mut) else { return };
        match stream.read(&mut self.buffer) {
            Ok(0) => self.let_go(place),
            Ok(length) => {
                let mut answer = &self.buffer[..length];
                if let Some(Skip::OwnAnswerEvery(every)) = self.skip {
                    self.answers += 1;
                    let kept = std::mem::replace(&mut self.previous, answer.to_vec());
                    if self.answers.is_multiple_of(every) && kept.len() == length {
                        self.buffer[..length].copy_from_slice(&kept);
                    }
                    answer = &self.buffer[..length];
                }
                match stream.write(answer) {
                    Ok(sent) if sent == length => {}
                    Ok(sent) => self.owe(place, sent, length),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => self.owe(place, 0, length),
                    Err(_) => self.let_go(place),
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.let_go(place),
        }
    }

    /// Keeps what could not be sent, and reads no more from that client until it is.
    fn owe(&mut self, place: usize, sent: usize, length: usize) {
        self.unsent.insert(place, self.buffer[sent..length].to_vec());
        self.watch(place, EpollFlags::EPOLLOUT);
    }

    fn flush(&mut self, place: usize) {
        let (Some(stream), Some(owed)) =
            (self.connections.get_mut(place).and_then(Option::as_mut), self.unsent.get_mut(&place))
        else {
            return;
        };
        match stream.write(owed) {
            Ok(sent) => {
                owed.drain(..sent);
                if owed.is_empty() {
                    self.unsent.remove(&place);
                    self.watch(place, EpollFlags::EPOLLIN);
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.let_go(place),
        }
    }

    fn watch(&mut self, place: usize, flags: EpollFlags) {
        let Some(stream) = self.connections.get(place).and_then(Option::as_ref) else { return };
        if self.epoll.modify(stream, &mut EpollEvent::new(flags, place as u64)).is_err() {
            self.let_go(place);
        }
    }

    /// Closes a connection, which also takes it out of the epoll set.
    fn let_go(&mut self, place: usize) {
        if self.connections[place].take().is_some() {
            self.unsent.remove(&place);
            self.free.push(place);
            self.served.let_go();
        }
    }
}

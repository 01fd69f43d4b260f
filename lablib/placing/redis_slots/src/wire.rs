//! One connection to one node, and the values that this connection answers for.
//!
//! Replies and invalidations come on the same connection (RESP3), so the order in which they arrive is the order in which
//! the server sent them: a value is kept at its place in that order, and an invalidation behind it throws it away. With
//! the invalidations on a connection of their own, one of them can overtake the value that it is about.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use redis::{FromRedisValue, Parser, PushKind, Value};

use crate::Skip;
use lab::clock::deadline_in;

/// Why a connection is of no more use.
pub(super) type Broken = String;

/// Who logs in.
#[derive(Clone, Default)]
pub(super) struct Login {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

pub(super) struct Wire {
    /// What the server calls this connection; there is no other of the name.
    name: String,
    /// The node's id in its cluster; empty where nobody has asked.
    pub(super) node: String,
    stream: TcpStream,
    /// How long the node may take to go on reading.
    patience: Duration,
    parser: Parser,
    /// What was sent and is not answered yet, in order.
    unanswered: VecDeque<Asked>,
    /// When the last request was sent that has been answered, and not refused: every invalidation from before then has been
    /// seen.
    pub(super) confirmed: Instant,
    pub(super) kept: Kept,
}

/// A request on its way; its answer is to be kept under this key, if there is one.
struct Asked {
    sent: Instant,
    keep: Option<Vec<u8>>,
}

impl Wire {
    /// Connects to `address` (`host:port`), logs in, and says what else there is to say, all within `patience`.
    pub(super) fn open(
        address: &str,
        login: &Login,
        greetings: &[&[&str]],
        skip: Option<Skip>,
        patience: Duration,
    ) -> Result<Self, Broken> {
        let deadline = deadline_in(patience);
        let target = address.to_socket_addrs().map_err(|error| error.to_string())?.next().ok_or("it has no address")?;
        let stream = TcpStream::connect_timeout(&target, patience).map_err(|error| error.to_string())?;
        stream.set_nodelay(true).and_then(|()| stream.set_nonblocking(true)).map_err(|error| error.to_string())?;
        let (parser, unanswered, confirmed) = (Parser::new(), VecDeque::new(), Instant::now());
        let (name, node) = (format!("lab-{:032x}", rand::random::<u128>()), String::new());
        let (kept, greeter) = (Kept::new(skip), name.clone());
        let mut wire = Self { name, node, stream, patience, parser, unanswered, confirmed, kept };
        let mut hello = vec!["HELLO", "3"];
        if let Some(password) = &login.password {
            hello.extend(["AUTH", login.user.as_deref().unwrap_or("default"), password]);
        }
        hello.extend(["SETNAME", &greeter]);
        for words in std::iter::once(hello.as_slice()).chain(greetings.iter().copied()) {
            wire.ask::<Value>(words, deadline)?;
        }
        Ok(wire)
    }

    /// Sends packed commands; for each of them, in order, the key under which its answer is to be kept.
    pub(super) fn send(
        &mut self,
        packed: &[u8],
        keep: impl IntoIterator<Item = Option<Vec<u8>>>,
    ) -> Result<(), Broken> {
        let sent = Instant::now();
        self.unanswered.extend(keep.into_iter().map(|keep| Asked { sent, keep }));
        let (mut rest, mut deadline) = (packed, deadline_in(self.patience));
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(0) => return Err("the connection was closed".into()),
                Ok(written) => (rest, deadline) = (&rest[written..], deadline_in(self.patience)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait_for(PollFlags::POLLOUT, deadline)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    /// The answer to the oldest request that has none yet.
    pub(super) fn receive(&mut self, deadline: Instant) -> Result<Value, Broken> {
        loop {
            match self.parse()? {
                Some(Value::Push { kind, data }) => self.kept.told(&kind, &data),
                Some(value) => {
                    if let Some(asked) = self.unanswered.pop_front() {
                        // A refusal confirms nothing: the node may not be the one any more that would tell us.
                        if !matches!(value, Value::ServerError(_)) {
                            self.confirmed = asked.sent;
                        }
                        if let (Some(key), Value::BulkString(bytes)) = (asked.keep, &value) {
                            self.kept.keep(key, bytes.clone());
                        }
                    }
                    return Ok(value);
                }
                None => self.wait_for(PollFlags::POLLIN, deadline)?,
            }
        }
    }

    /// Takes in every invalidation that has arrived.
    pub(super) fn drain(&mut self) -> Result<(), Broken> {
        while let Some(value) = self.parse()? {
            match value {
                Value::Push { kind, data } => self.kept.told(&kind, &data),
                other => return Err(format!("it says {other:?} though nobody asked")),
            }
        }
        self.kept.settle();
        Ok(())
    }

    /// The node and what it calls this connection, if there are requests on it without an answer.
    pub(super) fn owed(self) -> Option<(String, String)> {
        (!self.unanswered.is_empty()).then_some((self.node, self.name))
    }

    /// Lets the server end those of these connections that it still has, and whatever is under way on them.
    pub(super) fn end_others(&mut self, names: &[String], deadline: Instant) -> Result<(), Broken> {
        for client in self.ask::<String>(&["CLIENT", "LIST"], deadline)?.lines() {
            let of = |what: &str| client.split(' ').find_map(|word| word.strip_prefix(what));
            if let (Some(id), Some(name)) = (of("id="), of("name="))
                && names.iter().any(|known| known == name)
            {
                // It may just have ended by itself: then there is none to be killed.
                self.send(&pack(&["CLIENT", "KILL", "ID", id]), [None])?;
                self.receive(deadline)?;
            }
        }
        Ok(())
    }

    /// The answer to a question; a refusal is none.
    pub(super) fn ask<T: FromRedisValue>(
        &mut self,
        words: &[impl AsRef<[u8]>],
        deadline: Instant,
    ) -> Result<T, Broken> {
        self.send(&pack(words), [None])?;
        read(self.receive(deadline)?)
    }

    /// The next value that has arrived as a whole.
    fn parse(&mut self) -> Result<Option<Value>, Broken> {
        match self.parser.parse_value(&mut &self.stream) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_timeout() => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn wait_for(&self, what: PollFlags, deadline: Instant) -> Result<(), Broken> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("no answer in time".into());
        }
        let mut polled = [PollFd::new(self.stream.as_fd(), what)];
        // Rounded up, so that the last millisecond is not spent spinning.
        let timeout = PollTimeout::try_from(left.as_millis() as i32 + 1).unwrap_or(PollTimeout::MAX);
        match poll(&mut polled, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// What an answer says; a refusal says nothing.
pub(super) fn read<T: FromRedisValue>(answer: Value) -> Result<T, Broken> {
    match answer {
        Value::ServerError(error) => Err(error.to_string()),
        answer => redis::from_redis_value(answer).map_err(|error| error.to_string()),
    }
}

/// A command as it is sent.
pub(super) fn pack<T: AsRef<[u8]>>(words: &[T]) -> Vec<u8> {
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(word.as_ref());
    }
    command.get_packed_command()
}

/// The values that a connection answers for: those that came on it and have not been invalidated since.
#[derive(Debug, Default)]
pub(super) struct Kept {
    values: HashMap<Vec<u8>, Vec<u8>>,
    skip: Option<Skip>,
    /// For [`Skip::Order`] alone.
    late: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Kept {
    fn new(skip: Option<Skip>) -> Self {
        Self { skip, ..Self::default() }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.values.get(key).map(Vec::as_slice)
    }

    fn keep(&mut self, key: Vec<u8>, value: Vec<u8>) {
        match self.skip {
            Some(Skip::Order) => self.late.push((key, value)),
            _ => drop(self.values.insert(key, value)),
        }
    }

    /// What it keeps under this key is not true any more.
    pub(super) fn forget(&mut self, key: &[u8]) {
        self.values.remove(key);
    }

    /// The server said something that nobody asked for.
    fn told(&mut self, kind: &PushKind, data: &[Value]) {
        if *kind != PushKind::Invalidate || self.skip == Some(Skip::Invalidations) {
            return;
        }
        match data.first() {
            Some(Value::Array(keys)) => {
                for key in keys {
                    if let Value::BulkString(key) = key {
                        self.forget(key);
                    }
                }
            }
            // No keys means all of them: the server was flushed, or forgot what it was tracking.
            _ => self.values.clear(),
        }
    }

    fn settle(&mut self) {
        self.values.extend(self.late.drain(..));
    }
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn a_packed_command_is_an_array_of_binary_safe_strings() {
        assert_eq!(pack(&["GET", "a\r\n"]), b"*2\r\n$3\r\nGET\r\n$3\r\na\r\n\r\n");
        let parsed = redis::parse_redis_value(&pack(&["GET", "ä"]));
        assert_eq!(parsed.ok(), Some(Value::Array(vec![bulk("GET"), bulk("ä")])));
    }

    #[test]
    fn a_refusal_does_not_confirm_what_is_kept() {
        use std::io::Read;
        let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = server.local_addr().expect("its address").to_string();
        let answers = ["%0\r\n", "-MOVED 7 127.0.0.1:1\r\n", "+PONG\r\n"];
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = server.accept().expect("a client");
            for answer in answers {
                let _ = stream.read(&mut [0; 1_024]).expect("a question");
                stream.write_all(answer.as_bytes()).expect("an answer");
            }
        });
        let patience = Duration::from_secs(10);
        let mut wire = Wire::open(&address, &Login::default(), &[], None, patience).expect("a connection");
        let ask = |wire: &mut Wire| {
            wire.send(&pack(&["PING"]), [None])
                .and_then(|()| wire.receive(Instant::now() + patience))
                .expect("an answer");
            wire.confirmed
        };
        let greeted = wire.confirmed;
        assert_eq!(ask(&mut wire), greeted);
        assert!(ask(&mut wire) > greeted);
        serving.join().expect("the server ends");
    }

    #[test]
    fn what_was_invalidated_is_gone_and_no_keys_means_all_of_them() {
        let mut kept = Kept::new(None);
        for key in ["a", "b", "c"] {
            kept.keep(key.into(), "1".into());
        }
        kept.told(&PushKind::Message, &[Value::Array(vec![bulk("c")])]);
        kept.told(&PushKind::Invalidate, &[Value::Array(vec![bulk("a"), bulk("never seen")])]);
        assert_eq!((kept.get(b"a"), kept.get(b"b"), kept.get(b"c")), (None, Some(&b"1"[..]), Some(&b"1"[..])));
        kept.told(&PushKind::Invalidate, &[Value::Nil]);
        assert_eq!((kept.get(b"b"), kept.get(b"c")), (None, None));
    }
}

//! What a client asks, and what may become of it.

use std::fmt;
use std::time::Duration;

use super::wire::pack;
use lab::Error;

/// What asking twice would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing: it only reads.
    Read,
    /// The same as asking once: `SET`.
    Repeatable,
    /// Something else: `INCR`.
    Once,
}

/// One command, whose first key is its second word.
///
/// ```
/// use redis_slots::Request;
///
/// let read = Request::read(["MGET", "{user:7}:name", "{user:7}:city"]);
/// assert_eq!(read.key(), b"{user:7}:name");
/// ```
#[derive(Debug, Clone)]
pub struct Request {
    pub(super) packed: Vec<u8>,
    pub(super) effect: Effect,
    /// Whether the answer may come from a replica.
    pub(super) from_replica: bool,
    /// Whether the answer is kept, and may come from what was kept.
    pub(super) keep: bool,
    /// How long the server may take by its own word, besides what a client has patience for.
    pub(super) takes: Duration,
    pub(super) verb: String,
    pub(super) key: Vec<u8>,
}

impl Request {
    /// A command that changes nothing.
    pub fn read<T: AsRef<[u8]>>(words: impl AsRef<[T]>) -> Self {
        Self::new(words.as_ref(), Effect::Read)
    }

    /// A command that is not to be done twice. When its connection breaks, nobody knows whether it was done, and the caller
    /// is told so.
    pub fn write<T: AsRef<[u8]>>(words: impl AsRef<[T]>) -> Self {
        Self::new(words.as_ref(), Effect::Once)
    }

    /// A command that does the same when it is done twice. When its connection breaks, it is: what somebody else has written
    /// between both is undone.
    pub fn repeatable_write<T: AsRef<[u8]>>(words: impl AsRef<[T]>) -> Self {
        Self::new(words.as_ref(), Effect::Repeatable)
    }

    /// A read that a replica may answer, with what it knows by then. Of a slot that is on its way it knows nothing: what has gone
    /// to the target is not there, until the slot has its new owner.
    pub fn from_replica(mut self) -> Self {
        self.from_replica = self.effect == Effect::Read;
        self
    }

    /// A GET that the client's cache may answer, if the client has one.
    pub fn cached<T: AsRef<[u8]>>(key: T) -> Self {
        let mut request = Self::new(&[b"GET", key.as_ref()], Effect::Read);
        request.keep = true;
        request
    }

    /// The key that decides where it goes.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    pub(super) fn asking() -> Self {
        Self::new(&["ASKING"], Effect::Read)
    }

    pub(super) fn wait(replicas: u32, patience: Duration) -> Self {
        let words = ["WAIT".to_owned(), replicas.to_string(), patience.as_millis().to_string()];
        Self { takes: patience, ..Self::new(&words, Effect::Read) }
    }

    fn new<T: AsRef<[u8]>>(words: &[T], effect: Effect) -> Self {
        let word = |index: usize| words.get(index).map(|word| word.as_ref().to_vec()).unwrap_or_default();
        let (verb, key) = (String::from_utf8_lossy(&word(0)).into_owned(), word(1));
        Self { packed: pack(words), effect, from_replica: false, keep: false, takes: Duration::ZERO, verb, key }
    }
}

/// Why there is no answer, and what that says about the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nothing was done.
    NotDone(Error),
    /// It may have been done or not: the connection broke between the question and the answer.
    Unknown(Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Error::from(self.clone()).fmt(f)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotDone(error) => error,
            Failure::Unknown(error) => {
                Self::new(error.operation(), format!("{}; whether it was done is unknown", error.cause()))
            }
        }
    }
}

//! Moves one slot from a master to another while clients go on using it.

use std::time::{Duration, Instant};

use redis::Value;

use super::options::ClientOptions;
use super::wire::{Login, Wire, pack};
use crate::lab::service::Redis;
use crate::lab::{Error, Result};

/// How long a node may take for one step; a batch of large keys takes its time.
const PATIENCE: Duration = Duration::from_secs(10);

/// A slot that is on its way.
///
/// While it is, the source answers for keys that are still there and sends clients to the target for the others (ASK);
/// the target answers only clients that say ASKING. A mover that dies leaves the slot in this state, where every key can
/// be reached; beginning again goes on from there.
pub struct SlotMove {
    slot: u16,
    source: End,
    target: End,
    moved: u64,
}

struct End {
    name: String,
    id: String,
    host: String,
    port: String,
    login: Login,
    wire: Wire,
}

impl End {
    fn of(node: &Redis) -> Result<Self> {
        let fail = |cause: String| Error::new("move a slot", cause).at(node.name());
        let (login, _) = ClientOptions::to([node.url().to_owned()]).login_and_seeds()?;
        let wire = Wire::open(node.address(), &login, &[], None, PATIENCE).map_err(fail)?;
        let (host, port) = node.address().rsplit_once(':').ok_or_else(|| fail("it has no address".into()))?;
        let (host, port) = (host.to_owned(), port.to_owned());
        let mut end = Self { name: node.name().to_owned(), id: String::new(), host, port, login, wire };
        match end.ask(&["CLUSTER", "MYID"])? {
            Value::BulkString(id) => end.id = String::from_utf8_lossy(&id).into_owned(),
            other => return Err(fail(format!("it says that its name is {other:?}"))),
        }
        Ok(end)
    }

    fn ask<T: AsRef<[u8]>>(&mut self, words: &[T]) -> Result<Value> {
        let answer = self.wire.send(&pack(words), [None]);
        let answer = answer.and_then(|()| self.wire.receive(Instant::now() + PATIENCE));
        let answer = answer.and_then(|answer| match answer {
            Value::ServerError(error) => Err(error.to_string()),
            answer => Ok(answer),
        });
        answer.map_err(|cause| Error::new("move a slot", cause).at(&self.name))
    }
}

impl SlotMove {
    /// Tells both nodes that the slot is on its way.
    pub fn begin(slot: u16, source: &Redis, target: &Redis) -> Result<Self> {
        if source.address() == target.address() {
            return Err(Error::new("move a slot", "source and target are the same node").at(source.name()));
        }
        let (mut source, mut target) = (End::of(source)?, End::of(target)?);
        let number = slot.to_string();
        // The target first: the source must not send it clients that it would send back.
        target.ask(&["CLUSTER", "SETSLOT", &number, "IMPORTING", &source.id])?;
        source.ask(&["CLUSTER", "SETSLOT", &number, "MIGRATING", &target.id])?;
        Ok(Self { slot, source, target, moved: 0 })
    }

    /// How many keys are still at the source.
    pub fn left(&mut self) -> Result<u64> {
        match self.source.ask(&["CLUSTER", "COUNTKEYSINSLOT", &self.slot.to_string()])? {
            Value::Int(count) => Ok(u64::try_from(count).unwrap_or(0)),
            other => Err(Error::new("count the keys of a slot", format!("the answer is {other:?}"))),
        }
    }

    /// How many keys have been carried over.
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// Carries over at most so many keys, at once and for good: the source has them until the target has acknowledged
    /// them. Says how many there were; none means that all are over.
    pub fn carry(&mut self, at_most: usize) -> Result<usize> {
        let keys = self.source.ask(&["CLUSTER", "GETKEYSINSLOT", &self.slot.to_string(), &at_most.to_string()])?;
        let Value::Array(keys) = keys else {
            return Err(Error::new("list the keys of a slot", format!("the answer is {keys:?}")));
        };
        let keys: Vec<Vec<u8>> = keys
            .into_iter()
            .filter_map(|key| match key {
                Value::BulkString(key) => Some(key),
                _ => None,
            })
            .collect();
        if keys.is_empty() {
            return Ok(0);
        }
        let patience = PATIENCE.as_millis().to_string();
        let mut words: Vec<&[u8]> =
            vec![b"MIGRATE", self.target.host.as_bytes(), self.target.port.as_bytes(), b"", b"0"];
        words.push(patience.as_bytes());
        if let Some(password) = &self.target.login.password {
            let user = self.target.login.user.as_deref().unwrap_or("default");
            words.extend([b"AUTH2", user.as_bytes(), password.as_bytes()]);
        }
        words.push(b"KEYS");
        words.extend(keys.iter().map(Vec::as_slice));
        self.source.ask(&words)?;
        self.moved += keys.len() as u64;
        Ok(keys.len())
    }

    /// Makes the target the owner, and says so to both and to `others`, who would hear of it by gossip. Refused while
    /// keys are left at the source.
    pub fn finish(mut self, others: &[&Redis]) -> Result<()> {
        let left = self.left()?;
        if left > 0 {
            let cause = format!("{left} of its keys are still at the source");
            return Err(Error::new("finish the move of a slot", cause)
                .at(&self.source.name)
                .remedy("carry them over first"));
        }
        let number = self.slot.to_string();
        let owner = self.target.id.clone();
        // The target first: between the two, both claim the slot, and the source sends everybody there.
        self.target.ask(&["CLUSTER", "SETSLOT", &number, "NODE", &owner])?;
        self.source.ask(&["CLUSTER", "SETSLOT", &number, "NODE", &owner])?;
        for other in others {
            End::of(other)?.ask(&["CLUSTER", "SETSLOT", &number, "NODE", &owner])?;
        }
        Ok(())
    }
}

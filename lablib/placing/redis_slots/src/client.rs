//! A client that knows the slots: it asks the right node, and follows when a slot has moved.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use redis::{FromRedisValue, Value};

use super::options::ClientOptions;
use super::request::{Effect, Failure, Request};
use super::said::Said;
use super::wire::{Login, Wire};
use crate::{Skip, SlotMap, slot_of, slot_without_tags};
use lab::clock::deadline_in;
use lab::{Error, Result};

/// How long a client waits before it tries again, at first and at last.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(16));
/// Commands that are sent in one go; more could fill both sockets while each side waits for the other to read.
const BATCH: usize = 512;

/// What a client had to do besides asking the right node at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Detours {
    /// Answers that a slot has moved for good: the client's map was old.
    pub moved: u64,
    /// Answers that this key, if it exists, is already on the node that its slot is moving to.
    pub asked: u64,
    /// Answers that the keys of one command are on both sides of a slot that is moving.
    pub tried_again: u64,
    /// Answers that the cluster does not serve the slot at the moment.
    pub down: u64,
    /// Connections that broke, or could not be made.
    pub broken: u64,
    /// Reads that the client's own cache answered.
    pub hits: u64,
    /// Cacheable reads that a server had to answer.
    pub misses: u64,
}

/// A connection to every node that it has needed so far, and a map of the slots. For one thread.
///
/// ```
/// use lab::service;
/// use redis_slots::{ClientOptions, Request};
///
/// let cluster = service::private_redis_cluster(3, 3);
/// let mut client = ClientOptions::of(&cluster).connect()?;
/// client.call(&Request::write(["INCR", "visits"]))?;
/// assert_eq!(client.call(&Request::read(["GET", "visits"]))?, redis::Value::BulkString("1".into()));
/// # Ok::<(), lab::Error>(())
/// ```
pub struct Client {
    options: ClientOptions,
    login: Login,
    seeds: Vec<String>,
    map: SlotMap,
    /// By the address that the cluster announces, and whether the connection is for reading from a replica.
    wires: BTreeMap<(String, bool), Wire>,
    /// Connections that were given up with requests on them, by the node's id. What is still under way on them could be done
    /// when nobody expects it any more, behind what is asked later.
    abandoned: BTreeMap<String, Vec<String>>,
    detours: Detours,
    turn: usize,
}

impl Client {
    pub(super) fn connect(options: ClientOptions) -> Result<Self> {
        let (login, seeds) = options.login_and_seeds()?;
        let map = SlotMap::nobody();
        let (wires, abandoned, detours) = (BTreeMap::new(), BTreeMap::new(), Detours::default());
        let mut client = Self { options, login, seeds, map, wires, abandoned, detours, turn: 0 };
        client.try_refresh(None).map_err(|cause| {
            let error = Error::new("connect to the Redis cluster", cause).at(client.seeds.join(", "));
            error.remedy("name at least one running node of a cluster whose slots are all served")
        })?;
        Ok(client)
    }

    /// What it believes about the cluster.
    pub fn map(&self) -> &SlotMap {
        &self.map
    }

    /// What it had to do besides asking the right node at once.
    pub fn detours(&self) -> Detours {
        self.detours
    }

    /// Reads the map anew.
    pub fn refresh(&mut self) -> Result<()> {
        self.try_refresh(None).map_err(|cause| Error::new("read the slots of the Redis cluster", cause))
    }

    /// The slot that a request goes to.
    pub fn slot(&self, request: &Request) -> u16 {
        match self.options.skip {
            Some(Skip::HashTag) => slot_without_tags(request.key()),
            _ => slot_of(request.key()),
        }
    }

    /// Asks until there is an answer or the deadline has passed: redirections are followed, a cluster that is down is
    /// asked again, and so is one whose connection broke, if asking twice does no harm.
    pub fn call(&mut self, request: &Request) -> Result<Value, Failure> {
        if let Some(value) = self.hit(request) {
            return Ok(value);
        }
        let deadline = deadline_in(self.options.deadline);
        self.pursue(request, None, deadline)
    }

    /// Many requests at once: each node gets its own in one go, all nodes work at the same time. The answers are in the
    /// order of the requests; *when* each was done is not, as soon as one is redirected. Cacheable reads of one key are
    /// one read.
    pub fn call_many(&mut self, requests: &[Request]) -> Vec<Result<Value, Failure>> {
        let deadline = deadline_in(self.options.deadline);
        let mut answers: Vec<Option<Result<Value, Failure>>> = requests.iter().map(|_| None).collect();
        let mut first: BTreeMap<&[u8], usize> = BTreeMap::new();
        let mut twins: Vec<(usize, usize)> = Vec::new();
        let mut homes: BTreeMap<(String, bool), Vec<usize>> = BTreeMap::new();
        let mut homeless: Vec<usize> = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            if let Some(&twin) = first.get(request.key()).filter(|_| request.keep) {
                self.detours.hits += 1;
                twins.push((index, twin));
                continue;
            }
            answers[index] = self.hit(request).map(Ok);
            if answers[index].is_some() {
                continue;
            }
            if request.keep {
                first.insert(request.key(), index);
            }
            match self.home(request) {
                Some(home) => homes.entry(home).or_default().push(index),
                None => homeless.push(index),
            }
        }
        while homes.values().any(|indices| !indices.is_empty()) {
            let batches: Vec<((String, bool), Vec<usize>)> = homes
                .iter_mut()
                .map(|(home, indices)| (home.clone(), indices.drain(..indices.len().min(BATCH)).collect()))
                .collect();
            for (index, said) in self.exchange(&batches, requests) {
                answers[index] = Some(match said {
                    Said::Answer(value) => Ok(value),
                    other => self.pursue(&requests[index], Some(other), deadline),
                });
            }
        }
        // Last, for that may take until the deadline, and nobody else's request waits for it.
        for index in homeless {
            answers[index] = Some(self.pursue(&requests[index], None, deadline));
        }
        for (index, twin) in twins {
            answers[index] = answers[twin].clone();
        }
        let lost = || Err(Failure::NotDone(Error::new("ask the Redis cluster", "the request had no home")));
        answers.into_iter().map(|answer| answer.unwrap_or_else(lost)).collect()
    }

    /// Writes, all to the node of the first one, and asks how many replicas have them: WAIT. Nothing is tried again, so
    /// the caller knows what became of each.
    pub fn write_and_wait(
        &mut self,
        requests: &[Request],
        replicas: u32,
        patience: Duration,
    ) -> (Vec<Result<Value, Failure>>, u64) {
        let fail = |said: Said| match said {
            Said::Answer(value) => Ok(value),
            Said::Silent(cause) => Err(Failure::Unknown(Error::new("write to the Redis cluster", cause))),
            other => Err(Failure::NotDone(Error::new("write to the Redis cluster", other.reason()))),
        };
        let Some(home) = requests.first().and_then(|request| self.home(request)) else {
            let cause = || Said::Unreached("nobody is known to hold the slot".into());
            return (requests.iter().map(|_| fail(cause())).collect(), 0);
        };
        let mut all = requests.to_vec();
        // To the server, no time at all means for ever.
        all.push(Request::wait(replicas, patience.max(Duration::from_millis(1))));
        let batch = [(home, (0..all.len()).collect::<Vec<usize>>())];
        let mut said: Vec<Said> = self.exchange(&batch, &all).into_iter().map(|(_, said)| said).collect();
        let reached = match said.pop() {
            Some(Said::Answer(Value::Int(count))) => u64::try_from(count).unwrap_or(0),
            _ => 0,
        };
        // What went wrong may be over; the next write should know.
        for said in &said {
            match said {
                Said::Moved(slot, address) => self.map.set_owner(*slot, address),
                Said::Unreached(_) | Said::Silent(_) | Said::Down(_) => {
                    let _ = self.try_refresh(Some(&batch[0].0.0));
                    break;
                }
                _ => {}
            }
        }
        (said.into_iter().map(fail).collect(), reached)
    }

    /// Follows a request from what was said to it last, until it is done.
    fn pursue(&mut self, request: &Request, said: Option<Said>, deadline: Instant) -> Result<Value, Failure> {
        let (mut pause, mut unknown) = (PAUSE.0, false);
        let mut said = said.unwrap_or_else(|| self.ask_home(request));
        loop {
            if let Said::Answer(value) = said {
                return Ok(value);
            }
            let (mut ask, mut rest, reason) = (None, true, said.reason());
            match said {
                Said::Refused(_) => return Err(Failure::NotDone(self.error(request, reason))),
                Said::Moved(slot, address) => {
                    self.detours.moved += 1;
                    self.map.set_owner(slot, &address);
                    rest = self.options.skip == Some(Skip::Asking);
                }
                Said::Ask(address) => {
                    self.detours.asked += 1;
                    (ask, rest) = (Some(address), false);
                }
                Said::TryAgain => self.detours.tried_again += 1,
                Said::Down(_) => {
                    self.detours.down += 1;
                    let _ = self.try_refresh(None);
                }
                Said::Silent(_) if request.effect == Effect::Once => {
                    self.detours.broken += 1;
                    return Err(Failure::Unknown(self.error(request, reason)));
                }
                broken => {
                    self.detours.broken += 1;
                    unknown |= matches!(broken, Said::Silent(_)) && request.effect == Effect::Repeatable;
                    let gone = self.home(request).map(|(address, _)| address);
                    let _ = self.try_refresh(gone.as_deref());
                }
            }
            if Instant::now() >= deadline {
                let error = self.error(request, reason);
                return Err(if unknown { Failure::Unknown(error) } else { Failure::NotDone(error) });
            }
            if rest {
                std::thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
                pause = (pause * 2).min(PAUSE.1);
            }
            said = match ask {
                Some(address) => self.ask_once(request, address),
                None => self.ask_home(request),
            };
        }
    }

    fn error(&self, request: &Request, cause: String) -> Error {
        Error::new(format!("{} in the Redis cluster", request.verb), cause).at(String::from_utf8_lossy(request.key()))
    }

    /// Where a request goes, by the map: the master's address, or that of one of its replicas in turn.
    fn home(&mut self, request: &Request) -> Option<(String, bool)> {
        let owner = self.map.owner(self.slot(request))?;
        let replicas = self.map.replicas(owner);
        if request.from_replica && !replicas.is_empty() {
            self.turn = self.turn.wrapping_add(1);
            return Some((replicas[self.turn % replicas.len()].clone(), true));
        }
        Some((owner.to_owned(), false))
    }

    fn ask_home(&mut self, request: &Request) -> Said {
        match self.home(request) {
            Some(home) => self.ask_at(home, std::slice::from_ref(request)),
            None => Said::Down("nobody is known to hold the slot".into()),
        }
    }

    /// Asks a node that does not hold the slot yet, which it will only answer after ASKING.
    fn ask_once(&mut self, request: &Request, address: String) -> Said {
        match self.options.skip {
            Some(Skip::Asking) => self.ask_at((address, false), std::slice::from_ref(request)),
            _ => self.ask_at((address, false), &[Request::asking(), request.clone()]),
        }
    }

    /// What is said to the last of these requests.
    fn ask_at(&mut self, home: (String, bool), requests: &[Request]) -> Said {
        let said = self.exchange(&[(home, (0..requests.len()).collect())], requests).pop();
        said.map_or_else(|| Said::Unreached("it was not asked".into()), |(_, said)| said)
    }

    /// Sends each node its requests, then reads all answers.
    fn exchange(&mut self, batches: &[((String, bool), Vec<usize>)], requests: &[Request]) -> Vec<(usize, Said)> {
        let (mut said, mut sent) = (Vec::new(), Vec::new());
        for batch in batches {
            let (home, indices) = batch;
            let asked = indices.iter().map(|&index| &requests[index]);
            let packed: Vec<u8> = asked.clone().flat_map(|request| request.packed.iter().copied()).collect();
            let keep = asked.map(|request| request.keep.then(|| request.key.clone()));
            let wire = self.wire(home).map_err(Said::Unreached);
            match wire.and_then(|wire| wire.send(&packed, keep).map_err(Said::Silent)) {
                Ok(()) => sent.push(batch),
                Err(why) => {
                    self.give_up(home);
                    said.extend(indices.iter().map(|&index| (index, why.clone())));
                }
            }
        }
        for (home, indices) in sent {
            let mut gone = "the connection is gone".to_owned();
            for &index in indices {
                let deadline = deadline_in(self.options.patience.saturating_add(requests[index].takes));
                let answer = self.wires.get_mut(home).map_or_else(|| Err(gone.clone()), |wire| wire.receive(deadline));
                let answer = answer.map(|value| Said::read(value, &home.0)).unwrap_or_else(|cause| {
                    // With it goes what it had kept: nobody would tell us any more when that changes.
                    self.give_up(home);
                    gone.clone_from(&cause);
                    Said::Silent(cause)
                });
                said.push((index, answer));
            }
        }
        said
    }

    fn wire(&mut self, home: &(String, bool)) -> Result<&mut Wire, String> {
        if !self.wires.contains_key(home) {
            let mut greetings: Vec<&[&str]> = Vec::new();
            if home.1 {
                greetings.push(&["READONLY"]);
            } else if self.options.lease.is_some() {
                greetings.push(&["CLIENT", "TRACKING", "ON"]);
            }
            let (dial, patience) = (self.options.dial(&home.0), self.options.patience);
            let mut wire = Wire::open(dial, &self.login, &greetings, self.options.skip, patience)?;
            wire.node = wire.ask(&["CLUSTER", "MYID"], deadline_in(patience))?;
            self.wires.insert(home.clone(), wire);
        }
        let wire = self.wires.get_mut(home).ok_or("the connection is gone")?;
        if let Some(names) = self.abandoned.get(&wire.node) {
            wire.end_others(names, deadline_in(self.options.patience))?;
            self.abandoned.remove(&wire.node);
        }
        Ok(wire)
    }

    fn give_up(&mut self, home: &(String, bool)) {
        if let Some((node, name)) = self.wires.remove(home).and_then(Wire::owed) {
            self.abandoned.entry(node).or_default().push(name);
        }
    }

    /// What its cache answers to a cacheable read.
    fn hit(&mut self, request: &Request) -> Option<Value> {
        let kept = if request.keep { self.kept(request) } else { return None };
        let count = if kept.is_some() { &mut self.detours.hits } else { &mut self.detours.misses };
        *count += 1;
        kept.map(Value::BulkString)
    }

    /// The value that the connection to the key's master still answers for.
    fn kept(&mut self, request: &Request) -> Option<Vec<u8>> {
        let lease = self.options.lease?;
        let home = (self.map.owner(self.slot(request))?.to_owned(), false);
        let wire = self.wires.get_mut(&home)?;
        let alive = wire.drain().and_then(|()| {
            if wire.confirmed.elapsed() < lease {
                return Ok(());
            }
            // Silence may mean that nothing has changed, or that the wire is dead, or that the slot is somebody else's now: a
            // question about the key finds out, where a PING would not.
            let question: [&[u8]; 2] = [b"EXISTS", request.key()];
            if wire.ask::<u64>(&question, deadline_in(self.options.patience))? == 0 {
                // It had expired, and this question made the server notice: its word of that comes behind the answer.
                wire.kept.forget(request.key());
            }
            Ok(())
        });
        match alive {
            Ok(()) => wire.kept.get(request.key()).map(<[u8]>::to_vec),
            Err(_) => {
                self.give_up(&home);
                None
            }
        }
    }

    /// What one node answers to a question of its own.
    pub(super) fn ask_node<T: FromRedisValue>(&mut self, address: &str, words: &[&str]) -> Result<T, String> {
        let home = (address.to_owned(), false);
        let deadline = deadline_in(self.options.patience);
        let answer = self.wire(&home).and_then(|wire| wire.ask(words, deadline));
        answer.inspect_err(|_| self.give_up(&home))
    }

    /// Asks one node after the other who holds what, the one that just failed not at all.
    fn try_refresh(&mut self, but: Option<&str>) -> Result<(), String> {
        let mut addresses = self.map.addresses();
        addresses.extend(self.seeds.iter().filter(|seed| !addresses.contains(seed)).cloned().collect::<Vec<_>>());
        let mut last = "there is no other node to ask".to_owned();
        for address in addresses.into_iter().filter(|address| Some(address.as_str()) != but) {
            let host = address.rsplit_once(':').map_or("", |(host, _)| host);
            let answer = self.ask_node::<Value>(&address, &["CLUSTER", "SLOTS"]);
            let map = answer.and_then(|answer| SlotMap::read(&answer, host).map_err(|error| error.cause().to_owned()));
            match map {
                Ok(map) if map.covered() > 0 => {
                    self.map = map;
                    return Ok(());
                }
                Ok(_) => last = format!("{address} knows of nobody who holds a slot"),
                Err(cause) => last = format!("{address}: {cause}"),
            }
        }
        Err(last)
    }
}

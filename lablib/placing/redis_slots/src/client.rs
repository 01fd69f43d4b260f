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

/// The address that the cluster announces for a node, and whether the connection is for reading from a replica.
type Home = (String, bool);

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
    /// Requests whose connection broke, or could not be made.
    pub broken: u64,
    /// Reads that the client's own cache answered.
    pub hits: u64,
    /// Cacheable reads that a server had to answer.
    pub misses: u64,
}

impl Detours {
    fn count(&mut self, said: &Said) {
        match said {
            Said::Answer(_) | Said::Refused(_) => {}
            Said::Moved(..) => self.moved += 1,
            Said::Ask(_) => self.asked += 1,
            Said::TryAgain => self.tried_again += 1,
            Said::Down(_) => self.down += 1,
            Said::Unreached(_) | Said::Silent(_) => self.broken += 1,
        }
    }
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
    /// A node that the map names has not answered, and there was no time to ask another one who holds what.
    map_is_doubtful: bool,
    /// How often a node did not answer when it was asked who holds what.
    silences: usize,
    wires: BTreeMap<Home, Wire>,
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
        let (map_is_doubtful, silences, turn) = (true, 0, 0);
        let mut client =
            Self { options, login, seeds, map, map_is_doubtful, silences, wires, abandoned, detours, turn };
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
        let deadline = self.begin();
        match self.hit(request) {
            Some(value) => Ok(value),
            None => self.pursue(request, None, deadline),
        }
    }

    /// Many requests at once: each node gets its own in one go, all nodes work at the same time. The answers are in the
    /// order of the requests; *when* each was done is not, as soon as one is redirected, tried again, or may be in the cache.
    /// Cacheable reads of one key are one read. A node that does not answer makes requests to other nodes wait for
    /// no longer than its patience.
    pub fn call_many(&mut self, requests: &[Request]) -> Vec<Result<Value, Failure>> {
        let deadline = self.begin();
        let mut answers: Vec<Option<Result<Value, Failure>>> = requests.iter().map(|_| None).collect();
        let mut first: BTreeMap<&[u8], usize> = BTreeMap::new();
        let mut twins: Vec<(usize, usize)> = Vec::new();
        let mut homes: BTreeMap<Home, Vec<usize>> = BTreeMap::new();
        // What takes more than one question; it comes last, for it may take until the deadline.
        let mut unfinished: Vec<(usize, Option<Said>)> = Vec::new();
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
                None => {
                    self.map_is_doubtful = true;
                    unfinished.push((index, None));
                }
            }
        }
        while homes.values().any(|indices| !indices.is_empty()) {
            let batches: Vec<(Home, Vec<usize>)> = homes
                .iter_mut()
                .filter(|(_, indices)| !indices.is_empty())
                .map(|(home, indices)| (home.clone(), indices.drain(..indices.len().min(BATCH)).collect()))
                .collect();
            for (index, said) in self.exchange(&batches, requests) {
                match said {
                    Said::Answer(value) => answers[index] = Some(Ok(value)),
                    other => unfinished.push((index, Some(other))),
                }
            }
            // Whose connection is gone is not asked on.
            let gone = homes.iter_mut().filter(|(home, _)| !self.wires.contains_key(*home));
            unfinished.extend(gone.flat_map(|(_, indices)| indices.drain(..)).map(|index| (index, None)));
        }
        let late =
            |request: &Request| Err(Failure::NotDone(failed(request, "the deadline came before its turn".into())));
        for (index, said) in unfinished {
            answers[index] = Some(match said {
                None if Instant::now() >= deadline => late(&requests[index]),
                said => self.pursue(&requests[index], said, deadline),
            });
        }
        for (index, twin) in twins {
            answers[index] = answers[twin].clone();
        }
        answers.into_iter().zip(requests).map(|(answer, request)| answer.unwrap_or_else(|| late(request))).collect()
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
        self.begin();
        let Some(home) = requests.first().and_then(|request| self.home(request)) else {
            let cause = || Said::Unreached("nobody is known to hold the slot".into());
            return (requests.iter().map(|_| fail(cause())).collect(), 0);
        };
        let mut all = requests.to_vec();
        // To the server, no time at all means for ever.
        all.push(Request::wait(replicas, patience.max(Duration::from_millis(1))));
        let batch = [(home, (0..all.len()).collect())];
        let mut said: Vec<Said> = self.exchange(&batch, &all).into_iter().map(|(_, said)| said).collect();
        let reached = match said.pop() {
            Some(Said::Answer(Value::Int(count))) => u64::try_from(count).unwrap_or(0),
            _ => 0,
        };
        // What went wrong may be over; the next write should know.
        for said in &said {
            self.detours.count(said);
            match said {
                Said::Moved(slot, address) => {
                    self.map.set_owner(*slot, address);
                }
                Said::Unreached(_) | Said::Silent(_) | Said::Down(_) => self.map_is_doubtful = true,
                _ => {}
            }
        }
        (said.into_iter().map(fail).collect(), reached)
    }

    /// When what begins now has to end. If there is doubt about who holds what, somebody is asked first.
    fn begin(&mut self) -> Instant {
        let deadline = deadline_in(self.options.deadline);
        if self.map_is_doubtful {
            let _ = self.try_refresh(Some(deadline));
        }
        deadline
    }

    /// Follows a request from what was said to it last, until it is done.
    fn pursue(&mut self, request: &Request, said: Option<Said>, deadline: Instant) -> Result<Value, Failure> {
        let (mut pause, mut unknown) = (PAUSE.0, false);
        let mut said = said.unwrap_or_else(|| self.ask_home(request));
        loop {
            self.detours.count(&said);
            let (mut ask, mut rest, reason) = (None, true, said.reason());
            // Whatever the next attempt comes to: this one may have been done.
            unknown |= matches!(said, Said::Silent(_)) && request.effect != Effect::Read;
            let over = match said {
                Said::Answer(value) => return Ok(value),
                Said::Refused(_) => true,
                Said::Silent(_) if request.effect == Effect::Once => true,
                Said::Moved(slot, address) => {
                    rest = !self.map.set_owner(slot, &address);
                    if rest {
                        // That was known: it is the list of its replicas that is old.
                        let _ = self.try_refresh(Some(deadline));
                    }
                    false
                }
                Said::Ask(address) => {
                    (ask, rest) = (Some(address), false);
                    false
                }
                Said::TryAgain => false,
                Said::Down(_) | Said::Unreached(_) | Said::Silent(_) => {
                    let _ = self.try_refresh(Some(deadline));
                    false
                }
            };
            if over || Instant::now() >= deadline {
                let error = failed(request, reason);
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

    /// Where a request goes, by the map: the master's address, or that of one of its replicas in turn.
    fn home(&mut self, request: &Request) -> Option<Home> {
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
    fn ask_at(&mut self, home: Home, requests: &[Request]) -> Said {
        let said = self.exchange(&[(home, (0..requests.len()).collect())], requests).pop();
        said.map_or_else(|| Said::Unreached("it was not asked".into()), |(_, said)| said)
    }

    /// Sends each node its requests, then reads all answers.
    fn exchange(&mut self, batches: &[(Home, Vec<usize>)], requests: &[Request]) -> Vec<(usize, Said)> {
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

    /// The connection to a node, made within the client's patience if there is none.
    fn wire(&mut self, home: &Home) -> Result<&mut Wire, String> {
        let (patience, deadline) = (self.options.patience, deadline_in(self.options.patience));
        if !self.wires.contains_key(home) {
            let mut greetings: Vec<&[&str]> = Vec::new();
            if home.1 {
                greetings.push(&["READONLY"]);
            } else if self.options.lease.is_some() {
                greetings.push(&["CLIENT", "TRACKING", "ON"]);
            }
            let dial = self.options.dial(&home.0);
            let mut wire = Wire::open(dial, &self.login, &greetings, self.options.skip, patience)?;
            wire.node = wire.ask(&["CLUSTER", "MYID"], deadline)?;
            self.wires.insert(home.clone(), wire);
        }
        let wire = self.wires.get_mut(home).ok_or("the connection is gone")?;
        if let Some(names) = self.abandoned.get(&wire.node) {
            wire.end_others(names, deadline)?;
            self.abandoned.remove(&wire.node);
        }
        Ok(wire)
    }

    fn give_up(&mut self, home: &Home) {
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
        let (lease, patience) = (self.options.lease?, self.options.patience);
        let home = (self.map.owner(self.slot(request))?.to_owned(), false);
        if !self.wires.contains_key(&home) {
            return None;
        }
        let kept = self.wire(&home).and_then(|wire| {
            wire.drain()?;
            // Silence may mean that nothing has changed, or that the wire is dead, or that the slot is somebody else's now: a
            // question about the key finds out, where a PING would not.
            let question: [&[u8]; 2] = [b"EXISTS", request.key()];
            if wire.confirmed.elapsed() >= lease && wire.ask::<u64>(&question, deadline_in(patience))? == 0 {
                // It had expired, and this question made the server notice: its word of that comes behind the answer.
                wire.kept.forget(request.key());
            }
            Ok(wire.kept.get(request.key()).map(<[u8]>::to_vec))
        });
        kept.unwrap_or_else(|_| {
            self.give_up(&home);
            None
        })
    }

    /// What one node answers to a question of its own.
    pub(super) fn ask_node<T: FromRedisValue>(&mut self, address: &str, words: &[&str]) -> Result<T, String> {
        let home = (address.to_owned(), false);
        let deadline = deadline_in(self.options.patience);
        let answer = self.wire(&home).and_then(|wire| wire.ask(words, deadline));
        answer.inspect_err(|_| self.give_up(&home))
    }

    /// Asks one node after the other who holds what, those last whose connection is gone, until one answers or there is no
    /// more time. Beginning behind those that were silent before, so that they do not use up all of it again and again.
    fn try_refresh(&mut self, deadline: Option<Instant>) -> Result<(), String> {
        let mut addresses = self.map.addresses();
        addresses.extend(self.seeds.iter().filter(|seed| !addresses.contains(seed)).cloned().collect::<Vec<_>>());
        let first = self.silences % addresses.len();
        addresses.rotate_left(first);
        addresses.sort_by_key(|address| !self.wires.contains_key(&(address.clone(), false)));
        self.map_is_doubtful = true;
        let mut last = "there was no time to ask who holds what".to_owned();
        for address in addresses {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                break;
            }
            let host = address.rsplit_once(':').map_or("", |(host, _)| host);
            let answer = self.ask_node::<Value>(&address, &["CLUSTER", "SLOTS"]);
            let map = answer.and_then(|answer| SlotMap::read(&answer, host).map_err(|error| error.cause().to_owned()));
            match map {
                Ok(map) if map.covered() > 0 => {
                    (self.map, self.map_is_doubtful) = (map, false);
                    return Ok(());
                }
                Ok(_) => last = format!("{address} knows of nobody who holds a slot"),
                Err(cause) => {
                    self.silences += 1;
                    last = format!("{address}: {cause}");
                }
            }
        }
        Err(last)
    }
}

fn failed(request: &Request, cause: String) -> Error {
    Error::new(format!("{} in the Redis cluster", request.verb), cause).at(String::from_utf8_lossy(request.key()))
}

//! Moves one slot from a master to another while clients go on using it.

use std::time::{Duration, Instant};

use redis::{FromRedisValue, InfoDict, Script, Value};

use super::copies::Snapshot;
use super::options::ClientOptions;
use super::wire::{Login, Wire, pack, read};
use lab::service::Redis;
use lab::{Error, Result};

/// How long a node may take for one step; a batch of large keys takes its time.
const PATIENCE: Duration = Duration::from_secs(10);

/// A slot that is on its way.
///
/// While it is, the source answers for keys that are still there and sends clients to the target for the others (ASK);
/// the target answers only clients that say ASKING. A mover that dies leaves the slot in this state, where every key can
/// be reached; beginning again goes on from there, also behind the last step.
///
/// A key can be on both nodes: the target had it, and its word did not arrive; or the source died and came back from an older
/// file. Its copy at the target is replaced only where both are equal, or where the target's cannot be newer; else the key is
/// [`disputed`](Self::disputed), and stays where it is until the caller says which copy to [`keep`](Self::keep).
///
/// Redis leaves gaps that no mover can close, for it does not remember what was deleted. A key that is on both nodes and is
/// deleted at the source, before it could be carried again, is at the target, as it was: so [`carry`](Self::carry) again, at
/// once, where it failed. And a source that comes back from an older file brings along what was deleted at the target since.
pub struct SlotMove {
    slot: u16,
    source: End,
    target: End,
    moved: u64,
    disputed: Vec<Vec<u8>>,
    /// The target had the slot from the beginning: whatever lies at the source is older.
    over: bool,
}

/// Whose copy of a key stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The source's, which is carried over the target's.
    Source,
    /// The target's: the source's is deleted.
    Target,
}

struct End {
    name: String,
    id: String,
    address: String,
    login: Login,
    patience: Duration,
    /// None once an answer did not come: it would be taken for the answer to the next question.
    wire: Option<Wire>,
}

impl End {
    fn of(node: &Redis) -> Result<Self> {
        let (login, _) = ClientOptions::to([node.url().to_owned()]).login_and_seeds()?;
        let (name, address) = (node.name().to_owned(), node.address().to_owned());
        let mut end = Self { name, id: String::new(), address, login, patience: PATIENCE, wire: None };
        end.id = end.ask(&["CLUSTER", "MYID"])?;
        Ok(end)
    }

    fn fail(&self, cause: impl std::fmt::Display) -> Error {
        Error::new("move a slot", cause).at(&self.name)
    }

    /// Sends commands in one go, and reads all answers, refusals among them.
    fn tell(&mut self, commands: &[Vec<u8>], patience: Duration) -> Result<Vec<Value>> {
        let answers =
            self.wire.take().map_or_else(|| Wire::open(&self.address, &self.login, &[], None, self.patience), Ok);
        let answers = answers.and_then(|mut wire| {
            wire.send(&commands.concat(), commands.iter().map(|_| None))?;
            let deadline = Instant::now() + patience;
            let answers = commands.iter().map(|_| wire.receive(deadline)).collect::<Result<Vec<_>, _>>()?;
            self.wire = Some(wire);
            Ok(answers)
        });
        answers.map_err(|cause| self.fail(cause))
    }

    fn ask<T: FromRedisValue>(&mut self, words: &[impl AsRef<[u8]>]) -> Result<T> {
        let answer = self.tell(&[pack(words)], self.patience)?.pop().unwrap_or(Value::Nil);
        read(answer).map_err(|cause| self.fail(cause))
    }

    fn keys_in(&mut self, slot: u16) -> Result<u64> {
        self.ask(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()])
    }

    /// What becomes of a slot: `IMPORTING` or `MIGRATING` the other node, or belonging to the `NODE` of this id.
    fn set_slot(&mut self, slot: u16, what: &str, node: &str) -> Result<()> {
        self.ask(&["CLUSTER", "SETSLOT", &slot.to_string(), what, node])
    }

    /// What the node itself says about the slot: whether it holds it, and the node that it is moving it to.
    fn stand(&mut self, slot: u16) -> Result<(bool, Option<String>)> {
        let nodes: String = self.ask(&["CLUSTER", "NODES"])?;
        let myself = nodes.lines().find(|line| line.contains("myself"));
        let words = myself.ok_or_else(|| self.fail("it does not know itself"))?.split_ascii_whitespace().skip(8);
        let (mut holds, mut goes_to) = (false, None);
        let away = format!("[{slot}->-");
        for word in words {
            if let Some(to) = word.strip_prefix(&away) {
                goes_to = Some(to.trim_end_matches(']').to_owned());
            }
            let (from, to) = word.split_once('-').unwrap_or((word, word));
            let range = from.parse::<u16>().ok().zip(to.parse::<u16>().ok());
            holds |= range.is_some_and(|(from, to)| (from..=to).contains(&slot));
        }
        Ok((holds, goes_to))
    }

    /// The history that its keys have: another one after a restart, and once it has followed another master.
    fn history(&mut self) -> Result<String> {
        let info: InfoDict = self.ask(&["INFO", "server", "replication"])?;
        let history = info.get::<String>("run_id").zip(info.get::<String>("master_replid"));
        let history = history.map(|(run, replication)| format!("{run} {replication}"));
        history.ok_or_else(|| self.fail("it does not tell its history"))
    }
}

impl SlotMove {
    /// Tells both nodes that the slot is on its way.
    pub fn begin(slot: u16, source: &Redis, target: &Redis) -> Result<Self> {
        if source.address() == target.address() {
            return Err(Error::new("move a slot", "source and target are the same node").at(source.name()));
        }
        let (source, target) = (End::of(source)?, End::of(target)?);
        let mut begun = Self { slot, source, target, moved: 0, disputed: Vec::new(), over: false };
        let (source, target) = (&mut begun.source, &mut begun.target);
        if target.stand(slot)?.0 {
            // All that is left to do, if anything, is to tell the others.
            begun.over = true;
            return Ok(begun);
        }
        let (holds, goes_to) = source.stand(slot)?;
        if !holds {
            return Err(source.fail(format!("slot {slot} is not its own")));
        }
        // Sent elsewhere, clients would not find what has been carried over already.
        if let Some(other) = goes_to.filter(|other| *other != target.id) {
            let error = source.fail(format!("slot {slot} is on its way to {other}"));
            return Err(error.remedy("finish that move first"));
        }
        let history = source.history()?;
        if target.keys_in(slot)? == 0 {
            source.ask::<String>(&["SCRIPT", "LOAD", &empty_at_first(slot, &target.id, &history)])?;
        }
        // The target first: the source must not send it clients that it would send back.
        target.set_slot(slot, "IMPORTING", &source.id)?;
        source.set_slot(slot, "MIGRATING", &target.id)?;
        Ok(begun)
    }

    /// How long a node may take for one step.
    pub fn patience(mut self, patience: Duration) -> Self {
        (self.source.patience, self.target.patience) = (patience, patience);
        self
    }

    /// How many keys are still at the source.
    pub fn left(&mut self) -> Result<u64> {
        self.source.keys_in(self.slot)
    }

    /// How many keys have been carried over.
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// The keys that are on both nodes with different values, of which nobody can tell which is newer, as far as they have
    /// been come by.
    pub fn disputed(&self) -> &[Vec<u8>] {
        &self.disputed
    }

    /// Carries over at most so many keys, at once and for good: the source has them until the target has acknowledged
    /// them. Says how many there were; none means that all are over. Where only disputed keys are left, it is an error.
    pub fn carry(&mut self, at_most: usize) -> Result<usize> {
        if self.over {
            return Ok(0);
        }
        let at_most = at_most.max(1);
        let listed = (at_most + self.disputed.len()).to_string();
        let mut keys: Vec<Vec<u8>> = self.source.ask(&["CLUSTER", "GETKEYSINSLOT", &self.slot.to_string(), &listed])?;
        keys.retain(|key| !self.disputed.contains(key));
        keys.truncate(at_most);
        if keys.is_empty() {
            return self.look_again();
        }
        let carried = if self.migrate(&keys, false)? { keys.len() } else { self.settle(&keys)? };
        self.moved += carried as u64;
        // None would mean that all are over.
        if carried == 0 { self.carry(at_most) } else { Ok(carried) }
    }

    /// Says which copy of a key stays that is on both nodes; whatever was written to the other one is gone.
    pub fn keep(&mut self, key: &[u8], side: Side) -> Result<()> {
        match side {
            Side::Source => {
                if !self.migrate(&[key.to_vec()], true)? {
                    return Err(self.target.fail("it does not let its copy be replaced"));
                }
            }
            Side::Target => {
                if !self.snapshot(key)?.1.exists() {
                    let cause = format!("it has no copy of {}", String::from_utf8_lossy(key));
                    return Err(self.target.fail(cause));
                }
                self.source.ask::<u64>(&[b"DEL", key])?;
            }
        }
        self.disputed.retain(|disputed| disputed != key);
        Ok(())
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
        let (slot, owner) = (self.slot, self.target.id.clone());
        // The target first: between the two, both claim the slot, and the source sends everybody there.
        self.target.set_slot(slot, "NODE", &owner)?;
        self.source.set_slot(slot, "NODE", &owner)?;
        others.iter().try_for_each(|other| End::of(other)?.set_slot(slot, "NODE", &owner))
    }

    /// Nothing is left but disputed keys, if anything. What clients have done since may have settled some of them.
    fn look_again(&mut self) -> Result<usize> {
        let disputed = std::mem::take(&mut self.disputed);
        let over = self.settle(&disputed)?;
        self.moved += over as u64;
        match self.disputed.first() {
            Some(first) if over == 0 => {
                let (first, count) = (String::from_utf8_lossy(first), self.disputed.len());
                let cause =
                    format!("nobody can tell which copy of {first} is newer, of {count} keys that are on both nodes");
                Err(self.source.fail(cause).remedy("look at both copies, and say which to keep"))
            }
            _ => Ok(over),
        }
    }

    /// Carries keys over; not if it finds that the target has some of them.
    fn migrate(&mut self, keys: &[Vec<u8>], replace: bool) -> Result<bool> {
        let patience = self.source.patience.as_millis().to_string();
        let (host, port) = self.target.address.rsplit_once(':').unwrap_or((&self.target.address, ""));
        let mut words: Vec<&[u8]> = vec![b"MIGRATE", host.as_bytes(), port.as_bytes(), b"", b"0", patience.as_bytes()];
        if replace {
            words.push(b"REPLACE");
        }
        if let Some(password) = &self.target.login.password {
            let user = self.target.login.user.as_deref().unwrap_or("default");
            words.extend([b"AUTH2", user.as_bytes(), password.as_bytes()]);
        }
        words.push(b"KEYS");
        words.extend(keys.iter().map(Vec::as_slice));
        // Longer than the source waits for the target: else its word of that would never be heard.
        match self.source.tell(&[pack(&words)], 2 * self.source.patience)?.pop() {
            Some(Value::ServerError(error)) if error.to_string().contains("BUSYKEY") => Ok(false),
            Some(Value::ServerError(error)) => Err(self.source.fail(error)),
            _ => Ok(true),
        }
    }

    /// Of these keys, some are on both nodes. Carries over those whose copy at the target may be replaced, and says how many of
    /// them all are over.
    fn settle(&mut self, keys: &[Vec<u8>]) -> Result<usize> {
        let mut over = 0;
        for key in keys {
            let alone = std::slice::from_ref(key);
            if self.migrate(alone, false)? || (self.may_be_replaced(key)? && self.migrate(alone, true)?) {
                over += 1;
            } else {
                self.disputed.push(key.clone());
            }
        }
        Ok(over)
    }

    /// Whether nothing is lost when the source's copy of a key replaces the target's.
    ///
    /// As long as the slot is on its way, no key comes to the source; it may only go. So if its history is still the one in
    /// which the target had no key of the slot, then clients were sent to the target for a key only when it had left the source:
    /// what is on both was put there by a MIGRATE whose answer was lost, and is as old as that. Else only equal copies are safe:
    /// whoever writes after the look finds the key at the source, and writes it there.
    fn may_be_replaced(&mut self, key: &[u8]) -> Result<bool> {
        let history = self.source.history()?;
        let known = Script::new(&empty_at_first(self.slot, &self.target.id, &history));
        if self.source.ask::<[bool; 1]>(&["SCRIPT", "EXISTS", known.get_hash()])? == [true] {
            return Ok(true);
        }
        let (source, target) = self.snapshot(key)?;
        Ok(source.equals(&target))
    }

    /// Both copies, the source's first.
    fn snapshot(&mut self, key: &[u8]) -> Result<(Snapshot, Snapshot)> {
        let question = Snapshot::question(key);
        let source = self.source.tell(&question, self.source.patience)?;
        let asking = [vec![pack(&["ASKING"])], question].concat();
        let target = self.target.tell(&asking, self.target.patience)?;
        Ok((Snapshot::read(source), Snapshot::read(target)))
    }
}

/// What the source remembers as long as it lives, and forgets when it dies: its cache of scripts is nowhere else. Whichever
/// mover comes next can ask for it.
fn empty_at_first(slot: u16, target: &str, history: &str) -> String {
    format!("return 'in {history}, {target} had no key of slot {slot}'")
}

//! A slot moves from one master to another while clients read and write its keys.

use std::cell::RefCell;
use std::time::Duration;

use redis::cluster::{ClusterClient, ClusterConnection};

use super::{answers, sum};
use crate::{Client, ClientOptions, Failure, Request, Skip, SlotMove, slot_of};
use lab::service::{Redis, RedisCluster};
use lab::{Call, Crowd, Doing, Error, Frame, Result, Rng};

/// The move, and the traffic during it.
#[derive(Debug, Clone, Copy)]
pub struct MoveSpec {
    /// Keys, all in the one slot of `{basket}`.
    pub keys: usize,
    /// Keys that are carried over in one step.
    pub batch: usize,
    /// How long the mover rests half-way; also how long traffic runs before and after.
    pub rest: Duration,
    /// How long a client tries before a request has failed.
    pub deadline: Duration,
    /// The step that clients leave out.
    pub skip: Option<Skip>,
    pub seed: u64,
}

/// What the clients saw of the move.
#[derive(Debug, Clone)]
pub struct Moved {
    /// A row for each request: its `task` (`increment`, `read`, `read pairs`, or `read by the crate`); of our clients' also the number
    /// of its first `key`, how often it met `ASK`, `TRYAGAIN` and `MOVED`, and whether its fate is `unknown`.
    pub requests: Frame,
    /// When half of the keys were over, and when the slot had its new owner; each began after a rest.
    pub events: Frame,
    /// Increments that were acknowledged.
    pub acknowledged: u64,
    /// Increments that were acknowledged and are not there, or are there without having been acknowledged.
    pub miscounted: u64,
    /// Keys that the mover carried over.
    pub carried: u64,
}

fn key(index: usize) -> String {
    format!("{{basket}}:{index}")
}

enum User {
    Ours(&'static str, Client, Rng),
    TheCrates(ClusterConnection),
}

impl MoveSpec {
    /// Moves the slot to the next master, under traffic.
    pub fn run(&self, cluster: &RedisCluster) -> Result<Moved> {
        if self.keys < 2 || self.batch == 0 {
            return Err(Error::new(
                "move a slot under traffic",
                "it needs two keys at least, and a batch of one at least",
            ));
        }
        let mut whole = ClientOptions::of(cluster).connect()?;
        answers(&mut whole, (0..self.keys).map(|index| Request::repeatable_write(["SET", &key(index), "0"])))?;
        let (masters, source) = (cluster.masters()?, cluster.master_for(&key(0))?);
        let place = masters.iter().position(|master| master.name() == source.name()).unwrap_or(0);
        let target = masters[(place + 1) % masters.len()];
        let others = masters.iter().filter(|node| ![source.name(), target.name()].contains(&node.name()));
        let others: Vec<&Redis> = others.copied().collect();
        let slot: RefCell<Option<SlotMove>> = RefCell::default();
        let mut carried = 0;
        let ran = Crowd::of(4)
            .with(|number| self.user(cluster, number))
            .enduring()
            .meanwhile(self.rest, "half is over", || {
                let mut begun = SlotMove::begin(slot_of(key(0)), source, target)?;
                while begun.moved() < self.keys as u64 / 2 {
                    begun.carry(self.batch)?;
                }
                slot.replace(Some(begun));
                Ok(())
            })
            .meanwhile(self.rest, "new owner", || {
                let Some(mut slot) = slot.take() else { return Ok(()) };
                while slot.carry(self.batch)? > 0 {}
                carried = slot.moved();
                slot.finish(&others)
            })
            .lasting(self.rest)
            .run(|user, call| user.ask(self.keys, call))?;
        let increments = ran.frame.filter("task", "increment");
        let mut acknowledged = vec![0_u64; self.keys];
        for key in increments.filter("outcome", "done").samples("key").values() {
            acknowledged[*key as usize] += 1;
        }
        let held = answers(&mut whole, (0..self.keys).map(|index| Request::read(["GET", &key(index)])))?;
        let held = held.into_iter().map(|value| redis::from_redis_value::<u64>(value).unwrap_or(0));
        let miscounted: u64 = held.zip(&acknowledged).map(|(held, acknowledged)| held.abs_diff(*acknowledged)).sum();
        // What is unknown may be there or not.
        let miscounted = miscounted.saturating_sub(sum(&increments, "unknown") as u64);
        let acknowledged = acknowledged.iter().sum();
        Ok(Moved { requests: ran.frame, events: ran.events, acknowledged, miscounted, carried })
    }

    fn user(&self, cluster: &RedisCluster, number: usize) -> Result<User> {
        let Some(task) = ["increment", "read", "read pairs"].get(number) else {
            let client = ClusterClient::new(cluster.urls()).and_then(|client| client.get_connection());
            return Ok(User::TheCrates(client.doing("connect with the redis crate's cluster client")?));
        };
        let client = ClientOptions::of(cluster).deadline(self.deadline).without(self.skip).connect()?;
        Ok(User::Ours(task, client, Rng::seeded(self.seed, task)))
    }
}

impl User {
    fn ask(&mut self, keys: usize, call: &mut Call) -> Result<()> {
        match self {
            Self::TheCrates(connection) => {
                call.tag("task", "read by the crate");
                call.rest(Duration::from_micros(200));
                let index = (7 * (call.number() as usize + 1)) % keys;
                let value: Option<u64> =
                    redis::cmd("GET").arg(key(index)).query(connection).doing("read with the redis crate")?;
                value.map(drop).ok_or_else(|| Error::new("read with the redis crate", "the key is not there"))
            }
            Self::Ours(task, client, rng) => {
                call.tag("task", &task);
                let (index, other) = (rng.below(keys as u64) as usize, rng.below(keys as u64) as usize);
                let request = match *task {
                    "increment" => Request::write(["INCR", &key(index)]),
                    "read" => Request::read(["GET", &key(index)]),
                    _ => Request::read(["MGET", &key(index), &key(other)]),
                };
                let before = client.detours();
                let answer = client.call(&request);
                let after = client.detours();
                call.note("ASK", "", (after.asked - before.asked) as f64);
                call.note("TRYAGAIN", "", (after.tried_again - before.tried_again) as f64);
                call.note("MOVED", "", (after.moved - before.moved) as f64);
                call.note("key", "", index as f64);
                call.note("unknown", "", f64::from(u8::from(matches!(answer, Err(Failure::Unknown(_))))));
                Ok(answer.map(drop)?)
            }
        }
    }
}

impl Moved {
    /// How many requests failed, of our clients or of the `redis` crate's.
    pub fn failed(&self, by_the_crate: bool) -> usize {
        let failed = self.requests.filter("outcome", "failed");
        failed.filter_by(|row| (row.text("task") == "read by the crate") == by_the_crate).height()
    }

    /// What our clients saw, in one row: requests that were `answered` and that `failed`, `ASK`, `TRYAGAIN` and `MOVED` that they
    /// followed, and the `longest request` that was answered.
    pub fn seen(&self, by: &str) -> Frame {
        let ours = self.requests.having("ASK");
        let (answered, failed) = (ours.filter("outcome", "done"), self.failed(false) as u64);
        let counts = Frame::new().text("client", [by]).counts("answered", "", [answered.height() as u64]);
        ["ASK", "TRYAGAIN", "MOVED"]
            .into_iter()
            .fold(counts.counts("failed", "", [failed]), |counts, detour| {
                counts.numbers(detour, "", [sum(&ours, detour)])
            })
            .numbers("longest request", "ms", [1e3 * answered.samples("took").max()])
    }

    /// Per cent of the requests for one key that went `by ASK`, over time in steps of so many seconds.
    pub fn by_ask(&self, step: f64) -> Frame {
        let middle = |moment: f64| (moment / step).floor() * step + step / 2.0;
        let of_one = self.requests.having("ASK").filter("outcome", "done").except("task", "read pairs");
        of_one
            .computed("time", "s", |call| middle(call.number("at") + call.number("took")))
            .computed("by ASK", "%", |call| 100.0 * call.number("ASK").min(1.0))
            .group(["time"])
            .mean("by ASK")
            .sort("time")
    }
}

//! A node that dies in the middle of the traffic, on real Redis servers.

use std::time::Duration;

use crate::Ring;
use crate::replicas::{Client, Store};
use lab::service::Redis;
use lab::{Call, Crowd, Frame, Result, Rng};

/// The experiment's parameters.
#[derive(Debug, Clone, Copy)]
pub struct DeathSpec {
    /// Redis servers.
    pub nodes: usize,
    /// Nodes that hold each key.
    pub copies: usize,
    /// Keys written before the traffic begins.
    pub keys: usize,
    /// Operations of the traffic: half of them read a key that was acknowledged, half write a new one. A node is killed after a
    /// third of them and taken off the ring after two thirds.
    pub operations: u64,
}

/// What became of the keys.
#[derive(Debug, Clone, Default)]
pub struct Death {
    /// Keys whose write was acknowledged.
    pub acknowledged: u64,
    /// Keys whose write was acknowledged before the node was killed.
    pub before: u64,
    /// Keys that were acknowledged before the kill and that nobody can find at the end.
    pub lost_of_before: u64,
    /// Acknowledged keys that nobody can find at the end.
    pub lost: u64,
    /// Keys whose fate the ring does not explain, key by key: lost although another node than the dead one had acknowledged
    /// them, or found although none had.
    pub unexplained: u64,
    /// Acknowledged keys that have fewer copies than they should at the end.
    pub short: u64,
    /// Reads that failed, or did not find what was acknowledged, during the traffic.
    pub failed_reads: u64,
    /// Writes that were refused during the traffic: never acknowledged, so nothing is lost with them.
    pub refused_writes: u64,
    /// Acknowledged keys that lack a copy by the time of the repair: it died with the node, or could not be written any more.
    pub lacking: u64,
    /// Copies that the repair made.
    pub copied: u64,
    /// A row for each read: `operations` that began before it, in steps of a fiftieth of all, and whether it was `answered` rightly (%).
    pub reads: Frame,
}

const CLIENTS: u64 = 2;
const POINTS: u32 = 64;
const WINDOWS: u64 = 50;

impl DeathSpec {
    fn name(index: usize) -> String {
        format!("node-{index}")
    }

    fn victim(&self, seed: u64) -> usize {
        Rng::seeded(seed, "victim").below(self.nodes as u64) as usize
    }

    /// Per cent of the circle that belongs to the node that will be killed: its arcs, measured without a key or a server.
    pub fn at_stake(&self, seed: u64) -> Result<f64> {
        let victim = Self::name(self.victim(seed));
        let ring = Ring::new((0..self.nodes).map(Self::name), POINTS)?;
        let points: Vec<(u128, &str)> = ring.points().collect();
        let before = points.iter().cycle().skip(points.len() - 1);
        let arcs = points.iter().zip(before).filter(|((_, node), _)| *node == victim);
        Ok(100.0 * arcs.map(|((end, _), (start, _))| end.wrapping_sub(*start) as f64).sum::<f64>() / 2_f64.powi(128))
    }

    /// Starts the servers, runs the traffic, kills a node with SIGKILL in its middle.
    pub fn run(&self, seed: u64) -> Result<Death> {
        let start = |index| Redis::with("appendonly", "no").named(&Self::name(index)).start();
        let servers = (0..self.nodes).map(start).collect::<Result<Vec<Redis>>>()?;
        let store = Store::new(&servers, self.copies, POINTS)?;
        let mut loader = store.client();
        let loaded: Vec<Written> =
            (0..self.keys).map(|index| Written::put(&mut loader, format!("before-{index}"))).collect::<Result<_>>()?;
        let victim = &servers[self.victim(seed)];
        let mut copied = 0;
        let ran = Crowd::of(CLIENTS as usize)
            .with(|number| {
                let mut rng = Rng::seeded(seed, &format!("worker {number}"));
                let name = rng.word(8);
                Ok(Worker { client: store.client(), rng, name, old: &loaded, new: Vec::new() })
            })
            .times(self.operations.div_ceil(CLIENTS))
            .within(Duration::from_secs(300))
            .once(self.operations / 3, "kill -9", || victim.try_kill())
            .once(self.operations * 2 / 3, "off the ring", || {
                copied = store.remove(victim.name())?.copied;
                Ok(())
            })
            .run(Worker::work)?;
        let killed = ran.event_began("kill -9");
        let count = |what: &str| ran.frame.filter("what", what).height() as u64;
        let mut death = Death {
            failed_reads: count("read in vain"),
            refused_writes: count("write refused"),
            copied,
            reads: self.reads(&ran.frame),
            ..Death::default()
        };
        let mut reader = store.client();
        for Written { key, holders, at } in loaded.iter().chain(ran.states.iter().flat_map(|worker| &worker.new)) {
            let before = *at < killed;
            let lost = reader.get(key)?.is_none_or(|value| value != value_of(key));
            let explained = holders.iter().all(|node| node == victim.name());
            death.acknowledged += 1;
            death.before += u64::from(before);
            // A key may still be acknowledged by the node between the word that it will be killed and its death.
            death.lost_of_before += u64::from(before && lost);
            death.lost += u64::from(lost);
            death.unexplained += u64::from(lost != explained);
            death.short += u64::from(reader.copies_of(key)? < self.copies);
            death.lacking += u64::from(holders.len() < self.copies || holders.iter().any(|node| node == victim.name()));
        }
        Ok(death)
    }

    fn reads(&self, calls: &Frame) -> Frame {
        let window = |number: u64| (number * WINDOWS / self.operations) as f64 + 0.5;
        let at = (0..calls.height() as u64).map(|number| window(number) * self.operations as f64 / WINDOWS as f64);
        let reads = calls
            .select(["what"])
            .numbers("operations", "", at)
            .filter_by(|call| call.text("what").starts_with("read"));
        reads.computed("answered", "%", |call| if call.text("what") == "read" { 100.0 } else { 0.0 })
    }
}

fn value_of(key: &str) -> String {
    format!("value of {key}")
}

/// An acknowledged key, the nodes that had it then, and when that was, in seconds since the traffic began.
struct Written {
    key: String,
    holders: Vec<String>,
    at: f64,
}

impl Written {
    /// Before the traffic, if nothing else is said.
    fn put(client: &mut Client, key: String) -> Result<Self> {
        client.put(&key, &value_of(&key)).map(|holders| Self { key, holders, at: f64::NEG_INFINITY })
    }
}

/// A client of the traffic, with the keys that were there before and those that it has written.
struct Worker<'a> {
    client: Client,
    rng: Rng,
    name: String,
    old: &'a [Written],
    new: Vec<Written>,
}

impl Worker<'_> {
    /// Reads a key that was acknowledged, or writes a new one.
    fn work(&mut self, call: &mut Call) -> Result<()> {
        if self.rng.below(2) == 0 {
            match Written::put(&mut self.client, format!("{}-{}", self.name, call.number())) {
                Ok(written) => {
                    call.tag("what", "write");
                    self.new.push(Written { at: call.now(), ..written });
                }
                Err(_) => call.tag("what", "write refused"),
            }
            return Ok(());
        }
        let index = self.rng.below((self.old.len() + self.new.len()) as u64) as usize;
        let Written { key, .. } = self.old.get(index).unwrap_or_else(|| &self.new[index - self.old.len()]);
        let right = matches!(self.client.get(key), Ok(Some(value)) if value == value_of(key));
        call.tag("what", if right { "read" } else { "read in vain" });
        Ok(())
    }
}

//! Which slot, and what follows from it: the prototype's traffic, node by node.

use redis::Value;
use redis::cluster::ClusterClient;
use redis::cluster_routing::Slot;

use crate::{ClientOptions, Meter, Request, SLOTS, SlotMap, SplitKey, slot_of, slot_without_tags};
use lab::chart::{Bars, Chart};
use lab::service::RedisCluster;
use lab::{Doing, Error, OrFail, Result, Rng, Table};

/// Keys of all sorts: plain ones, any bytes, and braces in every arrangement that somebody has got wrong.
pub fn random_keys(count: usize, rng: &mut Rng) -> Vec<Vec<u8>> {
    let word = |rng: &mut Rng| {
        let length = rng.below(12) as usize;
        rng.word(length)
    };
    let key = |rng: &mut Rng| match rng.below(6) {
        0 => (0..rng.below(40)).map(|_| rng.below(256) as u8).collect(),
        1 => format!("{}:{}", word(rng), rng.below(1_000_000)).into_bytes(),
        2 => format!("{}{{{}}}{}", word(rng), word(rng), word(rng)).into_bytes(),
        3 => format!("{{{}}}{}{{{}}}", word(rng), word(rng), word(rng)).into_bytes(),
        4 => (0..rng.below(10)).map(|_| b"{}ab"[rng.below(4) as usize]).collect(),
        _ => format!("}}{}{{{{{}}}", word(rng), word(rng)).into_bytes(),
    };
    (0..count).map(|_| key(rng)).collect()
}

/// What others say of our slots.
#[derive(Debug, Clone, Copy)]
pub struct SlotCheck {
    /// Keys looked at.
    pub keys: u64,
    /// Keys of which the server's `CLUSTER KEYSLOT` says the same as ours.
    pub as_the_server: u64,
    /// Keys of which the `redis` crate says the same.
    pub as_the_crate: u64,
    /// Keys of which a function that has never heard of hash tags says the same as the server.
    pub without_tags: u64,
}

impl SlotCheck {
    /// Who agrees with the server, and how often.
    pub fn table(&self, title: &str) -> Table {
        let agree = [self.without_tags, self.as_the_server];
        Table::new(title).text("function", ["without hash tags", "ours"]).counts("of the keys", "", agree).numbers(
            "share",
            "%",
            agree.map(|agree| 100.0 * agree as f64 / self.keys as f64),
        )
    }
}

/// Asks the server for every key's slot.
pub fn check_slots(cluster: &RedisCluster, keys: &[Vec<u8>]) -> SlotCheck {
    try_check_slots(cluster, keys).or_fail()
}

fn try_check_slots(cluster: &RedisCluster, keys: &[Vec<u8>]) -> Result<SlotCheck> {
    let operation = "ask for the slots of keys";
    let node = cluster.nodes().first().ok_or_else(|| Error::new(operation, "the cluster has no nodes"))?;
    let mut connection = redis::Client::open(node.url()).and_then(|client| client.get_connection()).doing(operation)?;
    let mut check = SlotCheck { keys: keys.len() as u64, as_the_server: 0, as_the_crate: 0, without_tags: 0 };
    for keys in keys.chunks(500) {
        let mut pipeline = redis::pipe();
        for key in keys {
            pipeline.cmd("CLUSTER").arg("KEYSLOT").arg(key);
        }
        let slots: Vec<u16> = pipeline.query(&mut connection).doing(operation)?;
        for (key, slot) in keys.iter().zip(slots) {
            check.as_the_server += u64::from(slot_of(key) == slot);
            check.as_the_crate += u64::from(Slot::new(slot_of(key)) == Some(Slot::for_key(key)));
            check.without_tags += u64::from(slot_without_tags(key) == slot);
        }
    }
    Ok(check)
}

/// The slot of a key, as the server says.
pub fn slot_by_the_server(cluster: &RedisCluster, key: &str) -> u64 {
    let ask = || -> Result<u64> {
        let node = cluster.nodes().first().ok_or_else(|| Error::new("ask for a slot", "the cluster has no nodes"))?;
        node.ask(&format!("CLUSTER KEYSLOT {key}"))?.parse().doing("read a slot")
    };
    ask().or_fail()
}

/// Where the masters' slots lie.
pub fn slots_of(cluster: &RedisCluster) -> SlotMap {
    ClientOptions::of(cluster).connect().or_fail().map().clone()
}

/// What the traffic's keys are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// `{bulkKey}:key-0`, …: the prototype's.
    Braces,
    /// `bulkKey:key-0`, …
    Plain,
}

impl Naming {
    fn key(self, index: usize) -> String {
        match self {
            Self::Braces => format!("{{bulkKey}}:key-{index}"),
            Self::Plain => format!("bulkKey:key-{index}"),
        }
    }
}

/// What each master did for the traffic.
#[derive(Debug, Clone)]
pub struct Traffic {
    /// "node 1", …
    pub nodes: Vec<String>,
    /// SETs and GETs that each node counted itself.
    pub counted: Vec<u64>,
    /// SETs and GETs that the keys' slots say it should get.
    pub predicted: Vec<u64>,
    /// Each node's share of the CPU time, in per cent.
    pub cpu: Vec<f64>,
    /// Values that came back other than they went in.
    pub wrong: u64,
}

impl Traffic {
    /// Commands that a node counted and that the keys' slots had not foretold, or the other way round.
    pub fn unforeseen(&self) -> u64 {
        self.counted.iter().zip(&self.predicted).map(|(counted, predicted)| counted.abs_diff(*predicted)).sum()
    }

    /// What each node counted, a group of bars for each of these runs.
    pub fn chart(title: &str, runs: &[(&str, &Self)]) -> Bars {
        let mut chart = Chart::bars(title).y("commands", "");
        for (name, run) in runs {
            chart = chart.group(name);
            for (node, (counted, predicted)) in run.nodes.iter().zip(run.counted.iter().zip(&run.predicted)) {
                chart = chart.bar(node, counted).predicted(node, predicted);
            }
        }
        chart
    }
}

/// The prototype's script: so many SETs and GETs, pipelined by a hundred.
pub fn traffic(cluster: &RedisCluster, naming: Naming, keys: usize) -> Traffic {
    try_traffic(cluster, naming, keys).or_fail()
}

fn try_traffic(cluster: &RedisCluster, naming: Naming, keys: usize) -> Result<Traffic> {
    let options = ClientOptions::of(cluster);
    let mut client = options.connect()?;
    let mut meter = Meter::on(&options)?;
    let names: Vec<String> = (0..keys).map(|index| naming.key(index)).collect();
    let masters: Vec<String> = client.map().masters().into_iter().map(str::to_owned).collect();
    let held = |master: &String| {
        2 * names.iter().filter(|name| client.map().owner(slot_of(name)) == Some(master.as_str())).count() as u64
    };
    let predicted = masters.iter().map(held).collect();
    let (wrong, metered) = meter.measure(|| -> Result<u64> {
        let mut wrong = 0;
        for names in names.chunks(100) {
            let sets: Vec<Request> = names
                .iter()
                .map(|name| Request::repeatable_write(["SET", name, &format!("value of {name}")]))
                .collect();
            let gets: Vec<Request> = names.iter().map(|name| Request::read(["GET", name])).collect();
            for answer in client.call_many(&sets) {
                answer?;
            }
            for (answer, name) in client.call_many(&gets).into_iter().zip(names) {
                wrong += u64::from(answer? != Value::BulkString(format!("value of {name}").into_bytes()));
            }
        }
        Ok(wrong)
    })?;
    let cpu = metered.cpu();
    let whole: f64 = cpu.iter().sum();
    Ok(Traffic {
        nodes: (1..=masters.len()).map(|number| format!("node {number}")).collect(),
        counted: metered.calls(&["set", "get"]),
        predicted,
        cpu: cpu.iter().map(|cpu| 100.0 * cpu / whole).collect(),
        wrong: wrong?,
    })
}

/// How many of the traffic's keys the `redis` crate's own cluster client finds, with the values that ours wrote.
pub fn found_by_the_crate(cluster: &RedisCluster, naming: Naming, keys: usize) -> u64 {
    let find = || -> Result<u64> {
        let operation = "read with the redis crate's cluster client";
        let mut connection =
            ClusterClient::new(cluster.urls()).and_then(|client| client.get_connection()).doing(operation)?;
        let names: Vec<String> = (0..keys).map(|index| naming.key(index)).collect();
        let mut found = 0;
        for names in names.chunks(500) {
            let mut pipeline = redis::cluster::cluster_pipe();
            for name in names {
                pipeline.cmd("GET").arg(name);
            }
            let values: Vec<Option<String>> = pipeline.query(&mut connection).doing(operation)?;
            found +=
                values.iter().zip(names).filter(|(value, name)| **value == Some(format!("value of {name}"))).count();
        }
        Ok(found as u64)
    };
    find().or_fail()
}

/// What a cluster says to one command that names two keys, for each of these pairs.
pub fn two_keys_in_one_command(cluster: &RedisCluster, pairs: &[[&str; 2]]) -> Table {
    let mut client = ClientOptions::of(cluster).connect().or_fail();
    let mut says =
        |[one, other]: &[&str; 2]| match client.call(&Request::repeatable_write(["MSET", one, "1", other, "2"])) {
            Ok(_) => "done".to_owned(),
            Err(failure) => Error::from(failure).cause().to_owned(),
        };
    Table::new("Two keys in one command")
        .text("command", pairs.iter().map(|[one, other]| format!("MSET {one} … {other} …")))
        .text("the cluster says", pairs.iter().map(&mut says))
}

/// Per cent of so many random keys whose parts `key:0`, `key:1`, … (ten at most) are all on different masters.
pub fn suffixes_that_spread(map: &SlotMap, keys: usize, parts: usize, rng: &mut Rng) -> f64 {
    let spread = |key: String| {
        let split = SplitKey::naive(&key, parts).or_fail();
        on_different_masters(map, split.parts().iter().map(slot_of))
    };
    100.0 * (0..keys).filter(|_| spread(rng.word(10))).count() as f64 / keys as f64
}

/// The same by theory. A CRC is linear: the slots of keys that differ in their last digit differ by the same bits whatever the
/// key is, so all slots that the first can have are all cases that there are.
pub fn suffixes_that_should_spread(map: &SlotMap, parts: usize) -> f64 {
    let bits = |part: usize| slot_of(format!("{part}")) ^ slot_of("0");
    let spread = |first: &u16| on_different_masters(map, (0..parts).map(|part| first ^ bits(part)));
    100.0 * (0..SLOTS).filter(spread).count() as f64 / f64::from(SLOTS)
}

fn on_different_masters(map: &SlotMap, slots: impl Iterator<Item = u16>) -> bool {
    let mut owners: Vec<Option<&str>> = slots.map(|slot| map.owner(slot)).collect();
    let parts = owners.len();
    owners.sort_unstable();
    owners.dedup();
    owners.len() == parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_differ_in_the_last_digit_are_the_same_bits_apart() {
        let mut rng = Rng::seeded(1, "suffixes");
        for _ in 0..1_000 {
            let key = rng.word(8);
            let slot = |part: usize| slot_of(format!("{key}:{part}"));
            assert_eq!((slot(0) ^ slot(1), slot(0) ^ slot(2)), (4_129, 8_258), "{key}");
        }
    }
}

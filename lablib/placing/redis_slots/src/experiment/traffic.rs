//! Which slot, and what follows from it: the prototype's traffic, node by node.

use std::collections::BTreeSet;

use redis::Value;
use redis::cluster::ClusterClient;
use redis::cluster_routing::Slot;

use super::answers;
use crate::{ClientOptions, Meter, Request, SLOTS, SlotMap, SplitKey, slot_of, slot_without_tags};
use lab::service::RedisCluster;
use lab::{Doing, Error, Frame, Result, Rng};

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

/// The slots of keys, as the server says.
pub fn slots_by_the_server(cluster: &RedisCluster, keys: &[impl AsRef<[u8]>]) -> Result<Vec<u16>> {
    let operation = "ask for the slots of keys";
    let node = cluster.nodes().first().ok_or_else(|| Error::new(operation, "the cluster has no nodes"))?;
    let mut connection = redis::Client::open(node.url()).and_then(|client| client.get_connection()).doing(operation)?;
    let mut slots = Vec::with_capacity(keys.len());
    for keys in keys.chunks(500) {
        let mut pipeline = redis::pipe();
        for key in keys {
            pipeline.cmd("CLUSTER").arg("KEYSLOT").arg(key.as_ref());
        }
        slots.extend(pipeline.query::<Vec<u16>>(&mut connection).doing(operation)?);
    }
    Ok(slots)
}

/// Who agrees with the server about the slots of keys: a row for each `function`, how many keys it puts where the server does (`of
/// the keys`), and per cent of all (`share`).
pub fn check_slots(cluster: &RedisCluster, keys: &[Vec<u8>]) -> Result<Frame> {
    type Function = fn(&[u8]) -> Option<Slot>;
    let functions: [(&str, Function); 3] = [
        ("without hash tags", |key| Slot::new(slot_without_tags(key))),
        ("ours", |key| Slot::new(slot_of(key))),
        ("the redis crate's", |key| Some(Slot::for_key(key))),
    ];
    let slots: Vec<Option<Slot>> = slots_by_the_server(cluster, keys)?.into_iter().map(Slot::new).collect();
    let agree = |function: Function| keys.iter().zip(&slots).filter(|(key, slot)| function(key) == **slot).count();
    Ok(Frame::new()
        .text("function", functions.map(|(name, _)| name))
        .counts("of the keys", "", functions.map(|(_, function)| agree(function) as u64))
        .computed("share", "%", |row| 100.0 * row.number("of the keys") / keys.len() as f64))
}

/// Where the masters' slots lie.
pub fn slots_of(cluster: &RedisCluster) -> Result<SlotMap> {
    Ok(ClientOptions::of(cluster).connect()?.map().clone())
}

fn named(prefix: &str, keys: usize) -> Vec<String> {
    (0..keys).map(|index| format!("{prefix}{index}")).collect()
}

/// The prototype's script, for each of these names (`keys`): so many SETs and GETs, pipelined by a hundred. A row for each master
/// (`node`): `commands` that it counted itself, and those that the keys' slots say it should get (`predicted`); values that came back
/// other than they went in (`wrong`), from anywhere.
pub fn traffic(cluster: &RedisCluster, prefixes: &[&str], keys: usize) -> Result<Frame> {
    let options = ClientOptions::of(cluster);
    let (mut client, mut meter) = (options.connect()?, Meter::on(&options, &["set", "get"])?);
    let mut run = |prefix: &&str| -> Result<Frame> {
        let names = named(prefix, keys);
        let held = |master: &str| names.iter().filter(|name| client.map().owner(slot_of(name)) == Some(master)).count();
        let predicted: Vec<u64> = client.map().masters().into_iter().map(|master| 2 * held(master) as u64).collect();
        let (wrong, counted) = meter.measure(|| -> Result<u64> {
            let mut wrong = 0;
            for names in names.chunks(100) {
                let set = |name: &String| Request::repeatable_write(["SET", name, &format!("value of {name}")]);
                answers(&mut client, names.iter().map(set))?;
                let values = answers(&mut client, names.iter().map(|name| Request::read(["GET", name])))?;
                let right =
                    |(value, name): &(Value, &String)| *value == Value::BulkString(format!("value of {name}").into());
                wrong += values.into_iter().zip(names).filter(|one| !right(one)).count() as u64;
            }
            Ok(wrong)
        })?;
        let masters = counted.filter("role", "master").select(["node", "commands", "CPU"]);
        Ok(masters.counts("predicted", "", predicted).everywhere("keys", "", *prefix).everywhere("wrong", "", wrong?))
    };
    prefixes.iter().map(&mut run).collect()
}

/// How many of the traffic's keys the `redis` crate's own cluster client finds, with the values that ours wrote.
pub fn found_by_the_crate(cluster: &RedisCluster, prefix: &str, keys: usize) -> Result<u64> {
    let operation = "read with the redis crate's cluster client";
    let mut connection =
        ClusterClient::new(cluster.urls()).and_then(|client| client.get_connection()).doing(operation)?;
    let mut found = 0;
    for names in named(prefix, keys).chunks(500) {
        let mut pipeline = redis::cluster::cluster_pipe();
        for name in names {
            pipeline.cmd("GET").arg(name);
        }
        let values: Vec<Option<String>> = pipeline.query(&mut connection).doing(operation)?;
        found += values.iter().zip(names).filter(|(value, name)| **value == Some(format!("value of {name}"))).count();
    }
    Ok(found as u64)
}

/// What a cluster says to one command that names two keys, for each of these pairs.
pub fn two_keys_in_one_command(cluster: &RedisCluster, pairs: &[[&str; 2]]) -> Result<Frame> {
    let mut client = ClientOptions::of(cluster).connect()?;
    let says = |[one, other]: &[&str; 2]| {
        let said = client.call(&Request::repeatable_write(["MSET", one, "1", other, "2"]));
        said.map_or_else(|failure| Error::from(failure).cause().to_owned(), |_| "done".into())
    };
    Ok(Frame::new()
        .text("command", pairs.iter().map(|[one, other]| format!("MSET {one} … {other} …")))
        .text("the cluster says", pairs.iter().map(says)))
}

/// Per cent of so many random keys whose parts `key:0`, `key:1`, … (ten at most) are all on different masters.
pub fn suffixes_that_spread(map: &SlotMap, keys: usize, parts: usize, rng: &mut Rng) -> Result<f64> {
    let mut spread = 0;
    for _ in 0..keys {
        let split = SplitKey::naive(&rng.word(10), parts)?;
        spread += usize::from(on_different_masters(map, split.parts().iter().map(slot_of)));
    }
    Ok(100.0 * spread as f64 / keys as f64)
}

/// The same by theory. A CRC is linear: the slots of keys that differ in their last digit differ by the same bits whatever the
/// key is, so all slots that the first can have are all cases that there are.
pub fn suffixes_that_should_spread(map: &SlotMap, parts: usize) -> f64 {
    let bits = |part: usize| slot_of(format!("{part}")) ^ slot_of("0");
    let spread = |first: &u16| on_different_masters(map, (0..parts).map(|part| first ^ bits(part)));
    100.0 * (0..SLOTS).filter(spread).count() as f64 / f64::from(SLOTS)
}

fn on_different_masters(map: &SlotMap, slots: impl Iterator<Item = u16>) -> bool {
    let owners: Vec<Option<&str>> = slots.map(|slot| map.owner(slot)).collect();
    BTreeSet::from_iter(&owners).len() == owners.len()
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

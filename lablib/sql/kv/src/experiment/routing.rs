//! Where keys live, and where they are looked for after a restart.

use super::databases;
use crate::{SaltedRoute, Store, range_route, shard_of};
use lab::service::MariaDb;
use lab::{Frame, Progress, Result, Rng, Samples};

/// Puts keys on shards, by either route, and looks for them as a new process would. A row for each `route`, by a `salted hash` as the
/// prototype's and by `this store`: keys that were `put`, that are `there`, and how many that is (`found`, %).
pub fn restarted(server: &MariaDb, shards: usize, keys: u64) -> Result<Frame> {
    let (urls, tables) = (databases(server, shards)?, databases(server, shards)?);
    let key = |number: u64| format!("user:{number}").into_bytes();
    // A store of a single shard stands for one table of the prototype: the route is the prototype's.
    let prototype = || tables.iter().map(|url| Store::create(&[url])).collect::<Result<Vec<Store>>>();
    let mut progress = Progress::new("put keys, and look for them", 2);
    let (writer, reader) = (SaltedRoute::of_a_new_process(), SaltedRoute::of_a_new_process());
    let mut salted = prototype()?;
    let mut ours = Store::create(&urls)?;
    for number in 0..keys {
        let key = key(number);
        salted[writer.shard_of(&key, shards)].put(&key, b"1", None)?;
        ours.put(&key, b"1", None)?;
    }
    progress.step();
    let (mut salted, mut ours) = (prototype()?, Store::open(&urls)?);
    let (mut by_salt, mut by_ours) = (0, 0);
    for number in 0..keys {
        let key = key(number);
        by_salt += u64::from(salted[reader.shard_of(&key, shards)].get(&key)?.is_some());
        by_ours += u64::from(ours.get(&key)?.is_some());
    }
    progress.step();
    Ok(Frame::new()
        .text("route", ["salted hash", "this store"])
        .counts("put", "", [keys, keys])
        .counts("there", "", [by_salt, by_ours])
        .computed("found", "%", |route| 100.0 * route.number("there") / keys as f64))
}

/// How keys are spread over five shards, by the prototype's `ranges of letters` and by `this store`: a row for each `route` and `table`, its
/// share of the `keys` (%). The keys begin with any of the 63 letters, digits and `_` alike.
pub fn shares(keys: u64, seed: u64) -> Frame {
    const SHARDS: usize = 5;
    let letters: Vec<u8> = (b'0'..=b'9').chain(b'a'..=b'z').chain(b'A'..=b'Z').chain([b'_']).collect();
    let mut rng = Rng::seeded(seed, "keys");
    let mut counts = [("ranges of letters", [0.0; SHARDS]), ("this store", [0.0; SHARDS])];
    for number in 0..keys {
        let key = format!("{}:{number}", letters[rng.below(letters.len() as u64) as usize] as char);
        counts[0].1[range_route(key.as_bytes())] += 100.0 / keys as f64;
        counts[1].1[shard_of(key.as_bytes(), SHARDS)] += 100.0 / keys as f64;
    }
    let by_route = counts.into_iter().map(|(route, shares)| {
        let tables = Frame::new().text("table", (0..SHARDS).map(|table| format!("table {table}")));
        tables.numbers("keys", "%", shares).everywhere("route", "", route)
    });
    by_route.collect()
}

/// The per cent of keys that move when a shard is added to so many: with a remainder of the hash, and in this store. One
/// sample for each set of keys.
pub fn moved(shards: usize, keys: u64, sets: u64) -> (Samples, Samples) {
    let moved = |of: &dyn Fn(&[u8], usize) -> usize, set: u64| {
        let count = (0..keys).filter(|number| {
            let key = format!("{set}:{number}").into_bytes();
            of(&key, shards) != of(&key, shards + 1)
        });
        100.0 * count.count() as f64 / keys as f64
    };
    let remainder = |key: &[u8], shards: usize| (xxhash_rust::xxh3::xxh3_64(key) % shards as u64) as usize;
    ((0..sets).map(|set| moved(&remainder, set)).collect(), (0..sets).map(|set| moved(&shard_of, set)).collect())
}

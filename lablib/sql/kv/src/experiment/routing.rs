//! Where keys live, and where they are looked for after a restart.

use super::databases;
use crate::{SaltedRoute, Store, range_route, shard_of};
use lab::service::MariaDb;
use lab::{Progress, Result, Rng, Samples};

/// What a new process finds of what another one has put.
#[derive(Debug, Clone, Copy)]
pub struct Restarted {
    /// Keys that were put and acknowledged.
    pub put: u64,
    /// Found by a new process whose hash is salted anew.
    pub salted: u64,
    /// Found by a new process of this store.
    pub ours: u64,
}

/// Puts keys on shards, by either route, and looks for them as a new process would.
pub fn restarted(server: &MariaDb, shards: usize, keys: u64) -> Result<Restarted> {
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
    let mut found = Restarted { put: keys, salted: 0, ours: 0 };
    for number in 0..keys {
        let key = key(number);
        found.salted += u64::from(salted[reader.shard_of(&key, shards)].get(&key)?.is_some());
        found.ours += u64::from(ours.get(&key)?.is_some());
    }
    progress.step();
    Ok(found)
}

/// How keys are spread over shards: by the prototype's ranges of first letters over five tables, and by this store over as
/// many; in per cent. The keys begin with any of the 63 letters, digits and `_` alike.
pub fn shares(keys: u64, seed: u64) -> (Vec<f64>, Vec<f64>) {
    const SHARDS: usize = 5;
    let letters: Vec<u8> = (b'0'..=b'9').chain(b'a'..=b'z').chain(b'A'..=b'Z').chain([b'_']).collect();
    let mut rng = Rng::seeded(seed, "keys");
    let (mut ranges, mut ours) = (vec![0.0; SHARDS], vec![0.0; SHARDS]);
    for number in 0..keys {
        let key = format!("{}:{number}", letters[rng.below(letters.len() as u64) as usize] as char);
        ranges[range_route(key.as_bytes())] += 100.0 / keys as f64;
        ours[shard_of(key.as_bytes(), SHARDS)] += 100.0 / keys as f64;
    }
    (ranges, ours)
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

//! The server is killed while clients put.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::databases;
use crate::Store;
use lab::link::Direction;
use lab::service::MariaDb;
use lab::{Crowd, Error, Link, Result};

/// Puts of each client that must be refused before it has seen enough of a server that is down.
const REFUSALS: usize = 10;

/// What was found after the server's restart.
#[derive(Debug, Clone)]
pub struct Survived {
    /// Puts that were acknowledged.
    pub acknowledged: u64,
    /// Those of them that are not there, or with another value.
    pub lost: u64,
    pub in_doubt: u64,
    /// Those of them that are there.
    pub happened: u64,
    /// Puts that were refused.
    pub refused: u64,
    /// Those of them that are there all the same.
    pub refused_and_there: u64,
    /// What a client was told of a put in doubt, and of one that was refused.
    pub told: [String; 2],
    /// Connections of the clients' that the server still has after they are gone.
    pub connections_left: u64,
}

/// What became of a client's puts; keys are numbers.
#[derive(Default)]
struct Told {
    acknowledged: Vec<u64>,
    in_doubt: Vec<u64>,
    refused: Vec<u64>,
    words: [String; 2],
}

/// Kills a server with `kill -9` after so many acknowledged puts, starts it again, and looks; the same clients go on then.
///
/// Half of the clients stop hearing the server's answers a moment before: so there are puts that have happened and of which
/// their clients cannot know it. And all of them go on putting while the server is down, so there are some that are refused.
pub fn survives(server: &MariaDb, clients: usize, after: u64) -> Result<Survived> {
    let nobody = || Error::new("kill a server under its clients", "there is no client");
    if clients == 0 {
        return Err(nobody());
    }
    let direct = databases(server, 2)?;
    Store::create(&direct)?;
    // Every other client has a link to itself.
    let links = (0..clients).step_by(2).map(|_| Link::to(server.address())).collect::<Result<Vec<_>>>()?;
    let open = |client: usize| match client % 2 {
        0 => Store::open(&through(&links[client / 2], server, &direct)),
        _ => Store::open(&direct),
    };
    let mut stores = (0..clients).map(open).collect::<Result<Vec<_>>>()?;
    // The key that each client is at.
    let at: Vec<AtomicU64> = (0..clients as u64).map(AtomicU64::new).collect();
    let ran = Crowd::holding(stores.iter_mut().map(|store| (store, Told::default())))
        .times(u64::MAX)
        .once(after, "killed", || {
            for (link, key) in links.iter().zip(at.iter().step_by(2)) {
                link.half_open_toward(Direction::ToClient);
                until_it_has_happened_unheard(&direct, link, key)?;
            }
            server.try_kill()?;
            // Healing alone would let the answers pass that were held.
            for link in &links {
                link.cut_connections().heal();
            }
            Ok(())
        })
        .run(|(store, told), call| {
            let at = &at[call.client()];
            let key = at.load(Ordering::Relaxed);
            match store.put(&name(key), &value(key), None) {
                Ok(_) => told.acknowledged.push(key),
                Err(failure) => {
                    let [in_doubt, refused] = &mut told.words;
                    let (keys, words) = match failure.may_have_happened() {
                        true => (&mut told.in_doubt, in_doubt),
                        false => (&mut told.refused, refused),
                    };
                    keys.push(key);
                    *words = failure.to_string();
                }
            }
            at.fetch_add(clients as u64, Ordering::Relaxed);
            if told.refused.len() == REFUSALS {
                call.last();
            }
            Ok(())
        })?;
    let told: Vec<Told> = ran.states.into_iter().map(|(_, told)| told).collect();
    server.try_restart()?;
    let store = stores.last_mut().ok_or_else(nobody)?;
    let mut there = |keys: &[u64]| -> Result<u64> {
        let found = keys.iter().map(|&key| Ok(store.get(&name(key))?.is_some_and(|entry| entry.value == value(key))));
        Ok(found.collect::<Result<Vec<bool>>>()?.into_iter().map(u64::from).sum())
    };
    let mut survived = Survived {
        acknowledged: 0,
        lost: 0,
        in_doubt: 0,
        happened: 0,
        refused: 0,
        refused_and_there: 0,
        told: told.first().map(|told| told.words.clone()).unwrap_or_default(),
        connections_left: 0,
    };
    for told in &told {
        survived.acknowledged += told.acknowledged.len() as u64;
        survived.lost += told.acknowledged.len() as u64 - there(&told.acknowledged)?;
        survived.in_doubt += told.in_doubt.len() as u64;
        survived.happened += there(&told.in_doubt)?;
        survived.refused += told.refused.len() as u64;
        survived.refused_and_there += there(&told.refused)?;
    }
    let connections = || -> Result<u64> {
        let sql = "SELECT COUNT(*) FROM information_schema.processlist WHERE db LIKE 'kv\\_%'";
        Ok(server.ask(sql)?.parse().unwrap_or(u64::MAX))
    };
    drop(stores);
    // A server hears of a connection's end a moment after its client.
    for _ in 0..200 {
        survived.connections_left = connections()?;
        if survived.connections_left == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(survived)
}

fn name(key: u64) -> Vec<u8> {
    format!("key:{key}").into_bytes()
}

fn value(key: u64) -> [u8; 8] {
    key.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

fn through(link: &Link, server: &MariaDb, urls: &[String]) -> Vec<String> {
    urls.iter().map(|url| url.replace(server.address(), link.address())).collect()
}

/// Until the key that a client is at has been put, and the answer is held.
fn until_it_has_happened_unheard(urls: &[String], link: &Link, at: &AtomicU64) -> Result<()> {
    /// An answer that was let through just before is still on its client's way to the next key: look for longer than that.
    const LOOKS: usize = 50;
    let mut probe = Store::open(urls)?;
    let mut held = (u64::MAX, 0);
    for _ in 0..4_000 {
        let key = at.load(Ordering::Relaxed);
        // In this order: it is there, so what is on its way is not the question; and if it were the answer to an earlier one,
        // its client would be at another key.
        let is_held =
            probe.get(&name(key))?.is_some() && link.stats().in_flight > 0 && at.load(Ordering::Relaxed) == key;
        held = (key, if is_held && held.0 == key { held.1 + 1 } else { 0 });
        if held.1 == LOOKS {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(Error::new("hold a server's answers back", "no put happened without one"))
}

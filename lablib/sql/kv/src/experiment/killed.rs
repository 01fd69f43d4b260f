//! The server is killed while clients put.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::databases;
use crate::Store;
use lab::link::Direction;
use lab::service::MariaDb;
use lab::{Crowd, Error, Frame, Link, Result};

/// Puts of each client that must be refused before it has seen enough of a server that is down.
const REFUSALS: usize = 10;

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
///
/// One row: puts that were `acknowledged`, and those of them that are not there, or with another value (`lost`); puts `in doubt`, and those
/// of them that are there (`happened`); puts that were `refused`, and those of them that are there all the same (`refused and there`); what
/// a client was `told of doubt`, and `told of refusal`; and connections of the clients' that the server still has after they are gone
/// (`connections left`).
pub fn survives(server: &MariaDb, clients: usize, after: u64) -> Result<Frame> {
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
    let all = |of: fn(&Told) -> &Vec<u64>| told.iter().flat_map(of).copied().collect::<Vec<u64>>();
    let (acknowledged, in_doubt, refused) =
        (all(|told| &told.acknowledged), all(|told| &told.in_doubt), all(|told| &told.refused));
    let lost = acknowledged.len() as u64 - there(&acknowledged)?;
    let (happened, refused_and_there) = (there(&in_doubt)?, there(&refused)?);
    let connections = || -> Result<u64> {
        let sql = "SELECT COUNT(*) FROM information_schema.processlist WHERE db LIKE 'kv\\_%'";
        Ok(server.ask(sql)?.parse().unwrap_or(u64::MAX))
    };
    drop(stores);
    // A server hears of a connection's end a moment after its client.
    let mut connections_left = connections()?;
    for _ in 0..200 {
        if connections_left == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
        connections_left = connections()?;
    }
    let counts = [
        ("acknowledged", acknowledged.len() as u64),
        ("lost", lost),
        ("in doubt", in_doubt.len() as u64),
        ("happened", happened),
        ("refused", refused.len() as u64),
        ("refused and there", refused_and_there),
        ("connections left", connections_left),
    ];
    let survived = counts.into_iter().fold(Frame::new(), |row, (name, count)| row.counts(name, "", [count]));
    let [of_doubt, of_refusal] = told.first().map(|told| told.words.clone()).unwrap_or_default();
    Ok(survived.text("told of doubt", [of_doubt]).text("told of refusal", [of_refusal]))
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

//! The server is killed while clients put.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::databases;
use crate::lab::service::MariaDb;
use crate::lab::{OrFail, Result, joined};
use crate::sql::kv::{Failure, Store};

/// What was found after the server's restart.
#[derive(Debug, Clone)]
pub struct Survived {
    /// Puts that were acknowledged.
    pub acknowledged: u64,
    /// Those of them that are not there, or with another value.
    pub lost: u64,
    /// Puts in doubt.
    pub in_doubt: u64,
    /// Those of them that are there.
    pub happened: u64,
    /// Puts that were refused and are there all the same.
    pub refused_and_there: u64,
    /// What the first of the clients was told.
    pub told: String,
    /// Connections of the clients' that the server still has after they are gone.
    pub connections_left: u64,
}

/// Kills a server with `kill -9` after so many acknowledged puts, starts it again, and looks; the same clients go on then.
pub fn survives(server: &MariaDb, clients: usize, after: u64) -> Survived {
    let run = || -> Result<Survived> {
        let urls = databases(server, 2);
        Store::create(&urls)?;
        let heard = AtomicU64::new(0);
        let mut stores = (0..clients).map(|_| Store::open(&urls)).collect::<Result<Vec<_>>>()?;
        let name = |key: u64| format!("key:{key}").into_bytes();
        let value = |key: u64| key.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        let put_until_told = |client: usize, store: &mut Store| -> Result<(Vec<u64>, u64, Failure)> {
            let (mut acknowledged, mut key) = (Vec::new(), client as u64);
            loop {
                match store.put(&name(key), &value(key), None) {
                    Ok(_) => acknowledged.push(key),
                    Err(failure) => return Ok((acknowledged, key, failure)),
                }
                heard.fetch_add(1, Ordering::Relaxed);
                key += clients as u64;
            }
        };
        let told: Vec<(Vec<u64>, u64, Failure)> = std::thread::scope(|scope| {
            let work = &put_until_told;
            let threads: Vec<_> =
                stores.iter_mut().enumerate().map(|(n, store)| scope.spawn(move || work(n, store))).collect();
            while heard.load(Ordering::Relaxed) < after && threads.iter().any(|thread| !thread.is_finished()) {
                std::thread::sleep(Duration::from_micros(500));
            }
            server.try_kill()?;
            threads.into_iter().map(|thread| joined("put", thread.join())).collect::<Result<_>>()
        })?;
        server.try_restart()?;
        let store = &mut stores[0];
        let mut survived = Survived {
            acknowledged: 0,
            lost: 0,
            in_doubt: 0,
            happened: 0,
            refused_and_there: 0,
            told: told.first().map_or_else(String::new, |(_, _, failure)| failure.to_string()),
            connections_left: 0,
        };
        for (acknowledged, last, failure) in &told {
            survived.acknowledged += acknowledged.len() as u64;
            for &key in acknowledged {
                let there = store.get(&name(key))?;
                survived.lost += u64::from(there.is_none_or(|entry| entry.value != value(key)));
            }
            let there = u64::from(store.get(&name(*last))?.is_some());
            if failure.may_have_happened() {
                survived.in_doubt += 1;
                survived.happened += there;
            } else {
                survived.refused_and_there += there;
            }
        }
        let connections = || -> Result<u64> {
            let sql = "SELECT COUNT(*) FROM information_schema.processlist WHERE db LIKE 'kv\\_%'";
            Ok(server.try_ask(sql)?.parse().unwrap_or(u64::MAX))
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
    };
    run().or_fail()
}

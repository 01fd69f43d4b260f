//! What the notebook does with a cluster: each step of it in a file of its own.

#![allow(missing_docs, reason = "a field is documented where its name leaves something open")]

mod failover;
mod hot_key;
mod moving;
mod staleness;
mod traffic;

pub use failover::*;
pub use hot_key::*;
pub use moving::*;
pub use staleness::*;
pub use traffic::*;

use std::time::{Duration, Instant};

use redis::Value;

use crate::{Client, ClientOptions, Failure, Request, SlotMap, slot_of};
use lab::{Error, Frame, Result};

/// A client that knows a replica of every master. The nodes list a replica only once they have heard, by gossip, that it
/// has received something.
fn with_replicas(options: &ClientOptions) -> Result<Client> {
    const PATIENCE: Duration = Duration::from_secs(20);
    let (asked, mut client) = (Instant::now(), options.connect()?);
    for master in client.map().masters().into_iter().map(str::to_owned).collect::<Vec<_>>() {
        let key = word_on(client.map(), &master)?;
        client.call(&Request::repeatable_write(["SET", &key, "hello"]))?;
    }
    loop {
        client.refresh()?;
        let lonely = client.map().masters().into_iter().find(|master| client.map().replicas(master).is_empty());
        match lonely {
            None => return Ok(client),
            Some(master) if asked.elapsed() > PATIENCE => {
                return Err(Error::new("find a replica of every master", "none is listed").at(master));
            }
            Some(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A word whose slot this master holds: a key, or the tag of many.
fn word_on(map: &SlotMap, master: &str) -> Result<String> {
    let word = (0..100_000).map(|number| format!("t{number}")).find(|word| map.owner(slot_of(word)) == Some(master));
    word.ok_or_else(|| Error::new("find a key for every master", "none was found").at(master))
}

/// Many requests at once, all of which must be answered.
fn answers(client: &mut Client, requests: impl IntoIterator<Item = Request>) -> Result<Vec<Value>> {
    let requests: Vec<Request> = requests.into_iter().collect();
    Ok(client.call_many(&requests).into_iter().collect::<Result<_, Failure>>()?)
}

/// All of a column.
fn sum(frame: &Frame, column: &str) -> f64 {
    frame.samples(column).values().iter().sum()
}

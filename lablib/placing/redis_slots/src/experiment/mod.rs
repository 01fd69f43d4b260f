//! What the notebook does with a cluster: each step of it in a file of its own.

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

use super::{Client, ClientOptions, Request, slot_of};
use lab::{Error, Result};

/// A client that knows a replica of every master. The nodes list a replica only once they have heard, by gossip, that it
/// has received something.
fn with_replicas(options: &ClientOptions) -> Result<Client> {
    const PATIENCE: Duration = Duration::from_secs(20);
    let (asked, mut client) = (Instant::now(), options.connect()?);
    for master in client.map().masters().into_iter().map(str::to_owned).collect::<Vec<_>>() {
        let key = (0..)
            .map(|number: u32| format!("hello:{number}"))
            .find(|key| client.map().owner(slot_of(key)) == Some(&master));
        client.call(&Request::repeatable_write(["SET", &key.unwrap_or_default(), "hello"]))?;
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

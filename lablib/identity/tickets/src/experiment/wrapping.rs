//! Ids made in the database: what happens to the 1,025th of a millisecond.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Watched, repeated};
use crate::seed::SeedShard;
use crate::{Audit, InstagramId, Issuer, Ledger, Numbering, ShardIds, Skip};
use lab::service::MariaDb;
use lab::{OrFail, Result};

/// Ids of one millisecond and of one statement, the prototype's way and ours.
#[derive(Debug, Clone)]
pub struct Wrapped {
    /// How many ids were asked for in one millisecond.
    pub asked: u64,
    /// How many of the prototype's came again.
    pub seed_again: u64,
    /// How many of ours.
    pub ours_again: u64,
    /// How many milliseconds ours took from the future.
    pub ours_ahead: u64,
    /// How many ids were asked for in one statement.
    pub at_once: u64,
    /// How many of the prototype's came again.
    pub seed_again_at_once: u64,
    /// How many of ours.
    pub ours_again_at_once: u64,
}

/// Asks a shard of each kind for so many ids while the clock stands, and for so many in one statement.
pub fn wrapped(server: &MariaDb, asked: u64, at_once: u64) -> Wrapped {
    let run = || -> Result<Wrapped> {
        let noon = 1_700_000_000_123;
        let (mut seed, ours) = (SeedShard::create(server, 5)?, ShardIds::create(server, 5)?);
        let mut issuer = ours.issuer();
        let own = issuer.ids_at(noon, asked)?;
        let last = own.iter().map(|id| InstagramId::of(*id).milliseconds).max().unwrap_or(noon);
        Ok(Wrapped {
            asked,
            seed_again: repeated(seed.ids_at(noon, asked)?),
            ours_again: repeated(own),
            ours_ahead: last - noon,
            at_once,
            seed_again_at_once: repeated(seed.ids_in_one_statement(at_once)?),
            ours_again_at_once: repeated(issuer.ids_in_one_statement(at_once)?),
        })
    };
    run().or_fail()
}

/// What clients received from several shards at once.
#[derive(Debug)]
pub struct Shards {
    /// What they received.
    pub ledger: Ledger,
    /// The same, judged.
    pub audit: Audit,
    /// Ids that name another shard than the one that made them.
    pub misnamed: u64,
    /// Ids whose time was still to come in the moment in which their client had them, by the client's clock, on the same machine.
    pub early: u64,
    /// How many shards there are.
    pub shards: u64,
}

/// Shards on these servers, so many on each, and a client for each shard. When the clients begin, each shard has used up all
/// ids of the next so many `milliseconds`, as after a burst.
pub fn shards(servers: &[MariaDb], on_each: u16, each: u64, milliseconds: u64) -> Shards {
    shards_without(servers, on_each, each, milliseconds, None)
}

/// The same, with a step left out.
pub fn shards_without(servers: &[MariaDb], on_each: u16, each: u64, milliseconds: u64, step: Option<Skip>) -> Shards {
    let run = || -> Result<Shards> {
        let mut shards = Vec::new();
        for (server, number) in servers.iter().flat_map(|server| (0..on_each).map(move |_| server)).zip(1..) {
            shards.push(ShardIds::create_without(server, number, step)?);
        }
        let early = AtomicU64::new(0);
        let seen = |id: u64| {
            early.fetch_add(u64::from(InstagramId::of(id).milliseconds > now()), Ordering::Relaxed);
        };
        let mut clients: Vec<_> = shards.iter().map(|shard| Watched { client: shard.issuer(), seen }).collect();
        for watched in &mut clients {
            // Connects first, so that what is used up is not over when the clients begin.
            watched.client.next_id()?;
            watched.client.ids_at(now() + milliseconds, 1)?;
        }
        let ledger = Ledger::draw(clients, each)?;
        let of_shard = |shard: &ShardIds, list: &[crate::Receipt]| {
            list.iter().filter(|receipt| InstagramId::of(receipt.id).shard != shard.shard()).count() as u64
        };
        let misnamed = shards.iter().zip(&ledger.clients).map(|(shard, list)| of_shard(shard, list)).sum();
        let (audit, early) = (ledger.audit(Numbering::Sparse), early.into_inner());
        Ok(Shards { audit, ledger, misnamed, early, shards: shards.len() as u64 })
    };
    run().or_fail()
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

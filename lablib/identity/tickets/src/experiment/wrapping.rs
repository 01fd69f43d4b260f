//! Ids made in the database: what happens to the 1,025th of a millisecond.

use super::repeated;
use crate::{InstagramId, Issuer, Ledger, Numbering, ShardIds, Skip, prototype, take};
use lab::clock::{Clock, SystemClock};
use lab::service::MariaDb;
use lab::{Crowd, Frame, Result};

/// Asks a shard of each kind for so many ids while the clock stands (`asked`), and for so many in one statement (`at_once`). A
/// row for each: by `whom`, `when`, how many were `asked` for, how many came `again`, and the `latest` millisecond, counted from
/// the one at which the clock stands.
pub fn wrapped(server: &MariaDb, asked: u64, at_once: u64) -> Result<Frame> {
    const NOON: u64 = 1_700_000_000_123;
    let mut prototype = prototype::Shard::create(server, 5)?;
    let mut ours = ShardIds::create(server, 5)?.issuer();
    let row = |whom: &str, when: &str, ids: Vec<u64>| {
        let latest = ids.iter().map(|id| InstagramId::of(*id).milliseconds).max().unwrap_or(NOON);
        let again = repeated(&Frame::new().text("id", &ids), "id") as u64;
        Frame::new()
            .text("whom", [whom])
            .text("when", [when])
            .counts("asked", "", [ids.len() as u64])
            .counts("again", "", [again])
            .numbers("latest", "ms", [latest as f64 - NOON as f64])
    };
    Ok([
        row("sequence % 1024", "in one millisecond", prototype.ids_at(NOON, asked)?),
        row("ours", "in one millisecond", ours.ids_at(NOON, asked)?),
        row("sequence % 1024", "in one statement", prototype.ids_in_one_statement(at_once)?),
        row("ours", "in one statement", ours.ids_in_one_statement(at_once)?),
    ]
    .into_iter()
    .collect())
}

/// Shards on these servers, so many on each, and a client for each shard. When the clients begin, each shard has used up all
/// ids of the next so many `milliseconds`, as after a burst. What they received, [in one row](Ledger::row); also how many ids name
/// another shard than the one that made them (`misnamed`), and how many were `early`: their time was still to come in the moment in
/// which their client had them, by the client's clock, on the same machine.
pub fn shards(servers: &[MariaDb], on_each: u16, each: u64, milliseconds: u64, skip: Option<Skip>) -> Result<Frame> {
    let mut clients = Vec::new();
    for (server, number) in servers.iter().flat_map(|server| (0..on_each).map(move |_| server)).zip(1..) {
        clients.push((number, ShardIds::create_without(server, number, skip)?.issuer()));
    }
    for (_, client) in &mut clients {
        // Connects first, so that what is used up is not over when the clients begin.
        client.next_id()?;
        client.ids_at(SystemClock.now_ms() + milliseconds, 1)?;
    }
    let ran = Crowd::holding(clients).times(each).run(|(shard, client), call| {
        let id = InstagramId::of(take(client, call)?);
        call.note("early", "", f64::from(u8::from(id.milliseconds > SystemClock.now_ms())));
        call.note("misnamed", "", f64::from(u8::from(id.shard != *shard)));
        Ok(())
    })?;
    let sum = |column: &str| ran.frame.samples(column).values().iter().sum();
    let (early, misnamed) = (sum("early"), sum("misnamed"));
    let ledger = Ledger { requests: ran.frame, ..Ledger::default() };
    Ok(ledger.row(Numbering::Sparse, 0).numbers("early", "", [early]).numbers("misnamed", "", [misnamed]))
}

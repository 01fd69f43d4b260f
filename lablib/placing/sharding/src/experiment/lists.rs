//! Lists over all shards: with a deadline that one of them misses, and page by page.

use std::collections::HashMap;
use std::time::Duration;

use super::users;
use crate::{Cluster, Cursor, Gatherer, Page, Policy, User};
use lab::service::MariaDb;
use lab::{Crowd, Error, Frame, Link, Result};

/// Lists while one shard is slow.
#[derive(Debug, Clone, Copy)]
pub struct DeadlineSpec {
    /// Users in a list.
    pub count: u64,
    /// How long a list may take.
    pub deadline: Duration,
    /// By how much a link delays the slow shard, each way.
    pub delay: Duration,
    /// Lists of each kind.
    pub lists: u64,
}

/// Puts a link in front of the last instance, and reads lists with the link as it is and with the link slow.
///
/// A row for each list: `how` it was asked for; `took` (s); `refused` (why), if it was; whether it `named` the slow shard and
/// all the slots that it lacked, and no others; whether its rows were `exact`ly the best of the slots that it had; and the slots that
/// it named as `missing`. Ways: `all shards well`; `one slow, with a deadline`; `one slow, whole or nothing`; `one slow, without`.
pub fn deadlines(cluster: &Cluster, servers: &[MariaDb], spec: DeadlineSpec) -> Result<Frame> {
    let DeadlineSpec { count, deadline, delay, lists } = spec;
    let names = cluster.names();
    let slow = names.last().zip(servers.get(names.len().saturating_sub(1)));
    let (&slow, server) = slow.ok_or_else(|| Error::new("slow a shard down", "there is none"))?;
    let link = Link::to(server.address())?;
    let linked = cluster.through(slow, server.address(), link.address())?;
    let mut everybody: Vec<User> = cluster.audit()?.rows.into_values().flatten().map(|(_, user)| user).collect();
    everybody.sort_by_key(|user| std::cmp::Reverse((user.score, user.id)));
    let map = cluster.map()?;
    let best = |without: &[&str]| -> Vec<User> {
        let rows = everybody.iter().filter(|user| !without.contains(&map.owner_of(user.id)));
        rows.take(count as usize).cloned().collect()
    };
    let mut gatherer = Gatherer::new(&linked)?;
    let (patience, few) = (Duration::from_secs(10), lists.div_ceil(6));
    let ways = [
        ("all shards well", Duration::ZERO, lists, patience, Policy::Whole),
        ("one slow, with a deadline", delay, lists, deadline, Policy::Partial),
        ("one slow, whole or nothing", delay, few, deadline, Policy::Whole),
        ("one slow, without", delay, few, patience, Policy::Partial),
    ];
    let mut ask = |(how, delay, lists, deadline, policy): (&str, Duration, u64, Duration, Policy)| {
        link.delay(delay);
        let ran = Crowd::holding([&mut gatherer]).times(lists).run(|gatherer, call| {
            let list = match gatherer.top(count, deadline, policy) {
                Err(error) if how == "one slow, whole or nothing" => {
                    call.tag("refused", error);
                    return Ok(());
                }
                list => list?,
            };
            let missing: Vec<&str> = list.missing.iter().map(|missing| missing.instance.as_str()).collect();
            let owned: u64 = missing.iter().map(|name| map.counts().get(*name).copied().unwrap_or(0)).sum();
            // On a busy machine a shard that is well may also be late; then it has to be named, too.
            let named = missing.contains(&slow) && list.slots_missing() == owned;
            call.note("named", "", f64::from(named));
            call.note("exact", "", f64::from(list.rows == best(&missing)));
            call.note("missing", "", list.slots_missing() as f64);
            Ok(())
        })?;
        Ok(ran.frame.everywhere("how", "", how))
    };
    ways.into_iter().map(&mut ask).collect()
}

/// Loads `rows` users on a cluster of all these servers, and reads pages of `limit` users at several depths, both ways: a row for each,
/// with its `depth` (users before the page), its `way` (OFFSET or cursor), the `rows read` by all shards for it, and whether it is
/// `right`. Also how many users a walk over all pages with a cursor sees once.
pub fn pages(servers: &[MariaDb], rows: u64, limit: u64, depths: &[u64], seed: u64) -> Result<(Frame, u64)> {
    let cluster = Cluster::create(servers, servers.len(), 1_024)?;
    let mut all = users(rows, seed);
    cluster.load(&all)?;
    all.sort_by_key(|user| std::cmp::Reverse((user.score, user.id)));
    let patience = Duration::from_secs(60);
    let mut gatherer = Gatherer::new(&cluster)?.counting();
    let mut read = |(depth, way): (u64, &str)| -> Result<Frame> {
        let before = (depth as usize).checked_sub(1).and_then(|last| all.get(last));
        let cursor = before.map(|user| Cursor { score: user.score, id: user.id });
        let page = if way == "OFFSET" { Page::Offset(depth) } else { Page::After(cursor) };
        let list = gatherer.page(page, limit, patience, Policy::Whole)?;
        let right = list.rows.iter().eq(all.iter().skip(depth as usize).take(limit as usize));
        Ok(Frame::new()
            .counts("depth", "", [depth])
            .text("way", [way])
            .counts("rows read", "", [list.rows_read])
            .counts("right", "", [u64::from(right)]))
    };
    let read = depths.iter().flat_map(|&depth| [(depth, "OFFSET"), (depth, "cursor")]).map(&mut read);
    let read = read.collect::<Result<Frame>>()?;
    let (mut walker, mut cursor) = (Gatherer::new(&cluster)?, None);
    let mut times: HashMap<u64, u64> = HashMap::new();
    loop {
        let page = walker.page(Page::After(cursor), 1_000, patience, Policy::Whole)?;
        page.rows.iter().for_each(|user| *times.entry(user.id).or_default() += 1);
        let Some(next) = page.cursor() else { break };
        cursor = Some(next);
    }
    Ok((read, all.iter().filter(|user| times.get(&user.id) == Some(&1)).count() as u64))
}

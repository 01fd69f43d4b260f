//! Lists over all shards: with a deadline that one of them misses, and page by page.

use std::time::{Duration, Instant};

use super::users;
use crate::{Cluster, Cursor, Gatherer, Page, Policy, User};
use lab::chart::{Chart, Latencies};
use lab::service::MariaDb;
use lab::{Latency, Link, OrFail, Result, Samples};

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

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Deadlines {
    /// Lists asked for with the policy *partial*, while one shard was slow.
    pub partial_asked: u64,
    /// Those that said that they were partial, and named the slow shard with all its slots and nothing else.
    pub honest: u64,
    /// Those whose rows were exactly the best of the slots that they did not name as missing.
    pub exact: u64,
    /// Those that claimed to be whole and were not.
    pub silent: u64,
    /// Lists asked for with the policy *whole*, while one shard was slow.
    pub whole_asked: u64,
    /// Those that failed with an error, as they must.
    pub refused: u64,
    /// Such an error, in words.
    pub error: String,
    /// Lists that were asked for with all shards well, whole and right.
    pub well: u64,
    /// Slots missing of how many.
    pub missing: (u64, u64),
    /// How long lists took with all shards well.
    pub quick: Latency,
    /// How long they took with one shard slow and a deadline.
    pub cut_off: Latency,
    /// How long they took with one shard slow and no deadline to speak of.
    pub patient: Latency,
}

impl Deadlines {
    /// How long lists took: all well, cut off at the deadline, and without one.
    pub fn chart(&self, title: &str, spec: DeadlineSpec) -> Latencies {
        Chart::latencies(title)
            .subtitle(format!("The top {} of all users over all shards", spec.count))
            .latency("all shards well", &self.quick)
            .latency("one slow, with a deadline", &self.cut_off)
            .latency("one slow, without", &self.patient)
            .mark_x("deadline", spec.deadline)
    }
}

/// Puts a link in front of the last instance, and reads lists with the link as it is and with the link slow.
pub fn deadlines(cluster: &Cluster, servers: &[MariaDb], spec: DeadlineSpec) -> Deadlines {
    try_deadlines(cluster, servers, spec).or_fail()
}

fn try_deadlines(cluster: &Cluster, servers: &[MariaDb], spec: DeadlineSpec) -> Result<Deadlines> {
    let DeadlineSpec { count, deadline, delay, lists } = spec;
    let names = cluster.names();
    let Some((&slow, server)) = names.last().zip(servers.get(names.len() - 1)) else {
        return Ok(Deadlines::default());
    };
    let link = Link::to(server.address())?;
    let linked = cluster.through(slow, server.address(), link.address())?;
    let mut everybody: Vec<User> = cluster.audit()?.rows.into_values().flatten().map(|(_, user)| user).collect();
    everybody.sort_by_key(|user| std::cmp::Reverse((user.score, user.id)));
    let map = cluster.map()?;
    let best = |without: &[&str]| -> Vec<User> {
        let rows = everybody.iter().filter(|user| !without.contains(&map.owner_of(user.id)));
        rows.take(count as usize).cloned().collect()
    };
    let patience = Duration::from_secs(10);
    let mut seen = Deadlines { missing: (0, cluster.slots().into()), ..Deadlines::default() };
    let mut gatherer = Gatherer::new(&linked)?;

    for _ in 0..lists {
        let began = Instant::now();
        let list = gatherer.top(count, patience, Policy::Whole)?;
        seen.quick.record(began.elapsed());
        seen.well += u64::from(list.is_whole() && list.rows == best(&[]));
    }
    link.delay(delay);
    for _ in 0..lists {
        seen.partial_asked += 1;
        let began = Instant::now();
        let list = gatherer.top(count, deadline, Policy::Partial)?;
        seen.cut_off.record(began.elapsed());
        let missing: Vec<&str> = list.missing.iter().map(|missing| missing.instance.as_str()).collect();
        let slots: u64 = list.missing.iter().map(|missing| missing.slots.len() as u64).sum();
        let owned: u64 = missing.iter().map(|name| map.counts().get(*name).copied().unwrap_or(0)).sum();
        // On a busy machine a shard that is well may also be late; then it has to be named, too.
        seen.honest += u64::from(missing.contains(&slow) && slots == owned);
        seen.exact += u64::from(list.rows == best(&missing));
        seen.silent += u64::from(list.is_whole() && list.rows != best(&[]));
        seen.missing.0 = slots;
    }
    for _ in 0..lists.div_ceil(6) {
        seen.whole_asked += 1;
        if let Err(error) = gatherer.top(count, deadline, Policy::Whole) {
            seen.refused += 1;
            seen.error = error.to_string();
        }
        let began = Instant::now();
        let _ = gatherer.top(count, patience, Policy::Partial)?;
        seen.patient.record(began.elapsed());
    }
    Ok(seen)
}

/// What reading pages deep in a list costs.
#[derive(Debug, Clone)]
pub struct Pages {
    /// Users behind which each page begins.
    pub depths: Vec<u64>,
    /// Rows read by all shards for one page, with OFFSET.
    pub offset_rows: Vec<f64>,
    /// Rows read by all shards for the same page, with a cursor.
    pub cursor_rows: Vec<f64>,
    /// Rows sent by all shards, with OFFSET and with a cursor.
    pub sent: Vec<(f64, f64)>,
    /// Pages on which both ways, and the truth, agree.
    pub agreeing: u64,
    /// A walk over all pages with a cursor: users seen, users there are, users seen twice.
    pub walk: (u64, u64, u64),
}

/// Loads `rows` users on a cluster of all these servers, and reads pages of `limit` users at several depths, both ways.
pub fn pages(servers: &[MariaDb], rows: u64, limit: u64, depths: &[u64], seed: u64) -> Pages {
    try_pages(servers, rows, limit, depths, seed).or_fail()
}

fn try_pages(servers: &[MariaDb], rows: u64, limit: u64, depths: &[u64], seed: u64) -> Result<Pages> {
    let cluster = Cluster::create(servers, servers.len(), 1_024)?;
    let mut all = users(rows, seed);
    cluster.load(&all)?;
    all.sort_by_key(|user| std::cmp::Reverse((user.score, user.id)));
    let patience = Duration::from_secs(60);
    let mut gatherer = Gatherer::new(&cluster)?.counting();
    let mut pages = Pages {
        depths: depths.to_vec(),
        offset_rows: Vec::new(),
        cursor_rows: Vec::new(),
        sent: Vec::new(),
        agreeing: 0,
        walk: (0, rows, 0),
    };
    for &depth in depths {
        let before = (depth as usize).checked_sub(1).and_then(|last| all.get(last));
        let cursor = before.map(|user| Cursor { score: user.score, id: user.id });
        let truth: Vec<User> = all.iter().skip(depth as usize).take(limit as usize).cloned().collect();
        let by_offset = gatherer.page(Page::Offset(depth), limit, patience, Policy::Whole)?;
        let by_cursor = gatherer.page(Page::After(cursor), limit, patience, Policy::Whole)?;
        pages.agreeing += u64::from(by_offset.rows == truth && by_cursor.rows == truth);
        pages.offset_rows.push(by_offset.rows_read as f64);
        pages.cursor_rows.push(by_cursor.rows_read as f64);
        pages.sent.push((by_offset.rows_sent as f64, by_cursor.rows_sent as f64));
    }
    let mut walker = Gatherer::new(&cluster)?;
    let (mut seen, mut cursor) = (std::collections::HashSet::new(), None);
    loop {
        let page = walker.page(Page::After(cursor), 1_000, patience, Policy::Whole)?;
        let Some(next) = page.cursor() else { break };
        for user in &page.rows {
            pages.walk.0 += 1;
            pages.walk.2 += u64::from(!seen.insert(user.id));
        }
        cursor = Some(next);
    }
    Ok(pages)
}

impl Pages {
    /// Rows read with OFFSET by users before the page.
    pub fn by_offset(&self) -> Vec<(f64, f64)> {
        self.depths.iter().zip(&self.offset_rows).map(|(depth, rows)| (*depth as f64, *rows)).collect()
    }

    /// Rows read with a cursor by users before the page.
    pub fn by_cursor(&self) -> Vec<(f64, f64)> {
        self.depths.iter().zip(&self.cursor_rows).map(|(depth, rows)| (*depth as f64, *rows)).collect()
    }

    /// Rows read, over what arithmetic says: every shard reads the page, with OFFSET also what comes before it, and each
    /// row's fence. One sample for each depth and way.
    pub fn over_predicted(&self, shards: u64, limit: u64) -> Samples {
        let predicted = |depth: u64| (2 * shards * (depth + limit)) as f64;
        let offset = self.depths.iter().zip(&self.offset_rows).map(|(&depth, rows)| rows / predicted(depth));
        offset.chain(self.cursor_rows.iter().map(|rows| rows / predicted(0))).collect()
    }

    /// How many rows a page takes with OFFSET for each row that it takes with a cursor, at each depth.
    pub fn ratios(&self) -> Samples {
        self.offset_rows.iter().zip(&self.cursor_rows).map(|(offset, cursor)| offset / cursor).collect()
    }
}

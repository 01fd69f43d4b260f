//! How old is what a reader sees: from the master, from its own cache, from a replica, from a replica far away.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::Value;

use crate::{ClientOptions, Flaw, Request};
use lab::chart::{Chart, Latencies};
use lab::service::RedisCluster;
use lab::{Error, Latency, OrFail, Result, Samples, Table, joined, readable};

use super::with_replicas;

/// Where a reader reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From the key's master.
    Master,
    /// From a cache that the server keeps informed.
    Cache,
    /// From a cache that does not listen.
    DeafCache,
    /// From the master's replica.
    Replica,
}

/// One writer counts a version up; readers look at it all the time.
#[derive(Debug, Clone, Copy)]
pub struct StalenessSpec {
    /// Versions that are written.
    pub versions: u64,
    /// Time between two of them.
    pub every: Duration,
    /// How much the wire between the master and its replica is delayed, one way.
    pub delay: Duration,
    /// Writes that are read back from the delayed replica.
    pub own_writes: u64,
}

/// What the readers saw.
#[derive(Debug, Clone)]
pub struct Staleness {
    seen: Vec<Seen>,
    /// Reads of one's own writes.
    pub own: OwnWrites,
}

/// What one reader saw.
#[derive(Debug, Clone)]
struct Seen {
    name: String,
    /// From the moment at which a version was sent to the master to the end of the first read that saw it or a newer one.
    visible_after: Latency,
    /// How old the versions were that were not the newest any more: since the newer one was acknowledged.
    age: Latency,
    reads: u64,
    stale: u64,
    /// Reads of an old version long after the last one had been written.
    stuck: u64,
    /// Reads of a version older than one that this reader had seen before.
    backwards: u64,
}

struct Look {
    start: u64,
    end: u64,
    version: u64,
}

/// What decides the slot; every watch has a key of its own in it.
const KEY: &str = "hot:version";
/// Between two looks of a reader, so that it leaves the processor to the others.
const BREATH: Duration = Duration::from_micros(200);
/// After the last write, how long everything may take to get to everybody.
const GRACE: Duration = Duration::from_millis(250);

impl StalenessSpec {
    /// First all four sources with the replica nearby, then the replica behind a delayed wire.
    pub fn run(&self, cluster: &RedisCluster) -> Staleness {
        self.try_run(cluster).or_fail()
    }

    fn try_run(&self, cluster: &RedisCluster) -> Result<Staleness> {
        let master = cluster.master_for(KEY)?;
        let link = cluster.replicate_through_link(master)?;
        with_replicas(&ClientOptions::of(cluster))?;
        let near = [Source::Master, Source::Cache, Source::DeafCache, Source::Replica];
        let mut seen = self.watch(cluster, &near, "")?;
        link.delay(self.delay);
        let wire = format!(", {} ms away", self.delay.as_millis());
        seen.extend(self.watch(cluster, &[Source::Replica], &wire)?);
        let own = read_own_writes(cluster, self.own_writes)?;
        link.heal();
        cluster.replicate_directly(link)?;
        Ok(Staleness { seen, own })
    }

    fn watch(&self, cluster: &RedisCluster, sources: &[Source], wire: &str) -> Result<Vec<Seen>> {
        let options = ClientOptions::of(cluster);
        let mut writer = options.connect()?;
        // A far replica may still be busy with what was written before.
        let key = &format!("{{{KEY}}}{wire}");
        writer.call(&Request::repeatable_write(["SET", key, "0"]))?;
        let start = Instant::now();
        let now = || start.elapsed().as_nanos() as u64;
        let times = |_| AtomicU64::new(u64::MAX);
        let sent: Vec<AtomicU64> = (0..=self.versions).map(times).collect();
        let acknowledged: Vec<AtomicU64> = (0..=self.versions).map(times).collect();
        let over = AtomicBool::new(false);
        let (sent, acknowledged, over) = (&sent, &acknowledged, &over);
        let looks = std::thread::scope(|scope| -> Result<Vec<(Source, Vec<Look>)>> {
            let readers: Vec<_> = sources
                .iter()
                .map(|&source| {
                    let options = match source {
                        Source::Cache => options.clone().caching(Duration::from_secs(5)),
                        Source::DeafCache => {
                            options.clone().caching(Duration::from_secs(5)).flawed(Flaw::IgnoresInvalidations)
                        }
                        _ => options.clone(),
                    };
                    (source, scope.spawn(move || look(&options, source, key, over, &now)))
                })
                .collect();
            std::thread::sleep(Duration::from_millis(50));
            let written = (1..=self.versions).try_for_each(|version| -> Result<()> {
                sent[version as usize].store(now(), Ordering::SeqCst);
                writer.call(&Request::repeatable_write(["SET", key, &version.to_string()]))?;
                acknowledged[version as usize].store(now(), Ordering::SeqCst);
                std::thread::sleep(self.every);
                Ok(())
            });
            std::thread::sleep(GRACE + 2 * self.delay);
            let settled = now();
            std::thread::sleep(GRACE / 2);
            over.store(true, Ordering::SeqCst);
            let looks =
                readers.into_iter().map(|(source, reader)| Ok((source, joined("watch a version", reader.join())?)));
            let looks = looks.collect::<Result<Vec<_>>>();
            written?;
            acknowledged[0].store(settled, Ordering::SeqCst);
            looks
        })?;
        let settled = acknowledged[0].load(Ordering::SeqCst);
        let load = |times: &[AtomicU64]| times.iter().map(|time| time.load(Ordering::SeqCst)).collect::<Vec<u64>>();
        let (sent, acknowledged) = (load(sent), load(acknowledged));
        Ok(looks
            .into_iter()
            .map(|(source, looks)| Seen::of(source, wire, &looks, &sent, &acknowledged, settled))
            .collect())
    }
}

fn look(
    options: &ClientOptions,
    source: Source,
    key: &str,
    over: &AtomicBool,
    now: &(impl Fn() -> u64 + Sync),
) -> Result<Vec<Look>> {
    let mut client = options.connect()?;
    let request = match source {
        Source::Master => Request::read(["GET", key]),
        Source::Cache | Source::DeafCache => Request::cached(key),
        Source::Replica => Request::read(["GET", key]).from_replica(),
    };
    let mut looks = Vec::new();
    while !over.load(Ordering::SeqCst) {
        let start = now();
        let version = match client.call(&request)? {
            Value::BulkString(digits) => String::from_utf8_lossy(&digits).parse().ok(),
            // A replica that has just begun to follow has nothing yet.
            Value::Nil => Some(0),
            _ => None,
        };
        let version = version.ok_or_else(|| Error::new("watch a version", "the key holds something else").at(key))?;
        looks.push(Look { start, end: now(), version });
        std::thread::sleep(BREATH);
    }
    Ok(looks)
}

impl Seen {
    fn of(source: Source, wire: &str, looks: &[Look], sent: &[u64], acknowledged: &[u64], settled: u64) -> Self {
        let name = match source {
            Source::Master => "master",
            Source::Cache => "client cache",
            Source::DeafCache => "deaf cache",
            Source::Replica => "replica",
        };
        let mut seen = Self {
            name: format!("{name}{wire}"),
            visible_after: Latency::new(),
            age: Latency::new(),
            reads: looks.len() as u64,
            stale: 0,
            stuck: 0,
            backwards: 0,
        };
        let last = sent.len() as u64 - 1;
        let (mut next, mut newest) = (1, 0);
        for look in looks {
            while next <= last && look.version >= next {
                let visible = look.end.saturating_sub(sent[next as usize]);
                seen.visible_after.record(Duration::from_nanos(visible));
                next += 1;
            }
            seen.backwards += u64::from(look.version < newest);
            newest = newest.max(look.version);
            // Stale is what was overwritten, and the overwriting acknowledged, before the read began.
            if let Some(&overwritten) = acknowledged.get(look.version as usize + 1).filter(|&&time| time < look.start) {
                seen.stale += 1;
                seen.age.record(Duration::from_nanos(look.start - overwritten));
                seen.stuck += u64::from(look.start > settled);
            }
        }
        seen
    }
}

impl OwnWrites {
    /// How many were there, at once and after WAIT.
    pub fn table(&self, title: &str) -> Table {
        Table::new(title)
            .text("read", ["at once", "after WAIT 1"])
            .counts("writes", "", [self.writes, self.writes - self.not_confirmed])
            .counts("not there", "", [self.missed, self.missed_after_wait])
    }
}

impl Staleness {
    fn of(&self, source: &str) -> &Seen {
        let found = self.seen.iter().find(|seen| seen.name == source || seen.name.starts_with(&format!("{source},")));
        let missing = || Error::new(format!("find the reader {source:?}"), "there is none of that name");
        found.ok_or_else(missing).or_fail()
    }

    fn far(&self) -> &Seen {
        let found = self.seen.iter().find(|seen| seen.name.contains(" ms away"));
        found.ok_or_else(|| Error::new("find the far replica", "nobody watched it")).or_fail()
    }

    /// Stale reads of the master.
    pub fn stale_at_the_master(&self) -> u64 {
        self.of("master").stale
    }

    /// The cache's reads that were still stale when everything had long got to everybody.
    pub fn stuck_in_the_cache(&self) -> u64 {
        self.of("client cache").stuck
    }

    /// The same of the cache that does not listen.
    pub fn stuck_in_the_deaf_cache(&self) -> u64 {
        self.of("deaf cache").stuck
    }

    /// Reads of a version older than one that the same reader had seen before: over master and cache, and both replicas.
    pub fn backwards(&self) -> u64 {
        self.seen.iter().map(|seen| seen.backwards).sum()
    }

    /// The shortest time, in milliseconds, from sending a version to the master until a reader of the far replica saw it.
    pub fn soonest_far_away(&self) -> f64 {
        self.far().visible_after.percentile(0.0).as_secs_f64() * 1e3
    }

    /// What each reader saw, one a row.
    pub fn table(&self, title: &str) -> Table {
        let stale = |seen: &Seen| 100.0 * seen.stale as f64 / seen.reads as f64;
        Table::new(title)
            .text("reader", self.seen.iter().map(|seen| seen.name.clone()))
            .counts("reads", "", self.seen.iter().map(|seen| seen.reads))
            .numbers("overwritten before", "%", self.seen.iter().map(stale))
            .text(
                "such a value's age, median",
                self.seen.iter().map(|seen| match seen.stale {
                    0 => "–".to_owned(),
                    _ => readable(seen.age.p50()),
                }),
            )
            .counts("still old at the end", "", self.seen.iter().map(|seen| seen.stuck))
    }

    /// The same time for every reader that gets to see new versions.
    pub fn chart(&self, title: &str) -> Latencies {
        let living = self.seen.iter().filter(|seen| seen.visible_after.count() > 0);
        living.fold(Chart::latencies(title), |chart, seen| chart.latency(&seen.name, &seen.visible_after))
    }
}

/// Reads of one's own writes that came from a replica.
#[derive(Debug, Clone, Copy)]
pub struct OwnWrites {
    /// Writes, each read back at once.
    pub writes: u64,
    /// Reads that did not see the write.
    pub missed: u64,
    /// Reads that did not see it although WAIT had said that the replica has it.
    pub missed_after_wait: u64,
    /// Writes that WAIT could not vouch for in time.
    pub not_confirmed: u64,
}

impl OwnWrites {
    /// Reads that did not see what WAIT had vouched for; nothing measured where it vouched for nothing.
    pub fn missed_though_vouched_for(&self) -> Samples {
        let vouched = self.writes - self.not_confirmed;
        if vouched == 0 { Samples::default() } else { [self.missed_after_wait as f64].into_iter().collect() }
    }
}

/// Writes, and reads it back from a replica: at once, and after WAIT 1.
fn read_own_writes(cluster: &RedisCluster, writes: u64) -> Result<OwnWrites> {
    let mut client = ClientOptions::of(cluster).connect()?;
    let mut result = OwnWrites { writes, missed: 0, missed_after_wait: 0, not_confirmed: 0 };
    for number in 0..writes {
        for wait in [false, true] {
            let value = format!("mine {number} {wait}");
            let write = Request::repeatable_write(["SET", KEY, &value]);
            if wait {
                let (answers, replicas) = client.write_and_wait(&[write], 1, Duration::from_secs(10));
                for answer in answers {
                    answer?;
                }
                if replicas == 0 {
                    result.not_confirmed += 1;
                    continue;
                }
            } else {
                client.call(&write)?;
            }
            let read = client.call(&Request::read(["GET", KEY]).from_replica())?;
            let missed = u64::from(read != Value::BulkString(value.into_bytes()));
            if wait {
                result.missed_after_wait += missed;
            } else {
                result.missed += missed;
            }
        }
    }
    Ok(result)
}

/// A client reads all keys into its cache; another overwrites them; the first reads again. How many it still sees as they
/// were.
pub fn old_after_overwriting(cluster: &RedisCluster, keys: usize, flaw: Option<Flaw>) -> u64 {
    let run = || -> Result<u64> {
        // A lease of nothing: the server is asked about every hit.
        let options = ClientOptions::of(cluster).caching(Duration::ZERO);
        let mut reader = match flaw {
            Some(flaw) => options.flawed(flaw).connect()?,
            None => options.connect()?,
        };
        let mut writer = ClientOptions::of(cluster).connect()?;
        let names: Vec<String> = (0..keys).map(|key| format!("raced:{key}")).collect();
        let set = |value: &str| -> Vec<Request> {
            names.iter().map(|name| Request::repeatable_write(["SET", name, value])).collect()
        };
        let get: Vec<Request> = names.iter().map(Request::cached).collect();
        writer.call_many(&set("old")).into_iter().collect::<Result<Vec<_>, _>>()?;
        reader.call_many(&get).into_iter().collect::<Result<Vec<_>, _>>()?;
        writer.call_many(&set("new")).into_iter().collect::<Result<Vec<_>, _>>()?;
        // An answer comes behind whatever its node had to say before: now the word of every change is here, however long a busy
        // machine took to send it.
        let ask: Vec<Request> = names.iter().map(|name| Request::read(["GET", name])).collect();
        reader.call_many(&ask).into_iter().collect::<Result<Vec<_>, _>>()?;
        let seen = reader.call_many(&get).into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(seen.iter().filter(|value| **value != Value::BulkString(b"new".to_vec())).count() as u64)
    };
    run().or_fail()
}

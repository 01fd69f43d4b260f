//! How old is what a reader sees: from the master, from its own cache, from a replica, from a replica far away.

use std::time::{Duration, Instant};

use redis::Value;

use super::{answers, with_replicas};
use crate::{ClientOptions, Request, Skip};
use lab::service::RedisCluster;
use lab::{Crowd, Error, Frame, Result, Samples, Trial};

/// One writer counts a version up; readers look at it all the time.
#[derive(Debug, Clone, Copy)]
pub struct StalenessSpec {
    pub versions: u64,
    /// Time between two of them.
    pub every: Duration,
    /// How much the wire between the master and its replica is delayed, one way.
    pub delay: Duration,
    /// Writes that are read back from the delayed replica.
    pub own_writes: usize,
}

/// What the readers saw.
#[derive(Debug, Clone)]
pub struct Staleness {
    /// A row for each `reader`: its `reads`, those of a version that was overwritten, and the overwriting acknowledged, before they
    /// began (`old`, `share of old`), how long before (`median age`), those of them long after the last version was written (`still old
    /// at the end`), and reads of a version older than one that this reader had seen before (`backwards`).
    pub readers: Frame,
    /// A row for each version that a `reader` saw, or a newer one: how long after it was sent to the master (`visible after`).
    pub versions: Frame,
    /// Reads of one's own writes from the far replica, at once and after WAIT 1 had vouched for them: 1 where it was `not there`.
    pub own: Trial<&'static str>,
}

/// What decides the slot; every watch has a key of its own in it.
const KEY: &str = "hot:version";
/// Between two looks of a reader, so that it leaves the processor to the others.
const BREATH: Duration = Duration::from_micros(200);
/// After the last write, how long everything may take to get to everybody.
const GRACE: Duration = Duration::from_millis(250);

/// When a read began and ended, and what it saw.
struct Look {
    began: Instant,
    ended: Instant,
    version: u64,
}

impl StalenessSpec {
    /// First all readers with the replica nearby, then one of the replica behind a delayed wire.
    pub fn run(&self, cluster: &RedisCluster) -> Result<Staleness> {
        let master = cluster.master_for(KEY)?;
        let link = cluster.replicate_through_link(master)?;
        let options = ClientOptions::of(cluster);
        with_replicas(&options)?;
        let cached = options.clone().caching(Duration::from_secs(5));
        let near = [
            ("master".to_owned(), options.clone(), Request::read(["GET", KEY])),
            ("client cache".into(), cached.clone(), Request::cached(KEY)),
            ("deaf cache".into(), cached.without(Skip::Invalidations), Request::cached(KEY)),
            ("replica".into(), options.clone(), Request::read(["GET", KEY]).from_replica()),
        ];
        let mut seen = self.watch(KEY, &near)?;
        link.delay(self.delay);
        // The far replica may still be busy with what was written before.
        let (key, name) = (format!("{{{KEY}}}, far"), format!("replica, {} ms away", self.delay.as_millis()));
        seen.extend([self.watch(&key, &[(name, options, Request::read(["GET", &key]).from_replica())])?]);
        let (readers, versions) = seen;
        let own = read_own_writes(cluster, self.own_writes)?;
        link.heal();
        cluster.replicate_directly(link)?;
        Ok(Staleness { readers, versions, own })
    }

    /// A row for each of these readers, and one for each version that each saw.
    fn watch(&self, key: &str, readers: &[(String, ClientOptions, Request)]) -> Result<(Frame, Frame)> {
        let mut writer = readers[0].1.connect()?;
        let mut write = |version: u64| writer.call(&Request::repeatable_write(["SET", key, &version.to_string()]));
        write(0)?;
        // When each version was sent, and when it was acknowledged.
        let mut written: Vec<(Instant, Instant)> = Vec::new();
        let ran = Crowd::of(readers.len())
            .with(|number| Ok((readers[number].1.connect()?, Vec::<Look>::new())))
            // Caches have something to keep before it changes.
            .meanwhile(Duration::from_millis(50), "written", || {
                for version in 1..=self.versions {
                    let sent = Instant::now();
                    write(version)?;
                    written.push((sent, Instant::now()));
                    std::thread::sleep(self.every);
                }
                Ok(())
            })
            .lasting(GRACE * 3 / 2 + 2 * self.delay)
            .run(|(client, looks), call| {
                call.rest(BREATH);
                let began = Instant::now();
                let version: Option<u64> = redis::from_redis_value(client.call(&readers[call.client()].2)?)
                    .map_err(|error| Error::new("watch a version", error).at(key))?;
                // A replica that has just begun to follow has nothing yet.
                looks.push(Look { began, ended: Instant::now(), version: version.unwrap_or(0) });
                Ok(())
            })?;
        let settled = written.last().map(|(_, acknowledged)| *acknowledged + self.every + GRACE + 2 * self.delay);
        let seen = readers.iter().zip(&ran.states);
        Ok(seen.map(|((name, ..), (_, looks))| saw(name, looks, &written, settled)).collect())
    }
}

/// What a reader's looks were worth.
fn saw(reader: &str, looks: &[Look], written: &[(Instant, Instant)], settled: Option<Instant>) -> (Frame, Frame) {
    let (mut visible_after, mut ages) = (Vec::new(), Vec::new());
    let (mut stuck, mut backwards, mut newest) = (0, 0, 0);
    for look in looks {
        while let Some((sent, _)) =
            written.get(visible_after.len()).filter(|_| look.version > visible_after.len() as u64)
        {
            visible_after.push((look.ended - *sent).as_secs_f64());
        }
        backwards += u64::from(look.version < newest);
        newest = newest.max(look.version);
        // Stale is what was overwritten, and the overwriting acknowledged, before the read began.
        let overwritten = written.get(look.version as usize).filter(|(_, acknowledged)| *acknowledged < look.began);
        if let Some((_, acknowledged)) = overwritten {
            ages.push((look.began - *acknowledged).as_secs_f64() * 1e3);
            stuck += u64::from(settled.is_some_and(|settled| look.began > settled));
        }
    }
    let (reads, old) = (looks.len() as u64, ages.len() as u64);
    let row = Frame::new()
        .text("reader", [reader])
        .counts("reads", "", [reads])
        .counts("old", "", [old])
        .numbers("share of old", "%", [100.0 * old as f64 / reads as f64])
        .numbers_or_missing("median age", "ms", [(old > 0).then(|| Samples::from(ages).median())])
        .counts("still old at the end", "", [stuck])
        .counts("backwards", "", [backwards]);
    (row, Frame::new().numbers("visible after", "s", visible_after).everywhere("reader", "", reader))
}

/// Writes, and reads it back from a replica: at once, and after WAIT 1 has vouched for it.
fn read_own_writes(cluster: &RedisCluster, writes: usize) -> Result<Trial<&'static str>> {
    let mut client = ClientOptions::of(cluster).connect()?;
    Trial::over(["at once", "after WAIT 1"], writes).run(|when, _, figures| {
        let value = format!("mine {} {when}", figures.round());
        let write = Request::repeatable_write(["SET", KEY, &value]);
        if *when == "at once" {
            client.call(&write)?;
            figures.push("vouched for", "", 0.0);
        } else {
            let (answers, replicas) = client.write_and_wait(&[write], 1, Duration::from_secs(10));
            answers.into_iter().try_for_each(|answer| answer.map(drop))?;
            figures.push("vouched for", "", f64::from(u8::from(replicas > 0)));
            // Where nothing was vouched for, nothing is measured.
            if replicas == 0 {
                return Ok(());
            }
        }
        let read = client.call(&Request::read(["GET", KEY]).from_replica())?;
        figures.push("not there", "", f64::from(u8::from(read != Value::BulkString(value.into_bytes()))));
        Ok(())
    })
}

/// A client reads all keys into its cache; another overwrites them; the first reads again. How many it still sees as they
/// were.
pub fn old_after_overwriting(cluster: &RedisCluster, keys: usize, skip: Option<Skip>) -> Result<u64> {
    // A lease of nothing: the server is asked about every hit.
    let mut reader = ClientOptions::of(cluster).caching(Duration::ZERO).without(skip).connect()?;
    let mut writer = ClientOptions::of(cluster).connect()?;
    let names: Vec<String> = (0..keys).map(|key| format!("raced:{key}")).collect();
    let set = |value: &'static str| names.iter().map(move |name| Request::repeatable_write(["SET", name, value]));
    answers(&mut writer, set("old"))?;
    answers(&mut reader, names.iter().map(Request::cached))?;
    answers(&mut writer, set("new"))?;
    // An answer comes behind whatever its node had to say before: now the word of every change is here, however long a busy
    // machine took to send it.
    answers(&mut reader, names.iter().map(|name| Request::read(["GET", name])))?;
    let seen = answers(&mut reader, names.iter().map(Request::cached))?;
    Ok(seen.iter().filter(|value| **value != Value::BulkString(b"new".to_vec())).count() as u64)
}

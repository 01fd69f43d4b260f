//! A client of the store.

use std::collections::HashMap;
use std::time::Duration;

use mysql::Value;

use super::entry::{Entry, Expected, Version, check_key, check_ttl, check_value, readable};
use super::failure::Answer;
use super::route::shard_of;
use super::shard::{MOST_AT_ONCE, Row, Shard, entries, is_alive};
use super::statements;
use lab::{Error, Result};

/// A step that is left out, to see what it is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// Compare-and-set reads, compares, and then writes.
    AtomicSwap,
    /// Compare-and-set of what is absent inserts; where a row is in the way it removes it if it has expired, and then inserts
    /// again.
    AtomicTaking,
    /// A read takes whatever the sweeper has left there.
    ExpiryAtRead,
    /// A read takes a key for absent as soon as its row has expired, although somebody may be about to prolong its life.
    SecondLook,
}

/// A client: a connection to each shard, made when it is first needed. Each thread has its own.
pub struct Store {
    shards: Vec<Shard>,
    skip: Option<Skip>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shards: Vec<&str> = self.shards.iter().map(|shard| shard.name.as_str()).collect();
        f.debug_struct("Store").field("shards", &shards).finish_non_exhaustive()
    }
}

/// How long a server may take to answer before it counts as gone.
const PATIENCE: Duration = Duration::from_secs(10);

impl Store {
    /// A client of the store on these databases, one shard each, in this order: `mysql://user:password@host:port/database`.
    /// Their tables must be there, as [`create`](Self::create) makes them, and say that they are these shards.
    pub fn open<T: AsRef<str>>(urls: &[T]) -> Result<Self> {
        if urls.is_empty() {
            return Err(Error::new("open the store", "it has no server").remedy("name one server for each shard"));
        }
        Ok(Self { shards: shards(urls, PATIENCE)?, skip: None })
    }

    /// Makes the tables where they are missing, and opens the store.
    pub fn create<T: AsRef<str>>(urls: &[T]) -> Result<Self> {
        for (number, url) in urls.iter().enumerate() {
            Shard::make(url.as_ref(), PATIENCE, number, urls.len())?;
        }
        Self::open(urls)
    }

    /// How long a server may take to connect or to answer; 10 s by default.
    pub fn patience(self, patience: Duration) -> Result<Self> {
        let urls: Vec<&str> = self.shards.iter().map(|shard| shard.url.as_str()).collect();
        Ok(Self { shards: shards(&urls, patience)?, skip: self.skip })
    }

    /// Leaves a step out, for experiments.
    #[must_use]
    pub fn without(mut self, skip: Option<Skip>) -> Self {
        self.skip = skip;
        self
    }

    /// How many shards it has.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// What is under a key, if there is anything that has not expired.
    pub fn get(&mut self, key: &[u8]) -> Answer<Option<Entry>> {
        check_key("get", key)?;
        let (at, doing) = (shard_of(key, self.shards.len()), || format!("get {}", readable(key)));
        let rows = self.shards[at].read(doing, &statements::select("k = ?"), vec![key.into()])?;
        Ok(self.entries(at, doing, rows)?.into_iter().next().map(|(_, entry)| entry))
    }

    /// What is under many keys, in their order. Each of them is read at an instant of its own: across shards, and across a
    /// thousand keys, this is no snapshot.
    pub fn get_many<K: AsRef<[u8]>>(&mut self, keys: &[K]) -> Answer<Vec<Option<Entry>>> {
        let mut by_shard: Vec<Vec<&[u8]>> = vec![Vec::new(); self.shards.len()];
        for key in keys {
            check_key("get", key.as_ref())?;
            by_shard[shard_of(key.as_ref(), self.shards.len())].push(key.as_ref());
        }
        let mut found = HashMap::new();
        for (at, keys) in by_shard.into_iter().enumerate() {
            for keys in keys.chunks(MOST_AT_ONCE) {
                let doing = || format!("get {} keys", keys.len());
                let values = keys.iter().map(|&key| key.into()).collect();
                let rows = self.shards[at].read(doing, &statements::select(&statements::one_of(keys.len())), values)?;
                found.extend(self.entries(at, doing, rows)?);
            }
        }
        Ok(keys.iter().map(|key| found.get(key.as_ref()).cloned()).collect())
    }

    /// The first `limit` entries from a key on, up to another one that does not belong to them, in the order of the keys. Each
    /// of them is read at an instant of its own.
    pub fn scan(&mut self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Answer<Vec<(Vec<u8>, Entry)>> {
        check_key("scan from", from)?;
        let doing = || format!("scan from {}", readable(from));
        let mut found = Vec::new();
        for at in 0..self.shards.len() {
            let (mut first, mut begins, mut missing, mut asked) = (from.to_vec(), "k >= ?", limit, limit);
            loop {
                let mut values: Vec<Value> = vec![first.as_slice().into()];
                values.extend(to.map(Value::from));
                values.push(asked.into());
                let ends = if to.is_some() { "AND k < ? " } else { "" };
                let sql = statements::select(begins) + " " + ends + "ORDER BY k LIMIT ?";
                let rows = self.shards[at].read(doing, &sql, values)?;
                let last = rows.last().filter(|_| rows.len() == asked).map(|(key, ..)| key.clone());
                let entries = self.entries(at, doing, rows)?;
                missing = missing.saturating_sub(entries.len());
                found.extend(entries);
                // Expired rows had the place of others: on from there, with more at once the more of them there are.
                let Some(last) = last.filter(|_| missing > 0) else { break };
                (first, begins, asked) = (last, "k > ?", 2 * asked);
            }
        }
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        found.truncate(limit);
        Ok(found)
    }

    /// The entries in rows that were read from a shard.
    fn entries(&mut self, at: usize, doing: impl Fn() -> String, rows: Vec<Row>) -> Answer<Vec<(Vec<u8>, Entry)>> {
        match self.skip {
            Some(Skip::ExpiryAtRead) => Ok(entries(rows)),
            Some(Skip::SecondLook) => Ok(entries(rows.into_iter().filter(is_alive).collect())),
            _ => self.shards[at].settled(doing, rows),
        }
    }

    /// As [`scan`](Self::scan), over all keys that begin so.
    pub fn scan_prefix(&mut self, prefix: &[u8], limit: usize) -> Answer<Vec<(Vec<u8>, Entry)>> {
        let mut end = prefix.to_vec();
        // The first key behind them: the last byte that can grow grows, and what follows it falls away.
        while end.last() == Some(&0xff) {
            end.pop();
        }
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        self.scan(prefix, (!end.is_empty()).then_some(&end[..]), limit)
    }

    /// Puts a value under a key, whatever was there, to live for so long or for ever.
    pub fn put(&mut self, key: &[u8], value: &[u8], ttl: Option<Duration>) -> Answer<Version> {
        check_key("put", key)?;
        check_value("put", key, value)?;
        let ttl = check_ttl("put", key, ttl)?;
        let version = Version::draw();
        let shard = self.shard(key);
        let sql = statements::put(shard.dialect()?);
        shard.write(|| format!("put {}", readable(key)), &sql, (key, value, version.0, ttl, ttl))?;
        Ok(version)
    }

    /// Removes a key; says whether it was there.
    pub fn delete(&mut self, key: &[u8]) -> Answer<bool> {
        check_key("delete", key)?;
        let sql = statements::delete();
        Ok(self.shard(key).write(|| format!("delete {}", readable(key)), &sql, (key,))? > 0)
    }

    /// Puts a value under a key if what is there is what is expected; says with which version, or `None` where it was not.
    pub fn compare_and_set(
        &mut self,
        key: &[u8],
        expected: Expected,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Answer<Option<Version>> {
        const DOING: &str = "compare and set";
        check_key(DOING, key)?;
        check_value(DOING, key, value)?;
        let micros = check_ttl(DOING, key, ttl)?;
        if self.skip == Some(Skip::AtomicSwap) {
            let is = self.get(key)?.map_or(Expected::Absent, |entry| Expected::At(entry.version));
            return if is == expected { self.put(key, value, ttl).map(Some) } else { Ok(None) };
        }
        let doing = || format!("{DOING} {}", readable(key));
        let version = Version::draw();
        let in_steps = self.skip == Some(Skip::AtomicTaking);
        let shard = self.shard(key);
        let swapped = match expected {
            Expected::At(old) => shard.write(doing, &statements::swap(), (value, version.0, micros, key, old.0))? > 0,
            Expected::Absent if in_steps => {
                let row = (key, value, version.0, micros);
                shard.insert(doing, &statements::insert(), row)?
                    || (shard.write(doing, &statements::delete_expired(), (key,))? > 0
                        && shard.insert(doing, &statements::insert(), row)?)
            }
            Expected::Absent => {
                let sql = statements::put_if_absent(shard.dialect()?);
                shard.write(doing, &sql, (key, value, version.0, micros, micros))? > 0
            }
        };
        Ok(swapped.then_some(version))
    }

    fn shard(&mut self, key: &[u8]) -> &mut Shard {
        let at = shard_of(key, self.shards.len());
        &mut self.shards[at]
    }
}

fn shards<T: AsRef<str>>(urls: &[T], patience: Duration) -> Result<Vec<Shard>> {
    let shard = |(number, url): (usize, &T)| Ok(Shard::new(url.as_ref(), patience)?.that_is(number, urls.len()));
    urls.iter().enumerate().map(shard).collect()
}

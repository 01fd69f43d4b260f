//! A client of the store.

use std::collections::HashMap;
use std::time::Duration;

use mysql::Value;

use super::entry::{Entry, Expected, Version, check_key, check_ttl, check_value, readable};
use super::failure::Answer;
use super::route::shard_of;
use super::shard::Shard;
use super::statements;
use crate::lab::{Error, Result};

/// Keys that are asked for in one statement.
const MOST_AT_ONCE: usize = 1_000;

/// A step that is left out, to see what it is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// Compare-and-set reads, compares, and then writes.
    AtomicSwap,
    /// A read takes whatever the sweeper has left there.
    ExpiryAtRead,
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
    /// Their tables, by the name of `kv`, must be there: [`create`](Self::create) makes them.
    pub fn open<T: AsRef<str>>(urls: &[T]) -> Result<Self> {
        if urls.is_empty() {
            return Err(Error::new("open the store", "it has no server").remedy("name one server for each shard"));
        }
        let shards = urls.iter().map(|url| Shard::new(url.as_ref(), PATIENCE)).collect::<Result<_>>()?;
        Ok(Self { shards, skip: None })
    }

    /// Makes the tables where they are missing, and opens the store.
    pub fn create<T: AsRef<str>>(urls: &[T]) -> Result<Self> {
        let mut store = Self::open(urls)?;
        for shard in &mut store.shards {
            shard.write(|| "make the store's table".into(), &statements::create(), ())?;
        }
        Ok(store)
    }

    /// How long a server may take to connect or to answer; 10 s by default.
    pub fn patience(mut self, patience: Duration) -> Result<Self> {
        for shard in &mut self.shards {
            *shard = Shard::new(&shard.url, patience)?;
        }
        Ok(self)
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
        let sql = statements::select("k = ?", self.skip == Some(Skip::ExpiryAtRead));
        let rows = self.shard(key).read(|| format!("get {}", readable(key)), &sql, vec![key.into()])?;
        Ok(rows.into_iter().next().map(|(_, entry)| entry))
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
        for (shard, keys) in self.shards.iter_mut().zip(by_shard) {
            for keys in keys.chunks(MOST_AT_ONCE) {
                let which = format!("k IN ({})", vec!["?"; keys.len()].join(", "));
                let sql = statements::select(&which, self.skip == Some(Skip::ExpiryAtRead));
                let values = keys.iter().map(|&key| key.into()).collect();
                found.extend(shard.read(|| format!("get {} keys", keys.len()), &sql, values)?);
            }
        }
        Ok(keys.iter().map(|key| found.get(key.as_ref()).cloned()).collect())
    }

    /// The first `limit` entries from a key on, up to another one that does not belong to them, in the order of the keys.
    pub fn scan(&mut self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Answer<Vec<(Vec<u8>, Entry)>> {
        check_key("scan from", from)?;
        let mut values: Vec<Value> = vec![from.into()];
        let which = if to.is_some() { "k >= ? AND k < ?" } else { "k >= ?" };
        values.extend(to.map(Value::from));
        values.push(limit.into());
        let sql = statements::select(which, self.skip == Some(Skip::ExpiryAtRead)) + " ORDER BY k LIMIT ?";
        let mut found = Vec::new();
        for shard in &mut self.shards {
            found.extend(shard.read(|| format!("scan from {}", readable(from)), &sql, values.clone())?);
        }
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        found.truncate(limit);
        Ok(found)
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
        shard.write(|| format!("put {}", readable(key)), &sql, (key, value, version.0, ttl))?;
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
        let shard = self.shard(key);
        let swapped = match expected {
            Expected::At(old) => shard.write(doing, &statements::swap(), (value, version.0, micros, key, old.0))? > 0,
            Expected::Absent => {
                let row = (key, value, version.0, micros);
                // What lies in the way may have expired. Removed it changes nothing for anybody, and then this tries again
                // and takes the next answer: whoever is faster has put something that is alive.
                shard.insert(doing, &statements::insert(), row)?
                    || (shard.write(doing, &statements::delete_expired(), (key,))? > 0
                        && shard.insert(doing, &statements::insert(), row)?)
            }
        };
        Ok(swapped.then_some(version))
    }

    fn shard(&mut self, key: &[u8]) -> &mut Shard {
        let at = shard_of(key, self.shards.len());
        &mut self.shards[at]
    }
}

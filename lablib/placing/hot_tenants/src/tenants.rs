//! The index as its clients see it: documents of tenants, wherever the split map puts them.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use super::routing::Routing;
use super::shards::{Ask, Buckets, Change, Document, Found, Hit, SearchShards, bucket_of};
use super::split_map::{Ledger, Rubbish, SplitMap};
use lab::disk::Disk;
use lab::{Doing, Result};

/// A step of the system that is left out, to see who notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// A reader takes whatever of the tenant it finds on a shard, without looking at buckets.
    BucketFilter,
    /// A write to a bucket on the move goes to its old home only.
    CatchUp,
    /// The old copies are deleted before the map says where the new ones are.
    WaitForSwitch,
    /// The old copies are deleted while readers of the old map may still be on their way to them.
    WaitForReaders,
    /// The map is kept in memory alone.
    SaveMap,
}

impl Skip {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::BucketFilter, Self::CatchUp, Self::WaitForSwitch, Self::WaitForReaders, Self::SaveMap];
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BucketFilter => "no bucket filter",
            Self::CatchUp => "no catching up",
            Self::WaitForSwitch => "deleted before the switch",
            Self::WaitForReaders => "no waiting for readers",
            Self::SaveMap => "map not saved",
        })
    }
}

/// A search index for tenants of very different sizes. Reads and writes go on while a tenant is split anew.
pub struct TenantIndex {
    pub(super) shards: Arc<dyn SearchShards>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) skip: Option<Skip>,
    /// Held for reading by every write and refresh, for writing while a move begins and ends.
    pub(super) gate: RwLock<Option<Moving>>,
    pub(super) published: Mutex<Published>,
    /// Told when a reader has finished.
    pub(super) finished: Condvar,
    /// Held during a re-split, one at a time: the copies that a failed one has left, until the next clears them away.
    pub(super) mover: Mutex<Option<Rubbish>>,
}

/// Buckets of a tenant that are on their way.
pub(super) struct Moving {
    pub tenant: String,
    /// The new key of each bucket that moves.
    pub to: BTreeMap<u32, String>,
    /// What was written or deleted since the move began: it is at both homes already, and newer than what is being copied.
    pub touched: Mutex<HashSet<u64>>,
}

/// The map that readers use, and how many of them still use which version of it.
#[derive(Default)]
pub(super) struct Published {
    pub map: Arc<SplitMap>,
    pub readers: BTreeMap<u64, usize>,
}

/// A reader's hold on one version of the map: as long as it lives, what that version points to stays where it is.
pub struct View<'a> {
    index: &'a TenantIndex,
    map: Arc<SplitMap>,
}

impl TenantIndex {
    /// The index on these shards, with the split map that is on `disk`. What an interrupted re-split left behind is
    /// cleared away first.
    pub fn open(shards: Arc<dyn SearchShards>, disk: Arc<dyn Disk>) -> Result<Self> {
        let ledger = Ledger::read(disk.as_ref(), shards.routing())?;
        let index = Self {
            shards,
            disk,
            skip: None,
            gate: RwLock::new(None),
            published: Mutex::new(Published { map: Arc::new(ledger.map), readers: BTreeMap::new() }),
            finished: Condvar::new(),
            mover: Mutex::new(None),
        };
        if let Some(rubbish) = ledger.rubbish {
            index.shards.refresh()?;
            index.delete(&rubbish)?;
            index.save(None)?;
        }
        Ok(index)
    }

    /// The same without a step.
    pub fn without(mut self, skip: Option<Skip>) -> Self {
        self.skip = skip;
        self
    }

    pub(super) fn skips(&self, step: Skip) -> bool {
        self.skip == Some(step)
    }

    /// The shards below.
    pub fn shards(&self) -> &Arc<dyn SearchShards> {
        &self.shards
    }

    /// How keys find shards.
    pub fn routing(&self) -> &Routing {
        self.shards.routing()
    }

    /// The map as it is now.
    pub fn map(&self) -> Arc<SplitMap> {
        self.published().map.clone()
    }

    /// Writes documents; one with the same id and tenant is replaced. Returning is the acknowledgement.
    pub fn write(&self, documents: &[Document]) -> Result<()> {
        let changes = documents.iter().map(|document| {
            let put = |routing| Change::Put { routing, document: document.clone() };
            (document.tenant.as_str(), document.id, put)
        });
        self.change(changes)
    }

    /// Deletes documents of a tenant, by their ids.
    pub fn delete_documents(&self, tenant: &str, ids: &[u64]) -> Result<()> {
        self.change(ids.iter().map(|&id| (tenant, id, move |routing| Change::Delete { routing, id })))
    }

    fn change<'a, F: Fn(String) -> Change>(&self, changes: impl Iterator<Item = (&'a str, u64, F)>) -> Result<()> {
        let moving = self.passing();
        let map = self.map();
        let (mut still, mut moved, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for (tenant, id, change) in changes {
            let (bucket, home) = (bucket_of(id), map.key_of(tenant, id));
            let new_home =
                moving.as_ref().filter(|moving| moving.tenant == tenant).and_then(|moving| moving.to.get(&bucket));
            match new_home {
                None => still.push(change(home)),
                Some(_) if self.skips(Skip::CatchUp) => still.push(change(home)),
                Some(new_home) => {
                    ids.push(id);
                    moved.extend([change(home), change(new_home.clone())]);
                }
            }
        }
        self.shards.write(&still)?;
        if let Some(moving) = moving.as_ref().filter(|_| !moved.is_empty()) {
            // Under the lock: two updates of a document reach both homes in the same order, and the copier between neither.
            let mut touched = moving.touched();
            touched.extend(ids);
            self.shards.write(&moved)?;
        }
        Ok(())
    }

    /// Makes findable what was acknowledged before the call.
    pub fn refresh(&self) -> Result<()> {
        let _moving = self.passing();
        self.shards.refresh()
    }

    /// Every document of a tenant.
    pub fn read(&self, tenant: &str) -> Result<Found> {
        self.view().read(tenant, None)
    }

    /// The documents of a tenant with this word in them.
    pub fn search(&self, tenant: &str, word: &str) -> Result<Found> {
        self.view().read(tenant, Some(word))
    }

    /// Takes hold of the map as it is now.
    pub fn view(&self) -> View<'_> {
        let mut published = self.published();
        let map = published.map.clone();
        *published.readers.entry(map.version).or_default() += 1;
        View { index: self, map }
    }

    pub(super) fn passing(&self) -> RwLockReadGuard<'_, Option<Moving>> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn published(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the map down, with what a restart has to clear away.
    pub(super) fn save(&self, rubbish: Option<Rubbish>) -> Result<()> {
        self.save_map(&self.map(), rubbish)
    }

    pub(super) fn save_map(&self, map: &SplitMap, rubbish: Option<Rubbish>) -> Result<()> {
        match self.skips(Skip::SaveMap) {
            true => Ok(()),
            false => Ledger { map: map.clone(), rubbish }.write(self.disk.as_ref()),
        }
    }

    /// Deletes copies, and makes sure that they are gone. They have been refreshed, and nobody writes to them any more.
    pub(super) fn delete(&self, rubbish: &Rubbish) -> Result<u64> {
        let mut deleted = 0;
        for (key, buckets) in &rubbish.copies {
            let buckets: Buckets = buckets.iter().copied().collect();
            let found = self.shards.search(&[Ask { buckets, ..Ask::all(key, &rubbish.tenant) }])?;
            let delete = |Hit { id, .. }: &Hit| Change::Delete { routing: key.clone(), id: *id };
            self.shards.write(&found.hits.iter().map(delete).collect::<Vec<_>>())?;
            deleted += found.hits.len() as u64;
        }
        self.shards.refresh().doing("delete old copies")?;
        Ok(deleted)
    }
}

impl Moving {
    pub fn touched(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View<'_> {
    /// The documents of a tenant, all or those with a word in them: from each of its shards what that shard owns.
    pub fn read(&self, tenant: &str, word: Option<&str>) -> Result<Found> {
        let mut asks = self.map.asks(tenant);
        for ask in &mut asks {
            ask.word = word.map(str::to_string);
            if self.index.skips(Skip::BucketFilter) {
                ask.buckets = Buckets::ALL;
            }
        }
        self.index.shards.search(&asks)
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        let mut published = self.index.published();
        if let Some(readers) = published.readers.get_mut(&self.map.version) {
            *readers -= 1;
            if *readers == 0 {
                published.readers.remove(&self.map.version);
                self.index.finished.notify_all();
            }
        }
    }
}

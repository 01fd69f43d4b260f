//! Splitting a tenant anew, while its documents are read and written.
//!
//! Copy, catch up, switch, wait, delete. A bucket on the move has two homes: readers know the old one, every write reaches
//! both. The switch is one new version of the map; old copies go when the last reader of the old version has finished.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::shards::{Ask, BUCKETS, Buckets, Change, Document};
use super::split_map::{Rubbish, Split, SplitMap};
use super::tenants::{Moving, Published, Skip, TenantIndex};
use lab::{Result, crash};

/// Documents that are copied in one go: so many writes wait for the copier at most.
const CHUNK: usize = 500;

/// Where a re-split is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// What will be copied where is on disk, in case nobody finishes it.
    Announced,
    /// Some copies are made; no map names them.
    Copying,
    /// All copies are made.
    Copied,
    /// Only where it is done too early: the old copies are gone.
    DeletedTooEarly,
    /// Readers that come now use the new map.
    Switched,
    /// No reader uses the old map any more.
    Drained,
    /// The old copies are gone.
    Done,
}

/// What a re-split did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resplit {
    /// Buckets that have a new home.
    pub buckets: u32,
    /// Documents that were copied.
    pub copied: u64,
    /// Old copies that were deleted.
    pub deleted: u64,
    /// How long writes were held up by the switch.
    pub held_up: Duration,
}

/// From where to where.
struct Route {
    from: String,
    to: String,
    buckets: Buckets,
}

impl TenantIndex {
    /// Gives a tenant another split, or none.
    pub fn resplit(&self, tenant: &str, split: Option<Split>) -> Result<Resplit> {
        self.resplit_watched(tenant, split, &|_| ())
    }

    /// The same; `watch` is called after each step, with nothing locked.
    pub fn resplit_watched(&self, tenant: &str, split: Option<Split>, watch: &dyn Fn(Step)) -> Result<Resplit> {
        let mut left_over = self.mover.lock().unwrap_or_else(PoisonError::into_inner);
        self.settle(&mut left_over)?;
        let old = self.map();
        let new = old.with(tenant, split);
        let mut routes: BTreeMap<(String, String), Buckets> = BTreeMap::new();
        for bucket in 0..BUCKETS {
            let (from, to) = (old.key_of_bucket(tenant, bucket), new.key_of_bucket(tenant, bucket));
            // Before anything is copied: a key that leads nowhere is refused here.
            if self.routing().shards_of(&from)? != self.routing().shards_of(&to)? {
                let buckets = routes.entry((from, to)).or_default();
                *buckets = buckets.with(bucket);
            }
        }
        let routes: Vec<Route> = routes.into_iter().map(|((from, to), buckets)| Route { from, to, buckets }).collect();
        let mut done = Resplit { buckets: routes.iter().map(|route| route.buckets.len()).sum(), ..Resplit::default() };
        let rubbish = |key: fn(&Route) -> &String| Rubbish {
            tenant: tenant.to_string(),
            copies: routes.iter().map(|route| (key(route).clone(), route.buckets.iter().collect())).collect(),
        };
        let (new_copies, old_copies) = (rubbish(|route| &route.to), rubbish(|route| &route.from));
        let step = |step: Step, point: &str| {
            crash::point(point);
            watch(step);
        };

        *left_over = Some(new_copies.clone());
        self.save(Some(new_copies))?;
        step(Step::Announced, "resplit-announced");
        self.begin(tenant, &routes);
        // What was acknowledged before this is found by the copier; what comes later is touched.
        self.shards.refresh()?;
        for route in &routes {
            done.copied += self.copy(tenant, route, &|| step(Step::Copying, "resplit-copying"))?;
        }
        step(Step::Copied, "resplit-copied");
        if self.skips(Skip::WaitForSwitch) {
            self.shards.refresh()?;
            done.deleted = self.delete(&old_copies)?;
            step(Step::DeletedTooEarly, "resplit-deleted-too-early");
        }

        done.held_up = self.switch(new, &old_copies)?;
        *left_over = Some(old_copies.clone());
        step(Step::Switched, "resplit-switched");
        if !self.skips(Skip::WaitForReaders) {
            self.drain();
            step(Step::Drained, "resplit-drained");
        }
        if !self.skips(Skip::WaitForSwitch) {
            done.deleted = self.delete(&old_copies)?;
        }
        crash::point("resplit-deleted");
        self.save(None)?;
        *left_over = None;
        step(Step::Done, "resplit-done");
        Ok(done)
    }

    /// Ends a re-split that failed: back to the map that readers have, and its copies away. Until this has been done, its
    /// writes go on reaching both homes, so whichever map a crash would leave on disk, nothing is missing.
    fn settle(&self, left_over: &mut Option<Rubbish>) -> Result<()> {
        if let Some(rubbish) = left_over.as_ref() {
            self.save(Some(rubbish.clone()))?;
            *self.gate.write().unwrap_or_else(PoisonError::into_inner) = None;
            self.drain();
            self.shards.refresh()?;
            self.delete(rubbish)?;
            self.save(None)?;
            *left_over = None;
        }
        Ok(())
    }

    /// Makes `new` the map, on disk and for every reader to come; says how long writes were held up by that.
    fn switch(&self, new: SplitMap, old_copies: &Rubbish) -> Result<Duration> {
        let held_up = Instant::now();
        let mut gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        // Nobody writes or refreshes now, so after this the new home holds, findable, exactly what the old one does.
        self.shards.refresh()?;
        self.save_map(&new, Some(old_copies.clone()))?;
        self.published().map = Arc::new(new);
        *gate = None;
        drop(gate);
        Ok(held_up.elapsed())
    }

    /// Waits until no reader uses an older map than the current one.
    fn drain(&self) {
        let published = self.published();
        let version = published.map.version;
        let older = |state: &mut Published| state.readers.range(..version).next().is_some();
        drop(self.finished.wait_while(published, older).unwrap_or_else(PoisonError::into_inner));
    }

    /// From here on, a write to one of these buckets reaches both homes.
    fn begin(&self, tenant: &str, routes: &[Route]) {
        let to =
            routes.iter().flat_map(|route| route.buckets.iter().map(|bucket| (bucket, route.to.clone()))).collect();
        let moving = Moving { tenant: tenant.to_string(), to, touched: Mutex::default() };
        *self.gate.write().unwrap_or_else(PoisonError::into_inner) = Some(moving);
    }

    /// Copies what was there when the move began and has not been touched since.
    fn copy(&self, tenant: &str, route: &Route, copied: &dyn Fn()) -> Result<u64> {
        let documents = self.shards.fetch(&Ask { buckets: route.buckets, ..Ask::all(&route.from, tenant) })?;
        let mut count = 0;
        for chunk in documents.chunks(CHUNK) {
            {
                let moving = self.passing();
                let Some(touched) = moving.as_ref().map(Moving::touched) else { continue };
                let put = |document: &Document| Change::Put { routing: route.to.clone(), document: document.clone() };
                let changes: Vec<Change> =
                    chunk.iter().filter(|document| !touched.contains(&document.id)).map(put).collect();
                self.shards.write(&changes)?;
                count += changes.len() as u64;
            }
            copied();
        }
        Ok(count)
    }
}

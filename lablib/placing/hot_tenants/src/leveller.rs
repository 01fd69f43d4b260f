//! An index that keeps its own shards level: it watches the load, and splits whoever is hot.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::planner::{Planner, Watch};
use super::resplit::Resplit;
use super::shards::Document;
use super::tenants::TenantIndex;
use lab::Result;

/// A [`TenantIndex`] with eyes. Writes are observed; [`level`](Self::level) acts on what was seen.
pub struct Leveller {
    index: TenantIndex,
    planner: Planner,
    watch: Mutex<Watch>,
}

/// Heavy tenants that are told apart.
const COUNTERS: usize = 64;

impl Leveller {
    /// Watches this index; an operation counts half after `half_life` others.
    pub fn new(index: TenantIndex, planner: Planner, half_life: f64) -> Result<Self> {
        let watch = Mutex::new(Watch::new(index.routing().primaries() as usize, COUNTERS, half_life)?);
        Ok(Self { index, planner, watch })
    }

    /// The index itself.
    pub fn index(&self) -> &TenantIndex {
        &self.index
    }

    /// Writes documents, and counts them.
    pub fn write(&self, documents: &[Document]) -> Result<()> {
        self.index.write(documents)?;
        let (map, mut watch) = (self.index.map(), self.watch());
        documents.iter().try_for_each(|document| watch.observe(&document.tenant, &map, self.index.routing()))
    }

    /// Splits whoever should be split by now: nobody, mostly.
    pub fn level(&self) -> Result<Vec<Resplit>> {
        let (map, routing) = (self.index.map(), self.index.routing());
        let plan = self.planner.plan(&map, &self.watch(), routing)?;
        let mut done = Vec::new();
        for (tenant, split) in plan {
            let (was, is) = (map.split_of(&tenant).is_some(), split.is_some());
            done.push(self.index.resplit(&tenant, split)?);
            self.watch().moved(&tenant, was, is, routing)?;
        }
        Ok(done)
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

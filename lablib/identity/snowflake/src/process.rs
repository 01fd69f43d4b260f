//! A worker in a process of its own, to be stopped and killed.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::layout::Layout;
use super::registry::{Registry, Skip, Terms};
use lab::crash::point;
use lab::{Result, errand};

/// What a worker in a process of its own is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Errand {
    pub(crate) url: String,
    pub(crate) registry: String,
    pub(crate) layout: Layout,
    pub(crate) terms: Terms,
    pub(crate) skip: Option<Skip>,
}

/// Passed after each id.
pub(crate) const ID_MADE: &str = "id-made";
/// Between two ids.
pub(crate) const PAUSE: Duration = Duration::from_micros(150);
/// How long it makes ids.
const LASTING: Duration = Duration::from_secs(20);

/// What a worker says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Said {
    /// It has a lease that begins with this timestamp.
    Leased(u64),
    /// It made an id.
    Made(u64),
    /// It got no id, and gave up.
    Refused(String),
}

/// What `lab id-worker` does.
pub fn id_worker_process() -> Result<()> {
    let told: Errand = errand::told()?;
    let registry = Registry::new(&told.url, &told.registry, told.layout, told.terms)?.skipping(told.skip);
    let lease = registry.take()?;
    errand::say(&Said::Leased(lease.interval().from))?;
    let began = Instant::now();
    while began.elapsed() < LASTING {
        match lease.next_id() {
            Ok(id) => errand::say(&Said::Made(id))?,
            Err(error) => return errand::say(&Said::Refused(error.to_string())),
        }
        point(ID_MADE);
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

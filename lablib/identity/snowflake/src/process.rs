//! A worker in a process of its own, to be stopped and killed.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::fleet::{Fleet, Skip, Terms};
use super::layout::Layout;
use lab::crash::point;
use lab::{Result, errand};

/// What a worker in a process of its own is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Errand {
    pub(crate) url: String,
    pub(crate) fleet: String,
    pub(crate) layout: Layout,
    pub(crate) terms: Terms,
    pub(crate) skip: Option<Skip>,
    /// After each id.
    pub(crate) pause: Duration,
    /// How long it makes ids.
    pub(crate) lasting: Duration,
}

/// Passed after each id.
pub(crate) const ID_MADE: &str = "id-made";

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
    let fleet = Fleet::new(&told.url, &told.fleet, told.layout, told.terms)?.skipping(told.skip);
    let lease = fleet.take()?;
    errand::say(&Said::Leased(lease.interval().from))?;
    let began = Instant::now();
    while began.elapsed() < told.lasting {
        match lease.next_id() {
            Ok(id) => errand::say(&Said::Made(id))?,
            Err(error) => return errand::say(&Said::Refused(error.to_string())),
        }
        point(ID_MADE);
        std::thread::sleep(told.pause);
    }
    Ok(())
}

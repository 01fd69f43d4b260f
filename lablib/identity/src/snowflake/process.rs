//! A worker in a process of its own, to be stopped and killed.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::fleet::{Fleet, Skip, Terms};
use super::layout::Layout;
use lab::crash::{acknowledge, point};
use lab::{Doing, Result};

/// What a worker in a process of its own is told, in [`ERRAND`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Errand {
    pub(crate) url: String,
    pub(crate) fleet: String,
    pub(crate) layout: Layout,
    pub(crate) terms: Terms,
    pub(crate) skip: Option<Skip>,
    /// The pause after each id.
    pub(crate) pause: Duration,
    /// How long it makes ids.
    pub(crate) lasting: Duration,
}

/// The variable that holds an errand, as JSON: it has the Redis's URL in it, so it is no argument.
pub(crate) const ERRAND: &str = "LAB_SNOWFLAKE_ERRAND";
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

impl Said {
    pub(crate) fn read(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }

    fn say(&self) -> Result<()> {
        acknowledge(serde_json::to_string(self).doing("say what a worker did")?);
        Ok(())
    }
}

/// What `lab id-worker` does: the errand in its environment.
pub fn id_worker_process() -> Result<()> {
    let doing = "read the id worker's errand";
    let errand: Errand = serde_json::from_str(&std::env::var(ERRAND).doing(doing)?).doing(doing)?;
    let fleet = Fleet::new(&errand.url, &errand.fleet, errand.layout, errand.terms)?.skipping(errand.skip);
    let lease = fleet.take()?;
    Said::Leased(lease.interval().from).say()?;
    let began = Instant::now();
    while began.elapsed() < errand.lasting {
        match lease.next_id() {
            Ok(id) => Said::Made(id).say()?,
            Err(error) => return Said::Refused(error.to_string()).say(),
        }
        point(ID_MADE);
        std::thread::sleep(errand.pause);
    }
    Ok(())
}

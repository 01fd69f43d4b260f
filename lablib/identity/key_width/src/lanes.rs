//! Work that is done several pieces at a time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lab::{Crowd, Result};

/// Does something with each of these, so many at a time: what came of it, in their order. The first error ends it.
pub(crate) fn in_lanes<T: Send, R: Send>(
    lanes: usize,
    all: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    /// Loads have limits of their own.
    const LONGEST: Duration = Duration::from_secs(3_600);
    let queue = Mutex::new(all.into_iter().collect::<Vec<T>>().into_iter().enumerate());
    let lanes = Crowd::holding((0..lanes).map(|_| Vec::new())).times(u64::MAX).within(LONGEST);
    let ran = lanes.run(|done: &mut Vec<(usize, R)>, call| {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        match next {
            Some((place, one)) => done.push((place, work(one)?)),
            None => call.last(),
        }
        Ok(())
    })?;
    let mut done: Vec<(usize, R)> = ran.states.into_iter().flatten().collect();
    done.sort_by_key(|(place, _)| *place);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

//! More descriptors than a process may have: threads with a descriptor table of their own.
//!
//! RLIMIT_NOFILE bounds the *numbers* in a descriptor table, and a thread may leave the table of its process for a copy of
//! it. What it opens then counts there alone, and is closed when the thread ends.

use std::sync::mpsc::{Receiver, Sender, channel};

use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use lab::{Doing, Error, Result, joined};

/// What a lane held when it stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lane {
    pub(super) held: u64,
    /// The error at which it stopped; none where it had all that it was to have, or its table was full.
    pub(super) stopped_by: Option<String>,
}

/// Raises the soft limit of this process as far as it may go, and returns it.
pub(super) fn raise_descriptors() -> Result<u64> {
    let doing = "raise the limit of descriptors";
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).doing(doing)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).doing(doing)?;
    Ok(hard)
}

/// Numbers of the descriptors that the calling thread has open, in order.
pub(super) fn open_descriptors() -> Result<Vec<u64>> {
    let doing = "list the open descriptors";
    let number = |entry: std::io::Result<std::fs::DirEntry>| -> Result<Option<u64>> {
        Ok(entry.doing(doing)?.file_name().to_str().and_then(|name| name.parse().ok()))
    };
    let mut open = Vec::new();
    for entry in std::fs::read_dir("/proc/thread-self/fd").doing(doing)? {
        open.extend(number(entry)?);
    }
    // One of them was opened to read this very list, and is closed by now.
    open.retain(|fd| std::fs::symlink_metadata(format!("/proc/thread-self/fd/{fd}")).is_ok());
    open.sort_unstable();
    Ok(open)
}

/// Whether this process may give a thread a table of its own.
pub(super) fn has_lanes() -> bool {
    std::thread::spawn(|| unshare(CloneFlags::CLONE_FILES).is_ok()).join().unwrap_or(false)
}

/// Makes `hold` fill one table after another, each in a thread of its own, until it stops for another reason than a full
/// table or `most` are held; everything is held until all is over, then closed.
///
/// `hold` gets how many it may open, and hands over what it holds, with the error that stopped it.
pub(super) fn fill_lanes<H>(
    most: u64,
    each: u64,
    hold: impl Fn(u64) -> (Vec<H>, Option<std::io::Error>) + Sync,
) -> Result<Vec<Lane>> {
    if each == 0 {
        return Err(Error::new("hold connections", "the limit of descriptors leaves room for none"));
    }
    std::thread::scope(|scope| {
        let (mut lanes, mut releases, mut threads) = (Vec::<Lane>::new(), Vec::<Sender<()>>::new(), Vec::new());
        loop {
            let held: u64 = lanes.iter().map(|lane| lane.held).sum();
            let wanted = (most - held.min(most)).min(each);
            if wanted == 0 || lanes.last().is_some_and(|lane| lane.stopped_by.is_some()) {
                break;
            }
            let (release, released): (Sender<()>, Receiver<()>) = channel();
            let (said, heard) = channel();
            let hold = &hold;
            threads.push(scope.spawn(move || -> Result<()> {
                unshare(CloneFlags::CLONE_FILES).doing("give a thread a descriptor table of its own")?;
                let (holding, error) = hold(wanted);
                let stopped_by = error.as_ref().map(super::namespace::errno);
                let _ = said.send(Lane { held: holding.len() as u64, stopped_by });
                let _ = released.recv(); // until the sender is gone
                drop(holding);
                Ok(())
            }));
            releases.push(release);
            match heard.recv() {
                Ok(lane) => lanes.push(lane),
                Err(_) => break, // it could not begin; joining says why
            }
        }
        drop(releases);
        for thread in threads {
            joined("hold connections", thread.join())?;
        }
        Ok(lanes)
    })
}

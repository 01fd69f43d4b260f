//! More descriptors than a process may have: threads with a descriptor table of their own.
//!
//! RLIMIT_NOFILE bounds the *numbers* in a descriptor table, and a thread may leave the table of its process for a copy of
//! it. What it opens then counts there alone, and is closed when the thread ends.

use std::os::fd::RawFd;
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};

use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::close;

use lab::{Doing, Error, Result, joined};

/// Raises the soft limit of this process as far as it may go, and returns it.
pub(crate) fn raise_descriptors() -> Result<u64> {
    let doing = "raise the limit of descriptors";
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).doing(doing)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).doing(doing)?;
    Ok(hard)
}

/// Numbers of the descriptors that the calling thread has open, in order.
pub(crate) fn open_descriptors() -> Result<Vec<u64>> {
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
pub(crate) fn threads_may_have_tables() -> bool {
    std::thread::spawn(|| unshare(CloneFlags::CLONE_FILES).is_ok()).join().unwrap_or(false)
}

/// Closes what this thread's table has copied of the process's. The end of a thread would do so, too, but a moment after whoever joins
/// it goes on: a listener's port would still be taken by the copy when its owner has closed it.
fn close_copies() -> Result<()> {
    let mut copies = open_descriptors()?.into_iter().filter(|number| *number > 2);
    copies.try_for_each(|number| close(number as RawFd).doing("close a copied descriptor"))
}

/// Makes `hold` fill one table after another, each in a thread of its own, until it is done; everything is held until then, and
/// closed.
///
/// `hold` gets how many it may open, and hands over what it holds, and whether it is done.
pub(crate) fn fill_tables<H>(each: u64, hold: impl FnMut(u64) -> (Vec<H>, bool) + Send) -> Result<()> {
    if each == 0 {
        return Err(Error::new("hold connections", "the limit of descriptors leaves room for none"));
    }
    let hold = Mutex::new(hold);
    std::thread::scope(|scope| {
        let (mut releases, mut threads) = (Vec::new(), Vec::new());
        loop {
            let (release, released) = channel::<()>();
            let (said, heard) = channel();
            let hold = &hold;
            threads.push(scope.spawn(move || -> Result<()> {
                unshare(CloneFlags::CLONE_FILES).doing("give a thread a descriptor table of its own")?;
                let mut hold = hold.lock().unwrap_or_else(PoisonError::into_inner);
                let (holding, done) = hold(each);
                drop(hold); // before the next thread is told to begin
                let _ = said.send(done);
                let _ = released.recv(); // until the sender is gone
                drop(holding);
                close_copies()
            }));
            releases.push(release);
            // Where it could not begin, joining says why.
            if heard.recv().unwrap_or(true) {
                break;
            }
        }
        drop(releases);
        threads.into_iter().try_for_each(|thread| joined("hold connections", thread.join()))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_a_table_has_copied_is_closed_by_the_time_it_is_done() {
        for _ in 0..200 {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            fill_tables(1, |_| (Vec::<()>::new(), true)).unwrap();
            drop(listener);
            TcpListener::bind(address).unwrap();
        }
    }
}

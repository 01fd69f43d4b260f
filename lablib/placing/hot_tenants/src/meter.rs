//! Whose processor time it was: a directory that every thread of one index passes through, and that reads its clock.
//!
//! tantivy indexes on threads of its own, a new one after each commit. All of them end their work by closing a file in the
//! index's directory, so that is where the time of a thread is read; a thread belongs to one index for its whole life.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use tantivy::directory::error::{DeleteError, LockError, OpenReadError, OpenWriteError};
use tantivy::directory::{
    AntiCallToken, Directory, DirectoryLock, FileHandle, Lock, MmapDirectory, TerminatingWrite, WatchCallback,
    WatchHandle, WritePtr,
};

use lab::{Error, Result};

/// The time that this thread has spent on a processor.
pub(super) fn thread_time() -> Result<Duration> {
    // The kernel brings the figure up to date when it looks for somebody else to run.
    thread::yield_now();
    let failure = |cause: String| Error::new("read this thread's processor time", cause);
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").map_err(|error| failure(error.to_string()))?;
    let nanoseconds = text.split(' ').next().and_then(|figure| figure.parse().ok());
    nanoseconds.map(Duration::from_nanos).ok_or_else(|| failure(format!("{text:?} has no figure")))
}

/// Sums up the processor time of whoever works for one index.
#[derive(Debug, Clone, Default)]
pub(super) struct Meter(Arc<Mutex<Figures>>);

#[derive(Debug, Default)]
struct Figures {
    /// Time that callers spent, and threads that were read for the last time.
    sum: Duration,
    /// The index's own threads: their whole time, as last read.
    threads: HashMap<ThreadId, Duration>,
}

impl Meter {
    /// Does the work on this thread and adds what it cost.
    pub(super) fn measure<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let before = thread_time()?;
        let done = work()?;
        let cost = thread_time()?.saturating_sub(before);
        self.figures().sum += cost;
        Ok(done)
    }

    /// Reads the clock of one of the index's own threads.
    fn pass(&self) {
        // Threads of callers are measured by their calls.
        let own = thread::current().name().is_some_and(|name| {
            name.starts_with("thrd-tantivy-index") || name.starts_with("merge_thread") || name == "segment_updater"
        });
        if own && let Ok(time) = thread_time() {
            self.figures().threads.insert(thread::current().id(), time);
        }
    }

    pub(super) fn total(&self) -> Duration {
        let figures = self.figures();
        figures.sum + figures.threads.values().sum::<Duration>()
    }

    fn figures(&self) -> MutexGuard<'_, Figures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether what was written has to come back after a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Every commit is synced.
    ForGood,
    /// Nothing is: the files go with this process in any case, and waiting for the disk would only slow it down.
    WhileWeLive,
}

/// The list of an index's files, by which it knows its rubbish; an old one after a power cut costs space and no data.
const LIST_OF_FILES: &str = ".managed.json";

/// A directory of files on disk whose every use is a reading of the meter.
#[derive(Debug, Clone)]
pub(super) struct MeteredDirectory {
    files: MmapDirectory,
    path: PathBuf,
    keep: Keep,
    /// What is written whole, a few lists of files, where nothing is kept: a dozen new files for each commit otherwise.
    lists: Arc<Mutex<HashMap<PathBuf, Vec<u8>>>>,
    meter: Meter,
}

impl MeteredDirectory {
    pub(super) fn open(path: &Path, keep: Keep, meter: Meter) -> Result<Self, OpenReadError> {
        let failure = |error: &dyn std::fmt::Display| io::Error::other(error.to_string());
        let files = MmapDirectory::open(path)
            .map_err(|error| OpenReadError::wrap_io_error(failure(&error), path.to_path_buf()))?;
        Ok(Self { files, path: path.to_path_buf(), keep, lists: Arc::default(), meter })
    }
}

impl MeteredDirectory {
    fn lists(&self) -> MutexGuard<'_, HashMap<PathBuf, Vec<u8>>> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Directory for MeteredDirectory {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        self.files.get_file_handle(path)
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        let done = self.files.delete(path);
        self.meter.pass();
        done
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        Ok(self.lists().contains_key(path) || self.files.exists(path)?)
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        let failed = |error| OpenWriteError::wrap_io_error(error, path.to_path_buf());
        let file = match File::options().write(true).create_new(true).open(self.path.join(path)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(OpenWriteError::FileAlreadyExists(path.to_path_buf()));
            }
            file => file.map_err(failed)?,
        };
        Ok(BufWriter::new(Box::new(MeteredFile { file, keep: self.keep, meter: self.meter.clone() })))
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        match self.lists().get(path) {
            Some(list) => Ok(list.clone()),
            None => self.files.atomic_read(path),
        }
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        let done = match self.keep {
            Keep::WhileWeLive => {
                self.lists().insert(path.to_path_buf(), data.to_vec());
                Ok(())
            }
            Keep::ForGood if path == Path::new(LIST_OF_FILES) => {
                let part = self.path.join(path).with_extension("part");
                std::fs::write(&part, data).and_then(|()| std::fs::rename(&part, self.path.join(path)))
            }
            Keep::ForGood => self.files.atomic_write(path, data),
        };
        self.meter.pass();
        done
    }

    fn sync_directory(&self) -> io::Result<()> {
        let done = match self.keep {
            Keep::ForGood => self.files.sync_directory(),
            Keep::WhileWeLive => Ok(()),
        };
        self.meter.pass();
        done
    }

    fn acquire_lock(&self, lock: &Lock) -> Result<DirectoryLock, LockError> {
        self.files.acquire_lock(lock)
    }

    fn watch(&self, callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        self.files.watch(callback)
    }
}

struct MeteredFile {
    file: File,
    keep: Keep,
    meter: Meter,
}

impl Write for MeteredFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl TerminatingWrite for MeteredFile {
    fn terminate_ref(&mut self, _: AntiCallToken) -> io::Result<()> {
        let done = match self.keep {
            Keep::ForGood => self.file.sync_data(),
            Keep::WhileWeLive => Ok(()),
        };
        self.meter.pass();
        done
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn work_counts_and_sleep_does_not() {
        let meter = Meter::default();
        let cost = |work: &dyn Fn()| {
            let before = meter.total();
            let measured = || {
                work();
                Ok(())
            };
            meter.measure(measured).unwrap();
            meter.total() - before
        };
        let asleep = cost(&|| thread::sleep(Duration::from_millis(60)));
        let at_work = cost(&|| {
            let start = thread_time().unwrap();
            while thread_time().unwrap() - start < Duration::from_millis(30) {
                std::hint::black_box(Instant::now());
            }
        });
        assert!(at_work >= Duration::from_millis(30) && asleep < Duration::from_millis(15), "{at_work:?} {asleep:?}");
    }
}

//! What a system writes through, so that the same code runs on a real disk and through a power cut.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::{Doing, Result};

/// A folder of files, named by paths such as `segments/000001.log`. Its own path is `""`.
///
/// A name that was created, renamed or removed is durable once [`sync_dir`](Disk::sync_dir) of its folder succeeded;
/// syncing the file itself is not enough.
pub trait Disk: Send + Sync {
    /// A new, empty file; an error where the name is taken.
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// A file that exists.
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// A new folder, in one that exists.
    fn create_dir(&self, path: &str) -> io::Result<()>;
    /// Renames a file, in place of the one that had the name. Folders keep their names.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file, or an empty folder.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// The names in a folder, sorted.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// Makes the names in a folder durable. What the files hold is theirs to sync.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// The file; a new one where there is none.
    fn open_or_create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        match self.create(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => self.open(path),
            created => created,
        }
    }

    /// All that a file holds.
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let file = self.open(path)?;
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(|_| ErrorKind::FileTooLarge)?];
        let read = file.read_at(0, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

/// An open file. It stays the same file when its name changes or goes.
#[allow(clippy::len_without_is_empty)] // a length that can fail is no container's
pub trait DiskFile: Send + Sync {
    /// Writes at the end, whole, and says where that was. After an error, a part may be there.
    fn append(&self, bytes: &[u8]) -> io::Result<u64>;
    /// Writes at a place, whole; a gap before it reads as zeros. After an error, a part may be there.
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Fills the buffer from a place on, and says how much there was: less than asked only at the end of the file.
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize>;
    /// How many bytes it holds.
    fn len(&self) -> io::Result<u64>;
    /// Cuts it to a length, or fills it up with zeros.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Makes bytes and length durable. After an error, nothing that was written since the last success is sure to be
    /// there, whatever a later sync says.
    fn sync_data(&self) -> io::Result<()>;
    /// The same, with the times of access and change.
    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }
}

pub(crate) fn refused(kind: ErrorKind, path: &str) -> io::Error {
    io::Error::new(kind, format!("{path:?}: {kind}"))
}

/// The names on the way to a path, which has to stay inside its disk.
pub(crate) fn names(path: &str) -> io::Result<Vec<&str>> {
    let names: Vec<_> = path.split('/').collect();
    if names.iter().any(|name| matches!(*name, "" | "." | "..") || name.len() > 255 || name.contains('\0')) {
        return Err(refused(ErrorKind::InvalidInput, path));
    }
    Ok(names)
}

/// A disk of the operating system's: a folder, and what is below it.
#[derive(Debug, Clone)]
pub struct RealDisk {
    root: PathBuf,
    appending: Arc<Mutex<Appending>>,
}

/// By device and inode: one append at a time, also through two handles.
type Appending = HashMap<(u64, u64), Weak<Mutex<()>>>;

impl RealDisk {
    /// The disk in a folder, which is made where it is missing.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        fs::create_dir_all(&root).doing(format!("make the folder {}", root.display()))?;
        Ok(Self { root, appending: Arc::default() })
    }

    fn path(&self, path: &str) -> io::Result<PathBuf> {
        names(path)?;
        Ok(self.root.join(path))
    }

    fn dir(&self, dir: &str) -> io::Result<PathBuf> {
        if dir.is_empty() { Ok(self.root.clone()) } else { self.path(dir) }
    }

    fn file(&self, path: &str, options: &mut OpenOptions) -> io::Result<Arc<dyn DiskFile>> {
        let file = options.read(true).write(true).open(self.path(path)?).map_err(named(path))?;
        let about = file.metadata().map_err(named(path))?;
        let mut locks = self.appending.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = locks.entry((about.dev(), about.ino())).or_default();
        let appending = lock.upgrade().unwrap_or_default();
        *lock = Arc::downgrade(&appending);
        Ok(Arc::new(RealFile { file, path: path.to_string(), appending }))
    }
}

fn named(path: &str) -> impl Fn(io::Error) -> io::Error + '_ {
    move |error| io::Error::new(error.kind(), format!("{path:?}: {error}"))
}

impl Disk for RealDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.file(path, OpenOptions::new().create_new(true))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.file(path, &mut OpenOptions::new())
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        fs::create_dir(self.path(path)?).map_err(named(path))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (source, target) = (self.path(from)?, self.path(to)?);
        let folder = |path| fs::symlink_metadata(path).map(|about| about.is_dir());
        if folder(&source).map_err(named(from))? {
            return Err(refused(ErrorKind::IsADirectory, from));
        }
        if folder(&target).is_ok_and(|folder| folder) {
            return Err(refused(ErrorKind::IsADirectory, to));
        }
        fs::rename(source, target).map_err(named(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let target = self.path(path)?;
        let is_dir = fs::symlink_metadata(&target).map_err(named(path))?.is_dir();
        if is_dir { fs::remove_dir(target) } else { fs::remove_file(target) }.map_err(named(path))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let name = |entry: io::Result<fs::DirEntry>| {
            entry?.file_name().into_string().map_err(|name| refused(ErrorKind::InvalidData, &name.to_string_lossy()))
        };
        let entries = fs::read_dir(self.dir(dir)?).map_err(named(dir))?;
        let mut names: Vec<String> = entries.map(name).collect::<io::Result<_>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let path = self.dir(dir)?;
        let dir_only = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path);
        dir_only.and_then(|dir| dir.sync_all()).map_err(named(dir))
    }
}

struct RealFile {
    file: File,
    path: String,
    appending: Arc<Mutex<()>>,
}

impl DiskFile for RealFile {
    fn append(&self, bytes: &[u8]) -> io::Result<u64> {
        // Not O_APPEND: Linux would then append what write_at writes as well.
        let _one_at_a_time = self.appending.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.len()?;
        self.write_at(at, bytes).map(|()| at)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at).map_err(named(&self.path))
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match self.file.read_at(&mut into[done..], at + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(named(&self.path)(error)),
            }
        }
        Ok(done)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|about| about.len()).map_err(named(&self.path))
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len).map_err(named(&self.path))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data().map_err(named(&self.path))
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all().map_err(named(&self.path))
    }
}

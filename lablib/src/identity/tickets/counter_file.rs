//! A number in a file, with batched saves: the file holds the end of what may be handed out.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

use super::{Issuer, IssuerStats, Skip};
use crate::lab::crash::{self, Disk, RealDisk};
use crate::lab::{Doing, Error, Result};

const MAGIC: &str = "lab counter 1";
/// What every new counter begins with: 0 means "none" to too many programs.
const FIRST: u64 = 1;

/// A counter that outlives its process. Shared by threads; each takes its numbers through a reference or an `Arc`.
///
/// The file is read once, when it is opened. From then on it is only replaced, whole, each time a batch is reserved: new
/// content under another name, synced, renamed, and the folder synced; then the first number of the batch may go out.
///
/// ```
/// use lablib::identity::tickets::CounterFile;
///
/// let folder = std::env::temp_dir().join(format!("counter-{}", std::process::id()));
/// let counter = CounterFile::create(folder.join("orders"), 100)?;
/// assert_eq!((counter.next_id()?, counter.next_id()?), (1, 2));
/// drop(counter); // as a crash would
///
/// let counter = CounterFile::open(folder.join("orders"), 10)?;
/// assert_eq!(counter.next_id()?, 101);
/// counter.close()?; // gives back what is left of the batch
/// assert_eq!(CounterFile::open(folder.join("orders"), 1_000)?.next_id()?, 102);
/// # std::fs::remove_dir_all(folder).unwrap();
/// # Ok::<(), lablib::lab::Error>(())
/// ```
pub struct CounterFile {
    disk: Arc<dyn Disk>,
    name: String,
    batch: u64,
    skip: Option<Skip>,
    counting: Mutex<Counting>,
    /// Held as long as the counter is open. Not the counter's own file: that one is replaced with every save, and a lock
    /// stays with the file that had the name when it was taken.
    lock: Option<File>,
}

struct Counting {
    /// What goes out next.
    next: u64,
    /// The end of what is reserved: the first number that must not go out.
    end: u64,
    saves: u64,
    closed: bool,
}

impl CounterFile {
    /// A new counter, which begins with 1; refused where there is one already.
    pub fn create(path: impl AsRef<Path>, batch: u64) -> Result<Self> {
        let path = path.as_ref();
        let doing = || format!("create the counter {}", path.display());
        check(batch).map_err(|cause| Error::new(doing(), cause))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).doing(doing())?;
        let place = Place::of(path, doing())?;
        Self::begin(place.disk, &place.name, batch, Some(place.lock)).map_err(|error| error.at(path.display()))
    }

    /// A counter that exists. It goes on behind everything that may have been handed out, whatever the batch was then.
    pub fn open(path: impl AsRef<Path>, batch: u64) -> Result<Self> {
        let path = path.as_ref();
        let doing = || format!("open the counter {}", path.display());
        check(batch).map_err(|cause| Error::new(doing(), cause))?;
        // Two names of one file, through a link, must find the same lock.
        let real = path.canonicalize().map_err(|error| match error.kind() {
            ErrorKind::NotFound => missing(&doing()),
            _ => Error::new(doing(), error),
        })?;
        let place = Place::of(&real, doing())?;
        Self::resume(place.disk, &place.name, batch, Some(place.lock)).map_err(|error| error.at(path.display()))
    }

    /// The counter in a file of a disk that nobody else writes to; a new one where there is none. For power cuts.
    pub fn on(disk: Arc<dyn Disk>, name: &str, batch: u64) -> Result<Self> {
        check(batch).map_err(|cause| Error::new(format!("open the counter {name}"), cause))?;
        match disk.open(name) {
            Err(error) if error.kind() == ErrorKind::NotFound => Self::begin(disk, name, batch, None),
            _ => Self::resume(disk, name, batch, None),
        }
    }

    /// The same, with one step left out from now on.
    pub fn without(mut self, step: Skip) -> Self {
        self.skip = Some(step);
        self
    }

    /// The next number.
    pub fn next_id(&self) -> Result<u64> {
        let mut counting = self.counting();
        if counting.closed {
            return Err(Error::new("take a number", "the counter is closed").at(&self.name));
        }
        if counting.next == counting.end {
            self.reserve(&mut counting)?;
        }
        let id = counting.next;
        counting.next += 1;
        Ok(id)
    }

    /// How many numbers are reserved with one save.
    pub fn batch(&self) -> u64 {
        self.batch
    }

    /// How often the file was written since the counter was opened.
    pub fn saves(&self) -> u64 {
        self.counting().saves
    }

    /// How many numbers a crash would lose now: reserved, and not handed out.
    pub fn at_risk(&self) -> u64 {
        let counting = self.counting();
        counting.end - counting.next
    }

    /// Gives back what is reserved and not handed out. The counter hands out no more; whoever opens it next goes on without
    /// a gap.
    pub fn close(&self) -> Result<()> {
        let mut counting = self.counting();
        // Before the attempt: if it fails half-way, nobody knows which end the file has, and no number may go out any more.
        let was_closed = std::mem::replace(&mut counting.closed, true);
        if !was_closed && counting.next < counting.end {
            self.save(&mut counting, |counting| counting.next)?;
            counting.end = counting.next;
        }
        // Not behind an error: a counter that could not be closed is left to its owner until that one is gone.
        self.let_go();
        Ok(())
    }

    /// Gives up the right to the file. By name, not only by closing the lock's file: a process that another thread is just
    /// starting holds a copy of that for a moment.
    fn let_go(&self) {
        if let Some(lock) = &self.lock {
            let _ = lock.unlock(); // its closing is the second way
        }
    }

    fn begin(disk: Arc<dyn Disk>, name: &str, batch: u64, lock: Option<File>) -> Result<Self> {
        if disk.open(name).is_ok() {
            let remedy = "open it, or take another name";
            return Err(Error::new("create a counter", "there is one of this name").remedy(remedy));
        }
        let counter = Self::at(disk, name, batch, FIRST, lock);
        counter.save(&mut counter.counting(), |_| FIRST)?;
        Ok(counter)
    }

    fn resume(disk: Arc<dyn Disk>, name: &str, batch: u64, lock: Option<File>) -> Result<Self> {
        let doing = "read a counter";
        let bytes = disk.read(name).doing(doing)?;
        let end = decode(&bytes).map_err(|cause| {
            Error::new(doing, cause).remedy("restore it with a number above all that were handed out, or begin another")
        })?;
        Ok(Self::at(disk, name, batch, end, lock))
    }

    fn at(disk: Arc<dyn Disk>, name: &str, batch: u64, next: u64, lock: Option<File>) -> Self {
        let counting = Mutex::new(Counting { next, end: next, saves: 0, closed: false });
        Self { disk, name: name.to_string(), batch, skip: None, counting, lock }
    }

    fn counting(&self) -> MutexGuard<'_, Counting> {
        self.counting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserve(&self, counting: &mut Counting) -> Result<()> {
        let end = counting.end.checked_add(self.batch).ok_or_else(|| {
            Error::new("take a number", format!("after {} there are no {} numbers left", counting.end, self.batch))
                .at(&self.name)
        })?;
        let saved = if self.skip == Some(Skip::Reserve) { counting.end } else { end };
        self.save(counting, |_| saved)?;
        counting.end = end;
        Ok(())
    }

    /// Replaces the file. After an error it may hold the old number or the new one, and either is safe: nothing of the new
    /// batch has gone out, and the next attempt writes a file of its own.
    fn save(&self, counting: &mut Counting, end: impl Fn(&Counting) -> u64) -> Result<()> {
        let text = encode(end(counting));
        self.replace(text.as_bytes()).doing("save a counter").map_err(|error| error.at(&self.name))?;
        counting.saves += 1;
        Ok(())
    }

    fn replace(&self, text: &[u8]) -> std::io::Result<()> {
        if self.skip == Some(Skip::Rename) {
            let file = self.disk.open_or_create(&self.name)?;
            file.write_at(0, text)?;
            return file.sync_data();
        }
        let temporary = format!("{}.new", self.name);
        match self.disk.remove(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        crash::point("counter-before-save");
        let file = self.disk.create(&temporary)?;
        file.write_at(0, text)?;
        crash::point("counter-written");
        if self.skip != Some(Skip::FileSync) {
            file.sync_data()?;
        }
        crash::point("counter-synced");
        self.disk.rename(&temporary, &self.name)?;
        crash::point("counter-renamed");
        if self.skip != Some(Skip::FolderSync) {
            self.disk.sync_dir("")?;
        }
        crash::point("counter-saved");
        Ok(())
    }
}

impl Drop for CounterFile {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl std::fmt::Debug for CounterFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counting = self.counting();
        write!(f, "counter {} at {} of {}, in batches of {}", self.name, counting.next, counting.end, self.batch)
    }
}

impl Issuer for Arc<CounterFile> {
    fn next_id(&mut self) -> Result<u64> {
        CounterFile::next_id(self)
    }

    fn stats(&self) -> IssuerStats {
        IssuerStats::default()
    }
}

/// Where a counter lies, and the right to it.
struct Place {
    disk: Arc<dyn Disk>,
    name: String,
    lock: File,
}

impl Place {
    fn of(path: &Path, doing: String) -> Result<Self> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
            return Err(Error::new(doing, "its path names no file"));
        };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let door = folder.join(format!("{name}.lock"));
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(door).doing(&doing)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let remedy = "let that one hand out the numbers, or end it";
                return Err(Error::new(doing, "somebody else has it open").remedy(remedy));
            }
            Err(TryLockError::Error(error)) => return Err(Error::new(doing, error)),
        }
        Ok(Self { disk: Arc::new(RealDisk::open(folder)?), name: name.to_string(), lock })
    }
}

fn check(batch: u64) -> std::result::Result<(), String> {
    if batch == 0 { Err("a batch has at least one number".into()) } else { Ok(()) }
}

fn missing(doing: &str) -> Error {
    Error::new(doing, "there is none")
        .remedy("create it, if it is new; if it is lost, its numbers would be issued again")
}

/// One line that a person can read, and a checksum of it.
fn encode(end: u64) -> String {
    let line = format!("{MAGIC}: next {end:020}");
    format!("{line} {:016x}\n", xxh3_64(line.as_bytes()))
}

fn decode(bytes: &[u8]) -> std::result::Result<u64, String> {
    let text = String::from_utf8_lossy(bytes);
    let rest = text.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(": next "));
    let Some(rest) = rest else {
        return Err("it is no counter of the lab's".into());
    };
    let end = rest.get(..20).and_then(|digits| digits.parse().ok()).filter(|end| encode(*end).as_bytes() == bytes);
    end.ok_or_else(|| "it is torn: its checksum does not fit".into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::lab::crash::SimulatedDisk;

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        for end in [0, 1, 4_711, u64::MAX] {
            let bytes = encode(end).into_bytes();
            assert_eq!(decode(&bytes), Ok(end));
            for bit in 0..bytes.len() * 8 {
                let mut torn = bytes.clone();
                torn[bit / 8] ^= 1 << (bit % 8);
                assert!(decode(&torn).is_err(), "bit {bit} of {end}");
            }
            for length in 0..bytes.len() {
                assert!(decode(&bytes[..length]).is_err(), "{length} bytes of {end}");
            }
            assert!(decode(&[bytes.as_slice(), b"\n"].concat()).is_err());
        }
        assert!(decode(b"1000").unwrap_err().contains("no counter of the lab's"));
        assert!(decode(&encode(7).as_bytes()[..30]).unwrap_err().contains("torn"));
    }

    #[test]
    fn the_last_numbers_are_handed_out_and_then_no_more() {
        let disk = Arc::new(SimulatedDisk::seeded(1));
        disk.create("n").unwrap().write_at(0, encode(u64::MAX - 3).as_bytes()).unwrap();
        let counter = CounterFile::on(disk, "n", 2).unwrap();
        assert_eq!((counter.next_id().unwrap(), counter.next_id().unwrap()), (u64::MAX - 3, u64::MAX - 2));
        let error = counter.next_id().unwrap_err().to_string();
        assert!(error.contains("there are no 2 numbers left"), "{error}");
    }
}

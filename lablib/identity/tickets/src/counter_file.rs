//! A number in a file, with batched saves: the file holds the end of what may be handed out.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

use super::{Issuer, Skip};
use lab::crash;
use lab::disk::{Disk, RealDisk};
use lab::{Doing, Error, Result};

const MAGIC: &str = "lab counter 1";
/// What every new counter begins with: 0 means "none" to too many programs.
const FIRST: u64 = 1;
/// What the two files beside a counter end in: its next content until that takes its name, and the right to it.
const NEXT: &str = ".new";
const LOCK: &str = ".lock";

/// A counter that outlives its process. Shared by threads; each takes its numbers through a reference or an `Arc`.
///
/// The file is read once, when it is opened. From then on it is only replaced, whole, each time a batch is reserved: new
/// content under another name, synced, renamed, and the folder synced; then the first number of the batch may go out. Before
/// a new counter gets its first file, every folder on the way to it is synced, so that none of them takes it along.
///
/// ```
/// use tickets::CounterFile;
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
/// # Ok::<(), lab::Error>(())
/// ```
pub struct CounterFile {
    place: Place,
    batch: u64,
    skip: Option<Skip>,
    counting: Mutex<Counting>,
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
    /// A new counter, which begins with 1, in a folder that is made where it is missing; refused where there is one already.
    pub fn create(path: impl AsRef<Path>, batch: u64) -> Result<Self> {
        let path = path.as_ref();
        let doing = || format!("create the counter {}", path.display());
        check(batch).map_err(|cause| Error::new(doing(), cause))?;
        let mut place = Place::of(path, &doing())?;
        make_way(&*place.disk, &place.name, None).doing(doing())?;
        place.lock(path, &doing())?;
        Self::begin(place, batch).map_err(|error| error.at(path.display()))
    }

    /// A counter that exists. It goes on behind everything that may have been handed out, whatever the batch was then.
    pub fn open(path: impl AsRef<Path>, batch: u64) -> Result<Self> {
        let path = path.as_ref();
        let doing = || format!("open the counter {}", path.display());
        check(batch).map_err(|cause| Error::new(doing(), cause))?;
        // Two names of one file, through a link, must find the same lock.
        let real = path.canonicalize().map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::new(doing(), "there is none")
                .remedy("create it, if it is new; if it is lost, its numbers would be issued again"),
            _ => Error::new(doing(), error),
        })?;
        let mut place = Place::of(&real, &doing())?;
        place.lock(&real, &doing())?;
        // A link that is no symbolic one cannot be told from the file, and keeps the old number at the next save.
        let about = std::fs::metadata(&real).doing(doing())?;
        if about.is_file() && about.nlink() > 1 {
            let remedy = "remove the other name: whoever opens the counter by it would issue numbers again";
            return Err(Error::new(doing(), "its file has another name, by a hard link").remedy(remedy));
        }
        Self::resume(place, batch).map_err(|error| error.at(path.display()))
    }

    /// The counter in a file of a disk that nobody else writes to; a new one where there is none. For power cuts.
    pub fn on(disk: Arc<dyn Disk>, name: &str, batch: u64) -> Result<Self> {
        Self::on_without(disk, name, batch, None)
    }

    /// The same, with a step left out: of making the way to a new counter, or of every save but the one that makes it.
    pub fn on_without(disk: Arc<dyn Disk>, name: &str, batch: u64, step: Option<Skip>) -> Result<Self> {
        let doing = || format!("open the counter {name}");
        check(batch).and_then(|()| check_name(name)).map_err(|cause| Error::new(doing(), cause))?;
        let counter = match disk.open(name) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make_way(&*disk, name, step).doing(doing())?;
                Self::begin(Place::on(disk, name), batch)?
            }
            _ => Self::resume(Place::on(disk, name), batch)?,
        };
        Ok(counter.without(step))
    }

    /// The same counter, with this step left out from now on.
    pub fn without(mut self, step: Option<Skip>) -> Self {
        self.skip = step;
        self
    }

    /// The next number.
    pub fn next_id(&self) -> Result<u64> {
        let mut counting = self.counting();
        if counting.closed {
            return Err(Error::new("take a number", "the counter is closed").at(&self.place.title));
        }
        if counting.next == counting.end {
            self.reserve(&mut counting)?;
        }
        let id = counting.next;
        counting.next += 1;
        Ok(id)
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
        let next = counting.next;
        if !was_closed && next < counting.end {
            self.save(&mut counting, next)?;
            counting.end = next;
        }
        // Not behind an error: a counter that could not be closed is left to its owner until that one is gone.
        self.let_go();
        Ok(())
    }

    /// Gives up the right to the file. By name, not only by closing the lock's file: a process that another thread is just
    /// starting holds a copy of that for a moment.
    fn let_go(&self) {
        if let Some(lock) = &self.place.lock {
            let _ = lock.unlock(); // its closing is the second way
        }
    }

    fn begin(place: Place, batch: u64) -> Result<Self> {
        let doing = "create a counter";
        match place.disk.open(&place.name) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            // Whatever else keeps it from being opened, it may be there, and its numbers may be out.
            Err(error) => return Err(error).doing(doing),
            Ok(_) => {
                let remedy = "open it, or take another name";
                return Err(Error::new(doing, "there is one of this name").remedy(remedy));
            }
        }
        let counter = Self::at(place, batch, FIRST);
        counter.save(&mut counter.counting(), FIRST)?;
        Ok(counter)
    }

    fn resume(place: Place, batch: u64) -> Result<Self> {
        let doing = "read a counter";
        let bytes = place.disk.read(&place.name).doing(doing)?;
        let end = decode(&bytes).map_err(|cause| {
            Error::new(doing, cause).remedy("restore it with a number above all that were handed out, or begin another")
        })?;
        Ok(Self::at(place, batch, end))
    }

    fn at(place: Place, batch: u64, next: u64) -> Self {
        let counting = Mutex::new(Counting { next, end: next, saves: 0, closed: false });
        Self { place, batch, skip: None, counting }
    }

    fn counting(&self) -> MutexGuard<'_, Counting> {
        self.counting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserve(&self, counting: &mut Counting) -> Result<()> {
        let end = counting.end.checked_add(self.batch).ok_or_else(|| {
            Error::new("take a number", format!("after {} there are no {} numbers left", counting.end, self.batch))
                .at(&self.place.title)
        })?;
        let saved = if self.skip == Some(Skip::Reserve) { counting.end } else { end };
        self.save(counting, saved)?;
        counting.end = end;
        Ok(())
    }

    /// Replaces the file. After an error it may hold the old number or the new one, and either is safe: nothing of the new
    /// batch has gone out, and the next attempt writes a file of its own.
    fn save(&self, counting: &mut Counting, end: u64) -> Result<()> {
        self.replace(encode(end).as_bytes()).doing("save a counter").map_err(|error| error.at(&self.place.title))?;
        counting.saves += 1;
        Ok(())
    }

    fn replace(&self, text: &[u8]) -> std::io::Result<()> {
        let Place { disk, name, .. } = &self.place;
        if self.skip == Some(Skip::Rename) {
            let file = disk.open_or_create(name)?;
            file.write_at(0, text)?;
            return file.sync_data();
        }
        let temporary = format!("{name}{NEXT}");
        match disk.remove(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        crash::point("counter-before-save");
        let file = disk.create(&temporary)?;
        file.write_at(0, text)?;
        crash::point("counter-written");
        if self.skip != Some(Skip::FileSync) {
            file.sync_data()?;
        }
        crash::point("counter-synced");
        disk.rename(&temporary, name)?;
        crash::point("counter-renamed");
        if self.skip != Some(Skip::FolderSync) {
            disk.sync_dir(folder_of(name))?;
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
        write!(f, "counter {} at {} of {}, in batches of {}", self.place.title, counting.next, counting.end, self.batch)
    }
}

impl Issuer for Arc<CounterFile> {
    fn next_id(&mut self) -> Result<u64> {
        CounterFile::next_id(self)
    }
}

/// Where a counter lies, and the right to it.
struct Place {
    disk: Arc<dyn Disk>,
    name: String,
    /// As a reader knows it.
    title: String,
    /// Held as long as the counter is open. Not the counter's own file: that one is replaced with every save, and a lock
    /// stays with the file that had the name when it was taken.
    lock: Option<File>,
}

impl Place {
    fn on(disk: Arc<dyn Disk>, name: &str) -> Self {
        Self { disk, name: name.to_string(), title: name.to_string(), lock: None }
    }

    /// The disk is the whole file system that the path is on, so that every folder on the way can be synced.
    fn of(path: &Path, doing: &str) -> Result<Self> {
        let refused = |cause: &str| Error::new(doing, cause);
        let whole = std::env::current_dir().doing(doing)?.join(path);
        let folder = whole.parent().ok_or_else(|| refused("its path names no file"))?;
        // What is there is followed through its links; what is missing will be made.
        let there =
            folder.ancestors().find(|above| above.exists()).ok_or_else(|| refused("its path begins nowhere"))?;
        let missing = whole.strip_prefix(there).doing(doing)?;
        let ground = there.canonicalize().doing(doing)?;
        let root = root_of(&ground).doing(doing)?;
        let names: Option<Vec<&str>> = ground
            .strip_prefix(root)
            .doing(doing)?
            .components()
            .chain(missing.components())
            .map(|part| match part {
                Component::Normal(name) => name.to_str(),
                _ => None, // a way back out of a folder that is not there yet
            })
            .collect();
        let name = names.ok_or_else(|| refused("its path is no plain way down to a file"))?.join("/");
        check_name(&name).map_err(|cause| refused(&cause))?;
        let disk = Arc::new(RealDisk::open(root)?);
        Ok(Self { disk, name, title: path.display().to_string(), lock: None })
    }

    /// Takes the right to it, in a folder that is there.
    fn lock(&mut self, path: &Path, doing: &str) -> Result<()> {
        let mut door = path.as_os_str().to_owned();
        door.push(LOCK);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(door).doing(doing)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let remedy = "let that one hand out the numbers, or end it";
                return Err(Error::new(doing, "somebody else has it open").remedy(remedy));
            }
            Err(TryLockError::Error(error)) => return Err(error).doing(doing),
        }
        self.lock = Some(lock);
        Ok(())
    }
}

/// The highest folder above this one, or it itself, that is on the same file system, by a way of plain text.
fn root_of(folder: &Path) -> std::io::Result<&Path> {
    let device = |path: &Path| std::fs::metadata(path).map(|about| about.dev());
    let mut root = folder;
    while let Some(above) = root.parent().filter(|_| root.file_name().is_some_and(|name| name.to_str().is_some())) {
        if device(above)? != device(root)? {
            break;
        }
        root = above;
    }
    Ok(root)
}

/// The folders on the way to a new counter, each of them durable in the one above it before the counter's first file is
/// written. Also those that are there already: whoever made them may have been killed before they were durable.
fn make_way(disk: &dyn Disk, name: &str, skip: Option<Skip>) -> std::io::Result<()> {
    let folders: Vec<&str> = name.match_indices('/').map(|(at, _)| &name[..at]).collect();
    let mut made = Vec::new();
    let mut way = || {
        for folder in &folders {
            match disk.create_dir(folder) {
                Ok(()) => made.push(*folder),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        crash::point("counter-folders-made");
        for folder in folders.iter().filter(|_| skip != Some(Skip::ParentSync)) {
            match disk.sync_dir(folder_of(folder)) {
                // A folder that we may not read, such as another user's above ours, has been there before us.
                Err(error) if error.kind() == ErrorKind::PermissionDenied && !made.contains(folder) => {}
                synced => synced?,
            }
        }
        Ok(())
    };
    way().inspect_err(|_| {
        // After a sync that failed, no later one makes these names durable: they have to be made anew.
        for folder in made.iter().rev() {
            let _ = disk.remove(folder); // somebody may have put something into it meanwhile
        }
    })
}

/// The folder that a name is in.
fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn check(batch: u64) -> std::result::Result<(), String> {
    if batch == 0 { Err("a batch has at least one number".into()) } else { Ok(()) }
}

/// A counter's own files must not be another counter: they are removed and replaced.
fn check_name(name: &str) -> std::result::Result<(), String> {
    match [NEXT, LOCK].iter().find(|end| name.ends_with(**end)) {
        Some(end) => Err(format!("a name that ends in {end} belongs to the counter without it")),
        None => Ok(()),
    }
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
    use lab::crash::SimulatedDisk;

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

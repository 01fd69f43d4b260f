//! A disk in memory that forgets what was not synced when its power is cut.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::outcome::Tearing;
use super::state::{Content, Folder, Inode, ROOT, SECTOR, State};
use crate::Rng;
use crate::disk::{Disk, DiskFile, names, refused};

const LARGEST: u64 = 1 << 32;

/// Something that goes wrong once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A sync of a file or a folder fails. What it should have made durable counts as clean from then on, and a later sync
    /// does not bring it back.
    FailedSync,
    /// A write stops half-way, with an error.
    ShortWrite,
    /// A read gets one bit wrong.
    FlippedBit,
}

/// A disk in memory that can lose its power. A clone is another handle of the same disk.
///
/// ```
/// use lab::crash::SimulatedDisk;
/// use lab::disk::Disk;
///
/// let disk = SimulatedDisk::seeded(7);
/// let log = disk.create("log")?;
/// log.append(b"synced")?;
/// log.sync_data()?;
/// disk.sync_dir("")?;
/// log.append(b", and not synced")?;
///
/// let after = disk.power_cut(1);
/// assert_eq!(after.read("log")?[..6], *b"synced");
/// assert!(log.append(b"too late").is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

impl SimulatedDisk {
    /// An empty disk. The seed decides what garbage there is, and where a short write ends.
    pub fn seeded(seed: u64) -> Self {
        Self::with(State::empty(Tearing::default(), u64::MAX, Rng::seeded(seed, "simulated disk")))
    }

    pub(super) fn with(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a power cut may do to a sector that was being written.
    pub fn tearing(self, tearing: Tearing) -> Self {
        self.state().tearing = tearing;
        self
    }

    /// From now on its files hold this many bytes together, and then the disk is full.
    pub fn limit(&self, bytes: u64) {
        self.state().limit = bytes;
    }

    /// The fault strikes once, at the nth sync, write or read from now, counted from 1.
    pub fn inject(&self, fault: Fault, nth: u64) {
        self.state().faults.push((fault, nth.max(1)));
    }

    /// Whether an injected fault has struck.
    pub fn has_failed(&self) -> bool {
        self.state().fired
    }

    /// The power goes after this many more operations that change or sync the disk: the next one is refused, like everything
    /// after it.
    pub fn cut_after(&self, operations: u64) {
        self.state().left = Some(operations);
    }

    /// Whether the power is out: nobody hears an acknowledgement any more.
    pub fn is_off(&self) -> bool {
        self.state().off
    }

    /// How many operations that change or sync the disk there were.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The last of these operations, oldest first.
    pub fn trace(&self) -> Vec<String> {
        self.state().trace.iter().cloned().collect()
    }

    /// Every path with what is in it, as a process sees it now; a folder has no content.
    pub fn tree(&self) -> BTreeMap<String, Option<Vec<u8>>> {
        let mut tree = BTreeMap::new();
        self.state().tree(ROOT, "", &mut tree);
        tree
    }

    /// Flips a bit of a file on the disk, as age does; an error where the file has no such bit.
    pub fn flip_bit(&self, path: &str, bit: u64) -> io::Result<()> {
        let mut state = self.state();
        let at = usize::try_from(bit / 8).map_err(|_| refused(ErrorKind::InvalidInput, path))?;
        match state.place(path)?.2.map(|inode| &mut state.inodes[inode]) {
            Some(Inode::File(content)) if at < content.bytes.len() => {
                content.bytes[at] ^= 1 << (bit % 8);
                let versions = content.sectors.get_mut(&(at / SECTOR)).map(|sector| &mut sector.versions);
                versions.into_iter().flatten().for_each(|version| version.bytes[at % SECTOR] ^= 1 << (bit % 8));
                Ok(())
            }
            _ => Err(refused(ErrorKind::InvalidInput, path)),
        }
    }

    /// The disk after its process was killed: everything is as it was, synced or not.
    pub fn kill(&self) -> Self {
        let mut state = self.state();
        let after = State { left: None, off: false, faults: vec![], fired: false, ..state.clone() };
        state.off = true;
        Self::with(after)
    }

    fn file(&self, inode: usize, path: &str) -> Arc<dyn DiskFile> {
        Arc::new(SimulatedFile { disk: self.clone(), inode, path: path.to_string() })
    }
}

impl Disk for SimulatedDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let inode = self.state().new_inode(path, Inode::File(Content::durable(vec![])), "create")?;
        Ok(self.file(inode, path))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.powered()?;
        let inode = state.place(path)?.2.ok_or_else(|| refused(ErrorKind::NotFound, path))?;
        match state.inodes[inode] {
            Inode::File(_) => Ok(self.file(inode, path)),
            Inode::Folder(_) => Err(refused(ErrorKind::IsADirectory, path)),
        }
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.state().new_inode(path, Inode::Folder(Folder::default()), "create folder").map(drop)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let op = state.begin(|| format!("rename {from} to {to}"))?;
        names(to)?;
        let (source, old, inode) = state.place(from)?;
        let inode = inode.ok_or_else(|| refused(ErrorKind::NotFound, from))?;
        if matches!(state.inodes[inode], Inode::Folder(_)) {
            return Err(refused(ErrorKind::IsADirectory, from));
        }
        let (target, new, there) = state.place(to)?;
        match there.map(|there| &state.inodes[there]) {
            Some(Inode::Folder(_)) => return Err(refused(ErrorKind::IsADirectory, to)),
            _ if there == Some(inode) => {}
            _ if source == target => state.rename_in(op, source, vec![(old, None), (new, Some(inode))], None),
            _ => {
                state.rename_in(op, target, vec![(new, Some(inode))], None);
                state.clock += 1;
                let then = state.clock;
                state.rename_in(then, source, vec![(old, None)], Some(op));
            }
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        let op = state.begin(|| format!("remove {path}"))?;
        let (folder, name, inode) = state.place(path)?;
        let inode = inode.ok_or_else(|| refused(ErrorKind::NotFound, path))?;
        match &state.inodes[inode] {
            Inode::Folder(folder) if !folder.names.is_empty() => Err(refused(ErrorKind::DirectoryNotEmpty, path)),
            _ => {
                state.rename_in(op, folder, vec![(name, None)], None);
                Ok(())
            }
        }
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.powered()?;
        let inode = state.dir(dir)?;
        Ok(state.folder(inode, dir)?.names.keys().cloned().collect())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state();
        state.begin(|| format!("sync folder {dir:?}"))?;
        let inode = state.dir(dir)?;
        if state.strikes(Fault::FailedSync) {
            state.changes.iter_mut().filter(|change| change.folder == inode).for_each(|change| change.lost = true);
            return Err(io::Error::other(format!("{dir:?}: the sync failed")));
        }
        state.sync_names(inode);
        Ok(())
    }
}

struct SimulatedFile {
    disk: SimulatedDisk,
    inode: usize,
    path: String,
}

impl SimulatedFile {
    fn content<'a>(&self, state: &'a mut State) -> io::Result<&'a mut Content> {
        match &mut state.inodes[self.inode] {
            Inode::File(content) => Ok(content),
            Inode::Folder(_) => Err(refused(ErrorKind::IsADirectory, &self.path)),
        }
    }

    /// How far a file may grow before the disk is full.
    fn room(&self, state: &State, length: usize) -> usize {
        let mut tree = BTreeMap::new();
        if state.limit < u64::MAX {
            state.tree(ROOT, "", &mut tree);
        }
        let used: usize = tree.values().flatten().map(Vec::len).sum();
        let limit = usize::try_from(state.limit).unwrap_or(usize::MAX);
        limit.saturating_sub(used).saturating_add(length)
    }

    fn write(&self, state: &mut State, op: u64, at: u64, bytes: &[u8]) -> io::Result<()> {
        let length = self.content(state)?.bytes.len();
        let at = at.checked_add(bytes.len() as u64).filter(|end| *end <= LARGEST).and(usize::try_from(at).ok());
        let at = at.ok_or_else(|| refused(ErrorKind::FileTooLarge, &self.path))?;
        let short = !bytes.is_empty() && state.strikes(Fault::ShortWrite);
        let stop = if short { usize::try_from(state.rng.below(bytes.len() as u64)).unwrap_or(0) } else { bytes.len() };
        let end = if at + stop > length { (at + stop).min(self.room(state, length)) } else { at + stop };
        let written = &bytes[..end.saturating_sub(at)];
        if !written.is_empty() {
            self.content(state)?.change(at..end, true, op, |content| {
                content.resize(content.len().max(end), 0);
                content[at..end].copy_from_slice(written);
            });
        }
        match () {
            () if short => Err(io::Error::new(ErrorKind::WriteZero, format!("{:?}: a short write", self.path))),
            () if written.len() < bytes.len() => Err(refused(ErrorKind::StorageFull, &self.path)),
            () => Ok(()),
        }
    }
}

impl DiskFile for SimulatedFile {
    fn append(&self, bytes: &[u8]) -> io::Result<u64> {
        let mut state = self.disk.state();
        let op = state.begin(|| format!("append {} bytes to {}", bytes.len(), self.path))?;
        let at = self.content(&mut state)?.bytes.len() as u64;
        self.write(&mut state, op, at, bytes).map(|()| at)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let op = state.begin(|| format!("write {} bytes at {at} of {}", bytes.len(), self.path))?;
        self.write(&mut state, op, at, bytes)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.powered()?;
        let content = self.content(&mut state)?;
        let here = usize::try_from(at).ok().and_then(|at| content.bytes.get(at..)).unwrap_or_default();
        let read = here.len().min(into.len());
        into[..read].copy_from_slice(&here[..read]);
        if read > 0 && state.strikes(Fault::FlippedBit) {
            let bit = usize::try_from(state.rng.below(8 * read as u64)).unwrap_or(0);
            into[bit / 8] ^= 1 << (bit % 8);
        }
        Ok(read)
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.powered()?;
        Ok(self.content(&mut state)?.bytes.len() as u64)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let op = state.begin(|| format!("truncate {} to {len} bytes", self.path))?;
        let length = self.content(&mut state)?.bytes.len();
        let new = usize::try_from(len).ok().filter(|new| *new as u64 <= LARGEST);
        let new = new.ok_or_else(|| refused(ErrorKind::FileTooLarge, &self.path))?;
        if new > self.room(&state, length) {
            return Err(refused(ErrorKind::StorageFull, &self.path));
        }
        let gone = if new < length { new..length } else { 0..0 };
        self.content(&mut state)?.change(gone, false, op, |content| content.resize(new, 0));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.begin(|| format!("sync {}", self.path))?;
        let fails = state.strikes(Fault::FailedSync);
        self.content(&mut state)?.sync(fails);
        if fails { Err(io::Error::other(format!("{:?}: the sync failed", self.path))) } else { Ok(()) }
    }
}

//! What a simulated disk holds, and what of it was synced.
//!
//! A file's content is kept by sectors. One that was written since it was last synced has a version for each write: any of
//! them may be what a power cut leaves. The same goes for the file's length, and for each name in a folder.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::ops::Range;

use super::outcome::Tearing;
use super::simulated::Fault;
use crate::Rng;
use crate::disk::{names, refused};

pub(super) const SECTOR: usize = 512;
pub(super) const ROOT: usize = 0;

#[derive(Clone)]
pub(super) struct Version {
    pub op: u64,
    pub bytes: [u8; SECTOR],
    /// What the write was about: the part that may be torn. Nothing where it was a truncation.
    pub wrote: Range<usize>,
}

#[derive(Clone)]
pub(super) struct Sector {
    /// The first is durable.
    pub versions: Vec<Version>,
    dirty: bool,
}

/// A file. Sectors that are not listed are durable as they are.
#[derive(Clone)]
pub(super) struct Content {
    pub bytes: Vec<u8>,
    pub sectors: BTreeMap<usize, Sector>,
    /// By operation; the first is durable.
    pub lengths: Vec<(u64, usize)>,
    resized: bool,
}

impl Content {
    pub(super) fn durable(bytes: Vec<u8>) -> Self {
        Self { lengths: vec![(0, bytes.len())], bytes, sectors: BTreeMap::new(), resized: false }
    }

    pub(super) fn sector(&self, index: usize) -> [u8; SECTOR] {
        let mut sector = [0; SECTOR];
        let here = self.bytes.get(index * SECTOR..).unwrap_or_default();
        let length = here.len().min(SECTOR);
        sector[..length].copy_from_slice(&here[..length]);
        sector
    }

    /// Bytes in `range` become something else; `tears` where they are written, and not cut off.
    pub(super) fn change(&mut self, range: Range<usize>, tears: bool, op: u64, apply: impl FnOnce(&mut Vec<u8>)) {
        let touched = range.start / SECTOR..range.end.div_ceil(SECTOR);
        for index in touched.clone() {
            let durable = Version { op: 0, bytes: self.sector(index), wrote: 0..0 };
            self.sectors.entry(index).or_insert_with(|| Sector { versions: vec![durable], dirty: false });
        }
        apply(&mut self.bytes);
        for index in touched {
            let start = index * SECTOR;
            let wrote = range.start.max(start) - start..range.end.min(start + SECTOR) - start;
            let version = Version { op, bytes: self.sector(index), wrote: if tears { wrote } else { 0..0 } };
            if let Some(sector) = self.sectors.get_mut(&index) {
                sector.versions.push(version);
                sector.dirty = true;
            }
        }
        if self.lengths.last().is_some_and(|(_, length)| *length != self.bytes.len()) {
            self.lengths.push((op, self.bytes.len()));
            self.resized = true;
        }
    }

    pub(super) fn sync(&mut self, fails: bool) {
        if fails {
            self.sectors.values_mut().for_each(|sector| sector.dirty = false);
        } else {
            // The file reaches at least as far as what is written to it, also where an earlier sync lost its length.
            let last = self.sectors.iter().rfind(|(_, sector)| sector.dirty).map_or(0, |(index, _)| index + 1);
            let reach = (last * SECTOR).min(self.bytes.len());
            self.lengths.iter_mut().for_each(|(_, length)| *length = reach.max(*length));
            if self.resized {
                self.lengths.drain(..self.lengths.len() - 1);
            }
            self.lengths.dedup_by_key(|(_, length)| *length);
            self.sectors.retain(|_, sector| !sector.dirty);
        }
        self.resized = false;
    }
}

#[derive(Clone, Default)]
pub(super) struct Folder {
    pub names: BTreeMap<String, usize>,
    pub durable: BTreeMap<String, usize>,
}

#[derive(Clone)]
pub(super) enum Inode {
    File(Content),
    Folder(Folder),
}

/// A change to the names of one folder that is not durable yet.
#[derive(Clone)]
pub(super) struct Change {
    pub op: u64,
    pub folder: usize,
    pub names: Vec<(String, Option<usize>)>,
    /// The change in another folder without which a file would be lost: a file moves, or is in both, or does not move.
    pub needs: Option<u64>,
    pub lost: bool,
}

#[derive(Clone)]
pub(super) struct State {
    pub inodes: Vec<Inode>,
    pub changes: Vec<Change>,
    pub clock: u64,
    pub tearing: Tearing,
    pub rng: Rng,
    pub operations: u64,
    pub left: Option<u64>,
    pub off: bool,
    pub limit: u64,
    pub faults: Vec<(Fault, u64)>,
    pub fired: bool,
    pub trace: VecDeque<String>,
}

impl State {
    pub(super) fn empty(tearing: Tearing, limit: u64, rng: Rng) -> Self {
        let (inodes, changes, faults, trace) =
            (vec![Inode::Folder(Folder::default())], vec![], vec![], VecDeque::new());
        let (clock, operations, left, off, fired) = (0, 0, None, false, false);
        Self { inodes, changes, clock, tearing, rng, operations, left, off, limit, faults, fired, trace }
    }

    pub(super) fn powered(&self) -> io::Result<()> {
        if self.off { Err(io::Error::other("the power is out")) } else { Ok(()) }
    }

    /// Whatever changes the disk, or syncs it, begins here.
    pub(super) fn begin(&mut self, what: impl FnOnce() -> String) -> io::Result<u64> {
        self.off |= self.left == Some(0);
        self.powered()?;
        self.left = self.left.map(|left| left - 1);
        self.operations += 1;
        self.clock += 1;
        self.trace.push_back(what());
        if self.trace.len() > 16 {
            self.trace.pop_front();
        }
        Ok(self.clock)
    }

    pub(super) fn strikes(&mut self, fault: Fault) -> bool {
        self.faults.iter_mut().filter(|(planned, _)| *planned == fault).for_each(|(_, left)| *left -= 1);
        let planned = self.faults.len();
        self.faults.retain(|(_, left)| *left > 0);
        let strikes = self.faults.len() < planned;
        self.fired |= strikes;
        strikes
    }

    pub(super) fn folder(&mut self, inode: usize, path: &str) -> io::Result<&mut Folder> {
        match &mut self.inodes[inode] {
            Inode::Folder(folder) => Ok(folder),
            Inode::File(_) => Err(refused(ErrorKind::NotADirectory, path)),
        }
    }

    fn find(&mut self, names: &[&str], path: &str) -> io::Result<usize> {
        names.iter().try_fold(ROOT, |inode, name| {
            let found = self.folder(inode, path)?.names.get(*name).copied();
            found.ok_or_else(|| refused(ErrorKind::NotFound, path))
        })
    }

    /// The folder that a path is in, the last name, and what has that name.
    pub(super) fn place(&mut self, path: &str) -> io::Result<(usize, String, Option<usize>)> {
        let names = names(path)?;
        let (name, way) = names.split_last().ok_or_else(|| refused(ErrorKind::InvalidInput, path))?;
        let folder = self.find(way, path)?;
        let there = self.folder(folder, path)?.names.get(*name).copied();
        Ok((folder, name.to_string(), there))
    }

    pub(super) fn dir(&mut self, dir: &str) -> io::Result<usize> {
        let inode = if dir.is_empty() { ROOT } else { self.find(&names(dir)?, dir)? };
        self.folder(inode, dir).map(|_| inode)
    }

    pub(super) fn rename_in(
        &mut self,
        op: u64,
        folder: usize,
        names: Vec<(String, Option<usize>)>,
        needs: Option<u64>,
    ) {
        if let Inode::Folder(folder) = &mut self.inodes[folder] {
            put(&mut folder.names, &names);
        }
        self.changes.push(Change { op, folder, names, needs, lost: false });
    }

    pub(super) fn new_inode(&mut self, path: &str, inode: Inode, what: &str) -> io::Result<usize> {
        let op = self.begin(|| format!("{what} {path}"))?;
        let (folder, name, there) = self.place(path)?;
        if there.is_some() {
            return Err(refused(ErrorKind::AlreadyExists, path));
        }
        self.inodes.push(inode);
        let inode = self.inodes.len() - 1;
        self.rename_in(op, folder, vec![(name, Some(inode))], None);
        Ok(inode)
    }

    pub(super) fn sync_names(&mut self, dir: usize) {
        let mut dirs = vec![dir];
        // A file that left for another folder is durable there before its old name goes.
        while let Some(more) =
            self.changes.iter().filter(|change| !change.lost && dirs.contains(&change.folder)).find_map(|change| {
                self.changes.iter().find(|other| change.needs == Some(other.op) && !dirs.contains(&other.folder))
            })
        {
            dirs.push(more.folder);
        }
        let (synced, mut rest): (Vec<_>, Vec<_>) =
            self.changes.drain(..).partition(|change| !change.lost && dirs.contains(&change.folder));
        for change in synced {
            // What an earlier, lost change did to a name is overruled by what is on the disk now.
            for lost in rest.iter_mut().filter(|lost: &&mut Change| lost.op < change.op && lost.folder == change.folder)
            {
                lost.names.retain(|(name, _)| change.names.iter().all(|(synced, _)| synced != name));
            }
            if let Inode::Folder(folder) = &mut self.inodes[change.folder] {
                put(&mut folder.durable, &change.names);
            }
        }
        self.changes = rest;
    }

    /// What a process sees: folders have no content.
    pub(super) fn tree(&self, inode: usize, path: &str, tree: &mut BTreeMap<String, Option<Vec<u8>>>) {
        let Inode::Folder(folder) = &self.inodes[inode] else { return };
        for (name, inode) in &folder.names {
            let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            let content = match &self.inodes[*inode] {
                Inode::File(content) => Some(content.bytes.clone()),
                Inode::Folder(_) => None,
            };
            self.tree(*inode, &path, tree);
            tree.insert(path, content);
        }
    }
}

pub(super) fn put(names: &mut BTreeMap<String, usize>, changes: &[(String, Option<usize>)]) {
    for (name, inode) in changes {
        match inode {
            Some(inode) => names.insert(name.clone(), *inode),
            None => names.remove(name),
        };
    }
}

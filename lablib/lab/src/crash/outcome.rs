//! What a power cut leaves of a simulated disk.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

use super::simulated::SimulatedDisk;
use super::state::{Content, Inode, ROOT, SECTOR, Sector, State, put};
use crate::Rng;

/// What a power cut may do to a sector that was being written: the old bytes, the new ones, or a mixture.
///
/// Only the bytes that were written are ever at risk: what was synced before in the same sector stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tearing {
    /// Also half-written sectors, zeros and garbage. What survives this survives the other.
    #[default]
    Anything,
    /// A sector of 512 bytes is written whole or not at all; a write of several may still arrive in part.
    WholeSectors,
}

type Bytes = [u8; SECTOR];

/// One possible outcome: which names were kept, and what is in each file that was not synced.
#[derive(Default)]
struct Fate {
    kept: HashSet<u64>,
    files: HashMap<usize, (usize, BTreeMap<usize, Bytes>)>,
}

impl SimulatedDisk {
    /// Cuts the power for every handle of this disk, and gives the disk that comes back: what was synced, and of the rest
    /// whatever the seed says.
    pub fn power_cut(&self, seed: u64) -> Self {
        let mut state = self.state();
        state.off = true;
        let mut rng = Rng::seeded(seed, "power cut");
        let fate = state.any_fate(&mut rng);
        Self::with(state.after(&fate, rng))
    }

    /// Every disk that a power cut now could leave, each once; `None` where there are more than `limit` ways.
    ///
    /// A torn sector is torn in its middle here, and garbage is the same everywhere.
    pub fn every_outcome(&self, limit: usize) -> Option<Vec<Self>> {
        let state = self.state();
        let mut seen = HashSet::new();
        let disks = state.every_fate(limit)?.into_iter();
        let disks = disks.map(|fate| Self::with(state.after(&fate, state.rng.clone())));
        Some(disks.filter(|disk| seen.insert(disk.tree())).collect())
    }
}

/// How a cut treats what was pending. Each is a way in which stores go wrong, and pure chance would rarely meet the first four.
enum Manner {
    Nothing,
    Everything,
    Until(u64),
    PerObject,
    PerOperation,
    Anything,
}

struct Luck<'a> {
    rng: &'a mut Rng,
    manner: Manner,
    verdicts: HashMap<u64, u64>,
}

impl Luck<'_> {
    fn keeps(&mut self, op: u64, object: usize) -> bool {
        let mut verdict = |of: u64| *self.verdicts.entry(of).or_insert_with(|| self.rng.below(4));
        match self.manner {
            Manner::Nothing => false,
            Manner::Everything => true,
            Manner::Until(last) => op <= last,
            Manner::PerObject => verdict(object as u64) % 2 == 0,
            Manner::PerOperation if verdict(op) < 3 => verdict(op) == 0,
            _ => self.rng.below(2) == 0,
        }
    }

    fn tears(&mut self) -> bool {
        !matches!(self.manner, Manner::Nothing | Manner::Everything) && self.rng.below(3) == 0
    }

    fn within(&mut self, range: &Range<usize>) -> usize {
        range.start + usize::try_from(self.rng.below(range.len() as u64)).unwrap_or(0)
    }

    fn sector(&mut self, file: usize, sector: &Sector, tearing: Tearing) -> Bytes {
        let kept = sector.versions.iter().rposition(|version| version.op == 0 || self.keeps(version.op, file));
        let kept = kept.unwrap_or(0);
        let mut bytes = sector.versions[kept].bytes;
        let Some(next) = sector.versions.get(kept + 1) else { return bytes };
        if tearing == Tearing::WholeSectors || next.wrote.is_empty() || !self.tears() {
            return bytes;
        }
        let (wrote, cut) = (next.wrote.clone(), self.within(&next.wrote));
        match self.rng.below(4) {
            0 => bytes[wrote.start..cut].copy_from_slice(&next.bytes[wrote.start..cut]),
            1 => bytes[cut..wrote.end].copy_from_slice(&next.bytes[cut..wrote.end]),
            2 => bytes[wrote].fill(0),
            _ => bytes[wrote].fill_with(|| self.rng.bits().to_le_bytes()[0]),
        }
        bytes
    }

    fn length(&mut self, file: usize, lengths: &[(u64, usize)]) -> usize {
        let kept = lengths.iter().rposition(|(op, _)| *op == 0 || self.keeps(*op, file)).unwrap_or(0);
        let length = lengths[kept].1;
        match lengths.get(kept + 1) {
            Some((_, next)) if self.tears() => {
                let between = boundaries(length, *next);
                if between.is_empty() { length } else { self.within(&between) * SECTOR }
            }
            _ => length,
        }
    }
}

/// The sectors that begin between two lengths: where a file may end when it was growing or shrinking.
fn boundaries(a: usize, b: usize) -> Range<usize> {
    a.min(b) / SECTOR + 1..a.max(b).div_ceil(SECTOR)
}

impl Content {
    fn is_uncertain(&self) -> bool {
        self.lengths.len() > 1 || !self.sectors.is_empty()
    }

    fn every_length(&self) -> Vec<usize> {
        let between = self.lengths.windows(2).flat_map(|pair| boundaries(pair[0].1, pair[1].1)).map(|n| n * SECTOR);
        let lengths: BTreeSet<_> = self.lengths.iter().map(|(_, length)| *length).chain(between).collect();
        lengths.into_iter().collect()
    }

    fn left(&self, length: usize, sectors: &BTreeMap<usize, Bytes>) -> Vec<u8> {
        let sector = |index| sectors.get(&index).copied().unwrap_or_else(|| self.sector(index));
        let mut bytes: Vec<u8> = (0..length.div_ceil(SECTOR)).flat_map(sector).collect();
        bytes.truncate(length);
        bytes
    }
}

fn every_version(sector: &Sector, tearing: Tearing) -> Vec<Bytes> {
    let mut all: BTreeSet<Bytes> = sector.versions.iter().map(|version| version.bytes).collect();
    for pair in sector.versions.windows(2).filter(|_| tearing == Tearing::Anything) {
        let (old, next, wrote) = (pair[0].bytes, &pair[1].bytes, pair[1].wrote.clone());
        let middle = wrote.start.midpoint(wrote.end);
        for (torn, from) in [(wrote.start..middle, next), (middle..wrote.end, next), (wrote, &[0; SECTOR])] {
            let mut bytes = old;
            bytes[torn.clone()].copy_from_slice(&from[torn]);
            all.insert(bytes);
        }
        let mut garbage = old;
        (0_u64..)
            .zip(&mut garbage[pair[1].wrote.clone()])
            .for_each(|(n, byte)| *byte = (n * 167 + 90).to_le_bytes()[0]);
        all.insert(garbage);
    }
    all.into_iter().collect()
}

impl State {
    /// What has a name, or may get one back by a power cut: whatever can be reached from the root by names that are
    /// durable or pending. A folder that is gone for good takes along what was pending in it.
    fn named(&self) -> BTreeSet<usize> {
        let mut named: BTreeSet<usize> = [ROOT].into();
        let mut unseen = vec![ROOT];
        while let Some(folder) = unseen.pop() {
            let durable = match &self.inodes[folder] {
                Inode::Folder(folder) => folder.durable.values().copied().collect(),
                Inode::File(_) => Vec::new(),
            };
            let changes = self.changes.iter().filter(|change| change.folder == folder);
            let pending = changes.flat_map(|change| &change.names).filter_map(|(_, inode)| *inode);
            unseen.extend(durable.into_iter().chain(pending).filter(|inode| named.insert(*inode)));
        }
        named
    }

    /// The files that may hold something else after a power cut.
    fn uncertain(&self) -> Vec<(usize, &Content)> {
        let content = |inode: usize| match &self.inodes[inode] {
            Inode::File(content) if content.is_uncertain() => Some((inode, content)),
            _ => None,
        };
        self.named().into_iter().filter_map(content).collect()
    }

    fn any_fate(&self, rng: &mut Rng) -> Fate {
        let files = self.uncertain();
        let manner = match rng.below(8) {
            0 => Manner::Nothing,
            1 => Manner::Everything,
            2 => {
                let ops = files.iter().flat_map(|(_, file)| file.sectors.values().flat_map(|sector| &sector.versions));
                let mut ops: Vec<u64> =
                    ops.map(|version| version.op).chain(self.changes.iter().map(|c| c.op)).collect();
                ops.sort_unstable();
                Manner::Until(rng.pick(&ops, 1).first().copied().unwrap_or(0))
            }
            3 => Manner::PerObject,
            4 | 5 => Manner::PerOperation,
            _ => Manner::Anything,
        };
        let mut luck = Luck { rng, manner, verdicts: HashMap::new() };
        let mut fate = Fate::default();
        fate.kept.extend(self.changes.iter().filter(|c| luck.keeps(c.op, c.folder)).map(|change| change.op));
        for (inode, file) in files {
            let length = luck.length(inode, &file.lengths);
            let sectors = file.sectors.iter().map(|(index, s)| (*index, luck.sector(inode, s, self.tearing))).collect();
            fate.files.insert(inode, (length, sectors));
        }
        fate
    }

    fn every_fate(&self, limit: usize) -> Option<Vec<Fate>> {
        let mut fates = vec![Fate::default()];
        // Each question multiplies what there is by its answers.
        let multiply = |fates: Vec<Fate>, answers: usize, answer: &dyn Fn(&mut Fate, usize)| {
            let many = fates.len().checked_mul(answers).filter(|many| *many <= limit);
            many.map(|_| {
                let all = fates.iter().flat_map(|fate| (0..answers).map(move |n| (fate, n)));
                all.map(|(fate, n)| {
                    let mut fate = Fate { kept: fate.kept.clone(), files: fate.files.clone() };
                    answer(&mut fate, n);
                    fate
                })
                .collect::<Vec<_>>()
            })
        };
        let named = self.named();
        for change in self.changes.iter().filter(|change| named.contains(&change.folder)) {
            fates = multiply(fates, 2, &|fate, n| fate.kept.extend((n == 1).then_some(change.op)))?;
        }
        for (inode, file) in self.uncertain() {
            let lengths = file.every_length();
            fates = multiply(fates, lengths.len(), &|fate, n| {
                fate.files.insert(inode, (lengths[n], BTreeMap::new()));
            })?;
            for (index, sector) in &file.sectors {
                let versions = every_version(sector, self.tearing);
                fates = multiply(fates, versions.len(), &|fate, n| {
                    fate.files.entry(inode).or_default().1.insert(*index, versions[n]);
                })?;
            }
        }
        Some(fates)
    }

    fn after(&self, fate: &Fate, rng: Rng) -> State {
        let mut folders: HashMap<usize, BTreeMap<String, usize>> = HashMap::new();
        for (inode, folder) in self.inodes.iter().enumerate() {
            if let Inode::Folder(folder) = folder {
                folders.insert(inode, folder.durable.clone());
            }
        }
        for change in self.changes.iter().filter(|change| fate.kept.contains(&change.op)) {
            let durable = |op| self.changes.iter().all(|pending| pending.op != op);
            if change.needs.is_none_or(|op| fate.kept.contains(&op) || durable(op)) {
                put(folders.entry(change.folder).or_default(), &change.names);
            }
        }
        let mut after = State::empty(self.tearing, self.limit, rng);
        let mut todo = vec![(ROOT, ROOT)];
        while let Some((from, to)) = todo.pop() {
            for (name, inode) in folders.get(&from).into_iter().flatten() {
                let new = after.inodes.len();
                after.inodes.push(match &self.inodes[*inode] {
                    Inode::Folder(_) => Inode::Folder(Default::default()),
                    Inode::File(content) => Inode::File(Content::durable(match fate.files.get(inode) {
                        Some((length, sectors)) => content.left(*length, sectors),
                        None => content.bytes.clone(),
                    })),
                });
                if let Inode::Folder(folder) = &mut after.inodes[to] {
                    folder.names.insert(name.clone(), new);
                    folder.durable.insert(name.clone(), new);
                }
                todo.push((*inode, new));
            }
        }
        after
    }
}

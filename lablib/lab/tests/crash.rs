//! Crash points and power cuts: what they promise, the stores that must survive them, and those that must not.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use lab::crash::{self, Child, Crash, Durable, Fault, PowerCutTest, SimulatedDisk, Tearing};
use lab::disk::{Disk, DiskFile, RealDisk};
use lab::{Doing, Error, Result, Rng};
use proptest::prelude::*;

/// CRC-32 as in zip, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1)))
    })
}

#[test]
fn the_checksum_is_the_usual_one() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    assert_eq!(crc32(b""), 0);
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

/// The files of a test on a real disk, gone afterwards.
struct Room(PathBuf);

impl Room {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("crash-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    fn disk(&self) -> RealDisk {
        RealDisk::open(&self.0).unwrap()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

// A log: records of a length, a checksum of length and payload, and the payload; synced before it is acknowledged.

#[derive(Debug, Clone, Copy, PartialEq)]
enum Log {
    Correct,
    NeverSyncs,
    SyncsBeforeItWrites,
    SyncsAnotherFile,
    AcknowledgesAndSyncsEveryThird,
    NeverSyncsTheFolder,
    HasNoChecksum,
    HasAChecksumOfThePayloadAlone,
    CountsARecordBeforeItIsThere,
    IgnoresAFailedSync,
    RetriesAFailedSync,
    GoesOnAfterAShortWrite,
    AppendsAfterATornTail,
    ServesWhatItFoundWithoutSyncingIt,
    AcknowledgesFromItsBuffer,
}

struct OpenLog {
    flaw: Log,
    file: Arc<dyn DiskFile>,
    other: Arc<dyn DiskFile>,
    records: Vec<Vec<u8>>,
    buffered: Vec<u8>,
    end: u64,
    broken: bool,
}

impl OpenLog {
    fn open(disk: &dyn Disk, flaw: Log) -> io::Result<Self> {
        let (file, other) = (disk.open_or_create("log")?, disk.open_or_create("other")?);
        if flaw != Log::NeverSyncsTheFolder {
            disk.sync_dir("")?;
        }
        let mut bytes = disk.read("log")?;
        if flaw == Log::CountsARecordBeforeItIsThere {
            let count = disk.read("other")?;
            let count = if count.len() == 8 { number(&count) } else { 0 };
            bytes.resize(count.min(1 << 20) as usize, 0);
        }
        let (mut records, mut rest) = (vec![], &bytes[..]);
        while let Some((record, after)) = Self::first(rest, flaw) {
            records.push(record.to_vec());
            rest = after;
        }
        let end = (bytes.len() - rest.len()) as u64;
        if !rest.is_empty() && flaw != Log::AppendsAfterATornTail {
            file.truncate(end)?;
        }
        if flaw != Log::ServesWhatItFoundWithoutSyncingIt {
            file.sync_data()?;
        }
        Ok(Self { flaw, file, other, records, buffered: vec![], end, broken: false })
    }

    fn frame(record: &[u8], flaw: Log) -> Vec<u8> {
        let length = (record.len() as u32).to_le_bytes();
        let crc = match flaw {
            Log::HasAChecksumOfThePayloadAlone => crc32(record),
            _ => crc32(&[&length, record].concat()),
        };
        [&length, &crc.to_le_bytes(), record].concat()
    }

    fn first(bytes: &[u8], flaw: Log) -> Option<(&[u8], &[u8])> {
        let length = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let record = bytes.get(8..8_usize.checked_add(length)?)?;
        let unchecked = [Log::HasNoChecksum, Log::CountsARecordBeforeItIsThere].contains(&flaw);
        let whole = unchecked || Self::frame(record, flaw) == bytes[..8 + length];
        whole.then(|| (record, &bytes[8 + length..]))
    }

    fn append(&mut self, record: &[u8]) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("open the log again: a write or a sync has failed"));
        }
        let done = self.write(record);
        self.broken = done.is_err() && self.flaw != Log::GoesOnAfterAShortWrite;
        done
    }

    fn write(&mut self, record: &[u8]) -> io::Result<()> {
        let frame = Self::frame(record, self.flaw);
        crash::point("before-write");
        match self.flaw {
            Log::SyncsBeforeItWrites => self.file.sync_data()?,
            Log::CountsARecordBeforeItIsThere => {
                self.other.write_at(0, &(self.end + frame.len() as u64).to_le_bytes())?;
                self.other.sync_data()?;
            }
            _ => {}
        }
        match self.flaw {
            Log::AcknowledgesFromItsBuffer => self.buffered.extend(&frame),
            _ => self.file.append(&frame).map(drop)?,
        }
        if self.buffered.len() > 100 {
            self.file.append(&std::mem::take(&mut self.buffered))?;
        }
        self.end += frame.len() as u64;
        self.records.push(record.to_vec());
        crash::point("after-write");
        match self.flaw {
            Log::NeverSyncs | Log::SyncsBeforeItWrites => {}
            Log::SyncsAnotherFile => self.other.sync_data()?,
            Log::AcknowledgesAndSyncsEveryThird if !self.records.len().is_multiple_of(3) => {}
            Log::IgnoresAFailedSync => drop(self.file.sync_data()),
            Log::RetriesAFailedSync => self.file.sync_data().or_else(|_| self.file.sync_data())?,
            _ => self.file.sync_data()?,
        }
        crash::point("after-sync");
        Ok(())
    }
}

fn records() -> Vec<Vec<u8>> {
    let mut rng = Rng::seeded(1, "records");
    [5, 40, 700, 3, 0, 1_300, 20, 90, 512, 504, 8, 60].map(|length| rng.word(length).into_bytes()).to_vec()
}

impl Durable for Log {
    type Store = OpenLog;
    type Step = Vec<u8>;
    type State = Vec<String>;

    fn open(&self, disk: &SimulatedDisk) -> Result<OpenLog> {
        OpenLog::open(disk, *self).doing("open the log")
    }

    fn apply(&self, log: &mut OpenLog, record: &Vec<u8>) -> Result<()> {
        log.append(record).doing("append to the log")
    }

    fn state(&self, log: &mut OpenLog) -> Result<Vec<String>> {
        Ok(log.records.iter().map(|record| String::from_utf8_lossy(record).into_owned()).collect())
    }

    fn expected(&self, before: &Vec<String>, record: &Vec<u8>) -> Vec<String> {
        [&before[..], &[String::from_utf8_lossy(record).into_owned()]].concat()
    }
}

// A value that is replaced as a whole: a temporary file, synced, renamed, and its folder synced.

#[derive(Debug, Clone, Copy, PartialEq)]
enum Value {
    Correct,
    RenamesWhatIsNotSynced,
    NeverSyncsTheFolder,
    SyncsTheFolderBeforeItRenames,
    OverwritesInPlace,
    RemovesTheOldOneFirst,
    FailsOverItsOwnTemporaryFile,
    IgnoresAFailedFolderSync,
}

impl Value {
    fn replace(self, disk: &dyn Disk, name: &str, value: &[u8]) -> io::Result<()> {
        let temporary = format!("{name}.new");
        if self == Value::OverwritesInPlace {
            let file = disk.open_or_create(name)?;
            file.truncate(0)?;
            file.append(value)?;
            file.sync_data()?;
            return disk.sync_dir("");
        }
        if self != Value::FailsOverItsOwnTemporaryFile && disk.open(&temporary).is_ok() {
            disk.remove(&temporary)?;
        }
        let file = disk.create(&temporary)?;
        file.append(value)?;
        if self != Value::RenamesWhatIsNotSynced {
            file.sync_all()?;
        }
        match self {
            Value::SyncsTheFolderBeforeItRenames => disk.sync_dir("")?,
            Value::RemovesTheOldOneFirst if disk.open(name).is_ok() => disk.remove(name)?,
            _ => {}
        }
        disk.rename(&temporary, name)?;
        match self {
            Value::NeverSyncsTheFolder | Value::SyncsTheFolderBeforeItRenames => Ok(()),
            Value::IgnoresAFailedFolderSync => disk.sync_dir("").or(Ok(())),
            _ => disk.sync_dir(""),
        }
    }
}

fn there(disk: &dyn Disk, name: &str) -> io::Result<Vec<u8>> {
    match disk.read(name) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(vec![]),
        read => read,
    }
}

impl Durable for Value {
    type Store = SimulatedDisk;
    type Step = Vec<u8>;
    type State = String;

    fn open(&self, disk: &SimulatedDisk) -> Result<SimulatedDisk> {
        // A process that was killed may have renamed and not synced: what is served from here on has to last.
        disk.sync_dir("").doing("sync the folder")?;
        Ok(disk.clone())
    }

    fn apply(&self, disk: &mut SimulatedDisk, value: &Vec<u8>) -> Result<()> {
        self.replace(disk, "value", value).doing("replace the value")
    }

    fn state(&self, disk: &mut SimulatedDisk) -> Result<String> {
        there(disk, "value").map(|value| String::from_utf8_lossy(&value).into_owned()).doing("read the value")
    }

    fn expected(&self, _: &String, value: &Vec<u8>) -> String {
        String::from_utf8_lossy(value).into_owned()
    }
}

fn values() -> Vec<Vec<u8>> {
    let mut rng = Rng::seeded(2, "values");
    [20, 900, 5, 2_000, 60, 1].map(|length| rng.word(length).into_bytes()).to_vec()
}

// Two slots: the new value goes over the older one, with a sequence number and a checksum.

#[derive(Debug, Clone, Copy, PartialEq)]
enum Slots {
    Correct,
    HasOnlyOne,
    WritesOverTheNewerOne,
    HasNoChecksum,
    TrustsWhatItReadsAfterAFailedSync,
}

impl Slots {
    fn slot(self, file: &dyn DiskFile, at: u64) -> io::Result<Option<(u64, u64)>> {
        let mut slot = [0; 20];
        let whole = file.read_at(at, &mut slot)? == 20;
        let checked = self == Slots::HasNoChecksum || crc32(&slot[4..]).to_le_bytes() == slot[..4];
        Ok((whole && checked && slot != [0; 20]).then(|| (number(&slot[4..]), number(&slot[12..]))))
    }

    fn newest(self, file: &dyn DiskFile) -> io::Result<(u64, u64, u64)> {
        let (a, b) = (self.slot(file, 0)?.unwrap_or_default(), self.slot(file, 1_024)?.unwrap_or_default());
        Ok(if a.0 > b.0 { (0, a.0, a.1) } else { (1_024, b.0, b.1) })
    }
}

struct OpenSlots {
    file: Arc<dyn DiskFile>,
    newer: u64,
    sequence: u64,
    value: u64,
}

impl Slots {
    fn open(self, disk: &SimulatedDisk) -> io::Result<OpenSlots> {
        let file = disk.open_or_create("slots")?;
        disk.sync_dir("")?;
        file.sync_data()?;
        let (newer, sequence, value) = self.newest(&*file)?;
        Ok(OpenSlots { file, newer, sequence, value })
    }

    fn set(self, slots: &mut OpenSlots, value: u64) -> io::Result<()> {
        if self == Slots::TrustsWhatItReadsAfterAFailedSync {
            (slots.newer, slots.sequence, _) = self.newest(&*slots.file)?;
        }
        let at = match self {
            Slots::HasOnlyOne => 0,
            Slots::WritesOverTheNewerOne if slots.sequence > 0 => slots.newer,
            _ => 1_024 - slots.newer,
        };
        slots.file.write_at(at, &sealed(slots.sequence + 1, value))?;
        slots.file.sync_data()?;
        (slots.newer, slots.sequence, slots.value) = (at, slots.sequence + 1, value);
        Ok(())
    }
}

impl Durable for Slots {
    type Store = OpenSlots;
    type Step = u64;
    type State = u64;

    fn open(&self, disk: &SimulatedDisk) -> Result<OpenSlots> {
        Slots::open(*self, disk).doing("open the slots")
    }

    fn apply(&self, slots: &mut OpenSlots, value: &u64) -> Result<()> {
        self.set(slots, *value).doing("write a slot")
    }

    fn state(&self, slots: &mut OpenSlots) -> Result<u64> {
        Ok(slots.value)
    }

    fn expected(&self, _: &u64, value: &u64) -> u64 {
        *value
    }
}

fn large_numbers() -> Vec<u64> {
    let mut rng = Rng::seeded(3, "numbers");
    (0..8).map(|_| rng.bits()).collect()
}

// A sum in a write-ahead log, with a snapshot every few records, after which the log begins again.

#[derive(Debug, Clone, Copy, PartialEq)]
enum Wal {
    Correct,
    ClearsTheLogBeforeTheSnapshot,
    ClearsTheLogBeforeTheSnapshotIsDurable,
    ReplaysWhatIsInTheSnapshot,
    ReusesTheLogWithoutClearingIt,
}

struct OpenWal {
    disk: SimulatedDisk,
    log: Arc<dyn DiskFile>,
    sequence: u64,
    sum: u64,
    end: u64,
    broken: bool,
}

fn sealed(a: u64, b: u64) -> Vec<u8> {
    let body = [a.to_le_bytes(), b.to_le_bytes()].concat();
    [&crc32(&body).to_le_bytes()[..], &body].concat()
}

fn unsealed(bytes: &[u8]) -> Option<(u64, u64)> {
    let (a, b) = (number(bytes.get(4..12)?), number(bytes.get(12..20)?));
    (sealed(a, b) == bytes).then_some((a, b))
}

impl Wal {
    fn add(self, wal: &mut OpenWal, n: u64) -> io::Result<()> {
        if wal.end >= 60 {
            let snapshot = |value: Value| value.replace(&wal.disk, "snapshot", &sealed(wal.sequence, wal.sum));
            let clear = || wal.log.truncate(0).and_then(|()| wal.log.sync_data());
            match self {
                Wal::ClearsTheLogBeforeTheSnapshot => clear().and_then(|()| snapshot(Value::Correct))?,
                Wal::ClearsTheLogBeforeTheSnapshotIsDurable => {
                    snapshot(Value::NeverSyncsTheFolder).and_then(|()| clear())?;
                }
                Wal::ReusesTheLogWithoutClearingIt => snapshot(Value::Correct)?,
                _ => snapshot(Value::Correct).and_then(|()| clear())?,
            }
            wal.end = 0;
        }
        wal.log.write_at(wal.end, &sealed(wal.sequence + 1, n))?;
        wal.log.sync_data()?;
        (wal.sequence, wal.sum, wal.end) = (wal.sequence + 1, wal.sum.wrapping_add(n), wal.end + 20);
        Ok(())
    }
}

impl Durable for Wal {
    type Store = OpenWal;
    type Step = u64;
    type State = u64;

    fn open(&self, disk: &SimulatedDisk) -> Result<OpenWal> {
        let log = disk.open_or_create("log").doing("open the log")?;
        disk.sync_dir("").doing("sync the folder")?;
        let snapshot = there(disk, "snapshot").doing("read the snapshot")?;
        let (mut sequence, mut sum) = match &snapshot[..] {
            [] => (0, 0),
            bytes => unsealed(bytes).ok_or_else(|| Error::new("read the snapshot", "its checksum is wrong"))?,
        };
        let bytes = disk.read("log").doing("read the log")?;
        let mut end = 0;
        for (at, n) in bytes.chunks(20).map_while(unsealed) {
            let replays = match self {
                Wal::ReplaysWhatIsInTheSnapshot | Wal::ReusesTheLogWithoutClearingIt => true,
                _ if at > sequence + 1 => break,
                _ => at == sequence + 1,
            };
            if replays {
                (sequence, sum) = (sequence.max(at), sum.wrapping_add(n));
            }
            end += 20;
        }
        log.truncate(end).and_then(|()| log.sync_data()).doing("clear the torn tail")?;
        Ok(OpenWal { disk: disk.clone(), log, sequence, sum, end, broken: false })
    }

    fn apply(&self, wal: &mut OpenWal, n: &u64) -> Result<()> {
        if wal.broken {
            return Err(Error::new("add", "a write or a sync has failed").remedy("open it again"));
        }
        let done = self.add(wal, *n).doing("add");
        wal.broken = done.is_err();
        done
    }

    fn state(&self, wal: &mut OpenWal) -> Result<u64> {
        Ok(wal.sum)
    }

    fn expected(&self, before: &u64, n: &u64) -> u64 {
        before.wrapping_add(*n)
    }
}

// A transfer between two accounts: both in one file, or each in a file of its own.

#[derive(Debug, Clone, Copy, PartialEq)]
enum Accounts {
    InOneFile,
    InTwoFiles,
}

impl Accounts {
    fn read(self, disk: &SimulatedDisk) -> io::Result<(u64, u64)> {
        let in_file = |name| there(disk, name).map(|bytes| unsealed(&bytes).unwrap_or_default());
        Ok(match self {
            Accounts::InOneFile => in_file("both")?,
            Accounts::InTwoFiles => (in_file("a")?.0, in_file("b")?.0),
        })
    }

    fn write(self, disk: &SimulatedDisk, (a, b): (u64, u64)) -> io::Result<()> {
        match self {
            Accounts::InOneFile => Value::Correct.replace(disk, "both", &sealed(a, b)),
            Accounts::InTwoFiles => Value::Correct
                .replace(disk, "a", &sealed(a, 0))
                .and_then(|()| Value::Correct.replace(disk, "b", &sealed(b, 0))),
        }
    }
}

impl Durable for Accounts {
    type Store = SimulatedDisk;
    type Step = u64;
    type State = (u64, u64);

    fn open(&self, disk: &SimulatedDisk) -> Result<SimulatedDisk> {
        disk.sync_dir("").doing("sync the folder")?;
        Ok(disk.clone())
    }

    fn apply(&self, disk: &mut SimulatedDisk, amount: &u64) -> Result<()> {
        self.read(disk).and_then(|before| self.write(disk, self.expected(&before, amount))).doing("transfer")
    }

    fn state(&self, disk: &mut SimulatedDisk) -> Result<(u64, u64)> {
        self.read(disk).doing("read the accounts")
    }

    fn expected(&self, before: &(u64, u64), amount: &u64) -> (u64, u64) {
        (before.0.wrapping_sub(*amount), before.1.wrapping_add(*amount))
    }
}

// What must survive.

fn survives<D: Durable>(name: &str, store: &D, steps: &[D::Step]) {
    let survived = PowerCutTest::new(name).cuts(3_000).kills().every_outcome(2_000).run(store, steps).unwrap();
    assert_eq!(survived.cuts, 3_000);
    assert!(survived.operations > 10 && survived.outcomes > 50, "{survived:?}");
    PowerCutTest::new(name).seed(2).cuts(3_000).failing_syncs().short_writes().kills().run(store, steps).unwrap();
}

#[test]
fn a_checked_log_that_syncs_before_it_acknowledges_survives() {
    survives("log", &Log::Correct, &records());
}

#[test]
fn a_value_that_is_written_aside_synced_and_renamed_survives() {
    survives("value", &Value::Correct, &values());
}

#[test]
fn two_slots_survive() {
    survives("slots", &Slots::Correct, &large_numbers());
}

#[test]
fn a_log_with_snapshots_survives() {
    survives("wal", &Wal::Correct, &large_numbers());
}

#[test]
fn two_accounts_in_one_file_survive() {
    survives("accounts", &Accounts::InOneFile, &large_numbers());
}

#[test]
fn one_slot_survives_where_sectors_are_written_whole() {
    let test = PowerCutTest::new("slot").cuts(3_000).every_outcome(2_000);
    test.clone().tearing(Tearing::WholeSectors).run(&Slots::HasOnlyOne, &large_numbers()).unwrap();
    test.run(&Slots::HasOnlyOne, &large_numbers()).unwrap_err();
}

// What must not.

/// The store fails, and the case that failed fails again, in the same words.
fn caught<D: Durable + std::fmt::Debug>(test: PowerCutTest, store: &D, steps: &[D::Step]) {
    let Err(error) = test.run(store, steps) else { panic!("{store:?} came through") };
    let said = error.to_string();
    println!("{store:?}: {said}");
    if let Some(case) = said.split(".replay(").nth(1).and_then(|rest| rest.split(')').next()) {
        let again = test.clone().replay(case.parse().unwrap()).run(store, steps).unwrap_err();
        assert_eq!(again.to_string(), said);
    }
}

fn cuts() -> PowerCutTest {
    PowerCutTest::new("known to be bad").cuts(2_000)
}

#[test]
fn logs_that_are_known_to_be_bad_are_caught() {
    for flaw in [
        Log::NeverSyncs,
        Log::SyncsBeforeItWrites,
        Log::SyncsAnotherFile,
        Log::AcknowledgesAndSyncsEveryThird,
        Log::NeverSyncsTheFolder,
        Log::HasNoChecksum,
        Log::HasAChecksumOfThePayloadAlone,
        Log::CountsARecordBeforeItIsThere,
        Log::AppendsAfterATornTail,
    ] {
        caught(cuts(), &flaw, &records());
    }
}

#[test]
fn logs_that_trust_a_failed_sync_or_a_short_write_are_caught_by_such_faults_alone() {
    for flaw in [Log::IgnoresAFailedSync, Log::RetriesAFailedSync] {
        cuts().run(&flaw, &records()).unwrap();
        caught(cuts().failing_syncs(), &flaw, &records());
    }
    cuts().run(&Log::GoesOnAfterAShortWrite, &records()).unwrap();
    caught(cuts().short_writes(), &Log::GoesOnAfterAShortWrite, &records());
    caught(cuts().failing_syncs(), &Value::IgnoresAFailedFolderSync, &values());
    cuts().run(&Slots::TrustsWhatItReadsAfterAFailedSync, &large_numbers()).unwrap();
    caught(cuts().failing_syncs(), &Slots::TrustsWhatItReadsAfterAFailedSync, &large_numbers());
}

#[test]
fn a_log_that_serves_what_a_killed_process_left_unsynced_is_caught_by_kills_alone() {
    cuts().run(&Log::ServesWhatItFoundWithoutSyncingIt, &records()).unwrap();
    caught(cuts().kills(), &Log::ServesWhatItFoundWithoutSyncingIt, &records());
}

#[test]
fn values_that_are_known_to_be_bad_are_caught() {
    for flaw in [
        Value::RenamesWhatIsNotSynced,
        Value::NeverSyncsTheFolder,
        Value::SyncsTheFolderBeforeItRenames,
        Value::OverwritesInPlace,
        Value::RemovesTheOldOneFirst,
        Value::FailsOverItsOwnTemporaryFile,
    ] {
        caught(cuts(), &flaw, &values());
    }
}

#[test]
fn slots_that_are_known_to_be_bad_are_caught() {
    for flaw in [Slots::HasOnlyOne, Slots::WritesOverTheNewerOne, Slots::HasNoChecksum] {
        caught(cuts(), &flaw, &large_numbers());
    }
}

#[test]
fn logs_with_snapshots_that_are_known_to_be_bad_are_caught() {
    for flaw in [
        Wal::ClearsTheLogBeforeTheSnapshot,
        Wal::ClearsTheLogBeforeTheSnapshotIsDurable,
        Wal::ReplaysWhatIsInTheSnapshot,
        Wal::ReusesTheLogWithoutClearingIt,
    ] {
        caught(cuts(), &flaw, &large_numbers());
    }
}

#[test]
fn a_transfer_over_two_files_is_caught() {
    caught(cuts(), &Accounts::InTwoFiles, &large_numbers());
}

#[test]
fn every_outcome_of_every_cut_catches_the_same_without_chance() {
    let without_chance = PowerCutTest::new("exhaustive").cuts(0).every_outcome(5_000);
    for flaw in [Log::NeverSyncs, Log::SyncsAnotherFile, Log::NeverSyncsTheFolder, Log::HasNoChecksum] {
        caught(without_chance.clone(), &flaw, &records()[..2]);
    }
    for flaw in [Value::RenamesWhatIsNotSynced, Value::NeverSyncsTheFolder, Value::RemovesTheOldOneFirst] {
        caught(without_chance.clone(), &flaw, &values()[..2]);
    }
}

#[test]
fn a_store_that_panics_over_what_it_finds_is_a_failure_with_its_case() {
    struct Panics;
    impl Durable for Panics {
        type Store = Arc<dyn DiskFile>;
        type Step = ();
        type State = u64;
        fn open(&self, disk: &SimulatedDisk) -> Result<Self::Store> {
            let file = disk.open_or_create("file").doing("open")?;
            disk.sync_dir("").doing("sync")?;
            assert!(file.len().doing("measure")? % 8 == 0, "half a number");
            Ok(file)
        }
        fn apply(&self, file: &mut Self::Store, (): &()) -> Result<()> {
            file.append(&[1; 4]).and_then(|_| file.append(&[1; 4])).and_then(|_| file.sync_data()).doing("append")
        }
        fn state(&self, file: &mut Self::Store) -> Result<u64> {
            Ok(file.len().doing("measure")? / 8)
        }
        fn expected(&self, before: &u64, (): &()) -> u64 {
            before + 1
        }
    }
    let error = cuts().run(&Panics, &[(), ()]).unwrap_err().to_string();
    assert!(error.contains("half a number") && error.contains(".replay("), "{error}");
}

#[test]
fn what_is_not_one_store_is_judged_by_what_it_returned() {
    let live = |syncs: bool| {
        move |disk: &SimulatedDisk| {
            let mut acknowledged = vec![];
            for n in 0..5 {
                let name = format!("{n}");
                let _ = disk.create(&name);
                let _ = !syncs || disk.sync_dir("").is_ok();
                if !disk.is_off() {
                    acknowledged.push(name);
                }
            }
            acknowledged
        }
    };
    let check = |disk: &SimulatedDisk, acknowledged: Vec<String>| {
        let there = disk.list("").doing("list")?;
        let missing = acknowledged.into_iter().find(|name| !there.contains(name));
        missing.map_or(Ok(()), |name| Err(Error::new("find a file", "it is gone").at(name)))
    };
    assert_eq!(cuts().each_cut(live(true), check).unwrap(), 2_000);
    let error = cuts().each_cut(live(false), check).unwrap_err().to_string();
    let case = error.split(".replay(").nth(1).unwrap().split(')').next().unwrap().parse().unwrap();
    assert_eq!(cuts().replay(case).each_cut(live(false), check).unwrap_err().to_string(), error);
}

// The simulated disk.

fn synced(name: &str, content: &[u8]) -> (SimulatedDisk, Arc<dyn DiskFile>) {
    let disk = SimulatedDisk::seeded(7);
    let file = disk.create(name).unwrap();
    file.append(content).unwrap();
    file.sync_all().unwrap();
    disk.sync_dir("").unwrap();
    (disk, file)
}

type Tree = BTreeMap<String, Option<Vec<u8>>>;

fn every(disk: &SimulatedDisk) -> BTreeSet<Tree> {
    disk.every_outcome(10_000).unwrap().iter().map(SimulatedDisk::tree).collect()
}

fn trees<const N: usize>(trees: [&[(&str, &[u8])]; N]) -> BTreeSet<Tree> {
    trees
        .map(|tree| tree.iter().map(|(name, content)| (name.to_string(), Some(content.to_vec()))).collect())
        .into_iter()
        .collect()
}

#[test]
fn names_and_contents_are_synced_each_for_themselves() {
    let disk = SimulatedDisk::seeded(1).tearing(Tearing::WholeSectors);
    let file = disk.create("a").unwrap();
    file.append(b"xy").unwrap();
    assert_eq!(every(&disk), trees([&[], &[("a", b"")], &[("a", b"\0\0")], &[("a", b"xy")]]));
    file.sync_all().unwrap();
    assert_eq!(every(&disk), trees([&[], &[("a", b"xy")]]), "a synced file without a name is lost");
    disk.sync_dir("").unwrap();
    assert_eq!(every(&disk), trees([&[("a", b"xy")]]));
    disk.rename("a", "b").unwrap();
    assert_eq!(every(&disk), trees([&[("a", b"xy")], &[("b", b"xy")]]), "a rename happens or not");
    disk.sync_dir("").unwrap();
    disk.remove("b").unwrap();
    assert_eq!(every(&disk), trees([&[], &[("b", b"xy")]]));
    assert_eq!(disk.kill().list("").unwrap(), Vec::<String>::new(), "a killed process leaves the cache as it is");
}

#[test]
fn a_rename_over_a_file_leaves_the_old_one_or_the_new_one() {
    let (disk, _) = synced("value", b"old");
    let new = disk.create("value.new").unwrap();
    new.append(b"new").unwrap();
    let disk = disk.tearing(Tearing::WholeSectors);
    disk.rename("value.new", "value").unwrap();
    let all = every(&disk);
    assert!(all.contains(&trees([&[("value", b"")]]).pop_first().unwrap()), "unsynced content may leave an empty file");
    new.sync_all().unwrap();
    let values: BTreeSet<_> = every(&disk).iter().map(|tree| tree.get("value").cloned().unwrap()).collect();
    assert_eq!(values, BTreeSet::from([Some(b"old".to_vec()), Some(b"new".to_vec())]));
}

#[test]
fn a_move_between_folders_never_loses_the_file() {
    let (disk, _) = synced("out", b"mail");
    disk.create_dir("sent").unwrap();
    disk.sync_dir("").unwrap();
    disk.rename("out", "sent/1").unwrap();
    let places = |disk: &SimulatedDisk| -> BTreeSet<Vec<String>> {
        every(disk)
            .into_iter()
            .map(|tree| tree.into_iter().filter(|(_, c)| c.is_some()).map(|(p, _)| p).collect())
            .collect()
    };
    let (old, new) = ("out".to_string(), "sent/1".to_string());
    let may = BTreeSet::from([vec![old.clone()], vec![old, new.clone()], vec![new.clone()]]);
    assert_eq!(places(&disk), may);
    disk.sync_dir("").unwrap();
    assert_eq!(
        places(&disk),
        BTreeSet::from([vec![new]]),
        "the old name is gone for good, so the new one is there for good"
    );
}

#[test]
fn chance_meets_every_outcome_and_no_other() {
    let (disk, file) = synced("log", b"begin");
    let disk = disk.tearing(Tearing::WholeSectors);
    file.append(&[7; 600]).unwrap();
    disk.create("other").unwrap();
    file.append(&[8; 10]).unwrap();
    let every = every(&disk);
    let met: BTreeSet<_> = (0..20_000).map(|seed| disk.power_cut(seed).tree()).collect();
    assert_eq!(met.len(), every.len());
    assert_eq!(met, every);
    assert_eq!(disk.power_cut(5).tree(), disk.power_cut(5).tree());
}

#[test]
fn tearing_reaches_only_the_bytes_that_were_written() {
    let (disk, file) = synced("log", &[1; 100]);
    file.append(&[2; 100]).unwrap();
    let tails: HashSet<_> = (0..2_000)
        .map(|seed| {
            let left = disk.power_cut(seed).read("log").unwrap();
            assert_eq!(left[..100], [1; 100]);
            left[100..].to_vec()
        })
        .collect();
    let torn = |tail: &Vec<u8>| tail.contains(&2) && tail.ends_with(&[0; 10]);
    let garbage = |tail: &Vec<u8>| tail.iter().any(|byte| ![0, 2].contains(byte));
    assert!(tails.iter().any(torn) && tails.iter().any(garbage));
    assert!(tails.contains(&vec![]) && tails.contains(&vec![0; 100]) && tails.contains(&vec![2; 100]));
    assert!(disk.every_outcome(3).is_none(), "there are more outcomes than three");
}

#[test]
fn a_later_sync_does_not_bring_back_what_a_failed_one_lost() {
    let (disk, file) = synced("log", b"");
    file.append(&[1; 512]).unwrap();
    disk.inject(Fault::FailedSync, 1);
    file.sync_data().unwrap_err();
    assert!(disk.has_failed());
    file.append(&[2; 512]).unwrap();
    file.sync_data().unwrap();
    assert_eq!(disk.read("log").unwrap(), [[1; 512], [2; 512]].concat(), "it can still be read");
    let left: HashSet<_> = every(&disk).into_iter().map(|tree| tree["log"].clone().unwrap()).collect();
    assert!(left.contains(&[[0; 512], [2; 512]].concat()) && left.iter().all(|left| left[512..] == [2; 512]));
    file.write_at(0, &[3; 512]).unwrap();
    file.sync_data().unwrap();
    assert_eq!(every(&disk).len(), 1, "what was written again is synced again");

    file.append(&[4; 512]).unwrap();
    disk.inject(Fault::FailedSync, 1);
    file.sync_data().unwrap_err();
    file.write_at(1_024, &[5; 512]).unwrap();
    file.sync_data().unwrap();
    assert_eq!(every(&disk).len(), 1, "and so is the length that it needs");

    disk.rename("log", "moved").unwrap();
    disk.inject(Fault::FailedSync, 1);
    disk.sync_dir("").unwrap_err();
    disk.sync_dir("").unwrap();
    assert_eq!(every(&disk).len(), 2, "the name that was lost stays uncertain");
}

#[test]
fn the_power_is_out_for_every_handle_and_nothing_is_acknowledged_then() {
    let disk = SimulatedDisk::seeded(1);
    disk.cut_after(2);
    let file = disk.create("a").unwrap();
    file.append(b"x").unwrap();
    assert!(!disk.is_off());
    file.sync_data().unwrap_err();
    assert!(disk.is_off() && disk.clone().is_off() && disk.list("").is_err() && file.read_at(0, &mut [0]).is_err());
    assert_eq!(disk.trace(), ["create a", "append 1 bytes to a"]);
    assert_eq!(disk.operations(), 2);
    let after = disk.power_cut(1);
    after.open_or_create("a").unwrap().append(b"y").unwrap();
}

#[test]
fn faults_strike_once_where_they_were_put() {
    let (disk, file) = synced("a", b"begin");
    disk.inject(Fault::ShortWrite, 2);
    file.append(b"12345").unwrap();
    assert_eq!(file.append(&[9; 100]).unwrap_err().kind(), ErrorKind::WriteZero);
    let short = file.len().unwrap();
    assert!((10..110).contains(&short), "{short}");
    assert_eq!(file.append(b"more").unwrap(), short);

    disk.limit(short + 10);
    assert_eq!(file.append(b"12345678").unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), short + 10, "as much as there was room for");
    file.write_at(0, b"BEGIN").unwrap();
    assert_eq!(file.truncate(1_000).unwrap_err().kind(), ErrorKind::StorageFull);
    disk.create("b").unwrap().append(b"x").unwrap_err();
    file.truncate(5).unwrap();

    disk.inject(Fault::FlippedBit, 1);
    let wrong = disk.read("a").unwrap();
    let bits: u32 = wrong.iter().zip(b"BEGIN").map(|(a, b)| (a ^ b).count_ones()).sum();
    assert_eq!((bits, &disk.read("a").unwrap()[..]), (1, &b"BEGIN"[..]));
    disk.flip_bit("a", 9).unwrap();
    assert_eq!(disk.read("a").unwrap(), b"BGGIN");
    assert_eq!(disk.flip_bit("a", 40).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[derive(Debug, Clone)]
enum Op {
    Create(usize),
    Open(usize),
    CreateDir(usize),
    Rename(usize, usize),
    Remove(usize),
    List(usize),
    SyncDir(usize),
    Append(usize, usize),
    WriteAt(usize, u64, usize),
    ReadAt(usize, u64, usize),
    Truncate(usize, u64),
    Sync(usize),
    Read(usize),
}

const PATHS: [&str; 12] = ["a", "b", "c", "d/a", "d/b", "d", "d/e", "d/e/a", "a/x", "", "../a", "d//a"];

fn operations() -> impl Strategy<Value = Vec<Op>> {
    let path = || prop_oneof![8 => 0..8_usize, 1 => 0..PATHS.len()];
    let (at, size) = (|| 0..1_500_u64, || 0..1_200_usize);
    let one = prop_oneof![
        3 => path().prop_map(Op::Create),
        2 => path().prop_map(Op::Open),
        2 => path().prop_map(Op::CreateDir),
        3 => (path(), path()).prop_map(|(from, to)| Op::Rename(from, to)),
        1 => path().prop_map(Op::Remove),
        2 => path().prop_map(Op::List),
        1 => path().prop_map(Op::SyncDir),
        3 => (0..9_usize, size()).prop_map(|(file, size)| Op::Append(file, size)),
        2 => (0..9_usize, at(), size()).prop_map(|(file, at, size)| Op::WriteAt(file, at, size)),
        2 => (0..9_usize, at(), size()).prop_map(|(file, at, size)| Op::ReadAt(file, at, size)),
        2 => (0..9_usize, at()).prop_map(|(file, len)| Op::Truncate(file, len)),
        1 => (0..9_usize).prop_map(Op::Sync),
        2 => path().prop_map(Op::Read),
    ];
    prop::collection::vec(one, 1..60)
}

/// What a disk answers, and the kind of each error.
fn answers(disk: &dyn Disk, operations: &[Op]) -> Vec<Result<String, ErrorKind>> {
    let mut files: Vec<Arc<dyn DiskFile>> = vec![];
    let bytes = |turn: usize, size: usize| -> Vec<u8> { (0..size).map(|n| (n + 31 * turn) as u8).collect() };
    let mut answers = vec![];
    for (turn, op) in operations.iter().enumerate() {
        let file = |n: usize| files.get(n % files.len().max(1)).cloned().ok_or(io::Error::other("no file yet"));
        let answer = match *op {
            Op::Create(path) => disk.create(PATHS[path]).map(|file| files.push(file)).map(|()| "created".into()),
            Op::Open(path) => disk.open(PATHS[path]).map(|file| files.push(file)).map(|()| "open".into()),
            Op::CreateDir(path) => disk.create_dir(PATHS[path]).map(|()| "made".into()),
            Op::Rename(from, to) => disk.rename(PATHS[from], PATHS[to]).map(|()| "renamed".into()),
            Op::Remove(path) => disk.remove(PATHS[path]).map(|()| "removed".into()),
            Op::List(path) => disk.list(PATHS[path]).map(|names| names.join(" ")),
            Op::SyncDir(path) => disk.sync_dir(PATHS[path]).map(|()| "synced".into()),
            Op::Append(n, size) => file(n).and_then(|f| f.append(&bytes(turn, size))).map(|at| at.to_string()),
            Op::WriteAt(n, at, size) => {
                file(n).and_then(|f| f.write_at(at, &bytes(turn, size))).map(|()| "written".into())
            }
            Op::ReadAt(n, at, size) => file(n).and_then(|f| {
                let mut into = vec![0; size];
                let read = f.read_at(at, &mut into)?;
                Ok(format!("{read} of {}: {:?}", f.len()?, into))
            }),
            Op::Truncate(n, len) => file(n).and_then(|f| f.truncate(len)).map(|()| "cut".into()),
            Op::Sync(n) => file(n).and_then(|f| f.sync_data()).map(|()| "synced".into()),
            Op::Read(path) => disk.read(PATHS[path]).map(|bytes| format!("{bytes:?}")),
        };
        answers.push(answer.map_err(|error| error.kind()));
    }
    answers
}

/// As a real disk's files are, for the comparison with a simulated one.
fn tree_of(disk: &dyn Disk, dir: &str, tree: &mut Tree) {
    for name in disk.list(dir).unwrap() {
        let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
        let content = disk.read(&path).ok();
        if content.is_none() {
            tree_of(disk, &path, tree);
        }
        tree.insert(path, content);
    }
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn without_a_cut_both_disks_give_the_same_answers(operations in operations()) {
        let (room, simulated) = (Room::new(), SimulatedDisk::seeded(1));
        let real = room.disk();
        prop_assert_eq!(answers(&real, &operations), answers(&simulated, &operations));
        let mut tree = Tree::new();
        tree_of(&real, "", &mut tree);
        prop_assert_eq!(&tree, &simulated.tree());
        prop_assert_eq!(&tree, &simulated.kill().tree());
    }

    #[test]
    fn what_is_synced_is_there_after_any_cut(operations in operations(), seed in any::<u64>()) {
        let disk = SimulatedDisk::seeded(seed);
        answers(&disk, &operations);
        let before = disk.tree();
        let folders = before.iter().filter(|(_, content)| content.is_none()).map(|(path, _)| path.as_str());
        for folder in folders.chain([""]) {
            disk.sync_dir(folder).unwrap();
        }
        for (path, _) in before.iter().filter(|(_, content)| content.is_some()) {
            disk.open(path).unwrap().sync_all().unwrap();
        }
        prop_assert_eq!(disk.every_outcome(1).map(|all| all[0].tree()), Some(before.clone()));
        prop_assert_eq!(disk.power_cut(seed).tree(), before);
    }
}

#[test]
fn what_is_pending_in_a_folder_that_is_gone_for_good_is_no_outcome() {
    let disk = SimulatedDisk::seeded(1);
    disk.create_dir("d").unwrap();
    let file = disk.create("d/f").unwrap();
    disk.remove("d/f").unwrap();
    disk.remove("d").unwrap();
    file.append(b"to a file without a name").unwrap();
    disk.sync_dir("").unwrap();
    assert_eq!(disk.every_outcome(1).map(|all| all.len()), Some(1));
}

#[test]
fn appends_through_two_handles_do_not_overwrite_each_other() {
    let room = Room::new();
    let simulated = SimulatedDisk::seeded(1);
    let disks: [Arc<dyn Disk>; 2] = [Arc::new(room.disk()), Arc::new(simulated)];
    for disk in disks {
        disk.create("log").unwrap();
        std::thread::scope(|scope| {
            for writer in 1..=4_u8 {
                let file = disk.open("log").unwrap();
                scope.spawn(move || (0..200).map(|_| file.append(&[writer; 10]).unwrap()).max());
            }
        });
        let bytes = disk.read("log").unwrap();
        assert_eq!(bytes.len(), 8_000);
        assert!(bytes.chunks(10).all(|record| record.iter().all(|byte| *byte == record[0])));
    }
}

// Named points, in child processes.

const ROOM: &str = "CRASH_TEST_ROOM";
const FLAW: &str = "CRASH_TEST_FLAW";

#[test]
#[ignore = "a role: tests below start it in a process of its own"]
fn appending() {
    if !crash::in_role("appending") {
        return;
    }
    let disk = RealDisk::open(std::env::var(ROOM).unwrap()).unwrap();
    let flaw = if std::env::var(FLAW).is_ok() { Log::AcknowledgesFromItsBuffer } else { Log::Correct };
    let mut log = OpenLog::open(&disk, flaw).unwrap();
    for (n, record) in records().iter().enumerate() {
        log.append(record).unwrap();
        crash::acknowledge(format!("record {n}\nand \\n"));
    }
}

#[test]
#[ignore = "a role: tests below start it in a process of its own"]
fn misbehaving() {
    if !crash::in_role("misbehaving") {
        return;
    }
    crash::point("start");
    match std::env::var(FLAW).unwrap().as_str() {
        "kills itself" => {
            let pid = std::process::id().to_string();
            Command::new("kill").args(["-9", &pid]).status().unwrap();
            std::thread::park();
        }
        "panics" => panic!("for a reason"),
        "hangs" => loop {
            std::thread::park();
        },
        _ => crash::point("end"),
    }
}

fn left_is_a_prefix(room: &Room, acknowledged: usize) -> Result<()> {
    let found = OpenLog::open(&room.disk(), Log::Correct).doing("open the log again")?.records;
    let whole = records();
    if found.len() < acknowledged || found.len() > acknowledged + 1 || found[..] != whole[..found.len()] {
        return Err(Error::new("find the records", format!("{} of {acknowledged} are there", found.len())));
    }
    Ok(())
}

#[test]
fn a_log_keeps_what_it_acknowledged_wherever_its_process_is_killed() {
    let mut rooms = vec![];
    let child = |rooms: &mut Vec<Room>| {
        rooms.push(Room::new());
        Child::of_this_test("appending").env(ROOM, &rooms.last().unwrap().0)
    };
    let rooms = std::cell::RefCell::new(&mut rooms);
    let crashes = Crash::everywhere(
        || child(&mut rooms.borrow_mut()),
        |_, ended| {
            let said = ended.acknowledged();
            assert!(said.iter().enumerate().all(|(n, said)| *said == format!("record {n}\nand \\n")), "{said:?}");
            left_is_a_prefix(rooms.borrow().last().unwrap(), said.len())
        },
    );
    assert_eq!(crashes.unwrap(), 3 * records().len() as u64);
}

#[test]
fn a_log_that_acknowledges_from_its_buffer_is_caught_by_a_kill() {
    let room = Room::new();
    let child = Child::of_this_test("appending").env(ROOM, &room.0).env(FLAW, "buffer");
    let ended = Crash::at("after-sync").nth(2).run(child).unwrap();
    assert_eq!(ended.acknowledged().len(), 1);
    left_is_a_prefix(&room, ended.acknowledged().len()).unwrap_err();
}

fn misbehaving_child(how: &str) -> Child {
    Child::of_this_test("misbehaving").env(FLAW, how)
}

#[test]
fn a_child_that_runs_to_its_end_says_which_points_it_reached() {
    let ended = misbehaving_child("does not").run().unwrap();
    let points: Vec<_> = ended.points_reached().iter().map(|by| (by.point.as_str(), by.times)).collect();
    assert_eq!(points, [("end", 1), ("start", 1)]);
    assert!(ended.acknowledged().is_empty() && ended.stdout().contains("1 passed"));
}

#[test]
fn a_crash_that_does_not_happen_is_an_error_that_says_what_did() {
    let error = |crash: Crash, how| crash.run(misbehaving_child(how)).unwrap_err().to_string();
    let renamed = error(Crash::at("begin"), "does not");
    assert!(renamed.contains("never came by") && renamed.contains("end ×1, start ×1"), "{renamed}");
    let too_often = error(Crash::at("end").nth(2), "does not");
    assert!(too_often.contains("crash a child at end, time 2"), "{too_often}");
    error(Crash::at("start").nth(0), "does not");
    let before = error(Crash::at("end"), "panics");
    assert!(before.contains("start ×1") && before.contains("for a reason"), "{before}");
    let killed_by_another = error(Crash::at("end"), "kills itself");
    assert!(killed_by_another.contains("signal: 9"), "{killed_by_another}");
    let hung = error(Crash::at("end").within(Duration::from_millis(300)), "hangs");
    assert!(hung.contains("still running"), "{hung}");
}

#[test]
fn a_child_that_plays_no_role_is_an_error() {
    let error = Crash::at("start").run(Child::of_this_test("unheard_of")).unwrap_err().to_string();
    assert!(error.contains("play the role unheard_of"), "{error}");
    let error = misbehaving_child("panics").run().unwrap_err().to_string();
    assert!(error.contains("for a reason"), "{error}");
    let error = Crash::at("x").run(Command::new("no-such-program")).unwrap_err().to_string();
    assert!(error.contains("start a child process"), "{error}");
    let error = Crash::everywhere(|| Command::new("true"), |_, _| Ok(())).unwrap_err().to_string();
    assert!(error.contains("it came by no point"), "{error}");
}

#[test]
fn half_a_line_acknowledges_nothing() {
    let says = r#"printf 'x acknowledged: "no"\nacknowledged: "yes"\nacknowledged: "no'"#;
    let ended = Child::new("sh").arg("-c").arg(says).run().unwrap();
    assert_eq!(ended.acknowledged(), ["yes"]);
}

#[test]
fn points_do_nothing_where_none_is_armed() {
    (0..1_000_000).for_each(|_| crash::point("not-armed"));
}

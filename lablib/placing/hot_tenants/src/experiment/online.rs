//! Re-splits under fire: writers and readers that never stop, and a register of what every read must find.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{disk_of_a_map, document};
use crate::prototype::SHARDS;
use crate::resplit::{Resplit, Step};
use crate::shards::{BUCKETS, Document, Found, SearchShards, open};
use crate::tenants::{Skip, TenantIndex, View};
use crate::{Routing, Split};
use lab::{Call, Crowd, Error, Frame, Result, Rng};

/// What readers see when each step of the system is left out in turn, a row for each: the step that was `left out`; documents a read
/// that were `missing`, `found twice`, `in an old version` and `back from the dead`; and all that was `wrong`.
pub fn check_skipping(documents: u64, resplits: u64, seed: u64) -> Result<Frame> {
    let run = |skip| {
        let (seen, _) = check_online(documents, resplits, Some(skip), seed)?;
        let faults = ["missing", "found twice", "in an old version", "back from the dead"].into_iter();
        let per_read = faults.fold(Frame::new().text("left out", [skip]), |row, fault| {
            row.numbers(fault, "", [seen.number(fault) / seen.number("reads")])
        });
        Ok(per_read.counts("wrong", "", [seen.number("wrong") as u64]))
    };
    Skip::ALL.into_iter().map(run).collect()
}

const TENANT: &str = "the-hot-one";
/// More documents are not written.
const MOST: usize = 100_000;
/// How long a client thinks between two requests.
const THINKS: Duration = Duration::from_millis(2);
/// How long the slow reader dawdles after a switch where the deletion waits for it.
const DAWDLE: Duration = Duration::from_millis(60);

/// What is known of a document.
#[derive(Clone, Copy, Default)]
struct Known {
    /// The version that was written last.
    version: u64,
    /// The version that is sure to be found, 0 for none.
    refreshed: u64,
    /// Somebody has begun to delete it.
    deleting: bool,
    /// It is sure to be gone.
    gone: bool,
}

/// What is known of every document of the tenant, its id being its place, and what readers saw of them.
#[derive(Default)]
struct Register {
    known: Mutex<Vec<Known>>,
    seen: Mutex<Seen>,
}

/// Reads, and documents over all reads that were not as they had to be.
#[derive(Clone, Copy, Default)]
struct Seen {
    reads: u64,
    missing: u64,
    doubled: u64,
    stale: u64,
    undead: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Register {
    fn certain(&self) -> Vec<Known> {
        lock(&self.known).clone()
    }

    /// Reads, and compares with what was certain before.
    fn check(&self, index: &TenantIndex) -> Result<()> {
        let certain = self.certain();
        self.compare(&certain, &index.read(TENANT)?);
        Ok(())
    }

    fn compare(&self, certain: &[Known], found: &Found) {
        let now = self.certain();
        let mut hits: Vec<(u32, u64)> = vec![(0, 0); now.len()];
        for hit in &found.hits {
            if let Some((times, version)) = hits.get_mut(hit.id as usize) {
                (*times, *version) = (*times + 1, hit.version);
            }
        }
        let mut seen = lock(&self.seen);
        seen.reads += 1;
        for ((before, now), (times, version)) in certain.iter().zip(&now).zip(&hits) {
            seen.missing += u64::from(before.refreshed > 0 && !now.deleting && *times == 0);
            seen.stale += u64::from(*times > 0 && *version < before.refreshed);
            seen.undead += u64::from(before.gone && *times > 0);
        }
        seen.doubled += hits.iter().filter(|(times, _)| *times > 1).count() as u64;
    }
}

/// Writes, updates and deletes; refreshes now and then, and only then tells the register.
struct Writer<'a> {
    index: &'a TenantIndex,
    register: &'a Register,
    rng: Rng,
    alive: Vec<u64>,
}

impl Writer<'_> {
    fn write(&mut self, new: u64, updates: u64, deletions: u64) -> Result<u64> {
        let some = |alive: &[u64], rng: &mut Rng| rng.below(alive.len() as u64) as usize;
        let mut known = lock(&self.register.known);
        let first = known.len();
        known.resize((first + new as usize).min(MOST.max(first)), Known::default());
        let mut ids: Vec<u64> = (first as u64..known.len() as u64).collect();
        self.alive.extend(&ids);
        ids.extend((0..updates).map(|_| self.alive[some(&self.alive, &mut self.rng)]));
        let mut write = |id: u64| {
            let version = &mut known[id as usize].version;
            *version += 1;
            document(id, TENANT, *version, &mut self.rng)
        };
        let batch: Vec<Document> = ids.into_iter().map(&mut write).collect();
        drop(known);
        self.index.write(&batch)?;
        let mut doomed = Vec::new();
        for _ in 0..deletions.min(self.alive.len() as u64 / 2) {
            let id = self.alive.swap_remove(some(&self.alive, &mut self.rng));
            lock(&self.register.known)[id as usize].deleting = true;
            doomed.push(id);
        }
        self.index.delete_documents(TENANT, &doomed)?;
        Ok((batch.len() + doomed.len()) as u64)
    }

    fn refresh(&mut self) -> Result<()> {
        self.index.refresh()?;
        // Nobody else writes: all of it was acknowledged before.
        for known in lock(&self.register.known).iter_mut() {
            (known.refreshed, known.gone) = (known.version, known.deleting);
        }
        Ok(())
    }
}

/// What was certain, and the map as it was then.
type Hold<'a> = (Vec<Known>, View<'a>);

/// Who is at work while a tenant is split anew.
enum Client<'a, 'b> {
    Writer(&'b mut Writer<'a>),
    Reader,
    /// Hears of each step; is handed a hold on the map before the switch, and asks the shards with it afterwards.
    SlowReader(Receiver<(Step, Option<Hold<'a>>)>),
}

/// Splits a tenant of so many documents anew, again and again, while it is read and written, and checks every read.
///
/// Over all of them: `reads` that were checked, by the concurrent reader, the slow one, and one after every step of every re-split, and
/// those of the first two `beside a re-split`; documents that were written, updated or deleted meanwhile (`changes`), and that were
/// `moved` to another shard; refreshed documents that were `missing`, `found twice`, or found `in an old version`, deleted ones that
/// were `back from the dead`, copies `left over` at the end that no reader can see, and all of these (`wrong`); and the longest time
/// for which a switch `held up` the writers. Also what went on during the first re-split, in seconds from its start: `lane`, `from`,
/// `to`, `what`.
pub fn check_online(documents: u64, resplits: u64, skip: Option<Skip>, seed: u64) -> Result<(Frame, Frame)> {
    if documents == 0 || resplits == 0 || documents as usize > MOST / 2 {
        let cause = format!("{resplits} re-splits of {documents} documents are no experiment");
        return Err(Error::new("check re-splits", cause));
    }
    let disk = disk_of_a_map()?;
    let shards: Arc<dyn SearchShards> = open(Routing::new(SHARDS)?)?.into();
    let index = TenantIndex::open(shards.clone(), disk.clone())?.without(skip);
    let (register, going_on, hearing) = (Register::default(), AtomicBool::new(false), AtomicBool::new(false));
    let rng = Rng::seeded(seed, "changes");
    let mut writer = Writer { index: &index, register: &register, rng, alive: Vec::new() };
    writer.write(documents, 0, 0)?;
    writer.refresh()?;

    let (tell, hears) = mpsc::channel();
    let (mut steps, mut copied, mut held_up) = (Vec::new(), 0, Duration::ZERO);
    let resplit_all = || {
        let (tell, started, mut rng) = (tell, Instant::now(), Rng::seeded(seed, "re-splits"));
        // Without the slow reader, some mistakes are never seen.
        while !hearing.load(Ordering::SeqCst) && started.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(1));
        }
        for round in 0..resplits {
            let reached = RefCell::new(Vec::new());
            let watch = |step: Step| {
                reached.borrow_mut().push((step, started.elapsed().as_secs_f64()));
                going_on.store(step != Step::Done, Ordering::SeqCst);
                // Not where the slow reader never came: nobody would let go of it.
                let held = step == Step::Copied && hearing.load(Ordering::SeqCst);
                let hold = held.then(|| (register.certain(), index.view()));
                // Where it has failed, nobody hears; and a failure here shows in the readers' own threads, too.
                let _ = tell.send((step, hold));
                let _ = register.check(&index);
            };
            let split = match round % 5 {
                4 => None,
                part => Some(random(&index, [3, 5, 10, 2][part as usize], &mut rng)?),
            };
            let done: Resplit = index.resplit_watched(TENANT, split, &watch)?;
            copied += done.copied;
            held_up = held_up.max(done.held_up);
            if round == 0 {
                steps = reached.into_inner();
            }
        }
        Ok(())
    };
    // Where nobody waits for the slow reader, it waits for the deletion.
    let dawdles = if skip == Some(Skip::WaitForReaders) { Duration::from_secs(10) } else { DAWDLE };
    let work = |client: &mut Client<'_, '_>, call: &mut Call| {
        call.rest(THINKS);
        match client {
            Client::Writer(writer) => {
                call.tag("lane", "writes");
                call.note("changes", "", writer.write(20, 10, 5)? as f64);
                if call.number() % 16 == 15 {
                    writer.refresh()?;
                }
            }
            Client::Reader => {
                call.tag("lane", "reads");
                let before = going_on.load(Ordering::SeqCst);
                register.check(&index)?;
                call.note("beside", "", f64::from(u8::from(before && going_on.load(Ordering::SeqCst))));
            }
            // One call until nobody tells it anything any more: whatever fails, who waits for its reads does not wait for ever.
            Client::SlowReader(steps) => {
                let until = |step, patience| while steps.recv_timeout(patience).is_ok_and(|(now, _)| now != step) {};
                let mut reads = 0.0;
                hearing.store(true, Ordering::SeqCst);
                while let Ok((_, hold)) = steps.recv() {
                    if let Some((certain, view)) = hold {
                        until(Step::Switched, Duration::from_secs(10));
                        until(Step::Done, dawdles);
                        register.compare(&certain, &view.read(TENANT, None)?);
                        reads += 1.0;
                    }
                }
                call.note("beside", "", reads);
                call.last();
            }
        }
        Ok(())
    };
    let clients = [Client::Writer(&mut writer), Client::Reader, Client::SlowReader(hears)];
    let crowd = Crowd::holding(clients).lasting(Duration::ZERO).within(Duration::from_secs(900));
    let (calls, began) = {
        let ((), ran) = crowd.during(resplit_all, work)?;
        let began = ran.event_began("done");
        (ran.frame, began)
    };
    writer.refresh()?;
    let total = |what: &str| calls.samples(what).values().iter().sum::<f64>() as u64;
    // After a restart: nothing but what is on the disk.
    drop(index);
    register.check(&TenantIndex::open(shards.clone(), disk)?)?;
    let held: u64 = shards.loads()?.iter().map(|load| load.documents).sum();
    let left_over = held.saturating_sub(lock(&register.known).iter().filter(|known| !known.gone).count() as u64);
    let Seen { reads, missing, doubled, stale, undead } = *lock(&register.seen);
    let counts = [
        ("reads", reads),
        ("beside a re-split", total("beside")),
        ("changes", total("changes")),
        ("moved", copied),
        ("missing", missing),
        ("found twice", doubled),
        ("in an old version", stale),
        ("back from the dead", undead),
        ("left over", left_over),
        ("wrong", missing + doubled + stale + undead + left_over),
    ];
    let seen = counts.into_iter().fold(Frame::new(), |seen, (what, count)| seen.counts(what, "", [count]));
    let seen = seen.numbers("held up", "ms", [held_up.as_secs_f64() * 1e3]);
    Ok((seen, first_resplit(&steps, &calls, began)))
}

/// Each bucket on any of so many shards.
fn random(index: &TenantIndex, parts: usize, rng: &mut Rng) -> Result<Split> {
    let all: Vec<usize> = (0..index.routing().primaries() as usize).collect();
    let shards = rng.pick(&all, parts);
    let homes: Vec<usize> = (0..BUCKETS).map(|_| shards[rng.below(shards.len() as u64) as usize]).collect();
    Split::over(index.routing(), TENANT, &homes)
}

/// When its steps went on, and reads and writes beside them: `began` is its start on the clock of the calls.
fn first_resplit(steps: &[(Step, f64)], calls: &Frame, began: f64) -> Frame {
    let name = |step: Step| match step {
        Step::Copied => Some("copy and catch up"),
        Step::Switched => Some("switch"),
        Step::Drained => Some("wait for readers"),
        Step::Done => Some("delete old copies"),
        Step::Announced | Step::Copying | Step::DeletedTooEarly => None,
    };
    let mut from = steps.first().map_or(0.0, |(_, at)| *at);
    let mut rows: Vec<(String, f64, f64, &str)> = Vec::new();
    for (step, to) in steps {
        if let Some(what) = name(*step) {
            rows.push(("re-split".to_string(), from, *to, what));
            from = *to;
        }
    }
    let end = from;
    let calls = calls.having("lane");
    let beside = calls.rows().map(|call| {
        let from = call.number("at") - began;
        (call.text("lane"), from.max(0.0), (from + call.number("took")).min(end), "")
    });
    rows.extend(beside.filter(|(_, from, to, _)| *to > 0.0 && from < to));
    Frame::new()
        .text("lane", rows.iter().map(|row| &row.0))
        .numbers("from", "s", rows.iter().map(|row| row.1))
        .numbers("to", "s", rows.iter().map(|row| row.2))
        .text("what", rows.iter().map(|row| row.3))
}

//! One step left out at a time, and what the checks say: a small re-shard that somebody disturbs at every named point.

use std::collections::HashMap;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mysql::Conn;
use mysql::prelude::Queryable;

use super::traffic::Checked;
use super::{instances, users};
use crate::{Client, Cluster, Gatherer, Mover, MoverSpec, POINTS, Policy, Served, Skip, Slot, SlotMap, User, at_odds};
use lab::chart::{Bars, Chart};
use lab::service::MariaDb;
use lab::{Doing, Error, OrFail, Progress, Result, Table, joined};

/// What was left out, and what came of it.
#[derive(Debug, Clone)]
pub struct Faulty {
    /// What was left out, in words.
    pub name: String,
    /// Why the mover refused to hand over; none where it did.
    pub refused: Option<String>,
    /// What the checks say.
    pub checked: Checked,
    /// Rows that a list over all shards had twice.
    pub listed_twice: u64,
    /// How long clients waited, in seconds, where they were refused.
    pub longest_wait: f64,
}

impl Faulty {
    /// Acknowledged writes that are not there, and deletes that came undone.
    pub fn lost(&self) -> u64 {
        self.checked.lost + self.checked.risen
    }

    /// Everything that went wrong for clients.
    pub fn harm(&self) -> u64 {
        self.checked.faults() + self.listed_twice
    }

    /// What became of the move, in words.
    pub fn outcome(&self) -> String {
        self.refused.clone().map_or("went through".into(), |why| format!("refused: {why}"))
    }
}

/// What was lost in each arm.
pub fn fault_chart(arms: &[Faulty], title: &str) -> Bars {
    let chart = Chart::bars(title)
        .subtitle("Acknowledged writes and deletes that were gone after one small move, by the step left out")
        .y("lost or undone", "")
        .horizontal();
    arms.iter().fold(chart, |chart, arm| chart.bar(&arm.name, arm.lost()))
}

/// What became of the move in each arm, and what clients saw.
pub fn fault_table(arms: &[Faulty]) -> Table {
    Table::new("Left out, and what became of the move")
        .text("left out", arms.iter().map(|arm| arm.name.as_str()))
        .text("the move", arms.iter().map(Faulty::outcome))
        .counts("lost or undone", "", arms.iter().map(Faulty::lost))
        .counts("stale reads", "", arms.iter().map(|arm| arm.checked.stale_reads))
        .counts("two owners", "", arms.iter().map(|arm| arm.checked.at_odds))
        .counts("listed twice", "", arms.iter().map(|arm| arm.listed_twice))
}

/// An arm of the experiment: a name, and the steps that are left out.
#[derive(Debug, Clone)]
pub struct Fault {
    name: &'static str,
    skips: Vec<Skip>,
}

/// Nothing, and then one step after the other.
pub fn faults() -> Vec<Fault> {
    let fault = |name, skips: &[Skip]| Fault { name, skips: skips.to_vec() };
    vec![
        fault("nothing", &[]),
        fault("catching up", &[Skip::CatchUp]),
        fault("catching up and comparing", &[Skip::CatchUp, Skip::Verify]),
        fault("holding writers back", &[Skip::Lock, Skip::Verify]),
        fault("asking the fence", &[Skip::Fence, Skip::Verify]),
        fault("hiding copies", &[Skip::Filter]),
    ]
}

/// Each of them, on the first two of these servers.
pub fn faulty(servers: &[MariaDb], rows: u64, seed: u64) -> Vec<Faulty> {
    let faults = faults();
    let mut progress = Progress::new("leaving steps out", faults.len() as u64);
    let mut run = |fault: &Fault| {
        let faulty = fault.run(servers, rows, seed);
        progress.step();
        faulty
    };
    faults.iter().map(&mut run).collect::<Result<_>>().or_fail()
}

const SLOTS: Slot = 32;
/// Users that are written, and users that are deleted, at each point.
const AT_EACH_POINT: usize = 3;
/// How long the mover waits at a point for what has to happen there: no measurement, but the end of an experiment that hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// For what the mover waits at a point before it goes on. Never for a time: a machine that is busy would then decide whether
/// anything was written between two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Whoever meddles has done all of it.
    Done,
    /// The mover holds the writers at this point: one more of them waits for a fence.
    Held,
    /// Nobody serves at this point: who meddles has been refused.
    Refused,
}

impl Fault {
    fn until(&self, point: &str) -> Until {
        let holds = !self.skips.contains(&Skip::Lock) && !self.skips.contains(&Skip::Fence);
        match point {
            "writers-held" | "last-changes-applied" | "compared" if holds => Until::Held,
            "released" => Until::Refused,
            _ => Until::Done,
        }
    }

    /// Moves half of the slots from A to B in one move. At every named point of it, users of those slots are written,
    /// deleted and read by a client whose map is as old as the experiment; afterwards once more.
    pub fn run(&self, servers: &[MariaDb], rows: u64, seed: u64) -> Result<Faulty> {
        let [first, second, ..] = servers else {
            return Err(Error::new("move slots", "it takes two servers"));
        };
        let urls = vec![("A".to_string(), first.url().to_string()), ("B".to_string(), second.url().to_string())];
        let cluster = Cluster::over(urls, 1, SLOTS)?;
        let all = users(rows, seed);
        cluster.load(&all)?;
        let moving: Vec<Slot> = cluster.map()?.plan(&instances(2))?.iter().map(|transfer| transfer.slot).collect();
        let mut victims = all.iter().filter(|user| moving.contains(&cluster.slot_of(user.id))).map(|user| user.id);
        let mut take = || -> Vec<u64> { victims.by_ref().take(2 * AT_EACH_POINT).collect() };

        let has = |skip| self.skips.contains(&skip).then_some(skip);
        let meddler = Meddler {
            cluster: cluster.clone(),
            old_map: cluster.map()?,
            skip: has(Skip::Fence),
            filter: has(Skip::Filter),
            all: rows,
            seen: Arc::default(),
        };
        let mut at_points: HashMap<&str, Vec<u64>> = POINTS.iter().map(|point| (*point, take())).collect();
        let afterwards = take();

        let under_way: Arc<Mutex<UnderWay>> = Arc::default();
        let (going, at_work, fault) = (Arc::clone(&under_way), meddler.clone(), self.clone());
        let (mut source, mut held) = (cluster.connect("A")?, 0);
        let spec = MoverSpec { batch: SLOTS.into(), chunk: 200, skips: self.skips.clone(), ..MoverSpec::default() };
        let mut mover = Mover::new(&cluster, spec)?.watched_by(move |point| {
            let Some(ids) = at_points.remove(point) else { return };
            let (until, meddler, (told, inbox)) = (fault.until(point), at_work.clone(), mpsc::channel());
            let told = (until == Until::Refused).then_some(told);
            let thread = std::thread::spawn(move || meddler.meddle(&ids, told));
            let came = match until {
                Until::Done => joined("meddle with a move", thread.join()),
                Until::Held => {
                    held += 1;
                    going.lock().unwrap_or_else(PoisonError::into_inner).threads.push(thread);
                    until_held(&mut source, held)
                }
                Until::Refused => {
                    going.lock().unwrap_or_else(PoisonError::into_inner).threads.push(thread);
                    inbox.recv_timeout(PATIENCE).doing("wait for a refusal")
                }
            };
            if let Err(error) = came {
                going.lock().unwrap_or_else(PoisonError::into_inner).trouble.get_or_insert(error);
            }
        });
        let refused = mover.reshard(&instances(2)).err().map(|error| error.cause().to_string());
        let UnderWay { threads, trouble } =
            std::mem::take(&mut *under_way.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            joined("meddle with a move", thread.join())?;
        }
        trouble.map_or(Ok(()), Err)?;
        meddler.meddle(&afterwards, None)?;

        let Seen { mut mirror, mut checked, evidence, listed_twice, longest_wait } =
            std::mem::take(&mut *meddler.seen.lock().unwrap_or_else(PoisonError::into_inner));
        for user in all {
            mirror.entry(user.id).or_insert(Some(user));
        }
        checked.compare(&cluster, &mirror)?;
        checked.at_odds = at_odds(&evidence).len() as u64;
        Ok(Faulty { name: self.name.into(), refused, checked, listed_twice, longest_wait })
    }
}

/// Those who meddle and are held up, and what went wrong with the waiting for them.
#[derive(Default)]
struct UnderWay {
    threads: Vec<JoinHandle<Result<()>>>,
    trouble: Option<Error>,
}

/// Waits until so many clients wait for a fence, as their server sees them.
fn until_held(server: &mut Conn, count: usize) -> Result<()> {
    let doing = "wait for writers that are held";
    let waiting = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND info LIKE \
                   'SELECT % FROM fences % LOCK IN SHARE MODE'";
    let asked = Instant::now();
    while server.query_first::<usize, _>(waiting).doing(doing)?.unwrap_or(0) < count {
        if asked.elapsed() > PATIENCE {
            return Err(Error::new(doing, format!("fewer than {count} wait")));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Somebody who writes, deletes, reads and lists while slots move, and writes down what was acknowledged.
#[derive(Clone)]
struct Meddler {
    cluster: Cluster,
    old_map: SlotMap,
    skip: Option<Skip>,
    filter: Option<Skip>,
    all: u64,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    mirror: HashMap<u64, Option<User>>,
    checked: Checked,
    evidence: Vec<Served>,
    listed_twice: u64,
    longest_wait: f64,
}

impl Meddler {
    /// With somebody to be told, its first write is tried once, and again only after the telling: it is refused where nobody
    /// serves.
    fn meddle(&self, ids: &[u64], told: Option<Sender<()>>) -> Result<()> {
        let mut client = Client::with_map(&self.cluster, self.old_map.clone()).without(self.skip).keeping_evidence();
        let mut mirror = HashMap::new();
        let (mut stale_reads, mut first_fault) = (0, None);
        let (written, deleted) = ids.split_at(ids.len().min(AT_EACH_POINT));
        let mut told = told;
        for &id in written {
            let put = |client: &mut Client| client.put(id, "meddled with", -1);
            match told.take() {
                None => put(&mut client)?,
                Some(told) => {
                    client = client.patience(Duration::ZERO);
                    let tried = put(&mut client);
                    let _ = told.send(()); // whoever waited may have given up
                    client = client.patience(Duration::from_secs(10));
                    tried.or_else(|_| put(&mut client))?;
                }
            }
            mirror.insert(id, Some(User { id, name: "meddled with".into(), score: -1, visits: 2 }));
        }
        for &id in deleted {
            client.delete(id)?;
            mirror.insert(id, None);
        }
        // Whoever reads does it as one should, so that a write that went astray is not found where it went.
        let mut reader = Client::new(&self.cluster)?.keeping_evidence();
        for id in ids {
            let seen = reader.get(*id)?;
            if seen.as_ref() != mirror.get(id).and_then(Option::as_ref) {
                stale_reads += 1;
                first_fault.get_or_insert(format!("a read of user {id} showed {seen:?}"));
            }
        }
        let most = 2 * self.all;
        let list =
            Gatherer::new(&self.cluster)?.without(self.filter).top(most, Duration::from_secs(10), Policy::Whole)?;
        let listed = list.rows.len() as u64;
        let distinct = list.rows.iter().map(|user| user.id).collect::<std::collections::HashSet<_>>().len() as u64;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.mirror.extend(mirror);
        seen.evidence.extend(client.evidence().iter().chain(reader.evidence()).cloned());
        seen.listed_twice += listed - distinct;
        let waits = client.stats().waits.iter().chain(&reader.stats().waits);
        seen.longest_wait = waits.copied().fold(seen.longest_wait, f64::max);
        let checked = &mut seen.checked;
        checked.reads += ids.len() as u64;
        checked.writes += ids.len() as u64;
        checked.refused += client.stats().refused + reader.stats().refused;
        checked.lists += 1;
        checked.wrong_lists += u64::from(listed != distinct);
        checked.stale_reads += stale_reads;
        checked.first_fault = checked.first_fault.take().or(first_fault);
        Ok(())
    }
}

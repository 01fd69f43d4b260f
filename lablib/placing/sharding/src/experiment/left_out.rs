//! One step left out at a time, and what the checks say: a small re-shard that somebody disturbs at every named point.

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use mysql::Conn;
use mysql::prelude::Queryable;

use super::traffic::Checked;
use super::{instances, users};
use crate::{Client, Cluster, Gatherer, Mover, MoverSpec, POINTS, Policy, Served, Skip, Slot, SlotMap, User};
use lab::service::MariaDb;
use lab::{Doing, Error, Frame, Progress, Result, joined};

/// What is left out, in words, and the steps that are skipped for it.
pub type LeftOut = (&'static str, &'static [Skip]);

/// Nothing, and then one step after the other.
pub const LEFT_OUT: [LeftOut; 6] = [
    ("nothing", &[]),
    ("catching up", &[Skip::CatchUp]),
    ("catching up and comparing", &[Skip::CatchUp, Skip::Verify]),
    ("holding writers back", &[Skip::Lock, Skip::Verify]),
    ("asking the fence", &[Skip::Fence, Skip::Verify]),
    ("hiding copies", &[Skip::Filter]),
];

const SLOTS: Slot = 32;
/// Users that are written, and users that are deleted, at each point.
const AT_EACH_POINT: usize = 3;
/// How long the mover waits at a point for what has to happen there: no measurement, but the end of an experiment that hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Each of these arms, on the first two of these servers: half of the slots move from A to B in one move. At every named point of it,
/// users of those slots are written, deleted and read by a client whose map is as old as the experiment; afterwards once more.
///
/// A row for each arm: what was `left out`; how `the move` ended (`went through`, or why it was refused); acknowledged writes and
/// deletes that are `lost or undone`; `stale reads`; contradictions in who served what (`two owners`); rows that a list had twice
/// (`listed twice`); all of these `faults` and those of the other checks together; `refusals` of clients; and the `first fault`.
pub fn left_out(servers: &[MariaDb], arms: &[LeftOut], rows: u64, seed: u64) -> Result<Frame> {
    let mut progress = Progress::new("leaving steps out", arms.len() as u64);
    let mut run = |arm: &LeftOut| {
        let row = disturbed(servers, arm, rows, seed)?;
        progress.step();
        Ok(row)
    };
    arms.iter().map(&mut run).collect()
}

fn disturbed(servers: &[MariaDb], (name, skips): &LeftOut, rows: u64, seed: u64) -> Result<Frame> {
    let [first, second, ..] = servers else {
        return Err(Error::new("move slots", "it takes two servers"));
    };
    let urls = vec![("A".to_string(), first.url().to_string()), ("B".to_string(), second.url().to_string())];
    let cluster = Cluster::over(urls, 1, SLOTS)?;
    let all = users(rows, seed);
    cluster.load(&all)?;
    let old_map = cluster.map()?;
    let moving: Vec<Slot> = old_map.plan(&instances(2))?.iter().map(|transfer| transfer.slot).collect();
    let moves = |user: &&User| moving.contains(&cluster.slot_of(user.id));
    let mut victims = all.iter().filter(moves).map(|user| user.id);
    let mut take = || victims.by_ref().take(2 * AT_EACH_POINT).collect::<Vec<u64>>();
    let mut at_points: HashMap<&str, Vec<u64>> = POINTS.iter().map(|point| (*point, take())).collect();
    let meddler = Meddler { cluster: &cluster, old_map, skips, all: rows, seen: Mutex::default() };
    let afterwards = take();

    let (mut source, mut held) = (cluster.connect("A")?, 0);
    let refused = std::thread::scope(|scope| -> Result<Option<String>> {
        let (mut at_work, mut trouble) = (Vec::new(), None);
        let spec = MoverSpec { batch: SLOTS.into(), chunk: 200, skips: skips.to_vec(), ..MoverSpec::default() };
        let mut mover = Mover::new(&cluster, spec)?.watched_by(|point| {
            // The mover goes on when what has to happen here has happened, never after a time: a machine that is busy would then decide
            // whether anything was written between two steps.
            let Some(ids) = at_points.remove(point) else { return };
            let (meddler, (told, inbox)) = (&meddler, mpsc::channel());
            let nobody_serves = point == "released";
            let meddling = scope.spawn(move || meddler.meddle(&ids, nobody_serves.then_some(told)));
            let holds = ["writers-held", "last-changes-applied", "compared"].contains(&point)
                && !skips.contains(&Skip::Lock)
                && !skips.contains(&Skip::Fence);
            let came = if holds {
                at_work.push(meddling);
                held += 1;
                until_held(&mut source, held)
            } else if nobody_serves {
                at_work.push(meddling);
                inbox.recv_timeout(PATIENCE).doing("wait for a refusal")
            } else {
                joined("meddle with a move", meddling.join())
            };
            trouble = trouble.take().or(came.err());
        });
        let refused = mover.reshard(&instances(2)).err().map(|error| error.cause().to_string());
        drop(mover);
        at_work.into_iter().try_for_each(|meddling| joined("meddle with a move", meddling.join()))?;
        trouble.map_or(Ok(refused), Err)
    })?;
    meddler.meddle(&afterwards, None)?;

    let Seen { mut mirror, mut checked, evidence, refusals } =
        meddler.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
    for user in all {
        mirror.entry(user.id).or_insert(Some(user));
    }
    checked.compare(&cluster, &mirror)?;
    checked.compare_evidence(&evidence);
    let lost = checked.found(["lost writes", "deletes undone"]);
    Ok(Frame::new()
        .text("left out", [name])
        .text("the move", [refused.map_or("went through".into(), |why| format!("refused: {why}"))])
        .counts("lost or undone", "", [lost])
        .counts("stale reads", "", [checked.found(["stale reads"])])
        .counts("two owners", "", [checked.found(["two owners by what clients saw"])])
        .counts("listed twice", "", [checked.found(["listed twice"])])
        .counts("faults", "", [checked.faults()])
        .counts("refusals", "", [refusals])
        .text("first fault", [checked.first_fault.unwrap_or_default()]))
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
struct Meddler<'a> {
    cluster: &'a Cluster,
    old_map: SlotMap,
    skips: &'a [Skip],
    all: u64,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    mirror: HashMap<u64, Option<User>>,
    checked: Checked,
    evidence: Vec<Served>,
    refusals: u64,
}

impl Meddler<'_> {
    /// With somebody to be told, its first write is tried once, and again only after the telling: it is refused where nobody
    /// serves.
    fn meddle(&self, ids: &[u64], mut told: Option<Sender<()>>) -> Result<()> {
        let skip = |skip| self.skips.contains(&skip).then_some(skip);
        let client = Client::with_map(self.cluster, self.old_map.clone());
        let mut client = client.without(skip(Skip::Fence)).keeping_evidence();
        let (mut mirror, mut stale) = (HashMap::new(), Vec::new());
        let (written, deleted) = ids.split_at(ids.len().min(AT_EACH_POINT));
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
        let mut reader = Client::new(self.cluster)?.keeping_evidence();
        for id in ids {
            let seen = reader.get(*id)?;
            if seen.as_ref() != mirror.get(id).and_then(Option::as_ref) {
                stale.push(format!("a read of user {id} showed {seen:?}"));
            }
        }
        let mut gatherer = Gatherer::new(self.cluster)?.without(skip(Skip::Filter));
        let list = gatherer.top(2 * self.all, Duration::from_secs(10), Policy::Whole)?;
        let distinct = list.rows.iter().map(|user| user.id).collect::<HashSet<_>>().len();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.mirror.extend(mirror);
        seen.evidence.extend(client.evidence().iter().chain(reader.evidence()).cloned());
        seen.refusals += client.stats().refused + reader.stats().refused;
        seen.checked.count("stale reads", stale.len(), ids.len());
        seen.checked.count("listed twice", list.rows.len() - distinct, list.rows.len());
        seen.checked.tell(stale.into_iter().next());
        Ok(())
    }
}

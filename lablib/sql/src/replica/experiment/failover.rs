//! The primary is killed while clients write: what was acknowledged, what each replica had received, and what is lost.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use super::bank::{Bank, Transfer};
use super::lag::Desk;
use crate::replica::cluster::Cluster;
use crate::replica::{Promotion, SemiSync, SemiSyncStatus, Skip};
use lab::chart::{Bars, Chart, Lines};
use lab::{Doing, Error, OpenLoop, OrFail, Result, Table, joined};

/// How the primary dies.
#[derive(Debug, Clone)]
pub struct FailoverSpec {
    delays: Vec<Duration>,
    semi_sync: Option<SemiSync>,
    silent: Duration,
    replay_late: bool,
    skip: Option<Skip>,
    comes_back: bool,
    rate: f64,
    writing: Duration,
    seed: u64,
}

impl FailoverSpec {
    /// Killed while clients make `rate` transfers a second; a replica for each delay of its wire, in milliseconds and
    /// in each direction. Its wires are cut in the same moment: what is on its way is lost, as when a whole machine is.
    pub fn killed(delays: &[u64], rate: f64, seed: u64) -> Self {
        Self {
            delays: delays.iter().map(|delay| Duration::from_millis(*delay)).collect(),
            semi_sync: None,
            silent: Duration::ZERO,
            replay_late: false,
            skip: None,
            comes_back: false,
            rate,
            writing: Duration::from_millis(500),
            seed,
        }
    }

    /// Commits wait for a replica.
    pub fn waiting(mut self, semi_sync: SemiSync) -> Self {
        self.semi_sync = Some(semi_sync);
        self
    }

    /// Clients write for this long before anything happens.
    pub fn writing(mut self, writing: Duration) -> Self {
        self.writing = writing;
        self
    }

    /// The wires go silent this long before the kill.
    pub fn silent(mut self, silent: Duration) -> Self {
        self.silent = silent;
        self
    }

    /// Until the kill, replicas receive and replay nothing: as if each were far behind with replaying.
    pub fn replaying_late(mut self) -> Self {
        self.replay_late = true;
        self
    }

    /// A step of the promotion is left out.
    pub fn without(mut self, skip: Skip) -> Self {
        self.skip = Some(skip);
        self
    }

    /// The old primary is started again afterwards, and wants to follow.
    pub fn comes_back(mut self) -> Self {
        self.comes_back = true;
        self
    }
}

/// What was lost.
#[derive(Debug, Clone)]
pub struct Failover {
    /// Transfers that were acknowledged.
    pub acknowledged: u64,
    /// Transfers a second that were acknowledged before the silence, or the kill.
    pub rate: f64,
    /// Acknowledged transfers that a replica had not received: by its delay in seconds.
    pub missing: Vec<(f64, u64)>,
    /// Acknowledged transfers that the new primary does not have.
    pub lost: u64,
    /// Transfers that another client had seen on the old primary, acknowledged or not, and that the new one does not
    /// have.
    pub seen_and_lost: u64,
    /// Commits that the old primary says it acknowledged without a replica; none where it waits for nobody.
    pub unwaited: Option<u64>,
    /// Whether the new primary has a prefix of the old one's transactions.
    pub prefix: Result<u64, String>,
    /// The promotion.
    pub promotion: Promotion,
    /// Replicas that follow the new primary, and how many of those have every transfer that it has.
    pub followers: (u64, u64),
    /// Whether a step of the promotion was left out.
    pub stepped_over: bool,
    /// Those of the lost that were acknowledged before half of a timeout had passed since the wires went silent: none,
    /// if only a timeout loses.
    pub lost_in_time: u64,
    /// What the old primary was told when it came back, and how many transfers it has that the new one has not.
    pub back: Option<(Result<()>, u64)>,
}

/// Several ways to die, by name.
#[derive(Debug, Clone)]
pub struct Failovers {
    arms: Vec<(String, Failover)>,
}

/// Dies in each of these ways, on a cluster for each; three of them at a time.
pub fn failovers(arms: &[(&str, FailoverSpec)]) -> Failovers {
    let run = || -> Result<Failovers> {
        let mut done = Vec::new();
        for pair in arms.chunks(3) {
            std::thread::scope(|scope| -> Result<()> {
                let threads: Vec<_> = pair.iter().map(|(name, spec)| (name, scope.spawn(|| failover(spec)))).collect();
                for (name, thread) in threads {
                    done.push(((*name).to_owned(), joined("kill a primary", thread.join())?));
                }
                Ok(())
            })?;
        }
        Ok(Failovers { arms: done })
    };
    run().or_fail()
}

/// Starts a cluster, kills its primary under load, promotes, and looks at what is there.
pub fn failover(spec: &FailoverSpec) -> Result<Failover> {
    const WRITERS: usize = 24;
    let cluster = Cluster::start(spec.delays.len())?;
    let bank = Bank::open(&cluster, 200)?;
    cluster.semi_sync(spec.semi_sync)?;
    for (replica, delay) in cluster.replicas().into_iter().zip(&spec.delays) {
        cluster.link(replica)?.delay(*delay);
        if spec.replay_late {
            cluster.server(replica)?.try_execute("STOP SLAVE SQL_THREAD")?;
        }
    }
    let before = spec.semi_sync.map(|_| cluster.semi_sync_status()).transpose()?;
    let desk = Desk::open(&bank, WRITERS, spec.seed)?;
    let stop = AtomicBool::new(false);
    let acknowledged: std::sync::Mutex<Vec<Transfer>> = std::sync::Mutex::default();
    let (seen, unwaited, quiet_from, start) = std::thread::scope(|scope| -> Result<_> {
        let start = Instant::now();
        let lasting = spec.writing + spec.silent + Duration::from_secs(10);
        let load = OpenLoop::per_second(spec.rate).lasting(lasting).workers(WRITERS);
        let (desk, stop, all) = (&desk, &stop, &acknowledged);
        let writing = scope.spawn(move || {
            load.run_until(stop, |_| {
                if let Some(Ok(transfer)) = desk.transfer(16) {
                    all.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(transfer);
                }
            })
        });
        let watching = scope.spawn({
            let cluster = cluster.clone();
            move || seen_by_others(&cluster, stop)
        });
        let end = || -> Result<_> {
            std::thread::sleep(spec.writing);
            let quiet_from = Instant::now();
            if !spec.silent.is_zero() {
                for replica in cluster.replicas() {
                    cluster.link(replica)?.half_open();
                }
                std::thread::sleep(spec.silent);
            }
            let status: Option<SemiSyncStatus> = spec.semi_sync.map(|_| cluster.semi_sync_status()).transpose()?;
            // What is on its way goes with the machine that sent it, in the same moment.
            let primary = cluster.server(0)?;
            let links: Vec<_> =
                cluster.replicas().into_iter().map(|replica| cluster.link(replica)).collect::<Result<_>>()?;
            std::thread::scope(|scope| {
                let killing = scope.spawn(|| primary.try_kill());
                for link in &links {
                    link.cut();
                }
                joined("kill the primary", killing.join())
            })?;
            Ok((status, quiet_from))
        };
        let ended = end();
        stop.store(true, Ordering::SeqCst);
        joined("write", writing.join().map(|result| result.map(drop)))?;
        let seen = joined("watch the primary", watching.join())?;
        let (status, quiet_from) = ended?;
        let unwaited = status.zip(before).map(|(after, before)| after.unwaited - before.unwaited);
        Ok((seen, unwaited, quiet_from, start))
    })?;
    // Whoever wrote has ended, so the log is whole.
    drop(desk);
    let acknowledged = acknowledged.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let by_quiet = acknowledged.iter().filter(|one| one.acknowledged < quiet_from).count();
    let rate = by_quiet as f64 / quiet_from.duration_since(start).as_secs_f64();
    let promotion = cluster.promote_without(Duration::from_secs(20), spec.skip)?;
    let missing = promotion.candidates.iter().filter_map(|candidate| {
        let delay = spec.delays.get(candidate.server - 1)?.as_secs_f64();
        let lacks = acknowledged.iter().filter(|one| !candidate.received.covers(&one.position)).count();
        Some((delay, lacks as u64))
    });
    let missing: Vec<(f64, u64)> = missing.collect();
    let log = bank.log();
    let now = bank.snapshot(promotion.to)?;
    let there = ledger(&cluster, promotion.to)?;
    // The new primary is in use, and its replicas must follow it.
    Desk::open(&bank, 1, spec.seed + 1)?.ten_more()?;
    let others: Vec<usize> =
        promotion.candidates.iter().map(|one| one.server).filter(|one| *one != promotion.to).collect();
    let mut equal = 0;
    for &other in &others {
        let caught_up = cluster.wait_for(other, &cluster.position()?, Duration::from_secs(20)).is_ok();
        equal += u64::from(caught_up && ledger(&cluster, other)? == ledger(&cluster, promotion.to)?);
    }
    let back = match spec.comes_back {
        false => None,
        true => {
            cluster.server(0)?.try_restart()?;
            let told = cluster.rejoin(0, Duration::from_secs(10));
            Some((told, ledger(&cluster, 0)?.difference(&ledger(&cluster, promotion.to)?).count() as u64))
        }
    };
    let in_time = quiet_from + spec.semi_sync.map_or(Duration::ZERO, |how| how.timeout / 2).min(spec.silent);
    let lost_in_time = acknowledged.iter().filter(|one| one.acknowledged < in_time && !there.contains(&one.id)).count();
    Ok(Failover {
        acknowledged: acknowledged.len() as u64,
        rate,
        missing,
        lost: log.lost(&now),
        seen_and_lost: seen.difference(&there).count() as u64,
        unwaited,
        prefix: log.prefix(&now),
        promotion,
        followers: (others.len() as u64, equal),
        stepped_over: spec.skip.is_some(),
        lost_in_time: lost_in_time as u64,
        back,
    })
}

/// The ledger's lines on a server.
fn ledger(cluster: &Cluster, server: usize) -> Result<BTreeSet<u64>> {
    let ids: Vec<u64> =
        cluster.connect(server, Duration::from_secs(10))?.query("SELECT id FROM ledger").doing("read the ledger")?;
    Ok(ids.into_iter().collect())
}

/// Which lines somebody else sees on the primary until it dies.
fn seen_by_others(cluster: &Cluster, stop: &AtomicBool) -> Result<BTreeSet<u64>> {
    let mut connection = cluster.connect(0, Duration::from_secs(5))?;
    let mut seen: BTreeSet<u64> = BTreeSet::new();
    while !stop.load(Ordering::SeqCst) {
        // Dead is how it ends.
        let Ok(ids) = connection.query::<u64, _>("SELECT id FROM ledger") else { break };
        seen.extend(ids);
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(seen)
}

impl Desk {
    /// Ten transfers on the new primary.
    fn ten_more(&self) -> Result<()> {
        (0..10).try_for_each(|_| match self.transfer(16) {
            Some(done) => done.map(drop),
            None => Err(Error::new("write to the new primary", "nobody is left to write")),
        })
    }
}

impl Failovers {
    /// One of them.
    pub fn arm(&self, name: &str) -> &Failover {
        let found = self.arms.iter().find(|(arm, _)| arm == name).map(|(_, arm)| arm);
        found.ok_or_else(|| Error::new("find a way to die", format!("there is none called {name:?}"))).or_fail()
    }

    /// What each cost.
    pub fn table(&self) -> Table {
        let counts = |of: fn(&Failover) -> u64| self.arms.iter().map(|(_, arm)| of(arm)).collect::<Vec<_>>();
        let back = |arm: &Failover| match &arm.back {
            None => "–".to_owned(),
            Some((Ok(()), _)) => "follows".into(),
            Some((Err(_), alone)) => format!("refused: {alone} of its own"),
        };
        Table::new("The primary is killed under load, and a replica takes over")
            .text("", self.arms.iter().map(|(name, _)| name.as_str()))
            .counts("acknowledged", "", counts(|arm| arm.acknowledged))
            .counts("… and lost", "", counts(|arm| arm.lost))
            .counts("seen by others and lost", "", counts(|arm| arm.seen_and_lost))
            .text("the old primary, back again", self.arms.iter().map(|(_, arm)| back(arm)))
            .numbers("promoted in", "ms", self.arms.iter().map(|(_, arm)| arm.promotion.took * 1e3))
    }

    /// Lost transfers, one bar for each way.
    pub fn chart(&self, title: &str) -> Bars {
        let chart = Chart::bars(title).y("acknowledged transfers lost", "").horizontal();
        self.arms.iter().fold(chart, |chart, (name, arm)| chart.bar(name, arm.lost as f64))
    }

    /// Replicas that follow the new primary after a promotion in which nothing was left out, and those of them that
    /// equal it.
    pub fn followers(&self) -> (u64, u64) {
        let whole = self.arms.iter().filter(|(_, arm)| !arm.stepped_over);
        whole.fold((0, 0), |sum, (_, arm)| (sum.0 + arm.followers.0, sum.1 + arm.followers.1))
    }

    /// New primaries that have no prefix of the old one's transactions.
    pub fn broken_prefixes(&self) -> u64 {
        self.arms.iter().filter(|(_, arm)| arm.prefix.is_err()).count() as u64
    }
}

impl Failover {
    /// Acknowledged transfers that each replica had not received, by the delay of its wire.
    pub fn chart(&self, title: &str) -> Lines {
        let rate = self.rate;
        Chart::lines(title)
            .x("delay of the replica's wire", "ms")
            .y("acknowledged transfers that it lacks", "")
            .from_zero()
            .x_range(0.0, self.missing.iter().map(|(delay, _)| delay * 1.1e3).fold(0.0, f64::max))
            .points("measured", self.missing.iter().map(|(delay, missing)| (delay * 1e3, *missing as f64)))
            .predicted("rate × delay", move |delay| rate * delay / 1e3)
    }

    /// What the replica with the longest wire lacks, over rate × delay.
    pub fn missing_over_predicted(&self) -> f64 {
        let longest = self.missing.iter().max_by(|a, b| a.0.total_cmp(&b.0));
        longest.map_or(f64::NAN, |(delay, missing)| *missing as f64 / (delay * self.rate))
    }
}

//! The primary is killed while clients write: what was acknowledged, what each replica had received, and what is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use mysql::prelude::Queryable;

use super::bank::{Bank, Transfer};
use crate::cluster::Cluster;
use crate::{Position, SemiSync, Skip};
use lab::{Crowd, Doing, Frame, Result, joined};

/// How the primary dies. Its wires are cut in the same moment: what is on its way is lost, as when a whole machine is.
#[derive(Debug, Clone, Copy, Default)]
pub struct FailoverSpec {
    /// A replica for each of these, the delay of its wire in each direction, in milliseconds.
    pub delays: &'static [u64],
    /// How commits wait for a replica, if they do.
    pub semi_sync: Option<SemiSync>,
    /// The wires go silent this long before the kill.
    pub silent: Duration,
    /// Until the kill, replicas receive and replay nothing: as if each were far behind with replaying.
    pub replay_late: bool,
    /// The step of the promotion that is left out.
    pub skip: Option<Skip>,
    /// Whether the old primary is started again afterwards, and wants to follow.
    pub comes_back: bool,
    /// Transfers a second.
    pub rate: f64,
    /// Clients write for this long before anything happens.
    pub writing: Duration,
    pub seed: u64,
}

/// Dies in each of these ways, on a cluster for each; three of them at a time.
///
/// A row for each (`arm`). Transfers that were `acknowledged`, and those of them that are `lost`, which the new primary does not have; the lost
/// that were acknowledged before half of a timeout had passed since the wires went silent (`lost in time`: none, if only a timeout loses);
/// transfers, acknowledged or not, that another client had seen on the old primary (`seen and lost`). Commits that the old primary says it acknowledged without a replica (`unwaited`), where it
/// waits for any. Whether the new primary has a `prefix` of the old one's transactions: `kept`, or why not. Replicas that follow it
/// (`followers`), and those with every transfer that it has (`equal`); the step that was `left out`, and how long the promotion took
/// (`promoted in`). What the old primary was `told` when it came back, and the transfers that it alone has (`alone`).
///
/// And a row for each replica of each arm: acknowledged transfers that it had not received (`lacks`), by the `delay` of its wire,
/// and the transfers that were acknowledged in so much time before the silence, or the kill (`predicted`).
pub fn failovers(arms: &[(&str, FailoverSpec)]) -> Result<(Frame, Frame)> {
    let mut died = <(Frame, Frame)>::default();
    for three in arms.chunks(3) {
        let ran = Crowd::holding(three.iter().map(|arm| (arm, None))).run(|((arm, spec), died), _| {
            *died = Some(failover(arm, spec)?);
            Ok(())
        })?;
        died.extend(ran.states.into_iter().filter_map(|(_, died)| died));
    }
    Ok(died)
}

/// Starts a cluster, kills its primary under load, promotes, and looks at what is there: the arm's row, and one for each replica.
fn failover(arm: &str, spec: &FailoverSpec) -> Result<(Frame, Frame)> {
    const WRITERS: usize = 24;
    let cluster = Cluster::start(spec.delays.len())?;
    let bank = Bank::open(&cluster, 200)?;
    cluster.semi_sync(spec.semi_sync)?;
    for (replica, delay) in cluster.replicas().into_iter().zip(spec.delays) {
        cluster.link(replica)?.delay(Duration::from_millis(*delay));
        if spec.replay_late {
            cluster.server(replica)?.try_execute("STOP SLAVE SQL_THREAD")?;
        }
    }
    let primary = cluster.server(0)?;
    let unwaited = || -> Result<Option<u64>> {
        Ok(spec.semi_sync.map(|_| cluster.semi_sync_status()).transpose()?.map(|status| status.unwaited))
    };
    let (before, mut after) = (unwaited()?, None);
    let mut other = cluster.connect(0, Duration::from_secs(5))?;
    let mut seen: BTreeSet<u64> = BTreeSet::new();
    let ran = Crowd::of(WRITERS)
        .with(|_| Ok((bank.writer(spec.seed)?, Vec::<(f64, Transfer)>::new())))
        .arriving(spec.rate, spec.writing + spec.silent + Duration::from_secs(10))
        .enduring()
        .looking(Duration::from_millis(2), |_| {
            // It is dead at the end.
            seen.extend(other.query::<u64, _>("SELECT id FROM ledger").unwrap_or_default());
            Ok(())
        })
        .meanwhile(spec.writing, "silent", || {
            for link in cluster.links().filter(|_| !spec.silent.is_zero()) {
                link.half_open();
            }
            Ok(())
        })
        .meanwhile(spec.silent, "killed", || {
            after = unwaited()?;
            // What is on its way goes with the machine that sent it, in the same moment.
            std::thread::scope(|scope| {
                let killing = scope.spawn(|| primary.try_kill());
                for link in cluster.links() {
                    link.cut();
                }
                joined("kill the primary", killing.join())
            })
        })
        .run(|(writer, acknowledged), call| {
            let transfer = writer.transfer(16).inspect_err(|_| call.last())?;
            acknowledged.push((call.now(), transfer));
            Ok(())
        })?;
    let (quiet, made) = (ran.event_began("silent"), ran.states.into_iter());
    // The writers end here, so the log is whole.
    let acknowledged: Vec<(f64, Transfer)> = made.flat_map(|(_, acknowledged)| acknowledged).collect();
    let rate = acknowledged.iter().filter(|(at, _)| *at < quiet).count() as f64 / quiet;
    let promotion = cluster.promote_without(Duration::from_secs(20), spec.skip)?;
    let delays: Vec<f64> = promotion.candidates.iter().map(|one| spec.delays[one.server - 1] as f64).collect();
    let lacks = |received: &Position| acknowledged.iter().filter(|(_, one)| !received.covers(&one.position)).count();
    let replicas = Frame::new()
        .numbers("delay", "ms", delays.iter().copied())
        .counts("lacks", "", promotion.candidates.iter().map(|one| lacks(&one.received) as u64))
        .numbers("predicted", "", delays.iter().map(|delay| rate * delay / 1e3))
        .everywhere("arm", "", arm);
    let (log, now, there) = (bank.log(), bank.snapshot(promotion.to)?, ledger(&cluster, promotion.to)?);
    // The new primary is in use, and its replicas must follow it.
    let mut writer = bank.writer(spec.seed + 1)?;
    (0..10).try_for_each(|_| writer.transfer(16).map(drop))?;
    let followers = promotion.candidates.iter().map(|one| one.server).filter(|one| *one != promotion.to);
    let mut equal = Vec::new();
    for follower in followers {
        let caught_up = cluster.wait_for(follower, &cluster.position()?, Duration::from_secs(20)).is_ok();
        equal.push(caught_up && ledger(&cluster, follower)? == ledger(&cluster, promotion.to)?);
    }
    let (mut told, mut alone) = ("–".to_string(), None);
    if spec.comes_back {
        cluster.server(0)?.try_restart()?;
        let refusal = cluster.rejoin(0, Duration::from_secs(10)).err();
        told = refusal.map_or("follows".into(), |refusal| refusal.to_string());
        alone = Some(ledger(&cluster, 0)?.difference(&ledger(&cluster, promotion.to)?).count() as f64);
    }
    let in_time = quiet + spec.semi_sync.map_or(Duration::ZERO, |how| how.timeout / 2).min(spec.silent).as_secs_f64();
    let lost_in_time = acknowledged.iter().filter(|(at, one)| *at < in_time && !there.contains(&one.id)).count();
    let row = Frame::new()
        .text("arm", [arm])
        .text("left out", [spec.skip.map_or("nothing".to_string(), |skip| format!("{skip:?}"))])
        .counts("acknowledged", "", [acknowledged.len() as u64])
        .counts("lost", "", [log.lost(&now)])
        .counts("seen and lost", "", [seen.difference(&there).count() as u64])
        .counts("lost in time", "", [lost_in_time as u64])
        .numbers_or_missing("unwaited", "", [after.zip(before).map(|(after, before)| (after - before) as f64)])
        .text("prefix", [log.prefix(&now).map_or_else(|why| why, |_| "kept".into())])
        .counts("followers", "", [equal.len() as u64])
        .counts("equal", "", [equal.iter().filter(|equal| **equal).count() as u64])
        .text("told", [told])
        .numbers_or_missing("alone", "", [alone])
        .numbers("promoted in", "ms", [promotion.took * 1e3]);
    Ok((row, replicas))
}

/// The ledger's lines on a server.
fn ledger(cluster: &Cluster, server: usize) -> Result<BTreeSet<u64>> {
    let ids: Vec<u64> =
        cluster.connect(server, Duration::from_secs(10))?.query("SELECT id FROM ledger").doing("read the ledger")?;
    Ok(ids.into_iter().collect())
}

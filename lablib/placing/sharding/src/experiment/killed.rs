//! A mover in a process of its own, killed at named points and started again, while clients go on.

use std::time::Duration;

use super::instances;
use super::traffic::{Ran, TrafficSpec};
use crate::mover::Errand;
use crate::{Cluster, MoverSpec};
use lab::crash::{Child, Crash};
use lab::{Frame, Result, errand};

/// What became of a re-shard whose mover was killed again and again.
#[derive(Debug)]
pub struct Killed {
    /// What the clients did and saw.
    pub ran: Ran,
    /// Each `event` (`killed: POINT`), and when it `ended`, in seconds from the beginning of the re-shard.
    pub kills: Frame,
    /// Slots that have `moved` to the new instances, by the directory, and when that was seen (`at`), in the same seconds.
    pub progress: Frame,
    /// Slots that have to move.
    pub slots: u64,
}

/// How long a supervisor waits before it takes a dead mover's work up: nothing depends on it but the pause.
const SUPERVISOR: Duration = Duration::from_millis(100);

/// Re-shards from two instances to all of them. The mover is killed (-9) at each of these points in turn, each time by
/// the number of times that it comes by, and started again after a moment.
pub fn killed(cluster: &Cluster, traffic: TrafficSpec, spec: MoverSpec, points: &[(&str, u64)]) -> Result<Killed> {
    let all = instances(cluster.names().len());
    let slots = cluster.map()?.plan(&all)?.len() as u64;
    let onto: Vec<String> = all.into_iter().map(|instance| instance.name).collect();
    let errand = Errand { cluster: cluster.clone(), spec, onto };
    let child = || errand::command("mover", &errand).map(Child::from);
    let ran = traffic.around(cluster, |crowd| {
        let pauses = std::iter::once(traffic.margin).chain(std::iter::repeat(SUPERVISOR));
        let crowd = points.iter().zip(pauses).fold(crowd, |crowd, ((point, nth), pause)| {
            let kill = move || Crash::at(point).nth(*nth).run(child()?).map(drop);
            crowd.meanwhile(pause, &format!("killed: {point}"), kill)
        });
        crowd.meanwhile(SUPERVISOR, "arrived", move || child()?.run().map(drop)).looking(
            Duration::from_millis(25),
            |look| {
                let counts = cluster.map()?.counts();
                let moved: u64 = errand.onto.iter().skip(2).filter_map(|name| counts.get(name)).sum();
                look.note("moved", "", moved as f64);
                Ok(())
            },
        )
    })?;
    let since = |frame: &Frame, moment: &str| frame.samples(moment).map(|at| at - ran.time().start).values().to_vec();
    let kills = ran.events.select(["event"]).numbers("ended", "s", since(&ran.events, "ended"));
    let progress = ran.looks.select(["moved"]).numbers("at", "s", since(&ran.looks, "at"));
    let (kills, progress) = (kills.except("event", "arrived"), progress.within("at", 0.0..f64::INFINITY));
    Ok(Killed { kills, progress, slots, ran })
}

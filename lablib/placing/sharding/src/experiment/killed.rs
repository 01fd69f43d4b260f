//! A mover in a process of its own, killed at named points and started again, while clients go on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::instances;
use super::traffic::{Ran, TrafficSpec};
use crate::mover::{Errand, SUPERVISOR};
use crate::{Cluster, MoverSpec};
use lab::chart::{Chart, Lines};
use lab::crash::{Child, Crash};
use lab::{OrFail, Result, Table, errand, joined};

/// What became of a re-shard whose mover was killed again and again.
#[derive(Debug)]
pub struct Killed {
    /// What the clients did and saw.
    pub ran: Ran,
    /// Where and when it was killed, in seconds from the start of the re-shard.
    pub kills: Vec<(f64, String)>,
    /// Slots on the new instances over time, by the directory.
    pub progress: Vec<(f64, f64)>,
    /// Slots that had to move.
    pub slots: u64,
}

/// Re-shards from two instances to all of them. The mover is killed (-9) at each of these points in turn, each time by
/// the number of times that it comes by, and started again after a moment.
pub fn killed(cluster: &Cluster, traffic: TrafficSpec, spec: MoverSpec, points: &[(&str, u64)]) -> Killed {
    let onto: Vec<String> = instances(cluster.names().len()).into_iter().map(|instance| instance.name).collect();
    let errand = Errand { cluster: cluster.clone(), spec, onto };
    let run = || -> Result<Killed> {
        let before = cluster.map()?;
        let slots = before.plan(&instances(cluster.names().len()))?.len() as u64;
        let (ran, (kills, progress)) = traffic.around(cluster, || kill_again_and_again(&errand, points))?;
        Ok(Killed { ran, kills, progress, slots })
    };
    run().or_fail()
}

type Course = (Vec<(f64, String)>, Vec<(f64, f64)>);

fn kill_again_and_again(errand: &Errand, points: &[(&str, u64)]) -> Result<Course> {
    let child = || errand::command("mover", errand).map(Child::from);
    let (started, over) = (Instant::now(), AtomicBool::new(false));
    let old: Vec<&str> = errand.onto.iter().take(2).map(String::as_str).collect();
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| -> Result<Vec<(f64, f64)>> {
            let mut progress = Vec::new();
            loop {
                let last = over.load(Ordering::Relaxed);
                let counts = errand.cluster.map()?.counts();
                let moved: u64 = counts.iter().filter(|(name, _)| !old.contains(&name.as_str())).map(|(_, n)| n).sum();
                progress.push((started.elapsed().as_secs_f64(), moved as f64));
                if last {
                    return Ok(progress);
                }
                std::thread::sleep(Duration::from_millis(25));
            }
        });
        let kill = || -> Result<Vec<(f64, String)>> {
            let mut kills = Vec::new();
            for (point, nth) in points {
                Crash::at(point).nth(*nth).run(child()?)?;
                kills.push((started.elapsed().as_secs_f64(), (*point).to_string()));
                std::thread::sleep(SUPERVISOR);
            }
            child()?.run()?;
            Ok(kills)
        };
        let kills = kill();
        over.store(true, Ordering::Relaxed);
        let progress = joined("watch a re-shard", watching.join())?;
        Ok((kills?, progress))
    })
}

impl Killed {
    /// What the clients noticed of it.
    pub fn saw(&self) -> Table {
        Table::new("What the clients saw of it")
            .counts("operations", "", [self.ran.operations.height() as u64])
            .counts("refused, then served", "", [self.ran.operations.having("refused").height() as u64])
            .counts("failed", "", [self.ran.checked.failed])
            .numbers("longest of all", "ms", [self.ran.operations.samples("took").max() * 1e3])
    }

    /// Slots moved over time, with every kill.
    pub fn chart(&self, title: &str) -> Lines {
        let chart = Chart::lines(title)
            .x("time since the re-shard began", "s")
            .y("slots on the new instances", "")
            .from_zero()
            .line("moved", self.progress.iter().copied())
            .mark_y("all that have to move", self.slots);
        self.kills.iter().fold(chart, |chart, (at, point)| chart.mark_x(format!("killed: {point}"), *at))
    }
}

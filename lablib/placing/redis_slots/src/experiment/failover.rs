//! A master dies under load: for how long nobody serves its slots, and which acknowledged writes are gone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redis::Value;

use crate::{ClientOptions, Failure, Request, SlotMap, slot_of};
use lab::chart::{Chart, Lines, Timeline};
use lab::service::{Redis, RedisCluster};
use lab::{Error, Link, OrFail, Progress, Result, Samples, Table, joined};

/// The load, and the deaths.
#[derive(Debug, Clone)]
pub struct FailoverSpec {
    /// How long the load runs before each death.
    pub load: Duration,
    /// Each death: how much the wire to the master's replica is delayed, one way.
    pub deaths: Vec<Death>,
    /// Writes that one WAIT vouches for.
    pub batch: usize,
    /// After how long without a sign of life a master is taken for dead.
    pub node_timeout: Duration,
}

/// How one master dies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Death {
    /// How much the wire between the master and its replica is delayed, one way.
    pub delay: Duration,
    /// Whether the cluster refuses all slots while some have no master (Redis's default).
    pub full_coverage: bool,
}

/// What became of all deaths.
#[derive(Debug, Clone)]
pub struct Failover {
    deaths: Vec<Died>,
}

/// What became of one death.
#[derive(Debug, Clone)]
pub struct Died {
    /// How it died.
    pub death: Death,
    /// Writes that were acknowledged, without WAIT.
    pub acknowledged: u64,
    /// Those of them that are gone.
    pub lost: u64,
    /// Writes that were acknowledged, and then WAIT said that a replica has them.
    pub replicated: u64,
    /// Those of them that are gone.
    pub replicated_lost: u64,
    /// Writes whose fate the client does not know: the connection broke before the answer.
    pub unknown: u64,
    /// Those of them that are there.
    pub unknown_there: u64,
    /// The longest time without an answer for each master's slots, in seconds, the one that died first.
    pub silent: Vec<f64>,
    /// Requests for the other masters' slots that a node refused after the death, because the cluster was down.
    pub others_refused: u64,
    /// Those that were served while the dead master's slots were not.
    pub others_served: u64,
    probes: Vec<Vec<Probe>>,
    /// When each acknowledged write without WAIT was acknowledged, in seconds after the death, and whether it is gone.
    writes: Vec<(f64, bool)>,
    died: f64,
}

#[derive(Debug, Clone)]
struct Probe {
    start: f64,
    end: f64,
    came: Came,
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    Served,
    /// A node answered that the cluster is down.
    Refused,
    /// No answer: from a dead node, or in time from one that a busy machine did not let run.
    Nothing,
}

/// A write, when its answer came (in seconds), and what it was.
struct Written {
    key: String,
    at: f64,
    how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Acknowledged,
    Replicated,
    Unknown,
}

impl FailoverSpec {
    /// Starts a cluster for the purpose, and lets one of its masters after the other die.
    pub fn run(&self) -> Failover {
        self.try_run().or_fail()
    }

    /// As [`run`](Self::run).
    pub fn try_run(&self) -> Result<Failover> {
        if self.batch == 0 || self.deaths.is_empty() {
            return Err(Error::new("let a master die", "it needs a death, and a batch of one write at least"));
        }
        let mut progress = Progress::new("masters dying", self.deaths.len() as u64);
        let mut deaths = Vec::new();
        // A master that has died has no replica left to take over from its heir, so two deaths are what a cluster is good for.
        for deaths_of_one in self.deaths.chunks(2) {
            let timeout = self.node_timeout.as_millis().to_string();
            let cluster = RedisCluster::of(3, 3).with("cluster-node-timeout", &timeout).start()?;
            let masters: Vec<&Redis> = cluster.masters()?;
            let victims = || deaths_of_one.iter().zip(&masters);
            // Side by side, because it takes the news a second to get around.
            let links = std::thread::scope(|scope| {
                let links: Vec<_> =
                    victims().map(|(_, victim)| scope.spawn(|| cluster.replicate_through_link(victim))).collect();
                links.into_iter().map(|link| joined("open a link", link.join())).collect::<Result<Vec<Link>>>()
            })?;
            for ((death, victim), link) in victims().zip(&links) {
                deaths.push(self.kill(&cluster, victim, link, *death, deaths.len())?);
                progress.step();
            }
        }
        Ok(Failover { deaths })
    }

    fn kill(&self, cluster: &RedisCluster, victim: &Redis, link: &Link, death: Death, number: usize) -> Result<Died> {
        let coverage = if death.full_coverage { "yes" } else { "no" };
        for node in cluster.nodes().iter().filter(|node| node.is_running()) {
            node.ask(&format!("CONFIG SET cluster-require-full-coverage {coverage}"))?;
        }
        let options = ClientOptions::of(cluster).deadline(Duration::from_millis(40));
        let map = options.connect()?.map().clone();
        let announced = link.address().to_owned();
        let mut owners: Vec<String> = map.masters().into_iter().map(str::to_owned).collect();
        owners.sort_by_key(|owner| *owner != announced);
        let tags = owners.iter().map(|owner| tag_on(&map, owner)).collect::<Result<Vec<_>>>()?;
        let (start, over, dead) = (Instant::now(), AtomicBool::new(false), AtomicBool::new(false));
        link.delay(death.delay);
        let (over, dead, options) = (&over, &dead, &options);
        let wait = 6 * death.delay + Duration::from_secs(1);
        let (probes, written, died) = std::thread::scope(|scope| {
            let probes: Vec<_> = tags.iter().map(|tag| scope.spawn(move || probe(options, tag, start, over))).collect();
            let tag = &tags[0];
            let mut writers =
                vec![scope.spawn(move || write(options, &format!("{{{tag}}}:{number}:plain"), start, over))];
            for writer in 0..2 {
                let prefix = format!("{{{tag}}}:{number}:wait{writer}");
                writers.push(scope.spawn(move || write_and_wait(options, &prefix, self.batch, wait, start, dead)));
            }
            std::thread::sleep(self.load);
            let died = self.die(victim, link, start);
            // The heir has no replica that could vouch for anything.
            dead.store(true, Ordering::SeqCst);
            let settled = died.and_then(|died| cluster.try_settle().map(|_| died));
            std::thread::sleep(Duration::from_millis(200));
            over.store(true, Ordering::SeqCst);
            let probes =
                probes.into_iter().map(|probe| joined("probe the slots", probe.join())).collect::<Result<Vec<_>>>();
            let written = writers.into_iter().map(|writer| joined("write", writer.join())).collect::<Result<Vec<_>>>();
            Ok::<_, Error>((probes?, written?.into_iter().flatten().collect::<Vec<Written>>(), settled?))
        })?;
        self.judge(cluster, death, probes, written, died)
    }

    /// The process is killed, and with it goes what its machine had not sent yet: a process alone would leave the kernel to
    /// deliver what is in the socket.
    fn die(&self, victim: &Redis, link: &Link, start: Instant) -> Result<f64> {
        let died = start.elapsed().as_secs_f64();
        victim.try_kill()?;
        link.cut();
        Ok(died)
    }

    fn judge(
        &self,
        cluster: &RedisCluster,
        death: Death,
        probes: Vec<Vec<Probe>>,
        written: Vec<Written>,
        died: f64,
    ) -> Result<Died> {
        let mut client = ClientOptions::of(cluster).connect()?;
        let reads: Vec<Request> = written.iter().map(|written| Request::read(["GET", &written.key])).collect();
        let there = client.call_many(&reads).into_iter().collect::<Result<Vec<_>, Failure>>()?;
        let there: Vec<bool> = written
            .iter()
            .zip(there)
            .map(|(written, value)| value == Value::BulkString(written.key.clone().into_bytes()))
            .collect();
        let count = |how: How, is_there: Option<bool>| {
            let counts = |(written, there): &(&Written, &bool)| {
                written.how == how && is_there.is_none_or(|is_there| is_there == **there)
            };
            written.iter().zip(&there).filter(counts).count() as u64
        };
        let acknowledged = written.iter().zip(&there).filter(|(written, _)| written.how == How::Acknowledged);
        let again = probes[0].iter().find(|probe| probe.came == Came::Served && probe.start > died);
        let again = again.map_or(f64::INFINITY, |probe| probe.end);
        let gap = |probe: &&Probe| probe.start > died && probe.end < again;
        let others = |which: &dyn Fn(&&Probe) -> bool| {
            probes.iter().skip(1).map(|probes| probes.iter().filter(which).count() as u64).sum()
        };
        Ok(Died {
            death,
            acknowledged: count(How::Acknowledged, None),
            lost: count(How::Acknowledged, Some(false)),
            replicated: count(How::Replicated, None),
            replicated_lost: count(How::Replicated, Some(false)),
            unknown: count(How::Unknown, None),
            unknown_there: count(How::Unknown, Some(true)),
            silent: probes.iter().map(|probes| longest_silence(probes)).collect(),
            others_refused: others(&|probe| probe.came == Came::Refused && probe.start > died),
            others_served: others(&|probe| probe.came == Came::Served && gap(probe)),
            writes: acknowledged.map(|(written, there)| (written.at - died, !there)).collect(),
            probes,
            died,
        })
    }
}

/// A hash tag whose slot this master holds.
fn tag_on(map: &SlotMap, owner: &str) -> Result<String> {
    let tag = (0..100_000).map(|number| format!("t{number}")).find(|tag| map.owner(slot_of(tag)) == Some(owner));
    tag.ok_or_else(|| Error::new("find a key for every master", "none was found").at(owner))
}

/// Asks for one slot all the time, and writes down how each request went.
fn probe(options: &ClientOptions, tag: &str, start: Instant, over: &AtomicBool) -> Result<Vec<Probe>> {
    let mut client = options.connect()?;
    let request = Request::repeatable_write(["SET", &format!("{{{tag}}}:probe"), "1"]);
    let mut probes = Vec::new();
    while !over.load(Ordering::SeqCst) {
        let begun = start.elapsed().as_secs_f64();
        let down = client.detours().down;
        let came = match client.call(&request) {
            Ok(_) => Came::Served,
            Err(_) if client.detours().down > down => Came::Refused,
            Err(_) => Came::Nothing,
        };
        probes.push(Probe { start: begun, end: start.elapsed().as_secs_f64(), came });
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(probes)
}

/// Writes one key after the other, each of them once.
fn write(options: &ClientOptions, prefix: &str, start: Instant, over: &AtomicBool) -> Result<Vec<Written>> {
    let mut client = options.connect()?;
    let mut written = Vec::new();
    for number in 0.. {
        if over.load(Ordering::SeqCst) {
            break;
        }
        let key = format!("{prefix}:{number}");
        let how = match client.call(&Request::write(["SET", &key, &key])) {
            Ok(_) => How::Acknowledged,
            Err(Failure::Unknown(_)) => How::Unknown,
            Err(Failure::NotDone(_)) => continue,
        };
        written.push(Written { key, at: start.elapsed().as_secs_f64(), how });
    }
    Ok(written)
}

/// Writes batches, and counts as replicated what WAIT has vouched for. A WAIT that ran out of time vouches for nothing.
fn write_and_wait(
    options: &ClientOptions,
    prefix: &str,
    batch: usize,
    wait: Duration,
    start: Instant,
    over: &AtomicBool,
) -> Result<Vec<Written>> {
    let mut client = options.connect()?;
    let mut written = Vec::new();
    for number in 0.. {
        if over.load(Ordering::SeqCst) {
            break;
        }
        let keys: Vec<String> = (0..batch).map(|key| format!("{prefix}:{number}:{key}")).collect();
        let writes: Vec<Request> = keys.iter().map(|key| Request::write(["SET", key, key])).collect();
        let (answers, replicas) = client.write_and_wait(&writes, 1, wait);
        let at = start.elapsed().as_secs_f64();
        let refused = answers.iter().any(|answer| matches!(answer, Err(Failure::NotDone(_))));
        let known = keys.into_iter().zip(answers).filter_map(|(key, answer)| Some((key, fate(&answer, replicas)?)));
        written.extend(known.map(|(key, how)| Written { key, at, how }));
        // As many as one can look up again; the other writer is the one who fills the wire.
        std::thread::sleep(Duration::from_millis(if refused { 10 } else { 3 }));
    }
    Ok(written)
}

/// What a write before a WAIT has come to. One that was acknowledged, but that no replica vouches for (the WAIT ran out of time,
/// or the connection broke in it), says nothing about either arm.
fn fate(answer: &Result<Value, Failure>, replicas: u64) -> Option<How> {
    match answer {
        Ok(_) if replicas > 0 => Some(How::Replicated),
        Ok(_) | Err(Failure::NotDone(_)) => None,
        Err(Failure::Unknown(_)) => Some(How::Unknown),
    }
}

/// The longest time between two answers.
fn longest_silence(probes: &[Probe]) -> f64 {
    let answers: Vec<f64> = probes.iter().filter(|probe| probe.came == Came::Served).map(|probe| probe.end).collect();
    answers.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max)
}

impl Failover {
    /// Every death.
    pub fn deaths(&self) -> &[Died] {
        &self.deaths
    }

    /// The first death that went like this.
    pub fn first(&self, death: Death) -> &Died {
        let found = self.deaths.iter().find(|died| died.death == death);
        found.ok_or_else(|| Error::new("find a death", format!("{death:?} was not run"))).or_fail()
    }

    /// What was written and what is gone, a row for each death.
    pub fn writes(&self, title: &str) -> Table {
        Table::new(title)
            .numbers("wire", "ms", self.each(|died| died.death.delay.as_secs_f64() * 1e3))
            .counts("acknowledged", "", self.each(|died| died.acknowledged))
            .counts("gone", "", self.each(|died| died.lost))
            .counts("vouched for by WAIT", "", self.each(|died| died.replicated))
            .counts("gone of these", "", self.each(|died| died.replicated_lost))
            .counts("fate unknown", "", self.each(|died| died.unknown))
    }

    /// Who was not served, and for how long, a row for each death.
    pub fn service(&self, title: &str) -> Table {
        Table::new(title)
            .text("full coverage", self.each(|died| if died.death.full_coverage { "yes" } else { "no" }))
            .numbers("its slots unserved", "s", self.each(|died| died.silent.first().copied().unwrap_or(f64::NAN)))
            .numbers(
                "other slots unserved",
                "s",
                self.each(|died| died.silent.iter().skip(1).copied().fold(0.0, f64::max)),
            )
            .counts("requests for these refused", "", self.each(|died| died.others_refused))
            .counts("served meanwhile", "", self.each(|died| died.others_served))
    }

    fn each<T>(&self, of: impl Fn(&Died) -> T) -> Vec<T> {
        self.deaths.iter().map(of).collect()
    }

    /// Acknowledged writes that are gone, a sample for each death behind a delayed wire.
    pub fn lost_behind_the_wire(&self) -> Samples {
        self.deaths.iter().filter(|died| !died.death.delay.is_zero()).map(|died| died.lost as f64).collect()
    }

    /// Writes that WAIT had vouched for and that are gone, a sample for each death; no number where it vouched for none.
    pub fn vouched_for_and_lost(&self) -> Samples {
        let lost = |died: &Died| if died.replicated > 0 { died.replicated_lost as f64 } else { f64::NAN };
        self.deaths.iter().map(lost).collect()
    }

    /// Requests for the other masters' slots that were refused, a sample for each death with full coverage, or without.
    pub fn others_refused(&self, full_coverage: bool) -> Samples {
        let like_this = self.deaths.iter().filter(|died| died.death.full_coverage == full_coverage);
        like_this.map(|died| died.others_refused as f64).collect()
    }

    /// Requests for the other masters' slots that were served while the dead one's were not, a sample for each such death.
    pub fn others_served(&self, full_coverage: bool) -> Samples {
        let like_this = self.deaths.iter().filter(|died| died.death.full_coverage == full_coverage);
        like_this.map(|died| died.others_served as f64).collect()
    }
}

impl Died {
    /// Who was served when.
    pub fn timeline(&self, title: &str) -> Timeline {
        let mut chart = Chart::timeline(title).x("time after the kill", "s");
        for (number, probes) in self.probes.iter().enumerate() {
            let lane = if number == 0 { "its slots".to_owned() } else { format!("other master {number}") };
            for stretch in stretches(probes, self.died - 0.3) {
                let (start, end) = (stretch.start - self.died, stretch.end - self.died);
                chart = match stretch.came {
                    Came::Served => chart.span(&lane, start, end, "served"),
                    Came::Refused => chart.wait(&lane, start, end, "refused"),
                    Came::Nothing => chart.wait(&lane, start, end, "no answer"),
                };
            }
        }
        chart.event("its slots", 0.0, "kill -9")
    }

    /// What was acknowledged when, and is it still there?
    pub fn losses(&self, title: &str) -> Lines {
        const STEP: f64 = 0.025;
        let window = (4.0 * self.death.delay.as_secs_f64()).max(0.4);
        let steps = (window / STEP).ceil() as usize;
        let mut counts = vec![(0_u64, 0_u64); steps];
        for &(at, lost) in self.writes.iter().filter(|(at, _)| *at <= 0.0 && *at > -window) {
            let step = ((at + window) / STEP) as usize;
            if let Some(count) = counts.get_mut(step.min(steps - 1)) {
                if lost { count.1 += 1 } else { count.0 += 1 }
            }
        }
        let at = |step: usize| (step as f64 + 0.5) * STEP - window;
        let rate = |count: u64| count as f64 / STEP;
        Chart::lines(title)
            .x("acknowledged so long before the kill", "s")
            .y("acknowledged writes", "per second")
            .line("still there", counts.iter().enumerate().map(|(step, count)| (at(step), rate(count.0))))
            .line("lost", counts.iter().enumerate().map(|(step, count)| (at(step), rate(count.1))))
            .from_zero()
    }
}

/// Neighbouring probes that went alike, as one stretch of time.
fn stretches(probes: &[Probe], from: f64) -> Vec<Probe> {
    let mut stretches: Vec<Probe> = Vec::new();
    for probe in probes.iter().filter(|probe| probe.start >= from) {
        match stretches.last_mut() {
            Some(last) if last.came == probe.came => last.end = probe.end,
            _ => stretches.push(probe.clone()),
        }
    }
    stretches
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use lab::service;

    #[test]
    fn a_write_that_no_replica_vouches_for_is_not_counted_as_replicated() {
        let error = || Error::new("write", "broken");
        assert_eq!(fate(&Ok(Value::Okay), 1), Some(How::Replicated));
        assert_eq!(fate(&Ok(Value::Okay), 0), None);
        assert_eq!(fate(&Err(Failure::Unknown(error())), 1), Some(How::Unknown));
        assert_eq!(fate(&Err(Failure::NotDone(error())), 1), None);
    }

    /// A busy machine may keep a node from answering in time. That is no answer, and no refusal: only the cluster's word is.
    #[test]
    #[ignore = "starts Redis"]
    fn a_node_that_does_not_answer_in_time_has_refused_nothing() {
        let cluster = service::private_redis_cluster(3, 0);
        let moment = Duration::from_millis(40);
        let options = ClientOptions::of(&cluster).patience(moment).deadline(moment);
        let (start, over) = (Instant::now(), AtomicBool::new(false));
        let probes = std::thread::scope(|scope| {
            let probing = scope.spawn(|| probe(&options, "tag", start, &over));
            let node = cluster.master_for("{tag}:probe").unwrap();
            std::thread::sleep(Duration::from_millis(100));
            node.pause();
            std::thread::sleep(Duration::from_millis(300));
            node.resume();
            std::thread::sleep(Duration::from_millis(100));
            over.store(true, Ordering::SeqCst);
            probing.join().unwrap().unwrap()
        });
        let count = |came: Came| probes.iter().filter(|probe| probe.came == came).count();
        assert!(count(Came::Served) > 0 && count(Came::Nothing) > 0, "{probes:?}");
        assert_eq!(count(Came::Refused), 0, "{probes:?}");
    }

    #[test]
    fn the_longest_silence_is_between_two_answers() {
        use Came::{Refused, Served};
        let probe = |start: f64, end: f64, came: Came| Probe { start, end, came };
        let probes =
            [probe(0.0, 0.1, Served), probe(0.2, 0.3, Refused), probe(0.4, 1.1, Served), probe(1.2, 1.3, Served)];
        assert!((longest_silence(&probes) - 1.0).abs() < 1e-9);
        assert_eq!(stretches(&probes, 0.0).len(), 3);
        assert_eq!(longest_silence(&probes[..1]), 0.0);
    }
}

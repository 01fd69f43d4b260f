//! A master dies under load: for how long nobody serves its slots, and which acknowledged writes are gone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::Value;

use super::{answers, word_on};
use crate::{Client, ClientOptions, Failure, Request};
use lab::chart::{Chart, Timeline};
use lab::service::{Redis, RedisCluster};
use lab::{Call, Crowd, Error, Frame, Link, Progress, Result, Samples};

/// The load, and the deaths.
#[derive(Debug, Clone)]
pub struct FailoverSpec {
    /// How long the load runs before each death.
    pub load: Duration,
    /// How each master dies, one after the other.
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

/// What became of all deaths, which have numbers from 1.
#[derive(Debug, Clone)]
pub struct Failover {
    /// A row for each `death`: the delay of its `wire`, and whether there is `full coverage`. Writes that were `acknowledged` without
    /// WAIT, and those of them that are `gone`; writes that WAIT `vouched for`, and those of these that are (`vouched for and gone`, no
    /// number where it vouched for none); writes whose `fate` is `unknown`, because the connection broke before the answer. The longest
    /// time without an answer for its slots (`unserved`), and for those of any other master (`others unserved`). Requests for these that
    /// a node refused after the death, because the cluster was down (`others refused`), and those that were served while the dead one's
    /// were not (`others served`).
    pub deaths: Frame,
    /// A row for each request of those who ask for one slot all the time, after the `death` (`from` and `to`): whose `slots`, and what
    /// `came` of it.
    pub asked: Frame,
    /// A row for each acknowledged write without WAIT: how long after the `death` the answer came (`acknowledged`, less than 0 is
    /// before it), and what became of it (`write`: `still there` or `lost`).
    pub writes: Frame,
}

/// What came of a request: no answer is from a dead node, or in time from one that a busy machine did not let run.
const SERVED: &str = "served";
const REFUSED: &str = "refused";
const NOTHING: &str = "no answer";

/// What is known of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Acknowledged,
    Replicated,
    Unknown,
}

/// A client that asks for one slot all the time, or one that writes to the dead master's slots.
struct User {
    client: Client,
    task: Task,
    /// Its key, or what its keys begin with.
    key: String,
    /// The keys that it wrote, when each answer came (in seconds), and what is known of it.
    written: Vec<(String, f64, How)>,
}

#[derive(Clone, Copy)]
enum Task {
    /// Asks for a slot of the master with this number; 0 is the one that dies.
    Ask(usize),
    /// Writes one key after the other, each of them once.
    Write,
    /// Writes batches, and lets WAIT vouch for each.
    WriteAndWait,
}

impl FailoverSpec {
    /// Starts a cluster for every two deaths, and lets its masters die one after the other.
    pub fn run(&self) -> Result<Failover> {
        if self.batch == 0 || self.deaths.is_empty() {
            return Err(Error::new("let a master die", "it needs a death, and a batch of one write at least"));
        }
        let mut progress = Progress::new("masters dying", self.deaths.len() as u64);
        let numbered: Vec<(usize, &Death)> = (1..).zip(&self.deaths).collect();
        let mut died = <(Frame, Frame, Frame)>::default();
        // A master that has died has no replica left to take over from its heir, so two deaths are what a cluster is good for.
        for two in numbered.chunks(2) {
            let timeout = self.node_timeout.as_millis().to_string();
            let cluster = RedisCluster::of(3, 3).with("cluster-node-timeout", &timeout).start()?;
            let victims = two.iter().zip(cluster.masters()?).map(|(death, victim)| (death, victim, None));
            // Side by side, because it takes the news a second to get around.
            let linked = Crowd::holding(victims).run(|(_, victim, link), _| {
                *link = Some(cluster.replicate_through_link(victim)?);
                Ok(())
            })?;
            for ((number, death), victim, link) in &linked.states {
                let Some(link) = link else { continue };
                died.extend([self.kill(&cluster, victim, link, *number, **death)?]);
                progress.step();
            }
        }
        let (deaths, asked, writes) = died;
        Ok(Failover { deaths, asked, writes })
    }

    /// The death's row, and those of who asked and who wrote.
    fn kill(
        &self,
        cluster: &RedisCluster,
        victim: &Redis,
        link: &Link,
        number: usize,
        death: Death,
    ) -> Result<(Frame, Frame, Frame)> {
        let coverage = if death.full_coverage { "yes" } else { "no" };
        for node in cluster.nodes().iter().filter(|node| node.is_running()) {
            node.ask(&format!("CONFIG SET cluster-require-full-coverage {coverage}"))?;
        }
        link.delay(death.delay);
        let options = ClientOptions::of(cluster).deadline(Duration::from_millis(40));
        let users = users(&options, link.address(), number)?;
        let (wait, dead) = (6 * death.delay + Duration::from_secs(1), AtomicBool::new(false));
        let ran = Crowd::holding(users)
            .meanwhile(self.load, "killed", || {
                // With the process goes what its machine had not sent yet: a process alone would leave the kernel to deliver what
                // is in the socket.
                victim.try_kill()?;
                link.cut();
                dead.store(true, Ordering::SeqCst);
                Ok(())
            })
            .meanwhile(Duration::ZERO, "settled", || cluster.try_settle().map(drop))
            .lasting(Duration::from_millis(200))
            .run(|user, call| match user.task {
                // The heir has no replica that could vouch for anything.
                Task::WriteAndWait if dead.load(Ordering::SeqCst) => {
                    call.last();
                    Ok(())
                }
                _ => user.work(call, self.batch, wait),
            })?;
        let died = ran.event_began("killed");
        let asked = ran.frame.having("came").computed("from", "s", |call| call.number("at") - died);
        let asked = asked.computed("to", "s", |call| call.number("from") + call.number("took"));
        let asked = asked.select(["slots", "came", "from", "to"]);
        let written: Vec<(String, f64, How)> = ran.states.into_iter().flat_map(|user| user.written).collect();
        let mut client = ClientOptions::of(cluster).connect()?;
        let there = answers(&mut client, written.iter().map(|(key, ..)| Request::read(["GET", key])))?;
        let written = written.into_iter().zip(there).map(|((key, at, how), value)| {
            let gone = value != Value::BulkString(key.into_bytes());
            (how, at - died, gone)
        });
        let written: Vec<(How, f64, bool)> = written.collect();
        let of = |how: How| written.iter().filter(move |(known, ..)| *known == how);
        let gone = |how: How| of(how).filter(|(.., gone)| *gone).count();
        let vouched_for = of(How::Replicated).count();
        let deaths = Frame::new()
            .numbers("wire", "ms", [death.delay.as_secs_f64() * 1e3])
            .text("full coverage", [coverage])
            .counts("acknowledged", "", [of(How::Acknowledged).count() as u64])
            .counts("gone", "", [gone(How::Acknowledged) as u64])
            .counts("vouched for", "", [vouched_for as u64])
            .numbers(
                "vouched for and gone",
                "",
                [if vouched_for > 0 { gone(How::Replicated) as f64 } else { f64::NAN }],
            )
            .counts("fate unknown", "", [of(How::Unknown).count() as u64]);
        let writes = Frame::new()
            .numbers("acknowledged", "s", of(How::Acknowledged).map(|(_, at, _)| *at))
            .text("write", of(How::Acknowledged).map(|(.., gone)| if *gone { "lost" } else { "still there" }));
        let of_this = |frame: Frame| frame.everywhere("death", "", number);
        Ok((of_this(served(deaths, &asked)), of_this(asked), of_this(writes)))
    }
}

/// Whoever asks for one slot of each master, and whoever writes to those of the master that announces this address, which comes first.
fn users(options: &ClientOptions, victim: &str, number: usize) -> Result<Vec<User>> {
    let map = options.connect()?.map().clone();
    let mut owners = map.masters();
    owners.sort_by_key(|owner| *owner != victim);
    let tags = owners.into_iter().map(|owner| word_on(&map, owner)).collect::<Result<Vec<_>>>()?;
    let asking = tags.iter().enumerate().map(|(place, tag)| (Task::Ask(place), format!("{{{tag}}}:probe")));
    let writing = [(Task::Write, "plain"), (Task::WriteAndWait, "wait0"), (Task::WriteAndWait, "wait1")];
    let writing = writing.map(|(task, writer)| (task, format!("{{{}}}:{number}:{writer}", tags[0])));
    let user = |(task, key)| Ok(User { client: options.connect()?, task, key, written: Vec::new() });
    asking.chain(writing).map(user).collect()
}

/// What the dead master's slots are called.
const ITS: &str = "its slots";

impl User {
    fn work(&mut self, call: &mut Call, batch: usize, wait: Duration) -> Result<()> {
        let Self { client, task, key, written } = self;
        match *task {
            Task::Ask(place) => {
                call.tag("slots", if place == 0 { ITS.to_owned() } else { format!("other master {place}") });
                call.rest(Duration::from_millis(5));
                let down = client.detours().down;
                let came = match client.call(&Request::repeatable_write(["SET", key, "1"])) {
                    Ok(_) => SERVED,
                    Err(_) if client.detours().down > down => REFUSED,
                    Err(_) => NOTHING,
                };
                call.tag("came", came);
            }
            Task::Write => {
                let key = format!("{key}:{}", call.number());
                let how = match client.call(&Request::write(["SET", &key, &key])) {
                    Ok(_) => How::Acknowledged,
                    Err(Failure::Unknown(_)) => How::Unknown,
                    Err(Failure::NotDone(_)) => return Ok(()),
                };
                written.push((key, call.now(), how));
            }
            Task::WriteAndWait => {
                let keys: Vec<String> = (0..batch).map(|part| format!("{key}:{}:{part}", call.number())).collect();
                let writes: Vec<Request> = keys.iter().map(|key| Request::write(["SET", key, key])).collect();
                let (answers, replicas) = client.write_and_wait(&writes, 1, wait);
                let refused = answers.iter().any(|answer| matches!(answer, Err(Failure::NotDone(_))));
                let fates = answers.iter().map(|answer| fate(answer, replicas));
                written.extend(keys.into_iter().zip(fates).filter_map(|(key, how)| Some((key, call.now(), how?))));
                // As many as one can look up again; the other writer is the one who fills the wire.
                call.rest(Duration::from_millis(if refused { 10 } else { 3 }));
            }
        }
        Ok(())
    }
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

/// Beside a death, who was served, and how long not.
fn served(death: Frame, asked: &Frame) -> Frame {
    let (its, others) = (asked.filter("slots", ITS), asked.except("slots", ITS));
    let again = its.filter("came", SERVED).filter_by(|row| row.number("from") > 0.0).samples("to");
    let again = again.values().first().copied().unwrap_or(f64::INFINITY);
    let after = others.filter_by(|row| row.number("from") > 0.0);
    let meanwhile = after.filter("came", SERVED).filter_by(|row| row.number("to") < again);
    let unserved = others.distinct("slots").into_iter().map(|slots| longest_silence(&others.filter("slots", &slots)));
    death
        .numbers("unserved", "s", [longest_silence(&its)])
        .numbers("others unserved", "s", [unserved.collect::<Samples>().max()])
        .counts("others refused", "", [after.filter("came", REFUSED).height() as u64])
        .counts("others served", "", [meanwhile.height() as u64])
}

/// The longest time between two answers.
fn longest_silence(asked: &Frame) -> f64 {
    let answers = asked.filter("came", SERVED).samples("to");
    answers.values().windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max)
}

/// Neighbouring requests that went alike, as one stretch of time: from, to, and what came of them.
fn stretches(asked: &Frame, since: f64) -> Vec<(f64, f64, String)> {
    let mut stretches: Vec<(f64, f64, String)> = Vec::new();
    for row in asked.rows().filter(|row| row.number("from") >= since) {
        let (from, to, came) = (row.number("from"), row.number("to"), row.text("came"));
        match stretches.last_mut() {
            Some(last) if last.2 == came => last.1 = to,
            _ => stretches.push((from, to, came)),
        }
    }
    stretches
}

impl Failover {
    /// Who was served when, around the death of this number.
    pub fn timeline(&self, death: usize, title: &str) -> Timeline {
        let asked = self.asked.filter("death", death).sort("slots");
        let mut chart = Chart::timeline(title).x("time after the kill", "s");
        for slots in asked.distinct("slots") {
            for (from, to, came) in stretches(&asked.filter("slots", &slots), -0.3) {
                chart = match came.as_str() {
                    SERVED => chart.span(&slots, from, to, came),
                    _ => chart.wait(&slots, from, to, came),
                };
            }
        }
        chart.event(ITS, 0.0, "kill -9")
    }
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
        let client = ClientOptions::of(&cluster).patience(moment).deadline(moment).connect().unwrap();
        let (task, key, written) = (Task::Ask(0), "{tag}:probe".to_owned(), Vec::new());
        let node = cluster.master_for(&key).unwrap();
        let ran = Crowd::holding([User { client, task, key, written }])
            .meanwhile(Duration::from_millis(100), "paused", || node.try_pause())
            .meanwhile(Duration::from_millis(300), "resumed", || node.try_resume())
            .lasting(Duration::from_millis(100))
            .run(|user, call| user.work(call, 1, moment))
            .unwrap();
        let count = |came: &str| ran.frame.filter("came", came).height();
        assert!(count(SERVED) > 0 && count(NOTHING) > 0, "{:?}", ran.frame);
        assert_eq!(count(REFUSED), 0, "{:?}", ran.frame);
    }

    #[test]
    fn the_longest_silence_is_between_two_answers() {
        let asked = Frame::new()
            .numbers("from", "s", [0.0, 0.2, 0.4, 1.2])
            .numbers("to", "s", [0.1, 0.3, 1.1, 1.3])
            .text("came", [SERVED, REFUSED, SERVED, SERVED]);
        assert!((longest_silence(&asked) - 1.0).abs() < 1e-9);
        assert_eq!(stretches(&asked, 0.0).len(), 3);
        assert_eq!(longest_silence(&asked.head(1)), 0.0);
    }
}

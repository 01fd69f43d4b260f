//! A slot moves from one master to another while clients read and write its keys.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redis::Value;
use redis::cluster::ClusterClient;

use crate::{Client, ClientOptions, Detours, Failure, Flaw, Request, SlotMove, slot_of};
use lab::chart::{Chart, Lines};
use lab::service::{Redis, RedisCluster};
use lab::{Doing, Error, OrFail, Result, Rng, Table, joined};

/// The move, and the traffic during it.
#[derive(Debug, Clone, Copy)]
pub struct MoveSpec {
    /// Keys, all in the one slot of `{basket}`.
    pub keys: usize,
    /// Keys that are carried over in one step.
    pub batch: usize,
    /// How long the mover rests half-way; also how long traffic runs before and after.
    pub rest: Duration,
    /// How long a client tries before a request has failed.
    pub deadline: Duration,
}

/// What the clients saw of the move.
#[derive(Debug, Clone)]
pub struct Moved {
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that failed.
    pub failed: u64,
    /// What the first failure said; nothing where there was none.
    pub first_failure: String,
    /// Increments that were acknowledged.
    pub acknowledged: u64,
    /// Increments that were acknowledged and are not there, or are there without having been acknowledged.
    pub miscounted: u64,
    /// Keys that the mover carried over.
    pub carried: u64,
    /// Redirections, over all clients.
    pub detours: Detours,
    /// Reads by the `redis` crate's own cluster client during the move.
    pub crate_answered: u64,
    /// Those of them that failed.
    pub crate_failed: u64,
    /// The longest that an answered request took, in milliseconds.
    pub longest: f64,
    requests: Vec<Asked>,
    steps: Vec<(String, f64)>,
}

/// One request: when it ended, how long it took, and whether it was redirected.
#[derive(Debug, Clone, Copy)]
struct Asked {
    end: f64,
    took: f64,
    asked: bool,
    pair: bool,
}

/// What one client did.
#[derive(Default)]
struct Report {
    requests: Vec<Asked>,
    failed: u64,
    first_failure: Option<String>,
    unknown: u64,
    increments: Vec<u64>,
    detours: Detours,
}

/// What the mover did, and when.
struct Carried {
    keys: u64,
    steps: Vec<(String, f64)>,
}

const TAG: &str = "basket";

fn key(index: usize) -> String {
    format!("{{{TAG}}}:{index}")
}

impl MoveSpec {
    /// Moves the slot to the next master, under traffic of clients as they should be, or with a flaw.
    pub fn run(&self, cluster: &RedisCluster, flaw: Option<Flaw>, seed: u64) -> Moved {
        self.try_run(cluster, flaw, seed).or_fail()
    }

    /// As [`run`](Self::run).
    pub fn try_run(&self, cluster: &RedisCluster, flaw: Option<Flaw>, seed: u64) -> Result<Moved> {
        if self.keys < 2 || self.batch == 0 {
            return Err(Error::new(
                "move a slot under traffic",
                "it needs two keys at least, and a batch of one at least",
            ));
        }
        let mut options = ClientOptions::of(cluster).deadline(self.deadline);
        if let Some(flaw) = flaw {
            options = options.flawed(flaw);
        }
        let mut whole = ClientOptions::of(cluster).connect()?;
        let zeros: Vec<Request> =
            (0..self.keys).map(|index| Request::repeatable_write(["SET", &key(index), "0"])).collect();
        whole.call_many(&zeros).into_iter().collect::<Result<Vec<_>, _>>()?;
        let (start, over) = (Instant::now(), AtomicBool::new(false));
        let over = &over;
        let run = std::thread::scope(|scope| -> Result<(Vec<Report>, (u64, u64), Carried)> {
            let clients: Vec<_> = [Task::Increment, Task::Read, Task::ReadPairs]
                .into_iter()
                .map(|task| {
                    let (options, rng) = (options.clone(), Rng::seeded(seed, &format!("{task:?}")));
                    scope.spawn(move || traffic(&options, task, self.keys, rng, start, over))
                })
                .collect();
            let other = scope.spawn(move || traffic_of_the_crate(cluster, self.keys, flaw.is_some(), over));
            let moved = self.move_it(cluster, start);
            over.store(true, Ordering::SeqCst);
            let reports = clients.into_iter().map(|client| joined("use a moving slot", client.join()));
            let reports = reports.collect::<Result<Vec<_>>>()?;
            let other = joined("use a moving slot", other.join())?;
            Ok((reports, other, moved?))
        });
        let (reports, of_the_crate, carried) = run?;
        self.judge(whole, reports, of_the_crate, carried)
    }

    /// Carries the slot over, with a rest half-way; when each step was, and how many keys.
    fn move_it(&self, cluster: &RedisCluster, start: Instant) -> Result<Carried> {
        let mut steps: Vec<(String, f64)> = Vec::new();
        let mut note = |what: &str| steps.push((what.to_owned(), start.elapsed().as_secs_f64()));
        let masters = cluster.masters()?;
        let source = cluster.master_for(&key(0))?;
        let place = masters.iter().position(|master| master.name() == source.name()).unwrap_or(0);
        let target = masters[(place + 1) % masters.len()];
        std::thread::sleep(self.rest);
        note("on its way");
        let mut slot = SlotMove::begin(slot_of(key(0)), source, target)?;
        while slot.moved() < self.keys as u64 / 2 {
            slot.carry(self.batch)?;
        }
        note("half is over");
        std::thread::sleep(self.rest);
        note("goes on");
        while slot.carry(self.batch)? > 0 {}
        let carried = slot.moved();
        let others: Vec<&Redis> =
            masters.into_iter().filter(|node| node.name() != source.name() && node.name() != target.name()).collect();
        slot.finish(&others)?;
        note("new owner");
        std::thread::sleep(self.rest);
        Ok(Carried { keys: carried, steps })
    }

    fn judge(
        &self,
        mut whole: Client,
        reports: Vec<Report>,
        (crate_answered, crate_failed): (u64, u64),
        carried: Carried,
    ) -> Result<Moved> {
        let reads: Vec<Request> = (0..self.keys).map(|index| Request::read(["GET", &key(index)])).collect();
        let held = whole.call_many(&reads).into_iter().collect::<Result<Vec<_>, _>>()?;
        let (mut miscounted, mut acknowledged) = (0, 0);
        for (index, held) in held.iter().enumerate() {
            let held: u64 = match held {
                Value::BulkString(digits) => String::from_utf8_lossy(digits).parse().unwrap_or(0),
                _ => 0,
            };
            let expected: u64 = reports.iter().filter_map(|report| report.increments.get(index)).sum();
            acknowledged += expected;
            miscounted += held.abs_diff(expected);
        }
        // What is unknown may be there or not.
        let unknown: u64 = reports.iter().map(|report| report.unknown).sum();
        let mut detours = Detours::default();
        reports.iter().for_each(|report| detours += report.detours);
        let first_failure = reports.iter().find_map(|report| report.first_failure.clone()).unwrap_or_default();
        let failed = reports.iter().map(|report| report.failed).sum();
        let mut requests: Vec<Asked> = reports.into_iter().flat_map(|report| report.requests).collect();
        requests.sort_by(|a, b| a.end.total_cmp(&b.end));
        Ok(Moved {
            answered: requests.len() as u64,
            failed,
            first_failure,
            acknowledged,
            miscounted: miscounted.saturating_sub(unknown),
            carried: carried.keys,
            detours,
            crate_answered,
            crate_failed,
            longest: requests.iter().map(|request| request.took).fold(0.0, f64::max) * 1e3,
            requests,
            steps: carried.steps,
        })
    }
}

/// What one of the clients does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Increment,
    Read,
    /// Two keys in one command.
    ReadPairs,
}

/// Does one task, as fast as one client can, until it is over.
fn traffic(
    options: &ClientOptions,
    task: Task,
    keys: usize,
    mut rng: Rng,
    start: Instant,
    over: &AtomicBool,
) -> Result<Report> {
    let mut client = options.connect()?;
    let mut report = Report { increments: vec![0; keys], ..Report::default() };
    while !over.load(Ordering::SeqCst) {
        let (index, other) = (rng.below(keys as u64) as usize, rng.below(keys as u64) as usize);
        let request = match task {
            Task::Increment => Request::write(["INCR", &key(index)]),
            Task::Read => Request::read(["GET", &key(index)]),
            Task::ReadPairs => Request::read(["MGET", &key(index), &key(other)]),
        };
        let writing = task == Task::Increment;
        let (before, sent) = (client.detours(), Instant::now());
        let answer = client.call(&request);
        let after = client.detours();
        match answer {
            Ok(_) => {
                report.increments[index] += u64::from(writing);
                report.requests.push(Asked {
                    end: start.elapsed().as_secs_f64(),
                    took: sent.elapsed().as_secs_f64(),
                    asked: after.asked > before.asked,
                    pair: task == Task::ReadPairs,
                });
            }
            Err(failure) => {
                report.failed += 1;
                report.unknown += u64::from(writing && matches!(failure, Failure::Unknown(_)));
                report.first_failure.get_or_insert_with(|| Error::from(failure).cause().to_owned());
            }
        }
    }
    report.detours = client.detours();
    Ok(report)
}

/// Reads by the crate's client: answered, and failed.
fn traffic_of_the_crate(cluster: &RedisCluster, keys: usize, idle: bool, over: &AtomicBool) -> Result<(u64, u64)> {
    let operation = "read with the redis crate's cluster client";
    if idle {
        return Ok((0, 0));
    }
    let mut connection =
        ClusterClient::new(cluster.urls()).and_then(|client| client.get_connection()).doing(operation)?;
    let (mut answered, mut failed, mut index) = (0, 0, 0);
    while !over.load(Ordering::SeqCst) {
        index = (index + 7) % keys;
        match redis::cmd("GET").arg(key(index)).query::<Option<u64>>(&mut connection) {
            Ok(Some(_)) => answered += 1,
            Ok(None) | Err(_) => failed += 1,
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok((answered, failed))
}

impl Moved {
    /// What share of the requests for one key went by ASK, over time.
    pub fn chart(&self, title: &str) -> Lines {
        const STEP: f64 = 0.02;
        let steps = self.requests.last().map_or(0, |last| (last.end / STEP) as usize + 1);
        let mut counts = vec![(0_u64, 0_u64); steps];
        for request in self.requests.iter().filter(|request| !request.pair) {
            let count = &mut counts[(request.end / STEP) as usize];
            count.0 += 1;
            count.1 += u64::from(request.asked);
        }
        let share = counts.iter().enumerate().filter(|(_, count)| count.0 > 0);
        let share = share.map(|(step, count)| ((step as f64 + 0.5) * STEP, 100.0 * count.1 as f64 / count.0 as f64));
        let at = |what: &str| self.steps.iter().find(|(name, _)| name == what).map_or(f64::NAN, |(_, at)| *at);
        let chart = Chart::lines(title)
            .x("time", "s")
            .y("requests for one key that went by ASK", "%")
            .line("measured", share.collect::<Vec<(f64, f64)>>())
            .predicted_points("half of the keys", [(at("half is over"), 50.0), (at("goes on"), 50.0)])
            .y_range(0, 100);
        self.steps.iter().fold(chart, |chart, (what, at)| chart.mark_x(what, *at))
    }

    /// What the clients saw, in a row of its own for each of these moves.
    pub fn table(title: &str, moves: &[(&str, &Self)]) -> Table {
        let counts = |of: fn(&Self) -> u64| moves.iter().map(|(_, moved)| of(moved)).collect::<Vec<u64>>();
        Table::new(title)
            .text("client", moves.iter().map(|(name, _)| *name))
            .counts("answered", "", counts(|moved| moved.answered))
            .counts("failed", "", counts(|moved| moved.failed))
            .counts("ASK", "", counts(|moved| moved.detours.asked))
            .counts("TRYAGAIN", "", counts(|moved| moved.detours.tried_again))
            .counts("MOVED", "", counts(|moved| moved.detours.moved))
            .numbers("longest request", "ms", moves.iter().map(|(_, moved)| moved.longest))
    }
}

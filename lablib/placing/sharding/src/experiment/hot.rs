//! A hot shard: what each instance serves when users are not equally popular, before and after the hot slots have moved.

use std::collections::BTreeMap;

use super::{instances, users};
use crate::{Client, Cluster, Mover, MoverSpec, Slot};
use lab::chart::{Bars, Chart};
use lab::service::{Counters, MariaDb};
use lab::{OrFail, Progress, Result, Rng, Weighted};

/// A load of reads.
#[derive(Debug, Clone, Copy)]
pub struct HotSpec {
    /// Users.
    pub users: u64,
    /// Reads of one measurement.
    pub reads: u64,
    /// Slots.
    pub slots: Slot,
    /// The seed.
    pub seed: u64,
}

/// What each instance's own counters say it did.
#[derive(Debug, Clone, Default)]
pub struct Shares {
    /// Statements by instance.
    pub statements: BTreeMap<String, f64>,
    /// Seconds of work by instance.
    pub busy: BTreeMap<String, f64>,
}

impl Shares {
    /// Each instance's share of the statements.
    pub fn chart(&self, title: &str) -> Bars {
        let chart = Chart::bars(title).y("statements", "%").vertical().y_range(0.0, 50.0).size(440, 340);
        let level = 100.0 / self.statements.len().max(1) as f64;
        self.by_statements()
            .into_iter()
            .fold(chart, |chart, (name, share)| chart.bar(name, share))
            .mark_y("level", level)
    }

    /// The share of all statements that the busiest instance served, in per cent.
    pub fn busiest(&self) -> f64 {
        largest_share(&self.statements)
    }

    /// The share of all busy time that one instance had, in per cent.
    pub fn busiest_by_time(&self) -> f64 {
        largest_share(&self.busy)
    }

    /// The instances' shares of the statements, in per cent, in the order of their names.
    pub fn by_statements(&self) -> Vec<(String, f64)> {
        shares(&self.statements)
    }

    /// The instances' shares of the busy time, in per cent, in the order of their names.
    pub fn by_time(&self) -> Vec<(String, f64)> {
        shares(&self.busy)
    }
}

fn shares(of: &BTreeMap<String, f64>) -> Vec<(String, f64)> {
    let all: f64 = of.values().sum();
    of.iter().map(|(name, value)| (name.clone(), 100.0 * value / all)).collect()
}

fn largest_share(of: &BTreeMap<String, f64>) -> f64 {
    shares(of).into_iter().map(|(_, share)| share).fold(0.0, f64::max)
}

/// Who is read how often: users in the order of their popularity.
struct Popularity {
    ranks: Weighted,
    order: Vec<u64>,
}

impl Popularity {
    fn of(users: u64, ranks: Weighted, seed: u64) -> Self {
        let mut order: Vec<u64> = (0..users).collect();
        Rng::seeded(seed, "popularity").shuffle(&mut order);
        Self { ranks, order }
    }

    /// The n-th most popular user is read in proportion to 1 / n^exponent.
    fn zipf(users: u64, exponent: f64, seed: u64) -> Result<Self> {
        Ok(Self::of(users, Weighted::zipf(users as usize, exponent)?, seed))
    }

    /// One user gets this share (0 to 1) of all reads, the others share the rest evenly.
    fn one_hot(users: u64, share: f64, seed: u64) -> Result<Self> {
        let rest = (1.0 - share) / (users.max(2) - 1) as f64;
        let ranks = Weighted::of((0..users).map(|rank| if rank == 0 { share } else { rest }))?;
        Ok(Self::of(users, ranks, seed))
    }

    fn draw(&self, rng: &mut Rng) -> u64 {
        self.order[self.ranks.draw(rng)]
    }
}

/// Before and after levelling.
#[derive(Debug, Clone)]
pub struct Levelled {
    /// With the slots shared out evenly.
    pub before: Shares,
    /// With the hottest slots moved.
    pub after: Shares,
    /// Slots that moved.
    pub moved: u64,
    /// The hottest slot's share of all reads, in per cent.
    pub hottest_slot: f64,
}

/// Reads by zipf's law: what each instance served with slots shared out evenly, what it served after the hot slots had
/// moved, and how many slots moved. The two samples of reads differ.
pub fn zipf_shares(servers: &[MariaDb], spec: HotSpec, exponent: f64) -> Levelled {
    let run = || level(servers, spec, &Popularity::zipf(spec.users, exponent, spec.seed)?);
    run().or_fail()
}

/// The busiest instance's share, in per cent, for each share (in per cent) of one hot user: with slots shared out evenly,
/// and after levelling.
pub fn hot_user_shares(servers: &[MariaDb], spec: HotSpec, shares: &[f64]) -> Vec<(f64, f64, f64)> {
    let mut progress = Progress::new("heating one user", shares.len() as u64);
    let mut run = || -> Result<Vec<(f64, f64, f64)>> {
        let cluster = loaded(servers, spec)?;
        let mut rng = Rng::seeded(spec.seed, "hot reads");
        let of = |share: f64| Popularity::one_hot(spec.users, share / 100.0, spec.seed);
        // First all of them with the slots as they were shared out; then the slots move, from one heat to the next.
        let mut even = Vec::new();
        for &share in shares {
            even.push(read(&cluster, servers, spec, &of(share)?, &mut rng)?);
        }
        let mut points = Vec::new();
        for (&share, (before, loads)) in shares.iter().zip(even) {
            rebalance(&cluster, &loads)?;
            let (after, _) = read(&cluster, servers, spec, &of(share)?, &mut rng)?;
            points.push((share, before.busiest(), after.busiest()));
            progress.step();
        }
        Ok(points)
    };
    run().or_fail()
}

fn loaded(servers: &[MariaDb], spec: HotSpec) -> Result<Cluster> {
    let cluster = Cluster::create(servers, servers.len(), spec.slots)?;
    cluster.load(&users(spec.users, spec.seed))?;
    Ok(cluster)
}

/// Moves the hottest slots away from the busiest instances; returns how many slots moved.
fn rebalance(cluster: &Cluster, loads: &[f64]) -> Result<u64> {
    let transfers = cluster.map()?.plan_by_load(loads, &instances(cluster.names().len()))?;
    Mover::new(cluster, MoverSpec { batch: 64, ..MoverSpec::default() })?.carry_out(&transfers)?;
    Ok(transfers.len() as u64)
}

fn level(servers: &[MariaDb], spec: HotSpec, popularity: &Popularity) -> Result<Levelled> {
    let cluster = loaded(servers, spec)?;
    let mut rng = Rng::seeded(spec.seed, "hot reads");
    let (before, loads) = read(&cluster, servers, spec, popularity, &mut rng)?;
    let moved = rebalance(&cluster, &loads)?;
    let (after, _) = read(&cluster, servers, spec, popularity, &mut rng)?;
    let hottest = loads.iter().copied().fold(0.0, f64::max);
    Ok(Levelled { before, after, moved, hottest_slot: 100.0 * hottest / spec.reads as f64 })
}

/// Reads users as popular as that; what each instance did, by its own counters, and the reads of each slot.
fn read(
    cluster: &Cluster,
    servers: &[MariaDb],
    spec: HotSpec,
    popularity: &Popularity,
    rng: &mut Rng,
) -> Result<(Shares, Vec<f64>)> {
    let mut client = Client::new(cluster)?;
    // Connections are made, statements prepared: what follows is reads and nothing else.
    for id in 0..spec.users.min(300) {
        client.get(id)?;
    }
    let before = counters(cluster, servers)?;
    let mut loads = vec![0.0; spec.slots.into()];
    for _ in 0..spec.reads {
        let id = popularity.draw(rng);
        loads[usize::from(cluster.slot_of(id))] += 1.0;
        client.get(id)?;
    }
    let after = counters(cluster, servers)?;
    let mut shares = Shares::default();
    for ((name, [statements, busy]), (_, [old_statements, old_busy])) in after.into_iter().zip(before) {
        shares.statements.insert(name.clone(), statements - old_statements);
        shares.busy.insert(name, busy - old_busy);
    }
    Ok((shares, loads))
}

/// Statements answered and seconds spent, by instance, as the servers count them.
fn counters(cluster: &Cluster, servers: &[MariaDb]) -> Result<Vec<(String, [f64; 2])>> {
    let one = |name: &&str, server: &MariaDb| -> Result<(String, [f64; 2])> {
        server.try_execute("SET GLOBAL userstat = ON")?;
        let counted = Counters::of_server(server)?;
        Ok(((*name).to_string(), [counted.get("Com_stmt_execute")?, counted.get("Busy_time")?]))
    };
    cluster.names().iter().zip(servers).map(|(name, server)| one(name, server)).collect()
}

//! What happens to keys when shards come and go, grow hot, or die.

#![allow(missing_docs, reason = "a field is documented where its name leaves something open")]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use statrs::distribution::{ContinuousCDF, DiscreteCDF, NegativeBinomial, Normal, Poisson};
use statrs::function::factorial::ln_binomial;

use crate::prototype::RingByPosition;
use crate::replicas::{Client, Store};
use crate::rivals::{AnyPlacement, Rival, each};
use crate::{BoundedLoads, Jump, Ketama, KeyHash, Maglev, Modulo, Node, Placement, Rendezvous, Ring};
use lab::service::Redis;
use lab::{Call, Crowd, Figures, Frame, Progress, Result, Rng, Samples, Trial};

/// `key-0`, `key-1`, …: the prototype's keys.
pub fn keys(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("key-{index}")).collect()
}

/// `shard-0`, `shard-1`, …: the prototype's shards.
pub fn shards(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("shard-{index}")).collect()
}

/// The placements under comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scheme {
    /// `hash(key) mod n`.
    Modulo,
    /// The ring, with so many virtual nodes for each shard.
    Ring(u32),
    /// The ring by XXH3 instead of MD5.
    FastRing(u32),
    /// The ring with one step broken: a shard's points are named after its place in the list, not after the shard.
    RingByPosition(u32),
    /// memcached's ring.
    Ketama,
    /// Highest random weight.
    Rendezvous,
    Jump,
    Maglev,
    /// A ring of 100 virtual nodes whose nodes hold no more than (1 + this) times their share.
    Bounded(f64),
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Modulo => f.write_str("modulo"),
            Self::Ring(points) => write!(f, "ring, {points} points"),
            Self::FastRing(points) => write!(f, "ring by XXH3, {points} points"),
            Self::RingByPosition(_) => f.write_str("ring by position"),
            Self::Ketama => f.write_str("ketama"),
            Self::Rendezvous => f.write_str("rendezvous"),
            Self::Jump => f.write_str("jump"),
            Self::Maglev => f.write_str("maglev"),
            Self::Bounded(slack) => write!(f, "bounded loads, {slack}"),
        }
    }
}

impl Scheme {
    /// How many points a node has, where it has some.
    pub fn points(self) -> Option<u32> {
        match self {
            Self::Ring(points) | Self::FastRing(points) | Self::RingByPosition(points) => Some(points),
            _ => None,
        }
    }

    /// This placement over these nodes.
    pub fn place<T: Into<Node> + Clone>(self, nodes: &[T]) -> Result<Box<dyn Placement>> {
        let nodes = nodes.iter().cloned().map(Into::<Node>::into);
        Ok(match self {
            Self::Modulo => Box::new(Modulo::new(nodes)?),
            Self::Ring(virtual_nodes) => Box::new(Ring::new(nodes, virtual_nodes)?),
            Self::FastRing(virtual_nodes) => Box::new(Ring::hashed(KeyHash::Xxh3, nodes, virtual_nodes)?),
            Self::RingByPosition(virtual_nodes) => Box::new(RingByPosition::new(nodes, virtual_nodes)?),
            Self::Ketama => Box::new(Ketama::new(nodes)?),
            Self::Rendezvous => Box::new(Rendezvous::new(nodes)?),
            Self::Jump => Box::new(Jump::new(nodes)?),
            Self::Maglev => Box::new(Maglev::new(nodes)?),
            Self::Bounded(slack) => Box::new(bounded(nodes, slack)?),
        })
    }

    /// This placement over each of these sets of nodes, one after the other.
    ///
    /// Built anew each time, because a placement depends on the set of its nodes alone; except jump, whose list remembers how it
    /// came about, and maglev, whose table keeps its size.
    fn through(self, sets: [&[String]; 3]) -> Result<Vec<Box<dyn Placement>>> {
        match self {
            Self::Jump => jump_through(sets),
            Self::Maglev => {
                let entries = Maglev::entries_for(sets[0].len());
                let table = |set: &[String]| -> Result<Box<dyn Placement>> {
                    Ok(Box::new(Maglev::with_entries(set, entries)?))
                };
                sets.into_iter().map(table).collect()
            }
            _ => sets.into_iter().map(|set| self.place(set)).collect(),
        }
    }
}

fn bounded<T: Into<Node>>(nodes: impl IntoIterator<Item = T>, slack: f64) -> Result<BoundedLoads> {
    BoundedLoads::new(Ring::hashed(KeyHash::Xxh3, nodes, 100)?, slack)
}

fn jump_through(sets: [&[String]; 3]) -> Result<Vec<Box<dyn Placement>>> {
    let mut jump = Jump::new(sets[0])?;
    let mut steps: Vec<Box<dyn Placement>> = vec![Box::new(jump.clone())];
    for pair in sets.windows(2) {
        let (before, after): (HashSet<_>, HashSet<_>) = (pair[0].iter().collect(), pair[1].iter().collect());
        pair[0].iter().filter(|node| !after.contains(node)).try_for_each(|node| jump.remove(node))?;
        pair[1].iter().filter(|node| !before.contains(node)).try_for_each(|node| jump.add(node.into()))?;
        steps.push(Box::new(jump.clone()));
    }
    Ok(steps)
}

// What moves when nodes leave and join.

/// The difference that a change of nodes made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Movement {
    /// Keys looked at.
    pub keys: u64,
    /// Keys that have another node than before.
    pub moved: u64,
    /// Keys that moved although their old node is still there and their new one was there before: moved for nothing.
    pub strays: u64,
}

impl Movement {
    /// Compares two placements, key by key.
    pub fn between(before: &dyn Placement, after: &dyn Placement, keys: &[String]) -> Self {
        let (old, new): (HashSet<&str>, HashSet<&str>) =
            (before.nodes().into_iter().collect(), after.nodes().into_iter().collect());
        let mut movement = Self { keys: keys.len() as u64, moved: 0, strays: 0 };
        for key in keys {
            let (from, to) = (before.node_of(key), after.node_of(key));
            movement.moved += u64::from(from != to);
            movement.strays += u64::from(from != to && new.contains(from) && old.contains(to));
        }
        movement
    }

    /// Per cent of the keys that moved.
    pub fn percent(&self) -> f64 {
        self.moved as f64 * 100.0 / self.keys as f64
    }
}

/// Shards that leave, then as many that join, again and again.
#[derive(Debug, Clone, Copy)]
pub struct ChurnSpec {
    pub shards: usize,
    /// Shards that leave, and that join afterwards.
    pub changed: usize,
    pub keys: usize,
    /// Repetitions, each with shards and keys of other names.
    pub seeds: u64,
}

/// Takes random shards away and adds as many new ones, with random names for shards and keys in every round, the same for all schemes:
/// fixed names would repeat one draw of the ring, not sample it. Figures: the keys that moved when shards `left` and when others
/// `joined` (%), and those of them that moved for nothing (`left for nothing`, `joined for nothing`).
pub fn churn(schemes: &[Scheme], spec: &ChurnSpec, seed: u64) -> Result<Trial<Scheme>> {
    Trial::over(schemes.iter().copied(), spec.seeds as usize).titled("moving keys").run(|scheme, _, figures| {
        // The first round that counts has the seed itself.
        let mut rng = Rng::seeded(seed.wrapping_add(figures.round() as u64).wrapping_sub(1), "churn");
        let name = rng.word(8);
        let all: Vec<String> = (0..spec.shards + spec.changed).map(|index| format!("{name}-{index}")).collect();
        let keys: Vec<String> = (0..spec.keys).map(|index| format!("{name}-key-{index}")).collect();
        let (old, new) = all.split_at(spec.shards);
        let leaving: BTreeSet<String> = rng.pick(old, spec.changed).into_iter().collect();
        let staying: Vec<String> = old.iter().filter(|shard| !leaving.contains(*shard)).cloned().collect();
        let grown = [&staying[..], new].concat();
        let steps = scheme.through([old, &staying, &grown])?;
        for (change, pair) in ["left", "joined"].into_iter().zip(steps.windows(2)) {
            let movement = Movement::between(pair[0].as_ref(), pair[1].as_ref(), &keys);
            figures.push(change, "%", movement.percent());
            figures.push(&format!("{change} for nothing"), "keys", movement.strays as f64);
        }
        Ok(())
    })
}

/// Per cent of the keys that moved when the prototype's own fifty shards joined: `shard-1000` to `shard-1049`, after a random
/// fifty of `shard-0` to `shard-999` had left. One sample per seed, and always the same fifty names.
pub fn joined_with_fixed_names(virtual_nodes: u32, seeds: u64, seed: u64) -> Result<Samples> {
    let (old, all, keys) = (shards(1_000), shards(1_050), keys(10_000));
    let run = |repetition| {
        let mut rng = Rng::seeded(seed.wrapping_add(repetition), "fixed names");
        let leaving: BTreeSet<String> = rng.pick(&old, 50).into_iter().collect();
        let stay = |nodes: &[String]| Ring::new(nodes.iter().filter(|node| !leaving.contains(*node)), virtual_nodes);
        Ok(Movement::between(&stay(&old)?, &stay(&all)?, &keys).percent())
    };
    (0..seeds).map(run).collect()
}

/// The share of draws of the ring, in theory, in which no more than `percent` of the keys move when `changed` of `shards`
/// join: their arcs vary as [`predicted_spread`] says, and a sum of many is nearly normal.
pub fn predicted_share_below(percent: f64, spec: &ChurnSpec, virtual_nodes: f64) -> f64 {
    let mean = 100.0 * spec.changed as f64 / spec.shards as f64;
    let keys_per_shard = spec.keys as f64 / spec.shards as f64;
    let deviation = mean * predicted_spread(virtual_nodes, keys_per_shard) / (spec.changed as f64).sqrt();
    Normal::new(mean, deviation).map_or(f64::NAN, |moved| moved.cdf(percent))
}

/// The share of keys, in per cent, that modulo moves when the *last* nodes leave: all but those whose remainders agree,
/// which are `min` in every `lcm`.
pub fn modulo_moves_at_best(from: u64, to: u64) -> f64 {
    100.0 * (1.0 - from.min(to) as f64 / least_common_multiple(from, to) as f64)
}

/// The share of keys, in per cent, that modulo moves when *any* `leaving` of `nodes` leave.
///
/// A hash h was on the node in place a = h mod n and is on the one in place b = h mod (n - k): the same node only if it
/// stayed, and exactly a - b of those that left stood before it.
pub fn modulo_moves(nodes: u64, leaving: u64) -> f64 {
    let left = nodes.saturating_sub(leaving).max(1);
    let period = least_common_multiple(nodes, left);
    let stays = |hash: u64| {
        let (before, after) = (hash % nodes, hash % left);
        let gone_before = before.checked_sub(after)?;
        let gone_behind = leaving.checked_sub(gone_before)?;
        let choices = ln_binomial(before, gone_before) + ln_binomial(nodes - 1 - before, gone_behind);
        Some((choices - ln_binomial(nodes, leaving)).exp())
    };
    100.0 * (1.0 - (0..period).filter_map(stays).sum::<f64>() / period as f64)
}

fn least_common_multiple(a: u64, b: u64) -> u64 {
    let (a, b) = (a.max(1), b.max(1));
    let (mut divisor, mut rest) = (a, b);
    while rest != 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    a / divisor * b
}

// How level a placement is.

/// How many of the keys each node holds, in the order of their names.
pub fn keys_on_each(placement: &dyn Placement, keys: &[String]) -> Samples {
    let mut counts: HashMap<&str, u64> = placement.nodes().into_iter().map(|node| (node, 0)).collect();
    keys.iter().for_each(|key| *counts.entry(placement.node_of(key)).or_default() += 1);
    let in_order: BTreeMap<&str, u64> = counts.into_iter().collect();
    in_order.into_values().map(|count| count as f64).collect()
}

/// The same where keys are placed one by one, and nodes hold no more than (1 + `slack`) times their share.
pub fn keys_on_bounded(nodes: &[String], slack: f64, keys: &[String]) -> Result<Samples> {
    let mut placement = bounded(nodes, slack)?;
    for key in keys {
        placement.take(key);
    }
    Ok(placement.loads().map(|(_, load)| load as f64).collect())
}

/// Nodes that hold nothing.
pub fn empty(counts: &Samples) -> usize {
    counts.values().iter().filter(|count| **count == 0.0).count()
}

/// The standard deviation over the mean; all nodes are the population, not a sample of it.
pub fn spread(counts: &Samples) -> f64 {
    let mean = counts.mean();
    counts.map(|count| (count - mean).powi(2)).mean().sqrt() / mean
}

/// How level these placements are over several numbers of nodes, with so many keys for each node. A row for each seed, which has names of
/// its own for nodes and keys: placement, `points` of a node where it has some, nodes, `fullest ÷ mean`, `deviation ÷ mean`, and `empty`
/// nodes.
pub fn level(schemes: &[Scheme], node_counts: &[usize], keys_per_node: usize, seeds: u64, seed: u64) -> Result<Frame> {
    let mut progress = Progress::new("filling nodes", (schemes.len() * node_counts.len()) as u64 * seeds);
    let mut rows: Vec<(Scheme, usize, Samples)> = Vec::new();
    for (scheme, nodes) in schemes.iter().flat_map(|scheme| node_counts.iter().map(move |nodes| (*scheme, *nodes))) {
        for repetition in 0..seeds {
            let name = Rng::seeded(seed.wrapping_add(repetition), "evenness").word(8);
            let names: Vec<String> = (0..nodes).map(|index| format!("{name}-{index}")).collect();
            let keys: Vec<String> = (0..nodes * keys_per_node).map(|index| format!("{name}-key-{index}")).collect();
            let counts = match scheme {
                Scheme::Bounded(slack) => keys_on_bounded(&names, slack, &keys)?,
                _ => keys_on_each(scheme.place(&names)?.as_ref(), &keys),
            };
            rows.push((scheme, nodes, counts));
            progress.step();
        }
    }
    Ok(Frame::new()
        .text("placement", rows.iter().map(|row| row.0))
        .numbers_or_missing("points", "", rows.iter().map(|row| row.0.points().map(f64::from)))
        .counts("nodes", "", rows.iter().map(|row| row.1 as u64))
        .numbers("fullest ÷ mean", "×", rows.iter().map(|row| row.2.max_over_mean()))
        .numbers("deviation ÷ mean", "", rows.iter().map(|row| spread(&row.2)))
        .counts("empty", "", rows.iter().map(|row| empty(&row.2) as u64)))
}

/// What theory says of the deviation over the mean: the arcs of a shard with `v` points vary by 1/√v, and the keys that fall on an average
/// shard by 1/√mean; the variances add.
pub fn predicted_spread(virtual_nodes: f64, keys_per_shard: f64) -> f64 {
    (1.0 / virtual_nodes + 1.0 / keys_per_shard).sqrt()
}

/// The largest difference, in per cent, between the deviations of rings by their points, on average, and what is predicted.
pub fn largest_error(rings: &Frame, keys_per_shard: f64) -> f64 {
    let means = rings.group(["points"]).mean("deviation ÷ mean");
    let predicted = means.computed("predicted", "", |row| predicted_spread(row.number("points"), keys_per_shard));
    predicted.samples("deviation ÷ mean").over(&predicted.samples("predicted")).map(|of| 100.0 * (of - 1.0).abs()).max()
}

/// The fullest of `nodes` nodes over the mean, in theory, with so many keys for each node.
///
/// Where every node has the same share, its keys are a Poisson number. On a ring of `points` points a node, its share itself
/// varies, as a gamma number of that order, and its keys are a negative binomial one. Either way the fullest of n is the number
/// that all n stay below.
pub fn predicted_fullest(nodes: usize, keys_per_node: f64, points: Option<u32>) -> f64 {
    let no_more = |keys: u64| match points.map(f64::from) {
        None => Poisson::new(keys_per_node).map_or(f64::NAN, |of_a_node| of_a_node.cdf(keys)),
        Some(order) => NegativeBinomial::new(order, order / (order + keys_per_node))
            .map_or(f64::NAN, |of_a_node| of_a_node.cdf(keys)),
    };
    let somebody_has_more = |keys: u64| (keys, 1.0 - no_more(keys).powi(nodes as i32));
    let likely = |(keys, chance): &(u64, f64)| *keys as f64 <= keys_per_node || *chance > 1e-9;
    let expected: f64 = (0..).map(somebody_has_more).take_while(likely).map(|(_, chance)| chance).sum();
    expected / keys_per_node
}

// What a lookup costs, beside the field's crates; what a placement keeps; what a change costs.

/// Different keys in one turn, so that the caches hold a placement only as far as it fits.
const KEYS: usize = 4_000;

/// These placements over each number of nodes, a trial for each of these (`nodes` is a column of its own): in every turn all find the
/// same keys. Figures: the time of a `lookup` (ns).
pub fn lookups(schemes: &[Scheme], node_counts: &[usize], rounds: usize) -> Result<Vec<Trial<Scheme>>> {
    let keys = keys(KEYS);
    let mut progress = Progress::new("looking keys up", node_counts.len() as u64);
    let over = |&nodes: &usize| {
        let names = shards(nodes);
        let trial = Trial::over(schemes.iter().copied(), rounds)
            .column("nodes", move |_| nodes)
            .open(|scheme| scheme.place(&names))
            .run(|_, placement, figures| {
                timed(figures, &keys, |keys| each(keys, |key| placement.node_of(key)));
                Ok(())
            })?;
        progress.step();
        Ok(trial)
    };
    node_counts.iter().map(over).collect()
}

/// Ours beside crates of the field, at the same number of nodes and points. Figures: the time of a `lookup` (ns), and the `fullest ÷ mean`
/// of the nodes with 200 keys for each.
pub fn field(rivals: &[Rival], nodes: usize, rounds: usize) -> Result<Trial<Rival>> {
    let (keys, many) = (keys(KEYS), keys(nodes * 200));
    Trial::over(rivals.iter().copied(), rounds)
        .open(|rival| {
            let placement = AnyPlacement::new(*rival, nodes)?;
            let mut counts = vec![0.0; nodes];
            many.iter().for_each(|key| counts[placement.number_of(key)] += 1.0);
            Ok((placement, Samples::from(counts).max_over_mean()))
        })
        .run(|_, (placement, fullest), figures| {
            timed(figures, &keys, |keys| placement.find_all(keys));
            figures.push("fullest ÷ mean", "×", *fullest);
            Ok(())
        })
}

fn timed(figures: &mut Figures, keys: &[String], find_all: impl Fn(&[String])) {
    const PASSES: u32 = 3;
    let pass = |_| {
        let clock = Instant::now();
        find_all(keys);
        clock.elapsed()
    };
    // The fastest: a pass is shorter than a turn on a core, and what another takes longer is somebody else's turn.
    let fastest = (0..PASSES).map(pass).min().unwrap_or_default();
    figures.push("lookup", "ns", fastest.as_secs_f64() * 1e9 / keys.len() as f64);
    figures.work("keys", u64::from(PASSES) * keys.len() as u64);
}

/// A node leaves and comes back, in placements of so many nodes that take turns. Figures: what is `kept` for lookups (bytes a node), and
/// the time of `a change` (µs).
pub fn changes(schemes: &[Scheme], nodes: usize, rounds: usize) -> Result<Trial<Scheme>> {
    let names = shards(nodes);
    Trial::over(schemes.iter().copied(), rounds).open(|scheme| scheme.place(&names)).run(|_, placement, figures| {
        figures.push("kept", "bytes a node", placement.bytes() as f64 / nodes as f64);
        let victim = &names[figures.round() * 7 % nodes];
        let clock = Instant::now();
        placement.remove(victim)?;
        placement.add(victim.into())?;
        figures.push("a change", "µs", clock.elapsed().as_secs_f64() * 1e6 / 2.0);
        Ok(())
    })
}

// One key that everybody wants.

/// Traffic with one hot key: so many requests in flight at any time, the oldest ends when a new one comes.
#[derive(Debug, Clone, Copy)]
pub struct HotKey {
    pub nodes: usize,
    /// The share of all requests that are for the hot key.
    pub hot: f64,
    pub in_flight: usize,
    pub requests: usize,
}

/// Sends the same requests through each placement. A row for each: placement, its `slack ε` where it has one; per cent of all requests that
/// the `busiest` node served, and that were served `away` from their key's own node, where caches are cold; and requests that were given to
/// a node `beyond` (1+ε) times its share of those in flight: broken promises.
pub fn hot_key(schemes: &[Scheme], spec: &HotKey, seed: u64) -> Result<Frame> {
    schemes.iter().map(|scheme| serve(*scheme, spec, seed)).collect()
}

fn serve(scheme: Scheme, spec: &HotKey, seed: u64) -> Result<Frame> {
    let names = shards(spec.nodes);
    let slack = if let Scheme::Bounded(slack) = scheme { Some(slack) } else { None };
    let (fixed, mut balancer) = (scheme.place(&names)?, slack.map(|slack| bounded(&names, slack)).transpose()?);
    let cold = keys(10_000);
    let mut rng = Rng::seeded(seed, "hot key");
    let mut served: HashMap<String, u64> = HashMap::new();
    let mut running: VecDeque<String> = VecDeque::with_capacity(spec.in_flight);
    let (mut away, mut beyond) = (0, 0);
    for _ in 0..spec.requests {
        if running.len() == spec.in_flight
            && let (Some(done), Some(balancer)) = (running.pop_front(), &mut balancer)
        {
            balancer.give_back(&done)?;
        }
        let hot = rng.unit() < spec.hot;
        let key = if hot { "the hot key" } else { &cold[rng.below(cold.len() as u64) as usize] };
        let node = match (&mut balancer, slack) {
            (Some(balancer), Some(slack)) => {
                let node = balancer.take(key).to_string();
                // Counted here and not by the balancer's own rule.
                let loads: Vec<(&str, u64)> = balancer.loads().collect();
                let held: u64 = loads.iter().map(|(_, load)| load).sum();
                let bound = ((1.0 + slack) * held as f64 / loads.len() as f64 - 1e-9).ceil() as u64;
                beyond += u64::from(loads.iter().any(|(name, load)| *name == node && *load > bound));
                away += u64::from(balancer.home_of(key) != node);
                node
            }
            _ => fixed.node_of(key).to_string(),
        };
        *served.entry(node.clone()).or_default() += 1;
        running.push_back(node);
    }
    let per_cent = |count: u64| [count as f64 * 100.0 / spec.requests as f64];
    Ok(Frame::new()
        .text("placement", [scheme])
        .numbers_or_missing("slack ε", "", [slack])
        .numbers("busiest", "%", per_cent(served.into_values().max().unwrap_or(0)))
        .numbers("away", "%", per_cent(away))
        .counts("beyond", "", [beyond]))
}

// A node that dies in the middle of the traffic, on real Redis servers.

/// A death: so many Redis servers, and traffic.
#[derive(Debug, Clone, Copy)]
pub struct DeathSpec {
    pub nodes: usize,
    /// Nodes that hold each key.
    pub copies: usize,
    /// Keys written before the traffic begins.
    pub keys: usize,
    /// Operations of the traffic: half of them read a key that was acknowledged, half write a new one. A node is killed after a
    /// third of them and taken off the ring after two thirds.
    pub operations: u64,
}

const CLIENTS: u64 = 2;
const POINTS: u32 = 64;
const WINDOWS: u64 = 50;

impl DeathSpec {
    fn name(index: usize) -> String {
        format!("node-{index}")
    }

    fn victim(&self, seed: u64) -> usize {
        Rng::seeded(seed, "victim").below(self.nodes as u64) as usize
    }

    /// Per cent of the circle that belongs to the node that will be killed: its arcs, measured without a key or a server.
    pub fn at_stake(&self, seed: u64) -> Result<f64> {
        let victim = Self::name(self.victim(seed));
        let ring = Ring::new((0..self.nodes).map(Self::name), POINTS)?;
        let arcs = ring.arcs().into_iter().filter(|(_, _, node)| *node == victim);
        Ok(100.0 * arcs.map(|(from, to, _)| to - from).sum::<f64>())
    }

    /// Starts the servers, runs the traffic, kills a node with SIGKILL in its middle. What became of the keys, in one row:
    ///
    /// - keys whose write was `acknowledged`, those of them `before the kill`, and of these the `lost of before`, which nobody can find at
    ///   the end; all that are `lost`; those whose fate is `unexplained` by the ring: lost although another node than the dead one had
    ///   acknowledged them, or found although none had; and those that are `short` of copies at the end;
    /// - reads that `failed`, or did not find what was acknowledged, and writes that were `refused`: nothing is lost with them;
    /// - keys that were `lacking` a copy at the repair, for it died with the node or could not be written any more, and copies that the
    ///   repair made (`copied`).
    ///
    /// And a row for each read: `operations` that began before it, in steps of a fiftieth of all, and whether it was `answered` rightly (%).
    /// Both say how many `copies` there are.
    pub fn run(&self, seed: u64) -> Result<(Frame, Frame)> {
        let start = |index| Redis::with("appendonly", "no").named(&Self::name(index)).start();
        let servers = (0..self.nodes).map(start).collect::<Result<Vec<Redis>>>()?;
        let store = Store::new(&servers, self.copies, POINTS)?;
        let mut loader = store.client();
        let loaded: Vec<Written> =
            (0..self.keys).map(|index| Written::put(&mut loader, format!("before-{index}"))).collect::<Result<_>>()?;
        let victim = &servers[self.victim(seed)];
        let mut copied = 0;
        let ran = Crowd::of(CLIENTS as usize)
            .with(|number| {
                let mut rng = Rng::seeded(seed, &format!("worker {number}"));
                let name = rng.word(8);
                Ok(Worker { client: store.client(), rng, name, old: &loaded, new: Vec::new() })
            })
            .times(self.operations.div_ceil(CLIENTS))
            .within(Duration::from_secs(300))
            .once(self.operations / 3, "kill -9", || victim.try_kill())
            .once(self.operations * 2 / 3, "off the ring", || {
                copied = store.remove(victim.name())?.copied;
                Ok(())
            })
            .run(Worker::work)?;
        let killed = ran.event_began("kill -9");
        let mut reader = store.client();
        let mut fates: Vec<[bool; 6]> = Vec::new();
        for Written { key, holders, at } in loaded.iter().chain(ran.states.iter().flat_map(|worker| &worker.new)) {
            // A key may still be acknowledged by the node between the word that it will be killed and its death.
            let before = *at < killed;
            let lost = reader.get(key)?.is_none_or(|value| value != value_of(key));
            let alone = holders.iter().all(|node| node == victim.name());
            let short = reader.copies_of(key)? < self.copies;
            let lacking = holders.len() < self.copies || holders.iter().any(|node| node == victim.name());
            fates.push([before, before && lost, lost, lost != alone, short, lacking]);
        }
        let calls = |what: &str| [ran.frame.filter("what", what).height() as u64];
        let copies = format!("{} of each key", self.copies);
        let row = Frame::new()
            .text("copies", [&copies])
            .counts("acknowledged", "", [fates.len() as u64])
            .counts("failed", "", calls("read in vain"))
            .counts("refused", "", calls("write refused"))
            .counts("copied", "", [copied]);
        let names = ["before the kill", "lost of before", "lost", "unexplained", "short", "lacking"];
        let row = names.into_iter().enumerate().fold(row, |row, (place, name)| {
            row.counts(name, "", [fates.iter().filter(|fate| fate[place]).count() as u64])
        });
        let window = |number: u64| (number * WINDOWS / self.operations) as f64 + 0.5;
        let at = (0..ran.frame.height() as u64).map(|number| window(number) * self.operations as f64 / WINDOWS as f64);
        let reads = ran.frame.select(["what"]).numbers("operations", "", at);
        let reads = reads.filter_by(|call| call.text("what").starts_with("read")).everywhere("copies", "", copies);
        Ok((row, reads.computed("answered", "%", |call| if call.text("what") == "read" { 100.0 } else { 0.0 })))
    }
}

fn value_of(key: &str) -> String {
    format!("value of {key}")
}

/// An acknowledged key, the nodes that had it then, and when that was, in seconds since the traffic began.
struct Written {
    key: String,
    holders: Vec<String>,
    at: f64,
}

impl Written {
    /// Before the traffic, if nothing else is said.
    fn put(client: &mut Client, key: String) -> Result<Self> {
        client.put(&key, &value_of(&key)).map(|holders| Self { key, holders, at: f64::NEG_INFINITY })
    }
}

/// A client of the traffic, with the keys that were there before and those that it has written.
struct Worker<'a> {
    client: Client,
    rng: Rng,
    name: String,
    old: &'a [Written],
    new: Vec<Written>,
}

impl Worker<'_> {
    /// Reads a key that was acknowledged, or writes a new one.
    fn work(&mut self, call: &mut Call) -> Result<()> {
        if self.rng.below(2) == 0 {
            match Written::put(&mut self.client, format!("{}-{}", self.name, call.number())) {
                Ok(written) => {
                    call.tag("what", "write");
                    self.new.push(Written { at: call.now(), ..written });
                }
                Err(_) => call.tag("what", "write refused"),
            }
            return Ok(());
        }
        let index = self.rng.below((self.old.len() + self.new.len()) as u64) as usize;
        let Written { key, .. } = self.old.get(index).unwrap_or_else(|| &self.new[index - self.old.len()]);
        let right = matches!(self.client.get(key), Ok(Some(value)) if value == value_of(key));
        call.tag("what", if right { "read" } else { "read in vain" });
        Ok(())
    }
}

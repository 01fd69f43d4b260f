//! What a lookup costs, beside the field's crates; what a placement keeps; what a change costs.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Instant;

use super::{Balance, Scheme, keys, shards};
use crate::{Jump, KeyHash, Placement, Rendezvous, Ring};
use lab::{OrFail, Progress, Race, Raced, Samples};

/// Different keys in one round of a race, so that the caches hold the placement only as far as it fits.
const KEYS: usize = 4_000;

/// Lookup times of several placements over several numbers of nodes.
#[derive(Debug, Clone)]
pub struct Lookups {
    races: Vec<(usize, Raced)>,
}

impl Lookups {
    /// Races these placements over each number of nodes: in every round each of them finds the same keys.
    pub fn race(schemes: &[Scheme], node_counts: &[usize], rounds: usize) -> Self {
        let keys = keys(KEYS);
        let mut progress = Progress::new("looking keys up", node_counts.len() as u64);
        let mut at = |&nodes: &usize| {
            let names = shards(nodes);
            let placements: Vec<(Scheme, Box<dyn Placement>)> =
                schemes.iter().map(|scheme| (*scheme, scheme.place(&names).or_fail())).collect();
            let race = placements.iter().fold(Race::of(rounds), |race, (scheme, placement)| {
                race.arm(&scheme.name(), || find_all(&keys, |key| placement.node_of(key)))
            });
            let raced = race.run();
            progress.step();
            (nodes, raced)
        };
        Self { races: node_counts.iter().map(&mut at).collect() }
    }

    /// Nanoseconds a lookup under `scheme`, for each number of nodes.
    pub fn of(&self, scheme: Scheme) -> Vec<(usize, Samples)> {
        self.races.iter().map(|(nodes, raced)| (*nodes, raced.nanoseconds_each(&scheme.name()))).collect()
    }

    /// How many times as long `slower` takes as `faster` over the most nodes, round by round.
    pub fn ratio(&self, slower: Scheme, faster: Scheme) -> Samples {
        self.races.last().map(|(_, raced)| raced.ratio(&slower.name(), &faster.name())).unwrap_or_default()
    }
}

fn find_all<'a, T>(keys: &'a [String], mut find: impl FnMut(&'a str) -> T) -> u64 {
    for key in keys {
        black_box(find(black_box(key)));
    }
    keys.len() as u64
}

/// Ours beside the crates of the field, at the same number of nodes and points, with how level each one is.
#[derive(Debug, Clone)]
pub struct Rivals {
    /// The race.
    pub raced: Raced,
    /// The fullest node's keys over the mean, for each arm.
    pub fullest: Vec<(String, f64)>,
}

/// One arm of [`Rivals`].
#[derive(Debug, Clone)]
pub struct Arm {
    /// Ours, or the crate.
    pub name: String,
    /// Nanoseconds a lookup.
    pub nanoseconds: Samples,
    /// The fullest node's keys over the mean.
    pub fullest: f64,
}

impl Rivals {
    /// Rings of `nodes` nodes with 160 points each: ours, `hashring` and `pingora-ketama`.
    pub fn rings(nodes: usize, rounds: usize) -> Self {
        const POINTS: u32 = 160;
        let (names, keys) = (shards(nodes), keys(KEYS));
        let ours = Ring::hashed(KeyHash::Xxh3, &names, POINTS).or_fail();
        let mut theirs = hashring::HashRing::new();
        theirs.batch_add((0..nodes as u32).flat_map(|node| (0..POINTS).map(move |point| (node, point))).collect());
        let address = |node: usize| SocketAddr::from(([10, 0, (node >> 8) as u8, node as u8], 11_211));
        let buckets: Vec<_> = (0..nodes).map(|node| pingora_ketama::Bucket::new(address(node), 1)).collect();
        let pingora = pingora_ketama::Continuum::new(&buckets);
        let raced = Race::of(rounds)
            .arm("our ring", || find_all(&keys, |key| ours.node_of(key)))
            .arm("hashring", || find_all(&keys, |key| theirs.get(&key).map(|(node, _)| *node)))
            .arm("pingora-ketama", || find_all(&keys, |key| pingora.node(key.as_bytes())))
            .run();
        let many = super::keys(nodes * 200);
        let fullest = vec![
            ("our ring".to_string(), Balance::of(&ours, &many).imbalance()),
            (
                "hashring".to_string(),
                imbalance(nodes, &many, |key| theirs.get(&key).map_or(0, |(node, _)| *node as usize)),
            ),
            ("pingora-ketama".to_string(), {
                let index = |address: SocketAddr| match address.ip() {
                    std::net::IpAddr::V4(ip) => usize::from(ip.octets()[2]) << 8 | usize::from(ip.octets()[3]),
                    std::net::IpAddr::V6(_) => 0,
                };
                imbalance(nodes, &many, |key| pingora.node(key.as_bytes()).map_or(0, index))
            }),
        ];
        Self { raced, fullest }
    }

    /// Highest random weight over `nodes` nodes: ours and `rendezvous_hash`.
    pub fn rendezvous(nodes: usize, rounds: usize) -> Self {
        let (names, keys) = (shards(nodes), keys(KEYS / 10));
        let ours = Rendezvous::new(&names).or_fail();
        let mut theirs = rendezvous_hash::RendezvousNodes::default();
        for name in &names {
            theirs.insert(name.as_str());
        }
        let raced = Race::of(rounds)
            .arm("our rendezvous", || find_all(&keys, |key| ours.node_of(key)))
            .arm("rendezvous_hash", || find_all(&keys, |key| theirs.calc_candidates(&key).next().copied()))
            .run();
        let many = super::keys(nodes * 200);
        let place =
            |key: &str| theirs.calc_candidates(&key).next().and_then(|node| node[6..].parse().ok()).unwrap_or(0);
        let fullest = vec![
            ("our rendezvous".to_string(), Balance::of(&ours, &many).imbalance()),
            ("rendezvous_hash".to_string(), imbalance(nodes, &many, place)),
        ];
        Self { raced, fullest }
    }

    /// Jump hashing over `nodes` buckets: ours and `jumphash`.
    pub fn jump(nodes: usize, rounds: usize) -> Self {
        let (names, keys) = (shards(nodes), keys(KEYS));
        let ours = Jump::new(&names).or_fail();
        let theirs = jumphash::JumpHasher::new();
        let raced = Race::of(rounds)
            .arm("our jump", || find_all(&keys, |key| ours.node_of(key)))
            .arm("jumphash", || find_all(&keys, |key| names.get(theirs.slot(&key, nodes as u32) as usize)))
            .run();
        let many = super::keys(nodes * 200);
        let fullest = vec![
            ("our jump".to_string(), Balance::of(&ours, &many).imbalance()),
            ("jumphash".to_string(), imbalance(nodes, &many, |key| theirs.slot(&key, nodes as u32) as usize)),
        ];
        Self { raced, fullest }
    }

    /// All arms of these races, in order.
    pub fn arms(races: &[Self]) -> Vec<Arm> {
        let arm = |race: &Self, name: &String, fullest: f64| Arm {
            name: name.clone(),
            nanoseconds: race.raced.nanoseconds_each(name),
            fullest,
        };
        races
            .iter()
            .flat_map(|race| race.fullest.iter().map(move |(name, fullest)| arm(race, name, *fullest)))
            .collect()
    }

    /// Our time over that of the best rival, round by round: 1 or less is no slower.
    pub fn ours_to_best(&self) -> Samples {
        let names = self.raced.names();
        let best =
            names[1..].iter().min_by(|a, b| self.raced.seconds(a).median().total_cmp(&self.raced.seconds(b).median()));
        best.map(|best| self.raced.ratio(names[0], best)).unwrap_or_default()
    }
}

fn imbalance(nodes: usize, keys: &[String], place: impl Fn(&str) -> usize) -> f64 {
    let mut counts = vec![0_u64; nodes];
    keys.iter().for_each(|key| counts[place(key)] += 1);
    counts.into_iter().map(|count| count as f64).collect::<Samples>().max_over_mean()
}

/// What a placement keeps for each node, and what a change costs.
#[derive(Debug, Clone)]
pub struct Change {
    /// The placement.
    pub scheme: Scheme,
    /// Bytes that lookups read, for each node.
    pub bytes_per_node: f64,
    /// Microseconds for one node to leave or join.
    pub microseconds: Samples,
}

impl Change {
    /// Lets a node leave and come back, so many times, in placements of so many nodes that take turns.
    pub fn measure(schemes: &[Scheme], nodes: usize, rounds: usize) -> Vec<Self> {
        let names = shards(nodes);
        let start = |scheme: &Scheme| {
            let placement = scheme.place(&names).or_fail();
            let bytes_per_node = placement.bytes() as f64 / nodes as f64;
            (placement, Self { scheme: *scheme, bytes_per_node, microseconds: Samples::default() })
        };
        let mut arms: Vec<_> = schemes.iter().map(start).collect();
        for round in 0..rounds {
            let victim = &names[round * 7 % nodes];
            for (placement, change) in &mut arms {
                let clock = Instant::now();
                placement.remove(victim).or_fail();
                placement.add(victim.into()).or_fail();
                change.microseconds.push(clock.elapsed().as_secs_f64() * 1e6 / 2.0);
            }
        }
        arms.into_iter().map(|(_, change)| change).collect()
    }
}

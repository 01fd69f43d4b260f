//! One key that everybody wants.

use std::collections::{HashMap, VecDeque};

use super::{Scheme, keys, shards};
use crate::{BoundedLoads, KeyHash, Placement, Ring};
use lab::{OrFail, Rng};

/// Traffic with one hot key: so many requests in flight at any time, the oldest ends when a new one comes.
#[derive(Debug, Clone, Copy)]
pub struct HotKey {
    /// Nodes.
    pub nodes: usize,
    /// The share of all requests that are for the hot key.
    pub hot: f64,
    /// Requests in flight.
    pub in_flight: usize,
    /// Requests in all.
    pub requests: usize,
}

/// What the hot key did.
#[derive(Debug, Clone, Copy)]
pub struct Overflow {
    /// Per cent of all requests that the busiest node served.
    pub busiest: f64,
    /// Per cent of all requests that were served by another node than the key's own: cold caches.
    pub away: f64,
    /// Requests that were given to a node beyond (1+ε) times its share of those in flight: broken promises.
    pub beyond: u64,
}

impl HotKey {
    /// Sends the same requests through `scheme`.
    pub fn run(&self, scheme: Scheme, seed: u64) -> Overflow {
        let names = shards(self.nodes);
        let mut router = match scheme {
            Scheme::Bounded(slack) => {
                let ring = Ring::hashed(KeyHash::Xxh3, &names, 100).or_fail();
                Router::Bounded(BoundedLoads::new(ring, slack).or_fail(), slack)
            }
            _ => Router::Fixed(scheme.place(&names).or_fail()),
        };
        let cold = keys(10_000);
        let mut rng = Rng::seeded(seed, "hot key");
        let mut served: HashMap<String, u64> = HashMap::new();
        let mut running: VecDeque<String> = VecDeque::with_capacity(self.in_flight);
        let (mut away, mut beyond) = (0, 0);
        for _ in 0..self.requests {
            if running.len() == self.in_flight
                && let Some(done) = running.pop_front()
            {
                router.end(&done);
            }
            let hot = rng.unit() < self.hot;
            let key = if hot { "the hot key" } else { &cold[rng.below(cold.len() as u64) as usize] };
            let (node, at_home, within) = router.begin(key);
            away += u64::from(!at_home);
            beyond += u64::from(!within);
            *served.entry(node.clone()).or_default() += 1;
            running.push_back(node);
        }
        let per_cent = |count: u64| count as f64 * 100.0 / self.requests as f64;
        Overflow { busiest: per_cent(served.values().copied().max().unwrap_or(0)), away: per_cent(away), beyond }
    }
}

enum Router {
    Fixed(Box<dyn Placement>),
    Bounded(BoundedLoads, f64),
}

impl Router {
    /// The node, whether it is the key's own, and whether its load is within the bound.
    fn begin(&mut self, key: &str) -> (String, bool, bool) {
        match self {
            Self::Fixed(placement) => (placement.node_of(key).to_string(), true, true),
            Self::Bounded(balancer, slack) => {
                let node = balancer.take(key).to_string();
                // Counted here and not by the balancer's own rule.
                let loads: Vec<(&str, u64)> = balancer.loads().collect();
                let held: u64 = loads.iter().map(|(_, load)| load).sum();
                let bound = ((1.0 + *slack) * held as f64 / loads.len() as f64 - 1e-9).ceil() as u64;
                let load = loads.iter().find(|(name, _)| *name == node).map_or(0, |(_, load)| *load);
                (node.clone(), balancer.home_of(key) == node, load <= bound)
            }
        }
    }

    fn end(&mut self, node: &str) {
        if let Self::Bounded(balancer, _) = self {
            balancer.give_back(node).or_fail();
        }
    }
}

//! One key that everybody wants.

use std::collections::{HashMap, VecDeque};

use super::{Scheme, keys, shards};
use crate::{BoundedLoads, KeyHash, Placement, Ring};
use lab::{Frame, Result, Rng};

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

/// Sends the same requests through each placement. A row for each: placement, its `slack ε` where it has one; per cent of all requests that
/// the `busiest` node served, and that were served `away` from their key's own node, where caches are cold; and requests that were given to
/// a node `beyond` (1+ε) times its share of those in flight: broken promises.
pub fn hot_key(schemes: &[Scheme], spec: &HotKey, seed: u64) -> Result<Frame> {
    schemes.iter().map(|scheme| serve(*scheme, spec, seed)).collect()
}

fn serve(scheme: Scheme, spec: &HotKey, seed: u64) -> Result<Frame> {
    let names = shards(spec.nodes);
    let slack = if let Scheme::Bounded(slack) = scheme { Some(slack) } else { None };
    let mut router = match slack {
        Some(slack) => Router::Bounded(BoundedLoads::new(Ring::hashed(KeyHash::Xxh3, &names, 100)?, slack)?, slack),
        None => Router::Fixed(scheme.place(&names)?),
    };
    let cold = keys(10_000);
    let mut rng = Rng::seeded(seed, "hot key");
    let mut served: HashMap<String, u64> = HashMap::new();
    let mut running: VecDeque<String> = VecDeque::with_capacity(spec.in_flight);
    let (mut away, mut beyond) = (0, 0);
    for _ in 0..spec.requests {
        if running.len() == spec.in_flight
            && let (Some(done), Router::Bounded(balancer, _)) = (running.pop_front(), &mut router)
        {
            balancer.give_back(&done)?;
        }
        let hot = rng.unit() < spec.hot;
        let key = if hot { "the hot key" } else { &cold[rng.below(cold.len() as u64) as usize] };
        let (node, at_home, within) = router.begin(key);
        away += u64::from(!at_home);
        beyond += u64::from(!within);
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
}

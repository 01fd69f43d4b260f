//! What the notebook does with the shards: the prototype's id 0, growth, a live re-shard with its checks and its faults,
//! a killed mover, lists with a deadline, pages, and a hot shard.

mod faults;
mod hot;
mod killed;
mod lists;
mod live;
mod price;
mod traffic;

pub use faults::{Fault, Faulty, fault_chart, fault_table, faults, faulty};
pub use hot::{HotSpec, Levelled, Shares, hot_user_shares, zipf_shares};
pub use killed::{Killed, killed};
pub use lists::{DeadlineSpec, Deadlines, Pages, deadlines, pages};
pub use live::{Live, LiveSpec, live};
pub use price::{BatchCost, FenceCost, batch_chart, batch_costs, fence_cost};
pub use traffic::{Checked, Ran, TrafficSpec};

use super::route::{Modulo, Parity, SlotMap, Weight, moved_share};
use super::seed::{Listed, Prototype};
use super::{Cluster, Slot, User};
use consistent_hashing::experiment::modulo_moves_at_best;
use lab::service::MariaDb;
use lab::{OrFail, Result, Rng};

/// A cluster on all of these servers, whose first `owners` own all slots.
pub fn cluster(servers: &[MariaDb], owners: usize, slots: Slot) -> Cluster {
    Cluster::create(servers, owners, slots).or_fail()
}

/// The names of the first `count` instances: A, B, C and so on.
pub fn instances(count: usize) -> Vec<Weight> {
    Weight::equal((b'A'..=b'Z').take(count).map(|letter| char::from(letter).to_string()))
}

/// Users with random names and scores.
pub fn users(count: u64, seed: u64) -> Vec<User> {
    let mut rng = Rng::seeded(seed, "users");
    (0..count).map(|id| User::new(id, format!("user-{id}-{}", rng.word(6)), rng.below(1_000_000) as i64)).collect()
}

/// What the prototype does with users 1 to 8, then a user 0, then a user 9: its whole list.
pub fn id_zero(servers: &[MariaDb]) -> Vec<Listed> {
    let run = || -> Result<Vec<Listed>> {
        let mut prototype = Prototype::on(servers)?;
        (1..=8).try_for_each(|id| prototype.create(id, &format!("user {id}")))?;
        prototype.create(0, "user 0")?;
        prototype.create(9, "user 9")?;
        prototype.list()
    };
    run().or_fail()
}

/// The share of `users` users, in per cent, that each of a route's shards holds when ids step by `step`.
pub fn parity_shares(users: u64, step: u64) -> Vec<f64> {
    shares_of(&Parity, users, step)
}

/// As [`parity_shares`], for slots over so many instances.
pub fn slot_shares(users: u64, step: u64, slots: Slot, count: usize) -> Vec<f64> {
    let instances = instances(count);
    shares_of(&SlotMap::level(slots, &instances).or_fail().route(&instances), users, step)
}

fn shares_of(route: &impl super::Route, users: u64, step: u64) -> Vec<f64> {
    let counts = route.count((0..users).map(|user| user * step));
    counts.into_iter().map(|count| 100.0 * count as f64 / users as f64).collect()
}

/// Per cent of the users that move when the instances grow: by modulo, and by slots.
pub fn growth(users: u64, slots: Slot, from: usize, to: usize) -> (f64, f64) {
    let run = || -> Result<(f64, f64)> {
        let modulo = moved_share(&Modulo::new(from)?, &Modulo::new(to)?, 0..users);
        let (few, many) = (instances(from), instances(to));
        let map = SlotMap::level(slots, &few)?;
        let grown = map.after(&map.plan(&many)?);
        Ok((modulo, moved_share(&map.route(&many), &grown.route(&many), 0..users)))
    };
    run().or_fail()
}

/// What arithmetic says of [`growth`]: `id mod n` and `id mod m` agree for the smaller of both in every least common
/// multiple; slots move to the new instances, and nowhere else.
pub fn predicted_growth(from: u64, to: u64) -> (f64, f64) {
    (modulo_moves_at_best(from, to), 100.0 * (1.0 - from as f64 / to as f64))
}

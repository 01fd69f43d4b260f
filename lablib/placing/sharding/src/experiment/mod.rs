//! What the notebook does with the shards: the prototype's id 0, growth, a live re-shard with its checks, steps left out, a killed
//! mover, lists with a deadline, pages, and a hot shard.

#![allow(missing_docs, reason = "a field is documented where its name leaves something open")]

mod hot;
mod killed;
mod left_out;
mod lists;
mod live;
mod price;
mod traffic;

pub use hot::{HotSpec, hot, one_hot};
pub use killed::{Killed, killed};
pub use left_out::{LEFT_OUT, LeftOut, left_out};
pub use lists::{DeadlineSpec, deadlines, pages};
pub use live::{live, one_move};
pub use price::{batch_cost, fence_cost};
pub use traffic::{Checked, Ran, TrafficSpec};

use super::prototype::Prototype;
use super::{Moved, Slot, SlotMap, User, Weight};
use consistent_hashing::experiment::modulo_moves_at_best;
use lab::service::MariaDb;
use lab::{Frame, Result, Rng};

/// The names of the first `count` instances: A, B, C and so on.
pub fn instances(count: usize) -> Vec<Weight> {
    Weight::equal((b'A'..=b'Z').take(count).map(|letter| char::from(letter).to_string()))
}

/// Users with random names and scores.
pub fn users(count: u64, seed: u64) -> Vec<User> {
    let mut rng = Rng::seeded(seed, "users");
    (0..count).map(|id| User::new(id, format!("user-{id}-{}", rng.word(6)), rng.below(1_000_000) as i64)).collect()
}

/// The prototype's whole list after users 1 to 8, then a user 0, then a user 9: `shard`, `id`, and what each was `created as`.
pub fn id_zero(servers: &[MariaDb]) -> Result<Frame> {
    let mut prototype = Prototype::on(servers)?;
    (1..=8).chain([0, 9]).try_for_each(|id| prototype.create(id, &format!("user {id}")))?;
    prototype.list()
}

/// The share of `users` users on each of two shards when ids step by two, by `rule` and `shard`: parity, and hashed slots.
pub fn shares(users: u64, slots: Slot) -> Result<Frame> {
    let map = SlotMap::level(slots, &instances(2))?;
    let on_a = |rule: &dyn Fn(u64) -> bool| (0..users).filter(|user| rule(2 * user)).count() as f64;
    let [parity, hashed] =
        [on_a(&|id| id % 2 == 0), on_a(&|id| map.owner_of(id) == "A")].map(|count| 100.0 * count / users as f64);
    Ok(Frame::new()
        .text("rule", ["parity", "parity", "hashed slots", "hashed slots"])
        .text("shard", ["A", "B", "A", "B"])
        .numbers("users", "%", [parity, 100.0 - parity, hashed, 100.0 - hashed]))
}

/// Per cent of the users that move when the instances grow: by modulo, and by slots.
pub fn growth(users: u64, slots: Slot, from: u64, to: u64) -> Result<[f64; 2]> {
    let map = SlotMap::level(slots, &instances(from as usize))?;
    let grown = map.after(&map.plan(&instances(to as usize))?);
    let share = |moves: &dyn Fn(u64) -> bool| 100.0 * (0..users).filter(|id| moves(*id)).count() as f64 / users as f64;
    Ok([share(&|id| id % from != id % to), share(&|id| map.owner_of(id) != grown.owner_of(id))])
}

/// What arithmetic says of [`growth`]: `id mod n` and `id mod m` agree for the smaller of both in every least common
/// multiple; slots move to the new instances, and nowhere else.
pub fn predicted_growth(from: u64, to: u64) -> [f64; 2] {
    [modulo_moves_at_best(from, to), 100.0 * (1.0 - from as f64 / to as f64)]
}

/// A row for each move: `slots`, `rows` copied, changes `caught up` behind the copy and applied `last`, while writers were held; and
/// in seconds how long it took to `copy` and to `catch up`, how long `writers held` back were and `nobody serves`, and to `clean`.
fn frame_of(moves: &[Moved]) -> Frame {
    let counts = |of: fn(&Moved) -> u64| moves.iter().map(of).collect::<Vec<u64>>();
    let times = |of: fn(&Moved) -> f64| moves.iter().map(of).collect::<Vec<f64>>();
    Frame::new()
        .counts("slots", "", counts(|moved| moved.slots))
        .counts("rows", "", counts(|moved| moved.rows))
        .counts("caught up", "", counts(|moved| moved.caught_up))
        .counts("last", "", counts(|moved| moved.last_changes))
        .numbers("copy", "s", times(|moved| moved.copy))
        .numbers("catch up", "s", times(|moved| moved.catch_up))
        .numbers("writers held", "s", times(|moved| moved.writers_held))
        .numbers("nobody serves", "s", times(|moved| moved.nobody))
        .numbers("clean", "s", times(|moved| moved.clean))
}

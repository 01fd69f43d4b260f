//! The prototype's benchmark, with the pool that it ran on.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use super::{contact, contacts};
use crate::lab::chart::{Bars, Chart};
use crate::lab::service::MariaDb;
use crate::lab::{self, Error, OrFail, Progress, Result, Rng, Samples, joined};
use crate::sql::upsert::{Extras, Table, Way, Writer};

/// A pool of connections with a permit for each, as the prototype's: whoever gives a connection back first asks whether the
/// channel of permits is closed, and in Go one can only ask by receiving. If a permit lies there, it is gone.
struct Pool<T> {
    state: Mutex<State<T>>,
    free: Condvar,
    leaks: bool,
    in_use: AtomicUsize,
    most: AtomicUsize,
}

struct State<T> {
    connections: Vec<T>,
    permits: usize,
    /// Who waits gets the next permit from hand to hand, so that it never lies in the channel.
    waiting: usize,
}

impl<T> Pool<T> {
    fn new(connections: Vec<T>, leaks: bool) -> Self {
        let permits = connections.len();
        let state = Mutex::new(State { connections, permits, waiting: 0 });
        Self { state, free: Condvar::new(), leaks, in_use: AtomicUsize::new(0), most: AtomicUsize::new(0) }
    }

    fn take(&self) -> Option<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting += 1;
        while state.permits == 0 {
            state = self.free.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
        state.permits -= 1;
        let now = self.in_use.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        state.connections.pop()
    }

    fn give(&self, connection: T) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.in_use.fetch_sub(1, Ordering::Relaxed);
        let lying_there = state.permits.saturating_sub(state.waiting);
        if self.leaks && lying_there > 0 {
            state.permits -= 1;
        }
        state.connections.push(connection);
        state.permits += 1;
        self.free.notify_one();
    }

    fn permits(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).permits
    }
}

/// The prototype's benchmark.
#[derive(Debug, Clone, Copy)]
pub struct PoolSpec {
    /// Connections.
    pub size: usize,
    /// Rows of the table.
    pub rows: u64,
    /// Updates in each phase.
    pub updates: u64,
    /// Where the random numbers begin.
    pub seed: u64,
}

/// One phase of it.
#[derive(Debug, Clone)]
pub struct Phase {
    /// What was measured.
    pub way: Way,
    /// How long it took.
    pub seconds: f64,
    /// The most connections that were in use at once.
    pub most: usize,
    /// Permits that the pool had left when it was over.
    pub permits_left: usize,
}

/// Both phases, in their order, with a pool that leaks and one that does not.
#[derive(Debug, Clone)]
pub struct Pooled {
    /// As published: ON DUPLICATE KEY first.
    pub published: [Phase; 2],
    /// The same with REPLACE first.
    pub reversed: [Phase; 2],
    /// As published, on a pool that keeps its permits; several rounds, in alternating order.
    pub fair: Vec<[Phase; 2]>,
}

impl Pooled {
    /// How many times as long REPLACE took as ON DUPLICATE KEY.
    pub fn ratio(phases: &[Phase; 2]) -> f64 {
        let of = |way| phases.iter().find(|phase| phase.way == way).map_or(f64::NAN, |phase| phase.seconds);
        of(Way::Replace) / of(Way::OnDuplicateKey)
    }
}

impl Pooled {
    /// The time of each phase in both orders, on the pool that leaks.
    pub fn chart(&self, title: &str) -> Bars {
        let chart = Chart::bars(title)
            .subtitle("The same updates in two phases, on a pool that leaks its permits")
            .y("time", "s")
            .vertical();
        let orders = [("REPLACE second, as published", &self.published), ("REPLACE first", &self.reversed)];
        orders.into_iter().fold(chart, |chart, (order, phases)| {
            phases.iter().fold(chart.group(order), |chart, phase| chart.bar(phase.way, phase.seconds))
        })
    }

    /// How many connections each phase had in use.
    pub fn table(&self) -> lab::Table {
        let last = self.fair.last().into_iter().flatten().map(|phase| ("a pool that does not leak", phase));
        let phases: Vec<(&str, &Phase)> = (self.published.iter().map(|phase| ("as published", phase)))
            .chain(self.reversed.iter().map(|phase| ("phases swapped", phase)))
            .chain(last)
            .collect();
        lab::Table::new("How many worked at once")
            .text("", phases.iter().map(|(order, _)| *order))
            .text("phase", phases.iter().map(|(_, phase)| phase.way.to_string()))
            .counts("most connections in use", "", phases.iter().map(|(_, phase)| phase.most as u64))
            .counts("permits left", "", phases.iter().map(|(_, phase)| phase.permits_left as u64))
            .numbers("time", "s", phases.iter().map(|(_, phase)| phase.seconds))
    }

    /// The most connections in use in the second phase, as published and swapped.
    pub fn second_phases(&self) -> Samples {
        [&self.published, &self.reversed].map(|phases| phases[1].most as f64).into_iter().collect()
    }

    /// How many times as long REPLACE took on the pool that does not leak, one sample a round.
    pub fn fair_ratios(&self) -> Samples {
        self.fair.iter().map(Self::ratio).collect()
    }
}

/// Runs the benchmark: a random row is looked up and written, by many at once, first in one way and then in the other.
pub fn prototype(server: &MariaDb, spec: PoolSpec, rounds: usize) -> Pooled {
    let run = || -> Result<Pooled> {
        if spec.size < 2 || spec.rows == 0 || spec.updates == 0 || rounds == 0 {
            return Err(Error::new("run the prototype's benchmark", "it needs connections, rows, updates and a round"));
        }
        let mut progress = Progress::new("the prototype's benchmark", 3 + rounds as u64);
        let table = Table::create(server, "prototype", Extras { indexes: true, ..Extras::default() })?;
        // In the order of the unique index, which millions of rows in any other order would read and write all over.
        let mut loaded = contacts(spec.rows)?;
        loaded.sort_by(|one, other| one.email().cmp(other.email()));
        table.load(server, &loaded)?;
        drop(loaded);
        progress.step();
        let both = [Way::OnDuplicateKey, Way::Replace];
        let mut turned = both;
        turned.reverse();
        let published = phases(server, &table, spec, both, true)?;
        progress.step();
        let reversed = phases(server, &table, spec, turned, true)?;
        progress.step();
        let mut fair = Vec::new();
        for round in 0..rounds {
            fair.push(phases(server, &table, spec, if round % 2 == 0 { both } else { turned }, false)?);
            progress.step();
        }
        table.drop(server)?;
        Ok(Pooled { published, reversed, fair })
    };
    run().or_fail()
}

fn phases(server: &MariaDb, table: &Table, spec: PoolSpec, ways: [Way; 2], leaks: bool) -> Result<[Phase; 2]> {
    let connect = |_| -> Result<Vec<Writer>> { ways.iter().map(|&way| Writer::new(server, table, way)).collect() };
    // A place in the pool holds one connection for each way, because a writer has its way for life.
    let places = (0..spec.size).map(connect).collect::<Result<Vec<_>>>()?;
    let pool = Pool::new(places, leaks);
    let one = |index: usize| -> Result<Phase> {
        pool.most.store(0, Ordering::Relaxed);
        let seconds = phase(&pool, spec, index)?;
        Ok(Phase { way: ways[index], seconds, most: pool.most.load(Ordering::Relaxed), permits_left: pool.permits() })
    };
    Ok([one(0)?, one(1)?])
}

/// Twice as many workers as connections stand for the prototype's goroutines: somebody always waits.
fn phase(pool: &Pool<Vec<Writer>>, spec: PoolSpec, index: usize) -> Result<f64> {
    let mut rng = Rng::seeded(spec.seed, "updates");
    let numbers: Vec<u64> = (0..spec.updates).map(|_| rng.below(spec.rows)).collect();
    let next = AtomicU64::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let work = || -> Result<()> {
            while let Some(&number) = numbers.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                let Some(mut place) = pool.take() else {
                    return Err(Error::new("take a connection", "the pool gave a permit and no connection"));
                };
                let put = place[index].look_up_and_put(&contact(number, 1)?);
                pool.give(place);
                put?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..2 * spec.size).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| joined("run the prototype's benchmark", thread.join()))
    })?;
    Ok(began.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_that_leaks_has_one_permit_left_when_all_are_back() {
        for (leaks, left) in [(true, 1), (false, 5)] {
            let pool = Pool::new(vec![(); 5], leaks);
            for _ in 0..5 {
                assert!(pool.take().is_some());
            }
            (0..5).for_each(|_| pool.give(()));
            assert_eq!(pool.permits(), left);
        }
    }
}

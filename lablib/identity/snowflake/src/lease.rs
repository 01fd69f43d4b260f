//! A lease in somebody's hands: its generator, and the thread that renews it ahead of time.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use redis::Connection;

use super::generator::Snowflake;
use super::registry::{Interval, Registry};
use lab::Result;
use lab::clock::{Clock, SystemClock};

/// The right to make one worker's ids of an interval of timestamps.
///
/// Dropped, it stops being renewed and runs out, as it would if its process died. [`release`](Self::release) gives it back.
pub struct Lease<C: Clock + 'static = SystemClock> {
    held: Arc<Held<C>>,
    keeper: Option<JoinHandle<()>>,
}

struct Held<C: Clock> {
    registry: Registry,
    token: String,
    ids: Arc<Snowflake<C>>,
    connection: Mutex<Option<Connection>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The keeper is to go.
    over: bool,
    /// Redis has granted the worker to somebody else, or does not know this lease any more.
    lost: bool,
    /// Why the last renewal failed.
    failure: Option<String>,
    renewals: u64,
}

impl<C: Clock + 'static> Lease<C> {
    pub(super) fn new(registry: Registry, token: String, ids: Arc<Snowflake<C>>) -> Self {
        let (connection, state, changed) = (Mutex::default(), Mutex::default(), Condvar::new());
        Self { held: Arc::new(Held { registry, token, ids, connection, state, changed }), keeper: None }
    }

    /// The next id; its timestamp is in the lease's [`interval`](Self::interval), or there is none.
    pub fn next_id(&self) -> Result<u64> {
        self.held.ids.next_id().map_err(|error| match self.held.state().failure.as_deref() {
            Some(failure) => error.remedy(failure),
            None => error,
        })
    }

    /// The generator, to be shared. It stops when the lease is over.
    pub fn generator(&self) -> Arc<Snowflake<C>> {
        Arc::clone(&self.held.ids)
    }

    /// The worker's number.
    pub fn worker(&self) -> u64 {
        self.held.ids.worker()
    }

    /// The timestamps that it covers by now.
    pub fn interval(&self) -> Interval {
        self.held.interval()
    }

    /// How often it was renewed.
    pub fn renewals(&self) -> u64 {
        self.held.state().renewals
    }

    /// Extends it to a lease's length from now, if nobody else has had the worker since.
    pub fn renew(&self) -> Result<()> {
        self.held.renew()
    }

    /// Ends it now: no further id, and the rest of the interval is free for the next holder. An error where somebody else
    /// had been given the worker, or where Redis cannot be heard: then there is no further id either, and it runs out.
    pub fn release(mut self) -> Result<()> {
        self.end_keeper();
        let held = &self.held;
        let unused = held.registry.layout().epoch_ms() + held.ids.close();
        let interval = Interval { until: unused.min(held.interval().until), ..held.interval() };
        let now = held.ids.clock().now_ms();
        let given = held
            .ask("give a lease back", |connection| held.registry.give_back(connection, now, &held.token, interval))?;
        if given { Ok(()) } else { Err(held.is_lost("give a lease back")) }
    }

    /// A thread of its own renews it from now on, whenever half of its length is left.
    pub fn renewed_in_the_background(mut self) -> Self {
        if self.keeper.is_none() {
            let held = Arc::clone(&self.held);
            self.keeper = std::thread::Builder::new().name("lease".into()).spawn(move || held.keep()).ok();
        }
        self
    }

    fn end_keeper(&mut self) {
        self.held.state().over = true;
        self.held.changed.notify_all();
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join(); // it only renews: a panic there ends the lease no sooner than its death would
        }
    }
}

impl<C: Clock + 'static> Drop for Lease<C> {
    fn drop(&mut self) {
        self.end_keeper();
    }
}

impl<C: Clock> Held<C> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn interval(&self) -> Interval {
        let (from, until) = self.ids.term();
        let epoch = self.registry.layout().epoch_ms();
        Interval { worker: self.ids.worker(), from: epoch + from, until: epoch + until }
    }

    fn renew(&self) -> Result<()> {
        let doing = "renew a lease";
        let worker = self.ids.worker();
        let renewed = self.ask(doing, |connection| {
            // Read as late as possible: while a connection is made, time passes.
            self.registry.ask_to_renew(connection, self.ids.clock().now_ms(), &self.token, worker)
        });
        let mut state = self.state();
        match renewed {
            Ok(Some(until)) => {
                self.ids.extend(until.saturating_sub(self.registry.layout().epoch_ms()));
                state.renewals += 1;
                state.failure = None;
                Ok(())
            }
            Ok(None) => {
                state.lost = true;
                let error = self.is_lost(doing);
                state.failure = Some(format!("{error}; take another lease"));
                Err(error)
            }
            Err(error) => {
                state.failure = Some(error.to_string());
                Err(error)
            }
        }
    }

    fn is_lost(&self, doing: &str) -> lab::Error {
        let cause = format!("worker {} was leased to somebody else, or its Redis has forgotten it", self.ids.worker());
        self.registry.error(doing, cause)
    }

    /// Asks, and once more on a new connection where there is no answer: the connection may have died long ago, or the
    /// answer on its way. To renew or to give back again changes nothing more, and has the same answer.
    fn ask<T>(&self, doing: &str, question: impl Fn(&mut Connection) -> Result<T>) -> Result<T> {
        let mut kept = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let mut once = || {
            let connection = match kept.take() {
                Some(connection) => connection,
                None => self.registry.connect(doing)?,
            };
            // Kept only if it answers: what comes late on another one is not the answer to a later question.
            let connection = kept.insert(connection);
            let answer = question(connection);
            if answer.is_err() {
                *kept = None;
            }
            answer
        };
        once().or_else(|_| once())
    }

    fn keep(&self) {
        // Tries come more often than needed, so that one that fails is repeated while there is time.
        let pause = self.registry.terms().length / 8;
        let half = u64::try_from(self.registry.terms().length.as_millis() / 2).unwrap_or(u64::MAX);
        let mut state = self.state();
        while !state.over && !state.lost {
            let waited = self.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
            let left = self.interval().until.saturating_sub(self.ids.clock().now_ms());
            if !state.over && left <= half {
                drop(state);
                let _ = self.renew(); // kept in the state, for whoever gets no id
                state = self.state();
            }
        }
    }
}

impl<C: Clock + 'static> fmt::Debug for Lease<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({})", self.interval())
    }
}

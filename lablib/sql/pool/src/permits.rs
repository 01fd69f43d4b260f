//! The part of the pool that has races: who holds a connection, who waits for one, which ones lie idle.
//!
//! It knows neither time nor network nor runtime, and takes its lock from `lab::sync`, so that the crate `lablib-models` runs
//! this very file through every interleaving. A permit is the right to have one connection, dialled or yet to be dialled. One
//! short lock guards everything; nothing is woken or dropped under it.
//!
//! - Never more permits than the size: whoever holds one, plus what lies idle, is all there is.
//! - First come, first served: what comes back is given to whoever waits longest, in the same step, so nobody can slip in between.
//! - No lost wake-up and no lost permit: a waiter that goes away hands on what it was given and had not yet fetched.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};

use lab::sync::{Arc, Mutex, MutexGuard};

/// A step of the pool that can be left out, to see which check notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// A permit too many is given out.
    Bound,
    /// Who came last is served first.
    Order,
    /// A waiter is given a permit and not woken.
    Wake,
    /// A waiter that goes away keeps what it was given.
    PassOn,
    /// A connection comes back with whatever its borrower left open, and is handed on with it.
    Clean,
    /// A connection is handed on without looking whether its server is still there.
    Check,
}

/// The permits of one pool; a clone is another handle to them.
pub struct Permits<T>(Arc<Inner<T>>);

struct Inner<T> {
    size: usize,
    skip: Option<Skip>,
    state: Mutex<State<T>>,
}

struct State<T> {
    closed: bool,
    /// Permits that somebody holds or was given.
    in_use: usize,
    most_in_use: usize,
    /// Connections that nobody holds, the latest used at the end.
    idle: VecDeque<T>,
    next_ticket: u64,
    /// Who waits, by ticket: the first came first.
    waiting: BTreeMap<u64, Waker>,
    /// What waiters were given and have not fetched yet: a connection, or leave to dial one.
    granted: BTreeMap<u64, Option<T>>,
    /// Who waits until nobody holds a permit any more.
    draining: Vec<Waker>,
}

/// The right to have one connection; dropping it gives the right back, and drops the connection if it is still inside.
pub struct Permit<T> {
    permits: Permits<T>,
    connection: Option<T>,
    spent: bool,
}

/// The pool takes no more borrowers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

/// How many hold, lie idle and wait, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauge {
    /// Permits that are held.
    pub in_use: usize,
    /// Connections that lie idle.
    pub idle: usize,
    /// Waiters in the queue.
    pub waiting: usize,
    /// The most permits that were ever held at once.
    pub most_in_use: usize,
}

impl<T> Clone for Permits<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Permits<T> {
    /// A semaphore of `size` permits; `skip` is the step of handling them that is left out.
    pub fn new(size: usize, skip: Option<Skip>) -> Self {
        let state = State {
            closed: false,
            in_use: 0,
            most_in_use: 0,
            idle: VecDeque::new(),
            next_ticket: 0,
            waiting: BTreeMap::new(),
            granted: BTreeMap::new(),
            draining: Vec::new(),
        };
        Self(Arc::new(Inner { size, skip, state: Mutex::new(state) }))
    }

    /// A permit, if nobody has to wait for one.
    pub fn try_acquire(&self) -> Option<Permit<T>> {
        let mut state = self.lock();
        let connection = self.take(&mut state)?;
        drop(state);
        Some(self.permit(connection))
    }

    /// A permit, in the order of the first polls.
    pub fn acquire(&self) -> Acquire<T> {
        Acquire { permits: self.clone(), ticket: None }
    }

    /// An idle connection that fits, the longest idle first, with a permit that keeps others from taking its place.
    pub fn take_idle(&self, fits: impl FnMut(&T) -> bool) -> Option<Permit<T>> {
        let mut state = self.lock();
        let index = state.idle.iter().position(fits)?;
        let connection = state.idle.remove(index);
        state.used();
        drop(state);
        Some(self.permit(connection))
    }

    /// Takes no more borrowers: those in the queue are refused, what lies idle is returned to be closed.
    pub fn close(&self) -> Vec<T> {
        let mut state = self.lock();
        state.closed = true;
        let (idle, waiting) = (std::mem::take(&mut state.idle), std::mem::take(&mut state.waiting));
        drop(state);
        waiting.into_values().for_each(Waker::wake);
        idle.into()
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Is over once nobody holds a permit.
    pub fn drained(&self) -> Drained<T> {
        Drained(self.clone())
    }

    /// Permits that are free and lent, and borrowers that wait, at this moment.
    pub fn gauge(&self) -> Gauge {
        let state = self.lock();
        let (in_use, most_in_use) = (state.in_use, state.most_in_use);
        Gauge { in_use, idle: state.idle.len(), waiting: state.waiting.len(), most_in_use }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn permit(&self, connection: Option<T>) -> Permit<T> {
        Permit { permits: self.clone(), connection, spent: false }
    }

    /// The outer `None`: one has to wait. The inner: one has to dial.
    fn take(&self, state: &mut State<T>) -> Option<Option<T>> {
        // While somebody waits, nothing is free: what comes back goes to them.
        if state.closed || !state.waiting.is_empty() {
            return None;
        }
        let size = if self.0.skip == Some(Skip::Bound) { self.0.size + 1 } else { self.0.size };
        let connection = state.idle.pop_back();
        if connection.is_none() && state.in_use >= size {
            return None;
        }
        state.used();
        Some(connection)
    }

    /// A permit comes back, with its connection or without, and goes to whoever waits longest.
    fn come_back(&self, mut state: MutexGuard<'_, State<T>>, connection: Option<T>) {
        let next = match self.0.skip {
            Some(Skip::Order) => state.waiting.pop_last(),
            _ => state.waiting.pop_first(),
        };
        let Some((ticket, waker)) = next else { return self.leave(state, connection) };
        state.granted.insert(ticket, connection);
        drop(state);
        if self.0.skip != Some(Skip::Wake) {
            waker.wake();
        }
    }

    /// A permit comes back and nobody waits.
    fn leave(&self, mut state: MutexGuard<'_, State<T>>, connection: Option<T>) {
        state.in_use -= 1;
        let closed = state.closed;
        let mut unwanted = connection;
        if !closed && let Some(connection) = unwanted.take() {
            state.idle.push_back(connection);
        }
        let draining = if state.in_use == 0 { std::mem::take(&mut state.draining) } else { Vec::new() };
        drop(state);
        draining.into_iter().for_each(Waker::wake);
        drop(unwanted);
    }
}

impl<T> State<T> {
    fn used(&mut self) {
        self.in_use += 1;
        self.most_in_use = self.most_in_use.max(self.in_use);
    }
}

impl<T> Permit<T> {
    /// The connection, to be used or looked at; none if it has yet to be dialled. The permit stays.
    pub fn take(&mut self) -> Option<T> {
        self.connection.take()
    }

    /// Puts the connection that was taken back inside; the permit stays.
    pub fn hold(&mut self, connection: Option<T>) {
        self.connection = connection;
    }

    /// Puts the connection back for the next borrower. After [`close`](Permits::close) there is none, and both are returned.
    pub fn give_back(mut self, connection: T) -> Result<(), (Self, T)> {
        let state = self.permits.lock();
        if state.closed {
            drop(state);
            return Err((self, connection));
        }
        self.permits.come_back(state, Some(connection));
        self.spent = true;
        Ok(())
    }
}

impl<T> Drop for Permit<T> {
    fn drop(&mut self) {
        if !self.spent {
            // First the connection, then the right to have one: the other way round there would be one too many.
            drop(self.connection.take());
            self.permits.come_back(self.permits.lock(), None);
        }
    }
}

/// Waits for a permit; whoever drops it has left the queue.
pub struct Acquire<T> {
    permits: Permits<T>,
    ticket: Option<u64>,
}

impl<T> Unpin for Acquire<T> {}

impl<T> Future for Acquire<T> {
    type Output = Result<Permit<T>, Closed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let permits = self.permits.clone();
        let mut state = permits.lock();
        let Some(ticket) = self.ticket else {
            if state.closed {
                return Poll::Ready(Err(Closed));
            }
            if let Some(connection) = permits.take(&mut state) {
                drop(state);
                return Poll::Ready(Ok(permits.permit(connection)));
            }
            let ticket = state.next_ticket;
            state.next_ticket += 1;
            state.waiting.insert(ticket, context.waker().clone());
            self.ticket = Some(ticket);
            return Poll::Pending;
        };
        if let Some(connection) = state.granted.remove(&ticket) {
            drop(state);
            self.ticket = None;
            return Poll::Ready(Ok(permits.permit(connection)));
        }
        match state.waiting.get_mut(&ticket) {
            Some(waker) => {
                let old =
                    (!waker.will_wake(context.waker())).then(|| std::mem::replace(waker, context.waker().clone()));
                drop(state);
                drop(old);
                Poll::Pending
            }
            // Closing emptied the queue.
            None => {
                drop(state);
                self.ticket = None;
                Poll::Ready(Err(Closed))
            }
        }
    }
}

impl<T> Drop for Acquire<T> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        // Declared before the lock is taken, so dropped after it is free: a waker may own the very task that waits.
        let _waker;
        let mut state = self.permits.lock();
        _waker = state.waiting.remove(&ticket);
        if let Some(connection) = state.granted.remove(&ticket)
            && self.permits.0.skip != Some(Skip::PassOn)
        {
            self.permits.come_back(state, connection);
        }
    }
}

/// Waits until nobody holds a permit.
pub struct Drained<T>(Permits<T>);

impl<T> Future for Drained<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.in_use == 0 {
            return Poll::Ready(());
        }
        if !state.draining.iter().any(|waker| waker.will_wake(context.waker())) {
            state.draining.push(context.waker().clone());
        }
        Poll::Pending
    }
}

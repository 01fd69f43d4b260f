//! The pool around its permits: time, the server, and the guard that a borrower holds.

use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::time::timeout;

use super::builder::{Builder, Settings};
use super::error::{PoolError, Stage};
use super::lent::{Borrowed, Lent};
use super::manager::{Condition, Manager};
use super::permits::{Permit, Permits, Skip};
use lab::Rng;

/// A pool of connections; a clone is another handle to it.
pub struct Pool<M: Manager>(Arc<Shared<M>>);

/// A borrowed connection: use it as what it is; dropping it gives it back.
pub struct Pooled<M: Manager> {
    shared: Arc<Shared<M>>,
    /// The connection and the right to have it; gone once it is on its way back.
    held: Option<(Entry<<M as Manager>::Connection>, HeldPermit<M>)>,
    lent: usize,
    since: Instant,
}

/// A connection and what the pool knows of it.
struct Entry<C> {
    connection: C,
    born: Instant,
    /// When it gets too old.
    expires: Option<Instant>,
    /// When the pool last asked its server something that it answered: so long ago, at most, the server was known to be there.
    seen: Instant,
    /// When it came back from its last borrower.
    back: Instant,
}

struct Shared<M: Manager> {
    manager: M,
    settings: Settings,
    permits: Permits<Entry<M::Connection>>,
    lent: Mutex<Lent>,
    /// The server could not be reached when it was last tried.
    down: Mutex<Option<Down>>,
    /// When a connection last broke, in nanoseconds since the epoch: what was last seen before may be broken as well.
    suspect: AtomicU64,
    counts: Counts,
    handle: Handle,
    epoch: Instant,
}

/// What is known of a server that cannot be reached.
struct Down {
    /// When somebody last found that.
    since: Instant,
    cause: String,
    /// Whether somebody is trying again just now.
    trying: bool,
}

/// Somebody who dials; at his end, whatever it is, another one may try.
struct Trying<'a>(&'a Mutex<Option<Down>>);

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        if let Some(down) = &mut *lock(self.0) {
            down.trying = false;
        }
    }
}

#[derive(Default)]
struct Counts {
    lent: AtomicU64,
    dialled: AtomicU64,
    refused: AtomicU64,
    closed: AtomicU64,
    checked: AtomicU64,
    cleaned: AtomicU64,
    timed_out: AtomicU64,
    failed_fast: AtomicU64,
}

/// What a pool has done and has, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Connections that there may be at most.
    pub size: usize,
    /// Connections that are lent, or being dialled, cleaned or closed.
    pub in_use: usize,
    /// Connections that wait for a borrower.
    pub idle: usize,
    /// Borrowers that wait for a connection.
    pub waiting: usize,
    /// The most that were ever in use at once.
    pub most_in_use: usize,
    /// Connections that were lent so far.
    pub lent: u64,
    /// Connections that were dialled so far.
    pub dialled: u64,
    /// Attempts to dial that failed.
    pub refused: u64,
    /// Connections that were closed, or found broken.
    pub closed: u64,
    /// Checks before a connection was lent.
    pub checked: u64,
    /// Connections that had to be cleaned when they came back.
    pub cleaned: u64,
    /// Borrowers that waited too long.
    pub timed_out: u64,
    /// Borrowers that were told at once that the server is down.
    pub failed_fast: u64,
}

/// How a pool was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// Connections that were closed by then.
    pub closed: usize,
    /// Borrowers that still held one at the deadline. Their connections are closed when they come back.
    pub still_out: usize,
}

impl<M: Manager> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: Manager> Pool<M> {
    /// A pool of ten connections, until it is told otherwise.
    pub fn builder(manager: M) -> Builder<M> {
        Builder::new(manager)
    }

    pub(super) fn new(manager: M, settings: Settings, handle: Handle) -> Self {
        let shared = Arc::new(Shared {
            permits: Permits::new(settings.size, settings.skip),
            manager,
            lent: Mutex::new(Lent::default()),
            down: Mutex::new(None),
            suspect: AtomicU64::new(0),
            counts: Counts::default(),
            handle,
            epoch: Instant::now(),
            settings,
        });
        shared.keep_swept();
        Self(shared)
    }

    /// Borrows a connection: an idle one, or a new one while there are fewer than the size, or else the next that comes back
    /// after everybody who asked before. Nothing is lost when this is dropped half-way.
    #[track_caller]
    pub fn get(&self) -> impl Future<Output = Result<Pooled<M>, PoolError<M::Error>>> + Send + use<M> {
        let (shared, at) = (self.0.clone(), Location::caller());
        async move { shared.get(at).await }
    }

    /// Dials until so many connections are there, at most the size; says how many there are.
    pub async fn warm(&self, connections: usize) -> Result<usize, PoolError<M::Error>> {
        let connections = connections.min(self.0.settings.size);
        let mut held = Vec::new();
        while held.len() < connections {
            held.push(self.get().await?);
        }
        Ok(held.len())
    }

    /// Refuses new borrowers from now on, and waits for those that hold a connection, but no longer than `deadline`.
    pub async fn close(&self, deadline: Duration) -> Closing {
        let shared = &self.0;
        let before = shared.counts.closed.load(Ordering::Relaxed);
        let idle = shared.permits.close();
        let closing = async {
            for entry in idle {
                shared.discard(entry).await;
            }
            shared.permits.drained().await;
        };
        let _ = timeout(deadline, closing).await;
        let closed = shared.counts.closed.load(Ordering::Relaxed) - before;
        Closing { closed: closed as usize, still_out: shared.permits.gauge().in_use }
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.0.permits.is_closed()
    }

    /// Connections and borrowers at this moment, and what the pool has counted since it began.
    pub fn stats(&self) -> Stats {
        let (gauge, counts) = (self.0.permits.gauge(), &self.0.counts);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            size: self.0.settings.size,
            in_use: gauge.in_use,
            idle: gauge.idle,
            waiting: gauge.waiting,
            most_in_use: gauge.most_in_use,
            lent: count(&counts.lent),
            dialled: count(&counts.dialled),
            refused: count(&counts.refused),
            closed: count(&counts.closed),
            checked: count(&counts.checked),
            cleaned: count(&counts.cleaned),
            timed_out: count(&counts.timed_out),
            failed_fast: count(&counts.failed_fast),
        }
    }

    /// Who holds a connection, where it was asked for and since when; the longest first. What a leak looks like.
    pub fn borrowed(&self) -> Vec<Borrowed> {
        lock(&self.0.lent).list()
    }
}

impl<M: Manager> fmt::Debug for Pool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stats().fmt(f)
    }
}

type HeldPermit<M> = Permit<Entry<<M as Manager>::Connection>>;
type Got<M> = Result<Pooled<M>, PoolError<<M as Manager>::Error>>;

/// What to do with a connection before it may be lent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    Lend,
    Check,
    Replace,
}

impl<M: Manager> Shared<M> {
    async fn get(self: Arc<Self>, at: &'static Location<'static>) -> Got<M> {
        let began = Instant::now();
        let permit = match self.permits.try_acquire() {
            None => None,
            Some(mut permit) => match permit.take() {
                // The usual case needs no timer.
                Some(entry) if self.fit(&entry, began) == Fit::Lend => return Ok(self.lend(entry, permit, at, began)),
                entry => {
                    permit.hold(entry);
                    Some(permit)
                }
            },
        };
        if permit.is_none()
            && let Some(error) = self.in_vain()
        {
            return Err(error);
        }
        let (limit, size) = (self.settings.acquire_timeout, self.settings.size);
        let mut stage = Stage::Queue;
        let waiting = timeout(limit, self.clone().checkout(permit, at, &mut stage)).await;
        waiting.unwrap_or_else(|_| {
            add_one(&self.counts.timed_out);
            Err(PoolError::Timeout { waited: began.elapsed(), stage, size })
        })
    }

    async fn checkout(
        self: Arc<Self>,
        permit: Option<HeldPermit<M>>,
        at: &'static Location<'static>,
        stage: &mut Stage,
    ) -> Got<M> {
        let mut permit = match permit {
            Some(permit) => permit,
            None => self.permits.acquire().await.map_err(|_| PoolError::Closed)?,
        };
        *stage = Stage::Server;
        // Whatever lies between here and the end, if this future is dropped there, the connection goes first, then the permit.
        let now = Instant::now();
        if let Some(mut entry) = permit.take() {
            let lend = match self.fit(&entry, now) {
                Fit::Lend => true,
                Fit::Replace => false,
                Fit::Check => self.answers(&mut entry).await,
            };
            if lend {
                return Ok(self.lend(entry, permit, at, now));
            }
            self.discard(entry).await;
        }
        let entry = self.dial().await?;
        Ok(self.lend(entry, permit, at, now))
    }

    fn fit(&self, entry: &Entry<M::Connection>, now: Instant) -> Fit {
        if entry.is_old(now) {
            return Fit::Replace;
        }
        let unused = now.saturating_duration_since(entry.seen);
        let unsure = unused >= self.settings.check_after || self.is_suspect(entry.seen);
        if unsure && self.settings.skip != Some(Skip::Check) { Fit::Check } else { Fit::Lend }
    }

    /// Whether the server answers on this connection; if not, none of the older ones is trusted either.
    async fn answers(&self, entry: &mut Entry<M::Connection>) -> bool {
        add_one(&self.counts.checked);
        let asked = Instant::now();
        let answer = timeout(self.settings.check_timeout, self.manager.check(&mut entry.connection)).await;
        let there = matches!(answer, Ok(Ok(())));
        if there {
            entry.seen = asked;
        } else {
            self.suspect();
        }
        there
    }

    async fn dial(&self) -> Result<Entry<M::Connection>, PoolError<M::Error>> {
        let _trying = self.may_try()?;
        let (limit, asked) = (self.settings.connect_timeout, Instant::now());
        let (error, down) = match timeout(limit, self.manager.connect()).await {
            Ok(Ok(connection)) => {
                *lock(&self.down) = None;
                let number = add_one(&self.counts.dialled);
                return Ok(Entry::new(connection, self.settings.max_lifetime, number, asked));
            }
            Ok(Err(error)) => {
                let down = self.manager.is_down(&error);
                (PoolError::Connect(error), down)
            }
            Err(_) => (PoolError::Unanswered(limit), true),
        };
        add_one(&self.counts.refused);
        if down {
            // A server that is gone has taken all connections along; if only new ones fail, a check of the others says so.
            self.suspect();
        }
        let mut known = lock(&self.down);
        let trying = known.as_ref().is_some_and(|down| down.trying);
        *known = down.then(|| Down { since: Instant::now(), cause: error.to_string(), trying });
        drop(known);
        Err(error)
    }

    /// Leave to dial. While the server cannot be reached only one tries, and not before a pause; all others are told what
    /// happened to the last.
    fn may_try(&self) -> Result<Option<Trying<'_>>, PoolError<M::Error>> {
        let mut known = lock(&self.down);
        let Some(down) = &mut *known else { return Ok(None) };
        if down.trying || down.since.elapsed() < self.settings.retry_after {
            add_one(&self.counts.failed_fast);
            return Err(PoolError::Down { ago: down.since.elapsed(), cause: down.cause.clone() });
        }
        down.trying = true;
        Ok(Some(Trying(&self.down)))
    }

    /// Why there is no point in waiting for a connection: the server cannot be reached, and nobody has one to give back.
    fn in_vain(&self) -> Option<PoolError<M::Error>> {
        let known = lock(&self.down);
        let down = known.as_ref().filter(|down| down.trying || down.since.elapsed() < self.settings.retry_after)?;
        let error = PoolError::Down { ago: down.since.elapsed(), cause: down.cause.clone() };
        drop(known);
        if self.permits.is_closed() || lock(&self.lent).count() > 0 {
            return None;
        }
        add_one(&self.counts.failed_fast);
        Some(error)
    }

    fn lend(
        self: Arc<Self>,
        entry: Entry<M::Connection>,
        permit: HeldPermit<M>,
        at: &'static Location<'static>,
        since: Instant,
    ) -> Pooled<M> {
        add_one(&self.counts.lent);
        let lent = lock(&self.lent).add(at, since);
        Pooled { shared: self, held: Some((entry, permit)), lent, since }
    }

    /// A connection comes back from its borrower, in whatever state and from whatever thread.
    fn come_back(self: &Arc<Self>, mut entry: Entry<M::Connection>, permit: HeldPermit<M>) {
        let mut condition = self.manager.condition(&entry.connection);
        if std::thread::panicking() {
            condition = condition.max(Condition::Dirty);
        }
        if condition == Condition::Dirty && self.settings.skip == Some(Skip::Clean) {
            condition = Condition::Clean;
        }
        if condition == Condition::Broken {
            self.suspect();
        }
        // That it comes back unbroken does not say that its server is still there: perhaps its borrower never asked it
        // anything. So `seen` stays what it was.
        entry.back = Instant::now();
        if condition > Condition::Clean || entry.is_old(entry.back) {
            self.tidy(entry, permit, condition);
        } else if let Err((permit, entry)) = permit.give_back(entry) {
            self.tidy(entry, permit, Condition::Broken);
        }
    }

    /// Cleans or closes a connection in a task of its own, which keeps its permit for so long.
    fn tidy(self: &Arc<Self>, mut entry: Entry<M::Connection>, mut permit: HeldPermit<M>, condition: Condition) {
        let shared = self.clone();
        self.handle.spawn(async move {
            if condition == Condition::Dirty && !entry.is_old(entry.back) {
                add_one(&shared.counts.cleaned);
                let (limit, asked) = (shared.settings.check_timeout, Instant::now());
                if let Ok(Ok(())) = timeout(limit, shared.manager.clean(&mut entry.connection)).await {
                    entry.seen = asked;
                    match permit.give_back(entry) {
                        Ok(()) => return,
                        Err(refused) => (permit, entry) = refused,
                    }
                } else {
                    shared.suspect();
                }
            }
            shared.discard(entry).await;
            drop(permit);
        });
    }

    async fn discard(&self, entry: Entry<M::Connection>) {
        let closing = self.manager.close(entry.connection, entry.born.elapsed());
        let _ = timeout(self.settings.check_timeout, closing).await;
        add_one(&self.counts.closed);
    }

    /// Closes what is too old or has lain idle too long, for as long as the pool is there.
    fn keep_swept(self: &Arc<Self>) {
        let (settings, shared) = (&self.settings, Arc::downgrade(self));
        let Some(shortest) = settings.idle_timeout.into_iter().chain(settings.max_lifetime).min() else { return };
        let pause = (shortest / 4).clamp(Duration::from_millis(5), Duration::from_secs(30));
        self.handle.spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                let Some(shared) = shared.upgrade() else { return };
                if shared.permits.is_closed() {
                    return;
                }
                shared.sweep().await;
            }
        });
    }

    async fn sweep(&self) {
        let (now, idle) = (Instant::now(), self.settings.idle_timeout);
        let over = |entry: &Entry<M::Connection>| {
            entry.is_old(now) || idle.is_some_and(|idle| now.saturating_duration_since(entry.back) >= idle)
        };
        while let Some(mut permit) = self.permits.take_idle(over) {
            if let Some(entry) = permit.take() {
                self.discard(entry).await;
            }
        }
    }

    /// From now on, a connection whose server was last seen before this moment is checked before it is lent.
    fn suspect(&self) {
        self.suspect.fetch_max(self.nanoseconds(Instant::now()), Ordering::AcqRel);
    }

    fn is_suspect(&self, seen: Instant) -> bool {
        let suspect = self.suspect.load(Ordering::Acquire);
        suspect > 0 && self.nanoseconds(seen) <= suspect
    }

    fn nanoseconds(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX)
    }
}

impl<C> Entry<C> {
    fn new(connection: C, lifetime: Option<Duration>, number: u64, asked: Instant) -> Self {
        let now = Instant::now();
        // Connections that were dialled at once should not all go at once.
        let early = Rng::seeded(number, "a connection's lifetime").unit() / 10.0;
        let expires = lifetime.and_then(|lifetime| now.checked_add(lifetime.mul_f64(1.0 - early)));
        Self { connection, born: now, expires, seen: asked, back: now }
    }

    fn is_old(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }
}

impl<M: Manager> Pooled<M> {
    /// Does not give the connection back: it is closed, and the next borrower gets a new one. For a borrower who knows
    /// better than the pool what the connection is worth.
    pub fn discard(mut this: Self) {
        if let Some((entry, permit)) = this.held.take() {
            lock(&this.shared.lent).remove(this.lent);
            this.shared.tidy(entry, permit, Condition::Broken);
        }
    }
}

impl<M: Manager> Drop for Pooled<M> {
    fn drop(&mut self) {
        if let Some((entry, permit)) = self.held.take() {
            lock(&self.shared.lent).remove(self.lent);
            self.shared.come_back(entry, permit);
        }
    }
}

impl<M: Manager> Deref for Pooled<M> {
    type Target = M::Connection;

    fn deref(&self) -> &M::Connection {
        match &self.held {
            Some((entry, _)) => &entry.connection,
            None => unreachable!("only a guard that is going away has no connection"),
        }
    }
}

impl<M: Manager> DerefMut for Pooled<M> {
    fn deref_mut(&mut self) -> &mut M::Connection {
        match &mut self.held {
            Some((entry, _)) => &mut entry.connection,
            None => unreachable!("only a guard that is going away has no connection"),
        }
    }
}

impl<M: Manager> fmt::Debug for Pooled<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pooled").field("held_for", &self.since.elapsed()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn add_one(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::Relaxed)
}

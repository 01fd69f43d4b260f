//! Where a read goes: how far every replica is behind, watched all the time, and a choice that spreads reads by it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mysql::Conn;
use mysql::prelude::Queryable;

use super::cluster::Cluster;
use super::position::Position;
use super::session::{Consistency, Session};
use lab::{Doing, Error, Result, Rng, Weighted};

/// How a [`Router`] judges replicas.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RouterSpec {
    /// A replica that is further behind than this gets no reads.
    pub max_lag: Duration,
    /// How long a read waits on a replica for its session's position before it goes to the primary; at most half of a silence,
    /// so that a replica which waits is not taken for one that is gone.
    pub wait: Duration,
    /// A replica that is silent for this long is taken for gone.
    pub silence: Duration,
    /// How often the primary is given a heartbeat, and the replicas are asked for it.
    pub beat: Duration,
}

impl Default for RouterSpec {
    fn default() -> Self {
        Self {
            max_lag: Duration::from_secs(1),
            wait: Duration::from_millis(50),
            silence: Duration::from_millis(250),
            beat: Duration::from_millis(25),
        }
    }
}

/// What a router last saw of a replica.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// How far it was behind.
    lag: Duration,
    /// The position up to which it had replayed.
    pub(super) position: Position,
    /// When it was asked.
    at: Instant,
}

/// Watches the replicas of a cluster, and opens sessions that read from them. Its watching ends with it.
///
/// Lag is measured without comparing two machines' clocks: the router itself notes when each heartbeat was committed,
/// and a replica that does not show the next one yet is behind by at least the time since then. A router that cannot reach the
/// primary gives no heartbeats, and cannot know what others write there meanwhile: it takes replicas for as fresh as they were.
#[derive(Debug)]
pub struct Router {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) cluster: Cluster,
    pub(super) spec: RouterSpec,
    /// This router's own heartbeat among those of others.
    id: u64,
    seats: Vec<Mutex<Option<Seen>>>,
    beats: Mutex<Beats>,
    stop: AtomicBool,
    sessions: AtomicU64,
}

#[derive(Debug, Default)]
struct Beats {
    latest: u64,
    /// The numbers of recent heartbeats, and when each was acknowledged.
    recent: VecDeque<(u64, Instant)>,
}

/// The last heartbeat that a replica showed, and how long after its commit that was, at least.
#[derive(Debug, Clone, Copy, Default)]
struct Delivered {
    beat: u64,
    after: Duration,
}

/// So many heartbeats are remembered; a replica further behind is behind by the oldest of them at least.
const REMEMBERED: usize = 40_000;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Router {
    /// Begins to watch a cluster's replicas; returns when each that answers has been seen.
    pub fn new(cluster: &Cluster, spec: RouterSpec) -> Result<Self> {
        if spec.beat.is_zero() || spec.silence.is_zero() {
            return Err(Error::new("watch the replicas", "a heartbeat and a silence must last longer than nothing"));
        }
        let primary = cluster.primary();
        let create =
            "CREATE TABLE IF NOT EXISTS heartbeats (router BIGINT UNSIGNED PRIMARY KEY, beat BIGINT UNSIGNED NOT NULL)";
        cluster.server(primary)?.try_execute(create)?;
        let shared = Arc::new(Shared {
            cluster: cluster.clone(),
            spec,
            id: rand::random(),
            seats: (0..cluster.size()).map(|_| Mutex::new(None)).collect(),
            beats: Mutex::default(),
            stop: AtomicBool::new(false),
            sessions: AtomicU64::new(0),
        });
        let beating = Arc::clone(&shared);
        let mut threads = vec![std::thread::spawn(move || beating.beat())];
        for server in 0..cluster.size() {
            let watching = Arc::clone(&shared);
            threads.push(std::thread::spawn(move || watching.watch(server)));
        }
        // A replica may be down from the start; that is no reason to wait for ever.
        let began = Instant::now();
        let unseen = || cluster.followers().iter().any(|&replica| shared.seen(replica).is_none());
        while unseen() && began.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(Self { shared, threads })
    }

    /// A session of its own connections and its own promise.
    pub fn session(&self, consistency: Consistency) -> Session {
        let number = self.shared.sessions.fetch_add(1, Ordering::Relaxed);
        Session::new(Arc::clone(&self.shared), consistency, Rng::seeded(number, "session"))
    }

    /// How far a replica may be behind by now: what it was when it was last asked, and the time since then. Nothing
    /// where it does not answer.
    pub fn lag(&self, server: usize) -> Option<Duration> {
        self.shared.seen(server).map(|seen| self.shared.by_now(&seen))
    }

    /// The share of unpromising reads that each server gets as things stand.
    pub fn shares(&self) -> Vec<f64> {
        let weights = self.shared.weights(&[]);
        let total: f64 = weights.iter().sum();
        match total > 0.0 {
            true => weights.iter().map(|weight| weight / total).collect(),
            false => {
                (0..weights.len()).map(|server| f64::from(u8::from(server == self.shared.cluster.primary()))).collect()
            }
        }
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// What was last seen of a server; nothing where it is the primary, or does not answer.
    pub(super) fn seen(&self, server: usize) -> Option<Seen> {
        lock(self.seats.get(server)?).clone()
    }

    /// A replica just failed a reader; it gets no more of them until it has been seen alive.
    pub(super) fn lost(&self, server: usize) {
        *lock(&self.seats[server]) = None;
    }

    /// What was seen is as old as it is; nobody knows what happened since.
    fn by_now(&self, seen: &Seen) -> Duration {
        seen.lag + seen.at.elapsed().saturating_sub(2 * self.spec.beat)
    }

    /// How likely each server is to get a read: the further behind, the less, and beyond the limit not at all.
    pub(super) fn weights(&self, without: &[usize]) -> Vec<f64> {
        let primary = self.cluster.primary();
        let weight = |server: usize| {
            let may = server != primary && self.cluster.follows(server) && !without.contains(&server);
            let seen = self.seen(server).filter(|_| may);
            let lag = seen.map(|seen| self.by_now(&seen)).filter(|lag| *lag <= self.spec.max_lag);
            // A lag below the time between two heartbeats is none that could be seen.
            lag.map_or(0.0, |lag| 1.0 / (lag + self.spec.beat).as_secs_f64())
        };
        (0..self.cluster.size()).map(weight).collect()
    }

    /// A replica for a read that needs this position: one that is known to have it, where there is one. Nothing where
    /// no replica may be asked.
    pub(super) fn choose(&self, needs: &Position, without: &[usize], rng: &mut Rng) -> Option<usize> {
        let weights = self.weights(without);
        let has = |server: usize| self.seen(server).is_some_and(|seen| seen.position.covers(needs));
        let having: Vec<f64> =
            weights.iter().enumerate().map(|(server, &weight)| if has(server) { weight } else { 0.0 }).collect();
        let weights = if having.iter().any(|&weight| weight > 0.0) { having } else { weights };
        Weighted::of(weights).ok().map(|weighted| weighted.draw(rng))
    }

    /// Gives the primary a heartbeat, again and again, whoever it is.
    fn beat(&self) {
        let mut connection: Option<(usize, Conn)> = None;
        let mut next = 0;
        while !self.stopped() {
            let primary = self.cluster.primary();
            let beaten = connection.take().filter(|(server, _)| *server == primary).map_or_else(
                || self.cluster.connect(primary, Duration::from_secs(1)).map(|fresh| (primary, fresh)),
                Ok,
            );
            let beaten = beaten.and_then(|(server, mut fresh)| {
                next += 1;
                let beat = "REPLACE INTO heartbeats VALUES (?, ?)";
                fresh.exec_drop(beat, (self.id, next)).doing("give a heartbeat")?;
                Ok((server, fresh))
            });
            if let Ok(alive) = beaten {
                let mut beats = lock(&self.beats);
                beats.latest = next;
                beats.recent.push_back((next, Instant::now()));
                if beats.recent.len() > REMEMBERED {
                    beats.recent.pop_front();
                }
                drop(beats);
                connection = Some(alive);
            }
            std::thread::sleep(self.spec.beat);
        }
        if let Some((_, mut alive)) = connection {
            // Nobody looks for it any more; a server that cannot be told now keeps a row too many.
            let _ = alive.exec_drop("DELETE FROM heartbeats WHERE router = ?", (self.id,));
        }
    }

    /// Asks one server for the heartbeat and the position that it shows, as long as it is a replica.
    fn watch(&self, server: usize) {
        let mut connection: Option<Conn> = None;
        let mut last = Delivered::default();
        while !self.stopped() {
            if server == self.cluster.primary() {
                self.lost(server);
            } else {
                let asked = connection
                    .take()
                    .map_or_else(|| self.cluster.connect(server, self.spec.silence), Ok)
                    .and_then(|mut fresh| Ok((self.look(server, &mut fresh, &mut last)?, fresh)));
                let seen = match asked {
                    Ok((seen, alive)) => {
                        connection = Some(alive);
                        seen
                    }
                    Err(_) => None,
                };
                *lock(&self.seats[server]) = seen;
            }
            std::thread::sleep(self.spec.beat);
        }
    }

    /// How far a replica is behind; nothing where it never showed a heartbeat of this router, for then nobody knows.
    fn look(&self, server: usize, connection: &mut Conn, last: &mut Delivered) -> Result<Option<Seen>> {
        let replayed = self.cluster.server(server)?.dialect().replayed();
        // The position first: what is replayed in between may be shown by the heartbeat, which does no harm.
        let question = format!("SELECT {replayed}, (SELECT beat FROM heartbeats WHERE router = ?)");
        let row: Option<(Option<String>, Option<u64>)> =
            connection.exec_first(question, (self.id,)).doing("ask a replica how far it is")?;
        let (position, shown) = row.unwrap_or_default();
        let beats = lock(&self.beats);
        let at = Instant::now();
        let Some(shown) = shown else { return Ok(None) };
        let first_unseen = beats.recent.get(beats.recent.partition_point(|(beat, _)| *beat <= shown));
        let unseen = first_unseen.map_or(Duration::ZERO, |(_, committed)| at.saturating_duration_since(*committed));
        // Where the primary is too busy for heartbeats, a late replica shows the last of them, and is late all the same: as
        // late as that one came, less the time in which nobody asked for it.
        if shown != last.beat {
            let committed = beats.recent.binary_search_by_key(&shown, |(beat, _)| *beat).ok();
            let came = committed.and_then(|index| beats.recent.get(index));
            let after = came.map_or(Duration::ZERO, |(_, committed)| at.saturating_duration_since(*committed));
            *last = Delivered { beat: shown, after: after.saturating_sub(2 * self.spec.beat) };
        }
        let lag = unseen.max(last.after);
        Ok(Some(Seen { lag, position: position.unwrap_or_default().parse()?, at }))
    }
}

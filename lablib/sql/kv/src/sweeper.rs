//! Whoever removes what has expired.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, Value};

use super::shard::Shard;
use super::statements::BEGAN;
use lab::service::Dialect;
use lab::{Doing, Error, Result, joined};

/// A sweeper that cannot reach its server tries again after this, then after twice as long, and so on,
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A thread that removes expired entries from one shard, until it is stopped or dropped.
///
/// Readers do not need it: to them an expired entry is absent in any case. It gives back the room.
///
/// No error ends it. It tells its owner at once, and tries again after a pause that grows from one failure to the next.
#[derive(Debug)]
pub struct Sweeper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<Result<Swept>>>,
}

/// What a sweeper has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Entries that it has removed; without those of a commit whose answer was lost.
    pub removed: u64,
    /// Errors, each of which its owner was told.
    pub errors: u64,
}

impl Sweeper {
    /// Sweeps a shard: at most `batch` entries in a transaction, one after the other while there are any, and then every
    /// `pause` to see. `hear` is called with each error, on the sweeper's thread, as soon as it happens. A server that cannot
    /// be reached now is an error of this call.
    pub fn start(url: &str, batch: usize, pause: Duration, hear: impl FnMut(&Error) + Send + 'static) -> Result<Self> {
        if batch == 0 {
            return Err(
                Error::new("start a sweeper", "it may take no entry at all").remedy("take batches of a few hundred")
            );
        }
        let mut shard = Shard::new(url, Duration::from_secs(10))?.that_hardly_waits();
        shard.dialect()?;
        let (stop, stopped) = channel();
        let work = move || Ok(work(&mut shard, batch, pause, &stopped, hear));
        let thread = std::thread::Builder::new().name("sweeper".into()).spawn(work).doing("start a sweeper")?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }

    /// Stops it after the batch that it is at, and says what it has done.
    pub fn stop(mut self) -> Result<Swept> {
        self.end().unwrap_or_else(|| Ok(Swept::default()))
    }

    fn end(&mut self) -> Option<Result<Swept>> {
        // Nobody sends anything: what wakes the sweeper is that this end is gone.
        drop(self.stop.take());
        self.thread.take().map(|thread| joined("sweep", thread.join()))
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.end();
    }
}

fn work(
    shard: &mut Shard,
    batch: usize,
    pause: Duration,
    stopped: &Receiver<()>,
    mut hear: impl FnMut(&Error),
) -> Swept {
    let (mut swept, mut place, mut after_error) = (Swept::default(), Place::default(), FIRST_PAUSE);
    loop {
        let rest = match sweep(shard, batch, &mut place) {
            Ok(removed) => {
                swept.removed += removed;
                after_error = FIRST_PAUSE;
                if place.is_the_beginning() { pause } else { Duration::ZERO }
            }
            Err(error) => {
                swept.errors += 1;
                hear(&error);
                let rest = after_error.max(pause);
                after_error = (2 * after_error).min(LONGEST_PAUSE);
                rest
            }
        };
        if stopped.recv_timeout(rest) != Err(RecvTimeoutError::Timeout) {
            return swept;
        }
    }
}

/// How far a round has come: what expired before, or then and with a smaller key, has been looked at.
#[derive(Debug, Default)]
struct Place {
    expired: u64,
    key: Vec<u8>,
}

impl Place {
    fn is_the_beginning(&self) -> bool {
        self.expired == 0
    }
}

/// Removes the next entries, up to `batch`, that have expired and that nobody holds at this moment; says how many.
///
/// It finds them without a lock, by the index on the time: a locking read would hold the first entry behind them too, and that
/// one is alive. Then, in one transaction, it takes those that are free by their keys, looks again, and removes them. At READ
/// COMMITTED nothing else is locked, and no gap into which somebody could want to put a key. What it could not have stays
/// behind for the next round: neither somebody who holds a batch's worth of entries nor an error keeps it from the rest.
fn sweep(shard: &mut Shard, batch: usize, place: &mut Place) -> Result<u64> {
    shard.transact("remove expired entries", |connection, dialect| {
        // Not `(expires_at, k) > (?, ?)`: servers do not look for that in an index.
        let find = format!(
            "SELECT k, expires_at, {BEGAN} FROM kv FORCE INDEX (by_expiry) WHERE expires_at <= {BEGAN} \
             AND expires_at >= ? AND (expires_at > ? OR k > ?) ORDER BY expires_at, k LIMIT ?"
        );
        let after = (place.expired, place.expired, &place.key[..], batch);
        let found: Vec<(Vec<u8>, u64, u64)> = connection.exec(find, after)?;
        *place = match found.last() {
            Some((key, expired, _)) if found.len() == batch => Place { expired: *expired, key: key.clone() },
            _ => Place::default(),
        };
        let Some(&(_, _, now)) = found.first() else { return Ok(0) };
        let keys: Vec<Vec<u8>> = found.into_iter().map(|(key, ..)| key).collect();
        take(connection, dialect, &keys, now)
    })
}

fn take(connection: &mut Conn, dialect: Dialect, keys: &[Vec<u8>], now: u64) -> mysql::Result<u64> {
    let some = |keys: usize| format!("kv FORCE INDEX (PRIMARY) WHERE k IN ({})", vec!["?"; keys].join(", "));
    let values = |keys: &[Vec<u8>]| keys.iter().map(|key| Value::from(&key[..])).collect::<Vec<_>>();
    connection.query_drop("START TRANSACTION")?;
    let skip = if dialect.has_skip_locked() { " SKIP LOCKED" } else { "" };
    let take = format!("SELECT k FROM {} AND expires_at <= {now} FOR UPDATE{skip}", some(keys.len()));
    let taken: Vec<Vec<u8>> = connection.exec(take, values(keys))?;
    if !taken.is_empty() {
        connection.exec_drop(format!("DELETE kv FROM {}", some(taken.len())), values(&taken))?;
    }
    connection.query_drop("COMMIT")?;
    Ok(taken.len() as u64)
}

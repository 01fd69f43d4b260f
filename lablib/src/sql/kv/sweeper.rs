//! Whoever removes what has expired.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, Value};

use super::shard::Shard;
use super::statements::BEGAN;
use crate::lab::service::Dialect;
use crate::lab::{Doing, Error, Result, joined};

/// A thread that removes expired entries from one shard, until it is stopped or dropped.
///
/// Readers do not need it: to them an expired entry is absent in any case. It gives back the room.
#[derive(Debug)]
pub struct Sweeper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<Result<u64>>>,
}

impl Sweeper {
    /// Sweeps a shard: at most `batch` entries in a transaction, one after the other while there are any, and then every
    /// `pause` to see.
    pub fn start(url: &str, batch: usize, pause: Duration) -> Result<Self> {
        if batch == 0 {
            return Err(
                Error::new("start a sweeper", "it may take no entry at all").remedy("take batches of a few hundred")
            );
        }
        let (mut connection, dialect) = Shard::new(url, Duration::from_secs(10))?.connect()?;
        let (stop, stopped) = channel();
        let work = move || work(&mut connection, dialect, batch, pause, &stopped);
        let thread = std::thread::Builder::new().name("sweeper".into()).spawn(work).doing("start a sweeper")?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }

    /// Stops it after the batch that it is at, and says how many entries it has removed; or what ended it before.
    pub fn stop(mut self) -> Result<u64> {
        self.end().unwrap_or(Ok(0))
    }

    fn end(&mut self) -> Option<Result<u64>> {
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

fn work(connection: &mut Conn, dialect: Dialect, batch: usize, pause: Duration, stopped: &Receiver<()>) -> Result<u64> {
    let mut removed = 0;
    loop {
        let some = sweep(connection, dialect, batch)?;
        removed += some;
        let pause = if some == batch as u64 { Duration::ZERO } else { pause };
        if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return Ok(removed);
        }
    }
}

/// Removes up to `batch` entries that have expired and that nobody holds at this moment; says how many it found.
///
/// It finds them without a lock, by the index on the time: a locking read would hold the first entry behind them too, and that
/// one is alive. Then, in one transaction, it takes those that are free by their keys, looks again, and removes them. At READ
/// COMMITTED nothing else is locked, and no gap into which somebody could want to put a key.
fn sweep(connection: &mut Conn, dialect: Dialect, batch: usize) -> Result<u64> {
    let mut run = || -> mysql::Result<u64> {
        let find = format!("SELECT k, {BEGAN} FROM kv WHERE expires_at <= {BEGAN} ORDER BY expires_at LIMIT ?");
        let found: Vec<(Vec<u8>, u64)> = connection.exec(find, (batch,))?;
        let Some(&(_, now)) = found.first() else { return Ok(0) };
        let some = |keys: usize| format!("kv FORCE INDEX (PRIMARY) WHERE k IN ({})", vec!["?"; keys].join(", "));
        let values = |keys: &[Vec<u8>]| keys.iter().map(|key| Value::from(&key[..])).collect::<Vec<_>>();
        let keys: Vec<Vec<u8>> = found.into_iter().map(|(key, _)| key).collect();
        // For the next transaction alone.
        connection.query_drop("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")?;
        connection.query_drop("START TRANSACTION")?;
        let skip = if dialect.has_skip_locked() { " SKIP LOCKED" } else { "" };
        let take = format!("SELECT k FROM {} AND expires_at <= {now} FOR UPDATE{skip}", some(keys.len()));
        let taken: Vec<Vec<u8>> = connection.exec(take, values(&keys))?;
        if !taken.is_empty() {
            connection.exec_drop(format!("DELETE kv FROM {}", some(taken.len())), values(&taken))?;
        }
        connection.query_drop("COMMIT")?;
        Ok(taken.len() as u64)
    };
    let swept = run();
    if swept.is_err() {
        // What is locked is free again; a server that is gone has freed it.
        let _ = connection.query_drop("ROLLBACK");
    }
    swept.doing("remove expired entries")
}

//! Ours and the pools of the field behind one door, all of them driving the same kind of connection.

use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use deadpool::managed::{Metrics, RecycleError, RecycleResult};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as MySqlError, Opts, OptsBuilder, PoolConstraints, PoolOpts};
use tokio::runtime::Handle;

use super::mysql::opts;
use crate::{MySql, Pool, Pooled, Skip};
use lab::runtime::runtime;
use lab::{Doing, Error, Result};

/// The pools that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rival {
    /// This room's.
    Ours,
    /// `deadpool`: a semaphore around a list.
    Deadpool,
    /// `bb8`: r2d2's design on tokio.
    Bb8,
    /// `r2d2`: a mutex and a condition variable. It blocks, so borrowers wait in threads of their own.
    R2d2,
    /// The pool that comes with `mysql_async`.
    MysqlAsync,
}

impl Rival {
    /// All of them, ours first.
    pub const ALL: [Self; 5] = [Self::Ours, Self::Deadpool, Self::Bb8, Self::R2d2, Self::MysqlAsync];

    /// Its name in charts and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Deadpool => "deadpool",
            Self::Bb8 => "bb8",
            Self::R2d2 => "r2d2",
            Self::MysqlAsync => "mysql_async",
        }
    }
}

impl fmt::Display for Rival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is asked of every pool alike.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    pub size: usize,
    pub acquire_timeout: Duration,
    /// As its documentation recommends: connections are checked when they are lent, or reset when they come back. Otherwise
    /// each pool does the least that it can be told to do, so that all do equal work.
    pub careful: bool,
    /// A step that ours leaves out.
    pub skip: Option<Skip>,
}

impl Setup {
    pub fn of(size: usize) -> Self {
        Self { size, acquire_timeout: Duration::from_secs(30), careful: false, skip: None }
    }
}

/// Ours trusts a connection whose server it has heard from within this time.
const CHECK_AFTER: Duration = Duration::from_millis(100);

/// How the rivals dial and check; what deadpool, bb8 and r2d2 call a manager.
#[derive(Debug, Clone)]
pub(super) struct Adapter {
    opts: Opts,
    careful: bool,
    handle: Handle,
}

/// One of the pools.
#[derive(Clone)]
pub(super) enum AnyPool {
    Ours(Pool<MySql>),
    Deadpool(deadpool::managed::Pool<Adapter>),
    Bb8(bb8::Pool<Adapter>),
    R2d2(r2d2::Pool<Adapter>),
    MysqlAsync(Box<mysql_async::Pool>, Duration),
}

/// A connection of one of the pools.
pub(super) enum AnyConn {
    Ours(Pooled<MySql>),
    Deadpool(deadpool::managed::Object<Adapter>),
    Bb8(bb8::PooledConnection<'static, Adapter>),
    R2d2(r2d2::PooledConnection<Adapter>),
    MysqlAsync(Conn),
}

impl AnyPool {
    pub async fn new(rival: Rival, url: &str, setup: Setup) -> Result<Self> {
        let opts = opts(url)?;
        let (size, limit, careful) = (setup.size, setup.acquire_timeout, setup.careful);
        let number = u32::try_from(size).doing("size a pool")?;
        let adapter = Adapter { opts: opts.clone(), careful, handle: runtime().handle().clone() };
        Ok(match rival {
            Rival::Ours => {
                let pool = Pool::builder(MySql::new(url)?).size(size).acquire_timeout(limit).skip(setup.skip);
                let pool = pool.check_after(if careful { CHECK_AFTER } else { Duration::MAX });
                Self::Ours(pool.build()?)
            }
            Rival::Deadpool => {
                let pool = deadpool::managed::Pool::builder(adapter).max_size(size).wait_timeout(Some(limit));
                let pool = pool.create_timeout(Some(limit)).recycle_timeout(Some(limit));
                Self::Deadpool(pool.runtime(deadpool::Runtime::Tokio1).build().doing("make a deadpool")?)
            }
            Rival::Bb8 => {
                let pool = bb8::Pool::builder().max_size(number).connection_timeout(limit).test_on_check_out(careful);
                Self::Bb8(pool.build_unchecked(adapter))
            }
            Rival::R2d2 => {
                let pool = r2d2::Pool::builder().max_size(number).min_idle(Some(0)).connection_timeout(limit);
                let pool = pool.test_on_check_out(careful).error_handler(Box::new(r2d2::NopErrorHandler));
                Self::R2d2(pool.build_unchecked(adapter))
            }
            Rival::MysqlAsync => {
                let constraints = PoolConstraints::new(size, size)
                    .ok_or_else(|| Error::new("make mysql_async's pool", "it needs a size above zero"))?;
                let pool = PoolOpts::new().with_constraints(constraints).with_reset_connection(careful);
                let opts = OptsBuilder::from_opts(opts).pool_opts(pool);
                Self::MysqlAsync(Box::new(mysql_async::Pool::new(opts)), limit)
            }
        })
    }

    /// Borrows a connection.
    pub async fn get(&self) -> Result<AnyConn> {
        let doing = "borrow a connection";
        Ok(match self {
            Self::Ours(pool) => AnyConn::Ours(pool.get().await.doing(doing)?),
            Self::Deadpool(pool) => AnyConn::Deadpool(pool.get().await.doing(doing)?),
            Self::Bb8(pool) => {
                let got = pool.get_owned().await;
                AnyConn::Bb8(got.doing(doing)?)
            }
            Self::R2d2(pool) => {
                let pool = pool.clone();
                let got = tokio::task::spawn_blocking(move || pool.get()).await.doing(doing)?;
                AnyConn::R2d2(got.doing(doing)?)
            }
            // It has no timeout of its own.
            Self::MysqlAsync(pool, limit) => {
                let got = tokio::time::timeout(*limit, pool.get_conn()).await.doing(doing)?;
                AnyConn::MysqlAsync(got.doing(doing)?)
            }
        })
    }

    /// A pool that has dialled all of its connections, so that dialling is not part of what is measured.
    pub async fn warmed(rival: Rival, url: &str, setup: Setup) -> Result<Self> {
        let pool = Self::new(rival, url, setup).await?;
        pool.hold(setup.size).await.map(|_| pool)
    }

    /// Borrows so many connections at once.
    pub async fn hold(&self, connections: usize) -> Result<Vec<AnyConn>> {
        let mut held = Vec::new();
        for _ in 0..connections {
            held.push(self.get().await?);
        }
        Ok(held)
    }

    /// Closes it, and its connections.
    pub async fn end(self) {
        match self {
            Self::Ours(pool) => drop(pool.close(Duration::from_millis(200)).await),
            Self::Deadpool(pool) => pool.close(),
            Self::Bb8(pool) => drop(pool),
            // Its threads end when it is dropped, which waits for them.
            Self::R2d2(pool) => drop(tokio::task::spawn_blocking(move || drop(pool)).await),
            Self::MysqlAsync(pool, _) => drop(tokio::time::timeout(Duration::from_secs(1), pool.disconnect()).await),
        }
    }
}

impl Deref for AnyConn {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        match self {
            Self::Ours(connection) => connection,
            Self::Deadpool(connection) => connection,
            Self::Bb8(connection) => connection,
            Self::R2d2(connection) => connection,
            Self::MysqlAsync(connection) => connection,
        }
    }
}

impl DerefMut for AnyConn {
    fn deref_mut(&mut self) -> &mut Conn {
        match self {
            Self::Ours(connection) => connection,
            Self::Deadpool(connection) => connection,
            Self::Bb8(connection) => connection,
            Self::R2d2(connection) => connection,
            Self::MysqlAsync(connection) => connection,
        }
    }
}

impl Adapter {
    fn dial(&self) -> impl Future<Output = Result<Conn, MySqlError>> + Send + use<> {
        Conn::new(self.opts.clone())
    }
}

impl deadpool::managed::Manager for Adapter {
    type Type = Conn;
    type Error = MySqlError;

    async fn create(&self) -> Result<Conn, MySqlError> {
        self.dial().await
    }

    async fn recycle(&self, connection: &mut Conn, _: &Metrics) -> RecycleResult<MySqlError> {
        if connection.is_disconnected() {
            return Err(RecycleError::message("disconnected"));
        }
        if self.careful {
            connection.ping().await?;
        }
        Ok(())
    }
}

impl bb8::ManageConnection for Adapter {
    type Connection = Conn;
    type Error = MySqlError;

    async fn connect(&self) -> Result<Conn, MySqlError> {
        self.dial().await
    }

    async fn is_valid(&self, connection: &mut Conn) -> Result<(), MySqlError> {
        connection.ping().await
    }

    fn has_broken(&self, connection: &mut Conn) -> bool {
        connection.is_disconnected()
    }
}

impl r2d2::ManageConnection for Adapter {
    type Connection = Conn;
    type Error = MySqlError;

    fn connect(&self) -> Result<Conn, MySqlError> {
        self.handle.block_on(self.dial())
    }

    fn is_valid(&self, connection: &mut Conn) -> Result<(), MySqlError> {
        self.handle.block_on(connection.ping())
    }

    fn has_broken(&self, connection: &mut Conn) -> bool {
        connection.is_disconnected()
    }
}

//! What can be set about a pool, and what is refused.

use std::time::Duration;

use tokio::runtime::Handle;

use super::manager::Manager;
use super::permits::Skip;
use super::pool::Pool;
use lab::runtime::runtime;
use lab::{Error, Result};

/// A pool in the making; see [`Pool::builder`].
#[derive(Debug, Clone)]
pub struct Builder<M> {
    manager: M,
    settings: Settings,
}

/// How a pool behaves.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub size: usize,
    pub acquire_timeout: Duration,
    pub connect_timeout: Duration,
    pub check_timeout: Duration,
    pub check_after: Duration,
    pub max_lifetime: Option<Duration>,
    pub idle_timeout: Option<Duration>,
    pub retry_after: Duration,
    pub skip: Option<Skip>,
}

impl<M: Manager> Builder<M> {
    pub(super) fn new(manager: M) -> Self {
        let seconds = Duration::from_secs;
        let settings = Settings {
            size: 10,
            acquire_timeout: seconds(5),
            connect_timeout: seconds(1),
            check_timeout: seconds(1),
            check_after: seconds(1),
            max_lifetime: Some(seconds(1800)),
            idle_timeout: Some(seconds(600)),
            retry_after: Duration::from_millis(100),
            skip: None,
        };
        Self { manager, settings }
    }

    /// How many connections there may be at once; 10.
    pub fn size(mut self, connections: usize) -> Self {
        self.settings.size = connections;
        self
    }

    /// How long a borrower waits, all in all: in the queue, for a check, for a new connection; 5 s.
    pub fn acquire_timeout(mut self, longest: Duration) -> Self {
        self.settings.acquire_timeout = longest;
        self
    }

    /// How long dialling may take before the server counts as down; 1 s.
    pub fn connect_timeout(mut self, longest: Duration) -> Self {
        self.settings.connect_timeout = longest;
        self
    }

    /// How long the answer to a check, or to cleaning and closing, may take; 1 s.
    pub fn check_timeout(mut self, longest: Duration) -> Self {
        self.settings.check_timeout = longest;
        self
    }

    /// A connection on which the pool has heard nothing of the server for this long is checked before it is lent; 1 s. One that
    /// was dialled, checked or cleaned just now is not, unless something has broken since.
    pub fn check_after(mut self, unheard: Duration) -> Self {
        self.settings.check_after = unheard;
        self
    }

    /// How old a connection may get; half an hour. Each is up to a tenth younger when it goes, so that they do not all go at
    /// once. `None` is for ever.
    pub fn max_lifetime(mut self, age: impl Into<Option<Duration>>) -> Self {
        self.settings.max_lifetime = age.into();
        self
    }

    /// How long a connection may lie idle before it is closed; ten minutes. `None` is for ever.
    pub fn idle_timeout(mut self, idle: impl Into<Option<Duration>>) -> Self {
        self.settings.idle_timeout = idle.into();
        self
    }

    /// After somebody could not reach the server, how long nobody tries again; 0.1 s. Then one does, and all others are told so.
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.settings.retry_after = pause;
        self
    }

    /// Leaves a step out, for experiments.
    pub fn skip(mut self, skip: impl Into<Option<Skip>>) -> Self {
        self.settings.skip = skip.into();
        self
    }

    /// The pool. It dials nobody yet; see [`Pool::warm`].
    pub fn build(self) -> Result<Pool<M>> {
        let settings = &self.settings;
        let refused = |cause: &str, remedy: &str| Err(Error::new("make a connection pool", cause).remedy(remedy));
        if settings.size == 0 {
            return refused("a pool of no connections lends none", "give it a size of one at least");
        }
        if settings.max_lifetime == Some(Duration::ZERO) || settings.idle_timeout == Some(Duration::ZERO) {
            return refused("no connection lives for no time at all", "give None for a connection that lives for ever");
        }
        if settings.connect_timeout.is_zero() || settings.check_timeout.is_zero() {
            return refused("no server answers in no time at all", "give dialling and checks a timeout above zero");
        }
        let handle = Handle::try_current().unwrap_or_else(|_| runtime().handle().clone());
        Ok(Pool::new(self.manager, self.settings, handle))
    }
}

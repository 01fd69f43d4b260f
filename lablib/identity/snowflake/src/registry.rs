//! Leases the workers' numbers of one kind of ids, so that no two make the same; its record is in a Redis.
//!
//! A lease is an interval of *timestamps*, the ones in the ids. Intervals of one worker never overlap, because Redis ends
//! one before it begins the next; and an id carries its timestamp with it. So while Redis remembers, uniqueness depends on
//! nobody's clock and on nobody's speed: a holder that slept through its lease finds the clock outside of it, and clocks
//! decide only who waits.
//!
//! A Redis that may have forgotten can only wait until everything is over that it may have granted, and when that is, its
//! clock says: [`Terms::max_skew`] is how far that may be off. If it runs ten minutes fast, is corrected, and forgets, the
//! timestamps of those ten minutes are granted again. Nothing but a disk that is trusted helps against that.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::{Client, Connection, Script};
use serde::{Deserialize, Serialize};

use super::generator::Snowflake;
use super::layout::{Layout, Moment};
use super::lease::Lease;
use lab::clock::{Clock, SystemClock};
use lab::{Doing, Error, Result};

/// How long Redis may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// Longer leases are a mistake in a unit.
const LONGEST: Duration = Duration::from_secs(400 * 86_400);

/// What all workers of a registry have agreed on, for as long as its ids are in use: a Redis that has forgotten the terms can
/// hold nobody to them. (To change them, let every lease run out by the old ones and the new ones.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// How far a lease goes beyond its holder's clock. It is renewed when half of it is left.
    pub length: Duration,
    /// How far a clock may be off: a member's from its Redis's (one that is further off gets no lease), and Redis's own from
    /// the true time, which nobody can check, and which matters only when it forgets.
    pub max_skew: Duration,
    /// Whether a Redis that was restarted remembers everything: it writes with `appendfsync always`, which is checked,
    /// and no replica is ever promoted in its place, which cannot be. If not, leases begin again only after `length`
    /// plus three times `max_skew`, when all that it may have forgotten is over; a Redis that got its first replica
    /// counts as one that may have forgotten, too. There is one Redis at a time, trusted or not: two that both believe
    /// to be it are not noticed.
    pub trust_disk: bool,
}

/// A step of leasing that can be left out, to see which check notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Skip {
    /// Generators do not compare their timestamps with the lease: its holder looks at it now and then, as one does with
    /// a key that has a time to live.
    Interval,
    /// A Redis that has forgotten everything grants at once.
    Memory,
}

impl Default for Terms {
    fn default() -> Self {
        let (length, max_skew) = (Duration::from_secs(10), Duration::from_secs(1));
        Self { length, max_skew, trust_disk: false }
    }
}

/// Who makes ids in one layout, and gets the workers' numbers from one Redis.
///
/// ```
/// use snowflake::{Registry, Layout, Terms};
/// use lab::service;
/// use std::time::Duration;
///
/// let redis = service::redis();
/// let terms = Terms { length: Duration::from_millis(200), max_skew: Duration::from_millis(50), ..Terms::default() };
/// let registry = Registry::new(redis.url(), "posts", Layout::WORKERS_32, terms).unwrap();
/// let lease = registry.take().unwrap();
/// let id = lease.next_id().unwrap();
/// assert!(lease.interval().holds(registry.layout(), id).unwrap());
/// ```
#[derive(Clone)]
pub struct Registry {
    client: Client,
    name: String,
    layout: Layout,
    terms: Terms,
    skip: Option<Skip>,
    /// What is added to the time that its Redis reads, in milliseconds.
    ahead_ms: u128,
}

/// The timestamps of one lease, as milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// Whose they are.
    pub worker: u64,
    /// The first one.
    pub from: u64,
    /// The first one that is not leased any more.
    pub until: u64,
}

impl Interval {
    /// Whether an id is this worker's, and its timestamp in the interval.
    pub fn holds(&self, layout: Layout, id: u64) -> Result<bool> {
        let parts = layout.decode(id)?;
        Ok(parts.worker == self.worker && (self.from..self.until).contains(&parts.time().0))
    }

    /// Whether two of them share a timestamp of one worker.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.worker == other.worker && self.from < other.until && other.from < self.until
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {} from {} to {}", self.worker, Moment(self.from), Moment(self.until))
    }
}

/// What Redis said to somebody who asked for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Granted(Interval),
    /// Not before this moment: Redis cannot know what it granted before.
    Closed(Moment),
    /// All are taken; the first is free at this moment, unless it is renewed.
    Taken(Moment),
}

impl Registry {
    /// The registry of this name on the Redis with this URL. Nothing is asked yet.
    pub fn new(url: &str, name: &str, layout: Layout, terms: Terms) -> Result<Self> {
        let doing = "open a registry";
        let lengths = Duration::from_millis(1)..=LONGEST;
        if !lengths.contains(&terms.length) || terms.max_skew > LONGEST {
            let cause = format!("a lease of {:?} with a skew of {:?}", terms.length, terms.max_skew);
            return Err(Error::new(doing, cause).remedy("a lease lasts a millisecond at least and a year at most"));
        }
        if name.is_empty() || name.contains(['{', '}']) {
            return Err(Error::new(doing, format!("{name:?} is no name")).remedy("some letters, no braces"));
        }
        let client = Client::open(url).doing(doing)?;
        Ok(Self { client, name: name.to_owned(), layout, terms, skip: None, ahead_ms: 0 })
    }

    /// The same without one of its steps.
    pub fn skipping(mut self, step: impl Into<Option<Skip>>) -> Self {
        self.skip = step.into();
        self
    }

    /// The same on a Redis whose clock reads so much more, for whoever asks by this registry: to see what wrong clocks do.
    pub fn with_redis_ahead(mut self, by: Duration) -> Self {
        self.ahead_ms = by.as_millis();
        self
    }

    /// What its ids look like.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which step it leaves out.
    pub fn skips(&self) -> Option<Skip> {
        self.skip
    }

    /// What its members have agreed on.
    pub fn terms(&self) -> Terms {
        self.terms
    }

    /// A lease on the machine's clock, renewed in the background. Waits where Redis has forgotten what it granted, until all
    /// of that is over; all workers taken is an error. Where the answer is lost, nobody may have the worker until the lease
    /// that it told of is over.
    pub fn take(&self) -> Result<Lease> {
        self.take_on(SystemClock).map(Lease::renewed_in_the_background)
    }

    /// A lease on any clock, renewed by [`Lease::renew`] alone. Waits as [`take`](Self::take) does, on that clock.
    pub fn take_on<C: Clock + 'static>(&self, clock: C) -> Result<Lease<C>> {
        let mut clock = clock;
        loop {
            match self.try_take_on(clock)? {
                Ok(lease) => return Ok(lease),
                Err((opens, again)) => {
                    clock = again;
                    clock.sleep_until(opens.since_1970());
                }
            }
        }
    }

    /// A lease now, or an error that says when there will be one.
    pub fn try_take(&self) -> Result<Lease> {
        match self.try_take_on(SystemClock)? {
            Ok(lease) => Ok(lease.renewed_in_the_background()),
            Err((opens, _)) => {
                let cause = format!("its Redis may have forgotten leases, the last of which is over by {opens}");
                Err(self.error("take a lease", cause).remedy("wait until then"))
            }
        }
    }

    /// The lease; or when leases begin, and the clock back.
    fn try_take_on<C: Clock + 'static>(&self, clock: C) -> Result<Result<Lease<C>, (Moment, C)>> {
        let token = format!("{:032x}", rand::random::<u128>());
        let mut connection = self.connect("take a lease")?;
        match self.ask_for_a_lease(&mut connection, clock.now_ms(), &token)? {
            Answer::Closed(opens) => Ok(Err((opens, clock))),
            Answer::Taken(first) => {
                let cause = format!(
                    "all worker ids are taken ({0} of {0}), and the first is free at {first} unless its holder renews it",
                    self.layout.workers()
                );
                Err(self.error("take a lease", cause).remedy("wait, or choose a layout with more bits for the worker"))
            }
            Answer::Granted(interval) => {
                let ticks = |moment: u64| moment.saturating_sub(self.layout.epoch_ms());
                let unbounded = self.skip == Some(Skip::Interval);
                let until = if unbounded { self.layout.timestamps() } else { ticks(interval.until) };
                let term = (ticks(interval.from), until);
                let ids = Snowflake::within(clock, self.layout, interval.worker, term, true)?;
                Ok(Ok(Lease::new(self.clone(), token, Arc::new(ids))))
            }
        }
    }

    pub(super) fn ask_for_a_lease(&self, connection: &mut Connection, now: u64, token: &str) -> Result<Answer> {
        let doing = "take a lease";
        // Neither a time before the layout's epoch nor one after its end can be leased.
        if now < self.layout.epoch_ms() || now >= self.layout.end().0 {
            let cause = format!("the clock reads {}, for which {} has no timestamp", Moment(now), self.layout);
            return Err(self.error(doing, cause));
        }
        let said = self.run(connection, doing, TAKE, now, &[token])?;
        let number = |place: usize| self.number(doing, &said, place);
        match said.first().map(String::as_str) {
            Some("ok") => {
                let until = number(3)?.min(self.layout.end().0);
                Ok(Answer::Granted(Interval { worker: number(1)?, from: number(2)?, until }))
            }
            Some("closed") => number(1).map(Moment).map(Answer::Closed),
            _ => number(1).map(Moment).map(Answer::Taken),
        }
    }

    /// The new end of the lease.
    pub(super) fn ask_to_renew(
        &self,
        connection: &mut Connection,
        now: u64,
        token: &str,
        worker: u64,
    ) -> Result<Option<u64>> {
        let doing = "renew a lease";
        let said = self.run(connection, doing, RENEW, now, &[token, &worker.to_string()])?;
        if said.first().is_some_and(|word| word == "lost") {
            return Ok(None);
        }
        self.number(doing, &said, 1).map(Some)
    }

    /// Whether it was still ours to give back.
    pub(super) fn give_back(
        &self,
        connection: &mut Connection,
        now: u64,
        token: &str,
        interval: Interval,
    ) -> Result<bool> {
        let arguments = [token, &interval.worker.to_string(), &interval.until.to_string()];
        let said = self.run(connection, "give a lease back", RELEASE, now, &arguments)?;
        Ok(said.first().is_some_and(|word| word == "ok"))
    }

    pub(super) fn connect(&self, doing: &str) -> Result<Connection> {
        let fail = |cause: redis::RedisError| self.error(doing, format!("its Redis cannot be asked ({cause})"));
        let mut connection = self.client.get_connection_with_timeout(ANSWER).map_err(fail)?;
        connection
            .set_read_timeout(Some(ANSWER))
            .and_then(|()| connection.set_write_timeout(Some(ANSWER)))
            .map_err(fail)?;
        if self.terms.trust_disk {
            self.check_disk(&mut connection, doing)?;
        }
        Ok(connection)
    }

    fn check_disk(&self, connection: &mut Connection, doing: &str) -> Result<()> {
        // While it rewrites its file it would not sync at all, if it were told so by the last of them.
        let settings = [("appendonly", "yes"), ("appendfsync", "always"), ("no-appendfsync-on-rewrite", "no")];
        for (setting, wanted) in settings {
            let answer: redis::RedisResult<Vec<String>> =
                redis::cmd("CONFIG").arg("GET").arg(setting).query(connection);
            let found =
                answer.map_err(|cause| self.error(doing, format!("its Redis does not tell {setting} ({cause})")))?;
            if found.get(1).is_none_or(|value| value != wanted) {
                let cause = format!("its terms trust the disk, and {setting} is {:?}", found.get(1).map_or("", |v| v));
                return Err(self
                    .error(doing, cause)
                    .remedy(format!("set {setting} {wanted}, or do not trust the disk")));
            }
        }
        Ok(())
    }

    fn run(
        &self,
        connection: &mut Connection,
        doing: &str,
        script: &str,
        now: u64,
        arguments: &[&str],
    ) -> Result<Vec<String>> {
        let begins = match self.skip {
            Some(Skip::Memory) => BEGINS.replace("here + length + 3 * skew", "0"),
            _ => BEGINS.to_owned(),
        };
        let begins = begins.replace("local here = ", &format!("local here = {} + ", self.ahead_ms));
        let script = Script::new(&format!("{begins}{script}"));
        let mut call = script.prepare_invoke();
        for part in ["registry", "until", "holder", "given"] {
            call.key(format!("snowflake:{{{}}}:{part}", self.name));
        }
        let ms = |time: Duration| time.as_millis().to_string();
        // What a lease's end is reckoned from must be the same for all, or one could outlast what another waits for; and who
        // trusts the disk would vouch for a restart to those who do not.
        let Terms { length, max_skew, trust_disk } = self.terms;
        let trusts = if trust_disk { "a disk that is trusted" } else { "a disk that is not trusted" };
        let agreement = format!("{}, leases of {length:?}, clocks within {max_skew:?}, {trusts}", self.layout);
        call.arg(now).arg(ms(self.terms.length)).arg(ms(self.terms.max_skew)).arg(self.layout.workers());
        call.arg(&agreement).arg(u8::from(self.terms.trust_disk)).arg(arguments);
        let said: Vec<String> =
            call.invoke(connection).map_err(|cause| self.error(doing, format!("its Redis said {cause}")))?;
        match said.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["skewed", by] => {
                let cause =
                    format!("this clock is {by} ms ahead of its Redis's, and {:?} are allowed", self.terms.max_skew);
                Err(self.error(doing, cause).remedy("set the clock right"))
            }
            ["disagrees", theirs] => {
                let cause = format!("it was founded for {theirs}, not for {agreement}");
                Err(self.error(doing, cause).remedy("use its terms, or another name"))
            }
            [] => Err(self.error(doing, "its Redis said nothing")),
            _ => Ok(said),
        }
    }

    fn number(&self, doing: &str, said: &[String], place: usize) -> Result<u64> {
        let word = said.get(place).map_or("", String::as_str);
        // Redis writes a large score as 1.7e+12 where it likes.
        let number = word.parse::<u64>().ok().or_else(|| word.parse::<f64>().ok().map(|number| number as u64));
        number.ok_or_else(|| self.error(doing, format!("its Redis said {said:?}")))
    }

    pub(super) fn error(&self, doing: &str, cause: impl fmt::Display) -> Error {
        Error::new(doing, cause).at(format!("the registry {}", self.name))
    }
}

const BEGINS: &str = include_str!("registry.lua");
const TAKE: &str = include_str!("take.lua");
const RENEW: &str = include_str!("renew.lua");
const RELEASE: &str = include_str!("release.lua");

/// Without the password in the URL.
impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registry({:?}, {}, {:?})", self.name, self.layout, self.terms)
    }
}

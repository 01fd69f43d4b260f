//! The generator: one atomic word, a clock, and the interval of timestamps that it may use.

use std::fmt;
use std::time::Duration;

use super::layout::{Layout, Moment};
use super::slots::{Held, Slots, Word};
use lab::clock::{Clock, SystemClock};
use lab::{Error, Result};

/// How far back the clock may step without an error, if nothing else is said: the callers wait this long at most.
pub const SMALL_STEP: Duration = Duration::from_millis(100);
/// How much longer than that a wall clock may stand still before the generator says so.
const STANDSTILL: Duration = Duration::from_millis(20);

/// Makes unique ids, each larger than the one before, from as many threads as you like.
///
/// ```
/// use snowflake::{Layout, Snowflake};
///
/// let ids = Snowflake::new(Layout::WORKERS_1024, 7).unwrap();
/// let (first, second) = (ids.next_id().unwrap(), ids.next_id().unwrap());
/// assert!(first < second);
/// assert_eq!(ids.layout().decode(first).unwrap().worker, 7);
/// ```
///
/// Two generators with one worker number make the same ids: a [`Registry`](super::Registry) sees to it that there are none.
pub struct Snowflake<C: Clock = SystemClock> {
    layout: Layout,
    worker: u64,
    clock: C,
    small_step_ms: u64,
    slots: Slots<Word>,
    leased: bool,
}

/// A caller's wait for the clock: it ends with an id, or with an error.
#[derive(Default)]
struct Patience {
    /// The wall clock when it last moved on, and the monotonic time then.
    moved: Option<(u64, Duration)>,
}

impl Snowflake {
    /// On the machine's clock.
    pub fn new(layout: Layout, worker: u64) -> Result<Self> {
        Self::on(SystemClock, layout, worker)
    }
}

impl<C: Clock> Snowflake<C> {
    /// On any clock.
    pub fn on(clock: C, layout: Layout, worker: u64) -> Result<Self> {
        Self::within(clock, layout, worker, (0, layout.timestamps()), false)
    }

    /// For timestamps from `term.0` and before `term.1` only.
    pub(super) fn within(clock: C, layout: Layout, worker: u64, term: (u64, u64), leased: bool) -> Result<Self> {
        layout.check_worker(worker)?;
        let slots = Slots::new(layout.sequence_bits(), term.0, term.1.min(layout.timestamps()));
        Ok(Self { layout, worker, clock, small_step_ms: millis(SMALL_STEP), slots, leased })
    }

    /// How far back the clock may step so that callers wait instead of getting an error.
    pub fn waiting_for_steps_up_to(mut self, step: Duration) -> Self {
        self.small_step_ms = millis(step);
        self
    }

    /// What its ids look like.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Whose ids they are.
    pub fn worker(&self) -> u64 {
        self.worker
    }

    /// The clock that it reads.
    pub fn clock(&self) -> &C {
        &self.clock
    }

    /// The next id. Waits for the next millisecond when this one is full, and for the clock when it stepped back a little.
    pub fn next_id(&self) -> Result<u64> {
        match self.attempt() {
            Ok(id) => Ok(id),
            Err(held) => self.wait(held),
        }
    }

    /// The next id, or None where [`next_id`](Self::next_id) would wait.
    pub fn try_next_id(&self) -> Result<Option<u64>> {
        match self.attempt() {
            Ok(id) => Ok(Some(id)),
            Err(held) => Patience::default().left(self, held).map(|_| None),
        }
    }

    fn attempt(&self) -> Result<u64, Held> {
        let slot = self.slots.take(|| self.clock.now_ms().checked_sub(self.layout.epoch_ms()))?;
        Ok(self.layout.join(slot, self.worker))
    }

    #[cold]
    fn wait(&self, mut held: Held) -> Result<u64> {
        let mut patience = Patience::default();
        loop {
            let (goal, left) = patience.left(self, held)?;
            // Not simply for so long: the clock may have moved since it was read, and not simply until then: somebody may
            // set it back.
            self.clock.sleep_toward(goal, left);
            match self.attempt() {
                Ok(id) => return Ok(id),
                Err(again) => held = again,
            }
        }
    }

    /// The timestamps (since the epoch) that it may use: from, and before.
    pub(super) fn term(&self) -> (u64, u64) {
        (self.slots.from(), self.slots.until())
    }

    /// More timestamps. What was allowed stays allowed.
    pub(super) fn extend(&self, until: u64) {
        self.slots.extend(until.min(self.layout.timestamps()));
    }

    /// No id any more, from now on. The first timestamp of which none was used.
    pub(super) fn close(&self) -> u64 {
        self.slots.close()
    }

    fn moment(&self, timestamp: u64) -> Moment {
        Moment(self.layout.epoch_ms().saturating_add(timestamp))
    }

    fn refusal(&self, cause: String) -> Error {
        Error::new("make an id", cause).at(format!("worker {}", self.worker))
    }
}

impl Patience {
    /// Until when, and so for how long, to wait before another attempt is worth it; an error where waiting is no use, or has been long enough.
    fn left<C: Clock>(&mut self, ids: &Snowflake<C>, held: Held) -> Result<(Duration, Duration)> {
        let layout = ids.layout;
        let (last, goal, now) = match held {
            Held::Full { last, goal, now } => (last, goal, now),
            Held::NoTimestamp => {
                let now = Moment(ids.clock.now_ms());
                let refusal = ids.refusal(format!("the clock reads {now}, which is before the epoch"));
                return Err(refusal.remedy(format!("{layout} counts no earlier time")));
            }
            Held::Beyond { now, until } => {
                let (now, end) = (ids.moment(now), ids.moment(until));
                return Err(match ids.leased && until < layout.timestamps() {
                    true => ids
                        .refusal(format!("the clock reads {now}, and the lease ended at {end}"))
                        .remedy("renew the lease, or take another"),
                    false => ids
                        .refusal(format!("the clock reads {now}, and the timestamps are used up"))
                        .remedy(format!("{layout} ends at {}", layout.end())),
                });
            }
            Held::Closed => return Err(ids.refusal("its lease was given back".into())),
        };
        let back = last.saturating_sub(now);
        if back > ids.small_step_ms {
            let refusal = ids.refusal(format!("the clock stepped back by {:?}", Duration::from_millis(back)));
            return Err(refusal.remedy("wait until it has caught up, or correct it"));
        }
        let monotonic = ids.clock.monotonic();
        match self.moved {
            Some((wall, since)) if now <= wall => {
                let still = monotonic.saturating_sub(since);
                if still > Duration::from_millis(ids.small_step_ms) + STANDSTILL {
                    let still = Duration::from_millis(millis(still));
                    return Err(ids.refusal(format!("the clock has not moved on for {still:?}")));
                }
            }
            _ => self.moved = Some((now, monotonic)),
        }
        let goal = ids.moment(goal).since_1970();
        Ok((goal, goal.saturating_sub(ids.clock.now())))
    }
}

impl<C: Clock> fmt::Debug for Snowflake<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snowflake(worker {}, {})", self.worker, self.layout)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

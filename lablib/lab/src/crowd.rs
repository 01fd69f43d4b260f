//! Clients at work, while something happens to the servers; and what each of them saw.
//!
//! - Everybody starts at the same moment, connected before it: what [`with`](Crowd::with) opens is open before the clock starts.
//! - Every call is in the frame, also the one that failed; by arrivals, its time counts from when it was due, not from when somebody
//!   came round to it (leaving that out is coordinated omission).
//! - No thread outlives the run, none is waited for without a limit on how long it begins new calls, and a panic in one is an error.
//! - Events happen one after the other, at their moments, and are marked; one that fails ends the run, and so does a call, unless
//!   the clients are [`enduring`](Crowd::enduring). Those that are left happen all the same, at once: what was paused goes on.
//! - Where a checker is to judge what clients saw, they record it in a [`History`](crate::history::History) under their
//!   [numbers](Call::client), as well: a call's place in the frame is measured around the work, its place in the history within it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::{Error, Frame, OrFail, Result, Value, joined};

/// Clients and what they do; [`run`](Crowd::run) lets them loose.
pub struct Crowd<'a, S = usize> {
    open: Box<dyn FnMut(usize) -> Result<S> + 'a>,
    plan: Plan<'a>,
}

/// All but what the clients have in hand.
struct Plan<'a> {
    clients: usize,
    until: Until,
    patience: Duration,
    enduring: bool,
    events: Vec<Event<'a>>,
    look: Option<(Duration, Box<Look<'a>>)>,
}

type Look<'a> = dyn FnMut(&mut Call) -> Result<()> + Send + 'a;

#[derive(Debug, Clone)]
enum Until {
    /// Each client has made so many calls.
    Times(u64),
    /// Each client has made its own number of calls.
    Each(Vec<u64>),
    /// So much time is over, or so much since the last event.
    Over(Duration),
    /// Calls that came at this rate for so long are answered.
    Arrivals(f64, Duration),
}

struct Event<'a> {
    when: When,
    name: String,
    act: Box<dyn FnOnce() -> Result<()> + 'a>,
}

enum When {
    /// So long after the start, or after the event before it.
    After(Duration),
    /// When all clients together have made so many calls.
    Calls(u64),
}

/// One call that a client makes: what it leaves about itself beside when it began and how long it took.
#[derive(Debug)]
pub struct Call {
    client: usize,
    number: u64,
    start: Instant,
    done: Done,
    last: bool,
    rest: Duration,
}

#[derive(Debug, Default, Clone)]
struct Done {
    client: usize,
    at: f64,
    took: f64,
    service: f64,
    failure: Option<String>,
    tags: Vec<(String, String)>,
    notes: Vec<(String, String, Option<f64>)>,
}

/// What a crowd did.
#[derive(Debug)]
pub struct Ran<S> {
    /// A row for each call, in the order in which they began: client, at and took (s), outcome (`done` or `failed`), why; then
    /// whatever the calls tagged and noted. By arrivals, `took` counts from when the call was due, and `service` from when it began.
    pub frame: Frame,
    /// What happened meanwhile: event, began and ended (s).
    pub events: Frame,
    /// What somebody saw who looked on: at (s), and whatever the looks tagged and noted.
    pub seen: Frame,
    /// From the start until the last client was done.
    pub seconds: f64,
    /// What the clients had in hand.
    pub states: Vec<S>,
}

impl<'a> Crowd<'a> {
    /// So many clients, each with its number in hand, that make one call each unless something else is said.
    ///
    /// ```
    /// use lab::Crowd;
    ///
    /// let ran = Crowd::of(3).times(4).run(|client, call| {
    ///     call.tag("kind", if *client == 0 { "writer" } else { "reader" });
    ///     Ok(())
    /// });
    /// let frame = ran.unwrap().frame;
    /// assert_eq!(frame.filter("kind", "reader").height(), 8);
    /// ```
    pub fn of(clients: usize) -> Self {
        let (until, patience) = (Until::Times(1), Duration::from_secs(120));
        let plan = Plan { clients, until, patience, enduring: false, events: Vec::new(), look: None };
        Self { open: Box::new(Ok), plan }
    }

    /// They share these among them: whoever is free takes the next. What came of each, in the order of the list; the first error
    /// ends it.
    ///
    /// ```
    /// use lab::Crowd;
    ///
    /// let squares = Crowd::of(4).map(1..=5, |number| Ok(number * number));
    /// assert_eq!(squares.unwrap(), [1, 4, 9, 16, 25]);
    /// ```
    pub fn map<T: Send, R: Send>(
        mut self,
        list: impl IntoIterator<Item = T>,
        work: impl Fn(T) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let list: Vec<T> = list.into_iter().collect();
        self.plan.until = Until::Times(u64::MAX);
        let left = Mutex::new(list.into_iter().enumerate());
        let ran = self.with(|_| Ok(Vec::new())).run(|done: &mut Vec<(usize, R)>, call| {
            // Not held while the work is done.
            let next = left.lock().unwrap_or_else(PoisonError::into_inner).next();
            match next {
                Some((place, one)) => done.push((place, work(one)?)),
                None => call.last(),
            }
            Ok(())
        })?;
        let mut done: Vec<(usize, R)> = ran.states.into_iter().flatten().collect();
        done.sort_by_key(|(place, _)| *place);
        Ok(done.into_iter().map(|(_, result)| result).collect())
    }
}

impl<'a, S: 'a> Crowd<'a, S> {
    /// A client for each of these, which it has in hand.
    pub fn holding(states: impl IntoIterator<Item = S>) -> Self {
        let states: Vec<S> = states.into_iter().collect();
        let plan = Crowd::of(states.len()).plan;
        let mut states = states.into_iter();
        let none = |number| Error::new("hand a client its own", format!("there is none for client {number}"));
        Self { open: Box::new(move |number| states.next().ok_or_else(|| none(number))), plan }
    }
}

impl<S> Ran<S> {
    /// When something that happened meanwhile was over, in seconds; ends the cell where nothing of this name happened.
    pub fn event_ended(&self, name: &str) -> f64 {
        self.moment(name, "ended").or_fail()
    }

    /// When it began.
    pub fn event_began(&self, name: &str) -> f64 {
        self.moment(name, "began").or_fail()
    }

    fn moment(&self, name: &str, which: &str) -> Result<f64> {
        let found = self.events.rows().find(|event| event.text("event") == name).map(|event| event.number(which));
        let known = || format!("what happened is {}", self.events.texts("event").join(", "));
        found.ok_or_else(|| Error::new(format!("find the event {name:?}"), known()))
    }
}

impl<'a, S: Send> Crowd<'a, S> {
    /// What each client has in hand: a connection, a session. All are opened before the first call.
    pub fn with<T: Send>(self, open: impl FnMut(usize) -> Result<T> + 'a) -> Crowd<'a, T> {
        Crowd { open: Box::new(open), plan: self.plan }
    }

    /// Each client makes so many calls.
    pub fn times(mut self, calls: u64) -> Self {
        self.plan.until = Until::Times(calls);
        self
    }

    /// Each client makes its own number of calls, by the client's number.
    pub fn times_each(mut self, calls: impl Fn(usize) -> u64) -> Self {
        self.plan.until = Until::Each((0..self.plan.clients).map(calls).collect());
        self
    }

    /// They go on for so long; where there are events, for so long after the last one.
    pub fn lasting(mut self, time: Duration) -> Self {
        self.plan.until = Until::Over(time);
        self
    }

    /// Calls arrive at this rate, whatever the system does with them, as users do; the clients are how many can be in progress.
    pub fn arriving(mut self, per_second: f64, time: Duration) -> Self {
        self.plan.until = Until::Arrivals(per_second, time);
        self
    }

    /// No new call begins later than this after the start, and the run is an error then; two minutes if nothing is said.
    pub fn within(mut self, patience: Duration) -> Self {
        self.plan.patience = patience;
        self
    }

    /// A call that fails is a row of the frame, and its client goes on.
    pub fn enduring(mut self) -> Self {
        self.plan.enduring = true;
        self
    }

    /// Something that happens so long after the start, or after the event before it was over.
    pub fn meanwhile(mut self, after: Duration, name: &str, act: impl FnOnce() -> Result<()> + 'a) -> Self {
        self.plan.events.push(Event { when: When::After(after), name: name.to_string(), act: Box::new(act) });
        self
    }

    /// Something that happens once all of them together have made so many calls, and after the event before it; an error where they
    /// end before, or do not come so far within their [time](Self::within).
    pub fn once(mut self, calls: u64, name: &str, act: impl FnOnce() -> Result<()> + 'a) -> Self {
        self.plan.events.push(Event { when: When::Calls(calls), name: name.to_string(), act: Box::new(act) });
        self
    }

    /// Somebody looks on meanwhile, at this interval, from the start to the end; what the looks tag and note is
    /// [`seen`](Ran::seen).
    pub fn looking(mut self, every: Duration, look: impl FnMut(&mut Call) -> Result<()> + Send + 'a) -> Self {
        self.plan.look = Some((every, Box::new(look)));
        self
    }

    /// They are at work while something is done, or [longer](Self::lasting): what came of it, and what they did.
    ///
    /// ```
    /// use std::time::Duration;
    /// use lab::Crowd;
    ///
    /// let clients = Crowd::of(2).lasting(Duration::ZERO);
    /// let (found, ran) = clients.during(|| Ok("a leader"), |_, _| Ok(())).unwrap();
    /// assert_eq!((found, ran.states.len()), ("a leader", 2));
    /// ```
    pub fn during<T>(
        self,
        act: impl FnOnce() -> Result<T>,
        work: impl Fn(&mut S, &mut Call) -> Result<()> + Sync,
    ) -> Result<(T, Ran<S>)> {
        let mut done = None;
        let acts = || {
            done = Some(act()?);
            Ok(())
        };
        // What this borrows lives shorter than what the plan does.
        let crowd: Crowd<'_, S> = self;
        let ran = crowd.meanwhile(Duration::ZERO, "done", acts).run(work)?;
        let done = done.ok_or_else(|| Error::new("do something while clients are at work", "it was not begun"))?;
        Ok((done, ran))
    }

    /// Lets them loose and waits for all.
    pub fn run(mut self, work: impl Fn(&mut S, &mut Call) -> Result<()> + Sync) -> Result<Ran<S>> {
        let Plan { clients, until, patience, enduring, events, look } = self.plan;
        if clients == 0 {
            return Err(Error::new("let clients loose", "there is none"));
        }
        if let Until::Arrivals(rate, _) = &until
            && !(rate.is_finite() && *rate > 0.0)
        {
            return Err(Error::new("let clients loose", format!("{rate} calls a second is no rate")));
        }
        let states = (0..clients).map(&mut self.open).collect::<Result<Vec<S>>>()?;
        let by_arrivals = matches!(until, Until::Arrivals(..));
        let shared = Shared {
            over: AtomicBool::new(false),
            gate: Gate::default(),
            stop: AtomicBool::new(false),
            late: AtomicBool::new(false),
            made: AtomicU64::new(0),
            at_work: AtomicUsize::new(clients),
            arrivals: AtomicU64::new(0),
            until,
            patience,
            enduring,
        };
        let Left { start, happened, clients, seen } = shared.let_loose(states, events, look, &work);
        let (events, seen) = (happened?, seen.transpose()?.unwrap_or_default());
        let (mut states, mut calls) = (Vec::new(), Vec::new());
        for client in clients {
            let (state, mut made) = client?;
            states.push(state);
            calls.append(&mut made);
        }
        if shared.late.load(Ordering::SeqCst) {
            let limit = format!("some were still at work after {} s", patience.as_secs_f64());
            return Err(Error::new("see all clients done", limit).remedy("allow them more with within(…)"));
        }
        calls.sort_by(|a, b| a.at.total_cmp(&b.at));
        let (started, seconds) = (Some(start), calls.iter().map(|call| call.at + call.took).fold(0.0, f64::max));
        let frame = frame_of(&calls, by_arrivals)?.taken_at(started);
        let of_events = |moment: fn(&(String, f64, f64)) -> f64| events.iter().map(moment).collect::<Vec<f64>>();
        let happened = Frame::new()
            .text("event", events.iter().map(|event| &event.0))
            .numbers("began", "s", of_events(|event| event.1))
            .numbers("ended", "s", of_events(|event| event.2));
        let seen = tagged(Frame::new().numbers("at", "s", seen.iter().map(|look| look.at)), &seen)?.taken_at(started);
        Ok(Ran { frame, events: happened.taken_at(started), seen, seconds, states })
    }
}

/// What a run leaves: when it began, what happened meanwhile, what each client has in hand and did, and what was seen.
struct Left<S> {
    start: Instant,
    happened: Result<Vec<(String, f64, f64)>>,
    clients: Vec<Result<(S, Vec<Done>)>>,
    seen: Option<Result<Vec<Done>>>,
}

struct Shared {
    gate: Gate,
    stop: AtomicBool,
    /// Everybody is done, and nobody need look on.
    over: AtomicBool,
    late: AtomicBool,
    /// Calls that were made, by everybody.
    made: AtomicU64,
    /// Clients that have not ended.
    at_work: AtomicUsize,
    arrivals: AtomicU64,
    until: Until,
    patience: Duration,
    enduring: bool,
}

/// Where clients wait until all are there; the clock starts when it opens.
#[derive(Default)]
struct Gate {
    /// How many are there, and when it was opened.
    here: Mutex<(usize, Option<Instant>)>,
    changed: Condvar,
}

impl Gate {
    /// A client waits, and hears when it was opened.
    fn pass(&self) -> Instant {
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        here.0 += 1;
        self.changed.notify_all();
        loop {
            if let Some(start) = here.1 {
                return start;
            }
            here = self.changed.wait(here).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Opens it when so many are there.
    fn open(&self, clients: usize) -> Instant {
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        while here.0 < clients {
            here = self.changed.wait(here).unwrap_or_else(PoisonError::into_inner);
        }
        let start = Instant::now();
        here.1 = Some(start);
        self.changed.notify_all();
        start
    }
}

impl Shared {
    fn let_loose<S: Send>(
        &self,
        states: Vec<S>,
        events: Vec<Event<'_>>,
        look: Option<(Duration, Box<Look<'_>>)>,
        work: &(impl Fn(&mut S, &mut Call) -> Result<()> + Sync),
    ) -> Left<S> {
        std::thread::scope(|scope| {
            let (mut clients, mut refused) = (Vec::new(), None);
            for (number, state) in states.into_iter().enumerate() {
                // A machine that has no thread left says so here, and those that wait at the gate must not wait for ever.
                match std::thread::Builder::new().spawn_scoped(scope, move || self.client(number, state, work)) {
                    Ok(client) => clients.push(client),
                    Err(error) => {
                        refused = Some(Error::new(format!("start client {number}"), error));
                        self.stop.store(true, Ordering::SeqCst);
                        break;
                    }
                }
            }
            let start = self.gate.open(clients.len());
            let looking = look.map(|(every, look)| scope.spawn(move || self.look(every, look, start)));
            let happened = refused.map_or_else(|| self.events(events, start), Err);
            if let (Ok(_), Until::Over(time)) = (&happened, &self.until) {
                self.pause(*time);
            }
            // By arrivals and by number, clients end by themselves; after an event that failed, nothing is worth going on for.
            if happened.is_err() || matches!(self.until, Until::Over(_)) {
                self.stop.store(true, Ordering::SeqCst);
            }
            let clients = clients.into_iter().map(|client| joined("run a client", client.join())).collect();
            self.over.store(true, Ordering::SeqCst);
            let seen = looking.map(|looking| joined("look on", looking.join()));
            Left { start, happened, clients, seen }
        })
    }

    fn client<S>(
        &self,
        client: usize,
        mut state: S,
        work: &(impl Fn(&mut S, &mut Call) -> Result<()> + Sync),
    ) -> Result<(S, Vec<Done>)> {
        let start = self.gate.pass();
        let _at_work = AtWork(&self.at_work);
        let _goes = Goes(&self.stop);
        let mut calls = Vec::new();
        for number in 0.. {
            let Some(due) = self.next_call(client, number, start) else { break };
            let began = Instant::now();
            let due = due.unwrap_or(began);
            let mut call = Call::new(client, number, start);
            let outcome = work(&mut state, &mut call);
            let ended = Instant::now();
            call.done.at = (due - start).as_secs_f64();
            call.done.took = (ended - due).as_secs_f64();
            call.done.service = (ended - began).as_secs_f64();
            match outcome {
                Err(error) if !self.enduring => {
                    self.stop.store(true, Ordering::SeqCst);
                    return Err(error);
                }
                Err(error) => call.done.failure = Some(error.to_string()),
                Ok(()) => {}
            }
            calls.push(call.done);
            self.made.fetch_add(1, Ordering::SeqCst);
            if call.last {
                break;
            }
            if !call.rest.is_zero() {
                std::thread::sleep(call.rest);
            }
        }
        std::mem::forget(_goes);
        Ok((state, calls))
    }

    /// Nothing where the client is done; when the next call is due, where it comes by arrival.
    fn next_call(&self, client: usize, number: u64, start: Instant) -> Option<Option<Instant>> {
        if self.stop.load(Ordering::SeqCst) {
            return None;
        }
        let left = match &self.until {
            Until::Times(calls) => number < *calls,
            Until::Each(calls) => calls.get(client).is_some_and(|calls| number < *calls),
            Until::Over(_) | Until::Arrivals(..) => true,
        };
        if !left {
            return None;
        }
        if start.elapsed() > self.patience {
            self.late.store(true, Ordering::SeqCst);
            return None;
        }
        match &self.until {
            Until::Times(_) | Until::Each(_) => Some(None),
            Until::Over(_) => Some(None),
            Until::Arrivals(rate, time) => {
                let arrival = self.arrivals.fetch_add(1, Ordering::Relaxed);
                let after = arrival as f64 / rate;
                if after >= time.as_secs_f64() {
                    return None;
                }
                let due = start + Duration::from_secs_f64(after);
                crate::latency::wait_until(due);
                Some(Some(due))
            }
        }
    }

    fn events(&self, events: Vec<Event<'_>>, start: Instant) -> Result<Vec<(String, f64, f64)>> {
        let (mut happened, mut failed) = (Vec::new(), Ok(()));
        for event in events {
            // Not where a client or an event has failed: what was begun is only ended.
            let waited = match event.when {
                When::After(time) => {
                    self.pause(time);
                    Ok(())
                }
                When::Calls(calls) => self.until(calls, start),
            };
            if waited.is_err() {
                self.stop.store(true, Ordering::SeqCst);
            }
            failed = failed.and(waited);
            let began = start.elapsed().as_secs_f64();
            // Who panics here would leave the clients at work, and whoever waits for them.
            let outcome = joined(&event.name, catch_unwind(AssertUnwindSafe(event.act)));
            happened.push((event.name, began, start.elapsed().as_secs_f64()));
            if outcome.is_err() {
                self.stop.store(true, Ordering::SeqCst);
            }
            failed = failed.and(outcome);
        }
        failed.map(|()| happened)
    }

    fn look(&self, every: Duration, mut look: Box<Look<'_>>, start: Instant) -> Result<Vec<Done>> {
        let mut seen = Vec::new();
        // The last look comes after the end: however short it was, somebody has seen it.
        for number in 0.. {
            let over = self.over.load(Ordering::SeqCst);
            let mut call = Call::new(0, number, start);
            call.done.at = call.now();
            look(&mut call)?;
            seen.push(call.done);
            if over {
                break;
            }
            std::thread::sleep(every);
        }
        Ok(seen)
    }

    /// Waits until so many calls are made, but not for clients that have given up.
    fn until(&self, calls: u64, start: Instant) -> Result<()> {
        while !self.stop.load(Ordering::SeqCst) {
            // In this order: who has ended makes no more.
            let ended = self.at_work.load(Ordering::SeqCst) == 0;
            let made = self.made.load(Ordering::SeqCst);
            if made >= calls {
                break;
            }
            if ended || start.elapsed() > self.patience {
                let cause = format!("they made {made} in {:.1} s", start.elapsed().as_secs_f64());
                return Err(Error::new(format!("see clients make {calls} calls"), cause));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Waits, but not for clients that have given up.
    fn pause(&self, time: Duration) {
        let end = Instant::now() + time;
        while !self.stop.load(Ordering::SeqCst) {
            match end.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => std::thread::sleep(left.min(Duration::from_millis(20))),
                _ => break,
            }
        }
    }
}

/// Says so when its client ends, however it does.
struct AtWork<'a>(&'a AtomicUsize);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Stops the others when its client panics.
struct Goes<'a>(&'a AtomicBool);

impl Drop for Goes<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Call {
    fn new(client: usize, number: u64, start: Instant) -> Self {
        let done = Done { client, ..Done::default() };
        Self { client, number, start, done, last: false, rest: Duration::ZERO }
    }

    /// The client's number.
    pub fn client(&self) -> usize {
        self.client
    }

    /// How many calls this client has made before.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Seconds since the start.
    pub fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// A word about this call; a column of the frame. Said again, it takes the earlier one's place.
    pub fn tag(&mut self, name: &str, word: impl std::fmt::Display) {
        self.done.tags.retain(|tag| tag.0 != name);
        self.done.tags.push((name.to_string(), word.to_string()));
    }

    /// A number about this call; a column of the frame. Said again, it takes the earlier one's place.
    pub fn note(&mut self, name: &str, unit: &str, value: f64) {
        self.note_or_missing(name, unit, Some(value));
    }

    /// The same, where there may be none; the column is there all the same.
    pub fn note_or_missing(&mut self, name: &str, unit: &str, value: Option<f64>) {
        self.done.notes.retain(|note| note.0 != name);
        self.done.notes.push((name.to_string(), unit.to_string(), value));
    }

    /// The client does nothing for so long after this call: users think. No part of how long the call took.
    pub fn rest(&mut self, time: Duration) {
        self.rest = time;
    }

    /// This client makes no more calls.
    pub fn last(&mut self) {
        self.last = true;
    }
}

fn frame_of(calls: &[Done], by_arrivals: bool) -> Result<Frame> {
    let mut frame = Frame::new()
        .counts("client", "", calls.iter().map(|call| call.client as u64))
        .numbers("at", "s", calls.iter().map(|call| call.at))
        .numbers("took", "s", calls.iter().map(|call| call.took));
    if by_arrivals {
        frame = frame.numbers("service", "s", calls.iter().map(|call| call.service));
    }
    frame = frame.text("outcome", calls.iter().map(|call| if call.failure.is_some() { "failed" } else { "done" }));
    if calls.iter().any(|call| call.failure.is_some()) {
        frame = frame.values_in("why", calls.iter().map(|call| word_or_missing(call.failure.as_ref())));
    }
    tagged(frame, calls)
}

/// A column for each word and each number that calls have left about themselves.
fn tagged(mut frame: Frame, calls: &[Done]) -> Result<Frame> {
    let doing = |name: &str| format!("put {name:?} beside each call");
    let mut words: Vec<(&str, Vec<Value>)> = Vec::new();
    let mut notes: Vec<(&str, &str, Vec<Option<f64>>)> = Vec::new();
    for (row, call) in calls.iter().enumerate() {
        for (name, word) in &call.tags {
            let at = words.iter().position(|known| known.0 == name).unwrap_or_else(|| {
                words.push((name, vec![Value::Missing; calls.len()]));
                words.len() - 1
            });
            words[at].1[row] = Value::from(word);
        }
        for (name, unit, value) in &call.notes {
            let at = notes.iter().position(|known| known.0 == name).unwrap_or_else(|| {
                notes.push((name, unit, vec![None; calls.len()]));
                notes.len() - 1
            });
            if notes[at].1 != unit {
                return Err(Error::new(doing(name), format!("it is in {:?} and in {unit:?}", notes[at].1)));
            }
            notes[at].2[row] = *value;
        }
    }
    let free = |frame: &Frame, name: &str| match frame.columns().iter().any(|column| column == name) {
        true => Err(Error::new(doing(name), format!("each has {} already", frame.columns().join(", ")))),
        false => Ok(()),
    };
    for (name, values) in words {
        free(&frame, name)?;
        frame = frame.values_in(name, values);
    }
    for (name, unit, values) in notes {
        free(&frame, name)?;
        frame = frame.numbers_or_missing(name, unit, values);
    }
    Ok(frame)
}

fn word_or_missing(word: Option<&String>) -> Value {
    word.map_or(Value::Missing, Value::from)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_leaves_a_history_that_a_checker_can_judge() {
        use crate::history::History;
        use crate::history::models::{Register, RegisterOp, RegisterRet};

        let register = AtomicU64::new(0);
        let judged = |stale: bool| {
            let history = History::new();
            let ran = Crowd::of(3).times(40).run(|client, call| {
                let number = call.number() * 3 + *client as u64 + 1;
                match call.number() % 2 {
                    0 => {
                        let writing = history.invoke(call.client(), RegisterOp::Write(number));
                        register.store(number, Ordering::SeqCst);
                        writing.ok(RegisterRet::Written);
                    }
                    _ => {
                        let reading = history.invoke(call.client(), RegisterOp::Read);
                        let seen = if stale { 0 } else { register.load(Ordering::SeqCst) };
                        reading.ok(RegisterRet::Value(seen));
                    }
                }
                Ok(())
            });
            let frame = history.frame();
            assert_eq!((ran.unwrap().frame.height(), frame.height()), (120, 120));
            assert_eq!(frame.group(["client"]).count().samples("count").values(), [40.0; 3]);
            register.store(0, Ordering::SeqCst);
            history.check(&Register::starting(0)).is_linearizable()
        };
        assert!(judged(false) && !judged(true));
    }

    #[test]
    fn a_shared_list_keeps_its_order_and_ends_at_the_first_error() {
        let second_done = AtomicBool::new(false);
        let swapped = Crowd::of(2).map([1, 2], |number| {
            // The first waits for the second, so that they end the other way round.
            while number == 1 && !second_done.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            second_done.store(true, Ordering::SeqCst);
            Ok(number * 10)
        });
        assert_eq!(swapped.unwrap(), [10, 20]);
        assert!(Crowd::of(3).map(Vec::<u64>::new(), Ok).unwrap().is_empty());
        let begun = AtomicU64::new(0);
        let refused = Crowd::of(2).map(0..1_000_u64, |number| {
            begun.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(1));
            if number == 3 { Err(Error::new("take the fourth", "it is broken")) } else { Ok(number) }
        });
        assert!(refused.unwrap_err().to_string().contains("it is broken"));
        assert!(begun.load(Ordering::SeqCst) < 1_000);
    }

    #[test]
    fn everybody_makes_his_calls_and_keeps_what_he_had_in_hand() {
        let ran = Crowd::of(3)
            .with(|number| Ok(vec![number]))
            .times(5)
            .run(|mine, call| {
                mine.push(call.number() as usize);
                call.note("odd", "", (call.number() % 2) as f64);
                if call.client() == 1 && call.number() == 2 {
                    call.last();
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(ran.frame.height(), 5 + 3 + 5);
        assert_eq!(ran.frame.filter("client", 1).samples("odd").values(), [0.0, 1.0, 0.0]);
        assert_eq!(ran.states[2], [2, 0, 1, 2, 3, 4]);
        assert!(ran.frame.samples("took").max() <= ran.seconds);
    }

    #[test]
    fn events_happen_in_order_while_they_work() {
        let server = AtomicBool::new(true);
        let ran = Crowd::of(2)
            .lasting(Duration::from_millis(30))
            .enduring()
            .meanwhile(Duration::from_millis(20), "killed", || {
                server.store(false, Ordering::SeqCst);
                Ok(())
            })
            .meanwhile(Duration::from_millis(20), "back", || {
                server.store(true, Ordering::SeqCst);
                Ok(())
            })
            .run(|_, _| {
                std::thread::sleep(Duration::from_millis(1));
                if server.load(Ordering::SeqCst) { Ok(()) } else { Err(Error::new("ask", "it is gone")) }
            })
            .unwrap();
        let (killed, back) = (ran.event_ended("killed"), ran.event_ended("back"));
        assert_eq!(ran.events.texts("event"), ["killed", "back"]);
        assert!(ran.moment("klled", "ended").unwrap_err().to_string().contains("what happened is killed, back"));
        assert!(ran.event_began("back") >= killed + 0.02 && ran.event_began("back") <= back);
        assert!(back - killed >= 0.02 && ran.seconds - back >= 0.025);
        let failed = ran.frame.filter("outcome", "failed");
        assert!(failed.height() > 0 && failed.texts("why")[0].contains("it is gone"));
        assert!(failed.samples("at").max() <= back, "{failed:?}");
    }

    #[test]
    fn an_event_waits_for_calls_but_not_for_clients_that_have_ended() {
        let made = AtomicU64::new(0);
        let counting = |_: &mut usize, _: &mut Call| {
            made.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        let mut seen = Vec::new();
        let ran = Crowd::of(3)
            .lasting(Duration::ZERO)
            .once(50, "fifty", || {
                seen.push(made.load(Ordering::SeqCst));
                Ok(())
            })
            .once(10, "ten", || Ok(()))
            .run(counting);
        assert!(seen[0] >= 50, "{seen:?}");
        let ran = ran.unwrap();
        assert!(ran.event_began("ten") >= ran.event_ended("fifty") && ran.frame.height() as u64 >= 50);
        let all = Crowd::of(3).times(4).once(12, "all", || Ok(())).run(counting);
        assert_eq!(all.unwrap().frame.height(), 12);
        let mut ended = false;
        let few =
            Crowd::of(3).times(4).once(13, "one more", || Ok(())).meanwhile(Duration::from_secs(60), "heal", || {
                ended = true;
                Ok(())
            });
        let error = few.run(counting).unwrap_err();
        assert!(error.to_string().contains("13 calls") && error.cause().contains("they made 12"), "{error}");
        assert!(ended, "what was begun is ended");
        let slow =
            Crowd::of(1).lasting(Duration::ZERO).within(Duration::from_millis(20)).once(u64::MAX, "never", || Ok(()));
        assert!(
            slow.run(|_, call| {
                call.rest(Duration::from_millis(1));
                Ok(())
            })
            .is_err()
        );
    }

    #[test]
    fn clients_are_at_work_while_something_is_done_and_that_may_fail() {
        let (found, ran) = Crowd::of(2)
            .lasting(Duration::ZERO)
            .during(
                || {
                    std::thread::sleep(Duration::from_millis(20));
                    Ok(7)
                },
                |_, call| {
                    call.rest(Duration::from_millis(1));
                    Ok(())
                },
            )
            .unwrap();
        assert_eq!((found, ran.events.texts("event")), (7, vec!["done".to_string()]));
        assert!(ran.frame.height() > 4);
        let fails =
            Crowd::of(2).lasting(Duration::ZERO).during(|| Err::<(), _>(Error::new("find", "gone")), |_, _| Ok(()));
        assert_eq!(fails.map(|_| ()).unwrap_err().cause(), "gone");
    }

    #[test]
    fn a_failure_a_panic_or_a_failed_event_ends_the_run_for_everybody() {
        let endless = || Crowd::of(3).lasting(Duration::from_secs(60));
        let fails = endless().run(|client, call| {
            std::thread::sleep(Duration::from_millis(1));
            if *client == 1 && call.number() == 3 { Err(Error::new("ask", "no")) } else { Ok(()) }
        });
        assert_eq!(fails.unwrap_err().cause(), "no");
        let panics = endless().run(|client, _| if *client == 2 { panic!("on purpose") } else { Ok(()) });
        assert!(panics.unwrap_err().to_string().contains("panicked"));
        let event = endless().meanwhile(Duration::ZERO, "kill", || Err(Error::new("kill", "it is not ours")));
        assert_eq!(event.run(|_, _| Ok(())).unwrap_err().cause(), "it is not ours");
        let gone = AtomicBool::new(true);
        let panics = endless()
            .looking(Duration::from_millis(1), |_| Ok(()))
            .meanwhile(Duration::ZERO, "kill", || panic!("on purpose"))
            .meanwhile(Duration::from_secs(60), "start again", || {
                gone.store(false, Ordering::SeqCst);
                Ok(())
            });
        assert!(panics.run(|_, _| Ok(())).unwrap_err().to_string().contains("panicked"));
        assert!(!gone.load(Ordering::SeqCst), "what was begun is ended");
        let unopened = Crowd::of(2).with(|number| if number == 1 { Err(Error::new("open", "full")) } else { Ok(()) });
        assert_eq!(unopened.run(|_, _| Ok(())).unwrap_err().cause(), "full");
    }

    #[test]
    fn each_has_its_own_in_hand_its_own_number_of_calls_and_its_own_rest() {
        let mut hands = [vec![1, 2, 3], vec![4], vec![]];
        let dealt = hands.clone();
        let ran = Crowd::holding(hands.iter_mut())
            .times_each(|client| dealt[client].len() as u64)
            .run(|mine, call| {
                mine[call.number() as usize] *= 10;
                call.rest(Duration::from_millis(30));
                Ok(())
            })
            .unwrap();
        assert_eq!((ran.frame.height(), ran.states.len()), (4, 3));
        assert!(ran.seconds >= 0.06 && ran.frame.samples("took").max() < 0.03, "who rests does not work: {ran:?}");
        assert_eq!(hands, [vec![10, 20, 30], vec![40], vec![]]);
    }

    #[test]
    fn somebody_looks_on_from_the_start_to_the_end() {
        let level = AtomicU64::new(0);
        let ran = Crowd::of(1)
            .times(10)
            .looking(Duration::from_millis(1), |look| {
                let level = level.load(Ordering::SeqCst);
                look.note_or_missing("level", "calls", (level > 2).then_some(level as f64));
                look.note_or_missing("never", "", None);
                Ok(())
            })
            .run(|_, _| {
                std::thread::sleep(Duration::from_millis(5));
                level.fetch_add(1, Ordering::SeqCst);
                Ok(())
            })
            .unwrap();
        let levels = ran.seen.samples("level");
        assert!(levels.min() >= 3.0 && levels.max() >= 8.0 && ran.seen.height() > levels.len(), "{:?}", ran.seen);
        assert_eq!((ran.seen.unit("level"), ran.seen.unit("at")), ("calls", "s"));
        assert!(ran.seen.samples("never").is_empty(), "a column without numbers is there all the same");
        assert_eq!(ran.seen.having("level").height(), levels.len());
        assert_eq!(levels.max(), 10.0, "the last look comes after the end");
        let blind = Crowd::of(1).times(3).looking(Duration::ZERO, |_| Err(Error::new("look", "it is dark")));
        assert_eq!(blind.run(|_, _| Ok(())).unwrap_err().cause(), "it is dark");
    }

    #[test]
    fn what_is_said_of_a_call_is_one_thing_in_one_unit_and_no_column_of_the_crowds_own() {
        let ran = Crowd::of(1).times(2).run(|_, call| {
            call.note("wait", "s", 1.0);
            call.note("wait", "s", 2.0);
            if call.number() == 1 {
                call.tag("kind", "late");
            }
            Ok(())
        });
        let frame = ran.unwrap().frame;
        assert_eq!(frame.samples("wait").values(), [2.0, 2.0]);
        assert_eq!(frame.having("kind").height(), 1, "no word is missing, and not empty");
        let units = Crowd::of(2).run(|client, call| {
            call.note("wait", if *client == 0 { "s" } else { "ms" }, 1.0);
            Ok(())
        });
        assert!(units.unwrap_err().cause().contains("and in"));
        for name in ["client", "at", "outcome"] {
            let said = Crowd::of(1).run(|_, call| {
                call.tag(name, "x");
                Ok(())
            });
            assert!(said.unwrap_err().cause().contains("client, at, took"), "{name}");
        }
    }

    #[test]
    fn the_clock_starts_when_everybody_is_there() {
        let ran = Crowd::of(50).run(|_, _| Ok(())).unwrap();
        assert!(ran.frame.samples("at").min() >= 0.0 && ran.seconds < 5.0);
        // The last call may end late: nothing begins after it.
        let last = Crowd::of(1).within(Duration::from_millis(300)).run(|_, _| {
            std::thread::sleep(Duration::from_millis(400));
            Ok(())
        });
        assert_eq!(last.unwrap().frame.height(), 1);
    }

    #[test]
    fn nobody_is_waited_for_without_a_limit() {
        let late = Crowd::of(2).times(u64::MAX).within(Duration::from_millis(10)).run(|_, _| Ok(()));
        assert!(late.unwrap_err().to_string().contains("still at work after 0.01 s"));
        assert!(Crowd::of(0).run(|_, _| Ok(())).is_err());
        assert!(Crowd::of(1).arriving(f64::NAN, Duration::from_secs(1)).run(|_, _| Ok(())).is_err());
    }

    #[test]
    fn who_arrives_while_everybody_is_busy_has_waited_since_then() {
        let ran = Crowd::of(1)
            .arriving(1_000.0, Duration::from_millis(20))
            .run(|_, call| {
                // The first one stalls; the others were due meanwhile.
                if call.number() == 0 {
                    std::thread::sleep(Duration::from_millis(40));
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(ran.frame.height(), 20);
        assert!(ran.frame.samples("took").min() > 0.019, "{:?}", ran.frame.samples("took"));
        assert!(ran.frame.samples("service").median() < 0.01);
    }
}

//! What is measured of checking in: six ways in a race, a sale with failing payments, and everything that goes wrong.

#![allow(missing_docs, reason = "a field is documented where its name leaves something open")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, Opts};

use super::{Audit, Boarding, Desk, Flight, Layout, Rules, Seat, SeatMap, Told, Way};
use lab::errand::{self, Running};
use lab::service::{Counters, MariaDb};
use lab::{Crowd, Doing, Error, Frame, Latency, Link, Progress, Result, Rng, Trial, joined};
use row_locks::Watcher;

/// What happened after the doors had opened.
struct Rush {
    seconds: f64,
    latency: Latency,
    told: Vec<Told>,
    full: u64,
    unpaid: u64,
}

/// Opens the doors for all desks at once, each with its travellers. `serve` checks one traveller in.
fn rush(
    desks: &mut [Desk],
    travellers: &[Vec<u64>],
    serve: impl Fn(&mut Desk, u64) -> Result<Boarding> + Sync,
) -> Result<Rush> {
    let ran = Crowd::holding(desks.iter_mut().map(|desk| (desk, Vec::new())))
        .times_each(|desk| travellers[desk].len() as u64)
        .run(|(desk, answers), call| {
            let traveller = travellers[call.client()][call.number() as usize];
            let boarding = serve(desk, traveller)?;
            answers.push((traveller, boarding, call.now()));
            Ok(())
        })?;
    let latency = ran.frame.latency("took");
    let mut rush = Rush { seconds: 0.0, latency, told: Vec::new(), full: 0, unpaid: 0 };
    for (traveller, boarding, at) in ran.states.into_iter().flat_map(|(_, answers)| answers) {
        rush.seconds = rush.seconds.max(at);
        match boarding {
            Boarding::Seat(seat) | Boarding::Already(seat) => rush.told.push(Told { traveller, seat, at }),
            Boarding::Full => rush.full += 1,
            Boarding::Unpaid => rush.unpaid += 1,
        }
    }
    Ok(rush)
}

/// Travellers 1 to `count`, dealt out to so many desks.
fn dealt(count: u64, desks: usize) -> Vec<Vec<u64>> {
    (0..desks).map(|desk| (1..=count).skip(desk).step_by(desks).collect()).collect()
}

/// One of the six.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arm {
    pub name: &'static str,
    pub way: Way,
    /// Whether one desk serves all travellers, one after the other; else each has a connection of their own.
    pub one_desk: bool,
    published: Option<(f64, u64)>,
}

impl Arm {
    /// One desk for all.
    pub const SEQUENTIAL: Self = Self { one_desk: true, ..Self::new("sequential", Way::NoLock, Some((64.78, 120))) };
    /// Who looks first and writes later.
    pub const NO_LOCK: Self = Self::new("no lock", Way::NoLock, Some((30.49, 9)));
    /// Everybody waits for the first seat that is free.
    pub const FOR_UPDATE: Self = Self::new("FOR UPDATE", Way::ForUpdate, Some((54.88, 120)));
    /// Everybody takes the first seat that nobody holds.
    pub const SKIP_LOCKED: Self = Self::new("SKIP LOCKED", Way::SkipLocked, Some((24.38, 120)));
    /// Whoever comes too late tries again.
    pub const OPTIMISTIC: Self = Self::new("optimistic", Way::Optimistic, None);
    /// Looks and writes in one statement.
    pub const ATOMIC: Self = Self::new("atomic UPDATE", Way::Atomic, None);

    /// The prototype's four ways, and two more.
    pub const ALL: [Self; 6] =
        [Self::SEQUENTIAL, Self::NO_LOCK, Self::FOR_UPDATE, Self::SKIP_LOCKED, Self::OPTIMISTIC, Self::ATOMIC];

    /// What the prototype measured of its four ways: milliseconds, and seats filled of 120.
    pub fn published() -> impl Iterator<Item = (Self, f64, u64)> {
        Self::ALL.into_iter().filter_map(|arm| arm.published.map(|(time, filled)| (arm, time, filled)))
    }

    const fn new(name: &'static str, way: Way, published: Option<(f64, u64)>) -> Self {
        Self { name, way, one_desk: false, published }
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// As many travellers as seats; all ways in turns, all connections dialled before any clock starts. In ms, until the last traveller had an
/// answer (`time`), and of each `check-in`; seats `filled`, those `double booked`, all `faults`, travellers `told full`, and `deadlocks`; for
/// each traveller, seats that were gone (`in vain`) and `lock waits` by the server's count. And the last round of each way as a seat map, by
/// the way's name.
pub fn check_in_race(
    server: &MariaDb,
    layout: Layout,
    rounds: usize,
    seed: u64,
) -> Result<(Trial<Arm>, BTreeMap<&'static str, SeatMap>)> {
    let travellers = u64::from(layout.seats());
    let flight = Flight::create(server, "race", layout, Rules::OneSeatEach)?;
    let mut maps = BTreeMap::new();
    let trial = Trial::over(Arm::ALL, rounds)
        // One arm's connections at a time: six times 120 are more than the server takes.
        .each_turn_anew()
        .open(|arm| {
            let desk = |number| Desk::open(server, &flight, arm.way, Rng::seeded(seed, &format!("{arm} {number}")));
            (0..if arm.one_desk { 1 } else { travellers }).map(desk).collect::<Result<Vec<_>>>()
        })
        .titled("six ways to check in")
        .run(|arm, desks, figures| {
            // A table that was filled and emptied still has the old travellers in its index until they are purged, and whoever
            // checks in again would wait for their neighbours there.
            Flight::create(server, "race", layout, Rules::OneSeatEach)?;
            let before = Counters::of_server(server)?;
            let hands = dealt(travellers, desks.len());
            let rush = rush(desks, &hands, Desk::check_in)?;
            let waits = Counters::of_server(server)?.since(&before).get("Innodb_row_lock_waits")?;
            let audit = Audit::of(&rush.told, &flight.seats(server)?);
            figures.push("time", "ms", rush.seconds * 1e3);
            figures.latency("check-in", &rush.latency);
            figures.push("in vain", "each", desks.iter().map(Desk::in_vain).sum::<u64>() as f64 / travellers as f64);
            figures.push("lock waits", "each", waits / travellers as f64);
            for (figure, count) in [
                ("filled", audit.filled),
                ("double booked", audit.double_booked),
                ("faults", audit.faults()),
                ("told full", rush.full),
                ("deadlocks", desks.iter().map(|desk| desk.tries().deadlocks).sum()),
            ] {
                figures.push(figure, "", count as f64);
            }
            let caption = format!("{arm}: {} of {travellers} seats", audit.filled);
            maps.insert(arm.name, SeatMap { caption, layout, told: rush.told });
            Ok(())
        })?;
    flight.drop(server)?;
    Ok((trial, maps))
}

/// A sale.
#[derive(Debug, Clone, Copy)]
pub struct SaleSpec {
    pub layout: Layout,
    pub travellers: u64,
    /// Desks, each with a connection.
    pub desks: usize,
    /// Of a thousand payments, so many fail.
    pub failing: u64,
    pub seed: u64,
}

/// Sells a flight by each of the ways. A row for each `way`: `seats filled` and those left `empty`, travellers who were `told: full`, those
/// whose `payment failed`, and those who got none of these answers, or two (`unanswered`); seats that are `double booked`, all `faults` of what
/// was told against the table, and the `time` that it took.
pub fn sale(server: &MariaDb, spec: SaleSpec, ways: &[Way]) -> Result<Frame> {
    let mut progress = Progress::new("selling seats", ways.len() as u64);
    let mut run = |&way: &Way| -> Result<Frame> {
        let flight = Flight::create(server, "sale", spec.layout, Rules::OneSeatEach)?;
        let desk = |number: usize| {
            Desk::open(server, &flight, way, Rng::seeded(spec.seed, &format!("desk {number} of {way}")))
        };
        let mut desks = (0..spec.desks).map(desk).collect::<Result<Vec<_>>>()?;
        let hands = dealt(spec.travellers, spec.desks);
        let rush = rush(&mut desks, &hands, |desk, traveller| {
            // Whose payment fails is the traveller's fate, whichever desk and way.
            let pays = Rng::seeded(spec.seed, &format!("purse of {traveller}")).below(1_000) >= spec.failing;
            desk.check_in_paying(traveller, || pays)
        })?;
        let audit = Audit::of(&rush.told, &flight.seats(server)?);
        flight.drop(server)?;
        progress.step();
        let answered = rush.told.len() as u64 + rush.full + rush.unpaid;
        Ok(Frame::new()
            .text("way", [way])
            .counts("seats filled", "", [audit.filled])
            .counts("empty", "", [audit.empty])
            .counts("told: full", "", [rush.full])
            .counts("payment failed", "", [rush.unpaid])
            .counts("double booked", "", [audit.double_booked])
            .numbers("time", "ms", [rush.seconds * 1e3])
            .counts("faults", "", [audit.faults()])
            .counts("unanswered", "", [answered.abs_diff(spec.travellers)]))
    };
    ways.iter().map(&mut run).collect()
}

/// One seat, two travellers. The first one holds it and does not pay; the second one comes meanwhile. A row: by which `way`, whether `the
/// second traveller` was seen to wait, by the server's own report; what that one `is told`, a seat or that the flight is full; and the `seats
/// empty in the end`, of which one is a seat unsold.
pub fn last_seat(server: &MariaDb, way: Way) -> Result<Frame> {
    let flight = Flight::create(server, "last", Layout::new(1, 1)?, Rules::OneSeatEach)?;
    let mut first = Desk::open(server, &flight, way, Rng::seeded(1, "first"))?;
    let mut second = Some(Desk::open(server, &flight, way, Rng::seeded(1, "second"))?);
    let mut watcher = Watcher::new(server)?;
    let (told, waited) = std::thread::scope(|scope| -> Result<(Boarding, bool)> {
        let (mut asking, mut waited) = (None, Ok(false));
        let paid = first.check_in_paying(1, || {
            if let Some(mut second) = second.take() {
                let thread = scope.spawn(move || second.check_in_paying(2, || true));
                waited = seen_to_wait(&mut watcher, || thread.is_finished());
                asking = Some(thread);
            }
            false
        })?;
        let asking = asking.ok_or_else(|| Error::new("hold the last seat", "nobody did"))?;
        if paid != Boarding::Unpaid {
            return Err(Error::new("hold the last seat", "the one who does not pay got it"));
        }
        Ok((joined("ask for the last seat", asking.join())?, waited?))
    })?;
    let empty = flight.seats(server)?.iter().filter(|(_, traveller)| traveller.is_none()).count() as u64;
    flight.drop(server)?;
    Ok(Frame::new()
        .text("way", [way])
        .text("the second traveller", [if waited { "waits" } else { "does not wait" }])
        .text("is told", [if told == Boarding::Full { "full" } else { "a seat" }])
        .counts("seats empty in the end", "", [empty]))
}

/// Whether the server says that somebody waits, before there is an answer.
fn seen_to_wait(watcher: &mut Watcher, answered: impl Fn() -> bool) -> Result<bool> {
    let (came, mut waits) = (Instant::now(), false);
    while !answered() && !waits && came.elapsed() < Duration::from_secs(20) {
        waits = !watcher.waiting()?.is_empty();
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(waits)
}

/// What keeps a traveller from having two seats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    Nothing,
    /// Each desk looks whether the traveller has a seat before it gives one.
    LookFirst,
    /// The database: a unique key.
    Key,
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing",
            Self::LookFirst => "each desk looks first",
            Self::Key => "a unique key",
        })
    }
}

/// Every traveller checks in at two desks at the same moment, under each of the guards. A row for each `guard`: `travellers`, those `with
/// two seats` in the end, and those who were `told two things`: of two different seats, or of none; and the seats taken (`filled`).
pub fn twice(server: &MariaDb, travellers: u64, seed: u64) -> Result<Frame> {
    let guarded = |guard: Guard| {
        let rules = if guard == Guard::Key { Rules::OneSeatEach } else { Rules::Any };
        let layout = Layout::new(travellers.div_ceil(3) as u32 + 1, 6)?;
        let flight = Flight::create(server, "twice", layout, rules)?;
        let desk = |number: u64| {
            Desk::open(server, &flight, Way::SkipThenWait, Rng::seeded(seed, &format!("device {number}")))
        };
        let mut desks = (0..8).map(desk).collect::<Result<Vec<_>>>()?;
        // Desks in pairs, each pair with the same queue.
        let hands: Vec<Vec<u64>> =
            (0..8_u64).map(|desk| (1..=travellers).filter(|traveller| traveller % 4 == desk / 2).collect()).collect();
        let asking: Vec<AtomicU8> = (0..=travellers).map(|_| AtomicU8::new(0)).collect();
        let rush = rush(&mut desks, &hands, |desk, traveller| {
            meet(&asking[traveller as usize]);
            match guard {
                Guard::LookFirst => match desk.seat_of(traveller)? {
                    Some(seat) => Ok(Boarding::Already(seat)),
                    None => desk.check_in(traveller),
                },
                Guard::Nothing | Guard::Key => desk.check_in(traveller),
            }
        })?;
        let audit = Audit::of(&rush.told, &flight.seats(server)?);
        flight.drop(server)?;
        let seats = |traveller| rush.told.iter().filter(move |told| told.traveller == traveller).map(|told| told.seat);
        let confused = (1..=travellers).filter(|&one| seats(one).collect::<BTreeSet<_>>().len() != 1);
        Ok(Frame::new()
            .text("guard", [guard])
            .counts("travellers", "", [travellers])
            .counts("with two seats", "", [audit.with_two])
            .counts("told two things", "", [confused.count() as u64])
            .counts("filled", "", [audit.filled]))
    };
    [Guard::Nothing, Guard::LookFirst, Guard::Key].into_iter().map(guarded).collect()
}

/// Waits until both requests of a traveller are there. If one of the desks has failed, the other goes on by itself.
fn meet(asking: &AtomicU8) {
    let came = Instant::now();
    asking.fetch_add(1, Ordering::SeqCst);
    while asking.load(Ordering::SeqCst) < 2 && came.elapsed() < Duration::from_secs(5) {
        std::thread::yield_now();
    }
}

/// How long we look whether the seat comes back by itself.
const LOOKING: Duration = Duration::from_secs(3);

const DOING: &str = "take a seat and break off";

/// A client whose process is killed, one whose machine vanishes, and one that vanishes where the server has been told to end
/// transactions that say nothing for a second. A row for each `client`: whether the seat `was locked` while the client held it, how long until
/// somebody else could lock it (`free after`; without end if not within three seconds), and whether it was `untaken` then, without a
/// traveller.
pub fn broken_connections(server: &MariaDb) -> Result<Frame> {
    let seen = killed(server)?.stack(&vanished(server, "the machine vanishes", false)?);
    match server.dialect().is_mariadb() {
        true => Ok(seen.stack(&vanished(server, "vanishes, with idle_transaction_timeout = 1", true)?)),
        false => Ok(seen),
    }
}

/// What `lab seat-holder` does: takes a seat of this table at that URL, says by which connection, and waits to be killed.
pub fn seat_holder_process() -> Result<()> {
    let (url, table): (String, String) = errand::told()?;
    let mut client = Conn::new(Opts::from_url(&url).doing(DOING)?).doing(DOING)?;
    let number = hold(&mut client, &table)?;
    errand::say(&number)?;
    // Whoever started it may die first; then nobody would kill it.
    errand::wait_for_the_owner();
    Ok(())
}

/// Takes the first seat in a transaction that stays open; returns the number of the connection.
fn hold(client: &mut Conn, table: &str) -> Result<u64> {
    let connection: Option<u64> = client.query_first("SELECT CONNECTION_ID()").doing(DOING)?;
    client.query_drop("START TRANSACTION").doing(DOING)?;
    client.query_drop(format!("UPDATE {table} SET traveller = 7 WHERE flight = 1 AND seat = 1")).doing(DOING)?;
    connection.ok_or_else(|| Error::new(DOING, "the server does not number its connections"))
}

fn killed(server: &MariaDb) -> Result<Frame> {
    let flight = Flight::create(server, "broken", Layout::new(1, 2)?, Rules::OneSeatEach)?;
    let mut holder = Running::start("seat-holder", &(server.url(), flight.table()))?;
    let number = holder.hear()?;
    look(server, flight, "the process is killed", number, || holder.kill())
}

fn vanished(server: &MariaDb, how: &str, limited: bool) -> Result<Frame> {
    let flight = Flight::create(server, "broken", Layout::new(1, 2)?, Rules::OneSeatEach)?;
    let link = Link::to(server.address())?;
    let url = server.url().replacen(server.address(), link.address(), 1);
    let mut client = Conn::new(Opts::from_url(&url).doing(DOING)?).doing(DOING)?;
    if limited {
        client.query_drop("SET SESSION idle_transaction_timeout = 1").doing(DOING)?;
    }
    let number = hold(&mut client, flight.table())?;
    let seen = look(server, flight, how, number, || _ = link.half_open());
    link.cut();
    seen
}

/// Looks when the seat that a connection holds comes back, once that has been broken.
fn look(server: &MariaDb, flight: Flight, how: &str, number: u64, breaks: impl FnOnce()) -> Result<Frame> {
    let mut other = server.connect()?;
    let mut locked = || -> Result<bool> {
        let sql = format!("SELECT seat FROM {} WHERE flight = 1 AND seat = 1 FOR UPDATE SKIP LOCKED", flight.table());
        let seat: Option<u32> = other.query_first(sql).doing(DOING)?;
        Ok(seat.is_none())
    };
    let was_locked = locked()?;
    let broke = Instant::now();
    breaks();
    let mut free_after = f64::INFINITY;
    while free_after.is_infinite() && broke.elapsed() < LOOKING {
        if !locked()? {
            free_after = broke.elapsed().as_secs_f64();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let untaken = flight.seats(server)?.first().is_some_and(|(_, traveller)| traveller.is_none());
    // A seat that did not come back by itself comes back now.
    let _ = other.query_drop(format!("KILL {number}"));
    flight.drop(server)?;
    Ok(Frame::new()
        .text("client", [how])
        .counts("was locked", "", [was_locked.into()])
        .numbers("free after", "ms", [1e3 * free_after])
        .counts("untaken", "", [untaken.into()]))
}

/// After how many hours two sides give a silent connection up: the `server`, by its `wait_timeout` for a session that asks nothing, and the
/// `kernel` of its machine, by TCP keep-alive; and whether the server has asked the kernel to probe (`probes`): whether a timer for it runs on a
/// connection of ours. The kernel asked is this machine's, on which the lab's servers run.
pub fn keep_alive(server: &MariaDb) -> Result<Frame> {
    let doing = "ask when a silent connection is given up";
    let mut client = server.connect()?;
    let wait: Option<u64> = client.query_first("SELECT @@wait_timeout").doing(doing)?;
    let kernel = |name: &str| -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/tcp_keepalive_{name}")).doing(doing)?;
        text.trim().parse().doing(doing)
    };
    let (time, interval, probes) = (kernel("time")?, kernel("intvl")?, kernel("probes")?);
    let from: Option<String> = client
        .query_first("SELECT host FROM information_schema.processlist WHERE id = CONNECTION_ID()")
        .doing(doing)?;
    let port = |address: &str| address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let ours = from.as_deref().and_then(port).zip(port(server.address()));
    let probes_it = || -> Result<bool> {
        let sockets = std::fs::read_to_string("/proc/net/tcp").doing(doing)?;
        Ok(ours.is_some_and(|(client, server)| has_keep_alive(&sockets, server, client)))
    };
    // Until its last answer has been acknowledged, another timer runs.
    let began = Instant::now();
    while !probes_it()? && began.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let hours = |seconds: u64| [seconds as f64 / 3_600.0];
    Ok(Frame::new()
        .numbers("server", "h", hours(wait.unwrap_or_default()))
        .numbers("kernel", "h", hours(time + interval * probes))
        .counts("probes", "", [probes_it()?.into()]))
}

/// Whether the timer that runs on a connection is one of keep-alive, by what the kernel lists: address and port, the peer's,
/// the state, the queues, and the timer's kind, of which 2 is this one.
fn has_keep_alive(sockets: &str, local: u16, remote: u16) -> bool {
    sockets.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port = |field: usize| fields.get(field).and_then(|text| text.split_once(':')).map(|(_, port)| port);
        let is = |field: usize, expected: u16| port(field).is_some_and(|text| text == format!("{expected:04X}"));
        is(1, local) && is(2, remote) && fields.get(5).is_some_and(|timer| timer.starts_with("02:"))
    })
}

/// Groups of two to four fill a cabin from several desks: once each member by themselves, once as a group. A row for each (`asked`): groups
/// that got seats, all of them (`seated`), and of these, how many sit `side by side`, by the table: what they were told is one thing, where
/// they sit another; per cent that do (`share`). Groups `torn`: some have a seat and some have none. Groups `sent away` although a row had
/// room for them, in the end. And `faults` of what was told, against the table.
pub fn groups(server: &MariaDb, layout: Layout, desks: usize, seed: u64) -> Result<Frame> {
    let mut rng = Rng::seeded(seed, "groups");
    let (mut groups, mut next): (Vec<Vec<u64>>, u64) = (Vec::new(), 1);
    // A few more than there is room for.
    while next <= u64::from(layout.seats()) * 11 / 10 {
        let size = 2 + rng.below(3);
        groups.push((next..next + size).collect());
        next += size;
    }
    ["each member alone", "as a group"]
        .into_iter()
        .map(|asked| seat_all(server, layout, &groups, desks, seed, asked))
        .collect()
}

fn seat_all(
    server: &MariaDb,
    layout: Layout,
    groups: &[Vec<u64>],
    desks: usize,
    seed: u64,
    asked: &str,
) -> Result<Frame> {
    let flight = Flight::create(server, "groups", layout, Rules::OneSeatEach)?;
    let own = |desk: usize| groups.iter().skip(desk).step_by(desks);
    let ran = Crowd::of(desks)
        .with(|number| {
            let rng = Rng::seeded(seed, &format!("group desk {number}"));
            Ok((Desk::open(server, &flight, Way::SkipThenWait, rng)?, own(number), Vec::new()))
        })
        .times_each(|number| own(number).count() as u64)
        .run(|(desk, own, answers), call| {
            let Some(group) = own.next() else { return Ok(()) };
            let seats = match asked {
                "as a group" => desk.check_in_group(group)?.unwrap_or_default(),
                _ => {
                    let each = group.iter().map(|&traveller| Ok(desk.check_in(traveller)?.seat()));
                    each.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect()
                }
            };
            answers.push((group, seats, call.now()));
            Ok(())
        })?;
    let answers: Vec<(&Vec<u64>, Vec<Seat>, f64)> = ran.states.into_iter().flat_map(|(.., answers)| answers).collect();
    let table = flight.seats(server)?;
    flight.drop(server)?;
    let told = answers.iter().flat_map(|(group, seats, at)| {
        group.iter().zip(seats).map(|(&traveller, &seat)| Told { traveller, seat, at: *at })
    });
    let audit = Audit::of(&told.collect::<Vec<_>>(), &table);
    // In the table's order, which is that of the seats.
    let beside = |group: &[u64]| {
        let taken = table.iter().filter(|(_, traveller)| traveller.is_some_and(|one| group.contains(&one)));
        let taken: Vec<Seat> = taken.map(|(seat, _)| *seat).collect();
        taken.len() == group.len()
            && taken.windows(2).all(|pair| pair[0].row() == pair[1].row() && pair[1].number() == pair[0].number() + 1)
    };
    let room = longest_run(layout, &table);
    let count = |which: &dyn Fn(&[u64], &[Seat]) -> bool| {
        answers.iter().filter(|(group, seats, _)| which(group, seats)).count() as u64
    };
    Ok(Frame::new()
        .text("asked", [asked])
        .counts("seated", "", [count(&|group, seats| seats.len() == group.len())])
        .counts("side by side", "", [count(&|group, seats| seats.len() == group.len() && beside(group))])
        .counts("torn", "", [count(&|group, seats| !seats.is_empty() && seats.len() < group.len())])
        .counts("sent away", "", [count(&|group, seats| seats.is_empty() && group.len() <= room)])
        .counts("faults", "", [audit.faults()])
        .computed("share", "%", |of| 100.0 * of.number("side by side") / of.number("seated")))
}

/// The most free seats side by side that are left.
fn longest_run(layout: Layout, seats: &[(Seat, Option<u64>)]) -> usize {
    let rows = seats.chunks(layout.abreast() as usize);
    let longest = rows.map(|row| row.split(|(_, traveller)| traveller.is_some()).map(<[_]>::len).max().unwrap_or(0));
    longest.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_tells_which_connection_is_probed() {
        let list = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 0100007F:0CEA 0100007F:9C40 01 00000000:00000000 02:000AFBAD 00000000     0        0 1 2 f\n\
            \x20  1: 0100007F:9C40 0100007F:0CEA 01 00000000:00000000 00:00000000 00000000     0        0 2 1 f\n\
            \x20  2: 0100007F:0CEA 0100007F:9C41 01 00000010:00000000 01:00000016 00000000     0        0 3 1 f\n";
        assert!(has_keep_alive(list, 3_306, 40_000));
        assert!(!has_keep_alive(list, 40_000, 3_306), "the client does not probe");
        assert!(!has_keep_alive(list, 3_306, 40_001), "it is waiting for an acknowledgement");
        assert!(!has_keep_alive(list, 3_306, 1));
    }
}

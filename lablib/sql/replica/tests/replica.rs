//! Real primaries and replicas: what sessions are promised, what a failover loses, what a comparison finds.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use lab::link::Direction;
use lab::service::{Counters, Replicated};
use mysql::prelude::Queryable;
use replica::experiment::*;
use replica::*;

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Sessions that judge nothing by lag, so that a test decides where reads may go.
fn lenient(wait: Duration) -> RouterSpec {
    RouterSpec { max_lag: Duration::from_secs(60), wait, silence: Duration::from_secs(5), beat: ms(10) }
}

fn notes(cluster: &Cluster) {
    cluster.server(0).unwrap().execute("CREATE TABLE notes (id INT PRIMARY KEY, words TEXT)");
    cluster.catch_up(Duration::from_secs(30)).unwrap();
}

fn write(session: &mut Session, id: u32) -> Position {
    session.write(|connection| connection.exec_drop("INSERT INTO notes VALUES (?, 'mine')", (id,))).unwrap().1
}

fn read(session: &mut Session, id: u32) -> Answer<bool> {
    let question = "SELECT COUNT(*) FROM notes WHERE id = ?";
    session.read(|connection| Ok(connection.exec_first::<u64, _, _>(question, (id,))? == Some(1))).unwrap()
}

fn delay_all(cluster: &Cluster, delay: Duration) {
    for link in cluster.links() {
        link.delay_toward(Direction::ToClient, delay);
    }
}

#[test]
fn a_session_waits_for_its_position_and_then_goes_to_the_primary() {
    let cluster = Cluster::start(1).unwrap();
    notes(&cluster);
    let router = Router::new(&cluster, lenient(Duration::from_secs(2))).unwrap();
    let mut session = router.session(Consistency::Session);
    delay_all(&cluster, ms(150));
    write(&mut session, 1);
    let answer = read(&mut session, 1);
    assert!(answer.value && answer.server == 1, "{answer:?}");
    assert!(answer.waited.unwrap() > ms(60), "{answer:?}");
    assert_eq!(session.stats().waited, 1);
    // Known to be there by now, sooner or later: no wait any more.
    let asked = Instant::now();
    while read(&mut session, 1).waited.is_some() {
        assert!(asked.elapsed() < Duration::from_secs(20));
    }
    drop(router);
    // One that is less patient reads the primary, and is right all the same.
    let router = Router::new(&cluster, lenient(ms(20))).unwrap();
    let mut hasty = router.session(Consistency::ReadYourWrites);
    write(&mut hasty, 2);
    let answer = read(&mut hasty, 2);
    assert!(answer.value && answer.server == 0, "{answer:?}");
    assert_eq!(hasty.stats().timed_out, 1);
    // Nothing promised, nothing waited for.
    let mut eventual = router.session(Consistency::Eventual);
    write(&mut eventual, 3);
    let answer = read(&mut eventual, 3);
    assert!(!answer.value && answer.server == 1, "{answer:?}");
    // … and with the step left out, the promise is broken.
    let mut broken = router.session(Consistency::Session).without(Some(Skip::Wait));
    write(&mut broken, 4);
    assert!(!read(&mut broken, 4).value);
    let mut primary = router.session(Consistency::Primary);
    write(&mut primary, 5);
    assert_eq!(read(&mut primary, 5), Answer { value: true, server: 0, waited: None });
}

#[test]
fn a_position_goes_on_with_the_user_to_another_session() {
    let cluster = Cluster::start(1).unwrap();
    notes(&cluster);
    let router = Router::new(&cluster, lenient(Duration::from_secs(2))).unwrap();
    let (mut first, mut next) = (router.session(Consistency::Session), router.session(Consistency::Session));
    delay_all(&cluster, ms(150));
    let position = write(&mut first, 1);
    assert!(first.needs().covers(&position) && next.needs().is_start());
    assert!(!read(&mut router.session(Consistency::Session), 1).value, "nobody told this one");
    next.resume(&position);
    assert!(read(&mut next, 1).value);
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let asked = Instant::now();
    while !holds() {
        assert!(asked.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::sleep(ms(5));
    }
}

/// A write need not change anything to show something: a condition that does not hold, or a step that fails.
#[test]
fn what_a_write_has_seen_is_seen_afterwards() {
    let cluster = Cluster::start(1).unwrap();
    notes(&cluster);
    let router = Router::new(&cluster, lenient(Duration::from_secs(2))).unwrap();
    let (mut other, mut session) = (router.session(Consistency::Session), router.session(Consistency::Session));
    let count = "SELECT COUNT(*) FROM notes";
    for id in [1, 3] {
        write(&mut session, id);
        cluster.heal();
        cluster.catch_up(Duration::from_secs(20)).unwrap();
        delay_all(&cluster, ms(200));
        write(&mut other, id + 1);
        // The second time on a connection that has committed something before.
        let (seen, position) = session.write(|connection| connection.query_first::<u32, _>(count)).unwrap();
        assert_eq!(seen, Some(id + 1));
        assert!(position.covers(other.needs()), "{position}");
        assert!(read(&mut session, id + 1).value, "it read an older state than its write had seen");
    }
    write(&mut other, 5);
    let mut seen = None;
    let failed = session.write(|connection| {
        seen = connection.query_first::<u32, _>(count)?;
        connection.query_drop("INSERT INTO unheard VALUES (1)")
    });
    assert!(failed.is_err() && seen == Some(5), "{seen:?}");
    assert!(read(&mut session, 5).value, "it read an older state than its failed write had seen");
}

/// A commit waits for its replica, and its client is cut off meanwhile: it happened, and nobody told.
#[test]
fn a_write_whose_answer_was_lost_is_seen_by_its_session_if_it_happened() {
    let cluster = Cluster::start(1).unwrap();
    notes(&cluster);
    let router = Router::new(&cluster, lenient(Duration::from_secs(2))).unwrap();
    let mut session = router.session(Consistency::Session);
    cluster.semi_sync(Some(SemiSync::lossless(Duration::from_secs(20)))).unwrap();
    cluster.link(1).unwrap().half_open();
    let primary = cluster.server(0).unwrap();
    let committing = "SELECT COALESCE(MAX(id), 0) FROM information_schema.processlist WHERE info = 'COMMIT'";
    let told = std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            session.write(|connection| connection.query_drop("INSERT INTO notes VALUES (1, 'lost')")).map(drop)
        });
        until("the commit waits", || primary.ask(committing).unwrap() != "0");
        primary.execute(&format!("KILL {}", primary.ask(committing).unwrap()));
        let told = writing.join().unwrap();
        cluster.link(1).unwrap().heal();
        told
    });
    assert!(told.as_ref().is_err_and(|error| error.to_string().contains("may have happened")), "{told:?}");
    cluster.semi_sync(None).unwrap();
    until("it happened", || primary.ask("SELECT COUNT(*) FROM notes").unwrap() == "1");
    cluster.catch_up(Duration::from_secs(20)).unwrap();
    // The same once more, with the replica late.
    delay_all(&cluster, ms(300));
    cluster.semi_sync(Some(SemiSync::lossless(Duration::from_secs(20)))).unwrap();
    let told = std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            session.write(|connection| connection.query_drop("INSERT INTO notes VALUES (2, 'lost')")).map(drop)
        });
        until("the commit waits", || primary.ask(committing).unwrap() != "0");
        primary.execute(&format!("KILL {}", primary.ask(committing).unwrap()));
        writing.join().unwrap()
    });
    assert!(told.is_err());
    until("it happened", || primary.ask("SELECT COUNT(*) FROM notes").unwrap() == "2");
    assert!(read(&mut session, 2).value, "its own write, which happened, is not there");
}

#[test]
fn a_pinned_session_does_not_stay_where_nobody_else_is_sent() {
    let cluster = Cluster::start(2).unwrap();
    notes(&cluster);
    let spec = RouterSpec { max_lag: ms(100), wait: ms(30), silence: ms(1_000), beat: ms(10) };
    let router = Router::new(&cluster, spec).unwrap();
    until("both are read", || router.shares()[1] > 0.2 && router.shares()[2] > 0.2);
    let mut session = router.session(Consistency::Pinned);
    let stays = read(&mut session, 1).server;
    assert!((0..20).all(|_| read(&mut session, 1).server == stays));
    cluster.link(stays).unwrap().delay(ms(600));
    until("it is late", || router.shares()[stays] == 0.0);
    assert_eq!(read(&mut session, 1).server, 3 - stays);
}

#[test]
fn promises_hold_on_replicas_that_lag_and_each_missing_step_is_caught() {
    let cluster = Cluster::start(2).unwrap();
    let bank = Bank::open(&cluster, 16).unwrap();
    let kinds = [
        (Consistency::Eventual, None),
        (Consistency::Pinned, None),
        (Consistency::Session, None),
        (Consistency::Session, Some(Skip::WriteToken)),
        (Consistency::Session, Some(Skip::ReadToken)),
        (Consistency::Session, Some(Skip::Wait)),
    ];
    let spec = ReadersSpec { sessions: 6, rounds: 15, think: ms(6), wait: ms(80), seed: 1 };
    let readers = policies(&bank, &[ms(2), ms(40)], &kinds, spec).unwrap();
    let all = readers.by_promise();
    let [eventual, pinned, session, forgets_writes, forgets_reads, hurries] =
        kinds.map(|kind| all.filter("promise", promise(kind)));
    let first = readers.sessions.filter("promise", promise(kinds[2])).distinct("first broken");
    assert_eq!((session.number("broken"), first), (0.0, vec![String::new()]));
    assert!(session.number("own reads") > 100.0 && session.number("repeated reads") > 100.0);
    assert!(session.number("on replicas") > 20.0, "{session:?}");
    assert!(eventual.number("own writes missed") > 0.0 && eventual.number("went backwards") > 0.0, "{eventual:?}");
    assert!(pinned.number("own writes missed") > 0.0 && pinned.number("went backwards") == 0.0, "{pinned:?}");
    assert!(forgets_writes.number("own writes missed") > 0.0, "{forgets_writes:?}");
    assert!(forgets_reads.number("went backwards") > 0.0, "{forgets_reads:?}");
    assert!(hurries.number("broken") > 0.0, "{hurries:?}");
    let checks = bank.checks();
    assert!(checks.looks > 0 && checks.behind > 0 && checks.broken == 0, "{checks:?}");
}

/// What comes later says nothing about a look: it is judged by what had been acknowledged before it.
#[test]
fn a_look_is_behind_if_it_lacked_what_had_been_acknowledged_by_then() {
    let cluster = Cluster::start(1).unwrap();
    let bank = Bank::open(&cluster, 8).unwrap();
    let router = Router::new(&cluster, lenient(ms(100))).unwrap();
    let mut teller = bank.teller(router.session(Consistency::Primary), 1);
    let mut look_after_a_transfer = || {
        teller.transfer().unwrap();
        bank.look(1).unwrap();
        cluster.catch_up(Duration::from_secs(20)).unwrap();
        bank.look(1).unwrap();
    };
    delay_all(&cluster, ms(300));
    look_after_a_transfer();
    look_after_a_transfer();
    teller.settle();
    let checks = bank.checks();
    assert_eq!((checks.looks, checks.behind, checks.broken), (4, 2, 0), "{checks:?}");
}

#[test]
fn a_router_passes_over_what_lags_and_what_is_dead_and_leaks_nothing() {
    let cluster = Cluster::start(2).unwrap();
    notes(&cluster);
    let connected =
        |server: usize| Counters::of_server(cluster.server(server).unwrap()).unwrap().get("Threads_connected").unwrap();
    let before = [0, 1, 2].map(connected);
    let spec = RouterSpec { max_lag: ms(100), wait: ms(30), silence: ms(300), beat: ms(10) };
    let router = Router::new(&cluster, spec).unwrap();
    let share = |server: usize| router.shares()[server];
    until("both are read", || share(1) > 0.2 && share(2) > 0.2);
    assert_eq!(share(0), 0.0);
    cluster.link(2).unwrap().delay(ms(400));
    until("the late one is not", || share(2) == 0.0 && share(1) == 1.0);
    assert!(router.lag(2).unwrap() > ms(100));
    cluster.server(1).unwrap().kill();
    until("nor the dead one", || router.lag(1).is_none() && share(0) == 1.0);
    let mut session = router.session(Consistency::Eventual);
    assert_eq!(read(&mut session, 1).server, 0);
    assert_eq!(session.stats().unplaced, 1);
    cluster.link(2).unwrap().heal();
    until("it has caught up", || share(2) == 1.0);
    assert_eq!(read(&mut session, 1).server, 2);
    // A replica that dies under a session's own connection: the read is answered elsewhere.
    cluster.server(2).unwrap().kill();
    assert_eq!(read(&mut session, 1).server, 0);
    let mut direct = router.session(Consistency::Primary);
    assert_eq!(read(&mut direct, 1).server, 0);
    // The primary, too: one clear sentence, and soon.
    cluster.server(0).unwrap().kill();
    let asked = Instant::now();
    let error = session.read(|connection| connection.query_drop("SELECT 1")).unwrap_err().to_string();
    assert!(error.starts_with("could not "), "{error}");
    let error = session.write(|connection| connection.query_drop("SELECT 1")).unwrap_err().to_string();
    assert!(error.starts_with("could not connect"), "{error}");
    assert!(asked.elapsed() < Duration::from_secs(10));
    for server in [0, 1, 2] {
        cluster.server(server).unwrap().restart();
    }
    assert_eq!(read(&mut direct, 1).server, 0, "the connection of before is dead, and replaced");
    drop((session, direct, router));
    until("all connections are closed", || (0..3).all(|server| connected(server) <= before[server]));
}

#[test]
fn nobody_notices_a_replica_that_is_paused_and_killed() {
    let cluster = Cluster::start(2).unwrap();
    let bank = Bank::open(&cluster, 32).unwrap();
    let outage = outage(&bank, 3, ms(400), 1).unwrap();
    let failed = outage.calls.filter("outcome", "failed");
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(outage.broken.all(), 0, "{:?}", outage.broken);
    assert!(outage.broken.own_reads > 20, "{:?}", outage.broken);
    assert!(outage.share("", "paused") > 15.0 && outage.share("caught up", "") > 5.0, "{outage:?}");
    assert_eq!(outage.share("killed", "back"), 0.0);
    let checks = bank.checks();
    assert!(checks.looks > 5 && checks.broken == 0, "{checks:?}");
}

#[test]
fn the_replica_that_received_most_takes_over_and_the_others_follow() {
    let cluster = Cluster::start(2).unwrap();
    notes(&cluster);
    let router = Router::new(&cluster, lenient(Duration::from_secs(5))).unwrap();
    let mut session = router.session(Consistency::Session);
    cluster.semi_sync(Some(SemiSync::lossless(Duration::from_secs(20)))).unwrap();
    // The first replica hears nothing any more, and the second one receives and cannot replay: somebody holds the table.
    cluster.link(1).unwrap().half_open();
    let mut holder = cluster.server(2).unwrap().connect().unwrap();
    holder.query_drop("LOCK TABLES notes READ").unwrap();
    (1..=20).for_each(|id| drop(write(&mut session, id)));
    // A heartbeat that waits for its acknowledgement when the primary dies would be a transaction that it has alone.
    drop(router);
    cluster.server(0).unwrap().kill();
    // It cannot take over before it has replayed what it received; then nobody does, and nothing has changed.
    let error = cluster.promote(ms(300)).unwrap_err().to_string();
    assert!(error.contains("not replayed it in 0.3 s"), "{error}");
    assert_eq!(cluster.primary(), 0);
    assert_eq!(cluster.server(2).unwrap().ask("SELECT @@read_only").unwrap(), "1");
    holder.query_drop("UNLOCK TABLES").unwrap();
    let promotion = cluster.promote(Duration::from_secs(20)).unwrap();
    assert_eq!((promotion.from, promotion.to, promotion.silent.len()), (0, 2, 0));
    assert_eq!((cluster.primary(), cluster.replicas()), (2, vec![0, 1]));
    // Sessions go on: they write to the new primary, and read what they wrote before.
    assert!(read(&mut session, 20).value);
    write(&mut session, 21);
    assert!(read(&mut session, 21).value);
    cluster.server(1).unwrap().wait_for(&cluster.position().unwrap().to_string(), Duration::from_secs(20)).unwrap();
    assert_eq!(cluster.server(1).unwrap().ask("SELECT COUNT(*) FROM notes").unwrap(), "21");
    // The old primary has nothing of its own, so it may come back; it refuses writes then.
    cluster.server(0).unwrap().restart();
    cluster.rejoin(0, Duration::from_secs(20)).unwrap();
    assert_eq!(cluster.server(0).unwrap().ask("SELECT COUNT(*) FROM notes").unwrap(), "21");
    let error = cluster.server(0).unwrap().try_execute("INSERT INTO notes VALUES (99, '')").unwrap_err().to_string();
    assert!(error.contains("read-only"), "{error}");
    assert!(cluster.rejoin(2, Duration::from_secs(1)).unwrap_err().to_string().contains("it is the primary"));
    // Back once more, now that all three are well.
    cluster.catch_up(Duration::from_secs(20)).unwrap();
    let comparison = cluster.compare(&["notes"], 5).unwrap();
    assert_eq!((comparison.rows, comparison.differences.len()), (21, 0));
    assert!(comparison.chunks >= 4);
}

/// It was paused when another one took over, with transactions that nobody else has and so with the highest number. It is no
/// replica any more: it must not win the next promotion, in which those who followed would lose what they have.
#[test]
fn a_server_that_missed_a_promotion_is_neither_read_nor_promoted() {
    let cluster = Cluster::start(3).unwrap();
    notes(&cluster);
    let server = |server: usize| cluster.server(server).unwrap();
    let insert = |at: usize, id: u32| server(at).execute(&format!("INSERT INTO notes VALUES ({id}, '')"));
    for late in [2, 3] {
        cluster.link(late).unwrap().half_open();
    }
    (1..=20).for_each(|id| insert(0, id));
    until("it has all of them", || server(1).ask("SELECT COUNT(*) FROM notes").unwrap() == "20");
    server(1).pause();
    server(0).kill();
    let promotion = cluster.promote(Duration::from_secs(2)).unwrap();
    assert_eq!(promotion.silent, [1]);
    let (next, last) = (promotion.to, 5 - promotion.to);
    assert_eq!(cluster.followers(), [last]);
    (101..=103).for_each(|id| insert(next, id));
    cluster.catch_up(Duration::from_secs(20)).unwrap();
    assert_eq!(server(last).ask("SELECT COUNT(*) FROM notes WHERE id > 100").unwrap(), "3");
    server(1).resume();
    until("it answers", || server(1).ask("SELECT COUNT(*) FROM notes").unwrap() == "20");
    // A router that never knew it better does not read from it.
    let router = Router::new(&cluster, lenient(ms(100))).unwrap();
    let mut session = router.session(Consistency::Eventual);
    for _ in 0..20 {
        assert_ne!(read(&mut session, 1).server, 1);
    }
    drop((session, router));
    server(next).kill();
    let promotion = cluster.promote(Duration::from_secs(20)).unwrap();
    assert_eq!((promotion.to, promotion.silent.len()), (last, 0), "{promotion:?}");
    assert_eq!(server(last).ask("SELECT COUNT(*) FROM notes WHERE id > 100").unwrap(), "3");
    let refused = cluster.rejoin(1, Duration::from_secs(5)).unwrap_err().to_string();
    assert!(refused.contains("rescue"), "{refused}");
}

/// One replica says nothing, another one cannot replay: nobody takes over, and both go on with the primary, which lives.
#[test]
fn a_promotion_that_fails_leaves_everybody_as_they_were() {
    let cluster = Cluster::start(2).unwrap();
    notes(&cluster);
    let mut holder = cluster.server(2).unwrap().connect().unwrap();
    holder.query_drop("LOCK TABLES notes READ").unwrap();
    cluster.server(0).unwrap().execute("INSERT INTO notes VALUES (1, '')");
    until("it has received it", || {
        cluster.server(2).unwrap().received().unwrap() == cluster.position().unwrap().to_string()
    });
    cluster.server(1).unwrap().pause();
    let error = cluster.promote(ms(300)).unwrap_err().to_string();
    assert!(error.contains("not replayed it in 0.3 s"), "{error}");
    cluster.server(1).unwrap().resume();
    holder.query_drop("UNLOCK TABLES").unwrap();
    cluster.server(0).unwrap().execute("INSERT INTO notes VALUES (2, '')");
    cluster.catch_up(Duration::from_secs(20)).unwrap();
    assert_eq!(cluster.followers(), [1, 2]);
}

/// A replica dies while the other one still replays: the promotion is done all the same, and says who is missing.
#[test]
fn a_replica_that_dies_in_the_middle_of_a_promotion_does_not_undo_it() {
    let cluster = Cluster::start(2).unwrap();
    notes(&cluster);
    cluster.link(1).unwrap().half_open();
    let mut holder = cluster.server(2).unwrap().connect().unwrap();
    holder.query_drop("LOCK TABLES notes READ").unwrap();
    cluster.server(0).unwrap().execute("INSERT INTO notes VALUES (1, '')");
    until("it has received it", || {
        cluster.server(2).unwrap().received().unwrap() == cluster.position().unwrap().to_string()
    });
    cluster.server(0).unwrap().kill();
    let promotion = std::thread::scope(|scope| {
        let promoting = scope.spawn(|| cluster.promote(Duration::from_secs(20)));
        until("both were asked", || {
            cluster.server(1).unwrap().replication_error().unwrap().is_some_and(|why| why.contains("does not receive"))
        });
        std::thread::sleep(ms(300));
        cluster.server(1).unwrap().kill();
        holder.query_drop("UNLOCK TABLES").unwrap();
        promoting.join().unwrap()
    });
    let promotion = promotion.unwrap();
    assert_eq!((promotion.to, promotion.silent), (2, vec![1]));
    assert_eq!(cluster.primary(), 2);
    cluster.server(2).unwrap().execute("INSERT INTO notes VALUES (2, '')");
    // Started again, it may come back: it has nothing of its own.
    cluster.server(1).unwrap().restart();
    cluster.rejoin(1, Duration::from_secs(20)).unwrap();
    assert_eq!(cluster.server(1).unwrap().ask("SELECT COUNT(*) FROM notes").unwrap(), "2");
}

/// Rights are those of when a client connected. Who came to the old primary before it was retired must not write to it either.
#[test]
fn nobody_writes_to_an_old_primary_that_was_taken_back() {
    let cluster = Cluster::start(1).unwrap();
    notes(&cluster);
    cluster.catch_up(Duration::from_secs(20)).unwrap();
    cluster.server(0).unwrap().kill();
    cluster.promote(Duration::from_secs(20)).unwrap();
    cluster.server(0).unwrap().restart();
    let mut early = cluster.server(0).unwrap().connect().unwrap();
    early.query_drop("SET autocommit = 0").unwrap();
    cluster.rejoin(0, Duration::from_secs(20)).unwrap();
    let written = early.query_drop("INSERT INTO notes VALUES (7, 'nobody else has this')");
    let written = written.and_then(|()| early.query_drop("COMMIT"));
    assert!(written.is_err(), "it was written to after it had been taken back");
    assert_eq!(cluster.server(0).unwrap().ask("SELECT COUNT(*) FROM notes").unwrap(), "0");
    cluster.server(1).unwrap().execute("INSERT INTO notes VALUES (7, 'everybody has this')");
    cluster.catch_up(Duration::from_secs(20)).unwrap();
}

#[test]
fn a_primary_that_parted_is_refused_and_nobody_left_is_an_error() {
    let cluster = Cluster::start(1).unwrap();
    notes(&cluster);
    cluster.link(1).unwrap().half_open();
    cluster.server(0).unwrap().execute("INSERT INTO notes VALUES (1, 'nobody else has this')");
    cluster.server(0).unwrap().kill();
    assert_eq!(cluster.promote(Duration::from_secs(10)).unwrap().to, 1);
    // It counts on from where both parted, past the old one's last number: numbers alone would call that covered.
    for id in 2..10 {
        cluster.server(1).unwrap().execute(&format!("INSERT INTO notes VALUES ({id}, 'the new primary has this')"));
    }
    cluster.server(0).unwrap().restart();
    let error = cluster.rejoin(0, Duration::from_secs(20)).unwrap_err().to_string();
    assert!(error.contains("transactions") && error.contains("rescue"), "{error}");
    let old = cluster.server(0).unwrap();
    assert_eq!(old.replication_error().unwrap().as_deref(), Some("it follows nobody"));
    assert_eq!(
        old.ask("SELECT GROUP_CONCAT(id) FROM notes").unwrap(),
        "1",
        "what it has alone is still there to be rescued"
    );
    assert_eq!(old.ask("SELECT @@read_only").unwrap(), "1");
    // With the only replica dead, there is nobody to take over.
    cluster.server(1).unwrap().kill();
    cluster.server(0).unwrap().kill();
    let error = cluster.promote(Duration::from_secs(1)).unwrap_err().to_string();
    assert!(error.contains("no replica answers"), "{error}");
    assert_eq!(cluster.primary(), 1);
}

#[test]
fn what_a_failover_loses_depends_on_who_waited() {
    let lossless = SemiSync::lossless(Duration::from_secs(30));
    let kill = |delays: &'static [u64]| FailoverSpec {
        delays,
        rate: 200.0,
        writing: ms(500),
        seed: 1,
        ..FailoverSpec::default()
    };
    let waits = |delays: &'static [u64]| FailoverSpec { semi_sync: Some(lossless), ..kill(delays) };
    let (died, _) = failovers(&[
        ("asynchronous", FailoverSpec { comes_back: true, ..kill(&[80]) }),
        ("lossless", FailoverSpec { silent: ms(60), replay_late: true, ..waits(&[20, 300]) }),
        ("worst", FailoverSpec { skip: Some(Skip::Choice), ..waits(&[20, 400]) }),
        ("undrained", FailoverSpec { replay_late: true, skip: Some(Skip::Drain), ..waits(&[20, 30]) }),
    ])
    .unwrap();
    let of = |arm: &str, figure: &str| died.filter("arm", arm).number(figure);
    assert!(of("asynchronous", "lost") >= 1.0, "{died:?}");
    assert_eq!(died.distinct("prefix"), ["kept"]);
    let told = died.filter("arm", "asynchronous").texts("told");
    assert!(told[0].contains("could not"), "{told:?}");
    assert!(of("asynchronous", "alone") >= of("asynchronous", "lost"), "{died:?}");
    assert!(of("lossless", "acknowledged") >= 10.0, "{died:?}");
    let lossless = ["lost", "seen and lost", "unwaited", "followers", "equal"].map(|figure| of("lossless", figure));
    assert_eq!(lossless, [0.0, 0.0, 0.0, 1.0, 1.0], "{died:?}");
    assert!(of("worst", "lost") >= 1.0 && of("undrained", "lost") >= 1.0, "{died:?}");
}

#[test]
fn a_commit_that_waits_is_seen_by_others_or_not() {
    let cluster = Cluster::start(1).unwrap();
    let bank = Bank::open(&cluster, 8).unwrap();
    assert_eq!(seen_early(&bank, WaitPoint::AfterCommit, 3, 1).unwrap(), 3);
    assert_eq!(seen_early(&bank, WaitPoint::AfterSync, 3, 1).unwrap(), 0);
    let stall = stall(&bank, ms(300), ms(10), 1).unwrap();
    assert!(stall.longest() >= 1.0 && stall.unwaited >= 2, "{stall:?}");
    let ended = stall.events.samples("ended");
    let [_, heal, _, again] = ended.values() else { panic!("{stall:?}") };
    assert!(again > heal, "{stall:?}");
}

#[test]
fn a_comparison_finds_every_kind_of_difference() {
    let cluster = Cluster::start(2).unwrap();
    let primary = cluster.server(0).unwrap();
    primary.execute(
        "CREATE TABLE things (id BIGINT PRIMARY KEY, words TEXT, bytes VARBINARY(20), number DOUBLE, at DATETIME(6))",
    );
    for id in -3..20_i64 {
        primary.execute(&format!("INSERT INTO things VALUES ({id}, NULL, x'00FF27', {id} / 7, NOW(6))"));
    }
    primary.execute("CREATE TABLE nothing (id INT PRIMARY KEY)");
    primary.execute("CREATE TABLE pairs (a INT, b INT, PRIMARY KEY (a, b))");
    primary.execute("CREATE TABLE named (name VARCHAR(20) PRIMARY KEY)");
    let clean = cluster.compare(&["things", "nothing"], 7).unwrap();
    assert_eq!((clean.rows, clean.differences.clone()), (23, vec![]));
    assert_eq!(clean.chunks, 5, "four of seven rows at most, and one of a table without any");
    for (table, rows, why) in [
        ("things", 0, "no rows"),
        ("unheard", 5, "no such table"),
        ("pairs", 5, "several columns"),
        ("named", 5, "one whole number"),
    ] {
        let error = cluster.compare(&[table], rows).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    // A replica refuses writes. What is written to the primary past the log does the same damage, the other way round.
    let mut connection = cluster.server(2).unwrap().connect().unwrap();
    let refused = connection.query_drop("DELETE FROM things").unwrap_err().to_string();
    assert!(refused.contains("read-only"), "{refused}");
    primary.execute("INSERT INTO nothing VALUES (7)");
    let mut planted = vec![
        // Before the first row, behind the last, and in the middle.
        ("INSERT INTO things (id) VALUES (-100)", -100, RowFault::Missing),
        ("DELETE FROM things WHERE id = 19", 19, RowFault::Extra),
        ("DELETE FROM things WHERE id = 3", 3, RowFault::Extra),
        // An empty text is no null, a byte is a byte, and the last digit counts.
        ("UPDATE things SET words = '' WHERE id = 1", 1, RowFault::Changed),
        ("UPDATE things SET bytes = x'00FE27' WHERE id = 5", 5, RowFault::Changed),
        ("UPDATE things SET at = at + INTERVAL 1 MICROSECOND WHERE id = 9", 9, RowFault::Changed),
    ];
    let mut connection = primary.connect().unwrap();
    connection.query_drop("SET sql_log_bin = 0").unwrap();
    for (statement, ..) in &planted {
        connection.query_drop(statement).unwrap();
    }
    // A table that is empty on the primary has a chunk, too.
    connection.query_drop("DELETE FROM nothing").unwrap();
    let found = cluster.compare(&["things", "nothing"], 4).unwrap();
    let rows = |found: &Comparison, table: &str| {
        let of_table = found.differences.iter().filter(|one| one.table == table && one.server == 2);
        of_table.flat_map(|difference| cluster.locate(difference).unwrap()).collect::<Vec<_>>()
    };
    planted.sort_by_key(|planted| planted.1);
    assert_eq!(rows(&found, "things"), planted.iter().map(|(_, key, fault)| (*key, *fault)).collect::<Vec<_>>());
    assert_eq!(rows(&found, "nothing"), [(7, RowFault::Extra)]);
    for difference in &found.differences {
        cluster.repair(difference).unwrap();
    }
    assert_eq!(cluster.compare(&["things", "nothing"], 4).unwrap().differences, vec![]);
    assert_eq!(cluster.server(2).unwrap().replication_error().unwrap(), None);
    let position = cluster.position().unwrap();
    cluster.server(0).unwrap().execute("DELETE FROM things WHERE id IN (-100, 1, 5)");
    assert!(!position.covers(&cluster.position().unwrap()));
    cluster.catch_up(Duration::from_secs(20)).unwrap();
}

/// What is easily taken for the same: floats that are written alike, the last bit of a double, a value so large that its
/// hexadecimal form would not fit into a packet.
#[test]
fn a_difference_is_found_however_small_or_large_the_value() {
    let cluster = Cluster::start(1).unwrap();
    let primary = cluster.server(0).unwrap();
    primary.execute("CREATE TABLE finer (id INT PRIMARY KEY, f FLOAT, d DOUBLE, b LONGBLOB)");
    primary.execute("INSERT INTO finer VALUES (1, 16777216, 0.3, NULL), (2, 1.1, 1e300, REPEAT('x', 10000000))");
    let clean = cluster.compare(&["finer"], 10).unwrap();
    assert_eq!((clean.rows, clean.differences), (2, vec![]));
    for (change, back) in [
        ("f = 16777218 WHERE id = 1", "f = 16777216 WHERE id = 1"),
        ("d = 0.1e0 + 0.2e0 WHERE id = 1", "d = 0.3 WHERE id = 1"),
        ("b = CONCAT(REPEAT('x', 9999999), 'y') WHERE id = 2", "b = REPEAT('x', 10000000) WHERE id = 2"),
    ] {
        let mut connection = primary.connect().unwrap();
        connection.query_drop("SET sql_log_bin = 0").unwrap();
        connection.query_drop(format!("UPDATE finer SET {change}")).unwrap();
        let found = cluster.compare(&["finer"], 10).unwrap();
        assert_eq!(found.differences.len(), 1, "{change}");
        connection.query_drop(format!("UPDATE finer SET {back}")).unwrap();
        assert_eq!(cluster.compare(&["finer"], 10).unwrap().differences, vec![], "{back}");
    }
}

/// A statement that fails on a replica stops it: comparing must not do what it looks for.
#[test]
fn a_table_that_a_replica_lacks_is_said_and_does_it_no_harm() {
    let cluster = Cluster::start(1).unwrap();
    let primary = cluster.server(0).unwrap();
    primary.execute("CREATE TABLE here (id INT PRIMARY KEY)");
    primary.execute("CREATE TABLE alike (id INT PRIMARY KEY, a INT)");
    let mut connection = primary.connect().unwrap();
    for statement in
        ["SET sql_log_bin = 0", "CREATE TABLE here_only (id INT PRIMARY KEY)", "ALTER TABLE alike ADD COLUMN b INT"]
    {
        connection.query_drop(statement).unwrap();
    }
    for (table, why) in [("here_only", "no such table"), ("alike", "columns are not those of the primary")] {
        let error = cluster.compare(&["here", table], 10).unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("replica 1"), "{error}");
    }
    assert_eq!(cluster.server(1).unwrap().replication_error().unwrap(), None);
    assert_eq!(cluster.compare(&["here"], 10).unwrap().differences, vec![]);
}

/// Rows that refer to others, that stand in each other's way, or that set something off.
#[test]
fn putting_right_changes_no_other_row() {
    let cluster = Cluster::start(1).unwrap();
    let primary = cluster.server(0).unwrap();
    for statement in [
        "CREATE TABLE parents (id INT PRIMARY KEY, name VARCHAR(20) UNIQUE) ENGINE = InnoDB",
        "CREATE TABLE children (id INT PRIMARY KEY, parent INT, FOREIGN KEY (parent) REFERENCES parents (id) \
         ON DELETE CASCADE) ENGINE = InnoDB",
        "CREATE TABLE triggering (id INT PRIMARY KEY, v INT)",
        "CREATE TABLE traces (id INT PRIMARY KEY AUTO_INCREMENT)",
        "INSERT INTO parents VALUES (1, 'one'), (2, 'two')",
        "INSERT INTO children VALUES (1, 1), (2, 2)",
        "INSERT INTO triggering VALUES (1, 1)",
    ] {
        primary.execute(statement);
    }
    cluster.catch_up(Duration::from_secs(20)).unwrap();
    let mut connection = primary.connect().unwrap();
    connection.query_drop("SET sql_log_bin = 0").unwrap();
    // Each has the other's name now: one of them has to go before the other can come.
    for statement in [
        "UPDATE parents SET name = 'none' WHERE id = 1",
        "UPDATE parents SET name = 'one' WHERE id = 2",
        "UPDATE parents SET name = 'two' WHERE id = 1",
    ] {
        connection.query_drop(statement).unwrap();
    }
    let found = cluster.compare(&["parents", "children"], 10).unwrap();
    assert_eq!(found.differences.len(), 1);
    assert_eq!(cluster.repair(&found.differences[0]).unwrap(), [(1, RowFault::Changed), (2, RowFault::Changed)]);
    assert_eq!(cluster.compare(&["parents", "children"], 10).unwrap().differences, vec![]);
    assert_eq!(cluster.server(1).unwrap().ask("SELECT COUNT(*) FROM children").unwrap(), "2");
    primary.execute("CREATE TRIGGER traced AFTER INSERT ON triggering FOR EACH ROW INSERT INTO traces VALUES ()");
    cluster.catch_up(Duration::from_secs(20)).unwrap();
    connection.query_drop("UPDATE triggering SET v = 2").unwrap();
    let found = cluster.compare(&["triggering"], 10).unwrap();
    let refused = cluster.repair(&found.differences[0]).unwrap_err().to_string();
    assert!(refused.contains("triggers"), "{refused}");
    assert_eq!(cluster.locate(&found.differences[0]).unwrap(), [(1, RowFault::Changed)]);
    assert_eq!(cluster.server(1).unwrap().ask("SELECT COUNT(*) FROM traces").unwrap(), "0");
}

#[test]
fn differences_are_found_and_put_right_while_everybody_writes() {
    let cluster = Cluster::start(2).unwrap();
    let bank = Bank::open(&cluster, 32).unwrap();
    let mut teller =
        bank.teller(Router::new(&cluster, RouterSpec::default()).unwrap().session(Consistency::Primary), 1);
    (0..50).for_each(|_| drop(teller.transfer().unwrap()));
    drop(teller);
    let diverged = divergence(&bank, 20, 60.0, 1).unwrap();
    assert_eq!(diverged.clean.differences, vec![]);
    assert_eq!(diverged.rows, diverged.planted);
    assert_eq!((diverged.planted.len(), diverged.repaired), (3, 3));
    assert_eq!(diverged.after.differences, vec![]);
    assert!(diverged.healthy && diverged.transfers > 0, "{diverged:?}");
    assert!(diverged.prefix[0].is_err() && diverged.prefix[1].is_ok(), "{:?}", diverged.prefix);
}

#[test]
fn the_prototype_passes_its_own_check_with_three_faults() {
    let seeming = prototype().unwrap();
    assert!(seeming.seems_well(), "{seeming:?}");
    assert_eq!((seeming.faults(), seeming.without_snapshot), (3, 100));
    assert!(!seeming.comparison.differences.is_empty());
}

#[test]
fn lag_grows_with_what_the_wire_cannot_carry_and_the_replica_does_not_know() {
    let cluster = Cluster::start(1).unwrap();
    let bank = Bank::open(&cluster, 32).unwrap();
    let spec = LagSpec { bytes_per_second: 200_000, note: 2_000, loads: &[0.3, 1.6], lasting: ms(4_000), seed: 1 };
    let (loads, _) = lag_sweep(&bank, spec).unwrap();
    assert!(loads.samples("bytes").min() > 2_000.0 && loads.height() == 2, "{loads:?}");
    let lags = loads.sort("written").samples("lag");
    // Long enough for a backlog of more than a second, beside which it is nothing what a busy disk adds to either load.
    assert!(lags.values()[1] > 4.0 * lags.values()[0], "{lags:?}");
    let over_predicted = loads.filter("asked", 1.6).number("over predicted");
    assert!(over_predicted >= 0.5, "{lags:?}, {over_predicted}");
    // It counts whole seconds, so a lag below one says nothing about it.
    let (silence, _) = silence(&bank, ms(2_500), 1).unwrap();
    assert_eq!(silence.within("silent for", 0.2..2.5).samples("Seconds_Behind_Master").max(), 0.0);
    assert!(silence.within("silent for", 0.0..2.5).samples("the truth").max() > 2.0, "{silence:?}");
}

#[test]
fn what_makes_no_sense_is_an_error() {
    assert!(Cluster::start(0).unwrap_err().to_string().contains("a replica"));
    let cluster = Cluster::of(Replicated::of(1).start().unwrap()).unwrap();
    assert_eq!((cluster.size(), cluster.primary(), cluster.replicas()), (2, 0, vec![1]));
    assert!(cluster.server(2).unwrap_err().to_string().contains("servers 0 to 1"));
    assert!(cluster.link(2).is_err());
    assert!(Bank::open(&cluster, 1).is_err());
    for spec in [
        RouterSpec { beat: Duration::ZERO, ..RouterSpec::default() },
        RouterSpec { silence: Duration::ZERO, ..RouterSpec::default() },
    ] {
        assert!(Router::new(&cluster, spec).is_err());
    }
    // A write that fails has changed nothing, and the session goes on.
    notes(&cluster);
    let router = Router::new(&cluster, RouterSpec::default()).unwrap();
    let mut session = router.session(Consistency::Session);
    let half = session.write(|connection| {
        connection.query_drop("INSERT INTO notes VALUES (1, 'half')")?;
        connection.query_drop("INSERT INTO unheard VALUES (1)")
    });
    assert!(half.unwrap_err().to_string().contains("unheard"));
    write(&mut session, 2);
    assert!(!read(&mut session, 1).value && read(&mut session, 2).value);
    // The primary has the last word on a read that makes no sense anywhere.
    let error = session.read(|connection| connection.query_drop("SELECT * FROM unheard")).unwrap_err().to_string();
    assert!(error.contains("unheard"), "{error}");
    assert!(router.lag(1).is_some(), "an answer that is an error is no sign of death");
    // Waiting for a stall that is not there ends.
    let error = cluster.until_semi_sync(1, ms(50)).unwrap_err().to_string();
    assert!(error.contains("heal the links"), "{error}");
}

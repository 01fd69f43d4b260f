//! The guarantees of `placing::sharding`, on real servers: what is fenced, hidden, resumed and never lost.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use lab::service::{self, MariaDb};
use lab::{Scale, Show};
use proptest::prelude::*;
use sharding::experiment::*;
use sharding::*;

const PATIENCE: Duration = Duration::from_secs(10);

fn servers(count: usize) -> Vec<MariaDb> {
    service::mysql_instances(count)
}

fn loaded(servers: &[MariaDb], owners: usize, slots: Slot, count: u64) -> (Cluster, Vec<User>) {
    let cluster = Cluster::create(servers, owners, slots).unwrap();
    let users = users(count, 1);
    cluster.load(&users).unwrap();
    (cluster, users)
}

/// Everything is where it must be: nothing lost, nothing twice, one owner for each slot, nothing left over.
fn assert_in_order(cluster: &Cluster, users: &[User]) {
    let audit = cluster.audit().unwrap();
    assert_eq!((audit.contested(), audit.unserved(), audit.doubled(), audit.strays), (0, 0, 0, 0));
    assert_eq!((audit.hidden, audit.changes_left), (0, 0), "something was not cleaned away");
    let there: BTreeMap<u64, User> = audit.rows.into_iter().map(|(id, mut rows)| (id, rows.remove(0).1)).collect();
    assert_eq!(there.len(), users.len());
    assert!(users.iter().all(|user| there.get(&user.id) == Some(user)));
}

fn mover(cluster: &Cluster) -> Mover<'static> {
    Mover::new(cluster, MoverSpec::default()).unwrap()
}

#[test]
fn users_are_written_read_and_removed_and_zero_is_an_id_like_any_other() {
    let servers = servers(2);
    let cluster = Cluster::create(&servers, 2, 64).unwrap();
    let mut client = Client::new(&cluster).unwrap();
    for id in [0, 1, 2, u64::MAX] {
        assert_eq!(client.get(id).unwrap(), None);
        client.put(id, "new", -5).unwrap();
        client.put(id, "née O'Hara \u{1f426}", i64::MIN).unwrap();
        let user = client.get(id).unwrap().unwrap();
        assert_eq!((user.id, user.name.as_str(), user.score, user.visits), (id, "née O'Hara \u{1f426}", i64::MIN, 2));
    }
    assert!(client.delete(0).unwrap());
    assert!(!client.delete(0).unwrap());
    assert_eq!(client.get(0).unwrap(), None);
    assert_eq!(cluster.audit().unwrap().rows.len(), 3);
}

#[test]
fn the_prototype_loses_user_zero_to_a_number_of_the_databases_own() {
    let rows = id_zero(&servers(2)).unwrap();
    let zero = rows.filter("created as", "user 0");
    assert_eq!((zero.number("id"), zero.texts("shard")[0].as_str()), (9.0, "even ids"), "an odd id there");
    assert_eq!(rows.filter("id", 9).height(), 2);
}

#[test]
fn growing_and_shrinking_moves_every_row_and_leaves_nothing_behind() {
    let servers = servers(4);
    let (cluster, users) = loaded(&servers, 2, 64, 3_000);
    let moved: u64 = mover(&cluster).reshard(&instances(4)).unwrap().iter().map(|moved| moved.slots).sum();
    assert_eq!(moved, 32);
    assert!(cluster.map().unwrap().counts().values().all(|&count| count == 16));
    assert_in_order(&cluster, &users);
    assert_eq!(mover(&cluster).reshard(&instances(4)).unwrap(), [], "there is nothing left to do");
    mover(&cluster).reshard(&instances(1)).unwrap();
    assert_eq!(cluster.map().unwrap().counts().into_iter().collect::<Vec<_>>(), [("A".to_string(), 64)]);
    assert_in_order(&cluster, &users);
}

#[test]
fn a_client_with_an_old_map_is_refused_by_the_shard_and_served_by_the_next() {
    let servers = servers(2);
    let (cluster, _) = loaded(&servers, 1, 16, 200);
    let mut old = Client::new(&cluster).unwrap().keeping_evidence();
    mover(&cluster).reshard(&[Weight { name: "B".into(), weight: 1 }]).unwrap();
    assert_eq!(old.map().owner(3), "A");
    for id in 0..200 {
        assert!(old.get(id).unwrap().is_some());
        old.put(id, "written late", 1).unwrap();
    }
    assert_eq!(old.stats().refused, 16, "once for each slot");
    assert!(old.evidence().iter().all(|served| served.instance == "B" && served.epoch == 2));
    let audit = cluster.audit().unwrap();
    assert!(audit.rows.values().all(|rows| rows.len() == 1 && rows[0].0 == "B" && rows[0].1.name == "written late"));
}

#[test]
fn a_copy_is_not_seen_before_the_hand_over_and_the_original_not_after() {
    let servers = servers(2);
    let (cluster, users) = loaded(&servers, 1, 16, 400);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (inside, log) = (cluster.clone(), Arc::clone(&seen));
    let mut expected: Vec<u64> = users.iter().map(|user| user.id).collect();
    expected.sort_unstable();
    let mut mover = mover(&cluster).watched_by(move |point| {
        let mut gatherer = Gatherer::new(&inside).unwrap();
        let policy = if point == "released" { Policy::Partial } else { Policy::Whole };
        let patience = if point == "released" { Duration::from_millis(100) } else { PATIENCE };
        let list = gatherer.top(1_000, patience, policy).unwrap();
        let mut ids: Vec<u64> = list.rows.iter().map(|user| user.id).collect();
        ids.sort_unstable();
        let missing: usize = list.missing.iter().map(|missing| missing.slots.len()).sum();
        let audit = inside.audit().unwrap();
        log.lock().unwrap().push((point.to_string(), ids, missing, audit.hidden, audit.contested()));
    });
    mover.reshard(&instances(2)).unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.iter().map(|(point, ..)| point.as_str()).collect::<Vec<_>>(), POINTS);
    for (point, ids, missing, hidden, contested) in seen.iter() {
        let between = point == "released";
        assert_eq!(*missing, if between { 8 } else { 0 }, "{point}");
        assert_eq!(*ids == expected, !between, "{point}: a whole list has everybody exactly once");
        assert_eq!(*contested, 0, "{point}");
        let none = ["move-planned", "capture-open", "target-ready", "chunk-read", "rows-removed"];
        let copied = !none.contains(&point.as_str());
        assert_eq!(*hidden > 0, copied, "{point}: copies lie there, and nobody sees them");
    }
}

#[test]
fn writes_and_deletes_at_every_step_of_a_move_are_neither_lost_nor_doubled() {
    let meddled = left_out(&servers(2), &LEFT_OUT[..1], 2_000, 1).unwrap();
    assert_eq!(meddled.texts("the move"), ["went through"]);
    assert_eq!((meddled.number("faults"), meddled.number("listed twice")), (0.0, 0.0), "{meddled:?}");
    assert!(meddled.number("refusals") > 0.0, "the old map was of no consequence");
}

#[test]
fn each_step_that_is_left_out_is_noticed() {
    let all = left_out(&servers(2), &LEFT_OUT, 2_000, 1).unwrap();
    let of = |name: &str| all.filter("left out", name);
    let uncaught = of("catching up");
    assert!(uncaught.texts("the move")[0].contains("differs"), "{uncaught:?}");
    assert_eq!(uncaught.number("faults"), 0.0, "the comparison keeps the data where it was: {uncaught:?}");
    for name in ["catching up and comparing", "holding writers back", "asking the fence"] {
        assert!(of(name).number("lost or undone") > 0.0, "{:?}", of(name));
    }
    assert!(of("asking the fence").number("two owners") > 0.0);
    assert!(of("hiding copies").number("listed twice") > 0.0);
}

#[test]
fn a_mover_that_is_killed_at_any_point_is_resumed_and_nothing_is_lost() {
    let servers = servers(4);
    let spec = MoverSpec { batch: 8, chunk: 40, ..MoverSpec::default() };
    let margin = Duration::from_millis(100);
    let traffic = TrafficSpec { clients: 2, users: 1_200, shared: 8, skip: None, margin, seed: 1 };
    let cluster = Cluster::create(&servers, 2, 64).unwrap();
    // One re-shard, and a mover that dies at every named point of it, each time a new one.
    let points: Vec<(&str, u64)> = POINTS.iter().map(|point| (*point, 1)).collect();
    let killed = killed(&cluster, traffic, spec, &points).unwrap();
    assert_eq!(killed.kills.height(), POINTS.len());
    assert_eq!(killed.ran.checked.faults(), 0, "{:?}", killed.ran.checked);
    assert_eq!(killed.progress.samples("moved").values().last(), Some(&32.0));
    let audit = cluster.audit().unwrap();
    assert_eq!((audit.hidden, audit.changes_left), (0, 0));
}

#[test]
fn while_a_killed_mover_lies_there_at_most_one_instance_serves_and_reads_wait() {
    let servers = servers(2);
    let (cluster, users) = loaded(&servers, 1, 16, 300);
    for point in POINTS {
        // A mover that panics at the point stands for one that is gone: its sessions close.
        let dying = Mover::new(&cluster, MoverSpec::default()).unwrap().watched_by(move |at| {
            if at == point {
                std::panic::panic_any("gone");
            }
        });
        let mut dying = std::panic::AssertUnwindSafe(dying);
        let target = cluster.map().unwrap().owner(15).to_string();
        let onto = if target == "A" { "B" } else { "A" };
        let onto = [Weight { name: onto.into(), weight: 1 }];
        let gone = std::panic::catch_unwind(move || dying.reshard(&onto).map(drop));
        assert!(gone.is_err(), "{point} was not reached");
        let audit = cluster.audit().unwrap();
        assert_eq!((audit.contested(), audit.doubled(), audit.strays), (0, 0, 0), "{point}");
        assert_eq!(audit.unserved(), if point == "released" { 16 } else { 0 }, "{point}");
        let mut client = Client::new(&cluster).unwrap().patience(Duration::from_millis(200));
        let read = client.get(7);
        if point == "released" {
            let error = read.unwrap_err().to_string();
            assert!(error.contains("nobody served the slot") && error.contains("resume the move"), "{error}");
        } else {
            assert!(read.unwrap().is_some(), "{point}");
        }
        // A reader who has more patience is served once the move is resumed.
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| Client::new(&cluster).unwrap().get(7));
            mover(&cluster).resume().unwrap();
            assert!(waiting.join().unwrap().unwrap().is_some(), "{point}");
        });
        assert_in_order(&cluster, &users);
    }
}

#[test]
fn a_mover_that_was_only_believed_dead_can_do_no_harm() {
    for point in ["capture-open", "chunk-read", "chunk-copied", "caught-up", "compared", "released", "granted"] {
        let servers = servers(2);
        let (cluster, mut users) = loaded(&servers, 1, 16, 300);
        let moving = cluster.map().unwrap().plan(&instances(2)).unwrap();
        let moves = |id: u64| moving.iter().any(|transfer| transfer.slot == cluster.slot_of(id));
        let ids: Vec<u64> = users.iter().map(|user| user.id).filter(|&id| moves(id)).collect();
        let (inside, late, done) = (cluster.clone(), ids.clone(), Arc::new(Mutex::new(false)));
        let written = Arc::clone(&done);
        let mut believed_dead = mover(&cluster).watched_by(move |at| {
            if at == point && !std::mem::replace(&mut *written.lock().unwrap(), true) {
                // While it holds the writers, the instance holds the second mover, too, until that gives up.
                if mover(&inside).resume().is_ok() {
                    let mut client = Client::new(&inside).unwrap();
                    late.iter().for_each(|&id| client.put(id, "after the second mover", 5).unwrap());
                } else {
                    *written.lock().unwrap() = false;
                }
            }
        });
        let error = believed_dead.reshard(&instances(2)).unwrap_err().to_string();
        assert!(error.contains("another mover has taken it up"), "{point}: {error}");
        if *done.lock().unwrap() {
            for user in users.iter_mut().filter(|user| ids.contains(&user.id)) {
                let visits = user.visits + 1;
                *user = User { id: user.id, name: "after the second mover".into(), score: 5, visits };
            }
        } else {
            assert_eq!(point, "compared", "only whoever holds the writers keeps others out");
            // The second one had announced itself in the directory: it is the one to finish.
            mover(&cluster).resume().unwrap();
        }
        assert_in_order(&cluster, &users);
    }
}

#[test]
fn a_mover_that_wakes_up_when_its_slots_are_on_their_way_again_leaves_the_notes_of_the_new_move() {
    // Where a move is cleaned up behind, and where one is given up.
    for point in ["rows-removed", "given-up"] {
        let servers = servers(2);
        let (cluster, mut users) = loaded(&servers, 1, 16, 300);
        let moving = cluster.map().unwrap().plan(&instances(2)).unwrap();
        let moves = |id: u64| moving.iter().any(|transfer| transfer.slot == cluster.slot_of(id));
        let mut on_their_way = users.iter_mut().filter(|user| moves(user.id));
        let unapplied = on_their_way.next().unwrap();
        let write = |user: &mut User, name: &str| {
            *user = User { name: name.into(), score: 5, visits: user.visits + 1, ..user.clone() };
            user.clone()
        };
        // A change that nobody applies: the comparison refuses the move.
        let unapplied = (point == "given-up").then(|| write(unapplied, "not applied"));
        let noted: Vec<User> = on_their_way.take(20).map(|user| write(user, "noted by the next move")).collect();
        let put = |cluster: &Cluster, user: &User| {
            Client::new(cluster).unwrap().put(user.id, &user.name, user.score).unwrap();
        };

        let (wake, awake) = mpsc::channel::<()>();
        let next: Arc<Mutex<Option<std::thread::JoinHandle<_>>>> = Arc::default();
        let (inside, begun, mut awake) = (cluster.clone(), Arc::clone(&next), Some(awake));
        let skips = if unapplied.is_some() { vec![Skip::CatchUp] } else { Vec::new() };
        let spec = MoverSpec { skips, ..MoverSpec::default() };
        let mut believed_dead = Mover::new(&cluster, spec).unwrap().watched_by(move |at| {
            if let Some(user) = unapplied.as_ref().filter(|_| at == "copied") {
                put(&inside, user);
            }
            let Some(awake) = awake.take_if(|_| at == point) else { return };
            mover(&inside).resume().unwrap();
            mover(&inside).reshard(&instances(1)).unwrap();
            // The next move of the same slots, which waits with its notes until we are through.
            let (written, writes) = mpsc::channel();
            let (within, noted) = (inside.clone(), noted.clone());
            *begun.lock().unwrap() = Some(std::thread::spawn(move || {
                let at_work = within.clone();
                let mut next = mover(&within).watched_by(move |at| {
                    if at == "copied" {
                        noted.iter().for_each(|user| put(&at_work, user));
                        written.send(()).unwrap();
                        awake.recv().unwrap();
                    }
                });
                next.reshard(&instances(2))
            }));
            writes.recv().unwrap();
        });
        let error = believed_dead.reshard(&instances(2)).unwrap_err().to_string();
        wake.send(()).unwrap();
        let moved = next.lock().unwrap().take().unwrap().join().unwrap();
        let moved = moved.unwrap_or_else(|error| panic!("{point}: a good move was given up: {error}"));
        assert!(error.contains("another mover has taken it up"), "{point}: {error}");
        assert_eq!((moved[0].slots, moved[0].caught_up), (8, 20), "{point}: all notes were still there");
        assert_in_order(&cluster, &users);
    }
}

/// Waits until somebody holds the fence of a slot.
fn until_fence_is_held(server: &MariaDb, slot: Slot) {
    let database =
        server.ask("SELECT table_schema FROM information_schema.tables WHERE table_name = 'fences'").unwrap();
    let look = format!("SELECT state FROM {database}.fences WHERE slot = {slot} LOCK IN SHARE MODE NOWAIT");
    let asked = Instant::now();
    while server.ask(&look).is_ok() {
        assert!(asked.elapsed() < PATIENCE, "nobody does");
    }
}

#[test]
fn a_mover_that_is_cut_off_within_a_transaction_holds_nobody_up_for_longer_than_its_grip() {
    // While it begins to note writes at the source, where writers wait; and while it grants, where nobody serves.
    for (cut, point) in [("B", "move-planned"), ("C", "released")] {
        let servers = servers(3);
        let (cluster, mut users) = loaded(&servers, 2, 16, 200);
        let slot = (0..16).find(|&slot| cluster.map().unwrap().owner(slot) == "B").unwrap();
        let transfer = Transfer { from: "B".into(), to: "C".into(), slot };
        let far = &servers[if cut == "B" { 1 } else { 2 }];
        let link = Arc::new(lab::Link::to(far.address()).unwrap());
        let linked = cluster.through(cut, far.address(), link.address()).unwrap();
        let wire = Arc::clone(&link);
        let spec = MoverSpec { grip: 1, ..MoverSpec::default() };
        let mut lost = Mover::new(&linked, spec).unwrap().watched_by(move |at| {
            if at == point {
                wire.delay(Duration::from_millis(150));
            }
        });
        let thread = std::thread::spawn(move || lost.carry_out(&[transfer]));
        while link.stats().total == 0 {
            std::thread::yield_now();
        }
        // At the source, the first transaction is the one; at the target, the first one behind the release.
        if point == "released" {
            let released = || cluster.audit().unwrap().unserved() > 0;
            while !released() {
                assert!(!thread.is_finished(), "it was not released");
            }
        }
        until_fence_is_held(far, slot);
        link.half_open();

        // Nobody tells the server that the mover is gone, and nobody tells the mover that it is cut off.
        let (cut_off, user) = (Instant::now(), users.iter_mut().find(|user| cluster.slot_of(user.id) == slot).unwrap());
        while let Err(error) = mover(&cluster).resume() {
            assert!(cut_off.elapsed() < PATIENCE, "{point}: it is still held: {error}");
        }
        let mut client = Client::new(&cluster).unwrap().patience(Duration::from_secs(3));
        client.put(user.id, "served again", 5).unwrap();
        *user = User { name: "served again".into(), score: 5, visits: user.visits + 1, ..user.clone() };
        link.cut();
        thread.join().unwrap().unwrap_err();
        assert_eq!(cluster.map().unwrap().owner(slot), "C");
        assert_in_order(&cluster, &users);
    }
}

#[test]
fn a_mover_that_is_stuck_while_it_holds_the_writers_loses_its_grip() {
    let servers = servers(2);
    let (cluster, mut users) = loaded(&servers, 1, 16, 200);
    let moving = cluster.map().unwrap().plan(&instances(2)).unwrap();
    let late = users.iter().position(|user| moving.iter().any(|t| t.slot == cluster.slot_of(user.id))).unwrap();
    let (id, inside) = (users[late].id, cluster.clone());
    let mut stuck =
        Mover::new(&cluster, MoverSpec { grip: 1, ..MoverSpec::default() }).unwrap().watched_by(move |at| {
            if at == "writers-held" {
                // Nobody but the instance itself can end this wait: the mover is here, and says nothing.
                Client::new(&inside).unwrap().put(id, "written at the old owner", 5).unwrap();
            }
        });
    stuck.reshard(&instances(2)).unwrap_err();
    let user = &mut users[late];
    *user = User { id, name: "written at the old owner".into(), score: 5, visits: user.visits + 1 };
    mover(&cluster).resume().unwrap();
    assert_eq!(cluster.map().unwrap().counts()["B"], 8);
    assert_in_order(&cluster, &users);
}

#[test]
fn a_server_that_dies_in_the_middle_of_a_move_comes_back_to_a_move_that_can_be_finished() {
    let servers = Arc::new(servers(2));
    let (cluster, users) = loaded(&servers, 1, 16, 300);
    let (mut from, mut to) = (0, 1);
    for point in ["chunk-copied", "last-changes-applied", "released", "granted"] {
        for victim in [from, to] {
            let struck = Arc::clone(&servers);
            let mut mover = mover(&cluster).watched_by(move |at| {
                if at == point && struck[victim].is_running() {
                    struck[victim].kill();
                }
            });
            let onto = [Weight { name: ["A", "B"][to].into(), weight: 1 }];
            let outcome = mover.reshard(&onto);
            assert!(outcome.is_err() || (point, victim) == ("granted", from), "{point}, {victim}: {outcome:?}");
            servers[victim].restart();
            Mover::new(&cluster, MoverSpec::default()).unwrap().reshard(&onto).unwrap();
            assert_in_order(&cluster, &users);
            (from, to) = (to, from);
        }
    }
}

#[test]
fn lists_are_in_order_whole_and_never_silently_partial() {
    let servers = servers(3);
    let (cluster, mut users) = loaded(&servers, 3, 64, 1_000);
    users.sort_by_key(|user| std::cmp::Reverse((user.score, user.id)));
    let mut gatherer = Gatherer::new(&cluster).unwrap();
    let list = gatherer.top(20, PATIENCE, Policy::Whole).unwrap();
    assert_eq!(list.rows, users[..20]);
    assert!(list.is_whole() && list.rounds == 1);
    // Pages, one after the other, are the whole list.
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let page = gatherer.page(Page::After(cursor), 77, PATIENCE, Policy::Whole).unwrap();
        let Some(next) = page.cursor() else { break };
        all.extend(page.rows);
        cursor = Some(next);
    }
    assert_eq!(all, users);
    assert_eq!(gatherer.page(Page::Offset(990), 77, PATIENCE, Policy::Whole).unwrap().rows, users[990..]);

    servers[2].pause();
    let deadline = Duration::from_millis(150);
    let list = gatherer.top(20, deadline, Policy::Partial).unwrap();
    assert_eq!((list.missing.len(), list.missing[0].instance.as_str()), (1, "C"));
    assert_eq!(list.missing[0].slots.len(), 21);
    let map = cluster.map().unwrap();
    let best: Vec<&User> = users.iter().filter(|user| map.owner_of(user.id) != "C").take(20).collect();
    assert!(list.rows.iter().eq(best));
    let error = gatherer.top(20, deadline, Policy::Whole).unwrap_err().to_string();
    assert!(error.contains("21 slots are missing: C (no answer before the deadline)"), "{error}");
    servers[2].resume();
    assert!(gatherer.top(20, PATIENCE, Policy::Whole).unwrap().is_whole());
    servers[2].kill();
    let list = gatherer.top(20, Duration::from_millis(500), Policy::Partial).unwrap();
    assert_eq!(list.missing[0].instance, "C");
    servers[2].restart();
    assert!(gatherer.top(20, PATIENCE, Policy::Whole).unwrap().is_whole());
    // The first one holds the directory, too: that may delay nothing beyond the deadline.
    servers[0].pause();
    let began = std::time::Instant::now();
    let list = gatherer.top(20, deadline, Policy::Partial).unwrap();
    assert!(began.elapsed() < PATIENCE / 2);
    assert_eq!(list.missing[0].instance, "A");
    servers[0].resume();
    servers[0].kill();
    let list = gatherer.top(20, Duration::from_millis(500), Policy::Partial).unwrap();
    assert_eq!(list.missing[0].instance, "A");
    servers[0].restart();
    assert!(gatherer.top(20, PATIENCE, Policy::Whole).unwrap().is_whole());
}

#[test]
fn a_partial_list_is_one_also_where_two_answers_tell_of_a_slot() {
    let servers = servers(2);
    let (cluster, mut users) = loaded(&servers, 2, 16, 400);
    users.sort_by_key(|user| std::cmp::Reverse((user.score, user.id)));
    // As two answers say it that were given before and after a hand-over; here, as often as one asks.
    let map = cluster.map().unwrap();
    let slot = (0..16).find(|&slot| map.owner(slot) == "A").unwrap();
    let database =
        servers[1].ask("SELECT table_schema FROM information_schema.tables WHERE table_name = 'fences'").unwrap();
    servers[1].execute(&format!("UPDATE {database}.fences SET state = 1 WHERE slot = {slot}"));
    let (mut gatherer, deadline) = (Gatherer::new(&cluster).unwrap(), Duration::from_millis(150));
    let list = gatherer.top(20, deadline, Policy::Partial).unwrap();
    assert_eq!((list.missing.len(), list.missing[0].instance.as_str()), (1, "A"));
    assert_eq!(list.slots_missing(), 7, "all but the one that B tells of");
    let of_b: Vec<&User> = users.iter().filter(|user| map.owner_of(user.id) == "B").take(20).collect();
    assert!(list.rows.iter().eq(of_b), "right about all that it does not name");
    let error = gatherer.top(20, deadline, Policy::Whole).unwrap_err().to_string();
    assert!(error.contains("7 slots are missing: A (it tells of slots"), "{error}");
}

#[test]
fn what_is_missing_is_named_after_the_owner_that_the_same_answers_tell_of() {
    let servers = servers(2);
    let (cluster, _) = loaded(&servers, 2, 16, 200);
    let mut gatherer = Gatherer::new(&cluster).unwrap();
    let slot = (0..16).find(|&slot| cluster.map().unwrap().owner(slot) == "A").unwrap();
    // A mover that dies behind the hand-over: the directory knows nothing of it.
    let mut dying = std::panic::AssertUnwindSafe(mover(&cluster).watched_by(|at| {
        if at == "granted" {
            std::panic::panic_any("gone");
        }
    }));
    let transfer = Transfer { from: "A".into(), to: "B".into(), slot };
    assert!(std::panic::catch_unwind(move || dying.carry_out(&[transfer]).map(drop)).is_err());
    servers[1].pause();
    let list = gatherer.top(20, Duration::from_millis(300), Policy::Partial).unwrap();
    servers[1].resume();
    let missing: Vec<(&str, usize)> =
        list.missing.iter().map(|missing| (missing.instance.as_str(), missing.slots.len())).collect();
    assert_eq!(missing, [("B", 9)], "A has said who serves the slot: {list:?}");
    assert_eq!(list.missing[0].reason, "no answer before the deadline");
}

#[test]
fn a_client_finds_users_whose_server_has_left_for_good_and_survives_a_directory_that_restarts() {
    let servers = servers(3);
    let (cluster, users) = loaded(&servers, 2, 16, 200);
    let mut old = Client::new(&cluster).unwrap();
    assert!(users.iter().all(|user| old.get(user.id).unwrap().is_some()));
    let [a, c] = ["A", "C"].map(|name| Weight { name: name.into(), weight: 1 });
    mover(&cluster).reshard(&[a, c]).unwrap();
    servers[1].kill();
    assert!(
        users.iter().all(|user| old.get(user.id).unwrap().as_ref() == Some(user)),
        "B is gone, and its users are at C"
    );
    assert!(old.stats().refreshed > 0);
    servers[0].restart();
    mover(&cluster).reshard(&[Weight { name: "C".into(), weight: 1 }]).unwrap();
    servers[0].restart();
    assert!(users.iter().all(|user| old.get(user.id).unwrap().as_ref() == Some(user)));
}

#[test]
fn pages_hold_still_while_slots_move_under_them() {
    let servers = servers(4);
    let (cluster, mut users) = loaded(&servers, 2, 64, 2_000);
    users.sort_by_key(|user| std::cmp::Reverse((user.score, user.id)));
    let moving = cluster.clone();
    let thread = std::thread::spawn(move || {
        let mut mover = Mover::new(&moving, MoverSpec { batch: 2, ..MoverSpec::default() }).unwrap();
        mover.reshard(&instances(4)).unwrap();
    });
    let mut walks = 0;
    let mut gatherer = Gatherer::new(&cluster).unwrap();
    while !thread.is_finished() || walks == 0 {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let page = gatherer.page(Page::After(cursor), 100, PATIENCE, Policy::Whole).unwrap();
            let Some(next) = page.cursor() else { break };
            all.extend(page.rows);
            cursor = Some(next);
        }
        assert_eq!(all, users);
        walks += 1;
    }
    thread.join().unwrap();
    assert_in_order(&cluster, &users);
}

#[test]
fn a_slot_that_is_handed_over_between_two_answers_is_neither_counted_twice_nor_left_out() {
    // The slow one is asked late: once after it has got the slots that the other told of, once after it has lost them.
    // Also on servers that would show each statement of a list a snapshot of its own.
    for (slow, isolation) in [(1, "REPEATABLE-READ"), (0, "REPEATABLE-READ"), (0, "READ-COMMITTED")] {
        let servers = [(); 2].map(|()| MariaDb::with("transaction_isolation", isolation).start().unwrap());
        let (cluster, mut users) = loaded(&servers, 2, 32, 400);
        users.sort_by_key(|user| std::cmp::Reverse((user.score, user.id)));
        let link = lab::Link::to(servers[slow].address()).unwrap();
        let linked = cluster.through(["A", "B"][slow], servers[slow].address(), link.address()).unwrap();
        let mut gatherer = Gatherer::new(&linked).unwrap();
        assert_eq!(gatherer.top(1, PATIENCE, Policy::Whole).unwrap().rows, users[..1]);
        link.delay(Duration::from_millis(15));
        let moving = cluster.clone();
        let thread = std::thread::spawn(move || {
            let mut mover = Mover::new(&moving, MoverSpec { batch: 1, ..MoverSpec::default() }).unwrap();
            mover.reshard(&[Weight { name: "B".into(), weight: 1 }]).unwrap();
        });
        let mut again = 0;
        while !thread.is_finished() {
            let list = gatherer.top(1_000, PATIENCE, Policy::Whole).unwrap();
            assert_eq!(list.rows, users, "{slow}, {isolation}");
            again += u64::from(list.rounds > 1);
        }
        thread.join().unwrap();
        assert!(again > 0, "no list was disturbed");
    }
}

#[test]
fn rows_that_lie_at_the_target_by_mistake_do_not_come_to_life() {
    let servers = servers(2);
    let (cluster, users) = loaded(&servers, 1, 16, 200);
    let database =
        servers[1].ask("SELECT table_schema FROM information_schema.tables WHERE table_name = 'fences'").unwrap();
    let slot = cluster.map().unwrap().plan(&instances(2)).unwrap()[0].slot;
    let ghost = (1_000..).find(|&id| cluster.slot_of(id) == slot).unwrap();
    servers[1].execute(&format!("INSERT INTO {database}.users VALUES ({slot}, {ghost}, 'ghost', 0, 1)"));
    assert_eq!(cluster.audit().unwrap().strays, 1);
    mover(&cluster).reshard(&instances(2)).unwrap();
    assert_in_order(&cluster, &users);
}

#[test]
fn a_shard_that_cannot_be_reached_is_an_error_with_its_name() {
    let servers = servers(3);
    let (cluster, users) = loaded(&servers, 2, 16, 100);
    servers[2].kill();
    let error = mover(&cluster).reshard(&instances(3)).unwrap_err().to_string();
    assert!(error.contains("(C)"), "{error}");
    let mut client = Client::new(&cluster).unwrap().patience(Duration::from_millis(100));
    assert!(users.iter().all(|user| client.get(user.id).unwrap().as_ref() == Some(user)), "nothing has begun to move");
    servers[1].kill();
    let lost = users.iter().find(|user| client.map().owner_of(user.id) == "B").unwrap().id;
    let errors = [client.get(lost).unwrap_err(), client.put(lost, "x", 1).unwrap_err()];
    assert!(errors.iter().all(|error| error.to_string().contains("(B)")), "{errors:?}");
    servers[1].restart();
    servers[2].restart();
    assert!(client.get(lost).unwrap().is_some());
    mover(&cluster).reshard(&instances(3)).unwrap();
    assert_in_order(&cluster, &users);
}

#[test]
fn bad_input_is_one_clear_sentence() {
    let url = "mysql://nobody@127.0.0.1:1/none".to_string();
    let over = |servers: &[(&str, &str)], owners, slots| {
        let servers = servers.iter().map(|(name, url)| (name.to_string(), url.to_string())).collect();
        Cluster::over(servers, owners, slots).unwrap_err().to_string()
    };
    assert!(over(&[], 1, 16).contains("there are no instances"));
    assert!(over(&[("A", &url), ("A", &url)], 1, 16).contains("A is named twice"));
    assert!(over(&[("", &url)], 1, 16).contains("no name"));
    assert!(over(&[("A", &url)], 0, 16).contains("there are no instances"));
    assert!(over(&[("A", &url)], 1, 0).contains("there are none"));
    assert!(over(&[("A", &url)], 1, 16).contains("connect to an instance (A)"));
    let servers = servers(1);
    let (cluster, _) = loaded(&servers, 1, 16, 10);
    let weights = |name: &str, weight| vec![Weight { name: name.into(), weight }];
    let mut mover = mover(&cluster);
    assert!(mover.reshard(&weights("A", 0)).unwrap_err().to_string().contains("weight 0"));
    assert!(mover.reshard(&weights("Z", 1)).unwrap_err().to_string().contains("the instances are A"));
    assert!(Mover::new(&cluster, MoverSpec { batch: 0, ..MoverSpec::default() }).is_err());
    assert_eq!(format!("{cluster:?}").matches("mysql://").count(), 0, "no password in what is printed");
}

/// What the fence costs, as the servers count it: a read no statement more, a write one.
#[test]
fn a_fenced_read_is_one_statement_and_a_fenced_write_one_more_than_a_bare_one() {
    // Nobody else's statements are counted there.
    let servers: Vec<MariaDb> = (0..2).map(|_| service::private_mysql()).collect();
    let (cluster, _) = loaded(&servers, 2, 64, 400);
    let cost = fence_cost(&cluster, 400, 60).unwrap();
    let statements = |arm: &'static str, figure: &str| cost.samples(&arm, figure).values().to_vec();
    assert_eq!(statements("fenced", "statements of a read"), [1.0; 10]);
    let bare = statements("without the fence", "statements of a write");
    let more = statements("fenced", "statements of a write").into_iter().zip(bare).map(|(fenced, bare)| fenced - bare);
    assert_eq!(more.collect::<Vec<f64>>(), [1.0; 10]);
}

#[test]
fn what_is_planned_is_what_the_notebook_predicts() {
    for (from, to) in [(2, 3), (2, 4), (3, 4), (4, 5)] {
        let [modulo, slots] = growth(60_000, 1_024, from, to).unwrap();
        let [expected_modulo, expected_slots] = predicted_growth(from, to);
        assert!((modulo - expected_modulo).abs() < 0.1, "{from} to {to}: {modulo} {expected_modulo}");
        assert!((slots - expected_slots).abs() < 1.0, "{from} to {to}: {slots} {expected_slots}");
    }
    assert_eq!(Scale::Quick.pick(1, 2), 1);
}

#[test]
fn a_users_slot_never_changes() {
    // Golden: another hash, or another seed of it, would lose every user.
    let slots: Vec<Slot> = [0, 1, 2, 1_000_000, u64::MAX].map(|user| slot_of(user, 1_024)).to_vec();
    assert_eq!(slots, GOLDEN);
    assert_eq!(slot_of(7, 0), 0);
}

const GOLDEN: [Slot; 5] = [217, 302, 579, 352, 19];

#[test]
fn the_picture_shows_what_is_planned() {
    let (four, two) = (instances(4), SlotMap::level(1_024, &instances(2)).unwrap());
    let after = two.after(&two.plan(&four).unwrap());
    assert_eq!((slot_of(4_711, 1_024), two.owner(511), two.owner(512)), (783, "A", "B"));
    let runs = [(0..256, "A"), (256..512, "C"), (512..768, "B"), (768..1_024, "D")];
    let (svg, words) = (picture().to_html(), picture().to_plain());
    assert!(svg.contains("slot 783") && words.contains("slot 783"));
    for (slots, owner) in &runs {
        assert!(svg.contains(&format!(">{}</text>", slots.start)) && svg.contains(&format!(">{owner}</text>")));
        assert!(words.contains(&format!("{} to {}", slots.start, slots.end - 1)), "{owner}");
    }
    assert!(runs.into_iter().all(|(mut slots, owner)| slots.all(|slot| after.owner(slot) == owner)));
}

#[test]
fn lists_that_cannot_be_shared_out_over_are_refused_in_one_sentence() {
    let error = |instances: &[Weight]| SlotMap::level(16, instances).unwrap_err().to_string();
    assert!(error(&[]).contains("there are no instances"));
    assert!(error(&Weight::equal(["A", " "])).contains("no name"));
    assert!(error(&Weight::equal(["A", "B", "A"])).contains("A is named twice"));
    assert!(error(&[Weight { name: "A".into(), weight: 0 }]).contains("weight 0"));
    assert!(error(&Weight::equal((0..17).map(|n| n.to_string()))).contains("only 16 slots"));
    assert!(SlotMap::level(0, &Weight::equal(["A"])).is_err());
    assert!(growth(10, 16, 0, 3).is_err());
}

#[test]
fn weights_decide_the_shares() {
    let weights = [Weight { name: "small".into(), weight: 1 }, Weight { name: "large".into(), weight: 3 }];
    let counts = SlotMap::level(1_024, &weights).unwrap().counts();
    assert_eq!((counts["small"], counts["large"]), (256, 768));
}

#[test]
fn one_hot_slot_is_left_alone_and_the_others_move_away() {
    let two = Weight::equal(["A", "B"]);
    let map = SlotMap::level(4, &two).unwrap();
    let transfers = map.plan_by_load(&[60.0, 20.0, 10.0, 10.0], &two).unwrap();
    assert_eq!(transfers, [Transfer { from: "A".into(), to: "B".into(), slot: 1 }]);
    assert_eq!(map.plan_by_load(&[100.0, 0.0, 0.0, 0.0], &two).unwrap(), []);
}

fn served(epoch: u64, instance: &str, from: u64, to: u64) -> Served {
    // Any moment that is the same for all.
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let start = *START.get_or_init(Instant::now);
    let at = |milliseconds| start + Duration::from_millis(milliseconds);
    Served { slot: 7, epoch, instance: instance.into(), from: at(from), to: at(to) }
}

#[test]
fn an_orderly_hand_over_is_no_contradiction() {
    let evidence = [served(1, "A", 0, 1), served(1, "A", 1, 5), served(2, "B", 4, 6), served(2, "B", 7, 8)];
    assert_eq!(at_odds(&evidence), [""; 0]);
    assert_eq!(at_odds(&[]), [""; 0]);
}

#[test]
fn two_owners_and_an_owner_of_the_past_are_found() {
    let two = [served(1, "A", 0, 1), served(1, "B", 2, 3)];
    assert_eq!(at_odds(&two), ["slot 7, epoch 1: served by A and by B"]);
    let past = [served(2, "B", 0, 1), served(1, "A", 2, 3)];
    assert_eq!(at_odds(&past), ["slot 7: A served epoch 1 after epoch 2 had been served"]);
    // The other order of the same evidence.
    let past = [served(1, "A", 2, 3), served(2, "B", 0, 1)];
    assert_eq!(at_odds(&past).len(), 1);
    // Only one that was over counts.
    assert_eq!(at_odds(&[served(2, "B", 0, 5), served(1, "A", 2, 3)]), [""; 0]);
}

#[test]
fn slots_do_not_testify_against_each_other() {
    let mut other = served(1, "B", 2, 3);
    other.slot = 8;
    assert_eq!(at_odds(&[served(1, "A", 0, 1), served(2, "B", 1, 2), other]), [""; 0]);
}

fn weights() -> impl Strategy<Value = Vec<Weight>> {
    let one = (0..8_u8, 1..5_u32).prop_map(|(name, weight)| Weight { name: format!("n{name}"), weight });
    prop::collection::vec(one, 1..6).prop_map(|mut all| {
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all.dedup_by(|a, b| a.name == b.name);
        all
    })
}

proptest! {
    #[test]
    fn only_what_must_move_moves(before in weights(), after in weights(), slots in 8..600_u16) {
        let map = SlotMap::level(slots, &before).unwrap();
        let transfers = map.plan(&after).unwrap();
        prop_assert_eq!(&transfers, &map.plan(&after).unwrap(), "deterministic");
        let grown = map.after(&transfers);
        let (old, new) = (map.counts(), grown.counts());
        let total: u64 = after.iter().map(|instance| u64::from(instance.weight)).sum();
        // Total and balanced: everybody has his share, to the slot; nobody else has any.
        for Weight { name, weight } in &after {
            let share = f64::from(slots) * f64::from(*weight) / total as f64;
            let has = new.get(name).copied().unwrap_or(0) as f64;
            prop_assert!((has - share).abs() < 1.0, "{} has {} of {}", name, has, share);
        }
        prop_assert!(new.keys().all(|name| after.iter().any(|instance| instance.name == *name)));
        prop_assert_eq!(new.values().sum::<u64>(), u64::from(slots));
        // Minimal: nobody gives and takes, and what is given is what was too much.
        let spare: u64 = old.iter().map(|(name, had)| had.saturating_sub(new.get(name).copied().unwrap_or(0))).sum();
        prop_assert_eq!(transfers.len() as u64, spare);
        let givers: std::collections::BTreeSet<&str> = transfers.iter().map(|t| t.from.as_str()).collect();
        prop_assert!(transfers.iter().all(|t| !givers.contains(t.to.as_str())));
        prop_assert!(transfers.iter().all(|t| map.owner(t.slot) == t.from));
    }

    #[test]
    fn levelling_never_makes_it_worse(loads in prop::collection::vec(0.0..100.0_f64, 16..64), count in 2..5_usize) {
        let all = instances(count);
        let map = SlotMap::level(loads.len() as Slot, &all).unwrap();
        let grown = map.after(&map.plan_by_load(&loads, &all).unwrap());
        let busiest = |map: &SlotMap| {
            let mut sums = BTreeMap::new();
            for (slot, load) in loads.iter().enumerate() {
                *sums.entry(map.owner(slot as Slot).to_string()).or_insert(0.0) += load;
            }
            sums.values().copied().fold(0.0, f64::max)
        };
        let hottest = loads.iter().copied().fold(0.0, f64::max);
        let mean = loads.iter().sum::<f64>() / count as f64;
        prop_assert!(busiest(&grown) <= busiest(&map) + 1e-6);
        prop_assert!(busiest(&grown) <= mean + hottest + 1e-6, "further from the mean than one slot");
    }

    #[test]
    fn every_user_has_a_slot_and_every_slot_a_fair_share(start in any::<u64>(), step in 1..5_000_u64) {
        let mut counts = vec![0_u32; 64];
        for n in 0..6_400 {
            counts[usize::from(slot_of(start.wrapping_add(n * step), 64))] += 1;
        }
        // A hundred each, give or take what chance allows.
        prop_assert!(counts.iter().all(|&count| (40..180).contains(&count)), "{:?}", counts);
    }
}

//! The guarantees of `placing::redis_slots`: slots against the `redis` crate, everything else on real clusters.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use lab::link::{Direction, Link};
use lab::service::{self, Redis, RedisCluster};
use lab::{Error, Rng, Show};
use proptest::prelude::*;
use redis::{Commands, Value};
use redis_slots::experiment::*;
use redis_slots::*;

/// One cluster for all tests that leave it whole; each has keys of its own.
fn cluster() -> &'static RedisCluster {
    static CLUSTER: OnceLock<RedisCluster> = OnceLock::new();
    CLUSTER.get_or_init(|| service::private_redis_cluster(3, 3))
}

fn options() -> ClientOptions {
    ClientOptions::of(cluster())
}

fn text(value: &str) -> Value {
    Value::BulkString(value.into())
}

fn set(key: &str, value: &str) -> Request {
    Request::repeatable_write(["SET", key, value])
}

fn get(key: &str) -> Request {
    Request::read(["GET", key])
}

/// The master of the key's slot, and the next one.
fn owner_and_next(key: &str) -> (&'static Redis, &'static Redis) {
    let masters = cluster().masters().unwrap();
    let owner = cluster().master_for(key).unwrap();
    let place = masters.iter().position(|master| master.name() == owner.name()).unwrap();
    (owner, masters[(place + 1) % masters.len()])
}

fn sentence(error: impl Into<Error>) -> String {
    error.into().to_string()
}

// --- slots ---------------------------------------------------------------------------------------------------------

/// CRC-16/XMODEM a bit at a time, as its definition goes.
fn crc16_by_bits(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ (u16::from(*byte) << 8),
            |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 },
        )
    })
}

proptest! {
    #[test]
    fn any_key_has_the_slot_that_the_crate_says(key in proptest::collection::vec(any::<u8>(), 0..60)) {
        prop_assert_eq!(crc16(&key), crc16_by_bits(&key));
        prop_assert_eq!(redis::cluster_routing::Slot::new(slot_of(&key)), Some(redis::cluster_routing::Slot::for_key(&key)));
    }

    #[test]
    fn braces_in_any_arrangement_too(key in "[{}ab]{0,12}") {
        prop_assert_eq!(redis::cluster_routing::Slot::new(slot_of(&key)), Some(redis::cluster_routing::Slot::for_key(&key)));
    }

    #[test]
    fn keys_of_one_tag_share_a_slot(tag in "[^{}]{1,8}", before in "[^{}]{0,8}", after in ".{0,8}") {
        prop_assert_eq!(slot_of(format!("{before}{{{tag}}}{after}")), slot_of(tag));
    }

    #[test]
    fn chosen_parts_are_level_distinct_and_always_the_same(key in "[a-z]{1,12}", parts in 1_usize..20) {
        let map = three_masters();
        let split = SplitKey::over(&key, parts, &map).unwrap();
        prop_assert_eq!(&split, &SplitKey::over(&key, parts, &map).unwrap());
        let mut names = split.parts().to_vec();
        names.sort();
        names.dedup();
        prop_assert_eq!(names.len(), parts);
        let held = |master: &str| split.parts().iter().filter(|part| map.owner(slot_of(part)) == Some(master)).count();
        let counts: Vec<usize> = map.masters().into_iter().map(held).collect();
        prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{:?}", counts);
    }
}

fn three_masters() -> SlotMap {
    let node = |port| Value::Array(vec![text("127.0.0.1"), Value::Int(port)]);
    let range = |from, to, port| Value::Array(vec![Value::Int(from), Value::Int(to), node(port)]);
    let answer = Value::Array(vec![range(0, 5_460, 1), range(5_461, 10_922, 2), range(10_923, 16_383, 3)]);
    SlotMap::read(&answer, "").unwrap()
}

#[test]
fn every_slot_is_the_servers() {
    let keys = random_keys(5_000, &mut Rng::seeded(7, "keys"));
    let check = check_slots(cluster(), &keys).unwrap();
    let agree = |function: &str| check.filter("function", function).number("of the keys");
    assert_eq!((agree("ours"), agree("the redis crate's")), (5_000.0, 5_000.0));
    assert!(agree("without hash tags") < 4_000.0, "a function that ignores tags is noticed: {check:?}");
}

#[test]
fn the_picture_shows_true_places() {
    let (svg, words) = (picture().to_html(), picture().to_plain());
    let map = slots_of(&service::private_redis_cluster(3, 0)).unwrap();
    let mut seen = (0, 0);
    for line in words.lines() {
        if let Some((key, slot)) = line.split_once(" → ") {
            assert_eq!(slot_of(key).to_string(), slot, "{key}");
            assert!(svg.contains(&format!("→ {slot}<")), "{line}");
            seen.0 += 1;
        } else if let Some((node, slots)) = line.split_once(" holds ") {
            let (from, to) = slots.split_once(" to ").unwrap();
            let master = map.masters()[node["node ".len()..].parse::<usize>().unwrap() - 1];
            assert_eq!([from, to].map(|slot| map.owner(slot.parse().unwrap())), [Some(master); 2], "{line}");
            assert!(svg.contains(&format!("{node}: {from}–{to}")), "{line}");
            seen.1 += 1;
        }
    }
    assert_eq!(seen, (8, 3));
}

#[test]
fn a_client_that_ignores_tags_does_not_find_its_keys() {
    let mut blind = options().without(Skip::HashTag).deadline(Duration::from_millis(50)).connect().unwrap();
    let keys: Vec<String> = (0..20).map(|number| format!("{{lost}}:{number}")).collect();
    let failed = keys.iter().filter(|key| blind.call(&set(key, "1")).is_err()).count();
    assert!(failed > 5, "{failed}");
}

#[test]
fn ours_and_the_crates_client_read_what_the_other_wrote() {
    let mut ours = options().connect().unwrap();
    let mut theirs = redis::cluster::ClusterClient::new(cluster().urls()).unwrap().get_connection().unwrap();
    for (number, key) in random_keys(300, &mut Rng::seeded(8, "both")).into_iter().enumerate() {
        ours.call(&Request::repeatable_write([b"SET", key.as_slice(), b"ours"])).unwrap();
        assert_eq!(theirs.get::<_, String>(&key).unwrap(), "ours", "{number}");
        let _: () = theirs.set(&key, "theirs").unwrap();
        assert_eq!(ours.call(&Request::read([b"GET", key.as_slice()])).unwrap(), text("theirs"), "{number}");
    }
    assert_eq!(ours.detours().moved, 0);
}

#[test]
fn many_requests_are_answered_in_their_order() {
    let mut client = options().connect().unwrap();
    let keys: Vec<String> = (0..2_000).map(|number| format!("many:{number}")).collect();
    let sets: Vec<Request> = keys.iter().map(|key| set(key, key)).collect();
    assert!(client.call_many(&sets).into_iter().all(|answer| answer == Ok(Value::Okay)));
    let gets: Vec<Request> = keys.iter().map(|key| get(key)).collect();
    for (key, answer) in keys.iter().zip(client.call_many(&gets)) {
        assert_eq!(answer.unwrap(), text(key));
    }
    let mixed = client.call_many(&[get("many:1"), Request::read(["NONSENSE", "many:1"]), get("many:2")]);
    assert_eq!((mixed[0].clone().unwrap(), mixed[2].clone().unwrap()), (text("many:1"), text("many:2")));
    assert!(matches!(mixed[1], Err(Failure::NotDone(_))), "one error is one request's: {mixed:?}");
}

// --- slots that move -----------------------------------------------------------------------------------------------

#[test]
fn a_slot_on_two_nodes_has_every_answer_and_then_a_new_owner() {
    let key = |number: usize| format!("{{half}}:{number}");
    let mut client = options().connect().unwrap();
    let sets: Vec<Request> = (0..40).map(|number| set(&key(number), &number.to_string())).collect();
    client.call_many(&sets).into_iter().for_each(|answer| drop(answer.unwrap()));
    let (source, target) = owner_and_next(&key(0));
    let mut slot = SlotMove::begin(slot_of(key(0)), source, target).unwrap();
    assert_eq!(slot.carry(20).unwrap(), 20);

    let before = client.detours();
    for number in 0..40 {
        assert_eq!(client.call(&get(&key(number))).unwrap(), text(&number.to_string()));
    }
    assert_eq!((client.detours().asked - before.asked, client.detours().moved), (20, 0), "ASK does not change the map");
    let many: Vec<Request> = (0..40).map(|number| get(&key(number))).collect();
    for (number, answer) in client.call_many(&many).into_iter().enumerate() {
        assert_eq!(answer.unwrap(), text(&number.to_string()));
    }
    // A key that nobody has yet is made where the slot is going.
    assert_eq!(client.call(&Request::write(["INCR", &key(99)])).unwrap(), Value::Int(1));
    assert_eq!(slot.left().unwrap(), 20);

    // All forty in one command: on neither side.
    let all: Vec<String> = std::iter::once("MGET".to_owned()).chain((0..40).map(key)).collect();
    let mut hasty = options().deadline(Duration::from_millis(30)).connect().unwrap();
    let error = sentence(hasty.call(&Request::read(&all)).unwrap_err());
    assert!(error.contains("both sides") && hasty.detours().tried_again > 1, "{error}");
    let waiting = std::thread::spawn(move || client.call(&Request::read(&all)).map(|answer| (answer, client)));
    std::thread::sleep(Duration::from_millis(50));

    let error = sentence(SlotMove::begin(slot_of(key(0)), source, target).unwrap().finish(&[]).unwrap_err());
    assert!(error.contains("20 of its keys are still at the source"), "{error}");
    while slot.carry(7).unwrap() > 0 {}
    assert_eq!(slot.moved(), 40);
    slot.finish(&[]).unwrap();
    let (answer, mut client) = waiting.join().unwrap().unwrap();
    let expected = (0..40).map(|number| text(&number.to_string())).collect();
    assert_eq!(answer, Value::Array(expected), "it was tried again until all keys were on one side");

    let before = client.detours();
    (0..10).for_each(|number| assert_eq!(client.call(&get(&key(number))).unwrap(), text(&number.to_string())));
    assert!(client.detours().moved - before.moved <= 1, "the map has learned: {:?}", client.detours());
    cluster().settle();
    assert_eq!(cluster().master_for(&key(0)).unwrap().name(), target.name());
}

#[test]
fn a_mover_that_dies_half_way_is_resumed_by_another() {
    let key = |number: usize| format!("{{resumed}}:{number}");
    let mut client = options().connect().unwrap();
    (0..30).for_each(|number| drop(client.call(&set(&key(number), "here")).unwrap()));
    let (source, target) = owner_and_next(&key(0));
    let mut first = SlotMove::begin(slot_of(key(0)), source, target).unwrap();
    first.carry(11).unwrap();
    drop(first);
    (0..30).for_each(|number| assert_eq!(client.call(&get(&key(number))).unwrap(), text("here")));
    let mut second = SlotMove::begin(slot_of(key(0)), source, target).unwrap();
    while second.carry(5).unwrap() > 0 {}
    assert_eq!(second.moved(), 19);
    second.finish(&[]).unwrap();
    (0..30).for_each(|number| assert_eq!(client.call(&get(&key(number))).unwrap(), text("here")));
}

/// A connection to one node, which follows nobody.
fn alone(node: &Redis) -> redis::Connection {
    redis::Client::open(node.url()).unwrap().get_connection().unwrap()
}

/// What the target of a move answers to a client that was sent there by ASK.
fn asked(target: &mut redis::Connection, command: &[&str]) -> Value {
    redis::cmd("ASKING").exec(target).unwrap();
    redis::cmd(command[0]).arg(&command[1..]).query(target).unwrap()
}

/// Carries over what can be carried, until only disputed keys are left; what the mover says then.
fn until_disputed(slot: &mut SlotMove) -> String {
    loop {
        match slot.carry(2) {
            Ok(count) => assert!(count > 0, "nothing was disputed"),
            Err(error) => return error.to_string(),
        }
    }
}

#[test]
fn keys_whose_arrival_nobody_heard_of_are_carried_again_with_what_was_written_since() {
    let key = |number: usize| format!("{{unheard}}:{number}");
    let mut client = options().connect().unwrap();
    (0..10).for_each(|number| drop(client.call(&set(&key(number), "first")).unwrap()));
    let (source, target) = owner_and_next(&key(0));
    drop(SlotMove::begin(slot_of(key(0)), source, target).unwrap());
    // As a MIGRATE leaves them whose answer is lost: the target has them, and the source does not know.
    let password = source.url().split([':', '@']).nth(2).unwrap().to_owned();
    let mut copying = redis::cmd("MIGRATE");
    copying.arg("127.0.0.1").arg(target.port()).arg("").arg(0).arg(5_000).arg("COPY").arg("AUTH").arg(password);
    copying.arg("KEYS").arg((0..8).map(key).collect::<Vec<_>>()).exec(&mut alone(source)).unwrap();
    (0..4).for_each(|number| drop(client.call(&set(&key(number), "second")).unwrap()));
    assert_eq!(client.detours().asked, 0, "what is on both nodes is written at the source");

    let mut slot = SlotMove::begin(slot_of(key(0)), source, target).unwrap();
    while slot.carry(3).unwrap() > 0 {}
    assert_eq!((slot.moved(), slot.disputed().len()), (10, 0));
    slot.finish(&[]).unwrap();
    for number in 0..10 {
        let expected = if number < 4 { "second" } else { "first" };
        assert_eq!(client.call(&get(&key(number))).unwrap(), text(expected), "{number}");
    }
}

#[test]
fn a_source_that_comes_back_from_an_older_file_overwrites_nothing_that_the_target_has_acknowledged() {
    let cluster = RedisCluster::of(3, 0).with("appendonly", "yes").with("appendfsync", "always").start().unwrap();
    let mut client = ClientOptions::of(&cluster).connect().unwrap();
    let key = |number: usize| format!("{{older}}:{number}");
    (0..8).for_each(|number| drop(client.call(&set(&key(number), "first")).unwrap()));
    let members: Vec<String> = (0..2_000).map(|member| format!("member-{member}")).collect();
    let add: Vec<&str> = ["SADD", "{older}:set"].into_iter().chain(members.iter().map(String::as_str)).collect();
    assert_eq!(client.call(&Request::write(&add)).unwrap(), Value::Int(2_000));
    let (masters, source) = (cluster.masters().unwrap(), cluster.master_for(&key(0)).unwrap());
    let target = *masters.iter().find(|node| node.name() != source.name()).unwrap();

    let directory = source.log_path().unwrap().parent().unwrap().to_owned();
    let (file, older) = (directory.join("appendonlydir"), directory.join("older"));
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        std::fs::create_dir(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    };
    copy(&file, &older);
    let mut slot = SlotMove::begin(slot_of(key(0)), source, target).unwrap();
    while slot.left().unwrap() > 2 {
        slot.carry(1).unwrap();
    }
    let carried = (0..8).find(|number| asked(&mut alone(target), &["EXISTS", &key(*number)]) == Value::Int(1)).unwrap();
    source.kill();
    // Somebody had been sent to the target, and writes there while the source is dead.
    let mut at_the_target = alone(target);
    assert_eq!(asked(&mut at_the_target, &["SET", &key(carried), "acknowledged"]), Value::Okay);
    assert_eq!(asked(&mut at_the_target, &["SET", &key(99), "new"]), Value::Okay);
    std::fs::remove_dir_all(&file).unwrap();
    copy(&older, &file);
    source.restart();
    cluster.settle();
    assert_eq!(
        source.ask(&format!("CLUSTER COUNTKEYSINSLOT {}", slot_of(key(0)))).unwrap(),
        "9",
        "it has come back with all"
    );

    drop(slot);
    let mut slot = SlotMove::begin(slot_of(key(0)), source, target).unwrap();
    let error = until_disputed(&mut slot);
    assert!(error.contains(&key(carried)) && error.contains("which to keep"), "{error}");
    assert_eq!(slot.disputed(), [key(carried).into_bytes()], "the others are equal");
    assert_eq!(slot.left().unwrap(), 1);
    assert_eq!(asked(&mut at_the_target, &["GET", &key(carried)]), text("acknowledged"));
    assert!(slot.carry(2).is_err(), "it stays disputed");
    slot.keep(key(carried).as_bytes(), Side::Target).unwrap();
    assert_eq!(slot.carry(2).unwrap(), 0);
    slot.finish(&[]).unwrap();
    for number in 0..8 {
        let expected = if number == carried { "acknowledged" } else { "first" };
        assert_eq!(client.call(&get(&key(number))).unwrap(), text(expected), "{number}");
    }
    assert_eq!(client.call(&get(&key(99))).unwrap(), text("new"));
    assert_eq!(client.call(&Request::read(["SCARD", "{older}:set"])).unwrap(), Value::Int(2_000));
}

#[test]
fn of_two_copies_the_one_stays_that_the_caller_says() {
    let key = |number: usize| format!("{{chosen}}:{number}");
    let mut client = options().connect().unwrap();
    let (source, target) = owner_and_next(&key(0));
    // Somebody else's move, of which this source knows nothing any more.
    let mut at_the_target = alone(target);
    let id = source.ask("CLUSTER MYID").unwrap();
    target.ask(&format!("CLUSTER SETSLOT {} IMPORTING {id}", slot_of(key(0)))).unwrap();
    for number in 0..3 {
        client.call(&set(&key(number), "at the source")).unwrap();
        asked(&mut at_the_target, &["SET", &key(number), "at the target"]);
    }
    let mut slot = SlotMove::begin(slot_of(key(0)), source, target).unwrap();
    let error = until_disputed(&mut slot);
    assert!(error.contains("of 3 keys"), "{error}");
    slot.keep(key(0).as_bytes(), Side::Source).unwrap();
    slot.keep(key(1).as_bytes(), Side::Target).unwrap();
    // A client settles the third.
    client.call(&Request::write(["DEL", &key(2)])).unwrap();
    while slot.carry(10).unwrap() > 0 {}
    assert_eq!(slot.disputed().len(), 0);
    assert!(slot.keep(b"{chosen}:7", Side::Target).is_err(), "nothing would be left of it");
    slot.finish(&[]).unwrap();
    let values: Vec<Value> = (0..2).map(|number| client.call(&get(&key(number))).unwrap()).collect();
    assert_eq!(values, [text("at the source"), text("at the target")]);
}

#[test]
fn a_move_is_begun_again_from_wherever_it_was_left_and_goes_nowhere_else() {
    let cluster = service::private_redis_cluster(3, 3);
    let mut client = ClientOptions::of(&cluster).connect().unwrap();
    let key = |number: usize| format!("{{again}}:{number}");
    let number = slot_of(key(0));
    (0..12).for_each(|number| drop(client.call(&set(&key(number), "here")).unwrap()));
    let source = cluster.master_for(&key(0)).unwrap();
    let others: Vec<&Redis> =
        cluster.masters().unwrap().into_iter().filter(|node| node.name() != source.name()).collect();
    let [target, third] = others[..] else { panic!("{others:?}") };
    let mut slot = SlotMove::begin(number, source, target).unwrap().patience(Duration::from_millis(200));
    slot.carry(4).unwrap();

    // Sent to a third node, clients would miss what the second has already.
    let error = SlotMove::begin(number, source, third).err().unwrap().to_string();
    assert!(error.contains("is on its way to") && error.contains("finish that move first"), "{error}");
    let error = SlotMove::begin(number, third, target).err().unwrap().to_string();
    assert!(error.contains("is not its own"), "{error}");
    (0..12).for_each(|number| assert_eq!(client.call(&get(&key(number))).unwrap(), text("here")));

    // An answer that comes too late is none to the next question.
    source.pause();
    assert!(slot.left().is_err());
    source.resume();
    assert_eq!((slot.carry(3).unwrap(), slot.left().unwrap()), (3, 5));
    while slot.carry(3).unwrap() > 0 {}
    assert_eq!(slot.moved(), 12);
    drop(slot);

    // A mover that dies between the last two steps, and one that dies behind them.
    let id = target.ask("CLUSTER MYID").unwrap();
    target.ask(&format!("CLUSTER SETSLOT {number} NODE {id}")).unwrap();
    for _ in 0..2 {
        let mut slot = SlotMove::begin(number, source, target).unwrap();
        assert_eq!(slot.carry(3).unwrap(), 0);
        slot.finish(&[third]).unwrap();
        cluster.settle();
        assert_eq!(cluster.master_for(&key(0)).unwrap().name(), target.name());
    }
    (0..12).for_each(|number| assert_eq!(client.call(&get(&key(number))).unwrap(), text("here")));
}

#[test]
fn a_move_under_traffic_is_no_error_and_counts_exactly_unless_asking_is_left_out() {
    let cluster = service::private_redis_cluster(3, 3);
    let rest = Duration::from_millis(150);
    let spec = MoveSpec { keys: 100, batch: 5, rest, deadline: Duration::from_secs(10), skip: None, seed: 1 };
    let moved = spec.run(&cluster).unwrap();
    let (failed, seen) = (moved.requests.filter("outcome", "failed"), moved.seen("polite"));
    assert_eq!((moved.failed(false), moved.miscounted, moved.failed(true)), (0, 0, 0), "{failed:?}");
    let by_the_crate = moved.requests.filter("task", "read by the crate").height();
    assert!(moved.carried >= 100 && moved.acknowledged > 100 && by_the_crate > 10);
    assert!(["ASK", "MOVED", "TRYAGAIN"].iter().all(|detour| seen.number(detour) > 0.0), "{seen:?}");
    assert!(moved.by_ask(0.02).samples("by ASK").max() > 20.0);

    let deadline = Duration::from_millis(40);
    let rude = MoveSpec { deadline, skip: Some(Skip::Asking), seed: 2, ..spec }.run(&cluster).unwrap();
    assert!(rude.failed(false) > 0, "{:?}", rude.seen("rude"));
    assert_eq!(rude.miscounted, 0, "refused is not done");
}

// --- what is unknown -----------------------------------------------------------------------------------------------

/// A client that reaches the key's master through a link.
fn through_link(options: ClientOptions, key: &str) -> (ClientOptions, Link) {
    let master = cluster().master_for(key).unwrap();
    let link = lab::link(master.address());
    (options.route(master.address(), link.address()), link)
}

#[test]
fn a_write_whose_answer_is_lost_is_unknown_and_not_done_twice() {
    let hurried = options().patience(Duration::from_millis(100)).deadline(Duration::from_millis(500));
    let (hurried, link) = through_link(hurried, "unknown");
    let mut client = hurried.connect().unwrap();
    assert_eq!(client.call(&Request::write(["INCR", "unknown"])).unwrap(), Value::Int(1));
    link.half_open_toward(Direction::ToClient);
    let failure = client.call(&Request::write(["INCR", "unknown"])).unwrap_err();
    assert!(matches!(failure, Failure::Unknown(_)), "{failure}");
    let mut other = options().connect().unwrap();
    assert_eq!(other.call(&get("unknown")).unwrap(), text("2"), "it was done, once");

    // No connection, no question: that is known not to have been done.
    let failure = client.call(&Request::write(["INCR", "unknown"])).unwrap_err();
    assert!(matches!(failure, Failure::NotDone(_)), "{failure}");
    assert_eq!(other.call(&get("unknown")).unwrap(), text("2"));
    link.heal();
    assert_eq!(client.call(&Request::write(["INCR", "unknown"])).unwrap(), Value::Int(3));
}

#[test]
fn what_was_given_up_is_not_done_behind_what_came_after_it() {
    let cluster = service::private_redis_cluster(3, 3);
    let master = cluster.master_for("late").unwrap();
    let link = cluster.replicate_through_link(master).unwrap();
    // By the URLs alone, a client goes where a node says that it is: through the link.
    let through = || ClientOptions::to(cluster.urls()).patience(Duration::from_millis(100)).connect().unwrap();
    let [mut one, mut two] = [through(), through()];
    one.call(&set("{late}", "first")).unwrap();
    two.call(&get("{late}")).unwrap();
    let mut other = ClientOptions::of(&cluster).connect().unwrap();
    link.half_open();
    let failure = one.call(&Request::write(["INCR", "{late}:count"])).unwrap_err();
    assert!(matches!(failure, Failure::Unknown(_)), "{failure}");
    // While the second tries, another way to the same node is announced.
    let second = std::thread::spawn(move || {
        two.call(&set("{late}", "second")).unwrap();
        two
    });
    master.ask(&format!("CONFIG SET cluster-announce-port {}", master.port())).unwrap();
    let mut two = second.join().unwrap();
    assert!(two.detours().broken > 0, "it did not go into the link");
    two.call(&set("{late}", "third")).unwrap();
    assert_eq!(one.call(&get("{late}:count")).unwrap(), Value::Nil);
    link.heal();
    let asked = Instant::now();
    while link.stats().in_flight > 0 {
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", link.stats());
        std::thread::sleep(Duration::from_millis(1));
    }
    // Whatever has arrived at the node is done when it has gone round once more.
    (0..2).for_each(|_| drop(other.call(&get("{late}")).unwrap()));
    assert_eq!(other.call(&get("{late}:count")).unwrap(), Value::Nil, "it was not there, and then it was");
    assert_eq!(other.call(&get("{late}")).unwrap(), text("third"), "what was acknowledged was overwritten");
}

#[test]
fn a_second_try_that_is_refused_does_not_say_that_the_first_was_not_done() {
    let cluster = service::private_redis_cluster(3, 0);
    let master = cluster.master_for("lost").unwrap();
    let link = lab::link(master.address());
    let options = ClientOptions::of(&cluster).route(master.address(), link.address());
    let mut client = options.patience(Duration::from_millis(200)).connect().unwrap();
    client.call(&get("lost")).unwrap();
    link.half_open_toward(Direction::ToClient);
    let connections = link.stats().total;
    let asking = std::thread::spawn(move || client.call(&set("lost", "done")));
    // It has given up its connection, and tries another one.
    while link.stats().total == connections {
        assert!(!asking.is_finished(), "it has not tried again");
        std::thread::sleep(Duration::from_millis(1));
    }
    master.ask("CONFIG SET min-replicas-to-write 1").unwrap();
    link.heal();
    let failure = asking.join().unwrap().unwrap_err();
    assert!(matches!(failure, Failure::Unknown(_)), "{failure}");
    let mut other = ClientOptions::of(&cluster).connect().unwrap();
    assert_eq!(other.call(&get("lost")).unwrap(), text("done"));
}

#[test]
fn a_replica_that_follows_another_master_now_is_asked_no_more() {
    let cluster = service::private_redis_cluster(3, 3);
    let mut client = ClientOptions::of(&cluster).connect().unwrap();
    client.call(&set("followed", "yes")).unwrap();
    let master = cluster.master_for("followed").unwrap();
    let asked = Instant::now();
    while client.map().replicas(master.address()).is_empty() {
        assert!(asked.elapsed() < Duration::from_secs(20), "no replica is listed");
        client.refresh().unwrap();
    }
    let address = client.map().replicas(master.address())[0].clone();
    let replica = cluster.nodes().iter().find(|node| node.address() == address).unwrap();
    let other = *cluster.masters().unwrap().iter().find(|node| node.name() != master.name()).unwrap();
    replica.ask(&format!("CLUSTER REPLICATE {}", other.ask("CLUSTER MYID").unwrap())).unwrap();
    assert_eq!(client.call(&get("followed").from_replica()).unwrap(), text("yes"));
}

#[test]
fn silent_nodes_keep_nobody_waiting_beyond_the_deadline_and_what_was_begun() {
    let cluster = service::private_redis_cluster(3, 3);
    let patience = Duration::from_millis(300);
    let mut client = ClientOptions::of(&cluster).patience(patience).deadline(patience).connect().unwrap();
    client.call(&get("silent")).unwrap();
    cluster.nodes().iter().for_each(|node| node.pause());
    // More than fits into the sockets; and then no connection can be made any more.
    let large = set("silent", &"x".repeat(64 << 20));
    for request in [large, get("silent")] {
        let begun = Instant::now();
        let failure = client.call(&request).unwrap_err();
        let took = begun.elapsed();
        assert!(took < 5 * patience, "{took:?}: {failure}");
    }
    cluster.nodes().iter().for_each(|node| node.resume());
    let resumed = Instant::now();
    while let Err(failure) = client.call(&get("silent")) {
        assert!(resumed.elapsed() < Duration::from_secs(30), "{failure}");
    }
}

#[test]
fn of_many_requests_those_for_a_silent_node_keep_only_each_other_waiting() {
    let cluster = service::private_redis_cluster(3, 0);
    let (patience, deadline) = (Duration::from_millis(300), Duration::from_millis(600));
    let mut client = ClientOptions::of(&cluster).patience(patience).deadline(deadline).connect().unwrap();
    let keys: Vec<String> = (0..9_000).map(|number| format!("half:{number}")).collect();
    let sets: Vec<Request> = keys.iter().map(|key| set(key, "1")).collect();
    client.call_many(&sets).into_iter().for_each(|answer| drop(answer.unwrap()));
    let (silent, map) = (cluster.masters().unwrap()[0], client.map().clone());
    let gets: Vec<Request> = keys.iter().map(|key| get(key)).collect();
    silent.pause();
    let begun = Instant::now();
    let answers = client.call_many(&gets);
    let took = begun.elapsed();
    silent.resume();
    for (key, answer) in keys.iter().zip(answers) {
        let well = map.owner(slot_of(key)) != Some(silent.address());
        assert_eq!(answer.is_ok(), well, "{key}: {answer:?}");
    }
    assert!(took < deadline + 3 * patience, "{took:?}");
}

#[test]
fn a_read_whose_connection_breaks_is_tried_again() {
    let (options, link) = through_link(options(), "again");
    let mut client = options.connect().unwrap();
    client.call(&set("again", "yes")).unwrap();
    link.cut_connections();
    assert_eq!(client.call(&get("again")).unwrap(), text("yes"));
    assert!(client.detours().broken > 0);
    link.cut_connections();
    assert_eq!(client.call_many(&[get("again"), get("again")]), [Ok(text("yes")), Ok(text("yes"))]);
}

#[test]
fn wait_says_how_many_replicas_have_it_and_nothing_when_they_are_out_of_reach() {
    let cluster = service::private_redis_cluster(3, 3);
    let link = cluster.replicate_through_link(cluster.master_for("waited").unwrap()).unwrap();
    let mut client = ClientOptions::of(&cluster).connect().unwrap();
    let writes = [set("{waited}:1", "1"), set("{waited}:2", "2")];
    let (answers, replicas) = client.write_and_wait(&writes, 1, Duration::from_secs(10));
    assert_eq!((answers, replicas), (vec![Ok(Value::Okay), Ok(Value::Okay)], 1));
    link.half_open();
    let (answers, replicas) = client.write_and_wait(&writes, 1, Duration::from_millis(50));
    assert_eq!((answers, replicas), (vec![Ok(Value::Okay), Ok(Value::Okay)], 0));
    let (answers, replicas) = client.write_and_wait(&writes, 1, Duration::ZERO);
    assert_eq!((answers.len(), replicas), (2, 0), "no patience is not for ever");
}

// --- the split counter ---------------------------------------------------------------------------------------------

#[test]
fn parts_sum_up_to_the_acknowledged_increments_of_all_clients() {
    let acknowledged: u64 = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|number| {
                scope.spawn(move || {
                    let mut client = options().connect().unwrap();
                    let key = SplitKey::agreed("likes", 7, &mut client).unwrap();
                    let (counter, mut rng) = (key, Rng::seeded(number, "likes"));
                    (1..=300)
                        .filter(|amount| client.call(&counter.add(amount % 3, &mut rng)).is_ok())
                        .map(|n| n % 3)
                        .sum::<u64>()
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    let mut client = options().connect().unwrap();
    let counter = SplitKey::agreed("likes", 7, &mut client).unwrap();
    assert_eq!((counter.read(&mut client).unwrap(), acknowledged), (1_200, 1_200));
}

#[test]
fn who_comes_second_uses_the_parts_of_the_first() {
    let mut client = options().connect().unwrap();
    let first = SplitKey::agreed("agreed", 3, &mut client).unwrap();
    let second = SplitKey::agreed("agreed", 12, &mut client).unwrap();
    assert_eq!(first, second);
    // What agreeing is for: two lists, and a reader who misses what was written.
    let (writer, reader) = (SplitKey::over("apart", 3, client.map()).unwrap(), SplitKey::naive("apart", 3).unwrap());
    let mut rng = Rng::seeded(1, "apart");
    (0..100).for_each(|_| drop(client.call(&writer.add(1, &mut rng)).unwrap()));
    assert_eq!(writer.read(&mut client).unwrap(), 100);
    if writer.parts() != reader.parts() {
        assert!(reader.read(&mut client).unwrap() < 100);
    }
}

#[test]
fn a_part_that_is_no_number_is_an_error() {
    let mut client = options().connect().unwrap();
    client.call(&set("words:0", "many")).unwrap();
    let counter = SplitKey::naive("words", 2).unwrap();
    assert!(sentence(counter.read(&mut client).unwrap_err()).contains("\"many\""));
    let silent = Err(Failure::NotDone(Error::new("read", "nobody answers")));
    assert!(SplitKey::sum([Ok(text("1")), silent]).is_err(), "half a sum is none");
    assert_eq!(SplitKey::sum([Ok(text("1")), Ok(Value::Nil), Ok(text("2"))]), Ok(3));
    let most = || Ok(text(&u64::MAX.to_string()));
    assert!(sentence(SplitKey::sum([most(), most()]).unwrap_err()).contains("more than 64 bits"));
}

// --- the cache -----------------------------------------------------------------------------------------------------

#[test]
fn a_cached_value_is_served_until_it_changes_and_not_after() {
    let mut reader = options().caching(Duration::from_secs(60)).connect().unwrap();
    let mut writer = options().connect().unwrap();
    for version in 0..50 {
        let version = version.to_string();
        writer.call(&set("cached", &version)).unwrap();
        // The word of the change may still be on its way to us; a question to the same node comes after it.
        reader.call(&get("cached")).unwrap();
        let before = reader.detours();
        for _ in 0..3 {
            assert_eq!(reader.call(&Request::cached("cached")).unwrap(), text(&version));
        }
        assert_eq!((reader.detours().hits - before.hits, reader.detours().misses - before.misses), (2, 1));
    }
    writer.call(&Request::repeatable_write(["DEL", "cached"])).unwrap();
    reader.call(&get("cached")).unwrap();
    assert_eq!(reader.call(&Request::cached("cached")).unwrap(), Value::Nil);
}

#[test]
fn what_an_invalidation_has_overtaken_is_not_kept_and_who_leaves_a_step_out_is_seen() {
    let old = |skip| old_after_overwriting(cluster(), 60, skip).unwrap();
    assert_eq!(old(None), 0);
    assert_eq!([Skip::Order, Skip::Invalidations].map(|skip| old(Some(skip))), [60, 60]);
}

#[test]
fn a_value_that_expires_is_not_served_by_the_very_question_that_finds_it_expired() {
    // A lease of nothing: the server is asked about every hit.
    let mut reader = options().caching(Duration::ZERO).connect().unwrap();
    let mut writer = options().connect().unwrap();
    for number in 0..30 {
        let key = format!("expiring:{number}");
        let begun = Instant::now();
        writer.call(&Request::write(["SET", &key, "old", "PX", "15"])).unwrap();
        let first = reader.call(&Request::cached(&key)).unwrap();
        assert!(first == text("old") || begun.elapsed() > Duration::from_millis(15));
        std::thread::sleep(Duration::from_millis(16));
        assert_eq!(reader.call(&Request::cached(&key)).unwrap(), Value::Nil, "{key}");
    }
}

#[test]
fn a_connection_that_breaks_takes_its_values_along() {
    let (options, link) = through_link(options().caching(Duration::from_secs(60)), "broken");
    let mut reader = options.connect().unwrap();
    let mut writer = self::options().connect().unwrap();
    writer.call(&set("broken", "old")).unwrap();
    assert_eq!(reader.call(&Request::cached("broken")).unwrap(), text("old"));
    link.cut_connections();
    writer.call(&set("broken", "new")).unwrap();
    assert_eq!(reader.call(&Request::cached("broken")).unwrap(), text("new"));
}

#[test]
fn a_wire_that_dies_silently_makes_nothing_older_than_the_lease() {
    let lease = Duration::from_millis(300);
    let patient = options().caching(lease).patience(Duration::from_millis(100)).deadline(Duration::from_millis(150));
    let (options, link) = through_link(patient, "leased");
    let mut reader = options.connect().unwrap();
    let mut writer = self::options().connect().unwrap();
    writer.call(&set("leased", "old")).unwrap();
    assert_eq!(reader.call(&Request::cached("leased")).unwrap(), text("old"));
    link.half_open();
    writer.call(&set("leased", "new")).unwrap();
    let overwritten = Instant::now();
    let mut served = 0;
    while overwritten.elapsed() < 3 * lease {
        let begun = overwritten.elapsed();
        match reader.call(&Request::cached("leased")) {
            Ok(value) => {
                assert!(value == text("old") && begun < lease, "{value:?} {begun:?} after it was overwritten");
                served += 1;
            }
            Err(failure) => assert!(overwritten.elapsed() > lease - Duration::from_millis(50), "{failure}"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(served > 10, "within the lease, the cache answers by itself: {served}");
    link.heal();
    assert_eq!(reader.call(&Request::cached("leased")).unwrap(), text("new"));
}

#[test]
fn a_flush_empties_the_cache_and_a_move_takes_its_slot_along() {
    let cluster = service::private_redis_cluster(3, 3);
    let mut reader = ClientOptions::of(&cluster).caching(Duration::ZERO).connect().unwrap();
    let mut writer = ClientOptions::of(&cluster).connect().unwrap();
    let keys: Vec<String> = (0..30).map(|number| format!("{{gone}}:{number}")).collect();
    let owner = cluster.master_for(&keys[0]).unwrap();
    let fill =
        |writer: &mut Client, value: &str| keys.iter().for_each(|key| drop(writer.call(&set(key, value)).unwrap()));
    let all = |reader: &mut Client, value: &Value| {
        keys.iter().for_each(|key| assert_eq!(reader.call(&Request::cached(key)).unwrap(), *value, "{key}"));
    };
    fill(&mut writer, "first");
    all(&mut reader, &text("first"));
    assert_eq!(owner.ask("FLUSHALL").unwrap(), "OK");
    all(&mut reader, &Value::Nil);

    fill(&mut writer, "second");
    all(&mut reader, &text("second"));
    let target = *cluster.masters().unwrap().iter().find(|node| node.name() != owner.name()).unwrap();
    let mut slot = SlotMove::begin(slot_of(&keys[0]), owner, target).unwrap();
    slot.carry(10).unwrap();
    all(&mut reader, &text("second"));
    fill(&mut writer, "third");
    all(&mut reader, &text("third"));
    while slot.carry(10).unwrap() > 0 {}
    slot.finish(&[]).unwrap();
    fill(&mut writer, "fourth");
    all(&mut reader, &text("fourth"));
    let hits = reader.detours().hits;
    all(&mut reader, &text("fourth"));
    assert_eq!(reader.detours().hits - hits, 30);
}

// --- experiments ---------------------------------------------------------------------------------------------------

#[test]
fn a_far_replica_is_late_by_its_wire_and_the_deaf_cache_for_ever() {
    let cluster = service::private_redis_cluster(3, 3);
    let delay = Duration::from_millis(20);
    let spec = StalenessSpec { versions: 50, every: Duration::from_millis(2), delay, own_writes: 3 };
    let stale = spec.run(&cluster).unwrap();
    let of = |reader: &str, figure: &str| stale.readers.filter("reader", reader).number(figure);
    assert_eq!((of("master", "old"), of("client cache", "still old at the end")), (0.0, 0.0));
    assert!(stale.readers.samples("backwards").values().iter().all(|backwards| *backwards == 0.0));
    assert!(of("deaf cache", "still old at the end") > 0.0);
    let soonest = 1e3 * stale.versions.filter("reader", "replica, 20 ms away").samples("visible after").min();
    assert!(soonest >= 20.0, "{soonest}");
    assert_eq!(stale.own.samples(&"after WAIT 1", "not there").values(), [0.0; 3]);
    assert!(stale.own.samples(&"at once", "not there").max() > 0.0);

    let spec = HotSpec { keys: 100, skew: 1.5, requests: 1_000, rounds: 2, clients: 2, batch: 50 };
    let remedies = [Remedy::OneKey, Remedy::Suffixes(3), Remedy::Parts(4), Remedy::Cache, Remedy::Replicas];
    let arms = remedies.map(|remedy| Arm(remedy, 50));
    let hot = spec.run(&cluster, arms, 1).unwrap();
    assert!(hot.figure("miscounted").samples("value").values().iter().all(|off| *off == 0.0));
    assert!(arms.iter().map(|arm| hot.total(arm, "acknowledged")).sum::<f64>() > 1_000.0);
    for arm in &arms[..3] {
        assert_eq!(hot.total(arm, "unforeseen"), 0.0, "{arm}");
        let map = slots_of(&cluster).unwrap();
        let predicted = spec.predict(*arm, &map).unwrap().into_iter().fold(0.0, f64::max);
        let measured = hot.samples(arm, "on the busiest").mean();
        assert!((measured / predicted - 1.0).abs() < 0.15, "{arm}: {measured} {predicted}");
    }
    assert!(hot.samples(&arms[3], "hits").mean() > 20.0);
}

#[test]
fn a_failover_behind_a_delayed_wire_loses_what_nobody_vouched_for() {
    let death = Death { delay: Duration::from_millis(100), full_coverage: false };
    let (load, node_timeout) = (Duration::from_millis(600), Duration::from_millis(1_000));
    let died = FailoverSpec { load, deaths: vec![death], batch: 10, node_timeout }.run().unwrap().deaths;
    assert!(died.number("gone") > 0.0 && died.number("gone") < died.number("acknowledged"), "{died:?}");
    assert!(died.number("vouched for") > 0.0, "WAIT vouched for some");
    assert_eq!((died.number("vouched for and gone"), died.number("others refused")), (0.0, 0.0));
    assert!(died.number("unserved") > 0.8, "{died:?}");
    assert!(died.number("others served") > 20.0, "nobody waits for the dead one but its own: {died:?}");
}

// --- bad input -----------------------------------------------------------------------------------------------------

#[test]
fn what_cannot_be_is_one_sentence() {
    let plain = service::redis();
    let error = ClientOptions::to([plain.url().to_owned()]).connect().err().unwrap().to_string();
    assert!(error.contains("cluster support disabled") && error.contains("of a cluster"), "{error}");
    let nobody =
        || ClientOptions::to(["redis://127.0.0.1:1/".to_owned()]).patience(Duration::from_millis(200)).connect();
    assert!(nobody().err().unwrap().to_string().contains("refused"), "{}", nobody().err().unwrap());
    let none = ClientOptions::to([]).connect().err().unwrap().to_string();
    assert!(none.contains("no node was named"), "{none}");
    let nonsense = ClientOptions::to(["the moon".to_owned()]).connect().err().unwrap().to_string();
    assert!(nonsense.contains("redis://:password@host:port/"), "{nonsense}");

    let map = three_masters();
    for error in [
        SplitKey::over("key", 0, &map).unwrap_err(),
        SplitKey::naive("key", 0).unwrap_err(),
        SplitKey::naive("", 3).unwrap_err(),
        SplitKey::over("{tag}", 3, &map).unwrap_err(),
        SplitKey::of([]).unwrap_err(),
        SplitKey::over("key", 3, &SlotMap::read(&Value::Array(Vec::new()), "").unwrap()).unwrap_err(),
    ] {
        assert!(error.to_string().starts_with("could not split a key"), "{error}");
    }

    let (owner, next) = owner_and_next("key");
    let same = SlotMove::begin(slot_of("key"), owner, owner).err().unwrap().to_string();
    assert!(same.contains("the same node"), "{same}");
    let foreign = SlotMove::begin(slot_of("key"), next, cluster().masters().unwrap()[0]).err().unwrap().to_string();
    assert!(foreign.contains("could not move a slot"), "{foreign}");

    let spec = HotSpec { keys: 0, skew: 1.0, requests: 1, rounds: 1, clients: 1, batch: 1 };
    assert!(spec.run(cluster(), [Arm(Remedy::OneKey, 50)], 1).is_err());
    let spec = MoveSpec { keys: 1, batch: 1, rest: Duration::ZERO, deadline: Duration::ZERO, skip: None, seed: 1 };
    assert!(spec.run(cluster()).is_err());
    let none =
        FailoverSpec { load: Duration::ZERO, deaths: Vec::new(), batch: 1, node_timeout: Duration::from_secs(1) };
    assert!(none.run().is_err());
}

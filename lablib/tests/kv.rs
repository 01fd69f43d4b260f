//! The key-value store on real servers.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lablib::lab::history::models::{KeyValue, KeyValueOp, KeyValueRet};
use lablib::lab::history::{Operation, linearizable};
use lablib::lab::service::MariaDb;
use lablib::lab::{Rng, mysql, private_mysql};
use lablib::sql::kv::experiment::*;
use lablib::sql::kv::{Expected, LONGEST_KEY, LONGEST_VALUE, Skip, Store, Sweeper, shard_of};
use proptest::prelude::*;

fn store(server: &MariaDb, shards: usize) -> (Store, Vec<String>) {
    let urls = databases(server, shards);
    (Store::create(&urls).unwrap(), urls)
}

fn values(found: Vec<(Vec<u8>, lablib::sql::kv::Entry)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    found.into_iter().map(|(key, entry)| (key, entry.value)).collect()
}

#[test]
#[ignore = "starts MariaDB"]
fn what_was_put_last_is_got_and_what_is_deleted_is_gone() {
    let server = mysql();
    let (mut store, _) = store(&server, 3);
    assert_eq!(store.get(b"a").unwrap(), None);
    let first = store.put(b"a", b"1", None).unwrap();
    let second = store.put(b"a", b"2", None).unwrap();
    assert_ne!(first, second);
    let entry = store.get(b"a").unwrap().unwrap();
    assert_eq!((entry.value, entry.version, entry.expires_in), (b"2".to_vec(), second, None));
    assert!(store.delete(b"a").unwrap());
    assert!(!store.delete(b"a").unwrap());
    assert_eq!(store.get(b"a").unwrap(), None);
    store.put(b"a", b"3", None).unwrap();
    assert_eq!(store.get(b"a").unwrap().unwrap().value, b"3");
}

#[test]
#[ignore = "starts MariaDB"]
fn keys_are_bytes_and_each_of_them_counts() {
    let server = mysql();
    let (mut store, _) = store(&server, 2);
    let mut keys: Vec<Vec<u8>> = (0..=255_u8).map(|byte| vec![byte]).collect();
    keys.extend(
        [&b""[..], b"a ", b"a\0", b"Ab", b"ab", b"\xff\xff", b"'; DROP TABLE kv; --", "Größe".as_bytes()]
            .map(<[u8]>::to_vec),
    );
    keys.push(vec![0xfe; LONGEST_KEY]);
    for key in &keys {
        store.put(key, &[key, &b"!"[..]].concat(), None).unwrap();
    }
    for key in &keys {
        assert_eq!(store.get(key).unwrap().unwrap().value, [key, &b"!"[..]].concat(), "{key:?}");
    }
    let many = store.get_many(&keys).unwrap();
    assert!(many.iter().zip(&keys).all(|(entry, key)| entry.as_ref().unwrap().value.starts_with(key)));
    let mut sorted = keys.clone();
    sorted.sort();
    let scanned: Vec<Vec<u8>> = store.scan(b"", None, 1_000).unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(scanned, sorted);
}

#[test]
#[ignore = "starts MariaDB"]
fn what_does_not_fit_is_refused_before_a_server_hears_of_it() {
    let server = mysql();
    let (mut store, _) = store(&server, 1);
    let long = vec![b'k'; LONGEST_KEY + 1];
    for failure in [
        store.get(&long).unwrap_err(),
        store.put(&long, b"", None).unwrap_err(),
        store.delete(&long).unwrap_err(),
        store.get_many(&[&b"a"[..], &long]).unwrap_err(),
        store.compare_and_set(&long, Expected::Absent, b"", None).unwrap_err(),
        store.put(b"a", &vec![0; LONGEST_VALUE + 1], None).unwrap_err(),
        store.put(b"a", b"", Some(Duration::ZERO)).unwrap_err(),
        store.put(b"a", b"", Some(Duration::MAX)).unwrap_err(),
    ] {
        assert!(!failure.may_have_happened(), "{failure}");
        assert_eq!(failure.to_string().lines().count(), 1, "{failure}");
    }
    assert_eq!(store.get(b"a").unwrap(), None);
    let longest = vec![7; LONGEST_VALUE];
    store.put(b"a", &longest, None).unwrap();
    assert_eq!(store.get(b"a").unwrap().unwrap().value, longest);
    assert!(Store::open::<&str>(&[]).is_err());
}

#[test]
#[ignore = "starts MariaDB"]
fn compare_and_set_sees_every_change() {
    let server = mysql();
    let (mut store, _) = store(&server, 1);
    let mut cas = |expected, value: &[u8]| store.compare_and_set(b"a", expected, value, None).unwrap();
    let first = cas(Expected::Absent, b"1").unwrap();
    assert_eq!(cas(Expected::Absent, b"2"), None);
    let second = cas(Expected::At(first), b"2").unwrap();
    assert_eq!(cas(Expected::At(first), b"3"), None, "the version is no longer there");
    // The same value, deleted and put again, is not what was read.
    store.delete(b"a").unwrap();
    assert_eq!(store.compare_and_set(b"a", Expected::At(second), b"3", None).unwrap(), None);
    store.put(b"a", b"2", None).unwrap();
    assert_eq!(store.compare_and_set(b"a", Expected::At(second), b"3", None).unwrap(), None);
    assert_eq!(store.get(b"a").unwrap().unwrap().value, b"2");
}

#[test]
#[ignore = "starts MariaDB"]
fn expired_is_absent_to_every_operation() {
    let server = mysql();
    let (mut store, _) = store(&server, 1);
    let moment = Some(Duration::from_millis(1));
    let mut version = None;
    for key in [&b"get"[..], b"delete", b"cas", b"absent"] {
        version = Some(store.put(key, b"old", moment).unwrap());
    }
    let version = store.put(b"cas", b"old", moment).unwrap_or(version.unwrap());
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(store.get(b"get").unwrap(), None);
    assert_eq!(store.get_many(&[b"get"]).unwrap(), [None]);
    assert_eq!(store.scan(b"", None, 10).unwrap(), []);
    assert!(!store.delete(b"delete").unwrap());
    assert_eq!(store.compare_and_set(b"cas", Expected::At(version), b"new", None).unwrap(), None);
    assert!(store.compare_and_set(b"absent", Expected::Absent, b"new", None).unwrap().is_some());
    assert_eq!(store.get(b"absent").unwrap().unwrap().value, b"new");
    // A put without a time to live lives for ever, whatever was there; and beyond 2038.
    store.put(b"get", b"new", None).unwrap();
    let years = Duration::from_secs(100 * 365 * 86_400);
    store.put(b"delete", b"new", Some(years)).unwrap();
    assert_eq!(store.get(b"get").unwrap().unwrap().expires_in, None);
    let left = store.get(b"delete").unwrap().unwrap().expires_in.unwrap();
    assert!(left <= years && left > years - Duration::from_secs(60), "{left:?}");
    assert!(store.without(Some(Skip::ExpiryAtRead)).get(b"cas").unwrap().is_some(), "the switch shows what is there");
}

#[test]
#[ignore = "starts MariaDB"]
fn the_clock_is_the_moment_at_which_the_row_is_free() {
    // A compare-and-set that begins while its key is alive, waits for its row, and gets it when the key has expired.
    let server = mysql();
    let (mut store, urls) = store(&server, 1);
    let version = store.put(b"a", b"1", Some(Duration::from_millis(400))).unwrap();
    let mut holder = Store::open(&urls).unwrap();
    let database = urls[0].rsplit('/').next().unwrap();
    std::thread::scope(|scope| {
        let held = scope.spawn(|| {
            // One statement that holds the row for a second and changes nothing.
            server.execute(&format!("UPDATE {database}.kv SET v = IF(SLEEP(1), v, v) WHERE k = 'a'"));
        });
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(store.compare_and_set(b"a", Expected::At(version), b"2", None).unwrap(), None);
        held.join().unwrap();
    });
    assert_eq!(holder.get(b"a").unwrap(), None);
}

#[test]
#[ignore = "starts MariaDB"]
fn ranges_and_prefixes_in_the_order_of_bytes_over_all_shards() {
    let server = mysql();
    let (mut store, _) = store(&server, 3);
    for key in [&b"a"[..], b"ab", b"ab\xff", b"ab\xff\xff", b"ac", b"b", b"\xff", b"\xff\xff"] {
        store.put(key, b"v", None).unwrap();
    }
    let mut keys = |from: &[u8], to: Option<&[u8]>, limit| -> Vec<Vec<u8>> {
        values(store.scan(from, to, limit).unwrap()).into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(keys(b"ab", Some(b"b"), 10), [&b"ab"[..], b"ab\xff", b"ab\xff\xff", b"ac"]);
    assert_eq!(keys(b"", None, 3), [&b"a"[..], b"ab", b"ab\xff"]);
    assert_eq!(keys(b"b", Some(b"a"), 10), Vec::<Vec<u8>>::new());
    assert_eq!(keys(b"a", None, 0), Vec::<Vec<u8>>::new());
    let mut prefix = |prefix: &[u8]| store.scan_prefix(prefix, 10).unwrap().len();
    assert_eq!([prefix(b"ab"), prefix(b"ab\xff"), prefix(b"\xff"), prefix(b""), prefix(b"x")], [3, 2, 2, 8, 0]);
}

#[test]
#[ignore = "starts MariaDB"]
fn many_keys_come_in_their_order_also_twice_and_also_a_thousand() {
    let server = mysql();
    let (mut store, _) = store(&server, 2);
    assert_eq!(store.get_many::<&[u8]>(&[]).unwrap(), []);
    for number in 0..20_u32 {
        store.put(&number.to_be_bytes(), &number.to_le_bytes(), None).unwrap();
    }
    let keys: Vec<[u8; 4]> = (0..2_500_u32).rev().chain([3, 3]).map(u32::to_be_bytes).collect();
    for (key, entry) in keys.iter().zip(store.get_many(&keys).unwrap()) {
        let number = u32::from_be_bytes(*key);
        assert_eq!(entry.map(|entry| entry.value), (number < 20).then(|| number.to_le_bytes().to_vec()));
    }
}

#[test]
#[ignore = "starts MariaDB"]
fn the_sweeper_takes_what_has_expired_and_nothing_else_and_waits_for_nobody() {
    let server = mysql();
    let (mut store, urls) = store(&server, 1);
    for number in 0..300_u32 {
        let ttl = if number % 3 == 0 {
            None
        } else {
            Some(Duration::from_millis(if number % 3 == 1 { 1 } else { 3_600_000 }))
        };
        store.put(&number.to_be_bytes(), b"v", ttl).unwrap();
    }
    std::thread::sleep(Duration::from_millis(5));
    let database = urls[0].rsplit('/').next().unwrap();
    let count = || server.ask(&format!("SELECT COUNT(*) FROM {database}.kv"));
    assert_eq!(count(), "300");
    // Somebody holds one of the expired rows.
    std::thread::scope(|scope| {
        let held = scope.spawn(|| {
            server.execute(&format!("UPDATE {database}.kv SET v = IF(SLEEP(1), v, v) WHERE k = 0x00000001"));
        });
        std::thread::sleep(Duration::from_millis(200));
        let sweeper = Sweeper::start(&urls[0], 7, Duration::from_millis(1)).unwrap();
        let began = Instant::now();
        while count() != "201" && began.elapsed() < Duration::from_millis(700) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(count(), "201", "all but the one that is held, while it is held");
        held.join().unwrap();
        while count() != "200" && began.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(sweeper.stop().unwrap(), 100);
    });
    assert_eq!(store.scan(b"", None, 1_000).unwrap().len(), 200);
    assert!(Sweeper::start(&urls[0], 0, Duration::ZERO).is_err());
}

#[test]
#[ignore = "starts MariaDB"]
fn a_key_is_on_its_shard_and_on_no_other() {
    let server = mysql();
    let (mut store, urls) = store(&server, 4);
    for number in 0..100_u32 {
        let key = number.to_be_bytes();
        store.put(&key, b"v", None).unwrap();
        for (shard, url) in urls.iter().enumerate() {
            let there = Store::open(&[url]).unwrap().get(&key).unwrap().is_some();
            assert_eq!(there, shard == shard_of(&key, 4));
        }
    }
    let found = restarted(&server, 4, 200);
    assert_eq!((found.put, found.ours), (200, 200));
    assert!(found.salted < 150, "{found:?}");
}

#[test]
#[ignore = "starts MariaDB"]
fn clients_at_once_and_connections_that_break_leave_it_linearizable() {
    let server = mysql();
    let spec = ConcurrentSpec { clients: 6, operations: 60, keys: 3, cuts: 4, seed: 7 };
    for seed in 0..3 {
        let seen = concurrent(&server, ConcurrentSpec { seed, ..spec }, None);
        assert_eq!(seen.violations(), 0, "{}", seen.sentence());
        assert!(seen.swapped > 0 && seen.in_doubt + seen.failed > 0);
    }
    let broken = (0..5).map(|seed| concurrent(&server, ConcurrentSpec { seed, ..spec }, Some(Skip::AtomicSwap)));
    assert!(broken.map(|seen| seen.violations()).sum::<u64>() > 0, "a swap in two steps must be found out");
}

/// Ten histories that no store may show.
#[test]
fn the_checker_finds_what_a_bad_store_shows() {
    use KeyValueOp::{Delete, Get, Put};
    use KeyValueRet::{Deleted, Done, Swapped, Value};
    let get = |process, value, from, to| Operation::ok(process, Get("k"), Value(value), from, to);
    let put = |process, value, from, to| Operation::ok(process, Put("k", value), Done, from, to);
    let delete = |process, told, from, to| Operation::ok(process, Delete("k"), Deleted(told), from, to);
    let cas = |process, expected, new, told, from, to| {
        Operation::ok(process, KeyValueOp::Cas { key: "k", expected, new }, Swapped(told), from, to)
    };
    let lost = |process, value, from| Operation::unknown(process, Put("k", value), from);
    type Recorded = Vec<Operation<KeyValueOp<&'static str, u64>, KeyValueRet<u64>>>;
    let bad: Vec<(&str, Recorded)> = vec![
        ("the first of two puts is read", vec![put(0, 1, 1, 2), put(0, 2, 3, 4), get(0, Some(1), 5, 6)]),
        ("a deleted key is read", vec![put(0, 1, 1, 2), delete(0, true, 3, 4), get(1, Some(1), 5, 6)]),
        (
            "a put after a deletion is not there",
            vec![put(0, 1, 1, 2), delete(0, true, 3, 4), put(0, 3, 5, 6), get(0, None, 7, 8)],
        ),
        ("an acknowledged put is lost", vec![put(0, 1, 1, 2), get(1, None, 3, 4)]),
        (
            "two swaps of the same value both succeed",
            vec![put(0, 1, 1, 2), cas(0, Some(1), 2, true, 3, 6), cas(1, Some(1), 3, true, 4, 7)],
        ),
        ("two find the key absent", vec![cas(0, None, 1, true, 1, 4), cas(1, None, 2, true, 2, 5)]),
        (
            "a swap overwrites what it did not expect",
            vec![put(0, 1, 1, 2), put(1, 2, 3, 4), cas(0, Some(1), 3, true, 5, 6)],
        ),
        ("reads go back in time", vec![put(0, 1, 1, 2), put(0, 2, 3, 9), get(1, Some(2), 4, 5), get(1, Some(1), 6, 7)]),
        ("two delete the same entry", vec![put(0, 1, 1, 2), delete(0, true, 3, 6), delete(1, true, 4, 7)]),
        (
            "a lost put comes, goes and comes again",
            vec![
                lost(0, 1, 1),
                get(1, Some(1), 2, 3),
                delete(1, true, 4, 5),
                get(1, Some(1), 6, 7),
                delete(1, true, 8, 9),
                get(1, Some(1), 10, 11),
            ],
        ),
        ("a value that nobody put", vec![put(0, 1, 1, 2), get(1, Some(9), 3, 4)]),
        ("a swap is refused though the value is there", vec![put(0, 1, 1, 2), cas(1, Some(1), 2, false, 3, 4)]),
    ];
    for (name, history) in bad {
        assert!(linearizable::check(&KeyValue::new(), &history).is_violation(), "{name}");
    }
}

#[test]
#[ignore = "starts MariaDB"]
fn a_server_that_is_killed_loses_nothing_and_leaks_nothing() {
    let survived = survives(&private_mysql(), 4, 200);
    assert!(survived.acknowledged >= 200);
    assert_eq!((survived.lost, survived.refused_and_there, survived.connections_left), (0, 0, 0), "{survived:?}");
    assert!(survived.told.lines().count() == 1 && !survived.told.contains('{'), "{}", survived.told);
}

#[test]
#[ignore = "starts MariaDB"]
fn what_is_wrong_with_a_server_is_said_in_one_sentence() {
    let server = private_mysql();
    let (mut store, urls) = store(&server, 1);
    let wrong = urls[0].replacen("://", "://nobody:wrong@", 1);
    let wrong =
        wrong.split_once("wrong@").map(|(_, rest)| rest.split_once('@').map_or(rest, |(_, host)| host)).unwrap();
    let mut stranger = Store::open(&[format!("mysql://nobody:wrong@{wrong}")]).unwrap();
    let refused = stranger.get(b"a").unwrap_err();
    assert!(refused.to_string().contains("Access denied"), "{refused}");
    let mut nowhere = Store::open(&databases(&server, 1)).unwrap();
    let refused = nowhere.put(b"a", b"1", None).unwrap_err();
    assert!(refused.to_string().contains("Store::create makes it") && !refused.may_have_happened(), "{refused}");
    store.put(b"a", b"1", None).unwrap();
    server.kill();
    let lost = store.put(b"a", b"2", None).unwrap_err();
    assert!(lost.may_have_happened() && lost.to_string().contains("read before you write again"), "{lost}");
    let refused = store.put(b"a", b"2", None).unwrap_err();
    assert!(!refused.may_have_happened(), "nobody took the connection: {refused}");
    assert!(store.get(b"a").is_err());
    server.restart();
    assert_eq!(store.get(b"a").unwrap().unwrap().value, b"1");
    assert!(Store::open(&["not a url"]).is_err());
}

#[test]
#[ignore = "starts MariaDB"]
fn the_prototypes_are_wrong_where_the_store_is_right() {
    let asked = faults(&mysql());
    assert!(asked.iter().all(|asked| asked.wrong() == (true, false)), "{asked:#?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Any sequence of operations answers as a map does.
    #[test]
    #[ignore = "starts MariaDB"]
    fn it_answers_as_a_map_does(seed in any::<u64>()) {
        thread_local! {
            static SERVER: MariaDb = mysql();
        }
        SERVER.with(|server| {
            let (mut store, _) = store(server, 2);
            let mut rng = Rng::seeded(seed, "operations");
            let mut map: BTreeMap<Vec<u8>, (Vec<u8>, lablib::sql::kv::Version)> = BTreeMap::new();
            for _ in 0..120 {
                let key: Vec<u8> = (0..rng.below(3)).map(|_| b"ab\0\xff"[rng.below(4) as usize]).collect();
                let value = rng.bits().to_be_bytes().to_vec();
                match rng.below(6) {
                    0 | 1 => {
                        let version = store.put(&key, &value, None).unwrap();
                        map.insert(key, (value, version));
                    }
                    2 => prop_assert_eq!(store.delete(&key).unwrap(), map.remove(&key).is_some()),
                    3 => {
                        let expected = match rng.below(2) {
                            0 => Expected::Absent,
                            _ => map.values().next().map_or(Expected::Absent, |(_, version)| Expected::At(*version)),
                        };
                        let is = map.get(&key).map_or(Expected::Absent, |(_, version)| Expected::At(*version));
                        let swapped = store.compare_and_set(&key, expected, &value, None).unwrap();
                        prop_assert_eq!(swapped.is_some(), is == expected);
                        if let Some(version) = swapped {
                            map.insert(key, (value, version));
                        }
                    }
                    4 => {
                        let got = store.get(&key).unwrap().map(|entry| (entry.value, entry.version));
                        prop_assert_eq!(got.as_ref(), map.get(&key));
                    }
                    _ => {
                        let limit = rng.below(6) as usize;
                        let scanned: Vec<_> = store.scan(&key, None, limit).unwrap().into_iter().map(|(key, _)| key).collect();
                        let right: Vec<_> = map.range(key..).take(limit).map(|(key, _)| key.clone()).collect();
                        prop_assert_eq!(scanned, right);
                    }
                }
            }
            Ok(())
        })?;
    }
}

//! The key-value store on real servers.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kv::experiment::*;
use kv::{Expected, LONGEST_KEY, LONGEST_VALUE, Skip, Store, Sweeper, Swept, shard_of};
use lab::history::lives::{Lives, LivesOp, LivesRet, with_ends};
use lab::history::{Operation, linearizable};
use lab::link::{Direction, Link};
use lab::service::MariaDb;
use lab::{Rng, mysql, private_mysql};
use mysql::prelude::Queryable;
use proptest::prelude::*;

fn store(server: &MariaDb, shards: usize) -> (Store, Vec<String>) {
    let urls = databases(server, shards).unwrap();
    (Store::create(&urls).unwrap(), urls)
}

fn values(found: Vec<(Vec<u8>, kv::Entry)>) -> Vec<(Vec<u8>, Vec<u8>)> {
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

/// Does something while somebody else holds a row for so long, by a statement that changes nothing.
fn while_a_row_is_held<T>(server: &MariaDb, url: &str, key: &str, hold: Duration, work: impl FnOnce() -> T) -> T {
    let database = url.rsplit('/').next().unwrap();
    std::thread::scope(|scope| {
        let hold = hold.as_secs_f64();
        let held = scope.spawn(move || {
            server.execute(&format!("UPDATE {database}.kv SET v = IF(SLEEP({hold}), v, v) WHERE k = {key}"));
        });
        let asleep = format!(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'UPDATE {database}.kv%' \
             AND state = 'User sleep'"
        );
        until("the row is held", || server.ask(&asleep).unwrap() == "1");
        let done = work();
        held.join().unwrap();
        done
    })
}

fn until(what: &str, is_so: impl FnMut() -> bool) {
    until_within(what, Duration::from_secs(20), is_so);
}

fn until_within(what: &str, patience: Duration, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < patience, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn rows(server: &MariaDb, url: &str) -> u64 {
    let database = url.rsplit('/').next().unwrap();
    server.ask(&format!("SELECT COUNT(*) FROM {database}.kv")).unwrap().parse().unwrap()
}

/// The same shards by way of a link.
fn through(link: &Link, server: &MariaDb, urls: &[String]) -> Vec<String> {
    urls.iter().map(|url| url.replace(server.address(), link.address())).collect()
}

#[test]
#[ignore = "starts MariaDB"]
fn the_clock_is_the_moment_at_which_the_row_is_free() {
    // A compare-and-set that begins while its key is alive, waits for its row, and gets it when the key has expired.
    let server = mysql();
    let (mut store, urls) = store(&server, 1);
    let version = store.put(b"a", b"1", Some(Duration::from_millis(400))).unwrap();
    while_a_row_is_held(&server, &urls[0], "'a'", Duration::from_secs(1), || {
        assert_eq!(store.compare_and_set(b"a", Expected::At(version), b"2", None).unwrap(), None);
    });
    assert_eq!(store.get(b"a").unwrap(), None);
}

#[test]
#[ignore = "starts MariaDB"]
fn a_value_lives_from_the_moment_at_which_its_put_has_the_row() {
    // It waits for longer than the value is to live.
    let server = mysql();
    let (mut store, urls) = store(&server, 1);
    store.put(b"a", b"1", None).unwrap();
    while_a_row_is_held(&server, &urls[0], "'a'", Duration::from_millis(1_500), || {
        let moment = Some(Duration::from_secs(1));
        store.put(b"a", b"2", moment).unwrap();
        assert_eq!(store.get(b"a").unwrap().unwrap().value, b"2");
    });
}

#[test]
#[ignore = "starts MariaDB"]
fn what_has_expired_is_absent_to_a_swap_also_while_it_is_swept_away() {
    let server = mysql();
    let (mut direct, urls) = store(&server, 1);
    let link = Link::to(server.address()).unwrap();
    let database = urls[0].rsplit('/').next().unwrap();
    let expired = format!("SELECT COUNT(*) FROM {database}.kv WHERE expires_at < 1e6 * UNIX_TIMESTAMP(NOW(6))");
    // In steps it is refused although nobody has it.
    for (skip, right) in [(None, true), (Some(Skip::AtomicTaking), false)] {
        let mut client = Store::open(&through(&link, &server, &urls)).unwrap().without(skip);
        for key in [&b"first"[..], b"lock"] {
            direct.put(key, b"old", Some(Duration::from_millis(1))).unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
        // Whatever it says to the server has been prepared then.
        assert!(client.compare_and_set(b"first", Expected::Absent, b"mine", None).unwrap().is_some());
        link.half_open_toward(Direction::ToClient);
        std::thread::scope(|scope| {
            let swap = scope.spawn(|| client.compare_and_set(b"lock", Expected::Absent, b"mine", None));
            until("the server has answered", || link.stats().in_flight > 0);
            let sweeper = Sweeper::start(&urls[0], 10, Duration::from_millis(1), |_| ()).unwrap();
            until("all is swept", || server.ask(&expired).unwrap() == "0");
            sweeper.stop().unwrap();
            link.heal();
            assert_eq!(swap.join().unwrap().unwrap().is_some(), right, "{skip:?}");
        });
        assert_eq!(direct.get(b"lock").unwrap().is_some(), right);
    }
}

#[test]
#[ignore = "starts MariaDB"]
fn what_somebody_is_about_to_prolong_is_not_absent() {
    let server = mysql();
    let (mut store, urls) = store(&server, 1);
    for (skip, right) in [(None, true), (Some(Skip::SecondLook), false)] {
        let mut reader = Store::open(&urls).unwrap().without(skip);
        store.put(b"a", b"1", Some(Duration::from_millis(300))).unwrap();
        // A compare-and-set as the store makes it, but for a commit that takes its time.
        let mut holder = mysql::Conn::new(urls[0].as_str()).unwrap();
        holder.query_drop("START TRANSACTION").unwrap();
        holder.query_drop("UPDATE kv SET v = '2', version = 2, expires_at = NULL WHERE k = 'a'").unwrap();
        assert_eq!(holder.affected_rows(), 1);
        std::thread::sleep(Duration::from_millis(350));
        std::thread::scope(|scope| {
            let committing = scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(400));
                holder.query_drop("COMMIT").unwrap();
            });
            let got = reader.get(b"a").unwrap().map(|entry| entry.value);
            assert_eq!(got == Some(b"2".to_vec()), right, "{skip:?}: {got:?}");
            committing.join().unwrap();
        });
        assert_eq!(reader.get(b"a").unwrap().unwrap().value, b"2");
        store.delete(b"a").unwrap();
    }
}

#[test]
#[ignore = "starts MariaDB"]
fn ranges_go_on_behind_what_has_expired() {
    let server = mysql();
    let (mut store, _) = store(&server, 2);
    for number in 0..200_u8 {
        let ttl = (number % 20 != 0).then(|| Duration::from_millis(1));
        store.put(&[number], b"v", ttl).unwrap();
    }
    std::thread::sleep(Duration::from_millis(5));
    let mut keys = |from: u8, to: Option<&[u8]>, limit| -> Vec<u8> {
        store.scan(&[from], to, limit).unwrap().into_iter().map(|(key, _)| key[0]).collect()
    };
    assert_eq!(keys(1, None, 1), [20]);
    assert_eq!(keys(1, None, 3), [20, 40, 60]);
    assert_eq!(keys(0, None, 1_000), [0, 20, 40, 60, 80, 100, 120, 140, 160, 180]);
    assert_eq!(keys(1, Some(&[60]), 10), [20, 40]);
    assert_eq!(keys(181, None, 10), [0_u8; 0]);
    assert_eq!(keys(0, None, 0), [0_u8; 0]);
}

#[test]
#[ignore = "starts MariaDB"]
fn who_waits_too_long_for_a_row_is_refused_and_not_in_doubt() {
    let server = mysql();
    let (store, urls) = store(&server, 1);
    let mut store = store.patience(Duration::from_secs(4)).unwrap();
    store.put(b"a", b"1", None).unwrap();
    while_a_row_is_held(&server, &urls[0], "'a'", Duration::from_secs(5), || {
        let refused = store.put(b"a", b"2", None).unwrap_err();
        assert!(!refused.may_have_happened(), "{refused}");
    });
    let mut keeper = mysql::Conn::new(urls[0].as_str()).unwrap();
    keeper.query_drop("LOCK TABLES kv WRITE").unwrap();
    let refused = store.put(b"a", b"2", None).unwrap_err();
    assert!(!refused.may_have_happened(), "{refused}");
    keeper.query_drop("UNLOCK TABLES").unwrap();
    // Nothing comes after all, once the row is free: this one would have to wait for it.
    store.compare_and_set(b"a", Expected::Absent, b"3", None).unwrap();
    assert_eq!(store.get(b"a").unwrap().unwrap().value, b"1");
}

#[test]
#[ignore = "starts MariaDB"]
fn what_is_in_doubt_may_still_come_but_a_swap_not_after_another_one() {
    let server = mysql();
    let (mut direct, urls) = store(&server, 1);
    let link = Link::to(server.address()).unwrap();
    let patience = Duration::from_millis(300);
    let far_away = || Store::open(&through(&link, &server, &urls)).unwrap().patience(patience).unwrap();
    let (mut putting, mut swapping) = (far_away(), far_away());
    let version = direct.put(b"swapped", b"1", None).unwrap();
    for (key, client) in [(&b"put"[..], &mut putting), (b"other", &mut swapping)] {
        let version = client.put(key, b"1", None).unwrap();
        assert!(client.compare_and_set(key, Expected::At(version), b"1", None).unwrap().is_some());
    }
    link.half_open_toward(Direction::ToServer);
    assert!(putting.put(b"put", b"late", None).unwrap_err().may_have_happened());
    assert!(
        swapping.compare_and_set(b"swapped", Expected::At(version), b"late", None).unwrap_err().may_have_happened()
    );
    // Whoever reads now sees that neither has happened, and goes on.
    for key in [&b"put"[..], b"swapped"] {
        assert_eq!(direct.get(key).unwrap().unwrap().value, b"1");
    }
    direct.put(b"put", b"2", None).unwrap();
    assert!(direct.compare_and_set(b"swapped", Expected::At(version), b"2", None).unwrap().is_some());
    link.heal();
    until("the put came late", || direct.get(b"put").unwrap().unwrap().value == b"late");
    until("both connections are gone", || {
        let (mine, here) = ("SELECT COUNT(*) FROM information_schema.processlist WHERE db = ", &urls[0]);
        server.ask(&format!("{mine}'{}'", here.rsplit('/').next().unwrap())).unwrap() == "1"
    });
    assert_eq!(direct.get(b"swapped").unwrap().unwrap().value, b"2");
}

#[test]
#[ignore = "starts MariaDB"]
fn the_servers_defaults_decide_nothing() {
    let server = MariaDb::with("autocommit", "0")
        .with("transaction_isolation", "READ-UNCOMMITTED")
        .with("default_time_zone", "+05:00")
        .with("sql_mode", "EMPTY_STRING_IS_NULL,SIMULTANEOUS_ASSIGNMENT")
        .start()
        .unwrap();
    let (mut client, urls) = store(&server, 1);
    client.put(b"a", b"1", Some(Duration::from_secs(60))).unwrap();
    client.put(b"", b"", None).unwrap();
    let mut other = Store::open(&urls).unwrap();
    assert_eq!(other.get(b"a").unwrap().unwrap().value, b"1", "what is acknowledged is committed");
    assert_eq!(other.get(b"").unwrap().unwrap().value, b"");
    assert!(client.compare_and_set(b"a", Expected::Absent, b"2", None).unwrap().is_none());
    assert_eq!(client.get(b"a").unwrap().unwrap().value, b"1");
    let mut writer = mysql::Conn::new(urls[0].as_str()).unwrap();
    writer.query_drop("UPDATE kv SET v = 'not yet committed' WHERE k = 'a'").unwrap();
    assert_eq!(other.get(b"a").unwrap().unwrap().value, b"1");
    writer.query_drop("ROLLBACK").unwrap();
}

#[test]
#[ignore = "starts MariaDB"]
fn a_server_whose_clock_stands_still_while_a_statement_waits_is_refused() {
    let server = MariaDb::with("sysdate_is_now", "1").start().unwrap();
    let refused = Store::create(&databases(&server, 1).unwrap()).unwrap_err();
    assert!(refused.to_string().contains("without --sysdate-is-now"), "{refused}");
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
    let count = || rows(&server, &urls[0]);
    assert_eq!(count(), 300);
    let sweeper = while_a_row_is_held(&server, &urls[0], "0x00000001", Duration::from_secs(2), || {
        let sweeper = Sweeper::start(&urls[0], 7, Duration::from_millis(1), |_| ()).unwrap();
        until_within("all but the one that is held is gone", Duration::from_millis(1_500), || count() == 201);
        sweeper
    });
    until("it is gone, too", || count() == 200);
    assert_eq!(sweeper.stop().unwrap(), Swept { removed: 100, errors: 0 });
    assert_eq!(store.scan(b"", None, 1_000).unwrap().len(), 200);
    assert!(Sweeper::start(&urls[0], 0, Duration::ZERO, |_| ()).is_err());
}

#[test]
#[ignore = "starts MariaDB"]
fn what_somebody_holds_keeps_the_sweeper_from_nothing_else() {
    let server = mysql();
    let (mut store, urls) = store(&server, 1);
    // The first to expire is held, and a batch has room for one.
    for key in [&b"held"[..], b"b", b"c"] {
        store.put(key, b"v", Some(Duration::from_millis(1))).unwrap();
    }
    std::thread::sleep(Duration::from_millis(5));
    let sweeper = while_a_row_is_held(&server, &urls[0], "'held'", Duration::from_secs(2), || {
        let sweeper = Sweeper::start(&urls[0], 1, Duration::from_millis(1), |_| ()).unwrap();
        until_within("the others are gone", Duration::from_millis(1_500), || rows(&server, &urls[0]) == 1);
        sweeper
    });
    until("it is gone, too", || rows(&server, &urls[0]) == 0);
    assert_eq!(sweeper.stop().unwrap(), Swept { removed: 3, errors: 0 });
}

#[test]
#[ignore = "starts MariaDB"]
fn a_sweeper_goes_on_after_errors_and_its_owner_hears_of_each_at_once() {
    let server = private_mysql();
    let (mut store, urls) = store(&server, 1);
    let (say, heard) = std::sync::mpsc::channel();
    let hear = move |error: &lab::Error| say.send(error.to_string()).unwrap();
    let next = || heard.recv_timeout(Duration::from_secs(20)).unwrap();
    let expire = |store: &mut Store, keys: [&[u8]; 2]| {
        for key in keys {
            store.put(key, b"v", Some(Duration::from_millis(1))).unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    // Somebody reads the index under a lock: the sweeper gets the rows, but may not take them out of the index.
    expire(&mut store, [b"a", b"b"]);
    let mut reader = mysql::Conn::new(urls[0].as_str()).unwrap();
    reader.query_drop("SET TRANSACTION ISOLATION LEVEL READ COMMITTED").unwrap();
    reader.query_drop("START TRANSACTION").unwrap();
    let read = "SELECT k FROM kv FORCE INDEX (by_expiry) WHERE expires_at > 0 LOCK IN SHARE MODE";
    assert_eq!(reader.query::<Vec<u8>, _>(read).unwrap().len(), 2);
    let sweeper = Sweeper::start(&urls[0], 2, Duration::from_millis(1), hear).unwrap();
    let mut said = vec![next()];
    assert!(said[0].contains("could not remove expired entries") && said[0].contains("Lock wait timeout"), "{said:?}");
    expire(&mut store, [b"c", b"d"]);
    until("what nobody holds is gone", || rows(&server, &urls[0]) == 2);
    reader.query_drop("COMMIT").unwrap();
    until("what somebody held is gone", || rows(&server, &urls[0]) == 0);
    // Somebody ends its connection; and then the server dies, and comes back.
    let database = urls[0].rsplit('/').next().unwrap();
    let kill = format!(
        "SELECT GROUP_CONCAT('KILL ', id SEPARATOR ';') FROM information_schema.processlist WHERE db = '{database}' \
         AND id NOT IN ({})",
        reader.connection_id()
    );
    said.extend(heard.try_iter());
    server.ask(&kill).unwrap().split(';').for_each(|kill| server.execute(kill));
    said.push(next());
    server.kill();
    said.push(next());
    server.restart();
    until("the store is back", || store.put(b"alive", b"v", None).is_ok());
    expire(&mut store, [b"e", b"f"]);
    until("it sweeps again", || rows(&server, &urls[0]) == 1);
    let swept = sweeper.stop().unwrap();
    said.extend(heard.try_iter());
    assert_eq!(swept, Swept { removed: 6, errors: said.len() as u64 }, "{said:#?}");
}

#[test]
#[ignore = "starts MariaDB"]
fn a_key_is_on_its_shard_and_on_no_other() {
    let server = mysql();
    let (mut store, urls) = store(&server, 4);
    let mut shards: Vec<mysql::Conn> = urls.iter().map(|url| mysql::Conn::new(url.as_str()).unwrap()).collect();
    for number in 0..100_u32 {
        let key = number.to_be_bytes();
        store.put(&key, b"v", None).unwrap();
        for (shard, connection) in shards.iter_mut().enumerate() {
            let there = connection.exec_first::<u8, _, _>("SELECT 1 FROM kv WHERE k = ?", (&key[..],)).unwrap();
            assert_eq!(there.is_some(), shard == shard_of(&key, 4));
        }
    }
    let found = restarted(&server, 4, 200).unwrap();
    let found = |route: &str| found.filter("route", route).number("there");
    assert_eq!(found("this store"), 200.0);
    assert!(found("salted hash") < 150.0, "{}", found("salted hash"));
}

#[test]
#[ignore = "starts MariaDB"]
fn who_names_the_shards_otherwise_is_refused_and_does_not_look_in_the_wrong_place() {
    let server = mysql();
    let (mut store, mut urls) = store(&server, 3);
    for number in 0..30_u8 {
        store.put(&[number], b"v", None).unwrap();
    }
    let refused = |urls: &[String]| {
        let mut store = Store::open(urls).unwrap();
        let failures: Vec<_> = (0..30_u8).filter_map(|number| store.get(&[number]).err()).collect();
        let said = |failure: &kv::Failure| failure.to_string().contains("could not find the store's shard");
        assert!(failures.iter().all(said), "{failures:?}");
        // Whoever looks at the right shard may go on.
        let mut found = (0..30_u8).filter_map(|number| store.get(&[number]).ok());
        assert!(found.all(|entry| entry.is_some()), "a key was looked for in the wrong place");
        !failures.is_empty() && Store::create(urls).is_err()
    };
    assert!(refused(&urls[..2]), "one is missing");
    let more = [&urls[..], &databases(&server, 1).unwrap()].concat();
    assert!(refused(&more), "one is new");
    urls.swap(0, 2);
    assert!(refused(&urls), "two have changed places");
    assert!(!Store::open(&urls).unwrap().put(b"a", b"1", None).is_err_and(|failure| failure.may_have_happened()));
    urls.swap(0, 2);
    assert_eq!(Store::create(&urls).unwrap().get(&[7]).unwrap().unwrap().value, b"v");
}

#[test]
#[ignore = "starts MariaDB"]
fn clients_at_once_and_connections_that_break_leave_it_linearizable() {
    let server = mysql();
    let spec =
        ConcurrentSpec { clients: 6, operations: 60, keys: 3, longest: Duration::from_millis(20), cuts: 4, seed: 7 };
    for seed in 0..3 {
        let seen = concurrent(&server, ConcurrentSpec { seed, ..spec }, None).unwrap();
        assert_eq!(seen.samples("violations").values(), [0.0], "{}", seen.texts("sentence")[0]);
        assert!(seen.number("in doubt") + seen.number("failed") > 0.0, "{seen:?}");
        assert!(["swapped", "swept", "stumbled"].iter().all(|count| seen.number(count) > 0.0), "{seen:?}");
    }
    for skip in [Skip::AtomicSwap, Skip::AtomicTaking, Skip::SecondLook] {
        let found = found_out(&server, spec, skip, 20).unwrap();
        assert!(found.number("run") <= 20.0, "{skip:?} must be found out");
    }
}

/// Histories of a key, by hand: times are nanoseconds.
mod by_hand {
    use super::*;

    pub type Recorded = Vec<Operation<LivesOp, LivesRet>>;
    pub const FOR_EVER: u64 = 0;

    fn life(ttl: u64) -> Option<Duration> {
        (ttl != FOR_EVER).then(|| Duration::from_nanos(ttl))
    }

    pub fn put_op(value: u64, ttl: u64) -> LivesOp {
        LivesOp::Put { key: "k".into(), value, ttl: life(ttl) }
    }

    pub fn get(process: usize, value: Option<u64>, from: u64, to: u64) -> Operation<LivesOp, LivesRet> {
        Operation::ok(process, LivesOp::Get("k".into()), LivesRet::Value(value), from, to)
    }

    pub fn put(process: usize, value: u64, ttl: u64, from: u64, to: u64) -> Operation<LivesOp, LivesRet> {
        Operation::ok(process, put_op(value, ttl), LivesRet::Done, from, to)
    }

    pub fn delete(process: usize, told: bool, from: u64, to: u64) -> Operation<LivesOp, LivesRet> {
        Operation::ok(process, LivesOp::Delete("k".into()), LivesRet::Deleted(told), from, to)
    }

    /// From what to what, living for so long, and whether it says that it wrote.
    pub fn swap(
        process: usize,
        (expected, value, ttl, told): (Option<u64>, u64, u64, bool),
        from: u64,
        to: u64,
    ) -> Operation<LivesOp, LivesRet> {
        let swap = LivesOp::Swap { key: "k".into(), expected, value, ttl: life(ttl) };
        Operation::ok(process, swap, LivesRet::Swapped(told), from, to)
    }

    pub fn lost(process: usize, value: u64, ttl: u64, from: u64) -> Operation<LivesOp, LivesRet> {
        Operation::unknown(process, put_op(value, ttl), from)
    }

    pub fn judged(history: Recorded) -> linearizable::Verdict {
        linearizable::check(&Lives, &with_ends(history, Duration::ZERO))
    }
}

#[test]
fn the_checker_finds_what_a_bad_store_shows() {
    use by_hand::*;
    const EVER: u64 = FOR_EVER;
    let bad: Vec<(&str, Recorded)> = vec![
        ("the first of two puts is read", vec![put(0, 1, EVER, 1, 2), put(0, 2, EVER, 3, 4), get(0, Some(1), 5, 6)]),
        ("a deleted key is read", vec![put(0, 1, EVER, 1, 2), delete(0, true, 3, 4), get(1, Some(1), 5, 6)]),
        (
            "a put after a deletion is not there",
            vec![put(0, 1, EVER, 1, 2), delete(0, true, 3, 4), put(0, 3, EVER, 5, 6), get(0, None, 7, 8)],
        ),
        ("an acknowledged put is lost", vec![put(0, 1, EVER, 1, 2), get(1, None, 3, 4)]),
        (
            "two swaps of the same value both succeed",
            vec![
                put(0, 1, EVER, 1, 2),
                swap(0, (Some(1), 2, EVER, true), 3, 6),
                swap(1, (Some(1), 3, EVER, true), 4, 7),
            ],
        ),
        ("two find the key absent", vec![swap(0, (None, 1, EVER, true), 1, 4), swap(1, (None, 2, EVER, true), 2, 5)]),
        (
            "a swap overwrites what it did not expect",
            vec![put(0, 1, EVER, 1, 2), put(1, 2, EVER, 3, 4), swap(0, (Some(1), 3, EVER, true), 5, 6)],
        ),
        (
            "reads go back in time",
            vec![put(0, 1, EVER, 1, 2), put(0, 2, EVER, 3, 9), get(1, Some(2), 4, 5), get(1, Some(1), 6, 7)],
        ),
        ("two delete the same entry", vec![put(0, 1, EVER, 1, 2), delete(0, true, 3, 6), delete(1, true, 4, 7)]),
        (
            "a lost put comes, goes and comes again",
            vec![
                lost(0, 1, EVER, 1),
                get(1, Some(1), 2, 3),
                delete(1, true, 4, 5),
                get(1, Some(1), 6, 7),
                delete(1, true, 8, 9),
                get(1, Some(1), 10, 11),
            ],
        ),
        ("a value that nobody put", vec![put(0, 1, EVER, 1, 2), get(1, Some(9), 3, 4)]),
        (
            "a swap is refused though the value is there",
            vec![put(0, 1, EVER, 1, 2), swap(1, (Some(1), 2, EVER, false), 3, 4)],
        ),
        // From here on values end: this one between 11 and 12.
        ("what has expired is read", vec![put(0, 1, 10, 1, 2), get(1, Some(1), 13, 14)]),
        ("what has not expired is missed", vec![put(0, 1, 10, 1, 2), get(1, None, 3, 10)]),
        ("what has expired comes back", vec![put(0, 1, 10, 1, 2), get(1, None, 5, 11), get(1, Some(1), 12, 13)]),
        (
            "what has expired is in the way of a swap",
            vec![put(0, 1, 10, 1, 2), swap(1, (None, 2, EVER, false), 13, 14)],
        ),
        ("what has expired is swapped", vec![put(0, 1, 10, 1, 2), swap(1, (Some(1), 2, EVER, true), 13, 14)]),
        ("what has expired is deleted", vec![put(0, 1, 10, 1, 2), delete(1, true, 13, 14)]),
        ("two hold a lock at once", vec![swap(0, (None, 1, 10, true), 1, 2), swap(1, (None, 2, 10, true), 5, 6)]),
        (
            "a put over what expires does not live on",
            vec![put(0, 1, 10, 1, 2), put(0, 2, EVER, 5, 6), get(1, None, 13, 14)],
        ),
        (
            "a put without an end is lost when one with an end would be",
            vec![put(0, 1, EVER, 1, 2), get(1, None, 13, 14)],
        ),
        (
            "what is there ends with the time of a swap that was refused",
            vec![put(0, 1, EVER, 1, 2), swap(1, (None, 2, 10, false), 3, 4), get(1, None, 20, 21)],
        ),
        (
            "a put that took longer than its value lives is read after it",
            vec![put(0, 1, 10, 1, 30), get(1, Some(1), 41, 42)],
        ),
    ];
    for (name, history) in bad {
        assert!(judged(history).is_violation(), "{name}");
    }
}

#[test]
fn the_checker_has_nothing_against_what_time_does() {
    use by_hand::*;
    const EVER: u64 = FOR_EVER;
    let good: Vec<(&str, Recorded)> = vec![
        ("there until it ends", vec![put(0, 1, 10, 1, 2), get(1, Some(1), 3, 11), get(1, None, 12, 13)]),
        (
            "a lock that ends is taken again",
            vec![swap(0, (None, 1, 10, true), 1, 2), swap(1, (None, 2, EVER, true), 11, 14)],
        ),
        ("either way while it ends", vec![put(0, 1, 10, 1, 5), get(1, Some(1), 11, 14), get(2, None, 11, 14)]),
        (
            "a put that took longer than its value lives is never seen",
            vec![put(0, 1, 10, 1, 30), get(1, None, 31, 32), get(1, None, 50, 51)],
        ),
        (
            "a put that was lost ends late, if it ever began",
            vec![lost(0, 1, 10, 1), get(1, None, 20, 21), get(1, Some(1), 22, 23), get(1, None, 40, 41)],
        ),
        (
            "the end of a value that is no longer there ends nothing",
            vec![put(0, 1, 10, 1, 2), put(0, 2, EVER, 3, 4), get(1, Some(2), 20, 21)],
        ),
    ];
    for (name, history) in good {
        assert!(judged(history).is_linearizable(), "{name}");
    }
}

/// Whoever asks for less is sooner done: the tables that are compared answer a get alike, and the bare one shows the difference.
#[test]
#[ignore = "starts MariaDB and Redis"]
fn tables_that_are_compared_are_asked_for_the_same() {
    // Nobody else's answers are counted there.
    let (server, redis) = (private_mysql(), lab::service::redis());
    let cost = layouts(&server, [&redis, &redis], &[100], (50, 1_000_000), 100, 1, 7).unwrap();
    let sent = |layout: Layout| cost.counted.filter("layout", &layout).number("sent");
    let sent = |layout| sent(layout) / sent(Layout::Ours);
    // The names of their tables are longer, which is sent along.
    for layout in [Layout::Numbered, Layout::Hashed] {
        assert!((0.9..1.2).contains(&sent(layout)), "{layout} is sent {:.2} times as much", sent(layout));
    }
    assert!(sent(Layout::Bare) < 0.87, "{:.2}", sent(Layout::Bare));
}

#[test]
#[ignore = "starts MariaDB"]
fn a_server_that_is_killed_loses_nothing_and_leaks_nothing() {
    let survived = survives(&private_mysql(), 4, 200).unwrap();
    assert!(survived.number("acknowledged") >= 200.0);
    assert!(survived.number("happened") > 0.0 && survived.number("refused") >= 40.0, "{survived:?}");
    for fault in ["lost", "refused and there", "connections left"] {
        assert_eq!(survived.number(fault), 0.0, "{fault}: {survived:?}");
    }
    for told in ["told of doubt", "told of refusal"].map(|told| survived.texts(told).join("\n")) {
        assert!(told.lines().count() == 1 && !told.contains('{'), "{told}");
    }
}

#[test]
#[ignore = "starts MariaDB"]
fn what_was_refused_has_not_happened_whoever_ends_statements_and_connections() {
    let server = private_mysql();
    for kill in ["KILL QUERY", "KILL"] {
        let (mut store, urls) = store(&server, 1);
        let over = AtomicBool::new(false);
        let told = std::thread::scope(|scope| {
            let (urls, over) = (&urls, &over);
            let put = move |client: u64| {
                let (mut store, mut told) = (Store::open(urls).unwrap(), Vec::new());
                for key in (client..).step_by(4) {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    let put = store.put(&key.to_be_bytes(), b"v", None);
                    told.push((key, put.map_err(|failure| failure.may_have_happened())));
                }
                told
            };
            let clients: Vec<_> = (0..4).map(|client| scope.spawn(move || put(client))).collect();
            let mut killer = mysql::Conn::new(server.url()).unwrap();
            let database = urls[0].rsplit('/').next().unwrap();
            let theirs = format!("SELECT id FROM information_schema.processlist WHERE db = '{database}'");
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(3) {
                for id in killer.query::<u64, _>(&theirs).unwrap() {
                    // It may be gone by now.
                    let _ = killer.query_drop(format!("{kill} {id}"));
                }
            }
            over.store(true, Ordering::Relaxed);
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect::<Vec<_>>()
        });
        let refused = told.iter().filter(|(_, told)| *told == Err(false)).count();
        assert!(refused > 0, "{kill}: nothing was refused of {}", told.len());
        for (key, told) in &told {
            let there = store.get(&key.to_be_bytes()).unwrap().is_some();
            assert!(told.is_ok() == there || *told == Err(true), "{kill}: {key} is there: {there}, {told:?}");
        }
    }
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
    let mut nowhere = Store::open(&databases(&server, 1).unwrap()).unwrap();
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
    let asked = faults(&mysql()).unwrap();
    assert_eq!(asked.height(), 5);
    for question in asked.rows() {
        let right = question.text("right");
        assert!(question.text("the prototype") != right && question.text("this store") == right, "{asked:?}");
    }
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
            let mut map: BTreeMap<Vec<u8>, (Vec<u8>, kv::Version)> = BTreeMap::new();
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

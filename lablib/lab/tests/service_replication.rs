//! A replica replays what its primary commits, and nothing else; a kill of either end changes nothing about it.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::io::copy;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lab::service::{self, MariaDb, Replicated};

fn with_a_table() -> Replicated {
    let db = service::mysql_replicated(1);
    db.primary.execute("CREATE TABLE events (id INT PRIMARY KEY, words TEXT)");
    db.primary.execute("INSERT INTO events VALUES (1, 'first')");
    db.catch_up();
    db
}

fn count(server: &MariaDb) -> String {
    server.ask("SELECT COUNT(*) FROM events").unwrap()
}

#[test]
fn a_replica_replays_its_primary_by_gtid() {
    let db = with_a_table();
    assert_eq!(count(&db.replicas[0]), "1");
    assert_eq!(db.replicas[0].replication_error().unwrap(), None);
    for id in 2..=50 {
        db.primary.execute(&format!("INSERT INTO events VALUES ({id}, 'more')"));
    }
    assert!(db.replicas[0].wait_for(&db.primary.position().unwrap(), Duration::from_secs(30)).unwrap());
    assert_eq!(count(&db.replicas[0]), "50");
    assert_eq!(db.replicas[0].position().unwrap(), db.primary.position().unwrap());
    assert_eq!(db.replicas[0].ask("SELECT @@GLOBAL.gtid_slave_pos").unwrap(), db.primary.position().unwrap());
}

#[test]
fn several_replicas_follow_one_primary() {
    let db = service::mysql_replicated(2);
    db.primary.execute("CREATE TABLE events (id INT PRIMARY KEY)");
    db.catch_up();
    assert_eq!(db.replicas.iter().map(count).collect::<Vec<_>>(), ["0", "0"]);
    assert!(db.primary.name().starts_with("primary-") && db.replicas[1].name().starts_with("replica-"));
    assert_eq!(db.primary.replication_error().unwrap().as_deref(), Some("it follows nobody"));
}

#[test]
fn a_replica_refuses_writes_until_it_is_promoted() {
    let db = with_a_table();
    let replica = &db.replicas[0];
    let error = replica.try_execute("INSERT INTO events VALUES (7, 'mine')").unwrap_err().to_string();
    assert!(error.contains("read-only"), "{error}");
    db.primary.kill();
    replica.promote();
    replica.execute("INSERT INTO events VALUES (7, 'mine')");
    assert_eq!(count(replica), "2");
    assert_eq!(replica.replication_error().unwrap().as_deref(), Some("it follows nobody"));
}

#[test]
fn a_replica_that_was_killed_goes_on_where_it_was() {
    let db = with_a_table();
    db.replicas[0].kill();
    db.primary.execute("INSERT INTO events VALUES (2, 'while it was dead')");
    db.replicas[0].restart();
    db.catch_up();
    assert_eq!(count(&db.replicas[0]), "2");
    assert_eq!(db.replicas[0].position().unwrap(), db.primary.position().unwrap());
}

#[test]
fn a_replica_comes_back_to_a_primary_that_was_killed() {
    let db = with_a_table();
    db.primary.kill();
    assert_eq!(count(&db.replicas[0]), "1", "it serves what it has");
    db.primary.restart();
    db.primary.execute("INSERT INTO events VALUES (2, 'after the crash')");
    db.catch_up();
    assert_eq!(count(&db.replicas[0]), "2");
}

#[test]
fn a_paused_replica_lags_and_catches_up() {
    let db = with_a_table();
    db.replicas[0].pause();
    db.primary.execute("INSERT INTO events VALUES (2, 'unseen')");
    db.replicas[0].resume();
    db.catch_up();
    assert_eq!(count(&db.replicas[0]), "2");
}

#[test]
fn a_delayed_replica_is_late_by_that_much() {
    let db = with_a_table();
    db.replicas[0].delay_replication(1).unwrap();
    let written = Instant::now();
    db.primary.execute("INSERT INTO events VALUES (2, 'late')");
    assert_eq!(count(&db.replicas[0]), "1");
    db.catch_up();
    // The primary's clock in the binary log has whole seconds, so the delay may come out one tick short.
    assert!(written.elapsed() > Duration::from_millis(10), "{:?}", written.elapsed());
    assert_eq!(count(&db.replicas[0]), "2");
}

#[test]
fn a_position_that_is_not_reached_in_time_is_no_success() {
    let db = with_a_table();
    let position = db.primary.position().unwrap();
    let (server, number) = position.rsplit_once('-').unwrap();
    let next = format!("{server}-{}", number.parse::<u64>().unwrap() + 1);
    assert!(db.replicas[0].wait_for(&position, Duration::from_millis(100)).unwrap());
    assert!(!db.replicas[0].wait_for(&next, Duration::from_millis(100)).unwrap());
}

#[test]
fn replication_can_go_through_a_link_in_between() {
    let db = with_a_table();
    let link = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = link.local_addr().unwrap().to_string();
    let (primary, through) = (db.primary.address().to_owned(), Arc::new(AtomicUsize::new(0)));
    let connections = Arc::clone(&through);
    std::thread::spawn(move || {
        for near in link.incoming() {
            let (near, far) = (near.unwrap(), TcpStream::connect(&primary).unwrap());
            connections.fetch_add(1, Ordering::SeqCst);
            for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                std::thread::spawn(move || copy(&mut from, &mut to));
            }
        }
    });
    db.replicas[0].replicate_through(&db.primary, &address).unwrap();
    db.primary.execute("INSERT INTO events VALUES (2, 'through the link')");
    db.catch_up();
    assert_eq!(count(&db.replicas[0]), "2");
    assert!(through.load(Ordering::SeqCst) >= 1);
    for bad in ["", "127.0.0.1", "127.0.0.1:port", ":"] {
        let error = db.replicas[0].replicate_through(&db.primary, bad).unwrap_err().to_string();
        assert!(error.contains("no address"), "{bad:?}: {error}");
    }
}

//! Kafka, the real broker: starts, serves, keeps what it was given, and shows what is done to it.
//!
//! Its clients here speak as much of the protocol as they need; the real client is tested where streams are.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod roles;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use lab::service::{self, Kafka};

const TOPICS: i16 = 3;
const CREATE: i16 = 19;

/// One request and its answer, after the correlation id.
fn ask(kafka: &Kafka, key: i16, version: i16, body: &[u8], patience: Duration) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(kafka.address())?;
    stream.set_read_timeout(Some(patience))?;
    let mut request = [key.to_be_bytes(), version.to_be_bytes()].concat();
    request.extend(1_i32.to_be_bytes());
    request.extend(text("test"));
    request.extend(body);
    stream.write_all(&[&(request.len() as i32).to_be_bytes()[..], &request].concat())?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; i32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer)?;
    Ok(answer.split_off(4))
}

fn text(words: &str) -> Vec<u8> {
    [&(words.len() as i16).to_be_bytes()[..], words.as_bytes()].concat()
}

/// Creates a topic with one partition (CreateTopics, version 2).
fn create_topic(kafka: &Kafka, name: &str) {
    let mut body = 1_i32.to_be_bytes().to_vec();
    body.extend(text(name));
    body.extend(1_i32.to_be_bytes());
    body.extend(1_i16.to_be_bytes());
    body.extend([0; 8]); // no assignments, no settings
    body.extend(10_000_i32.to_be_bytes());
    body.push(0);
    let answer = ask(kafka, CREATE, 2, &body, LONG).unwrap();
    assert!(answer.ends_with(&[text(name), vec![0, 0], vec![0xff, 0xff]].concat()), "{answer:?}");
}

/// All topics' metadata (version 1) mentions this one.
fn has_topic(kafka: &Kafka, name: &str) -> bool {
    let answer = ask(kafka, TOPICS, 1, &(-1_i32).to_be_bytes(), LONG).unwrap();
    answer.windows(name.len()).any(|window| window == name.as_bytes())
}

const LONG: Duration = Duration::from_secs(30);

#[test]
#[ignore = "a role that another test plays in a process of its own"]
fn role() {
    if roles::name().is_none() {
        return;
    }
    let kafka = service::kafka();
    assert_eq!(kafka.url(), std::env::var("LAB_KAFKA_URL").unwrap());
    let error = kafka.try_kill().unwrap_err().to_string();
    assert!(error.contains("your own server") && error.contains("LAB_KAFKA_URL"), "{error}");
    assert!(kafka.version().contains("your own"), "{}", kafka.version());
}

#[test]
#[ignore = "needs Kafka's jars: ci/lab setup"]
fn kafka_serves_and_keeps_its_topics_over_a_kill_and_a_restart() {
    let kafka = service::kafka();
    assert!(kafka.version().starts_with("Apache Kafka 4."), "{}", kafka.version());
    assert_eq!(kafka.url(), kafka.address());
    create_topic(&kafka, "orders");
    assert!(has_topic(&kafka, "orders") && !has_topic(&kafka, "refunds"));
    let (pid, url) = (kafka.pid(), kafka.url().to_owned());
    kafka.kill();
    assert!(!kafka.is_running());
    assert!(TcpStream::connect(kafka.address()).is_err());
    kafka.restart();
    assert!(has_topic(&kafka, "orders"));
    assert_ne!(kafka.pid(), pid);
    assert_eq!(kafka.url(), url);
    kafka.restart();
    assert!(has_topic(&kafka, "orders"));
}

#[test]
#[ignore = "needs Kafka's jars: ci/lab setup"]
fn a_paused_kafka_answers_nobody_until_it_is_resumed() {
    let kafka = service::kafka();
    kafka.pause();
    assert!(ask(&kafka, TOPICS, 1, &(-1_i32).to_be_bytes(), Duration::from_millis(300)).is_err());
    kafka.resume();
    assert!(!has_topic(&kafka, "orders"));
}

#[test]
#[ignore = "needs Kafka's jars: ci/lab setup"]
fn two_kafkas_are_two_clusters() {
    let (one, other) = (service::kafka(), Kafka::with("num.partitions", "4").start().unwrap());
    create_topic(&one, "orders");
    assert!(!has_topic(&other, "orders"));
}

#[test]
#[ignore = "needs Kafka's jars: ci/lab setup"]
fn a_kafka_that_dies_while_starting_shows_the_end_of_its_log() {
    let error = Kafka::with("num.partitions", "many").start().unwrap_err().to_string();
    assert!(error.contains("exit code 1") && error.contains("num.partitions"), "{error}");
    std::fs::remove_file(error.rsplit("the whole log is ").next().unwrap()).unwrap();
    for (setting, value) in [("", "1"), ("a b", "1"), ("a=b", "1"), ("num.partitions", "1\n2")] {
        assert!(Kafka::with(setting, value).start().unwrap_err().to_string().contains("no setting"));
    }
}

#[test]
#[ignore = "needs Kafka's jars: ci/lab setup"]
fn ones_own_kafka_is_used_and_left_alone() {
    let mine = Kafka::with("num.partitions", "2").start().unwrap();
    roles::perform("user of an own kafka", &[("LAB_KAFKA_URL", mine.url())]);
    assert!(mine.is_running());
}

//! The tour's measurements: what a round trip costs, from a mutex to Kafka, and what a client sees when a wire is cut.
//!
//! - Every round trip is one operation of one client, the next after the last: a closed loop, so it says what one operation
//!   takes, not what a user waits under load.
//! - What is over in nanoseconds is timed in batches, because reading the clock takes as long.
//! - A commit is a commit: MariaDB flushes its log and its binlog to the disk before it answers.
//! - A message is timed from the producer's call to the consumer's hand, with the producer told not to linger.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ::mysql::prelude::Queryable;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use crate::lab::chart::{Chart, Timeline};
use crate::lab::service::{Kafka, MariaDb, Node, Redis};
use crate::lab::{Doing, Error, Latency, OrFail, Result};

/// Locking and unlocking a mutex that nobody else wants.
pub fn mutex(count: u64) -> Latency {
    let mutex = Mutex::new(0_u64);
    Latency::measure_in_batches(count, 1_000, || {
        *mutex.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    })
}

/// A call into the operating system that does nothing there: asking for the parent's process id.
pub fn system_call(count: u64) -> Latency {
    Latency::measure_in_batches(count, 100, nix::unistd::getppid)
}

/// One byte to a thread of this process and back, over a TCP connection on loopback.
pub fn tcp_echo(count: u64) -> Latency {
    try_tcp_echo(count).or_fail()
}

fn try_tcp_echo(count: u64) -> Result<Latency> {
    let operation = "echo a byte over TCP";
    let listener = TcpListener::bind("127.0.0.1:0").doing(operation)?;
    let mut client = TcpStream::connect(listener.local_addr().doing(operation)?).doing(operation)?;
    let (mut server, _) = listener.accept().doing(operation)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true).doing(operation)?;
    }
    let echo = std::thread::spawn(move || {
        let mut byte = [0];
        while server.read_exact(&mut byte).and_then(|()| server.write_all(&byte)).is_ok() {}
    });
    let mut failure = None;
    let latency = Latency::measure(count, || {
        let mut byte = [7];
        if let Err(error) = client.write_all(&byte).and_then(|()| client.read_exact(&mut byte)) {
            failure.get_or_insert(error);
        }
    });
    drop(client);
    echo.join().map_err(|_| Error::new(operation, "the echoing thread panicked"))?;
    failure.map_or(Ok(latency), |error| Err(Error::new(operation, error)))
}

/// A PING to Redis and its PONG.
pub fn redis_ping(server: &Redis, count: u64) -> Latency {
    let mut ping = redis_client(server.url(), Duration::from_secs(10)).or_fail();
    measure(count, || ping()).or_fail()
}

/// Reading a row of 10,000 by its primary key: `SELECT … WHERE id = ?`, prepared once.
pub fn sql_select(db: &MariaDb, count: u64) -> Latency {
    try_sql(db, count, "SELECT visits FROM tour WHERE id = ?").or_fail()
}

/// Changing a row of 10,000 by its primary key, and having it on the disk: an UPDATE that commits.
pub fn sql_commit(db: &MariaDb, count: u64) -> Latency {
    try_sql(db, count, "UPDATE tour SET visits = visits + 1 WHERE id = ?").or_fail()
}

fn try_sql(db: &MariaDb, count: u64, statement: &str) -> Result<Latency> {
    const ROWS: u64 = 10_000;
    let operation = "measure SQL round trips";
    let mut connection = ::mysql::Conn::new(db.url()).doing(operation)?;
    connection
        .query_drop("CREATE TABLE IF NOT EXISTS tour (id INT PRIMARY KEY, visits BIGINT NOT NULL DEFAULT 0)")
        .doing(operation)?;
    connection
        .query_drop(format!("INSERT IGNORE INTO tour (id) SELECT seq FROM seq_1_to_{ROWS}"))
        .or_else(|_| fill(&mut connection, ROWS))
        .doing(operation)?;
    let prepared = connection.prep(statement).doing(operation)?;
    let mut next = 0;
    measure(count, || {
        // A stride that shares no factor with the number of rows: every row has its turn.
        next = (next + 7_919) % ROWS;
        connection.exec_drop(&prepared, (next + 1,)).doing(operation)
    })
}

/// MySQL has no sequence tables.
fn fill(connection: &mut ::mysql::Conn, rows: u64) -> ::mysql::Result<()> {
    let values: Vec<String> = (1..=rows).map(|id| format!("({id})")).collect();
    connection.query_drop(format!("INSERT IGNORE INTO tour (id) VALUES {}", values.join(",")))
}

/// What the consumer of a topic received.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// From the producer's call to the consumer's hand, a message at a time.
    pub latency: Latency,
    /// Messages sent, the ones that warmed up included.
    pub sent: u64,
    /// Messages received in the order in which they were sent, none missing, none twice.
    pub received_in_order: u64,
}

/// Producing a message to Kafka and consuming it, one at a time.
pub fn kafka_round_trip(kafka: &Kafka, count: u64) -> Delivered {
    try_kafka_round_trip(kafka, count).or_fail()
}

fn try_kafka_round_trip(kafka: &Kafka, count: u64) -> Result<Delivered> {
    const PATIENCE: Duration = Duration::from_secs(30);
    let operation = "send messages through Kafka";
    let topic = format!("tour-{:x}", rand::random::<u64>());
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", kafka.url()).set("allow.auto.create.topics", "true");
    let producer: BaseProducer =
        settings.clone().set("linger.ms", "0").set("acks", "all").create().doing(operation)?;
    let consumer: BaseConsumer =
        settings.set("group.id", &topic).set("fetch.wait.max.ms", "100").create().doing(operation)?;
    let mut sent = 0_u64;
    let mut received_in_order = 0_u64;
    // The first message creates the topic; the consumer cannot be given a topic that is not there.
    let produce = |number: u64| -> Result<()> {
        let payload = number.to_be_bytes();
        producer
            .send(BaseRecord::<(), [u8]>::to(&topic).partition(0).payload(&payload))
            .map_err(|(error, _)| error)
            .doing(operation)?;
        producer.poll(Duration::ZERO);
        Ok(())
    };
    produce(sent)?;
    producer.flush(PATIENCE).doing(operation)?;
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(&topic, 0, Offset::Beginning).doing(operation)?;
    consumer.assign(&partitions).doing(operation)?;
    let receive = |expected: u64| -> Result<bool> {
        match consumer.poll(PATIENCE) {
            Some(message) => Ok(message.doing(operation)?.payload() == Some(&expected.to_be_bytes()[..])),
            None => Err(Error::new(operation, format!("message {expected} did not arrive in {PATIENCE:?}"))),
        }
    };
    received_in_order += u64::from(receive(sent)?);
    let latency = measure(count, || {
        sent += 1;
        produce(sent)?;
        received_in_order += u64::from(receive(sent)?);
        Ok(())
    })?;
    Ok(Delivered { latency, sent: sent + 1, received_in_order })
}

/// Measures an operation that can fail; the first failure is the answer.
fn measure(count: u64, mut operation: impl FnMut() -> Result<()>) -> Result<Latency> {
    let mut failure = None;
    let latency = Latency::measure(count, || {
        if failure.is_none() {
            failure = operation().err();
        }
    });
    failure.map_or(Ok(latency), Err)
}

/// A client with one connection to Redis: each call is a PING, and connects first where there is no connection.
fn redis_client(url: &str, patience: Duration) -> Result<impl FnMut() -> Result<()> + Send + use<>> {
    let operation = "ping Redis";
    let client = redis::Client::open(url).doing(operation)?;
    let mut connection: Option<redis::Connection> = None;
    Ok(move || {
        let mut open = match connection.take() {
            Some(open) => open,
            None => {
                let open = client.get_connection_with_timeout(patience).doing(operation)?;
                open.set_read_timeout(Some(patience)).doing(operation)?;
                open
            }
        };
        redis::cmd("PING").query::<String>(&mut open).doing(operation)?;
        // Only a connection that has just answered is kept.
        connection = Some(open);
        Ok(())
    })
}

/// A URL whose server is reached through another address, for a link in front of it.
pub fn through(url: &str, server: &Node, address: &str) -> String {
    url.replacen(server.address(), address, 1)
}

/// Somebody who calls a server every few milliseconds and writes down how each call went.
#[derive(Debug)]
pub struct Watch {
    started: Instant,
    stop: Arc<AtomicBool>,
    caller: Option<JoinHandle<Vec<Call>>>,
    events: Vec<(f64, String)>,
}

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    /// When it began, in seconds from the start of the watch.
    pub start: f64,
    /// When it was over.
    pub end: f64,
    /// Why it failed; none where it was answered.
    pub failure: Option<String>,
}

/// What was watched.
#[derive(Debug, Clone)]
pub struct Watched {
    /// Every call, in order.
    pub calls: Vec<Call>,
    /// What was done to the server or the wire, and when.
    pub events: Vec<(f64, String)>,
}

impl Watch {
    /// Pings the Redis at `url` every ten milliseconds, and gives up on an answer after `patience`.
    pub fn redis(url: &str, patience: Duration) -> Self {
        let ping = redis_client(url, patience).or_fail();
        Self::calling(ping)
    }

    /// Counts a row of the SQL server up every ten milliseconds, and gives up on an answer after `patience`. What was
    /// acknowledged is what must be there afterwards.
    pub fn commits(db: &MariaDb, patience: Duration) -> Self {
        db.execute("CREATE TABLE IF NOT EXISTS watched (id INT PRIMARY KEY, commits BIGINT NOT NULL)");
        db.execute("REPLACE INTO watched VALUES (1, 0)");
        let url = db.url().to_string();
        let mut connection: Option<::mysql::Conn> = None;
        Self::calling(move || {
            let operation = "commit";
            let mut open = match connection.take() {
                Some(open) => open,
                None => {
                    let options = ::mysql::Opts::from_url(&url).doing(operation)?;
                    let options = ::mysql::OptsBuilder::from_opts(options)
                        .tcp_connect_timeout(Some(patience))
                        .read_timeout(Some(patience))
                        .write_timeout(Some(patience));
                    ::mysql::Conn::new(options).doing(operation)?
                }
            };
            open.query_drop("UPDATE watched SET commits = commits + 1 WHERE id = 1").doing(operation)?;
            connection = Some(open);
            Ok(())
        })
    }

    fn calling(mut call: impl FnMut() -> Result<()> + Send + 'static) -> Self {
        let (started, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let caller = std::thread::spawn(move || {
            let mut calls = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let start = started.elapsed().as_secs_f64();
                let failure = call().err().map(|error| error.cause().to_string());
                calls.push(Call { start, end: started.elapsed().as_secs_f64(), failure });
                std::thread::sleep(Duration::from_millis(10));
            }
            calls
        });
        Self { started, stop, caller: Some(caller), events: Vec::new() }
    }

    /// Lets so much time pass.
    pub fn wait(&mut self, duration: Duration) -> &mut Self {
        std::thread::sleep(duration);
        self
    }

    /// Does something to the server or the wire, and notes when.
    pub fn then(&mut self, what: &str, action: impl FnOnce()) -> &mut Self {
        self.events.push((self.started.elapsed().as_secs_f64(), what.to_string()));
        action();
        self
    }

    /// Stops calling.
    pub fn finish(&mut self) -> Watched {
        self.stop.store(true, Ordering::Relaxed);
        let calls = self.caller.take().map(JoinHandle::join).transpose();
        let calls = calls.map_err(|_| Error::new("watch the server", "the caller panicked")).or_fail();
        Watched { calls: calls.unwrap_or_default(), events: std::mem::take(&mut self.events) }
    }
}

impl Watched {
    /// Calls that were answered.
    pub fn answered(&self) -> u64 {
        self.calls.iter().filter(|call| call.failure.is_none()).count() as u64
    }

    /// Calls that failed, or were given up.
    pub fn failed(&self) -> u64 {
        self.calls.len() as u64 - self.answered()
    }

    /// When `event` happened; ends the cell where it did not.
    fn time_of(&self, event: &str) -> f64 {
        let found = self.events.iter().find(|(_, name)| name == event).map(|(time, _)| *time);
        found.ok_or_else(|| Error::new(format!("find {event:?}"), "nothing of that name happened")).or_fail()
    }

    /// Seconds from `event` to the first failure that the client saw after it; infinite where it saw none.
    pub fn noticed_after(&self, event: &str) -> f64 {
        let time = self.time_of(event);
        let failure = self.calls.iter().find(|call| call.failure.is_some() && call.end >= time);
        failure.map_or(f64::INFINITY, |call| call.end - time)
    }

    /// Seconds from `event` to the first answer to a call that began after it; infinite where there was none.
    pub fn served_after(&self, event: &str) -> f64 {
        let time = self.time_of(event);
        let answer = self.calls.iter().find(|call| call.failure.is_none() && call.start >= time);
        answer.map_or(f64::INFINITY, |call| call.end - time)
    }

    /// The reason of the first failure after `event`, as the client read it.
    pub fn reason_after(&self, event: &str) -> String {
        let time = self.time_of(event);
        let failure = self.calls.iter().find(|call| call.failure.is_some() && call.end >= time);
        failure.and_then(|call| call.failure.clone()).unwrap_or_else(|| "no failure".into())
    }

    /// Client and server side by side in time.
    pub fn timeline(&self, title: &str) -> Timeline {
        let mut chart = Chart::timeline(title).x("time", "s").lane("client");
        for call in merged(&self.calls) {
            chart = match &call.failure {
                None => chart.span("client", call.start, call.end, "answered"),
                Some(_) => chart.wait("client", call.start, call.end, "no answer"),
            };
        }
        for (time, what) in &self.events {
            chart = chart.event("we", *time, what);
        }
        chart
    }
}

/// Neighbouring calls that went alike, as one stretch of time.
fn merged(calls: &[Call]) -> Vec<Call> {
    let mut stretches: Vec<Call> = Vec::new();
    for call in calls {
        match stretches.last_mut() {
            Some(last) if last.failure.is_some() == call.failure.is_some() => last.end = call.end,
            _ => stretches.push(call.clone()),
        }
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched() -> Watched {
        let call = |start: f64, end: f64, failure: Option<&str>| Call { start, end, failure: failure.map(Into::into) };
        Watched {
            calls: vec![
                call(0.0, 0.1, None),
                call(0.2, 0.3, None),
                call(0.4, 0.9, Some("reset")),
                call(1.0, 1.1, Some("refused")),
                call(1.2, 1.3, None),
            ],
            events: vec![(0.5, "cut".into()), (1.15, "heal".into())],
        }
    }

    #[test]
    fn times_count_from_the_event() {
        let watched = watched();
        assert!((watched.noticed_after("cut") - 0.4).abs() < 1e-9);
        assert!((watched.served_after("heal") - 0.15).abs() < 1e-9);
        assert_eq!(watched.reason_after("cut"), "reset");
        assert_eq!(watched.noticed_after("heal"), f64::INFINITY);
        assert_eq!((watched.answered(), watched.failed()), (3, 2));
    }

    #[test]
    fn calls_that_went_alike_are_one_stretch() {
        let stretches = merged(&watched().calls);
        let times: Vec<(f64, f64)> = stretches.iter().map(|call| (call.start, call.end)).collect();
        assert_eq!(times, [(0.0, 0.3), (0.4, 1.1), (1.2, 1.3)]);
    }

    #[test]
    fn a_mutex_is_cheaper_than_a_system_call_and_both_are_measured() {
        let (mutex, call) = (mutex(200), system_call(200));
        assert_eq!((mutex.count(), call.count()), (200, 200));
        assert!(mutex.p50() < Duration::from_millis(1) && call.p50() < Duration::from_millis(1));
    }

    #[test]
    fn an_echo_is_measured_as_often_as_asked() {
        assert_eq!(tcp_echo(100).count(), 100);
    }
}

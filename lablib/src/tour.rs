//! The tour's measurements: what a round trip costs, from a mutex to Kafka, and what a client sees when a wire is cut.
//!
//! - Every round trip is one operation of one client, the next after the last: a closed loop, so it says what one operation
//!   takes, not what a user waits under load.
//! - What is over in nanoseconds is timed in batches, because reading the clock takes as long.
//! - A commit is a commit: MariaDB flushes its log and its binlog to the disk before it answers.
//! - A message is timed from the producer's call to the consumer's hand, with the producer told not to linger.

use std::collections::BTreeSet;
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

use lab::chart::{Chart, Latencies, Timeline};
use lab::service::{Kafka, MariaDb, Node, Redis};
use lab::{Doing, Error, Latency, OrFail, Progress, Result, Samples};

/// What seven kinds of round trip cost, measured in turns.
#[derive(Debug, Clone)]
pub struct Prices {
    arms: Vec<Price>,
    /// Messages sent through Kafka, the ones that warmed up included.
    pub sent: u64,
    /// Messages received in the order in which they were sent, none missing, none twice.
    pub received_in_order: u64,
}

/// What one kind of round trip costs.
#[derive(Debug, Clone)]
struct Price {
    name: &'static str,
    latency: Latency,
    /// The median of each round, in seconds.
    medians: Samples,
}

/// The kinds of round trip, from the cheapest on.
pub mod kind {
    /// Locking and unlocking a mutex that nobody else wants.
    pub const MUTEX: &str = "mutex";
    /// A call into the operating system that does nothing there: asking for the parent's process id.
    pub const SYSTEM_CALL: &str = "system call";
    /// One byte to a thread of this process and back, over a TCP connection on loopback.
    pub const ECHO: &str = "TCP echo, loopback";
    /// A PING to Redis and its PONG.
    pub const PING: &str = "Redis PING";
    /// Reading a row of 10,000 by its primary key, with a statement that was prepared once.
    pub const SELECT: &str = "SQL SELECT by key";
    /// Changing such a row, and having it on the disk.
    pub const COMMIT: &str = "SQL UPDATE, committed";
    /// A message from the producer's call to the consumer's hand.
    pub const KAFKA: &str = "Kafka, produce to consume";
}

/// Measures one kind for one round.
type Round<'a> = Box<dyn FnMut() -> Result<Latency> + 'a>;

/// Rounds in which all kinds take turns, so that whatever else the machine does disturbs all of them alike.
const ROUNDS: u64 = 10;

/// Measures all seven: `count` operations of the cheap kinds, `slow_count` of those that wait for a disk or a broker.
pub fn prices(db: &MariaDb, redis: &Redis, kafka: &Kafka, count: u64, slow_count: u64) -> Prices {
    try_prices(db, redis, kafka, count, slow_count).or_fail()
}

fn try_prices(db: &MariaDb, redis: &Redis, kafka: &Kafka, count: u64, slow_count: u64) -> Result<Prices> {
    let mutex = Mutex::new(0_u64);
    let mut echo = Echo::start()?;
    let mut ping = redis_client(redis.url(), Duration::from_secs(10))?;
    let mut select = statement(db, "SELECT visits FROM tour WHERE id = ?")?;
    let mut commit = statement(db, "UPDATE tour SET visits = visits + 1 WHERE id = ?")?;
    let mut messages = Messages::through(kafka)?;
    let (count, slow_count) = (count.div_ceil(ROUNDS), slow_count.div_ceil(ROUNDS));
    let mut arms: [(&'static str, Round<'_>); 7] = [
        (
            kind::MUTEX,
            Box::new(|| {
                Ok(Latency::measure_in_batches(count, 1_000, || {
                    *mutex.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                }))
            }),
        ),
        (kind::SYSTEM_CALL, Box::new(|| Ok(Latency::measure_in_batches(count, 100, nix::unistd::getppid)))),
        (kind::ECHO, Box::new(|| measure(count, || echo.once()))),
        (kind::PING, Box::new(|| measure(count, &mut ping))),
        (kind::SELECT, Box::new(|| measure(count, &mut select))),
        (kind::COMMIT, Box::new(|| measure(slow_count, &mut commit))),
        (kind::KAFKA, Box::new(|| measure(slow_count, || messages.once()))),
    ];
    let mut prices: Vec<Price> =
        arms.iter().map(|&(name, _)| Price { name, latency: Latency::new(), medians: Samples::default() }).collect();
    let mut progress = Progress::new("measuring round trips", ROUNDS);
    for _ in 0..ROUNDS {
        for ((_, measure), price) in arms.iter_mut().zip(&mut prices) {
            let latency = measure()?;
            price.medians.push(latency.p50().as_secs_f64());
            price.latency.merge(&latency);
        }
        progress.step();
    }
    drop(arms);
    echo.finish()?;
    Ok(Prices { arms: prices, sent: messages.sent, received_in_order: messages.received_in_order })
}

impl Prices {
    /// All distributions, one below the other.
    pub fn chart(&self, title: &str) -> Latencies {
        self.arms.iter().fold(Chart::latencies(title), |chart, price| chart.latency(price.name, &price.latency))
    }

    /// How many times as long one kind takes as another, at the median: one sample a round.
    pub fn ratio(&self, slower: &str, faster: &str) -> Samples {
        let (slower, faster) = (self.find(slower).or_fail(), self.find(faster).or_fail());
        slower.medians.values().iter().zip(faster.medians.values()).map(|(slow, fast)| slow / fast).collect()
    }

    /// How many powers of ten lie between the cheapest and the dearest kind, at their medians.
    pub fn powers_of_ten(&self) -> f64 {
        let medians: Samples = self.arms.iter().map(|price| price.medians.median()).collect();
        (medians.max() / medians.min()).log10()
    }

    fn find(&self, name: &str) -> Result<&Price> {
        let names = || self.arms.iter().map(|price| price.name).collect::<Vec<_>>().join(", ");
        let found = self.arms.iter().find(|price| price.name == name);
        found.ok_or_else(|| Error::new(format!("find the price of {name:?}"), format!("there is {}", names())))
    }
}

/// A thread that sends every byte back, and a connection to it.
struct Echo {
    client: TcpStream,
    server: JoinHandle<()>,
}

impl Echo {
    const OPERATION: &str = "echo a byte over TCP";

    fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").doing(Self::OPERATION)?;
        let client = TcpStream::connect(listener.local_addr().doing(Self::OPERATION)?).doing(Self::OPERATION)?;
        let (mut server, _) = listener.accept().doing(Self::OPERATION)?;
        for stream in [&client, &server] {
            stream.set_nodelay(true).doing(Self::OPERATION)?;
        }
        let server = std::thread::spawn(move || {
            let mut byte = [0];
            while server.read_exact(&mut byte).and_then(|()| server.write_all(&byte)).is_ok() {}
        });
        Ok(Self { client, server })
    }

    fn once(&mut self) -> Result<()> {
        let mut byte = [7];
        self.client.write_all(&byte).and_then(|()| self.client.read_exact(&mut byte)).doing(Self::OPERATION)
    }

    fn finish(self) -> Result<()> {
        drop(self.client);
        self.server.join().map_err(|_| Error::new(Self::OPERATION, "the echoing thread panicked"))
    }
}

/// A prepared statement with one place for a key, and each call of it another key of 10,000.
fn statement(db: &MariaDb, sql: &str) -> Result<impl FnMut() -> Result<()> + use<>> {
    const ROWS: u64 = 10_000;
    let operation = "measure SQL round trips";
    let mut connection = ::mysql::Conn::new(db.url()).doing(operation)?;
    connection
        .query_drop("CREATE TABLE IF NOT EXISTS tour (id INT PRIMARY KEY, visits BIGINT NOT NULL DEFAULT 0)")
        .doing(operation)?;
    let values: Vec<String> = (1..=ROWS).map(|id| format!("({id})")).collect();
    connection.query_drop(format!("INSERT IGNORE INTO tour (id) VALUES {}", values.join(","))).doing(operation)?;
    let prepared = connection.prep(sql).doing(operation)?;
    let mut next = 0;
    Ok(move || {
        // A stride that shares no factor with the number of rows: every row has its turn.
        next = (next + 7_919) % ROWS;
        connection.exec_drop(&prepared, (next + 1,)).doing(operation)
    })
}

/// A producer and a consumer of one partition.
struct Messages {
    topic: String,
    producer: BaseProducer,
    consumer: BaseConsumer,
    sent: u64,
    received_in_order: u64,
}

impl Messages {
    const OPERATION: &str = "send a message through Kafka";
    const PATIENCE: Duration = Duration::from_secs(30);

    fn through(kafka: &Kafka) -> Result<Self> {
        let topic = format!("tour-{:x}", rand::random::<u64>());
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", kafka.url());
        let producer = settings.clone().set("linger.ms", "0").set("acks", "all").create().doing(Self::OPERATION)?;
        let consumer: BaseConsumer =
            settings.set("group.id", &topic).set("fetch.wait.max.ms", "100").create().doing(Self::OPERATION)?;
        let mut messages = Self { topic, producer, consumer, sent: 0, received_in_order: 0 };
        // The first message creates the topic; a consumer cannot be given one that is not there.
        messages.send()?;
        messages.producer.flush(Self::PATIENCE).doing(Self::OPERATION)?;
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_offset(&messages.topic, 0, Offset::Beginning).doing(Self::OPERATION)?;
        messages.consumer.assign(&partitions).doing(Self::OPERATION)?;
        messages.receive()?;
        Ok(messages)
    }

    fn once(&mut self) -> Result<()> {
        self.send()?;
        self.receive()
    }

    fn send(&mut self) -> Result<()> {
        self.sent += 1;
        let payload = self.sent.to_be_bytes();
        let record = BaseRecord::<(), [u8]>::to(&self.topic).partition(0).payload(&payload);
        self.producer.send(record).map_err(|(error, _)| error).doing(Self::OPERATION)?;
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    fn receive(&mut self) -> Result<()> {
        let expected = self.received_in_order + 1;
        let deadline = Instant::now() + Self::PATIENCE;
        // One poll may also end early, with an event that is no message.
        while Instant::now() < deadline {
            if let Some(message) = self.consumer.poll(Duration::from_secs(1)) {
                let in_order = message.doing(Self::OPERATION)?.payload() == Some(&expected.to_be_bytes()[..]);
                self.received_in_order += u64::from(in_order);
                return Ok(());
            }
        }
        Err(Error::new(Self::OPERATION, format!("message {} did not arrive in {:?}", self.sent, Self::PATIENCE)))
    }
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
    /// Its number, which a commit leaves in the database.
    pub number: u64,
}

/// What a database holds of the commits that a client has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Commits that the client was told about.
    pub acknowledged: u64,
    /// Commits that are in the database.
    pub there: u64,
    /// Commits that the client was told about, and that are not there, each looked for by its number.
    pub missing: u64,
    /// Commits that are there, although the client was not told.
    pub untold: u64,
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
        let mut ping = redis_client(url, patience).or_fail();
        Self::calling(move |_| ping())
    }

    /// Commits its next number to the SQL server every ten milliseconds, and gives up on an answer after `patience`. What was
    /// acknowledged must be there afterwards, number by number: a sum would let a lost commit and one whose answer was lost
    /// make up for each other.
    pub fn commits(db: &MariaDb, patience: Duration) -> Self {
        db.execute("CREATE OR REPLACE TABLE watched (number BIGINT PRIMARY KEY)");
        let url = db.url().to_string();
        let mut connection: Option<::mysql::Conn> = None;
        Self::calling(move |number| {
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
            open.query_drop(format!("INSERT INTO watched VALUES ({number})")).doing(operation)?;
            connection = Some(open);
            Ok(())
        })
    }

    fn calling(mut call: impl FnMut(u64) -> Result<()> + Send + 'static) -> Self {
        let (started, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let caller = std::thread::spawn(move || {
            let mut calls = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let start = started.elapsed().as_secs_f64();
                let number = calls.len() as u64;
                let failure = call(number).err().map(|error| error.cause().to_string());
                calls.push(Call { start, end: started.elapsed().as_secs_f64(), failure, number });
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

    /// Looks for every commit of [`Watch::commits`] in the database.
    pub fn kept(&self, db: &MariaDb) -> Kept {
        let numbers = db.connect().and_then(|mut open| {
            open.query::<u64, _>("SELECT number FROM watched").doing("look for the commits").map(BTreeSet::from_iter)
        });
        self.kept_in(numbers.or_fail())
    }

    fn kept_in(&self, there: BTreeSet<u64>) -> Kept {
        let told: BTreeSet<u64> =
            self.calls.iter().filter(|call| call.failure.is_none()).map(|call| call.number).collect();
        Kept {
            acknowledged: told.len() as u64,
            there: there.len() as u64,
            missing: told.difference(&there).count() as u64,
            untold: there.difference(&told).count() as u64,
        }
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
        let calls = [
            (0.0, 0.1, None),
            (0.2, 0.3, None),
            (0.4, 0.9, Some("reset")),
            (1.0, 1.1, Some("refused")),
            (1.2, 1.3, None),
        ];
        let call = |(number, (start, end, failure)): (usize, (f64, f64, Option<&str>))| Call {
            start,
            end,
            failure: failure.map(Into::into),
            number: number as u64,
        };
        Watched {
            calls: calls.into_iter().enumerate().map(call).collect(),
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

    /// One acknowledged commit is gone, and one is there whose answer was lost: the sums agree, and one is lost all the same.
    #[test]
    fn a_lost_commit_is_not_made_up_for_by_one_that_nobody_was_told_of() {
        let kept = watched().kept_in(BTreeSet::from([0, 2, 4]));
        assert_eq!(kept, Kept { acknowledged: 3, there: 3, missing: 1, untold: 1 });
        assert_eq!(watched().kept_in(BTreeSet::from([0, 1, 4])).missing, 0);
    }

    #[test]
    fn calls_that_went_alike_are_one_stretch() {
        let stretches = merged(&watched().calls);
        let times: Vec<(f64, f64)> = stretches.iter().map(|call| (call.start, call.end)).collect();
        assert_eq!(times, [(0.0, 0.3), (0.4, 1.1), (1.2, 1.3)]);
    }

    #[test]
    fn an_echo_comes_back_until_it_is_finished() -> Result<()> {
        let mut echo = Echo::start()?;
        (0..100).try_for_each(|_| echo.once())?;
        echo.finish()
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        let price = |name, medians: [f64; 2]| Price { name, latency: Latency::new(), medians: medians.to_vec().into() };
        let arms = vec![price(kind::MUTEX, [1.0, 2.0]), price(kind::ECHO, [10.0, 60.0])];
        let prices = Prices { arms, sent: 0, received_in_order: 0 };
        assert_eq!(prices.ratio(kind::ECHO, kind::MUTEX).values(), [10.0, 30.0]);
        assert!(prices.find("telegram").is_err_and(|error| error.cause() == "there is mutex, TCP echo, loopback"));
    }
}

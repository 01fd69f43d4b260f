//! The link against real sockets: what it promises, and what it brings to light.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use lab::Rng;
use lab::link::{Direction, Link};
use proptest::prelude::*;

const PATIENCE: Duration = Duration::from_secs(30);
/// How long silence is listened to.
const A_WHILE: Duration = Duration::from_millis(200);
const NEVER: Duration = Duration::from_secs(3600);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn random_bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut rng = Rng::seeded(seed, "link test");
    std::iter::repeat_with(|| rng.bits().to_le_bytes()).flatten().take(count).collect()
}

/// A server whose accepted connections the test holds in its own hand.
struct Server {
    listener: TcpListener,
}

impl Server {
    fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    fn link(&self) -> Link {
        Link::to(&self.address()).unwrap()
    }

    fn accept(&self) -> TcpStream {
        let began = Instant::now();
        self.listener.set_nonblocking(true).unwrap();
        let accepted = loop {
            match self.listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) => assert!(began.elapsed() < PATIENCE, "nobody came: {error}"),
            }
            thread::sleep(Duration::from_micros(200));
        };
        self.listener.set_nonblocking(false).unwrap();
        accepted.set_nonblocking(false).unwrap();
        patient(accepted)
    }

    fn pair(&self, link: &Link) -> (TcpStream, TcpStream) {
        let client = connect(link);
        (client, self.accept())
    }

    fn nobody_comes(&self) -> bool {
        self.listener.set_nonblocking(true).unwrap();
        thread::sleep(A_WHILE);
        let came = self.listener.accept();
        self.listener.set_nonblocking(false).unwrap();
        matches!(came, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Serves every connection on a thread of its own, for as long as the test runs.
    fn serve(self, serve: impl Fn(TcpStream) + Send + Sync + 'static) {
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in self.listener.incoming().flatten() {
                let serve = serve.clone();
                thread::spawn(move || serve(stream));
            }
        });
    }
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn connect(link: &Link) -> TcpStream {
    patient(TcpStream::connect(link.address()).unwrap())
}

/// What ends a connection: the bytes before, and how.
fn hear_out(stream: &mut TcpStream) -> (Vec<u8>, Result<(), ErrorKind>) {
    let mut heard = Vec::new();
    let end = stream.read_to_end(&mut heard).map(drop).map_err(|error| error.kind());
    (heard, end)
}

fn hears(stream: &mut TcpStream, expected: &[u8]) {
    let mut heard = vec![0; expected.len()];
    stream.read_exact(&mut heard).unwrap();
    assert!(heard == expected, "other bytes arrived than were sent");
}

fn hears_nothing(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(A_WHILE)).unwrap();
    let heard = stream.read(&mut [0; 64]).map_err(|error| error.kind());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(heard, Err(ErrorKind::WouldBlock));
}

#[track_caller]
fn is_reset(stream: &mut TcpStream) {
    assert_eq!(hear_out(stream), (Vec::new(), Err(ErrorKind::ConnectionReset)));
}

/// Sends in pieces of many sizes.
fn send(stream: &mut TcpStream, bytes: &[u8], seed: u64) {
    let mut rng = Rng::seeded(seed, "sizes");
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(1 + (1_u64 << rng.below(17)) as usize));
        stream.write_all(piece).unwrap();
        rest = after;
    }
}

/// Sends `count` bytes each way at the same time, `meanwhile` something else, and compares every one of them.
fn exchange(link: &Link, server: &Server, count: usize, meanwhile: impl FnOnce()) {
    let (client, served) = server.pair(link);
    let (up, down) = (random_bytes(1, count), random_bytes(2, count));
    thread::scope(|scope| {
        let sender = |stream: &TcpStream, bytes, seed| {
            let mut stream = stream.try_clone().unwrap();
            move || {
                send(&mut stream, bytes, seed);
                stream.shutdown(Shutdown::Write).unwrap();
            }
        };
        let receiver = |stream: &TcpStream, bytes: Vec<u8>| {
            let mut stream = stream.try_clone().unwrap();
            move || {
                let (heard, end) = hear_out(&mut stream);
                assert_eq!(end, Ok(()));
                assert_eq!(heard.len(), bytes.len());
                assert!(heard == bytes, "other bytes arrived than were sent");
            }
        };
        scope.spawn(sender(&client, &up, 3));
        scope.spawn(sender(&served, &down, 4));
        scope.spawn(receiver(&client, down.clone()));
        scope.spawn(receiver(&served, up.clone()));
        meanwhile();
    });
}

// Bytes arrive whole and in order.

#[test]
fn bytes_are_identical_under_every_fault() {
    const COUNT: usize = 3 << 20;
    type Fault = fn(&Link) -> &Link;
    let faults: [(&str, Fault); 6] = [
        ("none", |link| link),
        ("delay", |link| link.delay(ms(20))),
        ("jitter", |link| link.jitter(ms(10))),
        ("throttle", |link| link.throttle(6 << 20)),
        ("one way", |link| link.delay_toward(Direction::ToClient, ms(30))),
        ("all", |link| link.delay(ms(5)).jitter(ms(20)).throttle(8 << 20)),
    ];
    let server = Server::new();
    for (name, fault) in faults {
        println!("{name}");
        let link = server.link();
        fault(&link);
        exchange(&link, &server, COUNT, || {});
        let stats = link.stats();
        assert_eq!((stats.to_server, stats.to_client, stats.in_flight), (COUNT as u64, COUNT as u64, 0), "{name}");
    }
}

#[test]
fn bytes_are_identical_while_faults_come_and_go() {
    let server = Server::new();
    let link = server.link();
    exchange(&link, &server, 8 << 20, || {
        for round in 0..15 {
            link.delay(ms(round % 4)).jitter(ms(5)).throttle(1 << 20);
            thread::sleep(ms(5));
            link.half_open();
            thread::sleep(ms(5));
            link.heal().half_open_toward(Direction::ToClient);
            thread::sleep(ms(5));
            link.throttle(0);
            thread::sleep(ms(5));
            link.heal();
        }
    });
}

#[derive(Debug, Clone)]
enum Move {
    Send(Direction, usize),
    Delay(u64),
    Jitter(u64),
    Throttle(u64),
    HalfOpen,
    Hold(Direction),
    Heal,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let direction = prop_oneof![Just(Direction::ToServer), Just(Direction::ToClient)];
    let one = prop_oneof![
        6 => (direction.clone(), 1..100_000_usize).prop_map(|(way, count)| Move::Send(way, count)),
        1 => (0..10_u64).prop_map(Move::Delay),
        1 => (0..10_u64).prop_map(Move::Jitter),
        1 => (0..2_000_000_u64).prop_map(Move::Throttle),
        1 => Just(Move::HalfOpen),
        1 => direction.prop_map(Move::Hold),
        1 => Just(Move::Heal),
    ];
    prop::collection::vec(one, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_a_healed_link_has_delivered_what_was_sent(moves in moves(), seed in any::<u64>()) {
        let server = Server::new();
        let link = server.link();
        let (client, served) = server.pair(&link);
        let mut sent = [Vec::new(), Vec::new()];
        thread::scope(|scope| {
            // Writers of their own: a held link makes its senders wait.
            let (to_server, up) = mpsc::channel::<Vec<u8>>();
            let (to_client, down) = mpsc::channel::<Vec<u8>>();
            for (mut stream, queue) in [(client.try_clone().unwrap(), up), (served.try_clone().unwrap(), down)] {
                scope.spawn(move || {
                    for bytes in queue {
                        stream.write_all(&bytes).unwrap();
                    }
                    stream.shutdown(Shutdown::Write).unwrap();
                });
            }
            let heard = [served.try_clone().unwrap(), client.try_clone().unwrap()]
                .map(|mut stream| scope.spawn(move || hear_out(&mut stream)));
            for (number, step) in moves.into_iter().enumerate() {
                match step {
                    Move::Send(way, count) => {
                        let bytes = random_bytes(seed ^ number as u64, count);
                        sent[way as usize].extend_from_slice(&bytes);
                        if way == Direction::ToServer { &to_server } else { &to_client }.send(bytes).unwrap();
                    }
                    Move::Delay(count) => { link.delay(ms(count)); }
                    Move::Jitter(count) => { link.jitter(ms(count)); }
                    Move::Throttle(rate) => { link.throttle(rate); }
                    Move::HalfOpen => { link.half_open(); }
                    Move::Hold(way) => { link.half_open_toward(way); }
                    Move::Heal => { link.heal(); }
                }
                thread::yield_now();
            }
            drop((to_server, to_client));
            link.heal();
            for (way, heard) in heard.into_iter().enumerate() {
                let (heard, end) = heard.join().unwrap();
                assert_eq!(end, Ok(()));
                assert!(heard == sent[way], "direction {way}: {} sent, {} heard", sent[way].len(), heard.len());
            }
        });
    }
}

#[test]
fn the_end_of_one_direction_follows_its_last_byte_and_leaves_the_other_open() {
    let server = Server::new();
    let link = server.link();
    link.delay(ms(20)).throttle(4 << 20);
    let (mut client, mut served) = server.pair(&link);
    let (question, answer) = (random_bytes(5, 200_000), random_bytes(6, 1 << 20));
    client.write_all(&question).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(hear_out(&mut served), (question, Ok(())));
    served.write_all(&answer).unwrap();
    served.shutdown(Shutdown::Write).unwrap();
    assert!(hear_out(&mut client) == (answer, Ok(())));
}

#[test]
fn a_question_that_ends_before_the_link_has_connected_is_answered() {
    let server = Server::new();
    let address = server.address();
    server.serve(|mut stream| {
        let (question, _) = hear_out(&mut stream);
        stream.write_all(&question).unwrap();
    });
    let link = Link::to(&address).unwrap();
    for _ in 0..100 {
        let mut client = connect(&link);
        client.write_all(b"now").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(hear_out(&mut client), (b"now".to_vec(), Ok(())));
    }
}

/// Closes with unread bytes, which TCP turns into a reset.
fn abandon(mut stream: TcpStream, other: &mut TcpStream, link: &Link) {
    let before = link.stats();
    other.write_all(b"unread").unwrap();
    stream.peek(&mut [0; 6]).unwrap();
    while link.stats().to_client + link.stats().to_server < before.to_client + before.to_server + 6 {
        thread::yield_now();
    }
    let _ = stream.flush();
    drop(stream);
}

#[test]
fn a_reset_passes_as_a_reset_both_ways() {
    let server = Server::new();
    let link = server.link();
    let (mut client, served) = server.pair(&link);
    abandon(served, &mut client, &link);
    is_reset(&mut client);
    let (client, mut served) = server.pair(&link);
    abandon(client, &mut served, &link);
    is_reset(&mut served);
}

#[test]
fn one_who_sends_to_somebody_gone_hears_of_it() {
    let server = Server::new();
    let link = server.link();
    // Closed in order, so that the link sees an end first, and only its own writing tells it that nobody is there.
    let (client, mut served) = server.pair(&link);
    drop(client);
    assert_eq!(hear_out(&mut served), (Vec::new(), Ok(())));
    let started = Instant::now();
    while served.write_all(&[7; 1000]).is_ok() {
        assert!(started.elapsed() < PATIENCE, "a sender was never told that nobody is there");
    }
    let (mut client, served) = server.pair(&link);
    drop(served);
    assert_eq!(hear_out(&mut client), (Vec::new(), Ok(())));
    let started = Instant::now();
    while client.write_all(&[7; 1000]).is_ok() {
        assert!(started.elapsed() < PATIENCE, "a sender was never told that nobody is there");
    }
    while link.stats().open > 0 {
        assert!(started.elapsed() < PATIENCE, "a dead connection stays open");
    }
}

#[test]
fn a_server_that_is_down_looks_like_a_reset() {
    let server = Server::new();
    let link = server.link();
    drop(server);
    is_reset(&mut connect(&link));
}

#[test]
fn many_connections_do_not_mix() {
    let server = Server::new();
    let address = server.address();
    server.serve(|mut stream| {
        let (question, _) = hear_out(&mut stream);
        let _ = stream.write_all(&question);
    });
    let link = Link::to(&address).unwrap();
    link.delay(ms(5)).jitter(ms(10));
    let mut clients: Vec<_> = (0..100).map(|_| connect(&link)).collect();
    assert_eq!((link.stats().total, link.stats().open), (100, 100));
    for (number, client) in clients.iter_mut().enumerate() {
        client.write_all(&random_bytes(number as u64, 2_000 + number)).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
    }
    for (number, client) in clients.iter_mut().enumerate() {
        assert!(hear_out(client) == (random_bytes(number as u64, 2_000 + number), Ok(())), "connection {number}");
    }
    let sent = (0..100).map(|number| 2_000 + number).sum::<u64>();
    let started = Instant::now();
    while link.stats().open > 0 {
        assert!(started.elapsed() < PATIENCE, "{:?}", link.stats());
    }
    assert_eq!((link.stats().to_server, link.stats().to_client), (sent, sent));
}

// A delay is never shorter than asked and costs no throughput.

/// How long one byte takes.
fn one_way(from: &mut TcpStream, to: &mut TcpStream) -> Duration {
    let sent = Instant::now();
    from.write_all(b"x").unwrap();
    hears(to, b"x");
    sent.elapsed()
}

#[test]
fn no_byte_is_earlier_than_its_delay() {
    let server = Server::new();
    let link = server.link();
    let (mut client, mut served) = server.pair(&link);
    for delay in [1, 7, 30, 2, 50].map(ms) {
        link.delay(delay);
        for _ in 0..5 {
            let (there, back) = (one_way(&mut client, &mut served), one_way(&mut served, &mut client));
            assert!(there >= delay && back >= delay, "{there:?} and {back:?} at {delay:?}");
        }
    }
}

#[test]
fn a_delay_can_be_one_sided() {
    let server = Server::new();
    let link = server.link();
    let (mut client, mut served) = server.pair(&link);
    link.delay_toward(Direction::ToClient, ms(1000));
    assert!(one_way(&mut client, &mut served) < ms(1000));
    assert!(one_way(&mut served, &mut client) >= ms(1000));
    link.heal().delay_toward(Direction::ToServer, ms(1000));
    assert!(one_way(&mut served, &mut client) < ms(1000));
    assert!(one_way(&mut client, &mut served) >= ms(1000));
}

#[test]
fn jitter_comes_on_top_of_the_delay_and_varies() {
    let server = Server::new();
    let link = server.link();
    let (mut client, mut served) = server.pair(&link);
    link.delay(ms(5)).jitter(ms(60));
    let took: Vec<_> = (0..40).map(|_| one_way(&mut client, &mut served)).collect();
    assert!(took.iter().all(|took| *took >= ms(5)), "{took:?}");
    // The mean of 40 draws from 0 to 60 ms is 30, give or take 3: without jitter it would have to be noise.
    assert!(took.iter().sum::<Duration>() / 40 >= ms(20), "{took:?}");
}

#[test]
fn many_small_pieces_travel_side_by_side() {
    let server = Server::new();
    let link = server.link();
    let (mut client, mut served) = server.pair(&link);
    link.delay(ms(300));
    let started = Instant::now();
    for number in 0..100_u8 {
        client.write_all(&[number]).unwrap();
        thread::sleep(ms(1));
    }
    hears(&mut served, &(0..100).collect::<Vec<_>>());
    // One after the other it would be 30 s.
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn a_long_wire_is_a_wide_one() {
    let server = Server::new();
    let link = server.link();
    link.delay(ms(100));
    let started = Instant::now();
    exchange(&link, &server, 24 << 20, || {});
    // Six windows of 4 MiB; as one of 64 KiB at a time it would be 38 s.
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

#[test]
fn a_changed_delay_counts_for_what_is_on_its_way() {
    let server = Server::new();
    let link = server.link();
    let (mut client, mut served) = server.pair(&link);
    link.delay(NEVER);
    client.write_all(b"shortened").unwrap();
    hears_nothing(&mut served);
    link.delay(Duration::ZERO);
    hears(&mut served, b"shortened");

    link.delay(ms(400));
    let sent = Instant::now();
    client.write_all(b"lengthened").unwrap();
    link.delay(ms(900));
    hears(&mut served, b"lengthened");
    assert!(sent.elapsed() >= ms(900));

    link.delay(Duration::MAX).jitter(Duration::MAX);
    client.write_all(b"without end").unwrap();
    hears_nothing(&mut served);
    link.heal();
    hears(&mut served, b"without end");
}

// A throttle is never exceeded.

/// Checks every prefix of what arrives against the rate.
fn within_rate(mut stream: TcpStream, rate: f64, since: Instant, arrived: &AtomicU64) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = stream.read(&mut buffer).unwrap() as u64;
        let so_far = arrived.fetch_add(count, SeqCst) + count;
        let allowed = rate * (since.elapsed() + ms(20)).as_secs_f64();
        assert!(so_far as f64 <= allowed, "{so_far} bytes after {:?}, {allowed} allowed", since.elapsed());
        if count == 0 {
            return;
        }
    }
}

#[test]
fn a_throttle_is_never_exceeded_by_all_connections_together_and_nearly_used_up() {
    const RATE: u64 = 2_000_000;
    let server = Server::new();
    let link = server.link();
    let arrived = AtomicU64::new(0);
    let started = Instant::now();
    link.throttle(RATE);
    thread::scope(|scope| {
        for seed in 0..4 {
            let (mut client, served) = server.pair(&link);
            scope.spawn(move || client.write_all(&random_bytes(seed, 500_000)).unwrap());
            scope.spawn(|| within_rate(served, RATE as f64, started, &arrived));
        }
    });
    assert_eq!(arrived.load(SeqCst), 2_000_000);
    assert!(started.elapsed() < Duration::from_secs(5), "one second's worth took {:?}", started.elapsed());
}

#[test]
fn each_direction_has_its_own_rate() {
    let server = Server::new();
    let link = server.link();
    link.throttle(500_000);
    let started = Instant::now();
    exchange(&link, &server, 1_000_000, || {});
    let took = started.elapsed();
    // Sharing one wire, four seconds would be the least.
    assert!(took >= ms(1960) && took < ms(3900), "{took:?}");
}

#[test]
fn connections_take_turns_on_a_throttled_link() {
    let server = Server::new();
    let link = server.link();
    link.throttle(0);
    let pairs = [server.pair(&link), server.pair(&link)];
    let arrived = [AtomicU64::new(0), AtomicU64::new(0)];
    thread::scope(|scope| {
        for ((mut client, mut served), arrived) in pairs.into_iter().zip(&arrived) {
            scope.spawn(move || client.write_all(&[1; 300_000]).unwrap());
            scope.spawn(move || {
                let mut buffer = [0; 4096];
                while arrived.load(SeqCst) < 300_000 {
                    arrived.fetch_add(served.read(&mut buffer).unwrap() as u64, SeqCst);
                }
            });
        }
        // Both have filled their part of the link.
        while link.stats().in_flight < 100_000 {
            thread::yield_now();
        }
        link.throttle(400_000);
        while arrived.iter().all(|count| count.load(SeqCst) < 150_000) {
            thread::sleep(ms(1));
        }
        let both = arrived.each_ref().map(|count| count.load(SeqCst));
        assert!(both.iter().all(|count| *count > 75_000), "{both:?}");
        link.heal();
    });
}

#[test]
fn a_changed_throttle_counts_at_once() {
    let server = Server::new();
    let link = server.link();
    let (mut client, mut served) = server.pair(&link);
    let bytes = random_bytes(8, 50_000);
    for slow in [0, 1] {
        link.throttle(slow);
        client.write_all(&bytes).unwrap();
        thread::sleep(A_WHILE);
        assert!(link.stats().in_flight > 49_000, "{:?}", link.stats());
        link.throttle(u64::MAX);
        hears(&mut served, &bytes);
    }
}

// A cut is a reset at once.

#[test]
fn a_cut_has_reset_everyone_when_it_returns() {
    let server = Server::new();
    let link = server.link();
    let mut pairs: Vec<_> = (0..60).map(|_| server.pair(&link)).collect();
    link.cut();
    assert_eq!(link.stats().open, 0);
    for (client, served) in &mut pairs {
        is_reset(client);
        is_reset(served);
    }
    for count in 1..=10 {
        is_reset(&mut connect(&link));
        assert_eq!((link.stats().refused, link.stats().total), (count, 60));
    }
    assert!(server.nobody_comes());
    link.heal();
    let (mut client, mut served) = server.pair(&link);
    one_way(&mut client, &mut served);
}

#[test]
fn nobody_who_had_connected_escapes_a_cut() {
    let server = Server::new();
    let address = server.address();
    server.serve(|mut stream| drop(hear_out(&mut stream)));
    let link = Link::to(&address).unwrap();
    for _ in 0..300 {
        let mut client = connect(&link);
        link.cut_connections();
        is_reset(&mut client);
    }
    assert_eq!((link.stats().total, link.stats().refused), (300, 0));
}

#[test]
fn connections_can_be_cut_once() {
    let server = Server::new();
    let link = server.link();
    let (mut client, mut served) = server.pair(&link);
    link.cut_connections();
    is_reset(&mut client);
    is_reset(&mut served);
    let (mut client, mut served) = server.pair(&link);
    one_way(&mut client, &mut served);
    assert_eq!((link.stats().open, link.stats().total, link.stats().refused), (1, 2, 0));
}

#[test]
fn what_was_on_its_way_is_lost_in_a_cut() {
    let server = Server::new();
    let link = server.link();
    type Fault = fn(&Link) -> &Link;
    let faults: [Fault; 2] = [|link| link.half_open(), |link| link.delay(NEVER)];
    for hold in faults {
        let (mut client, mut served) = server.pair(&link);
        hold(&link);
        client.write_all(b"lost").unwrap();
        while link.stats().in_flight < 4 {
            thread::yield_now();
        }
        link.cut();
        assert_eq!(link.stats().in_flight, 0);
        link.heal();
        is_reset(&mut served);
        is_reset(&mut client);
    }
}

#[test]
fn a_cut_works_from_within_the_runtime_and_from_many_threads() {
    let server = Server::new();
    let address = server.address();
    server.serve(|mut stream| drop(hear_out(&mut stream)));
    let links: Vec<_> = (0..6).map(|_| Arc::new(Link::to(&address).unwrap())).collect();
    let (done, finished) = mpsc::channel();
    for link in links.iter().cycle().take(24).cloned() {
        let done = done.clone();
        lab::runtime::runtime().spawn(async move {
            for _ in 0..20 {
                let mut client = connect(&link);
                link.cut_connections();
                is_reset(&mut client);
            }
            drop(link);
            done.send(()).unwrap();
        });
    }
    drop((links, done));
    for _ in 0..24 {
        finished.recv_timeout(PATIENCE).unwrap();
    }
}

// A half-open link is silent.

#[test]
fn a_half_open_link_passes_nothing_and_everything_after() {
    let server = Server::new();
    let link = server.link();
    let mut pairs: Vec<_> = (0..20).map(|_| server.pair(&link)).collect();
    for (client, served) in &mut pairs {
        one_way(client, served);
    }
    link.half_open();
    for (client, served) in &mut pairs {
        client.write_all(b"up").unwrap();
        served.write_all(b"down").unwrap();
    }
    thread::sleep(A_WHILE);
    for (client, served) in &mut pairs {
        for stream in [client, served] {
            stream.set_nonblocking(true).unwrap();
            assert_eq!(stream.read(&mut [0; 9]).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
            stream.set_nonblocking(false).unwrap();
        }
    }
    assert_eq!((link.stats().open, link.stats().in_flight), (20, 20 * 6));
    link.heal();
    for (client, served) in &mut pairs {
        hears(served, b"up");
        hears(client, b"down");
    }
}

#[test]
fn the_other_direction_of_a_half_open_link_passes() {
    let server = Server::new();
    let link = server.link();
    let (mut client, mut served) = server.pair(&link);
    for way in [Direction::ToServer, Direction::ToClient] {
        let (from, to) = match way {
            Direction::ToServer => (&mut client, &mut served),
            Direction::ToClient => (&mut served, &mut client),
        };
        link.half_open_toward(way);
        from.write_all(b"held").unwrap();
        one_way(to, from);
        hears_nothing(to);
        link.heal();
        hears(to, b"held");
    }
}

#[test]
fn neither_end_nor_reset_shows_through_a_half_open_link() {
    let server = Server::new();
    let link = server.link();
    let (mut ended, served) = server.pair(&link);
    link.half_open();
    drop(served);
    hears_nothing(&mut ended);
    link.heal();
    assert_eq!(hear_out(&mut ended), (Vec::new(), Ok(())));
    drop(ended);

    let (mut client, served) = server.pair(&link);
    link.half_open_toward(Direction::ToClient);
    abandon_unseen(served, &mut client);
    hears_nothing(&mut client);
    link.heal();
    is_reset(&mut client);

    // A death that only a write brings to light, on the way that is open.
    let (mut client, served) = server.pair(&link);
    drop(served);
    assert_eq!(hear_out(&mut client), (Vec::new(), Ok(())));
    link.half_open_toward(Direction::ToClient);
    for _ in 0..10 {
        client.write_all(b"anyone?").unwrap();
        thread::sleep(ms(10));
    }
    link.heal();
    let started = Instant::now();
    while client.write_all(b"anyone?").is_ok() {
        assert!(started.elapsed() < PATIENCE);
    }
}

/// Like `abandon`, on a link that passes on what goes to `stream` only.
fn abandon_unseen(stream: TcpStream, other: &mut TcpStream) {
    other.write_all(b"unread").unwrap();
    while stream.peek(&mut [0; 6]).unwrap() < 6 {}
    drop(stream);
}

#[test]
fn new_connections_of_a_half_open_link_reach_the_server_after() {
    let server = Server::new();
    let link = server.link();
    for hold in [None, Some(Direction::ToServer), Some(Direction::ToClient)] {
        match hold {
            None => link.half_open(),
            Some(way) => link.half_open_toward(way),
        };
        let mut client = connect(&link);
        client.write_all(b"hello").unwrap();
        assert!(server.nobody_comes());
        hears_nothing(&mut client);
        link.heal();
        hears(&mut server.accept(), b"hello");
    }
}

#[test]
fn a_connection_given_up_meanwhile_never_reaches_the_server() {
    let server = Server::new();
    let link = server.link();
    link.half_open();
    for _ in 0..50 {
        let mut client = connect(&link);
        client.write_all(b"hello?").unwrap();
    }
    let started = Instant::now();
    while link.stats().open > 0 {
        assert!(started.elapsed() < PATIENCE, "given up, but kept: {:?}", link.stats());
    }
    link.heal();
    assert!(server.nobody_comes());
}

// Nothing grows without bound, nothing outlives the link.

/// Sends until nothing more is taken, and says how much was.
fn stuff(stream: &mut TcpStream) -> u64 {
    stream.set_nonblocking(true).unwrap();
    let (mut sent, mut last) = (0, Instant::now());
    while last.elapsed() < ms(500) && sent < 1 << 30 {
        match stream.write(&[3; 64 << 10]) {
            Ok(count) => (sent, last) = (sent + count as u64, Instant::now()),
            Err(_) => thread::sleep(ms(5)),
        }
    }
    sent
}

#[test]
fn a_sender_has_to_wait_when_the_link_is_full() {
    type Fault = fn(&Link) -> &Link;
    let faults: [(&str, Fault, u64); 5] = [
        ("half-open", |link| link.half_open(), 64 << 10),
        ("slow", |link| link.throttle(1000), 64 << 10),
        ("stopped", |link| link.throttle(0), 64 << 10),
        ("long", |link| link.delay(NEVER), (4 << 20) + (64 << 10)),
        ("long and slow", |link| link.delay(Duration::from_secs(60)).throttle(1000), 60_000 + (64 << 10)),
    ];
    for (name, fault, limit) in faults {
        let server = Server::new();
        let link = server.link();
        let (mut client, _served) = server.pair(&link);
        fault(&link);
        let sent = stuff(&mut client);
        let held = link.stats().in_flight;
        assert!(held <= limit && held > limit / 2, "{name}: {held} held, at most {limit}");
        // The rest is in the kernel's own buffers.
        assert!(sent < 64 << 20, "{name}: {sent} taken");
    }
}

#[test]
fn a_full_server_makes_the_sender_wait_without_a_fault() {
    let server = Server::new();
    let link = server.link();
    let (mut client, mut served) = server.pair(&link);
    let sent = stuff(&mut client);
    assert!(sent < 64 << 20 && link.stats().in_flight <= 64 << 10, "{sent} taken, {:?}", link.stats());
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(hear_out(&mut served).0.len() as u64, sent);
}

#[test]
fn dropping_a_link_frees_the_port_and_resets_everyone() {
    let server = Server::new();
    let port = server.link().port();
    for _ in 0..20 {
        let link = Link::listen_on(port, &server.address()).unwrap();
        assert_eq!(link.address(), format!("127.0.0.1:{port}"));
        let (mut client, mut served) = server.pair(&link);
        let mut unserved = connect(&link);
        link.half_open();
        drop(link);
        is_reset(&mut client);
        is_reset(&mut served);
        is_reset(&mut unserved);
        assert_eq!(TcpStream::connect(("127.0.0.1", port)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        // The connection that had not been accepted yet may have reached the server.
        server.listener.set_nonblocking(true).unwrap();
        while server.listener.accept().is_ok() {}
        server.listener.set_nonblocking(false).unwrap();
    }
}

// Addresses.

#[test]
fn nonsense_is_refused_in_one_sentence() {
    let nonsense = [
        ("nothing", ""),
        ("spaces", "   "),
        ("a host alone", "127.0.0.1"),
        ("a port alone", ":"),
        ("words", "the moon"),
        ("a port in words", "127.0.0.1:redis"),
        ("a port too high", "127.0.0.1:65536"),
        ("a negative port", "127.0.0.1:-1"),
        ("port zero", "127.0.0.1:0"),
        ("a URL", "redis://127.0.0.1:6379"),
        ("two ports", "127.0.0.1:1:2"),
        ("an address out of range", "127.0.0.256:80"),
        ("bare IPv6", "::1"),
        ("a zero byte", "local\0host:80"),
        ("a trailing slash", "127.0.0.1:80/"),
    ];
    let server = Server::new();
    let link = server.link();
    for (name, target) in nonsense {
        let error = Link::to(target).expect_err(name).to_string();
        assert!(error.starts_with("could not open a link") && error.contains("host:port"), "{name}: {error}");
        assert!(!error.contains('\n'), "{name}: {error}");
        let error = link.retarget(target).expect_err(name).to_string();
        assert!(error.starts_with("could not retarget a link"), "{name}: {error}");
    }
    let error = link.retarget(link.address()).unwrap_err().to_string();
    assert!(error.contains("lead to itself"), "{error}");
    let error = Link::listen_on(link.port(), &server.address()).unwrap_err().to_string();
    assert!(error.contains(link.address()) && error.contains("in use"), "{error}");
    let (mut client, mut served) = server.pair(&link);
    one_way(&mut client, &mut served);
}

#[test]
fn names_are_addresses_too() {
    let server = Server::new();
    let port = server.listener.local_addr().unwrap().port();
    let link = Link::to(&format!("localhost:{port}")).unwrap();
    let (mut client, mut served) = server.pair(&link);
    one_way(&mut client, &mut served);
}

#[test]
fn a_retargeted_link_leads_to_the_new_server_and_leaves_old_connections_alone() {
    let (old, new) = (Server::new(), Server::new());
    let link = old.link();
    let (mut client, mut served) = old.pair(&link);
    link.half_open();
    let mut waiting = connect(&link);
    waiting.write_all(b"who is there?").unwrap();
    link.retarget(&new.address()).unwrap().heal();
    hears(&mut new.accept(), b"who is there?");
    one_way(&mut client, &mut served);
    drop(old);
    let (mut client, mut served) = new.pair(&link);
    one_way(&mut client, &mut served);
}

// What the link is for: each of these programs is wrong in a way that an undisturbed network hides.

/// Runs `program`; None when it is not done within `patience`.
fn within<T: Send + 'static>(patience: Duration, program: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, result) = mpsc::channel();
    thread::spawn(move || done.send(program()));
    result.recv_timeout(patience).ok()
}

fn line(stream: &mut TcpStream) -> std::io::Result<String> {
    let (mut line, mut byte) = (String::new(), [0]);
    loop {
        stream.read_exact(&mut byte)?;
        match byte[0] {
            b'\n' => return Ok(line),
            byte => line.push(char::from(byte)),
        }
    }
}

/// Answers every line with the same line, "big" with 100,000 letters, "add ..." with how often it has added.
fn answering() -> (Link, Arc<AtomicU64>) {
    let server = Server::new();
    let link = server.link();
    let added = Arc::new(AtomicU64::new(0));
    let (count, seen) = (added.clone(), Mutex::new(Vec::new()));
    server.serve(move |mut stream| {
        stream.set_nodelay(true).unwrap();
        while let Ok(question) = line(&mut stream) {
            let mut answer = question.clone();
            if question == "big" {
                answer = "b".repeat(100_000);
            } else if let Some(id) = question.strip_prefix("add") {
                let mut seen = seen.lock().unwrap();
                if id.is_empty() || !seen.contains(&id.to_owned()) {
                    seen.push(id.to_owned());
                    answer = (count.fetch_add(1, SeqCst) + 1).to_string();
                }
            }
            if stream.write_all(format!("{answer}\n").as_bytes()).is_err() {
                return;
            }
        }
    });
    (link, added)
}

fn ask(stream: &mut TcpStream, question: &str) -> std::io::Result<String> {
    stream.write_all(format!("{question}\n").as_bytes())?;
    line(stream)
}

#[test]
fn wrong_1_one_read_is_one_answer() {
    let (link, _) = answering();
    let mut client = connect(&link);
    link.throttle(400_000);
    let mut buffer = vec![0; 200_000];
    client.write_all(b"big\n").unwrap();
    let read = client.read(&mut buffer).unwrap();
    assert!(read < 100_001, "caught: {read} bytes of 100,001");
    let rest = line(&mut client).unwrap().len();
    assert_eq!(read + rest, 100_000, "right: read until the end of the line");
}

#[test]
fn wrong_2_no_read_timeout() {
    let (link, _) = answering();
    let (mut hanging, mut careful) = (TcpStream::connect(link.address()).unwrap(), connect(&link));
    ask(&mut hanging, "a").and_then(|_| ask(&mut careful, "a")).unwrap();
    link.half_open();
    assert!(within(ms(500), move || ask(&mut hanging, "b")).is_none(), "caught");
    careful.set_read_timeout(Some(ms(100))).unwrap();
    assert_eq!(ask(&mut careful, "b").unwrap_err().kind(), ErrorKind::WouldBlock, "right");
}

#[test]
fn wrong_3_an_error_is_taken_for_the_end() {
    let (link, _) = answering();
    link.throttle(100_000);
    let mut client = connect(&link);
    client.write_all(b"big\n").unwrap();
    let mut answer = vec![0; 1];
    client.read_exact(&mut answer).unwrap();
    link.cut();
    let mut buffer = [0; 4096];
    let error = loop {
        match client.read(&mut buffer) {
            Ok(0) => panic!("a cut looked like a clean end"),
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            // The wrong one stops here as well, and is content.
            Err(error) => break error,
        }
    };
    assert!(answer.len() < 100_001, "caught: {} bytes of 100,001", answer.len());
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "right: report it");
}

#[test]
fn wrong_4_a_pool_without_a_second_try() {
    let (link, _) = answering();
    let mut pooled = connect(&link);
    assert_eq!(ask(&mut pooled, "a").unwrap(), "a");
    link.cut_connections();
    let answer = ask(&mut pooled, "b");
    assert!(answer.is_err(), "caught");
    assert_eq!(answer.or_else(|_| ask(&mut connect(&link), "b")).unwrap(), "b", "right");
}

#[test]
fn wrong_5_a_request_is_repeated_without_an_identity() {
    for (request, executed) in [("add", 2), ("add 7f3a", 1)] {
        let (link, added) = answering();
        let mut client = connect(&link);
        ask(&mut client, "hello").unwrap();
        link.half_open_toward(Direction::ToClient);
        client.set_read_timeout(Some(A_WHILE)).unwrap();
        ask(&mut client, request).unwrap_err();
        let started = Instant::now();
        while added.load(SeqCst) == 0 {
            assert!(started.elapsed() < PATIENCE);
        }
        link.cut().heal();
        ask(&mut connect(&link), request).unwrap();
        assert_eq!(added.load(SeqCst), executed, "{request}");
    }
}

#[test]
fn wrong_6_a_late_answer_is_taken_for_the_next() {
    let (link, _) = answering();
    let mut client = connect(&link);
    link.delay_toward(Direction::ToClient, NEVER);
    client.set_read_timeout(Some(A_WHILE)).unwrap();
    assert!(ask(&mut client, "old").is_err());
    link.heal();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(ask(&mut client, "new").unwrap(), "old", "caught");
    assert_eq!(ask(&mut connect(&link), "new").unwrap(), "new", "right: a connection that timed out is not used again");
}

#[test]
fn wrong_7_a_partial_write_is_ignored() {
    let server = Server::new();
    let link = server.link();
    let bytes = random_bytes(9, 32 << 20);
    let (mut client, mut served) = server.pair(&link);
    link.half_open();
    client.set_nonblocking(true).unwrap();
    let sent = client.write(&bytes).unwrap();
    assert!(sent < bytes.len(), "caught: {sent} bytes of {}", bytes.len());
    link.heal();
    client.set_nonblocking(false).unwrap();
    let all = bytes.clone();
    let writer = thread::spawn(move || client.write_all(&bytes[sent..]).unwrap());
    assert!(hear_out(&mut served).0 == all, "right: go on where it stopped");
    writer.join().unwrap();
}

#[test]
fn wrong_8_a_send_that_succeeds_is_a_sign_of_life() {
    let (link, _) = answering();
    let mut client = connect(&link);
    ask(&mut client, "a").unwrap();
    link.half_open();
    for _ in 0..5 {
        assert!(client.write_all(b"beat\n").is_ok(), "caught: five beats sent to nobody");
    }
    client.set_read_timeout(Some(A_WHILE)).unwrap();
    assert!(line(&mut client).is_err(), "right: only an answer is a sign of life");
}

#[test]
fn wrong_9_a_connection_that_opens_is_a_sign_of_life() {
    let (link, _) = answering();
    link.half_open();
    let mut client = connect(&link);
    client.set_read_timeout(Some(A_WHILE)).unwrap();
    assert!(ask(&mut client, "ping").is_err(), "caught: it opened, and nobody is there");
}

#[test]
fn wrong_10_a_time_limit_below_the_round_trip() {
    let (link, _) = answering();
    link.delay(ms(100));
    let mut client = connect(&link);
    client.set_read_timeout(Some(ms(50))).unwrap();
    assert!(ask(&mut client, "a").is_err(), "caught: a healthy server is declared dead");
    let mut client = connect(&link);
    let measured = Instant::now();
    ask(&mut client, "a").unwrap();
    client.set_read_timeout(Some(measured.elapsed() * 20)).unwrap();
    assert_eq!(ask(&mut client, "b").unwrap(), "b", "right: measured first");
}

#[test]
fn wrong_11_one_question_at_a_time() {
    let (link, _) = answering();
    link.delay(ms(100));
    let (mut client, started) = (connect(&link), Instant::now());
    for question in 0..10 {
        ask(&mut client, &question.to_string()).unwrap();
    }
    assert!(started.elapsed() >= ms(2000), "caught: ten round trips");
    let started = Instant::now();
    client.write_all(b"0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n").unwrap();
    for question in 0..10 {
        assert_eq!(line(&mut client).unwrap(), question.to_string());
    }
    assert!(started.elapsed() < ms(2000), "right: one round trip for all");
}

#[test]
fn wrong_12_trying_again_without_a_pause() {
    let (link, _) = answering();
    let tries = |pause: fn(u32) -> Duration| {
        link.cut();
        let (before, healed) = (link.stats().refused, AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                for attempt in 0.. {
                    if TcpStream::connect(link.address())
                        .map(patient)
                        .and_then(|mut client| ask(&mut client, "a"))
                        .is_ok()
                    {
                        return healed.store(true, SeqCst);
                    }
                    thread::sleep(pause(attempt));
                }
            });
            thread::sleep(ms(500));
            link.heal();
        });
        assert!(healed.load(SeqCst));
        link.stats().refused - before
    };
    let (stormy, calm) = (tries(|_| Duration::ZERO), tries(|attempt| ms(10 << attempt.min(10))));
    assert!(calm <= 6 && stormy > 5 * calm, "caught: {stormy} connections instead of {calm}");
}

//! The guarantees of `edge::limits` and `edge::keep_alive`: limits met at exactly the predicted number, nothing of the machine's
//! changed, and a pool that loses nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use edge::keep_alive::*;
use edge::limits::*;
use lab::crash::{self, Child, Crash};
use lab::{Frame, Network};
use proptest::prelude::*;

fn client(name: &str, reuse: u8, closes: Closes, watch: u64, most: u64) -> TimeWaitSpec {
    TimeWaitSpec { closes, most, ..TimeWaitSpec::new(name, reuse, 40, Duration::from_millis(watch)) }
}

fn settings() -> Vec<(String, String)> {
    ["ipv4/ip_local_port_range", "ipv4/ip_local_reserved_ports", "ipv4/tcp_tw_reuse", "ipv4/tcp_syncookies"]
        .iter()
        .chain(&["ipv4/tcp_syn_retries", "ipv4/tcp_syn_linear_timeouts", "core/somaxconn"])
        .filter_map(|name| Some((name.to_string(), std::fs::read_to_string(format!("/proc/sys/net/{name}")).ok()?)))
        .collect()
}

fn is_there(pid: u32) -> bool {
    // A process that has ended and is not waited for yet is a zombie: it holds nothing any more.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn gone_within(pids: &[u32], patience: Duration) -> bool {
    let began = Instant::now();
    while pids.iter().any(|pid| is_there(*pid)) {
        if began.elapsed() > patience {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

// The limits

#[test]
fn descriptors_run_out_at_exactly_the_predicted_number() {
    for (soft_limits, above) in [(vec![1, 3, 16, 64, 100, 777], 0), (vec![8, 64, 300], 9)] {
        let found = descriptors(&DescriptorSpec { soft_limits: soft_limits.clone(), above, clients: 3 }).unwrap();
        let run_into = found.tables.filter("table", "of the process");
        let soft: Vec<u64> = run_into.samples("soft limit").values().iter().map(|soft| *soft as u64).collect();
        assert_eq!(soft, soft_limits);
        for table in run_into.rows() {
            assert_eq!(table.number("opened"), table.number("predicted"), "{:?}", found.tables);
            assert_eq!(table.number("predicted"), table.number("soft limit") - table.number("taken"));
            assert_eq!(table.text("then"), "EMFILE");
            assert!(table.number("above") >= above as f64, "{:?}", found.tables);
        }
        let two = found.tables.except("table", "of the process");
        assert_eq!(two.height(), 2);
        assert!(two.samples("opened").min() > 200.0, "a table of its own has the whole limit: {two:?}");
        assert!(found.tables.samples("off").values().iter().all(|off| *off == 0.0));
        let full = ["connected", "waiting", "answered", "other outcomes"].map(|count| found.full_server.number(count));
        assert_eq!(full, [3.0, 3.0, 3.0, 0.0]);
        assert!(found.full_server.number("failed accepts") > 0.0, "{found:?}");
    }
}

#[test]
fn a_limit_above_the_hard_one_is_left_out() {
    let found = descriptors(&DescriptorSpec { soft_limits: vec![64, u64::MAX], above: 0, clients: 1 }).unwrap();
    assert_eq!(found.tables.filter("table", "of the process").height(), 1);
}

#[test]
fn ports_run_out_at_exactly_the_predicted_number_and_the_machine_keeps_its_settings() {
    let before = settings();
    let found = ports(&PortSpec { ranges: vec![2, 10, 100, 1_000], ways: 128, reserved: 7 }).unwrap();
    assert_eq!(found.ranges.samples("ports").values(), [2.0, 10.0, 100.0, 1_000.0]);
    for range in found.ranges.rows() {
        assert_eq!(range.number("opened"), range.number("ports"), "{:?}", found.ranges);
        assert_eq!((range.number("off"), range.text("then").as_str()), (0.0, "EADDRNOTAVAIL"));
    }
    assert_eq!(found.ways.height(), 8);
    for way in found.ways.rows() {
        assert_eq!(way.number("opened"), way.number("predicted"), "{:?}", found.ways);
        let expected = if way.text("way").contains("binds its port") { "EADDRINUSE" } else { "EADDRNOTAVAIL" };
        assert_eq!(way.text("then"), expected, "every error: {:?}", found.ways);
    }
    assert_eq!(found.ways.filter("way", "… and a listener inside the range").number("opened"), 127.0);
    assert_eq!(before, settings());
}

/// More connections than one descriptor table holds: the second thread goes on where the first one's table is full.
#[test]
fn a_range_that_is_larger_than_a_descriptor_table_is_used_up_all_the_same() {
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    if hard > 30_000 {
        return; // no range is larger than that table
    }
    let range = (u16::try_from(hard / 2).unwrap() + 500) & !1;
    let found = ports(&PortSpec { ranges: vec![range], ways: 64, reserved: 2 }).unwrap();
    assert_eq!(found.ranges.number("opened"), f64::from(range));
}

#[test]
fn ranges_that_the_kernel_may_not_walk_whole_are_refused() {
    for (ranges, ways, reserved) in
        [(vec![], 64, 2), (vec![7], 64, 2), (vec![0], 64, 2), (vec![64], 63, 2), (vec![64], 64, 63)]
    {
        let spec = PortSpec { ranges, ways, reserved };
        let refused = ports(&spec).unwrap_err();
        assert!(refused.to_string().starts_with("could not use up the ports"), "{spec:?}");
    }
}

#[test]
fn who_closes_first_keeps_the_port_and_for_how_long() {
    let mut clients = begin_time_wait(&[
        client("reuse = 0", 0, Closes::ClientFirst, 2_600, u64::MAX),
        client("reuse = 2", 2, Closes::ClientFirst, 2_600, u64::MAX),
        client("server", 0, Closes::ServerFirst, 5_000, 200),
        client("reset", 0, Closes::ClientResets, 5_000, 200),
    ])
    .unwrap();
    let found = clients.finish().unwrap();
    let [never, again, server, reset] = &found[..] else { panic!("{found:?}") };
    assert_eq!(never.opened(), 40, "no port comes back within a minute");
    assert_eq!((never.refused.clone(), never.kept), (Some(("EADDRNOTAVAIL".into(), 40)), (40, 0)));
    assert!((59.5..60.5).contains(&never.kept_for.unwrap()), "{:?}", never.kept_for);
    assert_eq!(again.refused, Some(("EADDRNOTAVAIL".into(), 40)));
    assert!((80..=120).contains(&again.opened()), "a port comes back after a second: {}", again.opened());
    assert!((0.95..1.5).contains(&again.round_trips().median()), "{}", again.round_trips());
    assert!((26.0..42.0).contains(&again.rounds().median()), "40 ports a second, for real: {}", again.rounds());
    assert!(never.rounds().is_empty(), "who was not let in again has no rate, whatever the kernel's timer says");
    assert_eq!((server.opened(), server.refused.clone(), server.kept.0), (200, None, 0));
    assert!(server.kept.1 > 0, "somebody keeps them");
    assert_eq!((reset.opened(), reset.refused.clone(), reset.kept), (200, None, (0, 0)));
    assert_eq!(clients.finish().unwrap().len(), 4, "a cell may ask again");
}

/// What the ports allow is arithmetic; what a client gets is counted, second by second.
#[test]
fn a_client_that_keeps_a_pace_makes_so_many_and_no_more() {
    let spec = client("paced", 0, Closes::ServerFirst, 2_000, u64::MAX).paced(50.0);
    let found = begin_time_wait(&[spec]).unwrap().finish().unwrap().remove(0);
    assert!((80..=101).contains(&found.opened()), "{}", found.opened());
    let made = found.frame().rates("at", 1.0, "client").samples("rate");
    assert!(!made.is_empty() && made.min() >= 25.0 && made.max() <= 51.0, "{made}");
    assert_eq!(found.between(0.0, 2.0), found.opened_by(2.0) as f64 / 2.0);
}

#[test]
fn impossible_clients_are_refused() {
    for spec in [
        TimeWaitSpec { ports: 0, ..client("x", 0, Closes::ClientFirst, 1, 1) },
        client("x", 3, Closes::ClientFirst, 1, 1),
        client("x", 0, Closes::ClientFirst, 1, 1).paced(0.0),
    ] {
        assert!(begin_time_wait(&[spec]).is_err());
    }
}

#[test]
fn a_reset_throws_away_what_a_graceful_close_delivers() {
    for _ in 0..5 {
        let (graceful, reset) = (close_after_sending(false).unwrap(), close_after_sending(true).unwrap());
        assert!(graceful.sent > 100_000 && graceful.received == graceful.sent, "{graceful:?}");
        assert!(reset.received < reset.sent, "{reset:?}");
    }
}

#[test]
fn a_listener_s_queues_hold_one_more_than_the_backlog() {
    let spec = BacklogSpec {
        backlogs: vec![0, 2, 31],
        beyond: 5,
        handshakes: 8,
        burst: 20,
        paused: [4, 64],
        pause: Duration::from_millis(200),
    };
    let found = begin_backlog(&spec).unwrap().finish().unwrap().remove(0);
    assert_eq!(found.accept_queue.height(), 4, "one of them meets somaxconn");
    for queue in found.accept_queue.rows() {
        let fits = queue.number("asked").min(queue.number("somaxconn")) + 1.0;
        assert_eq!((queue.number("connected"), queue.number("queued")), (fits, fits), "{:?}", found.accept_queue);
        assert_eq!((queue.number("still asking"), queue.number("dropped")), (5.0, 5.0), "{:?}", found.accept_queue);
    }
    assert!(found.off().values().iter().all(|off| *off == 0.0) && found.off().len() == 14, "{}", found.off());
    let [plain, cookies] = ["without cookies", "with cookies"].map(|how| found.syn_queue.filter("answered", how));
    let of = |frame: &Frame, columns: [&str; 3]| columns.map(|column| frame.number(column));
    assert_eq!(of(&plain, ["connected", "in the accept queue", "cookies sent"]), [9.0, 0.0, 0.0], "{plain:?}");
    assert_eq!(of(&plain, ["connected", "in the SYN queue", "dropped: SYN queue full"]), [9.0, 9.0, 27.0], "{plain:?}");
    let where_from = ["connected", "in the accept queue", "dropped: SYN queue full"];
    assert_eq!(of(&cookies, where_from), [18.0, 9.0, 0.0], "{cookies:?}");
    let full = "dropped: accept queue full";
    assert_eq!(
        (cookies.number("in the SYN queue"), cookies.number(full), plain.number(full)),
        (9.0, 18.0, 0.0),
        "who is in no queue was dropped at one"
    );
    assert_eq!(found.syn_queue.samples("unaccounted").values(), [0.0, 0.0], "{found:?}");
    let served = |backlog: u64| found.bursts.filter("backlog", backlog).having("answered").height();
    assert_eq!((found.at_once(4).len(), served(4), found.at_once(64).len(), served(64)), (5, 20, 20, 20));
    assert!(found.waited(4).min() >= 0.95, "{}", found.waited(4));
    let (error, seconds) = found.gave_up.unwrap();
    assert_eq!(error, "ETIMEDOUT");
    assert!((2.7..4.0).contains(&seconds), "{seconds}");
}

// Harmless, also where there is no namespace

#[test]
#[ignore = "a role: the next test starts it in a process of its own"]
fn in_the_machine_s_own_network() {
    if !crash::in_role("in_the_machine_s_own_network") {
        return;
    }
    let found = ports(&PortSpec { ranges: vec![64, 200], ways: 64, reserved: 10 }).unwrap();
    assert!(!found.network.is_own() && found.network.why_shared().is_some());
    assert_eq!(found.ranges.samples("off").values(), [0.0, 0.0], "{found:?}");
    assert!(found.ways.samples("off").values().iter().all(|off| *off == 0.0), "{found:?}");
    assert_eq!(found.ways.height(), 7, "nothing is reserved: {found:?}");
    let queues = begin_backlog(&BacklogSpec {
        backlogs: vec![3],
        beyond: 4,
        handshakes: 8,
        burst: 10,
        paused: [2, 32],
        pause: Duration::from_millis(100),
    })
    .unwrap()
    .finish()
    .unwrap()
    .remove(0);
    assert_eq!(queues.accept_queue.number("connected"), 4.0);
    assert!(queues.accept_queue.having("dropped").is_empty() && queues.syn_queue.is_empty());
    let asked = compare(&KeepAliveSpec {
        requests: 40,
        rounds: 1,
        clients: 2,
        rate: 100.0,
        lasting: Duration::from_millis(100),
        ports: 10,
        closes_after: 3,
    })
    .unwrap();
    let counted = asked.trial.frame().filter("figure", "segments");
    assert!(counted.is_empty() && asked.few_ports.is_none(), "what needs a setting is left out");
    let now: u8 = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_tw_reuse").unwrap().trim().parse().unwrap();
    let mut clients = begin_time_wait(&[
        client("as it is", now, Closes::ClientFirst, 300, 100),
        client("another", (now + 1) % 3, Closes::ClientFirst, 300, 100),
    ])
    .unwrap();
    let found = clients.finish().unwrap();
    assert_eq!(found[0].refused, Some(("EADDRNOTAVAIL".into(), 40)), "{found:?}");
    assert!(!found[1].ran() && found[1].opened() == 0);
}

#[test]
#[ignore = "a role: the next test starts it in a process of its own"]
fn in_a_network_that_is_quiet() {
    if crash::in_role("in_a_network_that_is_quiet") {
        // What other tests of this machine do with its ports is not this test's concern: what it takes for the machine's
        // network is one in which nothing else happens.
        Network::enter().unwrap();
        let before = settings();
        Child::of_this_test("in_the_machine_s_own_network").env("LAB_NETWORK", "shared").run().unwrap();
        assert_eq!(before, settings());
    }
}

#[test]
fn without_a_namespace_the_lesson_still_works_and_nothing_is_changed() {
    Child::of_this_test("in_a_network_that_is_quiet").run().unwrap();
}

#[test]
#[ignore = "a role: the next test starts it in a process of its own"]
fn an_owner_that_is_killed() {
    if crash::in_role("an_owner_that_is_killed") {
        let clients = begin_time_wait(&[client("x", 0, Closes::ClientFirst, 60_000, u64::MAX)]).unwrap();
        clients.pids().iter().for_each(crash::acknowledge);
        crash::point("under-way");
    }
}

#[test]
fn an_experiment_ends_with_its_owner_and_when_it_is_dropped() {
    let ended = Crash::at("under-way").run(Child::of_this_test("an_owner_that_is_killed")).unwrap();
    let pids: Vec<u32> = ended.acknowledged().iter().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 1);
    assert!(gone_within(&pids, Duration::from_secs(5)), "its owner was killed, and it goes on");

    let clients = begin_time_wait(&[client("x", 0, Closes::ClientFirst, 60_000, u64::MAX)]).unwrap();
    let pids = clients.pids();
    assert!(pids.iter().all(|pid| is_there(*pid)));
    drop(clients);
    assert!(gone_within(&pids, Duration::from_secs(5)));
}

#[test]
fn lab_limits_says_what_is_wrong_with_its_errand() {
    let lab = lab::service::lab_program().unwrap();
    assert!(Path::new(&lab).exists());
    let output = std::process::Command::new(lab).arg("limits").env("LAB_ERRAND", "{}").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("could not read the errand"), "{said}");
}

// The pool

#[test]
fn a_pool_keeps_to_its_connections_and_gives_everybody_the_right_answer() {
    let server = Answerer::start(None).unwrap();
    let pool = KeepAlive::to(server.address(), 3).unwrap();
    thread::scope(|scope| {
        for worker in 0..12_u64 {
            let pool = &pool;
            scope.spawn(move || {
                for n in 0..200_u64 {
                    let question = [worker.to_be_bytes(), n.to_be_bytes()].concat();
                    assert_eq!(pool.call(&question).unwrap(), question);
                }
            });
        }
    });
    let stats = pool.stats();
    assert!(stats.most_open <= 3 && stats.opened <= 3 && server.accepted() <= 3, "{stats:?}");
    assert_eq!(server.answered(), 2_400);
}

#[test]
fn a_server_that_closes_costs_no_request() {
    for closes_after in [1, 2, 7] {
        let server = Answerer::start(Some(closes_after)).unwrap();
        let pool = KeepAlive::to(server.address(), 4).unwrap();
        let wrong = AtomicU64::new(0);
        thread::scope(|scope| {
            for worker in 0..8_u64 {
                let (pool, wrong) = (&pool, &wrong);
                scope.spawn(move || {
                    for n in 0..60_u64 {
                        let question = (worker * 1_000 + n).to_be_bytes();
                        wrong.fetch_add(u64::from(pool.call(&question).unwrap() != question), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(wrong.into_inner(), 0);
        assert!(pool.stats().most_open <= 4, "{:?}", pool.stats());
        assert!(server.accepted() >= 480 / closes_after, "it did close");
    }
}

#[test]
fn a_pool_without_its_care_fails_once_for_each_connection_that_was_closed() {
    let server = Answerer::start(Some(4)).unwrap();
    let pool = KeepAlive::to(server.address(), 1).unwrap().without(Some(Skip::CheckAndRetry));
    let failed = (0..50_u32).filter(|n| pool.call(&n.to_be_bytes()).is_err()).count();
    assert_eq!(failed, 10);
}

/// A server that does with each connection what the test says.
fn server(serve: impl Fn(u64, std::net::TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let serve = serve.clone();
            thread::spawn(move || serve(number as u64, stream.unwrap()));
        }
    });
    address
}

fn echo(stream: &mut std::net::TcpStream) -> Option<()> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).ok()?;
    let mut frame = head.to_vec();
    frame.resize(4 + u32::from_be_bytes(head) as usize, 0);
    stream.read_exact(&mut frame[4..]).ok()?;
    stream.write_all(&frame).ok()
}

/// The answer to a request that was given up must not become the answer to the next one.
#[test]
fn an_answer_that_comes_too_late_is_nobody_s() {
    let address = server(|number, mut stream| {
        if number == 0 {
            thread::sleep(Duration::from_millis(400));
        }
        while echo(&mut stream).is_some() {}
    });
    let pool = KeepAlive::to(address, 1).unwrap().patience(Duration::from_millis(100));
    let late = pool.call(b"first").unwrap_err();
    assert_eq!(late.to_string(), "could not call over a kept connection: no answer in time");
    assert_eq!(pool.call(b"second").unwrap(), b"second");
    thread::sleep(Duration::from_millis(500));
    assert_eq!(pool.call(b"third").unwrap(), b"third");
}

/// Each byte comes in time, and the answer does not: patience is for the whole of it.
#[test]
fn an_answer_that_comes_byte_by_byte_is_given_up_in_time() {
    let address = server(|_, mut stream| {
        let _ = stream.read_exact(&mut [0; 4 + 3]);
        for byte in [0, 0, 0, 200].into_iter().chain([7; 200]) {
            if stream.write_all(&[byte]).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    });
    let pool = KeepAlive::to(address, 1).unwrap().patience(Duration::from_millis(200));
    let began = Instant::now();
    let error = pool.call(b"how").unwrap_err();
    assert_eq!(error.to_string(), "could not call over a kept connection: no answer in time");
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
}

/// A server whose accept queue is full does not answer the handshake: its clients' kernel would ask for minutes.
#[test]
fn a_connection_that_nobody_answers_is_given_up_in_time() {
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let _takes_the_only_place = std::net::TcpStream::connect(address).unwrap();
    let pool = KeepAlive::to(address, 1).unwrap().patience(Duration::from_millis(200));
    let began = Instant::now();
    let error = pool.call(b"x").unwrap_err();
    assert_eq!(error.to_string(), "could not open a connection: no answer in time");
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
}

#[test]
fn a_connection_on_which_something_came_unasked_is_not_used_again() {
    let address = server(|_, mut stream| {
        while echo(&mut stream).is_some() {
            stream.write_all(b"\0\0\0\x05extra").unwrap();
        }
    });
    let pool = KeepAlive::to(address, 1).unwrap();
    for n in 0..20_u32 {
        assert_eq!(pool.call(&n.to_be_bytes()).unwrap(), n.to_be_bytes());
        thread::sleep(Duration::from_millis(5)); // what was not asked for has come by now
    }
    assert_eq!(pool.stats().found_closed, 19);
}

#[test]
fn half_an_answer_is_an_error_and_is_not_asked_for_again() {
    let asked = Arc::new(AtomicU64::new(0));
    let counting = asked.clone();
    let address = server(move |_, mut stream| {
        let mut first = true;
        let mut head = [0; 4];
        while stream.read_exact(&mut head).is_ok() {
            let mut payload = vec![0; u32::from_be_bytes(head) as usize];
            stream.read_exact(&mut payload).unwrap();
            counting.fetch_add(1, Ordering::SeqCst);
            stream.write_all(&head).unwrap();
            if !first {
                return stream.write_all(&payload[..2]).unwrap();
            }
            stream.write_all(&payload).unwrap();
            first = false;
        }
    });
    let pool = KeepAlive::to(address, 1).unwrap();
    assert_eq!(pool.call(b"whole").unwrap(), b"whole");
    let error = pool.call(b"half of it").unwrap_err();
    assert_eq!(error.cause(), "the server closed the connection");
    assert_eq!(asked.load(Ordering::SeqCst), 2, "some of the answer had come: asking again is not ours to decide");
}

#[test]
fn an_absurd_length_is_an_error() {
    let address = server(|_, mut stream| stream.write_all(&[0xff; 64]).unwrap());
    let pool = KeepAlive::to(address, 1).unwrap();
    assert!(pool.call(b"x").is_err());
    let long = vec![0; LONGEST + 1];
    let error = pool.call(&long).unwrap_err();
    assert_eq!(error.cause(), format!("a request of {} bytes", long.len()));
}

#[test]
fn who_finds_no_connection_free_waits_no_longer_than_said() {
    let open = Arc::new(AtomicBool::new(false));
    let gate = open.clone();
    let address = server(move |_, mut stream| {
        while !gate.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
        while echo(&mut stream).is_some() {}
    });
    let pool = KeepAlive::to(address, 1).unwrap().patience(Duration::from_millis(300));
    let both = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            both.wait();
            let _ = pool.call(b"holds the only connection");
        });
        both.wait();
        thread::sleep(Duration::from_millis(50));
        let began = Instant::now();
        let waiting = pool.call(b"waits");
        assert!(began.elapsed() < Duration::from_secs(3));
        if let Err(error) = waiting {
            assert!(error.to_string().contains("in use") || error.to_string().contains("no answer"), "{error}");
        } else {
            panic!("nobody answers yet");
        }
    });
    open.store(true, Ordering::SeqCst);
    assert_eq!(pool.call(b"now").unwrap(), b"now", "the place of a failed connection is given back");
}

#[test]
fn a_server_that_is_gone_is_one_sentence_and_one_that_is_back_is_served() {
    assert!(KeepAlive::to("127.0.0.1:1".parse().unwrap(), 0).is_err(), "a pool of nothing");
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let pool = KeepAlive::to(address, 2).unwrap();
    for _ in 0..5 {
        assert_eq!(pool.call(b"x").unwrap_err().to_string(), "could not open a connection: ECONNREFUSED");
    }
    let back = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        for stream in back.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || while echo(&mut stream).is_some() {});
        }
    });
    assert_eq!(pool.call(b"back").unwrap(), b"back");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    /// Whatever the sizes, the callers and the server's habit of closing: each answer is its question's.
    #[test]
    fn every_answer_is_its_question_s(
        most in 1_usize..5,
        callers in 1_usize..6,
        closes_after in prop::option::of(1_u64..6),
        sizes in prop::collection::vec(0_usize..5_000, 1..12),
    ) {
        let server = Answerer::start(closes_after).unwrap();
        let pool = KeepAlive::to(server.address(), most).unwrap();
        thread::scope(|scope| {
            for caller in 0..callers {
                let (pool, sizes) = (&pool, &sizes);
                scope.spawn(move || {
                    for (n, size) in sizes.iter().enumerate() {
                        let question = vec![(caller * 31 + n) as u8; *size];
                        assert_eq!(pool.call(&question).unwrap(), question);
                    }
                });
            }
        });
        prop_assert!(pool.stats().most_open <= most as u64);
    }
}

//! The guarantees about many connections: echo servers, what idle ones cost, threads and tasks, the fleet.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use edge::echo::*;
use edge::fleet::*;
use edge::memory::*;
use edge::procfs::MachineMemory;
use edge::threads_and_tasks::*;
use edge::worker::{ConnectSpec, Worker};

/// The kernel's caches are the whole machine's: whoever weighs them runs alone, the others beside each other.
static KERNEL: RwLock<()> = RwLock::new(());

fn beside_others() -> RwLockReadGuard<'static, ()> {
    KERNEL.read().unwrap_or_else(PoisonError::into_inner)
}

fn served(spec: &ServerSpec) -> (Worker, SocketAddr) {
    let mut server = Worker::start().unwrap();
    let address = server.serve(spec).unwrap()[0];
    (server, address)
}

fn connected(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Waits until something holds, for a while.
fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn gone(pid: u32) -> bool {
    // A zombie that nobody has waited for yet is gone as well.
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.is_empty() || state.rsplit(')').next().unwrap().trim_start().starts_with('Z')
}

#[test]
fn each_server_sends_back_what_it_gets_in_order_and_counts_its_connections() {
    let _others = beside_others();
    for model in Model::ALL {
        let (mut server, address) = served(&ServerSpec::new(model));
        let mut streams: Vec<TcpStream> = (0..20).map(|_| connected(address)).collect();
        for turn in 0..10_u64 {
            for (number, stream) in streams.iter_mut().enumerate() {
                stream.write_all(&(turn * 100 + number as u64).to_le_bytes()).unwrap();
            }
            for (number, stream) in streams.iter_mut().enumerate() {
                let mut answer = [0; 8];
                stream.read_exact(&mut answer).unwrap();
                assert_eq!(u64::from_le_bytes(answer), turn * 100 + number as u64, "{model}");
            }
        }
        // More than any buffer holds, written and read at the same time.
        let long: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 31 % 251) as u8).collect();
        let mut writer = streams[0].try_clone().unwrap();
        let sent = long.clone();
        let writing = std::thread::spawn(move || writer.write_all(&sent).unwrap());
        let mut back = vec![0; long.len()];
        streams[0].read_exact(&mut back).unwrap();
        writing.join().unwrap();
        assert!(back == long, "{model} changed what it was sent");
        let state = server.state().unwrap();
        assert_eq!((state.accepted, state.held, state.refused), (20, 20, 0), "{model}");
        drop(streams);
        soon("closed connections are let go", || server.state().unwrap().held == 0);
        // And their places serve others.
        let mut another = connected(address);
        another.write_all(b"again").unwrap();
        let mut answer = [0; 5];
        another.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"again", "{model}");
    }
}

#[test]
fn a_client_that_never_reads_is_not_read_from_and_holds_up_nobody() {
    let _others = beside_others();
    for model in Model::ALL {
        let (_server, address) = served(&ServerSpec::new(model));
        let mut deaf = connected(address);
        deaf.set_nonblocking(true).unwrap();
        let chunk = [7; 65_536];
        let (mut sent, mut last) = (0, Instant::now());
        // Until the server has stopped reading: nothing more is taken for a while.
        while last.elapsed() < Duration::from_millis(300) {
            match deaf.write(&chunk) {
                Ok(length) => (sent, last) = (sent + length, Instant::now()),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            assert!(sent < 64 << 20, "{model} keeps everything for a client that never reads");
        }
        let mut other = connected(address);
        other.write_all(b"hello").unwrap();
        let mut answer = [0; 5];
        other.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"hello");
        // What was sent is not lost: it comes when it is asked for.
        deaf.set_nonblocking(false).unwrap();
        let mut back = vec![0; sent];
        deaf.read_exact(&mut back).unwrap();
        assert!(back.iter().all(|byte| *byte == 7));
    }
}

#[test]
fn websocket_servers_speak_websocket() {
    let _others = beside_others();
    for (model, size) in [(Model::CurrentThread, None), (Model::MultiThread, Some(4096))] {
        let framing = Framing::WebSocket(size);
        let (_server, address) = served(&ServerSpec { framing, ..ServerSpec::new(model) });
        let mut client = Worker::start().unwrap();
        let spec = ConnectSpec { addresses: vec![address], ..ConnectSpec::new(50, framing) };
        let state = client.connect_all(&spec).unwrap();
        assert_eq!((state.echoed, state.wrong, state.lost, state.ended), (50, 0, 0, None));
        // A plain client gets no echo from it.
        let spec = ConnectSpec { addresses: vec![address], ..ConnectSpec::new(1, Framing::Plain) };
        let mut plain = connected(address);
        plain.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        let _ = plain.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"GET"), "{spec:?}");
    }
}

#[test]
fn a_server_that_runs_out_of_threads_says_so_and_keeps_those_that_it_has() {
    let _others = beside_others();
    // 64 KiB of stack are enough for some; an impossible stack is enough for none.
    let spec = ServerSpec { stack: Some(1 << 50), ..ServerSpec::new(Model::Threads) };
    let (mut server, address) = served(&spec);
    let mut stream = connected(address);
    assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0, "refused connections are closed");
    soon("a refusal is counted", || server.state().unwrap().refused == 1);
    let state = server.state().unwrap();
    assert!(state.ended.unwrap().contains("no thread for a connection"));
    assert_eq!(state.held, 0);
}

#[test]
fn nonsense_is_refused_in_one_sentence() {
    let _others = beside_others();
    let mut worker = Worker::start().unwrap();
    assert!(worker.serve(&ServerSpec { ports: 0, ..ServerSpec::new(Model::Epoll) }).is_err());
    let nowhere = ConnectSpec::new(1, Framing::Plain);
    assert!(worker.connect(&nowhere).unwrap_err().to_string().contains("needs an address"));
    assert!(hold_connections(&FleetSpec::new(0)).is_err());
    assert!(spawn(&SpawnSpec::new(Kind::Thread, 0)).is_err());
    assert!(relay(&RelaySpec { kind: Kind::Task, members: 1, hops: 5 }).is_err());
    // And it still serves afterwards.
    worker.serve(&ServerSpec::new(Model::Epoll)).unwrap();
}

#[test]
fn a_worker_ends_with_its_owner_and_a_killed_worker_is_an_error() {
    let _others = beside_others();
    let mut worker = Worker::start().unwrap();
    worker.serve(&ServerSpec::new(Model::Threads)).unwrap();
    let pid = worker.pid();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL).unwrap();
    let error = worker.state().unwrap_err().to_string();
    assert!(error.contains("it is gone"), "{error}");
    drop(worker);
    assert!(gone(pid));
}

fn stop(pid: u32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGSTOP).unwrap();
}

#[test]
fn a_server_that_is_stopped_is_given_up_by_its_clients_and_one_that_does_not_answer_its_owner_is_killed() {
    let _others = beside_others();
    let (server, address) = served(&ServerSpec::new(Model::Epoll));
    let mut server = server.patience(Duration::from_secs(2));
    let mut client = Worker::start().unwrap();
    let spec = ConnectSpec::new(10, Framing::Plain);
    let spec = ConnectSpec { addresses: vec![address], patience: Duration::from_secs(1), ..spec };
    stop(server.pid());
    let began = Instant::now();
    let state = client.connect_all(&spec).unwrap();
    assert_eq!((state.echoed, state.ended), (0, Some("no answer for 1s on 10 connections".into())));
    let error = server.state().unwrap_err().to_string();
    assert!(error.contains("it has said nothing for 2 s"), "{error}");
    assert!(gone(server.pid()) && began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

/// Workers that this process has started; one that is still to become `lab` is none yet.
fn workers() -> Vec<u32> {
    let of = |entry: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse::<u32>().ok()?;
        let is_lab = std::fs::read_link(entry.path().join("exe")).ok()?.ends_with("lab");
        (is_lab && parent == std::process::id()).then(|| entry.file_name().to_str()?.parse().ok())?
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(of).collect()
}

#[test]
fn a_fleet_with_a_process_that_is_stopped_ends_with_an_error_and_leaves_nobody() {
    let _alone = KERNEL.write().unwrap_or_else(PoisonError::into_inner);
    let began = Instant::now();
    let spec = FleetSpec { pings: 0, patience: Duration::from_secs(3), ..FleetSpec::new(15_000) };
    let fleet = std::thread::spawn(move || hold_connections(&spec));
    soon("the fleet begins", || !workers().is_empty());
    let stopped = workers();
    stopped.iter().for_each(|worker| stop(*worker));
    let error = fleet.join().unwrap().unwrap_err().to_string();
    assert!(error.contains("it has said nothing for 3 s"), "{error}");
    assert!(stopped.iter().all(|worker| gone(*worker)) && workers().is_empty());
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[test]
#[ignore = "a role: the next test starts it in a process of its own"]
fn owner_of_a_fleet() {
    if lab::crash::in_role("owner_of_a_fleet") {
        let mut server = Worker::start().unwrap();
        let addresses = server.serve(&ServerSpec::new(Model::Epoll)).unwrap();
        let mut client = Worker::start().unwrap();
        let spec = ConnectSpec { addresses, ..ConnectSpec::new(500, Framing::Plain) };
        assert_eq!(client.connect_all(&spec).unwrap().echoed, 500);
        lab::crash::acknowledge(server.pid());
        lab::crash::acknowledge(client.pid());
        lab::crash::point("both-ends-held");
    }
}

#[test]
fn no_worker_outlives_an_owner_that_is_killed() {
    let _others = beside_others();
    use lab::crash::{Child, Crash};
    let ended = Crash::at("both-ends-held").run(Child::of_this_test("owner_of_a_fleet")).unwrap();
    let pids: Vec<u32> = ended.acknowledged().iter().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2);
    soon("the workers end", || pids.iter().all(|pid| gone(*pid)));
}

#[test]
fn a_fleet_holds_what_it_says_and_gives_it_all_back() {
    let _others = beside_others();
    let run = hold_connections(&FleetSpec { pings: 200, ..FleetSpec::new(3_000) }).unwrap();
    assert_eq!((run.open, run.wrong, run.lost, run.stopped.clone()), (3_000, 0, 0, None));
    assert_eq!((run.established, run.accepted), (3_000, 3_000));
    if run.plan.network.private {
        assert_eq!(run.sockets, 6_000);
    }
    assert_eq!((run.pings_wrong, run.left_waiting, run.left_processes), (0, 0, 0));
    assert!(run.random.count() >= 200 && run.same.count() >= 200);
    assert!(run.files[1] >= run.files[0] + 5_000, "{:?}", run.files);
    assert!(run.files[2] < run.files[0] + 1_000, "{:?}", run.files);
}

#[test]
fn a_fleet_stops_before_memory_runs_short_and_says_so() {
    let _others = beside_others();
    let available = MachineMemory::read().unwrap().available;
    let spec = FleetSpec { floor: available.saturating_add(1 << 30), pings: 0, ..FleetSpec::new(200_000) };
    let run = hold_connections(&spec).unwrap();
    assert!(run.open < 200_000, "{}", run.open);
    assert!(run.stopped.unwrap().starts_with("memory: "));
    assert_eq!(run.left_processes, 0);
}

#[test]
fn connections_that_nobody_accepted_do_not_count() {
    let _others = beside_others();
    let skip = Some(Skip::AcceptAfter(300));
    // Believing the kernel: established means no more than that there is room in the server's queue.
    let naive = hold_connections(&FleetSpec { skip, echo: false, pings: 0, ..FleetSpec::new(1_000) }).unwrap();
    assert_eq!((naive.established, naive.accepted, naive.open), (1_000, 300, 0));
    let mut server = Worker::start().unwrap();
    let addresses = server.serve(&ServerSpec { skip, ..ServerSpec::new(Model::Epoll) }).unwrap();
    let mut client = Worker::start().unwrap();
    client.connect(&ConnectSpec { addresses, window: 1_000, ..ConnectSpec::new(1_000, Framing::Plain) }).unwrap();
    soon("those that were accepted echo", || client.state().unwrap().echoed == 300);
    let state = client.state().unwrap();
    assert_eq!((state.echoed, state.done), (300, false));
}

#[test]
fn an_answer_that_belongs_to_another_connection_is_noticed() {
    let _others = beside_others();
    let skip = Some(Skip::OwnAnswerEvery(10));
    let run = hold_connections(&FleetSpec { skip, pings: 500, ..FleetSpec::new(2_000) }).unwrap();
    assert_eq!(run.wrong, 200);
    assert_eq!(run.open, 1_800);
    assert!(run.pings_wrong > 0);
}

#[test]
fn what_runs_out_is_named_in_the_kernels_words() {
    let _others = beside_others();
    // More connections than a process has descriptors.
    let (_, most) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    if most > 50_000 {
        return; // a machine without low limits has nothing to show here
    }
    let (_server, address) = served(&ServerSpec::new(Model::Epoll));
    let mut client = Worker::start().unwrap();
    let spec = ConnectSpec { addresses: vec![address], ..ConnectSpec::new(most + 1_000, Framing::Plain) };
    let state = client.connect_all(&spec).unwrap();
    assert!(state.echoed < most && state.echoed > most / 4, "{state:?}");
    let ended = state.ended.unwrap();
    assert!(ended.contains("EMFILE") || ended.contains("EADDRNOTAVAIL") || ended.contains("no answer"), "{ended}");
}

#[test]
fn threads_stop_exactly_where_the_limit_says_and_tasks_do_not() {
    let _others = beside_others();
    let reached = reach_user_limit(120).unwrap();
    let [then] = &reached.texts("then")[..] else { panic!("{reached:?}") };
    if !then.starts_with("not tried") {
        assert_eq!(reached.number("alive"), reached.number("predicted"), "{reached:?}");
        assert!(then.contains("Resource temporarily unavailable"), "{reached:?}");
    }
    for kind in [Kind::Thread, Kind::Task] {
        let made = spawn(&SpawnSpec::new(kind, 300)).unwrap();
        assert_eq!((made.alive, made.refused), (300, None));
    }
}

#[test]
fn a_thread_costs_address_space_mappings_and_a_stack_in_the_kernel_and_a_task_none_of_them() {
    let _others = beside_others();
    let threads = spawn(&SpawnSpec::new(Kind::Thread, 500)).unwrap();
    let tasks = spawn(&SpawnSpec::new(Kind::Task, 500)).unwrap();
    assert!(threads.each(threads.virtual_bytes) >= f64::from(2 << 20), "{threads:?}");
    assert!(threads.each(threads.maps) >= 2.0, "{threads:?}");
    assert!(tasks.each(tasks.virtual_bytes) < 65_536.0, "{tasks:?}");
    assert!(tasks.maps < 50.0, "{tasks:?}");
}

#[test]
fn limits_are_read_in_order_and_the_first_is_the_smallest() {
    let _others = beside_others();
    let limits = limits_on_threads().unwrap();
    let allows = limits.frame.samples("allows").values().to_vec();
    assert!(allows.is_sorted() && !allows.is_empty(), "{allows:?}");
    assert_eq!(limits.first().1, allows[0]);
    // Nobody is disturbed: with a margin that cannot be kept, it is not even tried.
    let reached = reach_machine_limit(&limits, u64::MAX).unwrap();
    assert!(reached.number("alive") == 0.0 && reached.texts("then")[0].starts_with("not tried"), "{reached:?}");
}

#[test]
fn the_kernel_takes_for_a_pair_what_its_objects_add_up_to() {
    let _alone = KERNEL.write().unwrap_or_else(PoisonError::into_inner);
    let idle = idle_memory(&ways()[0], &[2_000], 3).unwrap();
    if idle.frame().filter("figure", "kernel").is_empty() {
        return; // not root: the kernel does not show its caches
    }
    let median = |figure| idle.samples(&2_000, figure).median();
    assert!((median("TCP") - 2.0).abs() < 0.1, "{:?}", idle.figure("TCP"));
    let ratio = median("kernel") / median("predicted");
    assert!((0.8..1.3).contains(&ratio), "{ratio}");
    // What was said of a server is said of one end, and one end is half of a pair.
    let one_end = median("server's end") / median("kernel");
    assert!((0.4..0.6).contains(&one_end), "{one_end}");
}

#[test]
fn clients_that_vanish_leave_the_servers_ends_as_they_were() {
    let _others = beside_others();
    let (mut server, address) = served(&ServerSpec::new(Model::Epoll));
    let mut client = Worker::start().unwrap();
    let spec = ConnectSpec { addresses: vec![address], ..ConnectSpec::new(100, Framing::Plain) };
    assert_eq!(client.connect_all(&spec).unwrap().echoed, 100);
    if let Err(refused) = client.vanish() {
        assert!(refused.to_string().contains("close connections without a word"), "{refused}");
        return; // not root: this process may not administer its network
    }
    std::thread::sleep(Duration::from_millis(300)); // a goodbye would have come by now
    assert_eq!(server.state().unwrap().held, 100, "the server does not know that nobody is there any more");
    assert!(client.vanish().is_ok(), "nothing is left to close");
}

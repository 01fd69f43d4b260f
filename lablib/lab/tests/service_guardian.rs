//! Servers are gone when their owner is gone, however it died; and labs do not disturb each other.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod roles;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use lab::service::{self, MariaDb, Redis};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use roles::{Root, hear, lives, names, perform, play, say, soon};

/// What an owner with servers says about itself.
struct Owned {
    owner: u32,
    guardian: u32,
    servers: Vec<u32>,
    run: PathBuf,
}

impl Owned {
    fn say(servers: &[u32]) {
        let servers: Vec<String> = servers.iter().map(u32::to_string).collect();
        let (owner, guardian) = (std::process::id(), service::guardian_pid().unwrap());
        say(&format!("{owner} {guardian} {} {}", servers.join(","), service::run_directory().unwrap().display()));
    }

    fn hear(player: &mut roles::Player) -> Self {
        let line = player.listen();
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let number = |word: &str| word.parse().unwrap();
        let owned = Self {
            owner: number(words[0]),
            guardian: number(words[1]),
            servers: words[2].split(',').map(number).collect(),
            run: words[3].into(),
        };
        assert!(lives(owned.guardian) && owned.servers.iter().all(|pid| lives(*pid)));
        assert!(owned.run.is_dir());
        owned
    }

    fn servers_are_gone(&self) {
        for pid in &self.servers {
            soon("the end of a server", || !lives(*pid));
        }
    }

    fn everything_is_gone(&self) {
        self.servers_are_gone();
        soon("the end of the guardian", || !lives(self.guardian));
        soon("the end of the run's directory", || !self.run.exists());
    }
}

#[test]
#[ignore = "a role that other tests play in processes of their own"]
fn role() {
    match roles::name().as_deref() {
        // Not played, but run by somebody who runs everything.
        None => {}
        Some("owner") => own(sleep),
        Some("busy owner") => own(|| {
            loop {
                std::hint::spin_loop();
            }
        }),
        Some("owner that exits") => own(|| {
            hear();
            std::process::exit(0)
        }),
        Some("owner that panics") => own(|| {
            hear();
            panic!("on purpose")
        }),
        Some("owner that answers") => {
            let (redis, db) = (service::redis(), service::mysql());
            redis.ask("SET here yes").unwrap();
            Owned::say(&[redis.pid().unwrap(), db.pid().unwrap()]);
            hear();
            say(&format!("{} {} {}", redis.ask("GET here").unwrap(), db.ask("SELECT 7").unwrap(), redis.port()));
            sleep();
        }
        Some("kernel") => {
            // What evcxr does: the notebook's code runs in a child process with this variable.
            let child = roles::command("busy owner", &[("EVCXR_IS_RUNTIME", "1")]).stdin(Stdio::null()).spawn();
            child.unwrap().wait().unwrap();
        }
        Some("owner whose guardian is killed") => whose_guardian_is_killed(),
        Some("maker of a template") => drop(service::mysql()),
        Some(other) => panic!("nobody plays {other}"),
    }
}

fn own(then: impl FnOnce()) {
    let redis = Redis::durable().start().unwrap();
    let db = MariaDb::start().unwrap();
    // A paused server cannot react to anything but the last signal.
    let paused = service::redis();
    paused.pause();
    Owned::say(&[redis.pid().unwrap(), db.pid().unwrap(), paused.pid().unwrap()]);
    then();
}

fn sleep() {
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}

fn whose_guardian_is_killed() {
    let redis = service::redis();
    let (guardian, server, run) =
        (service::guardian_pid().unwrap(), redis.pid().unwrap(), service::run_directory().unwrap());
    kill(Pid::from_raw(guardian as i32), Signal::SIGKILL).unwrap();
    soon("the end of a server whose guardian was killed", || !lives(server));
    assert!(!redis.is_running());
    let error = redis.try_kill().unwrap_err().to_string();
    assert!(error.contains("guardian") && error.contains("gone"), "{error}");
    assert!(run.is_dir(), "nobody was left to remove it");
    let other = service::redis();
    assert_eq!(other.ask("PING").unwrap(), "PONG");
    assert_ne!(service::guardian_pid().unwrap(), guardian);
    assert!(!run.exists(), "the next guardian sweeps what a killed one left");
}

#[test]
fn kill_9_of_the_owner_ends_everything() {
    let mut owner = play("owner", &[]);
    let owned = Owned::hear(&mut owner);
    owner.kill();
    owned.everything_is_gone();
}

#[test]
fn an_owner_that_exits_or_panics_with_its_handles_alive_leaves_nothing() {
    for role in ["owner that exits", "owner that panics"] {
        let mut owner = play(role, &[]);
        let owned = Owned::hear(&mut owner);
        owner.tell("now");
        owned.everything_is_gone();
    }
}

#[test]
fn kill_9_of_the_kernel_ends_a_notebook_that_is_busy_in_an_endless_cell() {
    let mut kernel = play("kernel", &[]);
    let owned = Owned::hear(&mut kernel);
    assert!(lives(owned.owner));
    assert_ne!(owned.owner, kernel.child.id());
    kernel.kill();
    soon("the end of the notebook's process", || !lives(owned.owner));
    owned.everything_is_gone();
}

#[test]
fn an_owner_that_is_no_notebook_outlives_its_parent() {
    let mut owner = play("owner that answers", &[]);
    let owned = Owned::hear(&mut owner);
    // Its parent is this process, which lives; its guardian watches nobody but the owner.
    let watched = links(Path::new(&format!("/proc/{}/fd", owned.guardian)));
    assert!(watched.iter().all(|link| !link.contains("pidfd")), "{watched:?}");
}

#[test]
fn kill_9_of_the_guardian_ends_the_servers_and_the_next_one_sweeps() {
    let root = Root::new("guardian-killed");
    perform("owner whose guardian is killed", &[("LAB_ROOT", root.text())]);
    soon("the end of the runs' directories", || root.runs().is_empty());
}

#[test]
fn signals_from_a_terminal_do_not_reach_the_guardian_and_it_is_in_a_session_of_its_own() {
    let mut owner = play("owner that answers", &[]);
    let owned = Owned::hear(&mut owner);
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        kill(Pid::from_raw(owned.guardian as i32), signal).unwrap();
    }
    owner.tell("do you still have your servers?");
    assert!(owner.listen().starts_with("yes 7 "));
    assert!(lives(owned.guardian));
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", owned.guardian)).unwrap();
    let after_name: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!(after_name[3], owned.guardian.to_string(), "its session");
}

#[test]
fn nobody_holds_a_pipe_open_that_is_not_theirs() {
    let mut owner = play("owner", &[]);
    let owned = Owned::hear(&mut owner);
    let open = |pid: u32| links(Path::new(&format!("/proc/{pid}/fd")));
    let stdio =
        |pid: u32, number: u32| std::fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap().display().to_string();
    // Whoever reads the owner's output waits for the last process that could write to it.
    for number in [1, 2] {
        assert!(
            !open(owned.guardian).contains(&stdio(owned.owner, number)) || stdio(owned.owner, number) == "/dev/null"
        );
    }
    assert_eq!(stdio(owned.guardian, 2), "/dev/null");
    // A server with the guardian's end of a pipe would keep the guardian waiting for its end.
    let pipes = [stdio(owned.guardian, 0), stdio(owned.guardian, 1)];
    for server in &owned.servers {
        assert!(open(*server).iter().all(|link| !pipes.contains(link)), "{:?}", open(*server));
    }
    let cwd = std::fs::read_link(format!("/proc/{}/cwd", owned.guardian)).unwrap();
    assert_eq!(cwd, Path::new("/"), "it keeps no directory busy");
}

#[test]
fn a_run_directory_with_passwords_in_it_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let _redis = service::redis();
    let mode = service::run_directory().unwrap().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_server_outlives_the_thread_that_started_it() {
    let redis = std::thread::spawn(service::redis).join().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(redis.ask("PING").unwrap(), "PONG");
}

#[test]
fn a_dropped_handle_takes_its_server_and_its_directory_along() {
    let redis = service::redis();
    let (pid, log) = (redis.pid().unwrap(), redis.log_path().unwrap());
    assert!(lives(pid) && log.is_file());
    drop(redis);
    assert!(!lives(pid));
    assert!(!log.parent().unwrap().exists());
}

#[test]
fn two_labs_at_once_do_not_disturb_each_other() {
    let root = Root::new("two-labs");
    let here = [("LAB_ROOT", root.text())];
    // Neither finds a template, so that they race for it too.
    let mut labs = [play("owner that answers", &here), play("owner that answers", &here)];
    let owned = labs.each_mut().map(Owned::hear);
    assert_eq!(root.runs().len(), 2);
    let templates = names(&root.lab().join("templates"));
    assert_eq!(templates.iter().filter(|name| !name.ends_with(".lock")).count(), 1, "{templates:?}");
    let [first, second] = &mut labs;
    first.kill();
    owned[0].everything_is_gone();
    second.tell("do you still have your servers?");
    assert!(second.listen().starts_with("yes 7 "));
    assert!(owned[1].servers.iter().all(|pid| lives(*pid)));
    second.kill();
    owned[1].everything_is_gone();
    assert_eq!(root.runs(), [""; 0]);
}

#[test]
fn what_a_crashed_machine_left_is_swept_and_what_is_lived_in_is_not() {
    let root = Root::new("stale");
    for (stale, file) in [("run-1-0badcafe", "lock"), ("run-2-0badcafe", "redis-1/redis.conf")] {
        let file = root.lab().join(stale).join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "").unwrap();
    }
    std::fs::create_dir_all(root.lab().join("templates")).unwrap();
    let mut first = play("owner that answers", &[("LAB_ROOT", root.text())]);
    let living = Owned::hear(&mut first);
    let name = |owned: &Owned| owned.run.file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(root.runs(), [name(&living)], "the two stale ones are swept");
    let mut second = play("owner that answers", &[("LAB_ROOT", root.text())]);
    let other = Owned::hear(&mut second);
    assert_eq!(root.runs().len(), 2, "a second lab sweeps nobody who lives");
    first.tell("do you still have your servers?");
    assert!(first.listen().starts_with("yes 7 "));
    drop((first, second));
    living.everything_is_gone();
    other.everything_is_gone();
}

#[test]
fn a_maker_of_a_template_that_is_killed_halfway_leaves_nothing_to_the_next() {
    let root = Root::new("half-made");
    let here = [("LAB_ROOT", root.text())];
    let templates = root.lab().join("templates");
    let mut maker = play("maker of a template", &here);
    soon("the making of a template", || names(&templates).iter().any(|name| name.contains(".making-")));
    maker.kill();
    assert!(names(&templates).iter().all(|name| name.contains(".making-") || name.ends_with(".lock")));
    perform("maker of a template", &here);
    let left: Vec<String> = names(&templates).into_iter().filter(|name| !name.ends_with(".lock")).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(!left[0].contains(".making-"));
    soon("the end of the runs' directories", || root.runs().is_empty());
}

/// Where the descriptors in a `/proc/PID/fd` lead.
fn links(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap().flatten();
    entries.filter_map(|entry| std::fs::read_link(entry.path()).ok()).map(|link| link.display().to_string()).collect()
}

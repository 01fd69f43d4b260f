//! The notebook kernel over the Jupyter protocol: inference, completion, independence, and what is left when it dies.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// A Python process that talks to kernels; kernels end with it.
struct Session {
    child: Child,
    /// Its end tells the Python process to shut its kernels down.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Session {
    fn start() -> Self {
        let python = std::env::var("LAB_PYTHON").expect("LAB_PYTHON is not set: run the tests with ci/lab test");
        let mut child = Command::new(Path::new(&python).join("bin/python"))
            .arg(root().join("lablib/tests/kernel/session.py"))
            .env("JUPYTER_PATH", root().join("target/lab/kernel/current/interactive/jupyter"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, stdin, stdout }
    }

    fn ask(&mut self, step: Value) -> Value {
        writeln!(self.stdin.as_mut().unwrap(), "{step}").unwrap();
        let mut line = String::new();
        // Cargo, started by the kernel, may write lines of its own.
        while !line.starts_with('{') {
            line.clear();
            assert!(self.stdout.read_line(&mut line).unwrap() > 0, "the session ended at {step}");
        }
        serde_json::from_str(&line).unwrap()
    }

    fn run(&mut self, kernel: &str, code: &str) -> Value {
        let answer = self.ask(json!({"kernel": kernel, "run": code}));
        assert_eq!(answer["failed"], false, "{code}: {answer}");
        answer
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stdin = None;
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[test]
#[ignore = "needs the kernel: ci/lab test"]
fn cells_infer_the_types_of_the_library_and_complete_its_names() {
    let mut session = Session::start();
    session.run("a", "use lablib::prelude::*;");
    session.run("a", "let ring = placing::consistent_hashing::Ring::new([\"a\", \"b\"], 7).or_fail();");
    let matches = session.ask(json!({"kernel": "a", "complete": "ring."}))["matches"].to_string();
    assert!(matches.contains("virtual_nodes") && matches.contains("points"), "{matches}");
    session.run("a", "let samples = Samples::from(vec![1.0, 2.0, 6.0]);");
    let matches = session.ask(json!({"kernel": "a", "complete": "samples.med"}))["matches"].to_string();
    assert!(matches.contains("median"), "{matches}");
    let answer = session.run("a", "println!(\"{} {}\", ring.virtual_nodes(), samples.mean());");
    assert_eq!(text(&answer["out"]), "7 3\n");
}

#[test]
#[ignore = "needs the kernel: ci/lab test"]
fn two_kernels_side_by_side_share_nothing() {
    let mut session = Session::start();
    for (kernel, value) in [("a", 1), ("b", 2)] {
        session.run(kernel, "use lablib::prelude::*;");
        session.run(kernel, &format!("let mine = Samples::from({value}_u64);"));
    }
    for (kernel, value) in [("a", "1\n"), ("b", "2\n")] {
        assert_eq!(text(&session.run(kernel, "println!(\"{}\", mine.mean());")["out"]), value);
    }
    session.ask(json!({"kernel": "a", "kill": true}));
    assert_eq!(text(&session.run("b", "println!(\"{}\", mine.mean() + 1.0);")["out"]), "3\n");
}

#[test]
#[ignore = "needs the kernel: ci/lab test"]
fn everything_that_a_cell_shows_appears_and_the_next_cell_starts_anew() {
    let mut session = Session::start();
    session.run("a", "use lablib::prelude::*;");
    let cell = "Table::new(\"first table\").counts(\"n\", \"\", [1]).show();\n\
                Chart::bars(\"second chart\").y(\"y\", \"\").bar(\"a\", 1.0).show();\n\
                Chart::bars(\"third chart\").y(\"y\", \"\").bar(\"b\", 2.0).show();";
    let answer = session.run("a", cell);
    for shown in ["first table", "second chart", "third chart"] {
        assert!(text(&answer["data"]["text/html"]).contains(shown), "{shown}");
        assert!(text(&answer["data"]["text/plain"]).contains(shown), "{shown}");
    }
    let answer = session.run("a", "Chart::bars(\"fourth chart\").y(\"y\", \"\").bar(\"c\", 3.0)");
    assert!(text(&answer["data"]["text/html"]).contains("fourth chart"));
    assert!(!text(&answer["data"]["text/html"]).contains("third chart"));
}

#[test]
#[ignore = "needs the kernel: ci/lab test"]
fn variables_survive_a_panic_in_front_of_a_person() {
    let mut session = Session::start();
    session.run("a", "use lablib::prelude::*;");
    session.run("a", "let kept = 41;");
    session.run("a", "assert_eq!(kept, 42);");
    assert_eq!(text(&session.run("a", "println!(\"{}\", kept + 1);")["out"]), "42\n");
}

/// Servers of a killed kernel: whatever process had `folder` in its command line is gone, and so is the folder.
fn gone(pids: &[i32], folder: &Path) -> bool {
    pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()) && !folder.exists()
}

fn assert_gone(pids: &[i32], folder: &Path) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !gone(pids, folder) {
        assert!(Instant::now() < deadline, "still there: {pids:?} or {}", folder.display());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Starts a Redis in a real kernel, and returns the pids of the cell's process and of the server, and the server's folder.
fn redis_in(session: &mut Session) -> (i32, i32, PathBuf) {
    session.run("a", "use lablib::prelude::*;");
    session.run("a", "let redis = lab::redis();");
    let answer = session.run("a", "println!(\"{} {} {}\", std::process::id(), redis.pid().unwrap_or(0), lab::service::run_directory().or_fail().display());");
    let words: Vec<&str> = text(&answer["out"]).trim().splitn(3, ' ').collect();
    (words[0].parse().unwrap(), words[1].parse().unwrap(), PathBuf::from(words[2]))
}

#[test]
#[ignore = "needs the kernel: ci/lab test"]
fn a_kernel_that_is_killed_leaves_no_server() {
    let mut session = Session::start();
    let (cell, server, folder) = redis_in(&mut session);
    assert!(!gone(&[cell, server], &folder));
    session.ask(json!({"kernel": "a", "kill": true}));
    assert_gone(&[cell, server], &folder);
}

#[test]
#[ignore = "needs the kernel: ci/lab test"]
fn a_cell_process_that_is_killed_leaves_no_server() {
    let mut session = Session::start();
    let (cell, server, folder) = redis_in(&mut session);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(cell), nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_gone(&[server], &folder);
}

/// Starts an endless cell and returns when it uses the processor; until then the kernel compiles it.
fn never_end(session: &mut Session, cell: i32) {
    session.ask(json!({"kernel": "a", "start": "loop { std::hint::spin_loop() }"}));
    let deadline = Instant::now() + Duration::from_secs(60);
    while !status_of(cell).starts_with('R') {
        assert!(Instant::now() < deadline, "the cell never started");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// `/proc/PID/stat` from the process's state on: state, parent, …
fn status_of(pid: i32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    status.rsplit(") ").next().unwrap().to_string()
}

fn kill_kernel_of(cell: i32) {
    let kernel = status_of(cell).split(' ').nth(1).unwrap().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(kernel), nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[test]
#[ignore = "needs the kernel: ci/lab test"]
fn a_kernel_that_is_killed_in_the_middle_of_an_endless_cell_leaves_nothing() {
    let mut session = Session::start();
    let (cell, server, folder) = redis_in(&mut session);
    never_end(&mut session, cell);
    kill_kernel_of(cell);
    assert_gone(&[cell, server], &folder);
}

#[test]
#[ignore = "needs the kernel: ci/lab test"]
fn an_endless_cell_without_servers_ends_with_its_kernel_too() {
    let mut session = Session::start();
    session.run("a", "use lablib::prelude::*;");
    let answer = session.run("a", "Table::new(\"t\").show();\nprintln!(\"{}\", std::process::id());");
    let cell = text(&answer["out"]).trim().parse().unwrap();
    never_end(&mut session, cell);
    kill_kernel_of(cell);
    assert_gone(&[cell], Path::new("/nonexistent"));
}

//! The notebook kernel over the Jupyter protocol: inference, completion, independence, and what is left when it dies.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::ffi::OsString;
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
        Self::with_kernels_of(root().join("target/lab/kernel/current/interactive/jupyter").into())
    }

    /// Where its kernels are described: folders, as in `PATH`.
    fn with_kernels_of(folders: OsString) -> Self {
        Self::in_environment(folders, &[])
    }

    fn in_environment(folders: OsString, variables: &[(&str, &str)]) -> Self {
        let python = std::env::var("LAB_PYTHON").expect("LAB_PYTHON is not set: run the tests with ci/lab test");
        let mut child = Command::new(Path::new(&python).join("bin/python"))
            .arg(root().join("lablib/tests/kernel/session.py"))
            .env("JUPYTER_PATH", folders)
            .envs(variables.iter().copied())
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

/// Runs a cell in front of a reader who types these lines.
fn with_reader(session: &mut Session, code: &str, answers: &[&str]) -> Value {
    let answer = session.ask(json!({"kernel": "a", "run": code, "answers": answers}));
    assert_eq!(answer["failed"], false, "{code}: {answer}");
    answer
}

fn prompts(answer: &Value) -> Vec<&str> {
    answer["prompts"].as_array().unwrap().iter().map(text).collect()
}

/// The kernel finds a request only at the beginning of a line; behind an unfinished one both would wait for ever.
#[test]
#[ignore = "needs the kernel: ci/lab test"]
fn a_reader_is_asked_even_behind_an_unfinished_line() {
    let mut session = Session::start();
    session.run("a", "use lablib::prelude::*;");
    session.run("a", "let mut lab = Experiment::rehearsal(\"asking\");");
    let cell = "print!(\"unfinished\");\nlet moved = lab.guess(\"Of 1,000: which share?\", \"%\");";
    let answer = with_reader(&mut session, cell, &["many", "30 %"]);
    let asked = prompts(&answer);
    assert!(
        asked.len() == 2 && asked[0].starts_with("Of 1,000 – which share? Your guess, a number, in %"),
        "{asked:?}"
    );
    assert!(asked[1].starts_with("\"many\" is no number"), "{asked:?}");
    assert!(text(&answer["out"]).starts_with("unfinished\n"), "{answer}");
    assert!(text(&answer["data"]["text/html"]).contains("Your guess: <strong>30\u{202f}%</strong>"), "{answer}");
    // Its type was inferred, and whoever has no guess is asked once.
    assert_eq!(text(&session.run("a", "println!(\"{:?}\", moved.value());")["out"]), "Some(30.0)\n");
    let answer = with_reader(&mut session, "let none = lab.guess(\"How many?\", \"\");", &[""]);
    assert_eq!(prompts(&answer).len(), 1);
    assert_eq!(text(&session.run("a", "println!(\"{:?}\", none.value());")["out"]), "None\n");
    // A front end in which nobody can type answers for its reader.
    session.run("a", "let nobody = lab.guess(\"How many?\", \"\");");
    assert_eq!(text(&session.run("a", "println!(\"{:?}\", nobody.value());")["out"]), "None\n");
}

#[test]
#[ignore = "needs the kernel: ci/lab test"]
fn a_run_that_nobody_watches_asks_nobody() {
    let headless = root().join("target/lab/kernel/current/headless/jupyter");
    let mut session = Session::in_environment(headless.into(), &[("LAB_ASK", "1")]);
    session.run("a", "use lablib::prelude::*;");
    session.run("a", "let mut lab = Experiment::rehearsal(\"asking\");");
    let answer = with_reader(&mut session, "let moved = lab.guess(\"Which share?\", \"%\");", &["30"]);
    assert_eq!(prompts(&answer), Vec::<&str>::new());
    assert_eq!(text(&session.run("a", "println!(\"{:?}\", moved.value());")["out"]), "None\n");
}

#[test]
#[ignore = "needs the kernel: ci/lab test"]
fn a_file_answers_in_the_readers_place_and_a_class_keeps_its_guesses() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guesses");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let (answers, class) = (folder.join("answers"), folder.join("class"));
    std::fs::write(&answers, "Which share? = 30\n").unwrap();
    let interactive = root().join("target/lab/kernel/current/interactive/jupyter");
    let variables = [
        ("LAB_GUESSES", answers.to_str().unwrap()),
        ("LAB_GUESSES_TO", class.to_str().unwrap()),
        ("LAB_STUDENT", "Ada L."),
    ];
    let mut session = Session::in_environment(interactive.into(), &variables);
    session.run("a", "use lablib::prelude::*;");
    session.run("a", "let mut lab = Experiment::rehearsal(\"asking\");");
    let answer = with_reader(&mut session, "let moved = lab.guess(\"Which share?\", \"%\");", &["7"]);
    assert_eq!(prompts(&answer), Vec::<&str>::new());
    assert_eq!(text(&session.run("a", "println!(\"{:?}\", moved.value());")["out"]), "Some(30.0)\n");
    session.run("a", &format!("let room = lab.guesses({:?});", class.to_str().unwrap()));
    let answer = session.run("a", "println!(\"{} {:?}\", room.number(\"guess\"), room.texts(\"student\"));");
    assert_eq!(text(&answer["out"]), "30 [\"ada-l\"]\n");
}

#[test]
#[ignore = "needs the kernel: ci/lab test"]
fn knobs_are_set_from_outside_and_what_cannot_be_is_refused_with_what_can() {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("knobs");
    let _ = std::fs::remove_dir_all(&out);
    let interactive = root().join("target/lab/kernel/current/interactive/jupyter");
    std::fs::create_dir_all(&out).unwrap();
    // What a cell says as it ends may come after its end; what it wrote down is there.
    let panics = out.join("panics");
    let variables = [
        ("LAB_SET", "ages=7,clients=0,agse=4"),
        ("LAB_OUT", out.to_str().unwrap()),
        ("LAB_PANICS", panics.to_str().unwrap()),
    ];
    let mut session = Session::in_environment(interactive.into(), &variables);
    session.run("a", "use lablib::prelude::*;");
    session.run("a", "let mut lab = Experiment::new(\"97-knobs\");");
    session.run("a", "let ages = lab.knob(\"ages\", 4_usize, 20);");
    assert_eq!(text(&session.run("a", "println!(\"{}\", ages + 1_usize);")["out"]), "8\n");
    let said = || std::fs::read_to_string(&panics).unwrap().lines().last().unwrap().to_string();
    session.run("a", "let clients = lab.knob(\"clients\", 8_u8, 8);");
    let refused = said();
    let sentence = "could not set the knob \"clients\": \"0\" is not more than zero, and the knob is a whole number from 0 to 255; \
                    it is 8 at quick scale and 8 at full";
    assert!(refused.contains(sentence), "{refused}");
    session.run("a", "lab.claim(\"one is one\").measured(1).exactly(1);");
    session.run("a", "lab.verdict();");
    let refused = said();
    assert!(refused.contains("the notebook has no knob \"clients\"; its knobs are ages"), "{refused}");
    assert!(!out.join("results/97-knobs.json").exists(), "a refused run has no verdict");
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

/// A clone in small: the real workbench, one room that answers a question, and the map over both. It is built where the artifacts
/// of what others wrote are those of this clone, so that what is compiled is the workbench, unoptimised, and a few lines.
struct SmallClone(PathBuf);

impl SmallClone {
    fn new() -> Self {
        let tree = Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join("small-clone"));
        let _ = std::fs::remove_dir_all(&tree.0);
        for part in ["lab", "kernel", "workspace-hack"] {
            copy(&root().join("lablib").join(part), &tree.0.join("lablib").join(part));
        }
        // The workbench reads which Kafka it is to start.
        for part in ["ci/kafka", "Cargo.lock"] {
            copy(&root().join(part), &tree.0.join(part));
        }
        let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
        let (_, all_but_members) = manifest.split_once("resolver = ").unwrap();
        let manifest = format!(
            "[workspace]\nmembers = [\"lablib\", \"lablib/lab\", \"lablib/placing\", \"lablib/kernel\", \
             \"lablib/workspace-hack\"]\ndefault-members = [\"lablib\"]\nresolver = {all_but_members}\
             [profile.release.package.lab]\nopt-level = 0\n"
        );
        tree.write("Cargo.toml", &manifest);
        let package =
            |name: &str| format!("[package]\nname = \"{name}\"\nedition.workspace = true\n\n[dependencies]\n");
        tree.write("lablib/placing/Cargo.toml", &package("placing"));
        let uses = "lab.workspace = true\nplacing.workspace = true\n";
        tree.write("lablib/Cargo.toml", &(package("lablib") + uses));
        tree.write("lablib/src/lib.rs", "pub use {lab, placing};\npub mod prelude;\n");
        tree.write("lablib/src/prelude.rs", "pub use crate::lab::Experiment;\npub use crate::placing;\n");
        // What a small clone's kernels start again is the `lab` of this one.
        let lab = format!(
            "use std::os::unix::process::CommandExt;\nfn main() {{\n    \
             let error = std::process::Command::new({:?}).args(std::env::args_os().skip(1)).exec();\n    \
             eprintln!(\"{{error}}\");\n}}\n",
            env!("CARGO_BIN_EXE_lab")
        );
        tree.write("lablib/src/bin/lab.rs", &lab);
        tree.answers("41");
        // What the small clone does without leaves its lock file now, not while a kernel is built from it.
        let update = ["update", "--workspace", "--offline", "--quiet"];
        assert!(Command::new("cargo").args(update).current_dir(&tree.0).status().unwrap().success());
        std::os::unix::fs::symlink(root().join("target/release"), tree.0.join("target/release")).unwrap();
        let spec = json!({
            "argv": [env!("CARGO_BIN_EXE_lab"), "start-kernel", "{connection_file}"],
            "display_name": "small",
            "language": "rust",
            "env": {"LAB_ROOT": tree.0, "JUPYTER_PATH": ""},
        });
        tree.write("target/first/kernels/rust/kernel.json", &spec.to_string());
        tree
    }

    /// Edits the room.
    fn answers(&self, answer: &str) {
        self.write("lablib/placing/src/lib.rs", &format!("pub fn answer() -> u64 {{\n    {answer}\n}}\n"));
        std::fs::create_dir_all(self.0.join("target")).unwrap();
    }

    fn write(&self, file: &str, content: &str) {
        let path = self.0.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// A session whose kernels are the newest of this clone; where there is none yet, one that is built.
    fn session(&self) -> Session {
        let folders = [self.0.join("target/lab/kernel/current/interactive/jupyter"), self.0.join("target/first")];
        Session::with_kernels_of(std::env::join_paths(folders).unwrap())
    }
}

impl Drop for SmallClone {
    fn drop(&mut self) {
        // Where a test failed, it stays for whoever asks why; the next run begins anew.
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
        return;
    }
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}

#[test]
#[ignore = "needs the set-up: ci/lab test"]
fn a_kernel_started_after_an_edit_runs_it_and_one_that_does_not_compile_runs_what_stood_before() {
    let clone = SmallClone::new();
    let mut session = clone.session();
    let mut open = |kernel: &str| {
        session.run(kernel, "use lablib::prelude::*;");
        let heading = session.run(kernel, "let mut lab = Experiment::new(\"98-small\");");
        let answer = session.run(kernel, "println!(\"{}\", placing::answer());");
        (text(&heading["data"]["text/plain"]).to_string(), text(&answer["out"]).to_string())
    };
    let (heading, answer) = open("first");
    assert!(heading.lines().next().unwrap().contains("compiled for exploring"), "{heading}");
    assert!(!heading.contains("older than the sources"), "{heading}");
    assert_eq!(answer, "41\n");

    clone.answers("40 + 2");
    let (heading, answer) = open("first");
    assert!(heading.contains("older than the sources in lablib"), "{heading}");
    assert_eq!(answer, "41\n", "a kernel that runs is not changed by an edit");
    let (heading, answer) = open("edited");
    assert!(heading.lines().next().unwrap().contains("compiled for exploring"), "{heading}");
    assert!(!heading.contains("older than the sources"), "{heading}");
    assert_eq!(answer, "42\n");

    clone.answers("\"forty-three\"");
    let (heading, answer) = open("broken");
    for said in ["compiled for exploring", "older than the sources in lablib", "does not compile", "mismatched types"] {
        assert!(heading.contains(said), "{said} is not in {heading}");
    }
    assert_eq!(answer, "42\n");

    // What the runner refuses; see its own tests.
    session.run("broken", "lab.claim(\"one is one\").measured(1).exactly(1);");
    let shown = session.run("broken", "lab.verdict();");
    assert!(text(&shown["data"]["text/plain"]).contains("no verdict stands on it"), "{shown}");
    let verdict = std::fs::read_to_string(clone.0.join("target/results/98-small.json")).unwrap();
    let verdict: Value = serde_json::from_str(&verdict).unwrap();
    assert_eq!((&verdict["holds"], &verdict["exploring"]), (&json!(true), &json!(true)));
}

//! Tests that play a role in a process of their own: to be killed, or to see another environment.
//!
//! The test binary starts itself again with one test, `role`, which acts by the name in `SERVICE_ROLE`.

#![allow(dead_code)] // each test binary uses its part
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const ROLE: &str = "SERVICE_ROLE";
const SAYS: &str = "SAYS ";

/// The name of the role that this process plays, if it plays one.
pub fn name() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// What a role tells the test.
pub fn say(words: &str) {
    println!("{SAYS}{words}");
}

/// The command that plays a role.
pub fn command(role: &str, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["role", "--exact", "--ignored", "--nocapture"]).env(ROLE, role);
    for inherited in ["EVCXR_IS_RUNTIME", "LAB_MYSQL_URL", "LAB_REDIS_URL", "LAB_REDIS_CLUSTER_URL", "LAB_KAFKA_URL"] {
        command.env_remove(inherited);
    }
    command.envs(environment.iter().copied());
    command
}

/// A role that is being played.
pub struct Player {
    pub child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

/// Begins to play a role.
pub fn play(role: &str, environment: &[(&str, &str)]) -> Player {
    let mut child = command(role, environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let stdin = child.stdin.take().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    Player { child, stdin, stdout }
}

/// Plays a role to its end, which must be a good one.
pub fn perform(role: &str, environment: &[(&str, &str)]) -> String {
    let output = command(role, environment).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{role}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
    said.lines().filter_map(|line| line.split_once(SAYS)).map(|(_, words)| words).collect::<Vec<_>>().join("\n")
}

impl Player {
    /// The next thing that it says.
    pub fn listen(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.stdout.read_line(&mut line).unwrap() > 0, "the role ended without a word");
            if let Some((_, words)) = line.split_once(SAYS) {
                return words.trim_end().to_owned();
            }
        }
    }

    /// Says one line to it.
    pub fn tell(&mut self, words: &str) {
        writeln!(self.stdin, "{words}").unwrap();
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The next line that the test says to this role.
pub fn hear() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// Whether the process runs; one that is dead and only waits for its parent to notice does not.
pub fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Waits for something that must happen soon.
pub fn soon(what: &str, happened: impl Fn() -> bool) {
    let begun = Instant::now();
    while !happened() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}: not after 30 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An empty directory for a lab of its own; removed at the end.
pub struct Root(std::path::PathBuf);

impl Root {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lab-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn text(&self) -> &str {
        self.0.to_str().unwrap()
    }

    pub fn lab(&self) -> std::path::PathBuf {
        self.0.join("target/lab")
    }

    /// The directories of runs that are there now.
    pub fn runs(&self) -> Vec<String> {
        names(&self.lab()).into_iter().filter(|name| name.starts_with("run-")).collect()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The names in a directory.
pub fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

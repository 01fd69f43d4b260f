//! Child processes that die at a point, and what they had acknowledged by then.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::point::{CRASH_AT, REPORT, report_role};
use crate::{Doing, Error, Result};

const ROLE: &str = "LAB_CRASH_ROLE";
const ACKNOWLEDGED: &str = "acknowledged: ";
const PATIENCE: Duration = Duration::from_secs(60);

/// Says on standard output that something is done, as a server answers its client: whatever comes later, it has to last.
pub fn acknowledge(what: impl Display) {
    let what = serde_json::Value::from(what.to_string()); // on one line, whatever is in it
    let mut out = std::io::stdout().lock();
    // The line break in front: libtest leaves its own line unfinished. A parent that is gone hears nothing.
    let _ = out.write_all(format!("\n{ACKNOWLEDGED}{what}\n").as_bytes()).and_then(|()| out.flush());
}

/// What a line acknowledges; one that was cut off lacks its closing quote, and does not.
pub(crate) fn acknowledged_in(line: &str) -> Option<String> {
    serde_json::from_str(line.strip_prefix(ACKNOWLEDGED)?).ok()
}

fn acknowledged(out: &str) -> Vec<String> {
    out.lines().filter_map(acknowledged_in).collect()
}

/// Whether this process was started by [`Child::of_this_test`] to play `role`.
pub fn in_role(role: &str) -> bool {
    let plays = std::env::var(ROLE).is_ok_and(|played| played == role);
    if plays {
        report_role(role);
    }
    plays
}

/// A process that a test starts, to be killed or to run to its end.
#[derive(Debug)]
pub struct Child {
    command: Command,
    role: Option<String>,
}

impl Child {
    /// Any program, such as the `lab` binary.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self { command: Command::new(program), role: None }
    }

    /// This test binary once more, with nothing but the ignored test called `role` (with its modules, as in `tests::role`).
    ///
    /// ```no_run
    /// use lab::crash::{self, Child, Crash};
    ///
    /// #[test]
    /// #[ignore = "a role: the next test starts it in a process of its own"]
    /// fn counter() {
    ///     if crash::in_role("counter") {
    ///         for n in 0..10 {
    ///             crash::point("before-acknowledging");
    ///             crash::acknowledge(n);
    ///         }
    ///     }
    /// }
    ///
    /// #[test]
    /// fn a_killed_counter_has_acknowledged_what_it_counted() {
    ///     let ended = Crash::at("before-acknowledging").nth(3).run(Child::of_this_test("counter")).unwrap();
    ///     assert_eq!(ended.acknowledged(), ["0", "1"]);
    /// }
    /// ```
    pub fn of_this_test(role: &str) -> Self {
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
        let mut child = Self::new(program);
        child.command.args([role, "--exact", "--ignored", "--nocapture", "--test-threads=1"]).env(ROLE, role);
        child.role = Some(role.to_string());
        child
    }

    /// One more argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// What the child finds in its environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it to its end, which must be a good one: to see what it does unhurt, and which points it reaches.
    pub fn run(self) -> Result<Ended> {
        let (status, ended) = self.watch(None, PATIENCE)?;
        if !status.success() {
            return Err(Error::new("run a child to its end", status).remedy(format!("it said: {}", ended.last_words())));
        }
        Ok(ended)
    }

    fn watch(mut self, at: Option<&str>, patience: Duration) -> Result<(ExitStatus, Ended)> {
        // Into files: a pipe would have to be drained, and a grandchild could hold it open.
        let room = Room::new()?;
        let file = |name| File::create(room.0.join(name)).doing("make a file for a child's output");
        file("report")?;
        self.command.env_remove(CRASH_AT).env(REPORT, room.0.join("report"));
        self.command.envs(at.map(|at| (CRASH_AT, at)));
        self.command.stdin(Stdio::null()).stdout(file("out")?).stderr(file("err")?);
        let mut process = self.command.spawn().doing("start a child process")?;
        let began = Instant::now();
        let status = loop {
            if let Some(status) = process.try_wait().doing("wait for a child process")? {
                break status;
            }
            if began.elapsed() > patience {
                let _ = process.kill(); // it may have ended just now
                let _ = process.wait();
                let limit = format!("still running after {} s", patience.as_secs_f64());
                return Err(Error::new("see a child process end", limit).remedy("allow it more with within(…)"));
            }
            thread::sleep(Duration::from_millis(2));
        };
        let text = |name| std::fs::read(room.0.join(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let lines = text("report").doing("read which points were reached")?;
        let mut ended = Ended { out: text("out").doing("read a child's output")?, ..Ended::default() };
        ended.err = text("err").doing("read a child's errors")?;
        let (mut times, mut entered) = (BTreeMap::<&str, u64>::new(), false);
        for line in lines.lines() {
            match line.split_once(' ') {
                Some(("reached", point)) => *times.entry(point).or_default() += 1,
                Some(("died", point)) => ended.died_at = Some(point.to_string()),
                Some(("role", role)) => entered |= self.role.as_deref() == Some(role),
                _ => {}
            }
        }
        ended.reached = times.into_iter().map(|(point, times)| Reached { point: point.to_string(), times }).collect();
        ended.acknowledged = acknowledged(&ended.out);
        match &self.role {
            Some(role) if !entered => Err(Error::new(format!("play the role {role}"), "no such test took it").remedy(
                format!("name an #[ignore]d test {role} that asks crash::in_role; it said: {}", ended.last_words()),
            )),
            _ => Ok((status, ended)),
        }
    }
}

impl From<Command> for Child {
    fn from(command: Command) -> Self {
        Self { command, role: None }
    }
}

/// A folder for what a child says, gone with its owner.
struct Room(PathBuf);

impl Room {
    fn new() -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let name = format!("lab-crash-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(name);
            match std::fs::create_dir(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                created => return created.doing("make a folder for a child's output").map(|()| Self(path)),
            }
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A point, and how often a child came by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// The name given to [`point`](super::point()).
    pub point: String,
    /// How often.
    pub times: u64,
}

/// What a child left behind.
#[derive(Debug, Clone, Default)]
pub struct Ended {
    acknowledged: Vec<String>,
    reached: Vec<Reached>,
    died_at: Option<String>,
    out: String,
    err: String,
}

impl Ended {
    /// What it acknowledged, in order; a line that it did not finish does not count.
    pub fn acknowledged(&self) -> &[String] {
        &self.acknowledged
    }

    /// The points that it came by, sorted by name.
    pub fn points_reached(&self) -> &[Reached] {
        &self.reached
    }

    /// All of its standard output.
    pub fn stdout(&self) -> &str {
        &self.out
    }

    /// All of its standard error.
    pub fn stderr(&self) -> &str {
        &self.err
    }

    fn last_words(&self) -> &str {
        let said = if self.err.trim().is_empty() { self.out.trim() } else { self.err.trim() };
        let start = said.char_indices().rev().nth(400).map_or(0, |(start, _)| start);
        &said[start..]
    }
}

/// A crash at a named point, in a child process.
#[derive(Debug, Clone)]
pub struct Crash {
    point: String,
    nth: u64,
    patience: Duration,
}

impl Crash {
    /// The child dies when it comes by `point` for the first time.
    pub fn at(point: &str) -> Self {
        Self { point: point.to_string(), nth: 1, patience: PATIENCE }
    }

    /// It dies at the nth time instead, counted from 1.
    pub fn nth(mut self, nth: u64) -> Self {
        self.nth = nth;
        self
    }

    /// How long the child may take; a minute if nothing is said.
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Runs the child until it dies there. Anything else is an error: a point that is never reached proves nothing.
    pub fn run(&self, child: impl Into<Child>) -> Result<Ended> {
        let (status, ended) = child.into().watch(Some(&format!("{}:{}", self.point, self.nth)), self.patience)?;
        if ended.died_at.as_ref() == Some(&self.point) && status.signal() == Some(Signal::SIGKILL as i32) {
            return Ok(ended);
        }
        let points: Vec<_> = ended.reached.iter().map(|by| format!("{} ×{}", by.point, by.times)).collect();
        let points = if points.is_empty() { "no point at all".to_string() } else { points.join(", ") };
        let cause = format!("it never came by ({status}); it reached {points}");
        Err(Error::new(format!("crash a child at {}, time {}", self.point, self.nth), cause)
            .remedy(format!("check the point's name; it said: {}", ended.last_words())))
    }

    /// Runs the child once unhurt, then once for every point and every time it came by, and checks what each one left.
    /// Returns the number of crashes. `child` begins anew each time, with a folder of its own.
    pub fn everywhere<C: Into<Child>>(
        mut child: impl FnMut() -> C,
        mut check: impl FnMut(&Crash, &Ended) -> Result<()>,
    ) -> Result<u64> {
        let unhurt = child().into().run()?;
        let mut crashes = 0;
        for Reached { point, times } in &unhurt.reached {
            for nth in 1..=*times {
                let crash = Crash::at(point).nth(nth);
                let ended = crash.run(child())?;
                check(&crash, &ended).map_err(|error| error.at(format!("crashed at {point}, time {nth}")))?;
                crashes += 1;
            }
        }
        match crashes {
            0 => {
                Err(Error::new("crash a child everywhere", "it came by no point").remedy("name some with crash::point"))
            }
            _ => Ok(crashes),
        }
    }
}

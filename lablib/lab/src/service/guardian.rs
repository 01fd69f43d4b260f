//! The owner's side of the guardian: the process that starts the servers, and outlives this one just long enough to end them.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::protocol::{self, Answer, Command, Request, Signal};
use super::surroundings;
use crate::{Doing, Error, Result, session};

/// This process's guardian.
#[derive(Debug)]
pub(super) struct Guardian {
    run: PathBuf,
    pid: u32,
    channel: Mutex<Channel>,
}

#[derive(Debug)]
struct Channel {
    guardian: Child,
    /// Its standard input: when this end closes, which the kernel sees to at the latest, the servers end.
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Set when it stopped answering.
    gone: bool,
}

/// A program that the guardian has started; killed when dropped.
#[derive(Debug)]
pub(super) struct Process {
    guardian: Arc<Guardian>,
    id: u64,
    pid: u32,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) how: String,
    pub(super) success: bool,
}

static CURRENT: Mutex<Option<Arc<Guardian>>> = Mutex::new(None);

impl Guardian {
    /// The guardian, started at the first call, and again if somebody killed it (its servers are gone then).
    pub(super) fn current() -> Result<Arc<Self>> {
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guardian) = current.as_ref().filter(|guardian| guardian.lives()) {
            return Ok(Arc::clone(guardian));
        }
        let guardian = Arc::new(Self::start()?);
        *current = Some(Arc::clone(&guardian));
        Ok(guardian)
    }

    fn start() -> Result<Self> {
        session::begin();
        let program = surroundings::lab_binary()?;
        let lab = surroundings::lab_directory();
        // Its standard error is nobody's: an inherited one would hold the pipe of whoever reads ours open.
        let mut guardian = std::process::Command::new(&program)
            .arg("guardian")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .doing(format!("start the guardian {}", program.display()))?;
        let pid = guardian.id();
        let (Some(requests), Some(answers)) = (guardian.stdin.take(), guardian.stdout.take()) else {
            return Err(Error::new("start the guardian", "it has no standard input and output"));
        };
        let answers = BufReader::new(answers);
        let mut channel = Channel { guardian, requests, answers, gone: false };
        let hello = Request::Hello {
            version: protocol::VERSION,
            owner: std::process::id() as i32,
            kernel: kernel(),
            lab: lab.clone(),
        };
        match channel.ask(&hello).map_err(|error| error.at(program.display()).remedy("run `ci/lab setup`"))? {
            Answer::Welcome { run } => Ok(Self { run, pid, channel: Mutex::new(channel) }),
            other => Err(unexpected("prepare the lab's directory", other).at(lab.display())),
        }
    }

    /// The directory of this run's files.
    pub(super) fn run(&self) -> &Path {
        &self.run
    }

    /// The guardian's own process.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    fn lives(&self) -> bool {
        let mut channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        !channel.gone && matches!(channel.guardian.try_wait(), Ok(None))
    }

    fn ask(&self, request: &Request) -> Result<Answer> {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner).ask(request)
    }

    /// Starts a program.
    pub(super) fn start_program(self: &Arc<Self>, command: Command) -> Result<Process> {
        let program = command.program.display().to_string();
        match self.ask(&Request::Start(command))? {
            Answer::Started { id, pid } => Ok(Process { guardian: Arc::clone(self), id, pid: pid.unsigned_abs() }),
            other => Err(unexpected("start", other).at(program)),
        }
    }
}

impl Channel {
    fn ask(&mut self, request: &Request) -> Result<Answer> {
        let answer = self.exchange(request);
        answer.map_err(|cause| {
            self.gone = true;
            let _ = self.guardian.try_wait();
            Error::new("reach the guardian of the lab's servers", cause)
        })
    }

    fn exchange(&mut self, request: &Request) -> Result<Answer, String> {
        let gone = |error: std::io::Error| format!("it is gone, and its servers with it ({error})");
        let mut line = serde_json::to_string(request).map_err(|error| error.to_string())?;
        line.push('\n');
        self.requests.write_all(line.as_bytes()).map_err(gone)?;
        let mut answer = String::new();
        if self.answers.read_line(&mut answer).map_err(gone)? == 0 {
            return Err("it is gone, and its servers with it".into());
        }
        serde_json::from_str(&answer).map_err(|error| format!("it answered {answer:?} ({error})"))
    }
}

impl Process {
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Kills it and everything that it started; returns when they are gone.
    pub(super) fn kill(&self) -> Result<End> {
        self.ended("kill", self.guardian.ask(&Request::Kill { id: self.id })?)
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        match self.guardian.ask(&Request::Signal { id: self.id, signal })? {
            Answer::Done => Ok(()),
            other => Err(unexpected("send a signal", other)),
        }
    }

    /// How it ended, or nothing while it runs.
    pub(super) fn end(&self) -> Result<Option<End>> {
        match self.guardian.ask(&Request::Status { id: self.id })? {
            Answer::Running => Ok(None),
            other => self.ended("ask for the state", other).map(Some),
        }
    }

    /// How it ended, or nothing if it still runs after `patience`.
    pub(super) fn wait(&self, patience: Duration) -> Result<Option<End>> {
        let asked = Instant::now();
        loop {
            match self.end()? {
                None if asked.elapsed() < patience => std::thread::sleep(Duration::from_millis(3)),
                end => return Ok(end),
            }
        }
    }

    fn ended(&self, operation: &str, answer: Answer) -> Result<End> {
        match answer {
            Answer::Ended { how, success } => Ok(End { how, success }),
            other => Err(unexpected(operation, other).at(format!("process {}", self.pid))),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn unexpected(operation: &str, answer: Answer) -> Error {
    match answer {
        Answer::Failed { why } => Error::new(operation, why),
        other => Error::new(operation, format!("the guardian answered {other:?}")),
    }
}

/// A notebook's code runs in a child process of the Jupyter kernel; when the kernel is gone, nobody can reach it any more.
fn kernel() -> Option<i32> {
    std::env::var_os("EVCXR_IS_RUNTIME").map(|_| std::os::unix::process::parent_id() as i32)
}

//! A piece of an experiment in a process of its own: because it is killed or stopped, because its limits or its network have to be its
//! own, or because it must not share a processor's time with who measures it.
//!
//! - The process is `lab NAME`, and what it is told is its errand: one value, which both sides write down in the same type.
//! - It [`say`]s what it found, a value at a time, by the same lines that a crashed process has
//!   [acknowledged](crate::crash::acknowledge); the owner [`hear`](Running::hear)s one, or the [last](Running::finish), or what is
//!   [left](Running::left) of it. Whatever else it prints is not heard.
//! - It ends with its owner, however that ends; and when it ends early, the owner's error repeats its last words.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::crash::{acknowledge, acknowledged_in};
use crate::service::lab_program;
use crate::{Doing, Error, Result};

/// Nobody is waited for longer than this between two things that he says; some wait for the kernel's clocks, for a minute or two.
const PATIENCE: Duration = Duration::from_secs(900);

/// The variable that holds an errand, as JSON.
const ERRAND: &str = "LAB_ERRAND";

/// What this process was told.
pub fn told<T: DeserializeOwned>() -> Result<T> {
    let doing = "read the errand of this process";
    let text = std::env::var(ERRAND).doing(doing);
    let text = text.map_err(|error| error.remedy("it is started by an experiment, not by hand"))?;
    serde_json::from_str(&text).doing(doing)
}

/// Says one thing to whoever started this process. An owner that is gone hears nothing.
pub fn say(what: &impl Serialize) -> Result<()> {
    acknowledge(serde_json::to_string(what).doing("say something to the owner")?);
    Ok(())
}

/// From now on this process ends with its owner, who holds the other end of standard input: the kernel closes it when the owner is
/// gone.
pub fn end_with_the_owner() {
    std::thread::spawn(|| {
        wait_for_the_owner();
        std::process::exit(1);
    });
}

/// Does nothing until the owner is gone.
pub fn wait_for_the_owner() {
    let mut byte = [0];
    while std::io::stdin().read(&mut byte).is_ok_and(|read| read > 0) {}
}

/// The program with its errand, for whoever starts it in a way of his own, as a [`Crash`](crate::crash::Crash) does.
pub fn command(name: &str, errand: &impl Serialize) -> Result<Command> {
    let text = serde_json::to_string(errand).doing(format!("write an errand for lab {name}"))?;
    let mut command = Command::new(lab_program()?);
    command.arg(name).env(ERRAND, text);
    Ok(command)
}

/// A process with an errand, seen from its owner; killed when it is dropped.
#[derive(Debug)]
pub struct Running {
    name: String,
    process: Child,
    // Held open: see `end_with_the_owner`.
    _alive: Option<ChildStdin>,
    said: Receiver<String>,
    err: Option<ChildStderr>,
}

impl Running {
    /// Starts `lab NAME` with this errand.
    pub fn start(name: &str, errand: &impl Serialize) -> Result<Self> {
        Self::of(name, command(name, errand)?)
    }

    fn of(name: &str, mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().doing(format!("start lab {name}"))?;
        let (alive, err) = (process.stdin.take(), process.stderr.take());
        let out = process.stdout.take().ok_or_else(|| Error::new(format!("start lab {name}"), "it has no output"))?;
        let (heard, said) = channel();
        // Reads on whatever the owner does: a full pipe would stop the process.
        std::thread::spawn(move || {
            let lines = BufReader::new(out).lines().map_while(std::io::Result::ok);
            lines.filter_map(|line| acknowledged_in(&line)).try_for_each(|what| heard.send(what))
        });
        Ok(Self { name: name.to_string(), process, _alive: alive, said, err })
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits for the next thing that it says.
    pub fn hear<T: DeserializeOwned>(&mut self) -> Result<T> {
        let doing = format!("hear lab {}", self.name);
        match self.said.recv_timeout(PATIENCE) {
            Ok(said) => serde_json::from_str(&said).doing(doing).map_err(|error| error.at(said)),
            Err(RecvTimeoutError::Timeout) => Err(Error::new(doing, "it has said nothing for a quarter of an hour")),
            Err(RecvTimeoutError::Disconnected) => Err(self.ended(doing)),
        }
    }

    /// Waits until it has ended well, and takes the last thing that it said.
    pub fn finish<T: DeserializeOwned>(mut self) -> Result<T> {
        let doing = format!("hear lab {}", self.name);
        let last = self.said.iter().last();
        let status = self.process.wait().doing(&doing)?;
        match last.filter(|_| status.success()) {
            Some(last) => serde_json::from_str(&last).doing(doing),
            None => Err(self.ended(doing)),
        }
    }

    /// Kills it (-9), and takes all that it had said and nobody heard.
    pub fn left<T: DeserializeOwned>(mut self) -> Result<Vec<T>> {
        self.kill();
        let understood = |said: String| serde_json::from_str(&said).doing(format!("hear lab {}", self.name));
        self.said.iter().map(understood).collect()
    }

    /// Kills it (-9), and buries it.
    pub fn kill(&mut self) {
        let _ = self.process.kill(); // it may have ended by itself
        let _ = self.process.wait();
    }

    /// How it ended, and what it said at last.
    fn ended(&mut self, doing: String) -> Error {
        self.kill();
        let status = self.process.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        let mut said = String::new();
        if let Some(mut err) = self.err.take() {
            let _ = err.read_to_string(&mut said);
        }
        let last = said.lines().map(str::trim).rfind(|line| !line.is_empty() && !line.starts_with("note:"));
        Error::new(doing, last.map_or(status, |last| last.trim_start_matches("lab: ").to_string()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn script(text: &str) -> Running {
        let mut command = Command::new("sh");
        command.args(["-c", text]);
        Running::of("test", command).unwrap()
    }

    #[test]
    fn what_is_said_is_heard_in_order_whatever_is_printed_between() {
        let mut running =
            script(r#"echo noise; echo 'acknowledged: "1"'; echo; echo 'acknowledged: "[2,3]"'; exec cat"#);
        assert_eq!((running.hear::<u64>().unwrap(), running.hear::<Vec<u64>>().unwrap()), (1, vec![2, 3]));
        let pid = running.pid();
        drop(running);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "it ends with its owner");
        assert_eq!(script(r#"echo 'acknowledged: "1"'; echo 'acknowledged: "2"'"#).finish::<u64>().unwrap(), 2);
        let mut running =
            script(r#"echo 'acknowledged: "1"'; echo 'acknowledged: "2"'; echo 'acknowledged: "3"'; exec cat"#);
        assert_eq!((running.hear::<u64>().unwrap(), running.hear::<u64>().unwrap()), (1, 2));
        assert!(running.left::<u64>().unwrap().len() <= 1, "what was heard is not left");
    }

    #[test]
    fn who_ends_early_says_nothing_or_something_else_is_an_error_with_its_last_words() {
        let error = script("echo 'lab: could not enter: no room' >&2; exit 1").finish::<u64>().unwrap_err();
        assert_eq!(error.to_string(), "could not hear lab test: could not enter: no room");
        let error = script(r#"echo 'acknowledged: "1"'; exit 3"#).finish::<u64>().unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "what was said before a failure does not count: {error}");
        assert!(script("true").finish::<u64>().is_err() && script("true").hear::<u64>().is_err());
        let error = script(r#"echo 'acknowledged: "words"'; exec cat"#).hear::<u64>().unwrap_err().to_string();
        assert!(error.contains("(words)"), "{error}");
        let error = script("kill -9 $$").hear::<u64>().unwrap_err().to_string();
        assert!(error.contains("signal: 9"), "{error}");
    }
}

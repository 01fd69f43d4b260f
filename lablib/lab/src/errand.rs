//! A piece of an experiment in a process of its own: because it is killed or stopped, because its limits or its network have to be its
//! own, or because it must not share a processor's time with who measures it.
//!
//! - The process is `lab NAME`, and what it is told is its errand: one value, which both sides write down in the same type.
//! - It [`say`]s what it found, a value at a time, by the same lines that a crashed process has
//!   [acknowledged](crate::crash::acknowledge); the owner [`hear`](Running::hear)s one, or the [last](Running::finish), or what is
//!   [left](Running::left) of it. Whatever else it prints is not heard.
//! - It is killed with its owner's handle. One that may outlast its owner asks to [end with it](end_with_the_owner), however that
//!   ends. When it ends early, the owner's error repeats its last words.
//! - What it prints is read whether anybody asks or not: no pipe is ever full. Nobody is waited for without a limit.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::crash::{acknowledge, acknowledged_in};
use crate::service::lab_program;
use crate::{Doing, Error, Result};

/// Nobody is waited for longer than this between two things that he says, unless something else is said; some wait for the kernel's
/// clocks, for a minute or two.
const PATIENCE: Duration = Duration::from_secs(900);
/// How long the last words of a process that has ended are waited for, which somebody whom it has left behind may hold open.
const AFTER_THE_END: Duration = Duration::from_secs(5);

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
    /// The lines of its standard error that say something, the last one last.
    errors: Receiver<String>,
}

impl Running {
    /// Starts `lab NAME` with this errand.
    pub fn start(name: &str, errand: &impl Serialize) -> Result<Self> {
        Self::of(name, command(name, errand)?)
    }

    fn of(name: &str, mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().doing(format!("start lab {name}"))?;
        let none = || Error::new(format!("start lab {name}"), "it has no output");
        let (alive, out) = (process.stdin.take(), process.stdout.take().ok_or_else(none)?);
        let said = read(out, |line| acknowledged_in(&line));
        let errors = read(process.stderr.take().ok_or_else(none)?, |line| {
            let line = line.trim();
            (!line.is_empty() && !line.starts_with("note:")).then(|| line.trim_start_matches("lab: ").to_string())
        });
        Ok(Self { name: name.to_string(), process, _alive: alive, said, errors })
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits for the next thing that it says.
    pub fn hear<T: DeserializeOwned>(&mut self) -> Result<T> {
        self.hear_within(PATIENCE)
    }

    /// The same, for so long.
    pub fn hear_within<T: DeserializeOwned>(&mut self, patience: Duration) -> Result<T> {
        let doing = format!("hear lab {}", self.name);
        match self.said.recv_timeout(patience) {
            Ok(said) => serde_json::from_str(&said).doing(doing).map_err(|error| error.at(said)),
            Err(RecvTimeoutError::Timeout) => Err(mute(doing, patience)),
            Err(RecvTimeoutError::Disconnected) => Err(self.ended(doing)),
        }
    }

    /// Waits until it has ended well, and takes the last thing that it said.
    pub fn finish<T: DeserializeOwned>(mut self) -> Result<T> {
        let doing = format!("hear lab {}", self.name);
        let mut last = None;
        loop {
            match self.said.recv_timeout(PATIENCE) {
                Ok(said) => last = Some(said),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => return Err(mute(doing, PATIENCE)),
            }
        }
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
        left_in(&self.said).map(understood).collect()
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
        Error::new(doing, left_in(&self.errors).last().unwrap_or(status))
    }
}

/// Reads on whatever the owner does, because a full pipe would stop the process, and passes on what is worth it.
fn read(
    pipe: impl Read + Send + 'static,
    worth: impl Fn(String) -> Option<String> + Send + 'static,
) -> Receiver<String> {
    let (heard, said) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(std::io::Result::ok) {
            if let Some(said) = worth(String::from_utf8_lossy(&line).into_owned()) {
                // An owner who is gone hears nothing, and the pipe is emptied all the same.
                let _ = heard.send(said);
            }
        }
    });
    said
}

/// What a process that has ended has said and nobody heard.
fn left_in(said: &Receiver<String>) -> impl Iterator<Item = String> + '_ {
    std::iter::from_fn(|| said.recv_timeout(AFTER_THE_END).ok())
}

fn mute(doing: String, patience: Duration) -> Error {
    Error::new(doing, format!("it has said nothing for {} s", patience.as_secs_f64()))
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
    fn a_process_that_complains_at_length_is_heard_all_the_same() {
        let complains =
            r#"i=0; while [ $i -lt 3000 ]; do echo 'a complaint of some forty letters, again' >&2; i=$((i+1)); done; "#;
        let good = script(&format!(r#"{complains} echo 'acknowledged: "7"'"#));
        assert_eq!(good.finish::<u64>().unwrap(), 7);
        let mut good = script(&format!(r#"{complains} echo 'acknowledged: "7"'; exec cat"#));
        assert_eq!(good.hear_within::<u64>(Duration::from_secs(20)).unwrap(), 7);
        let error = good.hear_within::<u64>(Duration::from_millis(10)).unwrap_err();
        assert!(error.to_string().contains("nothing for 0.01 s"), "{error}");
        let bad = script(&format!("{complains} echo 'lab: the last word' >&2; exit 1")).finish::<u64>().unwrap_err();
        assert_eq!(bad.cause(), "the last word");
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

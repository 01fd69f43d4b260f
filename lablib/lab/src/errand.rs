//! A piece of an experiment in a process of its own: because it is killed or stopped, because its limits or its network have to be its
//! own, or because it must not share a processor's time with who measures it.
//!
//! - The process is `lab NAME`, and what it is told is its errand: one value, which both sides write down in the same type.
//! - It [`say`]s what it found, a value at a time, by the same lines that a crashed process has
//!   [acknowledged](crate::crash::acknowledge); the owner [`hear`](Running::hear)s one, or the [last](Running::finish), or what is
//!   [left](Running::left) of it. Whatever else it prints is not heard.
//! - One that lives longer [`answer`]s what its owner [`ask`](Running::ask)s, a question at a time, each with its answer or its error.
//!   An owner that has waited in vain kills it, so that no late answer is taken for the next one.
//! - It is killed with its owner's handle. One that may outlast its owner asks to [end with it](end_with_the_owner), however that
//!   ends; one that answers does so by itself. When it ends early, the owner's error repeats its last words.
//! - What it prints is read whether anybody asks or not: no pipe is ever full. Nobody is waited for without a limit.
//! - It runs as its owner does, or [as another user](Running::start_as); in the owner's network, or in one
//!   [of its own](crate::Network::inside).

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::crash::{acknowledge, acknowledged_in};
use crate::service::lab_program;
use crate::{Doing, Error, Result};

/// Nobody is waited for longer than this between two things that he says, unless something else is said; some wait for the kernel's
/// clocks, for a minute or two.
const PATIENCE: Duration = Duration::from_secs(900);
/// How long the last words of a process that has ended are waited for, which somebody whom it has left behind may hold open.
const AFTER_THE_END: Duration = Duration::from_secs(5);

/// Bytes of the longest question: a pipe that nobody reads takes as many at once.
const LONGEST_QUESTION: usize = 1 << 15;

/// The variable that holds an errand, as JSON.
const ERRAND: &str = "LAB_ERRAND";

/// What comes back to a question.
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Answer(Value),
    Failed { operation: String, cause: String },
}

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

/// Answers one question after the other, until the owner is gone; then this process ends, whatever its threads wait for. What cannot be
/// answered is an error of the owner's, and the next question comes all the same.
///
/// Questions come in the thread that calls this. An answer should not take long: nothing notices meanwhile that the owner is gone.
pub fn answer<Q: DeserializeOwned>(mut answer: impl FnMut(Q) -> Result<Value>) -> Result<()> {
    for question in std::io::stdin().lock().lines() {
        let question = question.doing("read a question")?;
        let answered = serde_json::from_str(&question).doing("understand a question").and_then(&mut answer);
        say(&match answered {
            Ok(value) => Reply::Answer(value),
            Err(error) => Reply::Failed { operation: error.operation().into(), cause: error.cause().into() },
        })?;
    }
    std::process::exit(0)
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
    with_errand(Command::new(lab_program()?), name, errand)
}

fn with_errand(mut command: Command, name: &str, errand: &impl Serialize) -> Result<Command> {
    let text = serde_json::to_string(errand).doing(format!("write an errand for lab {name}"))?;
    command.arg(name).env(ERRAND, text);
    Ok(command)
}

/// A program as another user, who may not be able to walk the path to it, but can execute what is open already.
fn as_user(user: u32, program: &File) -> Command {
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command.uid(user);
    command
}

/// A process with an errand, seen from its owner; killed when it is dropped.
#[derive(Debug)]
pub struct Running {
    name: String,
    process: Child,
    /// Where questions go; held open also where none are asked: see `end_with_the_owner`.
    questions: ChildStdin,
    said: Receiver<String>,
    /// The lines of its standard error that say something, the last one last.
    errors: Receiver<String>,
}

impl Running {
    /// Starts `lab NAME` with this errand.
    pub fn start(name: &str, errand: &impl Serialize) -> Result<Self> {
        Self::of(name, command(name, errand)?)
    }

    /// The same as another user, of whom nothing is known here but the number; only root can.
    pub fn start_as(user: u32, name: &str, errand: &impl Serialize) -> Result<Self> {
        let program = lab_program().and_then(|path| open(&path))?;
        Self::of(name, with_errand(as_user(user, &program), name, errand)?)
    }

    fn of(name: &str, mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().doing(format!("start lab {name}"))?;
        let none = || Error::new(format!("start lab {name}"), "it has no output");
        let questions = process.stdin.take().ok_or_else(none)?;
        let said = read(process.stdout.take().ok_or_else(none)?, |line| acknowledged_in(&line));
        let errors = read(process.stderr.take().ok_or_else(none)?, |line| {
            let line = line.trim();
            (!line.is_empty() && !line.starts_with("note:")).then(|| line.trim_start_matches("lab: ").to_string())
        });
        Ok(Self { name: name.to_string(), process, questions, said, errors })
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

    /// Asks a process that [`answer`]s, and waits for its answer; what it could not do is an error here.
    pub fn ask<A: DeserializeOwned>(&mut self, question: &impl Serialize) -> Result<A> {
        self.ask_within(PATIENCE, question)
    }

    /// The same, for so long.
    pub fn ask_within<A: DeserializeOwned>(&mut self, patience: Duration, question: &impl Serialize) -> Result<A> {
        let doing = format!("ask lab {}", self.name);
        let mut line = serde_json::to_string(question).doing(&*doing)?;
        line.push('\n');
        if line.len() > LONGEST_QUESTION {
            return Err(Error::new(doing, format!("a question of {} bytes is too long", line.len())));
        }
        // Where it is gone, what it said before is no answer.
        let asked = self.questions.write_all(line.as_bytes()).is_ok();
        match asked.then(|| self.said.recv_timeout(patience)) {
            Some(Ok(said)) => {
                match serde_json::from_str::<Reply>(&said).doing(&*doing).map_err(|error| error.at(said))? {
                    Reply::Answer(value) => serde_json::from_value(value).doing(doing),
                    Reply::Failed { operation, cause } => Err(Error::new(operation, cause)),
                }
            }
            Some(Err(RecvTimeoutError::Timeout)) => {
                self.kill();
                Err(mute(doing, patience))
            }
            Some(Err(RecvTimeoutError::Disconnected)) | None => Err(self.gone(doing)),
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

    /// Kills it (-9), and does not wait for its end: so that many end at once.
    pub fn begin_to_kill(&mut self) {
        let _ = self.process.kill(); // it may have ended by itself
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Kills it (-9), and waits for its end.
    pub fn kill(&mut self) {
        self.begin_to_kill();
        let _ = self.process.wait();
    }

    /// What it said at last, or how it ended.
    fn ended(&mut self, doing: String) -> Error {
        let status = self.status();
        Error::new(doing, left_in(&self.errors).last().unwrap_or(status))
    }

    /// The same of one that was to live on: how it ended, and what it said at last.
    fn gone(&mut self, doing: String) -> Error {
        let status = self.status();
        let said = left_in(&self.errors).last().map_or(String::new(), |said| format!(": {said}"));
        Error::new(doing, format!("it is gone ({status}){said}"))
    }

    fn status(&mut self) -> String {
        self.kill();
        self.process.wait().map_or_else(|error| error.to_string(), |status| status.to_string())
    }
}

fn open(program: &Path) -> Result<File> {
    File::open(program).doing(format!("open {}", program.display()))
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

    /// A process of this very test program, which answers questions.
    fn answering() -> Running {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["errand::tests::answers", "--exact", "--ignored", "--nocapture"]).env(ERRAND, "\"answer\"");
        Running::of("test", command).unwrap()
    }

    #[derive(Serialize, Deserialize)]
    enum Question {
        Double(f64),
        Fail,
        Exit,
        Wait,
    }

    #[test]
    #[ignore = "a role: other tests start it in a process of its own"]
    fn answers() {
        if told::<String>().is_ok_and(|told| told == "answer") {
            answer(|question: Question| match question {
                Question::Double(number) => Ok((2.0 * number).into()),
                Question::Fail => Err(Error::new("do as told", "it is \"too\" hard\nby far")),
                Question::Exit => {
                    eprintln!("lab: the last word");
                    std::process::exit(3)
                }
                Question::Wait => {
                    std::thread::sleep(Duration::from_secs(60));
                    Ok(Value::Null)
                }
            })
            .unwrap();
        }
    }

    #[test]
    fn each_question_has_its_own_answer_or_its_error() {
        let mut running = answering();
        for number in [1.0, 0.1, -7e300] {
            assert_eq!(running.ask::<f64>(&Question::Double(number)).unwrap(), 2.0 * number);
        }
        let error = running.ask::<()>(&Question::Fail).unwrap_err();
        assert_eq!((error.operation(), error.cause()), ("do as told", "it is \"too\" hard\nby far"));
        let error = running.ask::<()>(&"nobody knows what").unwrap_err();
        assert_eq!(error.operation(), "understand a question");
        let error = running.ask::<()>(&"x".repeat(LONGEST_QUESTION)).unwrap_err();
        assert!(error.cause().contains("too long"), "{error}");
        assert!(running.ask::<String>(&Question::Double(1.0)).is_err(), "an answer of another kind is none");
        assert_eq!(running.ask::<f64>(&Question::Double(21.0)).unwrap(), 42.0, "and it answers on");
    }

    #[test]
    fn who_ends_instead_of_answering_is_an_error_with_its_last_words() {
        let mut running = answering();
        let error = running.ask::<()>(&Question::Exit).unwrap_err().to_string();
        assert_eq!(error, "could not ask lab test: it is gone (exit status: 3): the last word");
        assert!(running.ask::<f64>(&Question::Double(1.0)).unwrap_err().cause().starts_with("it is gone"));
        let mut running = answering();
        running.begin_to_kill();
        let error = running.ask::<f64>(&Question::Double(1.0)).unwrap_err().to_string();
        assert!(error.contains("it is gone (signal: 9"), "{error}");
        assert!(!running.is_running());
        let error = script(r#"echo 'acknowledged: "1"'; exec cat"#).ask::<u64>(&()).unwrap_err().to_string();
        assert!(error.contains("could not ask lab test (1)"), "who only says things answers nothing: {error}");
    }

    #[test]
    fn a_late_answer_is_not_taken_for_the_next_one() {
        let mut running = answering();
        assert_eq!(running.ask::<f64>(&Question::Double(1.0)).unwrap(), 2.0);
        let error = running.ask_within::<()>(Duration::from_millis(30), &Question::Wait).unwrap_err();
        assert!(error.cause().contains("nothing for 0.03 s"), "{error}");
        assert!(!running.is_running());
        assert!(running.ask::<f64>(&Question::Double(1.0)).is_err());
    }

    #[test]
    fn who_answers_ends_when_nobody_can_ask_any_more() {
        let mut running = answering();
        assert_eq!(running.ask::<f64>(&Question::Double(1.0)).unwrap(), 2.0);
        assert!(running.is_running());
        // As the kernel does when an owner is killed: its end of the pipe is closed.
        let nowhere = Command::new("true").stdin(Stdio::piped()).spawn().unwrap().stdin.take().unwrap();
        drop(std::mem::replace(&mut running.questions, nowhere));
        let began = std::time::Instant::now();
        while running.is_running() && began.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(running.process.try_wait().unwrap().and_then(|status| status.code()), Some(0));
    }

    #[test]
    fn another_user_has_its_own_rights_and_is_heard_all_the_same() {
        use std::os::unix::fs::MetadataExt;
        if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
            return; // only root can
        }
        let shell = open(Path::new("/bin/sh")).unwrap();
        let mut command = as_user(54_321, &shell);
        command.args(["-c", r#"echo "acknowledged: \"$(id -u)\""; exec cat"#]);
        assert_eq!(Running::of("test", command).unwrap().hear::<u32>().unwrap(), 54_321);
        assert!(open(Path::new("/nowhere")).is_err());
    }
}

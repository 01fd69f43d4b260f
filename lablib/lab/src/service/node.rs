//! One server: what can be done to any of them, whatever it serves.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::guardian::{Guardian, Process};
use super::port::Ports;
use super::protocol::{Command, Signal};
use super::surroundings;
use crate::{Doing, Error, OrFail, Result};

/// How often another port is tried when somebody takes the chosen one before the server does.
const PORT_ATTEMPTS: usize = 5;
/// How long a server gets to end by itself after a polite request.
const POLITE: Duration = Duration::from_secs(15);
/// How long several servers may take that are started at once, the making of their first data included.
pub(super) const TO_START: Duration = Duration::from_secs(300);
/// How long one attempt of a client may take while a server starts.
const ATTEMPT: Duration = Duration::from_secs(2);

/// What a kind of server is made of.
pub(super) trait Recipe: fmt::Debug + Send + Sync + 'static {
    /// "MariaDB", as a reader calls it.
    fn kind(&self) -> &'static str;
    /// How many ports it listens on; the first is for clients.
    fn ports(&self) -> usize {
        1
    }
    /// Fills the server's empty directory and says how to start it there. Its data stay where they are at a restart.
    fn lay_out(&self, directory: &Path, ports: &[u16]) -> Result<Launch>;
    /// What a client connects with.
    fn url(&self, ports: &[u16]) -> String;
    /// Is a client of it for once: the version that it says it has, or why it does not serve yet.
    fn serves(&self, ports: &[u16], patience: Duration) -> Result<String, String>;
    /// How long a start may take on a busy machine.
    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }
}

/// How to start a server.
#[derive(Debug, Clone)]
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) args: Vec<String>,
}

/// A running server: the lab's own, gone when this handle or the process is gone, or one of yours, which the lab leaves alone.
///
/// What changes its state comes twice: `kill()` for a notebook's cell, which fails the cell when it doesn't work, and
/// `try_kill()` for code that wants the error.
///
/// ```
/// use lab::service;
///
/// let redis = service::redis();
/// redis.kill();
/// assert!(!redis.is_running());
/// redis.restart();
/// println!("{} serves again after {:?}", redis.name(), redis.ready_in());
/// ```
pub struct Node {
    name: String,
    kind: &'static str,
    url: String,
    address: String,
    banner: String,
    backing: Backing,
}

enum Backing {
    Private(Private),
    /// A server of the user's, named by this environment variable.
    Own {
        variable: &'static str,
        ready_in: Duration,
    },
}

/// The parts of a server of the lab's own, in the order in which they go.
struct Private {
    run: Mutex<Run>,
    ports: Ports,
    launch: Launch,
    recipe: Box<dyn Recipe>,
    guardian: Arc<Guardian>,
    directory: Directory,
}

struct Run {
    process: Process,
    paused: bool,
    ready_in: Duration,
}

/// A server's directory; gone with its handle.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Why a server did not come to serve.
enum NotServing {
    /// It ended by itself.
    Ended(String),
    /// It runs, but does not answer; this is what its client last saw.
    Silent(String),
    /// It could not even be asked.
    Failed(Error),
}

impl From<Error> for NotServing {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Node {
    /// Starts a server of the lab's own.
    pub(super) fn start(recipe: impl Recipe, base: &str) -> Result<Self> {
        let asked = Instant::now();
        let guardian = Guardian::current()?;
        let name = unique(base);
        let kind = recipe.kind();
        super::use_of(kind);
        let recipe: Box<dyn Recipe> = Box::new(recipe);
        let mut attempt = 0;
        loop {
            attempt += 1;
            let ports = Ports::free(recipe.ports())?;
            let directory = Directory(guardian.run().join(&name));
            fs::create_dir(&directory.0).doing(format!("make {}", directory.0.display()))?;
            let launch = recipe.lay_out(&directory.0, &ports).map_err(|error| error.at(&name))?;
            let process = launch_in(&guardian, &launch, &directory.0).map_err(|error| started(&error, kind, &name))?;
            match until_it_serves(&process, recipe.as_ref(), &ports) {
                Ok(banner) => {
                    let (url, address) = (recipe.url(&ports), format!("127.0.0.1:{}", ports[0]));
                    let run = Mutex::new(Run { process, paused: false, ready_in: asked.elapsed() });
                    let private = Private { run, ports, launch, recipe, guardian, directory };
                    return Ok(Self { name, kind, url, address, banner, backing: Backing::Private(private) });
                }
                Err(failure) => {
                    drop(process);
                    // The port was free when it was chosen, so somebody was faster.
                    let taken = port_was_taken(&failure, &ports, &directory.0, 0);
                    if !taken || attempt == PORT_ATTEMPTS {
                        return Err(explain(failure, kind, &name, &directory.0, true));
                    }
                }
            }
        }
    }

    /// A server of the user's own, reached by `serves`.
    pub(super) fn own(
        kind: &'static str,
        variable: &'static str,
        url: &str,
        address: String,
        serves: impl FnOnce(Duration) -> Result<String, String>,
    ) -> Result<Self> {
        let asked = Instant::now();
        let banner = serves(Duration::from_secs(10)).map_err(|cause| {
            Error::new(format!("reach your own {kind}"), cause)
                .at(&address)
                .remedy(format!("start it, correct {variable}, or unset {variable} and the lab starts one itself"))
        })?;
        super::use_of(kind);
        let backing = Backing::Own { variable, ready_in: asked.elapsed() };
        Ok(Self { name: format!("your {kind}"), kind, url: url.to_owned(), address, banner, backing })
    }

    /// Its name in this lab: "redis-1".
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a client connects with, password included.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// "127.0.0.1:21345".
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The port that clients connect to.
    pub fn port(&self) -> u16 {
        self.address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or_default()
    }

    /// Its process; none for a server of yours. A restart makes it another one.
    pub fn pid(&self) -> Option<u32> {
        match &self.backing {
            Backing::Private(private) => Some(private.run().process.pid()),
            Backing::Own { .. } => None,
        }
    }

    /// What it said about its version when it was started.
    pub(super) fn banner(&self) -> &str {
        &self.banner
    }

    /// Whether the lab started it, and so may do to it what it likes.
    pub fn is_private(&self) -> bool {
        matches!(self.backing, Backing::Private(_))
    }

    /// Whether its process lives, paused or not; a server of yours is taken to.
    pub fn is_running(&self) -> bool {
        match &self.backing {
            Backing::Private(private) => matches!(private.run().process.end(), Ok(None)),
            Backing::Own { .. } => true,
        }
    }

    /// Whether it is paused.
    pub fn is_paused(&self) -> bool {
        matches!(&self.backing, Backing::Private(private) if private.run().paused) && self.is_running()
    }

    /// How long its last start took: from the request until it had served a first client.
    pub fn ready_in(&self) -> Duration {
        match &self.backing {
            Backing::Private(private) => private.run().ready_in,
            Backing::Own { ready_in, .. } => *ready_in,
        }
    }

    /// The last lines of its log; empty for a server of yours.
    pub fn log_tail(&self, lines: usize) -> String {
        self.log_path().map(|path| tail(&path, lines)).unwrap_or_default()
    }

    /// Its log's file; none for a server of yours.
    pub fn log_path(&self) -> Option<PathBuf> {
        match &self.backing {
            Backing::Private(private) => Some(log_in(&private.directory.0)),
            Backing::Own { .. } => None,
        }
    }

    /// Kills it (SIGKILL) and returns when it is dead. Killing a dead server is no failure.
    #[track_caller]
    pub fn kill(&self) {
        self.try_kill().or_fail();
    }

    /// As [`kill`](Self::kill).
    pub fn try_kill(&self) -> Result<()> {
        let mut run = self.private("kill")?.run();
        run.paused = false;
        run.process.kill().map(drop).map_err(|error| error.at(&self.name))
    }

    /// Stops it in its tracks (SIGSTOP): it answers nobody, and its connections stay open. Returns when it stands still.
    #[track_caller]
    pub fn pause(&self) {
        self.try_pause().or_fail();
    }

    /// As [`pause`](Self::pause).
    pub fn try_pause(&self) -> Result<()> {
        self.signal("pause", Signal::Pause, true)
    }

    /// Lets it go on after a [`pause`](Self::pause), not knowing that time has passed.
    #[track_caller]
    pub fn resume(&self) {
        self.try_resume().or_fail();
    }

    /// As [`resume`](Self::resume).
    pub fn try_resume(&self) -> Result<()> {
        self.signal("resume", Signal::Resume, false)
    }

    /// Asks it to end (SIGTERM) and waits until it has, writing what it wants to write; kills it if it doesn't within seconds.
    #[track_caller]
    pub fn stop(&self) {
        self.try_stop().or_fail();
    }

    /// As [`stop`](Self::stop).
    pub fn try_stop(&self) -> Result<()> {
        let mut run = self.private("stop")?.run();
        run.paused = false;
        stop_politely(&run.process).map_err(|error| error.at(&self.name))
    }

    /// Starts it again with the same port and the same data, after a [`stop`](Self::stop) if it runs; returns when it serves.
    #[track_caller]
    pub fn restart(&self) {
        self.try_restart().or_fail();
    }

    /// As [`restart`](Self::restart).
    pub fn try_restart(&self) -> Result<()> {
        let private = self.private("restart")?;
        let mut run = private.run();
        if run.process.end()?.is_none() {
            stop_politely(&run.process).map_err(|error| error.at(&self.name))?;
        }
        run.paused = false;
        let asked = Instant::now();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let written = fs::metadata(log_in(&private.directory.0)).map_or(0, |log| log.len());
            run.process = launch_in(&private.guardian, &private.launch, &private.directory.0)
                .map_err(|error| started(&error, self.kind, &self.name))?;
            match until_it_serves(&run.process, private.recipe.as_ref(), &private.ports) {
                Ok(_) => {
                    run.ready_in = asked.elapsed();
                    return Ok(());
                }
                Err(failure) => {
                    let _ = run.process.kill();
                    // The port is part of the promise; another lab that only tried it out gives it back at once.
                    let taken = port_was_taken(&failure, &private.ports, &private.directory.0, written);
                    let crashed = crashed(&failure) && attempt == 1;
                    if crashed {
                        eprintln!("{} crashed while it recovered, and is started once more", self.name);
                    }
                    if !(taken || crashed) || attempt == PORT_ATTEMPTS {
                        return Err(explain(failure, self.kind, &self.name, &private.directory.0, false));
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }

    fn signal(&self, operation: &str, signal: Signal, paused: bool) -> Result<()> {
        let mut run = self.private(operation)?.run();
        run.process.signal(signal).map_err(|error| Error::new(operation, error.cause()).at(&self.name))?;
        run.paused = paused;
        Ok(())
    }

    fn private(&self, operation: &str) -> Result<&Private> {
        match &self.backing {
            Backing::Private(private) => Ok(private),
            Backing::Own { variable, .. } => {
                let cause = format!("this is your own server (from {variable}), which the lab leaves alone");
                let remedy = format!("unset {variable}, and the lab starts one that it may {operation}");
                Err(Error::new(operation, cause).at(&self.address).remedy(remedy))
            }
        }
    }
}

/// Without the password, so that it may stand in a report.
impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} \"{}\" on {}, ready in {:.2} s",
            self.kind,
            self.name,
            self.address,
            self.ready_in().as_secs_f64()
        )
    }
}

impl Private {
    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// "redis-1", "redis-2", ...: names are directories too, so a process never uses one twice.
fn unique(base: &str) -> String {
    static USED: Mutex<Option<HashMap<String, usize>>> = Mutex::new(None);
    let mut used = USED.lock().unwrap_or_else(PoisonError::into_inner);
    let count = used.get_or_insert_default().entry(base.to_owned()).or_default();
    *count += 1;
    format!("{base}-{count}")
}

pub(super) fn log_in(directory: &Path) -> PathBuf {
    directory.join("server.log")
}

/// Starts a program in a server's directory.
pub(super) fn launch_in(guardian: &Arc<Guardian>, launch: &Launch, directory: &Path) -> Result<Process> {
    guardian.start_program(Command {
        program: launch.program.clone(),
        args: launch.args.clone(),
        env: surroundings::plain_environment(directory),
        cwd: directory.to_path_buf(),
        log: log_in(directory),
    })
}

/// Asks a program to end, paused or not, and kills it if it doesn't.
pub(super) fn stop_politely(process: &Process) -> Result<()> {
    if process.end()?.is_some() {
        return Ok(());
    }
    // Either signal may find it just gone, which is what was wanted.
    let _ = process.signal(Signal::Terminate);
    let _ = process.signal(Signal::Resume);
    if process.wait(POLITE)?.is_none() {
        process.kill()?;
    }
    Ok(())
}

fn until_it_serves(process: &Process, recipe: &dyn Recipe, ports: &[u16]) -> Result<String, NotServing> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        let answer = recipe.serves(ports, ATTEMPT);
        // Asked in this order: had our server ended, it would have been another's answer.
        if let Some(end) = process.end()? {
            return Err(NotServing::Ended(end.how));
        }
        match answer {
            Ok(banner) => return Ok(banner),
            Err(cause) if begun.elapsed() > recipe.patience() => return Err(NotServing::Silent(cause)),
            Err(_) => std::thread::sleep(pause),
        }
        pause = (pause + pause / 8).min(Duration::from_millis(25));
    }
}

/// Whether a server ended because of its port: somebody listens there, or did when the server wrote to its log after `written`.
fn port_was_taken(failure: &NotServing, ports: &Ports, directory: &Path, written: u64) -> bool {
    let log = fs::read(log_in(directory)).unwrap_or_default();
    let news = log.get(usize::try_from(written).unwrap_or_default()..).unwrap_or_default();
    matches!(failure, NotServing::Ended(_))
        && (!ports.are_free() || String::from_utf8_lossy(news).contains("Address already in use"))
}

/// Whether a server gave up by itself: MariaDB 10.11 fails an assertion of its own once in a while when it recovers from `kill -9`
/// (`trx0purge.cc`), and recovers the next time. What it has acknowledged is there all the same, or the experiment will say so.
fn crashed(failure: &NotServing) -> bool {
    matches!(failure, NotServing::Ended(how) if how.contains("SIGABRT") || how.contains("SIGSEGV"))
}

fn started(error: &Error, kind: &str, name: &str) -> Error {
    Error::new(format!("start {kind}"), error.cause()).at(name)
}

/// One sentence, and the end of the log, which is kept where the end of this process does not remove it.
fn explain(failure: NotServing, kind: &str, name: &str, directory: &Path, start: bool) -> Error {
    let operation = format!("{} {kind}", if start { "start" } else { "restart" });
    let cause = match failure {
        NotServing::Ended(how) => format!("it ended with {how} before it served anybody"),
        NotServing::Silent(cause) => format!("it runs, but does not serve ({cause})"),
        NotServing::Failed(error) => return error.at(name),
    };
    let log = log_in(directory);
    let lines = tail(&log, 15);
    let kept = keep(&log, name).unwrap_or(log);
    let cause = match lines.is_empty() {
        true => format!("{cause}, and wrote nothing to its log"),
        false => format!("{cause}; its log ends with\n{lines}\n"),
    };
    Error::new(operation, cause).at(name).remedy(format!("the whole log is {}", kept.display()))
}

/// Copies a log to where it outlives its server and this process.
pub(super) fn keep(log: &Path, name: &str) -> std::io::Result<PathBuf> {
    let folder = surroundings::lab_directory().join("failed");
    fs::create_dir_all(&folder)?;
    let kept = folder.join(format!("{name}-{}.log", std::process::id()));
    fs::copy(log, &kept)?;
    Ok(kept)
}

/// The last lines of a file.
pub(super) fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A Redis on whose port somebody else listens before it can, as many times as told.
    #[derive(Debug, Default)]
    struct Robbed {
        times: usize,
        attempts: Arc<AtomicUsize>,
        thieves: Mutex<Vec<TcpListener>>,
    }

    impl Recipe for Robbed {
        fn kind(&self) -> &'static str {
            "Redis"
        }

        fn lay_out(&self, _: &Path, ports: &[u16]) -> Result<Launch> {
            if self.attempts.fetch_add(1, Ordering::SeqCst) < self.times {
                self.thieves.lock().unwrap().push(TcpListener::bind(("127.0.0.1", ports[0])).unwrap());
            }
            let program =
                surroundings::find_program("redis-server").unwrap_or(surroundings::cache().join("bin/redis-server"));
            let args =
                ["--port", &ports[0].to_string(), "--bind", "127.0.0.1", "--save", ""].map(str::to_owned).to_vec();
            Ok(Launch { program, args })
        }

        fn url(&self, ports: &[u16]) -> String {
            format!("redis://127.0.0.1:{}/", ports[0])
        }

        fn serves(&self, ports: &[u16], _: Duration) -> Result<String, String> {
            let attempt = || -> std::io::Result<bool> {
                let mut stream = TcpStream::connect(("127.0.0.1", ports[0]))?;
                stream.set_read_timeout(Some(Duration::from_millis(100)))?;
                stream.write_all(b"PING\r\n")?;
                let mut answer = [0; 5];
                stream.read_exact(&mut answer)?;
                Ok(&answer == b"+PONG")
            };
            match attempt() {
                Ok(true) => Ok("PONG".into()),
                other => Err(format!("{other:?}")),
            }
        }
    }

    #[test]
    fn a_port_that_is_taken_in_between_is_replaced_by_another() {
        let attempts = Arc::new(AtomicUsize::new(0));
        let node =
            Node::start(Robbed { times: 2, attempts: Arc::clone(&attempts), ..Robbed::default() }, "robbed").unwrap();
        assert_eq!(attempts.load(Ordering::SeqCst), 3);
        assert!(node.is_running() && node.port() != 0);
    }

    #[test]
    fn a_thief_of_every_port_is_reported_with_the_servers_own_words() {
        let error = Node::start(Robbed { times: usize::MAX, ..Robbed::default() }, "hopeless").unwrap_err().to_string();
        assert!(error.contains("Address already in use") && error.contains("hopeless-"), "{error}");
        fs::remove_file(error.rsplit("the whole log is ").next().unwrap()).unwrap();
    }

    #[test]
    fn a_restart_waits_for_its_port_a_little_and_then_says_who_is_to_blame() {
        let node = Node::start(Robbed::default(), "late").unwrap();
        node.kill();
        let thief = TcpListener::bind(node.address()).unwrap();
        let error = node.try_restart().unwrap_err().to_string();
        assert!(
            error.starts_with("could not restart Redis (late-") && error.contains("Address already in use"),
            "{error}"
        );
        assert!(!node.is_running());
        drop(thief);
        node.restart();
        assert!(node.is_running());
        let thief = {
            node.kill();
            TcpListener::bind(node.address()).unwrap()
        };
        let waiting = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(150));
            drop(thief);
        });
        node.restart();
        waiting.join().unwrap();
        fs::remove_file(error.rsplit("the whole log is ").next().unwrap()).unwrap();
    }

    /// A Redis that gives up in some of its starts, the first of which is 0.
    #[derive(Debug)]
    struct Frail {
        redis: Robbed,
        gives_up_in: &'static str,
    }

    impl Recipe for Frail {
        fn kind(&self) -> &'static str {
            self.redis.kind()
        }

        fn lay_out(&self, directory: &Path, ports: &[u16]) -> Result<Launch> {
            let Launch { program, args } = self.redis.lay_out(directory, ports)?;
            let starts = directory.join("starts");
            let script = format!(
                "n=$(cat {0} 2>/dev/null || echo 0); echo $((n + 1)) > {0}\n\
                 case {1} in *$n*) kill -ABRT $$;; esac\nexec {2} \"$@\"",
                starts.display(),
                self.gives_up_in,
                program.display()
            );
            let args = ["-c".to_owned(), script, "sh".into()].into_iter().chain(args).collect();
            Ok(Launch { program: "/bin/sh".into(), args })
        }

        fn url(&self, ports: &[u16]) -> String {
            self.redis.url(ports)
        }

        fn serves(&self, ports: &[u16], patience: Duration) -> Result<String, String> {
            self.redis.serves(ports, patience)
        }
    }

    #[test]
    fn a_server_that_gives_up_while_it_recovers_is_started_once_more_and_not_for_ever() {
        let frail = |gives_up_in| Frail { redis: Robbed::default(), gives_up_in };
        let node = Node::start(frail("1"), "frail").unwrap();
        node.kill();
        node.restart();
        assert!(node.is_running());
        let node = Node::start(frail("123"), "hopeless-frail").unwrap();
        node.kill();
        let error = node.try_restart().unwrap_err().to_string();
        assert!(error.starts_with("could not restart Redis (hopeless-frail-") && error.contains("SIGABRT"), "{error}");
        fs::remove_file(error.rsplit("the whole log is ").next().unwrap()).unwrap();
        node.restart();
        assert!(node.is_running(), "the fourth start is none of those");
    }

    #[test]
    fn the_end_of_a_log_is_its_last_lines() {
        let path = std::env::temp_dir().join(format!("lab-tail-{}", std::process::id()));
        fs::write(&path, "one\ntwo\nthree\n").unwrap();
        assert_eq!(tail(&path, 2), "two\nthree");
        assert_eq!(tail(&path, 9), "one\ntwo\nthree");
        fs::remove_file(&path).unwrap();
        assert_eq!(tail(&path, 2), "");
    }
}

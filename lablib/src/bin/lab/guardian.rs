//! `lab guardian`: starts the servers of one lab and ends them when the lab ends, however it ends.
//!
//! - The owner holds the other end of standard input. The kernel closes it when the owner dies, `kill -9` included; the
//!   guardian then kills every server, waits for them, and removes the run's directory.
//! - Servers are children of the guardian, so there is no moment in which one runs unknown to it, and no process id
//!   that it holds can come to mean another process before it has seen the end of this one.
//! - Should the guardian itself be killed, the kernel kills its servers (the parent-death signal: reliable here, because
//!   the one thread that starts them is the main thread, which lives as long as the process). The directory stays behind
//!   with its lock free, and the next guardian sweeps it.
//! - A notebook's owner is of no use without its Jupyter kernel, busy in an endless cell or not: it dies with it.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use lablib::lab::service::protocol::{self, Answer, Command, Request, Signal};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{self, SigSet, Signal as Posix};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getppid, setsid};

/// How long a killed process may take to disappear: it is out of our hands, and longer than this only on a broken disk.
const UNTIL_GONE: Duration = Duration::from_secs(20);

/// Serves one owner on standard input and output until one of them is gone.
pub fn run() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = say(&Answer::Failed { why: format!("the guardian: {error}") });
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    close_what_was_inherited();
    // A session of its own, so that Ctrl-C and a closing terminal reach the owner alone, and no directory kept busy.
    let _ = setsid();
    std::env::set_current_dir("/")?;
    let mut ignored = SigSet::empty();
    for signal in [Posix::SIGINT, Posix::SIGTERM, Posix::SIGHUP, Posix::SIGQUIT, Posix::SIGCHLD] {
        ignored.add(signal);
    }
    ignored.thread_block()?;
    let mut child_ended = SigSet::empty();
    child_ended.add(Posix::SIGCHLD);
    let children = SignalFd::with_flags(&child_ended, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    // What a server leaves behind when it dies becomes a child of the guardian rather than of nobody.
    nix::sys::prctl::set_child_subreaper(true)?;

    let mut house = House::default();
    let mut lines = Lines::default();
    loop {
        let mut watched =
            vec![PollFd::new(lines.input.as_fd(), PollFlags::POLLIN), PollFd::new(children.as_fd(), PollFlags::POLLIN)];
        watched.extend(house.kernel.as_ref().map(|kernel| PollFd::new(kernel.as_fd(), PollFlags::POLLIN)));
        match poll(&mut watched, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        let happened: Vec<bool> = watched.iter().map(|one| one.any().unwrap_or(true)).collect();
        if happened[1] {
            while let Ok(Some(_)) = children.read_signal() {}
            house.reap()?;
        }
        if happened.get(2) == Some(&true) {
            house.end_owner();
            break;
        }
        if happened[0] {
            let Some(requests) = lines.read()? else { break };
            for request in requests {
                let answer = match serde_json::from_str(&request) {
                    Ok(request) => house.answer(request),
                    Err(error) => Answer::Failed { why: format!("not a request: {error}") },
                };
                if say(&answer).is_err() {
                    // The owner is gone; the end of its requests follows at once.
                    break;
                }
            }
        }
    }
    house.close();
    Ok(())
}

/// Requests, line by line, without a reader's buffer that `poll` could not see.
#[derive(Default)]
struct Lines {
    input: Stdin,
    partial: Vec<u8>,
}

struct Stdin(io::Stdin);

impl Default for Stdin {
    fn default() -> Self {
        Self(io::stdin())
    }
}

impl AsFd for Stdin {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Lines {
    /// The lines that have come, or nothing at the end.
    fn read(&mut self) -> io::Result<Option<Vec<String>>> {
        let mut bytes = [0_u8; 4096];
        let count = match nix::unistd::read(self.input.as_fd(), &mut bytes) {
            Err(Errno::EINTR) => return Ok(Some(Vec::new())),
            other => other?,
        };
        if count == 0 {
            return Ok(None);
        }
        self.partial.extend_from_slice(&bytes[..count]);
        let mut lines = Vec::new();
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            lines.push(String::from_utf8_lossy(&line).into_owned());
        }
        Ok(Some(lines))
    }
}

fn say(answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

/// What the guardian keeps.
#[derive(Default)]
struct House {
    /// The process that dies with its kernel.
    owner: Option<Pid>,
    /// Becomes readable when the kernel dies.
    kernel: Option<OwnedFd>,
    /// This run's directory, and the lock that says that somebody lives in it.
    run: Option<(PathBuf, File)>,
    servers: HashMap<u64, Server>,
    next: u64,
}

struct Server {
    pid: Pid,
    end: Option<WaitStatus>,
}

impl House {
    fn answer(&mut self, request: Request) -> Answer {
        let answer = match request {
            Request::Hello { version, owner, kernel, lab } => self.welcome(version, owner, kernel, &lab),
            Request::Start(command) => self.start(&command),
            Request::Signal { id, signal } => self.signal(id, signal),
            Request::Kill { id } => self.kill(id),
            Request::Status { id } => self.status(id),
        };
        answer.unwrap_or_else(|why| Answer::Failed { why })
    }

    fn welcome(&mut self, version: u32, owner: i32, kernel: Option<i32>, lab: &Path) -> Result<Answer, String> {
        if version != protocol::VERSION {
            let ours = protocol::VERSION;
            return Err(format!(
                "the `lab` program speaks version {ours}, this library version {version}: one of them is old"
            ));
        }
        self.owner = Some(Pid::from_raw(owner));
        if let Some(kernel) = kernel {
            self.kernel =
                Some(pidfd_open(kernel).map_err(|error| format!("the kernel {kernel} cannot be watched: {error}"))?);
        }
        let (run, lock) = open_run(lab, owner).map_err(|error| format!("{}: {error}", lab.display()))?;
        let answer = Answer::Welcome { run: run.clone() };
        self.run = Some((run, lock));
        Ok(answer)
    }

    fn start(&mut self, command: &Command) -> Result<Answer, String> {
        let child = spawn(command).map_err(|error| error.to_string())?;
        let pid = Pid::from_raw(child.id() as i32);
        self.next += 1;
        self.servers.insert(self.next, Server { pid, end: None });
        Ok(Answer::Started { id: self.next, pid: pid.as_raw() })
    }

    fn server(&mut self, id: u64) -> Result<&mut Server, String> {
        self.servers.get_mut(&id).ok_or_else(|| format!("there is no server {id}"))
    }

    fn signal(&mut self, id: u64, signal: Signal) -> Result<Answer, String> {
        let server = self.server(id)?;
        if server.look().map_err(|error| error.to_string())?.is_some() {
            return Err("it is not running".into());
        }
        let sent = match signal {
            Signal::Pause => Posix::SIGSTOP,
            Signal::Resume => Posix::SIGCONT,
            Signal::Terminate => Posix::SIGTERM,
        };
        signal::killpg(server.pid, sent).map_err(|error| error.to_string())?;
        if signal == Signal::Pause {
            // The kernel stops a process thread by thread; only the last one makes it "stopped".
            let stopped = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            waitid(Id::Pid(server.pid), stopped).map_err(|error| error.to_string())?;
        }
        Ok(Answer::Done)
    }

    fn kill(&mut self, id: u64) -> Result<Answer, String> {
        let server = self.server(id)?;
        let asked = Instant::now();
        loop {
            match server.look().map_err(|error| error.to_string())? {
                Some(end) => return Ok(ended(end)),
                None if asked.elapsed() > UNTIL_GONE => return Err("it does not die".into()),
                None => {}
            }
            signal::killpg(server.pid, Posix::SIGKILL).map_err(|error| error.to_string())?;
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn status(&mut self, id: u64) -> Result<Answer, String> {
        let end = self.server(id)?.look().map_err(|error| error.to_string())?;
        Ok(end.map_or(Answer::Running, ended))
    }

    /// Takes notice of servers that have ended, and of what dead servers left behind.
    fn reap(&mut self) -> io::Result<()> {
        for server in self.servers.values_mut() {
            server.look()?;
        }
        let known: Vec<Pid> =
            self.servers.values().filter(|server| server.end.is_none()).map(|server| server.pid).collect();
        while let Ok(status) = waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT) {
            match status.pid() {
                // One of ours ended since the look above: it has another signal coming.
                Some(pid) if known.contains(&pid) => break,
                Some(pid) => waitpid(pid, None)?,
                None => break,
            };
        }
        Ok(())
    }

    /// Kills the owner, if it still is the process that started us.
    fn end_owner(&self) {
        if let Some(owner) = self.owner.filter(|owner| *owner == getppid()) {
            let _ = signal::kill(owner, Posix::SIGKILL);
        }
    }

    /// Ends every server and removes the run's directory.
    fn close(mut self) {
        for server in self.servers.values().filter(|server| server.end.is_none()) {
            let _ = signal::killpg(server.pid, Posix::SIGKILL);
        }
        let begun = Instant::now();
        while begun.elapsed() < UNTIL_GONE {
            for server in self.servers.values_mut() {
                let _ = server.look();
            }
            match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Err(Errno::ECHILD) => break,
                Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_millis(1)),
                _ => {}
            }
        }
        if let Some((run, lock)) = self.run {
            remove(&run);
            drop(lock);
        }
    }
}

impl Server {
    /// How it ended, if it has: its process group is killed before its process id is given back to the system.
    fn look(&mut self) -> nix::Result<Option<WaitStatus>> {
        if self.end.is_none() {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            if waitid(Id::Pid(self.pid), flags)? != WaitStatus::StillAlive {
                let _ = signal::killpg(self.pid, Posix::SIGKILL);
                self.end = Some(waitpid(self.pid, None)?);
            }
        }
        Ok(self.end)
    }
}

fn ended(status: WaitStatus) -> Answer {
    let (how, success) = match status {
        WaitStatus::Exited(_, code) => (format!("exit code {code}"), code == 0),
        WaitStatus::Signaled(_, signal, _) => (format!("signal {signal}"), false),
        other => (format!("{other:?}"), false),
    };
    Answer::Ended { how, success }
}

/// Makes this run's directory, after sweeping those in which nobody lives any more.
///
/// One lock is held meanwhile, so that no guardian ever sees another's directory before that one has locked it.
fn open_run(lab: &Path, owner: i32) -> io::Result<(PathBuf, File)> {
    fs::create_dir_all(lab)?;
    let door = OpenOptions::new().create(true).truncate(false).write(true).open(lab.join("lock"))?;
    door.lock()?;
    for entry in fs::read_dir(lab)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("run-") && !is_lived_in(&entry.path()) {
            remove(&entry.path());
        }
    }
    let run = lab.join(format!("run-{owner}-{:08x}", rand::random::<u32>()));
    // Readable by nobody else: the servers' passwords are in it.
    fs::DirBuilder::new().mode(0o700).create(&run)?;
    let lock = File::create(run.join("lock"))?;
    lock.lock()?;
    Ok((run, lock))
}

fn is_lived_in(run: &Path) -> bool {
    match File::open(run.join("lock")) {
        Ok(lock) => matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock)),
        Err(_) => false,
    }
}

/// Removes a directory, also when something in it is just disappearing by itself.
fn remove(path: &Path) {
    for _ in 0..20 {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => std::thread::sleep(Duration::from_millis(20)),
            _ => return,
        }
    }
}

/// The owner's pipes and files that came along without being meant for us would stay open as long as we live.
fn close_what_was_inherited() {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_string_lossy().parse::<i32>().ok());
    // Collected first: the last of them is the listing itself, closed by then.
    for number in numbers.filter(|number| *number > 2).collect::<Vec<_>>() {
        let _ = nix::unistd::close(number);
    }
}

/// Starts a program that cannot outlive this process, in a process group of its own.
///
/// Unsafe, because what runs between fork and exec may only call what is safe in a signal handler: three system calls here.
#[allow(unsafe_code)]
fn spawn(command: &Command) -> io::Result<std::process::Child> {
    let log = OpenOptions::new().create(true).append(true).open(&command.log)?;
    let guardian = Pid::this();
    let mut program = std::process::Command::new(&command.program);
    program
        .args(&command.args)
        .env_clear()
        .envs(command.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&command.cwd)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    let before_exec = move || {
        nix::sys::prctl::set_pdeathsig(Posix::SIGKILL)?;
        // Had the guardian died before that line, nobody would send the signal any more.
        if getppid() != guardian {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(SigSet::empty().thread_set_mask()?)
    };
    unsafe { program.pre_exec(before_exec) }.spawn()
}

/// A descriptor that becomes readable when the process ends, of whatever parent; neither std nor nix has this call.
#[allow(unsafe_code)]
fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    let number = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match i32::try_from(number) {
        Ok(number) if number >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(number) }),
        _ => Err(io::Error::last_os_error()),
    }
}

//! Jupyter, without whatever the user has configured for their own: one process that runs notebooks and writes their pages.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use lablib::lab::{Doing, Error, Result, paths};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;

use crate::path_from_env;

/// `ci/runner`, which is asked in lines of JSON. It and whatever it has started end with this.
pub struct Jupyter {
    process: Child,
    answers: Receiver<String>,
    home: PathBuf,
}

impl Jupyter {
    /// Starts it; kernels are found below `kernels`.
    pub fn start(kernels: &Path) -> Result<Self> {
        let python = path_from_env("LAB_PYTHON")?;
        let homes = paths::root().join("target/lab/jupyter");
        paths::sweep(&homes);
        let home = homes.join(std::process::id().to_string());
        fs::create_dir_all(home.join("tmp")).doing(format!("create {}", home.display()))?;
        let log = home.join("log");
        // Not by its path, where a build may have put another program meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command
            .arg("tether")
            .arg(python.join("bin/python"))
            .arg(paths::root().join("ci/runner"))
            .env("JUPYTER_NO_CONFIG", "1")
            .env("JUPYTER_PATH", kernels)
            .env("JUPYTER_CONFIG_DIR", home.join("config"))
            .env("JUPYTER_DATA_DIR", home.join("data"))
            .env("JUPYTER_RUNTIME_DIR", home.join("runtime"))
            .env("IPYTHONDIR", home.join("ipython"))
            .env("PYTHONWARNINGS", "ignore")
            .env("PYTHONUTF8", "1")
            // What it forgets to remove goes with `home`.
            .env("TMPDIR", home.join("tmp"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log).doing(format!("create {}", log.display()))?)
            .process_group(0);
        let mut process = command.spawn().doing("start Jupyter")?;
        let (heard, answers) = channel();
        let said = process.stdout.take().ok_or_else(|| Error::new("start Jupyter", "it has no output"))?;
        thread::spawn(move || BufReader::new(said).lines().map_while(Result::ok).try_for_each(|line| heard.send(line)));
        Ok(Self { process, answers, home })
    }

    /// Has something done. After an error of whose words nothing is known, such as silence, it is good for nothing more.
    pub fn ask(&mut self, order: &Value, limit: Duration) -> std::result::Result<(), Refusal> {
        let silent = |cause: String| Refusal { cause, dead: false, silent: true };
        let line = format!("{order}\n");
        let sent =
            self.process.stdin.as_mut().map(|input| input.write_all(line.as_bytes()).and_then(|()| input.flush()));
        if !matches!(sent, Some(Ok(()))) {
            return Err(silent(self.last_words()));
        }
        let answer = match self.answers.recv_timeout(limit) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => {
                return Err(silent(format!("it was not done after {} s", limit.as_secs())));
            }
            Err(RecvTimeoutError::Disconnected) => return Err(silent(self.last_words())),
        };
        let answer: Value = serde_json::from_str(&answer).map_err(|_| silent(format!("it said {answer:?}")))?;
        match answer["error"].as_str() {
            None => Ok(()),
            Some(cause) => {
                let cause = cause.trim().lines().next().unwrap_or("it did not say why").to_string();
                Err(Refusal { cause, dead: answer["dead"] == true, silent: false })
            }
        }
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(self.home.join("log")).unwrap_or_default();
        text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("Jupyter ended without a word").to_string()
    }
}

/// Why Jupyter did not do what it was asked for.
pub struct Refusal {
    pub cause: String,
    /// The kernel died.
    pub dead: bool,
    /// Nothing was heard: it has to be started anew.
    pub silent: bool,
}

impl Drop for Jupyter {
    fn drop(&mut self) {
        // Its kernels are tethered to it.
        let _ = killpg(Pid::from_raw(self.process.id() as i32), Signal::SIGKILL);
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.home);
    }
}

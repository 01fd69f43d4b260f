//! What the lab and its guardian say to each other: one JSON object a line, a request and then its answer.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Rises with every change of the messages below, so that a library and a `lab` binary of different builds find out at once.
pub const VERSION: u32 = 1;

/// What the owner asks of its guardian.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    /// The first message: who asks, and where its servers' files belong.
    Hello {
        /// [`VERSION`] of the owner.
        version: u32,
        /// The process whose end is the end of the servers.
        owner: i32,
        /// A process without which the owner is of no use any more: the Jupyter kernel of a notebook's child process.
        kernel: Option<i32>,
        /// The directory below which the run's own directory is made.
        lab: PathBuf,
    },
    /// Starts a program as a child of the guardian, in a process group of its own.
    Start(Command),
    /// Sends a signal to the program's process group.
    Signal {
        /// From [`Answer::Started`].
        id: u64,
        /// Which one.
        signal: Signal,
    },
    /// Kills the program's process group and waits until it is gone.
    Kill {
        /// From [`Answer::Started`].
        id: u64,
    },
    /// Asks whether the program runs.
    Status {
        /// From [`Answer::Started`].
        id: u64,
    },
}

/// A program to start, with nothing left to the surroundings: its environment is exactly `env`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The program's file.
    pub program: PathBuf,
    /// What follows its name.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    /// Where it runs.
    pub cwd: PathBuf,
    /// Where its output is appended.
    pub log: PathBuf,
}

/// The signals that a lab sends; death is a request of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// SIGSTOP; answered when every thread has stopped.
    Pause,
    /// SIGCONT.
    Resume,
    /// SIGTERM, the polite request to end.
    Terminate,
}

/// What the guardian answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Hello`].
    Welcome {
        /// This run's directory: locked while the guardian lives, gone with it.
        run: PathBuf,
    },
    /// To [`Request::Start`].
    Started {
        /// The program's name in later requests.
        id: u64,
        /// Its process.
        pid: i32,
    },
    /// To a signal that was sent.
    Done,
    /// To [`Request::Status`] while the program runs, stopped or not.
    Running,
    /// To [`Request::Status`] and [`Request::Kill`] of a program that has ended.
    Ended {
        /// "exit code 1", "signal SIGKILL".
        how: String,
        /// Whether it ended with exit code 0.
        success: bool,
    },
    /// To anything that did not work.
    Failed {
        /// In a few words.
        why: String,
    },
}

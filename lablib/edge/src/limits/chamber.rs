//! A process of its own for an experiment: its limits are its own, its network is its own, and it ends with its owner.

use std::io::{Read, Write};
use std::marker::PhantomData;
use std::process::{Child, ChildStdin, Command, Stdio};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::namespace::Network;
use super::{backlog, descriptors, pooling, ports, time_wait};
use lab::service::lab_program;
use lab::{Doing, Error, Result};

/// The variable that holds an errand, as JSON.
const ERRAND: &str = "LAB_LIMITS_ERRAND";

/// What such a process is told to find out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Errand {
    Descriptors(descriptors::DescriptorSpec),
    Ports(ports::PortSpec),
    TimeWait(time_wait::TimeWaitSpec),
    Pooling(pooling::PoolingSpec),
    Backlog(backlog::BacklogSpec),
}

/// What `lab limits` does: the errand in its environment. Its findings go to standard output, as JSON.
pub fn limits_process() -> Result<()> {
    let doing = "read the errand of lab limits";
    let errand: Errand = serde_json::from_str(&std::env::var(ERRAND).doing(doing)?).doing(doing)?;
    let network = Network::enter()?;
    // After the namespace: a process of many threads is not let into one.
    std::thread::spawn(end_with_the_owner);
    let found = match errand {
        Errand::Descriptors(spec) => report(&descriptors::measure(&spec)?),
        Errand::Ports(spec) => report(&ports::measure(&network, &spec)?),
        Errand::TimeWait(spec) => report(&time_wait::measure(&network, &spec)?),
        Errand::Pooling(spec) => report(&pooling::measure(&network, &spec)?),
        Errand::Backlog(spec) => report(&backlog::measure(&network, &spec)?),
    }?;
    let mut out = std::io::stdout().lock();
    out.write_all(found.as_bytes()).and_then(|()| out.flush()).doing("say what was found")
}

fn report(found: &impl Serialize) -> Result<String> {
    serde_json::to_string(found).doing("write down what was found")
}

/// The owner holds the other end of standard input, and the kernel closes it when the owner is gone.
fn end_with_the_owner() {
    let mut byte = [0];
    while std::io::stdin().read(&mut byte).is_ok_and(|read| read > 0) {}
    std::process::exit(1);
}

/// An experiment under way; ended when it is dropped.
#[derive(Debug)]
pub(super) struct Running<T> {
    process: Option<Child>,
    _alive: Option<ChildStdin>,
    found: PhantomData<fn() -> T>,
}

/// Starts the process.
pub(super) fn begin<T: DeserializeOwned>(errand: &Errand) -> Result<Running<T>> {
    let doing = "start lab limits";
    let text = serde_json::to_string(errand).doing(doing)?;
    let mut command = Command::new(lab_program()?);
    command.arg("limits").env(ERRAND, text);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().doing(doing)?;
    let alive = process.stdin.take();
    Ok(Running { process: Some(process), _alive: alive, found: PhantomData })
}

/// Runs it to its end.
pub(super) fn run<T: DeserializeOwned>(errand: &Errand) -> Result<T> {
    begin(errand)?.finish()
}

impl<T: DeserializeOwned> Running<T> {
    /// Waits for what it finds.
    pub(super) fn finish(mut self) -> Result<T> {
        let doing = "hear what lab limits found";
        let process = self.process.take().ok_or_else(|| Error::new(doing, "it was heard already"))?;
        let output = process.wait_with_output().doing(doing)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.trim().trim_start_matches("lab: ").replace('\n', " ");
            return Err(Error::new(doing, if said.is_empty() { output.status.to_string() } else { said }));
        }
        serde_json::from_slice(&output.stdout).doing(doing)
    }
}

impl<T> Running<T> {
    /// Its process, while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill(); // it may have ended by itself
            let _ = process.wait();
        }
    }
}

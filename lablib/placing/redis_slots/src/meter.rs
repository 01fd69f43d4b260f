//! What each node says that it has done: the server's own figures, not the client's.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use redis::Value;

use super::options::ClientOptions;
use super::wire::{Wire, pack};
use lab::{Error, Result};

const PATIENCE: Duration = Duration::from_secs(5);
/// For how long the nodes are watched doing nothing.
const IDLE: Duration = Duration::from_millis(200);

/// Reads every node's counters before and after some work, and takes off what an idle cluster does all the time: gossip and
/// housekeeping.
pub struct Meter {
    nodes: Vec<Probe>,
}

struct Probe {
    node: String,
    master: bool,
    wire: Wire,
    /// Seconds of CPU time a second while nothing is asked of it.
    idle: f64,
}

/// One node's counters.
#[derive(Debug, Clone, Default)]
struct Reading {
    calls: BTreeMap<String, u64>,
    cpu: f64,
}

/// What one node did.
#[derive(Debug, Clone)]
pub struct NodeWork {
    /// "node 1" is the master of the lowest slots, "replica 1" its replica.
    pub node: String,
    /// Whether it was a master when the meter was made.
    pub master: bool,
    /// How often each command was called; a replica also counts what it replays.
    pub calls: BTreeMap<String, u64>,
    /// Seconds of CPU time, without what it needs when idle.
    pub cpu: f64,
}

impl NodeWork {
    /// How often these commands were called.
    pub fn called(&self, commands: &[&str]) -> u64 {
        commands.iter().filter_map(|command| self.calls.get(*command)).sum()
    }
}

/// What all nodes did, masters first.
#[derive(Debug, Clone)]
pub struct Metered {
    /// One entry a node.
    pub nodes: Vec<NodeWork>,
}

impl Metered {
    /// The masters' calls of these commands.
    pub fn calls(&self, commands: &[&str]) -> Vec<u64> {
        self.nodes.iter().filter(|node| node.master).map(|node| node.called(commands)).collect()
    }

    /// The masters' seconds of CPU time.
    pub fn cpu(&self) -> Vec<f64> {
        self.nodes.iter().filter(|node| node.master).map(|node| node.cpu).collect()
    }
}

impl Meter {
    /// A meter on every node of a cluster, which nobody uses at the moment.
    pub fn on(options: &ClientOptions) -> Result<Self> {
        let client = options.connect()?;
        let (login, _) = options.login_and_seeds()?;
        let (mut masters, mut replicas) = (Vec::new(), Vec::new());
        for (number, master) in client.map().masters().into_iter().enumerate() {
            masters.push((format!("node {}", number + 1), true, master.to_owned()));
            for replica in client.map().replicas(master) {
                replicas.push((format!("replica {}", number + 1), false, replica.clone()));
            }
        }
        let mut nodes = Vec::new();
        for (node, master, address) in masters.into_iter().chain(replicas) {
            let wire = Wire::open(options.dial(&address), &login, &[], None, PATIENCE);
            let wire = wire.map_err(|cause| Error::new("measure a node", cause).at(&address))?;
            nodes.push(Probe { node, master, wire, idle: 0.0 });
        }
        let mut meter = Self { nodes };
        let start = Instant::now();
        let ((), idle) = meter.measure(|| std::thread::sleep(IDLE))?;
        let seconds = start.elapsed().as_secs_f64();
        for (probe, work) in meter.nodes.iter_mut().zip(idle.nodes) {
            probe.idle = work.cpu / seconds;
        }
        Ok(meter)
    }

    /// The nodes' names, masters first.
    pub fn names(&self) -> Vec<String> {
        self.nodes.iter().map(|probe| probe.node.clone()).collect()
    }

    /// Does some work, and says what each node did for it.
    pub fn measure<T>(&mut self, work: impl FnOnce() -> T) -> Result<(T, Metered)> {
        let start = Instant::now();
        let before = self.read()?;
        let result = work();
        let after = self.read()?;
        let seconds = start.elapsed().as_secs_f64();
        let nodes = self.nodes.iter().zip(before.iter().zip(after)).map(|(probe, (before, after))| {
            let since = |command: &String, calls: u64| calls - before.calls.get(command).copied().unwrap_or(0);
            let calls = after.calls.iter().map(|(command, calls)| (command.clone(), since(command, *calls)));
            NodeWork {
                node: probe.node.clone(),
                master: probe.master,
                calls: calls.filter(|(_, calls)| *calls > 0).collect(),
                cpu: (after.cpu - before.cpu - probe.idle * seconds).max(0.0),
            }
        });
        Ok((result, Metered { nodes: nodes.collect() }))
    }

    fn read(&mut self) -> Result<Vec<Reading>> {
        self.nodes.iter_mut().map(Probe::read).collect()
    }
}

impl Probe {
    fn read(&mut self) -> Result<Reading> {
        let asked = self.wire.send(&pack(&["INFO", "commandstats", "cpu"]), [None]);
        let answer = asked.and_then(|()| self.wire.receive(Instant::now() + PATIENCE));
        let fail = |cause: String| Error::new("measure a node", cause).at(&self.node);
        match answer.map_err(&fail)? {
            Value::VerbatimString { text, .. } => Ok(Reading::of(&text)),
            Value::BulkString(bytes) => Ok(Reading::of(&String::from_utf8_lossy(&bytes))),
            other => Err(fail(format!("it answers INFO with {other:?}"))),
        }
    }
}

impl Reading {
    fn of(info: &str) -> Self {
        let mut reading = Self::default();
        for (name, value) in info.lines().filter_map(|line| line.trim_end().split_once(':')) {
            if let Some(command) = name.strip_prefix("cmdstat_") {
                let calls = value.strip_prefix("calls=").and_then(|rest| rest.split(',').next());
                if let Some(calls) = calls.and_then(|calls| calls.parse().ok()) {
                    reading.calls.insert(command.to_owned(), calls);
                }
            }
            if matches!(name, "used_cpu_user" | "used_cpu_sys") {
                reading.cpu += value.parse().unwrap_or(0.0);
            }
        }
        reading
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_info() {
        let reading = Reading::of(
            "# CPU\r\nused_cpu_sys:1.5\r\nused_cpu_user:0.25\r\nused_cpu_sys_children:9\r\n# Commandstats\r\n\
             cmdstat_get:calls=7,usec=1,usec_per_call=0.1\r\ncmdstat_cluster|info:calls=2,usec=3\r\n",
        );
        assert_eq!(reading.cpu, 1.75);
        assert_eq!((reading.calls.get("get"), reading.calls.get("cluster|info")), (Some(&7), Some(&2)));
    }
}

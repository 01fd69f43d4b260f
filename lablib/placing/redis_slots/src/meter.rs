//! What each node says that it has done: the server's own figures, not the client's.

use std::time::{Duration, Instant};

use redis::InfoDict;

use super::client::Client;
use super::options::ClientOptions;
use lab::{Error, Frame, Result};

/// For how long a node may keep its figures to itself.
const PATIENCE: Duration = Duration::from_secs(5);
/// For how long the nodes are watched doing nothing.
const IDLE: Duration = Duration::from_millis(200);

/// Reads every node's counters before and after some work, and takes off what an idle cluster does all the time: gossip and
/// housekeeping.
pub struct Meter {
    client: Client,
    nodes: Vec<Node>,
    commands: Vec<String>,
}

struct Node {
    name: String,
    role: &'static str,
    address: String,
    /// Seconds of CPU time a second while nothing is asked of it.
    idle: f64,
}

impl Meter {
    /// A meter on every node of a cluster, which nobody uses at the moment: "node 1" is the master of the lowest slots, "replica 1"
    /// its replica. It counts these commands.
    pub fn on(options: &ClientOptions, commands: &[&str]) -> Result<Self> {
        let client = options.clone().patience(PATIENCE).connect()?;
        let (mut nodes, mut replicas) = (Vec::new(), Vec::new());
        for (number, master) in client.map().masters().into_iter().enumerate() {
            let node = |role: &'static str, name: &str, address: &str| Node {
                name: format!("{name} {}", number + 1),
                role,
                address: address.to_owned(),
                idle: 0.0,
            };
            nodes.push(node("master", "node", master));
            replicas.extend(client.map().replicas(master).iter().map(|replica| node("replica", "replica", replica)));
        }
        nodes.append(&mut replicas);
        let commands = commands.iter().map(|command| command.to_string()).collect();
        let mut meter = Self { client, nodes, commands };
        let start = Instant::now();
        let ((), idle) = meter.measure(|| std::thread::sleep(IDLE))?;
        let seconds = start.elapsed().as_secs_f64();
        for (node, work) in meter.nodes.iter_mut().zip(idle.rows()) {
            node.idle = work.number("CPU") / seconds;
        }
        Ok(meter)
    }

    /// Does some work, and says what each node did for it, masters first: `node` and its `role`, how often each command was called (a
    /// replica also counts what it replays) and all of them together (`commands`), seconds of `CPU` time without what it needs when
    /// idle.
    pub fn measure<T>(&mut self, work: impl FnOnce() -> T) -> Result<(T, Frame)> {
        let start = Instant::now();
        let before = self.read()?;
        let result = work();
        let after = self.read()?;
        let seconds = start.elapsed().as_secs_f64();
        let grown = |command: &str| {
            let pairs = before.iter().zip(&after);
            pairs.map(|(before, after)| calls(after, command) - calls(before, command)).collect::<Vec<u64>>()
        };
        let frame = Frame::new()
            .text("node", self.nodes.iter().map(|node| &node.name))
            .text("role", self.nodes.iter().map(|node| node.role));
        let frame = self.commands.iter().fold(frame, |frame, command| frame.counts(command, "", grown(command)));
        let used = self.nodes.iter().zip(before.iter().zip(&after));
        let used = used.map(|(node, (before, after))| (cpu(after) - cpu(before) - node.idle * seconds).max(0.0));
        let sum = |row: lab::Row<'_>| self.commands.iter().map(|command| row.number(command)).sum();
        Ok((result, frame.computed("commands", "", sum).numbers("CPU", "s", used)))
    }

    fn read(&mut self) -> Result<Vec<InfoDict>> {
        let fail = |node: &Node, cause| Error::new("measure a node", cause).at(&node.name);
        let ask = |node: &Node| {
            let info = self.client.ask_node(&node.address, &["INFO", "commandstats", "cpu"]);
            info.map_err(|cause| fail(node, cause))
        };
        self.nodes.iter().map(ask).collect()
    }
}

/// How often a command was called.
fn calls(info: &InfoDict, command: &str) -> u64 {
    let stats: Option<String> = info.get(&format!("cmdstat_{command}"));
    let calls = stats.as_deref().and_then(|stats| stats.strip_prefix("calls=")?.split(',').next()?.parse().ok());
    calls.unwrap_or(0)
}

/// Seconds of CPU time.
fn cpu(info: &InfoDict) -> f64 {
    ["used_cpu_user", "used_cpu_sys"].iter().filter_map(|name| info.get::<f64>(name)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_info() {
        let info = InfoDict::new(
            "# CPU\r\nused_cpu_sys:1.5\r\nused_cpu_user:0.25\r\nused_cpu_sys_children:9\r\n# Commandstats\r\n\
             cmdstat_get:calls=7,usec=1,usec_per_call=0.1\r\ncmdstat_cluster|info:calls=2,usec=3\r\n",
        );
        assert_eq!(cpu(&info), 1.75);
        assert_eq!((calls(&info, "get"), calls(&info, "cluster|info"), calls(&info, "set")), (7, 2, 0));
    }
}

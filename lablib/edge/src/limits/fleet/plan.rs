//! What a fleet needs, and what each limit of the machine allows: the prediction.

use nix::sys::resource::{Resource, getrlimit};

use super::FleetNetwork;
use crate::limits::memory::{MachineMemory, Slabs, number_in, open_files, predicted_pair_bytes};
use crate::limits::threads_and_tasks::tasks_now;
use lab::{Doing, Error, Result};

/// How a fleet is divided, and how much room there is for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// How many connections are wanted.
    pub connections: u64,
    /// Pairs of processes.
    pub pairs: u64,
    /// Ports on which each server listens.
    pub ports_each: u64,
    /// Where they live.
    pub network: FleetNetwork,
    /// What each limit allows, the tightest first.
    pub room: Vec<Room>,
}

/// One limit of the machine, in connections.
#[derive(Debug, Clone, PartialEq)]
pub struct Room {
    /// What runs out.
    pub name: &'static str,
    /// How many connections it allows, with both ends on this machine.
    pub connections: f64,
    /// Where that comes from.
    pub why: String,
}

/// Descriptors of a worker that are not connections: pipes, epoll sets, listeners.
const SPARE: u64 = 100;
/// No worker needs more, whatever it is allowed: all workers shall have about the same share.
const MOST_EACH: u64 = 20_000;
/// A thread for the requests and one for the connections.
const THREADS_EACH: u64 = 2;
/// What a small process costs by itself, its page tables included.
const PROCESS_BYTES: f64 = 2e6;

impl Plan {
    /// Divides so many connections over processes that may hold as many as this one.
    pub fn new(connections: u64, network: FleetNetwork) -> Result<Self> {
        let (_, descriptors) = getrlimit(Resource::RLIMIT_NOFILE).doing("read the limit of open files")?;
        Self::with_descriptors(connections, network, descriptors)
    }

    /// The same, for processes with so many descriptors.
    pub fn with_descriptors(connections: u64, network: FleetNetwork, descriptors: u64) -> Result<Self> {
        let each = descriptors.min(MOST_EACH).saturating_sub(SPARE);
        if connections == 0 || each == 0 {
            let cause = format!("{connections} connections, and {descriptors} descriptors for a process");
            return Err(Error::new("plan a fleet", cause));
        }
        let pairs = connections.div_ceil(each);
        // `connect` tries every other port first, and walks over those in use: half of the range is cheap.
        let cheap = (network.ports * 4 / 10).max(1);
        let ports_each = connections.div_ceil(pairs).div_ceil(cheap);
        let mut plan = Self { connections, pairs, ports_each, network, room: Vec::new() };
        plan.room = plan.rooms(each)?;
        Ok(plan)
    }

    /// How many connections one process can hold one end of.
    pub fn most_each() -> Result<u64> {
        let (_, descriptors) = getrlimit(Resource::RLIMIT_NOFILE).doing("read the limit of open files")?;
        Ok(descriptors.min(MOST_EACH).saturating_sub(SPARE))
    }

    /// How many connections the pair of that number opens.
    pub fn share(&self, pair: u64) -> u64 {
        self.connections / self.pairs + u64::from(pair < self.connections % self.pairs)
    }

    fn rooms(&self, each: u64) -> Result<Vec<Room>> {
        let (open, most) = open_files()?;
        let tasks = tasks_now()?;
        let pids = number_in("/proc/sys/kernel/pid_max")?.saturating_sub(tasks);
        let memory = MachineMemory::read()?;
        let kernel = Slabs::read().map_or(8_192.0, |slabs| predicted_pair_bytes(&slabs));
        let bytes = kernel + 2.0 * PROCESS_BYTES / each as f64;
        let room = |name, connections: f64, why| Room { name, connections: connections.floor(), why };
        let mut rooms = vec![
            room("descriptors of one process", each as f64, format!("its hard limit, less {SPARE}")),
            room(
                "ports, one server address",
                self.network.ports as f64,
                "the range, for one client address".to_string(),
            ),
            room(
                "open files of the machine",
                most.saturating_sub(open) as f64 / 2.0,
                format!("fs.file-max = {most}, two for each"),
            ),
            room(
                "process ids",
                (pids / (2 * THREADS_EACH)) as f64 * each as f64,
                format!("{pids} are free, for {each} connections each"),
            ),
            room(
                "memory",
                memory.available as f64 / bytes,
                format!("{:.1} GB are available, {bytes:.0} B each", memory.available as f64 / 1e9),
            ),
            room(
                "addresses and ports, in theory",
                65_536.0 * 65_536.0,
                "every pair of ports between two addresses".into(),
            ),
        ];
        rooms.sort_by(|a, b| a.connections.total_cmp(&b.connections));
        Ok(rooms)
    }

    /// The limit that no number of processes, ports or addresses gets around, and how many connections it allows.
    pub fn tightest(&self) -> Option<&Room> {
        self.room.iter().find(|room| !matches!(room.name, "descriptors of one process" | "ports, one server address"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NETWORK: FleetNetwork = FleetNetwork { private: false, ports: 28_232, backlog: 4096 };

    #[test]
    fn a_plan_without_connections_or_descriptors_is_refused() {
        assert!(Plan::with_descriptors(0, NETWORK, 20_000).is_err());
        assert!(Plan::with_descriptors(1, NETWORK, SPARE).is_err());
        assert_eq!(Plan::with_descriptors(1, NETWORK, SPARE + 1).unwrap().pairs, 1);
    }

    #[test]
    fn a_million_needs_fifty_one_pairs_of_twenty_thousand_descriptors() {
        let plan = Plan::with_descriptors(1_000_000, NETWORK, 20_000).unwrap();
        assert_eq!((plan.pairs, plan.ports_each), (51, 2));
    }

    proptest! {
        #[test]
        fn every_connection_has_a_process_and_a_port(
            connections in 1_u64..3_000_000, descriptors in 101_u64..70_000, ports in 1_u64..64_512,
        ) {
            let plan = Plan::with_descriptors(connections, FleetNetwork { ports, ..NETWORK }, descriptors).unwrap();
            let shares: Vec<u64> = (0..plan.pairs).map(|pair| plan.share(pair)).collect();
            prop_assert_eq!(shares.iter().sum::<u64>(), connections);
            prop_assert!(shares.iter().all(|share| *share + SPARE <= descriptors && *share > 0));
            prop_assert!(shares.iter().all(|share| share.div_ceil(plan.ports_each) <= ports));
        }
    }
}

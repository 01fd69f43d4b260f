//! What a fleet needs, and what each limit of the machine allows: the prediction.

use super::FleetNetwork;
use crate::memory::predicted_pair_bytes;
use crate::procfs::{MachineMemory, Slabs, number_in, open_files, tasks_now};
use crate::worker::{SPARE, connections_with, most_descriptors};
use lab::{Error, Frame, Result, significant};

/// How a fleet is divided, and how much room there is for it.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Number of connections that are wanted.
    pub connections: u64,
    /// Number of pairs of processes, a server and a client.
    pub pairs: u64,
    /// Ports on which each server listens.
    pub ports_each: u64,
    /// The network in which they run.
    pub network: FleetNetwork,
    /// The limits of this machine, the tightest first: limit, allows (connections with both ends on this machine), and why.
    pub room: Frame,
}

/// A thread for the requests and one for the connections.
const THREADS_EACH: u64 = 2;
/// What a small process costs by itself, its page tables included.
const PROCESS_BYTES: f64 = 2e6;

impl Plan {
    /// Divides connections over processes that may hold as many as this one.
    pub fn new(connections: u64, network: FleetNetwork) -> Result<Self> {
        Self::with_descriptors(connections, network, most_descriptors()?)
    }

    /// The same, for processes with this many descriptors.
    pub fn with_descriptors(connections: u64, network: FleetNetwork, descriptors: u64) -> Result<Self> {
        let each = connections_with(descriptors);
        if connections == 0 || each == 0 {
            let cause = format!("{connections} connections, and {descriptors} descriptors for a process");
            return Err(Error::new("plan a fleet", cause));
        }
        let pairs = connections.div_ceil(each);
        // `connect` tries every other port first, and walks over those in use: half of the range is cheap.
        let cheap = (network.ports * 4 / 10).max(1);
        let ports_each = connections.div_ceil(pairs).div_ceil(cheap);
        Ok(Self { connections, pairs, ports_each, network, room: room(network, each)? })
    }

    /// How many connections the pair of that number opens.
    pub fn share(&self, pair: u64) -> u64 {
        self.connections / self.pairs + u64::from(pair < self.connections % self.pairs)
    }

    /// What the fleet will look like.
    pub fn sentence(&self) -> String {
        format!(
            "{} pairs of processes with up to {} connections each, on {} {} each, in {}",
            self.pairs,
            significant(self.share(0) as f64),
            self.ports_each,
            if self.ports_each == 1 { "port" } else { "ports" },
            self.network
        )
    }
}

fn room(network: FleetNetwork, each: u64) -> Result<Frame> {
    let (open, most) = open_files()?;
    let pids = number_in("/proc/sys/kernel/pid_max")?.saturating_sub(tasks_now()?);
    let memory = MachineMemory::read()?;
    let kernel = Slabs::read().map_or(8_192.0, |slabs| predicted_pair_bytes(&slabs));
    let bytes = kernel + 2.0 * PROCESS_BYTES / each as f64;
    let limits: [(&str, f64, String); 6] = [
        ("descriptors of one process", each as f64, format!("its hard limit, less {SPARE}")),
        ("ports, one server address", network.ports as f64, "the range, for one client address".into()),
        (
            "open files of the machine",
            most.saturating_sub(open) as f64 / 2.0,
            format!("fs.file-max = {most}, two for each"),
        ),
        (
            "process ids",
            (pids / (2 * THREADS_EACH)) as f64 * each as f64,
            format!("{pids} are free, for {each} connections each"),
        ),
        (
            "memory",
            memory.available as f64 / bytes,
            format!("{:.1} GB are available, {bytes:.0} B each", memory.available as f64 / 1e9),
        ),
        ("addresses and ports, in theory", 65_536.0 * 65_536.0, "every pair of ports between two addresses".into()),
    ];
    let room = Frame::new()
        .text("limit", limits.iter().map(|limit| limit.0))
        .numbers("allows", "connections", limits.iter().map(|limit| limit.1.floor()))
        .text("why", limits.iter().map(|limit| &limit.2));
    Ok(room.sort("allows"))
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

//! The network of a fleet: a namespace in which its processes start, so that no socket of it is the machine's.

use std::fmt;

use crate::sockets::ephemeral_ports;
use lab::{Doing, Error, Network, Result};

/// Where the processes of a fleet have their sockets, and what the kernel allows them there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FleetNetwork {
    /// A network namespace of their own, with its own loopback, ports and settings, gone with the last of them. False
    /// where the kernel allows none: then it is this machine's loopback.
    pub private: bool,
    /// How many ports a client has towards one address and port.
    pub ports: u64,
    /// The longest queue of connections that wait to be accepted.
    pub backlog: u32,
}

/// The ephemeral ports in a private network: all that need no privilege, because nothing else listens there.
const WIDE: &str = "1024 65535";
const LONG: &str = "65535";

impl FleetNetwork {
    /// Runs `start` in a [network of its own](Network::inside) with as many ports and as long queues as there can be.
    pub(crate) fn inside<T: Send>(start: impl FnOnce(Self) -> Result<T> + Send) -> Result<T> {
        Network::inside(|network| {
            for (name, value) in [("ipv4/ip_local_port_range", WIDE), ("core/somaxconn", LONG)] {
                // Where it may not be written, the usual range has to do, and the plan reckons with it.
                let _ = network.set(name, value);
            }
            start(Self::here(network.is_own())?)
        })
    }

    /// The network of the thread that asks.
    fn here(private: bool) -> Result<Self> {
        let doing = "read how long a queue may be";
        let backlog =
            Network::setting("core/somaxconn").ok_or_else(|| Error::new(doing, "there is no core/somaxconn"))?;
        let backlog = backlog.parse().doing(doing)?;
        Ok(Self { private, ports: ephemeral_ports()?.len() as u64, backlog })
    }
}

impl fmt::Display for FleetNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.private {
            true => "a network namespace of its own",
            false => "the machine's own loopback, as no namespace is allowed here",
        })
    }
}

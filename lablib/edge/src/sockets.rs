//! Sockets in a network of the experiment's own, and what the kernel says about them.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use nix::{setsockopt_impl, sockopt_impl};
use socket2::{Domain, Protocol, Socket, Type};

use crate::procfs::Seen;
use lab::clock::deadline_in;
use lab::{Doing, Error, Network, Result};

sockopt_impl!(
    /// How often one socket sends its SYN again.
    SynCount, SetOnly, libc::IPPROTO_TCP, libc::TCP_SYNCNT, i32
);

/// Of Linux 6.3, and not in the library yet.
const IP_LOCAL_PORT_RANGE: i32 = 51;

// The options that the library has no name for.
sockopt_impl!(
    /// Holds a connection back from `accept` until it carries data.
    DeferAccept, SetOnly, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, i32
);
sockopt_impl!(
    /// The ephemeral ports that one socket may use, within the system's: the lowest in the low half, the highest in the high.
    LocalPortRange, SetOnly, libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE, u32
);

/// How long a port is kept by whoever closed first: compiled into the kernel.
pub const TIME_WAIT: Duration = Duration::from_secs(60);

/// A socket that listens.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: Socket,
    pub(crate) address: SocketAddrV4,
}

impl Listener {
    /// On an address of loopback, at a port outside every range that [`Narrowed::inside`] makes.
    pub(crate) fn inside(network: &Network, address: Ipv4Addr, backlog: i32) -> Result<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(2_000);
        let port = match network {
            Network::Own => NEXT.fetch_add(1, Ordering::Relaxed),
            Network::Shared { .. } => 0,
        };
        Self::on(SocketAddrV4::new(address, port), backlog)
    }

    pub(crate) fn on(address: SocketAddrV4, backlog: i32) -> Result<Self> {
        let doing = || format!("listen at {address}");
        let socket = tcp().doing(doing())?;
        socket.set_reuse_address(true).doing(doing())?;
        socket.bind(&address.into()).doing(doing())?;
        socket.listen(backlog).doing(doing())?;
        let local = socket.local_addr().doing(doing())?.as_socket_ipv4();
        Ok(Self { socket, address: local.ok_or_else(|| Error::new(doing(), "it has no address"))? })
    }

    /// Lets bare handshakes wait, until they carry data, for this many seconds.
    pub(crate) fn defer(&self, seconds: i32) -> Result<()> {
        setsockopt(&self.socket, DeferAccept, &seconds).doing("defer the accepting of bare connections")
    }
}

/// A socket for TCP on loopback.
pub(crate) fn tcp() -> std::io::Result<Socket> {
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))
}

/// How often this socket sends its SYN again before it gives up.
pub(crate) fn give_up_after(socket: &Socket, times: i32) -> Result<()> {
    setsockopt(socket, SynCount, &times).doing("bound how often a SYN is sent again")
}

/// How a client that has more than one address takes its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// The kernel chooses address and port when it connects.
    Anywhere,
    /// The client chooses the address, and the port is chosen when it connects.
    Address(Ipv4Addr),
    /// The client binds address and port before it knows where it connects to.
    Bound(Ipv4Addr),
}

/// The ephemeral ports that are left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Narrowed {
    pub(crate) first: u16,
    pub(crate) last: u16,
    by_socket: bool,
}

impl Narrowed {
    /// Narrows the ephemeral ports to this many: for everybody in a network of our own, else for the sockets made here.
    pub(crate) fn inside(network: &Network, ports: u16) -> Result<Self> {
        let doing = || format!("narrow the range to {ports} ports");
        if ports == 0 {
            return Err(Error::new(doing(), "a range has a port"));
        }
        let first = match network {
            Network::Own => 32_768,
            Network::Shared { .. } => quiet_range(ports)?,
        };
        let last = first + (ports - 1);
        if network.is_own() {
            network.set("ipv4/ip_local_port_range", format!("{first} {last}"))?;
        }
        let narrowed = Self { first, last, by_socket: !network.is_own() };
        narrowed.socket().doing(doing())?; // a kernel that cannot narrow a socket's range says so now
        Ok(narrowed)
    }

    /// How many ports.
    pub(crate) fn ports(&self) -> u64 {
        u64::from(self.last - self.first) + 1
    }

    /// A client's socket that keeps to the range.
    pub(crate) fn socket(&self) -> std::io::Result<Socket> {
        let socket = tcp()?;
        if self.by_socket {
            setsockopt(&socket, LocalPortRange, &(u32::from(self.last) << 16 | u32::from(self.first)))?;
        }
        Ok(socket)
    }

    /// A connection, or what the kernel says.
    pub(crate) fn connect(&self, from: From, to: SocketAddrV4) -> std::io::Result<Socket> {
        let socket = self.socket()?;
        match from {
            From::Anywhere => {}
            From::Address(address) => {
                setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
                socket.bind(&SocketAddrV4::new(address, 0).into())?;
            }
            From::Bound(address) => socket.bind(&SocketAddrV4::new(address, 0).into())?,
        }
        socket.connect(&to.into())?;
        Ok(socket)
    }
}

/// The name of an error, as manuals have it.
pub(crate) fn errno(error: &std::io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |number| format!("{:?}", Errno::from_raw(number)))
}

/// The first of this many ports in a row that are free, in a network that is not ours. Where others have just closed many
/// connections, their ports are free after a minute.
fn quiet_range(ports: u16) -> Result<u16> {
    let end = deadline_in(TIME_WAIT + Duration::from_secs(5));
    loop {
        if let Some(first) = quiet_range_now(ports) {
            return Ok(first);
        }
        if Instant::now() > end {
            return Err(Error::new("find a quiet range of ports", format!("no {ports} ports in a row are free"))
                .remedy("stop what opens and closes connections on this machine"));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn quiet_range_now(ports: u16) -> Option<u16> {
    let used = used_ports();
    // A socket's own range counts where it lies within the system's.
    let range = ephemeral_ports().ok()?;
    let mut first = u32::from(*range.start());
    for port in range {
        if used.contains(&port) {
            first = u32::from(port) + 1;
        } else if u32::from(port) + 1 - first >= u32::from(ports) {
            return Some(first as u16);
        }
    }
    None
}

fn used_ports() -> BTreeSet<u16> {
    let files =
        ["/proc/self/net/tcp", "/proc/self/net/tcp6"].map(|file| std::fs::read_to_string(file).unwrap_or_default());
    files.iter().flat_map(|file| file.lines().skip(1)).filter_map(Seen::read).map(|seen| seen.local).collect()
}

/// The ports that the kernel hands out to clients in this network.
pub fn ephemeral_ports() -> Result<RangeInclusive<u16>> {
    let text = Network::setting("ipv4/ip_local_port_range").unwrap_or_default();
    port_range(&text)
        .ok_or_else(|| Error::new("read the range of ephemeral ports", format!("the kernel says {text:?}")))
}

fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once(char::is_whitespace)?;
    Some(first.parse().ok()?..=last.trim().parse().ok()?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_a_port() {
        assert!(Narrowed::inside(&Network::Own, 0).is_err());
    }

    #[test]
    fn a_range_is_two_numbers() {
        assert_eq!(port_range("32768\t60999"), Some(32_768..=60_999));
        for bad in ["", "7", "a b", "1 70000"] {
            assert_eq!(port_range(bad), None, "{bad:?}");
        }
    }
}

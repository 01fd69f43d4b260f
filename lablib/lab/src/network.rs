//! A network of one's own: a namespace with nothing in it but loopback, gone with the last process in it.
//!
//! - What starts in it has its own ports and settings: they can be used up and changed, and nothing has to be put back.
//! - Where the machine allows none, its own network is shared; then nothing is changed, and why is said.

use std::os::fd::AsRawFd;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};
use serde::{Deserialize, Serialize};

use crate::{Doing, Error, Result, joined};

/// Set to `shared`, it keeps experiments in the machine's own network, as where a namespace is not allowed.
const NETWORK: &str = "LAB_NETWORK";

/// The network in which an experiment runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// A namespace of this process's own: nothing but loopback in it, every setting of it ours.
    Own,
    /// The machine's network: nothing may be changed in it.
    Shared {
        /// Why there is no namespace.
        why: String,
    },
}

impl Network {
    /// Moves this thread, and whatever it starts from now on, into a network of its own, if the machine allows it. Who is not
    /// root is only let into one while the process has a single thread.
    pub fn enter() -> Result<Self> {
        if std::env::var(NETWORK).is_ok_and(|value| value == "shared") {
            return Ok(Self::Shared { why: format!("{NETWORK} asks for the machine's own network") });
        }
        // Root may; anybody else may as the root of a user namespace, where the machine allows those.
        let entered = unshare(CloneFlags::CLONE_NEWNET)
            .or_else(|_| unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET));
        match entered {
            Ok(()) => raise_loopback().map(|()| Self::Own),
            Err(errno) => Ok(Self::Shared { why: format!("this machine allows no network namespace ({errno:?})") }),
        }
    }

    /// Runs `start` in such a network, where the machine allows one: processes that it starts live there, and this process does
    /// not.
    ///
    /// A namespace belongs to a thread, and is inherited by what the thread starts; so a thread is all that it takes.
    pub fn inside<T: Send>(start: impl FnOnce(Self) -> Result<T> + Send) -> Result<T> {
        let doing = "start processes in a network of their own";
        let outcome = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("private network".into());
            let thread = thread.spawn_scoped(scope, || Self::enter().and_then(start));
            thread.map(|thread| thread.join())
        });
        joined(doing, outcome.doing(doing)?)
    }

    /// Whether the network is the experiment's own.
    pub fn is_own(&self) -> bool {
        *self == Self::Own
    }

    /// Why it is not, in a sentence; nothing where it is.
    pub fn why_shared(&self) -> Option<&str> {
        match self {
            Self::Own => None,
            Self::Shared { why } => Some(why),
        }
    }

    /// Changes a setting below `/proc/sys/net`, in a network of our own only.
    pub fn set(&self, name: &str, value: impl ToString) -> Result<()> {
        let value = value.to_string();
        let doing = format!("set {name} to {value}");
        if let Self::Shared { why } = self {
            return Err(Error::new(doing, why));
        }
        std::fs::write(file_of(name), &value).doing(doing)
    }

    /// A setting of the network that this process is in, where there is one of this name.
    pub fn setting(name: &str) -> Option<String> {
        std::fs::read_to_string(file_of(name)).ok().map(|text| text.trim().to_string())
    }
}

fn file_of(setting: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net").join(setting)
}

/// Brings loopback up, as `ip link set lo up` does: one message to the kernel, and its answer.
fn raise_loopback() -> Result<()> {
    let doing = "bring loopback up";
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)
        .doing(doing)?;
    const LOOPBACK: i32 = 1; // the first interface of every namespace
    let up = libc::IFF_UP as u32;
    let mut message = Vec::with_capacity(32);
    message.extend_from_slice(&32_u32.to_ne_bytes());
    message.extend_from_slice(&libc::RTM_NEWLINK.to_ne_bytes());
    message.extend_from_slice(&((libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16).to_ne_bytes());
    message.extend_from_slice(&[0; 8]); // sequence and port
    message.extend_from_slice(&[libc::AF_UNSPEC as u8, 0, 0, 0]);
    message.extend_from_slice(&LOOPBACK.to_ne_bytes());
    message.extend_from_slice(&up.to_ne_bytes()); // the flags …
    message.extend_from_slice(&up.to_ne_bytes()); // … and which of them are meant
    sendto(netlink.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty()).doing(doing)?;
    let mut answer = [0_u8; 256];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty()).doing(doing)?;
    // An acknowledgement is an error message whose error, behind the header, is zero.
    let code = answer[..length].get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(Error::new(doing, Errno::from_raw(-code))),
        None => Err(Error::new(doing, "the kernel's answer is too short")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_network_is_left_as_it_is() {
        let shared = Network::Shared { why: "for this test".into() };
        let error = shared.set("ipv4/tcp_tw_reuse", 0).unwrap_err();
        assert_eq!(error.to_string(), "could not set ipv4/tcp_tw_reuse to 0: for this test");
        assert_eq!(shared.why_shared(), Some("for this test"));
    }

    #[test]
    fn what_starts_inside_has_a_network_of_its_own_and_this_process_has_not() {
        let namespace = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/net")).unwrap();
        let before = namespace("thread-self");
        let found = Network::inside(|network| {
            // It connects to itself over a loopback that is up.
            let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).doing("listen")?;
            let address = listener.local_addr().doing("listen")?;
            std::net::TcpStream::connect(address).doing("connect")?;
            let seen = network.set("core/somaxconn", 77).is_ok();
            let child = std::process::Command::new("readlink").arg("/proc/self/ns/net").output().doing("look")?;
            Ok((network, seen, String::from_utf8_lossy(&child.stdout).trim().to_string()))
        });
        let (network, set, inherited) = found.unwrap();
        assert_eq!(namespace("thread-self"), before, "the thread that asked stays where it was");
        assert_eq!(network.is_own(), inherited != before.to_string_lossy());
        assert_eq!(set, network.is_own());
        assert_ne!(Network::setting("core/somaxconn").as_deref(), Some("77"));
        assert_eq!(Network::setting("ipv4/there_is_none"), None);
        let failed = Network::inside(|_| Err::<(), _>(Error::new("begin", "for this test")));
        assert_eq!(failed.unwrap_err().cause(), "for this test");
    }
}

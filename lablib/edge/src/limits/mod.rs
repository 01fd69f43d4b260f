//! The limits that one machine sets to its connections: each as the kernel states it, as theory predicts it, and as it is met.
//!
//! Every experiment runs in a process of its own (`lab limits`), in a network namespace of its own where the machine allows
//! one: ranges are narrowed and settings changed there, and nothing has to be put back. Where it does not, ports are
//! narrowed socket by socket, and what would need a setting is left out, and said.
//!
//! - **Exact**: descriptors and ports run out at exactly the predicted number, with the predicted error ([`descriptors()`],
//!   [`ports()`]); a listener's queues hold exactly one more than their backlog ([`begin_backlog`]).
//! - **Harmless**: no limit or setting outside the experiment's own process and namespace is changed, and no port of the
//!   machine's is left in TIME_WAIT; except where there is no namespace, for a minute, by the clients whose TIME_WAIT is what
//!   is looked at ([`Network`](lab::Network)).
//! - **Counted**: how many connections a client makes while its ports are kept is counted, not computed ([`begin_time_wait`]).
//! - **Gone with its owner**: a process of an experiment ends when whoever started it does, however that was.

pub(crate) mod backlog;
pub(crate) mod descriptors;
mod kernel;
pub(crate) mod ports;
pub(crate) mod time_wait;

pub use crate::process::Begun;
pub use crate::sockets::{TIME_WAIT, ephemeral_ports};
pub use backlog::{Backlog, BacklogSpec, begin_backlog};
pub use descriptors::{DescriptorSpec, Descriptors, descriptors};
pub use kernel::kernel_says;
use lab::Drawing;
pub use ports::{PortSpec, Ports, ports};
pub use time_wait::{
    Closed, Closes, TimeWaitSpec, Waited, arm, begin_time_wait, close_after_sending, graceful_and_reset, kept,
    progress_chart,
};

/// Where on its way from client to server a connection meets each limit.
pub fn picture() -> Drawing {
    let plain = "client process: descriptors, threads. Its ports: EADDRNOTAVAIL, TIME_WAIT. SYN queue: a cookie, or dropped. Accept \
                 queue: dropped. Server process: descriptors, threads. Below all of them: the kernel's memory.\n";
    Drawing::committed("The limits along a connection's way", include_str!("picture.svg"), plain)
}

//! What one machine holds: each limit on connections as the kernel states it, as theory predicts it, and as it is met.
//!
//! Every experiment runs in a process of its own (`lab limits`), in a network namespace of its own where the machine allows
//! one: ranges are narrowed and settings changed there, and nothing has to be put back. Where it does not, ports are
//! narrowed socket by socket, and what would need a setting is left out, and said.
//!
//! - **Exact**: descriptors and ports run out at exactly the predicted number, with the predicted error ([`descriptors()`],
//!   [`ports()`]).
//! - **Harmless**: no limit or setting outside the experiment's own process and namespace is changed, and no port of the
//!   machine's is left in TIME_WAIT; except where there is no namespace, for a minute, by the clients whose TIME_WAIT is what
//!   is looked at ([`Network`](lab::Network)).
//! - **Nothing lost by keeping alive**: a request through [`KeepAlive`] is answered once or fails with one sentence, never
//!   gets another's answer, and survives a server that closes idle connections.
//! - **Bounded**: a [`KeepAlive`] never has more connections open than it may, and its callers wait no longer than they said.
//! - **Held at once**: a [fleet](mod@fleet) of processes opens as many connections as were asked for, has each of them echo, and stops
//!   cleanly, with the reason, before memory runs short.
//! - **Gone with its owner**: a process of an experiment ends when whoever started it does, however that was.

mod backlog;
mod chamber;
mod descriptors;
pub mod echo;
pub mod fleet;
mod frames;
mod keep_alive;
mod kernel;
mod lanes;
pub mod memory;
mod namespace;
mod picture;
mod pieces;
mod pooling;
mod ports;
pub mod threads_and_tasks;
mod time_wait;

pub use backlog::{Backlog, BacklogSpec, Burst, Handshakes, QueuePoint, Queues, begin_backlog};
pub use descriptors::{DescriptorPoint, DescriptorSpec, Descriptors, FullServer, descriptors};
pub use echo::experiment::*;
pub use echo::{Fault, Framing, Model, ServerSpec};
pub use fleet::experiment::*;
pub use fleet::{
    ConnectSpec, FleetNetwork, FleetSpec, Plan, Room, State, Usage, Voyage, Worker, connections_process, sail,
};
pub use frames::{Answerer, LONGEST};
pub use keep_alive::{KeepAlive, KeepAliveStats, Without};
pub use kernel::{Kernel, TIME_WAIT};
pub use memory::experiment::*;
pub use memory::{MachineMemory, ProcessMemory, Slab, Slabs, SockStat, open_files};
pub use picture::picture;
pub use pieces::limits_process;
pub use pooling::{Closed, Cost, Pooling, PoolingSpec, Starved, pooling};
pub use ports::{PortPoint, PortSpec, Ports, Way, ports};
pub use threads_and_tasks::experiment::*;
pub use threads_and_tasks::{Crew, CrewSpec, Kind, RelaySpec, Relayed, ThreadLimit, thread_limits};
pub use time_wait::{
    Closes, Reset, TimeWaitSpec, TimeWaits, Waited, arm, begin_time_wait, close_after_sending, each_second_chart,
    kept_table, long_chart, progress_chart, rate_chart,
};

//! What one machine holds.

// Connections by the many: memory, threads and tasks, the fleet, the echo servers.
pub mod echo;
pub mod fleet;
pub mod memory;
pub mod threads_and_tasks;

pub use echo::experiment::*;
pub use echo::{Fault, Framing, Model, ServerSpec};
pub use fleet::experiment::*;
pub use fleet::{
    ConnectSpec, FleetNetwork, FleetSpec, Plan, Room, State, Usage, Voyage, Worker, connections_process, sail,
};
pub use memory::experiment::*;
pub use memory::{MachineMemory, ProcessMemory, Slab, Slabs, SockStat, open_files};
pub use threads_and_tasks::experiment::*;
pub use threads_and_tasks::{Crew, CrewSpec, Kind, RelaySpec, Relayed, ThreadLimit, thread_limits};

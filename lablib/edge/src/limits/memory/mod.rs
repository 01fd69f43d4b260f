//! What one idle connection costs: in the kernel at both ends, and in the program that holds it.
//!
//! - **Counted, not guessed**: the kernel's part is the growth of its own caches while connections are opened, the program's
//!   part is the growth of its resident memory; every connection has echoed before it counts as open.
//! - **Predicted from the kernel's own sizes**: an object's size is read from this machine, and only how many objects a
//!   connection needs is said beforehand ([`PARTS`]).
//! - **Buffers are limits**: a connection with nothing in its buffers pays nothing for them, whatever they are set to; what
//!   is unread is paid for, up to that setting.
//! - **Nothing is left**: after each measurement the processes are gone, and the kernel's sockets with them.

pub mod experiment;
mod kernel;

pub use kernel::{MachineMemory, PARTS, ProcessMemory, Slab, Slabs, SockStat, open_files, predicted_pair_bytes};
pub(crate) use kernel::{PAGE, number_in};

//! The edge: what stands between a client and the servers.
//!
//! | system | the question |
//! |---|---|
//! | [`limits`] | which limit on connections does one machine meet first, at which number, and with which error? |
//! | [`keep_alive`] | what does it save to keep connections open, and what does it take? |
//! | [`memory`] | what does an idle connection cost, in the kernel and in the program? |
//! | [`threads_and_tasks`] | what does a thread cost beside a task, and how many can there be? |
//! | [`echo`] | five ways to serve many connections: what does each of them cost? |
//! | [`fleet`] | how many connections does one machine hold? |
//!
//! They stand on a [process](worker) of its own for one end of many connections, and on [what the kernel says](procfs).

mod descriptor_tables;
pub mod echo;
pub mod fleet;
pub mod keep_alive;
pub mod limits;
pub mod memory;
mod process;
pub mod procfs;
mod sockets;
pub mod threads_and_tasks;
pub mod worker;

pub use process::limits_process;

//! Proof of durability: a process killed at a named [`point()`], and a power cut on a [`SimulatedDisk`].
//!
//! A killed process leaves the operating system's cache behind, so `kill -9` shows what a system does with a half-finished
//! job, and nothing about fsync. For that, a system writes through [`Disk`](crate::disk::Disk): on a [`RealDisk`](crate::disk::RealDisk) when it works, on a
//! [`SimulatedDisk`] when the power is cut, where only what was synced is sure to come back.
//!
//! * A point costs one relaxed load until it is armed, and a point that is never reached fails its test.
//! * After a power cut, each write, length and name since the last sync of its file or folder was kept, dropped or torn,
//!   each for itself. What was synced is never touched.
//! * A failed sync marks its writes as clean, as Linux does: a later sync that succeeds does not bring them back.
//! * [`PowerCutTest`] cuts a store after every operation, opens it again, and compares with what was acknowledged. A
//!   failure names its seed and its case, and can be replayed.
//!
//! What it does not prove: disks that lie about a sync, and sectors that lose bytes next to those written to them.

mod child;
mod outcome;
mod point;
mod power_cut;
mod simulated;
mod state;

pub(crate) use child::acknowledged_in;
pub use child::{Child, Crash, Ended, Reached, acknowledge, in_role};
pub use outcome::Tearing;
pub use point::point;
pub use power_cut::{Durable, PowerCutTest, Survived};
pub use simulated::{Fault, SimulatedDisk};

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

use crate::procfs::Slabs;
pub use experiment::{Way, buffers, idle_memory, parts, user_memory, ways};

/// What one connection needs in the kernel, at both ends together, by cache.
///
/// Both ends are a socket of TCP with the inode, the directory entry and the open file that make it a file, and an
/// item in an epoll set. The end that connects also holds its port, in two tables. Kernels merge caches of one size, so
/// the small ones stand under the name that the kernel of this machine lists.
pub const PARTS: [(&str, f64); 8] = [
    ("TCP", 2.0),
    ("sock_inode_cache", 2.0),
    ("filp", 2.0),
    ("dentry", 2.0),
    ("eventpoll_epi", 4.0),
    ("ep_head", 2.0),
    ("lsm_inode_cache", 2.0),
    ("lsm_file_cache", 2.0),
];

/// The bytes that a pair of connected sockets must cost, from the sizes that the kernel states and the objects that it needs.
pub fn predicted_pair_bytes(slabs: &Slabs) -> f64 {
    PARTS.iter().filter_map(|(name, objects)| Some(objects * slabs.get(name)?.bytes_each())).sum()
}

/// Bytes by which the caches of sockets grew.
pub(crate) fn grown_bytes(before: &Slabs, after: &Slabs) -> f64 {
    let bytes = |name| after.grown(before, name) * after.get(name).map_or(0.0, |slab| slab.bytes_each());
    PARTS.iter().map(|(name, _)| bytes(name)).sum()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_costs_its_objects() {
        let text = "slabinfo - version: 2.1\nTCP 130 130 2368 13 8\nfilp 840 840 192 21 1\n";
        let slabs = Slabs::parse(text).unwrap();
        let expected = 2.0 * 32_768.0 / 13.0 + 2.0 * 4096.0 / 21.0;
        assert!((predicted_pair_bytes(&slabs) - expected).abs() < 1e-9);
        let later = Slabs::parse(&text.replace("TCP 130", "TCP 143")).unwrap();
        assert!((grown_bytes(&slabs, &later) - 32_768.0).abs() < 1e-9);
    }
}

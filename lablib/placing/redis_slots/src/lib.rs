//! Redis Cluster: 16,384 slots dealt out to masters, a client that finds them, and three answers to a hot key.
//!
//! Guarantees:
//!
//! - **The server's slots**: [`slot_of`] is what `CLUSTER KEYSLOT` says, for any bytes, hash tags included.
//! - **No error from a move**: while a slot moves from one master to another ([`SlotMove`]), a [`Client`]'s request is
//!   answered, by whoever holds the key: MOVED, ASK and TRYAGAIN are followed, and a write is done once. A request for keys
//!   on both sides waits until they are on one, for no longer than its deadline.
//! - **Nothing overwritten by a move**: a mover that fails is resumed by another. A key that it left on both nodes is
//!   carried over where both copies are equal or the target's cannot be newer; of any other the caller decides.
//! - **Told what is unknown**: a write whose connection broke before the answer is [`Failure::Unknown`], and not tried again
//!   unless doing it twice does no harm; nor is it done late, behind what the client asks the same node afterwards.
//! - **Exact split**: the parts of a [`SplitKey`] sum up to the acknowledged increments, whichever clients wrote them,
//!   because all clients agree on one list of parts; as long as no master loses what it has acknowledged.
//! - **No late cache**: a cached value is not served once the server's word that it has changed has arrived here, nor
//!   longer than the lease after the change if that word is lost; a connection that breaks takes its values along. (What
//!   expires has changed when the server has noticed.)

mod client;
mod copies;
pub mod experiment;
mod map;
mod meter;
mod options;
mod request;
mod said;
mod slot;
mod slot_move;
mod split;
mod wire;

use lab::Drawing;

pub use client::{Client, Detours};
pub use map::SlotMap;
pub use meter::Meter;
pub use options::{ClientOptions, Skip};
pub use request::{Failure, Request};
pub use slot::{SLOTS, crc16, hash_tag, slot_of, slot_without_tags};
pub use slot_move::{Side, SlotMove};
pub use split::SplitKey;

/// The way from a key to its node in a cluster of three masters: in bold stands the part of the key that is hashed.
pub fn picture() -> Drawing {
    let title = "16,384 slots, dealt out to masters; a key belongs to the slot that the CRC16 of its hashed part says";
    Drawing::committed(title, include_str!("picture.svg"), include_str!("picture.txt"))
}

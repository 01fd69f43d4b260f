//! Insert a row, or change the one that is there: seven ways that do not mean the same.
//!
//! A [`Table`] of contacts, one for each e-mail address, and a [`Writer`] that puts contacts into it in one of the
//! [`Way`]s. Putting a contact means: if the address is new, a row with a name and a phone; if it is known, a new phone and
//! one more in the row's count of changes, and nothing else.
//!
//! - A contact that was put is on disk, by every way but the broken ones, whatever happens to the server afterwards.
//! - What is put in one call by [`Way::Batched`] or [`Way::Staged`] is there as a whole or not at all.
//! - The ways that [keep a row](Way::keeps_the_row) leave its number, its other columns and what refers to it as they are,
//!   and count each change once, however many clients put the same contact. The other two are here to be looked at.
//! - Whoever has to give way tries again and counts that: at a deadlock, and where [`Way::SelectForUpdate`] meets a contact that
//!   was inserted after it had looked. Anything else that the server refuses is an error.
//! - Any text that a contact accepts comes back byte for byte, by every way.

mod contact;
pub mod experiment;
mod prototype;
mod table;
mod way;
mod writer;

pub use contact::Contact;
use lab::Drawing;
pub use table::{Event, Extras, OnDelete, Row, Table};
pub use way::Way;
pub use writer::{Done, Writer};

/// A known contact with an order, before a put and after it, by a way that keeps the row and by the one that does not.
pub fn picture() -> Drawing {
    let plain = "before: id 7, ada@…, phone 555-1, note \"kept\"; order 31 → contact 7\n\
                 ON DUPLICATE KEY UPDATE: id 7, ada@…, phone 555-2, note \"kept\"; order 31 → contact 7\n\
                 REPLACE: id 8, ada@…, phone 555-2, note \"\"; order 31 gone with contact 7\n";
    Drawing::committed("The same put of a known contact, by two statements", include_str!("picture.svg"), plain)
}

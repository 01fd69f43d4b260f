//! Pagination: pages of a sorted table, by OFFSET, by key and by deferred join, and cursors that cannot be forged.
//!
//! A [`Query`] says which rows and in which order; a [`Pager`] reads them page by page; a [`Page`] carries a [`Cursor`] to
//! the next page and one to the page before it, signed by a [`Signer`].
//!
//! - **A total order**: the primary key always has the last word, so that no two rows are at one place. Directions may be
//!   mixed, and NULL is a place like any other; columns that the server would sort by something else than their value are refused.
//! - **The same rows**: by key, by [`offset`](Pager::offset) and by [`deferred`](Pager::deferred) join, forwards and
//!   backwards, a page holds the same rows in the same order.
//! - **Flat**: a page by key reads its own rows and one more, however deep it lies, where an index has the order's columns.
//! - **No drift**: whatever is inserted or deleted meanwhile, a walk by key shows each row that stays where it is exactly once.
//! - **Cursors are the pager's own**: one that was changed, cut off, made up, signed with another key, or made for another
//!   query, sort or filter is refused with one sentence. What is in it reaches the server as parameters, never as SQL.
//! - **A lost server loses nobody's place**: the error says so, and the same cursor goes on once the server is back.

mod cursor;
pub mod experiment;
mod pager;
pub mod prototype;
mod query;
mod statement;
mod table;
mod value;

pub use cursor::{Cursor, Signer};
use lab::Drawing;
pub use mysql::{Value, from_value};
pub use pager::{Page, Pager, Pages, Row};
pub use query::{Direction, Query};

/// How a keyset page says "behind this row" to the server. They mean the same and cost differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// `a > ? OR (a = ? AND b > ?)`: ranges of an index on (a, b), each found by its beginning. The default.
    #[default]
    Ranges,
    /// `a >= ? AND (a > ? OR b > ?)`: one range, which begins with the first row that has this `a`.
    Guarded,
    /// `(a, b) > (?, ?)`: the shortest, which MariaDB does not make a range of. One direction and no NULL only.
    RowComparison,
}

/// A step of the system that can be left out, to see which check notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// The primary key does not end the order: rows with the same sort key share a place.
    TieBreaker,
    /// A cursor's signature is not looked at.
    Signature,
    /// A cursor is not asked which query it was made for.
    Fingerprint,
}

/// OFFSET walks to the page over everything before it; a key goes down the tree and is there.
pub fn picture() -> Drawing {
    let plain = "OFFSET 28 walks over 28 rows and throws them away, then reads the 6 of the page.\n\
                 A key leads down the tree to the 29th row at once, and the 6 of the page are read.\n";
    Drawing::committed("Two ways to one page of an index", include_str!("picture.svg"), plain)
}

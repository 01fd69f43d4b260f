//! The seven ways, by name.

use std::fmt;

/// How a contact is inserted or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// `INSERT … ON DUPLICATE KEY UPDATE`, a statement for each contact.
    OnDuplicateKey,
    /// `REPLACE`: deletes what is in the way and inserts anew. Whoever referred to the old row referred to something that is gone.
    Replace,
    /// A `SELECT`, then an `INSERT` or an `UPDATE`, as somebody writes it who has not met a second client yet.
    SelectThenWrite,
    /// The same in a transaction, with `FOR UPDATE`.
    SelectForUpdate,
    /// `INSERT IGNORE`, and an `UPDATE` where nothing was inserted.
    InsertIgnoreThenUpdate,
    /// `INSERT … ON DUPLICATE KEY UPDATE` for many contacts in one statement.
    Batched,
    /// `LOAD DATA` into a table of one's own, merged from there by one statement.
    Staged,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::OnDuplicateKey,
        Self::Replace,
        Self::SelectThenWrite,
        Self::SelectForUpdate,
        Self::InsertIgnoreThenUpdate,
        Self::Batched,
        Self::Staged,
    ];

    /// Whether the row of a known contact stays the row that it was, and no client's change gets lost.
    pub fn keeps_the_row(self) -> bool {
        !matches!(self, Self::Replace | Self::SelectThenWrite)
    }

    /// Whether several contacts go into one transaction.
    pub fn takes_many(self) -> bool {
        matches!(self, Self::Batched | Self::Staged)
    }

    /// A name that a table may have.
    pub(super) fn slug(self) -> &'static str {
        match self {
            Self::OnDuplicateKey => "on_duplicate_key",
            Self::Replace => "replaced",
            Self::SelectThenWrite => "select_then_write",
            Self::SelectForUpdate => "select_for_update",
            Self::InsertIgnoreThenUpdate => "insert_ignore",
            Self::Batched => "batched",
            Self::Staged => "staged",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OnDuplicateKey => "ON DUPLICATE KEY",
            Self::Replace => "REPLACE",
            Self::SelectThenWrite => "SELECT, then write",
            Self::SelectForUpdate => "SELECT FOR UPDATE",
            Self::InsertIgnoreThenUpdate => "INSERT IGNORE",
            Self::Batched => "many rows at once",
            Self::Staged => "LOAD DATA, merge",
        })
    }
}

//! The names of what can go wrong between transactions, and which isolation level allows which.

use std::fmt;

/// A kind of anomaly. G-numbers are Adya's, P4 is Berenson's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnomalyKind {
    /// G0: transactions overwrote each other in a circle.
    DirtyWrite,
    /// G1a: read what an aborted transaction wrote.
    AbortedRead,
    /// G1b: read what a transaction wrote before it was done writing that key.
    IntermediateRead,
    /// G1c: transactions overwrote or read each other in a circle.
    CircularInformation,
    /// Read what nobody wrote.
    PhantomValue,
    /// One append shows twice in a list.
    DuplicateAppend,
    /// Two reads, or a transaction's own order and a read, disagree on the order of a list.
    IncompatibleOrder,
    /// A transaction missed its own earlier write, or saw its own later one.
    Internal,
    /// Two reads of one transaction disagree.
    NonRepeatableRead,
    /// P4: two transactions read the same version and both replaced it.
    LostUpdate,
    /// G-single: saw part of another transaction's effects, or of a chain of them. Also called read skew.
    ReadSkew,
    /// A circle with several missed writes, no two of them in a row: no snapshot allows it.
    NonAdjacent,
    /// G2-item: each of several transactions missed another's write. With two of them, write skew.
    WriteSkew,
    /// A circle only when counting which transactions ended before others began: a stale read, for example.
    RealTime,
}

impl AnomalyKind {
    /// The short name that papers and test tools use.
    pub fn code(self) -> &'static str {
        match self {
            Self::DirtyWrite => "G0",
            Self::AbortedRead => "G1a",
            Self::IntermediateRead => "G1b",
            Self::CircularInformation => "G1c",
            Self::PhantomValue => "phantom value",
            Self::DuplicateAppend => "duplicate append",
            Self::IncompatibleOrder => "incompatible order",
            Self::Internal => "internal",
            Self::NonRepeatableRead => "non-repeatable read",
            Self::LostUpdate => "P4",
            Self::ReadSkew => "G-single",
            Self::NonAdjacent => "G-nonadjacent",
            Self::WriteSkew => "G2-item",
            Self::RealTime => "real time",
        }
    }
}

impl fmt::Display for AnomalyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::DirtyWrite => "G0 (dirty write)",
            Self::AbortedRead => "G1a (aborted read)",
            Self::IntermediateRead => "G1b (intermediate read)",
            Self::CircularInformation => "G1c (circular information flow)",
            Self::LostUpdate => "P4 (lost update)",
            Self::ReadSkew => "G-single (read skew)",
            Self::NonAdjacent => "G-nonadjacent",
            Self::WriteSkew => "G2-item (write skew)",
            other => other.code(),
        };
        f.write_str(name)
    }
}

/// An isolation level, over single items (nothing here looks at predicates).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isolation {
    /// No dirty writes.
    ReadUncommitted,
    /// Only final writes of committed transactions are read, and no circles of writing and reading.
    ReadCommitted,
    /// Everything read came from one moment, and no two concurrent transactions wrote the same key.
    SnapshotIsolation,
    /// Adya's: what was read does not change before the end. Over single items this is the same as serialisable, and
    /// stronger than what most servers call by this name.
    RepeatableRead,
    /// Equal to some serial order.
    Serializable,
    /// Equal to a serial order in which whoever ended before another began comes first.
    StrictSerializable,
}

impl Isolation {
    /// Whether a history of this level may show `kind`.
    pub fn allows(self, kind: AnomalyKind) -> bool {
        use AnomalyKind::*;
        let lowest_that_forbids = match kind {
            DirtyWrite | PhantomValue | DuplicateAppend | Internal => Self::ReadUncommitted,
            AbortedRead | IntermediateRead | CircularInformation | IncompatibleOrder => Self::ReadCommitted,
            NonRepeatableRead | LostUpdate | ReadSkew | NonAdjacent => Self::SnapshotIsolation,
            WriteSkew => Self::RepeatableRead,
            RealTime => Self::StrictSerializable,
        };
        self < lowest_that_forbids
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadUncommitted => "read uncommitted",
            Self::ReadCommitted => "read committed",
            Self::SnapshotIsolation => "snapshot isolation",
            Self::RepeatableRead => "repeatable read",
            Self::Serializable => "serializable",
            Self::StrictSerializable => "strict serializable",
        })
    }
}

/// One anomaly, with everything a reader needs to look it up in the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anomaly {
    /// What it is.
    pub kind: AnomalyKind,
    /// Positions of the transactions involved, as they were given; `T3` in the sentence is position 3.
    pub transactions: Vec<usize>,
    /// What happened, step by step.
    pub sentence: String,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.sentence)
    }
}

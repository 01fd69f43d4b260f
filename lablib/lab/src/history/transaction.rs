//! One transaction as its client saw it.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

/// One step of a transaction. A key is either a list or a register throughout a history.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Access {
    /// Appended `value` to the list `key`.
    Append {
        /// The list.
        key: String,
        /// Unique among everything appended to that list.
        value: i64,
    },
    /// Read the whole list `key`.
    ReadList {
        /// The list.
        key: String,
        /// What was in it.
        values: Vec<i64>,
    },
    /// Set the register `key`.
    Write {
        /// The register.
        key: String,
        /// Unique among everything written to that register.
        value: i64,
    },
    /// Read the register `key`.
    Read {
        /// The register.
        key: String,
        /// What was in it; `None` before the first write.
        value: Option<i64>,
    },
}

impl Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append { key, value } => write!(f, "{key} += {value}"),
            Self::ReadList { key, values } => write!(f, "{key} is {values:?}"),
            Self::Write { key, value } => write!(f, "{key} = {value}"),
            Self::Read { key, value: Some(value) } => write!(f, "{key} is {value}"),
            Self::Read { key, value: None } => write!(f, "{key} is absent"),
        }
    }
}

/// How a transaction ended, as far as its client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransactionOutcome {
    /// The commit was acknowledged.
    Committed,
    /// It was rolled back, by the client or the server.
    Aborted,
    /// The answer to the commit never came.
    Unknown,
}

/// One transaction. Times are nanoseconds since the history began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Who ran it.
    pub process: usize,
    /// Its steps in their order.
    pub accesses: Vec<Access>,
    /// When it began.
    pub invoked: u64,
    /// When the client knew its end or gave up; `None` if never.
    pub returned: Option<u64>,
    /// How it ended.
    pub outcome: TransactionOutcome,
}

impl Transaction {
    /// A committed transaction, concurrent with all others until [`Transaction::during`] says otherwise.
    ///
    /// ```
    /// use lab::history::{Transaction, serializable};
    ///
    /// let skew = [
    ///     Transaction::by(0).read_list("x", []).append("y", 1),
    ///     Transaction::by(1).read_list("y", []).append("x", 2),
    /// ];
    /// let report = serializable::check(&skew).unwrap();
    /// assert!(!report.serializable);
    /// ```
    pub fn by(process: usize) -> Self {
        Self { process, accesses: Vec::new(), invoked: 0, returned: None, outcome: TransactionOutcome::Committed }
    }

    /// Then it appended to a list.
    pub fn append(self, key: impl Display, value: i64) -> Self {
        self.then(Access::Append { key: key.to_string(), value })
    }

    /// Then it read a whole list.
    pub fn read_list(self, key: impl Display, values: impl Into<Vec<i64>>) -> Self {
        self.then(Access::ReadList { key: key.to_string(), values: values.into() })
    }

    /// Then it set a register.
    pub fn write(self, key: impl Display, value: i64) -> Self {
        self.then(Access::Write { key: key.to_string(), value })
    }

    /// Then it read a register.
    pub fn read(self, key: impl Display, value: impl Into<Option<i64>>) -> Self {
        self.then(Access::Read { key: key.to_string(), value: value.into() })
    }

    /// It was rolled back.
    pub fn aborted(self) -> Self {
        Self { outcome: TransactionOutcome::Aborted, ..self }
    }

    /// Nobody knows whether it was committed.
    pub fn unknown(self) -> Self {
        Self { outcome: TransactionOutcome::Unknown, ..self }
    }

    /// It began and ended at these times.
    pub fn during(self, invoked: u64, returned: u64) -> Self {
        Self { invoked, returned: Some(returned), ..self }
    }

    /// Then it did `access`.
    pub fn then(mut self, access: Access) -> Self {
        self.accesses.push(access);
        self
    }

    /// Its steps and its end on one line.
    pub fn label(&self) -> String {
        let steps: Vec<String> = self.accesses.iter().map(Access::to_string).collect();
        let end = match self.outcome {
            TransactionOutcome::Committed => "",
            TransactionOutcome::Aborted => " → aborted",
            TransactionOutcome::Unknown => " → ?",
        };
        format!("{}{end}", steps.join(", "))
    }
}

//! One error for the whole lab: what was being done, to which server, why it failed, and what the reader can do about it.

use std::fmt;

/// The result of anything in the lab that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure in one sentence.
///
/// ```
/// use lab::Error;
///
/// let error = Error::new("start Redis", "no redis-server on this machine")
///     .at("redis-1")
///     .remedy("apt-get install redis-tools, or set LAB_REDIS_URL");
/// assert_eq!(
///     error.to_string(),
///     "could not start Redis (redis-1): no redis-server on this machine; apt-get install redis-tools, or set LAB_REDIS_URL"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    operation: String,
    subject: Option<String>,
    cause: String,
    remedy: Option<String>,
}

impl Error {
    /// `operation` completes "could not …"; `cause` says why.
    pub fn new(operation: impl Into<String>, cause: impl fmt::Display) -> Self {
        Self { operation: operation.into(), subject: None, cause: cause.to_string(), remedy: None }
    }

    /// Names the server, file or node that the operation was about.
    pub fn at(mut self, subject: impl fmt::Display) -> Self {
        self.subject = Some(subject.to_string());
        self
    }

    /// Says what to install, set or change.
    pub fn remedy(mut self, remedy: impl fmt::Display) -> Self {
        self.remedy = Some(remedy.to_string());
        self
    }

    /// What was being done.
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// Why it failed.
    pub fn cause(&self) -> &str {
        &self.cause
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {}", self.operation)?;
        if let Some(subject) = &self.subject {
            write!(f, " ({subject})")?;
        }
        write!(f, ": {}", self.cause)?;
        if let Some(remedy) = &self.remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Turns any foreign error into the lab's own, by saying what was being done.
pub trait Doing<T> {
    /// `operation` completes "could not …".
    fn doing(self, operation: impl Into<String>) -> Result<T>;
}

impl<T, E: fmt::Display> Doing<T> for std::result::Result<T, E> {
    fn doing(self, operation: impl Into<String>) -> Result<T> {
        self.map_err(|cause| Error::new(operation, cause))
    }
}

/// What a joined thread returned; that it panicked is an error like any other, and not to be missed.
pub fn joined<T>(operation: &str, thread: std::thread::Result<Result<T>>) -> Result<T> {
    thread.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        let cause = said.map_or("it panicked".to_string(), |said| format!("it panicked: {said}"));
        Err(Error::new(operation, cause))
    })
}

/// For the calls that a notebook cell makes: a value, or a cell that fails with one clear sentence.
///
/// A top-level `?` in a cell is always a success to `nbconvert`, so nothing that a cell calls returns a `Result`.
pub trait OrFail<T> {
    /// The value; a failure ends the cell and is shown as one sentence.
    fn or_fail(self) -> T;
}

impl<T, E: Into<Error>> OrFail<T> for Result<T, E> {
    #[track_caller]
    fn or_fail(self) -> T {
        match self {
            Ok(value) => value,
            Err(error) => std::panic::panic_any(error.into().to_string()),
        }
    }
}

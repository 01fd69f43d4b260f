//! How large an experiment is, and the seed that makes it repeatable: `LAB_SCALE` and `LAB_SEED`.

use std::fmt;

use crate::{Error, Result};

/// The size of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// At most 30 s a notebook on two busy cores; the default.
    Quick,
    /// The sizes of the prototypes themselves; at most 15 minutes a notebook.
    Full,
}

impl Scale {
    /// Reads `LAB_SCALE`.
    pub fn from_env() -> Result<Self> {
        Self::parse(std::env::var("LAB_SCALE").ok().as_deref())
    }

    fn parse(value: Option<&str>) -> Result<Self> {
        match value.unwrap_or_default() {
            "" | "quick" => Ok(Self::Quick),
            "full" => Ok(Self::Full),
            other => Err(Error::new("read LAB_SCALE", format!("{other:?} is no scale")).remedy("use quick or full")),
        }
    }

    /// `quick` or `full`, whichever this scale asks for.
    ///
    /// ```
    /// # use lab::Scale;
    /// assert_eq!(Scale::Quick.pick(10_000, 1_000_000), 10_000);
    /// ```
    pub fn pick<T>(self, quick: T, full: T) -> T {
        match self {
            Self::Quick => quick,
            Self::Full => full,
        }
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.pick("quick", "full"))
    }
}

/// The seed that `LAB_SEED` says; 1 where it says nothing.
pub fn seed_from_env() -> Result<u64> {
    match std::env::var("LAB_SEED") {
        Err(_) => Ok(1),
        Ok(text) if text.is_empty() => Ok(1),
        Ok(text) => text.parse().map_err(|_| {
            Error::new("read LAB_SEED", format!("{text:?} is no seed")).remedy("use a whole number from 0 to 2^64-1")
        }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn quick_is_the_default_and_nonsense_is_refused() {
        assert_eq!(Scale::parse(None), Ok(Scale::Quick));
        assert_eq!(Scale::parse(Some("")), Ok(Scale::Quick));
        assert_eq!(Scale::parse(Some("full")), Ok(Scale::Full));
        let error = Scale::parse(Some("huge")).unwrap_err().to_string();
        assert_eq!(error, "could not read LAB_SCALE: \"huge\" is no scale; use quick or full");
    }
}

//! Row locks and isolation levels.

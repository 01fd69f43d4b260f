//! Placing data: which node holds a key.

pub mod consistent_hashing;

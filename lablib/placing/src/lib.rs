//! Placing data: which node holds a key.
//!
//! | system | the question |
//! |---|---|
//! | [`consistent_hashing`] | how many keys move when nodes come and go, and how level is it? |
//! | [`hot_tenants`] | what if one tenant is as large as a thousand others? |
//! | [`redis_slots`] | where does a cluster keep a key, and what if everybody wants the same one? |
//! | [`sharding`] | how do rows move to another server while they are read and written? |
//!
//! Each is a crate beside this one's `src`: an edit of one system compiles that system and this list.

pub use {consistent_hashing, hot_tenants, redis_slots, sharding};

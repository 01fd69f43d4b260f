//! SQL: what a statement makes the server do.
//!
//! | system | the question |
//! |---|---|
//! | [`pagination`] | what does page 10,000 cost, and which rows does a reader miss on the way? |
//! | [`upsert`] | insert or update: in which way, at which price, and does it mean the same? |
//! | [`pool`] | how many connections do a thousand tasks need, and who waits how long? |
//! | [`row_locks`] | which anomalies does each isolation level let through, and who waits for whom? |
//! | [`check_in`] | how do you hand out the last seats to everybody at once? |
//! | [`replica`] | when may a reader ask a replica, and what does a failover lose? |
//! | [`kv`] | what does it take to make a key-value store of a table? |
//!
//! Each is a crate beside this one's `src`, for the room is the largest: an edit of one system compiles that system and this list.

pub use {check_in, kv, pagination, pool, replica, row_locks, upsert};

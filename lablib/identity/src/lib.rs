//! Identity: where a row's name comes from, and what its shape costs.
//!
//! | system | the question |
//! |---|---|
//! | [`snowflake`] | how do many machines hand out unique, sortable ids without asking each other? |
//! | [`tickets`] | what does it cost to ask somebody for the next number, and what is lost when somebody dies? |
//! | [`key_width`] | what does a wide key cost, and what does a key out of order cost? |
//!
//! Each is a crate beside this one's `src`: an edit of one system compiles that system and this list.

pub use {key_width, snowflake, tickets};

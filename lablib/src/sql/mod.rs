//! SQL: what a statement makes the server do.
//!
//! | system | the question |
//! |---|---|
//! | [`pagination`] | what does page 10,000 cost, and which rows does a reader miss on the way? |
//! | [`upsert`] | insert or update: in which way, at which price, and does it mean the same? |

pub mod pagination;
pub mod upsert;

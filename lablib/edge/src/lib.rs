//! The edge: what stands between a client and the servers.
//!
//! | system | the question |
//! |---|---|
//! | [`limits`] | how many connections does one machine hold, and which limit comes first? |

pub mod limits;

//! A pool of connections.

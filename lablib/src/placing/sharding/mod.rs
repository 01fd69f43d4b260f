//! Sharding: users over several SQL servers, and moving them while they are read and written.

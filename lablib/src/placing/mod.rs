//! Placing data: which node holds a key.

pub mod consistent_hashing;
pub mod hot_tenants;
pub mod redis_slots;
pub mod sharding;

//! Hot tenants: a search index whose tenants differ a thousandfold, and shards that stay level all the same.
//!
//! Elasticsearch sends a document to the shard that its routing key hashes to. With the tenant as the key, a tenant's
//! search asks one shard; and a tenant that is a third of all load makes one shard carry a third of it. [`TenantIndex`]
//! splits such a tenant over sub-keys, remembers how, and splits anew while documents are read and written.
//!
//! Guarantees:
//!
//! - **Compatible**: [`Routing`] finds the shard that Elasticsearch finds, whatever the routing key, the number of routing
//!   shards and the partition size.
//! - **Exactly once**: a document that was acknowledged and then refreshed is found by every later read of its tenant, once,
//!   in its latest version, also while the tenant is being split anew; one that was deleted is not found.
//! - **Remembered**: the split map is on disk before a reader sees it. After a crash at any point of a re-split, the same
//!   documents are found once, and no copy is left over.
//! - **No collisions**: no two sub-keys of a tenant lead to the same shard.
//! - **Measured**: who is split is decided by the observed rate alone, in bounded memory; a load that does not change is not
//!   moved twice.
//! - **Few moves**: a re-split moves buckets off shards that have too much, to shards that have room, and no others.

mod embedded;
pub mod experiment;
mod key_rule;
mod leveller;
mod meter;
mod planner;
pub mod prototype;
mod rates;
mod resplit;
mod rest;
mod routing;
mod shards;
mod split_map;
mod tenants;

pub use embedded::Embedded;
pub use key_rule::KeyRule;
pub use leveller::Leveller;
pub use planner::{Change as PlannedSplit, Planner, Watch};
pub use rates::Rates;
pub use resplit::{Resplit, Step};
pub use rest::Rest;
pub use routing::{Routing, default_routing_shards, hash_of};
pub use shards::{
    Ask, BUCKETS, Buckets, Change, Document, Found, Hit, SearchShards, ShardLoad, bucket_of, open, own_server_answers,
};
pub use split_map::{Split, SplitMap};
pub use tenants::{Skip, TenantIndex, View};

use lab::Drawing;

/// A tenant in three parts: the way from its documents to their shards.
pub fn picture() -> Drawing {
    let title = "A split tenant: a document's id decides its bucket, the split map the bucket's sub-key, the sub-key's hash the shard";
    let plain = "tenant1: 64 buckets by document id, over 3 sub-keys.\ntenant1#0: 22 buckets, on shard 1\n\
                 tenant1#2: 21 buckets, on shard 4\ntenant1#35: 21 buckets, on shard 7\n";
    Drawing::committed(title, include_str!("picture.svg"), plain)
}

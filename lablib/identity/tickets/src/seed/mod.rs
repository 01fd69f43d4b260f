//! The prototypes, as they are: what each hands out twice, and when.

mod range;
mod simple;
mod wrap;

pub use range::SeedRange;
pub use simple::{SeedCounter, SeedId};
pub use wrap::{SeedShard, SequenceIssuer};

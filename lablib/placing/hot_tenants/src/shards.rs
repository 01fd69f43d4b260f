//! What every strategy writes to and reads from: ten shards of a search index.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use super::routing::Routing;
use super::{Embedded, Rest, rest};
use lab::service::own_urls;
use lab::{Error, Result};

/// Names a search server of one's own.
const VARIABLE: &str = "LAB_SEARCH_URL";

/// Into so many buckets every tenant's documents fall; a bucket is what moves.
pub const BUCKETS: u32 = 64;

/// The bucket of a document, by its id alone.
pub fn bucket_of(id: u64) -> u32 {
    // Ids are handed out in sequence: their low bits are what a generator makes of them, so mix (splitmix64's finaliser).
    let mixed = (id ^ id >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ mixed >> 31) % u64::from(BUCKETS)) as u32
}

/// A set of buckets.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Buckets(u64);

impl Buckets {
    /// All of them.
    pub const ALL: Self = Self(u64::MAX);

    /// With this one, too.
    pub fn with(self, bucket: u32) -> Self {
        Self(self.0 | 1 << (bucket % BUCKETS))
    }

    /// Whether this one is among them.
    pub fn contains(self, bucket: u32) -> bool {
        self.0 >> (bucket % BUCKETS) & 1 == 1
    }

    /// How many there are.
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them, in ascending order.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        (0..BUCKETS).filter(move |bucket| self.contains(*bucket))
    }
}

impl FromIterator<u32> for Buckets {
    fn from_iter<I: IntoIterator<Item = u32>>(buckets: I) -> Self {
        buckets.into_iter().fold(Self::default(), Self::with)
    }
}

impl fmt::Debug for Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// A tenant's document.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Document {
    /// Unique among the documents of all tenants.
    pub id: u64,
    /// Whose it is.
    pub tenant: String,
    /// Grows with each update.
    pub version: u64,
    /// What can be searched for.
    pub text: String,
}

/// A change to the index, with the routing string that decides its shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Writes a document; one with the same id on the *same shard* is replaced. One on another shard is not seen: that is
    /// how a changed split doubles documents.
    Put {
        /// Leads to the shard.
        routing: String,
        /// What is written.
        document: Document,
    },
    /// Takes the document with this id off the shard; none there is no failure.
    Delete {
        /// Leads to the shard.
        routing: String,
        /// Which document.
        id: u64,
    },
}

/// A question to the shards that one routing string leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Leads to the shards.
    pub routing: String,
    /// Whose documents are wanted.
    pub tenant: String,
    /// Those in these buckets.
    pub buckets: Buckets,
    /// Those with this word in them; none means all.
    pub word: Option<String>,
}

impl Ask {
    /// For all documents of `tenant` where `routing` leads.
    pub fn all(routing: impl Into<String>, tenant: impl Into<String>) -> Self {
        Self { routing: routing.into(), tenant: tenant.into(), buckets: Buckets::ALL, word: None }
    }
}

/// A document that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hit {
    /// Which document.
    pub id: u64,
    /// In which version.
    pub version: u64,
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Every hit of every shard: a document that lies on two of them is here twice.
    pub hits: Vec<Hit>,
    /// How many shards were asked.
    pub shards: usize,
}

/// What one shard holds and has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShardLoad {
    /// Documents that a search can find.
    pub documents: u64,
    /// Time it was busy: for embedded shards, processor time of every thread that worked for it.
    pub busy: Duration,
}

/// The shards of one index. What is written is found after the next [`refresh`](Self::refresh), and not before.
pub trait SearchShards: Send + Sync {
    /// What they run on.
    fn name(&self) -> String;

    /// How a routing string finds its shard.
    fn routing(&self) -> &Routing;

    /// Makes these changes, those of one shard in their order. Returning is the acknowledgement.
    fn write(&self, changes: &[Change]) -> Result<()>;

    /// Makes findable what was acknowledged before the call.
    fn refresh(&self) -> Result<()>;

    /// Asks all of these, each of its own shards.
    fn search(&self, asks: &[Ask]) -> Result<Found>;

    /// The documents themselves, for copying; an [`Ask::word`] is not looked at.
    fn fetch(&self, ask: &Ask) -> Result<Vec<Document>>;

    /// What each shard holds and has done.
    fn loads(&self) -> Result<Vec<ShardLoad>>;
}

/// New, empty shards: ten tantivy indexes on this machine's disk, or an index on the server that `LAB_SEARCH_URL` names.
pub fn open(routing: Routing) -> Result<Box<dyn SearchShards>> {
    match own_url()? {
        Some(url) => Ok(Box::new(Rest::create(&url, routing)?)),
        None => Ok(Box::new(Embedded::create(routing)?)),
    }
}

/// Asks the server that `LAB_SEARCH_URL` names, if it is set, for an answer, before a run that could not use it starts.
pub fn own_server_answers() -> Result<()> {
    own_url()?.map_or(Ok(()), |url| rest::name_at(&url).map(drop))
}

fn own_url() -> Result<Option<String>> {
    let none = || Error::new(format!("read {VARIABLE}"), "it names no server");
    own_urls(VARIABLE).map(|urls| urls.into_iter().next().ok_or_else(none)).transpose()
}

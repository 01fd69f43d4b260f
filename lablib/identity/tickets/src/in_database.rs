//! Ids that a database makes where the row is: 41 bits of milliseconds, 13 of the shard, 10 that count.

use mysql::prelude::Queryable;

use super::session::{Door, ONLY_ANSWER, Session, new_database};
use super::{Issuer, IssuerStats, Skip};
use lab::service::MariaDb;
use lab::{Error, Result};

/// Milliseconds from 1970 to 2011-01-01T00:00Z, where these ids begin.
pub(super) const EPOCH: u64 = 1_293_840_000_000;
const SHARD_BITS: u32 = 13;
const COUNT_BITS: u32 = 10;
const LAST_MILLISECOND: u64 = (1 << 41) - 1;

/// What is in an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstagramId {
    /// Milliseconds since 1970.
    pub milliseconds: u64,
    /// The shard that made it, below 8,192.
    pub shard: u16,
    /// Which one of its millisecond it is, below 1,024.
    pub count: u16,
}

impl InstagramId {
    /// The parts of an id.
    pub fn of(id: u64) -> Self {
        let shard = (id >> COUNT_BITS) & ((1 << SHARD_BITS) - 1);
        let count = id & ((1 << COUNT_BITS) - 1);
        Self { milliseconds: (id >> (SHARD_BITS + COUNT_BITS)) + EPOCH, shard: shard as u16, count: count as u16 }
    }
}

/// One shard: a database with the function `next_id()`, for use in its own INSERTs and by an [`Issuer`].
///
/// One row holds the last *tick*: the millisecond and the count as one number. The next tick is one more, or the present
/// millisecond's first, whichever is higher. So the 1,025th id of a millisecond is the first of the next one, and the
/// caller waits until that has come; and a clock that is set back makes nothing twice.
///
/// An id is its transaction's: where that is rolled back, so is the tick, and the next one may get the same id. So whoever
/// calls `next_id()` in a transaction of its own tells nobody the id before the commit; an [`Issuer`] asks outside of any.
#[derive(Clone)]
pub struct ShardIds {
    door: Door,
    database: String,
}

impl ShardIds {
    /// A new shard, in a database of its own.
    pub fn create(server: &MariaDb, shard: u16) -> Result<Self> {
        Self::create_without(server, shard, None)
    }

    /// The same, with one step left out.
    pub fn create_without(server: &MariaDb, shard: u16, step: Option<Skip>) -> Result<Self> {
        if shard >= 1 << SHARD_BITS {
            return Err(Error::new("create a shard", format!("shard {shard} does not fit into 13 bits")));
        }
        let database = new_database(server, &format!("insta_{shard}"), &statements(shard, step != Some(Skip::Wait)))?;
        Ok(Self { door: Door::to(server, &database, ONLY_ANSWER)?, database })
    }

    /// The database that is the shard.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// A client that asks for an id at a time.
    pub fn issuer(&self) -> ShardIssuer {
        ShardIssuer { session: self.door.session() }
    }
}

/// A client of a shard.
pub struct ShardIssuer {
    session: Session,
}

impl ShardIssuer {
    /// `count` ids that are all asked for in this millisecond, whatever the clock says, as after `SET timestamp`. They do not
    /// wait. For finding out what happens when there are more than 1,024.
    pub fn ids_at(&mut self, milliseconds: u64, count: u64) -> Result<Vec<u64>> {
        self.many(&format!("next_id_at({milliseconds})"), count)
    }

    /// So many ids in one statement, as for an INSERT of many rows.
    pub fn ids_in_one_statement(&mut self, count: u64) -> Result<Vec<u64>> {
        self.many("next_id()", count)
    }

    fn many(&mut self, call: &str, count: u64) -> Result<Vec<u64>> {
        let many = format!("SELECT {call} FROM seq_1_to_{count}");
        self.session.insist("take many ids from a shard", |connection| connection.query(&many))
    }
}

impl Issuer for ShardIssuer {
    fn next_id(&mut self) -> Result<u64> {
        self.session.ask("take an id from a shard", "SELECT next_id()")
    }

    fn stats(&self) -> IssuerStats {
        self.session.stats
    }
}

/// What a shard is made of. `READS SQL DATA` is an untruth that does no harm here: with the binary log on, a server wants
/// one of three words, and `DETERMINISTIC` would let it call the function once for many rows.
fn statements(shard: u16, waits: bool) -> Vec<String> {
    let row_bits = SHARD_BITS + COUNT_BITS;
    let mask = (1 << COUNT_BITS) - 1;
    let wait = if waits { "WHILE" } else { "WHILE FALSE AND" };
    vec![
        "CREATE TABLE id_clock (one TINYINT NOT NULL PRIMARY KEY, tick BIGINT UNSIGNED NOT NULL)".into(),
        "INSERT INTO id_clock VALUES (1, 0)".into(),
        format!(
            "CREATE FUNCTION next_id_at(ms BIGINT UNSIGNED) RETURNS BIGINT UNSIGNED NOT DETERMINISTIC READS SQL DATA \
             BEGIN \
               DECLARE new_tick BIGINT UNSIGNED; \
               UPDATE id_clock SET tick = GREATEST(tick + 1, (ms - {EPOCH}) << {COUNT_BITS}) WHERE one = 1; \
               SELECT tick INTO new_tick FROM id_clock WHERE one = 1; \
               IF new_tick >> {COUNT_BITS} > {LAST_MILLISECOND} THEN \
                 SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'the 41 bits of milliseconds are used up'; \
               END IF; \
               RETURN (new_tick >> {COUNT_BITS}) << {row_bits} | {shard} << {COUNT_BITS} | (new_tick & {mask}); \
             END"
        ),
        // SYSDATE, not NOW: the time of the call, not of the statement that it is a part of.
        "CREATE FUNCTION now_ms() RETURNS BIGINT UNSIGNED NOT DETERMINISTIC NO SQL \
         RETURN FLOOR(UNIX_TIMESTAMP(SYSDATE(3)) * 1000)"
            .into(),
        format!(
            "CREATE FUNCTION next_id() RETURNS BIGINT UNSIGNED NOT DETERMINISTIC READS SQL DATA \
             BEGIN \
               DECLARE id BIGINT UNSIGNED DEFAULT next_id_at(now_ms()); \
               DECLARE ahead BIGINT DEFAULT CAST((id >> {row_bits}) + {EPOCH} AS SIGNED) - CAST(now_ms() AS SIGNED); \
               IF ahead > 1000 THEN \
                 SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'the clock was set back by more than a second'; \
               END IF; \
               {wait} ahead > 0 DO \
                 DO SLEEP(ahead / 1000); \
                 SET ahead = CAST((id >> {row_bits}) + {EPOCH} AS SIGNED) - CAST(now_ms() AS SIGNED); \
               END WHILE; \
               RETURN id; \
             END"
        ),
    ]
}

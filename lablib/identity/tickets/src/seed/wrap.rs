//! The prototype's ids in the database: a sequence, taken modulo 1,024; and a bare sequence, as a database offers it.

use mysql::prelude::Queryable;

use crate::in_database::EPOCH;
use crate::session::{Door, ONLY_ANSWER, Session, new_database};
use crate::{Issuer, IssuerStats};
use lab::service::MariaDb;
use lab::{Error, Result};

/// A shard of the prototype's: millisecond, shard, and the next value of a sequence modulo 1,024.
pub struct SeedShard {
    session: Session,
}

impl SeedShard {
    /// A new one, in a database of its own.
    pub fn create(server: &MariaDb, shard: u16) -> Result<Self> {
        let function = format!(
            "CREATE FUNCTION next_id() RETURNS BIGINT UNSIGNED NOT DETERMINISTIC READS SQL DATA \
             RETURN (FLOOR(UNIX_TIMESTAMP(NOW(3)) * 1000) - {EPOCH}) << 23 | {shard} << 10 | NEXT VALUE FOR ids % 1024"
        );
        with_sequence(server, &format!("seed_insta_{shard}"), Some(function)).map(|session| Self { session })
    }

    /// So many ids while the clock stands at this millisecond.
    pub fn ids_at(&mut self, milliseconds: u64, count: u64) -> Result<Vec<u64>> {
        let (seconds, rest) = (milliseconds / 1_000, milliseconds % 1_000);
        let stop = format!("SET SESSION timestamp = {seconds}.{rest:03}");
        let doing = "take ids as the prototype does";
        self.session.insist(doing, |connection, _| connection.query_drop(&stop))?;
        (0..count).map(|_| first(&mut self.session, doing, "SELECT next_id()")).collect()
    }

    /// So many ids in one statement, at the clock's own pace.
    pub fn ids_in_one_statement(&mut self, count: u64) -> Result<Vec<u64>> {
        let many = format!("SELECT next_id() FROM seq_1_to_{count}");
        let doing = "take many ids as the prototype does";
        self.session.insist(doing, |connection, _| connection.query_drop("SET SESSION timestamp = DEFAULT"))?;
        self.session.insist(doing, |connection, _| connection.query(&many))
    }
}

/// A client of a database's own sequence, and nothing else.
pub struct SequenceIssuer {
    session: Session,
}

impl SequenceIssuer {
    /// A new sequence, in a database of its own, with the size of cache that is MariaDB's default.
    pub fn create(server: &MariaDb) -> Result<Self> {
        with_sequence(server, "sequence", None).map(|session| Self { session })
    }
}

impl Issuer for SequenceIssuer {
    fn next_id(&mut self) -> Result<u64> {
        first(&mut self.session, "take the next value of a sequence", "SELECT NEXT VALUE FOR ids")
    }

    fn stats(&self) -> IssuerStats {
        self.session.stats
    }
}

fn with_sequence(server: &MariaDb, base: &str, function: Option<String>) -> Result<Session> {
    let doing = "create a sequence";
    if !server.dialect().is_mariadb() {
        return Err(Error::new(doing, "MySQL has none").at(server.name()).remedy("use a MariaDB"));
    }
    let sequence = "CREATE SEQUENCE ids START WITH 1 CACHE 1000 NOCYCLE".to_string();
    let database = new_database(server, base, &[sequence].into_iter().chain(function).collect::<Vec<_>>())?;
    Ok(Door::to(server, &database, ONLY_ANSWER)?.session())
}

fn first(session: &mut Session, doing: &str, question: &str) -> Result<u64> {
    let id: Option<u64> = session.insist(doing, |connection, round_trips| {
        *round_trips += 1;
        connection.query_first(question)
    })?;
    id.ok_or_else(|| Error::new(doing, "it answered nothing"))
}

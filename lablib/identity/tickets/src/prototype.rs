//! The prototypes, as they are: what each hands out twice, and when. And a bare sequence, as a database offers it.

use std::fmt;
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;

use mysql::Conn;
use mysql::prelude::Queryable;

use crate::in_database::EPOCH;
use crate::session::{Door, ONLY_ANSWER, Session, new_database};
use crate::{Issuer, IssuerStats};
use lab::clock::Clock;
use lab::disk::Disk;
use lab::service::MariaDb;
use lab::{Doing, Error, Result, Rng};

/// Its times for a million ids, in milliseconds, by how many ids go between two saves.
pub const MILLION: [(u64, f64); 4] = [(100, 681.0), (500, 357.0), (1_000, 315.0), (10_000, 275.0)];
/// The same for ten million.
pub const TEN_MILLION: [(u64, f64); 3] = [(100, 6_899.0), (1_000, 3_222.0), (10_000, 2_880.0)];

const TAKING: &str = "take a range as the prototype does";

/// Its counter: a time stamp, a random machine number and a count, saved every so often without a sync.
pub struct Counter {
    disk: Arc<dyn Disk>,
    name: String,
    every: u64,
    counter: u64,
    clock: Arc<dyn Clock>,
    machines: Rng,
}

/// One of its ids, before it becomes a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CounterId {
    /// Milliseconds since 1970.
    pub milliseconds: u64,
    /// 0 to 10, thrown anew for every id: whatever it is, it is not a machine's number.
    pub machine: u64,
    /// The counter.
    pub counter: u64,
}

impl fmt::Display for CounterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:02}{:04}", self.milliseconds, self.machine, self.counter)
    }
}

impl Counter {
    /// Opens it, saving every so many ids: it goes on at what was saved, plus that many.
    pub fn open(disk: Arc<dyn Disk>, name: &str, every: u64, clock: Arc<dyn Clock>, seed: u64) -> Result<Self> {
        let doing = "open the prototype's counter";
        let saved = match disk.read(name) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).trim().parse().unwrap_or(0),
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(error).doing(doing),
        };
        let counter = if saved == 0 { 0 } else { saved + every };
        let name = name.to_string();
        Ok(Self { disk, name, every, counter, clock, machines: Rng::seeded(seed, "machine numbers") })
    }

    /// The next id, with all of its parts.
    pub fn next_whole(&mut self) -> Result<CounterId> {
        self.counter += 1;
        if self.counter.is_multiple_of(self.every) {
            let save = || {
                let file = self.disk.open_or_create(&self.name)?;
                file.truncate(0)?;
                file.write_at(0, self.counter.to_string().as_bytes())
            };
            save().doing("save the prototype's counter")?;
        }
        Ok(CounterId { milliseconds: self.clock.now_ms(), machine: self.machines.below(11), counter: self.counter })
    }
}

impl Issuer for Counter {
    /// Its counter: all that makes an id unique within a millisecond.
    fn next_id(&mut self) -> Result<u64> {
        self.next_whole().map(|id| id.counter)
    }
}

/// A caller of its ranges, who reads the counter, adds in the program and writes the sum. What it does in one go is two steps
/// here, so that another caller can come between them.
pub struct RangeCaller {
    connection: Conn,
    service: String,
    size: u64,
}

impl RangeCaller {
    /// Callers of one new table.
    pub fn callers(server: &MariaDb, count: usize, service: &str, size: u64) -> Result<Vec<Self>> {
        let table = "CREATE TABLE counter (id INT AUTO_INCREMENT PRIMARY KEY, service_name VARCHAR(64) NOT NULL UNIQUE, \
                     counter BIGINT NOT NULL)";
        let database = new_database(server, "prototype_ranges", &[table.into()])?;
        let caller = |_| -> Result<Self> {
            let mut connection = server.connect()?;
            connection.query_drop(format!("USE {database}")).doing(TAKING)?;
            Ok(Self { connection, service: service.to_string(), size })
        };
        (0..count).map(caller).collect()
    }

    /// The first step: where is the counter? None before its first use.
    pub fn read(&mut self) -> Result<Option<u64>> {
        let sql = "SELECT counter FROM counter WHERE service_name = ?";
        self.connection.exec_first(sql, (&self.service,)).doing(TAKING)
    }

    /// The second: it is further now. Returns the range that the caller takes for its own.
    pub fn write(&mut self, read: Option<u64>) -> Result<Range<u64>> {
        let start = read.unwrap_or(0);
        let end = start.checked_add(self.size).ok_or_else(|| Error::new(TAKING, "the counter is at its end"))?;
        let sql = match read {
            Some(_) => "UPDATE counter SET counter = ? WHERE service_name = ?",
            None => "INSERT INTO counter (counter, service_name) VALUES (?, ?)",
        };
        self.connection.exec_drop(sql, (end, &self.service)).doing(TAKING)?;
        Ok(start + 1..end + 1)
    }

    /// Both.
    pub fn take(&mut self) -> Result<Range<u64>> {
        let read = self.read()?;
        self.write(read)
    }
}

/// A shard that makes its ids in the database: millisecond, shard, and the next value of a sequence modulo 1,024.
pub struct Shard {
    session: Session,
}

impl Shard {
    /// A new one, in a database of its own.
    pub fn create(server: &MariaDb, shard: u16) -> Result<Self> {
        let function = format!(
            "CREATE FUNCTION next_id() RETURNS BIGINT UNSIGNED NOT DETERMINISTIC READS SQL DATA \
             RETURN (FLOOR(UNIX_TIMESTAMP(NOW(3)) * 1000) - {EPOCH}) << 23 | {shard} << 10 | NEXT VALUE FOR ids % 1024"
        );
        with_sequence(server, &format!("prototype_insta_{shard}"), Some(function)).map(|session| Self { session })
    }

    /// So many ids while the clock stands at this millisecond.
    pub fn ids_at(&mut self, milliseconds: u64, count: u64) -> Result<Vec<u64>> {
        let (seconds, rest) = (milliseconds / 1_000, milliseconds % 1_000);
        let stop = format!("SET SESSION timestamp = {seconds}.{rest:03}");
        let doing = "take ids as the prototype does";
        self.session.insist(doing, |connection| connection.query_drop(&stop))?;
        (0..count).map(|_| self.session.ask(doing, "SELECT next_id()")).collect()
    }

    /// So many ids in one statement, at the clock's own pace.
    pub fn ids_in_one_statement(&mut self, count: u64) -> Result<Vec<u64>> {
        let many = format!("SELECT next_id() FROM seq_1_to_{count}");
        let doing = "take many ids as the prototype does";
        self.session.insist(doing, |connection| connection.query_drop("SET SESSION timestamp = DEFAULT"))?;
        self.session.insist(doing, |connection| connection.query(&many))
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
        self.session.ask("take the next value of a sequence", "SELECT NEXT VALUE FOR ids")
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

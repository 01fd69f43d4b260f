//! The same entries in other layouts, and in Redis.

use std::fmt;
use std::time::Instant;

use mysql::Conn;
use mysql::prelude::Queryable;
use redis::Commands;

use super::databases;
use crate::kv::Store;
use crate::kv::shard::{Row, is_alive};
use crate::kv::statements::{BEGAN, put_into, select_from};
use lab::chart::{Bars, Chart, Lines};
use lab::service::{Counters, MariaDb, Redis};
use lab::{self, Doing, Error, OrFail, Progress, Race, Result, Rng, Samples};

/// Where entries lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// This store: the key is the primary key.
    Ours,
    /// A number is the primary key, and the key has a unique index: the first prototype's table, mended.
    Numbered,
    /// The MD5 of the key is the primary key: 16 bytes for any key, and no order.
    Hashed,
    /// As this store, with the value alone: no version, no expiry, and nobody asks for the time.
    Bare,
    /// Redis, with its memory alone.
    Redis,
    /// Redis that syncs its log before it answers, as the SQL server does.
    DurableRedis,
}

impl Layout {
    /// All of them. The first three do the same work: they keep a version and a time with each value, and look at the clock.
    pub const ALL: [Self; 6] = [Self::Ours, Self::Numbered, Self::Hashed, Self::Bare, Self::Redis, Self::DurableRedis];

    fn is_a_table(self) -> bool {
        !matches!(self, Self::Redis | Self::DurableRedis)
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ours => "key as primary key (ours)",
            Self::Numbered => "number, and a unique index",
            Self::Hashed => "MD5 of the key",
            Self::Bare => "ours, without version and expiry",
            Self::Redis => "Redis, in memory",
            Self::DurableRedis => "Redis, synced",
        })
    }
}

/// One layout with values of one size.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Which layout.
    pub layout: Layout,
    /// Bytes of a value.
    pub size: usize,
    /// Pages that InnoDB looks at for a get; none in Redis.
    pub pages: f64,
    /// Bytes that the SQL server sends for a get: who asks it for less is sooner done.
    pub sent: f64,
    /// Seconds for a get, one sample a round: the median of its gets, for what else goes on at a machine stops a few of them
    /// for long.
    pub gets: Samples,
    /// The same for a put.
    pub puts: Samples,
    /// Entries read back that were not what was put.
    pub wrong: u64,
}

/// All of them.
#[derive(Debug, Clone)]
pub struct Measures(Vec<Measured>);

enum Client {
    Ours {
        store: Store,
        loader: Conn,
    },
    /// What the store says to its server, said to another table.
    Alike {
        connection: Conn,
        get: String,
        put: String,
        load: String,
    },
    Bare(Conn),
    Redis(redis::Connection),
}

impl Client {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        const DOING: &str = "put an entry";
        match self {
            Self::Ours { store, .. } => Ok(store.put(key, value, None).map(drop)?),
            Self::Alike { connection, put, .. } => {
                let never = None::<u64>;
                connection.exec_drop(put.as_str(), (key, value, rand::random::<u64>(), never, never)).doing(DOING)
            }
            Self::Bare(connection) => {
                let put = "INSERT INTO bare (k, v) VALUES (?, ?) ON DUPLICATE KEY UPDATE v = VALUES(v)";
                connection.exec_drop(put, (key, value)).doing(DOING)
            }
            Self::Redis(connection) => connection.set(key, value).doing(DOING),
        }
    }

    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        const DOING: &str = "get an entry";
        match self {
            Self::Ours { store, .. } => Ok(store.get(key)?.map(|entry| entry.value)),
            Self::Alike { connection, get, .. } => {
                let found = connection.exec_first::<Row, _, _>(get.as_str(), (key,)).doing(DOING)?;
                Ok(found.filter(is_alive).map(|(_, value, ..)| value))
            }
            Self::Bare(connection) => connection.exec_first("SELECT v FROM bare WHERE k = ?", (key,)).doing(DOING),
            Self::Redis(connection) => connection.get(key).doing(DOING),
        }
    }

    /// Puts entries where there are none, many in a transaction.
    fn load(&mut self, entries: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<()> {
        const DOING: &str = "load entries";
        let insert = match self {
            Self::Ours { loader, .. } => Some((loader, "INSERT INTO kv (k, v, version) VALUES (?, ?, 0)")),
            Self::Bare(connection) => Some((connection, "INSERT INTO bare (k, v) VALUES (?, ?)")),
            Self::Alike { connection, load, .. } => Some((connection, load.as_str())),
            Self::Redis(_) => None,
        };
        if let Some((connection, insert)) = insert {
            connection.query_drop("START TRANSACTION").doing(DOING)?;
            connection.exec_batch(insert, entries).doing(DOING)?;
            return connection.query_drop("COMMIT").doing(DOING);
        }
        if let Self::Redis(connection) = self {
            let mut pipe = redis::pipe();
            for (key, value) in entries {
                pipe.set(key, value).ignore();
            }
            pipe.query::<()>(connection).doing(DOING)?;
        }
        Ok(())
    }
}

/// A get is over so much sooner that it takes more of them to measure.
const GETS_FOR_A_PUT: u64 = 5;

/// Puts up to so many entries of each size into each layout, as many as have room in `bytes` altogether, and reads and
/// overwrites them in turns.
pub fn layouts(
    server: &MariaDb,
    stores: [&Redis; 2],
    sizes: &[usize],
    (entries, bytes): (u64, usize),
    operations: u64,
    rounds: usize,
    seed: u64,
) -> Measures {
    let run = || -> Result<Measures> {
        if sizes.is_empty() || entries == 0 || operations == 0 || rounds == 0 {
            return Err(Error::new("compare layouts", "it takes sizes, entries, operations and a round"));
        }
        let mut progress = Progress::new("values of each size in each layout", sizes.len() as u64);
        let mut all = Vec::new();
        for &size in sizes {
            let entries = entries.min((bytes / size.max(1)) as u64).max(1);
            all.extend(of_size(server, stores, size, entries, operations, rounds, seed)?);
            progress.step();
        }
        Ok(Measures(all))
    };
    run().or_fail()
}

fn client(server: &MariaDb, stores: [&Redis; 2], layout: Layout) -> Result<Client> {
    let urls = databases(server, 1);
    let connected = || Conn::new(urls[0].as_str()).doing("connect to the server");
    let table = |create: &str| -> Result<Conn> {
        let mut connection = connected()?;
        connection.query_drop(create).doing("make a table")?;
        Ok(connection)
    };
    let alike = |name: &str, columns: &str, key: &str, given: &str| -> Result<Client> {
        let connection = table(&format!(
            "CREATE TABLE {name} ({columns}, v MEDIUMBLOB NOT NULL, version BIGINT UNSIGNED NOT NULL, \
             expires_at BIGINT UNSIGNED NULL, KEY by_expiry (expires_at)) ENGINE = InnoDB"
        ))?;
        let get = select_from(name, key, &format!("{key} = {given}"), BEGAN);
        let load = format!("INSERT INTO {name} ({key}, v, version) VALUES ({given}, ?, 0)");
        Ok(Client::Alike { connection, get, put: put_into(server.dialect(), name, key, given), load })
    };
    let redis = |server: &Redis| -> Result<Client> {
        let doing = "connect to Redis";
        let client = redis::Client::open(server.url()).doing(doing)?;
        Ok(Client::Redis(client.get_connection().doing(doing)?))
    };
    match layout {
        Layout::Ours => Ok(Client::Ours { store: Store::create(&urls)?, loader: connected()? }),
        Layout::Numbered => {
            let columns = "id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, k VARBINARY(255) NOT NULL, \
                           UNIQUE KEY by_key (k)";
            alike("numbered", columns, "k", "?")
        }
        Layout::Hashed => alike("hashed", "h BINARY(16) NOT NULL PRIMARY KEY", "h", "UNHEX(MD5(?))"),
        Layout::Bare => {
            let columns = "k VARBINARY(255) NOT NULL PRIMARY KEY, v MEDIUMBLOB NOT NULL";
            Ok(Client::Bare(table(&format!("CREATE TABLE bare ({columns}) ENGINE = InnoDB"))?))
        }
        Layout::Redis => redis(stores[0]),
        Layout::DurableRedis => redis(stores[1]),
    }
}

fn of_size(
    server: &MariaDb,
    stores: [&Redis; 2],
    size: usize,
    entries: u64,
    operations: u64,
    rounds: usize,
    seed: u64,
) -> Result<Vec<Measured>> {
    let key = |number: u64| format!("session:{size}:{number:012}").into_bytes();
    // Another one for each turn: a put of what is there already changes nothing, and InnoDB would not even commit.
    let value = |number: u64, turn: u64| {
        let mut value = vec![b'.'; size];
        let text = format!("{number}:{turn}");
        value[..text.len().min(size)].copy_from_slice(&text.as_bytes()[..text.len().min(size)]);
        value
    };
    let mut clients = Vec::new();
    for layout in Layout::ALL {
        let mut client = client(server, stores, layout)?;
        client.load((0..entries).map(|number| (key(number), value(number, 0))))?;
        clients.push(client);
    }
    let (mut measured, mut counters) = (Vec::new(), server.connect()?);
    for (layout, client) in Layout::ALL.into_iter().zip(&mut clients) {
        let mut rng = Rng::seeded(seed, "gets that are counted");
        // Whoever connects and prepares when it is first asked has done so.
        client.get(&key(0))?;
        let before = Counters::of_server(server)?.get("Innodb_buffer_pool_read_requests")?;
        let sent_before = Counters::one(&mut counters, "Bytes_sent")?;
        let mut wrong = 0;
        for _ in 0..operations {
            let number = rng.below(entries);
            wrong += u64::from(client.get(&key(number))?.as_deref() != Some(&value(number, 0)[..]));
        }
        let sent = Counters::one(&mut counters, "Bytes_sent")? - sent_before;
        let looked = Counters::of_server(server)?.get("Innodb_buffer_pool_read_requests")? - before;
        let (pages, sent) = (looked / operations as f64, sent / operations as f64);
        let (gets, puts) = (Samples::default(), Samples::default());
        measured.push(Measured { layout, size, pages, sent, gets, puts, wrong });
    }
    let before = Counters::of_server(server)?.get("Binlog_commits")?;
    for writes in [false, true] {
        let mut medians: Vec<Samples> = vec![Samples::default(); clients.len()];
        let mut race = Race::of(rounds);
        for ((layout, client), medians) in Layout::ALL.into_iter().zip(&mut clients).zip(&mut medians) {
            let mut rng = Rng::seeded(seed, "gets and puts");
            let mut turn = 0;
            race = race.arm(&layout.to_string(), move || {
                let (mut good, mut seconds) = (0, Samples::default());
                for _ in 0..operations * if writes { 1 } else { GETS_FOR_A_PUT } {
                    let number = rng.below(entries);
                    turn += 1;
                    let (key, value) = (key(number), value(number, turn));
                    let began = Instant::now();
                    let done = match writes {
                        true => client.put(&key, &value).is_ok(),
                        false => client.get(&key).is_ok_and(|value| value.is_some()),
                    };
                    seconds.push(began.elapsed().as_secs_f64());
                    good += u64::from(done);
                }
                medians.push(seconds.median());
                good
            });
        }
        race.try_run()?;
        for (one, medians) in measured.iter_mut().zip(medians) {
            // The race has a round more, to warm up.
            let medians = medians.values()[1..].iter().copied().collect();
            *(if writes { &mut one.puts } else { &mut one.gets }) = medians;
        }
    }
    let commits = Counters::of_server(server)?.get("Binlog_commits")? - before;
    let tables = Layout::ALL.into_iter().filter(|layout| layout.is_a_table()).count();
    let puts = tables as f64 * operations as f64 * (rounds + 1) as f64;
    if commits != puts {
        let cause = format!("{puts} puts into {tables} tables were {commits} commits");
        return Err(Error::new("compare layouts that do the same work", cause));
    }
    Ok(measured)
}

impl Measures {
    /// One of them.
    pub fn of(&self, layout: Layout, size: usize) -> Measured {
        let found = self.0.iter().find(|one| one.layout == layout && one.size == size).cloned();
        found.ok_or_else(|| Error::new("find a layout", format!("{layout} was not measured at {size} bytes"))).or_fail()
    }

    /// Entries that came back wrong, all together.
    pub fn wrong(&self) -> u64 {
        self.0.iter().map(|one| one.wrong).sum()
    }

    /// How many times as long a layout takes for a get as this store does, with values of one size, round by round.
    pub fn gets(&self, layout: Layout, size: usize) -> Samples {
        ratio(&self.of(layout, size).gets, &self.of(Layout::Ours, size).gets)
    }

    /// The same for a put.
    pub fn puts(&self, layout: Layout, size: usize) -> Samples {
        ratio(&self.of(layout, size).puts, &self.of(Layout::Ours, size).puts)
    }

    /// Time by size: of gets, or of puts; this store is 1.
    pub fn chart(&self, title: &str, puts: bool) -> Lines {
        let what = if puts { "a put" } else { "a get" };
        let chart = Chart::lines(title)
            .subtitle(format!("Time of {what}, as a multiple of this store's; one client"))
            .x("value", "bytes")
            .log_x()
            .y("time, this store is 1", "×")
            .log_y();
        let others = Layout::ALL.into_iter().filter(|&layout| layout != Layout::Ours);
        let line = |chart: Lines, layout: Layout| {
            let sizes = self.0.iter().filter(|one| one.layout == layout).map(|one| one.size);
            let ratio = |size| if puts { self.puts(layout, size) } else { self.gets(layout, size) };
            let points: Vec<(f64, Samples)> = sizes.map(|size| (size as f64, ratio(size))).collect();
            chart.line_with_spread(layout, points.iter().map(|(size, ratio)| (*size, ratio)))
        };
        others.fold(chart, line).mark_y("this store", 1.0)
    }

    /// Pages looked at for a get of a value of this size.
    pub fn pages_chart(&self, title: &str, size: usize) -> Bars {
        let chart = Chart::bars(title)
            .subtitle(format!("InnoDB pages looked at for a get; values of {size} bytes"))
            .y("pages", "")
            .horizontal();
        let tables = self.0.iter().filter(|one| one.size == size && one.layout.is_a_table());
        tables.fold(chart, |chart, one| chart.bar(one.layout, one.pages))
    }

    /// Gets and puts a second, one client.
    pub fn table(&self) -> lab::Table {
        let rate = |samples: &Samples| 1.0 / samples.median();
        lab::Table::new("What one client gets done in a second")
            .text("", self.0.iter().map(|one| one.layout.to_string()))
            .counts("value", "bytes", self.0.iter().map(|one| one.size as u64))
            .numbers("gets", "1/s", self.0.iter().map(|one| rate(&one.gets)))
            .numbers("puts", "1/s", self.0.iter().map(|one| rate(&one.puts)))
    }
}

fn ratio(one: &Samples, other: &Samples) -> Samples {
    one.values().iter().zip(other.values()).map(|(one, other)| one / other).collect()
}

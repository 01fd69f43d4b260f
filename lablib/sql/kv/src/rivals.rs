//! The same entries in other layouts, and in Redis, behind one door.

use std::fmt;

use mysql::Conn;
use mysql::prelude::Queryable;
use redis::Commands;

use super::Store;
use super::shard::{Row, is_alive};
use super::statements::{BEGAN, put_into, select_from};
use lab::service::{MariaDb, Redis};
use lab::{Doing, Result};

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

    pub(super) fn is_a_table(self) -> bool {
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

/// A client of a layout.
pub(super) enum Client {
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
    /// Connects; makes the layout's table where it is not there, in the first of the databases.
    pub(super) fn open(server: &MariaDb, urls: &[String], stores: [&Redis; 2], layout: Layout) -> Result<Self> {
        let connected = || Conn::new(urls[0].as_str()).doing("connect to the server");
        let table = |name: &str, columns: &str| -> Result<Conn> {
            let mut connection = connected()?;
            let create = format!("CREATE TABLE IF NOT EXISTS {name} ({columns}) ENGINE = InnoDB");
            connection.query_drop(create).doing("make a table")?;
            Ok(connection)
        };
        let alike = |name: &str, columns: &str, key: &str, given: &str| -> Result<Client> {
            let columns = format!(
                "{columns}, v MEDIUMBLOB NOT NULL, version BIGINT UNSIGNED NOT NULL, expires_at BIGINT UNSIGNED NULL, \
                 KEY by_expiry (expires_at)"
            );
            let connection = table(name, &columns)?;
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
            Layout::Ours => Ok(Client::Ours { store: Store::open(urls)?, loader: connected()? }),
            Layout::Numbered => {
                let columns = "id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, k VARBINARY(255) NOT NULL, \
                               UNIQUE KEY by_key (k)";
                alike("numbered", columns, "k", "?")
            }
            Layout::Hashed => alike("hashed", "h BINARY(16) NOT NULL PRIMARY KEY", "h", "UNHEX(MD5(?))"),
            Layout::Bare => {
                Ok(Client::Bare(table("bare", "k VARBINARY(255) NOT NULL PRIMARY KEY, v MEDIUMBLOB NOT NULL")?))
            }
            Layout::Redis => redis(stores[0]),
            Layout::DurableRedis => redis(stores[1]),
        }
    }

    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
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

    pub(super) fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
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
    pub(super) fn load(&mut self, entries: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<()> {
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

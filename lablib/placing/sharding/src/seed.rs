//! The prototype: two databases, even ids to the first and odd ids to the second, and a list that asks both.
//!
//! It is here to be shown as it is: with an AUTO_INCREMENT column that makes up a number where it is given 0.

use mysql::Conn;
use mysql::prelude::Queryable;

use super::route::{Parity, Route};
use lab::service::MariaDb;
use lab::{Doing, Error, Result};

/// The prototype over two servers.
pub struct Prototype {
    shards: [Conn; 2],
}

/// A row of the prototype's list, and the shard that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// 0 for even ids, 1 for odd ones: so the prototype has it.
    pub shard: usize,
    /// The id in the database.
    pub id: u64,
    /// The name.
    pub name: String,
}

const DOING: &str = "run the prototype";

impl Prototype {
    /// On the first two of these servers, in databases of its own.
    pub fn on(servers: &[MariaDb]) -> Result<Self> {
        let [first, second, ..] = servers else {
            return Err(Error::new(DOING, format!("it needs two servers, and there are {}", servers.len())));
        };
        let database = format!("prototype_{:x}", rand::random::<u64>());
        let open = |server: &MariaDb| -> Result<Conn> {
            let mut connection = Conn::new(server.url()).doing(DOING)?;
            connection.query_drop(format!("CREATE DATABASE {database}")).doing(DOING)?;
            connection.query_drop(format!("USE {database}")).doing(DOING)?;
            let table = "CREATE TABLE users (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(255))";
            connection.query_drop(table).doing(DOING)?;
            Ok(connection)
        };
        Ok(Self { shards: [open(first)?, open(second)?] })
    }

    /// `POST /users`.
    pub fn create(&mut self, id: u64, name: &str) -> Result<()> {
        let shard = &mut self.shards[Parity.shard_of(id)];
        shard.exec_drop("INSERT INTO users (id, name) VALUES (?, ?)", (id, name)).doing(DOING)
    }

    /// `GET /users`: one shard after the other.
    pub fn list(&mut self) -> Result<Vec<Listed>> {
        let mut all = Vec::new();
        for (shard, connection) in self.shards.iter_mut().enumerate() {
            let rows: Vec<(u64, String)> = connection.query("SELECT id, name FROM users").doing(DOING)?;
            all.extend(rows.into_iter().map(|(id, name)| Listed { shard, id, name }));
        }
        Ok(all)
    }

    /// What it lacks: a user by id, looked for where parity says.
    pub fn get(&mut self, id: u64) -> Result<Option<String>> {
        let shard = &mut self.shards[Parity.shard_of(id)];
        shard.exec_first("SELECT name FROM users WHERE id = ?", (id,)).doing(DOING)
    }
}

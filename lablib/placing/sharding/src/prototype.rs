//! The prototype: two databases, even ids to the first and odd ids to the second, and a list that asks both.
//!
//! It is here to be shown as it is: with an AUTO_INCREMENT column that makes up a number where it is given 0.

use mysql::Conn;
use mysql::prelude::Queryable;

use lab::service::MariaDb;
use lab::{Doing, Error, Frame, Result};

/// The prototype over two servers.
pub struct Prototype {
    shards: [Conn; 2],
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
        let shard = &mut self.shards[(id % 2) as usize];
        shard.exec_drop("INSERT INTO users (id, name) VALUES (?, ?)", (id, name)).doing(DOING)
    }

    /// `GET /users`, one shard after the other: a row for each user, with the `shard`, the `id` in the database, and what it was `created as`.
    pub fn list(&mut self) -> Result<Frame> {
        let one = |(shard, connection): (&str, &mut Conn)| -> Result<Frame> {
            let rows: Vec<(u64, String)> = connection.query("SELECT id, name FROM users").doing(DOING)?;
            let (ids, names): (Vec<u64>, Vec<String>) = rows.into_iter().unzip();
            Ok(Frame::new().text("shard", vec![shard; ids.len()]).counts("id", "", ids).text("created as", names))
        };
        ["even ids", "odd ids"].into_iter().zip(&mut self.shards).map(one).collect()
    }
}

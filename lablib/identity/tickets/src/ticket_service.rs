//! Ticket servers: several SQL servers that know nothing of each other, each with its share of the numbers.

use std::sync::Arc;

use mysql::Conn;
use mysql::prelude::Queryable;

use super::session::{ANSWER, Door, drop_database, new_database};
use super::{Skip, TicketClient};
use lab::service::MariaDb;
use lab::{Error, Result};

/// The three statements that get the next ticket from a table with one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Statement {
    /// `INSERT … ON DUPLICATE KEY UPDATE`: the row stays, its number grows.
    OnDuplicateKey,
    /// `REPLACE`: the row goes, a new one comes with the next number.
    Replace,
    /// `DELETE` and `INSERT`, in a transaction: the same in two statements.
    DeleteInsert,
}

impl Statement {
    /// All three.
    pub const ALL: [Self; 3] = [Self::OnDuplicateKey, Self::Replace, Self::DeleteInsert];

    /// As it is written in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::OnDuplicateKey => "ON DUPLICATE KEY UPDATE",
            Self::Replace => "REPLACE",
            Self::DeleteInsert => "DELETE + INSERT",
        }
    }

    /// How many of its numbers a server leaves out when it is started again. InnoDB makes of REPLACE an update of the row
    /// where it can, and what an update leaves on disk is not the last number but the next one, which counts as used.
    pub fn skipped_by_a_restart(self) -> u64 {
        u64::from(self == Self::Replace)
    }
}

/// A service of tickets on one or more servers: server k of n hands out k, k + n, k + 2n and so on.
#[derive(Clone)]
pub struct TicketService {
    pub(super) doors: Vec<Door>,
    pub(super) statement: Statement,
    pub(super) skip: Option<Skip>,
    databases: Vec<String>,
}

impl TicketService {
    /// A new service on these servers, in a database of its own on each. Its tables know one statement for good: REPLACE may
    /// leave a lower number than the highest in the row, and whoever added to that would issue the highest again.
    pub fn create(servers: &[&MariaDb], statement: Statement) -> Result<Self> {
        let doing = "create a ticket service";
        let count = u16::try_from(servers.len()).ok().filter(|count| *count > 0);
        let count = count.ok_or_else(|| Error::new(doing, format!("it cannot have {} servers", servers.len())))?;
        let mut service = Self { doors: vec![], statement, skip: None, databases: vec![] };
        for (number, server) in (1..=count).zip(servers) {
            let made = new_database(server, "tickets", &tables(number, count)).and_then(|database| {
                let mut door = Door::to(server, &database, ANSWER)?;
                service.databases.push(database);
                door.first.push(share(number, count));
                door.look = Some(Arc::new(move |connection| check_share(connection, number, count)));
                Ok(door)
            });
            match made {
                Ok(door) => service.doors.push(door),
                Err(error) => {
                    servers.iter().zip(&service.databases).for_each(|(server, made)| drop_database(server, made));
                    return Err(error);
                }
            }
        }
        Ok(service)
    }

    /// The same, with one step left out.
    pub fn without(&self, step: Skip) -> Self {
        Self { skip: Some(step), ..self.clone() }
    }

    /// The database on each server.
    pub fn databases(&self) -> &[String] {
        &self.databases
    }

    /// A client. It takes tickets from the servers in turn, and does without those that do not answer.
    pub fn client(&self) -> TicketClient {
        TicketClient::new(self)
    }
}

fn tables(number: u16, servers: u16) -> Vec<String> {
    vec![
        "CREATE TABLE tickets (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, stub CHAR(1) NOT NULL UNIQUE)".into(),
        // Which share this server has, for good: a client with another idea of it is refused.
        "CREATE TABLE share (number SMALLINT UNSIGNED NOT NULL PRIMARY KEY, servers SMALLINT UNSIGNED NOT NULL)".into(),
        format!("INSERT INTO share VALUES ({number}, {servers})"),
        // A row one step before the first ticket, for all three statements. Two callers who find no row lock the same gap, and
        // wait for each other with DELETE or REPLACE; with ON DUPLICATE KEY each is given a number beforehand, and where the
        // larger one is inserted first the smaller one is skipped.
        "SET SESSION sql_mode = CONCAT(@@sql_mode, ',NO_AUTO_VALUE_ON_ZERO')".into(),
        format!("INSERT INTO tickets (id, stub) VALUES ({number} - {servers}, 'a')"),
    ]
}

/// What makes a session's inserts step over the others' numbers. By session, so that it holds on a server of yours, too.
fn share(number: u16, servers: u16) -> String {
    format!("SET SESSION auto_increment_increment = {servers}, auto_increment_offset = {number}")
}

/// Looks whether this server has the share that the client takes it to have.
fn check_share(connection: &mut Conn, number: u16, servers: u16) -> mysql::Result<std::result::Result<(), String>> {
    let found: Option<(u16, u16)> = connection.query_first("SELECT number, servers FROM share")?;
    Ok(match found {
        Some(found) if found == (number, servers) => Ok(()),
        Some((is, of)) => Err(format!("it is number {is} of {of}, and was taken for number {number} of {servers}")),
        None => Err("it does not know its share of the numbers".into()),
    })
}

/// Takes one ticket.
pub(super) fn take(connection: &mut Conn, statement: Statement, skip: Option<Skip>) -> mysql::Result<u64> {
    match statement {
        Statement::OnDuplicateKey => {
            // Without LAST_INSERT_ID(…) the answer would not carry the new number; and it is the session's step, not 1.
            let walks = matches!(skip, Some(Skip::Increment | Skip::IncrementAndShare));
            let step = if walks { "1" } else { "@@auto_increment_increment" };
            connection.query_drop(format!(
                "INSERT INTO tickets (stub) VALUES ('a') ON DUPLICATE KEY UPDATE id = LAST_INSERT_ID(id + {step})"
            ))?;
        }
        Statement::Replace => connection.query_drop("REPLACE INTO tickets (stub) VALUES ('a')")?,
        Statement::DeleteInsert => {
            for sql in ["BEGIN", "DELETE FROM tickets WHERE stub = 'a'", "INSERT INTO tickets (stub) VALUES ('a')"] {
                connection.query_drop(sql)?;
            }
            let id = connection.last_insert_id();
            connection.query_drop("COMMIT")?;
            return Ok(id);
        }
    }
    Ok(connection.last_insert_id())
}

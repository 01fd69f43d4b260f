//! Connections to MySQL and MariaDB, by `mysql_async`.

use std::fmt::{self, Write as _};
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use mysql_async::consts::StatusFlags;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as MySqlError, Opts, OptsBuilder};
use tokio::sync::Mutex;
use tokio::time::sleep;

use super::manager::{Condition, Manager};
use lab::{Doing, Result};

/// Connections to one server, each on a socket of its own.
///
/// What a borrower leaves behind: a transaction, `autocommit` switched off, half an answer, an error whose consequences nobody
/// can know; all of this makes a connection dirty, and a dirty one is reset (`COM_RESET_CONNECTION`) before it is lent again. One
/// whose borrower went away in the middle of a statement is killed at the server, so that its locks are free and the server's
/// own limit is kept. What no answer of the server tells goes only with [`reset_always`](Self::reset_always): session variables,
/// the database that is in use, temporary tables, `LOCK TABLES` and `GET_LOCK`.
#[derive(Debug)]
pub struct MySql {
    opts: Opts,
    reset_always: bool,
    /// One statement is killed at a time: a pool never needs more than one connection beyond its size.
    killing: Mutex<()>,
}

/// A connection as a [`MySql`] dials it: use it as the driver's.
#[derive(Debug)]
pub struct MySqlConn {
    driver: Conn,
    /// Where it comes from as the server sees it: with its number, who it is.
    from: Option<String>,
}

impl Deref for MySqlConn {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.driver
    }
}

impl DerefMut for MySqlConn {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.driver
    }
}

/// Where the connection with a number comes from.
fn from(id: &str) -> String {
    format!("SELECT host FROM information_schema.processlist WHERE id = {id}")
}

impl MySql {
    /// Connections to the server that a URL names: `mysql://user:password@host:port/database`.
    pub fn new(url: &str) -> Result<Self> {
        let opts = opts(url)?;
        Ok(Self { opts, reset_always: false, killing: Mutex::new(()) })
    }

    /// Logs in again on each connection that comes back, for a round trip or two: nothing whatever of a session reaches the next
    /// borrower.
    pub fn reset_always(mut self) -> Self {
        self.reset_always = true;
        self
    }

    /// Ends at the server what a connection was doing when it was left in the middle of it.
    async fn kill(&self, id: u32, host: &str, age: Duration) -> mysql_async::Result<()> {
        let _one_at_a_time = self.killing.lock().await;
        let mut control = Conn::new(self.opts.clone()).await?;
        // A server that has been restarted since counts from one again: the number may be somebody else's, who comes from
        // another port then.
        let up: Option<(String, u64)> = control.query_first("SHOW GLOBAL STATUS LIKE 'Uptime'").await?;
        let restarted = up.is_none_or(|(_, seconds)| seconds + 1 < age.as_secs());
        let there = from(&id.to_string());
        if !restarted && control.query_first::<String, _>(&there).await?.as_deref() == Some(host) {
            // An error says that it has gone by itself.
            let _ = control.query_drop(format!("KILL {id}")).await;
            // Its place is free when the server has let go of it. Whoever called has set a limit to this.
            while control.query_first::<String, _>(&there).await?.is_some() {
                sleep(Duration::from_millis(1)).await;
            }
        }
        control.disconnect().await
    }
}

/// How everything in this room connects: by TCP, on loopback too, where the driver would change over to the server's file socket.
pub(super) fn opts(url: &str) -> Result<Opts> {
    let opts = Opts::from_url(url).doing("read the server's URL")?;
    Ok(OptsBuilder::from_opts(opts).prefer_socket(false).tcp_nodelay(true).into())
}

impl Manager for MySql {
    type Connection = MySqlConn;
    type Error = MySqlError;

    async fn connect(&self) -> Result<MySqlConn, MySqlError> {
        let mut driver = Conn::new(self.opts.clone()).await?;
        let from = driver.query_first(from("CONNECTION_ID()")).await?;
        Ok(MySqlConn { driver, from })
    }

    async fn check(&self, connection: &mut MySqlConn) -> Result<(), MySqlError> {
        connection.ping().await
    }

    async fn clean(&self, connection: &mut MySqlConn) -> Result<(), MySqlError> {
        // A reset detaches a transaction that was prepared, and InnoDB refuses what the next borrower writes: such a connection
        // has to go, and the transaction stays for whoever commits it.
        match connection.query_drop("ROLLBACK").await {
            Err(MySqlError::Server(error)) if error.message.contains("PREPARED") => return Err(error.into()),
            _ => {}
        }
        // A reset leaves the database that a borrower changed to, and servers that are too old have none: log in again, which
        // does the same and more.
        if self.reset_always || !connection.reset().await? {
            connection.change_user(mysql_async::ChangeUserOpts::default()).await?;
        }
        Ok(())
    }

    fn condition(&self, connection: &MySqlConn) -> Condition {
        if connection.is_disconnected() {
            return Condition::Broken;
        }
        let clean = connection.last_ok_packet().is_some_and(|ok| {
            let status = ok.status_flags();
            status.contains(StatusFlags::SERVER_STATUS_AUTOCOMMIT)
                && !status.contains(StatusFlags::SERVER_STATUS_IN_TRANS)
        });
        if clean && !self.reset_always && !is_half_read(connection) { Condition::Clean } else { Condition::Dirty }
    }

    async fn close(&self, connection: MySqlConn, age: Duration) {
        let MySqlConn { driver, from } = connection;
        // Left in the middle of a statement, or without a server: in both cases nothing can be said over this connection.
        if driver.is_disconnected() {
            let id = driver.id();
            drop(driver);
            if let Some(from) = from {
                let _ = self.kill(id, &from, age).await;
            }
        } else {
            let _ = driver.disconnect().await;
        }
    }

    fn is_down(&self, error: &MySqlError) -> bool {
        // "Too many connections" and "access denied" come from a server that is there.
        !matches!(error, MySqlError::Server(_))
    }
}

/// Whether an answer was not read to its end: the flags are then those of the statement before.
///
/// The driver knows, and says so in its `Debug` only, so that is read up to the place in question. If it ever says it in other
/// words, every connection counts as half read and is cleaned: slower, and still right.
fn is_half_read(connection: &Conn) -> bool {
    let mut scan = Scan::default();
    // The error with which the scan ends the writing.
    let _ = write!(scan, "{connection:?}");
    scan.text != "Ok(None)"
}

/// Keeps the value of one field of what is written through it, and stops the writing there.
#[derive(Default)]
struct Scan {
    found: bool,
    text: String,
}

impl fmt::Write for Scan {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.found {
            match text {
                ": " => {}
                ", " => return Err(fmt::Error),
                text => self.text.push_str(text),
            }
            // A value that long is not the one that is hoped for.
            return if self.text.len() > 16 { Err(fmt::Error) } else { Ok(()) };
        }
        self.found = text == "pending_result";
        Ok(())
    }
}

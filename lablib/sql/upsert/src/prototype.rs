//! The prototype: its table of users, its two statements, and the pool that they ran on, with its fault.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use mysql::Conn;
use mysql::prelude::Queryable;

use super::table::PATIENCE;
use super::way::Way;
use lab::service::MariaDb;
use lab::{Doing, Error, Result};

/// The prototype's table.
pub(super) const USERS: &str = "users";
/// Rows that one statement adds while the table is filled.
const STRIDE: u64 = 100_000;

/// Makes the prototype's table anew, with users number 1 up to `rows`: a number is the key, six columns of text have no index, and nothing
/// refers to it.
pub(super) fn create_users(server: &MariaDb, rows: u64) -> Result<()> {
    let mut connection = server.connect_within(PATIENCE)?;
    let mut run = |sql: String| connection.query_drop(sql).doing("make the prototype's table");
    run(format!("DROP TABLE IF EXISTS {USERS}"))?;
    let text =
        ["name", "username", "email", "phone", "website", "address"].map(|column| format!("{column} VARCHAR(255)"));
    run(format!(
        "CREATE TABLE {USERS} (id BIGINT UNSIGNED NOT NULL PRIMARY KEY AUTO_INCREMENT, {}) ENGINE = InnoDB",
        text.join(", ")
    ))?;
    run(format!("INSERT INTO {USERS} VALUES (1, '', '', '', '', '', '')"))?;
    // Each statement copies rows that are there; what is in a column follows from its number.
    let mut filled = 1;
    while filled < rows {
        let more = filled.min(rows - filled).min(STRIDE);
        let id = format!("id + {filled}");
        run(format!(
            "INSERT INTO {USERS} SELECT {id}, CONCAT('Name ', {id}), CONCAT('user', {id}), CONCAT({id}, '@example.org'), \
                 LPAD({id}, 12, '0'), CONCAT('https://example.org/', {id}), CONCAT({id}, ' Long Street, Springfield, 12345') \
                 FROM {USERS} WHERE id <= {more}"
        ))?;
        filled += more;
    }
    Ok(())
}

/// A connection of the prototype's.
pub(super) struct User(Conn);

impl User {
    pub(super) fn connect(server: &MariaDb) -> Result<Self> {
        Ok(Self(server.connect()?))
    }

    /// Reads a whole row by its number, and writes it back with another phone: `REPLACE` writes all columns, and
    /// `ON DUPLICATE KEY UPDATE` is given all and sets the phone.
    pub(super) fn look_up_and_put(&mut self, way: Way, id: u64, phone: &str) -> Result<()> {
        let doing = || format!("put a user by {way}");
        type Columns = (u64, String, String, String, String, String, String);
        let row: Option<Columns> =
            self.0.exec_first(format!("SELECT * FROM {USERS} WHERE id = ?"), (id,)).doing(doing())?;
        let Some((id, name, username, email, _, website, address)) = row else {
            return Err(Error::new(doing(), format!("there is no user {id}")));
        };
        let columns =
            format!("INTO {USERS} (id, name, username, email, phone, website, address) VALUES (?, ?, ?, ?, ?, ?, ?)");
        let row = (id, name, username, email, phone, website, address);
        match way {
            Way::Replace => self.0.exec_drop(format!("REPLACE {columns}"), row).doing(doing()),
            Way::OnDuplicateKey => {
                let (id, name, username, email, phone, website, address) = row;
                let row = (id, name, username, email, phone, website, address, phone);
                self.0.exec_drop(format!("INSERT {columns} ON DUPLICATE KEY UPDATE phone = ?"), row).doing(doing())
            }
            other => Err(Error::new(doing(), format!("the prototype did not compare {other}"))),
        }
    }
}

/// A pool of connections with a permit for each, as the prototype's: whoever gives a connection back first asks whether the
/// channel of permits is closed, and in Go one can only ask by receiving. If a permit lies there, it is gone.
pub(super) struct Pool<T> {
    state: Mutex<State<T>>,
    free: Condvar,
    leaks: bool,
    in_use: AtomicUsize,
    most: AtomicUsize,
}

struct State<T> {
    connections: Vec<T>,
    permits: usize,
    /// Who waits gets the next permit from hand to hand, so that it never lies in the channel.
    waiting: usize,
}

impl<T> Pool<T> {
    pub(super) fn new(connections: Vec<T>, leaks: bool) -> Self {
        let permits = connections.len();
        let state = Mutex::new(State { connections, permits, waiting: 0 });
        Self { state, free: Condvar::new(), leaks, in_use: AtomicUsize::new(0), most: AtomicUsize::new(0) }
    }

    pub(super) fn take(&self) -> Option<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting += 1;
        while state.permits == 0 {
            state = self.free.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
        state.permits -= 1;
        let now = self.in_use.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        state.connections.pop()
    }

    pub(super) fn give(&self, connection: T) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.in_use.fetch_sub(1, Ordering::Relaxed);
        let lying_there = state.permits.saturating_sub(state.waiting);
        if self.leaks && lying_there > 0 {
            state.permits -= 1;
        }
        state.connections.push(connection);
        state.permits += 1;
        self.free.notify_one();
    }

    pub(super) fn permits(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).permits
    }

    /// The most connections that were in use at once since this was last asked.
    pub(super) fn most(&self) -> usize {
        self.most.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_that_leaks_has_one_permit_left_when_all_are_back() {
        for (leaks, left) in [(true, 1), (false, 5)] {
            let pool = Pool::new(vec![(); 5], leaks);
            for _ in 0..5 {
                assert!(pool.take().is_some());
            }
            (0..5).for_each(|_| pool.give(()));
            assert_eq!((pool.permits(), pool.most(), pool.most()), (left, 5, 0));
        }
    }
}

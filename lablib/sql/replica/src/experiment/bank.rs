//! What the servers are used for: transfers between accounts, each with a line in a ledger. Both together show whether
//! a server has a prefix of the primary's transactions, and whole ones.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mysql::Conn;
use mysql::prelude::Queryable;

use super::PATIENCE;
use crate::cluster::Cluster;
use crate::session::commit;
use crate::{Broken, CommitLog, Did, Gtid, Position, Session, SessionStats, Snapshot, check_session};
use lab::{Crowd, Doing, Error, Result, Rng};

/// A ledger line's number within its writer, in the lower half of its id; the writer is in the upper one.
const LOWER: u64 = u32::MAX as u64;

/// Accounts and a ledger on a cluster, and the log of everything that was committed.
#[derive(Debug, Clone)]
pub struct Bank(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    cluster: Cluster,
    accounts: u64,
    writers: AtomicU64,
    log: Mutex<CommitLog>,
    /// Transfers that were acknowledged so far.
    acknowledged: AtomicU64,
    /// Looks at servers, to be judged when all acknowledgements are in: the server, the transfers that had been acknowledged before, which
    /// it shows if it is not behind, and what it showed.
    looks: Mutex<Vec<(usize, u64, Snapshot)>>,
}

/// What came of all the looks so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrefixChecks {
    pub looks: u64,
    /// … that showed fewer transfers than had been acknowledged by then: a prefix that is not simply the whole.
    pub behind: u64,
    /// … that showed something that the primary never was.
    pub broken: u64,
    /// The first of those, in words.
    pub first: Option<String>,
}

/// One who makes transfers in a session and looks at accounts.
#[derive(Debug)]
pub struct Teller {
    session: Session,
    hand: Hand,
    /// What it did and saw, for the check of its session's promise.
    history: Vec<Did>,
}

/// One who makes transfers on a connection of its own.
#[derive(Debug)]
pub(super) struct Writer {
    connection: Conn,
    hand: Hand,
}

/// Who makes transfers: its number, and how far it has counted.
#[derive(Debug)]
struct Hand {
    bank: Bank,
    writer: u64,
    count: u64,
    log: CommitLog,
    rng: Rng,
}

/// A transfer that was acknowledged.
#[derive(Debug, Clone)]
pub struct Transfer {
    /// Its line in the ledger.
    pub id: u64,
    /// The accounts, and the version of each that it made.
    pub accounts: [(u64, u64); 2],
    /// Its position in the order of commits.
    pub position: Position,
    /// When it was acknowledged.
    pub acknowledged: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bank {
    /// Opens so many empty accounts.
    pub fn open(cluster: &Cluster, accounts: u64) -> Result<Self> {
        if accounts < 2 {
            return Err(Error::new("open a bank", "a transfer takes two accounts"));
        }
        let primary = cluster.server(cluster.primary())?;
        let rows: Vec<String> = (0..accounts).map(|id| format!("({id}, 0, 0)")).collect();
        for statement in [
            "DROP TABLE IF EXISTS accounts, ledger".to_owned(),
            "CREATE TABLE accounts (id BIGINT UNSIGNED PRIMARY KEY, balance BIGINT NOT NULL, \
             version BIGINT UNSIGNED NOT NULL)"
                .into(),
            "CREATE TABLE ledger (id BIGINT UNSIGNED PRIMARY KEY, debit BIGINT UNSIGNED NOT NULL, \
             credit BIGINT UNSIGNED NOT NULL, amount BIGINT NOT NULL, note VARBINARY(8192) NOT NULL)"
                .into(),
            format!("INSERT INTO accounts VALUES {}", rows.join(", ")),
        ] {
            primary.try_execute(&statement)?;
        }
        cluster.catch_up(Duration::from_secs(30))?;
        let (writers, log, looks) = (AtomicU64::new(1), Mutex::default(), Mutex::default());
        let acknowledged = AtomicU64::new(0);
        Ok(Self(Arc::new(Inner { cluster: cluster.clone(), accounts, writers, log, acknowledged, looks })))
    }

    /// The cluster that it is on.
    pub fn cluster(&self) -> &Cluster {
        &self.0.cluster
    }

    /// How many accounts it has.
    pub fn accounts(&self) -> u64 {
        self.0.accounts
    }

    /// A teller for a session.
    pub fn teller(&self, session: Session, seed: u64) -> Teller {
        Teller { session, hand: self.hand(seed), history: Vec::new() }
    }

    /// One who makes transfers on a connection of its own to the primary.
    pub(super) fn writer(&self, seed: u64) -> Result<Writer> {
        let (cluster, patience) = (&self.0.cluster, Duration::from_secs(60));
        Ok(Writer { connection: cluster.connect(cluster.primary(), patience)?, hand: self.hand(seed) })
    }

    fn hand(&self, seed: u64) -> Hand {
        let writer = self.0.writers.fetch_add(1, Ordering::Relaxed);
        let rng = Rng::seeded(seed, &format!("writer {writer}"));
        Hand { bank: self.clone(), writer, count: 0, log: CommitLog::new(), rng }
    }

    /// Everything that was committed by those who have finished.
    pub fn log(&self) -> CommitLog {
        lock(&self.0.log).clone()
    }

    /// What a server shows at one moment.
    pub fn snapshot(&self, server: usize) -> Result<Snapshot> {
        let mut connection = self.0.cluster.connect(server, Duration::from_secs(10))?;
        snapshot(&mut connection).doing("look at a server").map_err(|error| error.at(self.0.cluster.name(server)))
    }

    /// Looks at a server now; [`checks`](Self::checks) judges what it showed.
    pub fn look(&self, server: usize) -> Result<()> {
        let mut connection = self.0.cluster.connect(server, Duration::from_secs(10))?;
        self.look_by(&mut connection, server).doing("look at a server")
    }

    fn look_by(&self, connection: &mut Conn, server: usize) -> mysql::Result<()> {
        let acknowledged = self.0.acknowledged.load(Ordering::SeqCst);
        let snapshot = snapshot(connection)?;
        lock(&self.0.looks).push((server, acknowledged, snapshot));
        Ok(())
    }

    /// Looks at all replicas again and again while something else is done. One that does not answer shows nothing.
    pub(super) fn watched<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let cluster = &self.0.cluster;
        let watching = Crowd::holding((0..cluster.size()).map(|server| (server, None))).lasting(Duration::ZERO);
        let (done, _) = watching.within(PATIENCE).during(work, |(server, connection), look| {
            look.rest(Duration::from_millis(50));
            if *server == cluster.primary() {
                return Ok(());
            }
            let reached = || cluster.connect(*server, Duration::from_millis(400)).ok();
            if let Some(mut alive) = connection.take().or_else(reached)
                && self.look_by(&mut alive, *server).is_ok()
            {
                *connection = Some(alive);
            }
            Ok(())
        })?;
        Ok(done)
    }

    /// Judges all looks so far. Everybody who writes must have [settled](Teller::settle) by now.
    pub fn checks(&self) -> PrefixChecks {
        let log = lock(&self.0.log);
        let mut checks = PrefixChecks::default();
        for (server, acknowledged, snapshot) in lock(&self.0.looks).iter() {
            checks.looks += 1;
            match log.prefix(snapshot) {
                Ok(length) => checks.behind += u64::from(length < *acknowledged),
                Err(why) => {
                    checks.broken += 1;
                    checks.first.get_or_insert_with(|| format!("{}: {why}", self.0.cluster.name(*server)));
                }
            }
        }
        checks
    }
}

fn snapshot(connection: &mut Conn) -> mysql::Result<Snapshot> {
    connection.query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT")?;
    let rows: Vec<(u64, u64, u64)> =
        connection.query(format!("SELECT id >> 32, COUNT(*), MAX(id & {LOWER}) FROM ledger GROUP BY id >> 32"))?;
    let writers: BTreeMap<u64, (u64, u64)> =
        rows.into_iter().map(|(writer, count, highest)| (writer, (count, highest))).collect();
    let sums: Option<(i64, u64)> =
        connection.query_first("SELECT CAST(SUM(balance) AS SIGNED), CAST(SUM(version) AS UNSIGNED) FROM accounts")?;
    connection.query_drop("COMMIT")?;
    let (balance, versions) = sums.unwrap_or_default();
    Ok(Snapshot { writers, balance, versions })
}

impl Hand {
    /// The work of the next transfer: which accounts, and the statements, without the commit.
    fn next(&mut self, note: usize, among: u64) -> impl FnOnce(&mut Conn) -> mysql::Result<[(u64, u64); 2]> + use<> {
        let accounts = among.clamp(2, self.bank.0.accounts);
        let debit = self.rng.below(accounts);
        let credit = (debit + 1 + self.rng.below(accounts - 1)) % accounts;
        let amount = 1 + self.rng.below(1_000) as i64;
        let id = self.writer << 32 | (self.count + 1);
        let note = self.rng.word(note);
        move |connection| {
            // One statement for both accounts takes their locks in the order of the key: nobody deadlocks.
            let change =
                "UPDATE accounts SET balance = balance + IF(id = ?, -?, ?), version = version + 1 WHERE id IN (?, ?)";
            connection.exec_drop(change, (debit, amount, amount, debit, credit))?;
            let versions: Vec<(u64, u64)> =
                connection.exec("SELECT id, version FROM accounts WHERE id IN (?, ?)", (debit, credit))?;
            connection.exec_drop("INSERT INTO ledger VALUES (?, ?, ?, ?, ?)", (id, debit, credit, amount, note))?;
            let version =
                |account: u64| versions.iter().find(|(id, _)| *id == account).map_or(0, |(_, version)| *version);
            Ok([(debit, version(debit)), (credit, version(credit))])
        }
    }

    fn note(&mut self, done: Result<([(u64, u64); 2], Position)>) -> Result<Transfer> {
        match done {
            Ok((accounts, position)) => {
                let gtid: Gtid = position.gtid().ok_or_else(|| {
                    Error::new("note a transfer", format!("{position} is not one transaction's"))
                        .remedy("use a MariaDB")
                })?;
                self.count += 1;
                self.log.acknowledge(self.writer, gtid);
                self.bank.0.acknowledged.fetch_add(1, Ordering::SeqCst);
                let id = self.writer << 32 | self.count;
                Ok(Transfer { id, accounts, position, acknowledged: Instant::now() })
            }
            Err(error) => {
                // It may have happened all the same. Whoever goes on does so under another number.
                self.log.unknown(self.writer);
                self.renew();
                Err(error)
            }
        }
    }

    fn renew(&mut self) {
        lock(&self.bank.0.log).merge(std::mem::take(&mut self.log));
        self.writer = self.bank.0.writers.fetch_add(1, Ordering::Relaxed);
        self.count = 0;
    }
}

impl Writer {
    /// Moves money between two random accounts, with a note of so many bytes.
    pub(super) fn transfer(&mut self, note: usize) -> Result<Transfer> {
        let cluster = &self.hand.bank.0.cluster;
        let question = cluster.server(cluster.primary())?.dialect().last_position();
        let work = self.hand.next(note, u64::MAX);
        let done = commit(&mut self.connection, question, work);
        self.hand.note(done)
    }
}

impl Drop for Hand {
    /// What was acknowledged counts, however a writer ends.
    fn drop(&mut self) {
        self.renew();
    }
}

impl Teller {
    /// Moves money between two random accounts.
    pub fn transfer(&mut self) -> Result<Transfer> {
        self.transfer_among(u64::MAX)
    }

    /// As [`transfer`](Self::transfer), between two of the first so many accounts.
    pub fn transfer_among(&mut self, accounts: u64) -> Result<Transfer> {
        let work = self.hand.next(16, accounts);
        let done = self.session.write(work);
        let transfer = self.hand.note(done)?;
        self.history.extend(transfer.accounts.map(|(key, version)| Did::Wrote { key, version }));
        Ok(transfer)
    }

    /// Reads an account's version; returns who answered.
    pub fn read(&mut self, account: u64) -> Result<usize> {
        let answer = self.session.read(|connection| {
            connection.exec_first::<u64, _, _>("SELECT version FROM accounts WHERE id = ?", (account,))
        })?;
        self.history.push(Did::Read { key: account, version: answer.value.unwrap_or(0) });
        Ok(answer.server)
    }

    /// A random account.
    pub fn account(&mut self) -> u64 {
        self.hand.rng.below(self.hand.bank.0.accounts)
    }

    /// A random number from 0 to 1, of this teller's own.
    pub fn chance(&mut self) -> f64 {
        self.hand.rng.unit()
    }

    /// Its session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Ends, and enters everything that was acknowledged into the bank's log; returns how its session's promise was kept, and what the
    /// session went through.
    pub fn settle(self) -> (Broken, SessionStats) {
        (check_session(&self.history), self.session.stats().clone())
    }
}

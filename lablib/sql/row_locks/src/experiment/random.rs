//! Histories that nobody chose: clients append to and read a few lists at random, and the checker says what they saw.

use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, Error as Said};

use crate::Setting;
use crate::stage::ROLLED_BACK;
use lab::chart::{Bars, Chart};
use lab::history::serializable::{AnomalyKind, Isolation, Report};
use lab::history::{TransactionCall, Transactions};
use lab::service::MariaDb;
use lab::{Crowd, Doing, Error, OrFail, Progress, Result, Rng, Table};

const TABLE: &str = "lists";
const LISTS: u64 = 4;

/// What the checker says of many random transactions at a setting.
#[derive(Debug, Clone)]
pub struct Shuffled {
    /// The setting.
    pub setting: Setting,
    /// Transactions that were committed.
    pub committed: u64,
    /// Transactions that the server rolled back: deadlocks, and rows that were not as in the snapshot.
    pub refused: u64,
    report: Report,
}

/// Lets `clients` run `transactions` each, of two to four reads and appends over four lists, at each setting.
pub fn random_histories(server: &MariaDb, clients: usize, transactions: u64, seed: u64) -> Result<Vec<Shuffled>> {
    let settings = Setting::all(server.dialect());
    let mut progress = Progress::new("random transactions", settings.len() as u64);
    let mut run = |setting: Setting| -> Result<Shuffled> {
        let shuffled = shuffle(server, setting, clients, transactions, seed)?;
        progress.step();
        Ok(shuffled)
    };
    settings.into_iter().map(&mut run).collect()
}

fn shuffle(server: &MariaDb, setting: Setting, clients: usize, transactions: u64, seed: u64) -> Result<Shuffled> {
    server.try_execute(&format!("DROP TABLE IF EXISTS {TABLE}"))?;
    server.try_execute(&format!(
        "CREATE TABLE {TABLE} (id INT NOT NULL PRIMARY KEY, items MEDIUMTEXT NOT NULL) ENGINE = InnoDB"
    ))?;
    let rows: Vec<String> = (0..LISTS).map(|list| format!("({list}, '')")).collect();
    server.try_execute(&format!("INSERT INTO {TABLE} VALUES {}", rows.join(", ")))?;
    let (history, reads) = (Transactions::new(), setting.reads.suffix(server.dialect()));
    let ran = Crowd::of(clients)
        .with(|client| Ok((connect(server, setting)?, Rng::seeded(seed, &format!("{setting}, client {client}")))))
        .times(transactions)
        .within(Duration::from_secs(900))
        .run(|(connection, rng), call| {
            let first = ((call.client() as u64 * transactions + call.number()) * 4) as i64;
            let committed = one(connection, history.begin(call.client()), reads, first, rng)?;
            call.tag("end", if committed { "committed" } else { "refused" });
            Ok(())
        })?;
    let refused = ran.frame.filter("end", "refused").height() as u64;
    // Somebody who reads everything in the end, so that the order of all appends is known.
    let mut last = history.begin(clients);
    let mut connection = connect(server, setting)?;
    for list in 0..LISTS {
        last.read_list(
            list,
            read(&mut connection, list, "").map_err(|error| Error::new("read the lists at the end", error))?,
        );
    }
    last.commit();
    server.try_execute(&format!("DROP TABLE {TABLE}"))?;
    let report = history.check()?;
    Ok(Shuffled { setting, committed: clients as u64 * transactions - refused, refused, report })
}

fn connect(server: &MariaDb, setting: Setting) -> Result<Conn> {
    let mut connection = server.connect()?;
    for sql in setting.statements(server.dialect())? {
        connection.query_drop(sql).doing("prepare a client")?;
    }
    Ok(connection)
}

fn read(connection: &mut Conn, list: u64, reads: &str) -> Result<Vec<i64>, Said> {
    let items: Option<String> =
        connection.query_first(format!("SELECT items FROM {TABLE} WHERE id = {list} {reads}"))?;
    Ok(items.unwrap_or_default().split_whitespace().filter_map(|item| item.parse().ok()).collect())
}

/// One transaction; whether it was committed.
fn one(connection: &mut Conn, mut call: TransactionCall, reads: &str, first: i64, rng: &mut Rng) -> Result<bool> {
    let mut work = || -> Result<(), Said> {
        connection.query_drop("START TRANSACTION")?;
        for step in 0..2 + rng.below(3) as i64 {
            let list = rng.below(LISTS);
            if rng.below(2) == 0 {
                call.read_list(list, read(connection, list, reads)?);
            } else {
                call.append(list, first + step);
                connection.query_drop(format!(
                    "UPDATE {TABLE} SET items = CONCAT(items, ' {}') WHERE id = {list}",
                    first + step
                ))?;
            }
        }
        connection.query_drop("COMMIT")
    };
    match work() {
        Ok(()) => {
            call.commit();
            Ok(true)
        }
        Err(Said::MySqlError(error)) if ROLLED_BACK.contains(&error.code) => {
            call.abort();
            Ok(false)
        }
        Err(error) => Err(Error::new("run a random transaction", error)),
    }
}

impl Shuffled {
    /// How many anomalies of a kind were found.
    pub fn count(&self, kind: AnomalyKind) -> u64 {
        self.report.count(kind) as u64
    }

    /// What was found at a setting.
    pub fn at(all: &[Self], setting: Setting) -> Self {
        let found = all.iter().find(|one| one.setting == setting).cloned();
        found.ok_or_else(|| Error::new("find a history", format!("none was made at {setting}"))).or_fail()
    }

    /// All anomalies but those of real time.
    pub fn anomalies(&self) -> u64 {
        KINDS.iter().map(|(kind, _)| self.count(*kind)).sum()
    }

    /// Whether there is a serial order of these transactions.
    pub fn serializable(&self) -> bool {
        self.report.serializable
    }

    /// Whether the history is one that snapshot isolation allows.
    pub fn snapshot_isolated(&self) -> bool {
        self.report.satisfies(Isolation::SnapshotIsolation)
    }
}

/// What is counted, and under which word.
const KINDS: [(AnomalyKind, &str); 13] = [
    (AnomalyKind::DirtyWrite, "dirty write"),
    (AnomalyKind::AbortedRead, "dirty read"),
    (AnomalyKind::IntermediateRead, "dirty read"),
    (AnomalyKind::CircularInformation, "dirty read"),
    (AnomalyKind::PhantomValue, "corruption"),
    (AnomalyKind::DuplicateAppend, "corruption"),
    (AnomalyKind::IncompatibleOrder, "dirty read"),
    (AnomalyKind::Internal, "corruption"),
    (AnomalyKind::NonRepeatableRead, "non-repeatable read"),
    (AnomalyKind::LostUpdate, "lost update"),
    (AnomalyKind::ReadSkew, "read skew"),
    (AnomalyKind::NonAdjacent, "read skew"),
    (AnomalyKind::WriteSkew, "write skew"),
];

/// Anomalies by setting.
pub fn shuffled_chart(shuffled: &[Shuffled], title: &str) -> Bars {
    let transactions = shuffled.first().map_or(0, |one| one.committed + one.refused);
    shuffled.iter().fold(
        Chart::bars(title)
            .subtitle(format!("{transactions} random transactions at each setting, judged by the checker"))
            .y("anomalies found", "")
            .horizontal(),
        |chart, one| chart.bar(one.setting, one.anomalies()),
    )
}

/// What was found at each setting, by kind.
pub fn shuffled_table(shuffled: &[Shuffled]) -> Table {
    let count = |word: &'static str| {
        shuffled
            .iter()
            .map(move |one| KINDS.iter().filter(|(_, of)| *of == word).map(|(kind, _)| one.count(*kind)).sum())
    };
    Table::new("What the checker found in the random histories")
        .text("setting", shuffled.iter().map(|one| one.setting.to_string()))
        .counts("committed", "", shuffled.iter().map(|one| one.committed))
        .counts("rolled back", "", shuffled.iter().map(|one| one.refused))
        .counts("dirty", "", count("dirty read"))
        .counts("fuzzy", "", count("non-repeatable read"))
        .counts("lost", "", count("lost update"))
        .counts("read skew", "", count("read skew"))
        .counts("write skew", "", count("write skew"))
}

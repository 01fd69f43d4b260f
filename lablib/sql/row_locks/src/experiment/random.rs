//! Histories that nobody chose: clients append to and read a few lists at random, and the checker says what they saw.

use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, Error as Said};

use super::make_table;
use crate::Setting;
use crate::stage::ROLLED_BACK;
use lab::history::serializable::{AnomalyKind, Isolation};
use lab::history::{TransactionCall, Transactions};
use lab::service::MariaDb;
use lab::{Crowd, Doing, Error, Frame, Progress, Result, Rng};

const TABLE: &str = "lists";
const LISTS: u64 = 4;

/// Lets `clients` run `transactions` each, of two to four reads and appends over four lists, at each setting. A row a `setting`:
/// transactions that were `committed`, and those that the server `rolled back`, for deadlocks and rows that were not as in the
/// snapshot; `anomalies` that the checker found, but those of real time, and of which kind; whether there is a `serial order` of what
/// was committed (1 or 0), and whether snapshot isolation allows it (`snapshots`).
pub fn random_histories(server: &MariaDb, clients: usize, transactions: u64, seed: u64) -> Result<Frame> {
    let settings = Setting::all(server.dialect());
    let mut progress = Progress::new("random transactions", settings.len() as u64);
    let one = |setting| shuffle(server, setting, clients, transactions, seed).inspect(|_| progress.step());
    settings.into_iter().map(one).collect()
}

fn shuffle(server: &MariaDb, setting: Setting, clients: usize, transactions: u64, seed: u64) -> Result<Frame> {
    let lists = (0..LISTS).map(|list| format!("({list}, '')"));
    make_table(server, TABLE, "id INT NOT NULL PRIMARY KEY, items MEDIUMTEXT NOT NULL", lists)?;
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
    let found = KINDS.map(|(word, kinds)| (word, kinds.iter().map(|kind| report.count(*kind) as u64).sum::<u64>()));
    let frame = Frame::new()
        .text("setting", [setting])
        .counts("committed", "", [clients as u64 * transactions - refused])
        .counts("rolled back", "", [refused])
        .counts("anomalies", "", [found.iter().map(|(_, count)| count).sum()])
        .counts("serial order", "", [u64::from(report.serializable)])
        .counts("snapshots", "", [u64::from(report.satisfies(Isolation::SnapshotIsolation))]);
    Ok(found.into_iter().fold(frame, |frame, (word, count)| frame.counts(word, "", [count])))
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

/// Words for anomalies, and which kinds are counted under each.
const KINDS: [(&str, &[AnomalyKind]); 7] = {
    use AnomalyKind::*;
    [
        ("dirty write", &[DirtyWrite]),
        ("dirty", &[AbortedRead, IntermediateRead, CircularInformation, IncompatibleOrder]),
        ("fuzzy", &[NonRepeatableRead]),
        ("lost", &[LostUpdate]),
        ("read skew", &[ReadSkew, NonAdjacent]),
        ("write skew", &[WriteSkew]),
        ("corrupt", &[PhantomValue, DuplicateAppend, Internal]),
    ]
};

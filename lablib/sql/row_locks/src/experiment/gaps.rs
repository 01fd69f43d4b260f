//! What lies between the rows: which statement locks which gap, and what the server's lock tables say of it.

use mysql::prelude::Queryable;
use mysql::{Conn, Error as Said};

use super::make_table;
use crate::{Level, Play, Schedule, Setting, Stage};
use lab::service::MariaDb;
use lab::{Doing, Error, Frame, Result};

const TABLE: &str = "gaps";
/// Rows that are there; every other key is a gap.
const ROWS: [u32; 4] = [10, 20, 30, 40];
const KEYS: [u32; 9] = [5, 10, 15, 20, 25, 30, 35, 40, 45];

/// Statements that lock, by what stands behind `WHERE`. `k` is the primary key, `s` has a plain index, `n` has none.
const CONDITIONS: [&str; 6] = ["k = 20", "k = 25", "k BETWEEN 20 AND 30", "k > 30", "s = 20", "n = 20"];

fn create(server: &MariaDb) -> Result<()> {
    let columns = "k INT NOT NULL PRIMARY KEY, s INT NOT NULL, n INT NOT NULL, KEY (s)";
    make_table(server, TABLE, columns, ROWS.map(|key| format!("({key}, {key}, {key})")))
}

/// Lets one session hold each statement's locks while another one tries every key, without waiting. A row for each `condition` and `key`,
/// which is in brackets where there is a row that somebody wants to change, and else to be inserted: whether the other one `waits` (1), and
/// whether theory says so (`predicted`).
pub fn gaps(server: &MariaDb, level: Level) -> Result<Frame> {
    create(server)?;
    let doing = "try the gaps";
    let (mut holder, mut prober) = (server.connect()?, server.connect()?);
    holder.query_drop(format!("SET SESSION TRANSACTION ISOLATION LEVEL {level}")).doing(doing)?;
    // MariaDB takes 0 for "do not wait"; MySQL's least is a second.
    let least = u8::from(!server.dialect().is_mariadb());
    prober.query_drop(format!("SET SESSION innodb_lock_wait_timeout = {least}")).doing(doing)?;
    let mut gaps = Frame::new();
    for (condition, predicted) in CONDITIONS.into_iter().zip(predicted(level, server.dialect().is_mariadb())) {
        holder.query_drop("START TRANSACTION").doing(doing)?;
        holder.query_drop(format!("SELECT * FROM {TABLE} WHERE {condition} FOR UPDATE")).doing(doing)?;
        let waits = KEYS.iter().map(|&key| locked_out(&mut prober, key)).collect::<Result<Vec<u64>>>()?;
        holder.query_drop("ROLLBACK").doing(doing)?;
        let row = Frame::new()
            .text("key", KEYS.map(|key| if ROWS.contains(&key) { format!("[{key}]") } else { key.to_string() }))
            .counts("waits", "", waits)
            .counts("predicted", "", KEYS.map(|key| u64::from(predicted.contains(&key))));
        gaps = gaps.stack(&row.everywhere("condition", "", condition));
    }
    server.try_execute(&format!("DROP TABLE {TABLE}"))?;
    Ok(gaps)
}

/// 1 if the key's row cannot be changed, or cannot be inserted, at this moment.
fn locked_out(prober: &mut Conn, key: u32) -> Result<u64> {
    let doing = "try a key";
    prober.query_drop("START TRANSACTION").doing(doing)?;
    let sql = match ROWS.contains(&key) {
        true => format!("UPDATE {TABLE} SET n = n + 1 WHERE k = {key}"),
        false => format!("INSERT INTO {TABLE} VALUES ({key}, {key}, {key})"),
    };
    let locked = match prober.query_drop(&sql) {
        Ok(()) => 0,
        Err(Said::MySqlError(error)) if error.code == 1205 => 1,
        Err(error) => return Err(Error::new(doing, error).at(sql)),
    };
    prober.query_drop("ROLLBACK").doing(doing)?;
    Ok(locked)
}

/// The keys that each statement locks, as theory has it. At `READ COMMITTED` only rows are locked, and only those that
/// match; at `REPEATABLE READ` whatever could match must not appear either. MariaDB's range scan ends at the first row
/// behind the range, and locks that one with its gap, too; MySQL does not since 8.0.18.
fn predicted(level: Level, mariadb: bool) -> [&'static [u32]; 6] {
    let range: &[u32] = if mariadb { &[20, 25, 30, 35, 40] } else { &[20, 25, 30] };
    if level >= Level::RepeatableRead {
        [&[20], &[25], range, &[35, 40, 45], &[15, 20, 25], &KEYS]
    } else {
        [&[20], &[], &[20, 30], &[40], &[20], &[20]]
    }
}

/// Somebody waits for a row, somebody for a gap, and somebody to insert into it. A row for each wait, as the server's lock tables say:
/// which session `waits`, `for the lock` of which mode, `on index`, `at key`, `held by` which session, `as` which mode.
pub fn gap_waits(server: &MariaDb) -> Result<Frame> {
    create(server)?;
    let schedule = Schedule::new("locks", "three ways to wait")
        .run(1, &format!("SELECT * FROM {TABLE} WHERE k BETWEEN 20 AND 30 FOR UPDATE"))
        .run(2, &format!("INSERT INTO {TABLE} VALUES (25, 25, 25)"))
        .run(3, &format!("UPDATE {TABLE} SET n = 0 WHERE k = 20"))
        .run(4, &format!("SELECT * FROM {TABLE} WHERE k >= 30 LOCK IN SHARE MODE"))
        .rollback(1)
        .rollback(2)
        .rollback(3)
        .rollback(4);
    let mut stage = Stage::open(server, 4)?.looking_into_the_tables();
    let waits = stage.play(&schedule, Setting::of(Level::RepeatableRead))?.waits;
    server.try_execute(&format!("DROP TABLE {TABLE}"))?;
    let session = |number: usize| if number == 0 { "somebody else".into() } else { format!("T{number}") };
    Ok(Frame::new()
        .text("waits", waits.iter().map(|wait| session(wait.session)))
        .text("for the lock", waits.iter().map(|wait| &wait.mode))
        .text("on index", waits.iter().map(|wait| &wait.index))
        .text("at key", waits.iter().map(|wait| &wait.key))
        .text("held by", waits.iter().map(|wait| session(wait.holder)))
        .text("as", waits.iter().map(|wait| &wait.held)))
}

/// Two sessions look for a row that is not there, both with `FOR UPDATE`, and then both insert it: gap locks get along with
/// each other, and with no insert of somebody else's.
pub fn gap_deadlock(server: &MariaDb, level: Level) -> Result<Play> {
    create(server)?;
    let look = format!("SELECT * FROM {TABLE} WHERE k = 25 FOR UPDATE");
    let schedule = Schedule::new("gap", "look, then insert")
        .run(1, &look)
        .run(2, &look)
        .run(1, &format!("INSERT INTO {TABLE} VALUES (25, 1, 1)"))
        .run(2, &format!("INSERT INTO {TABLE} VALUES (25, 2, 2)"))
        .commit(1)
        .commit(2);
    let play = Stage::open(server, 2)?.play(&schedule, Setting::of(level))?;
    server.try_execute(&format!("DROP TABLE {TABLE}"))?;
    Ok(play)
}

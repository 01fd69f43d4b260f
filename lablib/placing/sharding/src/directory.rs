//! The directory: which instance owns a slot, and which moves are under way. Durable, on one instance; clients cache it.

use mysql::prelude::Queryable;
use mysql::{Conn, TxOpts};

use super::fence::list;
use super::route::{Owner, Slot, SlotMap};
use lab::{Doing, Error, Result};

const TABLES: [&str; 3] = [
    // One row, locked by whoever changes the map: versions are committed in their order, so that a client that has seen
    // one has missed none below it.
    "CREATE TABLE directory (one TINYINT PRIMARY KEY, version BIGINT UNSIGNED NOT NULL, token BIGINT UNSIGNED NOT NULL)",
    "CREATE TABLE directory_slots (slot SMALLINT UNSIGNED PRIMARY KEY, owner VARCHAR(64) NOT NULL, \
     epoch BIGINT UNSIGNED NOT NULL, version BIGINT UNSIGNED NOT NULL, move BIGINT UNSIGNED NULL, \
     KEY by_version (version), KEY by_move (move))",
    "CREATE TABLE directory_moves (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, source VARCHAR(64) NOT NULL, \
     target VARCHAR(64) NOT NULL, step TINYINT UNSIGNED NOT NULL, token BIGINT UNSIGNED NOT NULL, KEY by_step (step))",
];

/// How far a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Step {
    Copying = 0,
    CatchingUp = 1,
    HandingOver = 2,
    Cleaning = 3,
    /// It was given up before the hand-over, and the copy is being removed.
    Abandoning = 4,
    Done = 5,
}

impl From<u8> for Step {
    fn from(number: u8) -> Self {
        let all = [Self::Copying, Self::CatchingUp, Self::HandingOver, Self::Cleaning, Self::Abandoning];
        all.get(usize::from(number)).copied().unwrap_or(Self::Done)
    }
}

/// A move as the directory knows it.
#[derive(Debug, Clone)]
pub(crate) struct Move {
    pub(crate) id: u64,
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) step: Step,
    /// Whoever takes a move up takes a new token, and with it the right to go on from whoever had it before.
    pub(crate) token: u64,
    pub(crate) slots: Vec<Slot>,
}

pub(crate) fn lay_out(connection: &mut Conn, map: &SlotMap) -> Result<()> {
    let doing = "lay out the directory";
    TABLES.iter().try_for_each(|table| connection.query_drop(table)).doing(doing)?;
    connection.exec_drop("INSERT INTO directory VALUES (1, ?, 0)", (map.version,)).doing(doing)?;
    let row = |(slot, owner): (usize, &Owner)| format!("({slot},'{}',{},{})", owner.name, owner.epoch, map.version);
    let rows: Vec<String> = map.owners.iter().enumerate().map(row).collect();
    let insert = "INSERT INTO directory_slots (slot, owner, epoch, version) VALUES ";
    connection.query_drop(insert.to_string() + &rows.join(",")).doing(doing)
}

/// The whole map.
pub(crate) fn map(connection: &mut Conn) -> Result<SlotMap> {
    let mut map = SlotMap { owners: Vec::new(), version: 0 };
    refresh(connection, &mut map)?;
    Ok(map)
}

/// Brings a map up to date: reads only what has changed since its version.
pub(crate) fn refresh(connection: &mut Conn, map: &mut SlotMap) -> Result<()> {
    let sql = "SELECT slot, owner, epoch, version FROM directory_slots WHERE version > ? ORDER BY slot";
    let changed: Vec<(Slot, String, u64, u64)> = connection.exec(sql, (map.version,)).doing("read the directory")?;
    for (slot, name, epoch, version) in changed {
        let owner = Owner { name, epoch };
        match usize::from(slot) < map.owners.len() {
            // What an instance itself has told may be newer than the directory.
            true => drop(map.learn(slot, owner)),
            false => map.owners.push(owner),
        }
        map.version = map.version.max(version);
    }
    Ok(())
}

/// Plans a move: from now on these slots are spoken for.
pub(crate) fn begin(connection: &mut Conn, source: &str, target: &str, slots: &[Slot]) -> Result<Move> {
    let doing = "plan a move";
    let mut transaction = connection.start_transaction(TxOpts::default()).doing(doing)?;
    let token = next_token(&mut transaction)?;
    let insert = "INSERT INTO directory_moves (source, target, step, token) VALUES (?, ?, ?, ?)";
    transaction.exec_drop(insert, (source, target, Step::Copying as u8, token)).doing(doing)?;
    let id = transaction.last_insert_id().unwrap_or(0);
    let claim =
        format!("UPDATE directory_slots SET move = ? WHERE slot IN ({}) AND move IS NULL AND owner = ?", list(slots));
    transaction.exec_drop(claim, (id, source)).doing(doing)?;
    if transaction.affected_rows() != slots.len() as u64 {
        let cause = format!("not all of the {} slots belong to {source} and stay where they are", slots.len());
        return Err(Error::new(doing, cause).remedy("resume the move that is under way first"));
    }
    transaction.commit().doing(doing)?;
    let (source, target) = (source.to_string(), target.to_string());
    Ok(Move { id, source, target, step: Step::Copying, token, slots: slots.to_vec() })
}

/// The moves that somebody began and nobody finished, oldest first.
pub(crate) fn unfinished(connection: &mut Conn) -> Result<Vec<u64>> {
    let sql = "SELECT id FROM directory_moves WHERE step < ? ORDER BY id";
    connection.exec(sql, (Step::Done as u8,)).doing("look for unfinished moves")
}

/// Takes a move up where it was left, with a new token; none where it is done.
pub(crate) fn take_up(connection: &mut Conn, id: u64) -> Result<Option<Move>> {
    let doing = "take up a move";
    let mut transaction = connection.start_transaction(TxOpts::default()).doing(doing)?;
    let token = next_token(&mut transaction)?;
    let sql = "SELECT source, target, step FROM directory_moves WHERE id = ? FOR UPDATE";
    let row: Option<(String, String, u8)> = transaction.exec_first(sql, (id,)).doing(doing)?;
    let Some((source, target, step)) = row.filter(|(_, _, step)| Step::from(*step) != Step::Done) else {
        return Ok(None);
    };
    transaction.exec_drop("UPDATE directory_moves SET token = ? WHERE id = ?", (token, id)).doing(doing)?;
    let sql = "SELECT slot FROM directory_slots WHERE move = ? ORDER BY slot";
    let slots: Vec<Slot> = transaction.exec(sql, (id,)).doing(doing)?;
    transaction.commit().doing(doing)?;
    Ok(Some(Move { id, source, target, step: step.into(), token, slots }))
}

fn next_token(connection: &mut impl Queryable) -> Result<u64> {
    let doing = "take a token";
    connection.query_drop("UPDATE directory SET token = token + 1").doing(doing)?;
    let token: Option<u64> = connection.query_first("SELECT token FROM directory").doing(doing)?;
    token.ok_or_else(|| Error::new(doing, "the directory is empty"))
}

/// Notes that a move has come to its next step; refused to whoever does not hold the move any more.
pub(crate) fn advance(connection: &mut Conn, job: &mut Move, step: Step) -> Result<()> {
    let doing = "note a move's step";
    let mut transaction = connection.start_transaction(TxOpts::default()).doing(doing)?;
    hold(&mut transaction, job)?;
    transaction.exec_drop("UPDATE directory_moves SET step = ? WHERE id = ?", (step as u8, job.id)).doing(doing)?;
    if step == Step::Done {
        transaction.exec_drop("UPDATE directory_slots SET move = NULL WHERE move = ?", (job.id,)).doing(doing)?;
    }
    transaction.commit().doing(doing)?;
    job.step = step;
    Ok(())
}

/// The target owns the slots: in one transaction for all of them, and for the move's next step.
pub(crate) fn flip(connection: &mut Conn, job: &mut Move) -> Result<()> {
    let doing = "change the map";
    let mut transaction = connection.start_transaction(TxOpts::default()).doing(doing)?;
    transaction.query_drop("UPDATE directory SET version = version + 1").doing(doing)?;
    hold(&mut transaction, job)?;
    let change = "UPDATE directory_slots SET owner = ?, epoch = epoch + 1, version = (SELECT version FROM directory) \
                  WHERE move = ?";
    transaction.exec_drop(change, (&job.target, job.id)).doing(doing)?;
    let step = "UPDATE directory_moves SET step = ? WHERE id = ?";
    transaction.exec_drop(step, (Step::Cleaning as u8, job.id)).doing(doing)?;
    transaction.commit().doing(doing)?;
    job.step = Step::Cleaning;
    Ok(())
}

/// The move is still this mover's.
fn hold(connection: &mut impl Queryable, job: &Move) -> Result<()> {
    let sql = "SELECT token FROM directory_moves WHERE id = ? FOR UPDATE";
    let token: Option<u64> = connection.exec_first(sql, (job.id,)).doing("look at a move")?;
    match token {
        Some(token) if token == job.token => Ok(()),
        _ => Err(superseded(job)),
    }
}

/// Another mover has taken the move up.
pub(crate) fn superseded(job: &Move) -> Error {
    Error::new(format!("go on with move {}", job.id), "another mover has taken it up").remedy("let that one finish")
}
